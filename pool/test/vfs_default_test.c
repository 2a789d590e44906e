/* Any default VFS will do: an old one, a new one, and one that is part of something larger. */
/* SPDX-License-Identifier: MIT */
#include "fixture.h"

#include "internal.h"

/* A VFS that is part of something larger, as those in C++ or with state of their own are. Each
 * method finds it by the pointer that it is handed. */
static struct larger {
	sqlite3_vfs vfs, *real;
	unsigned magic, calls;
	sqlite3_io_methods methods[2]; /* Of the database, and of its journal. */
} larger;

static sqlite3_vfs *within(sqlite3_vfs *vfs)
{
	struct larger *self = (struct larger *)vfs;

	CHECK(self == &larger);
	CHECK_INT(self->magic, ==, 0x1a56e5);
	self->calls++;
	return self->real;
}

/* Methods of version 1: no WAL, and no mapped pages. What follows in the struct is not theirs. */
static int larger_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *file, int flags,
                       int *ret_flags)
{
	sqlite3_vfs *real = within(vfs);
	sqlite3_io_methods *methods = &larger.methods[(flags & SQLITE_OPEN_MAIN_DB) == 0];
	int rc = real->xOpen(real, name, file, flags, ret_flags);

	if (rc != SQLITE_OK || vfs->iVersion > 1)
		return rc;
	*methods = *file->pMethods;
	methods->iVersion = 1;
	memset(&methods->xShmMap, 0xff, sizeof *methods - offsetof(sqlite3_io_methods, xShmMap));
	file->pMethods = methods;
	return rc;
}

static int larger_delete(sqlite3_vfs *vfs, const char *name, int sync)
{
	return within(vfs)->xDelete(larger.real, name, sync);
}

static int larger_access(sqlite3_vfs *vfs, const char *name, int flags, int *ret)
{
	return within(vfs)->xAccess(larger.real, name, flags, ret);
}

static int larger_full_pathname(sqlite3_vfs *vfs, const char *name, int size, char *ret)
{
	return within(vfs)->xFullPathname(larger.real, name, size, ret);
}

static void *larger_dl_open(sqlite3_vfs *vfs, const char *name)
{
	return within(vfs)->xDlOpen(larger.real, name);
}

static void larger_dl_error(sqlite3_vfs *vfs, int size, char *ret)
{
	within(vfs)->xDlError(larger.real, size, ret);
}

static void (*larger_dl_sym(sqlite3_vfs *vfs, void *library, const char *symbol))(void)
{
	return within(vfs)->xDlSym(larger.real, library, symbol);
}

static void larger_dl_close(sqlite3_vfs *vfs, void *library)
{
	within(vfs)->xDlClose(larger.real, library);
}

static int larger_randomness(sqlite3_vfs *vfs, int size, char *ret)
{
	return within(vfs)->xRandomness(larger.real, size, ret);
}

static int larger_sleep(sqlite3_vfs *vfs, int us)
{
	return within(vfs)->xSleep(larger.real, us);
}

static int larger_current_time(sqlite3_vfs *vfs, double *ret)
{
	within(vfs);
	*ret = 2460000.5;
	return SQLITE_OK;
}

static int larger_last_error(sqlite3_vfs *vfs, int size, char *ret)
{
	return within(vfs)->xGetLastError(larger.real, size, ret);
}

static int larger_current_time_ms(sqlite3_vfs *vfs, sqlite3_int64 *ret)
{
	return within(vfs)->xCurrentTimeInt64(larger.real, ret);
}

static int larger_call_set(sqlite3_vfs *vfs, const char *name, sqlite3_syscall_ptr call)
{
	return within(vfs)->xSetSystemCall(larger.real, name, call);
}

static sqlite3_syscall_ptr larger_call_get(sqlite3_vfs *vfs, const char *name)
{
	return within(vfs)->xGetSystemCall(larger.real, name);
}

static const char *larger_call_next(sqlite3_vfs *vfs, const char *name)
{
	return within(vfs)->xNextSystemCall(larger.real, name);
}

static void larger_install(int version)
{
	CHECK_INT(pp_setup(0), ==, PP_OK);
	larger.real = sqlite3_vfs_find(NULL);
	larger.magic = 0x1a56e5;
	larger.vfs = (sqlite3_vfs){
		.iVersion = version,
		.szOsFile = larger.real->szOsFile,
		.mxPathname = larger.real->mxPathname,
		.zName = "larger",
		.xOpen = larger_open,
		.xDelete = larger_delete,
		.xAccess = larger_access,
		.xFullPathname = larger_full_pathname,
		.xRandomness = larger_randomness,
		.xSleep = larger_sleep,
		.xCurrentTime = larger_current_time,
	};
	if (version == 1) /* What is behind a struct of version 1 is not its own. */
		memset(&larger.vfs.xCurrentTimeInt64, 0xff,
		       sizeof larger.vfs - offsetof(sqlite3_vfs, xCurrentTimeInt64));
	CHECK_INT(sqlite3_vfs_register(&larger.vfs, 1), ==, SQLITE_OK);
}

TEST(vfs_default, of_version_1_will_do)
{
	CLEANUP(fixture_close) struct fixture f = { 0 };
	struct pp_lease lease = { 0 };
	sqlite3_vfs *shim;

	larger_install(1);
	f = fixture_config((struct pp_config){
		.readers = 1, .journal = PP_JOURNAL_DELETE, .on_open = map_pages });
	acquire(f.pool, PP_WRITE, &lease);
	sql(lease.db, "INSERT INTO t VALUES (1, 7); VACUUM");
	CHECK_INT(number(lease.db, "SELECT strftime('%Y', 'now')"), ==, 2023);
	pp_release(&lease);
	CHECK_INT(rows_in(f.pool), ==, 1);
	CHECK_INT(larger.calls, >, 10);
	shim = sqlite3_vfs_find("poolproof");
	CHECK_INT(shim->iVersion, ==, 1);
	CHECK(shim->xDlOpen == NULL && shim->xGetLastError == NULL);
	CHECK(shim->xCurrentTimeInt64 == NULL && shim->xSetSystemCall == NULL);
}

TEST(vfs_default, of_version_1_has_no_wal)
{
	CLEANUP(fixture_close) struct fixture f = fixture_dir();
	struct pp_error error = { 0 };

	larger_install(1);
	CHECK_INT(pp_open(&(struct pp_config){ .path = f.path }, &f.pool, &error), ==, PP_SQLITE);
	CHECK_CONTAINS(error.message, "the journal mode stays \"delete\"");
}

/* Those that SQLite seldom calls, or only for extensions. */
static void call_each(sqlite3_vfs *vfs)
{
	char text[64] = "";
	void *library = vfs->xDlOpen(vfs, "libm.so.6");
	sqlite3_int64 ms = 0;
	double day = 0;

	CHECK(library != NULL);
	CHECK(vfs->xDlSym(vfs, library, "cosh") != NULL);
	vfs->xDlClose(vfs, library);
	CHECK(vfs->xDlOpen(vfs, "/no/such/library") == NULL);
	vfs->xDlError(vfs, sizeof text, text);
	CHECK_CONTAINS(text, "/no/such/library");
	CHECK_INT(vfs->xRandomness(vfs, 16, text), ==, 16);
	CHECK_INT(vfs->xSleep(vfs, 1), >, 0);
	CHECK_INT(vfs->xCurrentTime(vfs, &day), ==, SQLITE_OK);
	CHECK(day == 2460000.5);
	CHECK_INT(vfs->xCurrentTimeInt64(vfs, &ms), ==, SQLITE_OK);
	CHECK_INT(ms, >, 0);
	vfs->xGetLastError(vfs, sizeof text, text);
	CHECK(vfs->xGetSystemCall(vfs, "open") != NULL);
	CHECK_STR(vfs->xNextSystemCall(vfs, NULL), "open");
	CHECK_INT(vfs->xSetSystemCall(vfs, "open", NULL), ==, SQLITE_OK); /* Its own again. */
}

TEST(vfs_default, is_called_by_its_own_pointer)
{
	CLEANUP(fixture_close) struct fixture f = { 0 };
	unsigned calls;

	larger_install(4); /* Newer than what is known: what it has more is not offered. */
	larger.vfs.xDlOpen = larger_dl_open;
	larger.vfs.xDlError = larger_dl_error;
	larger.vfs.xDlSym = larger_dl_sym;
	larger.vfs.xDlClose = larger_dl_close;
	larger.vfs.xGetLastError = larger_last_error;
	larger.vfs.xCurrentTimeInt64 = larger_current_time_ms;
	larger.vfs.xSetSystemCall = larger_call_set;
	larger.vfs.xGetSystemCall = larger_call_get;
	larger.vfs.xNextSystemCall = larger_call_next;
	f = fixture_open(1);
	CHECK_INT(rows_in(f.pool), ==, 0);
	CHECK_INT(sqlite3_vfs_find("poolproof")->iVersion, ==, 3);
	calls = larger.calls;
	call_each(sqlite3_vfs_find("poolproof"));
	CHECK_INT(larger.calls, ==, calls + 13);
}

/* SQLite asks for each method that came later whether it is there. */
TEST(vfs_default, of_version_3_may_lack_what_came_with_it)
{
	CLEANUP(fixture_close) struct fixture f = { 0 };
	struct pp_lease lease = { 0 };
	sqlite3_vfs *shim;

	larger_install(3);
	f = fixture_config((struct pp_config){ .readers = 1 });
	acquire(f.pool, PP_READ, &lease);
	CHECK_INT(number(lease.db, "SELECT strftime('%Y', 'now')"), ==, 2023);
	pp_release(&lease);
	shim = sqlite3_vfs_find("poolproof");
	CHECK_INT(shim->iVersion, ==, 3);
	CHECK(shim->xCurrentTimeInt64 == NULL && shim->xSetSystemCall == NULL);
}
