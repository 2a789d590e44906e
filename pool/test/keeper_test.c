/* The thread for the upkeep, and what calls it. */
/* SPDX-License-Identifier: MIT */
#include "upkeep.h"

TEST(keeper, has_a_thread_that_looks_by_itself)
{
	CLEANUP(fixture_close)
	struct fixture f = fixture_config((struct pp_config){ .readers = 2, .age_ms = 1000 });

	clock_travel_ms(2000);
	WAIT_FOR(stats(f.pool).renewed == 3);
}

TEST(keeper, is_woken_by_who_waits)
{
	CLEANUP(fixture_close)
	struct fixture f = fixture_config((struct pp_config){ .readers = 2, .readers_min = 1 });
	struct pp_lease leases[2] = { 0 };

	acquire_elsewhere(f.pool, PP_READ, &leases[0]);
	acquire(f.pool, PP_READ, &leases[1]);
	WAIT_FOR(stats(f.pool).grown == 1);
	release_all(leases, 2);
}

static bool is_poked(struct pp_pool *pool)
{
	bool poked;

	pthread_mutex_lock(&pool->keeper.mutex);
	poked = pool->keeper.poked;
	pthread_mutex_unlock(&pool->keeper.mutex);
	return poked;
}

/* Without being asked it would come a second later. */
TEST(keeper, is_asked_by_who_has_waited_too_long)
{
	CLEANUP(fixture_close) struct fixture f = manual((struct pp_config){ .readers = 1 }, NULL);
	struct pp_lease leases[2] = { 0 };
	struct elsewhere e = { f.pool, PP_READ, &leases[1] };
	pthread_t thread;

	acquire(f.pool, PP_READ, &leases[0]);
	thread = thread_start(acquire_there, &e);
	WAIT_FOR(is_poked(f.pool));
	pp_release(&leases[0]);
	pthread_join(thread, NULL);
	pp_release(&leases[1]);
}

TEST(keeper, says_when_to_be_called_again)
{
	CLEANUP(fixture_close)
	struct fixture f = manual((struct pp_config){ .readers = 1 }, NULL);
	uint64_t due = UINT64_MAX;

	CHECK_INT(pp_keep(f.pool, &due), ==, PP_OK);
	CHECK_INT(due, <=, 1000);
	CHECK_INT(due, >, 0);
}

static void *keep_until_closed(void *context)
{
	enum pp_status status;

	while ((status = pp_keep(context, NULL)) == PP_OK)
		;
	return (void *)(intptr_t)status;
}

TEST(keeper, can_be_called_while_the_pool_closes)
{
	struct fixture f = manual((struct pp_config){ .readers = 1 }, NULL);
	struct pp_lease lease = { 0 };
	pthread_t thread = thread_start(keep_until_closed, f.pool);
	void *status;

	acquire(f.pool, PP_READ, &lease);
	CHECK_INT(pp_close(f.pool, PP_NO_WAIT, NULL), ==, PP_LEASED);
	pthread_join(thread, &status);
	CHECK_INT((intptr_t)status, ==, PP_CLOSED);
	CHECK_INT(pp_resize(f.pool, 1, 2, NULL), ==, PP_CLOSED);
	CHECK_INT(pp_suspend(f.pool, PP_NO_WAIT), ==, PP_WOULD_DEADLOCK);
	pp_release(&lease);
	CHECK_INT(pp_suspend(f.pool, PP_NO_WAIT), ==, PP_CLOSED);
	fixture_close(&f);
}

/* What upkeep itself waits for is given up when the pool closes. */
TEST(keeper, waits_for_no_lock_once_the_pool_closes)
{
	CLEANUP(fixture_close)
	struct fixture f =
		manual((struct pp_config){ .readers = 1, .busy_timeout_ms = 86400000 }, NULL);
	sqlite3 *other;

	CHECK_INT(sqlite3_open(f.path, &other), ==, SQLITE_OK);
	sql(other, "BEGIN IMMEDIATE");
	atomic_store(&f.pool->keeper.stopping, true);
	CHECK_INT(sqlite3_exec(f.pool->anchor.db, "BEGIN IMMEDIATE", NULL, NULL, NULL), ==,
	          SQLITE_BUSY);
	atomic_store(&f.pool->keeper.stopping, false);
	sqlite3_close(other);
}

/* Nothing of a pool is left that cannot have its thread. */
TEST(keeper, without_a_thread_is_no_pool)
{
	CLEANUP(fixture_close) struct fixture f = fixture_dir();
	struct pp_config config = { .path = f.path, .readers = 1 };
	pthread_attr_t attributes, before;
	struct pp_error error = { 0 };

	pthread_getattr_default_np(&before);
	pthread_attr_init(&attributes);
	pthread_attr_setstacksize(&attributes, (size_t)1 << 46); /* More than there is room for. */
	pthread_setattr_default_np(&attributes);
	CHECK_INT(pp_open(&config, &f.pool, &error), ==, PP_NOMEM);
	CHECK_CONTAINS(error.message, "no thread for upkeep");
	CHECK_INT(error.system_errno, !=, 0);
	pthread_setattr_default_np(&before);
	CHECK(f.pool == NULL);
	must(pp_open(&config, &f.pool, &error), &error);
}
