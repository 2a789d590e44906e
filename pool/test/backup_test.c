/* Online backup: one snapshot, whole or not at all, into a file. */
/* SPDX-License-Identifier: MIT */
#include "bank.h"
#include "internal.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/syscall.h>

/* In place of libc's, so that a disk can fail at a folder, and a pool be looked at before that. */
static bool folders_fail;
static struct pp_pool *looked_at;
static uint64_t parked_bytes;

int fsync(int file)
{
	struct stat status;
	bool folder = fstat(file, &status) == 0 && S_ISDIR(status.st_mode);

	if (folder && looked_at != NULL)
		parked_bytes = stats(looked_at).parked_bytes;
	if (folder && folders_fail) {
		errno = EIO;
		return -1;
	}
	return (int)syscall(SYS_fsync, file);
}

/* --- Into a file -------------------------------------------------------------------------- */

static const struct {
	const char *what;
	struct pp_config config;
	bool wal;
} sources[] = {
	{ "WAL", { .readers = 2 }, true },
	{ "journal", { .readers = 2, .journal = PP_JOURNAL_DELETE }, false },
	{ "memdb", { .readers = 2, .path = "file:/backup_from?vfs=memdb" }, false },
};

TEST_ROWS(backup, to_a_file_is_the_database, sizeof sources / sizeof *sources)
{
	CLEANUP(fixture_close) struct fixture f = bank_open(sources[row].config);
	const char *to = in(&f, "copy.db");
	char header[20];
	struct stat file;

	if (row < 2)
		CHECK_INT(chmod(f.path, 0600), ==, 0);
	backup(f.pool, (struct pp_backup){ .to_path = to });
	CHECK_INT(stat(to, &file), ==, 0);
	CHECK_INT(file.st_mode & 0777, ==, row < 2 ? 0600 : 0644);
	FILE *copy = fopen(to, "r");
	CHECK_INT(fread(header, 1, sizeof header, copy), ==, sizeof header);
	fclose(copy);
	CHECK_INT(header[18], ==, sources[row].wal ? 2 : 1); /* As the source's. */
	copy_is_good(to);
	CHECK_INT(files_in(&f, "partial"), ==, 0);
	backup(f.pool, (struct pp_backup){ .to_path = to }); /* Replaces it. */
	copy_is_good(to);
	/* The pool is as it was. */
	CHECK_INT(stats(f.pool).dirty + stats(f.pool).retired, ==, 0);
	CHECK_INT(stats(f.pool).read.leased, ==, 0);
	CHECK_INT(pool_says(f.pool, "SELECT sum(money) FROM bank"), ==, TOTAL);
}

TEST(backup, to_a_name_in_the_current_folder)
{
	CLEANUP(fixture_close) struct fixture f = bank_open((struct pp_config){ .readers = 1 });

	CHECK_INT(chdir(f.dir), ==, 0);
	backup(f.pool, (struct pp_backup){ .to_path = "copy.db" });
	copy_is_good("copy.db");
	CHECK_INT(mkdir("d", 0755), ==, 0);
	backup(f.pool, (struct pp_backup){ .to_path = "d/copy.db" });
	copy_is_good("d/copy.db");
	CHECK_INT(chdir("/"), ==, 0);
}

struct transfers {
	struct pp_pool *pool;
	atomic_uint done;
	atomic_bool enough;
	sqlite3 *copy;
};

static enum pp_status transfer(struct pp_lease *lease, void *context)
{
	struct transfers *t = context;
	char text[200];
	unsigned n = atomic_load(&t->done);

	snprintf(text, sizeof text,
	         "UPDATE bank SET money = money - 7 WHERE id = %u; UPDATE bank SET money = money + "
	         "7 WHERE id = %u",
	         n * 37 % ACCOUNTS + 1, (n * 37 + 500) % ACCOUNTS + 1);
	sql(lease->db, text);
	return PP_OK;
}

static void *keep_transferring(void *context)
{
	struct transfers *t = context;

	while (!atomic_load(&t->enough)) {
		must(pp_transact(t->pool, NULL, transfer, t, NULL), NULL);
		atomic_fetch_add(&t->done, 1);
	}
	return NULL;
}

/* At each step one more transfer at least is committed before it goes on. */
static int wait_for_a_transfer(void *context, unsigned done, unsigned total)
{
	struct transfers *t = context;
	unsigned before = atomic_load(&t->done);

	CHECK_INT(done, >, 0);
	CHECK_INT(done, <, total);
	WAIT_FOR(atomic_load(&t->done) > before + 1);
	return 0;
}

TEST(backup, is_one_snapshot_while_writers_write)
{
	CLEANUP(fixture_close) struct fixture f = bank_open((struct pp_config){ .readers = 2 });
	struct transfers t = { .pool = f.pool };
	const char *to = in(&f, "copy.db");
	pthread_t thread = thread_start(keep_transferring, &t);

	backup(f.pool, (struct pp_backup){ .to_path = to,
	                                   .deadline = PP_FOREVER,
	                                   .step_pages = 10,
	                                   .progress = wait_for_a_transfer,
	                                   .context = &t });
	atomic_store(&t.enough, true);
	pthread_join(thread, NULL);
	copy_is_good(to);
	CHECK_INT(copy_says(to, "SELECT max(money) FROM bank"), <, 114); /* As at the beginning. */
}

/* --- Not whole ---------------------------------------------------------------------------- */

static int cancel_it(void *context, unsigned done, unsigned total)
{
	(void)done, (void)total;
	pp_cancel(&((struct spoiler *)context)->token);
	return 0;
}

static int be_late(void *context, unsigned done, unsigned total)
{
	(void)context, (void)done, (void)total;
	clock_travel_ms(100000);
	return 0;
}

static int interrupt_it(void *context, unsigned done, unsigned total)
{
	(void)done, (void)total;
	watchdog_interrupt_all(((struct spoiler *)context)->f->pool, "test");
	return 0;
}

static int fill_the_disk(void *context, unsigned done, unsigned total)
{
	(void)context, (void)done, (void)total;
	signal(SIGXFSZ, SIG_IGN);
	CHECK_INT(setrlimit(RLIMIT_FSIZE, &(struct rlimit){ 65536, RLIM_INFINITY }), ==, 0);
	return 0;
}

static int remove_the_partial(void *context, unsigned done, unsigned total)
{
	struct spoiler *s = context;

	(void)done, (void)total;
	if (s->calls++ == 0)
		unlink(in(s->f, "copy.db-partial"));
	return 0;
}

/* Somebody begins to use the file that is to be replaced. */
static int open_the_target(void *context, unsigned done, unsigned total)
{
	struct spoiler *s = context;

	(void)done, (void)total;
	if (s->opened == NULL)
		must(pp_open(&(struct pp_config){ .path = in(s->f, "copy.db") }, &s->opened, NULL),
		     NULL);
	return 0;
}

static const struct {
	const char *what;
	int (*progress)(void *context, unsigned pages_done, unsigned pages_total);
	enum pp_status status;
	const char *words;
} spoilers[] = {
	{ "aborted", abort_it, PP_ABORTED, "progress asked for it after " },
	{ "cancelled", cancel_it, PP_CANCELLED, "its token was cancelled" },
	{ "late", be_late, PP_TIMEOUT, "the deadline passed" },
	{ "interrupted", interrupt_it, PP_TIMEOUT, "interrupted by the pool" },
	{ "disk full", fill_the_disk, PP_SQLITE, "copy.db: disk I/O error" },
	{ "partial gone", remove_the_partial, PP_SQLITE, "copy.db: No such file or directory" },
	{ "target in use", open_the_target, PP_INVALID, "copy.db: " },
};

/* With a copy there from before, which stays, and without. */
TEST_ROWS(backup, that_ends_early_leaves_nothing, 2 * (sizeof spoilers / sizeof *spoilers))
{
	CLEANUP(fixture_close) struct fixture f = bank_open((struct pp_config){ .readers = 2 });
	struct spoiler s = { .f = &f };
	struct pp_error error = { 0 };
	struct rlimit unlimited;
	bool there = row % 2 == 1;
	const char *to = in(&f, "copy.db");
	struct stat before = { 0 }, after = { 0 };

	row /= 2;
	CHECK_INT(getrlimit(RLIMIT_FSIZE, &unlimited), ==, 0);
	if (there)
		backup(f.pool, (struct pp_backup){ .to_path = to });
	stat(to, &before);
	struct pp_backup options = { .to_path = to,
		                     .step_pages = 5,
		                     .deadline = pp_with_token(pp_in_ms(50000), &s.token),
		                     .progress = spoilers[row].progress,
		                     .context = &s };
	CHECK_INT(pp_backup(f.pool, &options, &error), ==, spoilers[row].status);
	CHECK_INT(setrlimit(RLIMIT_FSIZE, &unlimited), ==, 0);
	CHECK_STR(error.doing, "backup");
	CHECK_CONTAINS(error.message, spoilers[row].words);
	CHECK_INT(files_in(&f, "partial"), ==, 0);
	if (s.opened == NULL) {
		CHECK_INT(stat(to, &after) == 0, ==, there);
		CHECK_INT(after.st_ino, ==, before.st_ino);
	}
	CHECK_INT(pp_close(s.opened, PP_FOREVER, NULL), ==, PP_OK);
	if (there)
		copy_is_good(to);
	CHECK_INT(stats(f.pool).read.leased, ==, 0);
	CHECK_INT(stats(f.pool).cancels, ==, spoilers[row].status == PP_CANCELLED);
	unlink(to);
	backup(f.pool, (struct pp_backup){ .to_path = to, .deadline = PP_FOREVER });
	copy_is_good(to);
}

TEST(backup, without_a_reader_in_time_fails)
{
	CLEANUP(fixture_close) struct fixture f = bank_open((struct pp_config){ .readers = 1 });
	struct pp_lease lease = { 0 };
	struct pp_error error = { 0 };

	acquire(f.pool, PP_READ, &lease);
	CHECK_INT(
		pp_backup(f.pool,
	                  &(struct pp_backup){ .to_path = in(&f, "c.db"), .deadline = PP_NO_WAIT },
	                  &error),
		==, PP_TIMEOUT);
	CHECK_STR(error.doing, "acquire a reader");
	pp_release(&lease);
	CHECK_INT(files_in(&f, "c.db"), ==, 0);
}

/* --- Bad input ---------------------------------------------------------------------------- */

TEST(backup, says_what_is_wrong_with_its_options)
{
	CLEANUP(fixture_close) struct fixture f = bank_open((struct pp_config){ .readers = 1 });
	char text[5000] = "";
	struct pp_pool *p = f.pool;

	backup_fails(p, (struct pp_backup){ 0 }, PP_INVALID,
	             "neither of to_path and to_pool is set: one must be");
	backup_fails(p, (struct pp_backup){ .to_path = "a", .to_pool = p }, PP_INVALID,
	             "each of to_path and to_pool");
	backup_fails(p, (struct pp_backup){ .to_pool = p }, PP_INVALID,
	             "to_pool is the pool itself");
	backup_fails(p, (struct pp_backup){ .to_path = "a", .step_pages = 1000001 }, PP_INVALID,
	             "step_pages is 1000001: it must be 1..1000000");
	backup_fails(p, (struct pp_backup){ .to_path = "" }, PP_INVALID, "to_path \"\": name a");
	backup_fails(p, (struct pp_backup){ .to_path = "file:/x?vfs=memdb" }, PP_INVALID,
	             "memdb is for to_pool");
	memset(text, 'x', sizeof text - 1);
	backup_fails(p, (struct pp_backup){ .to_path = text }, PP_INVALID, "name a file");
	backup_fails(p, (struct pp_backup){ .to_path = f.dir }, PP_INVALID,
	             "it is not a regular file");
	backup_fails(p, (struct pp_backup){ .to_path = f.path }, PP_INVALID,
	             "there is a journal beside it");
	CHECK_INT(link(f.path, in(&f, "link.db")), ==, 0);
	backup_fails(p, (struct pp_backup){ .to_path = in(&f, "link.db") }, PP_INVALID,
	             "a pool has it open: use to_pool");
	backup_fails(p, (struct pp_backup){ .to_path = in(&f, "none/c.db") }, PP_SQLITE,
	             "none/c.db: unable to open database file");
	CHECK_INT(pool_says(p, "SELECT sum(money) FROM bank"), ==, TOTAL);
	CHECK_INT(files_in(&f, "partial"), ==, 0);
}

static int not_called(void *context, unsigned done, unsigned total)
{
	(void)context;
	CHECK_MSG(false, "%u of %u pages copied in vain", done, total);
	return 1;
}

/* SQLite would replay them into the copy. */
TEST(backup, is_not_put_beside_a_journal)
{
	CLEANUP(fixture_close) struct fixture f = bank_open((struct pp_config){ .readers = 1 });
	const char *const names[] = { "c.db-wal", "c.db-journal" };

	for (unsigned i = 0; i < 2; i++) {
		const char *name = in(&f, names[i]);
		FILE *file = fopen(name, "w");

		fclose(file);
		backup(f.pool, (struct pp_backup){ .to_path = in(&f, "c.db") }); /* Empty. */
		file = fopen(name, "w");
		fputs("x", file);
		fclose(file);
		backup_fails(f.pool,
		             (struct pp_backup){ .to_path = in(&f, "c.db"),
		                                 .step_pages = 1,
		                                 .progress = not_called },
		             PP_INVALID,
		             "there is a journal beside it: it is in use, or was not closed");
		unlink(name);
	}
}

static int back_up_too(void *context, unsigned done, unsigned total)
{
	struct spoiler *s = context;
	struct pp_error error = { 0 };

	(void)done, (void)total;
	if (s->calls++ > 0)
		return 0;
	CHECK_INT(pp_backup(s->f->pool, &(struct pp_backup){ .to_path = in(s->f, "c.db") }, &error),
	          ==, PP_SQLITE);
	CHECK_CONTAINS(error.message, "c.db: another backup is being written there");
	CHECK_INT(error.sqlite_code, ==, SQLITE_BUSY);
	return 0;
}

TEST(backup, to_where_one_is_under_way_is_refused)
{
	CLEANUP(fixture_close) struct fixture f = bank_open((struct pp_config){ .readers = 2 });
	struct spoiler s = { .f = &f };

	backup(f.pool, (struct pp_backup){ .to_path = in(&f, "c.db"),
	                                   .step_pages = 10,
	                                   .progress = back_up_too,
	                                   .context = &s });
	CHECK_INT(s.calls, >, 1);
	copy_is_good(in(&f, "c.db"));
}

static void *back_up(void *context)
{
	struct fixture *f = context;

	backup(f->pool, (struct pp_backup){ .to_path = in(f, "c.db"), .deadline = PP_FOREVER });
	return NULL;
}

/* Also when it has not begun to copy: the name is taken from the first moment. */
TEST(backup, to_where_one_waits_for_a_reader_is_refused)
{
	CLEANUP(fixture_close) struct fixture f = bank_open((struct pp_config){ .readers = 1 });
	struct pp_lease lease = { 0 };
	pthread_t thread;

	acquire(f.pool, PP_READ, &lease);
	thread = thread_start(back_up, &f);
	WAIT_FOR(stats(f.pool).read.waiting > 0);
	backup_fails(f.pool, (struct pp_backup){ .to_path = in(&f, "c.db") }, PP_SQLITE,
	             "another backup is being written there");
	pp_release(&lease);
	pthread_join(thread, NULL);
	copy_is_good(in(&f, "c.db"));
}

/* Of whatever content, and longer than the copy. */
TEST_ROWS(backup, replaces_what_a_crash_has_left, 3)
{
	CLEANUP(fixture_close) struct fixture f = bank_open((struct pp_config){ .readers = 2 });
	FILE *file = fopen(in(&f, "c.db-partial"), "w");

	for (int i = 0; i < 2000000 && row > 0; i++)
		fputc(row == 1 ? 0 : i * 7 + 1, file);
	fclose(file);
	backup(f.pool, (struct pp_backup){ .to_path = in(&f, "c.db") });
	copy_is_good(in(&f, "c.db"));
	struct stat copy;
	CHECK_INT(stat(in(&f, "c.db"), &copy), ==, 0);
	CHECK_INT(copy.st_size, ==,
	          pool_says(f.pool, "SELECT page_count * page_size FROM pragma_page_count, "
	                            "pragma_page_size"));
	CHECK_INT(files_in(&f, "partial"), ==, 0);
}

/* A database of that name, which somebody has made and uses. */
TEST(backup, leaves_a_pool_of_the_name_it_is_written_to)
{
	CLEANUP(fixture_close) struct fixture f = bank_open((struct pp_config){ .readers = 2 });
	struct pp_pool *other;

	must(pp_open(&(struct pp_config){ .path = in(&f, "c.db-partial"),
	                                  .readers = 1,
	                                  .journal = PP_JOURNAL_DELETE },
	             &other, NULL),
	     NULL);
	bank_make(other);
	backup_fails(f.pool, (struct pp_backup){ .to_path = in(&f, "c.db") }, PP_INVALID,
	             "c.db: a pool has NAME-partial open");
	CHECK_INT(pool_says(other, "SELECT sum(money) FROM bank"), ==, TOTAL);
	CHECK_INT(pp_close(other, PP_NO_WAIT, NULL), ==, PP_OK);
	backup(f.pool, (struct pp_backup){ .to_path = in(&f, "c.db") });
	copy_is_good(in(&f, "c.db"));
}

static int refuse_all(void *context, int action, const char *first, const char *second,
                      const char *database, const char *trigger)
{
	(void)context, (void)first, (void)second, (void)database, (void)trigger;
	return action == SQLITE_PRAGMA || action == SQLITE_TRANSACTION ? SQLITE_DENY : SQLITE_OK;
}

TEST(backup, does_not_ask_the_users_authorizer)
{
	CLEANUP(fixture_close)
	struct fixture f = bank_open((struct pp_config){ .readers = 2, .authorizer = refuse_all });

	backup(f.pool, (struct pp_backup){ .to_path = in(&f, "c.db") });
	copy_is_good(in(&f, "c.db"));
}

TEST(backup, of_a_locked_source_says_so)
{
	CLEANUP(fixture_close)
	struct fixture f = bank_open((struct pp_config){
		.readers = 1, .journal = PP_JOURNAL_DELETE, .busy_timeout_ms = 1 });
	sqlite3 *other;

	CHECK_INT(sqlite3_open(f.path, &other), ==, SQLITE_OK);
	sql(other, "BEGIN EXCLUSIVE");
	backup_fails(f.pool, (struct pp_backup){ .to_path = in(&f, "c.db") }, PP_SQLITE,
	             "c.db: database is locked");
	sqlite3_close(other);
	CHECK_INT(files_in(&f, "c.db"), ==, 0);
}

TEST(backup, in_a_child_is_refused)
{
	CLEANUP(fixture_close) struct fixture f = bank_open((struct pp_config){ .readers = 1 });

	f.pool->process++; /* As a child would see it. */
	backup_fails(f.pool, (struct pp_backup){ .to_path = in(&f, "c.db") }, PP_FORKED, "open a");
	f.pool->process--;
}

/* The copy is whole and in its place, but who relied on it would not know that for long. */
TEST(backup, whose_name_may_not_survive_a_power_loss_says_so)
{
	CLEANUP(fixture_close) struct fixture f = bank_open((struct pp_config){ .readers = 1 });
	const char *to = in(&f, "copy.db");
	struct pp_error error = { 0 };

	folders_fail = true;
	CHECK_INT(pp_backup(f.pool, &(struct pp_backup){ .to_path = to }, &error), ==, PP_SQLITE);
	folders_fail = false;
	CHECK_INT(error.system_errno, ==, EIO);
	copy_is_good(to);
	CHECK_INT(files_in(&f, "partial"), ==, 0);
}

/* The registry has no row left to be found in. */
TEST(backup, replaces_a_file_while_there_are_as_many_pools_as_can_be)
{
	CLEANUP(fixture_close) struct fixture f = bank_open((struct pp_config){ .readers = 1 });
	struct pp_pool *others[PP_POOLS_MAX - 1];
	const char *to = in(&f, "copy.db");
	char path[64];

	for (unsigned i = 0; i < PP_POOLS_MAX - 1; i++) {
		snprintf(path, sizeof path, "file:/beside%u?vfs=memdb", i);
		must(pp_open(&(struct pp_config){ .path = path, .readers = 1 }, &others[i], NULL),
		     NULL);
	}
	backup(f.pool, (struct pp_backup){ .to_path = to });
	backup(f.pool, (struct pp_backup){ .to_path = to });
	copy_is_good(to);
	for (unsigned i = 0; i < PP_POOLS_MAX - 1; i++)
		CHECK_INT(pp_close(others[i], PP_NO_WAIT, NULL), ==, PP_OK);
}

static int grow_old(void *context, unsigned done, unsigned total)
{
	(void)done, (void)total;
	clock_travel_ms(2000);
	return pp_keep(context, NULL) != PP_OK;
}

/* Its connection is closed when it gives back, and what the copy's handle had taken of it was
 * counted as left behind. */
TEST(backup, whose_reader_is_renewed_meanwhile_leaves_nothing)
{
	CLEANUP(fixture_close)
	struct fixture f = bank_open((struct pp_config){ .readers = 1,
	                                                 .age_ms = 1000,
	                                                 .lease_warn_ms = PP_NEVER,
	                                                 .keeper = PP_KEEPER_MANUAL });

	looked_at = f.pool;
	backup(f.pool, (struct pp_backup){ .to_path = in(&f, "copy.db"),
	                                   .step_pages = 100,
	                                   .progress = grow_old,
	                                   .context = f.pool });
	looked_at = NULL;
	CHECK_INT(stats(f.pool).renewed, >=, 1);
	CHECK_INT(parked_bytes, ==, 0);
	copy_is_good(in(&f, "copy.db"));
}
