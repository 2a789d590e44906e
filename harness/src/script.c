/*
 * script.c - scripts: loading and running them.
 *
 * A run keeps everything on its stack. It borrows a connection at its first SQL, so what a script
 * computes or sleeps before that keeps nobody waiting, and gives it back at its end, on every path.
 */
/* SPDX-License-Identifier: MIT */
#include <poolproof/harness/script.h>

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "internal.h"
#include "script_internal.h"

struct script_block {
	struct script_block *next;
	_Alignas(max_align_t) char bytes[];
};

void *script_alloc(struct harness_script *script, size_t size)
{
	struct script_block *block = calloc(1, sizeof *block + size);

	if (block == NULL)
		return NULL;
	block->next = script->blocks;
	script->blocks = block;
	return block->bytes;
}

const char *script_copy(struct harness_script *script, const char *text, size_t size)
{
	char *copy = script_alloc(script, size + 1);

	if (copy != NULL)
		memcpy(copy, text, size);
	return copy;
}

void harness_script_free(struct harness_script *script)
{
	struct script_block *block, *next;

	if (script == NULL)
		return;
	for (block = script->blocks; block != NULL; block = next) {
		next = block->next;
		free(block);
	}
	free(script);
}

enum harness_access harness_script_access(const struct harness_script *script)
{
	return script->access;
}

const char *harness_script_name(const struct harness_script *script)
{
	return script->name;
}

/* ---- Loading ---- */

static struct script_value from_harness(const struct harness_value *v)
{
	switch (v->type) {
	case HARNESS_INTEGER:
		return (struct script_value){ .type = SCRIPT_INTEGER, .integer = v->integer };
	case HARNESS_REAL:
		return (struct script_value){ .type = SCRIPT_DOUBLE, .real = v->real };
	case HARNESS_TEXT:
		return (struct script_value){ .type = SCRIPT_TEXT, .text = v->text };
	default:
		return (struct script_value){ .type = SCRIPT_NULL };
	}
}

/* The name without its folder; what a name of an operation may not hold becomes '_'. */
static const char *operation_name(struct harness_script *script, const char *file)
{
	const char *slash = strrchr(file, '/');
	const char *base = slash != NULL && slash[1] != '\0' ? slash + 1 : file;
	char *name = script_alloc(script, strlen(base) + 1);

	for (size_t i = 0; name != NULL && base[i] != '\0'; i++)
		name[i] = (char)(isalnum((unsigned char)base[i]) || strchr("_-.", base[i]) != NULL
		                         ? base[i]
		                         : '_');
	return name;
}

static void define_variable(struct script_parser *p, const struct harness_variable *variable)
{
	size_t size = strlen(variable->name);
	struct script_value value = from_harness(&variable->value);
	int slot;

	for (size_t i = 0; i < size || i == 0; i++) {
		if (script_name_byte(variable->name[i], i == 0))
			continue;
		script_error(p, p->text,
		             "\"%s\" cannot name a variable; use letters, digits and "
		             "\"_\"",
		             variable->name);
		return;
	}
	slot = script_define(p, p->text, variable->name, size);
	if (slot < 0)
		return;
	if (slot < SCRIPT_BUILTINS) {
		script_error(p, p->text,
		             "\"%s\" is always there and cannot be defined by -D; choose another "
		             "name",
		             variable->name);
		return;
	}
	if (value.type == SCRIPT_TEXT)
		value.text = script_copy(p->script, value.text, strlen(value.text));
	p->script->initial[slot] = value;
}

static void define_variables(struct script_parser *p, const struct harness_variable *variables,
                             unsigned count)
{
	static const char *const builtins[] = { "client_id", "random_seed", "default_seed" };

	for (unsigned i = 0; i < SCRIPT_BUILTINS; i++)
		script_define(p, p->text, builtins[i], strlen(builtins[i]));
	for (unsigned i = 0; i < count; i++)
		define_variable(p, &variables[i]);
}

struct harness_script *harness_script_parse(const char *name, const char *text, struct sqlite3 *db,
                                            const struct harness_variable *variables,
                                            unsigned variable_count, char *reterr_text,
                                            size_t text_size)
{
	struct harness_script *script = calloc(1, sizeof *script);
	struct script_parser p = { .script = script,
		                   .db = db,
		                   .text = text,
		                   .at = text,
		                   .error = reterr_text,
		                   .error_size = text_size };

	if (script == NULL || (script->file = script_copy(script, name, strlen(name))) == NULL ||
	    (script->name = operation_name(script, name)) == NULL) {
		snprintf(reterr_text, text_size, "%s: out of memory", name);
		harness_script_free(script);
		return NULL;
	}
	p.last = &script->steps;
	define_variables(&p, variables, variable_count);
	if (!p.failed)
		script_parse_text(&p);
	if (p.savepoint)
		sqlite3_exec(db, "ROLLBACK TO harness_script; RELEASE harness_script", NULL, NULL,
		             NULL);
	if (!p.failed)
		return script;
	harness_script_free(script);
	return NULL;
}

/* The whole file, ended by NUL; to be freed. NULL with the reason in words. */
static char *read_file(const char *path, char *reterr_text, size_t text_size)
{
	FILE *file = fopen(path, "re");
	char *text = NULL;
	const char *wrong = NULL;
	struct stat status;
	size_t size = 0;

	if (file == NULL && errno == ENOENT)
		wrong = "no such file; name a script (--script FILE)";
	else if (file == NULL && errno == EACCES)
		wrong = "cannot be read by you; give yourself the permission (chmod u+r)";
	else if (file == NULL || fstat(fileno(file), &status) != 0)
		wrong = strerror(errno);
	else if (S_ISDIR(status.st_mode))
		wrong = "this is a folder, not a script; name a file in it";
	else if ((text = malloc(SCRIPT_FILE_MAX + 1)) == NULL)
		wrong = "out of memory";
	else if ((size = fread(text, 1, SCRIPT_FILE_MAX + 1, file)) > SCRIPT_FILE_MAX)
		wrong = "larger than 256 KiB, so hardly a script";
	else if (ferror(file))
		wrong = strerror(errno);
	else if (memchr(text, '\0', size) != NULL)
		wrong = "holds NUL bytes, so this is not text";
	if (file != NULL)
		fclose(file);
	if (wrong == NULL) {
		text[size] = '\0';
		return text;
	}
	snprintf(reterr_text, text_size, "%s: %s", path, wrong);
	free(text);
	return NULL;
}

struct harness_script *harness_script_load(const char *path, struct sqlite3 *db,
                                           const struct harness_variable *variables,
                                           unsigned variable_count, char *reterr_text,
                                           size_t text_size)
{
	char *text = read_file(path, reterr_text, text_size);
	struct harness_script *script;

	if (text == NULL)
		return NULL;
	script = harness_script_parse(path, text, db, variables, variable_count, reterr_text,
	                              text_size);
	free(text);
	return script;
}

/* ---- Running ---- */

static void frame_init(struct script_frame *f, const struct harness_script *script,
                       struct harness_worker *worker, struct harness_failure *failure)
{
	uint64_t seed = worker->run != NULL ? harness_run_options(worker->run)->seed : 0;
	const int64_t builtins[SCRIPT_BUILTINS] = { worker->thread, (int64_t)seed, (int64_t)seed };

	f->script = script;
	f->worker = worker;
	f->failure = failure;
	f->lent = false;
	f->begun_line = 0;
	f->text_used = 0;
	memcpy(f->variables, script->initial, script->variable_count * sizeof *f->variables);
	for (unsigned i = 0; i < SCRIPT_BUILTINS; i++)
		f->variables[i] =
			(struct script_value){ .type = SCRIPT_INTEGER, .integer = builtins[i] };
}

/* Puts the place before what the target said. */
static bool failed_at(struct script_frame *f, unsigned line)
{
	struct harness_failure *failure = f->failure;
	char text[sizeof failure->text];

	memcpy(text, failure->text, sizeof text);
	text[sizeof text - 1] = '\0';
	if (snprintf(failure->text, sizeof failure->text, "%s:%u: ", f->script->file, line) > 0)
		strncat(failure->text, text, sizeof failure->text - strlen(failure->text) - 1);
	return false;
}

static bool borrow(struct script_frame *f, unsigned line)
{
	if (f->lent)
		return true;
	if (!harness_lend(f->worker, f->script->access, &f->connection, f->failure))
		return failed_at(f, line);
	f->lent = true;
	return true;
}

static bool to_argument(struct script_frame *f, const struct script_step *step, unsigned slot,
                        struct harness_value *ret_value)
{
	const struct script_value *v = &f->variables[slot];

	*ret_value = (struct harness_value){ .type = HARNESS_NULL };
	switch (v->type) {
	case SCRIPT_UNSET:
		return script_run_error(f, step->line,
		                        "variable \":%s\" was not set on the way here",
		                        f->script->names[slot]);
	case SCRIPT_BOOLEAN: /* SQLite's booleans are 1 and 0. */
		ret_value->type = HARNESS_INTEGER;
		ret_value->integer = v->boolean;
		break;
	case SCRIPT_INTEGER:
		ret_value->type = HARNESS_INTEGER;
		ret_value->integer = v->integer;
		break;
	case SCRIPT_DOUBLE:
		ret_value->type = HARNESS_REAL;
		ret_value->real = v->real;
		break;
	case SCRIPT_TEXT:
		ret_value->type = HARNESS_TEXT;
		ret_value->text = v->text;
		break;
	case SCRIPT_NULL:
		break;
	}
	return true;
}

/* What a \gset gathers. */
struct gather {
	struct script_frame *frame;
	const struct script_step *step;
	unsigned rows;
	bool full;
};

static bool keep_text(struct script_frame *f, struct script_value *value)
{
	size_t size = strlen(value->text) + 1;
	char *copy = f->text + f->text_used;

	if (size > sizeof f->text - f->text_used)
		return false;
	memcpy(copy, value->text, size);
	f->text_used += size;
	value->text = copy;
	return true;
}

/* Takes the first row; the second is an error already, so the statement is stopped there. */
static bool gather_row(void *context, const struct harness_value *columns, unsigned count)
{
	struct gather *g = context;

	if (g->rows++ > 0)
		return false;
	for (unsigned i = 0; i < count && i < g->step->column_count; i++) {
		struct script_value value = from_harness(&columns[i]);

		if (value.type == SCRIPT_TEXT && !keep_text(g->frame, &value)) {
			g->full = true;
			return false;
		}
		g->frame->variables[g->step->columns[i]] = value;
	}
	return true;
}

static bool run_query(struct script_frame *f, const struct script_step *step)
{
	struct harness_value args[SCRIPT_VARIABLES_MAX];
	struct gather gather = { .frame = f, .step = step };

	for (unsigned i = 0; i < step->arg_count; i++)
		if (!to_argument(f, step, step->args[i], &args[i]))
			return false;
	if (!harness_query(f->worker, &f->connection, step->sql, args, step->arg_count,
	                   step->columns != NULL ? gather_row : NULL, &gather, f->failure))
		return failed_at(f, step->line);
	if (gather.full)
		return script_run_error(f, step->line, "\\gset: the texts exceed %d bytes in all",
		                        SCRIPT_TEXT_MAX);
	if (step->columns != NULL && gather.rows != 1)
		return script_run_error(f, step->line, "\\gset needs exactly one row, and there %s",
		                        gather.rows == 0 ? "was none" : "were more");
	return true;
}

static bool run_set(struct script_frame *f, const struct script_step *step)
{
	struct script_value *v = &f->variables[step->variable], value;
	uint64_t what = 0;

	if (!script_eval(f, step->expr, &value))
		return false;
	*v = value;
	if (v->type == SCRIPT_INTEGER)
		what = (uint64_t)v->integer;
	else if (v->type == SCRIPT_DOUBLE)
		memcpy(&what, &v->real, sizeof what);
	else if (v->type == SCRIPT_BOOLEAN)
		what = v->boolean;
	if (step->chosen)
		harness_choose(f->worker, what);
	return true;
}

static bool run_sleep(struct script_frame *f, const struct script_step *step)
{
	const int64_t ns_per_s = 1000000000, ns_max = INT64_C(86400) * ns_per_s;
	struct script_value value;
	struct timespec until;
	int64_t count;

	if (!script_eval(f, step->expr, &value) ||
	    !script_to_integer(f, step->expr, &value, &count))
		return false;
	if (count < 0 || count > ns_max / step->unit_ns)
		return script_run_error(f, step->line, "\\sleep: %lld is outside 0 s to one day",
		                        (long long)count);
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += (time_t)(count * step->unit_ns / ns_per_s);
	until.tv_nsec += (long)(count * step->unit_ns % ns_per_s);
	if (until.tv_nsec >= ns_per_s) {
		until.tv_sec++;
		until.tv_nsec -= (long)ns_per_s;
	}
	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == EINTR)
		;
	return true;
}

static bool run_begin(struct script_frame *f, const struct script_step *step)
{
	if (f->begun_line > 0)
		return script_run_error(f, step->line, "BEGIN inside the transaction of line %u",
		                        f->begun_line);
	if (!harness_begin(f->worker, &f->connection, f->failure))
		return failed_at(f, step->line);
	f->begun_line = step->line;
	return true;
}

static bool run_end(struct script_frame *f, const struct script_step *step)
{
	bool done;

	if (f->begun_line == 0)
		return script_run_error(f, step->line, "there is no transaction to end here");
	if (step->kind == STEP_COMMIT)
		done = harness_commit(f->worker, &f->connection, f->failure);
	else
		done = harness_rollback(f->worker, &f->connection, f->failure);
	if (!done)
		return failed_at(f, step->line);
	f->begun_line = 0;
	return true;
}

static bool run_step(struct script_frame *f, const struct script_step *step,
                     const struct script_step **ret_next)
{
	struct script_value value;

	*ret_next = step->next;
	switch (step->kind) {
	case STEP_NOTHING:
		return true;
	case STEP_JUMP:
		*ret_next = step->target;
		return true;
	case STEP_UNLESS:
		if (!script_eval(f, step->expr, &value))
			return false;
		if (!script_truth(&value))
			*ret_next = step->target;
		return true;
	case STEP_SET:
		return run_set(f, step);
	case STEP_SLEEP:
		return run_sleep(f, step);
	case STEP_QUERY:
		return borrow(f, step->line) && run_query(f, step);
	case STEP_BEGIN:
		return borrow(f, step->line) && run_begin(f, step);
	case STEP_COMMIT:
	case STEP_ROLLBACK:
		return borrow(f, step->line) && run_end(f, step);
	}
	return true;
}

bool harness_script_run(struct harness_worker *worker, void *context,
                        struct harness_failure *reterr_failure)
{
	const struct harness_script *script = context;
	struct harness_failure ignored;
	struct script_frame f;
	bool done = true;

	frame_init(&f, script, worker, reterr_failure);
	for (const struct script_step *step = script->steps; done && step != NULL;)
		done = run_step(&f, step, &step);
	if (done && f.begun_line > 0)
		done = script_run_error(&f, f.begun_line,
		                        "the script ended inside this transaction");
	/* The failure that is told is the first one. */
	if (f.begun_line > 0)
		harness_rollback(worker, &f.connection, &ignored);
	if (f.lent)
		harness_give_back(worker, &f.connection);
	return done;
}
