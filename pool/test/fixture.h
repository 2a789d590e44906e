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
#define WAIT_FOR(condition)             \
	do {                            \
		while (!(condition))    \
			sched_yield();  \
	} while (0)

static inline pthread_t thread_start(void *(*run)(void *), void *context)
{
	pthread_t thread;

	CHECK_INT(pthread_create(&thread, NULL, run, context), ==, 0);
	return thread;
}

#endif
