/*
 * judge.c - from raw figures to medians, ratios, goals and a verdict.
 *
 * Everything here depends on raw.jsonl and the tables alone, so an old run can be judged again.
 */
/* SPDX-License-Identifier: MIT */
#include "bench.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

#include <poolproof/harness/stat.h>

#define CONFIDENCE 0.95
/* That any control of a run fails by chance; each has its share. */
#define FALSE_ALARMS 0.01

enum { SLOTS = BENCH_CONTENDERS_MAX + 1 /* Ours, again. */ };

/* What one contender did in a row. */
struct side {
	const json_t *figures[HARNESS_ROUNDS_MAX]; /* NULL: failed, or not measured. */
	const char *failed;
};

struct seen_row {
	const struct bench_table *table;
	const struct bench_row *row;
	int take; /* Only the last one counts. */
	struct side sides[SLOTS];
	struct harness_interval control;
};

struct bench_evidence {
	json_t *lines; /* All of them: figures point into it. */
	const json_t *head, *tail;
	unsigned rounds;
	uint64_t seed;
	struct seen_row *rows;
	unsigned row_count;
};

/* --- Reading ----------------------------------------------------------------------------- */

static struct seen_row *row_of(struct bench_evidence *e, const char *name)
{
	const struct bench_table *table = NULL;
	const struct bench_row *row;
	void *rows;

	for (unsigned i = 0; i < e->row_count; i++)
		if (strcmp(e->rows[i].row->name, name) == 0)
			return &e->rows[i];
	row = bench_row_find(name, &table);
	rows = row != NULL ? realloc(e->rows, (e->row_count + 1) * sizeof *e->rows) : NULL;
	if (rows == NULL)
		return NULL;
	e->rows = rows;
	e->rows[e->row_count] = (struct seen_row){ .table = table, .row = row };
	return &e->rows[e->row_count++];
}

static bool note(struct bench_evidence *e, const json_t *line)
{
	const char *name = json_string_value(json_object_get(line, "row"));
	const char *contender = json_string_value(json_object_get(line, "contender"));
	json_int_t round = json_integer_value(json_object_get(line, "round"));
	int take = (int)json_integer_value(json_object_get(line, "take"));
	struct seen_row *seen = name != NULL ? row_of(e, name) : NULL;
	unsigned slot, count;

	if (seen == NULL || contender == NULL || round < 0 || round >= e->rounds)
		return false;
	count = bench_contender_count(seen->row);
	slot = strcmp(contender, BENCH_AGAIN) == 0 ? count
	                                           : bench_contender_find(seen->row, contender);
	if (slot == count && strcmp(contender, BENCH_AGAIN) != 0)
		return false;
	if (take > seen->take) {
		memset(seen->sides, 0, sizeof seen->sides);
		seen->take = take;
	}
	if (json_object_get(line, "failed") != NULL)
		seen->sides[slot].failed = json_string_value(json_object_get(line, "failed"));
	else
		seen->sides[slot].figures[round] = json_object_get(line, "figures");
	return true;
}

static bool read_head(struct bench_evidence *e, const json_t *line)
{
	e->head = line;
	e->rounds = (unsigned)json_integer_value(json_object_get(line, "rounds"));
	e->seed = (uint64_t)json_integer_value(json_object_get(line, "seed"));
	return json_integer_value(json_object_get(line, "format")) == 1 && e->rounds >= 2 &&
	       e->rounds <= HARNESS_ROUNDS_MAX;
}

static bool read_line(struct bench_evidence *e, const json_t *line)
{
	if (e->head == NULL)
		return read_head(e, line);
	if (json_object_get(line, "took_s") == NULL)
		return note(e, line);
	e->tail = line;
	return true;
}

static bool read_lines(struct bench_evidence *e, FILE *in)
{
	char *text = NULL;
	size_t text_size = 0;
	bool well = true;
	ssize_t size;

	while (well && (size = getline(&text, &text_size, in)) > 0) {
		json_t *line = json_loadb(text, (size_t)size, 0, NULL);

		well = line != NULL && json_array_append_new(e->lines, line) == 0 &&
		       read_line(e, line);
	}
	free(text);
	return well && e->head != NULL;
}

static void control(const struct bench_evidence *e, struct seen_row *seen);

struct bench_evidence *bench_evidence_read(const char *path)
{
	struct bench_evidence *e = calloc(1, sizeof *e);
	FILE *in = fopen(path, "re");

	if (e == NULL || in == NULL) {
		bench_complain(0, "%s: %s", path, strerror(errno));
		free(e);
		if (in != NULL)
			fclose(in);
		return NULL;
	}
	e->lines = json_array();
	if (!read_lines(e, in)) {
		bench_complain(0, "%s:%zu: not a line of a benchmark of this version", path,
		               json_array_size(e->lines));
		bench_evidence_free(e);
		e = NULL;
	}
	fclose(in);
	for (unsigned i = 0; e != NULL && i < e->row_count; i++)
		control(e, &e->rows[i]);
	return e;
}

void bench_evidence_free(struct bench_evidence *evidence)
{
	if (evidence == NULL)
		return;
	json_decref(evidence->lines);
	free(evidence->rows);
	free(evidence);
}

/* --- Figures ----------------------------------------------------------------------------- */

static double figure_in(const struct side *side, const char *name, unsigned round)
{
	const json_t *value = json_object_get(side->figures[round], name);

	return json_is_number(value) ? json_number_value(value) : NAN;
}

static void add_sparse(struct harness_histogram *to, const json_t *pairs)
{
	size_t i;
	json_t *pair;

	json_array_foreach(pairs, i, pair)
	{
		json_int_t slot = json_integer_value(json_array_get(pair, 0));
		json_int_t count = json_integer_value(json_array_get(pair, 1));

		if (slot < 0 || slot >= HARNESS_HISTOGRAM_SIZE || count < 0)
			continue;
		to->counts[slot] += (uint64_t)count;
		to->count += (uint64_t)count;
		to->end = to->end > slot ? to->end : (uint32_t)slot + 1;
	}
}

/* "p99.9_us" and "max_us": of all these rounds' latencies together; NAN where there are too few
 * for it. */
static double latency(const struct side *side, const char *name, const unsigned *rounds,
                      unsigned count)
{
	static struct harness_histogram all;
	double percentile = *name == 'm' ? 100 : strtod(name + 1, NULL);

	harness_histogram_clear(&all);
	for (unsigned i = 0; i < count; i++)
		add_sparse(&all, json_object_get(side->figures[rounds[i]], "latency"));
	if (all.count == 0 ||
	    (percentile < 100 && (double)all.count * (1 - percentile / 100) < 10 - 1e-9))
		return NAN;
	return (double)harness_histogram_percentile(&all, percentile) / 1e3;
}

static bool is_latency(const char *name)
{
	size_t size = strlen(name);

	return size > 3 && strcmp(name + size - 3, "_us") == 0;
}

/* Over these rounds; NAN when it failed in one. */
static double value_of(const struct side *side, const char *name, const unsigned *rounds,
                       unsigned count)
{
	double values[HARNESS_ROUNDS_MAX];

	if (side->failed != NULL)
		return NAN;
	if (is_latency(name))
		return latency(side, name, rounds, count);
	for (unsigned i = 0; i < count; i++)
		values[i] = figure_in(side, name, rounds[i]);
	return harness_median(values, count);
}

struct comparison {
	const struct side *ours, *theirs; /* theirs NULL: ours alone. */
	const char *figure;
};

/* How many times better; harness_statistic_fn. */
static double compare(void *context, const unsigned *rounds, unsigned count)
{
	const struct comparison *c = context;
	double a = value_of(c->ours, c->figure, rounds, count), b;

	if (c->theirs == NULL)
		return a;
	b = value_of(c->theirs, c->figure, rounds, count);
	return bench_more_is_better(c->figure) ? a / b : b / a;
}

static struct harness_interval interval(const struct bench_evidence *e, const struct side *ours,
                                        const struct side *theirs, const char *figure)
{
	struct comparison c = { ours, theirs, figure };

	return harness_bootstrap(compare, &c, e->rounds, CONFIDENCE, e->seed);
}

static void control(const struct bench_evidence *e, struct seen_row *seen)
{
	const char *figure = bench_figures[seen->row->unit];
	double a[HARNESS_ROUNDS_MAX], b[HARNESS_ROUNDS_MAX];

	for (unsigned i = 0; i < e->rounds; i++) {
		a[i] = figure_in(&seen->sides[0], figure, i);
		b[i] = figure_in(&seen->sides[bench_contender_count(seen->row)], figure, i);
	}
	seen->control = harness_control(a, b, e->rounds, 1 - FALSE_ALARMS / e->row_count);
}

static bool control_holds(const struct seen_row *seen)
{
	return seen->control.low <= 1 && seen->control.high >= 1;
}

bool bench_is_doubtful(const struct bench_evidence *evidence, const struct bench_row *row)
{
	for (unsigned i = 0; i < evidence->row_count; i++)
		if (evidence->rows[i].row == row)
			return evidence->rows[i].control.low > 1 ||
			       evidence->rows[i].control.high < 1;
	return false;
}

/* --- The report -------------------------------------------------------------------------- */

static json_t *number(double value)
{
	return isfinite(value) ? json_real(value) : json_null();
}

static void put_interval(json_t *to, struct harness_interval i)
{
	json_object_set_new(to, "value", number(i.value));
	json_object_set_new(to, "low", number(i.low));
	json_object_set_new(to, "high", number(i.high));
}

static json_t *interval_json(struct harness_interval i)
{
	json_t *json = json_object();

	put_interval(json, i);
	return json;
}

/* Everything else that it said, without intervals: the goals' have theirs. */
static json_t *other_figures(const struct bench_evidence *e, const struct seen_row *seen,
                             const struct side *side)
{
	static const char *const latencies[] = { "p50_us", "p99_us", "p99.9_us", "max_us" };
	unsigned rounds[HARNESS_ROUNDS_MAX];
	json_t *json = json_object(), *value;
	const char *name;

	for (unsigned i = 0; i < e->rounds; i++)
		rounds[i] = i;
	json_object_foreach((json_t *)side->figures[0], name, value)
	{
		if (json_is_number(value) && strcmp(name, bench_figures[seen->row->unit]) != 0)
			json_object_set_new(json, name,
			                    number(value_of(side, name, rounds, e->rounds)));
	}
	if (json_object_get(side->figures[0], "latency") != NULL)
		for (unsigned i = 0; i < sizeof latencies / sizeof *latencies; i++)
			json_object_set_new(json, latencies[i],
			                    number(latency(side, latencies[i], rounds, e->rounds)));
	return json;
}

static json_t *contender_json(const struct bench_evidence *e, const struct seen_row *seen,
                              unsigned index)
{
	const struct bench_contender *c = &seen->row->contenders[index];
	const struct side *side = &seen->sides[index];
	const char *figure = bench_figures[seen->row->unit];
	json_t *json = json_pack("{s:s, s:s, s:s, s:s}", "name", c->name, "kind",
	                         bench_kinds[c->kind], "about", c->about, "variant",
	                         c->variant != NULL ? c->variant : PP_VARIANT);

	if (side->failed != NULL) {
		json_object_set_new(json, "failed", json_string(side->failed));
		return json;
	}
	put_interval(json, interval(e, side, NULL, figure));
	if (index > 0)
		json_object_set_new(json, "ratio",
		                    interval_json(interval(e, &seen->sides[0], side, figure)));
	json_object_set_new(json, "figures", other_figures(e, seen, side));
	return json;
}

static json_t *row_json(const struct bench_evidence *e, const struct seen_row *seen)
{
	const struct bench_row *row = seen->row;
	json_t *contenders = json_array(), *control_json = interval_json(seen->control);

	json_object_set_new(control_json, "holds", json_boolean(control_holds(seen)));
	for (unsigned i = 0; i < bench_contender_count(row); i++)
		json_array_append_new(contenders, contender_json(e, seen, i));
	return json_pack("{s:s, s:s, s:s, s:b, s:i, s:f, s:i, s:o, s:o}", "name", row->name,
	                 "about", row->about, "figure", bench_figures[row->unit], "more_is_better",
	                 bench_more_is_better(bench_figures[row->unit]), "threads",
	                 (int)row->threads, "size", row->size, "take", seen->take, "control",
	                 control_json, "contenders", contenders);
}

static json_t *tables_json(const struct bench_evidence *e)
{
	json_t *tables = json_array(), *rows;

	for (unsigned t = 0; bench_tables[t] != NULL; t++) {
		rows = json_array();
		for (unsigned i = 0; i < e->row_count; i++)
			if (e->rows[i].table == bench_tables[t])
				json_array_append_new(rows, row_json(e, &e->rows[i]));
		if (json_array_size(rows) == 0)
			json_decref(rows);
		else
			json_array_append_new(tables,
			                      json_pack("{s:s, s:s, s:s, s:o}", "name",
			                                bench_tables[t]->name, "title",
			                                bench_tables[t]->title, "about",
			                                bench_tables[t]->about, "rows", rows));
	}
	return tables;
}

/* --- Goals ------------------------------------------------------------------------------- */

static const struct seen_row *seen_row(const struct bench_evidence *e, const char *name)
{
	for (unsigned i = 0; i < e->row_count; i++)
		if (strcmp(e->rows[i].row->name, name) == 0)
			return &e->rows[i];
	return NULL;
}

static const struct side *side_of(const struct seen_row *seen, const char *contender)
{
	unsigned at = seen != NULL ? bench_contender_find(seen->row, contender) : 0;

	return seen != NULL && at < bench_contender_count(seen->row) ? &seen->sides[at] : NULL;
}

/* Per cent by which the figure grows with each doubling, over all rows that begin so. */
static struct harness_interval slope(const struct bench_evidence *e, const struct bench_goal *goal,
                                     unsigned *ret_rows)
{
	double *x = malloc((e->row_count * e->rounds + 1) * sizeof *x);
	double *y = malloc((e->row_count * e->rounds + 1) * sizeof *y);
	struct harness_interval s = { NAN, NAN, NAN };
	unsigned count = 0, rows = 0;

	for (unsigned i = 0; i < e->row_count && x != NULL && y != NULL; i++) {
		const struct bench_row *row = e->rows[i].row;
		const struct side *side = side_of(&e->rows[i], goal->ours);

		if (strncmp(row->name, goal->row, strlen(goal->row)) != 0 || side == NULL)
			continue;
		rows++;
		for (unsigned r = 0; r < e->rounds; r++) {
			x[count] = log2(row->size);
			y[count++] = log(figure_in(side, bench_figures[row->unit], r));
		}
	}
	s = harness_slope(x, y, count, CONFIDENCE);
	free(x);
	free(y);
	*ret_rows = rows;
	return (struct harness_interval){ 100 * expm1(s.value), 100 * expm1(s.low),
		                          100 * expm1(s.high) };
}

/* false: none of its rows was measured. */
static bool weigh(const struct bench_evidence *e, const struct bench_goal *goal,
                  struct harness_interval *ret)
{
	const struct seen_row *ours = seen_row(e, goal->row);
	const struct seen_row *theirs =
		seen_row(e, goal->against_row != NULL ? goal->against_row : goal->row);
	const struct side *a = side_of(ours, goal->ours), *b = NULL;
	unsigned rows;

	if (goal->row[strlen(goal->row) - 1] == '-') {
		*ret = slope(e, goal, &rows);
		return rows > 1;
	}
	if (goal->against != NULL)
		b = side_of(theirs, goal->against);
	if (a == NULL || (goal->against != NULL && b == NULL))
		return false;
	*ret = interval(e, a, b,
	                goal->figure != NULL ? goal->figure : bench_figures[ours->row->unit]);
	return true;
}

static const char *result_of(const struct bench_goal *goal, struct harness_interval i)
{
	if (isnan(i.value))
		return "UNKNOWN";
	return (goal->relation == '>' ? i.value >= goal->limit : i.value <= goal->limit) ? "MET"
	                                                                                 : "MISSED";
}

/* The interval lies on one side of the limit as a whole. */
static bool is_sure(const struct bench_goal *goal, struct harness_interval i)
{
	return i.low >= goal->limit || i.high <= goal->limit;
}

static json_t *optional(const char *text)
{
	return text != NULL ? json_string(text) : json_null();
}

static json_t *goals_json(const struct bench_evidence *e)
{
	json_t *goals = json_array();

	for (unsigned i = 0; i < bench_goal_count; i++) {
		const struct bench_goal *goal = &bench_goals[i];
		struct harness_interval value;
		json_t *json;

		if (!weigh(e, goal, &value))
			continue;
		json = json_pack("{s:s, s:s, s:s, s:o, s:o, s:o, s:s, s:f, s:s, s:b}", "text",
		                 goal->text, "row", goal->row, "ours", goal->ours, "figure",
		                 optional(goal->figure), "against_row", optional(goal->against_row),
		                 "against", optional(goal->against), "relation",
		                 goal->relation == '>' ? ">=" : "<=", "limit", goal->limit,
		                 "result", result_of(goal, value), "sure", is_sure(goal, value));
		put_interval(json, value);
		json_array_append_new(goals, json);
	}
	return goals;
}

static unsigned with_result(const json_t *goals, const char *result)
{
	unsigned count = 0;
	size_t i;
	json_t *goal;

	json_array_foreach(goals, i, goal) count +=
		strcmp(json_string_value(json_object_get(goal, "result")), result) == 0;
	return count;
}

static json_t *verdict(const struct bench_evidence *e, const json_t *goals)
{
	unsigned doubtful = 0, few = 0, missed = with_result(goals, "MISSED");
	unsigned unknown = with_result(goals, "UNKNOWN");
	char reason[160] = "";
	bool fails = false;

	for (unsigned i = 0; i < e->row_count; i++) {
		few += isnan(e->rows[i].control.low);
		doubtful += bench_is_doubtful(e, e->rows[i].row);
	}
	if (doubtful > 0)
		snprintf(reason, sizeof reason,
		         "the control of %u of %u rows is off: equals differ on this machine",
		         doubtful, e->row_count);
	else if (few > 0)
		snprintf(reason, sizeof reason,
		         "%u rounds are too few for the control of %u rows; %d are the default",
		         e->rounds, e->row_count, BENCH_ROUNDS);
	else if (unknown > 0 || json_array_size(goals) == 0)
		snprintf(reason, sizeof reason, "%u of %zu goals could not be judged", unknown,
		         json_array_size(goals));
	else if (missed > 0) {
		fails = true;
		snprintf(reason, sizeof reason, "%u of %zu goals missed", missed,
		         json_array_size(goals));
	}
	return json_pack("{s:s, s:s, s:i}", "result",
	                 fails               ? "FAIL"
	                 : reason[0] != '\0' ? "UNTRUSTWORTHY"
	                                     : "PASS",
	                 "reason", reason, "exit",
	                 fails               ? 1
	                 : reason[0] != '\0' ? 3
	                                     : 0);
}

json_t *bench_report(const struct bench_evidence *e)
{
	static const char *const from_head[] = { "started", "rounds",  "seed",
		                                 "variant", "machine", "versions" };
	json_t *report = json_object(), *goals = goals_json(e);

	json_object_set_new(report, "format", json_integer(1));
	json_object_set_new(report, "verdict", verdict(e, goals));
	for (unsigned i = 0; i < sizeof from_head / sizeof *from_head; i++)
		json_object_set(report, from_head[i], json_object_get(e->head, from_head[i]));
	json_object_set(report, "took_s", json_object_get(e->tail, "took_s"));
	json_object_set(report, "stolen_percent", json_object_get(e->tail, "stolen_percent"));
	json_object_set_new(report, "confidence", json_real(CONFIDENCE));
	json_object_set_new(report, "goals", goals);
	json_object_set_new(report, "tables", tables_json(e));
	return report;
}
