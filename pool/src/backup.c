/*
 * backup.c - a copy of the database, while it is worked with.
 *
 * To know before reading: sqlite3_backup copies page by page from a borrowed reader that is in a
 * read transaction, so all steps see one snapshot. It writes through a handle of its own, which is
 * closed afterwards. SQLite allocates in a step on whichever connection's mutex is entered last;
 * what it allocates for the reader would outlive the step in the other one's account. So the
 * writing handle's mutex is entered before the step: all of a step is the reader's, and what the
 * handle has of it goes when it is closed.
 *
 * A file is written under another name. The handle locks it from its first byte until it has been
 * renamed, so who finds it locked knows that somebody else's backup is under way, and who does not
 * may replace what a crash has left. The pool opens and closes no file itself.
 */
/* SPDX-License-Identifier: MIT */
#include "internal.h"
#include "point.h"
#include "vfs.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum {
	STEP_PAGES = 1000,
	STEP_PAGES_MAX = 1000000,
	BUSY_INTERVAL_NS = 1000000 /* Between two looks at another process' lock. */
};

struct job {
	struct pp_pool *from, *to;   /* to NULL: a file. */
	struct pp_lease reader;      /* Until the copy is closed. */
	struct connection *c;        /* The reader's. */
	struct pp_deadline deadline; /* For everything together. */
	int step_pages;
	int (*progress)(void *context, unsigned pages_done, unsigned pages_total);
	void *context;
	const char *path;       /* Of the target, for the words. */
	char partial[PATH_MAX]; /* What is written to. */
	sqlite3 *db;            /* By which. */
	bool busy;              /* It was somebody else's. */
	struct pp_error *error; /* May be NULL. */
};

/* --- Words -------------------------------------------------------------------------------- */

static enum pp_status invalid(struct job *j, const char *why)
{
	return error_set(j->error, PP_INVALID, "backup", "to %.160s: %s", j->path, why);
}

/* What SQLite says on db, with the path. */
static enum pp_status failed(struct job *j, sqlite3 *db, int rc)
{
	struct pp_error said;
	enum pp_status status = error_sqlite(&said, db, rc, "backup", NULL);

	error_set(j->error, status, "backup", "to %.160s: %.80s", j->path, said.message);
	return error_code(status, j->error, rc, said.system_errno);
}

static enum pp_status failed_system(struct job *j, int number)
{
	error_set(j->error, PP_SQLITE, "backup", "to %.160s: %s", j->path, strerror(number));
	return error_code(PP_SQLITE, j->error, SQLITE_IOERR, number);
}

/* PP_OK, or why the reader is to stop: its token, the deadline, or the pool's upkeep. */
static enum pp_status go_on(struct job *j)
{
	return connection_stop(j->c, clock_ns()) == STOP_NOT
	               ? PP_OK
	               : connection_stopped(j->c, "backup", j->error);
}

/* --- The reader --------------------------------------------------------------------------- */

static struct connection *connection_of(const struct pp_lease *lease)
{
	return &((struct slot *)lease->slot)->connection;
}

/* Runs it and keeps the first column of its last row. It is the pool's own: the borrower's
 * authorizer is not asked, and what it does is no dirt. */
static int ask(struct connection *c, const char *sql, int *ret)
{
	sqlite3_stmt *stmt = NULL;
	unsigned dirty = c->dirty;
	int rc;

	c->lent = false;
	rc = sqlite3_prepare_v2(c->db, sql, -1, &stmt, NULL);
	c->lent = true;
	while (rc == SQLITE_OK && sqlite3_step(stmt) == SQLITE_ROW)
		*ret = sqlite3_column_int(stmt, 0);
	if (rc == SQLITE_OK)
		rc = sqlite3_finalize(stmt);
	c->dirty = dirty;
	return rc;
}

/* One snapshot from here on. */
static enum pp_status snapshot_begin(struct job *j)
{
	int version, rc;

	j->c->deadline_ns = j->deadline.ns;
	sqlite3_step(j->c->begin);
	rc = sqlite3_reset(j->c->begin);
	if (rc == SQLITE_OK)
		rc = ask(j->c, "PRAGMA schema_version", &version);
	return rc == SQLITE_OK ? PP_OK : failed(j, j->c->db, rc);
}

static void snapshot_end(struct job *j)
{
	sqlite3_step(j->c->commit);
	sqlite3_reset(j->c->commit);
}

/* --- Copying ------------------------------------------------------------------------------ */

static int step(struct job *j, sqlite3_backup *backup)
{
	sqlite3_mutex *mutex = sqlite3_db_mutex(j->db);
	int rc;

	sqlite3_mutex_enter(mutex);
	rc = sqlite3_backup_step(backup, j->step_pages);
	sqlite3_mutex_leave(mutex);
	return rc;
}

/* Busy is the target, in another process: that is waited for as everywhere, at a constant interval
 * and until the deadline. */
static enum pp_status steps(struct job *j, sqlite3_backup *backup, int *ret_rc)
{
	enum pp_status status;

	while ((status = go_on(j)) == PP_OK) {
		int rc = *ret_rc = step(j, backup);
		unsigned total = (unsigned)sqlite3_backup_pagecount(backup);
		unsigned left = (unsigned)sqlite3_backup_remaining(backup);

		if (rc == SQLITE_BUSY)
			clock_sleep_ns(BUSY_INTERVAL_NS);
		else if (rc != SQLITE_OK)
			return PP_OK;
		else if (j->progress != NULL && j->progress(j->context, total - left, total) != 0)
			return error_set(j->error, PP_ABORTED, "backup",
			                 "progress asked for it after %u of %u pages", total - left,
			                 total);
	}
	return status;
}

static enum pp_status copy_pages(struct job *j)
{
	sqlite3_backup *backup = sqlite3_backup_init(j->db, "main", j->c->db, "main");
	int rc = SQLITE_OK, end;
	enum pp_status status;

	if (backup == NULL)
		return failed(j, j->db, sqlite3_extended_errcode(j->db));
	status = steps(j, backup, &rc);
	end = sqlite3_backup_finish(backup); /* Takes back what is not done. */
	if (status == PP_OK && rc != SQLITE_DONE)
		status = failed(j, j->db, end);
	return status;
}

static enum pp_status copy(struct job *j)
{
	enum pp_status status = pp_acquire(j->from, PP_READ, j->deadline, &j->reader, j->error);

	if (status != PP_OK)
		return status;
	j->c = connection_of(&j->reader);
	status = snapshot_begin(j);
	if (status == PP_OK)
		status = copy_pages(j);
	snapshot_end(j);
	return status;
}

/* Its memory belongs to no account, but for what a step takes. */
static enum pp_status target_open(struct job *j, const char *name, bool memdb)
{
	int rc =
		sqlite3_open_v2(name, &j->db,
	                        SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_FULLMUTEX |
	                                SQLITE_OPEN_EXRESCODE | SQLITE_OPEN_PRIVATECACHE,
	                        vfs_name(memdb));

	return rc == SQLITE_OK ? PP_OK : failed(j, j->db, rc);
}

/* In this order: the reader's connection may be closed when it comes back, and has to have all of
 * its bytes again. */
static void let_go(struct job *j)
{
	sqlite3_close(j->db);
	pp_release(&j->reader);
}

/* --- Into a file -------------------------------------------------------------------------- */

/* A WAL or journal beside it belongs to what is there now; SQLite would put it into the copy. */
static bool has_journal(struct job *j)
{
	static const char *const suffixes[] = { "-wal", "-journal" };
	char name[PATH_MAX + 16];
	struct stat file;

	for (unsigned i = 0; i < sizeof suffixes / sizeof *suffixes; i++) {
		snprintf(name, sizeof name, "%s%s", j->path, suffixes[i]);
		if (stat(name, &file) == 0 && file.st_size > 0)
			return true;
	}
	return false;
}

/* Asked before the work, and again before what is there is replaced. */
static enum pp_status check_path(struct job *j)
{
	struct stat file;

	if (has_journal(j))
		return invalid(j, "there is a journal beside it: it is in use, or was not closed");
	if (stat(j->path, &file) != 0)
		return PP_OK;
	if (!S_ISREG(file.st_mode))
		return invalid(j, "it is not a regular file");
	if (file_is_pooled(&file))
		return invalid(j, "a pool has it open: use to_pool");
	return PP_OK;
}

/*
 * Nobody needs a journal of what is thrown away if it is not whole. What is there already is what a
 * crash has left, of whatever content: SQLite is told not to look at it. The transaction takes the
 * lock, which exclusive mode keeps.
 */
static enum pp_status partial_lock(struct job *j)
{
	struct stat file;
	int rc;

	sqlite3_db_config(j->db, SQLITE_DBCONFIG_RESET_DATABASE, 1, NULL);
	rc = sqlite3_exec(j->db,
	                  "PRAGMA locking_mode=EXCLUSIVE; PRAGMA journal_mode=OFF; "
	                  "PRAGMA synchronous=OFF; BEGIN EXCLUSIVE; COMMIT; "
	                  "PRAGMA synchronous=NORMAL",
	                  NULL, NULL, NULL);
	j->busy = (rc & 0xff) == SQLITE_BUSY;
	if (j->busy)
		return error_code(error_set(j->error, PP_SQLITE, "backup",
		                            "to %.160s: another backup is being written there",
		                            j->path),
		                  j->error, rc, 0);
	if (rc != SQLITE_OK)
		return failed(j, j->db, rc);
	/* The copy of a secret is one. memdb has no file, and SQLite's default is as good as any.
	 */
	if (stat(j->from->path, &file) == 0)
		chmod(j->partial, file.st_mode & 0777);
	return PP_OK;
}

/* 0, or errno. So that the new name survives a power loss. */
static int sync_folder(const char *path)
{
	char folder[PATH_MAX + 2];
	char *slash;
	int file, number;

	snprintf(folder, sizeof folder, "./%s", path);
	slash = strrchr(folder, '/');
	slash[1] = '\0';
	file = open(path[0] == '/' ? folder + 2 : folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	number = file < 0 || fsync(file) != 0 ? errno : 0;
	close(file);
	return number;
}

/* Its content was synced by the last step. */
static enum pp_status put_in_place(struct job *j)
{
	enum pp_status status = check_path(j);
	int number;

	if (status != PP_OK)
		return status;
	POINT(BACKUP);
	number = rename(j->partial, j->path) != 0 ? errno : sync_folder(j->path);
	return number == 0 ? PP_OK : failed_system(j, number);
}

static enum pp_status to_file(struct job *j)
{
	enum pp_status status = check_path(j);
	struct stat file;

	if (status != PP_OK)
		return status;
	snprintf(j->partial, sizeof j->partial, "%s-partial", j->path);
	if (stat(j->partial, &file) == 0 && file_is_pooled(&file))
		return invalid(j,
		               "a pool has NAME-partial open, where it is written: name another");
	status = target_open(j, j->partial, false);
	if (status == PP_OK)
		status = partial_lock(j);
	if (status == PP_OK)
		status = copy(j);
	if (status == PP_OK)
		status = put_in_place(j);
	if (status != PP_OK && !j->busy)
		unlink(j->partial);
	let_go(j);
	return status;
}

/* --- Into a pool -------------------------------------------------------------------------- */

/* What came with the copy may say that it is to be opened with a WAL, which memdb has not: bytes 18
 * and 19 of a database. Nobody else has it open. */
static void memdb_without_wal(sqlite3 *db)
{
	sqlite3_file *file = NULL;

	sqlite3_file_control(db, "main", SQLITE_FCNTL_FILE_POINTER, &file);
	file->pMethods->xWrite(file, "\1\1", 2, 18);
}

static enum pp_status set_journal(struct job *j, struct connection *c, bool wal)
{
	int nothing, rc = ask(c, wal ? "PRAGMA journal_mode=WAL" : "PRAGMA journal_mode=DELETE",
	                      &nothing);

	if (rc == SQLITE_OK)
		return PP_OK;
	c->discard = true;
	return failed(j, c->db, rc);
}

/* Pages of another size fit into a rollback journal's database only. */
static enum pp_status pages_fit(struct job *j, struct connection *to)
{
	struct pp_lease reader = { 0 };
	int from_bytes = 0, to_bytes = 0, rc;
	enum pp_status status;

	if (j->to->gated && !j->to->identity.memdb)
		return PP_OK;
	status = pp_acquire(j->from, PP_READ, j->deadline, &reader, j->error);
	if (status != PP_OK)
		return status;
	rc = ask(connection_of(&reader), "PRAGMA page_size", &from_bytes);
	if (rc == SQLITE_OK)
		rc = ask(to, "PRAGMA page_size", &to_bytes);
	pp_release(&reader);
	if (rc != SQLITE_OK)
		return failed(j, to->db, rc);
	if (from_bytes == to_bytes)
		return PP_OK;
	if (j->to->identity.memdb)
		return error_set(j->error, PP_INVALID, "backup",
		                 "to %.160s: its pages have %d bytes, and these %d: memdb cannot "
		                 "change that",
		                 j->path, to_bytes, from_bytes);
	return set_journal(j, to, false);
}

static enum pp_status into(struct job *j, struct connection *to)
{
	bool memdb = j->to->identity.memdb;
	enum pp_status status, mode;

	status = target_open(j, memdb ? j->to->identity.name : j->to->path, memdb);
	if (status == PP_OK)
		status = copy(j);
	if (memdb && status == PP_OK)
		memdb_without_wal(j->db);
	let_go(j);
	mode = memdb ? PP_OK : set_journal(j, to, !j->to->gated);
	return status != PP_OK ? status : mode;
}

static enum pp_status to_pool(struct job *j)
{
	struct pp_lease all = { 0 };
	enum pp_status status = pp_acquire(j->to, PP_EXCLUSIVE, j->deadline, &all, j->error);
	struct connection *c;

	if (status != PP_OK)
		return status;
	c = connection_of(&all);
	c->deadline_ns = j->deadline.ns;
	status = pages_fit(j, c);
	if (status == PP_OK)
		status = into(j, c);
	pp_release(&all);
	return status;
}

/* --- The call ----------------------------------------------------------------------------- */

static enum pp_status check(struct job *j, const struct pp_backup *b)
{
	if ((b->to_path == NULL) == (b->to_pool == NULL))
		return error_set(j->error, PP_INVALID, "backup",
		                 "%s of to_path and to_pool is set: one must be",
		                 b->to_path == NULL ? "neither" : "each");
	if (b->step_pages > STEP_PAGES_MAX)
		return error_set(j->error, PP_INVALID, "backup",
		                 "step_pages is %u: it must be 1..%d", b->step_pages,
		                 STEP_PAGES_MAX);
	if (j->to == j->from)
		return error_set(j->error, PP_INVALID, "backup", "to_pool is the pool itself");
	if (j->to == NULL && (j->path[0] == '\0' || strncmp(j->path, "file:", 5) == 0 ||
	                      strlen(j->path) + sizeof "-partial" > sizeof j->partial))
		return error_set(j->error, PP_INVALID, "backup",
		                 "to_path \"%.100s\": name a file; memdb is for to_pool", j->path);
	return PP_OK;
}

enum pp_status pp_backup(struct pp_pool *pool, const struct pp_backup *backup,
                         struct pp_error *reterr_error)
{
	struct job job = { .from = pool,
		           .to = backup->to_pool,
		           .step_pages =
		                   backup->step_pages > 0 ? (int)backup->step_pages : STEP_PAGES,
		           .progress = backup->progress,
		           .context = backup->context,
		           .path = backup->to_path,
		           .error = reterr_error };
	enum pp_status status;

	if (pool_forked(pool))
		return error_set(reterr_error, PP_FORKED, "backup", "open a pool in this process");
	status = check(&job, backup);
	if (status != PP_OK)
		return status;
	job.deadline = deadline_fix(pool, backup->deadline);
	if (job.to == NULL)
		return to_file(&job);
	job.path = job.to->path;
	return to_pool(&job);
}
