/*
 * internal.h - what the files of harness/src know of each other: the run, and who does what.
 *
 * A run is two processes. The parent (run.c) reads options, makes the directory, forks, watches
 * (watch.c), shows progress (progress.c) and writes run.json (result.c). The child (child.c)
 * takes the census (meter.c), runs the body and its loads (load.c), and writes the other files.
 */
/* SPDX-License-Identifier: MIT */
#ifndef HARNESS_INTERNAL_H
#define HARNESS_INTERNAL_H

#include "hlog.h"
#include "shared.h"

#include <poolproof/harness/machine.h>
#include <poolproof/harness/run.h>

#include <jansson.h>
#include <limits.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <sys/types.h>
#include <time.h>

enum { FD_MAX = 4096, NOTES = 32 };

/* A thread on a stack of our own: glibc keeps its own stacks, and what hangs on them in the heap,
 * for later use, and then a census after is not a census before. */
struct own_thread {
	pthread_t id;
	void *stack;
};

struct census {
	int64_t heap_bytes;
	unsigned thread_count, fd_count;
	uint64_t fds[FD_MAX / 64]; /* Bit set: open. */
};

struct progress {
	bool terminal, drawn, quiet, began;
	uint64_t last_ns, last_finished;
	int last_loading;
	uint64_t phase_ns, phase_finished; /* When the phase began. */
};

struct harness_run {
	const struct harness_scenario *scenario;
	const struct harness_target *target;
	struct harness_options options;
	bool quiet, json;
	int argc; /* The command line, a replayed run's in place of --replay. */
	char **argv;
	char directory[PATH_MAX - 64], work[PATH_MAX - 32];
	struct shared *shared;
	struct timespec started; /* Wall clock. */
	uint64_t start_ns;       /* The same instant, monotonic. */
	int events_fd, memory_fd, hlog_fd;
	pthread_mutex_t words_lock; /* reasons, and error_first. */

	/* The child's. */
	void *target_state;
	bool target_opened;
	void *target_shown;          /* One that the body has opened itself, or NULL. */
	pthread_mutex_t target_lock; /* open, close, gauges, check: one at a time. */
	char target_path[PATH_MAX];
	unsigned violated_count;
	double residue_bytes;

	/* case.c: the body's thread's, but for case_failed. */
	const char *only_case; /* --case; NULL: all. */
	uint64_t choices_digest, events_digest;
	char notes[NOTES][200];
	unsigned note_count; /* Of the case; the last NOTES are kept. */
	atomic_bool case_failed;

	/* replay.c: what the digests were; set where there is something to compare with. */
	struct replay {
		char directory[PATH_MAX];
		bool wanted, operations;
		bool narrowed; /* To one case, which is not all that was. */
		double operations_digest, choices_digest, events_digest; /* -1: none. */
	} replay;

	struct own_thread sampler;
	sem_t sampler_stop;
	struct census before;

	pthread_mutex_t recorders_lock; /* All that follows. Never taken by a load thread. */
	struct harness_recorder *recorders[SHARED_THREADS];
	unsigned recorder_count;
	double from_s, asked_s; /* The interval that the halves now set aside belong to. */
	struct harness_histogram *intervals; /* [SHARED_TAGS] */
	struct hlog encoder;
};

/* clock.c */
uint64_t now_ns(void);
double run_seconds(const struct harness_run *run);
bool own_thread_start(struct own_thread *thread, void *(*body)(void *), void *context);
void own_thread_join(struct own_thread *thread);
/* Zeroed pages, not from the heap; NULL when there are none. */
void *pages_take(size_t size);
void pages_give(void *pages, size_t size);

/* words.c: closest returns NULL when nothing is near. */
const char *closest_word(const char *word, const char *const words[], unsigned count);
/* In place: control characters become spaces, what is not UTF-8 becomes '?'. */
void one_line(char *text);
void shell_quote(char *to, size_t to_size, const char *word);

/* options.c: reads argv. Returns -1 to go on, else the exit code. */
struct parsed {
	bool describe, list_targets, seeded;
	const char *target_name, *directory;
};
int options_read(struct harness_run *run, const struct harness_target *const targets[], int argc,
                 char **argv, struct parsed *ret_parsed);
/* From the words that options_read() left in run. */
void options_repeat(const struct harness_run *run, char *ret_line, size_t line_size);
/* What is no part of what a run does. */
bool options_left_out(const char *argument, bool *ret_takes_value);

/* replay.c: the command line with what a recorded run was given in place of --replay DIR, or argv
 * itself; NULL, and a line on standard error, when that run cannot be done again. */
char **replay_words(struct harness_run *run, int argc, char **argv, int *ret_argc);
/* When everything is over: did it do the same? */
void replay_judge(struct harness_run *run);

/* targets.c: the scenario's, and the plug-ins in peers/ beside this program. find loads a plug-in
 * and returns -1 to go on, or says in a line what is wrong and returns the exit code; no name is
 * the first of targets. */
int target_find(const struct harness_scenario *scenario,
                const struct harness_target *const targets[], const char *name,
                const struct harness_target **ret_target);
enum { TARGETS_LINE = 1024 };
void targets_line(const struct harness_target *const targets[], char ret_line[TARGETS_LINE]);
void targets_print(const struct harness_target *const targets[]);
json_t *targets_json(const struct harness_target *const targets[]);

/* record.c: false, and a line in ret_why. */
bool record_create(struct harness_run *run, const char *wanted, char *ret_why, size_t why_size);
void record_remove(const struct harness_run *run);
void record_remove_work(const struct harness_run *run);
/* A failure ends the run as "could not run"; see cannot(). */
void record_write(struct harness_run *run, int fd, const char *file, const char *text, size_t size);
void record_close(struct harness_run *run);
/* run.json, synced and renamed. */
bool record_result(const struct harness_run *run, const char *json, char *ret_why, size_t why_size);

/* verdict.c */
void verdict_add(struct harness_run *run, enum verdict verdict, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
enum verdict verdict_of(const struct shared *shared);
/* The reason's text, in buffer (REASON_TEXT bytes) where it was said more than once. */
const char *reason_text(const struct shared_reason *reason, char *buffer, size_t size);
const char *verdict_name(enum verdict verdict);
/* Notes that the run cannot be done, from any thread, and lets it come to its end. */
void cannot(struct harness_run *run, const char *format, ...) __attribute__((format(printf, 2, 3)));
void number_set(struct harness_run *run, const char *name, double value);
double number_get(const struct shared *shared, const char *name, double otherwise);

/* child.c */
void child_main(struct harness_run *run) __attribute__((noreturn));
/* Recomputes the open target's invariants; a mismatch is a FAIL. */
void target_check(struct harness_run *run);

/* case.c: one has begun and not ended. */
bool case_runs(const struct shared *shared);
void cases_numbers(struct harness_run *run);

/* recorder.c */
enum recorder_tag {
	TAG_OPERATION,
	TAG_SERVICE,
	TAG_LAG,
	TAG_WAIT,
	TAG_TRANSACTION,
	TAG_COMMIT,
	TAG_NAMED, /* The first of the operations' own. */
};
struct harness_recorder *recorder_new(struct harness_run *run, const struct harness_load *load);
void recorder_free(struct harness_recorder *recorder);
/* The owner's: before each operation, and for each value. NULL records nothing. */
void recorder_turn(struct harness_recorder *recorder);
void recorder_record(struct harness_recorder *recorder, unsigned tag, uint64_t value_ns);
/* The collector's: at a load's start, each second, and after the threads have ended. */
void recorders_begin(struct harness_run *run, struct harness_recorder *const recorders[],
                     unsigned count);
void recorders_tick(struct harness_run *run);
void recorders_end(struct harness_run *run);
/* What harness_duration() has noted since the last load. */
void recorders_flush(struct harness_run *run);

/* heap.c */
const char *heap_provider(void);
uint64_t heap_live(void);       /* Cheap; 0 where it would not be. */
uint64_t heap_census(void);     /* Exact, with this thread's caches emptied. */
uint64_t heap_smallest(void);   /* No block takes fewer bytes. */
				/* "none", "memcheck", ... */
unsigned time_multiplier(void); /* How much slower things are under such a tool. */
void heap_allocator(char *ret_text, size_t text_size);

/* meter.c */
bool meter_start(struct harness_run *run);
void meter_stop(struct harness_run *run);
/* leaked also against what a second look finds, and gives a FAIL for each kind. */
void census_take(struct census *ret_census);
void census_judge(struct harness_run *run, const struct census *before);

/* watch.c: block and unblock around the child's life; child() returns when it is gone, with what
 * went wrong booked. */
void watch_block(void);
void watch_unblock(void);
void watch_prepare_child(struct harness_run *run);
void watch_child(struct harness_run *run, pid_t child, struct progress *progress);
/* Tests shorten them. 0: four seconds, or --timeout-ms and one; ten minutes outside of all. */
extern double watch_limit_s, watch_between_s;

/* stacks.c: all threads' (child stopped in some lock, say) or the crashed one's, into
 * leaks/stacks.txt; the first lines on standard error. */
void stacks_of_threads(const struct harness_run *run, pid_t child);
void stacks_of_crash(const struct harness_run *run);
void stacks_handlers(struct harness_run *run);

/* progress.c */
void progress_begin(struct progress *progress, const struct harness_run *run);
void progress_tick(struct progress *progress, const struct harness_run *run);
void progress_end(struct progress *progress);
void progress_summary(const struct harness_run *run, const char *repeat);
uint64_t finished_count(const struct shared *shared);

/* result.c */
/* The tool this process runs under: none, memcheck or helgrind. */
const char *under_name(void);
void result_numbers(struct harness_run *run);
json_t *result_json(const struct harness_run *run, const char *repeat);
bool percentile_known(const struct harness_histogram *h, double percentile);

#endif
