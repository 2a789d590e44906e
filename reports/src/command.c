/* poolproof's subcommands, and what they share; see command.h. */
/* SPDX-License-Identifier: MIT */
#include "command.h"

#include <argp.h>
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

const char *const report_variants[] = { "release", "instrumented", "coverage",
	                                "asan",    "tsan",         "valgrind" };

static const struct {
	const char *name, *about;
	int (*run)(int argc, char **argv, const char *folder);
} commands[] = {
	{ "list", "the scenarios that are built, and what each asks", report_list_main },
	{ "run", "run a scenario, in any variant, under memcheck or helgrind", report_run_main },
	{ "gate", "judge runs by the gate file; the exit code is the verdict", report_gate_main },
	{ "report", "write index.html, report.json and junit.xml of runs", report_report_main },
	{ "pack-coverage", "make a run directory of gcovr's JSON", report_pack_main },
	{ "bench-page", "make a page of what \"make bench\" measured", report_bench_main },
};

enum { COMMANDS = sizeof commands / sizeof *commands };

static void usage(FILE *out)
{
	fputs("Usage: poolproof COMMAND [OPTION...]\n"
	      "Runs Poolproof's scenarios, judges what they left behind, and shows it.\n\n",
	      out);
	for (int i = 0; i < COMMANDS; i++)
		fprintf(out, "  %-14s %s\n", commands[i].name, commands[i].about);
	fputs("\n\"poolproof COMMAND --help\" tells more; so does poolproof(1).\n"
	      "Exit codes: 0 PASS, 1 FAIL, 2 bad usage or gate file, 3 UNTRUSTWORTHY,\n"
	      "4 could not run.\n",
	      out);
}

int report_complain(int code, const char *format, ...)
{
	struct report_arena arena = { 0 };
	char *text = NULL;
	va_list args;

	va_start(args, format);
	if (vasprintf(&text, format, args) >= 0) /* A file's name may hold anything. */
		fprintf(stderr, "poolproof: %s\n", report_clean(&arena, text));
	va_end(args);
	free(text);
	report_arena_done(&arena);
	return code;
}

/* What nobody could read is not done. At exit, because argp's --help ends the program itself. */
static void close_output(void)
{
	if (fflush(stdout) == 0 && !ferror(stdout))
		return;
	report_complain(0, "standard output cannot be written: %s", strerror(errno));
	_exit(REPORT_CANNOT);
}

static int unknown_command(const char *name)
{
	struct report_arena arena = { 0 };
	const char *names[COMMANDS];

	for (int i = 0; i < COMMANDS; i++)
		names[i] = commands[i].name;
	report_complain(0, "unknown command \"%s\"%s; \"poolproof --help\" lists them", name,
	                report_hint(&arena, name, names, COMMANDS));
	report_arena_done(&arena);
	return REPORT_USAGE;
}

int report_command(int argc, char **argv, const char *folder)
{
	char title[64];

	atexit(close_output);
	argp_err_exit_status = REPORT_USAGE;
	if (argc < 2) {
		usage(stderr);
		return REPORT_USAGE;
	}
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "help") == 0) {
		usage(stdout);
		return REPORT_PASS;
	}
	if (strcmp(argv[1], "--version") == 0) {
		printf("poolproof %s (%s)\n", PP_VERSION, PP_VARIANT);
		return REPORT_PASS;
	}
	for (int i = 0; i < COMMANDS; i++) {
		if (strcmp(argv[1], commands[i].name) != 0)
			continue;
		snprintf(title, sizeof title, "poolproof %s", commands[i].name);
		argv[1] = title;
		return commands[i].run(argc - 1, argv + 1, folder);
	}
	return unknown_command(argv[1]);
}

const char *report_build_folder(struct report_arena *arena, const char *folder)
{
	for (int i = 0; i < REPORT_VARIANTS; i++) {
		if (strcmp(report_basename(folder), report_variants[i]) == 0)
			return report_copy(arena, folder,
			                   (size_t)(report_basename(folder) - folder) - 1);
	}
	return ".";
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Programs only: the folder holds objects and dependency files too. */
static size_t add_scenarios(struct report_arena *arena, const char *folder, const char ***names,
                            size_t count)
{
	const char **found;
	size_t found_count = report_list(arena, folder, &found);

	for (size_t i = 0; i < found_count; i++) {
		const char *path = report_print(arena, "%s/%s", folder, found[i]);
		bool have = strchr(found[i], '.') != NULL || access(path, X_OK) != 0 ||
		            report_is_folder(path);

		for (size_t k = 0; k < count && !have; k++)
			have = strcmp((*names)[k], found[i]) == 0;
		if (have)
			continue;
		*names = report_grow(arena, *names, count, sizeof **names);
		(*names)[count++] = found[i];
	}
	return count;
}

size_t report_scenarios(struct report_arena *arena, const char *folder, const char ***ret_names)
{
	const char **names = NULL;
	size_t count;

	count = add_scenarios(arena, report_print(arena, "%s/scenarios", folder), &names, 0);
	for (int i = 0; i < REPORT_VARIANTS; i++)
		count = add_scenarios(arena,
		                      report_print(arena, "%s/%s/scenarios",
		                                   report_build_folder(arena, folder),
		                                   report_variants[i]),
		                      &names, count);
	if (count > 0)
		qsort(names, count, sizeof *names, by_name);
	*ret_names = names;
	return count;
}

const char *report_time(struct report_arena *arena, const char *format)
{
	const char *epoch = getenv("SOURCE_DATE_EPOCH");
	char *end = NULL, *text = report_alloc(arena, 64);
	time_t now = time(NULL);
	struct tm parts;

	if (epoch != NULL && *epoch != '\0') {
		long long value = strtoll(epoch, &end, 10);

		if (*end == '\0' && value >= 0)
			now = (time_t)value;
	}
	if (gmtime_r(&now, &parts) != NULL)
		strftime(text, 64, format, &parts);
	return text;
}

static int read_runs(struct report_session *s, const char *const *paths, size_t count,
                     struct report_run **ret_runs, size_t *ret_count)
{
	const char *error;

	*ret_runs = report_alloc(&s->arena, (count + 1) * sizeof **ret_runs);
	for (size_t i = 0; i < count; i++) {
		if (!report_run_read(&s->arena, paths[i], &(*ret_runs)[i], &error))
			return report_complain(REPORT_USAGE, "%s", error);
		*ret_count = i + 1;
	}
	return REPORT_PASS;
}

static int find_runs(struct report_session *s, const struct report_request *request)
{
	const char *runs =
		report_print(&s->arena, "%s/runs", report_build_folder(&s->arena, request->folder));
	const char **paths = request->runs, *error;
	size_t count = request->run_count;

	if (count == 0 && !report_runs_newest(&s->arena, runs, &paths, &count, &error))
		return report_complain(REPORT_USAGE, "%s", error);
	if (count == 0)
		return report_complain(REPORT_USAGE,
		                       "%s: no runs there; name some, or make one by "
		                       "\"poolproof run SCENARIO\"",
		                       runs);
	return read_runs(s, paths, count, &s->inputs.runs, &s->inputs.run_count);
}

/* ci/gates.conf here, or in the source tree that the build is in; NULL: neither is there. */
static const char *default_gates(struct report_session *s, const char *folder)
{
	const char *name = "ci/gates.conf";
	char real[PATH_MAX];

	if (access(name, F_OK) == 0)
		return name;
	if (realpath(report_print(&s->arena, "%s/../../%s", folder, name), real) == NULL)
		return NULL;
	return report_copy(&s->arena, real, strlen(real));
}

static int read_record(struct report_session *s)
{
	const char *error;

	if (access(s->ratchet_path, F_OK) != 0)
		return REPORT_PASS;
	s->inputs.ratchet = report_read_json(&s->arena, s->ratchet_path, 0, &error);
	if (s->inputs.ratchet == NULL)
		return report_complain(REPORT_USAGE, "%s", error);
	if (!json_is_object(s->inputs.ratchet))
		return report_complain(REPORT_USAGE, "%s: not an object", s->ratchet_path);
	return REPORT_PASS;
}

static int read_gates(struct report_session *s, const struct report_request *request)
{
	const char *path = request->gates, *error;
	struct report_gates *gates = &s->inputs.gates;
	size_t folder;

	if (path == NULL && request->expression_count == 0) {
		path = default_gates(s, request->folder);
		if (path == NULL && request->need_gates)
			path = "ci/gates.conf"; /* Which will be said not to be there. */
	}
	if (path != NULL && !report_gates_read(&s->arena, path, gates, &error))
		return report_complain(REPORT_USAGE, "%s%s%s", *path == '\0' ? "--gates ''" : "",
		                       error,
		                       access(path, R_OK) != 0 || report_is_folder(path)
		                               ? "; name a gate file by --gates FILE"
		                               : "");
	for (size_t i = 0; i < request->expression_count; i++) {
		if (!report_gates_add(&s->arena, request->expressions[i], gates, &error))
			return report_complain(REPORT_USAGE, "%s", error);
	}
	if (path == NULL)
		return REPORT_PASS;
	if (gates->count == 0 && !request->names)
		return report_complain(REPORT_USAGE,
		                       "%s: no gate in it; write one, such as \"fail errors == "
		                       "0\" below \"[concurrent_load]\"",
		                       path);
	folder = (size_t)(report_basename(path) - path);
	s->ratchet_path = report_print(&s->arena, "%.*sratchet.json", (int)folder, path);
	for (size_t i = 0; i < s->inputs.run_count; i++)
		report_leaks_mark_known(
			&s->arena, &s->inputs.runs[i].leaks,
			report_print(&s->arena, "%.*sleaks.known", (int)folder, path));
	return read_record(s);
}

int report_session_open(struct report_session *session, const struct report_request *request)
{
	const char **scenarios;
	int code = find_runs(session, request);

	session->inputs.strict = request->strict;
	session->inputs.scenario_count =
		report_scenarios(&session->arena, request->folder, &scenarios);
	session->inputs.scenarios = scenarios;
	if (code == REPORT_PASS)
		code = read_runs(session, request->baselines, request->baseline_count,
		                 &session->baselines, &session->inputs.baseline_count);
	session->inputs.baselines = session->baselines;
	if (code == REPORT_PASS)
		code = read_gates(session, request);
	return code;
}

void report_session_close(struct report_session *session)
{
	for (size_t i = 0; i < session->inputs.run_count; i++)
		report_run_done(&session->inputs.runs[i]);
	for (size_t i = 0; i < session->inputs.baseline_count; i++)
		report_run_done(&session->baselines[i]);
	json_decref(session->inputs.ratchet);
	report_arena_done(&session->arena);
}

const char *report_repeat(struct report_arena *arena, const struct report_run *run)
{
	const char *said = report_run_text(run, "repeat"), *text = "";
	size_t index;
	json_t *part;

	if (*said != '\0')
		return said;
	json_array_foreach(json_object_get(run->json, "command"), index, part)
	{
		const char *word = json_string_value(part);

		text = report_print(arena, "%s%s%s", text, index == 0 ? "" : " ",
		                    word == NULL ? "" : word);
	}
	return text;
}
