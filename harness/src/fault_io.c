/*
 * fault_io.c - the places "io.": each system call of SQLite's unix VFS, by xSetSystemCall().
 *
 * A call that fails does nothing, but for close and munmap, which have given up what they were
 * given even when they fail. A transfer cut short transfers half. F_GETLK and the like go on: what
 * is refused is to take or leave a lock.
 */
/* SPDX-License-Identifier: MIT */
#include "fault_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>

/* name in SQLite's table, as it is declared there. */
#define CALLS(X)                                                                                   \
	X(open, int, (const char *path, int flags, int mode), (path, flags, mode))                 \
	X(close, int, (int fd), (fd))                                                              \
	X(access, int, (const char *path, int mode), (path, mode))                                 \
	X(getcwd, char *, (char *buffer, size_t size), (buffer, size))                             \
	X(stat, int, (const char *path, struct stat *status), (path, status))                      \
	X(fstat, int, (int fd, struct stat *status), (fd, status))                                 \
	X(ftruncate, int, (int fd, off_t size), (fd, size))                                        \
	X(read, ssize_t, (int fd, void *buffer, size_t size), (fd, buffer, size))                  \
	X(pread, ssize_t, (int fd, void *buffer, size_t size, off_t at), (fd, buffer, size, at))   \
	X(pread64, ssize_t, (int fd, void *buffer, size_t size, off_t at), (fd, buffer, size, at)) \
	X(write, ssize_t, (int fd, const void *buffer, size_t size), (fd, buffer, size))           \
	X(pwrite, ssize_t, (int fd, const void *buffer, size_t size, off_t at),                    \
	  (fd, buffer, size, at))                                                                  \
	X(pwrite64, ssize_t, (int fd, const void *buffer, size_t size, off_t at),                  \
	  (fd, buffer, size, at))                                                                  \
	X(fchmod, int, (int fd, mode_t mode), (fd, mode))                                          \
	X(fallocate, int, (int fd, off_t at, off_t size), (fd, at, size))                          \
	X(unlink, int, (const char *path), (path))                                                 \
	X(openDirectory, int, (const char *path, int *ret_fd), (path, ret_fd))                     \
	X(mmap, void *, (void *at, size_t size, int prot, int flags, int fd, off_t from),          \
	  (at, size, prot, flags, fd, from))                                                       \
	X(munmap, int, (void *at, size_t size), (at, size))                                        \
	X(mremap, void *, (void *at, size_t size, size_t wanted, int flags),                       \
	  (at, size, wanted, flags))                                                               \
	X(readlink, ssize_t, (const char *path, char *buffer, size_t size), (path, buffer, size))  \
	X(lstat, int, (const char *path, struct stat *status), (path, status))                     \
	X(fcntl, int, (int fd, int command, void *arg), (fd, command, arg))

enum call {
#define X(name, type, parameters, arguments) CALL_##name,
	CALLS(X)
#undef X
		CALL_COUNT
};

#define X(name, type, parameters, arguments) typedef type name##_fn parameters;
CALLS(X)
#undef X

static sqlite3_syscall_ptr reals[CALL_COUNT];
static unsigned places[CALL_COUNT];

#define REAL(name) ((name##_fn *)(void (*)(void))reals[CALL_##name])

/* What the place says: with a number, errno is it. */
static int visit(enum call call)
{
	int number = harness_fault_visit(places[call]);

	if (number > 0)
		errno = number;
	return number;
}

/* Those that do nothing when they fail, and have no half. */
#define FAILS(name, type, parameters, arguments, failed)                         \
	static type fault_##name parameters                                      \
	{                                                                        \
		return visit(CALL_##name) > 0 ? (failed) : REAL(name) arguments; \
	}
FAILS(open, int, (const char *path, int flags, int mode), (path, flags, mode), -1)
FAILS(access, int, (const char *path, int mode), (path, mode), -1)
FAILS(getcwd, char *, (char *buffer, size_t size), (buffer, size), NULL)
FAILS(stat, int, (const char *path, struct stat *status), (path, status), -1)
FAILS(fstat, int, (int fd, struct stat *status), (fd, status), -1)
FAILS(ftruncate, int, (int fd, off_t size), (fd, size), -1)
FAILS(fchmod, int, (int fd, mode_t mode), (fd, mode), -1)
FAILS(fallocate, int, (int fd, off_t at, off_t size), (fd, at, size), errno)
FAILS(unlink, int, (const char *path), (path), -1)
FAILS(openDirectory, int, (const char *path, int *ret_fd), (path, ret_fd), SQLITE_CANTOPEN)
FAILS(mmap, void *, (void *at, size_t size, int prot, int flags, int fd, off_t from),
      (at, size, prot, flags, fd, from), MAP_FAILED)
FAILS(mremap, void *, (void *at, size_t size, size_t wanted, int flags), (at, size, wanted, flags),
      MAP_FAILED)
FAILS(readlink, ssize_t, (const char *path, char *buffer, size_t size), (path, buffer, size), -1)
FAILS(lstat, int, (const char *path, struct stat *status), (path, status), -1)

#define TRANSFERS(name, buffer_type, parameters, whole, half) \
	static ssize_t fault_##name parameters                \
	{                                                     \
		int number = visit(CALL_##name);              \
                                                              \
		if (number == HARNESS_FAULT_PART && size > 1) \
			return REAL(name) half;               \
		return number > 0 ? -1 : REAL(name) whole;    \
	}
TRANSFERS(read, void *, (int fd, void *buffer, size_t size), (fd, buffer, size),
          (fd, buffer, size / 2))
TRANSFERS(pread, void *, (int fd, void *buffer, size_t size, off_t at), (fd, buffer, size, at),
          (fd, buffer, size / 2, at))
TRANSFERS(pread64, void *, (int fd, void *buffer, size_t size, off_t at), (fd, buffer, size, at),
          (fd, buffer, size / 2, at))
TRANSFERS(write, const void *, (int fd, const void *buffer, size_t size), (fd, buffer, size),
          (fd, buffer, size / 2))
TRANSFERS(pwrite, const void *, (int fd, const void *buffer, size_t size, off_t at),
          (fd, buffer, size, at), (fd, buffer, size / 2, at))
TRANSFERS(pwrite64, const void *, (int fd, const void *buffer, size_t size, off_t at),
          (fd, buffer, size, at), (fd, buffer, size / 2, at))

static int fault_close(int fd)
{
	int number = visit(CALL_close), rc = REAL(close)(fd);

	if (number <= 0)
		return rc;
	errno = number;
	return -1;
}

static int fault_munmap(void *at, size_t size)
{
	int number = visit(CALL_munmap), rc = REAL(munmap)(at, size);

	if (number <= 0)
		return rc;
	errno = number;
	return -1;
}

typedef int variadic_fcntl_fn(int fd, int command, ...);

/* fcntl() is variadic, and every third argument is a pointer or as wide as one. */
static int fault_fcntl(int fd, int command, ...)
{
	va_list args;
	void *arg;

	va_start(args, command);
	arg = va_arg(args, void *);
	va_end(args);
	if ((command == F_SETLK || command == F_SETLKW) && visit(CALL_fcntl) > 0)
		return -1;
	return ((variadic_fcntl_fn *)(void (*)(void))reals[CALL_fcntl])(fd, command, arg);
}

static const struct {
	const char *name, *place;
	void (*call)(void);
} calls[CALL_COUNT] = {
#define X(name, type, parameters, arguments) \
	[CALL_##name] = { #name, "io." #name, (void (*)(void))fault_##name },
	CALLS(X)
#undef X
};

bool harness_fault_io(void)
{
	static bool done;
	sqlite3_vfs *vfs = sqlite3_vfs_find("unix");

	if (done)
		return true;
	if (vfs == NULL || vfs->iVersion < 3 || !vfs_hook())
		return false;
	for (unsigned i = 0; i < CALL_COUNT; i++) {
		reals[i] = vfs->xGetSystemCall(vfs, calls[i].name);
		if (reals[i] == NULL) /* Not in this SQLite. */
			continue;
		places[i] = harness_fault_place(calls[i].place);
		if (vfs->xSetSystemCall(vfs, calls[i].name, (sqlite3_syscall_ptr)calls[i].call) !=
		    SQLITE_OK)
			return false;
	}
	done = true;
	return true;
}

void harness_fault_sync_skip(bool skip)
{
	vfs_sync_skip(skip);
}
