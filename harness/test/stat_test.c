/* What is computed by hand, and how often the intervals hold the truth that was planted. */
/* SPDX-License-Identifier: MIT */
#include <poolproof/harness/entropy.h>
#include <poolproof/harness/stat.h>
#include <poolproof/harness/test.h>

#include <math.h>

enum { ROUNDS = 14, TRIALS = 400 };

static bool near(double a, double b)
{
	return fabs(a - b) <= 1e-9 * fmax(fabs(a), fabs(b));
}

static bool holds(struct harness_interval i, double truth)
{
	return i.low <= truth && truth <= i.high;
}

TEST(stat, median_of_few)
{
	const double odd[] = { 9, 1, 5 }, even[] = { 4, 1, 3, 2 }, hole[] = { NAN, 1, 2 };

	CHECK(near(harness_median(odd, 3), 5));
	CHECK(near(odd[0], 9)); /* Its order stays. */
	CHECK(near(harness_median(even, 4), 2.5));
	CHECK(isnan(harness_median(odd, 0)));
	CHECK(isnan(harness_median(hole, 3)));
}

TEST(stat, same_seed_same_interval)
{
	const double a[] = { 10, 11, 12, 13, 9, 8 }, b[] = { 5, 5, 6, 7, 4, 4 };
	struct harness_interval x = harness_ratio(a, b, 6, 0.95, 1);
	struct harness_interval y = harness_ratio(a, b, 6, 0.95, 1);
	struct harness_interval one = harness_median_interval(a, 1, 0.95, 1);

	CHECK(near(x.value, 10.5 / 5));
	CHECK(x.low < x.value && x.value < x.high);
	CHECK(near(x.low, y.low) && near(x.high, y.high));
	CHECK(near(one.value, 10) && isnan(one.low) && isnan(one.high));
}

/* A round that is slow is slow for both: pairs that are drawn together keep the ratio exact. */
TEST(stat, ratio_draws_rounds_together)
{
	const double a[] = { 2, 20, 4, 40, 6, 60, 8 }, b[] = { 1, 10, 2, 20, 3, 30, 4 };
	struct harness_interval r = harness_ratio(a, b, 7, 0.95, 7);

	CHECK(near(r.low, 2) && near(r.high, 2));
}

/* Log-normal noise of 10 % in each number, and 20 % that a round's numbers have in common. */
static void measure(struct harness_entropy *e, double truth, double *a, double *b)
{
	for (unsigned i = 0; i < ROUNDS; i++) {
		double round = (double)harness_entropy_gaussian(e, -1000, 1000, 4) / 1250;

		a[i] = truth *
		       exp(round + (double)harness_entropy_gaussian(e, -1000, 1000, 4) / 2500);
		b[i] = exp(round + (double)harness_entropy_gaussian(e, -1000, 1000, 4) / 2500);
	}
}

static unsigned covered_of_trials(double confidence, double truth)
{
	struct harness_entropy e;
	double a[ROUNDS], b[ROUNDS];
	unsigned covered = 0;

	harness_entropy_init(&e, 1, 0, 0);
	for (unsigned t = 0; t < TRIALS; t++) {
		measure(&e, truth, a, b);
		covered += holds(harness_ratio(a, b, ROUNDS, confidence, t), truth);
	}
	return covered;
}

TEST(stat, ratio_interval_holds_the_truth_as_often_as_it_says)
{
	unsigned at_95 = covered_of_trials(0.95, 1.3), at_50 = covered_of_trials(0.5, 1.3);

	CHECK_MSG(at_95 >= 0.93 * TRIALS, "%u of %d", at_95, TRIALS);
	CHECK_MSG(at_50 >= 0.4 * TRIALS && at_50 <= 0.75 * TRIALS, "%u of %d", at_50, TRIALS);
}

/* The alarm: two names for one thing are told apart at most as often as it says, and a difference
 * of one in ten, above a noise of one in twenty-five, always. */
TEST(stat, control_fires_when_it_should_and_not_else)
{
	struct harness_entropy e;
	double a[ROUNDS], b[ROUNDS];
	unsigned false_alarms = 0, missed = 0;

	harness_entropy_init(&e, 2, 0, 0);
	for (unsigned t = 0; t < 20 * TRIALS; t++) {
		measure(&e, 1, a, b);
		false_alarms += !holds(harness_control(a, b, ROUNDS, 0.99), 1);
		for (unsigned i = 0; i < ROUNDS; i++)
			a[i] = 1.1 * b[i] * (1 + 0.04 * (2 * harness_entropy_unit(&e) - 1));
		missed += holds(harness_control(a, b, ROUNDS, 0.9995), 1);
	}
	CHECK_MSG(false_alarms <= 0.01 * 20 * TRIALS && false_alarms > 0, "%u", false_alarms);
	CHECK_INT(missed, ==, 0);
}

/* Of eight coins at most one falls the other way in 7 % of all throws, at most two in 29 %. */
TEST(stat, control_is_between_order_statistics)
{
	const double a[] = { 5, 1, 7, 3, 8, 2, 6, 4 }, b[] = { 1, 1, 1, 1, 1, 1, 1, 1 };
	struct harness_interval c = harness_control(a, b, 8, 0.9);

	CHECK(near(c.value, 4.5) && near(c.low, 2) && near(c.high, 7));
	c = harness_control(a, b, 8, 0.95);
	CHECK(near(c.low, 1) && near(c.high, 8));
}

/* Of five rounds even unanimity is chance once in sixteen times. */
TEST(stat, control_says_when_rounds_are_too_few)
{
	const double a[] = { 2, 2, 2, 2, 2 }, b[] = { 1, 1, 1, 1, 1 };
	struct harness_interval sure = harness_control(a, b, 5, 0.95);
	struct harness_interval unsure = harness_control(a, b, 5, 0.9);

	CHECK(near(sure.value, 2) && isnan(sure.low) && isnan(sure.high));
	CHECK(near(unsure.low, 2) && near(unsure.high, 2));
}

TEST(stat, slope_of_a_line_and_of_an_outlier)
{
	double x[20], y[20];
	struct harness_interval s;

	for (unsigned i = 0; i < 20; i++) {
		x[i] = i / 2; /* Each x twice. */
		y[i] = 3 + 0.5 * x[i];
	}
	s = harness_slope(x, y, 20, 0.95);
	CHECK(near(s.value, 0.5) && near(s.low, 0.5) && near(s.high, 0.5));
	y[19] = 1e9;
	s = harness_slope(x, y, 20, 0.95);
	CHECK(near(s.value, 0.5) && s.high < 1e6);
	for (unsigned i = 0; i < 20; i++)
		x[i] = 1;
	CHECK(isnan(harness_slope(x, y, 20, 0.95).value));
	CHECK(isnan(harness_slope(x, y, 1, 0.95).value));
}

TEST(stat, slope_interval_holds_the_truth_as_often_as_it_says)
{
	struct harness_entropy e;
	unsigned covered = 0, flat_denied = 0;
	double x[40], y[40];

	harness_entropy_init(&e, 3, 0, 0);
	for (unsigned t = 0; t < 5 * TRIALS; t++) {
		for (unsigned i = 0; i < 40; i++) {
			x[i] = i % 8;
			y[i] = 0.1 * x[i] +
			       (double)harness_entropy_gaussian(&e, -1000, 1000, 4) / 2500;
		}
		covered += holds(harness_slope(x, y, 40, 0.95), 0.1);
		flat_denied += !holds(harness_slope(x, y, 40, 0.95), 0);
	}
	CHECK_MSG(covered >= 0.93 * 5 * TRIALS && covered <= 0.97 * 5 * TRIALS, "%u", covered);
	CHECK_INT(flat_denied, ==, 5 * TRIALS);
}

TEST(stat, abba_puts_everybody_everywhere)
{
	unsigned at[3][3] = { { 0 } }, order[3], before[3];

	for (unsigned round = 0; round < 6; round++) {
		memcpy(before, order, sizeof order);
		harness_abba(round, 3, order);
		for (unsigned i = 0; i < 3; i++) {
			at[order[i]][i]++;
			if (round % 2 == 1) /* Backwards what was forwards. */
				CHECK_INT(order[i], ==, before[2 - i]);
		}
	}
	for (unsigned i = 0; i < 3; i++)
		for (unsigned j = 0; j < 3; j++)
			CHECK_INT(at[i][j], ==, 2);
}
