/*
 * health.c - the file under the pool, and whether idle connections are well.
 *
 * To know before reading: SQLite has opened a file, and goes on with it when its path names another
 * one or none; in WAL mode a commit into a deleted file succeeds. So the pool compares what is at
 * its path with what it opened, by stat(): to open and close the file would drop SQLite's locks.
 * While a connection has a file or its WAL open, its inode's number is not used again, so the
 * number says which file it is.
 *
 * pool->identity and which WAL is ours change only while somebody holds both lanes and keep_mutex:
 * who holds a slot or keep_mutex may read them.
 */
/* SPDX-License-Identifier: MIT */
#include "internal.h"
#include "point.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	RETRY_MS = 100, /* Between two attempts to open anew what is at the path. */
	MAY_WRITE = S_IWUSR | S_IWGRP | S_IWOTH
};

/* --- The file as it was -------------------------------------------------------------------- */

bool health_is_ours(const struct pp_pool *pool, const struct stat *file)
{
	return file->st_dev == pool->identity.device && file->st_ino == pool->identity.inode;
}

/* Of a file beside the database; false: there is none. */
static bool stat_beside(const struct pp_pool *pool, const char *suffix, char *name,
                        size_t name_size, struct stat *ret)
{
	snprintf(name, name_size, "%s%s", pool->path, suffix);
	return stat(name, ret) == 0;
}

void health_forget_wal(struct pp_pool *pool)
{
	atomic_store_explicit(&pool->health.wal_inode, 0, memory_order_relaxed);
}

void health_init(struct pp_pool *pool)
{
	struct health *h = &pool->health;

	atomic_store_explicit(&h->file_bytes, 0, memory_order_relaxed);
	atomic_store_explicit(&h->mode, 0, memory_order_relaxed);
	atomic_store_explicit(&h->looked_ms, 0, memory_order_relaxed);
	h->wal_device = 0;
	health_forget_wal(pool);
	h->due_ms = 0;
	glance_init(pool);
}

static uint64_t due_ms(const struct pp_pool *pool, uint64_t now_ms)
{
	return pool->config.health_ms == PP_NEVER ? UINT64_MAX : now_ms + pool->config.health_ms;
}

void health_note(struct pp_pool *pool)
{
	struct health *h = &pool->health;
	struct stat file, wal;
	char name[PATH_MAX + 8];

	h->due_ms = due_ms(pool, clock_coarse_ms());
	if (pool->identity.memdb || stat(pool->path, &file) != 0 || !health_is_ours(pool, &file))
		return; /* The next look says so. */
	atomic_store_explicit(&h->file_bytes, (uint64_t)file.st_size, memory_order_relaxed);
	atomic_store_explicit(&h->mode, file.st_mode, memory_order_relaxed);
	glance_open(pool);
	if (!stat_beside(pool, "-wal", name, sizeof name, &wal))
		wal = (struct stat){ 0 };
	h->wal_device = wal.st_dev;
	atomic_store_explicit(&h->wal_inode, wal.st_ino, memory_order_relaxed);
}

void health_shrunk(struct pp_pool *pool, uint64_t bytes)
{
	atomic_store_explicit(&pool->health.file_bytes, bytes, memory_order_relaxed);
}

/* --- Looking at it ------------------------------------------------------------------------- */

/* Of a row that violates a constraint it is told too, which is no business of ours. */
static int note_lost_page(void *context, int columns, char **values, char **names)
{
	(void)columns, (void)names;
	*(bool *)context = values[0] != NULL && strncmp(values[0], "***", 3) == 0;
	return 0;
}

/*
 * The file is shorter than it was. That is right when the database has become smaller and somebody,
 * in another process too, has checkpointed that. It is also right when its end is still in the WAL;
 * only a look at every page, none of them cached, tells whether one is missing.
 * SQLITE_OK: nothing is missing; SQLITE_CORRUPT; or why it cannot be told now.
 */
static int look_at_length(sqlite3 *db, uint64_t bytes)
{
	static const char size[] = "SELECT page_count * page_size"
				   " FROM pragma_page_count, pragma_page_size";
	int64_t needed = 0;
	bool lost = false;
	int rc = handle_number(db, size, &needed);

	if (rc == SQLITE_OK && bytes < (uint64_t)needed) {
		sqlite3_db_release_memory(db);
		rc = sqlite3_exec(db, "PRAGMA quick_check(1)", note_lost_page, &lost, NULL);
	}
	return lost ? SQLITE_CORRUPT : rc & 0xff;
}

/* before_ns: of glance_before(), before the file was looked at. */
static bool is_cut(struct pp_pool *pool, sqlite3 *db, const struct stat *file, uint64_t before_ns)
{
	struct health *h = &pool->health;
	uint64_t known = atomic_load_explicit(&h->file_bytes, memory_order_relaxed);
	uint64_t bytes = (uint64_t)file->st_size;
	int rc = bytes < known ? look_at_length(db, bytes) : SQLITE_OK;

	if (rc != SQLITE_OK)
		return rc == SQLITE_CORRUPT || rc == SQLITE_NOTADB || rc == SQLITE_IOERR;
	atomic_store_explicit(&h->looked_ms, clock_coarse_ms(), memory_order_relaxed);
	if (bytes != known)
		atomic_store_explicit(&h->file_bytes, bytes, memory_order_relaxed);
	glance_settle(pool, file, before_ns);
	return false;
}

/* Its WAL was deleted, or is another one: who has it open goes on with it and sees all that was
 * committed; who opened the file now would not, and find the WAL's index wrong. */
static bool wal_is_lost(const struct pp_pool *pool)
{
	uint64_t inode = atomic_load_explicit(&pool->health.wal_inode, memory_order_relaxed);
	struct stat wal;
	char name[PATH_MAX + 8];

	return inode != 0 &&
	       (!stat_beside(pool, "-wal", name, sizeof name, &wal) || wal.st_ino != inode);
}

/* What has become of the file, in words. db: of a connection to it; NULL: one is about to be
 * opened. */
static bool is_changed(struct pp_pool *pool, sqlite3 *db, char *what, size_t what_size)
{
	uint64_t known = atomic_load_explicit(&pool->health.file_bytes, memory_order_relaxed);
	unsigned mode = atomic_load_explicit(&pool->health.mode, memory_order_relaxed);
	uint64_t before = glance_before();
	struct stat file;

	if (stat(pool->path, &file) != 0)
		snprintf(what, what_size, "deleted: %s", strerror(errno));
	else if (!health_is_ours(pool, &file))
		snprintf(what, what_size, "replaced by another file");
	else if ((mode & MAY_WRITE) != 0 && (file.st_mode & MAY_WRITE) == 0)
		snprintf(what, what_size, "made read-only");
	else if (db != NULL && is_cut(pool, db, &file, before))
		snprintf(what, what_size, "cut from %ju to %ju bytes", (uintmax_t)known,
		         (uintmax_t)file.st_size);
	else if (db == NULL && wal_is_lost(pool))
		snprintf(what, what_size, "robbed of its WAL");
	else
		return false;
	return true;
}

/* Who is the first to see it says so. */
static void trip(struct pp_pool *pool, const char *what)
{
	uint64_t nothing = 0;

	if (atomic_exchange(&pool->tripped, true))
		return;
	count(&pool->counters.file_changes);
	atomic_compare_exchange_strong(&pool->lost_ns, &nothing, clock_ns());
	event_send(pool, PP_EVENT_FILE_CHANGED, NULL, "%s was %s", pool->path, what);
	if (pool->config.on_file_change == PP_FILE_REOPEN)
		keeper_poke(pool);
}

static enum pp_status look(struct pp_pool *pool, sqlite3 *db, bool tripped, struct pp_error *error)
{
	char what[128] = "changed, and is as it was again";

	if (is_changed(pool, db, what, sizeof what))
		trip(pool, what);
	else if (!tripped)
		return PP_OK;
	return error_set(error, PP_FILE_CHANGED, "look at the file", "%.100s was %s", pool->path,
	                 what);
}

enum pp_status health_look(struct pp_pool *pool, sqlite3 *db, struct pp_error *error)
{
	if (pool->identity.memdb)
		return PP_OK;
	return look(pool, db, atomic_load(&pool->tripped), error);
}

bool health_looked(const struct pp_pool *pool)
{
	return !atomic_load_explicit(&pool->tripped, memory_order_relaxed) &&
	       atomic_load_explicit(&pool->health.looked_ms, memory_order_relaxed) ==
	               clock_coarse_ms();
}

enum pp_status health_before_open(struct pp_pool *pool, struct pp_error *error)
{
	return pool->identity.memdb ? PP_OK : look(pool, NULL, false, error);
}

/* It may have been replaced just before it was opened, and even be back: SQLite knows what it has.
 * The WAL and its index are not touched before the first statement. */
static enum pp_status look_opened(struct pp_pool *pool, sqlite3 *db, struct pp_error *error)
{
	enum pp_status status = health_before_open(pool, error);
	int moved = 0;

	sqlite3_file_control(db, "main", SQLITE_FCNTL_HAS_MOVED, &moved);
	if (status == PP_OK && moved != 0)
		status = error_code(error_set(error, PP_SQLITE, "open",
		                              "%.160s: another file was there for a moment",
		                              pool->path),
		                    error, SQLITE_CANTOPEN, 0);
	return status;
}

/* Where open() fails for a moment (no descriptor, say) SQLite tries again for reading only, and the
 * connection would refuse every write for as long as it lives. */
enum pp_status health_after_open(struct pp_pool *pool, sqlite3 *db, struct pp_error *error)
{
	enum pp_status status;

	if (pool->identity.memdb)
		return PP_OK;
	status = look_opened(pool, db, error);
	if (status != PP_OK)
		return status;
	if (sqlite3_db_readonly(db, "main") != 1 || access(pool->path, W_OK) != 0)
		return PP_OK;
	return error_code(error_set(error, PP_SQLITE, "open",
	                            "%.160s: may be written, but could be opened for reading only; "
	                            "are descriptors short?",
	                            pool->path),
	                  error, SQLITE_CANTOPEN, sqlite3_system_errno(db));
}

/* --- Opening anew -------------------------------------------------------------------------- */

/* What is in the WAL goes into the file that it belongs to, which may only have been moved; what is
 * left of it is empty. Waits for nobody. */
static void complete_old_file(struct pp_pool *pool)
{
	struct connection *c = &pool->anchor;

	if (c->db == NULL)
		return;
	c->deadline_ns = 1;
	sqlite3_wal_checkpoint_v2(c->db, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL);
	c->deadline_ns = UINT64_MAX;
}

/* The WAL that the old file has left would be replayed into the one that is there now. One that
 * came with this is not touched. */
static void wal_remove(struct pp_pool *pool)
{
	struct health *h = &pool->health;
	struct stat wal;
	char name[PATH_MAX + 8];

	if (stat_beside(pool, "-wal", name, sizeof name, &wal) && wal.st_dev == h->wal_device &&
	    wal.st_ino == atomic_load_explicit(&h->wal_inode, memory_order_relaxed)) {
		unlink(name);
		stat_beside(pool, "-shm", name, sizeof name, &wal);
		unlink(name);
	}
	health_forget_wal(pool);
}

void health_part(struct pp_pool *pool)
{
	struct stat file;
	bool there, ours;

	if (pool->identity.memdb)
		return;
	there = stat(pool->path, &file) == 0;
	ours = there && health_is_ours(pool, &file);
	if (ours && !atomic_load(&pool->tripped))
		return;
	if (!ours || wal_is_lost(pool))
		complete_old_file(pool);
	if (there && !ours)
		wal_remove(pool);
	pool->anchor.no_checkpoint = true; /* It is closed last: a cut file is left as it is. */
}

static void close_all(struct pp_pool *pool)
{
	for (unsigned l = 0; l < LANES; l++)
		for (unsigned i = lane_used(&pool->lanes[l]); i-- > 0;)
			if (pool->lanes[l].slots[i].connection.db != NULL)
				slot_close(&pool->lanes[l].slots[i], "the pool is opened anew");
	if (pool->anchor.db != NULL)
		connection_close(&pool->anchor);
}

/* At most so many of a lane that is held. */
static enum pp_status open_kept(struct pp_pool *pool, enum pp_lane which, unsigned most,
                                struct pp_deadline until, struct pp_error *error)
{
	struct lane *lane = pool_lane(pool, which);
	enum pp_status status = PP_OK;

	for (unsigned i = 0; status == PP_OK && i < lane_used(lane) && most > 0; i++)
		if (atomic_load(&lane->slots[i].state) == SLOT_HELD) {
			status = slot_open(&lane->slots[i], until, error);
			most--;
		}
	return status;
}

/* The writer first and alone, as in pp_open(). */
static enum pp_status open_all(struct pp_pool *pool, struct pp_deadline until,
                               struct pp_error *error)
{
	unsigned readers = atomic_load_explicit(&pool->readers_min, memory_order_relaxed);
	enum pp_status status = open_kept(pool, PP_WRITE, 1, until, error);

	if (status == PP_OK)
		status = anchor_open(pool, error);
	if (status == PP_OK)
		status = open_kept(pool, PP_READ, readers, until, error);
	return status;
}

/* The caller holds both lanes and keep_mutex. When it fails after closing, the pool is tripped, and
 * what has been opened is closed by the next attempt. */
static enum pp_status open_anew(struct pp_pool *pool, struct pp_deadline until,
                                struct pp_error *error)
{
	struct stat file;
	enum pp_status status;

	if (stat(pool->path, &file) != 0)
		return error_code(error_set(error, PP_SQLITE, "reopen", "%.160s: %s", pool->path,
		                            strerror(errno)),
		                  error, SQLITE_CANTOPEN, errno);
	health_part(pool);
	if (!registry_rename(pool, file.st_dev, file.st_ino))
		return error_set(error, PP_MISMATCH, "reopen",
		                 "another pool has the file that is now at %.160s", pool->path);
	close_all(pool);
	POINT(REOPEN);
	/* Whatever it may be now, it is right. */
	atomic_store_explicit(&pool->health.mode, 0, memory_order_relaxed);
	health_forget_wal(pool);
	status = open_all(pool, until, error);
	health_note(pool);
	atomic_store(&pool->tripped, status != PP_OK);
	if (status != PP_OK)
		return status;
	count(&pool->counters.reopened);
	event_send(pool, PP_EVENT_REOPENED, NULL, "%s", pool->path);
	return PP_OK;
}

/* pp_resume() and pp_close() need keep_mutex too: neither comes between. */
static enum pp_status open_suspended(struct pp_pool *pool, struct pp_deadline until,
                                     struct pp_error *error)
{
	enum pp_status status;
	bool stopping;

	pthread_mutex_lock(&pool->keep_mutex);
	stopping = atomic_load(&pool->keeper.stopping);
	if (stopping || atomic_load(&pool->suspended) != SUSPENDED)
		status = error_set(error, stopping ? PP_CLOSED : PP_MISUSE, "reopen",
		                   "another thread closed or resumed the pool meanwhile");
	else
		status = open_anew(pool, until, error);
	pthread_mutex_unlock(&pool->keep_mutex);
	return status;
}

/* Suspended already, it stays so. */
enum pp_status pp_reopen(struct pp_pool *pool, struct pp_deadline deadline,
                         struct pp_error *reterr_error)
{
	bool suspended;
	enum pp_status status;

	if (pool_forked(pool))
		return error_set(reterr_error, PP_FORKED, "reopen", "open a pool in this process");
	if (pool->identity.memdb)
		return error_set(reterr_error, PP_MISUSE, "reopen", "memdb has no file");
	deadline = deadline_fix(pool, deadline);
	suspended = atomic_load(&pool->suspended) == SUSPENDED;
	if (!suspended) {
		status = pp_suspend(pool, deadline);
		if (status != PP_OK)
			return error_set(reterr_error, status, "reopen",
			                 "every lease must be back first");
	}
	status = open_suspended(pool, deadline, reterr_error);
	if (!suspended)
		pp_resume(pool);
	keeper_poke(pool);
	return status;
}

/* --- Now and then -------------------------------------------------------------------------- */

/* Waits for nobody: where something is lent it is tried again. */
static bool reopen_now(struct pp_pool *pool)
{
	struct pp_error error;
	bool done = false;

	if (lane_hold(pool, PP_WRITE, PP_NO_WAIT) != PP_OK)
		return false;
	if (lane_hold(pool, PP_READ, PP_NO_WAIT) == PP_OK) {
		done = open_anew(pool, PP_FOREVER, &error) == PP_OK;
		lane_unhold(pool, PP_READ);
	}
	lane_unhold(pool, PP_WRITE);
	return done;
}

/* A lock that is held elsewhere says nothing against the connection. */
static void check_kept(struct pp_pool *pool, struct slot *slot)
{
	struct connection *c = &slot->connection;
	bool file = pool->config.health == PP_HEALTH_FILE;
	uint64_t start = clock_ns(), nothing = 0;
	int rc;

	c->deadline_ns = 1;
	rc = sqlite3_exec(c->db, file ? "PRAGMA schema_version" : "SELECT 1", NULL, NULL, NULL);
	c->deadline_ns = UINT64_MAX;
	count(&pool->counters.health_checks);
	histogram_note(pool, PP_HISTOGRAM_VERIFY, clock_ns() - start);
	if (rc == SQLITE_OK || (rc & 0xff) == SQLITE_BUSY) {
		line_give_back(pool, slot, SLOT_IDLE);
		return;
	}
	count(&pool->counters.health_failures);
	atomic_compare_exchange_strong(&pool->lost_ns, &nothing, clock_ns());
	event_send(pool, PP_EVENT_HEALTH_FAILED, slot, "%s", sqlite3_errmsg(c->db));
	slot_close(slot, "its health check failed");
	line_give_back(pool, slot, SLOT_EMPTY);
}

static void check(struct pp_pool *pool)
{
	if (pool->identity.memdb)
		return;
	if (pool->config.health == PP_HEALTH_FILE &&
	    (health_look(pool, pool->anchor.db, NULL) != PP_OK ||
	     health_before_open(pool, NULL) != PP_OK))
		return;
	for (unsigned l = 0; l < LANES; l++)
		for (unsigned i = lane_used(&pool->lanes[l]); i-- > 0;)
			if (slot_keep(&pool->lanes[l].slots[i], SLOT_IDLE))
				check_kept(pool, &pool->lanes[l].slots[i]);
}

uint64_t health_keep(struct pp_pool *pool, uint64_t now_ms)
{
	struct health *h = &pool->health;

	if (!atomic_load(&pool->tripped) && now_ms >= h->due_ms) {
		h->due_ms = due_ms(pool, now_ms);
		check(pool);
	}
	if (!atomic_load(&pool->tripped))
		return h->due_ms;
	if (pool->config.on_file_change == PP_FILE_TRIP)
		return UINT64_MAX;
	return reopen_now(pool) ? h->due_ms : now_ms + RETRY_MS;
}
