/*
 * generic.c - sequences for any target, by its table of functions, and what must hold of it.
 *
 * A target's own words for an error are not judged: what is in the file afterwards is.
 */
/* SPDX-License-Identifier: MIT */
#include "sequences.h"
#include "sweep_trial_internal.h"

#include <poolproof/harness/case.h>
#include <poolproof/harness/run.h>

/* --- Opening and closing ------------------------------------------------------------------ */

static bool open_target(struct trial *t)
{
	const struct harness_options *o = harness_run_options(t->run);
	const struct harness_target_options options = {
		.path = t->path,
		.threads = 1,
		.readers = 1,
		.timeout_ms = 50,
		.synchronous = o->synchronous,
		.journal_mode = t->wal ? "WAL" : "DELETE",
	};

	t->failure = (struct harness_failure){ .kind = HARNESS_FAILURE_OTHER };
	t->worker = (struct harness_worker){ .run = t->run,
		                             .target = harness_run_target(t->run),
		                             .timeout_ns = 50000000 };
	if (t->worker.target->open(&options, &t->worker.target_state, &t->failure))
		return true;
	t->worker.target_state = NULL;
	return false;
}

static void close_target(struct trial *t)
{
	struct harness_residue residue = { 0 };

	t->worker.target->close(t->worker.target_state, &residue);
	t->worker.target_state = NULL;
	if (residue.bytes + residue.connections > 0)
		trial_wrong(t, "%llu bytes and %llu connections left: %s",
		            (unsigned long long)residue.bytes,
		            (unsigned long long)residue.connections, residue.text);
}

bool generic_open(struct trial *t)
{
	if (open_target(t))
		return true;
	trial_wrong(t, "%s cannot be opened, and nothing fails: %s", t->worker.target->name,
	            t->failure.text);
	return false;
}

/* --- Sequences ---------------------------------------------------------------------------- */

static bool came_of(struct trial *t, const char *doing, bool well)
{
	harness_case_note(t->run, "%s: %s", doing, well ? "well" : "failed");
	return well;
}

static bool lend(struct trial *t, enum harness_access access, struct harness_connection *ret)
{
	return came_of(t, "lend", harness_lend(&t->worker, access, ret, &t->failure));
}

static bool begin(struct trial *t, struct harness_connection *connection)
{
	return came_of(t, "begin", harness_begin(&t->worker, connection, &t->failure));
}

static bool commit(struct trial *t, struct harness_connection *connection)
{
	return came_of(t, "commit", harness_commit(&t->worker, connection, &t->failure));
}

static bool undo(struct trial *t, struct harness_connection *connection)
{
	return came_of(t, "rollback", harness_rollback(&t->worker, connection, &t->failure));
}

static bool put(struct trial *t, struct harness_connection *connection, unsigned n)
{
	struct harness_value args[] = { { .type = HARNESS_INTEGER, .integer = n },
		                        { .type = HARNESS_INTEGER, .integer = 0 } };
	bool well = true;

	for (unsigned half = 0; half < 2 && well; half++) {
		args[1].integer = half;
		well = harness_query(&t->worker, connection, "INSERT INTO pair VALUES (?1, ?2)",
		                     args, 2, NULL, NULL, &t->failure);
	}
	return came_of(t, "insert", well);
}

static void open_once(struct trial *t)
{
	if (came_of(t, "open", open_target(t)))
		close_target(t);
}

static void read_once(struct trial *t)
{
	struct harness_connection connection;

	if (!lend(t, HARNESS_READ, &connection))
		return;
	came_of(t, "select",
	        harness_query(&t->worker, &connection, "SELECT count(*) FROM pair", NULL, 0, NULL,
	                      NULL, &t->failure));
	harness_give_back(&t->worker, &connection);
}

/* A failed commit may have committed: only a whole write is asked for. */
static void commit_one(struct trial *t)
{
	struct harness_connection connection;
	unsigned n = trial_write(t);

	if (!lend(t, HARNESS_WRITE, &connection))
		return;
	if (begin(t, &connection) && put(t, &connection, n))
		t->fates[n] = commit(t, &connection) ? TRIAL_THERE : TRIAL_EITHER;
	harness_give_back(&t->worker, &connection);
}

static void roll_back(struct trial *t)
{
	struct harness_connection connection;
	unsigned n = trial_write(t);

	if (!lend(t, HARNESS_WRITE, &connection))
		return;
	if (begin(t, &connection) && put(t, &connection, n))
		undo(t, &connection);
	harness_give_back(&t->worker, &connection);
}

/* When the inner level cannot be undone the outer one is given back uncommitted. */
static void nest(struct trial *t)
{
	struct harness_connection connection;
	unsigned outer = trial_write(t), inner = trial_write(t);

	if (!lend(t, HARNESS_WRITE, &connection))
		return;
	if (begin(t, &connection) && put(t, &connection, outer) && begin(t, &connection)) {
		put(t, &connection, inner);
		if (undo(t, &connection))
			t->fates[outer] = commit(t, &connection) ? TRIAL_THERE : TRIAL_EITHER;
	}
	harness_give_back(&t->worker, &connection);
}

struct job {
	struct trial *t;
	unsigned n;
};

static bool put_body(struct harness_connection *connection, void *context,
                     struct harness_failure *f)
{
	struct job *job = context;
	bool well = put(job->t, connection, job->n);

	if (!well)
		*f = job->t->failure;
	return well;
}

static void transact(struct trial *t)
{
	struct job job = { t, trial_write(t) };
	bool well =
		came_of(t, "transact",
	                harness_transact(&t->worker, HARNESS_WRITE, put_body, &job, &t->failure));

	t->fates[job.n] = well ? TRIAL_THERE : TRIAL_EITHER;
}

/* --- Afterwards --------------------------------------------------------------------------- */

void generic_go_on(struct trial *t)
{
	if (t->worker.target_state == NULL && !came_of(t, "open", open_target(t)))
		return;
	commit_one(t);
	read_once(t);
}

/* It may take a borrower or two who find a broken connection until a whole one is lent. */
void generic_prove(struct trial *t)
{
	enum trial_recovery how = TRIAL_AT_ONCE;

	for (;; how++) {
		commit_one(t);
		if (t->fates[t->write_count - 1] == TRIAL_THERE || how == TRIAL_REOPENED)
			break;
	}
	if (t->fates[t->write_count - 1] != TRIAL_THERE)
		trial_wrong(t, "%s does not serve afterwards: %.300s", t->worker.target->name,
		            t->failure.text);
	else
		t->sums.recovered[how > TRIAL_AGAIN ? TRIAL_AGAIN : how]++;
	close_target(t);
}

#define GENERIC (SEQUENCE_GENERIC | SEQUENCE_IO)
static const struct sequence list[] = {
	{ "open", "opened and closed", GENERIC | SEQUENCE_OPENS, NULL, open_once },
	{ "read", "a query", GENERIC, NULL, read_once },
	{ "commit", "begun, written, committed", GENERIC, NULL, commit_one },
	{ "roll_back", "begun, written, rolled back", GENERIC, NULL, roll_back },
	{ "nest", "a level undone inside another", GENERIC, NULL, nest },
	{ "transact", "by callback", GENERIC, NULL, transact },
};

const struct sequences sequences_generic = { list, sizeof list / sizeof *list };
