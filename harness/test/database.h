/* database.h - a database in a folder of its own, a life in it, and whether it is whole after. */
/* SPDX-License-Identifier: MIT */
#ifndef HARNESS_TEST_DATABASE_H
#define HARNESS_TEST_DATABASE_H

#include <poolproof/harness/test.h>

#include <sqlite3.h>
#include <stdbool.h>
#include <unistd.h>

struct database {
	const char *journal;
	char dir[64], path[96];
};

static inline struct database database_new(const char *journal)
{
	struct database d = { .journal = journal, .dir = "/tmp/poolproof-test-XXXXXX" };

	CHECK(mkdtemp(d.dir) != NULL);
	snprintf(d.path, sizeof d.path, "%s/a.db", d.dir);
	return d;
}

/* The file and what stands beside it. */
static inline void database_empty(const struct database *d)
{
	static const char *const endings[] = { "", "-wal", "-shm", "-journal" };
	char path[128];

	for (unsigned i = 0; i < sizeof endings / sizeof *endings; i++) {
		snprintf(path, sizeof path, "%s%s", d->path, endings[i]);
		unlink(path);
	}
}

static inline void database_remove(struct database *d)
{
	database_empty(d);
	rmdir(d->dir);
}

/* How much slower this runs than usual. */
static inline unsigned slowness(void)
{
	const char *multiplier = getenv("CK_TIMEOUT_MULTIPLIER");
	int n = multiplier != NULL ? atoi(multiplier) : 1;

	return n > 1 ? (unsigned)n : 1;
}

static inline int database_exec(sqlite3 *db, const char *sql)
{
	int rc = sqlite3_exec(db, sql, NULL, NULL, NULL);

	return rc == SQLITE_OK ? rc : sqlite3_extended_errcode(db);
}

/* A table, and two rows that come together. */
static inline int database_write(sqlite3 *db, const char *journal)
{
	char pragma[64];
	int rc;

	snprintf(pragma, sizeof pragma, "PRAGMA journal_mode=%s", journal);
	rc = database_exec(db, pragma);
	if (rc == SQLITE_OK)
		rc = database_exec(db, "CREATE TABLE IF NOT EXISTS t(id INTEGER PRIMARY KEY, "
		                       "v TEXT UNIQUE)");
	if (rc == SQLITE_OK)
		rc = database_exec(db, "BEGIN IMMEDIATE; INSERT INTO t(v) VALUES (hex(randomblob("
		                       "3000))); INSERT INTO t(v) VALUES ('second'); COMMIT");
	return rc;
}

static inline int database_read(sqlite3 *db)
{
	sqlite3_stmt *stmt = NULL;
	int rc = sqlite3_prepare_v2(db, "SELECT count(*), max(v) FROM t WHERE id > ?1", -1, &stmt,
	                            NULL);

	if (rc == SQLITE_OK)
		rc = sqlite3_bind_int(stmt, 1, 0);
	if (rc == SQLITE_OK)
		rc = sqlite3_step(stmt) == SQLITE_ROW ? SQLITE_OK : sqlite3_extended_errcode(db);
	sqlite3_finalize(stmt);
	return rc;
}

static inline void database_number(sqlite3 *db, const char *sql, int64_t *ret)
{
	sqlite3_stmt *stmt = NULL;

	if (sqlite3_prepare_v2(db, sql, -1, &stmt, NULL) == SQLITE_OK &&
	    sqlite3_step(stmt) == SQLITE_ROW)
		*ret = sqlite3_column_int64(stmt, 0);
	sqlite3_finalize(stmt);
}

/* Opened again it is sound, and both rows are there or none; returns how many are. */
static inline int64_t database_is_whole(const struct database *d)
{
	int64_t rows = 0, sound = 0;
	sqlite3 *db;

	CHECK_INT(sqlite3_open(d->path, &db), ==, SQLITE_OK);
	database_number(db, "SELECT count(*) FROM t", &rows);
	database_number(db, "SELECT integrity_check = 'ok' FROM pragma_integrity_check", &sound);
	CHECK_MSG(sound == 1, "%s", sqlite3_errmsg(db));
	CHECK_MSG(rows == 0 || rows == 2, "%d rows", (int)rows);
	CHECK_INT(sqlite3_close(db), ==, SQLITE_OK);
	return rows;
}

#endif
