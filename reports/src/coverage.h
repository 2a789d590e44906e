/*
 * coverage.h - reads gcovr 5.2's full JSON (coverage.json), and counts as gcovr counts.
 *
 * Lines and branches of lines that gcovr calls "noncode" (no code, or excluded by a marker) do
 * not count. A ratio of 0 of 0 is "no data", never 100 %.
 */
/* SPDX-License-Identifier: MIT */
#ifndef REPORT_COVERAGE_H
#define REPORT_COVERAGE_H

#include "base.h"

enum report_measure { REPORT_LINES, REPORT_FUNCTIONS, REPORT_BRANCHES, REPORT_MEASURES };
extern const char *const report_measures[REPORT_MEASURES];

struct report_ratio {
	uint64_t covered, total;
};

struct report_file {
	const char *path;
	struct report_ratio ratios[REPORT_MEASURES];
	const char *uncovered;  /* Line ranges: "12, 40-44". */
	const char **functions; /* Never called. */
	size_t function_count;
};

struct report_coverage {
	struct report_file *files; /* Sorted by path. */
	size_t count;
};

/* A named set of files, from a gate file's line "component NAME = GLOB… !GLOB…". */
struct report_component {
	const char *name;
	const char **patterns; /* One that begins with '!' takes away. */
	size_t count;
};

bool report_coverage_read(struct report_arena *arena, const char *path,
                          struct report_coverage *ret_coverage, const char **reterr_text);
bool report_component_has(const struct report_component *component, const char *path);
/* component NULL: everything. */
struct report_ratio report_coverage_sum(const struct report_coverage *coverage,
                                        const struct report_component *component,
                                        enum report_measure measure);

#endif
