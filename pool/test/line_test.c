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
	CLEANUP(fixture_close)
	struct fixture f = fixture_config((struct pp_config){ .readers = 2, .overtake_ms = 60000 });
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

/* The head itself notices that it is overdue: nobody has to give anything back for that. */
TEST(line, becomes_strict_when_its_head_is_overdue)
{
	CLEANUP(fixture_close)
	struct fixture f = fixture_config((struct pp_config){ .readers = 1, .overtake_ms = 1 });
	struct visitor v = { .pool = f.pool, .lane = PP_WRITE, .deadline = PP_FOREVER };
	struct line *line = pool_lane(f.pool, PP_WRITE)->line;
	struct pp_lease lease = { 0 };
	pthread_t thread;

	acquire(f.pool, PP_WRITE, &lease);
	thread = thread_start(visit, &v);
	WAIT_FOR(atomic_load(&line->strict));
	pp_release(&lease);
	pthread_join(thread, NULL);
	CHECK_INT(v.status, ==, PP_OK);
	CHECK_INT(stats(f.pool).write.handovers, ==, 1);
	CHECK(!atomic_load(&line->strict)); /* Nobody waits: overtaking is no harm any more. */
}

/*
 * The handshake as a litmus test, on the pool's own giving back: the giver's exchange and its look
 * at line->waiting against what a waiter does first, adding itself and looking at the slot. With a
 * release store in place of the exchange the giver's look overtakes the store, and in some rounds
 * each misses the other. That the giver has seen the waiter shows by the line being served: serving
 * an empty line takes its strictness back.
 */
enum {
	HANDSHAKES = 300000, /* Most; a second's worth, where the two have a processor each. */
	HANDSHAKES_MS = 5000 /* Where they have not, those that fit. */
};

struct handshake {
	struct slot *slot;
	struct line *line;
	/* Rounds, by the giver and by the waiter; begun is 0 again when there are no more. */
	_Alignas(CACHE_LINE) atomic_uint begun, ended;
	_Alignas(CACHE_LINE) unsigned seen; /* The slot's state, as the waiter saw it. */
};

static void *add_and_look(void *context)
{
	struct handshake *h = context;

	for (unsigned i = 1; spin_while(&h->begun, i - 1) == i; i++) {
		for (volatile unsigned pause = 0; pause < i % 16; pause++)
			;
		atomic_fetch_add(&h->line->waiting, 1);
		h->seen = atomic_load(&h->slot->state);
		atomic_store(&h->ended, i);
	}
	return NULL;
}

TEST(line, loses_no_wakeup)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	struct handshake h = { .slot = line_claim(f.pool, PP_WRITE),
		               .line = pool_lane(f.pool, PP_WRITE)->line };
	pthread_t waiter = thread_start(add_and_look, &h);
	uint64_t until = clock_ns() + HANDSHAKES_MS * 1000000ull;
	unsigned lost = 0;

	for (unsigned i = 1; i <= HANDSHAKES && (i % 256 != 0 || clock_ns() < until); i++) {
		atomic_store(&h.slot->state, SLOT_LEASED);
		atomic_store(&h.line->waiting, 0);
		atomic_store(&h.line->strict, true);
		atomic_store(&h.begun, i);
		for (volatile unsigned pause = 0; pause < i / 16 % 64; pause++)
			; /* Walk through the moments at which the two can meet. */
		line_give_back(f.pool, h.slot, SLOT_IDLE);
		spin_while(&h.ended, i - 1);
		lost += h.seen == SLOT_LEASED && atomic_load(&h.line->strict);
	}
	atomic_store(&h.begun, 0);
	pthread_join(waiter, NULL);
	atomic_store(&h.line->waiting, 0);
	atomic_store(&h.line->strict, false);
	CHECK_INT(lost, ==, 0);
}
