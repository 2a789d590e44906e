/* "Faults survived": what was made to fail, in all runs. See page.h. */
/* SPDX-License-Identifier: MIT */
#include "page.h"

#include <math.h>
#include <string.h>

/* One fault of one run, of the numbers fault.NAME.*_count. */
struct fault {
	const char *name;
	double injected, hit, survived; /* NAN: the run does not say. */
	const struct report_histogram *recovery;
};

static double number_of(struct report_page *p, const struct report_run *run, const char *name,
                        const char *what)
{
	double value;

	return report_run_number(run, report_print(p->arena, "fault.%s.%s_count", name, what),
	                         &value)
	               ? value
	               : NAN;
}

/* false: key is no fault's. */
static bool fault_of(struct report_page *p, const struct report_run *run, const char *key,
                     struct fault *ret)
{
	static const char begin[] = "fault.", end[] = ".injected_count";
	const char *name;

	if (!report_glob("fault.?*.injected_count", key))
		return false;
	name = report_copy(p->arena, key + strlen(begin),
	                   strlen(key) - strlen(begin) - strlen(end));
	*ret = (struct fault){ name, number_of(p, run, name, "injected"),
		               number_of(p, run, name, "hit"), number_of(p, run, name, "survived"),
		               report_hlog_find(&run->log,
		                                report_print(p->arena, "recovery.%s", name)) };
	return true;
}

/* What was never met says nothing; what is not said to have been survived was not. */
static enum report_verdict verdict_of(const struct fault *fault)
{
	if (!(fault->survived >= fault->injected))
		return REPORT_IS_FAIL;
	return fault->hit > 0 ? REPORT_IS_PASS : REPORT_IS_UNTRUSTWORTHY;
}

static void count_cell(struct report_page *p, double value)
{
	report_element(p->out, "td", "class=\"n\"",
	               isnan(value) ? "no data" : report_digits(p->arena, value, 0));
}

static void time_cell(struct report_page *p, const struct report_histogram *h, double percent)
{
	const char *text = "";

	if (h != NULL && h->count > 0 && percent == 100)
		text = report_quantity(p->arena, REPORT_TIME, (double)report_histogram_max(h));
	else if (h != NULL && h->count > 0)
		text = report_percentile_holds(h->count, percent)
		               ? report_quantity(p->arena, REPORT_TIME,
		                                 (double)report_histogram_percentile(h, percent))
		               : "n too small";
	report_element(p->out, "td", "class=\"n\"", text);
}

static void fault_row(struct report_page *p, size_t number, const struct fault *fault)
{
	fputs("<tr><td>", p->out);
	report_badge(p->out, verdict_of(fault));
	fprintf(p->out, "</td><td><a href=\"#r%zu\">", number);
	report_escape(p->out, p->inputs->runs[number].title);
	fputs("</a></td>", p->out);
	report_element(p->out, "th", "scope=\"row\"", fault->name);
	count_cell(p, fault->injected);
	count_cell(p, fault->hit);
	count_cell(p, fault->survived);
	time_cell(p, fault->recovery, 50);
	time_cell(p, fault->recovery, 90);
	time_cell(p, fault->recovery, 100);
	fputs("</tr>\n", p->out);
}

static void begin(struct report_page *p)
{
	fputs("<section><h2 id=\"faults\">Faults survived</h2>\n<p>Injected, on purpose; met by "
	      "what "
	      "was to fail; survived: it served again, and nothing was lost. The times are those "
	      "of "
	      "recovery, from the end of the fault to the first success.</p>\n"
	      "<div class=\"wide\"><table><thead><tr><th scope=\"col\">verdict</th>"
	      "<th scope=\"col\">run</th><th scope=\"col\">fault</th>",
	      p->out);
	for (const char *const *name = (const char *const[]){ "injected", "met", "survived", "p50",
	                                                      "p90", "longest", NULL };
	     *name != NULL; name++)
		report_element(p->out, "th", "scope=\"col\" class=\"n\"", *name);
	fputs("</tr></thead><tbody>\n", p->out);
}

void report_page_faults(struct report_page *page)
{
	bool any = false;

	for (size_t i = 0; i < page->inputs->run_count; i++) {
		const struct report_run *run = &page->inputs->runs[i];
		struct fault fault;
		const char *key;
		json_t *value;

		json_object_foreach(run->numbers, key, value)
		{
			if (!fault_of(page, run, key, &fault))
				continue;
			if (!any)
				begin(page);
			any = true;
			fault_row(page, i, &fault);
		}
	}
	if (any)
		fputs("</tbody></table></div></section>\n", page->out);
}
