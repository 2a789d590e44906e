/* The statement cache. */
/* SPDX-License-Identifier: MIT */
#include "fixture.h"

static sqlite3_stmt *prepare(struct pp_lease *lease, const char *text)
{
	sqlite3_stmt *stmt = NULL;
	struct pp_error error = { 0 };

	must(pp_prepare(lease, text, &stmt, &error), &error);
	return stmt;
}

TEST(statement, is_the_same_for_the_same_text)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	struct pp_lease lease = { 0 };
	sqlite3_stmt *first;

	acquire(f.pool, PP_READ, &lease);
	first = prepare(&lease, "SELECT ?1");
	CHECK(prepare(&lease, "SELECT ?2") != first);
	CHECK(prepare(&lease, "SELECT ?1") == first);
	pp_release(&lease);
	acquire(f.pool, PP_READ, &lease);
	CHECK(prepare(&lease, "SELECT ?1") == first);
	pp_release(&lease);
	CHECK_INT(stats(f.pool).statement_hits, ==, 2);
	CHECK_INT(stats(f.pool).statement_misses, ==, 2);
	CHECK_INT(stats(f.pool).statements, ==, 2);
	CHECK_INT(stats(f.pool).statement_bytes, >, 0);
}

/* sqlite3_sql() leaves the tail out: compared with it, this text would never be found again. */
TEST(statement, is_found_again_with_a_tail_of_comments)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	struct pp_lease lease = { 0 };
	sqlite3_stmt *first;

	acquire(f.pool, PP_READ, &lease);
	first = prepare(&lease, "SELECT 1; -- the end\n");
	CHECK(prepare(&lease, "SELECT 1; -- the end\n") == first);
	pp_release(&lease);
	CHECK_INT(stats(f.pool).statements, ==, 1);
}

TEST(statement, comes_reset_and_with_empty_bindings)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	struct pp_lease lease = { 0 };
	sqlite3_stmt *stmt;

	acquire(f.pool, PP_READ, &lease);
	for (unsigned i = 0; i < 2; i++) {
		stmt = prepare(&lease, "SELECT ?1 IS NULL");
		CHECK_INT(sqlite3_step(stmt), ==, SQLITE_ROW);
		CHECK_INT(sqlite3_column_int(stmt, 0), ==, 1);
		CHECK_INT(sqlite3_step(stmt), ==, SQLITE_DONE);
		sqlite3_reset(stmt); /* In the middle it would be SQLITE_MISUSE. */
		CHECK_INT(sqlite3_bind_int(stmt, 1, 5), ==, SQLITE_OK);
	}
	pp_release(&lease);
	acquire(f.pool, PP_READ, &lease);
	stmt = prepare(&lease, "SELECT ?1 IS NULL");
	CHECK_INT(sqlite3_step(stmt), ==, SQLITE_ROW);
	CHECK_INT(sqlite3_column_int(stmt, 0), ==, 1);
	pp_release(&lease);
}

TEST(statement, in_the_middle_of_its_rows_is_left_alone)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	struct pp_lease lease = { 0 };
	sqlite3_stmt *outer, *inner;

	acquire(f.pool, PP_READ, &lease);
	outer = prepare(&lease, "SELECT 1 UNION SELECT 2");
	CHECK_INT(sqlite3_step(outer), ==, SQLITE_ROW);
	inner = prepare(&lease, "SELECT 1 UNION SELECT 2");
	CHECK(inner != outer);
	CHECK_INT(sqlite3_step(inner), ==, SQLITE_ROW);
	CHECK_INT(sqlite3_step(outer), ==, SQLITE_ROW);
	CHECK_INT(sqlite3_column_int(outer, 0), ==, 2);
	pp_release(&lease);
	CHECK_INT(stats(f.pool).statements, ==, 1); /* The second copy went with the lease. */
}

TEST(statement, least_recently_used_goes_first)
{
	CLEANUP(fixture_close)
	struct fixture f = fixture_config((struct pp_config){ .readers = 1, .statements_max = 2 });
	struct pp_lease lease = { 0 };
	sqlite3_stmt *a;

	acquire(f.pool, PP_READ, &lease);
	a = prepare(&lease, "SELECT 'a'");
	prepare(&lease, "SELECT 'b'");
	pp_release(&lease);
	acquire(f.pool, PP_READ, &lease);
	prepare(&lease, "SELECT 'a'");
	prepare(&lease, "SELECT 'c'"); /* Puts out b. */
	pp_release(&lease);
	CHECK_INT(stats(f.pool).statements, ==, 2);
	CHECK_INT(stats(f.pool).statement_evictions, ==, 1);
	acquire(f.pool, PP_READ, &lease);
	CHECK(prepare(&lease, "SELECT 'a'") == a);
	CHECK_INT(stats(f.pool).statement_misses, ==, 3);
	prepare(&lease, "SELECT 'b'");
	CHECK_INT(stats(f.pool).statement_misses, ==, 4);
	pp_release(&lease);
}

/* What a lease uses is never taken from under it; the bounds hold again at its release. */
TEST(statement, in_use_is_not_evicted)
{
	CLEANUP(fixture_close)
	struct fixture f = fixture_config((struct pp_config){ .readers = 1, .statements_max = 3 });
	struct pp_lease lease = { 0 };
	sqlite3_stmt *stmts[10];
	char text[32];

	acquire(f.pool, PP_READ, &lease);
	for (int i = 0; i < 10; i++) {
		snprintf(text, sizeof text, "SELECT %d", i);
		stmts[i] = prepare(&lease, text);
	}
	for (int i = 0; i < 10; i++) {
		CHECK_INT(sqlite3_step(stmts[i]), ==, SQLITE_ROW);
		CHECK_INT(sqlite3_column_int(stmts[i], 0), ==, i);
	}
	pp_release(&lease);
	CHECK_INT(stats(f.pool).statements, ==, 3);
}

TEST(statement, bytes_are_bounded)
{
	enum { BYTES = 65536 };
	CLEANUP(fixture_close)
	struct fixture f =
		fixture_config((struct pp_config){ .readers = 1, .statements_bytes_max = BYTES });
	struct pp_lease lease = { 0 };
	char text[64];

	for (int i = 0; i < 100; i++) {
		acquire(f.pool, PP_READ, &lease);
		snprintf(text, sizeof text, "SELECT count(*), %d FROM t WHERE v = ?1", i);
		prepare(&lease, text);
		pp_release(&lease);
		CHECK_INT(stats(f.pool).statement_bytes, <=, BYTES);
	}
	CHECK_INT(stats(f.pool).statements, >, 5);
	CHECK_INT(stats(f.pool).statements, <, 100);
}

/* Many more than a table has room for, were it not made for that many. */
TEST(statement, is_found_again_among_many)
{
	CLEANUP(fixture_close)
	struct fixture f = fixture_config((struct pp_config){
		.readers = 1, .statements_max = 10000, .statements_bytes_max = 1u << 30 });
	enum { MANY = 300 };
	struct pp_lease lease = { 0 };
	sqlite3_stmt *stmts[MANY];
	char text[32];

	acquire(f.pool, PP_READ, &lease);
	for (unsigned round = 0; round < 2; round++)
		for (int i = 0; i < MANY; i++) {
			snprintf(text, sizeof text, "SELECT %d", i);
			if (round == 0)
				stmts[i] = prepare(&lease, text);
			else
				CHECK(prepare(&lease, text) == stmts[i]);
		}
	pp_release(&lease);
	CHECK_INT(stats(f.pool).statements, ==, MANY);
	CHECK_INT(stats(f.pool).statement_evictions, ==, 0);
}

TEST(statement, survives_a_change_of_schema)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	struct pp_lease r = { 0 }, w = { 0 };
	sqlite3_stmt *stmt;

	acquire(f.pool, PP_READ, &r);
	stmt = prepare(&r, "SELECT * FROM t");
	CHECK_INT(sqlite3_step(stmt), ==, SQLITE_DONE);
	pp_release(&r);
	acquire(f.pool, PP_WRITE, &w);
	sql(w.db, "ALTER TABLE t ADD COLUMN more DEFAULT 3; INSERT INTO t(id) VALUES (1)");
	pp_release(&w);
	acquire(f.pool, PP_READ, &r);
	CHECK(prepare(&r, "SELECT * FROM t") == stmt);
	CHECK_INT(sqlite3_step(stmt), ==, SQLITE_ROW);
	CHECK_INT(sqlite3_column_int(stmt, 2), ==, 3);
	pp_release(&r);
	CHECK_INT(stats(f.pool).dirty, ==, 0);
}

static const struct {
	const char *sql, *words;
	enum pp_status status;
	int offset;
} bad[] = {
	{ "SELECT * FROM t WHERE nope = 1", "no such column: nope", PP_SQLITE, 22 },
	{ "SELEC 1", "near \"SELEC\": syntax error", PP_SQLITE, 0 },
	{ "SELECT * FROM missing", "no such table: missing", PP_SQLITE, -1 },
	{ "", "no statement", PP_INVALID, -1 },
	{ " -- only a comment\n", "no statement", PP_INVALID, -1 },
	{ "SELECT 1; SELECT 2", "one statement at a time", PP_INVALID, -1 },
	{ "SELECT 1; nonsense", "one statement at a time", PP_INVALID, -1 },
};

TEST_ROWS(statement, that_cannot_be_prepared_says_why_and_where, sizeof bad / sizeof *bad)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	struct pp_lease lease = { 0 };
	struct pp_error error = { 0 };
	sqlite3_stmt *stmt = (sqlite3_stmt *)&error;

	acquire(f.pool, PP_READ, &lease);
	CHECK_INT(pp_prepare(&lease, bad[row].sql, &stmt, &error), ==, bad[row].status);
	CHECK(stmt == (sqlite3_stmt *)&error);
	CHECK_CONTAINS(error.message, bad[row].words);
	CHECK_INT(error.sql_offset, ==, bad[row].offset);
	if (bad[row].status == PP_SQLITE)
		CHECK_STR(error.sql, bad[row].sql);
	CHECK_INT(pp_prepare(&lease, bad[row].sql, &stmt, NULL), ==, bad[row].status);
	pp_release(&lease);
	CHECK_INT(stats(f.pool).statements, ==, 0);
}
