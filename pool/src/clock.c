/*
 * clock.c - the one place that reads a clock or sleeps; deadlines and their tokens.
 *
 * To know before reading: time here is the monotonic clock's and what tests have added to it, so
 * that an hour of ageing takes a test no time. Sleeps are real and short.
 */
/* SPDX-License-Identifier: MIT */
#include "internal.h"
#include "point.h"

#include <errno.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { NS_PER_MS = 1000000, NS_PER_S = 1000000000, MS_MAX = 1000000000 };

/* What tests have added. Relaxed: who waits is woken under the lock that he reads it under. */
static atomic_uint_least64_t travelled_ns;

static uint64_t read_clock(clockid_t id)
{
	struct timespec t;

	clock_gettime(id, &t);
	return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec +
	       atomic_load_explicit(&travelled_ns, memory_order_relaxed);
}

static struct timespec timespec_of(uint64_t ns)
{
	return (struct timespec){ (time_t)(ns / NS_PER_S), (long)(ns % NS_PER_S) };
}

uint64_t clock_ns(void)
{
	return read_clock(CLOCK_MONOTONIC);
}

uint64_t clock_coarse_ms(void)
{
	return read_clock(CLOCK_MONOTONIC_COARSE) / NS_PER_MS;
}

void clock_sleep_ns(uint64_t ns)
{
	struct timespec t, until;

	if (point_sleep_ns(ns))
		return;
	clock_gettime(CLOCK_MONOTONIC, &t);
	until = timespec_of((uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec + ns);
	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == EINTR)
		;
}

void clock_cond_init(pthread_cond_t *cond)
{
	pthread_condattr_t attributes;

	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	pthread_cond_init(cond, &attributes);
	pthread_condattr_destroy(&attributes);
}

/* Time has passed until then, and nobody was there who could wake us. */
static bool sleeps_elsewhere(uint64_t until_ns)
{
	uint64_t now;

	if (!point_sleeps())
		return false;
	now = clock_ns();
	return point_sleep_ns(until_ns > now ? until_ns - now : 0);
}

void clock_wait(pthread_cond_t *cond, pthread_mutex_t *mutex, uint64_t until_ns)
{
	uint64_t travelled = atomic_load_explicit(&travelled_ns, memory_order_relaxed);
	struct timespec until = timespec_of(until_ns > travelled ? until_ns - travelled : 0);

	if (until_ns == UINT64_MAX)
		pthread_cond_wait(cond, mutex);
	else if (!sleeps_elsewhere(until_ns))
		pthread_cond_timedwait(cond, mutex, &until);
}

/* It is behind by some milliseconds, more where processors are stolen: who waited for the time
 * itself would find it too early, and wait for nothing, over and over. */
void clock_wait_coarse(pthread_cond_t *cond, pthread_mutex_t *mutex, uint64_t until_ms)
{
	uint64_t now = clock_coarse_ms(), left = until_ms > now ? until_ms - now : 0;

	clock_wait(cond, mutex, left > MS_MAX ? UINT64_MAX : clock_ns() + left * NS_PER_MS);
}

void clock_park(atomic_uint *word, unsigned value, uint64_t until_ns)
{
	uint64_t travelled = atomic_load_explicit(&travelled_ns, memory_order_relaxed);
	struct timespec until = timespec_of(until_ns > travelled ? until_ns - travelled : 0);

	if (until_ns != UINT64_MAX && sleeps_elsewhere(until_ns))
		return;
	syscall(SYS_futex, word, FUTEX_WAIT_BITSET_PRIVATE, value,
	        until_ns == UINT64_MAX ? NULL : &until, NULL, FUTEX_BITSET_MATCH_ANY);
}

void clock_unpark(atomic_uint *word)
{
	syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

#ifdef __SANITIZE_THREAD__
/* tsan does not know pthread_mutex_clocklock(): it would take the lock for not held. */
static int lock_until(pthread_mutex_t *mutex, uint64_t ns)
{
	struct timespec until;
	uint64_t now = clock_ns(), left = ns > now ? ns - now : 0;

	clock_gettime(CLOCK_REALTIME, &until);
	left = left > (uint64_t)NS_PER_S * 1000000 ? (uint64_t)NS_PER_S * 1000000 : left;
	until = timespec_of((uint64_t)until.tv_sec * NS_PER_S + (uint64_t)until.tv_nsec + left);
	return pthread_mutex_timedlock(mutex, &until);
}
#else
static int lock_until(pthread_mutex_t *mutex, uint64_t ns)
{
	uint64_t travelled = atomic_load_explicit(&travelled_ns, memory_order_relaxed);
	struct timespec until = timespec_of(ns > travelled ? ns - travelled : 0);

	return pthread_mutex_clocklock(mutex, CLOCK_MONOTONIC, &until);
}
#endif

bool clock_lock(pthread_mutex_t *mutex, uint64_t until_ns)
{
	return lock_until(mutex, until_ns) == 0;
}

static void look_again(struct pp_pool *pool, void *context)
{
	(void)context;
	for (unsigned l = 0; l < LANES; l++)
		line_wake(&pool->lines[l], NULL);
	group_wake(pool, NULL);
	keeper_poke(pool);
}

void clock_pass_ns(uint64_t ns)
{
	atomic_fetch_add_explicit(&travelled_ns, ns, memory_order_relaxed);
}

void clock_travel_ms(uint64_t ms)
{
	clock_pass_ns(ms * NS_PER_MS);
	pools_visit(look_again, NULL);
}

/* --- Deadlines --------------------------------------------------------------------------- */

struct pp_deadline pp_in_ms(uint64_t timeout_ms)
{
	uint64_t now = clock_ns();

	if (timeout_ms > (UINT64_MAX - 1 - now) / NS_PER_MS)
		return PP_FOREVER;
	return (struct pp_deadline){ .ns = now + timeout_ms * NS_PER_MS };
}

struct pp_deadline pp_with_token(struct pp_deadline deadline, struct pp_token *token)
{
	deadline.token = token;
	return deadline;
}

uint64_t deadline_ns(const struct pp_pool *pool, struct pp_deadline deadline)
{
	return deadline.ns != 0 ? deadline.ns : pp_in_ms(pool->config.timeout_ms).ns;
}

struct pp_deadline deadline_fix(const struct pp_pool *pool, struct pp_deadline deadline)
{
	deadline.ns = deadline_ns(pool, deadline);
	return deadline;
}

/* With token_cancelled() a handshake: the canceller sets the flag and then looks for waiters, the
 * waiter enters the line and then looks at the flag, all seq_cst; so one sees the other. */
static void wake_who_has(struct pp_pool *pool, void *token)
{
	for (unsigned l = 0; l < LANES; l++)
		if (atomic_load(&pool->lines[l].waiting) > 0)
			line_wake(&pool->lines[l], token);
	if (atomic_load(&pool->group.waiting) > 0)
		group_wake(pool, token);
}

void pp_cancel(struct pp_token *token)
{
	__atomic_store_n(&token->cancelled, 1, __ATOMIC_SEQ_CST);
	pools_visit(wake_who_has, token);
}
