/*
 * script_parse.c - reads the text of a script into steps.
 *
 * Here is what all of reading needs: errors with their place, the table of variables, and the
 * checks of the whole: every \if closed, every transaction ended.
 */
/* SPDX-License-Identifier: MIT */
#include "script_internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "internal.h"

unsigned script_line(struct script_parser *p, const char *where)
{
	if (p->line_at == NULL || where < p->line_at) {
		p->line_at = p->text;
		p->line = 0;
	}
	for (; p->line_at < where; p->line_at++)
		p->line += *p->line_at == '\n';
	return p->line + 1;
}

static unsigned column_of(const struct script_parser *p, const char *where)
{
	unsigned column = 1;

	for (; where > p->text && where[-1] != '\n'; where--)
		column++;
	return column;
}

/* Errors become one line, whatever stood in the text. */
static void put_error(struct script_parser *p, const char *where, unsigned column,
                      const char *format, va_list args)
{
	char message[400], place[24] = "";

	if (p->failed)
		return;
	p->failed = true;
	vsnprintf(message, sizeof message, format, args);
	one_line(message);
	if (column > 0)
		snprintf(place, sizeof place, "column %u: ", column);
	snprintf(p->error, p->error_size, "%s:%u: %s%s", p->script->file, script_line(p, where),
	         place, message);
}

void *script_error(struct script_parser *p, const char *where, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	put_error(p, where, 0, format, args);
	va_end(args);
	return NULL;
}

void *script_error_column(struct script_parser *p, const char *where, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	put_error(p, where, column_of(p, where), format, args);
	va_end(args);
	return NULL;
}

const char *script_suggest(const char *const *names, unsigned count, const char *word,
                           size_t word_size, char *text, size_t text_size)
{
	char copy[64];
	const char *nearest;

	snprintf(copy, sizeof copy, "%.*s", (int)word_size, word);
	nearest = closest_word(copy, names, count);
	text[0] = '\0';
	if (nearest != NULL)
		snprintf(text, text_size, "; did you mean \"%s\"?", nearest);
	return text;
}

static int find(const struct harness_script *script, const char *name, size_t size)
{
	for (unsigned i = 0; i < script->variable_count; i++)
		if (strlen(script->names[i]) == size && memcmp(script->names[i], name, size) == 0)
			return (int)i;
	return -1;
}

int script_use(struct script_parser *p, const char *where, const char *name, size_t size)
{
	const struct harness_script *script = p->script;
	int slot = find(script, name, size);
	char hint[64];

	if (slot < 0)
		script_error_column(p, where, "variable \":%.*s\" is not set before this place%s",
		                    (int)size, name,
		                    script_suggest(script->names, script->variable_count, name,
		                                   size, hint, sizeof hint));
	return slot;
}

int script_define(struct script_parser *p, const char *where, const char *name, size_t size)
{
	struct harness_script *script = p->script;
	int slot = find(script, name, size);

	if (slot >= 0)
		return slot;
	if (script->variable_count == SCRIPT_VARIABLES_MAX) {
		script_error(p, where,
		             "\"%.*s\" is one variable too many; %d is the most, with the "
		             "%d that are always there",
		             (int)size, name, SCRIPT_VARIABLES_MAX, SCRIPT_BUILTINS);
		return -1;
	}
	slot = (int)script->variable_count;
	script->names[slot] = script_copy(script, name, size);
	if (script->names[slot] == NULL) {
		script_error(p, where, "out of memory");
		return -1;
	}
	script->variable_count++;
	return slot;
}

struct script_step *script_step_append(struct script_parser *p, enum script_step_kind kind,
                                       const char *where)
{
	struct script_step *step = script_alloc(p->script, sizeof *step);

	if (step == NULL)
		return script_error(p, where, "out of memory");
	step->kind = kind;
	step->line = script_line(p, where);
	*p->last = step;
	p->last = &step->next;
	return step;
}

static void line_error(struct script_parser *p, unsigned line, const char *what)
{
	if (!p->failed)
		snprintf(p->error, p->error_size, "%s:%u: %s", p->script->file, line, what);
	p->failed = true;
}

/* Without \if there is one way through the script, so it can be checked here; with \if, each run
 * checks its own way. */
static void check_transactions(struct script_parser *p)
{
	unsigned begun = 0;

	for (const struct script_step *s = p->script->steps; s != NULL; s = s->next) {
		if (s->kind == STEP_BEGIN && begun > 0)
			line_error(p, s->line,
			           "BEGIN inside a transaction; END it first, or use SAVEPOINT");
		if ((s->kind == STEP_COMMIT || s->kind == STEP_ROLLBACK) && begun == 0)
			line_error(p, s->line,
			           "there is no transaction to end here; BEGIN is missing");
		if (s->kind == STEP_BEGIN)
			begun = s->line;
		if (s->kind == STEP_COMMIT || s->kind == STEP_ROLLBACK)
			begun = 0;
	}
	if (begun > 0)
		line_error(p, begun, "this transaction is never ended; write END; after it");
}

/* The first byte that is not UTF-8; NULL when all is. */
static const char *find_invalid_utf8(const char *text)
{
	for (const unsigned char *c = (const unsigned char *)text; *c != '\0';) {
		unsigned more = *c < 0x80 ? 0 : *c < 0xE0 ? 1 : *c < 0xF0 ? 2 : 3;

		if ((*c >= 0x80 && *c < 0xC2) || *c > 0xF4 || (*c == 0xE0 && c[1] < 0xA0) ||
		    (*c == 0xED && c[1] > 0x9F) || (*c == 0xF0 && c[1] < 0x90) ||
		    (*c == 0xF4 && c[1] > 0x8F))
			return (const char *)c;
		for (unsigned i = 1; i <= more; i++)
			if ((c[i] & 0xC0) != 0x80)
				return (const char *)c;
		c += more + 1;
	}
	return NULL;
}

void script_parse_text(struct script_parser *p)
{
	const char *invalid = find_invalid_utf8(p->text);

	if (invalid != NULL) {
		script_error(p, invalid, "byte 0x%02X is not UTF-8; save the file as UTF-8",
		             (unsigned)(unsigned char)*invalid);
		return;
	}
	if (strncmp(p->at, "\xEF\xBB\xBF", 3) == 0) /* A byte order mark. */
		p->at += 3;
	while (!p->failed && *(p->at += strspn(p->at, " \t\r\n\f\v;")) != '\0') {
		if (*p->at == '\\')
			script_parse_command(p);
		else
			script_parse_sql(p);
	}
	if (p->if_count > 0)
		line_error(p, p->ifs[p->if_count - 1].line, "this \\if has no \\endif");
	if (p->script->steps == NULL)
		line_error(p, 1, "the script is empty; write SQL or a command like \\set");
	if (!p->branches)
		check_transactions(p);
}
