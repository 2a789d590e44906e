/*
 * prove.c - whether a connection that comes back is clean, and mending it.
 *
 * To know before reading: in the usual case nothing is found, so that way is short: a look at the
 * handle's memory (handle.h) and a few words of our own. Everything here is called by whoever holds
 * the slot.
 */
/* SPDX-License-Identifier: MIT */
#include "handle.h"

#include <string.h>

/* Whoever replaces the pool's authorizer could do what it would have seen. */
__attribute__((noinline)) static void take_settings_back(struct connection *c, unsigned changed)
{
	if (changed & HANDLE_ROWID)
		sqlite3_set_last_insert_rowid(c->db, 0);
	if (changed & HANDLE_AUTHORIZER)
		c->dirty |= DIRTY_AUTHORIZER;
	if (!(changed & HANDLE_SETTINGS))
		return;
	connection_hooks_reset(c);
	for (int id = 0; id < LIMITS; id++)
		sqlite3_limit(c->db, id, c->limits[id]);
}

static sqlite3_stmt *newest_of_ours(const struct connection *c)
{
	return c->statements.newest != NULL ? c->statements.newest->stmt : c->rollback;
}

bool connection_has_foreign(const struct connection *c)
{
	return sqlite3_next_stmt(c->db, NULL) != newest_of_ours(c);
}

static bool in_transaction(const struct connection *c)
{
	return !sqlite3_get_autocommit(c->db) || sqlite3_txn_state(c->db, NULL) != SQLITE_TXN_NONE;
}

/* FTS and R-Tree write the names of their shadow tables so, and hardly anybody else does. */
static bool is_ours_or_shadow(const struct connection *c, sqlite3_stmt *stmt)
{
	const char *text = sqlite3_sql(stmt);

	if (stmt == c->begin || stmt == c->snapshot || stmt == c->commit || stmt == c->rollback)
		return true;
	for (const struct statement *e = c->statements.newest; e != NULL; e = e->older)
		if (e->stmt == stmt)
			return true;
	return text != NULL &&
	       (strstr(text, "'main'.") != NULL || strstr(text, "\"main\".") != NULL);
}

/* Statements that are not ours are reset, never finalized: their owner still has them. A blob's
 * hidden statement has no text and is left alone; its owner would read through a cursor that
 * is gone. BEGIN and ROLLBACK then take the write lock from whatever still runs. Returns whether
 * one was in the middle of something, and counts them. */
static bool stop_foreign(struct connection *c, unsigned *ret_count)
{
	bool busy = false;

	*ret_count = 0;
	for (sqlite3_stmt *s = NULL; (s = sqlite3_next_stmt(c->db, s)) != NULL; ++*ret_count) {
		busy |= sqlite3_stmt_busy(s) || !is_ours_or_shadow(c, s);
		if (sqlite3_sql(s) != NULL)
			sqlite3_reset(s);
	}
	*ret_count -= c->statements.count + OWN_STATEMENTS;
	if (sqlite3_get_autocommit(c->db) && in_transaction(c))
		sqlite3_exec(c->db, "BEGIN", NULL, NULL, NULL);
	return busy;
}

/*
 * Virtual tables (FTS, R-Tree) keep statements of their own on the connection, and nothing tells
 * them from a borrower's. Idle ones are taken for theirs where the schema has virtual tables, up
 * to a number per table that none of SQLite's own reaches (FTS5 keeps about twenty).
 */
static bool may_be_of_virtual_tables(struct connection *c, unsigned foreign)
{
	enum { STATEMENTS_PER_TABLE = 32 };
	static const char sql[] = "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND "
				  "sql LIKE 'CREATE VIRTUAL TABLE%'";
	sqlite3_stmt *stmt;
	int64_t tables = 0;

	/* When it cannot be asked there are none, and the connection is closed. */
	if (statement_take(c, sql, &stmt, NULL) == PP_OK && sqlite3_step(stmt) == SQLITE_ROW)
		tables = sqlite3_column_int64(stmt, 0);
	statements_give_back(&c->statements);
	return foreign <= tables * STATEMENTS_PER_TABLE;
}

static void roll_back(struct connection *c)
{
	sqlite3_step(c->rollback);
	sqlite3_reset(c->rollback);
}

/* true: there is one that the connection cannot be kept with. */
static bool settle_foreign(struct connection *c)
{
	unsigned foreign;
	bool busy;

	c->deadline_ns = 0; /* Giving back waits for no other process. */
	busy = stop_foreign(c, &foreign);

	if (!sqlite3_get_autocommit(c->db))
		roll_back(c);
	c->tolerates = !busy && may_be_of_virtual_tables(c, foreign);
	return !c->tolerates;
}

/* Statements of its own that the last one left running would keep the transaction from ending. */
static void reset_foreign(struct connection *c)
{
	for (sqlite3_stmt *s = NULL; (s = sqlite3_next_stmt(c->db, s)) != NULL;)
		if (sqlite3_stmt_busy(s) && sqlite3_sql(s) != NULL)
			sqlite3_reset(s);
}

bool connection_pass(struct connection *c)
{
	int last;
	unsigned changed = handle_look(c, connection_authorize, &last);
	bool watched = !(changed & HANDLE_SETTINGS) || connection_watch(c);

	connection_callbacks_reset(c);
	if (changed != 0)
		take_settings_back(c, changed);
	if (c->statements.taken != NULL)
		statements_give_back(&c->statements);
	if (connection_has_foreign(c))
		reset_foreign(c);
	return watched;
}

static void book_dirt(struct connection *c, bool open, bool foreign)
{
	struct counters *counters = &c->pool->counters;

	if (open)
		count(&counters->dirty_transaction);
	if (foreign)
		count(&counters->dirty_statements);
	if (c->dirty != 0)
		count(&counters->dirty_settings);
	if (open || foreign || c->dirty != 0)
		count(&counters->dirty);
}

/* Something may be open, active, not ours, or not to be undone. last: the borrower's last error. */
__attribute__((noinline)) static bool prove_closely(struct connection *c, int last)
{
	bool foreign = c->foreign || connection_has_foreign(c), open = in_transaction(c);

	c->foreign = c->tolerates = false;
	if (foreign)
		foreign = settle_foreign(c);
	if (!sqlite3_get_autocommit(c->db))
		roll_back(c);
	c->deadline_ns = UINT64_MAX;
	book_dirt(c, open, foreign);
	return !foreign && c->dirty == 0 && !in_transaction(c) && !c->discard &&
	       pp_class_of(last) != PP_DISCARD_CONNECTION;
}

bool connection_prove(struct connection *c)
{
	int last; /* Before anything here changes it. */
	unsigned changed = handle_look(c, connection_authorize, &last);

	c->lent = false; /* Nobody stops what mends it. */
	c->token = NULL;
	connection_callbacks_reset(c);
	/* Before anything is rolled back: the borrower's hooks may be gone with the borrower. */
	if (changed != 0)
		take_settings_back(c, changed);
	if (c->statements.taken != NULL)
		statements_give_back(&c->statements);
	c->depth = 0;
	c->dead = false;
	if (handle_is_at_rest(c, newest_of_ours(c)) && !c->foreign && c->dirty == 0 &&
	    !c->discard && (last == SQLITE_OK || last == SQLITE_ROW || last == SQLITE_DONE)) {
		c->deadline_ns = UINT64_MAX;
		return true;
	}
	return prove_closely(c, last);
}
