/*
 * poolproof/harness/entropy.h - the one source of everything random.
 *
 *     struct harness_entropy e;
 *     harness_entropy_init(&e, seed, thread, operation_index);
 *     int64_t key = harness_entropy_zipfian(&e, 1, 10000, 0.99);
 *
 * Threads    An entropy belongs to one thread at a time.
 * Ownership  Held by value in the caller's memory; nothing to free.
 * Memory     Never allocates.
 * Errors     None. Bounds that are the wrong way round assert.
 *
 * A stream is named by (seed, thread, index), so what an operation does depends on these
 * three numbers only: not on timing, and not on how often an earlier one was tried again.
 */
/* SPDX-License-Identifier: MIT */
#ifndef POOLPROOF_HARNESS_ENTROPY_H
#define POOLPROOF_HARNESS_ENTROPY_H

#include <stdint.h>

struct harness_entropy {
	uint64_t state[4]; /* xoshiro256** (Blackman and Vigna, 2018). */
};

void harness_entropy_init(struct harness_entropy *e, uint64_t seed, uint64_t thread,
                          uint64_t index);
uint64_t harness_entropy_next(struct harness_entropy *e);
/* Uniform in [0, 1). */
double harness_entropy_unit(struct harness_entropy *e);
/* All of the following: inclusive bounds, low <= high. */
int64_t harness_entropy_uniform(struct harness_entropy *e, int64_t low, int64_t high);
/* Truncated normal; parameter is half the interval's width in standard deviations, >= 2. */
int64_t harness_entropy_gaussian(struct harness_entropy *e, int64_t low, int64_t high,
                                 double parameter);
/* Truncated exponential, densest at low; parameter > 0. */
int64_t harness_entropy_exponential(struct harness_entropy *e, int64_t low, int64_t high,
                                    double parameter);
/* P(low + k) ~ 1 / (k + 1)^parameter, parameter > 0 (YCSB uses 0.99). By rejection-inversion
 * (Hoermann and Derflinger 1996): constant time, no table. */
int64_t harness_entropy_zipfian(struct harness_entropy *e, int64_t low, int64_t high,
                                double parameter);

#endif
