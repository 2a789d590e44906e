/* poolproof.c - the pool of this project as a target. */
/* SPDX-License-Identifier: MIT */
#include "sqlite.h"
#include "targets.h"

#include <poolproof/harness/oracle.h>
#include <poolproof/pool.h>

#include <stdio.h>
#include <string.h>

enum { LEASES_MAX = 4 };       /* That one thread holds at a time. */
enum { CLOSE_LATENESSES = 6 }; /* Three seconds, times the slowness: told before it is a hang. */

void (*target_poolproof_adjust)(struct pp_config *config);

static _Thread_local struct pp_lease leases[LEASES_MAX];
static _Thread_local int last_status;

int target_poolproof_status(void)
{
	return last_status;
}

const void *target_poolproof_identity(const struct harness_connection *connection)
{
	return ((const struct pp_lease *)connection->handle)->db;
}

static bool failed(const struct pp_error *error, struct harness_failure *f)
{
	last_status = (int)error->status;
	f->code = error->sqlite_code;
	switch (error->status) {
	case PP_TIMEOUT:
		f->kind = HARNESS_FAILURE_TIMEOUT;
		break;
	case PP_OVERLOADED:
		f->kind = HARNESS_FAILURE_OVERLOADED;
		break;
	case PP_SQLITE:
		f->kind = (f->code & 0xff) == SQLITE_BUSY || (f->code & 0xff) == SQLITE_LOCKED
		                  ? HARNESS_FAILURE_BUSY
		                  : HARNESS_FAILURE_SQL;
		break;
	default:
		f->kind = HARNESS_FAILURE_OTHER;
	}
	pp_error_text(error, f->text, sizeof f->text);
	return false;
}

static struct pp_deadline within(uint64_t timeout_ns)
{
	return timeout_ns == UINT64_MAX ? PP_FOREVER : pp_in_ms(timeout_ns / 1000000);
}

static enum pp_lane lane_of(enum harness_access access)
{
	return access == HARNESS_READ ? PP_READ : PP_WRITE;
}

static const char *setup(void)
{
	pp_setup(0);
	return NULL;
}

static bool open_(const struct harness_target_options *o, void **ret, struct harness_failure *f)
{
	struct pp_config config = {
		.path = o->path,
		.must_exist = true,
		.readers = o->readers,
		.timeout_ms = o->timeout_ms,
		.journal = strcmp(o->journal_mode, "WAL") == 0 ? PP_JOURNAL_WAL : PP_JOURNAL_DELETE,
		.synchronous = strcmp(o->synchronous, "FULL") == 0 ? PP_SYNCHRONOUS_FULL
		                                                   : PP_SYNCHRONOUS_NORMAL,
	};
	struct pp_pool *pool;
	struct pp_error error;

	if (target_poolproof_adjust != NULL)
		target_poolproof_adjust(&config);
	if (pp_open(&config, &pool, &error) != PP_OK)
		return failed(&error, f);
	*ret = pool;
	return true;
}

static void close_(void *target, struct harness_residue *ret)
{
	struct pp_closing closing = { 0 };
	uint64_t patience_ms = CLOSE_LATENESSES * harness_lateness_ns() / 1000000;
	enum pp_status status = pp_close(target, pp_in_ms(patience_ms), &closing);

	*ret = (struct harness_residue){ .bytes = closing.residue_bytes,
		                         .connections = closing.leased + closing.parked };
	if (status != PP_OK || ret->bytes + ret->connections > 0)
		snprintf(ret->text, sizeof ret->text,
		         "pp_close: %s; %u lent, %u parked, %llu bytes", pp_status_text(status),
		         closing.leased, closing.parked, (unsigned long long)closing.residue_bytes);
}

static bool lend(void *target, enum harness_access access, uint64_t timeout_ns,
                 struct harness_connection *ret, struct harness_failure *f)
{
	struct pp_lease *lease = leases;
	struct pp_error error;

	while (lease < leases + LEASES_MAX && lease->db != NULL)
		lease++;
	if (lease == leases + LEASES_MAX) {
		*f = (struct harness_failure){ .kind = HARNESS_FAILURE_OTHER,
			                       .text = "one thread holds more than 4 connections" };
		return false;
	}
	if (pp_acquire(target, lane_of(access), within(timeout_ns), lease, &error) != PP_OK)
		return failed(&error, f);
	ret->handle = lease;
	ret->access = access;
	return true;
}

static void give_back(void *target, struct harness_connection *connection)
{
	(void)target;
	pp_release(connection->handle);
}

static bool query(struct harness_connection *connection, const char *sql,
                  const struct harness_value *args, unsigned arg_count, harness_row_fn *on_row,
                  void *context, struct harness_failure *f)
{
	struct pp_error error;
	sqlite3_stmt *stmt;

	if (pp_prepare(connection->handle, sql, &stmt, &error) != PP_OK)
		return failed(&error, f);
	last_status = PP_SQLITE;
	return sqlite_run(stmt, args, arg_count, on_row, context, f);
}

static bool begin(struct harness_connection *connection, struct harness_failure *f)
{
	struct pp_error error;

	return pp_begin(connection->handle, &error) == PP_OK || failed(&error, f);
}

static bool commit(struct harness_connection *connection, struct harness_failure *f)
{
	struct pp_error error;

	return pp_commit(connection->handle, &error) == PP_OK || failed(&error, f);
}

static bool rollback(struct harness_connection *connection, struct harness_failure *f)
{
	struct pp_error error;

	return pp_rollback(connection->handle, &error) == PP_OK || failed(&error, f);
}

struct work {
	enum harness_access access;
	harness_body_fn *body;
	void *context;
	bool body_failed;
	struct harness_failure failure;
};

static enum pp_status do_work(struct pp_lease *lease, void *context)
{
	struct work *work = context;
	struct harness_connection connection = { .handle = lease, .access = work->access };

	work->body_failed = !work->body(&connection, work->context, &work->failure);
	if (!work->body_failed)
		return PP_OK;
	return work->failure.kind == HARNESS_FAILURE_OTHER && work->failure.code == 0 ? PP_ABORTED
	                                                                              : PP_SQLITE;
}

static bool work_failed(const struct work *work, const struct pp_error *error,
                        struct harness_failure *f)
{
	failed(error, f);
	if (work->body_failed && error->status == PP_ABORTED)
		*f = work->failure;
	return false;
}

static bool transact(void *target, enum harness_access access, uint64_t timeout_ns,
                     harness_body_fn *body, void *context, struct harness_failure *f)
{
	struct pp_transaction options = { .lane = lane_of(access), .deadline = within(timeout_ns) };
	struct work work = { .access = access, .body = body, .context = context };
	struct pp_error error;

	if (pp_transact(target, &options, do_work, &work, &error) == PP_OK)
		return true;
	return work_failed(&work, &error, f);
}

bool target_poolproof_any_thread;

static bool write_(void *target, uint64_t timeout_ns, harness_body_fn *body, void *context,
                   struct harness_failure *f)
{
	struct pp_transaction options = { .any_thread = target_poolproof_any_thread,
		                          .deadline = within(timeout_ns) };
	struct work work = { .access = HARNESS_WRITE, .body = body, .context = context };
	struct pp_error error;

	if (pp_write(target, &options, do_work, &work, NULL, &error) == PP_OK)
		return true;
	return work_failed(&work, &error, f);
}

static void gauges(void *target, struct harness_gauges *ret)
{
	struct pp_stats s;

	pp_stats_read(target, &s);
	*ret = (struct harness_gauges){
		.connections = s.read.open + s.write.open,
		.leased = s.read.leased + s.write.leased,
		.waiting = s.read.waiting + s.write.waiting,
		.pool_bytes = s.pool_bytes,
		.connections_bytes = s.connections_bytes,
		.statements = s.statements,
	};
}

static void numbers(void *target, harness_number_fn *emit, void *context)
{
	struct pp_stats s;

	pp_stats_read(target, &s);
	emit(context, "pool.acquires_count", (double)(s.read.acquires + s.write.acquires));
	emit(context, "pool.waits_count", (double)(s.read.waits + s.write.waits));
	emit(context, "pool.handovers_count", (double)(s.read.handovers + s.write.handovers));
	emit(context, "pool.timeouts_count", (double)(s.read.timeouts + s.write.timeouts));
	emit(context, "pool.dirty_count", (double)s.dirty);
	emit(context, "pool.dirty_transaction_count", (double)s.dirty_transaction);
	emit(context, "pool.retired_count", (double)s.retired);
	emit(context, "pool.opened_count", (double)s.opened);
	emit(context, "pool.commits_count", (double)s.commits);
	emit(context, "pool.rollbacks_count", (double)s.rollbacks);
	emit(context, "pool.lost_count", (double)s.lost);
	emit(context, "pool.retries_count", (double)s.retries);
	emit(context, "pool.statement_hits_count", (double)s.statement_hits);
	emit(context, "pool.statement_misses_count", (double)s.statement_misses);
	emit(context, "pool.parked_bytes", (double)s.parked_bytes);
	emit(context, "pool.grown_count", (double)s.grown);
	emit(context, "pool.shrunk_count", (double)s.shrunk);
	emit(context, "pool.renewed_count", (double)s.renewed);
	emit(context, "pool.overdue_count", (double)s.overdue);
	emit(context, "pool.interrupted_count", (double)s.interrupted);
	emit(context, "pool.quarantined_count", (double)s.quarantined);
	emit(context, "pool.deadlocks_count", (double)s.deadlocks);
	emit(context, "pool.health_failures_count", (double)s.health_failures);
	emit(context, "pool.file_changes_count", (double)s.file_changes);
	emit(context, "pool.checkpoints_count", (double)s.checkpoints);
	emit(context, "pool.checkpoints_blocked_count", (double)s.checkpoints_blocked);
	emit(context, "pool.wal_bytes", (double)s.wal_bytes);
}

static unsigned check(void *target, char *text, size_t size)
{
	return pp_check(target, text, size);
}

const struct harness_target target_poolproof = {
	.name = "poolproof",
	.about = "this project's pool: two lanes, a fair line",
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
	.write = write_,
	.gauges = gauges,
	.numbers = numbers,
	.check = check,
};
