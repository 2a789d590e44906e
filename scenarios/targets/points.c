/* points.c - the pool's points as places of the harness, where a fault can be armed. */
/* SPDX-License-Identifier: MIT */
#include "targets.h"

#include <poolproof/harness/fault.h>
#include <poolproof/point.h>

static unsigned places[PP_POINTS];

static void visit(enum pp_point point)
{
	harness_fault_visit(places[point]);
}

bool points_feed(void)
{
	static const char *const names[] = {
#define X(name, text) text,
		PP_POINT_LIST(X)
#undef X
	};

	if (pp_points_set == NULL)
		return false;
	for (unsigned i = 0; i < PP_POINTS; i++)
		places[i] = harness_fault_place(names[i]);
	pp_points_set(visit);
	return true;
}
