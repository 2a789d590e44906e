/* changes.h - what happens to the file under a pool. Files are changed by system calls on their
 * names: opening and closing them would drop SQLite's locks. */
/* SPDX-License-Identifier: MIT */
#ifndef POOL_TEST_CHANGES_H
#define POOL_TEST_CHANGES_H

#include "upkeep.h"

enum { PAGE = 4096 };

static inline enum pp_status insert(struct pp_lease *lease, void *context)
{
	sqlite3_stmt *stmt;
	enum pp_status status = pp_prepare(lease, "INSERT INTO t(v) VALUES (?1)", &stmt, NULL);

	if (status != PP_OK)
		return status;
	sqlite3_bind_int64(stmt, 1, *(int64_t *)context);
	return sqlite3_step(stmt) == SQLITE_DONE ? PP_OK : PP_SQLITE;
}

static inline enum pp_status write_one(struct pp_pool *pool, int64_t v)
{
	return pp_transact(pool, NULL, insert, &v, NULL);
}

/* A pool whose rows are all in the file, none in the WAL. */
static inline struct fixture filled(struct pp_config config, struct diary *diary)
{
	struct pp_lease lease = { 0 };

	config.readers = 2;
	struct fixture f = manual(config, diary);

	acquire(f.pool, PP_WRITE, &lease);
	sql(lease.db, "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE "
	              "i < 2000) INSERT INTO t SELECT i, i FROM n");
	sql(lease.db, "PRAGMA wal_checkpoint(TRUNCATE)");
	pp_release(&lease);
	CHECK_INT(write_one(f.pool, -1), ==, PP_OK); /* Looks at the file. */
	return f;
}

static inline void beside(const struct fixture *f, const char *name, char *ret, size_t size)
{
	snprintf(ret, size, "%s/%s", f->dir, name);
}

/* Another database with a table t and one row in it, v = 7, at path; perhaps with a WAL in which
 * this is. */
static inline void make_other(const char *path, bool with_wal)
{
	sqlite3 *db;

	CHECK_INT(sqlite3_open(path, &db), ==, SQLITE_OK);
	if (with_wal) {
		sql(db, "PRAGMA journal_mode=WAL");
		sqlite3_db_config(db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
	}
	sql(db, "CREATE TABLE t(id INTEGER PRIMARY KEY, v INTEGER UNIQUE); INSERT INTO t "
	        "VALUES (1, 7)");
	CHECK_INT(sqlite3_close(db), ==, SQLITE_OK);
}

static inline void replace(const struct fixture *f)
{
	char other[128], old[128];

	beside(f, "b.db", other, sizeof other);
	beside(f, "old.db", old, sizeof old);
	make_other(other, false);
	rename(f->path, old);
	CHECK_INT(rename(other, f->path), ==, 0);
}

static inline void delete (const struct fixture *f)
{
	CHECK_INT(unlink(f->path), ==, 0);
}

/* By one of another device, where its number may be the same. */
static inline void replace_by_link(const struct fixture *f)
{
	delete (f);
	CHECK_INT(symlink("/proc/version", f->path), ==, 0);
}

static inline void cut(const struct fixture *f)
{
	CHECK_INT(truncate(f->path, PAGE), ==, 0);
}

static inline void make_read_only(const struct fixture *f)
{
	CHECK_INT(chmod(f->path, 0444), ==, 0);
}

/* What the new file has, and nothing of the old one. */
static inline void check_other(struct pp_pool *pool)
{
	struct pp_lease lease = { 0 };

	acquire(pool, PP_READ, &lease);
	CHECK_INT(number(lease.db, "SELECT sum(v) FROM t"), ==, 7);
	CHECK_INT(number(lease.db, "SELECT count(*) FROM pragma_integrity_check WHERE "
	                           "integrity_check = 'ok'"),
	          ==, 1);
	pp_release(&lease);
	CHECK_INT(write_one(pool, 8), ==, PP_OK);
}

static inline void check_tripped(struct pp_pool *pool, struct diary *diary, const char *words)
{
	struct pp_lease lease = { 0 };
	struct pp_error error = { 0 };

	CHECK_INT(stats(pool).tripped, ==, true);
	CHECK_INT(stats(pool).file_changes, ==, 1);
	CHECK_INT(told(diary, PP_EVENT_FILE_CHANGED), ==, 1);
	CHECK_CONTAINS(diary->message[PP_EVENT_FILE_CHANGED], words);
	for (enum pp_lane lane = PP_READ; lane <= PP_EXCLUSIVE; lane++)
		CHECK_INT(pp_acquire(pool, lane, PP_NO_WAIT, &lease, &error), ==, PP_FILE_CHANGED);
	CHECK_CONTAINS(error.message, "pp_reopen()");
}

/* As another process would: by a connection that the pool does not know of. */
static inline sqlite3 *neighbour_open(const struct fixture *f)
{
	sqlite3 *db;

	CHECK_INT(sqlite3_open(f->path, &db), ==, SQLITE_OK);
	return db;
}

#endif
