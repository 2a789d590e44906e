/* Begin, commit, roll back, nest; pp_transact() and what can go wrong inside. */
/* SPDX-License-Identifier: MIT */
#include "fixture.h"

#include "internal.h"

TEST(transaction, commit_keeps_and_rollback_undoes)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	struct pp_lease lease = { 0 };

	acquire(f.pool, PP_WRITE, &lease);
	must(pp_begin(&lease, NULL), NULL);
	CHECK_INT(sqlite3_txn_state(lease.db, NULL), ==, SQLITE_TXN_WRITE); /* IMMEDIATE. */
	sql(lease.db, "INSERT INTO t VALUES (1, 1)");
	must(pp_commit(&lease, NULL), NULL);
	must(pp_begin(&lease, NULL), NULL);
	sql(lease.db, "INSERT INTO t VALUES (2, 2)");
	must(pp_rollback(&lease, NULL), NULL);
	pp_release(&lease);
	CHECK_INT(rows_in(f.pool), ==, 1);
	CHECK_INT(stats(f.pool).commits, ==, 1);
	CHECK_INT(stats(f.pool).rollbacks, ==, 1);
	CHECK_INT(stats(f.pool).dirty, ==, 0);
}

TEST(transaction, nests)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	struct pp_lease lease = { 0 };

	acquire(f.pool, PP_WRITE, &lease);
	must(pp_begin(&lease, NULL), NULL);
	sql(lease.db, "INSERT INTO t VALUES (1, 1)");
	must(pp_begin(&lease, NULL), NULL);
	sql(lease.db, "INSERT INTO t VALUES (2, 2)");
	must(pp_begin(&lease, NULL), NULL);
	sql(lease.db, "INSERT INTO t VALUES (3, 3)");
	must(pp_commit(&lease, NULL), NULL);
	must(pp_rollback(&lease, NULL), NULL); /* Takes 2, and 3 within it. */
	must(pp_begin(&lease, NULL), NULL);
	sql(lease.db, "INSERT INTO t VALUES (4, 4)");
	must(pp_commit(&lease, NULL), NULL);
	must(pp_commit(&lease, NULL), NULL);
	pp_release(&lease);
	CHECK_INT(rows_in(f.pool), ==, 2);
	CHECK_INT(stats(f.pool).commits, ==, 1);
}

TEST(transaction, on_a_reader_is_one_snapshot)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	struct pp_lease r = { 0 }, w = { 0 };

	acquire(f.pool, PP_READ, &r);
	acquire(f.pool, PP_WRITE, &w);
	must(pp_begin(&r, NULL), NULL);
	CHECK_INT(number(r.db, "SELECT count(*) FROM t"), ==, 0);
	sql(w.db, "INSERT INTO t DEFAULT VALUES");
	CHECK_INT(number(r.db, "SELECT count(*) FROM t"), ==, 0);
	must(pp_commit(&r, NULL), NULL);
	CHECK_INT(number(r.db, "SELECT count(*) FROM t"), ==, 1);
	pp_release(&r);
	pp_release(&w);
}

TEST(transaction, that_was_not_begun_cannot_end)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	struct pp_lease lease = { 0 };
	struct pp_error error;

	acquire(f.pool, PP_WRITE, &lease);
	CHECK_INT(pp_commit(&lease, &error), ==, PP_MISUSE);
	CHECK_INT(pp_rollback(&lease, &error), ==, PP_MISUSE);
	sql(lease.db, "BEGIN");
	CHECK_INT(pp_begin(&lease, &error), ==, PP_MISUSE);
	CHECK_CONTAINS(error.message, "did not begin");
	pp_release(&lease);
}

/* Ways in which a transaction ends under the one who began it; each with result code 0 from SQLite
 * all the way, or an error that a careless caller ignores. */
static const struct {
	const char *what, *sql;
} endings[] = {
	{ "ROLLBACK", "ROLLBACK" },
	{ "ROLLBACK and a new BEGIN", "ROLLBACK; BEGIN; INSERT INTO t VALUES (2, 2)" },
	{ "ROLLBACK, BEGIN and the name of our savepoint", "ROLLBACK; BEGIN; SAVEPOINT pp_1" },
	{ "COMMIT", "COMMIT" },
	{ "END and a new BEGIN", "END; BEGIN" },
	{ "OR ROLLBACK", "INSERT INTO t VALUES (5, 5); INSERT OR ROLLBACK INTO t VALUES (5, 6)" },
	{ "RAISE(ROLLBACK)", "INSERT INTO t VALUES (77, 77)" },
};

static void end_it(struct pp_lease *lease, int row)
{
	sqlite3_exec(lease->db,
	             "CREATE TRIGGER cut BEFORE INSERT ON t WHEN new.id = 77 "
	             "BEGIN SELECT RAISE(ROLLBACK, 'cut'); END",
	             NULL, NULL, NULL);
	sqlite3_exec(lease->db, "INSERT INTO t VALUES (1, 1)", NULL, NULL, NULL);
	sqlite3_exec(lease->db, endings[row].sql, NULL, NULL, NULL);
}

TEST_ROWS(transaction, that_was_ended_inside_does_not_commit, sizeof endings / sizeof *endings)
{
	for (unsigned nested = 0; nested < 2; nested++) {
		CLEANUP(fixture_close) struct fixture f = fixture_open(1);
		struct pp_lease lease = { 0 };
		struct pp_error error;

		acquire(f.pool, PP_WRITE, &lease);
		for (unsigned i = 0; i <= nested; i++)
			must(pp_begin(&lease, NULL), NULL);
		end_it(&lease, row);
		CHECK_INT(pp_begin(&lease, &error), ==, PP_ROLLED_BACK);
		for (unsigned i = 0; i <= nested; i++)
			CHECK_MSG(pp_commit(&lease, &error) == PP_ROLLED_BACK, "%s",
			          endings[row].what);
		CHECK(sqlite3_get_autocommit(lease.db));
		CHECK_INT(pp_commit(&lease, &error), ==, PP_MISUSE); /* All levels are over. */
		pp_release(&lease);
		CHECK_INT(rows_in(f.pool), ==, 0);
		CHECK_INT(stats(f.pool).lost, ==, 1);
		CHECK_INT(stats(f.pool).commits, ==, 0);
	}
}

TEST(transaction, rollback_of_a_dead_one_succeeds)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	struct pp_lease lease = { 0 };

	acquire(f.pool, PP_WRITE, &lease);
	must(pp_begin(&lease, NULL), NULL);
	must(pp_begin(&lease, NULL), NULL);
	sql(lease.db, "ROLLBACK");
	must(pp_rollback(&lease, NULL), NULL);
	must(pp_rollback(&lease, NULL), NULL);
	pp_release(&lease);
	CHECK_INT(stats(f.pool).lost, ==, 1);
}

/* The error the user sees is the first one, not "no transaction is active". */
TEST(transaction, tells_the_first_error)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	struct pp_lease lease = { 0 };
	struct pp_error error;

	acquire(f.pool, PP_WRITE, &lease);
	must(pp_begin(&lease, NULL), NULL);
	sqlite3_exec(lease.db,
	             "INSERT INTO t VALUES (1, 1); INSERT OR ROLLBACK INTO t VALUES (1, 1)", NULL,
	             NULL, NULL);
	CHECK_INT(pp_commit(&lease, &error), ==, PP_ROLLED_BACK);
	CHECK_CONTAINS(error.message, "UNIQUE constraint failed: t.id");
	pp_release(&lease);
}

TEST(transaction, whose_commit_fails_is_rolled_back)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	struct pp_lease lease = { 0 };
	struct pp_error error;

	acquire(f.pool, PP_WRITE, &lease);
	sql(lease.db, "CREATE TABLE child(p REFERENCES t(id) DEFERRABLE INITIALLY DEFERRED)");
	pp_release(&lease);
	acquire(f.pool, PP_WRITE, &lease);
	sql(lease.db, "PRAGMA foreign_keys=ON");
	must(pp_begin(&lease, NULL), NULL);
	sql(lease.db, "INSERT INTO child VALUES (404); INSERT INTO t VALUES (1, 1)");
	CHECK_INT(pp_commit(&lease, &error), ==, PP_SQLITE);
	CHECK_INT(error.sqlite_code & 0xff, ==, SQLITE_CONSTRAINT);
	CHECK_CONTAINS(error.message, "FOREIGN KEY");
	CHECK(sqlite3_get_autocommit(lease.db));
	pp_release(&lease);
	CHECK_INT(rows_in(f.pool), ==, 0);
	CHECK_INT(stats(f.pool).dirty_transaction, ==, 0); /* Not left for the release to mend. */
}

/* --- pp_transact() ------------------------------------------------------------------------- */

struct job {
	struct pp_pool *pool;
	unsigned runs;
	unsigned busy_runs; /* How often to fail with SQLITE_BUSY first. */
	const char *sql;
	enum pp_status status;
	enum pp_status inner[6];
	struct pp_error inner_error;
};

static enum pp_status do_job(struct pp_lease *lease, void *context)
{
	struct job *job = context;

	job->runs++;
	if (sqlite3_exec(lease->db, job->sql, NULL, NULL, NULL) != SQLITE_OK)
		return PP_SQLITE;
	return job->status;
}

TEST(transact, commits_when_the_callback_agrees)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	struct job job = { .sql = "INSERT INTO t VALUES (1, 1)" };

	must(pp_transact(f.pool, NULL, do_job, &job, NULL), NULL);
	CHECK_INT(rows_in(f.pool), ==, 1);
	CHECK_INT(job.runs, ==, 1);
	CHECK_INT(stats(f.pool).commits, ==, 1);
}

static const struct {
	const char *what, *sql;
	enum pp_status returns, expected;
	int code;
} failures[] = {
	{ "change of mind", "INSERT INTO t VALUES (1, 1)", PP_ABORTED, PP_ABORTED, 0 },
	{ "constraint", "INSERT INTO t VALUES (1, 1); INSERT INTO t VALUES (1, 2)", PP_OK,
	  PP_SQLITE, SQLITE_CONSTRAINT_PRIMARYKEY },
	{ "bad statement", "INSERT INTO t VALUES (1, 1); nonsense", PP_OK, PP_SQLITE,
	  SQLITE_ERROR },
	{ "out of memory", "INSERT INTO t VALUES (1, 1)", PP_NOMEM, PP_NOMEM, SQLITE_OK },
	{ "another pool is a parent's", "INSERT INTO t VALUES (1, 1)", PP_FORKED, PP_FORKED, 0 },
	{ "ended inside", "INSERT INTO t VALUES (1, 1); ROLLBACK; BEGIN; SAVEPOINT p", PP_OK,
	  PP_ROLLED_BACK, 0 },
	{ "committed inside", "INSERT INTO t VALUES (1, 1); COMMIT", PP_OK, PP_SQLITE,
	  SQLITE_CONSTRAINT_COMMITHOOK },
};

TEST_ROWS(transact, rolls_back_on_every_error_path, sizeof failures / sizeof *failures)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	struct job job = { .sql = failures[row].sql, .status = failures[row].returns };
	struct pp_error error = { 0 };

	CHECK_MSG(pp_transact(f.pool, NULL, do_job, &job, &error) == failures[row].expected,
	          "%s: %s", failures[row].what, error.message);
	CHECK_INT(error.status, ==, failures[row].expected);
	if (failures[row].code != 0)
		CHECK_INT(error.sqlite_code, ==, failures[row].code);
	CHECK_INT(job.runs, ==, 1);
	CHECK_INT(rows_in(f.pool), ==, 0);
	CHECK_INT(stats(f.pool).dirty, ==, 0);
	CHECK_INT(error.connections, ==, 2);
}

static enum pp_status work_busily(struct pp_lease *lease, void *context)
{
	struct job *job = context;

	sql(lease->db, "INSERT INTO t DEFAULT VALUES");
	if (job->runs++ < job->busy_runs) {
		/* What SQLite says when the file is locked: the code is on the connection. */
		sqlite3_exec(lease->db, "SELECT fail_with(5)", NULL, NULL, NULL);
		return PP_SQLITE;
	}
	return PP_OK;
}

TEST(transact, runs_again_on_an_error_of_the_retry_class)
{
	CLEANUP(fixture_close)
	struct fixture f =
		fixture_config((struct pp_config){ .readers = 1, .on_open = add_fail_with });
	struct job job = { .busy_runs = 2 };
	struct pp_error error = { 0 };

	must(pp_transact(f.pool, NULL, work_busily, &job, &error), &error);
	CHECK_INT(job.runs, ==, 3);
	CHECK_INT(stats(f.pool).retries, ==, 2);
	CHECK_INT(rows_in(f.pool), ==, 1); /* What the first two did is undone. */
}

TEST(transact, gives_up_after_its_attempts_and_tells_all)
{
	CLEANUP(fixture_close)
	struct fixture f =
		fixture_config((struct pp_config){ .readers = 1, .on_open = add_fail_with });
	struct job job = { .busy_runs = 100 };
	struct pp_error error = { 0 };
	char text[1024];

	CHECK_INT(pp_transact(f.pool, &(struct pp_transaction){ .attempts_max = 3 }, work_busily,
	                      &job, &error),
	          ==, PP_SQLITE);
	CHECK_INT(job.runs, ==, 3);
	CHECK_INT(error.attempt, ==, 3);
	CHECK_INT(error.cause_count, ==, 2);
	CHECK_INT(error.error_class, ==, PP_RETRY_TRANSACTION);
	pp_error_text(&error, text, sizeof text);
	CHECK_CONTAINS(text, "attempt 3");
	CHECK_CONTAINS(text, "database is locked");
	CHECK_CONTAINS(text, "because work: database is locked");
}

/* The deadline is over when the first attempt fails: there is no second. */
TEST(transact, never_retries_past_its_deadline)
{
	CLEANUP(fixture_close)
	struct fixture f =
		fixture_config((struct pp_config){ .readers = 1, .on_open = add_fail_with });
	struct job job = { .busy_runs = 1000 };
	struct pp_error error = { 0 };

	CHECK_INT(pp_transact(
			  f.pool,
			  &(struct pp_transaction){ .attempts_max = 1000, .deadline = PP_NO_WAIT },
			  work_busily, &job, &error),
	          ==, PP_SQLITE);
	CHECK_INT(job.runs, ==, 1);
	CHECK_INT(error.attempt, ==, 1);
	CHECK_INT(stats(f.pool).retries, ==, 0);
}

static enum pp_status fail_shortly_before_the_deadline(struct pp_lease *lease, void *context)
{
	const struct pp_transaction *options = context;
	uint64_t now;

	sqlite3_exec(lease->db, "SELECT fail_with(5)", NULL, NULL, NULL);
	now = clock_ns();
	if (now + 500000 < options->deadline.ns)
		clock_pass_ns(options->deadline.ns - 500000 - now);
	return PP_SQLITE;
}

/* The shortest pause is a millisecond, and half of one is left. */
TEST(transact, does_not_pause_past_its_deadline)
{
	CLEANUP(fixture_close)
	struct fixture f =
		fixture_config((struct pp_config){ .readers = 1, .on_open = add_fail_with });
	struct pp_transaction options = { .deadline = pp_in_ms(60000) };
	struct pp_error error = { 0 };

	CHECK_INT(pp_transact(f.pool, &options, fail_shortly_before_the_deadline, &options, &error),
	          ==, PP_SQLITE);
	CHECK_INT(error.attempt, ==, 1);
	CHECK_INT(stats(f.pool).retries, ==, 0);
}

static enum pp_status call_the_pool(struct pp_lease *lease, void *context)
{
	struct job *job = context;
	struct pp_lease other = { 0 }, copy = *lease;

	job->inner[0] = pp_acquire(job->pool, PP_READ, PP_FOREVER, &other, &job->inner_error);
	job->inner[1] = pp_transact(job->pool, NULL, do_job, job, NULL);
	job->inner[2] = pp_release(&copy);
	job->inner[3] = pp_close(job->pool, PP_NO_WAIT, NULL);
	job->inner[4] = pp_commit(lease, NULL);
	job->inner[5] = pp_rollback(lease, NULL);
	must(pp_begin(lease, NULL), NULL);
	sql(lease->db, "INSERT INTO t VALUES (1, 1)");
	must(pp_rollback(lease, NULL), NULL);
	sql(lease->db, "INSERT INTO t VALUES (2, 2)");
	return PP_OK;
}

TEST(transact, refuses_calls_on_its_pool_from_inside_but_nests)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(2);
	struct job job = { .pool = f.pool };

	must(pp_transact(f.pool, NULL, call_the_pool, &job, NULL), NULL);
	for (unsigned i = 0; i < 6; i++)
		CHECK_MSG(job.inner[i] == PP_MISUSE, "call %u: %s", i,
		          pp_status_name(job.inner[i]));
	CHECK_CONTAINS(job.inner_error.message, "inside pp_transact()");
	CHECK_INT(rows_in(f.pool), ==, 1);
}

static enum pp_status leave_nested_open(struct pp_lease *lease, void *context)
{
	(void)context;
	sql(lease->db, "INSERT INTO t VALUES (1, 1)");
	must(pp_begin(lease, NULL), NULL);
	return PP_OK;
}

TEST(transact, does_not_commit_what_is_left_open_inside)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	struct pp_error error;

	CHECK_INT(pp_transact(f.pool, NULL, leave_nested_open, NULL, &error), ==, PP_MISUSE);
	CHECK_CONTAINS(error.message, "left 1 of its pp_begin() open");
	CHECK_INT(rows_in(f.pool), ==, 0);
}

TEST(transact, refuses_options_out_of_range)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	struct job job = { .sql = "SELECT 1" };
	struct pp_error error;

	CHECK_INT(pp_transact(f.pool, &(struct pp_transaction){ .attempts_max = 1001 }, do_job,
	                      &job, &error),
	          ==, PP_INVALID);
	CHECK_CONTAINS(error.message, "attempts_max 1001 must be 1..1000");
	CHECK_INT(pp_transact(f.pool, &(struct pp_transaction){ .lane = 7 }, do_job, &job, &error),
	          ==, PP_INVALID);
	CHECK_INT(job.runs, ==, 0);
}

TEST(transact, on_the_read_lane_reads)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	struct job job = { .sql = "SELECT * FROM t" };

	must(pp_transact(f.pool, &(struct pp_transaction){ .lane = PP_READ }, do_job, &job, NULL),
	     NULL);
	CHECK_INT(stats(f.pool).read.acquires, ==, 1);
}

/* --- Another process' lock ----------------------------------------------------------------- */

/* A handle of our own stands for another process: between handles SQLite locks just the same. */
TEST(busy, waits_for_a_foreign_lock_only_until_the_deadline)
{
	CLEANUP(fixture_close)
	struct fixture f = /* A day: only the deadline can end it. */
		fixture_config((struct pp_config){ .readers = 1, .busy_timeout_ms = 86400000 });
	struct job job = { .sql = "INSERT INTO t DEFAULT VALUES" };
	struct pp_error error;
	sqlite3 *other;

	CHECK_INT(sqlite3_open(f.path, &other), ==, SQLITE_OK);
	sql(other, "BEGIN IMMEDIATE");
	CHECK_INT(pp_transact(f.pool, &(struct pp_transaction){ .deadline = pp_in_ms(50) }, do_job,
	                      &job, &error),
	          ==, PP_SQLITE);
	CHECK_INT(error.sqlite_code & 0xff, ==, SQLITE_BUSY);
	CHECK_STR(error.doing, "BEGIN IMMEDIATE");
	CHECK_INT(error.elapsed_ns, >=, 40000000);
	CHECK_INT(job.runs, ==, 0);
	sql(other, "COMMIT");
	must(pp_transact(f.pool, NULL, do_job, &job, &error), &error);
	sqlite3_close(other);
}
