/*
 * size.c - which slots there are: adding, growing, shrinking, renewing, replacing connections.
 *
 * To know before reading: only who has keep_mutex takes a slot out of SLOT_SPARE, so who is there
 * is decided by one thread at a time, and borrowers only ever claim and give back. A new connection
 * is opened before the old one goes: in a slot of its own (SLOT_NEXT), which becomes idle in the
 * moment in which the old one's is given up. If that is lent, whoever gives it back does this
 * (size_obey).
 */
/* SPDX-License-Identifier: MIT */
#include "internal.h"
#include "point.h"

struct slot *slot_take_spare(struct pp_pool *pool, enum pp_lane which)
{
	struct lane *lane = pool_lane(pool, which);

	for (unsigned i = 0; i < lane->count; i++) {
		struct slot *slot = &lane->slots[i];

		if (atomic_load(&slot->state) != SLOT_SPARE)
			continue;
		if (slot->connection.pool == NULL) { /* Once: others read it at any time. */
			slot->connection.pool = pool;
			slot->connection.lane = which;
			slot->id = (unsigned)(slot - pool_lane(pool, PP_WRITE)->slots);
		}
		slot->successor = NULL;
		atomic_store(&slot->fate, FATE_KEEP);
		atomic_store(&slot->absent, false);
		atomic_store(&slot->state, SLOT_NEXT);
		if (i >= lane_used(lane))
			atomic_store_explicit(&lane->used, i + 1, memory_order_relaxed);
		return slot;
	}
	return NULL;
}

/* Opened by upkeep, which waits for nobody longer than a borrower would for a lock. Where it cannot
 * be, the slot is given back as otherwise says. */
static enum pp_status slot_fill(struct pp_pool *pool, struct slot *slot, enum slot_state otherwise,
                                struct pp_error *error)
{
	struct pp_deadline until = pp_in_ms(pool->config.busy_timeout_ms);
	enum pp_status status;

	atomic_store_explicit(&slot->since_ms, clock_coarse_ms(), memory_order_relaxed);
	status = connection_open(&slot->connection, until, error);
	if (status != PP_OK) {
		line_give_back(pool, slot, otherwise);
		return status;
	}
	atomic_store_explicit(&slot->open, 1, memory_order_relaxed);
	event_send(pool, PP_EVENT_OPENED, slot, "%s", "");
	return PP_OK;
}

static enum pp_status add(struct pp_pool *pool, enum pp_lane lane, enum slot_state otherwise,
                          struct pp_error *error)
{
	struct slot *slot = slot_take_spare(pool, lane);
	enum pp_status status;

	if (slot == NULL)
		return error_set(error, PP_LEASED, "open", "all slots are in use or quarantine");
	status = slot_fill(pool, slot, otherwise, error);
	if (status == PP_OK)
		line_give_back(pool, slot, SLOT_IDLE);
	return status;
}

enum pp_status size_add(struct pp_pool *pool, enum pp_lane lane, struct pp_error *error)
{
	return add(pool, lane, SLOT_SPARE, error);
}

enum pp_status anchor_open(struct pp_pool *pool, struct pp_error *error)
{
	if (pool->anchor.db != NULL)
		return PP_OK;
	pool->anchor.pool = pool;
	pool->anchor.lane = PP_WRITE;
	return connection_open(&pool->anchor, pp_in_ms(pool->config.busy_timeout_ms), error);
}

/* --- Giving up a slot -------------------------------------------------------------------- */

static const char *why(enum fate fate)
{
	return fate == FATE_REPLACE       ? "it was too old"
	       : fate == FATE_QUARANTINED ? "it came back from quarantine"
	                                  : "the pool was made smaller";
}

/* Whoever has set the fate may be taking it back (size_quarantine). The closer of the pool waits
 * for the slot, so it is given up last. */
void size_obey(struct pp_pool *pool, struct slot *slot)
{
	unsigned fate = atomic_load(&slot->fate);

	while (fate != FATE_KEEP &&
	       !atomic_compare_exchange_weak(&slot->fate, &fate, fate | FATE_OBEYED))
		;
	if (fate == FATE_KEEP) {
		line_give_back(pool, slot, slot->connection.db != NULL ? SLOT_IDLE : SLOT_EMPTY);
		return;
	}
	if (fate == FATE_REPLACE) {
		event_send(pool, PP_EVENT_RENEWED, slot, "%s", "");
		count(&pool->counters.renewed);
		line_give_back(pool, slot->successor, SLOT_IDLE);
	} else if (fate == FATE_QUARANTINED) {
		event_send(pool, PP_EVENT_LEASE_BACK, slot, "from quarantine");
		count(&pool->counters.returned_late);
	}
	if (slot->connection.db != NULL)
		slot_close(slot, why((enum fate)fate));
	atomic_store(&slot->fate, FATE_KEEP);
	line_give_back(pool, slot, SLOT_SPARE);
}

/* Whoever gave it back had looked at its fate before that was set. */
static bool obey_late(struct pp_pool *pool, struct slot *slot)
{
	if (atomic_load(&slot->fate) == FATE_KEEP)
		return false;
	if (slot_keep(slot, SLOT_IDLE) || slot_keep(slot, SLOT_EMPTY))
		size_obey(pool, slot);
	return true;
}

/* The holder will obey, or we do when he has just given it back without seeing it. */
static void doom(struct pp_pool *pool, struct slot *slot, enum fate fate)
{
	atomic_store(&slot->fate, fate);
	obey_late(pool, slot);
}

/* What cannot be opened now is left to the next borrower, who has his own deadline and is told why
 * not: else a lane may have nothing to wait for until the next upkeep. */
static void replace(struct pp_pool *pool, struct slot *slot)
{
	struct pp_error error;

	if (add(pool, slot->connection.lane, SLOT_EMPTY, &error) != PP_OK)
		event_send(pool, PP_EVENT_HEALTH_FAILED, slot, "no replacement: %s", error.message);
}

/* His, and no later one's: who gives back changes the generation before he looks at the fate, and
 * here the fate is set before the generation is looked at (barrier.c). What has just come back is
 * left its fate, unless whoever gave it back has seen this one: then it is as he has seen it. */
void size_quarantine(struct pp_pool *pool, struct slot *slot, uint64_t generation)
{
	unsigned before = atomic_exchange(&slot->fate, FATE_QUARANTINED), set = FATE_QUARANTINED;

	barrier_for_all();
	if (atomic_load(&slot->generation) != generation &&
	    (atomic_compare_exchange_strong(&slot->fate, &set, before) || before >= FATE_OBEYED))
		return;
	count(&pool->counters.quarantined);
	POINT(QUARANTINE);
	event_send(pool, PP_EVENT_QUARANTINED, slot, "%s", "");
	atomic_store(&slot->absent, true);
	line_serve(pool, slot->connection.lane); /* The other lane, where the two have one line. */
	group_abandon(pool, slot);               /* Before one is opened, which may have to wait. */
	if (before == FATE_REPLACE)
		line_give_back(pool, slot->successor, SLOT_IDLE);
	else if (before == FATE_KEEP)
		replace(pool, slot);
}

/* --- Growing and shrinking ---------------------------------------------------------------- */

uint64_t pool_bytes(struct pp_pool *pool)
{
	uint64_t bytes = account_bytes(atomic_load(&pool->account)) +
	                 account_bytes(atomic_load(&pool->anchor.account));

	for (unsigned l = 0; l < LANES; l++)
		for (unsigned i = lane_used(&pool->lanes[l]); i-- > 0;)
			bytes += account_bytes(
				atomic_load(&pool->lanes[l].slots[i].connection.account));
	return bytes;
}

bool memory_is_short(struct pp_pool *pool)
{
	return atomic_load_explicit(&pool->pressure, memory_order_relaxed) ||
	       (pool->config.pool_bytes_soft > 0 &&
	        pool_bytes(pool) > pool->config.pool_bytes_soft);
}

/* Somebody has waited too long although all readers are at work. A line that is only waiting for
 * the writer to finish, or for creators that are under way, is none. */
static bool wants_one_more(struct pp_pool *pool)
{
	const struct lane *lane = pool_lane(pool, PP_READ);

	/* In this order: a waiter takes a slot and leaves the line under the lock under which its
	 * wait is read, so one who has just taken the last is not counted as waiting. */
	return lane_count_in(lane, SLOT_IDLE) + lane_count_in(lane, SLOT_EMPTY) == 0 &&
	       line_head_wait_ns(pool, PP_READ) >= pool->config.grow_ms * 1000000ull &&
	       lane_size(lane) < atomic_load_explicit(&pool->readers, memory_order_relaxed) &&
	       !memory_is_short(pool);
}

static void grow(struct pp_pool *pool)
{
	struct pp_error error;

	while (wants_one_more(pool)) {
		if (size_add(pool, PP_READ, &error) != PP_OK) {
			event_send(pool, PP_EVENT_HEALTH_FAILED, NULL, "cannot grow: %s",
			           error.message);
			return;
		}
		count(&pool->counters.grown);
		event_send(pool, PP_EVENT_GROWN, NULL, "%u readers",
		           lane_size(pool_lane(pool, PP_READ)));
	}
}

static bool drop_idle(struct pp_pool *pool, struct slot *slot, const char *reason)
{
	if (!slot_keep(slot, SLOT_EMPTY)) {
		if (!slot_keep(slot, SLOT_IDLE))
			return false;
		slot_close(slot, reason);
	}
	line_give_back(pool, slot, SLOT_SPARE);
	return true;
}

/* Those nobody has borrowed for long, and when memory is short all above the least. */
static uint64_t shrink(struct pp_pool *pool, uint64_t now_ms)
{
	struct lane *lane = pool_lane(pool, PP_READ);
	uint64_t due = UINT64_MAX, idle_ms = pool->config.idle_ms;
	bool at_once = memory_is_short(pool);
	unsigned least = atomic_load_explicit(&pool->readers_min, memory_order_relaxed);
	unsigned size = lane_size(lane);

	if (idle_ms == PP_NEVER && !at_once)
		return UINT64_MAX;
	for (unsigned i = lane_used(lane); i-- > 0 && size > least;) {
		struct slot *slot = &lane->slots[i];
		uint64_t since = slot_since(slot, now_ms);

		if (!at_once && now_ms < since + idle_ms) {
			due = since + idle_ms < due ? since + idle_ms : due;
		} else if (drop_idle(pool, slot, at_once ? "memory is short" : "it was idle")) {
			size--;
			count(&pool->counters.shrunk);
			event_send(pool, PP_EVENT_SHRUNK, NULL, "%u readers", size);
		}
	}
	return due;
}

/* --- Renewing ----------------------------------------------------------------------------- */

/* Not lent, or lent: it is the holder's to make way. false: none can be opened now. */
static bool renew(struct pp_pool *pool, struct slot *slot)
{
	struct slot *next = slot_take_spare(pool, slot->connection.lane);
	struct pp_error error;

	if (next == NULL)
		return true;
	if (slot_fill(pool, next, SLOT_SPARE, &error) != PP_OK) {
		event_send(pool, PP_EVENT_HEALTH_FAILED, slot, "cannot renew: %s", error.message);
		return false;
	}
	POINT(RENEW);
	slot->successor = next;
	doom(pool, slot, FATE_REPLACE);
	return true;
}

static uint64_t renew_old(struct pp_pool *pool, uint64_t now_ms)
{
	uint64_t due = UINT64_MAX;

	for (unsigned l = 0; l < LANES; l++)
		for (unsigned i = lane_used(&pool->lanes[l]); i-- > 0;) {
			struct slot *slot = &pool->lanes[l].slots[i];
			unsigned state = atomic_load(&slot->state);
			uint64_t at = atomic_load_explicit(&slot->connection.renew_ms,
			                                   memory_order_relaxed);

			if (obey_late(pool, slot) || (state != SLOT_IDLE && state != SLOT_LEASED) ||
			    atomic_load(&slot->open) == 0)
				continue;
			if (at > now_ms)
				due = at < due ? at : due;
			else if (!renew(pool, slot))
				return due; /* Each attempt may have to wait for others. */
		}
	return due;
}

static void drop_surplus(struct pp_pool *pool, unsigned most)
{
	struct lane *lane = pool_lane(pool, PP_READ);

	for (unsigned i = lane_used(lane); i-- > 0 && lane_size(lane) > most;)
		drop_idle(pool, &lane->slots[i], "the pool was made smaller");
	for (unsigned i = lane_used(lane); i-- > 0 && lane_size(lane) > most;)
		if (atomic_load(&lane->slots[i].state) == SLOT_LEASED &&
		    atomic_load(&lane->slots[i].fate) == FATE_KEEP)
			doom(pool, &lane->slots[i], FATE_DROP);
}

/* What failed to open earlier: the anchor, a replacement, one of the least number. */
static void fill_up(struct pp_pool *pool)
{
	unsigned least = atomic_load_explicit(&pool->readers_min, memory_order_relaxed);
	enum pp_status status = anchor_open(pool, NULL);

	if (status == PP_OK && lane_size(pool_lane(pool, PP_WRITE)) == 0)
		status = size_add(pool, PP_WRITE, NULL);
	while (status == PP_OK && lane_size(pool_lane(pool, PP_READ)) < least)
		status = size_add(pool, PP_READ, NULL);
}

static uint64_t sooner(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* What a borrower opens, gives back or could not open changes what is due: so it is looked at as
 * often as upkeep wakes. */
uint64_t size_keep(struct pp_pool *pool, uint64_t now_ms)
{
	uint64_t due = now_ms + UPKEEP_MS;

	if (atomic_load(&pool->tripped))
		return due;
	/* Only then: while a successor takes its place, the old one still counts. */
	if (pool->surplus)
		drop_surplus(pool, atomic_load_explicit(&pool->readers, memory_order_relaxed));
	pool->surplus = false;
	fill_up(pool);
	grow(pool);
	/* Who waits but not yet long enough does not ask again, nor does who could not be helped.
	 */
	if (line_head_wait_ns(pool, PP_READ) > 0)
		due = sooner(due, now_ms + pool->config.grow_ms);
	due = sooner(due, shrink(pool, now_ms));
	return sooner(due, renew_old(pool, now_ms));
}

/* --- Resizing ----------------------------------------------------------------------------- */

static enum pp_status resize(struct pp_pool *pool, unsigned least, unsigned most,
                             struct pp_error *error)
{
	enum pp_status status = PP_OK;

	least = least != 0 ? least : atomic_load(&pool->readers_min);
	most = most != 0 ? most : atomic_load(&pool->readers);
	if (most > PP_READERS_MAX || least > most)
		return error_set(error, PP_INVALID, "resize",
		                 "readers_min %u and readers %u must be 1..readers and 1..%d",
		                 least, most, PP_READERS_MAX);
	atomic_store(&pool->readers, most);
	atomic_store(&pool->readers_min, least);
	pool->surplus = pool_is_held(pool);
	if (pool->surplus)
		return PP_OK; /* The slots are somebody's; the keeper does it afterwards. */
	drop_surplus(pool, most);
	while (status == PP_OK && lane_size(pool_lane(pool, PP_READ)) < least)
		status = size_add(pool, PP_READ, error);
	return status;
}

enum pp_status pp_resize(struct pp_pool *pool, unsigned readers_min, unsigned readers,
                         struct pp_error *reterr_error)
{
	enum pp_status status;

	if (pool_forked(pool))
		return error_set(reterr_error, PP_FORKED, "resize", "open a pool in this process");
	pthread_mutex_lock(&pool->keep_mutex);
	if (atomic_load(&pool->keeper.stopping))
		status = error_set(reterr_error, PP_CLOSED, "resize", "pp_close() was called");
	else
		status = resize(pool, readers_min, readers, reterr_error);
	pthread_mutex_unlock(&pool->keep_mutex);
	keeper_poke(pool); /* Somebody may be waiting for more. */
	return status;
}
