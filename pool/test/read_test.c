/* Read sessions: one snapshot, from before the work. */
/* SPDX-License-Identifier: MIT */
#include "upkeep.h"

struct session {
	const struct fixture *f;
	unsigned runs;
	int64_t before, after;
	enum pp_status said, inner[3];
};

/* A handle of our own stands for another process. */
static void insert_elsewhere(const struct fixture *f)
{
	sqlite3 *db;

	CHECK_INT(sqlite3_open(f->path, &db), ==, SQLITE_OK);
	sql(db, "INSERT INTO t DEFAULT VALUES");
	sqlite3_close(db);
}

static enum pp_status read_twice(struct pp_lease *lease, void *context)
{
	struct session *s = context;

	s->runs++;
	CHECK_INT(sqlite3_txn_state(lease->db, NULL), ==, SQLITE_TXN_READ);
	insert_elsewhere(s->f); /* Before anything was read. */
	s->before = number(lease->db, "SELECT count(*) FROM t");
	insert_elsewhere(s->f);
	s->after = number(lease->db, "SELECT count(*) FROM t");
	return PP_OK;
}

TEST(read, is_one_snapshot_from_before_the_work)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	struct session s = { .f = &f };
	struct pp_error error = { 0 };

	for (unsigned n = 0; n < 2; n++) {
		must(pp_read(f.pool, NULL, read_twice, &s, &error), &error);
		CHECK_INT(s.before, ==, 2 * n);
		CHECK_INT(s.after, ==, 2 * n);
	}
	CHECK_INT(s.runs, ==, 2);
	CHECK_INT(rows_in(f.pool), ==, 4);
	CHECK_INT(stats(f.pool).read.acquires, ==, 3);
	CHECK_INT(stats(f.pool).dirty, ==, 0);
}

TEST(read, begins_with_begin_on_a_held_lease_too)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	struct session s = { .f = &f };
	struct pp_lease lease = { 0 };

	acquire(f.pool, PP_READ, &lease);
	must(pp_begin(&lease, NULL), NULL);
	must(read_twice(&lease, &s), NULL);
	CHECK_INT(s.before, ==, 0);
	CHECK_INT(s.after, ==, 0);
	must(pp_commit(&lease, NULL), NULL);
	CHECK_INT(number(lease.db, "SELECT count(*) FROM t"), ==, 2);
	pp_release(&lease);
}

/* A schema that was changed is read again with the snapshot. */
TEST(read, sees_the_schema_of_its_snapshot)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	struct session s = { .f = &f };
	struct pp_lease w = { 0 };

	must(pp_read(f.pool, NULL, read_twice, &s, NULL), NULL);
	acquire(f.pool, PP_WRITE, &w);
	sql(w.db, "DROP TABLE t; CREATE TABLE t(a, b, c)");
	pp_release(&w);
	must(pp_read(f.pool, NULL, read_twice, &s, NULL), NULL);
	CHECK_INT(s.after, ==, 0);
	CHECK_INT(stats(f.pool).retired, ==, 0);
}

static enum pp_status try_the_pool(struct pp_lease *lease, void *context)
{
	struct session *s = context;
	struct pp_lease other = { 0 };

	s->inner[0] = pp_acquire(lease->pool, PP_READ, PP_NO_WAIT, &other, NULL);
	s->inner[1] = pp_read(lease->pool, NULL, read_twice, s, NULL);
	s->inner[2] = pp_commit(lease, NULL);
	must(pp_begin(lease, NULL), NULL);
	must(pp_commit(lease, NULL), NULL);
	return PP_OK;
}

TEST(read, refuses_calls_on_its_pool_from_inside_but_nests)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(2);
	struct session s = { .f = &f };

	must(pp_read(f.pool, NULL, try_the_pool, &s, NULL), NULL);
	for (unsigned i = 0; i < 3; i++)
		CHECK_MSG(s.inner[i] == PP_MISUSE, "call %u: %s", i, pp_status_name(s.inner[i]));
	CHECK_INT(s.runs, ==, 0);
}

static enum pp_status say(struct pp_lease *lease, void *context)
{
	struct session *s = context;

	s->runs++;
	(void)lease;
	return s->said;
}

static enum pp_status write_one(struct pp_lease *lease, void *context)
{
	(void)context;
	return sqlite3_exec(lease->db, "INSERT INTO t DEFAULT VALUES", NULL, NULL, NULL) ==
	                       SQLITE_OK
	               ? PP_OK
	               : PP_SQLITE;
}

TEST(read, ends_as_its_work_says_and_writes_nothing)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	struct session s = { .said = PP_ABORTED };
	struct pp_error error = { 0 };

	CHECK_INT(pp_read(f.pool, NULL, say, &s, &error), ==, PP_ABORTED);
	CHECK_INT(error.status, ==, PP_ABORTED);
	CHECK_INT(pp_read(f.pool, NULL, write_one, NULL, &error), ==, PP_SQLITE);
	CHECK_INT(error.sqlite_code, ==, SQLITE_READONLY);
	CHECK_INT(rows_in(f.pool), ==, 0);
	CHECK_INT(stats(f.pool).dirty, ==, 0);
}

static void fail_busy(sqlite3_context *context, int count, sqlite3_value **values)
{
	(void)count, (void)values;
	sqlite3_result_error_code(context, SQLITE_BUSY);
}

static int add_fail_busy(sqlite3 *db, void *context)
{
	return sqlite3_create_function(db, "fail_busy", 0, SQLITE_UTF8, context, fail_busy, NULL,
	                               NULL);
}

static enum pp_status be_busy(struct pp_lease *lease, void *context)
{
	((struct session *)context)->runs++;
	CHECK_INT(sqlite3_exec(lease->db, "SELECT fail_busy()", NULL, NULL, NULL), ==, SQLITE_BUSY);
	return PP_SQLITE;
}

TEST(read, works_once)
{
	CLEANUP(fixture_close)
	struct fixture f =
		fixture_config((struct pp_config){ .readers = 1, .on_open = add_fail_busy });
	struct session s = { 0 };
	struct pp_error error = { 0 };

	CHECK_INT(pp_read(f.pool, NULL, be_busy, &s, &error), ==, PP_SQLITE);
	CHECK_INT(error.error_class, !=, PP_FATAL); /* Of the kind that pp_transact() retries. */
	CHECK_INT(s.runs, ==, 1);
	CHECK_INT(stats(f.pool).retries, ==, 0);
}

static const struct pp_transaction wrong[] = {
	{ .lane = PP_WRITE },
	{ .lane = PP_EXCLUSIVE },
	{ .attempts_max = 2 },
	{ .lane = PP_READ, .attempts_max = 1000 },
};

TEST_ROWS(read, refuses_other_lanes_and_attempts, sizeof wrong / sizeof *wrong)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	struct pp_transaction right = { .lane = PP_READ, .attempts_max = 1 };
	struct session s = { .said = PP_OK };
	struct pp_error error = { 0 };

	CHECK_INT(pp_read(f.pool, &wrong[row], say, &s, &error), ==, PP_INVALID);
	CHECK_CONTAINS(error.message, "must be 0 or PP_READ, attempts_max");
	CHECK_INT(s.runs, ==, 0);
	must(pp_read(f.pool, &right, say, &s, &error), &error);
	CHECK_INT(s.runs, ==, 1);
}

/* Whoever has the file locked is waited for before the work, and not in the middle of it. With a
 * rollback journal a writer that has it for himself keeps readers out, too. */
TEST(read, waits_before_its_work)
{
	CLEANUP(fixture_close)
	struct fixture f = fixture_config((struct pp_config){
		.readers = 1, .journal = PP_JOURNAL_DELETE, .busy_timeout_ms = 86400000 });
	struct pp_transaction options = { .deadline = pp_in_ms(30) };
	struct session s = { .said = PP_OK };
	struct pp_lease lease = { 0 };
	struct pp_error error = { 0 };
	sqlite3 *other;

	CHECK_INT(sqlite3_open(f.path, &other), ==, SQLITE_OK);
	sql(other, "BEGIN EXCLUSIVE");
	CHECK_INT(pp_read(f.pool, &options, say, &s, &error), ==, PP_SQLITE);
	CHECK_INT(error.sqlite_code & 0xff, ==, SQLITE_BUSY);
	CHECK_STR(error.doing, "BEGIN");
	CHECK_INT(s.runs, ==, 0);
	sql(other, "COMMIT");
	sqlite3_close(other);
	must(pp_read(f.pool, NULL, say, &s, &error), &error);
	CHECK_INT(s.runs, ==, 1);
	CHECK_INT(stats(f.pool).dirty, ==, 0); /* No BEGIN without its snapshot was left. */
	acquire(f.pool, PP_READ, &lease);
	must(pp_begin(&lease, &error), &error);
	must(pp_commit(&lease, &error), &error);
	pp_release(&lease);
}

static void write_to(const struct fixture *f, const void *bytes, size_t size)
{
	FILE *file = fopen(f->path, "r+");

	CHECK(file != NULL && fwrite(bytes, 1, size, file) == size);
	CHECK_INT(fclose(file), ==, 0);
}

/* What the snapshot meets says what becomes of the connection. */
TEST(read, of_a_broken_file_costs_the_connection)
{
	struct diary diary = { 0 };
	CLEANUP(fixture_close)
	struct fixture f =
		manual((struct pp_config){ .readers = 1, .journal = PP_JOURNAL_DELETE }, &diary);
	struct session s = { .said = PP_OK };
	struct pp_error error = { 0 };
	char page[100], junk[100];
	FILE *file = fopen(f.path, "r");

	CHECK(file != NULL && fread(page, 1, sizeof page, file) == sizeof page);
	fclose(file);
	memset(junk, 'x', sizeof junk);
	write_to(&f, junk, sizeof junk);
	CHECK_INT(pp_read(f.pool, NULL, say, &s, &error), ==, PP_SQLITE);
	CHECK_INT(error.sqlite_code, ==, SQLITE_NOTADB);
	CHECK_INT(s.runs, ==, 0);
	CHECK_INT(stats(f.pool).retired, ==, 1);
	write_to(&f, page, sizeof page);
	must(pp_read(f.pool, NULL, say, &s, &error), &error);
	CHECK_INT(s.runs, ==, 1);
}

static enum pp_status read_endless(struct pp_lease *lease, void *context)
{
	pp_progress_set(lease, 100, tell, context);
	return sqlite3_exec(lease->db, endless, NULL, NULL, NULL) == SQLITE_OK ? PP_OK : PP_SQLITE;
}

static void *read_until_cancelled(void *context)
{
	struct runner *r = context;
	struct pp_transaction options = { .deadline = r->deadline };

	r->rc = pp_read(r->pool, &options, read_endless, r, NULL);
	return NULL;
}

TEST(read, is_stopped_by_its_token)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	struct pp_token token = { 0 };
	struct runner r = { .pool = f.pool, .deadline = pp_with_token(PP_FOREVER, &token) };
	pthread_t thread = thread_start(read_until_cancelled, &r);

	WAIT_FOR(atomic_load(&r.running));
	pp_cancel(&token);
	pthread_join(thread, NULL);
	CHECK_INT(r.rc, ==, PP_CANCELLED);
	CHECK_INT(stats(f.pool).dirty, ==, 0);
}

static enum pp_status be_late(struct pp_lease *lease, void *context)
{
	clock_travel_ms(60000);
	return write_one(lease, context) == PP_OK ? PP_OK : PP_SQLITE;
}

static enum pp_status read_and_be_late(struct pp_lease *lease, void *context)
{
	(void)context;
	CHECK_INT(number(lease->db, "SELECT count(*) FROM t"), ==, 0);
	clock_travel_ms(60000);
	return PP_OK;
}

/* What was read was read in time. However often: SQLite asks every thousand steps, of END too. */
TEST(read, is_not_late_once_its_work_is_done)
{
	CLEANUP(fixture_close) struct fixture f = manual((struct pp_config){ .readers = 1 }, NULL);
	struct pp_error error = { 0 };

	for (unsigned n = 0; n < 500 / slowness(); n++)
		must(pp_read(f.pool, NULL, read_and_be_late, NULL, &error), &error);
	CHECK_INT(pp_transact(f.pool, NULL, be_late, NULL, &error), ==, PP_TIMEOUT);
	CHECK_INT(rows_in(f.pool), ==, 0);
}

/* The time of a commit is what writers wait for: the ends of readers would hide it. */
TEST(read, is_no_commit_among_the_durations)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	struct session s = { .said = PP_OK };
	struct pp_histogram commits, transactions;

	must(pp_read(f.pool, NULL, say, &s, NULL), NULL);
	must(pp_transact(f.pool, NULL, write_one, NULL, NULL), NULL);
	CHECK_INT(pp_histogram_read(f.pool, PP_HISTOGRAM_COMMIT, &commits), ==, PP_OK);
	CHECK_INT(pp_histogram_read(f.pool, PP_HISTOGRAM_TRANSACTION, &transactions), ==, PP_OK);
	CHECK_INT(commits.count, ==, 1);
	CHECK_INT(transactions.count, ==, 2);
}
