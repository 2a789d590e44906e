/*
 * rig.h - a target with short intervals on a file of its own, for scenarios that make trouble.
 *
 *     struct rig r;
 *     rig_init(&r, run, "disk_full");        // the file, as it is in the beginning
 *     if (rig_open(&r))
 *             well = rig_write(&r);          // one write, with 50 ms of patience
 *     rig_done(&r);                          // closed, and nothing left
 *
 * Threads    All functions: one thread. What rig_another() starts has the rig until rig_let_go().
 */
/* SPDX-License-Identifier: MIT */
#ifndef SCENARIOS_RIG_H
#define SCENARIOS_RIG_H

#include <poolproof/harness/run.h>
#include <poolproof/pool.h>

#include <limits.h>
#include <pthread.h>
#include <semaphore.h>
#include <sys/types.h>

enum { RIG_PATIENCE_MS = 50, RIG_WAL_MAX = 65536, RIG_OTHERS_MAX = 4 };

struct rig {
	struct harness_run *run;
	const char *name;
	const struct harness_target *target;
	enum pp_file_change on_file_change; /* Of the pool; set before rig_open(). */
	unsigned line_max;
	void *state;                                      /* The target's; NULL: closed. */
	struct pp_pool *pool;                             /* The same, of poolproof; else NULL. */
	char path[PATH_MAX - 128], whole[PATH_MAX - 128]; /* whole: as it is in the beginning. */

	/* Others, who stand in the way until they are let go: they post there, and wait for go. */
	pthread_t others[RIG_OTHERS_MAX];
	unsigned other_count;
	sem_t there, go;
};

/* What cannot be had (a file, a thread) ends the run. */
void rig_init(struct rig *r, struct harness_run *run, const char *name);
void rig_done(struct rig *r);
/* The pool has leases of 20 ms, 5 ms of grace and upkeep every 10 ms. */
bool rig_open(struct rig *r);
/* Something left over, or an invariant that does not hold, is a FAIL. Closed already: nothing. */
void rig_close(struct rig *r);
/* Opens it where it is closed. */
bool rig_write(struct rig *r);
struct pp_stats rig_stats(const struct rig *r);

/* Another file at the path: the one of the beginning. */
void rig_replace(struct rig *r);

/* Another thread; and the end of all of them. */
void rig_another(struct rig *r, void *(*does)(void *rig));
void rig_let_go(struct rig *r);

/* Another process, which has the write lock of the file when this returns, and gives it up when
 * *ret_end is closed. It is this program with --holder FILE, which calls rig_hold() and exits. */
pid_t rig_holder(struct rig *r, int *ret_end);
int rig_hold(const char *path);

#endif
