/* Who checkpoints when a commit has filled the WAL: itself where nobody waits, else upkeep. */
/* SPDX-License-Identifier: MIT */
#include "wal.h"

/* For whom a checkpoint in a commit would take longer. */
static void two_share_commits(struct pp_pool *pool, bool begin)
{
	for (int i = 0; i < 2; i++)
		(begin ? group_enter : group_exit)(pool);
}

/* Nobody calls but the commit itself. */
TEST(wal, the_thread_is_woken_by_the_commit_that_fills_it)
{
	CLEANUP(fixture_close)
	struct fixture f = fixture_config((struct pp_config){ .on_open = no_sync });

	two_share_commits(f.pool, true);
	grow(f.pool, 1000); /* And not on beside it: that may be in its way. */
	two_share_commits(f.pool, false);
	WAIT_FOR(stats(f.pool).checkpoints > 0);
}

/* As if there were a thread, which never comes. */
static struct fixture unattended(void)
{
	struct fixture f = fixture_config(
		(struct pp_config){ .keeper = PP_KEEPER_MANUAL, .on_open = no_sync });

	f.pool->config.keeper = PP_KEEPER_THREAD;
	return f;
}

/* At once, not when it looks anyway. */
TEST(wal, that_has_grown_wakes_the_thread)
{
	CLEANUP(fixture_close) struct fixture f = unattended();

	two_share_commits(f.pool, true);
	grow(f.pool, 900);
	CHECK(!f.pool->keeper.poked);
	grow(f.pool, 1001);
	CHECK(f.pool->keeper.poked);
	two_share_commits(f.pool, false);
	CHECK_INT(stats(f.pool).checkpoints, ==, 0);
	f.pool->config.keeper = PP_KEEPER_MANUAL;
}

/* ... and begins anew, so it does not grow. */
TEST(wal, is_checkpointed_by_a_commit_for_which_nobody_waits)
{
	CLEANUP(fixture_close) struct fixture f = unattended();

	group_enter(f.pool); /* Its own. */
	grow(f.pool, 900);
	CHECK_INT(stats(f.pool).checkpoints, ==, 0);
	for (int i = 1; i <= 3; i++) {
		while (stats(f.pool).checkpoints < (uint64_t)i) {
			CHECK_INT(atomic_load(&f.pool->wal.pages), <, 1010);
			grow(f.pool, 0);
		}
		grow(f.pool, 0);
		CHECK_INT(atomic_load(&f.pool->wal.pages), <, 100);
	}
	CHECK(!f.pool->keeper.poked);
	group_exit(f.pool);
	f.pool->config.keeper = PP_KEEPER_MANUAL;
}

static void *wait_for_the_writer(void *pool)
{
	struct pp_lease lease = { 0 };

	acquire(pool, PP_WRITE, &lease);
	pp_release(&lease);
	return NULL;
}

TEST(wal, is_not_checkpointed_by_a_commit_while_somebody_stands_in_line)
{
	CLEANUP(fixture_close) struct fixture f = unattended();
	struct pp_lease lease = { 0 };
	pthread_t thread;

	grow(f.pool, 900);
	acquire(f.pool, PP_WRITE, &lease);
	thread = thread_start(wait_for_the_writer, f.pool);
	WAIT_FOR(stats(f.pool).write.waiting == 1);
	while (atomic_load(&f.pool->wal.pages) < 1500)
		sql(lease.db, "INSERT INTO big VALUES (zeroblob(3900))");
	CHECK_INT(stats(f.pool).checkpoints, ==, 0);
	pp_release(&lease);
	pthread_join(thread, NULL);
	grow(f.pool, 0);
	CHECK_INT(stats(f.pool).checkpoints, ==, 1);
	f.pool->config.keeper = PP_KEEPER_MANUAL;
}
