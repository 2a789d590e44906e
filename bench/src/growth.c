/*
 * growth.c - what acquire and release cost as everything around them grows.
 *
 * Connections: one thread borrows from a pool with so many open. Waiters: so many threads and one
 * more share one connection, each holding it for five microseconds. Statements: so many are cached
 * on the connection, and one of them is used. Database: so large is the file.
 */
/* SPDX-License-Identifier: MIT */
#include "bench.h"

#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <poolproof/pool.h>

#include "raw.h"

enum kind { CONNECTIONS, WAITERS, STATEMENTS, DATABASE };
enum { HOLD_NS = 5000, STATEMENTS_MAX = 10000 };
#define MEBIBYTE (1024 * 1024.0)

struct growing {
	struct pp_pool *pool;
	enum kind kind;
};

static void borrow(void *context, unsigned thread, unsigned count)
{
	struct growing *g = context;
	struct pp_lease lease;
	sqlite3_stmt *stmt;

	(void)thread;
	for (unsigned i = 0; i < count; i++) {
		if (pp_acquire(g->pool, PP_READ, PP_FOREVER, &lease, NULL) != PP_OK)
			bench_cannot("no lease");
		if (g->kind == WAITERS)
			bench_spin_ns(HOLD_NS);
		else if (g->kind == STATEMENTS &&
		         pp_prepare(&lease, "SELECT 0", &stmt, NULL) != PP_OK)
			bench_cannot("no statement");
		pp_release(&lease);
	}
}

/* A file of that size: rows of 1 MiB, each on pages of its own. Kept from round to round. */
static void make_database(const char *path, double bytes)
{
	struct stat s;
	sqlite3 *db;
	char sql[512];

	if (stat(path, &s) == 0 && (double)s.st_size >= bytes)
		return;
	remove(path);
	if (sqlite3_open(path, &db) != SQLITE_OK)
		bench_cannot("%s: %s", path, sqlite3_errmsg(db));
	snprintf(sql, sizeof sql,
	         "PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; CREATE TABLE large(a);"
	         "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %.0f) "
	         "INSERT INTO large SELECT zeroblob(1048576) FROM n",
	         bytes / MEBIBYTE);
	raw_exec(db, sql);
	sqlite3_close(db);
}

static void fill_cache(struct pp_pool *pool, unsigned count)
{
	struct pp_lease lease;
	sqlite3_stmt *stmt;
	char sql[32];

	if (pp_acquire(pool, PP_READ, PP_FOREVER, &lease, NULL) != PP_OK)
		bench_cannot("no lease");
	for (unsigned i = count; i-- > 0;) {
		snprintf(sql, sizeof sql, "SELECT %u", i);
		if (pp_prepare(&lease, sql, &stmt, NULL) != PP_OK)
			bench_cannot("%s could not be prepared", sql);
	}
	pp_release(&lease);
}

static void measure(struct bench_measurement *m)
{
	struct growing g = { .kind = (enum kind)m->row->shape };
	struct pp_config config = { .readers = m->row->connections, .line_max = 65536 };
	struct pp_error error;
	char path[4096], name[64];

	pp_setup(0);
	bench_path(m, "growth.db", path, sizeof path);
	if (g.kind == DATABASE) {
		snprintf(name, sizeof name, "../growth-%.0f.db", m->row->size / MEBIBYTE);
		make_database(bench_path(m, name, path, sizeof path), m->row->size);
	}
	if (g.kind == STATEMENTS) {
		config.statements_max = STATEMENTS_MAX;
		config.statements_bytes_max = 1 << 30;
	}
	config.path = path;
	if (pp_open(&config, &g.pool, &error) != PP_OK)
		bench_cannot("%s: %s", path, error.message);
	if (g.kind == STATEMENTS)
		fill_cache(g.pool, (unsigned)m->row->size);
	bench_run(m, &(struct bench_load){ borrow, &g, g.kind == WAITERS ? 1 : 64, false });
}

static const struct bench_contender contenders[] = {
	{ "poolproof", BENCH_OURS, "acquire and release, with everything on", NULL, NULL }, { 0 }
};

#define ROW(tag, words, n, t, c, kind, size, weight)                                     \
	{                                                                                \
		"growth/" tag "-" #n, words ": " #n, BENCH_NS, t, c, kind, size, weight, \
			contenders                                                       \
	}
#define CONNECTIONS_ROW(n) ROW("connections", "connections open", n, 1, n, CONNECTIONS, n, 0.5)
/* Hundreds of threads take their time to come to rest. */
#define WAITERS_ROW(n) ROW("waiters", "threads that wait", n, n + 1, 1, WAITERS, n, 3)
#define STATEMENTS_ROW(n) ROW("statements", "statements cached", n, 1, 1, STATEMENTS, n, 0.5)
#define DATABASE_ROW(n) ROW("megabytes", "MiB of database", n, 1, 1, DATABASE, n *MEBIBYTE, 0.5)

static const struct bench_row rows[] = {
	CONNECTIONS_ROW(1),   CONNECTIONS_ROW(4),    CONNECTIONS_ROW(16), CONNECTIONS_ROW(64),
	CONNECTIONS_ROW(256), WAITERS_ROW(1),        WAITERS_ROW(8),      WAITERS_ROW(64),
	WAITERS_ROW(512),     STATEMENTS_ROW(1),     STATEMENTS_ROW(10),  STATEMENTS_ROW(100),
	STATEMENTS_ROW(1000), STATEMENTS_ROW(10000), DATABASE_ROW(1),     DATABASE_ROW(64),
	DATABASE_ROW(1024),   DATABASE_ROW(4096),
};

const struct bench_table bench_growth = {
	.name = "growth",
	.title = "As work grows",
	.about = "Time of one acquire and release, all threads together; what is judged is by how "
		 "much it grows with each doubling.",
	.rows = rows,
	.row_count = sizeof rows / sizeof *rows,
	.measure = measure,
};
