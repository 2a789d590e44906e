/*
 * handle.c - whether a handle is as it was when it was clean, seen in its memory.
 *
 * To know before reading: SQLite's hooks can be set but not read, and each question that can be
 * asked takes the connection's mutex: to ask and set everything is 350 ns a release. So the places
 * at which these values lie in struct sqlite3 are found once in a process, by trying: each is set
 * to two values on a scratch handle, and its place is where the one was and then the other, if
 * there is exactly one such. Nothing is assumed about the layout. Where one of them is not found
 * nothing counts as known, and every release asks and sets everything, as it also does for a handle
 * that differs in one byte.
 *
 * A handle's memory is read by whoever holds its lease, as SQLite itself reads it.
 */
/* SPDX-License-Identifier: MIT */
#include "handle.h"

#include <assert.h>

enum { BYTES_MAX = 8192 /* Of a handle; some 800 in SQLite 3.40. */, CHUNK = sizeof(handle_chunk) };

struct handle_places handle_places;

/* --- Finding the places ------------------------------------------------------------------- */

/* A scratch handle, and what its memory was with a value and with another. */
struct trial {
	sqlite3 *db;
	unsigned bytes;
	unsigned char seen[2][BYTES_MAX];
	unsigned char watched[BYTES_MAX]; /* 0xff: is to be compared. */
};

/* Their addresses are values that nothing else in a handle has. */
static const char marks[2][2];

static void look(struct trial *t, unsigned n)
{
	memcpy(t->seen[n], t->db, t->bytes);
}

/* false: it is nowhere, or in more than one place. */
static bool find(const struct trial *t, const void *first, const void *second, unsigned size,
                 unsigned *ret_offset)
{
	unsigned matches = 0;

	for (unsigned at = 0; at + size <= t->bytes; at += size)
		if (memcmp(t->seen[0] + at, first, size) == 0 &&
		    memcmp(t->seen[1] + at, second, size) == 0) {
			*ret_offset = at;
			matches++;
		}
	return matches == 1;
}

/* Compare it from now on. */
static bool watch(struct trial *t, const void *first, const void *second, unsigned size)
{
	unsigned offset;

	if (!find(t, first, second, size, &offset))
		return false;
	memset(t->watched + offset, 0xff, size);
	return true;
}

typedef void set_fn(sqlite3 *db, void *function, void *context);

static void set_commit_hook(sqlite3 *db, void *function, void *context)
{
	sqlite3_commit_hook(db, (int (*)(void *))function, context);
}

static void set_rollback_hook(sqlite3 *db, void *function, void *context)
{
	sqlite3_rollback_hook(db, (void (*)(void *))function, context);
}

static void set_update_hook(sqlite3 *db, void *function, void *context)
{
	sqlite3_update_hook(
		db, (void (*)(void *, int, char const *, char const *, sqlite3_int64))function,
		context);
}

static void set_wal_hook(sqlite3 *db, void *function, void *context)
{
	sqlite3_wal_hook(db, (int (*)(void *, sqlite3 *, const char *, int))function, context);
}

static void set_busy_handler(sqlite3 *db, void *function, void *context)
{
	sqlite3_busy_handler(db, (int (*)(void *, int))function, context);
}

static void set_progress_handler(sqlite3 *db, void *function, void *context)
{
	sqlite3_progress_handler(db, 1, (int (*)(void *))function, context);
}

typedef int trace_fn(unsigned event, void *context, void *what, void *more);

static void set_trace(sqlite3 *db, void *function, void *context)
{
	sqlite3_trace_v2(db, 1, (trace_fn *)function, context);
}

static void set_autovacuum_pages(sqlite3 *db, void *function, void *context)
{
	sqlite3_autovacuum_pages(
		db, (unsigned (*)(void *, const char *, unsigned, unsigned, unsigned))function,
		context, NULL);
}

static void set_preupdate_hook(sqlite3 *db, void *function, void *context)
{
	if (sqlite3_preupdate_hook != NULL)
		sqlite3_preupdate_hook(db,
		                       (void (*)(void *, sqlite3 *, int, char const *, char const *,
		                                 sqlite3_int64, sqlite3_int64))function,
		                       context);
}

static void set_authorizer(sqlite3 *db, void *function, void *context)
{
	sqlite3_set_authorizer(db, (authorizer_fn *)function, context);
}

static bool watch_hooks(struct trial *t)
{
	static set_fn *const setters[] = { set_commit_hook,   set_rollback_hook,
		                           set_update_hook,   set_wal_hook,
		                           set_busy_handler,  set_progress_handler,
		                           set_trace,         set_autovacuum_pages,
		                           set_preupdate_hook };
	unsigned count = sizeof setters / sizeof *setters - (sqlite3_preupdate_hook == NULL);
	const char *functions[] = { &marks[0][0], &marks[1][0] };
	const char *contexts[] = { &marks[0][1], &marks[1][1] };
	bool found = true;

	for (unsigned i = 0; i < count; i++) {
		for (unsigned n = 0; n < 2; n++) {
			setters[i](t->db, (void *)functions[n], (void *)contexts[n]);
			look(t, n);
		}
		setters[i](t->db, NULL, NULL);
		found &= watch(t, &functions[0], &functions[1], sizeof(void *));
		found &= watch(t, &contexts[0], &contexts[1], sizeof(void *));
	}
	return found;
}

/* The numbers that may be set: of steps, of traced events, limits, what errors are masked with. */
static bool watch_numbers(struct trial *t)
{
	static const int steps[] = { 0x123457, 0x765431 }, limits[] = { 3, 5 };
	static const unsigned masks[] = { 0xff, 0xffffffff };
	static const unsigned char events[] = { 5, 10 };
	bool found;

	for (unsigned n = 0; n < 2; n++) {
		sqlite3_progress_handler(t->db, steps[n], (int (*)(void *))marks, NULL);
		look(t, n);
	}
	sqlite3_progress_handler(t->db, 0, NULL, NULL);
	found = watch(t, &steps[0], &steps[1], sizeof steps[0]);
	for (unsigned n = 0; n < 2; n++) {
		sqlite3_trace_v2(t->db, events[n], (trace_fn *)marks, NULL);
		look(t, n);
	}
	sqlite3_trace_v2(t->db, 0, NULL, NULL);
	found &= watch(t, &events[0], &events[1], 1);
	for (unsigned n = 0; n < 2; n++) {
		sqlite3_extended_result_codes(t->db, n != 0);
		look(t, n);
	}
	found &= watch(t, &masks[0], &masks[1], sizeof masks[0]);
	for (int id = 0; id < LIMITS; id++) {
		int before = sqlite3_limit(t->db, id, -1);

		for (unsigned n = 0; n < 2; n++) {
			sqlite3_limit(t->db, id, limits[n]);
			look(t, n);
		}
		sqlite3_limit(t->db, id, before);
		found &= watch(t, &limits[0], &limits[1], sizeof limits[0]);
	}
	return found;
}

/* How many statements are active, whether a transaction is open; the newest statement, the last
 * error. */
static bool find_work(struct trial *t, struct handle_places *p)
{
	static const char sql[] = "SELECT 1 UNION ALL SELECT 2";
	static const int active[] = { 1, 2 }, errors[] = { SQLITE_RANGE, SQLITE_OK };
	static const unsigned char automatic[] = { 1, 0 };
	sqlite3_stmt *stmts[2] = { NULL, NULL };
	bool found;

	for (unsigned n = 0; n < 2; n++) {
		sqlite3_prepare_v2(t->db, sql, -1, &stmts[n], NULL);
		look(t, n);
	}
	found = find(t, &stmts[0], &stmts[1], sizeof stmts[0], &p->newest);
	for (unsigned n = 0; n < 2; n++) {
		sqlite3_step(stmts[n]);
		look(t, n);
	}
	found &= find(t, &active[0], &active[1], sizeof active[0], &p->active);
	sqlite3_reset(stmts[0]);
	sqlite3_bind_int(stmts[0], 99, 0); /* It has no 99th parameter. */
	look(t, 0);
	sqlite3_reset(stmts[1]);
	look(t, 1);
	found &= find(t, &errors[0], &errors[1], sizeof errors[0], &p->error);
	for (unsigned n = 0; n < 2; n++)
		sqlite3_finalize(stmts[n]);
	look(t, 0);
	sqlite3_exec(t->db, "BEGIN", NULL, NULL, NULL);
	look(t, 1);
	sqlite3_exec(t->db, "ROLLBACK", NULL, NULL, NULL);
	found &= find(t, &automatic[0], &automatic[1], 1, &p->automatic);
	return found;
}

/* What is looked at apart: it is nothing to be undone by setting it back, or often another. */
static bool find_others(struct trial *t, struct handle_places *p)
{
	static const int64_t rowids[] = { 0x123456789abcdef, 0x3edcba987654321 };
	const char *authorizers[] = { &marks[0][0], &marks[1][0] };
	bool found;

	for (unsigned n = 0; n < 2; n++) {
		sqlite3_set_last_insert_rowid(t->db, rowids[n]);
		look(t, n);
	}
	found = find(t, &rowids[0], &rowids[1], sizeof rowids[0], &p->rowid);
	for (unsigned n = 0; n < 2; n++) {
		set_authorizer(t->db, (void *)authorizers[n], NULL);
		look(t, n);
	}
	set_authorizer(t->db, NULL, NULL);
	found &= find(t, &authorizers[0], &authorizers[1], sizeof authorizers[0], &p->authorizer);
	return found;
}

/* Each begins at the first byte that is watched and in none yet, so there are as few as can be. */
static void chunks_make(struct handle_places *p, const struct trial *t)
{
	for (unsigned at = 0; at < t->bytes; at++) {
		unsigned from = at + CHUNK <= t->bytes ? at : t->bytes - CHUNK;

		if (t->watched[at] == 0)
			continue;
		assert(p->chunk_count < HANDLE_CHUNKS_MAX); /* One for each value, at most. */
		p->chunks[p->chunk_count] = (uint16_t)from;
		memcpy(&p->masks[p->chunk_count++], t->watched + from, CHUNK);
		at = from + CHUNK - 1;
	}
	p->chunk_count =
		(p->chunk_count + HANDLE_CHUNKS_STEP - 1) / HANDLE_CHUNKS_STEP * HANDLE_CHUNKS_STEP;
}

/* The scratch handle is opened as the pool's are, so it is made by the same code. */
static void try_all(struct trial *t, struct handle_places *p)
{
	sqlite3_uint64 bytes = sqlite3_msize(t->db);

	t->bytes = bytes < BYTES_MAX ? (unsigned)bytes : BYTES_MAX; /* Of a larger one the first. */
	p->known = watch_hooks(t);
	p->known &= watch_numbers(t);
	p->known &= find_work(t, p);
	p->known &= find_others(t, p);
	if (p->known)
		chunks_make(p, t);
}

void handle_learn(void)
{
	static struct trial trial; /* Too large for a stack; used once. */

	trial.db = NULL;
	if (sqlite3_open_v2(":memory:", &trial.db,
	                    SQLITE_OPEN_READWRITE | SQLITE_OPEN_FULLMUTEX | SQLITE_OPEN_MEMORY,
	                    NULL) == SQLITE_OK)
		try_all(&trial, &handle_places);
	sqlite3_close(trial.db);
}

bool handle_is_known(void)
{
	return handle_places.known;
}

/* --- Looking at them (the rest is in handle.h) -------------------------------------------- */

void handle_note(struct connection *c)
{
	for (unsigned i = 0; i < handle_places.chunk_count; i++)
		c->image[i] = handle_chunk_at(c, handle_places.chunks[i]);
}

/* By steps: sqlite3_exec() hands on NULL for a number where there is no memory for its text, and
 * then says SQLITE_ROW. */
int handle_number(sqlite3 *db, const char *sql, int64_t *ret_number)
{
	sqlite3_stmt *stmt = NULL;
	int rc = sqlite3_prepare_v2(db, sql, -1, &stmt, NULL), ended;

	if (rc == SQLITE_OK && sqlite3_step(stmt) == SQLITE_ROW)
		*ret_number = sqlite3_column_int64(stmt, 0);
	ended = sqlite3_finalize(stmt);
	return rc == SQLITE_OK ? ended : rc;
}
