/* Which connections there are, in virtual time: too few, idle, old ones; resizing. */
/* SPDX-License-Identifier: MIT */
#include "upkeep.h"

/* --- Idle, old --------------------------------------------------------------------------- */

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

TEST(size, opens_one_more_for_who_waits_longer_than_the_target)
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

/* Nobody waits any more: 20 who asked are served by what came back. */
TEST(size, opens_no_more_than_wait)
{
	enum { VISITORS = 20 };
	CLEANUP(fixture_close)
	struct fixture f = manual((struct pp_config){ .readers = 30, .readers_min = 1 }, NULL);
	struct pp_lease first = { 0 };
	struct visitor visitors[VISITORS];
	pthread_t threads[VISITORS];

	acquire(f.pool, PP_READ, &first);
	for (unsigned i = 0; i < VISITORS; i++) {
		visitors[i] =
			(struct visitor){ .pool = f.pool, .lane = PP_READ, .deadline = PP_FOREVER };
		threads[i] = thread_start(visit, &visitors[i]);
	}
	WAIT_FOR(stats(f.pool).read.waiting == VISITORS);
	pp_release(&first);
	for (unsigned i = 0; i < VISITORS; i++) {
		pthread_join(threads[i], NULL);
		CHECK_INT(visitors[i].status, ==, PP_OK);
	}
	later(&f, 1000);
	CHECK_INT(stats(f.pool).grown, ==, 0);
}

/* Readers are idle, and it is the writer that he waits for: one more would not help. */
TEST(size, does_not_grow_where_the_writer_is_waited_for)
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
TEST(size, grows_for_a_reader_behind_a_writer)
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
TEST(size, gives_up_readers_when_memory_is_short)
{
	CLEANUP(fixture_close)
	struct fixture f = manual(
		(struct pp_config){ .readers = 2, .idle_ms = PP_NEVER, .pool_bytes_soft = 65536 },
		NULL);

	struct pp_lease leases[2] = { 0 };

	CHECK_INT(pp_resize(f.pool, 1, 2, NULL), ==, PP_OK);
	acquire(f.pool, PP_READ, &leases[0]);
	acquire(f.pool, PP_READ, &leases[1]);
	later(&f, 1000);
	CHECK_INT(stats(f.pool).read.open, ==, 2); /* Nothing is taken from its holder. */
	release_all(leases, 2);
	later(&f, 1000);
	CHECK_INT(stats(f.pool).read.open, ==, 1);
}

/* Every spare slot is taken by what does not come back. */
TEST(size, renews_nothing_without_a_slot_to_open_it_in)
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

TEST(size, stops_growing_at_readers)
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

TEST(size, closes_what_was_idle_for_long_down_to_the_least)
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
TEST(size, gives_up_an_empty_slot_too)
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

TEST(size, leaves_idle_connections_alone_when_told_never)
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

TEST(size, renews_the_old_and_not_all_at_once)
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
TEST_ROWS(size, renews_what_is_lent_when_it_comes_back, 2)
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

/* When upkeep looks at sizes again, where nobody pokes it. */
static uint64_t looks_again_in_ms(struct fixture *f)
{
	uint64_t now = clock_coarse_ms(), due;

	pthread_mutex_lock(&f->pool->keep_mutex);
	due = size_keep(f->pool, now);
	pthread_mutex_unlock(&f->pool->keep_mutex);
	return due - now;
}

/* The thread slept over it until somebody poked it: what could not be renewed, and the age of what
 * had been. */
TEST(size, looks_again_soon_after_renewing)
{
	struct diary diary = { 0 };
	CLEANUP(fixture_close)
	struct fixture f = manual(
		(struct pp_config){ .readers = 1, .age_ms = 10000, .on_open = refuse_when_told },
		&diary);

	atomic_store(&refusing, true);
	clock_travel_ms(11000);
	CHECK(looks_again_in_ms(&f) <= UPKEEP_MS);
	CHECK_INT(stats(f.pool).renewed, ==, 0);
	/* Nor would the next one have been opened. */
	CHECK_INT(told(&diary, PP_EVENT_HEALTH_FAILED), ==, 1);
	atomic_store(&refusing, false);
	CHECK(looks_again_in_ms(&f) <= UPKEEP_MS);
	CHECK_INT(stats(f.pool).renewed, ==, 2);
}

/* Nor is the one forgotten that was lent when it would have been closed. */
TEST(size, looks_again_at_what_was_lent_for_longer_than_it_may_idle)
{
	CLEANUP(fixture_close)
	struct fixture f = manual((struct pp_config){ .readers = 2,
	                                              .readers_min = 1,
	                                              .idle_ms = 10000,
	                                              .age_ms = PP_NEVER,
	                                              .lease_warn_ms = PP_NEVER },
	                          NULL);
	struct pp_lease leases[2] = { 0 };

	grow_to(&f, 2, leases);
	clock_travel_ms(11000);
	CHECK(looks_again_in_ms(&f) <= UPKEEP_MS);
	release_all(leases, 2);
	clock_travel_ms(11000);
	looks_again_in_ms(&f);
	CHECK_INT(stats(f.pool).shrunk, ==, 1);
}

/* He had looked at its fate just before upkeep decided it. */
TEST(size, obeys_for_who_gave_back_too_early)
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

TEST(size, renews_under_load_with_nobody_left_waiting)
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
	while (stats(f.pool).renewed < 40) {
		unsigned before = atomic_load(&w.rounds);

		later(&f, 1100);
		WAIT_FOR(atomic_load(&w.rounds) > before + 10);
	}
	atomic_store(&w.stop, true);
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	CHECK_INT(stats(f.pool).read.connections, ==, 2);
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

static struct pp_pool *kept_at_the_close;

static void keep_at_the_close(const struct pp_event *event, void *context)
{
	struct pp_pool *pool = kept_at_the_close;

	(void)context;
	if (event->kind != PP_EVENT_CLOSED || pool == NULL)
		return;
	kept_at_the_close = NULL;
	pthread_join(thread_start(keep_once, pool), NULL);
}

/* Upkeep comes when the successor has taken its place and the old connection is not closed yet: one
 * too many is there, but none that is to go. Nor is it because some were to go before. */
TEST(resize, leaves_a_successor_that_takes_its_place)
{
	CLEANUP(fixture_close)
	struct fixture f = fixture_config((struct pp_config){ .readers = 2,
	                                                      .keeper = PP_KEEPER_MANUAL,
	                                                      .age_ms = 1000,
	                                                      .on_event = keep_at_the_close });
	struct pp_lease lease = { 0 };
	uint64_t opened;

	CHECK_INT(pp_suspend(f.pool, PP_FOREVER), ==, PP_OK);
	CHECK_INT(pp_resize(f.pool, 1, 1, NULL), ==, PP_OK);
	CHECK_INT(pp_resume(f.pool), ==, PP_OK);
	later(&f, 10);
	CHECK_INT(stats(f.pool).read.open, ==, 1);
	acquire(f.pool, PP_READ, &lease);
	later(&f, 2000);
	opened = stats(f.pool).opened;
	kept_at_the_close = f.pool;
	pp_release(&lease);
	CHECK(kept_at_the_close == NULL);
	CHECK_INT(stats(f.pool).renewed, ==, 2); /* The writer, too. */
	CHECK_INT(stats(f.pool).read.open, ==, 1);
	CHECK_INT(stats(f.pool).opened, ==, opened);
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
