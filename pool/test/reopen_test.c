/* Opening anew: what is there now is served, and nothing that was acknowledged is lost. */
/* SPDX-License-Identifier: MIT */
#include "changes.h"

TEST(reopen, serves_what_is_there_now)
{
	struct diary diary = { 0 };
	CLEANUP(fixture_close) struct fixture f = filled((struct pp_config){ 0 }, &diary);
	struct pp_histogram recovery;
	struct pp_error error = { 0 };
	char other[128];

	delete (&f);
	CHECK_INT(write_one(f.pool, 1), ==, PP_FILE_CHANGED);
	CHECK_INT(pp_reopen(f.pool, PP_NO_WAIT, &error), ==, PP_SQLITE);
	CHECK_INT(error.sqlite_code, ==, SQLITE_CANTOPEN);
	CHECK_INT(error.system_errno, ==, ENOENT);
	check_tripped(f.pool, &diary, "deleted");
	beside(&f, "b.db", other, sizeof other);
	make_other(other, false);
	CHECK_INT(rename(other, f.path), ==, 0);
	must(pp_reopen(f.pool, PP_NO_WAIT, &error), &error);
	CHECK_INT(stats(f.pool).tripped, ==, false);
	CHECK_INT(stats(f.pool).reopened, ==, 1);
	CHECK_INT(stats(f.pool).read.open, ==, 2);
	CHECK_INT(stats(f.pool).write.open, ==, 1);
	CHECK_CONTAINS(diary.message[PP_EVENT_REOPENED], "a.db");
	check_other(f.pool);
	CHECK_INT(pp_histogram_read(f.pool, PP_HISTOGRAM_RECOVERY, &recovery), ==, PP_OK);
	CHECK_INT(recovery.count, ==, 1);
	pp_keep(f.pool, NULL); /* The anchor looks at the new file too. */
	clock_travel_ms(30100);
	pp_keep(f.pool, NULL);
	CHECK_INT(stats(f.pool).file_changes, ==, 1);
}

/* A read-only file that was opened so is not one that was made so. */
TEST(reopen, takes_the_mode_as_it_is)
{
	CLEANUP(fixture_close) struct fixture f = manual((struct pp_config){ .readers = 2 }, NULL);
	struct pp_error error = { 0 };
	struct pp_lease lease = { 0 };

	make_read_only(&f);
	CHECK_INT(write_one(f.pool, 1), ==, PP_FILE_CHANGED);
	must(pp_reopen(f.pool, PP_NO_WAIT, &error), &error);
	acquire(f.pool, PP_WRITE, &lease);
	pp_release(&lease);
}

/* A reader that cannot be reached keeps the old WAL from being emptied: it is still there when the
 * new file is. With the journal mode changed meanwhile it is another one than at the opening. */
TEST_ROWS(reopen, old_wal_is_not_replayed_into_the_new_file, 2)
{
	CLEANUP(fixture_close) struct fixture f = manual((struct pp_config){ .readers = 2 }, NULL);
	struct pp_lease lease = { 0 };
	struct pp_error error = { 0 };

	sqlite3 *db;

	if (row == 1) {
		acquire(f.pool, PP_EXCLUSIVE, &lease);
		sql(lease.db, "PRAGMA journal_mode=DELETE");
		for (char name[] = "hole0"; name[4] < '9'; name[4]++) { /* Takes the inode. */
			char hole[128];

			beside(&f, name, hole, sizeof hole);
			CHECK_INT(mknod(hole, S_IFREG | 0600, 0), ==, 0);
		}
		sql(lease.db, "PRAGMA journal_mode=WAL");
		pp_release(&lease);
	}
	db = neighbour_open(&f);
	sql(db, "BEGIN; SELECT * FROM t");
	CHECK_INT(write_one(f.pool, 100), ==, PP_OK);
	replace(&f);
	must(pp_reopen(f.pool, PP_NO_WAIT, &error), &error);
	check_other(f.pool);
	CHECK_INT(number(db, "SELECT count(*) FROM t"), ==, 0); /* Its snapshot. */
	sqlite3_close(db);
}

/* What was acknowledged is in the file that it was acknowledged for. */
TEST(reopen, moved_file_is_whole)
{
	CLEANUP(fixture_close) struct fixture f = manual((struct pp_config){ .readers = 2 }, NULL);
	struct pp_error error = { 0 };
	char old[128];
	sqlite3 *db;

	CHECK_INT(write_one(f.pool, 100), ==, PP_OK);
	replace(&f);
	must(pp_reopen(f.pool, PP_NO_WAIT, &error), &error);
	beside(&f, "old.db", old, sizeof old);
	CHECK_INT(sqlite3_open(old, &db), ==, SQLITE_OK);
	CHECK_INT(number(db, "SELECT v FROM t"), ==, 100);
	sqlite3_close(db);
}

/* By reopening, and by closing. */
TEST_ROWS(reopen, wal_that_came_with_the_new_file_is_its_own, 2)
{
	CLEANUP(fixture_close) struct fixture f = manual((struct pp_config){ .readers = 2 }, NULL);
	struct pp_error error = { 0 };
	struct pp_config config = { .readers = 2, .keeper = PP_KEEPER_MANUAL };
	char other[128], wal[128], to[128];

	CHECK_INT(write_one(f.pool, 100), ==, PP_OK);
	beside(&f, "b.db", other, sizeof other);
	beside(&f, "b.db-wal", wal, sizeof wal);
	beside(&f, "a.db-wal", to, sizeof to);
	make_other(other, true);
	CHECK_INT(rename(other, f.path), ==, 0);
	CHECK_INT(rename(wal, to), ==, 0);
	if (row == 0) {
		must(pp_reopen(f.pool, PP_NO_WAIT, &error), &error);
	} else {
		CHECK_INT(pp_close(f.pool, PP_NO_WAIT, NULL), ==, PP_OK);
		config.path = f.path;
		must(pp_open(&config, &f.pool, &error), &error);
	}
	check_other(f.pool);
}

/* Nobody has noticed. */
/* A connection that is opened beside the others would find no WAL where the index says that there
 * is one, and so would each after it. What is committed is in the WAL that the others have open. */
TEST_ROWS(reopen, saves_what_is_in_a_wal_that_was_deleted, 2)
{
	struct diary diary = { 0 };
	CLEANUP(fixture_close) struct fixture f = filled((struct pp_config){ 0 }, &diary);
	struct pp_lease lease = { 0 }, second = { 0 };
	struct pp_error error = { 0 };
	char wal[128];

	beside(&f, "a.db-wal", wal, sizeof wal);
	CHECK_INT(write_one(f.pool, -2), ==, PP_OK);
	CHECK_INT(unlink(wal), ==, 0);
	CHECK_INT(write_one(f.pool, -3), ==, PP_OK); /* Those that have it open go on. */
	if (row == 0) {
		acquire(f.pool, PP_READ, &lease);
		sql(lease.db, "PRAGMA cache_size = 17");
		pp_release(&lease);
		acquire(f.pool, PP_READ, &lease); /* The other one, that is open. */
		CHECK_INT(pp_acquire(f.pool, PP_READ, PP_NO_WAIT, &second, &error), ==,
		          PP_FILE_CHANGED);
		pp_release(&lease);
	} else {
		clock_travel_ms(30100);
		pp_keep(f.pool, NULL);
	}
	CHECK_INT(told(&diary, PP_EVENT_FILE_CHANGED), ==, 1);
	CHECK_CONTAINS(diary.message[PP_EVENT_FILE_CHANGED], "robbed of its WAL");
	CHECK_INT(write_one(f.pool, -4), ==, PP_FILE_CHANGED);
	must(pp_reopen(f.pool, PP_NO_WAIT, &error), &error);
	acquire(f.pool, PP_READ, &lease);
	CHECK_INT(number(lease.db, "SELECT count(*) FROM t WHERE v < 0"), ==, 3);
	pp_release(&lease);
	CHECK_INT(write_one(f.pool, -5), ==, PP_OK);
}

TEST(reopen, closing_leaves_no_wal_to_another_file)
{
	CLEANUP(fixture_close) struct fixture f = manual((struct pp_config){ .readers = 2 }, NULL);
	struct pp_config config = { .readers = 2, .keeper = PP_KEEPER_MANUAL };
	struct pp_error error = { 0 };
	char wal[128];
	sqlite3 *db = neighbour_open(&f);

	sql(db, "BEGIN; SELECT * FROM t");
	CHECK_INT(write_one(f.pool, 100), ==, PP_OK);
	replace(&f);
	CHECK_INT(pp_close(f.pool, PP_NO_WAIT, NULL), ==, PP_OK);
	beside(&f, "a.db-wal", wal, sizeof wal);
	CHECK_INT(access(wal, F_OK), ==, -1);
	sqlite3_close(db);
	config.path = f.path;
	must(pp_open(&config, &f.pool, &error), &error);
	check_other(f.pool);
}

/* Whoever tries to rescue it needs the WAL, and no pages of it in between. */
TEST(reopen, closing_leaves_a_cut_file_as_it_is)
{
	CLEANUP(fixture_close) struct fixture f = filled((struct pp_config){ 0 }, NULL);
	struct stat file;
	char wal[128];

	cut(&f);
	CHECK_INT(write_one(f.pool, -2), ==, PP_FILE_CHANGED);
	CHECK_INT(pp_close(f.pool, PP_NO_WAIT, NULL), ==, PP_OK);
	f.pool = NULL;
	CHECK_INT(stat(f.path, &file), ==, 0);
	CHECK_INT(file.st_size, ==, PAGE);
	beside(&f, "a.db-wal", wal, sizeof wal);
	CHECK_INT(access(wal, F_OK), ==, 0);
}

static void make_garbage(const struct fixture *f)
{
	char other[128];
	FILE *file;

	beside(f, "garbage", other, sizeof other);
	file = fopen(other, "w");
	CHECK(file != NULL);
	for (unsigned i = 0; i < PAGE; i++)
		fputs("no database ", file);
	fclose(file);
	CHECK_INT(rename(other, f->path), ==, 0);
}

TEST(reopen, that_failed_can_be_tried_again)
{
	CLEANUP(fixture_close) struct fixture f = manual((struct pp_config){ .readers = 2 }, NULL);
	struct pp_error error = { 0 };
	struct pp_lease lease = { 0 };

	make_garbage(&f);
	CHECK_INT(write_one(f.pool, 1), ==, PP_FILE_CHANGED);
	CHECK_INT(pp_reopen(f.pool, PP_NO_WAIT, &error), ==, PP_SQLITE);
	CHECK_INT(error.sqlite_code, ==, SQLITE_NOTADB);
	CHECK_INT(stats(f.pool).tripped, ==, true);
	CHECK_INT(stats(f.pool).reopened, ==, 0);
	CHECK_INT(pp_acquire(f.pool, PP_READ, PP_NO_WAIT, &lease, NULL), ==, PP_FILE_CHANGED);
	replace(&f);
	must(pp_reopen(f.pool, PP_NO_WAIT, &error), &error);
	check_other(f.pool);
}

TEST(reopen, refuses_the_file_of_another_pool)
{
	CLEANUP(fixture_close) struct fixture f = manual((struct pp_config){ .readers = 2 }, NULL);
	struct pp_config config = { .readers = 2, .keeper = PP_KEEPER_MANUAL };
	struct pp_error error = { 0 };
	struct pp_pool *pool;
	char other[128], own[128];

	beside(&f, "b.db", other, sizeof other);
	beside(&f, "own.db", own, sizeof own);
	config.path = other;
	must(pp_open(&config, &pool, &error), &error);
	CHECK_INT(rename(f.path, own), ==, 0);
	CHECK_INT(rename(other, f.path), ==, 0);
	CHECK_INT(pp_reopen(f.pool, PP_NO_WAIT, &error), ==, PP_MISMATCH);
	CHECK_CONTAINS(error.message, "another pool has the file");
	CHECK_INT(rename(f.path, other), ==, 0);
	CHECK_INT(rename(own, f.path), ==, 0);
	CHECK_INT(pp_close(pool, PP_NO_WAIT, NULL), ==, PP_OK);
	must(pp_reopen(f.pool, PP_NO_WAIT, &error), &error);
	CHECK_INT(write_one(f.pool, 1), ==, PP_OK);
}

TEST(reopen, leaves_a_suspension)
{
	CLEANUP(fixture_close) struct fixture f = manual((struct pp_config){ .readers = 2 }, NULL);
	struct pp_error error = { 0 };
	struct pp_lease lease = { 0 };

	CHECK_INT(pp_suspend(f.pool, PP_NO_WAIT), ==, PP_OK);
	replace(&f);
	clock_travel_ms(30100);
	pp_keep(f.pool, NULL);
	CHECK_INT(stats(f.pool).file_changes, ==, 0); /* That is what it is suspended for. */
	must(pp_reopen(f.pool, PP_NO_WAIT, &error), &error);
	CHECK_INT(pp_acquire(f.pool, PP_READ, PP_NO_WAIT, &lease, NULL), ==, PP_TIMEOUT);
	CHECK_INT(pp_resume(f.pool), ==, PP_OK);
	check_other(f.pool);
}

static void *reopen_at_once(void *context)
{
	struct pp_error error;

	CHECK_INT(pp_reopen(context, PP_NO_WAIT, &error), ==, PP_TIMEOUT);
	CHECK_CONTAINS(error.message, "every lease must be back");
	return NULL;
}

static void *reopen_closing(void *context)
{
	CHECK_INT(pp_reopen(context, PP_NO_WAIT, NULL), ==, PP_CLOSED);
	return NULL;
}

TEST(reopen, waits_for_leases)
{
	CLEANUP(fixture_close) struct fixture f = manual((struct pp_config){ .readers = 2 }, NULL);
	struct pp_lease lease = { 0 };

	acquire(f.pool, PP_READ, &lease);
	CHECK_INT(pp_reopen(f.pool, PP_FOREVER, NULL), ==, PP_WOULD_DEADLOCK);
	pthread_join(thread_start(reopen_at_once, f.pool), NULL);
	CHECK_INT(number(lease.db, "SELECT count(*) FROM t"), ==, 0);
	CHECK_INT(pp_close(f.pool, PP_NO_WAIT, NULL), ==, PP_LEASED);
	pthread_join(thread_start(reopen_closing, f.pool), NULL);
	pp_release(&lease);
	CHECK_INT(pp_close(f.pool, PP_NO_WAIT, NULL), ==, PP_OK);
	f.pool = NULL;
}

TEST(reopen, of_a_good_file_changes_nothing)
{
	CLEANUP(fixture_close) struct fixture f = manual((struct pp_config){ .readers = 2 }, NULL);
	struct pp_error error = { 0 };

	CHECK_INT(write_one(f.pool, 1), ==, PP_OK);
	must(pp_reopen(f.pool, (struct pp_deadline){ 0 }, &error), &error);
	CHECK_INT(rows_in(f.pool), ==, 1);
	CHECK_INT(write_one(f.pool, 2), ==, PP_OK);
	CHECK_INT(stats(f.pool).file_changes, ==, 0);
}

TEST(reopen, memdb_has_no_file)
{
	CLEANUP(fixture_close)
	struct fixture f = fixture_config(
		(struct pp_config){ .path = "file:/health?vfs=memdb", .keeper = PP_KEEPER_MANUAL });

	clock_travel_ms(30100);
	CHECK_INT(pp_keep(f.pool, NULL), ==, PP_OK);
	CHECK_INT(stats(f.pool).health_checks, ==, 0);
	CHECK_INT(pp_reopen(f.pool, PP_NO_WAIT, NULL), ==, PP_MISUSE);
	CHECK_INT(write_one(f.pool, 1), ==, PP_OK);
}

/* --- By the keeper --------------------------------------------------------------------------- */

TEST_ROWS(reopen, keeper_opens_anew_when_leases_are_back, 2)
{
	struct diary diary = { 0 };
	CLEANUP(fixture_close)
	struct fixture f = manual(
		(struct pp_config){ .readers = 2, .on_file_change = PP_FILE_REOPEN }, &diary);
	struct pp_lease lease = { 0 }, other = { 0 };
	uint64_t due_ms;

	acquire(f.pool, row == 0 ? PP_READ : PP_WRITE, &lease);
	replace(&f);
	clock_travel_ms(30100);
	pp_keep(f.pool, &due_ms);
	CHECK_INT(due_ms, <=, 100); /* It will try again. */
	CHECK_INT(stats(f.pool).tripped, ==, true);
	CHECK_INT(pp_acquire(f.pool, PP_READ, PP_NO_WAIT, &other, NULL), ==, PP_FILE_CHANGED);
	pp_release(&lease);
	pp_keep(f.pool, &due_ms);
	CHECK_INT(stats(f.pool).reopened, ==, 1);
	CHECK_INT(told(&diary, PP_EVENT_REOPENED), ==, 1);
	check_other(f.pool);
}

TEST(reopen, keeper_makes_no_file)
{
	CLEANUP(fixture_close)
	struct fixture f =
		manual((struct pp_config){ .readers = 2, .on_file_change = PP_FILE_REOPEN }, NULL);
	struct stat file;

	delete (&f);
	CHECK_INT(write_one(f.pool, 1), ==, PP_FILE_CHANGED);
	pp_keep(f.pool, NULL);
	CHECK_INT(stat(f.path, &file), ==, -1);
	CHECK_INT(stats(f.pool).tripped, ==, true);
	replace(&f);
	pp_keep(f.pool, NULL);
	check_other(f.pool);
}

/* By itself, poked by who noticed. */
TEST(reopen, keeper_thread_opens_anew)
{
	CLEANUP(fixture_close)
	struct fixture f = fixture_config((struct pp_config){ .on_file_change = PP_FILE_REOPEN });

	replace(&f);
	CHECK_INT(write_one(f.pool, 1), ==, PP_FILE_CHANGED);
	WAIT_FOR(stats(f.pool).reopened == 1);
	check_other(f.pool);
}

/* --- Nothing acknowledged is lost ------------------------------------------------------------ */

enum { WRITERS = 2, SWAPS = 3 };

struct writer {
	struct pp_pool *pool;
	atomic_bool *stop;
	int64_t first;
	atomic_uint acknowledged;
	bool kept[100000];
};

static void *write_on(void *context)
{
	struct writer *w = context;

	for (unsigned i = 0; !atomic_load(w->stop) && i < 100000; i++) {
		enum pp_status status = write_one(w->pool, w->first + i);

		CHECK(status == PP_OK || status == PP_FILE_CHANGED);
		w->kept[i] = status == PP_OK;
		if (status == PP_OK)
			atomic_fetch_add(&w->acknowledged, 1);
		else
			sched_yield();
	}
	return NULL;
}

static void strike_out(struct writer writers[], const char *path)
{
	sqlite3_stmt *stmt;
	sqlite3 *db;

	CHECK_INT(sqlite3_open(path, &db), ==, SQLITE_OK);
	CHECK_INT(sqlite3_prepare_v2(db, "SELECT v FROM t", -1, &stmt, NULL), ==, SQLITE_OK);
	while (sqlite3_step(stmt) == SQLITE_ROW) {
		int64_t v = sqlite3_column_int64(stmt, 0);

		if (v >= 1000000)
			writers[v / 1000000 - 1].kept[v % 1000000] = false;
	}
	sqlite3_finalize(stmt);
	CHECK_INT(number(db, "SELECT count(*) FROM pragma_integrity_check WHERE integrity_check = "
	                     "'ok'"),
	          ==, 1);
	sqlite3_close(db);
}

TEST(reopen, files_are_replaced_under_writers_and_nothing_is_lost)
{
	static struct writer writers[WRITERS];
	CLEANUP(fixture_close)
	struct fixture f = fixture_config((struct pp_config){
		.on_file_change = PP_FILE_REOPEN, .synchronous = PP_SYNCHRONOUS_NORMAL });
	atomic_bool stop = false;
	pthread_t threads[WRITERS];
	char other[128], old[SWAPS][128];

	for (unsigned i = 0; i < WRITERS; i++) {
		writers[i].pool = f.pool;
		writers[i].stop = &stop;
		writers[i].first = (i + 1) * 1000000;
		threads[i] = thread_start(write_on, &writers[i]);
	}
	beside(&f, "b.db", other, sizeof other);
	for (unsigned n = 0; n < SWAPS; n++) {
		unsigned before = atomic_load(&writers[0].acknowledged);

		WAIT_FOR(atomic_load(&writers[0].acknowledged) > before);
		make_other(other, false);
		snprintf(old[n], sizeof old[n], "%s/old%u.db", f.dir, n);
		CHECK_INT(link(f.path, old[n]), ==, 0);
		CHECK_INT(rename(other, f.path), ==, 0);
		WAIT_FOR(stats(f.pool).reopened > n);
	}
	atomic_store(&stop, true);
	for (unsigned i = 0; i < WRITERS; i++)
		pthread_join(threads[i], NULL);
	CHECK_INT(pp_close(f.pool, PP_FOREVER, NULL), ==, PP_OK);
	f.pool = NULL;
	for (unsigned n = 0; n < SWAPS; n++)
		strike_out(writers, old[n]);
	strike_out(writers, f.path);
	for (unsigned i = 0; i < WRITERS; i++)
		for (unsigned n = 0; n < 100000; n++)
			CHECK_MSG(!writers[i].kept[n], "write %u of thread %u is lost", n, i);
}
