/* bank.h - a database to copy, and what is said of a copy. */
/* SPDX-License-Identifier: MIT */
#ifndef POOL_TEST_BANK_H
#define POOL_TEST_BANK_H

#include "fixture.h"

#include <dirent.h>

enum { ACCOUNTS = 1000, TOTAL = ACCOUNTS * 100 };

/* A bank: whatever is transferred, its total stays. */
static inline void bank_make(struct pp_pool *pool)
{
	struct pp_lease lease = { 0 };

	acquire(pool, PP_WRITE, &lease);
	sql(lease.db, "CREATE TABLE bank(id INTEGER PRIMARY KEY, money INT, note)");
	sql(lease.db, "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c LIMIT 1000) "
	              "INSERT INTO bank SELECT x, 100, zeroblob(700) FROM c");
	pp_release(&lease);
}

static inline struct fixture bank_open(struct pp_config config)
{
	config.on_open = config.on_open != NULL ? config.on_open : no_sync;
	struct fixture f = fixture_config(config);

	bank_make(f.pool);
	return f;
}

static inline const char *in(const struct fixture *f, const char *name)
{
	static char path[8][128];
	static atomic_uint next;
	char *to = path[next++ % 8];

	snprintf(to, sizeof path[0], "%s/%s", f->dir, name);
	return to;
}

/* The copy as anybody would open it. */
static inline int64_t copy_says(const char *path, const char *text)
{
	sqlite3 *db;
	int64_t value;

	CHECK_INT(sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE, NULL), ==, SQLITE_OK);
	value = number(db, text);
	CHECK_INT(sqlite3_close(db), ==, SQLITE_OK);
	return value;
}

static inline void copy_is_good(const char *path)
{
	CHECK_INT(copy_says(path, "SELECT sum(money) FROM bank"), ==, TOTAL);
	CHECK_INT(copy_says(path, "SELECT count(*) FROM pragma_integrity_check WHERE "
	                          "integrity_check = 'ok'"),
	          ==, 1);
}

static inline int64_t pool_says(struct pp_pool *pool, const char *text)
{
	struct pp_lease lease = { 0 };
	int64_t value;

	acquire(pool, PP_READ, &lease);
	value = number(lease.db, text);
	pp_release(&lease);
	return value;
}

static inline unsigned files_in(const struct fixture *f, const char *containing)
{
	DIR *dir = opendir(f->dir);
	unsigned found = 0;

	for (struct dirent *e; (e = readdir(dir)) != NULL;)
		found += strstr(e->d_name, containing) != NULL;
	closedir(dir);
	return found;
}

static inline void backup_fails(struct pp_pool *pool, struct pp_backup backup,
                                enum pp_status status, const char *words)
{
	struct pp_error error = { 0 };

	CHECK_INT(pp_backup(pool, &backup, &error), ==, status);
	CHECK_INT(error.status, ==, status);
	CHECK_STR(error.doing, "backup");
	CHECK_CONTAINS(error.message, words);
	CHECK_INT(pp_backup(pool, &backup, NULL), ==, status);
}

static inline void backup(struct pp_pool *pool, struct pp_backup options)
{
	struct pp_error error = { 0 };

	must(pp_backup(pool, &options, &error), &error);
}

struct spoiler {
	struct fixture *f;
	unsigned calls;
	struct pp_token token;
	uint64_t generation;
	struct pp_pool *opened;
};

static inline int abort_it(void *context, unsigned done, unsigned total)
{
	struct spoiler *s = context;

	(void)done, (void)total;
	return ++s->calls == 3;
}

#endif
