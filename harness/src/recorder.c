/*
 * recorder.c - each thread's histograms, and how they become intervals without a lock.
 *
 * A recorder has two halves. The owner writes one; the collector has the other to itself. Once a
 * second the collector asks for a turn (wanted), and the owner makes it before its next operation
 * (writing). Who has which half follows from these two alone:
 *
 *   wanted   The collector stores it with release after it emptied the half it offers; the owner
 *            loads it with acquire, so it starts on a half that is seen to be empty.
 *   writing  The owner stores it with release after its last write to the old half; the collector
 *            loads it with acquire and then sees all of those writes.
 *
 * While they differ, the collector keeps its hands off: an owner in a long operation loses nothing,
 * its values only belong to a later interval.
 */
/* SPDX-License-Identifier: MIT */
#include "internal.h"

#include <poolproof/harness/case.h>
#include <poolproof/harness/load.h>

#include <stdatomic.h>
#include <string.h>

struct harness_recorder {
	_Atomic unsigned wanted;
	_Alignas(64) _Atomic unsigned writing;
	unsigned tag_count;
	unsigned char *tags; /* The run's number of each tag. */
	size_t size;
	struct harness_histogram *halves[2];
};

static const char *const fixed_tags[TAG_NAMED] = {
	[TAG_OPERATION] = "operation",     [TAG_SERVICE] = "service",
	[TAG_LAG] = "generator.lag",       [TAG_WAIT] = "acquire.wait",
	[TAG_TRANSACTION] = "transaction", [TAG_COMMIT] = "commit",
};

/* The run's number for a tag; a new one is entered. SHARED_TAGS: there is no room. Under
 * recorders_lock. */
static unsigned char tag_enter(struct shared *shared, const char *name)
{
	unsigned i = 0;

	while (i < shared->tag_count && strncmp(shared->tags[i], name, SHARED_NAME - 1) != 0)
		i++;
	if (i == shared->tag_count && i < SHARED_TAGS) {
		snprintf(shared->tags[i], SHARED_NAME, "%s", name);
		shared->tag_count++;
	}
	return (unsigned char)i;
}

struct harness_recorder *recorder_new(struct harness_run *run, const struct harness_load *load)
{
	unsigned count = TAG_NAMED + load->operation_count;
	size_t head = (sizeof(struct harness_recorder) + count + 63) & ~(size_t)63;
	size_t size = head + 2 * count * sizeof(struct harness_histogram);
	struct harness_recorder *r = pages_take(size);
	char name[SHARED_NAME];
	bool full = false;

	if (r == NULL)
		return NULL;
	pthread_mutex_lock(&run->recorders_lock);
	r->size = size;
	r->tag_count = count;
	r->tags = (unsigned char *)(r + 1);
	r->halves[0] = (struct harness_histogram *)((char *)r + head);
	r->halves[1] = r->halves[0] + count;
	for (unsigned i = 0; i < TAG_NAMED; i++)
		r->tags[i] = tag_enter(run->shared, fixed_tags[i]);
	for (unsigned i = 0; i < load->operation_count; i++) {
		snprintf(name, sizeof name, "operation.%s", load->operations[i].name);
		r->tags[TAG_NAMED + i] = tag_enter(run->shared, name);
		full |= r->tags[TAG_NAMED + i] == SHARED_TAGS;
		if (full)
			r->tags[TAG_NAMED + i] = SHARED_TAGS - 1;
	}
	pthread_mutex_unlock(&run->recorders_lock);
	if (full)
		harness_distrust(run, "no room for the durations of each operation: %d tags is all",
		                 SHARED_TAGS);
	return r;
}

void recorder_free(struct harness_recorder *recorder)
{
	if (recorder != NULL)
		pages_give(recorder, recorder->size);
}

void recorder_turn(struct harness_recorder *r)
{
	unsigned wanted = atomic_load_explicit(&r->wanted, memory_order_acquire);

	/* Relaxed: nobody but the owner writes it. */
	if (wanted != atomic_load_explicit(&r->writing, memory_order_relaxed))
		atomic_store_explicit(&r->writing, wanted, memory_order_release);
}

void recorder_record(struct harness_recorder *r, unsigned tag, uint64_t value_ns)
{
	if (r == NULL)
		return;
	unsigned half = atomic_load_explicit(&r->writing, memory_order_relaxed);

	harness_histogram_record(&r->halves[half][tag], value_ns);
}

static void collect_half(struct harness_run *run, struct harness_recorder *r, unsigned half)
{
	for (unsigned i = 0; i < r->tag_count; i++) {
		struct harness_histogram *h = &r->halves[half][i];

		if (h->count == 0)
			continue;
		harness_histogram_add(&run->intervals[r->tags[i]], h);
		harness_histogram_clear(h);
	}
}

/* A line for each tag that has something, then into the totals. */
static void write_intervals(struct harness_run *run, double from_s, double to_s)
{
	struct shared *shared = run->shared;

	for (unsigned i = 0; i < shared->tag_count; i++) {
		struct harness_histogram *h = &run->intervals[i];
		const char *line;
		size_t size;

		if (h->count == 0)
			continue;
		size = hlog_line(&run->encoder, shared->tags[i], from_s, to_s - from_s, h, &line);
		record_write(run, run->hlog_fd, "latency.hlog", line, size);
		if (i == TAG_OPERATION)
			atomic_store_explicit(&shared->p99_ns, harness_histogram_percentile(h, 99),
			                      memory_order_relaxed);
		harness_histogram_add(&shared->totals[i], h);
		harness_histogram_clear(h);
	}
}

void recorders_begin(struct harness_run *run, struct harness_recorder *const recorders[],
                     unsigned count)
{
	pthread_mutex_lock(&run->recorders_lock);
	memcpy(run->recorders, recorders, count * sizeof *recorders);
	run->recorder_count = count;
	run->from_s = run->asked_s = run_seconds(run);
	pthread_mutex_unlock(&run->recorders_lock);
}

/* Takes what was set aside, and asks for the next turn. With the lock held. */
static void turn_all(struct harness_run *run)
{
	for (unsigned i = 0; i < run->recorder_count; i++) {
		struct harness_recorder *r = run->recorders[i];
		unsigned wanted = atomic_load_explicit(&r->wanted, memory_order_relaxed);

		if (atomic_load_explicit(&r->writing, memory_order_acquire) != wanted)
			continue;
		collect_half(run, r, !wanted);
		atomic_store_explicit(&r->wanted, !wanted, memory_order_release);
	}
	write_intervals(run, run->from_s, run->asked_s);
	run->from_s = run->asked_s;
	run->asked_s = run_seconds(run);
}

void recorders_tick(struct harness_run *run)
{
	pthread_mutex_lock(&run->recorders_lock);
	if (run->recorder_count > 0)
		turn_all(run);
	pthread_mutex_unlock(&run->recorders_lock);
}

/* The owners are joined, so both halves of each are the collector's. */
void recorders_end(struct harness_run *run)
{
	pthread_mutex_lock(&run->recorders_lock);
	turn_all(run);
	for (unsigned i = 0; i < run->recorder_count; i++) {
		collect_half(run, run->recorders[i], 0);
		collect_half(run, run->recorders[i], 1);
	}
	write_intervals(run, run->from_s, run->asked_s);
	run->recorder_count = 0;
	pthread_mutex_unlock(&run->recorders_lock);
}

/* The fixed tags have the first numbers, whoever is first. */
void harness_duration(struct harness_run *run, const char *tag, uint64_t ns)
{
	unsigned char number;

	pthread_mutex_lock(&run->recorders_lock);
	for (unsigned i = 0; i < TAG_NAMED; i++)
		tag_enter(run->shared, fixed_tags[i]);
	number = tag_enter(run->shared, tag);
	if (number < SHARED_TAGS)
		harness_histogram_record(&run->intervals[number], ns);
	pthread_mutex_unlock(&run->recorders_lock);
	if (number == SHARED_TAGS)
		harness_distrust(run, "no room for the durations '%s': %d tags is all", tag,
		                 SHARED_TAGS);
}

void recorders_flush(struct harness_run *run)
{
	pthread_mutex_lock(&run->recorders_lock);
	write_intervals(run, run->from_s, run_seconds(run));
	run->from_s = run_seconds(run);
	pthread_mutex_unlock(&run->recorders_lock);
}
