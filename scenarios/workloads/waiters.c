/* waiters.c - who asks, for how long, and what he does with what he gets. */
/* SPDX-License-Identifier: MIT */
#include "waiters.h"

#include <poolproof/harness/case.h>
#include <poolproof/harness/entropy.h>
#include <poolproof/harness/oracle.h>
#include <poolproof/harness/target.h>

#include <pthread.h>
#include <time.h>

enum { THREADS_MAX = WAITERS_MAX + NEWCOMERS + 2, PATIENCES = 3 };

static const unsigned patience_ms[PATIENCES] = { 1, 50, 3000 };

struct person {
	struct waiters *of;
	unsigned thread, lane, patience_ms;
	unsigned hold_us, pause_us; /* At most. */
	struct harness_entropy entropy;
};

static void rest(struct person *p, unsigned us_max)
{
	int64_t us = us_max > 0 ? harness_entropy_uniform(&p->entropy, us_max / 2, us_max) : 0;

	if (us > 0)
		nanosleep(&(struct timespec){ .tv_nsec = us * 1000 }, NULL);
}

/* A quarter of the waiters write; they do something else between two loans, newcomers do not. Among
 * each three one has little patience, one more, one much. */
static struct person person_of(struct waiters *w, unsigned thread)
{
	unsigned newcomer = thread - w->waiters;
	struct person p = { .of = w, .thread = thread, .patience_ms = 3000 };

	if (thread < w->waiters) {
		p.lane = thread / PATIENCES % 4 == 3 ? HARNESS_WRITE : HARNESS_READ;
		p.patience_ms = patience_ms[thread % PATIENCES];
		p.hold_us = 200;
		p.pause_us = p.patience_ms == 1 ? 2000 : 500;
	} else if (newcomer < NEWCOMERS) {
		p.lane = newcomer % 2 == 0 ? HARNESS_READ : HARNESS_WRITE;
	} else {
		p.lane = newcomer == NEWCOMERS ? HARNESS_READ : HARNESS_WRITE;
		p.hold_us = newcomer == NEWCOMERS ? 20000 : 2000;
		p.pause_us = newcomer == NEWCOMERS ? 50000 : 0;
	}
	return p;
}

static void ask_once(struct person *p)
{
	_Alignas(max_align_t) char lease[WAITERS_LEASE_SIZE] = { 0 };
	uint64_t patience_ns = p->patience_ms * UINT64_C(1000000);
	struct grant grant = { .asked_ns = harness_now_ns(), .thread = p->thread, .lane = p->lane };
	bool served = p->of->ask(p->of, p->lane, patience_ns, lease, &grant);

	grant.ended_ns = harness_now_ns();
	harness_deadline_judge(p->of->run, grant.asked_ns, patience_ns, served);
	harness_step(p->of->run);
	if (served) {
		rest(p, p->hold_us);
		grant.back_ns = harness_now_ns();
		p->of->give_back(p->of, lease);
	} else if (p->patience_ms == patience_ms[PATIENCES - 1]) {
		atomic_fetch_add(&p->of->starved, 1);
	}
	if (!grants_add(&grant))
		atomic_store(&p->of->over, true);
}

static void *ask_for_ever(void *context)
{
	struct person *p = context;

	harness_entropy_init(&p->entropy, p->of->seed, p->thread, 0);
	pthread_barrier_wait(&p->of->start);
	while (!atomic_load(&p->of->over)) {
		ask_once(p);
		rest(p, p->pause_us);
	}
	return NULL;
}

void waiters_run(struct waiters *w, double seconds)
{
	static struct person people[THREADS_MAX];
	static pthread_t threads[THREADS_MAX];
	uint64_t until = harness_now_ns() + (uint64_t)(seconds * 1e9);
	unsigned count = w->waiters + NEWCOMERS + 2;

	grants_begin();
	pthread_barrier_init(&w->start, NULL, count);
	for (unsigned i = 0; i < count; i++) {
		people[i] = person_of(w, i);
		if (pthread_create(&threads[i], NULL, ask_for_ever, &people[i]) != 0)
			harness_cannot(w->run, "no more threads; raise the limit");
	}
	harness_target_show(w->run, w->from);
	while (harness_now_ns() < until && !atomic_load(&w->over))
		nanosleep(&(struct timespec){ .tv_nsec = 20000000 }, NULL);
	atomic_store(&w->over, true);
	for (unsigned i = 0; i < count; i++)
		pthread_join(threads[i], NULL);
	harness_target_show(w->run, NULL);
	pthread_barrier_destroy(&w->start);
}

static unsigned fair_lane, fair_waiters;

static bool is_patient(unsigned thread)
{
	return thread < fair_waiters && thread % PATIENCES == PATIENCES - 1 &&
	       (thread / PATIENCES % 4 == 3 ? HARNESS_WRITE : HARNESS_READ) == fair_lane;
}

double waiters_fairness(const struct waiters *w, unsigned lane)
{
	fair_lane = lane;
	fair_waiters = w->waiters;
	return grants_fairness(is_patient, w->waiters);
}
