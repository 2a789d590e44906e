/* point.c - who visits points, and who sleeps in the pool's place. Empty in the release variant. */
/* SPDX-License-Identifier: MIT */
#include "internal.h"
#include "point.h"

#ifdef PP_INSTRUMENTED

void (*_Atomic point_visitor)(enum pp_point point);
static void (*_Atomic sleeper)(uint64_t ns);

void pp_points_set(void (*visitor)(enum pp_point point))
{
	atomic_store(&point_visitor, visitor);
}

void pp_time_pass_ns(uint64_t ns)
{
	clock_pass_ns(ns);
}

void pp_sleep_set(void (*sleep)(uint64_t ns))
{
	atomic_store(&sleeper, sleep);
}

bool point_sleeps(void)
{
	return atomic_load_explicit(&sleeper, memory_order_relaxed) != NULL;
}

bool point_sleep_ns(uint64_t ns)
{
	void (*sleep)(uint64_t) = atomic_load_explicit(&sleeper, memory_order_relaxed);

	if (sleep != NULL)
		sleep(ns);
	return sleep != NULL;
}

#endif
