/* open() fails for a moment. SQLite then tries for reading only, which must not be for good. */
/* SPDX-License-Identifier: MIT */
#include "fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>

typedef int open_fn(const char *path, int flags, int mode);
static sqlite3_syscall_ptr real_open;
static const char *refused; /* How the name ends that cannot be opened for writing, once. */

static bool ends_with(const char *text, const char *end)
{
	size_t length = strlen(text), end_length = strlen(end);

	return length >= end_length && strcmp(text + length - end_length, end) == 0;
}

static int open_unless_refused(const char *path, int flags, int mode)
{
	if (refused == NULL || (flags & O_ACCMODE) != O_RDWR || !ends_with(path, refused))
		return ((open_fn *)(void (*)(void))real_open)(path, flags, mode);
	refused = NULL;
	errno = EMFILE;
	return -1;
}

static void wrap_open(void)
{
	sqlite3_vfs *unix_vfs = sqlite3_vfs_find("unix");

	real_open = unix_vfs->xGetSystemCall(unix_vfs, "open");
	CHECK_INT(
		unix_vfs->xSetSystemCall(unix_vfs, "open",
	                                 (sqlite3_syscall_ptr)(void (*)(void))open_unless_refused),
		==, SQLITE_OK);
}

/* A database that no pool has open. */
static struct fixture closed(void)
{
	struct fixture f = fixture_open(1);

	must(pp_close(f.pool, PP_NO_WAIT, NULL), NULL);
	f.pool = NULL;
	return f;
}

TEST(descriptor, that_lacked_when_the_pool_was_opened_is_told)
{
	CLEANUP(fixture_close) struct fixture f = closed();
	struct pp_config config = { .path = f.path, .readers = 1 };
	struct pp_error error = { 0 };

	wrap_open();
	refused = ".db";
	CHECK_INT(pp_open(&config, &f.pool, &error), ==, PP_SQLITE);
	CHECK(refused == NULL);
	CHECK_INT(error.sqlite_code, ==, SQLITE_CANTOPEN);
	CHECK_CONTAINS(error.message, "reading only");
	must(pp_open(&config, &f.pool, &error), &error);
}

static enum pp_status insert(struct pp_lease *lease, void *context)
{
	(void)context;
	return sqlite3_exec(lease->db, "INSERT INTO t VALUES (NULL, NULL)", NULL, NULL, NULL) ==
	                       SQLITE_OK
	               ? PP_OK
	               : PP_SQLITE;
}

/* The writer's own WAL: at most one begin is refused, and the next one is another connection's. */
TEST(descriptor, that_lacked_for_the_wal_costs_a_connection)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	struct pp_lease lease = { 0 };
	struct pp_error error = { 0 };

	acquire(f.pool, PP_WRITE, &lease);
	sql(lease.db, "CREATE TEMP TABLE left_over(a)");
	pp_release(&lease); /* Opened anew for the next one. */
	wrap_open();
	refused = "-wal";
	pp_transact(f.pool, NULL, insert, NULL, NULL);
	CHECK(refused == NULL);
	must(pp_transact(f.pool, NULL, insert, NULL, &error), &error);
}

/* With its WAL and the WAL's index, which are there for whoever opens the file next. By a signal:
 * Valgrind looks for leaks in a child that ends by itself. */
static void die_with_it_open(const char *path)
{
	pid_t child = fork();
	int status;
	sqlite3 *db;

	if (child == 0) {
		if (sqlite3_open(path, &db) == SQLITE_OK &&
		    sqlite3_exec(db, "INSERT INTO t VALUES (NULL, NULL)", NULL, NULL, NULL) ==
		            SQLITE_OK)
			raise(SIGKILL);
		_exit(1);
	}
	CHECK_INT(waitpid(child, &status, 0), ==, child);
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

/* The index is the process's: where the first connection has it for reading only, none can write as
 * long as there is any. */
TEST(descriptor, that_lacked_for_the_index_of_the_wal_is_told)
{
	CLEANUP(fixture_close) struct fixture f = closed();
	struct pp_config config = { .path = f.path, .readers = 1 };
	struct pp_error error = { 0 };

	die_with_it_open(f.path);
	wrap_open();
	refused = "-shm";
	CHECK_INT(pp_open(&config, &f.pool, &error), ==, PP_SQLITE);
	CHECK(refused == NULL);
	CHECK_INT(error.sqlite_code & 0xff, ==, SQLITE_CANTOPEN);
	must(pp_open(&config, &f.pool, &error), &error);
	must(pp_transact(f.pool, NULL, insert, NULL, &error), &error);
}
