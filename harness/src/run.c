/*
 * run.c - main() of every scenario: options, directory, child, verdict, run.json.
 */
/* SPDX-License-Identifier: MIT */
#include "internal.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static const int exit_codes[] = {
	[VERDICT_PASS] = 0, [VERDICT_UNTRUSTWORTHY] = 3, [VERDICT_FAIL] = 1
};
enum { EXIT_CANNOT = 4, REPEAT_SIZE = 8192 };

static int describe(const struct harness_scenario *s, const struct harness_target *const targets[])
{
	json_t *json =
		json_pack("{s:s, s:s, s:s, s:s, s:o}", "name", s->name, "question", s->question,
	                  "load", s->load, "passes", s->passes, "targets", targets_json(targets));

	json_dumpf(json, stdout, JSON_COMPACT);
	putchar('\n');
	json_decref(json);
	return fflush(stdout) == 0 ? 0 : EXIT_CANNOT;
}

static void run_init(struct harness_run *run, const struct harness_scenario *scenario)
{
	struct timespec t;

	memset(run, 0, sizeof *run);
	clock_gettime(CLOCK_REALTIME, &t);
	run->scenario = scenario;
	run->options = (struct harness_options){
		.seed = ((uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec) / 1000 % 1000000000,
		.threads = 8,
		.seconds = 10,
		.readers = 4,
		.timeout_ms = 3000,
		.synchronous = "FULL",
		.journal_mode = "WAL",
	};
	run->started = t;
	run->start_ns = now_ns();
	run->events_fd = run->memory_fd = run->hlog_fd = -1;
	pthread_mutex_init(&run->words_lock, NULL);
	pthread_mutex_init(&run->target_lock, NULL);
	pthread_mutex_init(&run->recorders_lock, NULL);
}

/* One line, and nothing is left behind. */
static int could_not(const struct harness_run *run, const char *why)
{
	fprintf(stderr, "%s: %s\n", run->scenario->name, why);
	record_remove(run);
	return EXIT_CANNOT;
}

static int write_result(struct harness_run *run)
{
	char repeat[REPEAT_SIZE], why[PATH_MAX + 256];
	enum verdict verdict;
	json_t *json;
	char *text;
	bool ok;

	options_repeat(run, repeat, sizeof repeat);
	verdict = verdict_of(run->shared);
	json = result_json(run, repeat);
	text = json_dumps(json, JSON_INDENT(2) | JSON_REAL_PRECISION(12));
	json_decref(json);
	snprintf(why, sizeof why, "no memory for run.json; free some");
	ok = text != NULL && record_result(run, text, why, sizeof why);
	if (ok && run->json && (puts(text) < 0 || fflush(stdout) != 0)) {
		ok = false;
		snprintf(why, sizeof why, "standard output: %s; give it somewhere to go",
		         strerror(errno));
	}
	free(text);
	if (!ok)
		return could_not(run, why);
	progress_summary(run, repeat);
	if (verdict == VERDICT_PASS)
		record_remove_work(run);
	return exit_codes[verdict];
}

/* Everything between the two processes' separation and the end of the child. */
static bool live(struct harness_run *run)
{
	struct harness_machine_time before = harness_machine_time_read();
	struct progress progress;
	pid_t child;

	progress_begin(&progress, run);
	fflush(NULL); /* What is buffered now would be written by both. */
	watch_block();
	child = fork();
	if (child == 0)
		child_main(run);
	if (child > 0)
		watch_child(run, child, &progress);
	else
		cannot(run, "fork: %s; raise the limit on processes", strerror(errno));
	watch_unblock();
	number_set(run, "machine.steal_percent", harness_stolen_percent(before));
	return atomic_load(&run->shared->cannot) == 0;
}

static int run_scenario(struct harness_run *run, const char *directory)
{
	char why[PATH_MAX + 256];

	if (!record_create(run, directory, why, sizeof why)) {
		fprintf(stderr, "%s: %s\n", run->scenario->name, why);
		return EXIT_CANNOT;
	}
	if (!run->quiet)
		fprintf(run->json ? stderr : stdout, "%s: seed %llu, %s\n", run->scenario->name,
		        (unsigned long long)run->options.seed, run->directory);
	bool lived = live(run);

	result_numbers(run);
	replay_judge(run);
	harness_event(run, "verdict", "%s", verdict_name(verdict_of(run->shared)));
	record_close(run);
	/* The parent's own events may have met the full disk, too. */
	if (!lived || atomic_load(&run->shared->cannot) != 0)
		return could_not(run, run->shared->cannot_text);
	return write_result(run);
}

int harness_main(const struct harness_scenario *scenario,
                 const struct harness_target *const targets[], int argc, char **argv)
{
	static struct harness_run run; /* Large, and never more than one. */
	struct parsed parsed = { 0 };
	int code;

	run_init(&run, scenario);
	code = options_read(&run, targets, argc, argv, &parsed);
	if (code >= 0)
		return code;
	if (scenario->help != NULL && (code = scenario->help(run.target, &run.options)) >= 0)
		return code;
	if (parsed.describe)
		return describe(scenario, targets);
	if (parsed.list_targets) {
		targets_print(targets);
		return fflush(stdout) == 0 ? 0 : EXIT_CANNOT;
	}
	run.shared = mmap(NULL, sizeof *run.shared, PROT_READ | PROT_WRITE,
	                  MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (run.shared == MAP_FAILED) {
		fprintf(stderr, "%s: no memory for the run's record; free some\n", scenario->name);
		return EXIT_CANNOT;
	}
	signal(SIGXFSZ, SIG_IGN); /* A file that grew to its limit is an error of write(). */
	code = run_scenario(&run, parsed.directory);
	munmap(run.shared, sizeof *run.shared);
	return code;
}
