/*
 * starvation - one slow reader, one greedy writer, and many who wait.
 *
 * Question   Is everybody served who can be, in bounded time, and does the WAL stay bounded?
 * Load       --waiters threads with 1 ms, 50 ms and 3 s of patience, newcomers who ask without a
 *            pause, a reader who keeps its connection long, a writer who takes his again at once,
 * on a pool with one connection in each lane, for --seconds. Then a writer fills the WAL while a
 * reader keeps a snapshot, with reader_max_ms and without. Other targets: the first of these, by
 * lending. Passes     when the line is served in its order and nobody who asks after one has waited
 *            overtake_ms is served before him; no connection lies idle while somebody waits;
 *            deadlines are kept; of the patient the slowest is served half as often as the fastest;
 *            who pins the WAL is named, or interrupted, and soon after he is gone it is small
 * again.
 */
/* SPDX-License-Identifier: MIT */
#include "targets/targets.h"
#include "workloads/borrow.h"
#include "workloads/handshake.h"
#include "workloads/pins.h"
#include "workloads/waiters.h"

#include <poolproof/harness/case.h>
#include <poolproof/harness/entropy.h>
#include <poolproof/harness/run.h>
#include <poolproof/point.h>
#include <poolproof/pool.h>

#include <argp.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

enum { KEY_WAITERS = 0x1000, OVERTAKE_MS = 10, FAIR_PERCENT = 50 };

static const struct argp_option options[] = {
	{ "waiters", KEY_WAITERS, "N", 0, "Threads that wait (64)", 0 },
	{ 0 },
};

static unsigned waiters = 64;

static const char *option(int key, const char *value)
{
	return key == KEY_WAITERS ? harness_read_whole(value, WAITERS_MIN, WAITERS_MAX, &waiters)
	                          : NULL;
}

/* --- The pool's own line ------------------------------------------------------------------ */

/* Of the acquire that this thread is in. */
static _Thread_local struct grant *asking;
static uint64_t orders[2]; /* Each under its line's lock. */

static void visit(enum pp_point point)
{
	if (point != PP_POINT_WAIT || asking == NULL)
		return;
	asking->stood_ns = harness_now_ns();
	asking->stood_order = ++orders[asking->lane];
}

_Static_assert(sizeof(struct pp_lease) <= WAITERS_LEASE_SIZE, "");

static bool ask_pool(struct waiters *w, unsigned lane, uint64_t patience_ns, void *room,
                     struct grant *grant)
{
	struct pp_lease *lease = room;
	enum pp_status status;

	asking = grant;
	status = pp_acquire(w->from, lane == HARNESS_READ ? PP_READ : PP_WRITE,
	                    pp_in_ms(patience_ns / 1000000), lease, NULL);
	asking = NULL;
	if (status == PP_OK) {
		grant->order = lease->generation;
		harness_hold(w->run, lease->db);
	} else if (status != PP_TIMEOUT) {
		harness_case_fail(w->run, "an acquire says %s", pp_status_name(status));
	}
	return status == PP_OK;
}

static void give_back_to_pool(struct waiters *w, void *room)
{
	struct pp_lease *lease = room;

	(void)w;
	harness_let_go(lease->db);
	pp_release(lease);
}

/* --- A target's --------------------------------------------------------------------------- */

struct lent {
	struct harness_connection connection;
};
_Static_assert(sizeof(struct lent) <= WAITERS_LEASE_SIZE, "");

static atomic_uint_least64_t lends;

static bool ask_target(struct waiters *w, unsigned lane, uint64_t patience_ns, void *room,
                       struct grant *grant)
{
	struct lent *lent = room;
	struct harness_failure f;

	if (!harness_run_target(w->run)->lend(w->from, lane, patience_ns, &lent->connection, &f))
		return false;
	grant->order = atomic_fetch_add(&lends, 1) + 1;
	harness_hold(w->run, lent->connection.handle);
	return true;
}

/* A statement first: what one waits for may be there. */
static void give_back_to_target(struct waiters *w, void *room)
{
	const struct harness_target *target = harness_run_target(w->run);
	struct lent *lent = room;
	struct harness_failure f;
	bool well = target->query(&lent->connection,
	                          lent->connection.access == HARNESS_WRITE
	                                  ? harness_log_count
	                                  : "SELECT max(rows) FROM harness_count",
	                          NULL, 0, NULL, NULL, &f);

	if (!well)
		atomic_fetch_add(&w->refused, 1);
	harness_let_go(lent->connection.handle);
	target->give_back(w->from, &lent->connection);
}

/* --- The cases ---------------------------------------------------------------------------- */

static void judge_fairness(struct waiters *w)
{
	double reads = waiters_fairness(w, HARNESS_READ),
	       writes = waiters_fairness(w, HARNESS_WRITE);
	double least = reads < writes ? reads : writes;

	harness_number(w->run, "fairness.threads_percent", least);
	if (least < FAIR_PERCENT)
		harness_case_fail(
			w->run,
			"of threads with equal patience the slowest was served %.0f %% as "
			"often as the fastest: it starves",
			least);
	if (atomic_load(&w->starved) > 0)
		harness_case_fail(w->run,
		                  "%llu waiters with 3 s of patience were not served: they "
		                  "starved",
		                  (unsigned long long)atomic_load(&w->starved));
}

static void numbers(struct harness_run *run, const struct grants_verdict *v)
{
	harness_number(run, "waits_count", (double)v->waits);
	harness_number(run, "waits.refused_count", (double)v->refusals);
	harness_number(run, "waits.longest_ms", (double)v->waited_most_ns / 1e6);
	harness_number(run, "starvation.overtaken_count", (double)v->overtaken_most);
	harness_number(run, "starvation.bound_violations_count", (double)v->violations);
}

static double seconds_of(struct harness_run *run)
{
	double seconds = harness_run_options(run)->seconds;

	return seconds > 0 ? seconds : 1;
}

static void line_of_pool(struct harness_run *run, const char *path, uint64_t seed)
{
	struct waiters w = { .run = run,
		             .waiters = waiters,
		             .seed = seed,
		             .ask = ask_pool,
		             .give_back = give_back_to_pool };
	struct grants_verdict v = { 0 };
	struct pp_pool *pool;
	struct pp_error error;
	char text[1024];

	if (pp_open(&(struct pp_config){ .path = path, .readers = 1, .overtake_ms = OVERTAKE_MS },
	            &pool, &error) != PP_OK)
		harness_cannot(run, "%s: %s; is the disk full?", path, error.message);
	w.from = pool;
	if (pp_points_set != NULL)
		pp_points_set(visit);
	waiters_run(&w, seconds_of(run));
	if (pp_points_set != NULL)
		pp_points_set(NULL);
	if (pp_check(pool, text, sizeof text) != 0)
		harness_case_fail(run, "pp_check: %s", text);
	if (pp_close(pool, pp_in_ms(3000), NULL) != PP_OK)
		harness_case_fail(run, "the pool cannot be closed");
	for (unsigned lane = 0; lane < 2; lane++)
		grants_judge(run, lane, OVERTAKE_MS * UINT64_C(1000000),
		             1 + waiters + NEWCOMERS + 2, &v);
	if (pp_points_set != NULL && v.waits == 0)
		harness_distrust(run, "nobody came to stand in the line: it was not judged");
	judge_fairness(&w);
	numbers(run, &v);
}

static void line_of_target(struct harness_run *run, const char *path, uint64_t seed)
{
	const struct harness_target *target = harness_run_target(run);
	struct harness_target_options how = harness_run_target_options(run, path);
	struct waiters w = { .run = run,
		             .waiters = waiters,
		             .seed = seed,
		             .ask = ask_target,
		             .give_back = give_back_to_target };
	struct harness_residue residue = { 0 };
	struct harness_failure f = { 0 };

	how.threads = waiters + NEWCOMERS + 2;
	how.readers = 1;
	if (!target->open(&how, &w.from, &f)) {
		harness_case_fail(run, "%s could not open %s: %s", target->name, path, f.text);
		return;
	}
	waiters_run(&w, seconds_of(run));
	target->close(w.from, &residue);
	if (residue.bytes + residue.connections > 0)
		harness_case_fail(run, "closing left %llu bytes, %llu connections: %s",
		                  (unsigned long long)residue.bytes,
		                  (unsigned long long)residue.connections, residue.text);
	judge_fairness(&w);
	harness_number(run, "statements.refused_count", (double)atomic_load(&w.refused));
}

static void line(struct harness_run *run, const char *name, bool of_pool)
{
	struct harness_entropy entropy;
	char path[PATH_MAX];
	uint64_t seed;

	if (!harness_case_begin(run, "%s", name))
		return;
	harness_entropy_init(&entropy, harness_run_options(run)->seed, of_pool, 0);
	seed = harness_entropy_next(&entropy);
	harness_case_choose(run, seed);
	snprintf(path, sizeof path, "%s/line-%d.db", harness_run_work(run), of_pool);
	borrow_create(run, path);
	(of_pool ? line_of_pool : line_of_target)(run, path, seed);
	borrow_remove(path);
	harness_case_note(run, "over");
	harness_case_end(run);
}

static void body(struct harness_run *run)
{
	if (harness_run_target(run) != &target_poolproof) {
		line(run, "line of the target", false);
		return;
	}
	line(run, "line", true);
	handshake_run(run, seconds_of(run) / 2);
	pins_run(run);
}

static const struct harness_scenario scenario = {
	.name = "starvation",
	.question =
		"Is everybody served who can be, in bounded time, and does the WAL stay bounded?",
	.load = "--waiters of mixed patience, newcomers, a slow reader, a greedy writer",
	.passes = "nobody is overtaken who is due, no connection lies idle while one waits, "
		  "deadlines "
		  "are kept, the slowest is half as fast as the fastest, the WAL is cut",
	.options = options,
	.option = option,
	.body = body,
};

int main(int argc, char **argv)
{
	return harness_main(&scenario, targets_all, argc, argv);
}
