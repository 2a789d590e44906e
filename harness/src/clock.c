/*
 * clock.c - time, pages and threads that leave nothing in the heap.
 */
/* SPDX-License-Identifier: MIT */
#include "internal.h"

#include <sys/mman.h>
#include <unistd.h>

enum { STACK_SIZE = 2 << 20, GUARD_SIZE = 64 << 10 };

uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000U + (uint64_t)t.tv_nsec;
}

uint64_t harness_now_ns(void)
{
	return now_ns();
}

double run_seconds(const struct harness_run *run)
{
	return (double)(now_ns() - run->start_ns) / 1e9;
}

void *pages_take(size_t size)
{
	void *pages = mmap(NULL, size, PROT_READ | PROT_WRITE,
	                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return pages == MAP_FAILED ? NULL : pages;
}

void pages_give(void *pages, size_t size)
{
	if (pages != NULL)
		munmap(pages, size);
}

bool own_thread_start(struct own_thread *thread, void *(*body)(void *), void *context)
{
	pthread_attr_t attributes;
	int rc;

	thread->stack = pages_take(STACK_SIZE);
	if (thread->stack == NULL)
		return false;
	/* pthread_create() guards only the stacks that it makes itself. */
	mprotect(thread->stack, GUARD_SIZE, PROT_NONE);
	pthread_attr_init(&attributes);
	pthread_attr_setstack(&attributes, (char *)thread->stack + GUARD_SIZE,
	                      STACK_SIZE - GUARD_SIZE);
	rc = pthread_create(&thread->id, &attributes, body, context);
	pthread_attr_destroy(&attributes);
	if (rc == 0)
		return true;
	pages_give(thread->stack, STACK_SIZE);
	thread->stack = NULL;
	return false;
}

void own_thread_join(struct own_thread *thread)
{
	if (thread->stack == NULL)
		return;
	pthread_join(thread->id, NULL);
	pages_give(thread->stack, STACK_SIZE);
	thread->stack = NULL;
}
