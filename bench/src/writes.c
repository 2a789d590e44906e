/*
 * writes.c - durable writes by many threads.
 *
 * A call of each contender is one transaction from the wish to write to the end of its COMMIT,
 * timed. Every thread writes for itself; whoever lets them all through evenly has a fairness
 * (slowest thread by fastest) near one. The file lies on the disk: its syncs are real.
 */
/* SPDX-License-Identifier: MIT */
#include "writes.h"

#include <stdatomic.h>
#include <string.h>

#include <poolproof/pool.h>

#include "raw.h"

enum { SMALL_BYTES = 100, LARGE_BYTES = 16 << 10, TEN = 10, SLOW_IN = 100, SLOW_NS = 2000000 };

#define TABLE "CREATE TABLE written(id INTEGER PRIMARY KEY, thread, payload)"

unsigned write_row_count(const struct write_state *state)
{
	return state->shape == WRITE_TEN ? TEN : 1;
}

const void *write_payload(const struct write_state *state, int *ret_size)
{
	static const char zeros[LARGE_BYTES];

	*ret_size = state->shape == WRITE_LARGE ? LARGE_BYTES : SMALL_BYTES;
	return zeros;
}

void write_pause(const struct write_state *state)
{
	static atomic_uint writes;

	if (state->shape == WRITE_SLOW && atomic_fetch_add(&writes, 1) % SLOW_IN == 0)
		bench_spin_ns(SLOW_NS);
}

int write_rows(const struct write_state *state, sqlite3_stmt *insert, unsigned thread)
{
	int rc = SQLITE_DONE, size;
	const void *payload = write_payload(state, &size);

	for (unsigned i = 0; i < write_row_count(state) && rc == SQLITE_DONE; i++) {
		sqlite3_bind_int(insert, 1, (int)thread);
		sqlite3_bind_blob(insert, 2, payload, size, SQLITE_STATIC);
		rc = sqlite3_step(insert);
		sqlite3_reset(insert);
	}
	write_pause(state);
	return rc;
}

/* --- Ours -------------------------------------------------------------------------------- */

struct job {
	const struct write_state *state;
	unsigned thread;
};

static void ours_open(struct write_state *state)
{
	struct pp_config config = { .path = state->path, .timeout_ms = RAW_BUSY_MS };
	struct pp_pool *pool;
	struct pp_error error;

	config.synchronous = strcmp(state->synchronous, "FULL") == 0 ? PP_SYNCHRONOUS_FULL
	                                                             : PP_SYNCHRONOUS_NORMAL;
	if (pp_open(&config, &pool, &error) != PP_OK)
		bench_cannot("%s: %s", state->path, error.message);
	state->own = pool;
}

static enum pp_status insert(struct pp_lease *lease, void *context)
{
	const struct job *job = context;
	sqlite3_stmt *stmt;

	if (pp_prepare(lease, WRITE_SQL, &stmt, NULL) != PP_OK)
		return PP_SQLITE;
	return write_rows(job->state, stmt, job->thread) == SQLITE_DONE ? PP_OK : PP_SQLITE;
}

static void write_as(struct write_state *state, unsigned thread, bool any_thread)
{
	struct pp_transaction options = { .any_thread = any_thread };
	struct job job = { state, thread };
	struct pp_error error;

	if (pp_write(state->own, &options, insert, &job, NULL, &error) != PP_OK)
		bench_cannot("pp_write: %s", error.message);
}

static void own_write(struct write_state *state, unsigned thread)
{
	write_as(state, thread, false);
}

static void any_write(struct write_state *state, unsigned thread)
{
	write_as(state, thread, true);
}

static void transact_write(struct write_state *state, unsigned thread)
{
	struct job job = { state, thread };
	struct pp_error error;

	if (pp_transact(state->own, NULL, insert, &job, &error) != PP_OK)
		bench_cannot("pp_transact: %s", error.message);
}

/* --- Measuring --------------------------------------------------------------------------- */

struct writing {
	const struct writer *writer;
	struct write_state state;
};

static void write_some(void *context, unsigned thread, unsigned count)
{
	struct writing *w = context;

	for (unsigned i = 0; i < count; i++)
		w->writer->write(&w->state, thread);
}

static void measure(struct bench_measurement *m)
{
	struct writing w = { .writer = m->contender->functions };

	w.state.shape = (enum write_shape)(m->row->shape % WRITE_NORMAL);
	w.state.synchronous = m->row->shape & WRITE_NORMAL ? "NORMAL" : "FULL";
	w.state.threads = m->row->threads;
	bench_path(m, "writes.db", w.state.path, sizeof w.state.path);
	if (m->contender->kind == BENCH_OURS)
		pp_setup(0);
	raw_create(w.state.path, w.state.synchronous, TABLE);
	w.writer->open(&w.state);
	bench_run(m, &(struct bench_load){ write_some, &w, 1, true });
}

static const struct writer writer_own = { ours_open, own_write };
static const struct writer writer_any = { ours_open, any_write };
static const struct writer writer_transact = { ours_open, transact_write };

static const struct bench_contender contenders[] = {
	{ "poolproof", BENCH_OURS, "pp_write(): a commit for many, each callback in its own thread",
	  &writer_own, NULL },
	{ "any-thread", BENCH_OURS, "the same, callbacks in any of these threads", &writer_any,
	  NULL },
	{ "transact", BENCH_OURS, "pp_transact(): a commit each, in turn", &writer_transact, NULL },
	{ "timeout", BENCH_PEER,
	  "a handle for each thread, BEGIN IMMEDIATE, sqlite3_busy_timeout()", &writer_timeout,
	  NULL },
	{ "mutex", BENCH_PEER, "one handle under a pthread mutex", &writer_mutex, NULL },
	{ "fifo", BENCH_PEER, "one handle, handed from each to the next who waits", &writer_fifo,
	  NULL },
	{ "libzdb", BENCH_PEER, "its pool, its transactions, its prepared statements",
	  &writer_libzdb, NULL },
	{ 0 }
};

#define ROW(words, tag, n, s, w)                                                                 \
	{                                                                                        \
		"writes/" tag #n, words ", threads: " #n, BENCH_PER_S, n, 0, s, 0, w, contenders \
	}
#define ROWS(words, tag, s, one, two, eight, many)                                            \
	ROW(words, tag, 1, s, one), ROW(words, tag, 2, s, two), ROW(words, tag, 8, s, eight), \
		ROW(words, tag, 32, s, many)
#define SMALL "one row of 100 bytes, "
#define LARGE "one row of 16 KiB, "
#define SOME "ten rows, "
#define SLOW "one row, and one transaction in a hundred takes 2 ms, "
#define FULL "synchronous=FULL"
#define NORMAL "synchronous=NORMAL"

static const struct bench_row rows[] = {
	ROWS(SMALL FULL, "full-", WRITE_SMALL, 4, 3, 3, 8),
	ROWS(SMALL NORMAL, "normal-", WRITE_SMALL | WRITE_NORMAL, 2, 2, 2, 2),
	ROWS(LARGE FULL, "large-full-", WRITE_LARGE, 1, 1, 1, 2),
	ROWS(LARGE NORMAL, "large-normal-", WRITE_LARGE | WRITE_NORMAL, 1, 1, 1, 1),
	ROWS(SOME FULL, "ten-full-", WRITE_TEN, 1, 1, 1, 2),
	ROWS(SOME NORMAL, "ten-normal-", WRITE_TEN | WRITE_NORMAL, 1, 1, 1, 1),
	ROWS(SLOW FULL, "slow-full-", WRITE_SLOW, 1, 1, 1, 2),
	ROWS(SLOW NORMAL, "slow-normal-", WRITE_SLOW | WRITE_NORMAL, 1, 1, 1, 1),
};

const struct bench_table bench_writes = {
	.name = "writes",
	.title = "Durable writes",
	.about = "Transactions a second, all threads together, in WAL mode. Latencies are from the "
		 "wish to write to the end of the commit.",
	.rows = rows,
	.row_count = sizeof rows / sizeof *rows,
	.measure = measure,
};
