/* The command: dispatch, list, run, with scenarios and a valgrind made of shell. */
/* SPDX-License-Identifier: MIT */
#include "fixture.h"

#include <sys/stat.h>

static void program(struct fixture *f, const char *name, const char *text)
{
	const char *path = fixture_write(f, name, report_print(&f->arena, "#!/bin/sh\n%s\n", text));

	CHECK(chmod(path, 0755) == 0);
}

static void storm(struct fixture *f, const char *variant)
{
	program(f, report_print(&f->arena, "build/%s/scenarios/writer_storm", variant),
	        report_print(&f->arena,
	                     "[ \"$1\" = --describe ] && echo '{\"name\":\"writer_storm\","
	                     "\"question\":\"who waits?\",\"load\":\"l\",\"passes\":\"p\","
	                     "\"targets\":[\"poolproof\",\"raw\"]}' && exit\n"
	                     "echo %s: \"$@\"; exit 3",
	                     variant));
}

static const struct {
	const char *words[4];
	int code;
	const char *out, *err;
} calls[] = {
	{ { NULL }, REPORT_USAGE, "", "Usage: poolproof COMMAND" },
	{ { "--help" }, REPORT_PASS, "Exit codes: 0 PASS", "" },
	{ { "--version" }, REPORT_PASS, "poolproof " PP_VERSION, "" },
	{ { "gaet" }, REPORT_USAGE, "", "unknown command \"gaet\" (did you mean \"gate\"?)" },
	{ { "gate", "--help" }, REPORT_PASS, "Usage: poolproof gate", "" },
	{ { "gate", "--nonsense" }, REPORT_USAGE, "", "--nonsense" },
	{ { "report", "--help" }, REPORT_PASS, "--out", "" },
	{ { "report", "--out", "" }, REPORT_USAGE, "", "--out: an empty name" },
	{ { "pack-coverage", "--dir", "" }, REPORT_USAGE, "", "--dir: an empty name" },
	{ { "list", "x" }, REPORT_USAGE, "", "list takes no arguments" },
	{ { "list" }, REPORT_PASS, "Targets   poolproof, raw", "" },
	{ { "list", "--json" }, REPORT_PASS, "\"question\": \"who waits?\"", "" },
	{ { "pack-coverage" }, REPORT_USAGE, "", "--dir DIR and GCOVR.json are needed" },
	{ { "run" }, REPORT_USAGE, "", "run needs a SCENARIO first" },
	{ { "run", "--help" }, REPORT_PASS, "--under TOOL", "" },
	{ { "run", "writer_strom" },
	  REPORT_USAGE,
	  "",
	  "unknown scenario \"writer_strom\" (did you mean \"writer_storm\"?); known: "
	  "writer_storm" },
	{ { "run", "writer_storm", "--seed", "7" }, 3, "release: --seed 7\n", "" },
	{ { "run", "writer_storm", "--help" }, 3, "release: --help\n", "" },
	{ { "run", "writer_storm", "--variant=tsan", "-x" }, 3, "tsan: -x\n", "" },
	{ { "run", "writer_storm", "--variant", "asan" },
	  REPORT_CANNOT,
	  "",
	  "writer_storm is not built; run: make all VARIANT=asan" },
	{ { "run", "writer_storm", "--variant", "asn" },
	  REPORT_USAGE,
	  "",
	  "did you mean \"asan\"?" },
	{ { "run", "writer_storm", "--under", "memchek" },
	  REPORT_USAGE,
	  "",
	  "did you mean \"memcheck\"?" },
	{ { "run", "--under=memcheck", "writer_storm", "--dir=" },
	  REPORT_USAGE,
	  "",
	  "--dir: an empty name" },
	{ { "run", "writer_storm", "--under=memcheck", "--variant=asan" },
	  REPORT_USAGE,
	  "",
	  "needs the variant valgrind, not asan" },
};

TEST_ROWS(command, answers, sizeof calls / sizeof *calls)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open();
	const char *const *w = calls[row].words;

	storm(&f, "release");
	storm(&f, "tsan");
	storm(&f, "valgrind");
	program(&f, "bin/valgrind", "exit 9");
	setenv("PATH", report_print(&f.arena, "%s:/usr/bin:/bin", fixture_path(&f, "bin")), 1);
	fixture_write(&f, "build/release/scenarios/writer_storm.o", "no program");
	CHECK_INT(fixture_command(&f, w[0], w[0] ? w[1] : NULL, w[1] ? w[2] : NULL,
	                          w[2] ? w[3] : NULL, NULL),
	          ==, calls[row].code);
	CHECK_CONTAINS(f.out, calls[row].out);
	CHECK_CONTAINS(f.err, calls[row].err);
}

static const char *const long_words[][3] = { { "list" },
	                                     { "--help" },
	                                     { "list", "--help" },
	                                     { "run", "--help" },
	                                     { "gate", "--help" },
	                                     { "report", "--help" },
	                                     { "report", "-?" },
	                                     { "pack-coverage", "--help" },
	                                     { "report", "--usage" } };

TEST_ROWS(command, fits_a_terminal, sizeof long_words / sizeof *long_words)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open();
	const char *const *w = long_words[row];

	program(&f, "build/release/scenarios/wordy",
	        "echo '{\"name\":\"wordy\",\"question\":\"Does everybody get through, how long do "
	        "they wait, and is all — all — as it was after?\",\"load\":\"l\",\"passes\":\"p\","
	        "\"targets\":[\"poolproof\",\"raw\"]}'");
	CHECK_INT(fixture_command(&f, w[0], w[1], NULL), ==, REPORT_PASS);
	CHECK_INT(strlen(f.out), >, 80);
	for (char *line = f.out, *end; *line != '\0'; line = end + 1) {
		end = strchr(line, '\n');
		*end = '\0';
		CHECK_MSG(report_width(line) <= 80, "%d columns: %s", report_width(line), line);
	}
	if (row == 0)
		CHECK_CONTAINS(fixture_read(&f, ".out"), "\n            — as it was after?\n");
}

/* Also where argp ends the program itself. */
static const char *const unread[][2] = {
	{ "list" },      { "list", "--json" }, { "--help" },
	{ "--version" }, { "gate", "--help" }, { "run", "--help" }
};

TEST_ROWS(command, that_nobody_could_read_is_not_done, sizeof unread / sizeof *unread)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open();

	storm(&f, "release");
	f.output = "/dev/full";
	CHECK_INT(fixture_command(&f, unread[row][0], unread[row][1], NULL), ==, REPORT_CANNOT);
	CHECK_STR(f.err, "poolproof: standard output cannot be written: No space left on device\n");
}

TEST(command, says_what_to_build)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open();

	CHECK_INT(fixture_command(&f, "list", NULL), ==, REPORT_CANNOT);
	CHECK_CONTAINS(f.err, "no scenario is built; run: make all");
	CHECK_INT(fixture_command(&f, "run", "writer_storm", NULL), ==, REPORT_CANNOT);
	CHECK_CONTAINS(f.err, "writer_storm is not built; run: make all VARIANT=");
	program(&f, "build/release/scenarios/dumb", "exit 1");
	CHECK_INT(fixture_command(&f, "list", NULL), ==, REPORT_CANNOT);
	CHECK_CONTAINS(f.err, "dumb: does not answer --describe");
}

TEST(command, puts_a_scenario_under_memcheck)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open();
	const char *runs, **names;

	storm(&f, "valgrind");
	setenv("PATH", fixture_path(&f, "none"), 1);
	CHECK_INT(fixture_command(&f, "run", "writer_storm", "--under", "memcheck", NULL), ==,
	          REPORT_CANNOT);
	CHECK_CONTAINS(f.err, "valgrind is not installed");

	program(&f, "bin/valgrind", "echo \"$@\"");
	setenv("PATH", fixture_path(&f, "bin"), 1);
	CHECK_INT(
		fixture_command(&f, "run", "writer_storm", "--under", "memcheck", "--seed=7", NULL),
		==, REPORT_PASS);
	runs = fixture_path(&f, "build/runs");
	CHECK_INT(report_list(&f.arena, runs, &names), ==, 1);
	CHECK(report_glob("writer_storm-2*T*-7", names[0]));
	CHECK(report_is_folder(report_print(&f.arena, "%s/%s/leaks", runs, names[0])));
	CHECK_CONTAINS(f.out, "--tool=memcheck --leak-check=full --show-leak-kinds=all --xml=yes ");
	CHECK_CONTAINS(f.out, report_print(&f.arena, "--xml-file=%s/%s/leaks/memcheck.%%p.xml",
	                                   runs, names[0]));
	CHECK_CONTAINS(f.out, report_print(&f.arena, "/scenarios/writer_storm --dir %s/%s --seed=7",
	                                   runs, names[0]));
	CHECK(strstr(f.out, " -q") == NULL);

	/* A folder that is named is taken; a seed that is not is chosen. */
	CHECK_INT(fixture_command(&f, "run", "writer_storm", "--under", "helgrind", "--dir",
	                          fixture_path(&f, "mine"), NULL),
	          ==, REPORT_PASS);
	CHECK_CONTAINS(f.out, "/mine/leaks/helgrind.%p.xml");
	CHECK_CONTAINS(f.out, " --seed ");
	CHECK(strstr(f.out, "--leak-check") == NULL);
}

static const struct {
	const char *pattern, *text;
	bool matches;
} globs[] = {
	{ "a/*.c", "a/b.c", true },
	{ "a/*.c", "a/b/c.c", false },
	{ "a/**", "a/b/c.c", true },
	{ "**/c.c", "a/b/c.c", true },
	{ "a?c", "abc", true },
	{ "a?c", "a/c", false },
	{ "*", "", true },
	{ "a*", "b", false },
	{ "a*b*c", "a1b2b3c", true },
	{ "pool/src/m*", "pool/src/memory.c", true },
};

TEST_ROWS(words, globs_match, sizeof globs / sizeof *globs)
{
	CHECK(report_glob(globs[row].pattern, globs[row].text) == globs[row].matches);
}

static const struct {
	enum report_unit unit;
	double value;
	const char *text;
} quantities[] = {
	{ REPORT_COUNT, 1234567, "1,234,567" }, { REPORT_COUNT, -1234, "-1,234" },
	{ REPORT_COUNT, 0.5, "0.50" },          { REPORT_TIME, 999, "999 ns" },
	{ REPORT_TIME, 1500, "1.50 us" },       { REPORT_TIME, 20e6, "20 ms" },
	{ REPORT_TIME, 90e9, "90 s" },          { REPORT_BYTES, 4096, "4,096 B" },
	{ REPORT_BYTES, 1 << 20, "1 MiB" },     { REPORT_PERCENT, 99.999, "99.99 %" },
	{ REPORT_PERCENT, 89.79, "89.79 %" },   { REPORT_PERCENT, 100, "100.00 %" },
	{ REPORT_RATE, 12345, "12,345 /s" },
};

TEST_ROWS(words, quantities_read_well, sizeof quantities / sizeof *quantities)
{
	struct report_arena arena = { 0 };

	CHECK_STR(report_quantity(&arena, quantities[row].unit, quantities[row].value),
	          quantities[row].text);
	report_arena_done(&arena);
}

static const struct {
	const char *text, *clean;
} dirty[] = {
	{ "a\x01z", "a\xef\xbf\xbdz" },
	{ "\xff", "\xef\xbf\xbd" },
	{ "\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80", "\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80" },
	{ "\xed\xa0\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd" }, /* A surrogate. */
	{ "\xe2\x82", "\xef\xbf\xbd\xef\xbf\xbd" },                 /* Cut. */
	{ "\xc0\xaf", "\xef\xbf\xbd\xef\xbf\xbd" },                 /* Overlong. */
	{ "\x1b[31m", "\xef\xbf\xbd[31m" },
};

TEST_ROWS(words, broken_text_is_repaired, sizeof dirty / sizeof *dirty)
{
	struct report_arena arena = { 0 };

	CHECK_STR(report_clean(&arena, dirty[row].text), dirty[row].clean);
	report_arena_done(&arena);
}
