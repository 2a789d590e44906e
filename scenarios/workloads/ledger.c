/* ledger.c - money that is moved about and must not become more or less. */
/* SPDX-License-Identifier: MIT */
#include "workloads.h"

#include <poolproof/harness/run.h>

#include <sqlite3.h>
#include <stdatomic.h>
#include <stdio.h>

bool ledger_create(sqlite3 *db)
{
	char sql[512];

	snprintf(sql, sizeof sql,
	         "CREATE TABLE ledger(id INTEGER PRIMARY KEY, balance INTEGER NOT NULL);"
	         "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %d)"
	         "INSERT INTO ledger SELECT i, %d FROM n",
	         LEDGER_ACCOUNTS, LEDGER_SUM / LEDGER_ACCOUNTS);
	return sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK;
}

int64_t ledger_sum(sqlite3 *db)
{
	sqlite3_stmt *stmt = NULL;
	int64_t sum = INT64_MIN;

	sqlite3_prepare_v2(db, "SELECT sum(balance) FROM ledger", -1, &stmt, NULL);
	if (sqlite3_step(stmt) == SQLITE_ROW)
		sum = sqlite3_column_int64(stmt, 0);
	sqlite3_finalize(stmt);
	return sum;
}

/* Takes from one and gives to another; half: only takes. */
struct transfer {
	struct harness_worker *worker;
	bool half;
};

static bool move(struct transfer *t, struct harness_connection *connection, int64_t account,
                 int64_t amount, struct harness_failure *f)
{
	struct harness_value args[] = { { .type = HARNESS_INTEGER, .integer = amount },
		                        { .type = HARNESS_INTEGER, .integer = account } };

	harness_choose(t->worker, (uint64_t)account);
	return harness_query(t->worker, connection,
	                     "UPDATE ledger SET balance = balance + ?1 WHERE id = ?2", args, 2,
	                     NULL, NULL, f);
}

static bool transfer_body(struct harness_connection *connection, void *context,
                          struct harness_failure *f)
{
	struct transfer *t = context;
	struct harness_entropy *e = &t->worker->entropy;
	int64_t amount = harness_entropy_uniform(e, 1, 100);
	int64_t from = harness_entropy_uniform(e, 1, LEDGER_ACCOUNTS);

	if (!move(t, connection, from, -amount, f))
		return false;
	if (!t->half)
		return move(t, connection, harness_entropy_uniform(e, 1, LEDGER_ACCOUNTS), amount,
		            f);
	*f = (struct harness_failure){ .kind = HARNESS_FAILURE_OTHER, .text = "given up half-way" };
	return false;
}

static bool transfer(struct harness_worker *worker, void *context, struct harness_failure *f)
{
	struct transfer t = { worker, false };

	(void)context;
	return harness_transact(worker, HARNESS_WRITE, transfer_body, &t, f);
}

static bool give_up(struct harness_worker *worker, void *context, struct harness_failure *f)
{
	struct transfer t = { worker, true };

	(void)context;
	/* That it was given up is what was asked for; anything else is a failure. */
	return !harness_transact(worker, HARNESS_WRITE, transfer_body, &t, f) &&
	       f->kind == HARNESS_FAILURE_OTHER && f->code == 0;
}

/* Begins by SQL, behind the target's back, and gives the connection back as it is. */
static bool forget(struct harness_worker *worker, void *context, struct harness_failure *f)
{
	struct harness_connection connection;
	struct transfer t = { worker, true };
	bool well;

	(void)context;
	if (!harness_lend(worker, HARNESS_WRITE, &connection, f))
		return false;
	well = harness_query(worker, &connection, "BEGIN IMMEDIATE", NULL, 0, NULL, NULL, f);
	if (well) {
		transfer_body(&connection, &t, f);
		well = f->code == 0;
	}
	harness_give_back(worker, &connection);
	return well;
}

static bool keep_sum(void *context, const struct harness_value *columns, unsigned count)
{
	if (count > 0)
		*(int64_t *)context = columns[0].integer;
	return true;
}

static atomic_flag told = ATOMIC_FLAG_INIT; /* That an audit did not add up. */

static bool audit(struct harness_worker *worker, void *context, struct harness_failure *f)
{
	struct harness_connection connection;
	int64_t sum = INT64_MIN;
	bool well;

	(void)context;
	if (!harness_lend(worker, HARNESS_READ, &connection, f))
		return false;
	well = harness_query(worker, &connection, "SELECT sum(balance) FROM ledger", NULL, 0,
	                     keep_sum, &sum, f);
	harness_give_back(worker, &connection);
	/* Once: a money leak is in every later audit, and would leave no room for other reasons. */
	if (well && sum != LEDGER_SUM && !atomic_flag_test_and_set(&told))
		harness_fail(worker->run, "a reader saw the ledger add up to %lld in place of %d",
		             (long long)sum, LEDGER_SUM);
	return well;
}

void ledger_operations(struct harness_operation *ret)
{
	static const struct harness_operation operations[LEDGER_OPERATIONS] = {
		{ "transfer", 80, transfer, NULL },
		{ "transfer_given_up", 5, give_up, NULL },
		{ "transfer_forgotten", 5, forget, NULL },
		{ "audit", 10, audit, NULL },
	};

	for (unsigned i = 0; i < LEDGER_OPERATIONS; i++)
		ret[i] = operations[i];
}
