/*
 * sweep.h - the sequences, each with every one of its faults in turn: what oom_sweep and io_sweep
 * have in common.
 *
 *     sweep_begin(run, &law, traits, &pairs);
 *     while (sweep_next()) {                      // each sequence, in each journal mode
 *             for (...)
 *                     sweep_one(&fault, "once, heap 17");
 *             sweep_pairs(visits);                // and two faults in one trial
 *     }
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
enum { SWEEP_ERRORS_MAX = 4, SWEEP_ALL = 1000000 };

/* What the command line says. */
struct sweep_options {
	const char *sequence; /* In the name of those that are wanted; NULL: all. */
	unsigned modes;
	unsigned pairs;  /* Sampled, of each sequence and journal mode; or SWEEP_ALL. */
	unsigned stride; /* Every so manieth place. */
	unsigned part, parts;
};
extern struct sweep_options sweep_options;

/* For struct harness_scenario. */
extern const struct argp_option sweep_argp[];
const char *sweep_option(int key, const char *value);

/* What fails in pairs: two visits of the place, each with one of the errors. */
struct sweep_pairs {
	const char *place;
	int errors[SWEEP_ERRORS_MAX];
	unsigned error_count;
};

/* SQLite is initialised and faults are installed. traits: of the sequences that are wanted. */
void sweep_begin(struct harness_run *run, const struct trial_law *law, unsigned traits,
                 const struct sweep_pairs *pairs);
/* The next sequence and journal mode; false: that was all. */
bool sweep_next(void);
/* How often the sequence visits each of so many places (HARNESS_FAULTS_MAX at most) when nothing
 * fails. */
void sweep_visits(const char *const places[], unsigned count, uint64_t ret_visits[]);
/* One trial, as a case; what: its name behind the journal mode and the sequence. */
void sweep_one(struct harness_fault *fault, const char *what);
/* Whether the place of the pairs was not visited any more after visit n had failed, once, with the
 * first of the errors. False, too, where that has not been done. */
bool sweep_is_last(uint64_t n);
/* Pairs, as --pairs says, of so many visits when nothing fails. The second fault is a visit that
 * the first one leads to: each pair meets both, or the run is distrusted. As many again, or one for
 * each first fault, have the second one in what comes after the sequence. */
void sweep_pairs(uint64_t visits);
/* The numbers of run.json. */
void sweep_end(void);

#endif
