/* sweep_trial.c - the calls of a trial and their judgement; sweep_prove.c judges what is left. */
/* SPDX-License-Identifier: MIT */
#include "sweep_trial_internal.h"

#include <poolproof/harness/case.h>
#include <poolproof/harness/run.h>

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

void trial_wrong(struct trial *t, const char *format, ...)
{
	char text[400];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof text, format, args);
	va_end(args);
	t->wrong++;
	harness_case_fail(t->run, "%s", text);
}

/* --- Calls -------------------------------------------------------------------------------- */

/* Whether anything was hit that SQLite does not do without. */
static bool is_disturbed(const struct trial *t)
{
	if (t->armed)
		for (unsigned i = 0; i < t->fault_count; i++)
			if (t->faults[i].hits > t->faults[i].benign)
				return true;
	return t->disturbed;
}

/* An error says what the call said, and says it whole. */
static void judge_error(struct trial *t, enum pp_status status)
{
	const struct pp_error *e = &t->error;
	char text[1024];

	if (status == PP_OK && e->doing != NULL)
		trial_wrong(t, "%s: PP_OK, and an error was written", t->doing);
	if (status == PP_OK)
		return;
	if (e->status != status || e->doing == NULL || pp_error_text(e, text, sizeof text) == 0)
		trial_wrong(t, "%s: %s, but its error says %s", t->doing, pp_status_name(status),
		            pp_status_name(e->status));
	else if (e->sqlite_code != 0 && e->error_class != pp_class_of(e->sqlite_code))
		trial_wrong(t, "%s: code %d is not of class %s", t->doing, e->sqlite_code,
		            pp_class_name(e->error_class));
	else if (status == PP_NOMEM && e->sqlite_code != 0 &&
	         (e->sqlite_code & 0xff) != SQLITE_NOMEM && e->sqlite_code != SQLITE_IOERR_NOMEM)
		trial_wrong(t, "%s: PP_NOMEM with code %d", t->doing, e->sqlite_code);
}

static bool judge(struct trial *t, enum pp_status status, enum pp_status expected)
{
	harness_case_note(t->run, "%s: %s", t->doing, pp_status_name(status));
	t->sums.nomem += status == PP_NOMEM;
	if (status != expected && !(is_disturbed(t) && t->law->allows(t, status, expected)))
		trial_wrong(t, "%s: %s (%s: %s, code %d), expected was %s", t->doing,
		            pp_status_name(status), t->error.doing != NULL ? t->error.doing : "",
		            t->error.message, t->error.sqlite_code, pp_status_name(expected));
	t->error = (struct pp_error){ 0 };
	return status == expected;
}

bool trial_did_as(struct trial *t, const char *doing, enum pp_status status,
                  enum pp_status expected)
{
	t->doing = doing;
	judge_error(t, status);
	return judge(t, status, expected);
}

bool trial_did(struct trial *t, const char *doing, enum pp_status status)
{
	return trial_did_as(t, doing, status, PP_OK);
}

bool trial_must(struct trial *t, const char *doing, enum pp_status status)
{
	harness_case_note(t->run, "%s: %s", doing, pp_status_name(status));
	if (status != PP_OK)
		trial_wrong(t, "%s: %s, which it never fails with", doing, pp_status_name(status));
	return status == PP_OK;
}

/* What SQLite says to a borrower is judged as if the pool had said it. */
static bool judge_code(struct trial *t, const char *doing, sqlite3 *db, int code)
{
	bool memory = (code & 0xff) == SQLITE_NOMEM || code == SQLITE_IOERR_NOMEM;

	t->doing = doing;
	t->error = (struct pp_error){ .sqlite_code = code, .error_class = pp_class_of(code) };
	if (code != SQLITE_OK)
		snprintf(t->error.message, sizeof t->error.message, "%s", sqlite3_errmsg(db));
	return judge(t, code == SQLITE_OK ? PP_OK : memory ? PP_NOMEM : PP_SQLITE, PP_OK);
}

bool trial_sql(struct trial *t, sqlite3 *db, const char *sql)
{
	int rc = sqlite3_exec(db, sql, NULL, NULL, NULL);

	return judge_code(t, sql, db, rc != SQLITE_OK ? sqlite3_extended_errcode(db) : SQLITE_OK);
}

bool trial_acquire(struct trial *t, enum pp_lane lane, struct pp_lease *ret_lease)
{
	return trial_did(
		t, "pp_acquire",
		pp_acquire(t->pool, lane, (struct pp_deadline){ 0 }, ret_lease, &t->error));
}

void trial_release(struct trial *t, struct pp_lease *lease)
{
	trial_must(t, "pp_release", pp_release(lease));
}

/* --- Writes ------------------------------------------------------------------------------- */

unsigned trial_write(struct trial *t)
{
	t->fates[t->write_count] = TRIAL_UNDONE;
	return t->write_count++;
}

enum pp_status trial_put(struct pp_lease *lease, unsigned n)
{
	sqlite3_stmt *stmt;

	for (int half = 0; half < 2; half++) {
		enum pp_status status =
			pp_prepare(lease, "INSERT INTO pair VALUES (?1, ?2)", &stmt, NULL);

		if (status != PP_OK)
			return status;
		sqlite3_bind_int64(stmt, 1, n);
		sqlite3_bind_int64(stmt, 2, half);
		if (sqlite3_step(stmt) != SQLITE_DONE)
			return PP_SQLITE;
	}
	return PP_OK;
}

enum pp_status trial_put_work(struct pp_lease *lease, void *context)
{
	return trial_put(lease, *(const unsigned *)context);
}

void trial_settle(struct trial *t, unsigned n, enum pp_status status)
{
	t->fates[n] = status == PP_OK                             ? TRIAL_THERE
	              : status == PP_FILE_CHANGED || t->law->late ? TRIAL_EITHER
	                                                          : TRIAL_UNDONE;
}

/* Whether so many rows can be, by what is known of the writes. */
static bool count_fits(const struct trial *t, int64_t rows)
{
	int64_t least = 0, most = 0;

	for (unsigned i = 0; i < t->write_count; i++) {
		least += t->fates[i] == TRIAL_THERE ? 2 : 0;
		most += t->fates[i] != TRIAL_UNDONE ? 2 : 0;
	}
	return rows >= least && rows <= most && rows % 2 == 0;
}

bool trial_count(struct trial *t, struct pp_lease *lease)
{
	sqlite3_stmt *stmt;
	int64_t rows = -1;
	int rc;

	if (!trial_did(t, "pp_prepare",
	               pp_prepare(lease, "SELECT count(*) FROM pair", &stmt, &t->error)))
		return false;
	while ((rc = sqlite3_step(stmt)) == SQLITE_ROW)
		rows = sqlite3_column_int64(stmt, 0);
	if (rc == SQLITE_DONE && !count_fits(t, rows))
		trial_wrong(t, "a reader sees %lld rows, which is half a write or a wrong one",
		            (long long)rows);
	return judge_code(t, "sqlite3_step", lease->db,
	                  rc == SQLITE_DONE ? SQLITE_OK : sqlite3_extended_errcode(lease->db));
}

/* --- A trial ------------------------------------------------------------------------------ */

struct pp_config trial_config(const struct trial *t)
{
	struct pp_config config = {
		.path = t->path,
		.readers = 1,
		.keeper = PP_KEEPER_MANUAL,
		.busy_timeout_ms = 50,
		.journal = t->wal ? PP_JOURNAL_WAL : PP_JOURNAL_DELETE,
	};

	if (t->sequence->configure != NULL)
		t->sequence->configure(&config);
	return config;
}

void trial_arm(struct trial *t)
{
	harness_fault_arm(t->faults, t->fault_count);
	t->armed = true;
}

void trial_disarm(struct trial *t)
{
	if (!t->armed)
		return;
	t->disturbed = is_disturbed(t);
	harness_fault_disarm();
	t->armed = false;
}

static void forget(struct trial *t)
{
	t->pool = NULL;
	t->worker.target_state = NULL;
	t->error = (struct pp_error){ 0 };
	t->wrong = t->write_count = 0;
	t->disturbed = false;
}

void trial_run(struct trial *t, struct harness_fault faults[], unsigned count)
{
	bool opens = (t->sequence->traits & SEQUENCE_OPENS) != 0;

	forget(t);
	/* Names, salts and pauses are drawn from it: the same in each process. */
	sqlite3_test_control(SQLITE_TESTCTRL_PRNG_SEED, 1, NULL);
	t->faults = faults;
	t->fault_count = count;
	trial_place(t);
	if (opens || trial_open(t)) {
		if ((t->sequence->traits & SEQUENCE_ARMS) == 0)
			trial_arm(t);
		t->sequence->run(t);
		if (t->goes_on && t->armed)
			trial_go_on(t);
		trial_disarm(t);
		trial_prove(t);
	}
	t->sums.runs++;
	t->sums.wrong += t->wrong;
	for (unsigned i = 0; i < count; i++) {
		t->sums.hits += faults[i].hits;
		t->sums.benign += faults[i].benign;
	}
}
