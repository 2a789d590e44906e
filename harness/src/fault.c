/*
 * fault.c - plans, places, and the sweep over all of a place's visits.
 *
 * To know before reading: a thread's own plans are in its own memory, so counting costs nothing and
 * orders nothing; a lock here would hide races from tsan. Plans for everybody are copied into one
 * static set, and two numbers guard it:
 *
 *   entered  How many plans there are, and how many visits have come to them. Whoever arms stores
 *            it with release, a visit adds itself with acquire: so it sees the plans.
 *   left     How many of these visits are through; each adds itself with release. Whoever disarms
 *            takes the plans out of entered and waits, with acquire, until left has caught up: so
 *            nobody reads plans that are written anew.
 *
 * A visit only ever acquires from who arms and releases to who disarms. Nothing orders two visits.
 */
/* SPDX-License-Identifier: MIT */
#include "fault_internal.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#ifdef PP_COVERAGE
#include <gcov.h>
#endif

enum { WORDS = HARNESS_PLACES_MAX / 64, COUNT_SHIFT = 56 };

/* Names are literals, or live as long as the process. Written under the lock, before count. */
static const char *names[HARNESS_PLACES_MAX];
static atomic_uint name_count;
static pthread_mutex_t names_lock = PTHREAD_MUTEX_INITIALIZER;

struct armed {
	struct harness_fault *plan;
	uint64_t places[WORDS];
};

static _Thread_local struct mine {
	unsigned count;
	unsigned round; /* Of everybody's, which this thread has armed; 0: none. */
	struct armed faults[HARNESS_FAULTS_MAX];
} mine;

/* The plans for everybody, of one thread at a time. The counters are relaxed: each visit has a
 * number of its own, and that is all. */
static struct {
	_Atomic uint64_t entered; /* Plans << COUNT_SHIFT | visits. */
	_Atomic uint64_t left;
	atomic_uint
		round; /* How often they were armed: who arms again and who disarms may differ. */
	struct shared_plan {
		struct armed armed;
		struct harness_fault copy; /* The caller's is his again before a late visit. */
		_Atomic uint64_t visits, hits, benign;
		_Atomic unsigned hit; /* The place of the first hit. */
	} faults[HARNESS_FAULTS_MAX];
} everybody;

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

static void arm_for_everybody(struct shared_plan *p, struct harness_fault *plan)
{
	arm_one(&p->armed, plan);
	p->copy = *plan;
	atomic_store_explicit(&p->visits, 0, memory_order_relaxed);
	atomic_store_explicit(&p->hits, 0, memory_order_relaxed);
	atomic_store_explicit(&p->benign, 0, memory_order_relaxed);
}

static bool has_armed_everybodys(void)
{
	return mine.round != 0 && mine.round == atomic_load(&everybody.round) &&
	       atomic_load(&everybody.entered) >> COUNT_SHIFT != 0;
}

void harness_fault_arm(struct harness_fault faults[], unsigned count)
{
	uint64_t shared = 0;

	assert(mine.count == 0 && !has_armed_everybodys() && count <= HARNESS_FAULTS_MAX);
	for (unsigned i = 0; i < count; i++) {
		struct harness_fault *f = &faults[i];

		if (!f->any_thread) {
			arm_one(&mine.faults[mine.count++], f);
			continue;
		}
		assert(atomic_load(&everybody.entered) >> COUNT_SHIFT == 0 && "another thread's");
		arm_for_everybody(&everybody.faults[shared++], f);
	}
	if (shared == 0)
		return;
	mine.round = atomic_fetch_add(&everybody.round, 1) + 1;
	atomic_store_explicit(&everybody.left, 0, memory_order_relaxed);
	atomic_store_explicit(&everybody.entered, shared << COUNT_SHIFT, memory_order_release);
}

void harness_fault_disarm_everybodys(void)
{
	uint64_t entered = atomic_exchange_explicit(&everybody.entered, 0, memory_order_relaxed);
	uint64_t visits = entered & ((UINT64_C(1) << COUNT_SHIFT) - 1);

	while (atomic_load_explicit(&everybody.left, memory_order_acquire) != visits)
		sched_yield();
	for (unsigned i = 0; i < entered >> COUNT_SHIFT; i++) {
		struct shared_plan *p = &everybody.faults[i];
		struct harness_fault *plan = p->armed.plan;

		plan->visits = atomic_load_explicit(&p->visits, memory_order_relaxed);
		plan->hits = atomic_load_explicit(&p->hits, memory_order_relaxed);
		plan->benign = atomic_load_explicit(&p->benign, memory_order_relaxed);
		if (plan->hits > 0)
			plan->hit = names[atomic_load_explicit(&p->hit, memory_order_relaxed)];
	}
}

void harness_fault_disarm(void)
{
	mine.count = 0;
	if (has_armed_everybodys())
		harness_fault_disarm_everybodys();
}

static bool is_due(const struct harness_fault *plan, uint64_t visit)
{
	uint64_t times = plan->times == 0 ? 1 : plan->times;

	return visit >= plan->skip && visit - plan->skip < times;
}

static _Noreturn void die(void)
{
#ifdef PP_COVERAGE
	__gcov_dump(); /* What was counted would be lost. */
#endif
	kill(getpid(), SIGKILL);
	for (;;)
		pause();
}

static void delay(unsigned us)
{
	struct timespec left = { .tv_sec = us / 1000000, .tv_nsec = us % 1000000 * 1000L };

	while (nanosleep(&left, &left) != 0 && errno == EINTR)
		continue;
}

static int act(const struct harness_fault *plan)
{
	switch (plan->action) {
	case HARNESS_FAULT_FAIL:
		return plan->error != 0 ? plan->error : EIO;
	case HARNESS_FAULT_SHORT:
		return HARNESS_FAULT_PART;
	case HARNESS_FAULT_KILL:
		die();
	case HARNESS_FAULT_DELAY:
		delay(plan->delay_us);
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

static bool visit_shared(struct shared_plan *p, unsigned place)
{
	if (!has_place(&p->armed, place) ||
	    !is_due(&p->copy, atomic_fetch_add_explicit(&p->visits, 1, memory_order_relaxed)))
		return false;
	if (atomic_fetch_add_explicit(&p->hits, 1, memory_order_relaxed) == 0)
		atomic_store_explicit(&p->hit, place, memory_order_relaxed);
	if (benign_depth > 0)
		atomic_fetch_add_explicit(&p->benign, 1, memory_order_relaxed);
	return true;
}

/* The first that is due goes into *ret_due, unless another is there already. */
static void visit_everybodys(unsigned place, struct harness_fault *ret_due, bool *is_hit)
{
	uint64_t entered = atomic_fetch_add_explicit(&everybody.entered, 1, memory_order_acquire);

	if (entered >> COUNT_SHIFT == 0)
		return; /* They were taken away in the same instant. */
	for (unsigned i = 0; i < entered >> COUNT_SHIFT; i++)
		if (visit_shared(&everybody.faults[i], place) && !*is_hit) {
			*ret_due = everybody.faults[i].copy;
			*is_hit = true;
		}
	atomic_fetch_add_explicit(&everybody.left, 1, memory_order_release);
}

/* Every plan counts the visit; the first that is due decides. What a CALL visits itself is counted
 * like anything else. */
int harness_fault_visit(unsigned place)
{
	uint64_t shared = atomic_load_explicit(&everybody.entered, memory_order_relaxed);
	struct harness_fault due;
	bool is_hit = false;

	for (unsigned i = 0; i < mine.count; i++)
		if (visit_mine(&mine.faults[i], place) && !is_hit) {
			due = *mine.faults[i].plan;
			is_hit = true;
		}
	if (shared >> COUNT_SHIFT != 0)
		visit_everybodys(place, &due, &is_hit);
	return is_hit ? act(&due) : 0;
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

/* A round in which nothing was armed (its case was not wanted) tells nothing of how many there are,
 * so after so many of them in a row there are no more. */
enum { BLIND_ROUNDS_MAX = 100000 };

bool harness_sweep_next(struct harness_sweep *s)
{
	bool was_armed = s->blind_rounds == 0;

	if (s->began && was_armed && s->round_hits == 0)
		return false;
	if (s->began)
		s->plans[0].skip += s->stride > 0 ? s->stride : 1;
	s->began = true;
	s->round_hits = 0;
	return s->blind_rounds++ < BLIND_ROUNDS_MAX;
}

void harness_sweep_arm(struct harness_sweep *s)
{
	harness_fault_arm(s->plans, s->plans[1].place != NULL ? 2 : 1);
	s->armed = true;
	s->rounds += s->blind_rounds != 0;
	s->blind_rounds = 0;
}

void harness_sweep_disarm(struct harness_sweep *s)
{
	assert(s->armed);
	harness_fault_disarm();
	s->armed = false;
	s->round_hits += s->plans[0].hits;
	s->hits += s->plans[0].hits;
}
