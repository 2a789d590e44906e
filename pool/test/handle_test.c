/* What a borrower sets on a handle is seen in its memory, or, where that is not known, undone
 * unseen. */
/* SPDX-License-Identifier: MIT */
#include "fixture.h"
#include "handle.h"

#include <dlfcn.h>

/* --- An SQLite in which one thing is kept elsewhere --------------------------------------- */

static bool elsewhere;

/* In place of SQLite's: sets nothing that shows. */
int sqlite3_extended_result_codes(sqlite3 *db, int on)
{
	static int (*real)(sqlite3 *, int);

	if (real == NULL)
		*(void **)&real = dlsym(RTLD_NEXT, "sqlite3_extended_result_codes");
	return elsewhere ? SQLITE_OK : real(db, on);
}

/* --- Each by itself ------------------------------------------------------------------------ */

static unsigned called;

static int call_int(void *context)
{
	(void)context;
	called++;
	return 0;
}

static int call_busy(void *context, int calls)
{
	(void)context, (void)calls;
	called++;
	return 0;
}

static void call_void(void *context)
{
	(void)context;
	called++;
}

static void call_update(void *context, int op, const char *db, const char *table, sqlite3_int64 id)
{
	(void)context, (void)op, (void)db, (void)table, (void)id;
	called++;
}

static void call_preupdate(void *context, sqlite3 *db, int op, const char *name, const char *table,
                           sqlite3_int64 before, sqlite3_int64 after)
{
	(void)context, (void)db, (void)op, (void)name, (void)table, (void)before, (void)after;
	called++;
}

static int call_wal(void *context, sqlite3 *db, const char *name, int pages)
{
	(void)context, (void)db, (void)name, (void)pages;
	called++;
	return SQLITE_OK;
}

static int call_trace(unsigned type, void *context, void *what, void *more)
{
	(void)type, (void)context, (void)what, (void)more;
	called++;
	return 0;
}

static unsigned call_autovacuum(void *context, const char *db, unsigned pages, unsigned free_pages,
                                unsigned page_bytes)
{
	(void)context, (void)db, (void)pages, (void)page_bytes;
	called++;
	return free_pages;
}

static int allow(void *context, int action, const char *first, const char *second,
                 const char *database, const char *trigger)
{
	(void)context, (void)action, (void)first, (void)second, (void)database, (void)trigger;
	called++;
	return SQLITE_OK;
}

static void set_commit_hook(sqlite3 *db)
{
	sqlite3_commit_hook(db, call_int, NULL);
}

static void set_rollback_hook(sqlite3 *db)
{
	sqlite3_rollback_hook(db, call_void, NULL);
}

static void set_update_hook(sqlite3 *db)
{
	sqlite3_update_hook(db, call_update, NULL);
}

static void set_preupdate_hook(sqlite3 *db)
{
	if (sqlite3_preupdate_hook != NULL)
		sqlite3_preupdate_hook(db, call_preupdate, NULL);
}

static void set_wal_hook(sqlite3 *db)
{
	sqlite3_wal_hook(db, call_wal, NULL);
}

static void set_wal_autocheckpoint(sqlite3 *db)
{
	sqlite3_wal_autocheckpoint(db, 1);
}

static void set_progress_handler(sqlite3 *db)
{
	sqlite3_progress_handler(db, 1, call_int, NULL);
}

static void set_busy_handler(sqlite3 *db)
{
	sqlite3_busy_handler(db, call_busy, NULL);
}

static void set_busy_timeout(sqlite3 *db)
{
	sqlite3_busy_timeout(db, 1);
}

static void set_trace(sqlite3 *db)
{
	sqlite3_trace_v2(db, SQLITE_TRACE_STMT | SQLITE_TRACE_PROFILE, call_trace, NULL);
}

static void set_autovacuum_pages(sqlite3 *db)
{
	sqlite3_autovacuum_pages(db, call_autovacuum, NULL, NULL);
}

static void set_result_codes(sqlite3 *db)
{
	sqlite3_extended_result_codes(db, 0);
}

static void set_rowid(sqlite3 *db)
{
	sqlite3_set_last_insert_rowid(db, 77);
}

static void set_authorizer(sqlite3 *db)
{
	sqlite3_set_authorizer(db, allow, NULL);
}

static const struct {
	void (*set)(sqlite3 *db);
	unsigned seen;
} settings[] = {
	{ set_commit_hook, HANDLE_SETTINGS },
	{ set_rollback_hook, HANDLE_SETTINGS },
	{ set_update_hook, HANDLE_SETTINGS },
	{ set_preupdate_hook, HANDLE_SETTINGS },
	{ set_wal_hook, HANDLE_SETTINGS },
	{ set_wal_autocheckpoint, HANDLE_SETTINGS },
	{ set_progress_handler, HANDLE_SETTINGS },
	{ set_busy_handler, HANDLE_SETTINGS },
	{ set_busy_timeout, HANDLE_SETTINGS },
	{ set_trace, HANDLE_SETTINGS },
	{ set_autovacuum_pages, HANDLE_SETTINGS },
	{ set_result_codes, HANDLE_SETTINGS },
	{ set_rowid, HANDLE_ROWID },
	{ set_authorizer, HANDLE_AUTHORIZER },
};

enum { SETTINGS = sizeof settings / sizeof *settings };

/* The pool's own authorizer is not to be had but from a handle: what is not it is another's. */
static unsigned look(const struct connection *c, unsigned of)
{
	int error;

	return handle_look(c, of == HANDLE_AUTHORIZER ? allow : NULL, &error) & of;
}

static struct connection *of_lease(const struct pp_lease *lease)
{
	return &lease_slot(lease)->connection;
}

/* After it the connection is as it was, and nobody's function is called any more. */
static void expect_clean(struct pp_pool *pool)
{
	struct pp_lease lease = { 0 };

	called = 0;
	acquire(pool, PP_WRITE, &lease);
	CHECK_INT(sqlite3_last_insert_rowid(lease.db), ==, 0);
	sql(lease.db, "BEGIN; INSERT INTO t VALUES (1, 1); COMMIT; BEGIN; DELETE FROM t; ROLLBACK");
	CHECK_INT(sqlite3_exec(lease.db, "INSERT INTO t VALUES (1, 1)", NULL, NULL, NULL), ==,
	          SQLITE_CONSTRAINT_PRIMARYKEY);
	sql(lease.db, "DELETE FROM t");
	CHECK_INT(called, ==, 0);
	pp_release(&lease);
}

TEST_ROWS(handle, shows_what_was_set, SETTINGS)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	struct pp_lease lease = { 0 };
	unsigned before;

	acquire(f.pool, PP_WRITE, &lease);
	CHECK(handle_is_known());
	before = look(of_lease(&lease), settings[row].seen);
	CHECK_INT(before, ==, settings[row].seen == HANDLE_AUTHORIZER ? HANDLE_AUTHORIZER : 0);
	settings[row].set(lease.db);
	CHECK(look(of_lease(&lease), settings[row].seen) != before ||
	      (settings[row].set == set_preupdate_hook && sqlite3_preupdate_hook == NULL));
	pp_release(&lease);
	/* What the pool's would have seen is not known: such a connection is not kept. */
	CHECK_INT(stats(f.pool).retired, ==, settings[row].seen == HANDLE_AUTHORIZER);
	expect_clean(f.pool);
}

TEST_ROWS(handle, shows_every_limit, LIMITS)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	struct pp_lease lease = { 0 };
	int before;

	acquire(f.pool, PP_READ, &lease);
	before = sqlite3_limit(lease.db, row, 1);
	CHECK_INT(look(of_lease(&lease), HANDLE_SETTINGS), ==, HANDLE_SETTINGS);
	pp_release(&lease);
	acquire(f.pool, PP_READ, &lease);
	CHECK_INT(sqlite3_limit(lease.db, row, -1), ==, before);
	pp_release(&lease);
}

TEST(handle, shows_what_is_under_way)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	struct pp_lease lease = { 0 };
	struct connection *c;
	sqlite3_stmt *stmt;
	int error;

	acquire(f.pool, PP_READ, &lease);
	c = of_lease(&lease);
	CHECK(handle_is_at_rest(c, c->rollback));
	sql(lease.db, "BEGIN");
	CHECK(!handle_is_at_rest(c, c->rollback));
	sql(lease.db, "COMMIT");
	CHECK(handle_is_at_rest(c, c->rollback));
	CHECK_INT(sqlite3_prepare_v2(lease.db, "SELECT 1", -1, &stmt, NULL), ==, SQLITE_OK);
	CHECK(!handle_is_at_rest(c, c->rollback));
	CHECK(handle_is_at_rest(c, stmt));
	CHECK_INT(sqlite3_step(stmt), ==, SQLITE_ROW);
	CHECK(!handle_is_at_rest(c, stmt));
	sqlite3_finalize(stmt);
	CHECK(handle_is_at_rest(c, c->rollback));
	handle_look(c, NULL, &error);
	CHECK_INT(error, ==, SQLITE_OK);
	CHECK_INT(sqlite3_exec(lease.db, "no such statement", NULL, NULL, NULL), ==, SQLITE_ERROR);
	handle_look(c, NULL, &error);
	CHECK_INT(error, ==, SQLITE_ERROR);
	pp_release(&lease);
}

/* --- Where nothing is known ---------------------------------------------------------------- */

/* Row SETTINGS: nothing is set. */
TEST_ROWS(handle, of_an_unknown_sqlite_is_cleaned_all_the_same, SETTINGS + 1)
{
	CLEANUP(fixture_close) struct fixture f = { 0 };
	struct pp_lease lease = { 0 };

	elsewhere = true;
	f = fixture_open(1);
	elsewhere = false;
	acquire(f.pool, PP_WRITE, &lease);
	CHECK(!handle_is_known());
	CHECK_CONTAINS(stats(f.pool).missing_features, "every release sets hooks");
	CHECK(!handle_is_at_rest(of_lease(&lease), of_lease(&lease)->rollback));
	sqlite3_extended_result_codes(lease.db, 1);
	if (row < SETTINGS && settings[row].set != set_authorizer)
		settings[row].set(lease.db);
	sql(lease.db, "BEGIN");
	sqlite3_limit(lease.db, SQLITE_LIMIT_LENGTH, 1);
	pp_release(&lease);
	CHECK_INT(stats(f.pool).dirty_transaction, ==, 1);
	CHECK_INT(stats(f.pool).retired, ==, 0);
	expect_clean(f.pool);
}
