/* vfs.h - the shims that book what the VFS shares between connections to the pool's account. */
/* SPDX-License-Identifier: MIT */
#ifndef POOL_VFS_H
#define POOL_VFS_H

#include <stdatomic.h>
#include <stdbool.h>

#include <sqlite3.h>

struct pp_pool;

/* Register both shims (any thread, any number of times, until it succeeds). SQLITE_NOTFOUND: SQLite
 * has no VFS to wrap. */
int vfs_register(void);
/* The name to open with. */
const char *vfs_name(bool memdb);
/* Whose database a connection has open: this pool is told when SQLite makes it shorter. */
void vfs_pool_set(sqlite3 *db, struct pp_pool *pool);
/* Where to note since when it reads a snapshot of the WAL (see struct connection). */
void vfs_snapshot_set(sqlite3 *db, atomic_uint_least64_t *ms);
/* What it writes to the database is synced a portion at a time, not all at the end: other
 * connections' syncs then wait for little. */
void vfs_portions_set(sqlite3 *db);

#endif
