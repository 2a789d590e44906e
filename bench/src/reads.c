/*
 * reads.c - point reads: borrowed for each, on what is held, in sessions of one snapshot.
 *
 * Plain SQLite is as shipped (global memory statistics on), a handle without a mutex and one
 * prepared statement for each thread. A session, ours or plain, is a hundred reads.
 */
/* SPDX-License-Identifier: MIT */
#include "points.h"

#include <stdlib.h>

#include "raw.h"

enum { SESSION = 100 };

struct reader {
	_Alignas(128) uint64_t walk;
	struct pp_lease lease;
	sqlite3 *db;
	sqlite3_stmt *read, *begin, *commit;
};

struct reading {
	struct pp_pool *pool;
	unsigned id; /* Of the registered statement. */
	struct reader *readers;
	void (*read)(struct reading *reading, struct reader *reader, unsigned count);
};

/* --- Ours -------------------------------------------------------------------------------- */

static void each(struct reading *r, struct reader *reader, unsigned count)
{
	struct pp_lease lease;
	sqlite3_stmt *stmt;

	for (unsigned i = 0; i < count; i++) {
		if (pp_acquire(r->pool, PP_READ, PP_FOREVER, &lease, NULL) != PP_OK ||
		    pp_statement(&lease, r->id, &stmt, NULL) != PP_OK)
			bench_cannot("no lease or no statement");
		points_read(stmt, &reader->walk);
		pp_release(&lease);
	}
}

static void by_text(struct reading *r, struct reader *reader, unsigned count)
{
	struct pp_lease lease;
	sqlite3_stmt *stmt;

	for (unsigned i = 0; i < count; i++) {
		if (pp_acquire(r->pool, PP_READ, PP_FOREVER, &lease, NULL) != PP_OK ||
		    pp_prepare(&lease, POINTS_SQL, &stmt, NULL) != PP_OK)
			bench_cannot("no lease or no statement");
		points_read(stmt, &reader->walk);
		pp_release(&lease);
	}
}

static void held(struct reading *r, struct reader *reader, unsigned count)
{
	sqlite3_stmt *stmt;

	if (reader->lease.db == NULL &&
	    pp_acquire(r->pool, PP_READ, PP_FOREVER, &reader->lease, NULL) != PP_OK)
		bench_cannot("no lease");
	for (unsigned i = 0; i < count; i++) {
		if (pp_statement(&reader->lease, r->id, &stmt, NULL) != PP_OK)
			bench_cannot("no statement");
		points_read(stmt, &reader->walk);
	}
}

struct session {
	struct reading *reading;
	struct reader *reader;
	unsigned count;
};

static enum pp_status work(struct pp_lease *lease, void *context)
{
	struct session *s = context;
	sqlite3_stmt *stmt;

	for (unsigned i = 0; i < s->count; i++) {
		if (pp_statement(lease, s->reading->id, &stmt, NULL) != PP_OK)
			return PP_SQLITE;
		points_read(stmt, &s->reader->walk);
	}
	return PP_OK;
}

static void session(struct reading *r, struct reader *reader, unsigned count)
{
	struct session s = { r, reader, count };

	if (pp_read(r->pool, NULL, work, &s, NULL) != PP_OK)
		bench_cannot("pp_read failed");
}

/* --- Plain SQLite ------------------------------------------------------------------------ */

static void raw(struct reading *r, struct reader *reader, unsigned count)
{
	(void)r;
	for (unsigned i = 0; i < count; i++)
		points_read(reader->read, &reader->walk);
}

static void raw_session(struct reading *r, struct reader *reader, unsigned count)
{
	(void)r;
	sqlite3_step(reader->begin);
	sqlite3_reset(reader->begin);
	raw(r, reader, count);
	sqlite3_step(reader->commit);
	sqlite3_reset(reader->commit);
}

/* --- Measuring --------------------------------------------------------------------------- */

struct way {
	void (*read)(struct reading *reading, struct reader *reader, unsigned count);
	bool memstatus; /* Plain SQLite as shipped. */
};

static void read_some(void *context, unsigned thread, unsigned count)
{
	struct reading *r = context;

	r->read(r, &r->readers[thread], count);
}

static void open_raw(struct bench_measurement *m, struct reading *r)
{
	char path[4096];

	points_create(m, path, sizeof path);
	for (unsigned i = 0; i < m->row->threads; i++) {
		struct reader *reader = &r->readers[i];

		reader->db = raw_open(path, "NORMAL");
		reader->read = raw_prepare(reader->db, POINTS_SQL);
		reader->begin = raw_prepare(reader->db, "BEGIN");
		reader->commit = raw_prepare(reader->db, "COMMIT");
	}
}

static void measure(struct bench_measurement *m)
{
	const struct way *way = m->contender->functions;
	struct reading r = { .read = way->read };

	r.readers = aligned_alloc(128, m->row->threads * sizeof *r.readers);
	if (r.readers == NULL)
		bench_cannot("no memory");
	for (unsigned i = 0; i < m->row->threads; i++)
		r.readers[i] = (struct reader){ .walk = i };
	if (m->contender->kind == BENCH_OURS) {
		r.pool = points_pool(m, m->row->threads);
		if (pp_statement_register(r.pool, POINTS_SQL, &r.id, NULL) != PP_OK)
			bench_cannot("pp_statement_register failed");
	} else {
		sqlite3_config(SQLITE_CONFIG_MEMSTATUS, way->memstatus);
		open_raw(m, &r);
	}
	bench_run(m, &(struct bench_load){ read_some, &r, SESSION, false });
}

static const struct way way_each = { each, false }, way_text = { by_text, false };
static const struct way way_held = { held, false }, way_session = { session, false };
static const struct way way_raw = { raw, true }, way_raw_session = { raw_session, true };
static const struct way way_limit = { raw_session, false };

#define RAW                                                                                        \
	{                                                                                          \
		"sqlite", BENCH_PEER, "a prepared statement on a handle that is held, autocommit", \
			&way_raw, NULL                                                             \
	}
#define EACH                                                                                       \
	{                                                                                          \
		"poolproof", BENCH_OURS, "acquire, statement by number, read, release", &way_each, \
			NULL                                                                       \
	}

static const struct bench_contender of_each[] = {
	EACH,
	{ "text", BENCH_OURS, "the same, statement by its text", &way_text, NULL },
	{ "held", BENCH_OURS, "on a lease that is held, statement by number", &way_held, NULL },
	RAW,
	{ 0 }
};
static const struct bench_contender of_sessions[] = {
	{ "poolproof", BENCH_OURS, "pp_read(): a hundred reads of one snapshot", &way_session,
	  NULL },
	{ "each", BENCH_OURS, "poolproof, acquire and release for each read", &way_each, NULL },
	RAW,
	{ "transaction", BENCH_PEER, "plain SQLite, BEGIN, a hundred reads, COMMIT",
	  &way_raw_session, NULL },
	{ "limit", BENCH_LIMIT, "the same without SQLite's global memory statistics", &way_limit,
	  NULL },
	{ 0 }
};

static const struct bench_row rows[] = {
	{ "reads/each-1", "one row each time, one thread", BENCH_NS, 1, 1, 0, 0, 1, of_each },
	{ "reads/each-2", "one row each time, two threads", BENCH_NS, 2, 2, 0, 0, 1, of_each },
	{ "reads/session-1", "a hundred rows of one snapshot, one thread", BENCH_NS, 1, 1, 0, 0, 1,
	  of_sessions },
	{ "reads/session-2", "a hundred rows of one snapshot, two threads", BENCH_NS, 2, 2, 0, 0, 1,
	  of_sessions },
};

const struct bench_table bench_reads = {
	.name = "reads",
	.title = "Point reads",
	.about =
		"Time from one read to the next, all threads together, by primary key from a table "
		"of a thousand rows in WAL mode.",
	.rows = rows,
	.row_count = sizeof rows / sizeof *rows,
	.measure = measure,
};
