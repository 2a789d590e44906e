/*
 * hlog.h - reads an HdrHistogram V2 interval log (latency.hlog).
 *
 * Values are nanoseconds, to the significant digits of the log: a percentile and the maximum are
 * the highest value of the bucket they fall into, as the public HdrHistogram tools print them.
 */
/* SPDX-License-Identifier: MIT */
#ifndef REPORT_HLOG_H
#define REPORT_HLOG_H

#include "base.h"

struct report_histogram {
	uint64_t lowest;  /* Smallest value that can be told from 0. */
	unsigned digits;  /* Significant decimal digits, 0..5. */
	uint64_t *counts; /* By HdrHistogram's index. */
	size_t size;
	uint64_t count; /* Of all values. */
};

struct report_interval {
	unsigned tag;
	double start_s, length_s;
	uint64_t count, p50_ns, p99_ns, p999_ns, max_ns;
};

struct report_tag {
	const char *name; /* "" where the log has no Tag=. */
	struct report_histogram total;
};

struct report_hlog {
	struct report_tag *tags; /* In order of first appearance. */
	struct report_interval *intervals;
	size_t tag_count, interval_count;
};

bool report_hlog_read(struct report_arena *arena, const char *path, struct report_hlog *ret_log,
                      const char **reterr_text);
const struct report_histogram *report_hlog_find(const struct report_hlog *log, const char *tag);

/* One histogram in its base64 form ("HISTFAAA…"). */
bool report_histogram_decode(struct report_arena *arena, const char *base64,
                             struct report_histogram *ret_histogram, const char **reterr_text);
/* The value that is number rank in order, 1 .. count; 0 when there are none. */
uint64_t report_histogram_rank(const struct report_histogram *h, uint64_t rank);
uint64_t report_histogram_percentile(const struct report_histogram *h, double percent);
uint64_t report_histogram_max(const struct report_histogram *h);
uint64_t report_histogram_min(const struct report_histogram *h);
double report_histogram_mean(const struct report_histogram *h);
/* Whether a percentile has enough samples to be one: n >= 10 / (1 - p). */
bool report_percentile_holds(uint64_t count, double percent);

#endif
