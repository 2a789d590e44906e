/*
 * verdict.c - reasons, numbers and events: what anybody says about a run.
 */
/* SPDX-License-Identifier: MIT */
#include "internal.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* What is said again takes no place from what has not been said yet. */
static struct shared_reason *reason_find(struct shared *shared, enum verdict verdict,
                                         const char *text)
{
	for (unsigned i = 0; i < shared->reason_count; i++)
		if (shared->reasons[i].verdict == verdict &&
		    strcmp(shared->reasons[i].text, text) == 0)
			return &shared->reasons[i];
	return NULL;
}

static void reason_add(struct harness_run *run, enum verdict verdict, const char *format,
                       va_list args)
{
	struct shared *shared = run->shared;
	struct shared_reason *reason;
	char text[SHARED_TEXT];

	vsnprintf(text, sizeof text, format, args);
	one_line(text);
	pthread_mutex_lock(&run->words_lock);
	reason = reason_find(shared, verdict, text);
	if (reason != NULL) {
		reason->times++;
	} else if (shared->reason_count < SHARED_REASONS - (verdict != VERDICT_FAIL)) {
		/* The last place is kept free for a FAIL: no flood of doubts may hide one. */
		reason = &shared->reasons[shared->reason_count];
		reason->verdict = verdict;
		reason->times = 1;
		memcpy(reason->text, text, sizeof text);
		shared->reason_count++;
	} else {
		shared->reasons_dropped++;
	}
	pthread_mutex_unlock(&run->words_lock);
	harness_event(run, "verdict", "%s: %s", verdict_name(verdict), text);
}

void verdict_add(struct harness_run *run, enum verdict verdict, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	reason_add(run, verdict, format, args);
	va_end(args);
}

void harness_fail(struct harness_run *run, const char *format, ...)
{
	const struct shared *shared = run->shared;
	char text[SHARED_TEXT];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof text, format, args);
	va_end(args);
	if (case_runs(shared)) {
		atomic_store(&run->case_failed, true);
		verdict_add(run, VERDICT_FAIL, "case '%s': %s", shared->case_name, text);
	} else {
		verdict_add(run, VERDICT_FAIL, "%s", text);
	}
}

void harness_distrust(struct harness_run *run, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	reason_add(run, VERDICT_UNTRUSTWORTHY, format, args);
	va_end(args);
}

const char *reason_text(const struct shared_reason *reason, char *buffer, size_t size)
{
	if (reason->times == 1)
		return reason->text;
	snprintf(buffer, size, "%s (%u times)", reason->text, reason->times);
	return buffer;
}

enum verdict verdict_of(const struct shared *shared)
{
	enum verdict worst = VERDICT_PASS;

	for (unsigned i = 0; i < shared->reason_count; i++)
		if (shared->reasons[i].verdict > worst)
			worst = shared->reasons[i].verdict;
	return worst;
}

const char *verdict_name(enum verdict verdict)
{
	static const char *const names[] = { "PASS", "UNTRUSTWORTHY", "FAIL" };

	return names[verdict];
}

void cannot(struct harness_run *run, const char *format, ...)
{
	struct shared *shared = run->shared;
	int none = 0;
	va_list args;

	/* The first one is the cause; what follows from it is not told. */
	if (!atomic_compare_exchange_strong(&shared->cannot, &none, 1))
		return;
	va_start(args, format);
	vsnprintf(shared->cannot_text, sizeof shared->cannot_text, format, args);
	va_end(args);
	one_line(shared->cannot_text);
	/* Sequentially consistent: who sees 2 sees the text. */
	atomic_store(&shared->cannot, 2);
	atomic_store(&shared->stop, 1);
}

void number_set(struct harness_run *run, const char *name, double value)
{
	struct shared *shared = run->shared;
	unsigned i = 0;

	if (!isfinite(value)) {
		harness_distrust(run, "the number %s is not finite", name);
		return;
	}
	while (i < shared->number_count && strcmp(shared->numbers[i].name, name) != 0)
		i++;
	if (i == SHARED_NUMBERS || strlen(name) >= SHARED_NAME) {
		harness_distrust(run, "the number %s has no room: %d numbers of %d letters is all",
		                 name, SHARED_NUMBERS, SHARED_NAME - 1);
		return;
	}
	strcpy(shared->numbers[i].name, name);
	shared->numbers[i].value = value;
	if (i == shared->number_count)
		shared->number_count++;
}

double number_get(const struct shared *shared, const char *name, double otherwise)
{
	for (unsigned i = 0; i < shared->number_count; i++)
		if (strcmp(shared->numbers[i].name, name) == 0)
			return shared->numbers[i].value;
	return otherwise;
}

void harness_number(struct harness_run *run, const char *name, double value)
{
	run->shared->numbers_of_body++;
	number_set(run, name, value);
}

/* to is twice as large as text, which has passed one_line(). */
static void escape(char *to, const char *text)
{
	for (; *text != '\0'; text++) {
		if (*text == '"' || *text == '\\')
			*to++ = '\\';
		*to++ = *text;
	}
	*to = '\0';
}

void harness_event(struct harness_run *run, const char *kind, const char *format, ...)
{
	char text[SHARED_TEXT], escaped[2 * SHARED_TEXT], line[2 * SHARED_TEXT + 128];
	va_list args;
	int size;

	va_start(args, format);
	vsnprintf(text, sizeof text, format, args);
	va_end(args);
	one_line(text);
	escape(escaped, text);
	size = snprintf(line, sizeof line,
	                "{\"t_ns\": %llu, \"kind\": \"%.40s\", \"text\": \"%s\"}\n",
	                (unsigned long long)(now_ns() - run->start_ns), kind, escaped);
	/* One write() to a file opened for appending: lines of several threads do not mix. */
	record_write(run, run->events_fd, "events.jsonl", line, (size_t)size);
}
