/* --replay DIR: the same again, or it is said what differs. */
/* SPDX-License-Identifier: MIT */
#include "fake.h"

#include <poolproof/harness/case.h>

static const struct fake nothing;

/* What is not the same in the replay. */
static struct {
	bool choices, events, operations;
} planted;

static void cases(struct harness_run *run)
{
	for (unsigned i = 0; i < 3; i++) {
		if (!harness_case_begin(run, "case %u", i))
			continue;
		harness_case_choose(run, harness_run_options(run)->seed * 3 + i + planted.choices);
		harness_case_note(run, "%s", planted.events ? "this" : "that");
		harness_case_end(run);
	}
	harness_number(run, "bodies_count", 1);
}

static bool operation(struct harness_worker *worker, void *context,
                      struct harness_failure *reterr_failure)
{
	harness_choose(worker, planted.operations);
	return fake_operation(worker, context, reterr_failure);
}

static void load(struct harness_run *run)
{
	const struct harness_options *o = harness_run_options(run);
	struct harness_operation operations[] = { { "touch", 1, operation, NULL } };

	if (harness_target_open(run, "fake.db"))
		harness_load_run(run, &(struct harness_load){ .phase = "load",
		                                              .threads = o->threads,
		                                              .seconds = o->seconds,
		                                              .operations_per_thread =
		                                                      o->operations_per_thread,
		                                              .operations = operations,
		                                              .operation_count = 1 });
	harness_target_close(run);
}

static struct outcome replay(const struct harness_scenario *s, const struct outcome *recorded,
                             const char *option)
{
	return scenario_run(s, nothing, "--replay", recorded->directory, option, NULL);
}

TEST(replay, does_the_same_again)
{
	struct harness_scenario s = fake_with_body(cases);
	CLEANUP(outcome_done) struct outcome o = scenario_run(&s, nothing, "--seed", "77", NULL);
	CLEANUP(outcome_done) struct outcome again = replay(&s, &o, NULL);

	CHECK_STR(again.reasons, "");
	CHECK_INT(again.code, ==, 0);
	CHECK_INT(json_integer_value(json_object_get(again.json, "seed")), ==, 77);
	CHECK(outcome_number(&o, "events.digest_count") ==
	      outcome_number(&again, "events.digest_count"));
}

/* The seed is recorded also where nobody gave one, and a replay is a run to replay. */
TEST(replay, is_a_run_like_any_other)
{
	struct harness_scenario s = fake_with_body(load);
	CLEANUP(outcome_done)
	struct outcome o = scenario_run(&s, nothing, "--operations", "50", "--threads", "3", NULL);
	CLEANUP(outcome_done) struct outcome again = replay(&s, &o, NULL);
	CLEANUP(outcome_done) struct outcome third = replay(&s, &again, "--json");

	CHECK_INT(again.code, ==, 0);
	CHECK_STR(third.reasons, "");
	CHECK_INT(third.code, ==, 0);
	CHECK_INT(outcome_number(&third, "operations_count"), ==, 150);
	CHECK(outcome_number(&o, "operations.digest_count") ==
	      outcome_number(&third, "operations.digest_count"));
}

static const struct {
	const char *what, *reason;
	void (*body)(struct harness_run *run);
} differences[] = {
	{ "choices", "the cases chose something else (choices.digest_count ", cases },
	{ "events", "what happened is not the same (events.digest_count ", cases },
	{ "operations", "the threads chose something else (operations.digest_count ", load },
};

TEST_ROWS(replay, says_what_is_not_the_same, sizeof differences / sizeof *differences)
{
	struct harness_scenario s = fake_with_body(differences[row].body);
	CLEANUP(outcome_done)
	struct outcome o = scenario_run(&s, nothing, "--operations", "20", "--seed", "1", NULL);
	char begin[600];

	planted.choices = row == 0;
	planted.events = row == 1;
	planted.operations = row == 2;
	CLEANUP(outcome_done) struct outcome again = replay(&s, &o, NULL);

	snprintf(begin, sizeof begin, "replay of %s: %s", o.directory, differences[row].reason);
	CHECK_INT(again.code, ==, 1);
	CHECK_MSG(strncmp(again.reasons, begin, strlen(begin)) == 0, "%s", again.reasons);
	CHECK(strchr(again.reasons, '\n') == again.reasons + strlen(again.reasons) - 1);
}

TEST(replay, compares_nothing_that_ended_by_the_clock)
{
	struct harness_scenario s = fake_with_body(load);
	CLEANUP(outcome_done)
	struct outcome o = scenario_run(&s, nothing, "--seconds", "0.05", NULL);
	CLEANUP(outcome_done) struct outcome again = replay(&s, &o, NULL);

	CHECK_INT(again.code, ==, 3);
	CHECK_CONTAINS(again.reasons, "it ended by the clock, so nothing can be compared; record "
	                              "it with --operations");
}

/* To look at one case is no comparison with all; but one that was recorded alone is compared. */
TEST(replay, can_be_of_one_case)
{
	struct harness_scenario s = fake_with_body(cases);
	CLEANUP(outcome_done) struct outcome all = scenario_run(&s, nothing, "--seed", "1", NULL);
	CLEANUP(outcome_done)
	struct outcome one = scenario_run(&s, nothing, "--seed", "1", "--case", "case 1", NULL);
	CLEANUP(outcome_done) struct outcome narrowed = replay(&s, &all, "--case=case 1");
	CLEANUP(outcome_done) struct outcome shortened = replay(&s, &all, "--cas=case 1");
	CLEANUP(outcome_done) struct outcome same = replay(&s, &one, NULL);

	planted.events = true;
	CLEANUP(outcome_done) struct outcome other = replay(&s, &one, NULL);

	CHECK_INT(narrowed.code, ==, 0);
	CHECK_INT(shortened.code, ==, 0);
	CHECK_INT(outcome_number(&narrowed, "cases_count"), ==, 1);
	CHECK_INT(same.code, ==, 0);
	CHECK_INT(other.code, ==, 1);
}

/* --- What cannot be done again ------------------------------------------------------------ */

static void put(const struct outcome *o, const char *text)
{
	char path[600];
	FILE *file;

	snprintf(path, sizeof path, "%s/run.json", o->directory);
	file = fopen(path, "w");
	CHECK(file != NULL && fputs(text, file) >= 0 && fclose(file) == 0);
}

static void put_word(struct outcome *o, const char *name, const char *word)
{
	char *text;

	json_object_set_new(o->json, name, json_string(word));
	text = json_dumps(o->json, 0);
	put(o, text);
	free(text);
}

static void spoil(struct outcome *o, unsigned how)
{
	if (how == 0)
		put_word(o, "scenario", "writer_storm");
	else if (how == 1)
		put_word(o, "variant", "debug");
	else if (how == 2)
		put(o, "{ \"scenario\":\n\n garbage");
	else if (how == 3)
		put(o, "[1, 2, 3]");
	else
		put(o, "{ \"scenario\": \"fake_scenario\", \"variant\": \"" PP_VARIANT "\" }");
}

static const char *const refusals[] = {
	": is a run of writer_storm; replay it with that\n",
	": ran in another variant; add --variant debug\n",
	"; give the directory of a run\n",
	": its run.json is not a run's; give the directory of a run\n",
	": its run.json is not a run's; give the directory of a run\n",
};

static void check_refused(const struct outcome *o, const char *end)
{
	CHECK_INT(o->code, ==, 2);
	CHECK(o->json == NULL);
	CHECK_MSG(strncmp(o->error, "fake_scenario: --replay", 23) == 0, "%s", o->error);
	CHECK_CONTAINS(o->error, end);
	CHECK(strchr(o->error, '\n') == o->error + strlen(o->error) - 1);
	CHECK_STR(o->out, "");
}

TEST_ROWS(replay, of_what_is_no_run_of_this_is_refused, sizeof refusals / sizeof *refusals)
{
	struct harness_scenario s = fake_with_body(cases);
	CLEANUP(outcome_done) struct outcome o = scenario_run(&s, nothing, NULL);

	spoil(&o, (unsigned)row);
	CLEANUP(outcome_done) struct outcome again = replay(&s, &o, NULL);

	check_refused(&again, refusals[row]);
}

TEST(replay, of_nothing_is_refused)
{
	CLEANUP(outcome_done)
	struct outcome none =
		scenario_run(&fake_scenario, nothing, "--replay", "/nowhere/at/all", NULL);
	CLEANUP(outcome_done)
	struct outcome empty = scenario_run(&fake_scenario, nothing, "--replay=", NULL);
	CLEANUP(outcome_done)
	struct outcome last = scenario_run(&fake_scenario, nothing, "--replay", NULL);

	check_refused(&none, "No such file or directory; give the directory of a run\n");
	check_refused(&empty, "lacks its value, the directory of a run\n");
	check_refused(&last, "lacks its value, the directory of a run\n");
}
