/* The WAL guard: checkpoints by upkeep, a bound on the file, who is in the way. */
/* SPDX-License-Identifier: MIT */
#include "wal.h"

/* What the pool told. Under PP_KEEPER_MANUAL all in the test's thread. */
struct told {
	unsigned large, pinned, interrupted;
	struct pp_connection who;
	unsigned frame_count;
	char words[256];
};

static void listen(const struct pp_event *event, void *context)
{
	struct told *told = context;

	if (event->kind == PP_EVENT_WAL_LARGE) {
		told->large++;
		snprintf(told->words, sizeof told->words, "%s", event->message);
	} else if (event->kind == PP_EVENT_WAL_PINNED) {
		told->pinned++;
		told->who = event->connection;
		told->frame_count = event->frame_count;
	} else if (event->kind == PP_EVENT_INTERRUPTED) {
		told->interrupted++;
		CHECK_STR(event->message, "pins the WAL");
	}
}

enum { BOUND = 1 << 20 };

static struct fixture guarded(struct told *told, unsigned reader_max_ms)
{
	return fixture_config((struct pp_config){ .readers = 3,
	                                          .keeper = PP_KEEPER_MANUAL,
	                                          .wal_bytes_max = BOUND,
	                                          .reader_max_ms = reader_max_ms,
	                                          .on_open = no_sync,
	                                          .on_event = told != NULL ? listen : NULL,
	                                          .on_event_context = told });
}

static void keep(struct pp_pool *pool)
{
	CHECK_INT(pp_keep(pool, NULL), ==, PP_OK);
}

static void overflow(struct pp_pool *pool)
{
	grow(pool, BOUND / 4096 + 1);
	CHECK_INT(wal_bytes(pool), >, BOUND);
}

static off_t size_of(const struct fixture *f, const char *suffix)
{
	char name[128];
	struct stat file;

	snprintf(name, sizeof name, "%s%s", f->path, suffix);
	return stat(name, &file) == 0 ? file.st_size : -1;
}

/* --- Checkpoints -------------------------------------------------------------------------- */

TEST(wal, commits_do_not_checkpoint_the_keeper_does)
{
	CLEANUP(fixture_close)
	struct fixture f = fixture_config(
		(struct pp_config){ .keeper = PP_KEEPER_MANUAL, .on_open = no_sync });
	off_t before;
	struct pp_histogram h;

	keep(f.pool);
	before = size_of(&f, "");
	grow(f.pool, 900);
	CHECK_INT(size_of(&f, ""), ==, before);
	CHECK_INT(stats(f.pool).checkpoints, ==, 0);
	keep(f.pool); /* Too little as yet. */
	CHECK_INT(stats(f.pool).checkpoints, ==, 0);
	CHECK_INT(stats(f.pool).wal_bytes, ==, size_of(&f, "-wal"));
	CHECK_INT(stats(f.pool).wal_bytes, >, 900 * 4096);
	grow(f.pool, 1001);
	CHECK_INT(size_of(&f, ""), ==, before);
	keep(f.pool);
	CHECK_INT(size_of(&f, ""), >, 300 * 4096);
	CHECK_INT(stats(f.pool).checkpoints, ==, 1);
	CHECK_INT(stats(f.pool).checkpoints_blocked, ==, 0);
	CHECK_INT(pp_histogram_read(f.pool, PP_HISTOGRAM_CHECKPOINT, &h), ==, PP_OK);
	CHECK_INT(h.count, ==, 1);
	keep(f.pool); /* Nothing new. */
	CHECK_INT(stats(f.pool).checkpoints, ==, 1);
	grow(f.pool, 1);
	grow(f.pool, 500); /* From the start of the WAL again: so many are not much. */
	keep(f.pool);
	CHECK_INT(stats(f.pool).checkpoints, ==, 1);
}

TEST(wal, is_not_woken_in_time_that_has_not_come)
{
	CLEANUP(fixture_close) struct fixture f = guarded(NULL, 0);
	uint64_t due = 0;

	CHECK_INT(pp_keep(f.pool, &due), ==, PP_OK);
	CHECK_INT(due, >, 0);
	CHECK_INT(due, <=, 1000);
}

TEST(wal, is_bounded_though_nobody_keeps_the_pool)
{
	CLEANUP(fixture_close)
	struct fixture f = fixture_config(
		(struct pp_config){ .keeper = PP_KEEPER_MANUAL, .on_open = no_sync });

	grow(f.pool, 3900);
	CHECK_INT(stats(f.pool).checkpoints, ==, 0);
	grow(f.pool, 3990);
	while (stats(f.pool).checkpoints == 0) {
		CHECK_INT(atomic_load(&f.pool->wal.pages), <, 4100);
		grow(f.pool, 0);
	}
	grow(f.pool, 0);
	CHECK_INT(atomic_load(&f.pool->wal.pages), <, 100); /* It has begun anew. */
}

TEST(wal, is_bounded_during_an_exclusive_lease)
{
	CLEANUP(fixture_close)
	struct fixture f = fixture_config((struct pp_config){ .on_open = no_sync });
	struct pp_lease lease = { 0 };

	acquire(f.pool, PP_EXCLUSIVE, &lease);
	sql(lease.db, "CREATE TABLE big(x)");
	for (int i = 0; i < 3000; i++)
		sql(lease.db, "INSERT INTO big VALUES (zeroblob(3900))");
	CHECK_INT(stats(f.pool).wal_bytes, <, 4500 * 4200);
	pp_release(&lease);
}

TEST(wal, of_an_attached_file_is_checkpointed_as_SQLite_does)
{
	CLEANUP(fixture_close) struct fixture f = guarded(NULL, 0);
	struct pp_lease lease = { 0 };
	char text[160];

	snprintf(text, sizeof text, "%s/other.db", f.dir);
	CHECK_INT(mknod(text, S_IFREG | 0644, 0), ==, 0);
	acquire(f.pool, PP_WRITE, &lease);
	snprintf(text, sizeof text, "ATTACH '%s/other.db' AS o", f.dir);
	sql(lease.db, text);
	sql(lease.db, "PRAGMA o.journal_mode=WAL; PRAGMA o.synchronous=OFF; CREATE TABLE o.x(x)");
	for (int i = 0; i < 3000; i++)
		sql(lease.db, "INSERT INTO o.x VALUES (zeroblob(3900))");
	snprintf(text, sizeof text, "%s/other.db-wal", f.dir);
	struct stat file;
	CHECK_INT(stat(text, &file), ==, 0);
	CHECK_INT(file.st_size, <, 1100 * 4200);
	pp_release(&lease);
	CHECK_INT(stats(f.pool).checkpoints, ==, 0);
}

TEST_ROWS(wal, where_there_is_none_nothing_is_done, 2)
{
	CLEANUP(fixture_close)
	struct fixture f = fixture_config(
		(struct pp_config){ .path = row == 0 ? "file:/wal_none?vfs=memdb" : NULL,
	                            .journal = PP_JOURNAL_DELETE,
	                            .keeper = PP_KEEPER_MANUAL,
	                            .on_open = no_sync });

	atomic_store(&f.pool->wal.pages, 5000);
	grow(f.pool, 0);
	keep(f.pool);
	CHECK_INT(stats(f.pool).wal_bytes, ==, 0);
	CHECK_INT(stats(f.pool).checkpoints + stats(f.pool).checkpoints_blocked, ==, 0);
}

/* The file at the path is another one: its WAL is none of ours. */
TEST(wal, of_a_changed_file_is_left_alone)
{
	CLEANUP(fixture_close) struct fixture f = guarded(NULL, 0);

	grow(f.pool, 1100);
	atomic_store(&f.pool->tripped, true);
	CHECK_INT(wal_keep(f.pool, clock_coarse_ms()), >, 0);
	atomic_store(&f.pool->tripped, false);
	CHECK_INT(stats(f.pool).checkpoints, ==, 0);
}

/* --- The bound ---------------------------------------------------------------------------- */

TEST(wal, past_its_bound_is_cut)
{
	struct told told = { 0 };
	CLEANUP(fixture_close) struct fixture f = guarded(&told, 0);

	overflow(f.pool);
	keep(f.pool);
	CHECK_INT(size_of(&f, "-wal"), ==, 0);
	CHECK_INT(stats(f.pool).wal_bytes, ==, 0);
	CHECK_INT(f.pool->anchor.deadline_ns, ==, UINT64_MAX);
	CHECK_INT(stats(f.pool).checkpoints, ==, 2); /* Copying hinders nobody, cutting does. */
	CHECK_INT(told.large + told.pinned, ==, 0);
	grow(f.pool, 1);
}

TEST(wal, that_a_reader_pins_is_reported_once_and_cut_when_he_goes)
{
	struct told told = { 0 };
	CLEANUP(fixture_close) struct fixture f = guarded(&told, 0);
	struct pp_lease idle = { 0 }, reader = { 0 }, young = { 0 };

	acquire(f.pool, PP_READ, &idle); /* Longer than the other, and holds up nothing. */
	number(idle.db, "SELECT count(*) FROM t");
	acquire(f.pool, PP_READ, &young); /* Likewise as yet. */
	clock_travel_ms(1000);
	acquire(f.pool, PP_READ, &reader);
	must(pp_begin(&reader, NULL), NULL);
	sqlite3_stmt *stmt;
	must(pp_prepare(&reader, "SELECT count(*) FROM t", &stmt, NULL), NULL);
	CHECK_INT(sqlite3_step(stmt), ==, SQLITE_ROW);
	overflow(f.pool);
	clock_travel_ms(500);
	must(pp_begin(&young, NULL), NULL);
	number(young.db, "SELECT count(*) FROM t");

	keep(f.pool);
	CHECK_INT(told.large, ==, 1);
	CHECK_CONTAINS(told.words, "wal_bytes_max is 1048576; a lease holds it");
	CHECK_INT(told.pinned, ==, 1);
	CHECK_INT(told.who.id, ==, ((struct slot *)reader.slot)->id);
	CHECK_INT(told.who.lane, ==, PP_READ);
	CHECK_INT(told.who.thread, ==, gettid());
	CHECK_STR(told.who.sql, "SELECT count(*) FROM t");
	CHECK_INT(told.frame_count, ==, 1);
	CHECK_INT(stats(f.pool).checkpoints, ==, 0);
	CHECK_INT(stats(f.pool).checkpoints_blocked, ==, 2);
	clock_travel_ms(40000);
	keep(f.pool);
	CHECK_INT(told.large, ==, 1);
	CHECK_INT(told.pinned, ==, 1);
	CHECK_INT(told.interrupted, ==, 0); /* reader_max_ms is PP_NEVER. */

	pp_release(&reader);
	keep(f.pool); /* Now the younger one. */
	CHECK_INT(told.large, ==, 1);
	CHECK_INT(told.pinned, ==, 2);
	CHECK_INT(told.who.id, ==, ((struct slot *)young.slot)->id);
	pp_release(&young);
	clock_travel_ms(40000);
	keep(f.pool);
	CHECK_INT(size_of(&f, "-wal"), ==, 0);
	pp_release(&idle);

	acquire(f.pool, PP_READ, &reader); /* Another excess, another report. */
	must(pp_begin(&reader, NULL), NULL);
	number(reader.db, "SELECT count(*) FROM t");
	overflow(f.pool);
	keep(f.pool);
	CHECK_INT(told.large, ==, 2);
	pp_release(&reader);
}

/* The writers are stopped for what will not succeed only now and then. */
TEST(wal, that_stays_pinned_stops_writers_less_and_less)
{
	CLEANUP(fixture_close) struct fixture f = guarded(NULL, 0);
	struct pp_lease reader = { 0 };
	struct pp_histogram h;
	uint64_t before;

	acquire(f.pool, PP_READ, &reader);
	must(pp_begin(&reader, NULL), NULL);
	number(reader.db, "SELECT count(*) FROM t");
	overflow(f.pool);
	before = stats(f.pool).write.acquires;
	for (int s = 0; s < 100; s++) {
		keep(f.pool);
		clock_travel_ms(1000);
	}
	CHECK_INT(stats(f.pool).checkpoints_blocked, >=, 100); /* Copying is tried each time. */
	CHECK_INT(stats(f.pool).write.acquires - before, >=, 5);
	CHECK_INT(stats(f.pool).write.acquires - before, <=, 9);
	CHECK_INT(f.pool->wal.pause_ms, ==, 32000);
	/* Nor for long. */
	CHECK_INT(pp_histogram_read(f.pool, PP_HISTOGRAM_CHECKPOINT, &h), ==, PP_OK);
	CHECK_INT(h.max_ns, >=, 100000000);
	CHECK_INT(h.max_ns, <, 400000000ull * slowness());
	pp_release(&reader);
	keep(f.pool); /* Something moves: at once. */
	CHECK_INT(size_of(&f, "-wal"), ==, 0);
}

struct short_reader {
	struct pp_pool *pool;
	uint64_t writes; /* So many leases of the writer: then the guard has it. */
	atomic_bool reads;
};

static void *read_until_cut(void *context)
{
	struct short_reader *r = context;
	struct pp_lease lease = { 0 };

	acquire(r->pool, PP_READ, &lease);
	must(pp_begin(&lease, NULL), NULL);
	number(lease.db, "SELECT count(*) FROM t");
	atomic_store(&r->reads, true);
	WAIT_FOR(stats(r->pool).write.acquires > r->writes);
	pp_release(&lease);
	return NULL;
}

/* Each round he may be too slow for that, the machine being busy. */
TEST(wal, waits_for_a_short_reader)
{
	CLEANUP(fixture_close) struct fixture f = guarded(NULL, 0);

	do {
		struct short_reader r = { .pool = f.pool };
		pthread_t thread;

		overflow(f.pool);
		r.writes = stats(f.pool).write.acquires;
		thread = thread_start(read_until_cut, &r);
		WAIT_FOR(atomic_load(&r.reads));
		clock_travel_ms(40000);
		keep(f.pool);
		pthread_join(thread, NULL);
	} while (size_of(&f, "-wal") > 0);
}

static int count_rows(struct pp_lease *lease, sqlite3_stmt **ret)
{
	must(pp_prepare(lease,
	                "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT "
	                "sum(x) FROM c, t",
	                ret, NULL),
	     NULL);
	return sqlite3_step(*ret);
}

static void *read_for_ever(void *context)
{
	struct pp_lease *lease = context;
	sqlite3_stmt *stmt;

	acquire(lease->pool, PP_READ, lease);
	CHECK_INT(count_rows(lease, &stmt), ==, SQLITE_INTERRUPT);
	pp_release(lease);
	return NULL;
}

TEST(wal, that_an_old_reader_pins_interrupts_him)
{
	struct told told = { 0 };
	CLEANUP(fixture_close) struct fixture f = guarded(&told, 5000);
	struct pp_lease lease = { .pool = f.pool }, idle = { 0 };
	pthread_t thread;

	grow(f.pool, 1);
	acquire(f.pool, PP_WRITE, &idle);
	sql(idle.db, "INSERT INTO t VALUES (1, 1)");
	pp_release(&idle);
	acquire(f.pool, PP_READ, &idle);
	clock_travel_ms(60000);
	thread = thread_start(read_for_ever, &lease);
	WAIT_FOR(atomic_load(&f.pool->lanes[0].slots[0].connection.snapshot_ms) +
	                 atomic_load(&f.pool->lanes[0].slots[1].connection.snapshot_ms) +
	                 atomic_load(&f.pool->lanes[0].slots[2].connection.snapshot_ms) >
	         0);
	overflow(f.pool);
	keep(f.pool);
	CHECK_INT(told.interrupted, ==, 0); /* His lease is young. */
	CHECK_INT(told.pinned, ==, 1);
	clock_travel_ms(6000);
	keep(f.pool);
	pthread_join(thread, NULL);
	CHECK_INT(told.interrupted, ==, 1);
	CHECK_INT(stats(f.pool).interrupted, ==, 1);
	keep(f.pool);
	CHECK_INT(size_of(&f, "-wal"), ==, 0);
	/* The one with the oldest lease read nothing, and was left alone. */
	CHECK_INT(number(idle.db, "SELECT count(*) FROM t"), ==, 1);
	CHECK_INT(told.interrupted, ==, 1);
	pp_release(&idle);
}

/* He sits on a half-read SELECT: there is nothing to interrupt, and it is said once. */
TEST(wal, that_an_idle_snapshot_pins_interrupts_once)
{
	struct told told = { 0 };
	CLEANUP(fixture_close) struct fixture f = guarded(&told, 5000);
	struct pp_lease lease = { 0 };

	acquire(f.pool, PP_READ, &lease);
	must(pp_begin(&lease, NULL), NULL);
	number(lease.db, "SELECT count(*) FROM t");
	overflow(f.pool);
	clock_travel_ms(6000);
	keep(f.pool);
	keep(f.pool);
	clock_travel_ms(40000);
	keep(f.pool);
	CHECK_INT(told.interrupted, ==, 1);
	pp_release(&lease);
	keep(f.pool);
	CHECK_INT(size_of(&f, "-wal"), ==, 0);
}

/* All is copied, but while he reads the file cannot be cut. */
TEST(wal, is_cut_when_the_interrupted_one_is_gone)
{
	struct told told = { 0 };
	CLEANUP(fixture_close) struct fixture f = guarded(&told, 5000);
	struct pp_lease lease = { 0 };

	overflow(f.pool);
	acquire(f.pool, PP_READ, &lease);
	must(pp_begin(&lease, NULL), NULL);
	number(lease.db, "SELECT count(*) FROM t");
	clock_travel_ms(6000);
	keep(f.pool);
	CHECK_INT(told.interrupted, ==, 1);
	pp_release(&lease);
	keep(f.pool);
	CHECK_INT(size_of(&f, "-wal"), ==, 0);
}

/* --- Others ------------------------------------------------------------------------------- */

TEST(wal, that_nobody_of_the_pool_pins_names_nobody)
{
	struct told told = { 0 };
	CLEANUP(fixture_close) struct fixture f = guarded(&told, 1);
	sqlite3 *other;

	CHECK_INT(sqlite3_open(f.path, &other), ==, SQLITE_OK);
	sql(other, "BEGIN; SELECT * FROM t");
	overflow(f.pool);
	keep(f.pool);
	CHECK_INT(told.large, ==, 1);
	CHECK_CONTAINS(told.words, "no lease holds it");
	CHECK_INT(told.pinned + told.interrupted, ==, 0);
	sqlite3_close(other);
	keep(f.pool);
	CHECK_INT(size_of(&f, "-wal"), ==, 0);
}

/* Somebody else's commits wake nobody here, but the file is looked at. */
TEST(wal, that_others_fill_is_cut)
{
	CLEANUP(fixture_close) struct fixture f = guarded(NULL, 0);
	sqlite3 *other;

	CHECK_INT(sqlite3_open(f.path, &other), ==, SQLITE_OK);
	sql(other, "PRAGMA wal_autocheckpoint=0; PRAGMA synchronous=OFF; CREATE TABLE o(x)");
	while (wal_bytes(f.pool) <= BOUND)
		sql(other, "INSERT INTO o VALUES (zeroblob(39000))");
	keep(f.pool);
	CHECK_INT(size_of(&f, "-wal"), ==, 0);
	sqlite3_close(other);
}

struct busy_writer {
	struct pp_pool *pool;
	atomic_bool has, let_go;
};

static void *hold_writer(void *context)
{
	struct busy_writer *w = context;
	struct pp_lease lease = { 0 };

	acquire(w->pool, PP_WRITE, &lease);
	atomic_store(&w->has, true);
	WAIT_FOR(atomic_load(&w->let_go));
	pp_release(&lease);
	return NULL;
}

/* The guard stands in the line as anybody does, and goes away again. */
TEST(wal, is_not_cut_while_the_writer_is_lent)
{
	struct told told = { 0 };
	CLEANUP(fixture_close) struct fixture f = guarded(&told, 0);
	struct busy_writer w = { .pool = f.pool };
	pthread_t thread;
	struct pp_lease lease = { 0 };

	overflow(f.pool);
	thread = thread_start(hold_writer, &w);
	WAIT_FOR(atomic_load(&w.has));
	keep(f.pool);
	CHECK_INT(told.large, ==, 1);
	CHECK_INT(size_of(&f, "-wal"), >, BOUND);
	atomic_store(&w.let_go, true);
	pthread_join(thread, NULL);
	clock_travel_ms(2000);
	keep(f.pool);
	CHECK_INT(size_of(&f, "-wal"), ==, 0);

	/* By the thread that calls it: not even then does it wait for itself. */
	acquire(f.pool, PP_WRITE, &lease);
	for (int i = 0; i < 300; i++)
		sql(lease.db, "INSERT INTO big VALUES (zeroblob(3900))");
	keep(f.pool);
	CHECK_INT(size_of(&f, "-wal"), >, BOUND);
	pp_release(&lease);
}

/* The thread of upkeep stands in the line when the pool closes: it leaves at once, or closing would
 * take as long as it waits. */
TEST(wal, in_the_line_is_not_waited_for_at_the_close)
{
	struct fixture f =
		fixture_config((struct pp_config){ .wal_bytes_max = BOUND, .on_open = no_sync });
	struct pp_lease lease = { 0 };

	acquire(f.pool, PP_WRITE, &lease);
	sql(lease.db, "CREATE TABLE big(x)");
	while (wal_bytes(f.pool) <= BOUND)
		sql(lease.db, "INSERT INTO big VALUES (zeroblob(3900))");
	keeper_poke(f.pool);
	WAIT_FOR(stats(f.pool).write.waiting > 0);
	keeper_stop(f.pool);
	CHECK_INT(stats(f.pool).cancels, ==, 1);
	pp_release(&lease);
	fixture_close(&f);
}

/* The same connection, and another who has it. */
TEST(wal, that_one_reader_after_the_other_pins_names_each)
{
	struct told told = { 0 };
	CLEANUP(fixture_close) struct fixture f = guarded(&told, 0);
	struct pp_lease readers[2] = { 0 };

	acquire(f.pool, PP_READ, &readers[0]);
	must(pp_begin(&readers[0], NULL), NULL);
	overflow(f.pool);
	keep(f.pool);
	CHECK_INT(told.pinned, ==, 1);
	pp_release(&readers[0]);
	acquire(f.pool, PP_READ, &readers[1]);
	CHECK(((struct slot *)readers[1].slot)->id == told.who.id);
	must(pp_begin(&readers[1], NULL), NULL);
	grow(f.pool, (unsigned)atomic_load(&f.pool->wal.pages) + 1);
	clock_travel_ms(100000);
	keep(f.pool);
	CHECK_INT(told.pinned, ==, 2);
	CHECK_INT(told.large, ==, 1);
	pp_release(&readers[1]);
}
