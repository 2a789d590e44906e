/* The meter: exact to a byte, and no provider that only seems to count. */
/* SPDX-License-Identifier: MIT */
#include "fake.h"

#include <fcntl.h>
#include <unistd.h>

TEST(meter, sees_sixteen_bytes)
{
	static void *volatile block;
	uint64_t before, with, after;

	harness_heap_bytes(); /* What looking keeps for itself. */
	before = harness_heap_bytes();
	block = malloc(16);
	with = harness_heap_bytes();
	free(block);
	after = harness_heap_bytes();
	CHECK_INT(with - before, >=, heap_smallest()); /* Less than that is told as nothing. */
	CHECK_MSG(with >= before + 16 && with <= before + 32, "%s: %lld", heap_provider(),
	          (long long)(with - before));
	CHECK_INT(after, ==, before);
}

/* Whatever sizes came and went, of this thread or of others that ended. */
TEST(meter, is_exact_after_any_traffic)
{
	static void *blocks[1000];
	struct harness_entropy e;
	uint64_t before;

	heap_census();
	before = heap_census();
	for (unsigned round = 0; round < 20; round++) {
		harness_entropy_init(&e, 5, 0, round);
		for (unsigned i = 0; i < 1000; i++)
			blocks[i] = malloc((size_t)harness_entropy_zipfian(&e, 1, 300000, 1.1));
		for (unsigned i = 0; i < 1000; i++)
			free(blocks[(i * 7 + round) % 1000]);
		CHECK_INT(heap_census(), ==, before);
	}
}

TEST(meter, counts_descriptors_and_threads)
{
	struct census before, after;
	int fd;

	census_take(&before);
	fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	census_take(&after);
	CHECK_INT(after.fd_count, ==, before.fd_count + 1);
	CHECK_INT(after.fds[fd / 64] >> fd % 64 & 1, ==, 1);
	CHECK_INT(after.thread_count, ==, before.thread_count);
	close(fd);
}

TEST(meter, knows_its_allocator)
{
	char text[64];

	heap_allocator(text, sizeof text);
	CHECK(text[0] != '\0');
	if (strcmp(under_name(), "memcheck") == 0)
		CHECK_STR(heap_provider(), "memcheck");
	else if (strcmp(PP_VARIANT, "instrumented") == 0)
		CHECK_STR(heap_provider(), "jemalloc");
	else if (strcmp(PP_VARIANT, "asan") == 0 || strcmp(PP_VARIANT, "tsan") == 0)
		CHECK_STR(heap_provider(), "sanitizer");
}
