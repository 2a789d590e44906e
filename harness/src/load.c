/*
 * load.c - threads that run operations: when each is due, which it is, how long it took.
 *
 * Latency counts from when an operation was due. In a closed loop that is when it starts; in an
 * open loop it is the schedule's time, so that a stall shows in every operation it delayed. The
 * generator's own lateness (a thread that was free and woke too late) is kept apart: it is an
 * error of the measuring, not of what is measured.
 */
/* SPDX-License-Identifier: MIT */
#include "internal.h"

#include <poolproof/harness/load.h>

#include <math.h>
#include <string.h>
#include <sys/prctl.h>

/* A thread looks this often whether it is to stop while it waits for its next operation. */
#define NAP_NS UINT64_C(50000000)

/* When the time of an open loop is over, what is due already is still started for this long, or for
 * a tenth of the time where that is less: the queue of a moment is no overload. */
#define DRAIN_NS_MAX UINT64_C(100000000)

struct loader {
	struct harness_worker worker;
	const struct harness_load *load;
	struct shared_slot *slot;
	pthread_barrier_t *start;
	const uint64_t *start_ns; /* Set before the barrier opens. */
	uint64_t weight_sum, seed;
	uint64_t done;    /* Operations of this load. */
	uint64_t dropped; /* Were due before the end and never started; open loop. */
	double due_s;     /* Since start_ns; of the next operation, Poisson. */
	uint64_t counts[SHARED_OPERATIONS], errors[SHARED_OPERATIONS];
	struct own_thread thread;
};

/* A chained hash: the order counts, not only the set. */
void harness_choose(struct harness_worker *worker, uint64_t what)
{
	uint64_t x = (worker->digest ^ what) * 0x9e3779b97f4a7c15U;

	worker->digest = (x ^ x >> 29) * 0xbf58476d1ce4e5b9U + 1;
}

static unsigned choose_operation(struct loader *l)
{
	uint64_t left = (uint64_t)harness_entropy_uniform(&l->worker.entropy, 0,
	                                                  (int64_t)l->weight_sum - 1);
	unsigned i = 0;

	while (left >= l->load->operations[i].weight)
		left -= l->load->operations[i++].weight;
	harness_choose(&l->worker, i);
	return i;
}

static void book_error(struct loader *l, unsigned operation, const struct harness_failure *failure)
{
	struct harness_run *run = l->worker.run;
	unsigned kind =
		failure->kind < HARNESS_FAILURE_KINDS ? failure->kind : HARNESS_FAILURE_OTHER;
	char *first = run->shared->error_first[kind];

	l->errors[operation]++;
	if (atomic_fetch_add_explicit(&run->shared->errors[kind], 1, memory_order_relaxed) != 0)
		return;
	snprintf(first, sizeof run->shared->error_first[kind], "%.*s",
	         (int)sizeof failure->text - 1, failure->text);
	one_line(first);
	harness_event(run, "error", "%s: %s", l->load->operations[operation].name, first);
}

/* One operation, due at due_ns (0: now). free_ns is when the thread had nothing else to do.
 * Returns when it ended. */
static uint64_t perform(struct loader *l, uint64_t due_ns, uint64_t free_ns)
{
	struct harness_worker *w = &l->worker;
	struct harness_failure failure = { .kind = HARNESS_FAILURE_OTHER };
	uint64_t began, ended;
	unsigned i;
	bool ok;

	recorder_turn(w->recorder);
	harness_entropy_init(&w->entropy, l->seed, w->thread, w->index);
	i = choose_operation(l);
	began = now_ns();
	atomic_store_explicit(&l->slot->inside, 1, memory_order_relaxed);
	ok = l->load->operations[i].run(w, l->load->operations[i].context, &failure);
	ended = now_ns();
	atomic_store_explicit(&l->slot->inside, 0, memory_order_relaxed);
	atomic_store_explicit(&l->slot->finished,
	                      atomic_load_explicit(&l->slot->finished, memory_order_relaxed) + 1,
	                      memory_order_relaxed);
	if (due_ns == 0)
		due_ns = began;
	else
		recorder_record(w->recorder, TAG_LAG,
		                began - (free_ns > due_ns ? free_ns : due_ns));
	recorder_record(w->recorder, TAG_OPERATION, ended - due_ns);
	recorder_record(w->recorder, TAG_NAMED + i, ended - due_ns);
	recorder_record(w->recorder, TAG_SERVICE, ended - began);
	l->counts[i]++;
	if (!ok)
		book_error(l, i, &failure);
	l->done++;
	w->index++;
	return ended;
}

static bool stopped(const struct loader *l)
{
	return atomic_load_explicit(&l->worker.run->shared->stop, memory_order_relaxed) != 0;
}

/* Seconds after the start at which this thread's next operation is due. */
static double next_due(struct loader *l)
{
	const struct harness_load *load = l->load;
	double gap = load->threads / load->rate_per_s;
	struct harness_entropy e;

	if (!load->poisson) /* Threads take turns; computed anew, so that no error adds up. */
		return (l->worker.thread + (double)l->done * load->threads) / load->rate_per_s;
	/* A stream apart from the operation's own. */
	harness_entropy_init(&e, l->seed, UINT64_C(1) << 32 | l->worker.thread, l->worker.index);
	return l->due_s += -log1p(-harness_entropy_unit(&e)) * gap;
}

/* Sleeps until due_ns; false: the run is to stop. */
static bool sleep_until(const struct loader *l, uint64_t due_ns)
{
	for (uint64_t now = now_ns(); now < due_ns && !stopped(l); now = now_ns()) {
		uint64_t wake = due_ns - now > NAP_NS ? now + NAP_NS : due_ns;
		struct timespec t = { .tv_sec = (time_t)(wake / 1000000000),
			              .tv_nsec = (long)(wake % 1000000000) };

		clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
	}
	return !stopped(l);
}

static bool more(const struct loader *l)
{
	return l->load->operations_per_thread == 0 || l->done < l->load->operations_per_thread;
}

static void closed_loop(struct loader *l, uint64_t end_ns)
{
	uint64_t now = now_ns();

	while (now < end_ns && more(l) && !stopped(l))
		now = perform(l, 0, 0);
}

/* How many are due from due_s to the end; of random gaps, as many as there are on average. */
static uint64_t still_due(const struct loader *l, double due_s)
{
	const struct harness_load *load = l->load;
	/* 1e-6 for what binary fractions make of a whole number. */
	double left = ceil((load->seconds - due_s) * load->rate_per_s / load->threads - 1e-6);
	uint64_t count = left < 1 ? 1 : (uint64_t)left;

	if (load->operations_per_thread > 0 && count > load->operations_per_thread - l->done)
		count = load->operations_per_thread - l->done;
	return count;
}

static void open_loop(struct loader *l, uint64_t end_ns)
{
	uint64_t free_ns = 0, drained_ns = end_ns;

	if (end_ns != UINT64_MAX) {
		uint64_t tenth_ns = (end_ns - *l->start_ns) / 10;

		drained_ns += tenth_ns < DRAIN_NS_MAX ? tenth_ns : DRAIN_NS_MAX;
	}
	while (more(l)) {
		double due_s = next_due(l);
		uint64_t due_ns = *l->start_ns + (uint64_t)(due_s * 1e9);

		if (due_ns >= end_ns)
			return;
		/* Not the clock: a thread that was free in time and woke late starts late. */
		if (free_ns >= drained_ns) {
			l->dropped = still_due(l, due_s);
			return;
		}
		if (!sleep_until(l, due_ns))
			return;
		free_ns = perform(l, due_ns, free_ns);
	}
}

static void *loader_main(void *context)
{
	struct loader *l = context;
	uint64_t end_ns = UINT64_MAX;

	/* The kernel may wake a sleeper 50 us late to save power, unless told not to. */
	prctl(PR_SET_TIMERSLACK, 1UL);
	pthread_barrier_wait(l->start); /* All are here ... */
	pthread_barrier_wait(l->start); /* ... and the clock was read. */
	if (l->load->seconds > 0)
		end_ns = *l->start_ns + (uint64_t)(l->load->seconds * 1e9);
	if (l->load->rate_per_s > 0)
		open_loop(l, end_ns);
	else
		closed_loop(l, end_ns);
	return NULL;
}

static const char *wrong_with(const struct harness_load *load, uint64_t *ret_weight_sum)
{
	*ret_weight_sum = 0;
	if (load->threads < 1 || load->threads > SHARED_THREADS)
		return "threads must be 1..256";
	if (load->operation_count < 1 || load->operation_count > SHARED_OPERATIONS)
		return "there must be 1..32 operations";
	for (unsigned i = 0; i < load->operation_count; i++)
		*ret_weight_sum += load->operations[i].weight;
	if (*ret_weight_sum == 0)
		return "every operation has weight 0";
	if (!(load->seconds > 0) && load->operations_per_thread == 0)
		return "neither seconds nor operations_per_thread says when it ends";
	return NULL;
}

static bool loader_init(struct loader *l, struct harness_run *run, const struct harness_load *load,
                        unsigned thread)
{
	struct shared_slot *slot = &run->shared->slots[thread];

	l->load = load;
	l->slot = slot;
	l->seed = run->options.seed;
	l->worker = (struct harness_worker){
		.run = run,
		.target = run->target,
		.target_state = run->target_state,
		.thread = thread,
		.index = slot->next_index,
		.timeout_ns = (uint64_t)run->options.timeout_ms * 1000000,
		.digest = slot->digest,
		.recorder = recorder_new(run, load),
	};
	return l->worker.recorder != NULL;
}

/* Into the run's table, by name: a second load with the same operation adds to it. */
static void book_operations(struct shared *shared, const struct loader *l)
{
	for (unsigned i = 0; i < l->load->operation_count; i++) {
		const char *name = l->load->operations[i].name;
		unsigned at = 0;

		while (at < shared->operation_count &&
		       strcmp(shared->operations[at].name, name) != 0)
			at++;
		if (at == shared->operation_count) {
			snprintf(shared->operations[at].name, SHARED_NAME, "%s", name);
			shared->operation_count++;
		}
		shared->operations[at].count += l->counts[i];
		shared->operations[at].errors += l->errors[i];
	}
}

/* Whether the operations of all loads of a run, by name, find room in its tables. */
static bool operations_fit(const struct shared *shared, const struct harness_load *load)
{
	unsigned fresh = 0;

	for (unsigned i = 0; i < load->operation_count; i++) {
		unsigned at = 0;

		while (at < shared->operation_count &&
		       strcmp(shared->operations[at].name, load->operations[i].name) != 0)
			at++;
		fresh += at == shared->operation_count;
	}
	return shared->operation_count + fresh <= SHARED_OPERATIONS;
}

static void phase_begin(struct harness_run *run, const struct harness_load *load)
{
	struct shared *shared = run->shared;

	snprintf(shared->phase, sizeof shared->phase, "%s",
	         load->phase != NULL ? load->phase : "load");
	shared->phase_seconds = load->seconds;
	shared->phase_start_ns = now_ns();
	shared->load_count++;
	shared->open_loop |= load->rate_per_s > 0;
	atomic_store(&shared->loading, 1);
	harness_event(run, "phase", "%s begins", shared->phase);
}

static void phase_end(struct harness_run *run)
{
	struct shared *shared = run->shared;

	atomic_store(&shared->loading, 0);
	shared->load_seconds += (double)(now_ns() - shared->phase_start_ns) / 1e9;
	harness_event(run, "phase", "%s ends", shared->phase);
	target_check(run);
}

/* Starts the threads, lets them go at one moment, and waits for all. */
static void run_loaders(struct harness_run *run, struct loader *loaders, unsigned count)
{
	uint64_t start_ns = 0;
	pthread_barrier_t start;

	pthread_barrier_init(&start, NULL, count + 1);
	for (unsigned i = 0; i < count; i++) {
		loaders[i].start = &start;
		loaders[i].start_ns = &start_ns;
		/* Those before it wait at the barrier, and end with the process. */
		if (!own_thread_start(&loaders[i].thread, loader_main, &loaders[i]))
			harness_cannot(run,
			               "--threads %u: the system gave only %u; use fewer, or "
			               "raise its limit on processes",
			               count, i);
	}
	pthread_barrier_wait(&start);
	start_ns = now_ns();
	pthread_barrier_wait(&start);
	for (unsigned i = 0; i < count; i++)
		own_thread_join(&loaders[i].thread);
	pthread_barrier_destroy(&start);
}

static void loader_done(struct loader *l)
{
	struct shared *shared = l->worker.run->shared;

	l->slot->digest = l->worker.digest;
	l->slot->next_index = l->worker.index;
	book_operations(shared, l);
	if (l->load->rate_per_s > 0) {
		shared->open_due += l->done + l->dropped;
		shared->open_dropped += l->dropped;
	}
	recorder_free(l->worker.recorder);
}

bool harness_load_run(struct harness_run *run, const struct harness_load *load)
{
	struct harness_recorder *recorders[SHARED_THREADS];
	struct loader *loaders;
	uint64_t weight_sum;
	const char *wrong = wrong_with(load, &weight_sum);

	if (wrong == NULL && !operations_fit(run->shared, load))
		wrong = "a run has at most 32 operations in all";
	if (wrong != NULL)
		harness_cannot(run, "load %s: %s", load->phase != NULL ? load->phase : "", wrong);
	loaders = pages_take(load->threads * sizeof *loaders);
	for (unsigned i = 0; i < load->threads; i++) {
		if (loaders == NULL || !loader_init(&loaders[i], run, load, i))
			harness_cannot(run,
			               "--threads %u: no memory for their histograms; use fewer",
			               load->threads);
		loaders[i].weight_sum = weight_sum;
		recorders[i] = loaders[i].worker.recorder;
	}
	recorders_begin(run, recorders, load->threads);
	phase_begin(run, load);
	run_loaders(run, loaders, load->threads);
	recorders_end(run);
	for (unsigned i = 0; i < load->threads; i++)
		loader_done(&loaders[i]);
	pages_give(loaders, load->threads * sizeof *loaders);
	phase_end(run);
	return atomic_load(&run->shared->stop) == 0;
}
