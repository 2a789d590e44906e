/* Power loss by record and replay: what is recorded, and what may be left of it. */
/* SPDX-License-Identifier: MIT */
#include "disk.h"

#include <pthread.h>

/* --- By hand ------------------------------------------------------------------------------ */

static unsigned by_hand(struct fixture *f)
{
	struct harness_disk *disk = f->power.disk;
	unsigned name;

	disk_restart(disk);
	name = disk_name(disk, "a");
	disk_opened(disk, name, true);
	disk_written(disk, name, "base.", 5, 0);
	disk_synced(disk, name, disk_syncing(disk));
	disk_begun(disk);
	return name;
}

TEST(disk, has_for_certain_what_was_synced_and_else_any_part)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open();
	struct harness_disk *disk = f.power.disk;
	unsigned a = by_hand(&f);
	size_t k = harness_disk_first(disk);

	disk_written(disk, a, "one.", 4, 5);
	disk_written(disk, a, "two.", 4, 9);
	disk_written(disk, a, "end.", 4, 13);
	disk_truncated(disk, a, 7);
	disk_synced(disk, a, disk_syncing(disk));
	CHECK_STR(left(&f, k, HARNESS_DAMAGE_NONE), "base.");
	CHECK_STR(left(&f, k + 3, HARNESS_DAMAGE_NONE), "base.one.two.end.");
	CHECK_STR(left(&f, k + 3, HARNESS_DAMAGE_ALL_DROPPED), "base.");
	CHECK_STR(left(&f, k + 3, HARNESS_DAMAGE_LAST_DROPPED), "base.one.two.");
	CHECK_STR(left(&f, k + 2, HARNESS_DAMAGE_FIRST_DROPPED), "base."); /* Then a hole. */
	CHECK_INT(image_file(f.power.image, "a")->size, ==, 13);
	CHECK_INT(image_file(f.power.image, "a")->bytes[8], ==, 0);
	CHECK_INT(memcmp(image_file(f.power.image, "a")->bytes + 9, "two.", 4), ==, 0);
	CHECK_STR(left(&f, k + 4, HARNESS_DAMAGE_NONE), "base.on");
	CHECK_STR(left(&f, k + 4, HARNESS_DAMAGE_LAST_DROPPED), "base.one.two.end.");
	CHECK_STR(left(&f, k + 4, HARNESS_DAMAGE_ONLY_LAST), "base.\0\0");
	CHECK_INT(image_file(f.power.image, "a")->size, ==, 7);
	CHECK_STR(left(&f, k + 5, HARNESS_DAMAGE_NONE), "base.on");
	CHECK(!harness_cut_has(f.power.cut, HARNESS_DAMAGE_ALL_DROPPED));
	CHECK(!harness_cut_has(f.power.cut, HARNESS_DAMAGE_RANDOM));
}

/* What another thread writes while a sync runs may have missed it. */
TEST(disk, does_not_count_a_write_that_came_during_a_sync)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open();
	struct harness_disk *disk = f.power.disk;
	unsigned a = by_hand(&f);
	uint64_t since;

	disk_written(disk, a, "one.", 4, 5);
	since = disk_syncing(disk);
	disk_written(disk, a, "two.", 4, 9);
	disk_synced(disk, a, since);
	CHECK_STR(left(&f, harness_disk_length(disk), HARNESS_DAMAGE_ALL_DROPPED), "base.one.");
}

static size_t differing(const unsigned char *a, const unsigned char *b, size_t from, size_t to)
{
	size_t count = 0;

	for (size_t i = from; i < to; i++)
		count += a[i] != b[i];
	return count;
}

/* In whole sectors, and never outside of the write: bytes that nobody wrote to are safe. */
TEST_ROWS(disk, tears_and_spoils_sectors_of_a_write_only, 2)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open();
	struct harness_disk *disk = f.power.disk;
	static unsigned char old[4096], new[2000];
	const unsigned char *got = image_file(f.power.image, "a")->bytes;
	bool garbage = row == 1;
	unsigned a, name, changed = 0, spoiled = 0;
	struct harness_entropy e;

	memset(old, 'o', sizeof old);
	memset(new, 'n', sizeof new);
	a = by_hand(&f);
	disk_written(disk, a, old, sizeof old, 0);
	disk_synced(disk, a, disk_syncing(disk));
	disk_written(disk, a, new, sizeof new, 100);
	name = garbage ? HARNESS_DAMAGE_LAST_GARBAGE : HARNESS_DAMAGE_LAST_TORN;
	harness_cut_move(f.power.cut, harness_disk_length(disk));
	for (unsigned i = 0; i < 100; i++) {
		harness_entropy_init(&e, 1, i, 0);
		harness_cut_image(f.power.cut, name, &e, f.power.image);
		got = image_file(f.power.image, "a")->bytes;
		CHECK_INT(differing(got, old, 0, 100), ==, 0);
		CHECK_INT(differing(got, old, 2100, sizeof old), ==, 0);
		for (size_t s = 0; s < 5; s++) {
			size_t from = s == 0 ? 100 : s * 512, to = s == 4 ? 2100 : s * 512 + 512;
			bool is_new = differing(got + from, new, 0, to - from) == 0;
			bool is_old = differing(got + from, old, 0, to - from) == 0;

			CHECK(is_new || (garbage ? !is_old : is_old));
			changed += is_new;
			spoiled += !is_new;
		}
	}
	CHECK(changed > 100 && spoiled > 100);
}

TEST(disk, keeps_names_in_order_until_a_folder_is_synced)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open();
	struct harness_disk *disk = f.power.disk;
	unsigned a = by_hand(&f), j = disk_name(disk, "a-journal");
	size_t k = harness_disk_first(disk);

	disk_opened(disk, j, true);
	disk_written(disk, j, "J", 1, 0);
	disk_synced(disk, j, disk_syncing(disk)); /* And its folder. */
	disk_deleted(disk, j, false);
	disk_deleted(disk, a, true);
	left(&f, k + 2, HARNESS_DAMAGE_NONE);
	CHECK_STR(text_of(&f, "a-journal"), "J");
	left(&f, k + 2, HARNESS_DAMAGE_NAMES_UNDONE);
	CHECK_STR(text_of(&f, "a-journal"), "(none)");
	left(&f, k + 3, HARNESS_DAMAGE_NONE);
	CHECK(!harness_cut_has(f.power.cut, HARNESS_DAMAGE_NAMES_UNDONE));
	CHECK_STR(text_of(&f, "a-journal"), "J");
	left(&f, k + 4, HARNESS_DAMAGE_NONE);
	CHECK_STR(text_of(&f, "a-journal"), "(none)");
	left(&f, k + 4, HARNESS_DAMAGE_NAMES_UNDONE);
	CHECK_STR(text_of(&f, "a-journal"), "J");
	CHECK_STR(left(&f, k + 5, HARNESS_DAMAGE_NONE), "(none)");
	CHECK(!harness_cut_has(f.power.cut, HARNESS_DAMAGE_NAMES_UNDONE));
	CHECK_STR(text_of(&f, "a-journal"), "(none)");
}

TEST(disk, says_when_it_has_no_room)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open();
	struct harness_disk *disk = f.power.disk;
	unsigned a = by_hand(&f);
	char name[8];

	CHECK(!harness_disk_overflowed(disk));
	disk_written(disk, a, "x", 1, DISK_FILE_MAX);
	CHECK(harness_disk_overflowed(disk));
	by_hand(&f);
	for (unsigned i = 0; i < DISK_NAMES; i++) {
		CHECK(!harness_disk_overflowed(disk));
		snprintf(name, sizeof name, "%u", i);
		disk_name(disk, name);
	}
	CHECK(harness_disk_overflowed(disk));
	by_hand(&f);
	for (unsigned i = 0; i <= DISK_INODES; i++) {
		disk_opened(disk, a, true);
		disk_deleted(disk, a, false);
	}
	CHECK(harness_disk_overflowed(disk));
	/* Nobody ever synced the folder: the oldest deletions are taken for certain. */
	CHECK_STR(left(&f, harness_disk_length(disk), HARNESS_DAMAGE_NONE), "(none)");
}

/* --- The recorder ------------------------------------------------------------------------- */

static void *write_some(void *context)
{
	struct fixture *f = context;
	sqlite3 *db;

	CHECK_INT(sqlite3_open(f->path, &db), ==, SQLITE_OK);
	sqlite3_busy_timeout(db, 20000);
	for (unsigned n = 0; n < 10; n++) {
		sql(db, "INSERT INTO t VALUES (randomblob(500))");
		harness_disk_mark(f->power.disk, 1, n, true);
	}
	sqlite3_close(db);
	return NULL;
}

TEST(disk, is_recorded_by_threads_in_one_order)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open();
	struct harness_disk_mark mark;
	pthread_t threads[3];
	unsigned marks = 0;
	char command[192];

	open_as(&f, "WAL", "FULL");
	sql(f.db, "CREATE TABLE t(x)");
	close_db(&f);
	CHECK(harness_disk_begin(f.power.disk, f.folder, 50));
	for (unsigned i = 0; i < 3; i++)
		CHECK_INT(pthread_create(&threads[i], NULL, write_some, &f), ==, 0);
	for (unsigned i = 0; i < 3; i++)
		pthread_join(threads[i], NULL);
	harness_disk_end(f.power.disk);
	for (size_t at = 0; at < harness_disk_length(f.power.disk); at++)
		marks += harness_disk_mark_at(f.power.disk, at, &mark);
	CHECK_INT(marks, ==, 30);
	left(&f, harness_disk_length(f.power.disk), HARNESS_DAMAGE_NONE);
	snprintf(command, sizeof command, "%s/saved", f.folder);
	CHECK(harness_image_save(f.power.image, command));
	snprintf(command, sizeof command, "cmp %s %s/saved/log.db", f.path, f.folder);
	CHECK_INT(system(command), ==, 0);
}

TEST(disk, does_not_record_other_folders_nor_after_the_end)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(), other = fixture_open();
	size_t length;

	CHECK(!harness_disk_begin(f.power.disk, "/nowhere/at/all", 0));
	CHECK(harness_disk_begin(f.power.disk, f.folder, 0));
	CHECK_INT(harness_disk_first(f.power.disk), ==, harness_disk_length(f.power.disk));
	open_as(&other, "WAL", "FULL");
	sql(other.db, "CREATE TABLE t(x)");
	CHECK_INT(harness_disk_first(f.power.disk), ==, harness_disk_length(f.power.disk));
	open_as(&f, "DELETE", "FULL");
	sql(f.db, "CREATE TABLE t(x)");
	length = harness_disk_length(f.power.disk);
	CHECK(harness_disk_first(f.power.disk) < length);
	harness_disk_end(f.power.disk);
	sql(f.db, "CREATE TABLE u(x)");
	CHECK_INT(harness_disk_length(f.power.disk), ==, length);
}

TEST(disk, names_damages_and_defects)
{
	enum harness_disk_plant plant;

	CHECK_STR(harness_damage_name(HARNESS_DAMAGE_LAST_TORN), "last torn");
	CHECK_STR(harness_damage_name(HARNESS_DAMAGE_RANDOM + 7), "random");
	CHECK(harness_plant_named("journal-sync-dropped", &plant));
	CHECK_STR(harness_plant_name(plant), "journal-sync-dropped");
	CHECK(!harness_plant_named("sync", &plant));
}
