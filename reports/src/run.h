/*
 * run.h - a run directory, read whole: run.json, latency.hlog, memory.csv, leaks/, coverage.json.
 *
 * A directory without run.json is not a run, and report_run_read() fails. Any other file may be
 * missing, but latency.hlog only where nothing was measured; what is damaged is told of in
 * .damage, and what rests on it is UNTRUSTWORTHY.
 */
/* SPDX-License-Identifier: MIT */
#ifndef REPORT_RUN_H
#define REPORT_RUN_H

#include <jansson.h>

#include "base.h"
#include "coverage.h"
#include "hlog.h"
#include "leaks.h"

/* PASS, FAIL … in the order of how bad they are; WARN only ever comes from a gate. */
enum report_verdict {
	REPORT_IS_PASS,
	REPORT_IS_SKIP,
	REPORT_IS_WARN,
	REPORT_IS_UNTRUSTWORTHY,
	REPORT_IS_FAIL
};
extern const char *const report_verdicts[];

struct report_table { /* memory.csv */
	const char **names;
	size_t columns, rows;
	double *cells; /* Row by row. */
};

struct report_run {
	const char *path, *name; /* As given, and its last part. */
	const char *scenario, *variant, *under, *target;
	const char *title; /* "concurrent_load, instrumented, poolproof". */
	enum report_verdict verdict;
	json_t *json; /* run.json; owned. */
	json_t *numbers;
	bool has_log, has_memory, has_leaks, has_coverage;
	struct report_hlog log;
	struct report_table memory;
	struct report_leaks leaks;
	struct report_coverage coverage;
	const char *damage; /* In words; NULL when every file could be read. */
};

bool report_run_read(struct report_arena *arena, const char *path, struct report_run *ret_run,
                     const char **reterr_text);
void report_run_done(struct report_run *run);

/* A string of run.json, by key and by key inside an object; "" when it is not there. */
const char *report_run_text(const struct report_run *run, const char *key);
/* numbers[name], false when there is none. */
bool report_run_number(const struct report_run *run, const char *name, double *ret_value);
/* The position of a column, -1 when there is none. */
int report_table_column(const struct report_table *table, const char *name);

/* The runs in a folder (<build>/runs), newest of each scenario, variant, target and tool. */
bool report_runs_newest(struct report_arena *arena, const char *folder, const char ***ret_paths,
                        size_t *ret_count, const char **reterr_text);

#endif
