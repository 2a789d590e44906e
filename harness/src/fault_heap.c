/*
 * fault_heap.c - the place "heap": SQLite's allocations, and whoever's go through its allocator.
 *
 * What SQLite does without when memory is short (it says so by the hooks of
 * SQLITE_TESTCTRL_BENIGN_MALLOC_HOOKS) is counted apart: such a failure may pass unnoticed.
 * What is live is counted as well, so that a sweep can say in which round bytes were lost.
 */
/* SPDX-License-Identifier: MIT */
#include "fault_internal.h"

#include <stdatomic.h>
#include <stddef.h>

static sqlite3_mem_methods real;
static unsigned place;
static _Atomic int64_t live; /* Bytes. Relaxed: a sum that orders nothing. */

static void *counted(void *block, int64_t before)
{
	int64_t now = block != NULL ? real.xSize(block) : 0;

	if (block != NULL)
		atomic_fetch_add_explicit(&live, now - before, memory_order_relaxed);
	return block;
}

static void *heap_malloc(int size)
{
	return harness_fault_visit(place) > 0 ? NULL : counted(real.xMalloc(size), 0);
}

static void *heap_realloc(void *block, int size)
{
	int64_t before = real.xSize(block);

	return harness_fault_visit(place) > 0 ? NULL : counted(real.xRealloc(block, size), before);
}

static void heap_free(void *block)
{
	atomic_fetch_sub_explicit(&live, real.xSize(block), memory_order_relaxed);
	real.xFree(block);
}

int64_t harness_fault_heap_bytes(void)
{
	return atomic_load_explicit(&live, memory_order_relaxed);
}

bool harness_fault_heap(void)
{
	static bool done;
	sqlite3_mem_methods failing;

	if (done)
		return true;
	place = harness_fault_place("heap");
	/* Small allocations from a connection's own reserve would pass unseen. */
	if (sqlite3_config(SQLITE_CONFIG_LOOKASIDE, 0, 0) != SQLITE_OK ||
	    sqlite3_config(SQLITE_CONFIG_GETMALLOC, &real) != SQLITE_OK)
		return false;
	failing = real;
	failing.xMalloc = heap_malloc;
	failing.xRealloc = heap_realloc;
	failing.xFree = heap_free;
	done = sqlite3_config(SQLITE_CONFIG_MALLOC, &failing) == SQLITE_OK &&
	       sqlite3_test_control(SQLITE_TESTCTRL_BENIGN_MALLOC_HOOKS, fault_benign_begin,
	                            fault_benign_end) == SQLITE_OK;
	return done;
}
