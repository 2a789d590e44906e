/* disk_internal.h - what the recorder, the cuts, the images and their VFS know of each other. */
/* SPDX-License-Identifier: MIT */
#ifndef HARNESS_DISK_INTERNAL_H
#define HARNESS_DISK_INTERNAL_H

#include <poolproof/harness/disk.h>

#include <pthread.h>

enum {
	DISK_NAMES = 8, /* A database, its journal, its WAL; and a few. */
	DISK_NAME = 64,
	DISK_INODES = 16384, /* With a rollback journal, one for each transaction. */
	DISK_ENTRIES = 1 << 19,
	DISK_SECTOR = 512,
	DISK_FILE_MAX = 8 << 20,
	DISK_DATA_MAX = 512 << 20,
	DISK_PLANTED = 0xffffffff,
	DISK_NONE = 0xffff /* In place of an inode: the name is not there. */
};

enum disk_kind { DISK_CREATE, DISK_WRITE, DISK_TRUNCATE, DISK_SYNC, DISK_DELETE, DISK_MARK };

struct disk_entry {
	uint8_t kind;
	/* DISK_CREATE: its first sync is its folder's, too. DISK_DELETE: its folder was synced.
	 * DISK_MARK: acknowledged. */
	bool flag;
	uint16_t inode; /* DISK_MARK: the thread. */
	uint32_t size;  /* DISK_WRITE: bytes. DISK_MARK: n. */
	uint32_t next;  /* The next write or truncation of the same inode. 0: none. */
	uint32_t since; /* DISK_SYNC: what was logged before this is synced. */
	uint64_t at;    /* DISK_WRITE: where. DISK_TRUNCATE: the new size. */
	uint64_t data;  /* DISK_WRITE: where its bytes are in data. */
};

struct disk_inode {
	unsigned name;
	uint32_t first, last; /* Writes and truncations. 0: none. */
};

struct harness_disk {
	pthread_mutex_t lock; /* All that follows, while it is recorded. */
	char folder[4096];
	char names[DISK_NAMES][DISK_NAME];
	bool is_journal[DISK_NAMES];   /* A rollback journal or a WAL. */
	unsigned inode_of[DISK_NAMES]; /* Now. */
	unsigned name_count, inode_count;
	size_t first, length, data_size;
	bool overflowed;
	enum harness_disk_plant plant;
	unsigned acknowledged; /* Marks that say so; DISK_PLANTED: the one sync is dropped. */
	unsigned sync_us;
	struct disk_inode inodes[DISK_INODES];
	struct disk_entry entries[DISK_ENTRIES];
	unsigned char data[DISK_DATA_MAX];
};

/* disk.c: files by their names without a folder. Nothing is known of a name that there is no room
 * for: DISK_NAMES. Each takes the lock. */
void disk_restart(struct harness_disk *disk);
/* What was logged until now is what there was in the beginning. */
void disk_begun(struct harness_disk *disk);
unsigned disk_name(struct harness_disk *disk, const char *name);
void disk_opened(struct harness_disk *disk, unsigned name, bool syncs_folder);
void disk_written(struct harness_disk *disk, unsigned name, const void *data, uint32_t size,
                  uint64_t at);
void disk_truncated(struct harness_disk *disk, unsigned name, uint64_t size);
uint64_t disk_syncing(struct harness_disk *disk);
void disk_synced(struct harness_disk *disk, unsigned name, uint64_t since);
void disk_deleted(struct harness_disk *disk, unsigned name, bool synced);

struct image_file {
	char name[DISK_NAME];
	bool exists;
	size_t size;
	unsigned char *bytes; /* DISK_FILE_MAX; what is past size is anything. */
};

struct harness_image {
	struct image_file files[DISK_NAMES];
	unsigned file_count;
	struct harness_disk *disk; /* NULL: nobody records it. */
	unsigned char memory[DISK_NAMES][DISK_FILE_MAX];
};

/* disk_image.c. NULL: there is no room for another one. */
struct image_file *image_file(struct harness_image *image, const char *name);
/* What lies between is zero. false: it would be too long. */
bool image_resize(struct image_file *file, uint64_t size);
bool image_write(struct image_file *file, const void *data, size_t size, uint64_t at);

/* disk_cut.c, and disk_damage.c that reads it. */
enum { CUT_INODES = 16, CUT_CHANGES = 64, CUT_PENDING = 1 << 16 };

struct cut_inode {
	unsigned inode;
	bool used, synced; /* synced: once, at least. */
	uint32_t next;     /* The first write that is not certain. 0: none. */
	size_t size;
	unsigned char *bytes; /* DISK_FILE_MAX */
};

struct harness_cut {
	const struct harness_disk *disk;
	size_t at;
	unsigned certain[DISK_NAMES];  /* Which inode each name is; DISK_NONE. */
	uint32_t changes[CUT_CHANGES]; /* Of names, that are not certain: creations, deletions. */
	unsigned change_count;
	uint32_t pending[CUT_PENDING]; /* Writes and truncations that are not, in their order. */
	unsigned pending_count;
	struct cut_inode inodes[CUT_INODES];
	unsigned char memory[CUT_INODES][DISK_FILE_MAX];
};

static inline const struct disk_entry *entry_of(const struct harness_cut *cut, size_t i)
{
	return &cut->disk->entries[i];
}

#endif
