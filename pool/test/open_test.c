/* Opening, closing, and the registry. */
/* SPDX-License-Identifier: MIT */
#include "fixture.h"
#include "internal.h"

TEST(open, gives_connections_in_wal_mode_with_full_sync)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(2);
	CLEANUP(pp_release) struct pp_lease w = { 0 }, r = { 0 };

	acquire(f.pool, PP_WRITE, &w);
	acquire(f.pool, PP_READ, &r);
	CHECK_INT(number(w.db, "PRAGMA synchronous"), ==, 2);
	CHECK_INT(number(r.db, "PRAGMA query_only"), ==, 1);
	CHECK_INT(number(w.db, "SELECT count(*) FROM pragma_journal_mode WHERE journal_mode='wal'"),
	          ==, 1);
	CHECK_INT(stats(f.pool).read.open, ==, 2);
	CHECK_INT(stats(f.pool).write.open, ==, 1);
	CHECK(!stats(f.pool).gated);
}

TEST(open, same_file_by_any_name_is_the_same_pool)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(2);
	struct pp_pool *other = NULL;
	char link_path[128], hard_path[128], relative[256], cwd[128];

	snprintf(link_path, sizeof link_path, "%s/link.db", f.dir);
	snprintf(hard_path, sizeof hard_path, "%s/hard.db", f.dir);
	CHECK_INT(symlink(f.path, link_path), ==, 0);
	CHECK_INT(link(f.path, hard_path), ==, 0);
	CHECK(getcwd(cwd, sizeof cwd) != NULL);
	CHECK_INT(chdir(f.dir), ==, 0);
	snprintf(relative, sizeof relative, "./../%s/a.db", strrchr(f.dir, '/') + 1);
	const char *names[] = { f.path, link_path, hard_path, relative };

	for (unsigned i = 0; i < 4; i++) {
		must(pp_open(&(struct pp_config){ .path = names[i], .readers = 2 }, &other, NULL),
		     NULL);
		CHECK(other == f.pool);
		CHECK_INT(pp_close(other, PP_NO_WAIT, NULL), ==, PP_OK);
	}
	CHECK_INT(chdir(cwd), ==, 0);
	CHECK_INT(stats(f.pool).read.open, ==, 2); /* Still open: each close took one open back. */
}

TEST(open, refuses_differing_options_by_name)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(2);
	struct pp_pool *other = NULL;
	struct pp_error error = { 0 };

	CHECK_INT(pp_open(&(struct pp_config){ .path = f.path,
	                                       .readers = 3,
	                                       .synchronous = PP_SYNCHRONOUS_NORMAL },
	                  &other, &error),
	          ==, PP_MISMATCH);
	CHECK(other == NULL);
	CHECK_CONTAINS(error.message, "readers, readers_min, synchronous");
}

static int never_called(void *context)
{
	(void)context;
	abort();
}

/* A second opener whose callbacks would not be called has to know. */
TEST(open, refuses_other_callbacks_by_name)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(2);
	struct pp_pool *other = NULL;
	struct pp_error error = { 0 };

	CHECK_INT(pp_open(&(struct pp_config){ .path = f.path,
	                                       .readers = 2,
	                                       .progress = never_called,
	                                       .on_event_context = &error,
	                                       .backtraces = true },
	                  &other, &error),
	          ==, PP_MISMATCH);
	CHECK_CONTAINS(error.message, "with other: progress, on_event_context, backtraces");
	CHECK(other == NULL);
}

#define TEN "0123456789"
#define LONG_NAME TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN

static const struct {
	struct pp_config config;
	const char *words;
} bad[] = {
	{ { .path = NULL }, "path is missing" },
	{ { .path = "" }, "path is missing" },
	{ { .path = ":memory:" }, "file:/NAME?vfs=memdb" },
	{ { .path = "file:x.db" }, "only file:/NAME?vfs=memdb" },
	{ { .path = "file:?vfs=memdb" }, "only file:/NAME?vfs=memdb" },
	{ { .path = "file:name?vfs=memdb" }, "only file:/NAME?vfs=memdb" },
	{ { .path = "file://host/name?vfs=memdb" }, "only file:/NAME?vfs=memdb" },
	{ { .path = "file:/name?vfs=unix-none" }, "only file:/NAME?vfs=memdb" },
	{ { .path = "file:/" LONG_NAME "?vfs=memdb" }, "only file:/NAME?vfs=memdb" },
	{ { .path = "file:/?vfs=memdb" }, "only file:/NAME?vfs=memdb" },
	{ { .path = "file:/a?cache=shared?vfs=memdb" }, "only file:/NAME?vfs=memdb" },
	{ { .path = "/tmp" }, "not a regular file" },
	{ { .path = "x", .readers = 257 }, "readers is 257: it must be 1..256" },
	{ { .path = "x", .timeout_ms = 86400001 }, "timeout_ms is 86400001" },
	{ { .path = "x", .busy_timeout_ms = 86400001 }, "busy_timeout_ms" },
	{ { .path = "x", .line_max = 65537 }, "line_max is 65537: it must be 1..65536" },
	{ { .path = "x", .overtake_ms = 60001 }, "overtake_ms" },
	{ { .path = "x", .statements_max = 10001 }, "statements_max" },
	{ { .path = "x", .statements_bytes_max = 100 },
	  "statements_bytes_max is 100: it must be 4096" },
	{ { .path = "x", .journal = (enum pp_journal)9 }, "journal is 9" },
	{ { .path = "x", .synchronous = (enum pp_synchronous)9 }, "synchronous is 9" },
	{ { .path = "x", .readers_min = 5 }, "readers_min is 5: it must be 1..4" },
	{ { .path = "x", .grow_ms = 60001 }, "grow_ms is 60001: it must be 1..60000" },
	{ { .path = "x", .keeper = (enum pp_keeper)9 }, "keeper is 9: it must be 0..1" },
	{ { .path = "x", .health = (enum pp_health)9 }, "health is 9" },
	{ { .path = "x", .on_file_change = (enum pp_file_change)9 }, "on_file_change is 9" },
	{ { .path = "x", .lease_grace_ms = 86400001 }, "lease_grace_ms is 86400001" },
	{ { .path = "x", .wal_bytes_max = 65535 }, "wal_bytes_max is 65535: it must be 65536" },
	{ { .path = "x", .shed_interval_ms = 60001 }, "shed_interval_ms is 60001" },
	{ { .path = "x", .connection_bytes_max = 65535 }, "connection_bytes_max is 65535" },
	{ { .path = "x", .pool_bytes_soft = 65535 }, "pool_bytes_soft is 65535" },
	{ { .path = "x", .pool_bytes_max = 262143 },
	  "pool_bytes_max is 262143: it must be 262144" },
};

TEST_ROWS(open, refuses_what_is_out_of_range, sizeof bad / sizeof *bad)
{
	struct pp_pool *pool = NULL;
	struct pp_error error = { 0 };

	CHECK_INT(pp_open(&bad[row].config, &pool, &error), ==, PP_INVALID);
	CHECK(pool == NULL);
	CHECK_CONTAINS(error.message, bad[row].words);
}

/* The bounds are in: each option at its lowest, and at its highest. */
TEST_ROWS(open, takes_what_is_at_the_edge_of_its_range, 2)
{
	static const struct pp_config edges[] = {
		{ .readers = 1,
		  .timeout_ms = 1,
		  .busy_timeout_ms = 1,
		  .line_max = 1,
		  .overtake_ms = 1,
		  .statements_max = 1,
		  .statements_bytes_max = 4096,
		  .readers_min = 1,
		  .grow_ms = 1,
		  .idle_ms = 1,
		  .age_ms = 1,
		  .health_ms = 1,
		  .lease_warn_ms = 1,
		  .lease_grace_ms = 1,
		  .wal_bytes_max = 65536,
		  .reader_max_ms = 1,
		  .shed_ms = 1,
		  .shed_interval_ms = 1,
		  .pool_bytes_soft = 65536,
		  .synchronous = PP_SYNCHRONOUS_FULL },
		{ .readers = PP_READERS_MAX,
		  .timeout_ms = 86400000,
		  .busy_timeout_ms = 86400000,
		  .line_max = 65536,
		  .overtake_ms = 60000,
		  .statements_max = 10000,
		  .statements_bytes_max = 1u << 30,
		  .readers_min = PP_READERS_MAX,
		  .grow_ms = 60000,
		  .idle_ms = PP_NEVER,
		  .age_ms = PP_NEVER,
		  .health_ms = PP_NEVER,
		  .lease_warn_ms = PP_NEVER,
		  .lease_max_ms = PP_NEVER,
		  .lease_grace_ms = 86400000,
		  .wal_bytes_max = 1ull << 40,
		  .reader_max_ms = PP_NEVER,
		  .shed_ms = PP_NEVER,
		  .shed_interval_ms = 60000,
		  .connection_bytes_max = SIZE_MAX,
		  .pool_bytes_soft = SIZE_MAX,
		  .pool_bytes_max = SIZE_MAX,
		  .synchronous = PP_SYNCHRONOUS_NORMAL },
	};
	CLEANUP(fixture_close) struct fixture f = fixture_config(edges[row]);
	CLEANUP(pp_release) struct pp_lease lease = { 0 };

	acquire(f.pool, PP_WRITE, &lease);
	/* At the lowest age a reader is always being renewed: the old one goes after the new one is
	 * there, and both count until then. */
	WAIT_FOR(stats(f.pool).read.connections == edges[row].readers);
	CHECK_INT(number(lease.db, "PRAGMA synchronous"), ==, row == 0 ? 2 : 1);
}

static int no_syncs(sqlite3 *db, void *context)
{
	(void)context;
	return sqlite3_exec(db, "PRAGMA synchronous=OFF", NULL, NULL, NULL);
}

/* With a rollback journal a commit is durable when the journal's deletion is, for which FULL does
 * not wait. Upkeep's own connection, which copies the WAL into the file, is told, too. */
TEST_ROWS(open, has_commits_survive_a_power_loss, 4)
{
	static const struct {
		enum pp_journal journal;
		enum pp_synchronous synchronous;
		int expected;
	} rows[] = {
		{ PP_JOURNAL_WAL, PP_SYNCHRONOUS_FULL, 2 },
		{ PP_JOURNAL_DELETE, PP_SYNCHRONOUS_FULL, 3 },
		{ PP_JOURNAL_KEEP, PP_SYNCHRONOUS_FULL, 3 }, /* Of a new file. */
		{ PP_JOURNAL_DELETE, PP_SYNCHRONOUS_NORMAL, 1 },
	};
	CLEANUP(fixture_close)
	struct fixture f = fixture_config((struct pp_config){ .readers = 1,
	                                                      .journal = rows[row].journal,
	                                                      .synchronous = rows[row].synchronous,
	                                                      .on_open = no_syncs });

	CHECK_INT(number(f.pool->anchor.db, "PRAGMA synchronous"), ==, rows[row].expected);
	for (enum pp_lane lane = PP_READ; lane <= PP_WRITE; lane++) {
		CLEANUP(pp_release) struct pp_lease lease = { 0 };

		acquire(f.pool, lane, &lease);
		CHECK_INT(number(lease.db, "PRAGMA synchronous"), ==, rows[row].expected);
	}
}

/* Which pool a file has is a matter of the file, and a memdb's of its name. */
TEST(open, tells_files_and_memdbs_apart)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	struct pp_pool *pools[4];
	char path[128];

	snprintf(path, sizeof path, "%s/b.db", f.dir);
	const char *names[] = { f.path, path, "file:/a?vfs=memdb", "file:/b?vfs=memdb" };

	for (unsigned i = 0; i < 4; i++) {
		must(pp_open(&(struct pp_config){ .path = names[i], .readers = 1 }, &pools[i],
		             NULL),
		     NULL);
		for (unsigned j = 0; j < i; j++)
			CHECK(pools[i] != pools[j]);
	}
	CHECK(pools[0] == f.pool);
	must(pp_open(&(struct pp_config){ .path = names[3], .readers = 1 }, &pools[0], NULL), NULL);
	CHECK(pools[0] == pools[3]);
	CHECK_INT(pp_close(pools[0], PP_NO_WAIT, NULL), ==, PP_OK);
	pools[0] = f.pool;
	for (unsigned i = 0; i < 4; i++)
		CHECK_INT(pp_close(pools[i], PP_NO_WAIT, NULL), ==, PP_OK);
}

TEST(open, says_what_is_wrong_with_the_file)
{
	CLEANUP(fixture_close) struct fixture f = fixture_dir();
	struct pp_pool *pool = NULL;
	struct pp_error error = { 0 };
	struct stat file;
	FILE *text;

	CHECK_INT(pp_open(&(struct pp_config){ .path = f.path, .must_exist = true }, &pool, &error),
	          ==, PP_SQLITE);
	CHECK_CONTAINS(error.message, "No such file");
	CHECK(stat(f.path, &file) != 0); /* Not made by looking for it. */
	CHECK_INT(pp_open(&(struct pp_config){ .path = "/nowhere/a.db" }, &pool, &error), ==,
	          PP_SQLITE);
	CHECK_INT(error.sqlite_code, ==, SQLITE_CANTOPEN);
	CHECK_INT(error.system_errno, ==, ENOENT);

	text = fopen(f.path, "w");
	for (int i = 0; i < 1000; i++)
		fputs("This is not a database. ", text);
	fclose(text);
	CHECK_INT(pp_open(&(struct pp_config){ .path = f.path }, &pool, &error), ==, PP_SQLITE);
	CHECK_INT(error.sqlite_code, ==, SQLITE_NOTADB);
	CHECK(stat(f.path, &file) == 0 && file.st_size == 24000);
	CHECK(pool == NULL);
}

static const struct {
	const char *name, *words;
	int number;
} unopenable[] = {
	{ "dangling", "No such file", ENOENT }, /* A link to nothing. */
	{ "file/a.db", "Not a directory", ENOTDIR },
	{ "missing/a.db", "No such file", ENOENT },
};

TEST_ROWS(open, says_why_a_file_cannot_be_made, sizeof unopenable / sizeof *unopenable)
{
	CLEANUP(fixture_remove) struct fixture f = fixture_dir();
	struct pp_pool *pool = NULL;
	struct pp_error error = { 0 };
	char path[128];

	snprintf(path, sizeof path, "%s/dangling", f.dir);
	CHECK_INT(symlink("/nowhere/at/all", path), ==, 0);
	snprintf(path, sizeof path, "%s/file", f.dir);
	CHECK_INT(mknod(path, S_IFREG | 0600, 0), ==, 0);
	snprintf(path, sizeof path, "%s/%s", f.dir, unopenable[row].name);
	CHECK_INT(pp_open(&(struct pp_config){ .path = path }, &pool, &error), ==, PP_SQLITE);
	CHECK_INT(error.system_errno, ==, unopenable[row].number);
	CHECK_CONTAINS(error.message, unopenable[row].words);
	CHECK_INT(pp_open(&(struct pp_config){ .path = path }, &pool, NULL), ==, PP_SQLITE);
	CHECK(pool == NULL);
}

static int refuse(sqlite3 *db, void *context)
{
	(void)db;
	return *(int *)context;
}

/* The file stays, as with SQLite: another process may be about to write to it. */
TEST(open, fails_as_on_open_says_and_leaves_the_file_to_others)
{
	CLEANUP(fixture_close) struct fixture f = fixture_dir();
	struct pp_pool *pool = NULL;
	struct pp_error error = { 0 };
	struct stat file;
	int code = SQLITE_AUTH;

	CHECK_INT(pp_open(&(struct pp_config){ .path = f.path,
	                                       .on_open = refuse,
	                                       .on_open_context = &code,
	                                       .journal = PP_JOURNAL_KEEP },
	                  &pool, &error),
	          ==, PP_SQLITE);
	CHECK_INT(error.sqlite_code, ==, SQLITE_AUTH);
	CHECK_STR(error.doing, "on_open");
	CHECK(stat(f.path, &file) == 0 && file.st_size == 0);
	/* The row is free again: the same file opens when on_open agrees. */
	code = SQLITE_OK;
	must(pp_open(&(struct pp_config){ .path = f.path,
	                                  .on_open = refuse,
	                                  .on_open_context = &code },
	             &f.pool, &error),
	     &error);
}

static int switch_keys_on(sqlite3 *db, void *context)
{
	(void)context;
	sqlite3_limit(db, SQLITE_LIMIT_VARIABLE_NUMBER, 77);
	return sqlite3_exec(db, "PRAGMA foreign_keys=ON", NULL, NULL, NULL);
}

TEST(open, what_on_open_sets_is_what_clean_means)
{
	CLEANUP(fixture_close)
	struct fixture f =
		fixture_config((struct pp_config){ .readers = 1, .on_open = switch_keys_on });
	CLEANUP(pp_release) struct pp_lease lease = { 0 };

	acquire(f.pool, PP_READ, &lease);
	CHECK_INT(number(lease.db, "PRAGMA foreign_keys"), ==, 1);
	sqlite3_limit(lease.db, SQLITE_LIMIT_VARIABLE_NUMBER, 5);
	sql(lease.db, "PRAGMA foreign_keys=OFF");
	pp_release(&lease);
	acquire(f.pool, PP_READ, &lease); /* Opened anew, by on_open too. */
	CHECK_INT(number(lease.db, "PRAGMA foreign_keys"), ==, 1);
	CHECK_INT(sqlite3_limit(lease.db, SQLITE_LIMIT_VARIABLE_NUMBER, -1), ==, 77);
}

TEST(open, keeps_and_sets_the_journal_mode)
{
	CLEANUP(fixture_remove) struct fixture f = fixture_dir();
	struct pp_error error = { 0 };
	static const struct {
		enum pp_journal journal;
		bool gated;
	} rows[] = { { PP_JOURNAL_KEEP, true },
		     { PP_JOURNAL_WAL, false },
		     { PP_JOURNAL_KEEP, false },
		     { PP_JOURNAL_DELETE, true } };

	for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++) {
		must(pp_open(&(struct pp_config){ .path = f.path, .journal = rows[i].journal },
		             &f.pool, &error),
		     &error);
		CHECK_INT(stats(f.pool).gated, ==, rows[i].gated);
		CHECK_INT(pp_close(f.pool, PP_NO_WAIT, NULL), ==, PP_OK);
	}
}

static int leave_a_transaction(sqlite3 *db, void *context)
{
	(void)context;
	return sqlite3_exec(db,
	                    "PRAGMA journal_mode=TRUNCATE; BEGIN; CREATE TABLE IF NOT EXISTS x(a); "
	                    "INSERT INTO x VALUES (1)",
	                    NULL, NULL, NULL);
}

TEST(open, says_that_the_journal_mode_stays)
{
	CLEANUP(fixture_close) struct fixture f = fixture_dir();
	struct pp_error error = { 0 };

	CHECK_INT(pp_open(&(struct pp_config){ .path = f.path,
	                                       .journal = PP_JOURNAL_DELETE,
	                                       .on_open = leave_a_transaction },
	                  &f.pool, &error),
	          ==, PP_SQLITE);
	CHECK_CONTAINS(error.message, "the journal mode stays \"truncate\"");
}

TEST(open, memdb_is_one_database_for_all_its_connections)
{
	CLEANUP(fixture_close)
	struct fixture f = fixture_config(
		(struct pp_config){ .path = "file:/shared?vfs=memdb", .readers = 2 });
	CLEANUP(pp_release) struct pp_lease lease = { 0 };

	CHECK(stats(f.pool).gated);
	acquire(f.pool, PP_WRITE, &lease);
	sql(lease.db, "INSERT INTO t VALUES (1, 7)");
	pp_release(&lease);
	acquire(f.pool, PP_READ, &lease);
	CHECK_INT(number(lease.db, "SELECT v FROM t"), ==, 7);
}

TEST(open, refuses_the_65th_pool)
{
	struct pp_pool *pools[PP_POOLS_MAX + 1];
	struct pp_error error = { 0 };
	char path[64];

	for (unsigned i = 0; i <= PP_POOLS_MAX; i++) {
		snprintf(path, sizeof path, "file:/many%u?vfs=memdb", i);
		CHECK_INT(pp_open(&(struct pp_config){ .path = path, .readers = 1 }, &pools[i],
		                  &error),
		          ==, i < PP_POOLS_MAX ? PP_OK : PP_INVALID);
	}
	CHECK_CONTAINS(error.message, "64 pools are open");
	for (unsigned i = 0; i < PP_POOLS_MAX; i++)
		CHECK_INT(pp_close(pools[i], PP_NO_WAIT, NULL), ==, PP_OK);
}

/* --- Closing ----------------------------------------------------------------------------- */

TEST(close, accepts_null)
{
	CHECK_INT(pp_close(NULL, PP_NO_WAIT, NULL), ==, PP_OK);
}

TEST(close, leaves_what_is_lent_and_may_be_called_again)
{
	CLEANUP(fixture_remove) struct fixture f = fixture_open(1);
	struct pp_lease lease = { 0 }, none = { 0 };
	struct pp_closing closing = { 0 };
	struct pp_pool *other = NULL;
	struct pp_error error = { 0 };

	acquire(f.pool, PP_READ, &lease);
	CHECK_INT(pp_close(f.pool, PP_NO_WAIT, &closing), ==, PP_LEASED);
	CHECK_INT(closing.leased, ==, 1);
	CHECK_INT(number(lease.db, "SELECT 1"), ==, 1); /* Not freed under its holder. */
	CHECK_INT(pp_acquire(f.pool, PP_WRITE, PP_FOREVER, &none, &error), ==, PP_CLOSED);
	CHECK_CONTAINS(error.message, "pp_close");
	CHECK_INT(pp_open(&(struct pp_config){ .path = f.path, .readers = 1 }, &other, &error), ==,
	          PP_CLOSED);
	CHECK_CONTAINS(error.message, "still closing");
	CHECK_INT(pp_close(f.pool, pp_in_ms(5), &closing), ==, PP_LEASED);
	pp_release(&lease);
	CHECK_INT(pp_close(f.pool, PP_NO_WAIT, &closing), ==, PP_OK);
	CHECK_INT(closing.leased, ==, 0);
	CHECK_INT(closing.residue_bytes, ==, 0);
	CHECK_INT(pp_close(f.pool, PP_NO_WAIT, NULL), ==, PP_CLOSED);
	closing.leased = 77;
	CHECK_INT(pp_close(f.pool, PP_NO_WAIT, &closing), ==, PP_CLOSED);
	CHECK_INT(closing.leased, ==, 77); /* Written on success, and with PP_LEASED. */
}

struct closer {
	struct fixture *f;
	struct pp_closing closing;
	enum pp_status status;
};

static void *close_forever(void *context)
{
	struct closer *c = context;

	c->status = pp_close(c->f->pool, PP_FOREVER, &c->closing);
	return NULL;
}

TEST(close, wakes_the_waiters_and_waits_for_the_last_release)
{
	CLEANUP(fixture_remove)
	struct fixture f = /* Else the head looks by itself. */
		fixture_config((struct pp_config){ .readers = 1, .overtake_ms = 60000 });
	struct closer closer = { .f = &f };
	struct pp_lease lease = { 0 };
	struct visitor v = { .pool = f.pool, .lane = PP_WRITE, .deadline = PP_FOREVER };
	pthread_t waiter, closing;

	acquire(f.pool, PP_WRITE, &lease);
	waiter = thread_start(visit, &v);
	WAIT_FOR(stats(f.pool).write.waiting == 1);
	closing = thread_start(close_forever, &closer);
	pthread_join(waiter, NULL);
	CHECK_INT(v.status, ==, PP_CLOSED);
	pp_release(&lease);
	pthread_join(closing, NULL);
	CHECK_INT(closer.status, ==, PP_OK);
	CHECK_INT(closer.closing.residue_bytes, ==, 0);
}

static void *churn(void *context)
{
	struct fixture *f = context;

	for (unsigned i = 0; i < 200 / slowness(); i++) {
		struct pp_pool *pool = NULL;
		struct pp_lease lease = { 0 };
		struct pp_error error = { 0 };
		enum pp_status status = pp_open(
			&(struct pp_config){ .path = f->path, .readers = 1 }, &pool, &error);

		if (status == PP_CLOSED)
			continue;
		must(status, &error);
		acquire(pool, PP_READ, &lease);
		pp_release(&lease);
		CHECK_INT(pp_close(pool, PP_FOREVER, NULL), ==, PP_OK);
	}
	return NULL;
}

/* Opening, borrowing and closing the same file from many threads: the registry counts right. */
TEST(close, and_open_race_without_losing_count)
{
	CLEANUP(fixture_close) struct fixture f = fixture_dir();
	pthread_t threads[4];

	for (unsigned i = 0; i < 4; i++)
		threads[i] = thread_start(churn, &f);
	for (unsigned i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	must(pp_open(&(struct pp_config){ .path = f.path }, &f.pool, NULL), NULL);
}
