/* pp_write(): who shares a commit with whom, and what each of them is told. */
/* SPDX-License-Identifier: MIT */
#include "group.h"

#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { MODES = 2 }; /* In the caller's own thread; with any_thread. */

TEST_ROWS(write, alone_is_a_transaction_without_a_savepoint, MODES)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	struct call call = { .pool = f.pool, .options.any_thread = row == 1 };
	uint64_t misses = stats(f.pool).statement_misses;

	call_run(&call);
	must(call.status, &call.error);
	CHECK_INT(call.runs, ==, 1);
	CHECK_INT(call.ran_in, ==, thread_number());
	CHECK_INT(call.written.last_insert_rowid, ==, 1);
	CHECK_INT(call.written.changes, ==, 1);
	CHECK_INT(stats(f.pool).statement_misses, ==, misses);
	CHECK_INT(stats(f.pool).commits, ==, 1);
	CHECK_INT(stats(f.pool).writes, ==, 1);
	CHECK_INT(stats(f.pool).groups, ==, 1);
	CHECK_INT(stats(f.pool).group_sizes[0], ==, 1);
	CHECK_INT(rows_in(f.pool), ==, 1);
}

TEST_ROWS(write, of_many_is_one_commit, MODES)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	struct call calls[7] = { 0 };
	struct pp_stats s;

	calls_group(&f, calls, 7, row == 1);
	for (unsigned i = 0; i < 7; i++) {
		must(calls[i].status, &calls[i].error);
		CHECK_INT(calls[i].runs, ==, 1);
		CHECK_INT(calls[i].written.last_insert_rowid, ==, i + 1);
		CHECK_INT(calls[i].written.changes, ==, 1);
		CHECK_INT(calls[i].ran_in, ==, calls[row == 1 ? 0 : i].thread_number);
	}
	s = stats(f.pool);
	CHECK_INT(s.commits, ==, 1);
	CHECK_INT(s.writes, ==, 7);
	CHECK_INT(s.groups, ==, 1);
	CHECK_INT(s.group_sizes[3], ==, 1); /* Up to eight. */
	CHECK_INT(s.reruns, ==, 0);
	CHECK_INT(s.write.waits, ==, 7);
	CHECK_INT(rows_in(f.pool), ==, 7);
}

/* Each runs where it wants to: the baton goes to its thread, or passes over it. */
TEST(write, mixes_own_and_any_thread)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	struct call calls[4] = { [1].options.any_thread = true, [3].options.any_thread = true };

	calls_group(&f, calls, 4, false);
	for (unsigned i = 0; i < 4; i++) {
		must(calls[i].status, &calls[i].error);
		CHECK_INT(calls[i].ran_in, ==, calls[i & ~1u].thread_number);
	}
	CHECK_INT(stats(f.pool).groups, ==, 1);
}

/* What the others did is neither counted for it nor its last row. */
TEST_ROWS(write, tells_each_what_it_did, MODES)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	struct call calls[4] = {
		{ .sql = "INSERT INTO t VALUES (10, 1), (11, 2), (12, 3)" },
		{ .sql = "DELETE FROM t WHERE id > 10" },
		{ .sql = "SELECT 1" },
		{ .sql = "UPDATE t SET v = 5; INSERT INTO t VALUES (7, 7)" },
	};
	static const struct pp_written expected[] = { { 12, 3 }, { 0, 2 }, { 0, 0 }, { 7, 2 } };

	calls_group(&f, calls, 4, row == 1);
	for (unsigned i = 0; i < 4; i++) {
		must(calls[i].status, &calls[i].error);
		CHECK_INT(calls[i].written.last_insert_rowid, ==, expected[i].last_insert_rowid);
		CHECK_INT(calls[i].written.changes, ==, expected[i].changes);
	}
	CHECK_INT(stats(f.pool).groups, ==, 1);
	CHECK_INT(rows_in(f.pool), ==, 2);
}

/* In this program libc's function is this one: a thread can do something when it yields. */
static _Thread_local void (*at_yield)(struct call *call);
static _Thread_local struct call *at_yield_call;

int sched_yield(void)
{
	void (*act)(struct call * call) = at_yield;

	at_yield = NULL;
	if (act != NULL)
		act(at_yield_call);
	return (int)syscall(SYS_sched_yield);
}

static void come_now(struct call *call)
{
	call_start(call);
	WAIT_FOR(stats(call->pool).write.waiting == 1);
}

static enum pp_status expect_a_yield(struct pp_lease *lease, void *context)
{
	struct call *call = context;

	at_yield = come_now;
	at_yield_call = call->context;
	return run_sql(lease, call);
}

/* Somebody is inside and does not wait yet: he gets a chance to come before the commit. */
TEST_ROWS(write, lets_those_come_who_are_on_their_way, MODES)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	struct call late = { .pool = f.pool, .options.any_thread = row == 1 };
	struct call call = { .pool = f.pool, .work = expect_a_yield, .context = &late };

	f.pool->group.take_ns = UINT64_C(1) << 60;
	group_enter(f.pool);
	call_run(&call);
	group_exit(f.pool);
	calls_join(&late, 1);
	must(call.status, &call.error);
	must(late.status, &late.error);
	CHECK_INT(stats(f.pool).groups, ==, 1);
	CHECK_INT(rows_in(f.pool), ==, 2);
}

/* Alone it has nobody to wait for. */
TEST(write, alone_does_not_yield)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	struct call late = { .pool = f.pool };
	struct call call = { .pool = f.pool, .work = expect_a_yield, .context = &late };

	call_run(&call);
	must(call.status, &call.error);
	CHECK(at_yield != NULL);
	at_yield = NULL;
}

TEST(write, takes_so_many_and_no_more)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	struct call calls[7] = { 0 };

	CHECK_INT(f.pool->group.take_max, ==, 128);
	f.pool->group.take_max = 4;
	calls_group(&f, calls, 7, true);
	for (unsigned i = 0; i < 7; i++)
		must(calls[i].status, &calls[i].error);
	CHECK_INT(stats(f.pool).groups, ==, 2);
	CHECK_INT(stats(f.pool).group_sizes[2], ==, 2);         /* Four, and three. */
	CHECK_INT(calls[4].ran_in, ==, calls[4].thread_number); /* Another one leads. */
	CHECK_INT(calls[6].ran_in, ==, calls[4].thread_number);
	CHECK_INT(rows_in(f.pool), ==, 7);
}

static enum pp_status take_long(struct pp_lease *lease, void *context)
{
	clock_travel_ms(2000000);
	return run_sql(lease, context);
}

/* An hour here: the second one passes it, so the third is another group's. */
TEST_ROWS(write, takes_so_long_and_no_longer, MODES)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	struct call calls[3] = { 0 };
	struct pp_lease lease = { 0 };

	CHECK_INT(f.pool->group.take_ns, ==, 5000000);
	for (unsigned i = 0; i < 3; i++)
		calls[i].work = take_long;
	acquire_elsewhere(f.pool, PP_WRITE, &lease);
	calls_line_up(&f, calls, 3, row == 1);
	f.pool->group.take_ns = UINT64_C(3600000000000);
	pp_release(&lease);
	calls_join(calls, 3);
	for (unsigned i = 0; i < 3; i++)
		must(calls[i].status, &calls[i].error);
	CHECK_INT(stats(f.pool).groups, ==, 2);
	CHECK_INT(stats(f.pool).group_sizes[1], ==, 1);
}

/* --- Options and misuse -------------------------------------------------------------------- */

TEST(write, refuses_options_that_it_cannot_have)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	struct call call = { .pool = f.pool };
	struct pp_error error = { 0 };

	CHECK_INT(pp_write(f.pool, &(struct pp_transaction){ .lane = PP_READ }, run_sql, &call,
	                   NULL, &error),
	          ==, PP_INVALID);
	CHECK_CONTAINS(error.message, "PP_WRITE");
	CHECK_INT(pp_write(f.pool, &(struct pp_transaction){ .attempts_max = 1001 }, run_sql, &call,
	                   NULL, &error),
	          ==, PP_INVALID);
	CHECK_STR(error.doing, "write");
	CHECK_INT(call.runs, ==, 0);
}

static enum pp_status call_the_pool(struct pp_lease *lease, void *context)
{
	struct call *call = context;
	struct pp_lease other = { 0 }, copy = *lease;
	const enum pp_status inner[] = {
		pp_acquire(call->pool, PP_READ, PP_FOREVER, &other, NULL),
		pp_transact(call->pool, NULL, run_sql, call, NULL),
		pp_write(call->pool, NULL, run_sql, call, NULL, NULL),
		pp_release(&copy),
		pp_commit(lease, NULL),
		pp_rollback(lease, NULL),
		pp_close(call->pool, PP_NO_WAIT, NULL),
	};

	for (unsigned i = 0; i < sizeof inner / sizeof *inner; i++)
		CHECK_MSG(inner[i] == PP_MISUSE, "call %u: %s", i, pp_status_name(inner[i]));
	CHECK_INT(pp_suspend(call->pool, PP_FOREVER), ==, PP_WOULD_DEADLOCK);
	must(pp_begin(lease, NULL), NULL);
	sql(lease->db, "INSERT INTO t VALUES (100, 100)");
	must(pp_rollback(lease, NULL), NULL);
	must(pp_begin(lease, NULL), NULL);
	sql(lease->db, "INSERT INTO t DEFAULT VALUES");
	must(pp_commit(lease, NULL), NULL);
	CHECK_INT(pp_commit(lease, NULL), ==, PP_MISUSE);
	return PP_OK;
}

TEST_ROWS(write, refuses_calls_on_its_pool_from_inside_but_nests, MODES)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(2);
	struct call calls[3] = { { .work = call_the_pool },
		                 { .work = call_the_pool },
		                 { .work = call_the_pool } };

	calls_group(&f, calls, 3, row == 1);
	for (unsigned i = 0; i < 3; i++)
		must(calls[i].status, &calls[i].error);
	CHECK_INT(rows_in(f.pool), ==, 3);
	CHECK_INT(stats(f.pool).groups, ==, 1);
}

struct thief {
	struct call call;
	struct pp_lease copy;
};

static enum pp_status steal_the_lease(struct pp_lease *lease, void *context)
{
	((struct thief *)context)->copy = *lease;
	return run_sql(lease, context);
}

static enum pp_status use_the_stolen_one(struct pp_lease *lease, void *context)
{
	struct call *call = context;
	struct thief *thief = call->context;
	sqlite3_stmt *stmt;

	CHECK_INT(pp_prepare(&thief->copy, "SELECT 1", &stmt, NULL), ==, PP_MISUSE);
	CHECK_INT(pp_begin(&thief->copy, NULL), ==, PP_MISUSE);
	return run_sql(lease, context);
}

/* Each has a lease of its own: what one kept is not good while another has it. */
TEST(write, tells_the_leases_of_a_group_apart)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	struct thief thief = { .call = { .work = steal_the_lease, .pool = f.pool } };
	struct call second = { .work = use_the_stolen_one, .context = &thief };
	struct pp_lease lease = { 0 };

	acquire_elsewhere(f.pool, PP_WRITE, &lease);
	calls_line_up(&f, &thief.call, 1, false);
	calls_line_up(&f, &second, 1, false);
	pp_release(&lease);
	calls_join(&thief.call, 1);
	calls_join(&second, 1);
	must(thief.call.status, &thief.call.error);
	must(second.status, &second.error);
	CHECK_INT(stats(f.pool).groups, ==, 1);
}

/* --- Beside others -------------------------------------------------------------------------- */

static enum pp_status write_elsewhere(struct pp_lease *lease, void *context)
{
	struct call *call = context;
	enum pp_status status = pp_write(call->context, NULL, run_sql, call, NULL, NULL);

	return status == PP_OK ? run_sql(lease, context) : status;
}

TEST_ROWS(write, may_write_to_another_pool_inside, MODES)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	CLEANUP(fixture_close) struct fixture g = fixture_open(1);
	struct call calls[3] = { { .work = write_elsewhere, .context = g.pool },
		                 { .work = write_elsewhere, .context = g.pool },
		                 { .work = write_elsewhere, .context = g.pool } };

	calls_group(&f, calls, 3, row == 1);
	for (unsigned i = 0; i < 3; i++)
		must(calls[i].status, &calls[i].error);
	CHECK_INT(rows_in(f.pool), ==, 3);
	CHECK_INT(rows_in(g.pool), ==, 3);
}

/* Readers and the writer exclude each other there. */
TEST_ROWS(write, works_with_a_rollback_journal_and_memdb, 4)
{
	struct pp_config config = { .readers = 2, .journal = PP_JOURNAL_DELETE };
	struct call calls[4] = { 0 };

	if (row / 2 == 1)
		config = (struct pp_config){ .readers = 2, .path = "file:/write?vfs=memdb" };
	CLEANUP(fixture_close) struct fixture f = fixture_config(config);
	calls_group(&f, calls, 4, row % 2 == 1);
	for (unsigned i = 0; i < 4; i++)
		must(calls[i].status, &calls[i].error);
	CHECK(stats(f.pool).gated);
	CHECK_INT(stats(f.pool).groups, ==, 1);
	CHECK_INT(rows_in(f.pool), ==, 4);
}

/* A thread that holds a lease is seen by who looks for circles only in the line. */
TEST(write, of_a_holder_is_by_itself)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(2);
	struct call call = { .pool = f.pool };
	struct pp_lease lease = { 0 };

	acquire(f.pool, PP_READ, &lease);
	call_run(&call);
	must(call.status, &call.error);
	CHECK_INT(stats(f.pool).groups, ==, 0);
	CHECK_INT(call.written.last_insert_rowid, ==, 1);
	pp_release(&lease);
	acquire(f.pool, PP_WRITE, &lease);
	call_run(&call);
	CHECK_INT(call.status, ==, PP_WOULD_DEADLOCK);
	pp_release(&lease);
	CHECK_INT(call.runs, ==, 1);
}

TEST(write, of_who_holds_a_reader_where_lanes_exclude_each_other_would_deadlock)
{
	CLEANUP(fixture_close)
	struct fixture f =
		fixture_config((struct pp_config){ .readers = 2, .journal = PP_JOURNAL_DELETE });
	struct call call = { .pool = f.pool };
	struct pp_lease lease = { 0 };

	acquire(f.pool, PP_READ, &lease);
	call_run(&call);
	CHECK_INT(call.status, ==, PP_WOULD_DEADLOCK);
	pp_release(&lease);
}

/* Who has passed the baton on holds nothing: his thread may wait for the writer. */
static void *write_twice(void *context)
{
	struct call *call = context;
	struct pp_lease lease = { 0 };

	call_run(call);
	acquire(call->pool, PP_WRITE, &lease);
	pp_release(&lease);
	CHECK_INT(leases_held(), ==, 0);
	return NULL;
}

TEST_ROWS(write, leaves_no_lease_with_its_threads, MODES)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	struct call calls[3] = { [1].sql = "nonsense" };
	struct pp_lease lease = { 0 };

	acquire_elsewhere(f.pool, PP_WRITE, &lease);
	for (unsigned i = 0; i < 3; i++) {
		calls[i].pool = f.pool;
		calls[i].options.any_thread = row == 1;
		calls[i].thread = thread_start(write_twice, &calls[i]);
		WAIT_FOR(stats(f.pool).write.waiting == i + 1);
	}
	pp_release(&lease);
	calls_join(calls, 3);
	CHECK_INT(rows_in(f.pool), ==, 2);
}

/* The exclusive lease and a suspension wait for the group, and it for them. */
TEST(write, waits_for_whoever_has_the_whole_pool)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	struct call calls[2] = { 0 };
	struct pp_lease lease = { 0 };

	must(pp_acquire(f.pool, PP_EXCLUSIVE, PP_FOREVER, &lease, NULL), NULL);
	calls_line_up(&f, calls, 2, false);
	sql(lease.db, "VACUUM");
	CHECK_INT(number(lease.db, "SELECT count(*) FROM t"), ==, 0);
	pp_release(&lease);
	calls_join(calls, 2);
	CHECK_INT(pp_suspend(f.pool, PP_FOREVER), ==, PP_OK);
	calls_line_up(&f, calls, 2, false);
	CHECK_INT(pp_resume(f.pool), ==, PP_OK);
	calls_join(calls, 2);
	CHECK_INT(rows_in(f.pool), ==, 4);
}

/* --- Seeing it ------------------------------------------------------------------------------ */

static enum pp_status look_at_the_holder(struct pp_lease *lease, void *context)
{
	struct call *call = context;
	struct pp_connection seen[8];
	sqlite3_stmt *stmt;
	unsigned n;

	must(pp_prepare(lease, call->sql, &stmt, NULL), NULL);
	CHECK_INT(pp_connections_read(call->pool, seen, 8, &n), ==, PP_OK);
	CHECK_INT(seen[0].state, ==, PP_CONNECTION_LENT);
	CHECK_INT(seen[0].thread, ==, thread_number());
	CHECK_STR(seen[0].sql, call->sql);
	return run_sql(lease, call);
}

TEST_ROWS(write, shows_whose_callback_runs, MODES)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	struct call calls[3] = {
		{ .work = look_at_the_holder, .sql = "INSERT INTO t(v) VALUES (1)" },
		{ .work = look_at_the_holder, .sql = "INSERT INTO t(v) VALUES (2)" },
		{ .work = look_at_the_holder, .sql = "INSERT INTO t(v) VALUES (3)" }
	};

	calls_group(&f, calls, 3, row == 1);
	for (unsigned i = 0; i < 3; i++)
		must(calls[i].status, &calls[i].error);
}

TEST(write, shows_in_the_metrics)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	static char text[65536];
	struct call calls[3] = { 0 };
	struct pp_histogram h;

	calls_group(&f, calls, 3, false);
	call_run(&calls[0]);
	CHECK_INT(pp_metrics_text(f.pool, "x", text, sizeof text), <, sizeof text);
	CHECK_CONTAINS(text, "poolproof_writes_total{pool=\"x\"} 4\n");
	CHECK_CONTAINS(text, "poolproof_groups_total{pool=\"x\"} 2\n");
	CHECK_CONTAINS(text, "poolproof_group_size_bucket{pool=\"x\",le=\"1.0\"} 1\n");
	CHECK_CONTAINS(text, "poolproof_group_size_bucket{pool=\"x\",le=\"2.0\"} 1\n");
	CHECK_CONTAINS(text, "poolproof_group_size_bucket{pool=\"x\",le=\"4.0\"} 2\n");
	CHECK_CONTAINS(text, "poolproof_group_size_bucket{pool=\"x\",le=\"128.0\"} 2\n");
	CHECK_CONTAINS(text, "poolproof_group_size_bucket{pool=\"x\",le=\"+Inf\"} 2\n");
	CHECK_CONTAINS(text, "poolproof_group_size_sum{pool=\"x\"} 4\n");
	CHECK_CONTAINS(text, "poolproof_group_size_count{pool=\"x\"} 2\n");
	CHECK_INT(pp_histogram_read(f.pool, PP_HISTOGRAM_TRANSACTION, &h), ==, PP_OK);
	CHECK_INT(h.count, ==, 4);
	CHECK_INT(pp_histogram_read(f.pool, PP_HISTOGRAM_WAIT, &h), ==, PP_OK);
	CHECK_INT(h.count, ==, 3);
}

static enum pp_status let_an_hour_pass(struct pp_lease *lease, void *context)
{
	clock_travel_ms(3600000);
	return run_sql(lease, context);
}

/* The second has waited for the first one's callback, and not in the line. */
TEST(write, shows_how_long_one_waited_for_his_turn_in_a_group)
{
	CLEANUP(fixture_close) struct fixture f = manual((struct pp_config){ .readers = 1 }, NULL);
	struct call calls[2] = { { .work = let_an_hour_pass } };
	struct pp_lane_stats s;

	calls_group(&f, calls, 2, false);
	must(calls[0].status, &calls[0].error);
	must(calls[1].status, &calls[1].error);
	s = stats(f.pool).write;
	CHECK_INT(s.wait_ns_max / 1000000, >=, 3600000);
	CHECK_INT(s.wait_ns_total, >=, s.wait_ns_max);
}

static const struct {
	const char *what, *says;
} flaws[] = {
	{ "a waiter too many counted", "its chain is not what was counted" },
	{ "a waiter too many published", "others wait than are published" },
	{ "nobody leads", "somebody waits and nobody leads" },
};

TEST_ROWS(check, finds_a_flaw_in_a_group, sizeof flaws / sizeof *flaws)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	struct group *group = &f.pool->group;
	struct call calls[2] = { 0 };
	struct pp_lease lease = { 0 };
	char text[256];

	acquire_elsewhere(f.pool, PP_WRITE, &lease);
	calls_line_up(&f, calls, 2, false);
	CHECK_INT(pp_check(f.pool, text, sizeof text), ==, 0);
	group->counts.waiting += row == 0;
	atomic_fetch_add(&group->waiting, row == 1);
	group->led = row != 2;
	CHECK_INT(pp_check(f.pool, text, sizeof text), ==, 1);
	CHECK_CONTAINS(text, flaws[row].says);
	group->counts.waiting -= row == 0;
	atomic_fetch_sub(&group->waiting, row == 1);
	group->led = true;
	pp_release(&lease);
	calls_join(calls, 2);
}
