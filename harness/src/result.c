/*
 * result.c - run.json: the parent's, from what the two processes share.
 */
/* SPDX-License-Identifier: MIT */
#include "internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define X(name, text) text,
static const char *const failure_names[] = { HARNESS_FAILURE_LIST(X) };
#undef X

bool percentile_known(const struct harness_histogram *h, double percentile)
{
	/* Ten samples beyond it; 1e-9 for what binary fractions make of 99.9. */
	return (double)h->count * (1 - percentile / 100) >= 10 - 1e-9;
}

static void histogram_numbers(struct harness_run *run, const char *tag,
                              const struct harness_histogram *h)
{
	static const double percentiles[] = { 50, 90, 99, 99.9 };
	char name[SHARED_NAME + 16];

#define NUMBER(suffix, value)                                   \
	do {                                                    \
		snprintf(name, sizeof name, "%s." suffix, tag); \
		number_set(run, name, value);                   \
	} while (0)
	NUMBER("count", (double)h->count);
	if (h->count == 0)
		return;
	NUMBER("min_us", (double)harness_histogram_min(h) / 1e3);
	for (unsigned i = 0; i < sizeof percentiles / sizeof *percentiles; i++) {
		if (!percentile_known(h, percentiles[i]))
			continue;
		snprintf(name, sizeof name, "%s.p%g_us", tag, percentiles[i]);
		number_set(run, name,
		           (double)harness_histogram_percentile(h, percentiles[i]) / 1e3);
	}
	NUMBER("max_us", (double)harness_histogram_max(h) / 1e3);
	NUMBER("mean_us", harness_histogram_mean(h) / 1e3);
#undef NUMBER
}

/* Order does not matter to a sum, so threads may end in any. */
static double digest(const struct shared *shared)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < SHARED_THREADS; i++) {
		uint64_t x = (shared->slots[i].digest + i) * 0x9e3779b97f4a7c15U;

		if (shared->slots[i].digest != 0)
			sum += x ^ x >> 31;
	}
	return (double)(sum >> 11);
}

static void judge_generator(struct harness_run *run, double lag_p99_us)
{
	double p99_us = number_get(run->shared, "operation.p99_us", NAN);

	if (lag_p99_us > 1000 && !(lag_p99_us <= p99_us / 10))
		harness_distrust(
			run,
			"the generator lagged: p99 %.0f us late, more than 1 ms and than a "
			"tenth of the operations' p99; use fewer threads or an idle machine",
			lag_p99_us);
}

/* What was never started has no latency, and would have had the longest. */
static void judge_dropped(struct harness_run *run)
{
	const struct shared *shared = run->shared;

	number_set(run, "generator.dropped_count", (double)shared->open_dropped);
	if (shared->open_dropped > 0)
		harness_distrust(
			run,
			"the generator could not keep up: %llu of %llu due operations were not "
			"started; lower --rate, or give it more --threads",
			(unsigned long long)shared->open_dropped,
			(unsigned long long)shared->open_due);
}

static const char *first_error(const struct shared *shared)
{
	for (unsigned i = 0; i < HARNESS_FAILURE_KINDS; i++)
		if (atomic_load(&shared->errors[i]) > 0)
			return shared->error_first[i];
	return "";
}

static void count_numbers(struct harness_run *run)
{
	struct shared *shared = run->shared;
	double finished = (double)finished_count(shared), errors = 0;
	char name[SHARED_NAME];

	number_set(run, "operations_count", finished);
	number_set(run, "operations_per_s",
	           shared->load_seconds > 0 ? finished / shared->load_seconds : 0);
	number_set(run, "operations.digest_count", digest(shared));
	for (unsigned i = 0; i < HARNESS_FAILURE_KINDS; i++) {
		double count = (double)atomic_load(&shared->errors[i]);

		snprintf(name, sizeof name, "errors.%s_count", failure_names[i]);
		number_set(run, name, count);
		errors += count;
	}
	number_set(run, "errors_count", errors);
	if (errors > 0 && run->scenario->errors_fail)
		verdict_add(run, VERDICT_FAIL, "%.0f of %.0f operations failed; the first: %s",
		            errors, finished, first_error(shared));
	if (shared->load_count > 0 && finished == 0)
		harness_distrust(run, "no operation finished");
	else if (shared->load_count == 0 && shared->numbers_of_body == 0)
		harness_distrust(run, "nothing was measured: no load ran and no number was given");
}

void result_numbers(struct harness_run *run)
{
	struct shared *shared = run->shared;

	for (unsigned i = 0; i < shared->tag_count; i++)
		if ((i < TAG_NAMED && shared->load_count > 0) || shared->totals[i].count > 0)
			histogram_numbers(run, shared->tags[i], &shared->totals[i]);
	count_numbers(run);
	if (shared->open_loop) {
		double lag_us =
			(double)harness_histogram_percentile(&shared->totals[TAG_LAG], 99) / 1e3;

		number_set(run, "generator.lag_p99_us", lag_us);
		judge_generator(run, lag_us);
		judge_dropped(run);
	}
}

static json_t *number_json(double value)
{
	return value == floor(value) && fabs(value) < 0x1p53 ? json_integer((json_int_t)value)
	                                                     : json_real(value);
}

static json_t *numbers_json(const struct shared *shared)
{
	json_t *object = json_object();

	for (unsigned i = 0; i < shared->number_count; i++)
		json_object_set_new(object, shared->numbers[i].name,
		                    number_json(shared->numbers[i].value));
	return object;
}

static json_t *verdict_json(const struct shared *shared)
{
	json_t *reasons = json_array();
	char buffer[REASON_TEXT];

	for (unsigned i = 0; i < shared->reason_count; i++) {
		const struct shared_reason *reason = &shared->reasons[i];

		json_array_append_new(
			reasons, json_pack("{s:s, s:s}", "result", verdict_name(reason->verdict),
		                           "text", reason_text(reason, buffer, sizeof buffer)));
	}
	if (shared->reasons_dropped > 0) {
		char text[64];

		snprintf(text, sizeof text, "%u more reasons are in events.jsonl",
		         shared->reasons_dropped);
		json_array_append_new(reasons,
		                      json_pack("{s:s, s:s}", "result",
		                                verdict_name(verdict_of(shared)), "text", text));
	}
	return json_pack("{s:s, s:o}", "result", verdict_name(verdict_of(shared)), "reasons",
	                 reasons);
}

static json_t *errors_json(const struct shared *shared)
{
	json_t *errors = json_array();

	for (unsigned i = 0; i < HARNESS_FAILURE_KINDS; i++) {
		uint64_t count = atomic_load(&shared->errors[i]);

		if (count > 0)
			json_array_append_new(errors,
			                      json_pack("{s:s, s:I, s:s}", "kind", failure_names[i],
			                                "count", (json_int_t)count, "first",
			                                shared->error_first[i]));
	}
	return errors;
}

static json_t *operations_json(const struct shared *shared)
{
	json_t *operations = json_array();

	for (unsigned i = 0; i < shared->operation_count; i++)
		json_array_append_new(
			operations, json_pack("{s:s, s:I, s:I}", "name", shared->operations[i].name,
		                              "count", (json_int_t)shared->operations[i].count,
		                              "errors", (json_int_t)shared->operations[i].errors));
	return operations;
}

static json_t *options_json(const struct harness_options *o)
{
	return json_pack("{s:i, s:o, s:I, s:o, s:b, s:i, s:i, s:s, s:s}", "threads",
	                 (int)o->threads, "seconds", number_json(o->seconds),
	                 "operations_per_thread", (json_int_t)o->operations_per_thread,
	                 "rate_per_s", number_json(o->rate_per_s), "poisson", o->poisson, "readers",
	                 (int)o->readers, "timeout_ms", (int)o->timeout_ms, "synchronous",
	                 o->synchronous, "journal", o->journal_mode);
}

static json_t *command_json(int argc, char *const *argv)
{
	json_t *command = json_array();

	for (int i = 0; i < argc; i++) {
		const char *slash = i == 0 ? strrchr(argv[0], '/') : NULL;
		char *copy = strdup(slash != NULL ? slash + 1 : argv[i]);

		if (copy == NULL)
			continue;
		one_line(copy); /* An argument need not be UTF-8; a JSON string must. */
		json_array_append_new(command, json_string(copy));
		free(copy);
	}
	return command;
}

json_t *result_json(const struct harness_run *run, const char *repeat)
{
	const struct harness_scenario *s = run->scenario;
	json_t *json = json_object();
	char started[32];
	struct tm tm;

	gmtime_r(&run->started.tv_sec, &tm);
	strftime(started, sizeof started, "%Y-%m-%dT%H:%M:%SZ", &tm);
	json_object_set_new(json, "format", json_integer(1));
	json_object_set_new(json, "scenario", json_string(s->name));
	json_object_set_new(json, "question", json_string(s->question));
	json_object_set_new(json, "load", json_string(s->load));
	json_object_set_new(json, "passes", json_string(s->passes));
	json_object_set_new(json, "target", json_string(run->target->name));
	json_object_set_new(json, "variant", json_string(PP_VARIANT));
	json_object_set_new(json, "under", json_string(under_name()));
	json_object_set_new(json, "seed", json_integer((json_int_t)run->options.seed));
	json_object_set_new(json, "started", json_string(started));
	json_object_set_new(json, "seconds", json_real(round(run_seconds(run) * 1000) / 1000));
	json_object_set_new(json, "command", command_json(run->argc, run->argv));
	json_object_set_new(json, "repeat", json_string(repeat));
	json_object_set_new(json, "options", options_json(&run->options));
	json_object_set_new(json, "versions", harness_versions_json());
	json_object_set_new(json, "machine", harness_machine_json());
	json_object_set_new(json, "verdict", verdict_json(run->shared));
	json_object_set_new(json, "operations", operations_json(run->shared));
	json_object_set_new(json, "errors", errors_json(run->shared));
	json_object_set_new(json, "numbers", numbers_json(run->shared));
	return json;
}
