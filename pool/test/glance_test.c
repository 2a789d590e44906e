/* After a commit the file is asked, not its path; and nothing that happens to it escapes. */
/* SPDX-License-Identifier: MIT */
#include "changes.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/vfs.h>

enum { SHARED_BYTES = 0x40000002 }; /* SQLite's, of the database file. */

/* In this program these two are the tests'. */
static const char *watched; /* Looks at this path are counted. */
static atomic_uint looks;
static long system_type; /* 0: what it is. */

int stat(const char *path, struct stat *ret)
{
	if (watched != NULL && strcmp(path, watched) == 0)
		atomic_fetch_add(&looks, 1);
	return fstatat(AT_FDCWD, path, ret, 0);
}

int fstatfs(int file, struct statfs *ret)
{
	int (*real)(int, struct statfs *);
	int rc;

	*(void **)&real = dlsym(RTLD_NEXT, "fstatfs");
	rc = real(file, ret);
	if (system_type != 0)
		ret->f_type = system_type;
	return rc;
}

static uint64_t changed_ns(const struct stat *file)
{
	return (uint64_t)file->st_ctim.tv_sec * 1000000000 + (uint64_t)file->st_ctim.tv_nsec;
}

/* Until a change would have another time than the last one. That one may be ahead of the coarse
 * clock: Linux 6.13 gives a file whose time was asked for a fine one (multigrain timestamps). */
static void settle(const struct fixture *f)
{
	struct stat file;

	CHECK_INT(stat(f->path, &file), ==, 0);
	while (glance_before() <= changed_ns(&file))
		;
}

static struct fixture settled(struct diary *diary)
{
	struct fixture f;

	system_type = TMPFS_MAGIC; /* Where tests run it may be another one, as good. */
	f = filled((struct pp_config){ 0 }, diary);
	settle(&f);
	return f;
}

static void begin_and_insert(struct pp_lease *lease)
{
	struct pp_error error = { 0 };

	must(pp_begin(lease, &error), &error);
	sql(lease->db, "INSERT INTO t(v) VALUES (NULL)");
}

/* --- What is not done ------------------------------------------------------------------------ */

TEST(glance, commit_does_not_look_up_the_path)
{
	CLEANUP(fixture_close) struct fixture f = settled(NULL);
	CLEANUP(pp_release) struct pp_lease lease = { 0 };

	acquire(f.pool, PP_WRITE, &lease);
	begin_and_insert(&lease);
	watched = f.path;
	atomic_store(&looks, 0);
	must(pp_commit(&lease, NULL), NULL);
	CHECK_INT(atomic_load(&looks), ==, 0);
	begin_and_insert(&lease);
	CHECK_INT(atomic_load(&looks), ==, 1);
}

/* Of these the kernel does not know what other machines do, or it hides that a file is gone. */
TEST(glance, commit_looks_up_the_path_on_a_file_system_that_may_lie)
{
	static const long types[] = { NFS_SUPER_MAGIC, FUSE_SUPER_MAGIC, OVERLAYFS_SUPER_MAGIC };

	for (unsigned i = 0; i < 3; i++) {
		CLEANUP(fixture_close) struct fixture f;
		CLEANUP(pp_release) struct pp_lease lease = { 0 };

		system_type = types[i];
		f = filled((struct pp_config){ 0 }, NULL);
		settle(&f);
		acquire(f.pool, PP_WRITE, &lease);
		begin_and_insert(&lease);
		watched = f.path;
		atomic_store(&looks, 0);
		must(pp_commit(&lease, NULL), NULL);
		CHECK_INT(atomic_load(&looks), ==, 1);
		watched = NULL;
	}
}

/* --- What does not escape -------------------------------------------------------------------- */

static void move(const struct fixture *f)
{
	char other[128];

	beside(f, "moved.db", other, sizeof other);
	CHECK_INT(rename(f->path, other), ==, 0);
}

/* The name that the pool knows goes, and the file stays. */
static void unlink_one_of_two(const struct fixture *f)
{
	char other[128];

	beside(f, "linked.db", other, sizeof other);
	CHECK_INT(link(f->path, other), ==, 0);
	delete (f);
}

static const struct {
	void (*change)(const struct fixture *f);
	const char *words;
} changes[] = {
	{ delete, "a.db was deleted" },
	{ replace, "a.db was replaced by another file" },
	{ replace_by_link, "a.db was replaced by another file" },
	{ cut, "a.db was cut from " },
	{ make_read_only, "a.db was made read-only" },
	{ move, "a.db was deleted" },
	{ unlink_one_of_two, "a.db was deleted" },
};
enum { CHANGES = sizeof changes / sizeof *changes };

TEST_ROWS(glance, change_of_a_file_that_was_settled_is_noticed, CHANGES)
{
	struct diary diary = { 0 };
	CLEANUP(fixture_close) struct fixture f = settled(&diary);
	CLEANUP(pp_release) struct pp_lease lease = { 0 };
	struct pp_error error = { 0 };

	acquire(f.pool, PP_WRITE, &lease);
	begin_and_insert(&lease);
	CHECK(glance_is_same(f.pool));
	changes[row].change(&f);
	CHECK(!glance_is_same(f.pool));
	CHECK_INT(pp_commit(&lease, &error), ==, PP_FILE_CHANGED);
	CHECK_CONTAINS(error.message, changes[row].words);
	check_tripped(f.pool, &diary, changes[row].words);
}

/* Two changes within a tick have the same time. */
TEST(glance, file_is_not_settled_within_the_tick_of_its_last_change)
{
	CLEANUP(fixture_close) struct fixture f = settled(NULL);
	struct stat file;
	uint64_t changed;

	CHECK_INT(stat(f.path, &file), ==, 0);
	changed = changed_ns(&file);
	glance_settle(f.pool, &file, changed);
	CHECK(!glance_is_same(f.pool));
	glance_settle(f.pool, &file, changed + 1);
	CHECK(glance_is_same(f.pool));
}

/* ext3: two changes within a second have the same time. */
TEST(glance, file_whose_times_are_whole_seconds_is_not_settled)
{
	CLEANUP(fixture_close) struct fixture f = settled(NULL);
	struct stat file;

	CHECK_INT(stat(f.path, &file), ==, 0);
	file.st_ctim.tv_nsec = 0;
	glance_settle(f.pool, &file, UINT64_MAX);
	CHECK_INT(atomic_load(&f.pool->glance.settled_ns), ==, 0);
}

/* Where a backup was written into the file of another pool, say. */
TEST(glance, pool_that_refuses_is_not_the_same)
{
	CLEANUP(fixture_close) struct fixture f = settled(NULL);

	CHECK_INT(write_one(f.pool, -2), ==, PP_OK);
	CHECK(glance_is_same(f.pool));
	atomic_store(&f.pool->tripped, true);
	CHECK(!glance_is_same(f.pool));
	atomic_store(&f.pool->tripped, false);
	f.pool->identity.inode++;
	CHECK(!glance_is_same(f.pool));
	f.pool->identity.inode--;
}

/* --- The descriptor ----------------------------------------------------------------------------
 */

TEST(glance, pool_that_is_opened_anew_looks_at_the_new_file)
{
	struct diary diary = { 0 };
	CLEANUP(fixture_close) struct fixture f = settled(&diary);
	int before = atomic_load(&f.pool->glance.file);
	struct stat file;

	replace(&f);
	must(pp_reopen(f.pool, PP_NO_WAIT, NULL), NULL);
	CHECK_INT(atomic_load(&f.pool->glance.file), ==, before); /* The other one is closed. */
	CHECK_INT(fstat(before, &file), ==, 0);
	CHECK(health_is_ours(f.pool, &file));
	settle(&f);
	CHECK_INT(write_one(f.pool, -2), ==, PP_OK);
	CHECK(glance_is_same(f.pool));
}

/* As closing any other descriptor of the file would. */
TEST(glance, closing_drops_no_lock_of_sqlite)
{
	CLEANUP(fixture_close) struct fixture f = settled(NULL);
	struct flock range = { .l_type = F_WRLCK, .l_start = SHARED_BYTES, .l_len = 1 };
	int other = open(f.path, O_RDWR | O_CLOEXEC); /* Is closed with this process. */

	glance_open(f.pool);
	CHECK(atomic_load(&f.pool->glance.file) >= 0);
	glance_close(f.pool);
	CHECK_INT(fcntl(other, F_OFD_GETLK, &range), ==, 0);
	CHECK_INT(range.l_type, ==, F_RDLCK);
}

TEST(glance, descriptor_is_closed_with_the_pool)
{
	CLEANUP(fixture_close) struct fixture f = settled(NULL);
	int file = atomic_load(&f.pool->glance.file);

	CHECK(fcntl(file, F_GETFD) >= 0);
	must(pp_close(f.pool, PP_NO_WAIT, NULL), NULL);
	f.pool = NULL;
	CHECK_INT(fcntl(file, F_GETFD), ==, -1);
}
