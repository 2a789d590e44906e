/*
 * statement.c - the cache of prepared statements of one connection.
 *
 * To know before reading: a statement stands in up to four chains. By text (buckets), by use
 * (what to evict), by creation (mirrors SQLite's own list, newest first, so a statement that is
 * not ours shows at its head), and, while the lease uses it, in the taken chain, so a release
 * costs what the lease took and not what the cache holds. A registered text's statement also has a
 * place in an array, by_id, until it is put out. Everything belongs to the lease's holder, but for
 * the registered texts, which are the pool's.
 */
/* SPDX-License-Identifier: MIT */
#include "internal.h"

#include <assert.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

enum {
	BUCKETS_MIN = 16,
	BUCKETS_MAX = 4096,
	BY_ID_STEP = 16 /* Places by which the table of registered ones grows. */
};

void statements_init(struct statements *s, unsigned count_max, size_t bytes_max)
{
	s->count_max = count_max;
	s->bytes_max = bytes_max;
}

/* The table is made with the first statement: most memory errors then come from one place. */
static bool buckets_make(struct statements *s)
{
	unsigned wanted = BUCKETS_MIN;

	if (s->buckets != NULL)
		return true;
	while (wanted < s->count_max && wanted < BUCKETS_MAX)
		wanted *= 2;
	s->buckets = sqlite3_malloc64(wanted * sizeof *s->buckets);
	if (s->buckets == NULL)
		return false;
	memset(s->buckets, 0, wanted * sizeof *s->buckets);
	s->bucket_count = wanted;
	return true;
}

/* FNV-1a, 64 bits (Fowler, Noll, Vo). */
static uint64_t hash_of(const char *text)
{
	uint64_t hash = 0xcbf29ce484222325u;

	for (; *text != '\0'; text++)
		hash = (hash ^ (unsigned char)*text) * 0x100000001b3u;
	return hash;
}

static struct statement **bucket_of(struct statements *s, uint64_t hash)
{
	return &s->buckets[(hash ^ (hash >> 32)) & (s->bucket_count - 1)];
}

static struct statement *find(struct statements *s, const char *sql, uint64_t hash)
{
	struct statement *e;

	for (e = *bucket_of(s, hash); e != NULL; e = e->bucket_next)
		if (e->hash == hash && strcmp(e->sql, sql) == 0)
			return e;
	return NULL;
}

/* --- The chains -------------------------------------------------------------------------- */

static void used_unlink(struct statements *s, struct statement *e)
{
	*(e->recent != NULL ? &e->recent->less_recent : &s->most_recent) = e->less_recent;
	*(e->less_recent != NULL ? &e->less_recent->recent : &s->least_recent) = e->recent;
}

static void used_push(struct statements *s, struct statement *e)
{
	e->recent = NULL;
	e->less_recent = s->most_recent;
	*(s->most_recent != NULL ? &s->most_recent->recent : &s->least_recent) = e;
	s->most_recent = e;
}

static void created_unlink(struct statements *s, struct statement *e)
{
	*(e->newer != NULL ? &e->newer->older : &s->newest) = e->older;
	if (e->older != NULL)
		e->older->newer = e->newer;
}

static void created_push(struct statements *s, struct statement *e)
{
	e->newer = NULL;
	e->older = s->newest;
	if (s->newest != NULL)
		s->newest->newer = e;
	s->newest = e;
}

static void bucket_unlink(struct statements *s, struct statement *e)
{
	struct statement **link = bucket_of(s, e->hash);

	while (*link != e)
		link = &(*link)->bucket_next;
	*link = e->bucket_next;
}

/* Only the holder adds: a load and a store, half of what adding for all to see costs. */
static void count_own(atomic_uint_least64_t *counter)
{
	atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + 1,
	                      memory_order_relaxed);
}

static void publish(struct statements *s)
{
	atomic_store_explicit(&s->live, s->count, memory_order_relaxed);
	atomic_store_explicit(&s->live_bytes, s->bytes, memory_order_relaxed);
}

/* See struct connection. An exchange also where it is another's text: only a write that is
 * sequentially consistent comes after the reader's second look, if that saw this text. */
static void text_retire(struct statements *s, const struct statement *e)
{
	struct connection *c =
		(struct connection *)((char *)s - offsetof(struct connection, statements));
	const char *text = atomic_exchange(&c->current_sql, NULL);

	for (; atomic_load(&c->peeked) == e->sql; sched_yield())
		;
	if (text != e->sql)
		atomic_store_explicit(&c->current_sql, text, memory_order_release);
}

static pthread_mutex_t one_reader = PTHREAD_MUTEX_INITIALIZER; /* Nothing is under it. */

/* In a child: a thread of the parent's may have been reading. */
void statements_after_fork(void)
{
	pthread_mutex_init(&one_reader, NULL);
}

void connection_sql(struct connection *c, char *sql, size_t size)
{
	const char *text;

	pthread_mutex_lock(&one_reader);
	do {
		text = atomic_load(&c->current_sql);
		atomic_store(&c->peeked, text);
	} while (text != atomic_load(&c->current_sql));
	snprintf(sql, size, "%s", text != NULL ? text : "");
	atomic_store(&c->peeked, NULL);
	pthread_mutex_unlock(&one_reader);
}

static void drop(struct statements *s, struct statement *e)
{
	text_retire(s, e);
	if (!e->spare)
		bucket_unlink(s, e);
	if (e->id != 0)
		s->by_id[e->id] = NULL;
	used_unlink(s, e);
	created_unlink(s, e);
	s->count--;
	s->bytes -= e->bytes;
	sqlite3_finalize(e->stmt);
	sqlite3_free(e);
	publish(s);
}

static bool over_bounds(const struct statements *s)
{
	return s->count > s->count_max || s->bytes > s->bytes_max;
}

/* What the lease uses stays, so the bounds may be passed until it is released. It is what was used
 * last, so everything behind the first of it stays as well. */
static void evict(struct statements *s)
{
	struct statement *e = s->least_recent, *next;

	for (; e != NULL && !e->taken && over_bounds(s); e = next) {
		next = e->recent;
		drop(s, e);
		count_own(&s->evictions);
	}
}

/* --- Taking and giving back --------------------------------------------------------------- */

static void take(struct statements *s, struct statement *e)
{
	if (e != s->most_recent) {
		used_unlink(s, e);
		used_push(s, e);
	}
	if (e->taken)
		return;
	e->taken = true;
	e->taken_next = s->taken;
	s->taken = e;
}

static void reset(struct statement *e)
{
	sqlite3_reset(e->stmt);
	sqlite3_clear_bindings(e->stmt);
}

void statements_give_back(struct statements *s)
{
	struct statement *e = s->taken, *next;

	for (; e != NULL; e = next) {
		next = e->taken_next;
		reset(e);
		e->taken = false;
		if (e->spare)
			drop(s, e);
	}
	s->taken = NULL;
	if (over_bounds(s))
		evict(s);
}

void statements_done(struct statements *s)
{
	while (s->newest != NULL)
		drop(s, s->newest);
	sqlite3_free(s->buckets);
	sqlite3_free(s->by_id);
	s->buckets = NULL;
	s->by_id = NULL;
	s->by_id_count = 0;
}

/* Whitespace and comments after the statement are no second one: SQLite says so itself. */
static enum pp_status reject_more(struct connection *c, const char *tail, struct pp_error *error)
{
	sqlite3_stmt *second = NULL;
	int rc = *tail != '\0' ? sqlite3_prepare_v2(c->db, tail, -1, &second, NULL) : SQLITE_OK;

	if ((rc & 0xff) == SQLITE_NOMEM)
		return error_sqlite(error, c->db, rc, "prepare", tail);
	if (rc == SQLITE_OK && second == NULL)
		return PP_OK;
	sqlite3_finalize(second);
	return error_set(error, PP_INVALID, "prepare",
	                 "one statement at a time; after the first comes \"%.60s\"", tail);
}

static enum pp_status compile(struct connection *c, const char *sql, sqlite3_stmt **ret_stmt,
                              struct pp_error *error)
{
	const char *tail = sql;
	sqlite3_stmt *stmt = NULL;
	int rc = sqlite3_prepare_v3(c->db, sql, -1, SQLITE_PREPARE_PERSISTENT, &stmt, &tail);
	enum pp_status status;

	if (rc != SQLITE_OK)
		return error_sqlite(error, c->db, rc, "prepare", sql);
	if (stmt == NULL)
		return error_set(error, PP_INVALID, "prepare", "there is no statement in \"%.60s\"",
		                 sql);
	status = reject_more(c, tail, error);
	if (status == PP_OK)
		*ret_stmt = stmt;
	else
		sqlite3_finalize(stmt);
	return status;
}

static void insert(struct statements *s, struct statement *e)
{
	struct statement **bucket = bucket_of(s, e->hash);

	if (!e->spare) {
		e->bucket_next = *bucket;
		*bucket = e;
	}
	used_push(s, e);
	created_push(s, e);
	s->count++;
	s->bytes += e->bytes;
	publish(s);
}

static enum pp_status add(struct connection *c, const char *sql, uint64_t hash, bool spare,
                          struct statement **ret_entry, struct pp_error *error)
{
	struct statements *s = &c->statements;
	size_t size = sizeof(struct statement) + strlen(sql) + 1;
	struct statement *e = buckets_make(s) ? sqlite3_malloc64(size) : NULL;
	enum pp_status status;

	if (e == NULL)
		return error_set(error, PP_NOMEM, "prepare", "no memory for a cached statement");
	*e = (struct statement){ .hash = hash, .spare = spare };
	memcpy(e->sql, sql, size - sizeof *e);
	c->foreign |= connection_has_foreign(c); /* Ours would hide it. */
	status = compile(c, sql, &e->stmt, error);
	if (status != PP_OK) {
		sqlite3_free(e);
		return status;
	}
	e->bytes = (size_t)sqlite3_stmt_status(e->stmt, SQLITE_STMTSTATUS_MEMUSED, 0) + size;
	insert(s, e);
	*ret_entry = e;
	return PP_OK;
}

/* found NULL: it is not in the cache. */
static enum pp_status hand_out(struct connection *c, struct statement *found, const char *sql,
                               uint64_t hash, struct statement **ret_entry, struct pp_error *error)
{
	struct statements *s = &c->statements;
	struct statement *e = found;
	bool busy = e != NULL && e->taken && sqlite3_stmt_busy(e->stmt);

	if (e != NULL && !busy) {
		count_own(&s->hits);
		if (e->taken)
			reset(e);
	} else {
		struct account *before = account_enter(atomic_load(&c->account));
		enum pp_status status = add(c, sql, hash, busy, &e, error);

		account_enter(before);
		if (status != PP_OK)
			return status;
		count_own(&s->misses);
	}
	take(s, e);
	if (over_bounds(s))
		evict(s);
	atomic_store_explicit(&c->current_sql, e->sql, memory_order_release);
	*ret_entry = e;
	return PP_OK;
}

enum pp_status statement_take(struct connection *c, const char *sql, sqlite3_stmt **ret_stmt,
                              struct pp_error *error)
{
	struct statements *s = &c->statements;
	uint64_t hash = hash_of(sql);
	struct statement *e = s->buckets != NULL ? find(s, sql, hash) : NULL;
	enum pp_status status = hand_out(c, e, sql, hash, &e, error);

	if (status == PP_OK)
		*ret_stmt = e->stmt;
	return status;
}

/* --- Registered texts --------------------------------------------------------------------- */

/* Its id, or 0. */
static unsigned registered_find(const struct pp_pool *pool, const struct registered *text)
{
	for (unsigned i = 0; i < atomic_load(&pool->registered_count); i++)
		if (pool->registered[i]->hash == text->hash &&
		    strcmp(pool->registered[i]->sql, text->sql) == 0)
			return i + 1;
	return 0;
}

/* The text is the pool's now, unless the same one was there before. */
static enum pp_status registered_add(struct pp_pool *pool, struct registered *text,
                                     unsigned *ret_id)
{
	struct line *line = &pool->lines[0];
	enum pp_status status = PP_OK;
	unsigned count, id;

	pthread_mutex_lock(&line->mutex);
	count = atomic_load(&pool->registered_count);
	id = registered_find(pool, text);
	if (id == 0 && count == PP_STATEMENTS_MAX) {
		status = PP_INVALID;
	} else if (id == 0) {
		pool->registered[count] = text;
		id = count + 1;
		atomic_store_explicit(&pool->registered_count, id, memory_order_release);
	}
	pthread_mutex_unlock(&line->mutex);
	*ret_id = id;
	return status;
}

static enum pp_status registered_new(struct pp_pool *pool, const char *sql, unsigned *ret_id)
{
	struct account *before = account_enter(pool->account);
	struct registered *text = sqlite3_malloc64(sizeof *text + strlen(sql) + 1);
	enum pp_status status;

	account_enter(before);
	if (text == NULL)
		return PP_NOMEM;
	text->hash = hash_of(sql);
	strcpy(text->sql, sql);
	status = registered_add(pool, text, ret_id);
	if (status != PP_OK || pool->registered[*ret_id - 1] != text)
		sqlite3_free(text);
	return status;
}

/* The closer waits for who is inside. Who comes later does not touch what is being freed. */
enum pp_status pp_statement_register(struct pp_pool *pool, const char *sql, unsigned *ret_id,
                                     struct pp_error *error)
{
	static const char doing[] = "register a statement";
	enum pp_status status = PP_CLOSED;
	unsigned id;

	assert(sql != NULL && ret_id != NULL);
	if (pool_forked(pool))
		return error_set(error, PP_FORKED, doing, "open a pool in this process");
	group_enter(pool);
	if (!atomic_load(&pool->group.closing))
		status = registered_new(pool, sql, &id);
	group_exit(pool);
	if (status == PP_NOMEM)
		return error_set(error, status, doing, "no memory for its text");
	if (status == PP_CLOSED)
		return error_set(error, status, doing, "pp_close() was called");
	if (status != PP_OK)
		return error_set(error, status, doing, "%d are registered, the most there can be",
		                 PP_STATEMENTS_MAX);
	*ret_id = id;
	return PP_OK;
}

void registered_free(struct pp_pool *pool)
{
	for (unsigned i = 0; i < atomic_load(&pool->registered_count); i++)
		sqlite3_free(pool->registered[i]);
	atomic_store(&pool->registered_count, 0);
}

/* Without memory it is found by its text, until there is some. */
static void index_add(struct connection *c, struct statement *e, unsigned id)
{
	struct statements *s = &c->statements;
	struct account *before = account_enter(atomic_load(&c->account));
	struct statement **grown = s->by_id;
	unsigned wanted = id < s->by_id_count ? s->by_id_count : (id | (BY_ID_STEP - 1)) + 1;

	if (wanted > s->by_id_count)
		grown = sqlite3_realloc64(s->by_id, wanted * sizeof *grown);
	account_enter(before);
	if (grown == NULL)
		return;
	for (s->by_id = grown; s->by_id_count < wanted; s->by_id_count++)
		grown[s->by_id_count] = NULL;
	grown[id] = e;
	e->id = id;
}

static enum pp_status take_first(struct connection *c, unsigned id, sqlite3_stmt **ret_stmt,
                                 struct pp_error *error)
{
	struct pp_pool *pool = c->pool;
	unsigned count = atomic_load_explicit(&pool->registered_count, memory_order_acquire);
	const struct registered *text;
	struct statements *s = &c->statements;
	struct statement *e;
	enum pp_status status;

	if (id == 0 || id > count)
		return error_set(error, PP_MISUSE, "fetch a statement",
		                 "%u is no statement of this pool: it has 1..%u", id, count);
	text = pool->registered[id - 1];
	e = s->buckets != NULL ? find(s, text->sql, text->hash) : NULL;
	status = hand_out(c, e, text->sql, text->hash, &e, error);
	if (status != PP_OK)
		return status;
	if (!e->spare)
		index_add(c, e, id);
	*ret_stmt = e->stmt;
	return PP_OK;
}

enum pp_status statement_take_id(struct connection *c, unsigned id, sqlite3_stmt **ret_stmt,
                                 struct pp_error *error)
{
	struct statements *s = &c->statements;
	struct statement *e = id < s->by_id_count ? s->by_id[id] : NULL;
	enum pp_status status;

	if (e == NULL)
		return take_first(c, id, ret_stmt, error);
	status = hand_out(c, e, e->sql, e->hash, &e, error);
	if (status == PP_OK)
		*ret_stmt = e->stmt;
	return status;
}
