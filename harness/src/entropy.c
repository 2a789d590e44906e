/*
 * entropy.c - xoshiro256** seeded by (seed, thread, index), and the distributions on top of it.
 *
 * Every distribution takes its numbers through harness_entropy_next(), so a stream that is
 * replayed gives the same values, however many numbers a rejection method happens to use.
 */
/* SPDX-License-Identifier: MIT */
#include <poolproof/harness/entropy.h>

#include <assert.h>
#include <math.h>

/* splitmix64's finaliser: a bijection in which every input bit reaches every output bit. */
static uint64_t mix(uint64_t x)
{
	x ^= x >> 30;
	x *= 0xbf58476d1ce4e5b9U;
	x ^= x >> 27;
	x *= 0x94d049bb133111ebU;
	return x ^ x >> 31;
}

static uint64_t rotate_left(uint64_t x, int bits)
{
	return x << bits | x >> (64 - bits);
}

void harness_entropy_init(struct harness_entropy *e, uint64_t seed, uint64_t thread, uint64_t index)
{
	const uint64_t golden = 0x9e3779b97f4a7c15U;
	/* Absorbed one after another, so that (1, 2, 3) and (3, 2, 1) have nothing in common. */
	uint64_t x = mix(mix(mix(seed + golden) + thread + golden) + index + golden);

	/* mix() is a bijection of four different inputs, so the state is never all zero. */
	for (int i = 0; i < 4; i++)
		e->state[i] = mix(x += golden);
}

uint64_t harness_entropy_next(struct harness_entropy *e)
{
	uint64_t *s = e->state;
	uint64_t result = rotate_left(s[1] * 5, 7) * 9, t = s[1] << 17;

	s[2] ^= s[0];
	s[3] ^= s[1];
	s[1] ^= s[2];
	s[0] ^= s[3];
	s[2] ^= t;
	s[3] = rotate_left(s[3], 45);
	return result;
}

double harness_entropy_unit(struct harness_entropy *e)
{
	return (double)(harness_entropy_next(e) >> 11) * 0x1p-53;
}

/* How many values lie above low; unsigned, since INT64_MIN..INT64_MAX is a fair interval. */
static uint64_t span(int64_t low, int64_t high)
{
	assert(low <= high);
	return (uint64_t)high - (uint64_t)low;
}

static int64_t above(int64_t low, uint64_t by)
{
	return (int64_t)((uint64_t)low + by);
}

/* The value that stands at the given part (0..1) of the interval. */
static int64_t at_part(int64_t low, int64_t high, double part)
{
	uint64_t width = span(low, high);
	double by = part * ((double)width + 1);

	return by >= (double)width ? high : above(low, (uint64_t)by);
}

/* Lemire's multiplication with rejection: exactly uniform, almost never a division. */
int64_t harness_entropy_uniform(struct harness_entropy *e, int64_t low, int64_t high)
{
	uint64_t count = span(low, high) + 1;
	unsigned __int128 product;

	if (count == 0) /* All of the 64 bits. */
		return (int64_t)harness_entropy_next(e);
	product = (unsigned __int128)harness_entropy_next(e) * count;
	if ((uint64_t)product < count) {
		uint64_t unfair = -count % count;

		while ((uint64_t)product < unfair)
			product = (unsigned __int128)harness_entropy_next(e) * count;
	}
	return above(low, (uint64_t)(product >> 64));
}

int64_t harness_entropy_gaussian(struct harness_entropy *e, int64_t low, int64_t high,
                                 double parameter)
{
	double deviations;

	assert(parameter >= 2);
	do { /* At 2, the least, 95 % are accepted at once. */
		double r = sqrt(-2 * log(1 - harness_entropy_unit(e)));

		deviations = r * sin(2 * M_PI * harness_entropy_unit(e));
	} while (deviations < -parameter || deviations >= parameter);
	return at_part(low, high, (deviations + parameter) / (2 * parameter));
}

int64_t harness_entropy_exponential(struct harness_entropy *e, int64_t low, int64_t high,
                                    double parameter)
{
	assert(parameter > 0);
	/* The inverse of the distribution cut off at 1. expm1 and log1p stay exact near 0. */
	return at_part(low, high, -log1p(expm1(-parameter) * harness_entropy_unit(e)) / parameter);
}

/* The integral of x^-s, so chosen that it is 0 at 1, and its inverse. Both written with expm1(t)/t
 * and log1p(t)/t, which pass smoothly through s = 1, where the integral is log(x). */
static double zipf_integral(double x, double s)
{
	double t = (1 - s) * log(x);

	return fabs(t) > 1e-12 ? log(x) * (expm1(t) / t) : log(x);
}

static double zipf_inverse(double u, double s)
{
	double t = fmax(u * (1 - s), -1);

	return fabs(t) > 1e-12 ? exp(u * (log1p(t) / t)) : exp(u);
}

int64_t harness_entropy_zipfian(struct harness_entropy *e, int64_t low, int64_t high,
                                double parameter)
{
	uint64_t width = span(low, high);
	double count = (double)width + 1;
	double first = zipf_integral(1.5, parameter) - 1;
	double last = zipf_integral(count + 0.5, parameter);

	assert(parameter > 0);
	for (;;) {
		double u = last + harness_entropy_unit(e) * (first - last);
		double k = floor(zipf_inverse(u, parameter) + 0.5);

		k = fmin(fmax(k, 1), count);
		/* The bar of k has the area pow(k, -s) and ends at the integral of k + 1/2. */
		if (u >= zipf_integral(k + 0.5, parameter) - pow(k, -parameter))
			return k >= count ? high : above(low, (uint64_t)(k - 1));
	}
}
