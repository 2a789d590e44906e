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
 * To keep others out of a lane is to hold all its slots: who wants that (lane_hold) counts as a
 * waiter, so that givers come to serve, and takes each slot as it comes back. No flag has to be
 * seen in time by anybody for that to be right; line->whole and strict only make it soon.
 *
 * The lock guards one line and is held for a few dozen instructions; SQLite is never called under
 * it. Claiming a slot acquires and giving it back releases all that its holder did, so what is in a
 * slot needs no lock.
 */
/* SPDX-License-Identifier: MIT */
#include "internal.h"
#include "point.h"
#include "probes.h"

void line_init(struct line *line)
{
	pthread_mutex_lock(&line->mutex);
	line->head = line->tail = NULL;
	line->count = 0;
	line->closing = false;
	line->whole[0] = line->whole[1] = (struct whole){ 0 };
	line->aside = 0;
	line->codel = (struct codel){ 0 };
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
static inline struct slot *lane_claim(struct lane *lane)
{
	static _Thread_local unsigned last __attribute__((tls_model("initial-exec")));
	unsigned used = lane_used(lane);

	for (unsigned from = SLOT_IDLE + 1; from-- > SLOT_EMPTY;)
		for (unsigned n = 0, i = last; n < used; n++, i++) {
			if (i >= used)
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

	for (unsigned i = lane_used(lane); i-- > 0;)
		in_state += atomic_load(&lane->slots[i].state) == state;
	return in_state;
}

unsigned lane_size(const struct lane *lane)
{
	unsigned size = 0;

	for (unsigned i = lane_used(lane); i-- > 0;) {
		unsigned state = atomic_load(&lane->slots[i].state);
		unsigned fate = atomic_load(&lane->slots[i].fate) & ~(unsigned)FATE_OBEYED;

		size += state != SLOT_SPARE && state != SLOT_NEXT && fate != FATE_DROP &&
		        fate != FATE_QUARANTINED;
	}
	return size;
}

bool slot_keep(struct slot *slot, enum slot_state from)
{
	return slot_claim(slot, from, SLOT_KEPT);
}

/* With a rollback journal a reader in mid-SELECT makes COMMIT fail, so the lanes exclude each
 * other. Their one line's mutex is held: only under it do gated slots become lent. Who is in
 * quarantine may never come back, and what he has locked SQLite tells whoever meets it. */
static bool gate_open(struct pp_pool *pool, enum pp_lane lane)
{
	const struct lane *other = pool_lane(pool, lane == PP_READ ? PP_WRITE : PP_READ);

	if (!pool->gated)
		return true;
	for (unsigned i = lane_used(other); i-- > 0;)
		if (atomic_load(&other->slots[i].state) == SLOT_LEASED &&
		    !atomic_load(&other->slots[i].absent))
			return false;
	return true;
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

static unsigned square_root(unsigned n)
{
	unsigned root = 1;

	while ((root + 1) * (root + 1) <= n)
		root++;
	return root;
}

/* Whether the head, which has waited so long, is refused. One refusal after an interval in which
 * all waited too long, then faster and faster, until one has not. */
static bool codel_refuses(const struct pp_config *config, struct codel *codel, uint64_t waited,
                          uint64_t now)
{
	uint64_t interval = config->shed_interval_ms * 1000000ull;

	if (config->shed_ms == PP_NEVER || waited < config->shed_ms * 1000000ull) {
		*codel = (struct codel){ 0 };
		return false;
	}
	if (codel->above_ns == 0)
		codel->above_ns = codel->next_ns = now + interval;
	if (now < codel->next_ns)
		return false;
	codel->count++;
	codel->next_ns = now + interval / square_root(codel->count);
	return true;
}

static void refuse_head(struct line *line)
{
	struct waiter *head = line->head;

	head->shed = true;
	dequeue(line, head);
	pthread_cond_signal(&head->wake);
}

static bool overdue(const struct pp_pool *pool, const struct waiter *head, uint64_t now)
{
	return pool->gated || now - head->since_ns >= pool->config.overtake_ms * 1000000ull;
}

/* Wakes the head when there is something for it; once it has waited too long, hands it over and
 * keeps newcomers from overtaking. */
static void serve(struct pp_pool *pool, struct line *line)
{
	pthread_cond_broadcast(&line->drained);
	if (line->closing)
		return; /* Nobody is let in any more. */
	while (line->head != NULL) {
		struct waiter *head = line->head;
		uint64_t now = clock_ns();
		struct slot *slot;

		if (line->whole[head->lane - PP_READ].held)
			return;
		if (codel_refuses(&pool->config, &line->codel, now - head->since_ns, now)) {
			refuse_head(line);
			continue;
		}
		if (!overdue(pool, head, now)) {
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
		POINT(HAND_OVER);
		pthread_cond_signal(&head->wake);
	}
	line->codel = (struct codel){ 0 }; /* Nobody waits. */
	atomic_store_explicit(&line->strict, line->whole[0].held || line->whole[1].held,
	                      memory_order_relaxed);
}

static uint64_t min(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* Until when the waiter may sleep: the head looks again when it has waited long enough to be strict
 * about newcomers, and to ask for one connection more. */
static uint64_t wake_ns(struct pp_pool *pool, struct line *line, struct waiter *waiter,
                        uint64_t now, uint64_t deadline)
{
	uint64_t due = waiter->since_ns + pool->config.overtake_ms * 1000000ull;
	uint64_t grow = waiter->since_ns + pool->config.grow_ms * 1000000ull;

	if (line->head != waiter)
		return deadline;
	if (grow > now)
		deadline = min(deadline, grow);
	else
		keeper_poke(pool);
	if (atomic_load_explicit(&line->strict, memory_order_relaxed))
		return deadline;
	if (due > now)
		return min(due, deadline);
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
		if (waiter->shed)
			return PP_OVERLOADED; /* Likewise. */
		if (line->closing) {
			status = PP_CLOSED;
			break;
		}
		if (token_cancelled(waiter->token)) {
			status = PP_CANCELLED;
			break;
		}
		if (line->head == waiter && !line->whole[waiter->lane - PP_READ].held &&
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

/* --- Both lines --------------------------------------------------------------------------- */

/* In this order. */
static void lines_lock(struct pp_pool *pool)
{
	pthread_mutex_lock(&pool->lines[0].mutex);
	pthread_mutex_lock(&pool->lines[1].mutex);
}

static void unlock_other(struct pp_pool *pool, const struct line *line)
{
	pthread_mutex_unlock(&pool->lines[line == &pool->lines[0]].mutex);
}

static void book(struct lane_counts *lane, enum pp_status status, bool shed, uint64_t wait_ns)
{
	lane->waits += status != PP_OVERLOADED || shed;
	lane->timeouts += status == PP_TIMEOUT;
	lane->overloads += status == PP_OVERLOADED;
	lane->sheds += shed;
	lane->wait_ns_total += wait_ns;
	if (wait_ns > lane->wait_ns_max)
		lane->wait_ns_max = wait_ns;
}

/* --- What lease.c and pool.c call --------------------------------------------------------- */

/* Whoever closes a circle of threads that wait for each other holds something himself. */
static enum pp_status enter(struct pp_pool *pool, struct line *line, struct waiter *waiter,
                            bool holds)
{
	enum pp_status status = PP_OK;

	if (line->closing)
		status = PP_CLOSED;
	else if (holds && waiting_is_hopeless(pool, waiter->lane, waiter->thread))
		status = PP_WOULD_DEADLOCK;
	else if (line->lanes[waiter->lane - PP_READ].waiting >= pool->config.line_max)
		status = PP_OVERLOADED;
	else
		enqueue(line, waiter);
	return status;
}

enum pp_status line_wait(struct pp_pool *pool, enum pp_lane lane, struct pp_deadline until,
                         struct slot **ret_slot)
{
	struct line *line = pool_lane(pool, lane)->line;
	struct waiter waiter = { .lane = lane,
		                 .since_ns = clock_ns(),
		                 .thread = thread_number(),
		                 .token = until.token };
	bool holds = leases_held() > 0 && until.ns != PP_NO_WAIT.ns, entered;
	enum pp_status status;
	uint64_t waited;

	clock_cond_init(&waiter.wake);
	if (holds)
		lines_lock(pool);
	else
		pthread_mutex_lock(&line->mutex);
	status = enter(pool, line, &waiter, holds);
	entered = status == PP_OK;
	if (holds)
		unlock_other(pool, line);
	if (entered) {
		PROBE_WAIT_BEGIN(pool, lane);
		POINT(WAIT);
		status = stand(pool, line, &waiter, until.ns);
		serve(pool, line);
	}
	waited = clock_ns() - waiter.since_ns;
	book(&line->lanes[lane - PP_READ], status, waiter.shed, waited);
	/* Under the lock: the closer of the pool waits for those who stood here. */
	if (entered) {
		PROBE_WAIT_END(pool, lane, status, waited);
		histogram_note(pool, PP_HISTOGRAM_WAIT, waited);
	}
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
	POINT(GIVE);
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
		pthread_cond_broadcast(&line->drained); /* And who waits for a whole lane. */
	}
	pthread_mutex_unlock(&line->mutex);
}

/* Takes out what nobody holds; returns how many others still have. */
static unsigned lane_take(struct lane *lane, enum slot_state to)
{
	unsigned out = 0;

	for (unsigned i = lane_used(lane); i-- > 0;) {
		struct slot *slot = &lane->slots[i];
		unsigned state;

		if (slot_claim(slot, SLOT_IDLE, to) || slot_claim(slot, SLOT_EMPTY, to))
			continue;
		state = atomic_load(&slot->state);
		out += state != SLOT_SPARE && state != SLOT_NEXT && state != to;
	}
	return out;
}

/* Until nothing is lent, or the deadline; then how many are. Those who stood in the line, or waited
 * for a whole lane, have been woken and leave at once, deadline or not; until then they are in it.
 * An exclusive lease has the readers, and counts as the one writer that it is. */
static unsigned lane_drain(struct pp_pool *pool, struct lane *lane, uint64_t deadline)
{
	struct line *line = lane->line;
	unsigned leased;
	bool out;

	pthread_mutex_lock(&line->mutex);
	for (;;) {
		out = lane_take(lane, SLOT_CLOSED) > 0 || line->whole[0].held ||
		      line->whole[1].held;
		if (out ? clock_ns() >= deadline : line->count + line->aside == 0)
			break;
		clock_wait(&line->drained, &line->mutex, out ? deadline : UINT64_MAX);
	}
	pthread_mutex_unlock(&line->mutex);
	leased = lane_count_in(lane, SLOT_LEASED);
	return out && leased == 0 ? atomic_load(&pool->exclusive) == NULL : leased;
}

unsigned line_close(struct pp_pool *pool, uint64_t deadline)
{
	unsigned lent = 0;

	for (unsigned l = 0; l < LANES; l++)
		line_shut(pool->lanes[l].line);
	for (unsigned l = 0; l < LANES; l++)
		lent += lane_drain(pool, &pool->lanes[l], deadline);
	return lent;
}

/* --- What upkeep calls -------------------------------------------------------------------- */

void line_serve(struct pp_pool *pool, enum pp_lane lane)
{
	struct line *line = pool_lane(pool, lane)->line;

	pthread_mutex_lock(&line->mutex);
	serve(pool, line);
	pthread_mutex_unlock(&line->mutex);
}

uint64_t line_head_wait_ns(struct pp_pool *pool, enum pp_lane lane)
{
	struct line *line = pool_lane(pool, lane)->line;
	const struct waiter *w;
	uint64_t waited = 0;

	pthread_mutex_lock(&line->mutex);
	for (w = line->head; w != NULL && w->lane != lane; w = w->next)
		;
	if (w != NULL)
		waited = clock_ns() - w->since_ns + 1; /* 0 is nobody. */
	pthread_mutex_unlock(&line->mutex);
	return waited;
}

void line_wake(struct line *line, const struct pp_token *token)
{
	pthread_mutex_lock(&line->mutex);
	for (struct waiter *w = line->head; w != NULL; w = w->next)
		if (token == NULL || w->token == token)
			pthread_cond_signal(&w->wake);
	pthread_cond_broadcast(&line->drained);
	pthread_mutex_unlock(&line->mutex);
}

static enum pp_status hold_ended(const struct line *line, struct pp_deadline until)
{
	return line->closing                  ? PP_CLOSED
	       : token_cancelled(until.token) ? PP_CANCELLED
	       : clock_ns() >= until.ns       ? PP_TIMEOUT
	                                      : PP_OK;
}

/* Back into use, each with what is in it. The line is locked. */
static void lane_put_back(struct pp_pool *pool, enum pp_lane which)
{
	struct lane *lane = pool_lane(pool, which);

	lane->line->whole[which - PP_READ] = (struct whole){ 0 };
	atomic_fetch_sub(&lane->line->waiting, 1);
	for (unsigned i = lane_used(lane); i-- > 0;) {
		struct slot *slot = &lane->slots[i];

		if (atomic_load(&slot->state) == SLOT_HELD)
			atomic_store(&slot->state,
			             atomic_load(&slot->open) ? SLOT_IDLE : SLOT_EMPTY);
	}
	serve(pool, lane->line);
}

enum pp_status lane_hold(struct pp_pool *pool, enum pp_lane which, struct pp_deadline until)
{
	struct lane *lane = pool_lane(pool, which);
	struct line *line = lane->line;
	struct whole *whole = &line->whole[which - PP_READ];
	enum pp_status status = PP_OK;

	lines_lock(pool);
	*whole = (struct whole){ .held = true, .waits = true, .thread = thread_number() };
	atomic_store_explicit(&line->strict, true, memory_order_relaxed);
	atomic_fetch_add(&line->waiting, 1); /* As a waiter: givers come to serve. */
	if (holding_is_hopeless(pool, which, whole->thread))
		status = PP_WOULD_DEADLOCK;
	unlock_other(pool, line);
	while (status == PP_OK && (line->closing || lane_take(lane, SLOT_HELD) > 0)) {
		status = hold_ended(line, until);
		if (status == PP_OK)
			clock_wait(&line->drained, &line->mutex, until.ns);
	}
	whole->waits = false;
	if (status != PP_OK)
		lane_put_back(pool, which);
	pthread_mutex_unlock(&line->mutex);
	return status;
}

void lane_disown(struct pp_pool *pool, enum pp_lane which)
{
	struct line *line = pool_lane(pool, which)->line;

	pthread_mutex_lock(&line->mutex);
	line->whole[which - PP_READ].thread = 0;
	pthread_mutex_unlock(&line->mutex);
}

enum pp_status line_wait_alone(struct pp_pool *pool, struct pp_deadline until)
{
	struct lane *lane = pool_lane(pool, PP_WRITE);
	struct line *line = lane->line;
	enum pp_status status = PP_OK;

	pthread_mutex_lock(&line->mutex);
	line->aside++;
	atomic_fetch_add(&line->waiting, 1);
	while (lane_count_in(lane, SLOT_LEASED) > 1 && (status = hold_ended(line, until)) == PP_OK)
		clock_wait(&line->drained, &line->mutex, until.ns);
	atomic_fetch_sub(&line->waiting, 1);
	line->aside--;
	pthread_cond_broadcast(&line->drained);
	pthread_mutex_unlock(&line->mutex);
	return status;
}

void lane_unhold(struct pp_pool *pool, enum pp_lane which)
{
	struct line *line = pool_lane(pool, which)->line;

	pthread_mutex_lock(&line->mutex);
	lane_put_back(pool, which);
	pthread_mutex_unlock(&line->mutex);
}
