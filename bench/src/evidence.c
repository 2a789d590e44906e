/*
 * evidence.c - what the lines of a raw.jsonl say, row by row and contender by contender.
 */
/* SPDX-License-Identifier: MIT */
#include "evidence.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

/* That any control of a run fails by chance; each has its share. */
#define FALSE_ALARMS 0.01

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

double evidence_figure(const struct side *side, const char *name, unsigned round)
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

double evidence_latency(const struct side *side, const char *name, const unsigned *rounds,
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

double evidence_value(const struct side *side, const char *name, const unsigned *rounds,
                      unsigned count)
{
	double values[HARNESS_ROUNDS_MAX];

	if (side->failed != NULL)
		return NAN;
	if (is_latency(name))
		return evidence_latency(side, name, rounds, count);
	for (unsigned i = 0; i < count; i++)
		values[i] = evidence_figure(side, name, rounds[i]);
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
	double a = evidence_value(c->ours, c->figure, rounds, count), b;

	if (c->theirs == NULL)
		return a;
	b = evidence_value(c->theirs, c->figure, rounds, count);
	return bench_more_is_better(c->figure) ? a / b : b / a;
}

struct harness_interval evidence_compare(const struct bench_evidence *e, const struct side *ours,
                                         const struct side *theirs, const char *figure)
{
	struct comparison c = { ours, theirs, figure };

	return harness_bootstrap(compare, &c, e->rounds, BENCH_CONFIDENCE, e->seed);
}

static void control(const struct bench_evidence *e, struct seen_row *seen)
{
	const char *figure = bench_figures[seen->row->unit];
	double a[HARNESS_ROUNDS_MAX], b[HARNESS_ROUNDS_MAX];

	for (unsigned i = 0; i < e->rounds; i++) {
		a[i] = evidence_figure(&seen->sides[0], figure, i);
		b[i] = evidence_figure(&seen->sides[bench_contender_count(seen->row)], figure, i);
	}
	seen->control = harness_control(a, b, e->rounds, 1 - FALSE_ALARMS / e->row_count);
}

bool evidence_control_holds(const struct seen_row *seen)
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
