/*
 * The names that gates may use, and what they are worth in a run; see gate.h. A name without
 * its unit stands for the number of run.json that has one: heap.residue is heap.residue_bytes.
 */
/* SPDX-License-Identifier: MIT */
#include "gate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof *(array))

static const struct suffix {
	const char *text;
	enum report_unit unit;
	double factor;
} suffixes[] = {
	{ "_count", REPORT_COUNT, 1 }, { "_bytes", REPORT_BYTES, 1 },
	{ "_per_s", REPORT_RATE, 1 },  { "_percent", REPORT_PERCENT, 1 },
	{ "_ns", REPORT_TIME, 1 },     { "_us", REPORT_TIME, 1e3 },
	{ "_ms", REPORT_TIME, 1e6 },   { "_s", REPORT_TIME, 1e9 },
};

/* What every run has by contract (harness/README.md), and what is counted here. */
static const struct report_name always[] = {
	{ "operations", false, REPORT_COUNT },
	{ "errors", false, REPORT_COUNT },
	{ "errors.timeout", false, REPORT_COUNT },
	{ "errors.overloaded", false, REPORT_COUNT },
	{ "errors.busy", false, REPORT_COUNT },
	{ "errors.sql", false, REPORT_COUNT },
	{ "errors.other", false, REPORT_COUNT },
	{ "operations.digest", false, REPORT_COUNT },
	{ "heap.residue", false, REPORT_BYTES },
	{ "heap.before", false, REPORT_BYTES },
	{ "heap.after", false, REPORT_BYTES },
	{ "heap.leaked", false, REPORT_BYTES },
	{ "fd.leaked", false, REPORT_COUNT },
	{ "thread.leaked", false, REPORT_COUNT },
	{ "invariants.violated", false, REPORT_COUNT },
	{ "generator.lag.p99", false, REPORT_TIME },
	{ "machine.steal", false, REPORT_PERCENT },
	{ "leak.bytes", false, REPORT_BYTES },
	{ "leak.blocks", false, REPORT_COUNT },
	{ "leak.truncated", false, REPORT_COUNT },
	{ "memcheck.errors", false, REPORT_COUNT },
	{ "helgrind.errors", false, REPORT_COUNT },
	{ "coverage.lines", false, REPORT_PERCENT },
	{ "coverage.functions", false, REPORT_PERCENT },
	{ "coverage.branches", false, REPORT_PERCENT },
	{ "operation", true, REPORT_TIME },
	{ "service", true, REPORT_TIME },
	{ "acquire.wait", true, REPORT_TIME },
	{ "transaction", true, REPORT_TIME },
	{ "commit", true, REPORT_TIME },
};

static bool starts(const char *text, const char *with)
{
	return strncmp(text, with, strlen(with)) == 0;
}

static bool ends(const char *text, const char *with)
{
	return strlen(text) >= strlen(with) &&
	       strcmp(text + strlen(text) - strlen(with), with) == 0;
}

struct names {
	struct report_arena *arena;
	struct report_name *items;
	size_t count;
};

static void learn(struct names *names, const char *name, bool histogram, enum report_unit unit)
{
	for (size_t i = 0; i < names->count; i++) {
		if (strcmp(names->items[i].name, name) == 0)
			return;
	}
	names->items = report_grow(names->arena, names->items, names->count, sizeof *names->items);
	names->items[names->count++] = (struct report_name){ name, histogram, unit };
}

static void learn_run(struct names *names, const struct report_run *run)
{
	const char *key;
	json_t *value;

	for (size_t i = 0; i < run->log.tag_count; i++)
		learn(names, run->log.tags[i].name, true, REPORT_TIME);
	json_object_foreach(run->numbers, key, value)
	{
		for (size_t i = 0; i < COUNT(suffixes); i++) {
			if (!ends(key, suffixes[i].text))
				continue;
			learn(names,
			      report_copy(names->arena, key,
			                  strlen(key) - strlen(suffixes[i].text)),
			      false, suffixes[i].unit);
			break;
		}
		if (ends(key, ".count"))
			learn(names, report_copy(names->arena, key, strlen(key) - 6), true,
			      REPORT_TIME);
	}
}

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct report_name *)a)->name, ((const struct report_name *)b)->name);
}

size_t report_names(struct report_arena *arena, const struct report_run *const *runs,
                    size_t run_count, struct report_name **ret_names)
{
	static const char *const statistics[] = {
		"min", "p50", "p90", "p99", "max", "p99.9", "mean"
	};
	struct names names = { .arena = arena };

	for (size_t i = 0; i < COUNT(always); i++) {
		learn(&names, always[i].name, always[i].histogram, always[i].unit);
		for (size_t s = 0; always[i].histogram && s < COUNT(statistics); s++)
			learn(&names, report_print(arena, "%s.%s", always[i].name, statistics[s]),
			      false, REPORT_TIME);
	}
	for (size_t i = 0; i < run_count; i++)
		learn_run(&names, runs[i]);
	qsort(names.items, names.count, sizeof *names.items, by_name);
	*ret_names = names.items;
	return names.count;
}

static const struct report_name *find(const char *name, const struct report_name *names,
                                      size_t count)
{
	for (size_t i = 0; i < count; i++) {
		if (strcmp(names[i].name, name) == 0)
			return &names[i];
	}
	return NULL;
}

static const char *unknown(struct report_arena *arena, const char *name,
                           const struct report_name *names, size_t count)
{
	const char **words = report_alloc(arena, count * sizeof *words);

	for (size_t i = 0; i < count; i++)
		words[i] = names[i].name;
	return report_print(arena,
	                    "unknown name \"%s\"%s; \"poolproof gate --names RUN\" lists them",
	                    name, report_hint(arena, name, words, count));
}

static bool wants_histogram(enum report_function function)
{
	return function == REPORT_PERCENTILE || function == REPORT_MAX || function == REPORT_MIN ||
	       function == REPORT_AVG;
}

static const char *const unit_words[] = {
	[REPORT_COUNT] = "a count, without a unit",
	[REPORT_TIME] = "a time in ns, us, ms or s",
	[REPORT_BYTES] = "B, KiB, MiB or GiB",
	[REPORT_RATE] = "/s, k/s or M/s",
	[REPORT_PERCENT] = "%",
};

static const char *check_unit(struct report_arena *arena, const struct report_gate *gate,
                              enum report_unit unit)
{
	if (gate->against_baseline || gate->severity == REPORT_SEVERITY_RATCHET)
		return NULL;
	if (gate->limit_bare ? unit == REPORT_COUNT || gate->limit == 0 : gate->limit_unit == unit)
		return NULL;
	return report_print(arena, "the limit \"%s\" has the wrong unit: %s is measured in %s",
	                    gate->right, gate->left, unit_words[unit]);
}

const char *report_gate_check(struct report_arena *arena, const struct report_gate *gate,
                              const struct report_name *names, size_t name_count)
{
	const struct report_name *name = find(gate->metric, names, name_count);
	enum report_unit unit;

	if (name == NULL)
		return unknown(arena, gate->metric, names, name_count);
	if (gate->divisor != NULL && find(gate->divisor, names, name_count) == NULL)
		return unknown(arena, gate->divisor, names, name_count);
	for (unsigned i = 0; i < gate->label_count; i++) {
		const char *kind = report_print(arena, "errors.%s", gate->labels[i].value);

		if (strcmp(gate->metric, "errors") == 0 && strpbrk(kind, "*?") == NULL &&
		    find(kind, names, name_count) == NULL)
			return unknown(arena, kind, names, name_count);
	}
	if (wants_histogram(gate->function) && !name->histogram)
		return report_print(arena, "%s is one number, not a histogram: write it bare",
		                    gate->metric);
	if (gate->function == REPORT_NUMBER && name->histogram)
		return report_print(arena, "%s is a histogram: write p99(%s), max(%s) or count(%s)",
		                    gate->metric, gate->metric, gate->metric, gate->metric);
	if (gate->function == REPORT_COUNT_OF && !name->histogram && name->unit != REPORT_COUNT)
		return report_print(arena, "%s is not a count: write it bare", gate->metric);
	unit = gate->function == REPORT_COUNT_OF     ? REPORT_COUNT
	       : gate->function == REPORT_THROUGHPUT ? REPORT_RATE
	       : gate->function == REPORT_RATE_OF    ? REPORT_PERCENT
	                                             : name->unit;
	return check_unit(arena, gate, unit);
}

static const char *label(const struct report_gate *gate, const char *key)
{
	for (unsigned i = 0; i < gate->label_count; i++) {
		if (strcmp(gate->labels[i].key, key) == 0)
			return gate->labels[i].value;
	}
	return "*";
}

/* A name of run.json's numbers, without its unit. */
static bool number_of(struct report_arena *arena, const struct report_run *run, const char *name,
                      struct report_value *v)
{
	for (size_t i = 0; i < COUNT(suffixes); i++) {
		double value;

		if (!report_run_number(run, report_print(arena, "%s%s", name, suffixes[i].text),
		                       &value))
			continue;
		v->value = value * suffixes[i].factor;
		v->unit = suffixes[i].unit;
		v->timing = v->unit == REPORT_TIME || v->unit == REPORT_RATE;
		return true;
	}
	return false;
}

static bool errors_of_kind(const struct report_run *run, const char *kind, struct report_value *v)
{
	const char *key;
	json_t *value;
	bool found = false;

	json_object_foreach(run->numbers, key, value)
	{
		char name[64];

		if (!starts(key, "errors.") || !ends(key, "_count") || strlen(key) >= sizeof name)
			continue;
		snprintf(name, sizeof name, "%.*s", (int)strlen(key) - 13, key + 7);
		if (report_glob(kind, name)) {
			v->value += json_number_value(value);
			found = true;
		}
	}
	return found;
}

static void of_numbers(struct report_arena *arena, const struct report_gate *gate,
                       const struct report_run *run, struct report_value *v)
{
	const char *kind = label(gate, "kind"), *name = gate->metric;
	struct report_value by = { 0 };
	bool found;

	if (gate->function == REPORT_THROUGHPUT) {
		name = report_print(arena, "%s_per_s", name);
		v->unit = REPORT_RATE;
		v->timing = true;
		found = report_run_number(run, name, &v->value);
	} else if (strcmp(kind, "*") != 0) {
		name = report_print(arena, "errors of kind %s", kind);
		found = errors_of_kind(run, kind, v);
	} else {
		found = number_of(arena, run, name, v);
	}
	if (!found) {
		v->missing = report_print(arena, "the run has no %s", name);
	} else if (gate->function == REPORT_RATE_OF) {
		v->unit = REPORT_PERCENT;
		v->timing = false;
		if (!number_of(arena, run, gate->divisor, &by))
			v->missing = report_print(arena, "the run has no %s", gate->divisor);
		else if (by.value == 0)
			v->missing = report_print(arena, "no data: %s is 0", gate->divisor);
		else
			v->value = 100 * v->value / by.value;
	}
}

/* How many standard deviations hold this share of a normal distribution. */
static double deviations(double percent)
{
	double low = 0, high = 10;

	for (int i = 0; i < 60; i++) {
		double middle = (low + high) / 2;

		if (100 * erf(middle / sqrt(2)) < percent)
			low = middle;
		else
			high = middle;
	}
	return low;
}

/* By order statistics: the quantile's rank is binomial. */
static void interval(const struct report_gate *gate, const struct report_histogram *h,
                     struct report_value *v)
{
	double n = (double)h->count, q = gate->percent / 100;
	double half = deviations(gate->confidence) * sqrt(n * q * (1 - q));
	double low = floor(n * q - half), high = ceil(n * q + half);

	v->low = (double)report_histogram_rank(h, low < 1 ? 1 : (uint64_t)low);
	v->high = (double)report_histogram_rank(h, high > n ? h->count : (uint64_t)high);
}

static void of_histogram(struct report_arena *arena, const struct report_gate *gate,
                         const struct report_histogram *h, struct report_value *v)
{
	v->unit = REPORT_TIME;
	v->timing = true;
	v->samples = h->count;
	switch (gate->function) {
	case REPORT_PERCENTILE:
		v->value = (double)report_histogram_percentile(h, gate->percent);
		v->low = v->high = v->value;
		if (gate->confidence > 0)
			interval(gate, h, v);
		if (!report_percentile_holds(h->count, gate->percent))
			v->distrusted = report_print(
				arena, "n too small: %s samples, p%g needs %s",
				report_digits(arena, (double)h->count, 0), gate->percent,
				report_digits(arena, ceil(10 / (1 - gate->percent / 100) - 1e-6),
			                      0));
		break;
	case REPORT_MAX:
		v->value = (double)report_histogram_max(h);
		break;
	case REPORT_MIN:
		v->value = (double)report_histogram_min(h);
		break;
	case REPORT_AVG:
		v->value = report_histogram_mean(h);
		break;
	default:
		v->unit = REPORT_COUNT;
		v->timing = false;
		v->value = (double)h->count;
	}
	if (h->count == 0 && gate->function != REPORT_COUNT_OF)
		v->missing = report_print(arena, "no data: %s was never recorded", gate->metric);
}

static bool leak_matches(const struct report_gate *gate, const struct report_leak *leak)
{
	return report_glob(label(gate, "kind"), leak->kind) &&
	       report_glob(label(gate, "tool"), leak->tool) &&
	       report_glob(label(gate, "state"), leak->known ? "known" : "new");
}

static void of_leaks(struct report_arena *arena, const struct report_gate *gate,
                     const struct report_run *run, struct report_value *v)
{
	const struct report_leaks *leaks = &run->leaks;
	bool bytes = strcmp(gate->metric, "leak.bytes") == 0;
	bool blocks = strcmp(gate->metric, "leak.blocks") == 0;
	const char *tool = starts(gate->metric, "helgrind") ? "helgrind" : "memcheck";
	bool ran = strcmp(tool, "helgrind") == 0 ? leaks->documents > leaks->memcheck_documents
	                                         : leaks->memcheck_documents > 0;

	v->unit = bytes ? REPORT_BYTES : REPORT_COUNT;
	if (strcmp(gate->metric, "leak.truncated") == 0) {
		v->value = leaks->truncated;
		ran = ran || leaks->files > 0;
	}
	for (size_t i = 0; i < leaks->count; i++) {
		const struct report_leak *leak = &leaks->items[i];

		if (bytes || blocks) {
			if (leak->lost && leak_matches(gate, leak))
				v->value += (double)(bytes ? leak->bytes : leak->blocks);
		} else if (!starts(gate->metric, "leak.")) {
			v->value += !leak->lost && strcmp(leak->tool, tool) == 0;
		}
	}
	if (!ran && strcmp(run->under, tool) == 0)
		v->distrusted =
			report_print(arena, "ran under %s, but leaks/ has no XML of it", tool);
	else if (!ran)
		v->missing = report_print(arena, "the run was not under %s", tool);
	else if (leaks->truncated > 0 && strcmp(gate->metric, "leak.truncated") != 0)
		v->distrusted =
			report_print(arena, "%u of %u XML reports are cut: more may be lost",
		                     leaks->truncated, leaks->documents);
}

static void of_coverage(struct report_arena *arena, const struct report_gate *gate,
                        const struct report_run *run, const struct report_component *component,
                        struct report_value *v)
{
	struct report_ratio ratio = { 0 };

	v->unit = REPORT_PERCENT;
	if (!run->has_coverage) {
		v->missing = "the run has no coverage.json";
		return;
	}
	for (int m = 0; m < REPORT_MEASURES; m++) {
		if (strcmp(gate->metric + 9, report_measures[m]) == 0)
			ratio = report_coverage_sum(&run->coverage, component,
			                            (enum report_measure)m);
	}
	v->samples = ratio.total;
	if (ratio.total == 0)
		v->missing = report_print(arena, "no data: 0 of 0 %s", gate->metric + 9);
	else
		v->value = 100 * (double)ratio.covered / (double)ratio.total;
}

struct report_value report_evaluate(struct report_arena *arena, const struct report_gate *gate,
                                    const struct report_run *run,
                                    const struct report_component *component)
{
	const struct report_histogram *h = report_hlog_find(&run->log, gate->metric);
	struct report_value v = { 0 };

	if (starts(gate->metric, "coverage."))
		of_coverage(arena, gate, run, component, &v);
	else if (starts(gate->metric, "leak.") || starts(gate->metric, "memcheck.") ||
	         starts(gate->metric, "helgrind."))
		of_leaks(arena, gate, run, &v);
	else if (h != NULL &&
	         (wants_histogram(gate->function) || gate->function == REPORT_COUNT_OF))
		of_histogram(arena, gate, h, &v);
	else if (wants_histogram(gate->function))
		v.missing = report_print(arena, "no data: %s was never recorded", gate->metric);
	else
		of_numbers(arena, gate, run, &v);
	/* What a damaged log does not have may have been lost with it. */
	if (v.missing != NULL && run->damage != NULL &&
	    (wants_histogram(gate->function) || gate->function == REPORT_COUNT_OF))
		v.distrusted = run->damage;
	else if (v.missing == NULL && v.distrusted == NULL && run->damage != NULL)
		v.distrusted = "the run is damaged";
	else if (v.missing == NULL && v.distrusted == NULL &&
	         run->verdict == REPORT_IS_UNTRUSTWORTHY)
		v.distrusted = "the run is UNTRUSTWORTHY";
	return v;
}

bool report_holds(enum report_operator op, double value, double limit)
{
	switch (op) {
	case REPORT_EQ:
		return value == limit;
	case REPORT_NE:
		return value != limit;
	case REPORT_LT:
		return value < limit;
	case REPORT_LE:
		return value <= limit;
	case REPORT_GT:
		return value > limit;
	case REPORT_GE:
		return value >= limit;
	}
	return false;
}
