/* Online backup into a pool, which has then another content or all of its own; and out of memory.
 */
/* SPDX-License-Identifier: MIT */
#include "bank.h"
#include "heap.h"
#include "internal.h"

/* --- Into a pool -------------------------------------------------------------------------- */

static int small_pages(sqlite3 *db, void *context)
{
	(void)context;
	return sqlite3_exec(db, "PRAGMA page_size=1024; PRAGMA synchronous=OFF", NULL, NULL, NULL);
}

static const struct {
	const char *what;
	struct pp_config from, to;
} pairs[] = {
	{ "WAL to WAL", { .readers = 2 }, { .readers = 2 } },
	{ "journal to WAL", { .journal = PP_JOURNAL_DELETE }, { .readers = 2 } },
	{ "WAL to journal", { .readers = 2 }, { .journal = PP_JOURNAL_DELETE } },
	{ "memdb to WAL", { .path = "file:/from?vfs=memdb" }, { .readers = 2 } },
	{ "WAL to memdb", { .readers = 2 }, { .path = "file:/to?vfs=memdb" } },
	{ "memdb to memdb", { .path = "file:/from?vfs=memdb" }, { .path = "file:/to?vfs=memdb" } },
	{ "WAL to WAL, other pages", { .on_open = small_pages }, { .readers = 2 } },
	{ "WAL to WAL, other pages back", { .readers = 2 }, { .on_open = small_pages } },
	{ "WAL to journal, other pages",
	  { .on_open = small_pages },
	  { .journal = PP_JOURNAL_DELETE } },
};

static void writes_on(struct pp_pool *pool)
{
	struct pp_lease lease = { 0 };

	acquire(pool, PP_WRITE, &lease);
	sql(lease.db, "INSERT INTO bank VALUES (5000, 11, 'new')");
	pp_release(&lease);
	CHECK_INT(pool_says(pool, "SELECT sum(money) FROM bank"), ==, TOTAL + 11);
	CHECK_INT(pool_says(pool, "SELECT count(*) FROM pragma_integrity_check WHERE "
	                          "integrity_check = 'ok'"),
	          ==, 1);
}

TEST_ROWS(backup_pool, replaces_its_content, sizeof pairs / sizeof *pairs)
{
	CLEANUP(fixture_close) struct fixture from = bank_open(pairs[row].from);
	CLEANUP(fixture_close) struct fixture to = fixture_config(pairs[row].to);
	struct pp_lease lease = { 0 };
	sqlite3_stmt *stmt;

	acquire(to.pool, PP_WRITE, &lease);
	sql(lease.db, "CREATE TABLE old(x); INSERT INTO old VALUES (1)");
	must(pp_prepare(&lease, "SELECT * FROM t", &stmt, NULL), NULL);
	CHECK_INT(sqlite3_step(stmt), ==, SQLITE_DONE);
	pp_release(&lease);
	bool gated = stats(to.pool).gated;
	struct pp_stats before = stats(to.pool);

	backup(from.pool, (struct pp_backup){ .to_pool = to.pool });
	CHECK_INT(pool_says(to.pool, "SELECT sum(money) FROM bank"), ==, TOTAL);
	CHECK_INT(pool_says(to.pool, "SELECT count(*) FROM sqlite_schema WHERE name = 'old'"), ==,
	          0);
	/* What was prepared before is right for what is there now. */
	acquire(from.pool, PP_WRITE, &lease);
	sql(lease.db, "DROP TABLE t; CREATE TABLE t(a, b, c); INSERT INTO t VALUES (1, 2, 3)");
	pp_release(&lease);
	backup(from.pool, (struct pp_backup){ .to_pool = to.pool });
	acquire(to.pool, PP_WRITE, &lease);
	must(pp_prepare(&lease, "SELECT * FROM t", &stmt, NULL), NULL);
	CHECK_INT(sqlite3_step(stmt), ==, SQLITE_ROW);
	CHECK_INT(sqlite3_column_count(stmt), ==, 3);
	pp_release(&lease);

	writes_on(to.pool);
	CHECK_INT(stats(to.pool).gated, ==, gated);
	acquire(to.pool, PP_READ, &lease);
	must(pp_prepare(&lease, "PRAGMA journal_mode", &stmt, NULL), NULL);
	CHECK_INT(sqlite3_step(stmt), ==, SQLITE_ROW);
	if (pairs[row].to.path == NULL)
		CHECK_STR((const char *)sqlite3_column_text(stmt, 0), gated ? "delete" : "wal");
	pp_release(&lease);
	CHECK_INT(stats(to.pool).dirty, ==, before.dirty);
	CHECK_INT(stats(to.pool).retired, ==, before.retired);
	CHECK_INT(stats(to.pool).file_changes, ==, 0);
	CHECK_INT(pp_keep(to.pool, NULL), ==, PP_OK);
	CHECK_INT(stats(to.pool).file_changes, ==, 0);
	if (stats(to.pool).accounting != PP_ACCOUNTING_OFF)
		CHECK_INT(stats(to.pool).foreign_bytes, ==, 0);
}

/* The one that is smaller: the file is cut by the pool's own hand. */
TEST_ROWS(backup_pool, may_make_its_file_smaller, 2)
{
	enum pp_journal journal = row == 0 ? PP_JOURNAL_WAL : PP_JOURNAL_DELETE;
	CLEANUP(fixture_close) struct fixture from = fixture_open(1);
	CLEANUP(fixture_close)
	struct fixture to =
		bank_open((struct pp_config){ .journal = journal, .keeper = PP_KEEPER_MANUAL });
	struct pp_lease lease = { 0 };

	CHECK_INT(pp_keep(to.pool, NULL), ==, PP_OK);
	backup(from.pool, (struct pp_backup){ .to_pool = to.pool });
	clock_travel_ms(100000);
	CHECK_INT(pp_keep(to.pool, NULL), ==, PP_OK);
	acquire(to.pool, PP_WRITE, &lease);
	sql(lease.db, "INSERT INTO t VALUES (1, 1)");
	pp_release(&lease);
	CHECK_INT(stats(to.pool).file_changes, ==, 0);
}

/* What it had it has again, at whichever step it ended. */
TEST_ROWS(backup_pool, that_ends_early_changes_nothing, 5)
{
	CLEANUP(fixture_close)
	struct fixture from = bank_open(
		(struct pp_config){ .readers = 1, .on_open = row % 2 == 0 ? NULL : small_pages });
	CLEANUP(fixture_close)
	struct fixture to = fixture_config(
		(struct pp_config){ .path = row / 2 == 2 ? "file:/early?vfs=memdb" : NULL,
	                            .journal = row / 2 == 0 ? PP_JOURNAL_WAL : PP_JOURNAL_DELETE });
	struct spoiler s = { .f = &from };
	struct pp_error error = { 0 };
	struct pp_lease lease = { 0 };

	acquire(to.pool, PP_WRITE, &lease);
	sql(lease.db, "INSERT INTO t VALUES (1, 1)");
	pp_release(&lease);
	CHECK_INT(pp_backup(from.pool,
	                    &(struct pp_backup){ .to_pool = to.pool,
	                                         .step_pages = 5,
	                                         .progress = abort_it,
	                                         .context = &s },
	                    &error),
	          ==, PP_ABORTED);
	CHECK_INT(pool_says(to.pool, "SELECT count(*) FROM t"), ==, 1);
	CHECK_INT(pool_says(to.pool, "SELECT count(*) FROM sqlite_schema WHERE name = 'bank'"), ==,
	          0);
	acquire(to.pool, PP_WRITE, &lease);
	sql(lease.db, "INSERT INTO t VALUES (2, 2)");
	pp_release(&lease);
	backup(from.pool, (struct pp_backup){ .to_pool = to.pool });
	writes_on(to.pool);
}

TEST(backup_pool, to_memdb_of_other_pages_is_refused)
{
	CLEANUP(fixture_close)
	struct fixture from = bank_open((struct pp_config){ .on_open = small_pages });
	CLEANUP(fixture_close)
	struct fixture to = fixture_config((struct pp_config){ .path = "file:/to?vfs=memdb" });

	backup_fails(from.pool, (struct pp_backup){ .to_pool = to.pool }, PP_INVALID,
	             "to file:/to?vfs=memdb: its pages have 4096 bytes, and these 1024: memdb "
	             "cannot change that");
	CHECK_INT(rows_in(to.pool), ==, 0);
}

TEST(backup_pool, waits_for_it)
{
	CLEANUP(fixture_close) struct fixture from = bank_open((struct pp_config){ .readers = 1 });
	CLEANUP(fixture_close) struct fixture to = fixture_open(1);
	struct pp_lease lease = { 0 };
	struct pp_error error = { 0 };

	acquire(to.pool, PP_WRITE, &lease);
	CHECK_INT(pp_backup(from.pool,
	                    &(struct pp_backup){ .to_pool = to.pool, .deadline = pp_in_ms(20) },
	                    &error),
	          ==, PP_WOULD_DEADLOCK);
	pp_release(&lease);
	acquire(from.pool, PP_READ, &lease);
	CHECK_INT(pp_backup(from.pool,
	                    &(struct pp_backup){ .to_pool = to.pool, .deadline = pp_in_ms(20) },
	                    &error),
	          ==, PP_WOULD_DEADLOCK);
	pp_release(&lease);
	CHECK_INT(rows_in(to.pool), ==, 0);
}

/* Another process has the target locked: that is waited for, and no longer than said. */
TEST(backup_pool, waits_for_other_processes)
{
	CLEANUP(fixture_close) struct fixture from = bank_open((struct pp_config){ .readers = 1 });
	CLEANUP(fixture_close)
	struct fixture to = fixture_config((struct pp_config){ .busy_timeout_ms = 1 });
	struct pp_error error = { 0 };
	sqlite3 *other;

	CHECK_INT(sqlite3_open(to.path, &other), ==, SQLITE_OK);
	sql(other, "BEGIN IMMEDIATE");
	CHECK_INT(pp_backup(from.pool,
	                    &(struct pp_backup){ .to_pool = to.pool, .deadline = pp_in_ms(50) },
	                    &error),
	          ==, PP_TIMEOUT);
	sql(other, "COMMIT");
	backup(from.pool, (struct pp_backup){ .to_pool = to.pool });
	CHECK_INT(pool_says(to.pool, "SELECT sum(money) FROM bank"), ==, TOTAL);
	sqlite3_close(other);
}

/* Changing the page size needs the file for itself. */
TEST(backup_pool, of_other_pages_needs_the_file_alone)
{
	CLEANUP(fixture_close)
	struct fixture from = bank_open((struct pp_config){ .readers = 1, .on_open = small_pages });
	CLEANUP(fixture_close)
	struct fixture to = fixture_config((struct pp_config){ .busy_timeout_ms = 1 });
	sqlite3 *other;

	CHECK_INT(sqlite3_open(to.path, &other), ==, SQLITE_OK);
	number(other, "SELECT count(*) FROM t");
	backup_fails(from.pool, (struct pp_backup){ .to_pool = to.pool }, PP_SQLITE,
	             "database is locked");
	sqlite3_close(other);
	CHECK_INT(rows_in(to.pool), ==, 0);
	backup(from.pool, (struct pp_backup){ .to_pool = to.pool });
	writes_on(to.pool);
}

/* --- Out of memory ------------------------------------------------------------------------ */

static const struct {
	const char *what;
	bool to_pool, small;
} sweeps[] = { { "file", false, false }, { "pool", true, false }, { "other pages", true, true } };

/* Each allocation fails once: nothing half written, and what was there is there. */
TEST_ROWS(backup_pool, out_of_memory_anywhere_is_none, sizeof sweeps / sizeof *sweeps)
{
	CLEANUP(fixture_close) struct fixture from = { 0 };
	CLEANUP(fixture_close) struct fixture to = { 0 };
	struct pp_backup options = { .deadline = PP_FOREVER };
	unsigned met = 0;

	heap_install();
	from = bank_open((struct pp_config){ .readers = 1,
	                                     .keeper = PP_KEEPER_MANUAL,
	                                     .on_open = sweeps[row].small ? small_pages : NULL });
	to = fixture_config(
		(struct pp_config){ .readers = 1, .keeper = PP_KEEPER_MANUAL, .on_open = no_sync });
	if (sweeps[row].to_pool)
		options.to_pool = to.pool;
	else
		options.to_path = in(&from, "c.db");
	for (unsigned n = 1;; n += slowness()) {
		struct pp_error error = { 0 };
		enum pp_status status;
		unsigned failed;

		heap_plan(n, false);
		status = pp_backup(from.pool, &options, &error);
		failed = heap.failed;
		heap_plan(0, false);
		/* SQLite can do without some. */
		CHECK_MSG(status == PP_OK || (failed > 0 && status == PP_NOMEM),
		          "%s, call %u: %s: %s", sweeps[row].what, n, pp_status_name(status),
		          error.message);
		CHECK_INT(files_in(&from, "partial"), ==, 0);
		if (!sweeps[row].to_pool)
			CHECK_INT(files_in(&from, "c.db"), ==, status == PP_OK);
		else
			CHECK_INT(pool_says(to.pool, "SELECT count(*) FROM sqlite_schema WHERE "
			                             "name = 'bank'"),
			          ==, status == PP_OK);
		if (failed == 0)
			break;
		met++;
		if (status == PP_OK && !sweeps[row].to_pool)
			unlink(options.to_path);
		if (status == PP_OK && sweeps[row].to_pool)
			break;
	}
	CHECK_INT(met, >=, 30 / slowness());
}
