/* Raw figures that were planted, and what is made of them. */
/* SPDX-License-Identifier: MIT */
#include "bench.h"

#include <math.h>
#include <poolproof/harness/test.h>
#include <poolproof/harness/test_schema.h>
#include <unistd.h>

#define HEAD                                                                                 \
	"{\"format\":1,\"started\":\"2026-11-24T00:00:00Z\",\"rounds\":%u,\"seconds\":1,"    \
	"\"seed\":1,\"variant\":\"release\",\"machine\":{\"kernel\":\"k\",\"cpu\":\"c\","    \
	"\"cpus\":2,\"memory_bytes\":1},\"versions\":{\"poolproof\":\"0\",\"sqlite\":\"3\"," \
	"\"compiler\":\"gcc\",\"allocator\":\"libc\"}}\n"
#define TAIL "{\"took_s\":1.5,\"stolen_percent\":0}\n"

/* A raw.jsonl in the making. */
struct planted {
	char path[64];
	FILE *out;
	unsigned rounds, take;
};

static struct planted plant(unsigned rounds)
{
	struct planted p = { .path = "/tmp/poolproof-bench-XXXXXX", .rounds = rounds };

	p.out = fdopen(mkstemp(p.path), "w");
	CHECK(p.out != NULL);
	fprintf(p.out, HEAD, rounds);
	return p;
}

/* What disturbs a round: up to a third, for all that is measured in it. */
static double disturbance(unsigned round)
{
	return 1 + round * 7 % 5 / 15.0;
}

static void line(struct planted *p, const char *row, const char *contender, unsigned round,
                 const char *figures)
{
	fprintf(p->out,
	        "{\"row\":\"%s\",\"contender\":\"%s\",\"round\":%u,\"place\":0,\"take\":%u,%s}\n",
	        row, contender, round, p->take, figures);
}

static void figure(struct planted *p, const char *row, const char *contender, const char *name,
                   double value)
{
	char text[128];

	for (unsigned round = 0; round < p->rounds; round++) {
		snprintf(text, sizeof text, "\"figures\":{\"%s\":%.9g}", name,
		         value * disturbance(round));
		line(p, row, contender, round, text);
	}
}

/* lending/1 with all its contenders but ours. */
static void lending_peers(struct planted *p, const char *row)
{
	figure(p, row, "alone", "ns", 7);
	figure(p, row, "libzdb", "ns", 1000);
	figure(p, row, "apr", "ns", 40);
	figure(p, row, "mutex", "ns", 25);
	figure(p, row, "exchange", "ns", 5);
}

/* Ours twice, the second time a little off now this way, now that. */
static void lending_ours(struct planted *p, const char *row, double ns, double again)
{
	char text[64];

	figure(p, row, "poolproof", "ns", ns);
	for (unsigned round = 0; round < p->rounds; round++) {
		snprintf(text, sizeof text, "\"figures\":{\"ns\":%.9g}",
		         ns * again * disturbance(round) * (round % 2 == 0 ? 1.01 : 0.99));
		line(p, row, BENCH_AGAIN, round, text);
	}
}

static void lending(struct planted *p, const char *row, double ns)
{
	lending_ours(p, row, ns, 1);
	lending_peers(p, row);
}

static json_t *judged(struct planted *p)
{
	struct bench_evidence *evidence;
	json_t *report;

	fputs(TAIL, p->out);
	fclose(p->out);
	evidence = bench_evidence_read(p->path);
	CHECK(evidence != NULL);
	report = bench_report(evidence);
	bench_evidence_free(evidence);
	unlink(p->path);
	return report;
}

/* against "": of ours alone. */
static const json_t *goal_of(const json_t *report, const char *row, const char *ours,
                             const char *against)
{
	json_t *goal;
	size_t i;

	json_array_foreach(json_object_get(report, "goals"), i, goal)
	{
		if (strcmp(bench_text(goal, "row"), row) == 0 &&
		    strcmp(bench_text(goal, "ours"), ours) == 0 &&
		    strcmp(bench_text(goal, "against"), against) == 0)
			return goal;
	}
	return NULL;
}

static const json_t *row_of(const json_t *report, size_t table, size_t row)
{
	return json_array_get(
		json_object_get(json_array_get(json_object_get(report, "tables"), table), "rows"),
		row);
}

static const json_t *contender_of(const json_t *row, const char *name)
{
	json_t *c;
	size_t i;

	json_array_foreach(json_object_get(row, "contenders"), i, c)
	{
		if (strcmp(bench_text(c, "name"), name) == 0)
			return c;
	}
	return NULL;
}

static void check_exit(const json_t *report, int code, const char *reason)
{
	const json_t *verdict = json_object_get(report, "verdict");

	CHECK_CONTAINS(bench_text(verdict, "reason"), reason);
	CHECK_INT(json_integer_value(json_object_get(verdict, "exit")), ==, code);
}

static bool near(double a, double b)
{
	return fabs(a - b) <= 1e-6 * fabs(b);
}

/* --- Ratios ------------------------------------------------------------------------------ */

/* What disturbs whole rounds is in the medians' intervals and not in the ratios'. */
TEST(judge, ratios_are_of_the_same_rounds)
{
	struct planted p = plant(14);
	const json_t *libzdb;
	json_t *report;

	lending(&p, "lending/1", 20);
	report = judged(&p);
	libzdb = contender_of(row_of(report, 0, 0), "libzdb");
	CHECK(near(bench_number(libzdb, "value"), 1000 * (1 + 2 / 15.0)));
	CHECK(bench_number(libzdb, "low") < bench_number(libzdb, "value"));
	CHECK(near(bench_number(json_object_get(libzdb, "ratio"), "value"), 50));
	CHECK(near(bench_number(json_object_get(libzdb, "ratio"), "low"), 50));
	CHECK(near(bench_number(json_object_get(libzdb, "ratio"), "high"), 50));
	json_decref(report);
}

TEST(judge, of_rates_more_is_better)
{
	static const char name[] = "lending/wait-8";
	struct planted p = plant(14);
	json_t *report;

	figure(&p, name, "poolproof", "per_s", 300);
	figure(&p, name, BENCH_AGAIN, "per_s", 300);
	figure(&p, name, "libzdb", "per_s", 100);
	figure(&p, name, "apr", "per_s", 600);
	figure(&p, name, "mutex", "per_s", 300);
	report = judged(&p);
	CHECK(near(
		bench_number(json_object_get(contender_of(row_of(report, 0, 0), "libzdb"), "ratio"),
	                     "value"),
		3));
	CHECK(near(bench_number(json_object_get(contender_of(row_of(report, 0, 0), "apr"), "ratio"),
	                        "value"),
	           0.5));
	json_decref(report);
}

TEST(judge, report_follows_its_schema)
{
	struct planted p = plant(14);
	char path[512];
	json_t *report, *schema;

	lending(&p, "lending/1", 20);
	figure(&p, "growth/waiters-1", "poolproof", "ns", 20);
	figure(&p, "growth/waiters-8", "poolproof", "ns", 20);
	line(&p, "lending/2", "libzdb", 0, "\"failed\":\"Aborted\"");
	report = judged(&p);
	snprintf(path, sizeof path, "%.*s../../reports/bench-1.schema.json",
	         (int)(strrchr(__FILE__, '/') + 1 - __FILE__), __FILE__);
	schema = json_load_file(path, 0, NULL);
	CHECK_MSG(schema != NULL, "%s cannot be read", path);
	test_schema(schema, report, "report");
	json_decref(schema);
	json_decref(report);
}

/* --- Goals and verdicts ------------------------------------------------------------------ */

static const struct {
	const char *what;
	double ns, again;
	unsigned rounds;
	int code;
	const char *reason;
} runs[] = {
	{ "all met", 20, 1, 14, 0, "" },
	{ "one missed", 50, 1, 14, 1, "goals missed" },
	{ "the control off", 20, 1.1, 14, 3, "the control of 1 of 1 rows is off" },
	{ "the control off the other way", 20, 0.9, 14, 3, "the control of 1 of 1 rows is off" },
	{ "the control off, and missed", 50, 1.1, 14, 3, "the control" },
	{ "too few rounds to tell", 20, 1.1, 5, 3, "too few" },
};

TEST_ROWS(judge, gives_the_verdict, sizeof runs / sizeof *runs)
{
	struct planted p = plant(runs[row].rounds);
	json_t *report;

	lending_ours(&p, "lending/1", runs[row].ns, runs[row].again);
	lending_peers(&p, "lending/1");
	report = judged(&p);
	check_exit(report, runs[row].code, runs[row].reason);
	json_decref(report);
}

TEST(judge, limits_hold_for_the_value_and_sureness_for_the_interval)
{
	struct planted p = plant(14);
	const json_t *goal;
	json_t *report;

	/* 36 ns, in disturbed rounds up to 45.6: the median is 40.8, past 40, and not surely. */
	lending(&p, "lending/1", 36);
	report = judged(&p);
	goal = goal_of(report, "lending/1", "poolproof", "");
	CHECK_STR(bench_text(goal, "result"), "MISSED");
	CHECK(json_is_false(json_object_get(goal, "sure")));
	CHECK(near(bench_number(goal, "value"), 36 * (1 + 2 / 15.0)));
	goal = goal_of(report, "lending/1", "alone", "");
	CHECK_STR(bench_text(goal, "result"), "MET");
	CHECK(json_is_true(json_object_get(goal, "sure")));
	json_decref(report);
}

/* Two threads against one: half the time of a cycle is twice as good. */
TEST(judge, goals_reach_into_other_rows)
{
	struct planted p = plant(14);
	json_t *report;

	lending(&p, "lending/1", 20);
	lending(&p, "lending/2", 10);
	report = judged(&p);
	CHECK(near(bench_number(goal_of(report, "lending/2", "poolproof", "poolproof"), "value"),
	           2));
	check_exit(report, 0, "");
	json_decref(report);
}

TEST(judge, without_a_row_there_is_no_goal_and_without_a_goal_no_pass)
{
	struct planted p = plant(14);
	json_t *report;

	lending(&p, "lending/8", 20);
	report = judged(&p);
	CHECK_INT(json_array_size(json_object_get(report, "goals")), ==, 0);
	check_exit(report, 3, "could not be judged");
	json_decref(report);
}

TEST(judge, a_peer_that_failed_leaves_its_goal_open)
{
	struct planted p = plant(14);
	const json_t *libzdb;
	json_t *report;

	lending(&p, "lending/1", 20);
	line(&p, "lending/1", "libzdb", 3, "\"failed\":\"Segmentation fault\"");
	report = judged(&p);
	libzdb = contender_of(row_of(report, 0, 0), "libzdb");
	CHECK_STR(bench_text(libzdb, "failed"), "Segmentation fault");
	CHECK(json_object_get(libzdb, "value") == NULL);
	CHECK_STR(bench_text(goal_of(report, "lending/1", "poolproof", "libzdb"), "result"),
	          "UNKNOWN");
	check_exit(report, 3, "1 of 4 goals could not be judged");
	json_decref(report);
}

/* The second take of a row stands in place of the first. */
TEST(judge, what_was_measured_again_replaces_what_was_doubtful)
{
	struct planted p = plant(14);
	json_t *report;

	lending_ours(&p, "lending/1", 50, 1.2);
	lending_peers(&p, "lending/1");
	p.take = 1;
	lending(&p, "lending/1", 20);
	report = judged(&p);
	check_exit(report, 0, "");
	CHECK_INT(json_integer_value(json_object_get(row_of(report, 0, 0), "take")), ==, 1);
	json_decref(report);
}

/* --- Latencies and slopes ---------------------------------------------------------------- */

/* Slots below 2048 are nanoseconds: 0..999, 800 times each round, but one value in a thousand. */
TEST(judge, percentiles_are_of_all_rounds_together)
{
	static const char name[] = "writes/full-8";
	const struct bench_row *found = bench_row_find(name, NULL);
	struct planted p = plant(14);
	const json_t *figures;
	char text[256];
	json_t *report;

	CHECK(found != NULL);
	for (unsigned round = 0; round < 14; round++) {
		snprintf(text, sizeof text,
		         "\"figures\":{\"per_s\":1,\"latency\":[[500,799],[1500,%u],[2000,%u]]}",
		         round == 0 ? 14 * 8 : 0, round == 13 ? 14 : 0);
		line(&p, name, found->contenders[0].name, round, text);
		line(&p, name, BENCH_AGAIN, round, text);
	}
	report = judged(&p);
	figures = json_object_get(contender_of(row_of(report, 0, 0), found->contenders[0].name),
	                          "figures");
	/* 11,186 + 112 + 14 values: the 99th is among the first, of 99.9 the rank is 11,301. */
	CHECK(near(bench_number(figures, "p50_us"), 0.5));
	CHECK(near(bench_number(figures, "p99_us"), 1.5));
	CHECK(near(bench_number(figures, "p99.9_us"), 2.0));
	CHECK(near(bench_number(figures, "max_us"), 2.0));
	json_decref(report);
}

TEST(judge, a_percentile_of_too_few_is_none)
{
	static const char name[] = "writes/full-8";
	const struct bench_row *found = bench_row_find(name, NULL);
	struct planted p = plant(14);
	const json_t *figures;
	json_t *report;

	for (unsigned round = 0; round < 14; round++)
		line(&p, name, found->contenders[0].name, round,
		     "\"figures\":{\"per_s\":1,\"latency\":[[500,100]]}");
	report = judged(&p);
	figures = json_object_get(contender_of(row_of(report, 0, 0), found->contenders[0].name),
	                          "figures");
	CHECK(near(bench_number(figures, "p99_us"), 0.5));
	CHECK(isnan(bench_number(figures, "p99.9_us")));
	json_decref(report);
}

/* 3 % for each doubling, in sixteen doublings. */
TEST(judge, slopes_are_per_doubling)
{
	struct planted p = plant(14);
	const json_t *goal;
	json_t *report;
	char name[64];

	for (unsigned size = 1; size <= 256; size *= 4) {
		snprintf(name, sizeof name, "growth/connections-%u", size);
		figure(&p, name, "poolproof", "ns", 20 * pow(1.03, log2(size)));
		figure(&p, name, BENCH_AGAIN, "ns", 20 * pow(1.03, log2(size)));
	}
	report = judged(&p);
	goal = goal_of(report, "growth/connections-", "poolproof", "");
	CHECK(goal != NULL);
	CHECK(fabs(bench_number(goal, "value") - 3) < 0.5);
	CHECK(bench_number(goal, "low") <= 3 && bench_number(goal, "high") >= 3);
	json_decref(report);
}

/* --- What is no raw.jsonl ---------------------------------------------------------------- */

static const char *const damaged[] = {
	"{\"row\":\"lending/1\"",
	"{\"row\":\"lending/none\",\"contender\":\"apr\",\"round\":0,\"figures\":{}}\n",
	"{\"row\":\"lending/1\",\"contender\":\"none\",\"round\":0,\"figures\":{}}\n",
	"{\"row\":\"lending/1\",\"contender\":\"apr\",\"round\":14,\"figures\":{}}\n",
	"{}\n",
};

TEST_ROWS(judge, refuses_what_is_damaged, sizeof damaged / sizeof *damaged)
{
	struct planted p = plant(14);

	fputs(damaged[row], p.out);
	fclose(p.out);
	CHECK(bench_evidence_read(p.path) == NULL);
	unlink(p.path);
	CHECK(bench_evidence_read(p.path) == NULL);
}

/* --- The terminal ------------------------------------------------------------------------ */

TEST(print, fits_into_80_columns)
{
	struct planted p = plant(14);
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);
	json_t *report;

	lending(&p, "lending/1", 20);
	lending(&p, "lending/2", 999.6);
	lending_ours(&p, "lending/32", 123456, 1.1);
	report = judged(&p);
	bench_print(out, report);
	fclose(out);
	CHECK_CONTAINS(text, "1.13 us");
	CHECK_CONTAINS(text, "140 us");
	for (char *at = strtok(text, "\n"); at != NULL; at = strtok(NULL, "\n"))
		CHECK_MSG(strlen(at) <= 80, "%zu columns: %s", strlen(at), at);
	free(text);
	json_decref(report);
}

TEST(print, names_the_best_peer_and_what_was_missed)
{
	struct planted p = plant(14);
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);
	json_t *report;

	lending_ours(&p, "lending/1", 50, 1.1);
	lending_peers(&p, "lending/1");
	report = judged(&p);
	bench_print(out, report);
	fclose(out);
	CHECK_CONTAINS(text, "mutex 28.3 ns");
	CHECK_CONTAINS(text, "0.50 [0.50 0.50] ?");
	CHECK_CONTAINS(text, "<=40.0 MISSED");
	CHECK_CONTAINS(text, "UNTRUSTWORTHY: ");
	free(text);
	json_decref(report);
}
