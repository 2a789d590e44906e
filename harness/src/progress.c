/*
 * progress.c - what a person sees while a run goes, and at its end.
 *
 * On a terminal one line, redrawn at most four times a second; else a line every ten seconds and
 * at the end of a phase. The summary is for people too: machines have run.json.
 */
/* SPDX-License-Identifier: MIT */
#include "internal.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

uint64_t finished_count(const struct shared *shared)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < SHARED_THREADS; i++)
		sum += atomic_load_explicit(&shared->slots[i].finished, memory_order_relaxed);
	return sum;
}

static uint64_t error_count(const struct shared *shared)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < HARNESS_FAILURE_KINDS; i++)
		sum += atomic_load_explicit(&shared->errors[i], memory_order_relaxed);
	return sum;
}

static const char *bytes_text(double bytes, char *text, size_t text_size)
{
	static const char *const units[] = { "B", "KiB", "MiB", "GiB" };
	unsigned i = 0;

	for (; bytes >= 1024 && i < 3; i++)
		bytes /= 1024;
	snprintf(text, text_size, i == 0 ? "%.0f %s" : "%.1f %s", bytes, units[i]);
	return text;
}

static const char *time_text(double ns, char *text, size_t text_size)
{
	if (ns < 1e6)
		snprintf(text, text_size, "%.1f us", ns / 1e3);
	else if (ns < 1e9)
		snprintf(text, text_size, "%.1f ms", ns / 1e6);
	else
		snprintf(text, text_size, "%.2f s", ns / 1e9);
	return text;
}

void progress_begin(struct progress *progress, const struct harness_run *run)
{
	*progress = (struct progress){ .quiet = run->quiet, .terminal = isatty(STDERR_FILENO) };
}

static void line_text(const struct progress *progress, const struct harness_run *run, uint64_t now,
                      char *text, size_t text_size)
{
	const struct shared *shared = run->shared;
	char p99[24] = "-", live[24] = "-", left[32] = "";
	double p99_ns = (double)atomic_load(&shared->p99_ns);
	double live_bytes = (double)atomic_load(&shared->live_bytes);
	uint64_t finished = finished_count(shared);
	double rate = (double)(finished - progress->last_finished) * 1e9 /
	              (double)(now - progress->last_ns + 1);
	double left_s = shared->phase_seconds - (double)(now - shared->phase_start_ns) / 1e9;

	if (shared->phase_seconds > 0 && left_s > 0)
		snprintf(left, sizeof left, ", %.0f s left", left_s);
	if (p99_ns > 0)
		time_text(p99_ns, p99, sizeof p99);
	if (live_bytes > 0)
		bytes_text(live_bytes, live, sizeof live);
	snprintf(text, text_size, "%.16s: %.0f/s, p99 %s, live %s, %llu errors%s", shared->phase,
	         rate, p99, live, (unsigned long long)error_count(shared), left);
}

void progress_tick(struct progress *progress, const struct harness_run *run)
{
	int loading = atomic_load(&run->shared->loading);
	uint64_t now = now_ns();
	uint64_t gap = progress->terminal ? 250000000 : 10000000000;
	bool turned = loading != progress->last_loading;
	char text[256];

	if (progress->quiet)
		return;
	if (turned && loading) {
		progress->last_ns = progress->phase_ns = now;
		progress->last_finished = progress->phase_finished = finished_count(run->shared);
	} else if (turned) { /* The last line of a phase tells its average. */
		progress->last_ns = progress->phase_ns;
		progress->last_finished = progress->phase_finished;
	}
	progress->last_loading = loading;
	if ((!loading && !turned) || (turned && loading) ||
	    (!turned && now - progress->last_ns < gap))
		return;
	line_text(progress, run, now, text, sizeof text);
	if (progress->terminal)
		fprintf(stderr, "\r%-79.79s", text);
	else
		fprintf(stderr, "%s\n", text);
	progress->drawn = progress->terminal;
	progress->last_ns = now;
	progress->last_finished = finished_count(run->shared);
}

void progress_end(struct progress *progress)
{
	if (progress->drawn)
		fprintf(stderr, "\r%79s\r", "");
	progress->drawn = false;
}

static void percentiles_print(FILE *out, const struct shared *shared, const char *tag)
{
	static const double percentiles[] = { 50, 99, 99.9 };
	unsigned i = 0;
	char text[24];

	while (i < shared->tag_count && strcmp(shared->tags[i], tag) != 0)
		i++;
	if (i == shared->tag_count || shared->totals[i].count == 0)
		return;
	fprintf(out, "  %-13s", tag);
	for (unsigned j = 0; j < 3; j++) {
		double ns =
			(double)harness_histogram_percentile(&shared->totals[i], percentiles[j]);

		fprintf(out, " p%g %s ", percentiles[j],
		        percentile_known(&shared->totals[i], percentiles[j])
		                ? time_text(ns, text, sizeof text)
		                : "(too few)");
	}
	fprintf(out, " max %s\n",
	        time_text((double)harness_histogram_max(&shared->totals[i]), text, sizeof text));
}

static const char *colour(FILE *out, enum verdict verdict)
{
	static const char *const colours[] = { "\033[32m", "\033[33m", "\033[31m" };
	const char *no = getenv("NO_COLOR");

	return isatty(fileno(out)) && (no == NULL || no[0] == '\0') ? colours[verdict] : "";
}

static void residue_print(FILE *out, const struct shared *shared)
{
	if (shared->provider[0] == '\0')
		return; /* It did not live to be counted. */
	fprintf(out,
	        "  residue       %.0f B in accounts, heap %+.0f B (%s), %+.0f fds, %+.0f threads\n",
	        number_get(shared, "heap.residue_bytes", 0),
	        number_get(shared, "heap.leaked_bytes", 0), shared->provider,
	        number_get(shared, "fd.leaked_count", 0),
	        number_get(shared, "thread.leaked_count", 0));
}

void progress_summary(const struct harness_run *run, const char *repeat)
{
	const struct shared *shared = run->shared;
	FILE *out = run->json ? stderr : stdout;
	enum verdict verdict = verdict_of(shared);
	const char *on = colour(out, verdict);
	char buffer[REASON_TEXT];

	if (run->quiet)
		return;
	fprintf(out, "%s%s%s %s on %s\n", on, verdict_name(verdict), on[0] != '\0' ? "\033[0m" : "",
	        run->scenario->name, run->target->name);
	for (unsigned i = 0; i < shared->reason_count; i++)
		fprintf(out, "  %s: %s\n", verdict_name(shared->reasons[i].verdict),
		        reason_text(&shared->reasons[i], buffer, sizeof buffer));
	fprintf(out, "  operations    %.0f, %.1f/s, %.0f errors\n",
	        number_get(shared, "operations_count", 0),
	        number_get(shared, "operations_per_s", 0), number_get(shared, "errors_count", 0));
	percentiles_print(out, shared, "operation");
	percentiles_print(out, shared, "acquire.wait");
	residue_print(out, shared);
	if (number_get(shared, "machine.steal_percent", 0) >= 1)
		fprintf(out, "  machine       %.1f %% of its time was stolen\n",
		        number_get(shared, "machine.steal_percent", 0));
	fprintf(out, "  run           %s\n  repeat        %s\n", run->directory, repeat);
}
