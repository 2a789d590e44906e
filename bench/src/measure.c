/* measure.c - threads that work, and what they say of it. */
/* SPDX-License-Identifier: MIT */
#include "bench.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <poolproof/harness/histogram.h>

enum phase { WARMING, MEASURING, OVER };
enum { STACK_SIZE = 256 << 10, PATIENCE = 100 };

struct runner;

struct thread {
	_Alignas(128) pthread_t id; /* Two lines: the prefetcher fetches pairs. */
	struct runner *runner;
	unsigned number;
	atomic_uint_least64_t done; /* Relaxed: its own; others only ask whether there is any. */
	struct harness_histogram *latencies;
};

struct runner {
	const struct bench_load *load;
	pthread_barrier_t ready;
	/* Relaxed: who sees it late does one call more or less. */
	_Alignas(128) atomic_int phase;
};

uint64_t bench_now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

void bench_spin_ns(uint64_t ns)
{
	for (uint64_t end = bench_now_ns() + ns; bench_now_ns() < end;)
		;
}

void bench_cannot(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	fputs("bench: ", stderr);
	vfprintf(stderr, format, args);
	fputc('\n', stderr);
	va_end(args);
	exit(4);
}

void bench_figure(struct bench_measurement *m, const char *name, double value)
{
	json_object_set_new(m->figures, name, json_real(value));
}

const char *bench_path(const struct bench_measurement *m, const char *name, char *path,
                       size_t path_size)
{
	snprintf(path, path_size, "%s/%s", m->folder, name);
	return path;
}

/* A call counts when it ended in time; its latency whenever it ended, or the longest were lost. */
static void *thread_body(void *context)
{
	struct thread *thread = context;
	const struct bench_load *load = thread->runner->load;
	atomic_int *phase = &thread->runner->phase;
	int before;

	pthread_barrier_wait(&thread->runner->ready);
	while ((before = atomic_load_explicit(phase, memory_order_relaxed)) != OVER) {
		uint64_t start = load->latencies ? bench_now_ns() : 0;

		load->work(load->context, thread->number, load->count);
		if (before != MEASURING)
			continue;
		if (load->latencies)
			harness_histogram_record(thread->latencies, bench_now_ns() - start);
		if (atomic_load_explicit(phase, memory_order_relaxed) == MEASURING)
			atomic_store_explicit(
				&thread->done,
				atomic_load_explicit(&thread->done, memory_order_relaxed) +
					load->count,
				memory_order_relaxed);
	}
	return NULL;
}

/* As [[slot, count], ...]: what merges over the rounds exactly. */
static json_t *sparse(const struct harness_histogram *h)
{
	json_t *pairs = json_array();

	for (unsigned i = 0; i < h->end; i++)
		if (h->counts[i] != 0)
			json_array_append_new(
				pairs, json_pack("[i, I]", (int)i, (json_int_t)h->counts[i]));
	return pairs;
}

static void say(struct bench_measurement *m, const struct thread *threads, double seconds)
{
	struct harness_histogram *all = calloc(1, sizeof *all);
	uint64_t done = 0, least = UINT64_MAX, most = 0;

	if (all == NULL)
		bench_cannot("no memory");
	for (unsigned i = 0; i < m->row->threads; i++) {
		const struct thread *t = &threads[i];
		uint64_t own = atomic_load(&t->done);

		done += own;
		least = own < least ? own : least;
		most = own > most ? own : most;
		if (t->latencies != NULL)
			harness_histogram_add(all, t->latencies);
	}
	if (done == 0)
		bench_cannot("%s, %s: nothing was done in %.3f s", m->row->name, m->contender->name,
		             seconds);
	bench_figure(m, "operations", (double)done);
	bench_figure(m, "per_s", (double)done / seconds);
	bench_figure(m, "ns", seconds * 1e9 / (double)done);
	if (m->row->threads > 1)
		bench_figure(m, "fairness", (double)least / (double)most);
	if (all->count > 0)
		json_object_set_new(m->figures, "latency", sparse(all));
	free(all);
}

/* Hundreds of threads on a busy machine may need longer than planned to do anything at all. */
static bool any_done(const struct thread *threads, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		if (atomic_load_explicit(&threads[i].done, memory_order_relaxed) > 0)
			return true;
	return false;
}

static void wait_s(double seconds)
{
	struct timespec t = { (time_t)seconds, (long)((seconds - (time_t)seconds) * 1e9) };

	while (nanosleep(&t, &t) != 0 && errno == EINTR)
		;
}

void bench_run(struct bench_measurement *m, const struct bench_load *load)
{
	unsigned count = m->row->threads;
	struct runner runner = { .load = load, .phase = WARMING };
	struct thread *threads = aligned_alloc(128, count * sizeof *threads);
	pthread_attr_t attributes;
	uint64_t start, end;

	if (threads == NULL)
		bench_cannot("no memory for %u threads", count);
	memset(threads, 0, count * sizeof *threads);
	pthread_barrier_init(&runner.ready, NULL, count + 1);
	pthread_attr_init(&attributes);
	pthread_attr_setstacksize(&attributes, STACK_SIZE);
	for (unsigned i = 0; i < count; i++) {
		threads[i].runner = &runner;
		threads[i].number = i;
		if (load->latencies)
			threads[i].latencies = calloc(1, sizeof *threads[i].latencies);
		if (pthread_create(&threads[i].id, &attributes, thread_body, &threads[i]) != 0)
			bench_cannot("thread %u of %u could not be started", i, count);
	}
	pthread_barrier_wait(&runner.ready);
	wait_s(m->seconds / 10);
	start = bench_now_ns();
	atomic_store_explicit(&runner.phase, MEASURING, memory_order_relaxed);
	for (unsigned i = 0; i == 0 || (i < PATIENCE && !any_done(threads, count)); i++)
		wait_s(m->seconds);
	atomic_store_explicit(&runner.phase, OVER, memory_order_relaxed);
	end = bench_now_ns();
	for (unsigned i = 0; i < count; i++)
		pthread_join(threads[i].id, NULL);
	say(m, threads, (double)(end - start) / 1e9);
	for (unsigned i = 0; i < count; i++)
		free(threads[i].latencies);
	free(threads);
}
