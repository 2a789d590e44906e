/* The benchmark's page: everything that was measured is on it, and nothing foreign runs. */
/* SPDX-License-Identifier: MIT */
#include "fixture.h"

#include <math.h>

#include <poolproof/harness/test_schema.h>

#include "bars.h"

#define HOSTILE "<script>&\\\""
#define INTERVAL(value, low, high) "\"value\":" value ",\"low\":" low ",\"high\":" high
#define CONTROL(low, holds) "\"control\":{" INTERVAL("1", low, "1.1") ",\"holds\":" holds "},"

static const char report_json[] = "{\"format\":1,\"started\":\"2026-11-24T00:00:00Z\",\"rounds\":"
				  "14,\"seed\":1,"
				  "\"variant\":\"release\",\"confidence\":0.95,\"took_s\":720.5,"
				  "\"stolen_percent\":0.25,"
				  "\"machine\":{\"kernel\":\"" HOSTILE
				  "\",\"cpu\":\"c\",\"cpus\":2,\"memory_bytes\":4096},"
				  "\"versions\":{\"poolproof\":\"0\",\"sqlite\":\"3\",\"compiler\":"
				  "\"g\",\"allocator\":\"l\"},"
				  "\"verdict\":{\"result\":\"FAIL\",\"reason\":\"" HOSTILE
				  "\",\"exit\":1},"
				  "\"goals\":["
				  "{\"text\":\"quick\",\"row\":\"a/"
				  "1\",\"ours\":\"pool\",\"figure\":null,\"against_row\":null,"
				  "\"against\":null,\"relation\":\"<=\",\"limit\":40,\"result\":"
				  "\"MET\",\"sure\":true," INTERVAL("31.25", "30", "32") "},"
											 "{\"text\""
											 ":\"agains"
											 "t "
											 "peer\","
											 "\"row\":"
											 "\"a/"
											 "1\","
											 "\"ours\":"
											 "\"pool\","
											 "\"figure"
											 "\":null,"
											 "\"against"
											 "_row\":"
											 "null,"
											 "\"against"
											 "\":"
											 "\"peer\","
											 "\"relatio"
											 "n\":\">="
											 "\","
											 "\"limit\""
											 ":50,"
											 "\"result"
											 "\":"
											 "\"MISSED"
											 "\","
											 "\"sure\":"
											 "false"
											 "," INTERVAL("32",
                                                                                                      "31", "51") "},"
														  "{\"text\":\"tail\",\"row\":\"a/w\",\"ours\":\"pool\",\"figure\":\"p99.9_us\","
														  "\"against_row\":null,\"against\":\"peer\",\"relation\":\">=\",\"limit\":6,"
														  "\"result\":\"UNKNOWN\",\"sure\":false," INTERVAL(
															  "null", "null", "null") "}],"
																		  "\"tables\":[{\"name\":\"a\",\"title\":\"" HOSTILE
																		  "\",\"about\":\"all\",\"rows\":["
																		  "{\"name\":\"a/1\",\"about\":\"one\",\"figure\":\"ns\",\"more_is_better\":false,"
																		  "\"threads\":1,\"size\":0,\"take\":1," CONTROL("0.9", "true") "\"contenders\":["
																										"{\"name\":\"pool\",\"kind\":\"ours\",\"about\":\"o\",\"variant\":\"release\"," INTERVAL("31.25", "30", "32") ",\"figures\":{\"per_s\":32000000}},"
																																							      "{\"name\":\"peer\",\"kind\":\"peer\",\"about\":\"p\",\"variant\":\"release\"," INTERVAL("1000", "900", "1100") ",\"ratio\":{" INTERVAL("32",
                                                                                                                                                                                                                                                                                                                                                                                                                                                                      "31", "51") "},"
																																																										  "\"figures\":{\"p99.9_us\":2.5,\"p99_us\":null,\"per_s\":1}},"
																																																										  "{\"name\":\"broken\",\"kind\":\"peer\",\"about\":\"b\",\"variant\":\"release\","
																																																										  "\"failed\":\"" HOSTILE "\"},"
																																																										  "{\"name\":\"wall\",\"kind\":\"limit\",\"about\":\"nobody is faster\","
																																																										  "\"variant\":\"release\"," INTERVAL(
																																																											  "7.125",
																																																											  "7",
																																																											  "8") ",\"figures\":{}}]},"
																																																											       "{\"name\":\"a/w\",\"about\":\"rate\",\"figure\":\"per_s\",\"more_is_better\":true,"
																																																											       "\"threads\":2,\"size\":0,\"take\":0," CONTROL(
																																																												       "1.01", "false") "\"contenders\":["
																																																															"{\"name\":\"pool\",\"kind\":\"ours\",\"about\":\"o\",\"variant\":\"release\"," INTERVAL(
																																																																"1500",
																																																																"1400",
																																																																"1600") ",\"figures\":{}}]},"
																																																																	"{\"name\":\"g/n-1\",\"about\":\"things: 1\",\"figure\":\"ms\",\"more_is_better\":false,"
																																																																	"\"threads\":1,\"size\":1,\"take\":0," CONTROL(
																																																																		"0.9", "true") "\"contenders\":["
																																																																			       "{\"name\":\"pool\",\"kind\":\"ours\",\"about\":\"o\",\"variant\":\"release\"," INTERVAL(
																																																																				       "2.5",
																																																																				       "2",
																																																																				       "3") ",\"figures\":{}}]},"
																																																																					    "{\"name\":\"g/n-16\",\"about\":\"things: 16\",\"figure\":\"ms\",\"more_is_better\":false,"
																																																																					    "\"threads\":1,\"size\":16,\"take\":0," CONTROL(
																																																																						    "0.9", "true") "\"contenders\":["
																																																																								   "{\"name\":\"pool\",\"kind\":\"ours\",\"about\":\"o\",\"variant\":\"release\"," INTERVAL(
																																																																									   "3.5", "3", "4") ",\"figures\":{}}]}]}]}";

static int page(struct fixture *f, const char *json)
{
	fixture_write(f, "b/report.json", json);
	return fixture_command(f, "bench-page", fixture_path(f, "b/report.json"), NULL);
}

static unsigned occurrences(const char *text, const char *part)
{
	unsigned count = 0;

	for (; (text = strstr(text, part)) != NULL; text++)
		count++;
	return count;
}

TEST(bench, page_says_all_that_was_measured)
{
	static const char *const said[] = {
		"FAIL</span></h1>",
		"✔ MET",
		"✘ MISSED",
		"? UNKNOWN",
		"the interval holds the limit",
		"31.2 [30.0, 32.0]",
		"≥ 50.0",
		"1 us, ours × 32.0 [31.0, 51.0]",
		"failed: &lt;script&gt;",
		"limit, nobody is faster: 7.12 ns",
		"goal of pool, quick: 40 ns",
		"goal of pool, against peer: 20 ns",
		"2.50 us",
		"1,500 /s",
		"; measured a second time",
		"which is not to be trusted",
		"2.50 ms",
		"3.50 ms",
		"things: 16</th>",
		"14 rounds",
		"95 % intervals",
		"4,096",
		"0.25",
	};
	CLEANUP(fixture_close) struct fixture f = fixture_open();
	const char *html;

	CHECK_INT(page(&f, report_json), ==, REPORT_PASS);
	CHECK_CONTAINS(f.out, "b/index.html");
	html = fixture_read(&f, "b/index.html");
	for (size_t i = 0; i < sizeof said / sizeof *said; i++)
		CHECK_MSG(strstr(html, said[i]) != NULL, "the page does not say \"%s\"", said[i]);
	/* Two rows and one figure for the two that differ in size. */
	CHECK_INT(occurrences(html, "<svg"), ==, 3);
	CHECK(strstr(html, "<script") == NULL && strstr(html, "http") == NULL);
	CHECK(strstr(html, "nan") == NULL && strstr(html, "NAN") == NULL);
}

/* What the test feeds to the page is what the benchmark writes. */
TEST(bench, page_is_made_of_what_the_schema_says)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open();
	const char *path = report_print(&f.arena, "%.*s../bench-1.schema.json",
	                                (int)(report_basename(__FILE__) - __FILE__), __FILE__);
	json_t *schema = json_load_file(path, 0, NULL);
	json_t *value = json_loads(report_json, 0, NULL);

	CHECK_MSG(schema != NULL && value != NULL, "%s", path);
	test_schema(schema, value, "report");
	json_decref(value);
	json_decref(schema);
}

TEST(bench, page_goes_where_it_is_told)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open();

	fixture_write(&f, "build/bench/report.json", report_json);
	CHECK_INT(fixture_command(&f, "bench-page", "--out", fixture_path(&f, "x.html"), NULL), ==,
	          REPORT_PASS);
	CHECK_CONTAINS(fixture_read(&f, "x.html"), "<h1>");
	CHECK_INT(fixture_command(&f, "bench-page", "--out", fixture_path(&f, "no/x.html"), NULL),
	          ==, REPORT_CANNOT);
	f.disk = 100;
	CHECK_INT(fixture_command(&f, "bench-page", NULL), ==, REPORT_CANNOT);
}

static const char *const no_reports[] = { "{", "{}", "{\"format\":1}",
	                                  "{\"format\":2,\"tables\":[]}" };

TEST_ROWS(bench, what_is_no_report_is_refused, sizeof no_reports / sizeof *no_reports)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open();

	CHECK_INT(page(&f, no_reports[row]), ==, REPORT_USAGE);
	CHECK_CONTAINS(f.err, "report");
}

TEST(bench, page_wants_one_report)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open();

	CHECK_INT(fixture_command(&f, "bench-page", "a", "b", NULL), ==, REPORT_USAGE);
	CHECK_INT(fixture_command(&f, "bench-page", "--out", "", NULL), ==, REPORT_USAGE);
	CHECK_INT(fixture_command(&f, "bench-page", "--nothing", NULL), ==, REPORT_USAGE);
}

/* --- Bars -------------------------------------------------------------------------------- */

static const char *drawn(struct fixture *f, const struct report_bars *bars)
{
	const char *path = fixture_path(f, "bars");
	FILE *out = fopen(path, "w");

	CHECK(out != NULL);
	report_bars_write(out, bars);
	fclose(out);
	return fixture_read(f, "bars");
}

/* The longest thing is the whisker at 20: 460 wide, from 130 on. */
TEST(bars, have_one_measure)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open();
	const char *svg = drawn(
		&f, &(struct report_bars){ .title = "t",
	                                   .about = "a",
	                                   .bars = { { "one", "1", 10, 5, 20, true },
	                                             { "two", "2", 5, NAN, NAN, false },
	                                             { "none", "-", NAN, NAN, NAN, false } },
	                                   .bar_count = 3,
	                                   .marks = { { "limit", 4, -1 }, { "far", 1000, 0 } },
	                                   .mark_count = 2 });

	CHECK_CONTAINS(svg, "width=\"230.0\"");
	CHECK_CONTAINS(svg, "width=\"115.0\"");
	CHECK_INT(occurrences(svg, "<rect"), ==, 2);
	CHECK_CONTAINS(svg, "H590.0");  /* The whisker's end. */
	CHECK_CONTAINS(svg, "M222.0 "); /* The limit, through all bars. */
	CHECK_CONTAINS(svg, ">far<");   /* In words only: it would squeeze the bars. */
	CHECK(strstr(svg, "nan") == NULL);
}

TEST(bars, stretch_for_a_goal_that_is_near)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open();
	const char *svg =
		drawn(&f, &(struct report_bars){ .title = "t",
	                                         .about = "a",
	                                         .bars = { { "one", "1", 10, NAN, NAN, true } },
	                                         .bar_count = 1,
	                                         .marks = { { "goal", 15, 0 } },
	                                         .mark_count = 1 });

	CHECK_CONTAINS(svg, "width=\"306.7\"");
	CHECK_CONTAINS(svg, "M590.0 ");
	CHECK_CONTAINS(svg, "<text x=\"598.0\""); /* The words are behind it. */
	CHECK_CONTAINS(drawn(&f, &(struct report_bars){ .title = "nothing", .about = "" }), "<svg");
}
