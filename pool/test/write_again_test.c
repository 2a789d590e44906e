/* pp_write(): who is run again, and why; what a group has to live with: locks, a full disk, no
 * memory. */
/* SPDX-License-Identifier: MIT */
#include "group.h"

#include "heap.h"

#include <valgrind/valgrind.h>

enum { MODES = 2, MEMBERS = 3 };

static enum pp_status be_busy_once(struct pp_lease *lease, void *context)
{
	enum pp_status status = run_sql(lease, context);
	struct call *call = context;

	if (call->runs > 1)
		return status;
	sqlite3_exec(lease->db, "SELECT fail_busy()", NULL, NULL, NULL);
	return PP_SQLITE;
}

/* By itself, after a pause; its first row is undone. */
TEST_ROWS(group, runs_one_again_for_his_own_reason, MODES)
{
	CLEANUP(fixture_close) struct fixture f = with_traps((struct pp_config){ 0 });
	struct call calls[3] = { [1].work = be_busy_once };

	calls_group(&f, calls, 3, row == 1);
	for (unsigned i = 0; i < 3; i++) {
		must(calls[i].status, &calls[i].error);
		CHECK_INT(calls[i].runs, ==, i == 1 ? 2 : 1);
	}
	CHECK_INT(stats(f.pool).retries, ==, 1);
	CHECK_INT(stats(f.pool).reruns, ==, 0);
	CHECK_INT(stats(f.pool).groups, ==, 1);
	CHECK_INT(rows_in(f.pool), ==, 3);
}

static enum pp_status fail_the_second_time(struct pp_lease *lease, void *context)
{
	enum pp_status status = run_sql(lease, context);
	struct call *call = context;

	return call->runs > 1 ? PP_ABORTED : status;
}

/* Not his fault, and so no attempt; how it began stands behind how it ended. */
TEST_ROWS(group, tells_why_one_was_run_again, MODES)
{
	CLEANUP(fixture_close) struct fixture f = with_traps((struct pp_config){ 0 });
	struct call calls[2] = { { .work = fail_the_second_time, .options.attempts_max = 1 },
		                 { .sql = "INSERT INTO t(v) VALUES (77)" } };
	char text[1024];

	calls_group(&f, calls, 2, row == 1);
	CHECK_INT(calls[0].status, ==, PP_ABORTED);
	CHECK_INT(calls[0].runs, ==, 2);
	CHECK_INT(calls[0].error.attempt, ==, 1);
	CHECK_INT(calls[0].error.cause_count, ==, 1);
	CHECK_INT(calls[0].error.causes[0].status, ==, PP_ROLLED_BACK);
	CHECK_INT(calls[0].error.causes[0].sqlite_code, ==, SQLITE_CONSTRAINT_TRIGGER);
	pp_error_text(&calls[0].error, text, sizeof text);
	CHECK_CONTAINS(text, "because group: undone with its group: work: cut");
	CHECK_INT(rows_in(f.pool), ==, 0);
}

/* A handle of our own stands for another process, which reads while the group commits. */
TEST_ROWS(group, that_cannot_commit_is_run_one_by_one, MODES)
{
	CLEANUP(fixture_close)
	struct fixture f = with_traps(
		(struct pp_config){ .journal = PP_JOURNAL_DELETE, .busy_timeout_ms = 20 });
	struct call calls[3] = { { .options.deadline = PP_FOREVER },
		                 { .options.deadline = PP_FOREVER },
		                 { .options.deadline = PP_FOREVER } };
	struct pp_lease lease = { 0 };
	sqlite3 *other;

	CHECK_INT(sqlite3_open(f.path, &other), ==, SQLITE_OK);
	acquire_elsewhere(f.pool, PP_WRITE, &lease);
	calls_line_up(&f, calls, 3, row == 1);
	sql(other, "BEGIN; SELECT * FROM t");
	pp_release(&lease);
	WAIT_FOR(stats(f.pool).reruns == 3);
	CHECK_INT(stats(f.pool).writes, ==, 0);
	sql(other, "COMMIT");
	calls_join(calls, 3);
	sqlite3_close(other);
	for (unsigned i = 0; i < 3; i++) {
		must(calls[i].status, &calls[i].error);
		CHECK_INT(calls[i].runs, >=, 2);
	}
	CHECK_INT(rows_in(f.pool), ==, 3);
}

/* The commit waits for the other process no longer than the most impatient of the group would. */
TEST_ROWS(group, commits_as_patiently_as_the_most_impatient_of_it, MODES)
{
	CLEANUP(fixture_close)
	struct fixture f = with_traps(
		(struct pp_config){ .journal = PP_JOURNAL_DELETE, .busy_timeout_ms = 86400000 });
	struct call calls[3] = { { .options.deadline = PP_FOREVER },
		                 { .options.deadline = pp_in_ms(3600000) },
		                 { .options.deadline = PP_FOREVER } };
	struct pp_lease lease = { 0 };
	unsigned sleeps;
	sqlite3 *other;

	CHECK_INT(sqlite3_open(f.path, &other), ==, SQLITE_OK);
	acquire_elsewhere(f.pool, PP_WRITE, &lease);
	calls_line_up(&f, calls, 3, row == 1);
	sql(other, "BEGIN; SELECT * FROM t");
	sleeps = atomic_load(&sleeps_begun);
	pp_release(&lease);
	WAIT_FOR(atomic_load(&sleeps_begun) > sleeps); /* In its COMMIT. */
	clock_travel_ms(3600000);
	pthread_join(calls[1].thread, NULL);
	CHECK(calls[1].status == PP_SQLITE || calls[1].status == PP_TIMEOUT);
	sql(other, "COMMIT");
	pthread_join(calls[0].thread, NULL);
	pthread_join(calls[2].thread, NULL);
	sqlite3_close(other);
	must(calls[0].status, &calls[0].error);
	must(calls[2].status, &calls[2].error);
	CHECK_INT(rows_in(f.pool), ==, 2);
}

static enum pp_status leave_a_blob_open(struct pp_lease *lease, void *context)
{
	struct call *call = context;
	enum pp_status status = run_sql(lease, context);
	sqlite3_blob **blob = call->context;

	sqlite3_blob_close(*blob); /* Of the first time, where it is run again. */
	CHECK_INT(sqlite3_blob_open(lease->db, "main", "b", "x", 1, 1, blob), ==, SQLITE_OK);
	return status;
}

/* A blob cannot be reset by anybody but its owner, and nothing can be committed while it is open.
 */
TEST_ROWS(group, goes_on_without_who_leaves_a_blob_open, 3 * MODES)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	struct call calls[3] = { 0 };
	struct pp_lease lease = { 0 };
	sqlite3_blob *blob = NULL;
	unsigned place = (unsigned)row / MODES;

	acquire(f.pool, PP_WRITE, &lease);
	sql(lease.db, "CREATE TABLE b(x); INSERT INTO b VALUES (zeroblob(10))");
	pp_release(&lease);
	calls[place].work = leave_a_blob_open;
	calls[place].context = &blob;
	calls[place].options.attempts_max = 1;
	calls_group(&f, calls, 3, row % MODES == 1);
	for (unsigned i = 0; i < 3; i++)
		if (i != place)
			must(calls[i].status, &calls[i].error);
	CHECK_INT(calls[place].status, ==, PP_SQLITE);
	CHECK_INT(calls[place].error.sqlite_code, ==, SQLITE_BUSY);
	CHECK_INT(rows_in(f.pool), ==, 2);
	sqlite3_blob_close(blob);
}

/* Of one that is alone the failure is its own, and the usual attempts follow. */
TEST(group, of_one_that_cannot_commit_says_so)
{
	CLEANUP(fixture_close)
	struct fixture f = with_traps(
		(struct pp_config){ .journal = PP_JOURNAL_DELETE, .busy_timeout_ms = 20 });
	struct call call = { .pool = f.pool, .options.attempts_max = 2 };
	sqlite3 *other;

	CHECK_INT(sqlite3_open(f.path, &other), ==, SQLITE_OK);
	sql(other, "BEGIN; SELECT * FROM t");
	call_run(&call);
	CHECK_INT(call.status, ==, PP_SQLITE);
	CHECK_INT(call.error.sqlite_code, ==, SQLITE_BUSY);
	CHECK_INT(call.error.attempt, ==, 2);
	CHECK_STR(call.error.causes[0].doing, "COMMIT");
	CHECK_INT(stats(f.pool).reruns, ==, 0);
	sqlite3_close(other);
	CHECK_INT(rows_in(f.pool), ==, 0);
}

/* --- Resources ------------------------------------------------------------------------------ */

static int keep_it_small(sqlite3 *db, void *context)
{
	(void)context;
	return sqlite3_exec(db, "PRAGMA max_page_count=100", NULL, NULL, NULL);
}

/* The database is full for the large one; what the others want is there. */
TEST_ROWS(group, goes_on_when_the_database_is_full_for_one, MODES)
{
	CLEANUP(fixture_close)
	struct fixture f =
		fixture_config((struct pp_config){ .readers = 1, .on_open = keep_it_small });
	struct call calls[4] = {
		[2].sql = "CREATE TABLE large(x); INSERT INTO large WITH RECURSIVE n(x) AS (SELECT "
			  "1 UNION ALL SELECT x + 1 FROM n LIMIT 1000) SELECT zeroblob(4000) FROM n"
	};

	calls_group(&f, calls, 4, row == 1);
	for (unsigned i = 0; i < 4; i++)
		if (i != 2)
			must(calls[i].status, &calls[i].error);
	CHECK_INT(calls[2].status, ==, PP_SQLITE);
	CHECK_INT(calls[2].error.sqlite_code, ==, SQLITE_FULL);
	CHECK_INT(ask(f.pool, "SELECT count(*) FROM sqlite_schema WHERE name = 'large'"), ==, 0);
	CHECK_INT(rows_in(f.pool), ==, 3);
}

/* A limit is each one's own: the others' bytes are not his, nor his theirs. */
TEST_ROWS(group, limits_each_by_itself, MODES)
{
	static const char large[] = "INSERT INTO t(v) SELECT length(hex(zeroblob(400000)))";
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	struct call calls[4] = { { .options.bytes_max = 300000 },
		                 { .sql = large },
		                 { .sql = large, .options.bytes_max = 300000 },
		                 { .options.bytes_max = 300000 } };

	calls_group(&f, calls, 4, row == 1);
	for (unsigned i = 0; i < 4; i++)
		if (i != 2)
			must(calls[i].status, &calls[i].error);
	CHECK_INT(calls[2].status, ==, PP_NOMEM);
	CHECK_CONTAINS(calls[2].error.message, "transaction");
	CHECK_INT(stats(f.pool).refusals, ==, 1);
	CHECK_INT(rows_in(f.pool), ==, 3);
}

/* Takes all that he may and keeps it, in statements of the size of the one that undoes his work. */
static enum pp_status use_up(struct pp_lease *lease, void *context)
{
	enum pp_status status = run_sql(lease, context);
	sqlite3_stmt *stmt;
	char text[64];

	for (unsigned i = 0; status == PP_OK; i++) {
		snprintf(text, sizeof text, "ROLLBACK TO pp_%016x_1", i);
		status = pp_prepare(lease, text, &stmt, NULL);
	}
	return status;
}

/* To undo what he did needs memory too, which is not limited: the group goes on without him. */
TEST_ROWS(group, undoes_one_who_has_used_up_his_limit, MODES)
{
	CLEANUP(fixture_close)
	struct fixture f = fixture_config((struct pp_config){
		.readers = 1, .statements_max = 10000, .statements_bytes_max = 1 << 30 });
	struct call calls[3] = { [1] = { .work = use_up, .options.bytes_max = 200000 } };

	calls_group(&f, calls, 3, row == 1);
	CHECK_INT(calls[1].status, ==, PP_NOMEM);
	CHECK_CONTAINS(calls[1].error.message, "transaction");
	must(calls[0].status, &calls[0].error);
	must(calls[2].status, &calls[2].error);
	CHECK_INT(stats(f.pool).reruns, ==, 0);
	CHECK_INT(stats(f.pool).groups, ==, 1);
	CHECK_INT(rows_in(f.pool), ==, 2);
}

/* Each allocation fails once, and then each and all after it: who is told that it failed is not in
 * the file, who is told that it did not is. */
static void fail_at(struct fixture *f, unsigned n, bool lasting, bool any_thread, bool *ret_hit)
{
	struct call calls[MEMBERS] = { 0 };
	char texts[MEMBERS][64], text[128];
	struct pp_lease lease = { 0 };

	for (unsigned i = 0; i < MEMBERS; i++) {
		snprintf(texts[i], sizeof texts[i], "INSERT INTO t(v) VALUES (%u)", n * 10 + i);
		calls[i].sql = texts[i];
		calls[i].options.attempts_max = 1;
	}
	acquire_elsewhere(f->pool, PP_WRITE, &lease);
	calls_line_up(f, calls, MEMBERS, any_thread);
	heap_plan(n, lasting);
	pp_release(&lease);
	calls_join(calls, MEMBERS);
	*ret_hit = heap.failed > 0;
	heap_plan(0, false);
	for (unsigned i = 0; i < MEMBERS; i++) {
		snprintf(text, sizeof text, "SELECT count(*) FROM t WHERE v = %u", n * 10 + i);
		CHECK_MSG(ask(f->pool, text) == (calls[i].status == PP_OK),
		          "allocation %u, member %u: %s", n, i, pp_status_name(calls[i].status));
		CHECK(calls[i].status == PP_OK || calls[i].status == PP_NOMEM ||
		      calls[i].status == PP_ROLLED_BACK);
	}
}

TEST_ROWS(group, survives_each_allocation_that_can_fail, 4)
{
	struct fixture f;
	bool hit = true;

	heap_install();
	f = fixture_config((struct pp_config){ .readers = 1, .keeper = PP_KEEPER_MANUAL });
	for (unsigned n = 1; hit && n < 2000; n += RUNNING_ON_VALGRIND ? 7 : 1)
		fail_at(&f, n, row / 2 == 1, row % 2 == 1, &hit);
	CHECK(!hit);
	fixture_close(&f);
}

/* Committed into a file that is gone: all are told, and nobody is run again. */
static enum pp_status unlink_it(struct pp_lease *lease, void *context)
{
	struct call *call = context;

	CHECK_INT(unlink(call->context), ==, 0);
	return run_sql(lease, context);
}

TEST_ROWS(group, whose_file_is_gone_is_told_so, MODES)
{
	CLEANUP(fixture_remove) struct fixture f = fixture_open(1);
	struct call calls[3] = { [1] = { .work = unlink_it, .context = f.path } };

	calls_group(&f, calls, 3, row == 1);
	for (unsigned i = 0; i < 3; i++) {
		CHECK_INT(calls[i].status, ==, PP_FILE_CHANGED);
		CHECK_INT(calls[i].error.status, ==, PP_FILE_CHANGED);
		CHECK_INT(calls[i].runs, ==, 1);
	}
	CHECK_INT(stats(f.pool).reruns, ==, 0);
	CHECK_INT(stats(f.pool).writes, ==, 0);
	CHECK_INT(pp_close(f.pool, PP_FOREVER, NULL), ==, PP_OK);
}
