/* sqlite.c - a statement from its bindings to its last row. */
/* SPDX-License-Identifier: MIT */
#include "sqlite.h"

#include <stdio.h>

enum { COLUMNS_MAX = 64 };

bool sqlite_failed(sqlite3 *db, struct harness_failure *f)
{
	f->code = sqlite3_extended_errcode(db);
	switch (f->code & 0xff) {
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
		f->kind = HARNESS_FAILURE_BUSY;
		break;
	default:
		f->kind = HARNESS_FAILURE_SQL;
	}
	snprintf(f->text, sizeof f->text, "%s (code %d)", sqlite3_errmsg(db), f->code);
	return false;
}

static int bind(sqlite3_stmt *stmt, int index, const struct harness_value *value)
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

static struct harness_value column(sqlite3_stmt *stmt, int index)
{
	switch (sqlite3_column_type(stmt, index)) {
	case SQLITE_INTEGER:
		return (struct harness_value){ .type = HARNESS_INTEGER,
			                       .integer = sqlite3_column_int64(stmt, index) };
	case SQLITE_FLOAT:
		return (struct harness_value){ .type = HARNESS_REAL,
			                       .real = sqlite3_column_double(stmt, index) };
	case SQLITE_NULL:
		return (struct harness_value){ .type = HARNESS_NULL };
	default:
		return (struct harness_value){
			.type = HARNESS_TEXT, .text = (const char *)sqlite3_column_text(stmt, index)
		};
	}
}

static bool hand_on(sqlite3_stmt *stmt, harness_row_fn *on_row, void *context)
{
	struct harness_value columns[COLUMNS_MAX];
	int count = sqlite3_column_count(stmt);

	count = count < COLUMNS_MAX ? count : COLUMNS_MAX;
	for (int i = 0; i < count; i++)
		columns[i] = column(stmt, i);
	return on_row == NULL || on_row(context, columns, (unsigned)count);
}

bool sqlite_run(sqlite3_stmt *stmt, const struct harness_value *args, unsigned arg_count,
                harness_row_fn *on_row, void *context, struct harness_failure *reterr_failure)
{
	bool well = true;
	int rc;

	for (unsigned i = 0; i < arg_count && well; i++)
		well = bind(stmt, (int)i + 1, &args[i]) == SQLITE_OK;
	rc = SQLITE_ROW;
	while (well && rc == SQLITE_ROW) {
		rc = sqlite3_step(stmt);
		if (rc == SQLITE_ROW && !hand_on(stmt, on_row, context))
			rc = SQLITE_DONE;
	}
	if (!well || rc != SQLITE_DONE)
		well = sqlite_failed(sqlite3_db_handle(stmt), reterr_failure);
	sqlite3_reset(stmt);
	sqlite3_clear_bindings(stmt);
	return well;
}
