/*
 * fork.c - a child that inherits pools must not touch them.
 *
 * To know before reading: the number of the process stands in a page that the kernel wipes in a
 * child of fork(), however it was made, so the check is one load and needs no handler to have run.
 * A pool carries the number of the process that opened it. A child that opens a pool of its own
 * first makes anew what threads of the parent may have held at the fork: those threads are not in
 * the child, and would hold it for ever.
 */
/* SPDX-License-Identifier: MIT */
#include "internal.h"

#include <sys/mman.h>

static uint64_t not_wiped; /* Where there is no such page: a fork is not noticed. */
static uint64_t *page = &not_wiped;
const uint64_t *process_number = &not_wiped;

static void page_make(void)
{
	void *memory = mmap(NULL, sizeof *page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
	                    -1, 0);

	/* Of MAP_FAILED madvise() says EINVAL. */
	if (madvise(memory, sizeof *page, MADV_WIPEONFORK) == 0)
		process_number = page = memory;
	barrier_begin();
	*page = 1;
}

/* In a child the first pp_open() must not run beside another: there is no lock to trust yet. */
void process_begin(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	static uint64_t last = 1; /* In ordinary memory: a child goes on counting. */

	pthread_once(&once, page_make);
	if (*page != 0)
		return;
	barrier_begin();
	mutexes_after_fork();
	memory_after_fork();
	vfs_after_fork();
	statements_after_fork();
	pool_after_fork();
	*page = ++last;
}
