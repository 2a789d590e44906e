/* poolproof gate: judges, prints a table of 80 columns, and keeps the ratchet's record. */
/* SPDX-License-Identifier: MIT */
#include "command.h"

#include <argp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct gate_options {
	struct report_session session;
	struct report_request request;
	bool names, explain, json, raise;
};

static const struct argp_option options[] = {
	{ "gates", 'g', "FILE", 0, "The gate file (default ci/gates.conf)", 0 },
	{ "gate", 'e', "EXPR", 0, "One gate, such as 'p99(acquire.wait) <= 2 ms'; may be repeated",
	  0 },
	{ "baseline", 'b', "RUN", 0, "A run that \"baseline\" stands for; one for each scenario",
	  0 },
	{ "names", 'n', 0, 0, "Only list the names that gates on these runs may use", 0 },
	{ "explain", 'x', 0, 0, "Say of each gate where it stands, on what, and by how much", 0 },
	{ "strict", 's', 0, 0, "What is WARN or SKIP is FAIL", 0 },
	{ "json", 'j', 0, 0, "The judgement as JSON", 0 },
	{ "raise", 'r', 0, 0, "Record first and better values of ratchet gates; never lowers one",
	  0 },
	{ 0 }
};

static void push(struct report_arena *arena, const char ***list, size_t *count, const char *word)
{
	*list = report_grow(arena, *list, *count, sizeof **list);
	(*list)[(*count)++] = word;
}

static error_t option(int key, char *value, struct argp_state *state)
{
	struct gate_options *o = state->input;
	struct report_arena *arena = &o->session.arena;

	switch (key) {
	case 'g':
		o->request.gates = value;
		return 0;
	case 'e':
		push(arena, &o->request.expressions, &o->request.expression_count, value);
		return 0;
	case 'b':
		push(arena, &o->request.baselines, &o->request.baseline_count, value);
		return 0;
	case 'n':
		o->names = true;
		return 0;
	case 'x':
		o->explain = true;
		return 0;
	case 's':
		o->request.strict = true;
		return 0;
	case 'j':
		o->json = true;
		return 0;
	case 'r':
		o->raise = true;
		return 0;
	case ARGP_KEY_ARG:
		push(arena, &o->request.runs, &o->request.run_count, value);
		return 0;
	}
	return ARGP_ERR_UNKNOWN;
}

static void print_names(struct report_session *s)
{
	static const char *const words[] = { "count", "time", "bytes", "per second", "per cent" };
	const struct report_run **runs;
	struct report_name *names;
	size_t count;

	runs = report_alloc(&s->arena, (s->inputs.run_count + 1) * sizeof *runs);
	for (size_t i = 0; i < s->inputs.run_count; i++)
		runs[i] = &s->inputs.runs[i];
	count = report_names(&s->arena, runs, s->inputs.run_count, &names);
	for (size_t i = 0; i < count; i++)
		printf("%-36s %s\n", names[i].name,
		       names[i].histogram ? "histogram: pNN() max() min() avg() count()"
		                          : words[names[i].unit]);
}

/* Records what is better than the record, then judges again by it. */
static int raise_record(struct report_session *s, const struct report_judgement *judgement)
{
	json_t *record = json_object();
	struct report_output out = { 0 };
	unsigned raised = 0;
	const char *error;

	if (s->ratchet_path == NULL) {
		json_decref(record);
		return report_complain(REPORT_USAGE,
		                       "--raise needs a gate file with ratchet lines");
	}
	if (s->inputs.ratchet != NULL)
		json_object_update(record, s->inputs.ratchet);
	for (size_t i = 0; i < judgement->count; i++) {
		const struct report_result *r = &judgement->results[i];
		const json_t *best = json_object_get(record, r->name);

		if (r->gate == NULL || r->gate->severity != REPORT_SEVERITY_RATCHET ||
		    *r->value == '\0' || r->verdict == REPORT_IS_UNTRUSTWORTHY ||
		    (json_is_number(best) && json_number_value(best) >= r->number))
			continue;
		json_object_set_new(record, r->name, json_real(r->number));
		fprintf(stderr, "poolproof: %s: raised to %.2f %%\n", r->name, r->number);
		raised++;
	}
	json_decref(s->inputs.ratchet);
	s->inputs.ratchet = record;
	if (raised == 0)
		return REPORT_PASS;
	if (!report_output_open(&s->arena, s->ratchet_path, &out, &error))
		return report_complain(REPORT_CANNOT, "%s", error);
	json_dumpf(record, out.stream, JSON_INDENT(2) | JSON_SORT_KEYS | JSON_REAL_PRECISION(10));
	fputc('\n', out.stream);
	if (!report_output_close(&s->arena, &out, &error))
		return report_complain(REPORT_CANNOT, "%s", error);
	return REPORT_PASS;
}

static bool wants_colour(void)
{
	const char *no = getenv("NO_COLOR"), *term = getenv("TERM");

	return isatty(STDOUT_FILENO) && (no == NULL || *no == '\0') && term != NULL &&
	       strcmp(term, "dumb") != 0;
}

static int judge(struct gate_options *o)
{
	struct report_session *s = &o->session;
	struct report_judgement judgement;
	const char *error;
	json_t *json;

	if (!report_judge(&s->arena, &s->inputs, &judgement, &error))
		return report_complain(REPORT_USAGE, "%s", error);
	if (o->raise) {
		int code = raise_record(s, &judgement);

		if (code != REPORT_PASS)
			return code;
		report_judge(&s->arena, &s->inputs, &judgement, &error);
	}
	if (!o->json) {
		report_print_table(&s->arena, stdout, &judgement, o->explain, wants_colour());
		return report_exit_of(judgement.verdict);
	}
	json = report_results_json(&s->arena, &judgement);
	json_dumpf(json, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(12));
	printf("\n");
	json_decref(json);
	return report_exit_of(judgement.verdict);
}

int report_gate_main(int argc, char **argv, const char *folder)
{
	static const struct argp argp = {
		.options = options,
		.parser = option,
		.args_doc = "[RUN...]",
		.doc = "Judges runs by the gate file; the exit code is the verdict.\v"
		       "Without RUN: the newest run of each scenario, variant, target and tool."
	};
	struct gate_options o = { .request = { .folder = folder } };
	int code;

	if (argp_parse(&argp, argc, argv, 0, NULL, &o) != 0)
		return REPORT_USAGE;
	o.request.need_gates = !o.names;
	o.request.names = o.names;
	code = report_session_open(&o.session, &o.request);
	if (code == REPORT_PASS && o.names)
		print_names(&o.session);
	else if (code == REPORT_PASS)
		code = judge(&o);
	report_session_close(&o.session);
	return code;
}
