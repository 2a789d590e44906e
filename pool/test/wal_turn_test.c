/* Under load the WAL is written over again: what is added while upkeep copies is copied in the
 * writers' line. */
/* SPDX-License-Identifier: MIT */
#include "upkeep.h"

#include <dlfcn.h>

/* In place of SQLite's, so that somebody can have written meanwhile: as his commit's hook says it.
 */
static struct pp_pool *_Atomic written_meanwhile;
/* Or so that it fails before it knows how many pages there are. */
static atomic_bool fails_early;

int sqlite3_wal_checkpoint_v2(sqlite3 *db, const char *name, int mode, int *pages, int *copied)
{
	static int (*_Atomic real)(sqlite3 *, const char *, int, int *, int *);
	struct pp_pool *pool;
	void *found;
	int rc;

	if (real == NULL) { /* Several pools' keepers may come here at once. */
		found = dlsym(RTLD_NEXT, "sqlite3_wal_checkpoint_v2");
		atomic_store(&real,
		             *(int (**)(sqlite3 *, const char *, int, int *, int *)) & found);
	}
	if (fails_early)
		return SQLITE_IOERR;
	rc = real(db, name, mode, pages, copied);
	pool = atomic_exchange(&written_meanwhile, NULL);
	if (pool != NULL)
		atomic_store(&pool->wal.pages, (uint64_t)*copied + 1);
	return rc;
}

static struct pp_lease writer;

/* More than a thousand pages, by a writer who is still there. */
static void fill(struct pp_pool *pool)
{
	acquire_elsewhere(pool, PP_WRITE, &writer);
	sql(writer.db,
	    "CREATE TABLE IF NOT EXISTS big(x); INSERT INTO big VALUES (zeroblob(4500000))");
	CHECK_INT(atomic_load(&pool->wal.pages), >, 1000);
}

static void *keep(void *pool)
{
	CHECK_INT(pp_keep(pool, NULL), ==, PP_OK);
	return NULL;
}

/* The next write begins at the start of the file. */
static void expect_restart(struct pp_pool *pool)
{
	acquire(pool, PP_WRITE, &writer);
	sql(writer.db, "INSERT INTO big VALUES (1)");
	pp_release(&writer);
	CHECK_INT(atomic_load(&pool->wal.pages), <, 50);
}

TEST(wal, is_copied_to_its_end_although_somebody_writes)
{
	CLEANUP(fixture_close)
	struct fixture f = manual((struct pp_config){ .readers = 1, .on_open = no_sync }, NULL);
	pthread_t thread;

	fill(f.pool);
	written_meanwhile = f.pool;
	thread = thread_start(keep, f.pool);
	WAIT_FOR(stats(f.pool).write.waiting == 1);
	pp_release(&writer);
	pthread_join(thread, NULL);
	CHECK_INT(stats(f.pool).checkpoints, ==, 2);
	expect_restart(f.pool);
}

/* A reader of an older snapshot is gone by the time that upkeep has the writer; and if he is not,
 * it is not tried again for nothing. */
TEST_ROWS(wal, is_copied_to_its_end_when_readers_have_left, 2)
{
	CLEANUP(fixture_close)
	struct fixture f = manual((struct pp_config){ .readers = 1, .on_open = no_sync }, NULL);
	struct pp_lease reader = { 0 };
	uint64_t acquires;
	pthread_t thread;

	acquire(f.pool, PP_READ, &reader);
	sql(reader.db, "BEGIN; SELECT count(*) FROM t");
	fill(f.pool);
	thread = thread_start(keep, f.pool);
	WAIT_FOR(stats(f.pool).write.waiting == 1);
	if (row == 0)
		pp_release(&reader);
	pp_release(&writer);
	pthread_join(thread, NULL);
	CHECK_INT(stats(f.pool).checkpoints, ==, row == 0);
	if (row == 0) {
		expect_restart(f.pool);
		return;
	}
	fill(f.pool);
	pp_release(&writer);
	acquires = stats(f.pool).write.acquires;
	later(&f, 1);
	CHECK_INT(stats(f.pool).write.acquires, ==, acquires);
	pp_release(&reader);
	fill(f.pool);
	pp_release(&writer);
	later(&f, 1);
	CHECK_INT(stats(f.pool).checkpoints, ==, 1);
	expect_restart(f.pool);
}

/* What is not known is not taken for nothing, nor for a lot. */
TEST(wal, that_could_not_be_looked_at_is_as_long_as_before)
{
	CLEANUP(fixture_close)
	struct fixture f = manual((struct pp_config){ .readers = 1, .on_open = no_sync }, NULL);
	uint64_t pages;

	fill(f.pool);
	pp_release(&writer);
	pages = atomic_load(&f.pool->wal.pages);
	fails_early = true;
	later(&f, 1);
	fails_early = false;
	CHECK_INT(stats(f.pool).checkpoints_blocked, >, 0);
	CHECK_INT(stats(f.pool).checkpoints, ==, 0);
	CHECK_INT(atomic_load(&f.pool->wal.pages), ==, pages);
	fill(f.pool);
	pp_release(&writer);
	later(&f, 1);
	CHECK_INT(stats(f.pool).checkpoints, ==, 1);
}

static void *have_all_and_leave_no_keeper(void *pool)
{
	struct pp_lease lease = { 0 };

	acquire(pool, PP_EXCLUSIVE, &lease);
	atomic_store(&refusing, true);
	pp_release(&lease);
	return NULL;
}

/* Upkeep's own connection is gone when it has the writer. */
TEST(wal, is_not_copied_to_its_end_without_a_connection_for_that)
{
	CLEANUP(fixture_close)
	struct fixture f =
		manual((struct pp_config){ .readers = 1, .on_open = refuse_when_told }, NULL);
	pthread_t threads[2];

	fill(f.pool);
	written_meanwhile = f.pool;
	threads[0] = thread_start(have_all_and_leave_no_keeper, f.pool);
	WAIT_FOR(stats(f.pool).write.waiting == 1);
	threads[1] = thread_start(keep, f.pool);
	WAIT_FOR(stats(f.pool).write.waiting == 2);
	pp_release(&writer);
	for (unsigned i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	CHECK(f.pool->anchor.db == NULL);
	CHECK_INT(stats(f.pool).checkpoints, ==, 1); /* Before it waited. */
	atomic_store(&refusing, false);
	later(&f, 1000);
	CHECK(f.pool->anchor.db != NULL);
}

/* Another process has copied all of it and begun anew: nothing is left that writers would have to
 * wait for, whatever the last commit here said. */
TEST(wal, that_others_have_begun_anew_needs_no_turn)
{
	CLEANUP(fixture_close)
	struct fixture f = manual((struct pp_config){ .readers = 1, .on_open = no_sync }, NULL);
	uint64_t acquires;
	sqlite3 *other;

	fill(f.pool);
	pp_release(&writer);
	CHECK_INT(sqlite3_open(f.path, &other), ==, SQLITE_OK);
	sql(other, "PRAGMA wal_checkpoint(TRUNCATE); INSERT INTO big VALUES (1)");
	CHECK_INT(sqlite3_close(other), ==, SQLITE_OK);
	acquires = stats(f.pool).write.acquires;
	later(&f, 1);
	CHECK_INT(stats(f.pool).checkpoints, ==, 1);
	CHECK_INT(stats(f.pool).write.acquires, ==, acquires);
	CHECK_INT(atomic_load(&f.pool->wal.pages), <, 50);
}

/* Who has the writer all the time keeps it; there is another time. */
TEST(wal, waits_for_the_writer_no_longer_than_its_turn)
{
	CLEANUP(fixture_close)
	struct fixture f = manual((struct pp_config){ .readers = 1, .on_open = no_sync }, NULL);
	pthread_t thread;

	fill(f.pool);
	written_meanwhile = f.pool;
	thread = thread_start(keep, f.pool);
	WAIT_FOR(stats(f.pool).write.waiting == 1);
	clock_travel_ms(60000);
	pthread_join(thread, NULL);
	CHECK_INT(stats(f.pool).checkpoints, ==, 1);
	pp_release(&writer);
}

/* Upkeep waits for the writer behind somebody who does not come back, and nobody but upkeep can
 * find that out. */
TEST(wal, waits_for_a_stuck_writer_and_watches_him)
{
	CLEANUP(fixture_close)
	struct fixture f = manual((struct pp_config){ .readers = 1,
	                                              .on_open = no_sync,
	                                              .lease_max_ms = 100,
	                                              .lease_grace_ms = 50 },
	                          NULL);
	pthread_t thread;

	fill(f.pool);
	written_meanwhile = f.pool;
	thread = thread_start(keep, f.pool);
	WAIT_FOR(stats(f.pool).write.waiting == 1);
	clock_travel_ms(151);
	WAIT_FOR(stats(f.pool).interrupted == 1);
	clock_travel_ms(1000);
	pthread_join(thread, NULL);
	CHECK_INT(pp_keep(f.pool, NULL), ==, PP_OK); /* Where it gave up just before. */
	CHECK_INT(stats(f.pool).quarantined, ==, 1);
	pp_release(&writer);
}
