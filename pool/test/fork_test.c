/* A child of fork() is told, and can open other files. */
/* SPDX-License-Identifier: MIT */
#include "upkeep.h"

#include <sys/wait.h>
#include <valgrind/valgrind.h>

static enum pp_status never(struct pp_lease *lease, void *context)
{
	(void)lease, (void)context;
	_exit(99);
}

/* Runs in the child: 0, or the number of the claim that does not hold. SQLite is not touched: a
 * child that did would take locks that the parent's handles believe theirs. */
static int every_call_says_forked(struct pp_pool *pool, struct pp_lease *lease, const char *path)
{
	struct pp_lease none = { 0 };
	struct pp_error error = { 0 };
	struct pp_stats stats;
	struct pp_histogram histogram;
	struct pp_connection connections[1];
	struct pp_pool *mine;
	sqlite3_stmt *stmt;
	unsigned n;
	const enum pp_status said[] = {
		pp_acquire(pool, PP_READ, PP_NO_WAIT, &none, &error),
		pp_transact(pool, NULL, never, NULL, &error),
		pp_read(pool, NULL, never, NULL, &error),
		pp_statement_register(pool, "SELECT 1", &n, &error),
		pp_statement(lease, 1, &stmt, &error),
		pp_begin(lease, &error),
		pp_commit(lease, &error),
		pp_rollback(lease, &error),
		pp_prepare(lease, "SELECT 1", &stmt, &error),
		pp_authorizer_set(lease, NULL, NULL),
		pp_progress_set(lease, 1, NULL, NULL),
		pp_release(lease),
		pp_keep(pool, NULL),
		pp_resize(pool, 1, 1, &error),
		pp_suspend(pool, PP_NO_WAIT),
		pp_resume(pool),
		pp_reopen(pool, PP_NO_WAIT, &error),
		pp_backup(pool, &(struct pp_backup){ .to_path = "x" }, &error),
		pp_stats_read(pool, &stats),
		pp_connections_read(pool, connections, 1, &n),
		pp_histogram_read(pool, PP_HISTOGRAM_WAIT, &histogram),
		pp_close(pool, PP_NO_WAIT, NULL),
		pp_open(&(struct pp_config){ .path = path }, &mine, &error),
	};

	for (unsigned i = 0; i < sizeof said / sizeof *said; i++)
		if (said[i] != PP_FORKED)
			return (int)i + 1;
	return pp_check(pool, NULL, 0) != 0 ? 100 : 0;
}

/* What was the parent's is lost in the child, as it should be: memcheck is not to count that. And
 * _exit() alone would lose what the child has covered. */
static void child_end_with(int status)
{
	VALGRIND_CLO_CHANGE("--leak-check=no");
#ifdef PP_COVERAGE
	extern void __gcov_dump(void);

	__gcov_dump();
#endif
	_exit(status);
}

static int in_child(int (*what)(struct fixture *, struct pp_lease *), struct fixture *f,
                    struct pp_lease *lease)
{
	int status;
	pid_t child = fork();

	if (child == 0)
		child_end_with(what(f, lease));
	CHECK(child > 0);
	CHECK_INT(waitpid(child, &status, 0), ==, child);
	CHECK_MSG(WIFEXITED(status), "the child ended by signal %d", WTERMSIG(status));
	return WEXITSTATUS(status);
}

static int calls_say_forked(struct fixture *f, struct pp_lease *lease)
{
	return every_call_says_forked(f->pool, lease, f->path);
}

TEST(fork, is_told_by_every_call_in_the_child)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(2);
	struct pp_lease lease = { 0 };

	acquire(f.pool, PP_READ, &lease);
	CHECK_INT(in_child(calls_say_forked, &f, &lease), ==, 0);
	/* The parent's is as it was. */
	CHECK_INT(number(lease.db, "SELECT count(*) FROM t"), ==, 0);
	pp_release(&lease);
}

/* tsan takes the parent's threads for the child's, and a new one in the place of one for a second;
 * asan's allocator does not make its locks anew in a child. */
#ifdef __SANITIZE_THREAD__
static const enum pp_keeper childs_keeper = PP_KEEPER_MANUAL;
#else
static const enum pp_keeper childs_keeper = PP_KEEPER_THREAD;
#endif
#ifdef __SANITIZE_ADDRESS__
enum { BORROWERS_AT_FORK = 0 };
#else
enum { BORROWERS_AT_FORK = 2 };
#endif

static int another_file_works(struct fixture *f, struct pp_lease *lease)
{
	struct pp_config config = { .path = "b.db", .readers = 1, .keeper = childs_keeper };
	struct pp_pool *pool;
	struct pp_error error;

	(void)lease;
	if (chdir(f->dir) != 0 || pp_open(&config, &pool, &error) != PP_OK)
		return 1;
	if (pp_acquire(pool, PP_WRITE, PP_NO_WAIT, lease, &error) != PP_OK)
		return 2;
	if (sqlite3_exec(lease->db, "CREATE TABLE t(x)", NULL, NULL, NULL) != SQLITE_OK)
		return 3;
	if (pp_release(lease) != PP_OK || pp_check(pool, NULL, 0) != 0)
		return 4;
	return pp_close(pool, PP_FOREVER, NULL) == PP_OK ? 0 : 5;
}

/* Other threads may be anywhere in the pool at the fork: their locks are made anew. */
TEST(fork, leaves_the_child_other_files)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(2);
	struct worker w = { .pool = f.pool };
	pthread_t threads[BORROWERS_AT_FORK + 1];
	struct pp_lease none = { 0 };

	for (int i = 0; i < BORROWERS_AT_FORK; i++)
		threads[i] = thread_start(borrow_until_stopped, &w);
	WAIT_FOR(BORROWERS_AT_FORK == 0 || atomic_load(&w.rounds) > 10);
	CHECK_INT(in_child(another_file_works, &f, &none), ==, 0);
	atomic_store(&w.stop, true);
	for (int i = 0; i < BORROWERS_AT_FORK; i++)
		pthread_join(threads[i], NULL);
}

static enum pp_status fork_inside(struct pp_lease *lease, void *context)
{
	sql(lease->db, "INSERT INTO t VALUES (1, 1)");
	*(pid_t *)context = fork();
	return PP_OK;
}

/* The callback returns twice: in the child nothing is committed. */
TEST(fork, inside_a_transaction_commits_once)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	struct pp_error error = { 0 };
	pid_t child = -1;
	int status;
	enum pp_status said = pp_transact(f.pool, NULL, fork_inside, &child, &error);

	if (child == 0)
		child_end_with(said == PP_FORKED ? 0 : 1);
	must(said, &error);
	CHECK_INT(waitpid(child, &status, 0), ==, child);
	CHECK_INT(status, ==, 0);
	CHECK_INT(rows_in(f.pool), ==, 1);
}
