/* raw.h - plain SQLite, for contenders that are not ours. All end the process when they cannot. */
/* SPDX-License-Identifier: MIT */
#ifndef BENCH_RAW_H
#define BENCH_RAW_H

#include <sqlite3.h>

enum { RAW_BUSY_MS = 20000 };

/* A handle without a mutex (who uses it sees to that), WAL, sqlite3_busy_timeout(). */
sqlite3 *raw_open(const char *path, const char *synchronous);
void raw_exec(sqlite3 *db, const char *sql);
sqlite3_stmt *raw_prepare(sqlite3 *db, const char *sql);
/* A new database in WAL mode on which sql has run. */
void raw_create(const char *path, const char *synchronous, const char *sql);

#endif
