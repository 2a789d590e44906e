/* Looking inside: the connections one by one, what this SQLite lacks. */
/* SPDX-License-Identifier: MIT */
#include "upkeep.h"

TEST(connections, are_told_one_by_one)
{
	CLEANUP(fixture_close) struct fixture f = manual((struct pp_config){ .readers = 2 }, NULL);
	struct pp_lease lease = { 0 };
	struct pp_connection c[4];
	sqlite3_stmt *stmt;
	unsigned n = 0;

	acquire(f.pool, PP_READ, &lease);
	must(pp_prepare(&lease, "SELECT 42", &stmt, NULL), NULL);
	clock_travel_ms(5000);
	CHECK_INT(pp_connections_read(f.pool, c, 4, &n), ==, PP_OK);
	CHECK_INT(n, ==, 3);
	CHECK_INT(c[0].lane, ==, PP_WRITE);
	CHECK_INT(c[0].state, ==, PP_CONNECTION_IDLE);
	CHECK_INT(c[0].uses, ==, 1);
	CHECK_INT(c[1].lane, ==, PP_READ);
	CHECK_INT(c[1].state, ==, PP_CONNECTION_LENT);
	CHECK_STR(c[1].sql, "SELECT 42");
	CHECK_INT(c[1].thread, ==, thread_number());
	CHECK_INT(c[1].since_ms, >=, 4990);
	CHECK_INT(c[1].age_ms, >=, 4990);
	CHECK_INT(c[1].bytes, >, 0);
	CHECK_INT(c[2].state, ==, PP_CONNECTION_IDLE);
	CHECK(c[1].id != c[2].id);
	pp_release(&lease);
	CHECK_INT(pp_suspend(f.pool, PP_FOREVER), ==, PP_OK);
	CHECK_INT(pp_connections_read(f.pool, c, 1, &n), ==, PP_OK);
	CHECK_INT(n, ==, 3);
	CHECK_INT(c[0].state, ==, PP_CONNECTION_KEPT);
	CHECK_INT(pp_resume(f.pool), ==, PP_OK);
	acquire(f.pool, PP_WRITE, &lease);
	sql(lease.db, "PRAGMA cache_size=10");
	pp_release(&lease);
	CHECK_INT(pp_connections_read(f.pool, c, 4, &n), ==, PP_OK);
	CHECK_INT(c[0].state, ==, PP_CONNECTION_CLOSED);
	CHECK_STR(c[1].sql, "");
	CHECK_INT(c[1].thread, ==, 0);
}

/* Without CHECK, which takes a lock and writes: the two would go one after the other. */
static void *prepare_many(void *context)
{
	struct worker *w = context;
	struct pp_lease lease = { 0 };

	for (unsigned n = 0; !atomic_load(&w->stop); n++) {
		char text[64];
		sqlite3_stmt *stmt;

		snprintf(text, sizeof text, "SELECT %u", n);
		if (pp_acquire(w->pool, PP_READ, PP_FOREVER, &lease, NULL) == PP_OK &&
		    pp_prepare(&lease, text, &stmt, NULL) == PP_OK)
			atomic_fetch_add(&w->rounds, 1);
		pp_release(&lease);
	}
	return NULL;
}

/* The texts are evicted as fast as they are looked at. */
TEST(connections, can_be_looked_at_while_texts_go)
{
	CLEANUP(fixture_close)
	struct fixture f = fixture_config((struct pp_config){ .readers = 1, .statements_max = 1 });
	struct worker w = { .pool = f.pool };
	pthread_t thread = thread_start(prepare_many, &w);
	unsigned wrong = 0, n;

	while (atomic_load(&w.rounds) < 20000 / slowness()) {
		struct pp_connection c[2] = { 0 };

		pp_connections_read(f.pool, c, 2, &n);
		wrong += c[1].sql[0] != '\0' && strncmp(c[1].sql, "SELECT ", 7) != 0;
	}
	atomic_store(&w.stop, true);
	pthread_join(thread, NULL);
	CHECK_INT(wrong, ==, 0);
}

static void *resize_often(void *context)
{
	struct worker *w = context;

	for (unsigned n = 0; !atomic_load(&w->stop); n++) {
		unsigned readers = n % 2 == 0 ? 1 : 3;

		if (pp_resize(w->pool, readers, readers, NULL) == PP_OK)
			atomic_fetch_add(&w->rounds, 1);
	}
	return NULL;
}

/* And while they go themselves, and their slots are taken again: found by ThreadSanitizer. */
TEST(connections, can_be_looked_at_while_they_come_and_go)
{
	CLEANUP(fixture_close)
	struct fixture f = manual((struct pp_config){ .readers = 3, .readers_min = 3 }, NULL);
	struct worker w = { .pool = f.pool };
	pthread_t thread = thread_start(resize_often, &w);
	unsigned wrong = 0, n;

	while (atomic_load(&w.rounds) < 400 / slowness()) {
		struct pp_connection c[4] = { 0 };

		pp_connections_read(f.pool, c, 4, &n);
		for (unsigned i = 0; i < n && i < 4; i++)
			wrong += c[i].lane != (i == 0 ? PP_WRITE : PP_READ);
	}
	atomic_store(&w.stop, true);
	pthread_join(thread, NULL);
	CHECK_INT(wrong, ==, 0);
}

static int without_progress(const char *option)
{
	return strcmp(option, "OMIT_PROGRESS_CALLBACK") == 0 || strcmp(option, "OMIT_TRACE") == 0;
}

TEST(features, that_are_missing_are_told)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);

	CHECK_STR(stats(f.pool).missing_features, "");
	compileoption_used = without_progress;
	CHECK_CONTAINS(stats(f.pool).missing_features, "cannot be cancelled or interrupted; trace");
	compileoption_used = sqlite3_compileoption_used;
}

static void *read_until_told(void *context)
{
	struct worker *w = context;
	struct pp_connection connections[8];
	unsigned n;

	while (!atomic_load(&w->stop)) {
		CHECK_INT(pp_connections_read(w->pool, connections, 8, &n), ==, PP_OK);
		atomic_fetch_add(&w->rounds, 1);
	}
	return NULL;
}

/* What is read of a slot without holding it does not change any more, or is an atomic. */
TEST(connections, may_be_read_while_slots_come_and_go)
{
	CLEANUP(fixture_close) struct fixture f = manual((struct pp_config){ .readers = 1 }, NULL);
	struct worker w = { .pool = f.pool };
	pthread_t thread = thread_start(read_until_told, &w);

	for (unsigned i = 0; i < 20; i++) {
		unsigned rounds = atomic_load(&w.rounds);

		must(pp_resize(f.pool, 3, 3, NULL), NULL);
		WAIT_FOR(atomic_load(&w.rounds) > rounds + 1);
		must(pp_resize(f.pool, 1, 1, NULL), NULL);
	}
	atomic_store(&w.stop, true);
	pthread_join(thread, NULL);
}
