/*
 * bench.h - what is measured against what.
 *
 * A table has rows; a row is one piece of work and the contenders that do it. The first contender
 * is ours, and it is measured twice in each round, the second time as "again": that ratio has to
 * be one, or the machine is not to be believed. Each measurement is a process of its own, so that
 * no contender meets another's SQLite, heap or caches; what it says is one line of JSON.
 *
 * measure() runs in that process, and leaves by bench_cannot() when it cannot.
 */
/* SPDX-License-Identifier: MIT */
#ifndef BENCH_BENCH_H
#define BENCH_BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <jansson.h>

#include <poolproof/harness/histogram.h>

enum { BENCH_CONTENDERS_MAX = 12, BENCH_THREADS_MAX = 1024, BENCH_ROUNDS = 14 };

enum bench_kind {
	BENCH_OURS,
	BENCH_PEER,
	BENCH_LIMIT /* What no pool can beat: drawn as a line. */
};

struct bench_contender {
	const char *name; /* NULL ends a list. */
	enum bench_kind kind;
	const char *about;
	const void *functions; /* The table's own. */
	const char *variant;   /* Whose program measures it; NULL: this one's. */
};

enum bench_unit { BENCH_NS, BENCH_PER_S, BENCH_MS };

struct bench_measurement;

struct bench_row {
	const char *name;     /* "lending/2": the table, then what differs. */
	const char *about;    /* In words. */
	enum bench_unit unit; /* Of the figure that is compared; its name is bench_figures[unit]. */
	unsigned threads;     /* Of load. */
	unsigned connections; /* The pool's, where it matters. */
	int shape;            /* The table's own. */
	double size;          /* Where a table grows: of what this row has more. */
	double weight;        /* Of the time; 0 means 1. */
	const struct bench_contender *contenders;
};

struct bench_table {
	const char *name, *title;
	const char *about; /* What is done, and what stands beside it. */
	const struct bench_row *rows;
	unsigned row_count;
	void (*measure)(struct bench_measurement *m);
};

extern const struct bench_table bench_lending, bench_writes, bench_reads, bench_statements,
	bench_allocator, bench_growth, bench_visits;
extern const struct bench_table *const bench_tables[];
extern const char *const bench_figures[]; /* "ns", "per_s", "ms" */
extern const char *const bench_kinds[];   /* "ours", "peer", "limit" */
bool bench_more_is_better(const char *figure);
/* NULL: there is none. */
const struct bench_row *bench_row_find(const char *name, const struct bench_table **ret_table);
unsigned bench_contender_count(const struct bench_row *row);
/* Its place; the number of contenders when there is none. */
unsigned bench_contender_find(const struct bench_row *row, const char *name);

/*
 * What has to be reached. What is judged is how many times better ours is than against; without
 * against, the figure itself; of a row that ends in '-', the slope over all rows that begin so: by
 * how many per cent the figure grows with each doubling of the size.
 */
struct bench_goal {
	const char *text;
	const char *row, *ours;
	const char *figure;      /* NULL: the row's. */
	const char *against_row; /* NULL: the same row. */
	const char *against;     /* NULL: none. */
	char relation;           /* '>' at least, '<' at most. */
	double limit;
};
extern const struct bench_goal bench_goals[];
extern const unsigned bench_goal_count;

/* The name of ours when it is measured the second time. */
#define BENCH_AGAIN "again"

/* --- In a measurement's process: measure.c ------------------------------------------------ */

struct bench_measurement {
	const struct bench_row *row;
	const struct bench_contender *contender;
	double seconds;
	uint64_t seed;
	char folder[3072]; /* Empty, its own, on the disk. */
	json_t *figures;
};

void bench_figure(struct bench_measurement *m, const char *name, double value);
void bench_cannot(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));
/* folder/name. */
const char *bench_path(const struct bench_measurement *m, const char *name, char *path,
                       size_t path_size);
uint64_t bench_now_ns(void);
void bench_spin_ns(uint64_t ns);

/* Runs work over and over in row->threads threads: after a tenth of the time to grow warm,
 * seconds long. work() does `count` operations; thread is its number, from 0. */
struct bench_load {
	void (*work)(void *context, unsigned thread, unsigned count);
	void *context;
	unsigned count; /* Operations of a call: more than one where one is shorter than a clock. */
	bool latencies; /* Each call is timed. */
};
/* Writes the figures operations, per_s and ns (of one operation in all threads together: seconds by
 * operations), fairness (slowest thread by fastest), and the latencies. */
void bench_run(struct bench_measurement *m, const struct bench_load *load);

/* --- In the process that runs them -------------------------------------------------------- */

struct bench_plan {
	const char *folder;   /* build/bench */
	const char *programs; /* Of variants: programs/VARIANT/poolproof-bench. */
	const char *rows;     /* Only rows with this word; NULL: all. */
	double seconds;       /* For all together. */
	unsigned rounds;
	uint64_t seed;
};

/* rounds.c: measures, and writes folder/raw.jsonl. Returns an exit code; it has said why. */
int bench_rounds(const struct bench_plan *plan);

/* evidence.c: what the lines of a raw.jsonl say. */
struct bench_evidence;
/* NULL: it is no such file; it has said why. */
struct bench_evidence *bench_evidence_read(const char *path);
void bench_evidence_free(struct bench_evidence *evidence);
/* The row was measured, and its control says that the machine prefers one of two equal names. */
bool bench_is_doubtful(const struct bench_evidence *evidence, const struct bench_row *row);
/* judge.c: report.json (bench-1.schema.json). */
json_t *bench_report(const struct bench_evidence *evidence);

/* print.c: of an object; "" and NAN where it has none. */
const char *bench_text(const json_t *object, const char *name);
double bench_number(const json_t *object, const char *name);
/* The table of 80 columns; one line on stderr, which returns code. */
void bench_print(FILE *out, const json_t *report);
int bench_complain(int code, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
