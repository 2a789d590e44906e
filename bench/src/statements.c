/*
 * statements.c - what it costs to have a statement at hand.
 *
 * On a lease (or a handle) that is held, so that nothing of the lending is in it: fetch a
 * statement, bind, read one row, reset. In one transaction, so that SQLite's file locks are not in
 * it either.
 */
/* SPDX-License-Identifier: MIT */
#include "points.h"

#include "raw.h"

struct having {
	struct pp_lease lease;
	sqlite3 *db;
	sqlite3_stmt *stmt;
	unsigned id;
	uint64_t walk;
	void (*read)(struct having *having);
};

static void by_number(struct having *h)
{
	sqlite3_stmt *stmt;

	if (pp_statement(&h->lease, h->id, &stmt, NULL) != PP_OK)
		bench_cannot("no statement");
	points_read(stmt, &h->walk);
}

static void by_text(struct having *h)
{
	sqlite3_stmt *stmt;

	if (pp_prepare(&h->lease, POINTS_SQL, &stmt, NULL) != PP_OK)
		bench_cannot("no statement");
	points_read(stmt, &h->walk);
}

static void prepared_each_time(struct having *h)
{
	sqlite3_stmt *stmt;

	if (sqlite3_prepare_v2(h->db, POINTS_SQL, -1, &stmt, NULL) != SQLITE_OK)
		bench_cannot("%s", sqlite3_errmsg(h->db));
	points_read(stmt, &h->walk);
	sqlite3_finalize(stmt);
}

static void bare(struct having *h)
{
	points_read(h->stmt, &h->walk);
}

static void read_some(void *context, unsigned thread, unsigned count)
{
	struct having *h = context;

	(void)thread;
	for (unsigned i = 0; i < count; i++)
		h->read(h);
}

struct way {
	void (*read)(struct having *having);
};

static void measure(struct bench_measurement *m)
{
	const struct way *way = m->contender->functions;
	struct having h = { .read = way->read };
	struct pp_pool *pool;
	char path[4096];

	if (m->contender->kind == BENCH_OURS) {
		pool = points_pool(m, 1);
		if (pp_statement_register(pool, POINTS_SQL, &h.id, NULL) != PP_OK ||
		    pp_acquire(pool, PP_READ, PP_FOREVER, &h.lease, NULL) != PP_OK)
			bench_cannot("no lease");
		h.db = h.lease.db;
	} else {
		points_create(m, path, sizeof path);
		h.db = raw_open(path, "NORMAL");
		h.stmt = raw_prepare(h.db, POINTS_SQL);
	}
	raw_exec(h.db, "BEGIN");
	bench_run(m, &(struct bench_load){ read_some, &h, 64, false });
}

static const struct way way_number = { by_number }, way_text = { by_text };
static const struct way way_prepare = { prepared_each_time }, way_bare = { bare };

static const struct bench_contender contenders[] = {
	{ "poolproof", BENCH_OURS, "pp_statement(): by the number of a registered text",
	  &way_number, NULL },
	{ "text", BENCH_OURS, "pp_prepare(): by its text, from the cache", &way_text, NULL },
	{ "prepare", BENCH_PEER, "plain SQLite, prepared and finalized each time", &way_prepare,
	  NULL },
	{ "bare", BENCH_LIMIT, "plain SQLite, one statement that is kept", &way_bare, NULL },
	{ 0 }
};

static const struct bench_row rows[] = {
	{ "statements/read", "fetch, bind, read one row, reset", BENCH_NS, 1, 1, 0, 0, 1,
	  contenders },
};

const struct bench_table bench_statements = {
	.name = "statements",
	.title = "Statements",
	.about = "Time of one read in a transaction on a connection that is held: what differs is "
		 "where the statement comes from.",
	.rows = rows,
	.row_count = sizeof rows / sizeof *rows,
	.measure = measure,
};
