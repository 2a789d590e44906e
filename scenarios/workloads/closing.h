/*
 * closing.h - threads that close one pool at once, while others use it (everything.h).
 *
 *     closing_prepare(&closing);                // they stand ready
 *     closing_fire(&closing, 0);                // now; again: nothing
 *     closing_finish(&closing);                 // all are back and judged, and the pool is closed
 *
 * What is wrong is a finding of the case under way.
 */
/* SPDX-License-Identifier: MIT */
#ifndef SCENARIOS_CLOSING_H
#define SCENARIOS_CLOSING_H

#include "everything.h"

#include <pthread.h>
#include <semaphore.h>

enum { CLOSERS_MAX = 3 };

struct closing;

struct closer {
	struct closing *of;
	pthread_t thread;
	sem_t go;
	unsigned delay_us, patience_ms;
	enum pp_status status;
	struct pp_closing left;
};

struct closing {
	struct everything *all;
	unsigned patience_ms; /* 0: PP_NO_WAIT. */
	unsigned count;       /* Of closers: 1..CLOSERS_MAX. */
	struct closer closers[CLOSERS_MAX];
	atomic_bool fired;
	sem_t begun; /* It has been fired. */

	/* What became of it. */
	bool leased;         /* PP_LEASED, at first. */
	uint64_t longest_ns; /* Of all pp_close(). */
	uint64_t late_ns;    /* ... past the deadline. */
	unsigned late;       /* How many were too late. */
};

void closing_prepare(struct closing *c);
/* The closers from first on close. Any thread, at a point of the pool too. */
void closing_fire(struct closing *c, unsigned first);
/* Waits until somebody has fired, or that long. */
void closing_await_fire(struct closing *c, unsigned us);
void closing_finish(struct closing *c);
/* Of CLOCK_REALTIME, for sem_timedwait() and its like. */
struct timespec closing_after_ns(uint64_t ns);

#endif
