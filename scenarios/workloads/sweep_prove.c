/*
 * sweep_prove.c - what must hold when nothing fails any more.
 *
 * To know before reading: first whoever was driven is asked (it serves, it reads what was
 * acknowledged, its invariants hold, it closes and leaves nothing), then a plain handle is.
 */
/* SPDX-License-Identifier: MIT */
#include "sweep_trial_internal.h"

#include <poolproof/harness/case.h>
#include <poolproof/harness/run.h>
#include <poolproof/harness/vtime.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { FDS = 32 };

static const char schema[] = "CREATE TABLE pair(n INTEGER, half INTEGER, UNIQUE(n, half))";

/* --- The database ------------------------------------------------------------------------- */

static void image_make(struct trial *t, bool wal)
{
	const char *mode = wal ? "PRAGMA journal_mode=WAL" : "PRAGMA journal_mode=DELETE";
	FILE *file;
	sqlite3 *db;

	unlink(t->path);
	if (sqlite3_open(t->path, &db) != SQLITE_OK ||
	    sqlite3_exec(db, mode, NULL, NULL, NULL) != SQLITE_OK ||
	    sqlite3_exec(db, schema, NULL, NULL, NULL) != SQLITE_OK)
		harness_cannot(t->run, "%s: %s; is the disk full?", t->path, sqlite3_errmsg(db));
	sqlite3_close(db);
	file = fopen(t->path, "re");
	if (file != NULL)
		t->image_size[wal] = fread(t->image[wal], 1, TRIAL_IMAGE, file);
	if (file == NULL || fclose(file) != 0 || t->image_size[wal] == TRIAL_IMAGE)
		harness_cannot(t->run, "%s: cannot be read back; is the disk full?", t->path);
}

void trial_init(struct trial *t, struct harness_run *run, const struct trial_law *law,
                const char *folder)
{
	t->run = run;
	t->law = law;
	snprintf(t->path, sizeof t->path, "%s/trial.db", folder);
	snprintf(t->copy_path, sizeof t->copy_path, "%s/copy.db", folder);
	snprintf(t->other_path, sizeof t->other_path, "%s/other.db", folder);
	image_make(t, false);
	image_make(t, true);
}

static void remove_all(const char *path)
{
	static const char *const suffixes[] = {
		"", "-wal", "-shm", "-journal", "-turn", "-partial", "-partial-journal",
	};
	char name[600];

	for (unsigned i = 0; i < sizeof suffixes / sizeof *suffixes; i++) {
		snprintf(name, sizeof name, "%s%s", path, suffixes[i]);
		unlink(name);
	}
}

void trial_done(struct trial *t)
{
	remove_all(t->path);
	remove_all(t->copy_path);
	remove_all(t->other_path);
}

void trial_place(struct trial *t)
{
	int file;

	if ((t->sequence->traits & SEQUENCE_FILES) != 0)
		trial_done(t);
	else
		remove_all(t->path);
	file = open(t->path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (file < 0 ||
	    write(file, t->image[t->wal], t->image_size[t->wal]) != (ssize_t)t->image_size[t->wal])
		harness_cannot(t->run, "%s: %s; is the disk full?", t->path, strerror(errno));
	close(file);
}

/* --- What is held ------------------------------------------------------------------------- */

static struct trial_residue residue(void)
{
	struct trial_residue now = { .bytes = harness_fault_heap_bytes() };

	for (int fd = 0; fd < FDS; fd++)
		if (fcntl(fd, F_GETFD) >= 0)
			now.fds |= UINT64_C(1) << fd;
	return now;
}

/* The harness' sampler opens files for moments, which are long ones on a busy machine: what is left
 * is left two seconds later, too. */
static struct trial_residue residue_at_rest(struct trial_residue before)
{
	struct trial_residue now = residue();

	for (unsigned i = 0; i < 2000 && (now.fds & ~before.fds) != 0; i++) {
		nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
		now.fds &= residue().fds;
	}
	return now;
}

void trial_baseline(struct trial *t)
{
	t->before = residue();
}

static void prove_nothing_left(struct trial *t)
{
	const struct trial_residue before = t->before;
	struct trial_residue now = residue_at_rest(before);

	if (now.bytes != before.bytes) {
		t->sums.lost_bytes += (uint64_t)(now.bytes - before.bytes);
		trial_wrong(t, "%lld bytes of SQLite's allocator are left",
		            (long long)(now.bytes - before.bytes));
	}
	if ((now.fds & ~before.fds) != 0)
		trial_wrong(t, "descriptor %d is left open",
		            __builtin_ctzll(now.fds & ~before.fds));
	t->before.bytes = now.bytes; /* The next one has its own to answer for. */
	t->before.fds |= now.fds;
}

/* --- The pool ----------------------------------------------------------------------------- */

static bool is_generic(const struct trial *t)
{
	return (t->sequence->traits & SEQUENCE_GENERIC) != 0;
}

/* Memory's own database begins empty. */
static bool make_table(struct trial *t)
{
	struct pp_lease lease = { 0 };
	bool well = pp_acquire(t->pool, PP_WRITE, PP_FOREVER, &lease, NULL) == PP_OK &&
	            sqlite3_exec(lease.db, schema, NULL, NULL, NULL) == SQLITE_OK;

	if (!well)
		trial_wrong(t, "the table cannot be made, and nothing fails");
	pp_release(&lease);
	return well;
}

bool trial_open(struct trial *t)
{
	struct pp_config config = trial_config(t);
	enum pp_status status;

	if (is_generic(t))
		return generic_open(t);
	status = pp_open(&config, &t->pool, &t->error);
	if (status != PP_OK)
		trial_wrong(t, "pp_open: %s (%s), and nothing fails", pp_status_name(status),
		            t->error.message);
	t->error = (struct pp_error){ 0 };
	if (status == PP_OK && (t->sequence->traits & SEQUENCE_MEMDB) != 0)
		return make_table(t);
	return status == PP_OK;
}

/* Not where the sequence has left a pool that is to be helped, or where its database was only in
 * memory: a write has a table to go to. */
void trial_go_on(struct trial *t)
{
	struct pp_config config = trial_config(t);
	struct pp_lease lease = { 0 };
	enum pp_status status;
	unsigned n;

	if (is_generic(t)) {
		generic_go_on(t);
		return;
	}
	if ((t->sequence->traits & SEQUENCE_HELPED) != 0 ||
	    (t->pool == NULL && (t->sequence->traits & SEQUENCE_MEMDB) != 0) ||
	    (t->pool == NULL && !trial_did(t, "pp_open", pp_open(&config, &t->pool, &t->error))))
		return;
	n = trial_write(t);
	status = pp_transact(t->pool, NULL, trial_put_work, &n, &t->error);
	trial_settle(t, n, status);
	trial_did(t, "pp_transact", status);
	if (trial_acquire(t, PP_READ, &lease)) {
		trial_count(t, &lease);
		trial_release(t, &lease);
	}
}

static bool serves(struct trial *t)
{
	struct pp_lease lease = { 0 };
	unsigned n = trial_write(t);
	enum pp_status status = pp_transact(t->pool, NULL, trial_put_work, &n, &t->error);

	trial_settle(t, n, status);
	if (status == PP_OK)
		status = pp_acquire(t->pool, PP_READ, (struct pp_deadline){ 0 }, &lease, &t->error);
	if (status != PP_OK)
		return false;
	trial_count(t, &lease);
	trial_release(t, &lease);
	return true;
}

/* What the pool does by itself in its next half minute, and what a program may do. */
static void help(struct trial *t, enum trial_recovery how)
{
	t->error = (struct pp_error){ 0 };
	if (how == TRIAL_KEPT) {
		harness_vtime_sleep_ns(UINT64_C(31000000000));
		pp_keep(t->pool, NULL);
	} else if (how == TRIAL_REOPENED) {
		pp_reopen(t->pool, (struct pp_deadline){ 0 }, NULL);
	}
}

static void prove_it_serves(struct trial *t)
{
	static const char *const words[] = { "at once", "again", "after pp_keep()",
		                             "after pp_reopen()" };
	enum trial_recovery how = TRIAL_AT_ONCE, last = t->law->patience(t);
	char text[512];

	if ((t->sequence->traits & SEQUENCE_HELPED) != 0)
		last = TRIAL_REOPENED;
	while (!serves(t) && how < last) {
		harness_case_note(t->run, "does not serve: %s, code %d",
		                  pp_status_name(t->error.status), t->error.sqlite_code);
		help(t, ++how);
	}
	if (t->error.doing != NULL) {
		pp_error_text(&t->error, text, sizeof text);
		trial_wrong(t, "the pool does not serve afterwards: %.350s", text);
	}
	harness_case_note(t->run, "serves %s", words[how]);
	t->sums.recovered[how]++;
	t->error = (struct pp_error){ 0 };
	if (pp_check(t->pool, text, sizeof text) != 0)
		trial_wrong(t, "pp_check(): %.350s", text);
}

static void prove_it_closes(struct trial *t)
{
	struct pp_closing closing = { 0 };

	trial_must(t, "pp_close", pp_close(t->pool, pp_in_ms(1000), &closing));
	if (closing.leased + closing.parked > 0 || closing.residue_bytes > 0)
		trial_wrong(t, "pp_close(): %u lent, %u parked, %llu bytes left", closing.leased,
		            closing.parked, (unsigned long long)closing.residue_bytes);
	t->sums.lost_bytes += closing.residue_bytes;
	t->pool = NULL;
}

void trial_prove(struct trial *t)
{
	bool closed = is_generic(t) ? t->worker.target_state == NULL : t->pool == NULL;

	if (!closed || trial_open(t)) {
		if (is_generic(t)) {
			generic_prove(t);
		} else {
			prove_it_serves(t);
			prove_it_closes(t);
		}
	}
	if ((t->sequence->traits & SEQUENCE_MEMDB) == 0)
		trial_examine(t);
	prove_nothing_left(t);
}
