/* One run on the page: what it asked, its timeline, its latencies, its files. See page.h. */
/* SPDX-License-Identifier: MIT */
#include "chart.h"
#include "page.h"

#include <math.h>
#include <string.h>

/* Copies a column of memory.csv; false when there is none, or nothing in it. Bytes that are 0 all
 * the time were not measured (harness/README.md, "memory.csv"). */
static bool column(struct report_page *p, const struct report_run *run, const char *name,
                   const char *label, struct report_series *ret_series)
{
	const struct report_table *table = &run->memory;
	int at = report_table_column(table, name), time = report_table_column(table, "time_s");
	bool any = !report_glob("*_bytes", name);
	double *x, *y;

	if (!run->has_memory || at < 0 || time < 0 || table->rows == 0)
		return false;
	x = report_alloc(p->arena, table->rows * sizeof *x);
	y = report_alloc(p->arena, table->rows * sizeof *y);
	for (size_t i = 0; i < table->rows; i++) {
		x[i] = table->cells[i * table->columns + (size_t)time];
		y[i] = table->cells[i * table->columns + (size_t)at];
		any |= y[i] != 0;
	}
	*ret_series = (struct report_series){ label, x, y, table->rows };
	return any;
}

struct column {
	const char *name, *label;
};

static void memory_chart(struct report_page *p, const struct report_run *run, const char *title,
                         enum report_unit unit, const struct column *columns, unsigned count)
{
	struct report_chart chart = { .title = title, .unit = unit };

	for (unsigned i = 0; i < count; i++)
		chart.count += column(p, run, columns[i].name, columns[i].label,
		                      &chart.series[chart.count]);
	if (chart.count == 0)
		return;
	chart.about = report_print(p->arena, "%s over %.4g seconds, sampled at least once a second",
	                           title, chart.series[0].x[chart.series[0].count - 1]);
	report_chart_write(p->arena, p->out, &chart);
}

/* What is drawn of an interval of one tag. */
enum drawn { DRAW_RATE, DRAW_P50, DRAW_P99, DRAW_P999, DRAW_MAX };

static double drawn_value(const struct report_interval *i, enum drawn what)
{
	static const double percents[] = { [DRAW_P50] = 50, [DRAW_P99] = 99, [DRAW_P999] = 99.9 };
	const uint64_t values[] = { [DRAW_P50] = i->p50_ns,
		                    [DRAW_P99] = i->p99_ns,
		                    [DRAW_P999] = i->p999_ns,
		                    [DRAW_MAX] = i->max_ns };

	if (what == DRAW_RATE)
		return i->length_s > 0 ? (double)i->count / i->length_s : NAN;
	/* A percentile of too few is none. */
	if (i->count == 0 ||
	    (what != DRAW_MAX && !report_percentile_holds(i->count, percents[what])))
		return NAN;
	return (double)values[what];
}

static struct report_series intervals(struct report_page *p, const struct report_run *run,
                                      const char *tag, enum drawn what, const char *label)
{
	const struct report_hlog *log = &run->log;
	double *x = report_alloc(p->arena, (log->interval_count + 1) * sizeof *x);
	double *y = report_alloc(p->arena, (log->interval_count + 1) * sizeof *y);
	struct report_series series = { label, x, y, 0 };

	for (size_t i = 0; i < log->interval_count; i++) {
		const struct report_interval *interval = &log->intervals[i];

		if (strcmp(log->tags[interval->tag].name, tag) != 0)
			continue;
		x[series.count] = interval->start_s + interval->length_s / 2;
		y[series.count++] = drawn_value(interval, what);
	}
	return series;
}

static void latency_chart(struct report_page *p, const struct report_run *run, const char *tag,
                          const char *title)
{
	struct report_chart chart = {
		.title = title, .unit = REPORT_TIME, .logarithmic = true, .count = 4
	};

	chart.series[0] = intervals(p, run, tag, DRAW_P50, "p50");
	chart.series[1] = intervals(p, run, tag, DRAW_P99, "p99");
	chart.series[2] = intervals(p, run, tag, DRAW_P999, "p99.9");
	chart.series[3] = intervals(p, run, tag, DRAW_MAX, "largest");
	chart.about = report_print(p->arena,
	                           "%s of each interval of the log, on a logarithmic axis; "
	                           "a percentile of too few samples is left out",
	                           title);
	report_chart_write(p->arena, p->out, &chart);
}

static void timeline(struct report_page *p, const struct report_run *run)
{
	static const struct column lanes[] = { { "leased_count", "leased" },
		                               { "waiting_count", "waiting" },
		                               { "connections_count", "open" } };
	static const struct column heap[] = { { "heap_bytes", "heap" },
		                              { "sqlite_bytes", "SQLite" },
		                              { "connections_bytes", "connections" },
		                              { "pool_bytes", "pool" } };
	static const struct column resident[] = { { "rss_bytes", "RSS" }, { "pss_bytes", "PSS" } };
	static const struct column wal[] = { { "wal_bytes", "WAL" } };
	struct report_chart rate = { .title = "Throughput", .unit = REPORT_RATE, .count = 1 };

	rate.series[0] = intervals(p, run, "operation", DRAW_RATE, "operations");
	rate.about = "Operations finished in each second";
	report_chart_write(p->arena, p->out, &rate);
	latency_chart(p, run, "operation", "Latency of operations");
	latency_chart(p, run, "acquire.wait", "Waiting for a connection");
	memory_chart(p, run, "Connections", REPORT_COUNT, lanes, 3);
	memory_chart(p, run, "Live bytes", REPORT_BYTES, heap, 4);
	memory_chart(p, run, "Resident memory", REPORT_BYTES, resident, 2);
	memory_chart(p, run, "Size of the WAL", REPORT_BYTES, wal, 1);
}

static const double percents[] = { 50, 75, 90, 95, 99, 99.5, 99.9, 99.95, 99.99, 99.995, 99.999 };
enum { PERCENTS = sizeof percents / sizeof *percents };

static struct report_series curve(struct report_page *p, const struct report_tag *tag)
{
	double *x = report_alloc(p->arena, (PERCENTS + 1) * sizeof *x);
	double *y = report_alloc(p->arena, (PERCENTS + 1) * sizeof *y);

	y[0] = (double)report_histogram_min(&tag->total);
	for (int i = 0; i < PERCENTS; i++) {
		x[i + 1] = percents[i];
		y[i + 1] = report_percentile_holds(tag->total.count, percents[i])
		                   ? (double)report_histogram_percentile(&tag->total, percents[i])
		                   : NAN;
	}
	return (struct report_series){ tag->name, x, y, PERCENTS + 1 };
}

/* In a closed loop an operation starts when it is due: both are the same. */
static bool is_closed_loop(const struct report_hlog *log)
{
	const struct report_histogram *a = report_hlog_find(log, "operation");
	const struct report_histogram *b = report_hlog_find(log, "service");

	if (a == NULL || b == NULL || a->count != b->count || a->lowest != b->lowest ||
	    a->digits != b->digits)
		return false;
	for (size_t i = 0; i < a->size && i < b->size; i++) {
		if (a->counts[i] != b->counts[i])
			return false;
	}
	return true;
}

/* The four that every run has; the operations by name are in the table. */
static void curves(struct report_page *p, const struct report_run *run)
{
	static const char *const open[] = { "operation", "service", "acquire.wait", "transaction" };
	static const char *const closed[] = { "operation", "acquire.wait", "transaction" };
	bool is_closed = is_closed_loop(&run->log);
	const char *const *wanted = is_closed ? closed : open;
	struct report_chart chart = { .title = "Latency by percentile",
		                      .unit = REPORT_TIME,
		                      .logarithmic = true,
		                      .percentiles = true };

	for (size_t w = 0; w < (is_closed ? 3 : 4); w++) {
		for (size_t i = 0; i < run->log.tag_count; i++) {
			if (strcmp(run->log.tags[i].name, wanted[w]) == 0)
				chart.series[chart.count++] = curve(p, &run->log.tags[i]);
		}
	}
	if (is_closed)
		chart.series[0].name = "operation = service";
	chart.about = "Time at each percentile, which goes as far as there are samples for it; "
		      "operation counts from the intended start, service from the actual one";
	report_chart_write(p->arena, p->out, &chart);
}

static void percentile_row(struct report_page *p, const struct report_tag *tag)
{
	static const double shown[] = { 50, 90, 99, 99.9, 99.99 };
	const struct report_histogram *h = &tag->total;

	fputs("<tr>", p->out);
	report_element(p->out, "th", "scope=\"row\"", tag->name);
	report_element(p->out, "td", "class=\"n\"", report_digits(p->arena, (double)h->count, 0));
	for (size_t i = 0; i < sizeof shown / sizeof *shown; i++) {
		const char *text = "n too small";

		if (report_percentile_holds(h->count, shown[i]))
			text = report_quantity(p->arena, REPORT_TIME,
			                       (double)report_histogram_percentile(h, shown[i]));
		report_element(p->out, "td", "class=\"n\"", text);
	}
	report_element(p->out, "td", "class=\"n\"",
	               report_quantity(p->arena, REPORT_TIME, (double)report_histogram_max(h)));
	fputs("</tr>\n", p->out);
}

static void latencies(struct report_page *p, const struct report_run *run)
{
	if (!run->has_log || run->log.tag_count == 0)
		return;
	fputs("<h3>Latency</h3>\n", p->out);
	curves(p, run);
	fputs("<div class=\"wide\"><table><thead><tr><th scope=\"col\">measured</th>", p->out);
	for (const char *const *name = (const char *const[]){ "count", "p50", "p90", "p99", "p99.9",
	                                                      "p99.99", "largest", NULL };
	     *name != NULL; name++)
		report_element(p->out, "th", "scope=\"col\" class=\"n\"", *name);
	fputs("</tr></thead><tbody>\n", p->out);
	for (size_t i = 0; i < run->log.tag_count; i++)
		percentile_row(p, &run->log.tags[i]);
	fputs("</tbody></table></div>\n", p->out);
}

static void said(struct report_page *p, const struct report_run *run)
{
	static const char *const keys[][2] = { { "question", "Question" },
		                               { "load", "Load" },
		                               { "passes", "Passes" },
		                               { "started", "Started" } };
	const json_t *reasons = json_object_get(json_object_get(run->json, "verdict"), "reasons");
	size_t index;
	json_t *r;

	fputs("<dl>\n", p->out);
	for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
		if (*report_run_text(run, keys[i][0]) == '\0')
			continue;
		report_element(p->out, "dt", "", keys[i][1]);
		report_element(p->out, "dd", "", report_run_text(run, keys[i][0]));
	}
	fputs("<dt>Verdict</dt><dd>", p->out);
	report_badge(p->out, run->verdict);
	json_array_foreach(reasons, index, r)
	{
		const char *text = json_string_value(json_object_get(r, "text"));

		report_element(p->out, "div", "", text == NULL ? "" : text);
	}
	if (run->damage != NULL)
		report_element(p->out, "div", "class=\"b3\"", run->damage);
	if (*report_repeat(p->arena, run) != '\0') {
		fputs("</dd><dt>Repeat</dt><dd>", p->out);
		report_element(p->out, "code", "", report_repeat(p->arena, run));
	}
	fputs("</dd></dl>\n", p->out);
}

static void errors(struct report_page *p, const struct report_run *run)
{
	const json_t *list = json_object_get(run->json, "errors");
	size_t index;
	json_t *e;

	if (json_array_size(list) == 0)
		return;
	fputs("<h3>Errors</h3><div class=\"wide\"><table><thead><tr><th scope=\"col\">kind</th>"
	      "<th scope=\"col\" class=\"n\">count</th><th scope=\"col\">the "
	      "first</th></tr></thead>"
	      "<tbody>\n",
	      p->out);
	json_array_foreach(list, index, e)
	{
		const char *kind = json_string_value(json_object_get(e, "kind"));
		const char *first = json_string_value(json_object_get(e, "first"));

		fputs("<tr>", p->out);
		report_element(p->out, "td", "", kind == NULL ? "" : kind);
		report_element(
			p->out, "td", "class=\"n\"",
			report_digits(p->arena, json_number_value(json_object_get(e, "count")), 0));
		report_element(p->out, "td", "", first == NULL ? "" : first);
		fputs("</tr>\n", p->out);
	}
	fputs("</tbody></table></div>\n", p->out);
}

static void numbers(struct report_page *p, const struct report_run *run)
{
	const char **names;
	size_t count = report_list(p->arena, run->path, &names);
	const char *key;
	json_t *value;

	fputs("<details><summary>All numbers</summary><div class=\"wide\"><table><tbody>\n",
	      p->out);
	json_object_foreach(run->numbers, key, value)
	{
		double number = json_number_value(value);

		fputs("<tr>", p->out);
		report_element(p->out, "th", "scope=\"row\"", key);
		report_element(p->out, "td", "class=\"n\"",
		               report_digits(p->arena, number, number == floor(number) ? 0 : 3));
		fputs("</tr>\n", p->out);
	}
	fputs("</tbody></table></div></details>\n<p class=\"quiet\">Raw files in ", p->out);
	report_element(p->out, "code", "", run->path);
	fputs(": ", p->out);
	for (size_t i = 0; i < count; i++) {
		fputs(i == 0 ? "" : ", ", p->out);
		report_escape(p->out, names[i]);
	}
	fputs(".</p>\n", p->out);
}

void report_page_run(struct report_page *page, const struct report_run *run, size_t number)
{
	fprintf(page->out, "<section><h2 id=\"r%zu\">", number);
	report_escape(page->out, run->title);
	fputs("</h2>\n", page->out);
	said(page, run);
	errors(page, run);
	if (run->has_log || run->has_memory)
		fputs("<h3>Timeline</h3>\n", page->out);
	timeline(page, run);
	latencies(page, run);
	if (run->has_coverage)
		report_page_coverage(page, run);
	numbers(page, run);
	fputs("</section>\n", page->out);
}
