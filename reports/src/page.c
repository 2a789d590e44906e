/* index.html: the frame, the verdict and the gates; the rest is in page_*.c. See README.md. */
/* SPDX-License-Identifier: MIT */
#include "page.h"

#include <string.h>

/* The page is complete without this; it only makes it pleasant. */
static const char style[] =
	":root{color-scheme:light dark;--back:#fff;--text:#1b1f24;--soft:#f3f5f8;--line:#d3d9e0;"
	"--quiet:#57606a;--pass:#1a6b35;--fail:#b3261e;--warn:#8a5a00;--odd:#7a3e9d;--link:#0a58a8}"
	"@media(prefers-color-scheme:dark){:root{--back:#14171b;--text:#e4e8ec;--soft:#1e2328;"
	"--line:#3a424b;--quiet:#9aa5b1;--pass:#5fd083;--fail:#ff8a80;--warn:#e8b64c;--odd:#d3a4f0;"
	"--link:#7fb8f5}.s0{stroke:#5cb8f0}.s1{stroke:#ff9d5c}.s2{stroke:#4fd1a5}.s3{stroke:#"
	"e79ccb}.f0{fill:#5cb8f0}}"
	"body{margin:0 auto;padding:1rem;max-width:62rem;background:var(--back);color:var(--text);"
	"font:15px/1.5 system-ui,sans-serif}h1{font-size:1.7rem;margin:.4rem 0}"
	"h2{margin:2.2rem 0 .6rem;padding-bottom:.2rem;border-bottom:1px solid var(--line);"
	"font-size:1.3rem}h3{margin:1.6rem 0 "
	".4rem;font-size:1.05rem}a{color:var(--link);overflow-wrap:anywhere}"
	"ul{padding-left:1.2rem}code,pre{font:13px/1.5 "
	"ui-monospace,monospace;overflow-wrap:anywhere}"
	"pre{white-space:pre-wrap;background:var(--soft);padding:.6rem;border-radius:6px}"
	".wide{overflow-x:auto}table{border-collapse:collapse;width:100%;font-size:14px}"
	"th,td{text-align:left;padding:.3rem .6rem;border-bottom:1px solid var(--line);"
	"vertical-align:top}thead th{color:var(--quiet);font-weight:600;white-space:nowrap}"
	"tbody th{font-weight:400}td.n,th.n{text-align:right;white-space:nowrap;"
	"font-variant-numeric:tabular-nums}"
	".b{font-weight:700;white-space:nowrap}.b0{color:var(--pass)}.b1{color:var(--quiet)}"
	".b2{color:var(--warn)}.b3{color:var(--odd)}.b4{color:var(--fail)}"
	".banner{border:2px solid currentColor;border-radius:8px;padding:.2rem 1rem;margin:1rem 0}"
	".banner>*{color:var(--text)}.quiet{color:var(--quiet)}"
	"figure{margin:1.2rem 0;overflow-x:auto}figcaption{font-weight:600}"
	"svg{max-width:100%;height:auto}figure svg,.wide>table{min-width:560px}"
	"details{margin:.3rem 0}summary{cursor:pointer;color:var(--link)}"
	".ours{font-weight:700}dl{display:grid;grid-template-columns:max-content 1fr;gap:.15rem "
	"1rem;"
	"margin:.4rem 0}dt{color:var(--quiet)}dd{margin:0;overflow-wrap:anywhere}"
	"@media(max-width:600px){dl{grid-template-columns:1fr}dd{margin-bottom:.3rem}}"
	"@media print{body{max-width:none}details::details-content{content-visibility:visible}}";

void report_element(FILE *out, const char *tag, const char *attributes, const char *text)
{
	fprintf(out, "<%s%s%s>", tag, *attributes ? " " : "", attributes);
	report_escape(out, text);
	fprintf(out, "</%s>", tag);
}

void report_badge(FILE *out, enum report_verdict verdict)
{
	static const char *const shapes[] = { "✔", "–", "▲", "?", "✘" };

	fprintf(out, "<span class=\"b b%d\">%s %s</span>", verdict, shapes[verdict],
	        report_verdicts[verdict]);
}

void report_page_begin(FILE *out, const char *title, const char *verdict)
{
	fprintf(out,
	        "<!DOCTYPE html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\">"
	        "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">"
	        "<title>%s: %s</title><style>%s</style></head>\n<body>\n"
	        "<header><p class=\"quiet\">%s</p></header>\n<main>\n",
	        verdict, title, style, title);
}

void report_page_end(FILE *out)
{
	fputs("</main>\n</body>\n</html>\n", out);
}

static void reason(struct report_page *p, size_t index)
{
	const struct report_result *r = &p->judgement->results[index];

	fputs("<li>", p->out);
	report_badge(p->out, r->verdict);
	fprintf(p->out, " <a href=\"#g%zu\">", index);
	report_escape(p->out, r->name);
	fputs("</a>: ", p->out);
	report_escape(p->out, r->reason);
	fputs("</li>\n", p->out);
}

static bool is_ratchet(const struct report_result *r)
{
	return r->gate != NULL && r->gate->severity == REPORT_SEVERITY_RATCHET;
}

static bool alike(const struct report_result *a, const struct report_result *b)
{
	return a->verdict == b->verdict && a->gate != NULL && b->gate != NULL &&
	       (a->verdict == REPORT_IS_SKIP ||
	        (is_ratchet(a) && is_ratchet(b) && strcmp(a->limit, b->limit) == 0)) &&
	       strcmp(a->reason, b->reason) == 0;
}

/* What is skipped, or ratchets, for one reason is one line: "10 ratchets: no record". */
static void reason_once(struct report_page *p, size_t index)
{
	const struct report_result *results = p->judgement->results, *r = &results[index];
	size_t same = 0, ratchets = 0;

	for (size_t i = 0; i < p->judgement->count; i++) {
		if (!alike(r, &results[i]))
			continue;
		if (i < index)
			return; /* Said there. */
		same++;
		ratchets += is_ratchet(&results[i]);
	}
	if (same <= 1) {
		reason(p, index);
		return;
	}
	fputs("<li>", p->out);
	report_badge(p->out, r->verdict);
	fprintf(p->out, " <a href=\"#g%zu\">%zu %s</a>: ", index, same,
	        ratchets == same ? "ratchets" : "gates");
	report_escape(p->out, r->reason);
	fputs("</li>\n", p->out);
}

/* Worst first: who is in a hurry reads the first lines only. */
static void verdict(struct report_page *p)
{
	const struct report_judgement *j = p->judgement;
	unsigned counts[REPORT_IS_FAIL + 1] = { 0 };

	fprintf(p->out, "<section class=\"banner b%d\"><h1>", j->verdict);
	report_badge(p->out, j->verdict);
	fputs("</h1>\n", p->out);
	if (*j->reason != '\0')
		report_element(p->out, "p", "", j->reason);
	for (size_t i = 0; i < j->count; i++)
		counts[j->results[i].verdict]++;
	fprintf(p->out,
	        "<p>%zu %s, %zu judged: %u passed, %u failed, %u untrustworthy, %u warned, "
	        "%u skipped.</p>\n",
	        p->inputs->run_count, p->inputs->run_count == 1 ? "run" : "runs", j->count,
	        counts[REPORT_IS_PASS], counts[REPORT_IS_FAIL], counts[REPORT_IS_UNTRUSTWORTHY],
	        counts[REPORT_IS_WARN], counts[REPORT_IS_SKIP]);
	if (counts[REPORT_IS_PASS] == j->count) {
		fputs("</section>\n", p->out);
		return;
	}
	fputs("<ul>\n", p->out);
	for (int v = REPORT_IS_FAIL; v > REPORT_IS_PASS; v--) {
		for (size_t i = 0; i < j->count; i++) {
			if ((int)j->results[i].verdict == v)
				reason_once(p, i);
		}
	}
	fputs("</ul></section>\n", p->out);
}

/* Repeat first: it is what one does next. */
static void contents(struct report_page *p)
{
	fputs("<section><h2 id=\"runs\">Runs</h2><div class=\"wide\"><table><thead><tr>"
	      "<th scope=\"col\">verdict</th><th scope=\"col\">run</th>"
	      "<th scope=\"col\">repeat</th></tr></thead><tbody>\n",
	      p->out);
	for (size_t i = 0; i < p->inputs->run_count; i++) {
		const struct report_run *run = &p->inputs->runs[i];

		fputs("<tr><td>", p->out);
		report_badge(p->out, run->verdict);
		fprintf(p->out, "</td><td><a href=\"#r%zu\">", i);
		report_escape(p->out, run->title);
		fputs("</a></td><td>", p->out);
		report_element(p->out, "code", "", report_repeat(p->arena, run));
		fputs("</td></tr>\n", p->out);
	}
	fputs("</tbody></table></div></section>\n", p->out);
}

static void gate_row(struct report_page *p, size_t index)
{
	const struct report_result *r = &p->judgement->results[index];
	const char *section = r->gate == NULL ? "" : r->gate->section;

	fprintf(p->out, "<tr id=\"g%zu\"><td>", index);
	report_badge(p->out, r->verdict);
	fputs("</td><td>", p->out);
	report_element(p->out, "code", "", r->name);
	if (r->run != NULL && r->gate != NULL) {
		fprintf(p->out, "<br><a href=\"#r%zu\">", (size_t)(r->run - p->inputs->runs));
		report_escape(p->out, r->run->title);
		fputs("</a>", p->out);
	} else if (*section != '\0') {
		report_element(p->out, "div", "class=\"quiet\"", section);
	}
	if (*r->reason != '\0')
		report_element(p->out, "div", "class=\"quiet\"", r->reason);
	fputs("</td>", p->out);
	report_element(p->out, "td", "class=\"n\"", r->value);
	report_element(p->out, "td", "", r->limit);
	report_element(p->out, "td", "class=\"n\"", r->margin);
	fputs("</tr>\n", p->out);
}

static void gates(struct report_page *p)
{
	fputs("<section><h2 id=\"gates\">Gates</h2>\n", p->out);
	if (p->inputs->gates.count == 0)
		fputs("<p>No gate file was given: what follows are the runs' own verdicts.</p>\n",
		      p->out);
	fputs("<div class=\"wide\"><table><thead><tr><th scope=\"col\">verdict</th>"
	      "<th scope=\"col\">gate</th><th scope=\"col\" class=\"n\">value</th>"
	      "<th scope=\"col\">limit</th><th scope=\"col\" class=\"n\">margin</th></tr></thead>"
	      "<tbody>\n",
	      p->out);
	for (size_t i = 0; i < p->judgement->count; i++)
		gate_row(p, i);
	fputs("</tbody></table></div></section>\n", p->out);
}

static void scalar(struct report_page *p, const char *name, const json_t *value)
{
	const char *text = json_string_value(value);

	if (json_is_number(value)) {
		bool bytes = report_glob("*_bytes", name);

		text = report_quantity(p->arena, bytes ? REPORT_BYTES : REPORT_COUNT,
		                       json_number_value(value));
	}
	if (text == NULL)
		return;
	report_element(p->out, "dt", "", name);
	report_element(p->out, "dd", "", text);
}

static void machines(struct report_page *p)
{
	static const char *const groups[] = { "machine", "versions", "options" };

	fputs("<section><h2 id=\"machine\">Machine and versions</h2>\n", p->out);
	for (size_t i = 0; i < p->inputs->run_count; i++) {
		const struct report_run *run = &p->inputs->runs[i];
		const char *key;
		json_t *value;

		fputs("<details><summary>", p->out);
		report_escape(p->out, run->title);
		fputs("</summary><dl>\n", p->out);
		for (size_t g = 0; g < sizeof groups / sizeof *groups; g++)
			json_object_foreach(json_object_get(run->json, groups[g]), key, value)
				scalar(p, key, value);
		value = json_object_get(run->numbers, "machine.steal_percent");
		if (value != NULL)
			scalar(p, "stolen, %", value);
		fputs("</dl></details>\n", p->out);
	}
	fprintf(p->out,
	        "<p class=\"quiet\">Written by poolproof " PP_VERSION " at %s.</p></section>\n",
	        report_time(p->arena, "%Y-%m-%d %H:%M:%S UTC"));
}

void report_write_page(struct report_arena *arena, FILE *out, const struct report_inputs *inputs,
                       const struct report_judgement *judgement)
{
	struct report_page p = { arena, out, inputs, judgement };

	report_page_begin(out, "Poolproof report", report_verdicts[judgement->verdict]);
	verdict(&p);
	gates(&p);
	contents(&p);
	for (size_t i = 0; i < inputs->run_count; i++)
		report_page_run(&p, &inputs->runs[i], i);
	report_page_faults(&p);
	report_page_leaks(&p);
	machines(&p);
	report_page_end(out);
}
