/* Limits of pools: whoever passes one fails alone, nobody else notices, and what is left can be
 * used. */
/* SPDX-License-Identifier: MIT */
#include "fixture.h"

#include "internal.h"

enum { KIB = 1024, MIB = 1024 * 1024 };

/* --- A transaction over its limit --------------------------------------------------------- */

static enum pp_status run_sql(struct pp_lease *lease, void *context)
{
	return sqlite3_exec(lease->db, context, NULL, NULL, NULL) == SQLITE_OK ? PP_OK : PP_SQLITE;
}

static enum pp_status nest_sql(struct pp_lease *lease, void *context)
{
	enum pp_status status = pp_begin(lease, NULL);

	if (status == PP_OK)
		status = run_sql(lease, context);
	return status == PP_OK ? pp_commit(lease, NULL) : status;
}

static enum pp_status prepare_sql(struct pp_lease *lease, void *context)
{
	sqlite3_stmt *stmt;
	struct pp_error error;
	enum pp_status status = pp_prepare(lease, context, &stmt, &error);

	while (status == PP_OK && sqlite3_step(stmt) == SQLITE_ROW)
		;
	return status == PP_OK && sqlite3_reset(stmt) != SQLITE_OK ? PP_SQLITE : status;
}

#define ROWS_TO(n) \
	"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < " n ") "

static const struct {
	const char *what;
	pp_work *work;
	const char *sql;
	enum pp_lane lane;
} excesses[] = {
	{ "a large value", run_sql, "INSERT INTO t(v) VALUES (1), (randomblob(4000000))",
	  PP_WRITE },
	{ "many pages", run_sql, ROWS_TO("400") "INSERT INTO t(v) SELECT randomblob(3000) FROM n",
	  PP_WRITE },
	{ "sorting", run_sql,
	  "INSERT INTO t(v) VALUES (1);" ROWS_TO("4000") "SELECT randomblob(200) AS r FROM n "
	                                                 "ORDER BY r",
	  PP_WRITE },
	{ "inside a savepoint", nest_sql, "INSERT INTO t(v) VALUES (1), (randomblob(4000000))",
	  PP_WRITE },
	{ "a cached statement", prepare_sql,
	  "SELECT sum(length(r)) FROM (SELECT randomblob(400000 + n.v) AS r FROM (SELECT 1 AS v) "
	  "AS n)",
	  PP_WRITE },
	{ "reading", run_sql, "SELECT randomblob(4000000)", PP_READ },
};

TEST_ROWS(limit, of_a_transaction_fails_it_alone, sizeof excesses / sizeof *excesses)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	struct pp_transaction options = { .lane = excesses[row].lane, .bytes_max = 256 * KIB };
	struct pp_stats before = stats(f.pool), after;

	for (unsigned round = 0; round < 3; round++) {
		struct pp_error error = { 0 };

		CHECK_INT(pp_transact(f.pool, &options, excesses[row].work,
		                      (void *)(intptr_t)excesses[row].sql, &error),
		          ==, PP_NOMEM);
		CHECK_INT(error.status, ==, PP_NOMEM);
		CHECK_INT(error.attempt, ==, 1);
		CHECK_CONTAINS(error.message,
		               "the transaction is over its limit of 262144 bytes: ");
		CHECK_CONTAINS(error.message, " more were wanted");
		CHECK_INT(rows_in(f.pool), ==, (int64_t)round);
		/* The next one works, within the same limit. */
		options.lane = PP_WRITE;
		must(pp_transact(f.pool, &options, run_sql,
		                 (void *)(intptr_t) "INSERT INTO t(v) SELECT -1 - count(*) FROM t",
		                 &error),
		     &error);
		options.lane = excesses[row].lane;
	}
	after = stats(f.pool);
	CHECK_INT(after.opened, ==, before.opened); /* The connection is kept. */
	CHECK_INT(after.retired, ==, 0);
	CHECK_INT(after.refusals, >=, 3);
	/* Without a limit, and on a lease after it, there is none. */
	if (excesses[row].lane != PP_READ)
		must(pp_transact(f.pool, NULL, excesses[row].work,
		                 (void *)(intptr_t)excesses[row].sql, NULL),
		     NULL);
	struct pp_lease lease = { 0 };

	acquire(f.pool, PP_WRITE, &lease);
	CHECK_INT(number(lease.db, "SELECT length(randomblob(4000000))"), ==, 4000000);
	pp_release(&lease);
}

/* Wherever the limit is met, also in BEGIN's cache, a savepoint or COMMIT: all of it or nothing,
 * and the connection is good. */
TEST(limit, of_a_transaction_may_be_met_anywhere)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	static const char sql[] = "INSERT INTO t(v) SELECT coalesce(max(v), 0) + 1 FROM t;"
				  "INSERT INTO t(v) SELECT max(v) + 1 FROM t;"
				  "INSERT INTO u SELECT zeroblob(9000) FROM t LIMIT 1";
	unsigned in_a_row = 0, refused = 0;
	int64_t rows = 0;

	must(pp_transact(f.pool, NULL, run_sql, (void *)(intptr_t) "CREATE TABLE u(b)", NULL),
	     NULL);
	for (size_t bytes_max = 8; in_a_row < 3; bytes_max += 256 * slowness()) {
		struct pp_transaction options = { .bytes_max = bytes_max };
		struct pp_error error;
		struct pp_lease lease = { 0 };
		enum pp_status status;

		acquire(f.pool, PP_WRITE, &lease);
		sqlite3_db_release_memory(lease.db);
		pp_release(&lease);
		status = pp_transact(f.pool, &options, nest_sql, (void *)(intptr_t)sql, &error);
		if (status == PP_OK)
			rows += 2;
		else
			CHECK_MSG(status == PP_NOMEM, "%zu bytes: %s: %s", bytes_max,
			          pp_status_name(status), error.message);
		refused += status != PP_OK;
		in_a_row = status == PP_OK ? in_a_row + 1 : 0;
		CHECK_INT(rows_in(f.pool), ==, rows);
	}
	CHECK_INT(refused, >=, 20 / slowness());
	CHECK_INT(stats(f.pool).retired, ==, 0);
}

static enum pp_status try_sql(struct pp_lease *lease, void *context)
{
	sqlite3_exec(lease->db, context, NULL, NULL, NULL);
	return run_sql(lease, (void *)(intptr_t) "INSERT INTO t(v) VALUES (1)");
}

/* What was refused and did not matter is no failure. */
TEST(limit, of_a_transaction_may_be_survived_by_it)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	struct pp_transaction options = { .bytes_max = 256 * KIB };
	struct pp_error error;

	must(pp_transact(f.pool, &options, try_sql, (void *)(intptr_t) "SELECT randomblob(4000000)",
	                 &error),
	     &error);
	CHECK_INT(stats(f.pool).refusals, ==, 1);
	CHECK_INT(rows_in(f.pool), ==, 1);
	/* Nor is another failure after it that one. */
	CHECK_INT(pp_transact(f.pool, &options, try_sql,
	                      (void *)(intptr_t) "SELECT randomblob(4000000)", &error),
	          ==, PP_SQLITE);
	CHECK_INT(error.sqlite_code, ==, SQLITE_CONSTRAINT_UNIQUE);
}

struct neighbour {
	struct pp_pool *pool;
	atomic_uint *rounds;
	unsigned failed;
};

static enum pp_status read_much(struct pp_lease *lease, void *context)
{
	(void)context;
	return number(lease->db, "SELECT length(randomblob(1000000))") == 1000000 ? PP_OK
	                                                                          : PP_SQLITE;
}

static void *neighbour_work(void *context)
{
	struct neighbour *n = context;
	const struct pp_transaction options = { .lane = PP_READ, .bytes_max = 2 * MIB };

	while (atomic_load(n->rounds) < 60 / slowness() + 3)
		n->failed += pp_transact(n->pool, &options, read_much, NULL, NULL) != PP_OK;
	return NULL;
}

TEST(limit, of_a_transaction_disturbs_nobody)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(2);
	const struct pp_transaction options = { .bytes_max = 128 * KIB };
	atomic_uint rounds = 0;
	struct neighbour neighbours[2] = { { f.pool, &rounds, 0 }, { f.pool, &rounds, 0 } };
	pthread_t threads[2];

	for (unsigned i = 0; i < 2; i++)
		threads[i] = thread_start(neighbour_work, &neighbours[i]);
	while (atomic_load(&rounds) < 60 / slowness() + 3) {
		CHECK_INT(pp_transact(f.pool, &options, run_sql, (void *)(intptr_t)excesses[0].sql,
		                      NULL),
		          ==, PP_NOMEM);
		atomic_fetch_add(&rounds, 1);
	}
	for (unsigned i = 0; i < 2; i++) {
		pthread_join(threads[i], NULL);
		CHECK_INT(neighbours[i].failed, ==, 0);
	}
	CHECK_INT(stats(f.pool).retired, ==, 0);
	CHECK_INT(rows_in(f.pool), ==, 0);
}

/* --- A connection, a pool ----------------------------------------------------------------- */

static int64_t fails_with(sqlite3 *db, const char *text)
{
	return sqlite3_exec(db, text, NULL, NULL, NULL);
}

TEST(limit, of_a_connection_gives_nomem_and_it_is_kept)
{
	CLEANUP(fixture_close)
	struct fixture f =
		fixture_config((struct pp_config){ .readers = 1, .connection_bytes_max = MIB });
	struct pp_lease lease = { 0 };
	uint64_t opened = stats(f.pool).opened;

	for (enum pp_lane lane = PP_READ; lane <= PP_WRITE; lane++) {
		acquire(f.pool, lane, &lease);
		CHECK_INT(fails_with(lease.db, "SELECT randomblob(1100000)"), ==, SQLITE_NOMEM);
		CHECK_INT(number(lease.db, "SELECT length(randomblob(300000))"), ==, 300000);
		pp_release(&lease);
	}
	CHECK_INT(stats(f.pool).opened, ==, opened);
	CHECK_INT(stats(f.pool).retired, ==, 0);
	CHECK_INT(stats(f.pool).refusals, ==, 2);
}

/* Its page cache must not be what uses it up. */
static const struct {
	const char *what;
	struct pp_config config;
} fits[] = {
	{ "a connection's", { .connection_bytes_max = 512 * KIB } },
	{ "a pool's", { .pool_bytes_max = 2 * MIB } },
	{ "both", { .connection_bytes_max = 64 * MIB, .pool_bytes_max = 2 * MIB } },
};

TEST_ROWS(limit, is_no_limit_to_the_size_of_tables, sizeof fits / sizeof *fits)
{
	struct pp_config config = fits[row].config;
	struct pp_lease lease = { 0 };

	config.readers = 1;
	CLEANUP(fixture_close) struct fixture f = fixture_config(config);

	acquire(f.pool, PP_WRITE, &lease);
	sql(lease.db, "CREATE TABLE u(b)");
	for (unsigned i = 0; i < 3; i++)
		sql(lease.db, ROWS_TO("500") "INSERT INTO u SELECT randomblob(3000) FROM n");
	sql(lease.db, "UPDATE u SET b = zeroblob(3000)");
	pp_release(&lease);
	acquire(f.pool, PP_READ, &lease);
	CHECK_INT(number(lease.db, "SELECT sum(length(b)) FROM u"), ==, 4500000);
	pp_release(&lease);
	CHECK_INT(stats(f.pool).refusals, ==, 0);
}

static int small_cache(sqlite3 *db, void *context)
{
	return sqlite3_exec(db, context, NULL, NULL, NULL);
}

static const struct {
	const char *what, *on_open;
	size_t connection_bytes_max;
	int64_t expected;
} caches[] = {
	{ "SQLite's own without a limit", "", 0, -2000 },
	{ "SQLite's own where it fits", "", 64 * MIB, -2000 },
	{ "half the limit", "", MIB, -512 },
	{ "the user's, in pages, where it fits", "PRAGMA cache_size=20", MIB, 20 },
	{ "half the limit, where that does not", "PRAGMA cache_size=2000", MIB, -512 },
	{ "the user's, in KiB, where it fits", "PRAGMA cache_size=-100", MIB, -100 },
	{ "half the limit, where that does not", "PRAGMA cache_size=-4000", MIB, -512 },
};

TEST_ROWS(limit, has_the_page_cache_fit, sizeof caches / sizeof *caches)
{
	CLEANUP(fixture_close)
	struct fixture f = fixture_config((struct pp_config){
		.readers = 1,
		.on_open = small_cache,
		.on_open_context = (void *)(intptr_t)caches[row].on_open,
		.connection_bytes_max = caches[row].connection_bytes_max,
	});
	struct pp_lease lease = { 0 };

	acquire(f.pool, PP_READ, &lease);
	CHECK_INT(number(lease.db, "PRAGMA cache_size"), ==, caches[row].expected);
	pp_release(&lease);
	acquire(f.pool, PP_WRITE, &lease);
	CHECK_INT(number(lease.db, "PRAGMA cache_size"), ==, caches[row].expected);
	pp_release(&lease);
}

static int keep_cache_size(void *context, int action, const char *first, const char *second,
                           const char *database, const char *trigger)
{
	(void)context, (void)database, (void)trigger;
	return action == SQLITE_PRAGMA && strcmp(first, "cache_size") == 0 && second != NULL
	               ? SQLITE_DENY
	               : SQLITE_OK;
}

static int forbid_cache_size(sqlite3 *db, void *context)
{
	return sqlite3_set_authorizer(db, keep_cache_size, context);
}

TEST(limit, tells_that_the_page_cache_cannot_be_made_to_fit)
{
	CLEANUP(fixture_remove) struct fixture f = fixture_dir();
	struct pp_config config = { .path = f.path,
		                    .connection_bytes_max = MIB,
		                    .on_open = forbid_cache_size };
	struct pp_error error = { 0 };

	CHECK_INT(pp_open(&config, &f.pool, &error), ==, PP_SQLITE);
	CHECK_INT(error.sqlite_code, ==, SQLITE_AUTH);
	CHECK_CONTAINS(error.sql, "cache_size");
}

/* Binds blobs, which the connection then holds until the release. */
static unsigned hold_much(struct pp_lease *lease, unsigned most)
{
	static const char bytes[10 * KIB];
	unsigned n = 0;
	sqlite3_stmt *stmt;

	must(pp_prepare(lease,
	                "SELECT ?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13,?14,?15,?16,?17,?18,?19,"
	                "?200",
	                &stmt, NULL),
	     NULL);
	while (n < most && sqlite3_bind_blob(stmt, (int)n + 1, bytes, sizeof bytes,
	                                     SQLITE_TRANSIENT) == SQLITE_OK)
		n++;
	return n;
}

static uint64_t bytes_in(struct pp_pool *pool)
{
	struct pp_stats s = stats(pool);

	return s.pool_bytes + s.connections_bytes;
}

TEST(limit, of_a_pool_is_for_others_when_a_lease_is_back)
{
	CLEANUP(fixture_close)
	struct fixture f =
		fixture_config((struct pp_config){ .readers = 2, .pool_bytes_max = 2 * MIB });
	uint64_t opened = stats(f.pool).opened;

	for (unsigned round = 0; round < 5; round++) {
		struct pp_lease first = { 0 }, second = { 0 };
		unsigned taken, more;

		acquire(f.pool, PP_READ, &first);
		acquire(f.pool, PP_READ, &second);
		taken = hold_much(&first, 200);
		CHECK_INT(taken, >, 100);
		CHECK_INT(taken, <, 200);
		CHECK_INT(bytes_in(f.pool), <=, 2 * MIB);
		CHECK_INT(bytes_in(f.pool), >, 2 * MIB - 40 * KIB);
		CHECK_INT(fails_with(second.db, "SELECT randomblob(100000)"), ==, SQLITE_NOMEM);
		pp_release(&first);
		more = hold_much(&second, 100);
		CHECK_INT(more, ==, 100);
		CHECK_INT(bytes_in(f.pool), <=, 2 * MIB);
		pp_release(&second);
	}
	CHECK_INT(stats(f.pool).opened, ==, opened);
	CHECK_INT(stats(f.pool).refusals, >=, 10);
}

/* memdb's store is the pool's own, and counts. */
TEST(limit, of_a_pool_is_for_a_database_in_memory_too)
{
	struct fixture f = { 0 };
	struct pp_config config = { .path = "file:/limited?vfs=memdb",
		                    .readers = 1,
		                    .pool_bytes_max = MIB };
	struct pp_error error = { 0 };
	enum pp_status status = PP_OK;
	unsigned inserted = 0;
	sqlite3 *db;

	must(pp_open(&config, &f.pool, &error), &error);
	must(pp_transact(f.pool, NULL, run_sql, (void *)(intptr_t) "CREATE TABLE t(v)", &error),
	     &error);
	while (status == PP_OK) {
		status = pp_transact(f.pool, NULL, run_sql,
		                     (void *)(intptr_t) "INSERT INTO t VALUES (zeroblob(20000))",
		                     &error);
		inserted += status == PP_OK;
		CHECK_INT(bytes_in(f.pool), <=, MIB);
		CHECK_INT(inserted, <, 60);
	}
	CHECK_INT(status, ==, PP_NOMEM);
	CHECK_INT(error.attempt, ==, 1);
	CHECK_CONTAINS(error.message, "the pool is over its limit of 1048576 bytes: ");
	CHECK_INT(inserted, >, 5);
	/* The pool is full; who is none of its own may still look. */
	CHECK_INT(sqlite3_open(config.path, &db), ==, SQLITE_OK);
	CHECK_INT(number(db, "SELECT count(*) FROM t"), ==, inserted);
	CHECK_INT(sqlite3_close(db), ==, SQLITE_OK);
	CHECK_INT(pp_close(f.pool, PP_FOREVER, NULL), ==, PP_OK);
}

static const struct {
	const char *what;
	struct pp_config config;
	const char *words;
} tight[] = {
	{ "a connection",
	  { .connection_bytes_max = 64 * KIB },
	  "the connection is over its limit of 65536 bytes: " },
	{ "a pool",
	  { .readers = 200, .pool_bytes_max = 256 * KIB },
	  "the pool is over its limit of 262144 bytes: " },
};

static int be_greedy(sqlite3 *db, void *context)
{
	(void)context;
	return sqlite3_exec(db, "SELECT randomblob(60000)", NULL, NULL, NULL);
}

TEST_ROWS(limit, that_is_too_small_is_told_at_the_opening, sizeof tight / sizeof *tight)
{
	CLEANUP(fixture_remove) struct fixture f = fixture_dir();
	struct pp_config config = tight[row].config;
	struct pp_error error = { 0 };

	config.path = f.path;
	config.on_open = be_greedy;
	CHECK_INT(pp_open(&config, &f.pool, &error), ==, PP_NOMEM);
	CHECK_CONTAINS(error.message, tight[row].words);
	CHECK_INT(accounts_foreign_bytes(), <, MIB);
}

static const struct {
	const char *option;
	struct pp_config config;
} accountless[] = {
	{ "connection_bytes_max", { .connection_bytes_max = MIB } },
	{ "pool_bytes_max", { .pool_bytes_max = MIB } },
	{ "pool_bytes_soft", { .pool_bytes_soft = MIB } },
};

TEST_ROWS(limit, needs_accounts, sizeof accountless / sizeof *accountless)
{
	CLEANUP(fixture_remove) struct fixture f = fixture_dir();
	struct pp_config config = accountless[row].config;
	struct pp_transaction options = { .bytes_max = MIB };
	struct pp_error error = { 0 };

	config.path = f.path;
	CHECK_INT(pp_setup(PP_KEEP_ALLOCATOR), ==, PP_OK);
	CHECK_INT(pp_open(&config, &f.pool, &error), ==, PP_INVALID);
	CHECK_CONTAINS(error.message, accountless[row].option);
	must(pp_open(&(struct pp_config){ .path = f.path }, &f.pool, &error), &error);
	CHECK_INT(pp_transact(f.pool, &options, run_sql, NULL, &error), ==, PP_INVALID);
	CHECK_CONTAINS(error.message, "bytes_max");
	CHECK_INT(pp_close(f.pool, PP_FOREVER, NULL), ==, PP_OK);
}
