/* Limits of accounts by themselves: exact, and nothing of them is lost. */
/* SPDX-License-Identifier: MIT */
#include "heap.h"
#include "internal.h"

enum { KIB = 1024, MIB = 1024 * 1024 };

static void accounts_start(void)
{
	CHECK_INT(pp_setup(0), ==, PP_OK);
	CHECK_INT(sqlite3_initialize(), ==, SQLITE_OK);
}

struct family {
	struct account *pool, *connection[2];
};

static struct family family_open(uint64_t pool_max, uint64_t connection_max)
{
	struct family f;

	accounts_start();
	f.pool = account_open(NULL);
	account_limit_set(f.pool, pool_max);
	for (unsigned i = 0; i < 2; i++) {
		f.connection[i] = account_open(f.pool);
		account_limit_set(f.connection[i], connection_max);
	}
	return f;
}

static void family_close(struct family *f)
{
	for (unsigned i = 0; i < 2; i++)
		CHECK_INT(account_close(f->connection[i]), ==, 0);
	CHECK_INT(account_close(f->pool), ==, 0);
}

static void *take(struct account *account, void *block, uint64_t size)
{
	struct account *before = account_enter(account);

	block = sqlite3_realloc64(block, size);
	account_enter(before);
	return block;
}

struct blocks {
	void *block[4096];
	unsigned count;
};

/* Takes blocks until one is refused. */
static void fill(struct account *account, unsigned size, struct blocks *ret)
{
	ret->count = 0;
	while ((ret->block[ret->count] = take(account, NULL, size)) != NULL) {
		ret->count++;
		CHECK(ret->count < 4096);
	}
}

static void drain(struct blocks *blocks)
{
	while (blocks->count > 0)
		sqlite3_free(blocks->block[--blocks->count]);
}

TEST(account_limit, of_a_connection_is_exact)
{
	CLEANUP(family_close) struct family f = family_open(0, 64 * KIB);
	struct blocks blocks;

	for (unsigned round = 0; round < 3; round++) {
		fill(f.connection[0], 1000, &blocks);
		CHECK_INT(account_bytes(f.connection[0]), <=, 64 * KIB);
		CHECK_INT(account_bytes(f.connection[0]), >, 62 * KIB);
		/* Neighbour and pool have none. */
		sqlite3_free(take(f.pool, NULL, MIB));
		drain(&blocks);
		CHECK_INT(account_bytes(f.connection[0]), ==, 0);
	}
	CHECK(take(f.connection[0], NULL, 64 * KIB) == NULL); /* The owner's word is too much. */
	CHECK_INT(account_refused(f.connection[0]).wanted, >=, 64 * KIB + 8);
	CHECK_INT(account_refused(f.connection[0]).bytes_max, ==, 64 * KIB);
	CHECK_STR(account_refused(f.connection[0]).whose, "connection");
	CHECK(account_refused(f.connection[1]).whose == NULL);
	CHECK_INT(account_refusals(f.pool), ==, 4);
}

TEST(account_limit, holds_for_blocks_that_grow)
{
	CLEANUP(family_close) struct family f = family_open(0, 64 * KIB);
	void *block = take(f.connection[0], NULL, 30 * KIB), *moved;
	uint64_t bytes;

	moved = take(f.connection[0], block, 50 * KIB);
	CHECK(moved != NULL);
	bytes = account_bytes(f.connection[0]);
	CHECK_INT(bytes, >=, 50 * KIB + 8);
	CHECK(take(f.connection[0], moved, 70 * KIB) == NULL);
	CHECK_INT(account_bytes(f.connection[0]), ==, bytes); /* The block is as it was. */
	moved = take(f.connection[0], moved, 10 * KIB);
	CHECK(moved != NULL);
	CHECK_INT(account_bytes(f.connection[0]), <, 20 * KIB);
	sqlite3_free(moved);
}

TEST(account_limit, of_a_pool_is_the_sum_of_all)
{
	CLEANUP(family_close) struct family f = family_open(256 * KIB, 0);
	struct blocks of_pool, first, second;

	for (unsigned round = 0; round < 3; round++) {
		uint64_t sum;

		of_pool.block[0] = take(f.pool, NULL, 60 * KIB);
		of_pool.count = 1;
		second.block[0] = take(f.connection[1], NULL, 60 * KIB);
		second.count = 1;
		fill(f.connection[0], 500, &first);
		sum = account_bytes(f.pool) + account_bytes(f.connection[0]) +
		      account_bytes(f.connection[1]);
		CHECK_INT(sum, <=, 256 * KIB);
		CHECK_INT(sum, >, 252 * KIB);
		CHECK_STR(account_refused(f.connection[0]).whose, "pool");
		CHECK_INT(account_refused(f.connection[0]).bytes_max, ==, 256 * KIB);
		CHECK(take(f.connection[1], NULL, 8 * KIB) == NULL);
		CHECK(take(f.pool, NULL, 8 * KIB) == NULL);
		drain(&second);
		drain(&of_pool);
		/* The pool's own is there at once for others, a connection's from its release on.
		 */
		of_pool.block[of_pool.count++] = take(f.connection[0], NULL, 55 * KIB);
		CHECK(of_pool.block[0] != NULL);
		CHECK(take(f.connection[0], NULL, 55 * KIB) == NULL);
		account_settle(f.connection[1]);
		of_pool.block[of_pool.count++] = take(f.connection[0], NULL, 55 * KIB);
		CHECK(of_pool.block[1] != NULL);
		drain(&of_pool);
		drain(&first);
		account_settle(f.connection[0]);
	}
}

TEST(account_limit, of_a_pool_can_be_used_to_the_last_byte)
{
	CLEANUP(family_close) struct family f = family_open(256 * KIB, 0);
	void *all = take(f.connection[0], NULL, 256 * KIB - sizeof(struct account *));

	CHECK_INT(account_bytes(f.connection[0]), ==, 256 * KIB);
	CHECK(take(f.pool, NULL, 1) == NULL);
	sqlite3_free(all);
}

/* Refused by the system and not by a limit: nothing stays booked. */
TEST(account_limit, counts_nothing_that_the_system_refuses)
{
#ifndef PP_JEMALLOC /* Its arenas take nothing from SQLite's allocator. */
	struct family f;
	void *block;

	heap_install();
	f = family_open(256 * KIB, 0);
	block = take(f.pool, NULL, KIB);
	heap_plan(1, true);
	CHECK(take(f.pool, NULL, KIB) == NULL);
	CHECK(take(f.connection[0], NULL, KIB) == NULL);
	CHECK(take(f.pool, block, 2 * KIB) == NULL);
	heap_plan(0, false);
	sqlite3_free(block);
	CHECK_INT(account_bytes(f.pool), ==, 0);
	CHECK_INT(account_bytes(f.connection[0]), ==, 0);
	CHECK_INT(account_refusals(f.pool), ==, 0);
	account_settle(f.connection[0]);
	CHECK_INT(atomic_load(&f.pool->given), ==, 0);
	family_close(&f);
#endif
}

static const struct {
	const char *what;
	enum pp_status status;
	int code;
	bool refused;
	enum pp_status expected;
} explained[] = {
	{ "out of memory, by a limit", PP_NOMEM, SQLITE_NOMEM, true, PP_NOMEM },
	{ "a file's, by a limit", PP_SQLITE, SQLITE_IOERR_NOMEM, true, PP_NOMEM },
	{ "out of memory", PP_NOMEM, SQLITE_NOMEM, false, PP_NOMEM },
	{ "a file's", PP_SQLITE, SQLITE_IOERR_NOMEM, false, PP_SQLITE },
	{ "something else", PP_SQLITE, SQLITE_BUSY, true, PP_SQLITE },
	{ "success, and the error never written", PP_OK, SQLITE_IOERR_NOMEM, true, PP_OK },
};

TEST_ROWS(account_limit, is_explained_where_it_was_the_cause, sizeof explained / sizeof *explained)
{
	CLEANUP(family_close) struct family f = family_open(0, 64 * KIB);
	struct pp_error error = { .status = explained[row].status,
		                  .error_class = PP_RETRY_TRANSACTION,
		                  .sqlite_code = explained[row].code,
		                  .message = "disk I/O error" };
	bool told = explained[row].refused && explained[row].expected == PP_NOMEM;

	if (explained[row].refused)
		CHECK(take(f.connection[0], NULL, 64 * KIB) == NULL);
	CHECK_INT(memory_explain(explained[row].status, f.connection[0], &error), ==,
	          explained[row].expected);
	CHECK_INT(error.status, ==, explained[row].expected);
	CHECK_INT(error.error_class, ==, told ? PP_FATAL : PP_RETRY_TRANSACTION);
	CHECK((strstr(error.message, "the connection is over its limit of 65536 bytes") != NULL) ==
	      told);
	CHECK_INT(memory_explain(explained[row].status, f.connection[0], NULL), ==,
	          explained[row].status);
}

TEST(account_limit, of_a_pool_counts_its_own_blocks_as_they_change)
{
	CLEANUP(family_close) struct family f = family_open(256 * KIB, 0);
	void *block = take(f.pool, NULL, 200 * KIB);

	CHECK(take(f.connection[0], NULL, 100 * KIB) == NULL);
	block = take(f.pool, block, 20 * KIB);
	CHECK_INT(atomic_load(&f.pool->given), ==, account_bytes(f.pool));
	block = take(f.pool, block, 40 * KIB);
	CHECK_INT(atomic_load(&f.pool->given), ==, account_bytes(f.pool));
	sqlite3_free(take(f.connection[0], NULL, 200 * KIB));
	sqlite3_free(block);
	CHECK_INT(account_bytes(f.pool), ==, 0);
}

TEST(account_limit, of_a_pool_is_free_again_when_a_connection_closes)
{
	CLEANUP(family_close) struct family f = family_open(256 * KIB, 0);
	void *left = take(f.connection[0], NULL, 100 * KIB), *block;

	/* What somebody still holds of it is parked: reported, and not the pool's any more. */
	CHECK(take(f.connection[1], NULL, 200 * KIB) == NULL);
	CHECK_INT(account_close(f.connection[0]), >=, 100 * KIB);
	block = take(f.connection[1], NULL, 200 * KIB);
	CHECK(block != NULL);
	/* A zombie that lives on takes nothing of it. */
	left = take(f.connection[0], left, 300 * KIB);
	CHECK(left != NULL);
	sqlite3_free(left);
	sqlite3_free(block);
	f.connection[0] = account_open(f.pool);
	CHECK(take(f.connection[0], NULL, 300 * KIB) == NULL);
}

TEST(account_limit, of_a_transaction_counts_from_its_begin)
{
	CLEANUP(family_close) struct family f = family_open(0, 256 * KIB);
	struct account *a = f.connection[0];
	void *before = take(a, NULL, 100 * KIB), *inside;

	account_transaction_begin(a, 50 * KIB);
	inside = take(a, NULL, 40 * KIB);
	CHECK(inside != NULL);
	CHECK(account_refused(a).whose == NULL);
	CHECK(take(a, NULL, 20 * KIB) == NULL);
	CHECK_STR(account_refused(a).whose, "transaction");
	CHECK_INT(account_refused(a).bytes_max, ==, 50 * KIB);
	account_transaction_end(a);
	CHECK_STR(account_refused(a).whose, "transaction"); /* Until the next. */
	sqlite3_free(take(a, NULL, 20 * KIB));

	/* The connection's own goes on, and a transaction may be allowed more than there is. */
	account_transaction_begin(a, UINT64_MAX);
	CHECK(account_refused(a).whose == NULL);
	CHECK(take(a, NULL, 200 * KIB) == NULL);
	CHECK_STR(account_refused(a).whose, "connection");
	account_transaction_end(a);
	account_transaction_begin(a, 0);
	sqlite3_free(take(a, NULL, 80 * KIB));
	CHECK(account_refused(a).whose == NULL);
	account_transaction_end(a);
	sqlite3_free(before);
	sqlite3_free(inside);
}

TEST(account_limit, is_none_without_an_account)
{
	account_limit_set(NULL, 1);
	account_transaction_begin(NULL, 1);
	account_transaction_end(NULL);
	account_settle(NULL);
	CHECK(account_refused(NULL).whose == NULL);
	CHECK_INT(account_refusals(NULL), ==, 0);
}

struct crowd {
	struct account *account, *pool;
	pthread_barrier_t *start;
	unsigned refused;
};

/* Takes and gives back, in its own connection and, as files do, in the pool. */
static void *crowd_work(void *context)
{
	struct crowd *c = context;
	void *blocks[64] = { NULL };
	unsigned random = 12345;

	pthread_barrier_wait(c->start);
	for (unsigned i = 0; i < 200000 / slowness(); i++) {
		void *block = take(c->pool, NULL, 8);

		c->refused += block == NULL;
		sqlite3_free(block);
	}
	for (unsigned i = 0; i < 100000 / slowness(); i++) {
		random = random * 1103515245 + 12345;
		void **block = &blocks[(random >> 8) % 64];
		struct account *in = (random >> 20) % 4 == 0 ? c->pool : c->account;

		sqlite3_free(*block);
		*block = take(in, NULL, 1 + (random >> 10) % 20000);
		c->refused += *block == NULL;
		if (i % 512 == 0)
			account_settle(c->account);
	}
	for (unsigned i = 0; i < 64; i++)
		sqlite3_free(blocks[i]);
	return NULL;
}

static void *crowd_watch(void *context)
{
	struct family *f = context;

	for (unsigned i = 0; i < 50000 / slowness(); i++) {
		CHECK_INT(account_bytes(f->connection[0]), <=, 512 * KIB);
		CHECK_INT(account_bytes(f->connection[1]), <=, 512 * KIB);
		CHECK_INT(atomic_load(&f->pool->given), <=, 512 * KIB);
	}
	return NULL;
}

TEST(account_limit, holds_while_threads_take_and_give_back)
{
	CLEANUP(family_close) struct family f = family_open(512 * KIB, 0);
	pthread_barrier_t start;
	struct crowd crowd[2] = { { f.connection[0], f.pool, &start, 0 },
		                  { f.connection[1], f.pool, &start, 0 } };
	pthread_t threads[3];
	void *all;

	pthread_barrier_init(&start, NULL, 2);
	threads[0] = thread_start(crowd_work, &crowd[0]);
	threads[1] = thread_start(crowd_work, &crowd[1]);
	threads[2] = thread_start(crowd_watch, &f);
	for (unsigned i = 0; i < 3; i++)
		pthread_join(threads[i], NULL);
	pthread_barrier_destroy(&start);
	CHECK_INT(crowd[0].refused + crowd[1].refused, >, 0);
	CHECK_INT(account_refusals(f.pool), ==, crowd[0].refused + crowd[1].refused);
	/* Nothing of it is lost: all but chunks can be taken at once. */
	account_settle(f.connection[0]);
	account_settle(f.connection[1]);
	CHECK_INT(atomic_load(&f.pool->given), ==, 0);
	all = take(f.connection[0], NULL, 500 * KIB);
	CHECK(all != NULL);
	sqlite3_free(all);
}
