/* The benchmark's page: verdict, goals, a figure for each row. See ../README.md. */
/* SPDX-License-Identifier: MIT */
#include "page.h"

#include <math.h>
#include <string.h>

#include "bars.h"

struct bench {
	struct report_arena *arena;
	FILE *out;
	const json_t *report;
};

static const char *text_of(const json_t *object, const char *name)
{
	const char *text = json_string_value(json_object_get(object, name));

	return text != NULL ? text : "";
}

static double number_of(const json_t *object, const char *name)
{
	const json_t *value = json_object_get(object, name);

	return json_is_number(value) ? json_number_value(value) : NAN;
}

static const char *plain(struct bench *b, double value)
{
	double size = fabs(value);

	if (!isfinite(value))
		return "–";
	return report_digits(b->arena, value, size < 9.995 ? 2 : size < 99.95 ? 1 : 0);
}

/* A figure says its unit with its name. */
static const char *quantity(struct bench *b, const char *figure, double value)
{
	size_t size = strlen(figure);

	if (!isfinite(value))
		return "–";
	if (strcmp(figure, "per_s") == 0)
		return report_quantity(b->arena, REPORT_RATE, value);
	if (strcmp(figure, "ns") == 0)
		return report_quantity(b->arena, REPORT_TIME, value);
	if (size > 3 && strcmp(figure + size - 3, "_us") == 0)
		return report_quantity(b->arena, REPORT_TIME, value * 1e3);
	if (strcmp(figure, "ms") == 0)
		return report_quantity(b->arena, REPORT_TIME, value * 1e6);
	return plain(b, value);
}

static const char *bounded(struct bench *b, const json_t *interval)
{
	if (!isfinite(number_of(interval, "low")))
		return plain(b, number_of(interval, "value"));
	return report_print(b->arena, "%s [%s, %s]", plain(b, number_of(interval, "value")),
	                    plain(b, number_of(interval, "low")),
	                    plain(b, number_of(interval, "high")));
}

static void cell(struct bench *b, const char *attributes, const char *text)
{
	report_element(b->out, "td", attributes, text);
}

/* --- Verdict and goals ------------------------------------------------------------------- */

static enum report_verdict verdict_of(const char *name)
{
	return strcmp(name, "PASS") == 0   ? REPORT_IS_PASS
	       : strcmp(name, "FAIL") == 0 ? REPORT_IS_FAIL
	                                   : REPORT_IS_UNTRUSTWORTHY;
}

static void verdict(struct bench *b)
{
	const json_t *v = json_object_get(b->report, "verdict");
	enum report_verdict is = verdict_of(text_of(v, "result"));

	fprintf(b->out, "<section class=\"banner b%d\"><h1>", is);
	report_badge(b->out, is);
	fputs("</h1>\n", b->out);
	if (*text_of(v, "reason") != '\0')
		report_element(b->out, "p", "", text_of(v, "reason"));
	fprintf(b->out,
	        "<p>%.0f rounds, each contender in each of them in a process of its own, in "
	        "alternating order. Medians, and in brackets their %.0f %% "
	        "intervals.</p></section>\n",
	        number_of(b->report, "rounds"), 100 * number_of(b->report, "confidence"));
}

static void goal_badge(struct bench *b, const json_t *goal)
{
	const char *result = text_of(goal, "result");
	bool met = strcmp(result, "MET") == 0, missed = strcmp(result, "MISSED") == 0;

	fprintf(b->out, "<span class=\"b b%d\">%s ",
	        met      ? REPORT_IS_PASS
	        : missed ? REPORT_IS_FAIL
	                 : REPORT_IS_UNTRUSTWORTHY,
	        met      ? "✔"
	        : missed ? "✘"
	                 : "?");
	report_escape(b->out, result);
	fputs("</span>", b->out);
	if (!json_is_true(json_object_get(goal, "sure")))
		fputs("<div class=\"quiet\">the interval holds the limit</div>", b->out);
}

static void goals(struct bench *b)
{
	json_t *goal;
	size_t i;

	fputs("<section><h2 id=\"goals\">Goals</h2><div class=\"wide\"><table><thead><tr>"
	      "<th scope=\"col\">result</th><th scope=\"col\">goal</th>"
	      "<th scope=\"col\" class=\"n\">value</th><th scope=\"col\" class=\"n\">limit</th>"
	      "</tr></thead><tbody>\n",
	      b->out);
	json_array_foreach(json_object_get(b->report, "goals"), i, goal)
	{
		fputs("<tr><td>", b->out);
		goal_badge(b, goal);
		fputs("</td><td>", b->out);
		report_escape(b->out, text_of(goal, "text"));
		report_element(b->out, "div", "class=\"quiet\"",
		               report_print(b->arena, "%s, %s", text_of(goal, "row"),
		                            text_of(goal, "ours")));
		fputs("</td>", b->out);
		cell(b, "class=\"n\"", bounded(b, goal));
		cell(b, "class=\"n\"",
		     report_print(b->arena, "%s %s",
		                  strcmp(text_of(goal, "relation"), ">=") == 0 ? "≥" : "≤",
		                  plain(b, number_of(goal, "limit"))));
		fputs("</tr>\n", b->out);
	}
	fputs("</tbody></table></div></section>\n", b->out);
}

/* --- A row ------------------------------------------------------------------------------- */

static const json_t *contender(const json_t *row, const char *name)
{
	json_t *c;
	size_t i;

	json_array_foreach(json_object_get(row, "contenders"), i, c)
	{
		if (strcmp(text_of(c, "name"), name) == 0)
			return c;
	}
	return NULL;
}

/* Where a goal lies on the axis of this row's own figure; NAN: it is about something else. */
static double goal_at(const json_t *row, const json_t *goal)
{
	double limit = number_of(goal, "limit"), than;
	bool more = json_is_true(json_object_get(row, "more_is_better"));

	if (strcmp(text_of(goal, "row"), text_of(row, "name")) != 0 ||
	    *text_of(goal, "figure") != '\0' || *text_of(goal, "against_row") != '\0')
		return NAN;
	if (*text_of(goal, "against") == '\0')
		return limit;
	than = number_of(contender(row, text_of(goal, "against")), "value");
	return more ? than * limit : than / limit;
}

static void add_mark(struct bench *b, struct report_bars *bars, const json_t *row,
                     const char *words, double at, int bar)
{
	if (!isfinite(at) || bars->mark_count == REPORT_MARKS_MAX)
		return;
	bars->marks[bars->mark_count++] =
		(struct report_mark){ report_print(b->arena, "%s: %s", words,
		                                   quantity(b, text_of(row, "figure"), at)),
		                      at, bar };
}

static void add_goals(struct bench *b, struct report_bars *bars, const json_t *row)
{
	json_t *goal;
	size_t i;

	json_array_foreach(json_object_get(b->report, "goals"), i, goal)
	{
		for (unsigned k = 0; k < bars->bar_count; k++)
			if (strcmp(bars->bars[k].name, text_of(goal, "ours")) == 0)
				add_mark(b, bars, row,
				         report_print(b->arena, "goal of %s, %s",
				                      text_of(goal, "ours"), text_of(goal, "text")),
				         goal_at(row, goal), (int)k);
	}
}

static void add_bar(struct bench *b, struct report_bars *bars, const json_t *row, const json_t *c,
                    const char *name)
{
	const json_t *ratio = json_object_get(c, "ratio");
	const char *value = quantity(b, text_of(row, "figure"), number_of(c, "value"));

	if (bars->bar_count == REPORT_BARS_MAX)
		return;
	if (ratio != NULL && strcmp(text_of(c, "kind"), "peer") == 0)
		value = report_print(b->arena, "%s, ours × %s", value, bounded(b, ratio));
	if (json_object_get(c, "failed") != NULL)
		value = report_print(b->arena, "failed: %s", text_of(c, "failed"));
	bars->bars[bars->bar_count++] = (struct report_bar){
		name,
		value,
		number_of(c, "value"),
		number_of(c, "low"),
		number_of(c, "high"),
		strcmp(text_of(c, "kind"), "ours") == 0,
	};
}

static void row_bars(struct bench *b, const json_t *row)
{
	struct report_bars bars = { .title = text_of(row, "about") };
	json_t *c;
	size_t i;

	bars.about = report_print(
		b->arena, "%s; %s is better. The numbers stand in the table.", text_of(row, "name"),
		json_is_true(json_object_get(row, "more_is_better")) ? "longer" : "shorter");
	json_array_foreach(json_object_get(row, "contenders"), i, c)
	{
		if (strcmp(text_of(c, "kind"), "limit") != 0)
			add_bar(b, &bars, row, c, text_of(c, "name"));
		else
			add_mark(b, &bars, row,
			         report_print(b->arena, "limit, %s", text_of(c, "about")),
			         number_of(c, "value"), -1);
	}
	add_goals(b, &bars, row);
	report_bars_write(b->out, &bars);
}

/* The columns of a row's table: whatever figure one of its contenders has. */
static size_t columns(struct bench *b, const json_t *row, const char ***ret)
{
	const char **names = NULL, *name;
	size_t count = 0, i;
	json_t *c, *value;

	json_array_foreach(json_object_get(row, "contenders"), i, c)
		json_object_foreach(json_object_get(c, "figures"), name, value)
	{
		bool known = false;

		for (size_t k = 0; k < count; k++)
			known = known || strcmp(names[k], name) == 0;
		if (known || json_is_null(value))
			continue;
		names = report_grow(b->arena, names, count, sizeof *names);
		names[count++] = name;
	}
	*ret = names;
	return count;
}

/* Median, and the interval's ends. */
static void bounds(struct bench *b, const char *figure, const json_t *interval)
{
	static const char *const names[] = { "value", "low", "high" };

	for (int i = 0; i < 3; i++)
		cell(b, "class=\"n\"", quantity(b, figure, number_of(interval, names[i])));
}

static void row_table(struct bench *b, const json_t *row)
{
	const json_t *control = json_object_get(row, "control");
	const char **names;
	size_t count = columns(b, row, &names), i;
	json_t *c;

	fputs("<details><summary>The numbers</summary><div class=\"wide\"><table><thead><tr>"
	      "<th scope=\"col\">contender</th><th scope=\"col\" class=\"n\">median</th>"
	      "<th scope=\"col\" class=\"n\">from</th><th scope=\"col\" class=\"n\">to</th>"
	      "<th scope=\"col\" class=\"n\">ours is better by</th>",
	      b->out);
	for (size_t k = 0; k < count; k++)
		report_element(b->out, "th", "scope=\"col\" class=\"n\"", names[k]);
	fputs("</tr></thead><tbody>\n", b->out);
	json_array_foreach(json_object_get(row, "contenders"), i, c)
	{
		fputs("<tr><th scope=\"row\">", b->out);
		report_escape(b->out, text_of(c, "name"));
		report_element(b->out, "div", "class=\"quiet\"", text_of(c, "about"));
		fputs("</th>", b->out);
		bounds(b, text_of(row, "figure"), c);
		cell(b, "class=\"n\"", i == 0 ? "" : bounded(b, json_object_get(c, "ratio")));
		for (size_t k = 0; k < count; k++)
			cell(b, "class=\"n\"",
			     quantity(b, names[k],
			              number_of(json_object_get(c, "figures"), names[k])));
		fputs("</tr>\n", b->out);
	}
	fprintf(b->out,
	        "</tbody></table></div><p class=\"quiet\">Control (ours against ours): %s%s%s"
	        "</p></details>\n",
	        bounded(b, control),
	        json_is_true(json_object_get(control, "holds")) ? ""
	                                                        : ", which is not to be trusted",
	        number_of(row, "take") > 0 ? "; measured a second time, because of the first one's"
	                                   : "");
}

/* --- Rows of a table that grows: one figure for all that differ in size only -------------- */

static size_t stem(const char *name)
{
	const char *dash = strrchr(name, '-');

	return dash != NULL ? (size_t)(dash - name) : strlen(name);
}

static bool alike(const json_t *a, const json_t *b)
{
	size_t size = stem(text_of(a, "name"));

	return size == stem(text_of(b, "name")) &&
	       strncmp(text_of(a, "name"), text_of(b, "name"), size) == 0;
}

static void growing_table(struct bench *b, const json_t *rows, size_t first, size_t end)
{
	fputs("<details><summary>The numbers</summary><div class=\"wide\"><table><thead><tr>"
	      "<th scope=\"col\">row</th><th scope=\"col\" class=\"n\">median</th>"
	      "<th scope=\"col\" class=\"n\">from</th><th scope=\"col\" class=\"n\">to</th>"
	      "<th scope=\"col\" class=\"n\">control</th></tr></thead><tbody>\n",
	      b->out);
	for (size_t i = first; i < end; i++) {
		const json_t *row = json_array_get(rows, i);

		fputs("<tr>", b->out);
		report_element(b->out, "th", "scope=\"row\"", text_of(row, "about"));
		bounds(b, text_of(row, "figure"),
		       json_array_get(json_object_get(row, "contenders"), 0));
		cell(b, "class=\"n\"", bounded(b, json_object_get(row, "control")));
		fputs("</tr>\n", b->out);
	}
	fputs("</tbody></table></div></details>\n", b->out);
}

/* Returns the first row that is not of this kind any more. */
static size_t growing_rows(struct bench *b, const json_t *rows, size_t first)
{
	const json_t *row = json_array_get(rows, first);
	struct report_bars bars = { .about = "One bar for each size; shorter is better." };
	const char *about = text_of(row, "about");
	size_t i = first;

	bars.title = report_copy(b->arena, about, strcspn(about, ":"));
	for (; i < json_array_size(rows) && alike(row, json_array_get(rows, i)); i++) {
		const json_t *one = json_array_get(rows, i);

		add_bar(b, &bars, one, json_array_get(json_object_get(one, "contenders"), 0),
		        report_print(b->arena, "%s",
		                     text_of(one, "name") + stem(text_of(one, "name")) + 1));
	}
	report_bars_write(b->out, &bars);
	growing_table(b, rows, first, i);
	return i;
}

/* --- The page ---------------------------------------------------------------------------- */

static void table(struct bench *b, const json_t *t)
{
	const json_t *rows = json_object_get(t, "rows");

	fputs("<section><h2>", b->out);
	report_escape(b->out, text_of(t, "title"));
	fputs("</h2>\n", b->out);
	report_element(b->out, "p", "", text_of(t, "about"));
	for (size_t i = 0; i < json_array_size(rows);) {
		const json_t *row = json_array_get(rows, i);

		if (number_of(row, "size") > 0) {
			i = growing_rows(b, rows, i);
			continue;
		}
		row_bars(b, row);
		row_table(b, row);
		i++;
	}
	fputs("</section>\n", b->out);
}

static void machine(struct bench *b)
{
	static const char *const groups[] = { "machine", "versions" };
	const char *key;
	json_t *value;

	fputs("<section><h2 id=\"machine\">Machine and versions</h2><dl>\n", b->out);
	for (size_t g = 0; g < sizeof groups / sizeof *groups; g++)
		json_object_foreach(json_object_get(b->report, groups[g]), key, value)
		{
			report_element(b->out, "dt", "", key);
			report_element(
				b->out, "dd", "",
				json_is_string(value)
					? json_string_value(value)
					: report_digits(b->arena, json_number_value(value), 0));
		}
	report_element(b->out, "dt", "", "stolen, %");
	report_element(b->out, "dd", "", plain(b, number_of(b->report, "stolen_percent")));
	report_element(b->out, "dt", "", "started");
	report_element(b->out, "dd", "", text_of(b->report, "started"));
	report_element(b->out, "dt", "", "took");
	report_element(
		b->out, "dd", "",
		report_quantity(b->arena, REPORT_TIME, 1e9 * number_of(b->report, "took_s")));
	fputs("</dl></section>\n", b->out);
}

void report_write_bench(struct report_arena *arena, FILE *out, const json_t *report)
{
	struct bench b = { arena, out, report };
	json_t *t;
	size_t i;

	report_page_begin(
		out, "Poolproof benchmark",
		report_verdicts[verdict_of(text_of(json_object_get(report, "verdict"), "result"))]);
	verdict(&b);
	goals(&b);
	json_array_foreach(json_object_get(report, "tables"), i, t) table(&b, t);
	machine(&b);
	report_page_end(out);
}
