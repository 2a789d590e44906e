/*
 * histogram.c - log-linear counting; a record is a shift, an add and two compares.
 */
/* SPDX-License-Identifier: MIT */
#include <poolproof/harness/histogram.h>

#include <math.h>
#include <string.h>

static unsigned octave_of(uint64_t value)
{
	/* Octave 0 holds 0..2047 one by one, octave n the values of n more bits. */
	return 63 - (unsigned)__builtin_clzll(value | (2 * HARNESS_HISTOGRAM_HALF - 1)) - 10;
}

static unsigned slot_of(uint64_t value)
{
	unsigned octave = octave_of(value);

	return octave * HARNESS_HISTOGRAM_HALF + (unsigned)(value >> octave);
}

static unsigned slot_octave(unsigned slot)
{
	return slot < 2 * HARNESS_HISTOGRAM_HALF ? 0 : slot / HARNESS_HISTOGRAM_HALF - 1;
}

static uint64_t slot_low(unsigned slot)
{
	unsigned octave = slot_octave(slot);

	return (uint64_t)(slot - octave * HARNESS_HISTOGRAM_HALF) << octave;
}

static uint64_t slot_high(unsigned slot)
{
	return slot_low(slot) + (UINT64_C(1) << slot_octave(slot)) - 1;
}

void harness_histogram_record(struct harness_histogram *h, uint64_t value_ns)
{
	unsigned slot = slot_of(
		value_ns < HARNESS_HISTOGRAM_VALUE_MAX ? value_ns : HARNESS_HISTOGRAM_VALUE_MAX);

	h->counts[slot]++;
	h->count++;
	if (slot >= h->end)
		h->end = slot + 1;
}

void harness_histogram_add(struct harness_histogram *to, const struct harness_histogram *from)
{
	for (unsigned i = 0; i < from->end; i++)
		if (from->counts[i] != 0) /* Writing only there leaves untouched pages untouched. */
			to->counts[i] += from->counts[i];
	to->count += from->count;
	if (from->end > to->end)
		to->end = from->end;
}

void harness_histogram_clear(struct harness_histogram *h)
{
	memset(h->counts, 0, h->end * sizeof *h->counts);
	h->count = 0;
	h->end = 0;
}

uint64_t harness_histogram_min(const struct harness_histogram *h)
{
	for (unsigned i = 0; i < h->end; i++)
		if (h->counts[i] != 0)
			return slot_low(i);
	return 0;
}

uint64_t harness_histogram_max(const struct harness_histogram *h)
{
	return h->end == 0 ? 0 : slot_high(h->end - 1);
}

double harness_histogram_mean(const struct harness_histogram *h)
{
	double sum = 0;

	for (unsigned i = 0; i < h->end; i++) {
		uint64_t middle = slot_low(i) + ((UINT64_C(1) << slot_octave(i)) >> 1);

		sum += (double)h->counts[i] * (double)middle;
	}
	return h->count == 0 ? 0 : sum / (double)h->count;
}

uint64_t harness_histogram_percentile(const struct harness_histogram *h, double percentile)
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
