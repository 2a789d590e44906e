/*
 * grants.h - who asked when, stood in the line when, had the connection when; and whether that was
 * fair.
 *
 * Of a lane with one connection the order of all grants is known exactly: the pool counts how often
 * the connection was lent (pp_lease.generation). So what is judged depends on no clock that is read
 * too late, but for the moment in which somebody asked, and that is before he did.
 *
 *   order       Those who stand are served in the order in which they came.
 *   overtaking  Whoever asks after somebody has stood for overtake_ms is not served before him.
 * What is in the middle of a claim then gets through: one for each thread, at most. idle        The
 * connection does not lie idle while somebody stands.
 *
 * Threads    grants_add: any. The rest: when they are at rest.
 */
/* SPDX-License-Identifier: MIT */
#ifndef SCENARIOS_GRANTS_H
#define SCENARIOS_GRANTS_H

#include <stdbool.h>
#include <stdint.h>

struct harness_run;

struct grant {
	uint64_t asked_ns, ended_ns; /* Before the call; after it. */
	uint64_t stood_ns; /* When he came to stand in the line; 0: he did not, or nobody knows. */
	uint64_t stood_order; /* ... and as the how manyth. */
	uint64_t order;       /* The how manyth loan of the connection; 0: he was refused. */
	uint64_t back_ns;     /* When he gave it back. */
	unsigned thread, lane;
};

struct grants_verdict {
	uint64_t violations;
	uint64_t overtaken_most; /* Of one: those who asked when he was due, and had it before. */
	uint64_t waited_most_ns; /* Of those who were served. */
	uint64_t waits, refusals;
};

void grants_begin(void);
/* false: there is no more room; the phase is to end. */
bool grants_add(const struct grant *grant);
/* Of one lane. allowed: who may be in the middle of a claim. */
void grants_judge(struct harness_run *run, unsigned lane, uint64_t overtake_ns, unsigned allowed,
                  struct grants_verdict *verdict);
/* How often each was served, slowest in percent of fastest; wanted says who counts. */
double grants_fairness(bool (*wanted)(unsigned thread), unsigned threads);

#endif
