/* points.h - the small table from which single rows are read. */
/* SPDX-License-Identifier: MIT */
#ifndef BENCH_POINTS_H
#define BENCH_POINTS_H

#include "bench.h"

#include <sqlite3.h>

#include <poolproof/pool.h>

enum { POINTS = 1000 };

#define POINTS_SQL "SELECT payload FROM point WHERE id = ?1"

/* Folder/points.db: a thousand rows of a hundred bytes. In a process that never opens a pool:
 * SQLite is initialised here. */
void points_create(const struct bench_measurement *m, char *path, size_t path_size);
/* The same by a pool that is opened on it. */
struct pp_pool *points_pool(const struct bench_measurement *m, unsigned readers);
/* Reads one row, the next of an even walk through the table, and resets. Ends the process when it
 * is not there. */
void points_read(sqlite3_stmt *stmt, uint64_t *walk);

#endif
