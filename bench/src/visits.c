/*
 * visits.c - a named point of the pool that nobody visits.
 *
 * Points are in the instrumented variant only, and there on the shortest ways. What one costs while
 * it is switched off is what a run under test is slower by; beside it stands the loop without it.
 */
/* SPDX-License-Identifier: MIT */
#include "bench.h"

#include "bare.h"

enum { VISITS = 65536 };

static void pass_some(void *context, unsigned thread, unsigned count)
{
	(void)context, (void)thread;
	bare_points(count);
}

static void measure(struct bench_measurement *m)
{
	bench_run(m, &(struct bench_load){ pass_some, NULL, VISITS, false });
}

static const struct bench_contender contenders[] = {
	{ "point", BENCH_OURS, "a point, in the instrumented variant", NULL, "instrumented" },
	{ "nothing", BENCH_LIMIT, "the same loop in the release variant, which has no points", NULL,
	  NULL },
	{ 0 }
};

static const struct bench_row rows[] = {
	{ "points/off", "a point that nobody visits", BENCH_NS, 1, 1, 0, 0, 0.5, contenders },
};

const struct bench_table bench_visits = {
	.name = "points",
	.title = "Points that are switched off",
	.about = "Time from one point to the next.",
	.rows = rows,
	.row_count = sizeof rows / sizeof *rows,
	.measure = measure,
};
