/*
 * libzdb.c - libzdb's ConnectionPool as a target, used as its headers say.
 *
 * readers + 1 connections, opened by ConnectionPool_start(), with the journal mode and synchronous
 * as parameters of the URL. What the library does not have is done in the plainest way:
 *
 * Waiting     ConnectionPool_getConnection() returns NULL when all are lent: it is asked again
 *             every millisecond until the borrower's time is over. Once lent, the same time is
 *             the connection's query timeout.
 * Statements  A connection that is given back frees what was prepared on it, so a statement is
 *             prepared once in a lease and not once in a connection's life.
 * Begin       Connection_beginTransaction() is BEGIN DEFERRED; a savepoint is SQL.
 * Giving back Connection_close() rolls back what was begun by Connection_beginTransaction(), and
 *             nothing else. What a borrower began by SQL goes to the next one.
 * Results     Text, whatever the column is; an error is a message, without SQLite's code.
 */
/* SPDX-License-Identifier: MIT */
#include "peer.h"

#include <limits.h>
#include <stdatomic.h>
#include <time.h>
#include <zdb.h>

enum { COLUMNS_MAX = 64, STATEMENTS_MAX = 16 };

struct pool {
	URL_T url;
	ConnectionPool_T connections;
	unsigned timeout_ms;
	atomic_ullong lends, fulls; /* Relaxed: counters. */
};

struct prepared {
	const char *sql; /* By address: the harness hands in the same text at the same one. */
	PreparedStatement_T statement;
};

struct lease {
	Connection_T connection;
	struct prepared prepared[STATEMENTS_MAX];
	unsigned prepared_count;
};

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static bool start(ConnectionPool_T connections, struct harness_failure *f)
{
	volatile bool well = true;

	TRY
	{
		ConnectionPool_start(connections);
	}
	ELSE
	{
		well = peer_failed(Exception_frame.message, f);
	}
	END_TRY;
	return well;
}

static bool open_(const struct harness_target_options *o, void **ret, struct harness_failure *f)
{
	struct pool *pool = calloc(1, sizeof *pool);
	char path[PATH_MAX], *escaped;

	if (pool == NULL || realpath(o->path, path) == NULL) {
		free(pool);
		return peer_failed("no such file, or no memory", f);
	}
	escaped = URL_escape(path);
	pool->url = URL_create("sqlite://%s?journal_mode=%s&synchronous=%s", escaped,
	                       o->journal_mode, o->synchronous);
	free(escaped);
	pool->connections = ConnectionPool_new(pool->url);
	/* In this order: more initial ones (5 unless it is told) than the most is an assertion. */
	ConnectionPool_setInitialConnections(pool->connections, (int)o->readers + 1);
	ConnectionPool_setMaxConnections(pool->connections, (int)o->readers + 1);
	pool->timeout_ms = o->timeout_ms;
	if (!start(pool->connections, f)) {
		ConnectionPool_free(&pool->connections);
		URL_free(&pool->url);
		free(pool);
		return false;
	}
	*ret = pool;
	return true;
}

static void close_(void *target, struct harness_residue *ret)
{
	struct pool *pool = target;

	*ret = (struct harness_residue){ 0 };
	if (pool == NULL)
		return;
	ret->connections = (uint64_t)ConnectionPool_active(pool->connections);
	ConnectionPool_stop(pool->connections);
	ConnectionPool_free(&pool->connections);
	URL_free(&pool->url);
	free(pool);
}

static bool lend(void *target, enum harness_access access, uint64_t timeout_ns,
                 struct harness_connection *ret, struct harness_failure *f)
{
	struct pool *pool = target;
	struct lease *lease = calloc(1, sizeof *lease);
	uint64_t start_ns = now_ns();

	while (lease != NULL && lease->connection == NULL) {
		lease->connection = ConnectionPool_getConnection(pool->connections);
		if (lease->connection != NULL)
			break;
		atomic_fetch_add_explicit(&pool->fulls, 1, memory_order_relaxed);
		if (now_ns() - start_ns >= timeout_ns) {
			free(lease);
			*f = (struct harness_failure){ .kind = HARNESS_FAILURE_TIMEOUT,
				                       .text = "the pool is full" };
			return false;
		}
		nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
	}
	if (lease == NULL)
		return peer_failed("no memory", f);
	atomic_fetch_add_explicit(&pool->lends, 1, memory_order_relaxed);
	Connection_setQueryTimeout(lease->connection, (int)pool->timeout_ms);
	ret->handle = lease;
	ret->access = access;
	return true;
}

static void give_back(void *target, struct harness_connection *connection)
{
	struct lease *lease = connection->handle;

	(void)target;
	Connection_close(lease->connection);
	free(lease);
}

static PreparedStatement_T prepared(struct lease *lease, const char *sql)
{
	PreparedStatement_T statement;

	for (unsigned i = 0; i < lease->prepared_count; i++)
		if (lease->prepared[i].sql == sql)
			return lease->prepared[i].statement;
	/* "%s": it takes a format. */
	statement = Connection_prepareStatement(lease->connection, "%s", sql);
	if (lease->prepared_count < STATEMENTS_MAX)
		lease->prepared[lease->prepared_count++] = (struct prepared){ sql, statement };
	return statement;
}

static void bind(PreparedStatement_T statement, int index, const struct harness_value *value)
{
	if (value->type == HARNESS_INTEGER)
		PreparedStatement_setLLong(statement, index, value->integer);
	else if (value->type == HARNESS_REAL)
		PreparedStatement_setDouble(statement, index, value->real);
	else
		PreparedStatement_setString(statement, index,
		                            value->type == HARNESS_TEXT ? value->text : NULL);
}

static bool hand_on(ResultSet_T rows, harness_row_fn *on_row, void *context)
{
	struct harness_value columns[COLUMNS_MAX];
	int count = on_row != NULL ? ResultSet_getColumnCount(rows) : 0;

	count = count < COLUMNS_MAX ? count : COLUMNS_MAX;
	for (int i = 0; i < count; i++)
		columns[i] = peer_value(ResultSet_getString(rows, i + 1));
	return on_row == NULL || on_row(context, columns, (unsigned)count);
}

/* By executeQuery() also what gives no rows: execute() refuses what does, and the text alone does
 * not tell (RETURNING). */
static bool query(struct harness_connection *connection, const char *sql,
                  const struct harness_value *args, unsigned arg_count, harness_row_fn *on_row,
                  void *context, struct harness_failure *f)
{
	volatile bool well = true;

	TRY
	{
		PreparedStatement_T statement = prepared(connection->handle, sql);
		ResultSet_T rows;

		for (unsigned i = 0; i < arg_count; i++)
			bind(statement, (int)i + 1, &args[i]);
		rows = PreparedStatement_executeQuery(statement);
		while (ResultSet_next(rows) && hand_on(rows, on_row, context))
			continue;
	}
	ELSE
	{
		well = peer_failed(Exception_frame.message, f);
	}
	END_TRY;
	return well;
}

static bool attempt(void (*step)(Connection_T), struct harness_connection *connection,
                    struct harness_failure *f)
{
	struct lease *lease = connection->handle;
	volatile bool well = true;

	TRY
	{
		step(lease->connection);
	}
	ELSE
	{
		well = peer_failed(Exception_frame.message, f);
	}
	END_TRY;
	return well;
}

static void savepoint(Connection_T connection)
{
	Connection_execute(connection, "SAVEPOINT peer");
}

static void savepoint_release(Connection_T connection)
{
	Connection_execute(connection, "RELEASE peer");
}

static void savepoint_rollback(Connection_T connection)
{
	Connection_execute(connection, "ROLLBACK TO peer; RELEASE peer");
}

static bool begin(struct harness_connection *connection, struct harness_failure *f)
{
	return attempt(connection->depth > 0 ? savepoint : Connection_beginTransaction, connection,
	               f);
}

static bool commit(struct harness_connection *connection, struct harness_failure *f)
{
	return attempt(connection->depth > 1 ? savepoint_release : Connection_commit, connection,
	               f);
}

static bool rollback(struct harness_connection *connection, struct harness_failure *f)
{
	return attempt(connection->depth > 1 ? savepoint_rollback : Connection_rollback, connection,
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
	struct pool *pool = target;

	*ret = (struct harness_gauges){
		.connections = (unsigned)ConnectionPool_size(pool->connections),
		.leased = (unsigned)ConnectionPool_active(pool->connections),
	};
}

static void numbers(void *target, harness_number_fn *emit, void *context)
{
	struct pool *pool = target;

	emit(context, "libzdb.lends_count", (double)pool->lends);
	emit(context, "libzdb.full_count", (double)pool->fulls);
	emit(context, "libzdb.connections_count", (double)ConnectionPool_size(pool->connections));
}

static unsigned check(void *target, char *text, size_t size)
{
	(void)target, (void)text, (void)size;
	return 0;
}

static const struct harness_target libzdb = {
	.name = "libzdb",
	.about = "libzdb's ConnectionPool",
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

HARNESS_PLUGIN(libzdb);
