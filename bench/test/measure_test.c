/* What the threads of a measurement say. */
/* SPDX-License-Identifier: MIT */
#include "bench.h"

#include <poolproof/harness/test.h>
#include <stdatomic.h>

static atomic_uint calls;

static void spin(void *context, unsigned thread, unsigned count)
{
	(void)count;
	atomic_fetch_add(&calls, 1);
	bench_spin_ns(*(const uint64_t *)context * (thread + 1));
}

static struct bench_measurement measured(unsigned threads, double seconds, uint64_t spin_ns,
                                         unsigned count)
{
	static const struct bench_contender contender = { .name = "spin" };
	static struct bench_row row;
	struct bench_measurement m = { .row = &row, .contender = &contender, .seconds = seconds };

	row = (struct bench_row){ .name = "spin", .threads = threads };
	m.figures = json_object();
	bench_run(&m, &(struct bench_load){ spin, &spin_ns, count, true });
	return m;
}

static double number(const struct bench_measurement *m, const char *name)
{
	return json_number_value(json_object_get(m->figures, name));
}

static json_int_t latencies(const struct bench_measurement *m)
{
	json_int_t count = 0;
	json_t *pair;
	size_t i;

	json_array_foreach(json_object_get(m->figures, "latency"), i, pair) count +=
		json_integer_value(json_array_get(pair, 1));
	return count;
}

/* A call of a hundred operations that takes a millisecond: 10 us each at best. */
TEST(measure, counts_operations)
{
	struct bench_measurement m = measured(1, 0.1, 1000000, 100);

	CHECK(number(&m, "per_s") > 0 && number(&m, "per_s") <= 102000);
	CHECK(number(&m, "operations") >= (double)(100 * (latencies(&m) - 1)));
	CHECK(number(&m, "operations") <= (double)(100 * latencies(&m)));
	CHECK(number(&m, "per_s") * number(&m, "ns") > 0.999e9 &&
	      number(&m, "per_s") * number(&m, "ns") < 1.001e9);
	CHECK(json_object_get(m.figures, "fairness") == NULL);
	CHECK(latencies(&m) >= 1 && latencies(&m) <= atomic_load(&calls));
	json_decref(m.figures);
}

/* The second thread's calls take twice as long. */
TEST(measure, says_who_came_off_badly)
{
	struct bench_measurement m = measured(2, 0.2, 500000, 1);

	CHECK(number(&m, "fairness") > 0 && number(&m, "fairness") < 1);
	json_decref(m.figures);
}

/* Longer than the measurement, which waits for the first to end; by then the next is under way, too
 * late to be counted, and its time is kept all the same. */
TEST(measure, waits_for_the_first_and_keeps_the_longest)
{
	struct bench_measurement m = measured(1, 0.2, 250000000, 1);

	CHECK(number(&m, "per_s") > 0 && number(&m, "per_s") < 4);
	CHECK_INT(latencies(&m), ==, 2);
	CHECK_INT(atomic_load(&calls), ==, 3); /* The first was to grow warm. */
	json_decref(m.figures);
}
