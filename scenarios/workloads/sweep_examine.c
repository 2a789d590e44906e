/*
 * sweep_examine.c - the file after a trial, as a plain handle finds it.
 *
 * To know before reading: opening the file, checking it and asking for every write is a third of a
 * trial, and most trials of a sequence leave one of a few files. What a handle finds depends on
 * nothing but the bytes: so a file that is, byte by byte, one that was examined and found right
 * with the same fates is right. One with a WAL or a journal beside it is always examined.
 */
/* SPDX-License-Identifier: MIT */
#include "sweep_trial_internal.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { KNOWN = 8 };

/* The last files that were found right, and what is told of each. */
static struct file {
	size_t size; /* 0: none, or it is not alone, or there is no room for it. */
	unsigned char bytes[TRIAL_IMAGE];
	unsigned write_count;
	enum trial_fate fates[TRIAL_WRITES];
	uint64_t late;
} known[KNOWN], current;
static unsigned known_count;

/* --- By a handle -------------------------------------------------------------------------- */

static int64_t rows_of(sqlite3 *db, int64_t n)
{
	sqlite3_stmt *stmt = NULL;
	int64_t result = -1;

	if (sqlite3_prepare_v2(db, "SELECT count(*) FROM pair WHERE n = ?1", -1, &stmt, NULL) ==
	    SQLITE_OK) {
		sqlite3_bind_int64(stmt, 1, n);
		if (sqlite3_step(stmt) == SQLITE_ROW)
			result = sqlite3_column_int64(stmt, 0);
	}
	sqlite3_finalize(stmt);
	return result;
}

/* Returns how many that were reported as failed are there. */
static uint64_t examine_writes(struct trial *t, sqlite3 *db)
{
	uint64_t late = 0;

	for (unsigned n = 0; n < t->write_count; n++) {
		int64_t rows = rows_of(db, n);

		if (rows != 0 && rows != 2)
			trial_wrong(t, "write %u: %lld of its 2 rows are in the file (%s)", n,
			            (long long)rows, sqlite3_errmsg(db));
		else if (rows == 0 && t->fates[n] == TRIAL_THERE)
			trial_wrong(t, "write %u was acknowledged and is lost", n);
		else if (rows == 2 && t->fates[n] == TRIAL_UNDONE)
			trial_wrong(t, "write %u was undone or failed, and is there", n);
		late += rows == 2 && t->fates[n] == TRIAL_EITHER;
	}
	return late;
}

static int is_ok(void *context, int count, char **values, char **names)
{
	(void)names;
	*(bool *)context = count == 1 && values[0] != NULL && strcmp(values[0], "ok") == 0;
	return 0;
}

static uint64_t examine(struct trial *t)
{
	uint64_t late = 0;
	bool sound = false;
	sqlite3 *db;

	if (sqlite3_open(t->path, &db) != SQLITE_OK ||
	    sqlite3_exec(db, "PRAGMA integrity_check", is_ok, &sound, NULL) != SQLITE_OK || !sound)
		trial_wrong(t, "the file is not sound: %s", sqlite3_errmsg(db));
	else
		late = examine_writes(t, db);
	sqlite3_close(db);
	return late;
}

/* --- By its bytes ------------------------------------------------------------------------- */

static bool is_there(const char *path, const char *suffix)
{
	char name[600];

	snprintf(name, sizeof name, "%s%s", path, suffix);
	return access(name, F_OK) == 0;
}

/* What fits, and no more is asked for: memcheck looks at every byte of where it may be put. */
static size_t read_file(const char *path, unsigned char bytes[TRIAL_IMAGE])
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat file;
	ssize_t size = 0;

	if (fd < 0)
		return 0;
	if (fstat(fd, &file) == 0 && file.st_size <= TRIAL_IMAGE)
		size = read(fd, bytes, (size_t)file.st_size);
	close(fd);
	return size > 0 && size == file.st_size ? (size_t)size : 0;
}

static void read_current(const struct trial *t)
{
	bool is_alone = !is_there(t->path, "-wal") && !is_there(t->path, "-journal");

	current.size = is_alone ? read_file(t->path, current.bytes) : 0;
	current.write_count = t->write_count;
	memcpy(current.fates, t->fates, sizeof current.fates);
}

static bool is_current(const struct file *f)
{
	return f->size == current.size && f->write_count == current.write_count &&
	       memcmp(f->fates, current.fates, f->write_count * sizeof *f->fates) == 0 &&
	       memcmp(f->bytes, current.bytes, f->size) == 0;
}

static const struct file *find_current(void)
{
	if (current.size == 0)
		return NULL;
	for (unsigned i = 0; i < KNOWN; i++)
		if (is_current(&known[i]))
			return &known[i];
	return NULL;
}

void trial_examine(struct trial *t)
{
	const struct file *same;

	read_current(t);
	same = find_current();
	current.late = same != NULL ? same->late : examine(t);
	t->sums.late += current.late;
	if (same == NULL && current.size > 0 && t->wrong == 0)
		known[known_count++ % KNOWN] = current;
}
