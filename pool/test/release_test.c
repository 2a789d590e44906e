/* Giving back: whatever a borrower leaves, the next one gets a clean connection. */
/* SPDX-License-Identifier: MIT */
#include "fixture.h"

TEST(release, of_an_empty_lease_is_nothing)
{
	struct pp_lease lease = { 0 };

	CHECK_INT(pp_release(&lease), ==, PP_OK);
	CHECK_INT(pp_release(NULL), ==, PP_OK);
	CHECK_INT(pp_begin(&lease, NULL), ==, PP_MISUSE);
}

TEST(release, empties_the_lease)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	struct pp_lease lease = { 0 };

	acquire(f.pool, PP_READ, &lease);
	CHECK_INT(pp_release(&lease), ==, PP_OK);
	CHECK(lease.db == NULL && lease.pool == NULL && lease.slot == NULL);
}

TEST(release, of_a_copy_is_noticed)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	struct pp_lease lease = { 0 }, copy, next = { 0 };
	sqlite3_stmt *stmt = NULL;
	struct pp_error error;

	acquire(f.pool, PP_READ, &lease);
	copy = lease;
	pp_release(&lease);
	CHECK_INT(pp_release(&copy), ==, PP_MISUSE);
	acquire(f.pool, PP_READ, &next); /* The copy must not take this one back either. */
	CHECK_INT(pp_release(&copy), ==, PP_MISUSE);
	CHECK_INT(pp_prepare(&copy, "SELECT 1", &stmt, &error), ==, PP_MISUSE);
	CHECK_INT(pp_begin(&copy, &error), ==, PP_MISUSE);
	CHECK_INT(pp_release(&next), ==, PP_OK);
}

/* What a borrower does; is the connection kept or closed; which counter tells. */
static const struct {
	const char *what, *sql;
	bool retired;
	size_t counter;
} rows[] = {
#define COUNTER(name) offsetof(struct pp_stats, name)
	{ "nothing", "SELECT 1", false, 0 },
	{ "open transaction", "BEGIN IMMEDIATE; INSERT INTO t VALUES (9, 9)", false,
	  COUNTER(dirty_transaction) },
	{ "open savepoint", "SAVEPOINT a; INSERT INTO t VALUES (9, 9)", false,
	  COUNTER(dirty_transaction) },
	{ "deferred transaction", "BEGIN", false, COUNTER(dirty_transaction) },
	{ "temporary table", "CREATE TEMP TABLE mine(a)", true, COUNTER(dirty_settings) },
	{ "temporary view", "CREATE TEMP VIEW mine AS SELECT 1", true, COUNTER(dirty_settings) },
	{ "temporary trigger", "CREATE TEMP TRIGGER mine AFTER INSERT ON t BEGIN SELECT 1; END",
	  true, COUNTER(dirty_settings) },
	{ "temporary virtual table", "CREATE VIRTUAL TABLE temp.mine USING fts5(a)", true,
	  COUNTER(dirty_settings) },
	{ "virtual table", "CREATE VIRTUAL TABLE mine USING fts4(a)", false, 0 },
	{ "attached file", "ATTACH ':memory:' AS mine", true, COUNTER(dirty_settings) },
	{ "pragma", "PRAGMA recursive_triggers=ON", true, COUNTER(dirty_settings) },
	{ "pragma that only tells", "PRAGMA table_info(t)", false, 0 },
	{ "pragma of the file", "PRAGMA user_version=7", false, 0 },
};

TEST_ROWS(release, mends_or_retires, sizeof rows / sizeof *rows)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	struct pp_lease lease = { 0 };
	struct pp_stats before = stats(f.pool), after;

	acquire(f.pool, PP_WRITE, &lease);
	sql(lease.db, rows[row].sql);
	pp_release(&lease);
	after = stats(f.pool);
	CHECK_MSG(after.retired - before.retired == rows[row].retired, "%s", rows[row].what);
	CHECK_MSG(after.dirty == (rows[row].counter != 0), "%s", rows[row].what);
	if (rows[row].counter != 0)
		CHECK_INT(*(uint64_t *)((char *)&after + rows[row].counter), ==, 1);

	acquire(f.pool, PP_WRITE, &lease);
	CHECK(sqlite3_get_autocommit(lease.db));
	CHECK_INT(sqlite3_txn_state(lease.db, NULL), ==, SQLITE_TXN_NONE);
	CHECK_INT(number(lease.db, "SELECT count(*) FROM t"), ==, 0);
	CHECK_INT(number(lease.db, "SELECT count(*) FROM sqlite_temp_schema"), ==, 0);
	CHECK_INT(number(lease.db, "SELECT count(*) FROM pragma_database_list WHERE name='mine'"),
	          ==, 0);
	CHECK_INT(number(lease.db, "PRAGMA recursive_triggers"), ==, 0);
	pp_release(&lease);
}

/* The cache goes with the connection, so nothing that was prepared with an effect is met again. */
TEST(release, retires_for_a_setting_made_through_the_cache)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	struct pp_lease lease = { 0 };
	sqlite3_stmt *stmt;

	for (unsigned i = 1; i <= 3; i++) {
		acquire(f.pool, PP_READ, &lease);
		CHECK_INT(number(lease.db, "PRAGMA cache_size"), ==, -2000);
		must(pp_prepare(&lease, "PRAGMA cache_size=10", &stmt, NULL), NULL);
		CHECK_INT(sqlite3_step(stmt), ==, SQLITE_DONE);
		pp_release(&lease);
		CHECK_INT(stats(f.pool).retired, ==, i);
	}
}

TEST(release, resets_a_running_statement_so_that_it_pins_no_snapshot)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	struct pp_lease lease = { 0 };
	sqlite3_stmt *stmt;

	acquire(f.pool, PP_READ, &lease);
	must(pp_prepare(&lease, "SELECT 1 UNION SELECT count(*) FROM t", &stmt, NULL), NULL);
	CHECK_INT(sqlite3_step(stmt), ==, SQLITE_ROW);
	CHECK_INT(sqlite3_txn_state(lease.db, NULL), ==, SQLITE_TXN_READ);
	pp_release(&lease);
	acquire(f.pool, PP_READ, &lease);
	CHECK_INT(sqlite3_txn_state(lease.db, NULL), ==, SQLITE_TXN_NONE);
	CHECK_INT(stats(f.pool).dirty, ==, 0); /* Usual, not dirt. */
	pp_release(&lease);
}

TEST(release, meets_a_statement_that_is_not_its_own)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	struct pp_lease lease = { 0 };
	sqlite3_stmt *mine = NULL, *pools = NULL;

	for (unsigned hidden = 0; hidden < 2; hidden++) {
		acquire(f.pool, PP_WRITE, &lease);
		sql(lease.db, "INSERT INTO t DEFAULT VALUES");
		CHECK_INT(sqlite3_prepare_v2(lease.db, "SELECT * FROM t", -1, &mine, NULL), ==,
		          SQLITE_OK);
		CHECK_INT(sqlite3_step(mine), ==, SQLITE_ROW);
		if (hidden) /* One of the pool's on top of it must not hide it. */
			must(pp_prepare(&lease, "SELECT 2", &pools, NULL), NULL);
		pp_release(&lease);
		CHECK_INT(stats(f.pool).dirty_statements, ==, hidden + 1);
		CHECK_INT(stats(f.pool).retired, ==, hidden + 1);
		CHECK_INT(stats(f.pool).parked, ==, 1); /* The zombie waits for its borrower, ... */
		CHECK_INT(sqlite3_finalize(mine), ==, SQLITE_OK);
		CHECK_INT(stats(f.pool).parked, ==, 0); /* ... and goes with him. */
	}
}

/* Idle, below one of the pool's. */
TEST(release, meets_an_idle_statement_that_is_not_its_own)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	struct pp_lease lease = { 0 };
	sqlite3_stmt *mine = NULL, *pools = NULL;

	acquire(f.pool, PP_READ, &lease);
	CHECK_INT(sqlite3_prepare_v2(lease.db, "SELECT 1", -1, &mine, NULL), ==, SQLITE_OK);
	must(pp_prepare(&lease, "SELECT 2", &pools, NULL), NULL);
	pp_release(&lease);
	CHECK_INT(stats(f.pool).dirty_statements, ==, 1);
	sqlite3_finalize(mine);
}

static void fail_corrupt(sqlite3_context *context, int count, sqlite3_value **values)
{
	(void)count, (void)values;
	sqlite3_result_error_code(context, SQLITE_CORRUPT);
}

static enum pp_status meet_corruption(struct pp_lease *lease, void *context)
{
	(void)context;
	sqlite3_create_function(lease->db, "fail_corrupt", 0, SQLITE_UTF8, NULL, fail_corrupt, NULL,
	                        NULL);
	return sqlite3_exec(lease->db, "SELECT fail_corrupt()", NULL, NULL, NULL) == SQLITE_OK
	               ? PP_OK
	               : PP_SQLITE;
}

/* By the time of the release the last call is a ROLLBACK that succeeded. */
TEST(release, closes_what_met_an_error_after_which_it_is_not_kept)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	struct pp_error error;

	CHECK_INT(pp_transact(f.pool, NULL, meet_corruption, NULL, &error), ==, PP_SQLITE);
	CHECK_INT(error.error_class, ==, PP_DISCARD_CONNECTION);
	CHECK_INT(stats(f.pool).retired, ==, 1);
}

/* A foreign statement and an open transaction: both are mended, and both are counted. */
TEST(release, meets_a_foreign_statement_in_an_open_transaction)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	struct pp_lease lease = { 0 };
	sqlite3_stmt *mine = NULL;

	acquire(f.pool, PP_WRITE, &lease);
	sql(lease.db, "BEGIN IMMEDIATE; INSERT INTO t VALUES (1, 1)");
	CHECK_INT(sqlite3_prepare_v2(lease.db, "SELECT * FROM t", -1, &mine, NULL), ==, SQLITE_OK);
	CHECK_INT(sqlite3_step(mine), ==, SQLITE_ROW);
	pp_release(&lease);
	CHECK_INT(stats(f.pool).dirty_statements, ==, 1);
	CHECK_INT(stats(f.pool).dirty_transaction, ==, 1);
	CHECK_INT(stats(f.pool).dirty, ==, 1);
	acquire(f.pool, PP_WRITE, &lease);
	sql(lease.db, "INSERT INTO t VALUES (2, 2)"); /* The lock is free, the row was undone. */
	CHECK_INT(number(lease.db, "SELECT sum(id) FROM t"), ==, 2);
	pp_release(&lease);
	sqlite3_finalize(mine);
}

static int refuse_the_fourth(sqlite3 *db, void *context)
{
	(void)db;
	return ++*(int *)context == 4 ? SQLITE_AUTH : SQLITE_OK;
}

/* The slot stays empty until a connection can be opened in it; who borrows next tries again. */
TEST(release, retires_and_who_comes_next_is_told_when_it_cannot_be_opened_anew)
{
	int opened = 0;
	CLEANUP(fixture_close)
	struct fixture f = fixture_config((struct pp_config){
		.readers = 1, .on_open = refuse_the_fourth, .on_open_context = &opened });
	struct pp_lease lease = { 0 };
	struct pp_error error = { 0 };
	char text[256];

	acquire(f.pool, PP_READ, &lease);
	sql(lease.db, "PRAGMA cache_size=10");
	pp_release(&lease);
	CHECK_INT(pp_acquire(f.pool, PP_READ, PP_FOREVER, &lease, &error), ==, PP_SQLITE);
	CHECK(lease.db == NULL && lease.slot == NULL);
	CHECK_INT(error.sqlite_code, ==, SQLITE_AUTH);
	CHECK_INT(error.connections, ==, 2);
	CHECK_INT(stats(f.pool).read.open, ==, 0);
	CHECK_INT(stats(f.pool).read.leased, ==, 0);
	CHECK_MSG(pp_check(f.pool, text, sizeof text) == 0, "%s", text);
	CHECK_INT(pp_acquire(f.pool, PP_READ, PP_NO_WAIT, &lease, &error), ==, PP_OK);
	pp_release(&lease);
	CHECK_INT(stats(f.pool).read.open, ==, 1);
}

/* Finalizing a blob's hidden statement is a use after free: it is left to its owner, and its write
 * lock is taken from it. */
TEST(release, takes_the_write_lock_from_a_forgotten_blob)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	struct pp_lease lease = { 0 };
	sqlite3_blob *blob = NULL;
	char byte;

	acquire(f.pool, PP_WRITE, &lease);
	sql(lease.db, "CREATE TABLE b(x BLOB); INSERT INTO b VALUES (zeroblob(100))");
	CHECK_INT(sqlite3_blob_open(lease.db, "main", "b", "x", 1, 1, &blob), ==, SQLITE_OK);
	CHECK_INT(sqlite3_txn_state(lease.db, NULL), ==, SQLITE_TXN_WRITE);
	pp_release(&lease);
	acquire(f.pool, PP_WRITE, &lease);
	sql(lease.db, "INSERT INTO t DEFAULT VALUES"); /* Not SQLITE_BUSY from the zombie. */
	pp_release(&lease);
	CHECK_INT(sqlite3_blob_read(blob, &byte, 1, 0), ==, SQLITE_ABORT_ROLLBACK);
	sqlite3_blob_close(blob);
}

/* Their statements look like a borrower's: the connection was closed at every release. */
static const char *const virtual_tables[] = {
	"CREATE VIRTUAL TABLE v USING fts5(a); INSERT INTO v VALUES ('one word')",
	"CREATE VIRTUAL TABLE v USING fts4(a); INSERT INTO v VALUES ('one word')",
	"CREATE VIRTUAL TABLE v USING rtree(id, x, y); INSERT INTO v VALUES (1, 2, 3)",
	"CREATE VIRTUAL TABLE v USING rtree(id, x, y, +name); INSERT INTO v VALUES (1, 2, 3, 4)",
};

TEST_ROWS(release, keeps_a_connection_for_virtual_tables_own_statements,
          sizeof virtual_tables / sizeof *virtual_tables)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	struct pp_lease lease = { 0 };
	sqlite3_stmt *mine;

	for (unsigned i = 0; i < 3; i++) {
		acquire(f.pool, PP_WRITE, &lease);
		sql(lease.db, i == 0 ? virtual_tables[row] : "INSERT INTO v SELECT * FROM v");
		sql(lease.db, row < 2 ? "SELECT * FROM v WHERE v MATCH 'word'" : "SELECT * FROM v");
		pp_release(&lease);
		CHECK_INT(stats(f.pool).retired, ==, 0);
		CHECK_INT(stats(f.pool).dirty, ==, 0);
		if (row >= 2)
			break; /* Its ids are unique. */
	}
	/* A borrower's that is in the middle of its rows is not taken for theirs. */
	acquire(f.pool, PP_WRITE, &lease);
	CHECK_INT(sqlite3_prepare_v2(lease.db, "SELECT * FROM v", -1, &mine, NULL), ==, SQLITE_OK);
	CHECK_INT(sqlite3_step(mine), ==, SQLITE_ROW);
	pp_release(&lease);
	sqlite3_finalize(mine);
	CHECK_INT(stats(f.pool).retired, ==, 1);
}

/* Nor are more than they could need: a borrower who forgets one in each lease is found out. */
TEST(release, does_not_take_any_number_for_virtual_tables)
{
	enum { FORGOTTEN = 40 };
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	struct pp_lease lease = { 0 };
	sqlite3_stmt *mine[FORGOTTEN];

	acquire(f.pool, PP_WRITE, &lease);
	sql(lease.db, "CREATE VIRTUAL TABLE v USING rtree(id, x, y)");
	for (unsigned i = 0; i < FORGOTTEN; i++)
		CHECK_INT(sqlite3_prepare_v2(lease.db, "SELECT 1", -1, &mine[i], NULL), ==,
		          SQLITE_OK);
	pp_release(&lease);
	CHECK_INT(stats(f.pool).retired, ==, 1);
	for (unsigned i = 0; i < FORGOTTEN; i++)
		sqlite3_finalize(mine[i]);
}

/* To the very one: the pool's own are not among them. */
TEST_ROWS(release, counts_statements_that_look_like_virtual_tables, 2)
{
	enum { MOST = 32 }; /* Of one table. */
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	unsigned forgotten = MOST + (unsigned)row;
	struct pp_lease lease = { 0 };
	sqlite3_stmt *mine[MOST + 1];
	char text[256];

	acquire(f.pool, PP_WRITE, &lease);
	sql(lease.db, "CREATE VIRTUAL TABLE v USING rtree(id, x, y)");
	pp_release(&lease);
	acquire(f.pool, PP_READ, &lease); /* Here the table has none yet. */
	for (unsigned i = 0; i < forgotten; i++)
		CHECK_INT(sqlite3_prepare_v2(lease.db, "SELECT id FROM 'main'.'t'", -1, &mine[i],
		                             NULL),
		          ==, SQLITE_OK);
	pp_release(&lease);
	CHECK_INT(stats(f.pool).retired, ==, row);
	CHECK_MSG(pp_check(f.pool, text, sizeof text) == 0, "%s", text);
	for (unsigned i = 0; i < forgotten; i++)
		sqlite3_finalize(mine[i]);
}

/* --- Hooks, handlers, limits --------------------------------------------------------------- */

static int called;

static int call_int(void *context)
{
	(void)context;
	called++;
	return 1; /* A commit hook that refuses, a progress handler that interrupts. */
}

static void call_update(void *c, int op, const char *db, const char *table, sqlite3_int64 id)
{
	(void)c, (void)op, (void)db, (void)table, (void)id;
	called++;
}

static void call_void(void *context)
{
	(void)context;
	called++;
}

static int call_wal(void *c, sqlite3 *db, const char *name, int pages)
{
	(void)c, (void)db, (void)name, (void)pages;
	called++;
	return SQLITE_OK;
}

static int call_trace(unsigned type, void *c, void *p, void *x)
{
	(void)type, (void)c, (void)p, (void)x;
	called++;
	return 0;
}

TEST(release, takes_hooks_and_limits_back)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	struct pp_lease lease = { 0 };

	acquire(f.pool, PP_WRITE, &lease);
	sql(lease.db, "BEGIN"); /* Not even the release's own rollback calls them. */
	sqlite3_commit_hook(lease.db, call_int, NULL);
	sqlite3_rollback_hook(lease.db, call_void, NULL);
	sqlite3_update_hook(lease.db, call_update, NULL);
	sqlite3_wal_hook(lease.db, call_wal, NULL);
	sqlite3_progress_handler(lease.db, 1, call_int, NULL);
	sqlite3_trace_v2(lease.db, SQLITE_TRACE_STMT, call_trace, NULL);
	sqlite3_busy_timeout(lease.db, 0);
	for (int id = 0; id <= SQLITE_LIMIT_WORKER_THREADS; id++)
		sqlite3_limit(lease.db, id, 1);
	pp_release(&lease);

	acquire(f.pool, PP_WRITE, &lease);
	sql(lease.db, "BEGIN; INSERT INTO t VALUES (1, 1); COMMIT; BEGIN; DELETE FROM t; ROLLBACK");
	CHECK_INT(number(lease.db, "SELECT count(*) FROM t"), ==, 1);
	CHECK_INT(called, ==, 0);
	CHECK_INT(stats(f.pool).retired, ==, 0);
	pp_release(&lease);
}
