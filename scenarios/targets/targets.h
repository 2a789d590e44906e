/* targets.h - what there is to drive. Another pool is one more file here and a line in all.c. */
/* SPDX-License-Identifier: MIT */
#ifndef SCENARIOS_TARGETS_H
#define SCENARIOS_TARGETS_H

#include <poolproof/harness/target.h>

extern const struct harness_target target_poolproof;
extern const struct harness_target target_raw;

/* As target's open; this project's pool with one reader and the smallest WAL, and with one thread
 * without its keeper, whose work small_keep() does then: so all that happens can be repeated. */
bool small_open(const struct harness_target *target, const struct harness_target_options *options,
                void **ret_target, struct harness_failure *reterr_failure);
void small_keep(const struct harness_target *target, void *opened);

/* NULL-terminated; the first is the default. */
extern const struct harness_target *const targets_all[];

#endif
