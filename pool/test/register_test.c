/* Statements by a number: what holds for those of pp_prepare() holds for them. */
/* SPDX-License-Identifier: MIT */
#include "heap.h"

#include "internal.h"

static unsigned registered(struct pp_pool *pool, const char *text)
{
	struct pp_error error = { 0 };
	unsigned id = 0;

	must(pp_statement_register(pool, text, &id, &error), &error);
	return id;
}

static sqlite3_stmt *fetch(struct pp_lease *lease, unsigned id)
{
	struct pp_error error = { 0 };
	sqlite3_stmt *stmt = NULL;

	must(pp_statement(lease, id, &stmt, &error), &error);
	return stmt;
}

static sqlite3_stmt *prepare(struct pp_lease *lease, const char *text)
{
	struct pp_error error = { 0 };
	sqlite3_stmt *stmt = NULL;

	must(pp_prepare(lease, text, &stmt, &error), &error);
	return stmt;
}

TEST(register, numbers_from_one_and_the_same_text_alike)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	struct pp_config config = { .path = f.path, .readers = 1 };
	char text[] = "SELECT ?1";
	struct pp_pool *again;

	CHECK_INT(registered(f.pool, text), ==, 1);
	CHECK_INT(registered(f.pool, "SELECT ?2"), ==, 2);
	text[8] = '3'; /* The pool has a copy. */
	CHECK_INT(registered(f.pool, "SELECT ?1"), ==, 1);
	must(pp_open(&config, &again, NULL), NULL);
	CHECK_INT(registered(again, "SELECT ?2"), ==, 2);
	must(pp_close(again, PP_NO_WAIT, NULL), NULL);
	CHECK_INT(registered(f.pool, "SELECT ?3"), ==, 3);
}

TEST(register, gives_the_statement_of_prepare)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	unsigned id = registered(f.pool, "SELECT ?1"), other = registered(f.pool, "SELECT ?2");
	struct pp_lease lease = { 0 };
	sqlite3_stmt *stmt;

	acquire(f.pool, PP_READ, &lease);
	stmt = fetch(&lease, id);
	CHECK_STR(sqlite3_sql(stmt), "SELECT ?1");
	CHECK(fetch(&lease, id) == stmt);
	CHECK(prepare(&lease, "SELECT ?1") == stmt);
	pp_release(&lease);
	acquire(f.pool, PP_READ, &lease);
	CHECK(fetch(&lease, id) == stmt);
	stmt = prepare(&lease, "SELECT ?2"); /* Prepared before it is asked for by its number. */
	CHECK(fetch(&lease, other) == stmt);
	pp_release(&lease);
	CHECK_INT(stats(f.pool).statement_hits, ==, 4);
	CHECK_INT(stats(f.pool).statement_misses, ==, 2);
	CHECK_INT(stats(f.pool).statements, ==, 2);
	CHECK_INT(stats(f.pool).dirty, ==, 0);
}

/* The tables are made after the registration, and the connections were there before. */
TEST(register, is_for_all_connections_and_from_any_time)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(2);
	struct pp_lease leases[2] = { { 0 }, { 0 } }, w = { 0 };
	unsigned id = registered(f.pool, "SELECT a FROM later");
	struct pp_error error = { 0 };
	sqlite3_stmt *stmt = NULL;

	acquire(f.pool, PP_READ, &leases[0]);
	CHECK_INT(pp_statement(&leases[0], id, &stmt, &error), ==, PP_SQLITE);
	CHECK_STR(error.message, "no such table: later");
	acquire(f.pool, PP_WRITE, &w);
	sql(w.db, "CREATE TABLE later(a); INSERT INTO later VALUES (7)");
	pp_release(&w);
	acquire(f.pool, PP_READ, &leases[1]);
	for (unsigned i = 0; i < 2; i++) {
		stmt = fetch(&leases[i], id);
		CHECK(sqlite3_db_handle(stmt) == leases[i].db);
		CHECK_INT(sqlite3_step(stmt), ==, SQLITE_ROW);
		CHECK_INT(sqlite3_column_int(stmt, 0), ==, 7);
		pp_release(&leases[i]);
	}
	acquire(f.pool, PP_WRITE, &w);
	sql(w.db, "DROP TABLE later; CREATE TABLE later(b, a); INSERT INTO later VALUES (7, 8)");
	pp_release(&w);
	acquire(f.pool, PP_READ, &leases[0]);
	stmt = fetch(&leases[0], id); /* The same: SQLite has prepared it anew. */
	CHECK_INT(sqlite3_step(stmt), ==, SQLITE_ROW);
	CHECK_INT(sqlite3_column_int(stmt, 0), ==, 8);
	pp_release(&leases[0]);
	CHECK_INT(stats(f.pool).statement_misses, ==, 2);
	CHECK_INT(stats(f.pool).retired, ==, 0);
}

TEST(register, comes_reset_and_with_empty_bindings)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	unsigned id = registered(f.pool, "SELECT ?1 IS NULL");
	struct pp_lease lease = { 0 };
	sqlite3_stmt *stmt;

	for (unsigned i = 0; i < 8; i++) {
		if (i % 2 == 0) /* A lease for two. */
			acquire(f.pool, PP_READ, &lease);
		stmt = fetch(&lease, id);
		CHECK_INT(sqlite3_step(stmt), ==, SQLITE_ROW);
		CHECK_INT(sqlite3_column_int(stmt, 0), ==, 1);
		CHECK_INT(sqlite3_step(stmt), ==, SQLITE_DONE);
		if (i / 2 % 2 == 0) /* Else it is left at its end, where nothing can be bound. */
			sqlite3_reset(stmt);
		stmt = fetch(&lease, id);
		CHECK_INT(sqlite3_bind_int(stmt, 1, 5), ==, SQLITE_OK);
		if (i % 2 == 1)
			pp_release(&lease);
	}
	CHECK_INT(stats(f.pool).statement_misses, ==, 1);
}

static void step_to(sqlite3_stmt *stmt, int value)
{
	CHECK_INT(sqlite3_step(stmt), ==, SQLITE_ROW);
	CHECK_INT(sqlite3_column_int(stmt, 0), ==, value);
}

/* Also when the one in the middle was prepared, and its number is asked for the first time. */
TEST_ROWS(register, in_the_middle_of_its_rows_is_left_alone, 2)
{
	static const char text[] = "SELECT 1 UNION SELECT 2";
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	unsigned id = registered(f.pool, text);
	struct pp_lease lease = { 0 };
	sqlite3_stmt *outer, *inner;

	acquire(f.pool, PP_READ, &lease);
	outer = row == 0 ? fetch(&lease, id) : prepare(&lease, text);
	step_to(outer, 1);
	inner = fetch(&lease, id);
	CHECK(inner != outer);
	step_to(inner, 1);
	step_to(outer, 2);
	CHECK_INT(sqlite3_step(outer), ==, SQLITE_DONE);
	CHECK(fetch(&lease, id) == outer);
	pp_release(&lease);
	CHECK_INT(stats(f.pool).statements, ==, 1); /* The second copy went with the lease. */
	acquire(f.pool, PP_READ, &lease);
	CHECK(fetch(&lease, id) == outer);
	pp_release(&lease);
}

/* It is bounded like every other one, and comes back. */
TEST(register, that_was_evicted_is_prepared_again)
{
	CLEANUP(fixture_close)
	struct fixture f = fixture_config((struct pp_config){ .readers = 1, .statements_max = 2 });
	struct pp_lease lease = { 0 };
	unsigned ids[4];
	char text[32];

	for (int i = 0; i < 4; i++) {
		snprintf(text, sizeof text, "SELECT %d", i);
		ids[i] = registered(f.pool, text);
	}
	for (unsigned round = 0; round < 2; round++) {
		acquire(f.pool, PP_READ, &lease);
		for (int i = 0; i < 4; i++)
			step_to(fetch(&lease, ids[i]), i);
		CHECK_INT(stats(f.pool).statements, ==, 4); /* None is taken away while used. */
		pp_release(&lease);
		CHECK_INT(stats(f.pool).statements, ==, 2);
	}
	CHECK_INT(stats(f.pool).statement_hits, ==, 0);
	CHECK_INT(stats(f.pool).statement_misses, ==, 8);
	CHECK_INT(stats(f.pool).statement_evictions, ==, 6);
}

/* Neither is the last one asked for lost in the order of use. */
TEST(register, counts_as_used)
{
	CLEANUP(fixture_close)
	struct fixture f = fixture_config((struct pp_config){ .readers = 1, .statements_max = 2 });
	unsigned first = registered(f.pool, "SELECT 1"), second = registered(f.pool, "SELECT 2");
	struct pp_lease lease = { 0 };

	acquire(f.pool, PP_READ, &lease);
	fetch(&lease, first);
	fetch(&lease, second);
	pp_release(&lease);
	acquire(f.pool, PP_READ, &lease);
	fetch(&lease, first);
	prepare(&lease, "SELECT 3"); /* Puts out the second. */
	pp_release(&lease);
	acquire(f.pool, PP_READ, &lease);
	fetch(&lease, first);
	CHECK_INT(stats(f.pool).statement_misses, ==, 3);
	fetch(&lease, second);
	CHECK_INT(stats(f.pool).statement_misses, ==, 4);
	pp_release(&lease);
}

TEST(register, hides_no_statement_of_others)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	unsigned id = registered(f.pool, "SELECT 1");
	struct pp_lease lease = { 0 };
	sqlite3_stmt *foreign;

	acquire(f.pool, PP_READ, &lease);
	CHECK_INT(sqlite3_prepare_v2(lease.db, "SELECT 2", -1, &foreign, NULL), ==, SQLITE_OK);
	fetch(&lease, id);
	pp_release(&lease);
	sqlite3_finalize(foreign);
	CHECK_INT(stats(f.pool).dirty_statements, ==, 1);
	acquire(f.pool, PP_READ, &lease);
	fetch(&lease, id); /* On the connection that was opened in its place. */
	pp_release(&lease);
	CHECK_INT(stats(f.pool).dirty_statements, ==, 1);
}

TEST(register, shows_what_the_holder_runs)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	unsigned id = registered(f.pool, "SELECT 'by its number'");
	struct pp_connection connections[4];
	struct pp_lease lease = { 0 };
	unsigned n;

	acquire(f.pool, PP_WRITE, &lease);
	for (unsigned i = 0; i < 2; i++) {
		fetch(&lease, id);
		CHECK_INT(pp_connections_read(f.pool, connections, 4, &n), ==, PP_OK);
		CHECK_STR(connections[0].sql, "SELECT 'by its number'");
		prepare(&lease, "SELECT 'between'");
	}
	pp_release(&lease);
}

static const struct {
	const char *sql, *words;
	enum pp_status status;
	int offset;
} bad[] = {
	{ "SELECT * FROM t WHERE nope = 1", "no such column: nope", PP_SQLITE, 22 },
	{ "", "no statement", PP_INVALID, -1 },
	{ "SELECT 1; SELECT 2", "one statement at a time", PP_INVALID, -1 },
};

/* By whoever fetches it, and every time. */
TEST_ROWS(register, of_a_wrong_text_is_found_out, sizeof bad / sizeof *bad)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	unsigned id = registered(f.pool, bad[row].sql);
	struct pp_lease lease = { 0 };
	struct pp_error error = { 0 };
	sqlite3_stmt *stmt = (sqlite3_stmt *)&error;

	acquire(f.pool, PP_READ, &lease);
	for (unsigned i = 0; i < 2; i++) {
		error = (struct pp_error){ 0 };
		CHECK_INT(pp_statement(&lease, id, &stmt, &error), ==, bad[row].status);
		CHECK_CONTAINS(error.message, bad[row].words);
		CHECK_INT(error.sql_offset, ==, bad[row].offset);
		CHECK(stmt == (sqlite3_stmt *)&error);
	}
	pp_release(&lease);
	CHECK_INT(stats(f.pool).statements, ==, 0);
}

TEST(register, knows_no_other_numbers)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	struct pp_lease lease = { 0 };
	struct pp_error error = { 0 };
	sqlite3_stmt *stmt = (sqlite3_stmt *)&error;
	unsigned id = registered(f.pool, "SELECT 1");
	static const unsigned wrong[] = { 0, 2, 3, 17, UINT32_MAX };

	acquire(f.pool, PP_READ, &lease);
	for (unsigned round = 0; round < 2; round++) {
		for (unsigned i = 0; i < sizeof wrong / sizeof *wrong; i++)
			CHECK_INT(pp_statement(&lease, wrong[i], &stmt, &error), ==, PP_MISUSE);
		CHECK_STR(error.message, "4294967295 is no statement of this pool: it has 1..1");
		CHECK(stmt == (sqlite3_stmt *)&error);
		fetch(&lease, id);
	}
	pp_release(&lease);
	CHECK_INT(pp_statement(&lease, id, &stmt, &error), ==, PP_MISUSE);
	CHECK_CONTAINS(error.message, "was released");
}

TEST(register, is_bounded_and_the_pools_memory)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	struct pp_stats before = stats(f.pool);
	struct pp_lease lease = { 0 };
	struct pp_error error = { 0 };
	uint64_t bytes;
	unsigned id = 7;
	char text[32];

	for (unsigned i = 1; i <= PP_STATEMENTS_MAX; i++) {
		snprintf(text, sizeof text, "SELECT %u", i);
		CHECK_INT(registered(f.pool, text), ==, i);
	}
	bytes = stats(f.pool).pool_bytes;
	CHECK_INT(bytes, >, before.pool_bytes + PP_STATEMENTS_MAX * sizeof "SELECT 1");
	CHECK_INT(pp_statement_register(f.pool, "SELECT 'more'", &id, &error), ==, PP_INVALID);
	CHECK_CONTAINS(error.message, "1024 are registered");
	CHECK_INT(id, ==, 7);
	CHECK_INT(registered(f.pool, "SELECT 5"), ==, 5);
	CHECK_INT(stats(f.pool).pool_bytes, ==, bytes);
	CHECK_INT(stats(f.pool).foreign_bytes, ==, before.foreign_bytes);
	acquire(f.pool, PP_READ, &lease);
	for (unsigned i = PP_STATEMENTS_MAX; i > 0; i /= 2) /* In no order of theirs. */
		step_to(fetch(&lease, i), (int)i);
	pp_release(&lease);
	acquire(f.pool, PP_READ, &lease);
	for (unsigned i = 1; i <= PP_STATEMENTS_MAX; i *= 2)
		step_to(fetch(&lease, i), (int)i);
	pp_release(&lease);
	CHECK_INT(stats(f.pool).statement_misses, ==, 11);
	CHECK_INT(stats(f.pool).statement_hits, ==, 11);
	CHECK_INT(stats(f.pool).pool_bytes, ==, bytes);
	CHECK_INT(stats(f.pool).foreign_bytes, ==, before.foreign_bytes);
}

TEST(register, ends_with_the_pool)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	struct pp_config config = { .path = f.path, .readers = 1 };
	struct pp_lease lease = { 0 };
	struct pp_error error = { 0 };
	unsigned id = registered(f.pool, "SELECT 'old'");

	acquire(f.pool, PP_READ, &lease);
	CHECK_INT(pp_close(f.pool, PP_NO_WAIT, NULL), ==, PP_LEASED);
	CHECK_INT(pp_statement_register(f.pool, "SELECT 'new'", &id, &error), ==, PP_CLOSED);
	fetch(&lease, id); /* Who has a lease may go on with it. */
	pp_release(&lease);
	must(pp_close(f.pool, PP_FOREVER, NULL), NULL);
	must(pp_open(&config, &f.pool, NULL), NULL);
	CHECK_INT(registered(f.pool, "SELECT 'new'"), ==, 1);
}

enum { THREADS = 2, TEXTS = 1000 };

struct registrar {
	struct pp_pool *pool;
	atomic_uint *arrived;
	unsigned ids[TEXTS];
};

/* Both come with the same text at the same moment, which they look for and do not sleep until: who
 * is woken comes too late to meet the other. */
static void *register_all(void *context)
{
	struct registrar *r = context;
	struct pp_lease lease = { 0 };
	char text[32];

	for (unsigned i = 0; i < TEXTS; i++) {
		snprintf(text, sizeof text, "SELECT %u", i);
		atomic_fetch_add(r->arrived, 1);
		WAIT_FOR(atomic_load(r->arrived) >= (i + 1) * THREADS);
		r->ids[i] = registered(r->pool, text);
	}
	acquire(r->pool, PP_READ, &lease);
	for (unsigned i = 0; i < TEXTS; i++) {
		sqlite3_stmt *stmt = fetch(&lease, r->ids[i]);

		step_to(stmt, (int)i);
		sqlite3_reset(stmt);
	}
	pp_release(&lease);
	return NULL;
}

TEST(register, by_many_threads_gives_one_number_a_text)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(2);
	static struct registrar registrars[THREADS];
	atomic_uint arrived = 0;
	pthread_t threads[THREADS];

	for (unsigned t = 0; t < THREADS; t++) {
		registrars[t] = (struct registrar){ .pool = f.pool, .arrived = &arrived };
		threads[t] = thread_start(register_all, &registrars[t]);
	}
	for (unsigned t = 0; t < THREADS; t++)
		pthread_join(threads[t], NULL);
	for (unsigned t = 0; t < THREADS; t++)
		for (unsigned i = 0; i < TEXTS; i++)
			CHECK_INT(registrars[t].ids[i], ==, i + 1);
}

struct latecomer {
	struct pp_pool *pool;
	atomic_uint refused;
	atomic_bool over;
};

static void *register_late(void *context)
{
	struct latecomer *l = context;
	unsigned id;

	while (!atomic_load(&l->over)) {
		CHECK_INT(pp_statement_register(l->pool, "SELECT 1", &id, NULL), ==, PP_CLOSED);
		atomic_fetch_add(&l->refused, 1);
	}
	return NULL;
}

/* Who comes while the pool closes is refused, and looks at nothing that is being freed. */
TEST(register, while_the_pool_closes_is_refused)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	struct latecomer l = { .pool = f.pool };
	struct pp_closing closing;
	struct pp_lease lease = { 0 };
	char text[32];
	pthread_t thread;

	for (unsigned i = 1; i <= TEXTS; i++) {
		snprintf(text, sizeof text, "SELECT %u", i);
		registered(f.pool, text);
	}
	acquire(f.pool, PP_READ, &lease);
	CHECK_INT(pp_close(f.pool, PP_NO_WAIT, NULL), ==, PP_LEASED);
	thread = thread_start(register_late, &l);
	WAIT_FOR(atomic_load(&l.refused) > 0);
	pp_release(&lease);
	CHECK_INT(pp_close(f.pool, pp_in_ms(60000), &closing), ==, PP_OK);
	f.pool = NULL;
	atomic_store(&l.over, true);
	pthread_join(thread, NULL);
	CHECK_INT(closing.residue_bytes, ==, 0);
}

/* Every allocation fails once: what could not be had is said, and the next call has it. Only the
 * table of numbers is done without. */
TEST(register, without_memory_says_so)
{
	CLEANUP(fixture_close) struct fixture f = { 0 };
	struct pp_lease lease = { 0 };
	struct pp_error error = { 0 };
	enum pp_status status;
	unsigned id = 0, refused = 0;
	sqlite3_stmt *stmt;

	heap_install();
	f = fixture_open(1);
	heap_plan(1, false);
	CHECK_INT(pp_statement_register(f.pool, "SELECT 1", &id, &error), ==, PP_NOMEM);
	heap_plan(0, false);
	CHECK_INT(registered(f.pool, "SELECT 1"), ==, 1);
	for (unsigned n = 1, failed = 1; failed > 0; n++) {
		acquire(f.pool, PP_READ, &lease);
		statements_done(&lease_slot(&lease)->connection.statements); /* It is the first. */
		heap_plan(n, false);
		status = pp_statement(&lease, 1, &stmt, &error);
		failed = heap.failed;
		heap_plan(0, false);
		CHECK_MSG(status == PP_OK || (failed == 1 && status == PP_NOMEM),
		          "allocation %u: %s: %s", n, pp_status_name(status), error.message);
		refused += status != PP_OK;
		step_to(fetch(&lease, 1), 1);
		pp_release(&lease);
	}
	CHECK_INT(refused, >, 3);
}
