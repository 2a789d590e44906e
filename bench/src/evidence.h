/* evidence.h - the lines of a raw.jsonl, sorted. */
/* SPDX-License-Identifier: MIT */
#ifndef BENCH_EVIDENCE_H
#define BENCH_EVIDENCE_H

#include "bench.h"

#include <poolproof/harness/stat.h>

/* Of all intervals but the controls'. */
#define BENCH_CONFIDENCE 0.95

enum { SLOTS = BENCH_CONTENDERS_MAX + 1 /* Ours, again. */ };

/* What one contender did in a row. */
struct side {
	const json_t *figures[HARNESS_ROUNDS_MAX]; /* NULL: failed, or not measured. */
	const char *failed;
};

struct seen_row {
	const struct bench_table *table;
	const struct bench_row *row;
	int take; /* Only the last one counts. */
	struct side sides[SLOTS];
	struct harness_interval control;
};

struct bench_evidence {
	json_t *lines; /* All of them: figures point into it. */
	const json_t *head, *tail;
	unsigned rounds;
	uint64_t seed;
	struct seen_row *rows;
	unsigned row_count;
};

/* One figure of one round; NAN: it has none. */
double evidence_figure(const struct side *side, const char *name, unsigned round);
/* "p99.9_us" and "max_us": of all these rounds' latencies together; NAN where there are too few for
 * it. */
double evidence_latency(const struct side *side, const char *name, const unsigned *rounds,
                        unsigned count);
/* Over these rounds; NAN when it failed in one. */
double evidence_value(const struct side *side, const char *name, const unsigned *rounds,
                      unsigned count);
/* How many times better ours is; theirs NULL: ours alone. */
struct harness_interval evidence_compare(const struct bench_evidence *e, const struct side *ours,
                                         const struct side *theirs, const char *figure);
bool evidence_control_holds(const struct seen_row *seen);

#endif
