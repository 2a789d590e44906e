/* Power loss and SQLite: who loses nothing, who loses something, and that both are seen. */
/* SPDX-License-Identifier: MIT */
#include "disk.h"

#include <poolproof/harness/oracle.h>

static void log_write(sqlite3 *db, unsigned n, unsigned bytes)
{
	sqlite3_stmt *stmt;

	sql(db, "BEGIN IMMEDIATE");
	CHECK_INT(sqlite3_prepare_v2(db, harness_log_insert, -1, &stmt, NULL), ==, SQLITE_OK);
	sqlite3_bind_int(stmt, 1, 0);
	sqlite3_bind_int(stmt, 2, (int)n);
	sqlite3_bind_int(stmt, 3, (int)bytes);
	CHECK_INT(sqlite3_step(stmt), ==, SQLITE_DONE);
	sqlite3_finalize(stmt);
	sql(db, harness_log_count);
	sql(db, "COMMIT");
}

/* Twelve writes, acknowledged in turn; a checkpoint in between. */
static void log_record(struct fixture *f, const char *journal, const char *synchronous,
                       enum harness_disk_plant plant)
{
	open_as(f, journal, "FULL");
	sql(f->db, harness_log_schema);
	close_db(f);
	harness_disk_plant(f->power.disk, plant);
	CHECK(harness_disk_begin(f->power.disk, f->folder, 0));
	open_as(f, journal, synchronous);
	for (unsigned n = 0; n < 12; n++) {
		log_write(f->db, n, 200 + 397 * n);
		harness_disk_mark(f->power.disk, 0, n, true);
		if (n % 5 == 4)
			sql(f->db, "PRAGMA wal_checkpoint(TRUNCATE)");
	}
	close_db(f);
	harness_disk_end(f->power.disk);
	CHECK(!harness_disk_overflowed(f->power.disk));
}

/* There is one thread here: ThreadSanitizer finds nothing, and takes three seconds a row for it. */
#ifdef __SANITIZE_THREAD__
#define THREADS_WATCHED true
#else
#define THREADS_WATCHED false
#endif

struct sums {
	unsigned states, lost, broken; /* In how many something is. */
};

static struct sums log_judge(struct fixture *f, unsigned states)
{
	struct sums sums = { 0 };
	struct harness_disk_mark mark;
	struct harness_walk walk;
	struct harness_entropy e;

	harness_walk_begin(&walk, f->power.cut, states, UINT_MAX, 0);
	while (harness_walk_next(&walk)) {
		struct harness_log_state state;
		unsigned acknowledged = 0;
		sqlite3 *db;

		harness_entropy_init(&e, 1, walk.place, walk.damage);
		harness_cut_image(f->power.cut, walk.damage, &e, f->power.image);
		CHECK_INT(harness_image_open(f->power.image, "log.db", &db), ==, SQLITE_OK);
		state = harness_log_read(db, true);
		sqlite3_close(db);
		for (size_t at = 0; at < walk.place; at++)
			acknowledged += harness_disk_mark_at(f->power.disk, at, &mark);
		sums.states++;
		sums.broken += state.rows < 0;
		sums.lost += state.rows >= 0 && state.rows < acknowledged;
	}
	return sums;
}

static const struct {
	const char *journal, *synchronous;
	enum harness_disk_plant plant;
	bool lost, broken; /* To be seen. */
} engines[] = {
	{ "WAL", "FULL", HARNESS_PLANT_NONE, false, false },
	{ "DELETE", "EXTRA", HARNESS_PLANT_NONE, false, false },
	/* As documented: the journal may come back, or the last commits are not synced. */
	{ "DELETE", "FULL", HARNESS_PLANT_NONE, true, false },
	{ "WAL", "NORMAL", HARNESS_PLANT_NONE, true, false },
	{ "WAL", "OFF", HARNESS_PLANT_NONE, true, true },
	{ "DELETE", "OFF", HARNESS_PLANT_NONE, true, true },
	{ "WAL", "FULL", HARNESS_PLANT_SYNC_DROPPED, true, true },
	{ "DELETE", "EXTRA", HARNESS_PLANT_SYNC_DROPPED, true, true },
	{ "WAL", "FULL", HARNESS_PLANT_JOURNAL_SYNC_DROPPED, true, true },
	{ "DELETE", "EXTRA", HARNESS_PLANT_JOURNAL_SYNC_DROPPED, false, true },
	{ "WAL", "FULL", HARNESS_PLANT_DATABASE_SYNC_DROPPED, true, true },
	{ "DELETE", "EXTRA", HARNESS_PLANT_DATABASE_SYNC_DROPPED, true, true },
	{ "WAL", "FULL", HARNESS_PLANT_COMMIT_TORN, true, true },
	{ "DELETE", "EXTRA", HARNESS_PLANT_COMMIT_TORN, false, true },
	{ "WAL", "FULL", HARNESS_PLANT_ONE_SYNC_DROPPED, true, false },
	{ "DELETE", "EXTRA", HARNESS_PLANT_ONE_SYNC_DROPPED, true, false },
};

TEST_ROWS(disk, tells_an_honest_engine_from_the_others, sizeof engines / sizeof *engines)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open();
	unsigned states = THREADS_WATCHED || time_multiplier() > 5 ? 400 : 4000;
	struct sums sums;

	log_record(&f, engines[row].journal, engines[row].synchronous, engines[row].plant);
	sums = log_judge(&f, states);
	CHECK_INT(sums.states, ==, states);
	CHECK_INT(sums.lost > 0, ==, engines[row].lost);
	CHECK_INT(sums.broken > 0, ==, engines[row].broken);
}

/* Recovers what this damage left, while it is recorded; returns how much that wrote. */
static size_t recover(struct fixture *f, const struct harness_walk *walk,
                      struct harness_power *again)
{
	struct harness_entropy e;
	sqlite3 *db;

	harness_entropy_init(&e, 1, walk->place, walk->damage);
	harness_cut_image(f->power.cut, walk->damage, &e, f->power.image);
	harness_image_record(f->power.image, again->disk);
	CHECK_INT(harness_image_open(f->power.image, "log.db", &db), ==, SQLITE_OK);
	sql(db, "SELECT count(*) FROM harness_log");
	CHECK_INT(sqlite3_close(db), ==, SQLITE_OK);
	harness_image_record(f->power.image, NULL);
	return harness_disk_length(again->disk) - harness_disk_first(again->disk);
}

/* And the power goes a second time: a recovery writes to the database, too. */
TEST_ROWS(disk, is_recorded_again_while_it_recovers, 2)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open();
	CLEANUP(harness_power_done) struct harness_power again = { 0 };
	struct harness_entropy e;
	struct harness_walk walk;
	sqlite3 *db;

	CHECK(harness_power_init(&again));
	log_record(&f, row == 0 ? "WAL" : "DELETE", "EXTRA", HARNESS_PLANT_NONE);
	harness_walk_begin(&walk, f.power.cut, UINT_MAX, 1, 0);
	do
		CHECK(harness_walk_next(&walk));
	while (recover(&f, &walk, &again) < 6);
	harness_walk_begin(&walk, again.cut, 1000, UINT_MAX, 0);
	while (harness_walk_next(&walk)) {
		harness_entropy_init(&e, 2, walk.place, walk.damage);
		harness_cut_image(again.cut, walk.damage, &e, again.image);
		CHECK_INT(harness_image_open(again.image, "log.db", &db), ==, SQLITE_OK);
		CHECK_STR(harness_log_read(db, true).wrong, "");
		sqlite3_close(db);
	}
}

/* The end of a recording is the files that are there; saved, they are a database. */
TEST_ROWS(disk, ends_as_the_files_are, 2)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open();
	char folder[128], command[256];

	log_record(&f, row == 0 ? "WAL" : "DELETE", "FULL", HARNESS_PLANT_NONE);
	left(&f, harness_disk_length(f.power.disk), HARNESS_DAMAGE_NONE);
	snprintf(folder, sizeof folder, "%s/saved", f.folder);
	CHECK(harness_image_save(f.power.image, folder));
	snprintf(command, sizeof command, "cmp %s %s/log.db", f.path, folder);
	CHECK_INT(system(command), ==, 0);
	CHECK(!harness_image_save(f.power.image, "/nowhere/at/all"));
}

/* It is a database like others: also one that is made there. */
TEST(disk, is_a_vfs)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open();
	struct harness_log_state state;
	sqlite3 *db;

	CHECK_INT(harness_image_open(f.power.image, "none.db", &db), ==, SQLITE_CANTOPEN);
	sqlite3_close(db);
	log_record(&f, "DELETE", "FULL", HARNESS_PLANT_NONE);
	left(&f, harness_disk_length(f.power.disk), HARNESS_DAMAGE_NONE);
	CHECK_INT(harness_image_open(f.power.image, "log.db", &db), ==, SQLITE_OK);
	log_write(db, 12, 100);
	sql(db, "PRAGMA journal_mode=WAL");
	log_write(db, 13, 100000);
	sql(db, "BEGIN; DELETE FROM harness_log; ROLLBACK; VACUUM");
	log_write(db, 14, 5);
	state = harness_log_read(db, true);
	CHECK_STR(state.wrong, "");
	CHECK_INT(state.rows, ==, 15);
	CHECK_INT(sqlite3_close(db), ==, SQLITE_OK);
	CHECK(!image_file(f.power.image, "log.db-wal")->exists);
}

/* What is opened must not depend on when: the clock stands, and so does the seed of random(). */
TEST(disk, has_a_time_of_its_own)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open();
	char seeds[2][8] = { "1234567", "7654321" };
	struct harness_entropy e;
	struct harness_walk walk;
	sqlite3_stmt *stmt = NULL;
	sqlite3_vfs *vfs;
	sqlite3 *db;

	log_record(&f, "DELETE", "FULL", HARNESS_PLANT_NONE);
	harness_walk_begin(&walk, f.power.cut, 1, 1, 0);
	CHECK(harness_walk_next(&walk));
	harness_entropy_init(&e, 1, walk.place, walk.damage);
	harness_cut_image(f.power.cut, walk.damage, &e, f.power.image);
	CHECK_INT(harness_image_open(f.power.image, "log.db", &db), ==, SQLITE_OK);
	CHECK_INT(sqlite3_prepare_v2(db, "SELECT julianday('now') = 2460000.5", -1, &stmt, NULL),
	          ==, SQLITE_OK);
	CHECK_INT(sqlite3_step(stmt), ==, SQLITE_ROW);
	CHECK_INT(sqlite3_column_int(stmt, 0), ==, 1);
	sqlite3_finalize(stmt);
	CHECK_INT(sqlite3_close(db), ==, SQLITE_OK);
	vfs = sqlite3_vfs_find("harness-disk");
	for (unsigned i = 0; i < 2; i++)
		CHECK_INT(vfs->xRandomness(vfs, sizeof seeds[i], seeds[i]), ==, sizeof seeds[i]);
	CHECK(memcmp(seeds[0], seeds[1], sizeof seeds[0]) == 0);
	CHECK_INT(vfs->xSleep(vfs, 1000000), ==, 1000000); /* Nobody else has the disk. */
}

TEST(disk, draws_the_same_for_the_same_seed)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open();
	uint64_t digests[2] = { 0 };
	struct harness_entropy e;
	struct harness_walk walk;

	log_record(&f, "WAL", "FULL", HARNESS_PLANT_NONE);
	for (unsigned i = 0; i < 2; i++) {
		harness_walk_begin(&walk, f.power.cut, 2000, UINT_MAX, 0);
		while (harness_walk_next(&walk)) {
			harness_entropy_init(&e, 1, walk.place, walk.damage);
			digests[i] = digests[i] * 31 +
			             harness_cut_image(f.power.cut, walk.damage, &e, f.power.image);
		}
	}
	CHECK(digests[0] == digests[1]);
}
