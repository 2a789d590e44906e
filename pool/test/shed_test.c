/* Overload: the head of the line is refused when all wait too long. */
/* SPDX-License-Identifier: MIT */
#include "upkeep.h"

enum { VISITORS_MAX = 12 };

/* One reader, lent, and those who wait for it. */
struct shed {
	struct fixture f;
	struct pp_lease lease;
	unsigned count;
	struct visitor visitors[VISITORS_MAX];
	pthread_t threads[VISITORS_MAX];
};

static void shed_open(struct shed *s, unsigned shed_ms)
{
	s->f = manual((struct pp_config){ .readers = 1,
	                                  .overtake_ms = 60000,
	                                  .shed_ms = shed_ms,
	                                  .shed_interval_ms = 100 },
	              NULL);
}

static void queue_up(struct shed *s, unsigned visitors)
{
	s->count = visitors;
	acquire(s->f.pool, PP_READ, &s->lease);
	for (unsigned i = 0; i < visitors; i++) {
		s->visitors[i] = (struct visitor){ .pool = s->f.pool,
			                           .lane = PP_READ,
			                           .deadline = PP_FOREVER };
		s->threads[i] = thread_start(visit, &s->visitors[i]);
		WAIT_FOR(stats(s->f.pool).read.waiting == i + 1);
	}
}

/* It is given back; how many were refused, of those who waited. */
static unsigned shed_count(struct shed *s)
{
	unsigned refused = 0;

	pp_release(&s->lease);
	for (unsigned i = 0; i < s->count; i++) {
		pthread_join(s->threads[i], NULL);
		CHECK(s->visitors[i].status == PP_OK || s->visitors[i].status == PP_OVERLOADED);
		refused += s->visitors[i].status == PP_OVERLOADED;
	}
	return refused;
}

static void shed_close(struct shed *s)
{
	fixture_close(&s->f);
}

static void serve_after(struct shed *s, uint64_t ms)
{
	clock_travel_ms(ms);
	line_serve(s->f.pool, PP_READ);
}

/* All have waited longer than the target, for longer than the interval: the heads are refused, one
 * at first. Then the wait is short again, and nobody is. */
TEST(shed, refuses_the_head_when_all_wait_too_long)
{
	CLEANUP(shed_close) struct shed s = { 0 };
	unsigned refused;

	shed_open(&s, 50);
	queue_up(&s, 6);
	serve_after(&s, 0);
	CHECK_INT(stats(s.f.pool).sheds, ==, 0);
	serve_after(&s, 60); /* Too long, but not yet for an interval. */
	CHECK_INT(stats(s.f.pool).read.waiting, ==, 6);
	serve_after(&s, 110);
	CHECK_INT(stats(s.f.pool).read.waiting, ==, 5);
	WAIT_FOR(stats(s.f.pool).sheds == 1);
	serve_after(&s, 0); /* The next not before another interval. */
	CHECK_INT(stats(s.f.pool).read.waiting, ==, 5);
	serve_after(&s, 110);
	WAIT_FOR(stats(s.f.pool).sheds == 2);
	refused = shed_count(&s);
	CHECK_INT(refused, >=, 2);
	CHECK_INT(stats(s.f.pool).sheds, ==, refused);
	CHECK_INT(stats(s.f.pool).read.overloads, ==, refused);
	acquire(s.f.pool, PP_READ, &s.lease);
	pp_release(&s.lease);
}

/* The one who waited too long was served; that was then. */
TEST(shed, forgets_when_nobody_waits)
{
	CLEANUP(shed_close) struct shed s = { 0 };

	shed_open(&s, 10);
	for (unsigned round = 0; round < 2; round++) {
		queue_up(&s, 1);
		clock_travel_ms(40);
		CHECK_INT(shed_count(&s), ==, 0);
		clock_travel_ms(1000);
	}
}

TEST(shed, comes_faster_the_longer_it_lasts)
{
	CLEANUP(shed_close) struct shed s = { 0 };
	unsigned at_half;

	shed_open(&s, 10);
	queue_up(&s, VISITORS_MAX);
	serve_after(&s, 20);
	for (unsigned ms = 0; ms < 410; ms += 10)
		serve_after(&s, 10);
	at_half = VISITORS_MAX - stats(s.f.pool).read.waiting;
	for (unsigned ms = 0; ms < 410; ms += 10)
		serve_after(&s, 10);
	CHECK_INT(at_half, >=, 3);
	CHECK_INT(VISITORS_MAX - stats(s.f.pool).read.waiting - at_half, >, at_half);
	shed_count(&s);
}
