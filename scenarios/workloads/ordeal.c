/* ordeal.c - locks of other processes, computations without an end, a file that is lost or damaged.
 */
/* SPDX-License-Identifier: MIT */
#include "ordeal.h"

#include <poolproof/harness/case.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PAGE_BYTES = 4096, LATENESS_MS = 500 }; /* harness_lateness_ns(), where nothing is slow. */

int64_t ordeal_draw(struct ordeal *t, int64_t low, int64_t high)
{
	int64_t drawn = harness_entropy_uniform(&t->entropy, low, high);

	harness_case_choose(t->subject.run, (uint64_t)drawn);
	return drawn;
}

void ordeal_be_patient(struct ordeal *t)
{
	t->subject.worker.timeout_ns = harness_lateness_ns() / LATENESS_MS * ORDEAL_LONG_MS;
}

void ordeal_serves(struct ordeal *t, uint64_t since_ns)
{
	struct subject *s = &t->subject;

	if (subject_serves(s, t->tag, since_ns))
		harness_case_note(s->run, "serves again");
}

bool ordeal_use(struct ordeal *t, struct harness_failure *f)
{
	struct subject *s = &t->subject;
	struct harness_failure unused = { .kind = HARNESS_FAILURE_OTHER };
	bool well = subject_write(&s->worker, s, f);

	t->hit |= !well;
	t->hit |= !subject_read(&s->worker, s, &unused);
	return well;
}

/* --- Locks -------------------------------------------------------------------------------- */

static void attempt(struct ordeal *t, const char *what,
                    bool (*call)(struct harness_worker *, struct subject *,
                                 struct harness_failure *),
                    bool blocked)
{
	struct subject *s = &t->subject;
	struct harness_failure f = { .kind = HARNESS_FAILURE_OTHER };
	bool well;

	if (blocked)
		s->worker.timeout_ns = s->options.patience_ns;
	well = call(&s->worker, s, &f);
	ordeal_be_patient(t);
	t->hit |= !well;
	harness_case_note(s->run, "a %s is %s", what, well ? "served" : "refused");
	if (well == blocked)
		subject_fail(s, "a %s %s: %.300s", what,
		             blocked ? "succeeded beside a lock that excludes it"
		                     : "was refused, and no lock was in its way",
		             f.text);
	if (!well && t->ours && !t->is_told(t, ORDEAL_LOCKED, &f))
		subject_fail(s, "a %s that waited for a lock was told: %.300s", what, f.text);
}

void ordeal_attempt_write(struct ordeal *t, bool blocked)
{
	attempt(t, "write", subject_write, blocked);
}

static void attempt_both(struct ordeal *t)
{
	unsigned where = t->wal ? IN_WAL : IN_DELETE;

	ordeal_attempt_write(t, (t->fault->no_writes & where) != 0);
	attempt(t, "read", subject_read, (t->fault->no_reads & where) != 0);
}

void ordeal_lock_held(struct ordeal *t)
{
	struct peer peer;

	peer_start(&t->subject, &peer, t->fault->what, 0);
	attempt_both(t);
	peer_end(&peer);
	ordeal_serves(t, harness_now_ns());
}

/* Shorter than the patience: nobody need notice. */
void ordeal_lock_short(struct ordeal *t)
{
	struct subject *s = &t->subject;
	struct harness_failure f = { .kind = HARNESS_FAILURE_OTHER };
	unsigned hold_ms = (unsigned)ordeal_draw(t, 10, 60);
	uint64_t start_ns, took;
	struct peer peer;

	peer_start(s, &peer, t->fault->what, hold_ms);
	start_ns = harness_now_ns();
	if (!subject_write(&s->worker, s, &f))
		subject_fail(s,
		             "a write was refused that had %u ms, and the lock was held %u: %.300s",
		             t->fault->patience_ms, hold_ms, f.text);
	took = harness_now_ns() - start_ns;
	t->hit = true;
	harness_duration(s->run, t->tag, took > hold_ms * 1000000 ? took - hold_ms * 1000000 : 0);
	peer_end(&peer);
}

/* Its holder sleeps and does not die; then it goes on, or is killed. */
void ordeal_lock_stopped(struct ordeal *t)
{
	bool dies = ordeal_draw(t, 0, 1) == 1;
	struct peer peer;

	peer_start(&t->subject, &peer, t->fault->what, 0);
	peer_stop(&peer);
	attempt_both(t);
	if (dies) {
		peer_kill(&peer);
	} else {
		peer_continue(&peer);
		peer_end(&peer);
	}
	ordeal_serves(t, harness_now_ns());
}

/* A read lock becomes a write lock, and others have written, or want to. */
void ordeal_lock_upgrade(struct ordeal *t)
{
	struct subject *s = &t->subject;
	struct harness_worker *w = &s->worker;
	struct harness_failure f = { .kind = HARNESS_FAILURE_OTHER };
	struct harness_connection c;
	struct peer peer;
	uint64_t asked;
	bool well;

	if (!subject_lend(w, s, HARNESS_WRITE, &c, &f) || !subject_sql(w, &c, "BEGIN", &f) ||
	    !subject_sql(w, &c, "SELECT count(*) FROM peer", &f)) {
		subject_fail(s, "no transaction could begin: %.300s", f.text);
		return;
	}
	peer_start(s, &peer, t->wal ? "write" : "reserved", 0);
	asked = harness_now_ns();
	well = subject_sql(w, &c, "INSERT INTO peer VALUES (2)", &f);
	subject_judge_time(s, asked, w->timeout_ns, well);
	t->hit = !well;
	harness_case_note(s->run, "the upgrade says %d", well ? SQLITE_OK : f.code);
	if (well)
		subject_fail(s, "a lock was upgraded although another process had written");
	else if (t->ours && !t->is_told(t, ORDEAL_UPGRADE, &f))
		subject_fail(s, "the upgrade was told: %.300s", f.text);
	subject_give_back(w, s, &c); /* As it is. */
	peer_end(&peer);
	ordeal_serves(t, harness_now_ns());
}

static bool compute(struct harness_connection *connection, void *context, struct harness_failure *f)
{
	struct ordeal *t = context;

	/* Who cannot be stopped is back some day. */
	return subject_sql(
		&t->subject.worker, connection,
		t->ours ? "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) "
			  "SELECT count(*) FROM n"
			: "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n "
			  "LIMIT 3000000) SELECT count(*) FROM n",
		f);
}

void ordeal_query_stuck(struct ordeal *t)
{
	struct subject *s = &t->subject;
	struct harness_failure f = { .kind = HARNESS_FAILURE_OTHER };
	enum harness_access access = ordeal_draw(t, 0, 1) == 1 ? HARNESS_WRITE : HARNESS_READ;
	uint64_t asked = harness_now_ns();
	bool well;

	s->worker.timeout_ns = s->options.patience_ns;
	well = harness_transact(&s->worker, access, compute, t, &f);
	subject_judge_time(s, asked, s->worker.timeout_ns, well);
	ordeal_be_patient(t);
	t->hit = !well;
	if (t->ours && (well || !t->is_told(t, ORDEAL_LATE, &f)))
		subject_fail(s, "a query that never ends was told: %.300s", f.text);
	ordeal_serves(t, harness_now_ns());
}

void ordeal_file_delete(struct ordeal *t)
{
	unlink(t->subject.path);
}

void ordeal_file_replace(struct ordeal *t)
{
	rename(t->copy, t->subject.path);
}

void ordeal_file_cut(struct ordeal *t)
{
	struct stat status;

	if (stat(t->subject.path, &status) == 0 &&
	    truncate(t->subject.path, status.st_size / 2 / PAGE_BYTES * PAGE_BYTES) != 0)
		subject_fail(&t->subject, "truncate: %s", strerror(errno));
}

void ordeal_file_make_read_only(struct ordeal *t)
{
	unlink(t->copy); /* The file itself is all right. */
	chmod(t->subject.path, 0444);
}

void ordeal_file_damage(struct ordeal *t)
{
	peer_do(&t->subject, t->fault->what);
}

void ordeal_file_put_back(struct ordeal *t)
{
	if (access(t->copy, F_OK) == 0)
		rename(t->copy, t->subject.path);
	chmod(t->subject.path, 0644);
	atomic_store(&t->subject.doomed, false);
}

static void change_once(void *context)
{
	struct ordeal *t = context;

	t->subject.in_write = NULL;
	t->fault->change(t);
}

void ordeal_file_lost(struct ordeal *t)
{
	struct subject *s = &t->subject;
	struct harness_failure f = { .kind = HARNESS_FAILURE_OTHER };
	struct peer peer;
	uint64_t since_ns;
	bool well;

	peer_do(s, "copy");
	if (t->fault->what != NULL)
		peer_start(s, &peer, t->fault->what, 0);
	if (t->fault->in_transaction) {
		s->in_write = change_once;
		s->in_write_context = t;
	} else {
		t->fault->change(t);
	}
	well = ordeal_use(t, &f);
	if (well && t->ours)
		subject_fail(s, "a write was acknowledged into a file that is not at its path, or "
		                "cannot be written");
	else if (t->ours && !t->is_told(t, ORDEAL_FILE_CHANGED, &f))
		subject_fail(s, "a write into a changed file was told: %.300s", f.text);
	ordeal_file_put_back(t);
	since_ns = harness_now_ns();
	t->reopen(t);
	ordeal_serves(t, since_ns);
	if (t->ours)
		peer_do(s, "recover");
	if (t->fault->what != NULL)
		peer_end(&peer);
}

static bool query(struct ordeal *t, enum harness_access access, const char *sql)
{
	struct subject *s = &t->subject;
	struct harness_failure f;
	struct harness_connection c;
	bool well;

	if (!subject_lend(&s->worker, s, access, &c, &f))
		return false;
	well = subject_sql(&s->worker, &c, sql, &f);
	subject_give_back(&s->worker, s, &c);
	return well;
}

void ordeal_file_damaged(struct ordeal *t)
{
	struct harness_failure f;
	uint64_t since_ns;

	peer_do(&t->subject, "copy");
	atomic_store(&t->subject.doomed, true);
	t->fault->change(t);
	ordeal_use(t, &f);
	t->hit |= !query(t, HARNESS_READ, "SELECT sum(length(x)) FROM filler");
	ordeal_file_put_back(t);
	since_ns = harness_now_ns();
	t->reopen(t);
	ordeal_serves(t, since_ns);
}

void ordeal_wal_deleted(struct ordeal *t)
{
	struct subject *s = &t->subject;
	struct harness_failure f;
	char name[PATH_MAX + 8];
	uint64_t since_ns;
	bool well;

	snprintf(name, sizeof name, "%s-wal", s->path);
	unlink(name);
	ordeal_use(t, &f);
	query(t, HARNESS_WRITE, "CREATE TEMP TABLE scratch(x)");
	well = ordeal_use(t, &f);
	/* Unless it has been opened anew by now. */
	if (t->ours && (well ? !t->reopens : !t->is_told(t, ORDEAL_FILE_CHANGED, &f)))
		subject_fail(s, "a connection was opened without the WAL: %.300s",
		             well ? "a write succeeded" : f.text);
	since_ns = harness_now_ns();
	t->reopen(t);
	ordeal_serves(t, since_ns);
}
