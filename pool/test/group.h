/* group.h - calls of pp_write() in threads of their own, gathered into one group. */
/* SPDX-License-Identifier: MIT */
#ifndef POOL_TEST_GROUP_H
#define POOL_TEST_GROUP_H

#include "upkeep.h"

struct call {
	struct pp_pool *pool;
	struct pp_transaction options;
	pp_work *work;   /* NULL: run sql. */
	const char *sql; /* NULL: a row without values. */
	void *context;   /* Of work, which finds the call in it. */

	atomic_uint runs;
	int ran_in; /* The thread that ran it last. */
	struct pp_written written;
	enum pp_status status;
	struct pp_error error;
	int thread_number;
	pthread_t thread;
};

static inline enum pp_status run_sql(struct pp_lease *lease, void *context)
{
	struct call *call = context;
	const char *text = call->sql != NULL ? call->sql : "INSERT INTO t DEFAULT VALUES";

	atomic_fetch_add(&call->runs, 1);
	call->ran_in = thread_number();
	return sqlite3_exec(lease->db, text, NULL, NULL, NULL) == SQLITE_OK ? PP_OK : PP_SQLITE;
}

static inline void *call_run(void *context)
{
	struct call *call = context;

	call->thread_number = thread_number();
	call->status =
		pp_write(call->pool, &call->options, call->work != NULL ? call->work : run_sql,
	                 call, &call->written, &call->error);
	return NULL;
}

static inline void call_start(struct call *call)
{
	call->thread = thread_start(call_run, call);
}

static inline void calls_join(struct call *calls, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		pthread_join(calls[i].thread, NULL);
}

/* They stand one behind the other, the first one leads; nobody runs before the lease is back. */
static inline void calls_line_up(struct fixture *f, struct call *calls, unsigned n, bool any_thread)
{
	unsigned before = stats(f->pool).write.waiting;

	f->pool->group.take_ns = UINT64_C(1)
	                         << 60; /* However slow this runs, they are one group. */
	for (unsigned i = 0; i < n; i++) {
		calls[i].pool = f->pool;
		calls[i].options.any_thread |= any_thread;
		if (calls[i].options.deadline.ns == 0)
			calls[i].options.deadline.ns = PP_FOREVER.ns;
		call_start(&calls[i]);
		WAIT_FOR(stats(f->pool).write.waiting == before + i + 1);
	}
}

/* One group, in this order. */
static inline void calls_group(struct fixture *f, struct call *calls, unsigned n, bool any_thread)
{
	struct pp_lease lease = { 0 };

	acquire_elsewhere(f->pool, PP_WRITE, &lease);
	calls_line_up(f, calls, n, any_thread);
	pp_release(&lease);
	calls_join(calls, n);
}

static inline int64_t ask(struct pp_pool *pool, const char *text)
{
	struct pp_lease lease = { 0 };
	int64_t answer;

	acquire(pool, PP_READ, &lease);
	answer = number(lease.db, text);
	pp_release(&lease);
	return answer;
}

/* --- What callbacks need ------------------------------------------------------------------ */

/* A callback that comes when it is let. */
struct gate {
	atomic_bool reached, open;
};

static inline enum pp_status wait_inside(struct pp_lease *lease, void *context)
{
	struct call *call = context;
	struct gate *gate = call->context;

	atomic_store(&gate->reached, true);
	WAIT_FOR(atomic_load(&gate->open));
	return run_sql(lease, call);
}

static inline void fail_busy(sqlite3_context *context, int count, sqlite3_value **values)
{
	(void)count, (void)values;
	sqlite3_result_error_code(context, SQLITE_BUSY);
}

/* After such an error the connection is not to be trusted. */
static inline void fail_ioerr(sqlite3_context *context, int count, sqlite3_value **values)
{
	(void)count, (void)values;
	sqlite3_result_error_code(context, SQLITE_IOERR_READ);
}

static inline int set_up(sqlite3 *db, void *context)
{
	sqlite3_create_function(db, "fail_busy", 0, SQLITE_UTF8, context, fail_busy, NULL, NULL);
	sqlite3_create_function(db, "fail_ioerr", 0, SQLITE_UTF8, context, fail_ioerr, NULL, NULL);
	return sqlite3_exec(db, "PRAGMA foreign_keys=ON", NULL, NULL, NULL);
}

static inline struct fixture with_traps(struct pp_config config)
{
	struct fixture f;
	struct pp_lease lease = { 0 };

	config.readers = 1;
	config.on_open = set_up;
	f = fixture_config(config);
	acquire(f.pool, PP_WRITE, &lease);
	sql(lease.db, "CREATE TABLE child(p REFERENCES t(id) DEFERRABLE INITIALLY DEFERRED);"
	              "CREATE TRIGGER cut BEFORE INSERT ON t WHEN new.v = 77 "
	              "BEGIN SELECT RAISE(ROLLBACK, 'cut'); END");
	pp_release(&lease);
	return f;
}

#endif
