/* All of a pool at once: exclusive leases, suspension. */
/* SPDX-License-Identifier: MIT */
#include "upkeep.h"

/* --- Exclusive ---------------------------------------------------------------------------- */

TEST_ROWS(exclusive, is_alone_until_it_is_given_back, 2)
{
	CLEANUP(fixture_close)
	struct fixture f = fixture_config((struct pp_config){
		.readers = 2, .journal = row == 0 ? PP_JOURNAL_WAL : PP_JOURNAL_DELETE });
	struct pp_lease lease = { 0 }, none = { 0 };
	struct visitor v = { .pool = f.pool, .lane = PP_READ, .deadline = PP_FOREVER };
	pthread_t thread;

	acquire(f.pool, PP_EXCLUSIVE, &lease);
	CHECK_INT(stats(f.pool).read.open, ==, 0);
	CHECK_INT(pp_acquire(f.pool, PP_READ, PP_NO_WAIT, &none, NULL), ==, PP_TIMEOUT);
	CHECK_INT(pp_acquire(f.pool, PP_WRITE, PP_NO_WAIT, &none, NULL), ==, PP_TIMEOUT);
	thread = thread_start(visit, &v);
	WAIT_FOR(stats(f.pool).read.waiting == 1);
	sql(lease.db, "VACUUM");
	pp_release(&lease);
	pthread_join(thread, NULL);
	CHECK_INT(v.status, ==, PP_OK);
	acquire(f.pool, PP_WRITE, &lease);
	sql(lease.db, "INSERT INTO t VALUES (1, 1)");
	pp_release(&lease);
	CHECK_INT(rows_in(f.pool), ==, 1);
}

/* Page size and journal mode need that no other connection is open; the pool has its own mode again
 * afterwards. */
TEST(exclusive, can_leave_the_wal_and_come_back)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(3);
	struct pp_lease lease = { 0 };

	acquire(f.pool, PP_EXCLUSIVE, &lease);
	sql(lease.db, "PRAGMA journal_mode=DELETE; PRAGMA page_size=8192; VACUUM");
	pp_release(&lease);
	acquire(f.pool, PP_READ, &lease);
	CHECK_INT(number(lease.db, "PRAGMA page_size"), ==, 8192);
	CHECK_INT(number(lease.db, "SELECT count(*) FROM pragma_journal_mode WHERE journal_mode = "
	                           "'wal'"),
	          ==, 1);
	pp_release(&lease);
}

TEST(exclusive, waits_for_readers_and_lets_no_new_ones_in)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(2);
	struct pp_lease reader = { 0 }, lease = { 0 }, none = { 0 };
	struct elsewhere e = { f.pool, PP_EXCLUSIVE, &lease };
	pthread_t thread;

	acquire(f.pool, PP_READ, &reader);
	thread = thread_start(acquire_there, &e);
	WAIT_FOR(pp_acquire(f.pool, PP_READ, PP_NO_WAIT, &none, NULL) == PP_TIMEOUT ||
	         pp_release(&none) != PP_OK);
	pp_release(&reader);
	pthread_join(thread, NULL);
	pp_release(&lease);
}

TEST(exclusive, gives_up_at_its_deadline_and_leaves_all_as_it_was)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(2);
	struct pp_lease reader = { 0 }, lease = { 0 };
	struct pp_token token = { 0 };
	struct pp_error error;

	acquire_elsewhere(f.pool, PP_READ, &reader);
	CHECK_INT(pp_acquire(f.pool, PP_EXCLUSIVE, pp_in_ms(20), &lease, &error), ==, PP_TIMEOUT);
	CHECK_STR(error.doing, "acquire the whole pool");
	CHECK(lease.db == NULL);
	acquire(f.pool, PP_READ, &lease);
	pp_release(&lease);
	acquire(f.pool, PP_WRITE, &lease);
	pp_release(&lease);
	pp_cancel(&token);
	CHECK_INT(pp_acquire(f.pool, PP_EXCLUSIVE, pp_with_token(PP_FOREVER, &token), &lease, NULL),
	          ==, PP_CANCELLED);
	pp_release(&reader);
	acquire(f.pool, PP_EXCLUSIVE, &lease);
	pp_release(&lease);
}

TEST(exclusive, would_wait_for_its_own_reader)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(2);
	struct pp_lease reader = { 0 }, lease = { 0 };

	acquire(f.pool, PP_READ, &reader);
	CHECK_INT(pp_acquire(f.pool, PP_EXCLUSIVE, PP_FOREVER, &lease, NULL), ==,
	          PP_WOULD_DEADLOCK);
	pp_release(&reader);
	CHECK_INT(stats(f.pool).deadlocks, ==, 1);
}

TEST(exclusive, leaves_memdb_its_store)
{
	CLEANUP(fixture_close)
	struct fixture f =
		fixture_config((struct pp_config){ .path = "file:/alone?vfs=memdb", .readers = 2 });
	struct pp_lease lease = { 0 };

	acquire(f.pool, PP_EXCLUSIVE, &lease);
	sql(lease.db, "INSERT INTO t VALUES (1, 1); PRAGMA cache_size=10");
	pp_release(&lease);
	CHECK_INT(rows_in(f.pool), ==, 1);
}

/* Upkeep leaves it alone, but for being held too long. */
TEST(exclusive, is_told_of_when_it_is_held_too_long_and_not_replaced)
{
	struct diary diary = { 0 };
	CLEANUP(fixture_close)
	struct fixture f = manual((struct pp_config){ .readers = 1,
	                                              .lease_warn_ms = 1000,
	                                              .lease_max_ms = 2000,
	                                              .lease_grace_ms = 10,
	                                              .age_ms = 100 },
	                          &diary);
	struct pp_lease lease = { 0 };
	uint64_t opened;

	acquire(f.pool, PP_EXCLUSIVE, &lease);
	opened = stats(f.pool).opened;
	later(&f, 3000);
	later(&f, 1000);
	CHECK_INT(stats(f.pool).opened, ==, opened);
	CHECK(f.pool->anchor.db == NULL); /* Nothing beside it. */
	CHECK_INT(stats(f.pool).overdue, ==, 1);
	CHECK_INT(stats(f.pool).interrupted, ==, 1);
	CHECK_INT(stats(f.pool).quarantined, ==, 0);
	CHECK_INT(stats(f.pool).renewed, ==, 0);
	pp_release(&lease);
}

/* Its connection was dirty, and cannot be opened anew now: who comes next tries again. */
TEST(exclusive, ends_also_when_nothing_can_be_opened)
{
	CLEANUP(fixture_close)
	struct fixture f =
		fixture_config((struct pp_config){ .readers = 1, .on_open = refuse_when_told });
	struct pp_lease lease = { 0 };

	acquire(f.pool, PP_READ, &lease);
	sql(lease.db, "PRAGMA cache_size=10"); /* An empty slot is there, too. */
	pp_release(&lease);
	acquire(f.pool, PP_EXCLUSIVE, &lease);
	sql(lease.db, "PRAGMA cache_size=10");
	atomic_store(&refusing, true);
	pp_release(&lease);
	CHECK_INT(pp_acquire(f.pool, PP_WRITE, PP_FOREVER, &lease, NULL), ==, PP_SQLITE);
	atomic_store(&refusing, false);
	acquire(f.pool, PP_EXCLUSIVE, &lease);
	pp_release(&lease);
}

/* Without the connection that is never lent the WAL goes with the last one that is: SQLite took it,
 * and nobody else. */
TEST(exclusive, that_leaves_no_anchor_does_not_miss_the_wal)
{
	CLEANUP(fixture_close)
	struct fixture f =
		manual((struct pp_config){ .readers = 1, .on_open = refuse_when_told }, NULL);
	struct pp_lease lease = { 0 };
	struct pp_error error;

	acquire(f.pool, PP_EXCLUSIVE, &lease);
	atomic_store(&refusing, true);
	pp_release(&lease);
	atomic_store(&refusing, false);
	acquire(f.pool, PP_WRITE, &lease);
	sql(lease.db, "PRAGMA cache_size=7"); /* Has it closed. */
	pp_release(&lease);
	must(pp_acquire(f.pool, PP_WRITE, PP_NO_WAIT, &lease, &error), &error);
	pp_release(&lease);
}

/* Somebody has the writer for an exclusive lease, and waits for one that is stuck. */
static bool stands_aside(struct pp_pool *pool)
{
	struct line *line = pool_lane(pool, PP_WRITE)->line;
	bool stands;

	pthread_mutex_lock(&line->mutex);
	stands = line->aside == 1;
	pthread_mutex_unlock(&line->mutex);
	return stands;
}

static struct fixture with_a_stuck_writer(struct pp_lease *ret_stuck)
{
	struct fixture f = manual(
		(struct pp_config){ .readers = 1, .lease_max_ms = 1000, .lease_grace_ms = 1 },
		NULL);

	acquire_elsewhere(f.pool, PP_WRITE, ret_stuck);
	later(&f, 1100);
	later(&f, 10);
	CHECK_INT(stats(f.pool).quarantined, ==, 1);
	return f;
}

/* A writer in quarantine is still out, and may still write: nobody is alone beside him. */
TEST(exclusive, waits_for_a_writer_in_quarantine)
{
	struct pp_lease stuck = { 0 }, lease = { 0 };
	CLEANUP(fixture_close) struct fixture f = with_a_stuck_writer(&stuck);
	struct visitor v = { .pool = f.pool, .lane = PP_EXCLUSIVE, .deadline = PP_FOREVER };
	pthread_t thread;

	CHECK_INT(pp_acquire(f.pool, PP_EXCLUSIVE, pp_in_ms(20), &lease, NULL), ==, PP_TIMEOUT);
	thread = thread_start(visit, &v);
	WAIT_FOR(stands_aside(f.pool));
	pp_release(&stuck);
	pthread_join(thread, NULL);
	CHECK_INT(v.status, ==, PP_OK);
}

/* No longer than he may. */
TEST_ROWS(exclusive, gives_up_a_writer_in_quarantine, 2)
{
	struct pp_lease stuck = { 0 };
	CLEANUP(fixture_close) struct fixture f = with_a_stuck_writer(&stuck);
	struct pp_token token = { 0 };
	struct visitor v = { .pool = f.pool,
		             .lane = PP_EXCLUSIVE,
		             .deadline = pp_with_token(PP_FOREVER, &token) };
	pthread_t thread = thread_start(visit, &v);

	WAIT_FOR(stands_aside(f.pool));
	if (row == 0)
		pp_cancel(&token);
	else
		CHECK_INT(pp_close(f.pool, PP_NO_WAIT, NULL), ==, PP_LEASED);
	pthread_join(thread, NULL);
	CHECK_INT(v.status, ==, row == 0 ? PP_CANCELLED : PP_CLOSED);
	pp_release(&stuck);
}

/* What is to be renewed is open already, beside the old one: not beside an exclusive lease. */
TEST(exclusive, closes_successors_too)
{
	CLEANUP(fixture_close)
	struct fixture f = manual((struct pp_config){ .readers = 1, .age_ms = 1000 }, NULL);
	struct pp_lease lease = { 0 };
	struct slot *slot;

	acquire(f.pool, PP_READ, &lease);
	slot = lease.slot;
	later(&f, 2000);
	CHECK_INT(atomic_load(&slot->fate), ==, FATE_REPLACE);
	/* Given back just before that was decided. */
	atomic_store(&slot->fate, FATE_KEEP);
	pp_release(&lease);
	atomic_store(&slot->fate, FATE_REPLACE);
	acquire(f.pool, PP_EXCLUSIVE, &lease);
	CHECK_INT(stats(f.pool).read.open + stats(f.pool).write.open, ==, 1);
	pp_release(&lease);
	acquire(f.pool, PP_READ, &lease);
	pp_release(&lease);
}

/* Between his taking the writer and his being alone upkeep has found that it is old. */
TEST(exclusive, closes_its_own_successor)
{
	CLEANUP(fixture_close)
	struct fixture f = manual((struct pp_config){ .readers = 1, .age_ms = 1000 }, NULL);
	struct pp_lease lease = { 0 };
	struct elsewhere e = { f.pool, PP_EXCLUSIVE, &lease };
	pthread_t thread;

	pthread_mutex_lock(&f.pool->keep_mutex);
	thread = thread_start(acquire_there, &e);
	WAIT_FOR(stats(f.pool).write.leased == 1);
	clock_travel_ms(2000);
	size_keep(f.pool, clock_coarse_ms());
	CHECK_INT(atomic_load(&pool_lane(f.pool, PP_WRITE)->slots[0].fate), ==, FATE_REPLACE);
	pthread_mutex_unlock(&f.pool->keep_mutex);
	pthread_join(thread, NULL);
	CHECK_INT(stats(f.pool).read.open + stats(f.pool).write.open, ==, 1);
	pp_release(&lease);
	CHECK_INT(stats(f.pool).write.connections, ==, 1);
}

/* Or that it is stuck: another writer is in its place, and may write. */
TEST(exclusive, is_not_granted_to_who_is_in_quarantine)
{
	CLEANUP(fixture_close)
	struct fixture f = manual(
		(struct pp_config){ .readers = 1, .lease_max_ms = 1000, .lease_grace_ms = 1 },
		NULL);
	struct visitor v = { .pool = f.pool, .lane = PP_EXCLUSIVE, .deadline = PP_FOREVER };
	struct pp_lease lease = { 0 };
	pthread_t thread;

	pthread_mutex_lock(&f.pool->keep_mutex);
	thread = thread_start(visit, &v);
	WAIT_FOR(stats(f.pool).write.leased == 1);
	for (unsigned i = 0; i < 2; i++) {
		clock_travel_ms(1100);
		watchdog_keep(f.pool, clock_coarse_ms());
	}
	CHECK_INT(stats(f.pool).quarantined, ==, 1);
	pthread_mutex_unlock(&f.pool->keep_mutex);
	pthread_join(thread, NULL);
	CHECK_INT(v.status, ==, PP_TIMEOUT);
	CHECK_INT(stats(f.pool).returned_late, ==, 1);
	acquire(f.pool, PP_EXCLUSIVE, &lease);
	pp_release(&lease);
}

/* Upkeep is in the middle of something: the deadline is kept all the same. */
TEST(exclusive, waits_for_upkeep_no_longer_than_its_deadline)
{
	CLEANUP(fixture_close) struct fixture f = manual((struct pp_config){ .readers = 1 }, NULL);
	struct pp_lease lease = { 0 };

	pthread_mutex_lock(&f.pool->keep_mutex);
	CHECK_INT(pp_acquire(f.pool, PP_EXCLUSIVE, pp_in_ms(20), &lease, NULL), ==, PP_TIMEOUT);
	CHECK_INT(pp_suspend(f.pool, pp_in_ms(20)), ==, PP_TIMEOUT);
	pthread_mutex_unlock(&f.pool->keep_mutex);
	acquire(f.pool, PP_EXCLUSIVE, &lease);
	pp_release(&lease);
}

/* Nor does he to give up. */
TEST(exclusive, gives_up_while_upkeep_is_at_work)
{
	CLEANUP(fixture_close) struct fixture f = manual((struct pp_config){ .readers = 1 }, NULL);
	struct pp_token token = { 0 };
	struct visitor v = { .pool = f.pool,
		             .lane = PP_EXCLUSIVE,
		             .deadline = pp_with_token(PP_FOREVER, &token) };
	struct pp_lease reader = { 0 };
	pthread_t thread;

	acquire_elsewhere(f.pool, PP_READ, &reader);
	thread = thread_start(visit, &v);
	WAIT_FOR(atomic_load(&f.pool->exclusive) != NULL);
	pthread_mutex_lock(&f.pool->keep_mutex);
	pp_cancel(&token);
	pthread_join(thread, NULL);
	pthread_mutex_unlock(&f.pool->keep_mutex);
	CHECK_INT(v.status, ==, PP_CANCELLED);
	pp_release(&reader);
	acquire(f.pool, PP_EXCLUSIVE, &reader);
	pp_release(&reader);
}

/* --- Suspension --------------------------------------------------------------------------- */

TEST(suspend, waits_for_leases_and_holds_everybody_until_resumed)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(2);
	struct pp_lease lease = { 0 };
	struct visitor reader = { .pool = f.pool, .lane = PP_READ, .deadline = PP_FOREVER };
	struct visitor writer = { .pool = f.pool, .lane = PP_WRITE, .deadline = PP_FOREVER };
	pthread_t threads[2];

	CHECK_INT(pp_resume(f.pool), ==, PP_MISUSE);
	CHECK_INT(pp_suspend(f.pool, PP_FOREVER), ==, PP_OK);
	CHECK_INT(pp_suspend(f.pool, PP_FOREVER), ==, PP_MISUSE);
	CHECK(stats(f.pool).suspended);
	threads[0] = thread_start(visit, &reader);
	threads[1] = thread_start(visit, &writer);
	WAIT_FOR(stats(f.pool).read.waiting == 1 && stats(f.pool).write.waiting == 1);
	CHECK_INT(pp_keep(f.pool, NULL), ==, PP_OK);
	line_serve(f.pool, PP_READ);
	CHECK_INT(stats(f.pool).read.leased + stats(f.pool).write.leased, ==, 0);
	CHECK_INT(pp_resume(f.pool), ==, PP_OK);
	pthread_join(threads[0], NULL);
	pthread_join(threads[1], NULL);
	CHECK_INT(reader.status, ==, PP_OK);
	CHECK_INT(writer.status, ==, PP_OK);
	CHECK(!stats(f.pool).suspended);
	acquire_elsewhere(f.pool, PP_READ, &lease);
	CHECK_INT(pp_suspend(f.pool, pp_in_ms(20)), ==, PP_TIMEOUT);
	CHECK(!stats(f.pool).suspended);
	pp_release(&lease);
	acquire_elsewhere(f.pool, PP_WRITE, &lease);
	CHECK_INT(pp_suspend(f.pool, pp_in_ms(20)), ==, PP_TIMEOUT);
	pp_release(&lease);
	acquire(f.pool, PP_READ, &lease);
	CHECK_INT(pp_suspend(f.pool, PP_FOREVER), ==, PP_WOULD_DEADLOCK);
	pp_release(&lease);
	CHECK_INT(pp_suspend(f.pool, PP_FOREVER), ==, PP_OK);
	CHECK_INT(pp_resume(f.pool), ==, PP_OK);
}

struct suspender {
	struct pp_pool *pool;
	atomic_bool started;
	enum pp_status status;
};

static void *suspend_it(void *context)
{
	struct suspender *s = context;

	atomic_store(&s->started, true);
	s->status = pp_suspend(s->pool, PP_FOREVER);
	return NULL;
}

TEST(suspend, ends_when_the_pool_closes)
{
	struct fixture f = fixture_open(2);
	struct suspender s = { .pool = f.pool };
	struct pp_lease lease = { 0 };
	pthread_t thread;

	acquire(f.pool, PP_READ, &lease);
	thread = thread_start(suspend_it, &s);
	WAIT_FOR(atomic_load(&f.pool->suspended) == SUSPENDED_SOON);
	CHECK_INT(pp_close(f.pool, PP_NO_WAIT, NULL), ==, PP_LEASED);
	pthread_join(thread, NULL);
	CHECK_INT(s.status, ==, PP_CLOSED);
	pp_release(&lease);
	CHECK_INT(pp_close(f.pool, PP_FOREVER, NULL), ==, PP_OK);
	fixture_remove(&f);
}

/* The numbers change, the slots when it is over. */
TEST(suspend, leaves_a_new_size_for_later)
{
	CLEANUP(fixture_close) struct fixture f = manual((struct pp_config){ .readers = 4 }, NULL);

	CHECK_INT(pp_suspend(f.pool, PP_FOREVER), ==, PP_OK);
	CHECK_INT(pp_resize(f.pool, 1, 1, NULL), ==, PP_OK);
	CHECK_INT(stats(f.pool).read.open, ==, 4);
	CHECK_INT(pp_resume(f.pool), ==, PP_OK);
	CHECK_INT(pp_keep(f.pool, NULL), ==, PP_OK);
	CHECK_INT(stats(f.pool).read.open, ==, 1);
	CHECK_INT(pp_suspend(f.pool, PP_FOREVER), ==, PP_OK);
	CHECK_INT(pp_resize(f.pool, 3, 3, NULL), ==, PP_OK);
	CHECK_INT(stats(f.pool).read.open, ==, 1);
	CHECK_INT(pp_resume(f.pool), ==, PP_OK);
	CHECK_INT(pp_keep(f.pool, NULL), ==, PP_OK);
	CHECK_INT(stats(f.pool).read.open, ==, 3);
}

static void *wait_for_upkeep(void *context)
{
	struct suspender *s = context;

	s->status = pp_suspend(s->pool, PP_FOREVER);
	return NULL;
}

/* The closer has given it up before it was complete. */
TEST(suspend, is_given_up_by_the_closer)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	struct suspender s = { .pool = f.pool };
	struct pp_lease lease = { 0 };
	pthread_t thread;

	acquire(f.pool, PP_READ, &lease);
	thread = thread_start(wait_for_upkeep, &s);
	WAIT_FOR(atomic_load(&f.pool->suspended) == SUSPENDED_SOON);
	suspension_end(f.pool);
	pp_release(&lease);
	pthread_join(thread, NULL);
	CHECK_INT(s.status, ==, PP_CLOSED);
	acquire(f.pool, PP_WRITE, &lease);
	pp_release(&lease);
}

TEST(suspend, keeps_nobody_from_being_told_of_the_close)
{
	CLEANUP(fixture_close) struct fixture f = manual((struct pp_config){ .readers = 1 }, NULL);
	struct pp_error error;

	CHECK_INT(pp_suspend(f.pool, PP_FOREVER), ==, PP_OK);
	atomic_store(&f.pool->keeper.stopping, true);
	CHECK_INT(pp_reopen(f.pool, PP_FOREVER, &error), ==, PP_CLOSED);
	atomic_store(&f.pool->keeper.stopping, false);
	CHECK_INT(pp_resume(f.pool), ==, PP_OK);
}

/* He holds something, but of another pool: waiting is no circle. */
TEST(suspend, waits_for_others_beside_leases_of_another_pool)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	CLEANUP(fixture_close)
	struct fixture other =
		fixture_config((struct pp_config){ .path = "file:/other?vfs=memdb", .readers = 1 });
	struct pp_lease here = { 0 }, there = { 0 };

	acquire_elsewhere(f.pool, PP_READ, &here);
	acquire(other.pool, PP_READ, &there);
	CHECK_INT(pp_suspend(f.pool, pp_in_ms(20)), ==, PP_TIMEOUT);
	pp_release(&here);
	CHECK_INT(pp_suspend(f.pool, PP_FOREVER), ==, PP_OK);
	CHECK_INT(pp_resume(f.pool), ==, PP_OK);
	pp_release(&there);
}
