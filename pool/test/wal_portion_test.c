/* What upkeep's checkpoint writes to the database is synced a portion at a time. */
/* SPDX-License-Identifier: MIT */
#include "wal.h"

#include <errno.h>
#include <sys/syscall.h>

enum { PORTION = 128 * 1024, PAGES = 3900 };

/* In this program fdatasync() is the tests'. */
static char watched[128]; /* Syncs of the file with this path are counted; empty: of none. */
static unsigned syncs, fails_at, slow_ms;

static bool is_watched(int fd)
{
	char link[32], path[256];
	ssize_t length;

	snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
	length = readlink(link, path, sizeof path - 1);
	path[length > 0 ? length : 0] = '\0';
	return strcmp(path, watched) == 0;
}

__attribute__((visibility("default"))) int fdatasync(int fd)
{
	if (watched[0] == '\0')
		return (int)syscall(SYS_fdatasync, fd);
	if (!is_watched(fd))
		return 0;
	syncs++;
	clock_travel_ms(slow_ms);
	errno = EIO;
	return syncs == fails_at ? -1 : 0;
}

static void watch(const struct fixture *f)
{
	snprintf(watched, sizeof watched, "%s", f->path);
	syncs = 0;
}

/* No commit checkpoints so soon where a thread may be missing. */
static struct fixture filled(void)
{
	struct fixture f = fixture_config((struct pp_config){ .keeper = PP_KEEPER_MANUAL });

	grow(f.pool, PAGES);
	watch(&f);
	return f;
}

static unsigned portions(const struct fixture *f)
{
	struct stat file;

	CHECK_INT(stat(f->path, &file), ==, 0);
	return (unsigned)(file.st_size / PORTION);
}

TEST(wal, upkeep_syncs_the_database_a_portion_at_a_time)
{
	CLEANUP(fixture_close) struct fixture f = filled();

	CHECK_INT(pp_keep(f.pool, NULL), ==, PP_OK);
	CHECK_INT(stats(f.pool).checkpoints, ==, 1);
	CHECK_INT(portions(&f), >, 30);
	/* A machine that stops for a while makes one of them larger. */
	CHECK_INT(syncs, >, portions(&f) / 3);
	CHECK_INT(syncs, <=, portions(&f) + 2);
	watched[0] = '\0';
}

/* On a slow disk many syncs would take longer than they are good for. */
TEST(wal, upkeep_syncs_larger_portions_where_a_sync_takes_long)
{
	CLEANUP(fixture_close) struct fixture f = filled();

	slow_ms = 5;
	CHECK_INT(pp_keep(f.pool, NULL), ==, PP_OK);
	CHECK_INT(stats(f.pool).checkpoints, ==, 1);
	CHECK_INT(syncs, >=, 4); /* 1, 2, 4, ... portions. */
	CHECK_INT(syncs, <=, 7);
	slow_ms = 0; /* From now on: half as large after each. */
	for (unsigned round = 2; round <= 4; round++) {
		grow(f.pool, 0);
		grow(f.pool, PAGES);
		syncs = 0;
		CHECK_INT(pp_keep(f.pool, NULL), ==, PP_OK);
		CHECK_INT(stats(f.pool).checkpoints, ==, round);
	}
	CHECK_INT(syncs, >=, 5);
	watched[0] = '\0';
}

static int64_t rows_in_big(struct pp_pool *pool)
{
	return number_in(pool, "SELECT count(*) FROM big");
}

/* The kernel tells an error of writing once: a later sync would succeed, and the WAL be forgotten.
 */
TEST(wal, portion_that_cannot_be_synced_is_not_taken_for_copied)
{
	CLEANUP(fixture_close) struct fixture f = filled();
	int64_t rows = rows_in_big(f.pool);

	fails_at = 3;
	CHECK_INT(pp_keep(f.pool, NULL), ==, PP_OK);
	CHECK_INT(stats(f.pool).checkpoints_blocked, ==, 1);
	CHECK_INT(stats(f.pool).checkpoints, ==, 1); /* Tried again, and all was copied again. */
	CHECK_INT(syncs, >, fails_at + portions(&f) / 3);
	must(pp_reopen(f.pool, PP_NO_WAIT, NULL), NULL);
	CHECK_INT(rows_in_big(f.pool), ==, rows);
	watched[0] = '\0';
}

/* Nobody waits for him, and he for nobody. */
TEST(wal, who_writes_alone_syncs_the_database_once)
{
	CLEANUP(fixture_close)
	struct fixture f = fixture_config((struct pp_config){ .keeper = PP_KEEPER_MANUAL });

	watch(&f);
	f.pool->config.keeper = PP_KEEPER_THREAD; /* As if there were one, which never comes. */
	while (stats(f.pool).checkpoints == 0)
		grow(f.pool, 0);
	f.pool->config.keeper = PP_KEEPER_MANUAL;
	CHECK_INT(syncs, ==, 1);
	watched[0] = '\0';
}
