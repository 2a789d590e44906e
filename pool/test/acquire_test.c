/* Borrowing: the two lanes, the line, deadlines, hand-over, the gate. */
/* SPDX-License-Identifier: MIT */
#include "fixture.h"

TEST(acquire, times_out_when_everything_is_leased)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	CLEANUP(pp_release) struct pp_lease first = { 0 }, second = { 0 };
	struct pp_error error = { 0 };
	char text[512];

	acquire_elsewhere(f.pool, PP_READ, &first);
	CHECK_INT(pp_acquire(f.pool, PP_READ, pp_in_ms(20), &second, &error), ==, PP_TIMEOUT);
	CHECK(second.db == NULL); /* Outputs are written on success only. */
	CHECK_INT(error.status, ==, PP_TIMEOUT);
	CHECK_INT(error.connections, ==, 2);
	CHECK_INT(error.leased, ==, 1);
	CHECK_INT(error.elapsed_ns, >=, 20000000);
	pp_error_text(&error, text, sizeof text);
	CHECK_CONTAINS(text, "acquire a reader: no connection became free in time");
	CHECK_CONTAINS(text, "1 of 2 connections lent");
	CHECK_INT(stats(f.pool).read.timeouts, ==, 1);
}

TEST(acquire, does_not_wait_when_told_so)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	CLEANUP(pp_release) struct pp_lease first = { 0 }, second = { 0 };

	CHECK_INT(pp_acquire(f.pool, PP_WRITE, PP_NO_WAIT, &first, NULL), ==, PP_OK);
	CHECK_INT(pp_acquire(f.pool, PP_WRITE, PP_NO_WAIT, &second, NULL), ==, PP_TIMEOUT);
	CHECK_INT(pp_acquire(f.pool, PP_READ, PP_NO_WAIT, &second, NULL), ==, PP_OK);
}

TEST(acquire, zeroed_deadline_is_the_pools_timeout)
{
	CLEANUP(fixture_close)
	struct fixture f = fixture_config((struct pp_config){ .readers = 1, .timeout_ms = 30 });
	CLEANUP(pp_release) struct pp_lease first = { 0 }, second = { 0 };
	struct pp_error error;

	acquire_elsewhere(f.pool, PP_READ, &first);
	CHECK_INT(pp_acquire(f.pool, PP_READ, (struct pp_deadline){ 0 }, &second, &error), ==,
	          PP_TIMEOUT);
	CHECK_INT(error.elapsed_ns, >=, 30000000);
}

TEST(acquire, deadlines_saturate)
{
	CHECK(pp_in_ms(UINT64_MAX).ns == PP_FOREVER.ns);
	CHECK(pp_in_ms(0).ns > PP_NO_WAIT.ns);
}

TEST(acquire, lanes_do_not_wait_for_each_other_in_wal_mode)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	CLEANUP(pp_release) struct pp_lease w = { 0 }, r = { 0 };

	acquire(f.pool, PP_WRITE, &w);
	sql(w.db, "BEGIN IMMEDIATE; INSERT INTO t VALUES (1, 1)");
	acquire(f.pool, PP_READ, &r);
	CHECK_INT(number(r.db, "SELECT count(*) FROM t"), ==, 0);
	sql(w.db, "COMMIT");
}

TEST(acquire, readers_cannot_write)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	CLEANUP(pp_release) struct pp_lease r = { 0 };

	acquire(f.pool, PP_READ, &r);
	CHECK_INT(sqlite3_exec(r.db, "INSERT INTO t VALUES (1, 1)", NULL, NULL, NULL), ==,
	          SQLITE_READONLY);
}

/* --- Waiting ------------------------------------------------------------------------------ */

TEST(acquire, waiter_is_woken_by_the_release)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	struct visitor v = { .pool = f.pool, .lane = PP_READ, .deadline = PP_FOREVER };
	struct pp_lease lease = { 0 };
	pthread_t thread;

	acquire(f.pool, PP_READ, &lease);
	thread = thread_start(visit, &v);
	WAIT_FOR(stats(f.pool).read.waiting == 1);
	pp_release(&lease);
	pthread_join(thread, NULL);
	CHECK_INT(v.status, ==, PP_OK);
	CHECK_INT(stats(f.pool).read.waits, ==, 1);
}

TEST(acquire, line_is_first_come_first_served)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	struct visitor v[8];
	struct pp_lease lease = { 0 };
	pthread_t threads[8];
	atomic_uint order = 0;

	acquire(f.pool, PP_WRITE, &lease);
	for (unsigned i = 0; i < 8; i++) {
		v[i] = (struct visitor){ f.pool, PP_WRITE, PP_FOREVER, PP_TIMEOUT, &order, 99 };
		threads[i] = thread_start(visit, &v[i]);
		WAIT_FOR(stats(f.pool).write.waiting == i + 1);
	}
	pp_release(&lease);
	for (unsigned i = 0; i < 8; i++)
		pthread_join(threads[i], NULL);
	for (unsigned i = 0; i < 8; i++)
		CHECK_INT(v[i].place, ==, i);
}

TEST(acquire, one_who_gives_up_leaves_the_line_whole)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	struct visitor v[3];
	struct pp_lease lease = { 0 };
	pthread_t threads[3];
	char text[512];

	acquire(f.pool, PP_WRITE, &lease);
	for (unsigned i = 0; i < 3; i++) {
		v[i] = (struct visitor){ .pool = f.pool,
			                 .lane = PP_WRITE,
			                 .deadline = i == 1 ? pp_in_ms(20) : PP_FOREVER };
		threads[i] = thread_start(visit, &v[i]);
		WAIT_FOR(stats(f.pool).write.waiting + stats(f.pool).write.timeouts == i + 1);
	}
	pthread_join(threads[1], NULL);
	CHECK_INT(v[1].status, ==, PP_TIMEOUT);
	CHECK_INT(stats(f.pool).write.waiting, ==, 2);
	CHECK_MSG(pp_check(f.pool, text, sizeof text) == 0, "%s", text);
	pp_release(&lease);
	pthread_join(threads[0], NULL);
	pthread_join(threads[2], NULL);
	CHECK_INT(v[2].status, ==, PP_OK);
}

TEST(acquire, refuses_at_once_when_the_line_is_full)
{
	CLEANUP(fixture_close)
	struct fixture f = fixture_config((struct pp_config){ .readers = 1, .line_max = 1 });
	struct visitor v = { .pool = f.pool, .lane = PP_READ, .deadline = PP_FOREVER };
	struct pp_lease lease = { 0 }, none = { 0 };
	struct pp_error error;
	pthread_t thread;

	acquire_elsewhere(f.pool, PP_READ, &lease);
	thread = thread_start(visit, &v);
	WAIT_FOR(stats(f.pool).read.waiting == 1);
	CHECK_INT(pp_acquire(f.pool, PP_READ, PP_FOREVER, &none, &error), ==, PP_OVERLOADED);
	CHECK_CONTAINS(error.message, "line_max");
	CHECK_INT(error.waiting, ==, 1);
	pp_release(&lease);
	pthread_join(thread, NULL);
	CHECK_INT(stats(f.pool).read.overloads, ==, 1);
}

struct greedy {
	struct pp_pool *pool;
	atomic_bool stop;
	atomic_uint rounds;
};

static void *grab_again_and_again(void *context)
{
	struct greedy *g = context;
	struct pp_lease lease = { 0 };

	while (!atomic_load(&g->stop)) {
		acquire(g->pool, PP_WRITE, &lease);
		pp_release(&lease);
		atomic_fetch_add(&g->rounds, 1);
	}
	return NULL;
}

/* Without hand-over one who gives back and takes at once keeps a sleeper out for as long as it
 * likes: on two cores the sleeper hardly ever finds the slot free. */
TEST(acquire, head_of_the_line_is_handed_the_connection_when_overdue)
{
	CLEANUP(fixture_close)
	struct fixture f = fixture_config((struct pp_config){ .readers = 1, .overtake_ms = 1 });
	struct greedy g[3] = { { .pool = f.pool }, { .pool = f.pool }, { .pool = f.pool } };
	pthread_t threads[3];

	for (unsigned i = 0; i < 3; i++)
		threads[i] = thread_start(grab_again_and_again, &g[i]);
	WAIT_FOR(stats(f.pool).write.handovers >= 20 / slowness() + 1);
	for (unsigned i = 0; i < 3; i++)
		WAIT_FOR(atomic_load(&g[i].rounds) > 10 / slowness());
	for (unsigned i = 0; i < 3; i++)
		atomic_store(&g[i].stop, true);
	for (unsigned i = 0; i < 3; i++)
		pthread_join(threads[i], NULL);
}

/* --- Stress ------------------------------------------------------------------------------- */

/* A slot is at least one cache line; the slots of one pool are in one block. */
enum { STRESS_THREADS = 8, STRESS_ROUNDS = 2000, HOLDERS = 4096 };

struct stress {
	struct pp_pool *pool;
	unsigned seed;
	atomic_int *holders; /* By slot: never above 1. */
	enum pp_lane lane;
	unsigned timeouts;
};

static void *stress_run(void *context)
{
	struct stress *s = context;

	for (unsigned i = 0; i < STRESS_ROUNDS / slowness(); i++) {
		struct pp_lease lease = { 0 };
		struct pp_deadline deadline = rand_r(&s->seed) % 8 == 0 ? pp_in_ms(0) : PP_FOREVER;
		enum pp_status status = pp_acquire(s->pool, s->lane, deadline, &lease, NULL);

		if (status == PP_TIMEOUT) {
			s->timeouts++;
			continue;
		}
		CHECK_INT(status, ==, PP_OK);
		atomic_int *holder = &s->holders[((uintptr_t)lease.slot >> 6) % HOLDERS];

		CHECK_INT(atomic_fetch_add(holder, 1), ==, 0);
		if (rand_r(&s->seed) % 4 == 0)
			sched_yield();
		CHECK_INT(atomic_fetch_sub(holder, 1), ==, 1);
		pp_release(&lease);
	}
	return NULL;
}

/* Never two holders of one connection, never a lost wake-up (a thread would wait for ever and the
 * test die by its time limit), and nothing miscounted in the end. The seed is the row. */
static void stress(struct pp_config config, unsigned seed)
{
	CLEANUP(fixture_close) struct fixture f = fixture_config(config);
	static atomic_int holders[HOLDERS];
	struct stress s[STRESS_THREADS];
	pthread_t threads[STRESS_THREADS];
	unsigned timeouts = 0;

	for (unsigned i = 0; i < STRESS_THREADS; i++) {
		s[i] = (struct stress){ f.pool, seed * 1000 + i, holders,
			                i % 4 == 0 ? PP_WRITE : PP_READ, 0 };
		threads[i] = thread_start(stress_run, &s[i]);
	}
	for (unsigned i = 0; i < 50 / slowness() + 1; i++) {
		char text[1024];

		CHECK_MSG(pp_check(f.pool, text, sizeof text) == 0, "%s", text);
	}
	for (unsigned i = 0; i < STRESS_THREADS; i++) {
		pthread_join(threads[i], NULL);
		timeouts += s[i].timeouts;
	}
	struct pp_stats end = stats(f.pool);

	CHECK_INT(end.read.timeouts + end.write.timeouts, ==, timeouts);
	/* The fixture made the table with one acquire. */
	CHECK_INT(end.read.acquires + end.write.acquires + timeouts, ==,
	          STRESS_THREADS * (STRESS_ROUNDS / slowness()) + 1);
	CHECK_INT(end.read.leased + end.write.leased + end.read.waiting + end.write.waiting, ==, 0);
}

TEST_ROWS(acquire, stress_lends_each_connection_once, 4)
{
	stress((struct pp_config){ .readers = 2, .overtake_ms = 1 }, (unsigned)row + 1);
}

TEST_ROWS(acquire, stress_behind_the_gate, 2)
{
	stress((struct pp_config){ .readers = 2, .journal = PP_JOURNAL_DELETE }, (unsigned)row + 1);
}

/* --- The gate ----------------------------------------------------------------------------- */

TEST(gate, writer_waits_for_readers_and_readers_for_the_writer)
{
	CLEANUP(fixture_close)
	struct fixture f =
		fixture_config((struct pp_config){ .readers = 2, .journal = PP_JOURNAL_DELETE });
	struct visitor w = { .pool = f.pool, .lane = PP_WRITE, .deadline = PP_FOREVER };
	struct visitor r = { .pool = f.pool, .lane = PP_READ, .deadline = PP_FOREVER };
	struct pp_lease one = { 0 }, two = { 0 };
	pthread_t writer, reader;

	acquire(f.pool, PP_READ, &one);
	CHECK_INT(pp_acquire(f.pool, PP_READ, PP_NO_WAIT, &two, NULL), ==, PP_OK);
	writer = thread_start(visit, &w);
	WAIT_FOR(stats(f.pool).write.waiting == 1);
	reader = thread_start(visit, &r); /* Behind the writer, so that it is not starved. */
	WAIT_FOR(stats(f.pool).read.waiting == 1);
	pp_release(&one);
	CHECK_INT(stats(f.pool).write.waiting, ==, 1);
	pp_release(&two);
	pthread_join(writer, NULL);
	pthread_join(reader, NULL);
	CHECK_INT(w.status, ==, PP_OK);
	CHECK_INT(r.status, ==, PP_OK);
}

TEST(gate, commits_never_meet_a_reader)
{
	CLEANUP(fixture_close)
	struct fixture f =
		fixture_config((struct pp_config){ .path = "file:/gate?vfs=memdb", .readers = 2 });
	struct greedy g = { .pool = f.pool };
	pthread_t thread = thread_start(grab_again_and_again, &g);

	for (unsigned i = 0; i < 200; i++) {
		struct pp_lease lease = { 0 };

		acquire(f.pool, i % 2 == 0 ? PP_WRITE : PP_READ, &lease);
		if (i % 2 == 0)
			sql(lease.db, "INSERT INTO t DEFAULT VALUES");
		else
			CHECK_INT(number(lease.db, "SELECT count(*) FROM t"), ==, i / 2 + 1);
		pp_release(&lease);
	}
	atomic_store(&g.stop, true);
	pthread_join(thread, NULL);
}
