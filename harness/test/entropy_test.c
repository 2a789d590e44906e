/* Entropy: streams that repeat, and distributions that are what they say. The seeds are fixed, so
 * a tolerance is met always or never; each is about four standard deviations wide. */
/* SPDX-License-Identifier: MIT */
#include <poolproof/harness/entropy.h>
#include <poolproof/harness/test.h>

#include <math.h>
#include <stdbool.h>

enum { DRAWS = 200000, KEYS = 10 };

static struct harness_entropy stream(uint64_t thread, uint64_t index)
{
	struct harness_entropy e;

	harness_entropy_init(&e, 42, thread, index);
	return e;
}

TEST(entropy, repeats_a_stream_by_its_name)
{
	struct harness_entropy a = stream(1, 2), b = stream(1, 2), c = stream(2, 1),
			       d = stream(1, 3);
	unsigned same = 0;

	for (int i = 0; i < 1000; i++) {
		uint64_t x = harness_entropy_next(&a);

		CHECK(x == harness_entropy_next(&b));
		same += x == harness_entropy_next(&c);
		same += x == harness_entropy_next(&d);
	}
	CHECK_INT(same, ==, 0);
}

/* The reference implementation's first outputs for the state 1, 2, 3, 4. */
TEST(entropy, is_xoshiro256_starstar)
{
	struct harness_entropy e = { { 1, 2, 3, 4 } };

	CHECK(harness_entropy_next(&e) == 11520);
	CHECK(harness_entropy_next(&e) == 0);
	CHECK(harness_entropy_next(&e) == 1509978240);
	CHECK(harness_entropy_next(&e) == 1215971899390074240);
}

/* Chi-squared of KEYS-1 degrees of freedom; 27.9 is passed once in a thousand by fair ones. */
static double chi_squared(const unsigned *counts, const double *shares)
{
	double sum = 0;

	for (int i = 0; i < KEYS; i++) {
		double expected = shares[i] * DRAWS;

		sum += (counts[i] - expected) * (counts[i] - expected) / expected;
	}
	return sum;
}

TEST(entropy, is_uniform_in_any_bounds)
{
	struct harness_entropy e = stream(0, 0);
	unsigned counts[KEYS] = { 0 };
	double shares[KEYS];

	for (int i = 0; i < DRAWS; i++)
		counts[harness_entropy_uniform(&e, -5, 4) + 5]++;
	for (int i = 0; i < KEYS; i++)
		shares[i] = 1.0 / KEYS;
	CHECK(chi_squared(counts, shares) < 27.9);
	CHECK_INT(harness_entropy_uniform(&e, 7, 7), ==, 7);
	CHECK_INT(harness_entropy_uniform(&e, INT64_MAX, INT64_MAX), ==, INT64_MAX);
	bool low = false, high = false;
	for (int i = 0; i < 100; i++) {
		int64_t all = harness_entropy_uniform(&e, INT64_MIN, INT64_MAX);

		low |= all < 0;
		high |= all > 0;
	}
	CHECK(low && high);
}

static const double zipf_parameters[] = { 0.1, 0.5, 0.99, 1, 1.0000001, 1.5, 2, 8 };

TEST_ROWS(entropy, is_zipfian_at_any_parameter, sizeof zipf_parameters / sizeof *zipf_parameters)
{
	struct harness_entropy e = stream(3, (uint64_t)row);
	double s = zipf_parameters[row], sum = 0, shares[KEYS];
	unsigned counts[KEYS] = { 0 };

	for (int i = 0; i < KEYS; i++)
		sum += shares[i] = pow(i + 1, -s);
	for (int i = 0; i < KEYS; i++)
		shares[i] /= sum;
	for (int i = 0; i < DRAWS; i++)
		counts[harness_entropy_zipfian(&e, 100, 100 + KEYS - 1, s) - 100]++;
	CHECK_MSG(chi_squared(counts, shares) < 27.9, "s %g: chi squared %g", s,
	          chi_squared(counts, shares));
}

TEST(entropy, is_zipfian_over_huge_intervals)
{
	struct harness_entropy e = stream(4, 0);
	double s[] = { 0.01, 0.99, 1, 3, 1000 };

	for (int i = 0; i < 5000; i++) {
		int64_t x = harness_entropy_zipfian(&e, INT64_MIN, INT64_MAX, s[i % 5]);

		CHECK(i % 5 != 4 || x == INT64_MIN);
		CHECK_INT(harness_entropy_zipfian(&e, 9, 9, s[i % 5]), ==, 9);
	}
}

/* The truncated exponential's share of the first tenth, from its formula. */
TEST(entropy, is_exponential)
{
	struct harness_entropy e = stream(5, 0);
	unsigned counts[KEYS] = { 0 };
	double shares[KEYS], parameter = 2.5;

	for (int i = 0; i < KEYS; i++)
		shares[i] = (exp(-parameter * i / KEYS) - exp(-parameter * (i + 1) / KEYS)) /
		            (1 - exp(-parameter));
	for (int i = 0; i < DRAWS; i++)
		counts[harness_entropy_exponential(&e, 1, KEYS, parameter) - 1]++;
	CHECK(chi_squared(counts, shares) < 27.9);
}

TEST(entropy, is_gaussian)
{
	struct harness_entropy e = stream(6, 0);
	unsigned counts[KEYS] = { 0 };
	double shares[KEYS], parameter = 2.5, all = erf(parameter / sqrt(2));

	for (int i = 0; i < KEYS; i++) {
		double from = parameter * (2.0 * i / KEYS - 1), to = from + 2 * parameter / KEYS;

		shares[i] = (erf(to / sqrt(2)) - erf(from / sqrt(2))) / 2 / all;
	}
	for (int i = 0; i < DRAWS; i++)
		counts[harness_entropy_gaussian(&e, 1, KEYS, parameter) - 1]++;
	CHECK(chi_squared(counts, shares) < 27.9);
}

TEST(entropy, has_a_unit_below_one)
{
	struct harness_entropy e = stream(7, 0);
	double sum = 0;

	for (int i = 0; i < DRAWS; i++) {
		double x = harness_entropy_unit(&e);

		CHECK(x >= 0 && x < 1);
		sum += x;
	}
	CHECK(fabs(sum / DRAWS - 0.5) < 0.0026);
}
