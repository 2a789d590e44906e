/*
 * vfs.c - thin VFS shims over the default VFS and over memdb.
 *
 * To know before reading: connections to one file share structures inside the VFS (inode and
 * WAL-index records, parked descriptors, memdb's store), allocated by whichever connection came
 * first and freed by whichever goes last. What is allocated inside xOpen, xClose, xShmMap,
 * xShmUnmap, xWrite and xTruncate is therefore booked to the pool's account, and a connection's
 * own residue is exactly zero. Everything else is passed on as it is, to the real VFS by its own
 * pointer: it may be part of something larger.
 */
/* SPDX-License-Identifier: MIT */
#include "internal.h"
#include "vfs.h"

#include <stdio.h>
#include <unistd.h>

/* Of sqlite3_file_control(); those below 100 are SQLite's. */
enum { CONTROL_POOL = 0x7070, CONTROL_SNAPSHOT, CONTROL_PORTIONS };

enum {
	PORTION_BYTES = 128 * 1024, /* To write between two syncs of upkeep's. */
	PORTION_BYTES_MAX = 1024 * 1024 * 1024,
	PORTION_NS = 2000000 /* Where a sync takes longer, there are fewer. */
};

struct file {
	sqlite3_file base;
	struct account *account; /* The pool's; NULL for connections that belong to no pool. */
	struct pp_pool *pool;    /* Whose database it is; NULL for journals and the like. */
	atomic_uint_least64_t *snapshot_ms; /* Likewise: its connection's. */
	unsigned portion, unsynced; /* Bytes. portion is 0 where SQLite alone says when to sync. */
	int level;                  /* Its lock, as far as it was granted. */
	bool recovers;              /* Counted in recoveries.begun, and not in .over. */
	const char *name;           /* SQLite's, as long as it is open; NULL: a temporary file. */
	sqlite3_file real[];        /* Behind it in the same allocation. */
};

struct shim {
	sqlite3_vfs vfs;
	sqlite3_vfs *real;
};

static struct shim file_shim, memdb_shim;

/* --- Files -------------------------------------------------------------------------------- */

static sqlite3_file *real_of(sqlite3_file *file)
{
	return ((struct file *)file)->real;
}

static struct account *account_of(sqlite3_file *file)
{
	return ((struct file *)file)->account;
}

/*
 * Who finds a journal beside a file that nobody has RESERVED is to roll it back, and goes from
 * SHARED to EXCLUSIVE at once. SQLite's unix VFS (3.40) gives him PENDING on the way, and where
 * somebody else has SHARED no more than that, until he lets go. If this somebody, in the same
 * process, looks in between for RESERVED, he is told yes for PENDING, takes the journal for one in
 * use, and reads what is half rolled back. So for him it is no: he wants EXCLUSIVE then himself,
 * which he gets when he is alone, and else he is busy like anybody.
 *
 * Counted in this order: begun, the lock asked for, and given up, over. So whoever reads over,
 * asks, and then finds begun to be the same has asked while nobody was at it. The VFS's own mutex
 * is between begun and what he is told, and between the giving up and what he is told lies over,
 * read before: release and acquire. Of all files together: a no where it was another file's is but
 * a busy.
 */
static struct {
	atomic_uint begun, over;
} recoveries;

static void recovery_end(struct file *f)
{
	if (f->recovers)
		atomic_fetch_add_explicit(&recoveries.over, 1, memory_order_release);
	f->recovers = false;
}

static int file_close(sqlite3_file *file)
{
	struct account *before = account_enter(account_of(file));
	int rc = real_of(file)->pMethods->xClose(real_of(file));

	recovery_end((struct file *)file);
	account_enter(before);
	return rc;
}

static int file_read(sqlite3_file *file, void *buffer, int size, sqlite3_int64 offset)
{
	return real_of(file)->pMethods->xRead(real_of(file), buffer, size, offset);
}

/* Its error is the write's: the kernel tells of a page that could not be written only once. */
static int sync_portion(struct file *f)
{
	uint64_t start = clock_ns(), took;
	int rc = f->real->pMethods->xSync(f->real, SQLITE_SYNC_NORMAL | SQLITE_SYNC_DATAONLY);

	took = clock_ns() - start;
	if (took > PORTION_NS && f->portion < PORTION_BYTES_MAX)
		f->portion *= 2;
	else if (took < PORTION_NS / 4 && f->portion > PORTION_BYTES)
		f->portion /= 2;
	f->unsynced = 0;
	return rc;
}

static int file_write(sqlite3_file *file, const void *buffer, int size, sqlite3_int64 offset)
{
	struct file *f = (struct file *)file;
	struct account *before = account_enter(f->account);
	int rc = f->real->pMethods->xWrite(f->real, buffer, size, offset);

	account_enter(before);
	if (rc != SQLITE_OK || f->portion == 0)
		return rc;
	f->unsynced += (unsigned)size;
	return f->unsynced < f->portion ? SQLITE_OK : sync_portion(f);
}

/* A whole checkpoint and VACUUM say how long the database is: its pool must not take it for
 * somebody else's doing. */
static int file_truncate(sqlite3_file *file, sqlite3_int64 size)
{
	struct account *before = account_enter(account_of(file));
	int rc = real_of(file)->pMethods->xTruncate(real_of(file), size);
	struct pp_pool *pool = ((struct file *)file)->pool;

	account_enter(before);
	if (rc == SQLITE_OK && pool != NULL)
		health_shrunk(pool, (uint64_t)size);
	return rc;
}

static int file_sync(sqlite3_file *file, int flags)
{
	((struct file *)file)->unsynced = 0;
	return real_of(file)->pMethods->xSync(real_of(file), flags);
}

static int file_size(sqlite3_file *file, sqlite3_int64 *ret_size)
{
	return real_of(file)->pMethods->xFileSize(real_of(file), ret_size);
}

static int file_lock(sqlite3_file *file, int level)
{
	struct file *f = (struct file *)file;
	int rc;

	if (level == SQLITE_LOCK_EXCLUSIVE && f->level == SQLITE_LOCK_SHARED && !f->recovers) {
		f->recovers = true;
		atomic_fetch_add_explicit(&recoveries.begun, 1, memory_order_relaxed);
	}
	rc = f->real->pMethods->xLock(f->real, level);
	if (rc != SQLITE_OK)
		return rc;
	f->level = level;
	recovery_end(f); /* Nobody else has SHARED. */
	return SQLITE_OK;
}

static int file_unlock(sqlite3_file *file, int level)
{
	struct file *f = (struct file *)file;
	int rc = f->real->pMethods->xUnlock(f->real, level);

	f->level = level;
	if (rc == SQLITE_OK)
		recovery_end(f);
	return rc;
}

static int file_check_reserved(sqlite3_file *file, int *ret_reserved)
{
	unsigned over = atomic_load_explicit(&recoveries.over, memory_order_acquire);
	int rc = real_of(file)->pMethods->xCheckReservedLock(real_of(file), ret_reserved);

	if (rc == SQLITE_OK &&
	    atomic_load_explicit(&recoveries.begun, memory_order_relaxed) != over)
		*ret_reserved = 0;
	return rc;
}

static int file_control(sqlite3_file *file, int op, void *arg)
{
	if (op == CONTROL_POOL) {
		((struct file *)file)->pool = arg;
		return SQLITE_OK;
	}
	if (op == CONTROL_SNAPSHOT) {
		((struct file *)file)->snapshot_ms = arg;
		return SQLITE_OK;
	}
	if (op == CONTROL_PORTIONS) {
		((struct file *)file)->portion = PORTION_BYTES;
		return SQLITE_OK;
	}
	return real_of(file)->pMethods->xFileControl(real_of(file), op, arg);
}

static int file_sector_size(sqlite3_file *file)
{
	return real_of(file)->pMethods->xSectorSize(real_of(file));
}

static int file_characteristics(sqlite3_file *file)
{
	return real_of(file)->pMethods->xDeviceCharacteristics(real_of(file));
}

static bool index_may_be_written(const struct file *f)
{
	char index[PATH_MAX + 8];

	snprintf(index, sizeof index, "%s-shm", f->name);
	return access(index, W_OK) == 0;
}

/* Where open() fails for a moment SQLite takes the WAL's index for reading only. All connections
 * of the process share it, and none could write as long as there is any: so this one is refused,
 * and whoever is the first to come next opens it again. */
static int file_shm_map(sqlite3_file *file, int region, int size, int extend, void volatile **ret)
{
	struct account *before = account_enter(account_of(file));
	int rc = real_of(file)->pMethods->xShmMap(real_of(file), region, size, extend, ret);

	account_enter(before);
	if ((rc & 0xff) == SQLITE_READONLY && index_may_be_written((struct file *)file))
		return SQLITE_CANTOPEN;
	return rc;
}

/* Of the WAL index' locks only readers' are shared, but for one that is held in passing: whoever
 * has a read lock has a snapshot, and no checkpoint goes past it. */
static int file_shm_lock(sqlite3_file *file, int offset, int count, int flags)
{
	atomic_uint_least64_t *ms = ((struct file *)file)->snapshot_ms;
	int rc = real_of(file)->pMethods->xShmLock(real_of(file), offset, count, flags);

	if (rc == SQLITE_OK && ms != NULL && (flags & SQLITE_SHM_SHARED) != 0)
		atomic_store_explicit(ms, (flags & SQLITE_SHM_LOCK) != 0 ? clock_coarse_ms() : 0,
		                      memory_order_relaxed);
	return rc;
}

static void file_shm_barrier(sqlite3_file *file)
{
	real_of(file)->pMethods->xShmBarrier(real_of(file));
}

static int file_shm_unmap(sqlite3_file *file, int remove)
{
	struct account *before = account_enter(account_of(file));
	int rc = real_of(file)->pMethods->xShmUnmap(real_of(file), remove);

	account_enter(before);
	return rc;
}

static int file_fetch(sqlite3_file *file, sqlite3_int64 offset, int size, void **ret)
{
	return real_of(file)->pMethods->xFetch(real_of(file), offset, size, ret);
}

static int file_unfetch(sqlite3_file *file, sqlite3_int64 offset, void *page)
{
	return real_of(file)->pMethods->xUnfetch(real_of(file), offset, page);
}

/* SQLite asks what a file can do by the version and by whether a method is there: [with
 * xFetch][with xShmMap]. */
#define METHODS_OF_ALL_FILES                                                                   \
	.xClose = file_close, .xRead = file_read, .xWrite = file_write,                        \
	.xTruncate = file_truncate, .xSync = file_sync, .xFileSize = file_size,                \
	.xLock = file_lock, .xUnlock = file_unlock, .xCheckReservedLock = file_check_reserved, \
	.xFileControl = file_control, .xSectorSize = file_sector_size,                         \
	.xDeviceCharacteristics = file_characteristics
#define METHODS_OF_SHARED_MEMORY                                                             \
	.xShmMap = file_shm_map, .xShmLock = file_shm_lock, .xShmBarrier = file_shm_barrier, \
	.xShmUnmap = file_shm_unmap
#define METHODS_OF_MAPPED_PAGES .xFetch = file_fetch, .xUnfetch = file_unfetch

static const sqlite3_io_methods methods[2][2] = {
	{
		{ .iVersion = 1, METHODS_OF_ALL_FILES },
		{ .iVersion = 2, METHODS_OF_ALL_FILES, METHODS_OF_SHARED_MEMORY },
	},
	{
		{ .iVersion = 3, METHODS_OF_ALL_FILES, METHODS_OF_MAPPED_PAGES },
		{ .iVersion = 3,
	          METHODS_OF_ALL_FILES,
	          METHODS_OF_SHARED_MEMORY,
	          METHODS_OF_MAPPED_PAGES },
	},
};

static const sqlite3_io_methods *methods_like(const sqlite3_io_methods *real)
{
	return &methods[real->iVersion >= 3][real->iVersion >= 2 && real->xShmMap != NULL];
}

/* --- The VFS itself ----------------------------------------------------------------------- */

static sqlite3_vfs *real_vfs(sqlite3_vfs *vfs)
{
	return ((struct shim *)vfs)->real;
}

static int vfs_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *base, int flags,
                    int *ret_flags)
{
	sqlite3_vfs *real = real_vfs(vfs);
	struct file *file = (struct file *)base;
	struct account *before = account_current;
	int rc;

	file->base.pMethods = NULL;
	file->account = before != NULL && before->parent != NULL ? before->parent : before;
	file->pool = NULL;
	file->snapshot_ms = NULL;
	file->portion = file->unsynced = 0;
	file->level = SQLITE_LOCK_NONE;
	file->recovers = false;
	file->name = name;
	file->real->pMethods = NULL;
	account_enter(file->account);
	rc = real->xOpen(real, name, file->real, flags, ret_flags);
	if (rc != SQLITE_OK && file->real->pMethods != NULL)
		file->real->pMethods->xClose(file->real);
	account_enter(before);
	if (rc == SQLITE_OK)
		file->base.pMethods = methods_like(file->real->pMethods);
	return rc;
}

static int vfs_delete(sqlite3_vfs *vfs, const char *name, int sync)
{
	return real_vfs(vfs)->xDelete(real_vfs(vfs), name, sync);
}

static int vfs_access(sqlite3_vfs *vfs, const char *name, int flags, int *ret)
{
	return real_vfs(vfs)->xAccess(real_vfs(vfs), name, flags, ret);
}

static int vfs_full_pathname(sqlite3_vfs *vfs, const char *name, int size, char *ret)
{
	return real_vfs(vfs)->xFullPathname(real_vfs(vfs), name, size, ret);
}

static void *vfs_dl_open(sqlite3_vfs *vfs, const char *name)
{
	return real_vfs(vfs)->xDlOpen(real_vfs(vfs), name);
}

static void vfs_dl_error(sqlite3_vfs *vfs, int size, char *ret)
{
	real_vfs(vfs)->xDlError(real_vfs(vfs), size, ret);
}

static void (*vfs_dl_sym(sqlite3_vfs *vfs, void *library, const char *symbol))(void)
{
	return real_vfs(vfs)->xDlSym(real_vfs(vfs), library, symbol);
}

static void vfs_dl_close(sqlite3_vfs *vfs, void *library)
{
	real_vfs(vfs)->xDlClose(real_vfs(vfs), library);
}

static int vfs_randomness(sqlite3_vfs *vfs, int size, char *ret)
{
	return real_vfs(vfs)->xRandomness(real_vfs(vfs), size, ret);
}

static int vfs_sleep(sqlite3_vfs *vfs, int us)
{
	return real_vfs(vfs)->xSleep(real_vfs(vfs), us);
}

static int vfs_current_time(sqlite3_vfs *vfs, double *ret)
{
	return real_vfs(vfs)->xCurrentTime(real_vfs(vfs), ret);
}

static int vfs_last_error(sqlite3_vfs *vfs, int size, char *ret)
{
	return real_vfs(vfs)->xGetLastError(real_vfs(vfs), size, ret);
}

static int vfs_current_time_ms(sqlite3_vfs *vfs, sqlite3_int64 *ret)
{
	return real_vfs(vfs)->xCurrentTimeInt64(real_vfs(vfs), ret);
}

static int vfs_system_call_set(sqlite3_vfs *vfs, const char *name, sqlite3_syscall_ptr call)
{
	return real_vfs(vfs)->xSetSystemCall(real_vfs(vfs), name, call);
}

static sqlite3_syscall_ptr vfs_system_call_get(sqlite3_vfs *vfs, const char *name)
{
	return real_vfs(vfs)->xGetSystemCall(real_vfs(vfs), name);
}

static const char *vfs_system_call_next(sqlite3_vfs *vfs, const char *name)
{
	return real_vfs(vfs)->xNextSystemCall(real_vfs(vfs), name);
}

/* What the real one has not, the shim has not: SQLite then does without, or by another. The struct
 * of an old version ends early. */
#define LIKE(real, method, ours) .method = (real)->method != NULL ? (ours) : NULL

static sqlite3_vfs vfs_like(const sqlite3_vfs *real)
{
	sqlite3_vfs vfs = {
		.iVersion = real->iVersion < 3 ? real->iVersion : 3,
		.szOsFile = (int)sizeof(struct file) + real->szOsFile,
		.mxPathname = real->mxPathname,
		.xOpen = vfs_open,
		.xDelete = vfs_delete,
		.xAccess = vfs_access,
		.xFullPathname = vfs_full_pathname,
		LIKE(real, xDlOpen, vfs_dl_open),
		LIKE(real, xDlError, vfs_dl_error),
		LIKE(real, xDlSym, vfs_dl_sym),
		LIKE(real, xDlClose, vfs_dl_close),
		.xRandomness = vfs_randomness,
		.xSleep = vfs_sleep,
		LIKE(real, xCurrentTime, vfs_current_time),
		LIKE(real, xGetLastError, vfs_last_error),
	};

	if (real->iVersion >= 2 && real->xCurrentTimeInt64 != NULL)
		vfs.xCurrentTimeInt64 = vfs_current_time_ms;
	if (real->iVersion >= 3 && real->xSetSystemCall != NULL) {
		vfs.xSetSystemCall = vfs_system_call_set;
		vfs.xGetSystemCall = vfs_system_call_get;
		vfs.xNextSystemCall = vfs_system_call_next;
	}
	return vfs;
}

static int shim_register(struct shim *shim, const char *name, const char *real_name)
{
	shim->real = sqlite3_vfs_find(real_name);
	if (shim->real == NULL)
		return SQLITE_NOTFOUND;
	shim->vfs = vfs_like(shim->real);
	shim->vfs.zName = name;
	return sqlite3_vfs_register(&shim->vfs, 0);
}

/* SQLite calls under this lock, which only the first pp_open() waits for: a shim that is in use
 * must not be written again. Initialising may fail for want of memory; the next open tries again.
 */
static pthread_mutex_t register_mutex = PTHREAD_MUTEX_INITIALIZER;

/* In a child: a thread of the parent's may have been registering. */
void vfs_after_fork(void)
{
	pthread_mutex_init(&register_mutex, NULL);
}

int vfs_register(void)
{
	static bool done;
	int rc = SQLITE_OK;

	pthread_mutex_lock(&register_mutex);
	if (!done) {
		rc = sqlite3_initialize();
		if (rc == SQLITE_OK)
			rc = shim_register(&file_shim, "poolproof", NULL);
		if (rc == SQLITE_OK)
			rc = shim_register(&memdb_shim, "poolproof-memdb", "memdb");
		done = rc == SQLITE_OK;
		if (done)
			handle_learn();
	}
	pthread_mutex_unlock(&register_mutex);
	return rc;
}

const char *vfs_name(bool memdb)
{
	return memdb ? memdb_shim.vfs.zName : file_shim.vfs.zName;
}

void vfs_pool_set(sqlite3 *db, struct pp_pool *pool)
{
	sqlite3_file_control(db, "main", CONTROL_POOL, pool);
}

void vfs_snapshot_set(sqlite3 *db, atomic_uint_least64_t *ms)
{
	sqlite3_file_control(db, "main", CONTROL_SNAPSHOT, ms);
}

void vfs_portions_set(sqlite3 *db)
{
	sqlite3_file_control(db, "main", CONTROL_PORTIONS, NULL);
}
