/* Leases held too long, in virtual time: told of, interrupted, replaced. */
/* SPDX-License-Identifier: MIT */
#include "upkeep.h"

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

/* A lease that has been given back. */
static struct pp_lease lent_and_back(struct pp_pool *pool, enum pp_lane lane)
{
	struct pp_lease lease = { 0 }, before;

	acquire(pool, lane, &lease);
	before = lease;
	pp_release(&lease);
	return before;
}

/* It was for the lease before: that has been given back meanwhile. */
TEST(watchdog, interrupts_nobody_else_however_late)
{
	CLEANUP(fixture_close) struct fixture f = manual((struct pp_config){ .readers = 1 }, NULL);
	struct pp_lease before = lent_and_back(f.pool, PP_READ), lease = { 0 };

	acquire(f.pool, PP_READ, &lease);
	watchdog_interrupt(f.pool, before.slot, before.generation, "late");
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
	CHECK_STR(diary.message[PP_EVENT_LEASE_BACK], "from quarantine");
	CHECK_INT(pp_release(&lease), ==, PP_OK);
	CHECK_INT(stats(f.pool).returned_late, ==, 2);
	CHECK_STR(diary.message[PP_EVENT_CLOSED], "it came back from quarantine");
	CHECK_INT(stats(f.pool).read.connections + stats(f.pool).write.connections, ==, 2);
}

/* The next borrower opens one himself: he is told why not, and served once it can be, with no
 * upkeep in between. */
TEST_ROWS(watchdog, leaves_what_could_not_be_opened_to_the_next_borrower, 2)
{
	enum pp_lane lane = row == 0 ? PP_READ : PP_WRITE;
	struct diary diary = { 0 };
	CLEANUP(fixture_close)
	struct fixture f = manual((struct pp_config){ .readers = 1,
	                                              .on_open = refuse_when_told,
	                                              .lease_max_ms = 1000,
	                                              .lease_grace_ms = 1 },
	                          &diary);
	struct pp_lease stuck = { 0 }, lease = { 0 };
	struct pp_error error = { 0 };

	acquire_elsewhere(f.pool, lane, &stuck);
	atomic_store(&refusing, true);
	later(&f, 1100);
	later(&f, 10);
	CHECK_INT(stats(f.pool).quarantined, ==, 1);
	CHECK_CONTAINS(diary.message[PP_EVENT_HEALTH_FAILED],
	               "no replacement: authorization denied");
	CHECK_INT(pp_acquire(f.pool, lane, PP_NO_WAIT, &lease, &error), ==, PP_SQLITE);
	CHECK_INT(error.sqlite_code, ==, SQLITE_AUTH);
	atomic_store(&refusing, false);
	must(pp_acquire(f.pool, lane, PP_NO_WAIT, &lease, &error), &error);
	pp_release(&lease);
	later(&f, 1100);
	pp_release(&stuck);
	CHECK_INT(stats(f.pool).read.connections, ==, 1);
	CHECK_INT(stats(f.pool).write.connections, ==, 1);
}

/* With a rollback journal the other lane waits for a lease too, but not for ever. */
TEST_ROWS(watchdog, lets_the_other_lane_in_when_one_does_not_come_back, 2)
{
	enum pp_lane lane = row == 0 ? PP_READ : PP_WRITE, other = row == 0 ? PP_WRITE : PP_READ;
	CLEANUP(fixture_close)
	struct fixture f = manual((struct pp_config){ .readers = 1,
	                                              .journal = PP_JOURNAL_DELETE,
	                                              .lease_max_ms = 10000,
	                                              .lease_grace_ms = 500 },
	                          NULL);
	struct pp_lease stuck = { 0 }, lease = { 0 };
	struct pp_error error;

	acquire_elsewhere(f.pool, lane, &stuck);
	later(&f, 10500);
	CHECK_INT(pp_acquire(f.pool, other, PP_NO_WAIT, &lease, NULL), ==, PP_TIMEOUT);
	later(&f, 600);
	CHECK_INT(stats(f.pool).quarantined, ==, 1);
	must(pp_acquire(f.pool, other, PP_NO_WAIT, &lease, &error), &error);
	CHECK_INT(number(lease.db, "SELECT count(*) FROM t"), ==, 0);
	pp_release(&lease);
	/* Back, it counts again. */
	CHECK_INT(pp_release(&stuck), ==, PP_OK);
	acquire_elsewhere(f.pool, lane, &stuck);
	CHECK_INT(pp_acquire(f.pool, other, PP_NO_WAIT, &lease, NULL), ==, PP_TIMEOUT);
	CHECK_INT(pp_release(&stuck), ==, PP_OK);
}

/* In the very moment the next one of its group has got it, and is as stuck. */
TEST(watchdog, lets_the_other_lane_in_although_the_lease_was_handed_over)
{
	CLEANUP(fixture_close)
	struct fixture f =
		manual((struct pp_config){ .readers = 1, .journal = PP_JOURNAL_DELETE }, NULL);
	struct pp_lease stuck = { 0 }, lease = { 0 };

	acquire_elsewhere(f.pool, PP_WRITE, &stuck);
	pthread_mutex_lock(&f.pool->keep_mutex);
	size_quarantine(f.pool, stuck.slot, stuck.generation);
	pthread_mutex_unlock(&f.pool->keep_mutex);
	lease_hand_over(&stuck, NULL, NULL);
	CHECK_INT(pp_acquire(f.pool, PP_READ, PP_NO_WAIT, &lease, NULL), ==, PP_OK);
	pp_release(&lease);
	pp_release(&stuck);
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
	struct pp_lease before = lent_and_back(f.pool, PP_WRITE), lease = { 0 };

	size_quarantine(f.pool, before.slot, before.generation);
	CHECK_INT(stats(f.pool).quarantined, ==, 0);
	CHECK_INT(stats(f.pool).write.connections, ==, 1);
	acquire(f.pool, PP_WRITE, &lease);
	pp_release(&lease);
	CHECK_INT(stats(f.pool).returned_late, ==, 0);
}

/* Nor is the next lease's successor let in before its time. */
TEST(watchdog, leaves_the_next_lease_its_successor)
{
	CLEANUP(fixture_close)
	struct fixture f = manual((struct pp_config){ .readers = 1, .age_ms = 500 }, NULL);
	struct pp_lease before = lent_and_back(f.pool, PP_WRITE), lease = { 0 }, none = { 0 };

	acquire(f.pool, PP_WRITE, &lease);
	later(&f, 600);
	size_quarantine(f.pool, before.slot, before.generation);
	CHECK_INT(pp_acquire(f.pool, PP_WRITE, PP_NO_WAIT, &none, NULL), ==, PP_TIMEOUT);
	pp_release(&lease);
	CHECK_INT(stats(f.pool).renewed, ==, 2); /* The reader, too. */
	CHECK_INT(stats(f.pool).returned_late, ==, 0);
	CHECK_INT(stats(f.pool).write.connections, ==, 1);
}

/* It was to go when it came back. */
TEST(watchdog, puts_nobody_in_the_place_of_one_too_many)
{
	CLEANUP(fixture_close)
	struct fixture f = manual(
		(struct pp_config){ .readers = 2, .lease_max_ms = 1000, .lease_grace_ms = 1 },
		NULL);
	struct pp_lease stuck[2] = { 0 };
	uint64_t opened;

	acquire_elsewhere(f.pool, PP_READ, &stuck[0]);
	acquire_elsewhere(f.pool, PP_READ, &stuck[1]);
	must(pp_resize(f.pool, 1, 1, NULL), NULL);
	opened = stats(f.pool).opened;
	later(&f, 1100);
	later(&f, 10);
	CHECK_INT(stats(f.pool).quarantined, ==, 2);
	CHECK_INT(stats(f.pool).opened, ==, opened + 1);
	CHECK_INT(stats(f.pool).read.connections, ==, 1);
	release_all(stuck, 2);
	CHECK_INT(stats(f.pool).returned_late, ==, 2);
	CHECK_INT(stats(f.pool).read.connections, ==, 1);
}

struct borrower {
	struct pp_pool *pool;
	atomic_uint times;
	atomic_bool done;
};

static void *borrow_again_and_again(void *context)
{
	struct borrower *borrower = context;
	struct pp_lease lease = { 0 };

	while (!atomic_load(&borrower->done)) {
		acquire(borrower->pool, PP_WRITE, &lease);
		pp_release(&lease);
		atomic_fetch_add(&borrower->times, 1);
	}
	return NULL;
}

/* A release sees its connection taken for stuck, and that is taken back: one of the two gives way,
 * and what is there and what was counted fit. Without, a successor was left out for good. They meet
 * at every other release, and the connection is opened anew. */
TEST(watchdog, agrees_with_a_release_in_the_same_moment)
{
	CLEANUP(fixture_close)
	struct fixture f = manual((struct pp_config){ .readers = 1, .age_ms = 500 }, NULL);
	struct lane *lane = &f.pool->lanes[1];
	struct borrower borrower = { .pool = f.pool };
	pthread_t thread = thread_start(borrow_again_and_again, &borrower);
	unsigned times, due = 0;

	while ((times = atomic_load(&borrower.times)) < 10000 / slowness()) {
		if (times >= due) {
			later(&f, 600); /* It is to be renewed when it comes back. */
			due = times + 100;
		}
		pthread_mutex_lock(&f.pool->keep_mutex);
		for (unsigned i = 0; i < lane_used(lane); i++)
			if (atomic_load(&lane->slots[i].state) == SLOT_LEASED)
				size_quarantine(f.pool, &lane->slots[i], 0); /* None has it. */
		pthread_mutex_unlock(&f.pool->keep_mutex);
	}
	atomic_store(&borrower.done, true);
	pthread_join(thread, NULL);
	later(&f, 10);
	CHECK_INT(stats(f.pool).quarantined, ==, stats(f.pool).returned_late);
	CHECK_INT(lane_count_in(lane, SLOT_IDLE), ==, 1);
	CHECK_INT(lane_count_in(lane, SLOT_SPARE), ==, lane_used(lane) - 1);
}

/* Who gives it back has seen it taken for stuck, and then that was taken back. */
TEST(watchdog, leaves_what_was_taken_back_to_the_next)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	struct slot *slot = line_claim(f.pool, PP_READ);

	CHECK(slot != NULL);
	size_obey(f.pool, slot);
	CHECK_INT(atomic_load(&slot->state), ==, SLOT_IDLE);
	CHECK(slot->connection.db != NULL);
	CHECK_INT(stats(f.pool).returned_late, ==, 0);
}

/* It has looked while nothing was lent, and will look again later. */
static bool watchdog_sleeps(struct pp_pool *pool)
{
	uint64_t due_ms;

	pthread_mutex_lock(&pool->keep_mutex);
	due_ms = pool->keeper.due_ms[0];
	pthread_mutex_unlock(&pool->keep_mutex);
	return due_ms > clock_coarse_ms();
}

/* Nobody pokes it: it looks by itself, also after nothing was lent. */
TEST(watchdog, does_not_fall_asleep)
{
	CLEANUP(fixture_close)
	struct fixture f = fixture_config((struct pp_config){ .readers = 1, .lease_warn_ms = 1 });
	struct pp_lease lease = { 0 };
	uint64_t before;

	WAIT_FOR(watchdog_sleeps(f.pool));
	before = stats(f.pool).overdue; /* The fixture's own lease may have been. */
	acquire(f.pool, PP_READ, &lease);
	WAIT_FOR(stats(f.pool).overdue > before);
	pp_release(&lease);
}

static uint64_t looks_again_in_ms(struct pp_config config)
{
	CLEANUP(fixture_close) struct fixture f = manual(config, NULL);
	uint64_t due_ms;

	CHECK_INT(pp_keep(f.pool, &due_ms), ==, PP_OK);
	return due_ms;
}

/* A lease's age counts from the first look at it: often enough for the limits, and not more often.
 */
TEST(watchdog, looks_four_times_in_the_shortest_limit)
{
	uint64_t due_ms = looks_again_in_ms((struct pp_config){ .lease_warn_ms = 2000 });

	CHECK(due_ms > 400 && due_ms <= 500);
	due_ms = looks_again_in_ms((struct pp_config){ .lease_max_ms = 1000 });
	CHECK(due_ms > 150 && due_ms <= 250);
	due_ms = looks_again_in_ms((struct pp_config){ .lease_max_ms = 4 });
	CHECK(due_ms <= 10);
	due_ms = looks_again_in_ms((struct pp_config){ .lease_warn_ms = 3600000 });
	CHECK(due_ms > 900 && due_ms <= UPKEEP_MS);
}

static bool is_met(const struct pp_lease *lease)
{
	return atomic_load(&lease_slot(lease)->since_ms) != 0;
}

/* Lending reads no clock where a thread looks: it notes when it first meets a lease. */
TEST(watchdog, meets_a_lease_that_nobody_has_timed)
{
	CLEANUP(fixture_close)
	struct fixture f = fixture_config((struct pp_config){ .readers = 1, .lease_warn_ms = 40 });
	struct pp_connection connections[4];
	struct pp_lease lease = { 0 };
	struct pp_error error;
	unsigned count;

	acquire(f.pool, PP_READ, &lease);
	WAIT_FOR(is_met(&lease));
	clock_travel_ms(30000);
	WAIT_FOR(stats(f.pool).overdue >= 1);
	must(pp_connections_read(f.pool, connections, 4, &count), NULL);
	CHECK(connections[count - 1].since_ms >= 30000);
	CHECK_INT(pp_acquire(f.pool, PP_READ, PP_NO_WAIT, &(struct pp_lease){ 0 }, &error), ==,
	          PP_TIMEOUT);
	CHECK_INT(error.oldest_lease_ms, >=, 30000);
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
