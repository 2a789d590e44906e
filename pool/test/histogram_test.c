/* Histograms: what a bucket knows of a value, percentiles, many who count at once, who feeds them.
 */
/* SPDX-License-Identifier: MIT */
#include "fixture.h"

#include "internal.h"

#include <math.h>

enum { BUCKETS = 320, VALUES = 20000 };

/* Nothing in these tests recovers, so this one is free. */
static const enum pp_histogram_kind kind = PP_HISTOGRAM_RECOVERY;

static struct pp_histogram histogram(struct pp_pool *pool, enum pp_histogram_kind which)
{
	struct pp_histogram h;

	CHECK_INT(pp_histogram_read(pool, which, &h), ==, PP_OK);
	return h;
}

static uint64_t next_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

/* As many of each magnitude, from 1 ns to 36 minutes. */
static void values_make(uint64_t *values, struct pp_pool *pool)
{
	uint64_t state = 0x9e3779b97f4a7c15;

	for (unsigned i = 0; i < VALUES; i++) {
		values[i] = next_random(&state) >> (23 + next_random(&state) % 41);
		histogram_note(pool, kind, values[i]);
	}
	qsort(values, VALUES, sizeof *values, by_value);
}

TEST(histogram, percentiles_are_within_an_eighth_of_the_sorted_list)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	static const double percentiles[] = { 0,  0.001, 1,  5,    10,    25,     50,
		                              75, 90,    99, 99.9, 99.99, 99.995, 100 };
	static uint64_t values[VALUES];
	struct pp_histogram h;
	uint64_t sum = 0;

	values_make(values, f.pool);
	h = histogram(f.pool, kind);
	for (unsigned i = 0; i < VALUES; i++)
		sum += values[i];
	CHECK_INT(h.count, ==, VALUES);
	CHECK_INT(h.sum_ns, ==, sum);
	CHECK_INT(h.max_ns, ==, values[VALUES - 1]);
	for (unsigned i = 0; i < sizeof percentiles / sizeof *percentiles; i++) {
		unsigned rank = (unsigned)ceil(percentiles[i] / 100 * VALUES - 1e-6);
		uint64_t truth = values[rank > 0 ? rank - 1 : 0];
		uint64_t said = pp_histogram_percentile_ns(&h, percentiles[i]);

		CHECK_MSG(said >= truth && said - truth <= truth / 8,
		          "p%g is %ju in the list and %ju in the histogram", percentiles[i],
		          (uintmax_t)truth, (uintmax_t)said);
	}
}

/* The highest value of each bucket is counted in it, and the next one is not. */
TEST(histogram, bounds_are_exact)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);

	for (unsigned b = 0; b < BUCKETS - 1; b++) {
		histogram_note(f.pool, kind, histogram_bound_ns(b));
		histogram_note(f.pool, kind, histogram_bound_ns(b) + 1);
		struct pp_histogram h = histogram(f.pool, kind);

		CHECK_INT(h.buckets[b], ==, b == 0 ? 1 : 2);
		CHECK_INT(h.buckets[b + 1], ==, 1);
		CHECK_INT(pp_histogram_percentile_ns(&h, 100 - 50.0 / (double)h.count), ==,
		          b + 1 < BUCKETS - 1 ? histogram_bound_ns(b + 1) : h.max_ns);
	}
	CHECK_INT(histogram_bound_ns(0), ==, 0);
	CHECK_INT(histogram_bound_ns(15), ==, 15);
	CHECK_INT(histogram_bound_ns(16), ==, 17);
	CHECK_INT(histogram_bound_ns(BUCKETS - 2), ==, (UINT64_C(15) << 38) - 1);
}

TEST(histogram, takes_in_what_is_past_its_last_bound)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	struct pp_histogram h;

	histogram_note(f.pool, kind, UINT64_C(1) << 43);
	histogram_note(f.pool, kind, UINT64_C(1) << 62);
	h = histogram(f.pool, kind);
	CHECK_INT(h.buckets[BUCKETS - 1], ==, 2);
	CHECK_INT(h.max_ns, ==, INT64_C(1) << 62);
	CHECK_INT(pp_histogram_percentile_ns(&h, 50), ==, INT64_C(1) << 62);
	histogram_note(f.pool, kind, UINT64_MAX);
	CHECK(histogram(f.pool, kind).max_ns == UINT64_MAX);
}

static const struct {
	const char *what;
	double percentile;
	uint64_t ns;
} odd[] = {
	{ "below nothing", -5, 1 },
	{ "not a number", NAN, 1 },
	{ "nothing", 0, 1 },
	{ "a third: the first", 33, 1 },
	{ "a half: the second", 50, 2 },
	{ "exactly two thirds", 200.0 / 3, 2 },
	{ "a little more", 66.7, 3 },
	{ "more than all", 1e300, 3 },
	{ "infinity", INFINITY, 3 },
};

TEST_ROWS(histogram, takes_any_percentile, sizeof odd / sizeof *odd)
{
	struct pp_histogram three = { .count = 3, .buckets = { 0, 1, 1, 1 } },
			    none = { .max_ns = 5 };

	CHECK_MSG(pp_histogram_percentile_ns(&three, odd[row].percentile) == odd[row].ns, "%s: %ju",
	          odd[row].what,
	          (uintmax_t)pp_histogram_percentile_ns(&three, odd[row].percentile));
	CHECK_INT(pp_histogram_percentile_ns(&none, odd[row].percentile), ==, 0);
}

TEST(histogram, refuses_what_is_no_histogram_and_another_processs_pool)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	struct pp_histogram h = { .count = 77 };

	CHECK_INT(pp_histogram_read(f.pool, PP_HISTOGRAMS, &h), ==, PP_INVALID);
	CHECK_INT(pp_histogram_read(f.pool, (enum pp_histogram_kind) - 1, &h), ==, PP_INVALID);
	f.pool->process++;
	CHECK_INT(pp_histogram_read(f.pool, kind, &h), ==, PP_FORKED);
	f.pool->process--;
	CHECK_INT(h.count, ==, 77);
}

/* --- Many at once ------------------------------------------------------------------------- */

enum { THREADS = 4 };

static void *count_up(void *pool)
{
	for (unsigned i = 1; i <= VALUES / slowness(); i++)
		histogram_note(pool, kind, i);
	return NULL;
}

TEST(histogram, loses_nothing_when_many_count)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	uint64_t n = VALUES / slowness();
	pthread_t threads[THREADS];
	struct pp_histogram h;

	for (unsigned i = 0; i < THREADS; i++)
		threads[i] = thread_start(count_up, f.pool);
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	h = histogram(f.pool, kind);
	CHECK_INT(h.count, ==, THREADS * n);
	CHECK_INT(h.sum_ns, ==, THREADS * (n * (n + 1) / 2));
	CHECK_INT(h.max_ns, ==, n);
}

/* --- Who feeds them ----------------------------------------------------------------------- */

static enum pp_status insert(struct pp_lease *lease, void *context)
{
	(void)context;
	sql(lease->db, "INSERT INTO t(v) VALUES (NULL)");
	return PP_OK;
}

static void *acquire_and_release(void *pool)
{
	struct pp_lease lease = { 0 };

	acquire(pool, PP_WRITE, &lease);
	pp_release(&lease);
	return NULL;
}

TEST(histogram, opening_committing_and_transactions_are_counted_each)
{
	CLEANUP(fixture_close)
	struct fixture f =
		fixture_config((struct pp_config){ .readers = 2, .keeper = PP_KEEPER_MANUAL });

	for (unsigned i = 0; i < 3; i++)
		must(pp_transact(f.pool, NULL, insert, NULL, NULL), NULL);
	/* Two readers and the writer; the one that nobody borrows may be counted or not. */
	CHECK_INT(histogram(f.pool, PP_HISTOGRAM_CONNECT).count, >=, 3);
	CHECK_INT(histogram(f.pool, PP_HISTOGRAM_CONNECT).count, <=, 4);
	CHECK_INT(histogram(f.pool, PP_HISTOGRAM_TRANSACTION).count, ==, 3);
	CHECK_INT(histogram(f.pool, PP_HISTOGRAM_COMMIT).count, ==, stats(f.pool).commits);
	CHECK_INT(histogram(f.pool, PP_HISTOGRAM_COMMIT).count, ==, 3);
	CHECK_INT(histogram(f.pool, PP_HISTOGRAM_COMMIT).sum_ns, <,
	          histogram(f.pool, PP_HISTOGRAM_TRANSACTION).sum_ns);
	CHECK_INT(histogram(f.pool, PP_HISTOGRAM_WAIT).count, ==, 0);
}

TEST(histogram, one_lease_in_32_is_timed)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	uint64_t before = histogram(f.pool, PP_HISTOGRAM_HOLD).count;

	for (unsigned i = 0; i < 64; i++)
		acquire_and_release(f.pool);
	CHECK_INT(histogram(f.pool, PP_HISTOGRAM_HOLD).count - before, ==, 2);
}

TEST(histogram, only_who_stood_in_the_line_has_waited)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	CLEANUP(pp_release) struct pp_lease lease = { 0 };
	struct pp_histogram h;
	pthread_t waiter;

	acquire(f.pool, PP_WRITE, &lease);
	CHECK_INT(histogram(f.pool, PP_HISTOGRAM_WAIT).count, ==, 0);
	waiter = thread_start(acquire_and_release, f.pool);
	WAIT_FOR(stats(f.pool).write.waiting == 1);
	pp_release(&lease);
	pthread_join(waiter, NULL);
	h = histogram(f.pool, PP_HISTOGRAM_WAIT);
	CHECK_INT(h.count, ==, 1);
	CHECK_INT(h.sum_ns, ==, stats(f.pool).write.wait_ns_total);
	CHECK_INT(h.max_ns, ==, stats(f.pool).write.wait_ns_max);
}
