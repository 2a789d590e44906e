/*
 * fault.c - plans, places, and the sweep over all of a place's visits.
 *
 * To know before reading: a thread's own plans are in its own memory, so counting costs nothing and
 * orders nothing: a lock or an atomic read-modify-write here would hide races from tsan. Plans for
 * everybody stand in one static set; its counters are atomic, relaxed: each visit has a number of
 * its own and that is all.
 */
/* SPDX-License-Identifier: MIT */
#include "fault_internal.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { WORDS = HARNESS_PLACES_MAX / 64 };

/* Names are literals, or live as long as the process. Written under the lock, before count. */
static const char *names[HARNESS_PLACES_MAX];
static atomic_uint name_count;
static pthread_mutex_t names_lock = PTHREAD_MUTEX_INITIALIZER;

struct armed {
	struct harness_fault *plan;
	uint64_t places[WORDS];
	_Atomic uint64_t visits, hits, benign; /* Everybody's; a thread's own are in the plan. */
};

static _Thread_local struct mine {
	unsigned count;
	struct armed faults[HARNESS_FAULTS_MAX];
} mine;

/* The plans for everybody, of one thread at a time. Released with the count, so whoever sees the
 * count sees the plans; they are taken back when the threads that visit are at rest. */
static struct armed everybody[HARNESS_FAULTS_MAX];
static atomic_uint everybody_count;

static _Thread_local unsigned benign_depth;

unsigned harness_fault_place(const char *name)
{
	unsigned i = 0, count;

	pthread_mutex_lock(&names_lock);
	count = atomic_load_explicit(&name_count, memory_order_relaxed);
	while (i < count && strcmp(names[i], name) != 0)
		i++;
	if (i == count) {
		assert(count < HARNESS_PLACES_MAX);
		names[count] = name;
		atomic_store_explicit(&name_count, count + 1, memory_order_release);
	}
	pthread_mutex_unlock(&names_lock);
	return i;
}

const char *harness_fault_place_name(unsigned place)
{
	assert(place < atomic_load_explicit(&name_count, memory_order_acquire));
	return names[place];
}

static bool place_matches(const char *pattern, const char *name)
{
	size_t length = strlen(pattern);

	if (length > 0 && pattern[length - 1] == '*')
		return strncmp(pattern, name, length - 1) == 0;
	return strcmp(pattern, name) == 0;
}

/* A place that is not there could not be hit, and the test would pass for nothing. */
static void arm_one(struct armed *a, struct harness_fault *plan)
{
	unsigned count = atomic_load_explicit(&name_count, memory_order_acquire), found = 0;

	*a = (struct armed){ .plan = plan };
	plan->visits = plan->hits = plan->benign = 0;
	plan->hit = NULL;
	for (unsigned i = 0; i < count; i++)
		if (place_matches(plan->place, names[i])) {
			a->places[i / 64] |= UINT64_C(1) << i % 64;
			found++;
		}
	assert(found > 0 && "no such place");
}

void harness_fault_arm(struct harness_fault faults[], unsigned count)
{
	unsigned shared = 0;

	assert(mine.count == 0 && count <= HARNESS_FAULTS_MAX);
	for (unsigned i = 0; i < count; i++) {
		struct harness_fault *f = &faults[i];

		if (f->any_thread)
			arm_one(&everybody[shared++], f);
		else
			arm_one(&mine.faults[mine.count++], f);
	}
	if (shared > 0) {
		assert(atomic_load(&everybody_count) == 0);
		atomic_store_explicit(&everybody_count, shared, memory_order_release);
	}
}

void harness_fault_disarm(void)
{
	unsigned shared = atomic_exchange(&everybody_count, 0);

	mine.count = 0;
	for (unsigned i = 0; i < shared; i++) {
		everybody[i].plan->visits = atomic_load(&everybody[i].visits);
		everybody[i].plan->hits = atomic_load(&everybody[i].hits);
		everybody[i].plan->benign = atomic_load(&everybody[i].benign);
	}
}

static bool is_due(const struct harness_fault *plan, uint64_t visit)
{
	uint64_t times = plan->times == 0 ? 1 : plan->times;

	return visit >= plan->skip && visit - plan->skip < times;
}

static int act(const struct harness_fault *plan)
{
	switch (plan->action) {
	case HARNESS_FAULT_FAIL:
		return plan->error != 0 ? plan->error : EIO;
	case HARNESS_FAULT_SHORT:
		return HARNESS_FAULT_PART;
	case HARNESS_FAULT_KILL:
		kill(getpid(), SIGKILL);
		for (;;)
			pause();
	case HARNESS_FAULT_DELAY:
		nanosleep(&(struct timespec){ .tv_sec = plan->delay_us / 1000000,
		                              .tv_nsec = plan->delay_us % 1000000 * 1000L },
		          NULL);
		return 0;
	case HARNESS_FAULT_CALL:
		plan->call(plan->context);
		return 0;
	}
	return 0;
}

static bool has_place(const struct armed *a, unsigned place)
{
	return (a->places[place / 64] >> place % 64 & 1) != 0;
}

static bool visit_mine(struct armed *a, unsigned place)
{
	struct harness_fault *plan = a->plan;

	if (!has_place(a, place) || !is_due(plan, plan->visits++))
		return false;
	if (plan->hits++ == 0)
		plan->hit = names[place];
	plan->benign += benign_depth > 0;
	return true;
}

static bool visit_everybody(struct armed *a, unsigned place)
{
	if (!has_place(a, place) ||
	    !is_due(a->plan, atomic_fetch_add_explicit(&a->visits, 1, memory_order_relaxed)))
		return false;
	if (atomic_fetch_add_explicit(&a->hits, 1, memory_order_relaxed) == 0)
		a->plan->hit = names[place];
	if (benign_depth > 0)
		atomic_fetch_add_explicit(&a->benign, 1, memory_order_relaxed);
	return true;
}

/* Every plan counts the visit; the first that is due decides. What a CALL visits itself is counted
 * like anything else. */
int harness_fault_visit(unsigned place)
{
	unsigned shared = atomic_load_explicit(&everybody_count, memory_order_acquire);
	const struct harness_fault *due = NULL;

	if (mine.count == 0 && shared == 0)
		return 0;
	for (unsigned i = 0; i < mine.count; i++)
		if (visit_mine(&mine.faults[i], place) && due == NULL)
			due = mine.faults[i].plan;
	for (unsigned i = 0; i < shared; i++)
		if (visit_everybody(&everybody[i], place) && due == NULL)
			due = everybody[i].plan;
	return due != NULL ? act(due) : 0;
}

void fault_benign_begin(void)
{
	benign_depth++;
}

void fault_benign_end(void)
{
	benign_depth--;
}

/* --- The sweep ---------------------------------------------------------------------------- */

bool harness_sweep_next(struct harness_sweep *s)
{
	if (s->began && s->plans[0].hits == 0)
		return false;
	if (s->began)
		s->plans[0].skip += s->stride > 0 ? s->stride : 1;
	s->began = true;
	s->rounds++;
	return true;
}

void harness_sweep_arm(struct harness_sweep *s)
{
	harness_fault_arm(s->plans, s->plans[1].place != NULL ? 2 : 1);
	s->armed = true;
}

void harness_sweep_disarm(struct harness_sweep *s)
{
	assert(s->armed);
	harness_fault_disarm();
	s->armed = false;
	s->hits += s->plans[0].hits;
}
