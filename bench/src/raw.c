/* raw.c - plain SQLite; see raw.h. */
/* SPDX-License-Identifier: MIT */
#include "raw.h"

#include <stdio.h>

#include "bench.h"

sqlite3 *raw_open(const char *path, const char *synchronous)
{
	sqlite3 *db;
	char sql[128];

	if (sqlite3_open_v2(path, &db,
	                    SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX,
	                    NULL) != SQLITE_OK)
		bench_cannot("%s: %s", path, sqlite3_errmsg(db));
	sqlite3_busy_timeout(db, RAW_BUSY_MS);
	snprintf(sql, sizeof sql, "PRAGMA journal_mode=WAL; PRAGMA synchronous=%s", synchronous);
	raw_exec(db, sql);
	return db;
}

void raw_exec(sqlite3 *db, const char *sql)
{
	char *error;

	if (sqlite3_exec(db, sql, NULL, NULL, &error) != SQLITE_OK)
		bench_cannot("%.60s: %s", sql, error);
}

sqlite3_stmt *raw_prepare(sqlite3 *db, const char *sql)
{
	sqlite3_stmt *stmt;

	if (sqlite3_prepare_v3(db, sql, -1, SQLITE_PREPARE_PERSISTENT, &stmt, NULL) != SQLITE_OK)
		bench_cannot("%.60s: %s", sql, sqlite3_errmsg(db));
	return stmt;
}

void raw_create(const char *path, const char *synchronous, const char *sql)
{
	sqlite3 *db = raw_open(path, synchronous);

	raw_exec(db, sql);
	sqlite3_close(db);
}
