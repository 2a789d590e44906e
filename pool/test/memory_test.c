/* Accounts: whose bytes, exactly, and nothing left. */
/* SPDX-License-Identifier: MIT */
#include "fixture.h"

#include "memory.h"

TEST(account, knows_its_own_bytes_and_ends_at_zero)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(2);
	struct pp_stats s = stats(f.pool);

	CHECK_INT(s.accounting, !=, PP_ACCOUNTING_OFF);
	CHECK_INT(s.pool_bytes, >, 100);
	CHECK_INT(s.connections_bytes, >, 50000); /* Three connections with a schema each. */
	CHECK_INT(s.parked, ==, 0);
}

TEST(account, follows_the_connection_and_not_the_thread)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	struct pp_lease r = { 0 }, w = { 0 };
	uint64_t foreign = stats(f.pool).foreign_bytes, both, reader_only;
	sqlite3_stmt *stmt;

	/* One thread with two leases, allocating on one: the other's account does not move. */
	acquire(f.pool, PP_READ, &r);
	acquire(f.pool, PP_WRITE, &w);
	both = stats(f.pool).connections_bytes;
	must(pp_prepare(&r, "SELECT * FROM t WHERE v = ?1", &stmt, NULL), NULL);
	sqlite3_bind_zeroblob(stmt, 1, 10);
	CHECK_INT(sqlite3_bind_blob(stmt, 1, "0123456789", 10, SQLITE_TRANSIENT), ==, SQLITE_OK);
	reader_only = stats(f.pool).connections_bytes;
	CHECK_INT(reader_only, >, both);
	CHECK_INT(stats(f.pool).foreign_bytes, ==, foreign);
	pp_release(&r);
	pp_release(&w);
}

TEST(account, of_a_closed_connection_with_bytes_out_is_parked_until_they_are_freed)
{
	CLEANUP(fixture_remove) struct fixture f = fixture_open(1);
	struct pp_lease lease = { 0 };
	struct pp_closing closing;
	char *words = NULL;

	acquire(f.pool, PP_READ, &lease);
	CHECK_INT(sqlite3_exec(lease.db, "nonsense", NULL, NULL, &words), ==, SQLITE_ERROR);
	pp_release(&lease);
	CHECK_INT(pp_close(f.pool, PP_NO_WAIT, &closing), ==, PP_OK);
	CHECK_INT(closing.parked, ==, 1);
	CHECK_INT(closing.residue_bytes, >, 10);
	CHECK_INT(closing.residue_bytes, <, 200);

	uint64_t count, bytes;

	accounts_parked(&count, &bytes);
	CHECK_INT(bytes, ==, closing.residue_bytes);
	sqlite3_free(words);
	accounts_parked(&count, &bytes);
	CHECK_INT(count + bytes, ==, 0);
}

/* jemalloc's own statistics are the second opinion: pp_check() compares them. */
TEST(account, agrees_with_the_arena)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	struct pp_lease lease = { 0 };
	char text[512];

	for (int i = 0; i < 100; i++) {
		acquire(f.pool, PP_WRITE, &lease);
		sql(lease.db, "INSERT INTO t(v) SELECT coalesce(max(v), 0) + 1 FROM t");
		sql(lease.db, "SELECT group_concat(v) FROM t ORDER BY random()");
		pp_release(&lease);
	}
	CHECK_MSG(pp_check(f.pool, text, sizeof text) == 0, "%s", text);
#ifdef PP_JEMALLOC
	CHECK_INT(stats(f.pool).accounting, ==, PP_ACCOUNTING_ARENAS);
#else
	CHECK_INT(stats(f.pool).accounting, ==, PP_ACCOUNTING_COUNTERS);
#endif
}

/* Round after round, the same bytes: a leak of one block would be a step. */
TEST(account, is_the_same_after_every_round)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(2);
	uint64_t settled = 0;

	for (int round = 0; round < 6; round++) {
		for (int i = 0; i < 50; i++) {
			struct pp_lease lease = { 0 };
			sqlite3_stmt *stmt;

			acquire(f.pool, i % 2 == 0 ? PP_READ : PP_WRITE, &lease);
			must(pp_prepare(&lease, "SELECT v FROM t WHERE id = ?1", &stmt, NULL),
			     NULL);
			sqlite3_bind_int(stmt, 1, i);
			sqlite3_step(stmt);
			if (i % 2 == 1)
				sql(lease.db, "INSERT OR REPLACE INTO t VALUES (1, 1)");
			pp_release(&lease);
		}
		struct pp_stats s = stats(f.pool);

		if (round == 2)
			settled = s.pool_bytes + s.connections_bytes;
		if (round > 2)
			CHECK_INT(s.pool_bytes + s.connections_bytes, ==, settled);
	}
}

TEST(account, is_off_when_sqlite_was_there_first)
{
	struct fixture f = fixture_dir();
	struct pp_closing closing;
	struct pp_lease lease = { 0 };
	struct pp_error error = { 0 };

	CHECK_INT(sqlite3_initialize(), ==, SQLITE_OK);
	must(pp_open(&(struct pp_config){ .path = f.path }, &f.pool, &error), &error);
	CHECK_INT(stats(f.pool).accounting, ==, PP_ACCOUNTING_OFF);
	acquire(f.pool, PP_WRITE, &lease);
	sql(lease.db, "CREATE TABLE t(a); INSERT INTO t VALUES (1)");
	pp_release(&lease);
	CHECK_INT(stats(f.pool).connections_bytes, ==, 0);
	CHECK_INT(pp_close(f.pool, PP_NO_WAIT, &closing), ==, PP_OK);
	CHECK_INT(closing.residue_bytes, ==, 0);
	fixture_remove(&f);
}

TEST(account, is_off_when_the_allocator_is_kept)
{
	struct fixture f = fixture_dir();

	CHECK_INT(pp_setup(PP_KEEP_ALLOCATOR), ==, PP_OK);
	CHECK_INT(pp_setup(0), ==, PP_OK); /* Later calls change nothing. */
	must(pp_open(&(struct pp_config){ .path = f.path }, &f.pool, NULL), NULL);
	CHECK_INT(stats(f.pool).accounting, ==, PP_ACCOUNTING_OFF);
	CHECK_INT(pp_close(f.pool, PP_NO_WAIT, NULL), ==, PP_OK);
	fixture_remove(&f);
}

/* The program's own connections live beside the pool's, with real mutexes. */
static void *use_own_connection(void *context)
{
	for (unsigned i = 0; i < 200 / slowness(); i++)
		sql(context, "INSERT INTO mine VALUES (1); DELETE FROM mine");
	return NULL;
}

TEST(mutex, of_a_foreign_connection_locks)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	pthread_t threads[2];
	sqlite3 *own;

	CHECK_INT(sqlite3_open_v2(
			  ":memory:", &own,
			  SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_FULLMUTEX, NULL),
	          ==, SQLITE_OK);
	sql(own, "CREATE TABLE mine(a)");
	CHECK_INT(stats(f.pool).foreign_bytes, >, 1000);
	for (unsigned i = 0; i < 2; i++)
		threads[i] = thread_start(use_own_connection, own);
	for (unsigned i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	CHECK_INT(sqlite3_mutex_try(sqlite3_db_mutex(own)), ==, SQLITE_OK);
	sqlite3_mutex_leave(sqlite3_db_mutex(own));
	sqlite3_close(own);
}

static void *try_to_enter(void *context)
{
	return (void *)(intptr_t)sqlite3_mutex_try(context);
}

TEST(mutex, of_a_foreign_connection_is_not_entered_twice)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	sqlite3 *own;
	void *rc;

	CHECK_INT(sqlite3_open(":memory:", &own), ==, SQLITE_OK);
	sqlite3_mutex_enter(sqlite3_db_mutex(own));
	pthread_join(thread_start(try_to_enter, sqlite3_db_mutex(own)), &rc);
	CHECK_INT((intptr_t)rc, ==, SQLITE_BUSY);
	sqlite3_mutex_leave(sqlite3_db_mutex(own));
	sqlite3_close(own);
}

TEST(mutex, of_a_pool_connection_only_switches_the_account)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	struct pp_lease lease = { 0 };
	sqlite3_mutex *mutex;

	acquire(f.pool, PP_READ, &lease);
	mutex = sqlite3_db_mutex(lease.db);
	CHECK(account_current == NULL);
	CHECK_INT(sqlite3_mutex_try(mutex), ==, SQLITE_OK);
	CHECK(account_current != NULL);
	sqlite3_mutex_enter(mutex);
	sqlite3_mutex_leave(mutex);
	CHECK(account_current != NULL);
	sqlite3_mutex_leave(mutex);
	CHECK(account_current == NULL);
	pp_release(&lease);
}

/* No byte tells of it then. */
TEST(account, is_not_needed_to_tell_what_is_still_held_at_the_close)
{
	CLEANUP(fixture_remove) struct fixture f = fixture_dir();
	struct pp_closing closing = { 0 };
	struct pp_lease lease = { 0 };
	sqlite3_stmt *held;

	CHECK_INT(pp_setup(PP_KEEP_ALLOCATOR), ==, PP_OK);
	must(pp_open(&(struct pp_config){ .path = f.path }, &f.pool, NULL), NULL);
	acquire(f.pool, PP_WRITE, &lease);
	CHECK_INT(
		sqlite3_prepare_v2(lease.db, "SELECT 1 FROM 'main'.sqlite_schema", -1, &held, NULL),
		==, SQLITE_OK);
	sql(lease.db, "CREATE VIRTUAL TABLE v USING rtree(id, x, y)");
	pp_release(&lease);
	CHECK_INT(stats(f.pool).retired, ==, 0); /* It looks like the virtual table's. */
	CHECK_INT(pp_close(f.pool, PP_NO_WAIT, &closing), ==, PP_OK);
	CHECK_INT(closing.parked, ==, 1);
	CHECK_INT(closing.residue_bytes, ==, 0);
	sqlite3_finalize(held);
}
