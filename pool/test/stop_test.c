/* Stopping others: tokens, deadlines, closing; and being asked, chained behind the pool. */
/* SPDX-License-Identifier: MIT */
#include "upkeep.h"

/* --- Tokens ------------------------------------------------------------------------------- */

struct waiter_test {
	struct pp_pool *pool;
	enum pp_lane lane;
	struct pp_token *token;
	enum pp_status status;
	struct pp_error error;
};

static void *wait_with_token(void *context)
{
	struct waiter_test *w = context;
	struct pp_lease lease = { 0 };

	w->status = pp_acquire(w->pool, w->lane, pp_with_token(PP_FOREVER, w->token), &lease,
	                       &w->error);
	pp_release(&lease);
	return NULL;
}

TEST(token, ends_the_wait_of_who_has_it_and_of_nobody_else)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	struct pp_token token = { 0 }, other = { 0 };
	struct waiter_test mine = { .pool = f.pool, .lane = PP_READ, .token = &token };
	struct waiter_test his = { .pool = f.pool, .lane = PP_READ, .token = &other };
	struct pp_lease lease = { 0 };
	pthread_t threads[2];

	acquire(f.pool, PP_READ, &lease);
	threads[0] = thread_start(wait_with_token, &his);
	WAIT_FOR(stats(f.pool).read.waiting == 1);
	threads[1] = thread_start(wait_with_token, &mine);
	WAIT_FOR(stats(f.pool).read.waiting == 2);
	pp_cancel(&token);
	pthread_join(threads[1], NULL);
	CHECK_INT(mine.status, ==, PP_CANCELLED);
	CHECK_CONTAINS(mine.error.message, "token");
	CHECK_INT(stats(f.pool).read.waiting, ==, 1);
	pp_release(&lease);
	pthread_join(threads[0], NULL);
	CHECK_INT(his.status, ==, PP_OK);
	CHECK_INT(stats(f.pool).cancels, ==, 1);
}

TEST(token, that_is_cancelled_borrows_nothing)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	struct pp_token token = { 0 };
	struct pp_lease lease = { 0 };
	struct pp_error error;

	pp_cancel(&token);
	CHECK_INT(pp_acquire(f.pool, PP_READ, pp_with_token(PP_FOREVER, &token), &lease, &error),
	          ==, PP_CANCELLED);
	CHECK(lease.db == NULL);
}

TEST_ROWS(token, stops_what_runs_on_its_lease, 2)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	struct pp_token token = { 0 };
	struct runner r = { .pool = f.pool,
		            .lane = row == 0 ? PP_READ : PP_WRITE,
		            .deadline = pp_with_token(PP_FOREVER, &token) };
	pthread_t thread = thread_start(run_endless, &r);

	WAIT_FOR(atomic_load(&r.running));
	pp_cancel(&token);
	pthread_join(thread, NULL); /* The next borrower's query has run, too. */
	CHECK_INT(r.rc, ==, SQLITE_INTERRUPT);
	CHECK_INT(stats(f.pool).retired, ==, 0);
}

/* Given back, the lease's token is none of the next one's. */
TEST(token, cancelled_late_hits_nobody)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	struct pp_token token = { 0 };
	struct pp_lease lease = { 0 };

	must(pp_acquire(f.pool, PP_READ, pp_with_token(PP_FOREVER, &token), &lease, NULL), NULL);
	pp_release(&lease);
	acquire(f.pool, PP_READ, &lease);
	pp_cancel(&token);
	CHECK_INT(number(lease.db, "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n "
	                           "LIMIT 100000) SELECT count(*) FROM n"),
	          ==, 100000);
	pp_release(&lease);
}

static enum pp_status work_endless(struct pp_lease *lease, void *context)
{
	pp_progress_set(lease, 100, tell, context);
	sql(lease->db, "INSERT INTO t VALUES (1, 1)");
	return sqlite3_exec(lease->db, endless, NULL, NULL, NULL) == SQLITE_OK ? PP_OK : PP_SQLITE;
}

struct transaction_test {
	struct runner runner;
	enum pp_status status;
	struct pp_error error;
};

static void *transact_endless(void *context)
{
	struct transaction_test *t = context;
	struct pp_transaction options = { .deadline = t->runner.deadline };

	t->status = pp_transact(t->runner.pool, &options, work_endless, &t->runner, &t->error);
	return NULL;
}

/* Whether a virtual table may have the statement is asked of a large schema. */
TEST(token, does_not_stop_what_the_release_does)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	struct pp_token token = { 0 };
	struct pp_lease lease = { 0 };
	sqlite3_stmt *left;
	char text[64];

	must(pp_acquire(f.pool, PP_WRITE, pp_with_token(PP_FOREVER, &token), &lease, NULL), NULL);
	sql(lease.db, "BEGIN; CREATE VIRTUAL TABLE v USING rtree(id, x, y)");
	for (unsigned i = 0; i < 500; i++) {
		snprintf(text, sizeof text, "CREATE TABLE x%u(a)", i);
		sql(lease.db, text);
	}
	sql(lease.db, "COMMIT");
	CHECK_INT(sqlite3_prepare_v2(lease.db, "SELECT a FROM 'main'.x0", -1, &left, NULL), ==,
	          SQLITE_OK);
	pp_cancel(&token);
	pp_release(&lease);
	CHECK_INT(stats(f.pool).retired, ==, 0);
	sqlite3_finalize(left);
}

TEST(token, rolls_a_transaction_back)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	struct pp_token token = { 0 };
	struct transaction_test t = { .runner = { .pool = f.pool,
		                                  .deadline = pp_with_token(PP_FOREVER, &token) } };
	pthread_t thread = thread_start(transact_endless, &t);

	WAIT_FOR(atomic_load(&t.runner.running));
	pp_cancel(&token);
	pthread_join(thread, NULL);
	CHECK_INT(t.status, ==, PP_CANCELLED);
	CHECK_INT(t.error.attempt, ==, 1);
	CHECK_INT(t.error.sqlite_code, ==, SQLITE_INTERRUPT);
	CHECK_INT(rows_in(f.pool), ==, 0);
	CHECK_INT(stats(f.pool).cancels, ==, 1);
}

static enum pp_status cancel_and_go_on(struct pp_lease *lease, void *context)
{
	sql(lease->db, "INSERT INTO t VALUES (1, 1)");
	pp_cancel(context);
	return PP_OK;
}

/* Nothing that he ran was long enough to be stopped: the commit is refused. */
TEST(token, is_asked_before_the_commit)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	struct pp_token token = { 0 };
	struct pp_transaction options = { .deadline = pp_with_token(PP_FOREVER, &token) };
	struct pp_error error;

	CHECK_INT(pp_transact(f.pool, &options, cancel_and_go_on, &token, &error), ==,
	          PP_CANCELLED);
	CHECK_STR(error.doing, "commit");
	CHECK_INT(rows_in(f.pool), ==, 0);
}

static int stop_what_is_committed(void *db)
{
	return sqlite3_get_autocommit(db);
}

static enum pp_status insert_and_stop_late(struct pp_lease *lease, void *context)
{
	(void)context;
	pp_progress_set(lease, 1, stop_what_is_committed, lease->db);
	sql(lease->db, "INSERT INTO t DEFAULT VALUES");
	return PP_OK;
}

/* SQLite asks its progress handler once more when COMMIT has committed, and would call what is in
 * the file interrupted. */
TEST_ROWS(token, is_not_asked_once_it_is_committed, 2)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	struct pp_error error = { 0 };
	struct pp_lease lease = { 0 };

	if (row == 0) {
		must(pp_transact(f.pool, NULL, insert_and_stop_late, NULL, &error), &error);
	} else {
		acquire(f.pool, PP_WRITE, &lease);
		must(pp_begin(&lease, &error), &error);
		must(insert_and_stop_late(&lease, NULL), NULL);
		must(pp_commit(&lease, &error), &error);
		pp_release(&lease);
	}
	CHECK_INT(rows_in(f.pool), ==, 1);
	CHECK_INT(stats(f.pool).commits, ==, 1);
}

/* Another process holds the lock: the busy wait asks too. */
TEST(token, ends_a_wait_for_another_process)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	struct pp_token token = { 0 };
	struct pp_lease lease = { 0 };
	struct pp_error error;
	sqlite3 *other;

	CHECK_INT(sqlite3_open(f.path, &other), ==, SQLITE_OK);
	sql(other, "BEGIN IMMEDIATE");
	must(pp_acquire(f.pool, PP_WRITE, pp_with_token(PP_FOREVER, &token), &lease, NULL), NULL);
	pp_cancel(&token);
	CHECK_INT(pp_begin(&lease, &error), ==, PP_CANCELLED);
	CHECK_INT(error.sqlite_code, ==, SQLITE_INTERRUPT);
	sqlite3_close(other);
	pp_release(&lease);
}

TEST(deadline, stops_what_runs_past_it_in_a_transaction)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	struct transaction_test t = { .runner = { .pool = f.pool, .deadline = pp_in_ms(3600000) } };
	pthread_t thread = thread_start(transact_endless, &t);

	WAIT_FOR(atomic_load(&t.runner.running));
	clock_travel_ms(3600000);
	pthread_join(thread, NULL);
	CHECK_INT(t.status, ==, PP_TIMEOUT);
	CHECK_CONTAINS(t.error.message, "deadline");
	CHECK_INT(rows_in(f.pool), ==, 0);
}

enum { HOUR_MS = 3600000 };

/* --- Closing ------------------------------------------------------------------------------ */

static bool is_closing(struct line *line)
{
	bool closing;

	pthread_mutex_lock(&line->mutex);
	closing = line->closing;
	pthread_mutex_unlock(&line->mutex);
	return closing;
}

/* Once the closer waits, and knows for how long. */
static void *let_three_quarters_pass(void *context)
{
	struct pp_pool *pool = context;

	WAIT_FOR(is_closing(&pool->lines[1]));
	clock_travel_ms(HOUR_MS / 4 * 3 + 1000);
	return NULL;
}

/* Three quarters of the time it waits, then it has what still runs come to an end. */
TEST(close, interrupts_what_would_keep_it_past_its_deadline)
{
	struct diary diary = { 0 };
	CLEANUP(fixture_remove)
	struct fixture f = manual((struct pp_config){ .readers = 1 }, &diary);
	struct transaction_test t = { .runner = { .pool = f.pool, .deadline = PP_FOREVER } };
	pthread_t thread = thread_start(transact_endless, &t), time;
	uint64_t start;

	WAIT_FOR(atomic_load(&t.runner.running));
	start = clock_ns();
	time = thread_start(let_three_quarters_pass, f.pool);
	CHECK_INT(pp_close(f.pool, pp_in_ms(HOUR_MS), NULL), ==, PP_OK);
	CHECK_INT((clock_ns() - start) / 1000000, >=, HOUR_MS / 4 * 3);
	CHECK_INT((clock_ns() - start) / 1000000, <, HOUR_MS);
	pthread_join(thread, NULL);
	pthread_join(time, NULL);
	CHECK_INT(t.status, ==, PP_TIMEOUT);
	CHECK_CONTAINS(t.error.message, "the pool closes");
	CHECK_STR(diary.message[PP_EVENT_INTERRUPTED], "the pool closes");
}

static void *add_a_reader(void *context)
{
	struct waiter_test *w = context;

	w->status = pp_resize(w->pool, 2, 2, &w->error);
	return NULL;
}

/* It waits for a lock of somebody else's, and gives that up because the pool closes: the reason is
 * that, and not the lock. */
TEST(close, is_told_to_who_opens_a_connection)
{
	CLEANUP(fixture_close)
	struct fixture f =
		fixture_config((struct pp_config){ .readers = 1, .journal = PP_JOURNAL_DELETE });
	struct waiter_test w = { .pool = f.pool };
	uint64_t opened = stats(f.pool).opened;
	pthread_t thread;
	sqlite3 *other;

	CHECK_INT(sqlite3_open(f.path, &other), ==, SQLITE_OK);
	sql(other, "BEGIN EXCLUSIVE");
	thread = thread_start(add_a_reader, &w);
	WAIT_FOR(stats(f.pool).opened == opened + 1);
	CHECK_INT(pp_close(f.pool, pp_in_ms(60000), NULL), ==, PP_OK);
	f.pool = NULL;
	pthread_join(thread, NULL);
	CHECK_INT(w.status, ==, PP_CLOSED);
	CHECK_CONTAINS(w.error.message, "pp_close");
	sqlite3_close(other);
}

TEST(close, of_a_suspended_pool_works)
{
	CLEANUP(fixture_remove) struct fixture f = fixture_open(2);
	struct pp_closing closing;

	CHECK_INT(pp_suspend(f.pool, PP_FOREVER), ==, PP_OK);
	CHECK_INT(pp_close(f.pool, PP_FOREVER, &closing), ==, PP_OK);
	CHECK_INT(closing.residue_bytes, ==, 0);
}

/* --- Chained ------------------------------------------------------------------------------ */

static int deny_deletes(void *context, int action, const char *first, const char *second,
                        const char *database, const char *trigger)
{
	(void)first, (void)second, (void)database, (void)trigger;
	atomic_fetch_add((atomic_uint *)context, 1);
	return action == SQLITE_DELETE ? SQLITE_DENY : SQLITE_OK;
}

static int count_calls(void *context)
{
	atomic_fetch_add((atomic_uint *)context, 1);
	return 0;
}

TEST(chain, asks_the_users_authorizer_and_progress_handler_on_every_connection)
{
	atomic_uint asked = 0, progressed = 0;
	CLEANUP(fixture_close)
	struct fixture f = fixture_config((struct pp_config){ .readers = 1,
	                                                      .authorizer = deny_deletes,
	                                                      .authorizer_context = &asked,
	                                                      .progress = count_calls,
	                                                      .progress_context = &progressed });
	struct pp_lease lease = { 0 };

	for (enum pp_lane lane = PP_READ; lane <= PP_WRITE; lane++)
		for (unsigned again = 0; again < 2; again++) {
			unsigned before = asked, steps = progressed;

			acquire(f.pool, lane, &lease);
			CHECK_INT(sqlite3_exec(lease.db, "DELETE FROM t", NULL, NULL, NULL), ==,
			          SQLITE_AUTH);
			CHECK_INT(asked, >, before);
			number(lease.db, "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 "
			                 "FROM n LIMIT 10000) SELECT count(*) FROM n");
			CHECK_INT(progressed, >, steps);
			/* The pool's own still sees. */
			sql(lease.db, "PRAGMA cache_size=10");
			pp_release(&lease);
		}
	CHECK_INT(stats(f.pool).dirty_settings, ==, 4);
}

TEST(chain, of_one_lease_ends_with_it)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	atomic_uint asked = 0, progressed = 0;
	struct pp_lease lease = { 0 };
	sqlite3_stmt *stmt;
	unsigned steps;

	acquire(f.pool, PP_WRITE, &lease);
	must(pp_prepare(&lease, "DELETE FROM t", &stmt, NULL), NULL);
	CHECK_INT(pp_authorizer_set(&lease, deny_deletes, &asked), ==, PP_OK);
	CHECK_INT(pp_progress_set(&lease, 100, count_calls, &progressed), ==, PP_OK);
	/* What was prepared before is asked again. */
	CHECK_INT(sqlite3_step(stmt), ==, SQLITE_AUTH);
	number(lease.db, "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n LIMIT "
	                 "1000) SELECT count(*) FROM n");
	CHECK_INT(progressed, >, 10);
	CHECK_INT(pp_authorizer_set(&lease, NULL, NULL), ==, PP_OK);
	CHECK_INT(pp_progress_set(&lease, 0, NULL, NULL), ==, PP_OK);
	sql(lease.db, "DELETE FROM t");
	CHECK_INT(pp_authorizer_set(&lease, deny_deletes, &asked), ==, PP_OK);
	pp_release(&lease);
	CHECK_INT(pp_authorizer_set(&lease, deny_deletes, &asked), ==, PP_MISUSE);
	CHECK_INT(pp_progress_set(&lease, 1, count_calls, &progressed), ==, PP_MISUSE);
	CHECK_INT(stats(f.pool).retired, ==, 1);
	acquire(f.pool, PP_WRITE, &lease);
	sql(lease.db, "DELETE FROM t");
	pp_release(&lease);
	acquire(f.pool, PP_READ, &lease);
	pp_progress_set(&lease, 100, count_calls, &progressed);
	pp_release(&lease);
	steps = progressed;
	acquire(f.pool, PP_READ, &lease);
	number(lease.db, "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n LIMIT "
	                 "10000) SELECT count(*) FROM n");
	pp_release(&lease);
	CHECK_INT(progressed, ==, steps);
}

static enum pp_status cancel_and_abort(struct pp_lease *lease, void *token)
{
	pp_cancel(token);
	CHECK_INT(sqlite3_exec(lease->db, endless, NULL, NULL, NULL), ==, SQLITE_INTERRUPT);
	return PP_ABORTED;
}

/* His reason is his own. */
TEST(token, that_stopped_the_work_leaves_the_last_word_to_it)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	struct pp_token token = { 0 };
	struct pp_transaction options = { .deadline = pp_with_token(PP_FOREVER, &token) };

	CHECK_INT(pp_transact(f.pool, &options, cancel_and_abort, &token, NULL), ==, PP_ABORTED);
	CHECK_INT(stats(f.pool).rollbacks, ==, 1);
}

static int stop_at_once(void *context)
{
	(void)context;
	return 1;
}

TEST(chain, lets_the_users_progress_handler_stop)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	struct pp_lease lease = { 0 };

	acquire(f.pool, PP_READ, &lease);
	pp_progress_set(&lease, 1, stop_at_once, NULL);
	CHECK_INT(sqlite3_exec(lease.db, endless, NULL, NULL, NULL), ==, SQLITE_INTERRUPT);
	pp_release(&lease);
	CHECK_INT(stats(f.pool).retired, ==, 0);
}

/* At the release the pool asks a large schema for virtual tables, a thousand steps and more. */
TEST(chain, does_not_ask_the_user_about_the_pools_own_work)
{
	atomic_uint progressed = 0;
	CLEANUP(fixture_close)
	struct fixture f = fixture_config((struct pp_config){
		.readers = 1, .progress = count_calls, .progress_context = &progressed });
	struct pp_lease lease = { 0 };
	sqlite3_stmt *forgotten;
	char text[64];
	unsigned before;

	acquire(f.pool, PP_WRITE, &lease);
	sql(lease.db, "BEGIN");
	for (unsigned i = 0; i < 500; i++) {
		snprintf(text, sizeof text, "CREATE TABLE x%u(a)", i);
		sql(lease.db, text);
	}
	sql(lease.db, "COMMIT");
	CHECK_INT(sqlite3_prepare_v2(lease.db, "SELECT 1", -1, &forgotten, NULL), ==, SQLITE_OK);
	before = progressed;
	pp_release(&lease);
	CHECK_INT(progressed, ==, before);
	CHECK_INT(stats(f.pool).dirty_statements, ==, 1);
	sqlite3_finalize(forgotten);
}

static int deny_transactions(void *context, int action, const char *first, const char *second,
                             const char *database, const char *trigger)
{
	(void)context, (void)first, (void)second, (void)database, (void)trigger;
	return action == SQLITE_TRANSACTION || action == SQLITE_SAVEPOINT ? SQLITE_DENY : SQLITE_OK;
}

static void nest(struct pp_lease *lease, int v)
{
	struct pp_error error = { 0 };
	char text[64];

	must(pp_begin(lease, &error), &error);
	must(pp_begin(lease, &error), &error);
	snprintf(text, sizeof text, "INSERT INTO t(v) VALUES (%d)", v);
	sql(lease->db, text);
	must(pp_commit(lease, &error), &error);
	must(pp_begin(lease, &error), &error);
	sql(lease->db, "INSERT INTO t(v) VALUES (0)");
	must(pp_rollback(lease, &error), &error);
	CHECK_INT(sqlite3_exec(lease->db, "SAVEPOINT a", NULL, NULL, NULL), ==, SQLITE_AUTH);
	must(pp_commit(lease, &error), &error);
}

/* Transactions are the pool's to begin and to end, savepoints in a group included: a borrower may
 * be kept from it. */
TEST(chain, does_not_ask_the_users_authorizer_about_the_pools_own_work)
{
	CLEANUP(fixture_close)
	struct fixture f =
		fixture_config((struct pp_config){ .readers = 1, .authorizer = deny_transactions });
	struct pp_lease lease = { 0 };

	acquire(f.pool, PP_WRITE, &lease);
	nest(&lease, 1);
	/* Has what is prepared asked again. */
	CHECK_INT(pp_authorizer_set(&lease, deny_transactions, NULL), ==, PP_OK);
	nest(&lease, 2);
	must(pp_begin(&lease, NULL), NULL);
	CHECK_INT(pp_authorizer_set(&lease, deny_transactions, NULL), ==, PP_OK);
	must(pp_rollback(&lease, NULL), NULL);
	pp_release(&lease);
	CHECK_INT(rows_in(f.pool), ==, 2);
	CHECK_INT(stats(f.pool).dirty_transaction, ==, 0);
}

/* Who would be asked seldom is asked with the pool; who would be asked never is not. */
TEST(chain, asks_the_users_progress_handler_as_often_as_the_pools)
{
	static const char steps[] = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 "
				    "FROM n LIMIT 10000) SELECT count(*) FROM n";
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	atomic_uint progressed = 0;
	struct pp_lease lease = { 0 };
	unsigned before;

	acquire(f.pool, PP_READ, &lease);
	CHECK_INT(pp_progress_set(&lease, 1000000000, count_calls, &progressed), ==, PP_OK);
	number(lease.db, steps);
	CHECK_INT(progressed, >, 10);
	CHECK_INT(pp_progress_set(&lease, 0, count_calls, &progressed), ==, PP_OK);
	before = progressed;
	number(lease.db, steps);
	CHECK_INT(progressed, ==, before);
	pp_release(&lease);
}
