/* pp_write(): deadlines, tokens and closing, before a member is taken and while it runs. */
/* SPDX-License-Identifier: MIT */
#include "group.h"

#include <dlfcn.h>

enum { MODES = 2, HOUR_MS = 3600000 };

static enum pp_status work_endless(struct pp_lease *lease, void *context)
{
	struct call *call = context;
	enum pp_status status = run_sql(lease, call);

	if (status != PP_OK)
		return status;
	atomic_store(&((struct gate *)call->context)->reached, true);
	return sqlite3_exec(lease->db, endless, NULL, NULL, NULL) == SQLITE_OK ? PP_OK : PP_SQLITE;
}

static enum pp_status write_endless(struct pp_lease *lease, void *context)
{
	static const char writes[] =
		"INSERT INTO t(v) WITH RECURSIVE n(x) AS (SELECT 1000 UNION ALL "
		"SELECT x + 1 FROM n) SELECT x FROM n WHERE x < 2000 OR x < 0";
	struct call *call = context;

	atomic_fetch_add(&call->runs, 1);
	atomic_store(&((struct gate *)call->context)->reached, true);
	return sqlite3_exec(lease->db, writes, NULL, NULL, NULL) == SQLITE_OK ? PP_OK : PP_SQLITE;
}

/* --- Before it is taken --------------------------------------------------------------------- */

static const struct {
	const char *what;
	enum pp_status status;
} ends[] = {
	{ "its deadline passes", PP_TIMEOUT },
	{ "its token is cancelled", PP_CANCELLED },
};

static void end_it(int how, struct pp_token *token)
{
	if (how == 0)
		clock_travel_ms(HOUR_MS);
	else
		pp_cancel(token);
}

TEST_ROWS(waiting, member_leaves_when, 2 * MODES)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	struct pp_token token = { 0 };
	struct call calls[4] = { 0 };
	struct pp_lease lease = { 0 };
	int how = row / MODES;

	for (unsigned i = 0; i < 4; i++)
		calls[i].options.deadline = PP_FOREVER;
	calls[2].options.deadline = pp_with_token(pp_in_ms(HOUR_MS), &token);
	acquire_elsewhere(f.pool, PP_WRITE, &lease);
	calls_line_up(&f, calls, 4, row % MODES == 1);
	end_it(how, &token);
	pthread_join(calls[2].thread, NULL);
	CHECK_INT(calls[2].status, ==, ends[how].status);
	CHECK_STR(calls[2].error.doing, "wait for a group");
	CHECK_INT(calls[2].error.waiting, ==, 3); /* In the line, and for the group. */
	CHECK_INT(calls[2].runs, ==, 0);
	CHECK_INT(stats(f.pool).write.waiting, ==, 3);
	CHECK_INT(stats(f.pool).write.timeouts, ==, how == 0);
	CHECK_INT(stats(f.pool).cancels, ==, how == 1);
	pp_release(&lease);
	for (unsigned i = 0; i < 4; i++)
		if (i != 2)
			pthread_join(calls[i].thread, NULL);
	CHECK_INT(rows_in(f.pool), ==, 3);
	CHECK_INT(stats(f.pool).groups, ==, 1);
}

/* The one that stands in the line for all: the next one takes its place there. */
TEST_ROWS(waiting, leader_leaves_when, 2)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	struct pp_token token = { 0 };
	struct call calls[3] = { 0 };
	struct pp_lease lease = { 0 };

	calls[1].options.deadline = calls[2].options.deadline = PP_FOREVER;
	calls[0].options.deadline = pp_with_token(pp_in_ms(HOUR_MS), &token);
	acquire_elsewhere(f.pool, PP_WRITE, &lease);
	calls_line_up(&f, calls, 3, false);
	end_it(row, &token);
	pthread_join(calls[0].thread, NULL);
	CHECK_INT(calls[0].status, ==, ends[row].status);
	CHECK_INT(calls[0].runs, ==, 0);
	WAIT_FOR(atomic_load(&f.pool->lines[1].waiting) == 1);
	pp_release(&lease);
	calls_join(&calls[1], 2);
	CHECK_INT(rows_in(f.pool), ==, 2);
	CHECK_INT(stats(f.pool).groups, ==, 1);
}

TEST(waiting, past_the_end_of_the_line_is_refused)
{
	CLEANUP(fixture_close)
	struct fixture f = fixture_config((struct pp_config){ .readers = 1, .line_max = 2 });
	struct call calls[3] = { 0 }, more = { .pool = f.pool };
	struct pp_lease lease = { 0 };

	acquire_elsewhere(f.pool, PP_WRITE, &lease);
	calls_line_up(&f, calls, 3, false); /* One of them is in the line itself. */
	call_run(&more);
	CHECK_INT(more.status, ==, PP_OVERLOADED);
	CHECK_CONTAINS(more.error.message, "raise line_max");
	CHECK_INT(stats(f.pool).write.overloads, ==, 1);
	pp_release(&lease);
	calls_join(calls, 3);
	CHECK_INT(rows_in(f.pool), ==, 3);
}

static atomic_bool holding, let_go;

static enum pp_status hold_on(struct pp_lease *lease, void *context)
{
	atomic_store(&holding, true);
	WAIT_FOR(atomic_load(&let_go));
	return run_sql(lease, context);
}

static void *close_patiently(void *pool)
{
	CHECK_INT(pp_close(pool, PP_FOREVER, NULL), ==, PP_OK);
	return NULL;
}

/* Who runs is waited for by the closer; who only waits is told at once. */
TEST(waiting, ends_with_the_pool_while_another_runs)
{
	CLEANUP(fixture_remove) struct fixture f = fixture_open(1);
	struct call calls[2] = { { .work = hold_on } };
	pthread_t closer;

	for (unsigned i = 0; i < 2; i++) {
		calls[i].pool = f.pool;
		calls[i].options.deadline = PP_FOREVER;
		call_start(&calls[i]);
		WAIT_FOR(i == 0 ? atomic_load(&holding) : stats(f.pool).write.waiting == 1);
	}
	closer = thread_start(close_patiently, f.pool);
	pthread_join(calls[1].thread, NULL);
	CHECK_INT(calls[1].status, ==, PP_CLOSED);
	CHECK_INT(calls[1].runs, ==, 0);
	atomic_store(&let_go, true);
	pthread_join(calls[0].thread, NULL);
	must(calls[0].status, &calls[0].error);
	pthread_join(closer, NULL);
}

TEST(waiting, ends_with_the_pool)
{
	CLEANUP(fixture_remove) struct fixture f = fixture_open(1);
	struct call calls[4] = { 0 }, late = { .pool = f.pool };
	struct pp_lease lease = { 0 };
	struct pp_closing closing;

	for (unsigned i = 0; i < 4; i++)
		calls[i].options.deadline = PP_FOREVER;
	acquire_elsewhere(f.pool, PP_WRITE, &lease);
	calls_line_up(&f, calls, 4, false);
	CHECK_INT(pp_close(f.pool, PP_NO_WAIT, &closing), ==, PP_LEASED);
	calls_join(calls, 4);
	for (unsigned i = 0; i < 4; i++) {
		CHECK_INT(calls[i].status, ==, PP_CLOSED);
		CHECK_INT(calls[i].runs, ==, 0);
	}
	call_run(&late);
	CHECK_INT(late.status, ==, PP_CLOSED);
	pp_release(&lease);
	CHECK_INT(pp_close(f.pool, PP_NO_WAIT, &closing), ==, PP_OK);
	CHECK_INT(closing.residue_bytes, ==, 0);
}

/* A wake-up in the moment between its last look and its sleep is not lost: it would sleep for ever.
 */
TEST(waiting, member_misses_no_cancel)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	struct call leader = { 0 };
	struct pp_lease lease = { 0 };

	acquire_elsewhere(f.pool, PP_WRITE, &lease);
	calls_line_up(&f, &leader, 1, false);
	for (unsigned round = 0; round < 1000 / slowness(); round++) {
		struct pp_token token = { 0 };
		struct call call = { .pool = f.pool,
			             .options.deadline = pp_with_token(PP_FOREVER, &token) };

		call_start(&call);
		while (atomic_load(&f.pool->group.waiting) == 0)
			;
		pp_cancel(&token);
		pthread_join(call.thread, NULL);
		CHECK_INT(call.status, ==, PP_CANCELLED);
	}
	pp_release(&lease);
	calls_join(&leader, 1);
}

/* --- While it runs -------------------------------------------------------------------------- */

static const struct {
	const char *what;
	pp_work *work;
	unsigned reruns; /* Of the one before: SQLite rolls everything back when a write is stopped.
	                  */
} endless_works[] = {
	{ "a read", work_endless, 0 },
	{ "a write", write_endless, 1 },
};

TEST_ROWS(running, member_is_stopped_alone, 2 * 2 * MODES)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	struct pp_token token = { 0 };
	struct gate gate = { 0 };
	struct call calls[3] = { { .options.deadline = PP_FOREVER },
		                 { .work = endless_works[row / 4].work,
		                   .context = &gate,
		                   .options.deadline = pp_with_token(pp_in_ms(HOUR_MS), &token) },
		                 { .options.deadline = PP_FOREVER } };
	struct pp_lease lease = { 0 };
	int how = row / 2 % 2;

	acquire_elsewhere(f.pool, PP_WRITE, &lease);
	calls_line_up(&f, calls, 3, row % MODES == 1);
	pp_release(&lease);
	WAIT_FOR(atomic_load(&gate.reached));
	end_it(how, &token);
	calls_join(calls, 3);
	CHECK_INT(calls[1].status, ==, ends[how].status);
	CHECK_INT(calls[1].error.sqlite_code, ==, SQLITE_INTERRUPT);
	must(calls[0].status, &calls[0].error);
	must(calls[2].status, &calls[2].error);
	CHECK_INT(stats(f.pool).reruns, ==, endless_works[row / 4].reruns);
	CHECK_INT(rows_in(f.pool), ==, 2);
}

static enum pp_status end_while_running(struct pp_lease *lease, void *context)
{
	struct call *call = context;

	end_it(call->options.deadline.token == NULL ? 0 : 1, call->options.deadline.token);
	return run_sql(lease, call);
}

/* Nothing that it ran was long enough to be stopped: it is asked when it is through. */
TEST_ROWS(running, member_is_asked_at_its_end, 2 * MODES)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	struct pp_token token = { 0 };
	struct call calls[3] = { [1].work = end_while_running };

	calls[0].options.deadline = calls[2].options.deadline = PP_FOREVER;
	calls[1].options.deadline =
		row / MODES == 0 ? pp_in_ms(HOUR_MS) : pp_with_token(PP_FOREVER, &token);
	calls_group(&f, calls, 3, row % MODES == 1);
	CHECK_INT(calls[1].status, ==, ends[row / MODES].status);
	CHECK_STR(calls[1].error.doing, "commit");
	must(calls[0].status, &calls[0].error);
	must(calls[2].status, &calls[2].error);
	CHECK_INT(stats(f.pool).reruns, ==, 0);
	CHECK_INT(rows_in(f.pool), ==, 2);
}

/* In time, and the group's commit is not: it is committed all the same. */
TEST_ROWS(running, group_commits_past_the_deadline_of_who_has_run, 2 * MODES)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	struct pp_token token = { 0 };
	struct gate gate = { 0 };
	struct call calls[2] = {
		{ .options.deadline = pp_with_token(pp_in_ms(HOUR_MS), &token) },
		{ .work = wait_inside, .context = &gate, .options.deadline = PP_FOREVER }
	};
	struct pp_lease lease = { 0 };

	acquire_elsewhere(f.pool, PP_WRITE, &lease);
	calls_line_up(&f, calls, 2, row % MODES == 1);
	pp_release(&lease);
	WAIT_FOR(atomic_load(&gate.reached));
	end_it(row / MODES, &token);
	atomic_store(&gate.open, true);
	calls_join(calls, 2);
	must(calls[0].status, &calls[0].error);
	must(calls[1].status, &calls[1].error);
	CHECK_INT(stats(f.pool).groups, ==, 1);
	CHECK_INT(rows_in(f.pool), ==, 2);
}

/* A deadline is kept at last: past the group's time it leaves, and what is left is done again. The
 * leader runs the others' callbacks with any_thread, so there it is the second one that leaves. */
TEST_ROWS(running, member_that_has_run_leaves_a_group_that_does_not_end, 2 * MODES)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	struct pp_token token = { 0 };
	struct gate gate = { 0 };
	struct call calls[4] = {
		{ .options.deadline = PP_FOREVER },
		{ .options.deadline = pp_with_token(pp_in_ms(HOUR_MS), &token) },
		{ .work = wait_inside, .context = &gate, .options.deadline = PP_FOREVER },
		{ .options.deadline = PP_FOREVER }
	};
	struct pp_lease lease = { 0 };
	char text[256];

	acquire_elsewhere(f.pool, PP_WRITE, &lease);
	calls_line_up(&f, calls, 4, row % MODES == 1);
	f.pool->group.take_ns = 2 * HOUR_MS * UINT64_C(1000000);
	pp_release(&lease);
	WAIT_FOR(atomic_load(&gate.reached));
	CHECK_MSG(pp_check(f.pool, text, sizeof text) == 0, "%s", text);
	end_it(row / MODES, &token);
	clock_travel_ms(2 * HOUR_MS);
	pthread_join(calls[1].thread, NULL);
	CHECK_INT(calls[1].status, ==, ends[row / MODES].status);
	CHECK_CONTAINS(calls[1].error.message,
	               row / MODES == 0 ? "kept it from its commit" : "cancelled");
	CHECK_INT(calls[1].runs, ==, 1);
	atomic_store(&gate.open, true);
	for (unsigned i = 0; i < 4; i++) {
		if (i == 1)
			continue;
		pthread_join(calls[i].thread, NULL);
		must(calls[i].status, &calls[i].error);
		CHECK_INT(calls[i].runs, ==, i == 3 ? 1 : 2);
	}
	CHECK_INT(stats(f.pool).reruns, ==, 2);
	CHECK_INT(rows_in(f.pool), ==, 3);
}

/* What ends the second member between the last look at that and its place among those who have run:
 * while its foreign keys are asked for, in place of SQLite's own function. */
static struct late {
	struct pp_pool *pool;
	struct pp_token token;
	int how;
	unsigned asked;
} late;

int sqlite3_db_status(sqlite3 *db, int op, int *current, int *highest, int reset)
{
	int (*real)(sqlite3 *, int, int *, int *, int) =
		(int (*)(sqlite3 *, int, int *, int *, int))dlsym(RTLD_NEXT, "sqlite3_db_status");

	if (late.pool != NULL && ++late.asked == 2) {
		end_it(late.how, &late.token);
		/* Now the bound comes by itself, in real time: nobody is woken for it. */
		late.pool->group.batches[0].until_ns =
			clock_ns() + slowness() * UINT64_C(300000000);
	}
	return real(db, op, current, highest, reset);
}

/* Its own thread sleeps meanwhile, since another one carries it. */
TEST_ROWS(running, member_that_is_carried_sleeps_no_end_over, 2)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	struct gate gate = { 0 };
	struct call calls[3] = {
		{ .options.deadline = PP_FOREVER },
		{ .options.deadline = pp_with_token(pp_in_ms(HOUR_MS), &late.token) },
		{ .work = wait_inside, .context = &gate, .options.deadline = PP_FOREVER },
	};
	struct pp_lease lease = { 0 };

	late.how = row;
	late.pool = f.pool;
	acquire_elsewhere(f.pool, PP_WRITE, &lease);
	calls_line_up(&f, calls, 3, true);
	pp_release(&lease);
	WAIT_FOR(atomic_load(&gate.reached));
	pthread_join(calls[1].thread, NULL);
	CHECK_INT(late.asked, ==, 2);
	CHECK_INT(calls[1].status, ==, ends[row].status);
	CHECK_INT(calls[1].runs, ==, 1);
	atomic_store(&gate.open, true);
	pthread_join(calls[0].thread, NULL);
	pthread_join(calls[2].thread, NULL);
	CHECK_INT(rows_in(f.pool), ==, 2);
}

static void *close_it(void *context)
{
	CHECK_INT(pp_close(context, PP_FOREVER, NULL), ==, PP_OK);
	return NULL;
}

/* Who waits is told; who runs, and has run, gets his commit. */
TEST_ROWS(running, group_is_committed_when_the_pool_closes_meanwhile, MODES)
{
	CLEANUP(fixture_remove) struct fixture f = fixture_open(1);
	struct gate gate = { 0 };
	struct call calls[4] = { [1] = { .work = wait_inside, .context = &gate } };
	struct pp_lease lease = { 0 };
	pthread_t closer;

	for (unsigned i = 0; i < 4; i++)
		calls[i].options.deadline = PP_FOREVER;
	acquire_elsewhere(f.pool, PP_WRITE, &lease);
	calls_line_up(&f, calls, 4, row == 1);
	pp_release(&lease);
	WAIT_FOR(atomic_load(&gate.reached));
	closer = thread_start(close_it, f.pool);
	calls_join(&calls[2], 2);
	CHECK_INT(calls[2].status, ==, PP_CLOSED);
	CHECK_INT(calls[3].status, ==, PP_CLOSED);
	atomic_store(&gate.open, true);
	calls_join(calls, 2);
	must(calls[0].status, &calls[0].error);
	must(calls[1].status, &calls[1].error);
	pthread_join(closer, NULL);
	must(pp_open(&(struct pp_config){ .path = f.path }, &f.pool, NULL), NULL);
	CHECK_INT(rows_in(f.pool), ==, 2);
	CHECK_INT(pp_close(f.pool, PP_FOREVER, NULL), ==, PP_OK);
}

/* At its deadline the closer interrupts: him who runs, and not the commit of who has run. */
TEST_ROWS(running, member_is_interrupted_by_the_closer_alone, MODES)
{
	CLEANUP(fixture_remove) struct fixture f = fixture_open(1);
	struct gate gate = { 0 };
	struct call calls[2] = { [1] = { .work = wait_inside, .context = &gate } };
	struct pp_lease lease = { 0 };
	struct pp_closing closing;

	calls[0].options.deadline = calls[1].options.deadline = PP_FOREVER;
	acquire_elsewhere(f.pool, PP_WRITE, &lease);
	calls_line_up(&f, calls, 2, row == 1);
	pp_release(&lease);
	WAIT_FOR(atomic_load(&gate.reached));
	CHECK_INT(pp_close(f.pool, PP_NO_WAIT, &closing), ==, PP_LEASED);
	CHECK_INT(closing.leased, ==, 1);
	atomic_store(&gate.open, true);
	CHECK_INT(pp_close(f.pool, PP_FOREVER, &closing), ==, PP_OK);
	CHECK_INT(closing.residue_bytes, ==, 0);
	calls_join(calls, 2);
	must(calls[0].status, &calls[0].error);
	CHECK_INT(calls[1].status, ==, PP_TIMEOUT);
	CHECK_CONTAINS(calls[1].error.message, "the pool closes");
}
