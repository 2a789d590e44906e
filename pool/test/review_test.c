/* What a reader who tried to break the pool found: each a way in which it once did not keep its
 * word. */
/* SPDX-License-Identifier: MIT */
#include "fixture.h"

/* memdb's store goes with its last connection, and every lent one had been retired. */
TEST(memdb, outlives_all_its_borrowers)
{
	CLEANUP(fixture_close)
	struct fixture f =
		fixture_config((struct pp_config){ .path = "file:/kept?vfs=memdb", .readers = 1 });
	struct pp_lease lease = { 0 };

	for (enum pp_lane lane = PP_READ; lane <= PP_WRITE; lane++) {
		acquire(f.pool, lane, &lease);
		sql(lease.db, "PRAGMA cache_size=100");
		pp_release(&lease);
	}
	acquire(f.pool, PP_READ, &lease);
	CHECK_INT(number(lease.db, "SELECT count(*) FROM t"), ==, 0);
	pp_release(&lease);
}

/* Refused while the other one is at it. */
static void *close_it(void *context)
{
	enum pp_status status;

	while ((status = pp_close(context, PP_FOREVER, NULL)) == PP_CLOSED)
		sched_yield();
	return (void *)(intptr_t)status;
}

/* A watchdog and a closer: the row was emptied twice. */
TEST(close, of_one_pool_by_two_threads_is_refused_to_one)
{
	CLEANUP(fixture_remove) struct fixture f = fixture_open(1);
	struct pp_lease lease = { 0 };
	pthread_t closer;
	void *status;

	acquire(f.pool, PP_READ, &lease);
	CHECK_INT(pp_close(f.pool, PP_NO_WAIT, NULL), ==, PP_LEASED);
	closer = thread_start(close_it, f.pool);
	WAIT_FOR(pp_close(f.pool, PP_NO_WAIT, NULL) == PP_CLOSED);
	pp_release(&lease);
	pthread_join(closer, &status);
	CHECK_INT((intptr_t)status, ==, PP_OK);
}

static void *acquire_until_closed(void *context)
{
	struct pp_error error;
	enum pp_status status;

	do {
		struct pp_lease lease = { 0 };

		status = pp_acquire(context, PP_READ, PP_FOREVER, &lease, &error);
		pp_release(&lease);
	} while (status == PP_OK);
	return (void *)(intptr_t)status;
}

/* Threads in the middle of pp_acquire() when the pool goes: nothing that they look at is freed. */
TEST(close, under_threads_that_acquire_frees_nothing_they_look_at)
{
	enum { THREADS = 8 };
	CLEANUP(fixture_remove) struct fixture f = fixture_open(2);
	pthread_t threads[THREADS];
	void *status;

	for (unsigned i = 0; i < THREADS; i++)
		threads[i] = thread_start(acquire_until_closed, f.pool);
	WAIT_FOR(stats(f.pool).read.acquires > 1000 / slowness());
	CHECK_INT(pp_close(f.pool, PP_FOREVER, NULL), ==, PP_OK);
	for (unsigned i = 0; i < THREADS; i++) {
		pthread_join(threads[i], &status);
		CHECK_INT((intptr_t)status, ==, PP_CLOSED);
	}
}

TEST(close, makes_a_lease_that_was_copied_useless)
{
	CLEANUP(fixture_remove) struct fixture f = fixture_open(1);
	struct pp_lease lease = { 0 }, copy;

	acquire(f.pool, PP_READ, &lease);
	copy = lease;
	pp_release(&lease);
	CHECK_INT(pp_close(f.pool, PP_NO_WAIT, NULL), ==, PP_OK);
	CHECK_INT(pp_release(&copy), ==, PP_MISUSE);
}

/* A savepoint of the pool's own name in between: ROLLBACK TO undid only half. */
TEST(transaction, is_not_fooled_by_savepoints_named_like_its_own)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	struct pp_lease lease = { 0 };

	acquire(f.pool, PP_WRITE, &lease);
	must(pp_begin(&lease, NULL), NULL);
	must(pp_begin(&lease, NULL), NULL);
	sql(lease.db,
	    "INSERT INTO t VALUES (30, 30); SAVEPOINT pp_1; INSERT INTO t VALUES (31, 31)");
	must(pp_rollback(&lease, NULL), NULL);
	must(pp_commit(&lease, NULL), NULL);
	CHECK_INT(number(lease.db, "SELECT count(*) FROM t"), ==, 0);
	pp_release(&lease);
}

static void notice(void *context)
{
	(void)context;
}

/* A rollback hook from before the transaction must not hide that it was ended. */
TEST(transaction, is_watched_although_a_hook_was_replaced)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	struct pp_lease lease = { 0 };

	acquire(f.pool, PP_WRITE, &lease);
	sqlite3_rollback_hook(lease.db, notice, NULL);
	must(pp_begin(&lease, NULL), NULL);
	sql(lease.db, "INSERT INTO t VALUES (1, 1); ROLLBACK; BEGIN; INSERT INTO t VALUES (2, 2)");
	CHECK_INT(pp_commit(&lease, NULL), ==, PP_ROLLED_BACK);
	pp_release(&lease);
}

/* With a virtual table in the schema an idle statement was taken for its own, and stepped later it
 * wrote into the next borrower's transaction. */
TEST(release, tells_a_borrowers_statement_from_a_virtual_tables)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	struct pp_lease lease = { 0 };
	sqlite3_stmt *mine;

	acquire(f.pool, PP_WRITE, &lease);
	sql(lease.db, "CREATE VIRTUAL TABLE v USING fts5(a)");
	CHECK_INT(sqlite3_prepare_v2(lease.db, "INSERT INTO t VALUES (666, 666)", -1, &mine, NULL),
	          ==, SQLITE_OK);
	pp_release(&lease);
	CHECK_INT(stats(f.pool).retired, ==, 1);
	sqlite3_finalize(mine);
}

/* Reopened by a relative path, the slot got another database. */
TEST(release, opens_the_same_file_again_wherever_one_is)
{
	CLEANUP(fixture_close) struct fixture f = fixture_dir();
	struct pp_lease lease = { 0 };
	char cwd[256];

	CHECK(getcwd(cwd, sizeof cwd) != NULL);
	CHECK_INT(chdir(f.dir), ==, 0);
	must(pp_open(&(struct pp_config){ .path = "a.db", .readers = 1 }, &f.pool, NULL), NULL);
	acquire(f.pool, PP_WRITE, &lease);
	sql(lease.db, "CREATE TABLE here(x)");
	pp_release(&lease);
	CHECK_INT(chdir(cwd), ==, 0);
	acquire(f.pool, PP_READ, &lease);
	sql(lease.db, "PRAGMA cache_size=10");
	pp_release(&lease);
	acquire(f.pool, PP_READ, &lease);
	CHECK_INT(number(lease.db, "SELECT count(*) FROM here"), ==, 0);
	pp_release(&lease);
}

static int set_page_size(sqlite3 *db, void *context)
{
	(void)context;
	return sqlite3_exec(db, "PRAGMA page_size=8192", NULL, NULL, NULL);
}

/* It came after the file had been looked at, and a page size or a key had no effect. */
TEST(open, calls_on_open_before_anything_else)
{
	CLEANUP(fixture_close)
	struct fixture f =
		fixture_config((struct pp_config){ .readers = 1, .on_open = set_page_size });
	CLEANUP(pp_release) struct pp_lease lease = { 0 };

	acquire(f.pool, PP_READ, &lease);
	CHECK_INT(number(lease.db, "PRAGMA page_size"), ==, 8192);
}

/* What another connection allocates while it works with a pool's is not the pool's. */
TEST(account, of_a_lease_does_not_pay_for_a_backups_destination)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	struct pp_lease lease = { 0 };
	sqlite3_backup *backup;
	sqlite3 *own;

	CHECK_INT(sqlite3_open(":memory:", &own), ==, SQLITE_OK);
	acquire(f.pool, PP_WRITE, &lease);
	sql(lease.db, "CREATE TABLE big(x); INSERT INTO big VALUES (zeroblob(1000000))");
	backup = sqlite3_backup_init(own, "main", lease.db, "main");
	CHECK_INT(sqlite3_backup_step(backup, -1), ==, SQLITE_DONE);
	CHECK_INT(sqlite3_backup_finish(backup), ==, SQLITE_OK);
	CHECK_INT(stats(f.pool).foreign_bytes, >, 1000000);
	pp_release(&lease);
	CHECK_INT(pp_close(f.pool, PP_NO_WAIT, &(struct pp_closing){ 0 }), ==, PP_OK);
	f.pool = NULL;
	CHECK_INT(number(own, "SELECT length(x) FROM big"), ==, 1000000);
	sqlite3_close(own);
}

TEST(open, says_how_many_pools_there_can_be)
{
	CLEANUP(fixture_remove) struct fixture f = fixture_dir();
	struct pp_pool *pools[PP_POOLS_MAX], *none = NULL;
	struct pp_error error = { 0 };
	char path[64];

	for (unsigned i = 0; i < PP_POOLS_MAX; i++) {
		snprintf(path, sizeof path, "file:/row%u?vfs=memdb", i);
		must(pp_open(&(struct pp_config){ .path = path, .readers = 1 }, &pools[i], NULL),
		     NULL);
	}
	CHECK_INT(pp_open(&(struct pp_config){ .path = f.path }, &none, &error), ==, PP_INVALID);
	CHECK_CONTAINS(error.message, "64 pools are open");
	for (unsigned i = 0; i < PP_POOLS_MAX; i++)
		CHECK_INT(pp_close(pools[i], PP_NO_WAIT, NULL), ==, PP_OK);
}

static int refuse_to_open(sqlite3 *db, void *context)
{
	(void)db, (void)context;
	return SQLITE_AUTH;
}

TEST(memdb, that_cannot_be_configured_is_not_opened)
{
	struct pp_pool *pool = NULL;

	CHECK_INT(pp_open(&(struct pp_config){ .path = "file:/refused?vfs=memdb",
	                                       .on_open = refuse_to_open },
	                  &pool, NULL),
	          ==, PP_SQLITE);
	CHECK(pool == NULL);
}

/* Somebody turned the file to WAL: the lanes would still exclude each other, or no longer. */
TEST(release, does_not_open_anew_in_another_journal_mode)
{
	CLEANUP(fixture_close)
	struct fixture f =
		fixture_config((struct pp_config){ .readers = 1, .journal = PP_JOURNAL_KEEP });
	struct pp_lease lease = { 0 };
	struct pp_error error;
	sqlite3 *other;

	acquire(f.pool, PP_WRITE, &lease);
	sql(lease.db, "PRAGMA cache_size=10"); /* It will be closed. */
	pp_release(&lease);
	CHECK_INT(sqlite3_open(f.path, &other), ==, SQLITE_OK);
	sql(other, "PRAGMA journal_mode=WAL");
	CHECK_INT(pp_acquire(f.pool, PP_WRITE, PP_FOREVER, &lease, &error), ==, PP_SQLITE);
	CHECK_CONTAINS(error.message, "the journal mode is now \"wal\"");
	sql(other, "PRAGMA journal_mode=DELETE");
	sqlite3_close(other);
	acquire(f.pool, PP_WRITE, &lease);
	pp_release(&lease);
}
