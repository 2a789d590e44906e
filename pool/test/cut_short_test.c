/* Deadlines and tokens reach also what is between: pauses, openings, looks, upkeep. */
/* SPDX-License-Identifier: MIT */
#include "upkeep.h"

/* --- Pauses ------------------------------------------------------------------------------- */

struct pause {
	struct pp_pool *pool;
	struct pp_token token;
};

static void *pause_for_ever(void *context)
{
	struct pause *p = context;

	group_pause(p->pool, UINT64_MAX / 4, &p->token);
	return NULL;
}

static bool somebody_pauses(struct pp_pool *pool)
{
	bool pauses;

	pthread_mutex_lock(&pool->group.mutex);
	pauses = pool->group.pausing > 0;
	pthread_mutex_unlock(&pool->group.mutex);
	return pauses;
}

TEST(cancel, ends_a_pause)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	struct pause p = { .pool = f.pool };
	pthread_t thread = thread_start(pause_for_ever, &p);
	char text[256];

	WAIT_FOR(somebody_pauses(f.pool));
	CHECK_MSG(pp_check(f.pool, text, sizeof text) == 0, "%s", text);
	pp_cancel(&p.token);
	pthread_join(thread, NULL);
	group_pause(f.pool, UINT64_MAX / 4, &p.token);
}

TEST(cancel, leaves_a_pause_of_another_alone)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	struct pp_token mine = { 0 }, another = { 0 };
	uint64_t start = clock_ns();

	pp_cancel(&another);
	group_pause(f.pool, 2000000, &mine);
	CHECK_INT(clock_ns() - start, >=, 2000000);
	start = clock_ns();
	group_pause(f.pool, 2000000, NULL);
	CHECK_INT(clock_ns() - start, >=, 2000000);
}

static enum pp_status be_busy(struct pp_lease *lease, void *context)
{
	unsigned *runs = context;

	++*runs;
	sqlite3_exec(lease->db, "SELECT fail_with(5)", NULL, NULL, NULL);
	return PP_SQLITE;
}

/* What it sleeps with can be woken: by the token, and by who closes the pool. */
TEST(cancel, can_end_the_pause_between_attempts)
{
	CLEANUP(fixture_close)
	struct fixture f =
		fixture_config((struct pp_config){ .readers = 1, .on_open = add_fail_with });
	struct pp_token token = { 0 };
	struct pp_transaction options = { .deadline = pp_with_token(PP_FOREVER, &token),
		                          .attempts_max = 3 };
	unsigned runs = 0;

	atomic_store(&sleeps_begun, 0);
	CHECK_INT(pp_transact(f.pool, &options, be_busy, &runs, NULL), ==, PP_SQLITE);
	CHECK_INT(runs, ==, 3);
	CHECK_INT(atomic_load(&sleeps_begun), ==, 0);
}

/* --- Openings ----------------------------------------------------------------------------- */

struct opening {
	struct pp_pool *pool;
	struct pp_token token;
	atomic_uint begun; /* Openings. */
	struct pp_error error;
};

static int note_opening(sqlite3 *db, void *context)
{
	struct opening *o = context;

	(void)db;
	atomic_fetch_add(&o->begun, 1);
	return SQLITE_OK;
}

static void *want_a_reader(void *context)
{
	struct opening *o = context;
	struct pp_lease lease = { 0 };

	CHECK_INT(pp_acquire(o->pool, PP_READ, pp_with_token(PP_FOREVER, &o->token), &lease,
	                     &o->error),
	          ==, PP_CANCELLED);
	return NULL;
}

/* The reader was not to be kept, and the next borrower opens another: behind a lock that is held
 * for ever. */
TEST(cancel, ends_an_opening)
{
	struct opening o = { 0 };
	CLEANUP(fixture_close)
	struct fixture f = fixture_config((struct pp_config){ .readers = 1,
	                                                      .journal = PP_JOURNAL_DELETE,
	                                                      .keeper = PP_KEEPER_MANUAL,
	                                                      .busy_timeout_ms = 86400000,
	                                                      .on_open = note_opening,
	                                                      .on_open_context = &o });
	struct pp_lease lease = { 0 };
	pthread_t thread;
	sqlite3 *db;

	o.pool = f.pool;
	acquire(f.pool, PP_READ, &lease);
	sql(lease.db, "PRAGMA temp_store=2");
	pp_release(&lease);
	CHECK_INT(stats(f.pool).read.open, ==, 0);
	CHECK_INT(sqlite3_open(f.path, &db), ==, SQLITE_OK);
	sql(db, "BEGIN EXCLUSIVE");
	atomic_store(&o.begun, 0);
	thread = thread_start(want_a_reader, &o);
	WAIT_FOR(atomic_load(&o.begun) == 1);
	pp_cancel(&o.token);
	pthread_join(thread, NULL);
	CHECK_STR(o.error.doing, "open");
	CHECK_INT(stats(f.pool).cancels, ==, 1);
	sqlite3_close(db);
	acquire(f.pool, PP_READ, &lease);
	pp_release(&lease);
}

/* What was opened with a token does not keep it: it may be gone by now. */
TEST(cancel, is_forgotten_once_it_is_open)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	struct pp_token token = { 0 };
	struct pp_error error;

	must(pp_reopen(f.pool, pp_with_token(PP_FOREVER, &token), &error), &error);
	CHECK(pool_lane(f.pool, PP_READ)->slots[0].connection.db != NULL);
	CHECK(pool_lane(f.pool, PP_READ)->slots[0].connection.token == NULL);
}

/* --- Looks at the file -------------------------------------------------------------------- */

/* The file is shorter than the pool knows it, and its end in the WAL: every page has to be looked
 * at. */
static struct fixture shorter(void)
{
	struct fixture f =
		fixture_config((struct pp_config){ .readers = 1, .keeper = PP_KEEPER_MANUAL });
	struct pp_lease lease = { 0 };
	sqlite3 *db;

	acquire(f.pool, PP_WRITE, &lease);
	sql(lease.db, "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE "
	              "i < 20000) INSERT INTO t SELECT i, i FROM n");
	sql(lease.db, "PRAGMA wal_checkpoint(TRUNCATE)");
	pp_release(&lease);
	health_note(f.pool);
	CHECK_INT(sqlite3_open(f.path, &db), ==, SQLITE_OK);
	sql(db, "DELETE FROM t WHERE id > 10; VACUUM; PRAGMA wal_checkpoint(TRUNCATE)");
	sql(db, "WITH RECURSIVE n(i) AS (SELECT 100 UNION ALL SELECT i + 1 FROM n WHERE i < 9000) "
	        "INSERT INTO t SELECT i, i FROM n");
	sqlite3_close(db);
	return f;
}

TEST(deadline, ends_a_look_at_the_file)
{
	CLEANUP(fixture_close) struct fixture f = shorter();
	struct pp_lease lease = { 0 };
	struct pp_transaction options = { .deadline = { .ns = clock_ns() + 1 } };
	struct pp_error error;

	CHECK_INT(pp_acquire(f.pool, PP_WRITE, PP_NO_WAIT, &lease, &error), ==, PP_TIMEOUT);
	CHECK_STR(error.doing, "look at the file");
	CHECK(lease.db == NULL);
	CHECK_INT(pp_transact(f.pool, &options, life_add, NULL, &error), ==, PP_TIMEOUT);
	CHECK_STR(error.doing, "look at the file");
	/* With time enough it is looked at, and well. */
	CHECK_INT(pp_acquire(f.pool, PP_WRITE, (struct pp_deadline){ 0 }, &lease, NULL), ==, PP_OK);
	pp_release(&lease);
	CHECK_INT(pp_acquire(f.pool, PP_WRITE, PP_NO_WAIT, &lease, NULL), ==, PP_OK);
	pp_release(&lease);
	CHECK_INT(stats(f.pool).file_changes, ==, 0);
}

static int64_t count_to_5000(sqlite3 *db)
{
	return number(db, "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE "
	                  "i < 5000) SELECT count(*) FROM n");
}

static enum pp_status do_nothing(struct pp_lease *lease, void *context)
{
	(void)lease, (void)context;
	return PP_OK;
}

TEST(deadline, of_a_transaction_ends_with_it)
{
	CLEANUP(fixture_close) struct fixture f = manual((struct pp_config){ .readers = 1 }, NULL);
	struct pp_transaction options = { .lane = PP_READ, .deadline = pp_in_ms(60000) };
	struct pp_lease lease = { 0 };

	CHECK_INT(pp_transact(f.pool, &options, do_nothing, NULL, NULL), ==, PP_OK);
	clock_travel_ms(120000);
	acquire(f.pool, PP_READ, &lease);
	CHECK_INT(count_to_5000(lease.db), ==, 5000);
	pp_release(&lease);
}

/* It is of the waiting and of the look, not of what the borrower does afterwards. */
TEST(deadline, of_an_acquire_ends_with_it)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	struct pp_lease lease = { 0 };

	CHECK_INT(pp_acquire(f.pool, PP_WRITE, pp_in_ms(60000), &lease, NULL), ==, PP_OK);
	clock_travel_ms(120000);
	CHECK_INT(count_to_5000(lease.db), ==, 5000);
	pp_release(&lease);
}

/* --- Upkeep ------------------------------------------------------------------------------- */

/* The WAL is to be cut: upkeep stands in the writers' line, and keeps nobody else waiting. */
TEST(upkeep, goes_on_while_it_waits_for_the_writer)
{
	CLEANUP(fixture_close)
	struct fixture f = fixture_config((struct pp_config){
		.readers = 2, .keeper = PP_KEEPER_MANUAL, .wal_bytes_max = 65536 });
	struct pp_lease writer = { 0 };
	pthread_t thread;

	acquire_elsewhere(f.pool, PP_WRITE, &writer);
	sql(writer.db, "CREATE TABLE big(x); INSERT INTO big VALUES (zeroblob(200000))");
	CHECK_INT(stats(f.pool).wal_bytes, >, 65536);
	thread = thread_start(keep_once, f.pool);
	WAIT_FOR(stats(f.pool).write.waiting == 1);
	CHECK_INT(pp_resize(f.pool, 1, 1, NULL), ==, PP_OK);
	CHECK_INT(stats(f.pool).write.waiting, ==, 1);
	pp_release(&writer);
	pthread_join(thread, NULL);
	CHECK_INT(stats(f.pool).wal_bytes, ==, 0);
}

/* Between two tries, too. */
TEST(upkeep, stops_who_pins_the_wal_at_his_age)
{
	struct diary diary = { 0 };
	CLEANUP(fixture_close)
	struct fixture f = manual(
		(struct pp_config){ .readers = 1, .wal_bytes_max = 65536, .reader_max_ms = 500 },
		&diary);
	struct pp_lease writer = { 0 }, reader = { 0 };

	acquire(f.pool, PP_READ, &reader);
	sql(reader.db, "BEGIN; SELECT count(*) FROM t");
	acquire(f.pool, PP_WRITE, &writer);
	sql(writer.db, "CREATE TABLE big(x); INSERT INTO big VALUES (zeroblob(200000))");
	pp_release(&writer);
	later(&f, 1);
	CHECK_INT(told(&diary, PP_EVENT_WAL_PINNED), ==, 1);
	CHECK_INT(told(&diary, PP_EVENT_INTERRUPTED), ==, 0);
	later(&f, 600);
	CHECK_INT(told(&diary, PP_EVENT_INTERRUPTED), ==, 1);
	pp_release(&reader);
}

static void *have_all_and_leave_no_keeper(void *context)
{
	struct pp_lease lease = { 0 };

	acquire(context, PP_EXCLUSIVE, &lease);
	atomic_store(&refusing, true);
	pp_release(&lease);
	return NULL;
}

/* ... also when its own connection is gone by then. */
TEST(upkeep, that_waits_for_the_writer_looks_again_what_is_left)
{
	CLEANUP(fixture_close)
	struct fixture f = manual((struct pp_config){ .readers = 1,
	                                              .wal_bytes_max = 65536,
	                                              .on_open = refuse_when_told },
	                          NULL);
	struct pp_lease writer = { 0 };
	pthread_t threads[2];

	acquire_elsewhere(f.pool, PP_WRITE, &writer);
	sql(writer.db, "CREATE TABLE big(x); INSERT INTO big VALUES (zeroblob(200000))");
	threads[0] = thread_start(have_all_and_leave_no_keeper, f.pool);
	WAIT_FOR(stats(f.pool).write.waiting == 1);
	threads[1] = thread_start(keep_once, f.pool);
	WAIT_FOR(stats(f.pool).write.waiting == 2);
	pp_release(&writer);
	for (unsigned i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	CHECK(f.pool->anchor.db == NULL);
	CHECK_INT(stats(f.pool).wal_bytes, >, 65536);
	atomic_store(&refusing, false);
	later(&f, 120000);
	later(&f, 120000);
	CHECK_INT(stats(f.pool).wal_bytes, ==, 0);
}

/* ... and says nothing of a pool that is closed meanwhile. */
TEST(upkeep, that_waits_for_the_writer_ends_with_the_pool)
{
	struct diary diary = { 0 };
	struct fixture f =
		manual((struct pp_config){ .readers = 1, .wal_bytes_max = 65536 }, &diary);
	struct pp_lease writer = { 0 };
	pthread_t thread;

	acquire_elsewhere(f.pool, PP_WRITE, &writer);
	sql(writer.db, "CREATE TABLE big(x); INSERT INTO big VALUES (zeroblob(200000))");
	thread = thread_start(keep_once, f.pool);
	WAIT_FOR(stats(f.pool).write.waiting == 1);
	CHECK_INT(pp_close(f.pool, PP_NO_WAIT, NULL), ==, PP_LEASED);
	pthread_join(thread, NULL);
	CHECK_INT(told(&diary, PP_EVENT_WAL_LARGE), ==, 0);
	pp_release(&writer);
	fixture_close(&f);
}
