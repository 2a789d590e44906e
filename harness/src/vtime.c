/* vtime.c - a clock that goes on when somebody sleeps. Relaxed: numbers that order nothing. */
/* SPDX-License-Identifier: MIT */
#include "fault_internal.h"

#include <poolproof/harness/vtime.h>

#include <stdatomic.h>
#include <stddef.h>

static _Atomic uint64_t slept_ns;
static void (*_Atomic listener)(uint64_t ns);

void harness_vtime_sleep_ns(uint64_t ns)
{
	void (*passed)(uint64_t) = atomic_load_explicit(&listener, memory_order_relaxed);

	atomic_fetch_add_explicit(&slept_ns, ns, memory_order_relaxed);
	if (passed != NULL)
		passed(ns);
}

static int sleep_virtually(sqlite3_vfs *vfs, int us)
{
	(void)vfs;
	harness_vtime_sleep_ns(us > 0 ? (uint64_t)us * 1000 : 0);
	return us;
}

static sqlite3_int64 slept_ms(void)
{
	return (sqlite3_int64)(harness_vtime_ns() / 1000000);
}

bool harness_vtime_begin(void)
{
	if (!vfs_hook())
		return false;
	atomic_store(&slept_ns, 0);
	vfs_time_set(slept_ms);
	vfs_sleep_set(sleep_virtually);
	return true;
}

void harness_vtime_end(void)
{
	vfs_sleep_set(NULL);
	vfs_time_set(NULL);
	atomic_store(&listener, NULL);
}

uint64_t harness_vtime_ns(void)
{
	return atomic_load_explicit(&slept_ns, memory_order_relaxed);
}

void harness_vtime_listen(void (*passed)(uint64_t ns))
{
	atomic_store(&listener, passed);
}
