/* The turnstile's file: made, left, removed; what is in its way; who has it after a fork. */
/* SPDX-License-Identifier: MIT */
#include "turn.h"

#include <signal.h>
#include <stdarg.h>

static struct moment at_make;

int fchmod(int file, mode_t mode)
{
	at_make.calls++;
	if (at_make.act != NULL)
		at_make.act();
	return (int)syscall(SYS_fchmod, file, mode);
}

static void (*at_lock)(const struct flock *range);

int fcntl(int file, int command, ...)
{
	void (*act)(const struct flock *range) = at_lock;
	void *argument;
	va_list arguments;

	va_start(arguments, command);
	argument = va_arg(arguments, void *);
	va_end(arguments);
	if (command == F_OFD_SETLK && act != NULL) {
		at_lock = NULL;
		act(argument);
		at_lock = act;
	}
	return (int)syscall(SYS_fcntl, file, command, argument);
}

/* --- The file ----------------------------------------------------------------------------- */

TEST(turn_file, leaves_no_file)
{
	CLEANUP(fixture_close) struct fixture f = fixture_manual(0);

	CHECK(is_there(&f));
	CHECK_INT(pp_close(f.pool, PP_NO_WAIT, NULL), ==, PP_OK);
	CHECK(!is_there(&f));
	f.pool = NULL;
}

TEST(turn_file, leaves_the_file_to_neighbours)
{
	CLEANUP(fixture_close) struct fixture f = fixture_manual(0);
	struct pp_config config = { .path = f.path };

	other_comes(&f);
	CHECK_INT(pp_close(f.pool, PP_NO_WAIT, NULL), ==, PP_OK);
	CHECK(is_there(&f));
	CHECK_INT(other_meets(PRESENCE), ==, F_UNLCK);
	/* A process that was killed leaves it, and the next one removes it. */
	other_goes();
	must(pp_open(&config, &f.pool, NULL), NULL);
	CHECK_INT(pp_close(f.pool, PP_NO_WAIT, NULL), ==, PP_OK);
	CHECK(!is_there(&f));
	f.pool = NULL;
}

static int looks_met = -1;

static void look_who_is_there(const struct flock *range)
{
	if (range->l_type == F_WRLCK)
		looks_met = other_meets(PRESENCE);
}

/* Of two that close at once each has left before it looks for the other: so one removes it. */
TEST(turn_file, leaves_before_it_looks_for_others)
{
	CLEANUP(fixture_close) struct fixture f = fixture_manual(0);

	other_comes(&f);
	at_lock = look_who_is_there;
	CHECK_INT(pp_close(f.pool, PP_NO_WAIT, NULL), ==, PP_OK);
	at_lock = NULL;
	CHECK_INT(looks_met, ==, F_UNLCK);
	other_goes();
	f.pool = NULL;
}

/* Somebody has removed it, or moved it, and there is another of that name: not ours to remove. */
TEST_ROWS(turn_file, removes_no_file_but_its_own, 2)
{
	CLEANUP(fixture_close) struct fixture f = fixture_manual(0);
	char moved[160];

	snprintf(moved, sizeof moved, "%s-moved", beside(&f));
	CHECK_INT(row == 0 ? unlink(beside(&f)) : rename(beside(&f), moved), ==, 0);
	CHECK_INT(mknod(beside(&f), S_IFREG | 0600, 0), ==, 0);
	CHECK_INT(pp_close(f.pool, PP_NO_WAIT, NULL), ==, PP_OK);
	CHECK(is_there(&f));
	f.pool = NULL;
}

/* Who may write the database may take turns. */
TEST(turn_file, makes_the_file_as_the_database_is)
{
	CLEANUP(fixture_close) struct fixture f = fixture_manual(0);
	struct pp_config config = { .path = f.path };
	struct stat status;

	CHECK_INT(pp_close(f.pool, PP_NO_WAIT, NULL), ==, PP_OK);
	CHECK_INT(chmod(f.path, 0626), ==, 0);
	must(pp_open(&config, &f.pool, NULL), NULL);
	CHECK_INT(stat(beside(&f), &status), ==, 0);
	CHECK_INT(status.st_mode & 07777, ==, 0626);
}

/* --- What is in its way ------------------------------------------------------------------- */

static void make_folder(struct fixture *f)
{
	CHECK_INT(mkdir(beside(f), 0700), ==, 0);
}

static void make_link(struct fixture *f)
{
	CHECK_INT(symlink(f->path, beside(f)), ==, 0);
}

/* The last of a neighbour's, stopped while it was removing the file. */
static void hold_alone(struct fixture *f)
{
	other = open(beside(f), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	CHECK(other_locks(F_WRLCK, PRESENCE));
}

static const struct {
	const char *what;
	void (*prepare)(struct fixture *f);
} obstacles[] = {
	{ "a folder of its name", make_folder },
	{ "a link to the database, which must not be opened and closed", make_link },
	{ "a file that is never free", hold_alone },
};

/* Without its file there are no turns; all else works, and nothing is removed. */
TEST_ROWS(turn_file, does_without, sizeof obstacles / sizeof *obstacles)
{
	CLEANUP(fixture_close) struct fixture f = fixture_dir();
	struct pp_config config = { .path = f.path, .keeper = PP_KEEPER_MANUAL };
	struct pp_lease lease = { 0 };

	obstacles[row].prepare(&f);
	must(pp_open(&config, &f.pool, NULL), NULL);
	CHECK_MSG(f.pool->turn.file == -1, "%s", obstacles[row].what);
	acquire(f.pool, PP_WRITE, &lease);
	must(pp_begin(&lease, NULL), NULL);
	sql(lease.db, "CREATE TABLE t(v)");
	must(pp_commit(&lease, NULL), NULL);
	pp_release(&lease);
	CHECK_INT(pp_keep(f.pool, NULL), ==, PP_OK);
	CHECK(!stats(f.pool).neighbours);
	CHECK_INT(pp_close(f.pool, PP_NO_WAIT, NULL), ==, PP_OK);
	CHECK(is_there(&f));
	f.pool = NULL;
	other_goes();
}

static const struct fixture *opening;

static void remove_once(void)
{
	if (at_make.calls == 1)
		CHECK_INT(unlink(beside(opening)), ==, 0);
}

static void free_at_the_third(void)
{
	if (at_make.calls == 3)
		CHECK(other_locks(F_UNLCK, PRESENCE));
}

static const struct {
	const char *what;
	void (*prepare)(struct fixture *f);
	void (*act)(void);
	unsigned calls;
} removals[] = {
	{ "removed between open and lock", NULL, remove_once, 2 },
	{ "held by who removes it", hold_alone, free_at_the_third, 3 },
};

/* The file goes just when it is opened: it is opened again. */
TEST_ROWS(turn_file, opens_its_file_again, sizeof removals / sizeof *removals)
{
	CLEANUP(fixture_close) struct fixture f = fixture_dir();
	struct pp_config config = { .path = f.path, .keeper = PP_KEEPER_MANUAL };
	struct stat ours, named;

	if (removals[row].prepare != NULL)
		removals[row].prepare(&f);
	opening = &f;
	at_make = (struct moment){ .act = removals[row].act };
	must(pp_open(&config, &f.pool, NULL), NULL);
	CHECK_MSG(at_make.calls == removals[row].calls, "%s", removals[row].what);
	CHECK_INT(fstat(f.pool->turn.file, &ours), ==, 0);
	CHECK_INT(stat(beside(&f), &named), ==, 0);
	CHECK_INT(ours.st_ino, ==, named.st_ino);
	other_goes();
}

TEST(turn_file, is_nothing_to_memdb)
{
	CLEANUP(fixture_close)
	struct fixture f = fixture_config((struct pp_config){ .path = "file:/turn?vfs=memdb" });

	CHECK_INT(f.pool->turn.file, ==, -1);
	CHECK_INT(rmdir(f.dir), ==, 0); /* Nothing was made in it, */
	CHECK_INT(mkdir(f.dir, 0700), ==, 0);
	CHECK(access("file:", F_OK) != 0); /* ... nor where the path would be one. */
}

static int stay(void *context)
{
	(void)context;
	pause();
	return 0;
}

/* A child has the same locks. They must not outlive the parent's pool with it. */
TEST(turn_file, leaves_no_lock_to_a_child)
{
	CLEANUP(fixture_close) struct fixture f = fixture_manual(0);
	pid_t child;

	CHECK(fcntl(f.pool->turn.file, F_GETFD) & FD_CLOEXEC); /* Nor to what it runs. */
	child = child_start(stay, NULL);
	other = open(beside(&f), O_RDWR | O_CLOEXEC);
	CHECK_INT(pp_close(f.pool, PP_NO_WAIT, NULL), ==, PP_OK);
	f.pool = NULL;
	CHECK_INT(other_meets(PRESENCE), ==, F_UNLCK);
	CHECK(!is_there(&f));
	other_goes();
	kill(child, SIGKILL);
	CHECK(WIFSIGNALED(child_end(child)));
}
