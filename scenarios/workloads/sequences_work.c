/* sequences_work.c - transactions: by hand, by callback, shared, given up. */
/* SPDX-License-Identifier: MIT */
#include "sequences.h"

/* --- By hand ------------------------------------------------------------------------------ */

static bool begin(struct trial *t, struct pp_lease *lease)
{
	return trial_did(t, "pp_begin", pp_begin(lease, &t->error));
}

static bool undo(struct trial *t, struct pp_lease *lease)
{
	return trial_did(t, "pp_rollback", pp_rollback(lease, &t->error));
}

/* Both rows of a write, or nothing of this level any more. */
static bool put(struct trial *t, struct pp_lease *lease, unsigned n)
{
	if (trial_put(lease, n) == PP_OK)
		return true;
	undo(t, lease);
	return false;
}

static bool commit(struct trial *t, struct pp_lease *lease)
{
	return trial_did(t, "pp_commit", pp_commit(lease, &t->error));
}

static void commit_one(struct trial *t)
{
	struct pp_lease lease = { 0 };
	unsigned n = trial_write(t);

	if (!trial_acquire(t, PP_WRITE, &lease))
		return;
	if (begin(t, &lease) && put(t, &lease, n))
		trial_settle(t, n, commit(t, &lease) ? PP_OK : PP_SQLITE);
	trial_release(t, &lease);
}

static void roll_back(struct trial *t)
{
	struct pp_lease lease = { 0 };
	unsigned n = trial_write(t);

	if (!trial_acquire(t, PP_WRITE, &lease))
		return;
	if (begin(t, &lease) && put(t, &lease, n))
		undo(t, &lease);
	trial_count(t, &lease);
	trial_release(t, &lease);
}

/* One kept and one undone inside a third. */
static void nest_inside(struct trial *t, struct pp_lease *lease, unsigned kept, unsigned undone)
{
	if (begin(t, lease) && put(t, lease, kept))
		trial_settle(t, kept, commit(t, lease) ? PP_OK : PP_SQLITE);
	if (!sqlite3_get_autocommit(lease->db) && begin(t, lease) && put(t, lease, undone))
		undo(t, lease);
}

/* A level that fails may have taken all of it along, which the outermost commit tells. */
static void nest(struct trial *t)
{
	struct pp_lease lease = { 0 };
	unsigned outer = trial_write(t), kept = trial_write(t), undone = trial_write(t);
	bool ended;
	enum pp_status status;

	if (!trial_acquire(t, PP_WRITE, &lease))
		return;
	if (begin(t, &lease) && put(t, &lease, outer)) {
		nest_inside(t, &lease, kept, undone);
		ended = sqlite3_get_autocommit(lease.db);
		status = pp_commit(&lease, &t->error);
		trial_did_as(t, "pp_commit, outermost", status, ended ? PP_ROLLED_BACK : PP_OK);
		trial_settle(t, outer, status);
		if (status != PP_OK)
			trial_settle(t, kept, status);
	}
	trial_release(t, &lease);
}

/* What has no memory may end even this. */
static void begin_reading(struct trial *t)
{
	struct pp_lease lease = { 0 };
	bool ended;

	if (!trial_acquire(t, PP_READ, &lease))
		return;
	if (begin(t, &lease)) {
		trial_count(t, &lease);
		ended = sqlite3_get_autocommit(lease.db);
		trial_did_as(t, "pp_commit, reading", pp_commit(&lease, &t->error),
		             ended ? PP_ROLLED_BACK : PP_OK);
	}
	trial_release(t, &lease);
}

/* --- By callback -------------------------------------------------------------------------- */

static void settle_as(struct trial *t, unsigned n, const char *doing, enum pp_status status,
                      enum pp_status expected)
{
	trial_did_as(t, doing, status, expected);
	if (expected == PP_OK)
		trial_settle(t, n, status);
}

static void transact(struct trial *t)
{
	unsigned n = trial_write(t);

	settle_as(t, n, "pp_transact", pp_transact(t->pool, NULL, trial_put_work, &n, &t->error),
	          PP_OK);
}

static enum pp_status give_up(struct pp_lease *lease, void *context)
{
	enum pp_status status = trial_put(lease, *(const unsigned *)context);

	return status == PP_OK ? PP_ABORTED : status;
}

static void transact_given_up(struct trial *t)
{
	unsigned n = trial_write(t);

	settle_as(t, n, "pp_transact, given up", pp_transact(t->pool, NULL, give_up, &n, &t->error),
	          PP_ABORTED);
}

static enum pp_status nest_work(struct pp_lease *lease, void *context)
{
	unsigned n = *(const unsigned *)context;
	enum pp_status status = pp_begin(lease, NULL);

	if (status != PP_OK)
		return status;
	status = trial_put(lease, n + 1);
	if (status != PP_OK)
		return status;
	status = pp_rollback(lease, NULL);
	return status == PP_OK ? trial_put(lease, n) : status;
}

static void transact_nested(struct trial *t)
{
	unsigned n = trial_write(t);

	trial_write(t); /* Undone in any case. */
	settle_as(t, n, "pp_transact, nested", pp_transact(t->pool, NULL, nest_work, &n, &t->error),
	          PP_OK);
}

static enum pp_status put_twice(struct pp_lease *lease, void *context)
{
	enum pp_status status = trial_put(lease, *(const unsigned *)context);

	return status == PP_OK ? trial_put(lease, *(const unsigned *)context) : status;
}

static void transact_refused(struct trial *t)
{
	unsigned n = trial_write(t);

	settle_as(t, n, "pp_transact, not unique",
	          pp_transact(t->pool, NULL, put_twice, &n, &t->error), PP_SQLITE);
}

static enum pp_status put_much(struct pp_lease *lease, void *context)
{
	sqlite3_stmt *stmt;
	enum pp_status status =
		pp_prepare(lease, "SELECT length(randomblob(2000000))", &stmt, NULL);

	if (status == PP_OK && sqlite3_step(stmt) != SQLITE_ROW)
		status = PP_SQLITE;
	return status == PP_OK ? trial_put_work(lease, context) : status;
}

static void transact_limited(struct trial *t)
{
	struct pp_transaction enough = { .bytes_max = 4 << 20 }, little = { .bytes_max = 65536 };
	unsigned n = trial_write(t), m = trial_write(t);

	settle_as(t, n, "pp_transact, bytes enough",
	          pp_transact(t->pool, &enough, trial_put_work, &n, &t->error), PP_OK);
	settle_as(t, m, "pp_transact, too few bytes",
	          pp_transact(t->pool, &little, put_much, &m, &t->error), PP_NOMEM);
}

static enum pp_status read_all(struct pp_lease *lease, void *context)
{
	sqlite3_stmt *stmt;
	enum pp_status status = pp_prepare(lease, "SELECT count(*) FROM pair", &stmt, NULL);

	(void)context;
	if (status == PP_OK && sqlite3_step(stmt) != SQLITE_ROW)
		status = PP_SQLITE;
	return status;
}

static void read_session(struct trial *t)
{
	trial_did(t, "pp_read", pp_read(t->pool, NULL, read_all, NULL, &t->error));
}

/* --- Shared commits ----------------------------------------------------------------------- */

static void write_alone(struct trial *t)
{
	struct pp_written written = { 0 };
	unsigned n = trial_write(t);
	enum pp_status status = pp_write(t->pool, NULL, trial_put_work, &n, &written, &t->error);

	settle_as(t, n, "pp_write", status, PP_OK);
	if (status == PP_OK && written.changes != 2)
		trial_wrong(t, "pp_write() of two rows says %lld", (long long)written.changes);
}

static void write_any_thread(struct trial *t)
{
	struct pp_transaction how = { .any_thread = true, .bytes_max = 4 << 20 };
	unsigned n = trial_write(t), m = trial_write(t);

	settle_as(t, n, "pp_write, any thread",
	          pp_write(t->pool, &how, trial_put_work, &n, NULL, &t->error), PP_OK);
	settle_as(t, m, "pp_write, given up", pp_write(t->pool, &how, give_up, &m, NULL, &t->error),
	          PP_ABORTED);
}

static enum pp_status roll_back_all(struct pp_lease *lease, void *context)
{
	enum pp_status status = trial_put_work(lease, context);

	if (status == PP_OK && sqlite3_exec(lease->db, "ROLLBACK", NULL, NULL, NULL) != SQLITE_OK)
		status = PP_SQLITE;
	return status;
}

static void write_ended(struct trial *t)
{
	unsigned n = trial_write(t);

	settle_as(t, n, "pp_write, ROLLBACK inside",
	          pp_write(t->pool, NULL, roll_back_all, &n, NULL, &t->error), PP_ROLLED_BACK);
}

static void tight(struct pp_config *config)
{
	config->connection_bytes_max = 512 << 10;
	config->pool_bytes_max = 4 << 20;
}

static void outgrow(struct trial *t)
{
	unsigned n = trial_write(t);

	settle_as(t, n, "pp_transact, past the connection's bytes",
	          pp_transact(t->pool, NULL, put_much, &n, &t->error), PP_NOMEM);
}

static const struct sequence list[] = {
	{ "commit", "begun, written, committed", SEQUENCE_IO, NULL, commit_one },
	{ "roll_back", "begun, written, rolled back", SEQUENCE_IO, NULL, roll_back },
	{ "nest", "one level kept and one undone inside another", SEQUENCE_IO, NULL, nest },
	{ "begin_reading", "a snapshot by pp_begin()", SEQUENCE_IO, NULL, begin_reading },
	{ "transact", "pp_transact()", SEQUENCE_IO, NULL, transact },
	{ "transact_given_up", "a callback that changes its mind", 0, NULL, transact_given_up },
	{ "transact_nested", "a level undone inside", 0, NULL, transact_nested },
	{ "transact_refused", "a constraint is in the way", 0, NULL, transact_refused },
	{ "transact_limited", "a limit that is enough, and one that is not", 0, NULL,
	  transact_limited },
	{ "read_session", "pp_read()", SEQUENCE_IO, NULL, read_session },
	{ "write", "pp_write(), alone in its group", SEQUENCE_IO, NULL, write_alone },
	{ "write_any_thread", "the same for any thread, and given up", 0, NULL, write_any_thread },
	{ "write_ended", "ROLLBACK inside a group", 0, NULL, write_ended },
	{ "outgrow", "more than a connection may have", 0, tight, outgrow },
};

const struct sequences sequences_work = { list, sizeof list / sizeof *list };
