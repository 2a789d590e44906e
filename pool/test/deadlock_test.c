/* Circles of waiting: who would wait for himself is told so, and nobody else. */
/* SPDX-License-Identifier: MIT */
#include "upkeep.h"

/* One more reader than there are at first can be opened: but not two, and no writer. */
TEST_ROWS(deadlock, of_a_thread_with_itself_is_told_at_once, 2)
{
	enum pp_lane lane = row == 0 ? PP_READ : PP_WRITE;
	CLEANUP(fixture_close)
	struct fixture f = fixture_config((struct pp_config){ .readers = 2, .readers_min = 1 });
	struct pp_lease leases[3] = { 0 };
	struct pp_error error;
	unsigned held = lane == PP_READ ? 2 : 1;

	for (unsigned i = 0; i < held; i++)
		acquire(f.pool, lane, &leases[i]);
	CHECK_INT(pp_acquire(f.pool, lane, PP_FOREVER, &leases[2], &error), ==, PP_WOULD_DEADLOCK);
	CHECK_CONTAINS(error.message, "release what this thread holds");
	CHECK_INT(stats(f.pool).deadlocks, ==, 1);
	release_all(leases, 2);
}

/* With a rollback journal a reader excludes the writer and he it, also one that is yet to be
 * opened.
 */
TEST_ROWS(deadlock, across_the_gate_is_told_at_once, 2)
{
	enum pp_lane has = row == 0 ? PP_READ : PP_WRITE, wants = row == 0 ? PP_WRITE : PP_READ;
	CLEANUP(fixture_close)
	struct fixture f = fixture_config(
		(struct pp_config){ .readers = 2, .readers_min = 1, .journal = PP_JOURNAL_DELETE });
	struct pp_lease leases[2] = { 0 };

	acquire(f.pool, has, &leases[0]);
	CHECK_INT(pp_acquire(f.pool, wants, PP_FOREVER, &leases[1], NULL), ==, PP_WOULD_DEADLOCK);
	release_all(leases, 1);
}

struct crossing {
	struct pp_pool *pool;
	enum pp_status status;
};

static void *hold_the_reader_and_want_the_writer(void *context)
{
	struct crossing *c = context;
	struct pp_lease leases[2] = { 0 };

	acquire(c->pool, PP_READ, &leases[0]);
	c->status = pp_acquire(c->pool, PP_WRITE, PP_FOREVER, &leases[1], NULL);
	release_all(leases, 2);
	return NULL;
}

/* One holds the writer and wants the reader, the other the other way round: whoever comes second is
 * told, and the first gets what he waits for. */
TEST(deadlock, of_two_threads_is_told_to_the_second)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	struct crossing c = { .pool = f.pool };
	struct pp_lease writer = { 0 }, reader = { 0 };
	pthread_t thread;

	acquire(f.pool, PP_WRITE, &writer);
	thread = thread_start(hold_the_reader_and_want_the_writer, &c);
	WAIT_FOR(stats(f.pool).write.waiting == 1);
	CHECK_INT(pp_acquire(f.pool, PP_READ, PP_FOREVER, &reader, NULL), ==, PP_WOULD_DEADLOCK);
	pp_release(&writer);
	pthread_join(thread, NULL);
	CHECK_INT(c.status, ==, PP_OK);
}

static void *hold_until_told(void *context)
{
	struct worker *w = context;
	struct pp_lease lease = { 0 };

	acquire(w->pool, PP_READ, &lease);
	atomic_fetch_add(&w->rounds, 1);
	WAIT_FOR(atomic_load(&w->stop));
	pp_release(&lease);
	return NULL;
}

/* All that there are, but one more can be opened. */
TEST(deadlock, is_not_seen_where_the_pool_may_grow)
{
	CLEANUP(fixture_close)
	struct fixture f = fixture_config((struct pp_config){ .readers = 2, .readers_min = 1 });
	struct pp_lease leases[2] = { 0 };

	acquire(f.pool, PP_READ, &leases[0]);
	acquire(f.pool, PP_READ, &leases[1]);
	release_all(leases, 2);
	CHECK_INT(stats(f.pool).deadlocks, ==, 0);
}

/* A slot that is there for nobody, or for the connection that is to take the place of his own. */
TEST_ROWS(deadlock, is_seen_beside_a_slot_that_does_not_come, 2)
{
	CLEANUP(fixture_close)
	struct fixture f =
		manual((struct pp_config){ .readers = 2 - (unsigned)row, .age_ms = 1000 }, NULL);
	struct pp_lease leases[2] = { 0 };
	struct lane *lane = pool_lane(f.pool, PP_READ);

	if (row == 0)
		CHECK_INT(pp_resize(f.pool, 1, 1, NULL), ==, PP_OK);
	acquire(f.pool, PP_READ, &leases[0]);
	if (row == 1)
		later(&f, 2000);
	CHECK_INT(lane_count_in(lane, row == 0 ? SLOT_SPARE : SLOT_NEXT), ==, 1);
	CHECK_INT(pp_acquire(f.pool, PP_READ, PP_FOREVER, &leases[1], NULL), ==, PP_WOULD_DEADLOCK);
	pp_release(&leases[0]);
}

/* Holding one and wanting another is no circle while somebody else may give his back. */
TEST(deadlock, is_not_seen_where_there_is_none)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(2);
	struct worker w = { .pool = f.pool };
	struct pp_lease leases[2] = { 0 };
	pthread_t thread = thread_start(hold_until_told, &w);

	WAIT_FOR(atomic_load(&w.rounds) == 1);
	acquire(f.pool, PP_READ, &leases[0]);
	CHECK_INT(pp_acquire(f.pool, PP_READ, pp_in_ms(20), &leases[1], NULL), ==, PP_TIMEOUT);
	atomic_store(&w.stop, true);
	acquire(f.pool, PP_READ, &leases[1]);
	pthread_join(thread, NULL);
	release_all(leases, 2);
	CHECK_INT(stats(f.pool).deadlocks, ==, 0);
}
