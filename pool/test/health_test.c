/* The file under the pool is deleted, replaced, cut, made read-only: it is noticed. Connections are
 * checked. */
/* SPDX-License-Identifier: MIT */
#include "changes.h"

#include <dlfcn.h>
#include <fcntl.h>

static const struct {
	void (*change)(const struct fixture *f);
	const char *words;
} changes[] = {
	{ delete, "a.db was deleted: No such file" },
	{ replace, "a.db was replaced by another file" },
	{ replace_by_link, "a.db was replaced by another file" },
	{ cut, "a.db was cut from " },
	{ make_read_only, "a.db was made read-only" },
};
enum { CHANGES = sizeof changes / sizeof *changes };

/* --- It is noticed --------------------------------------------------------------------------- */

TEST_ROWS(health, change_is_noticed_before_the_writer_is_lent, CHANGES)
{
	struct diary diary = { 0 };
	CLEANUP(fixture_close) struct fixture f = filled((struct pp_config){ 0 }, &diary);
	struct pp_lease lease = { 0 };
	struct pp_error error = { 0 };

	changes[row].change(&f);
	CHECK_INT(pp_acquire(f.pool, PP_WRITE, PP_NO_WAIT, &lease, &error), ==, PP_FILE_CHANGED);
	CHECK_CONTAINS(error.message, changes[row].words);
	CHECK(lease.db == NULL);
	check_tripped(f.pool, &diary, changes[row].words);
}

TEST_ROWS(health, change_is_noticed_before_a_write_begins, CHANGES)
{
	struct diary diary = { 0 };
	CLEANUP(fixture_close) struct fixture f = filled((struct pp_config){ 0 }, &diary);
	CLEANUP(pp_release) struct pp_lease lease = { 0 };
	struct pp_error error = { 0 };

	acquire(f.pool, PP_WRITE, &lease);
	changes[row].change(&f);
	CHECK_INT(pp_begin(&lease, &error), ==, PP_FILE_CHANGED);
	CHECK_INT(pp_begin(&lease, &error), ==, PP_FILE_CHANGED); /* It is told once. */
	CHECK_CONTAINS(error.message, changes[row].words);
	CHECK(sqlite3_get_autocommit(lease.db));
	check_tripped(f.pool, &diary, changes[row].words);
}

/* SQLite says that the commit succeeded. */
TEST_ROWS(health, change_is_noticed_before_a_commit_is_acknowledged, CHANGES)
{
	struct diary diary = { 0 };
	CLEANUP(fixture_close) struct fixture f = filled((struct pp_config){ 0 }, &diary);
	CLEANUP(pp_release) struct pp_lease lease = { 0 };
	struct pp_error error = { 0 };

	acquire(f.pool, PP_WRITE, &lease);
	must(pp_begin(&lease, &error), &error);
	sql(lease.db, "INSERT INTO t(v) VALUES (-2)");
	changes[row].change(&f);
	CHECK_INT(pp_commit(&lease, &error), ==, PP_FILE_CHANGED);
	CHECK_CONTAINS(error.message, changes[row].words);
	check_tripped(f.pool, &diary, changes[row].words);
}

/* Begin does not look again within a tick of the coarse clock, where the commit does; so the reason
 * comes before what SQLite says: there is a row with v = 1. */
TEST_ROWS(health, change_is_noticed_by_a_write_that_trusts_the_last_look, 4 * CHANGES)
{
	struct diary diary = { 0 };
	CLEANUP(fixture_close) struct fixture f = filled((struct pp_config){ 0 }, &diary);
	const char *words = changes[row / 4].words;
	struct pp_error error = { 0 };
	int64_t v = row / 2 % 2 == 0 ? -2 : 1;

	changes[row / 4].change(&f);
	atomic_store(&f.pool->health.looked_ms, clock_coarse_ms());
	CHECK_INT(row % 2 == 0 ? pp_transact(f.pool, NULL, insert, &v, &error)
	                       : pp_write(f.pool, NULL, insert, &v, NULL, &error),
	          ==, PP_FILE_CHANGED);
	CHECK_CONTAINS(error.message, words);
	check_tripped(f.pool, &diary, words);
}

TEST_ROWS(health, change_is_noticed_by_upkeep, CHANGES)
{
	struct diary diary = { 0 };
	CLEANUP(fixture_close) struct fixture f = filled((struct pp_config){ 0 }, &diary);

	changes[row].change(&f);
	pp_keep(f.pool, NULL);
	CHECK_INT(stats(f.pool).tripped, ==, false); /* Not due yet. */
	clock_travel_ms(30100);
	pp_keep(f.pool, NULL);
	check_tripped(f.pool, &diary, changes[row].words);
	CHECK_INT(stats(f.pool).health_checks, ==, 0); /* Of connections: what for? */
}

static void exclude_in_vain(struct pp_pool *pool)
{
	struct pp_lease reader = { 0 }, lease = { 0 };

	acquire_elsewhere(pool, PP_READ, &reader);
	CHECK_INT(pp_acquire(pool, PP_EXCLUSIVE, pp_in_ms(5), &lease, NULL), ==, PP_TIMEOUT);
	pp_release(&reader);
}

/* Who had the pool to himself may have made the file what it is; not who waited for that in vain.
 */
TEST_ROWS(health, change_is_noticed_after_who_waited_for_the_whole_pool, CHANGES)
{
	struct diary diary = { 0 };
	CLEANUP(fixture_close) struct fixture f = filled((struct pp_config){ 0 }, &diary);
	struct pp_lease lease = { 0 };

	changes[row].change(&f);
	exclude_in_vain(f.pool);
	CHECK_INT(pp_acquire(f.pool, PP_WRITE, PP_NO_WAIT, &lease, NULL), ==, PP_FILE_CHANGED);
	check_tripped(f.pool, &diary, changes[row].words);
}

/* Why SELECT 1 is not what is done by default. */
TEST_ROWS(health, change_is_not_noticed_by_select_1, CHANGES)
{
	CLEANUP(fixture_close)
	struct fixture f = filled((struct pp_config){ .health = PP_HEALTH_SELECT_1 }, NULL);

	changes[row].change(&f);
	clock_travel_ms(30100);
	pp_keep(f.pool, NULL);
	CHECK_INT(stats(f.pool).health_checks, ==, 3);
	CHECK_INT(stats(f.pool).health_failures, ==, 0);
	CHECK_INT(stats(f.pool).tripped, ==, false);
}

TEST(health, file_that_came_back_is_still_changed)
{
	struct diary diary = { 0 };
	CLEANUP(fixture_close)
	struct fixture f = manual((struct pp_config){ .readers = 2 }, &diary);
	CLEANUP(pp_release) struct pp_lease lease = { 0 };
	struct pp_error error = { 0 };
	char away[128];

	beside(&f, "away.db", away, sizeof away);
	acquire(f.pool, PP_WRITE, &lease);
	CHECK_INT(rename(f.path, away), ==, 0);
	CHECK_INT(pp_begin(&lease, &error), ==, PP_FILE_CHANGED);
	CHECK_INT(rename(away, f.path), ==, 0);
	CHECK_INT(pp_begin(&lease, &error), ==, PP_FILE_CHANGED);
	CHECK_CONTAINS(error.message, "is as it was again");
	check_tripped(f.pool, &diary, "deleted");
	pp_release(&lease);
	must(pp_reopen(f.pool, PP_NO_WAIT, &error), &error);
	CHECK_INT(write_one(f.pool, 1), ==, PP_OK);
}

/* SQLite would open the new file, and truncate the WAL index that the others have mapped. */
TEST(health, no_connection_is_opened_beside_the_old_ones)
{
	struct diary diary = { 0 };
	CLEANUP(fixture_close)
	struct fixture f = manual((struct pp_config){ .readers = 1 }, &diary);
	struct pp_lease lease = { 0 };
	struct pp_error error = { 0 };

	acquire(f.pool, PP_READ, &lease);
	sql(lease.db, "PRAGMA cache_size=7"); /* Has it closed. */
	pp_release(&lease);
	replace(&f);
	CHECK_INT(pp_acquire(f.pool, PP_READ, PP_NO_WAIT, &lease, &error), ==, PP_FILE_CHANGED);
	CHECK_CONTAINS(error.message, "replaced");
	check_tripped(f.pool, &diary, "replaced");
}

TEST(health, wal_deleted_under_who_waits_for_the_whole_pool_is_noticed)
{
	struct diary diary = { 0 };
	CLEANUP(fixture_close)
	struct fixture f = manual((struct pp_config){ .readers = 1 }, &diary);
	struct pp_lease lease = { 0 };
	char wal[128];

	exclude_in_vain(f.pool);
	beside(&f, "a.db-wal", wal, sizeof wal);
	CHECK_INT(unlink(wal), ==, 0);
	exclude_in_vain(f.pool);
	acquire(f.pool, PP_READ, &lease);
	sql(lease.db, "PRAGMA cache_size=7"); /* Has it closed. */
	pp_release(&lease);
	CHECK_INT(pp_acquire(f.pool, PP_READ, PP_NO_WAIT, &lease, NULL), ==, PP_FILE_CHANGED);
	check_tripped(f.pool, &diary, "robbed of its WAL");
	must(pp_reopen(f.pool, PP_NO_WAIT, NULL), NULL);
}

/* Another file is at the path while SQLite opens it, and perhaps only then. */
static const char *swapped, *swapped_with;
static bool swapped_back;

static void swap(void)
{
	CHECK_INT(renameat2(AT_FDCWD, swapped, AT_FDCWD, swapped_with, RENAME_EXCHANGE), ==, 0);
}

int sqlite3_open_v2(const char *path, sqlite3 **ret_db, int flags, const char *vfs)
{
	int (*real)(const char *, sqlite3 **, int, const char *);
	bool is_it = swapped != NULL && strcmp(path, swapped) == 0;
	int rc;

	*(void **)&real = dlsym(RTLD_NEXT, "sqlite3_open_v2");
	if (is_it)
		swap();
	rc = real(path, ret_db, flags, vfs);
	if (is_it && swapped_back)
		swap();
	return rc;
}

/* It had been looked at just before. */
TEST_ROWS(health, connection_to_a_file_that_came_in_between_is_not_kept, 2)
{
	struct diary diary = { 0 };
	CLEANUP(fixture_close)
	struct fixture f = manual((struct pp_config){ .readers = 1 }, &diary);
	struct pp_lease lease = { 0 };
	struct pp_error error = { 0 };
	char other[128];

	acquire(f.pool, PP_READ, &lease);
	sql(lease.db, "PRAGMA cache_size=7"); /* Has it closed. */
	pp_release(&lease);
	beside(&f, "b.db", other, sizeof other);
	make_other(other, false);
	swapped = f.path;
	swapped_with = other;
	swapped_back = row == 1;
	CHECK_INT(pp_acquire(f.pool, PP_READ, PP_NO_WAIT, &lease, &error), ==,
	          row == 0 ? PP_FILE_CHANGED : PP_SQLITE);
	swapped = NULL;
	CHECK_CONTAINS(error.message, row == 0 ? "replaced" : "another file was there");
	if (row == 0) {
		check_tripped(f.pool, &diary, "replaced");
		return;
	}
	acquire(f.pool, PP_READ, &lease);
	CHECK_INT(number(lease.db, "SELECT count(*) FROM t"), ==, 0);
	pp_release(&lease);
}

/* --- How long it is -------------------------------------------------------------------------- */

TEST(health, file_made_smaller_by_vacuum_is_well)
{
	CLEANUP(fixture_close) struct fixture f = filled((struct pp_config){ 0 }, NULL);
	struct pp_lease lease = { 0 };

	acquire(f.pool, PP_WRITE, &lease);
	sql(lease.db, "DELETE FROM t WHERE id > 10; VACUUM; PRAGMA wal_checkpoint(TRUNCATE)");
	pp_release(&lease);
	CHECK_INT(write_one(f.pool, -2), ==, PP_OK);
	CHECK_INT(stats(f.pool).file_changes, ==, 0);
}

/* Nobody has looked since a checkpoint made it longer; it is cut to less than that, and still more
 * than was seen. */
TEST(health, cut_after_a_checkpoint_is_noticed)
{
	CLEANUP(fixture_close) struct fixture f = manual((struct pp_config){ .readers = 2 }, NULL);
	struct pp_lease lease = { 0 };
	struct pp_error error;

	acquire(f.pool, PP_WRITE, &lease);
	sql(lease.db, "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE "
	              "i < 2000) INSERT INTO t SELECT i, i FROM n");
	sql(lease.db, "PRAGMA wal_checkpoint(TRUNCATE)");
	CHECK_INT(truncate(f.path, 5 * PAGE), ==, 0);
	CHECK_INT(pp_begin(&lease, &error), ==, PP_FILE_CHANGED);
	CHECK_CONTAINS(error.message, "to 20480 bytes");
	pp_release(&lease);
}

TEST(health, file_made_smaller_by_a_neighbour_is_well)
{
	CLEANUP(fixture_close) struct fixture f = filled((struct pp_config){ 0 }, NULL);
	sqlite3 *db;

	db = neighbour_open(&f);
	sql(db, "DELETE FROM t WHERE id > 1000; VACUUM; PRAGMA wal_checkpoint(TRUNCATE)");
	CHECK_INT(write_one(f.pool, -2), ==, PP_OK);
	/* And from here on that is its length. */
	CHECK_INT(truncate(f.path, PAGE), ==, 0);
	CHECK_INT(write_one(f.pool, -3), ==, PP_FILE_CHANGED);
	sqlite3_close(db);
}

/* It is shorter than it was, and than the database is: the rest is in the WAL. A row that violates
 * a constraint is no missing page. */
TEST(health, file_whose_end_is_in_the_wal_is_well)
{
	CLEANUP(fixture_close) struct fixture f = filled((struct pp_config){ 0 }, NULL);
	sqlite3 *db;

	db = neighbour_open(&f);
	sql(db, "CREATE TABLE c(a CHECK (a > 0)); PRAGMA ignore_check_constraints=1; INSERT INTO c "
	        "VALUES (-1)");
	sql(db, "DELETE FROM t WHERE id > 10; VACUUM; PRAGMA wal_checkpoint(TRUNCATE)");
	sql(db, "WITH RECURSIVE n(i) AS (SELECT 100 UNION ALL SELECT i + 1 FROM n WHERE i < 900) "
	        "INSERT INTO t SELECT i, i FROM n");
	CHECK_INT(write_one(f.pool, -2), ==, PP_OK);
	CHECK_INT(stats(f.pool).file_changes, ==, 0);
	sqlite3_close(db);
}

/* What cannot be told now is looked at again. */
TEST(health, length_under_a_lock_is_looked_at_later)
{
	CLEANUP(fixture_close)
	struct fixture f = filled(
		(struct pp_config){ .journal = PP_JOURNAL_DELETE, .busy_timeout_ms = 1 }, NULL);
	struct pp_lease lease = { 0 };

	sqlite3 *db;
	db = neighbour_open(&f);
	sql(db, "BEGIN EXCLUSIVE");
	cut(&f);
	acquire(f.pool, PP_WRITE, &lease);
	pp_release(&lease);
	sql(db, "ROLLBACK");
	CHECK_INT(pp_acquire(f.pool, PP_WRITE, PP_NO_WAIT, &lease, NULL), ==, PP_FILE_CHANGED);
	sqlite3_close(db);
}

/* --- Connections ----------------------------------------------------------------------------- */

TEST(health, idle_connections_are_checked_when_due)
{
	CLEANUP(fixture_close) struct fixture f = manual((struct pp_config){ .readers = 2 }, NULL);
	struct pp_lease lease = { 0 };
	struct pp_histogram verify;
	uint64_t opened = stats(f.pool).opened;

	pp_keep(f.pool, NULL);
	CHECK_INT(stats(f.pool).health_checks, ==, 0);
	acquire(f.pool, PP_READ, &lease);
	clock_travel_ms(30100);
	pp_keep(f.pool, NULL);
	pp_keep(f.pool, NULL);
	CHECK_INT(stats(f.pool).health_checks, ==, 2); /* Not the one that is lent. */
	CHECK_INT(stats(f.pool).health_failures, ==, 0);
	CHECK_INT(stats(f.pool).opened, ==, opened);
	CHECK_INT(pp_histogram_read(f.pool, PP_HISTOGRAM_VERIFY, &verify), ==, PP_OK);
	CHECK_INT(verify.count, ==, 2);
	pp_release(&lease);
}

TEST(health, checks_can_be_switched_off)
{
	CLEANUP(fixture_close)
	struct fixture f = manual((struct pp_config){ .readers = 2, .health_ms = PP_NEVER }, NULL);

	clock_travel_ms(86400000);
	pp_keep(f.pool, NULL);
	CHECK_INT(stats(f.pool).health_checks, ==, 0);
}

/* With the default of five seconds for each connection this would take long. */
TEST(health, lock_held_elsewhere_is_not_waited_for)
{
	CLEANUP(fixture_close)
	struct fixture f = manual((struct pp_config){ .readers = 2,
	                                              .journal = PP_JOURNAL_DELETE,
	                                              .busy_timeout_ms = 86400000 },
	                          NULL);
	sqlite3 *db;

	db = neighbour_open(&f);
	sql(db, "BEGIN EXCLUSIVE");
	clock_travel_ms(30100);
	pp_keep(f.pool, NULL);
	CHECK_INT(stats(f.pool).health_checks, ==, 3);
	CHECK_INT(stats(f.pool).health_failures, ==, 0);
	sqlite3_close(db);
}

/* What came back is a connection to the old file. */
TEST(health, who_waited_through_a_change_is_told)
{
	struct fixture f =
		fixture_config((struct pp_config){ .readers = 1, .keeper = PP_KEEPER_MANUAL });
	struct visitor v = { .pool = f.pool, .lane = PP_READ, .deadline = PP_FOREVER };
	struct pp_lease lease = { 0 };
	pthread_t thread;

	acquire(f.pool, PP_READ, &lease);
	thread = thread_start(visit, &v);
	WAIT_FOR(stats(f.pool).read.waiting == 1);
	CHECK_INT(unlink(f.path), ==, 0);
	CHECK_INT(write_one(f.pool, 1), ==, PP_FILE_CHANGED);
	pp_release(&lease);
	pthread_join(thread, NULL);
	CHECK_INT(v.status, ==, PP_FILE_CHANGED);
	CHECK_INT(pp_close(f.pool, PP_FOREVER, NULL), ==, PP_OK);
	fixture_remove(&f);
}

/* It would take the WAL that is there for its own. */
TEST(health, no_other_pool_is_opened_where_one_has_lost_its_file)
{
	struct fixture f =
		fixture_config((struct pp_config){ .readers = 1, .keeper = PP_KEEPER_MANUAL });
	struct pp_config config = { .path = f.path, .readers = 1 };
	struct pp_error error = { 0 };
	struct pp_pool *other;

	CHECK_INT(unlink(f.path), ==, 0);
	CHECK_INT(pp_open(&config, &other, &error), ==, PP_FILE_CHANGED);
	CHECK_CONTAINS(error.message, "pp_reopen() it, or close it first");
	CHECK_INT(pp_close(f.pool, PP_FOREVER, NULL), ==, PP_OK);
	must(pp_open(&config, &other, &error), &error);
	CHECK_INT(pp_close(other, PP_FOREVER, NULL), ==, PP_OK);
	fixture_remove(&f);
}
