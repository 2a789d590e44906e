/* The line from inside: what only shows when the timing is just so, made to happen. */
/* SPDX-License-Identifier: MIT */
#include "fixture.h"

#include "internal.h"

struct pair {
	struct pp_pool *pool;
	pthread_barrier_t *both;
};

static void *hold_until_both_have_one(void *context)
{
	struct pair *p = context;
	struct pp_lease lease = { 0 };

	acquire(p->pool, PP_READ, &lease);
	pthread_barrier_wait(p->both);
	pp_release(&lease);
	return NULL;
}

/* Two come back while the head has been woken and has not run: the second is nobody's news. Whoever
 * leaves the line must serve it, or the next sleeps beside a free connection for ever. */
TEST(line, whoever_leaves_it_serves_it)
{
	CLEANUP(fixture_close) struct fixture f =
	        fixture_config((struct pp_config){ .readers = 2, .overtake_ms = 60000 });
	struct pp_lease leases[2] = { { 0 }, { 0 } };
	pthread_barrier_t both;
	struct pair pair = { f.pool, &both };
	pthread_t threads[2];

	pthread_barrier_init(&both, NULL, 2);
	for (unsigned i = 0; i < 2; i++)
		acquire(f.pool, PP_READ, &leases[i]);
	for (unsigned i = 0; i < 2; i++)
		threads[i] = thread_start(hold_until_both_have_one, &pair);
	WAIT_FOR(stats(f.pool).read.waiting == 2);

	struct lane *lane = pool_lane(f.pool, PP_READ);

	/* Under the lock the head cannot run between the two. */
	pthread_mutex_lock(&lane->line->mutex);
	for (unsigned i = 0; i < 2; i++) {
		struct slot *slot = leases[i].slot;

		atomic_fetch_add(&slot->generation, 1);
		atomic_store(&slot->state, SLOT_IDLE);
	}
	lane->line->head->signalled = true;
	pthread_cond_signal(&lane->line->head->wake);
	pthread_mutex_unlock(&lane->line->mutex);
	for (unsigned i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	pthread_barrier_destroy(&both);
}

TEST(line, newcomers_do_not_overtake_when_it_is_strict)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	struct lane *lane = pool_lane(f.pool, PP_READ);
	struct slot *slot;

	atomic_store(&lane->line->strict, true);
	CHECK(line_claim(f.pool, PP_READ) == NULL);
	atomic_store(&lane->line->strict, false);
	slot = line_claim(f.pool, PP_READ);
	CHECK(slot != NULL);
	line_give_back(f.pool, slot, SLOT_IDLE);
}

struct sleeper {
	struct pp_pool *pool;
	enum pp_status status;
};

static void *wait_for_the_writer(void *context)
{
	struct sleeper *s = context;
	struct pp_lease lease = { 0 };

	s->status = pp_acquire(s->pool, PP_WRITE, PP_FOREVER, &lease, NULL);
	pp_release(&lease);
	return NULL;
}

/* The head itself notices that it is overdue: nobody has to give anything back for that. */
TEST(line, becomes_strict_when_its_head_is_overdue)
{
	CLEANUP(fixture_close) struct fixture f =
	        fixture_config((struct pp_config){ .readers = 1, .overtake_ms = 1 });
	struct sleeper s = { .pool = f.pool };
	struct line *line = pool_lane(f.pool, PP_WRITE)->line;
	struct pp_lease lease = { 0 };
	pthread_t thread;

	acquire(f.pool, PP_WRITE, &lease);
	thread = thread_start(wait_for_the_writer, &s);
	WAIT_FOR(atomic_load(&line->strict));
	pp_release(&lease);
	pthread_join(thread, NULL);
	CHECK_INT(s.status, ==, PP_OK);
	CHECK_INT(stats(f.pool).write.handovers, ==, 1);
	CHECK(!atomic_load(&line->strict)); /* Nobody waits: overtaking is no harm any more. */
}

/* The handshake alone, as in a litmus test: one gives back, one waits, a million times. With a
 * release store in place of the exchange wake-ups are lost, and this ends by its time limit. */
enum { HANDSHAKES = 100000 };

static void *take_turns(void *context)
{
	struct pp_pool *pool = context;

	for (unsigned i = 0; i < HANDSHAKES / slowness() / slowness(); i++) {
		struct slot *slot = line_claim(pool, PP_WRITE);

		if (slot == NULL)
			CHECK_INT(line_wait(pool, PP_WRITE, UINT64_MAX, &slot), ==, PP_OK);
		line_give_back(pool, slot, SLOT_IDLE);
	}
	return NULL;
}

TEST(line, loses_no_wakeup)
{
	CLEANUP(fixture_close) struct fixture f =
	        fixture_config((struct pp_config){ .readers = 1, .overtake_ms = 60000 });
	pthread_t threads[2];

	for (unsigned i = 0; i < 2; i++)
		threads[i] = thread_start(take_turns, f.pool);
	for (unsigned i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
}
