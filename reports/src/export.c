/* A judgement for the terminal and for machines: table, report.json, junit.xml. */
/* SPDX-License-Identifier: MIT */
#include "command.h"

#include <string.h>
#include <unistd.h>

/* The table's columns, 80 characters in all. */
enum { NAME_AT = 14, VALUE_AT = 48, LIMIT_AT = 61, LINE = 80 };

static const char *const colours[] = { "\033[32m", "\033[36m", "\033[33m", "\033[35m", "\033[31m" };

/* A cell at its column, on the next line when the one before it is too long. */
static int cell(FILE *out, int at, int column, const char *text)
{
	if (*text == '\0')
		return at;
	if (at >= column) {
		fputc('\n', out);
		at = 0;
	}
	fprintf(out, "%*s%s", column - at, "", text);
	return column + report_width(text);
}

static void print_row(struct report_arena *arena, FILE *out, const struct report_result *r,
                      bool name_run, bool explain, bool colour)
{
	const char *verdict = report_verdicts[r->verdict];
	const char *limit = r->limit, *reason = report_clean(arena, r->reason);
	int at = report_width(verdict);

	fprintf(out, "%s%s%s", colour ? colours[r->verdict] : "", verdict, colour ? "\033[0m" : "");
	at = cell(out, at, NAME_AT, report_clean(arena, r->name));
	at = cell(out, at, VALUE_AT, r->value);
	if (LIMIT_AT + report_width(limit) > LINE && *limit != '\0') {
		fputc('\n', out);
		report_fill(out, 0, NAME_AT, report_print(arena, "limit %s", limit));
	} else {
		cell(out, at, LIMIT_AT, limit);
		fputc('\n', out);
	}
	if (*reason != '\0' && name_run && r->run != NULL)
		report_fill(
			out, 0, NAME_AT,
			report_print(arena, "%s: %s", report_clean(arena, r->run->title), reason));
	else if (*reason != '\0')
		report_fill(out, 0, NAME_AT, reason);
	else if (name_run && r->run != NULL)
		report_fill(out, 0, NAME_AT, report_clean(arena, r->run->title));
	if (!explain || r->gate == NULL)
		return;
	report_fill(
		out, 0, NAME_AT,
		report_clean(arena, report_print(arena, "%s: %s", r->gate->where, r->gate->text)));
	if (r->run != NULL)
		report_fill(out, 0, NAME_AT,
		            report_clean(arena, report_print(arena, "run %s", r->run->path)));
	if (r->samples > 0 || *r->margin != '\0')
		report_fill(out, 0, NAME_AT,
		            report_print(arena, "n %s%s%s",
		                         report_digits(arena, (double)r->samples, 0),
		                         *r->margin == '\0' ? "" : ", margin ", r->margin));
}

void report_print_table(struct report_arena *arena, FILE *out,
                        const struct report_judgement *judgement, bool explain, bool colour)
{
	static const char *const words[] = { "passed", "failed", "untrustworthy", "warned",
		                             "skipped" };
	static const enum report_verdict order[] = { REPORT_IS_PASS, REPORT_IS_FAIL,
		                                     REPORT_IS_UNTRUSTWORTHY, REPORT_IS_WARN,
		                                     REPORT_IS_SKIP };
	unsigned counts[REPORT_IS_FAIL + 1] = { 0 };
	const char *verdict = report_verdicts[judgement->verdict];

	fprintf(out, "%-*s%-*s%-*s%s\n", NAME_AT, "VERDICT", VALUE_AT - NAME_AT, "GATE",
	        LIMIT_AT - VALUE_AT, "VALUE", "LIMIT");
	for (size_t i = 0; i < judgement->count; i++) {
		const struct report_result *r = &judgement->results[i];
		bool before = i > 0 && judgement->results[i - 1].gate == r->gate;
		bool after = i + 1 < judgement->count && judgement->results[i + 1].gate == r->gate;

		counts[r->verdict]++;
		print_row(arena, out, r, r->gate != NULL && (before || after), explain, colour);
	}
	fprintf(out, "%s%s%s: %s", colour ? colours[judgement->verdict] : "", verdict,
	        colour ? "\033[0m" : "", judgement->reason);
	for (int v = 0, said = *judgement->reason != '\0'; v < 5; v++) {
		if (counts[order[v]] == 0)
			continue;
		fprintf(out, "%s%u %s", said ? ", " : "", counts[order[v]], words[v]);
		said = 1;
	}
	fputc('\n', out);
}

static json_t *string(struct report_arena *arena, const char *text)
{
	return json_string(report_clean(arena, text));
}

static json_t *result_json(struct report_arena *arena, const struct report_result *r)
{
	static const char *const severities[] = { "fail", "warn", "ratchet" };
	json_t *o = json_object();

	json_object_set_new(o, "name", string(arena, r->name));
	json_object_set_new(o, "verdict", json_string(report_verdicts[r->verdict]));
	json_object_set_new(o, "value", string(arena, r->value));
	json_object_set_new(o, "limit", string(arena, r->limit));
	json_object_set_new(o, "margin", string(arena, r->margin));
	json_object_set_new(o, "samples", json_integer((json_int_t)r->samples));
	json_object_set_new(o, "reason", string(arena, r->reason));
	json_object_set_new(o, "run", r->run == NULL ? json_null() : string(arena, r->run->name));
	json_object_set_new(o, "severity",
	                    json_string(r->gate == NULL ? "run" : severities[r->gate->severity]));
	json_object_set_new(o, "section", string(arena, r->gate == NULL ? "" : r->gate->section));
	json_object_set_new(o, "where", string(arena, r->gate == NULL ? "" : r->gate->where));
	return o;
}

static json_t *verdict_json(const struct report_judgement *judgement)
{
	return json_pack("{s:s s:s s:i}", "result", report_verdicts[judgement->verdict], "reason",
	                 judgement->reason, "exit", report_exit_of(judgement->verdict));
}

json_t *report_results_json(struct report_arena *arena, const struct report_judgement *judgement)
{
	json_t *gates = json_array();

	for (size_t i = 0; i < judgement->count; i++)
		json_array_append_new(gates, result_json(arena, &judgement->results[i]));
	return json_pack("{s:i s:o s:o}", "format", 1, "verdict", verdict_json(judgement), "gates",
	                 gates);
}

static json_t *run_json(struct report_arena *arena, const struct report_run *run)
{
	static const char *const copied[] = { "scenario", "target",  "variant", "under",
		                              "seed",     "started", "seconds", "repeat",
		                              "versions", "machine", "verdict", "numbers" };
	json_t *o = json_object();

	json_object_set_new(o, "name", string(arena, run->name));
	for (size_t i = 0; i < sizeof copied / sizeof *copied; i++) {
		json_t *value = json_object_get(run->json, copied[i]);

		if (value != NULL)
			json_object_set(o, copied[i], value);
	}
	json_object_set_new(o, "damage",
	                    run->damage == NULL ? json_null() : string(arena, run->damage));
	return o;
}

static json_t *frame_json(struct report_arena *arena, const struct report_frame *f)
{
	return json_pack("{s:o s:o s:i s:b}", "function", string(arena, f->function), "file",
	                 string(arena, *f->place ? f->place : f->object), "line", (int)f->line,
	                 "ours", f->ours);
}

static json_t *leak_json(struct report_arena *arena, const struct report_run *run,
                         const struct report_leak *leak)
{
	json_t *stack = json_array();

	for (size_t i = 0; i < leak->frame_count; i++)
		json_array_append_new(stack, frame_json(arena, &leak->frames[i]));
	return json_pack("{s:s s:o s:o s:o s:o s:s s:b s:I s:I s:i s:o s:o}", "fingerprint",
	                 leak->fingerprint, "run", string(arena, run->name), "tool",
	                 string(arena, leak->tool), "kind", string(arena, leak->kind), "text",
	                 string(arena, leak->text), "state", leak->known ? "known" : "new", "lost",
	                 leak->lost, "bytes", (json_int_t)leak->bytes, "blocks",
	                 (json_int_t)leak->blocks, "processes", (int)leak->processes, "site",
	                 leak->site == NULL ? json_null() : frame_json(arena, leak->site), "stack",
	                 stack);
}

static void set_ratio(json_t *to, enum report_measure m, struct report_ratio r)
{
	json_object_set_new(to, report_measures[m],
	                    json_pack("{s:I s:I}", "covered", (json_int_t)r.covered, "total",
	                              (json_int_t)r.total));
}

static json_t *coverage_json(struct report_arena *arena, const struct report_gates *gates,
                             const struct report_run *run)
{
	json_t *components = json_array(), *files = json_array();

	for (size_t c = 0; c < gates->component_count; c++) {
		json_t *o = json_pack("{s:o}", "name", string(arena, gates->components[c].name));

		for (int m = 0; m < REPORT_MEASURES; m++)
			set_ratio(o, (enum report_measure)m,
			          report_coverage_sum(&run->coverage, &gates->components[c],
			                              (enum report_measure)m));
		json_array_append_new(components, o);
	}
	for (size_t f = 0; f < run->coverage.count; f++) {
		const struct report_file *file = &run->coverage.files[f];
		json_t *o = json_pack("{s:o s:o}", "path", string(arena, file->path), "uncovered",
		                      string(arena, file->uncovered));
		json_t *functions = json_array();

		for (int m = 0; m < REPORT_MEASURES; m++)
			set_ratio(o, (enum report_measure)m, file->ratios[m]);
		for (size_t i = 0; i < file->function_count; i++)
			json_array_append_new(functions, string(arena, file->functions[i]));
		json_object_set_new(o, "uncalled", functions);
		json_array_append_new(files, o);
	}
	return json_pack("{s:o s:o s:o}", "run", string(arena, run->name), "components", components,
	                 "files", files);
}

void report_write_json(struct report_arena *arena, FILE *out, const struct report_inputs *inputs,
                       const struct report_judgement *judgement)
{
	json_t *root = report_results_json(arena, judgement), *runs = json_array();
	json_t *leaks = json_array(), *coverage = json_array();

	for (size_t i = 0; i < inputs->run_count; i++) {
		const struct report_run *run = &inputs->runs[i];

		json_array_append_new(runs, run_json(arena, run));
		for (size_t k = 0; k < run->leaks.count; k++)
			json_array_append_new(leaks, leak_json(arena, run, &run->leaks.items[k]));
		if (run->has_coverage)
			json_array_append_new(coverage, coverage_json(arena, &inputs->gates, run));
	}
	json_object_set_new(root, "generated",
	                    json_string(report_time(arena, "%Y-%m-%dT%H:%M:%SZ")));
	json_object_set_new(root, "poolproof", json_string(PP_VERSION));
	json_object_set_new(root, "runs", runs);
	json_object_set_new(root, "leaks", leaks);
	json_object_set_new(root, "coverage", coverage);
	json_dumpf(root, out, JSON_INDENT(1) | JSON_REAL_PRECISION(15));
	fputc('\n', out);
	json_decref(root);
}

/* Stable from run to run: no value, no limit, no seed. Two of the same name are numbered, for
 * GitLab drops the second. */
static const char *junit_name(struct report_arena *arena, const struct report_judgement *judgement,
                              size_t index)
{
	static const char *const severities[] = { "fail", "warn", "ratchet" };
	const struct report_result *r = &judgement->results[index];
	unsigned same = 1;

	for (size_t i = 0; i < index; i++) {
		const struct report_result *other = &judgement->results[i];
		bool one_run =
			other->run == r->run || (other->run != NULL && r->run != NULL &&
		                                 strcmp(other->run->title, r->run->title) == 0);
		bool one_gate =
			(other->gate == NULL) == (r->gate == NULL) &&
			(r->gate == NULL || (other->gate->severity == r->gate->severity &&
		                             strcmp(other->gate->section, r->gate->section) == 0 &&
		                             strcmp(other->name, r->name) == 0));

		same += one_run && one_gate;
	}
	return report_print(arena, "%s%s%s%s%s%s", r->gate ? severities[r->gate->severity] : "",
	                    r->gate ? " " : "", r->name, r->gate && r->run ? " on " : "",
	                    r->gate && r->run ? r->run->title : "",
	                    same > 1 ? report_print(arena, " (%u)", same) : "");
}

static void junit_case(struct report_arena *arena, FILE *out,
                       const struct report_judgement *judgement, size_t index)
{
	const struct report_result *r = &judgement->results[index];
	const char *tag = r->verdict == REPORT_IS_FAIL            ? "failure"
	                  : r->verdict == REPORT_IS_UNTRUSTWORTHY ? "error"
	                  : r->verdict == REPORT_IS_SKIP          ? "skipped"
	                                                          : NULL;
	const char *section = r->gate == NULL     ? "runs"
	                      : *r->gate->section ? r->gate->section
	                                          : "any";

	fputs("<testcase classname=\"", out);
	report_escape(out, r->gate == NULL ? "runs" : report_print(arena, "gates.%s", section));
	fputs("\" name=\"", out);
	report_escape(out, junit_name(arena, judgement, index));
	fputs("\">", out);
	if (tag != NULL) {
		fprintf(out, "<%s message=\"", tag);
		report_escape(out, r->reason);
		fputs("\">", out);
		report_escape(out, report_print(arena, "%s\nvalue: %s\nlimit: %s\n", r->reason,
		                                r->value, r->limit));
		if (r->gate != NULL)
			report_escape(out, report_print(arena, "gate: %s: %s\n", r->gate->where,
			                                r->gate->text));
		if (r->run != NULL)
			report_escape(out,
			              report_print(arena, "run: %s\nrepeat: %s\n", r->run->path,
			                           report_repeat(arena, r->run)));
		fprintf(out, "</%s>", tag);
	} else if (r->verdict == REPORT_IS_WARN) {
		fputs("<system-out>WARN: ", out);
		report_escape(out, r->reason);
		fputs("</system-out>", out);
	}
	fputs("</testcase>\n", out);
}

void report_write_junit(struct report_arena *arena, FILE *out, const struct report_inputs *inputs,
                        const struct report_judgement *judgement)
{
	size_t counts[REPORT_IS_FAIL + 1] = { 0 };

	(void)inputs;
	for (size_t i = 0; i < judgement->count; i++)
		counts[judgement->results[i].verdict]++;
	fputs("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n", out);
	fprintf(out,
	        "<testsuites><testsuite name=\"poolproof\" tests=\"%zu\" failures=\"%zu\" "
	        "errors=\"%zu\" skipped=\"%zu\">\n",
	        judgement->count, counts[REPORT_IS_FAIL], counts[REPORT_IS_UNTRUSTWORTHY],
	        counts[REPORT_IS_SKIP]);
	for (size_t i = 0; i < judgement->count; i++)
		junit_case(arena, out, judgement, i);
	fputs("</testsuite></testsuites>\n", out);
}
