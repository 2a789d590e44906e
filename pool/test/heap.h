/* heap.h - an allocator with a plan: which allocations fail. */
/* SPDX-License-Identifier: MIT */
#ifndef POOL_TEST_HEAP_H
#define POOL_TEST_HEAP_H

#include "fixture.h"

/* SQLite gives memory methods no context, so the plan is the process's; each test has its own. */
static struct {
	sqlite3_mem_methods real;
	unsigned calls;   /* Allocations since the plan was made. */
	unsigned fail_at; /* Which of them fails; 0: none does. */
	bool lasting;     /* And all after it. */
	unsigned failed;
} heap;

static inline bool heap_fails(void)
{
	bool fails = ++heap.calls == heap.fail_at ||
	             (heap.lasting && heap.fail_at != 0 && heap.calls > heap.fail_at);

	heap.failed += fails;
	return fails;
}

static inline void *heap_malloc(int size)
{
	return heap_fails() ? NULL : heap.real.xMalloc(size);
}

static inline void *heap_realloc(void *block, int size)
{
	return heap_fails() ? NULL : heap.real.xRealloc(block, size);
}

static inline void heap_plan(unsigned fail_at, bool lasting)
{
	heap.calls = heap.failed = 0;
	heap.fail_at = fail_at;
	heap.lasting = lasting;
}

static inline void heap_wrap(void)
{
	sqlite3_mem_methods failing;

	CHECK_INT(sqlite3_config(SQLITE_CONFIG_GETMALLOC, &heap.real), ==, SQLITE_OK);
	failing = heap.real;
	failing.xMalloc = heap_malloc;
	failing.xRealloc = heap_realloc;
	CHECK_INT(sqlite3_config(SQLITE_CONFIG_MALLOC, &failing), ==, SQLITE_OK);
}

/* Below the pool's methods, so that these, and its mutexes, are refused too. jemalloc's arenas are
 * not SQLite's allocator: there the pool itself is what is wrapped. */
static inline void heap_install(void)
{
	sqlite3_config(SQLITE_CONFIG_LOOKASIDE, 0, 0); /* It would hide the small ones. */
#ifdef PP_JEMALLOC
	CHECK_INT(pp_setup(0), ==, PP_OK);
	heap_wrap();
#else
	heap_wrap();
	CHECK_INT(pp_setup(0), ==, PP_OK);
#endif
}

#endif
