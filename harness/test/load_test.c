/* Load: what is due when, who chooses what, what is counted as waiting. */
/* SPDX-License-Identifier: MIT */
#include "fake.h"

#include <math.h>
#include <time.h>

static const struct fake nothing;

static void pause_ms(unsigned ms)
{
	nanosleep(&(struct timespec){ ms / 1000, ms % 1000 * 1000000L }, NULL);
}

static bool stall_first(struct harness_worker *worker, void *context,
                        struct harness_failure *reterr_failure)
{
	(void)context, (void)reterr_failure;
	/* The operation's own duration, not a wait to see what happens. */
	if (worker->index == 0)
		pause_ms(200);
	return true;
}

static void load_once(struct harness_run *run, struct harness_load load)
{
	char path[PATH_MAX];

	snprintf(path, sizeof path, "%s/fake.db", harness_run_work(run));
	harness_target_open(run, path);
	harness_load_run(run, &load);
	harness_target_close(run);
}

static void body_stall(struct harness_run *run)
{
	struct harness_operation op = { "stall", 1, stall_first, NULL };

	load_once(run, (struct harness_load){ .threads = 1,
	                                      .operations_per_thread = 100,
	                                      .rate_per_s = 1000,
	                                      .operations = &op,
	                                      .operation_count = 1 });
}

/* One stall of 200 ms at 1000/s delays the next 99 operations too: seen in latency, not in service
 * time, and not blamed on the generator. */
TEST(load, counts_a_stall_for_everyone_it_delays)
{
	struct harness_scenario s = fake_with_body(body_stall);
	CLEANUP(outcome_done) struct outcome o = scenario_run(&s, nothing, NULL);

	CHECK_INT(outcome_number(&o, "operation.count"), ==, 100);
	CHECK(outcome_number(&o, "operation.min_us") > 90000);
	CHECK(outcome_number(&o, "operation.p50_us") > 140000);
	CHECK(outcome_number(&o, "service.p50_us") < 50000);
	CHECK(outcome_number(&o, "generator.lag.p50_us") < 50000);
}

static void body_mix(struct harness_run *run)
{
	struct harness_operation ops[] = { { "read", 3, fake_operation, NULL },
		                           { "never", 0, fake_operation, NULL },
		                           { "write", 1, fake_operation, NULL } };

	load_once(run, (struct harness_load){ .threads = 4,
	                                      .operations_per_thread = 2500,
	                                      .operations = ops,
	                                      .operation_count = 3 });
}

TEST(load, chooses_by_weight)
{
	struct harness_scenario s = fake_with_body(body_mix);
	CLEANUP(outcome_done) struct outcome o = scenario_run(&s, nothing, "--seed", "11", NULL);
	json_t *ops = json_object_get(o.json, "operations"), *op;
	json_int_t counts[3] = { 0 };
	size_t i;

	json_array_foreach(ops, i, op) counts[i] = json_integer_value(json_object_get(op, "count"));
	CHECK_INT(counts[0] + counts[2], ==, 10000);
	CHECK_INT(counts[1], ==, 0);
	CHECK(llabs(counts[0] - 7500) < 180); /* Four standard deviations; the seed is fixed. */
}

static void body_twice(struct harness_run *run)
{
	body_mix(run);
	body_mix(run);
}

/* A second load goes on where the first one ended, and adds to the same names. */
TEST(load, numbers_operations_over_all_loads)
{
	struct harness_scenario once = fake_with_body(body_mix), twice = fake_with_body(body_twice);
	CLEANUP(outcome_done) struct outcome a = scenario_run(&once, nothing, "--seed", "1", NULL);
	CLEANUP(outcome_done) struct outcome b = scenario_run(&twice, nothing, "--seed", "1", NULL);

	CHECK_INT(outcome_number(&b, "operations_count"), ==, 20000);
	CHECK_INT(json_array_size(json_object_get(b.json, "operations")), ==, 3);
	CHECK(outcome_number(&a, "operations.digest_count") !=
	      outcome_number(&b, "operations.digest_count"));
	CHECK_INT(outcome_number(&b, "heap.leaked_bytes"), ==, 0);
}

TEST_ROWS(load, keeps_an_open_rate, 2)
{
	CLEANUP(outcome_done)
	struct outcome o = scenario_run(&fake_scenario, nothing, "--threads", "2", "--seconds", "1",
	                                "--rate", "500", row == 1 ? "--poisson" : NULL, NULL);

	/* Poisson: four standard deviations. Constant: what fits into a second. */
	CHECK(fabs(outcome_number(&o, "operations_count") - 500) <= (row == 1 ? 90 : 1));
	CHECK(outcome_number(&o, "generator.lag_p99_us") >= 0);
	CHECK_INT(outcome_number(&o, "generator.lag.count"), ==,
	          outcome_number(&o, "operations_count"));
}

static void body_oversleep(struct harness_run *run)
{
	struct shared *shared = run->shared;

	fake_scenario.body(run);
	/* A generator that woke 50 ms late, as on a busy machine. */
	for (int i = 0; i < 10000; i++)
		harness_histogram_record(&shared->totals[TAG_LAG], 50000000);
}

TEST(load, does_not_trust_a_generator_that_lagged)
{
	struct harness_scenario s = fake_with_body(body_oversleep);
	CLEANUP(outcome_done)
	struct outcome o = scenario_run(&s, nothing, "--operations", "10", "--rate", "1000", NULL);

	CHECK_INT(o.code, ==, 3);
	CHECK_CONTAINS(o.reasons, "the generator lagged: p99 50");
}

/* Twenty times as long as there is time for it. */
static bool slow(struct harness_worker *worker, void *context,
                 struct harness_failure *reterr_failure)
{
	(void)worker, (void)context, (void)reterr_failure;
	pause_ms(20);
	return true;
}

static bool stall_last(struct harness_worker *worker, void *context,
                       struct harness_failure *reterr_failure)
{
	(void)context, (void)reterr_failure;
	if (worker->index == 995)
		pause_ms(20);
	return true;
}

static void body_open(struct harness_run *run, harness_operation_fn *operation, double seconds)
{
	const struct harness_options *o = harness_run_options(run);
	struct harness_operation op = { "op", 1, operation, NULL };

	load_once(run,
	          (struct harness_load){ .threads = 1,
	                                 .seconds = seconds,
	                                 .operations_per_thread = o->operations_per_thread,
	                                 .rate_per_s = o->rate_per_s > 0 ? o->rate_per_s : 1000,
	                                 .poisson = o->poisson,
	                                 .operations = &op,
	                                 .operation_count = 1 });
}

static void body_slow(struct harness_run *run)
{
	body_open(run, slow, 0.4);
}

static void body_stall_last(struct harness_run *run)
{
	body_open(run, stall_last, 1);
}

static const struct {
	const char *options[3];
	double due, tolerance;
} overloads[] = {
	{ { NULL }, 400, 0 },
	{ { "--rate", "530" }, 212, 0 }, /* What binary fractions make of 212 is a little more. */
	{ { "--rate", "1000", "--poisson" }, 400, 80 }, /* Four standard deviations. */
	{ { "--operations", "100" }, 100, 0 },
};

/* The clock ends an open loop, not the schedule, which here would take eight seconds; what was due
 * by then is counted, and the run says that it is not what was asked for. */
TEST_ROWS(load, ends_an_open_loop_by_the_clock, sizeof overloads / sizeof *overloads)
{
	struct harness_scenario s = fake_with_body(body_slow);
	const char *const *options = overloads[row].options;
	CLEANUP(outcome_done)
	struct outcome o =
		scenario_run(&s, nothing, "--seed", "5", options[0], options[1], options[2], NULL);
	double started = outcome_number(&o, "operations_count");
	double dropped = outcome_number(&o, "generator.dropped_count");
	char words[80];

	/* 0.4 s and a tenth, at 20 ms each, and the one that had begun. */
	CHECK_MSG(started >= 1 && started <= 23, "%g were started", started);
	CHECK_MSG(fabs(started + dropped - overloads[row].due) <= overloads[row].tolerance,
	          "%g were started and %g dropped", started, dropped);
	CHECK_INT(o.code, ==, 3);
	snprintf(words, sizeof words, "the generator could not keep up: %.0f of %.0f due", dropped,
	         started + dropped);
	CHECK_CONTAINS(o.reasons, words);
}

/* A queue that is there when the time is over is worked off, if it is short. */
TEST(load, drops_nothing_for_a_stall_at_the_end)
{
	struct harness_scenario s = fake_with_body(body_stall_last);
	CLEANUP(outcome_done) struct outcome o = scenario_run(&s, nothing, NULL);

	CHECK_INT(outcome_number(&o, "operations_count"), ==, 1000);
	CHECK_INT(outcome_number(&o, "generator.dropped_count"), ==, 0);
	CHECK(strstr(o.reasons, "keep up") == NULL);
}

TEST(load, repeats_an_open_loop_by_its_seed)
{
	double digests[2];

	for (int i = 0; i < 2; i++) {
		CLEANUP(outcome_done)
		struct outcome o = scenario_run(&fake_scenario, nothing, "--threads", "4",
		                                "--operations", "500", "--seed", "1", "--rate",
		                                i == 0 ? "3000000" : "4000", NULL);

		CHECK_INT(outcome_number(&o, "operations_count"), ==, 2000);
		CHECK_INT(outcome_number(&o, "generator.dropped_count"), ==, 0);
		digests[i] = outcome_number(&o, "operations.digest_count");
	}
	CHECK(digests[0] == digests[1]);
}

static bool draw(struct harness_connection *connection, void *context,
                 struct harness_failure *reterr_failure)
{
	struct harness_worker *worker = context;

	(void)connection, (void)reterr_failure;
	harness_choose(worker, harness_entropy_next(&worker->entropy));
	return true;
}

/* The fake target runs a body twice; once more by hand is the same choice. */
TEST(load, forgets_the_choices_of_a_body_that_is_run_again)
{
	struct harness_worker w = { .target = &fake_target, .digest = 1 }, once = w;
	struct harness_failure failure;

	harness_entropy_init(&w.entropy, 1, 2, 3);
	once.entropy = w.entropy;
	CHECK(harness_transact(&w, HARNESS_WRITE, draw, &w, &failure));
	CHECK(draw(NULL, &once, &failure));
	CHECK(w.digest == once.digest);
}

static void body_nonsense(struct harness_run *run)
{
	struct harness_operation op = { "x", 0, fake_operation, NULL };

	load_once(run, (struct harness_load){ .threads = 1,
	                                      .seconds = 1,
	                                      .operations = &op,
	                                      .operation_count = 1,
	                                      .phase = "warm" });
}

TEST(load, refuses_what_can_never_run)
{
	struct harness_scenario s = fake_with_body(body_nonsense);
	CLEANUP(outcome_done) struct outcome o = scenario_run(&s, nothing, NULL);

	CHECK_INT(o.code, ==, 4);
	CHECK_CONTAINS(o.error, "load warm: every operation has weight 0\n");
}

TEST(load, times_the_outermost_transaction)
{
	struct harness_worker w = { .target = &fake_target };
	struct harness_connection c = { 0 };
	struct harness_failure failure;
	uint64_t begun;

	CHECK(harness_begin(&w, &c, &failure));
	begun = c.begun_ns;
	CHECK(begun != 0 && harness_begin(&w, &c, &failure));
	CHECK(c.begun_ns == begun && harness_commit(&w, &c, &failure));
	CHECK(c.begun_ns == begun && harness_rollback(&w, &c, &failure));
	CHECK_INT(c.begun_ns, ==, 0);
	CHECK_INT(c.depth, ==, 0);
}
