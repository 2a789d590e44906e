/* fixture.h - a pool on a file of its own, in a folder that goes with the test. */
/* SPDX-License-Identifier: MIT */
#ifndef POOL_TEST_FIXTURE_H
#define POOL_TEST_FIXTURE_H

#include <poolproof/harness/test.h>
#include <poolproof/pool.h>

#include <errno.h>
#include <ftw.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <unistd.h>

struct fixture {
	char dir[64], path[96];
	struct pp_pool *pool;
};

static inline struct fixture fixture_dir(void)
{
	struct fixture f = { .dir = "/tmp/poolproof-test-XXXXXX" };

	CHECK(mkdtemp(f.dir) != NULL);
	snprintf(f.path, sizeof f.path, "%s/a.db", f.dir);
	return f;
}

static inline void must(enum pp_status status, const struct pp_error *error)
{
	char text[1024] = "";

	if (status != PP_OK && error != NULL)
		pp_error_text(error, text, sizeof text);
	CHECK_MSG(status == PP_OK, "%s: %s", pp_status_name(status), text);
}

static inline void acquire(struct pp_pool *pool, enum pp_lane lane, struct pp_lease *ret)
{
	struct pp_error error = { 0 };

	must(pp_acquire(pool, lane, PP_FOREVER, ret, &error), &error);
}

static inline void sql(sqlite3 *db, const char *text)
{
	char *words = NULL;
	int rc = sqlite3_exec(db, text, NULL, NULL, &words);

	CHECK_MSG(rc == SQLITE_OK, "%s: %s", text, words);
}

static inline int64_t number(sqlite3 *db, const char *text)
{
	sqlite3_stmt *stmt = NULL;
	int64_t value = INT64_MIN;

	CHECK_MSG(sqlite3_prepare_v2(db, text, -1, &stmt, NULL) == SQLITE_OK, "%s: %s", text,
	          sqlite3_errmsg(db));
	if (sqlite3_step(stmt) == SQLITE_ROW)
		value = sqlite3_column_int64(stmt, 0);
	sqlite3_finalize(stmt);
	return value;
}

/* By a reader. */
static inline int64_t number_in(struct pp_pool *pool, const char *text)
{
	struct pp_lease lease = { 0 };
	int64_t found;

	acquire(pool, PP_READ, &lease);
	found = number(lease.db, text);
	pp_release(&lease);
	return found;
}

static inline int64_t rows_in(struct pp_pool *pool)
{
	return number_in(pool, "SELECT count(*) FROM t");
}

/* A pool with a table t(id INTEGER PRIMARY KEY, v INTEGER UNIQUE). config.path is filled in. */
static inline struct fixture fixture_config(struct pp_config config)
{
	struct fixture f = fixture_dir();
	struct pp_lease lease = { 0 };
	struct pp_error error = { 0 };

	if (config.path == NULL)
		config.path = f.path;
	must(pp_open(&config, &f.pool, &error), &error);
	acquire(f.pool, PP_WRITE, &lease);
	sql(lease.db, "CREATE TABLE t(id INTEGER PRIMARY KEY, v INTEGER UNIQUE)");
	pp_release(&lease);
	return f;
}

static inline struct fixture fixture_open(unsigned readers)
{
	return fixture_config((struct pp_config){ .readers = readers });
}

static inline int remove_one(const char *path, const struct stat *file, int type, struct FTW *walk)
{
	(void)file, (void)type, (void)walk;
	return remove(path);
}

/* Not by the shell: under Valgrind that is two more programs to follow, a second for each test. */
static inline void fixture_remove(struct fixture *f)
{
	CHECK_INT(nftw(f->dir, remove_one, 8, FTW_DEPTH | FTW_PHYS), ==, 0);
}

/* Every test ends with the invariants checked and nothing left. */
static inline void fixture_close(struct fixture *f)
{
	struct pp_closing closing = { 0 };
	char text[2048];

	if (f->pool != NULL) {
		CHECK_MSG(pp_check(f->pool, text, sizeof text) == 0, "%s", text);
		CHECK_INT(pp_close(f->pool, pp_in_ms(10000), &closing), ==, PP_OK);
		CHECK_INT(closing.residue_bytes, ==, 0);
		CHECK_INT(closing.parked, ==, 0);
	}
	fixture_remove(f);
}

static inline struct pp_stats stats(struct pp_pool *pool)
{
	struct pp_stats s;

	CHECK_INT(pp_stats_read(pool, &s), ==, PP_OK);
	return s;
}

/* How much slower this runs than usual: limits are multiplied by it, rounds divided. */
static inline unsigned slowness(void)
{
	const char *multiplier = getenv("CK_TIMEOUT_MULTIPLIER");
	int n = multiplier != NULL ? atoi(multiplier) : 1;

	return n > 1 ? (unsigned)n : 1;
}

/* Waits for an event by looking: the limit is the test's own time limit. */
#define WAIT_FOR(condition)            \
	do {                           \
		while (!(condition))   \
			sched_yield(); \
	} while (0)

/* For litmus tests, whose sides must meet within nanoseconds. Returns what came instead of what was
 * there before. */
static inline unsigned spin_while(atomic_uint *round, unsigned value)
{
	unsigned now;

	for (unsigned looks = 1; (now = atomic_load(round)) == value; looks++)
		if (looks % 4096 == 0)
			sched_yield();
	return now;
}

static inline pthread_t thread_start(void *(*run)(void *), void *context)
{
	pthread_t thread;

	CHECK_INT(pthread_create(&thread, NULL, run, context), ==, 0);
	return thread;
}

/* A lease that another thread holds, as far as the pool knows: who waits for it does not wait for
 * himself. */
struct elsewhere {
	struct pp_pool *pool;
	enum pp_lane lane;
	struct pp_lease *lease;
};

static inline void *acquire_there(void *context)
{
	struct elsewhere *e = context;

	acquire(e->pool, e->lane, e->lease);
	return NULL;
}

static inline void acquire_elsewhere(struct pp_pool *pool, enum pp_lane lane, struct pp_lease *ret)
{
	struct elsewhere e = { pool, lane, ret };

	pthread_join(thread_start(acquire_there, &e), NULL);
}

/* Borrows once, waiting for it if need be, and gives back. */
struct visitor {
	struct pp_pool *pool;
	enum pp_lane lane;
	struct pp_deadline deadline;
	enum pp_status status;
	atomic_uint *order; /* Who came through how manieth. */
	unsigned place;
};

static inline void *visit(void *context)
{
	struct visitor *v = context;
	struct pp_lease lease = { 0 };

	v->status = pp_acquire(v->pool, v->lane, v->deadline, &lease, NULL);
	if (v->order != NULL)
		v->place = atomic_fetch_add(v->order, 1);
	pp_release(&lease);
	return NULL;
}

/* --- For on_open -------------------------------------------------------------------------- */

/* Where power does not fail, and syncs would take long. */
static inline int no_sync(sqlite3 *db, void *context)
{
	(void)context;
	return sqlite3_exec(db, "PRAGMA synchronous=OFF", NULL, NULL, NULL);
}

static inline int map_pages(sqlite3 *db, void *context)
{
	(void)context;
	return sqlite3_exec(db, "PRAGMA mmap_size=1048576", NULL, NULL, NULL);
}

/* No connection can be opened while this is set. */
static atomic_bool refusing;

static inline int refuse_when_told(sqlite3 *db, void *context)
{
	(void)db, (void)context;
	return atomic_load(&refusing) ? SQLITE_AUTH : SQLITE_OK;
}

static inline void fail_with(sqlite3_context *context, int count, sqlite3_value **values)
{
	(void)count;
	sqlite3_result_error_code(context, sqlite3_value_int(values[0]));
}

/* SELECT fail_with(5) is told that the file is locked. */
static inline int add_fail_with(sqlite3 *db, void *context)
{
	return sqlite3_create_function(db, "fail_with", 1, SQLITE_UTF8, context, fail_with, NULL,
	                               NULL);
}

/* --- A pool's life ------------------------------------------------------------------------
 * For the tests that let one thing fail anywhere in it: open, borrow, nest, commit, close. The
 * table n has one row, and x in it is what successful commits have added up to. */

struct life {
	const char *what;
	struct pp_config config;
	enum pp_status failure; /* How what fails is reported. */
	unsigned n;             /* Which call failed, for the words. */
	struct pp_pool *pool;
	int64_t kept;
};

/* SQLite may give up a transaction by itself, which only an end of it may tell. */
static inline void life_expect(const struct life *life, enum pp_status status, const char *doing,
                               bool may_be_lost, const struct pp_error *error)
{
	char text[1024] = "";

	if (status == PP_OK)
		return;
	pp_error_text(error, text, sizeof text);
	CHECK_MSG(error->status == status &&
	                  (status == life->failure || (status == PP_ROLLED_BACK && may_be_lost)),
	          "%s, call %u: %s: %s: %s", life->what, life->n, doing, pp_status_name(status),
	          text);
}

static inline enum pp_status life_add(struct pp_lease *lease, void *context)
{
	sqlite3_stmt *stmt;
	enum pp_status status = pp_prepare(lease, "UPDATE n SET x = x + ?1", &stmt, NULL);

	if (status != PP_OK)
		return status;
	sqlite3_bind_int64(stmt, 1, *(int64_t *)context);
	return sqlite3_step(stmt) == SQLITE_DONE ? PP_OK : PP_SQLITE;
}

static inline enum pp_status life_nest(struct pp_lease *lease, int64_t x,
                                       enum pp_status (*end)(struct pp_lease *, struct pp_error *))
{
	struct pp_error error = { 0 };
	enum pp_status status = pp_begin(lease, &error);

	if (status != PP_OK)
		return status;
	status = life_add(lease, &x);
	if (status != PP_OK)
		end = pp_rollback;
	error = (struct pp_error){ 0 };
	enum pp_status ended = end(lease, &error);

	CHECK(ended == PP_OK ? error.doing == NULL : error.status == ended);
	return status != PP_OK ? status : ended;
}

/* x + 1 is kept, x + 100 beside it is not. Rolling back never fails: all it needs is there. */
static inline void life_write(struct life *life, struct pp_lease *lease)
{
	struct pp_error error = { 0 };
	enum pp_status status = pp_begin(lease, &error);

	life_expect(life, status, "begin", false, &error);
	if (status != PP_OK)
		return;
	status = life_nest(lease, 1, pp_commit);
	if (status == PP_OK)
		status = life_nest(lease, 100, pp_rollback);
	if (status != PP_OK) {
		must(pp_rollback(lease, &error), &error);
		CHECK(sqlite3_get_autocommit(lease->db));
		return;
	}
	status = pp_commit(lease, &error);
	life_expect(life, status, "commit", true, &error);
	life->kept += status == PP_OK;
}

static inline void life_borrow(struct life *life, enum pp_lane lane)
{
	struct pp_lease lease = { 0 };
	struct pp_error error = { 0 };
	sqlite3_stmt *stmt;
	enum pp_status status = pp_acquire(life->pool, lane, PP_FOREVER, &lease, &error);

	life_expect(life, status, "acquire", false, &error);
	if (status != PP_OK)
		return;
	if (lane == PP_WRITE)
		life_write(life, &lease);
	status = pp_prepare(&lease, "SELECT x FROM n", &stmt, &error);
	life_expect(life, status, "prepare", false, &error);
	if (status == PP_OK)
		sqlite3_step(stmt);
	CHECK_INT(pp_release(&lease), ==, PP_OK);
}

static inline void life_live(struct life *life)
{
	struct pp_error error = { 0 };
	enum pp_status status = pp_open(&life->config, &life->pool, &error);

	life_expect(life, status, "open", false, &error);
	if (status != PP_OK)
		return;
	life_borrow(life, PP_WRITE);
	life_borrow(life, PP_READ);
	/* Once: a pause between attempts would only cost time. */
	status = pp_transact(life->pool, &(struct pp_transaction){ .attempts_max = 1 }, life_add,
	                     &(int64_t){ 1 }, &error);
	life_expect(life, status, "transact", true, &error);
	life->kept += status == PP_OK;
}

static inline void life_end(struct life *life)
{
	struct pp_closing closing = { 0 };

	if (life->pool == NULL)
		return;
	CHECK_INT(pp_close(life->pool, PP_NO_WAIT, &closing), ==, PP_OK);
	CHECK_INT(closing.residue_bytes, ==, 0);
	CHECK_INT(closing.parked, ==, 0);
	life->pool = NULL;
}

/* Nothing fails any more: the pool works, or a new one where there is none, and has what was
 * committed. */
static inline void life_prove(struct life *life)
{
	struct pp_lease lease = { 0 };
	struct pp_error error = { 0 };
	char text[512];
	int64_t x;

	if (life->pool == NULL)
		must(pp_open(&life->config, &life->pool, &error), &error);
	CHECK_MSG(pp_check(life->pool, text, sizeof text) == 0, "%s, call %u: %s", life->what,
	          life->n, text);
	acquire(life->pool, PP_READ, &lease);
	x = number(lease.db, "SELECT x FROM n");
	pp_release(&lease);
	CHECK_MSG(x == life->kept, "%s, call %u: %jd committed, %jd in the file", life->what,
	          life->n, (intmax_t)life->kept, (intmax_t)x);
	must(pp_transact(life->pool, NULL, life_add, &(int64_t){ 1 }, &error), &error);
	life->kept++;
	CHECK_INT(stats(life->pool).parked, ==, 0);
	life_end(life);
}

static inline void life_start(struct life *life)
{
	struct pp_lease lease = { 0 };

	must(pp_open(&life->config, &life->pool, NULL), NULL);
	acquire(life->pool, PP_WRITE, &lease);
	sql(lease.db, "CREATE TABLE n(x); INSERT INTO n VALUES (0)");
	pp_release(&lease);
	life_end(life);
}

#endif
