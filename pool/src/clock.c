/* clock.c - the one place that reads a clock or sleeps. */
/* SPDX-License-Identifier: MIT */
#include "internal.h"

#include <errno.h>
#include <time.h>

enum { NS_PER_MS = 1000000, NS_PER_S = 1000000000 };

static uint64_t read_clock(clockid_t id)
{
	struct timespec t;

	clock_gettime(id, &t);
	return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
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
	struct timespec until = timespec_of(clock_ns() + ns);

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

void clock_wait(pthread_cond_t *cond, pthread_mutex_t *mutex, uint64_t until_ns)
{
	struct timespec until = timespec_of(until_ns);

	if (until_ns == UINT64_MAX)
		pthread_cond_wait(cond, mutex);
	else
		pthread_cond_timedwait(cond, mutex, &until);
}

struct pp_deadline pp_in_ms(uint64_t timeout_ms)
{
	uint64_t now = clock_ns();

	if (timeout_ms > (UINT64_MAX - 1 - now) / NS_PER_MS)
		return PP_FOREVER;
	return (struct pp_deadline){ now + timeout_ms * NS_PER_MS };
}

uint64_t deadline_ns(const struct pp_pool *pool, struct pp_deadline deadline)
{
	return deadline.ns != 0 ? deadline.ns : pp_in_ms(pool->config.timeout_ms).ns;
}
