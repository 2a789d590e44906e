/* writes.h - one transaction, and those who write it. */
/* SPDX-License-Identifier: MIT */
#ifndef BENCH_WRITES_H
#define BENCH_WRITES_H

#include "bench.h"

#include <sqlite3.h>

/* What a transaction does; WRITE_NORMAL: with synchronous=NORMAL. */
enum write_shape {
	WRITE_SMALL, /* One row of a hundred bytes. */
	WRITE_LARGE, /* One row of 16 KiB. */
	WRITE_TEN,   /* Ten rows. */
	WRITE_SLOW,  /* One row; one transaction in a hundred takes 2 ms. */
	WRITE_SHAPES,
	WRITE_NORMAL = 8
};

struct write_state {
	enum write_shape shape;
	const char *synchronous;
	unsigned threads;
	char path[4096];
	void *own; /* The writer's. */
};

#define WRITE_SQL "INSERT INTO written(thread, payload) VALUES(?1, ?2)"

/* The inserts of one transaction, on a statement of WRITE_SQL. Returns SQLITE_DONE, or what SQLite
 * said in its place. The statement is reset. */
int write_rows(const struct write_state *state, sqlite3_stmt *insert, unsigned thread);
/* The parts of it, for who has statements of another kind. */
unsigned write_row_count(const struct write_state *state);
const void *write_payload(const struct write_state *state, int *ret_size);
void write_pause(const struct write_state *state);

struct writer {
	void (*open)(struct write_state *state);
	/* One whole transaction, however often it has to be tried. */
	void (*write)(struct write_state *state, unsigned thread);
};

extern const struct writer writer_timeout, writer_mutex, writer_fifo, writer_libzdb;

#endif
