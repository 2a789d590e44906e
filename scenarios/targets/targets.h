/* targets.h - what there is to drive. Another pool is one more file here and a line in all.c. */
/* SPDX-License-Identifier: MIT */
#ifndef SCENARIOS_TARGETS_H
#define SCENARIOS_TARGETS_H

#include <poolproof/harness/target.h>

extern const struct harness_target target_poolproof;
extern const struct harness_target target_raw;

/* NULL-terminated; the first is the default. */
extern const struct harness_target *const targets_all[];

/*
 * For cases that only this project's pool has: what its next open is given beyond the options
 * (NULL: nothing), the status of the calling thread's last failure (an enum pp_status), and what is
 * shared when a connection is lent twice (the sqlite3). Its state is the struct pp_pool.
 */
struct pp_config;
extern void (*target_poolproof_adjust)(struct pp_config *config);
int target_poolproof_status(void);
const void *target_poolproof_identity(const struct harness_connection *connection);

#endif
