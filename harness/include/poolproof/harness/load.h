/*
 * poolproof/harness/load.h - threads that run operations: closed loop, or open loop at a rate.
 *
 *     static bool read_one(struct harness_worker *w, void *ctx, struct harness_failure *f);
 *     struct harness_operation ops[] = { { "read", 95, read_one, NULL }, { "update", 5, ... } };
 *     harness_load_run(run, &(struct harness_load){ .threads = 8, .seconds = 10,
 *                                                   .operations = ops, .operation_count = 2 });
 *
 * Threads    harness_load_run() is called by the body of a scenario, from one thread. Operations
 *            run in the load's threads; harness_worker belongs to the one it is given to.
 * Time       Open loop: latency counts from when the operation was due, so a stall is not
 *            hidden by the load pausing; service time (from the actual start) is kept beside it.
 *            It ends with its seconds too: what was due and not started by then is counted
 *            ("generator.dropped_count"), and makes the run UNTRUSTWORTHY.
 * Memory     Everything is allocated before the first operation.
 * Errors     An operation that returns false is counted by kind and the first of each kind is
 *            kept in words; the load goes on.
 *
 * What an operation chooses comes from w->entropy, which is set anew for each operation from
 * (seed, thread, index): the same seed gives the same operations, whatever the timing.
 */
/* SPDX-License-Identifier: MIT */
#ifndef POOLPROOF_HARNESS_LOAD_H
#define POOLPROOF_HARNESS_LOAD_H

#include <poolproof/harness/entropy.h>
#include <poolproof/harness/target.h>

struct harness_run;
struct harness_recorder; /* The worker's histograms; private to the harness. */

struct harness_worker {
	struct harness_run *run;
	const struct harness_target *target;
	void *target_state;
	unsigned thread;     /* 0 .. threads-1 */
	uint64_t index;      /* Which operation of this thread, from 0, over all loads of a run. */
	uint64_t timeout_ns; /* How long this operation is willing to wait for a connection. */
	struct harness_entropy entropy;
	uint64_t digest; /* Of what was chosen; harness_choose() adds to it. */
	struct harness_recorder *recorder;
};

typedef bool harness_operation_fn(struct harness_worker *worker, void *context,
                                  struct harness_failure *reterr_failure);

struct harness_operation {
	const char *name; /* In reports: letters, digits, '_', '-', '.'. */
	unsigned weight;  /* Share; 0 is never chosen. */
	harness_operation_fn *run;
	void *context;
};

struct harness_load {
	const char *phase; /* Name in progress and events. */
	unsigned threads;
	double seconds;                 /* How long; 0: until operations_per_thread is reached. */
	uint64_t operations_per_thread; /* 0: until the time is over. */
	double rate_per_s;              /* All threads together; 0: closed loop. */
	bool poisson;                   /* Open loop: exponential gaps in place of constant ones. */
	const struct harness_operation *operations;
	unsigned operation_count;
};

/* Runs the load to its end. false: interrupted, or a thread could not be started. */
bool harness_load_run(struct harness_run *run, const struct harness_load *load);

/* Adds a choice to the worker's digest: what makes two runs "the same operations". */
void harness_choose(struct harness_worker *worker, uint64_t what);

/* The target's functions of the same names, timed: "acquire.wait" around lend, "transaction"
 * from the outermost begin to the end of its commit or rollback, "commit" around that commit. */
bool harness_lend(struct harness_worker *worker, enum harness_access access,
                  struct harness_connection *ret_connection,
                  struct harness_failure *reterr_failure);
void harness_give_back(struct harness_worker *worker, struct harness_connection *connection);
bool harness_query(struct harness_worker *worker, struct harness_connection *connection,
                   const char *sql, const struct harness_value *args, unsigned arg_count,
                   harness_row_fn *on_row, void *context, struct harness_failure *reterr_failure);
bool harness_begin(struct harness_worker *worker, struct harness_connection *connection,
                   struct harness_failure *reterr_failure);
bool harness_commit(struct harness_worker *worker, struct harness_connection *connection,
                    struct harness_failure *reterr_failure);
bool harness_rollback(struct harness_worker *worker, struct harness_connection *connection,
                      struct harness_failure *reterr_failure);
/* transact is one call of the target: "acquire.wait" is until body is first entered (the lend and
 * the begin), "transaction" from there to the end, "commit" from the last return of body. A body
 * that is run again meets the same entropy and digest, so how often it ran changes no choice. */
bool harness_transact(struct harness_worker *worker, enum harness_access access,
                      harness_body_fn *body, void *context, struct harness_failure *reterr_failure);

#endif
