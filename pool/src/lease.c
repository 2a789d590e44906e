/*
 * lease.c - borrowing and giving back.
 *
 * To know before reading: a lease is good while its generation is its slot's. The slot's is odd
 * while lent and counted up by every lending and every return, so a lease that was copied and
 * released twice, or used after its release, does not match.
 */
/* SPDX-License-Identifier: MIT */
#include "internal.h"
#include "point.h"
#include "probes.h"

#include <assert.h>
#include <execinfo.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Each call of the shortest way costs a twentieth of it. */
#define ALWAYS_INLINE inline __attribute__((always_inline))

enum { HOLD_SAMPLED = 32 }; /* One lease in so many is timed: two clock reads are 44 ns. */

static _Thread_local unsigned held __attribute__((tls_model("initial-exec")));

unsigned leases_held(void)
{
	return held;
}

/* Kept with the process it was read in: a child's one thread has another. */
int thread_number(void)
{
	static _Thread_local struct {
		uint64_t process;
		int number;
	} self __attribute__((tls_model("initial-exec")));

	if (self.process != *process_number) {
		self.number = (int)syscall(SYS_gettid);
		self.process = *process_number;
	}
	return self.number;
}

bool lease_is_mine(const struct pp_pool *pool)
{
	int self = thread_number();

	for (unsigned l = 0; l < LANES && held > 0; l++)
		for (unsigned i = lane_used(&pool->lanes[l]); i-- > 0;) {
			const struct slot *slot = &pool->lanes[l].slots[i];

			if (atomic_load(&slot->state) == SLOT_LEASED &&
			    atomic_load_explicit(&slot->holder, memory_order_relaxed) == self)
				return true;
		}
	return false;
}

static inline struct slot *slot_of(const struct pp_lease *lease)
{
	struct slot *slot = lease->slot;

	if (slot == NULL || pool_forked(lease->pool) ||
	    atomic_load_explicit(&slot->generation, memory_order_relaxed) != lease->generation)
		return NULL;
	return slot;
}

struct slot *lease_slot(const struct pp_lease *lease)
{
	return slot_of(lease);
}

enum pp_status lease_refused(const struct pp_lease *lease, const char *doing,
                             struct pp_error *error)
{
	if (lease->slot != NULL && pool_forked(lease->pool))
		return error_set(error, PP_FORKED, doing, "open a pool in this process");
	return error_set(error, PP_MISUSE, doing, "the lease is empty or was released");
}

/* --- Borrowing --------------------------------------------------------------------------- */

/* Released one by one: who sees one of them sees the generation before it (frames_copy). */
__attribute__((noinline)) static void note_frames(struct slot *slot)
{
	void *frames[PP_FRAMES_MAX];
	int frame_count = backtrace(frames, PP_FRAMES_MAX);

	for (int i = 0; i < frame_count; i++)
		atomic_store_explicit(&slot->frames[i], frames[i], memory_order_release);
	atomic_store_explicit(&slot->frame_count, (unsigned)frame_count, memory_order_release);
}

static inline void note_caller(struct slot *slot, void *caller)
{
	if (slot->connection.pool->config.backtraces) {
		note_frames(slot);
		return;
	}
	atomic_store_explicit(&slot->frames[0], caller, memory_order_release);
	atomic_store_explicit(&slot->frame_count, 1, memory_order_release);
}

enum pp_status slot_open(struct slot *slot, struct pp_deadline until, struct pp_error *error)
{
	enum pp_status status = connection_open(&slot->connection, until, error);

	if (status != PP_OK)
		return status;
	atomic_store_explicit(&slot->open, 1, memory_order_relaxed);
	event_send(slot->connection.pool, PP_EVENT_OPENED, slot, "%s", "");
	return PP_OK;
}

/* A clock is 7 ns, of 40: where a thread looks all the time, it notes when it first meets a lease.
 */
static uint64_t since_ms(const struct pp_pool *pool)
{
	return pool->config.keeper == PP_KEEPER_MANUAL ? clock_coarse_ms() : 0;
}

/* What was lost is there again: how long that took. */
static void book_recovery(struct pp_pool *pool)
{
	uint64_t lost = atomic_load_explicit(&pool->lost_ns, memory_order_relaxed);

	if (lost != 0 && atomic_compare_exchange_strong(&pool->lost_ns, &lost, 0))
		histogram_note(pool, PP_HISTOGRAM_RECOVERY, clock_ns() - lost);
}

/* The slot is ours, and a connection in it. */
static ALWAYS_INLINE void slot_lend(struct pp_pool *pool, struct slot *slot,
                                    const struct pp_token *token, void *caller,
                                    struct pp_lease *ret_lease)
{
	uint64_t generation = atomic_load_explicit(&slot->generation, memory_order_relaxed) + 1;
	uint64_t acquires = atomic_load_explicit(&slot->acquires, memory_order_relaxed) + 1;

	atomic_store_explicit(&slot->since_ms, since_ms(pool), memory_order_relaxed);
	atomic_store_explicit(&slot->acquires, acquires, memory_order_relaxed);
	atomic_store_explicit(&slot->holder, thread_number(), memory_order_relaxed);
	slot->lent_ns = acquires % HOLD_SAMPLED == 1 ? clock_ns() : 0;
	note_caller(slot, caller);
	atomic_store_explicit(&slot->generation, generation, memory_order_release);
	connection_lend(&slot->connection, token, generation);
	held++;
	if (atomic_load_explicit(&pool->lost_ns, memory_order_relaxed) != 0)
		book_recovery(pool);
	*ret_lease = (struct pp_lease){
		.db = slot->connection.db, .pool = pool, .slot = slot, .generation = generation
	};
}

static const char *const doing[] = { [PP_READ] = "acquire a reader",
	                             [PP_WRITE] = "acquire the writer",
	                             [PP_EXCLUSIVE] = "acquire the whole pool" };

static const char *why_not(enum pp_status status)
{
	return status == PP_OVERLOADED       ? "try again later, or raise line_max"
	       : status == PP_CLOSED         ? "pp_close() was called"
	       : status == PP_CANCELLED      ? "its token was cancelled"
	       : status == PP_WOULD_DEADLOCK ? "release what this thread holds first"
	                                     : "all of the lane are lent";
}

static enum pp_status refuse(struct pp_pool *pool, enum pp_lane lane, enum pp_status status,
                             uint64_t start, struct pp_error *error)
{
	if (status == PP_WOULD_DEADLOCK)
		count(&pool->counters.deadlocks);
	if (status == PP_CANCELLED)
		count(&pool->counters.cancels);
	error_set(error, status, doing[lane], "%s", why_not(status));
	error_pool(error, pool);
	if (error != NULL)
		error->elapsed_ns = clock_ns() - start;
	return status;
}

static enum pp_status tripped(struct pp_pool *pool, enum pp_lane lane, struct pp_error *error)
{
	return error_set(error, PP_FILE_CHANGED, doing[lane],
	                 "%.160s was deleted, replaced, cut or made read-only; pp_reopen() opens "
	                 "what is there now",
	                 pool->path);
}

/* An exclusive lease is the writer's, and then the rest. */
static enum pp_status exclude_others(struct pp_pool *pool, struct pp_lease *lease,
                                     struct pp_deadline until, uint64_t start,
                                     struct pp_error *error)
{
	enum pp_status status = exclusive_begin(pool, lease->slot, until);

	if (status == PP_OK)
		return PP_OK;
	lease_release(lease);
	return refuse(pool, PP_EXCLUSIVE, status, start, error);
}

/* Claimed, or waited for. */
static enum pp_status slot_get(struct pp_pool *pool, enum pp_lane lane, struct pp_deadline deadline,
                               uint64_t start, struct slot **ret_slot, struct pp_error *error)
{
	enum pp_lane of = lane == PP_READ ? PP_READ : PP_WRITE;
	struct slot *slot = line_claim(pool, of);
	enum pp_status status = slot == NULL ? line_wait(pool, of, deadline, &slot) : PP_OK;

	if (status != PP_OK)
		return refuse(pool, lane, status, start, error);
	if (atomic_load_explicit(&pool->tripped, memory_order_relaxed)) { /* While it waited. */
		line_give_back(pool, slot, slot->connection.db != NULL ? SLOT_IDLE : SLOT_EMPTY);
		return tripped(pool, lane, error);
	}
	*ret_slot = slot;
	return PP_OK;
}

/* slot: claimed, and empty; NULL: none yet. Apart, so that the way below is short. */
__attribute__((noinline)) static enum pp_status
acquire_slowly(struct pp_pool *pool, enum pp_lane lane, struct pp_deadline deadline, void *caller,
               struct slot *slot, struct pp_lease *ret_lease, struct pp_error *error)
{
	enum pp_status status = PP_OK;
	uint64_t start = clock_ns();

	if (atomic_load_explicit(&pool->tripped, memory_order_relaxed) && slot == NULL)
		return tripped(pool, lane, error);
	if (token_cancelled(deadline.token) && slot == NULL)
		return refuse(pool, lane, PP_CANCELLED, start, error);
	if (lane == PP_EXCLUSIVE && exclusive_is_hopeless(pool))
		return refuse(pool, lane, PP_WOULD_DEADLOCK, start, error);
	deadline = deadline_fix(pool, deadline);
	if (slot == NULL)
		status = slot_get(pool, lane, deadline, start, &slot, error);
	if (status != PP_OK)
		return status;
	if (slot->connection.db == NULL && (status = slot_open(slot, deadline, error)) != PP_OK) {
		line_give_back(pool, slot, SLOT_EMPTY);
		error_pool(error, pool);
		return status;
	}
	slot_lend(pool, slot, deadline.token, caller, ret_lease);
	if (lane == PP_EXCLUSIVE)
		status = exclude_others(pool, ret_lease, deadline, start, error);
	if (status == PP_OK)
		PROBE_ACQUIRE_DONE(pool, lane, slot->id, clock_ns() - start);
	return status;
}

/* One that is open and idle. Else false, and in *ret_slot one in which to open one, or NULL. */
static ALWAYS_INLINE bool acquire_at_once(struct pp_pool *pool, enum pp_lane lane,
                                          const struct pp_token *token, void *caller,
                                          struct slot **ret_slot, struct pp_lease *ret_lease)
{
	struct slot *slot = NULL;

	PROBE_ACQUIRE_START(pool, lane);
	if (lane != PP_EXCLUSIVE && !atomic_load_explicit(&pool->tripped, memory_order_relaxed) &&
	    !token_cancelled(token))
		slot = line_claim(pool, lane);
	*ret_slot = slot;
	if (slot == NULL || slot->connection.db == NULL)
		return false;
	POINT(CLAIM);
	slot_lend(pool, slot, token, caller, ret_lease);
	PROBE_ACQUIRE_DONE(pool, lane, slot->id, 0);
	return true;
}

enum pp_status lease_acquire(struct pp_pool *pool, enum pp_lane lane, struct pp_deadline deadline,
                             void *caller, struct pp_lease *ret_lease, struct pp_error *error)
{
	struct slot *slot;

	if (acquire_at_once(pool, lane, deadline.token, caller, &slot, ret_lease))
		return PP_OK;
	return acquire_slowly(pool, lane, deadline, caller, slot, ret_lease, error);
}

/* Of the file, now and not before it was waited for; and who holds the writer may ask it. */
static enum pp_status look(struct connection *c, struct pp_deadline deadline,
                           struct pp_error *error)
{
	enum pp_status status;

	c->deadline_ns = deadline.ns;
	status = connection_look(c, error);
	c->deadline_ns = UINT64_MAX;
	return status;
}

/* The writer, or the whole pool. */
static enum pp_status acquire_to_write(struct pp_pool *pool, enum pp_lane lane,
                                       struct pp_deadline deadline, void *caller,
                                       struct pp_lease *ret_lease, struct pp_error *error)
{
	struct pp_lease lease;
	enum pp_status status;

	deadline = deadline_fix(pool, deadline);
	status = lease_acquire(pool, lane, deadline, caller, &lease, error);
	if (status != PP_OK)
		return status;
	status = look(&lease_slot(&lease)->connection, deadline, error);
	if (status != PP_OK) {
		lease_release(&lease);
		return status;
	}
	*ret_lease = lease;
	return PP_OK;
}

enum pp_status pp_acquire(struct pp_pool *pool, enum pp_lane lane, struct pp_deadline deadline,
                          struct pp_lease *ret_lease, struct pp_error *reterr_error)
{
	void *caller = __builtin_return_address(0);
	struct slot *slot;

	assert(lane == PP_READ || lane == PP_WRITE || lane == PP_EXCLUSIVE);
	if (pool_forked(pool))
		return error_set(reterr_error, PP_FORKED, "acquire", "open a pool in this process");
	if (transaction_is_inside(pool))
		return error_set(reterr_error, PP_MISUSE, "acquire",
		                 "this thread is inside pp_transact() or pp_write() of the same "
		                 "pool");
	if (lane != PP_READ)
		return acquire_to_write(pool, lane, deadline, caller, ret_lease, reterr_error);
	if (acquire_at_once(pool, lane, deadline.token, caller, &slot, ret_lease))
		return PP_OK;
	return acquire_slowly(pool, lane, deadline, caller, slot, ret_lease, reterr_error);
}

/* --- Giving back ------------------------------------------------------------------------- */

void slot_close(struct slot *slot, const char *why)
{
	struct pp_pool *pool = slot->connection.pool;

	event_send(pool, PP_EVENT_CLOSED, slot, "%s", why);
	connection_close(&slot->connection);
	atomic_store_explicit(&slot->open, 0, memory_order_relaxed);
}

static void retire(struct pp_pool *pool, struct slot *slot)
{
	uint64_t nothing = 0;

	atomic_compare_exchange_strong(&pool->lost_ns, &nothing, clock_ns());
	count(&pool->counters.retired);
	slot_close(slot, "it could not be mended");
}

static void tell_back(struct pp_pool *pool, struct slot *slot, uint64_t generation)
{
	if (atomic_load_explicit(&slot->warned, memory_order_relaxed) == generation)
		event_send(pool, PP_EVENT_LEASE_BACK, slot, "%s", "");
}

void lease_hand_over(struct pp_lease *lease, const struct pp_token *token, void *caller)
{
	struct slot *slot = lease->slot;

	tell_back(lease->pool, slot, lease->generation);
	/* For a moment it is nobody's: what is written now is not the last one's. */
	generation_end(slot, lease->generation + 1);
	lease->generation += 2;
	atomic_store_explicit(&slot->since_ms, clock_coarse_ms(), memory_order_relaxed);
	note_caller(slot, caller);
	generation_end(slot, lease->generation);
	connection_lend(&slot->connection, token, lease->generation);
}

void lease_part(const struct pp_lease *lease, int to_thread)
{
	struct slot *slot = lease->slot;

	held--;
	atomic_store_explicit(&slot->holder, to_thread, memory_order_relaxed);
}

void lease_join(void)
{
	held++;
}

static ALWAYS_INLINE void give_back(struct pp_lease *lease)
{
	struct slot *slot = lease->slot;
	struct pp_pool *pool = lease->pool;
	bool clean;

	POINT(RELEASE);
	clean = connection_prove(&slot->connection);
	PROBE_RELEASE(pool, slot->connection.lane, slot->id);
	if (!clean)
		retire(pool, slot);
	account_settle(atomic_load(&slot->connection.account));
	tell_back(pool, slot, lease->generation);
	if (atomic_load_explicit(&pool->exclusive, memory_order_relaxed) == slot)
		exclusive_end(pool, slot);
	if (slot->lent_ns != 0)
		histogram_note(pool, PP_HISTOGRAM_HOLD, clock_ns() - slot->lent_ns);
	if (atomic_load_explicit(&slot->holder, memory_order_relaxed) == thread_number())
		held--;
	atomic_store_explicit(&slot->holder, 0, memory_order_relaxed);
	atomic_store_explicit(&slot->connection.current_sql, NULL, memory_order_relaxed);
	atomic_store_explicit(&slot->since_ms, since_ms(pool), memory_order_relaxed);
	generation_end(slot, lease->generation + 1);
	*lease = (struct pp_lease){ 0 };
	if (atomic_load(&slot->fate) != FATE_KEEP)
		size_obey(pool, slot);
	else
		line_give_back(pool, slot, slot->connection.db != NULL ? SLOT_IDLE : SLOT_EMPTY);
}

void lease_release(struct pp_lease *lease)
{
	give_back(lease);
}

enum pp_status pp_release(struct pp_lease *lease)
{
	struct slot *slot;

	if (lease == NULL || lease->slot == NULL)
		return PP_OK;
	slot = slot_of(lease);
	if (slot == NULL || slot->connection.at_work > 0)
		return lease_refused(lease, "release", NULL);
	give_back(lease);
	return PP_OK;
}

/* --- On a lease -------------------------------------------------------------------------- */

enum pp_status pp_prepare(struct pp_lease *lease, const char *sql, sqlite3_stmt **ret_stmt,
                          struct pp_error *error)
{
	struct slot *slot = lease_slot(lease);

	assert(sql != NULL);
	if (slot == NULL)
		return lease_refused(lease, "prepare", error);
	return statement_take(&slot->connection, sql, ret_stmt, error);
}

enum pp_status pp_statement(struct pp_lease *lease, unsigned id, sqlite3_stmt **ret_stmt,
                            struct pp_error *error)
{
	struct slot *slot = lease_slot(lease);

	if (slot == NULL)
		return lease_refused(lease, "fetch a statement", error);
	return statement_take_id(&slot->connection, id, ret_stmt, error);
}

enum pp_status pp_authorizer_set(struct pp_lease *lease, authorizer_fn *authorizer, void *context)
{
	struct slot *slot = lease_slot(lease);

	if (slot == NULL)
		return lease_refused(lease, "set an authorizer", NULL);
	connection_authorizer_set(&slot->connection, authorizer, context);
	return PP_OK;
}

enum pp_status pp_progress_set(struct pp_lease *lease, unsigned ops, int (*progress)(void *),
                               void *context)
{
	struct slot *slot = lease_slot(lease);

	if (slot == NULL)
		return lease_refused(lease, "set a progress handler", NULL);
	connection_progress_set(&slot->connection, ops, progress, context);
	return PP_OK;
}
