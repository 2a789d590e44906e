/*
 * gate.h - the gate file and what it says of runs.
 *
 *     component pool = pool/src/pool*
 *     [concurrent_load]
 *     fail  p99.9(acquire.wait) <= 20 ms
 *     warn  coverage.lines{component=pool} >= 100 %
 *     ratchet coverage.branches{component=pool}
 *
 * report_gates_read() checks what can be checked without runs, report_judge() the names, before
 * anything is judged. Nothing is skipped in silence: each gate has at least one result.
 */
/* SPDX-License-Identifier: MIT */
#ifndef REPORT_GATE_H
#define REPORT_GATE_H

#include "run.h"

enum report_severity { REPORT_SEVERITY_FAIL, REPORT_SEVERITY_WARN, REPORT_SEVERITY_RATCHET };
enum report_function {
	REPORT_NUMBER, /* No function: the bare name. */
	REPORT_PERCENTILE,
	REPORT_MAX,
	REPORT_MIN,
	REPORT_AVG,
	REPORT_COUNT_OF,
	REPORT_THROUGHPUT,
	REPORT_RATE_OF /* rate(a / b), in per cent. */
};
enum report_operator { REPORT_EQ, REPORT_NE, REPORT_LT, REPORT_LE, REPORT_GT, REPORT_GE };

enum { REPORT_LABELS_MAX = 4, REPORT_WHEN_MAX = 3 };

struct report_pair {
	const char *key, *value;
};

struct report_gate {
	const char *where;   /* "ci/gates.conf:14", "--gate". */
	const char *section; /* Scenario, "leaks", "coverage"; "" for --gate: every run. */
	const char *text;    /* "p99.9(acquire.wait) <= 20 ms when variant=release". */
	const char *left;    /* "p99.9(acquire.wait)". */
	const char *right;   /* "<= 20 ms"; "" for ratchet. */
	enum report_severity severity;
	enum report_function function;
	double percent; /* Of pNN. */
	const char *metric, *divisor;
	struct report_pair labels[REPORT_LABELS_MAX];
	unsigned label_count;
	enum report_operator op;
	bool against_baseline; /* limit is then a factor. */
	bool limit_bare;       /* No unit given. */
	enum report_unit limit_unit;
	double limit;
	struct report_pair when[REPORT_WHEN_MAX];
	unsigned when_count;
	double confidence; /* conf=, per cent; 0: none. */
	double tolerance;  /* tolerance= of a ratchet, in points. */
};

struct report_gates {
	const char *path; /* NULL: no file. */
	struct report_component *components;
	size_t component_count;
	struct report_gate *items;
	size_t count;
};

/* Adds a file's gates, or one gate from the command line (severity "fail" unless it says one). */
bool report_gates_read(struct report_arena *arena, const char *path, struct report_gates *gates,
                       const char **reterr_text);
bool report_gates_add(struct report_arena *arena, const char *text, struct report_gates *gates,
                      const char **reterr_text);

/* What a gate's left side is worth in a run. */
struct report_value {
	const char *missing;    /* Why there is no value; NULL: there is one. */
	const char *distrusted; /* Why it, or its absence, is not to be believed; NULL: it is. */
	enum report_unit unit;
	double value;
	double low, high; /* Its confidence interval, where conf= asks for one. */
	bool timing;      /* A latency or a rate: means nothing on a slowed variant. */
	uint64_t samples; /* Of a percentile; else 0. */
};

/* component: the one that component=GLOB stands for now; NULL where there is none. */
struct report_value report_evaluate(struct report_arena *arena, const struct report_gate *gate,
                                    const struct report_run *run,
                                    const struct report_component *component);
/* A name that a gate may use: a number, or a histogram. */
struct report_name {
	const char *name;
	bool histogram;
	enum report_unit unit;
};
/* What every run has by contract, and what these runs have besides; sorted. */
size_t report_names(struct report_arena *arena, const struct report_run *const *runs,
                    size_t run_count, struct report_name **ret_names);
/* Whether the gate's names, their kind and the limit's unit make sense. NULL: they do. */
const char *report_gate_check(struct report_arena *arena, const struct report_gate *gate,
                              const struct report_name *names, size_t name_count);
/* Compares by the gate's operator. */
bool report_holds(enum report_operator op, double value, double limit);

struct report_result {
	const struct report_gate *gate; /* NULL: the run's own verdict. */
	const struct report_run *run;   /* NULL: no run matched. */
	enum report_verdict verdict;
	const char *name;   /* The left side with its labels filled in, or "run NAME". */
	const char *value;  /* "3.1 ms"; "" when there is none. */
	const char *limit;  /* "<= 20 ms". */
	const char *margin; /* "+18 %": how far inside (+) or past (-) the limit; "" unknown. */
	const char *reason; /* "" after a PASS. */
	double number;      /* Of a ratchet, for --raise. */
	uint64_t samples;
};

struct report_judgement {
	enum report_verdict verdict;
	const char *reason; /* Of an overall verdict that no single result explains; "". */
	struct report_result *results;
	size_t count;
};

struct report_inputs {
	struct report_gates gates;
	struct report_run *runs;
	size_t run_count;
	const struct report_run *baselines;
	size_t baseline_count;
	const char *const *scenarios; /* Known scenarios; none: any name is one. */
	size_t scenario_count;
	json_t *ratchet; /* name -> best; NULL: no record. */
	bool strict;     /* WARN and SKIP are FAIL. */
};

/* false: a gate names what does not exist; nothing was judged. */
bool report_judge(struct report_arena *arena, const struct report_inputs *inputs,
                  struct report_judgement *ret_judgement, const char **reterr_text);
enum report_exit report_exit_of(enum report_verdict verdict);

#endif
