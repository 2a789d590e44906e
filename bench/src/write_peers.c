/* write_peers.c - the ways to write that programs use without a pool, or with libzdb's. */
/* SPDX-License-Identifier: MIT */
#include "writes.h"

#include <pthread.h>
#include <stdlib.h>

#include "libzdb.h"
#include "raw.h"

/* A handle with its statements. */
struct handle {
	sqlite3 *db;
	sqlite3_stmt *begin, *commit, *insert;
};

static void handle_open(struct handle *handle, const struct write_state *state)
{
	handle->db = raw_open(state->path, state->synchronous);
	handle->begin = raw_prepare(handle->db, "BEGIN IMMEDIATE");
	handle->commit = raw_prepare(handle->db, "COMMIT");
	handle->insert = raw_prepare(handle->db, WRITE_SQL);
}

static int run(sqlite3_stmt *stmt)
{
	int rc = sqlite3_step(stmt);

	sqlite3_reset(stmt);
	return rc;
}

static void handle_write(struct handle *handle, const struct write_state *state, unsigned thread)
{
	if (run(handle->begin) != SQLITE_DONE ||
	    write_rows(state, handle->insert, thread) != SQLITE_DONE ||
	    run(handle->commit) != SQLITE_DONE)
		bench_cannot("raw write: %s", sqlite3_errmsg(handle->db));
}

static void *zeroed(size_t count, size_t size)
{
	void *memory = calloc(count, size);

	if (memory == NULL)
		bench_cannot("no memory");
	return memory;
}

/* --- A handle each, and sqlite3_busy_timeout() ------------------------------------------- */

static void timeout_open(struct write_state *state)
{
	struct handle *handles = zeroed(state->threads, sizeof *handles);

	for (unsigned i = 0; i < state->threads; i++)
		handle_open(&handles[i], state);
	state->own = handles;
}

static void timeout_write(struct write_state *state, unsigned thread)
{
	handle_write((struct handle *)state->own + thread, state, thread);
}

const struct writer writer_timeout = { timeout_open, timeout_write };

/* --- One handle under a mutex ------------------------------------------------------------ */

struct one {
	pthread_mutex_t mutex;
	struct handle handle;
	/* fifo: */
	bool busy;
	struct waiter *head, *tail;
};

static void one_open(struct write_state *state)
{
	struct one *one = zeroed(1, sizeof *one);

	pthread_mutex_init(&one->mutex, NULL);
	handle_open(&one->handle, state);
	state->own = one;
}

static void mutex_write(struct write_state *state, unsigned thread)
{
	struct one *one = state->own;

	pthread_mutex_lock(&one->mutex);
	handle_write(&one->handle, state, thread);
	pthread_mutex_unlock(&one->mutex);
}

const struct writer writer_mutex = { one_open, mutex_write };

/* --- The same, handed over in order ------------------------------------------------------ */

struct waiter {
	pthread_cond_t wake;
	bool is_next;
	struct waiter *behind;
};

static void fifo_enter(struct one *one)
{
	struct waiter self = { .wake = PTHREAD_COND_INITIALIZER };

	pthread_mutex_lock(&one->mutex);
	if (one->busy) {
		if (one->tail != NULL)
			one->tail->behind = &self;
		else
			one->head = &self;
		one->tail = &self;
		while (!self.is_next)
			pthread_cond_wait(&self.wake, &one->mutex);
	}
	one->busy = true;
	pthread_mutex_unlock(&one->mutex);
}

static void fifo_leave(struct one *one)
{
	struct waiter *next;

	pthread_mutex_lock(&one->mutex);
	next = one->head;
	one->busy = next != NULL; /* Stays so: nobody gets between. */
	if (next != NULL) {
		one->head = next->behind;
		if (one->head == NULL)
			one->tail = NULL;
		next->is_next = true;
		pthread_cond_signal(&next->wake);
	}
	pthread_mutex_unlock(&one->mutex);
}

static void fifo_write(struct write_state *state, unsigned thread)
{
	struct one *one = state->own;

	fifo_enter(one);
	handle_write(&one->handle, state, thread);
	fifo_leave(one);
}

const struct writer writer_fifo = { one_open, fifo_write };

/* --- libzdb ------------------------------------------------------------------------------ */

/* It begins DEFERRED, and keeps no statements. */
static void libzdb_open(struct write_state *state)
{
	char parameters[64];

	snprintf(parameters, sizeof parameters, "?synchronous=%s&busy_timeout=%d",
	         state->synchronous, RAW_BUSY_MS);
	state->own = libzdb_start(state->path, parameters, state->threads, state->threads);
}

/* false: it threw, busy most likely, and all is rolled back. */
static bool libzdb_try(const struct write_state *state, Connection_T connection, unsigned thread)
{
	volatile bool well = false;
	int size;
	const void *payload = write_payload(state, &size);

	TRY
	{
		PreparedStatement_T insert;

		Connection_beginTransaction(connection);
		insert = Connection_prepareStatement(connection, WRITE_SQL);
		for (unsigned i = 0; i < write_row_count(state); i++) {
			PreparedStatement_setInt(insert, 1, (int)thread);
			PreparedStatement_setBlob(insert, 2, payload, size);
			PreparedStatement_execute(insert);
		}
		write_pause(state);
		Connection_commit(connection);
		well = true;
	}
	ELSE
	{
		well = false;
	}
	END_TRY;
	return well;
}

static void libzdb_write(struct write_state *state, unsigned thread)
{
	bool well = false;

	while (!well) {
		Connection_T connection = libzdb_borrow(state->own);

		well = libzdb_try(state, connection, thread);
		Connection_close(connection); /* Rolls back what is open. */
	}
}

const struct writer writer_libzdb = { libzdb_open, libzdb_write };
