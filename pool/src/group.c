/*
 * group.c - who shares a commit with whom: the members of groups, and what becomes of them.
 *
 * A member is a call of pp_write(). To know before reading, its states, and who may change them:
 *
 * - WAITING: in the chain of those who wait. Taken by who has the baton, told to lead by who
 *   finishes a batch; or it leaves by itself: deadline, token, closing.
 * - LEADING: it has to acquire the writer.
 * - RUNNING: it has the baton: the connection, and the right to call SQLite on it.
 * - CARRIED: its callback is run by another thread, which has the baton.
 * - RAN: its work is done, and it stands in its batch's chain. By itself it leaves only when the
 *   batch is past its time: that dooms the batch, whose work it cannot take back.
 * - COMMITTING: the batch takes nobody any more and nobody may leave it: it is the finisher's.
 * - DONE: the caller's again. The last thing that is written: the member is gone then.
 *
 * States are changed under group.mutex, but for the finisher's COMMITTING to DONE. The member reads
 * its own without it (acquire: what was written into the member before is seen), and sleeps on it
 * as on a futex. Who is to look again gets POKED added to it, so a wake-up that comes before he
 * sleeps is not lost. SQLite is never called under the mutex. What is in a batch besides the chain
 * of those who ran and the reason why it is doomed belongs to the baton, which is passed under the
 * mutex.
 */
/* SPDX-License-Identifier: MIT */
#include "member.h"

enum {
	MEMBERS_MAX = 128,
	GROUP_NS = 5000000 /* For taking members: more of them would wait for those before. */
};

void group_init(struct group *group)
{
	pthread_mutex_lock(&group->mutex);
	group->head = group->tail = NULL;
	group->led = false;
	group->inside = group->pausing = 0;
	group->take_max = MEMBERS_MAX;
	group->take_ns = GROUP_NS;
	group->counts = (struct lane_counts){ 0 };
	atomic_store(&group->waiting, 0);
	atomic_store(&group->closing, false);
	for (unsigned i = 0; i < WRITER_SLOTS; i++)
		atomic_store(&group->batches[i].leads, false);
	pthread_mutex_unlock(&group->mutex);
}

/* --- Chains and states; the mutex is held, but where it says otherwise ---------------------- */

static void enqueue(struct group *group, struct member *m)
{
	if (group->tail != NULL)
		group->tail->next = m;
	else
		group->head = m;
	group->tail = m;
	group->counts.waiting++;
	group->counts.waits++;
	atomic_fetch_add(&group->waiting, 1); /* Before it looks at its token. */
}

void group_dequeue(struct pp_pool *pool, struct member *m, uint64_t now)
{
	struct group *group = &pool->group;
	struct member **link = &group->head, *before = NULL;
	uint64_t waited = now - m->since_ns;

	while (*link != m) {
		before = *link;
		link = &before->next;
	}
	*link = m->next;
	if (group->tail == m)
		group->tail = before;
	m->next = NULL;
	group->counts.waiting--;
	group->counts.wait_ns_total += waited;
	if (waited > group->counts.wait_ns_max)
		group->counts.wait_ns_max = waited;
	atomic_fetch_sub(&group->waiting, 1);
	histogram_note(pool, PP_HISTOGRAM_WAIT, waited);
}

static unsigned state_of(const struct member *m)
{
	return atomic_load(&m->state) & ~(unsigned)POKED;
}

/* Also without the mutex, by whose the member is. It may be gone before this returns. */
void member_tell(struct member *m, enum state state)
{
	bool own = m->thread == thread_number(); /* It is awake. */

	atomic_store(&m->state, state);
	if (!own)
		clock_unpark(&m->state);
}

static void poke(struct member *m)
{
	atomic_fetch_or(&m->state, POKED);
	clock_unpark(&m->state);
}

static void chain_poke(struct member *m, const struct pp_token *token)
{
	for (; m != NULL; m = m->next)
		if (token == NULL || m->options->deadline.token == token)
			poke(m);
}

void group_wake(struct pp_pool *pool, const struct pp_token *token)
{
	struct group *group = &pool->group;

	pthread_mutex_lock(&group->mutex);
	chain_poke(group->head, token);
	for (unsigned i = 0; i < WRITER_SLOTS; i++)
		chain_poke(group->batches[i].ran, token);
	pthread_cond_broadcast(&group->changed);
	pthread_mutex_unlock(&group->mutex);
}

void group_lead_pass(struct pp_pool *pool)
{
	struct group *group = &pool->group;
	struct member *next = group->head;

	group->led = next != NULL;
	if (next == NULL)
		return;
	group_dequeue(pool, next, clock_ns());
	member_tell(next, LEADING);
}

static void ran_remove(struct batch *b, struct member *m)
{
	struct member **link = &b->ran;

	while (*link != m)
		link = &(*link)->next;
	*link = m->next;
}

void batch_doom(struct batch *b, struct pp_cause cause)
{
	if (!b->doomed)
		b->cause = cause;
	b->doomed = true;
}

/* Whoever it is run again by will read why. Also without the mutex, by whose the member is. */
void member_undo(struct member *m, const struct pp_cause *cause)
{
	m->undone = true;
	m->status = error_set(&m->error, PP_ROLLED_BACK, "group", "undone with its group: %s: %s",
	                      cause->doing, cause->message);
	m->error.sqlite_code = cause->sqlite_code;
}

struct batch *group_batch(struct pp_pool *pool, const struct slot *slot)
{
	return &pool->group.batches[slot - pool_lane(pool, PP_WRITE)->slots];
}

void group_abandon(struct pp_pool *pool, const struct slot *slot)
{
	static const struct pp_cause cause = { .status = PP_TIMEOUT,
		                               .doing = "work",
		                               .message = "one of it held the writer too long, "
		                                          "and another took its place" };
	struct batch *b;
	struct member *m, *next;

	if (slot->connection.lane != PP_WRITE)
		return;
	b = group_batch(pool, slot);
	pthread_mutex_lock(&pool->group.mutex);
	if (atomic_exchange(&b->leads, false)) {
		if (!b->sealed)
			batch_doom(b, cause);
		for (m = b->ran; m != NULL; m = next) {
			next = m->next;
			member_undo(m, &cause);
			atomic_fetch_sub(&pool->group.waiting, 1);
			member_tell(m, DONE);
		}
		b->ran = NULL;
		group_lead_pass(pool);
	}
	pthread_mutex_unlock(&pool->group.mutex);
}

/* --- Coming, waiting, leaving ------------------------------------------------------------ */

enum pp_status member_enter(struct pp_pool *pool, struct member *m)
{
	struct group *group = &pool->group;
	enum pp_status status = PP_OK;

	pthread_mutex_lock(&group->mutex);
	if (atomic_load(&group->closing)) {
		status = PP_CLOSED;
	} else if (!group->led) {
		group->led = true;
		atomic_store(&m->state, LEADING);
	} else if (group->counts.waiting >= pool->config.line_max) {
		group->counts.overloads++;
		status = PP_OVERLOADED;
	} else {
		enqueue(group, m);
	}
	pthread_mutex_unlock(&group->mutex);
	if (status == PP_OK)
		return PP_OK;
	error_set(&m->error, status, "wait for a group", "%s",
	          status == PP_CLOSED ? "pp_close() was called"
	                              : "try again later, or raise line_max");
	error_pool(&m->error, pool);
	return status;
}

/* Until when it stays in this state. Who is carried is stopped by its connection; it only has to
 * look again, in case it has run meanwhile. */
static uint64_t patience_ns(const struct group *group, const struct member *m, unsigned state)
{
	struct pp_deadline deadline = m->options->deadline;
	uint64_t bound = state == RAN ? m->bound_ns : 0;

	if (state == COMMITTING || (state == CARRIED && clock_ns() >= deadline.ns))
		return UINT64_MAX;
	if ((token_cancelled(deadline.token) && state != CARRIED) ||
	    (state == WAITING && atomic_load(&group->closing)))
		return bound;
	return deadline.ns > bound ? deadline.ns : bound;
}

static enum pp_status why_left(const struct group *group, const struct member *m, unsigned state)
{
	if (state == WAITING && atomic_load(&group->closing))
		return PP_CLOSED;
	return token_cancelled(m->options->deadline.token) ? PP_CANCELLED : PP_TIMEOUT;
}

/* It is past its patience. false: somebody was quicker, and its state is another. */
static bool leave(struct pp_pool *pool, struct member *m, unsigned state)
{
	static const struct pp_cause cause = { .status = PP_TIMEOUT,
		                               .doing = "commit",
		                               .message = "one of it could wait no longer" };
	struct group *group = &pool->group;
	bool left;

	pthread_mutex_lock(&group->mutex);
	left = state_of(m) == state;
	if (left) {
		m->status = why_left(group, m, state);
		group->counts.timeouts += m->status == PP_TIMEOUT;
		if (state == WAITING) {
			group_dequeue(pool, m, clock_ns());
		} else {
			ran_remove(m->batch, m);
			batch_doom(m->batch, cause);
			atomic_fetch_sub(&group->waiting, 1);
		}
		atomic_store(&m->state, DONE);
	}
	pthread_mutex_unlock(&group->mutex);
	return left;
}

static void explain_leaving(struct pp_pool *pool, struct member *m, unsigned state)
{
	if (m->status == PP_CANCELLED)
		count(&pool->counters.cancels);
	error_set(&m->error, m->status, state == WAITING ? "wait for a group" : "commit", "%s",
	          m->status == PP_CANCELLED ? "its token was cancelled"
	          : m->status == PP_CLOSED  ? "pp_close() was called"
	          : state == WAITING        ? "the writer did not become free in time"
	                                    : "another one of the group kept it from its commit");
	error_pool(&m->error, pool);
}

/* Until there is something for this thread to do. */
enum state member_await(struct pp_pool *pool, struct member *m)
{
	for (;;) {
		unsigned state = atomic_fetch_and(&m->state, ~(unsigned)POKED) & ~(unsigned)POKED;
		uint64_t until;

		if (state == LEADING || state == RUNNING || state == DONE)
			return (enum state)state;
		until = patience_ns(&pool->group, m, state);
		if (until == UINT64_MAX || clock_ns() < until) {
			clock_park(&m->state, state, until);
		} else if (state != CARRIED && leave(pool, m, state)) {
			explain_leaving(pool, m, state);
			return DONE;
		}
	}
}

/* --- Calls under way, closing, invariants
 * ---------------------------------------------------------------- */

void group_enter(struct pp_pool *pool)
{
	pthread_mutex_lock(&pool->group.mutex);
	pool->group.inside++;
	pthread_mutex_unlock(&pool->group.mutex);
}

unsigned group_inside(struct pp_pool *pool)
{
	unsigned inside;

	pthread_mutex_lock(&pool->group.mutex);
	inside = pool->group.inside;
	pthread_mutex_unlock(&pool->group.mutex);
	return inside;
}

void group_exit(struct pp_pool *pool)
{
	struct group *group = &pool->group;

	pthread_mutex_lock(&group->mutex);
	if (--group->inside == 0 && atomic_load(&group->closing))
		pthread_cond_broadcast(&group->changed);
	pthread_mutex_unlock(&group->mutex);
}

void group_pause(struct pp_pool *pool, uint64_t ns, const struct pp_token *token)
{
	struct group *group = &pool->group;
	uint64_t until = clock_ns() + ns;

	pthread_mutex_lock(&group->mutex);
	group->pausing++;
	atomic_fetch_add(&group->waiting, 1); /* Before it looks at its token. */
	while (!atomic_load(&group->closing) && !token_cancelled(token) && clock_ns() < until)
		clock_wait(&group->changed, &group->mutex, until);
	atomic_fetch_sub(&group->waiting, 1);
	group->pausing--;
	pthread_mutex_unlock(&group->mutex);
}

void group_shut(struct pp_pool *pool)
{
	pthread_mutex_lock(&pool->group.mutex);
	atomic_store(&pool->group.closing, true);
	pthread_mutex_unlock(&pool->group.mutex);
	group_wake(pool, NULL);
}

void group_drain(struct pp_pool *pool)
{
	struct group *group = &pool->group;

	pthread_mutex_lock(&group->mutex);
	while (group->inside > 0)
		clock_wait(&group->changed, &group->mutex, UINT64_MAX);
	pthread_mutex_unlock(&group->mutex);
}

const char *group_check(struct pp_pool *pool)
{
	struct group *group = &pool->group;
	unsigned counted = 0, ran = 0;
	const struct member *last = NULL;
	const char *wrong = NULL;

	pthread_mutex_lock(&group->mutex);
	for (const struct member *m = group->head; m != NULL; last = m, m = m->next)
		counted++;
	for (unsigned i = 0; i < WRITER_SLOTS; i++)
		for (const struct member *m = group->batches[i].ran; m != NULL; m = m->next)
			ran++;
	if (last != group->tail || counted != group->counts.waiting)
		wrong = "its chain is not what was counted";
	else if (atomic_load(&group->waiting) != counted + ran + group->pausing)
		wrong = "others wait than are published";
	else if (counted > 0 && !group->led)
		wrong = "somebody waits and nobody leads";
	pthread_mutex_unlock(&group->mutex);
	return wrong;
}
