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
