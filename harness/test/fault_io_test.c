/* The places "io." on a real SQLite: every system call of a database's life fails. */
/* SPDX-License-Identifier: MIT */
#include "database.h"
#include "fault_internal.h"
#include "internal.h"

#include <poolproof/harness/vtime.h>

#include <errno.h>

/* A life of three parts; says whether the commit was acknowledged. */
static int life(const struct database *d, bool *ret_committed)
{
	sqlite3 *db = NULL;
	int rc = sqlite3_open_v2(d->path, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, NULL);

	if (rc == SQLITE_OK)
		rc = database_write(db, d->journal);
	*ret_committed = rc == SQLITE_OK;
	if (rc == SQLITE_OK)
		rc = database_read(db);
	sqlite3_close(db);
	return rc;
}

static void begin(void)
{
	CHECK(sqlite3_initialize() == SQLITE_OK && harness_fault_io() && harness_fault_io());
	CHECK(harness_vtime_begin());
	vfs_sync_skip(true); /* No process dies here, and the disk is slow. */
}

static const struct {
	const char *what, *journal, *place;
	enum harness_fault_action action;
	int error;
	uint64_t times;
	unsigned points_min;
} sweeps[] = {
	{ "EIO", "WAL", "io.*", HARNESS_FAULT_FAIL, EIO, 1, 100 },
	{ "EIO", "DELETE", "io.*", HARNESS_FAULT_FAIL, EIO, 1, 60 },
	{ "EIO from then on", "WAL", "io.*", HARNESS_FAULT_FAIL, EIO, UINT64_MAX, 60 },
	{ "EIO from then on", "DELETE", "io.*", HARNESS_FAULT_FAIL, EIO, UINT64_MAX, 60 },
	{ "ENOSPC", "WAL", "io.*", HARNESS_FAULT_FAIL, ENOSPC, 1, 100 },
	{ "ENOSPC from then on", "DELETE", "io.pwrite*", HARNESS_FAULT_FAIL, ENOSPC, UINT64_MAX,
	  5 },
	{ "EMFILE", "WAL", "io.open", HARNESS_FAULT_FAIL, EMFILE, 1, 3 },
	{ "EINTR", "WAL", "io.*", HARNESS_FAULT_FAIL, EINTR, 1, 100 },
	{ "EINTR", "DELETE", "io.*", HARNESS_FAULT_FAIL, EINTR, 1, 60 },
	{ "half", "WAL", "io.*", HARNESS_FAULT_SHORT, 0, 1, 100 },
	{ "half, always", "DELETE", "io.p*", HARNESS_FAULT_SHORT, 0, UINT64_MAX, 10 },
	{ "a lock is refused", "WAL", "io.fcntl", HARNESS_FAULT_FAIL, EAGAIN, 1, 20 },
	{ "locks are refused", "WAL", "io.fcntl", HARNESS_FAULT_FAIL, EAGAIN, UINT64_MAX, 10 },
	{ "no sync", "WAL", "io.sync", HARNESS_FAULT_FAIL, EIO, 1, 3 },
	{ "no sync", "DELETE", "io.sync", HARNESS_FAULT_FAIL, EIO, 1, 4 },
};

TEST_ROWS(fault_io, leaves_the_database_before_or_after, sizeof sweeps / sizeof *sweeps)
{
	CLEANUP(database_remove) struct database d = database_new(sweeps[row].journal);
	struct harness_sweep sweep = { .plans[0] = { .place = sweeps[row].place,
		                                     .action = sweeps[row].action,
		                                     .error = sweeps[row].error,
		                                     .times = sweeps[row].times },
		                       .stride = slowness() > 5 ? 17 : 1 };
	uint64_t start = now_ns();
	unsigned failed = 0;

	begin();
	while (harness_sweep_next(&sweep)) {
		const struct harness_fault *plan = &sweep.plans[0];
		bool committed;
		int64_t rows;
		int rc;

		database_empty(&d);
		harness_sweep_arm(&sweep);
		rc = life(&d, &committed);
		harness_sweep_disarm(&sweep);
		rows = database_is_whole(&d);
		CHECK_MSG(!committed || rows == 2, "%s at %llu (%s): the commit is lost",
		          sweeps[row].what, (unsigned long long)plan->skip, plan->hit);
		CHECK_MSG(rc == SQLITE_OK || plan->hits > 0, "code %d without a fault", rc);
		failed += rc != SQLITE_OK;
	}
	CHECK_INT(sweep.rounds * sweep.stride, >=, sweeps[row].points_min);
	/* What comes in parts is put together; anything else is noticed somewhere. */
	if (sweeps[row].action == HARNESS_FAULT_SHORT)
		CHECK_INT(failed, ==, 0);
	else if (sweep.stride == 1)
		CHECK_INT(failed, >, 0);
	/* SQLite would have slept for minutes. */
	CHECK_INT(now_ns() - start, <, UINT64_C(10000000000) * slowness());
}
