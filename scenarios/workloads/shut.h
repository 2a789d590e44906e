/*
 * shut.h - a round of closing: which moment, by how many, with how much time, and what is held
 * meanwhile is drawn by the seed and the number of the round.
 */
/* SPDX-License-Identifier: MIT */
#ifndef SCENARIOS_SHUT_H
#define SCENARIOS_SHUT_H

#include "borrow.h"

#include <poolproof/point.h>

struct shut_sums {
	uint64_t longest_ns, late_ns; /* Of a pp_close(); of one past its deadline. */
	uint64_t told_ns;             /* From the beginning of a closing to a PP_CLOSED. */
	unsigned late;                /* How many were past it by more than may be. */
	unsigned leased;              /* Rounds with PP_LEASED. */
	bool points[PP_POINTS];       /* At which one was met while it was closed. */
	struct harness_ack_sums acks;
};

/* One case, "round 17, at pool.give"; adds to sums. */
void shut_round(struct harness_run *run, unsigned n, struct shut_sums *sums);

#endif
