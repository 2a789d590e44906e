/* stat.c - medians, bootstrap, Theil-Sen; see stat.h. */
/* SPDX-License-Identifier: MIT */
#include <poolproof/harness/stat.h>

#include <assert.h>
#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <poolproof/harness/entropy.h>

enum { DRAWS = 2000 };

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double sorted_median(const double *sorted, unsigned count)
{
	if (count == 0)
		return NAN;
	return (sorted[(count - 1) / 2] + sorted[count / 2]) / 2;
}

static double *numbers(size_t count)
{
	double *values = malloc((count > 0 ? count : 1) * sizeof *values);

	assert(values != NULL);
	return values;
}

static bool any_nan(const double *values, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		if (isnan(values[i]))
			return true;
	return false;
}

double harness_median(const double *values, unsigned count)
{
	double *sorted, median;

	if (any_nan(values, count))
		return NAN;
	sorted = numbers(count);
	memcpy(sorted, values, count * sizeof *sorted);
	qsort(sorted, count, sizeof *sorted, by_value);
	median = sorted_median(sorted, count);
	free(sorted);
	return median;
}

/* --- Bootstrap --------------------------------------------------------------------------- */

struct harness_interval harness_bootstrap(harness_statistic_fn *statistic, void *context,
                                          unsigned count, double confidence, uint64_t seed)
{
	unsigned rounds[HARNESS_ROUNDS_MAX] = { 0 };
	struct harness_interval interval = { NAN, NAN, NAN };
	double *draws, tail = (1 - confidence) / 2;
	struct harness_entropy e;

	assert(count <= HARNESS_ROUNDS_MAX && confidence > 0 && confidence < 1);
	for (unsigned i = 0; i < count; i++)
		rounds[i] = i;
	interval.value = statistic(context, rounds, count);
	if (count < 2)
		return interval;
	draws = numbers(DRAWS);
	harness_entropy_init(&e, seed, 0, 0);
	for (unsigned d = 0; d < DRAWS; d++) {
		for (unsigned i = 0; i < count; i++)
			rounds[i] = (unsigned)harness_entropy_uniform(&e, 0, count - 1);
		draws[d] = statistic(context, rounds, count);
	}
	if (!any_nan(draws, DRAWS)) {
		qsort(draws, DRAWS, sizeof *draws, by_value);
		interval.low = draws[(unsigned)(tail * (DRAWS - 1))];
		interval.high = draws[DRAWS - 1 - (unsigned)(tail * (DRAWS - 1))];
	}
	free(draws);
	return interval;
}

struct sides {
	const double *a, *b; /* b NULL: a alone. */
};

static double drawn_median(const double *values, const unsigned *rounds, unsigned count)
{
	double drawn[HARNESS_ROUNDS_MAX];

	for (unsigned i = 0; i < count; i++)
		drawn[i] = values[rounds[i]];
	return harness_median(drawn, count);
}

static double ratio_of(void *context, const unsigned *rounds, unsigned count)
{
	const struct sides *sides = context;
	double a = drawn_median(sides->a, rounds, count);

	return sides->b == NULL ? a : a / drawn_median(sides->b, rounds, count);
}

struct harness_interval harness_median_interval(const double *values, unsigned count,
                                                double confidence, uint64_t seed)
{
	struct sides sides = { values, NULL };

	return harness_bootstrap(ratio_of, &sides, count, confidence, seed);
}

struct harness_interval harness_ratio(const double *a, const double *b, unsigned count,
                                      double confidence, uint64_t seed)
{
	struct sides sides = { a, b };

	return harness_bootstrap(ratio_of, &sides, count, confidence, seed);
}

/* --- Order statistics -------------------------------------------------------------------- */

/* The value that a normal deviate stays within, on both sides, with this probability: Newton's
 * method on erf(), which is smooth. */
static double two_sided_deviate(double confidence)
{
	double z = 1;

	for (int i = 0; i < 60; i++)
		z -= (erf(z / M_SQRT2) - confidence) / (M_2_SQRTPI / M_SQRT2 * exp(-z * z / 2));
	return z;
}

struct harness_interval harness_slope(const double *x, const double *y, unsigned count,
                                      double confidence)
{
	struct harness_interval interval = { NAN, NAN, NAN };
	double *slopes = numbers((size_t)count * count / 2), n = count, variance, width, ties = 0;
	unsigned pairs = 0;

	for (unsigned i = 0; i < count; i++) {
		unsigned same = 0;

		for (unsigned j = 0; j < count; j++)
			same += x[j] == x[i];
		/* Each of the same counts it: a sum over the groups of t(t-1)(2t+5). */
		ties += (same - 1.0) * (2.0 * same + 5);
		for (unsigned j = i + 1; j < count; j++)
			if (x[i] != x[j])
				slopes[pairs++] = (y[j] - y[i]) / (x[j] - x[i]);
	}
	if (pairs > 0 && !any_nan(slopes, pairs)) {
		qsort(slopes, pairs, sizeof *slopes, by_value);
		interval.value = sorted_median(slopes, pairs);
		variance = (n * (n - 1) * (2 * n + 5) - ties) / 18;
		width = two_sided_deviate(confidence) * sqrt(variance);
		if (width < pairs) {
			unsigned out = (unsigned)((pairs - width) / 2);

			interval.low = slopes[out];
			interval.high = slopes[pairs - 1 - out];
		}
	}
	free(slopes);
	return interval;
}

struct harness_interval harness_control(const double *a, const double *b, unsigned count,
                                        double confidence)
{
	struct harness_interval interval = { NAN, NAN, NAN };
	double *ratios = numbers(count), outside = pow(0.5, count), chance = 0;
	unsigned rank = 0;

	for (unsigned i = 0; i < count; i++)
		ratios[i] = a[i] / b[i];
	/* Between the rank-th from below and from above: all that leaves is a coin's tail. */
	while (rank < count && chance + 2 * outside <= 1 - confidence) {
		chance += 2 * outside;
		rank++;
		outside *= (double)(count - rank + 1) / rank;
	}
	if (count > 0 && !any_nan(ratios, count)) {
		qsort(ratios, count, sizeof *ratios, by_value);
		interval.value = sorted_median(ratios, count);
		if (rank > 0) {
			interval.low = ratios[rank - 1];
			interval.high = ratios[count - rank];
		}
	}
	free(ratios);
	return interval;
}

void harness_abba(unsigned round, unsigned count, unsigned *ret_order)
{
	for (unsigned i = 0; i < count; i++)
		ret_order[round % 2 == 0 ? i : count - 1 - i] = (i + round / 2) % count;
}
