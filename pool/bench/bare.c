/*
 * bare.c - what lending costs by itself: claim a slot, give it back.
 *
 * The rest of an acquire and a release is what is proved, counted and noted meanwhile. Only who is
 * inside the pool can leave that out, so this one file of the benchmark sees pool/src.
 */
/* SPDX-License-Identifier: MIT */
#include "bare.h"

#include "internal.h"

void bare_cycles(struct pp_pool *pool, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		struct slot *slot = line_claim(pool, PP_READ);

		if (slot == NULL && line_wait(pool, PP_READ, PP_FOREVER, &slot) != PP_OK)
			return;
		line_give_back(pool, slot, SLOT_IDLE);
	}
}
