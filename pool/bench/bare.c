/*
 * bare.c - what lending costs by itself: claim a slot, give it back; and what a point costs.
 *
 * The rest of an acquire and a release is what is proved, counted and noted meanwhile. Only who is
 * inside the pool can leave that out, so this one file of the benchmark sees pool/src.
 */
/* SPDX-License-Identifier: MIT */
#include "bare.h"

#include "internal.h"
#include "point.h"

void bare_cycles(struct pp_pool *pool, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		struct slot *slot = line_claim(pool, PP_READ);

		if (slot == NULL && line_wait(pool, PP_READ, PP_FOREVER, &slot) != PP_OK)
			return;
		line_give_back(pool, slot, SLOT_IDLE);
	}
}

/* The compiler is to look each time, as it has to where something stands between. */
#define PASS          \
	POINT(CLAIM); \
	__asm__ volatile("" ::: "memory")

void bare_points(unsigned count)
{
	for (unsigned i = 0; i < count; i += 8) {
		PASS;
		PASS;
		PASS;
		PASS;
		PASS;
		PASS;
		PASS;
		PASS;
	}
}
