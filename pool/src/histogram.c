/*
 * histogram.c - how long things took: counted by anybody at once, read at any time.
 *
 * To know before reading: a bucket is the value's highest bit and the three below it. Values up to
 * 15 ns have one each; from there eight share a power of two, until the last one, which takes in
 * everything from 68 minutes on. All atomics are relaxed: they are sums and order nothing, and a
 * reader derives the count from the buckets he has read, so that the two agree.
 */
/* SPDX-License-Identifier: MIT */
#include "internal.h"

enum {
	BUCKETS = sizeof(((struct pp_histogram *)0)->buckets) / sizeof(uint64_t),
	BITS = 3 /* Below the highest: eight buckets for each power of two. */
};

static unsigned bucket_of(uint64_t ns)
{
	/* How far down the value is shifted so that eight to fifteen is left; small ones are not.
	 */
	unsigned shift = 63 - (unsigned)__builtin_clzll(ns | (1U << BITS)) - BITS;
	uint64_t bucket = ((uint64_t)shift << BITS) + (ns >> shift);

	return bucket < BUCKETS ? (unsigned)bucket : BUCKETS - 1;
}

uint64_t histogram_bound_ns(unsigned bucket)
{
	unsigned shift = bucket >> BITS > 1 ? (bucket >> BITS) - 1 : 0;

	return ((uint64_t)(bucket - (shift << BITS) + 1) << shift) - 1;
}

void histogram_note(struct pp_pool *pool, enum pp_histogram_kind kind, uint64_t ns)
{
	struct histogram *h = &pool->histograms[kind];
	uint64_t max = atomic_load_explicit(&h->max_ns, memory_order_relaxed);

	atomic_fetch_add_explicit(&h->buckets[bucket_of(ns)], 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&h->sum_ns, ns, memory_order_relaxed);
	while (ns > max &&
	       !atomic_compare_exchange_weak_explicit(&h->max_ns, &max, ns, memory_order_relaxed,
	                                              memory_order_relaxed))
		;
}

enum pp_status pp_histogram_read(struct pp_pool *pool, enum pp_histogram_kind kind,
                                 struct pp_histogram *ret)
{
	struct histogram *h;

	if (pool_forked(pool))
		return PP_FORKED;
	if ((unsigned)kind >= PP_HISTOGRAMS)
		return PP_INVALID;
	h = &pool->histograms[kind];
	ret->count = 0;
	ret->sum_ns = atomic_load_explicit(&h->sum_ns, memory_order_relaxed);
	ret->max_ns = atomic_load_explicit(&h->max_ns, memory_order_relaxed);
	for (unsigned i = 0; i < BUCKETS; i++) {
		ret->buckets[i] = atomic_load_explicit(&h->buckets[i], memory_order_relaxed);
		ret->count += ret->buckets[i];
	}
	return PP_OK;
}

/* Which of count sorted values: from 1, rounded up, so that 50 of three is the second. Not a number
 * is the lowest, too. The small subtrahend keeps 99.9 % of 10,000 at 9,990 whatever the rounding.
 */
static uint64_t rank_of(double percentile, uint64_t count)
{
	double wanted = percentile / 100 * (double)count - 1e-6;

	if (!(wanted > 0))
		return 1;
	return wanted < (double)count - 1 ? (uint64_t)wanted + 1 : count;
}

uint64_t pp_histogram_percentile_ns(const struct pp_histogram *h, double percentile)
{
	uint64_t rank = rank_of(percentile, h->count), seen = 0;
	unsigned i = 0;

	if (h->count == 0)
		return 0;
	while (i < BUCKETS - 1 && (seen += h->buckets[i]) < rank)
		i++;
	/* The last bucket has no bound but the highest value there was. */
	return i < BUCKETS - 1 ? histogram_bound_ns(i) : h->max_ns;
}
