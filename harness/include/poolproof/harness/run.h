/*
 * poolproof/harness/run.h - the main() of every scenario.
 *
 *     static const struct harness_scenario scenario = {
 *             .name = "writer_storm", .question = "...", .load = "...", .passes = "...",
 *             .body = body,
 *     };
 *     int main(int argc, char **argv)
 *     {
 *             return harness_main(&scenario, targets, argc, argv);
 *     }
 *
 * harness_main() reads the options, makes the run directory, forks the process that runs the
 * body, watches it (a hang is FAIL, with every thread's stack), shows progress, takes the census
 * before and after, writes run.json, latency.hlog, memory.csv and events.jsonl, and returns the
 * exit code: 0 PASS, 1 FAIL, 2 bad usage, 3 UNTRUSTWORTHY, 4 could not run.
 *
 * Threads    The body's own; harness_event(), harness_fail() and harness_step(): any.
 * Ownership  Strings are copied.
 */
/* SPDX-License-Identifier: MIT */
#ifndef POOLPROOF_HARNESS_RUN_H
#define POOLPROOF_HARNESS_RUN_H

#include <poolproof/harness/load.h>
#include <poolproof/harness/target.h>

struct argp_option;

/* The options every scenario has, after reading. */
struct harness_options {
	uint64_t seed;
	unsigned threads;                      /* --threads N, 1..256 */
	double seconds;                        /* --seconds S; 0 with --operations */
	uint64_t operations_per_thread;        /* --operations N */
	double rate_per_s;                     /* --rate N: open loop */
	bool poisson;                          /* --poisson */
	unsigned readers;                      /* --readers N */
	unsigned timeout_ms;                   /* --timeout-ms N */
	const char *synchronous;               /* --synchronous FULL|NORMAL */
	const char *journal_mode;              /* --journal WAL|DELETE */
	bool synchronous_asked, journal_asked; /* Not the default, but given. */
};

struct harness_scenario {
	const char *name;
	const char *question; /* What is being asked, one sentence. */
	const char *load;     /* What load is put on. */
	const char *passes;   /* When it passes. */

	/* Options of its own: argp's table (keys >= 0x1000, or a letter), and a function that reads
	 * one. It returns NULL, or what is wrong with the value, in words. */
	const struct argp_option *options;
	const char *(*option)(int key, const char *value);
	/* When all are read: NULL, or what is lacking, in words (exit code 2). May be NULL. */
	const char *(*complete)(void);
	/* When all are read, of a process that is no run but helps one (the scenario has started
	 * itself with a hidden option): its exit code; -1: this is a run. May be NULL. */
	int (*help)(const struct harness_target *target, const struct harness_options *options);
	/* An operation that fails makes the run FAIL; else only gates judge errors. */
	bool errors_fail;

	/* In the child process. Ends by returning; says what failed by harness_fail(). */
	void (*body)(struct harness_run *run);
};

/* targets: NULL-terminated, the first is the default. */
int harness_main(const struct harness_scenario *scenario,
                 const struct harness_target *const targets[], int argc, char **argv);

/* Monotonic; any thread. */
uint64_t harness_now_ns(void);
/* A whole number of an option's, all of the text. NULL, or what it must be, in words. */
const char *harness_read_whole(const char *value, unsigned low, unsigned high, unsigned *ret_value);

const struct harness_options *harness_run_options(const struct harness_run *run);
/* The chosen target, and with what to open it, for a body that opens and closes it itself, in the
 * middle of its load: it is not sampled then, unless it is shown, and its residue is the body's to
 * judge. path must live as long as the options. */
const struct harness_target *harness_run_target(const struct harness_run *run);
struct harness_target_options harness_run_target_options(const struct harness_run *run,
                                                         const char *path);
/* A folder inside the run directory for databases; removed after PASS. */
const char *harness_run_work(const struct harness_run *run);

/* Open the chosen target on path and close it again. From open on its gauges are sampled; close
 * records its numbers and its residue: what is left there is a FAIL of its own. */
bool harness_target_open(struct harness_run *run, const char *path);
bool harness_target_close(struct harness_run *run);

/* One that the body has opened by itself: from here on it is sampled, and a hang tells of it. NULL,
 * before it is closed: no more. */
void harness_target_show(struct harness_run *run, void *target_state);

/* Put the database at source (never written to) as a copy at ret_path, in the work folder, by
 * SQLite's backup. Where it has a -wal, SQLite updates the -shm beside it, as every reader does. On
 * failure ends the run as "could not run" (exit 4) with one line. */
void harness_copy_database(struct harness_run *run, const char *source, char *ret_path,
                           size_t path_size);

/* A process of the scenario's own that helps a run (it is killed, say) is not watched. Whoever
 * waits for it asks it by this signal, when nothing goes on any more: then it writes every thread's
 * stack, and what its target is like, to standard error. Before it has other threads; helper lives
 * as long as the process. false: no memory. */
enum { HARNESS_HELPER_SIGNAL = 41 };
struct harness_helper {
	const char *name;
	const struct harness_target *target;
	void *const *state; /* The target's; of NULL nothing is told. */
};
bool harness_helper_tells(const struct harness_helper *helper);

/* An invariant does not hold, in words: the verdict is FAIL. Any thread. */
void harness_fail(struct harness_run *run, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
/* The measuring is broken, in words: the verdict is UNTRUSTWORTHY unless something FAILs. */
void harness_distrust(struct harness_run *run, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
/* The run cannot be done (a missing file, a full disk): one line, the run directory is removed,
 * exit code 4. Does not return. what, where, what to do. */
void harness_cannot(struct harness_run *run, const char *format, ...)
	__attribute__((format(printf, 2, 3), noreturn));
/* A number for run.json; flat name, unit last ("ledger.sum_count"). */
void harness_number(struct harness_run *run, const char *name, double value);
/* Live bytes on the heap by the allocator's own statistics, the calling thread's caches emptied:
 * exact, and the same number at every quiet point, while no load runs. Slow under memcheck. */
uint64_t harness_heap_bytes(void);
/* Something has come to its end, and the watchdog goes on waiting: in a body that runs no load, or
 * in a case without notes. Orders nothing. Any thread. */
void harness_step(struct harness_run *run);
/* A line of events.jsonl: what kind, and words. Any thread. */
void harness_event(struct harness_run *run, const char *kind, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

#endif
