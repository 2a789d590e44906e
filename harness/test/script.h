/* script.h - what tests of scripts have in common: variables, a small database, its values. */
/* SPDX-License-Identifier: MIT */
#ifndef HARNESS_TEST_SCRIPT_H
#define HARNESS_TEST_SCRIPT_H

#include <poolproof/harness/test.h>

#include "script_internal.h"

static const struct harness_variable variables[] = {
	{ "records", { .type = HARNESS_INTEGER, .integer = 100 } },
	{ "greeting", { .type = HARNESS_TEXT, .text = "it's" } },
};

static inline sqlite3 *accounts_open(void)
{
	sqlite3 *db = NULL;

	CHECK_INT(sqlite3_open(":memory:", &db), ==, SQLITE_OK);
	CHECK_INT(sqlite3_exec(db,
	                       "CREATE TABLE account (id INTEGER PRIMARY KEY, balance, name);"
	                       "INSERT INTO account VALUES (1, 10, 'one'), (2, 20, 'two')",
	                       NULL, NULL, NULL),
	          ==, SQLITE_OK);
	return db;
}

static inline struct harness_script *parse_mine(sqlite3 *db, const char *text, char *reterr_error,
                                                size_t error_size)
{
	return harness_script_parse("dir/mine.sql", text, db, variables,
	                            sizeof variables / sizeof *variables, reterr_error, error_size);
}

/* One value of the database as text. */
static inline const char *value_of(sqlite3 *db, const char *sql)
{
	static char text[256];
	sqlite3_stmt *statement = NULL;
	const unsigned char *found;

	CHECK_INT(sqlite3_prepare_v2(db, sql, -1, &statement, NULL), ==, SQLITE_OK);
	CHECK_INT(sqlite3_step(statement), ==, SQLITE_ROW);
	found = sqlite3_column_text(statement, 0);
	snprintf(text, sizeof text, "%s", found != NULL ? (const char *)found : "NULL");
	sqlite3_finalize(statement);
	return text;
}

#endif
