/* What is the whole process's: SQLite's set-up and shutdown, the table of accounts, assertions. */
/* SPDX-License-Identifier: MIT */
#include "fixture.h"

#include "internal.h"

#include <setjmp.h>
#include <signal.h>
#include <sys/time.h>

/* --- An SQLite without threads ------------------------------------------------------------ */

/* In this program SQLite's own function is this one, so that it can answer otherwise. */
static int threads = 1;

int sqlite3_threadsafe(void)
{
	return threads;
}

TEST(setup, refuses_an_sqlite_without_threads)
{
	CLEANUP(fixture_close) struct fixture f = fixture_dir();
	struct pp_config config = { .path = f.path };
	struct pp_error error = { 0 };
	struct stat file;

	threads = 0;
	CHECK_INT(pp_setup(0), ==, PP_MISUSE);
	CHECK_INT(pp_open(&config, &f.pool, &error), ==, PP_MISUSE);
	CHECK_CONTAINS(error.message, "THREADSAFE=0");
	CHECK(f.pool == NULL);
	CHECK(stat(f.path, &file) != 0);
	threads = 1;
	must(pp_open(&config, &f.pool, &error), &error);
	CHECK_INT(stats(f.pool).accounting, !=, PP_ACCOUNTING_OFF);
}

/* --- Shutdown ----------------------------------------------------------------------------- */

/* Without a pool and a connection SQLite can be shut down: nothing is left in it, and it comes back
 * with the next pool. */
TEST(setup, outlives_a_shutdown)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	struct pp_config config = { .path = f.path, .readers = 1 };

	CHECK_INT(pp_close(f.pool, PP_NO_WAIT, NULL), ==, PP_OK);
	CHECK_INT(sqlite3_shutdown(), ==, SQLITE_OK);
	CHECK_INT(accounts_foreign_bytes(), ==, 0);
	must(pp_open(&config, &f.pool, NULL), NULL);
	CHECK_INT(stats(f.pool).accounting, !=, PP_ACCOUNTING_OFF);
	CHECK_INT(stats(f.pool).connections_bytes, >, 0);
}

/* --- Accounts running out ----------------------------------------------------------------- */

enum { ACCOUNTS = 2 * PP_POOLS_MAX * (PP_READERS_MAX + 16) };

/* The accounts are one table, and the first that is given out is its first: to open them one by one
 * would take seconds. */
static struct account *accounts_take_all(void)
{
	struct account *table = account_open(NULL);

	for (unsigned i = 0; i < ACCOUNTS; i++)
		table[i].state = ACCOUNT_OPEN;
	return table;
}

/* A pool with one reader wants four; with less it fails, at itself or at a connection, and what it
 * had taken till then is free again. */
TEST(account, is_missed_when_all_are_taken)
{
	CLEANUP(fixture_close) struct fixture f = fixture_dir();
	struct pp_config config = { .path = f.path, .readers = 1 };
	struct pp_error error = { 0 };
	struct account *table;

	CHECK_INT(pp_setup(0), ==, PP_OK);
	table = accounts_take_all();
	CHECK(account_open(NULL) == NULL);
	for (unsigned spare = 0; spare < 4; spare++) {
		CHECK_INT(pp_open(&config, &f.pool, &error), ==, PP_NOMEM);
		CHECK_CONTAINS(error.message, spare == 0 ? "no account is free for a pool"
		                                         : "no account is free for a connection");
		CHECK(f.pool == NULL);
		table[ACCOUNTS - spare - 1].state = ACCOUNT_FREE;
	}
	must(pp_open(&config, &f.pool, &error), &error);
	CHECK(account_open(NULL) == NULL);
}

/* --- Assertions --------------------------------------------------------------------------- */

static sigjmp_buf aborted;

static void on_abort(int number)
{
	(void)number;
	siglongjmp(aborted, 1);
}

static const struct {
	const char *what;
	enum pp_lane lane; /* Of pp_acquire(); 0: another call, by the row. */
} mistakes[] = {
	{ "open without a configuration", 0 },
	{ "open without a place for the pool", 0 },
	{ "prepare without a text", 0 },
	{ "transact without work", 0 },
	{ "read without work", 0 },
	{ "register without a text", 0 },
	{ "write without work", 0 },
	{ "register without a place for the number", 0 },
	{ "metrics without a name", 0 },
	{ "acquire from a lane that is none", (enum pp_lane)4 },
};

static void make_mistake(struct pp_pool *pool, int row)
{
	struct pp_lease lease = { 0 };
	sqlite3_stmt *stmt;
	unsigned id;

	switch (row) {
	case 0:
		pp_open(NULL, &pool, NULL);
		break;
	case 1:
		pp_open(&(struct pp_config){ .path = "x" }, NULL, NULL);
		break;
	case 2:
		pp_prepare(&lease, NULL, &stmt, NULL);
		break;
	case 3:
		pp_transact(pool, NULL, NULL, NULL, NULL);
		break;
	case 4:
		pp_read(pool, NULL, NULL, NULL, NULL);
		break;
	case 5:
		pp_statement_register(pool, NULL, &id, NULL);
		break;
	case 6:
		pp_write(pool, NULL, NULL, NULL, NULL, NULL);
		break;
	case 7:
		pp_statement_register(pool, "SELECT 1", NULL, NULL);
		break;
	case 8:
		pp_metrics_text(pool, NULL, NULL, 0);
		break;
	default:
		pp_acquire(pool, mistakes[row].lane, PP_NO_WAIT, &lease, NULL);
	}
}

/* Misuse by the programmer stops him, in every variant; before anything was done. */
TEST_ROWS(mistake, asserts, sizeof mistakes / sizeof *mistakes)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);

	CHECK(freopen("/dev/null", "w", stderr) != NULL); /* What assert() says is no news here. */
	signal(SIGABRT, on_abort);
	if (sigsetjmp(aborted, 1) == 0) {
		make_mistake(f.pool, row);
		signal(SIGABRT, SIG_DFL);
		CHECK_MSG(false, "%s is let through", mistakes[row].what);
	}
	signal(SIGABRT, SIG_DFL);
}

/* --- The clock ---------------------------------------------------------------------------- */

/* A point in time before the clock's, which tests have moved on. */
TEST(clock, does_not_wait_for_what_is_past)
{
	pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
	pthread_cond_t cond;

	clock_travel_ms(1000);
	clock_cond_init(&cond);
	pthread_mutex_lock(&mutex);
	clock_wait(&cond, &mutex, 1);
	pthread_mutex_unlock(&mutex);
	pthread_cond_destroy(&cond);
	CHECK_INT(clock_ns(), >, 1000000000);
}

static volatile sig_atomic_t alarms;

static void on_alarm(int number)
{
	(void)number;
	alarms++;
}

/* A program may have signals: a pause is not cut short by one, nor made longer by many. */
/* Upkeep went round hundreds of times at each look, for as long as the coarse clock was behind. */
TEST(clock, wait_for_the_coarse_one_is_no_busy_wait)
{
	enum { ROUNDS = 20, WAITS_MAX = 20 };
	pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
	pthread_cond_t cond;
	unsigned waits = 0;

	clock_cond_init(&cond);
	pthread_mutex_lock(&mutex);
	for (unsigned i = 0; i < ROUNDS; i++)
		for (uint64_t due = clock_coarse_ms() + 3; clock_coarse_ms() < due; waits++)
			clock_wait_coarse(&cond, &mutex, due);
	pthread_mutex_unlock(&mutex);
	pthread_cond_destroy(&cond);
	CHECK_INT(waits, <, ROUNDS * WAITS_MAX);
}

TEST(clock, sleeps_through_signals)
{
	struct itimerval each_ms = { { 0, 1000 }, { 0, 1000 } }, none = { 0 };
	uint64_t start = clock_ns();

	signal(SIGALRM, on_alarm);
	setitimer(ITIMER_REAL, &each_ms, NULL);
	clock_sleep_ns(20000000);
	setitimer(ITIMER_REAL, &none, NULL);
	CHECK_INT(clock_ns() - start, >=, 20000000);
	CHECK_INT(alarms, >, 0);
}
