/* everything_calls.c - every call of the pool, drawn by the seed. */
/* SPDX-License-Identifier: MIT */
#include "everything.h"

#include <poolproof/harness/case.h>

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { PAYLOAD = 20, TEXT_SIZE = 4096 };

static unsigned draw(struct everything_worker *w, unsigned low, unsigned high)
{
	return (unsigned)harness_entropy_uniform(&w->entropy, low, high);
}

/* Up to so long: work has to take some time, so that others meet it. */
static void linger(struct everything_worker *w, unsigned us_max)
{
	nanosleep(&(struct timespec){ .tv_nsec = draw(w, 0, us_max) * 1000L }, NULL);
}

/* Some have no time, some have all the time there is: those have to be woken. */
static struct pp_deadline patience(struct everything_worker *w)
{
	static const unsigned ms[] = { 1, 20, 1000 };
	unsigned which = draw(w, 0, 3);

	w->patience_ns = which == 3 ? UINT64_MAX : ms[which] * UINT64_C(1000000);
	return which == 3 ? PP_FOREVER : pp_in_ms(ms[which]);
}

/* Who wants all of the pool keeps everybody out as long as one has a lease. */
static struct pp_deadline little_patience(struct everything_worker *w)
{
	unsigned ms = draw(w, 1, 5);

	if (draw(w, 0, 7) == 0)
		return patience(w);
	w->patience_ns = ms * UINT64_C(1000000);
	return pp_in_ms(ms);
}

static void refuse(sqlite3_context *context, int count, sqlite3_value **values)
{
	(void)count, (void)values;
	sqlite3_result_error_code(context, SQLITE_BUSY);
}

int everything_on_open(sqlite3 *db, void *context)
{
	(void)context;
	return sqlite3_create_function(db, "refuse", 0, SQLITE_UTF8, NULL, refuse, NULL, NULL);
}

/* --- A lease ------------------------------------------------------------------------------ */

bool everything_interrupts(const struct everything *all)
{
	return all->interrupts || atomic_load(&all->closing_ns) != 0;
}

/* Whoever has a connection has it: it answers, or says that it was interrupted, or that somebody in
 * quarantine still has a lock on the file, and nothing else. */
static void touch(struct everything_worker *w, struct pp_lease *lease)
{
	int rc = sqlite3_exec(lease->db, "SELECT count(*) FROM harness_log", NULL, NULL, NULL);

	if (rc != SQLITE_OK && rc != SQLITE_BUSY &&
	    (rc != SQLITE_INTERRUPT || !everything_interrupts(w->all)))
		harness_case_fail(w->all->run,
		                  "a holder's connection does not answer (code %d): it was closed "
		                  "or freed under its holder",
		                  rc);
}

static enum pp_status borrow(struct everything_worker *w, enum pp_lane lane, struct pp_lease *lease,
                             struct pp_error *error)
{
	uint64_t asked = harness_now_ns();
	struct pp_deadline until = lane == PP_EXCLUSIVE ? little_patience(w) : patience(w);
	enum pp_status status = pp_acquire(w->all->pool, lane, until, lease, error);

	if (w->patience_ns != UINT64_MAX)
		harness_deadline_judge(w->all->run, asked, w->patience_ns, status == PP_OK);
	if (status == PP_OK)
		harness_hold(w->all->run, lease->db);
	return status;
}

static void give_back(struct everything_worker *w, struct pp_lease *lease)
{
	enum pp_status status;

	harness_let_go(lease->db);
	status = pp_release(lease);
	if (status != PP_OK)
		harness_case_fail(w->all->run, "giving back says %s", pp_status_name(status));
}

static enum pp_status read_some(struct everything_worker *w, struct pp_error *error)
{
	struct pp_lease lease;
	enum pp_status status = borrow(w, PP_READ, &lease, error);

	if (status != PP_OK)
		return status;
	touch(w, &lease);
	linger(w, 300);
	touch(w, &lease);
	give_back(w, &lease);
	return PP_OK;
}

/* A transaction that is forgotten, and what makes the connection be opened anew. */
static enum pp_status abandon(struct everything_worker *w, struct pp_error *error)
{
	struct pp_lease lease;
	enum pp_status status = borrow(w, PP_WRITE, &lease, error);

	if (status != PP_OK)
		return status;
	sqlite3_exec(lease.db,
	             draw(w, 0, 1) ? "BEGIN; DELETE FROM harness_log"
	                           : "CREATE TEMP TABLE mine(x); INSERT INTO mine VALUES (1)",
	             NULL, NULL, NULL);
	give_back(w, &lease);
	return PP_OK;
}

/* All the others are closed meanwhile. */
static enum pp_status be_alone(struct everything_worker *w, struct pp_error *error)
{
	struct pp_lease lease;
	enum pp_status status = borrow(w, PP_EXCLUSIVE, &lease, error);

	if (status != PP_OK)
		return status;
	touch(w, &lease);
	linger(w, 300);
	give_back(w, &lease);
	return PP_OK;
}

static enum pp_status hold_late(struct everything_worker *w, struct pp_error *error)
{
	struct pp_lease lease;
	enum pp_status status = borrow(w, w->all->late_lane, &lease, error);

	if (status != PP_OK) {
		atomic_fetch_add(&w->all->late_wanted, 1); /* Another thread's turn. */
		return status;
	}
	atomic_fetch_add(&w->all->late, 1);
	while (!atomic_load(&w->all->released)) {
		touch(w, &lease);
		linger(w, 1000);
	}
	touch(w, &lease);
	atomic_fetch_sub(&w->all->late, 1);
	give_back(w, &lease);
	return PP_OK;
}

/* --- Writes that are acknowledged --------------------------------------------------------- */

static bool run_bound(struct pp_lease *lease, const char *sql, unsigned thread, unsigned n)
{
	sqlite3_stmt *stmt;
	bool well;

	if (pp_prepare(lease, sql, &stmt, NULL) != PP_OK)
		return false;
	if (sqlite3_bind_parameter_count(stmt) > 0) {
		sqlite3_bind_int64(stmt, 1, thread);
		sqlite3_bind_int64(stmt, 2, n);
		sqlite3_bind_int64(stmt, 3, PAYLOAD);
	}
	well = sqlite3_step(stmt) == SQLITE_DONE;
	sqlite3_reset(stmt);
	return well;
}

struct write {
	struct everything_worker *w;
	unsigned n, kind, runs;
};

enum { PLAIN, NESTED, REFUSED_ONCE, GIVEN_UP, KINDS };

static enum pp_status write_row(struct pp_lease *lease, void *context)
{
	struct write *write = context;
	unsigned thread = write->w->thread;

	if (write->kind == REFUSED_ONCE && write->runs++ == 0) {
		sqlite3_exec(lease->db, "SELECT refuse()", NULL, NULL, NULL);
		return PP_SQLITE;
	}
	if (write->kind == NESTED) {
		enum pp_status status = pp_begin(lease, NULL);

		if (status != PP_OK)
			return status;
		sqlite3_exec(lease->db, "DELETE FROM harness_log", NULL, NULL, NULL);
		status = pp_rollback(lease, NULL);
		if (status != PP_OK)
			return status;
	}
	if (!run_bound(lease, harness_log_insert, thread, write->n) ||
	    !run_bound(lease, harness_log_count, thread, write->n))
		return PP_SQLITE;
	return write->kind == GIVEN_UP ? PP_ABORTED : PP_OK;
}

static enum pp_status write_alone(struct pp_lease *lease, struct write *write,
                                  struct pp_error *error)
{
	enum pp_status status = pp_begin(lease, error);

	if (status != PP_OK)
		return status;
	if (!run_bound(lease, harness_log_insert, write->w->thread, write->n) ||
	    !run_bound(lease, harness_log_count, write->w->thread, write->n)) {
		pp_rollback(lease, NULL);
		error->sqlite_code = SQLITE_INTERRUPT; /* Nothing else refuses them here. */
		return PP_SQLITE;
	}
	return pp_commit(lease, error);
}

/* Meant before, and what became of it after: the same for each way to write. */
static bool intend(struct everything_worker *w, struct write *ret_write)
{
	if (w->writes == HARNESS_ACK_WRITES)
		return false;
	*ret_write = (struct write){ .w = w, .n = w->writes++, .kind = draw(w, 0, KINDS - 1) };
	harness_acks_meant(w->all->acks, w->thread, ret_write->n);
	return true;
}

static enum pp_status ended(struct write *write, enum pp_status status)
{
	harness_acks_ended(write->w->all->acks, write->w->thread, write->n, status == PP_OK);
	return status;
}

static enum pp_status write_by_lease(struct everything_worker *w, struct pp_error *error)
{
	struct write write;
	struct pp_lease lease;
	enum pp_status status;

	if (!intend(w, &write))
		return PP_OK;
	status = borrow(w, PP_WRITE, &lease, error);
	if (status != PP_OK)
		return ended(&write, status);
	status = ended(&write, write_alone(&lease, &write, error));
	give_back(w, &lease);
	return status;
}

static enum pp_status write_by_transact(struct everything_worker *w, struct pp_error *error)
{
	struct pp_transaction how = { .deadline = patience(w) };
	struct write write;

	if (!intend(w, &write))
		return PP_OK;
	return ended(&write, pp_transact(w->all->pool, &how, write_row, &write, error));
}

static enum pp_status write_in_group(struct everything_worker *w, struct pp_error *error)
{
	struct pp_transaction how = { .deadline = patience(w), .any_thread = draw(w, 0, 1) };
	struct write write;

	if (!intend(w, &write))
		return PP_OK;
	return ended(&write, pp_write(w->all->pool, &how, write_row, &write, NULL, error));
}

/* --- The others --------------------------------------------------------------------------- */

static enum pp_status look_twice(struct pp_lease *lease, void *context)
{
	struct everything_worker *w = context;
	const char *sql = "SELECT count(*), max(rows) FROM harness_log, harness_count";

	linger(w, 200);
	return sqlite3_exec(lease->db, sql, NULL, NULL, NULL) == SQLITE_OK ? PP_OK : PP_SQLITE;
}

static enum pp_status read_session(struct everything_worker *w, struct pp_error *error)
{
	struct pp_transaction how = { .lane = PP_READ, .deadline = patience(w) };

	return pp_read(w->all->pool, &how, look_twice, w, error);
}

static enum pp_status never_end(struct pp_lease *lease, void *context)
{
	(void)context;
	sqlite3_exec(lease->db,
	             "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) "
	             "SELECT count(*) FROM c",
	             NULL, NULL, NULL);
	return PP_SQLITE;
}

static enum pp_status be_stuck(struct everything_worker *w, struct pp_error *error)
{
	struct pp_transaction how = { .lane = PP_READ, .deadline = PP_FOREVER };

	w->patience_ns = UINT64_MAX;
	return pp_read(w->all->pool, &how, never_end, NULL, error);
}

static enum pp_status back_up(struct everything_worker *w, struct pp_error *error)
{
	char path[PATH_MAX];

	snprintf(path, sizeof path, "%s-%u", w->all->copy_path, w->thread);
	return pp_backup(w->all->pool,
	                 &(struct pp_backup){ .to_path = path, .deadline = patience(w) }, error);
}

static enum pp_status keep(struct everything_worker *w, struct pp_error *error)
{
	(void)error;
	return pp_keep(w->all->pool, NULL);
}

static enum pp_status resize(struct everything_worker *w, struct pp_error *error)
{
	unsigned readers = draw(w, 2, 5);

	return pp_resize(w->all->pool, draw(w, 1, readers), readers, error);
}

static enum pp_status reopen(struct everything_worker *w, struct pp_error *error)
{
	return pp_reopen(w->all->pool, little_patience(w), error);
}

static enum pp_status suspend(struct everything_worker *w, struct pp_error *error)
{
	enum pp_status status = pp_suspend(w->all->pool, little_patience(w));

	(void)error;
	if (status != PP_OK)
		return status;
	linger(w, 500);
	return pp_resume(w->all->pool);
}

static enum pp_status look_inside(struct everything_worker *w, struct pp_error *error)
{
	struct pp_pool *pool = w->all->pool;
	struct pp_connection connections[8];
	struct pp_histogram histogram;
	struct pp_stats stats;
	char text[TEXT_SIZE];
	unsigned count;

	(void)error;
	pp_stats_read(pool, &stats);
	pp_connections_read(pool, connections, 8, &count);
	pp_histogram_read(pool, PP_HISTOGRAM_WAIT, &histogram);
	pp_metrics_text(pool, "shutdown", text, sizeof text);
	if (pp_check(pool, text, sizeof text) != 0)
		harness_case_fail(w->all->run, "pp_check: %s", text);
	return PP_OK;
}

static enum pp_status enrol(struct everything_worker *w, struct pp_error *error)
{
	static const char *const texts[] = { "SELECT 1", "SELECT max(id) FROM harness_log" };
	unsigned id;

	return pp_statement_register(w->all->pool, texts[draw(w, 0, 1)], &id, error);
}

static const struct everything_call calls[] = {
	{ "read", 10, 0, read_some },
	{ "lease", 6, 0, write_by_lease },
	{ "transact", 8, MAY_ABORT | MAY_BE_REFUSED, write_by_transact },
	{ "group", 14, MAY_ABORT | MAY_BE_REFUSED, write_in_group },
	{ "session", 6, 0, read_session },
	{ "abandon", 2, 0, abandon },
	{ "exclusive", 2, MAY_WOULD_DEADLOCK, be_alone },
	{ "backup", 2, 0, back_up },
	{ "keep", 3, 0, keep },
	{ "resize", 2, 0, resize },
	{ "reopen", 1, MAY_WOULD_DEADLOCK | MAY_MISUSE, reopen },
	{ "suspend", 1, MAY_WOULD_DEADLOCK | MAY_MISUSE, suspend },
	{ "look", 3, 0, look_inside },
	{ "register", 1, 0, enrol },
};
static const struct everything_call late = { "late", 0, MAY_WOULD_DEADLOCK | MAY_LAST, hold_late };
static const struct everything_call stuck = { "stuck", 0, 0, be_stuck };

enum { CALLS = sizeof calls / sizeof *calls };

static const struct everything_call *choose(struct everything_worker *w)
{
	const struct everything *all = w->all;
	unsigned sum = 0, at;

	for (unsigned i = 0; i < CALLS; i++)
		sum += calls[i].weight;
	at = draw(w, 0, sum - 1);
	if (w->thread < 2 && all->favourite != NULL && w->index % 2 == 0)
		for (unsigned i = 0; i < CALLS; i++)
			if (strcmp(calls[i].name, all->favourite) == 0)
				return &calls[i];
	for (unsigned i = 0;; at -= calls[i++].weight)
		if (at < calls[i].weight)
			return &calls[i];
}

const struct everything_call *everything_next(struct everything_worker *w)
{
	if (atomic_load(&w->all->late_wanted) > 0 && atomic_fetch_sub(&w->all->late_wanted, 1) > 0)
		return &late;
	if (atomic_load(&w->all->stuck_wanted) > 0 &&
	    atomic_fetch_sub(&w->all->stuck_wanted, 1) > 0)
		return &stuck;
	return choose(w);
}

/* --- Once it is closed -------------------------------------------------------------------- */

/* Upkeep ends first, and then one lane after the other. */
static void await_closed(struct everything_worker *w)
{
	static const enum pp_lane lanes[] = { PP_READ, PP_WRITE };
	struct pp_lease lease;

	for (unsigned i = 0; i < 2; i++)
		while (pp_acquire(w->all->pool, lanes[i], PP_FOREVER, &lease, NULL) == PP_OK)
			pp_release(&lease);
}

/* Then each call says so. */
void everything_all_closed(struct everything_worker *w)
{
	struct pp_pool *pool = w->all->pool;
	char path[PATH_MAX];
	struct pp_lease lease;
	unsigned id;

	await_closed(w);
	snprintf(path, sizeof path, "%s-%u", w->all->copy_path, w->thread);

	const struct {
		const char *call;
		enum pp_status status;
	} said[] = {
		{ "pp_acquire(PP_READ)", pp_acquire(pool, PP_READ, PP_FOREVER, &lease, NULL) },
		{ "pp_acquire(PP_WRITE)", pp_acquire(pool, PP_WRITE, PP_FOREVER, &lease, NULL) },
		{ "pp_acquire(PP_EXCLUSIVE)",
		  pp_acquire(pool, PP_EXCLUSIVE, PP_NO_WAIT, &lease, NULL) },
		{ "pp_transact", pp_transact(pool, NULL, never_end, NULL, NULL) },
		{ "pp_read", pp_read(pool, NULL, never_end, NULL, NULL) },
		{ "pp_write", pp_write(pool, NULL, never_end, NULL, NULL, NULL) },
		{ "pp_keep", pp_keep(pool, NULL) },
		{ "pp_resize", pp_resize(pool, 0, 0, NULL) },
		{ "pp_suspend", pp_suspend(pool, PP_FOREVER) },
		{ "pp_resume", pp_resume(pool) },
		{ "pp_reopen", pp_reopen(pool, PP_FOREVER, NULL) },
		{ "pp_statement_register", pp_statement_register(pool, "SELECT 2", &id, NULL) },
		{ "pp_backup", pp_backup(pool, &(struct pp_backup){ .to_path = path }, NULL) },
	};

	for (unsigned i = 0; i < sizeof said / sizeof *said; i++)
		if (said[i].status != PP_CLOSED)
			harness_case_fail(w->all->run, "%s says %s once the pool closes",
			                  said[i].call, pp_status_name(said[i].status));
}
