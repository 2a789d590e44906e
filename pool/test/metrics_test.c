/* The metrics' text: it keeps OpenMetrics' rules, says what the statistics say, and fits. */
/* SPDX-License-Identifier: MIT */
#include "fixture.h"

#include "internal.h"

enum { TEXT_SIZE = 128 * 1024, LINE_MAX_ = 512, FAMILIES_MAX = 128 };

static const char *text_of(struct pp_pool *pool, const char *name)
{
	static char text[TEXT_SIZE];
	size_t length = pp_metrics_text(pool, name, text, sizeof text);

	CHECK_INT(length, <, sizeof text);
	CHECK_INT(length, ==, strlen(text));
	return text;
}

static struct fixture fixture_manual(void)
{
	return fixture_config(
		(struct pp_config){ .readers = 3, .readers_min = 2, .keeper = PP_KEEPER_MANUAL });
}

/* The value of a sample as it is written; its name and labels are given whole. */
static const char *sample(const char *text, const char *series)
{
	static char value[64];
	char wanted[LINE_MAX_];
	const char *at;

	snprintf(wanted, sizeof wanted, "\n%s ", series);
	at = strstr(text, wanted);
	CHECK_MSG(at != NULL, "there is no %s", series);
	CHECK(sscanf(at + strlen(wanted), "%63s", value) == 1);
	return value;
}

/* --- OpenMetrics' rules ------------------------------------------------------------------- */

/* The family that is being read; what has been read of its histogram. */
struct reader {
	char family[128], type[16], help;
	char before[FAMILIES_MAX][128];
	unsigned families, samples, broken;
	double le, below;
	bool infinite, ended;
	char complaint[256];
};

static void complain(struct reader *r, const char *rule, const char *line)
{
	if (r->broken++ == 0)
		snprintf(r->complaint, sizeof r->complaint, "%s: %.150s", rule, line);
}

#define RULE(claim, rule)                        \
	do {                                     \
		if (!(claim))                    \
			complain(r, rule, line); \
	} while (0)

static bool ends_in(const char *text, const char *end)
{
	size_t length = strlen(text), n = strlen(end);

	return length >= n && strcmp(text + length - n, end) == 0;
}

static void read_type(struct reader *r, const char *line, const char *name, const char *type)
{
	for (unsigned i = 0; i < r->families; i++)
		RULE(strcmp(r->before[i], name) != 0, "a family is there once");
	RULE(strcmp(type, "counter") == 0 || strcmp(type, "gauge") == 0 ||
	             strcmp(type, "histogram") == 0,
	     "a type is known");
	RULE(!ends_in(name, "_total") && !ends_in(name, "_bucket") && !ends_in(name, "_sum"),
	     "a family's name has no sample's ending");
	snprintf(r->before[r->families++ % FAMILIES_MAX], sizeof r->before[0], "%.127s", name);
	snprintf(r->family, sizeof r->family, "%.127s", name);
	snprintf(r->type, sizeof r->type, "%.15s", type);
	r->le = r->below = -1;
	r->help = 0;
	r->infinite = false;
}

static void read_comment(struct reader *r, const char *line)
{
	char word[8], name[128], rest[256];

	if (strcmp(line, "# EOF") == 0) {
		r->ended = true;
		return;
	}
	if (sscanf(line, "# %7s %127s %255[^\n]", word, name, rest) != 3) {
		complain(r, "a comment is TYPE, UNIT, HELP or EOF", line);
		return;
	}
	if (strcmp(word, "TYPE") == 0) {
		read_type(r, line, name, rest);
		return;
	}
	RULE(strcmp(name, r->family) == 0, "TYPE comes first");
	if (strcmp(word, "UNIT") == 0)
		RULE(ends_in(name, rest) && name[strlen(name) - strlen(rest) - 1] == '_',
		     "a name ends in its unit");
	else if (strcmp(word, "HELP") == 0)
		r->help = 1;
	else
		complain(r, "a comment is TYPE, UNIT, HELP or EOF", line);
}

static void read_bucket(struct reader *r, const char *line, double value)
{
	const char *le = strstr(line, "le=\"");
	double bound = le != NULL ? strtod(le + 4, NULL) : -1;

	RULE(bound > r->le, "bounds go up");
	RULE(value >= r->below, "buckets are cumulative");
	r->le = bound;
	r->below = value;
	r->infinite = le != NULL && strncmp(le, "le=\"+Inf\"", 9) == 0;
}

static void read_sample(struct reader *r, const char *line)
{
	size_t name = strcspn(line, "{ "), family = strlen(r->family);
	const char *ending = name >= family ? line + family : "", *value = strrchr(line, ' ');
	double number = value != NULL ? strtod(value, NULL) : -1;
	char last[16];

	r->samples++;
	RULE(strncmp(line, r->family, family) == 0, "a sample is of the family before it");
	RULE(r->help, "HELP comes before the samples");
	RULE(line[name] == '{' && value != NULL && value[-1] == '}', "labels are closed");
	snprintf(last, sizeof last, "%.*s", (int)strcspn(ending, "{"), ending);
	if (strcmp(r->type, "gauge") == 0) {
		RULE(last[0] == '\0', "a gauge has no ending");
	} else if (strcmp(r->type, "counter") == 0) {
		RULE(strcmp(last, "_total") == 0, "a counter ends in _total");
		RULE(number >= 0, "a counter is not negative");
	} else if (strcmp(last, "_bucket") == 0) {
		read_bucket(r, line, number);
	} else if (strcmp(last, "_count") == 0) {
		RULE(r->infinite && number == r->below, "the count is the last bucket's, +Inf");
	} else {
		RULE(strcmp(last, "_sum") == 0, "a histogram has buckets, a sum and a count");
	}
}

static void series_once(struct reader *r, const char *line, size_t length)
{
	char series[LINE_MAX_];
	const char *again;

	snprintf(series, sizeof series, "\n%.*s", (int)length, line);
	*(strrchr(series, ' ') + 1) = '\0';
	again = strstr(line, series);
	RULE(again == NULL, "a series is there once");
}

static struct reader read_metrics(const char *text)
{
	struct reader reader = { 0 }, *r = &reader;
	char line[LINE_MAX_];

	for (const char *at = text; *at != '\0';) {
		size_t length = strcspn(at, "\n");

		snprintf(line, sizeof line, "%.*s", (int)length, at);
		RULE(at[length] == '\n', "a line is ended");
		RULE(length < sizeof line, "a line is not too long for this test");
		RULE(!r->ended, "nothing comes after # EOF");
		if (line[0] == '#')
			read_comment(r, line);
		else
			read_sample(r, line);
		if (line[0] != '#' && strchr(line, ' ') != NULL)
			series_once(r, at, length);
		at += length + (at[length] == '\n');
	}
	if (!r->ended)
		complain(r, "the last line is # EOF", "");
	return reader;
}

TEST(metrics, keep_the_rules_of_openmetrics)
{
	CLEANUP(fixture_close) struct fixture f = fixture_manual();
	struct reader r;

	histogram_note(f.pool, PP_HISTOGRAM_COMMIT, 12345678);
	histogram_note(f.pool, PP_HISTOGRAM_COMMIT, UINT64_C(1) << 50);
	r = read_metrics(text_of(f.pool, "orders"));
	CHECK_MSG(r.broken == 0, "%u rules broken, first: %s", r.broken, r.complaint);
	CHECK_INT(r.families, >=, 60);
	CHECK_INT(r.samples, >=, 200);
}

/* Each of the rules is noticed when it is broken. */
static const struct {
	const char *rule, *text;
} broken[] = {
	{ "TYPE comes first", "# HELP a b\n# EOF\n" },
	{ "a sample is of the family", "# TYPE a gauge\n# HELP a b\nc{x=\"\"} 1\n# EOF\n" },
	{ "a family is there once", "# TYPE a gauge\n# TYPE a gauge\n# EOF\n" },
	{ "a type is known", "# TYPE a thing\n# EOF\n" },
	{ "sample's ending", "# TYPE a_total counter\n# EOF\n" },
	{ "HELP comes before", "# TYPE a gauge\na{x=\"\"} 1\n# EOF\n" },
	{ "ends in its unit", "# TYPE a gauge\n# UNIT a seconds\n# EOF\n" },
	{ "ends in _total", "# TYPE a counter\n# HELP a b\na{x=\"\"} 1\n# EOF\n" },
	{ "not negative", "# TYPE a counter\n# HELP a b\na_total{x=\"\"} -1\n# EOF\n" },
	{ "no ending", "# TYPE a gauge\n# HELP a b\na_total{x=\"\"} 1\n# EOF\n" },
	{ "labels are closed", "# TYPE a gauge\n# HELP a b\na{x=\"\" 1\n# EOF\n" },
	{ "bounds go up", "# TYPE a histogram\n# HELP a b\na_bucket{le=\"2\"} 1\n"
	                  "a_bucket{le=\"1\"} 1\n# EOF\n" },
	{ "cumulative", "# TYPE a histogram\n# HELP a b\na_bucket{le=\"1\"} 2\n"
	                "a_bucket{le=\"2\"} 1\n# EOF\n" },
	{ "+Inf", "# TYPE a histogram\n# HELP a b\na_bucket{le=\"1\"} 2\na_count{x=\"\"} 2\n"
	          "# EOF\n" },
	{ "the count is", "# TYPE a histogram\n# HELP a b\na_bucket{le=\"+Inf\"} 2\n"
	                  "a_count{x=\"\"} 3\n# EOF\n" },
	{ "a histogram has", "# TYPE a histogram\n# HELP a b\na{x=\"\"} 2\n# EOF\n" },
	{ "a series is there once",
	  "# TYPE a gauge\n# HELP a b\na{x=\"\"} 2\na{x=\"\"} 2\n# EOF\n" },
	{ "a comment is", "# TYPE a gauge\n# NOTE a b\n# EOF\n" },
	{ "the last line", "# TYPE a gauge\n" },
	{ "nothing comes after", "# EOF\n# EOF\n" },
	{ "a line is ended", "# EOF" },
};

TEST_ROWS(metrics, rules_are_noticed_when_broken, sizeof broken / sizeof *broken)
{
	struct reader r = read_metrics(broken[row].text);

	CHECK_INT(r.broken, >=, 1);
	CHECK_CONTAINS(r.complaint, broken[row].rule);
}

/* --- What they say ------------------------------------------------------------------------ */

/* Fields that OpenTelemetry has a name for, or that are said otherwise. */
static const struct {
	const char *field, *name;
} renamed[] = {
	{ "lane.leased", "db_client_connection_count{pool=\"p\",lane=\"read\",state=\"used\"}" },
	{ "lane.waiting", "db_client_connection_pending_requests{" },
	{ "lane.timeouts", "db_client_connection_timeouts_total{" },
	{ "lane.wait_ns_total", "poolproof_lane_wait_seconds_total{" },
	{ "lane.wait_ns_max", "poolproof_lane_wait_max_seconds{" },
	{ "accounting", "accounting=\"" },
	{ "missing_features", "missing_features=\"" },
	{ "group_sizes[8]", "poolproof_group_size_bucket{" },
};

static void field_is_said(const char *text, const char *prefix, const char *field)
{
	char name[160], gauge[200], counter[200];

	snprintf(name, sizeof name, "%s%s", prefix, field);
	for (char *dot = strchr(name, '.'); dot != NULL; dot = NULL)
		*dot = '_';
	snprintf(gauge, sizeof gauge, "\npoolproof_%s{", name);
	snprintf(counter, sizeof counter, "\npoolproof_%s_total{", name);
	snprintf(name, sizeof name, "%s%s", prefix, field);
	for (unsigned i = 0; i < sizeof renamed / sizeof *renamed; i++)
		if (strcmp(renamed[i].field, name) == 0)
			snprintf(gauge, sizeof gauge, "%s", renamed[i].name);
	CHECK_MSG(strstr(text, gauge) != NULL || strstr(text, counter) != NULL,
	          "%s of the statistics is in no metric", name);
}

/* "uint64_t a, b;  // why": each name of a declaration of a number. */
static unsigned fields_are_said(const char *text, const char *prefix, char *line)
{
	char *rest = line + strspn(line, " \t"), *end = strchr(rest, ';'), *field;
	static const char *const types[] = { "unsigned ", "uint64_t ", "bool ",
		                             "enum pp_accounting ", "const char *" };
	unsigned found = 0;

	for (unsigned i = 0; i < sizeof types / sizeof *types && end != NULL; i++) {
		if (strncmp(rest, types[i], strlen(types[i])) != 0)
			continue;
		*end = '\0';
		for (field = strtok(rest + strlen(types[i]), ", "); field != NULL;
		     field = strtok(NULL, ", "), found++)
			field_is_said(text, prefix, field);
		break;
	}
	return found;
}

TEST(metrics, say_every_field_of_the_statistics)
{
	CLEANUP(fixture_close) struct fixture f = fixture_manual();
	const char *text = text_of(f.pool, "p"), *prefix = NULL;
	FILE *file = fopen("pool/include/poolproof/pool.h", "r");
	unsigned found = 0;
	char line[256];

	CHECK_MSG(file != NULL, "the tests are to be run from the project's folder");
	while (fgets(line, sizeof line, file) != NULL) {
		if (strcmp(line, "struct pp_lane_stats {\n") == 0)
			prefix = "lane.";
		else if (strcmp(line, "struct pp_stats {\n") == 0)
			prefix = "";
		else if (strcmp(line, "};\n") == 0)
			prefix = NULL;
		else if (prefix != NULL)
			found += fields_are_said(text, prefix, line);
	}
	fclose(file);
	CHECK_INT(found, >=, 57);
}

static void *wait_in_vain(void *context)
{
	struct pp_pool *pool = context;
	struct pp_lease lease = { 0 };

	CHECK_INT(pp_acquire(pool, PP_WRITE, pp_in_ms(3600 * 1000), &lease, NULL), ==, PP_TIMEOUT);
	return NULL;
}

TEST(metrics, say_what_is_lent_idle_and_waited_for)
{
	CLEANUP(fixture_close) struct fixture f = fixture_manual();
	CLEANUP(pp_release) struct pp_lease writer = { 0 }, reader = { 0 };
	pthread_t waiter;
	const char *text;
	double waited;

	acquire(f.pool, PP_READ, &reader);
	acquire(f.pool, PP_WRITE, &writer);
	waiter = thread_start(wait_in_vain, f.pool);
	WAIT_FOR(stats(f.pool).write.waiting == 1);
	text = text_of(f.pool, "p");
#define LANE_SAMPLE(name, lane, rest) \
	sample(text, "db_client_connection_" name "{pool=\"p\",lane=\"" lane "\"" rest "}")
	CHECK_STR(LANE_SAMPLE("count", "read", ",state=\"used\""), "1");
	CHECK_STR(LANE_SAMPLE("count", "read", ",state=\"idle\""), "1");
	CHECK_STR(LANE_SAMPLE("count", "write", ",state=\"used\""), "1");
	CHECK_STR(LANE_SAMPLE("max", "read", ""), "3");
	CHECK_STR(LANE_SAMPLE("max", "write", ""), "1");
	CHECK_STR(LANE_SAMPLE("idle_min", "read", ""), "2");
	CHECK_STR(LANE_SAMPLE("pending_requests", "write", ""), "1");
	CHECK_STR(LANE_SAMPLE("pending_requests", "read", ""), "0");
	CHECK_STR(LANE_SAMPLE("timeouts_total", "write", ""), "0");
	clock_travel_ms(3600 * 1000 + 1);
	pthread_join(waiter, NULL);
	pp_release(&reader);
	text = text_of(f.pool, "p");
	CHECK_STR(LANE_SAMPLE("count", "read", ",state=\"used\""), "0");
	CHECK_STR(LANE_SAMPLE("count", "read", ",state=\"idle\""), "2");
	CHECK_STR(LANE_SAMPLE("pending_requests", "write", ""), "0");
	CHECK_STR(LANE_SAMPLE("timeouts_total", "write", ""), "1");
#undef LANE_SAMPLE
	waited = strtod(
		sample(text, "poolproof_lane_wait_seconds_total{pool=\"p\",lane=\"write\"}"), NULL);
	CHECK(waited >= 3600 && waited < 3700);
	CHECK_STR(sample(text, "db_client_connection_wait_time_seconds_count{pool=\"p\"}"), "1");
}

TEST(metrics, say_the_same_as_the_statistics)
{
	CLEANUP(fixture_close) struct fixture f = fixture_manual();
	struct pp_stats s = stats(f.pool);
	const char *text;
	char number[32];

	CHECK_INT(pp_suspend(f.pool, PP_NO_WAIT), ==, PP_OK);
	text = text_of(f.pool, "p");
	CHECK_STR(sample(text, "poolproof_suspended{pool=\"p\"}"), "1");
	CHECK_STR(sample(text, "poolproof_tripped{pool=\"p\"}"), "0");
	CHECK_INT(pp_resume(f.pool), ==, PP_OK);
	text = text_of(f.pool, "p");
	CHECK_STR(sample(text, "poolproof_suspended{pool=\"p\"}"), "0");
	snprintf(number, sizeof number, "%ju", (uintmax_t)s.opened);
	CHECK_STR(sample(text, "poolproof_opened_total{pool=\"p\"}"), number);
	snprintf(number, sizeof number, "%ju", (uintmax_t)s.connections_bytes);
	CHECK_STR(sample(text, "poolproof_connections_bytes{pool=\"p\"}"), number);
	snprintf(number, sizeof number, "%ju", (uintmax_t)s.write.acquires);
	CHECK_STR(sample(text, "poolproof_lane_acquires_total{pool=\"p\",lane=\"write\"}"), number);
	CHECK_CONTAINS(text, ",sqlite=\"" SQLITE_VERSION "\"");
	CHECK_CONTAINS(text, s.accounting == PP_ACCOUNTING_ARENAS ? "accounting=\"arenas\""
	                                                          : "accounting=\"counters\"");
}

/* One nanosecond apart, on the two sides of a bound. */
TEST(metrics, histograms_are_exact_to_the_nanosecond)
{
	CLEANUP(fixture_close) struct fixture f = fixture_manual();
	const char *text;

	histogram_note(f.pool, PP_HISTOGRAM_RECOVERY, 8191);
	histogram_note(f.pool, PP_HISTOGRAM_RECOVERY, 8192);
	histogram_note(f.pool, PP_HISTOGRAM_RECOVERY, UINT64_C(60) * 1000000000);
	text = text_of(f.pool, "p");
#define RECOVERY(rest) sample(text, "poolproof_recovery_seconds_" rest)
	CHECK_STR(RECOVERY("bucket{pool=\"p\",le=\"0.000008191\"}"), "1");
	CHECK_STR(RECOVERY("bucket{pool=\"p\",le=\"0.000016383\"}"), "2");
	CHECK_STR(RECOVERY("bucket{pool=\"p\",le=\"34.359738367\"}"), "2");
	CHECK_STR(RECOVERY("bucket{pool=\"p\",le=\"+Inf\"}"), "3");
	CHECK_STR(RECOVERY("count{pool=\"p\"}"), "3");
	CHECK_STR(RECOVERY("sum{pool=\"p\"}"), "60.000016383");
#undef RECOVERY
	CHECK_STR(sample(text, "poolproof_longest_seconds{pool=\"p\",of=\"recovery\"}"),
	          "60.000000000");
}

/* --- The name, and the room --------------------------------------------------------------- */

TEST(metrics, name_is_escaped)
{
	CLEANUP(fixture_close) struct fixture f = fixture_manual();
	const char *text = text_of(f.pool, "a \"b\"\\c\nd");
	struct reader r = read_metrics(text);

	CHECK_STR(sample(text, "poolproof_gated{pool=\"a \\\"b\\\"\\\\c\\nd\"}"), "0");
	CHECK_MSG(r.broken == 0, "%u rules broken, first: %s", r.broken, r.complaint);
}

TEST(metrics, fit_any_buffer)
{
	CLEANUP(fixture_close) struct fixture f = fixture_manual();
	static char whole[TEXT_SIZE], part[TEXT_SIZE];
	size_t length = pp_metrics_text(f.pool, "p", whole, sizeof whole);
	const size_t sizes[] = { 1, 2, 100, length / 2, length, length + 1 };

	CHECK_INT(pp_metrics_text(f.pool, "p", NULL, 0), ==, length);
	for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		memset(part, '#', sizeof part);
		CHECK_INT(pp_metrics_text(f.pool, "p", part, sizes[i]), ==, length);
		CHECK_INT(strlen(part), ==, sizes[i] - 1);
		CHECK(memcmp(part, whole, sizes[i] - 1) == 0);
		CHECK(part[sizes[i]] == '#');
	}
}

/* Another process's pool has no numbers here; what is left is still a text that can be read. */
TEST(metrics, of_another_processs_pool_are_empty)
{
	CLEANUP(fixture_close) struct fixture f = fixture_manual();

	f.pool->process++;
	CHECK_STR(text_of(f.pool, "p"), "# EOF\n");
	f.pool->process--;
}
