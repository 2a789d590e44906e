/*
 * watchdog.c - leases held too long: told of, interrupted, replaced.
 *
 * To know before reading: nothing is ever taken from its holder. To interrupt is to leave the
 * lease's generation where the connection's own progress and busy handlers look: the next
 * borrower's is another, so it can come late and never hits him. What does not look (a callback
 * that computes, a lease that lies about) is not stopped; another connection takes its place, and
 * it is closed when it comes back.
 */
/* SPDX-License-Identifier: MIT */
#include "internal.h"

enum { LOOK_MS_MIN = 10 };

uint64_t slot_lent(const struct slot *slot)
{
	uint64_t generation = atomic_load_explicit(&slot->generation, memory_order_acquire);

	if (atomic_load(&slot->state) != SLOT_LEASED || generation % 2 == 0 ||
	    atomic_load(&slot->generation) != generation)
		return 0;
	return generation;
}

void watchdog_interrupt(struct pp_pool *pool, struct slot *slot, uint64_t generation,
                        const char *why)
{
	atomic_store_explicit(&slot->connection.interrupt, generation, memory_order_relaxed);
	count(&pool->counters.interrupted);
	event_send(pool, PP_EVENT_INTERRUPTED, slot, "%s", why);
}

void watchdog_interrupt_all(struct pp_pool *pool, const char *why)
{
	uint64_t generation;

	for (unsigned l = 0; l < LANES; l++)
		for (unsigned i = lane_used(&pool->lanes[l]); i-- > 0;) {
			struct slot *slot = &pool->lanes[l].slots[i];

			generation = slot_lent(slot);
			if (generation != 0)
				watchdog_interrupt(pool, slot, generation, why);
		}
}

static void warn(struct pp_pool *pool, struct slot *slot, uint64_t generation, uint64_t age_ms)
{
	atomic_store_explicit(&slot->warned, generation, memory_order_relaxed);
	count(&pool->counters.overdue);
	event_send(pool, PP_EVENT_LEASE_OVERDUE, slot, "held for %llu ms",
	           (unsigned long long)age_ms);
}

/* Returns when this lease is to be looked at again. */
static uint64_t watch(struct pp_pool *pool, struct slot *slot, uint64_t now_ms)
{
	const struct pp_config *c = &pool->config;
	uint64_t generation = slot_lent(slot), since = slot_since(slot, now_ms), due = UINT64_MAX;

	if (generation == 0 || atomic_load(&slot->fate) == FATE_QUARANTINED)
		return UINT64_MAX;
	if (c->lease_warn_ms != PP_NEVER && slot->warned != generation) {
		if (now_ms >= since + c->lease_warn_ms)
			warn(pool, slot, generation, now_ms - since);
		else
			due = since + c->lease_warn_ms;
	}
	if (c->lease_max_ms == PP_NEVER)
		return due;
	if (slot->interrupted != generation) {
		if (now_ms < since + c->lease_max_ms)
			return due < since + c->lease_max_ms ? due : since + c->lease_max_ms;
		slot->interrupted = generation;
		slot->interrupted_ms = now_ms;
		watchdog_interrupt(pool, slot, generation, "held too long");
	}
	if (now_ms < slot->interrupted_ms + c->lease_grace_ms)
		return slot->interrupted_ms + c->lease_grace_ms;
	/* Not while somebody waits for a whole lane, or has it: no other connection would help. */
	if (!pool_is_held(pool))
		size_quarantine(pool, slot, generation);
	return due;
}

/* A lease's age counts from the first look at it. */
static uint64_t between_looks_ms(const struct pp_config *c)
{
	uint64_t shortest = c->lease_max_ms < c->lease_warn_ms ? c->lease_max_ms : c->lease_warn_ms;

	return shortest / 4 < LOOK_MS_MIN ? LOOK_MS_MIN
	       : shortest / 4 > UPKEEP_MS ? UPKEEP_MS
	                                  : shortest / 4;
}

/* A lease that is lent from now on becomes overdue without anybody being told. */
uint64_t watchdog_keep(struct pp_pool *pool, uint64_t now_ms)
{
	uint64_t due = now_ms + between_looks_ms(&pool->config);

	for (unsigned l = 0; l < LANES; l++)
		for (unsigned i = lane_used(&pool->lanes[l]); i-- > 0;) {
			uint64_t at = watch(pool, &pool->lanes[l].slots[i], now_ms);

			due = at < due ? at : due;
		}
	return due;
}
