/* All of a pool at once: exclusive leases, suspension; circles of waiters; overload; forks. */
/* SPDX-License-Identifier: MIT */
#include "upkeep.h"

#include <sys/wait.h>
#include <valgrind/valgrind.h>

/* --- Exclusive ---------------------------------------------------------------------------- */

static void *visit_reader(void *context)
{
	struct elsewhere *e = context;
	struct pp_lease lease = { 0 };

	acquire(e->pool, e->lane, &lease);
	CHECK_INT(number(lease.db, "SELECT count(*) FROM t"), >=, 0);
	pp_release(&lease);
	return NULL;
}

TEST_ROWS(exclusive, is_alone_until_it_is_given_back, 2)
{
	CLEANUP(fixture_close)
	struct fixture f = fixture_config((struct pp_config){
		.readers = 2, .journal = row == 0 ? PP_JOURNAL_WAL : PP_JOURNAL_DELETE });
	struct pp_lease lease = { 0 }, none = { 0 };
	struct elsewhere e = { .pool = f.pool, .lane = PP_READ };
	pthread_t thread;

	acquire(f.pool, PP_EXCLUSIVE, &lease);
	CHECK_INT(stats(f.pool).read.open, ==, 0);
	CHECK_INT(pp_acquire(f.pool, PP_READ, PP_NO_WAIT, &none, NULL), ==, PP_TIMEOUT);
	CHECK_INT(pp_acquire(f.pool, PP_WRITE, PP_NO_WAIT, &none, NULL), ==, PP_TIMEOUT);
	thread = thread_start(visit_reader, &e);
	WAIT_FOR(stats(f.pool).read.waiting == 1);
	sql(lease.db, "VACUUM");
	pp_release(&lease);
	pthread_join(thread, NULL);
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

static atomic_bool refusing;

static int refuse_when_told(sqlite3 *db, void *context)
{
	(void)db, (void)context;
	return atomic_load(&refusing) ? SQLITE_AUTH : SQLITE_OK;
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

/* A writer in quarantine is still out, and may still write: nobody is alone beside him. */
TEST(exclusive, waits_for_a_writer_in_quarantine)
{
	CLEANUP(fixture_close)
	struct fixture f = manual(
		(struct pp_config){ .readers = 1, .lease_max_ms = 1000, .lease_grace_ms = 1 },
		NULL);
	struct pp_lease stuck = { 0 }, lease = { 0 };

	acquire_elsewhere(f.pool, PP_WRITE, &stuck);
	later(&f, 1100);
	later(&f, 10);
	CHECK_INT(stats(f.pool).quarantined, ==, 1);
	CHECK_INT(pp_acquire(f.pool, PP_EXCLUSIVE, pp_in_ms(20), &lease, NULL), ==, PP_TIMEOUT);
	pp_release(&stuck);
	acquire(f.pool, PP_EXCLUSIVE, &lease);
	pp_release(&lease);
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

/* --- Suspension --------------------------------------------------------------------------- */

TEST(suspend, waits_for_leases_and_holds_everybody_until_resumed)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(2);
	struct pp_lease lease = { 0 };
	struct elsewhere readers = { .pool = f.pool, .lane = PP_READ };
	struct elsewhere writers = { .pool = f.pool, .lane = PP_WRITE };
	pthread_t threads[2];

	CHECK_INT(pp_resume(f.pool), ==, PP_MISUSE);
	CHECK_INT(pp_suspend(f.pool, PP_FOREVER), ==, PP_OK);
	CHECK_INT(pp_suspend(f.pool, PP_FOREVER), ==, PP_MISUSE);
	CHECK(stats(f.pool).suspended);
	threads[0] = thread_start(visit_reader, &readers);
	threads[1] = thread_start(visit_reader, &writers);
	WAIT_FOR(stats(f.pool).read.waiting == 1 && stats(f.pool).write.waiting == 1);
	CHECK_INT(pp_keep(f.pool, NULL), ==, PP_OK);
	line_serve(f.pool, PP_READ);
	CHECK_INT(stats(f.pool).read.leased + stats(f.pool).write.leased, ==, 0);
	CHECK_INT(pp_resume(f.pool), ==, PP_OK);
	pthread_join(threads[0], NULL);
	pthread_join(threads[1], NULL);
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

/* --- Circles ------------------------------------------------------------------------------ */

TEST_ROWS(deadlock, of_a_thread_with_itself_is_told_at_once, 2)
{
	enum pp_lane lane = row == 0 ? PP_READ : PP_WRITE;
	CLEANUP(fixture_close) struct fixture f = fixture_open(2);
	struct pp_lease leases[3] = { 0 };
	struct pp_error error;
	unsigned held = lane == PP_READ ? 2 : 1;

	for (unsigned i = 0; i < held; i++)
		acquire(f.pool, lane, &leases[i]);
	CHECK_INT(pp_acquire(f.pool, lane, PP_FOREVER, &leases[2], &error), ==, PP_WOULD_DEADLOCK);
	CHECK_CONTAINS(error.message, "release what this thread holds");
	CHECK_INT(stats(f.pool).deadlocks, ==, 1);
	release_all(leases, 2);
}

/* With a rollback journal a reader excludes the writer. */
TEST(deadlock, across_the_gate_is_told_at_once)
{
	CLEANUP(fixture_close)
	struct fixture f =
		fixture_config((struct pp_config){ .readers = 2, .journal = PP_JOURNAL_DELETE });
	struct pp_lease leases[2] = { 0 };

	acquire(f.pool, PP_READ, &leases[0]);
	CHECK_INT(pp_acquire(f.pool, PP_WRITE, PP_FOREVER, &leases[1], NULL), ==,
	          PP_WOULD_DEADLOCK);
	release_all(leases, 1);
}

struct crossing {
	struct pp_pool *pool;
	enum pp_status status;
};

static void *hold_the_reader_and_want_the_writer(void *context)
{
	struct crossing *c = context;
	struct pp_lease leases[2] = { 0 };

	acquire(c->pool, PP_READ, &leases[0]);
	c->status = pp_acquire(c->pool, PP_WRITE, PP_FOREVER, &leases[1], NULL);
	release_all(leases, 2);
	return NULL;
}

/* One holds the writer and wants the reader, the other the other way round: whoever comes second is
 * told, and the first gets what he waits for. */
TEST(deadlock, of_two_threads_is_told_to_the_second)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	struct crossing c = { .pool = f.pool };
	struct pp_lease writer = { 0 }, reader = { 0 };
	pthread_t thread;

	acquire(f.pool, PP_WRITE, &writer);
	thread = thread_start(hold_the_reader_and_want_the_writer, &c);
	WAIT_FOR(stats(f.pool).write.waiting == 1);
	CHECK_INT(pp_acquire(f.pool, PP_READ, PP_FOREVER, &reader, NULL), ==, PP_WOULD_DEADLOCK);
	pp_release(&writer);
	pthread_join(thread, NULL);
	CHECK_INT(c.status, ==, PP_OK);
}

static void *hold_until_told(void *context)
{
	struct worker *w = context;
	struct pp_lease lease = { 0 };

	acquire(w->pool, PP_READ, &lease);
	atomic_fetch_add(&w->rounds, 1);
	WAIT_FOR(atomic_load(&w->stop));
	pp_release(&lease);
	return NULL;
}

/* All that there are, but one more can be opened. */
TEST(deadlock, is_not_seen_where_the_pool_may_grow)
{
	CLEANUP(fixture_close)
	struct fixture f = fixture_config((struct pp_config){ .readers = 2, .readers_min = 1 });
	struct pp_lease leases[2] = { 0 };

	acquire(f.pool, PP_READ, &leases[0]);
	acquire(f.pool, PP_READ, &leases[1]);
	release_all(leases, 2);
	CHECK_INT(stats(f.pool).deadlocks, ==, 0);
}

/* Holding one and wanting another is no circle while somebody else may give his back. */
TEST(deadlock, is_not_seen_where_there_is_none)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(2);
	struct worker w = { .pool = f.pool };
	struct pp_lease leases[2] = { 0 };
	pthread_t thread = thread_start(hold_until_told, &w);

	WAIT_FOR(atomic_load(&w.rounds) == 1);
	acquire(f.pool, PP_READ, &leases[0]);
	CHECK_INT(pp_acquire(f.pool, PP_READ, pp_in_ms(20), &leases[1], NULL), ==, PP_TIMEOUT);
	atomic_store(&w.stop, true);
	acquire(f.pool, PP_READ, &leases[1]);
	pthread_join(thread, NULL);
	release_all(leases, 2);
	CHECK_INT(stats(f.pool).deadlocks, ==, 0);
}

/* --- Overload ----------------------------------------------------------------------------- */

struct shed {
	struct pp_pool *pool;
	atomic_uint refused, served;
};

static void *ask_once(void *context)
{
	struct shed *s = context;
	struct pp_lease lease = { 0 };
	enum pp_status status = pp_acquire(s->pool, PP_READ, PP_FOREVER, &lease, NULL);

	atomic_fetch_add(status == PP_OK ? &s->served : &s->refused, 1);
	pp_release(&lease);
	return NULL;
}

/* All have waited longer than the target, for longer than the interval: the heads are refused, one
 * at first. Then the wait is short again, and nobody is. */
TEST(shed, refuses_the_head_when_all_wait_too_long)
{
	enum { VISITORS = 6 };
	CLEANUP(fixture_close)
	struct fixture f = manual((struct pp_config){ .readers = 1,
	                                              .overtake_ms = 60000,
	                                              .shed_ms = 50,
	                                              .shed_interval_ms = 100 },
	                          NULL);
	struct shed s = { .pool = f.pool };
	struct pp_lease lease = { 0 };
	pthread_t threads[VISITORS];

	acquire(f.pool, PP_READ, &lease);
	for (unsigned i = 0; i < VISITORS; i++) {
		threads[i] = thread_start(ask_once, &s);
		WAIT_FOR(stats(f.pool).read.waiting == i + 1);
	}
	line_serve(f.pool, PP_READ);
	CHECK_INT(stats(f.pool).sheds, ==, 0);
	clock_travel_ms(60);
	line_serve(f.pool, PP_READ); /* Too long, but not yet for an interval. */
	CHECK_INT(stats(f.pool).read.waiting, ==, VISITORS);
	clock_travel_ms(110);
	line_serve(f.pool, PP_READ);
	WAIT_FOR(atomic_load(&s.refused) == 1);
	CHECK_INT(stats(f.pool).sheds, ==, 1);
	line_serve(f.pool, PP_READ); /* The next not before another interval. */
	CHECK_INT(stats(f.pool).read.waiting, ==, VISITORS - 1);
	clock_travel_ms(110);
	line_serve(f.pool, PP_READ);
	WAIT_FOR(atomic_load(&s.refused) == 2);
	pp_release(&lease);
	for (unsigned i = 0; i < VISITORS; i++)
		pthread_join(threads[i], NULL);
	CHECK_INT(s.served + s.refused, ==, VISITORS);
	CHECK_INT(stats(f.pool).sheds, ==, s.refused);
	CHECK_INT(stats(f.pool).read.overloads, ==, s.refused);
	acquire(f.pool, PP_READ, &lease);
	pp_release(&lease);
}

/* The one who waited too long was served; that was then. */
TEST(shed, forgets_when_nobody_waits)
{
	CLEANUP(fixture_close)
	struct fixture f = manual((struct pp_config){ .readers = 1,
	                                              .overtake_ms = 60000,
	                                              .shed_ms = 10,
	                                              .shed_interval_ms = 100 },
	                          NULL);
	struct shed s = { .pool = f.pool };
	struct pp_lease lease = { 0 };

	for (unsigned round = 0; round < 2; round++) {
		pthread_t thread;

		acquire(f.pool, PP_READ, &lease);
		thread = thread_start(ask_once, &s);
		WAIT_FOR(stats(f.pool).read.waiting == 1);
		clock_travel_ms(40);
		pp_release(&lease);
		pthread_join(thread, NULL);
		clock_travel_ms(1000);
	}
	CHECK_INT(s.served, ==, 2);
}

TEST(shed, comes_faster_the_longer_it_lasts)
{
	enum { VISITORS = 12 };
	CLEANUP(fixture_close)
	struct fixture f = manual((struct pp_config){ .readers = 1,
	                                              .overtake_ms = 60000,
	                                              .shed_ms = 10,
	                                              .shed_interval_ms = 100 },
	                          NULL);
	struct shed s = { .pool = f.pool };
	struct pp_lease lease = { 0 };
	pthread_t threads[VISITORS];
	unsigned at_half;

	acquire(f.pool, PP_READ, &lease);
	for (unsigned i = 0; i < VISITORS; i++) {
		threads[i] = thread_start(ask_once, &s);
		WAIT_FOR(stats(f.pool).read.waiting == i + 1);
	}
	clock_travel_ms(20);
	line_serve(f.pool, PP_READ);
	for (unsigned ms = 0; ms < 410; ms += 10) {
		clock_travel_ms(10);
		line_serve(f.pool, PP_READ);
	}
	at_half = VISITORS - stats(f.pool).read.waiting;
	for (unsigned ms = 0; ms < 410; ms += 10) {
		clock_travel_ms(10);
		line_serve(f.pool, PP_READ);
	}
	CHECK_INT(at_half, >=, 3);
	CHECK_INT(VISITORS - stats(f.pool).read.waiting - at_half, >, at_half);
	pp_release(&lease);
	for (unsigned i = 0; i < VISITORS; i++)
		pthread_join(threads[i], NULL);
}

/* --- Forks -------------------------------------------------------------------------------- */

static enum pp_status never(struct pp_lease *lease, void *context)
{
	(void)lease, (void)context;
	_exit(99);
}

/* Runs in the child: 0, or the number of the claim that does not hold. SQLite is not touched: a
 * child that did would take locks that the parent's handles believe theirs. */
static int every_call_says_forked(struct pp_pool *pool, struct pp_lease *lease, const char *path)
{
	struct pp_lease none = { 0 };
	struct pp_error error = { 0 };
	struct pp_stats stats;
	struct pp_histogram histogram;
	struct pp_connection connections[1];
	struct pp_pool *mine;
	sqlite3_stmt *stmt;
	unsigned n;
	const enum pp_status said[] = {
		pp_acquire(pool, PP_READ, PP_NO_WAIT, &none, &error),
		pp_transact(pool, NULL, never, NULL, &error),
		pp_begin(lease, &error),
		pp_commit(lease, &error),
		pp_rollback(lease, &error),
		pp_prepare(lease, "SELECT 1", &stmt, &error),
		pp_authorizer_set(lease, NULL, NULL),
		pp_progress_set(lease, 1, NULL, NULL),
		pp_release(lease),
		pp_keep(pool, NULL),
		pp_resize(pool, 1, 1, &error),
		pp_suspend(pool, PP_NO_WAIT),
		pp_resume(pool),
		pp_reopen(pool, PP_NO_WAIT, &error),
		pp_backup(pool, &(struct pp_backup){ .to_path = "x" }, &error),
		pp_stats_read(pool, &stats),
		pp_connections_read(pool, connections, 1, &n),
		pp_histogram_read(pool, PP_HISTOGRAM_WAIT, &histogram),
		pp_close(pool, PP_NO_WAIT, NULL),
		pp_open(&(struct pp_config){ .path = path }, &mine, &error),
	};

	for (unsigned i = 0; i < sizeof said / sizeof *said; i++)
		if (said[i] != PP_FORKED)
			return (int)i + 1;
	return pp_check(pool, NULL, 0) != 0 ? 100 : 0;
}

/* What was the parent's is lost in the child, as it should be: memcheck is not to count that. And
 * _exit() alone would lose what the child has covered. */
static void child_end_with(int status)
{
	VALGRIND_CLO_CHANGE("--leak-check=no");
#ifdef PP_COVERAGE
	extern void __gcov_dump(void);

	__gcov_dump();
#endif
	_exit(status);
}

static int in_child(int (*what)(struct fixture *, struct pp_lease *), struct fixture *f,
                    struct pp_lease *lease)
{
	int status;
	pid_t child = fork();

	if (child == 0)
		child_end_with(what(f, lease));
	CHECK(child > 0);
	CHECK_INT(waitpid(child, &status, 0), ==, child);
	CHECK_MSG(WIFEXITED(status), "the child ended by signal %d", WTERMSIG(status));
	return WEXITSTATUS(status);
}

static int calls_say_forked(struct fixture *f, struct pp_lease *lease)
{
	return every_call_says_forked(f->pool, lease, f->path);
}

TEST(fork, is_told_by_every_call_in_the_child)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(2);
	struct pp_lease lease = { 0 };

	acquire(f.pool, PP_READ, &lease);
	CHECK_INT(in_child(calls_say_forked, &f, &lease), ==, 0);
	/* The parent's is as it was. */
	CHECK_INT(number(lease.db, "SELECT count(*) FROM t"), ==, 0);
	pp_release(&lease);
}

/* tsan takes the parent's threads for the child's, and a new one in the place of one for a second;
 * asan's allocator does not make its locks anew in a child. */
#ifdef __SANITIZE_THREAD__
static const enum pp_keeper childs_keeper = PP_KEEPER_MANUAL;
#else
static const enum pp_keeper childs_keeper = PP_KEEPER_THREAD;
#endif
#ifdef __SANITIZE_ADDRESS__
enum { BORROWERS_AT_FORK = 0 };
#else
enum { BORROWERS_AT_FORK = 2 };
#endif

static int another_file_works(struct fixture *f, struct pp_lease *lease)
{
	struct pp_config config = { .path = "b.db", .readers = 1, .keeper = childs_keeper };
	struct pp_pool *pool;
	struct pp_error error;

	(void)lease;
	if (chdir(f->dir) != 0 || pp_open(&config, &pool, &error) != PP_OK)
		return 1;
	if (pp_acquire(pool, PP_WRITE, PP_NO_WAIT, lease, &error) != PP_OK)
		return 2;
	if (sqlite3_exec(lease->db, "CREATE TABLE t(x)", NULL, NULL, NULL) != SQLITE_OK)
		return 3;
	if (pp_release(lease) != PP_OK || pp_check(pool, NULL, 0) != 0)
		return 4;
	return pp_close(pool, PP_FOREVER, NULL) == PP_OK ? 0 : 5;
}

/* Other threads may be anywhere in the pool at the fork: their locks are made anew. */
TEST(fork, leaves_the_child_other_files)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(2);
	struct worker w = { .pool = f.pool };
	pthread_t threads[BORROWERS_AT_FORK + 1];
	struct pp_lease none = { 0 };

	for (int i = 0; i < BORROWERS_AT_FORK; i++)
		threads[i] = thread_start(borrow_until_stopped, &w);
	WAIT_FOR(BORROWERS_AT_FORK == 0 || atomic_load(&w.rounds) > 10);
	CHECK_INT(in_child(another_file_works, &f, &none), ==, 0);
	atomic_store(&w.stop, true);
	for (int i = 0; i < BORROWERS_AT_FORK; i++)
		pthread_join(threads[i], NULL);
}

static enum pp_status fork_inside(struct pp_lease *lease, void *context)
{
	sql(lease->db, "INSERT INTO t VALUES (1, 1)");
	*(pid_t *)context = fork();
	return PP_OK;
}

/* The callback returns twice: in the child nothing is committed. */
TEST(fork, inside_a_transaction_commits_once)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	struct pp_error error = { 0 };
	pid_t child = -1;
	int status;
	enum pp_status said = pp_transact(f.pool, NULL, fork_inside, &child, &error);

	if (child == 0)
		child_end_with(said == PP_FORKED ? 0 : 1);
	must(said, &error);
	CHECK_INT(waitpid(child, &status, 0), ==, child);
	CHECK_INT(status, ==, 0);
	CHECK_INT(rows_in(f.pool), ==, 1);
}

/* --- Looking ------------------------------------------------------------------------------ */

TEST(connections, are_told_one_by_one)
{
	CLEANUP(fixture_close) struct fixture f = manual((struct pp_config){ .readers = 2 }, NULL);
	struct pp_lease lease = { 0 };
	struct pp_connection c[4];
	sqlite3_stmt *stmt;
	unsigned n = 0;

	acquire(f.pool, PP_READ, &lease);
	must(pp_prepare(&lease, "SELECT 42", &stmt, NULL), NULL);
	clock_travel_ms(5000);
	CHECK_INT(pp_connections_read(f.pool, c, 4, &n), ==, PP_OK);
	CHECK_INT(n, ==, 3);
	CHECK_INT(c[0].lane, ==, PP_WRITE);
	CHECK_INT(c[0].state, ==, PP_CONNECTION_IDLE);
	CHECK_INT(c[0].uses, ==, 1);
	CHECK_INT(c[1].lane, ==, PP_READ);
	CHECK_INT(c[1].state, ==, PP_CONNECTION_LENT);
	CHECK_STR(c[1].sql, "SELECT 42");
	CHECK_INT(c[1].thread, ==, thread_number());
	CHECK_INT(c[1].since_ms, >=, 4990);
	CHECK_INT(c[1].age_ms, >=, 4990);
	CHECK_INT(c[1].bytes, >, 0);
	CHECK_INT(c[2].state, ==, PP_CONNECTION_IDLE);
	CHECK(c[1].id != c[2].id);
	pp_release(&lease);
	CHECK_INT(pp_suspend(f.pool, PP_FOREVER), ==, PP_OK);
	CHECK_INT(pp_connections_read(f.pool, c, 1, &n), ==, PP_OK);
	CHECK_INT(n, ==, 3);
	CHECK_INT(c[0].state, ==, PP_CONNECTION_KEPT);
	CHECK_INT(pp_resume(f.pool), ==, PP_OK);
	acquire(f.pool, PP_WRITE, &lease);
	sql(lease.db, "PRAGMA cache_size=10");
	pp_release(&lease);
	CHECK_INT(pp_connections_read(f.pool, c, 4, &n), ==, PP_OK);
	CHECK_INT(c[0].state, ==, PP_CONNECTION_CLOSED);
	CHECK_STR(c[1].sql, "");
	CHECK_INT(c[1].thread, ==, 0);
}

/* Without CHECK, which takes a lock and writes: the two would go one after the other. */
static void *prepare_many(void *context)
{
	struct worker *w = context;
	struct pp_lease lease = { 0 };

	for (unsigned n = 0; !atomic_load(&w->stop); n++) {
		char text[64];
		sqlite3_stmt *stmt;

		snprintf(text, sizeof text, "SELECT %u", n);
		if (pp_acquire(w->pool, PP_READ, PP_FOREVER, &lease, NULL) == PP_OK &&
		    pp_prepare(&lease, text, &stmt, NULL) == PP_OK)
			atomic_fetch_add(&w->rounds, 1);
		pp_release(&lease);
	}
	return NULL;
}

/* The texts are evicted as fast as they are looked at. */
TEST(connections, can_be_looked_at_while_texts_go)
{
	CLEANUP(fixture_close)
	struct fixture f = fixture_config((struct pp_config){ .readers = 1, .statements_max = 1 });
	struct worker w = { .pool = f.pool };
	pthread_t thread = thread_start(prepare_many, &w);
	unsigned wrong = 0, n;

	while (atomic_load(&w.rounds) < 20000 / slowness()) {
		struct pp_connection c[2] = { 0 };

		pp_connections_read(f.pool, c, 2, &n);
		wrong += c[1].sql[0] != '\0' && strncmp(c[1].sql, "SELECT ", 7) != 0;
	}
	atomic_store(&w.stop, true);
	pthread_join(thread, NULL);
	CHECK_INT(wrong, ==, 0);
}

static int without_progress(const char *option)
{
	return strcmp(option, "OMIT_PROGRESS_CALLBACK") == 0 || strcmp(option, "OMIT_TRACE") == 0;
}

TEST(features, that_are_missing_are_told)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);

	CHECK_STR(stats(f.pool).missing_features, "");
	compileoption_used = without_progress;
	CHECK_CONTAINS(stats(f.pool).missing_features, "cannot be cancelled or interrupted; trace");
	compileoption_used = sqlite3_compileoption_used;
}
