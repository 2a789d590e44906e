/*
 * script_sql.c - the SQL of a script, cut into statements, checked and made into steps.
 *
 * SQLite itself does the cutting: each statement is prepared on the check connection, and the
 * tail that SQLite hands back is where the next one starts. So strings, comments and triggers
 * need no rule of ours, and an error at load is SQLite's own. DDL is run there too, in a savepoint
 * that the caller rolls back.
 */
/* SPDX-License-Identifier: MIT */
#include "script_internal.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

enum { WORDS_MAX = 4 };

/* The first words of a statement: enough to know what SQLite's own interface does not tell. */
struct words {
	char text[WORDS_MAX][16];
};

static const char *skip_to(const char *at, const char *end, const char *mark)
{
	const char *found = memmem(at, (size_t)(end - at), mark, strlen(mark));

	return found != NULL ? found + strlen(mark) : end;
}

/* Over white space, comments and, at the start of a statement, empty statements. */
static const char *skip_space(const char *at, const char *end)
{
	while (at < end) {
		if (isspace((unsigned char)*at) || *at == ';')
			at++;
		else if (end - at >= 2 && memcmp(at, "--", 2) == 0)
			at = skip_to(at, end, "\n");
		else if (end - at >= 2 && memcmp(at, "/*", 2) == 0)
			at = skip_to(at + 2, end, "*/");
		else
			break;
	}
	return at;
}

static struct words first_words(const char *at, const char *end)
{
	struct words words = { 0 };

	for (unsigned i = 0; i < WORDS_MAX; i++) {
		size_t size = 0;

		at = skip_space(at, end);
		while (at < end && script_name_byte(*at, false)) {
			if (size + 1 < sizeof words.text[i])
				words.text[i][size++] = *at;
			at++;
		}
		if (size == 0)
			break;
	}
	return words;
}

static bool is_one_of(const char *word, const char *const *list)
{
	for (; *list != NULL; list++)
		if (strcasecmp(word, *list) == 0)
			return true;
	return false;
}

static enum script_step_kind kind_of(const struct words *words)
{
	if (strcasecmp(words->text[0], "BEGIN") == 0)
		return STEP_BEGIN;
	if (strcasecmp(words->text[0], "END") == 0 || strcasecmp(words->text[0], "COMMIT") == 0)
		return STEP_COMMIT;
	if (strcasecmp(words->text[0], "ROLLBACK") != 0)
		return STEP_QUERY;
	/* ROLLBACK [TRANSACTION [name]] TO savepoint stays inside the transaction. */
	for (unsigned i = 1; i < WORDS_MAX; i++)
		if (strcasecmp(words->text[i], "TO") == 0)
			return STEP_QUERY;
	return STEP_ROLLBACK;
}

/* Where this stretch of SQL ends: at a backslash outside quotes and comments, or with the text. */
static const char *find_end(const char *at)
{
	const char *end = at + strlen(at);

	while (at < end && *at != '\\') {
		char quote = *at == '[' ? ']' : *at;

		if (strchr("'\"`[", *at) != NULL)
			at = skip_to(at + 1, end, (char[]){ quote, '\0' });
		else if (strncmp(at, "--", 2) == 0)
			at = skip_to(at, end, "\n");
		else if (strncmp(at, "/*", 2) == 0)
			at = skip_to(at + 2, end, "*/");
		else
			at++;
	}
	return at;
}

/* SQLite's message, with the line of the token that it stopped at, where it knows. */
static void sqlite_error(struct script_parser *p, const char *statement, const char *start)
{
	int offset = -1;

#if SQLITE_VERSION_NUMBER >= 3038000
	offset = sqlite3_error_offset(p->db);
#endif
	script_error(p, offset >= 0 ? start + offset : statement, "%s", sqlite3_errmsg(p->db));
}

/* Where a parameter stands in the statement, as far as a look at the text can tell. */
static const char *find_parameter(const char *statement, const char *end, const char *name)
{
	const char *found = memmem(statement, (size_t)(end - statement), name, strlen(name));

	return found != NULL ? found : statement;
}

static void bind(struct script_parser *p, struct script_step *step, sqlite3_stmt *statement,
                 const char *start, const char *end)
{
	int count = sqlite3_bind_parameter_count(statement);

	if (count == 0)
		return;
	step->args = script_alloc(p->script, (size_t)count * sizeof *step->args);
	if (step->args == NULL) {
		script_error(p, start, "out of memory");
		return;
	}
	for (int i = 0; i < count; i++) {
		const char *name = sqlite3_bind_parameter_name(statement, i + 1);
		const char *where = find_parameter(start, end, name != NULL ? name : "?");
		int slot;

		if (name == NULL || name[0] != ':') {
			script_error(p, where, "the parameter %s has no variable; write it :name",
			             name != NULL ? name : "?");
			return;
		}
		if ((slot = script_use(p, where, name + 1, strlen(name + 1))) < 0)
			return;
		step->args[i] = (unsigned)slot;
	}
	step->arg_count = (unsigned)count;
}

/* So that the statements after it can be prepared. */
static void run_ddl(struct script_parser *p, const char *where, sqlite3_stmt *statement)
{
	int rc = SQLITE_OK;

	if (!p->savepoint)
		rc = sqlite3_exec(p->db, "SAVEPOINT harness_script", NULL, NULL, NULL);
	if (rc == SQLITE_OK) {
		p->savepoint = true;
		do
			rc = sqlite3_step(statement);
		while (rc == SQLITE_ROW);
	}
	if (rc != SQLITE_DONE)
		script_error(p, where, "%s", sqlite3_errmsg(p->db));
}

static void append_statement(struct script_parser *p, sqlite3_stmt *statement, const char *start,
                             const char *end)
{
	static const char *const refused[] = { "ATTACH", "DETACH", NULL };
	static const char *const ddl[] = { "CREATE", "DROP", "ALTER", NULL };
	struct words words = first_words(start, end);
	struct script_step *step = script_step_append(p, kind_of(&words), start);

	if (step == NULL)
		return;
	if (is_one_of(words.text[0], refused)) {
		script_error(p, start,
		             "%s changes the connection for whoever borrows it next; "
		             "give the run a database that has all tables",
		             words.text[0]);
		return;
	}
	if (!sqlite3_stmt_readonly(statement))
		p->script->access = HARNESS_WRITE;
	if (step->kind != STEP_QUERY)
		return;
	step->sql = script_copy(p->script, start, (size_t)(end - start));
	if (step->sql == NULL)
		script_error(p, start, "out of memory");
	bind(p, step, statement, start, end);
	if (!p->failed && is_one_of(words.text[0], ddl))
		run_ddl(p, start, statement);
	p->query = step;
}

void script_parse_sql(struct script_parser *p)
{
	const char *end = find_end(p->at), *start = skip_space(p->at, end), *tail;
	sqlite3_stmt *statement = NULL;

	p->at = start;
	if (start == end)
		return;
	if (sqlite3_prepare_v2(p->db, start, (int)(end - start), &statement, &tail) != SQLITE_OK) {
		sqlite_error(p, start, start);
		return;
	}
	/* What is left then is a comment that does not end. */
	if (statement == NULL)
		tail = end;
	else
		append_statement(p, statement, start, tail);
	sqlite3_finalize(statement);
	p->at = tail;
}
