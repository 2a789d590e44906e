/*
 * vfs.c - thin VFS shims over the default VFS and over memdb.
 *
 * To know before reading: connections to one file share structures inside the VFS (inode and
 * WAL-index records, parked descriptors, memdb's store), allocated by whichever connection came
 * first and freed by whichever goes last. What is allocated inside xOpen, xClose, xShmMap,
 * xShmUnmap, xWrite and xTruncate is therefore booked to the pool's account, and a connection's
 * own residue is exactly zero. Everything else is passed on as it is.
 */
/* SPDX-License-Identifier: MIT */
#include "memory.h"
#include "vfs.h"

#include <pthread.h>

struct file {
	sqlite3_file base;
	struct account *account; /* The pool's; NULL for connections that belong to no pool. */
	sqlite3_file real[];     /* Behind it in the same allocation. */
};

struct shim {
	sqlite3_vfs vfs;
	sqlite3_vfs *real;
};

static struct shim file_shim, memdb_shim;

static sqlite3_file *real_of(sqlite3_file *file)
{
	return ((struct file *)file)->real;
}

static struct account *account_of(sqlite3_file *file)
{
	return ((struct file *)file)->account;
}

static int file_close(sqlite3_file *file)
{
	struct account *before = account_enter(account_of(file));
	int rc = real_of(file)->pMethods->xClose(real_of(file));

	account_enter(before);
	return rc;
}

static int file_read(sqlite3_file *file, void *buffer, int size, sqlite3_int64 offset)
{
	return real_of(file)->pMethods->xRead(real_of(file), buffer, size, offset);
}

static int file_write(sqlite3_file *file, const void *buffer, int size, sqlite3_int64 offset)
{
	struct account *before = account_enter(account_of(file));
	int rc = real_of(file)->pMethods->xWrite(real_of(file), buffer, size, offset);

	account_enter(before);
	return rc;
}

static int file_truncate(sqlite3_file *file, sqlite3_int64 size)
{
	struct account *before = account_enter(account_of(file));
	int rc = real_of(file)->pMethods->xTruncate(real_of(file), size);

	account_enter(before);
	return rc;
}

static int file_sync(sqlite3_file *file, int flags)
{
	return real_of(file)->pMethods->xSync(real_of(file), flags);
}

static int file_size(sqlite3_file *file, sqlite3_int64 *ret_size)
{
	return real_of(file)->pMethods->xFileSize(real_of(file), ret_size);
}

static int file_lock(sqlite3_file *file, int level)
{
	return real_of(file)->pMethods->xLock(real_of(file), level);
}

static int file_unlock(sqlite3_file *file, int level)
{
	return real_of(file)->pMethods->xUnlock(real_of(file), level);
}

static int file_check_reserved(sqlite3_file *file, int *ret_reserved)
{
	return real_of(file)->pMethods->xCheckReservedLock(real_of(file), ret_reserved);
}

static int file_control(sqlite3_file *file, int op, void *arg)
{
	return real_of(file)->pMethods->xFileControl(real_of(file), op, arg);
}

static int file_sector_size(sqlite3_file *file)
{
	return real_of(file)->pMethods->xSectorSize(real_of(file));
}

static int file_characteristics(sqlite3_file *file)
{
	return real_of(file)->pMethods->xDeviceCharacteristics(real_of(file));
}

static int file_shm_map(sqlite3_file *file, int region, int size, int extend, void volatile **ret)
{
	struct account *before = account_enter(account_of(file));
	int rc = real_of(file)->pMethods->xShmMap(real_of(file), region, size, extend, ret);

	account_enter(before);
	return rc;
}

static int file_shm_lock(sqlite3_file *file, int offset, int count, int flags)
{
	return real_of(file)->pMethods->xShmLock(real_of(file), offset, count, flags);
}

static void file_shm_barrier(sqlite3_file *file)
{
	real_of(file)->pMethods->xShmBarrier(real_of(file));
}

static int file_shm_unmap(sqlite3_file *file, int remove)
{
	struct account *before = account_enter(account_of(file));
	int rc = real_of(file)->pMethods->xShmUnmap(real_of(file), remove);

	account_enter(before);
	return rc;
}

static int file_fetch(sqlite3_file *file, sqlite3_int64 offset, int size, void **ret)
{
	return real_of(file)->pMethods->xFetch(real_of(file), offset, size, ret);
}

static int file_unfetch(sqlite3_file *file, sqlite3_int64 offset, void *page)
{
	return real_of(file)->pMethods->xUnfetch(real_of(file), offset, page);
}

/* SQLite asks what a file can do by whether a method is there, so there are two tables. */
#define METHODS_OF_ALL_FILES                                                                   \
	.iVersion = 3, .xClose = file_close, .xRead = file_read, .xWrite = file_write,         \
	.xTruncate = file_truncate, .xSync = file_sync, .xFileSize = file_size,                \
	.xLock = file_lock, .xUnlock = file_unlock, .xCheckReservedLock = file_check_reserved, \
	.xFileControl = file_control, .xSectorSize = file_sector_size,                         \
	.xDeviceCharacteristics = file_characteristics, .xFetch = file_fetch,                  \
	.xUnfetch = file_unfetch

static const sqlite3_io_methods methods_plain = { METHODS_OF_ALL_FILES };
static const sqlite3_io_methods methods_shared_memory = {
	METHODS_OF_ALL_FILES,        .xShmMap = file_shm_map,
	.xShmLock = file_shm_lock,   .xShmBarrier = file_shm_barrier,
	.xShmUnmap = file_shm_unmap,
};

static int vfs_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *base, int flags,
                    int *ret_flags)
{
	struct shim *shim = (struct shim *)vfs;
	struct file *file = (struct file *)base;
	struct account *before = account_current_get();
	int rc;

	file->base.pMethods = NULL;
	file->account = before != NULL && before->parent != NULL ? before->parent : before;
	account_enter(file->account);
	rc = shim->real->xOpen(shim->real, name, file->real, flags, ret_flags);
	if (rc != SQLITE_OK && file->real->pMethods != NULL)
		file->real->pMethods->xClose(file->real);
	account_enter(before);
	if (rc == SQLITE_OK)
		file->base.pMethods = file->real->pMethods->xShmMap != NULL ? &methods_shared_memory
		                                                            : &methods_plain;
	return rc;
}

/* The unix VFS and memdb offer version 3 since 2013; nothing older is wrapped. */
static int shim_register(struct shim *shim, const char *name, const char *real_name)
{
	shim->real = sqlite3_vfs_find(real_name);
	if (shim->real == NULL)
		return SQLITE_NOTFOUND;
	shim->vfs = *shim->real;
	shim->vfs.pNext = NULL;
	shim->vfs.zName = name;
	shim->vfs.szOsFile = (int)sizeof(struct file) + shim->real->szOsFile;
	shim->vfs.xOpen = vfs_open;
	return sqlite3_vfs_register(&shim->vfs, 0);
}

/* SQLite calls under this lock, which only the first pp_open() waits for: a shim that is in use
 * must not be written again. Initialising may fail for want of memory; the next open tries again.
 */
int vfs_register(void)
{
	static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
	static bool done;
	int rc = SQLITE_OK;

	pthread_mutex_lock(&mutex);
	if (!done) {
		rc = sqlite3_initialize();
		if (rc == SQLITE_OK)
			rc = shim_register(&file_shim, "poolproof", NULL);
		if (rc == SQLITE_OK)
			rc = shim_register(&memdb_shim, "poolproof-memdb", "memdb");
		done = rc == SQLITE_OK;
	}
	pthread_mutex_unlock(&mutex);
	return rc;
}

const char *vfs_name(bool memdb)
{
	return memdb ? memdb_shim.vfs.zName : file_shim.vfs.zName;
}
