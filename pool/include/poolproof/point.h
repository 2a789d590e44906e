/*
 * poolproof/point.h - named places inside the pool, and its clock, for test harnesses.
 *
 *     static void visit(enum pp_point point) { if (point == PP_POINT_COMMITTED) ... }
 *
 *     if (pp_points_set != NULL)        // NULL: a build without points
 *             pp_points_set(visit);
 *
 * Instrumented builds have them (all variants but release); the shipped library has none of these
 * symbols, and a point in it is nothing. So this header is not installed. Link the archive.
 *
 * Threads    The visitor is called in the thread that passes the point, which may hold any lock of
 *            the pool where the list says so; it must not call the pool. It is set while nobody
 *            uses a pool.
 */
/* SPDX-License-Identifier: MIT */
#ifndef POOLPROOF_POINT_H
#define POOLPROOF_POINT_H

#include <stdint.h>

/* Where a thread is; what has just happened, or comes next. */
#define PP_POINT_LIST(X)                                                                           \
	X(PP_POINT_CLAIM, "pool.claim")           /* A slot was claimed, past the line (WAL). */   \
	X(PP_POINT_WAIT, "pool.wait")             /* In the line, and about to sleep. Its lock. */ \
	X(PP_POINT_GIVE, "pool.give")             /* A slot is free; now the line is looked at. */ \
	X(PP_POINT_HAND_OVER, "pool.hand_over")   /* Who waited too long gets a slot. The lock. */ \
	X(PP_POINT_RELEASE, "pool.release")       /* A lease ends; nothing is proved yet. */       \
	X(PP_POINT_OPEN, "pool.open")             /* A connection is about to be opened. */        \
	X(PP_POINT_CLOSE, "pool.close")           /* ... to be closed. */                          \
	X(PP_POINT_BEGIN, "pool.begin")           /* An outermost transaction begins next. */      \
	X(PP_POINT_BEGUN, "pool.begun")           /* ... has begun. */                             \
	X(PP_POINT_COMMIT, "pool.commit")         /* COMMIT is next. */                            \
	X(PP_POINT_COMMITTED, "pool.committed")   /* It succeeded; nobody has been told. */        \
	X(PP_POINT_ROLLBACK, "pool.rollback")     /* ROLLBACK is next. */                          \
	X(PP_POINT_GROUP_JOIN, "pool.group_join") /* A write has come, to lead or to be led. */    \
	X(PP_POINT_GROUP_RAN, "pool.group_ran")   /* A callback of a group is through. */          \
	X(PP_POINT_GROUP_COMMIT, "pool.group_commit") /* Nobody joins any more; COMMIT is next. */ \
	X(PP_POINT_GROUP_TELL, "pool.group_tell") /* Committed; a member is about to be told. */   \
	X(PP_POINT_RETRY, "pool.retry")           /* A transaction is about to be run again. */    \
	X(PP_POINT_CHECKPOINT, "pool.checkpoint") /* A checkpoint is next. */                      \
	X(PP_POINT_CHECKPOINTED, "pool.checkpointed") /* It is over. */                            \
	X(PP_POINT_KEEP, "pool.keep")                 /* Upkeep begins. keep_mutex. */             \
	X(PP_POINT_RENEW, "pool.renew")               /* An old connection is to be replaced. */   \
	X(PP_POINT_QUARANTINE, "pool.quarantine")     /* A stuck one is. keep_mutex. */            \
	X(PP_POINT_REOPEN, "pool.reopen") /* All connections are closed. keep_mutex. */            \
	X(PP_POINT_BACKUP, "pool.backup") /* A copy is whole; now it is renamed. */                \
	X(PP_POINT_SHUT, "pool.shut")     /* pp_close() lets nobody in any more. */

enum pp_point {
#define X(name, text) name,
	PP_POINT_LIST(X)
#undef X
		PP_POINTS
};

#define PP_WEAK __attribute__((weak, visibility("default")))

/* NULL: nobody visits. */
void pp_points_set(void (*visitor)(enum pp_point point)) PP_WEAK;
/*
 * Time that passes when somebody sleeps, for tests with one thread. sleep is called in place of
 * sleeping, and of waiting until a point in time; it should see to it that so much time passes
 * (NULL: the pool sleeps). pp_time_pass_ns() is how: all clocks of all pools go on, and nobody is
 * woken.
 */
void pp_sleep_set(void (*sleep)(uint64_t ns)) PP_WEAK;
void pp_time_pass_ns(uint64_t ns) PP_WEAK;

#endif
