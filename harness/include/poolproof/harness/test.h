/*
 * poolproof/harness/test.h - unit tests on Check: no list to keep, a filter, a table per test.
 *
 *     TEST(acquire, times_out_when_everything_is_leased)
 *     {
 *             CLEANUP(fixture_close) struct fixture f = fixture_open(1);
 *             CHECK_INT(pp_acquire(f.pool, ...), ==, PP_TIMEOUT);
 *     }
 *     TEST_ROWS(plans, survive, sizeof rows / sizeof *rows) { ... rows[row] ... }
 *
 * One file of each test program says TEST_MAIN() at its end. Each test runs in a process of its
 * own with a time limit (20 s, CK_TIMEOUT_MULTIPLIER times that). `PROGRAM WORD` runs the tests
 * whose suite/claim contains WORD; a word that matches nothing is an error. `-i` stays in one
 * process, for a debugger. `-l` lists. `-p K/N` is the K-th of N parts. CLEANUP does not run when a
 * claim fails: the process ends.
 */
/* SPDX-License-Identifier: MIT */
#ifndef POOLPROOF_HARNESS_TEST_H
#define POOLPROOF_HARNESS_TEST_H

#include <check.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct test_entry {
	const char *suite;
	const TTest *test;
	int rows;
	struct test_entry *next;
};
extern struct test_entry *test_entries;

#define TEST(suite, claim) TEST_ROWS(suite, claim, 1)
#define TEST_ROWS(suite_, claim, rows_)                                                            \
	static void suite_##__##claim(int row);                                                    \
	static const TTest suite_##__##claim##_test = { #suite_ "/" #claim, suite_##__##claim,     \
		                                        __FILE__, __LINE__ };                      \
	static struct test_entry suite_##__##claim##_entry = { #suite_, &suite_##__##claim##_test, \
		                                               (int)(rows_), NULL };               \
	__attribute__((constructor)) static void suite_##__##claim##_register(void)                \
	{                                                                                          \
		struct test_entry **last = &test_entries;                                          \
		while (*last != NULL)                                                              \
			last = &(*last)->next;                                                     \
		*last = &suite_##__##claim##_entry;                                                \
	}                                                                                          \
	static void suite_##__##claim(int row __attribute__((unused)))

/* A claim that holds is noted, so that a crash is told with the place it came after; the first
 * hundred times at each place. Check's parent reads every note, and what it has freed for them is
 * walked through when a child looks for leaks: two million of them doubled pool-tests under asan.
 */
#define CHECK_MSG(claim, ...)                                                              \
	do {                                                                               \
		static atomic_uint check_passed;                                           \
		if (!(claim))                                                              \
			ck_abort_msg(__VA_ARGS__);                                         \
		if (atomic_load_explicit(&check_passed, memory_order_relaxed) < 100) {     \
			atomic_fetch_add_explicit(&check_passed, 1, memory_order_relaxed); \
			mark_point();                                                      \
		}                                                                          \
	} while (0)
#define CHECK(claim) CHECK_MSG((claim), "not so: %s", #claim)
#define CHECK_INT(a, op, b)                                                                       \
	do {                                                                                      \
		intmax_t check_a = (intmax_t)(a), check_b = (intmax_t)(b);                        \
		CHECK_MSG(check_a op check_b, "not so: %s %s %s; it is %jd and %jd", #a, #op, #b, \
		          check_a, check_b);                                                      \
	} while (0)
#define CHECK_STR(a, b) ck_assert_str_eq((a), (b))
#define CHECK_CONTAINS(text, part)                                                            \
	do {                                                                                  \
		const char *check_t = (text), *check_p = (part);                              \
		CHECK_MSG(strstr(check_t, check_p) != NULL, "\"%s\" does not contain \"%s\"", \
		          check_t, check_p);                                                  \
	} while (0)
#define CLEANUP(function) __attribute__((cleanup(function)))

static inline int test_main(int argc, char **argv)
{
	const char *filter = NULL;
	int listing = 0, failed;
	enum fork_status fork_status = CK_FORK;
	SRunner *runner = srunner_create(NULL);
	Suite *suite = NULL;
	TCase *tcase = NULL;
	const char *last = "";
	unsigned count = 0, part = 1, parts = 1, position = 0;

	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "-i") == 0)
			fork_status = CK_NOFORK;
		else if (strcmp(argv[i], "-l") == 0)
			listing = 1;
		else if (strcmp(argv[i], "-p") == 0 && i + 1 < argc &&
		         sscanf(argv[++i], "%u/%u", &part, &parts) == 2 && part >= 1 &&
		         part <= parts)
			continue;
		else if (argv[i][0] == '-' || (i > 1 && strcmp(argv[i - 1], "-p") == 0)) {
			fprintf(stderr, "%s: %s: must be a word of a name, -i, -l or -p K/N\n",
			        argv[0], argv[i]);
			srunner_free(runner);
			return 2;
		} else
			filter = argv[i];
	}
	for (struct test_entry *e = test_entries; e != NULL; e = e->next) {
		if ((filter != NULL && strstr(e->test->name, filter) == NULL) ||
		    position++ % parts != part - 1)
			continue;
		count++;
		if (listing) {
			printf("%s\n", e->test->name);
			continue;
		}
		if (strcmp(last, e->suite) != 0) {
			suite = suite_create(e->suite);
			tcase = tcase_create(e->suite);
			tcase_set_timeout(tcase, 20);
			suite_add_tcase(suite, tcase);
			srunner_add_suite(runner, suite);
			last = e->suite;
		}
		tcase_add_loop_test(tcase, e->test, 0, e->rows);
	}
	if (count == 0) {
		fprintf(stderr, "%s: no test matches '%s'; -l lists them\n", argv[0],
		        filter != NULL ? filter : "");
		srunner_free(runner);
		return 1;
	}
	if (fork_status == CK_NOFORK)
		srunner_set_fork_status(runner, CK_NOFORK);
	if (!listing)
		srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}

#define TEST_MAIN()                           \
	struct test_entry *test_entries;      \
	int main(int argc, char **argv)       \
	{                                     \
		return test_main(argc, argv); \
	}

#endif
