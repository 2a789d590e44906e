/*
 * victim.h - a process that writes to a log (harness/oracle.h) until it is killed.
 *
 *     static int help(const struct harness_target *target, const struct harness_options *options)
 *     {
 *             return wanted == NULL ? -1 : victim_main(wanted, target, options, &manner);
 *     }
 *     ...
 *     pid_t child = victim_start(run, argv, &plan);       // this program, with --victim PLAN
 *     end = victim_wait(run, child, acks, 200);   // until it is dead, at the latest after 200
 * writes
 *
 * The victim opens the target, writes from --threads threads, closes it and opens it again, over
 * and over. Some of its writes fail, and some roll back whatever transaction they are in. What it
 * writes depends on the seed, its round, thread and number alone.
 */
/* SPDX-License-Identifier: MIT */
#ifndef SCENARIOS_VICTIM_H
#define SCENARIOS_VICTIM_H

#include <poolproof/harness/oracle.h>
#include <poolproof/harness/run.h>

#include <limits.h>
#include <sys/types.h>

struct victim_plan {
	char database[PATH_MAX - 64];
	unsigned round; /* No two of a database write the same rows. */
	unsigned variation;
	char place[32]; /* Where it kills itself, in whichever thread; "": nowhere. */
	uint64_t skip;  /* Visits of it that pass first. */
};

/* --- The killer --------------------------------------------------------------------------- */

/* The acknowledgements of a plan's victim, new, and the process, which is this program with the
 * same arguments and --victim. It is killed when its parent dies. */
struct harness_acks *victim_acks(struct harness_run *run, const struct victim_plan *plan);
void victim_acks_free(struct harness_acks *acks, const struct victim_plan *plan);
pid_t victim_start(struct harness_run *run, char *const arguments[],
                   const struct victim_plan *plan);

enum victim_end {
	VICTIM_AT_PLACE, /* It has killed itself. */
	VICTIM_AFTER,    /* It was killed, after so many writes. */
	VICTIM_BY_ITSELF /* It ended otherwise: nothing was tried. */
};
enum victim_end victim_wait(struct harness_run *run, pid_t child, const struct harness_acks *acks,
                            unsigned writes);
/* Zeroed for a new file. */
struct victim_findings {
	struct harness_ack_sums sums; /* Added to. */
	int64_t rows;                 /* In the log; when it is looked at again, no fewer. */
	uint64_t recovery_ns;         /* From opening to the first read. */
	bool integrity;               /* An integrity_check is wanted, beside a quick_check. */
};
/* What these victims, one after the other, left on their file; with a plain handle, which recovers
 * it and leaves the WAL to the next one. false: something is wrong, and has been said. */
bool victim_judge(struct harness_run *run, const struct victim_plan *const plans[],
                  struct harness_acks *const acks[], unsigned count,
                  struct victim_findings *findings);

/* --- The victim --------------------------------------------------------------------------- */

struct victim_manner {
	/* Before the target is set up. */
	void (*prepare)(const struct victim_plan *plan);
	/* While the threads write, each time that the target is open. */
	void (*beside)(void *target_state, const struct victim_plan *plan, unsigned session);
};

/* The exit code: it does not come back otherwise. text: what --victim was given. */
int victim_main(const char *text, const struct harness_target *target,
                const struct harness_options *options, const struct victim_manner *manner);

#endif
