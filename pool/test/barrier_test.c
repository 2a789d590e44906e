/*
 * barrier_test.c - who gives back and who quarantines do not miss each other.
 */
/* SPDX-License-Identifier: MIT */
#include "fixture.h"

#include "internal.h"

/*
 * A litmus test, on the two sides as the pool has them: the giver's change of the generation and
 * its look at the fate (lease_release) against the other's change of the fate and its look at the
 * generation (size_quarantine). Without the fence for all the giver's look overtakes its store, and
 * in some rounds each misses the other.
 */
enum { ROUNDS = 50000, ROUNDS_MS = 1000 };

struct meeting {
	struct slot slot;
	/* Rounds, by the giver and by the other; begun is 0 again when there are no more. */
	_Alignas(CACHE_LINE) atomic_uint begun;
	_Alignas(CACHE_LINE) atomic_uint ended;
	_Alignas(CACHE_LINE) uint64_t seen; /* The generation, as the other saw it. */
};

static void *doom(void *context)
{
	struct meeting *m = context;

	for (unsigned i = 1; spin_while(&m->begun, i - 1) == i; i++) {
		for (volatile unsigned pause = 0; pause < i % 16; pause++)
			;
		atomic_exchange(&m->slot.fate, FATE_QUARANTINED);
		barrier_for_all();
		m->seen = atomic_load(&m->slot.generation);
		atomic_store(&m->ended, i);
	}
	return NULL;
}

/* In how many rounds each missed the other. */
static unsigned meet(void)
{
	static struct meeting m;
	pthread_t other;
	uint64_t until = clock_ns() + ROUNDS_MS * 1000000ull;
	unsigned missed = 0, fate;

	atomic_store(&m.begun, 0);
	atomic_store(&m.ended, 0);
	other = thread_start(doom, &m);
	for (unsigned i = 1; i <= ROUNDS && (i % 256 != 0 || clock_ns() < until); i++) {
		atomic_store(&m.slot.fate, FATE_KEEP);
		atomic_store(&m.slot.generation, 1);
		atomic_store(&m.begun, i);
		for (volatile unsigned pause = 0; pause < i / 16 % 128; pause++)
			; /* Walk through the moments at which the two can meet. */
		generation_end(&m.slot, 2);
		fate = atomic_load(&m.slot.fate);
		spin_while(&m.ended, i - 1);
		missed += fate == FATE_KEEP && m.seen == 1;
	}
	atomic_store(&m.begun, 0);
	pthread_join(other, NULL);
	return missed;
}

TEST(barrier, lets_nobody_miss_the_other)
{
	bool remote;

	process_begin();
	remote = barrier_is_remote;
	CHECK_INT(meet(), ==, 0);
	barrier_is_remote = false; /* As where the kernel has none. */
	CHECK_INT(meet(), ==, 0);
	barrier_is_remote = remote;
}
