/* disk_damage.c - of what may be on the disk, some: each write with its fate. */
/* SPDX-License-Identifier: MIT */
#include "disk_internal.h"

#include <poolproof/harness/entropy.h>

#include <string.h>

enum fate { KEPT, DROPPED, TORN, GARBAGE, EXTENDED };

const char *harness_damage_name(unsigned damage)
{
	static const char *const names[] = {
		[HARNESS_DAMAGE_NONE] = "nothing lost",
		[HARNESS_DAMAGE_ALL_DROPPED] = "all dropped",
		[HARNESS_DAMAGE_LAST_DROPPED] = "last dropped",
		[HARNESS_DAMAGE_LAST_TORN] = "last torn",
		[HARNESS_DAMAGE_LAST_GARBAGE] = "last garbage",
		[HARNESS_DAMAGE_FIRST_DROPPED] = "first dropped",
		[HARNESS_DAMAGE_ONLY_LAST] = "only the last",
		[HARNESS_DAMAGE_NAMES_UNDONE] = "names undone",
		[HARNESS_DAMAGE_RANDOM] = "random",
	};

	return names[damage < HARNESS_DAMAGE_RANDOM ? damage : HARNESS_DAMAGE_RANDOM];
}

bool harness_cut_has(const struct harness_cut *cut, unsigned damage)
{
	switch (damage) {
	case HARNESS_DAMAGE_NONE:
		return true;
	case HARNESS_DAMAGE_NAMES_UNDONE:
		return cut->change_count > 0;
	case HARNESS_DAMAGE_LAST_DROPPED: /* Of one, that is all. */
	case HARNESS_DAMAGE_FIRST_DROPPED:
	case HARNESS_DAMAGE_ONLY_LAST:
		return cut->pending_count > 1;
	default:
		return cut->pending_count > 0;
	}
}

/* What this damage does: in percent, where it is drawn. */
struct odds {
	unsigned damage;
	int64_t dropped, odd;
};

static enum fate fate_of(const struct odds *odds, unsigned i, unsigned count,
                         struct harness_entropy *e)
{
	bool last = i + 1 == count;

	switch (odds->damage) {
	case HARNESS_DAMAGE_NONE:
	case HARNESS_DAMAGE_NAMES_UNDONE:
		return KEPT;
	case HARNESS_DAMAGE_ALL_DROPPED:
		return DROPPED;
	case HARNESS_DAMAGE_LAST_DROPPED:
		return last ? DROPPED : KEPT;
	case HARNESS_DAMAGE_LAST_TORN:
		return last ? TORN : KEPT;
	case HARNESS_DAMAGE_LAST_GARBAGE:
		return last ? GARBAGE : KEPT;
	case HARNESS_DAMAGE_FIRST_DROPPED:
		return i == 0 ? DROPPED : KEPT;
	case HARNESS_DAMAGE_ONLY_LAST:
		return last ? KEPT : DROPPED;
	default:
		if (harness_entropy_uniform(e, 0, 99) < odds->dropped)
			return DROPPED;
		if (harness_entropy_uniform(e, 0, 99) < odds->odd)
			return (enum fate)harness_entropy_uniform(e, TORN, EXTENDED);
		return KEPT;
	}
}

static struct odds odds_draw(unsigned damage, struct harness_entropy *e)
{
	static const int64_t drops[] = { 3, 20, 50, 80, 97 }, odds[] = { 0, 10, 40 };
	struct odds drawn = { .damage = damage };

	if (damage >= HARNESS_DAMAGE_RANDOM) {
		drawn.dropped = drops[harness_entropy_uniform(e, 0, 4)];
		drawn.odd = odds[harness_entropy_uniform(e, 0, 2)];
	}
	return drawn;
}

/* A sector of the file that the write touches, as a part of the write. */
struct part {
	uint64_t from, to; /* In the file. */
};

static struct part sector_part(const struct disk_entry *write, uint64_t sector)
{
	struct part part = { sector * DISK_SECTOR, (sector + 1) * DISK_SECTOR };
	uint64_t end = write->at + write->size;

	part.from = part.from > write->at ? part.from : write->at;
	part.to = part.to < end ? part.to : end;
	return part;
}

/* Some sectors of the write, at least one of them not; or, garbage, all, and some hold anything.
 * What is not in the write is left alone. */
static void write_sectors(struct image_file *file, const struct harness_cut *cut,
                          const struct disk_entry *write, bool garbage, struct harness_entropy *e)
{
	uint64_t first = write->at / DISK_SECTOR,
		 last = (write->at + write->size - 1) / DISK_SECTOR;
	uint64_t chosen = (uint64_t)harness_entropy_uniform(e, (int64_t)first, (int64_t)last);
	const unsigned char *data = cut->disk->data + write->data;
	unsigned char anything[DISK_SECTOR];

	for (uint64_t s = first; s <= last; s++) {
		struct part part = sector_part(write, s);
		bool hit = s == chosen || harness_entropy_next(e) % 4 == 0;
		size_t size = part.to - part.from;

		if (!hit) {
			image_write(file, data + (part.from - write->at), size, part.from);
		} else if (garbage) {
			for (size_t i = 0; i < size; i++)
				anything[i] = (unsigned char)(harness_entropy_next(e) >> 32);
			image_write(file, anything, size, part.from);
		}
	}
}

static void write_apply(struct image_file *file, const struct harness_cut *cut,
                        const struct disk_entry *entry, enum fate fate, struct harness_entropy *e)
{
	bool truncation = entry->kind == DISK_TRUNCATE;

	if (fate == DROPPED || (!truncation && entry->size == 0))
		return;
	if (truncation)
		image_resize(file, entry->at);
	else if (fate == TORN || fate == GARBAGE)
		write_sectors(file, cut, entry, fate == GARBAGE, e);
	else if (fate == EXTENDED && entry->at + entry->size > file->size)
		image_resize(file, entry->at + entry->size);
	else if (fate == KEPT)
		image_write(file, cut->disk->data + entry->data, entry->size, entry->at);
}

/* The names after so many of the changes that are not certain, and what is certain in them. */
static void names_apply(const struct harness_cut *cut, unsigned changes,
                        struct harness_image *image, struct image_file *ret_files[CUT_INODES])
{
	unsigned now[DISK_NAMES];

	memcpy(now, cut->certain, sizeof now);
	for (unsigned i = 0; i < changes; i++) {
		const struct disk_entry *change = entry_of(cut, cut->changes[i]);

		now[cut->disk->inodes[change->inode].name] =
			change->kind == DISK_CREATE ? change->inode : DISK_NONE;
	}
	image->file_count = 0;
	for (unsigned i = 0; i < cut->disk->name_count; i++)
		image_file(image, cut->disk->names[i])->exists = now[i] != DISK_NONE;
	for (unsigned i = 0; i < CUT_INODES; i++) {
		const struct cut_inode *inode = &cut->inodes[i];
		unsigned name = cut->disk->inodes[inode->inode].name;

		ret_files[i] = NULL;
		if (!inode->used || now[name] != inode->inode)
			continue;
		ret_files[i] = &image->files[name];
		ret_files[i]->size = inode->size;
		memcpy(ret_files[i]->bytes, inode->bytes, inode->size);
	}
}

static unsigned changes_kept(const struct harness_cut *cut, unsigned damage,
                             struct harness_entropy *e)
{
	if (damage == HARNESS_DAMAGE_ALL_DROPPED || damage == HARNESS_DAMAGE_NAMES_UNDONE)
		return 0;
	if (damage < HARNESS_DAMAGE_RANDOM)
		return cut->change_count;
	return (unsigned)harness_entropy_uniform(e, 0, cut->change_count);
}

static struct image_file *file_of(const struct harness_cut *cut,
                                  struct image_file *const files[CUT_INODES], unsigned inode)
{
	unsigned i = 0;

	while (!cut->inodes[i].used || cut->inodes[i].inode != inode)
		i++;
	return files[i];
}

uint64_t harness_cut_image(const struct harness_cut *cut, unsigned damage,
                           struct harness_entropy *e, struct harness_image *image)
{
	struct odds odds = odds_draw(damage, e);
	unsigned changes = changes_kept(cut, damage, e);
	struct image_file *files[CUT_INODES];
	uint64_t digest = changes + 1;

	names_apply(cut, changes, image, files);
	for (unsigned i = 0; i < cut->pending_count; i++) {
		const struct disk_entry *entry = entry_of(cut, cut->pending[i]);
		enum fate fate = fate_of(&odds, i, cut->pending_count, e);
		struct image_file *file = file_of(cut, files, entry->inode);

		digest = (digest ^ fate) * 0x9e3779b97f4a7c15u;
		if (file != NULL)
			write_apply(file, cut, entry, fate, e);
	}
	return digest;
}

/* --- Defects that are planted ------------------------------------------------------------- */

static const char *const plant_names[] = {
	[HARNESS_PLANT_NONE] = "none",
	[HARNESS_PLANT_SYNC_DROPPED] = "sync-dropped",
	[HARNESS_PLANT_JOURNAL_SYNC_DROPPED] = "journal-sync-dropped",
	[HARNESS_PLANT_DATABASE_SYNC_DROPPED] = "database-sync-dropped",
	[HARNESS_PLANT_COMMIT_TORN] = "commit-torn",
	[HARNESS_PLANT_ONE_SYNC_DROPPED] = "one-sync-dropped",
};

const char *harness_plant_name(enum harness_disk_plant plant)
{
	return plant_names[plant];
}

bool harness_plant_named(const char *name, enum harness_disk_plant *ret_plant)
{
	for (unsigned i = 0; i < sizeof plant_names / sizeof *plant_names; i++)
		if (strcmp(plant_names[i], name) == 0) {
			*ret_plant = (enum harness_disk_plant)i;
			return true;
		}
	return false;
}
