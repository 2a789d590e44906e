/*
 * connection.c - one sqlite3 handle: opening it, what SQLite calls back, closing it.
 *
 * To know before reading: what cannot be undone is seen by the authorizer when a statement is
 * prepared (temporary objects, ATTACH, pragmas) and kept as a mask; such a connection is closed and
 * its slot opened anew by the next borrower. What can be undone is undone at the release.
 * Everything here is called by whoever holds the slot.
 */
/* SPDX-License-Identifier: MIT */
#include "internal.h"
#include "point.h"
#include "vfs.h"

#include <stdio.h>
#include <string.h>

enum {
	BUSY_INTERVAL_NS = 1000000, /* Constant: a growing one starves whoever waited longest. */
	TURN_INTERVAL_NS = 100000   /* For the one of all processes whose turn is next. */
};

/* --- What SQLite calls ------------------------------------------------------------------- */

/* Pragmas that only tell, or change the file and not the connection. */
static bool pragma_is_harmless(const char *name)
{
	static const char *const harmless[] = {
		"application_id", "collation_list",     "compile_options",  "data_version",
		"database_list",  "foreign_key_check",  "foreign_key_list", "freelist_count",
		"function_list",  "incremental_vacuum", "index_info",       "index_list",
		"index_xinfo",    "integrity_check",    "module_list",      "optimize",
		"page_count",     "pragma_list",        "quick_check",      "schema_version",
		"shrink_memory",  "table_info",         "table_list",       "table_xinfo",
		"user_version",   "wal_checkpoint",
	};

	for (unsigned i = 0; i < sizeof harmless / sizeof *harmless; i++)
		if (sqlite3_stricmp(name, harmless[i]) == 0)
			return true;
	return false;
}

int connection_authorize(void *context, int action, const char *first, const char *second,
                         const char *database, const char *trigger)
{
	struct connection *c = context;

	(void)trigger;
	switch (action) {
	case SQLITE_CREATE_TEMP_INDEX:
	case SQLITE_CREATE_TEMP_TABLE:
	case SQLITE_CREATE_TEMP_TRIGGER:
	case SQLITE_CREATE_TEMP_VIEW:
		c->dirty |= DIRTY_TEMP;
		break;
	case SQLITE_CREATE_VTABLE:
		if (sqlite3_stricmp(database, "temp") == 0)
			c->dirty |= DIRTY_TEMP;
		break;
	case SQLITE_ATTACH:
	case SQLITE_DETACH:
		c->dirty |= DIRTY_ATTACH;
		break;
	case SQLITE_PRAGMA:
		if (second != NULL && !pragma_is_harmless(first))
			c->dirty |= DIRTY_PRAGMA;
		break;
	default:
		break;
	}
	/* Not for what the pool itself prepares. */
	if (c->authorizer == NULL || !c->lent || c->own)
		return SQLITE_OK;
	return c->authorizer(c->authorizer_context, action, first, second, database, trigger);
}

/* Inside pp_begin() only the pool commits: a borrower's COMMIT becomes a rollback. */
static int on_commit(void *context)
{
	struct connection *c = context;

	return c->depth > 0 && !c->committing;
}

static void on_rollback(void *context)
{
	struct connection *c = context;

	c->rollbacks++;
}

enum stop connection_stop(struct connection *c, uint64_t now)
{
	if (token_cancelled(c->token))
		c->stopped = STOP_CANCELLED;
	else if (c->lent && now >= c->deadline_ns)
		c->stopped = STOP_DEADLINE;
	else if (c->lent &&
	         atomic_load_explicit(&c->interrupt, memory_order_relaxed) == c->generation)
		c->stopped = STOP_INTERRUPTED;
	else
		return STOP_NOT;
	return c->stopped;
}

enum pp_status connection_stopped(struct connection *c, const char *doing, struct pp_error *error)
{
	static const enum pp_status statuses[] = { [STOP_CANCELLED] = PP_CANCELLED,
		                                   [STOP_DEADLINE] = PP_TIMEOUT,
		                                   [STOP_INTERRUPTED] = PP_TIMEOUT,
		                                   [STOP_CLOSED] = PP_CLOSED };
	static const char *const words[] = {
		[STOP_CANCELLED] = "its token was cancelled",
		[STOP_DEADLINE] = "the deadline passed",
		[STOP_INTERRUPTED] = "interrupted by the pool: the lease was held too long, kept "
				     "the WAL from being cleared, or the pool closes",
		[STOP_CLOSED] = "pp_close() was called"
	};

	if (c->stopped == STOP_CANCELLED)
		count(&c->pool->counters.cancels);
	return error_code(error_set(error, statuses[c->stopped], doing, "%s", words[c->stopped]),
	                  error, SQLITE_INTERRUPT, 0);
}

enum pp_status connection_file(struct connection *c, struct pp_error *error)
{
	enum pp_status status;

	c->own = true;
	status = health_look(c->pool, c->db, error);
	c->own = false;
	return status;
}

enum pp_status connection_look(struct connection *c, struct pp_error *error)
{
	enum pp_status status = connection_file(c, error);

	if (status == PP_OK && c->stopped != STOP_NOT)
		status = connection_stopped(c, "look at the file", error);
	return status;
}

/* Every PROGRESS_OPS steps of the virtual machine, or as often as the user's own wants. */
static int on_progress(void *context)
{
	struct connection *c = context;

	/* SQLite also asks when COMMIT is done, and would say that it was interrupted. */
	if (c->committing)
		return 0;
	if (connection_stop(c, c->deadline_ns == UINT64_MAX ? 0 : clock_ns()) != STOP_NOT)
		return 1;
	return c->progress != NULL && c->lent && c->progress(c->progress_context) != 0;
}

/* Other processes' locks. SQLite's own handler waits longer the longer one has waited. Upkeep's own
 * connection, and one that is being opened, wait for nobody once the pool closes. */
static int on_busy(void *context, int calls)
{
	struct connection *c = context;
	uint64_t now = clock_ns(), until, interval;

	if (calls == 0)
		c->busy_until_ns = now + c->pool->config.busy_timeout_ms * 1000000ull;
	until = c->busy_until_ns < c->deadline_ns ? c->busy_until_ns : c->deadline_ns;
	if (now >= until || connection_stop(c, now) != STOP_NOT)
		return 0;
	if (!c->lent && atomic_load(&c->pool->keeper.stopping)) {
		c->stopped = STOP_CLOSED;
		return 0;
	}
	interval = c->has_turn ? TURN_INTERVAL_NS : BUSY_INTERVAL_NS;
	clock_sleep_ns(until - now < interval ? until - now : interval);
	return 1;
}

/* Who ends a transaction is told by these two, which a borrower may have replaced. */
bool connection_watch(struct connection *c)
{
	bool ours = sqlite3_commit_hook(c->db, on_commit, c) == c;

	return sqlite3_rollback_hook(c->db, on_rollback, c) == c && ours;
}

/* Whatever the borrower put there; cheap, so it is done without asking. */
void connection_hooks_reset(struct connection *c)
{
	connection_watch(c);
	sqlite3_update_hook(c->db, NULL, NULL);
	sqlite3_wal_hook(c->db, wal_on_commit, c->pool);
	sqlite3_busy_handler(c->db, on_busy, c);
	sqlite3_progress_handler(c->db, PROGRESS_OPS, on_progress, c);
	sqlite3_trace_v2(c->db, 0, NULL, NULL);
	sqlite3_autovacuum_pages(c->db, NULL, NULL, NULL);
	if (sqlite3_preupdate_hook != NULL)
		sqlite3_preupdate_hook(c->db, NULL, NULL);
	sqlite3_extended_result_codes(c->db, 1);
}

void connection_authorizer_set(struct connection *c, authorizer_fn *authorizer, void *context)
{
	bool back = authorizer == NULL;

	c->authorizer = back ? c->pool->config.authorizer : authorizer;
	c->authorizer_context = back ? c->pool->config.authorizer_context : context;
	c->dirty |= DIRTY_AUTHORIZER;
	/* Has everything that is prepared asked again. */
	sqlite3_set_authorizer(c->db, connection_authorize, c);
}

void connection_progress_set(struct connection *c, unsigned ops, int (*progress)(void *),
                             void *context)
{
	bool back = progress == NULL || ops == 0;

	c->progress = back ? c->pool->config.progress : progress;
	c->progress_context = back ? c->pool->config.progress_context : context;
	sqlite3_progress_handler(c->db, back || ops > PROGRESS_OPS ? PROGRESS_OPS : (int)ops,
	                         on_progress, c);
}

/* --- Opening ----------------------------------------------------------------------------- */

static enum pp_status run(struct connection *c, const char *sql, struct pp_error *error)
{
	int rc = sqlite3_exec(c->db, sql, NULL, NULL, NULL);

	return rc == SQLITE_OK ? PP_OK : error_sqlite(error, c->db, rc, "open", sql);
}

static int keep_mode(void *context, int columns, char **values, char **names)
{
	(void)columns, (void)names;
	snprintf(context, 16, "%s", values[0]);
	return 0;
}

/* The writer is opened first and alone: recovering a hot journal or a WAL needs that. */
static enum pp_status set_journal(struct connection *c, struct pp_error *error)
{
	static const char *const sql[] = {
		[PP_JOURNAL_WAL] = "PRAGMA journal_mode=WAL",
		[PP_JOURNAL_DELETE] = "PRAGMA journal_mode=DELETE",
		[PP_JOURNAL_KEEP] = "PRAGMA journal_mode",
	};
	enum pp_journal journal =
		c->pool->identity.memdb ? PP_JOURNAL_KEEP : c->pool->config.journal;
	char mode[16] = "";
	int calls = 0, rc;

	/* Of a change of mode SQLite does not ask the busy handler: another process may be making
	 * the same one. */
	do
		rc = sqlite3_exec(c->db, sql[journal], keep_mode, mode, NULL);
	while ((rc & 0xff) == SQLITE_BUSY && on_busy(c, calls++));
	if (rc != SQLITE_OK)
		return error_sqlite(error, c->db, rc, "open", sql[journal]);
	if ((journal == PP_JOURNAL_WAL && strcmp(mode, "wal") != 0) ||
	    (journal == PP_JOURNAL_DELETE && strcmp(mode, "delete") != 0))
		return error_set(
			error, PP_SQLITE, "open",
			"the journal mode stays \"%s\": is the database in use elsewhere, or "
			"on a network file system?",
			mode);
	if (!c->pool->filled)
		c->pool->gated = strcmp(mode, "wal") != 0;
	else if (c->pool->gated != (strcmp(mode, "wal") != 0))
		return error_set(error, PP_SQLITE, "open",
		                 "the journal mode is now \"%s\": open the pool anew", mode);
	return PP_OK;
}

static enum pp_status call_on_open(struct connection *c, struct pp_error *error)
{
	const struct pp_config *config = &c->pool->config;
	int rc = SQLITE_OK;

	if (config->on_open != NULL)
		rc = config->on_open(c->db, config->on_open_context);
	if (rc == SQLITE_OK)
		return PP_OK;
	/* What it says need not be what SQLite said last. */
	return error_sqlite(error, sqlite3_extended_errcode(c->db) == rc ? c->db : NULL, rc,
	                    "on_open", NULL);
}

/* With a rollback journal a commit is the journal's deletion, and FULL does not wait until that is
 * on the disk: the journal may come back and undo what was acknowledged. EXTRA syncs its folder. */
static const char *synchronous_sql(const struct pp_pool *pool)
{
	if (pool->config.synchronous != PP_SYNCHRONOUS_FULL)
		return "PRAGMA synchronous=NORMAL";
	return pool->gated ? "PRAGMA synchronous=EXTRA" : "PRAGMA synchronous=FULL";
}

/* It is lent to nobody: it keeps the file and its WAL open, looks at them and copies the WAL. */
static bool is_anchor(const struct connection *c)
{
	return c == &c->pool->anchor;
}

/* First on_open: a key or a page size must be set before the file is looked at. Then a look at it:
 * SQLite opens anything. While the pool is opened the writer has just set the mode, for the anchor
 * too. */
static enum pp_status configure(struct connection *c, struct pp_error *error)
{
	enum pp_status status = call_on_open(c, error);

	if (status == PP_OK)
		status = run(c, "PRAGMA schema_version", error);
	if (status == PP_OK)
		status = cache_fit(c, error);
	if (status == PP_OK && c->lane == PP_WRITE && !(is_anchor(c) && !c->pool->filled))
		status = set_journal(c, error);
	if (status == PP_OK)
		status = run(c, synchronous_sql(c->pool), error);
	if (status == PP_OK && c->lane == PP_READ)
		status = run(c, "PRAGMA query_only=ON", error);
	return status;
}

const char *connection_begin_sql(const struct connection *c)
{
	return c->lane == PP_WRITE ? "BEGIN IMMEDIATE" : "BEGIN";
}

static enum pp_status prepare_own(struct connection *c, struct pp_error *error)
{
	const struct {
		const char *sql;
		sqlite3_stmt **stmt;
	} own[OWN_STATEMENTS] = {
		{ connection_begin_sql(c), &c->begin },
		{ "SELECT 1 FROM sqlite_schema LIMIT 0", &c->snapshot },
		{ "COMMIT", &c->commit },
		{ "ROLLBACK", &c->rollback }, /* The newest, until the first of a borrower. */
	};
	int rc = SQLITE_OK;

	for (unsigned i = 0; i < OWN_STATEMENTS && rc == SQLITE_OK; i++)
		rc = sqlite3_prepare_v3(c->db, own[i].sql, -1, SQLITE_PREPARE_PERSISTENT,
		                        own[i].stmt, NULL);
	return rc == SQLITE_OK ? PP_OK : error_sqlite(error, c->db, rc, "open", own[0].sql);
}

static int handle_open(struct connection *c, struct account *account)
{
	struct account *before = account_enter(account);
	bool memdb = c->pool->identity.memdb;
	int rc;

	mutex_bind(account);
	rc = sqlite3_open_v2(memdb ? c->pool->identity.name : c->pool->path, &c->db,
	                     SQLITE_OPEN_READWRITE | SQLITE_OPEN_FULLMUTEX | SQLITE_OPEN_EXRESCODE |
	                             SQLITE_OPEN_PRIVATECACHE | (memdb ? SQLITE_OPEN_CREATE : 0),
	                     vfs_name(memdb));
	mutex_bind(NULL);
	account_enter(before);
	if (rc == SQLITE_OK) {
		vfs_pool_set(c->db, c->pool);
		vfs_snapshot_set(c->db, &c->snapshot_ms);
		if (is_anchor(c))
			vfs_portions_set(c->db);
	}
	return rc;
}

static void forget(struct connection *c)
{
	c->db = NULL;
	c->begin = c->snapshot = c->commit = c->rollback = NULL;
	c->depth = c->dirty = 0;
	c->at_work = 0;
	c->dead = c->committing = c->foreign = c->tolerates = c->discard = false;
	c->lent = c->own = c->has_turn = c->no_checkpoint = false;
	atomic_store_explicit(&c->snapshot_ms, 0, memory_order_relaxed);
	c->token = NULL;
	c->stopped = STOP_NOT;
	sqlite3_randomness(sizeof c->salt, &c->salt);
	c->deadline_ns = UINT64_MAX;
}

/* Less up to a tenth, so that those opened together are not renewed together. */
static uint64_t renewal_ms(const struct connection *c)
{
	uint64_t age = c->pool->config.age_ms, random;

	if (age == PP_NEVER)
		return UINT64_MAX;
	sqlite3_randomness(sizeof random, &random);
	return clock_coarse_ms() + age - random % (age / 10 + 1);
}

enum pp_status connection_open(struct connection *c, struct pp_deadline until,
                               struct pp_error *error)
{
	enum pp_status status = health_before_open(c->pool, error);
	struct account *account;
	uint64_t start = clock_ns();
	int rc;

	if (status != PP_OK)
		return status;
	POINT(OPEN);
	account = account_open(c->pool->account);
	if (account == NULL && memory_accounting() != PP_ACCOUNTING_OFF)
		return error_set(error, PP_NOMEM, "open", "no account is free for a connection");
	account_limit_set(account, c->pool->config.connection_bytes_max);
	forget(c);
	c->deadline_ns = until.ns; /* Opening may meet other processes' locks. */
	c->token = until.token;
	atomic_store(&c->account, account);
	statements_init(&c->statements, c->pool->config.statements_max,
	                c->pool->config.statements_bytes_max);
	rc = handle_open(c, account);
	if (!is_anchor(c))
		count(&c->pool->counters.opened);
	if (rc != SQLITE_OK) {
		status = error_sqlite(error, c->db, rc, "open", NULL);
		goto fail;
	}
	connection_callbacks_reset(c);
	connection_hooks_reset(c);
	status = health_after_open(c->pool, c->db, error);
	if (status == PP_OK)
		status = configure(c, error);
	if (status != PP_OK)
		goto fail;
	for (int id = 0; id < LIMITS; id++)
		c->limits[id] = sqlite3_limit(c->db, id, -1);
	connection_hooks_reset(c); /* on_open may have set some. */
	/* First the authorizer: setting it expires what is prepared, and ROLLBACK would be prepared
	 * again when it is needed, out of memory. */
	sqlite3_set_authorizer(c->db, connection_authorize, c);
	if (!is_anchor(c))
		status = prepare_own(c, error);
	if (status != PP_OK)
		goto fail;
	handle_note(c);
	c->deadline_ns = UINT64_MAX;
	c->token = NULL;
	atomic_store_explicit(&c->opened_ms, clock_coarse_ms(), memory_order_relaxed);
	atomic_store_explicit(&c->renew_ms, renewal_ms(c), memory_order_relaxed);
	histogram_note(c->pool, PP_HISTOGRAM_CONNECT, clock_ns() - start);
	return PP_OK;

fail:
	if (c->stopped != STOP_NOT)
		status = connection_stopped(c, "open", error);
	status = memory_explain(status, account, error);
	connection_close(c); /* SQLite hands out a handle even when it fails to open. */
	return status;
}

/* Somebody still has a statement, blob or backup of it: it lives on until he lets go, and nothing
 * of ours may be called then. */
static void handle_abandon(sqlite3 *db)
{
	vfs_pool_set(db, NULL);
	vfs_snapshot_set(db, NULL);
	sqlite3_set_authorizer(db, NULL, NULL);
	sqlite3_commit_hook(db, NULL, NULL);
	sqlite3_rollback_hook(db, NULL, NULL);
	sqlite3_wal_hook(db, NULL, NULL);
	sqlite3_progress_handler(db, 0, NULL, NULL);
	sqlite3_busy_handler(db, NULL, NULL);
	sqlite3_close_v2(db);
}

bool connection_close(struct connection *c)
{
	uint64_t left;
	bool closed;

	POINT(CLOSE);
	c->lent = false; /* Nobody stops what closing does. */
	if (c->no_checkpoint)
		sqlite3_db_config(c->db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
	statements_done(&c->statements);
	sqlite3_finalize(c->begin);
	sqlite3_finalize(c->snapshot);
	sqlite3_finalize(c->commit);
	sqlite3_finalize(c->rollback);
	/* Closes the virtual tables first, with the statements that they keep. */
	closed = sqlite3_close(c->db) == SQLITE_OK;
	if (!closed)
		handle_abandon(c->db);
	left = account_close(atomic_load(&c->account));
	atomic_store(&c->account, NULL);
	forget(c);
	if (!is_anchor(c))
		count(&c->pool->counters.closed);
	return left == 0 && closed;
}
