/*
 * memory.c - SQLite's memory methods with accounts; jemalloc arenas where they are built in.
 *
 * To know before reading: a block is [ what SQLite sees | owner ], the owner in its last eight
 * bytes. A header would make the pointer SQLite keeps an interior one, and memcheck would call
 * live memory "possibly lost". The only lock here, accounts_mutex, guards the states of the
 * table; no call into SQLite or the allocator's control happens under it.
 */
/* SPDX-License-Identifier: MIT */
#include "memory.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#ifdef PP_JEMALLOC
#include <jemalloc/jemalloc.h>
#endif

/* Every pool full, with its own account, and as many again parked. */
enum { ACCOUNTS_MAX = 2 * PP_POOLS_MAX * (PP_READERS_MAX + 2) };

static struct account accounts[ACCOUNTS_MAX];
static struct account foreign; /* What belongs to no pool. */
static pthread_mutex_t accounts_mutex = PTHREAD_MUTEX_INITIALIZER;

static sqlite3_mem_methods base;
static enum pp_accounting accounting = PP_ACCOUNTING_OFF; /* Written once, under setup_mutex. */

static _Thread_local struct account *current __attribute__((tls_model("initial-exec")));

struct account *account_enter(struct account *account)
{
	struct account *before = current;

	current = account;
	return before;
}

struct account *account_current_get(void)
{
	return current;
}

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
	       (owner == current && owner->parent != NULL ? MALLOCX_TCACHE(owner->tcache)
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
#endif

static int round_up(int size)
{
	return (size + 7) & ~7;
}

/* The word the owner stands in; memcpy, since the size need not keep it aligned. */
static void *owner_at(void *block)
{
	return (char *)block + block_size(block) - OWNER_SIZE;
}

static struct account *owner_of(void *block)
{
	struct account *owner;

	memcpy(&owner, owner_at(block), sizeof owner);
	return owner;
}

void *memory_malloc(int size)
{
	struct account *owner = current != NULL ? current : &foreign;
	void *block = block_malloc((size_t)round_up(size) + OWNER_SIZE, owner);

	if (block == NULL)
		return NULL;
	memcpy(owner_at(block), &owner, sizeof owner);
	atomic_fetch_add_explicit(&owner->bytes, block_size(block), memory_order_relaxed);
	return block;
}

void memory_free(void *block)
{
	struct account *owner = owner_of(block); /* SQLite never hands NULL on. */

	/* First the bytes, then the block: an account whose bytes are 0 holds no block. */
	size_t size = block_size(block);
	block_free(block, owner);
	atomic_fetch_sub_explicit(&owner->bytes, size, memory_order_release);
}

static void *memory_realloc(void *block, int size)
{
	struct account *owner = owner_of(block);
	size_t before = block_size(block);
	void *moved = block_realloc(block, (size_t)round_up(size) + OWNER_SIZE, owner);

	if (moved == NULL)
		return NULL;
	memcpy(owner_at(moved), &owner, sizeof owner);
	atomic_fetch_add_explicit(&owner->bytes, block_size(moved) - before, memory_order_relaxed);
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
		found->state = ACCOUNT_OPEN;
		found->parent = parent;
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

uint64_t account_close(struct account *account)
{
	if (account == NULL)
		return 0;
	uint64_t bytes = account_bytes(account);

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
	for (unsigned i = 0; i < ACCOUNTS_MAX; i++)
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
	/* The one lock under which SQLite is called: sqlite3_config() only stores pointers. */
	static pthread_mutex_t setup_mutex = PTHREAD_MUTEX_INITIALIZER;
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
