/*
 * poolproof/harness/oracle.h - what must be true afterwards, whatever went wrong.
 *
 *   acks       What was acknowledged is there; what was reported as failed is not. In memory that
 *              outlives a process that is killed: intent is noted before, the outcome after.
 *   log        A table in which each write is a row: rows are 1..m without a hole, in the order of
 *              the commits, each whole. So every state is a prefix, and a reader sees one.
 *   holders    A connection has one holder at most.
 *   deadlines  Nobody waits past his deadline.
 *
 * Threads    acks: each (thread, n) has one writer, anybody reads. holders, deadlines: any. log:
 *            whoever has the handle.
 * Memory     acks are mmap()ed; the rest is static.
 * Errors     What is wrong is told by harness_fail() in words, once a finding; judges return how
 *            many findings there were.
 */
/* SPDX-License-Identifier: MIT */
#ifndef POOLPROOF_HARNESS_ORACLE_H
#define POOLPROOF_HARNESS_ORACLE_H

#include <poolproof/harness/target.h>

#include <sqlite3.h>
#include <stdatomic.h>

struct harness_run;

/* --- What was acknowledged ---------------------------------------------------------------- */

enum harness_fate { HARNESS_UNBORN, HARNESS_MEANT, HARNESS_ACKNOWLEDGED, HARNESS_FAILED };
enum { HARNESS_ACK_THREADS = 256, HARNESS_ACK_WRITES = 4096 };

struct harness_acks {
	atomic_uint ended; /* Writes, well or not: what a killer waits for. */
	atomic_uchar fates[HARNESS_ACK_THREADS][HARNESS_ACK_WRITES];
};

/* Shared memory, in the file of this name or, NULL, with children of fork() only. NULL: there is
 * none, and errno says why. */
struct harness_acks *harness_acks_new(const char *path);
void harness_acks_free(struct harness_acks *acks);
void harness_acks_meant(struct harness_acks *acks, unsigned thread, unsigned n);
void harness_acks_ended(struct harness_acks *acks, unsigned thread, unsigned n, bool acknowledged);

struct harness_ack_sums {
	uint64_t acknowledged, failed, unknown, lost, phantoms;
	uint64_t survived; /* Of the unknown: there. */
};
/* Adds to sums; is_there says whether a write is in what is judged. A thread's writes are those up
 * to its first that was not meant. The first finding is told, with what in front, and how many. */
uint64_t harness_acks_judge(struct harness_run *run, const char *what,
                            const struct harness_acks *acks,
                            bool (*is_there)(void *context, unsigned thread, unsigned n),
                            void *context, struct harness_ack_sums *sums);

/* --- A log of writes ---------------------------------------------------------------------- */

/* "CREATE TABLE ...": the log, and a counter of its rows that each write moves on. */
extern const char harness_log_schema[];
/* The two statements of one write, in this order, in one transaction. n < HARNESS_ACK_WRITES. */
extern const char harness_log_insert[]; /* ?1 thread, ?2 n, ?3 payload bytes. */
extern const char harness_log_count[];  /* No arguments. */

struct harness_log_state {
	int64_t rows; /* 1..rows are there, each whole; -1: they are not, and wrong says how. */
	char wrong[200];
};
/* Reads it all, and the counter. PRAGMA integrity_check too where sound is asked for. */
struct harness_log_state harness_log_read(sqlite3 *db, bool sound);
/* Whether a write is in the log: for harness_acks_judge(), context is the sqlite3. */
bool harness_log_has(void *db, unsigned thread, unsigned n);

/* --- Holders and deadlines ---------------------------------------------------------------- */

/* Around the time in which a connection is somebody's: hold after the lend, let go before giving it
 * back, or when it is known to be gone. handle: what is shared if lent twice; where the memory of a
 * closed connection is used again, the address is, too. false: somebody else has it; that is a
 * finding, and it is let go of all the same. */
bool harness_hold(struct harness_run *run, const void *handle);
void harness_let_go(const void *handle);

/* An acquire that was asked at asked_ns with this patience and ended now, well or not. */
void harness_deadline_judge(struct harness_run *run, uint64_t asked_ns, uint64_t patience_ns,
                            bool acquired);
/* How late a deadline may be told: a thread has to have a processor first. Times the slowness of
 * Valgrind and the sanitizers. */
uint64_t harness_lateness_ns(void);

#endif
