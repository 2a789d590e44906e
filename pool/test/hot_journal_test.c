/* Whoever meets a journal that is to be rolled back rolls it back, or is busy. */
/* SPDX-License-Identifier: MIT */
#include "bank.h"
#include "internal.h"
#include "vfs.h"

static const char missing[] = "SELECT (SELECT rows FROM counted) - (SELECT count(*) FROM t)";
static const char some[] = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n "
			   "WHERE i < 50) INSERT INTO t SELECT randomblob(500) FROM n";

/* --- A VFS over the pool's, in which one reader meets the other ---------------------------- */

static struct {
	sqlite3_vfs vfs, *real;
	sqlite3_io_methods methods;
	const sqlite3_io_methods *real_methods;
	sqlite3_file *opened; /* The last database. */
	sqlite3_file *asks;   /* Who looks for RESERVED while another one rolls back. */
	sqlite3_stmt *other;  /* What that one does. */
	int other_rc, refused, told;
} meeting;

static int lock(sqlite3_file *file, int level)
{
	int rc = meeting.real_methods->xLock(file, level);

	if (meeting.asks == NULL || file == meeting.asks || level != SQLITE_LOCK_EXCLUSIVE)
		return rc;
	/* Refused, and holding PENDING: the other one looks now. */
	meeting.refused = rc;
	meeting.real_methods->xCheckReservedLock(meeting.asks, &meeting.told);
	return rc;
}

static int check_reserved(sqlite3_file *file, int *ret_reserved)
{
	if (file != meeting.asks)
		return meeting.real_methods->xCheckReservedLock(file, ret_reserved);
	meeting.other_rc = sqlite3_step(meeting.other);
	sqlite3_reset(meeting.other);
	meeting.asks = NULL;
	*ret_reserved = meeting.told;
	return SQLITE_OK;
}

static int open_met(sqlite3_vfs *vfs, const char *name, sqlite3_file *file, int flags, int *ret)
{
	int rc = meeting.real->xOpen(meeting.real, name, file, flags, ret);

	(void)vfs;
	if (rc != SQLITE_OK || (flags & SQLITE_OPEN_MAIN_DB) == 0)
		return rc;
	meeting.real_methods = file->pMethods;
	meeting.methods = *file->pMethods;
	meeting.methods.xLock = lock;
	meeting.methods.xCheckReservedLock = check_reserved;
	file->pMethods = &meeting.methods;
	meeting.opened = file;
	return SQLITE_OK;
}

static void meeting_register(void)
{
	CHECK_INT(vfs_register(), ==, SQLITE_OK);
	memset(&meeting, 0, sizeof meeting);
	meeting.real = sqlite3_vfs_find(vfs_name(false));
	meeting.vfs = *meeting.real;
	meeting.vfs.zName = "meeting";
	meeting.vfs.xOpen = open_met;
	CHECK_INT(sqlite3_vfs_register(&meeting.vfs, 0), ==, SQLITE_OK);
}

/* --- A process that died in a transaction -------------------------------------------------- */

static void copy_file(const char *from, const char *to)
{
	static char bytes[1 << 20];
	FILE *in_file = fopen(from, "r"), *out = fopen(to, "r+");
	size_t size = fread(bytes, 1, sizeof bytes, in_file);

	if (out == NULL)
		out = fopen(to, "w");
	CHECK_INT(fwrite(bytes, 1, size, out), ==, size);
	fclose(in_file);
	fclose(out);
}

static void execute(sqlite3 *db, const char *sql)
{
	CHECK_INT(sqlite3_exec(db, sql, NULL, NULL, NULL), ==, SQLITE_OK);
}

static sqlite3_stmt *reader_open(const char *path, sqlite3 **ret)
{
	sqlite3_stmt *stmt;

	CHECK_INT(sqlite3_open_v2(path, ret, SQLITE_OPEN_READWRITE, "meeting"), ==, SQLITE_OK);
	CHECK_INT(sqlite3_prepare_v2(*ret, missing, -1, &stmt, NULL), ==, SQLITE_OK);
	CHECK_INT(sqlite3_step(stmt), ==, SQLITE_ROW);
	CHECK_INT(sqlite3_column_int(stmt, 0), ==, 0);
	sqlite3_reset(stmt);
	sqlite3_db_release_memory(*ret);
	return stmt;
}

/* Two readers of one process, at the same time: one has PENDING for a moment, and the other is not
 * to take it for a writer whose journal that is. */
TEST(hot_journal, is_not_taken_for_one_in_use)
{
	CLEANUP(fixture_close)
	struct fixture f = fixture_config((struct pp_config){ .readers = 1 });
	char died[128], journal[140], copy[128], copy_journal[140];
	sqlite3 *writer, *a, *b;
	sqlite3_stmt *of_b;
	sqlite3_file *file_of_a;

	snprintf(died, sizeof died, "%s", in(&f, "died.db"));
	snprintf(journal, sizeof journal, "%s-journal", died);
	snprintf(copy, sizeof copy, "%s", in(&f, "copy.db"));
	snprintf(copy_journal, sizeof copy_journal, "%s-journal", copy);
	meeting_register();
	CHECK_INT(sqlite3_open(died, &writer), ==, SQLITE_OK);
	execute(writer, "PRAGMA page_size=1024; CREATE TABLE counted(rows); CREATE TABLE t(x);"
	                "INSERT INTO counted VALUES (50); PRAGMA cache_size=5");
	execute(writer, some);
	copy_file(died, copy);
	meeting.other = reader_open(copy, &a);
	file_of_a = meeting.opened;
	of_b = reader_open(copy, &b);
	execute(writer, "BEGIN; UPDATE counted SET rows = 100");
	execute(writer, some);
	execute(writer, "UPDATE t SET x = randomblob(499)"); /* The cache has no room for it. */
	copy_file(died, copy);
	copy_file(journal, copy_journal);

	meeting.asks = meeting.opened; /* b's. */
	CHECK_INT(sqlite3_step(of_b), ==, SQLITE_ROW);
	CHECK_INT(meeting.other_rc, ==, SQLITE_BUSY);
	CHECK_INT(meeting.refused, ==, SQLITE_BUSY);
	CHECK_INT(meeting.told, ==, 0);
	CHECK_INT(sqlite3_column_int(of_b, 0), ==, 0);

	/* Over, for both: a writer is a writer again. */
	sqlite3_reset(of_b);
	execute(b, "BEGIN IMMEDIATE");
	meeting.real_methods->xCheckReservedLock(file_of_a, &meeting.told);
	CHECK_INT(meeting.told, ==, 1);
	execute(b, "ROLLBACK");
	sqlite3_finalize(of_b);
	sqlite3_finalize(meeting.other);
	CHECK_INT(sqlite3_close(a) | sqlite3_close(b) | sqlite3_close(writer), ==, SQLITE_OK);
	sqlite3_vfs_unregister(&meeting.vfs);
}

/* --- Its end ------------------------------------------------------------------------------- */

/* The name stays the caller's, until it is closed. */
static sqlite3_file *file_open(const char *name)
{
	static const int flags = SQLITE_OPEN_MAIN_DB | SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE;
	sqlite3_vfs *vfs = sqlite3_vfs_find(vfs_name(false));
	sqlite3_file *file = calloc(1, (size_t)vfs->szOsFile);

	CHECK_INT(vfs->xOpen(vfs, name, file, flags, NULL), ==, SQLITE_OK);
	return file;
}

static void file_close(sqlite3_file *file)
{
	CHECK_INT(file->pMethods->xClose(file), ==, SQLITE_OK);
	free(file);
}

static int lock_up_to(sqlite3_file *file, int level)
{
	int rc = file->pMethods->xLock(file, SQLITE_LOCK_SHARED);

	return rc == SQLITE_OK ? file->pMethods->xLock(file, level) : rc;
}

static int reserved_is_seen(sqlite3_file *writer, sqlite3_file *reader)
{
	int told = -1;

	CHECK_INT(lock_up_to(writer, SQLITE_LOCK_RESERVED), ==, SQLITE_OK);
	CHECK_INT(reader->pMethods->xCheckReservedLock(reader, &told), ==, SQLITE_OK);
	CHECK_INT(writer->pMethods->xUnlock(writer, SQLITE_LOCK_NONE), ==, SQLITE_OK);
	return told;
}

/* A writer is a writer again: whoever rolls back has what he asked for, and keeps it
 * (locking_mode=EXCLUSIVE), or was refused, and is closed without an unlock. */
TEST(hot_journal, rollback_is_over_when_granted_and_when_closed)
{
	CLEANUP(fixture_close)
	struct fixture f = fixture_config((struct pp_config){ .readers = 1 });
	sqlite3_file *writer, *reader, *alone, *refused, *other;
	char path[128] = "", its_own[128] = "";

	snprintf(path, sizeof path, "%s", in(&f, "written.db"));
	snprintf(its_own, sizeof its_own, "%s", in(&f, "rolled_back.db"));
	CHECK_INT(vfs_register(), ==, SQLITE_OK);
	writer = file_open(path);
	reader = file_open(path);
	alone = file_open(its_own);
	CHECK_INT(reserved_is_seen(writer, reader), ==, 1);
	CHECK_INT(lock_up_to(alone, SQLITE_LOCK_EXCLUSIVE), ==, SQLITE_OK);
	CHECK_INT(reserved_is_seen(writer, reader), ==, 1);
	file_close(alone);

	other = file_open(its_own);
	refused = file_open(its_own);
	CHECK_INT(other->pMethods->xLock(other, SQLITE_LOCK_SHARED), ==, SQLITE_OK);
	CHECK_INT(lock_up_to(refused, SQLITE_LOCK_EXCLUSIVE), ==, SQLITE_BUSY);
	CHECK_INT(reserved_is_seen(writer, reader), ==, 0);
	file_close(refused);
	CHECK_INT(reserved_is_seen(writer, reader), ==, 1);
	file_close(other);
	file_close(reader);
	file_close(writer);
}
