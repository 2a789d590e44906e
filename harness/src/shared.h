/*
 * shared.h - the memory that a run's two processes share: the child writes, the parent reads.
 *
 * Whatever run.json says is here, so a child that crashes or hangs still leaves a verdict with
 * the numbers it had. Everything has a fixed size and comes from mmap(): nothing of the harness
 * is in the heap that it watches.
 */
/* SPDX-License-Identifier: MIT */
#ifndef HARNESS_SHARED_H
#define HARNESS_SHARED_H

#include <poolproof/harness/histogram.h>
#include <poolproof/harness/target.h>

#include <stdatomic.h>

enum {
	SHARED_THREADS = 256,
	SHARED_REASONS = 24,
	SHARED_NUMBERS = 512,
	SHARED_OPERATIONS = 32,
	SHARED_TAGS = 64,
	SHARED_FRAMES = 64,
	SHARED_NAME = 64,
	SHARED_TEXT = 600,
	REASON_TEXT = SHARED_TEXT + 20,
	SHARED_CASE = 160,
};

enum verdict { VERDICT_PASS, VERDICT_UNTRUSTWORTHY, VERDICT_FAIL };

/* One load thread's sign of life, on a cache line of its own. Relaxed: each is a number that
 * somebody else looks at now and then, and nothing is concluded about other memory. */
struct shared_slot {
	_Alignas(64) _Atomic uint64_t finished; /* Operations, over all loads. */
	_Atomic uint32_t inside;                /* 1 while an operation runs. */
	uint64_t digest;                        /* Written when a load ends. */
	uint64_t next_index;                    /* Of its next operation. */
};

struct shared_reason {
	enum verdict verdict;
	unsigned times; /* It was said. */
	char text[SHARED_TEXT];
};

struct shared_number {
	char name[SHARED_NAME];
	double value;
};

struct shared_operation {
	char name[SHARED_NAME];
	uint64_t count, errors;
};

struct shared {
	_Atomic int stop;     /* Parent to child: end the load, write what there is. */
	_Atomic int complete; /* The child came to its end. */
	_Atomic int cannot;   /* 0, 1 while its text is written, 2 when it stands. */
	/* Goes up when the body's thread enters and when it leaves the target's open, check or
	 * close: odd is inside. */
	_Atomic uint64_t target_steps;
	_Atomic int loading;         /* A load runs. */
	_Atomic uint64_t case_steps; /* As target_steps, of cases; and by two of harness_step(). */
	/* The body's thread's; case_name is read when nothing goes on any more. */
	unsigned case_count, case_failed_count;
	char case_name[SHARED_CASE];
	/* What the target was like when it was last sampled. */
	_Atomic unsigned seen_connections, seen_leased, seen_waiting;
	char cannot_text[SHARED_TEXT];

	/* What the progress line shows. phase is written before loading is set. */
	char phase[SHARED_NAME];
	double phase_seconds;
	uint64_t phase_start_ns;
	_Atomic uint64_t p99_ns, live_bytes;

	/* The body's thread, and after the child's end the parent. */
	unsigned reason_count, reasons_dropped;
	struct shared_reason reasons[SHARED_REASONS];
	unsigned number_count, numbers_of_body;
	struct shared_number numbers[SHARED_NUMBERS];
	unsigned operation_count;
	struct shared_operation operations[SHARED_OPERATIONS];
	unsigned load_count;
	double load_seconds;
	bool open_loop;
	uint64_t open_due, open_dropped; /* Due in open loops; of these, never started. */
	char provider[SHARED_NAME];      /* Of the heap census; empty until it was taken. */

	_Atomic uint64_t errors[HARNESS_FAILURE_KINDS];
	char error_first[HARNESS_FAILURE_KINDS][512];
	struct shared_slot slots[SHARED_THREADS];

	unsigned tag_count;
	char tags[SHARED_TAGS][SHARED_NAME];
	struct harness_histogram totals[SHARED_TAGS];

	/* One thread's stack, put here by its signal handler, or by the crash. */
	_Atomic int frame_count; /* 0: nothing yet. */
	_Atomic int crash_signal, crash_thread;
	_Atomic int frame_wanted; /* The thread that is asked. */
	void *frames[SHARED_FRAMES];
};

#endif
