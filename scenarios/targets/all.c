/* all.c - the list of targets. */
/* SPDX-License-Identifier: MIT */
#include "targets.h"

const struct harness_target *const targets_all[] = { &target_poolproof, &target_raw, NULL };
