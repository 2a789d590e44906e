/*
 * internal.h - how a pool is built.
 *
 * A pool is a row in a static table (the registry). Its slots stand in two lanes; a slot holds a
 * connection; a line of waiters stands before the lanes.
 *
 * Locks, in the order they are taken (none is ever taken while a later one is held):
 *     registry_mutex (pool.c)   the table: which file is whose, reference counts, states
 *     line.mutex (line.c)       one line's waiters
 *     accounts_mutex (memory.c) the states of accounts
 * No call into SQLite happens under any of them. Two more, in pp_setup() and vfs_register(), keep
 * the first pp_open() of a process from running twice; SQLite is configured and initialised under
 * them.
 */
/* SPDX-License-Identifier: MIT */
#ifndef POOL_INTERNAL_H
#define POOL_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>
#include <sys/types.h>

#include <poolproof/pool.h>

#include "memory.h"

enum {
	LANES = 2,
	LIMITS = SQLITE_LIMIT_WORKER_THREADS + 1, /* Of sqlite3_limit(), in SQLite 3.40. */
	CACHE_LINE = 64
};

/* --- statement.c: prepared statements of one connection ---------------------------------- */

struct statement {
	sqlite3_stmt *stmt;
	uint64_t hash;
	size_t bytes;
	bool taken; /* By the lease now; is in the taken list. */
	bool spare; /* A second copy of a text; not in a bucket, goes at the release. */
	struct statement *bucket_next;
	struct statement *taken_next;
	struct statement *newer, *older;        /* By creation: mirrors sqlite3_next_stmt(). */
	struct statement *recent, *less_recent; /* By use: what to evict. */
	char sql[];                             /* All of it: sqlite3_sql() leaves the tail out. */
};

struct statements {
	struct statement **buckets;
	unsigned bucket_count; /* A power of two. */
	unsigned count, count_max;
	size_t bytes, bytes_max;
	struct statement *newest;
	struct statement *most_recent, *least_recent;
	struct statement *taken;
	/* Written by the holder, read by pp_stats_read(): relaxed. */
	atomic_uint_least64_t hits, misses, evictions, live, live_bytes;
};

/* --- connection.c: one sqlite3 handle ----------------------------------------------------- */

struct connection {
	sqlite3 *db; /* NULL: not open. */
	struct pp_pool *pool;
	enum pp_lane lane;
	/* Written by the holder; anybody may read it and then the account's bytes: accounts are
	 * in a static table. NULL: not open, or no accounts. */
	struct account *_Atomic account;
	sqlite3_stmt *begin, *commit,
		*rollback; /* Prepared at the opening: needed without memory. */
	struct statements statements;
	int limits[LIMITS]; /* As on_open left them. */

	unsigned depth;              /* Of pp_begin(). */
	bool dead;                   /* The transaction around depth is gone. */
	bool committing;             /* COMMIT now is ours. */
	bool at_work;                /* Lent to the callback of pp_transact(). */
	uint64_t rollbacks;          /* Counted by the rollback hook. */
	uint64_t rollbacks_at_begin; /* When the outermost pp_begin() began. */

	unsigned dirty; /* What the authorizer saw since the opening. */
	bool foreign;   /* A statement that is not ours was met in this lease. */
	bool discard;   /* An error was met after which it is not kept. */
	uint64_t salt;  /* In the names of its savepoints. */
	bool tolerates; /* Statements that are not ours are there, and taken for virtual tables'. */

	uint64_t deadline_ns;   /* No busy wait goes past it. */
	uint64_t busy_until_ns; /* Nor past this. */
};

/* Open the handle of a connection whose pool and lane are set. On failure nothing is left. */
enum pp_status connection_open(struct connection *connection, uint64_t until_ns,
                               struct pp_error *reterr_error);
/* Close; returns true when nothing of it is left. */
bool connection_close(struct connection *connection);
/* Look at what the borrower gave back and mend it. false: it has to be closed. */
bool connection_prove(struct connection *connection);
/* Install the hooks that tell who ends a transaction. */
void connection_watch(struct connection *connection);
/* What a transaction on it begins with: never freed, errors point to it. */
const char *connection_begin_sql(const struct connection *connection);
/* A statement is there that the pool did not prepare, and it is the newest. */
bool connection_has_foreign(const struct connection *connection);

void statements_init(struct statements *statements, unsigned count_max, size_t bytes_max);
void statements_done(struct statements *statements);
/* Reset what the lease took, drop what is over the bounds. */
void statements_give_back(struct statements *statements);
enum pp_status statement_take(struct connection *connection, const char *sql,
                              sqlite3_stmt **ret_stmt, struct pp_error *reterr_error);

/* --- line.c: slots and those who wait for one --------------------------------------------- */

enum slot_state {
	SLOT_EMPTY, /* No connection is open; whoever claims it opens one. */
	SLOT_IDLE,
	SLOT_LEASED,
	SLOT_CLOSED /* Taken out by pp_close(), for good. */
};

struct slot {
	/* Who holds it: claimed by compare-and-swap, given back by a sequentially consistent
	 * exchange (see line.c). Everything else in a slot belongs to whoever holds it. */
	_Alignas(CACHE_LINE) atomic_uint state;
	atomic_uint open;                 /* A connection is there. Relaxed: for statistics. */
	atomic_uint_least64_t generation; /* Odd while lent. Relaxed: read by the holder. */
	atomic_uint_least64_t since_ms;   /* Coarse time of the last lending. Relaxed. */
	atomic_uint_least64_t acquires;   /* Relaxed: written by the holder. */
	struct connection connection;
};

struct waiter {
	pthread_cond_t wake;
	enum pp_lane lane;
	uint64_t since_ns;
	bool signalled;    /* Woken, and has not run yet. */
	struct slot *slot; /* Handed over; NULL until then. */
	struct waiter *next;
};

/* Everything is guarded by mutex but the two atomics. A line lives in the static table and its
 * mutex is never destroyed, so a thread that has just given back its slot may look at the line
 * although the pool has been closed meanwhile. */
struct line {
	pthread_mutex_t mutex;
	/* How many are to be woken by who gives back. seq_cst: one side of the handshake. */
	atomic_uint waiting;
	/* Newcomers may not overtake. Relaxed: it only bounds, it does not exclude. */
	atomic_bool strict;
	struct waiter *head, *tail;
	unsigned count;
	bool closing; /* Nobody enters; the closer waits for drained. */
	pthread_cond_t drained;
	struct lane_counts {
		unsigned waiting;
		uint64_t waits, handovers, timeouts, overloads, wait_ns_total, wait_ns_max;
	} lanes[LANES];
};

struct lane {
	struct slot *slots;
	unsigned count;
	struct line *line; /* Its own, or one for both where the lanes exclude each other. */
};

enum pool_state {
	POOL_UNUSED,
	POOL_OPENING, /* Its file is claimed; connections are being opened. */
	POOL_OPEN,
	POOL_CLOSING,
};

/* What file: two pools never have equal ones. */
struct identity {
	bool memdb;
	dev_t device;
	ino_t inode;
	char name[128]; /* memdb only. */
};

struct counters {
	atomic_uint_least64_t opened, closed, dirty, dirty_transaction, dirty_statements;
	atomic_uint_least64_t dirty_settings, retired, commits, rollbacks, lost, retries;
};

struct pp_pool {
	/* Guarded by registry_mutex: */
	enum pool_state state;
	unsigned references;
	bool being_closed; /* A thread is in pp_close() with it. */
	struct identity identity;

	/* Set while opening, constant until the pool is unused again: */
	struct pp_config config; /* Defaults filled in; path is owned. */
	char *path;
	struct account *_Atomic account; /* Atomic: errors of late-comers read it. */
	struct connection anchor;        /* memdb: never lent, closed last. */
	bool gated;                      /* Readers and the writer exclude each other. */
	bool filled;                     /* From here on gated does not change. */
	struct lane lanes[LANES];

	/* The closer waits on these; they outlive what they serve. */
	struct line lines[LANES];
	struct counters counters; /* Relaxed: sums, they order nothing. */
};

void line_init(struct line *line);
/* The fast way: a slot nobody holds, or NULL. */
struct slot *line_claim(struct pp_pool *pool, enum pp_lane lane);
/* The slow way: stand in the line. */
enum pp_status line_wait(struct pp_pool *pool, enum pp_lane lane, uint64_t deadline_ns,
                         struct slot **ret_slot);
/* Give a slot back, in the state it is in now (empty or idle), and serve the line. */
void line_give_back(struct pp_pool *pool, struct slot *slot, enum slot_state state);
/* Let nobody in, wake everybody, take every slot out; returns how many were still lent when the
 * deadline passed. */
unsigned line_close(struct pp_pool *pool, uint64_t deadline_ns);
unsigned lane_count_in(const struct lane *lane, enum slot_state state);

static inline struct lane *pool_lane(struct pp_pool *pool, enum pp_lane lane)
{
	return &pool->lanes[lane - PP_READ];
}

static inline void count(atomic_uint_least64_t *counter)
{
	atomic_fetch_add_explicit(counter, 1, memory_order_relaxed);
}

/* --- lease.c ------------------------------------------------------------------------------ */

/* The slot of a lease that is good, or NULL. */
struct slot *lease_slot(const struct pp_lease *lease);
enum pp_status lease_acquire(struct pp_pool *pool, enum pp_lane lane, struct pp_deadline deadline,
                             struct pp_lease *ret_lease, struct pp_error *reterr_error);
void lease_release(struct pp_lease *lease);

/* --- transaction.c ------------------------------------------------------------------------ */

/* This thread is inside pp_transact() of this pool. */
bool transaction_is_inside(const struct pp_pool *pool);

/* --- clock.c ------------------------------------------------------------------------------ */

uint64_t clock_ns(void);
uint64_t clock_coarse_ms(void); /* A few milliseconds behind, and a few nanoseconds to read. */
void clock_sleep_ns(uint64_t ns);
uint64_t deadline_ns(const struct pp_pool *pool, struct pp_deadline deadline);
/* Waits on cond until deadline_ns (UINT64_MAX: for ever). */
void clock_wait(pthread_cond_t *cond, pthread_mutex_t *mutex, uint64_t deadline_ns);
void clock_cond_init(pthread_cond_t *cond);

/* --- error.c ------------------------------------------------------------------------------ */

/* Each fills *error, unless it is NULL, and returns status, so that one can return it. */
enum pp_status error_set(struct pp_error *error, enum pp_status status, const char *doing,
                         const char *format, ...) __attribute__((format(printf, 4, 5)));
/* Adds codes to what error_set() has just written. */
enum pp_status error_code(enum pp_status status, struct pp_error *error, int sqlite_code,
                          int system_errno);
/* What SQLite says on db (NULL: only the code); PP_NOMEM or PP_SQLITE. */
enum pp_status error_sqlite(struct pp_error *error, sqlite3 *db, int code, const char *doing,
                            const char *sql);
void error_pool(struct pp_error *error, struct pp_pool *pool);
/* Puts what is in *error behind a new one about to be written there. */
void error_chain(struct pp_error *error, const struct pp_error *cause);

#endif
