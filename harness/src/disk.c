/*
 * disk.c - records, in one order, what SQLite does to the files of a folder.
 *
 * To know before reading: what SQLite is told has happened before it goes on, so a write is logged
 * after it was done and before SQLite knows. A sync covers what was logged when it began: a write
 * that another thread does meanwhile may have missed it.
 */
/* SPDX-License-Identifier: MIT */
#include "disk_internal.h"
#include "fault_internal.h"
#include "internal.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { NUMBERS = 512 }; /* Of names, as vfs.c has them. */

/* --- The log ------------------------------------------------------------------------------ */

void disk_restart(struct harness_disk *disk)
{
	disk->name_count = disk->inode_count = 0;
	disk->first = disk->length = disk->data_size = 0;
	disk->acknowledged = 0;
	disk->overflowed = false;
}

void disk_begun(struct harness_disk *disk)
{
	disk->first = disk->length;
}

/* Under the lock. NULL: no room, or nothing is known of this inode. */
static struct disk_entry *entry_add(struct harness_disk *disk, enum disk_kind kind, unsigned inode)
{
	struct disk_entry *entry = &disk->entries[disk->length];

	if (inode == DISK_NONE)
		return NULL;
	if (disk->length == DISK_ENTRIES) {
		disk->overflowed = true;
		return NULL;
	}
	*entry = (struct disk_entry){ .kind = (uint8_t)kind, .inode = (uint16_t)inode };
	if (kind == DISK_WRITE || kind == DISK_TRUNCATE) {
		struct disk_inode *of = &disk->inodes[inode];

		*(of->first == 0 ? &of->first : &disk->entries[of->last].next) =
			(uint32_t)disk->length;
		of->last = (uint32_t)disk->length;
	}
	disk->length++;
	return entry;
}

static unsigned inode_of(const struct harness_disk *disk, unsigned name)
{
	return name < DISK_NAMES ? disk->inode_of[name] : DISK_NONE;
}

static bool ends_with(const char *name, const char *end)
{
	size_t length = strlen(name), end_length = strlen(end);

	return length >= end_length && strcmp(name + length - end_length, end) == 0;
}

unsigned disk_name(struct harness_disk *disk, const char *name)
{
	unsigned i = 0;

	pthread_mutex_lock(&disk->lock);
	while (i < disk->name_count && strcmp(disk->names[i], name) != 0)
		i++;
	if (i == disk->name_count && i < DISK_NAMES && strlen(name) < DISK_NAME) {
		strcpy(disk->names[i], name);
		disk->is_journal[i] = ends_with(name, "-wal") || ends_with(name, "-journal");
		disk->inode_of[i] = DISK_NONE;
		disk->name_count++;
	} else if (i == disk->name_count) {
		disk->overflowed = true;
		i = DISK_NAMES;
	}
	pthread_mutex_unlock(&disk->lock);
	return i;
}

void disk_opened(struct harness_disk *disk, unsigned name, bool syncs_folder)
{
	struct disk_entry *entry;

	pthread_mutex_lock(&disk->lock);
	if (name < DISK_NAMES && disk->inode_of[name] == DISK_NONE) {
		if (disk->inode_count == DISK_INODES) {
			disk->overflowed = true;
		} else {
			disk->inodes[disk->inode_count] = (struct disk_inode){ .name = name };
			disk->inode_of[name] = disk->inode_count++;
			entry = entry_add(disk, DISK_CREATE, disk->inode_of[name]);
			if (entry != NULL)
				entry->flag = syncs_folder;
		}
	}
	pthread_mutex_unlock(&disk->lock);
}

void disk_written(struct harness_disk *disk, unsigned name, const void *data, uint32_t size,
                  uint64_t at)
{
	struct disk_entry *entry = NULL;

	pthread_mutex_lock(&disk->lock);
	if (disk->data_size + size > DISK_DATA_MAX || at + size > DISK_FILE_MAX)
		disk->overflowed = true;
	else
		entry = entry_add(disk, DISK_WRITE, inode_of(disk, name));
	if (entry != NULL) {
		entry->size = size;
		entry->at = at;
		entry->data = disk->data_size;
		memcpy(disk->data + disk->data_size, data, size);
		disk->data_size += size;
	}
	pthread_mutex_unlock(&disk->lock);
}

void disk_truncated(struct harness_disk *disk, unsigned name, uint64_t size)
{
	struct disk_entry *entry;

	pthread_mutex_lock(&disk->lock);
	entry = entry_add(disk, DISK_TRUNCATE, inode_of(disk, name));
	if (entry != NULL)
		entry->at = size;
	pthread_mutex_unlock(&disk->lock);
}

uint64_t disk_syncing(struct harness_disk *disk)
{
	uint64_t since;

	pthread_mutex_lock(&disk->lock);
	since = disk->length;
	pthread_mutex_unlock(&disk->lock);
	return since;
}

/* Under the lock. Whether the sync is to be noted. */
static bool plant_lets_pass(struct harness_disk *disk, unsigned inode)
{
	const struct disk_inode *of = &disk->inodes[inode];

	switch (disk->plant) {
	case HARNESS_PLANT_SYNC_DROPPED:
		return false;
	case HARNESS_PLANT_JOURNAL_SYNC_DROPPED:
		return !disk->is_journal[of->name];
	case HARNESS_PLANT_DATABASE_SYNC_DROPPED:
		return disk->is_journal[of->name];
	case HARNESS_PLANT_COMMIT_TORN:
		if (of->last > disk->first && disk->entries[of->last].kind == DISK_WRITE)
			disk->entries[of->last].size /= 2;
		return true;
	default:
		return true;
	}
}

void disk_synced(struct harness_disk *disk, unsigned name, uint64_t since)
{
	struct disk_entry *entry = NULL;

	pthread_mutex_lock(&disk->lock);
	if (inode_of(disk, name) != DISK_NONE && plant_lets_pass(disk, inode_of(disk, name)))
		entry = entry_add(disk, DISK_SYNC, inode_of(disk, name));
	if (entry != NULL)
		entry->since = (uint32_t)since;
	pthread_mutex_unlock(&disk->lock);
}

void disk_deleted(struct harness_disk *disk, unsigned name, bool synced)
{
	struct disk_entry *entry;

	pthread_mutex_lock(&disk->lock);
	entry = entry_add(disk, DISK_DELETE, inode_of(disk, name));
	if (entry != NULL) {
		entry->flag = synced && disk->plant != HARNESS_PLANT_SYNC_DROPPED;
		disk->inode_of[name] = DISK_NONE;
	}
	pthread_mutex_unlock(&disk->lock);
}

enum { PLANTED_AFTER = 7 /* Acknowledged writes. */ };

/* Under the lock, before a mark: what has made the write durable is not so, if that was the last
 * thing that happened. */
static void plant_one(struct harness_disk *disk)
{
	size_t at = disk->length;
	struct disk_entry *last;

	if (disk->acknowledged == DISK_PLANTED || disk->acknowledged++ < PLANTED_AFTER)
		return;
	while (at > disk->first && disk->entries[at - 1].kind == DISK_MARK)
		at--;
	if (at == disk->first)
		return;
	last = &disk->entries[at - 1];
	if (last->kind == DISK_SYNC && disk->is_journal[disk->inodes[last->inode].name])
		last->since = 0;
	else if (last->kind == DISK_DELETE && last->flag)
		last->flag = false;
	else
		return;
	disk->acknowledged = DISK_PLANTED;
}

void harness_disk_mark(struct harness_disk *disk, unsigned thread, unsigned n, bool acknowledged)
{
	struct disk_entry *entry;

	pthread_mutex_lock(&disk->lock);
	if (disk->plant == HARNESS_PLANT_ONE_SYNC_DROPPED && acknowledged)
		plant_one(disk);
	entry = entry_add(disk, DISK_MARK, thread);
	if (entry != NULL) {
		entry->size = n;
		entry->flag = acknowledged;
	}
	pthread_mutex_unlock(&disk->lock);
}

bool harness_disk_mark_at(const struct harness_disk *disk, size_t at, struct harness_disk_mark *ret)
{
	const struct disk_entry *entry = &disk->entries[at];

	if (at >= disk->length || entry->kind != DISK_MARK)
		return false;
	*ret = (struct harness_disk_mark){ entry->inode, entry->size, entry->flag };
	return true;
}

void harness_disk_plant(struct harness_disk *disk, enum harness_disk_plant plant)
{
	disk->plant = plant;
}

size_t harness_disk_first(const struct harness_disk *disk)
{
	return disk->first;
}

size_t harness_disk_length(const struct harness_disk *disk)
{
	return disk->length;
}

bool harness_disk_overflowed(const struct harness_disk *disk)
{
	return disk->overflowed;
}

/* --- SQLite's VFS ------------------------------------------------------------------------- */

/* What is recorded, and which of its names a number is (1: the first; 0: none). Set where the file
 * is opened, before SQLite or anybody else can use it. */
static struct harness_disk *recorded;
static atomic_uint names_of[NUMBERS];

/* NULL: it is in another folder, or below this one. */
static const char *in_folder(const char *path)
{
	size_t length = strlen(recorded->folder);

	if (path == NULL || strncmp(path, recorded->folder, length) != 0 || path[length] != '/' ||
	    strchr(path + length + 1, '/') != NULL)
		return NULL;
	return path + length + 1;
}

static unsigned name_of(unsigned number)
{
	return number < NUMBERS ? atomic_load(&names_of[number]) - 1 : DISK_NAMES;
}

static void opened(unsigned number, const char *path, int flags)
{
	const int journals = SQLITE_OPEN_MAIN_JOURNAL | SQLITE_OPEN_WAL | SQLITE_OPEN_SUPER_JOURNAL;
	const char *name = in_folder(path);

	if (name == NULL || number >= NUMBERS)
		return;
	atomic_store(&names_of[number], disk_name(recorded, name) + 1);
	disk_opened(recorded, name_of(number), (flags & journals) != 0);
}

static void written(unsigned number, const void *data, int size, sqlite3_int64 offset)
{
	disk_written(recorded, name_of(number), data, (uint32_t)size, (uint64_t)offset);
}

static void truncated(unsigned number, sqlite3_int64 size)
{
	disk_truncated(recorded, name_of(number), (uint64_t)size);
}

static uint64_t syncing(unsigned number)
{
	uint64_t since = disk_syncing(recorded);

	(void)number;
	if (recorded->sync_us > 0)
		nanosleep(&(struct timespec){ .tv_nsec = recorded->sync_us * 1000 }, NULL);
	return since;
}

static void synced(unsigned number, uint64_t since)
{
	disk_synced(recorded, name_of(number), since);
}

static void deleted(const char *path, bool folder_synced)
{
	const char *name = in_folder(path);

	if (name != NULL)
		disk_deleted(recorded, disk_name(recorded, name), folder_synced);
}

static const struct vfs_watch recorder = {
	.opened = opened,
	.written = written,
	.truncated = truncated,
	.syncing = syncing,
	.synced = synced,
	.deleted = deleted,
};

/* --- The beginning ------------------------------------------------------------------------ */

static bool file_take(struct harness_disk *disk, int folder, const char *file_name)
{
	int file = openat(folder, file_name, O_RDONLY | O_CLOEXEC);
	static unsigned char part[65536];
	unsigned name = disk_name(disk, file_name);
	ssize_t size = 1;

	if (file < 0)
		return false;
	disk_opened(disk, name, true);
	for (uint64_t at = 0; size > 0; at += (uint64_t)size) {
		size = read(file, part, sizeof part);
		if (size > 0)
			disk_written(disk, name, part, (uint32_t)size, at);
	}
	close(file);
	disk_synced(disk, name, disk_syncing(disk));
	return size == 0;
}

/* Shared memory is nothing that a power loss leaves. */
static bool wanted(int folder, const char *name)
{
	struct stat status;

	return !ends_with(name, "-shm") &&
	       fstatat(folder, name, &status, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(status.st_mode);
}

static bool folder_take(struct harness_disk *disk)
{
	DIR *folder = opendir(disk->folder);
	const struct dirent *entry;
	bool well = folder != NULL;

	while (well && (entry = readdir(folder)) != NULL)
		if (wanted(dirfd(folder), entry->d_name))
			well = file_take(disk, dirfd(folder), entry->d_name);
	if (folder != NULL)
		closedir(folder);
	return well;
}

bool harness_disk_begin(struct harness_disk *disk, const char *folder, unsigned sync_us)
{
	enum harness_disk_plant plant = disk->plant;
	bool well;

	if (sqlite3_initialize() != SQLITE_OK || !vfs_hook() ||
	    realpath(folder, disk->folder) == NULL)
		return false;
	disk_restart(disk);
	disk->plant = HARNESS_PLANT_NONE;
	well = folder_take(disk);
	disk->plant = plant;
	disk_begun(disk);
	if (!well)
		return false;
	for (unsigned i = 0; i < NUMBERS; i++)
		atomic_store(&names_of[i], 0);
	recorded = disk;
	disk->sync_us = sync_us;
	vfs_sync_skip(true);
	vfs_watch_set(&recorder);
	return true;
}

void harness_disk_end(struct harness_disk *disk)
{
	(void)disk;
	vfs_watch_set(NULL);
	vfs_sync_skip(false);
}
