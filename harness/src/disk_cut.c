/*
 * disk_cut.c - the power goes at a place of a recording: what is on the disk for certain, and what
 * may be.
 *
 * To know before reading: a cut keeps the certain content of each file and moves forwards with the
 * syncs it meets; so an image is a copy of that and the few writes after it, each with its fate. A
 * file that was deleted is kept until its folder was synced: it may come back. Where nobody ever
 * syncs a folder the oldest change is taken for certain at last, as a disk writes it some day.
 */
/* SPDX-License-Identifier: MIT */
#include "disk_internal.h"
#include "internal.h"

#include <assert.h>
#include <string.h>

struct harness_cut *harness_cut_new(const struct harness_disk *disk)
{
	struct harness_cut *cut = pages_take(sizeof *cut);

	if (cut == NULL)
		return NULL;
	cut->disk = disk;
	for (unsigned i = 0; i < CUT_INODES; i++)
		cut->inodes[i].bytes = cut->memory[i];
	harness_cut_move(cut, 0);
	return cut;
}

void harness_cut_free(struct harness_cut *cut)
{
	pages_give(cut, sizeof *cut);
}

static struct cut_inode *inode_find(struct harness_cut *cut, unsigned inode)
{
	for (unsigned i = 0; i < CUT_INODES; i++)
		if (cut->inodes[i].used && cut->inodes[i].inode == inode)
			return &cut->inodes[i];
	return NULL;
}

/* Changes of names before this place are. */
static void names_settle(struct harness_cut *cut, size_t before)
{
	unsigned count = 0;

	for (; count < cut->change_count && cut->changes[count] < before; count++) {
		const struct disk_entry *change = entry_of(cut, cut->changes[count]);
		unsigned name = cut->disk->inodes[change->inode].name;

		cut->certain[name] = change->kind == DISK_CREATE ? change->inode : DISK_NONE;
		if (change->kind == DISK_DELETE)
			inode_find(cut, change->inode)->used = false;
	}
	memmove(cut->changes, cut->changes + count,
	        (cut->change_count - count) * sizeof *cut->changes);
	cut->change_count -= count;
}

static struct cut_inode *inode_free(struct harness_cut *cut)
{
	for (unsigned i = 0; i < CUT_INODES; i++)
		if (!cut->inodes[i].used)
			return &cut->inodes[i];
	return NULL;
}

static void inode_begin(struct harness_cut *cut, unsigned number)
{
	struct cut_inode *inode;

	while ((inode = inode_free(cut)) == NULL) {
		assert(cut->change_count > 0); /* There are more places than names. */
		names_settle(cut, cut->changes[0] + 1);
	}
	inode->inode = number;
	inode->used = true;
	inode->synced = false;
	inode->size = 0;
	inode->next = cut->disk->inodes[number].first;
}

static void write_settle(const struct harness_cut *cut, struct cut_inode *inode)
{
	const struct disk_entry *entry = entry_of(cut, inode->next);
	struct image_file file = { .size = inode->size, .bytes = inode->bytes };

	if (entry->kind == DISK_WRITE)
		image_write(&file, cut->disk->data + entry->data, entry->size, entry->at);
	else
		image_resize(&file, entry->at);
	inode->size = file.size;
	inode->next = entry->next;
}

static bool syncs_folder(const struct harness_cut *cut, unsigned inode)
{
	for (unsigned i = 0; i < cut->change_count; i++) {
		const struct disk_entry *change = entry_of(cut, cut->changes[i]);

		if (change->kind == DISK_CREATE && change->inode == inode)
			return change->flag;
	}
	return true; /* Its name is certain, but SQLite does not know it. */
}

static void sync_settle(struct harness_cut *cut, const struct disk_entry *sync)
{
	struct cut_inode *inode = inode_find(cut, sync->inode);

	if (inode == NULL)
		return;
	while (inode->next != 0 && inode->next < sync->since)
		write_settle(cut, inode);
	if (!inode->synced && syncs_folder(cut, sync->inode))
		names_settle(cut, sync->since);
	inode->synced = true;
}

static void change_add(struct harness_cut *cut)
{
	if (cut->change_count == CUT_CHANGES)
		names_settle(cut, cut->changes[0] + 1);
	cut->changes[cut->change_count++] = (uint32_t)cut->at;
}

static void step(struct harness_cut *cut)
{
	const struct disk_entry *entry = entry_of(cut, cut->at);

	switch (entry->kind) {
	case DISK_CREATE:
		inode_begin(cut, entry->inode);
		change_add(cut);
		break;
	case DISK_DELETE:
		change_add(cut);
		if (entry->flag)
			names_settle(cut, cut->at + 1);
		break;
	case DISK_SYNC:
		sync_settle(cut, entry);
		break;
	default:
		break; /* A write is found by its file. */
	}
	cut->at++;
}

static void pending_collect(struct harness_cut *cut)
{
	unsigned count = 0;

	for (unsigned i = 0; i < CUT_INODES; i++) {
		uint32_t at = cut->inodes[i].used ? cut->inodes[i].next : 0;

		for (; at != 0 && at < cut->at; at = entry_of(cut, at)->next) {
			unsigned to = count++;

			assert(count < CUT_PENDING);
			for (; to > 0 && cut->pending[to - 1] > at; to--)
				cut->pending[to] = cut->pending[to - 1];
			cut->pending[to] = at;
		}
	}
	cut->pending_count = count;
}

void harness_cut_move(struct harness_cut *cut, size_t place)
{
	if (place < cut->at || place == 0) {
		cut->at = cut->change_count = 0;
		for (unsigned i = 0; i < CUT_INODES; i++)
			cut->inodes[i].used = false;
		for (unsigned i = 0; i < DISK_NAMES; i++)
			cut->certain[i] = DISK_NONE;
	}
	while (cut->at < place)
		step(cut);
	pending_collect(cut);
}
