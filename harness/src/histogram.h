/*
 * histogram.h - counts of nanoseconds at three significant digits, as HdrHistogram lays them out.
 *
 * Threads    One writer. Reading and merging need that nobody writes meanwhile.
 * Memory     248 kB, fixed; all zero is the valid empty state. An untouched page costs nothing.
 *
 * Percentiles, min and max are bucket bounds exactly as the public HdrHistogram tools compute
 * them, so run.json and latency.hlog never disagree.
 */
/* SPDX-License-Identifier: MIT */
#ifndef HARNESS_HISTOGRAM_H
#define HARNESS_HISTOGRAM_H

#include <stdint.h>

enum {
	HISTOGRAM_HALF = 1024,  /* Three digits need 2000 steps an octave: 2048, of which the
	                         * lower half is the octave below. */
	HISTOGRAM_OCTAVES = 30, /* 2048 << 29 is 2^40. */
	HISTOGRAM_SIZE = (HISTOGRAM_OCTAVES + 1) * HISTOGRAM_HALF,
};
/* Eighteen minutes; anything longer is counted as this. */
#define HISTOGRAM_VALUE_MAX ((UINT64_C(1) << 40) - 1)

struct histogram {
	uint64_t count;
	uint32_t end; /* One past the last slot in use: what merging and clearing look at. */
	uint64_t counts[HISTOGRAM_SIZE];
};

void histogram_record(struct histogram *h, uint64_t value_ns);
void histogram_add(struct histogram *to, const struct histogram *from);
void histogram_clear(struct histogram *h);

uint64_t histogram_min(const struct histogram *h);
uint64_t histogram_max(const struct histogram *h);
double histogram_mean(const struct histogram *h);
/* percentile in 0..100. 0 when empty. */
uint64_t histogram_percentile(const struct histogram *h, double percentile);

#endif
