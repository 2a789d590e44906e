/* targets.h - what there is to drive. Another pool is one more file here and a line in all.c. */
/* SPDX-License-Identifier: MIT */
#ifndef SCENARIOS_TARGETS_H
#define SCENARIOS_TARGETS_H

#include <poolproof/harness/target.h>
#include <poolproof/point.h>

extern const struct harness_target target_poolproof;
extern const struct harness_target target_raw;

/* What target_poolproof opens is the struct pp_pool itself: a scenario may open one as it likes and
 * use the other functions on it. Whether its write() may run in another thread, as struct
 * pp_transaction has it; set while nobody writes. */
extern bool target_poolproof_any_thread;

/* target_poolproof's open with short intervals everywhere; and one use of what is no write (a
 * backup, opening anew, VACUUM ...): the one that passes the point place, else one by number. */
bool eager_open(const struct harness_target_options *options, void **ret_target,
                struct harness_failure *reterr_failure);
void eager_use(void *pool, const char *path, const char *place, unsigned which);

/* The pool's points are places from here on ("pool.commit"). false: this build has none. */
bool points_feed(void);
extern const char *const points_names[PP_POINTS];
/* Passed with a WAL only: with a rollback journal every claim is made in the line. */
bool points_of_wal(enum pp_point point);
/* How often whoever writes for some 50 ms passes the point, and is not left waiting for it. */
unsigned points_skip_max(enum pp_point point);
/* As target's open; this project's pool with one reader and the smallest WAL, and with one thread
 * without its keeper, whose work small_keep() does then: so all that happens can be repeated. */
bool small_open(const struct harness_target *target, const struct harness_target_options *options,
                void **ret_target, struct harness_failure *reterr_failure);
void small_keep(const struct harness_target *target, void *opened);

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
