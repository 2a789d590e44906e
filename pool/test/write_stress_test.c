/* pp_write(): many threads that do everything at once, right and wrong; and kill -9 in the middle.
 */
/* SPDX-License-Identifier: MIT */
#include "group.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <valgrind/valgrind.h>

/* xorshift64 (Marsaglia): what a thread does depends on its seed alone. */
static uint64_t next(uint64_t *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 7;
	return *seed ^= *seed << 17;
}

/* --- Everything at once --------------------------------------------------------------------- */

enum { THREADS = 8, STEPS_MAX = 400, PURSES = 16, START = 1000 };

struct city {
	struct pp_pool *pool;
	unsigned steps;
	struct pp_token tokens[THREADS][STEPS_MAX];
	atomic_uint step[THREADS];
	enum pp_status said[THREADS][STEPS_MAX];
};

struct citizen {
	struct city *city;
	unsigned who, step;
	uint64_t seed;
};

enum deed { PAY, PAY_AND_REGRET, PAY_TWICE, CUT, CUT_SILENTLY, SLEEP_ON_IT, NEST, DEEDS };

static enum pp_status exec(struct pp_lease *lease, const char *format, unsigned a, unsigned b)
{
	char text[160];

	snprintf(text, sizeof text, format, a, b);
	return sqlite3_exec(lease->db, text, NULL, NULL, NULL) == SQLITE_OK ? PP_OK : PP_SQLITE;
}

static enum pp_status pay(struct pp_lease *lease, unsigned from, unsigned to, unsigned receipt)
{
	enum pp_status status =
		exec(lease, "UPDATE purse SET x = x - %u WHERE id = %u", 1 + receipt % 7, from);

	if (status == PP_OK)
		status = exec(lease, "UPDATE purse SET x = x + %u WHERE id = %u", 1 + receipt % 7,
		              to);
	return status == PP_OK ? exec(lease, "INSERT INTO t VALUES (%u, %u)", receipt, receipt)
	                       : status;
}

static enum pp_status do_deed(struct pp_lease *lease, void *context)
{
	struct citizen *c = context;
	uint64_t seed = c->seed; /* Run again, it does the same. */
	unsigned receipt = c->who * STEPS_MAX + c->step + 1;
	enum deed deed = (enum deed)(next(&seed) % (3 * DEEDS));
	enum pp_status status;

	/* One is wrong in the middle: from is less by then. */
	status = pay(lease, (unsigned)(next(&seed) % PURSES), (unsigned)(next(&seed) % PURSES),
	             receipt);
	if (status != PP_OK)
		return status;
	switch (deed) {
	case PAY_AND_REGRET:
		return PP_ABORTED;
	case PAY_TWICE:
		return exec(lease, "INSERT INTO t VALUES (%u, %u)", receipt, receipt);
	case CUT:
		return exec(lease, "INSERT OR ROLLBACK INTO t VALUES (%u, %u)", receipt, receipt);
	case CUT_SILENTLY:
		exec(lease, "ROLLBACK; BEGIN; UPDATE purse SET x = x + %u WHERE id = %u", 1, 1);
		return PP_OK;
	case SLEEP_ON_IT:
		return exec(lease,
		            "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n LIMIT "
		            "20000) SELECT count(*) + %u + %u FROM n",
		            0, 0);
	case NEST:
		if (pp_begin(lease, NULL) != PP_OK)
			return PP_SQLITE;
		exec(lease, "UPDATE purse SET x = x + %u WHERE id = %u", 5, 3);
		return pp_rollback(lease, NULL);
	default:
		return PP_OK;
	}
}

static void *live(void *context)
{
	struct citizen *c = context;
	struct city *city = c->city;

	for (c->step = 0; c->step < city->steps; c->step++) {
		uint64_t dice = next(&c->seed);
		unsigned neighbour = (c->who + 1) % THREADS;
		struct pp_transaction options = {
			.any_thread = dice % 2 == 0,
			.deadline = dice % 16 == 1 ? pp_in_ms(dice % 5) : PP_FOREVER,
		};

		options.deadline.token = &city->tokens[c->who][c->step];
		atomic_store(&city->step[c->who], c->step);
		if (dice % 32 == 2)
			pp_cancel(&city->tokens[neighbour][atomic_load(&city->step[neighbour])]);
		city->said[c->who][c->step] =
			dice % 8 == 3 ? pp_transact(city->pool, &options, do_deed, c, NULL)
				      : pp_write(city->pool, &options, do_deed, c, NULL, NULL);
	}
	return NULL;
}

/* Who was told that it is done finds his receipt, and nobody else one; no money is made or lost. */
static void audit(struct city *city, uint64_t seed)
{
	struct pp_lease lease = { 0 };
	sqlite3_stmt *stmt;

	CHECK_INT(ask(city->pool, "SELECT sum(x) FROM purse"), ==, PURSES * START);
	acquire(city->pool, PP_READ, &lease);
	must(pp_prepare(&lease, "SELECT count(*) FROM t WHERE id = ?1", &stmt, NULL), NULL);
	for (unsigned who = 0; who < THREADS; who++)
		for (unsigned i = 0; i < city->steps; i++) {
			sqlite3_bind_int64(stmt, 1, who * STEPS_MAX + i + 1);
			CHECK_INT(sqlite3_step(stmt), ==, SQLITE_ROW);
			CHECK_MSG(sqlite3_column_int(stmt, 0) == (city->said[who][i] == PP_OK),
			          "seed %ju, thread %u, step %u: %s", (uintmax_t)seed, who, i,
			          pp_status_name(city->said[who][i]));
			sqlite3_reset(stmt);
		}
	pp_release(&lease);
}

static const struct pp_config cities[] = {
	{ .readers = 1 },
	{ .readers = 1, .synchronous = PP_SYNCHRONOUS_NORMAL },
	{ .readers = 1, .journal = PP_JOURNAL_DELETE },
	{ .readers = 1, .path = "file:/city?vfs=memdb" },
};

TEST_ROWS(stress, of_groups_keeps_every_promise, sizeof cities / sizeof *cities)
{
	CLEANUP(fixture_close) struct fixture f = fixture_config(cities[row]);
	static struct city city;
	struct citizen citizens[THREADS];
	pthread_t threads[THREADS];
	struct pp_lease lease = { 0 };
	uint64_t seed = (uint64_t)getpid() * 2654435761u + (uint64_t)row + 1;
	char text[1024];

	city.pool = f.pool;
	city.steps = STEPS_MAX / (slowness() > 20 ? 10 : slowness() > 1 || row == 2 ? 4 : 1);
	acquire(f.pool, PP_WRITE, &lease);
	sql(lease.db, "CREATE TABLE purse(id INTEGER PRIMARY KEY, x)");
	for (unsigned i = 0; i < PURSES; i++)
		must(exec(&lease, "INSERT INTO purse VALUES (%u, %u)", i, START), NULL);
	pp_release(&lease);
	for (unsigned i = 0; i < THREADS; i++) {
		citizens[i] = (struct citizen){ .city = &city, .who = i, .seed = seed + i * 7919 };
		threads[i] = thread_start(live, &citizens[i]);
	}
	for (unsigned i = 0; i < 100; i++)
		CHECK_MSG(pp_check(f.pool, text, sizeof text) == 0, "%s", text);
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	audit(&city, seed);
	CHECK_INT(stats(f.pool).write.waiting, ==, 0);
	CHECK_INT(stats(f.pool).reruns, >, 0);
	CHECK_INT(stats(f.pool).groups, <, stats(f.pool).writes);
}

/* --- kill -9 -------------------------------------------------------------------------------- */

enum { WRITERS = 8, WRITES_MAX = 20000 };
enum fate_of_write { UNBORN, MEANT, DONE_AND_SAID, FAILED_AND_SAID };

/* Shared with the child: what is in it when the child dies is what the child knew. */
struct ledger {
	atomic_uint said;
	atomic_uchar writes[WRITERS][WRITES_MAX];
};

struct writer {
	struct pp_pool *pool;
	struct ledger *ledger;
	unsigned who, n;
	bool any_thread;
};

/* Of a hundred a few fail, and a few take their whole group along. */
static enum pp_status write_down_one(struct pp_lease *lease, void *context)
{
	const struct writer *w = context;
	unsigned id = w->who * WRITES_MAX + w->n + 1;
	enum pp_status status = exec(lease, "INSERT INTO t VALUES (%u, %u)", id, id);

	if (status == PP_OK && w->n % 16 == 7)
		return PP_ABORTED;
	if (status == PP_OK && w->n % 32 == 3)
		exec(lease, "INSERT OR ROLLBACK INTO t VALUES (%u, %u)", id, id);
	return status;
}

static void *write_for_ever(void *context)
{
	struct writer *w = context;
	struct pp_transaction options = { .any_thread = w->any_thread, .deadline = PP_FOREVER };

	for (w->n = 0; w->n < WRITES_MAX; w->n++) {
		atomic_uchar *fate = &w->ledger->writes[w->who][w->n];

		atomic_store(fate, MEANT);
		atomic_store(fate,
		             pp_write(w->pool, &options, write_down_one, w, NULL, NULL) == PP_OK
		                     ? DONE_AND_SAID
		                     : FAILED_AND_SAID);
		atomic_fetch_add(&w->ledger->said, 1);
	}
	return NULL;
}

static void child_live(const struct pp_config *config, struct ledger *ledger, bool any_thread)
{
	struct writer writers[WRITERS];
	struct pp_pool *pool;

	if (pp_open(config, &pool, NULL) != PP_OK)
		_exit(1);
	for (unsigned i = 0; i < WRITERS; i++) {
		writers[i] = (struct writer){ pool, ledger, i, 0, any_thread };
		thread_start(write_for_ever, &writers[i]);
	}
	for (;;)
		pause();
}

/* Not by a pool: the next child is to have none. */
static void read_the_ledger(const char *path, struct ledger *ledger, unsigned round)
{
	static const char *const words[] = { "unborn", "meant", "acknowledged", "failed" };
	sqlite3_stmt *stmt;
	sqlite3 *db;

	CHECK_INT(sqlite3_open(path, &db), ==, SQLITE_OK);
	CHECK_INT(number(db, "SELECT count(*) FROM pragma_integrity_check WHERE integrity_check <> "
	                     "'ok'"),
	          ==, 0);
	CHECK_INT(sqlite3_prepare_v2(db, "SELECT count(*) FROM t WHERE id = ?1 AND v = ?1", -1,
	                             &stmt, NULL),
	          ==, SQLITE_OK);
	for (unsigned who = 0; who < WRITERS; who++)
		for (unsigned n = 0; n < WRITES_MAX; n++) {
			unsigned fate = atomic_load(&ledger->writes[who][n]);
			bool there;

			sqlite3_bind_int64(stmt, 1, who * WRITES_MAX + n + 1);
			CHECK_INT(sqlite3_step(stmt), ==, SQLITE_ROW);
			there = sqlite3_column_int(stmt, 0) == 1;
			sqlite3_reset(stmt);
			CHECK_MSG(fate == MEANT || there == (fate == DONE_AND_SAID),
			          "kill %u: thread %u's write %u was %s and is %sthere", round, who,
			          n, words[fate], there ? "" : "not ");
			if (fate == UNBORN)
				break;
		}
	sqlite3_finalize(stmt);
	CHECK_INT(sqlite3_close(db), ==, SQLITE_OK);
	CHECK_INT(sqlite3_shutdown(), ==, SQLITE_OK);
}

static void kill_one(int row, uint64_t *seed, unsigned round)
{
	CLEANUP(fixture_remove) struct fixture f = fixture_dir();
	struct pp_config config = { .path = f.path,
		                    .readers = 1,
		                    .journal = row / 2 == 0 ? PP_JOURNAL_WAL : PP_JOURNAL_DELETE };
	struct ledger *ledger = mmap(NULL, sizeof *ledger, PROT_READ | PROT_WRITE,
	                             MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	unsigned after = (unsigned)(next(seed) % (RUNNING_ON_VALGRIND ? 30 : 300));
	sqlite3 *db;
	int status;
	pid_t child;

	CHECK(ledger != MAP_FAILED);
	CHECK_INT(sqlite3_open(f.path, &db), ==, SQLITE_OK);
	sql(db, "CREATE TABLE t(id INTEGER PRIMARY KEY, v INTEGER UNIQUE)");
	sqlite3_close(db);
	sqlite3_shutdown();
	child = fork();
	if (child == 0)
		child_live(&config, ledger, row % 2 == 1);
	while (atomic_load(&ledger->said) < after && waitpid(child, &status, WNOHANG) == 0)
		sched_yield();
	CHECK_INT(kill(child, SIGKILL), ==, 0);
	CHECK_INT(waitpid(child, &status, 0), ==, child);
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	read_the_ledger(f.path, ledger, round);
	munmap(ledger, sizeof *ledger);
}

/* Every acknowledged write is there, and none that was reported as failed. PP_KILLS: how often, 20
 * by default; PP_SEED: when. */
TEST_ROWS(kill, loses_nothing_that_was_acknowledged, 4)
{
	const char *kills = getenv("PP_KILLS"), *given = getenv("PP_SEED");
	unsigned n = kills != NULL ? (unsigned)atoi(kills) / 4 : RUNNING_ON_VALGRIND ? 1 : 5;
	uint64_t seed = given != NULL ? strtoull(given, NULL, 10) : (uint64_t)getpid(), first;

	seed = first = seed * 2654435761u + (uint64_t)row + 1;
	for (unsigned round = 0; round < n; round++)
		kill_one(row, &seed, round);
	CHECK_MSG(first != 0, "no seed");
}
