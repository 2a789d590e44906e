/*
 * write.c - group commit: writes of several threads in one transaction.
 *
 * A call of pp_write() is a member. Who comes when nobody leads leads: he acquires the writer as
 * anybody does, by the line, and with it begins a batch. In it members run one after the other, the
 * first one straight inside BEGIN IMMEDIATE and the others in a savepoint each (two levels of
 * transaction.c), until nobody waits any more or the batch has its fill. Who runs has the baton:
 * the connection, and the right to call SQLite on it. He takes the next member out of those who
 * wait; a member with any_thread he runs himself, to another one he hands the baton and goes to
 * sleep. Who finds nobody commits, gives the writer back, tells the first of those who came
 * meanwhile to lead, and wakes all whose work has been committed.
 *
 * To know before reading, what a member is, and who may change that:
 *
 *     WAITING     in the chain of those who wait. Taken by who has the baton, told to lead by who
 *                 finishes a batch; or it leaves by itself: deadline, token, closing.
 *     LEADING     has to acquire the writer.
 *     RUNNING     has the baton.
 *     CARRIED     its callback is run by another thread, which has the baton.
 *     RAN         its work is done and stands in its batch's chain. By itself it leaves only when
 * the batch is past its time: that dooms the batch, whose work it cannot take back. COMMITTING  the
 * batch takes nobody any more and nobody may leave it: the finisher's. DONE        the caller's
 * again. The last thing that is written: the member is gone then.
 *
 * States are changed under group.mutex, but for the finisher's COMMITTING to DONE; they are read by
 * the member without it (acquire: what was written into the member before is seen), which sleeps on
 * the state as on a futex. Who is to look again gets POKED added to it, so a wake-up that comes
 * before he sleeps is not lost. SQLite is never called under the mutex. What is in a batch besides
 * the chain belongs to the baton, which is passed under the mutex.
 *
 * Whatever ends the transaction before its COMMIT (the rollback hook and autocommit tell), and a
 * COMMIT that fails, leaves no member acknowledged: each is run again by itself, as pp_transact()
 * does it, in its own thread.
 */
/* SPDX-License-Identifier: MIT */
#include "internal.h"
#include "probes.h"

#include <assert.h>
#include <sched.h>
#include <stdio.h>

enum {
	MEMBERS_MAX = 128,
	GROUP_NS = 5000000, /* For taking members: more of them would wait for those before. */
	COMMIT_NS =
		50000000 /* A commit gets as long, whatever the deadline of one of its members. */
};

enum state { WAITING, LEADING, RUNNING, CARRIED, RAN, COMMITTING, DONE, POKED = 8 };

struct member {
	const struct pp_transaction *options;
	pp_work *work;
	void *context, *caller;
	int thread;
	uint64_t since_ns;

	atomic_uint state;
	struct member *next; /* In the chain of those who wait, or of those who ran. */
	/* Written by who runs it or finishes its batch, before the state that tells. */
	struct batch *batch;
	uint64_t bound_ns; /* RAN: it does not leave before. */
	enum pp_status status;
	bool undone; /* By others; error says why. */
	struct pp_error error;
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

static void dequeue(struct pp_pool *pool, struct member *m, uint64_t now)
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
static void tell(struct member *m, enum state state)
{
	atomic_store(&m->state, state);
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

static void lead_pass(struct pp_pool *pool)
{
	struct group *group = &pool->group;
	struct member *next = group->head;

	group->led = next != NULL;
	if (next == NULL)
		return;
	dequeue(pool, next, clock_ns());
	tell(next, LEADING);
}

static void ran_remove(struct batch *b, struct member *m)
{
	struct member **link = &b->ran;

	while (*link != m)
		link = &(*link)->next;
	*link = m->next;
}

static void doom(struct batch *b, struct pp_cause cause)
{
	if (!b->doomed)
		b->cause = cause;
	b->doomed = true;
}

/* Whoever it is run again by will read why. Also without the mutex, by whose the member is. */
static void undo(struct member *m, const struct pp_cause *cause)
{
	m->undone = true;
	m->status = error_set(&m->error, PP_ROLLED_BACK, "group", "undone with its group: %s: %s",
	                      cause->doing, cause->message);
	m->error.sqlite_code = cause->sqlite_code;
}

static struct batch *batch_of(struct pp_pool *pool, const struct slot *slot)
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
	b = batch_of(pool, slot);
	pthread_mutex_lock(&pool->group.mutex);
	if (atomic_exchange(&b->leads, false)) {
		if (!b->sealed)
			doom(b, cause);
		for (m = b->ran; m != NULL; m = next) {
			next = m->next;
			undo(m, &cause);
			atomic_fetch_sub(&pool->group.waiting, 1);
			tell(m, DONE);
		}
		b->ran = NULL;
		lead_pass(pool);
	}
	pthread_mutex_unlock(&pool->group.mutex);
}

/* --- Waiting ------------------------------------------------------------------------------- */

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
			dequeue(pool, m, clock_ns());
		} else {
			ran_remove(m->batch, m);
			doom(m->batch, cause);
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
static unsigned await(struct pp_pool *pool, struct member *m)
{
	for (;;) {
		unsigned state = atomic_fetch_and(&m->state, ~(unsigned)POKED) & ~(unsigned)POKED;
		uint64_t until;

		if (state == LEADING || state == RUNNING || state == DONE)
			return state;
		until = patience_ns(&pool->group, m, state);
		if (until == UINT64_MAX || clock_ns() < until) {
			clock_park(&m->state, state, until);
		} else if (state != CARRIED && leave(pool, m, state)) {
			explain_leaving(pool, m, state);
			return DONE;
		}
	}
}

/* --- With the baton ------------------------------------------------------------------------ */

static enum pp_status check_foreign_keys(struct connection *c, struct pp_error *error)
{
	int outstanding = 0, highest;

	sqlite3_db_status(c->db, SQLITE_DBSTATUS_DEFERRED_FKS, &outstanding, &highest, 0);
	if (outstanding == 0)
		return PP_OK;
	return error_code(error_set(error, PP_SQLITE, "COMMIT", "FOREIGN KEY constraint failed"),
	                  error, SQLITE_CONSTRAINT_FOREIGNKEY, 0);
}

/* The work was done. What COMMIT would say about it is said now, when it can still be undone by
 * itself. */
static enum pp_status accept(struct connection *c, bool watched, struct pp_error *error)
{
	enum pp_status status;

	if (!watched) {
		c->dead = true; /* Nobody knows what he did. */
		return error_set(error, PP_MISUSE, "work",
		                 "the callback replaced the commit or the rollback hook");
	}
	if (connection_stop(c, clock_ns()) != STOP_NOT)
		return connection_stopped(c, "commit", error);
	status = check_foreign_keys(c, error);
	return status == PP_OK && c->depth > 1 ? transaction_commit(c, error) : status;
}

static enum pp_status run_level(struct batch *b, struct connection *c, struct member *m)
{
	struct account *account = atomic_load(&c->account);
	enum pp_status status = transaction_begin(c, &m->error);
	unsigned depth = c->depth;
	bool watched;

	if (status != PP_OK) {
		b->full = c->depth == 0; /* BEGIN: who comes next may have another writer. */
		return memory_explain(status, account, &m->error);
	}
	if (depth == 1) /* Another process' lock may have been waited for. */
		b->until_ns = clock_ns() + c->pool->group.take_ns;
	status = transaction_work(&b->lease, m->work, m->context, &m->error);
	if (status == PP_FORKED)
		return status;
	if (status == PP_OK && transaction_is_dead(c))
		status = transaction_commit(c, &m->error); /* It says why not. */
	watched = connection_pass(c);
	if (status == PP_OK)
		status = accept(c, watched, &m->error);
	else if (!watched)
		c->dead = true;
	status = memory_explain(status, account, &m->error);
	if (status != PP_OK && c->depth >= depth)
		transaction_undo(c, depth);
	return status;
}

/* SQLite is called here and in finish() only. */
static void run(struct batch *b, struct member *m)
{
	struct pp_pool *pool = b->lease.pool;
	struct connection *c = &((struct slot *)b->lease.slot)->connection;

	lease_hand_over(&b->lease, m->options->deadline.token, m->caller);
	c->deadline_ns = m->options->deadline.ns;
	account_transaction_begin(atomic_load(&c->account), m->options->bytes_max);
	m->status = run_level(b, c, m);
	if (m->status == PP_FORKED)
		return;
	account_transaction_end(atomic_load(&c->account));
	if (m->status != PP_OK)
		error_pool(&m->error, pool);
	/* What a member changed for good goes with the connection, before it is another's. */
	b->full |= c->dirty != 0 || c->discard;
}

/* --- Passing it on; the mutex is held ------------------------------------------------------- */

/* The member that has just run waits for the commit, or is through. */
static void member_settle(struct pp_pool *pool, struct batch *b, struct member *m)
{
	if (m->status != PP_OK || b->doomed) {
		if (m->status == PP_OK)
			undo(m, &b->cause);
		tell(m, DONE);
		return;
	}
	if (m->options->deadline.ns < b->deadline_ns)
		b->deadline_ns = m->options->deadline.ns;
	m->batch = b;
	m->bound_ns = b->until_ns;
	m->next = b->ran;
	b->ran = m;
	atomic_fetch_add(&pool->group.waiting, 1);
	atomic_store(&m->state, RAN); /* It looks again by itself when its deadline passes. */
}

/* Nobody is taken any more, and nobody leaves. */
static void seal(struct pp_pool *pool, struct batch *b)
{
	for (struct member *m = b->ran; m != NULL; m = m->next) {
		atomic_fetch_sub(&pool->group.waiting, 1);
		atomic_store(&m->state, COMMITTING);
	}
	b->sealed = true;
	b->committing = b->ran;
	b->ran = NULL;
}

/* NULL: the batch is sealed. */
static struct member *next_take(struct pp_pool *pool, struct batch *b)
{
	struct group *group = &pool->group;
	struct member *next = group->head;
	uint64_t now;

	b->full |= b->doomed || b->count == group->take_max;
	if (next == NULL || b->full || (now = clock_ns()) >= b->until_ns) {
		seal(pool, b);
		return NULL;
	}
	dequeue(pool, next, now);
	b->count++;
	next->batch = b;
	return next;
}

enum then { THEN_RUN, THEN_FINISH, THEN_SLEEP };

/* m has run. What this thread does now, and with whom. */
static enum then pass(struct pp_pool *pool, struct batch *b, struct member *m,
                      struct member **ret_next)
{
	struct connection *c = &((struct slot *)b->lease.slot)->connection;
	struct pp_cause cause = { .doing = "work" };
	enum then then = THEN_FINISH;
	struct member *next;

	/* The transaction is gone, or the connection no longer one to commit on. */
	bool lost = c->depth > 0 && (transaction_is_dead(c) || c->discard);

	if (lost)
		cause = error_cause(&m->error);
	pthread_mutex_lock(&pool->group.mutex);
	if (lost)
		doom(b, cause);
	member_settle(pool, b, m);
	if (!b->full && pool->group.head == NULL && pool->group.inside > b->count) {
		/* Those of the group before are on their way back: woken, and not yet here. To let
		 * them run once costs less than a commit of their own. */
		pthread_mutex_unlock(&pool->group.mutex);
		sched_yield();
		pthread_mutex_lock(&pool->group.mutex);
	}
	next = next_take(pool, b);
	if (next != NULL) {
		then = next->options->any_thread ? THEN_RUN : THEN_SLEEP;
		if (then == THEN_SLEEP)
			lease_part(&b->lease, next->thread);
		atomic_store(&next->state, then == THEN_RUN ? CARRIED : RUNNING);
	}
	pthread_mutex_unlock(&pool->group.mutex);
	if (then == THEN_SLEEP)
		clock_unpark(&next->state);
	*ret_next = next;
	return then;
}

/* Nobody else is in the batch. The transaction is over afterwards. */
static enum pp_status commit(struct batch *b, struct connection *c, struct pp_error *error)
{
	uint64_t at_least = clock_ns() + COMMIT_NS;
	enum pp_status status;

	/* Nobody's token and nobody's interruption: a commit is not taken back. */
	lease_hand_over(&b->lease, NULL, b->committing->caller);
	c->deadline_ns = b->deadline_ns > at_least ? b->deadline_ns : at_least;
	status = transaction_commit(c, error);
	status = memory_explain(status, atomic_load(&c->account), error);
	if (status != PP_OK)
		error_pool(error, c->pool);
	return status;
}

/* Rounded up to a power of two: 1, 2, 4 ... */
static unsigned size_class(unsigned writes)
{
	return writes == 1 ? 0 : 32 - (unsigned)__builtin_clz(writes - 1);
}

static void book(struct pp_pool *pool, const struct member *ran, enum pp_status status)
{
	unsigned writes = 0;

	for (; ran != NULL; ran = ran->next)
		writes++;
	PROBE_GROUP(pool, writes, status);
	if (status != PP_OK || writes == 0)
		return;
	atomic_fetch_add_explicit(&pool->counters.writes, writes, memory_order_relaxed);
	count(&pool->counters.groups);
	count(&pool->counters.group_sizes[size_class(writes)]);
}

/* Each has its result, and is gone. */
static void tell_all(struct member *ran, const struct pp_cause *undone, enum pp_status status,
                     const struct pp_error *error)
{
	for (struct member *m = ran, *next; m != NULL; m = next) {
		next = m->next;
		m->status = status;
		if (undone != NULL)
			undo(m, undone);
		else if (status != PP_OK)
			m->error = *error;
		tell(m, DONE);
	}
}

/* A commit that fails dooms those who shared it. Of one that was alone the failure is his own, and
 * what is committed into a lost file is not run again. */
static void finish(struct pp_pool *pool, struct batch *b)
{
	struct connection *c = &((struct slot *)b->lease.slot)->connection;
	struct member *ran = b->committing;
	enum pp_status status = PP_OK;
	struct pp_error error;
	struct pp_cause cause;
	bool doomed, leads;

	if (ran != NULL && !b->doomed)
		status = commit(b, c, &error);
	else if (c->depth > 0)
		transaction_undo(c, 1);
	if (status != PP_OK && status != PP_FILE_CHANGED && ran->next != NULL)
		doom(b, error_cause(&error));
	doomed = b->doomed;
	cause = b->cause;
	leads = atomic_exchange(&b->leads, false);
	lease_release(&b->lease); /* From here on the batch may be another one's. */
	if (leads) {
		pthread_mutex_lock(&pool->group.mutex);
		lead_pass(pool);
		pthread_mutex_unlock(&pool->group.mutex);
	}
	book(pool, ran, doomed ? PP_ROLLED_BACK : status);
	tell_all(ran, doomed ? &cause : NULL, status, &error);
}

/* This thread has the baton, for m. */
static void carry(struct pp_pool *pool, struct batch *b, struct member *m)
{
	enum then then = THEN_RUN;

	while (then == THEN_RUN) {
		run(b, m);
		if (pool_forked(pool))
			return; /* The callback returned in a child: nothing here is its. */
		then = pass(pool, b, m, &m);
	}
	if (then == THEN_FINISH)
		finish(pool, b);
}

/* --- A member's way ------------------------------------------------------------------------ */

static struct batch *batch_begin(struct pp_pool *pool, const struct pp_lease *lease)
{
	struct batch *b = batch_of(pool, lease->slot);

	b->lease = *lease;
	b->ran = b->committing = NULL;
	b->count = 1;
	b->until_ns = UINT64_MAX;
	b->deadline_ns = UINT64_MAX;
	b->full = b->sealed = b->doomed = false;
	atomic_store(&b->leads, true);
	return b;
}

static void lead(struct pp_pool *pool, struct member *m)
{
	struct batch *b = NULL;
	struct pp_lease lease;

	m->status =
		lease_acquire(pool, PP_WRITE, m->options->deadline, m->caller, &lease, &m->error);
	pthread_mutex_lock(&pool->group.mutex);
	if (m->status == PP_OK) {
		b = batch_begin(pool, &lease);
		atomic_store(&m->state, RUNNING);
	} else {
		lead_pass(pool);
		atomic_store(&m->state, DONE);
	}
	pthread_mutex_unlock(&pool->group.mutex);
	if (b != NULL)
		carry(pool, b, m);
}

static enum pp_status enter(struct pp_pool *pool, struct member *m)
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

/* As one of a group. */
static enum pp_status group_attempt(struct pp_pool *pool, const struct pp_transaction *options,
                                    void *caller, pp_work *work, void *context,
                                    struct pp_error *error)
{
	struct member m = {
		.options = options, .work = work, .context = context, .caller = caller
	};
	enum state state;
	enum pp_status status;

	/* The line knows who waits for whom, and this thread may be waited for. */
	if (lease_is_mine(pool))
		return transaction_attempt(pool, options, caller, work, context, error);
	m.thread = thread_number();
	m.since_ns = clock_ns();
	status = enter(pool, &m);
	if (status != PP_OK) {
		*error = m.error;
		return status;
	}
	while ((state = await(pool, &m)) != DONE) {
		if (state == LEADING) {
			lead(pool, &m);
		} else {
			lease_join();
			carry(pool, m.batch, &m);
		}
		if (pool_forked(pool))
			return error_set(error, PP_FORKED, "work",
			                 "this is a child of the process");
	}
	if (m.undone) {
		count(&pool->counters.reruns);
		status = transaction_attempt(pool, options, caller, work, context, error);
		if (status != PP_OK)
			error_chain(error, &m.error);
		return status;
	}
	if (m.status != PP_OK)
		*error = m.error;
	return m.status;
}

/* The callback, and what it did. */
struct measured {
	pp_work *work;
	void *context;
	struct pp_written written;
};

static enum pp_status measure(struct pp_lease *lease, void *context)
{
	struct measured *m = context;
	struct pp_pool *pool = lease->pool;
	sqlite3 *db = lease->db;
	int64_t before = sqlite3_total_changes64(db);
	enum pp_status status = m->work(lease, m->context);

	if (status == PP_OK && !pool_forked(pool))
		m->written =
			(struct pp_written){ .last_insert_rowid = sqlite3_last_insert_rowid(db),
			                     .changes = sqlite3_total_changes64(db) - before };
	return status;
}

enum pp_status pp_write(struct pp_pool *pool, const struct pp_transaction *options, pp_work *work,
                        void *context, struct pp_written *ret_written,
                        struct pp_error *reterr_error)
{
	struct measured m = { .work = work, .context = context };
	struct pp_transaction o;
	enum pp_status status;

	assert(work != NULL);
	status = transaction_options(pool, options, "write", &o, reterr_error);
	if (status != PP_OK)
		return status;
	if (o.lane != PP_WRITE)
		return error_set(reterr_error, PP_INVALID, "write", "lane must be PP_WRITE");
	group_enter(pool);
	status = transaction_run(pool, &o, group_attempt, __builtin_return_address(0), measure, &m,
	                         reterr_error);
	if (status == PP_FORKED)
		return status;
	group_exit(pool);
	if (status == PP_OK && ret_written != NULL)
		*ret_written = m.written;
	return status;
}

/* --- Calls under way, closing, invariants
 * ---------------------------------------------------------------- */

void group_enter(struct pp_pool *pool)
{
	pthread_mutex_lock(&pool->group.mutex);
	pool->group.inside++;
	pthread_mutex_unlock(&pool->group.mutex);
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
