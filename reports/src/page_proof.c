/* Leaks and coverage on the page; see page.h. */
/* SPDX-License-Identifier: MIT */
#include "page.h"

#include <math.h>
#include <string.h>

enum { LEAKS_MAX = 200 }; /* Rows of a table that somebody still reads; the rest is counted. */

/* The most that memory.csv saw live on the heap; 0 where it was not read. */
static double heap_most(const struct report_run *run)
{
	const struct report_table *table = &run->memory;
	int at = run->has_memory ? report_table_column(table, "heap_bytes") : -1;
	double most = 0;

	for (size_t i = 0; at >= 0 && i < table->rows; i++)
		most = fmax(most, table->cells[i * table->columns + (size_t)at]);
	return most;
}

/* The census in words: "no leak over 1,234 operations". */
static void census(struct report_page *p, const struct report_run *run)
{
	double leaked, residue, operations = 0;
	bool counted = report_run_number(run, "heap.leaked_bytes", &leaked);
	bool booked = report_run_number(run, "heap.residue_bytes", &residue);

	if (!counted && !booked)
		return;
	report_run_number(run, "operations_count", &operations);
	fputs("<li>", p->out);
	report_escape(p->out, run->title);
	fputs(": ", p->out);
	if ((!counted || leaked == 0) && (!booked || residue == 0))
		fprintf(p->out, "by its own census no leak over %s operations",
		        report_digits(p->arena, operations, 0));
	else
		fprintf(p->out, "<strong>memory was left over %s operations</strong>",
		        report_digits(p->arena, operations, 0));
	if (counted && leaked == 0)
		fputs("; the heap ended where it began", p->out);
	else if (counted)
		fprintf(p->out, "; the heap ended %s larger than it began",
		        report_quantity(p->arena, REPORT_BYTES, leaked));
	if (counted && heap_most(run) > 0)
		fprintf(p->out, ", and held %s at most",
		        report_quantity(p->arena, REPORT_BYTES, heap_most(run)));
	if (booked)
		fprintf(p->out, "; %s left in closed accounts",
		        report_quantity(p->arena, REPORT_BYTES, residue));
	fputs(".</li>\n", p->out);
}

static void stack(struct report_page *p, const struct report_leak *leak)
{
	fputs("<ol>\n", p->out);
	for (size_t i = 0; i < leak->frame_count; i++) {
		const struct report_frame *f = &leak->frames[i];

		fprintf(p->out, "<li%s><code>", f->ours ? " class=\"ours\"" : "");
		report_escape(p->out, f->function);
		fputs(" — ", p->out);
		report_escape(p->out, *f->place ? f->place : f->object);
		if (f->line > 0)
			fprintf(p->out, ":%u", f->line);
		fputs("</code></li>\n", p->out);
	}
	fputs("</ol>", p->out);
}

static void leak_row(struct report_page *p, const struct report_leak *leak)
{
	fputs("<tr>", p->out);
	report_element(p->out, "td", "",
	               report_print(p->arena, "%s%s", leak->kind, leak->known ? " (known)" : ""));
	report_element(p->out, "td", "class=\"n\"",
	               leak->lost ? report_quantity(p->arena, REPORT_BYTES, (double)leak->bytes)
	                          : "–");
	report_element(p->out, "td", "class=\"n\"",
	               leak->lost ? report_digits(p->arena, (double)leak->blocks, 0) : "–");
	report_element(p->out, "td", "class=\"n\"", report_print(p->arena, "%u", leak->processes));
	fputs("<td><details><summary>", p->out);
	if (leak->site != NULL)
		report_element(p->out, "code", "",
		               report_print(p->arena, "%s %s:%u", leak->site->function,
		                            leak->site->place, leak->site->line));
	else
		fputs("none of our code on the stack", p->out);
	fputs("</summary>", p->out);
	report_element(p->out, "p", "", leak->text);
	stack(p, leak);
	fputs("fingerprint ", p->out);
	report_element(p->out, "code", "", leak->fingerprint);
	fputs("</details></td></tr>\n", p->out);
}

static void findings(struct report_page *p, const struct report_run *run)
{
	const struct report_leaks *leaks = &run->leaks;

	fputs("<h3>", p->out);
	report_escape(p->out, run->title);
	fprintf(p->out, "</h3><p>%u %s watched, %zu different %s.", leaks->documents,
	        leaks->documents == 1 ? "process" : "processes", leaks->count,
	        leaks->count == 1 ? "finding" : "findings");
	if (leaks->truncated > 0)
		fprintf(p->out, " <strong class=\"b3\">%u %s cut: more may be lost.</strong>",
		        leaks->truncated, leaks->truncated == 1 ? "report is" : "reports are");
	fputs("</p>\n", p->out);
	if (leaks->count == 0)
		return;
	fputs("<div class=\"wide\"><table><thead><tr><th scope=\"col\">kind</th>"
	      "<th scope=\"col\" class=\"n\">bytes</th><th scope=\"col\" class=\"n\">blocks</th>"
	      "<th scope=\"col\" class=\"n\">processes</th>"
	      "<th scope=\"col\">first line of our code</th></tr></thead><tbody>\n",
	      p->out);
	for (size_t i = 0; i < leaks->count && i < LEAKS_MAX; i++)
		leak_row(p, &leaks->items[i]);
	fputs("</tbody></table></div>\n", p->out);
	if (leaks->count > LEAKS_MAX)
		fprintf(p->out, "<p>The first %d of %zu; all are in report.json.</p>\n", LEAKS_MAX,
		        leaks->count);
}

void report_page_leaks(struct report_page *page)
{
	fputs("<section><h2 id=\"leaks\">Leaks</h2><ul>\n", page->out);
	for (size_t i = 0; i < page->inputs->run_count; i++)
		census(page, &page->inputs->runs[i]);
	fputs("</ul>\n", page->out);
	for (size_t i = 0; i < page->inputs->run_count; i++) {
		if (page->inputs->runs[i].has_leaks)
			findings(page, &page->inputs->runs[i]);
	}
	fputs("</section>\n", page->out);
}

/* What the gate file asks of a component; 0 where it asks nothing. */
static double target_of(struct report_page *p, const char *component, enum report_measure measure)
{
	const char *metric = report_print(p->arena, "coverage.%s", report_measures[measure]);
	double most = 0;

	for (size_t i = 0; i < p->inputs->gates.count; i++) {
		const struct report_gate *gate = &p->inputs->gates.items[i];

		if (strcmp(gate->metric, metric) != 0 || gate->label_count != 1 ||
		    gate->severity == REPORT_SEVERITY_RATCHET || gate->op != REPORT_GE)
			continue;
		if (report_glob(gate->labels[0].value, component))
			most = fmax(most, gate->limit);
	}
	return most;
}

/* A bar of 200 pixels with a tick where the target is. */
static void bar(struct report_page *p, struct report_ratio r, double target)
{
	double part = r.total == 0 ? 0 : 100 * (double)r.covered / (double)r.total;
	const char *text =
		r.total == 0 ? "no data" : report_quantity(p->arena, REPORT_PERCENT, part);

	fprintf(p->out,
	        "<td><svg viewBox=\"0 0 204 16\" width=\"204\" height=\"16\" role=\"img\">"
	        "<title>%s",
	        text);
	if (target > 0)
		fprintf(p->out, ", target %g %%", target);
	fprintf(p->out,
	        "</title><rect x=\"2\" y=\"4\" width=\"200\" height=\"8\" fill=\"currentColor\" "
	        "fill-opacity=\".15\"/><rect x=\"2\" y=\"4\" width=\"%.1f\" height=\"8\" "
	        "fill=\"%s\"/>",
	        2 * part,
	        target <= 0      ? "#5b8fc9"
	        : part >= target ? "#2a9d5c"
	                         : "#d08700");
	if (target > 0)
		fprintf(p->out,
		        "<path d=\"M%.1f 1v14\" stroke=\"currentColor\" stroke-width=\"2\"/>",
		        2 + 2 * target);
	fprintf(p->out, "</svg><div>%s <span class=\"quiet\">(%llu of %llu", text,
	        (unsigned long long)r.covered, (unsigned long long)r.total);
	if (target > 0)
		fprintf(p->out, "; target %g %%", target);
	fputs(")</span></div></td>", p->out);
}

static void component_row(struct report_page *p, const struct report_run *run, const char *name,
                          const struct report_component *component)
{
	fputs("<tr>", p->out);
	report_element(p->out, "th", "scope=\"row\"", name);
	for (int m = 0; m < REPORT_MEASURES; m++)
		bar(p, report_coverage_sum(&run->coverage, component, (enum report_measure)m),
		    component == NULL ? 0 : target_of(p, name, (enum report_measure)m));
	fputs("</tr>\n", p->out);
}

static bool misses(const struct report_file *file)
{
	for (int m = 0; m < REPORT_MEASURES; m++) {
		if (file->ratios[m].covered < file->ratios[m].total)
			return true;
	}
	return false;
}

static void file_row(struct report_page *p, const struct report_file *file)
{
	fputs("<tr>", p->out);
	report_element(p->out, "th", "scope=\"row\"", file->path);
	for (int m = 0; m < REPORT_MEASURES; m++) {
		struct report_ratio r = file->ratios[m];

		report_element(
			p->out, "td", "class=\"n\"",
			r.total == 0 ? "no data"
				     : report_quantity(p->arena, REPORT_PERCENT,
		                                       100 * (double)r.covered / (double)r.total));
	}
	fputs("<td>", p->out);
	if (*file->uncovered != '\0')
		report_element(p->out, "div", "",
		               report_print(p->arena, "lines %s", file->uncovered));
	for (size_t i = 0; i < file->function_count; i++) {
		fputs(i == 0 ? "<div>never called: " : ", ", p->out);
		report_element(p->out, "code", "", file->functions[i]);
	}
	fputs(file->function_count > 0 ? "</div></td></tr>\n" : "</td></tr>\n", p->out);
}

void report_page_coverage(struct report_page *page, const struct report_run *run)
{
	const struct report_gates *gates = &page->inputs->gates;
	size_t missing = 0;

	fputs("<h3>Coverage</h3><div class=\"wide\"><table><thead><tr><th "
	      "scope=\"col\">component</th>"
	      "<th scope=\"col\">lines</th><th scope=\"col\">functions</th>"
	      "<th scope=\"col\">branches</th></tr></thead><tbody>\n",
	      page->out);
	for (size_t c = 0; c < gates->component_count; c++)
		component_row(page, run, gates->components[c].name, &gates->components[c]);
	component_row(page, run, "everything", NULL);
	fputs("</tbody></table></div>\n", page->out);
	for (size_t f = 0; f < run->coverage.count; f++)
		missing += misses(&run->coverage.files[f]);
	if (missing == 0)
		return;
	fprintf(page->out,
	        "<details><summary>%zu of %zu files miss something</summary>"
	        "<div class=\"wide\"><table><thead><tr><th scope=\"col\">file</th>"
	        "<th scope=\"col\" class=\"n\">lines</th><th scope=\"col\" "
	        "class=\"n\">functions</th>"
	        "<th scope=\"col\" class=\"n\">branches</th><th scope=\"col\">not covered</th></tr>"
	        "</thead><tbody>\n",
	        missing, run->coverage.count);
	for (size_t f = 0; f < run->coverage.count; f++) {
		if (misses(&run->coverage.files[f]))
			file_row(page, &run->coverage.files[f]);
	}
	fputs("</tbody></table></div></details>\n", page->out);
}
