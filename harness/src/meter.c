/*
 * meter.c - what the process holds: ten times a second into memory.csv (under Valgrind once), and
 * exactly, before the body and after it.
 *
 * The sampler allocates nothing: /proc is read with plain system calls into its own stack, so it
 * never shows up in what it measures.
 */
/* SPDX-License-Identifier: MIT */
#include "internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <valgrind/valgrind.h>

int __lsan_do_recoverable_leak_check(void) __attribute__((weak));

static ssize_t read_file(const char *path, char *text, size_t text_size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t size = fd >= 0 ? read(fd, text, text_size - 1) : -1;

	if (fd >= 0)
		close(fd);
	text[size > 0 ? size : 0] = '\0';
	return size;
}

struct linux_dirent64 { /* The kernel's; glibc has no name for it. */
	uint64_t ino;
	int64_t off;
	unsigned short size;
	unsigned char type;
	char name[];
};

/* Calls each for every open descriptor but its own; returns how many there are. */
static unsigned each_fd(void (*each)(void *context, unsigned fd), void *context)
{
	_Alignas(uint64_t) char buffer[4096];
	int fd = open("/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	unsigned count = 0;
	long size;

	while (fd >= 0 && (size = syscall(SYS_getdents64, fd, buffer, sizeof buffer)) > 0) {
		for (char *at = buffer; at < buffer + size;) {
			struct linux_dirent64 *entry = (struct linux_dirent64 *)at;

			at += entry->size;
			if (entry->name[0] == '.' || atoi(entry->name) == fd)
				continue;
			count++;
			if (each != NULL)
				each(context, (unsigned)atoi(entry->name));
		}
	}
	if (fd >= 0)
		close(fd);
	return count;
}

static unsigned thread_count(void)
{
	struct stat status;

	/* One link a thread, and the two of every folder. */
	return stat("/proc/self/task", &status) == 0 ? (unsigned)status.st_nlink - 2 : 0;
}

static uint64_t rss_bytes(void)
{
	char text[256];
	unsigned long pages = 0;

	read_file("/proc/self/statm", text, sizeof text);
	sscanf(text, "%*u %lu", &pages);
	return (uint64_t)pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

static uint64_t pss_bytes(void)
{
	char text[512];
	const char *line;

	read_file("/proc/self/smaps_rollup", text, sizeof text);
	line = strstr(text, "\nPss:");
	return line != NULL ? strtoull(line + 5, NULL, 10) * 1024 : 0;
}

static uint64_t wal_bytes(const char *database)
{
	char path[PATH_MAX + 8];
	struct stat status;

	snprintf(path, sizeof path, "%s-wal", database);
	return stat(path, &status) == 0 ? (uint64_t)status.st_size : 0;
}

/* The target's word, and its file. All 0 while it is closed, or busy opening or closing. */
static void target_look(struct harness_run *run, struct harness_gauges *ret_gauges,
                        uint64_t *ret_wal_bytes)
{
	memset(ret_gauges, 0, sizeof *ret_gauges);
	*ret_wal_bytes = 0;
	if (pthread_mutex_trylock(&run->target_lock) != 0)
		return;
	if (run->target_opened) {
		run->target->gauges(run->target_state, ret_gauges);
		*ret_wal_bytes = wal_bytes(run->target_path);
	} else if (run->target_shown != NULL) {
		run->target->gauges(run->target_shown, ret_gauges);
	}
	pthread_mutex_unlock(&run->target_lock);
}

static void sample(struct harness_run *run)
{
	struct harness_gauges g;
	uint64_t wal, heap = heap_live();
	char row[512];
	int size;

	target_look(run, &g, &wal);
	atomic_store_explicit(&run->shared->live_bytes, heap, memory_order_relaxed);
	if (g.connections > 0) { /* For who finds that everything stands still. */
		atomic_store(&run->shared->seen_connections, g.connections);
		atomic_store(&run->shared->seen_leased, g.leased);
		atomic_store(&run->shared->seen_waiting, g.waiting);
	}
	size = snprintf(row, sizeof row,
	                "%.3f,%llu,%u,%u,%u,%llu,%llu,%llu,%llu,%lld,%llu,%llu,%llu,%u,%u\n",
	                run_seconds(run), (unsigned long long)finished_count(run->shared), g.leased,
	                g.waiting, g.connections, (unsigned long long)g.statements,
	                (unsigned long long)heap, (unsigned long long)g.pool_bytes,
	                (unsigned long long)g.connections_bytes, (long long)sqlite3_memory_used(),
	                (unsigned long long)rss_bytes(), (unsigned long long)pss_bytes(),
	                (unsigned long long)wal, each_fd(NULL, NULL), thread_count());
	record_write(run, run->memory_fd, "memory.csv", row, (size_t)size);
}

/* Valgrind's own memory is in the map, too: one look at it takes as long as three cases of a sweep.
 */
static unsigned samples_per_s(void)
{
	return RUNNING_ON_VALGRIND ? 1 : 10;
}

/* Waits until the next sample is due; true: told to stop. */
static bool stop_asked(struct harness_run *run, struct timespec *due)
{
	due->tv_nsec += 1000000000 / samples_per_s();
	due->tv_sec += due->tv_nsec / 1000000000;
	due->tv_nsec %= 1000000000;
	while (sem_clockwait(&run->sampler_stop, CLOCK_MONOTONIC, due) != 0)
		if (errno == ETIMEDOUT)
			return false;
	return true;
}

static void *sampler(void *context)
{
	struct harness_run *run = context;
	struct timespec due;
	unsigned tick = 0;

	clock_gettime(CLOCK_MONOTONIC, &due);
	do {
		sample(run);
		if (++tick % samples_per_s() == 0)
			recorders_tick(run);
	} while (!stop_asked(run, &due));
	sample(run); /* The last row shows the end. */
	return NULL;
}

bool meter_start(struct harness_run *run)
{
	sem_init(&run->sampler_stop, 0, 0);
	return own_thread_start(&run->sampler, sampler, run);
}

void meter_stop(struct harness_run *run)
{
	if (run->sampler.stack == NULL)
		return;
	sem_post(&run->sampler_stop);
	own_thread_join(&run->sampler);
	sem_destroy(&run->sampler_stop);
}

static void census_fd(void *context, unsigned fd)
{
	struct census *census = context;

	if (fd < FD_MAX)
		census->fds[fd / 64] |= UINT64_C(1) << fd % 64;
}

void census_take(struct census *ret_census)
{
	memset(ret_census, 0, sizeof *ret_census);
	ret_census->heap_bytes = (int64_t)heap_census();
	ret_census->fd_count = each_fd(census_fd, ret_census);
	ret_census->thread_count = thread_count();
}

/* A joined thread may stand in /proc for a moment longer. */
static void threads_settle(unsigned expected)
{
	uint64_t limit = now_ns() + 2000000000;

	while (thread_count() > expected && now_ns() < limit)
		nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
}

/* Names the first descriptor that was not open before. */
static void fd_name(const struct census *before, const struct census *after, char *ret_text,
                    size_t text_size)
{
	char link[64], path[256];

	ret_text[0] = '\0';
	for (unsigned fd = 0; fd < FD_MAX; fd++) {
		if (!(after->fds[fd / 64] & ~before->fds[fd / 64] & UINT64_C(1) << fd % 64))
			continue;
		snprintf(link, sizeof link, "/proc/self/fd/%u", fd);
		ssize_t size = readlink(link, path, sizeof path - 1);
		path[size > 0 ? size : 0] = '\0';
		snprintf(ret_text, text_size, "; %u is %s", fd, path);
		return;
	}
}

/* Rollback journals and WALs that nobody cleared away. */
static unsigned journals_left(const char *work)
{
	static const char *const endings[] = { "-wal", "-shm", "-journal" };
	DIR *folder = opendir(work);
	unsigned count = 0;

	for (struct dirent *e; folder != NULL && (e = readdir(folder)) != NULL;)
		for (unsigned i = 0; i < 3; i++) {
			size_t length = strlen(e->d_name), ending = strlen(endings[i]);

			if (length > ending && strcmp(e->d_name + length - ending, endings[i]) == 0)
				count++;
		}
	if (folder != NULL)
		closedir(folder);
	return count;
}

void census_judge(struct harness_run *run, const struct census *before)
{
	struct census after;
	char fd_text[320];

	threads_settle(before->thread_count);
	census_take(&after);
	int64_t heap = after.heap_bytes - before->heap_bytes;

	/* glibc counts what a block has got, and gives 16 bytes more where the rest would be too
	 * small for another one: what is kept for threads that ended (their dtv) is given back and
	 * taken anew, and then has them or not. Less than the smallest block is none. */
	heap = heap > 0 && heap < (int64_t)heap_smallest() ? 0 : heap;
	int fds = (int)after.fd_count - (int)before->fd_count;
	int threads = (int)after.thread_count - (int)before->thread_count;

	snprintf(run->shared->provider, sizeof run->shared->provider, "%s", heap_provider());
	number_set(run, "heap.before_bytes", (double)before->heap_bytes);
	number_set(run, "heap.after_bytes", (double)after.heap_bytes);
	number_set(run, "heap.leaked_bytes", (double)heap);
	number_set(run, "fd.leaked_count", fds);
	number_set(run, "thread.leaked_count", threads);
	number_set(run, "files.journals_left_count", journals_left(run->work));
	if (heap > 0)
		harness_fail(run, "heap leak: %lld bytes more than before the body, by %s",
		             (long long)heap, heap_provider());
	if (fds > 0) {
		fd_name(before, &after, fd_text, sizeof fd_text);
		harness_fail(run, "descriptor leak: %d more than before the body%s", fds, fd_text);
	}
	if (threads > 0)
		harness_fail(run, "thread leak: %d more than before the body", threads);
	if (__lsan_do_recoverable_leak_check != NULL && __lsan_do_recoverable_leak_check() != 0)
		harness_fail(run,
		             "heap leak: LeakSanitizer found blocks that nothing points to; its "
		             "report is on standard error");
}
