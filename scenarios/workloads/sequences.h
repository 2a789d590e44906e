/* sequences.h - the whole public interface of the pool in short sequences of calls; see
 * sweep_trial.h. */
/* SPDX-License-Identifier: MIT */
#ifndef SCENARIOS_WORKLOADS_SEQUENCES_H
#define SCENARIOS_WORKLOADS_SEQUENCES_H

#include "sweep_trial.h"

struct sequences {
	const struct sequence *list;
	unsigned count;
};

extern const struct sequences sequences_lend;    /* Opening, leases, statements. */
extern const struct sequences sequences_work;    /* Transactions. */
extern const struct sequences sequences_keep;    /* Upkeep, copies, seeing inside. */
extern const struct sequences sequences_generic; /* Of any target. */

#endif
