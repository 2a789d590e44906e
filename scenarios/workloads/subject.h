/*
 * subject.h - what a case does something to: a target that it opens by itself, on a log of writes.
 *
 *     subject_open(&s, run, &(struct subject_options){ .name = "locks", .journal = "WAL" });
 *     subject_write(&s.worker, &s, &failure);             // a row of the log, acknowledged or not
 *     ...                                                 // something goes wrong, and is put right
 *     subject_serves(&s, "recovery.lock", since_ns);      // soon: a write and a read succeed
 *     survived = subject_close(&s);                       // nothing left, nothing lost
 *
 * Threads    write, read, lend and give back: any, each with a worker of its own. The rest: one.
 * Ownership  The subject is the caller's, and stands still from open to close. Strings of the
 *            options live as long.
 * Errors     What must not be is told by harness_fail(), with the case's name, and remembered.
 */
/* SPDX-License-Identifier: MIT */
#ifndef SCENARIOS_SUBJECT_H
#define SCENARIOS_SUBJECT_H

#include <poolproof/harness/oracle.h>
#include <poolproof/harness/run.h>

#include <limits.h>

struct subject_options {
	const char *name;    /* Of the file, without ".db": another one in each case. */
	const char *journal; /* "WAL" or "DELETE". */
	uint64_t patience_ns;
	unsigned payload_bytes; /* Of each row. 0: 200. */
	/* What is shared where a connection is lent twice. NULL: the target's own handle. */
	const void *(*identity)(const struct harness_connection *connection);
};

struct subject {
	struct harness_run *run;
	const struct harness_target *target;
	void *state; /* The target's; NULL: it is not open. */
	struct subject_options options;
	char path[PATH_MAX];
	struct harness_acks *acks;
	atomic_uint next[HARNESS_ACK_THREADS]; /* Write of each thread. */
	struct harness_worker worker;          /* For the body's own thread. */
	atomic_bool failed;
	/* Called when a write has been done and not yet committed. NULL: nothing. */
	void (*in_write)(void *context);
	void *in_write_context;

	/* Nobody can promise to keep what is written now, into a file that is about to be put back
	 * as it was. */
	atomic_bool doomed;
};

/* Makes the file and opens the target on it. false: it has been told why. */
bool subject_open(struct subject *s, struct harness_run *run,
                  const struct subject_options *options);
/* Closes it; then a plain handle reads the log, and every acknowledgement is held against it.
 * Whether all was well since the open. */
bool subject_close(struct subject *s);
/* Something is not as it should be: the case fails, and goes on. */
void subject_fail(struct subject *s, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Each within worker->timeout_ns, and judged: whether it was in time, and whether whoever was lent
 * a connection was the only one. */
bool subject_write(struct harness_worker *worker, struct subject *s, struct harness_failure *f);
bool subject_read(struct harness_worker *worker, struct subject *s, struct harness_failure *f);
bool subject_lend(struct harness_worker *worker, struct subject *s, enum harness_access access,
                  struct harness_connection *ret_connection, struct harness_failure *f);
void subject_give_back(struct harness_worker *worker, struct subject *s,
                       struct harness_connection *connection);
/* Whether what was asked for at asked_ns, and ended now, was in time. */
void subject_judge_time(struct subject *s, uint64_t asked_ns, uint64_t patience_ns, bool well);
/* One statement without arguments, rows unseen. */
bool subject_sql(struct harness_worker *worker, struct harness_connection *connection,
                 const char *sql, struct harness_failure *f);

/* Until a write and a read succeed, within 2 s (four times harness_lateness_ns()): how long that
 * took since since_ns is a duration under tag. */
bool subject_serves(struct subject *s, const char *tag, uint64_t since_ns);

/* Of the monotonic clock. */

/* --- Another process ---------------------------------------------------------------------- */

/*
 * This program once more, with plain SQLite on the subject's file. What it can be told to do:
 *
 *     "shared", "reserved", "exclusive"   a transaction that has this lock, until the end
 *     "writer"                            one that has written, until the end; then rolled back
 *     "write"                             a write that is committed; ends by itself
 *     "copy"                              the database as it is, as PATH.copy; ends by itself
 *     "recover"                           a copy, byte for byte, of what is there now is recovered,
 *                                         and its log is whole; ends by itself
 *     "header", "page"                    garbage in the file's first page, in one in its middle
 */
struct peer {
	struct subject *of;
	const char *what;
	int pid;
	int tell, told; /* Pipes. */
};
/* Comes back when it has done or has what it was told; it ends by itself after hold_ms (0: when it
 * is told to). */
void peer_start(struct subject *s, struct peer *peer, const char *what, unsigned hold_ms);
/* What it could not do is the subject's failure. */
void peer_end(struct peer *peer);
/* Stopped, it keeps its locks and does nothing; killed, it has none. */
void peer_stop(const struct peer *peer);
void peer_continue(const struct peer *peer);
void peer_kill(struct peer *peer);
/* "write", "copy" and the like: start and end. */
void peer_do(struct subject *s, const char *what);
/* For main(): when the command line is a peer's, does what it says and never comes back. */
void peer_main(int argc, char **argv);

#endif
