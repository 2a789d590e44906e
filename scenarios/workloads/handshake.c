/* handshake.c - is a wake-up lost? */
/* SPDX-License-Identifier: MIT */
#include "handshake.h"

#include "borrow.h"

#include <poolproof/harness/case.h>
#include <poolproof/harness/entropy.h>
#include <poolproof/harness/oracle.h>
#include <poolproof/pool.h>

#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>

enum { FAR_MS = 60000, PATIENCE_MS = 3000, SPINS = 300, POLITE = 2000 };

struct pair {
	struct harness_run *run;
	struct pp_pool *pool;
	uint64_t until_ns, seed;
	atomic_uint_least64_t arrived,
		last; /* Of both, in all rounds; the round that is not played. */
};

struct side {
	struct pair *pair;
	unsigned number;
	struct pp_lease lease;
};

/* Both go on from here at once, each a few instructions later or earlier. */
static bool meet(struct side *s, uint64_t round)
{
	struct pair *p = s->pair;
	struct harness_entropy entropy;
	int64_t spins;

	harness_entropy_init(&entropy, p->seed, s->number, round);
	spins = harness_entropy_uniform(&entropy, 0, SPINS);
	atomic_fetch_add(&p->arrived, 1);
	for (unsigned n = 0; atomic_load(&p->arrived) < 2 * (round + 1); n++)
		if (n > POLITE)
			sched_yield();
	for (volatile int64_t n = 0; n < spins; n++)
		;
	return round < atomic_load(&p->last);
}

/* Who was missed finds the connection when his own time is over, and has it then. */
static bool acquire_soon(struct side *s)
{
	struct harness_run *run = s->pair->run;
	uint64_t asked = harness_now_ns(), took;
	enum pp_status status =
		pp_acquire(s->pair->pool, PP_READ, pp_in_ms(PATIENCE_MS), &s->lease, NULL);

	took = harness_now_ns() - asked;
	harness_step(run);
	if (status == PP_OK && took <= harness_lateness_ns())
		return true;
	harness_case_fail(run,
	                  "%s after %.0f ms, with the connection idle: it was given back in the "
	                  "instant in which one came to wait, and the wake-up was lost",
	                  pp_status_name(status), (double)took / 1e6);
	return false;
}

/* Each on a processor of its own, else they never meet; with one processor they do by chance. */
static void settle(unsigned number)
{
	cpu_set_t mine, one;
	unsigned found = 0;

	CPU_ZERO(&one);
	if (pthread_getaffinity_np(pthread_self(), sizeof mine, &mine) != 0)
		return;
	for (int i = 0; i < CPU_SETSIZE; i++)
		if (CPU_ISSET(i, &mine) && found++ == number)
			CPU_SET(i, &one);
	if (CPU_COUNT(&one) == 1)
		pthread_setaffinity_np(pthread_self(), sizeof one, &one);
}

static void *play(void *context)
{
	struct side *s = context;
	struct pair *p = s->pair;

	settle(s->number);
	if (s->number == 0 && !acquire_soon(s))
		return NULL;
	for (uint64_t round = 0;; round++) {
		if (s->number == 0 && harness_now_ns() >= p->until_ns)
			atomic_store(&p->last, round);
		if (!meet(s, round))
			break;
		if (round % 2 == s->number)
			pp_release(&s->lease);
		else if (!acquire_soon(s))
			atomic_store(&p->last, round + 1);
	}
	pp_release(&s->lease);
	return NULL;
}

static void play_both(struct pair *p)
{
	struct side sides[2] = { { .pair = p, .number = 0 }, { .pair = p, .number = 1 } };
	struct pp_stats stats;
	pthread_t others[2];

	if (pthread_create(&others[0], NULL, play, &sides[0]) != 0 ||
	    pthread_create(&others[1], NULL, play, &sides[1]) != 0)
		harness_cannot(p->run, "no more threads; raise the limit");
	pthread_join(others[0], NULL);
	pthread_join(others[1], NULL);
	pp_stats_read(p->pool, &stats);
	harness_number(p->run, "handshakes_count", (double)atomic_load(&p->arrived) / 2);
	harness_number(p->run, "handshakes.waits_count", (double)stats.read.waits);
}

void handshake_run(struct harness_run *run, double seconds)
{
	struct pair p = { .run = run, .last = UINT64_MAX };
	char path[PATH_MAX];
	struct harness_entropy entropy;
	struct pp_error error;

	if (!harness_case_begin(run, "one waiter, one giver"))
		return;
	harness_entropy_init(&entropy, harness_run_options(run)->seed, 2, 0);
	p.seed = harness_entropy_next(&entropy);
	harness_case_choose(run, p.seed);
	snprintf(path, sizeof path, "%s/handshake.db", harness_run_work(run));
	borrow_create(run, path);
	if (pp_open(&(struct pp_config){ .path = path,
	                                 .readers = 1,
	                                 .overtake_ms = FAR_MS,
	                                 .grow_ms = FAR_MS,
	                                 .keeper = PP_KEEPER_MANUAL },
	            &p.pool, &error) != PP_OK)
		harness_cannot(run, "%s: %s; is the disk full?", path, error.message);
	p.until_ns = harness_now_ns() + (uint64_t)(seconds * 1e9);
	harness_target_show(run, p.pool);
	play_both(&p);
	harness_target_show(run, NULL);
	if (pp_close(p.pool, pp_in_ms(3000), NULL) != PP_OK)
		harness_case_fail(run, "the pool cannot be closed");
	borrow_remove(path);
	harness_case_note(run, "over");
	harness_case_end(run);
}
