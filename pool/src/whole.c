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

static bool holds_reader(const struct pp_pool *pool)
{
	const struct lane *lane = &pool->lanes[0];
	int self = thread_number();

	for (unsigned i = lane_used(lane); i-- > 0;)
		if (atomic_load_explicit(&lane->slots[i].holder, memory_order_relaxed) == self)
			return true;
	return false;
}

/* With no other connection open even the journal mode can be changed. memdb's store would go. */
static void close_others(struct pp_pool *pool)
{
	struct lane *lane = pool_lane(pool, PP_READ);

	for (unsigned i = lane_used(lane); i-- > 0;)
		if (atomic_load(&lane->slots[i].state) == SLOT_KEPT &&
		    lane->slots[i].connection.db != NULL)
			slot_close(&lane->slots[i], "an exclusive lease");
	if (!pool->identity.memdb && pool->anchor.db != NULL)
		connection_close(&pool->anchor);
}

static void exclusive_set(struct pp_pool *pool, struct slot *writer)
{
	pthread_mutex_lock(&pool->keep_mutex);
	if (writer != NULL)
		atomic_store_explicit(&pool->exclusive, writer, memory_order_relaxed);
	else
		anchor_open(pool, NULL); /* If it cannot be, the keeper tries again. */
	if (writer == NULL)
		health_note(pool); /* It may have another WAL now. */
	atomic_store_explicit(&pool->exclusive, writer, memory_order_relaxed);
	pthread_mutex_unlock(&pool->keep_mutex);
}

enum pp_status exclusive_begin(struct pp_pool *pool, struct slot *writer, struct pp_deadline until)
{
	enum pp_status status;

	if (holds_reader(pool))
		return PP_WOULD_DEADLOCK;
	exclusive_set(pool, writer);
	status = lane_hold(pool, PP_READ, until);
	if (status != PP_OK) {
		exclusive_set(pool, NULL);
		return status;
	}
	close_others(pool); /* Upkeep leaves them alone: pool->exclusive. */
	return PP_OK;
}

/* The writer is still held. Where it had to be closed it is opened now, while it is alone: it sets
 * the journal mode that the pool is to have. */
void exclusive_end(struct pp_pool *pool, struct slot *writer)
{
	if (writer->connection.db == NULL &&
	    connection_open(&writer->connection, UINT64_MAX, NULL) == PP_OK)
		atomic_store_explicit(&writer->open, 1, memory_order_relaxed);
	exclusive_set(pool, NULL);
	lane_unhold(pool, PP_READ);
}

/* --- Suspending --------------------------------------------------------------------------- */

static enum pp_status suspension_change(struct pp_pool *pool, enum suspension from,
                                        enum suspension to)
{
	enum pp_status status = PP_OK;

	pthread_mutex_lock(&pool->keep_mutex);
	if (atomic_load(&pool->keeper.stopping))
		status = PP_CLOSED;
	else if (atomic_load(&pool->suspended) != from)
		status = PP_MISUSE;
	else
		atomic_store(&pool->suspended, to);
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

enum pp_status pp_suspend(struct pp_pool *pool, struct pp_deadline deadline)
{
	enum pp_status status;

	if (pool_forked(pool))
		return PP_FORKED;
	if (lease_is_mine(pool))
		return PP_WOULD_DEADLOCK;
	status = suspension_change(pool, SUSPENDED_NOT, SUSPENDED_SOON);
	if (status != PP_OK)
		return status;
	status = lanes_hold(pool, deadline_fix(pool, deadline));
	atomic_store(&pool->suspended, status == PP_OK ? SUSPENDED : SUSPENDED_NOT);
	return status;
}

enum pp_status pp_resume(struct pp_pool *pool)
{
	enum pp_status status;

	if (pool_forked(pool))
		return PP_FORKED;
	status = suspension_change(pool, SUSPENDED, SUSPENDED_NOT);
	if (status == PP_OK)
		lanes_unhold(pool);
	return status;
}

void suspension_end(struct pp_pool *pool)
{
	if (atomic_exchange(&pool->suspended, SUSPENDED_NOT) == SUSPENDED)
		lanes_unhold(pool);
}
