/*
 * concurrent_load - many threads read and write one database through a pool.
 *
 * Question   Does everybody get through, how long do they wait, and is everything as it was after?
 * Load       YCSB's mixes A, B, C and F, then a ledger with borrowers who give up or forget to
 *            commit; or the user's own scripts on a copy of the user's own database.
 * Passes     when no operation fails, every reader sees the ledger whole, the file is sound at the
 *            end, and memory, descriptors and threads end where they began.
 */
/* SPDX-License-Identifier: MIT */
#include "targets/targets.h"
#include "workloads/workloads.h"

#include <poolproof/harness/run.h>

#include <argp.h>
#include <errno.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { KEY_DB = 0x1000, KEY_SCRIPT, KEY_RECORDS, KEY_MIX };
enum { SCRIPTS_MAX = 32, VARIABLES_MAX = 32, TEXT_MAX = 1024, RECORDS_MAX = 100000000 };
enum { OPERATIONS_MAX = 4 }; /* Of a phase: YCSB's or the ledger's. */
_Static_assert((int)YCSB_OPERATIONS <= OPERATIONS_MAX && (int)LEDGER_OPERATIONS <= OPERATIONS_MAX,
               "");

static const struct argp_option options[] = {
	{ "db", KEY_DB, "FILE", 0, "Work on a copy of this database; needs --script", 0 },
	{ "script", KEY_SCRIPT, "FILE[@WEIGHT]", 0,
	  "A transaction in pgbench's script language; repeatable", 0 },
	{ "define", 'D', "NAME=VALUE", 0, "A variable for the scripts; repeatable", 0 },
	{ "mix", KEY_MIX, "LIST", 0, "Phases of the built-in load (a,b,c,f,ledger)", 0 },
	{ "records", KEY_RECORDS, "N", 0, "Rows of the built-in table (10000)", 0 },
	{ 0 },
};

static struct {
	const char *db;
	struct {
		char path[TEXT_MAX];
		unsigned weight;
	} scripts[SCRIPTS_MAX];
	unsigned script_count;
	struct harness_variable variables[VARIABLES_MAX];
	unsigned variable_count;
	int64_t records;
	char mix[64];
} given = { .records = 10000, .mix = "a,b,c,f,ledger" };

/* --- Options ----------------------------------------------------------------------------- */

static const char *read_number(const char *text, int64_t low, int64_t high, int64_t *ret)
{
	char *end;

	errno = 0;
	long long value = strtoll(text, &end, 10);

	if (end == text || *end != '\0' || errno != 0 || value < low || value > high)
		return "must be a whole number in its range";
	*ret = value;
	return NULL;
}

static const char *read_script(const char *value)
{
	const char *at = strrchr(value, '@');
	size_t length = at != NULL ? (size_t)(at - value) : strlen(value);
	int64_t weight = 1;

	if (given.script_count == SCRIPTS_MAX)
		return "there can be 32 scripts at most";
	if (length == 0 || length >= TEXT_MAX)
		return "must be FILE or FILE@WEIGHT";
	if (at != NULL && read_number(at + 1, 1, 1000000, &weight) != NULL)
		return "the weight after '@' must be 1..1000000";
	memcpy(given.scripts[given.script_count].path, value, length);
	given.scripts[given.script_count++].weight = (unsigned)weight;
	return NULL;
}

/* A whole number, a decimal one, or else text. */
static const char *read_definition(const char *value)
{
	struct harness_variable *v = &given.variables[given.variable_count];
	const char *equals = strchr(value, '=');
	char *end;

	if (given.variable_count == VARIABLES_MAX)
		return "there can be 32 definitions at most";
	if (equals == NULL || equals == value)
		return "must be NAME=VALUE";
	v->name = strndup(value, (size_t)(equals - value));
	v->value = (struct harness_value){ .type = HARNESS_TEXT, .text = equals + 1 };
	if (read_number(equals + 1, INT64_MIN, INT64_MAX, &v->value.integer) == NULL) {
		v->value.type = HARNESS_INTEGER;
	} else {
		v->value.real = strtod(equals + 1, &end);
		if (end != equals + 1 && *end == '\0')
			v->value.type = HARNESS_REAL;
	}
	given.variable_count++;
	return NULL;
}

static const char *read_mix(const char *value)
{
	static const char wrong[] = "must be letters of a,b,c,f and ledger, with commas";
	char copy[sizeof given.mix], *rest = copy, *word;

	if (strlen(value) >= sizeof copy)
		return wrong;
	strcpy(copy, value);
	while ((word = strsep(&rest, ",")) != NULL)
		if (strcmp(word, "ledger") != 0 &&
		    (strlen(word) != 1 || strchr("abcf", *word) == NULL))
			return wrong;
	strcpy(given.mix, value);
	return NULL;
}

static const char *option(int key, const char *value)
{
	switch (key) {
	case KEY_DB:
		given.db = value;
		return NULL;
	case KEY_SCRIPT:
		return read_script(value);
	case 'D':
		return read_definition(value);
	case KEY_MIX:
		return read_mix(value);
	default:
		return read_number(value, 1, RECORDS_MAX, &given.records) != NULL
		               ? "must be 1..100000000"
		               : NULL;
	}
}

static const char *complete(void)
{
	return given.db != NULL && given.script_count == 0
	               ? "--db: say what to do with the database, by --script FILE"
	               : NULL;
}

/* --- The database ------------------------------------------------------------------------ */

static sqlite3 *open_own(struct harness_run *run, const char *path, int flags)
{
	sqlite3 *db;

	if (sqlite3_open_v2(path, &db, flags, NULL) != SQLITE_OK)
		harness_cannot(run, "%s: %s", path, sqlite3_errmsg(db));
	return db;
}

static void create(struct harness_run *run, const char *path)
{
	sqlite3 *db = open_own(run, path, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE);

	if (sqlite3_exec(db, "BEGIN", NULL, NULL, NULL) != SQLITE_OK ||
	    !ycsb_create(db, given.records) || !ledger_create(db) ||
	    sqlite3_exec(db, "COMMIT", NULL, NULL, NULL) != SQLITE_OK)
		harness_cannot(run, "%s: cannot make the built-in database: %s; is the disk full?",
		               path, sqlite3_errmsg(db));
	sqlite3_close(db);
}

static void check_end(struct harness_run *run, const char *path)
{
	sqlite3 *db = open_own(run, path, SQLITE_OPEN_READWRITE);
	sqlite3_stmt *stmt = NULL;

	if (sqlite3_prepare_v2(db, "PRAGMA integrity_check(1)", -1, &stmt, NULL) != SQLITE_OK ||
	    sqlite3_step(stmt) != SQLITE_ROW)
		harness_fail(run, "%s cannot be checked: %s", path, sqlite3_errmsg(db));
	else if (strcmp((const char *)sqlite3_column_text(stmt, 0), "ok") != 0)
		harness_fail(run, "%s is damaged: %s", path, sqlite3_column_text(stmt, 0));
	sqlite3_finalize(stmt);
	if (given.db == NULL) {
		int64_t sum = ledger_sum(db);

		harness_number(run, "ledger.sum_count", (double)sum);
		if (sum != LEDGER_SUM)
			harness_fail(run, "the ledger adds up to %lld in place of %d at the end",
			             (long long)sum, LEDGER_SUM);
	}
	sqlite3_close(db);
}

/* --- The load ---------------------------------------------------------------------------- */

static bool phase(struct harness_run *run, const char *name, unsigned of,
                  const struct harness_operation *operations, unsigned count)
{
	const struct harness_options *o = harness_run_options(run);
	uint64_t each = o->operations_per_thread / of;

	return harness_load_run(
		run, &(struct harness_load){
			     .phase = name,
			     .threads = o->threads,
			     .seconds = o->seconds / of,
			     .operations_per_thread =
				     o->operations_per_thread > 0 && each == 0 ? 1 : each,
			     .rate_per_s = o->rate_per_s,
			     .poisson = o->poisson,
			     .operations = operations,
			     .operation_count = count,
		     });
}

static void run_built_in(struct harness_run *run, const struct ycsb *ycsb)
{
	struct harness_operation operations[OPERATIONS_MAX];
	char copy[sizeof given.mix], *rest = strcpy(copy, given.mix), *word;
	unsigned phases = 1;
	bool going = true;

	for (const char *c = given.mix; *c != '\0'; c++)
		phases += *c == ',';
	while (going && (word = strsep(&rest, ",")) != NULL) {
		unsigned count = YCSB_OPERATIONS;

		if (!ycsb_mix(ycsb, *word, operations)) {
			count = LEDGER_OPERATIONS;
			ledger_operations(operations);
		}
		going = phase(run, word, phases, operations, count);
	}
}

static void run_scripts(struct harness_run *run, struct harness_script *const *scripts)
{
	struct harness_operation operations[SCRIPTS_MAX];

	for (unsigned i = 0; i < given.script_count; i++)
		operations[i] = (struct harness_operation){ harness_script_name(scripts[i]),
			                                    given.scripts[i].weight,
			                                    harness_script_run, scripts[i] };
	phase(run, "scripts", 1, operations, given.script_count);
}

static void load_scripts(struct harness_run *run, sqlite3 *db, struct ycsb *ycsb,
                         struct harness_script **scripts)
{
	char text[TEXT_MAX];

	if (given.script_count == 0 && !ycsb_load(ycsb, db, given.records, text, sizeof text))
		harness_cannot(run, "%s", text);
	for (unsigned i = 0; i < given.script_count; i++) {
		scripts[i] = harness_script_load(given.scripts[i].path, db, given.variables,
		                                 given.variable_count, text, sizeof text);
		if (scripts[i] == NULL)
			harness_cannot(run, "%s", text);
	}
}

static void body(struct harness_run *run)
{
	struct harness_script *scripts[SCRIPTS_MAX] = { NULL };
	struct ycsb ycsb = { { NULL } };
	char path[4096];
	sqlite3 *db;

	if (given.db != NULL) {
		harness_copy_database(run, given.db, path, sizeof path);
	} else {
		snprintf(path, sizeof path, "%s/built-in.db", harness_run_work(run));
		create(run, path);
	}
	db = open_own(run, path, SQLITE_OPEN_READWRITE);
	load_scripts(run, db, &ycsb, scripts);
	sqlite3_close(db);

	if (harness_target_open(run, path)) {
		if (given.script_count > 0)
			run_scripts(run, scripts);
		else
			run_built_in(run, &ycsb);
		if (harness_target_close(run))
			check_end(run, path);
	}
	ycsb_free(&ycsb);
	for (unsigned i = 0; i < given.script_count; i++)
		harness_script_free(scripts[i]);
}

static const struct harness_scenario scenario = {
	.name = "concurrent_load",
	.question =
		"Does everybody get through, how long do they wait, and is all as it was after?",
	.load = "YCSB's mixes A, B, C, F and a ledger; or --db FILE with --script FILE",
	.passes = "no operation fails, the ledger adds up, the file is sound, nothing is left",
	.options = options,
	.option = option,
	.complete = complete,
	.errors_fail = true,
	.body = body,
};

int main(int argc, char **argv)
{
	return harness_main(&scenario, targets_all, argc, argv);
}
