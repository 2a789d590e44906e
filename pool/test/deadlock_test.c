/* Circles of waiting: who would wait for himself is told so, and nobody else. */
/* SPDX-License-Identifier: MIT */
#include "upkeep.h"

/* One more reader than there are at first can be opened: but not two, and no writer. */
TEST_ROWS(deadlock, of_a_thread_with_itself_is_told_at_once, 2)
{
	enum pp_lane lane = row == 0 ? PP_READ : PP_WRITE;
	CLEANUP(fixture_close)
	struct fixture f = fixture_config((struct pp_config){ .readers = 2, .readers_min = 1 });
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

/* With a rollback journal a reader excludes the writer and he it, also one that is yet to be
 * opened.
 */
TEST_ROWS(deadlock, across_the_gate_is_told_at_once, 2)
{
	enum pp_lane has = row == 0 ? PP_READ : PP_WRITE, wants = row == 0 ? PP_WRITE : PP_READ;
	CLEANUP(fixture_close)
	struct fixture f = fixture_config(
		(struct pp_config){ .readers = 2, .readers_min = 1, .journal = PP_JOURNAL_DELETE });
	struct pp_lease leases[2] = { 0 };

	acquire(f.pool, has, &leases[0]);
	CHECK_INT(pp_acquire(f.pool, wants, PP_FOREVER, &leases[1], NULL), ==, PP_WOULD_DEADLOCK);
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
TEST_ROWS(deadlock, is_not_seen_where_the_pool_may_grow, 2)
{
	CLEANUP(fixture_close)
	struct fixture f = fixture_config(
		(struct pp_config){ .readers = 2,
	                            .readers_min = 1,
	                            .journal = row == 0 ? PP_JOURNAL_WAL : PP_JOURNAL_DELETE });
	struct pp_lease leases[2] = { 0 };

	acquire(f.pool, PP_READ, &leases[0]);
	acquire(f.pool, PP_READ, &leases[1]);
	release_all(leases, 2);
	CHECK_INT(stats(f.pool).deadlocks, ==, 0);
}

/* A slot that is there for nobody, or for the connection that is to take the place of his own. */
TEST_ROWS(deadlock, is_seen_beside_a_slot_that_does_not_come, 2)
{
	CLEANUP(fixture_close)
	struct fixture f =
		manual((struct pp_config){ .readers = 2 - (unsigned)row, .age_ms = 1000 }, NULL);
	struct pp_lease leases[2] = { 0 };
	struct lane *lane = pool_lane(f.pool, PP_READ);

	if (row == 0)
		CHECK_INT(pp_resize(f.pool, 1, 1, NULL), ==, PP_OK);
	acquire(f.pool, PP_READ, &leases[0]);
	if (row == 1)
		later(&f, 2000);
	CHECK_INT(lane_count_in(lane, row == 0 ? SLOT_SPARE : SLOT_NEXT), ==, 1);
	CHECK_INT(pp_acquire(f.pool, PP_READ, PP_FOREVER, &leases[1], NULL), ==, PP_WOULD_DEADLOCK);
	pp_release(&leases[0]);
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

/* --- Circles through a whole lane ---------------------------------------------------------- */

enum { WANTS_WRITER, WANTS_EXCLUSIVE, WANTS_SUSPENSION };

struct party {
	struct pp_pool *pool;
	int wants;
	bool has_reader; /* Before it wants. */
	atomic_bool ready;
	atomic_bool go;
	atomic_bool done;
	enum pp_status status;
};

static void *take_part(void *context)
{
	struct party *p = context;
	struct pp_lease reader = { 0 }, lease = { 0 };

	if (p->has_reader)
		acquire(p->pool, PP_READ, &reader);
	atomic_store(&p->ready, true);
	WAIT_FOR(atomic_load(&p->go));
	if (p->wants == WANTS_SUSPENSION)
		p->status = pp_suspend(p->pool, PP_FOREVER);
	else
		p->status = pp_acquire(p->pool, p->wants == WANTS_WRITER ? PP_WRITE : PP_EXCLUSIVE,
		                       PP_FOREVER, &lease, NULL);
	if (p->wants == WANTS_SUSPENSION && p->status == PP_OK)
		CHECK_INT(pp_resume(p->pool), ==, PP_OK);
	pp_release(&lease);
	pp_release(&reader);
	atomic_store(&p->done, true);
	return NULL;
}

static pthread_t party_start(struct party *p)
{
	pthread_t thread = thread_start(take_part, p);

	WAIT_FOR(atomic_load(&p->ready));
	return thread;
}

static bool a_lane_is_wanted(struct pp_pool *pool)
{
	struct line *line = pool_lane(pool, PP_READ)->line;
	bool waits;

	pthread_mutex_lock(&line->mutex);
	waits = line->whole[0].waits;
	pthread_mutex_unlock(&line->mutex);
	return waits;
}

static const int whole_wants[] = { WANTS_EXCLUSIVE, WANTS_SUSPENSION };

/* One waits for all readers; who has one then wants the writer, which the first has. */
TEST_ROWS(circle, is_told_to_the_reader_who_comes_second, 2)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(2);
	struct party whole = { .pool = f.pool, .wants = whole_wants[row], .go = true };
	struct party reader = { .pool = f.pool, .wants = WANTS_WRITER, .has_reader = true };
	pthread_t threads[2];

	threads[0] = party_start(&reader);
	threads[1] = party_start(&whole);
	WAIT_FOR(a_lane_is_wanted(f.pool));
	atomic_store(&reader.go, true);
	for (unsigned i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	CHECK_INT(reader.status, ==, PP_WOULD_DEADLOCK);
	CHECK_INT(whole.status, ==, PP_OK);
}

/* The same, and the reader stood in the line for the writer before the other has it. */
TEST_ROWS(circle, is_told_to_who_wants_the_whole_lane_second, 2)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(2);
	struct party whole = { .pool = f.pool, .wants = whole_wants[row], .go = true };
	struct party reader = { .pool = f.pool, .wants = WANTS_WRITER, .has_reader = true };
	struct pp_lease writer = { 0 };
	pthread_t threads[2];

	acquire_elsewhere(f.pool, PP_WRITE, &writer);
	threads[0] = party_start(&reader);
	threads[1] = party_start(&whole);
	WAIT_FOR(stats(f.pool).write.waiting + f.pool->lines[1].whole[1].waits == 1);
	atomic_store(&reader.go, true);
	WAIT_FOR(stats(f.pool).write.waiting + f.pool->lines[1].whole[1].waits == 2);
	pp_release(&writer);
	for (unsigned i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	CHECK_INT(whole.status, ==, PP_WOULD_DEADLOCK);
	CHECK_INT(reader.status, ==, PP_OK);
	CHECK_INT(pp_check(f.pool, NULL, 0), ==, 0);
}

/* The reader comes when the writer has come, which nobody keeps from coming. */
TEST(circle, is_none_where_the_other_waits_for_what_may_come)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(2);
	struct party reader = {
		.pool = f.pool, .wants = WANTS_WRITER, .has_reader = true, .go = true
	};
	struct pp_lease writer = { 0 }, leases[2] = { 0 };
	pthread_t thread;

	acquire_elsewhere(f.pool, PP_WRITE, &writer);
	thread = party_start(&reader);
	WAIT_FOR(stats(f.pool).write.waiting == 1);
	acquire(f.pool, PP_READ, &leases[0]);
	CHECK_INT(pp_acquire(f.pool, PP_READ, pp_in_ms(5), &leases[1], NULL), ==, PP_TIMEOUT);
	pp_release(&writer);
	pthread_join(thread, NULL);
	CHECK_INT(reader.status, ==, PP_OK);
	pp_release(&leases[0]);
}

TEST(circle, of_an_exclusive_lease_with_itself_is_told)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	struct pp_lease all = { 0 }, reader = { 0 };

	acquire(f.pool, PP_EXCLUSIVE, &all);
	CHECK_INT(pp_acquire(f.pool, PP_READ, PP_FOREVER, &reader, NULL), ==, PP_WOULD_DEADLOCK);
	pp_release(&all);
}

static void *resume_when_waited_for(void *context)
{
	struct pp_pool *pool = context;

	WAIT_FOR(stats(pool).read.waiting == 1);
	CHECK_INT(pp_resume(pool), ==, PP_OK);
	return NULL;
}

/* Who has all of it and goes on will give it back. */
TEST(circle, is_none_with_an_exclusive_lease_of_another)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	CLEANUP(fixture_close)
	struct fixture other =
		fixture_config((struct pp_config){ .path = "file:/other?vfs=memdb", .readers = 1 });
	struct pp_lease all = { 0 }, here = { 0 }, there = { 0 };

	acquire(other.pool, PP_READ, &there);
	acquire_elsewhere(f.pool, PP_EXCLUSIVE, &all);
	CHECK_INT(pp_acquire(f.pool, PP_READ, pp_in_ms(5), &here, NULL), ==, PP_TIMEOUT);
	pp_release(&all);
	pp_release(&there);
}

/* Who has suspended the pool, and has a lease of another, is not who keeps it suspended. */
TEST(circle, is_none_with_a_suspension_that_anybody_ends)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	CLEANUP(fixture_close)
	struct fixture other =
		fixture_config((struct pp_config){ .path = "file:/other?vfs=memdb", .readers = 1 });
	struct pp_lease here = { 0 }, there = { 0 };
	pthread_t thread;

	acquire(other.pool, PP_READ, &there);
	CHECK_INT(pp_suspend(f.pool, PP_FOREVER), ==, PP_OK);
	thread = thread_start(resume_when_waited_for, f.pool);
	acquire(f.pool, PP_READ, &here);
	pthread_join(thread, NULL);
	pp_release(&here);
	pp_release(&there);
}

static void *hold_the_writer_and_want_a_reader(void *context)
{
	struct crossing *c = context;
	struct pp_lease leases[2] = { 0 };

	acquire(c->pool, PP_WRITE, &leases[0]);
	c->status = pp_acquire(c->pool, PP_READ, PP_FOREVER, &leases[1], NULL);
	release_all(leases, 2);
	return NULL;
}

/* The other waits for a reader that can be opened. */
TEST(deadlock, is_not_seen_where_the_other_is_helped_by_growth)
{
	CLEANUP(fixture_close)
	struct fixture f = manual((struct pp_config){ .readers = 2, .readers_min = 1 }, NULL);
	struct crossing c = { .pool = f.pool };
	struct pp_lease reader = { 0 }, writer = { 0 };
	pthread_t thread;

	acquire(f.pool, PP_READ, &reader);
	thread = thread_start(hold_the_writer_and_want_a_reader, &c);
	WAIT_FOR(stats(f.pool).read.waiting == 1);
	CHECK_INT(pp_acquire(f.pool, PP_WRITE, pp_in_ms(20), &writer, NULL), ==, PP_TIMEOUT);
	later(&f, 100);
	pthread_join(thread, NULL);
	CHECK_INT(c.status, ==, PP_OK);
	pp_release(&reader);
}

/* While somebody wants all readers none is opened. */
TEST(circle, is_told_where_nothing_grows_for_somebody_wants_all)
{
	CLEANUP(fixture_close)
	struct fixture f = manual((struct pp_config){ .readers = 2, .readers_min = 1 }, NULL);
	struct visitor v = { .pool = f.pool, .lane = PP_EXCLUSIVE, .deadline = PP_FOREVER };
	struct pp_lease leases[2] = { 0 };
	pthread_t thread;

	acquire(f.pool, PP_READ, &leases[0]);
	thread = thread_start(visit, &v);
	WAIT_FOR(a_lane_is_wanted(f.pool));
	CHECK_INT(pp_acquire(f.pool, PP_READ, PP_FOREVER, &leases[1], NULL), ==, PP_WOULD_DEADLOCK);
	pp_release(&leases[0]);
	pthread_join(thread, NULL);
	CHECK_INT(v.status, ==, PP_OK);
}
