/*
 * script_command.c - the commands that start with a backslash, made into steps.
 */
/* SPDX-License-Identifier: MIT */
#include "script_internal.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static const char known[] = "\\set, \\sleep, \\if, \\elif, \\else, \\endif, \\gset";

/* Over spaces and continued lines, but not past the end of the command. */
static const char *skip_blank(const char *at)
{
	size_t continuation;

	while ((continuation = script_continuation(at)) > 0 ||
	       (isspace((unsigned char)*at) && *at != '\n'))
		at += continuation > 0 ? continuation : 1;
	return at;
}

/* The next word of the command at p->at; its size is 0 at the end. */
static const char *read_word(struct script_parser *p, size_t *ret_size)
{
	const char *word = p->at = skip_blank(p->at);

	while (*p->at != '\0' && !isspace((unsigned char)*p->at) && script_continuation(p->at) == 0)
		p->at++;
	*ret_size = (size_t)(p->at - word);
	return word;
}

static void expect_end(struct script_parser *p, const char *command)
{
	size_t size;
	const char *word = read_word(p, &size);

	if (size > 0)
		script_error(p, word, "\"%.*s\" is too much after %s", (int)size, word, command);
}

static size_t name_size(const char *name, size_t size)
{
	size_t good = 0;

	while (good < size && script_name_byte(name[good], good == 0))
		good++;
	return good;
}

static void parse_set(struct script_parser *p)
{
	size_t size;
	const char *name = read_word(p, &size);
	const struct script_expr *expr;
	struct script_step *step;
	int slot;

	if (size == 0 || name_size(name, size) != size) {
		script_error(p, name,
		             "\\set needs a name of letters, digits and \"_\", then an "
		             "expression; \"%.*s\" is no name",
		             (int)size, name);
		return;
	}
	/* The expression comes first: it may not use the variable that it sets. */
	expr = script_expr_parse(p);
	if (expr == NULL || (step = script_step_append(p, STEP_SET, name)) == NULL ||
	    (slot = script_define(p, name, name, size)) < 0)
		return;
	step->expr = expr;
	step->variable = (unsigned)slot;
	step->chosen = !p->measured_used;
	if (step->chosen)
		p->script->measured[slot] = false;
}

static bool parse_unit(struct script_parser *p, struct script_step *step)
{
	static const struct {
		const char *name;
		int64_t ns;
	} units[] = { { "us", 1000 }, { "ms", 1000000 }, { "s", 1000000000 } };
	size_t size;
	const char *word = read_word(p, &size);

	step->unit_ns = 1000000000;
	if (size == 0)
		return true;
	for (unsigned i = 0; i < sizeof units / sizeof *units; i++) {
		if (strlen(units[i].name) != size || strncasecmp(units[i].name, word, size) != 0)
			continue;
		step->unit_ns = units[i].ns;
		return true;
	}
	script_error(p, word, "\\sleep knows us, ms and s, not \"%.*s\"", (int)size, word);
	return false;
}

static void parse_sleep(struct script_parser *p, const char *where)
{
	size_t size;
	const char *word = read_word(p, &size);
	struct script_expr *expr = script_alloc(p->script, sizeof *expr);
	struct script_step *step = script_step_append(p, STEP_SLEEP, where);
	int slot = 0;

	if (expr == NULL || step == NULL) {
		script_error(p, where, "out of memory");
		return;
	}
	step->expr = expr;
	expr->line = step->line;
	expr->column = 1;
	if (*word == ':') {
		if ((slot = script_use(p, word, word + 1, size - 1)) < 0)
			return;
		expr->op = OP_VARIABLE;
		expr->variable = (unsigned)slot;
	} else if (size == 0 || size > 9 || strspn(word, "0123456789") < size) {
		script_error(p, word,
		             "\\sleep needs a whole number or a :variable, then us, ms or "
		             "s (the default), not \"%.*s\"",
		             (int)size, word);
		return;
	} else {
		expr->value.type = SCRIPT_INTEGER;
		expr->value.integer = strtoll(word, NULL, 10);
	}
	if (parse_unit(p, step))
		expect_end(p, "\\sleep");
}

/* The condition of \if and \elif. */
static void append_unless(struct script_parser *p, const char *where)
{
	const struct script_expr *expr = script_expr_parse(p);
	struct script_step *step;

	if (expr == NULL || (step = script_step_append(p, STEP_UNLESS, where)) == NULL)
		return;
	step->expr = expr;
	p->ifs[p->if_count - 1].unless = step;
}

static void parse_if(struct script_parser *p, const char *where)
{
	if (p->if_count == SCRIPT_IF_MAX) {
		script_error(p, where, "\\if is nested deeper than %d", SCRIPT_IF_MAX);
		return;
	}
	p->branches = true;
	memset(&p->ifs[p->if_count], 0, sizeof p->ifs[0]);
	p->ifs[p->if_count++].line = script_line(p, where);
	append_unless(p, where);
}

/* \elif and \else: the branch before jumps to \endif, and its condition, when false, to here. */
static void parse_other_branch(struct script_parser *p, const char *where, bool has_condition)
{
	const char *command = has_condition ? "\\elif" : "\\else";
	struct script_step *jump, *here, *before;

	if (p->if_count == 0) {
		script_error(p, where, "%s without \\if", command);
		return;
	}
	before = p->ifs[p->if_count - 1].unless;
	if (before == NULL) {
		script_error(p, where, "%s after \\else", command);
		return;
	}
	jump = script_step_append(p, STEP_JUMP, where);
	here = jump != NULL ? script_step_append(p, STEP_NOTHING, where) : NULL;
	if (here == NULL)
		return;
	before->target = here;
	jump->target = p->ifs[p->if_count - 1].jumps;
	p->ifs[p->if_count - 1].jumps = jump;
	p->ifs[p->if_count - 1].unless = NULL;
	if (has_condition)
		append_unless(p, where);
	else
		expect_end(p, command);
}

static void parse_endif(struct script_parser *p, const char *where)
{
	struct script_step *here, *jump, *next;

	if (p->if_count == 0) {
		script_error(p, where, "\\endif without \\if");
		return;
	}
	here = script_step_append(p, STEP_NOTHING, where);
	if (here == NULL)
		return;
	p->if_count--;
	if (p->ifs[p->if_count].unless != NULL)
		p->ifs[p->if_count].unless->target = here;
	for (jump = p->ifs[p->if_count].jumps; jump != NULL; jump = next) {
		next = jump->target;
		jump->target = here;
	}
	expect_end(p, "\\endif");
}

/* One column of a \gset: prefix and column make the variable's name. */
static bool gset_column(struct script_parser *p, const char *where, const char *prefix,
                        size_t prefix_size, const char *column, unsigned *ret_slot)
{
	char name[64];
	size_t size = prefix_size + strlen(column);
	int slot;

	if (size >= sizeof name) {
		script_error(p, where,
		             "the column \"%.40s\" has too long a name for a variable; "
		             "write AS and a shorter one",
		             column);
		return false;
	}
	memcpy(name, prefix, prefix_size);
	memcpy(name + prefix_size, column, size - prefix_size);
	if (name_size(name, size) != size || size == 0) {
		script_error(p, where,
		             "the column \"%s\" cannot name a variable; write AS and a "
		             "name",
		             column);
		return false;
	}
	if ((slot = script_define(p, where, name, size)) < 0)
		return false;
	p->script->measured[slot] = true;
	*ret_slot = (unsigned)slot;
	return true;
}

static void gset_columns(struct script_parser *p, const char *where, struct script_step *step,
                         sqlite3_stmt *statement, const char *prefix, size_t prefix_size)
{
	int count = sqlite3_column_count(statement);

	if (count == 0) {
		script_error(p, where, "\\gset needs a query that returns columns before it");
		return;
	}
	step->columns = script_alloc(p->script, (size_t)count * sizeof *step->columns);
	if (step->columns == NULL) {
		script_error(p, where, "out of memory");
		return;
	}
	for (int i = 0; i < count; i++)
		if (!gset_column(p, where, prefix, prefix_size, sqlite3_column_name(statement, i),
		                 &step->columns[i]))
			return;
	step->column_count = (unsigned)count;
}

static void parse_gset(struct script_parser *p, const char *where, struct script_step *query)
{
	size_t size;
	const char *prefix = read_word(p, &size);
	sqlite3_stmt *statement = NULL;

	if (query == NULL) {
		script_error(p, where, "\\gset needs a query right before it");
		return;
	}
	expect_end(p, "\\gset");
	if (sqlite3_prepare_v2(p->db, query->sql, -1, &statement, NULL) != SQLITE_OK)
		script_error(p, where, "%s", sqlite3_errmsg(p->db));
	else
		gset_columns(p, where, query, statement, prefix, size);
	sqlite3_finalize(statement);
}

static void unknown_command(struct script_parser *p, const char *word, size_t size)
{
	static const char *const names[] = { "\\set",  "\\sleep", "\\if",  "\\elif",
		                             "\\else", "\\endif", "\\gset" };
	static const char *const pgbench[] = {
		"\\setshell",      "\\shell",        "\\aset",
		"\\startpipeline", "\\syncpipeline", "\\endpipeline"
	};
	char hint[64];

	for (unsigned i = 0; i < sizeof pgbench / sizeof *pgbench; i++) {
		if (strlen(pgbench[i]) != size || strncasecmp(pgbench[i], word, size) != 0)
			continue;
		script_error(p, word, "%s is pgbench's and not supported here; known: %s",
		             pgbench[i], known);
		return;
	}
	script_error(
		p, word, "unknown command \"%.*s\"%s; known: %s", (int)size, word,
		script_suggest(names, sizeof names / sizeof *names, word, size, hint, sizeof hint),
		known);
}

void script_parse_command(struct script_parser *p)
{
	size_t size;
	const char *word = p->at;
	struct script_step *query = p->query;

	p->query = NULL;
	p->at++;
	read_word(p, &size);
	size = (size_t)(p->at - word);
	if (size == 4 && strncasecmp(word, "\\set", 4) == 0)
		parse_set(p);
	else if (size == 6 && strncasecmp(word, "\\sleep", 6) == 0)
		parse_sleep(p, word);
	else if (size == 3 && strncasecmp(word, "\\if", 3) == 0)
		parse_if(p, word);
	else if (size == 5 && strncasecmp(word, "\\elif", 5) == 0)
		parse_other_branch(p, word, true);
	else if (size == 5 && strncasecmp(word, "\\else", 5) == 0)
		parse_other_branch(p, word, false);
	else if (size == 6 && strncasecmp(word, "\\endif", 6) == 0)
		parse_endif(p, word);
	else if (size == 5 && strncasecmp(word, "\\gset", 5) == 0)
		parse_gset(p, word, query);
	else
		unknown_command(p, word, size);
}
