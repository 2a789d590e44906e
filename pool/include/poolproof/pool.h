/*
 * poolproof/pool.h - a pool of SQLite connections to one database file, for threaded programs.
 *
 *     struct pp_pool *pool;
 *     struct pp_lease lease = { 0 };
 *     sqlite3_stmt *stmt;
 *
 *     pp_open(&(struct pp_config){ .path = "app.db" }, &pool, NULL);
 *     pp_acquire(pool, PP_READ, pp_in_ms(250), &lease, NULL);       // wait up to 250 ms
 *     pp_prepare(&lease, "SELECT name FROM user WHERE id = ?1", &stmt, NULL);
 *     sqlite3_bind_int64(stmt, 1, 42);                              // plain SQLite from here ...
 *     while (sqlite3_step(stmt) == SQLITE_ROW) ...
 *     pp_release(&lease);                                           // ... to here
 *     pp_transact(pool, NULL, transfer, &args, NULL);               // begin, transfer(), commit
 *     pp_close(pool, pp_in_ms(5000), NULL);
 *
 * Threads    A pool may be used from any number of threads at once. A lease belongs to the thread
 *            that acquired it until it is released; its db is never shared between threads.
 * Ownership  The pool owns every sqlite3 handle and every statement of pp_prepare(). Never
 *            sqlite3_close() lease.db, never sqlite3_finalize() a statement of pp_prepare().
 *            What you sqlite3_prepare() yourself you finalize yourself, before the release.
 * Time       Durations are in the unit their name ends with. Deadlines are absolute points of
 *            the monotonic clock: one deadline can be handed through several calls.
 * Memory     The pool allocates by sqlite3_malloc64() only: its own memory in pp_open() and in
 *            opening connections, statements in pp_prepare(). Lending does not allocate. Each
 *            connection has an account of its own, exact to the byte (see pp_setup).
 * Errors     Functions return enum pp_status. A ret_... parameter is written on success only, a
 *            reterr_... parameter on failure only; reterr_error may be NULL. Nothing in a struct
 *            pp_error needs freeing, and filling it in needs no memory. A NULL where none is
 *            allowed, or a lane that is none, is the programmer's error and asserts, in every
 * build.
 *
 * Caveats
 *   - A pool cannot be used in a child after fork(); open one there.
 *   - Do not open() and close() the database file yourself in this process: POSIX then drops the
 *     locks SQLite holds on it. stat() is fine.
 *   - Do not call sqlite3_set_authorizer() on lease.db: the pool's own tells it what to repair.
 *     Functions, collations and sqlite3_db_config() settings that you make on lease.db stay on
 *     that connection (make them in on_open); hooks, handlers and limits are taken back at the
 *     release.
 */
/* SPDX-License-Identifier: MIT */
#ifndef POOLPROOF_POOL_H
#define POOLPROOF_POOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <sqlite3.h>

#ifdef __cplusplus
extern "C" {
#endif

#define PP_API __attribute__((visibility("default")))

enum {
	PP_POOLS_MAX = 64,    /* Pools open at one time in one process. */
	PP_READERS_MAX = 256, /* Connections in the read lane of one pool. */
	PP_CAUSES_MAX = 3     /* Causes kept behind an error. */
};

/* The one list of outcomes: code, and what to tell an operator. */
#define PP_STATUS_LIST(X)                                                      \
	X(PP_OK, "success")                                                    \
	X(PP_TIMEOUT, "no connection became free in time")                     \
	X(PP_OVERLOADED, "the line of waiters is full")                        \
	X(PP_CLOSED, "the pool is closing or closed")                          \
	X(PP_SQLITE, "SQLite refused")                                         \
	X(PP_NOMEM, "out of memory")                                           \
	X(PP_INVALID, "an option or argument is out of its range")             \
	X(PP_MISMATCH, "the file is open already, with other options")         \
	X(PP_MISUSE, "this call is not allowed here")                          \
	X(PP_ROLLED_BACK, "the transaction was rolled back before its commit") \
	X(PP_ABORTED, "the callback asked for a rollback")                     \
	X(PP_LEASED, "connections are still lent")

enum pp_status {
#define X(name, text) name,
	PP_STATUS_LIST(X)
#undef X
};

/* What can be done about an error. */
#define PP_CLASS_LIST(X)                                           \
	X(PP_FATAL, "will fail again")                             \
	X(PP_RETRY_STATEMENT, "run the statement again")           \
	X(PP_RETRY_TRANSACTION, "run the whole transaction again") \
	X(PP_DISCARD_CONNECTION, "this connection is of no more use")

enum pp_class {
#define X(name, text) name,
	PP_CLASS_LIST(X)
#undef X
};

/* Readers can be many and cannot write (query_only); the writer is one. */
enum pp_lane { PP_READ = 1, PP_WRITE = 2 };

/*
 * A point in monotonic time. Zeroed, it stands for the pool's timeout_ms from now.
 */
struct pp_deadline {
	uint64_t ns;
};
#ifdef __cplusplus
#define PP_NO_WAIT (pp_deadline{ 1 })
#define PP_FOREVER (pp_deadline{ UINT64_MAX })
#else
#define PP_NO_WAIT ((struct pp_deadline){ 1 })          /* Now or not at all. */
#define PP_FOREVER ((struct pp_deadline){ UINT64_MAX }) /* Never give up. */
#endif
PP_API struct pp_deadline pp_in_ms(uint64_t timeout_ms);

/* One thing that went wrong on the way. */
struct pp_cause {
	enum pp_status status;
	int sqlite_code;   /* Extended result code; 0 when SQLite was not involved. */
	const char *doing; /* "BEGIN IMMEDIATE", "prepare": never NULL, never freed. */
	char message[160]; /* SQLite's words, or the pool's. */
};

/*
 * What happened, by value: nothing to free, filled in without allocating.
 */
struct pp_error {
	enum pp_status status;
	enum pp_class error_class;
	int sqlite_code;     /* Extended result code; 0 when SQLite was not involved. */
	int system_errno;    /* sqlite3_system_errno() where it says something; else 0. */
	int sql_offset;      /* Byte in sql at which SQLite stopped; -1 when it does not say. */
	const char *doing;   /* What the pool was about: never NULL, never freed. */
	unsigned attempt;    /* Which attempt of a transaction, from 1. */
	uint64_t elapsed_ns; /* Since the call began; 0 where no clock was read. */
	char message[256];   /* One line. */
	char sql[192];       /* The statement's beginning; empty where there is none. */

	/* The pool at that moment. */
	unsigned connections, leased, waiting;
	uint64_t oldest_lease_ms; /* How long the longest holder has had its connection. */
	uint64_t memory_bytes;    /* Live bytes of the pool and its connections; 0: no accounts. */

	/* What came before it: the first failure first. */
	unsigned cause_count;
	struct pp_cause causes[PP_CAUSES_MAX];
};

/* One line for a log: status, what was being done, SQLite's words, the pool's state. Always ends
 * in NUL; returns the length it would have liked, as snprintf does. */
PP_API size_t pp_error_text(const struct pp_error *error, char *text, size_t text_size);
PP_API const char *pp_status_name(enum pp_status status); /* "PP_TIMEOUT" */
PP_API const char *pp_status_text(enum pp_status status); /* "no connection became ..." */
PP_API const char *pp_class_name(enum pp_class error_class);
/* The class of an SQLite result code, extended or not. */
PP_API enum pp_class pp_class_of(int sqlite_code);
PP_API const char *pp_version(void);

/* --- The process ------------------------------------------------------------------------- */

enum { PP_KEEP_ALLOCATOR = 1 };

/*
 * Configure SQLite for the pool: memory methods with accounts, mutexes that know whose memory is
 * being allocated, and no global memory statistics (they are a mutex on every allocation).
 *
 * Called by the first pp_open() with flags 0. A program that opens SQLite connections before
 * that calls it earlier; one that wants to keep its own allocator passes PP_KEEP_ALLOCATOR.
 * When SQLite is initialised already, or the allocator is kept, pools work without accounts and
 * their statistics say so. Later calls change nothing. Any thread.
 * Fails with PP_MISUSE when SQLite was built without threads (THREADSAFE=0).
 */
PP_API enum pp_status pp_setup(unsigned flags);

/* --- A pool ------------------------------------------------------------------------------ */

enum pp_journal {
	PP_JOURNAL_WAL,    /* Write-ahead log: readers and the writer do not meet. */
	PP_JOURNAL_DELETE, /* Rollback journal: readers and the writer take turns. */
	PP_JOURNAL_KEEP    /* Whatever the file says. */
};

enum pp_synchronous {
	PP_SYNCHRONOUS_FULL,  /* A commit that returned survives a power loss. */
	PP_SYNCHRONOUS_NORMAL /* WAL: survives a crash of the process, not always a power loss. */
};

/* Zero means "the default named here" for every field but path. */
struct pp_config {
	const char *path;         /* Database file, or "file:/NAME?vfs=memdb". Copied. */
	bool must_exist;          /* Fail when the file is missing, in place of creating it. */
	unsigned readers;         /* Connections for reading, 1..256. Default 4. */
	unsigned timeout_ms;      /* What a zeroed deadline means, 1..86400000. Default 5000. */
	unsigned busy_timeout_ms; /* How long to wait for other processes' locks, per lock,
	                           * 1..86400000. Default 5000. Never past a transaction's deadline.
	                           */
	unsigned
		line_max; /* Waiters per lane, 1..65536; one more is PP_OVERLOADED. Default 1024. */
	unsigned overtake_ms;    /* How long newcomers may overtake the head of the line, 1..60000.
	                          * Default 10. See pp_acquire(). */
	enum pp_journal journal; /* Default PP_JOURNAL_WAL. memdb has none. */
	enum pp_synchronous synchronous; /* Default PP_SYNCHRONOUS_FULL. */
	unsigned statements_max;     /* Cached statements per connection, 1..10000. Default 100. */
	size_t statements_bytes_max; /* ... and their bytes, 4 KiB..1 GiB. Default 1 MiB. */
	/* Called first on every connection that is opened, before anybody borrows it: for keys,
	 * pragmas, functions and collations. Returns SQLITE_OK, or the code with which opening
	 * fails. May be called from any thread; what it sets is what a clean connection looks like,
	 * but for hooks, handlers and the authorizer, which are the pool's. */
	int (*on_open)(sqlite3 *db, void *context);
	void *on_open_context;
};

struct pp_pool;

/*
 * Open a pool on a file; its connections are opened at once. The same file (device and inode, not
 * the same string) gives the same pool again, counted: each pp_open() wants a pp_close().
 *
 * Fails with PP_INVALID (the message names the option, its value and range), PP_MISMATCH (the
 * file is open already; names the options that differ), PP_CLOSED (its pool is still closing),
 * PP_SQLITE (cannot open, not a database, ...), PP_NOMEM, PP_MISUSE (see pp_setup).
 */
PP_API enum pp_status pp_open(const struct pp_config *config, struct pp_pool **ret_pool,
                              struct pp_error *reterr_error);

/* What was left when a pool closed. */
struct pp_closing {
	unsigned leased; /* Connections still lent: not closed, not freed. */
	unsigned parked; /* Connections with memory or statements that somebody still holds. */
	uint64_t
		residue_bytes; /* Bytes still booked to the pool and its connections. 0 is clean. */
};

/*
 * Take back one pp_open(). The last one lets nobody in, wakes the waiters with PP_CLOSED, waits
 * until the deadline for what is lent, and closes. It never frees what somebody holds.
 *
 * NULL is a no-op. Fails with PP_LEASED when the deadline passes first: the pool stays closed to
 * newcomers, holders may still release, and pp_close() is to be called again. Fails with PP_CLOSED
 * while another thread is closing it. Once it has returned PP_OK the pool must not be used.
 * ret_closing may be NULL; it is written on success and with PP_LEASED.
 */
PP_API enum pp_status pp_close(struct pp_pool *pool, struct pp_deadline deadline,
                               struct pp_closing *ret_closing);

/* --- Leases ------------------------------------------------------------------------------ */

/* A borrowed connection. Zeroed, it is empty; releasing an empty one is a no-op. Do not copy. */
struct pp_lease {
	sqlite3 *db;
	struct pp_pool *pool;
	void *slot;          /* The pool's. */
	uint64_t generation; /* The pool's: tells a lease that was given back. */
};

/*
 * Borrow a connection of a lane, waiting until deadline for one. It arrives clean: no
 * transaction, no statement running, no temporary table, attached file or changed setting.
 *
 * When all are lent the caller stands in a line. Newcomers may take a connection that comes back
 * before the head of the line does (this keeps throughput up), but only until the head has
 * waited overtake_ms; from then on each connection given back goes to the head directly.
 * With a rollback journal or memdb, readers and the writer also wait for each other.
 * Fails with PP_TIMEOUT, PP_OVERLOADED, PP_CLOSED, PP_MISUSE (inside pp_transact() of the same
 * pool), and with PP_SQLITE or PP_NOMEM when a connection had to be opened anew and could not.
 */
PP_API enum pp_status pp_acquire(struct pp_pool *pool, enum pp_lane lane,
                                 struct pp_deadline deadline, struct pp_lease *ret_lease,
                                 struct pp_error *reterr_error);

/*
 * Give a connection back and empty the lease. What the borrower left is mended before the next
 * one gets it: an open transaction is rolled back, statements are reset, hooks, handlers and
 * limits are taken back; a connection with temporary objects, attached files, changed pragmas or
 * statements that somebody else prepared is closed and opened anew.
 *
 * Never waits for another borrower. Fails with PP_MISUSE when the lease was released already, or
 * is the one that pp_transact() handed to its callback; nothing happens then.
 */
PP_API enum pp_status pp_release(struct pp_lease *lease);

/*
 * A statement for this SQL text, from the connection's cache or prepared now: reset, its bindings
 * empty. It is the caller's until the release (which resets it) or until the same text is asked
 * for again: while a statement is in the middle of its rows, asking again gives another one.
 *
 * Fails with PP_SQLITE (error.sql_offset says where), PP_INVALID (no statement in the text, or
 * more than one), PP_NOMEM, PP_MISUSE.
 */
PP_API enum pp_status pp_prepare(struct pp_lease *lease, const char *sql, sqlite3_stmt **ret_stmt,
                                 struct pp_error *reterr_error);

/* --- Transactions ------------------------------------------------------------------------ */

/*
 * Begin; inside a transaction of pp_begin(), nest (a savepoint). On a writer it is BEGIN
 * IMMEDIATE. Inside, the pool refuses every COMMIT of writes that is not its own, by the commit and
 * the rollback hook: these two are the pool's until the transaction is over.
 *
 * Fails with PP_SQLITE, PP_MISUSE, PP_ROLLED_BACK (a transaction around it is dead already).
 */
PP_API enum pp_status pp_begin(struct pp_lease *lease, struct pp_error *reterr_error);
/*
 * Commit what the matching pp_begin() began. When it fails, nothing of it is in the database: it
 * has been rolled back (PP_SQLITE and the reason), or SQLite or somebody's ROLLBACK had done so
 * before (PP_ROLLED_BACK). Either way this level is over. PP_MISUSE: nothing was begun.
 */
PP_API enum pp_status pp_commit(struct pp_lease *lease, struct pp_error *reterr_error);
/* Undo what the matching pp_begin() began. When SQLite has rolled back already, that is success.
 * Fails with PP_MISUSE (nothing was begun), and with PP_SQLITE or PP_NOMEM: the release then closes
 * the connection, which undoes it too. */
PP_API enum pp_status pp_rollback(struct pp_lease *lease, struct pp_error *reterr_error);

/* Zeroed, or NULL in its place: a write, the pool's timeout, ten attempts. */
struct pp_transaction {
	enum pp_lane lane;           /* Default PP_WRITE. */
	struct pp_deadline deadline; /* For everything together: waiting, working, attempts. */
	unsigned attempts_max;       /* 1..1000. Default 10. */
};

/*
 * The work of a transaction. Return PP_OK to commit. Anything else rolls back: PP_SQLITE when
 * SQLite refused (the reason is read from lease->db), PP_ABORTED when you changed your mind.
 *
 * It may be run more than once: on an error of the retry class everything is rolled back and it
 * is called again. Inside, use lease->db, pp_prepare() and pp_begin() on this lease, and no other
 * call on the same pool (PP_MISUSE).
 */
typedef enum pp_status pp_work(struct pp_lease *lease, void *context);

/*
 * Borrow, begin, work, commit, give back. Rolls back on every failure. Runs the whole again on
 * errors of class PP_RETRY_TRANSACTION or PP_RETRY_STATEMENT, with exponential backoff and
 * jitter, never past the deadline.
 *
 * Fails with what acquire, begin and commit fail with, and with what work returned.
 */
PP_API enum pp_status pp_transact(struct pp_pool *pool, const struct pp_transaction *options,
                                  pp_work *work, void *context, struct pp_error *reterr_error);

/* --- Seeing inside ----------------------------------------------------------------------- */

enum pp_accounting {
	PP_ACCOUNTING_OFF,      /* SQLite was initialised before, or the allocator is kept. */
	PP_ACCOUNTING_COUNTERS, /* Byte-exact counters over SQLite's allocator. */
	PP_ACCOUNTING_ARENAS    /* The same, and a jemalloc arena for each account. */
};

struct pp_lane_stats {
	unsigned connections; /* Slots of this lane. */
	unsigned open;        /* ... that hold an open connection. */
	unsigned leased;      /* ... that are lent now. */
	unsigned waiting;     /* Waiters in the line now. */
	uint64_t acquires;    /* Successful, since the pool was opened. All below likewise. */
	uint64_t waits;       /* Acquires that stood in the line, successful or not. */
	uint64_t handovers;   /* ... that were given a connection directly. */
	uint64_t timeouts;
	uint64_t overloads;
	uint64_t wait_ns_total, wait_ns_max; /* Time in the line. */
};

struct pp_stats {
	struct pp_lane_stats read, write;
	bool gated; /* Readers and writer exclude each other (rollback journal, memdb). */

	uint64_t opened, closed;    /* Connections. */
	uint64_t dirty;             /* Releases that had to mend something: */
	uint64_t dirty_transaction; /* ... rolled back an open transaction, */
	uint64_t dirty_statements;  /* ... met statements that the pool had not prepared, */
	uint64_t dirty_settings;    /* ... met temporary objects, ATTACH or pragmas. */
	uint64_t retired;           /* Connections closed because they could not be mended. */

	uint64_t commits, rollbacks; /* Of pp_begin() at the outermost level. */
	uint64_t lost;               /* Transactions that SQLite or the caller ended under us. */
	uint64_t retries;            /* Attempts of pp_transact() after the first. */

	uint64_t statement_hits, statement_misses, statement_evictions;
	uint64_t statements, statement_bytes; /* Cached now, all connections together. */

	enum pp_accounting accounting;
	uint64_t pool_bytes;        /* Live, booked to the pool itself. */
	uint64_t connections_bytes; /* Live, booked to its open connections. */
	uint64_t parked;            /* Accounts of closed connections with bytes still live, */
	uint64_t parked_bytes;      /* ... and those bytes. 0 when nothing leaks. */
	uint64_t foreign_bytes;     /* SQLite memory of this process that belongs to no pool. */
};

/* A snapshot. Counters are each exact; they are not all read at the same instant. Any thread. */
PP_API enum pp_status pp_stats_read(struct pp_pool *pool, struct pp_stats *ret_stats);

/*
 * Recompute the invariants from the slots, the lines and the accounts; idle connections are
 * borrowed for a moment to look at them. Says each mismatch in words, one a line.
 * Returns how many; 0 is well. Any thread, at any time.
 */
PP_API unsigned pp_check(struct pp_pool *pool, char *text, size_t text_size);

#ifdef __cplusplus
}
#endif
#endif
