/* Upkeep in virtual time: idle, old and too few connections; leases held too long. */
/* SPDX-License-Identifier: MIT */
#include "upkeep.h"

/* --- Idle, old --------------------------------------------------------------------------- */

static void *borrow_a_while(void *context)
{
	struct elsewhere *e = context;

	acquire(e->pool, e->lane, e->lease);
	pp_release(e->lease);
	return NULL;
}

/* Lend so many readers at once, so that each is opened. */
static void grow_to(struct fixture *f, unsigned readers, struct pp_lease *leases)
{
	for (unsigned i = 0; i < readers; i++) {
		struct elsewhere e = { f->pool, PP_READ, &leases[i] };
		bool waits = stats(f->pool).read.connections == i;
		pthread_t thread = thread_start(acquire_there, &e);

		if (waits) {
			WAIT_FOR(stats(f->pool).read.waiting == 1);
			later(f, 5);
		}
		pthread_join(thread, NULL);
	}
}

TEST(keeper, opens_one_more_for_who_waits_longer_than_the_target)
{
	struct diary diary = { 0 };
	CLEANUP(fixture_close)
	struct fixture f =
		manual((struct pp_config){ .readers = 3, .readers_min = 1, .grow_ms = 50 }, &diary);
	struct pp_lease leases[2] = { 0 };
	struct elsewhere e = { f.pool, PP_READ, &leases[1] };
	pthread_t thread;

	CHECK_INT(stats(f.pool).read.connections, ==, 1);
	acquire(f.pool, PP_READ, &leases[0]);
	thread = thread_start(acquire_there, &e);
	WAIT_FOR(stats(f.pool).read.waiting == 1);
	CHECK_INT(pp_keep(f.pool, NULL), ==, PP_OK);
	CHECK_INT(stats(f.pool).grown, ==, 0);
	later(&f, 50);
	pthread_join(thread, NULL);
	CHECK_INT(stats(f.pool).grown, ==, 1);
	CHECK_INT(stats(f.pool).read.connections, ==, 2);
	CHECK_INT(told(&diary, PP_EVENT_GROWN), ==, 1);
	CHECK_STR(diary.message[PP_EVENT_GROWN], "2 readers");
	release_all(leases, 2);
}

/* Nobody waits any more: 50 who asked are served by what came back. */
TEST(keeper, opens_no_more_than_wait)
{
	enum { VISITORS = 20 };
	CLEANUP(fixture_close)
	struct fixture f = manual((struct pp_config){ .readers = 30, .readers_min = 1 }, NULL);
	struct pp_lease first = { 0 }, leases[VISITORS] = { 0 };
	struct elsewhere e[VISITORS];
	pthread_t threads[VISITORS];

	acquire(f.pool, PP_READ, &first);
	for (unsigned i = 0; i < VISITORS; i++) {
		e[i] = (struct elsewhere){ f.pool, PP_READ, &leases[i] };
		threads[i] = thread_start(borrow_a_while, &e[i]);
	}
	WAIT_FOR(stats(f.pool).read.waiting == VISITORS);
	pp_release(&first);
	for (unsigned i = 0; i < VISITORS; i++)
		pthread_join(threads[i], NULL);
	later(&f, 1000);
	CHECK_INT(stats(f.pool).grown, ==, 0);
}

/* Readers are idle, and it is the writer that he waits for: one more would not help. */
TEST(keeper, does_not_grow_where_the_writer_is_waited_for)
{
	CLEANUP(fixture_close)
	struct fixture f = manual(
		(struct pp_config){ .readers = 4, .readers_min = 1, .journal = PP_JOURNAL_DELETE },
		NULL);
	struct pp_lease writer = { 0 }, reader = { 0 };
	struct elsewhere e = { f.pool, PP_READ, &reader };
	pthread_t thread;

	acquire(f.pool, PP_WRITE, &writer);
	thread = thread_start(acquire_there, &e);
	WAIT_FOR(stats(f.pool).read.waiting == 1);
	later(&f, 1000);
	CHECK_INT(stats(f.pool).grown, ==, 0);
	pp_release(&writer);
	pthread_join(thread, NULL);
	pp_release(&reader);
}

/* The head of the line is a writer: how long the reader behind it has waited is what counts. */
TEST(keeper, grows_for_a_reader_behind_a_writer)
{
	CLEANUP(fixture_close)
	struct fixture f = manual(
		(struct pp_config){ .readers = 2, .readers_min = 1, .journal = PP_JOURNAL_DELETE },
		NULL);
	struct pp_lease first = { 0 }, writer = { 0 }, reader = { 0 };
	struct elsewhere w = { f.pool, PP_WRITE, &writer }, r = { f.pool, PP_READ, &reader };
	pthread_t threads[2];

	acquire(f.pool, PP_READ, &first);
	threads[0] = thread_start(acquire_there, &w);
	WAIT_FOR(stats(f.pool).write.waiting == 1);
	later(&f, 1000);
	CHECK_INT(stats(f.pool).grown, ==, 0); /* No reader waits. */
	threads[1] = thread_start(acquire_there, &r);
	WAIT_FOR(stats(f.pool).read.waiting == 1);
	later(&f, 1000);
	CHECK_INT(stats(f.pool).grown, ==, 1);
	pp_release(&first);
	pthread_join(threads[0], NULL);
	pp_release(&writer);
	pthread_join(threads[1], NULL);
	pp_release(&reader);
}

/* Too little memory: what is above the least goes, whatever idle_ms says. */
TEST(keeper, gives_up_readers_when_memory_is_short)
{
	CLEANUP(fixture_close)
	struct fixture f = manual(
		(struct pp_config){ .readers = 2, .idle_ms = PP_NEVER, .pool_bytes_soft = 65536 },
		NULL);

	CHECK_INT(pp_resize(f.pool, 1, 2, NULL), ==, PP_OK);
	CHECK_INT(stats(f.pool).read.open, ==, 2);
	later(&f, 1000);
	CHECK_INT(stats(f.pool).read.open, ==, 1);
}

/* Every spare slot is taken by what does not come back. */
TEST(keeper, renews_nothing_without_a_slot_to_open_it_in)
{
	CLEANUP(fixture_close)
	struct fixture f = manual((struct pp_config){ .readers = 1, .age_ms = 1000 }, NULL);
	struct slot *writers = f.pool->lanes[1].slots;

	for (unsigned i = 1; i < WRITER_SLOTS; i++)
		atomic_store(&writers[i].state, SLOT_NEXT);
	later(&f, 2000);
	CHECK_INT(stats(f.pool).renewed, ==, 1); /* The reader. */
	for (unsigned i = 1; i < WRITER_SLOTS; i++)
		atomic_store(&writers[i].state, SLOT_SPARE);
	later(&f, 2000);
	CHECK_INT(stats(f.pool).renewed, ==, 3);
}

TEST(keeper, stops_growing_at_readers)
{
	CLEANUP(fixture_close)
	struct fixture f = manual((struct pp_config){ .readers = 2, .readers_min = 1 }, NULL);
	struct pp_lease leases[3] = { 0 };
	struct elsewhere e = { f.pool, PP_READ, &leases[2] };
	pthread_t thread;

	grow_to(&f, 2, leases);
	thread = thread_start(acquire_there, &e);
	WAIT_FOR(stats(f.pool).read.waiting == 1);
	later(&f, 1000);
	CHECK_INT(stats(f.pool).read.connections, ==, 2);
	pp_release(&leases[0]);
	pthread_join(thread, NULL);
	release_all(leases, 3);
}

TEST(keeper, closes_what_was_idle_for_long_down_to_the_least)
{
	struct diary diary = { 0 };
	CLEANUP(fixture_close)
	struct fixture f = manual((struct pp_config){ .readers = 4,
	                                              .readers_min = 2,
	                                              .idle_ms = 10000,
	                                              .lease_warn_ms = PP_NEVER },
	                          &diary);
	struct pp_lease leases[4] = { 0 };
	struct pp_connection connections[8];
	unsigned n;

	grow_to(&f, 4, leases);
	release_all(leases, 4);
	later(&f, 9000);
	CHECK_INT(stats(f.pool).read.open, ==, 4);
	later(&f, 2000);
	CHECK_INT(stats(f.pool).read.open, ==, 2);
	CHECK_INT(stats(f.pool).read.connections, ==, 2);
	CHECK_INT(stats(f.pool).shrunk, ==, 2);
	CHECK_INT(told(&diary, PP_EVENT_SHRUNK), ==, 2);
	CHECK_INT(pp_connections_read(f.pool, connections, 8, &n), ==, PP_OK);
	CHECK_INT(n, ==, 3);
	CHECK_STR(diary.message[PP_EVENT_CLOSED], "it was idle");
	CHECK_INT(stats(f.pool).retired, ==, 0);
}

/* A slot whose connection could not be mended is empty: it goes as well. */
TEST(keeper, gives_up_an_empty_slot_too)
{
	CLEANUP(fixture_close)
	struct fixture f =
		manual((struct pp_config){ .readers = 2, .readers_min = 1, .idle_ms = 1000 }, NULL);
	struct pp_lease leases[2] = { 0 };

	grow_to(&f, 2, leases);
	sql(leases[1].db, "PRAGMA cache_size=10");
	release_all(leases, 2);
	CHECK_INT(stats(f.pool).read.connections, ==, 2);
	CHECK_INT(stats(f.pool).read.open, ==, 1);
	later(&f, 2000);
	CHECK_INT(stats(f.pool).read.connections, ==, 1);
}

TEST(keeper, leaves_idle_connections_alone_when_told_never)
{
	CLEANUP(fixture_close)
	struct fixture f = manual(
		(struct pp_config){
			.readers = 2, .readers_min = 1, .idle_ms = PP_NEVER, .age_ms = PP_NEVER },
		NULL);
	struct pp_lease leases[2] = { 0 };

	grow_to(&f, 2, leases);
	release_all(leases, 2);
	later(&f, 100000000);
	CHECK_INT(stats(f.pool).read.open, ==, 2);
	CHECK_INT(stats(f.pool).renewed, ==, 0);
}

TEST(keeper, renews_the_old_and_not_all_at_once)
{
	struct diary diary = { 0 };
	CLEANUP(fixture_close)
	struct fixture f = manual((struct pp_config){ .readers = 32, .age_ms = 3600000 }, &diary);
	unsigned at_once_max = 0;
	uint64_t before = 0;

	later(&f, 3600000 - 360000 - 60000);
	CHECK_INT(stats(f.pool).renewed, ==, 0);
	for (unsigned minute = 0; minute < 9; minute++) {
		uint64_t renewed;

		later(&f, 60000);
		renewed = stats(f.pool).renewed;
		if (renewed - before > at_once_max)
			at_once_max = (unsigned)(renewed - before);
		before = renewed;
	}
	CHECK_INT(before, ==, 33); /* The writer too. */
	CHECK_INT(at_once_max, <, 20);
	CHECK_INT(stats(f.pool).read.open, ==, 32);
	CHECK_INT(told(&diary, PP_EVENT_RENEWED), ==, 33);
	CHECK_INT(stats(f.pool).opened, ==, 66);
	CHECK_INT(stats(f.pool).closed, ==, 33);
}

/* The new one is there before the old one goes, and what is lent is not taken. */
TEST_ROWS(keeper, renews_what_is_lent_when_it_comes_back, 2)
{
	enum pp_lane lane = row == 0 ? PP_READ : PP_WRITE;
	CLEANUP(fixture_close)
	struct fixture f = manual(
		(struct pp_config){ .readers = 1, .age_ms = 1000, .lease_warn_ms = PP_NEVER },
		NULL);
	struct pp_lease lease = { 0 };
	sqlite3 *before;

	acquire(f.pool, lane, &lease);
	before = lease.db;
	later(&f, 2000);
	CHECK_INT(number(lease.db, "SELECT count(*) FROM t"), ==, 0);
	CHECK_INT(stats(f.pool).closed, ==, 1); /* The idle one of the other lane. */
	CHECK_INT(stats(f.pool).opened, ==, 4);
	pp_release(&lease);
	CHECK_INT(stats(f.pool).renewed, ==, 2);
	CHECK_INT(stats(f.pool).closed, ==, 2);
	acquire(f.pool, lane, &lease);
	CHECK(lease.db != before);
	CHECK_INT(number(lease.db, "SELECT count(*) FROM t"), ==, 0);
	pp_release(&lease);
	CHECK_INT(stats(f.pool).opened, ==, 4);
}

/* He had looked at its fate just before upkeep decided it. */
TEST(keeper, obeys_for_who_gave_back_too_early)
{
	CLEANUP(fixture_close)
	struct fixture f = manual(
		(struct pp_config){ .readers = 2, .readers_min = 1, .idle_ms = PP_NEVER }, NULL);
	struct pp_lease leases[2] = { 0 };

	grow_to(&f, 2, leases);
	release_all(leases, 2);
	atomic_store(&f.pool->lanes[0].slots[1].fate, FATE_DROP);
	later(&f, 3600000);
	CHECK_INT(stats(f.pool).read.open, ==, 1);
	CHECK_INT(stats(f.pool).shrunk, ==, 0);
}

TEST(keeper, renews_under_load_with_nobody_left_waiting)
{
	enum { THREADS = 3 };
	CLEANUP(fixture_close)
	struct fixture f = manual(
		(struct pp_config){ .readers = 2, .age_ms = 1000, .lease_warn_ms = PP_NEVER },
		NULL);
	struct worker w = { .pool = f.pool };
	pthread_t threads[THREADS];

	for (unsigned i = 0; i < THREADS; i++)
		threads[i] = thread_start(borrow_until_stopped, &w);
	for (unsigned round = 0; round < 20; round++) {
		unsigned before = atomic_load(&w.rounds);

		later(&f, 1100);
		WAIT_FOR(atomic_load(&w.rounds) > before + 10);
	}
	atomic_store(&w.stop, true);
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	CHECK_INT(stats(f.pool).renewed, >=, 40);
	CHECK_INT(stats(f.pool).read.connections, ==, 2);
	CHECK_INT(stats(f.pool).write.connections, ==, 1);
}

/* --- The thread -------------------------------------------------------------------------- */

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

/* --- Held too long ------------------------------------------------------------------------ */

TEST(watchdog, tells_of_a_lease_held_too_long_and_when_it_is_back)
{
	struct diary diary = { 0 };
	CLEANUP(fixture_close)
	struct fixture f = manual(
		(struct pp_config){ .readers = 1, .lease_warn_ms = 5000, .backtraces = true },
		&diary);
	struct pp_lease lease = { 0 };
	sqlite3_stmt *stmt;
	const struct pp_event *overdue = &diary.last[PP_EVENT_LEASE_OVERDUE];

	acquire(f.pool, PP_READ, &lease);
	must(pp_prepare(&lease, "SELECT 'too slow' FROM t", &stmt, NULL), NULL);
	later(&f, 4000);
	CHECK_INT(told(&diary, PP_EVENT_LEASE_OVERDUE), ==, 0);
	later(&f, 2000);
	later(&f, 2000);
	CHECK_INT(told(&diary, PP_EVENT_LEASE_OVERDUE), ==, 1);
	CHECK_STR(overdue->connection.sql, "SELECT 'too slow' FROM t");
	CHECK_INT(overdue->connection.thread, ==, thread_number());
	CHECK_INT(overdue->connection.lane, ==, PP_READ);
	CHECK_INT(overdue->connection.state, ==, PP_CONNECTION_LENT);
	CHECK_INT(overdue->connection.since_ms, >=, 5000);
	CHECK_INT(overdue->frame_count, >, 2);
	CHECK_CONTAINS(diary.message[PP_EVENT_LEASE_OVERDUE], "held for 6");
	CHECK_INT(told(&diary, PP_EVENT_LEASE_BACK), ==, 0);
	pp_release(&lease);
	CHECK_INT(told(&diary, PP_EVENT_LEASE_BACK), ==, 1);
	CHECK_INT(stats(f.pool).overdue, ==, 1);
	/* The next one is not told of for it. */
	acquire(f.pool, PP_READ, &lease);
	later(&f, 1000);
	pp_release(&lease);
	CHECK_INT(stats(f.pool).overdue, ==, 1);
	CHECK_INT(told(&diary, PP_EVENT_LEASE_BACK), ==, 1);
}

TEST(watchdog, interrupts_what_runs_too_long)
{
	struct diary diary = { 0 };
	CLEANUP(fixture_close)
	struct fixture f =
		manual((struct pp_config){ .readers = 1, .lease_max_ms = 10000 }, &diary);
	struct runner r = { .pool = f.pool, .lane = PP_READ, .deadline = PP_FOREVER };
	pthread_t thread = thread_start(run_endless, &r);

	WAIT_FOR(atomic_load(&r.running));
	later(&f, 9000);
	CHECK_INT(stats(f.pool).interrupted, ==, 0);
	later(&f, 1500);
	pthread_join(thread, NULL);
	CHECK_INT(r.rc, ==, SQLITE_INTERRUPT);
	CHECK_INT(stats(f.pool).interrupted, ==, 1);
	CHECK_STR(diary.message[PP_EVENT_INTERRUPTED], "held too long");
	CHECK_INT(stats(f.pool).quarantined, ==, 0);
	CHECK_INT(stats(f.pool).retired, ==, 0);
}

/* It was for the lease before: that has been given back meanwhile. */
TEST(watchdog, interrupts_nobody_else_however_late)
{
	CLEANUP(fixture_close) struct fixture f = manual((struct pp_config){ .readers = 1 }, NULL);
	struct pp_lease lease = { 0 };
	struct slot *slot;
	uint64_t generation;

	acquire(f.pool, PP_READ, &lease);
	slot = lease.slot;
	generation = lease.generation;
	pp_release(&lease);
	acquire(f.pool, PP_READ, &lease);
	watchdog_interrupt(f.pool, slot, generation, "late");
	CHECK_INT(number(lease.db, "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n "
	                           "LIMIT 100000) SELECT count(*) FROM n"),
	          ==, 100000);
	pp_release(&lease);
}

/* He computes, and looks at nothing: another connection takes the place of his. */
TEST_ROWS(watchdog, puts_another_in_the_place_of_one_that_does_not_come_back, 2)
{
	enum pp_lane lane = row == 0 ? PP_READ : PP_WRITE;
	struct diary diary = { 0 };
	CLEANUP(fixture_close)
	struct fixture f = manual(
		(struct pp_config){ .readers = 1, .lease_max_ms = 10000, .lease_grace_ms = 500 },
		&diary);
	struct pp_lease stuck = { 0 }, lease = { 0 };
	struct pp_connection connections[8];
	struct pp_error error;
	unsigned n;

	acquire_elsewhere(f.pool, lane, &stuck);
	later(&f, 10500);
	CHECK_INT(pp_acquire(f.pool, lane, PP_NO_WAIT, &lease, NULL), ==, PP_TIMEOUT);
	later(&f, 600);
	CHECK_INT(stats(f.pool).quarantined, ==, 1);
	CHECK_INT(told(&diary, PP_EVENT_QUARANTINED), ==, 1);
	must(pp_acquire(f.pool, lane, PP_NO_WAIT, &lease, &error), &error);
	CHECK_INT(pp_connections_read(f.pool, connections, 8, &n), ==, PP_OK);
	CHECK_INT(n, ==, 3);
	CHECK_INT(connections[lane == PP_WRITE ? 0 : 1].state, ==, PP_CONNECTION_QUARANTINED);
	/* Never under its holder: he may use it, and gives it back. */
	CHECK_INT(number(stuck.db, "SELECT count(*) FROM t"), ==, 0);
	later(&f, 100000);
	later(&f, 1000);
	CHECK_INT(stats(f.pool).quarantined, ==, 2); /* The replacement is stuck as well. */
	CHECK_INT(pp_release(&stuck), ==, PP_OK);
	CHECK_INT(stats(f.pool).returned_late, ==, 1);
	CHECK_INT(pp_release(&lease), ==, PP_OK);
	CHECK_INT(stats(f.pool).returned_late, ==, 2);
	CHECK_STR(diary.message[PP_EVENT_CLOSED], "it came back from quarantine");
	CHECK_INT(stats(f.pool).read.connections + stats(f.pool).write.connections, ==, 2);
}

/* Only so many can be stuck; then it is told of, and those that are back serve again. */
TEST(watchdog, runs_out_of_replacements)
{
	struct diary diary = { 0 };
	CLEANUP(fixture_close)
	struct fixture f = manual(
		(struct pp_config){ .readers = 1, .lease_max_ms = 1000, .lease_grace_ms = 1 },
		&diary);
	struct pp_lease stuck[WRITER_SLOTS] = { 0 }, lease = { 0 };

	for (unsigned i = 0; i < WRITER_SLOTS; i++) {
		acquire_elsewhere(f.pool, PP_WRITE, &stuck[i]);
		later(&f, 1100);
		later(&f, 10);
	}
	CHECK_INT(stats(f.pool).quarantined, ==, WRITER_SLOTS);
	CHECK_CONTAINS(diary.message[PP_EVENT_HEALTH_FAILED], "all slots are in use");
	CHECK_INT(pp_acquire(f.pool, PP_WRITE, PP_NO_WAIT, &lease, NULL), ==, PP_TIMEOUT);
	pp_release(&stuck[0]);
	later(&f, 10);
	acquire(f.pool, PP_WRITE, &lease);
	pp_release(&lease);
	release_all(stuck, WRITER_SLOTS);
}

/* It has come back in the very moment. */
TEST(watchdog, puts_nobody_in_the_place_of_what_is_back)
{
	CLEANUP(fixture_close) struct fixture f = manual((struct pp_config){ .readers = 1 }, NULL);
	struct pp_lease lease = { 0 };
	struct slot *slot;
	uint64_t generation;

	acquire(f.pool, PP_WRITE, &lease);
	slot = lease.slot;
	generation = lease.generation;
	pp_release(&lease);
	size_quarantine(f.pool, slot, generation);
	CHECK_INT(stats(f.pool).quarantined, ==, 0);
	CHECK_INT(stats(f.pool).write.connections, ==, 1);
	acquire(f.pool, PP_WRITE, &lease);
	pp_release(&lease);
	CHECK_INT(stats(f.pool).returned_late, ==, 0);
}

static bool watchdog_is_due(struct pp_pool *pool)
{
	bool due;

	pthread_mutex_lock(&pool->keep_mutex);
	due = pool->keeper.due_ms[0] != 0;
	pthread_mutex_unlock(&pool->keep_mutex);
	return due;
}

/* Nobody pokes it: it looks by itself, also after nothing was lent. */
TEST(watchdog, does_not_fall_asleep)
{
	CLEANUP(fixture_close)
	struct fixture f = fixture_config((struct pp_config){ .readers = 1, .lease_warn_ms = 1 });
	struct pp_lease lease = { 0 };

	WAIT_FOR(watchdog_is_due(f.pool)); /* It has looked, and nothing was lent. */
	acquire(f.pool, PP_READ, &lease);
	WAIT_FOR(stats(f.pool).overdue == 1);
	pp_release(&lease);
}

/* It was to be renewed, and its successor waits; then it is stuck. */
TEST(watchdog, lets_a_successor_in_at_once)
{
	CLEANUP(fixture_close)
	struct fixture f = manual(
		(struct pp_config){
			.readers = 1, .age_ms = 500, .lease_max_ms = 1000, .lease_grace_ms = 1 },
		NULL);
	struct pp_lease stuck = { 0 }, lease = { 0 };

	acquire_elsewhere(f.pool, PP_WRITE, &stuck);
	later(&f, 600);
	later(&f, 600);
	later(&f, 10);
	CHECK_INT(stats(f.pool).quarantined, ==, 1);
	acquire(f.pool, PP_WRITE, &lease);
	pp_release(&lease);
	pp_release(&stuck);
	CHECK_INT(stats(f.pool).write.connections, ==, 1);
}

/* --- Resizing ----------------------------------------------------------------------------- */

TEST(resize, makes_it_larger_and_smaller_while_it_is_used)
{
	CLEANUP(fixture_close) struct fixture f = manual((struct pp_config){ .readers = 2 }, NULL);
	struct pp_lease leases[6] = { 0 };
	struct pp_error error;

	must(pp_resize(f.pool, 6, 6, &error), &error);
	CHECK_INT(stats(f.pool).read.open, ==, 6);
	for (unsigned i = 0; i < 4; i++)
		acquire(f.pool, PP_READ, &leases[i]);
	must(pp_resize(f.pool, 1, 3, &error), &error);
	CHECK_INT(stats(f.pool).read.connections, ==,
	          3); /* One of those lent goes when it is back. */
	CHECK_INT(stats(f.pool).read.open, ==, 4);
	must(pp_resize(f.pool, 1, 2, &error), &error);
	CHECK_INT(stats(f.pool).read.connections, ==, 2);
	release_all(leases, 4);
	CHECK_INT(stats(f.pool).read.open, ==, 2);
	must(pp_resize(f.pool, 0, 1, &error), &error);
	CHECK_INT(stats(f.pool).read.open, ==, 1);
}

static const struct {
	unsigned least, most;
	const char *words;
} sizes[] = {
	{ 3, 2, "readers_min 3 and readers 2" },
	{ 1, 257, "readers_min 1 and readers 257" },
	{ 5, 0, "readers_min 5 and readers 4" },
};

TEST_ROWS(resize, refuses_what_cannot_be, sizeof sizes / sizeof *sizes)
{
	CLEANUP(fixture_close) struct fixture f = manual((struct pp_config){ .readers = 4 }, NULL);
	struct pp_error error = { 0 };

	CHECK_INT(pp_resize(f.pool, sizes[row].least, sizes[row].most, &error), ==, PP_INVALID);
	CHECK_CONTAINS(error.message, sizes[row].words);
	CHECK_INT(stats(f.pool).read.connections, ==, 4);
}

static atomic_bool refusing;

static int refuse_when_told(sqlite3 *db, void *context)
{
	(void)db, (void)context;
	return atomic_load(&refusing) ? SQLITE_AUTH : SQLITE_OK;
}

/* What cannot be opened now is told of, and opened when it can be. */
TEST(resize, goes_on_when_connections_can_be_opened_again)
{
	struct diary diary = { 0 };
	CLEANUP(fixture_close)
	struct fixture f = manual(
		(struct pp_config){ .readers = 1, .age_ms = 1000, .on_open = refuse_when_told },
		&diary);
	struct pp_lease leases[2] = { 0 };
	struct elsewhere e = { f.pool, PP_READ, &leases[1] };
	struct pp_error error;
	pthread_t thread;

	atomic_store(&refusing, true);
	CHECK_INT(pp_resize(f.pool, 2, 3, &error), ==, PP_SQLITE);
	CHECK_STR(error.doing, "on_open");
	later(&f, 2000);
	CHECK_CONTAINS(diary.message[PP_EVENT_HEALTH_FAILED], "cannot renew");
	CHECK_INT(stats(f.pool).read.connections, ==, 1);
	acquire(f.pool, PP_READ, &leases[0]);
	thread = thread_start(acquire_there, &e);
	WAIT_FOR(stats(f.pool).read.waiting == 1);
	later(&f, 10);
	CHECK_CONTAINS(diary.message[PP_EVENT_HEALTH_FAILED], "cannot");
	atomic_store(&refusing, false);
	later(&f, 1000);
	pthread_join(thread, NULL);
	CHECK_INT(stats(f.pool).read.connections, >=, 2);
	release_all(leases, 2);
}
