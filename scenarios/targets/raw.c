/*
 * raw.c - SQLite as it is usually used from threads: a handle each, and sqlite3_busy_timeout().
 *
 * A handle keeps its statements, found by the address of their text: the harness hands in the same
 * text at the same address each time.
 */
/* SPDX-License-Identifier: MIT */
#include "sqlite.h"
#include "targets.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

enum { HANDLES_MAX = 512, STATEMENTS_MAX = 64 };

struct handle {
	sqlite3 *db;
	struct {
		const char *sql;
		sqlite3_stmt *stmt;
	} statements[STATEMENTS_MAX];
	unsigned statement_count;
};

struct raw {
	struct harness_target_options options;
	char path[4096], journal[64];
	unsigned generation;
	atomic_uint handle_count;
	atomic_uint leased;
	struct handle *_Atomic handles[HANDLES_MAX];
};

/* The calling thread's handle, of the target with this generation. */
static _Thread_local struct {
	unsigned generation;
	struct handle *handle;
} own;

static bool handle_open(struct raw *raw, struct handle **ret, struct harness_failure *f)
{
	struct handle *handle = calloc(1, sizeof *handle);
	unsigned index = atomic_fetch_add(&raw->handle_count, 1);
	char sql[128];

	if (handle == NULL || index >= HANDLES_MAX) {
		free(handle);
		*f = (struct harness_failure){ .kind = HARNESS_FAILURE_OTHER,
			                       .text = "no more handles, or no memory for one" };
		return false;
	}
	atomic_store(&raw->handles[index], handle);
	snprintf(sql, sizeof sql, "PRAGMA journal_mode=%s; PRAGMA synchronous=%s",
	         raw->options.journal_mode, raw->options.synchronous);
	if (sqlite3_open_v2(raw->path, &handle->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX,
	                    NULL) != SQLITE_OK ||
	    sqlite3_busy_timeout(handle->db, (int)raw->options.timeout_ms) != SQLITE_OK ||
	    sqlite3_extended_result_codes(handle->db, 1) != SQLITE_OK ||
	    sqlite3_exec(handle->db, sql, NULL, NULL, NULL) != SQLITE_OK)
		return sqlite_failed(handle->db, f);
	*ret = handle;
	return true;
}

static bool open_(const struct harness_target_options *options, void **ret,
                  struct harness_failure *f)
{
	static atomic_uint generations;
	struct raw *raw = calloc(1, sizeof *raw);
	struct handle *first;

	if (raw == NULL)
		return false;
	raw->options = *options;
	raw->generation = atomic_fetch_add(&generations, 1) + 1;
	snprintf(raw->path, sizeof raw->path, "%s", options->path);
	/* One handle now: a file that cannot be opened shows here, and not in every thread. */
	if (!handle_open(raw, &first, f)) {
		struct harness_residue none;

		target_raw.close(raw, &none);
		return false;
	}
	*ret = raw;
	return true;
}

static void handle_close(struct handle *handle)
{
	for (unsigned i = 0; i < handle->statement_count; i++)
		sqlite3_finalize(handle->statements[i].stmt);
	sqlite3_close_v2(handle->db);
	free(handle);
}

static void close_(void *target, struct harness_residue *ret)
{
	struct raw *raw = target;

	*ret = (struct harness_residue){ 0 };
	if (raw == NULL)
		return;
	for (unsigned i = 0; i < HANDLES_MAX; i++)
		if (atomic_load(&raw->handles[i]) != NULL)
			handle_close(atomic_load(&raw->handles[i]));
	free(raw);
}

static bool lend(void *target, enum harness_access access, uint64_t timeout_ns,
                 struct harness_connection *ret, struct harness_failure *f)
{
	struct raw *raw = target;

	(void)timeout_ns; /* It waits inside SQLite, as long as busy_timeout says. */
	if (own.generation != raw->generation) {
		own.generation = 0;
		if (!handle_open(raw, &own.handle, f))
			return false;
		own.generation = raw->generation;
	}
	atomic_fetch_add(&raw->leased, 1);
	ret->handle = own.handle;
	ret->access = access;
	return true;
}

static bool exec(struct harness_connection *connection, const char *sql, struct harness_failure *f)
{
	struct handle *handle = connection->handle;

	return sqlite3_exec(handle->db, sql, NULL, NULL, NULL) == SQLITE_OK ||
	       sqlite_failed(handle->db, f);
}

static void give_back(void *target, struct harness_connection *connection)
{
	struct raw *raw = target;
	struct handle *handle = connection->handle;

	if (!sqlite3_get_autocommit(handle->db))
		sqlite3_exec(handle->db, "ROLLBACK", NULL, NULL, NULL);
	atomic_fetch_sub(&raw->leased, 1);
}

static bool query(struct harness_connection *connection, const char *sql,
                  const struct harness_value *args, unsigned arg_count, harness_row_fn *on_row,
                  void *context, struct harness_failure *f)
{
	struct handle *handle = connection->handle;
	sqlite3_stmt *stmt;
	bool well;

	for (unsigned i = 0; i < handle->statement_count; i++)
		if (handle->statements[i].sql == sql)
			return sqlite_run(handle->statements[i].stmt, args, arg_count, on_row,
			                  context, f);
	if (sqlite3_prepare_v2(handle->db, sql, -1, &stmt, NULL) != SQLITE_OK)
		return sqlite_failed(handle->db, f);
	if (handle->statement_count < STATEMENTS_MAX) {
		handle->statements[handle->statement_count].sql = sql;
		handle->statements[handle->statement_count++].stmt = stmt;
		return sqlite_run(stmt, args, arg_count, on_row, context, f);
	}
	well = sqlite_run(stmt, args, arg_count, on_row, context, f);
	sqlite3_finalize(stmt);
	return well;
}

static bool begin(struct harness_connection *connection, struct harness_failure *f)
{
	struct handle *handle = connection->handle;

	if (!sqlite3_get_autocommit(handle->db))
		return exec(connection, "SAVEPOINT raw", f);
	return exec(connection, connection->access == HARNESS_WRITE ? "BEGIN IMMEDIATE" : "BEGIN",
	            f);
}

static bool commit(struct harness_connection *connection, struct harness_failure *f)
{
	return exec(connection, connection->depth > 1 ? "RELEASE raw" : "COMMIT", f);
}

static bool rollback(struct harness_connection *connection, struct harness_failure *f)
{
	return exec(connection, connection->depth > 1 ? "ROLLBACK TO raw; RELEASE raw" : "ROLLBACK",
	            f);
}

static bool transact(void *target, enum harness_access access, uint64_t timeout_ns,
                     harness_body_fn *body, void *context, struct harness_failure *f)
{
	struct harness_connection connection = { 0 };
	bool well;

	if (!lend(target, access, timeout_ns, &connection, f))
		return false;
	well = begin(&connection, f) && body(&connection, context, f) && commit(&connection, f);
	give_back(target, &connection); /* Rolls back what is still open. */
	return well;
}

static void gauges(void *target, struct harness_gauges *ret)
{
	struct raw *raw = target;

	*ret = (struct harness_gauges){ .connections = atomic_load(&raw->handle_count),
		                        .leased = atomic_load(&raw->leased) };
}

static void numbers(void *target, harness_number_fn *emit, void *context)
{
	struct raw *raw = target;

	emit(context, "raw.handles_count", atomic_load(&raw->handle_count));
}

static unsigned check(void *target, char *text, size_t size)
{
	(void)target, (void)text, (void)size;
	return 0;
}

const struct harness_target target_raw = {
	.name = "raw",
	.about = "plain SQLite: a handle for each thread, sqlite3_busy_timeout()",
	.open = open_,
	.close = close_,
	.lend = lend,
	.give_back = give_back,
	.query = query,
	.begin = begin,
	.commit = commit,
	.rollback = rollback,
	.transact = transact,
	.gauges = gauges,
	.numbers = numbers,
	.check = check,
};
