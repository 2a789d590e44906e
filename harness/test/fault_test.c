/* Plans and sweeps, on places of the test's own. */
/* SPDX-License-Identifier: MIT */
#include "database.h"
#include "fault_internal.h"
#include "internal.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

static unsigned a, b, other;

static void places(void)
{
	a = harness_fault_place("test.a");
	b = harness_fault_place("test.b");
	other = harness_fault_place("other");
}

/* What n visits of place a say: one letter each, '.' for nothing. */
static const char *visits(unsigned n)
{
	static char said[65];

	for (unsigned i = 0; i < n; i++) {
		int number = harness_fault_visit(a);

		said[i] = "~.x"[number < 0 ? 0 : number == 0 ? 1 : 2];
	}
	said[n] = '\0';
	return said;
}

static const struct {
	const char *what;
	struct harness_fault plan;
	const char *said;
} plans[] = {
	{ "the first", { .place = "test.a" }, "x......." },
	{ "the fourth", { .place = "test.a", .skip = 3 }, "...x...." },
	{ "two from the third on", { .place = "test.a", .skip = 2, .times = 2 }, "..xx...." },
	{ "all", { .place = "test.a", .times = UINT64_MAX }, "xxxxxxxx" },
	{ "all from the sixth on",
	  { .place = "test.a", .skip = 5, .times = UINT64_MAX },
	  ".....xxx" },
	{ "later than ever", { .place = "test.a", .skip = 8 }, "........" },
	{ "another place", { .place = "test.b" }, "........" },
	{ "by its beginning", { .place = "test.*", .skip = 1 }, ".x......" },
	{ "anywhere", { .place = "*", .skip = 7 }, ".......x" },
	{ "half", { .place = "test.a", .action = HARNESS_FAULT_SHORT, .skip = 1 }, ".~......" },
	{ "everybody",
	  { .place = "test.a", .any_thread = true, .skip = 1, .times = 3 },
	  ".xxx...." },
};

TEST_ROWS(fault, hits_the_visits_it_was_planned_for, sizeof plans / sizeof *plans)
{
	struct harness_fault plan = plans[row].plan;
	const char *said = plans[row].said;
	unsigned hits = 0;

	places();
	harness_fault_arm(&plan, 1);
	CHECK_MSG(strcmp(visits(8), said) == 0, "%s", plans[row].what);
	harness_fault_disarm();
	for (const char *c = said; *c != '\0'; c++)
		hits += *c != '.';
	CHECK_INT(plan.hits, ==, hits);
	CHECK_INT(plan.visits, ==, strcmp(plan.place, "test.b") == 0 ? 0 : 8);
	CHECK(hits > 0 ? strcmp(plan.hit, "test.a") == 0 : plan.hit == NULL);
	CHECK_STR(visits(8), "........");
}

TEST(fault, has_an_error_of_its_own)
{
	struct harness_fault plan = { .place = "test.a", .error = ENOSPC };

	places();
	harness_fault_arm(&plan, 1);
	CHECK_INT(harness_fault_visit(a), ==, ENOSPC);
	harness_fault_disarm();
	plan.error = 0;
	harness_fault_arm(&plan, 1);
	CHECK_INT(harness_fault_visit(a), ==, EIO);
	harness_fault_disarm();
}

/* Both count every visit of theirs; where both are due, the first one's word counts. */
TEST_ROWS(fault, comes_with_another, 2)
{
	struct harness_fault both[] = {
		{ .place = "test.*", .skip = 2, .error = ENOSPC },
		{ .place = "test.b", .times = 2, .error = EINTR, .any_thread = row == 1 },
	};

	places();
	harness_fault_arm(both, 2);
	CHECK_INT(harness_fault_visit(a), ==, 0);
	CHECK_INT(harness_fault_visit(b), ==, EINTR);
	CHECK_INT(harness_fault_visit(b), ==, ENOSPC);
	CHECK_INT(harness_fault_visit(b), ==, 0);
	CHECK_INT(harness_fault_visit(other), ==, 0);
	harness_fault_disarm();
	CHECK_INT(both[0].visits, ==, 4);
	CHECK_INT(both[0].hits, ==, 1);
	CHECK_INT(both[1].visits, ==, 3);
	CHECK_INT(both[1].hits, ==, 2);
	CHECK_STR(both[0].hit, "test.b");
}

TEST(fault, counts_apart_what_is_done_without)
{
	struct harness_fault plans_[] = {
		{ .place = "test.a", .times = UINT64_MAX },
		{ .place = "test.a", .times = UINT64_MAX, .any_thread = true },
	};

	places();
	harness_fault_arm(plans_, 2);
	harness_fault_visit(a);
	fault_benign_begin();
	harness_fault_visit(a);
	fault_benign_begin();
	fault_benign_end();
	harness_fault_visit(a);
	fault_benign_end();
	harness_fault_visit(a);
	harness_fault_disarm();
	for (unsigned i = 0; i < 2; i++) {
		CHECK_INT(plans_[i].hits, ==, 4);
		CHECK_INT(plans_[i].benign, ==, 2);
	}
}

static void note(void *context)
{
	*(unsigned *)context += 1;
}

TEST(fault, calls_and_goes_on)
{
	unsigned called = 0;
	struct harness_fault plan = {
		.place = "test.a", .action = HARNESS_FAULT_CALL, .call = note, .context = &called
	};

	places();
	harness_fault_arm(&plan, 1);
	CHECK_STR(visits(3), "...");
	harness_fault_disarm();
	CHECK_INT(called, ==, 1);
	CHECK_INT(plan.hits, ==, 1);
}

TEST(fault, takes_its_time_and_goes_on)
{
	struct harness_fault plan = { .place = "test.a",
		                      .action = HARNESS_FAULT_DELAY,
		                      .delay_us = 20000 };
	uint64_t before = now_ns();

	places();
	harness_fault_arm(&plan, 1);
	CHECK_INT(harness_fault_visit(a), ==, 0);
	CHECK_INT(now_ns() - before, >=, 20000000);
	harness_fault_disarm();
}

/* Runs in a child; its wait status. */
static int child_status(void (*body)(void))
{
	pid_t child = fork();
	int status;

	if (child == 0) {
		close(STDERR_FILENO); /* What an assertion says is no news. */
		body();
		_exit(0);
	}
	CHECK_INT(waitpid(child, &status, 0), ==, child);
	return status;
}

static void be_killed_at_the_second_visit(void)
{
	struct harness_fault plan = { .place = "test.a", .action = HARNESS_FAULT_KILL, .skip = 1 };

	harness_fault_arm(&plan, 1);
	harness_fault_visit(a);
	harness_fault_visit(b);
	harness_fault_visit(a);
}

TEST(fault, kills_the_process)
{
	int status;

	places();
	status = child_status(be_killed_at_the_second_visit);
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static void *disarm_everybodys(void *unused)
{
	harness_fault_disarm_everybodys();
	return unused;
}

/* A load in which one thread begins a shortage and another one ends it. */
TEST(fault, for_everybody_is_taken_back_by_anybody)
{
	struct harness_fault plan = { .place = "test.a", .any_thread = true, .times = UINT64_MAX };
	pthread_t thread;

	places();
	harness_fault_arm(&plan, 1);
	CHECK_INT(harness_fault_visit(a), ==, EIO);
	CHECK_INT(pthread_create(&thread, NULL, disarm_everybodys, NULL), ==, 0);
	pthread_join(thread, NULL);
	CHECK_INT(harness_fault_visit(a), ==, 0);
	CHECK_INT(plan.hits, ==, 1);
	harness_fault_disarm(); /* Of its own there is nothing left. */
	harness_fault_arm(&plan, 1);
	harness_fault_disarm();
	CHECK_INT(harness_fault_visit(a), ==, 0);
}

static void arm_nowhere(void)
{
	struct harness_fault plan = { .place = "test.nowhere" };

	harness_fault_arm(&plan, 1);
}

static void arm_twice(void)
{
	struct harness_fault plan = { .place = "test.a", .any_thread = true };

	harness_fault_arm(&plan, 1);
	harness_fault_arm(&plan, 1);
}

static void end_a_sweep_that_was_not_armed(void)
{
	struct harness_sweep sweep = { .plans[0].place = "test.a" };

	harness_sweep_next(&sweep);
	harness_sweep_disarm(&sweep);
}

static void (*const mistakes[])(void) = { arm_nowhere, arm_twice, end_a_sweep_that_was_not_armed };

TEST_ROWS(fault, does_not_take_a_mistake_for_a_plan, sizeof mistakes / sizeof *mistakes)
{
	int status;

	places();
	status = child_status(mistakes[row]);
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

TEST(fault, knows_a_place_by_its_name)
{
	places();
	CHECK_INT(harness_fault_place("test.a"), ==, a);
	CHECK(a != b);
	CHECK_STR(harness_fault_place_name(b), "test.b");
}

/* --- Threads ------------------------------------------------------------------------------ */

static void *visit_many(void *context)
{
	uint64_t *hits = context;

	for (unsigned i = 0; i < 20000; i++)
		*hits += harness_fault_visit(a) > 0;
	return NULL;
}

static uint64_t hits_in_threads(void)
{
	uint64_t hits[4] = { 0 };
	pthread_t threads[4];

	for (unsigned i = 0; i < 4; i++)
		CHECK_INT(pthread_create(&threads[i], NULL, visit_many, &hits[i]), ==, 0);
	for (unsigned i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	return hits[0] + hits[1] + hits[2] + hits[3];
}

TEST(fault, is_the_threads_that_armed_it)
{
	struct harness_fault plan = { .place = "test.a", .times = UINT64_MAX };

	places();
	harness_fault_arm(&plan, 1);
	CHECK_INT(hits_in_threads(), ==, 0);
	CHECK_INT(plan.visits, ==, 0);
	CHECK_INT(harness_fault_visit(a), ==, EIO);
	harness_fault_disarm();
}

TEST(fault, is_everybodys_where_it_says_so)
{
	struct harness_fault plan = {
		.place = "test.a", .any_thread = true, .skip = 7, .times = 1000
	};

	places();
	harness_fault_arm(&plan, 1);
	CHECK_INT(hits_in_threads(), ==, 1000);
	harness_fault_disarm();
	CHECK_INT(plan.hits, ==, 1000);
	CHECK_INT(plan.visits, ==, 80000);
}

static void *disarm_nothing(void *context)
{
	harness_fault_disarm();
	return context;
}

TEST(fault, is_taken_back_by_its_own_thread_only)
{
	struct harness_fault plan = { .place = "test.a", .any_thread = true };
	pthread_t thread;

	places();
	harness_fault_arm(&plan, 1);
	CHECK_INT(pthread_create(&thread, NULL, disarm_nothing, NULL), ==, 0);
	pthread_join(thread, NULL);
	CHECK_INT(harness_fault_visit(a), ==, EIO);
	harness_fault_disarm();
	CHECK_INT(plan.hits, ==, 1);
}

static _Atomic bool enough;

static void *visit_until_enough(void *context)
{
	while (!atomic_load_explicit(&enough, memory_order_relaxed))
		harness_fault_visit(a);
	return context;
}

/* Plans of everybody's come and go while others visit: nobody sees one that is gone. */
TEST(fault, comes_and_goes_under_visitors)
{
	pthread_t threads[2];
	uint64_t rounds = 0, others = 0;

	places();
	for (unsigned i = 0; i < 2; i++)
		CHECK_INT(pthread_create(&threads[i], NULL, visit_until_enough, NULL), ==, 0);
	for (; rounds < 5000 / slowness() || others < 5000 / slowness(); rounds++) {
		struct harness_fault plan = { .place = "test.a",
			                      .any_thread = true,
			                      .times = UINT64_MAX };

		harness_fault_arm(&plan, 1);
		harness_fault_visit(a);
		harness_fault_disarm();
		CHECK_INT(plan.hits, ==, plan.visits);
		CHECK_INT(plan.hits, >=, 1);
		others += plan.hits - 1;
	}
	atomic_store(&enough, true);
	for (unsigned i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
}
