/*
 * vfs.c - SQLite's VFS "unix", watched and changed in place.
 *
 * To know before reading: nothing is wrapped. The methods of the VFS, and a copy of each table of
 * methods that its files have, are replaced where somebody wants to know or to interfere; so a pool
 * may have wrapped the VFS before, or do it later. A file is known by its name: SQLite keeps the
 * pointer's memory, not us.
 *
 * Threads: hooks are set while no file is open that matters. The table of names is under
 * files_lock, which is held for no call into SQLite.
 */
/* SPDX-License-Identifier: MIT */
#include "fault_internal.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>

enum { TABLES = 8, OPEN_MAX = 2048, NAMES_MAX = VFS_FILES_MAX, NAME_SIZE = 512 };

static sqlite3_vfs real; /* As it was; files that are ours, and calls, come after that. */
static unsigned sync_place;

static _Atomic(const struct vfs_watch *) watch;
static int (*_Atomic sleep_in_place)(sqlite3_vfs *vfs, int us);
static sqlite3_int64 (*_Atomic passed_ms)(void);
static atomic_bool sync_skipped;

/* Tables as SQLite has them, and ours that are like them. */
static struct table {
	const sqlite3_io_methods *like;
	sqlite3_io_methods ours;
} tables[TABLES];
static atomic_uint table_count;

/* Files that are open, each with the number of its name. What has no room here, or whose name has
 * none, has the last number. */
static struct open_file {
	sqlite3_file *file;
	unsigned number;
} files[OPEN_MAX];
static char file_names[NAMES_MAX][NAME_SIZE];
static unsigned file_name_count;
static pthread_mutex_t files_lock = PTHREAD_MUTEX_INITIALIZER;

static const sqlite3_io_methods *real_of(sqlite3_file *file)
{
	const struct table *t =
		(const struct table *)((const char *)file->pMethods - offsetof(struct table, ours));

	return t->like;
}

static unsigned number_of(sqlite3_file *file)
{
	unsigned number = NAMES_MAX - 1, i = 0;

	pthread_mutex_lock(&files_lock);
	while (i < OPEN_MAX && files[i].file != file)
		i++;
	if (i < OPEN_MAX)
		number = files[i].number;
	pthread_mutex_unlock(&files_lock);
	return number;
}

static int file_write(sqlite3_file *file, const void *data, int size, sqlite3_int64 offset)
{
	const struct vfs_watch *w = atomic_load(&watch);
	int rc = real_of(file)->xWrite(file, data, size, offset);

	if (rc == SQLITE_OK && w != NULL && w->written != NULL)
		w->written(number_of(file), data, size, offset);
	return rc;
}

static int file_truncate(sqlite3_file *file, sqlite3_int64 size)
{
	const struct vfs_watch *w = atomic_load(&watch);
	int rc = real_of(file)->xTruncate(file, size);

	if (rc == SQLITE_OK && w != NULL && w->truncated != NULL)
		w->truncated(number_of(file), size);
	return rc;
}

static int file_sync(sqlite3_file *file, int flags)
{
	const struct vfs_watch *w = atomic_load(&watch);
	uint64_t since = 0;
	int rc = SQLITE_OK;

	if (harness_fault_visit(sync_place) > 0)
		return SQLITE_IOERR_FSYNC;
	if (w != NULL && w->syncing != NULL)
		since = w->syncing(number_of(file));
	if (!atomic_load(&sync_skipped))
		rc = real_of(file)->xSync(file, flags);
	if (rc == SQLITE_OK && w != NULL && w->synced != NULL)
		w->synced(number_of(file), since);
	return rc;
}

static int file_close(sqlite3_file *file)
{
	unsigned i = 0;

	pthread_mutex_lock(&files_lock);
	while (i < OPEN_MAX && files[i].file != file)
		i++;
	if (i < OPEN_MAX)
		files[i].file = NULL;
	pthread_mutex_unlock(&files_lock);
	return real_of(file)->xClose(file);
}

/* Under files_lock. */
static const sqlite3_io_methods *methods_like(const sqlite3_io_methods *like)
{
	unsigned i = 0, count = atomic_load(&table_count);

	while (i < count && tables[i].like != like)
		i++;
	if (i == count) {
		assert(count < TABLES);
		tables[i].like = like;
		tables[i].ours = *like;
		tables[i].ours.xClose = file_close;
		tables[i].ours.xWrite = file_write;
		tables[i].ours.xTruncate = file_truncate;
		tables[i].ours.xSync = file_sync;
		atomic_store(&table_count, count + 1);
	}
	return &tables[i].ours;
}

/* A name that has been there keeps its number, also when the file was deleted meanwhile. The last
 * number is nobody's own: only who records cares, and he has few names. */
static unsigned name_number(const char *name)
{
	unsigned i = 0;

	while (i < file_name_count && strncmp(file_names[i], name, NAME_SIZE - 1) != 0)
		i++;
	if (i == file_name_count && file_name_count < NAMES_MAX - 1) {
		strncpy(file_names[i], name, NAME_SIZE - 1);
		file_name_count++;
	}
	return i;
}

static int vfs_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *file, int flags,
                    int *ret_flags)
{
	const struct vfs_watch *w = atomic_load(&watch);
	int rc = real.xOpen(vfs, name, file, flags, ret_flags);
	unsigned number, i = 0;

	if (file->pMethods == NULL)
		return rc;
	pthread_mutex_lock(&files_lock);
	file->pMethods = methods_like(file->pMethods);
	number = name_number(name != NULL ? name : "");
	while (i < OPEN_MAX && files[i].file != NULL)
		i++;
	if (i < OPEN_MAX)
		files[i] = (struct open_file){ file, number };
	pthread_mutex_unlock(&files_lock);
	if (rc == SQLITE_OK && w != NULL && w->opened != NULL)
		w->opened(number, name, flags);
	return rc;
}

static int vfs_delete(sqlite3_vfs *vfs, const char *name, int sync)
{
	const struct vfs_watch *w = atomic_load(&watch);
	int rc = real.xDelete(vfs, name, sync);

	if (rc == SQLITE_OK && w != NULL && w->deleted != NULL)
		w->deleted(name, sync != 0);
	return rc;
}

static int vfs_sleep(sqlite3_vfs *vfs, int us)
{
	int (*in_place)(sqlite3_vfs *, int) = atomic_load(&sleep_in_place);

	return in_place != NULL ? in_place(vfs, us) : real.xSleep(vfs, us);
}

static int vfs_current_ms(sqlite3_vfs *vfs, sqlite3_int64 *ret)
{
	sqlite3_int64 (*passed)(void) = atomic_load(&passed_ms);
	int rc = real.xCurrentTimeInt64(vfs, ret);

	if (passed != NULL)
		*ret += passed();
	return rc;
}

static int vfs_current_days(sqlite3_vfs *vfs, double *ret)
{
	sqlite3_int64 ms = 0;
	int rc = vfs_current_ms(vfs, &ms);

	*ret = (double)ms / 86400000.0;
	return rc;
}

bool vfs_hook(void)
{
	sqlite3_vfs *vfs = sqlite3_vfs_find("unix");

	if (vfs == NULL || vfs->iVersion < 2)
		return false;
	if (vfs->xOpen == vfs_open)
		return true;
	sync_place = harness_fault_place("io.sync");
	real = *vfs;
	vfs->xOpen = vfs_open;
	vfs->xDelete = vfs_delete;
	vfs->xSleep = vfs_sleep;
	vfs->xCurrentTimeInt64 = vfs_current_ms;
	vfs->xCurrentTime = vfs_current_days;
	return true;
}

void vfs_watch_set(const struct vfs_watch *w)
{
	atomic_store(&watch, w);
}

void vfs_sleep_set(int (*sleep)(sqlite3_vfs *vfs, int us))
{
	atomic_store(&sleep_in_place, sleep);
}

void vfs_time_set(sqlite3_int64 (*passed)(void))
{
	atomic_store(&passed_ms, passed);
}

void vfs_sync_skip(bool skip)
{
	atomic_store(&sync_skipped, skip);
}
