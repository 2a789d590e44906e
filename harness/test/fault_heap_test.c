/* The place "heap" on a real SQLite: every allocation of a database's life fails. */
/* SPDX-License-Identifier: MIT */
#include "database.h"
#include "fault_internal.h"

/* Ends with the first thing that fails. */
static int life(const struct database *d)
{
	sqlite3 *db = NULL;
	int rc = sqlite3_open_v2(d->path, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, NULL);

	if (rc == SQLITE_OK)
		rc = database_write(db, d->journal);
	if (rc == SQLITE_OK)
		rc = database_read(db);
	if (db != NULL && sqlite3_close(db) != SQLITE_OK)
		return SQLITE_MISUSE;
	return rc;
}

static bool is_out_of_memory(int rc)
{
	return (rc & 0xff) == SQLITE_NOMEM || rc == SQLITE_IOERR_NOMEM;
}

static const struct {
	const char *journal;
	uint64_t times;
	unsigned points_min;
} sweeps[] = {
	{ "WAL", 1, 300 },
	{ "WAL", UINT64_MAX, 300 },
	{ "DELETE", 1, 300 },
	{ "DELETE", UINT64_MAX, 300 },
};

TEST_ROWS(fault_heap, is_out_of_memory_or_without_need, sizeof sweeps / sizeof *sweeps)
{
	CLEANUP(database_remove) struct database d = database_new(sweeps[row].journal);
	struct harness_sweep sweep = { .plans[0] = { .place = "heap", .times = sweeps[row].times },
		                       .stride = slowness() > 5 ? 29 : 1 };
	unsigned failed = 0;

	CHECK(harness_fault_heap() && harness_fault_heap());
	CHECK(sqlite3_initialize() == SQLITE_OK && vfs_hook());
	vfs_sync_skip(true);
	while (harness_sweep_next(&sweep)) {
		const struct harness_fault *plan = &sweep.plans[0];
		int rc;

		database_empty(&d);
		harness_sweep_arm(&sweep);
		rc = life(&d);
		harness_sweep_disarm(&sweep);
		CHECK_MSG(rc == SQLITE_OK ? plan->hits == plan->benign : is_out_of_memory(rc),
		          "allocation %llu: code %d, %llu failed, %llu of them benign",
		          (unsigned long long)plan->skip, rc, (unsigned long long)plan->hits,
		          (unsigned long long)plan->benign);
		CHECK(rc == SQLITE_OK || plan->hits > 0);
		failed += rc != SQLITE_OK;
		database_is_whole(&d);
	}
	CHECK_INT(sweep.rounds * sweep.stride, >=, sweeps[row].points_min);
	CHECK_INT(failed * sweep.stride, >=, sweeps[row].points_min / 2);
	CHECK_INT(sqlite3_memory_used(), ==, 0);
}

/* An allocation has no half. */
TEST(fault_heap, is_not_cut_short)
{
	struct harness_fault plan = { .place = "heap",
		                      .action = HARNESS_FAULT_SHORT,
		                      .times = UINT64_MAX };
	CLEANUP(database_remove) struct database d = database_new("WAL");

	CHECK(harness_fault_heap());
	CHECK_INT(sqlite3_initialize(), ==, SQLITE_OK);
	harness_fault_arm(&plan, 1);
	CHECK_INT(life(&d), ==, SQLITE_OK);
	harness_fault_disarm();
	CHECK_INT(plan.hits, >=, 300);
}
