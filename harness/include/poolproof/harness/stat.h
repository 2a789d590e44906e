/*
 * poolproof/harness/stat.h - what a handful of measurements says, and how sure it is.
 *
 *     harness_abba(round, contenders, order);            // who is measured when
 *     r = harness_ratio(ours_ns, theirs_ns, rounds, 0.95, seed);
 *     printf("%.2f [%.2f %.2f]", r.value, r.low, r.high);
 *
 * Threads    No state; an interval of the same numbers and seed is the same on every machine.
 * Memory     Takes what it needs by malloc() and gives it back; out of memory asserts.
 * Errors     None. What cannot be said of so few numbers is NAN.
 */
/* SPDX-License-Identifier: MIT */
#ifndef POOLPROOF_HARNESS_STAT_H
#define POOLPROOF_HARNESS_STAT_H

#include <stdbool.h>
#include <stdint.h>

/* An estimate and the bounds between which the truth lies at the confidence asked for. */
struct harness_interval {
	double value, low, high;
};

enum { HARNESS_ROUNDS_MAX = 256 };

/* The middle of count numbers; NAN of none. Their order stays. */
double harness_median(const double *values, unsigned count);

/*
 * Percentile bootstrap (Efron 1979): statistic() is computed of 2000 draws of count rounds, each
 * round as often as it was drawn. A draw takes all that was measured in a round together, so what
 * disturbed a whole round disturbs both sides of a ratio. NAN bounds when count < 2, or when the
 * statistic of some draw is NAN. count <= HARNESS_ROUNDS_MAX.
 */
typedef double harness_statistic_fn(void *context, const unsigned *rounds, unsigned count);
struct harness_interval harness_bootstrap(harness_statistic_fn *statistic, void *context,
                                          unsigned count, double confidence, uint64_t seed);

/* The median and its bootstrap interval. */
struct harness_interval harness_median_interval(const double *values, unsigned count,
                                                double confidence, uint64_t seed);
/* The median of a over the median of b; a[i] and b[i] are of the same round. */
struct harness_interval harness_ratio(const double *a, const double *b, unsigned count,
                                      double confidence, uint64_t seed);

/*
 * The slope of y over x: the median of the slopes of all pairs (Theil 1950), its interval by
 * Kendall's variance (Sen 1968). Pairs of equal x say nothing. NAN when no x differ.
 */
struct harness_interval harness_slope(const double *x, const double *y, unsigned count,
                                      double confidence);

/*
 * The order in which count contenders are measured in a round: forwards in even rounds, backwards
 * in odd ones (ABBA), each pair of rounds beginning with another contender. A machine that grows
 * slower evenly then favours nobody, and nobody always follows the same neighbour.
 */
void harness_abba(unsigned round, unsigned count, unsigned *ret_order);

/*
 * The control: a and b are the same thing, measured twice in each round. The median of a[i] / b[i]
 * and the interval of its order statistics, which assumes nothing of how the noise is distributed
 * (the sign test turned round). An interval without 1 says that the measuring prefers one
 * of two names for the same thing, so no other ratio of it is to be believed either. NAN bounds:
 * so few rounds cannot say anything at this confidence.
 */
struct harness_interval harness_control(const double *a, const double *b, unsigned count,
                                        double confidence);

#endif
