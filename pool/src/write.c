/*
 * write.c - group commit: writes of several threads in one transaction.
 *
 * To know before reading, what group.c says of members and their states. Who comes when nobody
 * leads leads: he acquires the writer as anybody does, by the line, and with it begins a batch. In
 * it members run one after the other, the first one straight inside BEGIN IMMEDIATE and the others
 * in a savepoint each (the levels of transaction.c), until nobody waits any more or the batch has
 * its fill. Who has the baton takes the next one out of those who wait: a member with any_thread he
 * runs himself, to another one he hands the baton, and goes to sleep. Who finds nobody commits,
 * gives the writer back, tells the first of those who came meanwhile to lead, and wakes all whose
 * work has been committed.
 *
 * Whatever ends the transaction before its COMMIT (the rollback hook and autocommit tell), and a
 * COMMIT that fails, leaves no member acknowledged: each is run again by itself, as pp_transact()
 * does it, in its own thread.
 */
/* SPDX-License-Identifier: MIT */
#include "member.h"
#include "point.h"
#include "probes.h"

#include <assert.h>
#include <sched.h>

/* A commit gets as long, whatever the deadline of one of its members. */
enum { COMMIT_NS = 50000000 };

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
	enum pp_status status = transaction_begin(c, true, &m->error);
	unsigned depth = c->depth;
	bool watched;

	if (status != PP_OK) {
		b->full = c->depth == 0; /* BEGIN: who comes next may have another writer. */
		return memory_explain(status, account, &m->error);
	}
	if (depth == 1) /* Another process' lock may have been waited for. */
		b->until_ns = clock_ns() + c->pool->group.take_ns;
	status = transaction_work(&b->lease, m->work, m->context, &m->error);
	if (pool_forked(c->pool))
		return status;
	POINT(GROUP_RAN);
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
	return transaction_explain(c, status, &m->error);
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
	if (pool_forked(pool))
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
			member_undo(m, &b->cause);
		member_tell(m, DONE);
		return;
	}
	if (m->options->deadline.ns < b->deadline_ns)
		b->deadline_ns = m->options->deadline.ns;
	m->batch = b;
	m->bound_ns = b->until_ns;
	m->next = b->ran;
	b->ran = m;
	atomic_fetch_add(&pool->group.waiting, 1);
	/* It looks again by itself when its deadline passes. Where that is now, or its token was
	 * cancelled before it was published, its thread may have looked already and sleep. */
	atomic_store(&m->state, RAN);
	if (token_cancelled(m->options->deadline.token) || clock_ns() >= m->options->deadline.ns)
		clock_unpark(&m->state);
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
	group_dequeue(pool, next, now);
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
		batch_doom(b, cause);
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
	POINT(GROUP_COMMIT);
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
		POINT(GROUP_TELL);
		m->status = status;
		if (undone != NULL)
			member_undo(m, undone);
		else if (status != PP_OK)
			m->error = *error;
		member_tell(m, DONE);
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
		batch_doom(b, error_cause(&error));
	doomed = b->doomed;
	cause = b->cause;
	leads = atomic_exchange(&b->leads, false);
	lease_release(&b->lease); /* From here on the batch may be another one's. */
	if (leads) {
		pthread_mutex_lock(&pool->group.mutex);
		group_lead_pass(pool);
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
	struct batch *b = group_batch(pool, lease->slot);

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
		group_lead_pass(pool);
		atomic_store(&m->state, DONE);
	}
	pthread_mutex_unlock(&pool->group.mutex);
	if (b != NULL)
		carry(pool, b, m);
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
	POINT(GROUP_JOIN);
	status = member_enter(pool, &m);
	if (status != PP_OK) {
		*error = m.error;
		return status;
	}
	while ((state = member_await(pool, &m)) != DONE) {
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
	if (pool_forked(pool))
		return status;
	group_exit(pool);
	if (status == PP_OK && ret_written != NULL)
		*ret_written = m.written;
	return status;
}
