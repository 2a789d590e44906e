/* A run from its command line to its exit code; each alarm rings. */
/* SPDX-License-Identifier: MIT */
#include "fake.h"

#include <poolproof/harness/case.h>

#include <argp.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static const struct fake nothing;

TEST(run, passes_when_nothing_is_wrong)
{
	CLEANUP(outcome_done)
	struct outcome o = scenario_run(&fake_scenario, nothing, "--threads", "2", "--operations",
	                                "3000", "--seed", "7", NULL);

	CHECK_STR(o.reasons, "");
	CHECK_INT(o.code, ==, 0);
	CHECK_CONTAINS(o.out, "PASS fake_scenario on fake");
	CHECK_CONTAINS(o.out, strcmp(under_name(), "none") == 0
	                              ? "poolproof run fake_scenario --variant " PP_VARIANT
	                                " --seed 7 "
	                                "--threads 2 --operations 3000\n"
	                              : "poolproof run fake_scenario --under memcheck --seed 7 "
	                                "--threads 2 --operations 3000\n");
	CHECK_INT(outcome_number(&o, "operations_count"), ==, 6000);
	CHECK_INT(outcome_number(&o, "operation.count"), ==, 6000);
	CHECK_INT(outcome_number(&o, "fake.lends_count"), ==, 6000);
	CHECK_INT(outcome_number(&o, "fake.setups_count"), ==, 1);
	CHECK(outcome_number(&o, "acquire.wait.p99_us") >= 0);
	CHECK(outcome_number(&o, "operation.touch.max_us") > 0);
	/* n < 10/(1-p). */
	CHECK(json_object_get(json_object_get(o.json, "numbers"), "operation.p99.9_us") == NULL);
}

/* The census is exact: not a byte, under whatever allocator. */
TEST(run, ends_with_the_heap_it_began_with)
{
	CLEANUP(outcome_done)
	struct outcome o = scenario_run(&fake_scenario, nothing, "--threads", "9", "--operations",
	                                "100", NULL);

	CHECK_INT(outcome_number(&o, "heap.leaked_bytes"), ==, 0);
	CHECK_INT(outcome_number(&o, "fd.leaked_count"), ==, 0);
	CHECK_INT(outcome_number(&o, "thread.leaked_count"), ==, 0);
	CHECK(outcome_number(&o, "heap.before_bytes") > 0);
}

TEST(run, is_repeated_by_its_seed)
{
	double digests[3];

	for (int i = 0; i < 3; i++) {
		CLEANUP(outcome_done)
		struct outcome o =
			scenario_run(&fake_scenario, nothing, "--threads", "4", "--operations",
		                     "500", "--seed", i < 2 ? "1" : "2", NULL);
		digests[i] = outcome_number(&o, "operations.digest_count");
	}
	CHECK(digests[0] == digests[1]);
	CHECK(digests[0] != digests[2]);
	CHECK(digests[0] > 0 && digests[0] < 0x1p53);
}

static const struct {
	struct fake plan;
	const char *reason;
} alarms[] = {
	{ { .leak_heap = true }, "heap leak" },
	{ { .leak_booked = true },
	  "heap residue 16 bytes, 0 connections not closed: connection 3" },
	{ { .leak_fd = true }, "is /dev/null" },
	{ { .leak_thread = true }, "thread leak: 1 more" },
	{ { .violate = true }, "1 invariants violated: leased_count is 2, the slots say 3" },
	{ { .crash = true }, "" }, /* Its own words depend on the variant. */
};

TEST_ROWS(run, fails_aloud, sizeof alarms / sizeof *alarms)
{
	CLEANUP(outcome_done)
	struct outcome o = scenario_run(&fake_scenario, alarms[row].plan, "--threads", "2",
	                                "--operations", "50", NULL);

	CHECK_INT(o.code, ==, 1);
	CHECK_STR(json_string_value(json_object_get(json_object_get(o.json, "verdict"), "result")),
	          "FAIL");
	CHECK_CONTAINS(o.reasons, alarms[row].reason);
	CHECK_CONTAINS(o.out, "FAIL fake_scenario");
}

TEST(run, names_the_signal_and_the_stack_of_a_crash)
{
	CLEANUP(outcome_done)
	struct outcome o = scenario_run(&fake_scenario, (struct fake){ .crash = true }, "--threads",
	                                "2", "--operations", "50", NULL);

	CHECK_INT(o.code, ==, 1);
	if (strcmp(PP_VARIANT, "asan") == 0 || strcmp(PP_VARIANT, "tsan") == 0)
		return; /* The sanitizer has the signal, and prints the stack. */
	CHECK_CONTAINS(o.reasons, "crash: SIGSEGV");
	CHECK_CONTAINS(o.error, "fake_query");
}

TEST(run, takes_a_crash_that_ends_by_an_exit_for_a_crash)
{
	CLEANUP(outcome_done)
	struct outcome o;

	if (strcmp(PP_VARIANT, "asan") == 0 || strcmp(PP_VARIANT, "tsan") == 0)
		return; /* The sanitizer has the signal. */
	o = scenario_run(&fake_scenario, (struct fake){ .crash_late = true }, "--threads", "1",
	                 "--operations", "50", NULL);
	CHECK_INT(o.code, ==, 1);
	CHECK_CONTAINS(o.reasons, "crash: SIGSEGV");
}

TEST(run, says_where_every_thread_hangs)
{
	CLEANUP(outcome_done)
	struct outcome o = scenario_run(&fake_scenario,
	                                (struct fake){ .hang_in_lend = true, .watch_limit_s = 0.3 },
	                                "--threads", "3", "--operations", "50", NULL);
	char *stacks = outcome_file(&o, "leaks/stacks.txt");
	unsigned stuck = 0;

	CHECK_INT(o.code, ==, 1);
	CHECK_CONTAINS(o.reasons, "hang: nothing finished for");
	CHECK_CONTAINS(o.reasons, "; the target had 3 connections, 2 lent, 3 waiters\n");
	CHECK_CONTAINS(stacks, "fake_body"); /* Who waits for the load to end. */
	CHECK_CONTAINS(o.error, "wait_for_ever");
	for (char *at = stacks; (at = strstr(at, "wait_for_ever")) != NULL; at++)
		stuck++;
	CHECK_INT(stuck, ==, 3);
	CHECK_INT(outcome_number(&o, "operations_count"), ==, 20);
	free(stacks);
}

/* From the limit on: the watchdog looks, asks each thread, and kills. */
TEST_ROWS(run, says_within_five_seconds_that_it_hangs, 2)
{
	struct fake hanging = { .hang_in_lend = row == 0,
		                .hang_in_close = row == 1,
		                .watch_limit_s = 0.5 };
	uint64_t start = now_ns();
	CLEANUP(outcome_done)
	struct outcome o =
		scenario_run(&fake_scenario, hanging, "--threads", "32", "--operations", "5", NULL);

	CHECK_INT(o.code, ==, 1);
	CHECK_CONTAINS(o.reasons, "hang: nothing finished for");
	CHECK_INT(now_ns() - start, <, (UINT64_C(500000000) + 5000000000) * time_multiplier());
}

TEST(run, notices_a_close_that_hangs)
{
	CLEANUP(outcome_done)
	struct outcome o = scenario_run(
		&fake_scenario, (struct fake){ .hang_in_close = true, .watch_limit_s = 0.3 },
		"--threads", "1", "--operations", "5", NULL);

	CHECK_INT(o.code, ==, 1);
	CHECK_CONTAINS(o.reasons, "in the target's open, check or close");
	CHECK_CONTAINS(o.error, "fake_close");
}

static void never_end(struct harness_run *run)
{
	harness_event(run, "phase", "for ever");
	for (;;)
		pause();
}

TEST(run, notices_a_body_that_hangs)
{
	struct harness_scenario s = fake_with_body(never_end);
	CLEANUP(outcome_done)
	struct outcome o = scenario_run(
		&s, (struct fake){ .watch_limit_s = 60, .watch_between_s = 0.3 }, NULL);

	CHECK_INT(o.code, ==, 1);
	CHECK_CONTAINS(o.reasons, " s in the body, outside of all cases and loads;");
	CHECK_CONTAINS(o.error, "never_end");
}

/* One that the body has opened by itself, and shows. */
static void show_and_hang(struct harness_run *run)
{
	struct harness_target_options options = harness_run_target_options(run, "fake.db");
	struct harness_failure f;
	void *state;

	harness_case_always(run, "a case");
	if (!fake_target.open(&options, &state, &f))
		harness_cannot(run, "%s", f.text);
	harness_target_show(run, state);
	for (;;)
		pause();
}

TEST(run, says_what_a_target_was_like_that_is_shown)
{
	struct harness_scenario s = fake_with_body(show_and_hang);
	CLEANUP(outcome_done)
	struct outcome o = scenario_run(&s, (struct fake){ .watch_limit_s = 0.5 }, NULL);

	CHECK_INT(o.code, ==, 1);
	CHECK_CONTAINS(o.reasons, " s in a case; ");
	CHECK_CONTAINS(o.reasons, "; the target had 3 connections, 2 lent, 0 waiters\n");
}

static __attribute__((noinline)) void *pause_for_ever(void *context)
{
	sem_post(context);
	for (;;)
		pause();
	return NULL;
}

/* A process of the scenario's own, two of whose threads hang. */
static __attribute__((noinline)) _Noreturn void help_and_hang(int error)
{
	static struct harness_helper helper = { .name = "helper", .target = &fake_target };
	static struct harness_target_options options;
	static void *state;
	struct harness_failure f;
	pthread_t thread;
	sem_t there;

	dup2(error, STDERR_FILENO);
	helper.state = &state;
	sem_init(&there, 0, 0);
	if (!fake_target.open(&options, &state, &f) || !harness_helper_tells(&helper) ||
	    pthread_create(&thread, NULL, pause_for_ever, &there) != 0)
		_exit(1);
	sem_wait(&there);
	kill(getpid(), HARNESS_HELPER_SIGNAL);
	_exit(pause_for_ever(&there) != NULL);
}

TEST(helpers, tell_where_they_hang_when_they_are_asked)
{
	char text[16384] = "";
	size_t size = 0;
	ssize_t got = 1;
	int pipes[2];
	pid_t child;
	unsigned stuck = 0;

	CHECK(pipe(pipes) == 0);
	child = fork();
	if (child == 0)
		help_and_hang(pipes[1]);
	close(pipes[1]);
	while (got > 0 && strstr(text, "waiters\n") == NULL) {
		got = read(pipes[0], text + size, sizeof text - 1 - size);
		size += got > 0 ? (size_t)got : 0;
	}
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	close(pipes[0]);
	CHECK_CONTAINS(text, " hangs:\nthread ");
	CHECK_CONTAINS(text, "help_and_hang");
	for (const char *at = text; (at = strstr(at, "pause_for_ever")) != NULL; at++)
		stuck++;
	CHECK_INT(stuck, >=, 1); /* Who has asked may still be on his way there. */
	CHECK_CONTAINS(text, ": its target has 3 connections, 2 lent, 0 waiters\n");
}

TEST(run, counts_errors_and_leaves_them_to_the_gate)
{
	CLEANUP(outcome_done)
	struct outcome o = scenario_run(&fake_scenario, (struct fake){ .refuse = true },
	                                "--threads", "2", "--operations", "50", NULL);
	json_t *error = json_array_get(json_object_get(o.json, "errors"), 0);

	CHECK_INT(o.code, ==, 0);
	CHECK_INT(outcome_number(&o, "errors.overloaded_count"), ==, 100);
	CHECK_INT(outcome_number(&o, "errors_count"), ==, 100);
	CHECK_STR(json_string_value(json_object_get(error, "first")), "the line is \"full\" ?");
}

TEST(run, fails_for_an_error_where_the_scenario_says_so)
{
	struct harness_scenario strict = fake_scenario;
	strict.errors_fail = true;
	CLEANUP(outcome_done)
	struct outcome o = scenario_run(&strict, (struct fake){ .refuse = true }, "--threads", "2",
	                                "--operations", "50", NULL);

	CHECK_INT(o.code, ==, 1);
	CHECK_CONTAINS(o.reasons,
	               "100 of 100 operations failed; the first: the line is \"full\" ?");
}

static const char *lacks_something(void)
{
	return "--this: goes only with --that";
}

TEST(run, asks_the_scenario_whether_the_options_are_complete)
{
	struct harness_scenario own = fake_scenario;
	own.complete = lacks_something;
	CLEANUP(outcome_done) struct outcome o = scenario_run(&own, nothing, NULL);

	CHECK_INT(o.code, ==, 2);
	CHECK_STR(o.error, "fake_scenario: --this: goes only with --that\n");
}

static const struct {
	const char *argument, *words;
} helps[] = {
	{ "--help", "--threads=N" },
	{ "--help", "Targets fake, other_format, planted, tiny" },
	{ "-?", "--threads=N" },
	{ "--usage", "--threads=N" },
	{ "--version", "fake_scenario (poolproof) " PP_VERSION },
};

TEST_ROWS(run, helps_and_runs_nothing, sizeof helps / sizeof *helps)
{
	CLEANUP(outcome_done)
	struct outcome o = scenario_run(&fake_scenario, nothing, helps[row].argument, NULL);

	CHECK_INT(o.code, ==, 0);
	CHECK(o.json == NULL);
	CHECK_CONTAINS(o.out, helps[row].words);
}

static const struct {
	const char *arguments[3];
	const char *line;
} wrongs[] = {
	{ { "--threads", "0" }, "fake_scenario: --threads 0: must be 1..256\n" },
	{ { "--threads", "257" }, "fake_scenario: --threads 257: must be 1..256\n" },
	{ { "--threads", "2x" }, "fake_scenario: --threads 2x: must be 1..256\n" },
	{ { "--threads", "-1" }, "fake_scenario: --threads -1: must be 1..256\n" },
	{ { "--threads=" }, "fake_scenario: --threads '': must be 1..256\n" },
	{ { "--seconds", "nan" }, "fake_scenario: --seconds nan: must be 0.001..1000000\n" },
	{ { "--seed", "99999999999999999999" },
	  "fake_scenario: --seed 99999999999999999999: must be 0..9223372036854775807\n" },
	{ { "--journal", "wall" }, "fake_scenario: --journal wall: must be WAL or DELETE\n" },
	{ { "--poisson" }, "fake_scenario: --poisson: needs --rate\n" },
	{ { "--thread", "0" }, "fake_scenario: --threads 0: must be 1..256\n" },
	{ { "--treads", "2" },
	  "fake_scenario: --treads: unknown option; did you mean --threads?\n" },
	{ { "--zzzzzz", "2" }, "fake_scenario: --zzzzzz: unknown option; --help lists them\n" },
	{ { "--target", "fak" },
	  "fake_scenario: --target fak: unknown target; did you mean fake?\n" },
	{ { "--target", "pool" },
	  "fake_scenario: --target pool: unknown target; known: fake, other_format, planted, "
	  "tiny\n" },
	{ { "stray" }, "fake_scenario: stray: is no option; --help lists them\n" },
	{ { "--threads" },
	  "fake_scenario: --threads: lacks its value, or is ambiguous; --help tells\n" },
};

TEST_ROWS(run, refuses_nonsense_in_one_line, sizeof wrongs / sizeof *wrongs)
{
	CLEANUP(outcome_done)
	struct outcome o = scenario_run(&fake_scenario, nothing, wrongs[row].arguments[0],
	                                wrongs[row].arguments[1], wrongs[row].arguments[2], NULL);

	CHECK_INT(o.code, ==, 2);
	CHECK_STR(o.error, wrongs[row].line);
	CHECK_STR(o.out, "");
	CHECK(access(o.directory, F_OK) != 0);
}

static const char *own_option(int key, const char *value)
{
	return key == 0x1000 && strcmp(value, "7") == 0 ? NULL : "must be 7";
}

TEST(run, reads_a_scenarios_own_options)
{
	static const struct argp_option options[] = { { "records", 0x1000, "N", 0, "How many", 0 },
		                                      { 0 } };
	struct harness_scenario own = fake_scenario;
	own.options = options;
	own.option = own_option;
	CLEANUP(outcome_done)
	struct outcome o = scenario_run(&own, nothing, "--records", "8", NULL);
	CLEANUP(outcome_done)
	struct outcome good = scenario_run(&own, nothing, "--records=7", "--operations", "1", NULL);

	CHECK_STR(o.error, "fake_scenario: --records 8: must be 7\n");
	CHECK_INT(o.code, ==, 2);
	CHECK_INT(good.code, ==, 0);
}

TEST(run, describes_itself)
{
	CLEANUP(outcome_done)
	struct outcome o = scenario_run(&fake_scenario, nothing, "--describe", NULL);
	json_t *json = json_loads(o.out, 0, NULL);

	CHECK_INT(o.code, ==, 0);
	CHECK_STR(json_string_value(json_object_get(json, "name")), "fake_scenario");
	CHECK_STR(json_string_value(json_array_get(json_object_get(json, "targets"), 0)), "fake");
	json_decref(json);
}

TEST(run, prints_the_record_for_machines)
{
	CLEANUP(outcome_done)
	struct outcome o =
		scenario_run(&fake_scenario, nothing, "--json", "--operations", "5", NULL);
	json_t *json = json_loads(o.out, 0, NULL);

	CHECK_INT(json_equal(json, o.json), ==, 1);
	json_decref(json);
}

static void body_cannot(struct harness_run *run)
{
	harness_cannot(run, "app.db: no such file; %s", "name one");
}

TEST(run, leaves_nothing_when_it_cannot_run)
{
	struct harness_scenario s = fake_with_body(body_cannot);
	CLEANUP(outcome_done) struct outcome o = scenario_run(&s, nothing, NULL);

	CHECK_INT(o.code, ==, 4);
	CHECK_CONTAINS(o.error, "fake_scenario: app.db: no such file; name one\n");
	CHECK(access(o.directory, F_OK) != 0);
}

static void body_interrupted(struct harness_run *run)
{
	/* As Ctrl-C does: the parent hears it. */
	kill(getppid(), SIGINT);
	fake_scenario.body(run);
}

TEST(run, stops_at_ctrl_c_and_says_so)
{
	struct harness_scenario s = fake_with_body(body_interrupted);
	CLEANUP(outcome_done)
	struct outcome o = scenario_run(&s, nothing, "--seconds", "3600", NULL);

	CHECK_INT(o.code, ==, 3);
	CHECK_CONTAINS(o.reasons, "interrupted after");
}

static void body_idle(struct harness_run *run)
{
	(void)run;
}

TEST(run, does_not_trust_a_run_that_did_nothing)
{
	struct harness_scenario s = fake_with_body(body_idle);
	CLEANUP(outcome_done) struct outcome o = scenario_run(&s, nothing, NULL);

	CHECK_INT(o.code, ==, 3);
	CHECK_CONTAINS(o.reasons, "nothing was measured");
}

static void body_exits(struct harness_run *run)
{
	(void)run;
	fake_leaks_are_meant(); /* The sampler's stack, for one. */
	exit(0);
}

TEST(run, does_not_take_an_early_exit_for_success)
{
	struct harness_scenario s = fake_with_body(body_exits);
	CLEANUP(outcome_done) struct outcome o = scenario_run(&s, nothing, NULL);

	CHECK_INT(o.code, ==, 1);
	CHECK_CONTAINS(o.reasons, "the body ended the process with exit status");
}

static void body_talks(struct harness_run *run)
{
	harness_number(run, "ledger.sum_count", 42);
	harness_number(run, "ledger.bad_count", 0.0 / 0.0);
	for (int i = 0; i < 100; i++) {
		harness_distrust(run, "doubt %d", i);
		harness_distrust(run, "the same doubt");
	}
	harness_fail(run, "the sum is %d\n\"not\" 43", 42);
}

TEST(run, keeps_a_failure_among_many_doubts)
{
	struct harness_scenario s = fake_with_body(body_talks);
	CLEANUP(outcome_done) struct outcome o = scenario_run(&s, nothing, NULL);

	CHECK_INT(o.code, ==, 1);
	CHECK_CONTAINS(o.reasons, "the sum is 42 \"not\" 43");
	CHECK_CONTAINS(o.reasons, "ledger.bad_count is not finite");
	CHECK_CONTAINS(o.reasons, "the same doubt (100 times)\n");
	CHECK_CONTAINS(o.reasons, "79 more reasons are in events.jsonl");
	CHECK_INT(outcome_number(&o, "ledger.sum_count"), ==, 42);
}

TEST(run, says_that_the_disk_is_full)
{
	CLEANUP(outcome_done)
	struct outcome o = scenario_run(&fake_scenario, (struct fake){ .file_size_max = 2000 },
	                                "--threads", "2", "--seconds", "20", NULL);

	CHECK_INT(o.code, ==, 4);
	CHECK_CONTAINS(o.error, "File too large; make room, or choose another place with --dir\n");
	CHECK(access(o.directory, F_OK) != 0);
}

/* The process that a scenario starts to help it: the run's target and options, and no run. */
static int help(const struct harness_target *target, const struct harness_options *options)
{
	return target == &fake_target && options->threads == 3 ? 77 : -1;
}

TEST(run, starts_no_run_for_a_helper)
{
	struct harness_scenario s = fake_scenario;

	s.help = help;
	CLEANUP(outcome_done)
	struct outcome helper = scenario_run(&s, nothing, "--threads", "3", "--seed", "7", NULL);
	CLEANUP(outcome_done)
	struct outcome run = scenario_run(&s, nothing, "--threads", "2", "--operations", "5", NULL);

	CHECK_INT(helper.code, ==, 77);
	CHECK_STR(helper.out, "");
	CHECK(access(helper.directory, F_OK) != 0);
	CHECK_INT(run.code, ==, 0);
}
