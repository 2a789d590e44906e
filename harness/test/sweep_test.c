/* Every visit of a place in turn. */
/* SPDX-License-Identifier: MIT */
#include <poolproof/harness/fault.h>
#include <poolproof/harness/test.h>

/* What is swept: seven visits of "swept", and where one failed three of "mended". */
static struct {
	unsigned swept, mended;
	char said[64]; /* One letter a visit, of all rounds. */
	size_t length;
} act;

static void prepare(void)
{
	act.swept = harness_fault_place("swept");
	act.mended = harness_fault_place("mended");
}

static void say(char letter)
{
	if (act.length < sizeof act.said - 1)
		act.said[act.length++] = letter;
}

static void run(void)
{
	bool failed = false;

	for (unsigned i = 0; i < 7; i++)
		if (harness_fault_visit(act.swept) > 0) {
			say((char)('0' + i));
			failed = true;
		}
	for (unsigned i = 0; i < 3 && failed; i++)
		if (harness_fault_visit(act.mended) > 0)
			say((char)('a' + i));
	say(' ');
}

static const struct {
	const char *what;
	struct harness_sweep sweep;
	const char *said;
	unsigned rounds, hits;
} sweeps[] = {
	{ "each once", { .plans[0].place = "swept" }, "0 1 2 3 4 5 6  ", 8, 7 },
	{ "each and all after it",
	  { .plans[0] = { .place = "swept", .times = UINT64_MAX } },
	  "0123456 123456 23456 3456 456 56 6  ",
	  8,
	  28 },
	{ "every third", { .plans[0].place = "swept", .stride = 3 }, "0 3 6  ", 4, 3 },
	{ "every third from the second on",
	  { .plans[0] = { .place = "swept", .skip = 1 }, .stride = 3 },
	  "1 4  ",
	  3,
	  2 },
	{ "each, and the second of what mends it",
	  { .plans = { { .place = "swept" }, { .place = "mended", .skip = 1 } }, .stride = 2 },
	  "0b 2b 4b 6b  ",
	  5,
	  4 },
	{ "none is left", { .plans[0] = { .place = "swept", .skip = 7 } }, " ", 1, 0 },
};

TEST_ROWS(sweep, hits_every_visit_and_ends, sizeof sweeps / sizeof *sweeps)
{
	struct harness_sweep sweep = sweeps[row].sweep;

	prepare();
	while (harness_sweep_next(&sweep)) {
		harness_sweep_arm(&sweep);
		run();
		harness_sweep_disarm(&sweep);
	}
	CHECK_MSG(strcmp(act.said, sweeps[row].said) == 0, "%s: '%s'", sweeps[row].what, act.said);
	CHECK_INT(sweep.rounds, ==, sweeps[row].rounds);
	CHECK_INT(sweep.hits, ==, sweeps[row].hits);
	CHECK(!harness_sweep_next(&sweep));
}

/* As with --case: all rounds but one are left out. */
TEST_ROWS(sweep, goes_on_where_a_round_is_left_out, 3)
{
	static const unsigned wanted[] = { 0, 4, 6 };
	struct harness_sweep sweep = { .plans[0].place = "swept" };
	char said[] = "0 ";
	unsigned rounds = 0;

	prepare();
	for (; harness_sweep_next(&sweep); rounds++) {
		if (sweep.plans[0].skip != wanted[row])
			continue;
		harness_sweep_arm(&sweep);
		run();
		harness_sweep_disarm(&sweep);
	}
	said[0] = (char)('0' + wanted[row]);
	CHECK_STR(act.said, said);
	CHECK_INT(sweep.rounds, ==, 1);
	CHECK_INT(rounds, >=, 100000); /* A case could be as far behind as that, and no further. */
	CHECK_INT(rounds, <, 200000);
}

TEST(sweep, ends_where_no_round_is_wanted)
{
	struct harness_sweep sweep = { .plans[0].place = "swept" };
	unsigned rounds = 0;

	prepare();
	while (harness_sweep_next(&sweep))
		rounds++;
	CHECK_INT(rounds, ==, 100000);
	CHECK_INT(sweep.rounds, ==, 0);
}

/* A round may arm more than once: it is the last only where none of them hit. */
TEST(sweep, counts_a_round_as_a_whole)
{
	struct harness_sweep sweep = { .plans[0].place = "swept" };

	prepare();
	while (harness_sweep_next(&sweep)) {
		harness_sweep_arm(&sweep);
		run();
		harness_sweep_disarm(&sweep);
		harness_sweep_arm(&sweep);
		harness_sweep_disarm(&sweep);
	}
	CHECK_STR(act.said, "0 1 2 3 4 5 6  ");
	CHECK_INT(sweep.rounds, ==, 8);
}
