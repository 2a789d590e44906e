/* SQLite's VFS "unix" hooked in place: watched whoever wraps it, and however often. */
/* SPDX-License-Identifier: MIT */
#include "database.h"
#include "fault_internal.h"
#include "internal.h"

#include <poolproof/harness/vtime.h>

#include <sys/resource.h>
#include <sys/stat.h>

/* --- Who watches -------------------------------------------------------------------------- */

static struct {
	unsigned opened, written, truncated, synced, deleted;
	unsigned last_file;
} seen;

static void opened(unsigned file, const char *name, int flags)
{
	(void)name, (void)flags;
	seen.opened++;
	seen.last_file = file;
}

static void written(unsigned file, const void *data, int size, sqlite3_int64 offset)
{
	(void)data, (void)size, (void)offset;
	seen.written++;
	seen.last_file = file;
}

static void truncated(unsigned file, sqlite3_int64 size)
{
	(void)file, (void)size;
	seen.truncated++;
}

static uint64_t syncing(unsigned file)
{
	return 100 + file;
}

static void synced(unsigned file, uint64_t since)
{
	CHECK_INT(since, ==, 100 + file);
	seen.synced++;
}

static void deleted(const char *name, bool sync)
{
	(void)name, (void)sync;
	seen.deleted++;
}

static const struct vfs_watch everything = { opened, written, truncated, syncing, synced, deleted };

static void write_rows(const struct database *d, const char *vfs)
{
	sqlite3 *db;

	CHECK_INT(sqlite3_open_v2(d->path, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, vfs),
	          ==, SQLITE_OK);
	CHECK_INT(database_write(db, d->journal), ==, SQLITE_OK);
	CHECK_INT(sqlite3_close(db), ==, SQLITE_OK);
}

/* Of one life: open, a journal, its writes and syncs, and its end. */
static void check_seen(void)
{
	CHECK_INT(seen.opened, >=, 3); /* The file, and its journal each time. */
	CHECK_INT(seen.written, >=, 5);
	CHECK_INT(seen.synced, >=, 3);
	CHECK_INT(seen.deleted, >=, 2);
}

/* --- Wrapped ------------------------------------------------------------------------------ */

static sqlite3_vfs wrapping;
static unsigned wrapped_opens;

static int wrapping_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *file, int flags,
                         int *ret_flags)
{
	sqlite3_vfs *under = vfs->pAppData;

	wrapped_opens++;
	return under->xOpen(under, name, file, flags, ret_flags);
}

static int wrapping_delete(sqlite3_vfs *vfs, const char *name, int sync)
{
	sqlite3_vfs *under = vfs->pAppData;

	return under->xDelete(under, name, sync);
}

static int wrapping_sleep(sqlite3_vfs *vfs, int us)
{
	sqlite3_vfs *under = vfs->pAppData;

	return under->xSleep(under, us);
}

/* It calls what the VFS below has when it is called, as a pool's does. */
static void wrap(void)
{
	wrapping = *sqlite3_vfs_find("unix");
	wrapping.zName = "wrapping";
	wrapping.pAppData = sqlite3_vfs_find("unix");
	wrapping.xOpen = wrapping_open;
	wrapping.xDelete = wrapping_delete;
	wrapping.xSleep = wrapping_sleep;
	CHECK_INT(sqlite3_vfs_register(&wrapping, 0), ==, SQLITE_OK);
}

TEST_ROWS(vfs, is_watched_whoever_wraps_it, 4)
{
	static const char *const names[] = { NULL, "unix", "wrapping", "wrapping" };
	CLEANUP(database_remove) struct database d = database_new("DELETE");

	CHECK_INT(sqlite3_initialize(), ==, SQLITE_OK);
	if (row == 2)
		wrap();
	CHECK(vfs_hook() && vfs_hook());
	if (row == 3)
		wrap();
	vfs_watch_set(&everything);
	write_rows(&d, names[row]);
	vfs_watch_set(NULL);
	check_seen();
	CHECK((wrapped_opens > 0) == (row >= 2));
	CHECK_INT(database_is_whole(&d), ==, 2);
}

TEST(vfs, leaves_alone_what_was_open_before)
{
	CLEANUP(database_remove) struct database d = database_new("WAL");
	sqlite3 *db;

	CHECK_INT(sqlite3_open(d.path, &db), ==, SQLITE_OK);
	CHECK_INT(database_write(db, "WAL"), ==, SQLITE_OK);
	CHECK(vfs_hook());
	vfs_watch_set(&everything);
	CHECK_INT(database_exec(db, "DELETE FROM t"), ==, SQLITE_OK);
	CHECK_INT(seen.written, ==, 0);
	CHECK_INT(sqlite3_close(db), ==, SQLITE_OK);
	vfs_watch_set(NULL);
	CHECK_INT(database_is_whole(&d), ==, 0);
}

/* SQLite registers its VFS anew, the same ones. */
TEST(vfs, stays_hooked_when_sqlite_is_shut_down)
{
	CLEANUP(database_remove) struct database d = database_new("DELETE");

	CHECK(sqlite3_initialize() == SQLITE_OK && vfs_hook());
	for (unsigned round = 0; round < 3; round++) {
		memset(&seen, 0, sizeof seen);
		database_empty(&d);
		vfs_watch_set(&everything);
		write_rows(&d, NULL);
		vfs_watch_set(NULL);
		check_seen();
		CHECK_INT(sqlite3_shutdown(), ==, SQLITE_OK);
		CHECK(sqlite3_initialize() == SQLITE_OK && vfs_hook());
	}
}

TEST(vfs, needs_no_watcher_for_everything)
{
	static const struct vfs_watch nothing;
	CLEANUP(database_remove) struct database d = database_new("DELETE");

	CHECK(sqlite3_initialize() == SQLITE_OK && vfs_hook());
	vfs_watch_set(&nothing);
	write_rows(&d, NULL);
	vfs_watch_set(NULL);
	CHECK_INT(database_is_whole(&d), ==, 2);
}

TEST(vfs, can_leave_out_what_reaches_the_disk)
{
	CLEANUP(database_remove) struct database d = database_new("DELETE");

	CHECK(sqlite3_initialize() == SQLITE_OK && vfs_hook());
	vfs_watch_set(&everything);
	vfs_sync_skip(true);
	write_rows(&d, NULL);
	vfs_sync_skip(false);
	vfs_watch_set(NULL);
	check_seen(); /* Those who watch are told all the same. */
	CHECK_INT(database_is_whole(&d), ==, 2);
}

/* --- Numbers of files --------------------------------------------------------------------- */

/* Opens it; the number it has. */
static unsigned file_open(sqlite3_file *file, const char *name)
{
	sqlite3_vfs *vfs = sqlite3_vfs_find("unix");

	memset(file, 0, (size_t)vfs->szOsFile);
	CHECK_INT(vfs->xOpen(vfs, name, file,
	                     SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_SUPER_JOURNAL,
	                     NULL),
	          ==, SQLITE_OK);
	return seen.last_file;
}

static unsigned file_write(sqlite3_file *file)
{
	seen.last_file = UINT_MAX;
	CHECK_INT(file->pMethods->xWrite(file, "x", 1, 0), ==, SQLITE_OK);
	return seen.last_file;
}

static sqlite3_file *file_new(void)
{
	return calloc(1, (size_t)sqlite3_vfs_find("unix")->szOsFile);
}

TEST(vfs, numbers_files_by_their_names)
{
	CLEANUP(database_remove) struct database d = database_new("DELETE");
	char name[128];
	sqlite3_file *file;
	unsigned number;

	CHECK(sqlite3_initialize() == SQLITE_OK && vfs_hook());
	file = file_new();
	vfs_watch_set(&everything);
	for (unsigned i = 0; i < 2 * VFS_FILES_MAX; i++) {
		snprintf(name, sizeof name, "%s/%u", d.dir, i % (VFS_FILES_MAX + 9));
		number = file_open(file, name);
		if (i % (VFS_FILES_MAX + 9) < VFS_FILES_MAX - 1)
			CHECK_INT(number, ==, i % (VFS_FILES_MAX + 9));
		else
			CHECK_INT(number, ==, VFS_FILES_MAX - 1);
		CHECK_INT(file_write(file), ==, number);
		CHECK_INT(file->pMethods->xClose(file), ==, SQLITE_OK);
		unlink(name);
	}
	vfs_watch_set(NULL);
	free(file);
}

/* More than there is room for are open at once: theirs is the last number, and nobody else's. */
TEST(vfs, has_too_many_open)
{
	enum { FILES = 2100 };
	CLEANUP(database_remove) struct database d = database_new("DELETE");
	struct rlimit limit = { 0, 0 };
	sqlite3_file **files = calloc(FILES, sizeof *files);

	getrlimit(RLIMIT_NOFILE, &limit);
	if (limit.rlim_max < FILES + 100) {
		printf("vfs/has_too_many_open: skipped, this needs %d descriptors\n", FILES + 100);
		free(files);
		return;
	}
	limit.rlim_cur = FILES + 100;
	setrlimit(RLIMIT_NOFILE, &limit);
	CHECK(sqlite3_initialize() == SQLITE_OK && vfs_hook());
	vfs_watch_set(&everything);
	for (unsigned i = 0; i < FILES; i++) {
		files[i] = file_new();
		file_open(files[i], d.path);
	}
	CHECK_INT(file_write(files[0]), ==, 0);
	CHECK_INT(file_write(files[FILES - 1]), ==, VFS_FILES_MAX - 1);
	for (unsigned i = 0; i < FILES; i++) {
		CHECK_INT(files[i]->pMethods->xClose(files[i]), ==, SQLITE_OK);
		free(files[i]);
	}
	files[0] = file_new();
	file_open(files[0], d.path);
	CHECK_INT(file_write(files[0]), ==, 0);
	files[0]->pMethods->xClose(files[0]);
	free(files[0]);
	vfs_watch_set(NULL);
	free(files);
}
