/* Processes take turns: who stands at the turnstile, how long, and what becomes of its file. */
/* SPDX-License-Identifier: MIT */
#include "fixture.h"

#include "internal.h"

#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

enum { PRESENCE, NEXT };

/* --- What happens while the pool sleeps, or makes its file -------------------------------- */

/* In this program libc's functions are these, so that a test can do something at that moment. A
 * pause during which something is done takes no time. */
static struct moment {
	void (*act)(void);
	unsigned calls;
	int64_t asked_ns; /* How long the last sleep was to be, at most. */
} at_sleep, at_make;

atomic_uint sleeps_begun;

int clock_nanosleep(clockid_t id, int flags, const struct timespec *until, struct timespec *left)
{
	struct timespec now;

	at_sleep.calls++;
	atomic_fetch_add(&sleeps_begun, 1);
	if (at_sleep.act == NULL)
		return syscall(SYS_clock_nanosleep, id, flags, until, left) == 0 ? 0 : errno;
	clock_gettime(id, &now);
	at_sleep.asked_ns =
		(until->tv_sec - now.tv_sec) * 1000000000 + until->tv_nsec - now.tv_nsec;
	at_sleep.act();
	return 0;
}

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

/* --- Another process ---------------------------------------------------------------------- */

/* To these locks another open file description is another process. */
static int other = -1;

static bool other_locks(short type, off_t byte)
{
	struct flock range = { .l_type = type, .l_start = byte, .l_len = 1 };

	return fcntl(other, F_OFD_SETLK, &range) == 0;
}

/* What the pool holds: F_UNLCK, F_RDLCK or F_WRLCK. */
static int other_meets(off_t byte)
{
	struct flock range = { .l_type = F_WRLCK, .l_start = byte, .l_len = 1 };

	CHECK_INT(fcntl(other, F_OFD_GETLK, &range), ==, 0);
	return range.l_type;
}

static const char *beside(const struct fixture *f)
{
	static char path[128];

	snprintf(path, sizeof path, "%s-turn", f->path);
	return path;
}

static bool is_there(const struct fixture *f)
{
	struct stat status;

	return lstat(beside(f), &status) == 0;
}

static void other_comes(const struct fixture *f)
{
	other = open(beside(f), O_RDWR | O_CLOEXEC);
	CHECK(other >= 0);
	CHECK(other_locks(F_RDLCK, PRESENCE));
}

static void other_goes(void)
{
	close(other);
	other = -1;
}

static struct fixture fixture_manual(unsigned busy_timeout_ms)
{
	return fixture_config((struct pp_config){
		.readers = 1, .keeper = PP_KEEPER_MANUAL, .busy_timeout_ms = busy_timeout_ms });
}

/* With a neighbour that holds next. */
static struct fixture fixture_in_line(unsigned busy_timeout_ms)
{
	struct fixture f = fixture_manual(busy_timeout_ms);

	other_comes(&f);
	CHECK(other_locks(F_WRLCK, NEXT));
	CHECK_INT(pp_keep(f.pool, NULL), ==, PP_OK);
	at_sleep.calls = 0;
	return f;
}

static enum pp_status insert(struct pp_lease *lease, void *context)
{
	(void)context;
	sql(lease->db, "INSERT INTO t(v) VALUES (random())");
	return PP_OK;
}

static enum pp_status write_until(struct fixture *f, struct pp_deadline deadline)
{
	return pp_transact(f->pool, &(struct pp_transaction){ .deadline = deadline }, insert, NULL,
	                   NULL);
}

static uint64_t in_vain_ms(const struct fixture *f)
{
	return atomic_load(&f->pool->turn.in_vain_ns) / 1000000;
}

/* --- Standing at the turnstile ------------------------------------------------------------ */

static void give_at_the_third(void)
{
	if (at_sleep.calls == 3)
		other_locks(F_UNLCK, NEXT);
}

TEST(turn, is_waited_for)
{
	CLEANUP(fixture_close) struct fixture f = fixture_in_line(0);

	at_sleep.act = give_at_the_third;
	CHECK_INT(write_until(&f, PP_FOREVER), ==, PP_OK);
	CHECK_INT(at_sleep.calls, ==, 3);
	CHECK_INT(in_vain_ms(&f), ==, 0);
	CHECK_INT(other_meets(NEXT), ==, F_UNLCK);
	other_goes();
}

/* While the transaction runs somebody else is next. */
static enum pp_status let_the_other_in(struct pp_lease *lease, void *context)
{
	(void)context;
	CHECK_INT(other_meets(NEXT), ==, F_UNLCK);
	CHECK(other_locks(F_WRLCK, NEXT));
	return insert(lease, NULL);
}

/* Who has just written finds the other before him. */
TEST(turn, puts_who_had_it_behind)
{
	CLEANUP(fixture_close) struct fixture f = fixture_in_line(0);

	CHECK(other_locks(F_UNLCK, NEXT));
	at_sleep.act = give_at_the_third;
	CHECK_INT(pp_transact(f.pool, NULL, let_the_other_in, NULL, NULL), ==, PP_OK);
	CHECK_INT(at_sleep.calls, ==, 0);
	CHECK_INT(write_until(&f, PP_FOREVER), ==, PP_OK);
	CHECK_INT(at_sleep.calls, ==, 3);
	other_goes();
}

static sqlite3 *other_writer;
static int met_while_busy;

static void end_other_write(void)
{
	met_while_busy = other_meets(NEXT);
	sql(other_writer, "COMMIT");
	at_sleep.act = NULL;
}

/* Next is held while SQLite's own lock is polled, more often than without a turn; and a BEGIN that
 * failed gives it back. */
TEST(turn, is_held_until_sqlites_lock_is_had)
{
	CLEANUP(fixture_close) struct fixture f = fixture_manual(1);
	struct pp_lease lease = { 0 };

	other_comes(&f);
	CHECK_INT(pp_keep(f.pool, NULL), ==, PP_OK);
	acquire(f.pool, PP_WRITE, &lease);
	CHECK_INT(sqlite3_open(f.path, &other_writer), ==, SQLITE_OK);
	sql(other_writer, "BEGIN IMMEDIATE");
	CHECK_INT(pp_begin(&lease, NULL), ==, PP_SQLITE);
	CHECK_INT(other_meets(NEXT), ==, F_UNLCK);
	at_sleep.act = end_other_write;
	CHECK_INT(pp_begin(&lease, NULL), ==, PP_OK);
	CHECK_INT(met_while_busy, ==, F_WRLCK);
	CHECK_INT(at_sleep.asked_ns, <=, 100000);
	CHECK_INT(other_meets(NEXT), ==, F_UNLCK);
	CHECK(!((struct slot *)lease.slot)->connection.has_turn);
	CHECK_INT(pp_commit(&lease, NULL), ==, PP_OK);
	pp_release(&lease);
	sqlite3_close(other_writer);
	other_goes();
}

static void travel_10_ms(void)
{
	clock_travel_ms(10);
}

/* Somebody holds next and does not move: half of the time is left to BEGIN, which does without. */
static const struct {
	const char *what;
	unsigned busy_timeout_ms, deadline_ms, low_ms, high_ms;
} limits[] = {
	{ "half of the deadline", 0, 1600, 600, 900 }, /* A machine may be slow, */
	{ "half of busy_timeout_ms", 1600, 0, 800, 900 },
	{ "a second", 86400000, 0, 1000, 1100 }, /* ... and time travels by 10 ms. */
};

TEST_ROWS(turn, is_not_waited_for_longer_than, sizeof limits / sizeof *limits)
{
	CLEANUP(fixture_close) struct fixture f = fixture_in_line(limits[row].busy_timeout_ms);
	unsigned ms = limits[row].deadline_ms;

	at_sleep.act = travel_10_ms;
	CHECK_INT(write_until(&f, ms == 0 ? PP_FOREVER : pp_in_ms(ms)), ==, PP_OK);
	CHECK_MSG(in_vain_ms(&f) >= limits[row].low_ms && in_vain_ms(&f) <= limits[row].high_ms,
	          "%s: waited %ju ms", limits[row].what, (uintmax_t)in_vain_ms(&f));
	other_goes();
}

/* The patience with one that does not move is used up once, not by each transaction. */
TEST(turn, loses_patience_once)
{
	CLEANUP(fixture_close) struct fixture f = fixture_in_line(400);
	unsigned calls;

	at_sleep.act = travel_10_ms;
	for (unsigned i = 0; i < 5; i++)
		CHECK_INT(write_until(&f, PP_FOREVER), ==, PP_OK);
	CHECK_INT(in_vain_ms(&f), >=, 1000);
	calls = at_sleep.calls;
	CHECK_INT(write_until(&f, PP_FOREVER), ==, PP_OK);
	CHECK_INT(at_sleep.calls, ==, calls);
	CHECK(other_locks(F_UNLCK, NEXT)); /* It moves: all is as before. */
	CHECK_INT(write_until(&f, PP_FOREVER), ==, PP_OK);
	CHECK_INT(in_vain_ms(&f), ==, 0);
	CHECK(other_locks(F_WRLCK, NEXT));
	CHECK_INT(write_until(&f, PP_FOREVER), ==, PP_OK);
	CHECK_INT(at_sleep.calls, >, calls);
	other_goes();
}

static struct pp_token token;

static void cancel_at_the_second(void)
{
	if (at_sleep.calls == 2)
		pp_cancel(&token);
}

TEST(turn, is_not_waited_for_by_who_is_cancelled)
{
	CLEANUP(fixture_close) struct fixture f = fixture_in_line(0);

	at_sleep.act = cancel_at_the_second;
	write_until(&f, pp_with_token(PP_FOREVER, &token));
	CHECK_INT(at_sleep.calls, ==, 2);
	other_goes();
}

/* --- Neighbours --------------------------------------------------------------------------- */

TEST(turn, sees_neighbours_and_forgets_them)
{
	CLEANUP(fixture_close) struct fixture f = fixture_manual(0);

	CHECK(!stats(f.pool).neighbours);
	other_comes(&f);
	CHECK_INT(pp_keep(f.pool, NULL), ==, PP_OK);
	CHECK(stats(f.pool).neighbours);
	other_goes();
	CHECK_INT(pp_keep(f.pool, NULL), ==, PP_OK);
	CHECK(!stats(f.pool).neighbours);
}

/* Whoever writes looks, with no keeper's help; and without neighbours nothing is locked. */
TEST(turn, sees_neighbours_when_it_writes)
{
	CLEANUP(fixture_close) struct fixture f = fixture_manual(0);

	other_comes(&f);
	CHECK(other_locks(F_UNLCK, PRESENCE));
	CHECK(other_locks(F_WRLCK, NEXT));
	at_sleep.calls = 0;
	clock_travel_ms(20);
	CHECK_INT(write_until(&f, PP_FOREVER), ==, PP_OK);
	CHECK_INT(at_sleep.calls, ==, 0);
	CHECK(!stats(f.pool).neighbours);

	CHECK(other_locks(F_RDLCK, PRESENCE));
	clock_travel_ms(20);
	at_sleep.act = give_at_the_third;
	CHECK_INT(write_until(&f, PP_FOREVER), ==, PP_OK);
	CHECK_INT(at_sleep.calls, ==, 3);
	CHECK(stats(f.pool).neighbours);
	other_goes();
	clock_travel_ms(20);
	CHECK_INT(write_until(&f, PP_FOREVER), ==, PP_OK);
	CHECK(!stats(f.pool).neighbours);
}

/* --- The file ----------------------------------------------------------------------------- */

TEST(turn, leaves_no_file)
{
	CLEANUP(fixture_close) struct fixture f = fixture_manual(0);

	CHECK(is_there(&f));
	CHECK_INT(pp_close(f.pool, PP_NO_WAIT, NULL), ==, PP_OK);
	CHECK(!is_there(&f));
	f.pool = NULL;
}

TEST(turn, leaves_the_file_to_neighbours)
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
TEST(turn, leaves_before_it_looks_for_others)
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

/* Somebody has removed it, and there is another of that name: not ours to remove. */
TEST(turn, removes_no_file_but_its_own)
{
	CLEANUP(fixture_close) struct fixture f = fixture_manual(0);

	CHECK_INT(unlink(beside(&f)), ==, 0);
	CHECK_INT(mknod(beside(&f), S_IFREG | 0600, 0), ==, 0);
	CHECK_INT(pp_close(f.pool, PP_NO_WAIT, NULL), ==, PP_OK);
	CHECK(is_there(&f));
	f.pool = NULL;
}

/* Who may write the database may take turns. */
TEST(turn, makes_the_file_as_the_database_is)
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
TEST_ROWS(turn, does_without, sizeof obstacles / sizeof *obstacles)
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
TEST_ROWS(turn, opens_its_file_again, sizeof removals / sizeof *removals)
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

TEST(turn, is_nothing_to_memdb)
{
	CLEANUP(fixture_close)
	struct fixture f = fixture_config((struct pp_config){ .path = "file:/turn?vfs=memdb" });

	CHECK_INT(f.pool->turn.file, ==, -1);
	CHECK_INT(rmdir(f.dir), ==, 0); /* Nothing was made in it, */
	CHECK_INT(mkdir(f.dir, 0700), ==, 0);
	CHECK(access("file:", F_OK) != 0); /* ... nor where the path would be one. */
}

/* --- Processes ---------------------------------------------------------------------------- */

static pid_t child_start(int (*run)(void *), void *context)
{
	pid_t child = fork();

	CHECK(child >= 0);
	if (child == 0)
		_exit(run(context));
	return child;
}

static int child_end(pid_t child)
{
	int status = -1;

	CHECK_INT(waitpid(child, &status, 0), ==, child);
	return status;
}

static int stay(void *context)
{
	(void)context;
	pause();
	return 0;
}

/* A child has the same locks. They must not outlive the parent's pool with it. */
TEST(turn, leaves_no_lock_to_a_child)
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

enum { PROCESSES = 2, THREADS = 4 };

static const struct {
	const char *what;
	enum pp_journal journal;
	unsigned transactions; /* Of each thread: a rollback journal's are slow. */
} journals[] = { { "WAL", PP_JOURNAL_WAL, 200 }, { "a rollback journal", PP_JOURNAL_DELETE, 50 } };

/* In memory that both have. */
struct contest {
	char path[96];
	enum pp_journal journal;
	unsigned transactions; /* Of each thread. */
	atomic_uint here, errors, neighbours;
	atomic_uint done[PROCESSES], least; /* What the slower had done when the faster ended. */
};

struct contender {
	struct contest *contest;
	unsigned number;
	struct pp_pool *pool;
};

static enum pp_status move_one(struct pp_lease *lease, void *context)
{
	(void)context;
	return sqlite3_exec(lease->db, "UPDATE n SET x = x + iif(id = 1, 1, -1)", NULL, NULL,
	                    NULL) == SQLITE_OK
	               ? PP_OK
	               : PP_SQLITE;
}

static void *write_many(void *context)
{
	struct contender *me = context;
	struct contest *c = me->contest;

	for (unsigned i = 0; i < c->transactions; i++) {
		if (pp_transact(me->pool, NULL, move_one, NULL, NULL) != PP_OK)
			atomic_fetch_add(&c->errors, 1);
		atomic_fetch_add(&c->done[me->number], 1);
	}
	return NULL;
}

static void load(struct contender *me)
{
	struct contest *c = me->contest;
	pthread_t threads[THREADS];
	unsigned others, none = 0;
	struct pp_stats s = { 0 };

	for (unsigned t = 0; t < THREADS; t++)
		if (pthread_create(&threads[t], NULL, write_many, me) != 0)
			abort();
	for (unsigned t = 0; t < THREADS; t++)
		pthread_join(threads[t], NULL);
	others = atomic_load(&c->done[1 - me->number]);
	atomic_compare_exchange_strong(&c->least, &none, others);
	pp_stats_read(me->pool, &s);
	atomic_fetch_add(&c->neighbours, s.neighbours);
}

/* In a child, where a claim that fails would not be heard: it counts, or returns a number. */
static int contend(void *context)
{
	struct contender *me = context;
	struct contest *c = me->contest;
	struct pp_config config = { .path = c->path, .readers = 1, .journal = c->journal };
	struct pp_lease lease = { 0 };

	if (pp_open(&config, &me->pool, NULL) != PP_OK)
		return 1;
	if (me->number == 0) {
		if (pp_acquire(me->pool, PP_WRITE, PP_FOREVER, &lease, NULL) != PP_OK ||
		    sqlite3_exec(lease.db,
		                 "CREATE TABLE n(id INTEGER PRIMARY KEY, x);"
		                 "INSERT INTO n VALUES (1, 0), (2, 0)",
		                 NULL, NULL, NULL) != SQLITE_OK)
			return 2;
		pp_release(&lease);
	}
	atomic_fetch_add(&c->here, 1);
	WAIT_FOR(atomic_load(&c->here) >= PROCESSES);
	load(me);
	atomic_fetch_add(&c->here, 1);
	WAIT_FOR(atomic_load(&c->here) == 2 * PROCESSES);
	return pp_close(me->pool, pp_in_ms(10000), NULL) == PP_OK ? 0 : 3;
}

/* No error reaches a caller, and none of the two is starved: when one is done the other has done
 * at least a quarter as much (usually nine tenths; fewer are too few to say so). */
TEST_ROWS(turn, comes_to_both_processes, sizeof journals / sizeof *journals)
{
	CLEANUP(fixture_close) struct fixture f = fixture_dir();
	struct contest *c =
		mmap(NULL, sizeof *c, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid_t children[PROCESSES];
	unsigned all;
	sqlite3 *db;

	CHECK(c != MAP_FAILED);
	memcpy(c->path, f.path, sizeof c->path);
	c->journal = journals[row].journal;
	c->transactions = journals[row].transactions / slowness() + 5;
	all = THREADS * c->transactions;
	for (unsigned n = 0; n < PROCESSES; n++)
		children[n] = child_start(contend, &(struct contender){ c, n, NULL });
	for (unsigned n = 0; n < PROCESSES; n++)
		CHECK_INT(child_end(children[n]), ==, 0);
	CHECK_INT(c->errors, ==, 0);
	CHECK_INT(c->neighbours, ==, PROCESSES);
	CHECK_MSG(slowness() > 1 || c->least >= all / 4, "%s: %u of %u when the other was done",
	          journals[row].what, c->least, all);
	CHECK(!is_there(&f));
	CHECK_INT(sqlite3_open(f.path, &db), ==, SQLITE_OK);
	CHECK_INT(number(db, "SELECT x FROM n WHERE id = 1"), ==, PROCESSES * all);
	CHECK_INT(number(db, "SELECT sum(x) FROM n"), ==, 0);
	sqlite3_close(db);
	munmap(c, sizeof *c);
}
