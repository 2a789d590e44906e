/*
 * lending.c - acquire and release.
 *
 * Every contender lends real SQLite connections to one WAL database. A row without waiting has a
 * connection for each thread. In one with waiting, threads hold what they got for five
 * microseconds, about four point reads. The spike is HikariCP's: fifty at once, five idle
 * connections, opening one takes 150 ms and holding one 2 ms, so whoever waits for a new connection
 * is served last.
 */
/* SPDX-License-Identifier: MIT */
#include "bench.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <sqlite3.h>

#include <apr_general.h>
#include <apr_reslist.h>

#include <poolproof/pool.h>

#include "bare.h"
#include "libzdb.h"
#include "raw.h"

enum shape { CYCLES, WAITING, SPIKE };
enum {
	HOLD_NS = 5000,
	SPIKE_REQUESTS = 50,
	SPIKE_IDLE = 5,
	SPIKE_MOST = 20,
	SPIKE_HOLD_NS = 2000000,
	SPIKE_OPEN_NS = 150000000
};

struct lender {
	/* A pool that has `least` open and grows to `most`. */
	void *(*open)(const char *path, unsigned least, unsigned most);
	void (*cycles)(void *pool, unsigned thread, unsigned count);
	void *(*acquire)(void *pool);
	void (*release)(void *pool, void *lent);
};

static void sleep_ns(long ns)
{
	struct timespec t = { 0, ns };

	nanosleep(&t, NULL);
}

/* --- Ours -------------------------------------------------------------------------------- */

static void *ours_open(const char *path, unsigned least, unsigned most)
{
	struct pp_config config = { .path = path, .readers = most, .readers_min = least };
	struct pp_pool *pool;
	struct pp_error error;

	if (pp_open(&config, &pool, &error) != PP_OK)
		bench_cannot("%s: %s", path, error.message);
	return pool;
}

static void ours_cycles(void *pool, unsigned thread, unsigned count)
{
	struct pp_lease lease;

	(void)thread;
	for (unsigned i = 0; i < count; i++) {
		pp_acquire(pool, PP_READ, PP_FOREVER, &lease, NULL);
		pp_release(&lease);
	}
}

static void *ours_acquire(void *pool)
{
	static _Thread_local struct pp_lease lease;

	return pp_acquire(pool, PP_READ, PP_FOREVER, &lease, NULL) == PP_OK ? &lease : NULL;
}

static void ours_release(void *pool, void *lent)
{
	(void)pool;
	pp_release(lent);
}

static void alone_cycles(void *pool, unsigned thread, unsigned count)
{
	(void)thread;
	bare_cycles(pool, count);
}

/* --- libzdb: a scan under a mutex, with a ping; NULL when all are lent -------------------- */

static void *libzdb_open(const char *path, unsigned least, unsigned most)
{
	return libzdb_start(path, "", least, most);
}

static void *libzdb_acquire(void *pool)
{
	return libzdb_borrow(pool);
}

static void libzdb_release(void *pool, void *lent)
{
	(void)pool;
	Connection_close(lent);
}

static void libzdb_cycles(void *pool, unsigned thread, unsigned count)
{
	(void)thread;
	for (unsigned i = 0; i < count; i++)
		libzdb_release(pool, libzdb_acquire(pool));
}

/* --- apr_reslist ------------------------------------------------------------------------- */

static apr_status_t apr_make(void **resource, void *path, apr_pool_t *pool)
{
	(void)pool;
	*resource = raw_open(path, "FULL");
	return APR_SUCCESS;
}

static apr_status_t apr_unmake(void *resource, void *path, apr_pool_t *pool)
{
	(void)path, (void)pool;
	sqlite3_close_v2(resource);
	return APR_SUCCESS;
}

static void *apr_open(const char *path, unsigned least, unsigned most)
{
	apr_reslist_t *list;
	apr_pool_t *pool;

	if (apr_initialize() != APR_SUCCESS || apr_pool_create(&pool, NULL) != APR_SUCCESS ||
	    apr_reslist_create(&list, (int)least, (int)most, (int)most, 0, apr_make, apr_unmake,
	                       strdup(path), pool) != APR_SUCCESS)
		bench_cannot("apr_reslist could not be made");
	return list;
}

static void *apr_acquire(void *list)
{
	void *resource;

	return apr_reslist_acquire(list, &resource) == APR_SUCCESS ? resource : NULL;
}

static void apr_release(void *list, void *lent)
{
	apr_reslist_release(list, lent);
}

static void apr_cycles(void *list, unsigned thread, unsigned count)
{
	(void)thread;
	for (unsigned i = 0; i < count; i++)
		apr_release(list, apr_acquire(list));
}

/* --- A mutex, an array, a condition ------------------------------------------------------ */

struct array {
	pthread_mutex_t mutex;
	pthread_cond_t returned;
	unsigned count;
	void *idle[BENCH_THREADS_MAX];
};

static void *array_open(const char *path, unsigned least, unsigned most)
{
	struct array *array = calloc(1, sizeof *array);

	(void)most;
	if (array == NULL)
		bench_cannot("no memory");
	pthread_mutex_init(&array->mutex, NULL);
	pthread_cond_init(&array->returned, NULL);
	for (; array->count < least; array->count++)
		array->idle[array->count] = raw_open(path, "FULL");
	return array;
}

static void *array_acquire(void *pool)
{
	struct array *array = pool;
	void *lent;

	pthread_mutex_lock(&array->mutex);
	while (array->count == 0)
		pthread_cond_wait(&array->returned, &array->mutex);
	lent = array->idle[--array->count];
	pthread_mutex_unlock(&array->mutex);
	return lent;
}

static void array_release(void *pool, void *lent)
{
	struct array *array = pool;

	pthread_mutex_lock(&array->mutex);
	array->idle[array->count++] = lent;
	pthread_mutex_unlock(&array->mutex);
	pthread_cond_signal(&array->returned);
}

static void array_cycles(void *pool, unsigned thread, unsigned count)
{
	(void)thread;
	for (unsigned i = 0; i < count; i++)
		array_release(pool, array_acquire(pool));
}

/* --- The limit: exchange one word of a line of one's own, store it back ------------------- */

struct padded {
	_Alignas(128) atomic_uint taken;
};

static void *exchange_open(const char *path, unsigned least, unsigned most)
{
	struct padded *words = aligned_alloc(128, BENCH_THREADS_MAX * sizeof *words);

	(void)path, (void)least, (void)most;
	if (words == NULL)
		bench_cannot("no memory");
	memset(words, 0, BENCH_THREADS_MAX * sizeof *words);
	return words;
}

static void exchange_cycles(void *pool, unsigned thread, unsigned count)
{
	struct padded *own = (struct padded *)pool + thread;

	for (unsigned i = 0; i < count; i++) {
		while (atomic_exchange_explicit(&own->taken, 1, memory_order_acquire) != 0)
			sched_yield();
		atomic_store_explicit(&own->taken, 0, memory_order_release);
	}
}

/* --- Measuring --------------------------------------------------------------------------- */

struct held {
	const struct lender *lender;
	void *pool;
};

static void hold(void *context, unsigned thread, unsigned count)
{
	struct held *h = context;

	(void)thread;
	for (unsigned i = 0; i < count; i++) {
		void *lent = h->lender->acquire(h->pool);

		bench_spin_ns(HOLD_NS);
		h->lender->release(h->pool, lent);
	}
}

static atomic_bool slow_to_open;
static atomic_uint opened;

static int slow_opening(sqlite3 *db, char **error, const struct sqlite3_api_routines *api)
{
	(void)db, (void)error, (void)api;
	atomic_fetch_add(&opened, 1);
	if (atomic_load(&slow_to_open))
		sleep_ns(SPIKE_OPEN_NS);
	return SQLITE_OK;
}

struct spike {
	struct held held;
	pthread_barrier_t together;
};

static void *request(void *context)
{
	struct spike *s = context;
	void *lent;

	pthread_barrier_wait(&s->together);
	lent = s->held.lender->acquire(s->held.pool);
	sleep_ns(SPIKE_HOLD_NS);
	s->held.lender->release(s->held.pool, lent);
	return NULL;
}

static void spike(struct bench_measurement *m, struct held held)
{
	struct spike s = { .held = held };
	pthread_t threads[SPIKE_REQUESTS];
	uint64_t start;

	pthread_barrier_init(&s.together, NULL, SPIKE_REQUESTS + 1);
	for (unsigned i = 0; i < SPIKE_REQUESTS; i++)
		if (pthread_create(&threads[i], NULL, request, &s) != 0)
			bench_cannot("no more threads");
	atomic_store(&opened, 0);
	atomic_store(&slow_to_open, true);
	pthread_barrier_wait(&s.together);
	start = bench_now_ns();
	for (unsigned i = 0; i < SPIKE_REQUESTS; i++)
		pthread_join(threads[i], NULL);
	bench_figure(m, "ms", (double)(bench_now_ns() - start) / 1e6);
	bench_figure(m, "opened", atomic_load(&opened));
}

static void measure(struct bench_measurement *m)
{
	const struct lender *lender = m->contender->functions;
	bool is_spike = m->row->shape == SPIKE;
	unsigned least = is_spike ? SPIKE_IDLE : m->row->connections;
	struct held held = { .lender = lender };
	char path[4096];

	bench_path(m, "lending.db", path, sizeof path);
	if (m->contender->kind == BENCH_OURS)
		pp_setup(0);
	else
		raw_create(path, "FULL", "CREATE TABLE t(a)");
	if (is_spike)
		sqlite3_auto_extension((void (*)(void))slow_opening);
	held.pool = lender->open(path, least, is_spike ? SPIKE_MOST : least);
	if (is_spike)
		spike(m, held);
	else if (m->row->shape == WAITING)
		bench_run(m, &(struct bench_load){ hold, &held, 1, true });
	else
		bench_run(m, &(struct bench_load){ lender->cycles, held.pool, 64, false });
}

static const struct lender ours = { ours_open, ours_cycles, ours_acquire, ours_release };
static const struct lender alone = { ours_open, alone_cycles, NULL, NULL };
static const struct lender libzdb = { libzdb_open, libzdb_cycles, libzdb_acquire, libzdb_release };
static const struct lender apr = { apr_open, apr_cycles, apr_acquire, apr_release };
static const struct lender array = { array_open, array_cycles, array_acquire, array_release };
static const struct lender exchange = { exchange_open, exchange_cycles, NULL, NULL };

#define OURS                                                                                      \
	{                                                                                         \
		"poolproof", BENCH_OURS,                                                          \
			"with everything on: proof of cleanness, accounts, counters", &ours, NULL \
	}
#define PEERS                                                                              \
	{ "libzdb", BENCH_PEER, "ConnectionPool; yields and asks again when all are lent", \
	  &libzdb, NULL },                                                                 \
		{ "apr", BENCH_PEER, "apr_reslist of SQLite handles", &apr, NULL },        \
	{                                                                                  \
		"mutex", BENCH_PEER, "an array of handles under a mutex", &array, NULL     \
	}

static const struct bench_contender all[] = {
	OURS,
	{ "alone", BENCH_OURS, "poolproof's lending alone: claim, give back", &alone, NULL },
	PEERS,
	{ "exchange", BENCH_LIMIT, "exchange a word of the thread's own, store it back", &exchange,
	  NULL },
	{ 0 }
};
static const struct bench_contender pools[] = { OURS, PEERS, { 0 } };

#define CYCLES_ROW(n)                                                                       \
	{                                                                                   \
		"lending/" #n, "acquire and release, " #n " threads on " #n " connections", \
			BENCH_NS, n, n, CYCLES, 0, 0, all                                   \
	}
#define WAITING_ROW(n, c)                                                                \
	{                                                                                \
		"lending/wait-" #n, #n " threads on " #c " connections, held 5 us each", \
			BENCH_PER_S, n, c, WAITING, 0, 0, pools                          \
	}

static const struct bench_row rows[] = {
	{ "lending/1", "acquire and release, one thread", BENCH_NS, 1, 1, CYCLES, 0, 0, all },
	CYCLES_ROW(2),
	CYCLES_ROW(4),
	CYCLES_ROW(8),
	CYCLES_ROW(32),
	WAITING_ROW(8, 4),
	WAITING_ROW(32, 8),
	{ "lending/spike", "50 requests at once on 5 idle connections; opening one takes 150 ms",
	  BENCH_MS, 50, 5, SPIKE, 0, 0, pools },
};

const struct bench_table bench_lending = {
	.name = "lending",
	.title = "Acquire and release",
	.about = "Time from one cycle to the next, all threads together. Each contender lends real "
		 "connections; only poolproof looks at what comes back.",
	.rows = rows,
	.row_count = sizeof rows / sizeof *rows,
	.measure = measure,
};
