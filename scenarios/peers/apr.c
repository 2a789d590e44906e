/*
 * apr.c - the Apache Portable Runtime as a target: a reslist of apr_dbd connections, as mod_dbd
 * uses them.
 *
 * readers + 1 connections, opened by apr_reslist_create(); apr_reslist_timeout_set() is the
 * borrower's time. What the library does not have is done in the plainest way:
 *
 * Busy        apr_dbd waits itself: 15 times 0.1 s. It has no other setting, and none is made.
 * Statements  Each connection keeps what apr_dbd_prepare() made of a text and the types of its
 *             arguments. Parameters are written %lld, %lf and %s there, so the text is rewritten.
 * Begin       apr_dbd_transaction_start() is BEGIN IMMEDIATE, for readers too; a savepoint is SQL.
 * Giving back Nothing is rolled back by apr_reslist_release(). What was begun by apr_dbd ends
 *             with the lease's pool; what a borrower began by SQL goes to the next one.
 * Results     Text, whatever the column is; an error is a message.
 */
/* SPDX-License-Identifier: MIT */
#include "peer.h"

#include <apr_dbd.h>
#include <apr_pools.h>
#include <apr_reslist.h>
#include <apr_strings.h>
#include <apr_time.h>
#include <ctype.h>
#include <stdatomic.h>

enum { COLUMNS_MAX = 64, STATEMENTS_MAX = 64, ARGS_MAX = 64, TEXT_MAX = 16384 };

static const apr_dbd_driver_t *driver;

struct pool {
	apr_pool_t *memory;
	apr_reslist_t *connections;
	const char *path, *journal_mode, *synchronous; /* The two as statements. */
	apr_interval_time_t timeout;
	char text[256]; /* Why a connection could not be opened. */
	unsigned size;
	atomic_ullong lends; /* Relaxed: a counter. */
};

struct statement {
	const char *sql; /* By address: the harness hands in the same text at the same one. */
	unsigned arg_count;
	enum harness_value_type types[ARGS_MAX];
	apr_dbd_prepared_t *prepared;
	unsigned order[ARGS_MAX], order_count; /* Which argument each % is. */
};

struct connection {
	struct pool *pool;
	apr_pool_t *memory, *lease, *query; /* As long as the connection, a lease, a query. */
	apr_dbd_t *db;
	apr_dbd_transaction_t *transaction;
	struct statement *statements[STATEMENTS_MAX];
	unsigned statement_count;
};

static bool failed(struct connection *c, int code, struct harness_failure *f)
{
	return peer_failed(apr_dbd_error(driver, c->db, code), f);
}

/* --- The pool ---------------------------------------------------------------------------- */

/* A new file's journal mode is changed by whoever is first, and apr_dbd does not wait for that. */
static bool set(struct connection *c, const char *pragma)
{
	apr_time_t end = apr_time_now() + c->pool->timeout;
	apr_dbd_results_t *rows;

	for (;;) {
		rows = NULL;
		/* By select: a query may not give a row, and journal_mode does. */
		if (apr_dbd_select(driver, c->query, c->db, &rows, pragma, 0) == 0)
			return true;
		snprintf(c->pool->text, sizeof c->pool->text, "%s: %s", pragma,
		         apr_dbd_error(driver, c->db, 0));
		if (strstr(c->pool->text, "locked") == NULL || apr_time_now() >= end)
			return false;
		apr_sleep(1000);
	}
}

static apr_status_t connect_(void **ret, void *context, apr_pool_t *parent)
{
	struct pool *pool = context;
	const char *why = "cannot open";
	apr_pool_t *memory;
	struct connection *c;

	if (apr_pool_create(&memory, parent) != APR_SUCCESS)
		return APR_ENOMEM;
	c = apr_pcalloc(memory, sizeof *c);
	c->pool = pool;
	c->memory = memory;
	if (apr_pool_create(&c->lease, memory) != APR_SUCCESS ||
	    apr_pool_create(&c->query, memory) != APR_SUCCESS ||
	    apr_dbd_open_ex(driver, memory, pool->path, &c->db, &why) != APR_SUCCESS) {
		snprintf(pool->text, sizeof pool->text, "%s", why);
		apr_pool_destroy(memory);
		return APR_EGENERAL;
	}
	if (!set(c, pool->journal_mode) || !set(c, pool->synchronous)) {
		apr_dbd_close(driver, c->db);
		apr_pool_destroy(memory);
		return APR_EGENERAL;
	}
	*ret = c;
	return APR_SUCCESS;
}

static apr_status_t disconnect(void *connection, void *context, apr_pool_t *parent)
{
	struct connection *c = connection;
	apr_status_t status = apr_dbd_close(driver, c->db);

	(void)context, (void)parent;
	apr_pool_destroy(c->memory);
	return status;
}

/* A program with APR begins with this. Once, and not again after apr_terminate(): the lock of
 * apr_dbd is gone then, and taken all the same. The driver is a library of its own, in a package of
 * its own. */
static const char *setup(void)
{
	apr_pool_t *memory;

	if (apr_initialize() != APR_SUCCESS || apr_pool_create(&memory, NULL) != APR_SUCCESS ||
	    apr_dbd_init(memory) != APR_SUCCESS ||
	    apr_dbd_get_driver(memory, "sqlite3", &driver) != APR_SUCCESS)
		return "apr_dbd has no driver for sqlite3; install libaprutil1-dbd-sqlite3";
	return NULL;
}

static bool open_(const struct harness_target_options *o, void **ret, struct harness_failure *f)
{
	struct pool *pool;
	apr_pool_t *memory;
	int size = (int)o->readers + 1;

	if (apr_pool_create(&memory, NULL) != APR_SUCCESS)
		return peer_failed("no memory", f);
	pool = apr_pcalloc(memory, sizeof *pool);
	pool->memory = memory;
	pool->path = apr_pstrdup(memory, o->path);
	pool->journal_mode = apr_psprintf(memory, "PRAGMA journal_mode=%s", o->journal_mode);
	pool->synchronous = apr_psprintf(memory, "PRAGMA synchronous=%s", o->synchronous);
	pool->timeout = (apr_interval_time_t)o->timeout_ms * 1000;
	pool->size = o->readers + 1;
	if (apr_reslist_create(&pool->connections, size, size, size, 0, connect_, disconnect, pool,
	                       memory) != APR_SUCCESS) {
		peer_failed(pool->text, f);
		apr_pool_destroy(memory);
		return false;
	}
	apr_reslist_cleanup_order_set(pool->connections, APR_RESLIST_CLEANUP_FIRST);
	apr_reslist_timeout_set(pool->connections, pool->timeout);
	*ret = pool;
	return true;
}

static void close_(void *target, struct harness_residue *ret)
{
	struct pool *pool = target;

	*ret = (struct harness_residue){ 0 };
	if (pool == NULL)
		return;
	ret->connections = apr_reslist_acquired_count(pool->connections);
	if (ret->connections == 0) /* It aborts when one is lent. */
		apr_reslist_destroy(pool->connections);
	apr_pool_destroy(pool->memory);
}

/* The list has one timeout for everybody, which is that of the options. */
static bool lend(void *target, enum harness_access access, uint64_t timeout_ns,
                 struct harness_connection *ret, struct harness_failure *f)
{
	struct pool *pool = target;
	void *connection;
	apr_status_t status = apr_reslist_acquire(pool->connections, &connection);

	(void)timeout_ns;
	if (status != APR_SUCCESS) {
		f->kind = APR_STATUS_IS_TIMEUP(status) ? HARNESS_FAILURE_TIMEOUT
		                                       : HARNESS_FAILURE_OTHER;
		f->code = 0;
		apr_strerror(status, f->text, sizeof f->text);
		return false;
	}
	atomic_fetch_add_explicit(&pool->lends, 1, memory_order_relaxed);
	ret->handle = connection;
	ret->access = access;
	return true;
}

static void give_back(void *target, struct harness_connection *connection)
{
	struct pool *pool = target;
	struct connection *c = connection->handle;

	apr_pool_clear(c->lease);
	c->transaction = NULL;
	apr_reslist_release(pool->connections, c);
}

/* --- Statements -------------------------------------------------------------------------- */

/* The index that SQLite gives to the parameter at *at, which is moved behind it. */
static unsigned parameter(const char **at, const char *names[], size_t lengths[], unsigned *count)
{
	const char *name = (*at)++;
	unsigned index = 0;
	size_t length;

	while (isalnum((unsigned char)**at) || **at == '_')
		(*at)++;
	length = (size_t)(*at - name);
	if (name[0] == '?' && length > 1)
		return (unsigned)atoi(name + 1) - 1;
	while (length > 1 && index < *count &&
	       (lengths[index] != length || memcmp(names[index], name, length) != 0))
		index++;
	if (length == 1 || index == *count) {
		index = *count < ARGS_MAX ? (*count)++ : 0;
		names[index] = name;
		lengths[index] = length;
	}
	return index;
}

static const char *format_of(enum harness_value_type type)
{
	return type == HARNESS_INTEGER ? "%lld" : type == HARNESS_REAL ? "%lf" : "%s";
}

/* :name, ?1 and ? outside quotes become %lld, %lf and %s; % becomes %%. A quote in a comment is
 * taken for one. */
static void rewrite(struct statement *s, char *to, const char *end)
{
	const char *at = s->sql, *names[ARGS_MAX];
	size_t lengths[ARGS_MAX];
	unsigned count = 0;
	char quote = '\0';

	while (*at != '\0' && end - to > 8) {
		if (quote == '\0' &&
		    (*at == '?' || (*at == ':' && isalpha((unsigned char)at[1])))) {
			unsigned index = parameter(&at, names, lengths, &count);

			if (s->order_count < ARGS_MAX && index < s->arg_count) {
				to = stpcpy(to, format_of(s->types[index]));
				s->order[s->order_count++] = index;
			}
			continue;
		}
		if (*at == '%')
			*to++ = '%';
		if (*at == '\'' || *at == '"')
			quote = quote == *at ? '\0' : quote == '\0' ? *at : quote;
		*to++ = *at++;
	}
	*to = '\0';
}

static bool fits(const struct statement *s, const char *sql, const struct harness_value *args)
{
	bool same = s->sql == sql;

	for (unsigned i = 0; i < s->arg_count && same; i++)
		same = s->types[i] == args[i].type;
	return same;
}

static struct statement *prepare(struct connection *c, const char *sql,
                                 const struct harness_value *args, unsigned arg_count,
                                 struct harness_failure *f)
{
	bool kept = c->statement_count < STATEMENTS_MAX;
	apr_pool_t *memory = kept ? c->memory : c->query;
	struct statement *s;
	char text[TEXT_MAX];
	int code;

	for (unsigned i = 0; i < c->statement_count; i++)
		if (fits(c->statements[i], sql, args))
			return c->statements[i];
	s = apr_pcalloc(memory, sizeof *s);
	s->sql = sql;
	s->arg_count = arg_count < ARGS_MAX ? arg_count : ARGS_MAX;
	for (unsigned i = 0; i < s->arg_count; i++)
		s->types[i] = args[i].type;
	rewrite(s, text, text + sizeof text);
	code = apr_dbd_prepare(driver, memory, c->db, text, NULL, &s->prepared);
	if (code != 0) {
		failed(c, code, f);
		return NULL;
	}
	if (kept)
		c->statements[c->statement_count++] = s;
	return s;
}

static bool hand_on(struct connection *c, apr_dbd_results_t *rows, harness_row_fn *on_row,
                    void *context)
{
	int count = apr_dbd_num_cols(driver, rows);
	struct harness_value columns[COLUMNS_MAX];
	apr_dbd_row_t *row = NULL;

	count = count < COLUMNS_MAX ? count : COLUMNS_MAX;
	while (apr_dbd_get_row(driver, c->query, rows, &row, -1) == 0) {
		for (int i = 0; i < count; i++)
			columns[i] = peer_value(apr_dbd_get_entry(driver, row, i));
		if (!on_row(context, columns, (unsigned)count))
			return true;
	}
	return true;
}

/* By pbselect also what gives no rows: pbquery takes one step and no more. */
static bool query(struct harness_connection *connection, const char *sql,
                  const struct harness_value *args, unsigned arg_count, harness_row_fn *on_row,
                  void *context, struct harness_failure *f)
{
	struct connection *c = connection->handle;
	struct statement *s = prepare(c, sql, args, arg_count, f);
	apr_dbd_results_t *rows = NULL;
	const void *values[ARGS_MAX];
	bool well = s != NULL;

	for (unsigned i = 0; well && i < s->order_count; i++) {
		const struct harness_value *arg = &args[s->order[i]];

		values[i] = arg->type == HARNESS_INTEGER ? (const void *)&arg->integer
		            : arg->type == HARNESS_REAL  ? (const void *)&arg->real
		            : arg->type == HARNESS_TEXT  ? (const void *)arg->text
		                                         : NULL;
	}
	if (well) {
		int code = apr_dbd_pbselect(driver, c->query, c->db, &rows, s->prepared, 0, values);

		well = code == 0 ? on_row == NULL || hand_on(c, rows, on_row, context)
		                 : failed(c, code, f);
	}
	apr_pool_clear(c->query);
	return well;
}

/* --- Transactions ------------------------------------------------------------------------ */

static bool exec(struct connection *c, const char *sql, struct harness_failure *f)
{
	int rows, code = apr_dbd_query(driver, c->db, &rows, sql);

	return code == 0 || failed(c, code, f);
}

static bool begin(struct harness_connection *connection, struct harness_failure *f)
{
	struct connection *c = connection->handle;
	int code;

	if (connection->depth > 0)
		return exec(c, "SAVEPOINT peer", f);
	code = apr_dbd_transaction_start(driver, c->lease, c->db, &c->transaction);
	return code == 0 || failed(c, code, f);
}

static bool end(struct connection *c, int mode, struct harness_failure *f)
{
	int code;

	apr_dbd_transaction_mode_set(driver, c->transaction, mode);
	code = apr_dbd_transaction_end(driver, c->lease, c->transaction);
	return code == 0 || failed(c, code, f);
}

static bool commit(struct harness_connection *connection, struct harness_failure *f)
{
	struct connection *c = connection->handle;

	if (connection->depth > 1)
		return exec(c, "RELEASE peer", f);
	return end(c, APR_DBD_TRANSACTION_COMMIT, f);
}

static bool rollback(struct harness_connection *connection, struct harness_failure *f)
{
	struct connection *c = connection->handle;

	if (connection->depth > 1)
		return exec(c, "ROLLBACK TO peer; RELEASE peer", f);
	return end(c, APR_DBD_TRANSACTION_ROLLBACK, f);
}

static bool transact(void *target, enum harness_access access, uint64_t timeout_ns,
                     harness_body_fn *body, void *context, struct harness_failure *f)
{
	struct harness_connection connection = { 0 };
	struct harness_failure second;
	bool well;

	if (!lend(target, access, timeout_ns, &connection, f))
		return false;
	well = begin(&connection, f);
	if (well) {
		well = body(&connection, context, f);
		if (well)
			well = commit(&connection, f);
		else
			rollback(&connection, &second);
	}
	give_back(target, &connection);
	return well;
}

/* --- Numbers ----------------------------------------------------------------------------- */

static void gauges(void *target, struct harness_gauges *ret)
{
	struct pool *pool = target;

	*ret = (struct harness_gauges){
		.connections = pool->size,
		.leased = apr_reslist_acquired_count(pool->connections),
	};
}

static void numbers(void *target, harness_number_fn *emit, void *context)
{
	struct pool *pool = target;

	emit(context, "apr.lends_count", (double)pool->lends);
	emit(context, "apr.connections_count", pool->size);
}

static unsigned check(void *target, char *text, size_t size)
{
	(void)target, (void)text, (void)size;
	return 0;
}

static const struct harness_target apr = {
	.name = "apr",
	.about = "APR's reslist of apr_dbd connections",
	.setup = setup,
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

HARNESS_PLUGIN(apr);
