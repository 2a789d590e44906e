/*
 * turn.c - one process after the other.
 *
 * SQLite's write lock is polled, so a process that takes it again at once starves the others.
 * Beside the database there is a file with two bytes to lock. Each pool holds "presence" shared: by
 * it a pool sees that it has neighbours. Where it has, who wants to write takes "next" before BEGIN
 * IMMEDIATE and gives it back after: one process at a time polls SQLite's lock, and who has just
 * committed stands behind it.
 *
 * To know before reading: this is fairness and nothing else. Whatever goes wrong here does so in
 * silence, and the transaction begins without its turn. The locks belong to the open file
 * description: the kernel takes them back from who dies. A child of fork() shares them. It never
 * uses them (every call of its is PP_FORKED), exec() closes its copy, and since that copy would
 * keep them when the parent closes his, they are given back by hand and not by close() alone.
 */
/* SPDX-License-Identifier: MIT */
#include "internal.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PRESENCE, NEXT }; /* The bytes. */

enum {
	LOOK_MS = 10,             /* Between two looks for neighbours, by who writes; */
	KEEP_MS = 1000,           /* ... by the keeper, which wakes so often anyway. */
	POLL_NS = 1000000,        /* Constant, as everywhere: a growing pause starves. */
	PATIENCE_NS = 1000000000, /* For neighbours that hold next and do not move. */
	OPENINGS_MAX = 100        /* Of a file that is being removed. */
};

static bool lock(int file, short type, off_t byte)
{
	struct flock range = { .l_type = type, .l_start = byte, .l_len = 1 };

	return fcntl(file, F_OFD_SETLK, &range) == 0;
}

/* --- Neighbours -------------------------------------------------------------------------- */

/* Its own presence is not in its way. */
static void look(struct turn *turn, uint64_t now_ms)
{
	struct flock range = { .l_type = F_WRLCK, .l_start = PRESENCE, .l_len = 1 };
	bool seen = fcntl(turn->file, F_OFD_GETLK, &range) == 0 && range.l_type != F_UNLCK;

	atomic_store_explicit(&turn->neighbours, seen, memory_order_relaxed);
	atomic_store_explicit(&turn->looked_ms, now_ms, memory_order_relaxed);
}

/* Who writes looks for himself; this is for who reads the statistics. */
uint64_t turn_keep(struct pp_pool *pool, uint64_t now_ms)
{
	if (pool->turn.file >= 0)
		look(&pool->turn, now_ms);
	return now_ms + KEEP_MS;
}

/* --- The turn ---------------------------------------------------------------------------- */

/* Half of what the transaction has is left to BEGIN: next may be held by somebody who stopped. What
 * was waited in vain counts until next is had again; when all patience is gone, one try is left. */
static uint64_t patience_ns(const struct connection *c, uint64_t now)
{
	uint64_t left = c->deadline_ns > now ? c->deadline_ns - now : 0;
	uint64_t busy = c->pool->config.busy_timeout_ms * 1000000ull;
	uint64_t in_vain = atomic_load_explicit(&c->pool->turn.in_vain_ns, memory_order_relaxed);
	uint64_t most = in_vain < PATIENCE_NS ? PATIENCE_NS - in_vain : 0;

	left = (left < busy ? left : busy) / 2;
	return left < most ? left : most;
}

static bool stand(struct connection *c)
{
	struct turn *turn = &c->pool->turn;
	uint64_t start = clock_ns(), until = start + patience_ns(c, start), now = start;

	while (now < until && connection_stop(c, now) == STOP_NOT) {
		clock_sleep_ns(until - now < POLL_NS ? until - now : POLL_NS);
		if (lock(turn->file, F_WRLCK, NEXT))
			return true;
		now = clock_ns();
	}
	atomic_fetch_add_explicit(&turn->in_vain_ns, now - start, memory_order_relaxed);
	return false;
}

/* Two threads of a process can be here, when a writer was replaced while it was lent. They have
 * next together, and the first gives it back for both. */
bool turn_take(struct connection *c)
{
	struct turn *turn = &c->pool->turn;
	uint64_t now_ms;

	if (turn->file < 0)
		return false;
	now_ms = clock_coarse_ms();
	if (now_ms - atomic_load_explicit(&turn->looked_ms, memory_order_relaxed) >= LOOK_MS)
		look(turn, now_ms);
	if (!atomic_load_explicit(&turn->neighbours, memory_order_relaxed))
		return false;
	c->has_turn = lock(turn->file, F_WRLCK, NEXT) || stand(c);
	if (c->has_turn)
		atomic_store_explicit(&turn->in_vain_ns, 0, memory_order_relaxed);
	return c->has_turn;
}

void turn_give(struct connection *c)
{
	lock(c->pool->turn.file, F_UNLCK, NEXT);
	c->has_turn = false;
}

/* --- The file ---------------------------------------------------------------------------- */

enum { PATH_SIZE = PATH_MAX + 8 };

static void name_file(const struct pp_pool *pool, char *path)
{
	snprintf(path, PATH_SIZE, "%s-turn", pool->path);
}

static bool is_linked(int file)
{
	struct stat status;

	return fstat(file, &status) == 0 && status.st_nlink > 0;
}

/* It may have been moved, with its folder, and be another one that is there now. */
static bool is_named(const char *path, int file)
{
	struct stat named, status;

	return stat(path, &named) == 0 && fstat(file, &status) == 0 &&
	       named.st_dev == status.st_dev && named.st_ino == status.st_ino;
}

/* Who may write the database may use it: its owner and mode, as SQLite does for the WAL. They are
 * refused to who is not its owner, and then somebody else has set them. */
static int file_make(const struct pp_pool *pool, const char *path)
{
	struct stat database;
	int file = -1;

	if (stat(pool->path, &database) == 0)
		file = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (file >= 0) {
		(void)!fchown(file, database.st_uid, database.st_gid);
		fchmod(file, database.st_mode & 0777);
	}
	return file;
}

/* true: present in a file that is there. errno EAGAIN: the last one is just removing it. */
static bool enter(int file)
{
	if (!lock(file, F_RDLCK, PRESENCE))
		return false;
	errno = EAGAIN;
	return is_linked(file);
}

/* Where no such file can be made (memdb has none to stand beside; a folder that may not be written;
 * no such locks) there are no turns. */
void turn_open(struct pp_pool *pool)
{
	struct turn *turn = &pool->turn;
	char path[PATH_SIZE];
	bool again = true;

	turn->file = -1;
	atomic_store(&turn->neighbours, false);
	atomic_store(&turn->in_vain_ns, 0);
	name_file(pool, path);
	for (unsigned n = 0; again && n < OPENINGS_MAX; n++) {
		turn->file = file_make(pool, path);
		again = turn->file >= 0 && !enter(turn->file);
		if (again) {
			again = errno == EAGAIN;
			close(turn->file);
			turn->file = -1;
			clock_sleep_ns(POLL_NS);
		}
	}
	turn_keep(pool, clock_coarse_ms());
}

/* The last one removes it. Of two that close at once, one finds nobody: both have left before they
 * look. Who finds nobody holds the byte alone until the file is gone, so nobody enters it. */
void turn_close(struct pp_pool *pool)
{
	struct turn *turn = &pool->turn;
	char path[PATH_SIZE];

	if (turn->file < 0)
		return;
	name_file(pool, path);
	lock(turn->file, F_UNLCK, PRESENCE);
	if (lock(turn->file, F_WRLCK, PRESENCE) && is_named(path, turn->file))
		unlink(path);
	lock(turn->file, F_UNLCK, PRESENCE);
	close(turn->file);
	turn->file = -1;
	atomic_store(&turn->neighbours, false);
}
