/*
 * memory.h - accounts: whose bytes are these?
 *
 * Every block SQLite allocates carries its account in its last eight bytes, so it is credited to
 * where it was taken from, whoever frees it. Which account a new block is booked to is the
 * calling thread's current one: a connection's mutex makes that connection's account current
 * while it is held (mutex.c), the VFS shim the pool's (vfs.c).
 */
/* SPDX-License-Identifier: MIT */
#ifndef POOL_MEMORY_H
#define POOL_MEMORY_H

#include <stdatomic.h>
#include <stdint.h>

#include <poolproof/pool.h>

struct account {
	_Alignas(64) atomic_uint_least64_t bytes; /* Live. Relaxed: a sum, it orders nothing. */
	/* Some limit is to be asked before bytes grows. Relaxed, as are all below: written by who
	 * opens the account or holds its connection, before what it is to limit. */
	atomic_bool limited;
	struct account *parent; /* The pool's account; NULL for a pool's own. */
	enum { ACCOUNT_FREE, ACCOUNT_OPEN, ACCOUNT_PARKED } state; /* Guarded by accounts_mutex. */
	unsigned arena;  /* jemalloc's index; kept when the account is used again. */
	unsigned tcache; /* Explicit thread cache, for whoever holds the connection. */
	bool has_arena, has_tcache;

	/* Limits; UINT64_MAX: none. */
	uint64_t bytes_max;       /* Of the account; a pool's is for its connections too. */
	uint64_t transaction_max; /* What a transaction may take. */
	/* A connection's: bytes goes past neither. bound is what itself and its transaction allow,
	 * granted is what it has taken of its pool's limit, in chunks and ahead. */
	atomic_uint_least64_t bound, granted;
	/* A pool's: given is its own bytes and what its connections have been granted; never past
	 * bytes_max. */
	atomic_uint_least64_t given;
	uint64_t chunk;
	atomic_uint_least64_t refusals; /* A pool's: of its connections too. */
	/* The last refusal since the account was opened or its transaction began. */
	atomic_uint_least64_t refused_bytes;
	atomic_uint refused_by; /* enum limit in memory.c. */
};

enum pp_accounting memory_accounting(void);

/* NULL: out of accounts or of memory, or there is no accounting at all (then errors are not meant:
 * ask memory_accounting()). parent NULL makes a pool's account. */
struct account *account_open(struct account *parent);
/* Returns the bytes still live: 0, and the account can be used again; else it is parked until they
 * are freed. NULL gives 0. */
uint64_t account_close(struct account *account);
uint64_t account_bytes(const struct account *account);
#ifdef PP_JEMALLOC
/* Bytes by jemalloc's own statistics: the second opinion. The caller holds the connection, and
 * nobody else allocates from the account. */
uint64_t account_arena_bytes(struct account *account);
#endif

/*
 * Limits. An allocation that would take an account past one fails, and SQLite says SQLITE_NOMEM.
 * NULL stands for no account, and has no limits.
 *
 * A connection takes of its pool's limit in chunks (1/1024 of it, 1..64 KiB), so the last chunk of
 * each may lie unused while another one is refused. The other way the limits are exact, but for two
 * things: what the system's allocator rounds the last block up by, where it tells (Debian's SQLite
 * does not ask it, jemalloc says so before), and a block that another thread than the holder
 * makes larger (an error message, by sqlite3_realloc()) in the instant of a release. Bytes that a
 * closed connection leaves behind are parked, and no longer its pool's.
 */

/* For a pool or a connection, before anything is booked to it. bytes_max 0: none. */
void account_limit_set(struct account *account, uint64_t bytes_max);
/* By the holder, who may end what he has not begun: between the two the account grows by at most
 * bytes_max. 0: no limit. begin forgets what was refused before. */
void account_transaction_begin(struct account *account, uint64_t bytes_max);
void account_transaction_end(struct account *account);
/* By the holder: what it was granted and does not need goes back to the pool. */
void account_settle(struct account *account);

struct refusal {
	const char *whose;  /* "transaction", "connection" or "pool"; NULL: nothing was refused. */
	uint64_t bytes_max; /* That limit, */
	uint64_t wanted;    /* ... and how many bytes more were wanted. */
};
/* A connection's: the last one since it was opened or account_transaction_begin(); where there is
 * none, the last one that its pool met in opening files, mapping shared memory, storing memdb. */
struct refusal account_refused(const struct account *account);
/* Of a pool, since it was opened. */
uint64_t account_refusals(const struct account *account);

void accounts_parked(uint64_t *ret_count, uint64_t *ret_bytes);
uint64_t accounts_foreign_bytes(void);

/* This thread's current one; NULL: foreign. Inline: SQLite enters a mutex at each of its calls. */
extern _Thread_local struct account *account_current __attribute__((tls_model("initial-exec")));

/* Make an account (or NULL, foreign) this thread's current one; returns the one before. */
static inline struct account *account_enter(struct account *account)
{
	struct account *before = account_current;

	account_current = account;
	return before;
}

/* For mutex.c, which needs memory while SQLite is still initialising. */
void *memory_malloc(int size);
void memory_free(void *block);

/* The next recursive mutex this thread makes belongs to a connection with this account. */
void mutex_bind(struct account *account);
extern const sqlite3_mutex_methods mutex_methods;
/* In a child: what the parent's threads may have held. */
void mutexes_after_fork(void);
void memory_after_fork(void);

#endif
