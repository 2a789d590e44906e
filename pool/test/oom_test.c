/* Out of memory: every allocation of a pool's life fails once, and from then on. Nothing leaks,
 * nothing half done is kept, and the pool works again when there is memory again. */
/* SPDX-License-Identifier: MIT */
#include "heap.h"

#include "internal.h"

/* --- It fails ----------------------------------------------------------------------------- */

/* What is refused from then on fails much alike for neighbours: there a stride is enough. */
static const struct {
	const char *what;
	enum pp_journal journal;
	bool lasting, through_close;
	unsigned first, stride;
} sweeps[] = {
	{ "WAL, once, every third", PP_JOURNAL_WAL, false, false, 1, 3 },
	{ "WAL, once, every third from 2", PP_JOURNAL_WAL, false, false, 2, 3 },
	{ "WAL, once, every third from 3", PP_JOURNAL_WAL, false, false, 3, 3 },
	{ "WAL, from then on", PP_JOURNAL_WAL, true, false, 1, 7 },
	{ "WAL, from then on, also at the close", PP_JOURNAL_WAL, true, true, 1, 7 },
	{ "journal, once, every third", PP_JOURNAL_DELETE, false, false, 1, 3 },
	{ "journal, once, every third from 2", PP_JOURNAL_DELETE, false, false, 2, 3 },
	{ "journal, once, every third from 3", PP_JOURNAL_DELETE, false, false, 3, 3 },
	{ "journal, from then on", PP_JOURNAL_DELETE, true, false, 1, 7 },
	{ "journal, from then on, also at the close", PP_JOURNAL_DELETE, true, true, 1, 7 },
};

TEST_ROWS(oom, anywhere_leaves_a_whole_pool, sizeof sweeps / sizeof *sweeps)
{
	CLEANUP(fixture_remove) struct fixture f = fixture_dir();
	struct life life = { .what = sweeps[row].what,
		             .failure = PP_NOMEM,
		             .config = { .path = f.path,
		                         .readers = 1,
		                         .on_open = no_sync,
		                         .keeper = PP_KEEPER_MANUAL,
		                         .journal = sweeps[row].journal } };
	unsigned failed, met = 0;

	heap_install();
	life_start(&life);
	for (life.n = sweeps[row].first;; life.n += sweeps[row].stride * slowness()) {
		heap_plan(life.n, sweeps[row].lasting);
		life_live(&life);
		/* A pool that met one failure must work on; only where none came does it close. */
		if (sweeps[row].lasting ? sweeps[row].through_close : heap.failed == 0)
			life_end(&life);
		failed = heap.failed;
		heap_plan(0, false);
		life_prove(&life);
		if (failed == 0)
			break;
		met++;
	}
	CHECK_MSG(met >= 100 / sweeps[row].stride / slowness(), "%s: the plan met %u allocations",
	          sweeps[row].what, met);
}

/* SQLite initialises itself with the first pool; a program that had no memory then has it later. */
TEST_ROWS(oom, at_the_first_open_is_not_for_ever, 2)
{
	CLEANUP(fixture_close) struct fixture f = fixture_dir();
	struct pp_config config = { .path = f.path, .readers = 1 };
	struct pp_error error = { 0 };

	heap_install();
	for (unsigned n = 1; f.pool == NULL; n++) {
		heap_plan(n, row == 1);
		enum pp_status status = pp_open(&config, &f.pool, &error);

		CHECK_MSG(status == PP_OK || status == PP_NOMEM, "allocation %u: %s: %s", n,
		          pp_status_name(status), error.message);
	}
	heap_plan(0, false);
}

/* The text after the statement is compiled to see whether it is a second one. */
TEST(oom, in_a_comment_is_no_second_statement)
{
	CLEANUP(fixture_close) struct fixture f = { 0 };
	CLEANUP(pp_release) struct pp_lease lease = { 0 };
	enum pp_status status = PP_NOMEM;
	struct pp_error error = { 0 };
	sqlite3_stmt *stmt;

	heap_install();
	f = fixture_open(1);
	acquire(f.pool, PP_READ, &lease);
	for (unsigned n = 1; status != PP_OK; n++) {
		heap_plan(n, false);
		status = pp_prepare(&lease, "SELECT 1; -- the end", &stmt, &error);
		CHECK_MSG(status == PP_OK || status == PP_NOMEM, "allocation %u: %s: %s", n,
		          pp_status_name(status), error.message);
	}
	heap_plan(0, false);
}

/* A setting expires every statement, the pool's own too: here ROLLBACK itself finds no memory. The
 * connection goes, and what was open on it with it. */
TEST(oom, at_the_rollback_costs_the_connection)
{
	CLEANUP(fixture_close) struct fixture f = { 0 };
	struct pp_lease lease = { 0 };
	struct pp_error error = { 0 };
	enum pp_status status;

	heap_install();
	f = fixture_open(1);
	acquire(f.pool, PP_WRITE, &lease);
	must(pp_begin(&lease, &error), &error);
	sql(lease.db, "INSERT INTO t VALUES (1, 1)");
	sqlite3_db_config(lease.db, SQLITE_DBCONFIG_ENABLE_TRIGGER, 0, NULL);
	heap_plan(1, true);
	status = pp_rollback(&lease, &error);
	CHECK_INT(status, !=, PP_OK);
	CHECK_INT(status, ==, error.status);
	CHECK_STR(error.doing, "ROLLBACK");
	CHECK_INT(pp_release(&lease), ==, PP_OK);
	heap_plan(0, false);
	CHECK_INT(stats(f.pool).retired, ==, 1);
	acquire(f.pool, PP_WRITE, &lease);
	CHECK_INT(number(lease.db, "SELECT count(*) FROM t"), ==, 0);
	pp_release(&lease);
}

/* What SQLite cannot make a text of it hands on as NULL. */
TEST(oom, at_the_question_how_large_the_cache_is_crashes_nobody)
{
	CLEANUP(fixture_close) struct fixture f = fixture_dir();
	struct pp_config config = { .path = f.path,
		                    .readers = 1,
		                    .keeper = PP_KEEPER_MANUAL,
		                    .on_open = no_sync,
		                    .connection_bytes_max = 4 << 20 };
	struct pp_error error = { 0 };

	heap_install();
	for (unsigned n = 1; f.pool == NULL || heap.failed > 0; n += slowness()) {
		if (f.pool != NULL)
			must(pp_close(f.pool, PP_NO_WAIT, NULL), NULL);
		f.pool = NULL;
		heap_plan(n, false);
		enum pp_status status = pp_open(&config, &f.pool, &error);

		CHECK_MSG(status == PP_OK || status == PP_NOMEM, "allocation %u: %s: %s", n,
		          pp_status_name(status), error.message);
	}
	heap_plan(0, false);
}

/* All is undone, the level around it too; he is told why. */
TEST(oom, at_an_inner_rollback_is_told_at_once)
{
	CLEANUP(fixture_close) struct fixture f = { 0 };
	struct pp_lease lease = { 0 };
	struct pp_error error = { 0 };

	heap_install();
	f = fixture_open(1);
	acquire(f.pool, PP_WRITE, &lease);
	must(pp_begin(&lease, &error), &error);
	sql(lease.db, "INSERT INTO t VALUES (1, 1)");
	must(pp_begin(&lease, &error), &error);
	heap_plan(1, true);
	CHECK_INT(pp_rollback(&lease, &error), ==, PP_NOMEM);
	heap_plan(0, false);
	CHECK_INT(error.status, ==, PP_NOMEM);
	CHECK_STR(error.doing, "ROLLBACK TO");
	CHECK(sqlite3_get_autocommit(lease.db));
	CHECK_INT(pp_commit(&lease, &error), ==, PP_ROLLED_BACK);
	pp_release(&lease);
	CHECK_INT(rows_in(f.pool), ==, 0);
}

/* What went wrong, where, and in which pool is said when there is no byte left to say it with. */
TEST(oom, is_told_in_full_without_memory)
{
	CLEANUP(fixture_close) struct fixture f = { 0 };
	CLEANUP(pp_release) struct pp_lease lease = { 0 };
	struct pp_error error = { 0 };
	sqlite3_stmt *stmt;
	char text[512];

	heap_install();
	f = fixture_open(1);
	acquire(f.pool, PP_READ, &lease);
	heap_plan(1, true);
	CHECK_INT(pp_prepare(&lease, "SELECT 1", &stmt, &error), ==, PP_NOMEM);
	error_pool(&error, f.pool);
	pp_error_text(&error, text, sizeof text);
	CHECK_INT(heap.failed, ==, 1); /* The statement's, and none for the words. */
	heap_plan(0, false);
	CHECK_CONTAINS(text, "prepare: out of memory: no memory for a cached statement");
	CHECK_CONTAINS(text, "1 of 2 connections lent");
}
