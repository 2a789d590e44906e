/*
 * poolproof/harness/disk.h - power loss, by record and replay: what SQLite wrote and synced, and
 * every disk that could be left of it.
 *
 *     harness_disk_begin(disk, folder, 0);             // before the files in folder are opened
 *     ... write; harness_disk_mark(disk, thread, n, true) after each that was acknowledged ...
 *     harness_disk_end(disk);                          // after they are closed
 *     harness_walk_begin(&walk, cut, states, UINT_MAX, 0);
 *     while (harness_walk_next(&walk)) {               // the power goes at walk.place
 *             harness_cut_image(cut, walk.damage, &entropy, image);
 *             harness_image_open(image, "some.db", &db);
 *             ... is it as it must be? ...
 *     }
 *
 * The rules   What was logged for a file before its last sync began is on the disk when that has
 *             ended. Of what came after, any part may be: later ones without earlier ones, some of
 *             a write's sectors (512 bytes), garbage in them, a longer file without its content.
 *             Bytes that nobody wrote to stay as they are (SQLITE_IOCAP_POWERSAFE_OVERWRITE).
 *             A file's name is there, or gone, for certain when its folder was synced: SQLite does
 *             so with a journal's first sync, and with a deletion when it asks for it. Until then
 *             names change in the order in which they were changed, up to any of them.
 * Threads     One disk is recorded at a time, by any threads: one mutex gives the order. The rest
 *             is one thread's; an image is the thread's that opened it.
 * Memory      All of it is mmap()ed, so no census sees it.
 * Errors      A recording that has no room says so (harness_disk_overflowed()) and is of no use.
 *
 * After SQLite's test6.c (a crash VFS) and the record and replay of dm-log-writes and ALICE.
 */
/* SPDX-License-Identifier: MIT */
#ifndef POOLPROOF_HARNESS_DISK_H
#define POOLPROOF_HARNESS_DISK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct harness_entropy;
struct sqlite3;

/* --- Recording ---------------------------------------------------------------------------- */

struct harness_disk;

/* NULL: no memory. */
struct harness_disk *harness_disk_new(void);
void harness_disk_free(struct harness_disk *disk);

/*
 * Forgets what disk had, and records the files of this folder, with what is in them now as synced.
 * They are not open. Only what goes through SQLite's VFS "unix" is seen, and no shared memory.
 * No sync is done, but noted. It takes sync_us, in which other threads come to share the next one;
 * 0: no time. false: there is no such VFS, or the folder cannot be read.
 */
bool harness_disk_begin(struct harness_disk *disk, const char *folder, unsigned sync_us);
/* Nobody writes any more. */
void harness_disk_end(struct harness_disk *disk);
bool harness_disk_overflowed(const struct harness_disk *disk);

/* Write n of this thread has ended: well, or as a failure. Any thread. */
void harness_disk_mark(struct harness_disk *disk, unsigned thread, unsigned n, bool acknowledged);

/* A defect that is to be found, in what is recorded from now on. */
enum harness_disk_plant {
	HARNESS_PLANT_NONE,
	HARNESS_PLANT_SYNC_DROPPED,          /* No sync reaches the disk, and all say they did. */
	HARNESS_PLANT_JOURNAL_SYNC_DROPPED,  /* None of a WAL or a rollback journal does; */
	HARNESS_PLANT_DATABASE_SYNC_DROPPED, /* or of a database. */
	HARNESS_PLANT_COMMIT_TORN, /* Of the last write before each sync, the first half. */
	/* One sync only, of the eighth acknowledged write or the first after it that has one of its
	 * own: what makes a commit durable, of a WAL or of the folder. */
	HARNESS_PLANT_ONE_SYNC_DROPPED
};
void harness_disk_plant(struct harness_disk *disk, enum harness_disk_plant plant);
/* "sync-dropped" and so on, with none being "none". */
const char *harness_plant_name(enum harness_disk_plant plant);
/* false: no plant has this name. */
bool harness_plant_named(const char *name, enum harness_disk_plant *ret_plant);

/* Places where the power can go: first, before anything was done, to length, after everything. */
size_t harness_disk_first(const struct harness_disk *disk);
size_t harness_disk_length(const struct harness_disk *disk);

struct harness_disk_mark {
	unsigned thread, n;
	bool acknowledged;
};
/* false: what is at this place is no mark. */
bool harness_disk_mark_at(const struct harness_disk *disk, size_t at,
                          struct harness_disk_mark *ret_mark);

/* --- What is left ------------------------------------------------------------------------- */

struct harness_image;
struct harness_cut;

/* The first damages are these; from HARNESS_DAMAGE_RANDOM on they are drawn. */
enum harness_damage {
	HARNESS_DAMAGE_NONE,          /* All of it is there, as after the death of the process. */
	HARNESS_DAMAGE_ALL_DROPPED,   /* What was synced, and no name more. */
	HARNESS_DAMAGE_LAST_DROPPED,  /* All but the last write. */
	HARNESS_DAMAGE_LAST_TORN,     /* Of which some sectors are there ... */
	HARNESS_DAMAGE_LAST_GARBAGE,  /* ... or hold anything. */
	HARNESS_DAMAGE_FIRST_DROPPED, /* All but the first. */
	HARNESS_DAMAGE_ONLY_LAST,     /* The last before all others. */
	HARNESS_DAMAGE_NAMES_UNDONE,  /* Every write; files made are not there, deleted ones are. */
	HARNESS_DAMAGE_RANDOM
};
/* "last torn"; "random". */
const char *harness_damage_name(unsigned damage);

/* A place in a recording. NULL: no memory. */
struct harness_cut *harness_cut_new(const struct harness_disk *disk);
void harness_cut_free(struct harness_cut *cut);
/* To this place; forwards it is cheap. Back to the beginning after disk began anew: at 0. */
void harness_cut_move(struct harness_cut *cut, size_t place);
/* Whether this damage differs here from those before it. */
bool harness_cut_has(const struct harness_cut *cut, unsigned damage);
/* Makes image the disk with this damage. Returns a digest of what was drawn. */
uint64_t harness_cut_image(const struct harness_cut *cut, unsigned damage,
                           struct harness_entropy *entropy, struct harness_image *image);

/*
 * Disks of a recording one after the other: each damage that has a name, at each place; then one
 * that is drawn, at each place, until there are so many states, or passes (the named ones are the
 * first). Where states are few, places are left out; other ones with another shift.
 *
 *     harness_walk_begin(&walk, cut, 4000, UINT_MAX, 0);
 *     while (harness_walk_next(&walk))
 *             harness_cut_image(cut, walk.damage, &entropy, image);  // at walk.place
 */
struct harness_walk {
	size_t place;
	unsigned damage;
	/* The walk's own. */
	struct harness_cut *cut;
	size_t step;
	unsigned states, passes, shift, pass, from, next, found;
};
void harness_walk_begin(struct harness_walk *walk, struct harness_cut *cut, unsigned states,
                        unsigned passes, unsigned shift);
bool harness_walk_next(struct harness_walk *walk);

/* Files in memory. NULL: no memory. */
struct harness_image *harness_image_new(void);
void harness_image_free(struct harness_image *image);
/* Writes its files into this folder, which is made. false: errno says why. */
bool harness_image_save(const struct harness_image *image, const char *folder);

/*
 * As sqlite3_open_v2(), of a file of the image, and in exclusive locking mode: the VFS
 * ("harness-disk") has no shared memory, and SQLite reads a WAL without it then. The image is the
 * calling thread's, until it opens another one. What is written changes the image. Ends as
 * sqlite3_open_v2() does: *ret_db is to be closed in any case.
 */
int harness_image_open(struct harness_image *image, const char *name, struct sqlite3 **ret_db);
/* From here on, what this image's files are written is recorded: for power that goes again while
 * the first loss is recovered from. NULL: no more. */
void harness_image_record(struct harness_image *image, struct harness_disk *disk);

/* All three together. false: no memory, and there is none of them. */
struct harness_power {
	struct harness_disk *disk;
	struct harness_cut *cut;
	struct harness_image *image;
};
bool harness_power_init(struct harness_power *power);
void harness_power_done(struct harness_power *power);

#endif
