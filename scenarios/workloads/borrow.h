/*
 * borrow.h - borrowers of any target, a log of what was acknowledged to them, and a close in their
 * midst.
 *
 * What is wrong is a finding of the case under way.
 */
/* SPDX-License-Identifier: MIT */
#ifndef SCENARIOS_BORROW_H
#define SCENARIOS_BORROW_H

#include <poolproof/harness/oracle.h>

struct harness_run;

/* A database with a log in it (oracle.h). What cannot be made ends the run. */
void borrow_create(struct harness_run *run, const char *path);
/* It and what SQLite and a pool put beside it. */
void borrow_remove(const char *path);
/* By a plain handle: the log is whole and sound, and has what acks says and nothing that it denies.
 */
void borrow_examine(struct harness_run *run, const char *path, const struct harness_acks *acks,
                    struct harness_ack_sums *sums);
/* Nothing of the work folder is open any more. */
void borrow_judge_descriptors(struct harness_run *run);

/*
 * The target is opened, threads borrow, and after a moment it is closed while some hold what they
 * have for up to 60 ms longer. Nobody asks any more once it closes, but those who wait do, and who
 * has a connection uses it until he gives it back. late: how many of them hold on purpose.
 * identity: what is shared where a connection is lent twice; NULL: the target's own handle.
 */
struct borrow_close {
	const char *path;
	struct harness_acks *acks;
	uint64_t seed;
	unsigned late, wait_us;
	const void *(*identity)(const struct harness_connection *connection);
};
void borrow_close(struct harness_run *run, const struct borrow_close *what);

#endif
