/* Coverage: gcovr's JSON counted as gcovr counts, components, and the ratchet. */
/* SPDX-License-Identifier: MIT */
#include "fixture.h"

#define LINE(number, count, noncode, branches)                                        \
	"{\"branches\":[" branches "],\"count\":" #count ",\"gcovr/excluded\":false," \
	"\"gcovr/noncode\":" #noncode ",\"line_number\":" #number "}"
#define BRANCH(count) "{\"count\":" #count ",\"fallthrough\":false,\"throw\":false}"
#define CALLED(name, count) "{\"name\":\"" name "\",\"lineno\":1,\"execution_count\":" #count "}"

/* a.c: 3 of 6 lines (2, 4-6 missed but 4 is noncode), 1 of 2 functions, 1 of 3 branches (those of
 * a noncode line do not count). b.c: all. c.c: nothing in it. */
static const char gcovr[] =
	"{\"gcovr/format_version\":\"0.5\",\"files\":["
	"{\"file\":\"pool/src/a.c\",\"functions\":[" CALLED("f", 1) "," CALLED(
		"g",
		0) "],"
		   "\"lines\":[" LINE(1, 1, false, BRANCH(1) "," BRANCH(0) "," BRANCH(0)) "," LINE(2, 0, false, "") "," LINE(
			   3, 2, false,
			   "") "," LINE(4, 0, true,
                                        BRANCH(9)) "," LINE(5, 0, false,
                                                            "") "," LINE(6, 0, false,
                                                                         "") "," LINE(7, 4, false,
                                                                                      "") "]},"
											  "{\"file"
											  "\":"
											  "\"pool/"
											  "src/sub/"
											  "b.c\","
											  "\"functi"
											  "ons\":"
											  "[" CALLED("h", 3) "],\"lines\":[" LINE(
												  1,
												  1,
												  false,
												  BRANCH(1)) "]},"
													     "{\"file\":\"harness/src/c.c\",\"functions\":[],\"lines\":[]}]}";

static const char components[] = "component pool = pool/src/**\n"
				 "component deep = pool/src/** !pool/src/*.c\n"
				 "component none = harness/src/**\n[coverage]\n";

/* The gate file's lines after the components; the run is there too. */
static int judge(struct fixture *f, const char *lines, const char *option)
{
	const char *packed = fixture_path(f, "cov");

	fixture_write(f, "gcovr.json", gcovr);
	CHECK_INT(fixture_command(f, "pack-coverage", "--dir", packed,
	                          fixture_path(f, "gcovr.json"), NULL),
	          ==, REPORT_PASS);
	fixture_write(f, "ci/gates.conf", report_print(&f->arena, "%s%s", components, lines));
	return fixture_command(f, "gate", packed, "-g", fixture_path(f, "ci/gates.conf"), option,
	                       NULL);
}

TEST(coverage, is_counted_as_gcovr_counts)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open();
	struct report_coverage c;
	const struct report_file *a;
	const char *error = "";

	fixture_write(&f, "g.json", gcovr);
	CHECK_MSG(report_coverage_read(&f.arena, fixture_path(&f, "g.json"), &c, &error), "%s",
	          error);
	CHECK_INT(c.count, ==, 3);
	CHECK_STR(c.files[0].path, "harness/src/c.c");
	a = &c.files[1];
	CHECK_INT(a->ratios[REPORT_LINES].covered, ==, 3);
	CHECK_INT(a->ratios[REPORT_LINES].total, ==, 6);
	CHECK_INT(a->ratios[REPORT_BRANCHES].covered, ==, 1);
	CHECK_INT(a->ratios[REPORT_BRANCHES].total, ==, 3);
	CHECK_STR(a->uncovered, "2, 5-6");
	CHECK_INT(a->function_count, ==, 1);
	CHECK_STR(a->functions[0], "g");
	CHECK_INT(report_coverage_sum(&c, NULL, REPORT_FUNCTIONS).covered, ==, 2);
	CHECK_INT(report_coverage_sum(&c, NULL, REPORT_FUNCTIONS).total, ==, 3);
}

static const struct {
	const char *gate;
	int code;
	const char *words;
} gates[] = {
	{ "fail coverage.lines{component=pool} >= 57.14 %\n", REPORT_PASS, "57.14 %" },
	{ "fail coverage.lines{component=pool} >= 57.15 %\n", REPORT_FAIL, "57.14 % is not" },
	/* 4 of 7 is 57.142…: never rounded up. */
	{ "fail coverage.lines{component=pool} > 57.142 %\n", REPORT_PASS, "" },
	{ "fail coverage.functions >= 66.66 %\n", REPORT_PASS, "66.66 %" },
	{ "fail coverage.branches{component=deep} == 100 %\n", REPORT_PASS, "100.00 %" },
	{ "fail coverage.lines{component=none} >= 0 %\n", REPORT_FAIL, "no data: 0 of 0 lines" },
	{ "fail coverage.lines{component=x*} >= 0 %\n", REPORT_FAIL,
	  "no component has such a name" },
	{ "fail coverage.lines{component=*} >= 50 %\n", REPORT_FAIL,
	  "coverage.lines{component=deep}" },
	{ "warn coverage.lines{component=pool} >= 100 %\n", REPORT_PASS, "WARN" },
	{ "fail coverage.lnes >= 1 %\n", REPORT_USAGE, "" },
};

TEST_ROWS(coverage, is_judged, sizeof gates / sizeof *gates)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open();
	int code = judge(&f, gates[row].gate, NULL);

	CHECK_MSG(code == gates[row].code, "%s: exit %d\n%s%s", gates[row].gate, code, f.out,
	          f.err);
	CHECK_CONTAINS(f.out, gates[row].words);
}

TEST(coverage, a_ratchet_only_ever_tightens)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open();
	const char *line = "ratchet coverage.lines{component=pool}\nfail coverage.lines > 0 %\n";

	CHECK_INT(judge(&f, line, NULL), ==, REPORT_FAIL);
	CHECK_CONTAINS(f.out, "no record; run poolproof gate --raise");
	CHECK_CONTAINS(f.out, "FAIL: 2 passed, 1 failed");
	CHECK_INT(judge(&f, line, "--raise"), ==, REPORT_PASS);
	CHECK_CONTAINS(f.out, "PASS: 3 passed"); /* The run, and the other gate; */
	CHECK_CONTAINS(f.out, ">= 57.14 %");     /* judged by its new record. */
	CHECK_CONTAINS(fixture_read(&f, "ci/ratchet.json"), "57.14");

	fixture_write(&f, "ci/ratchet.json", "{\"coverage.lines{component=pool}\": 57.15}");
	CHECK_INT(judge(&f, line, NULL), ==, REPORT_FAIL);
	CHECK_CONTAINS(f.out, "57.14 % is below the best recorded");
	CHECK_INT(judge(&f, line, "--raise"), ==, REPORT_FAIL);
	CHECK_CONTAINS(fixture_read(&f, "ci/ratchet.json"), "57.15");

	/* A record of other names is none. */
	fixture_write(&f, "ci/ratchet.json", "{\"coverage.lines{component=deep}\": 1}");
	CHECK_INT(judge(&f, line, NULL), ==, REPORT_FAIL);
	CHECK_CONTAINS(f.out, "no record; run poolproof gate --raise");
	CHECK_INT(judge(&f, line, "--raise"), ==, REPORT_PASS);
	CHECK_CONTAINS(fixture_read(&f, "ci/ratchet.json"), "57.14");

	fixture_write(&f, "ci/ratchet.json", "[");
	CHECK_INT(judge(&f, line, NULL), ==, REPORT_USAGE);
	CHECK_CONTAINS(f.err, "ratchet.json:1: ");
}

static const char *const broken[][2] = { { "{", ":1: " },
	                                 { "[]", "not gcovr's JSON" },
	                                 { "{\"files\":3}", "not gcovr's JSON" } };

TEST_ROWS(coverage, what_is_not_gcovrs_is_refused, sizeof broken / sizeof *broken)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open();
	const char *run = fixture_run(&f, (struct fixture_run){ .name = "r" });

	fixture_write(&f, "x.json", broken[row][0]);
	CHECK_INT(fixture_command(&f, "pack-coverage", "--dir", fixture_path(&f, "c"),
	                          fixture_path(&f, "x.json"), NULL),
	          ==, REPORT_USAGE);
	CHECK_CONTAINS(f.err, broken[row][1]);
	CHECK(!report_is_folder(fixture_path(&f, "c")));
	fixture_write(&f, "r/coverage.json", broken[row][0]);
	CHECK_INT(fixture_command(&f, "gate", run, "-e", "errors == 0", NULL), ==,
	          REPORT_UNTRUSTWORTHY);
}

TEST(coverage, that_is_not_there_is_said_to_be_so)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open();

	CHECK_INT(fixture_command(&f, "pack-coverage", "--dir", "c", "nope.json", NULL), ==,
	          REPORT_USAGE);
	CHECK_STR(f.err, "poolproof: nope.json: No such file or directory\n");
	CHECK_INT(fixture_command(&f, "pack-coverage", "--dir", "c", ".", NULL), ==, REPORT_USAGE);
	CHECK_STR(f.err, "poolproof: .: Is a directory\n");
}

TEST(coverage, nothing_measured_is_not_trusted)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open();

	fixture_write(&f, "x.json", "{\"files\":[]}");
	CHECK_INT(fixture_command(&f, "pack-coverage", "--dir", fixture_path(&f, "c"),
	                          fixture_path(&f, "x.json"), NULL),
	          ==, REPORT_PASS);
	CHECK_CONTAINS(fixture_read(&f, "c/run.json"), "UNTRUSTWORTHY");
}

TEST(coverage, is_shown_with_its_targets_and_what_misses)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open();
	const char *page;

	judge(&f, "fail coverage.lines{component=pool} >= 95 %\n", NULL);
	CHECK_INT(fixture_command(&f, "report", fixture_path(&f, "cov"), "-g",
	                          fixture_path(&f, "ci/gates.conf"), "-o", fixture_path(&f, "out"),
	                          NULL),
	          ==, REPORT_PASS);
	page = fixture_read(&f, "out/index.html");
	CHECK_CONTAINS(page, "<title>57.14 %, target 95 %</title>");
	CHECK_CONTAINS(page, "<h2 id=\"r0\">coverage</h2>");
	CHECK_CONTAINS(page, "(4 of 7; target 95 %)");
	CHECK_CONTAINS(page, "1 of 3 files miss something");
	CHECK_CONTAINS(page, "lines 2, 5-6</div><div>never called: <code>g</code></div>");
	CHECK_CONTAINS(page, "no data <span class=\"quiet\">(0 of 0");
}
