/*
 * case.c - cases of a run: their names, what they chose, what became of them.
 *
 * What is noted is kept in a ring and written only when the case fails: a sweep has tens of
 * thousands of cases, and all but a few are alike.
 */
/* SPDX-License-Identifier: MIT */
#include "internal.h"

#include <poolproof/harness/case.h>

#include <assert.h>
#include <stdarg.h>
#include <string.h>

static uint64_t mix(uint64_t digest, uint64_t what)
{
	uint64_t x = (digest ^ what) * 0x9e3779b97f4a7c15U;

	return (x ^ x >> 29) * 0xbf58476d1ce4e5b9U + 1;
}

static uint64_t mix_text(uint64_t digest, const char *text)
{
	for (; *text != '\0'; text++)
		digest = mix(digest, (unsigned char)*text);
	return mix(digest, 0x100);
}

bool case_runs(const struct shared *shared)
{
	return atomic_load(&shared->case_steps) % 2 == 1;
}

/* The watchdog sees that something goes on. */
static void step(struct harness_run *run, unsigned steps)
{
	atomic_fetch_add(&run->shared->case_steps, steps);
}

void harness_step(struct harness_run *run)
{
	atomic_fetch_add_explicit(&run->shared->case_steps, 2, memory_order_relaxed);
}

static bool is_wanted(const struct harness_run *run, const char *name)
{
	return run->only_case == NULL || strcmp(run->only_case, name) == 0;
}

static void begin(struct harness_run *run, const char *name)
{
	struct shared *shared = run->shared;

	assert(!case_runs(shared) && "the one before has not ended");
	snprintf(shared->case_name, sizeof shared->case_name, "%s", name);
	shared->case_count += is_wanted(run, name);
	run->note_count = 0;
	run->choices_digest = mix_text(run->choices_digest, name);
	run->events_digest = mix_text(run->events_digest, name);
	step(run, 1);
}

static void name_print(char name[SHARED_CASE], const char *format, va_list args)
{
	vsnprintf(name, SHARED_CASE, format, args);
	one_line(name);
}

bool harness_case_begin(struct harness_run *run, const char *format, ...)
{
	char name[SHARED_CASE];
	va_list args;

	va_start(args, format);
	name_print(name, format, args);
	va_end(args);
	if (!is_wanted(run, name))
		return false;
	begin(run, name);
	return true;
}

void harness_case_always(struct harness_run *run, const char *format, ...)
{
	char name[SHARED_CASE];
	va_list args;

	va_start(args, format);
	name_print(name, format, args);
	va_end(args);
	begin(run, name);
}

void harness_case_choose(struct harness_run *run, uint64_t what)
{
	run->choices_digest = mix(run->choices_digest, what);
}

void harness_case_note(struct harness_run *run, const char *format, ...)
{
	char *note = run->notes[run->note_count++ % NOTES];
	va_list args;

	va_start(args, format);
	vsnprintf(note, sizeof run->notes[0], format, args);
	va_end(args);
	run->events_digest = mix_text(run->events_digest, note);
	step(run, 2);
}

void harness_case_fail(struct harness_run *run, const char *format, ...)
{
	char text[SHARED_TEXT - SHARED_CASE];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof text, format, args);
	va_end(args);
	harness_fail(run, "%s", text);
}

void harness_case_end(struct harness_run *run)
{
	struct shared *shared = run->shared;
	unsigned first = run->note_count > NOTES ? run->note_count - NOTES : 0;

	assert(case_runs(shared) && "none has begun");
	if (atomic_exchange(&run->case_failed, false)) {
		shared->case_failed_count++;
		for (unsigned i = first; i < run->note_count; i++)
			harness_event(run, "case", "%s: %s", shared->case_name,
			              run->notes[i % NOTES]);
	}
	step(run, 1);
}

void cases_numbers(struct harness_run *run)
{
	const struct shared *shared = run->shared;

	if (shared->case_count == 0 && run->only_case != NULL)
		harness_distrust(run, "no case is called '%s'", run->only_case);
	if (shared->case_count == 0)
		return;
	number_set(run, "cases_count", shared->case_count);
	number_set(run, "cases.failed_count", shared->case_failed_count);
	number_set(run, "choices.digest_count", (double)(run->choices_digest >> 11));
	number_set(run, "events.digest_count", (double)(run->events_digest >> 11));
}
