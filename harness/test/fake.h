/*
 * fake.h - a target with planted faults, and whole scenarios run on it in a process of their own.
 *
 *     struct outcome o = scenario_run(&scenario, (struct fake){ .leak = true }, "--threads", "2",
 * NULL); CHECK_INT(o.code, ==, 1); CHECK_CONTAINS(o.reasons, "heap residue 16 bytes");
 */
/* SPDX-License-Identifier: MIT */
#ifndef HARNESS_TEST_FAKE_H
#define HARNESS_TEST_FAKE_H

#include "internal.h"

#include <poolproof/harness/run.h>
#include <poolproof/harness/test.h>

/* What the fake target does wrong. All zero: nothing. */
struct fake {
	bool leak_heap;     /* 16 bytes at open, known to nobody. */
	bool leak_booked;   /* close says that 16 bytes are left. */
	bool leak_fd;       /* One descriptor at open. */
	bool leak_thread;   /* One thread at open. */
	bool hang_in_lend;  /* For something that never comes. */
	bool hang_in_close; /* The same. */
	bool violate;       /* check() says so. */
	bool refuse;        /* lend fails, as overloaded. */
	bool crash;         /* query raises SIGSEGV. */
	bool crash_late;    /* The same, and the process exits before the signal arrives. */
	double watch_limit_s, watch_between_s;
	long file_size_max;  /* RLIMIT_FSIZE of the whole run; 0: none. */
	const char *lacking; /* What setup misses. */
};

struct outcome {
	int code;            /* Exit code; -1: no exit. */
	json_t *json;        /* run.json, or NULL. */
	char directory[512]; /* The run's; removed by outcome_done(). */
	char base[256];
	char out[16384], error[16384], reasons[8192];
};

extern const struct harness_target fake_target;

/* Arguments after fake up to NULL; --dir and --quiet come from here. */
struct outcome scenario_run(const struct harness_scenario *scenario, struct fake fake, ...);
void outcome_done(struct outcome *o);
double outcome_number(const struct outcome *o, const char *name);
char *outcome_file(const struct outcome *o, const char *file); /* The text; to be freed. */

/* Of this process and its children: Memcheck is not to report what they leave behind. */
void fake_leaks_are_meant(void);

/* Bodies and operations for them. */
bool fake_operation(struct harness_worker *worker, void *context,
                    struct harness_failure *reterr_failure);
extern const struct harness_scenario fake_scenario; /* Opens, one load, closes. */
struct harness_scenario fake_with_body(void (*body)(struct harness_run *run));

#endif
