/* points.c - see points.h. */
/* SPDX-License-Identifier: MIT */
#include "points.h"

#include <string.h>

#include "raw.h"

#define FILL                                                                                 \
	"CREATE TABLE point(id INTEGER PRIMARY KEY, payload);"                               \
	"WITH RECURSIVE n(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM n WHERE id < 1000) " \
	"INSERT INTO point SELECT id, zeroblob(100) FROM n"

void points_create(const struct bench_measurement *m, char *path, size_t path_size)
{
	/* Stays open: the last one to close takes the WAL along, and on an empty one SQLite asks
	 * how long the file is, at each read. The pool's is not empty either. */
	raw_exec(raw_open(bench_path(m, "points.db", path, path_size), "NORMAL"), FILL);
}

struct pp_pool *points_pool(const struct bench_measurement *m, unsigned readers)
{
	char path[4096];
	struct pp_config config = { .readers = readers };
	struct pp_lease lease;
	struct pp_pool *pool;
	struct pp_error error;

	config.path = bench_path(m, "points.db", path, sizeof path);
	if (pp_open(&config, &pool, &error) != PP_OK ||
	    pp_acquire(pool, PP_WRITE, PP_FOREVER, &lease, &error) != PP_OK)
		bench_cannot("%s: %s", path, error.message);
	raw_exec(lease.db, FILL);
	pp_release(&lease);
	return pool;
}

void points_read(sqlite3_stmt *stmt, uint64_t *walk)
{
	*walk = (*walk + 389) % POINTS; /* 389 and 1000 have no factor in common. */
	sqlite3_bind_int64(stmt, 1, (sqlite3_int64)*walk + 1);
	if (sqlite3_step(stmt) != SQLITE_ROW || sqlite3_column_bytes(stmt, 0) == 0)
		bench_cannot("a row is missing: %s", sqlite3_errmsg(sqlite3_db_handle(stmt)));
	sqlite3_reset(stmt);
}
