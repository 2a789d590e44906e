/*
 * line.c - slots, and the line of those who wait for one.
 *
 * To know before reading, two rules.
 *
 * The handshake. Who gives back exchanges the slot's state and then reads line->waiting; who waits
 * adds to line->waiting and then looks at the slots. All four are sequentially consistent, so
 * at least one of the two sees the other: either the waiter finds the slot, or the giver finds
 * the waiter and serves the line. With a release store in place of the exchange the read may go
 * first, and a wake-up is lost.
 *
 * Whoever leaves the line serves it: a slot that came back while its head was on the way out goes
 * to the next.
 *
 * The lock guards one line and is held for a few dozen instructions; SQLite is never called under
 * it. Claiming a slot acquires and giving it back releases all that its holder did, so what is in a
 * slot needs no lock.
 */
/* SPDX-License-Identifier: MIT */
#include "internal.h"

void line_init(struct line *line)
{
	pthread_mutex_lock(&line->mutex);
	line->head = line->tail = NULL;
	line->count = 0;
	line->closing = false;
	atomic_store(&line->waiting, 0);
	atomic_store(&line->strict, false);
	for (unsigned l = 0; l < LANES; l++)
		line->lanes[l] = (struct lane_counts){ 0 };
	pthread_mutex_unlock(&line->mutex);
}

/* --- Claiming ---------------------------------------------------------------------------- */

static bool slot_claim(struct slot *slot, unsigned from, unsigned to)
{
	/* Look first: a failed exchange would still take the cache line away from its holder. */
	return atomic_load(&slot->state) == from &&
	       atomic_compare_exchange_strong(&slot->state, &from, to);
}

/* An open connection if there is one, else a slot in which to open one. Starts where this thread
 * found one last time: likely in its cache, and away from the others' slots. */
static struct slot *lane_claim(struct lane *lane)
{
	static _Thread_local unsigned last;

	for (unsigned from = SLOT_IDLE + 1; from-- > SLOT_EMPTY;)
		for (unsigned n = 0, i = last; n < lane->count; n++, i++) {
			if (i >= lane->count)
				i = 0;
			if (slot_claim(&lane->slots[i], from, SLOT_LEASED)) {
				last = i;
				return &lane->slots[i];
			}
		}
	return NULL;
}

unsigned lane_count_in(const struct lane *lane, enum slot_state state)
{
	unsigned in_state = 0;

	for (unsigned i = 0; i < lane->count; i++)
		in_state += atomic_load(&lane->slots[i].state) == state;
	return in_state;
}

/* With a rollback journal a reader in mid-SELECT makes COMMIT fail, so the lanes exclude each
 * other. Their one line's mutex is held: only under it do gated slots become lent. */
static bool gate_open(struct pp_pool *pool, enum pp_lane lane)
{
	if (!pool->gated)
		return true;
	return lane_count_in(pool_lane(pool, lane == PP_READ ? PP_WRITE : PP_READ), SLOT_LEASED) ==
	       0;
}

static struct slot *gated_claim(struct pp_pool *pool, enum pp_lane lane)
{
	return gate_open(pool, lane) ? lane_claim(pool_lane(pool, lane)) : NULL;
}

struct slot *line_claim(struct pp_pool *pool, enum pp_lane lane)
{
	struct lane *l = pool_lane(pool, lane);

	if (pool->gated || atomic_load_explicit(&l->line->strict, memory_order_relaxed))
		return NULL;
	return lane_claim(l);
}

/* --- The line; its mutex is held --------------------------------------------------------- */

static void enqueue(struct line *line, struct waiter *waiter)
{
	if (line->tail != NULL)
		line->tail->next = waiter;
	else
		line->head = waiter;
	line->tail = waiter;
	line->count++;
	line->lanes[waiter->lane - PP_READ].waiting++;
	atomic_fetch_add(&line->waiting, 1); /* The handshake: before looking at the slots. */
}

static void dequeue(struct line *line, struct waiter *waiter)
{
	struct waiter **link = &line->head, *before = NULL;

	while (*link != waiter) {
		before = *link;
		link = &before->next;
	}
	*link = waiter->next;
	if (line->tail == waiter)
		line->tail = before;
	line->count--;
	line->lanes[waiter->lane - PP_READ].waiting--;
	atomic_fetch_sub(&line->waiting, 1);
}

static bool overdue(const struct pp_pool *pool, const struct waiter *head, uint64_t now)
{
	return pool->gated || now - head->since_ns >= pool->config.overtake_ms * 1000000ull;
}

/* Wakes the head when there is something for it; once it has waited too long, hands it over and
 * keeps newcomers from overtaking. */
static void serve(struct pp_pool *pool, struct line *line)
{
	if (line->closing) {
		pthread_cond_broadcast(&line->drained);
		return; /* Nobody is let in any more. */
	}
	while (line->head != NULL) {
		struct waiter *head = line->head;
		struct slot *slot;

		if (!overdue(pool, head, clock_ns())) {
			struct lane *lane = pool_lane(pool, head->lane);

			atomic_store_explicit(&line->strict, false, memory_order_relaxed);
			if (!head->signalled &&
			    lane_count_in(lane, SLOT_IDLE) + lane_count_in(lane, SLOT_EMPTY) > 0) {
				head->signalled = true;
				pthread_cond_signal(&head->wake);
			}
			return;
		}
		atomic_store_explicit(&line->strict, true, memory_order_relaxed);
		slot = gated_claim(pool, head->lane);
		if (slot == NULL)
			return;
		head->slot = slot;
		dequeue(line, head);
		line->lanes[head->lane - PP_READ].handovers++;
		pthread_cond_signal(&head->wake);
	}
	atomic_store_explicit(&line->strict, false, memory_order_relaxed);
}

/* Until when the waiter may sleep: the head looks again when it has waited long enough. */
static uint64_t wake_ns(struct pp_pool *pool, struct line *line, struct waiter *waiter,
                        uint64_t now, uint64_t deadline)
{
	uint64_t due = waiter->since_ns + pool->config.overtake_ms * 1000000ull;

	if (line->head != waiter || atomic_load_explicit(&line->strict, memory_order_relaxed))
		return deadline;
	if (due > now)
		return due < deadline ? due : deadline;
	atomic_store_explicit(&line->strict, true, memory_order_relaxed);
	return deadline;
}

static enum pp_status stand(struct pp_pool *pool, struct line *line, struct waiter *waiter,
                            uint64_t deadline)
{
	enum pp_status status = PP_OK;

	for (;;) {
		if (waiter->slot != NULL)
			return PP_OK; /* Handed over, and taken out of the line by whoever did. */
		if (line->closing) {
			status = PP_CLOSED;
			break;
		}
		if (line->head == waiter &&
		    (waiter->slot = gated_claim(pool, waiter->lane)) != NULL)
			break;
		uint64_t now = clock_ns();

		if (now >= deadline) {
			status = PP_TIMEOUT;
			break;
		}
		waiter->signalled = false;
		clock_wait(&waiter->wake, &line->mutex, wake_ns(pool, line, waiter, now, deadline));
	}
	dequeue(line, waiter);
	return status;
}

static void book(struct lane_counts *lane, enum pp_status status, uint64_t wait_ns)
{
	lane->waits += status != PP_OVERLOADED;
	lane->timeouts += status == PP_TIMEOUT;
	lane->overloads += status == PP_OVERLOADED;
	lane->wait_ns_total += wait_ns;
	if (wait_ns > lane->wait_ns_max)
		lane->wait_ns_max = wait_ns;
}

/* --- What lease.c and pool.c call --------------------------------------------------------- */

enum pp_status line_wait(struct pp_pool *pool, enum pp_lane lane, uint64_t deadline,
                         struct slot **ret_slot)
{
	struct line *line = pool_lane(pool, lane)->line;
	struct waiter waiter = { .lane = lane, .since_ns = clock_ns() };
	enum pp_status status = PP_OVERLOADED;

	clock_cond_init(&waiter.wake);
	pthread_mutex_lock(&line->mutex);
	if (line->closing) {
		status = PP_CLOSED;
	} else if (line->count < pool->config.line_max) {
		enqueue(line, &waiter);
		status = stand(pool, line, &waiter, deadline);
		serve(pool, line);
	}
	book(&line->lanes[lane - PP_READ], status, clock_ns() - waiter.since_ns);
	pthread_mutex_unlock(&line->mutex);
	pthread_cond_destroy(&waiter.wake);
	if (status == PP_OK)
		*ret_slot = waiter.slot;
	return status;
}

void line_give_back(struct pp_pool *pool, struct slot *slot, enum slot_state state)
{
	/* After the exchange the slot is somebody else's, and the pool may be closed: only the
	 * line, which is never freed, is looked at. */
	struct line *line = pool_lane(pool, slot->connection.lane)->line;

	atomic_exchange(&slot->state, state);
	if (atomic_load(&line->waiting) == 0)
		return;
	pthread_mutex_lock(&line->mutex);
	serve(pool, line);
	pthread_mutex_unlock(&line->mutex);
}

/* The closer counts as one who waits, so that whoever gives back comes to serve. */
static void line_shut(struct line *line)
{
	pthread_mutex_lock(&line->mutex);
	if (!line->closing) {
		line->closing = true;
		atomic_store_explicit(&line->strict, true, memory_order_relaxed);
		atomic_fetch_add(&line->waiting, 1);
		for (struct waiter *w = line->head; w != NULL; w = w->next)
			pthread_cond_signal(&w->wake);
	}
	pthread_mutex_unlock(&line->mutex);
}

/* Takes out what nobody holds; returns how many are still lent. */
static unsigned lane_shut(struct lane *lane)
{
	unsigned lent = 0;

	for (unsigned i = 0; i < lane->count; i++)
		if (!slot_claim(&lane->slots[i], SLOT_IDLE, SLOT_CLOSED) &&
		    !slot_claim(&lane->slots[i], SLOT_EMPTY, SLOT_CLOSED))
			lent += atomic_load(&lane->slots[i].state) != SLOT_CLOSED;
	return lent;
}

/* Until nothing is lent, or the deadline. Those who stood in the line have been woken and leave at
 * once, deadline or not; until then they are in it. */
static unsigned lane_drain(struct lane *lane, uint64_t deadline)
{
	struct line *line = lane->line;
	unsigned lent;

	pthread_mutex_lock(&line->mutex);
	while ((lent = lane_shut(lane)) > 0 ? clock_ns() < deadline : line->count > 0)
		clock_wait(&line->drained, &line->mutex, lent > 0 ? deadline : UINT64_MAX);
	pthread_mutex_unlock(&line->mutex);
	return lent;
}

unsigned line_close(struct pp_pool *pool, uint64_t deadline)
{
	unsigned lent = 0;

	for (unsigned l = 0; l < LANES; l++)
		line_shut(pool->lanes[l].line);
	for (unsigned l = 0; l < LANES; l++)
		lent += lane_drain(&pool->lanes[l], deadline);
	return lent;
}
