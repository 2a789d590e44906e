/*
 * judge.c - from what was measured to ratios, goals and a verdict.
 *
 * Everything here depends on raw.jsonl and the tables alone, so an old run can be judged again.
 */
/* SPDX-License-Identifier: MIT */
#include "evidence.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

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
			                    number(evidence_value(side, name, rounds, e->rounds)));
	}
	if (json_object_get(side->figures[0], "latency") != NULL)
		for (unsigned i = 0; i < sizeof latencies / sizeof *latencies; i++)
			json_object_set_new(
				json, latencies[i],
				number(evidence_latency(side, latencies[i], rounds, e->rounds)));
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
	put_interval(json, evidence_compare(e, side, NULL, figure));
	if (index > 0)
		json_object_set_new(
			json, "ratio",
			interval_json(evidence_compare(e, &seen->sides[0], side, figure)));
	json_object_set_new(json, "figures", other_figures(e, seen, side));
	return json;
}

static json_t *row_json(const struct bench_evidence *e, const struct seen_row *seen)
{
	const struct bench_row *row = seen->row;
	json_t *contenders = json_array(), *control_json = interval_json(seen->control);

	json_object_set_new(control_json, "holds", json_boolean(evidence_control_holds(seen)));
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
			y[count++] = log(evidence_figure(side, bench_figures[row->unit], r));
		}
	}
	s = harness_slope(x, y, count, BENCH_CONFIDENCE);
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
	*ret = evidence_compare(
		e, a, b, goal->figure != NULL ? goal->figure : bench_figures[ours->row->unit]);
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
	json_object_set_new(report, "confidence", json_real(BENCH_CONFIDENCE));
	json_object_set_new(report, "goals", goals);
	json_object_set_new(report, "tables", tables_json(e));
	return report;
}
