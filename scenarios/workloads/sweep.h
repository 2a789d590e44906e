/*
 * sweep.h - the sequences, each with every one of its faults in turn: what oom_sweep and io_sweep
 * have in common.
 *
 *     sweep_begin(run, &law);
 *     while (sweep_next())                        // each sequence, in each journal mode
 *             for (...)
 *                     sweep_one(faults, 1, "once, heap 17");
 *     sweep_end();
 *
 * Threads    The body's own.
 */
/* SPDX-License-Identifier: MIT */
#ifndef SCENARIOS_WORKLOADS_SWEEP_H
#define SCENARIOS_WORKLOADS_SWEEP_H

#include "sequences.h"

#include <argp.h>

enum sweep_mode { SWEEP_ONCE = 1, SWEEP_LASTING = 2, SWEEP_PAIRS = 4 };

/* What the command line says. */
struct sweep_options {
	const char *sequence; /* In the name of those that are wanted; NULL: all. */
	unsigned modes;
	unsigned pairs;  /* Sampled, of each sequence and journal mode. */
	unsigned stride; /* Every so manieth place. */
	unsigned part, parts;
};
extern struct sweep_options sweep_options;

/* For struct harness_scenario. */
extern const struct argp_option sweep_argp[];
const char *sweep_option(int key, const char *value);

/* SQLite is initialised and faults are installed. traits: of the sequences that are wanted. */
void sweep_begin(struct harness_run *run, const struct trial_law *law, unsigned traits);
/* The next sequence and journal mode; false: that was all. */
bool sweep_next(void);
/* How often the sequence visits each of so many places (HARNESS_FAULTS_MAX at most) when nothing
 * fails. */
void sweep_visits(const char *const places[], unsigned count, uint64_t ret_visits[]);
/* One trial, as a case; what: its name behind the journal mode and the sequence. */
void sweep_one(struct harness_fault faults[], unsigned count, const char *what);
/* The numbers of run.json. */
void sweep_end(void);

#endif
