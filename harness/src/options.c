/*
 * options.c - the command line of every scenario.
 *
 * argp does --help, abbreviations and the scenario's own table. What is wrong is said by us, in
 * one line, since argp would add a second one that helps nobody.
 */
/* SPDX-License-Identifier: MIT */
#include "internal.h"

#include <argp.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum key {
	KEY_SEED = 0x100,
	KEY_THREADS,
	KEY_SECONDS,
	KEY_OPERATIONS,
	KEY_RATE,
	KEY_POISSON,
	KEY_READERS,
	KEY_TIMEOUT,
	KEY_SYNCHRONOUS,
	KEY_JOURNAL,
	KEY_TARGET,
	KEY_DIR,
	KEY_QUIET,
	KEY_JSON,
	KEY_DESCRIBE,
	KEY_LIST_TARGETS,
	KEY_CASE,
	KEY_REPLAY,
};

static const struct argp_option options[] = {
	{ "seed", KEY_SEED, "N", 0, "Repeat what this number did (default: from the clock)", 1 },
	{ "threads", KEY_THREADS, "N", 0, "Load threads, 1..256 (default 8)", 1 },
	{ "seconds", KEY_SECONDS, "S", 0, "How long the load runs (default 10)", 1 },
	{ "operations", KEY_OPERATIONS, "N", 0, "End after N operations a thread instead", 1 },
	{ "rate", KEY_RATE, "N", 0, "Open loop: N operations a second in all", 1 },
	{ "poisson", KEY_POISSON, NULL, 0, "Open loop with random gaps", 1 },
	{ "readers", KEY_READERS, "N", 0, "Read connections, 1..64 (default 4)", 2 },
	{ "timeout-ms", KEY_TIMEOUT, "N", 0, "Patience of a borrower (default 3000)", 2 },
	{ "synchronous", KEY_SYNCHRONOUS, "WORD", 0, "FULL (default) or NORMAL", 2 },
	{ "journal", KEY_JOURNAL, "WORD", 0, "WAL (default) or DELETE", 2 },
	{ "target", KEY_TARGET, "NAME", 0, "What to drive: one of --list-targets, or ./FILE.so",
	  2 },
	{ "case", KEY_CASE, "NAME", 0, "Only the case of that name", 2 },
	{ "replay", KEY_REPLAY, "DIR", 0,
	  "Do again what the run in DIR did, and say whether it did the same", 3 },
	{ "dir", KEY_DIR, "PATH", 0, "The run directory to make", 3 },
	{ "quiet", KEY_QUIET, NULL, 0, "No progress and no summary", 3 },
	{ "json", KEY_JSON, NULL, 0, "Print run.json on standard output", 3 },
	{ "describe", KEY_DESCRIBE, NULL, 0, "Say what this scenario is, as JSON", 3 },
	{ "list-targets", KEY_LIST_TARGETS, NULL, 0, "List the targets", 3 },
	{ 0 },
};

struct reading {
	struct harness_run *run;
	struct parsed *parsed;
	bool failed, timed;
	const char *last; /* The word at which argp gave up. */
};

/* value NULL: the option has none. */
static error_t wrong(struct reading *r, const char *option, const char *value, const char *must)
{
	if (!r->failed)
		fprintf(stderr, "%s: --%s%s%s: %s\n", r->run->scenario->name, option,
		        value != NULL ? " " : "",
		        value == NULL      ? ""
		        : value[0] == '\0' ? "''"
		                           : value,
		        must);
	r->failed = true;
	return EINVAL;
}

static const char *option_name(const struct argp_option *table, int key)
{
	while (table->name != NULL && table->key != key)
		table++;
	return table->name != NULL ? table->name : "?";
}

/* A whole number in its bounds, all of the text. NULL, or what it must be; until the next call. */
static const char *whole_number(const char *value, uint64_t low, uint64_t high, uint64_t *ret_value)
{
	static char must[80];
	unsigned long long number;
	char *end;

	errno = 0;
	number = strtoull(value, &end, 10);
	if (value[0] >= '0' && value[0] <= '9' && *end == '\0' && errno == 0 && number >= low &&
	    number <= high) {
		*ret_value = number;
		return NULL;
	}
	snprintf(must, sizeof must, "must be %llu..%llu", (unsigned long long)low,
	         (unsigned long long)high);
	return must;
}

const char *harness_read_whole(const char *value, unsigned low, unsigned high, unsigned *ret_value)
{
	uint64_t number = *ret_value;
	const char *must = whole_number(value, low, high, &number);

	*ret_value = (unsigned)number;
	return must;
}

static error_t read_whole(struct reading *r, int key, const char *value, uint64_t low,
                          uint64_t high, uint64_t *ret_value)
{
	const char *must = whole_number(value, low, high, ret_value);

	return must == NULL ? 0 : wrong(r, option_name(options, key), value, must);
}

static error_t read_unsigned(struct reading *r, int key, const char *value, unsigned low,
                             unsigned high, unsigned *ret_value)
{
	uint64_t number = *ret_value;
	error_t error = read_whole(r, key, value, low, high, &number);

	*ret_value = (unsigned)number;
	return error;
}

static error_t read_real(struct reading *r, int key, const char *value, double low, double high,
                         double *ret_value)
{
	char must[80], *end;
	double number = strtod(value, &end);

	if (end != value && *end == '\0' && number >= low && number <= high) {
		*ret_value = number;
		return 0;
	}
	snprintf(must, sizeof must, "must be %.10g..%.10g", low, high);
	return wrong(r, option_name(options, key), value, must);
}

static error_t read_choice(struct reading *r, int key, const char *value, const char *first,
                           const char *second, const char **ret_value)
{
	char must[80];

	if (strcasecmp(value, first) == 0)
		*ret_value = first;
	else if (strcasecmp(value, second) == 0)
		*ret_value = second;
	else {
		snprintf(must, sizeof must, "must be %s or %s", first, second);
		return wrong(r, option_name(options, key), value, must);
	}
	return 0;
}

static error_t read_switch(struct reading *r, int key)
{
	switch (key) {
	case KEY_POISSON:
		r->run->options.poisson = true;
		return 0;
	case KEY_QUIET:
		r->run->quiet = true;
		return 0;
	case KEY_JSON:
		r->run->json = true;
		return 0;
	case KEY_DESCRIBE:
		r->parsed->describe = true;
		return 0;
	case KEY_LIST_TARGETS:
		r->parsed->list_targets = true;
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static error_t read_option(int key, char *value, struct argp_state *state)
{
	struct reading *r = state->input;
	struct harness_options *o = &r->run->options;

	switch (key) {
	case ARGP_KEY_INIT:
		state->child_inputs[0] = r;
		return 0;
	case ARGP_KEY_ERROR:
		r->last = state->argv[state->next > 1 ? state->next - 1 : 1];
		return 0;
	case ARGP_KEY_ARG:
		fprintf(stderr, "%s: %s: is no option; --help lists them\n", r->run->scenario->name,
		        value);
		r->failed = true;
		return EINVAL;
	case KEY_SEED:
		r->parsed->seeded = true;
		return read_whole(r, key, value, 0, INT64_MAX, &o->seed);
	case KEY_THREADS:
		return read_unsigned(r, key, value, 1, SHARED_THREADS, &o->threads);
	case KEY_SECONDS:
		r->timed = true;
		return read_real(r, key, value, 0.001, 1e6, &o->seconds);
	case KEY_OPERATIONS:
		return read_whole(r, key, value, 1, 1000000000000, &o->operations_per_thread);
	case KEY_RATE:
		return read_real(r, key, value, 0.001, 1e8, &o->rate_per_s);
	case KEY_READERS:
		return read_unsigned(r, key, value, 1, 64, &o->readers);
	case KEY_TIMEOUT:
		return read_unsigned(r, key, value, 1, 3600000, &o->timeout_ms);
	case KEY_SYNCHRONOUS:
		o->synchronous_asked = true;
		return read_choice(r, key, value, "FULL", "NORMAL", &o->synchronous);
	case KEY_JOURNAL:
		o->journal_asked = true;
		return read_choice(r, key, value, "WAL", "DELETE", &o->journal_mode);
	case KEY_TARGET:
		r->parsed->target_name = value;
		return 0;
	case KEY_CASE:
		r->run->only_case = value;
		return 0;
	case KEY_DIR:
		r->parsed->directory = value;
		return value[0] != '\0' ? 0 : wrong(r, "dir", "", "must be the name of a folder");
	default:
		return read_switch(r, key);
	}
}

static error_t read_own(int key, char *value, struct argp_state *state)
{
	struct reading *r = state->input;
	const struct harness_scenario *s = r->run->scenario;
	const char *must;

	if (s->options == NULL || s->option == NULL ||
	    strcmp(option_name(s->options, key), "?") == 0)
		return ARGP_ERR_UNKNOWN; /* One of argp's own. */
	must = s->option(key, value);
	if (must == NULL)
		return 0;
	return wrong(r, option_name(s->options, key), value, must);
}

static unsigned names_of(const struct argp_option *table, const char **names, unsigned count)
{
	for (; table != NULL && table->name != NULL; table++)
		if (count < 128)
			names[count++] = table->name;
	return count;
}

/* Every --word in argv, before argp sees it: getopt would call an unknown one "unrecognized" and
 * leave it at that. An abbreviation passes. */
static bool names_known(const struct harness_scenario *s, int argc, char **argv)
{
	const char *names[132] = { "help", "usage", "version" };
	unsigned count = names_of(s->options, names, names_of(options, names, 3));

	for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
		const char *word = argv[i] + 2;
		unsigned j = 0;
		char name[64];

		if (strncmp(argv[i], "--", 2) != 0)
			continue;
		size_t length = strcspn(word, "=");
		while (j < count && strncmp(names[j], word, length) != 0)
			j++;
		if (j < count)
			continue;
		snprintf(name, sizeof name, "%.*s", (int)length, word);
		const char *near = closest_word(name, names, count);
		if (near != NULL)
			fprintf(stderr, "%s: --%s: unknown option; did you mean --%s?\n", s->name,
			        name, near);
		else
			fprintf(stderr, "%s: --%s: unknown option; --help lists them\n", s->name,
			        name);
		return false;
	}
	return true;
}

static bool combination_fits(struct reading *r)
{
	struct harness_options *o = &r->run->options;

	if (o->operations_per_thread > 0 && !r->timed)
		o->seconds = 0;
	if (o->poisson && o->rate_per_s == 0)
		wrong(r, "poisson", NULL, "needs --rate");
	if (!r->failed && r->run->scenario->complete != NULL) {
		const char *lacks = r->run->scenario->complete();

		if (lacks != NULL)
			fprintf(stderr, "%s: %s\n", r->run->scenario->name, lacks);
		r->failed = lacks != NULL;
	}
	return !r->failed;
}

/* argp's own help is silent where its errors are, and those would be two lines. */
static bool help_wanted(const struct argp *argp, const char *name, int argc, char **argv)
{
	static const struct {
		const char *option;
		unsigned flags;
	} wanted[] = { { "--help", ARGP_HELP_STD_HELP },
		       { "-?", ARGP_HELP_STD_HELP },
		       { "-h", ARGP_HELP_STD_HELP },
		       { "--usage", ARGP_HELP_USAGE } };

	for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
		for (unsigned w = 0; w < sizeof wanted / sizeof *wanted; w++)
			if (strcmp(argv[i], wanted[w].option) == 0) {
				argp_help(argp, stdout,
				          wanted[w].flags & ~(unsigned)ARGP_HELP_EXIT_OK,
				          (char *)(uintptr_t)name);
				return true;
			}
	return false;
}

static bool version_wanted(int argc, char **argv)
{
	for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
		if (strcmp(argv[i], "--version") == 0 || strcmp(argv[i], "-V") == 0)
			return true;
	return false;
}

int options_read(struct harness_run *run, const struct harness_target *const targets[], int argc,
                 char **argv, struct parsed *ret_parsed)
{
	char doc[3072], version[128], known[TARGETS_LINE];
	struct argp own = { .options = run->scenario->options, .parser = read_own };
	struct argp_child children[] = { { &own, 0, "This scenario's own:", 0 }, { 0 } };
	struct argp argp = {
		.options = options, .parser = read_option, .doc = doc, .children = children
	};
	struct reading r = { run, ret_parsed, false, false, "" };
	char **words = replay_words(run, argc, argv, &argc);

	if (words == NULL)
		return 2;
	argv = words;
	run->argc = argc;
	run->argv = argv;

	targets_line(targets, known);
	snprintf(doc, sizeof doc, "%s\v%s\nPasses %s\nTargets %s", run->scenario->question,
	         run->scenario->load, run->scenario->passes, known);
	snprintf(version, sizeof version, "%s (poolproof) %s", run->scenario->name, PP_VERSION);
	if (version_wanted(argc, argv))
		return puts(version) < 0 || fflush(stdout) != 0 ? 4 : 0;
	if (help_wanted(&argp, run->scenario->name, argc, argv))
		return fflush(stdout) != 0 ? 4 : 0;
	if (!names_known(run->scenario, argc, argv))
		return 2;
	if (argp_parse(&argp, argc, argv, ARGP_NO_ERRS, NULL, &r) != 0 || r.failed) {
		if (!r.failed)
			fprintf(stderr, "%s: %s: lacks its value, or is ambiguous; --help tells\n",
			        run->scenario->name, r.last);
		return 2;
	}
	if (!combination_fits(&r))
		return 2;
	return target_find(run->scenario, targets, ret_parsed->target_name, &run->target);
}

/* What differs in a repetition: where it writes, and how much it says. */
bool options_left_out(const char *argument, bool *ret_takes_value)
{
	static const char *const with_value[] = { "--seed", "--dir", "--replay" };
	static const char *const alone[] = { "--quiet", "--json" };

	*ret_takes_value = false;
	for (unsigned i = 0; i < 2; i++)
		if (strcmp(argument, alone[i]) == 0)
			return true;
	for (unsigned i = 0; i < 3; i++) {
		size_t length = strlen(with_value[i]);

		if (strncmp(argument, with_value[i], length) == 0 &&
		    (argument[length] == '\0' || argument[length] == '=')) {
			*ret_takes_value = argument[length] == '\0';
			return true;
		}
	}
	return false;
}

void options_repeat(const struct harness_run *run, char *ret_line, size_t line_size)
{
	char **argv = run->argv;
	int argc = run->argc;
	const char *under = under_name();
	bool tool = strcmp(under, "none") != 0; /* It chooses its variant. */
	size_t used =
		(size_t)snprintf(ret_line, line_size, "poolproof run %s %s %s --seed %llu",
	                         run->scenario->name, tool ? "--under" : "--variant",
	                         tool ? under : PP_VARIANT, (unsigned long long)run->options.seed);

	for (int i = 1; i < argc && used + 2 < line_size; i++) {
		bool takes_value;

		if (options_left_out(argv[i], &takes_value)) {
			i += takes_value;
			continue;
		}
		ret_line[used++] = ' ';
		shell_quote(ret_line + used, line_size - used, argv[i]);
		used += strlen(ret_line + used);
	}
	one_line(ret_line);
}
