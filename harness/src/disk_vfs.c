/*
 * disk_vfs.c - the VFS "harness-disk": an image's files for SQLite.
 *
 * One connection uses an image, so locks are always there. The file says of itself what SQLite's
 * unix VFS says, so that it is read as it was written.
 */
/* SPDX-License-Identifier: MIT */
#include "disk_internal.h"

#include <sqlite3.h>
#include <string.h>

struct file {
	sqlite3_file base;
	struct harness_image *image;
	struct image_file *at;
	unsigned name; /* In what records it. */
};

static _Thread_local struct harness_image *served;

static struct file *of(sqlite3_file *file)
{
	return (struct file *)file;
}

/* --- Files -------------------------------------------------------------------------------- */

static int file_close(sqlite3_file *file)
{
	(void)file;
	return SQLITE_OK;
}

static int file_read(sqlite3_file *file, void *buffer, int size, sqlite3_int64 offset)
{
	const struct image_file *f = of(file)->at;
	size_t there = (uint64_t)offset < f->size ? f->size - (size_t)offset : 0;

	if (there >= (size_t)size) {
		memcpy(buffer, f->bytes + offset, (size_t)size);
		return SQLITE_OK;
	}
	if (there > 0)
		memcpy(buffer, f->bytes + offset, there);
	memset((char *)buffer + there, 0, (size_t)size - there);
	return SQLITE_IOERR_SHORT_READ;
}

static int file_write(sqlite3_file *file, const void *data, int size, sqlite3_int64 offset)
{
	struct file *f = of(file);

	if (!image_write(f->at, data, (size_t)size, (uint64_t)offset))
		return SQLITE_FULL;
	if (f->image->disk != NULL)
		disk_written(f->image->disk, f->name, data, (uint32_t)size, (uint64_t)offset);
	return SQLITE_OK;
}

static int file_truncate(sqlite3_file *file, sqlite3_int64 size)
{
	struct file *f = of(file);

	if (!image_resize(f->at, (uint64_t)size))
		return SQLITE_FULL;
	if (f->image->disk != NULL)
		disk_truncated(f->image->disk, f->name, (uint64_t)size);
	return SQLITE_OK;
}

static int file_sync(sqlite3_file *file, int flags)
{
	struct harness_disk *disk = of(file)->image->disk;

	(void)flags;
	if (disk != NULL)
		disk_synced(disk, of(file)->name, disk_syncing(disk));
	return SQLITE_OK;
}

static int file_size(sqlite3_file *file, sqlite3_int64 *ret)
{
	*ret = (sqlite3_int64)of(file)->at->size;
	return SQLITE_OK;
}

static int file_lock(sqlite3_file *file, int level)
{
	(void)file, (void)level;
	return SQLITE_OK;
}

static int file_reserved(sqlite3_file *file, int *ret)
{
	(void)file;
	*ret = 0;
	return SQLITE_OK;
}

static int file_control(sqlite3_file *file, int op, void *arg)
{
	(void)file, (void)op, (void)arg;
	return SQLITE_NOTFOUND;
}

static int file_sector(sqlite3_file *file)
{
	(void)file;
	return 4096;
}

static int file_device(sqlite3_file *file)
{
	(void)file;
	return SQLITE_IOCAP_POWERSAFE_OVERWRITE;
}

static const sqlite3_io_methods methods = {
	.iVersion = 1,
	.xClose = file_close,
	.xRead = file_read,
	.xWrite = file_write,
	.xTruncate = file_truncate,
	.xSync = file_sync,
	.xFileSize = file_size,
	.xLock = file_lock,
	.xUnlock = file_lock,
	.xCheckReservedLock = file_reserved,
	.xFileControl = file_control,
	.xSectorSize = file_sector,
	.xDeviceCharacteristics = file_device,
};

/* --- The VFS ------------------------------------------------------------------------------ */

static int vfs_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *file, int flags,
                    int *ret_flags)
{
	struct file *f = of(file);

	(void)vfs;
	f->base.pMethods = NULL;
	f->image = served;
	f->at = served != NULL && name != NULL ? image_file(served, name) : NULL;
	if (f->at == NULL || (!f->at->exists && (flags & SQLITE_OPEN_CREATE) == 0))
		return SQLITE_CANTOPEN;
	if (!f->at->exists) {
		f->at->exists = true;
		f->at->size = 0;
	}
	if (served->disk != NULL) {
		f->name = disk_name(served->disk, name);
		disk_opened(served->disk, f->name, (flags & SQLITE_OPEN_MAIN_DB) == 0);
	}
	if (ret_flags != NULL)
		*ret_flags = flags;
	f->base.pMethods = &methods;
	return SQLITE_OK;
}

static int vfs_delete(sqlite3_vfs *vfs, const char *name, int sync)
{
	struct image_file *file = image_file(served, name);

	(void)vfs;
	if (file == NULL || !file->exists)
		return SQLITE_IOERR_DELETE_NOENT;
	file->exists = false;
	if (served->disk != NULL)
		disk_deleted(served->disk, disk_name(served->disk, name), sync != 0);
	return SQLITE_OK;
}

static int vfs_access(sqlite3_vfs *vfs, const char *name, int flags, int *ret)
{
	const struct image_file *file = image_file(served, name);

	(void)vfs;
	/* As the unix VFS has it: an empty journal is none. */
	*ret = file != NULL && file->exists && (flags != SQLITE_ACCESS_EXISTS || file->size > 0);
	return SQLITE_OK;
}

static int vfs_full_pathname(sqlite3_vfs *vfs, const char *name, int size, char *ret)
{
	(void)vfs;
	sqlite3_snprintf(size, ret, "%s", name);
	return SQLITE_OK;
}

static int vfs_randomness(sqlite3_vfs *vfs, int size, char *ret)
{
	(void)vfs;
	memset(ret, 0, (size_t)size);
	return size;
}

static int vfs_sleep(sqlite3_vfs *vfs, int us)
{
	(void)vfs;
	return us;
}

static int vfs_time(sqlite3_vfs *vfs, double *ret)
{
	(void)vfs;
	*ret = 2460000.5;
	return SQLITE_OK;
}

static int vfs_last_error(sqlite3_vfs *vfs, int size, char *ret)
{
	(void)vfs, (void)size, (void)ret;
	return 0;
}

static sqlite3_vfs disk_vfs = {
	.iVersion = 1,
	.szOsFile = sizeof(struct file),
	.mxPathname = DISK_NAME,
	.zName = "harness-disk",
	.xOpen = vfs_open,
	.xDelete = vfs_delete,
	.xAccess = vfs_access,
	.xFullPathname = vfs_full_pathname,
	.xRandomness = vfs_randomness,
	.xSleep = vfs_sleep,
	.xCurrentTime = vfs_time,
	.xGetLastError = vfs_last_error,
};

int harness_image_open(struct harness_image *image, const char *name, sqlite3 **ret_db)
{
	int rc = sqlite3_initialize();

	*ret_db = NULL;
	served = image;
	if (rc == SQLITE_OK && sqlite3_vfs_find(disk_vfs.zName) == NULL)
		rc = sqlite3_vfs_register(&disk_vfs, 0);
	if (rc == SQLITE_OK)
		rc = sqlite3_open_v2(name, ret_db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX,
		                     disk_vfs.zName);
	if (rc == SQLITE_OK)
		rc = sqlite3_exec(*ret_db, "PRAGMA locking_mode=EXCLUSIVE", NULL, NULL, NULL);
	return rc;
}
