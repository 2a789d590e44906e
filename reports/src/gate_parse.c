/*
 * Reads the gate language; see gate.h and README.md, "The gate file". A line is taken apart from
 * left to right by a cursor; each piece that is not known stops the reading with a hint.
 */
/* SPDX-License-Identifier: MIT */
#include "gate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof *(array))

static const char *const severities[] = { "fail", "warn", "ratchet" };
static const char *const functions[] = { "p50", "p90", "p99",   "p99.9",      "max",
	                                 "min", "avg", "count", "throughput", "rate" };
static const char *const operators[] = { "==", "!=", "<", "<=", ">", ">=" };
static const char *const label_names[] = { "component", "kind", "state", "tool" };
static const char *const when_names[] = { "variant", "under", "target" };
static const char *const option_names[] = { "when",   "variant", "under",
	                                    "target", "conf",    "tolerance" };
static const char *const kinds[] = { "definite", "indirect", "possible", "reachable" };
static const char *const states[] = { "new", "known" };
static const char *const tools[] = { "memcheck", "helgrind" };
static const char *const variants[] = { "release", "instrumented", "coverage",
	                                "asan",    "tsan",         "valgrind" };
static const char *const unders[] = { "none", "memcheck", "helgrind" };

static const struct unit {
	const char *name;
	enum report_unit unit;
	double factor;
} units[] = {
	{ "ns", REPORT_TIME, 1 },         { "us", REPORT_TIME, 1e3 },
	{ "ms", REPORT_TIME, 1e6 },       { "s", REPORT_TIME, 1e9 },
	{ "B", REPORT_BYTES, 1 },         { "KiB", REPORT_BYTES, 1024 },
	{ "MiB", REPORT_BYTES, 1048576 }, { "GiB", REPORT_BYTES, 1073741824 },
	{ "%", REPORT_PERCENT, 1 },       { "/s", REPORT_RATE, 1 },
	{ "k/s", REPORT_RATE, 1e3 },      { "M/s", REPORT_RATE, 1e6 },
	{ "k", REPORT_COUNT, 1e3 },       { "M", REPORT_COUNT, 1e6 },
};

struct parser {
	struct report_arena *arena;
	const struct report_gates *gates;
	const char *at;
	const char *error;
};

/* The first error stays. */
#define WRONG(p, ...)                                                       \
	do {                                                                \
		if ((p)->error == NULL)                                     \
			(p)->error = report_print((p)->arena, __VA_ARGS__); \
	} while (0)

static void blanks(struct parser *p)
{
	p->at += strspn(p->at, " \t");
}

/* The longest stretch of these characters; "" when there is none. */
static const char *stretch(struct parser *p, const char *characters)
{
	size_t size = strspn(p->at, characters);
	const char *word = report_copy(p->arena, p->at, size);

	p->at += size;
	return word;
}

static const char *word(struct parser *p)
{
	return stretch(p, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-");
}

static bool take(struct parser *p, char c)
{
	blanks(p);
	if (*p->at != c)
		return false;
	p->at++;
	return true;
}

static bool among(const char *text, const char *const *words, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		if (strcmp(text, words[i]) == 0)
			return true;
	}
	return false;
}

static void check_among(struct parser *p, const char *what, const char *text,
                        const char *const *words, size_t count)
{
	const char *list = "";

	if (among(text, words, count) || strpbrk(text, "*?") != NULL)
		return;
	for (size_t i = 0; i < count; i++)
		list = report_print(p->arena, "%s%s%s", list, i == 0 ? "" : ", ", words[i]);
	WRONG(p, "unknown %s \"%s\"%s; known: %s", what, text,
	      report_hint(p->arena, text, words, count), list);
}

static void check_label(struct parser *p, const struct report_gate *gate,
                        const struct report_pair *label)
{
	const char **names =
		report_alloc(p->arena, (p->gates->component_count + 1) * sizeof *names);

	check_among(p, "label", label->key, label_names, COUNT(label_names));
	if (strcmp(label->key, "component") == 0) {
		for (size_t i = 0; i < p->gates->component_count; i++)
			names[i] = p->gates->components[i].name;
		if (p->gates->component_count == 0)
			WRONG(p, "no component is defined; write \"component %s = GLOB…\" first",
			      label->value);
		check_among(p, "component", label->value, names, p->gates->component_count);
	} else if (strcmp(label->key, "state") == 0) {
		check_among(p, "state", label->value, states, COUNT(states));
	} else if (strcmp(label->key, "tool") == 0) {
		check_among(p, "tool", label->value, tools, COUNT(tools));
	} else if (strcmp(label->key, "kind") == 0 && strncmp(gate->metric, "leak.", 5) == 0) {
		check_among(p, "kind", label->value, kinds, COUNT(kinds));
	}
}

static void check_label_place(struct parser *p, const struct report_gate *gate, const char *key)
{
	bool coverage = strncmp(gate->metric, "coverage.", 9) == 0;
	bool leak =
		strcmp(gate->metric, "leak.bytes") == 0 || strcmp(gate->metric, "leak.blocks") == 0;
	bool errors = strcmp(gate->metric, "errors") == 0;

	if (strcmp(key, "component") == 0 ? !coverage
	    : strcmp(key, "kind") == 0    ? !leak && !errors
	                                  : !leak)
		WRONG(p, "label \"%s\" means nothing to %s", key, gate->metric);
}

static void labels(struct parser *p, struct report_gate *gate)
{
	if (!take(p, '{'))
		return;
	do {
		struct report_pair *label = &gate->labels[gate->label_count];

		blanks(p);
		label->key = word(p);
		if (!take(p, '='))
			WRONG(p, "a label is written {name=value}");
		blanks(p);
		label->value = report_copy(p->arena, p->at, strcspn(p->at, ",} \t"));
		p->at += strlen(label->value);
		check_label(p, gate, label);
		check_label_place(p, gate, label->key);
		for (unsigned i = 0; i < gate->label_count; i++) {
			if (strcmp(gate->labels[i].key, label->key) == 0)
				WRONG(p, "label \"%s\" is given twice", label->key);
		}
		gate->label_count++;
	} while (p->error == NULL && gate->label_count < REPORT_LABELS_MAX && take(p, ','));
	if (!take(p, '}'))
		WRONG(p, "the labels lack their \"}\"");
}

static void function(struct parser *p, struct report_gate *gate, const char *name)
{
	static const struct {
		const char *name;
		enum report_function function;
	} known[] = { { "max", REPORT_MAX },      { "min", REPORT_MIN },
		      { "avg", REPORT_AVG },      { "count", REPORT_COUNT_OF },
		      { "rate", REPORT_RATE_OF }, { "throughput", REPORT_THROUGHPUT } };
	char *end = NULL;

	for (size_t i = 0; i < COUNT(known); i++) {
		if (strcmp(name, known[i].name) == 0) {
			gate->function = known[i].function;
			return;
		}
	}
	if (*name == 'p' && name[1] >= '0' && name[1] <= '9')
		gate->percent = strtod(name + 1, &end);
	if (end == NULL || *end != '\0') {
		check_among(p, "function", name, functions, COUNT(functions));
	} else if (gate->percent <= 0 || gate->percent >= 100) {
		WRONG(p,
		      "%s: a percentile lies between p0 and p100, both excluded; for the "
		      "largest value write max(…)",
		      name);
	}
	gate->function = REPORT_PERCENTILE;
}

static const char *trimmed(struct report_arena *arena, const char *text, size_t size)
{
	while (size > 0 && strchr(" \t", text[size - 1]) != NULL)
		size--;
	return report_copy(arena, text, size);
}

static void left_side(struct parser *p, struct report_gate *gate)
{
	const char *begin = p->at, *name = word(p);

	if (*name == '\0')
		WRONG(p, "a metric is expected, not \"%s\"", p->at);
	if (take(p, '(')) {
		function(p, gate, name);
		blanks(p);
		name = word(p);
		if (*name == '\0')
			WRONG(p, "a name is expected inside the brackets");
	}
	gate->metric = name;
	labels(p, gate);
	if (gate->function == REPORT_RATE_OF) {
		if (!take(p, '/'))
			WRONG(p, "rate is written rate(A / B)");
		blanks(p);
		gate->divisor = word(p);
		if (*gate->divisor == '\0')
			WRONG(p, "rate is written rate(A / B)");
	}
	if (gate->function != REPORT_NUMBER && !take(p, ')'))
		WRONG(p, "\")\" is missing before \"%s\"", p->at);
	gate->left = trimmed(p->arena, begin, (size_t)(p->at - begin));
}

static void unknown_option(struct parser *p, const char *name)
{
	WRONG(p,
	      "unknown option \"%s\"%s; known: when variant=, under=, target=; conf=; tolerance=",
	      name, report_hint(p->arena, name, option_names, COUNT(option_names)));
}

/* A word after the limit's number: its unit, or an option already. */
static void unit(struct parser *p, struct report_gate *gate)
{
	const char *names[COUNT(units) + COUNT(option_names)], *begin = p->at, *nearest;
	const char *name = stretch(p, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ/%");

	gate->limit_bare = *name == '\0' || among(name, option_names, COUNT(option_names));
	if (gate->limit_bare) {
		p->at = begin;
		return;
	}
	for (size_t i = 0; i < COUNT(units); i++) {
		names[i] = units[i].name;
		if (strcmp(units[i].name, name) != 0)
			continue;
		gate->limit_unit = units[i].unit;
		gate->limit *= units[i].factor;
		return;
	}
	for (size_t i = 0; i < COUNT(option_names); i++)
		names[COUNT(units) + i] = option_names[i];
	nearest = report_nearest(name, names, COUNT(names));
	if (nearest != NULL && among(nearest, option_names, COUNT(option_names)))
		unknown_option(p, name);
	else
		check_among(p, "unit", name, names, COUNT(units));
}

static double number(struct parser *p)
{
	char *end;
	double value;

	blanks(p);
	value = strtod(p->at, &end);
	/* strtod knows "inf", "nan" and hexadecimal; a gate does not. */
	if (end == p->at || strspn(p->at, "+-.0123456789eE") < (size_t)(end - p->at) ||
	    !isfinite(value))
		WRONG(p, "a number is expected, not \"%s\"", p->at);
	else if (*end != '\0' && strchr("0123456789.,_'+-", *end) != NULL)
		WRONG(p, "bad number \"%.*s\"", (int)strcspn(p->at, " \t"), p->at);
	else
		p->at = end;
	return value;
}

static void limit(struct parser *p, struct report_gate *gate)
{
	const char *begin, *sign;

	blanks(p);
	begin = p->at;
	sign = stretch(p, "=!<>");
	if (*sign == '\0')
		WRONG(p, "an operator and a limit are expected after %s; for example \"== 0\"",
		      gate->left);
	check_among(p, "operator", sign, operators, COUNT(operators));
	for (size_t i = 0; i < COUNT(operators); i++) {
		if (strcmp(operators[i], sign) == 0)
			gate->op = (enum report_operator)i;
	}
	blanks(p);
	if (strncmp(p->at, "baseline", 8) == 0) {
		p->at += 8;
		gate->against_baseline = true;
		gate->limit = take(p, '*') ? number(p) : 1;
	} else if (p->error == NULL) {
		gate->limit = number(p);
		blanks(p);
		unit(p, gate);
	}
	gate->right = trimmed(p->arena, begin, (size_t)(p->at - begin));
}

static void confidence(struct parser *p, struct report_gate *gate)
{
	gate->confidence = number(p);
	if (!take(p, '%') || gate->confidence < 50 || gate->confidence > 99.9)
		WRONG(p, "conf= is a percentage from 50 to 99.9, such as conf=99%%");
	if (gate->function != REPORT_PERCENTILE)
		WRONG(p, "conf= is known for percentiles only, not for %s", gate->left);
}

static void tolerance(struct parser *p, struct report_gate *gate)
{
	gate->tolerance = number(p);
	if (gate->tolerance < 0 || gate->tolerance > 5)
		WRONG(p, "tolerance= is 0 to 5 points, such as tolerance=0.3");
	if (gate->severity != REPORT_SEVERITY_RATCHET)
		WRONG(p, "tolerance= is for ratchet lines only, not for %s", gate->left);
}

static void when(struct parser *p, struct report_gate *gate, const char *key)
{
	struct report_pair *pair;

	if (gate->when_count == REPORT_WHEN_MAX) {
		WRONG(p, "too many options: \"%s\"", key);
		return;
	}
	pair = &gate->when[gate->when_count++];
	check_among(p, "option", key, when_names, COUNT(when_names));
	pair->key = key;
	pair->value = report_copy(p->arena, p->at, strcspn(p->at, " \t"));
	p->at += strlen(pair->value);
	if (strcmp(key, "variant") == 0)
		check_among(p, "variant", pair->value, variants, COUNT(variants));
	else if (strcmp(key, "under") == 0)
		check_among(p, "tool", pair->value, unders, COUNT(unders));
}

static void options(struct parser *p, struct report_gate *gate)
{
	for (blanks(p); *p->at != '\0' && p->error == NULL; blanks(p)) {
		const char *key = word(p);

		if (strcmp(key, "when") == 0)
			continue;
		if (*key == '\0')
			WRONG(p, "\"%s\" is not understood here", p->at);
		else if (!among(key, option_names, COUNT(option_names)))
			unknown_option(p, key);
		else if (!take(p, '='))
			WRONG(p, "option %s lacks its value: write %s=…", key, key);
		else if (strcmp(key, "conf") == 0)
			confidence(p, gate);
		else if (strcmp(key, "tolerance") == 0)
			tolerance(p, gate);
		else
			when(p, gate, key);
	}
}

static void gate_line(struct parser *p, struct report_gate *gate)
{
	const char *begin;

	blanks(p);
	begin = p->at;
	gate->text = report_copy(p->arena, begin, strlen(begin));
	left_side(p, gate);
	gate->right = "";
	if (gate->severity == REPORT_SEVERITY_RATCHET) {
		if (gate->function != REPORT_NUMBER || strncmp(gate->metric, "coverage.", 9) != 0)
			WRONG(p,
			      "ratchet is for coverage.lines, coverage.functions and "
			      "coverage.branches, not for %s",
			      gate->left);
		blanks(p);
		if (strchr("=!<>", *p->at) != NULL && *p->at != '\0')
			WRONG(p, "ratchet takes no limit: it is the best value recorded");
	} else if (p->error == NULL) {
		limit(p, gate);
	}
	options(p, gate);
}

static void add(struct report_arena *arena, struct report_gates *gates,
                const struct report_gate *gate)
{
	gates->items = report_grow(arena, gates->items, gates->count, sizeof *gates->items);
	gates->items[gates->count++] = *gate;
}

static void component_line(struct parser *p, struct report_gates *gates)
{
	struct report_component component = { 0 };

	blanks(p);
	component.name = word(p);
	if (*component.name == '\0' || !take(p, '='))
		WRONG(p, "a component is written \"component NAME = GLOB…\"");
	for (blanks(p); *p->at != '\0' && p->error == NULL; blanks(p)) {
		component.patterns = report_grow(p->arena, component.patterns, component.count,
		                                 sizeof *component.patterns);
		component.patterns[component.count++] =
			report_copy(p->arena, p->at, strcspn(p->at, " \t"));
		p->at += strcspn(p->at, " \t");
	}
	if (component.count == 0)
		WRONG(p, "component %s has no files; write a glob after \"=\"", component.name);
	for (size_t i = 0; i < gates->component_count; i++) {
		if (strcmp(gates->components[i].name, component.name) == 0)
			WRONG(p, "component %s is defined twice", component.name);
	}
	gates->components = report_grow(p->arena, gates->components, gates->component_count,
	                                sizeof *gates->components);
	gates->components[gates->component_count++] = component;
}

/* A comment begins at a '#' that stands first or after a blank. */
static void strip(char *line)
{
	for (char *at = line; *at != '\0'; at++) {
		if (*at == '#' && (at == line || at[-1] == ' ' || at[-1] == '\t'))
			*at = '\0';
		if (*at == '\0')
			break;
	}
	for (char *end = strchr(line, '\0'); end > line && strchr(" \t\r", end[-1]) != NULL;)
		*--end = '\0';
}

static void one_line(struct parser *p, struct report_gates *gates, const char **section,
                     const char *where)
{
	static const char *const openings[] = { "fail", "warn", "ratchet", "component" };
	struct report_gate gate = { .where = where, .section = *section };
	const char *first;

	blanks(p);
	if (*p->at == '\0')
		return;
	if (take(p, '[')) {
		*section = word(p);
		if (**section == '\0' || !take(p, ']') || *p->at != '\0')
			WRONG(p, "a section is written [NAME]");
		return;
	}
	first = word(p);
	if (strcmp(first, "component") == 0) {
		component_line(p, gates);
		return;
	}
	if (!among(first, severities, COUNT(severities)))
		WRONG(p, "a line begins with fail, warn, ratchet, component or [, not \"%s\"%s",
		      *first == '\0' ? p->at : first,
		      report_hint(p->arena, first, openings, COUNT(openings)));
	if (**section == '\0')
		WRONG(p,
		      "a gate stands in a section; write [SCENARIO], [leaks] or [coverage] first");
	for (size_t i = 0; i < COUNT(severities); i++) {
		if (strcmp(severities[i], first) == 0)
			gate.severity = (enum report_severity)i;
	}
	gate_line(p, &gate);
	add(p->arena, gates, &gate);
}

/* What is no text is refused by its line, before any of it could come to a terminal. */
static bool check_text(struct report_arena *arena, const char *path, const char *text, size_t size,
                       const char **reterr_text)
{
	unsigned line = 1;

	for (const char *at = text; at < text + size; line++) {
		size_t length = strcspn(at, "\r\n");
		const char *copy = report_copy(arena, at, length);

		if ((at[length] == '\0' && at + length < text + size) ||
		    strcmp(report_clean(arena, copy), copy) != 0) {
			*reterr_text = report_print(
				arena, "%s:%u: not a text file: bytes that are not UTF-8", path,
				line);
			return false;
		}
		at += length + (at[length] == '\r' && at[length + 1] == '\n' ? 2 : 1);
	}
	return true;
}

bool report_gates_read(struct report_arena *arena, const char *path, struct report_gates *gates,
                       const char **reterr_text)
{
	char *text, *line, *next;
	const char *section = "";
	unsigned number_of_line = 0;
	size_t size;

	if (!report_read(arena, path, &text, &size, reterr_text) ||
	    !check_text(arena, path, text, size, reterr_text))
		return false;
	gates->path = path;
	for (line = text; line != NULL; line = next) {
		struct parser p = { .arena = arena, .gates = gates, .at = line };

		next = strchr(line, '\n');
		if (next != NULL)
			*next++ = '\0';
		number_of_line++;
		strip(line);
		one_line(&p, gates, &section, report_print(arena, "%s:%u", path, number_of_line));
		if (p.error != NULL) {
			*reterr_text =
				report_print(arena, "%s:%u: %s", path, number_of_line, p.error);
			return false;
		}
	}
	return true;
}

bool report_gates_add(struct report_arena *arena, const char *text, struct report_gates *gates,
                      const char **reterr_text)
{
	struct report_gate gate = { .where = "--gate", .section = "" };
	struct parser p = { .arena = arena, .gates = gates, .at = text };
	const char *begin, *first;

	blanks(&p);
	begin = p.at;
	first = word(&p);
	for (size_t i = 0; i < COUNT(severities); i++) {
		if (strcmp(severities[i], first) == 0) {
			gate.severity = (enum report_severity)i;
			begin = p.at;
		}
	}
	p.at = begin;
	gate_line(&p, &gate);
	if (p.error != NULL) {
		*reterr_text = report_print(arena, "--gate '%s': %s", text, p.error);
		return false;
	}
	add(arena, gates, &gate);
	return true;
}
