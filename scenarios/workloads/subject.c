/* subject.c - a target that a case opens, uses and judges. */
/* SPDX-License-Identifier: MIT */
#include "subject.h"

#include <poolproof/harness/case.h>

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { PAYLOAD_BYTES = 200, FILL_ROWS = 400 };
/* What takes longer is not slow but broken: 2 s, times the slowness of the variant. How long it
 * takes is measured, and the gate's to judge. */
enum { RECOVERY_LATENESSES = 4 };

void subject_fail(struct subject *s, const char *format, ...)
{
	char text[512];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof text, format, args);
	va_end(args);
	atomic_store(&s->failed, true);
	harness_case_fail(s->run, "%s", text);
}

/* --- Opening and closing ------------------------------------------------------------------ */

/* Two tables beside the log: what other processes write, and enough pages for a middle. */
static bool fill(const char *path)
{
	char sql[512];
	sqlite3 *db;
	bool well;

	snprintf(sql, sizeof sql,
	         "CREATE TABLE peer(x); CREATE TABLE filler(x);"
	         "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %d)"
	         "INSERT INTO filler SELECT printf('%%0300d', i) FROM n; COMMIT",
	         FILL_ROWS);
	well = sqlite3_open(path, &db) == SQLITE_OK &&
	       sqlite3_exec(db, "BEGIN", NULL, NULL, NULL) == SQLITE_OK &&
	       sqlite3_exec(db, harness_log_schema, NULL, NULL, NULL) == SQLITE_OK &&
	       sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK;
	sqlite3_close(db);
	return well;
}

static bool target_open(struct subject *s)
{
	const struct harness_options *o = harness_run_options(s->run);
	struct harness_target_options options = {
		.path = s->path,
		.threads = o->threads,
		.readers = o->readers,
		.timeout_ms = (unsigned)(s->options.patience_ns / 1000000),
		.synchronous = o->synchronous,
		.journal_mode = s->options.journal,
	};
	struct harness_failure failure = { .kind = HARNESS_FAILURE_OTHER };

	if (!s->target->open(&options, &s->state, &failure)) {
		s->state = NULL;
		subject_fail(s, "%s could not open its file: %s", s->target->name, failure.text);
	}
	return s->state != NULL;
}

bool subject_open(struct subject *s, struct harness_run *run, const struct subject_options *options)
{
	*s = (struct subject){
		.run = run,
		.target = harness_run_target(run),
		.options = *options,
		.acks = harness_acks_new(NULL),
	};
	if (s->options.payload_bytes == 0)
		s->options.payload_bytes = PAYLOAD_BYTES;
	snprintf(s->path, sizeof s->path, "%s/%s.db", harness_run_work(run), options->name);
	if (s->acks == NULL || !fill(s->path))
		harness_cannot(run, "%s: %s; is the disk full?", s->path, strerror(errno));
	if (!target_open(s)) {
		harness_acks_free(s->acks);
		return false;
	}
	harness_target_show(run, s->state);
	s->worker = (struct harness_worker){
		.run = run,
		.target = s->target,
		.target_state = s->state,
		.timeout_ns = options->patience_ns,
	};
	return true;
}

static void target_close(struct subject *s)
{
	struct harness_residue residue = { 0 };
	char text[400] = "";

	harness_target_show(s->run, NULL);
	if (s->target->check(s->state, text, sizeof text) > 0)
		subject_fail(s, "invariants violated: %s", text);
	s->target->close(s->state, &residue);
	s->state = NULL;
	if (residue.bytes + residue.connections > 0)
		subject_fail(s, "left when closed: %llu bytes, %llu connections; %s",
		             (unsigned long long)residue.bytes,
		             (unsigned long long)residue.connections, residue.text);
}

bool subject_close(struct subject *s)
{
	struct harness_ack_sums sums = { 0 };
	struct harness_log_state state;
	sqlite3 *db;

	target_close(s);
	if (sqlite3_open_v2(s->path, &db, SQLITE_OPEN_READWRITE, NULL) != SQLITE_OK) {
		subject_fail(s, "afterwards the file cannot be opened: %s", sqlite3_errmsg(db));
	} else {
		state = harness_log_read(db, true);
		if (state.rows < 0)
			subject_fail(s, "afterwards the log is not whole: %s", state.wrong);
		else if (harness_acks_judge(s->run, s->options.name, s->acks, harness_log_has, db,
		                            &sums) > 0)
			subject_fail(
				s, "%llu acknowledged writes are lost, %llu that failed are there",
				(unsigned long long)sums.lost, (unsigned long long)sums.phantoms);
	}
	sqlite3_close(db);
	harness_acks_free(s->acks);
	return !atomic_load(&s->failed);
}

/* --- Using it ----------------------------------------------------------------------------- */

static const void *identity(const struct subject *s, const struct harness_connection *connection)
{
	return s->options.identity != NULL ? s->options.identity(connection) : connection->handle;
}

static void hold(struct subject *s, const struct harness_connection *connection)
{
	if (!harness_hold(s->run, identity(s, connection)))
		atomic_store(&s->failed, true);
}

static void let_go(const struct subject *s, const struct harness_connection *connection)
{
	harness_let_go(identity(s, connection));
}

void subject_judge_time(struct subject *s, uint64_t asked_ns, uint64_t patience_ns, bool well)
{
	if (harness_now_ns() - asked_ns > patience_ns + harness_lateness_ns())
		atomic_store(&s->failed, true);
	harness_deadline_judge(s->run, asked_ns, patience_ns, well);
	harness_step(s->run);
}

struct write {
	struct harness_worker *worker;
	struct subject *subject;
	unsigned n;
};

static bool write_row(struct harness_connection *connection, void *context,
                      struct harness_failure *f)
{
	struct write *w = context;
	struct harness_value args[] = {
		{ .type = HARNESS_INTEGER, .integer = w->worker->thread },
		{ .type = HARNESS_INTEGER, .integer = w->n },
		{ .type = HARNESS_INTEGER, .integer = w->subject->options.payload_bytes },
	};
	bool well;

	hold(w->subject, connection);
	well = harness_query(w->worker, connection, harness_log_insert, args, 3, NULL, NULL, f) &&
	       harness_query(w->worker, connection, harness_log_count, NULL, 0, NULL, NULL, f);
	let_go(w->subject, connection);
	if (w->subject->in_write != NULL)
		w->subject->in_write(w->subject->in_write_context);
	return well;
}

bool subject_write(struct harness_worker *worker, struct subject *s, struct harness_failure *f)
{
	uint64_t asked = harness_now_ns();
	struct write w = { worker, s, atomic_fetch_add(&s->next[worker->thread], 1) };
	bool well;

	harness_acks_meant(s->acks, worker->thread, w.n);
	well = harness_transact(worker, HARNESS_WRITE, write_row, &w, f);
	if (!atomic_load(&s->doomed))
		harness_acks_ended(s->acks, worker->thread, w.n, well);
	subject_judge_time(s, asked, worker->timeout_ns, well);
	return well;
}

bool subject_lend(struct harness_worker *worker, struct subject *s, enum harness_access access,
                  struct harness_connection *ret, struct harness_failure *f)
{
	uint64_t asked = harness_now_ns();
	bool well = harness_lend(worker, access, ret, f);

	subject_judge_time(s, asked, worker->timeout_ns, well);
	if (well)
		hold(s, ret);
	return well;
}

void subject_give_back(struct harness_worker *worker, struct subject *s,
                       struct harness_connection *connection)
{
	let_go(s, connection);
	harness_give_back(worker, connection);
}

bool subject_sql(struct harness_worker *worker, struct harness_connection *connection,
                 const char *sql, struct harness_failure *f)
{
	return harness_query(worker, connection, sql, NULL, 0, NULL, NULL, f);
}

/* How many rows are missing between the log and its counter. */
static bool keep_missing(void *context, const struct harness_value *columns, unsigned count)
{
	const struct harness_value *v = columns;

	if (count == 1) /* A target may have nothing but text. */
		*(int64_t *)context =
			v->type == HARNESS_TEXT ? strtoll(v->text, NULL, 10) : v->integer;
	return true;
}

bool subject_read(struct harness_worker *worker, struct subject *s, struct harness_failure *f)
{
	struct harness_connection connection;
	int64_t missing = 0;
	bool well;

	if (!subject_lend(worker, s, HARNESS_READ, &connection, f))
		return false;
	well = harness_query(
		worker, &connection,
		"SELECT (SELECT max(rows) FROM harness_count) - count(*) FROM harness_log", NULL, 0,
		keep_missing, &missing, f);
	subject_give_back(worker, s, &connection);
	if (well && missing != 0)
		subject_fail(s, "a reader found %lld rows of the log missing", (long long)missing);
	return well;
}

/* A twentieth of what has passed: a few hundred attempts, however long it takes. */
static void wait_before_next(uint64_t took_ns)
{
	uint64_t ns = took_ns / 20 < 200000 ? 200000 : took_ns / 20;

	nanosleep(&(struct timespec){ .tv_sec = (time_t)(ns / 1000000000),
	                              .tv_nsec = (long)(ns % 1000000000) },
	          NULL);
}

bool subject_serves(struct subject *s, const char *tag, uint64_t since_ns)
{
	struct harness_failure f = { .kind = HARNESS_FAILURE_OTHER };
	uint64_t limit_ns = RECOVERY_LATENESSES * harness_lateness_ns(), took;
	bool well;

	do {
		well = subject_write(&s->worker, s, &f) && subject_read(&s->worker, s, &f);
		took = harness_now_ns() - since_ns;
		if (!well)
			wait_before_next(took);
	} while (!well && took <= limit_ns);
	if (!well)
		subject_fail(
			s,
			"does not serve again, %.0f ms after what was wrong was put right: %.300s",
			(double)took / 1e6, f.text);
	else if (took > limit_ns)
		subject_fail(s, "served again only after %.0f ms", (double)took / 1e6);
	else
		harness_duration(s->run, tag, took);
	return well;
}
