/* statement.h - a statement from its bindings to its last row, for plug-ins over SQLite. */
/* SPDX-License-Identifier: MIT */
#ifndef HARNESS_TEST_PEERS_STATEMENT_H
#define HARNESS_TEST_PEERS_STATEMENT_H

#include <poolproof/harness/target.h>

#include <sqlite3.h>
#include <stdio.h>

enum { COLUMNS_MAX = 64 };

static inline bool failed(struct harness_failure *f, enum harness_failure_kind kind, int code,
                          const char *text)
{
	f->kind = kind;
	f->code = code;
	snprintf(f->text, sizeof f->text, "%s", text);
	return false;
}

static inline bool sqlite_failed(sqlite3 *db, struct harness_failure *f)
{
	int code = sqlite3_extended_errcode(db);
	bool busy = (code & 0xff) == SQLITE_BUSY || (code & 0xff) == SQLITE_LOCKED;

	return failed(f, busy ? HARNESS_FAILURE_BUSY : HARNESS_FAILURE_SQL, code,
	              sqlite3_errmsg(db));
}

static inline int statement_bind(sqlite3_stmt *stmt, int index, const struct harness_value *value)
{
	switch (value->type) {
	case HARNESS_INTEGER:
		return sqlite3_bind_int64(stmt, index, value->integer);
	case HARNESS_REAL:
		return sqlite3_bind_double(stmt, index, value->real);
	case HARNESS_TEXT:
		return sqlite3_bind_text(stmt, index, value->text, -1, SQLITE_STATIC);
	case HARNESS_NULL:
	default:
		return sqlite3_bind_null(stmt, index);
	}
}

static inline struct harness_value statement_value(sqlite3_stmt *stmt, int index)
{
	struct harness_value value = { .type = HARNESS_NULL };

	switch (sqlite3_column_type(stmt, index)) {
	case SQLITE_INTEGER:
		value.type = HARNESS_INTEGER;
		value.integer = sqlite3_column_int64(stmt, index);
		break;
	case SQLITE_FLOAT:
		value.type = HARNESS_REAL;
		value.real = sqlite3_column_double(stmt, index);
		break;
	case SQLITE_NULL:
		break;
	default:
		value.type = HARNESS_TEXT;
		value.text = (const char *)sqlite3_column_text(stmt, index);
	}
	return value;
}

static inline bool statement_hand_on(sqlite3_stmt *stmt, harness_row_fn *on_row, void *context)
{
	struct harness_value columns[COLUMNS_MAX];
	int count = sqlite3_column_count(stmt);

	count = count < COLUMNS_MAX ? count : COLUMNS_MAX;
	for (int i = 0; i < count; i++)
		columns[i] = statement_value(stmt, i);
	return on_row == NULL || on_row(context, columns, (unsigned)count);
}

static inline bool statement_run(sqlite3 *db, const char *sql, const struct harness_value *args,
                                 unsigned arg_count, harness_row_fn *on_row, void *context,
                                 struct harness_failure *f)
{
	sqlite3_stmt *stmt = NULL;
	int rc = sqlite3_prepare_v2(db, sql, -1, &stmt, NULL);

	for (unsigned i = 0; i < arg_count && rc == SQLITE_OK; i++)
		rc = statement_bind(stmt, (int)i + 1, &args[i]);
	while (rc == SQLITE_OK || rc == SQLITE_ROW) {
		rc = sqlite3_step(stmt);
		if (rc == SQLITE_ROW && !statement_hand_on(stmt, on_row, context))
			rc = SQLITE_DONE;
	}
	if (rc != SQLITE_DONE)
		sqlite_failed(db, f);
	sqlite3_finalize(stmt);
	return rc == SQLITE_DONE;
}

#endif
