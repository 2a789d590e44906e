/*
 * allocator.c - accounts and arenas against SQLite as shipped.
 *
 * Ours is the instrumented variant: a jemalloc arena for each connection, every byte accounted.
 * Beside it plain SQLite with its own memory statistics and libc's malloc; and, as the limit,
 * without the statistics. YCSB's mixes (Cooper et al., SoCC 2010): Zipfian keys, a thousand records
 * of ten fields, reads on a reader and updates by pp_write(), or on a handle for each thread.
 */
/* SPDX-License-Identifier: MIT */
#include "points.h"

#include <stdlib.h>
#include <string.h>

#include <poolproof/harness/entropy.h>

#include "raw.h"

enum { RECORDS = 1000 };

#define READ "SELECT * FROM usertable WHERE ycsb_key = ?1"
#define UPDATE "UPDATE usertable SET field0 = ?2 WHERE ycsb_key = ?1"
#define F "hex(randomblob(50))"
#define CREATE                                                                                    \
	"CREATE TABLE usertable(ycsb_key INTEGER PRIMARY KEY, field0, field1, field2, field3,"    \
	"field4, field5, field6, field7, field8, field9);"                                        \
	"WITH RECURSIVE n(k) AS (SELECT 0 UNION ALL SELECT k + 1 FROM n WHERE k < 999) "          \
	"INSERT INTO usertable SELECT k," F "," F "," F "," F "," F "," F "," F "," F "," F "," F \
	" FROM n"

/* Shapes: a mix by its letter; else prepare, select, finalize. */
enum { PREPARE = 0 };

struct worker {
	_Alignas(128) struct harness_entropy entropy;
	struct pp_lease lease; /* Of who only prepares. */
	sqlite3 *db;
	sqlite3_stmt *read, *update, *begin, *commit;
	uint64_t walk;
	int64_t key;
	char field[101];
};

struct working {
	struct pp_pool *pool; /* NULL: plain SQLite. */
	int mix;
	struct worker *workers;
};

/* --- prepare, select, finalize ----------------------------------------------------------- */

static void prepare_some(void *context, unsigned thread, unsigned count)
{
	struct working *w = context;
	struct worker *worker = &w->workers[thread];
	sqlite3_stmt *stmt;

	if (w->pool != NULL && worker->db == NULL) {
		if (pp_acquire(w->pool, PP_READ, PP_FOREVER, &worker->lease, NULL) != PP_OK)
			bench_cannot("no lease");
		worker->db = worker->lease.db;
	}
	for (unsigned i = 0; i < count; i++) {
		if (sqlite3_prepare_v2(worker->db, POINTS_SQL, -1, &stmt, NULL) != SQLITE_OK)
			bench_cannot("%s", sqlite3_errmsg(worker->db));
		points_read(stmt, &worker->walk);
		sqlite3_finalize(stmt);
	}
}

/* --- YCSB -------------------------------------------------------------------------------- */

static bool read_record(sqlite3_stmt *stmt, const struct worker *worker)
{
	bool found;

	sqlite3_bind_int64(stmt, 1, worker->key);
	found = sqlite3_step(stmt) == SQLITE_ROW;
	for (int i = 0; found && i < sqlite3_column_count(stmt); i++)
		found = sqlite3_column_text(stmt, i) != NULL;
	sqlite3_reset(stmt);
	return found;
}

static bool update_record(sqlite3_stmt *stmt, const struct worker *worker)
{
	int rc;

	sqlite3_bind_int64(stmt, 1, worker->key);
	sqlite3_bind_text(stmt, 2, worker->field, 100, SQLITE_STATIC);
	rc = sqlite3_step(stmt);
	sqlite3_reset(stmt);
	return rc == SQLITE_DONE;
}

enum operation { OPERATION_READ, OPERATION_UPDATE, OPERATION_MODIFY };

static enum operation choose(struct worker *worker, int mix)
{
	double part = harness_entropy_unit(&worker->entropy);

	/* Scattered over the table, as YCSB's hash does: 389 and 1000 have no factor in common. */
	worker->key =
		harness_entropy_zipfian(&worker->entropy, 0, RECORDS - 1, 0.99) * 389 % RECORDS;
	memset(worker->field, 'a' + (int)(part * 26), 100);
	if (mix == 'C' || part < (mix == 'B' ? 0.95 : 0.5))
		return OPERATION_READ;
	return mix == 'F' ? OPERATION_MODIFY : OPERATION_UPDATE;
}

struct change {
	const struct worker *worker;
	bool reads; /* First. */
};

static enum pp_status change(struct pp_lease *lease, void *context)
{
	const struct change *c = context;
	sqlite3_stmt *stmt;

	if (c->reads &&
	    (pp_prepare(lease, READ, &stmt, NULL) != PP_OK || !read_record(stmt, c->worker)))
		return PP_SQLITE;
	if (pp_prepare(lease, UPDATE, &stmt, NULL) != PP_OK || !update_record(stmt, c->worker))
		return PP_SQLITE;
	return PP_OK;
}

static bool pool_operation(struct working *w, struct worker *worker, enum operation operation)
{
	struct change c = { worker, operation == OPERATION_MODIFY };
	struct pp_lease lease;
	sqlite3_stmt *stmt;
	bool well;

	if (operation != OPERATION_READ)
		return pp_write(w->pool, NULL, change, &c, NULL, NULL) == PP_OK;
	if (pp_acquire(w->pool, PP_READ, PP_FOREVER, &lease, NULL) != PP_OK)
		return false;
	well = pp_prepare(&lease, READ, &stmt, NULL) == PP_OK && read_record(stmt, worker);
	pp_release(&lease);
	return well;
}

static bool done(sqlite3_stmt *stmt)
{
	bool well = sqlite3_step(stmt) == SQLITE_DONE;

	sqlite3_reset(stmt);
	return well;
}

static bool raw_operation(struct worker *worker, enum operation operation)
{
	if (operation == OPERATION_READ)
		return read_record(worker->read, worker);
	return done(worker->begin) &&
	       (operation != OPERATION_MODIFY || read_record(worker->read, worker)) &&
	       update_record(worker->update, worker) && done(worker->commit);
}

static void mix_some(void *context, unsigned thread, unsigned count)
{
	struct working *w = context;
	struct worker *worker = &w->workers[thread];

	for (unsigned i = 0; i < count; i++) {
		enum operation operation = choose(worker, w->mix);

		if (!(w->pool != NULL ? pool_operation(w, worker, operation)
		                      : raw_operation(worker, operation)))
			bench_cannot("YCSB %c: operation %d failed", w->mix, (int)operation);
	}
}

/* --- Measuring --------------------------------------------------------------------------- */

static void open_pool(struct bench_measurement *m, struct working *w)
{
	struct pp_lease lease;

	w->pool = points_pool(m, m->row->threads);
	if (w->mix == PREPARE)
		return;
	if (pp_acquire(w->pool, PP_WRITE, PP_FOREVER, &lease, NULL) != PP_OK)
		bench_cannot("no lease");
	raw_exec(lease.db, CREATE);
	pp_release(&lease);
}

static void open_raw(struct bench_measurement *m, struct working *w)
{
	char path[4096];

	points_create(m, path, sizeof path);
	if (w->mix != PREPARE)
		raw_create(path, "FULL", CREATE);
	for (unsigned i = 0; i < m->row->threads; i++) {
		struct worker *worker = &w->workers[i];

		worker->db = raw_open(path, "FULL");
		if (w->mix == PREPARE)
			continue;
		worker->read = raw_prepare(worker->db, READ);
		worker->update = raw_prepare(worker->db, UPDATE);
		worker->begin = raw_prepare(worker->db, "BEGIN IMMEDIATE");
		worker->commit = raw_prepare(worker->db, "COMMIT");
	}
}

static void measure(struct bench_measurement *m)
{
	struct working w = { .mix = m->row->shape };

	w.workers = aligned_alloc(128, m->row->threads * sizeof *w.workers);
	if (w.workers == NULL)
		bench_cannot("no memory");
	memset(w.workers, 0, m->row->threads * sizeof *w.workers);
	for (unsigned i = 0; i < m->row->threads; i++)
		harness_entropy_init(&w.workers[i].entropy, m->seed, i, 0);
	if (m->contender->kind == BENCH_OURS) {
		open_pool(m, &w);
	} else {
		sqlite3_config(SQLITE_CONFIG_MEMSTATUS, m->contender->kind == BENCH_PEER);
		open_raw(m, &w);
	}
	if (w.mix == PREPARE)
		bench_run(m, &(struct bench_load){ prepare_some, &w, 16, false });
	else
		bench_run(m, &(struct bench_load){ mix_some, &w, 1, false });
}

static const struct bench_contender contenders[] = {
	{ "instrumented", BENCH_OURS, "poolproof, an arena and an account for each connection",
	  NULL, "instrumented" },
	{ "release", BENCH_OURS, "poolproof, an account for each connection", NULL, NULL },
	{ "sqlite", BENCH_PEER, "as shipped: memory statistics on, libc's malloc", NULL, NULL },
	{ "no-memstatus", BENCH_LIMIT, "the same without memory statistics", NULL, NULL },
	{ 0 }
};

#define PREPARE_ROW(n)                                                                           \
	{                                                                                        \
		"allocator/prepare-" #n, "prepare, select, finalize; threads: " #n, BENCH_NS, n, \
			n, PREPARE, 0, 1, contenders                                             \
	}
#define MIX_ROW(letter, tag, w)                                                                    \
	{                                                                                          \
		"allocator/ycsb-" tag, "YCSB " tag ", two threads, synchronous=FULL", BENCH_NS, 2, \
			2, letter, 0, w, contenders                                                \
	}

static const struct bench_row rows[] = {
	PREPARE_ROW(1),       PREPARE_ROW(2),       MIX_ROW('A', "a", 2),
	MIX_ROW('B', "b", 2), MIX_ROW('C', "c", 1), MIX_ROW('F', "f", 2),
};

const struct bench_table bench_allocator = {
	.name = "allocator",
	.title = "The instrumented variant against SQLite as shipped",
	.about = "Time from one operation to the next, all threads together.",
	.rows = rows,
	.row_count = sizeof rows / sizeof *rows,
	.measure = measure,
};
