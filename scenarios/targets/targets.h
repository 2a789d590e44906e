/* targets.h - what there is to drive. Another pool is one more file here and a line in all.c. */
/* SPDX-License-Identifier: MIT */
#ifndef SCENARIOS_TARGETS_H
#define SCENARIOS_TARGETS_H

#include <poolproof/harness/target.h>

extern const struct harness_target target_poolproof;
extern const struct harness_target target_raw;

/* NULL-terminated; the first is the default. */
extern const struct harness_target *const targets_all[];

#endif
