/* points.c - the pool's points as places of the harness, where a fault can be armed. */
/* SPDX-License-Identifier: MIT */
#include "targets.h"

#include <poolproof/harness/fault.h>
#include <poolproof/point.h>

const char *const points_names[PP_POINTS] = {
#define X(name, text) text,
	PP_POINT_LIST(X)
#undef X
};

static unsigned places[PP_POINTS];

static void visit(enum pp_point point)
{
	harness_fault_visit(places[point]);
}

bool points_feed(void)
{
	if (pp_points_set == NULL)
		return false;
	for (unsigned i = 0; i < PP_POINTS; i++)
		places[i] = harness_fault_place(points_names[i]);
	pp_points_set(visit);
	return true;
}

bool points_of_wal(enum pp_point point)
{
	return point == PP_POINT_CHECKPOINT || point == PP_POINT_CHECKPOINTED ||
	       point == PP_POINT_CLAIM;
}

unsigned points_skip_max(enum pp_point point)
{
	switch (point) {
	case PP_POINT_RETRY:
	case PP_POINT_QUARANTINE:
	case PP_POINT_REOPEN:
	case PP_POINT_BACKUP:
	case PP_POINT_SHUT:
	case PP_POINT_RENEW:
		return 0;
	case PP_POINT_CHECKPOINT:
	case PP_POINT_CHECKPOINTED:
		return 1;
	case PP_POINT_KEEP:
	case PP_POINT_HAND_OVER:
		return 2;
	case PP_POINT_OPEN:
	case PP_POINT_CLOSE:
	case PP_POINT_ROLLBACK:
	case PP_POINT_CLAIM:
	case PP_POINT_WAIT:
		return 8;
	default:
		return 30;
	}
}
