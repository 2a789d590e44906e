/* The file under the pool is deleted, replaced, cut, made read-only; connections are checked. Files
 * are changed by system calls on their names: opening and closing them would drop SQLite's locks.
 */
/* SPDX-License-Identifier: MIT */
#include "fixture.h"

#include "internal.h"

enum { PAGE = 4096 };

/* --- Helpers -------------------------------------------------------------------------------- */

/* Events by kind, and the last message of each. */
struct seen {
	atomic_uint count[PP_EVENT_MEMORY + 1];
	char message[PP_EVENT_MEMORY + 1][256];
};

static void see(const struct pp_event *event, void *context)
{
	struct seen *seen = context;

	snprintf(seen->message[event->kind], sizeof seen->message[0], "%s", event->message);
	atomic_fetch_add(&seen->count[event->kind], 1);
}

static enum pp_status insert(struct pp_lease *lease, void *context)
{
	sqlite3_stmt *stmt;
	enum pp_status status = pp_prepare(lease, "INSERT INTO t(v) VALUES (?1)", &stmt, NULL);

	if (status != PP_OK)
		return status;
	sqlite3_bind_int64(stmt, 1, *(int64_t *)context);
	return sqlite3_step(stmt) == SQLITE_DONE ? PP_OK : PP_SQLITE;
}

static enum pp_status write_one(struct pp_pool *pool, int64_t v)
{
	return pp_transact(pool, NULL, insert, &v, NULL);
}

/* All of it in the file, none in the WAL. */
static void fill(struct pp_pool *pool)
{
	struct pp_lease lease = { 0 };

	acquire(pool, PP_WRITE, &lease);
	sql(lease.db, "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE "
	              "i < 2000) INSERT INTO t SELECT i, i FROM n");
	sql(lease.db, "PRAGMA wal_checkpoint(TRUNCATE)");
	pp_release(&lease);
	CHECK_INT(write_one(pool, -1), ==, PP_OK); /* Looks at the file. */
}

static void beside(const struct fixture *f, const char *name, char *ret, size_t size)
{
	snprintf(ret, size, "%s/%s", f->dir, name);
}

/* Another database with a table t and one row in it, v = 7, at path; perhaps with a WAL in which
 * this is. */
static void make_other(const char *path, bool with_wal)
{
	sqlite3 *db;

	CHECK_INT(sqlite3_open(path, &db), ==, SQLITE_OK);
	if (with_wal) {
		sql(db, "PRAGMA journal_mode=WAL");
		sqlite3_db_config(db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
	}
	sql(db, "CREATE TABLE t(id INTEGER PRIMARY KEY, v INTEGER UNIQUE); INSERT INTO t "
	        "VALUES (1, 7)");
	CHECK_INT(sqlite3_close(db), ==, SQLITE_OK);
}

static void replace(const struct fixture *f)
{
	char other[128], old[128];

	beside(f, "b.db", other, sizeof other);
	beside(f, "old.db", old, sizeof old);
	make_other(other, false);
	rename(f->path, old);
	CHECK_INT(rename(other, f->path), ==, 0);
}

static void delete (const struct fixture *f)
{
	CHECK_INT(unlink(f->path), ==, 0);
}

static void cut(const struct fixture *f)
{
	CHECK_INT(truncate(f->path, PAGE), ==, 0);
}

static void make_read_only(const struct fixture *f)
{
	CHECK_INT(chmod(f->path, 0444), ==, 0);
}

static const struct {
	void (*change)(const struct fixture *f);
	const char *words;
} changes[] = {
	{ delete, "a.db was deleted: No such file" },
	{ replace, "a.db was replaced by another file" },
	{ cut, "a.db was cut from " },
	{ make_read_only, "a.db was made read-only" },
};
enum { CHANGES = sizeof changes / sizeof *changes };

static struct pp_config manual(struct seen *seen)
{
	return (struct pp_config){
		.readers = 2, .keeper = PP_KEEPER_MANUAL, .on_event = see, .on_event_context = seen
	};
}

/* What the new file has, and nothing of the old one. */
static void check_other(struct pp_pool *pool)
{
	struct pp_lease lease = { 0 };

	acquire(pool, PP_READ, &lease);
	CHECK_INT(number(lease.db, "SELECT sum(v) FROM t"), ==, 7);
	CHECK_INT(number(lease.db, "SELECT count(*) FROM pragma_integrity_check WHERE "
	                           "integrity_check = 'ok'"),
	          ==, 1);
	pp_release(&lease);
	CHECK_INT(write_one(pool, 8), ==, PP_OK);
}

static void check_tripped(struct pp_pool *pool, const struct seen *seen, const char *words)
{
	struct pp_lease lease = { 0 };
	struct pp_error error = { 0 };

	CHECK_INT(stats(pool).tripped, ==, true);
	CHECK_INT(stats(pool).file_changes, ==, 1);
	CHECK_INT(seen->count[PP_EVENT_FILE_CHANGED], ==, 1);
	CHECK_CONTAINS(seen->message[PP_EVENT_FILE_CHANGED], words);
	for (enum pp_lane lane = PP_READ; lane <= PP_EXCLUSIVE; lane++)
		CHECK_INT(pp_acquire(pool, lane, PP_NO_WAIT, &lease, &error), ==, PP_FILE_CHANGED);
	CHECK_CONTAINS(error.message, "pp_reopen()");
}

/* --- It is noticed --------------------------------------------------------------------------- */

TEST_ROWS(health, change_is_noticed_before_the_writer_is_lent, CHANGES)
{
	struct seen seen = { 0 };
	CLEANUP(fixture_close) struct fixture f = fixture_config(manual(&seen));
	struct pp_lease lease = { 0 };
	struct pp_error error = { 0 };

	fill(f.pool);
	changes[row].change(&f);
	CHECK_INT(pp_acquire(f.pool, PP_WRITE, PP_NO_WAIT, &lease, &error), ==, PP_FILE_CHANGED);
	CHECK_CONTAINS(error.message, changes[row].words);
	CHECK(lease.db == NULL);
	check_tripped(f.pool, &seen, changes[row].words);
}

TEST_ROWS(health, change_is_noticed_before_a_write_begins, CHANGES)
{
	struct seen seen = { 0 };
	CLEANUP(fixture_close) struct fixture f = fixture_config(manual(&seen));
	CLEANUP(pp_release) struct pp_lease lease = { 0 };
	struct pp_error error = { 0 };

	fill(f.pool);
	acquire(f.pool, PP_WRITE, &lease);
	changes[row].change(&f);
	CHECK_INT(pp_begin(&lease, &error), ==, PP_FILE_CHANGED);
	CHECK_INT(pp_begin(&lease, &error), ==, PP_FILE_CHANGED); /* It is told once. */
	CHECK_CONTAINS(error.message, changes[row].words);
	CHECK(sqlite3_get_autocommit(lease.db));
	check_tripped(f.pool, &seen, changes[row].words);
}

/* SQLite says that the commit succeeded. */
TEST_ROWS(health, change_is_noticed_before_a_commit_is_acknowledged, CHANGES)
{
	struct seen seen = { 0 };
	CLEANUP(fixture_close) struct fixture f = fixture_config(manual(&seen));
	CLEANUP(pp_release) struct pp_lease lease = { 0 };
	struct pp_error error = { 0 };

	fill(f.pool);
	acquire(f.pool, PP_WRITE, &lease);
	must(pp_begin(&lease, &error), &error);
	sql(lease.db, "INSERT INTO t(v) VALUES (-2)");
	changes[row].change(&f);
	CHECK_INT(pp_commit(&lease, &error), ==, PP_FILE_CHANGED);
	CHECK_CONTAINS(error.message, changes[row].words);
	check_tripped(f.pool, &seen, changes[row].words);
}

TEST_ROWS(health, change_is_noticed_by_upkeep, CHANGES)
{
	struct seen seen = { 0 };
	CLEANUP(fixture_close) struct fixture f = fixture_config(manual(&seen));

	fill(f.pool);
	changes[row].change(&f);
	pp_keep(f.pool, NULL);
	CHECK_INT(stats(f.pool).tripped, ==, false); /* Not due yet. */
	clock_travel_ms(30100);
	pp_keep(f.pool, NULL);
	check_tripped(f.pool, &seen, changes[row].words);
	CHECK_INT(stats(f.pool).health_checks, ==, 0); /* Of connections: what for? */
}

/* Why SELECT 1 is not what is done by default. */
TEST_ROWS(health, change_is_not_noticed_by_select_1, CHANGES)
{
	struct seen seen = { 0 };
	struct pp_config config = manual(&seen);
	CLEANUP(fixture_close) struct fixture f = { 0 };

	config.health = PP_HEALTH_SELECT_1;
	f = fixture_config(config);
	fill(f.pool);
	changes[row].change(&f);
	clock_travel_ms(30100);
	pp_keep(f.pool, NULL);
	CHECK_INT(stats(f.pool).health_checks, ==, 3);
	CHECK_INT(stats(f.pool).health_failures, ==, 0);
	CHECK_INT(stats(f.pool).tripped, ==, false);
}

TEST(health, file_that_came_back_is_still_changed)
{
	struct seen seen = { 0 };
	CLEANUP(fixture_close) struct fixture f = fixture_config(manual(&seen));
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
	check_tripped(f.pool, &seen, "deleted");
	pp_release(&lease);
	must(pp_reopen(f.pool, PP_NO_WAIT, &error), &error);
	CHECK_INT(write_one(f.pool, 1), ==, PP_OK);
}

/* SQLite would open the new file, and truncate the WAL index that the others have mapped. */
TEST(health, no_connection_is_opened_beside_the_old_ones)
{
	struct seen seen = { 0 };
	struct pp_config config = manual(&seen);
	CLEANUP(fixture_close) struct fixture f = { 0 };
	struct pp_lease lease = { 0 };
	struct pp_error error = { 0 };

	config.readers = 1;
	f = fixture_config(config);
	acquire(f.pool, PP_READ, &lease);
	sql(lease.db, "PRAGMA cache_size=7"); /* Has it closed. */
	pp_release(&lease);
	replace(&f);
	CHECK_INT(pp_acquire(f.pool, PP_READ, PP_NO_WAIT, &lease, &error), ==, PP_FILE_CHANGED);
	CHECK_CONTAINS(error.message, "replaced");
	check_tripped(f.pool, &seen, "replaced");
}

/* --- How long it is -------------------------------------------------------------------------- */

TEST(health, file_made_smaller_by_vacuum_is_well)
{
	struct seen seen = { 0 };
	CLEANUP(fixture_close) struct fixture f = fixture_config(manual(&seen));
	struct pp_lease lease = { 0 };

	fill(f.pool);
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
	struct seen seen = { 0 };
	CLEANUP(fixture_close) struct fixture f = fixture_config(manual(&seen));
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

/* As another process would: by a connection that the pool does not know of. */
static sqlite3 *neighbour_open(const struct fixture *f)
{
	sqlite3 *db;

	CHECK_INT(sqlite3_open(f->path, &db), ==, SQLITE_OK);
	return db;
}

TEST(health, file_made_smaller_by_a_neighbour_is_well)
{
	struct seen seen = { 0 };
	CLEANUP(fixture_close) struct fixture f = fixture_config(manual(&seen));
	sqlite3 *db;

	fill(f.pool);
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
	struct seen seen = { 0 };
	CLEANUP(fixture_close) struct fixture f = fixture_config(manual(&seen));
	sqlite3 *db;

	fill(f.pool);
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
	struct seen seen = { 0 };
	struct pp_config config = manual(&seen);
	CLEANUP(fixture_close) struct fixture f = { 0 };
	struct pp_lease lease = { 0 };
	sqlite3 *db;

	config.journal = PP_JOURNAL_DELETE;
	config.busy_timeout_ms = 1;
	f = fixture_config(config);
	fill(f.pool);
	db = neighbour_open(&f);
	sql(db, "BEGIN EXCLUSIVE");
	cut(&f);
	acquire(f.pool, PP_WRITE, &lease);
	pp_release(&lease);
	sql(db, "ROLLBACK");
	CHECK_INT(pp_acquire(f.pool, PP_WRITE, PP_NO_WAIT, &lease, NULL), ==, PP_FILE_CHANGED);
	sqlite3_close(db);
}

/* --- Opening anew ---------------------------------------------------------------------------- */

TEST(health, reopen_serves_what_is_there_now)
{
	struct seen seen = { 0 };
	CLEANUP(fixture_close) struct fixture f = fixture_config(manual(&seen));
	struct pp_histogram recovery;
	struct pp_error error = { 0 };
	char other[128];

	fill(f.pool);
	delete (&f);
	CHECK_INT(write_one(f.pool, 1), ==, PP_FILE_CHANGED);
	CHECK_INT(pp_reopen(f.pool, PP_NO_WAIT, &error), ==, PP_SQLITE);
	CHECK_INT(error.sqlite_code, ==, SQLITE_CANTOPEN);
	CHECK_INT(error.system_errno, ==, ENOENT);
	check_tripped(f.pool, &seen, "deleted");
	beside(&f, "b.db", other, sizeof other);
	make_other(other, false);
	CHECK_INT(rename(other, f.path), ==, 0);
	must(pp_reopen(f.pool, PP_NO_WAIT, &error), &error);
	CHECK_INT(stats(f.pool).tripped, ==, false);
	CHECK_INT(stats(f.pool).reopened, ==, 1);
	CHECK_INT(stats(f.pool).read.open, ==, 2);
	CHECK_INT(stats(f.pool).write.open, ==, 1);
	CHECK_CONTAINS(seen.message[PP_EVENT_REOPENED], "a.db");
	check_other(f.pool);
	CHECK_INT(pp_histogram_read(f.pool, PP_HISTOGRAM_RECOVERY, &recovery), ==, PP_OK);
	CHECK_INT(recovery.count, ==, 1);
	pp_keep(f.pool, NULL); /* The anchor looks at the new file too. */
	clock_travel_ms(30100);
	pp_keep(f.pool, NULL);
	CHECK_INT(stats(f.pool).file_changes, ==, 1);
}

/* A read-only file that was opened so is not one that was made so. */
TEST(health, reopen_takes_the_mode_as_it_is)
{
	struct seen seen = { 0 };
	CLEANUP(fixture_close) struct fixture f = fixture_config(manual(&seen));
	struct pp_error error = { 0 };
	struct pp_lease lease = { 0 };

	make_read_only(&f);
	CHECK_INT(write_one(f.pool, 1), ==, PP_FILE_CHANGED);
	must(pp_reopen(f.pool, PP_NO_WAIT, &error), &error);
	acquire(f.pool, PP_WRITE, &lease);
	pp_release(&lease);
}

/* A reader that cannot be reached keeps the old WAL from being emptied: it is still there when the
 * new file is. With the journal mode changed meanwhile it is another one than at the opening. */
TEST_ROWS(health, old_wal_is_not_replayed_into_the_new_file, 2)
{
	struct seen seen = { 0 };
	CLEANUP(fixture_close) struct fixture f = fixture_config(manual(&seen));
	struct pp_lease lease = { 0 };
	struct pp_error error = { 0 };
	sqlite3 *db;

	if (row == 1) {
		acquire(f.pool, PP_EXCLUSIVE, &lease);
		sql(lease.db, "PRAGMA journal_mode=DELETE");
		for (char name[] = "hole0"; name[4] < '9'; name[4]++) { /* Takes the inode. */
			char hole[128];

			beside(&f, name, hole, sizeof hole);
			CHECK_INT(mknod(hole, S_IFREG | 0600, 0), ==, 0);
		}
		sql(lease.db, "PRAGMA journal_mode=WAL");
		pp_release(&lease);
	}
	db = neighbour_open(&f);
	sql(db, "BEGIN; SELECT * FROM t");
	CHECK_INT(write_one(f.pool, 100), ==, PP_OK);
	replace(&f);
	must(pp_reopen(f.pool, PP_NO_WAIT, &error), &error);
	check_other(f.pool);
	CHECK_INT(number(db, "SELECT count(*) FROM t"), ==, 0); /* Its snapshot. */
	sqlite3_close(db);
}

/* What was acknowledged is in the file that it was acknowledged for. */
TEST(health, moved_file_is_whole)
{
	struct seen seen = { 0 };
	CLEANUP(fixture_close) struct fixture f = fixture_config(manual(&seen));
	struct pp_error error = { 0 };
	char old[128];
	sqlite3 *db;

	CHECK_INT(write_one(f.pool, 100), ==, PP_OK);
	replace(&f);
	must(pp_reopen(f.pool, PP_NO_WAIT, &error), &error);
	beside(&f, "old.db", old, sizeof old);
	CHECK_INT(sqlite3_open(old, &db), ==, SQLITE_OK);
	CHECK_INT(number(db, "SELECT v FROM t"), ==, 100);
	sqlite3_close(db);
}

/* By reopening, and by closing. */
TEST_ROWS(health, wal_that_came_with_the_new_file_is_its_own, 2)
{
	struct seen seen = { 0 };
	CLEANUP(fixture_close) struct fixture f = fixture_config(manual(&seen));
	struct pp_error error = { 0 };
	struct pp_config config = manual(&seen);
	char other[128], wal[128], to[128];

	CHECK_INT(write_one(f.pool, 100), ==, PP_OK);
	beside(&f, "b.db", other, sizeof other);
	beside(&f, "b.db-wal", wal, sizeof wal);
	beside(&f, "a.db-wal", to, sizeof to);
	make_other(other, true);
	CHECK_INT(rename(other, f.path), ==, 0);
	CHECK_INT(rename(wal, to), ==, 0);
	if (row == 0) {
		must(pp_reopen(f.pool, PP_NO_WAIT, &error), &error);
	} else {
		CHECK_INT(pp_close(f.pool, PP_NO_WAIT, NULL), ==, PP_OK);
		config.path = f.path;
		must(pp_open(&config, &f.pool, &error), &error);
	}
	check_other(f.pool);
}

/* Nobody has noticed. */
TEST(health, closing_leaves_no_wal_to_another_file)
{
	struct seen seen = { 0 };
	CLEANUP(fixture_close) struct fixture f = fixture_config(manual(&seen));
	struct pp_config config = manual(&seen);
	struct pp_error error = { 0 };
	char wal[128];
	sqlite3 *db = neighbour_open(&f);

	sql(db, "BEGIN; SELECT * FROM t");
	CHECK_INT(write_one(f.pool, 100), ==, PP_OK);
	replace(&f);
	CHECK_INT(pp_close(f.pool, PP_NO_WAIT, NULL), ==, PP_OK);
	beside(&f, "a.db-wal", wal, sizeof wal);
	CHECK_INT(access(wal, F_OK), ==, -1);
	sqlite3_close(db);
	config.path = f.path;
	must(pp_open(&config, &f.pool, &error), &error);
	check_other(f.pool);
}

/* Whoever tries to rescue it needs the WAL, and no pages of it in between. */
TEST(health, closing_leaves_a_cut_file_as_it_is)
{
	struct seen seen = { 0 };
	CLEANUP(fixture_close) struct fixture f = fixture_config(manual(&seen));
	struct stat file;
	char wal[128];

	fill(f.pool);
	cut(&f);
	CHECK_INT(write_one(f.pool, -2), ==, PP_FILE_CHANGED);
	CHECK_INT(pp_close(f.pool, PP_NO_WAIT, NULL), ==, PP_OK);
	f.pool = NULL;
	CHECK_INT(stat(f.path, &file), ==, 0);
	CHECK_INT(file.st_size, ==, PAGE);
	beside(&f, "a.db-wal", wal, sizeof wal);
	CHECK_INT(access(wal, F_OK), ==, 0);
}

static void make_garbage(const struct fixture *f)
{
	char other[128];
	FILE *file;

	beside(f, "garbage", other, sizeof other);
	file = fopen(other, "w");
	CHECK(file != NULL);
	for (unsigned i = 0; i < PAGE; i++)
		fputs("no database ", file);
	fclose(file);
	CHECK_INT(rename(other, f->path), ==, 0);
}

TEST(health, reopen_that_failed_can_be_tried_again)
{
	struct seen seen = { 0 };
	CLEANUP(fixture_close) struct fixture f = fixture_config(manual(&seen));
	struct pp_error error = { 0 };
	struct pp_lease lease = { 0 };

	make_garbage(&f);
	CHECK_INT(write_one(f.pool, 1), ==, PP_FILE_CHANGED);
	CHECK_INT(pp_reopen(f.pool, PP_NO_WAIT, &error), ==, PP_SQLITE);
	CHECK_INT(error.sqlite_code, ==, SQLITE_NOTADB);
	CHECK_INT(stats(f.pool).tripped, ==, true);
	CHECK_INT(stats(f.pool).reopened, ==, 0);
	CHECK_INT(pp_acquire(f.pool, PP_READ, PP_NO_WAIT, &lease, NULL), ==, PP_FILE_CHANGED);
	replace(&f);
	must(pp_reopen(f.pool, PP_NO_WAIT, &error), &error);
	check_other(f.pool);
}

TEST(health, reopen_refuses_the_file_of_another_pool)
{
	struct seen seen = { 0 };
	CLEANUP(fixture_close) struct fixture f = fixture_config(manual(&seen));
	struct pp_config config = manual(&seen);
	struct pp_error error = { 0 };
	struct pp_pool *pool;
	char other[128], own[128];

	beside(&f, "b.db", other, sizeof other);
	beside(&f, "own.db", own, sizeof own);
	config.path = other;
	must(pp_open(&config, &pool, &error), &error);
	CHECK_INT(rename(f.path, own), ==, 0);
	CHECK_INT(rename(other, f.path), ==, 0);
	CHECK_INT(pp_reopen(f.pool, PP_NO_WAIT, &error), ==, PP_MISMATCH);
	CHECK_CONTAINS(error.message, "another pool has the file");
	CHECK_INT(rename(f.path, other), ==, 0);
	CHECK_INT(rename(own, f.path), ==, 0);
	CHECK_INT(pp_close(pool, PP_NO_WAIT, NULL), ==, PP_OK);
	must(pp_reopen(f.pool, PP_NO_WAIT, &error), &error);
	CHECK_INT(write_one(f.pool, 1), ==, PP_OK);
}

TEST(health, reopen_leaves_a_suspension)
{
	struct seen seen = { 0 };
	CLEANUP(fixture_close) struct fixture f = fixture_config(manual(&seen));
	struct pp_error error = { 0 };
	struct pp_lease lease = { 0 };

	CHECK_INT(pp_suspend(f.pool, PP_NO_WAIT), ==, PP_OK);
	replace(&f);
	clock_travel_ms(30100);
	pp_keep(f.pool, NULL);
	CHECK_INT(stats(f.pool).file_changes, ==, 0); /* That is what it is suspended for. */
	must(pp_reopen(f.pool, PP_NO_WAIT, &error), &error);
	CHECK_INT(pp_acquire(f.pool, PP_READ, PP_NO_WAIT, &lease, NULL), ==, PP_TIMEOUT);
	CHECK_INT(pp_resume(f.pool), ==, PP_OK);
	check_other(f.pool);
}

static void *reopen_at_once(void *context)
{
	struct pp_error error;

	CHECK_INT(pp_reopen(context, PP_NO_WAIT, &error), ==, PP_TIMEOUT);
	CHECK_CONTAINS(error.message, "every lease must be back");
	return NULL;
}

static void *reopen_closing(void *context)
{
	CHECK_INT(pp_reopen(context, PP_NO_WAIT, NULL), ==, PP_CLOSED);
	return NULL;
}

TEST(health, reopen_waits_for_leases)
{
	struct seen seen = { 0 };
	CLEANUP(fixture_close) struct fixture f = fixture_config(manual(&seen));
	struct pp_lease lease = { 0 };

	acquire(f.pool, PP_READ, &lease);
	CHECK_INT(pp_reopen(f.pool, PP_FOREVER, NULL), ==, PP_WOULD_DEADLOCK);
	pthread_join(thread_start(reopen_at_once, f.pool), NULL);
	CHECK_INT(number(lease.db, "SELECT count(*) FROM t"), ==, 0);
	CHECK_INT(pp_close(f.pool, PP_NO_WAIT, NULL), ==, PP_LEASED);
	pthread_join(thread_start(reopen_closing, f.pool), NULL);
	pp_release(&lease);
	CHECK_INT(pp_close(f.pool, PP_NO_WAIT, NULL), ==, PP_OK);
	f.pool = NULL;
}

TEST(health, reopen_of_a_good_file_changes_nothing)
{
	struct seen seen = { 0 };
	CLEANUP(fixture_close) struct fixture f = fixture_config(manual(&seen));
	struct pp_error error = { 0 };

	CHECK_INT(write_one(f.pool, 1), ==, PP_OK);
	must(pp_reopen(f.pool, (struct pp_deadline){ 0 }, &error), &error);
	CHECK_INT(rows_in(f.pool), ==, 1);
	CHECK_INT(write_one(f.pool, 2), ==, PP_OK);
	CHECK_INT(stats(f.pool).file_changes, ==, 0);
}

TEST(health, memdb_has_no_file)
{
	CLEANUP(fixture_close)
	struct fixture f = fixture_config(
		(struct pp_config){ .path = "file:/health?vfs=memdb", .keeper = PP_KEEPER_MANUAL });

	clock_travel_ms(30100);
	CHECK_INT(pp_keep(f.pool, NULL), ==, PP_OK);
	CHECK_INT(stats(f.pool).health_checks, ==, 0);
	CHECK_INT(pp_reopen(f.pool, PP_NO_WAIT, NULL), ==, PP_MISUSE);
	CHECK_INT(write_one(f.pool, 1), ==, PP_OK);
}

/* --- By the keeper --------------------------------------------------------------------------- */

TEST_ROWS(health, keeper_opens_anew_when_leases_are_back, 2)
{
	struct seen seen = { 0 };
	struct pp_config config = manual(&seen);
	CLEANUP(fixture_close) struct fixture f = { 0 };
	struct pp_lease lease = { 0 }, other = { 0 };
	uint64_t due_ms;

	config.on_file_change = PP_FILE_REOPEN;
	f = fixture_config(config);
	acquire(f.pool, row == 0 ? PP_READ : PP_WRITE, &lease);
	replace(&f);
	clock_travel_ms(30100);
	pp_keep(f.pool, &due_ms);
	CHECK_INT(due_ms, <=, 100); /* It will try again. */
	CHECK_INT(stats(f.pool).tripped, ==, true);
	CHECK_INT(pp_acquire(f.pool, PP_READ, PP_NO_WAIT, &other, NULL), ==, PP_FILE_CHANGED);
	pp_release(&lease);
	pp_keep(f.pool, &due_ms);
	CHECK_INT(stats(f.pool).reopened, ==, 1);
	CHECK_INT(seen.count[PP_EVENT_REOPENED], ==, 1);
	check_other(f.pool);
}

TEST(health, keeper_makes_no_file)
{
	struct seen seen = { 0 };
	struct pp_config config = manual(&seen);
	CLEANUP(fixture_close) struct fixture f = { 0 };
	struct stat file;

	config.on_file_change = PP_FILE_REOPEN;
	f = fixture_config(config);
	delete (&f);
	CHECK_INT(write_one(f.pool, 1), ==, PP_FILE_CHANGED);
	pp_keep(f.pool, NULL);
	CHECK_INT(stat(f.path, &file), ==, -1);
	CHECK_INT(stats(f.pool).tripped, ==, true);
	replace(&f);
	pp_keep(f.pool, NULL);
	check_other(f.pool);
}

/* By itself, poked by who noticed. */
TEST(health, keeper_thread_opens_anew)
{
	CLEANUP(fixture_close)
	struct fixture f = fixture_config((struct pp_config){ .on_file_change = PP_FILE_REOPEN });

	replace(&f);
	CHECK_INT(write_one(f.pool, 1), ==, PP_FILE_CHANGED);
	WAIT_FOR(stats(f.pool).reopened == 1);
	check_other(f.pool);
}

/* --- Nothing acknowledged is lost ------------------------------------------------------------ */

enum { WRITERS = 2, SWAPS = 3 };

struct writer {
	struct pp_pool *pool;
	atomic_bool *stop;
	int64_t first;
	atomic_uint acknowledged;
	bool kept[100000];
};

static void *write_on(void *context)
{
	struct writer *w = context;

	for (unsigned i = 0; !atomic_load(w->stop) && i < 100000; i++) {
		enum pp_status status = write_one(w->pool, w->first + i);

		CHECK(status == PP_OK || status == PP_FILE_CHANGED);
		w->kept[i] = status == PP_OK;
		if (status == PP_OK)
			atomic_fetch_add(&w->acknowledged, 1);
		else
			sched_yield();
	}
	return NULL;
}

static void strike_out(struct writer writers[], const char *path)
{
	sqlite3_stmt *stmt;
	sqlite3 *db;

	CHECK_INT(sqlite3_open(path, &db), ==, SQLITE_OK);
	CHECK_INT(sqlite3_prepare_v2(db, "SELECT v FROM t", -1, &stmt, NULL), ==, SQLITE_OK);
	while (sqlite3_step(stmt) == SQLITE_ROW) {
		int64_t v = sqlite3_column_int64(stmt, 0);

		if (v >= 1000000)
			writers[v / 1000000 - 1].kept[v % 1000000] = false;
	}
	sqlite3_finalize(stmt);
	CHECK_INT(number(db, "SELECT count(*) FROM pragma_integrity_check WHERE integrity_check = "
	                     "'ok'"),
	          ==, 1);
	sqlite3_close(db);
}

TEST(health, files_are_replaced_under_writers_and_nothing_is_lost)
{
	static struct writer writers[WRITERS];
	CLEANUP(fixture_close)
	struct fixture f = fixture_config((struct pp_config){
		.on_file_change = PP_FILE_REOPEN, .synchronous = PP_SYNCHRONOUS_NORMAL });
	atomic_bool stop = false;
	pthread_t threads[WRITERS];
	char other[128], old[SWAPS][128];

	for (unsigned i = 0; i < WRITERS; i++) {
		writers[i].pool = f.pool;
		writers[i].stop = &stop;
		writers[i].first = (i + 1) * 1000000;
		threads[i] = thread_start(write_on, &writers[i]);
	}
	beside(&f, "b.db", other, sizeof other);
	for (unsigned n = 0; n < SWAPS; n++) {
		unsigned before = atomic_load(&writers[0].acknowledged);

		WAIT_FOR(atomic_load(&writers[0].acknowledged) > before);
		make_other(other, false);
		snprintf(old[n], sizeof old[n], "%s/old%u.db", f.dir, n);
		CHECK_INT(link(f.path, old[n]), ==, 0);
		CHECK_INT(rename(other, f.path), ==, 0);
		WAIT_FOR(stats(f.pool).reopened > n);
	}
	atomic_store(&stop, true);
	for (unsigned i = 0; i < WRITERS; i++)
		pthread_join(threads[i], NULL);
	CHECK_INT(pp_close(f.pool, PP_FOREVER, NULL), ==, PP_OK);
	f.pool = NULL;
	for (unsigned n = 0; n < SWAPS; n++)
		strike_out(writers, old[n]);
	strike_out(writers, f.path);
	for (unsigned i = 0; i < WRITERS; i++)
		for (unsigned n = 0; n < 100000; n++)
			CHECK_MSG(!writers[i].kept[n], "write %u of thread %u is lost", n, i);
}

/* --- Connections ----------------------------------------------------------------------------- */

TEST(health, idle_connections_are_checked_when_due)
{
	struct seen seen = { 0 };
	CLEANUP(fixture_close) struct fixture f = fixture_config(manual(&seen));
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
	struct seen seen = { 0 };
	struct pp_config config = manual(&seen);
	CLEANUP(fixture_close) struct fixture f = { 0 };

	config.health_ms = PP_NEVER;
	f = fixture_config(config);
	clock_travel_ms(86400000);
	pp_keep(f.pool, NULL);
	CHECK_INT(stats(f.pool).health_checks, ==, 0);
}

/* With the default of five seconds for each connection this would take long. */
TEST(health, lock_held_elsewhere_is_not_waited_for)
{
	struct seen seen = { 0 };
	struct pp_config config = manual(&seen);
	CLEANUP(fixture_close) struct fixture f = { 0 };
	sqlite3 *db;

	config.journal = PP_JOURNAL_DELETE;
	config.busy_timeout_ms = 86400000;
	f = fixture_config(config);
	db = neighbour_open(&f);
	sql(db, "BEGIN EXCLUSIVE");
	clock_travel_ms(30100);
	pp_keep(f.pool, NULL);
	CHECK_INT(stats(f.pool).health_checks, ==, 3);
	CHECK_INT(stats(f.pool).health_failures, ==, 0);
	sqlite3_close(db);
}

struct waiting {
	struct pp_pool *pool;
	enum pp_status status;
};

static void *acquire_once(void *context)
{
	struct waiting *w = context;
	struct pp_lease lease = { 0 };

	w->status = pp_acquire(w->pool, PP_READ, PP_FOREVER, &lease, NULL);
	pp_release(&lease);
	return NULL;
}

/* What came back is a connection to the old file. */
TEST(health, who_waited_through_a_change_is_told)
{
	struct fixture f =
		fixture_config((struct pp_config){ .readers = 1, .keeper = PP_KEEPER_MANUAL });
	struct waiting w = { .pool = f.pool };
	struct pp_lease lease = { 0 };
	pthread_t thread;

	acquire(f.pool, PP_READ, &lease);
	thread = thread_start(acquire_once, &w);
	WAIT_FOR(stats(f.pool).read.waiting == 1);
	CHECK_INT(unlink(f.path), ==, 0);
	CHECK_INT(write_one(f.pool, 1), ==, PP_FILE_CHANGED);
	pp_release(&lease);
	pthread_join(thread, NULL);
	CHECK_INT(w.status, ==, PP_FILE_CHANGED);
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
