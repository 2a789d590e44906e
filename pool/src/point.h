/* point.h - POINT(COMMIT): a harness may look or interfere here. Nothing in the release variant.
 *
 * Relaxed: the visitor is set while nobody is here. Switched off, a point is one load and a branch
 * that is predicted; anything that orders memory would hide races from tsan. */
/* SPDX-License-Identifier: MIT */
#ifndef POOL_POINT_H
#define POOL_POINT_H

#ifdef PP_INSTRUMENTED
#include <poolproof/point.h>

#include <stdatomic.h>
#include <stdbool.h>

extern void (*_Atomic point_visitor)(enum pp_point point);

static inline void point_pass(enum pp_point point)
{
	void (*visitor)(enum pp_point) = atomic_load_explicit(&point_visitor, memory_order_relaxed);

	if (__builtin_expect(visitor != NULL, 0))
		visitor(point);
}

/* true: time passes in another way, and has. */
bool point_sleeps(void);
bool point_sleep_ns(uint64_t ns);

#define POINT(name) point_pass(PP_POINT_##name)
#else
#define POINT(name) ((void)0)
#define point_sleeps() false
#define point_sleep_ns(ns) ((void)(ns), false)
#endif

#endif
