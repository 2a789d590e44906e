/*
 * transaction.c - begin, commit, roll back, nest; and the whole of it around a callback.
 *
 * To know before reading: SQLite may end a transaction by itself (a full disk, an interrupt, ON
 * CONFLICT ROLLBACK), and a borrower may by a ROLLBACK of his own. Two things tell: autocommit is
 * on again, or the rollback hook's counter has moved since the outermost begin (he may have begun
 * another one). The transaction is then dead: every commit of it fails, whatever SQLite answers.
 */
/* SPDX-License-Identifier: MIT */
#include "internal.h"
#include "point.h"
#include "probes.h"

#include <assert.h>
#include <stdio.h>

enum {
	ATTEMPTS_DEFAULT = 10,
	ATTEMPTS_MAX = 1000,
	ATTEMPTS_UNDER_PRESSURE = 2, /* When memory is short: trying again takes more of it. */
	BACKOFF_NS_MIN = 1000000,    /* 1 ms, doubled by every attempt ... */
	BACKOFF_NS_MAX = 100000000   /* ... up to 100 ms. */
};

/* --- One level --------------------------------------------------------------------------- */

/* A borrower's authorizer has it prepared again. */
static int step(struct connection *c, sqlite3_stmt *stmt)
{
	int rc, reset;

	c->own = true;
	rc = sqlite3_step(stmt);
	c->own = false;
	reset = sqlite3_reset(stmt);
	return rc == SQLITE_DONE ? SQLITE_OK : reset != SQLITE_OK ? reset : rc;
}

/* SAVEPOINT, RELEASE or ROLLBACK TO of the level depth, from the cache. A borrower cannot guess the
 * name: with one of his own of that name a ROLLBACK TO would undo too little. */
static int savepoint(struct connection *c, const char *verb, unsigned depth, struct pp_error *error)
{
	char sql[64];
	sqlite3_stmt *stmt;
	enum pp_status status;
	int rc;

	snprintf(sql, sizeof sql, "%s pp_%016llx_%u", verb, (unsigned long long)c->salt, depth);
	c->own = true;
	status = statement_take(c, sql, &stmt, error);
	c->own = false;
	if (status != PP_OK)
		return status == PP_NOMEM ? SQLITE_NOMEM : sqlite3_extended_errcode(c->db);
	rc = step(c, stmt);
	if (rc != SQLITE_OK)
		error_sqlite(error, c->db, rc, verb, sql);
	return rc;
}

bool transaction_is_dead(struct connection *c)
{
	if (sqlite3_get_autocommit(c->db) || c->rollbacks != c->rollbacks_at_begin)
		c->dead = true;
	return c->dead;
}

static enum pp_status roll_back_all(struct connection *c, struct pp_error *error)
{
	int rc = SQLITE_OK;

	if (!sqlite3_get_autocommit(c->db)) {
		POINT(ROLLBACK);
		rc = step(c, c->rollback);
	}
	c->dead = true;
	return rc == SQLITE_OK ? PP_OK : error_sqlite(error, c->db, rc, "ROLLBACK", NULL);
}

/* Counted once a transaction, when its outermost level ends. */
static void book_end(struct connection *c, bool committed, bool lost)
{
	struct counters *counters = &c->pool->counters;

	if (committed)
		count(&counters->commits);
	else
		count(&counters->rollbacks);
	if (lost)
		count(&counters->lost);
}

/* In the order of the processes that wait, where there are others. */
static int begin_in_turn(struct connection *c)
{
	bool turn = turn_take(c);
	int rc = step(c, c->begin);

	if (turn)
		turn_give(c);
	return rc;
}

/* BEGIN alone leaves a reader's snapshot to its first SELECT: what is waited for, and what can
 * fail, would then be met in the middle of the borrower's work. */
static int begin_snapshot(struct connection *c)
{
	int rc = step(c, c->begin);

	return rc == SQLITE_OK ? step(c, c->snapshot) : rc;
}

static enum pp_status begin_failed(struct connection *c, int rc, struct pp_error *error)
{
	enum pp_status status =
		c->stopped != STOP_NOT
			? connection_stopped(c, connection_begin_sql(c), error)
			: error_sqlite(error, c->db, rc, connection_begin_sql(c), NULL);

	/* A WAL that could be opened for reading only, for a moment, is so for good. */
	c->discard |= pp_class_of(rc) == PP_DISCARD_CONNECTION || (rc & 0xff) == SQLITE_READONLY;
	/* Without its snapshot; and ROLLBACK makes SQLite forget what it said. */
	roll_back_all(c, NULL);
	return status;
}

static enum pp_status begin_level(struct connection *c, bool ends_here, struct pp_error *error)
{
	enum pp_status status;
	int rc;

	if (c->depth > 0) {
		if (transaction_is_dead(c))
			return error_set(error, PP_ROLLED_BACK, "begin",
			                 "the transaction around this one is over");
		rc = savepoint(c, "SAVEPOINT", c->depth, error);
		if (rc != SQLITE_OK)
			return (rc & 0xff) == SQLITE_NOMEM ? PP_NOMEM : PP_SQLITE;
		c->depth++;
		return PP_OK;
	}
	if (!sqlite3_get_autocommit(c->db))
		return error_set(error, PP_MISUSE, "begin",
		                 "a transaction is open that pp_begin() did not begin");
	if (c->lane == PP_WRITE && !(ends_here && health_looked(c->pool)) &&
	    (status = connection_look(c, error)) != PP_OK)
		return status;
	POINT(BEGIN);
	rc = c->lane == PP_WRITE ? begin_in_turn(c) : begin_snapshot(c);
	if (rc != SQLITE_OK)
		return begin_failed(c, rc, error);
	POINT(BEGUN);
	connection_watch(c);
	c->depth = 1;
	c->dead = false;
	c->rollbacks_at_begin = c->rollbacks;
	return PP_OK;
}

static bool is_error(int code)
{
	return code != SQLITE_OK && code != SQLITE_ROW && code != SQLITE_DONE;
}

static enum pp_status commit_dead(struct connection *c, struct pp_error *error)
{
	int code = sqlite3_extended_errcode(c->db);

	error_set(error, PP_ROLLED_BACK, "commit", "%s",
	          is_error(code)
	                  ? sqlite3_errmsg(c->db)
	                  : "a ROLLBACK, a COMMIT or an error inside the transaction ended it");
	if (is_error(code))
		error_code(PP_ROLLED_BACK, error, code, sqlite3_system_errno(c->db));
	roll_back_all(c, NULL);
	if (--c->depth == 0)
		book_end(c, false, true);
	return PP_ROLLED_BACK;
}

static enum pp_status commit_failed(struct connection *c, enum pp_status status)
{
	c->depth = 0;
	roll_back_all(c, NULL);
	book_end(c, false, false);
	return status;
}

static enum pp_status commit_outermost(struct connection *c, struct pp_error *error)
{
	bool write = c->lane == PP_WRITE;
	uint64_t start = write ? clock_ns() : 0; /* What was read in time is not late by now. */
	int rc;

	if (connection_stop(c, start) != STOP_NOT)
		return commit_failed(c, connection_stopped(c, "commit", error));
	c->committing = true;
	POINT(COMMIT);
	rc = step(c, c->commit);
	c->committing = false;
	if (rc != SQLITE_OK) {
		/* The first error is the one to tell; the rollback's own is not. */
		enum pp_status status = error_sqlite(error, c->db, rc, "COMMIT", NULL);

		c->discard |= pp_class_of(rc) == PP_DISCARD_CONNECTION;
		return commit_failed(c, status);
	}
	POINT(COMMITTED);
	c->depth = 0;
	if (write) /* A reader's end is none that anybody waits for. */
		histogram_note(c->pool, PP_HISTOGRAM_COMMIT, clock_ns() - start);
	/* SQLite commits into a file that is no longer there. */
	if (write && !glance_is_same(c->pool) && connection_file(c, error) != PP_OK) {
		book_end(c, false, true);
		return PP_FILE_CHANGED;
	}
	book_end(c, true, false);
	return PP_OK;
}

static enum pp_status commit_level(struct connection *c, struct pp_error *error)
{
	int rc;

	if (c->depth == 0)
		return error_set(error, PP_MISUSE, "commit", "nothing was begun");
	if (transaction_is_dead(c))
		return commit_dead(c, error);
	if (c->depth == 1)
		return commit_outermost(c, error);
	c->depth--;
	rc = savepoint(c, "RELEASE", c->depth, error);
	if (rc == SQLITE_OK)
		return PP_OK;
	/* Neither kept nor undone: only the whole can still be undone. */
	roll_back_all(c, NULL);
	return (rc & 0xff) == SQLITE_NOMEM ? PP_NOMEM : PP_SQLITE;
}

/* More is undone than was asked for, and nothing is kept by mistake. Where memory was short, that
 * is told at once: what the borrower does next would fail for a reason that says nothing. */
static enum pp_status roll_back_around(struct connection *c, int rc, struct pp_error *error)
{
	enum pp_status status = roll_back_all(c, error);

	if (status == PP_OK && (rc & 0xff) == SQLITE_NOMEM)
		status = error_sqlite(error, NULL, rc, "ROLLBACK TO", NULL);
	return status;
}

static enum pp_status rollback_level(struct connection *c, struct pp_error *error)
{
	bool dead;
	int rc;

	if (c->depth == 0)
		return error_set(error, PP_MISUSE, "rollback", "nothing was begun");
	dead = transaction_is_dead(c);
	c->depth--;
	if (c->depth == 0) {
		enum pp_status status = roll_back_all(c, error);

		book_end(c, false, dead);
		return status;
	}
	if (dead)
		return PP_OK;
	rc = savepoint(c, "ROLLBACK TO", c->depth, NULL);
	if (rc == SQLITE_OK)
		rc = savepoint(c, "RELEASE", c->depth, NULL);
	return rc == SQLITE_OK ? PP_OK : roll_back_around(c, rc, error);
}

/* --- The public three -------------------------------------------------------------------- */

/* Each level of each transaction begins and ends here. */
enum pp_status transaction_begin(struct connection *c, bool ends_here, struct pp_error *error)
{
	enum pp_status status = begin_level(c, ends_here, error);

	PROBE_BEGIN(c->pool, c->depth, status);
	return status;
}

enum pp_status transaction_commit(struct connection *c, struct pp_error *error)
{
	unsigned depth = c->depth;
	enum pp_status status = commit_level(c, error);

	PROBE_COMMIT(c->pool, depth, status);
	return status;
}

enum pp_status transaction_rollback(struct connection *c, struct pp_error *error)
{
	unsigned depth = c->depth;
	enum pp_status status = rollback_level(c, error);

	PROBE_ROLLBACK(c->pool, depth, status);
	return status;
}

/* Its commit is the borrower's, or nobody's. */
static enum pp_status begin_only(struct connection *c, struct pp_error *error)
{
	return transaction_begin(c, false, error);
}

static enum pp_status on_lease(struct pp_lease *lease, const char *doing,
                               enum pp_status (*act)(struct connection *, struct pp_error *),
                               struct pp_error *error)
{
	struct slot *slot = lease_slot(lease);

	if (slot == NULL)
		return lease_refused(lease, doing, error);
	/* What pp_transact() began it also ends. */
	if (slot->connection.at_work > 0 && slot->connection.depth == slot->connection.at_work &&
	    act != begin_only)
		return error_set(error, PP_MISUSE, doing, "pp_transact() ends this transaction");
	return act(&slot->connection, error);
}

enum pp_status pp_begin(struct pp_lease *lease, struct pp_error *error)
{
	return on_lease(lease, "begin", begin_only, error);
}

enum pp_status pp_commit(struct pp_lease *lease, struct pp_error *error)
{
	return on_lease(lease, "commit", transaction_commit, error);
}

enum pp_status pp_rollback(struct pp_lease *lease, struct pp_error *error)
{
	return on_lease(lease, "rollback", transaction_rollback, error);
}

/* --- A whole transaction ----------------------------------------------------------------- */

/* The transactions this thread is inside of, innermost first. */
struct frame {
	const struct pp_pool *pool;
	struct frame *outer;
	bool stays; /* The closer waits for it. */
};

_Thread_local struct frame *transaction_frames __attribute__((tls_model("initial-exec")));

bool transaction_has_frame(const struct pp_pool *pool)
{
	for (const struct frame *f = transaction_frames; f != NULL; f = f->outer)
		if (f->pool == pool)
			return true;
	return false;
}

/* What SQLite said last is the reason, where the callback says that it was SQLite. */
static enum pp_status work_failed(struct connection *c, enum pp_status status,
                                  struct pp_error *error)
{
	int code = sqlite3_extended_errcode(c->db);

	c->discard |= pp_class_of(code) == PP_DISCARD_CONNECTION;
	if (c->stopped != STOP_NOT && status == PP_SQLITE)
		return connection_stopped(c, "work", error);
	if (status == PP_SQLITE && is_error(code))
		return error_sqlite(error, c->db, code, "work", NULL);
	return error_set(error, status, "work", "%s", pp_status_text(status));
}

enum pp_status transaction_work(struct pp_lease *lease, pp_work *work, void *context,
                                struct pp_error *error)
{
	struct connection *c = &lease_slot(lease)->connection;
	unsigned level = c->depth;
	enum pp_status status;

	c->at_work = level;
	status = work(lease, context);
	if (pool_forked(c->pool)) /* The callback returned in a child. */
		return error_set(error, PP_FORKED, "work", "this is a child of the process");
	c->at_work = 0;
	if (status != PP_OK)
		return work_failed(c, status, error);
	if (c->depth > level)
		return error_set(error, PP_MISUSE, "work",
		                 "the callback left %u of its pp_begin() open", c->depth - level);
	return PP_OK;
}

void transaction_undo(struct connection *c, unsigned depth)
{
	account_transaction_end(atomic_load(&c->account)); /* Undoing is not limited. */
	c->depth = depth; /* What the callback left open goes with the whole. */
	transaction_rollback(c, NULL);
}

/* What SQLite failed at in a file that is lost. It may have been looked at just before it was. */
enum pp_status transaction_explain(struct connection *c, enum pp_status status,
                                   struct pp_error *error)
{
	enum pp_status lost = PP_OK;

	if (status == PP_SQLITE && c->lane == PP_WRITE)
		lost = connection_file(c, error);
	return lost != PP_OK ? lost : status;
}

static enum pp_status work_and_end(struct pp_lease *lease, pp_work *work, void *context,
                                   struct pp_error *error)
{
	struct connection *c = &lease_slot(lease)->connection;
	enum pp_status status = transaction_work(lease, work, context, error);

	if (status == PP_OK)
		return transaction_commit(c, error);
	if (!pool_forked(c->pool))
		transaction_undo(c, 1);
	return status;
}

static bool worth_again(const struct pp_error *error)
{
	return (error->status == PP_SQLITE) && (error->error_class == PP_RETRY_TRANSACTION ||
	                                        error->error_class == PP_RETRY_STATEMENT);
}

/* Who may try again has no lease until then, and the closer waits for him: he is not to find
 * another pool in its row. */
static void stay(struct pp_pool *pool, const struct pp_error *error)
{
	if (transaction_frames->stays || !worth_again(error))
		return;
	group_enter(pool);
	transaction_frames->stays = true;
}

enum pp_status transaction_attempt(struct pp_pool *pool, const struct pp_transaction *options,
                                   void *caller, pp_work *work, void *context,
                                   struct pp_error *error)
{
	struct pp_lease lease = { 0 };
	struct connection *c;
	enum pp_status status =
		lease_acquire(pool, options->lane, options->deadline, caller, &lease, error);

	if (status != PP_OK) {
		stay(pool, error);
		return status;
	}
	c = &lease_slot(&lease)->connection;
	c->deadline_ns = options->deadline.ns;
	account_transaction_begin(atomic_load(&c->account), options->bytes_max);
	status = transaction_begin(c, true, error);
	if (status == PP_OK)
		status = work_and_end(&lease, work, context, error);
	if (pool_forked(pool))
		return status; /* Nothing here is this process'. */
	status = transaction_explain(c, status, error);
	status = memory_explain(status, atomic_load(&c->account), error);
	account_transaction_end(atomic_load(&c->account));
	if (status != PP_OK) {
		error_pool(error, pool);
		stay(pool, error);
	}
	lease_release(&lease);
	return status;
}

/* Exponential, and somewhere in its upper half, so that two losers do not meet again. */
static uint64_t backoff_ns(unsigned attempts)
{
	uint64_t full = BACKOFF_NS_MAX, random;

	if (attempts < 7)
		full = (uint64_t)BACKOFF_NS_MIN << attempts;
	sqlite3_randomness(sizeof random, &random);
	return full / 2 + random % (full / 2);
}

/* How long to pause before the next attempt; 0: there is none. */
static uint64_t pause_ns(const struct pp_pool *pool, const struct pp_transaction *options,
                         unsigned attempts, const struct pp_error *error)
{
	bool pressure = atomic_load_explicit(&pool->pressure, memory_order_relaxed);
	uint64_t pause = backoff_ns(attempts), now = clock_ns();

	if (attempts >= options->attempts_max || !worth_again(error) ||
	    (pressure && attempts >= ATTEMPTS_UNDER_PRESSURE) || now >= options->deadline.ns ||
	    pause >= options->deadline.ns - now)
		return 0;
	return pause;
}

enum pp_status transaction_run(struct pp_pool *pool, const struct pp_transaction *options,
                               attempt_fn *first, void *caller, pp_work *work, void *context,
                               struct pp_error *reterr_error)
{
	struct frame frame = { .pool = pool, .outer = transaction_frames };
	struct pp_error error, before;
	uint64_t start = clock_ns(), pause;
	unsigned n = 1;
	enum pp_status status;

	before.doing = NULL; /* Nothing failed yet; the rest of it, a kilobyte, is not read. */
	transaction_frames = &frame;
	for (;; n++) {
		status = (n == 1 ? first : transaction_attempt)(pool, options, caller, work,
		                                                context, &error);
		if (status == PP_OK)
			break;
		error_chain(&error, &before);
		error.attempt = n;
		pause = pause_ns(pool, options, n, &error);
		if (pause == 0)
			break;
		before = error;
		count(&pool->counters.retries);
		PROBE_RETRY(pool, n, error.sqlite_code);
		POINT(RETRY);
		group_pause(pool, pause, options->deadline.token);
	}
	if (frame.stays && !pool_forked(pool))
		group_exit(pool);
	transaction_frames = frame.outer;
	start = clock_ns() - start;
	if (!pool_forked(pool))
		histogram_note(pool, PP_HISTOGRAM_TRANSACTION, start);
	if (status != PP_OK && reterr_error != NULL) {
		*reterr_error = error;
		reterr_error->elapsed_ns = start;
	}
	return status;
}

enum pp_status transaction_options(struct pp_pool *pool, const struct pp_transaction *given,
                                   const char *doing, struct pp_transaction *ret_options,
                                   struct pp_error *error)
{
	struct pp_transaction o = given != NULL ? *given : (struct pp_transaction){ 0 };

	if (pool_forked(pool))
		return error_set(error, PP_FORKED, doing, "open a pool in this process");
	o.lane = o.lane != 0 ? o.lane : PP_WRITE;
	o.attempts_max = o.attempts_max != 0 ? o.attempts_max : ATTEMPTS_DEFAULT;
	o.deadline = deadline_fix(pool, o.deadline);
	if (o.attempts_max > ATTEMPTS_MAX || (o.lane != PP_READ && o.lane != PP_WRITE))
		return error_set(error, PP_INVALID, doing,
		                 "attempts_max %u must be 1..%u and lane %d PP_READ or PP_WRITE",
		                 o.attempts_max, ATTEMPTS_MAX, (int)o.lane);
	if (o.bytes_max > 0 && memory_accounting() == PP_ACCOUNTING_OFF)
		return error_set(error, PP_INVALID, doing,
		                 "bytes_max is %zu: there are no accounts; see pp_setup()",
		                 o.bytes_max);
	if (transaction_is_inside(pool))
		return error_set(error, PP_MISUSE, doing,
		                 "this thread is inside pp_transact() or pp_write() of the same "
		                 "pool");
	*ret_options = o;
	return PP_OK;
}

static enum pp_status transact(struct pp_pool *pool, const struct pp_transaction *options,
                               const char *doing, void *caller, pp_work *work, void *context,
                               struct pp_error *error)
{
	struct pp_transaction o;
	enum pp_status status;

	assert(work != NULL);
	status = transaction_options(pool, options, doing, &o, error);
	if (status != PP_OK)
		return status;
	return transaction_run(pool, &o, transaction_attempt, caller, work, context, error);
}

enum pp_status pp_transact(struct pp_pool *pool, const struct pp_transaction *options,
                           pp_work *work, void *context, struct pp_error *reterr_error)
{
	return transact(pool, options, "transact", __builtin_return_address(0), work, context,
	                reterr_error);
}

/* With its snapshot taken nothing is locked away from a reader: there is nothing to try again. */
enum pp_status pp_read(struct pp_pool *pool, const struct pp_transaction *options, pp_work *work,
                       void *context, struct pp_error *reterr_error)
{
	struct pp_transaction o = options != NULL ? *options : (struct pp_transaction){ 0 };

	if ((o.lane != 0 && o.lane != PP_READ) || o.attempts_max > 1)
		return error_set(reterr_error, PP_INVALID, "read",
		                 "lane %d must be 0 or PP_READ, attempts_max %u 0 or 1",
		                 (int)o.lane, o.attempts_max);
	o.lane = PP_READ;
	o.attempts_max = 1;
	return transact(pool, &o, "read", __builtin_return_address(0), work, context, reterr_error);
}
