/*
 * Judges runs by gates; see gate.h. The order in which a doubt beats another: the gate does not
 * apply (said), there is no data (FAIL), the measuring is broken (UNTRUSTWORTHY), the number.
 * A leak that was found stays FAIL though the list is cut: it is there.
 */
/* SPDX-License-Identifier: MIT */
#include "gate.h"

#include <math.h>
#include <string.h>

struct judging {
	struct report_arena *arena;
	const struct report_inputs *inputs;
	struct report_judgement *out;
};

static struct report_result *add(struct judging *j, const struct report_gate *gate,
                                 const struct report_run *run, enum report_verdict verdict,
                                 const char *reason)
{
	struct report_judgement *out = j->out;
	struct report_result *result;

	out->results = report_grow(j->arena, out->results, out->count, sizeof *out->results);
	result = &out->results[out->count++];
	*result = (struct report_result){ .gate = gate,
		                          .run = run,
		                          .verdict = verdict,
		                          .name = gate != NULL ? gate->left : "",
		                          .value = "",
		                          .limit = gate != NULL ? gate->right : "",
		                          .margin = "",
		                          .reason = reason };
	return result;
}

/* "the reasons; of run.json; in one line". */
static const char *run_reasons(struct report_arena *arena, const struct report_run *run)
{
	const json_t *reasons = json_object_get(json_object_get(run->json, "verdict"), "reasons");
	const char *text = run->damage == NULL ? "" : run->damage;
	size_t index;
	json_t *reason;

	json_array_foreach(reasons, index, reason)
	{
		const char *words = json_string_value(json_object_get(reason, "text"));

		if (words != NULL)
			text = report_print(arena, "%s%s%s", text, *text == '\0' ? "" : "; ",
			                    words);
	}
	return *text == '\0' && run->verdict != REPORT_IS_PASS ? "the run gives no reason" : text;
}

static void judge_run(struct judging *j, const struct report_run *run)
{
	enum report_verdict verdict = run->verdict;

	if (run->damage != NULL && verdict != REPORT_IS_FAIL)
		verdict = REPORT_IS_UNTRUSTWORTHY;
	add(j, NULL, run, verdict, run_reasons(j->arena, run))->name =
		report_print(j->arena, "run %s", run->title);
}

static bool in_section(const struct report_gate *gate, const struct report_run *run)
{
	if (*gate->section == '\0')
		return true;
	if (strcmp(gate->section, "leaks") == 0)
		return run->leaks.memcheck_documents > 0 || strcmp(run->under, "memcheck") == 0;
	if (strcmp(gate->section, "coverage") == 0)
		return run->has_coverage;
	return strcmp(gate->section, run->scenario) == 0;
}

static bool when_holds(const struct report_gate *gate, const struct report_run *run)
{
	for (unsigned i = 0; i < gate->when_count; i++) {
		const char *key = gate->when[i].key;
		const char *has = strcmp(key, "variant") == 0 ? run->variant
		                  : strcmp(key, "under") == 0 ? run->under
		                                              : run->target;

		if (!report_glob(gate->when[i].value, has))
			return false;
	}
	return true;
}

/* A variant or tool that slows the program down: its times say nothing. */
static const char *slowed(struct report_arena *arena, const struct report_run *run)
{
	if (strcmp(run->under, "none") != 0)
		return report_print(arena, "not judged, under=%s", run->under);
	if (strcmp(run->variant, "release") != 0 && strcmp(run->variant, "instrumented") != 0)
		return report_print(arena, "not judged, variant=%s", run->variant);
	return NULL;
}

/* More of the machine's time than this in other hands: times are disturbed. */
#define STEAL_LIMIT_PERCENT 5

static const char *stolen(struct report_arena *arena, const struct report_run *run)
{
	double steal = 0;

	report_run_number(run, "machine.steal_percent", &steal);
	return steal <= STEAL_LIMIT_PERCENT
	               ? NULL
	               : report_print(arena, "the machine stole %.1f %% of the time", steal);
}

/* Stolen time makes times longer and rates lower. What is within such a limit in spite of it is
 * within; what is past it, or judged in the other direction, proves nothing. */
static void doubt_stolen(struct judging *j, struct report_result *r, const struct report_value *v)
{
	enum report_operator op = r->gate->op;
	const char *why = v->timing ? stolen(j->arena, r->run) : NULL;
	bool safe = v->unit == REPORT_TIME ? op == REPORT_LT || op == REPORT_LE
	                                   : op == REPORT_GT || op == REPORT_GE;

	if (why == NULL || (r->verdict == REPORT_IS_PASS && safe) || r->verdict == REPORT_IS_SKIP)
		return;
	r->verdict = REPORT_IS_UNTRUSTWORTHY;
	r->reason = why;
}

static const struct report_run *baseline_of(const struct judging *j, const struct report_run *run)
{
	for (size_t i = 0; i < j->inputs->baseline_count; i++) {
		const struct report_run *b = &j->inputs->baselines[i];

		if (strcmp(b->scenario, run->scenario) == 0 &&
		    strcmp(b->variant, run->variant) == 0 && strcmp(b->target, run->target) == 0)
			return b;
	}
	return NULL;
}

static const char *margin(struct report_arena *arena, const struct report_gate *gate,
                          enum report_unit unit, double value, double limit)
{
	double room =
		gate->op == REPORT_LT || gate->op == REPORT_LE ? limit - value : value - limit;

	if (gate->op == REPORT_EQ || gate->op == REPORT_NE)
		return "";
	if (unit == REPORT_PERCENT)
		return report_print(arena, "%+.2f points", floor(room * 100 + 1e-7) / 100);
	return limit == 0 ? "" : report_print(arena, "%+.0f %%", floor(100 * room / fabs(limit)));
}

/* The number against the limit; with conf= there is a third answer. */
static void compare(struct judging *j, struct report_result *r, const struct report_value *v,
                    double limit)
{
	const struct report_gate *gate = r->gate;
	bool holds = report_holds(gate->op, v->value, limit);

	r->margin = margin(j->arena, gate, v->unit, v->value, limit);
	if (gate->confidence > 0 &&
	    report_holds(gate->op, v->low, limit) != report_holds(gate->op, v->high, limit)) {
		r->verdict = j->inputs->strict ? REPORT_IS_FAIL : REPORT_IS_WARN;
		r->reason = report_print(j->arena, "undecided: %s to %s straddles the limit",
		                         report_quantity(j->arena, v->unit, v->low),
		                         report_quantity(j->arena, v->unit, v->high));
		return;
	}
	r->verdict = holds ? REPORT_IS_PASS : REPORT_IS_FAIL;
	if (!holds)
		r->reason = report_print(j->arena, "%s is not %s", r->value, r->limit);
}

static void against_baseline(struct judging *j, struct report_result *r,
                             const struct report_value *v, const struct report_component *c)
{
	const struct report_run *base = baseline_of(j, r->run);
	struct report_value b = { 0 };
	double limit;

	if (base != NULL)
		b = report_evaluate(j->arena, r->gate, base, c);
	if (base != NULL && b.distrusted == NULL && v->timing)
		b.distrusted = stolen(j->arena, base);
	if (base == NULL || b.missing != NULL || b.distrusted != NULL) {
		r->verdict = REPORT_IS_SKIP;
		r->reason = base == NULL ? "no baseline; give one by --baseline RUN"
		            : b.missing != NULL
		                    ? report_print(j->arena, "baseline: %s", b.missing)
		                    : report_print(j->arena, "baseline: %s", b.distrusted);
		return;
	}
	limit = b.value * r->gate->limit;
	r->limit = report_print(j->arena, "%s (%s)", r->gate->right,
	                        report_quantity(j->arena, v->unit, limit));
	compare(j, r, v, limit);
}

static void against_record(struct judging *j, struct report_result *r, const struct report_value *v)
{
	const json_t *best = json_object_get(j->inputs->ratchet, r->name);

	/* Cut to the two decimals that are shown and recorded. */
	r->number = floor(v->value * 100 + 1e-7) / 100;
	if (!json_is_number(best)) {
		r->limit = "best ever"; /* And FAIL, as it was made: a lost record hides a loss. */
		r->reason = "no record; run poolproof gate --raise";
		return;
	}
	double least = json_number_value(best) - r->gate->tolerance;

	r->limit = r->gate->tolerance == 0 ? report_print(j->arena, ">= %.2f %% (best)", least)
	                                   : report_print(j->arena, ">= %.2f %% (best - %.2f)",
	                                                  least, r->gate->tolerance);
	r->margin = report_print(j->arena, "%+.2f points", r->number - least);
	/* Half of the last digit: 92.71 - 0.5 is not quite 92.21. */
	r->verdict = r->number >= least - 0.005 ? REPORT_IS_PASS : REPORT_IS_FAIL;
	if (r->verdict == REPORT_IS_FAIL)
		r->reason = report_print(j->arena, "%s is below the best recorded", r->value);
}

/* "coverage.lines{component=*}" with the component that * stands for now. */
static const char *name_for(struct report_arena *arena, const struct report_gate *gate,
                            const struct report_component *component)
{
	const char *at = strstr(gate->left, "component=");

	if (component == NULL || at == NULL)
		return gate->left;
	at += strlen("component=");
	return report_print(arena, "%.*s%s%s", (int)(at - gate->left), gate->left, component->name,
	                    at + strcspn(at, ",} \t"));
}

static void soften(struct judging *j, struct report_result *r)
{
	if (r->gate->severity == REPORT_SEVERITY_WARN && r->verdict > REPORT_IS_WARN)
		r->verdict = REPORT_IS_WARN;
	if (j->inputs->strict && (r->verdict == REPORT_IS_WARN || r->verdict == REPORT_IS_SKIP))
		r->verdict = REPORT_IS_FAIL;
}

static void judge_value(struct judging *j, const struct report_gate *gate,
                        const struct report_run *run, const struct report_component *component)
{
	struct report_value v = report_evaluate(j->arena, gate, run, component);
	struct report_result *r = add(j, gate, run, REPORT_IS_FAIL, "");
	const char *slow = slowed(j->arena, run);

	r->name = name_for(j->arena, gate, component);
	r->samples = v.samples;
	if (v.timing && slow != NULL) {
		r->verdict = REPORT_IS_SKIP;
		r->reason = slow;
	} else if (v.missing != NULL && v.distrusted != NULL) {
		r->verdict = REPORT_IS_UNTRUSTWORTHY;
		r->reason = v.distrusted;
	} else if (v.missing != NULL) {
		r->reason = v.missing;
	} else {
		r->value = report_quantity(j->arena, v.unit, v.value);
		if (gate->severity == REPORT_SEVERITY_RATCHET)
			against_record(j, r, &v);
		else if (gate->against_baseline)
			against_baseline(j, r, &v, component);
		else
			compare(j, r, &v, gate->limit);
		doubt_stolen(j, r, &v);
		if (v.distrusted != NULL &&
		    !(r->verdict == REPORT_IS_FAIL && strncmp(gate->metric, "leak.", 5) == 0)) {
			r->verdict = REPORT_IS_UNTRUSTWORTHY;
			r->reason = v.distrusted;
		}
	}
	soften(j, r);
}

/* One result for each component that the label's glob names. */
static void judge_components(struct judging *j, const struct report_gate *gate,
                             const struct report_run *run)
{
	const struct report_gates *gates = &j->inputs->gates;
	const char *pattern = NULL;
	bool any = false;

	for (unsigned i = 0; i < gate->label_count; i++) {
		if (strcmp(gate->labels[i].key, "component") == 0)
			pattern = gate->labels[i].value;
	}
	if (pattern == NULL) {
		judge_value(j, gate, run, NULL);
		return;
	}
	for (size_t i = 0; i < gates->component_count; i++) {
		if (!report_glob(pattern, gates->components[i].name))
			continue;
		judge_value(j, gate, run, &gates->components[i]);
		any = true;
	}
	if (!any)
		soften(j, add(j, gate, run, REPORT_IS_FAIL, "no component has such a name"));
}

static const char *nothing_given(struct report_arena *arena, const struct report_gate *gate)
{
	const char *section = gate->section, *text;

	text = *section == '\0'                ? "no run was given"
	       : strcmp(section, "leaks") == 0 ? "no run under memcheck was given"
	       : strcmp(section, "coverage") == 0
	               ? "no run with coverage.json was given"
	               : report_print(arena, "no run of scenario %s was given", section);
	for (unsigned i = 0; i < gate->when_count; i++)
		text = report_print(arena, "%s %s %s=%s", text, i == 0 ? "with" : "and",
		                    gate->when[i].key, gate->when[i].value);
	return text;
}

static void judge_gate(struct judging *j, const struct report_gate *gate)
{
	const struct report_inputs *in = j->inputs;
	bool anywhere = false, any = false;

	/* A gate without a section concerns the runs that have its number; if none has, all. */
	for (size_t i = 0; i < in->run_count; i++)
		anywhere |= report_evaluate(j->arena, gate, &in->runs[i], NULL).missing == NULL;
	for (size_t i = 0; i < in->run_count; i++) {
		const struct report_run *run = &in->runs[i];

		if (!in_section(gate, run) || !when_holds(gate, run))
			continue;
		if (*gate->section == '\0' && anywhere &&
		    report_evaluate(j->arena, gate, run, NULL).missing != NULL)
			continue;
		judge_components(j, gate, run);
		any = true;
	}
	if (!any)
		soften(j, add(j, gate, NULL, REPORT_IS_FAIL, nothing_given(j->arena, gate)));
}

static const char *check_section(struct judging *j, const struct report_gate *gate)
{
	const struct report_inputs *in = j->inputs;
	const char **known;
	size_t count = 0;

	known = report_alloc(j->arena, (in->scenario_count + in->run_count + 2) * sizeof *known);
	known[count++] = "leaks";
	known[count++] = "coverage";
	for (size_t i = 0; i < in->scenario_count; i++)
		known[count++] = in->scenarios[i];
	for (size_t i = 0; i < in->run_count; i++)
		known[count++] = in->runs[i].scenario;
	for (size_t i = 0; i < count; i++) {
		if (strcmp(known[i], gate->section) == 0)
			return NULL;
	}
	if (*gate->section == '\0' || in->scenario_count == 0)
		return NULL;
	return report_print(j->arena,
	                    "unknown section [%s]%s; \"poolproof list\" names the scenarios",
	                    gate->section, report_hint(j->arena, gate->section, known, count));
}

/* The gate's section and names against what exists; NULL: they are right. */
static const char *check_gate(struct judging *j, const struct report_gate *gate)
{
	const struct report_inputs *in = j->inputs;
	const struct report_run **runs = report_alloc(j->arena, (in->run_count + 1) * sizeof *runs);
	const char *wrong = check_section(j, gate);
	struct report_name *names;
	size_t count = 0;
	bool whole = true;

	if (wrong != NULL)
		return wrong;
	for (size_t i = 0; i < in->run_count; i++) {
		if (!in_section(gate, &in->runs[i]) || !when_holds(gate, &in->runs[i]))
			continue;
		runs[count++] = &in->runs[i];
		whole &= in->runs[i].verdict == REPORT_IS_PASS;
	}
	/* Without a run nobody knows what a scenario measures, or what its target counts; the gate
	 * will fail for that. */
	if (count == 0 && strcmp(gate->section, "leaks") != 0 &&
	    strcmp(gate->section, "coverage") != 0)
		return NULL;
	count = report_names(j->arena, runs, count, &names);
	wrong = report_gate_check(j->arena, gate, names, count);
	/* A run that hung or crashed did not come to all its numbers: they are missing, not
	 * misspelt, and the gate FAILs for that. */
	return whole ? wrong : NULL;
}

static void conclude(struct report_judgement *out)
{
	size_t gates = 0, judged = 0;

	for (size_t i = 0; i < out->count; i++) {
		const struct report_result *r = &out->results[i];

		gates += r->gate != NULL;
		judged += r->gate != NULL && r->verdict != REPORT_IS_SKIP;
		if (r->verdict >= REPORT_IS_UNTRUSTWORTHY && r->verdict > out->verdict)
			out->verdict = r->verdict;
	}
	out->reason = "";
	if (out->count == 0 || (gates > 0 && judged == 0 && out->verdict == REPORT_IS_PASS)) {
		out->verdict = REPORT_IS_UNTRUSTWORTHY;
		out->reason = "nothing was judged";
	}
}

bool report_judge(struct report_arena *arena, const struct report_inputs *inputs,
                  struct report_judgement *ret_judgement, const char **reterr_text)
{
	struct report_judgement judgement = { 0 };
	struct judging j = { arena, inputs, &judgement };

	for (size_t i = 0; i < inputs->gates.count; i++) {
		const struct report_gate *gate = &inputs->gates.items[i];
		const char *wrong = check_gate(&j, gate);

		if (wrong != NULL) {
			*reterr_text = report_print(arena, "%s: %s", gate->where, wrong);
			return false;
		}
	}
	for (size_t i = 0; i < inputs->run_count; i++)
		judge_run(&j, &inputs->runs[i]);
	for (size_t i = 0; i < inputs->gates.count; i++)
		judge_gate(&j, &inputs->gates.items[i]);
	conclude(&judgement);
	*ret_judgement = judgement;
	return true;
}

enum report_exit report_exit_of(enum report_verdict verdict)
{
	return verdict == REPORT_IS_FAIL            ? REPORT_FAIL
	       : verdict == REPORT_IS_UNTRUSTWORTHY ? REPORT_UNTRUSTWORTHY
	                                            : REPORT_PASS;
}
