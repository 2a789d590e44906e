/*
 * child.c - the process that runs the body: census, target, body, census.
 *
 * The order is the point: whatever the harness, libc and the sampler keep is taken before the
 * first census and given back after the second, so that a clean body leaves exactly 0.
 */
/* SPDX-License-Identifier: MIT */
#include "internal.h"

#include <semaphore.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const struct harness_options *harness_run_options(const struct harness_run *run)
{
	return &run->options;
}

const struct harness_target *harness_run_target(const struct harness_run *run)
{
	return run->target;
}

struct harness_target_options harness_run_target_options(const struct harness_run *run,
                                                         const char *path)
{
	const struct harness_options *o = &run->options;

	return (struct harness_target_options){
		.path = path,
		.threads = o->threads,
		.readers = o->readers,
		.timeout_ms = o->timeout_ms,
		.synchronous = o->synchronous,
		.journal_mode = o->journal_mode,
	};
}

const char *harness_run_work(const struct harness_run *run)
{
	return run->work;
}

uint64_t harness_heap_bytes(void)
{
	return heap_census();
}

void harness_cannot(struct harness_run *run, const char *format, ...)
{
	char text[SHARED_TEXT];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof text, format, args);
	va_end(args);
	cannot(run, "%s", text);
	meter_stop(run); /* Memcheck would call a running thread's memory "possibly lost". */
	exit(4);
}

/* From here to leave_target() the watchdog counts (an odd number is inside), and nobody else calls
 * the target's open, close, gauges or check. To wait for the sampler, who is in gauges, counts. */
static void enter_target(struct harness_run *run)
{
	atomic_fetch_add(&run->shared->target_steps, 1);
	pthread_mutex_lock(&run->target_lock);
}

static void leave_target(struct harness_run *run)
{
	pthread_mutex_unlock(&run->target_lock);
	atomic_fetch_add(&run->shared->target_steps, 1);
}

void harness_target_show(struct harness_run *run, void *state)
{
	enter_target(run);
	run->target_shown = state;
	if (state != NULL)
		atomic_store(&run->shared->seen_connections, 0);
	leave_target(run);
}

bool harness_target_open(struct harness_run *run, const char *path)
{
	struct harness_failure failure = { .kind = HARNESS_FAILURE_OTHER };
	struct harness_target_options options = harness_run_target_options(run, run->target_path);

	if (run->target_opened)
		harness_cannot(run, "%s: opened twice by the scenario; close it first", path);
	if (snprintf(run->target_path, sizeof run->target_path, "%s", path) >=
	    (int)sizeof run->target_path)
		harness_cannot(run, "%.200s...: the path is too long", path);
	enter_target(run);
	run->target_opened = run->target->open(&options, &run->target_state, &failure);
	leave_target(run);
	if (!run->target_opened)
		harness_fail(run, "%s could not open %s: %s", run->target->name, path,
		             failure.text);
	return run->target_opened;
}

static void emit_number(void *context, const char *name, double value)
{
	number_set(context, name, value);
}

void target_check(struct harness_run *run)
{
	char text[SHARED_TEXT - 64] = "";
	unsigned wrong = 0;

	enter_target(run);
	if (run->target_opened)
		wrong = run->target->check(run->target_state, text, sizeof text);
	leave_target(run);
	run->violated_count += wrong;
	if (wrong > 0)
		harness_fail(run, "%u invariants violated: %s", wrong, text);
}

bool harness_target_close(struct harness_run *run)
{
	struct harness_residue residue = { 0 };

	if (!run->target_opened)
		return true;
	target_check(run);
	enter_target(run);
	run->target->numbers(run->target_state, emit_number, run);
	run->target->close(run->target_state, &residue);
	run->target_opened = false;
	run->target_state = NULL;
	leave_target(run);
	run->residue_bytes += (double)residue.bytes;
	if (residue.bytes == 0 && residue.connections == 0)
		return true;
	harness_fail(run, "heap residue %llu bytes, %llu connections not closed%s%.*s",
	             (unsigned long long)residue.bytes, (unsigned long long)residue.connections,
	             residue.text[0] != '\0' ? ": " : "", (int)sizeof residue.text, residue.text);
	return false;
}

struct warming {
	sem_t warm, done;
};

static void *warm_thread(void *context)
{
	struct warming *w = context;
	char *volatile block = malloc(64); /* Volatile: else both calls may be left out. */

	free(block);
	sem_post(&w->warm);
	while (sem_wait(&w->done) != 0)
		;
	return NULL;
}

/*
 * glibc keeps the stacks of ended threads for later ones, each with a block of the heap, and their
 * arenas, each of whose headers (2256 bytes) it counts as in use. As many threads as the load will
 * have, and a few of the target's own, live at once here, so later ones take nothing new. A body
 * may have more of its own: so at least as many as there can be arenas, eight a processor.
 * localtime() keeps the time zone; SQLite's date functions call it.
 */
static void warm_up(struct harness_run *run)
{
	enum { TARGETS_OWN = 4, THREADS_MAX = 256 + TARGETS_OWN, ARENAS = 8 };
	struct warming w;
	pthread_t threads[THREADS_MAX];
	unsigned started = 0, wanted = run->options.threads + TARGETS_OWN;
	unsigned arenas = ARENAS * (unsigned)sysconf(_SC_NPROCESSORS_ONLN);
	time_t now = time(NULL);
	struct tm tm;

	wanted = wanted > arenas ? wanted : arenas;
	localtime_r(&now, &tm);
	sem_init(&w.warm, 0, 0);
	sem_init(&w.done, 0, 0);
	while (started < wanted && started < THREADS_MAX &&
	       pthread_create(&threads[started], NULL, warm_thread, &w) == 0)
		started++;
	for (unsigned i = 0; i < started; i++) /* None ends before all have allocated. */
		while (sem_wait(&w.warm) != 0)
			;
	for (unsigned i = 0; i < started; i++)
		sem_post(&w.done);
	for (unsigned i = 0; i < started; i++)
		pthread_join(threads[i], NULL);
	sem_destroy(&w.warm);
	sem_destroy(&w.done);
}

static void prepare(struct harness_run *run)
{
	const char *lacking;

	run->intervals = pages_take(SHARED_TAGS * sizeof *run->intervals);
	if (run->intervals == NULL || !hlog_init(&run->encoder))
		harness_cannot(run, "no memory for the run's histograms; free some");
	watch_prepare_child(run);
	warm_up(run);
	if (run->target->setup != NULL && (lacking = run->target->setup()) != NULL)
		harness_cannot(run, "--target %s: %s", run->target->name, lacking);
	census_take(&run->before); /* Once for what looking itself keeps. */
	census_take(&run->before);
}

static void finish(struct harness_run *run)
{
	harness_target_close(run); /* Where the body has left it open. */
	recorders_flush(run);
	cases_numbers(run);
	meter_stop(run);
	/* What SQLite keeps for its next connection is not a leak of this one. */
	sqlite3_shutdown();
	number_set(run, "invariants.violated_count", run->violated_count);
	number_set(run, "heap.residue_bytes", run->residue_bytes);
	census_judge(run, &run->before);
	hlog_done(&run->encoder);
	pages_give(run->intervals, SHARED_TAGS * sizeof *run->intervals);
	record_close(run);
	atomic_store(&run->shared->complete, 1);
}

void child_main(struct harness_run *run)
{
	prepare(run);
	if (!meter_start(run))
		harness_cannot(run, "no thread for the sampler; raise the limit on processes");
	harness_event(run, "phase", "the body begins");
	run->scenario->body(run);
	harness_event(run, "phase", "the body ends");
	finish(run);
	/* exit() and not _exit(): coverage counters are written by its handlers. */
	exit(0);
}
