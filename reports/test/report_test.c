/* The page, report.json and junit.xml: hostile words, same bytes, well-formed. */
/* SPDX-License-Identifier: MIT */
#include "fixture.h"

#include <libxml/parser.h>
#include <libxml/xpath.h>
#include <math.h>
#include <sys/stat.h>
#include <unistd.h>

#include <poolproof/harness/test_schema.h>

#include "chart.h"

#define HOSTILE "<script>alert(1)</script>&\\\"'\\u0001"

static const char *hostile_run(struct fixture *f)
{
	static const uint64_t values[] = { 10, 2000, 300000, 40000000 };
	const char *path = fixture_run(
		f, (struct fixture_run){
			   .name = "h",
			   .scenario = HOSTILE,
			   .verdict = "{\"result\":\"FAIL\",\"reasons\":[{\"result\":\"FAIL\","
				      "\"text\":\"" HOSTILE "\"}]}",
			   .numbers = "{\"" HOSTILE "_count\":1,\"heap.leaked_bytes\":16}" });

	fixture_write(f, "h/latency.hlog",
	              report_print(&f->arena, "%s%s",
	                           fixture_hlog_line(f, "<script>", 0, values, 4),
	                           fixture_hlog_line(f, "operation", 0, values, 4)));
	fixture_write(f, "h/memory.csv", "time_s,rss_bytes\n0.1,1000\n0.2,3000\n0.3,2000\n");
	fixture_write(f, "h/leaks/memcheck.1.xml",
	              "<?xml version=\"1.0\"?><valgrindoutput><tool>memcheck</tool><error><kind>"
	              "Leak_DefinitelyLost</kind><xwhat><text>&lt;script&gt;</text><leakedbytes>16"
	              "</leakedbytes><leakedblocks>1</leakedblocks></xwhat><stack><frame><fn>"
	              "&lt;script&gt;</fn></frame></stack></error></valgrindoutput>");
	return path;
}

static int report(struct fixture *f, const char *run, const char *out)
{
	return fixture_command(f, "report", run, "--out", fixture_path(f, out), NULL);
}

TEST(report, escapes_what_is_foreign)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open();
	const char *page;

	CHECK_INT(report(&f, hostile_run(&f), "out"), ==, REPORT_PASS);
	page = fixture_read(&f, "out/index.html");
	CHECK(strstr(page, "<script") == NULL);
	CHECK_CONTAINS(page, "&lt;script&gt;alert(1)&lt;/script&gt;&amp;&quot;&#39;\xef\xbf\xbd");
	/* The verdict is the first heading, and nothing comes from elsewhere. */
	CHECK_CONTAINS(strstr(page, "<h1>"), "FAIL");
	CHECK(strstr(page, "http") == NULL && strstr(page, "url(") == NULL);
	CHECK(strstr(page, " style=") == NULL);
}

TEST(report, is_well_formed_for_machines)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open();
	xmlXPathContextPtr context;
	xmlXPathObjectPtr found;
	json_t *json;
	xmlDocPtr doc;

	CHECK_INT(report(&f, hostile_run(&f), "out"), ==, REPORT_PASS);
	json = json_loads(fixture_read(&f, "out/report.json"), JSON_REJECT_DUPLICATES, NULL);
	CHECK_INT(json_integer_value(json_object_get(json, "format")), ==, 1);
	CHECK_INT(json_array_size(json_object_get(json, "runs")), ==, 1);
	CHECK_INT(json_array_size(json_object_get(json, "leaks")), ==, 1);
	json_decref(json);

	doc = xmlReadFile(fixture_path(&f, "out/junit.xml"), NULL, XML_PARSE_NONET);
	CHECK(doc != NULL);
	context = xmlXPathNewContext(doc);
	found = xmlXPathEvalExpression(
		BAD_CAST
		"//testcase[@classname='runs']/failure[contains(.,'repeat: poolproof run')]",
		context);
	CHECK_INT(found->nodesetval->nodeNr, ==, 1);
	xmlXPathFreeObject(found);
	xmlXPathFreeContext(context);
	xmlFreeDoc(doc);
}

TEST(report, json_follows_its_schema)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open();
	const char *path = report_print(&f.arena, "%.*s../report-1.schema.json",
	                                (int)(report_basename(__FILE__) - __FILE__), __FILE__);
	json_t *schema = json_load_file(path, 0, NULL), *value;

	CHECK_MSG(schema != NULL, "%s cannot be read", path);
	fixture_write(&f, "h/coverage.json",
	              "{\"files\":[{\"file\":\"a.c\",\"lines\":[],\"functions\":[]}]}");
	CHECK_INT(report(&f, hostile_run(&f), "out"), ==, REPORT_PASS);
	value = json_loads(fixture_read(&f, "out/report.json"), 0, NULL);
	test_schema(schema, value, "report");
	json_decref(value);
	json_decref(schema);
}

TEST(report, names_in_junit_hold_no_values)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open();
	const char *gates, *xml;

	fixture_run(&f, (struct fixture_run){ .name = "a" });
	fixture_run(&f, (struct fixture_run){ .name = "b" });
	gates = fixture_write(&f, "g", "[concurrent_load]\nfail operations >= 9999\n");
	CHECK_INT(fixture_command(&f, "report", fixture_path(&f, "a"), fixture_path(&f, "b"), "-g",
	                          gates, "-o", fixture_path(&f, "out"), NULL),
	          ==, REPORT_PASS);
	xml = fixture_read(&f, "out/junit.xml");
	CHECK_CONTAINS(xml, "classname=\"gates.concurrent_load\" name=\"fail operations on "
	                    "concurrent_load, release, poolproof\"><failure message=\"1,000 is");
	/* A second of the same name is numbered, or GitLab drops it. */
	CHECK_CONTAINS(xml, "poolproof (2)\">");
}

TEST(report, twice_gives_the_same_bytes)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open();
	static const char *const names[] = { "index.html", "report.json", "junit.xml" };
	const char *run = hostile_run(&f);

	CHECK_INT(report(&f, run, "one"), ==, REPORT_PASS);
	CHECK_INT(report(&f, run, "two"), ==, REPORT_PASS);
	for (int i = 0; i < 3; i++)
		CHECK_STR(fixture_read(&f, report_print(&f.arena, "one/%s", names[i])),
		          fixture_read(&f, report_print(&f.arena, "two/%s", names[i])));
	CHECK_CONTAINS(fixture_read(&f, "one/index.html"), "2023-11-14 22:13:20 UTC");
}

static const char *const no_runs[][2] = {
	{ "", "not a run: it has no run.json" },
	{ "{", "run.json:1: " },
	{ "{}", "\"format\" is not 1" },
	{ "{\"format\":1}", "\"scenario\", \"variant\" or \"numbers\" is missing" },
	{ "{\"format\":1,\"scenario\":\"x\",\"variant\":\"x\",\"numbers\":{}}",
	  "\"verdict\" has no" },
	{ "{\"format\":1,\"format\":1}", "duplicate" },
};

TEST_ROWS(report, what_is_no_run_is_refused, sizeof no_runs / sizeof *no_runs)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open();

	fixture_write(&f, "r/x", "");
	if (*no_runs[row][0] != '\0')
		fixture_write(&f, "r/run.json", no_runs[row][0]);
	CHECK_INT(report(&f, fixture_path(&f, "r"), "out"), ==, REPORT_USAGE);
	CHECK_CONTAINS(f.err, no_runs[row][1]);
	CHECK(!report_is_folder(fixture_path(&f, "out")));
}

TEST(report, that_cannot_be_written_says_so_and_leaves_nothing)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open();
	const char *run = fixture_run(&f, (struct fixture_run){ 0 });

	fixture_write(&f, "file", "");
	CHECK_INT(report(&f, run, "file/out"), ==, REPORT_CANNOT);
	CHECK_CONTAINS(f.err, "cannot make this folder");
	/* A folder stands where the file should be: the rename fails. */
	fixture_write(&f, "out/report.json/x", "");
	CHECK_INT(report(&f, run, "out"), ==, REPORT_CANNOT);
	CHECK_CONTAINS(f.err, "out/report.json: cannot be written");
	CHECK(access(fixture_path(&f, "out/index.html"), F_OK) != 0);
}

/* What was there stays whole, and nothing half is left beside it. */
TEST(report, that_finds_the_disk_full_changes_nothing)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open();
	static const char *const names[] = { "index.html", "junit.xml", "report.json" };
	const char *old = fixture_run(&f, (struct fixture_run){ .name = "old" });
	const char *before[3], **found;

	CHECK_INT(report(&f, old, "out"), ==, REPORT_PASS);
	for (int i = 0; i < 3; i++)
		before[i] = fixture_read(&f, report_print(&f.arena, "out/%s", names[i]));
	/* The page comes last and is the largest: the other two are written by then. */
	f.disk = strlen(before[0]) - 1;
	CHECK_INT(strlen(before[1]) + strlen(before[2]), <, f.disk);
	CHECK_INT(report(&f, hostile_run(&f), "out"), ==, REPORT_CANNOT);
	CHECK_CONTAINS(f.err, "out/index.html: cannot be written: ");
	CHECK(strchr(f.err, '\n') == f.err + strlen(f.err) - 1);
	CHECK_STR(f.out, "");
	CHECK_INT(report_list(&f.arena, fixture_path(&f, "out"), &found), ==, 3);
	for (int i = 0; i < 3; i++)
		CHECK_STR(fixture_read(&f, report_print(&f.arena, "out/%s", names[i])), before[i]);
	/* Nor does a folder in the place of the last. */
	f.disk = 0;
	CHECK(unlink(fixture_path(&f, "out/index.html")) == 0);
	fixture_write(&f, "out/index.html/x", "");
	CHECK_INT(report(&f, hostile_run(&f), "out"), ==, REPORT_CANNOT);
	CHECK_CONTAINS(f.err, "out/index.html: cannot be written: Is a directory");
	CHECK_STR(fixture_read(&f, "out/report.json"), before[2]);
}

/* Root may write everywhere; so the folder is made as somebody else. */
TEST(report, says_why_a_folder_cannot_be_made)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open();
	const char *error = "", *path = fixture_path(&f, "new");
	bool root = geteuid() == 0;

	CHECK(chmod(f.folder, 0555) == 0 && (!root || seteuid(65534) == 0));
	CHECK(!report_make_folder(&f.arena, path, &error));
	CHECK((!root || seteuid(0) == 0) && chmod(f.folder, 0700) == 0);
	CHECK_CONTAINS(error, "/new: cannot make this folder: Permission denied");
}

/* Where each of the words stands in the text, one after the other. */
static void check_order(const char *text, const char *const *words)
{
	for (; *words != NULL; words++) {
		CHECK_MSG(strstr(text, *words) != NULL, "%s is not there in its turn", *words);
		text = strstr(text, *words) + strlen(*words);
	}
}

/* Not by name, not by time, and coverage in its turn. */
TEST(report, shows_runs_as_they_are_given)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open();
	const char *c =
		fixture_run(&f, (struct fixture_run){ "c", .started = "2026-01-03T00:00:00Z" });
	const char *a = fixture_run(&f, (struct fixture_run){ "a", .scenario = "coverage",
	                                                      .variant = "coverage",
	                                                      .numbers = "{\"x_count\":1}" });
	const char *b = fixture_run(&f, (struct fixture_run){ "b", .variant = "tsan" });

	fixture_write(&f, "a/coverage.json",
	              "{\"files\":[{\"file\":\"a.c\",\"lines\":[],\"functions\":[]}]}");
	CHECK_INT(fixture_command(&f, "report", c, "-o", fixture_path(&f, "out"), a, b, NULL), ==,
	          REPORT_PASS);
	check_order(fixture_read(&f, "out/index.html"),
	            (const char *const[]){
			    "<h2 id=\"runs\">", "\"#r0\">concurrent_load, release",
			    "\"#r1\">coverage, poolproof<", "\"#r2\">concurrent_load, tsan",
			    "<h2 id=\"r0\">concurrent_load, release",
			    "<h2 id=\"r1\">coverage, poolproof</h2>", "<h3>Coverage</h3>",
			    "<h2 id=\"r2\">concurrent_load, tsan", NULL });
	check_order(fixture_read(&f, "out/report.json"),
	            (const char *const[]){ "\"runs\": [", "\"name\": \"c\"", "\"name\": \"a\"",
	                                   "\"name\": \"b\"", NULL });
}

TEST(report, says_over_what_no_leak_was_found)
{
	static const char *const words[] = { "census no leak over 1,234 operations; the heap ended "
		                             "where it began.</li>",
		                             "the heap ended where it began, and held 3,072 B at "
		                             "most.</li>" };
	CLEANUP(fixture_close) struct fixture f = fixture_open();
	const char *run =
		fixture_run(&f, (struct fixture_run){ .name = "r",
	                                              .numbers = "{\"operations_count\":1234,"
	                                                         "\"heap.leaked_bytes\":0}" });

	for (int i = 0; i < 2; i++) {
		const char *page;

		if (i == 1)
			fixture_write(&f, "r/memory.csv",
			              "time_s,heap_bytes\n0.1,1024\n0.2,3072\n0.3,2048\n");
		CHECK_INT(report(&f, run, "out"), ==, REPORT_PASS);
		page = strstr(fixture_read(&f, "out/index.html"), "<h2 id=\"leaks\">");
		page = report_copy(&f.arena, page, strcspn(page, "."));
		CHECK_CONTAINS(report_print(&f.arena, "%s.</li>", page), words[i]);
	}
}

TEST(report, says_once_what_is_skipped_for_one_reason)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open();
	const char *run = fixture_run(&f, (struct fixture_run){ .name = "r", .variant = "tsan" });
	const char *page, *end;

	fixture_write(&f, "r/coverage.json",
	              "{\"files\":[{\"file\":\"a.c\",\"lines\":[{\"line_number\":1,\"count\":1,"
	              "\"branches\":[{\"count\":1}]}],\"functions\":[]}]}");
	fixture_write(&f, "ci/gates.conf",
	              "[coverage]\nratchet coverage.lines\nratchet coverage.branches\n"
	              "[concurrent_load]\nfail errors == 0\nfail max(operation) <= 1 s\n"
	              "fail min(operation) <= 1 s\nfail errors == 7\nfail operations == 0\n"
	              "fail throughput(operations) >= baseline\n");
	CHECK_INT(report(&f, run, "out"), ==, REPORT_PASS);
	page = fixture_read(&f, "out/index.html");
	end = strstr(page, "</section>");
	check_order(page, (const char *const[]){ ">2 ratchets</a>: no record; run",
	                                         ">errors</a>: 0 is not", ">operations</a>: 1,000",
	                                         ">3 gates</a>: not judged, variant=tsan",
	                                         "</section>", NULL });
	page = strstr(page, "no record;");
	CHECK(page < end && strstr(page + 1, "no record;") > end);
}

/* Under memcheck the heap is not read; a line along 0 would say that it is empty. */
TEST(report, draws_what_was_measured)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open();
	const char *run = fixture_run(&f, (struct fixture_run){ .name = "r" }), *page;
	uint64_t two[2] = { 1, 2 }, other[2] = { 1, 3 };

	fixture_write(&f, "r/memory.csv",
	              "time_s,waiting_count,heap_bytes,pool_bytes\n0.1,0,0,10\n0.2,0,0,20\n");
	fixture_write(&f, "r/latency.hlog",
	              report_print(&f.arena, "%s%s", fixture_hlog_line(&f, "operation", 0, two, 2),
	                           fixture_hlog_line(&f, "service", 0, two, 2)));
	CHECK_INT(report(&f, run, "out"), ==, REPORT_PASS);
	page = fixture_read(&f, "out/index.html");
	check_order(page, (const char *const[]){ ">waiting, largest<", ">pool, largest<", NULL });
	CHECK(strstr(page, ">heap, largest<") == NULL);
	/* In a closed loop both are one line, in an open one they are two. */
	check_order(page,
	            (const char *const[]){ "<th scope=\"col\">operation = service</th>", NULL });
	fixture_write(&f, "r/latency.hlog",
	              report_print(&f.arena, "%s%s", fixture_hlog_line(&f, "operation", 0, two, 2),
	                           fixture_hlog_line(&f, "service", 0, other, 2)));
	CHECK_INT(report(&f, run, "out"), ==, REPORT_PASS);
	check_order(fixture_read(&f, "out/index.html"),
	            (const char *const[]){ "operation</th><th scope=\"col\">service</th>", NULL });
}

TEST(report, can_be_read_on_a_narrow_screen)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open();
	const char *page;

	CHECK_INT(report(&f, hostile_run(&f), "out"), ==, REPORT_PASS);
	page = fixture_read(&f, "out/index.html");
	CHECK_CONTAINS(page, "overflow-x:auto}figcaption");
	CHECK_CONTAINS(page, "figure svg,.wide>table{min-width:560px}");
	/* Every table stands in a frame of its own that scrolls. */
	for (const char *at = page; (at = strstr(at, "<table>")) != NULL; at++)
		CHECK(strncmp(at - 18, "<div class=\"wide\">", 18) == 0);
}

static const char *draw(struct fixture *f, const struct report_chart *chart)
{
	char *text;
	size_t size;
	FILE *out = open_memstream(&text, &size);
	const char *copy;

	report_chart_write(&f->arena, out, chart);
	fclose(out);
	copy = report_copy(&f->arena, text, size);
	free(text);
	return copy;
}

/* 100,000 points, one of them a spike, up or down: it is drawn, and the chart stays small. */
static const struct {
	double spike, rest;
	const char *drawn; /* At the upper or the lower edge. */
} spikes[] = { { 1000, 1, " 34.0L" }, { 0, 999, " 222.0L" } };

TEST_ROWS(chart, loses_no_spike, 2)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open();
	static double x[100000], y[100000];
	struct report_chart chart = { .title = "t", .about = "a", .count = 1 };
	const char *svg;

	for (int i = 0; i < 100000; i++) {
		x[i] = i;
		y[i] = i == 54321 ? spikes[row].spike : spikes[row].rest + i % 2;
	}
	chart.series[0] = (struct report_series){ "s", x, y, 100000 };
	svg = draw(&f, &chart);
	CHECK_CONTAINS(svg, spikes[row].drawn);
	CHECK_INT(strlen(svg), <, 40000);
	CHECK_CONTAINS(svg, "<td>1,000</td>");
	CHECK_CONTAINS(svg, "<title>t</title><desc>a</desc>");
}

/* Two intervals a row; one of them has too few samples for a p99.9. */
TEST(chart, has_no_largest_of_a_part_only)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open();
	double x[40], p99[40], p999[40];
	struct report_chart chart = { .title = "t", .about = "a", .count = 2 };
	const char *svg;

	for (int i = 0; i < 40; i++) {
		x[i] = i;
		p99[i] = i == 10 ? 1370 : 500;
		p999[i] = i == 10 ? NAN : 1210;
	}
	chart.series[0] = (struct report_series){ "p99", x, p99, 40 };
	chart.series[1] = (struct report_series){ "p99.9", x, p999, 40 };
	svg = draw(&f, &chart);
	check_order(svg,
	            (const char *const[]){ "<td>500</td><td>1,210</td>", "<td>1,370</td><td>–</td>",
	                                   "<td>500</td><td>1,210</td>", NULL });
	CHECK(strstr(svg, "<td>1,370</td><td>1,210</td>") == NULL);
}

TEST(chart, draws_the_first_on_top)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open();
	double x[2] = { 1, 2 }, y[2] = { 1, 2 };
	struct report_chart chart = { .title = "t", .about = "a", .count = 2 };

	chart.series[0] = (struct report_series){ "first", x, y, 2 };
	chart.series[1] = (struct report_series){ "second", x, y, 2 };
	check_order(draw(&f, &chart),
	            (const char *const[]){ ">first<", ">second<", "<path class=\"s1\" fill",
	                                   "<path class=\"s0\" fill", NULL });
}

TEST(chart, of_nothing_is_nothing)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open();
	double x = 1, y = NAN;
	struct report_chart chart = { .title = "t", .about = "a", .count = 1 };

	chart.series[0] = (struct report_series){ "s", &x, &y, 1 };
	CHECK_STR(draw(&f, &chart), "");
}

/* What was lost is seen at once, and so is what was never met; the median of three is none. */
TEST(report, tells_which_faults_were_survived)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open();
	static const uint64_t took[] = { 1000000, 2000000, 3000000 };
	const char *none = fixture_run(&f, (struct fixture_run){ .name = "n" });
	const char *run = fixture_run(
		&f,
		(struct fixture_run){
			.name = "r",
			.numbers =
				"{\"fault.<kill>.injected_count\":3,\"fault.<kill>.hit_count\":3,"
				"\"fault.<kill>.survived_count\":3,"
				"\"fault.disk.injected_count\":1234,\"fault.disk.hit_count\":7,"
				"\"fault.disk.survived_count\":1233,"
				"\"fault.mute.injected_count\":5,\"fault..injected_count\":5,"
				"\"fault.never.injected_count\":9,\"fault.never.hit_count\":0,"
				"\"fault.never.survived_count\":9}" });
	const char *page;

	fixture_write(&f, "r/latency.hlog", fixture_hlog_line(&f, "recovery.<kill>", 0, took, 3));
	CHECK_INT(report(&f, none, "out"), ==, REPORT_PASS);
	CHECK(strstr(fixture_read(&f, "out/index.html"), "Faults survived") == NULL);
	CHECK_INT(fixture_command(&f, "report", none, run, "-o", fixture_path(&f, "out"), NULL), ==,
	          REPORT_PASS);
	page = fixture_read(&f, "out/index.html");
	check_order(page, (const char *const[]){
				  "<h2 id=\"faults\">", "PASS</span></td><td><a href=\"#r1\">",
				  ">&lt;kill&gt;</th><td class=\"n\">3</td><td class=\"n\">3</td>"
				  "<td class=\"n\">3</td><td class=\"n\">n too small</td>",
				  "<td class=\"n\">3", "FAIL</span>",
				  ">disk</th><td class=\"n\">1,234</td><td class=\"n\">7</td>"
				  "<td class=\"n\">1,233</td><td class=\"n\"></td>",
				  "FAIL</span>", ">mute</th>", "no data", "UNTRUSTWORTHY</span>",
				  ">never</th>", "</table>", "<h2 id=\"leaks\">", NULL });
	CHECK(strstr(strstr(page, "id=\"faults\""), "></th>") == NULL);
}
