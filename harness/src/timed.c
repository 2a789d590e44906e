/*
 * timed.c - the target's functions with a clock around them.
 *
 * A worker without a recorder (a script's test, say) is served all the same, untimed.
 */
/* SPDX-License-Identifier: MIT */
#include "internal.h"

#include <poolproof/harness/load.h>

bool harness_lend(struct harness_worker *worker, enum harness_access access,
                  struct harness_connection *ret_connection, struct harness_failure *reterr_failure)
{
	uint64_t asked = now_ns();
	bool ok = worker->target->lend(worker->target_state, access, worker->timeout_ns,
	                               ret_connection, reterr_failure);
	uint64_t lent = now_ns();

	/* In vain is waiting too. */
	recorder_record(worker->recorder, TAG_WAIT, lent - asked);
	if (!ok)
		return false;
	ret_connection->access = access;
	ret_connection->lent_ns = lent;
	ret_connection->begun_ns = 0;
	ret_connection->depth = 0;
	return true;
}

void harness_give_back(struct harness_worker *worker, struct harness_connection *connection)
{
	worker->target->give_back(worker->target_state, connection);
}

bool harness_query(struct harness_worker *worker, struct harness_connection *connection,
                   const char *sql, const struct harness_value *args, unsigned arg_count,
                   harness_row_fn *on_row, void *context, struct harness_failure *reterr_failure)
{
	return worker->target->query(connection, sql, args, arg_count, on_row, context,
	                             reterr_failure);
}

bool harness_begin(struct harness_worker *worker, struct harness_connection *connection,
                   struct harness_failure *reterr_failure)
{
	uint64_t begun = connection->depth == 0 ? now_ns() : connection->begun_ns;

	if (!worker->target->begin(connection, reterr_failure))
		return false;
	connection->begun_ns = begun;
	connection->depth++;
	return true;
}

/* One begin has ended; at the outermost the transaction has. */
static void ended(struct harness_worker *worker, struct harness_connection *connection,
                  uint64_t now)
{
	if (connection->depth == 0 || --connection->depth > 0)
		return;
	recorder_record(worker->recorder, TAG_TRANSACTION, now - connection->begun_ns);
	connection->begun_ns = 0;
}

bool harness_commit(struct harness_worker *worker, struct harness_connection *connection,
                    struct harness_failure *reterr_failure)
{
	bool outermost = connection->depth <= 1;
	uint64_t asked = now_ns();
	bool ok = worker->target->commit(connection, reterr_failure);
	uint64_t now = now_ns();

	if (outermost)
		recorder_record(worker->recorder, TAG_COMMIT, now - asked);
	if (ok) /* Else it is still open, until it is tried again or rolled back. */
		ended(worker, connection, now);
	return ok;
}

bool harness_rollback(struct harness_worker *worker, struct harness_connection *connection,
                      struct harness_failure *reterr_failure)
{
	bool ok = worker->target->rollback(connection, reterr_failure);

	ended(worker, connection, now_ns());
	return ok;
}

struct transacting {
	struct harness_worker *worker;
	harness_body_fn *body;
	void *context;
	struct harness_entropy entropy; /* As the first call met it. */
	uint64_t digest;
	uint64_t entered_ns, left_ns; /* First entered; last left. */
};

static bool transacting_body(struct harness_connection *connection, void *context,
                             struct harness_failure *reterr_failure)
{
	struct transacting *t = context;
	bool ok;

	if (t->entered_ns == 0)
		t->entered_ns = now_ns();
	t->worker->entropy = t->entropy;
	t->worker->digest = t->digest;
	ok = t->body(connection, t->context, reterr_failure);
	t->left_ns = now_ns();
	return ok;
}

bool harness_transact(struct harness_worker *worker, enum harness_access access,
                      harness_body_fn *body, void *context, struct harness_failure *reterr_failure)
{
	struct transacting t = { worker, body, context, worker->entropy, worker->digest, 0, 0 };
	uint64_t asked = now_ns();
	bool ok = worker->target->transact(worker->target_state, access, worker->timeout_ns,
	                                   transacting_body, &t, reterr_failure);
	uint64_t now = now_ns();

	recorder_record(worker->recorder, TAG_WAIT,
	                (t.entered_ns != 0 ? t.entered_ns : now) - asked);
	if (t.entered_ns != 0)
		recorder_record(worker->recorder, TAG_TRANSACTION, now - t.entered_ns);
	if (ok && t.left_ns != 0)
		recorder_record(worker->recorder, TAG_COMMIT, now - t.left_ns);
	return ok;
}
