/*
 * poolproof/harness/histogram.h - counts of nanoseconds at three significant digits, as
 * HdrHistogram lays them out.
 *
 * Threads    One writer. Reading and merging need that nobody writes meanwhile.
 * Memory     248 kB, fixed; all zero is the valid empty state. An untouched page costs nothing.
 *
 * Percentiles, min and max are bucket bounds exactly as the public HdrHistogram tools compute
 * them, so run.json and latency.hlog never disagree. A histogram is carried elsewhere slot by
 * slot: counts[slot] may be added to by hand, with count and end.
 */
/* SPDX-License-Identifier: MIT */
#ifndef POOLPROOF_HARNESS_HISTOGRAM_H
#define POOLPROOF_HARNESS_HISTOGRAM_H

#include <stdint.h>

enum {
	HARNESS_HISTOGRAM_HALF = 1024, /* Three digits need 2000 steps an octave: 2048, of which the
	                                * lower half is the octave below. */
	HARNESS_HISTOGRAM_OCTAVES = 30, /* 2048 << 29 is 2^40. */
	HARNESS_HISTOGRAM_SIZE = (HARNESS_HISTOGRAM_OCTAVES + 1) * HARNESS_HISTOGRAM_HALF,
};
/* Eighteen minutes; anything longer is counted as this. */
#define HARNESS_HISTOGRAM_VALUE_MAX ((UINT64_C(1) << 40) - 1)

struct harness_histogram {
	uint64_t count;
	uint32_t end; /* One past the last slot in use: what merging and clearing look at. */
	uint64_t counts[HARNESS_HISTOGRAM_SIZE];
};

void harness_histogram_record(struct harness_histogram *h, uint64_t value_ns);
void harness_histogram_add(struct harness_histogram *to, const struct harness_histogram *from);
void harness_histogram_clear(struct harness_histogram *h);

uint64_t harness_histogram_min(const struct harness_histogram *h);
uint64_t harness_histogram_max(const struct harness_histogram *h);
double harness_histogram_mean(const struct harness_histogram *h);
/* percentile in 0..100. 0 when empty. */
uint64_t harness_histogram_percentile(const struct harness_histogram *h, double percentile);

#endif
