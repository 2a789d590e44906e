/* Two processes write as fast as they can: no errors, and none of the two starves. */
/* SPDX-License-Identifier: MIT */
#include "turn.h"

#include <sys/mman.h>

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
TEST_ROWS(turn_race, comes_to_both_processes, sizeof journals / sizeof *journals)
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
