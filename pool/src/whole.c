/*
 * whole.c - all of a pool at once: the exclusive lease, suspending.
 *
 * To know before reading: nobody else is in a lane when all its slots are held (line.c, lane_hold).
 * Waiting for that is done without keep_mutex, so that the watchdog goes on and can interrupt
 * whom it waits for; the rest of upkeep leaves the slots alone from the moment in which
 * pool->exclusive or pool->suspended says so.
 */
/* SPDX-License-Identifier: MIT */
#include "internal.h"

/* --- The exclusive lease ------------------------------------------------------------------ */

bool exclusive_is_hopeless(const struct pp_pool *pool)
{
	const struct lane *lane = &pool->lanes[0];
	int self = thread_number();

	for (unsigned i = lane_used(lane); i-- > 0;)
		if (atomic_load_explicit(&lane->slots[i].holder, memory_order_relaxed) == self)
			return true;
	return false;
}

/* What was to take the place of an old one does not: it is renewed another time. */
static void drop_successors(struct pp_pool *pool, struct lane *lane)
{
	for (unsigned i = lane_used(lane); i-- > 0;) {
		struct slot *slot = &lane->slots[i];

		if (atomic_load(&slot->fate) != FATE_REPLACE)
			continue;
		slot_close(slot->successor, "an exclusive lease");
		line_give_back(pool, slot->successor, SLOT_SPARE);
		atomic_store(&slot->fate, FATE_KEEP);
	}
}

/* With no other connection open even the journal mode can be changed. memdb's store would go. */
static void close_others(struct pp_pool *pool)
{
	struct lane *lane = pool_lane(pool, PP_READ);

	for (unsigned l = 0; l < LANES; l++)
		drop_successors(pool, &pool->lanes[l]);
	for (unsigned i = lane_used(lane); i-- > 0;)
		if (atomic_load(&lane->slots[i].state) == SLOT_HELD &&
		    lane->slots[i].connection.db != NULL)
			slot_close(&lane->slots[i], "an exclusive lease");
	if (!pool->identity.memdb && pool->anchor.db != NULL)
		connection_close(&pool->anchor);
	health_forget_wal(pool); /* He may change the journal mode. */
}

/* Upkeep leaves the slots alone from here on; it may be in the middle of something. The lease may
 * have been taken for stuck meanwhile, and another one be exclusive. */
static enum pp_status exclusive_claim(struct pp_pool *pool, struct slot *writer, uint64_t until_ns)
{
	enum pp_status status = PP_TIMEOUT;

	if (!clock_lock(&pool->keep_mutex, until_ns))
		return PP_TIMEOUT;
	if (atomic_load(&writer->fate) != FATE_QUARANTINED &&
	    atomic_load(&pool->exclusive) == NULL) {
		atomic_store_explicit(&pool->exclusive, writer, memory_order_relaxed);
		status = PP_OK;
	}
	pthread_mutex_unlock(&pool->keep_mutex);
	return status;
}

/* Whatever the file is now, and its WAL, he may have made it so. Where the anchor cannot be opened
 * the keeper tries again; until then SQLite takes the WAL away with the last connection. */
static void exclusive_drop(struct pp_pool *pool)
{
	enum pp_status status;

	pthread_mutex_lock(&pool->keep_mutex);
	status = anchor_open(pool, NULL);
	health_note(pool);
	if (status != PP_OK)
		health_forget_wal(pool);
	atomic_store_explicit(&pool->exclusive, NULL, memory_order_relaxed);
	pthread_mutex_unlock(&pool->keep_mutex);
}

enum pp_status exclusive_begin(struct pp_pool *pool, struct slot *writer, struct pp_deadline until)
{
	enum pp_status status = exclusive_claim(pool, writer, until.ns);

	if (status != PP_OK)
		return status;
	status = line_wait_alone(pool, until);
	if (status == PP_OK)
		status = lane_hold(pool, PP_READ, until);
	if (status == PP_OK)
		close_others(pool);
	else /* It held nothing back, and waits for no upkeep: its deadline may have passed. */
		atomic_store_explicit(&pool->exclusive, NULL, memory_order_relaxed);
	return status;
}

/* The writer is still held. Where it had to be closed it is opened now, while it is alone: it sets
 * the journal mode that the pool is to have. */
void exclusive_end(struct pp_pool *pool, struct slot *writer)
{
	if (writer->connection.db == NULL &&
	    connection_open(&writer->connection, PP_FOREVER, NULL) == PP_OK)
		atomic_store_explicit(&writer->open, 1, memory_order_relaxed);
	exclusive_drop(pool);
	lane_unhold(pool, PP_READ);
}

/* --- Suspending --------------------------------------------------------------------------- */

static enum pp_status suspension_change(struct pp_pool *pool, enum suspension from,
                                        uint64_t until_ns)
{
	enum pp_status status = PP_OK;

	if (!clock_lock(&pool->keep_mutex, until_ns))
		return PP_TIMEOUT;
	if (atomic_load(&pool->keeper.stopping))
		status = PP_CLOSED;
	else if (atomic_load(&pool->suspended) != from)
		status = PP_MISUSE;
	else
		atomic_store(&pool->suspended, SUSPENDED_SOON);
	pthread_mutex_unlock(&pool->keep_mutex);
	return status;
}

static void lanes_unhold(struct pp_pool *pool)
{
	lane_unhold(pool, PP_READ);
	lane_unhold(pool, PP_WRITE);
}

/* First the writer: an exclusive lease has both, and gives back the readers first. */
static enum pp_status lanes_hold(struct pp_pool *pool, struct pp_deadline until)
{
	enum pp_status status = lane_hold(pool, PP_WRITE, until);

	if (status != PP_OK)
		return status;
	status = lane_hold(pool, PP_READ, until);
	if (status != PP_OK)
		lane_unhold(pool, PP_WRITE);
	return status;
}

/* Unless the pool is being closed, which has given up the suspension. */
static enum pp_status suspension_hold(struct pp_pool *pool, struct pp_deadline until)
{
	enum suspension soon = SUSPENDED_SOON;
	enum pp_status status = lanes_hold(pool, until);

	if (status != PP_OK) {
		atomic_compare_exchange_strong(&pool->suspended, &soon, SUSPENDED_NOT);
		return status;
	}
	lane_disown(pool, PP_READ);
	lane_disown(pool, PP_WRITE);
	if (atomic_compare_exchange_strong(&pool->suspended, &soon, SUSPENDED))
		return PP_OK;
	lanes_unhold(pool);
	return PP_CLOSED;
}

enum pp_status pp_suspend(struct pp_pool *pool, struct pp_deadline deadline)
{
	enum pp_status status;

	if (pool_forked(pool))
		return PP_FORKED;
	if (lease_is_mine(pool))
		return PP_WOULD_DEADLOCK;
	deadline = deadline_fix(pool, deadline);
	status = suspension_change(pool, SUSPENDED_NOT, deadline.ns);
	return status == PP_OK ? suspension_hold(pool, deadline) : status;
}

enum pp_status pp_resume(struct pp_pool *pool)
{
	enum pp_status status;

	if (pool_forked(pool))
		return PP_FORKED;
	status = suspension_change(pool, SUSPENDED, UINT64_MAX);
	if (status == PP_OK) {
		lanes_unhold(pool);
		atomic_store(&pool->suspended, SUSPENDED_NOT);
		keeper_poke(pool); /* It has left the slots alone. */
	}
	return status;
}

void suspension_end(struct pp_pool *pool)
{
	if (atomic_exchange(&pool->suspended, SUSPENDED_NOT) == SUSPENDED)
		lanes_unhold(pool);
}
