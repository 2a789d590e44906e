/*
 * fault_heap.c - the place "heap": SQLite's allocations, and whoever's go through its allocator.
 *
 * What SQLite does without when memory is short (it says so by the hooks of
 * SQLITE_TESTCTRL_BENIGN_MALLOC_HOOKS) is counted apart: such a failure may pass unnoticed.
 */
/* SPDX-License-Identifier: MIT */
#include "fault_internal.h"

#include <stddef.h>

static sqlite3_mem_methods real;
static unsigned place;

static void *heap_malloc(int size)
{
	return harness_fault_visit(place) > 0 ? NULL : real.xMalloc(size);
}

static void *heap_realloc(void *block, int size)
{
	return harness_fault_visit(place) > 0 ? NULL : real.xRealloc(block, size);
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
	done = sqlite3_config(SQLITE_CONFIG_MALLOC, &failing) == SQLITE_OK &&
	       sqlite3_test_control(SQLITE_TESTCTRL_BENIGN_MALLOC_HOOKS, fault_benign_begin,
	                            fault_benign_end) == SQLITE_OK;
	return done;
}
