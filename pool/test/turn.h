/* turn.h - another process at the turnstile. */
/* SPDX-License-Identifier: MIT */
#ifndef POOL_TEST_TURN_H
#define POOL_TEST_TURN_H

#include "fixture.h"

#include "internal.h"

#include <fcntl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

enum { PRESENCE, NEXT };

/* In this program some of libc's functions are the tests', so that something can be done at the
 * moment at which they are called. */
struct moment {
	void (*act)(void);
	unsigned calls;
};

/* To these locks another open file description is another process. */
static int other = -1;

static inline bool other_locks(short type, off_t byte)
{
	struct flock range = { .l_type = type, .l_start = byte, .l_len = 1 };

	return fcntl(other, F_OFD_SETLK, &range) == 0;
}

/* What the pool holds: F_UNLCK, F_RDLCK or F_WRLCK. */
static inline int other_meets(off_t byte)
{
	struct flock range = { .l_type = F_WRLCK, .l_start = byte, .l_len = 1 };

	CHECK_INT(fcntl(other, F_OFD_GETLK, &range), ==, 0);
	return range.l_type;
}

static inline const char *beside(const struct fixture *f)
{
	static char path[128];

	snprintf(path, sizeof path, "%s-turn", f->path);
	return path;
}

static inline bool is_there(const struct fixture *f)
{
	struct stat status;

	return lstat(beside(f), &status) == 0;
}

static inline void other_comes(const struct fixture *f)
{
	other = open(beside(f), O_RDWR | O_CLOEXEC);
	CHECK(other >= 0);
	CHECK(other_locks(F_RDLCK, PRESENCE));
}

static inline void other_goes(void)
{
	close(other);
	other = -1;
}

static inline struct fixture fixture_manual(unsigned busy_timeout_ms)
{
	return fixture_config((struct pp_config){
		.readers = 1, .keeper = PP_KEEPER_MANUAL, .busy_timeout_ms = busy_timeout_ms });
}

static inline pid_t child_start(int (*run)(void *), void *context)
{
	pid_t child = fork();

	CHECK(child >= 0);
	if (child == 0)
		_exit(run(context));
	return child;
}

static inline int child_end(pid_t child)
{
	int status = -1;

	CHECK_INT(waitpid(child, &status, 0), ==, child);
	return status;
}

#endif
