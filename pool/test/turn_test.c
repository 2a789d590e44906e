/* Processes take turns: who stands at the turnstile, and how long. */
/* SPDX-License-Identifier: MIT */
#include "turn.h"

#include <time.h>

/* A pause during which something is done takes no time. */
static struct moment at_sleep;
static int64_t asked_ns; /* How long the last one was to be, at most. */

atomic_uint sleeps_begun;

int clock_nanosleep(clockid_t id, int flags, const struct timespec *until, struct timespec *left)
{
	struct timespec now;

	at_sleep.calls++;
	atomic_fetch_add(&sleeps_begun, 1);
	if (at_sleep.act == NULL)
		return syscall(SYS_clock_nanosleep, id, flags, until, left) == 0 ? 0 : errno;
	clock_gettime(id, &now);
	asked_ns = (until->tv_sec - now.tv_sec) * 1000000000 + until->tv_nsec - now.tv_nsec;
	at_sleep.act();
	return 0;
}

/* With a neighbour that holds next. */
static struct fixture fixture_in_line(unsigned busy_timeout_ms)
{
	struct fixture f = fixture_manual(busy_timeout_ms);

	other_comes(&f);
	CHECK(other_locks(F_WRLCK, NEXT));
	CHECK_INT(pp_keep(f.pool, NULL), ==, PP_OK);
	at_sleep.calls = 0;
	return f;
}

static enum pp_status insert(struct pp_lease *lease, void *context)
{
	(void)context;
	sql(lease->db, "INSERT INTO t(v) VALUES (random())");
	return PP_OK;
}

static enum pp_status write_until(struct fixture *f, struct pp_deadline deadline)
{
	return pp_transact(f->pool, &(struct pp_transaction){ .deadline = deadline }, insert, NULL,
	                   NULL);
}

static uint64_t in_vain_ms(const struct fixture *f)
{
	return atomic_load(&f->pool->turn.in_vain_ns) / 1000000;
}

/* --- Standing at the turnstile ------------------------------------------------------------ */

static void give_at_the_third(void)
{
	if (at_sleep.calls == 3)
		other_locks(F_UNLCK, NEXT);
}

TEST(turn, is_waited_for)
{
	CLEANUP(fixture_close) struct fixture f = fixture_in_line(0);

	at_sleep.act = give_at_the_third;
	CHECK_INT(write_until(&f, PP_FOREVER), ==, PP_OK);
	CHECK_INT(at_sleep.calls, ==, 3);
	CHECK_INT(in_vain_ms(&f), ==, 0);
	CHECK_INT(other_meets(NEXT), ==, F_UNLCK);
	other_goes();
}

/* While the transaction runs somebody else is next. */
static enum pp_status let_the_other_in(struct pp_lease *lease, void *context)
{
	(void)context;
	CHECK_INT(other_meets(NEXT), ==, F_UNLCK);
	CHECK(other_locks(F_WRLCK, NEXT));
	return insert(lease, NULL);
}

/* Who has just written finds the other before him. */
TEST(turn, puts_who_had_it_behind)
{
	CLEANUP(fixture_close) struct fixture f = fixture_in_line(0);

	CHECK(other_locks(F_UNLCK, NEXT));
	at_sleep.act = give_at_the_third;
	CHECK_INT(pp_transact(f.pool, NULL, let_the_other_in, NULL, NULL), ==, PP_OK);
	CHECK_INT(at_sleep.calls, ==, 0);
	CHECK_INT(write_until(&f, PP_FOREVER), ==, PP_OK);
	CHECK_INT(at_sleep.calls, ==, 3);
	other_goes();
}

static sqlite3 *other_writer;
static int met_while_busy;

static void end_other_write(void)
{
	met_while_busy = other_meets(NEXT);
	sql(other_writer, "COMMIT");
	at_sleep.act = NULL;
}

/* Next is held while SQLite's own lock is polled, more often than without a turn; and a BEGIN that
 * failed gives it back. */
TEST(turn, is_held_until_sqlites_lock_is_had)
{
	CLEANUP(fixture_close) struct fixture f = fixture_manual(1);
	struct pp_lease lease = { 0 };

	other_comes(&f);
	CHECK_INT(pp_keep(f.pool, NULL), ==, PP_OK);
	acquire(f.pool, PP_WRITE, &lease);
	CHECK_INT(sqlite3_open(f.path, &other_writer), ==, SQLITE_OK);
	sql(other_writer, "BEGIN IMMEDIATE");
	CHECK_INT(pp_begin(&lease, NULL), ==, PP_SQLITE);
	CHECK_INT(other_meets(NEXT), ==, F_UNLCK);
	at_sleep.act = end_other_write;
	CHECK_INT(pp_begin(&lease, NULL), ==, PP_OK);
	CHECK_INT(met_while_busy, ==, F_WRLCK);
	CHECK_INT(asked_ns, <=, 100000);
	CHECK_INT(other_meets(NEXT), ==, F_UNLCK);
	CHECK(!((struct slot *)lease.slot)->connection.has_turn);
	CHECK_INT(pp_commit(&lease, NULL), ==, PP_OK);
	pp_release(&lease);
	sqlite3_close(other_writer);
	other_goes();
}

static void travel_10_ms(void)
{
	clock_travel_ms(10);
}

/* Somebody holds next and does not move: half of the time is left to BEGIN, which does without. */
static const struct {
	const char *what;
	unsigned busy_timeout_ms, deadline_ms, low_ms, high_ms;
} limits[] = {
	{ "half of the deadline", 0, 1600, 600, 900 }, /* A machine may be slow, */
	{ "half of busy_timeout_ms", 1600, 0, 800, 900 },
	{ "a second", 86400000, 0, 1000, 1100 }, /* ... and time travels by 10 ms. */
};

TEST_ROWS(turn, is_not_waited_for_longer_than, sizeof limits / sizeof *limits)
{
	CLEANUP(fixture_close) struct fixture f = fixture_in_line(limits[row].busy_timeout_ms);
	unsigned ms = limits[row].deadline_ms;

	at_sleep.act = travel_10_ms;
	CHECK_INT(write_until(&f, ms == 0 ? PP_FOREVER : pp_in_ms(ms)), ==, PP_OK);
	CHECK_MSG(in_vain_ms(&f) >= limits[row].low_ms && in_vain_ms(&f) <= limits[row].high_ms,
	          "%s: waited %ju ms", limits[row].what, (uintmax_t)in_vain_ms(&f));
	other_goes();
}

/* The patience with one that does not move is used up once, not by each transaction. */
TEST(turn, loses_patience_once)
{
	CLEANUP(fixture_close) struct fixture f = fixture_in_line(400);
	unsigned calls;

	at_sleep.act = travel_10_ms;
	for (unsigned i = 0; i < 5; i++)
		CHECK_INT(write_until(&f, PP_FOREVER), ==, PP_OK);
	CHECK_INT(in_vain_ms(&f), >=, 1000);
	calls = at_sleep.calls;
	CHECK_INT(write_until(&f, PP_FOREVER), ==, PP_OK);
	CHECK_INT(at_sleep.calls, ==, calls);
	CHECK(other_locks(F_UNLCK, NEXT)); /* It moves: all is as before. */
	CHECK_INT(write_until(&f, PP_FOREVER), ==, PP_OK);
	CHECK_INT(in_vain_ms(&f), ==, 0);
	CHECK(other_locks(F_WRLCK, NEXT));
	CHECK_INT(write_until(&f, PP_FOREVER), ==, PP_OK);
	CHECK_INT(at_sleep.calls, >, calls);
	other_goes();
}

static struct pp_token token;

static void cancel_at_the_second(void)
{
	if (at_sleep.calls == 2)
		pp_cancel(&token);
}

TEST(turn, is_not_waited_for_by_who_is_cancelled)
{
	CLEANUP(fixture_close) struct fixture f = fixture_in_line(0);

	at_sleep.act = cancel_at_the_second;
	write_until(&f, pp_with_token(PP_FOREVER, &token));
	CHECK_INT(at_sleep.calls, ==, 2);
	other_goes();
}

/* --- Neighbours --------------------------------------------------------------------------- */

TEST(turn, sees_neighbours_and_forgets_them)
{
	CLEANUP(fixture_close) struct fixture f = fixture_manual(0);

	CHECK(!stats(f.pool).neighbours);
	other_comes(&f);
	CHECK_INT(pp_keep(f.pool, NULL), ==, PP_OK);
	CHECK(stats(f.pool).neighbours);
	other_goes();
	CHECK_INT(pp_keep(f.pool, NULL), ==, PP_OK);
	CHECK(!stats(f.pool).neighbours);
}

/* Whoever writes looks, with no keeper's help; and without neighbours nothing is locked. */
TEST(turn, sees_neighbours_when_it_writes)
{
	CLEANUP(fixture_close) struct fixture f = fixture_manual(0);

	other_comes(&f);
	CHECK(other_locks(F_UNLCK, PRESENCE));
	CHECK(other_locks(F_WRLCK, NEXT));
	at_sleep.calls = 0;
	clock_travel_ms(20);
	CHECK_INT(write_until(&f, PP_FOREVER), ==, PP_OK);
	CHECK_INT(at_sleep.calls, ==, 0);
	CHECK(!stats(f.pool).neighbours);

	CHECK(other_locks(F_RDLCK, PRESENCE));
	clock_travel_ms(20);
	at_sleep.act = give_at_the_third;
	CHECK_INT(write_until(&f, PP_FOREVER), ==, PP_OK);
	CHECK_INT(at_sleep.calls, ==, 3);
	CHECK(stats(f.pool).neighbours);
	other_goes();
	clock_travel_ms(20);
	CHECK_INT(write_until(&f, PP_FOREVER), ==, PP_OK);
	CHECK(!stats(f.pool).neighbours);
}
