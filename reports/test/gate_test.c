/* The gate language: what it refuses, and how it judges. */
/* SPDX-License-Identifier: MIT */
#include "fixture.h"

#include <sys/stat.h>
#include <unistd.h>

static const struct {
	const char *line, *words;
} refused[] = {
	{ "fial errors == 0", ":3: a line begins with fail, warn, ratchet, component or [, not "
	                      "\"fial\" (did you mean \"fail\"?)" },
	{ "fail", ":3: a metric is expected" },
	{ "fail eror == 0", ":3: unknown name \"eror\" (did you mean \"errors\"?)" },
	{ "fail heap.residu == 0 B", "(did you mean \"heap.residue\"?)" },
	{ "fail slope(rss) <= 1", ":3: unknown function \"slope\"; known: p50, p90, p99" },
	{ "fail p99.9.9(operation) < 1 s", ":3: unknown function \"p99.9.9\"" },
	{ "fail p100(operation) < 1 s", ":3: p100: a percentile lies between" },
	{ "fail mx(operation) < 1 s", "(did you mean \"max\"?)" },
	{ "fail p99(operation <= 1 ms", ":3: \")\" is missing" },
	{ "fail p99() <= 1 ms", ":3: a name is expected inside" },
	{ "fail errors", ":3: an operator and a limit are expected" },
	{ "fail errors = 0", ":3: unknown operator \"=\" (did you mean \"==\"?)" },
	{ "fail errors == none", ":3: a number is expected, not \"none\"" },
	{ "fail errors == 1e999", ":3: a number is expected" },
	{ "fail errors == nan", ":3: a number is expected" },
	{ "fail errors == 0x10", ":3: a number is expected, not \"0x10\"" },
	{ "fail errors == 0 ms", ":3: the limit \"== 0 ms\" has the wrong unit: errors is measured "
	                         "in a count" },
	{ "fail p99(operation) <= 1", "is measured in a time in ns, us, ms or s" },
	{ "fail p99(operation) <= 1 msec", ":3: unknown unit \"msec\" (did you mean \"ms\"?)" },
	{ "fail heap.residue == 1 KB", ":3: unknown unit \"KB\"" },
	{ "fail heap.residue == 1", "is measured in B, KiB" },
	{ "fail p99(heap.residue) < 1 ms", ":3: heap.residue is one number, not a histogram" },
	{ "fail operation < 1 ms", ":3: operation is a histogram: write p99(operation)" },
	{ "fail count(heap.residue) == 0", ":3: heap.residue is not a count" },
	{ "fail errors{king=busy} == 0", ":3: unknown label \"king\" (did you mean \"kind\"?)" },
	{ "fail errors{kind=buzy} == 0", "unknown name \"errors.buzy\" (did you mean" },
	{ "fail errors{kind} == 0", ":3: a label is written {name=value}" },
	{ "fail errors{kind=busy == 0", ":3: the labels lack their \"}\"" },
	{ "fail errors{state=new} == 0", ":3: label \"state\" means nothing to errors" },
	{ "fail leak.bytes{kind=definit} == 0 B", "(did you mean \"definite\"?)" },
	{ "fail leak.bytes{kind=definite,kind=possible} == 0 B", "\"kind\" is given twice" },
	{ "fail coverage.lines{component=pol} >= 1 %",
	  ":3: unknown component \"pol\" (did you mean "
	  "\"pool\"?)" },
	{ "fail errors == 0 whn variant=release",
	  ":3: unknown option \"whn\" (did you mean \"when\"?); known: when variant=, under=, "
	  "target=; "
	  "conf=" },
	{ "fail errors == 0 wen variant=release",
	  ":3: unknown option \"wen\" (did you mean \"when\"?)" },
	{ "fail p99(operation) <= 1 s cnf=99%",
	  ":3: unknown option \"cnf\" (did you mean \"conf\"?)" },
	{ "ratchet coverage.lines wen variant=release", ":3: unknown option \"wen\"" },
	{ "fail errors == 0 when variant", ":3: option variant lacks its value" },
	{ "fail p99(operation) <= 1.2.3 ms", ":3: bad number \"1.2.3\"" },
	{ "fail operations <= 1,000", ":3: bad number \"1,000\"" },
	{ "fail operations <= baseline * 1.2.3", ":3: bad number \"1.2.3\"" },
	{ "fail errors == 0 when varian=release", ":3: unknown option \"varian\"" },
	{ "fail errors == 0 when variant=relase", "(did you mean \"release\"?)" },
	{ "fail errors == 0 when under=vg", ":3: unknown tool \"vg\"" },
	{ "fail p99(operation) <= 1 s conf=200%", ":3: conf= is a percentage from 50 to 99.9" },
	{ "fail max(operation) <= 1 s conf=99%", ":3: conf= is known for percentiles only" },
	{ "fail rate(errors) <= 1 %", ":3: rate is written rate(A / B)" },
	{ "ratchet coverage.lines >= 1 %", ":3: ratchet takes no limit" },
	{ "ratchet errors", ":3: ratchet is for coverage.lines" },
	{ "ratchet coverage.lines tolerance=6", ":3: tolerance= is 0 to 5 points" },
	{ "ratchet coverage.lines tolerance=x", ":3: " },
	{ "fail errors == 0 tolerance=1", ":3: tolerance= is for ratchet lines only" },
	{ "component pool = x", ":3: component pool is defined twice" },
	{ "component other =", ":3: component other has no files" },
	{ "[concurrent_lod]\nfail errors == 0",
	  ":4: unknown section [concurrent_lod] (did you mean "
	  "\"concurrent_load\"?)" },
	{ "[a b]", ":3: a section is written [NAME]" },
	{ "fail errors == 0 $", ":3: \"$\" is not understood here" },
};

/* One clear line with file and line, exit 2, and nothing judged. */
TEST_ROWS(gate_file, a_slip_is_named, sizeof refused / sizeof *refused)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open();
	const char *run = fixture_run(&f, (struct fixture_run){ 0 });
	const char *gates = fixture_write(
		&f, "gates.conf",
		report_print(&f.arena, "component pool = pool/src/**\n[concurrent_load]\n%s\n",
	                     refused[row].line));

	/* A scenario that exists, so that a wrong section can be told. */
	fixture_write(&f, "build/release/scenarios/concurrent_load", "#!/bin/sh\n");
	CHECK(chmod(fixture_path(&f, "build/release/scenarios/concurrent_load"), 0755) == 0);
	CHECK_INT(fixture_command(&f, "gate", "--gates", gates, run, NULL), ==, REPORT_USAGE);
	CHECK_CONTAINS(f.err, gates);
	CHECK_CONTAINS(f.err, refused[row].words);
	CHECK(strchr(f.err, '\n') == f.err + strlen(f.err) - 1);
	CHECK_STR(f.out, "");
}

/* What no terminal should be sent is not repeated to it. */
TEST(gate_file, that_is_no_text_is_refused_unread)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open();
	static const char *const files[] = { "\177ELF\2\1", "\n\x1b]0;title\x07\n",
		                             "# M\xfcller\n" };
	static const char *const words[] = { "g:1: not a text file", "g:2: not a text file",
		                             "g:1: not a text file" };
	const char *run = fixture_run(&f, (struct fixture_run){ 0 });

	for (int i = 0; i < 3; i++) {
		const char *gates = fixture_write(&f, "g", files[i]);

		CHECK_INT(fixture_command(&f, "gate", run, "-g", gates, NULL), ==, REPORT_USAGE);
		CHECK_CONTAINS(f.err, words[i]);
		CHECK(strpbrk(f.err, "\x1b\x07\x7f\xfc") == NULL);
	}
	/* A NUL in the middle would hide what follows it. */
	CHECK(truncate(fixture_write(&f, "g", "[concurrent_load]\n"), 40) == 0);
	CHECK_INT(fixture_command(&f, "gate", run, "-g", fixture_path(&f, "g"), NULL), ==,
	          REPORT_USAGE);
	CHECK_CONTAINS(f.err, "g:2: not a text file");
	CHECK_INT(fixture_command(&f, "gate", run, "-e", "errors == \x1b[31m", NULL), ==,
	          REPORT_USAGE);
	CHECK(strchr(f.err, '\x1b') == NULL);
	fixture_write(&f, "g", "# M\xc3\xbcller\r\n[concurrent_load]\r\nfail errors == 0\r\n");
	CHECK_INT(fixture_command(&f, "gate", run, "-g", fixture_path(&f, "g"), NULL), ==,
	          REPORT_PASS);
}

static const char *const gateless[] = { "", "# nothing\n\n", "component pool = pool/src/**\n",
	                                "[concurrent_load]\n# fail errors == 0\n" };

/* What asks nothing is answered by every run. */
TEST_ROWS(gate_file, without_a_gate_is_refused, sizeof gateless / sizeof *gateless)
{
	static const char *const commands[] = { "gate", "report" };
	CLEANUP(fixture_close) struct fixture f = fixture_open();
	const char *run = fixture_run(&f, (struct fixture_run){ 0 });
	const char *gates = fixture_write(&f, "g.conf", gateless[row]);

	for (int i = 0; i < 2; i++) {
		CHECK_INT(fixture_command(&f, commands[i], run, "-g", gates, NULL), ==,
		          REPORT_USAGE);
		CHECK_CONTAINS(f.err, "/g.conf: no gate in it; write one, such as \"fail errors == "
		                      "0\" below \"[concurrent_load]\"\n");
		CHECK(strchr(f.err, '\n') == f.err + strlen(f.err) - 1);
		CHECK_STR(f.out, "");
	}
	/* One on the command line is a gate; and names are asked for before the first is written.
	 */
	CHECK_INT(fixture_command(&f, "gate", run, "-g", gates, "-e", "errors == 0", NULL), ==,
	          REPORT_PASS);
	CHECK_INT(fixture_command(&f, "gate", "--names", run, "-g", gates, NULL), ==, REPORT_PASS);
}

static const char *const unreadable[][2] = {
	{ "/", "poolproof: /: Is a directory; name a gate file by --gates FILE\n" },
	{ "", "poolproof: --gates '': No such file or directory; name a gate file by --gates "
	      "FILE\n" },
	{ "no.conf", "poolproof: no.conf: No such file or directory; name a gate file by --gates "
	             "FILE\n" },
};

TEST_ROWS(gate_file, that_cannot_be_read_says_what_to_do, sizeof unreadable / sizeof *unreadable)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open();
	const char *run = fixture_run(&f, (struct fixture_run){ 0 });

	CHECK_INT(fixture_command(&f, "gate", run, "-g", unreadable[row][0], NULL), ==,
	          REPORT_USAGE);
	CHECK_STR(f.err, unreadable[row][1]);
}

TEST(gate_file, is_found_in_the_tree_the_build_is_in)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open();
	const char *run = fixture_run(&f, (struct fixture_run){ 0 });

	CHECK_INT(fixture_command(&f, "gate", run, NULL), ==, REPORT_USAGE);
	CHECK_CONTAINS(f.err, "ci/gates.conf: No such file or directory; name a gate file by");
	/* The command is <folder>/tree/build/release, and called in <folder>. */
	fixture_write(&f, "tree/ci/gates.conf", "[concurrent_load]\nfail operations > 9000\n");
	fixture_write(&f, "tree/build/release/x", "");
	CHECK(symlink(fixture_path(&f, "tree/build"), fixture_path(&f, "build")) == 0);
	CHECK_INT(fixture_command(&f, "gate", run, "-x", NULL), ==, REPORT_FAIL);
	CHECK_CONTAINS(f.out, "/tree/ci/gates.conf:2: operations");
	/* The one that is here comes first. */
	fixture_write(&f, "ci/gates.conf", "[concurrent_load]\nfail errors == 0\n");
	CHECK_INT(fixture_command(&f, "gate", run, "-x", NULL), ==, REPORT_PASS);
	CHECK_CONTAINS(f.out, " ci/gates.conf:2: errors == 0");
}

/* The only test that knows the project's own gates. */
TEST(gate_file, of_this_project_can_be_read)
{
	struct report_arena arena = { 0 };
	struct report_gates gates = { 0 };
	const char *error = "", *path;

	path = report_print(&arena, "%.*s../../ci/gates.conf",
	                    (int)(report_basename(__FILE__) - __FILE__), __FILE__);
	CHECK_MSG(report_gates_read(&arena, path, &gates, &error), "%s", error);
	CHECK_INT(gates.count, >, 0);
	report_arena_done(&arena);
}

TEST(gate_file, a_gate_needs_a_section)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open();
	struct report_gates gates = { 0 };
	const char *error = "";

	fixture_write(&f, "g", "\n# comment\nfail errors == 0 # more\n");
	CHECK(!report_gates_read(&f.arena, fixture_path(&f, "g"), &gates, &error));
	CHECK_CONTAINS(error, "g:3: a gate stands in a section");
}

TEST(gate_file, what_is_read_is_what_was_written)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open();
	struct report_gates gates = { 0 };
	const struct report_gate *g;
	const char *error = "";

	fixture_write(&f, "g",
	              "component pool = pool/src/** !pool/src/x.c\n[s]\n"
	              "warn p99.9(acquire.wait) <= 20 ms conf=99% when variant=release under=none\n"
	              "fail throughput(operations) >= baseline * 0.95\n"
	              "fail leak.bytes{kind=definite, state=new} < 1.5 KiB # why\n");
	CHECK_MSG(report_gates_read(&f.arena, fixture_path(&f, "g"), &gates, &error), "%s", error);
	CHECK_INT(gates.count, ==, 3);
	g = &gates.items[0];
	CHECK(g->severity == REPORT_SEVERITY_WARN && g->function == REPORT_PERCENTILE);
	CHECK(g->percent == 99.9 && g->limit == 20e6 && g->op == REPORT_LE);
	CHECK(g->confidence == 99 && g->when_count == 2);
	CHECK_STR(g->left, "p99.9(acquire.wait)");
	CHECK_STR(g->right, "<= 20 ms");
	CHECK(gates.items[1].against_baseline && gates.items[1].limit == 0.95);
	CHECK_INT(gates.items[2].label_count, ==, 2);
	CHECK(gates.items[2].limit == 1536 && gates.items[2].limit_unit == REPORT_BYTES);
	CHECK(report_component_has(&gates.components[0], "pool/src/a/b.c"));
	CHECK(!report_component_has(&gates.components[0], "pool/src/x.c"));
}

/* 20,000 values of 1 us to 20 ms; 1,500 of 1 ms to 1.5 s. */
static const char *measured_run(struct fixture *f, struct fixture_run run)
{
	static uint64_t many[20000], few[1500];
	const char *path = fixture_run(f, run);

	for (size_t i = 0; i < 20000; i++)
		many[i] = (i + 1) * 1000;
	for (size_t i = 0; i < 1500; i++)
		few[i] = (i + 1) * 1000000;
	fixture_write(f, report_print(&f->arena, "%s/latency.hlog", report_basename(path)),
	              report_print(&f->arena, "%s%s",
	                           fixture_hlog_line(f, "acquire.wait", 0, many, 20000),
	                           fixture_hlog_line(f, "transaction", 0, few, 1500)));
	return path;
}

static const struct {
	const char *gate;
	int code;
	const char *words;
} judged[] = {
	{ "errors == 0", REPORT_PASS, "PASS" },
	{ "count(errors) == 0", REPORT_PASS, "" },
	{ "count(errors{kind=busy}) == 0", REPORT_PASS, "" },
	{ "errors{kind=b*} > 0", REPORT_FAIL, "0 is not > 0" },
	{ "operations != 1000", REPORT_FAIL, "1,000 is not != 1000" },
	{ "operations >= 1 k", REPORT_PASS, "" },
	{ "heap.residue == 0 B", REPORT_PASS, "" },
	{ "heap.leaked == 0 B", REPORT_FAIL, "the run has no heap.leaked" },
	{ "throughput(operations) >= 0.5 k/s", REPORT_PASS, "" },
	{ "throughput(operations) > 500 /s", REPORT_FAIL, "" },
	{ "rate(errors / operations) <= 0.1 %", REPORT_PASS, "0.00 %" },
	{ "rate(errors / errors) <= 0.1 %", REPORT_FAIL, "no data: errors is 0" },
	{ "p50(acquire.wait) <= 10.01 ms", REPORT_PASS, "" },
	{ "p50(acquire.wait) < 9.9 ms", REPORT_FAIL, "is not < 9.9 ms" },
	{ "p99.9(acquire.wait) <= 20 ms", REPORT_PASS, "" },
	{ "p99.99(acquire.wait) <= 20 ms", REPORT_UNTRUSTWORTHY,
	  "n too small: 20,000 samples, p99.99 needs 100,000" },
	{ "p99.9(transaction) <= 9 s", REPORT_UNTRUSTWORTHY, "n too small" },
	{ "max(transaction) <= 1.51 s", REPORT_PASS, "" },
	{ "min(transaction) >= 990 us", REPORT_PASS, "" },
	{ "avg(transaction) <= 760 ms", REPORT_PASS, "" },
	{ "count(transaction) == 1500", REPORT_PASS, "1,500" },
	{ "p99(commit) <= 1 s", REPORT_FAIL, "no data: commit was never recorded" },
	/* p50 of 20,000 lies in ranks 10,000 ± 141 z. */
	{ "p50(acquire.wait) <= 10.05 ms conf=99%", REPORT_PASS, "undecided" },
	{ "p50(acquire.wait) <= 11 ms conf=99%", REPORT_PASS, "PASS: 2 passed" },
	{ "p50(acquire.wait) <= 9 ms conf=99%", REPORT_FAIL, "" },
	{ "p99(acquire.wait) <= baseline * 1.10", REPORT_UNTRUSTWORTHY, "no baseline; give one" },
	{ "warn errors > 0", REPORT_PASS, "WARN" },
	{ "errors == 0 when variant=asan", REPORT_FAIL, "no run was given with variant=asan" },
};

TEST_ROWS(judgement, is_right, sizeof judged / sizeof *judged)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open();
	const char *run = measured_run(&f, (struct fixture_run){ 0 });
	int code = fixture_command(&f, "gate", run, "--gate", judged[row].gate, NULL);

	CHECK_MSG(code == judged[row].code, "%s: exit %d\n%s%s", judged[row].gate, code, f.out,
	          f.err);
	CHECK_CONTAINS(f.out, judged[row].words);
	for (const char *line = f.out; *line != '\0'; line = strchr(line, '\n') + 1)
		CHECK_INT(strcspn(line, "\n"), <=, 80);
}

static const struct {
	const char *what, *verdict;
	int code;
	const char *words;
} own[] = {
	{ "passes", "{\"result\":\"PASS\",\"reasons\":[]}", REPORT_PASS, "PASS: " },
	{ "fails",
	  "{\"result\":\"FAIL\",\"reasons\":[{\"result\":\"FAIL\",\"text\":\"two holders\"}]}",
	  REPORT_FAIL, "two holders" },
	{ "lagged",
	  "{\"result\":\"UNTRUSTWORTHY\",\"reasons\":[{\"text\":\"the generator lagged\"}]}",
	  REPORT_UNTRUSTWORTHY, "the generator lagged" },
	{ "says nothing", "{\"result\":\"FAIL\"}", REPORT_FAIL, "the run gives no reason" },
};

TEST_ROWS(judgement, a_runs_own_verdict_counts, sizeof own / sizeof *own)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open();
	const char *run = fixture_run(&f, (struct fixture_run){ .verdict = own[row].verdict });

	CHECK_INT(fixture_command(&f, "gate", run, "--gate", "errors == 0", NULL), ==,
	          own[row].code);
	CHECK_CONTAINS(f.out, own[row].words);
}

static const struct {
	const char *what, *log, *numbers; /* log NULL: there is none. */
	const char *words;
} logs[] = {
	{ "missing", NULL, "{\"operations_count\":1000}",
	  "latency.hlog is missing, but run.json counts 1,000 values" },
	{ "missing, and nothing but a tag counts", NULL, "{\"commit.count\":7}",
	  "latency.hlog is missing, but run.json counts 7 values" },
	{ "empty", "", "{\"operations_count\":1000}", "latency.hlog is empty" },
	{ "no line but the head", "#[StartTime: 1 (seconds since epoch)]\n",
	  "{\"operations_count\":1000}", "latency.hlog is empty" },
	{ "damaged", "Tag=operation,0,1,0,HISTxx\n", "{\"operations_count\":1000}",
	  "latency.hlog:1" },
	{ "without one tag", "Tag=commit,", "{\"commit.count\":1,\"operation.count\":1}",
	  "latency.hlog holds 0 values of operation, run.json says 1" },
};

/* A number that was lost is not one that was never there. */
TEST_ROWS(judgement, without_its_log_a_run_is_not_trusted, sizeof logs / sizeof *logs)
{
	static const char *const gates[] = { "p99(operation) <= 1 s", "count(operation) > 0",
		                             "warn max(operation) <= 1 s" };
	CLEANUP(fixture_close) struct fixture f = fixture_open();
	const char *run =
		fixture_run(&f, (struct fixture_run){ "r", .numbers = logs[row].numbers });
	const char *log = logs[row].log;
	uint64_t one = 1;

	if (log != NULL && *log == 'T' && strstr(log, "HIST") == NULL)
		log = fixture_hlog_line(&f, "commit", 0, &one, 1);
	if (log != NULL)
		fixture_write(&f, "r/latency.hlog", log);
	for (int i = 0; i < 3; i++) {
		CHECK_INT(fixture_command(&f, "gate", run, "-e", gates[i], NULL), ==,
		          REPORT_UNTRUSTWORTHY);
		CHECK_CONTAINS(f.out, logs[row].words);
		CHECK(strstr(f.out, "FAIL") == NULL && strstr(f.out, "no data") == NULL);
	}
}

static const struct {
	const char *gate, *steal;
	int code;
	const char *words;
} thefts[] = {
	/* 1,000 operations, 500 a second. */
	{ "throughput(operations) >= 400 /s", "5.1", REPORT_PASS, "" },
	{ "throughput(operations) >= 600 /s", "5.1", REPORT_UNTRUSTWORTHY,
	  "the machine stole 5.1 % of the time" },
	{ "throughput(operations) >= 600 /s", "5", REPORT_FAIL, "is not >= 600 /s" },
	{ "throughput(operations) <= 600 /s", "30", REPORT_UNTRUSTWORTHY, "stole 30.0 %" },
	{ "throughput(operations) >= baseline * 0.9", "30", REPORT_PASS, "" },
	{ "throughput(operations) >= baseline * 1.1", "30", REPORT_UNTRUSTWORTHY, "stole" },
	{ "p50(acquire.wait) <= 11 ms", "30", REPORT_PASS, "" },
	{ "p50(acquire.wait) <= 9 ms", "30", REPORT_UNTRUSTWORTHY, "stole" },
	{ "p50(acquire.wait) >= 9 ms", "30", REPORT_UNTRUSTWORTHY, "stole" },
	{ "warn p50(acquire.wait) <= 9 ms", "30", REPORT_PASS, "WARN" },
	{ "errors == 0", "30", REPORT_PASS, "" },
	{ "errors > 0", "30", REPORT_FAIL, "0 is not > 0" },
	{ "heap.residue == 0 B", "30", REPORT_PASS, "" },
};

/* Stolen time makes times longer; nothing else is disturbed by it. */
TEST_ROWS(judgement, stolen_time_disturbs_times_alone, sizeof thefts / sizeof *thefts)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open();
	const char *numbers = report_print(&f.arena,
	                                   "{\"operations_count\":1000,\"operations_per_s\":500,"
	                                   "\"errors_count\":0,\"heap.residue_bytes\":0,"
	                                   "\"machine.steal_percent\":%s}",
	                                   thefts[row].steal);
	const char *run = measured_run(&f, (struct fixture_run){ .numbers = numbers });
	const char *base = fixture_run(
		&f, (struct fixture_run){ "base", .numbers = "{\"operations_per_s\":500}" });
	int code = fixture_command(&f, "gate", run, "--baseline", base, "--gate", thefts[row].gate,
	                           NULL);

	CHECK_MSG(code == thefts[row].code, "%s: exit %d\n%s%s", thefts[row].gate, code, f.out,
	          f.err);
	CHECK_CONTAINS(f.out, thefts[row].words);
}

TEST(judgement, a_baseline_on_a_stolen_machine_is_none)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open();
	const char *run = fixture_run(&f, (struct fixture_run){ 0 });
	const char *base = fixture_run(
		&f, (struct fixture_run){ "base", .numbers = "{\"operations_per_s\":500,"
	                                                     "\"machine.steal_percent\":9}" });

	fixture_command(&f, "gate", run, "--baseline", base, "--gate",
	                "throughput(operations) >= baseline * 0.95", NULL);
	CHECK_CONTAINS(f.out, "baseline: the machine stole 9.0 %");
}

/* Nothing was measured: no log is needed, and a gate on it is FAIL. */
TEST(judgement, a_run_that_measured_nothing_needs_no_log)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open();
	const char *run = fixture_run(
		&f, (struct fixture_run){ .numbers = "{\"operations_count\":0,\"commit.count\":0,"
	                                             "\"errors_count\":0}" });

	CHECK_INT(fixture_command(&f, "gate", run, "-e", "errors == 0", NULL), ==, REPORT_PASS);
	CHECK_INT(fixture_command(&f, "gate", run, "-e", "p99(commit) <= 1 s", NULL), ==,
	          REPORT_FAIL);
	CHECK_CONTAINS(f.out, "no data: commit was never recorded");
}

static const char *const slow[][3] = { { "asan", "none", "not judged, variant=asan" },
	                               { "tsan", "none", "not judged, variant=tsan" },
	                               { "coverage", "none", "not judged, variant=coverage" },
	                               { "valgrind", "memcheck", "not judged, under=memcheck" } };

/* The gate on errors is judged all the same. */
TEST_ROWS(judgement, times_of_a_slowed_variant_are_not_judged, sizeof slow / sizeof *slow)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open();
	const char *run = measured_run(
		&f, (struct fixture_run){ .variant = slow[row][0], .under = slow[row][1] });

	CHECK_INT(fixture_command(&f, "gate", run, "--gate", "max(transaction) <= 1 ns", "--gate",
	                          "throughput(operations) > 9 M/s", "--gate", "errors == 0", NULL),
	          ==, REPORT_PASS);
	CHECK_CONTAINS(f.out, slow[row][2]);
	CHECK_CONTAINS(f.out, "2 skipped");
	CHECK_INT(fixture_command(&f, "gate", run, "--gate", "errors == 1", NULL), ==, REPORT_FAIL);
	/* Nothing judged at all is not green. */
	CHECK_INT(fixture_command(&f, "gate", run, "--gate", "max(transaction) <= 1 ns", NULL), ==,
	          REPORT_UNTRUSTWORTHY);
	CHECK_CONTAINS(f.out, "nothing was judged");
}

/* A pool that hangs has no numbers of its own: that must be FAIL, not a usage error. */
TEST(judgement, a_number_that_a_broken_run_lacks_fails)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open();
	const char *run = fixture_run(
		&f, (struct fixture_run){ .verdict = "{\"result\":\"FAIL\",\"reasons\":["
	                                             "{\"result\":\"FAIL\",\"text\":\"hang\"}]}" });

	CHECK_INT(fixture_command(&f, "gate", run, "--gate", "pool.unheard_of == 0", NULL), ==, 1);
	CHECK_CONTAINS(f.out, "hang");
	CHECK_INT(fixture_command(&f, "gate",
	                          fixture_run(&f, (struct fixture_run){ .name = "well" }), "--gate",
	                          "pool.unheard_of == 0", NULL),
	          ==, 2);
}

TEST(judgement, a_section_without_a_run_fails)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open();
	const char *run = fixture_run(&f, (struct fixture_run){ 0 });
	const char *gates = fixture_write(&f, "g",
	                                  "[writer_storm]\nfail errors == 0\n[leaks]\n"
	                                  "fail leak.bytes == 0 B\n[coverage]\n"
	                                  "warn coverage.lines >= 1 %\n");

	CHECK_INT(fixture_command(&f, "gate", run, "-g", gates, NULL), ==, REPORT_FAIL);
	CHECK_CONTAINS(f.out, "no run of scenario writer_storm was given");
	CHECK_CONTAINS(f.out, "no run under memcheck was given");
	CHECK_CONTAINS(f.out, "no run with coverage.json was given");
	CHECK_CONTAINS(f.out, "FAIL: 1 passed, 2 failed, 1 warned");
}

TEST(judgement, a_baseline_is_a_limit)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open();
	const char *run = measured_run(&f, (struct fixture_run){ 0 });
	const char *base =
		fixture_run(&f, (struct fixture_run){ .name = "base",
	                                              .numbers = "{\"operations_per_s\":550}" });

	CHECK_INT(fixture_command(&f, "gate", run, "-b", base, "-e",
	                          "throughput(operations) >= baseline * 0.9", NULL),
	          ==, REPORT_PASS);
	CHECK_CONTAINS(f.out, "495 /s");
	CHECK_INT(fixture_command(&f, "gate", run, "-b", base, "-e",
	                          "throughput(operations) >= baseline", NULL),
	          ==, REPORT_FAIL);
}

TEST(judgement, strict_lets_nothing_pass_half)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open();
	const char *run = measured_run(&f, (struct fixture_run){ 0 });

	CHECK_INT(fixture_command(&f, "gate", "--strict", run, "-e", "warn errors > 0", NULL), ==,
	          REPORT_FAIL);
	CHECK_INT(fixture_command(&f, "gate", "--strict", run, "-e",
	                          "p50(acquire.wait) <= 10.05 ms conf=99%", NULL),
	          ==, REPORT_FAIL);
}

TEST(judgement, without_names_the_newest_of_each_kind_is_taken)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open();

	CHECK_INT(fixture_command(&f, "gate", "-e", "errors == 0", NULL), ==, REPORT_USAGE);
	CHECK_CONTAINS(f.err, "build/runs: no runs there");
	fixture_run(&f, (struct fixture_run){ .name = "build/runs/a",
	                                      .started = "2026-11-23T19:00:01Z" });
	fixture_run(&f, (struct fixture_run){ .name = "build/runs/b",
	                                      .started = "2026-11-23T19:00:00Z",
	                                      .numbers = "{\"errors_count\":1}" });
	fixture_run(&f, (struct fixture_run){ .name = "build/runs/c", .variant = "asan" });
	fixture_write(&f, "build/runs/unfinished/memory.csv", "time_s\n");
	CHECK_INT(fixture_command(&f, "gate", "-e", "errors == 0", "-x", NULL), ==, REPORT_PASS);
	CHECK_CONTAINS(f.out, "build/runs/a");
	CHECK_CONTAINS(f.out, "build/runs/c");
	CHECK(strstr(f.out, "build/runs/b") == NULL);
}

TEST(judgement, is_there_as_json)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open();
	const char *run = fixture_run(&f, (struct fixture_run){ 0 });
	json_t *answer;

	CHECK_INT(fixture_command(&f, "gate", run, "-e", "errors > 0", "--json", NULL), ==,
	          REPORT_FAIL);
	answer = json_loads(f.out, 0, NULL);
	CHECK_STR(json_string_value(json_object_get(json_object_get(answer, "verdict"), "result")),
	          "FAIL");
	CHECK_INT(json_array_size(json_object_get(answer, "gates")), ==, 2);
	json_decref(answer);
	CHECK_INT(fixture_command(&f, "gate", "--names", run, NULL), ==, REPORT_PASS);
	CHECK_CONTAINS(f.out, "heap.residue ");
	CHECK_CONTAINS(f.out, "acquire.wait ");
}
