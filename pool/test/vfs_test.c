/* A disk that fails: a VFS below the pool's shim refuses each call of each kind once, and from then
 * on. What a commit said is what is in the file, and nothing leaks. */
/* SPDX-License-Identifier: MIT */
#include "fixture.h"

#include "internal.h"

/* --- A disk with a plan ------------------------------------------------------------------- */

enum op {
	OP_OPEN,
	OP_DELETE,
	OP_READ,
	OP_WRITE,
	OP_TRUNCATE,
	OP_SYNC,
	OP_LOCK,
	OP_SHM_MAP,
	OP_SHM_LOCK
};

/* Each test has its own process, and these are its disk's. */
static struct {
	sqlite3_vfs vfs, *real;
	/* Of the database, and of its journal, which is never locked. */
	sqlite3_io_methods methods[2], real_methods[2];
	bool without_shared_memory, without_powersafe;
	enum op op;
	unsigned calls;   /* Of op since the plan was made. */
	unsigned fail_at; /* Which of them fails; 0: none does. */
	bool lasting;     /* And all after it. */
	int code;
	unsigned failed;
	unsigned sector_sizes, fetches; /* How often asked for. */
} disk;

static int fault(enum op op)
{
	if (disk.fail_at == 0 || op != disk.op)
		return SQLITE_OK;
	disk.calls++;
	if (disk.calls < disk.fail_at || (disk.calls > disk.fail_at && !disk.lasting))
		return SQLITE_OK;
	disk.failed++;
	return disk.code;
}

static int disk_read(sqlite3_file *file, void *buffer, int size, sqlite3_int64 offset)
{
	int rc = fault(OP_READ);

	return rc != SQLITE_OK ? rc : disk.real_methods[0].xRead(file, buffer, size, offset);
}

static int disk_write(sqlite3_file *file, const void *buffer, int size, sqlite3_int64 offset)
{
	int rc = fault(OP_WRITE);

	return rc != SQLITE_OK ? rc : disk.real_methods[0].xWrite(file, buffer, size, offset);
}

static int disk_truncate(sqlite3_file *file, sqlite3_int64 size)
{
	int rc = fault(OP_TRUNCATE);

	return rc != SQLITE_OK ? rc : disk.real_methods[0].xTruncate(file, size);
}

static int disk_sync(sqlite3_file *file, int flags)
{
	(void)file, (void)flags; /* Power does not fail here, and real syncs would take long. */
	return fault(OP_SYNC);
}

static int disk_lock(sqlite3_file *file, int level)
{
	int rc = fault(OP_LOCK);

	return rc != SQLITE_OK ? rc : disk.real_methods[0].xLock(file, level);
}

static int disk_shm_map(sqlite3_file *file, int region, int size, int extend, void volatile **ret)
{
	int rc = disk.real_methods[0].xShmMap(file, region, size, extend, ret);

	/* After the call: what it has allocated by then must not be lost. */
	return rc != SQLITE_OK ? rc : fault(OP_SHM_MAP);
}

static int disk_shm_lock(sqlite3_file *file, int offset, int count, int flags)
{
	int rc = (flags & SQLITE_SHM_LOCK) != 0 ? fault(OP_SHM_LOCK) : SQLITE_OK;

	return rc != SQLITE_OK ? rc : disk.real_methods[0].xShmLock(file, offset, count, flags);
}

static int disk_characteristics(sqlite3_file *file)
{
	int all = disk.real_methods[0].xDeviceCharacteristics(file);

	return disk.without_powersafe ? all & ~SQLITE_IOCAP_POWERSAFE_OVERWRITE : all;
}

static int disk_sector_size(sqlite3_file *file)
{
	disk.sector_sizes++;
	return disk.real_methods[0].xSectorSize(file);
}

static int disk_fetch(sqlite3_file *file, sqlite3_int64 offset, int size, void **ret)
{
	disk.fetches++;
	return disk.real_methods[0].xFetch(file, offset, size, ret);
}

static void methods_make(unsigned kind, const sqlite3_io_methods *real)
{
	sqlite3_io_methods *methods = &disk.methods[kind];

	disk.real_methods[kind] = *methods = *real;
	methods->xRead = disk_read;
	methods->xWrite = disk_write;
	methods->xTruncate = disk_truncate;
	methods->xSync = disk_sync;
	methods->xDeviceCharacteristics = disk_characteristics;
	methods->xSectorSize = disk_sector_size;
	methods->xFetch = disk_fetch;
	if (kind == 1)
		return;
	methods->xLock = disk_lock;
	methods->xShmMap = disk.without_shared_memory ? NULL : disk_shm_map;
	methods->xShmLock = disk_shm_lock;
}

/* The file is the real one with other methods. A failing open leaves it open, which is allowed:
 * whoever sees methods in a file that failed to open closes it. */
static int disk_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *file, int flags,
                     int *ret_flags)
{
	int rc = disk.real->xOpen(disk.real, name, file, flags, ret_flags);
	unsigned kind = (flags & SQLITE_OPEN_MAIN_DB) == 0;

	CHECK(vfs == &disk.vfs);
	if (rc != SQLITE_OK)
		return rc;
	if (disk.methods[kind].xRead == NULL)
		methods_make(kind, file->pMethods);
	file->pMethods = &disk.methods[kind];
	return fault(OP_OPEN);
}

static int disk_delete(sqlite3_vfs *vfs, const char *name, int sync)
{
	int rc = fault(OP_DELETE);

	CHECK(vfs == &disk.vfs);
	return rc != SQLITE_OK ? rc : disk.real->xDelete(disk.real, name, sync);
}

/* The default VFS from here on, so that it is what the pool wraps. */
static void disk_install(void)
{
	CHECK_INT(pp_setup(0), ==, PP_OK); /* Before SQLite is initialised. */
	disk.real = sqlite3_vfs_find(NULL);
	disk.vfs = *disk.real;
	disk.vfs.zName = "failing";
	disk.vfs.xOpen = disk_open;
	disk.vfs.xDelete = disk_delete;
	CHECK_INT(sqlite3_vfs_register(&disk.vfs, 1), ==, SQLITE_OK);
}

static void disk_plan(enum op op, unsigned fail_at, bool lasting, int code)
{
	disk.op = op;
	disk.calls = disk.failed = 0;
	disk.fail_at = fail_at;
	disk.lasting = lasting;
	disk.code = code;
}

/* --- It fails -------------------------------------------------------------------------------- */

static const struct {
	const char *what;
	enum op op;
	int code;
} faults[] = {
	{ "open", OP_OPEN, SQLITE_CANTOPEN },
	{ "delete", OP_DELETE, SQLITE_IOERR_DELETE },
	{ "read", OP_READ, SQLITE_IOERR_READ },
	{ "write", OP_WRITE, SQLITE_IOERR_WRITE },
	{ "disk full", OP_WRITE, SQLITE_FULL },
	{ "sync", OP_SYNC, SQLITE_IOERR_FSYNC },
	{ "lock", OP_LOCK, SQLITE_IOERR_LOCK },
	{ "shared memory", OP_SHM_MAP, SQLITE_IOERR_SHMMAP },
	{ "its locks", OP_SHM_LOCK, SQLITE_IOERR_SHMLOCK },
};
enum {
	FAULTS = sizeof faults / sizeof *faults,
	FAULTS_OF_WAL = 2 /* The last ones: without a WAL there is no shared memory. */
};

static void sweep(struct life *life, int row, bool lasting, unsigned stride)
{
	unsigned met = 0, failed;

	for (life->n = 1;; life->n += stride) {
		disk_plan(faults[row].op, life->n, lasting, faults[row].code);
		life_live(life);
		if (lasting || disk.failed == 0) /* Else the pool that met it must work on. */
			life_end(life);
		failed = disk.failed;
		disk_plan(faults[row].op, 0, false, SQLITE_OK);
		life_prove(life);
		if (failed == 0)
			break;
		met++;
	}
	CHECK_MSG(met > 0, "%s: no call of it was met", faults[row].what);
}

static void sweep_journal(int row, enum pp_journal journal)
{
	CLEANUP(fixture_remove) struct fixture f = fixture_dir();
	struct life life = { .config = { .path = f.path, .readers = 1, .journal = journal },
		             .what = faults[row].what,
		             .failure = PP_SQLITE };

	disk_install();
	life_start(&life);
	sweep(&life, row, false, slowness());
	sweep(&life, row, true, 3 * slowness());
}

TEST_ROWS(vfs, fails_anywhere_and_a_commit_with_a_wal_is_whole, FAULTS)
{
	sweep_journal(row, PP_JOURNAL_WAL);
}

TEST_ROWS(vfs, fails_anywhere_and_a_commit_with_a_journal_is_whole, FAULTS - FAULTS_OF_WAL)
{
	sweep_journal(row, PP_JOURNAL_DELETE);
}

/* A connection whose file failed under it is of no more use, also when SQLite goes on with it. */
TEST(vfs, io_error_costs_the_connection)
{
	CLEANUP(fixture_close) struct fixture f = { 0 };
	struct pp_lease lease = { 0 };

	disk_install();
	f = fixture_open(1);
	acquire(f.pool, PP_WRITE, &lease);
	disk_plan(OP_SYNC, 1, false, SQLITE_IOERR_FSYNC);
	CHECK_INT(sqlite3_exec(lease.db, "INSERT INTO t DEFAULT VALUES", NULL, NULL, NULL), ==,
	          SQLITE_IOERR_FSYNC);
	pp_release(&lease);
	CHECK_INT(stats(f.pool).retired, ==, 1);
	CHECK_INT(stats(f.pool).dirty, ==, 0);
	acquire(f.pool, PP_WRITE, &lease);
	CHECK_INT(number(lease.db, "SELECT count(*) FROM t"), ==, 0);
	pp_release(&lease);
}

/* Nothing in an error belongs to the connection that it tells of. */
TEST(vfs, error_outlives_the_connection)
{
	CLEANUP(fixture_close) struct fixture f = { 0 };
	struct pp_lease lease = { 0 };
	struct pp_error error = { 0 };
	char text[512];

	disk_install();
	f = fixture_open(1);
	acquire(f.pool, PP_WRITE, &lease);
	disk_plan(OP_SHM_LOCK, 1, true, SQLITE_IOERR_SHMLOCK);
	CHECK_INT(pp_begin(&lease, &error), ==, PP_SQLITE);
	pp_release(&lease);
	disk_plan(OP_SHM_LOCK, 0, false, SQLITE_OK);
	CHECK_INT(stats(f.pool).retired, ==, 1);
	CHECK_STR(error.doing, "BEGIN IMMEDIATE");
	pp_error_text(&error, text, sizeof text);
	CHECK_CONTAINS(text, "BEGIN IMMEDIATE: SQLite refused: disk I/O error");
}

TEST(vfs, without_shared_memory_has_no_wal)
{
	CLEANUP(fixture_close) struct fixture f = fixture_dir();
	struct pp_config config = { .path = f.path, .readers = 1 };
	struct pp_error error = { 0 };
	struct pp_lease lease = { 0 };

	disk.without_shared_memory = true;
	disk_install();
	CHECK_INT(pp_open(&config, &f.pool, &error), ==, PP_SQLITE);
	CHECK_CONTAINS(error.message, "the journal mode stays \"delete\"");
	config.journal = PP_JOURNAL_DELETE;
	must(pp_open(&config, &f.pool, &error), &error);
	acquire(f.pool, PP_WRITE, &lease);
	sql(lease.db, "CREATE TABLE t(a); INSERT INTO t VALUES (1)");
	pp_release(&lease);
}

/* The shim answers what SQLite asks with the real file's answers: how big a sector is, where no
 * promise makes the question needless ... */
TEST(vfs, without_a_promise_is_asked_for_its_sectors)
{
	CLEANUP(fixture_close) struct fixture f = { 0 };

	disk.without_powersafe = true;
	disk_install();
	f = fixture_open(1);
	CHECK_INT(disk.sector_sizes, >, 0);
}

static int map_pages(sqlite3 *db, void *context)
{
	(void)context;
	return sqlite3_exec(db, "PRAGMA mmap_size=1048576", NULL, NULL, NULL);
}

/* ... and where its pages are, when they are mapped. */
TEST(vfs, maps_its_pages)
{
	CLEANUP(fixture_close) struct fixture f = { 0 };
	struct pp_lease lease = { 0 };

	disk_install();
	f = fixture_config((struct pp_config){
		.readers = 1, .on_open = map_pages, .journal = PP_JOURNAL_DELETE });
	acquire(f.pool, PP_WRITE, &lease);
	sql(lease.db, "INSERT INTO t VALUES (1, 7)");
	pp_release(&lease);
	acquire(f.pool, PP_READ, &lease);
	CHECK_INT(number(lease.db, "SELECT v FROM t"), ==, 7);
	pp_release(&lease);
	CHECK_INT(disk.fetches, >, 0);
}

TEST(vfs, that_is_missing_is_said)
{
	CLEANUP(fixture_close) struct fixture f = fixture_dir();
	struct pp_config config = { .path = f.path, .readers = 1 };
	struct pp_error error = { 0 };
	sqlite3_vfs *memdb;

	CHECK_INT(pp_setup(0), ==, PP_OK);
	memdb = sqlite3_vfs_find("memdb");
	CHECK(memdb != NULL);
	sqlite3_vfs_unregister(memdb);
	CHECK_INT(pp_open(&config, &f.pool, &error), ==, PP_SQLITE);
	CHECK_INT(error.sqlite_code, ==, SQLITE_NOTFOUND);
	CHECK(f.pool == NULL);
	sqlite3_vfs_register(memdb, 0);
	must(pp_open(&config, &f.pool, &error), &error);
}

/* A connection that cannot read its file is closed by the check of idle ones. */
TEST(vfs, failing_connection_is_found_by_the_health_check)
{
	CLEANUP(fixture_close) struct fixture f = { 0 };
	struct pp_lease lease = { 0 };

	disk_install();
	f = fixture_config((struct pp_config){ .readers = 1, .keeper = PP_KEEPER_MANUAL });
	clock_travel_ms(30100);
	disk_plan(OP_SHM_LOCK, 1, false, SQLITE_IOERR_SHMLOCK);
	pp_keep(f.pool, NULL);
	CHECK_INT(disk.failed, ==, 1);
	CHECK_INT(stats(f.pool).health_checks, ==, 2);
	CHECK_INT(stats(f.pool).health_failures, ==, 1);
	CHECK_INT(stats(f.pool).read.open + stats(f.pool).write.open, ==, 1);
	acquire(f.pool, PP_READ, &lease);
	pp_release(&lease);
	CHECK_INT(rows_in(f.pool), ==, 0);
}

/* SELECT 1 does not even look. */
TEST(vfs, failing_connection_is_not_found_by_select_1)
{
	CLEANUP(fixture_close) struct fixture f = { 0 };

	disk_install();
	f = fixture_config((struct pp_config){
		.readers = 1, .keeper = PP_KEEPER_MANUAL, .health = PP_HEALTH_SELECT_1 });
	clock_travel_ms(30100);
	disk_plan(OP_SHM_LOCK, 1, true, SQLITE_IOERR_SHMLOCK);
	pp_keep(f.pool, NULL);
	disk_plan(OP_SHM_LOCK, 0, false, SQLITE_OK);
	CHECK_INT(stats(f.pool).health_checks, ==, 2);
	CHECK_INT(stats(f.pool).health_failures, ==, 0);
}

/* --- Any default VFS will do -------------------------------------------------------------- */

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

TEST(vfs, of_version_1_will_do)
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

TEST(vfs, of_version_1_has_no_wal)
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

TEST(vfs, is_called_by_its_own_pointer)
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
