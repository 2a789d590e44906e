/* Failing in the middle: savepoints, transactions that end by themselves, attempts, busy files. */
/* SPDX-License-Identifier: MIT */
#include "fixture.h"

#include "internal.h"

/* --- Savepoints --------------------------------------------------------------------------- */

/* A level that could not begin is not there: the one around it goes on. */
TEST(savepoint, that_cannot_be_prepared_begins_nothing)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	struct pp_lease lease = { 0 };
	struct pp_error error = { 0 };

	acquire(f.pool, PP_WRITE, &lease);
	must(pp_begin(&lease, NULL), NULL);
	sql(lease.db, "INSERT INTO t VALUES (1, 1)");
	sqlite3_limit(lease.db, SQLITE_LIMIT_SQL_LENGTH, 5);
	CHECK_INT(pp_begin(&lease, &error), ==, PP_SQLITE);
	CHECK_INT(error.sqlite_code, ==, SQLITE_TOOBIG);
	CHECK_CONTAINS(error.sql, "SAVEPOINT pp_");
	must(pp_commit(&lease, &error), &error);
	CHECK_INT(pp_commit(&lease, &error), ==, PP_MISUSE);
	pp_release(&lease);
	CHECK_INT(rows_in(f.pool), ==, 1);
}

/* A borrower who takes the pool's own savepoint away leaves nothing that could be kept or undone by
 * itself: the whole is undone, and its commit says so. */
TEST_ROWS(savepoint, that_was_released_inside_undoes_the_whole, 2)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	struct pp_lease lease = { 0 };
	struct pp_error error = { 0 };
	char release[64];

	acquire(f.pool, PP_WRITE, &lease);
	must(pp_begin(&lease, NULL), NULL);
	sql(lease.db, "INSERT INTO t VALUES (1, 1)");
	must(pp_begin(&lease, NULL), NULL);
	sql(lease.db, "INSERT INTO t VALUES (2, 2)");
	snprintf(release, sizeof release, "RELEASE pp_%016llx_1",
	         (unsigned long long)lease_slot(&lease)->connection.salt);
	sql(lease.db, release); /* He would have to look into the pool for the name. */
	if (row == 0) {
		CHECK_INT(pp_commit(&lease, &error), ==, PP_SQLITE);
		CHECK_STR(error.doing, "RELEASE");
		CHECK_CONTAINS(error.message, "no such savepoint: pp_");
	} else {
		must(pp_rollback(&lease, &error), &error);
		CHECK(error.doing == NULL); /* Written on failure only. */
	}
	CHECK(sqlite3_get_autocommit(lease.db));
	CHECK_INT(pp_begin(&lease, &error), ==, PP_ROLLED_BACK);
	CHECK_INT(pp_commit(&lease, &error), ==, PP_ROLLED_BACK);
	pp_release(&lease);
	CHECK_INT(rows_in(f.pool), ==, 0);
	CHECK_INT(stats(f.pool).lost, ==, 1);
}

/* --- Ended by SQLite ---------------------------------------------------------------------- */

static int interrupt(void *context)
{
	(void)context;
	return 1;
}

/* An interrupted write takes its whole transaction along. */
TEST(transaction, that_was_interrupted_does_not_commit)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	struct pp_lease lease = { 0 };
	struct pp_error error = { 0 };

	acquire(f.pool, PP_WRITE, &lease);
	must(pp_begin(&lease, NULL), NULL);
	sql(lease.db, "INSERT INTO t VALUES (1, 1)");
	sqlite3_progress_handler(lease.db, 10, interrupt, NULL);
	CHECK_INT(sqlite3_exec(lease.db,
	                       "WITH RECURSIVE c(i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM c "
	                       "LIMIT 1000) INSERT INTO t SELECT i, i FROM c",
	                       NULL, NULL, NULL),
	          ==, SQLITE_INTERRUPT);
	sqlite3_progress_handler(lease.db, 0, NULL, NULL);
	CHECK_INT(pp_commit(&lease, &error), ==, PP_ROLLED_BACK);
	CHECK_INT(error.sqlite_code, ==, SQLITE_INTERRUPT);
	CHECK_STR(error.message, "interrupted");
	pp_release(&lease);
	CHECK_INT(rows_in(f.pool), ==, 0);
	CHECK_INT(stats(f.pool).lost, ==, 1);
}

/* What SQLite said last may be no error at all, or nobody may want to know. */
TEST(transaction, that_was_ended_inside_says_so_without_an_error)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	struct pp_lease lease = { 0 };
	struct pp_error error = { 0 };
	sqlite3_stmt *stmt;

	acquire(f.pool, PP_WRITE, &lease);
	for (unsigned rows = 0; rows < 2; rows++) {
		must(pp_begin(&lease, NULL), NULL);
		sql(lease.db, "ROLLBACK");
		must(pp_prepare(&lease, "SELECT 1 LIMIT ?1", &stmt, NULL), NULL);
		sqlite3_bind_int(stmt, 1, (int)rows);
		CHECK_INT(sqlite3_step(stmt), ==, rows == 0 ? SQLITE_DONE : SQLITE_ROW);
		CHECK_INT(pp_commit(&lease, &error), ==, PP_ROLLED_BACK);
		CHECK_INT(error.sqlite_code, ==, SQLITE_OK);
		CHECK_CONTAINS(error.message, "ended it");
	}
	must(pp_begin(&lease, NULL), NULL);
	sqlite3_exec(lease.db, "ROLLBACK; nonsense", NULL, NULL, NULL);
	CHECK_INT(pp_commit(&lease, NULL), ==, PP_ROLLED_BACK);
	pp_release(&lease);
}

/* What can be done about it is said of the error that ended it. */
TEST(transaction, that_an_io_error_ended_says_what_can_be_done)
{
	CLEANUP(fixture_close)
	struct fixture f =
		fixture_config((struct pp_config){ .readers = 1, .on_open = add_fail_with });
	struct pp_lease lease = { 0 };
	struct pp_error error = { 0 };

	acquire(f.pool, PP_READ, &lease);
	must(pp_begin(&lease, NULL), NULL);
	CHECK_INT(sqlite3_exec(lease.db, "SELECT fail_with(266) FROM sqlite_schema", NULL, NULL,
	                       NULL),
	          ==, SQLITE_IOERR_READ);
	CHECK_INT(pp_commit(&lease, &error), ==, PP_ROLLED_BACK);
	CHECK_INT(error.sqlite_code, ==, SQLITE_IOERR_READ);
	CHECK_INT(error.error_class, ==, PP_DISCARD_CONNECTION);
	pp_release(&lease);
}

static enum pp_status fill_the_disk(struct pp_lease *lease, void *context)
{
	(void)context;
	sql(lease->db, "PRAGMA max_page_count=1"); /* It does not go below what there is. */
	sql(lease->db, "INSERT INTO t VALUES (1, 1)");
	return sqlite3_exec(lease->db,
	                    "CREATE TABLE big(a); INSERT INTO big VALUES (zeroblob(100000))", NULL,
	                    NULL, NULL) == SQLITE_OK
	               ? PP_OK
	               : PP_SQLITE;
}

TEST_ROWS(transact, rolls_back_on_a_full_disk, 2)
{
	CLEANUP(fixture_close)
	struct fixture f = fixture_config((struct pp_config){
		.readers = 1, .journal = row == 0 ? PP_JOURNAL_WAL : PP_JOURNAL_DELETE });
	struct pp_error error = { 0 };

	CHECK_INT(pp_transact(f.pool, NULL, fill_the_disk, NULL, &error), ==, PP_SQLITE);
	CHECK_INT(error.sqlite_code, ==, SQLITE_FULL);
	CHECK_INT(error.error_class, ==, PP_FATAL); /* Not tried again: nobody has made room. */
	CHECK_INT(error.attempt, ==, 1);
	CHECK_INT(rows_in(f.pool), ==, 0);
	CHECK_INT(stats(f.pool).rollbacks, ==, 1);
}

/* --- pp_transact() ------------------------------------------------------------------------ */

struct job {
	const char *sql;
	struct pp_pool *pool;
	unsigned runs;
};

static enum pp_status refuse(struct pp_lease *lease, void *context)
{
	struct job *job = context;

	job->runs++;
	if (job->sql != NULL)
		sqlite3_exec(lease->db, job->sql, NULL, NULL, NULL);
	return PP_SQLITE;
}

/* It says that it was SQLite, which knows of nothing: so it is told, and not tried again. */
TEST(transact, takes_the_word_of_its_callback)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	struct job job = { .sql = "INSERT INTO t VALUES (1, 1)" };
	struct pp_error error = { 0 };

	CHECK_INT(pp_transact(f.pool, NULL, refuse, &job, &error), ==, PP_SQLITE);
	CHECK_INT(error.sqlite_code, ==, 0);
	CHECK_STR(error.message, "SQLite refused");
	CHECK_INT(pp_transact(f.pool, NULL, refuse, &job, NULL), ==, PP_SQLITE);
	CHECK_INT(job.runs, ==, 2);
	CHECK_INT(rows_in(f.pool), ==, 0);
}

TEST(transact, gives_up_where_nothing_is_free)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	struct pp_transaction now = { .deadline = PP_NO_WAIT };
	struct pp_lease lease = { 0 };
	struct pp_error error = { 0 };
	struct job job = { 0 };

	acquire(f.pool, PP_WRITE, &lease);
	CHECK_INT(pp_transact(f.pool, &now, refuse, &job, &error), ==, PP_TIMEOUT);
	CHECK_STR(error.doing, "acquire the writer");
	CHECK_INT(error.leased, ==, 1);
	CHECK_INT(job.runs, ==, 0);
	pp_release(&lease);
}

static enum pp_status write_to_the_other(struct pp_lease *lease, void *context)
{
	struct job *job = context;

	sql(lease->db, "INSERT INTO t VALUES (1, 1)");
	pp_transact(job->pool, NULL, refuse, context, NULL);
	return job->runs++ == 1 ? PP_OK : PP_ABORTED;
}

/* Only the same pool is refused inside: it would wait for itself. */
TEST(transact, may_use_another_pool_inside)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	CLEANUP(fixture_close) struct fixture other = fixture_open(1);
	struct job job = { .pool = other.pool };

	must(pp_transact(f.pool, NULL, write_to_the_other, &job, NULL), NULL);
	CHECK_INT(job.runs, ==, 2);
	CHECK_INT(rows_in(f.pool), ==, 1);
}

/* The pause doubles up to a bound, and half of it at least is kept: 1, 2, 4 ... 32, 50, 50 ms. */
TEST(transact, pauses_longer_from_attempt_to_attempt)
{
	CLEANUP(fixture_close)
	struct fixture f =
		fixture_config((struct pp_config){ .readers = 1, .on_open = add_fail_with });
	struct pp_transaction options = { .attempts_max = 9, .deadline = PP_FOREVER };
	struct job job = { .sql = "SELECT fail_with(262)" }; /* SQLITE_LOCKED_SHAREDCACHE. */
	struct pp_error error = { 0 };

	CHECK_INT(pp_transact(f.pool, &options, refuse, &job, &error), ==, PP_SQLITE);
	CHECK_INT(error.error_class, ==, PP_RETRY_STATEMENT);
	CHECK_INT(job.runs, ==, 9);
	CHECK_INT(error.elapsed_ns, >=, 163000000);
	CHECK_INT(error.cause_count, ==, PP_CAUSES_MAX);
	CHECK_INT(stats(f.pool).retries, ==, 8);
}

/* --- Another process' lock ---------------------------------------------------------------- */

/* A handle of our own stands for another process: between handles SQLite locks just the same. */
TEST(busy, waits_for_a_foreign_lock_only_as_long_as_configured)
{
	CLEANUP(fixture_close)
	struct fixture f =
		fixture_config((struct pp_config){ .readers = 1, .busy_timeout_ms = 20 });
	struct pp_transaction options = { .attempts_max = 2, .deadline = pp_in_ms(3600000) };
	struct pp_error error = { 0 };
	struct job job = { 0 };
	sqlite3 *other;

	CHECK_INT(sqlite3_open(f.path, &other), ==, SQLITE_OK);
	sql(other, "BEGIN IMMEDIATE");
	CHECK_INT(pp_transact(f.pool, &options, refuse, &job, &error), ==, PP_SQLITE);
	CHECK_INT(error.sqlite_code, ==, SQLITE_BUSY);
	CHECK_INT(error.elapsed_ns, >=, 40000000); /* 20 ms for each attempt. */
	CHECK_INT(job.runs, ==, 0);
	sql(other, "COMMIT");
	sqlite3_close(other);
}

/* Leaving WAL mode wants the file for itself. */
TEST(busy, keeps_the_journal_mode_while_another_has_the_file)
{
	CLEANUP(fixture_close) struct fixture f = fixture_dir();
	struct pp_config config = {
		.path = f.path, .readers = 1, .journal = PP_JOURNAL_DELETE, .busy_timeout_ms = 1
	};
	struct pp_error error = { 0 };
	sqlite3 *other;

	CHECK_INT(pp_setup(0), ==, PP_OK);
	CHECK_INT(sqlite3_open(f.path, &other), ==, SQLITE_OK);
	sql(other, "PRAGMA journal_mode=WAL; CREATE TABLE t(a)");
	CHECK_INT(pp_open(&config, &f.pool, &error), ==, PP_SQLITE);
	CHECK_INT(error.sqlite_code, ==, SQLITE_BUSY);
	CHECK_STR(error.sql, "PRAGMA journal_mode=DELETE");
	CHECK(f.pool == NULL);
	sqlite3_close(other);
	must(pp_open(&config, &f.pool, &error), &error);
}
