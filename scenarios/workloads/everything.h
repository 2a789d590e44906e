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

#include <pthread.h>

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
	const char *_Atomic doing; /* The call it is in. */
	pthread_t running;
};

/* What a call may say besides PP_OK, PP_CLOSED once it closes, and PP_TIMEOUT in time. */
enum everything_may {
	MAY_WOULD_DEADLOCK = 1u << PP_WOULD_DEADLOCK,
	MAY_MISUSE = 1u << PP_MISUSE,
	MAY_ABORT = 1u << PP_ABORTED,
	MAY_BE_REFUSED = 1u << 31, /* SQLITE_BUSY, and no time left to try again. */
	MAY_LAST = 1u << 30        /* It ends when it is released, and not before. */
};

struct everything_call {
	const char *name;
	unsigned weight, may;
	enum pp_status (*run)(struct everything_worker *w, struct pp_error *error);
};

/* What the worker does next. */
const struct everything_call *everything_next(struct everything_worker *w);
/* Whether leases are interrupted in this moment. */
bool everything_interrupts(const struct everything *all);
/* Each call once, when the pool has closed: all say so. */
void everything_all_closed(struct everything_worker *w);

/* on_open of the pool: a function by which a statement is refused as if somebody had a lock. */
int everything_on_open(sqlite3 *db, void *context);
/* Workers 0..count-1, zeroed. */
void everything_start(struct everything *all, struct everything_worker *workers, unsigned count);
/* The pool has been closed: they have been told, and end. */
void everything_join(struct everything *all, struct everything_worker *workers, unsigned count);
/* Monotonic. */

#endif
