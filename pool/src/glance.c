/*
 * glance.c - whether the file is as it was when its path was last looked up.
 *
 * To know before reading: after each COMMIT the pool has to know that it went into a file that is
 * still there. To look up the path is the dearest thing that the pool does for a commit; to ask the
 * inode is not. Whatever happens to a file sets its time of change: to be renamed, unlinked,
 * linked, cut, written or made read-only. So while that is what it was when its path led to it,
 * nothing has happened. What happens above the file, to a folder, is seen by who looks at the path,
 * as the next begin does.
 *
 * The kernel sets it from its coarse clock, so two changes within a tick may have the same one. It
 * counts only where it was older than that clock before the path was looked up: a later change then
 * has another one. (Git's index has the same rule.)
 *
 * The descriptor is one of O_PATH: SQLite's locks are not dropped when it is closed.
 */
/* SPDX-License-Identifier: MIT */
#include "internal.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

/* Whose times are fine, and kept by this kernel, which knows of every change. */
static bool keeps_times(int file)
{
	static const unsigned long known[] = { EXT4_SUPER_MAGIC, XFS_SUPER_MAGIC, BTRFS_SUPER_MAGIC,
		                               F2FS_SUPER_MAGIC, TMPFS_MAGIC };
	struct statfs system = { 0 }; /* None of them, where it is not told. */
	size_t i = 0, n = sizeof known / sizeof *known;

	fstatfs(file, &system);
	while (i < n && known[i] != (unsigned long)system.f_type)
		i++;
	return i < n;
}

static uint64_t changed_ns(const struct stat *file)
{
	return (uint64_t)file->st_ctim.tv_sec * 1000000000 + (uint64_t)file->st_ctim.tv_nsec;
}

void glance_init(struct pp_pool *pool)
{
	atomic_store_explicit(&pool->glance.file, -1, memory_order_relaxed);
	atomic_store_explicit(&pool->glance.settled_ns, 0, memory_order_relaxed);
}

void glance_close(struct pp_pool *pool)
{
	int file = atomic_exchange_explicit(&pool->glance.file, -1, memory_order_relaxed);

	atomic_store_explicit(&pool->glance.settled_ns, 0, memory_order_relaxed);
	if (file >= 0)
		close(file);
}

/* Without it each look is one at the path. */
void glance_open(struct pp_pool *pool)
{
	int file;

	glance_close(pool);
	file = open(pool->path, O_PATH | O_CLOEXEC);
	if (file >= 0 && !keeps_times(file)) {
		close(file);
		file = -1;
	}
	atomic_store_explicit(&pool->glance.file, file, memory_order_relaxed);
}

uint64_t glance_before(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME_COARSE, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* A file system that knows whole seconds only (ext3) settles nothing. */
void glance_settle(struct pp_pool *pool, const struct stat *file, uint64_t before_ns)
{
	bool settled = file->st_ctim.tv_nsec != 0 && changed_ns(file) < before_ns;

	atomic_store_explicit(&pool->glance.settled_ns, settled ? changed_ns(file) : 0,
	                      memory_order_relaxed);
}

/* Where the caller's lease is in quarantine another thread may just open another file; then this is
 * another inode, or none. */
bool glance_is_same(const struct pp_pool *pool)
{
	int file = atomic_load_explicit(&pool->glance.file, memory_order_relaxed);
	uint64_t settled = atomic_load_explicit(&pool->glance.settled_ns, memory_order_relaxed);
	struct stat now;

	return file >= 0 && settled != 0 && !atomic_load(&pool->tripped) &&
	       fstat(file, &now) == 0 && health_is_ours(pool, &now) && changed_ns(&now) == settled;
}
