/* The interval log: known values in, the same values out. */
/* SPDX-License-Identifier: MIT */
#include "fixture.h"

TEST(hlog, gives_exact_counts_and_three_digit_percentiles)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open();
	static uint64_t values[20000];
	struct report_hlog log;
	const struct report_histogram *h;
	const char *error = "";

	for (size_t i = 0; i < 20000; i++)
		values[i] = (i + 1) * 1000;
	/* Two intervals of one tag, and another tag between them. */
	fixture_write(&f, "l.hlog",
	              report_print(&f.arena, "#[Histogram log format version 1.3]\n%s%s%s",
	                           fixture_hlog_line(&f, "operation", 0, values, 10000),
	                           fixture_hlog_line(&f, "commit", 0, values, 7),
	                           fixture_hlog_line(&f, "operation", 1, values + 10000, 10000)));
	CHECK_MSG(report_hlog_read(&f.arena, fixture_path(&f, "l.hlog"), &log, &error), "%s",
	          error);
	CHECK_INT(log.tag_count, ==, 2);
	CHECK_INT(log.interval_count, ==, 3);
	CHECK_INT(log.intervals[1].count, ==, 7);
	h = report_hlog_find(&log, "operation");
	CHECK(h != NULL && report_hlog_find(&log, "service") == NULL);
	CHECK_INT(h->count, ==, 20000);
	for (unsigned p = 1; p < 100; p++) {
		uint64_t exact = (uint64_t)p * 200 * 1000, got = report_histogram_percentile(h, p);

		CHECK_INT(got, >=, exact);
		CHECK_INT(got, <=, exact + exact / 1000);
	}
	CHECK_INT(report_histogram_max(h), >=, 20000000);
	CHECK_INT(report_histogram_max(h), <=, 20020000);
	CHECK_INT(report_histogram_min(h), ==, 1000);
	CHECK(report_histogram_mean(h) > 9990e3 && report_histogram_mean(h) < 10011e3);
}

/* Small values have a bucket of their own, so they come back to the unit. */
TEST(hlog, small_values_are_exact)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open();
	static const uint64_t values[] = { 0, 1, 2, 5, 1023, 1024, 2047 };
	struct report_histogram h;
	const char *error;

	CHECK(report_histogram_decode(&f.arena, fixture_base64(&f, values, 7), &h, &error));
	for (uint64_t rank = 1; rank <= 7; rank++)
		CHECK_INT(report_histogram_rank(&h, rank), ==, values[rank - 1]);
}

static const struct {
	uint64_t count;
	double percent;
	bool holds;
} enough[] = { { 999, 99, false },    { 1000, 99, true }, { 9999, 99.9, false },
	       { 10000, 99.9, true }, { 20, 50, true },   { 19, 50, false } };

TEST_ROWS(hlog, a_percentile_needs_its_samples, sizeof enough / sizeof *enough)
{
	CHECK(report_percentile_holds(enough[row].count, enough[row].percent) == enough[row].holds);
}

/* Every single byte that is changed or cut: an error or another histogram, never a crash. */
TEST(hlog, damage_is_an_error_and_not_a_crash)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open();
	static const uint64_t values[] = { 5, 70, 900, 11000, 130000, 1500000 };
	const char *good = fixture_base64(&f, values, 6), *error;
	size_t refused = 0, size = strlen(good);

	for (size_t i = 0; i < size; i++) {
		char *bad = report_copy(&f.arena, good, size);
		struct report_histogram h;

		bad[i] = bad[i] == 'A' ? 'B' : 'A';
		refused += !report_histogram_decode(&f.arena, bad, &h, &error);
		bad[i] = '\0';
		refused += !report_histogram_decode(&f.arena, bad, &h, &error);
	}
	CHECK_INT(refused, >=, 2 * size - 6); /* zlib's last bits and the padding may be spared. */
}

#define HEAD_WITH(cookie, length, shift, digits)                                                   \
	0x1c, 0x84, 0x93, cookie, 0, 0, 0, length, 0, 0, 0, shift, 0, 0, 0, digits, 0, 0, 0, 0, 0, \
		0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0x3f, 0xf0, 0, 0, 0, 0, 0, 0

/* What zlib lets through: the inner bytes themselves are wrong. */
static const struct {
	const char *words;
	unsigned char bytes[52];
	size_t size;
} inner[] = {
	{ NULL, { HEAD_WITH(0x13, 1, 0, 3), 2 }, 41 },
	{ "not a V2", { HEAD_WITH(0x03, 1, 0, 3), 2 }, 12 },
	{ "not a V2", { HEAD_WITH(0x11, 1, 0, 3), 2 }, 41 },
	{ "the length is wrong", { HEAD_WITH(0x13, 2, 0, 3), 2 }, 41 },
	{ "shifted", { HEAD_WITH(0x13, 1, 1, 3), 2 }, 41 },
	{ "precision", { HEAD_WITH(0x13, 1, 0, 6), 2 }, 41 },
	{ "cut short", { HEAD_WITH(0x13, 1, 0, 3), 0x80 }, 41 },
	/* A run of 55,296 zeros fills it; what follows is too much, and so is one zero more. */
	{ NULL, { HEAD_WITH(0x13, 3, 0, 3), 0xff, 0xdf, 0x06 }, 43 },
	{ "more counts", { HEAD_WITH(0x13, 4, 0, 3), 0xff, 0xdf, 0x06, 2 }, 44 },
	{ "more counts", { HEAD_WITH(0x13, 3, 0, 3), 0x81, 0xe0, 0x06 }, 43 },
	{ "overflow",
	  { HEAD_WITH(0x13, 10, 0, 3), 0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2 },
	  50 },
};

TEST_ROWS(hlog, wrong_inner_bytes_are_refused, sizeof inner / sizeof *inner)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open();
	struct report_histogram h;
	const char *error = "", *text = fixture_pack(&f, inner[row].bytes, inner[row].size);
	bool good = report_histogram_decode(&f.arena, text, &h, &error);

	CHECK_MSG(good == (inner[row].words == NULL), "row %d: %s", row, error);
	if (!good)
		CHECK_CONTAINS(error, inner[row].words);
}

static const struct {
	const char *what, *line, *words;
} bad_lines[] = {
	{ "words", "hello", ":2: no start" },
	{ "no length", "1.0,x,0,HIST", ":2: no length" },
	{ "no histogram", "1.0,1.0", ":2: no " },
	{ "not base64", "1.0,1.0,0.0,H*", ":2: not base64" },
	{ "another encoding", "1.0,1.0,0.0,AAAAAAAAAAAAAAAA", ":2: not a compressed" },
	{ "a tag alone", "Tag=x", ":2: a tag without" },
};

TEST_ROWS(hlog, a_bad_line_is_named, sizeof bad_lines / sizeof *bad_lines)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open();
	struct report_hlog log;
	const char *error = "";

	fixture_write(&f, "l.hlog", report_print(&f.arena, "#x\n%s\n", bad_lines[row].line));
	CHECK(!report_hlog_read(&f.arena, fixture_path(&f, "l.hlog"), &log, &error));
	CHECK_CONTAINS(error, bad_lines[row].words);
}

TEST(hlog, a_log_that_lost_values_makes_the_run_untrustworthy)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open();
	static const uint64_t values[] = { 1, 2, 3 };
	const char *path = fixture_run(
		&f,
		(struct fixture_run){ .numbers = "{\"operation.count\":4,\"errors_count\":0}" });
	struct report_run run;

	fixture_write(&f, "concurrent_load-20261123T190000-42/latency.hlog",
	              fixture_hlog_line(&f, "operation", 0, values, 3));
	run = fixture_load(&f, path);
	CHECK(run.damage != NULL);
	CHECK_CONTAINS(run.damage, "latency.hlog holds 3 values of operation, run.json says 4");
	report_run_done(&run);
	CHECK_INT(fixture_command(&f, "gate", path, "--gate", "count(errors) == 0", NULL), ==,
	          REPORT_UNTRUSTWORTHY);
}
