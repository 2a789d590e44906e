/* pp_write(): what one of a group does wrong, and that the others do not feel it. */
/* SPDX-License-Identifier: MIT */
#include "group.h"

enum { MODES = 2, MEMBERS = 3 };

/* --- Who does something wrong --------------------------------------------------------------- */

static enum pp_status leave_open(struct pp_lease *lease, void *context)
{
	must(pp_begin(lease, NULL), NULL);
	return run_sql(lease, context);
}

static enum pp_status change_his_mind(struct pp_lease *lease, void *context)
{
	must(run_sql(lease, context), NULL);
	return PP_ABORTED;
}

/* What a pool of the parent's says, in a child that has one of its own. */
static enum pp_status meet_another_process(struct pp_lease *lease, void *context)
{
	must(run_sql(lease, context), NULL);
	return PP_FORKED;
}

static enum pp_status take_no_notice(struct pp_lease *lease, void *context)
{
	run_sql(lease, context);
	return PP_OK;
}

static enum pp_status blind_the_pool(struct pp_lease *lease, void *context)
{
	sqlite3_rollback_hook(lease->db, NULL, NULL);
	return run_sql(lease, context);
}

static enum pp_status blind_it_and_fail(struct pp_lease *lease, void *context)
{
	sqlite3_commit_hook(lease->db, NULL, NULL);
	run_sql(lease, context);
	return PP_ABORTED;
}

static const struct {
	const char *what;
	pp_work *work;
	const char *sql;
	enum pp_status status;
	int code;
	const char *message;
	bool ends_all; /* And not only what he did. */
} wrongs[] = {
	{ "a constraint", NULL, "INSERT INTO t(v) VALUES (500); INSERT INTO t(v) VALUES (500)",
	  PP_SQLITE, SQLITE_CONSTRAINT_UNIQUE, "UNIQUE", false },
	{ "a change of mind", change_his_mind, "INSERT INTO t(v) VALUES (500)", PP_ABORTED, 0, "",
	  false },
	{ "another pool that is a parent's", meet_another_process, "INSERT INTO t(v) VALUES (500)",
	  PP_FORKED, 0, "", false },
	{ "a bad statement", NULL, "INSERT INTO t(v) VALUES (500); nonsense", PP_SQLITE,
	  SQLITE_ERROR, "syntax error", false },
	{ "pp_begin() left open", leave_open, "INSERT INTO t(v) VALUES (500)", PP_MISUSE, 0,
	  "left 1 of its pp_begin() open", false },
	{ "a deferred foreign key", NULL,
	  "INSERT INTO t(v) VALUES (500); INSERT INTO child VALUES (404)", PP_SQLITE,
	  SQLITE_CONSTRAINT_FOREIGNKEY, "FOREIGN KEY constraint failed", false },
	{ "BEGIN", NULL, "INSERT INTO t(v) VALUES (500); BEGIN", PP_SQLITE, SQLITE_ERROR,
	  "within a transaction", false },
	{ "VACUUM", NULL, "INSERT INTO t(v) VALUES (500); VACUUM", PP_SQLITE, SQLITE_ERROR,
	  "VACUUM", false },
	{ "a RELEASE too many", NULL,
	  "INSERT INTO t(v) VALUES (500); SAVEPOINT a; RELEASE a; RELEASE a", PP_SQLITE,
	  SQLITE_ERROR, "no such savepoint", false },
	{ "OR ROLLBACK", NULL,
	  "INSERT INTO t(v) VALUES (500); INSERT OR ROLLBACK INTO t(v) VALUES (500)", PP_SQLITE,
	  SQLITE_CONSTRAINT_UNIQUE, "UNIQUE", true },
	{ "OR ROLLBACK that is taken no notice of", take_no_notice,
	  "INSERT INTO t(v) VALUES (500); INSERT OR ROLLBACK INTO t(v) VALUES (500)",
	  PP_ROLLED_BACK, SQLITE_CONSTRAINT_UNIQUE, "UNIQUE", true },
	{ "RAISE(ROLLBACK)", NULL, "INSERT INTO t(v) VALUES (500), (77)", PP_SQLITE,
	  SQLITE_CONSTRAINT_TRIGGER, "cut", true },
	{ "ROLLBACK", NULL, "INSERT INTO t(v) VALUES (500); ROLLBACK", PP_ROLLED_BACK, 0,
	  "ended it", true },
	{ "ROLLBACK and a new BEGIN", NULL, "ROLLBACK; BEGIN; INSERT INTO t(v) VALUES (500)",
	  PP_ROLLED_BACK, 0, "ended it", true },
	{ "ROLLBACK, BEGIN and a savepoint", NULL,
	  "ROLLBACK; BEGIN; SAVEPOINT pp_1; INSERT INTO t(v) VALUES (500)", PP_ROLLED_BACK, 0,
	  "ended it", true },
	{ "COMMIT", NULL, "INSERT INTO t(v) VALUES (500); COMMIT", PP_SQLITE,
	  SQLITE_CONSTRAINT_COMMITHOOK, "", true },
	{ "an error of the disk", NULL, "INSERT INTO t(v) VALUES (500); SELECT fail_ioerr()",
	  PP_SQLITE, SQLITE_IOERR_READ, "", true },
	{ "ROLLBACK behind the pool's back", blind_the_pool,
	  "ROLLBACK; BEGIN; SAVEPOINT p; INSERT INTO t(v) VALUES (500)", PP_MISUSE, 0,
	  "replaced the commit or the rollback hook", true },
	{ "a failure behind the pool's back", blind_it_and_fail, "INSERT INTO t(v) VALUES (500)",
	  PP_ABORTED, 0, "", true },
};

enum { WRONGS = sizeof wrongs / sizeof *wrongs };

/* The one at place is wrong; the others are there exactly once. */
static void go_wrong(struct fixture *f, int wrong, unsigned place, bool any_thread)
{
	struct call calls[MEMBERS] = { 0 };
	char texts[MEMBERS][64], text[128];
	struct pp_stats before = stats(f->pool);

	for (unsigned i = 0; i < MEMBERS; i++) {
		snprintf(texts[i], sizeof texts[i], "INSERT INTO t(v) VALUES (%u)", place * 10 + i);
		calls[i].sql = texts[i];
	}
	calls[place].sql = wrongs[wrong].sql;
	calls[place].work = wrongs[wrong].work;
	calls_group(f, calls, MEMBERS, any_thread);
	for (unsigned i = 0; i < MEMBERS; i++) {
		bool again = i < place && wrongs[wrong].ends_all;

		snprintf(text, sizeof text, "SELECT count(*) FROM t WHERE v = %u", place * 10 + i);
		CHECK_MSG(ask(f->pool, text) == (i != place), "%s at %u: row %u",
		          wrongs[wrong].what, place, i);
		CHECK_INT(calls[i].runs, ==, 1 + again);
		if (i != place)
			must(calls[i].status, &calls[i].error);
	}
	CHECK_MSG(calls[place].status == wrongs[wrong].status, "%s at %u: %s: %s",
	          wrongs[wrong].what, place, pp_status_name(calls[place].status),
	          calls[place].error.message);
	CHECK_INT(calls[place].error.status, ==, wrongs[wrong].status);
	CHECK_INT(calls[place].error.attempt, ==, 1);
	CHECK_INT(calls[place].error.connections, ==, 2);
	CHECK_CONTAINS(calls[place].error.message, wrongs[wrong].message);
	if (wrongs[wrong].code != 0)
		CHECK_INT(calls[place].error.sqlite_code, ==, wrongs[wrong].code);
	CHECK_INT(ask(f->pool, "SELECT count(*) FROM t WHERE v = 500"), ==, 0);
	CHECK_INT(ask(f->pool, "SELECT count(*) FROM child"), ==, 0);
	CHECK_INT(stats(f->pool).reruns - before.reruns, ==, wrongs[wrong].ends_all ? place : 0);
}

TEST_ROWS(group, goes_on_when_one_of_it_does_wrong, WRONGS *MODES)
{
	CLEANUP(fixture_close) struct fixture f = with_traps((struct pp_config){ 0 });

	for (unsigned place = 0; place < MEMBERS; place++)
		go_wrong(&f, row / MODES, place, row % MODES == 1);
	CHECK_INT(stats(f.pool).dirty_transaction, ==, 0);
	CHECK_INT(rows_in(f.pool), ==, MEMBERS * (MEMBERS - 1));
}

/* --- Who leaves something ------------------------------------------------------------------- */

static enum pp_status leave_rows_unread(struct pp_lease *lease, void *context)
{
	struct call *call = context;
	sqlite3_stmt *stmt;

	atomic_fetch_add(&call->runs, 1);
	must(pp_prepare(lease, "INSERT INTO t(v) VALUES (?1), (?1 + 1) RETURNING id", &stmt, NULL),
	     NULL);
	sqlite3_bind_int(stmt, 1, *(const int *)call->context);
	return sqlite3_step(stmt) == SQLITE_ROW ? PP_OK : PP_SQLITE;
}

/* His statement is his: nobody finalizes it, but it does not go on running either. */
static enum pp_status leave_his_own_running(struct pp_lease *lease, void *context)
{
	struct call *call = context;
	sqlite3_stmt **stmt = call->context;

	atomic_fetch_add(&call->runs, 1);
	CHECK_INT(sqlite3_prepare_v2(lease->db, call->sql, -1, stmt, NULL), ==, SQLITE_OK);
	return sqlite3_step(*stmt) == SQLITE_ROW ? PP_OK : PP_SQLITE;
}

TEST_ROWS(group, is_not_kept_by_a_statement_left_running, MODES)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	sqlite3_stmt *reads = NULL, *writes = NULL;
	struct call calls[5] = {
		{ .work = leave_rows_unread, .context = &(int){ 10 } },
		{ .work = leave_his_own_running,
		  .sql = "INSERT INTO t(v) VALUES (20), (21) RETURNING id",
		  .context = &writes },
		{ .work = leave_rows_unread, .context = &(int){ 30 } },
		{ .work = leave_his_own_running, .sql = "SELECT * FROM t", .context = &reads },
		{ .sql = "INSERT INTO t(v) VALUES (40)" },
	};

	calls_group(&f, calls, 5, row == 1);
	for (unsigned i = 0; i < 5; i++) {
		must(calls[i].status, &calls[i].error);
		CHECK_INT(calls[i].runs, ==, 1);
	}
	CHECK_INT(stats(f.pool).groups, ==, 1);
	CHECK_INT(stats(f.pool).dirty_statements, ==, 1);
	CHECK_INT(stats(f.pool).retired, ==, 1);
	CHECK_INT(rows_in(f.pool), ==, 7);
	sqlite3_finalize(reads);
	sqlite3_finalize(writes);
}

/* The same names in each, left open, rolled back to. */
TEST_ROWS(group, has_room_for_savepoints_of_its_members, MODES)
{
	static const char left[] = "SAVEPOINT a; INSERT INTO t DEFAULT VALUES; SAVEPOINT a;"
				   "INSERT INTO t DEFAULT VALUES; ROLLBACK TO a; SAVEPOINT b";
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	struct call calls[4] = {
		{ .sql = left }, { .sql = left }, { .sql = left }, { .sql = left }
	};

	calls_group(&f, calls, 4, row == 1);
	for (unsigned i = 0; i < 4; i++)
		must(calls[i].status, &calls[i].error);
	CHECK_INT(stats(f.pool).groups, ==, 1);
	CHECK_INT(stats(f.pool).dirty, ==, 0);
	CHECK_INT(rows_in(f.pool), ==, 4);
}

static const struct {
	const char *what, *sql;
} settings[] = {
	{ "a pragma", "PRAGMA recursive_triggers=ON" },
	{ "a temporary table", "CREATE TEMP TABLE mine(x)" },
	{ "an attached file", "ATTACH ':memory:' AS mine" },
};

static enum pp_status expect_clean(struct pp_lease *lease, void *context)
{
	CHECK_INT(number(lease->db, "PRAGMA recursive_triggers"), ==, 0);
	CHECK_INT(number(lease->db, "SELECT count(*) FROM sqlite_temp_schema"), ==, 0);
	CHECK_INT(number(lease->db, "SELECT count(*) FROM pragma_database_list WHERE name = "
	                            "'mine'"),
	          ==, 0);
	return run_sql(lease, context);
}

/* What cannot be undone goes with the connection: those behind are another group's. */
TEST_ROWS(group, ends_with_who_changes_the_connection, sizeof settings / sizeof *settings)
{
	for (unsigned any = 0; any < MODES; any++) {
		CLEANUP(fixture_close) struct fixture f = fixture_open(1);
		struct call calls[4] = { [1].sql = settings[row].sql,
			                 [2].work = expect_clean,
			                 [3].work = expect_clean };

		calls_group(&f, calls, 4, any == 1);
		for (unsigned i = 0; i < 4; i++)
			must(calls[i].status, &calls[i].error);
		CHECK_INT(stats(f.pool).groups, ==, 2);
		CHECK_INT(stats(f.pool).dirty_settings, ==, 1);
		CHECK_INT(rows_in(f.pool), ==, 3);
	}
}

static int deny(void *context, int action, const char *first, const char *second,
                const char *database, const char *trigger)
{
	(void)context, (void)first, (void)second, (void)database, (void)trigger;
	return action == SQLITE_INSERT ? SQLITE_DENY : SQLITE_OK;
}

static int stop_it(void *context)
{
	(void)context;
	return 1;
}

static enum pp_status set_all_there_is(struct pp_lease *lease, void *context)
{
	enum pp_status status = run_sql(lease, context);

	sqlite3_limit(lease->db, SQLITE_LIMIT_SQL_LENGTH, 4);
	sqlite3_set_last_insert_rowid(lease->db, 99);
	pp_progress_set(lease, 1, stop_it, NULL);
	return status;
}

static enum pp_status set_an_authorizer(struct pp_lease *lease, void *context)
{
	enum pp_status status = run_sql(lease, context);

	pp_authorizer_set(lease, deny, NULL);
	return status;
}

/* Hooks, handlers and limits of one are not the next one's. */
TEST_ROWS(group, takes_back_what_one_has_set, MODES)
{
	static const char longer[] = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 "
				     "FROM n LIMIT 20000) SELECT count(*) FROM n";
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	struct call calls[4] = { { .work = set_all_there_is },
		                 { .sql = longer },
		                 { .work = set_an_authorizer },
		                 { 0 } };

	calls_group(&f, calls, 4, row == 1);
	for (unsigned i = 0; i < 4; i++)
		must(calls[i].status, &calls[i].error);
	CHECK_INT(calls[0].written.last_insert_rowid, ==, 99); /* He said so. */
	CHECK_INT(calls[1].written.last_insert_rowid, ==, 0);
	CHECK_INT(stats(f.pool).groups, ==, 2);
	CHECK_INT(rows_in(f.pool), ==, 3);
}

/* Nobody else runs on a connection that is not to be trusted. */
TEST_ROWS(group, ends_with_an_error_of_the_disk, MODES)
{
	CLEANUP(fixture_close) struct fixture f = with_traps((struct pp_config){ 0 });
	struct call calls[3] = { { .sql = "SELECT fail_ioerr()" } };
	uint64_t acquires = stats(f.pool).write.acquires;

	calls_group(&f, calls, 3, row == 1);
	CHECK_INT(calls[0].status, ==, PP_SQLITE);
	must(calls[1].status, &calls[1].error);
	must(calls[2].status, &calls[2].error);
	CHECK_INT(stats(f.pool).retired, ==, 1);
	CHECK_INT(stats(f.pool).write.acquires - acquires, ==, 3); /* One is the test's own. */
	CHECK_INT(rows_in(f.pool), ==, 2);
}

/* Another process has the lock: who comes next stands in the line first, as others do. */
TEST_ROWS(group, ends_when_it_cannot_begin, MODES)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	struct call calls[2] = { { .options.deadline = pp_in_ms(3600000) },
		                 { .options.deadline = PP_FOREVER } };
	uint64_t acquires = stats(f.pool).write.acquires;
	struct pp_lease lease = { 0 };
	unsigned sleeps;
	sqlite3 *other;

	CHECK_INT(sqlite3_open(f.path, &other), ==, SQLITE_OK);
	acquire_elsewhere(f.pool, PP_WRITE, &lease);
	calls_line_up(&f, calls, 2, row == 1);
	sql(other, "BEGIN IMMEDIATE");
	sleeps = atomic_load(&sleeps_begun);
	pp_release(&lease);
	WAIT_FOR(atomic_load(&sleeps_begun) > sleeps); /* For the lock. */
	clock_travel_ms(3600000);
	pthread_join(calls[0].thread, NULL);
	CHECK(calls[0].status == PP_TIMEOUT || calls[0].status == PP_SQLITE);
	CHECK_STR(calls[0].error.doing, "BEGIN IMMEDIATE");
	CHECK_INT(calls[0].runs, ==, 0);
	sql(other, "COMMIT");
	sqlite3_close(other);
	pthread_join(calls[1].thread, NULL);
	must(calls[1].status, &calls[1].error);
	CHECK_INT(stats(f.pool).write.acquires - acquires, ==, 3);
}

/* What its BEGIN waits for another process is not of the time in which it takes members. */
TEST_ROWS(group, counts_its_time_from_its_beginning, MODES)
{
	CLEANUP(fixture_close)
	struct fixture f =
		fixture_config((struct pp_config){ .readers = 1, .busy_timeout_ms = 86400000 });
	struct call calls[3] = { 0 };
	struct pp_lease lease = { 0 };
	sqlite3 *other;

	CHECK_INT(sqlite3_open(f.path, &other), ==, SQLITE_OK);
	acquire_elsewhere(f.pool, PP_WRITE, &lease);
	calls_line_up(&f, calls, 3, row == 1);
	f.pool->group.take_ns = UINT64_C(3600000000000);
	sql(other, "BEGIN IMMEDIATE");
	atomic_store(&sleeps_begun, 0);
	pp_release(&lease);
	WAIT_FOR(atomic_load(&sleeps_begun) > 0);
	clock_travel_ms(2 * 3600000);
	sql(other, "COMMIT");
	sqlite3_close(other);
	calls_join(calls, 3);
	for (unsigned i = 0; i < 3; i++)
		must(calls[i].status, &calls[i].error);
	CHECK_INT(stats(f.pool).groups, ==, 1);
}
