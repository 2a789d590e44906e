/* Points and virtual sleep: what a harness sees of the pool's way, and an hour that takes no time.
 * The release variant has neither. */
/* SPDX-License-Identifier: MIT */
#include "upkeep.h"

#include <poolproof/point.h>

static bool is_release(void)
{
	return pp_points_set == NULL;
}

/* --- Points -------------------------------------------------------------------------------- */

static char way[256];

static void note(enum pp_point point)
{
	static const char *const names[] = {
#define X(name, text) text,
		PP_POINT_LIST(X)
#undef X
	};

	snprintf(way + strlen(way), sizeof way - strlen(way), "%s ",
	         names[point] + strlen("pool."));
}

static enum pp_status end_with(struct pp_lease *lease, void *context)
{
	sql(lease->db, "INSERT INTO t DEFAULT VALUES");
	return *(enum pp_status *)context;
}

static const struct {
	enum pp_status status;
	const char *way;
} ends[] = {
	{ PP_OK, "claim begin begun commit committed release give " },
	{ PP_ABORTED, "claim begin begun rollback release give " },
};

TEST_ROWS(point, tells_the_way_of_a_transaction, sizeof ends / sizeof *ends)
{
	CLEANUP(fixture_close) struct fixture f = manual((struct pp_config){ .readers = 1 }, NULL);
	enum pp_status status = ends[row].status;

	if (is_release())
		return;
	pp_points_set(note);
	CHECK_INT(pp_transact(f.pool, NULL, end_with, &status, NULL), ==, status);
	pp_points_set(NULL);
	CHECK_STR(way, ends[row].way);
	CHECK_INT(pp_transact(f.pool, NULL, end_with, &(enum pp_status){ PP_ABORTED }, NULL), ==,
	          PP_ABORTED);
	CHECK_STR(way, ends[row].way); /* Nobody visits any more. */
}

static struct pp_pool *visited;
static unsigned inside_at_retry;

static void count_inside(enum pp_point point)
{
	if (point == PP_POINT_RETRY)
		inside_at_retry = visited->group.inside;
}

static enum pp_status be_busy_once(struct pp_lease *lease, void *context)
{
	if ((*(unsigned *)context)++ > 0)
		return PP_OK;
	sqlite3_exec(lease->db, "SELECT fail_with(5)", NULL, NULL, NULL);
	return PP_SQLITE;
}

/* Who tries again has no lease between two attempts. The closer did not know of him until his pause
 * began, and might have gone, and another pool come, before that. */
TEST_ROWS(point, of_a_retry_is_one_that_the_closer_waits_for, 2)
{
	CLEANUP(fixture_close)
	struct fixture f =
		fixture_config((struct pp_config){ .readers = 1, .on_open = add_fail_with });
	unsigned runs = 0;

	if (is_release())
		return;
	visited = f.pool;
	pp_points_set(count_inside);
	must(row == 0 ? pp_transact(f.pool, NULL, be_busy_once, &runs, NULL)
	              : pp_write(f.pool, NULL, be_busy_once, &runs, NULL, NULL),
	     NULL);
	pp_points_set(NULL);
	CHECK_INT(runs, ==, 2);
	CHECK_INT(inside_at_retry, ==, 1);
	CHECK_INT(f.pool->group.inside, ==, 0);
}

/* --- Virtual sleep ------------------------------------------------------------------------- */

enum { HOUR_MS = 3600000 };

static void sleep_virtually(uint64_t ns)
{
	pp_time_pass_ns(ns);
}

/* Returns whether at least so long has passed, by the pool's clock. */
static bool has_passed(uint64_t start_ns, uint64_t ms)
{
	pp_sleep_set(NULL);
	return clock_ns() - start_ns >= ms * 1000000;
}

TEST(sleep, in_the_line_is_virtual)
{
	CLEANUP(fixture_close) struct fixture f = manual((struct pp_config){ .readers = 1 }, NULL);
	struct pp_lease other = { 0 }, lease = { 0 };
	uint64_t start = clock_ns();

	if (is_release())
		return;
	acquire_elsewhere(f.pool, PP_READ, &other);
	pp_sleep_set(sleep_virtually);
	CHECK_INT(pp_acquire(f.pool, PP_READ, pp_in_ms(HOUR_MS), &lease, NULL), ==, PP_TIMEOUT);
	CHECK(has_passed(start, HOUR_MS));
	pp_release(&other);
}

TEST(sleep, before_a_foreign_lock_is_virtual)
{
	CLEANUP(fixture_close)
	struct fixture f =
		manual((struct pp_config){ .readers = 1, .busy_timeout_ms = 60000 }, NULL);
	struct pp_lease lease = { 0 };
	struct pp_error error = { 0 };
	uint64_t start = clock_ns();
	sqlite3 *db;

	if (is_release())
		return;
	CHECK_INT(sqlite3_open(f.path, &db), ==, SQLITE_OK);
	sql(db, "BEGIN IMMEDIATE");
	acquire(f.pool, PP_WRITE, &lease);
	pp_sleep_set(sleep_virtually);
	CHECK_INT(pp_begin(&lease, &error), ==, PP_SQLITE);
	CHECK_INT(error.sqlite_code & 0xff, ==, SQLITE_BUSY);
	CHECK(has_passed(start, 60000));
	pp_release(&lease);
	sqlite3_close(db);
}

static void *write_patiently(void *pool)
{
	struct pp_transaction options = { .deadline = PP_FOREVER };
	enum pp_status status = PP_OK;

	CHECK_INT(pp_write(pool, &options, end_with, &status, NULL, NULL), ==, PP_OK);
	return NULL;
}

/* Another leads it, and waits for the writer. */
TEST(sleep, in_a_group_is_virtual)
{
	CLEANUP(fixture_close) struct fixture f = manual((struct pp_config){ .readers = 1 }, NULL);
	struct pp_transaction options = { .deadline = pp_in_ms(HOUR_MS) };
	struct pp_lease writer = { 0 };
	enum pp_status status = PP_OK;
	uint64_t start = clock_ns();
	pthread_t thread;

	if (is_release())
		return;
	acquire_elsewhere(f.pool, PP_WRITE, &writer);
	thread = thread_start(write_patiently, f.pool);
	WAIT_FOR(stats(f.pool).write.waiting == 1);
	pp_sleep_set(sleep_virtually);
	CHECK_INT(pp_write(f.pool, &options, end_with, &status, NULL, NULL), ==, PP_TIMEOUT);
	CHECK(has_passed(start, HOUR_MS - 1));
	pp_release(&writer);
	pthread_join(thread, NULL);
	CHECK_INT(rows_in(f.pool), ==, 1);
}

/* --- Pauses between attempts ---------------------------------------------------------------- */

enum { ATTEMPTS = 10, LOSERS = 20 };

static struct {
	uint64_t ns[ATTEMPTS];
	unsigned count;
} pauses;

static void note_pause(uint64_t ns)
{
	if (pauses.count < ATTEMPTS)
		pauses.ns[pauses.count] = ns;
	pauses.count++;
	pp_time_pass_ns(ns);
}

static enum pp_status meet_a_lock(struct pp_lease *lease, void *context)
{
	(void)context;
	sqlite3_exec(lease->db, "SELECT fail_with(5)", NULL, NULL, NULL);
	return PP_SQLITE;
}

/* Each is at most twice as long as the one before, up to 100 ms, and they are not alike: two who
 * lost against each other would meet again. */
TEST(sleep, between_attempts_grows_and_is_not_always_the_same)
{
	CLEANUP(fixture_close)
	struct fixture f =
		manual((struct pp_config){ .readers = 1, .on_open = add_fail_with }, NULL);
	struct pp_transaction options = { .deadline = PP_FOREVER, .attempts_max = ATTEMPTS };
	uint64_t shortest[ATTEMPTS], longest_ns = 1000000;

	if (is_release())
		return;
	memset(shortest, 0xff, sizeof shortest);
	pp_sleep_set(note_pause);
	for (unsigned loser = 0; loser < LOSERS; loser++) {
		pauses.count = 0;
		CHECK_INT(pp_transact(f.pool, &options, meet_a_lock, NULL, NULL), ==, PP_SQLITE);
		CHECK_INT(pauses.count, ==, ATTEMPTS - 1);
		for (unsigned i = 0; i < ATTEMPTS - 1; i++)
			if (pauses.ns[i] < shortest[i])
				shortest[i] = pauses.ns[i];
	}
	pp_sleep_set(NULL);
	for (unsigned i = 0; i < ATTEMPTS - 1; i++) {
		longest_ns = i < 6 ? 2 * longest_ns : 100000000;
		CHECK_MSG(pauses.ns[i] <= longest_ns, "pause %u: %ju ns", i, pauses.ns[i]);
		CHECK_MSG(shortest[i] < longest_ns * 9 / 10, "pause %u: all %ju ns and more", i,
		          shortest[i]);
	}
}
