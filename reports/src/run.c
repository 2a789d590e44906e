/* Reads a run directory; see run.h. */
/* SPDX-License-Identifier: MIT */
#include "run.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const char *const report_verdicts[] = { "PASS", "SKIP", "WARN", "UNTRUSTWORTHY", "FAIL" };

const char *report_run_text(const struct report_run *run, const char *key)
{
	const char *text = json_string_value(json_object_get(run->json, key));

	return text == NULL ? "" : text;
}

bool report_run_number(const struct report_run *run, const char *name, double *ret_value)
{
	const json_t *number = json_object_get(run->numbers, name);

	if (!json_is_number(number))
		return false;
	*ret_value = json_number_value(number);
	return true;
}

static bool read_verdict(struct report_run *run)
{
	const char *result =
		json_string_value(json_object_get(json_object_get(run->json, "verdict"), "result"));

	for (int v = REPORT_IS_PASS; v <= REPORT_IS_FAIL; v++) {
		if (result != NULL && v != REPORT_IS_WARN &&
		    strcmp(result, report_verdicts[v]) == 0) {
			run->verdict = (enum report_verdict)v;
			return true;
		}
	}
	return false;
}

static bool read_json(struct report_arena *arena, struct report_run *run, const char **reterr_text)
{
	const char *path = report_print(arena, "%s/run.json", run->path);

	if (access(path, F_OK) != 0) {
		*reterr_text = report_print(arena, "%s: not a run: it has no run.json", run->path);
		return false;
	}
	run->json = report_read_json(arena, path, JSON_REJECT_DUPLICATES, reterr_text);
	if (run->json == NULL)
		return false;
	run->numbers = json_object_get(run->json, "numbers");
	run->scenario = report_run_text(run, "scenario");
	run->variant = report_run_text(run, "variant");
	run->target = report_run_text(run, "target");
	run->under = report_run_text(run, "under");
	if (*run->under == '\0')
		run->under = "none";
	if (json_integer_value(json_object_get(run->json, "format")) != 1)
		*reterr_text = report_print(
			arena, "%s: \"format\" is not 1; this poolproof knows 1", path);
	else if (*run->scenario == '\0' || *run->variant == '\0' || !json_is_object(run->numbers))
		*reterr_text = report_print(
			arena, "%s: \"scenario\", \"variant\" or \"numbers\" is missing", path);
	else if (!read_verdict(run))
		*reterr_text = report_print(arena, "%s: \"verdict\" has no known \"result\"", path);
	else
		return true;
	return false;
}

/* One line of memory.csv into the table's next row. */
static bool read_row(struct report_table *table, char *line, double *cells)
{
	for (size_t i = 0; i < table->columns; i++) {
		char *end;

		cells[i] = strtod(line, &end);
		if (end == line || !isfinite(cells[i]) ||
		    *end != (i + 1 < table->columns ? ',' : '\0'))
			return false;
		line = end + 1;
	}
	return true;
}

static bool read_memory(struct report_arena *arena, const char *path, struct report_table *table,
                        const char **reterr_text)
{
	char *text, *line, *rest, *word;
	size_t size, lines = 0;

	if (!report_read(arena, path, &text, &size, reterr_text))
		return false;
	for (const char *at = text; *at != '\0'; at++)
		lines += *at == '\n';
	line = strtok_r(text, "\r\n", &rest);
	for (char *head = line; head != NULL && (word = strsep(&head, ",")) != NULL;) {
		table->names =
			report_grow(arena, table->names, table->columns, sizeof *table->names);
		table->names[table->columns++] = word;
	}
	table->cells = report_alloc(arena, (lines + 1) * (table->columns + 1) * sizeof(double));
	while ((line = strtok_r(NULL, "\r\n", &rest)) != NULL) {
		if (!read_row(table, line, table->cells + table->rows * table->columns)) {
			*reterr_text = report_print(arena, "%s:%zu: not a row of %zu numbers", path,
			                            table->rows + 2, table->columns);
			return false;
		}
		table->rows++;
	}
	return true;
}

/* Tags and values that the log has of what run.json counts: one cut at a line's end, or written
 * by a run that lost a thread, looks whole. */
static void check_count(struct report_arena *arena, struct report_run *run, const char *tag,
                        double said)
{
	const struct report_histogram *h = report_hlog_find(&run->log, tag);
	double held = h == NULL ? 0 : (double)h->count;

	if (held != said)
		run->damage = report_print(
			arena, "latency.hlog holds %s values of %s, run.json says %s",
			report_digits(arena, held, 0), tag, report_digits(arena, said, 0));
}

static void check_log(struct report_arena *arena, struct report_run *run)
{
	double operations = 0, counted = 0;
	const char *key;
	json_t *value;

	json_object_foreach(run->numbers, key, value)
	{
		size_t size = strlen(key);

		if (!report_glob("?*.count", key) || !json_is_number(value))
			continue;
		counted += json_number_value(value);
		if (run->has_log)
			check_count(arena, run, report_copy(arena, key, size - 6),
			            json_number_value(value));
	}
	report_run_number(run, "operations_count", &operations);
	if (operations + counted > 0 && run->log.tag_count == 0)
		run->damage = report_print(
			arena, "latency.hlog is %s, but run.json counts %s values",
			run->has_log ? "empty" : "missing",
			report_digits(arena, operations > 0 ? operations : counted, 0));
}

static void read_files(struct report_arena *arena, struct report_run *run)
{
	const char *log = report_print(arena, "%s/latency.hlog", run->path);
	const char *memory = report_print(arena, "%s/memory.csv", run->path);
	const char *coverage = report_print(arena, "%s/coverage.json", run->path);
	const char *leaks = report_print(arena, "%s/leaks", run->path);

	if (access(log, F_OK) == 0)
		run->has_log = report_hlog_read(arena, log, &run->log, &run->damage);
	if (run->damage == NULL)
		check_log(arena, run);
	if (access(memory, F_OK) == 0)
		run->has_memory = read_memory(arena, memory, &run->memory, &run->damage);
	if (access(coverage, F_OK) == 0)
		run->has_coverage =
			report_coverage_read(arena, coverage, &run->coverage, &run->damage);
	report_leaks_read(arena, leaks, &run->leaks);
	run->has_leaks = run->leaks.files > 0;
}

bool report_run_read(struct report_arena *arena, const char *path, struct report_run *ret_run,
                     const char **reterr_text)
{
	struct report_run run = { 0 };
	size_t size = strlen(path);
	bool same;

	while (size > 1 && path[size - 1] == '/')
		size--;
	run.path = report_copy(arena, path, size);
	run.name = report_basename(run.path);
	if (!read_json(arena, &run, reterr_text)) {
		report_run_done(&run);
		return false;
	}
	same = strcmp(run.scenario, run.variant) == 0; /* "coverage" is said once. */
	run.title = report_print(arena, "%s%s%s%s%s%s%s", run.scenario, same ? "" : ", ",
	                         same ? "" : run.variant, *run.target ? ", " : "", run.target,
	                         strcmp(run.under, "none") != 0 ? ", under " : "",
	                         strcmp(run.under, "none") != 0 ? run.under : "");
	read_files(arena, &run);
	*ret_run = run;
	return true;
}

void report_run_done(struct report_run *run)
{
	json_decref(run->json);
	run->json = NULL;
}

int report_table_column(const struct report_table *table, const char *name)
{
	for (size_t i = 0; i < table->columns; i++) {
		if (strcmp(table->names[i], name) == 0)
			return (int)i;
	}
	return -1;
}

struct candidate {
	const char *path, *key, *started;
};

static int by_key_and_time(const void *a, const void *b)
{
	const struct candidate *x = a, *y = b;
	int order = strcmp(x->key, y->key);

	if (order == 0)
		order = strcmp(y->started, x->started);
	return order != 0 ? order : strcmp(y->path, x->path);
}

bool report_runs_newest(struct report_arena *arena, const char *folder, const char ***ret_paths,
                        size_t *ret_count, const char **reterr_text)
{
	const char **names, **paths = NULL;
	size_t count = report_list(arena, folder, &names), found = 0, kept = 0;
	struct candidate *candidates = report_alloc(arena, (count + 1) * sizeof *candidates);

	for (size_t i = 0; i < count; i++) {
		struct report_run run = { .path = report_print(arena, "%s/%s", folder, names[i]) };
		const char *file = report_print(arena, "%s/run.json", run.path), *started;

		if (access(file, F_OK) != 0) /* Not a run, or one that is still going on. */
			continue;
		if (!read_json(arena, &run, reterr_text)) {
			report_run_done(&run);
			return false;
		}
		started = report_run_text(&run, "started");
		candidates[found++] = (struct candidate){
			.path = run.path,
			.key = report_print(arena, "%s\n%s\n%s\n%s", run.scenario, run.variant,
			                    run.target, run.under),
			.started = report_copy(arena, started, strlen(started)),
		};
		report_run_done(&run);
	}
	qsort(candidates, found, sizeof *candidates, by_key_and_time);
	paths = report_alloc(arena, (found + 1) * sizeof *paths);
	for (size_t i = 0; i < found; i++) {
		if (i == 0 || strcmp(candidates[i].key, candidates[i - 1].key) != 0)
			paths[kept++] = candidates[i].path;
	}
	*ret_paths = paths;
	*ret_count = kept;
	return true;
}
