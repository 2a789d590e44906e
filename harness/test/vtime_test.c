/* Time that passes when SQLite sleeps. */
/* SPDX-License-Identifier: MIT */
#include "database.h"
#include "internal.h"

#include <poolproof/harness/vtime.h>

static uint64_t told_ns;

static void listen(uint64_t ns)
{
	told_ns += ns;
}

static void begin(void)
{
	CHECK_INT(sqlite3_initialize(), ==, SQLITE_OK);
	CHECK(harness_vtime_begin());
	harness_vtime_listen(listen);
}

static int64_t sqlites_ms(void)
{
	sqlite3_vfs *vfs = sqlite3_vfs_find(NULL);
	sqlite3_int64 ms = 0;

	CHECK_INT(vfs->xCurrentTimeInt64(vfs, &ms), ==, SQLITE_OK);
	return ms;
}

TEST(vtime, passes_when_sqlite_sleeps)
{
	uint64_t start = now_ns();
	double days = 0;
	int64_t ms;

	begin();
	ms = sqlites_ms();
	sqlite3_sleep(1800000);
	sqlite3_sleep(1800000);
	sqlite3_sleep(-1);
	CHECK_INT(harness_vtime_ns(), ==, UINT64_C(3600000000000));
	CHECK_INT(told_ns, ==, harness_vtime_ns());
	CHECK_INT(sqlites_ms() - ms, >=, 3600000);
	sqlite3_vfs_find(NULL)->xCurrentTime(sqlite3_vfs_find(NULL), &days);
	CHECK(days * 86400000.0 - (double)ms > 3599000);
	CHECK_INT(now_ns() - start, <, UINT64_C(600000000000));
	harness_vtime_end();
	CHECK_INT(sqlites_ms() - ms, <, 3600000);
}

/* Whoever sleeps himself says so. */
TEST(vtime, passes_when_somebody_says_so)
{
	begin();
	harness_vtime_sleep_ns(5);
	harness_vtime_sleep_ns(7);
	CHECK_INT(harness_vtime_ns(), ==, 12);
	CHECK_INT(told_ns, ==, 12);
	harness_vtime_listen(NULL);
	harness_vtime_sleep_ns(1);
	CHECK_INT(told_ns, ==, 12);
	harness_vtime_end();
	CHECK(harness_vtime_begin());
	CHECK_INT(harness_vtime_ns(), ==, 0);
	harness_vtime_end();
}

/* A minute of patience with a lock that nobody gives back. */
TEST(vtime, makes_a_busy_timeout_quick)
{
	CLEANUP(database_remove) struct database d = database_new("WAL");
	uint64_t start = now_ns();
	sqlite3 *holder, *waiter;

	begin();
	CHECK_INT(sqlite3_open(d.path, &holder), ==, SQLITE_OK);
	CHECK_INT(database_write(holder, "WAL"), ==, SQLITE_OK);
	CHECK_INT(database_exec(holder, "BEGIN IMMEDIATE"), ==, SQLITE_OK);
	CHECK_INT(sqlite3_open(d.path, &waiter), ==, SQLITE_OK);
	sqlite3_busy_timeout(waiter, 60000);
	CHECK_INT(database_exec(waiter, "BEGIN IMMEDIATE"), ==, SQLITE_BUSY);
	CHECK_INT(harness_vtime_ns(), >=, UINT64_C(59000000000));
	CHECK_INT(now_ns() - start, <, UINT64_C(15000000000) * slowness());
	sqlite3_close(waiter);
	sqlite3_close(holder);
	harness_vtime_end();
}

TEST(vtime, is_the_real_one_again_after_its_end)
{
	uint64_t start = now_ns();

	begin();
	harness_vtime_end();
	sqlite3_sleep(20);
	CHECK_INT(now_ns() - start, >=, 20000000);
	CHECK_INT(told_ns, ==, 0);
}
