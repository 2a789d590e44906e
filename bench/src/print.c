/* print.c - words for people: the result on a terminal of 80 columns. */
/* SPDX-License-Identifier: MIT */
#include "bench.h"

#include <math.h>
#include <stdarg.h>
#include <string.h>

int bench_complain(int code, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	fputs("bench: ", stderr);
	vfprintf(stderr, format, args);
	fputc('\n', stderr);
	va_end(args);
	return code;
}

const char *bench_text(const json_t *object, const char *name)
{
	const char *text = json_string_value(json_object_get(object, name));

	return text != NULL ? text : "";
}

double bench_number(const json_t *object, const char *name)
{
	const json_t *value = json_object_get(object, name);

	return json_is_number(value) ? json_number_value(value) : NAN;
}

/* Three digits: "31.2 ns", "68.1 k/s", "2.13 ms". */
static const char *quantity(const char *figure, double value, char *text, size_t text_size)
{
	bool rate = strcmp(figure, "per_s") == 0;
	const char *const *units;
	static const char *const times[] = { " ns", " us", " ms", " s" };
	static const char *const rates[] = { " /s", " k/s", " M/s", " G/s" };
	unsigned unit = strcmp(figure, "ms") == 0 ? 2 : 0;

	units = rate ? rates : times;
	for (; value >= 999.5 && unit < 3; unit++)
		value /= 1000;
	if (isnan(value))
		snprintf(text, text_size, "failed");
	else
		snprintf(text, text_size, "%.*f%s",
		         value < 9.995   ? 2
		         : value < 99.95 ? 1
		                         : 0,
		         value, units[unit]);
	return text;
}

/* Three digits where there are so many: a ratio, or per cent. */
static const char *digits(double value, char *text, size_t text_size)
{
	double size = fabs(value);

	if (isnan(value))
		snprintf(text, text_size, "-");
	else
		snprintf(text, text_size, "%.*f", size < 9.995 ? 2 : size < 99.95 ? 1 : 0, value);
	return text;
}

static const char *bounded(const json_t *interval, char *text, size_t text_size)
{
	char a[32], b[32], c[32];

	snprintf(text, text_size, "%s [%s %s]",
	         digits(bench_number(interval, "value"), a, sizeof a),
	         digits(bench_number(interval, "low"), b, sizeof b),
	         digits(bench_number(interval, "high"), c, sizeof c));
	return text;
}

static const json_t *best_peer(const json_t *row)
{
	bool more = json_is_true(json_object_get(row, "more_is_better"));
	const json_t *best = NULL;
	json_t *contender;
	size_t i;

	json_array_foreach(json_object_get(row, "contenders"), i, contender)
	{
		double value = bench_number(contender, "value"), than = bench_number(best, "value");

		if (strcmp(bench_text(contender, "kind"), "peer") == 0 && !isnan(value) &&
		    (best == NULL || (more ? value > than : value < than)))
			best = contender;
	}
	return best;
}

static void print_row(FILE *out, const json_t *row)
{
	const json_t *ours = json_array_get(json_object_get(row, "contenders"), 0);
	const json_t *peer = best_peer(row);
	const char *figure = bench_text(row, "figure");
	char a[32], b[32], c[128] = "", name[64] = "";

	if (peer != NULL) {
		snprintf(name, sizeof name, "%s %s", bench_text(peer, "name"),
		         quantity(figure, bench_number(peer, "value"), b, sizeof b));
		bounded(json_object_get(peer, "ratio"), c, sizeof c);
	}
	fprintf(out, "%-25s %9s  %-22s %s%s\n", bench_text(row, "name"),
	        quantity(figure, bench_number(ours, "value"), a, sizeof a), name, c,
	        json_is_true(json_object_get(json_object_get(row, "control"), "holds")) ? ""
	                                                                                : " ?");
}

static void print_goal(FILE *out, const json_t *goal)
{
	char left[96], value[128], limit[32];

	snprintf(left, sizeof left, "%s %s: %s", bench_text(goal, "row"), bench_text(goal, "ours"),
	         bench_text(goal, "text"));
	bounded(goal, value, sizeof value);
	if (strlen(left) > 46)
		fprintf(out, "%s\n%46s", left, "");
	else
		fprintf(out, "%-46s", left);
	fprintf(out, " %-18s%s%-4s %s%s\n", value, bench_text(goal, "relation"),
	        digits(bench_number(goal, "limit"), limit, sizeof limit),
	        bench_text(goal, "result"), json_is_true(json_object_get(goal, "sure")) ? "" : "?");
}

void bench_print(FILE *out, const json_t *report)
{
	const json_t *verdict = json_object_get(report, "verdict");
	json_t *table, *row, *goal;
	size_t t, i;

	fprintf(out, "%-25s %9s  %-22s %s\n", "row", "ours", "best peer", "times better [95 %]");
	json_array_foreach(json_object_get(report, "tables"), t, table)
		json_array_foreach(json_object_get(table, "rows"), i, row) print_row(out, row);
	fprintf(out, "\n%-46s %-18s%s\n", "goal", "value [95 %]", "limit");
	json_array_foreach(json_object_get(report, "goals"), i, goal) print_goal(out, goal);
	fprintf(out, "\n%s%s%s\n", bench_text(verdict, "result"),
	        *bench_text(verdict, "reason") != '\0' ? ": " : "", bench_text(verdict, "reason"));
	fprintf(out, "?: equals differ on this machine (row); the interval holds the "
	             "limit (goal).\n");
}
