/*
 * heap.c - live bytes, from whichever allocator this process really has.
 *
 * One struct, four providers; the first that is there wins. The symbols are weak, so the same
 * archive serves every variant.
 */
/* SPDX-License-Identifier: MIT */
#include "internal.h"

#include <gnu/libc-version.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <valgrind/memcheck.h>

#if defined(__SANITIZE_THREAD__)
#define SANITIZER "ThreadSanitizer"
#elif defined(__SANITIZE_ADDRESS__)
#define SANITIZER "AddressSanitizer"
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define SANITIZER "ThreadSanitizer"
#elif __has_feature(address_sanitizer)
#define SANITIZER "AddressSanitizer"
#endif
#endif
#ifndef SANITIZER
#define SANITIZER NULL
#endif

int mallctl(const char *name, void *old, size_t *old_size, void *fresh, size_t fresh_size)
	__attribute__((weak));
size_t __sanitizer_get_current_allocated_bytes(void) __attribute__((weak));

struct provider {
	const char *name;
	bool (*there)(void);
	uint64_t (*live)(void);
	uint64_t (*census)(void);
	uint64_t smallest; /* Bytes that one block takes at least. */
};

static bool memcheck_there(void)
{
	return RUNNING_ON_VALGRIND != 0;
}

/* A leak check stops the world for as long as it takes; ten a second are not to be had. */
static uint64_t memcheck_live(void)
{
	return 0;
}

/* Every live block is one of these, so their sum is what is live. */
static uint64_t memcheck_census(void)
{
	unsigned long lost = 0, dubious = 0, reachable = 0, suppressed = 0;

	VALGRIND_DO_QUICK_LEAK_CHECK;
	VALGRIND_COUNT_LEAKS(lost, dubious, reachable, suppressed);
	return lost + dubious + reachable + suppressed;
}

static bool jemalloc_there(void)
{
	return mallctl != NULL;
}

static uint64_t jemalloc_live(void)
{
	uint64_t epoch = 1;
	size_t live = 0, size = sizeof live;

	/* Statistics are as of the last epoch. */
	mallctl("epoch", NULL, NULL, &epoch, sizeof epoch);
	mallctl("stats.allocated", &live, &size, NULL, 0);
	return live;
}

static uint64_t jemalloc_census(void)
{
	/* What a thread's cache holds counts as allocated. */
	mallctl("thread.tcache.flush", NULL, NULL, NULL, 0);
	return jemalloc_live();
}

static bool sanitizer_there(void)
{
	return __sanitizer_get_current_allocated_bytes != NULL;
}

static uint64_t sanitizer_live(void)
{
	return __sanitizer_get_current_allocated_bytes();
}

static bool libc_there(void)
{
	return true;
}

static uint64_t libc_live(void)
{
	struct mallinfo2 info = mallinfo2();

	return info.uordblks + info.hblkhd;
}

/*
 * glibc counts what its thread cache holds as in use. Taking more of each cached size than the
 * cache keeps, and giving it back, leaves the cache full: the same amount in every census.
 */
static uint64_t libc_census(void)
{
	enum { SIZES = 65, KEPT = 16 };
	void *volatile blocks[SIZES][KEPT]; /* volatile: not to be optimised away. */

	for (size_t i = 0; i < SIZES; i++)
		for (size_t j = 0; j < KEPT; j++)
			blocks[i][j] = malloc(24 + 16 * i);
	for (size_t i = 0; i < SIZES; i++)
		for (size_t j = 0; j < KEPT; j++)
			free(blocks[i][j]);
	return libc_live();
}

static const struct provider providers[] = {
	{ "memcheck", memcheck_there, memcheck_live, memcheck_census, 1 },
	{ "jemalloc", jemalloc_there, jemalloc_live, jemalloc_census, 1 },
	{ "sanitizer", sanitizer_there, sanitizer_live, sanitizer_live, 1 },
	{ "libc", libc_there, libc_live, libc_census, 4 * sizeof(size_t) },
};

static const struct provider *provider(void)
{
	const struct provider *p = providers;

	while (!p->there())
		p++;
	return p;
}

const char *heap_provider(void)
{
	return provider()->name;
}

uint64_t heap_smallest(void)
{
	return provider()->smallest;
}

uint64_t heap_live(void)
{
	return provider()->live();
}

uint64_t heap_census(void)
{
	return provider()->census();
}

const char *under_name(void)
{
	static const char *const tools[] = { "memcheck", "helgrind",  "drd",       "massif",
		                             "dhat",     "callgrind", "cachegrind" };
	const char *preload = getenv("LD_PRELOAD");
	unsigned char byte = 0, bits;

	if (!RUNNING_ON_VALGRIND)
		return "none";
	/* Valgrind names its tool in what it preloads. */
	for (unsigned i = 0; preload != NULL && i < sizeof tools / sizeof *tools; i++) {
		char name[40];

		snprintf(name, sizeof name, "vgpreload_%s", tools[i]);
		if (strstr(preload, name) != NULL)
			return tools[i];
	}
	/* Only memcheck knows of validity bits. */
	return VALGRIND_GET_VBITS(&byte, &bits, 1) == 1 ? "memcheck" : "valgrind";
}

unsigned time_multiplier(void)
{
	if (RUNNING_ON_VALGRIND)
		return 30;
	return SANITIZER != NULL ? 5 : 1;
}

void heap_allocator(char *ret_text, size_t text_size)
{
	const char *version = NULL;
	size_t size = sizeof version;

	if (RUNNING_ON_VALGRIND)
		snprintf(ret_text, text_size, "valgrind %d.%d", __VALGRIND_MAJOR__,
		         __VALGRIND_MINOR__);
	else if (mallctl != NULL && mallctl("version", &version, &size, NULL, 0) == 0)
		snprintf(ret_text, text_size, "jemalloc %.*s", (int)strcspn(version, "-"), version);
	else if (SANITIZER != NULL)
		snprintf(ret_text, text_size, "%s", (const char *)SANITIZER);
	else
		snprintf(ret_text, text_size, "glibc %s", gnu_get_libc_version());
}
