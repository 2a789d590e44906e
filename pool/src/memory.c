/*
 * memory.c - SQLite's memory methods with accounts; jemalloc arenas where they are built in.
 *
 * To know before reading: a block is [ what SQLite sees | owner ], the owner in its last eight
 * bytes. A header would make the pointer SQLite keeps an interior one, and memcheck would call
 * live memory "possibly lost". The only lock here, accounts_mutex, guards the states of the
 * table and how much of it was used; no call into SQLite or the allocator's control happens under
 * it. Where there is a limit, bytes are booked before the block is taken; without one that costs a
 * look at a flag.
 */
/* SPDX-License-Identifier: MIT */
#include "memory.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#ifdef PP_JEMALLOC
#include <jemalloc/jemalloc.h>
#endif

enum {
	/* Every pool full (readers, a few spare ones, the writer, the anchor, the pool itself), and
	 * as many again parked. */
	ACCOUNTS_MAX = 2 * PP_POOLS_MAX * (PP_READERS_MAX + 16),
	/* A chunk of a pool's limit: little of it can lie unused, and few are taken. */
	CHUNKS = 1024,
	CHUNK_MIN = 1024,
	CHUNK_MAX = 65536
};

/* Whose refused. */
enum limit { LIMIT_NONE, LIMIT_TRANSACTION, LIMIT_CONNECTION, LIMIT_POOL };

static struct account accounts[ACCOUNTS_MAX];
static unsigned accounts_count; /* What is behind them was never used. */
static struct account foreign;  /* What belongs to no pool. */
static pthread_mutex_t accounts_mutex = PTHREAD_MUTEX_INITIALIZER;
/* The one lock under which SQLite is called: sqlite3_config() only stores pointers. */
static pthread_mutex_t setup_mutex = PTHREAD_MUTEX_INITIALIZER;

static sqlite3_mem_methods base;
static enum pp_accounting accounting = PP_ACCOUNTING_OFF; /* Written once, under setup_mutex. */

_Thread_local struct account *account_current;

enum pp_accounting memory_accounting(void)
{
	return accounting;
}

/* --- Blocks ------------------------------------------------------------------------------ */

enum { OWNER_SIZE = sizeof(struct account *) };

#ifdef PP_JEMALLOC
/* A thread cache may be touched only by whoever holds its connection, which is when the account
 * is current. A block of any other account goes past the caches: put into the wrong one it would
 * come back as another account's. */
static int arena_flags(const struct account *owner)
{
	if (owner == &foreign)
		return 0;
	return MALLOCX_ARENA(owner->arena) |
	       (owner == account_current && owner->parent != NULL ? MALLOCX_TCACHE(owner->tcache)
	                                                          : MALLOCX_TCACHE_NONE);
}

static void *block_malloc(size_t size, struct account *owner)
{
	return mallocx(size, arena_flags(owner));
}

static void *block_realloc(void *block, size_t size, struct account *owner)
{
	return rallocx(block, size, arena_flags(owner));
}

static void block_free(void *block, struct account *owner)
{
	dallocx(block,
	        arena_flags(owner)); /* The arena is the block's own; only the cache counts. */
}

static size_t block_size(void *block)
{
	return sallocx(block, 0);
}

/* What block_size() of such a block will be. */
static size_t size_expected(size_t size)
{
	return nallocx(size, 0);
}
#else
static void *block_malloc(size_t size, struct account *owner)
{
	(void)owner;
	return base.xMalloc((int)size);
}

static void *block_realloc(void *block, size_t size, struct account *owner)
{
	(void)owner;
	return base.xRealloc(block, (int)size);
}

static void block_free(void *block, struct account *owner)
{
	(void)owner;
	base.xFree(block);
}

static size_t block_size(void *block)
{
	return (size_t)base.xSize(block);
}

static size_t size_expected(size_t size)
{
	return size;
}
#endif

static int round_up(int size)
{
	return (size + 7) & ~7;
}

/* The word the owner stands in; memcpy, since the size need not keep it aligned. */
static void *owner_at(void *block, size_t size)
{
	return (char *)block + size - OWNER_SIZE;
}

static struct account *owner_of(void *block, size_t size)
{
	struct account *owner;

	memcpy(&owner, owner_at(block, size), sizeof owner);
	return owner;
}

static uint64_t get(const atomic_uint_least64_t *value)
{
	return atomic_load_explicit(value, memory_order_relaxed);
}

static void add(atomic_uint_least64_t *value, uint64_t bytes)
{
	atomic_fetch_add_explicit(value, bytes, memory_order_relaxed);
}

static void subtract(atomic_uint_least64_t *value, uint64_t bytes)
{
	atomic_fetch_sub_explicit(value, bytes, memory_order_relaxed);
}

static bool is_limited(const struct account *account)
{
	return atomic_load_explicit(&account->limited, memory_order_relaxed);
}

/* Adds where the sum stays within max. */
static bool add_within(atomic_uint_least64_t *value, uint64_t bytes, uint64_t max)
{
	uint64_t sum = get(value);

	do {
		if (bytes > max - sum)
			return false;
	} while (!atomic_compare_exchange_weak_explicit(
		value, &sum, sum + bytes, memory_order_relaxed, memory_order_relaxed));
	return true;
}

/* Of the pool's limit: in chunks or, where that is too much, what is needed. */
static bool grant(struct account *account, uint64_t bytes)
{
	struct account *pool = account->parent;
	uint64_t chunks = (bytes / pool->chunk + 1) * pool->chunk;

	if (!add_within(&pool->given, chunks, pool->bytes_max)) {
		if (!add_within(&pool->given, bytes, pool->bytes_max))
			return false;
		chunks = bytes;
	}
	add(&account->granted, chunks);
	return true;
}

/* By compare-and-swap and not by adding first: nobody ever reads a sum past its limit. */
static enum limit book_connection(struct account *account, uint64_t bytes)
{
	uint64_t sum = get(&account->bytes), granted;

	do {
		if (sum + bytes > get(&account->bound))
			return get(&account->bound) < account->bytes_max ? LIMIT_TRANSACTION
			                                                 : LIMIT_CONNECTION;
		granted = get(&account->granted);
		if (sum + bytes > granted && !grant(account, sum + bytes - granted))
			return LIMIT_POOL;
	} while (!atomic_compare_exchange_weak_explicit(
		&account->bytes, &sum, sum + bytes, memory_order_relaxed, memory_order_relaxed));
	return LIMIT_NONE;
}

/* A pool's own: any thread opens files at any time, so nothing is taken ahead. */
static enum limit book_pool(struct account *account, uint64_t bytes)
{
	if (!add_within(&account->given, bytes, account->bytes_max))
		return LIMIT_POOL;
	add(&account->bytes, bytes);
	return LIMIT_NONE;
}

/* Bytes of an account with limits; false, and it is noted, where one refuses. */
static bool book(struct account *account, uint64_t bytes)
{
	struct account *pool = account->parent != NULL ? account->parent : account;
	enum limit refused =
		pool == account ? book_pool(account, bytes) : book_connection(account, bytes);

	if (refused == LIMIT_NONE)
		return true;
	add(&pool->refusals, 1);
	atomic_store_explicit(&account->refused_bytes, bytes, memory_order_relaxed);
	atomic_store_explicit(&account->refused_by, refused, memory_order_relaxed);
	return false;
}

/* By the allocator's word, after it has given or moved a block; bytes may be "negative". */
static void book_more(struct account *account, uint64_t bytes)
{
	if (bytes == 0)
		return;
	if (is_limited(account) && account->parent == NULL)
		add(&account->given, bytes);
	add(&account->bytes, bytes);
}

static void unbook(struct account *account, uint64_t bytes)
{
	if (is_limited(account) && account->parent == NULL)
		subtract(&account->given, bytes);
	/* Last, and before whoever reads 0: the account may then be used again. */
	atomic_fetch_sub_explicit(&account->bytes, bytes, memory_order_release);
}

void *memory_malloc(int size)
{
	struct account *owner = account_current != NULL ? account_current : &foreign;
	size_t wanted = (size_t)round_up(size) + OWNER_SIZE, given;
	uint64_t booked = 0;
	void *block;

	if (is_limited(owner)) {
		booked = size_expected(wanted);
		if (!book(owner, booked))
			return NULL;
	}
	block = block_malloc(wanted, owner);
	if (block == NULL) {
		unbook(owner, booked);
		return NULL;
	}
	given = block_size(block);
	memcpy(owner_at(block, given), &owner, sizeof owner);
	book_more(owner, given - booked);
	return block;
}

void memory_free(void *block)
{
	size_t size = block_size(block); /* SQLite never hands NULL on. */
	struct account *owner = owner_of(block, size);

	/* First the block, then the bytes: an account whose bytes are 0 holds no block. */
	block_free(block, owner);
	unbook(owner, size);
}

static void *memory_realloc(void *block, int size)
{
	size_t before = block_size(block), after;
	struct account *owner = owner_of(block, before);
	size_t wanted = (size_t)round_up(size) + OWNER_SIZE;
	uint64_t expected = is_limited(owner) ? size_expected(wanted) : 0;
	uint64_t booked = expected > before ? expected - before : 0;
	void *moved;

	if (booked > 0 && !book(owner, booked))
		return NULL;
	moved = block_realloc(block, wanted, owner);
	if (moved == NULL) {
		unbook(owner, booked);
		return NULL;
	}
	after = block_size(moved);
	memcpy(owner_at(moved, after), &owner, sizeof owner);
	book_more(owner, after - before - booked);
	return moved;
}

static int memory_size(void *block)
{
	return (int)(block_size(block) - OWNER_SIZE);
}

static int memory_init(void *context)
{
	return base.xInit(context);
}

static void memory_shutdown(void *context)
{
	base.xShutdown(context);
}

/* --- Accounts ---------------------------------------------------------------------------- */

#ifdef PP_JEMALLOC
static bool arena_make(struct account *account)
{
	size_t size = sizeof(unsigned);

	if (!account->has_arena)
		account->has_arena = mallctl("arenas.create", &account->arena, &size, NULL, 0) == 0;
	if (account->has_arena && !account->has_tcache)
		account->has_tcache =
			mallctl("tcache.create", &account->tcache, &size, NULL, 0) == 0;
	return account->has_arena && account->has_tcache;
}

static uint64_t arena_stat(unsigned arena, const char *what)
{
	char name[64];
	size_t value = 0, size = sizeof value;

	snprintf(name, sizeof name, "stats.arenas.%u.%s.allocated", arena, what);
	return mallctl(name, &value, &size, NULL, 0) == 0 ? value : 0;
}

uint64_t account_arena_bytes(struct account *account)
{
	uint64_t epoch = 1;

	mallctl("tcache.flush", NULL, NULL, &account->tcache, sizeof account->tcache);
	mallctl("epoch", NULL, NULL, &epoch, sizeof epoch);
	return arena_stat(account->arena, "small") + arena_stat(account->arena, "large");
}
#endif

static void set(atomic_uint_least64_t *value, uint64_t bytes)
{
	atomic_store_explicit(value, bytes, memory_order_relaxed);
}

/* None but the pool's, where that has one. */
static void limits_init(struct account *account)
{
	bool has_pool = account->parent != NULL && is_limited(account->parent);

	account->bytes_max = account->transaction_max = UINT64_MAX;
	set(&account->bound, UINT64_MAX);
	set(&account->granted, has_pool ? 0 : UINT64_MAX);
	set(&account->given, 0);
	set(&account->refusals, 0);
	atomic_store_explicit(&account->refused_by, LIMIT_NONE, memory_order_relaxed);
	atomic_store_explicit(&account->limited, has_pool, memory_order_relaxed);
}

/* A parked account is free again once the last of its bytes is. */
static struct account *account_claim(struct account *parent)
{
	struct account *found = NULL;

	pthread_mutex_lock(&accounts_mutex);
	for (unsigned i = 0; i < ACCOUNTS_MAX && found == NULL; i++)
		if (accounts[i].state == ACCOUNT_FREE ||
		    (accounts[i].state == ACCOUNT_PARKED && account_bytes(&accounts[i]) == 0))
			found = &accounts[i];
	if (found != NULL) {
		if (found >= accounts + accounts_count)
			accounts_count = (unsigned)(found - accounts) + 1;
		found->state = ACCOUNT_OPEN;
		found->parent = parent;
		limits_init(found);
	}
	pthread_mutex_unlock(&accounts_mutex);
	return found;
}

static void account_state_set(struct account *account, int state)
{
	pthread_mutex_lock(&accounts_mutex);
	account->state = state;
	pthread_mutex_unlock(&accounts_mutex);
}

struct account *account_open(struct account *parent)
{
	struct account *account;

	if (accounting == PP_ACCOUNTING_OFF)
		return NULL;
	account = account_claim(parent);
#ifdef PP_JEMALLOC
	if (account != NULL && !arena_make(account)) {
		account_state_set(account, ACCOUNT_FREE);
		return NULL;
	}
#endif
	return account;
}

/* All but what is to be kept. */
static void grant_return(struct account *account, uint64_t kept)
{
	uint64_t granted = get(&account->granted);

	if (granted == UINT64_MAX || granted <= kept)
		return;
	subtract(&account->granted, granted - kept);
	subtract(&account->parent->given, granted - kept);
}

uint64_t account_close(struct account *account)
{
	if (account == NULL)
		return 0;
	uint64_t bytes = account_bytes(account);

	grant_return(account, 0);
	set(&account->granted, UINT64_MAX); /* Of what lives on its pool knows nothing more. */
#ifdef PP_JEMALLOC
	/* The counter and the arena must both say zero. */
	uint64_t arena = account_arena_bytes(account);

	if (arena > bytes)
		bytes = arena;
#endif
	account_state_set(account, bytes == 0 ? ACCOUNT_FREE : ACCOUNT_PARKED);
	return bytes;
}

uint64_t account_bytes(const struct account *account)
{
	return account == NULL ? 0 : atomic_load_explicit(&account->bytes, memory_order_acquire);
}

void accounts_parked(uint64_t *ret_count, uint64_t *ret_bytes)
{
	*ret_count = *ret_bytes = 0;
	pthread_mutex_lock(&accounts_mutex);
	for (unsigned i = 0; i < accounts_count; i++)
		if (accounts[i].state == ACCOUNT_PARKED && account_bytes(&accounts[i]) != 0) {
			*ret_count += 1;
			*ret_bytes += account_bytes(&accounts[i]);
		}
	pthread_mutex_unlock(&accounts_mutex);
}

uint64_t accounts_foreign_bytes(void)
{
	return account_bytes(&foreign);
}

/* Its threads are not in the child; what they held would stay locked. */
void memory_after_fork(void)
{
	pthread_mutex_init(&accounts_mutex, NULL);
	pthread_mutex_init(&setup_mutex, NULL);
}

/* --- Limits ------------------------------------------------------------------------------ */

void account_limit_set(struct account *account, uint64_t bytes_max)
{
	uint64_t chunk = bytes_max / CHUNKS;

	if (account == NULL || bytes_max == 0)
		return;
	account->bytes_max = bytes_max;
	account->chunk = chunk < CHUNK_MIN ? CHUNK_MIN : chunk > CHUNK_MAX ? CHUNK_MAX : chunk;
	set(&account->bound, bytes_max);
	atomic_store_explicit(&account->limited, true, memory_order_relaxed);
}

/* Of the account itself, and of a transaction on it. */
static void bound_set(struct account *account, uint64_t transaction)
{
	uint64_t bound = transaction < account->bytes_max ? transaction : account->bytes_max;

	set(&account->bound, bound);
	atomic_store_explicit(&account->limited,
	                      bound != UINT64_MAX || get(&account->granted) != UINT64_MAX,
	                      memory_order_relaxed);
}

void account_transaction_begin(struct account *account, uint64_t bytes_max)
{
	uint64_t bytes = account_bytes(account);

	if (account == NULL)
		return;
	atomic_store_explicit(&account->refused_by, LIMIT_NONE, memory_order_relaxed);
	account->transaction_max = bytes_max;
	if (bytes_max != 0)
		bound_set(account, bytes_max < UINT64_MAX - bytes ? bytes + bytes_max : UINT64_MAX);
}

void account_transaction_end(struct account *account)
{
	if (account != NULL)
		bound_set(account, UINT64_MAX);
}

void account_settle(struct account *account)
{
	uint64_t chunk;

	if (account == NULL || get(&account->granted) == UINT64_MAX)
		return;
	chunk = account->parent->chunk;
	grant_return(account, (account_bytes(account) + chunk - 1) / chunk * chunk);
}

struct refusal account_refused(const struct account *account)
{
	static const char *const names[] = { NULL, "transaction", "connection", "pool" };
	const struct account *pool = account != NULL ? account->parent : NULL;
	struct refusal refusal = { 0 };
	enum limit by;

	if (account == NULL)
		return refusal;
	by = atomic_load_explicit(&account->refused_by, memory_order_relaxed);
	/* What SQLite's files take for a connection is booked to the pool itself. */
	if (by == LIMIT_NONE) {
		account = pool;
		by = atomic_load_explicit(&pool->refused_by, memory_order_relaxed);
	}
	refusal.whose = names[by];
	refusal.wanted = get(&account->refused_bytes);
	refusal.bytes_max = by == LIMIT_TRANSACTION  ? account->transaction_max
	                    : by == LIMIT_CONNECTION ? account->bytes_max
	                                             : pool->bytes_max;
	return refusal;
}

uint64_t account_refusals(const struct account *account)
{
	return account == NULL ? 0 : get(&account->refusals);
}

/* --- Set-up ------------------------------------------------------------------------------ */

static const sqlite3_mem_methods methods = {
	.xMalloc = memory_malloc,
	.xFree = memory_free,
	.xRealloc = memory_realloc,
	.xSize = memory_size,
	.xRoundup = round_up,
	.xInit = memory_init,
	.xShutdown = memory_shutdown,
};

/* Once SQLite is initialised the first call is refused, and there are no accounts. */
static enum pp_accounting install(void)
{
	if (sqlite3_config(SQLITE_CONFIG_GETMALLOC, &base) != SQLITE_OK)
		return PP_ACCOUNTING_OFF;
	sqlite3_config(SQLITE_CONFIG_MALLOC, &methods);
	sqlite3_config(SQLITE_CONFIG_MUTEX, &mutex_methods);
	sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
#ifdef PP_JEMALLOC
	return PP_ACCOUNTING_ARENAS;
#else
	return PP_ACCOUNTING_COUNTERS;
#endif
}

enum pp_status pp_setup(unsigned flags)
{
	static bool done;

	if (sqlite3_threadsafe() == 0)
		return PP_MISUSE;
	pthread_mutex_lock(&setup_mutex);
	if (!done && (flags & PP_KEEP_ALLOCATOR) == 0)
		accounting = install();
	done = true;
	pthread_mutex_unlock(&setup_mutex);
	return PP_OK;
}
