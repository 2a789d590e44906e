/*
 * lease.c - borrowing and giving back.
 *
 * To know before reading: a lease is good while its generation is its slot's. The slot's is odd
 * while lent and counted up by every lending and every return, so a lease that was copied and
 * released twice, or used after its release, does not match.
 */
/* SPDX-License-Identifier: MIT */
#include "internal.h"

#include <assert.h>

struct slot *lease_slot(const struct pp_lease *lease)
{
	struct slot *slot = lease->slot;

	if (slot == NULL ||
	    atomic_load_explicit(&slot->generation, memory_order_relaxed) != lease->generation)
		return NULL;
	return slot;
}

/* The slot is ours: count it, and open its connection when there is none. */
static enum pp_status slot_lend(struct pp_pool *pool, struct slot *slot,
                                struct pp_deadline deadline, struct pp_lease *ret_lease,
                                struct pp_error *error)
{
	uint64_t generation;

	if (slot->connection.db == NULL) {
		uint64_t until = deadline_ns(pool, deadline);
		enum pp_status status = connection_open(&slot->connection, until, error);

		if (status != PP_OK) {
			line_give_back(pool, slot, SLOT_EMPTY);
			return status;
		}
		slot->connection.deadline_ns = UINT64_MAX;
		atomic_store_explicit(&slot->open, 1, memory_order_relaxed);
	}
	generation = atomic_load_explicit(&slot->generation, memory_order_relaxed) + 1;
	atomic_store_explicit(&slot->generation, generation, memory_order_relaxed);
	atomic_store_explicit(&slot->since_ms, clock_coarse_ms(), memory_order_relaxed);
	atomic_store_explicit(&slot->acquires,
	                      atomic_load_explicit(&slot->acquires, memory_order_relaxed) + 1,
	                      memory_order_relaxed);
	*ret_lease = (struct pp_lease){
		.db = slot->connection.db, .pool = pool, .slot = slot, .generation = generation
	};
	return PP_OK;
}

enum pp_status lease_acquire(struct pp_pool *pool, enum pp_lane lane, struct pp_deadline deadline,
                             struct pp_lease *ret_lease, struct pp_error *error)
{
	struct slot *slot = line_claim(pool, lane);
	enum pp_status status = PP_OK;

	if (slot == NULL) {
		uint64_t start = clock_ns();

		status = line_wait(pool, lane, deadline_ns(pool, deadline), &slot);
		if (status != PP_OK) {
			error_set(error, status,
			          lane == PP_READ ? "acquire a reader" : "acquire the writer", "%s",
			          status == PP_OVERLOADED ? "try again later, or raise line_max"
			          : status == PP_CLOSED   ? "pp_close() was called"
			                                  : "all of the lane are lent");
			error_pool(error, pool);
			if (error != NULL)
				error->elapsed_ns = clock_ns() - start;
			return status;
		}
	}
	status = slot_lend(pool, slot, deadline, ret_lease, error);
	if (status != PP_OK)
		error_pool(error, pool);
	return status;
}

enum pp_status pp_acquire(struct pp_pool *pool, enum pp_lane lane, struct pp_deadline deadline,
                          struct pp_lease *ret_lease, struct pp_error *reterr_error)
{
	assert(lane == PP_READ || lane == PP_WRITE);
	if (transaction_is_inside(pool))
		return error_set(reterr_error, PP_MISUSE, "acquire",
		                 "this thread is inside pp_transact() of the same pool");
	return lease_acquire(pool, lane, deadline, ret_lease, reterr_error);
}

static void retire(struct pp_pool *pool, struct slot *slot)
{
	connection_close(&slot->connection);
	atomic_store_explicit(&slot->open, 0, memory_order_relaxed);
	count(&pool->counters.retired);
}

void lease_release(struct pp_lease *lease)
{
	struct slot *slot = lease->slot;
	struct pp_pool *pool = lease->pool;
	bool clean = connection_prove(&slot->connection);

	if (!clean)
		retire(pool, slot);
	atomic_store_explicit(&slot->generation, lease->generation + 1, memory_order_relaxed);
	*lease = (struct pp_lease){ 0 };
	line_give_back(pool, slot, clean ? SLOT_IDLE : SLOT_EMPTY);
}

enum pp_status pp_release(struct pp_lease *lease)
{
	struct slot *slot;

	if (lease == NULL || lease->slot == NULL)
		return PP_OK;
	slot = lease_slot(lease);
	if (slot == NULL || slot->connection.at_work)
		return PP_MISUSE;
	lease_release(lease);
	return PP_OK;
}

enum pp_status pp_prepare(struct pp_lease *lease, const char *sql, sqlite3_stmt **ret_stmt,
                          struct pp_error *error)
{
	struct slot *slot = lease_slot(lease);

	assert(sql != NULL);
	if (slot == NULL)
		return error_set(error, PP_MISUSE, "prepare", "the lease is empty or was released");
	return statement_take(&slot->connection, sql, ret_stmt, error);
}
