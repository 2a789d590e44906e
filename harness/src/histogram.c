/*
 * histogram.c - log-linear counting; a record is a shift, an add and two compares.
 */
/* SPDX-License-Identifier: MIT */
#include "histogram.h"

#include <math.h>
#include <string.h>

static unsigned octave_of(uint64_t value)
{
	/* Octave 0 holds 0..2047 one by one, octave n the values of n more bits. */
	return 63 - (unsigned)__builtin_clzll(value | (2 * HISTOGRAM_HALF - 1)) - 10;
}

static unsigned slot_of(uint64_t value)
{
	unsigned octave = octave_of(value);

	return octave * HISTOGRAM_HALF + (unsigned)(value >> octave);
}

static unsigned slot_octave(unsigned slot)
{
	return slot < 2 * HISTOGRAM_HALF ? 0 : slot / HISTOGRAM_HALF - 1;
}

static uint64_t slot_low(unsigned slot)
{
	unsigned octave = slot_octave(slot);

	return (uint64_t)(slot - octave * HISTOGRAM_HALF) << octave;
}

static uint64_t slot_high(unsigned slot)
{
	return slot_low(slot) + (UINT64_C(1) << slot_octave(slot)) - 1;
}

void histogram_record(struct histogram *h, uint64_t value_ns)
{
	unsigned slot = slot_of(value_ns < HISTOGRAM_VALUE_MAX ? value_ns : HISTOGRAM_VALUE_MAX);

	h->counts[slot]++;
	h->count++;
	if (slot >= h->end)
		h->end = slot + 1;
}

void histogram_add(struct histogram *to, const struct histogram *from)
{
	for (unsigned i = 0; i < from->end; i++)
		if (from->counts[i] != 0) /* Writing only there leaves untouched pages untouched. */
			to->counts[i] += from->counts[i];
	to->count += from->count;
	if (from->end > to->end)
		to->end = from->end;
}

void histogram_clear(struct histogram *h)
{
	memset(h->counts, 0, h->end * sizeof *h->counts);
	h->count = 0;
	h->end = 0;
}

uint64_t histogram_min(const struct histogram *h)
{
	for (unsigned i = 0; i < h->end; i++)
		if (h->counts[i] != 0)
			return slot_low(i);
	return 0;
}

uint64_t histogram_max(const struct histogram *h)
{
	return h->end == 0 ? 0 : slot_high(h->end - 1);
}

double histogram_mean(const struct histogram *h)
{
	double sum = 0;

	for (unsigned i = 0; i < h->end; i++) {
		uint64_t middle = slot_low(i) + ((UINT64_C(1) << slot_octave(i)) >> 1);

		sum += (double)h->counts[i] * (double)middle;
	}
	return h->count == 0 ? 0 : sum / (double)h->count;
}

uint64_t histogram_percentile(const struct histogram *h, double percentile)
{
	/* The small subtrahend keeps 99.9 % of 10,000 at rank 9,990 whatever the rounding. */
	double rank = ceil(percentile / 100 * (double)h->count - 1e-6);
	uint64_t wanted = rank < 1 ? 1 : (uint64_t)rank, seen = 0;

	for (unsigned i = 0; i < h->end; i++) {
		seen += h->counts[i];
		if (seen >= wanted)
			return slot_high(i);
	}
	return 0;
}
