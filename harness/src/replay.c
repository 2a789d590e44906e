/*
 * replay.c - a recorded run done again: its options, its seed, and whether it did the same.
 *
 * What threads choose depends on the seed alone, so it is the same whatever the timing; it is
 * compared where the run ended by a number of operations and not by the clock. What happened is
 * compared where a scenario says that it does not depend on timing (harness_case_note()).
 */
/* SPDX-License-Identifier: MIT */
#include "internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static bool cannot_replay(const struct harness_run *run, const char *directory, const char *why)
{
	char line[PATH_MAX + 512];

	snprintf(line, sizeof line, "%s: --replay %s: %s", run->scenario->name, directory, why);
	one_line(line);
	fprintf(stderr, "%s\n", line);
	return false;
}

/* What this run's own command line says: --replay's value, or NULL. */
static const char *replay_wanted(int argc, char **argv)
{
	for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
		if (strncmp(argv[i], "--replay=", 9) == 0)
			return argv[i] + 9;
		if (strcmp(argv[i], "--replay") == 0)
			return i + 1 < argc ? argv[i + 1] : "";
	}
	return NULL;
}

static double digest_of(const json_t *numbers, const char *name)
{
	const json_t *number = json_object_get(numbers, name);

	return json_is_number(number) ? json_number_value(number) : -1;
}

static bool read_run(struct harness_run *run, const json_t *json)
{
	struct replay *replay = &run->replay;
	const char *scenario = json_string_value(json_object_get(json, "scenario"));
	const char *variant = json_string_value(json_object_get(json, "variant"));
	const json_t *numbers = json_object_get(json, "numbers");
	char why[160];

	if (scenario == NULL || variant == NULL || !json_is_object(numbers) ||
	    !json_is_array(json_object_get(json, "command")))
		return cannot_replay(run, replay->directory,
		                     "its run.json is not a run's; give the directory of a run");
	if (strcmp(scenario, run->scenario->name) != 0) {
		snprintf(why, sizeof why, "is a run of %.80s; replay it with that", scenario);
		return cannot_replay(run, replay->directory, why);
	}
	if (strcmp(variant, PP_VARIANT) != 0) {
		snprintf(why, sizeof why, "ran in another variant; add --variant %.40s", variant);
		return cannot_replay(run, replay->directory, why);
	}
	replay->operations_digest = digest_of(numbers, "operations.digest_count");
	replay->choices_digest = digest_of(numbers, "choices.digest_count");
	replay->events_digest = digest_of(numbers, "events.digest_count");
	replay->operations = json_integer_value(json_object_get(json_object_get(json, "options"),
	                                                        "operations_per_thread")) > 0;
	replay->wanted = true;
	return true;
}

static char *copy(const char *text)
{
	char *word = strdup(text);

	if (word == NULL)
		abort();
	return word;
}

/* Shortened, too, as argp takes it ("--cas NAME"); what is ambiguous ends before this matters. */
static bool names_case(const char *word)
{
	size_t length = strcspn(word, "=");

	return length > 2 && length <= 6 && strncmp(word, "--case", length) == 0;
}

/* The recorded words and then this command line's own, of which the last one counts. */
static char **join(struct harness_run *run, const json_t *json, int argc, char **argv,
                   int *ret_argc)
{
	const json_t *command = json_object_get(json, "command");
	size_t count = 0, room = json_array_size(command) + (size_t)argc + 3; /* Seed, and NULL. */
	char **words = calloc(room, sizeof *words), seed[32];
	bool takes_value;

	if (words == NULL)
		abort();
	words[count++] = argv[0];
	for (size_t i = 1; i < json_array_size(command); i++) {
		const char *word = json_string_value(json_array_get(command, i));

		if (word == NULL)
			continue;
		if (options_left_out(word, &takes_value))
			i += takes_value;
		else
			words[count++] = copy(word);
	}
	snprintf(seed, sizeof seed, "--seed=%lld",
	         (long long)json_integer_value(json_object_get(json, "seed")));
	words[count++] = copy(seed);
	for (int i = 1; i < argc; i++) {
		run->replay.narrowed |= names_case(argv[i]);
		if (strncmp(argv[i], "--replay", 8) != 0)
			words[count++] = argv[i];
		else
			i += argv[i][8] == '\0';
	}
	*ret_argc = (int)count;
	return words;
}

char **replay_words(struct harness_run *run, int argc, char **argv, int *ret_argc)
{
	const char *directory = replay_wanted(argc, argv);
	char path[PATH_MAX + 16], why[JSON_ERROR_TEXT_LENGTH + 40];
	char **words = NULL;
	json_error_t error;
	json_t *json;

	*ret_argc = argc;
	if (directory == NULL)
		return argv;
	if (directory[0] == '\0') {
		fprintf(stderr, "%s: --replay: lacks its value, the directory of a run\n",
		        run->scenario->name);
		return NULL;
	}
	snprintf(run->replay.directory, sizeof run->replay.directory, "%s", directory);
	snprintf(path, sizeof path, "%s/run.json", run->replay.directory);
	json = json_load_file(path, 0, &error);
	if (json == NULL) {
		snprintf(why, sizeof why, "%s; give the directory of a run", error.text);
		cannot_replay(run, directory, why);
		return NULL;
	}
	if (read_run(run, json))
		words = join(run, json, argc, argv, ret_argc);
	json_decref(json);
	return words;
}

static void compare(struct harness_run *run, const char *name, double before, const char *what)
{
	double now = number_get(run->shared, name, -1);

	if (before >= 0 && now != before)
		verdict_add(run, VERDICT_FAIL, "replay of %s: %s (%s %.0f, it was %.0f)",
		            run->replay.directory, what, name, now, before);
}

void replay_judge(struct harness_run *run)
{
	const struct replay *r = &run->replay;

	if (!r->wanted || r->narrowed)
		return;
	if (!r->operations && r->choices_digest < 0 && r->events_digest < 0)
		harness_distrust(run,
		                 "replay of %s: it ended by the clock, so nothing can be "
		                 "compared; record it with --operations",
		                 r->directory);
	if (r->operations)
		compare(run, "operations.digest_count", r->operations_digest,
		        "the threads chose something else");
	compare(run, "choices.digest_count", r->choices_digest, "the cases chose something else");
	compare(run, "events.digest_count", r->events_digest, "what happened is not the same");
}
