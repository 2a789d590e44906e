/*
 * planted.c - a small honest pool over SQLite, as a plug-in, until PLANTED names a fault of it.
 *
 *     PLANTED=lost_wakeup poolproof run concurrent_load --target build/release/peers/planted.so
 *
 * --readers connections to read and one to write, each lane with a line of waiters; a connection
 * that comes back is handed to the first of them. ci/planted runs scenarios on it and sees that
 * each fault is caught, and named. Wherever a fault is not certain to be met, it happens every
 * tenth time.
 */
/* SPDX-License-Identifier: MIT */
#include <poolproof/harness/target.h>

#include "statement.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define FAULTS(X)                                                                                  \
	X(nothing)                                                                                 \
	X(leak_heap)       /* 16 bytes, at open. */                                                \
	X(leak_fd)         /* One, at open. */                                                     \
	X(lost_wakeup)     /* A connection comes back and nobody who waits is told. */             \
	X(lend_twice)      /* Who should wait to write gets the connection that is lent. */        \
	X(drop_sync)       /* synchronous=OFF, whatever was asked for. */                          \
	X(forget_rollback) /* It commits instead. */                                               \
	X(forget_third)    /* A rollback after two that failed: it commits. */                     \
	X(hang_in_lend)                                                                            \
	X(hang_in_close)                                                                           \
	X(early_ack)          /* A commit is acknowledged now and done with the next statement. */ \
	X(false_error)        /* A commit is reported as failed. */                                \
	X(wrong_kind)         /* Nothing free in time is an error of SQL. */                       \
	X(close_under_holder) /* Close takes the connection from under its holder. */              \
	X(wrong_count)        /* The books say one more lent than there is. */

enum fault {
#define X(name) name,
	FAULTS(X)
#undef X
		FAULT_COUNT
};
static const char *const fault_names[] = {
#define X(name) #name,
	FAULTS(X)
#undef X
};

enum { READERS_MAX = 64, CLOSE_WAIT_S = 3 };

struct connection {
	sqlite3 *db;
	struct pool *pool;
	enum harness_access lane;
	unsigned holders;        /* One at most, if all is well. */
	unsigned level;          /* Of transactions begun by begin(). */
	unsigned undo_failed;    /* Rollbacks, one after the other. */
	bool owes;               /* A commit that was acknowledged. */
	atomic_bool gone;        /* Taken from under its holder. */
	struct connection *next; /* In the idle list. */
};

struct waiter {
	pthread_cond_t come;
	struct connection *got;
	struct waiter *next;
};

/* From mmap(), and kept for late-comers, who are refused. */
struct pool {
	enum fault planted;
	struct harness_target_options options;
	unsigned count;
	struct connection connections[READERS_MAX + 1];
	atomic_uint chances; /* To do the planted fault. */

	pthread_mutex_t mutex; /* All that follows, and holders. */
	pthread_cond_t all_back;
	struct connection *idle[2];
	struct waiter *waiting[2];
	unsigned lent_count, waiting_count;
	bool closing;    /* Nobody is lent one any more. */
	unsigned coming; /* Connections given to a waiter who has not run yet. */
	unsigned booked; /* lent_count once more, for check(). */
};

static void *volatile leaked;

static bool fires(struct pool *pool, enum fault fault)
{
	return pool->planted == fault && atomic_fetch_add(&pool->chances, 1) % 10 == 9;
}

static __attribute__((noinline)) void wait_for_ever(void)
{
	for (;;)
		pause();
}

/* NULL, of which SQLite says that it is misused: it is closed, but for what goes on in it. */
static sqlite3 *db_of(const struct connection *c)
{
	return atomic_load(&c->gone) ? NULL : c->db;
}

static bool exec(struct connection *c, const char *sql, struct harness_failure *f)
{
	sqlite3 *db = db_of(c);

	return sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK || sqlite_failed(db, f);
}

/* --- Open and close ----------------------------------------------------------------------- */

/* A rollback journal's end is durable with EXTRA only. */
static const char *synchronous_of(const struct pool *pool)
{
	const struct harness_target_options *o = &pool->options;

	if (pool->planted == drop_sync)
		return "OFF";
	return strcmp(o->synchronous, "FULL") == 0 && strcmp(o->journal_mode, "DELETE") == 0
	               ? "EXTRA"
	               : o->synchronous;
}

static bool connect_to(struct pool *pool, struct connection *c, const char *path,
                       struct harness_failure *f)
{
	char sql[160];

	snprintf(sql, sizeof sql, "PRAGMA journal_mode=%s; PRAGMA synchronous=%s",
	         pool->options.journal_mode, synchronous_of(pool));
	/* Serialised: what is lent twice is to be seen by what it does to transactions. */
	if (sqlite3_open_v2(path, &c->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_FULLMUTEX, NULL) !=
	    SQLITE_OK)
		return sqlite_failed(c->db, f);
	sqlite3_busy_timeout(c->db, (int)pool->options.timeout_ms);
	sqlite3_extended_result_codes(c->db, 1);
	c->pool = pool;
	c->next = pool->idle[c->lane];
	pool->idle[c->lane] = c;
	return exec(c, sql, f);
}

static void leak(enum fault planted)
{
	if (planted == leak_heap)
		leaked = malloc(16);
	leaked = NULL;
	if (planted == leak_fd)
		(void)!open("/dev/null", O_RDONLY | O_CLOEXEC);
}

static void disconnect(struct pool *pool, struct harness_residue *ret)
{
	struct harness_failure ignored;

	for (unsigned i = 0; i < pool->count; i++) {
		struct connection *c = &pool->connections[i];

		if (c->owes)
			exec(c, "COMMIT", &ignored);
		if (sqlite3_close(c->db) != SQLITE_OK)
			ret->connections += sqlite3_close_v2(c->db) == SQLITE_OK;
	}
}

static bool open_(const struct harness_target_options *options, void **ret,
                  struct harness_failure *f)
{
	const char *name = getenv("PLANTED") != NULL ? getenv("PLANTED") : "nothing";
	struct harness_residue none = { 0 };
	enum fault planted = 0;
	struct pool *pool;

	while (planted < FAULT_COUNT && strcmp(fault_names[planted], name) != 0)
		planted++;
	if (planted == FAULT_COUNT)
		return failed(f, HARNESS_FAILURE_OTHER, 0,
		              "PLANTED: planted.c knows no such fault");
	pool = mmap(NULL, sizeof *pool, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (pool == MAP_FAILED)
		return failed(f, HARNESS_FAILURE_OTHER, 0, "no memory for a pool");
	pool->planted = planted;
	pool->options = *options;
	pthread_mutex_init(&pool->mutex, NULL);
	pthread_cond_init(&pool->all_back, NULL);
	while (pool->count <= options->readers) {
		struct connection *c = &pool->connections[pool->count++];

		c->lane = pool->count == 1 ? HARNESS_WRITE : HARNESS_READ;
		if (connect_to(pool, c, options->path, f))
			continue;
		disconnect(pool, &none);
		return false;
	}
	leak(planted);
	*ret = pool;
	return true;
}

static struct timespec time_in_ns(clockid_t clock, uint64_t ns)
{
	struct timespec t;

	clock_gettime(clock, &t);
	if (ns > UINT64_C(1000000000000000)) /* For ever. */
		ns = UINT64_C(1000000000000000);
	t.tv_sec += (time_t)(ns / 1000000000);
	t.tv_nsec += (long)(ns % 1000000000);
	t.tv_sec += t.tv_nsec / 1000000000;
	t.tv_nsec %= 1000000000;
	return t;
}

static void close_(void *target, struct harness_residue *ret)
{
	struct timespec limit = time_in_ns(CLOCK_REALTIME, UINT64_C(1000000000) * CLOSE_WAIT_S);
	struct pool *pool = target;
	int rc = 0;

	*ret = (struct harness_residue){ 0 };
	if (pool == NULL)
		return;
	if (pool->planted == hang_in_close)
		wait_for_ever();
	pthread_mutex_lock(&pool->mutex);
	pool->closing = true;
	for (unsigned i = 0; i < pool->count; i++)
		atomic_store(&pool->connections[i].gone, pool->planted == close_under_holder);
	for (unsigned lane = 0; lane < 2; lane++)
		for (struct waiter *w = pool->waiting[lane]; w != NULL; w = w->next)
			pthread_cond_signal(&w->come);
	while (pool->lent_count + pool->coming > 0 && rc != ETIMEDOUT)
		rc = pthread_cond_timedwait(&pool->all_back, &pool->mutex, &limit);
	pthread_mutex_unlock(&pool->mutex);
	if (rc == ETIMEDOUT) { /* Nothing is taken from under a holder. */
		ret->connections = pool->lent_count;
		snprintf(ret->text, sizeof ret->text, "%u are still lent", pool->lent_count);
		return;
	}
	disconnect(pool, ret);
}

/* --- Lend and give back ------------------------------------------------------------------- */

static void waiter_leaves(struct pool *pool, enum harness_access lane, struct waiter *w)
{
	struct waiter **at = &pool->waiting[lane];

	while (*at != w)
		at = &(*at)->next;
	*at = w->next;
	pool->waiting_count--;
}

/* With the mutex. NULL: not in time. */
static struct connection *wait_in_line(struct pool *pool, enum harness_access lane,
                                       uint64_t timeout_ns)
{
	struct timespec limit = time_in_ns(CLOCK_MONOTONIC, timeout_ns);
	struct waiter w = { .got = NULL }, **last = &pool->waiting[lane];
	pthread_condattr_t monotonic;
	int rc = 0;

	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&w.come, &monotonic);
	pthread_condattr_destroy(&monotonic);
	while (*last != NULL)
		last = &(*last)->next;
	*last = &w;
	pool->waiting_count++;
	while (w.got == NULL && !pool->closing && rc != ETIMEDOUT)
		rc = pthread_cond_timedwait(&w.come, &pool->mutex, &limit);
	if (w.got == NULL)
		waiter_leaves(pool, lane, &w);
	else
		pool->coming--;
	pthread_cond_destroy(&w.come);
	return w.got;
}

/* With the mutex. */
static struct connection *take(struct pool *pool, enum harness_access lane, uint64_t timeout_ns)
{
	struct connection *c = pool->idle[lane];

	if (c != NULL) {
		pool->idle[lane] = c->next;
		return c;
	}
	if (lane == HARNESS_WRITE && pool->planted == lend_twice)
		return &pool->connections[0];
	return timeout_ns > 0 ? wait_in_line(pool, lane, timeout_ns) : NULL;
}

static bool lend(void *target, enum harness_access access, uint64_t timeout_ns,
                 struct harness_connection *ret, struct harness_failure *f)
{
	struct pool *pool = target;
	struct connection *c;

	if (fires(pool, hang_in_lend))
		wait_for_ever();
	pthread_mutex_lock(&pool->mutex);
	c = pool->closing ? NULL : take(pool, access, timeout_ns);
	if (c != NULL) {
		c->holders++;
		pool->lent_count++;
		pool->booked += 1 + fires(pool, wrong_count);
	}
	pthread_mutex_unlock(&pool->mutex);
	if (c == NULL)
		return failed(f,
		              pool->planted == wrong_kind ? HARNESS_FAILURE_SQL
		                                          : HARNESS_FAILURE_TIMEOUT,
		              pool->planted == wrong_kind ? SQLITE_ERROR : 0,
		              "no connection became free in time");
	ret->handle = c;
	ret->access = access;
	return true;
}

/* With the mutex: to the first who waits, or to the others that are idle. */
static void hand_over(struct pool *pool, struct connection *c)
{
	struct waiter *first = pool->waiting[c->lane];

	if (first == NULL || pool->planted == lost_wakeup) {
		c->next = pool->idle[c->lane];
		pool->idle[c->lane] = c;
		return;
	}
	first->got = c;
	pool->coming++;
	waiter_leaves(pool, c->lane, first);
	pthread_cond_signal(&first->come);
}

static bool undo(struct connection *c, struct harness_failure *f)
{
	enum fault planted = c->pool->planted;
	bool forget = planted == forget_rollback || (planted == forget_third && c->undo_failed > 1);
	bool well = exec(c, forget ? "COMMIT" : "ROLLBACK", f);

	c->undo_failed = well ? 0 : c->undo_failed + 1;
	return well;
}

static void end_transaction(struct connection *c)
{
	struct harness_failure ignored;

	if (!c->owes && !sqlite3_get_autocommit(c->db))
		undo(c, &ignored);
	c->level = 0;
}

static void give_back(void *target, struct harness_connection *connection)
{
	struct connection *c = connection->handle;
	struct pool *pool = target;

	end_transaction(c);
	pthread_mutex_lock(&pool->mutex);
	pool->booked--;
	if (--pool->lent_count == 0)
		pthread_cond_broadcast(&pool->all_back);
	if (--c->holders == 0)
		hand_over(pool, c);
	pthread_mutex_unlock(&pool->mutex);
}

/* --- Statements and transactions ---------------------------------------------------------- */

static bool settle(struct connection *c, struct harness_failure *f)
{
	bool owes = c->owes;

	c->owes = false;
	return !owes || exec(c, "COMMIT", f);
}

static bool query(struct harness_connection *connection, const char *sql,
                  const struct harness_value *args, unsigned arg_count, harness_row_fn *on_row,
                  void *context, struct harness_failure *f)
{
	struct connection *c = connection->handle;

	return settle(c, f) && statement_run(db_of(c), sql, args, arg_count, on_row, context, f);
}

static bool begin(struct harness_connection *connection, struct harness_failure *f)
{
	struct connection *c = connection->handle;
	const char *sql = c->level > 0               ? "SAVEPOINT planted"
	                  : c->lane == HARNESS_WRITE ? "BEGIN IMMEDIATE"
	                                             : "BEGIN";

	if (!settle(c, f) || !exec(c, sql, f))
		return false;
	c->level++;
	return true;
}

static bool commit(struct harness_connection *connection, struct harness_failure *f)
{
	struct connection *c = connection->handle;

	if (c->level <= 1 && c->lane == HARNESS_WRITE && c->pool->planted == early_ack) {
		c->level = 0;
		c->owes = true;
		return true;
	}
	if (!exec(c, c->level > 1 ? "RELEASE planted" : "COMMIT", f))
		return false;
	if (c->level > 0)
		c->level--;
	return !fires(c->pool, false_error) ||
	       failed(f, HARNESS_FAILURE_SQL, SQLITE_IOERR, "disk I/O error");
}

static bool rollback(struct harness_connection *connection, struct harness_failure *f)
{
	struct connection *c = connection->handle;

	if (c->level > 1) {
		c->level--;
		return exec(c, "ROLLBACK TO planted; RELEASE planted", f);
	}
	c->level = 0;
	return undo(c, f);
}

static bool transact(void *target, enum harness_access access, uint64_t timeout_ns,
                     harness_body_fn *body, void *context, struct harness_failure *f)
{
	struct harness_connection connection = { .handle = NULL };
	bool well;

	if (!lend(target, access, timeout_ns, &connection, f))
		return false;
	well = begin(&connection, f) && body(&connection, context, f) && commit(&connection, f);
	give_back(target, &connection); /* Rolls back what is still open. */
	return well;
}

/* --- What it says of itself --------------------------------------------------------------- */

static void gauges(void *target, struct harness_gauges *ret)
{
	struct pool *pool = target;

	pthread_mutex_lock(&pool->mutex);
	*ret = (struct harness_gauges){ .connections = pool->count,
		                        .leased = pool->lent_count,
		                        .waiting = pool->waiting_count };
	pthread_mutex_unlock(&pool->mutex);
}

static void numbers(void *target, harness_number_fn *emit, void *context)
{
	struct pool *pool = target;

	emit(context, "planted.chances_count", atomic_load(&pool->chances));
}

static unsigned check(void *target, char *text, size_t size)
{
	struct pool *pool = target;
	unsigned holders = 0, booked;

	pthread_mutex_lock(&pool->mutex);
	for (unsigned i = 0; i < pool->count; i++)
		holders += pool->connections[i].holders;
	booked = pool->booked;
	pthread_mutex_unlock(&pool->mutex);
	if (booked != holders)
		snprintf(text, size, "%u are lent by the books, %u by the connections", booked,
		         holders);
	return booked != holders;
}

static const struct harness_target planted_target = {
	.name = "planted",
	.about = "a small pool with the fault that PLANTED names",
	.open = open_,
	.close = close_,
	.lend = lend,
	.give_back = give_back,
	.query = query,
	.begin = begin,
	.commit = commit,
	.rollback = rollback,
	.transact = transact,
	.gauges = gauges,
	.numbers = numbers,
	.check = check,
};

HARNESS_PLUGIN(planted_target);
