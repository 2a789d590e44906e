/* fault_internal.h - what the parts of faults know of each other. */
/* SPDX-License-Identifier: MIT */
#ifndef HARNESS_FAULT_INTERNAL_H
#define HARNESS_FAULT_INTERNAL_H

#include <poolproof/harness/fault.h>

#include <sqlite3.h>

/* fault.c: around what SQLite does without when memory is short. Of the calling thread. */
void fault_benign_begin(void);
void fault_benign_end(void);

/*
 * vfs.c: SQLite's VFS "unix" with some of its methods replaced in place; whoever wraps it, before
 * or after, wraps these. What is open already is not watched.
 */
enum { VFS_FILES_MAX = 512 };
struct vfs_watch {
	/* After each that succeeded; NULL: not told. file: the number of its name, which it keeps
	 * as long as the process lives; VFS_FILES_MAX - 1 is all for which there was no room. */
	void (*opened)(unsigned file, const char *name, int flags);
	void (*written)(unsigned file, const void *data, int size, sqlite3_int64 offset);
	void (*truncated)(unsigned file, sqlite3_int64 size);
	/* Before each sync, and after it with what syncing gave: others write meanwhile. */
	uint64_t (*syncing)(unsigned file);
	void (*synced)(unsigned file, uint64_t since);
	void (*deleted)(const char *name, bool synced);
};
/* Once; again it does nothing. SQLite is initialised. false: there is no VFS "unix". */
bool vfs_hook(void);
/* From here on; NULL: nobody watches. While no file is written to. */
void vfs_watch_set(const struct vfs_watch *watch);
void vfs_sleep_set(int (*sleep)(sqlite3_vfs *vfs, int us));
/* Added to SQLite's current time, in ms. */
void vfs_time_set(sqlite3_int64 (*passed_ms)(void));
/* No xSync reaches the disk: what a process' death loses is nothing of it. */
void vfs_sync_skip(bool skip);

#endif
