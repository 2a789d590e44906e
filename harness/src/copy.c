/*
 * copy.c - a user's database, copied by SQLite's backup and never written to. Where it has a -wal,
 * SQLite updates the -shm beside it, as every reader does.
 *
 * Whatever is wrong with it is said in one line that names the file, before any load runs.
 */
/* SPDX-License-Identifier: MIT */
#include "internal.h"

#include <errno.h>
#include <sqlite3.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BUSY_MS = 5000 };

/* The file as it can be told from the outside; NULL: nothing is wrong. */
static const char *wrong_with_file(const char *path)
{
	struct stat status;

	if (stat(path, &status) != 0)
		return errno == ENOENT ? "no such file; name an SQLite database" : strerror(errno);
	if (S_ISDIR(status.st_mode))
		return "is a folder; name an SQLite database in it";
	if (!S_ISREG(status.st_mode))
		return "is not a file; name an SQLite database";
	if (access(path, R_OK) != 0)
		return "cannot be read by you; give yourself the permission (chmod u+r)";
	return NULL;
}

/* "file:" with every byte that means something in a URI written as %XX. */
static bool uri_make(const char *path, const char *query, char *uri, size_t uri_size)
{
	size_t used = (size_t)snprintf(uri, uri_size, "file:");

	for (; *path != '\0' && used + 8 < uri_size; path++) {
		if (strchr("%?#", *path) != NULL || (unsigned char)*path <= ' ')
			used += (size_t)snprintf(uri + used, uri_size - used, "%%%02X",
			                         (unsigned char)*path);
		else
			uri[used++] = *path;
	}
	return *path == '\0' &&
	       used + (size_t)snprintf(uri + used, uri_size - used, "%s", query) < uri_size;
}

static bool exists_beside(const char *path, const char *ending)
{
	char beside[PATH_MAX + 16];

	snprintf(beside, sizeof beside, "%s%s", path, ending);
	return access(beside, F_OK) == 0;
}

static bool folder_writable(const char *path)
{
	char folder[PATH_MAX];
	char *slash;

	snprintf(folder, sizeof folder, "%s", path);
	slash = strrchr(folder, '/');
	if (slash == NULL)
		return access(".", W_OK) == 0;
	slash[slash == folder] = '\0';
	return access(folder, W_OK) == 0;
}

static bool in_wal_mode(const char *path)
{
	unsigned char head[20] = { 0 };
	FILE *file = fopen(path, "re");

	if (file == NULL)
		return false;
	size_t got = fread(head, 1, sizeof head, file);
	fclose(file);
	return got == sizeof head && head[18] == 2; /* The file format's write version. */
}

/*
 * Read only, with two exceptions for what SQLite does beside the file. A database in WAL mode wants
 * a -wal and a -shm even for reading. Where they cannot be made and nobody left a WAL, the file is
 * all there is, and holds still. Where they can, a read only connection would leave them behind;
 * one that might write takes them away again, and with no journal there it has nothing to write
 * back.
 */
static const char *how_to_open(const char *path)
{
	if (exists_beside(path, "-wal"))
		return "?mode=ro";
	if (!folder_writable(path))
		return "?mode=ro&immutable=1";
	return in_wal_mode(path) && !exists_beside(path, "-journal") ? "?mode=rw" : "?mode=ro";
}

static const char *advice(int code)
{
	switch (code & 0xff) {
	case SQLITE_NOTADB:
		return "it is not an SQLite database (or is encrypted); name one";
	case SQLITE_CORRUPT:
		return "repair it first (.recover of the sqlite3 shell)";
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
		return "another program holds it; try again when that is done";
	case SQLITE_FULL:
		return "make room for the copy, or choose another place with --dir";
	case SQLITE_CANTOPEN:
		return "look at the permissions of the file and of its folder";
	default:
		return "look at the file with the sqlite3 shell";
	}
}

static int open_source(const char *source, sqlite3 **ret_db)
{
	char uri[3 * PATH_MAX + 32];
	int rc;

	if (!uri_make(source, how_to_open(source), uri, sizeof uri))
		return SQLITE_CANTOPEN;
	rc = sqlite3_open_v2(uri, ret_db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_URI, NULL);
	if (rc != SQLITE_OK)
		return rc;
	sqlite3_busy_timeout(*ret_db, BUSY_MS);
	/* Opening looks at nothing; the schema is the first thing that has to be right. */
	return sqlite3_exec(*ret_db, "PRAGMA query_only=1; SELECT count(*) FROM sqlite_schema",
	                    NULL, NULL, NULL);
}

static int backup(sqlite3 *to, sqlite3 *from)
{
	uint64_t limit = now_ns() + BUSY_MS * UINT64_C(1000000);
	sqlite3_backup *job = sqlite3_backup_init(to, "main", from, "main");
	int rc;

	if (job == NULL)
		return sqlite3_errcode(to);
	/* Backup's own reading does not wait by the busy handler. */
	do {
		rc = sqlite3_backup_step(job, -1);
		if (rc == SQLITE_BUSY || rc == SQLITE_LOCKED)
			sqlite3_sleep(20);
	} while ((rc == SQLITE_BUSY || rc == SQLITE_LOCKED) && now_ns() < limit);
	int finished = sqlite3_backup_finish(job);
	return rc == SQLITE_DONE ? finished : rc;
}

/* What is damaged before the run is not the run's doing. Looks at the copy: NULL, or the words. */
static const char *damage(sqlite3 *db)
{
	static char text[256];
	sqlite3_stmt *stmt = NULL;
	const unsigned char *row;

	text[0] = '\0';
	if (sqlite3_prepare_v2(db, "PRAGMA integrity_check(1)", -1, &stmt, NULL) == SQLITE_OK &&
	    sqlite3_step(stmt) == SQLITE_ROW) {
		row = sqlite3_column_text(stmt, 0);
		if (row != NULL && strcmp((const char *)row, "ok") != 0)
			snprintf(text, sizeof text, "%s", row);
	} else {
		snprintf(text, sizeof text, "%s", sqlite3_errmsg(db));
	}
	sqlite3_finalize(stmt);
	one_line(text);
	return text[0] != '\0' ? text : NULL;
}

void harness_copy_database(struct harness_run *run, const char *source, char *ret_path,
                           size_t path_size)
{
	sqlite3 *from = NULL, *to = NULL;
	const char *slash = strrchr(source, '/'), *what = "cannot be read";
	const char *wrong = wrong_with_file(source), *damaged = NULL;
	int rc;

	if (source[0] == '\0')
		harness_cannot(run, "the database's name is empty (''); name an SQLite database, "
		                    "such as app.db");
	if (wrong != NULL)
		harness_cannot(run, "%s: %s", source, wrong);
	if (snprintf(ret_path, path_size, "%s/%s", run->work, slash != NULL ? slash + 1 : source) >=
	    (int)path_size)
		harness_cannot(run, "%s: its copy's path is too long; choose a shorter --dir",
		               source);
	rc = open_source(source, &from);
	if (rc == SQLITE_OK) {
		what = "cannot be copied";
		rc = sqlite3_open_v2(ret_path, &to, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE,
		                     NULL);
	}
	if (rc == SQLITE_OK)
		rc = backup(to, from);
	if (rc == SQLITE_OK)
		damaged = damage(to);
	sqlite3_close(to);
	sqlite3_close(from);
	if (damaged != NULL)
		harness_cannot(run, "%s: it is damaged: %s; repair it first (.recover)", source,
		               damaged);
	if (rc != SQLITE_OK)
		harness_cannot(run, "%s: %s: %s; %s", source, what, sqlite3_errstr(rc), advice(rc));
}
