/*
 * circle.c - whether a thread would wait for itself.
 *
 * To know before reading: who closes a circle of threads that wait for each other holds something
 * himself, and asks before he enters. Both lines are locked then, so nobody begins or ends waiting
 * meanwhile; leases may still come back, and then there is one hope more than was counted, and the
 * answer was right a moment before.
 */
/* SPDX-License-Identifier: MIT */
#include "internal.h"

/* Both lines are locked. */
static bool is_waiting(const struct pp_pool *pool, int thread, enum pp_lane *ret_lane)
{
	for (unsigned l = 0; l < LANES; l++)
		for (const struct waiter *w = pool->lines[l].head; w != NULL; w = w->next)
			if (w->thread == thread) {
				*ret_lane = w->lane;
				return true;
			}
	return false;
}

/* What may still be had by a thread that waits: one of a lane's slots, and all of them. */
struct hopes {
	bool one[LANES], all[LANES];
};

/* Whether a thread may go on: it does not wait, or for what may be had. */
static bool may_go_on(const struct pp_pool *pool, int thread, const struct hopes *hopes)
{
	enum pp_lane waits_for;

	if (is_waiting(pool, thread, &waits_for))
		return hopes->one[waits_for - PP_READ];
	for (unsigned l = 0; l < LANES; l++) {
		const struct whole *whole = &pool->lanes[l].line->whole[l];

		if (whole->waits && whole->thread == thread)
			return hopes->all[l];
	}
	return true;
}

/* Whether a slot of the lane l may come back to self. */
static bool may_come(const struct pp_pool *pool, unsigned l, const struct slot *slot, int self,
                     const struct hopes *hopes)
{
	unsigned state = atomic_load(&slot->state);
	int thread = 0;

	if (state == SLOT_HELD)
		thread = pool->lanes[l].line->whole[l].thread;
	else if (state == SLOT_LEASED)
		thread = atomic_load_explicit(&slot->holder, memory_order_relaxed);
	return thread == 0 || (thread != self && may_go_on(pool, thread, hopes));
}

static bool one_may_come(const struct pp_pool *pool, unsigned l, int self,
                         const struct hopes *hopes)
{
	const struct lane *lane = &pool->lanes[l];

	for (unsigned i = lane_used(lane); i-- > 0;)
		if (atomic_load(&lane->slots[i].state) != SLOT_SPARE &&
		    atomic_load(&lane->slots[i].state) != SLOT_NEXT &&
		    may_come(pool, l, &lane->slots[i], self, hopes))
			return true;
	return false;
}

static bool all_may_come(const struct pp_pool *pool, unsigned l, int self,
                         const struct hopes *hopes)
{
	const struct lane *lane = &pool->lanes[l];

	for (unsigned i = lane_used(lane); i-- > 0;)
		if (!may_come(pool, l, &lane->slots[i], self, hopes))
			return false;
	return true;
}

/* Begin with nothing, and see what follows from what is found: the four need four rounds. Where
 * lanes exclude each other, one of a lane needs all of the other. Both lines are locked. */
static struct hopes hopes_of(const struct pp_pool *pool, int self)
{
	struct hopes hopes = { 0 };
	const struct lane *readers = &pool->lanes[0];
	/* One more can be opened, but not while somebody wants the lane as a whole. */
	bool may_grow =
		!readers->line->whole[0].held &&
		lane_size(readers) < atomic_load_explicit(&pool->readers, memory_order_relaxed);

	for (unsigned round = 0; round < 2 * LANES; round++)
		for (unsigned l = 0; l < LANES; l++) {
			hopes.all[l] = all_may_come(pool, l, self, &hopes);
			hopes.one[l] =
				((l == 0 && may_grow) || one_may_come(pool, l, self, &hopes)) &&
				(!pool->gated || all_may_come(pool, 1 - l, self, &hopes));
		}
	return hopes;
}

bool waiting_is_hopeless(const struct pp_pool *pool, enum pp_lane lane, int self)
{
	return !hopes_of(pool, self).one[lane - PP_READ];
}

bool holding_is_hopeless(const struct pp_pool *pool, enum pp_lane lane, int self)
{
	return !hopes_of(pool, self).all[lane - PP_READ];
}
