/* vfs.h - the shims that book what the VFS shares between connections to the pool's account. */
/* SPDX-License-Identifier: MIT */
#ifndef POOL_VFS_H
#define POOL_VFS_H

#include <stdbool.h>

/* Register both shims (any thread, any number of times, until it succeeds). SQLITE_NOTFOUND: SQLite
 * has no VFS to wrap. */
int vfs_register(void);
/* The name to open with. */
const char *vfs_name(bool memdb);

#endif
