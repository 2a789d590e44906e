/*
 * waiters.h - a line of many: waiters of mixed patience, newcomers who ask again and again, a slow
 * reader, a greedy writer.
 *
 * How one asks and gives back is the scenario's: the pool itself, or a target.
 */
/* SPDX-License-Identifier: MIT */
#ifndef SCENARIOS_WAITERS_H
#define SCENARIOS_WAITERS_H

#include "grants.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>

enum { WAITERS_MIN = 12, WAITERS_MAX = 256, NEWCOMERS = 4, WAITERS_LEASE_SIZE = 128 };

struct waiters {
	struct harness_run *run;
	void *from;       /* The pool, or what it is asked by. */
	unsigned waiters; /* And NEWCOMERS, and two. */
	uint64_t seed;
	/* Fills in stood_ns, stood_order and order; lease is WAITERS_LEASE_SIZE zeroed bytes. */
	bool (*ask)(struct waiters *w, unsigned lane, uint64_t patience_ns, void *lease,
	            struct grant *grant);
	void (*give_back)(struct waiters *w, void *lease);

	pthread_barrier_t start;
	atomic_bool over;
	atomic_uint_least64_t starved; /* Patience of three seconds, and not served. */
	atomic_uint_least64_t refused; /* Served, and the statement failed. */
};

/* All of them for so long. */
void waiters_run(struct waiters *w, double seconds);
/* The slowest in percent of the fastest, among those of a lane who have the most patience. */
double waiters_fairness(const struct waiters *w, unsigned lane);

#endif
