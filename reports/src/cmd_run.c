/*
 * poolproof list, poolproof run. A scenario is a program beside this one; running it is execing
 * it, so its exit code, its terminal and its signals are its own.
 */
/* SPDX-License-Identifier: MIT */
#include "command.h"

#include <argp.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Runs PROGRAM --describe; NULL when it does not answer with JSON. */
static json_t *describe(const char *path)
{
	int ends[2], status;
	json_t *answer;
	FILE *in;
	pid_t child;

	if (pipe(ends) != 0)
		return NULL;
	child = fork();
	if (child == 0) {
		dup2(ends[1], STDOUT_FILENO);
		close(ends[0]);
		close(ends[1]);
		execl(path, path, "--describe", (char *)NULL);
		_exit(127);
	}
	close(ends[1]);
	in = fdopen(ends[0], "r");
	answer = json_loadf(in, 0, NULL);
	fclose(in);
	if (child < 0 || waitpid(child, &status, 0) != child || status != 0) {
		json_decref(answer);
		return NULL;
	}
	return answer;
}

static const char *text_of(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));

	return text == NULL ? "" : text;
}

static void print_line(const char *word, const char *text)
{
	report_fill(stdout, printf("  %-9s ", word), 12, text);
}

static void print_scenario(struct report_arena *arena, const json_t *about)
{
	const char *line[][2] = { { "question", "Question" },
		                  { "load", "Load" },
		                  { "passes", "Passes" } };
	const char *targets = "";
	json_t *target;
	size_t index;

	printf("%s\n", text_of(about, "name"));
	for (int i = 0; i < 3; i++)
		print_line(line[i][1], text_of(about, line[i][0]));
	json_array_foreach(json_object_get(about, "targets"), index, target) targets = report_print(
		arena, "%s%s%s", targets, index == 0 ? "" : ", ",
		json_is_string(target) ? json_string_value(target) : text_of(target, "name"));
	print_line("Targets", targets);
}

static error_t list_option(int key, char *value, struct argp_state *state)
{
	switch (key) {
	case 'j':
		*(bool *)state->input = true;
		return 0;
	case ARGP_KEY_ARG:
		argp_error(state, "\"%s\": list takes no arguments", value);
		return 0;
	}
	return ARGP_ERR_UNKNOWN;
}

int report_list_main(int argc, char **argv, const char *folder)
{
	static const struct argp_option options[] = { { "json", 'j', 0, 0, "As JSON", 0 }, { 0 } };
	static const struct argp argp = { .options = options,
		                          .parser = list_option,
		                          .doc = "Lists the scenarios that are built: what each "
		                                 "asks, its load, when it passes." };
	struct report_arena arena = { 0 };
	const char **names, *own = report_print(&arena, "%s/scenarios", folder);
	json_t *all = json_array();
	bool as_json = false;
	int code = REPORT_PASS;
	size_t count;

	if (argp_parse(&argp, argc, argv, 0, NULL, &as_json) != 0)
		return REPORT_USAGE;
	count = report_list(&arena, own, &names);
	for (size_t i = 0; i < count; i++) {
		const char *path = report_print(&arena, "%s/%s", own, names[i]);
		json_t *about;

		if (strchr(names[i], '.') != NULL || access(path, X_OK) != 0 ||
		    report_is_folder(path))
			continue;
		about = describe(path);
		if (!json_is_object(about))
			code = report_complain(REPORT_CANNOT, "%s: does not answer --describe",
			                       path);
		else
			json_array_append(all, about);
		json_decref(about);
	}
	if (json_array_size(all) == 0 && code == REPORT_PASS)
		code = report_complain(REPORT_CANNOT, "%s: no scenario is built; run: make all",
		                       own);
	for (size_t i = 0; i < json_array_size(all) && !as_json; i++)
		print_scenario(&arena, json_array_get(all, i));
	if (as_json) {
		json_dumpf(all, stdout, JSON_INDENT(2));
		printf("\n");
	}
	json_decref(all);
	report_arena_done(&arena);
	return code;
}

struct run_request {
	struct report_arena *arena;
	const char *folder, *scenario, *variant, *under;
	char **rest; /* The scenario's own options. */
	int rest_count;
};

static const char run_help[] =
	"Usage: poolproof run SCENARIO [--variant V] [--under TOOL] [SCENARIO OPTION...]\n"
	"Runs a scenario; its exit code is the verdict.\n\n"
	"  --variant V    the build: release, instrumented, coverage, asan, tsan,\n"
	"                 valgrind; default: the one this command was built in\n"
	"  --under TOOL   none, memcheck or helgrind; the tools need the variant\n"
	"                 valgrind and choose it\n\n"
	"Everything else goes to the scenario: \"poolproof run SCENARIO --help\" lists it,\n"
	"\"poolproof list\" lists the scenarios.\n";

/* --NAME VALUE or --NAME=VALUE at argv[*at]; moves *at to the value. */
static const char *option_value(char **argv, int argc, int *at, const char *name)
{
	size_t size = strlen(name);

	if (strncmp(argv[*at], name, size) != 0)
		return NULL;
	if (argv[*at][size] == '=')
		return argv[*at] + size + 1;
	if (argv[*at][size] != '\0')
		return NULL;
	return *at + 1 < argc ? argv[++*at] : "";
}

static void split(struct run_request *r, int argc, char **argv)
{
	bool ours = true;

	for (int i = 1; i < argc; i++) {
		const char *value = NULL;

		if (ours && strcmp(argv[i], "--") == 0)
			ours = false;
		else if (ours && (value = option_value(argv, argc, &i, "--variant")) != NULL)
			r->variant = value;
		else if (ours && (value = option_value(argv, argc, &i, "--under")) != NULL)
			r->under = value;
		else if (r->scenario == NULL)
			r->scenario = argv[i];
		else
			r->rest[r->rest_count++] = argv[i];
	}
}

static int check_words(struct run_request *r)
{
	static const char *const tools[] = { "none", "memcheck", "helgrind" };
	bool known = r->variant == NULL, tool = false;

	for (int i = 0; i < REPORT_VARIANTS; i++)
		known |= r->variant != NULL && strcmp(r->variant, report_variants[i]) == 0;
	for (int i = 0; i < 3; i++)
		tool |= strcmp(r->under, tools[i]) == 0;
	if (!known)
		return report_complain(
			REPORT_USAGE,
			"--variant %s: unknown%s; known: release, instrumented, "
			"coverage, asan, tsan, valgrind",
			r->variant,
			report_hint(r->arena, r->variant, report_variants, REPORT_VARIANTS));
	if (!tool)
		return report_complain(REPORT_USAGE,
		                       "--under %s: unknown%s; known: none, memcheck, helgrind",
		                       r->under, report_hint(r->arena, r->under, tools, 3));
	if (strcmp(r->under, "none") == 0)
		return REPORT_PASS;
	if (r->variant != NULL && strcmp(r->variant, "valgrind") != 0)
		return report_complain(
			REPORT_USAGE,
			"--under %s needs the variant valgrind, not %s: an allocator "
			"or sanitizer of its own hides what %s looks for",
			r->under, r->variant, r->under);
	r->variant = "valgrind";
	return REPORT_PASS;
}

/* The scenario's program, or NULL after a complaint. */
static const char *find_program(struct run_request *r, int *ret_code)
{
	const char **names, *list = "", *path;
	size_t count = report_scenarios(r->arena, r->folder, &names);
	bool known = false;

	path = report_print(r->arena, "%s/scenarios/%s", r->folder, r->scenario);
	if (r->variant != NULL)
		path = report_print(r->arena, "%s/%s/scenarios/%s",
		                    report_build_folder(r->arena, r->folder), r->variant,
		                    r->scenario);
	for (size_t i = 0; i < count; i++) {
		known |= strcmp(names[i], r->scenario) == 0;
		list = report_print(r->arena, "%s%s%s", list, i == 0 ? "" : ", ", names[i]);
	}
	if (known && access(path, X_OK) == 0)
		return path;
	if (known || count == 0)
		*ret_code =
			report_complain(REPORT_CANNOT, "%s is not built; run: make all VARIANT=%s",
		                        r->scenario, r->variant == NULL ? PP_VARIANT : r->variant);
	else
		*ret_code = report_complain(REPORT_USAGE, "unknown scenario \"%s\"%s; known: %s",
		                            r->scenario,
		                            report_hint(r->arena, r->scenario, names, count), list);
	return NULL;
}

static const char *rest_value(struct run_request *r, const char *name)
{
	const char *value = NULL;

	for (int i = 0; i < r->rest_count; i++) {
		const char *found = option_value(r->rest, r->rest_count, &i, name);

		value = found == NULL ? value : found;
	}
	return value;
}

static bool on_path(struct report_arena *arena, const char *program)
{
	const char *path = getenv("PATH");
	char *copy = report_copy(arena, path == NULL ? "" : path, path == NULL ? 0 : strlen(path));
	char *rest;

	for (char *part = strtok_r(copy, ":", &rest); part != NULL;
	     part = strtok_r(NULL, ":", &rest))
		if (access(report_print(arena, "%s/%s", part, program), X_OK) == 0)
			return true;
	return false;
}

static const char *suppressions(struct run_request *r)
{
	const char *beside = report_print(r->arena, "%s/../ci/memcheck.supp",
	                                  report_build_folder(r->arena, r->folder));

	if (access("ci/memcheck.supp", R_OK) == 0)
		return "ci/memcheck.supp";
	return access(beside, R_OK) == 0 ? beside : NULL;
}

/* Valgrind's part of the command line. Never -q: it would drop the counts of suppressed leaks. */
static unsigned valgrind_words(struct run_request *r, const char *leaks, const char **words)
{
	const char *supp = suppressions(r);
	unsigned count = 0;

	words[count++] = "valgrind";
	words[count++] = report_print(r->arena, "--tool=%s", r->under);
	if (strcmp(r->under, "memcheck") == 0) {
		words[count++] = "--leak-check=full";
		words[count++] = "--show-leak-kinds=all";
	}
	words[count++] = "--xml=yes";
	words[count++] = report_print(r->arena, "--xml-file=%s/%s.%%p.xml", leaks, r->under);
	words[count++] = "--child-silent-after-fork=no";
	words[count++] = "--trace-children=yes";
	words[count++] = "--num-callers=24";
	words[count++] = "--fair-sched=try";
	words[count++] = report_print(r->arena, "--log-file=%s/%s.%%p.log", leaks, r->under);
	if (supp != NULL)
		words[count++] = report_print(r->arena, "--suppressions=%s", supp);
	return count;
}

/* Valgrind's files are opened before the scenario starts, so the folder is chosen here. */
static int choose_folder(struct run_request *r, const char **words, unsigned *count)
{
	const char *seed = rest_value(r, "--seed"), *dir = rest_value(r, "--dir"), *error, *leaks;
	struct timespec now;
	struct tm parts;
	char stamp[32];

	if (dir != NULL && *dir == '\0')
		return report_complain(REPORT_USAGE, "--dir: an empty name");
	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &parts);
	strftime(stamp, sizeof stamp, "%Y%m%dT%H%M%S", &parts);
	if (seed == NULL) {
		seed = report_print(r->arena, "%lu",
		                    (unsigned long)(now.tv_sec ^ now.tv_nsec) & 0xffffffff);
		words[(*count)++] = "--seed";
		words[(*count)++] = seed;
	}
	if (dir == NULL) {
		dir = report_print(r->arena, "%s/runs/%s-%s-%s",
		                   report_build_folder(r->arena, r->folder), r->scenario, stamp,
		                   seed);
		words[(*count)++] = "--dir";
		words[(*count)++] = dir;
	}
	leaks = report_print(r->arena, "%s/leaks", dir);
	if (!report_make_folder(r->arena, leaks, &error))
		return report_complain(REPORT_CANNOT, "%s", error);
	words[(*count)++] = leaks; /* For the caller, who takes it off again. */
	return REPORT_PASS;
}

static int execute(struct run_request *r, const char *program)
{
	const char **argv = report_alloc(r->arena, ((size_t)r->rest_count + 32) * sizeof *argv);
	const char *chosen[8];
	unsigned count = 0, chosen_count = 0;

	if (strcmp(r->under, "none") != 0) {
		int code = REPORT_PASS;

		if (!on_path(r->arena, "valgrind"))
			return report_complain(REPORT_CANNOT,
			                       "valgrind is not installed; on Debian: "
			                       "apt-get install valgrind");
		code = choose_folder(r, chosen, &chosen_count);
		if (code != REPORT_PASS)
			return code;
		count = valgrind_words(r, chosen[--chosen_count], argv);
	}
	argv[count++] = program;
	for (unsigned i = 0; i < chosen_count; i++)
		argv[count++] = chosen[i];
	for (int i = 0; i < r->rest_count; i++)
		argv[count++] = r->rest[i];
	fflush(stdout);
	execvp(argv[0], (char **)argv);
	return report_complain(REPORT_CANNOT, "%s: %s", argv[0], strerror(errno));
}

int report_run_main(int argc, char **argv, const char *folder)
{
	struct report_arena arena = { 0 };
	struct run_request r = { .arena = &arena, .folder = folder, .under = "none" };
	const char *program;
	int code;

	if (argc > 1 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-?") == 0)) {
		fputs(run_help, stdout);
		return REPORT_PASS;
	}
	r.rest = report_alloc(&arena, (size_t)argc * sizeof *r.rest);
	split(&r, argc, argv);
	code = check_words(&r);
	if (code == REPORT_PASS && (r.scenario == NULL || *r.scenario == '-'))
		code = report_complain(REPORT_USAGE,
		                       "run needs a SCENARIO first; \"poolproof list\" "
		                       "lists them");
	if (code == REPORT_PASS) {
		program = find_program(&r, &code);
		if (program != NULL)
			code = execute(&r, program);
	}
	report_arena_done(&arena);
	return code;
}
