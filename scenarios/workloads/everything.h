/*
 * everything.h - threads that do all that can be done with a pool of this project, until it says
 * PP_CLOSED.
 *
 * What each of them does depends on (seed, thread, how many it has done) alone. Whatever a call
 * says that it may not say in that moment is a finding of the case under way.
 */
/* SPDX-License-Identifier: MIT */
#ifndef SCENARIOS_EVERYTHING_H
#define SCENARIOS_EVERYTHING_H

#include <poolproof/harness/entropy.h>
#include <poolproof/harness/oracle.h>
#include <poolproof/pool.h>

/* One pool, and what its threads know of each other. Zeroed it is good but for the first group. */
struct everything {
	struct harness_run *run;
	struct pp_pool *pool;
	struct harness_acks *acks;
	const char *copy_path; /* Where backups go, with the thread's number behind it. */
	uint64_t seed;
	const char *favourite; /* What the first two threads do half of the time; NULL: nothing. */
	bool interrupts;       /* Leases are interrupted at some age (lease_max_ms). */
	enum pp_lane late_lane;

	atomic_int late_wanted;  /* Leases that are held until released says so. */
	atomic_int stuck_wanted; /* Queries that end when they are interrupted, and not before. */
	atomic_bool released;
	atomic_uint late; /* Held so now. */

	/* By whoever closes, before he does. 0: not yet. */
	atomic_uint_least64_t closing_ns, patience_ns;
	atomic_uint_least64_t told_ns; /* The longest from there to a PP_CLOSED. */
};

struct everything_worker {
	struct everything *all;
	unsigned thread, writes;
	uint64_t index, patience_ns; /* Of the operation under way. */
	struct harness_entropy entropy;
};

/* on_open of the pool: a function by which a statement is refused as if somebody had a lock. */
int everything_on_open(sqlite3 *db, void *context);
/* For pthread_create(): context is a worker with all and thread set. */
void *everything_work(void *context);
/* Monotonic. */
uint64_t everything_now_ns(void);

#endif
