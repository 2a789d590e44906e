/* sequences_lend.c - opening and closing, leases and what borrowers leave, statements. */
/* SPDX-License-Identifier: MIT */
#include "sequences.h"

/* --- Opening ------------------------------------------------------------------------------ */

static bool open_pool(struct trial *t, const struct pp_config *config, struct pp_pool **ret_pool)
{
	return trial_did(t, "pp_open", pp_open(config, ret_pool, &t->error));
}

static void close_pool(struct trial *t, struct pp_pool *pool)
{
	struct pp_closing closing = { 0 };

	trial_must(t, "pp_close", pp_close(pool, pp_in_ms(1000), &closing));
	if (closing.residue_bytes > 0 || closing.parked > 0)
		trial_wrong(t, "pp_close(): %llu bytes and %u connections left",
		            (unsigned long long)closing.residue_bytes, closing.parked);
}

/* Left open: what was opened while something failed must serve. */
static void open_only(struct trial *t)
{
	struct pp_config config = trial_config(t);

	open_pool(t, &config, &t->pool);
}

static void open_and_close(struct trial *t)
{
	struct pp_config config = trial_config(t);
	struct pp_pool *pool;

	if (open_pool(t, &config, &pool))
		close_pool(t, pool);
}

static void open_twice(struct trial *t)
{
	struct pp_config config = trial_config(t), other = config;
	struct pp_pool *pool, *again, *none;

	other.statements_max = 7;
	if (!open_pool(t, &config, &pool))
		return;
	if (open_pool(t, &config, &again)) {
		if (again != pool)
			trial_wrong(t, "one file, two pools");
		close_pool(t, again);
	}
	trial_did_as(t, "pp_open, other options", pp_open(&other, &none, &t->error), PP_MISMATCH);
	close_pool(t, pool);
}

static void open_missing(struct trial *t)
{
	struct pp_config config = trial_config(t);
	struct pp_pool *pool;

	config.path = t->other_path;
	if (open_pool(t, &config, &pool))
		close_pool(t, pool);
	config.path = t->copy_path;
	config.must_exist = true;
	trial_did_as(t, "pp_open, no file", pp_open(&config, &pool, &t->error), PP_SQLITE);
}

static int prepare_handle(sqlite3 *db, void *context)
{
	(void)context;
	return sqlite3_exec(db, "PRAGMA cache_size=20", NULL, NULL, NULL) == SQLITE_OK
	               ? SQLITE_OK
	               : sqlite3_extended_errcode(db);
}

static int allow(void *context, int action, const char *first, const char *second,
                 const char *database, const char *trigger)
{
	(void)context, (void)action, (void)first, (void)second, (void)database, (void)trigger;
	return SQLITE_OK;
}

static int go_on(void *context)
{
	(void)context;
	return 0;
}

static void look_inside(const struct pp_event *event, void *context)
{
	struct pp_stats stats;
	char text[256];

	(void)context;
	pp_stats_read(event->pool, &stats);
	pp_metrics_text(event->pool, "sweep", text, sizeof text);
}

static void with_callbacks(struct pp_config *config)
{
	config->on_open = prepare_handle;
	config->authorizer = allow;
	config->progress = go_on;
	config->on_event = look_inside;
	config->backtraces = true;
}

static void open_called_back(struct trial *t)
{
	struct pp_config config = trial_config(t);
	struct pp_lease lease = { 0 };

	if (!open_pool(t, &config, &t->pool))
		return;
	if (trial_acquire(t, PP_WRITE, &lease)) {
		trial_sql(t, lease.db, "CREATE TEMP TABLE left_over(a)");
		trial_release(t, &lease);
	}
	close_pool(t, t->pool);
	t->pool = NULL;
}

static void with_limits(struct pp_config *config)
{
	config->connection_bytes_max = 4 << 20;
	config->pool_bytes_soft = 8 << 20;
	config->pool_bytes_max = 16 << 20;
}

/* --- Leases ------------------------------------------------------------------------------- */

static void lend(struct trial *t)
{
	struct pp_lease reader = { 0 }, writer = { 0 };

	if (trial_acquire(t, PP_READ, &reader)) {
		trial_count(t, &reader);
		trial_release(t, &reader);
	}
	if (trial_acquire(t, PP_WRITE, &writer)) {
		trial_count(t, &writer);
		trial_release(t, &writer);
	}
}

static void refuse(struct trial *t)
{
	struct pp_token token = { 0 };
	struct pp_lease lease = { 0 }, none = { 0 };

	if (!trial_acquire(t, PP_WRITE, &lease))
		return;
	trial_did_as(t, "pp_acquire, no wait",
	             pp_acquire(t->pool, PP_WRITE, PP_NO_WAIT, &none, &t->error), PP_TIMEOUT);
	trial_did_as(t, "pp_acquire, held by this thread",
	             pp_acquire(t->pool, PP_WRITE, PP_FOREVER, &none, &t->error),
	             PP_WOULD_DEADLOCK);
	trial_count(t, &lease);
	trial_release(t, &lease);
	pp_cancel(&token);
	trial_did_as(
		t, "pp_acquire, cancelled",
		pp_acquire(t->pool, PP_WRITE, pp_with_token(PP_FOREVER, &token), &none, &t->error),
		PP_CANCELLED);
}

static void exclusive(struct trial *t)
{
	struct pp_lease lease = { 0 };
	unsigned n = trial_write(t);
	enum pp_status status;

	if (!trial_acquire(t, PP_EXCLUSIVE, &lease))
		return;
	if (trial_did(t, "pp_begin", pp_begin(&lease, &t->error))) {
		status = trial_put(&lease, n);
		status = status == PP_OK ? pp_commit(&lease, &t->error)
		                         : (pp_rollback(&lease, NULL), PP_ABORTED);
		if (status != PP_ABORTED)
			trial_did(t, "pp_commit", status);
		trial_settle(t, n, status);
	}
	trial_sql(t, lease.db, "VACUUM");
	trial_release(t, &lease);
}

/* --- What borrowers leave ------------------------------------------------------------------ */

static void leave_transaction(struct trial *t)
{
	struct pp_lease lease = { 0 };
	unsigned n = trial_write(t);

	if (!trial_acquire(t, PP_WRITE, &lease))
		return;
	if (trial_sql(t, lease.db, "BEGIN IMMEDIATE"))
		trial_put(&lease, n);
	trial_release(t, &lease);
	if (trial_acquire(t, PP_WRITE, &lease)) {
		trial_count(t, &lease);
		trial_release(t, &lease);
	}
}

static void leave_begun(struct trial *t)
{
	struct pp_lease lease = { 0 };
	unsigned n = trial_write(t);

	if (!trial_acquire(t, PP_WRITE, &lease))
		return;
	if (trial_did(t, "pp_begin", pp_begin(&lease, &t->error)))
		trial_put(&lease, n);
	trial_release(t, &lease);
}

static void leave_statement(struct trial *t)
{
	struct pp_lease lease = { 0 };
	sqlite3_stmt *stmt = NULL;

	if (!trial_acquire(t, PP_READ, &lease))
		return;
	if (sqlite3_prepare_v2(lease.db, "SELECT n FROM pair", -1, &stmt, NULL) == SQLITE_OK)
		sqlite3_step(stmt);
	trial_release(t, &lease);
	sqlite3_finalize(stmt); /* Late, and still his. */
	if (trial_acquire(t, PP_READ, &lease)) {
		trial_count(t, &lease);
		trial_release(t, &lease);
	}
}

static void leave_settings(struct trial *t)
{
	struct pp_lease lease = { 0 };

	if (!trial_acquire(t, PP_WRITE, &lease))
		return;
	trial_sql(t, lease.db, "PRAGMA foreign_keys=ON");
	trial_sql(t, lease.db, "CREATE TEMP TABLE left_over(a)");
	trial_sql(t, lease.db, "ATTACH ':memory:' AS left_over");
	trial_release(t, &lease);
	if (trial_acquire(t, PP_WRITE, &lease)) {
		trial_count(t, &lease);
		trial_release(t, &lease);
	}
}

static int keep_on(void *context)
{
	(void)context;
	return 0;
}

static void leave_hooks(struct trial *t)
{
	struct pp_lease lease = { 0 };

	if (!trial_acquire(t, PP_WRITE, &lease))
		return;
	sqlite3_commit_hook(lease.db, keep_on, NULL);
	sqlite3_busy_timeout(lease.db, 1);
	sqlite3_limit(lease.db, SQLITE_LIMIT_COLUMN, 5);
	trial_sql(t, lease.db, "SELECT 1");
	trial_release(t, &lease);
}

static void chain(struct trial *t)
{
	struct pp_lease lease = { 0 };

	if (!trial_acquire(t, PP_READ, &lease))
		return;
	trial_must(t, "pp_authorizer_set", pp_authorizer_set(&lease, allow, NULL));
	trial_must(t, "pp_progress_set", pp_progress_set(&lease, 10, go_on, NULL));
	trial_count(t, &lease);
	trial_release(t, &lease); /* Which opens another one. */
	if (trial_acquire(t, PP_READ, &lease)) {
		trial_count(t, &lease);
		trial_release(t, &lease);
	}
}

/* --- Statements --------------------------------------------------------------------------- */

static void few_statements(struct pp_config *config)
{
	config->statements_max = 2;
}

static void prepare(struct trial *t)
{
	static const char *const texts[] = { "SELECT 1 -- the end", "SELECT 2", "SELECT 3",
		                             "SELECT 1 -- the end", "SELECT 1 -- the end" };
	struct pp_lease lease = { 0 };
	sqlite3_stmt *stmt;

	if (!trial_acquire(t, PP_READ, &lease))
		return;
	for (unsigned i = 0; i < sizeof texts / sizeof *texts; i++)
		if (trial_did(t, texts[i], pp_prepare(&lease, texts[i], &stmt, &t->error)))
			sqlite3_step(stmt);
	trial_release(t, &lease);
}

static void prepare_wrongly(struct trial *t)
{
	struct pp_lease lease = { 0 };
	sqlite3_stmt *stmt;

	if (!trial_acquire(t, PP_READ, &lease))
		return;
	trial_did_as(t, "pp_prepare, nonsense",
	             pp_prepare(&lease, "SELECT nothing FROM nowhere", &stmt, &t->error),
	             PP_SQLITE);
	trial_did_as(t, "pp_prepare, two",
	             pp_prepare(&lease, "SELECT 1; SELECT 2", &stmt, &t->error), PP_INVALID);
	trial_release(t, &lease);
}

static void by_number(struct trial *t)
{
	static const char *const texts[] = { "SELECT n FROM pair", "SELECT 5", "SELECT 6" };
	struct pp_lease lease = { 0 };
	sqlite3_stmt *stmt;
	unsigned ids[3] = { 0 };

	for (unsigned i = 0; i < 4; i++) /* The first one twice. */
		trial_did(t, "pp_statement_register",
		          pp_statement_register(t->pool, texts[i % 3], &ids[i % 3], &t->error));
	if (!trial_acquire(t, PP_READ, &lease))
		return;
	for (unsigned i = 0; i < 6; i++)
		if (ids[i % 3] != 0 &&
		    trial_did(t, "pp_statement",
		              pp_statement(&lease, ids[i % 3], &stmt, &t->error)))
			sqlite3_step(stmt);
	trial_release(t, &lease);
}

static const struct sequence list[] = {
	{ "open", "opened", SEQUENCE_OPENS | SEQUENCE_IO, NULL, open_only },
	{ "open_close", "opened and closed", SEQUENCE_OPENS | SEQUENCE_IO, NULL, open_and_close },
	{ "open_twice", "the same file again, and with other options", SEQUENCE_OPENS, NULL,
	  open_twice },
	{ "open_missing", "a file that is made, and one that must be there",
	  SEQUENCE_OPENS | SEQUENCE_FILES, NULL, open_missing },
	{ "open_limited", "with limits on bytes", SEQUENCE_OPENS, with_limits, open_and_close },
	{ "open_called_back", "on_open, authorizer, progress, on_event", SEQUENCE_OPENS,
	  with_callbacks, open_called_back },
	{ "lend", "each lane once", SEQUENCE_IO, NULL, lend },
	{ "refuse", "nothing free, a circle, a token", 0, NULL, refuse },
	{ "exclusive", "a write and VACUUM with all else closed", SEQUENCE_IO, NULL, exclusive },
	{ "leave_transaction", "BEGIN, half a write, given back", SEQUENCE_IO, NULL,
	  leave_transaction },
	{ "leave_begun", "the same by pp_begin()", 0, NULL, leave_begun },
	{ "leave_statement", "a statement of one's own in the middle of its rows", 0, NULL,
	  leave_statement },
	{ "leave_settings", "a pragma, a temporary table, ATTACH", SEQUENCE_IO, NULL,
	  leave_settings },
	{ "leave_hooks", "a hook, a busy handler, a limit", 0, NULL, leave_hooks },
	{ "chain", "an authorizer and a progress handler of the lease's", 0, NULL, chain },
	{ "prepare", "prepared, from the cache, put out of it", 0, few_statements, prepare },
	{ "prepare_wrongly", "what is no statement, or two", 0, NULL, prepare_wrongly },
	{ "by_number", "registered statements, more than are kept", 0, few_statements, by_number },
};

const struct sequences sequences_lend = { list, sizeof list / sizeof *list };
