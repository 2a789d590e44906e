/* Cases of a run: which run, what is kept of them, and who is named when one fails. */
/* SPDX-License-Identifier: MIT */
#include "fake.h"

#include <poolproof/harness/case.h>
#include <poolproof/harness/oracle.h>

#include <signal.h>
#include <unistd.h>

static const struct fake nothing;

static struct {
	unsigned fails, ends, hangs, stays_open; /* The number of a case, from 1; 0: none. */
	unsigned lends_twice, is_late;
	unsigned notes;
	unsigned tags;
	bool first_fails, first_hangs; /* What is done whichever case is wanted. */
	bool is_slow;                  /* Case 1 has twenty steps of 50 ms. */
} planted;

static void one_case(struct harness_run *run, unsigned i)
{
	if (!harness_case_begin(run, "case\n%u", i))
		return;
	harness_case_choose(run, harness_run_options(run)->seed + i);
	for (unsigned n = 0; n < planted.notes; n++)
		harness_case_note(run, "note %u of %u", n, i);
	if (planted.fails == i)
		harness_case_fail(run, "%s is wrong", "something");
	if (planted.lends_twice == i)
		harness_hold(run, &planted), harness_hold(run, &planted);
	if (planted.is_late == i)
		harness_deadline_judge(run, harness_now_ns() - UINT64_C(20000000000), 1000000,
		                       true);
	for (unsigned n = 0; planted.is_slow && i == 1 && n < 20; n++) {
		nanosleep(&(struct timespec){ .tv_nsec = 50000000 }, NULL);
		harness_step(run);
	}
	if (planted.ends == i)
		raise(SIGSEGV);
	while (planted.hangs == i)
		pause();
	if (planted.stays_open != i)
		harness_case_end(run);
}

static void body(struct harness_run *run)
{
	char tag[32];

	if (planted.ends > 0 || planted.stays_open > 0)
		fake_leaks_are_meant();
	if (planted.first_fails || planted.first_hangs) {
		harness_case_always(run, "the first");
		while (planted.first_hangs)
			pause();
		harness_fail(run, "it is wrong");
		harness_case_end(run);
	}
	for (unsigned i = 1; i <= 5; i++)
		one_case(run, i);
	for (unsigned i = 0; i < planted.tags; i++) {
		snprintf(tag, sizeof tag, "recovery.%u", i);
		harness_duration(run, tag, 1000 * (i + 1));
		harness_duration(run, tag, 1000 * (i + 1));
	}
	harness_number(run, "bodies_count", 1);
}

static struct outcome run_cases(const char *option, const char *value)
{
	struct harness_scenario s = fake_with_body(body);

	return scenario_run(&s, nothing, option, value, NULL);
}

TEST(cases, are_counted)
{
	CLEANUP(outcome_done) struct outcome o = run_cases("--seed", "1");

	CHECK_STR(o.reasons, "");
	CHECK_INT(o.code, ==, 0);
	CHECK_INT(outcome_number(&o, "cases_count"), ==, 5);
	CHECK_INT(outcome_number(&o, "cases.failed_count"), ==, 0);
}

TEST(cases, are_run_alone_by_their_name)
{
	CLEANUP(outcome_done) struct outcome o = run_cases("--case", "case 3");

	CHECK_INT(o.code, ==, 0);
	CHECK_INT(outcome_number(&o, "cases_count"), ==, 1);
}

TEST(cases, are_missed_where_none_has_the_name)
{
	CLEANUP(outcome_done) struct outcome o = run_cases("--case", "case 6");

	CHECK_INT(o.code, ==, 3);
	CHECK_CONTAINS(o.reasons, "no case is called 'case 6'");
}

TEST(cases, that_fail_are_named_and_their_notes_kept)
{
	planted.fails = 4;
	planted.notes = 40;
	CLEANUP(outcome_done) struct outcome o = run_cases("--seed", "1");
	char *events = outcome_file(&o, "events.jsonl");
	unsigned kept = 0;

	CHECK_INT(o.code, ==, 1);
	CHECK_STR(o.reasons, "case 'case 4': something is wrong\n");
	CHECK_INT(outcome_number(&o, "cases.failed_count"), ==, 1);
	for (const char *at = events; (at = strstr(at, "\"kind\": \"case\"")) != NULL; at++)
		kept++;
	CHECK_INT(kept, ==, 32);
	CHECK_CONTAINS(events, "case 4: note 8 of 4");
	CHECK_CONTAINS(events, "case 4: note 39 of 4");
	CHECK(strstr(events, "note 7 of 4") == NULL);
	CHECK(strstr(events, "of 3") == NULL && strstr(events, "of 5") == NULL);
	free(events);
}

TEST(cases, have_digests_of_what_they_chose_and_met)
{
	double choices[4], events[4];

	for (unsigned i = 0; i < 4; i++) {
		planted.notes = i == 3;
		CLEANUP(outcome_done) struct outcome o = run_cases("--seed", i == 2 ? "2" : "1");

		choices[i] = outcome_number(&o, "choices.digest_count");
		events[i] = outcome_number(&o, "events.digest_count");
	}
	CHECK(choices[0] == choices[1] && events[0] == events[1]);
	CHECK(choices[0] != choices[2] && events[0] == events[2]);
	CHECK(choices[0] == choices[3] && events[0] != events[3]);
}

TEST(cases, that_crash_are_named)
{
	planted.ends = 2;
	CLEANUP(outcome_done) struct outcome o = run_cases("--seed", "1");

	CHECK_INT(o.code, ==, 1);
	CHECK_CONTAINS(o.reasons, "in case case 2");
}

TEST(cases, that_hang_are_named)
{
	struct harness_scenario s = fake_with_body(body);
	planted.hangs = 3;
	CLEANUP(outcome_done)
	struct outcome o = scenario_run(&s, (struct fake){ .watch_limit_s = 0.3 }, NULL);

	CHECK_INT(o.code, ==, 1);
	CHECK_CONTAINS(o.reasons, "hang: nothing finished for");
	CHECK_CONTAINS(o.reasons, " s in case 3;");
}

TEST(cases, that_take_long_but_go_on_do_not_hang)
{
	struct harness_scenario s = fake_with_body(body);
	planted.is_slow = true;
	CLEANUP(outcome_done)
	struct outcome o = scenario_run(&s, (struct fake){ .watch_limit_s = 0.6 }, NULL);

	CHECK_STR(o.reasons, "");
	CHECK_INT(o.code, ==, 0);
}

/* Done and named whichever is wanted, and counted among those that are. */
TEST_ROWS(cases, that_are_always_done_are_named, 3)
{
	static const char *const wanted[] = { "case 3", "the first", NULL };
	static const unsigned counts[] = { 1, 1, 6 };

	planted.first_fails = true;
	CLEANUP(outcome_done)
	struct outcome o = run_cases(wanted[row] != NULL ? "--case" : NULL, wanted[row]);

	CHECK_INT(o.code, ==, 1);
	CHECK_STR(o.reasons, "case 'the first': it is wrong\n");
	CHECK_INT(outcome_number(&o, "cases_count"), ==, counts[row]);
	CHECK_INT(outcome_number(&o, "cases.failed_count"), ==, 1);
}

TEST(cases, that_are_always_done_are_named_when_they_hang)
{
	struct harness_scenario s = fake_with_body(body);
	planted.first_hangs = true;
	CLEANUP(outcome_done)
	struct outcome o =
		scenario_run(&s, (struct fake){ .watch_limit_s = 0.3 }, "--case", "case 3", NULL);

	CHECK_INT(o.code, ==, 1);
	CHECK_CONTAINS(o.reasons, " s in the first; every thread's stack");
	CHECK_CONTAINS(o.reasons, "; nothing is known of the target's state\n");
}

/* Whoever finds something while a case runs: it is the case's. */
TEST(cases, have_what_the_oracles_find)
{
	planted.lends_twice = 2;
	planted.is_late = 4;
	CLEANUP(outcome_done) struct outcome o = run_cases("--seed", "1");

	CHECK_CONTAINS(o.reasons, "case 'case 2': a connection (");
	CHECK_CONTAINS(o.reasons, "case 'case 4': an acquire with 1 ms of patience succeeded");
	CHECK_INT(outcome_number(&o, "cases.failed_count"), ==, 2);
}

TEST(cases, end_before_another_begins)
{
	planted.stays_open = 2;
	CLEANUP(outcome_done) struct outcome o = run_cases("--seed", "1");

	CHECK_INT(o.code, ==, 1);
	CHECK_CONTAINS(o.reasons, "crash: SIGABRT in case case 2");
	CHECK_CONTAINS(o.error, "the one before has not ended");
}

TEST(durations, have_a_tag_of_their_own)
{
	planted.tags = 3;
	CLEANUP(outcome_done) struct outcome o = run_cases("--seed", "1");
	char *log = outcome_file(&o, "latency.hlog");

	CHECK_INT(o.code, ==, 0);
	CHECK_INT(outcome_number(&o, "recovery.2.count"), ==, 2);
	CHECK(outcome_number(&o, "recovery.2.max_us") >= 3);
	CHECK(outcome_number(&o, "recovery.2.max_us") < 3.01);
	CHECK_CONTAINS(log, "Tag=recovery.2,");
	CHECK(json_object_get(json_object_get(o.json, "numbers"), "operation.count") == NULL);
	free(log);
}

TEST(durations, are_not_booked_to_another_tag)
{
	planted.tags = SHARED_TAGS;
	CLEANUP(outcome_done) struct outcome o = run_cases("--seed", "1");

	CHECK_INT(o.code, ==, 3);
	CHECK_CONTAINS(o.reasons, "no room for the durations 'recovery.");
	CHECK_INT(outcome_number(&o, "recovery.57.count"), ==, 2);
}
