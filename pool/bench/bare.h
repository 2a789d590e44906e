/* bare.h - the lending alone, and a point alone, for the benchmark. */
/* SPDX-License-Identifier: MIT */
#ifndef POOL_BENCH_BARE_H
#define POOL_BENCH_BARE_H

struct pp_pool;

/* Claims a reader and gives it back, count times, without looking at it. */
void bare_cycles(struct pp_pool *pool, unsigned count);
/* Passes so many points (of the next multiple of eight); of none in the release variant. */
void bare_points(unsigned count);

#endif
