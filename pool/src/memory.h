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
	struct account *parent;                   /* The pool's account; NULL for a pool's own. */
	enum { ACCOUNT_FREE, ACCOUNT_OPEN, ACCOUNT_PARKED } state; /* Guarded by accounts_mutex. */
	unsigned arena;  /* jemalloc's index; kept when the account is used again. */
	unsigned tcache; /* Explicit thread cache, for whoever holds the connection. */
	bool has_arena, has_tcache;
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
void accounts_parked(uint64_t *ret_count, uint64_t *ret_bytes);
uint64_t accounts_foreign_bytes(void);

/* Make an account (or NULL, foreign) this thread's current one; returns the one before. */
struct account *account_enter(struct account *account);
struct account *account_current_get(void);

/* For mutex.c, which needs memory while SQLite is still initialising. */
void *memory_malloc(int size);
void memory_free(void *block);

/* The next recursive mutex this thread makes belongs to a connection with this account. */
void mutex_bind(struct account *account);
extern const sqlite3_mutex_methods mutex_methods;

#endif
