/* pp_check() is an alarm: each thing it watches is broken here on purpose, and it must say so. */
/* SPDX-License-Identifier: MIT */
#include "fixture.h"

#include "internal.h"

/* Each is put on and taken off again, so that the pool can be closed. */
static struct connection *connection(struct pp_pool *pool)
{
	return &pool->lanes[0].slots[0].connection;
}

static struct statements *statements(struct pp_pool *pool)
{
	return &connection(pool)->statements;
}

static void leave_transaction(struct pp_pool *pool, bool on)
{
	sql(connection(pool)->db, on ? "BEGIN" : "ROLLBACK");
}

/* Not the same: autocommit is on, and a running statement holds its snapshot. */
static void leave_snapshot(struct pp_pool *pool, bool on)
{
	static sqlite3_stmt *stmt;

	if (on) {
		CHECK_INT(sqlite3_prepare_v2(connection(pool)->db, "SELECT * FROM sqlite_schema",
		                             -1, &stmt, NULL),
		          ==, SQLITE_OK);
		CHECK_INT(sqlite3_step(stmt), ==, SQLITE_ROW);
	} else {
		sqlite3_finalize(stmt);
	}
}

static void leave_depth(struct pp_pool *pool, bool on)
{
	connection(pool)->depth = on ? 2 : 0;
}

static void leave_at_work(struct pp_pool *pool, bool on)
{
	connection(pool)->at_work = on;
}

static void leave_taken(struct pp_pool *pool, bool on)
{
	statements(pool)->newest->taken = on;
}

static void leave_running(struct pp_pool *pool, bool on)
{
	sqlite3_stmt *stmt = statements(pool)->newest->stmt;

	CHECK_INT(on ? sqlite3_step(stmt) : sqlite3_reset(stmt), ==, on ? SQLITE_ROW : SQLITE_OK);
}

static void count_one_statement_more(struct pp_pool *pool, bool on)
{
	statements(pool)->count += on ? 1u : -1u;
}

static void lose_chain_of_use(struct pp_pool *pool, bool on)
{
	statements(pool)->most_recent = on ? NULL : statements(pool)->newest;
}

static void lose_chain_of_text(struct pp_pool *pool, bool on)
{
	static struct statement **buckets, *none[1];
	static unsigned bucket_count;
	struct statements *s = statements(pool);

	if (on) {
		buckets = s->buckets;
		bucket_count = s->bucket_count;
	}
	s->buckets = on ? none : buckets;
	s->bucket_count = on ? 1 : bucket_count;
}

static void mistake_its_id(struct pp_pool *pool, bool on)
{
	statements(pool)->newest->id = on ? 2 : 1;
}

static void count_one_byte_more(struct pp_pool *pool, bool on)
{
	statements(pool)->bytes += on ? 1u : (size_t)-1;
}

static void pass_the_bound_of_bytes(struct pp_pool *pool, bool on)
{
	statements(pool)->bytes_max = on ? 1 : pool->config.statements_bytes_max;
}

static void pass_the_bound_of_count(struct pp_pool *pool, bool on)
{
	statements(pool)->count_max = on ? 0 : pool->config.statements_max;
}

static void lose_connection(struct pp_pool *pool, bool on)
{
	static sqlite3 *db;

	if (on)
		db = connection(pool)->db;
	connection(pool)->db = on ? NULL : db;
}

static void forget_that_it_is_open(struct pp_pool *pool, bool on)
{
	atomic_store(&pool->lanes[0].slots[0].open, !on);
}

static void mistake_generation(struct pp_pool *pool, bool on)
{
	atomic_fetch_add(&pool->lanes[0].slots[0].generation, on ? 1u : (uint64_t)-1);
}

static void invent_state(struct pp_pool *pool, bool on)
{
	atomic_store(&pool->lanes[0].slots[0].state, on ? 8u : SLOT_IDLE);
}

static void count_one_waiter_more(struct pp_pool *pool, bool on)
{
	pool->lines[0].count += on ? 1u : -1u;
}

static void count_one_in_the_lane_more(struct pp_pool *pool, bool on)
{
	pool->lines[1].lanes[1].waiting += on ? 1u : -1u;
}

static void publish_one_waiter_more(struct pp_pool *pool, bool on)
{
	atomic_fetch_add(&pool->lines[0].waiting, on ? 1u : -1u);
}

static void lose_the_tail(struct pp_pool *pool, bool on)
{
	static struct waiter nobody;

	pool->lines[0].tail = on ? &nobody : NULL;
}

#ifdef PP_JEMALLOC
static void book_bytes_that_are_not(struct pp_pool *pool, bool on)
{
	atomic_fetch_add(&atomic_load(&connection(pool)->account)->bytes, on ? 8u : (uint64_t)-8);
}
#endif

static const struct {
	void (*put)(struct pp_pool *pool, bool on);
	const char *words;
	unsigned findings; /* Some show in more than one place. */
} breakages[] = {
	{ leave_transaction, "reader 0: idle with a transaction open\n", 1 },
	{ leave_snapshot, "reader 0: idle with a transaction open\n", 2 },
	{ leave_snapshot, "reader 0: idle with a statement that is not the pool's\n", 2 },
	{ leave_depth, "reader 0: idle at depth 2\n", 1 },
	{ leave_at_work, "reader 0: idle at depth 0, at work\n", 1 },
	{ leave_taken, "reader 0: statement \"SELECT 'mine'\" is marked as taken\n", 1 },
	{ leave_running, "reader 0: statement \"SELECT 'mine'\" is still running\n", 1 },
	{ count_one_statement_more,
	  "reader 0: 2 statements counted, 1 by creation, 1 by use, 2 by text\n", 1 },
	{ lose_chain_of_use, "reader 0: 1 statements counted, 1 by creation, 0 by use, 1 by text\n",
	  1 },
	{ lose_chain_of_text,
	  "reader 0: 1 statements counted, 1 by creation, 1 by use, 0 by text\n", 1 },
	{ mistake_its_id, "reader 0: statement 1 is another one, \"SELECT 'mine'\"\n", 1 },
	{ count_one_byte_more, "reader 0: 1 statements of at most 100, ", 1 },
	{ pass_the_bound_of_bytes, " added up, at most 1\n", 1 },
	{ pass_the_bound_of_count, "reader 0: 1 statements of at most 0, ", 1 },
	{ lose_connection, "reader 0: idle without a connection\n", 1 },
	{ forget_that_it_is_open, "reader 0: idle without a connection\n", 1 },
	{ mistake_generation, "reader 0: idle with the generation of a lent one, ", 1 },
	{ invent_state, "reader 0: state 8 is none\n", 1 },
	{ count_one_waiter_more, "line 0: 0 stand in it, 1 counted, 0 by lane, 0 published\n", 1 },
	{ count_one_in_the_lane_more, "line 1: 0 stand in it, 0 counted, 1 by lane, 0 published\n",
	  1 },
	{ publish_one_waiter_more, "line 0: 0 stand in it, 0 counted, 0 by lane, 1 published\n",
	  1 },
	{ lose_the_tail, "line 0: the tail is not its last\n", 1 },
#ifdef PP_JEMALLOC
	{ book_bytes_that_are_not, " bytes booked, jemalloc says ", 1 },
#endif
};

TEST_ROWS(check, fires, sizeof breakages / sizeof *breakages)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	struct pp_lease lease = { 0 };
	sqlite3_stmt *stmt;
	char text[1024];
	unsigned id;

	must(pp_statement_register(f.pool, "SELECT 'mine'", &id, NULL), NULL);
	acquire(f.pool, PP_READ, &lease);
	must(pp_statement(&lease, id, &stmt, NULL), NULL);
	pp_release(&lease);
	breakages[row].put(f.pool, true);
	unsigned findings = pp_check(f.pool, text, sizeof text);

	breakages[row].put(f.pool, false);
	CHECK_CONTAINS(text, breakages[row].words);
	CHECK_MSG(findings == breakages[row].findings, "%u findings: %s", findings, text);
}

TEST(check, counts_all_and_writes_what_fits)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	char whole[256], part[] = "0123456789abcdef";

	leave_depth(f.pool, true);
	count_one_waiter_more(f.pool, true);
	CHECK_INT(pp_check(f.pool, whole, sizeof whole), ==, 2);
	for (size_t size = 0; size <= strlen(whole) + 1; size++) {
		char *text = malloc(size + 1); /* Of its own, so that writing past it is noticed. */

		CHECK_INT(pp_check(f.pool, size > 0 ? text : NULL, size), ==, 2);
		if (size > 0)
			CHECK(strlen(text) < size && strncmp(text, whole, strlen(text)) == 0);
		free(text);
	}
	CHECK_INT(pp_check(f.pool, part, 8), ==, 2);
	CHECK_STR(part, "line 0:");
	CHECK_STR(part + 8, "89abcdef");
	leave_depth(f.pool, false);
	count_one_waiter_more(f.pool, false);
}

/* A connection that was closed and opened anew begins with an empty cache. */
TEST(check, is_content_with_a_connection_opened_anew)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	struct pp_lease lease = { 0 };
	sqlite3_stmt *stmt;
	char text[256];

	acquire(f.pool, PP_READ, &lease);
	must(pp_prepare(&lease, "PRAGMA cache_size=10", &stmt, NULL), NULL);
	pp_release(&lease);
	CHECK_INT(pp_check(f.pool, text, sizeof text), ==, 0); /* Closed. */
	acquire(f.pool, PP_READ, &lease);
	pp_release(&lease);
	CHECK_INT(pp_check(f.pool, text, sizeof text), ==, 0); /* Open. */
	CHECK_INT(stats(f.pool).retired, ==, 1);
	CHECK_INT(stats(f.pool).statements + stats(f.pool).statement_bytes, ==, 0);
}

/* Looking at a pool is no use of it: what is lent stays lent, and nothing is counted. */
TEST(check, leaves_no_trace)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(2);
	CLEANUP(pp_release) struct pp_lease lease = { 0 };
	struct pp_stats before, after;
	char text[256];

	acquire(f.pool, PP_READ, &lease);
	before = stats(f.pool);
	CHECK_INT(pp_check(f.pool, text, sizeof text), ==, 0);
	CHECK_STR(text, "");
	after = stats(f.pool);
	CHECK_INT(memcmp(&before, &after, sizeof before), ==, 0);
}
