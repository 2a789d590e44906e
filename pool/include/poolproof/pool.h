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
 *     pp_read(pool, NULL, report, &args, NULL);                     // report() on one snapshot
 *     pp_write(pool, NULL, transfer, &args, NULL, NULL);            // the same, commits are shared
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
 *            build.
 *
 * Caveats
 *   - A pool cannot be used in a child after fork(): every call says PP_FORKED, and SQLite is not
 *     touched. Nor can the child open that file (SQLite's own tables say that the child has locks
 *     which it has not); other files it can.
 *   - Do not open() and close() the database file yourself in this process: POSIX then drops the
 *     locks SQLite holds on it. stat() is fine.
 *   - Do not call sqlite3_set_authorizer() or sqlite3_progress_handler() on lease.db: the pool's
 *     own tell it what to repair and when to stop. pp_authorizer_set(), pp_progress_set() chain.
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
	PP_POOLS_MAX = 64,        /* Pools open at one time in one process. */
	PP_READERS_MAX = 256,     /* Connections in the read lane of one pool. */
	PP_STATEMENTS_MAX = 1024, /* Statements registered with one pool. */
	PP_CAUSES_MAX = 3         /* Causes kept behind an error. */
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
	X(PP_LEASED, "connections are still lent")                             \
	X(PP_WOULD_DEADLOCK, "this thread holds what it would wait for")       \
	X(PP_CANCELLED, "cancelled by its token")                              \
	X(PP_FORKED, "this pool belongs to the process before fork()")         \
	X(PP_FILE_CHANGED, "the database file is not what it was")

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

/*
 * Readers can be many and cannot write (query_only); the writer is one. An exclusive lease is the
 * writer with every other connection of the pool closed: for VACUUM, migrations, a journal mode.
 */
enum pp_lane { PP_READ = 1, PP_WRITE = 2, PP_EXCLUSIVE = 3 };

/* By which any thread stops what another one does. Zeroed, it is
 * good; it is the caller's and must outlive what it was handed to. The field is the pool's. */
struct pp_token {
	unsigned cancelled;
};

/*
 * A point in monotonic time. Zeroed, it stands for the pool's timeout_ms from now. With a token
 * what it is handed to also ends with PP_CANCELLED when the token is cancelled.
 */
struct pp_deadline {
	uint64_t ns;
	struct pp_token *token; /* NULL: none. */
};
#ifdef __cplusplus
#define PP_NO_WAIT (pp_deadline{ 1, nullptr })
#define PP_FOREVER (pp_deadline{ UINT64_MAX, nullptr })
#else
#define PP_NO_WAIT ((struct pp_deadline){ 1, NULL })          /* Now or not at all. */
#define PP_FOREVER ((struct pp_deadline){ UINT64_MAX, NULL }) /* Never give up. */
#endif
PP_API struct pp_deadline pp_in_ms(uint64_t timeout_ms);
PP_API struct pp_deadline pp_with_token(struct pp_deadline deadline, struct pp_token *token);

/*
 * Cancel: who waits with this token (in the line, for a connection to be opened, between two
 * attempts) stops waiting, and what runs on a lease that was acquired with
 * it, or in a pp_transact() or pp_write() with it, stops within a thousand steps of SQLite's
 * virtual machine (SQLITE_INTERRUPT). Nobody else's query is ever hit: the connection asks its own
 * lease's token. A commit that has begun is not taken back. Any thread; not from a signal handler.
 * Stays cancelled; zero the token to use it again, once nothing uses it.
 */
PP_API void pp_cancel(struct pp_token *token);

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
	PP_SYNCHRONOUS_FULL,  /* A commit that returned survives a power loss. (With a rollback
	                       * journal that takes SQLite's EXTRA, and it is what is set.) */
	PP_SYNCHRONOUS_NORMAL /* WAL: survives a crash of the process, not always a power loss. */
};

/* Seen at the next begin of a write and the next check: the file at path was deleted, replaced by
 * another, cut short, or lost its permission to be written. */
enum pp_file_change {
	PP_FILE_TRIP,  /* Every call fails with PP_FILE_CHANGED until pp_reopen(). */
	PP_FILE_REOPEN /* The pool opens anew what is at path now; a missing file is not made. */
};

enum pp_health {
	PP_HEALTH_FILE,    /* Reads the schema's version from the file, and looks at the file. */
	PP_HEALTH_SELECT_1 /* SELECT 1: touches no file, and succeeds on a deleted database. */
};

enum pp_keeper {
	PP_KEEPER_THREAD, /* The pool has a thread for its duties. */
	PP_KEEPER_MANUAL  /* The program calls pp_keep() now and then. */
};

/* For durations: no limit. */
#define PP_NEVER UINT32_MAX

struct pp_event;

/* Zero means "the default named here" for every field but path. Fields with _ms that say so take
 * PP_NEVER. */
struct pp_config {
	const char *path;         /* Database file, or "file:/NAME?vfs=memdb". Copied. */
	bool must_exist;          /* Fail when the file is missing, in place of creating it. */
	unsigned readers;         /* Most connections for reading, 1..256. Default 4. */
	unsigned readers_min;     /* ... that stay open when idle, 1..readers. Default readers. */
	unsigned grow_ms;         /* One more is opened when one has waited so long, 1..60000.
	                           * Default 5. */
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
	/* Chained behind the pool's own on every connection (sqlite3_set_authorizer() and
	 * sqlite3_progress_handler() in on_open or on a lease would replace the pool's). progress
	 * is called about every thousand steps of the virtual machine. */
	int (*authorizer)(void *context, int action, const char *first, const char *second,
	                  const char *database, const char *trigger);
	int (*progress)(void *context);
	void *authorizer_context, *progress_context;

	/* Upkeep; see pp_keep(). */
	enum pp_keeper keeper; /* Default PP_KEEPER_THREAD. */
	unsigned idle_ms;      /* Readers above readers_min that nobody borrowed for so long are
	                        * closed, 1..PP_NEVER. Default 300000. */
	unsigned age_ms;       /* A connection is renewed at this age, less up to a tenth so
	                        * that not all are at once, 1..PP_NEVER. Default 3600000. */
	unsigned health_ms;    /* Between checks of idle connections and of the file,
	                        * 1..PP_NEVER. Default 30000. */
	enum pp_health health; /* Default PP_HEALTH_FILE. */
	enum pp_file_change on_file_change; /* Default PP_FILE_TRIP. */
	unsigned lease_warn_ms;    /* A lease so old, since upkeep first met it, is reported,
	                            * 1..PP_NEVER. Default 60000. */
	unsigned lease_max_ms;     /* What runs on a lease so old is interrupted, and when it is not
	                            * back lease_grace_ms later another connection takes its place,
	                            * 1..PP_NEVER. Default PP_NEVER. */
	unsigned lease_grace_ms;   /* 1..86400000. Default 1000. */
	bool backtraces;           /* Keep where each lease was acquired (about 1 us each). */
	size_t wal_bytes_max;      /* The WAL is kept below it, 64 KiB..1 TiB. Default 64 MiB. */
	unsigned reader_max_ms;    /* With the WAL past its bound, a reader whose snapshot is this
	                            * old is interrupted, 1..PP_NEVER. Default PP_NEVER: it is only
	                            * reported. */
	unsigned shed_ms;          /* Overload: when all have waited longer than this for
	                            * shed_interval_ms, the head of the line is refused with
	                            * PP_OVERLOADED, more and more often (CoDel), 1..PP_NEVER.
	                            * Default PP_NEVER. */
	unsigned shed_interval_ms; /* 1..60000. Default 100. */

	/* Bytes; they need accounts (see pp_setup), else pp_open() fails. 0: no limit. */
	size_t connection_bytes_max; /* A connection that wants more gets SQLITE_NOMEM. At least
	                              * 64 KiB. */
	size_t pool_bytes_soft;      /* Past it no connection is added and idle ones shrink. */
	size_t pool_bytes_max;       /* Past it whoever wants more gets SQLITE_NOMEM. At least
	                              * 256 KiB. */

	/* Told of what happens; see struct pp_event. */
	void (*on_event)(const struct pp_event *event, void *context);
	void *on_event_context;
};

struct pp_pool;

/*
 * Open a pool on a file; its connections are opened at once. The same file (device and inode, not
 * the same string) gives the same pool again, counted: each pp_open() wants a pp_close().
 *
 * Fails with PP_INVALID (the message names the option, its value and range), PP_MISMATCH (the
 * file is open already; names the options that differ), PP_CLOSED (its pool is still closing),
 * PP_SQLITE (cannot open, not a database, ...), PP_NOMEM, PP_MISUSE (see pp_setup), PP_FORKED (the
 * file was open in this process' parent), PP_FILE_CHANGED (a pool is open on the file that was at
 * this path before).
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
 * PP_EXCLUSIVE waits for the writer first and then, while nobody new is let in, for the readers;
 * until it is given back, no other connection of this pool is open.
 *
 * Fails with PP_TIMEOUT, PP_OVERLOADED, PP_CLOSED, PP_CANCELLED, PP_WOULD_DEADLOCK (this thread
 * holds leases without which nobody could ever give it one), PP_FILE_CHANGED, PP_FORKED, PP_MISUSE
 * (inside pp_transact() or pp_write() of the same pool), and with PP_SQLITE or PP_NOMEM when a
 * connection had to be opened anew and could not.
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
 * is the one that pp_transact() or pp_write() handed to its callback; nothing happens then.
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

/*
 * Give a text a number once, and have its statement by that number ever after: in a few
 * nanoseconds, where pp_prepare() has to hash the text. The same text has the same number, whoever
 * registers it; numbers begin with 1 and belong to this pool until it is closed. The text is
 * copied. Any thread, at any time.
 *
 * No connection is touched: the tables need not be there yet. What is wrong with the text is found
 * by the first pp_statement() on each connection.
 * Fails with PP_INVALID (PP_STATEMENTS_MAX are registered), PP_NOMEM, PP_CLOSED, PP_FORKED.
 */
PP_API enum pp_status pp_statement_register(struct pp_pool *pool, const char *sql, unsigned *ret_id,
                                            struct pp_error *reterr_error);

/*
 * pp_prepare() for a registered text: the same statement, from the same cache, with the same bounds
 * (one that is put out of it is prepared again). Fails with what that fails with, and with
 * PP_MISUSE when id is none of this pool.
 */
PP_API enum pp_status pp_statement(struct pp_lease *lease, unsigned id, sqlite3_stmt **ret_stmt,
                                   struct pp_error *reterr_error);

/*
 * For this lease alone: an authorizer and a progress handler, called after the pool's own. NULL
 * takes it back; the release does too. ops as for sqlite3_progress_handler(); the pool's own comes
 * at least every thousand. An authorizer has the connection closed at the release: what was
 * prepared under it is not for others. Fails with PP_MISUSE.
 */
PP_API enum pp_status pp_authorizer_set(struct pp_lease *lease,
                                        int (*authorizer)(void *, int, const char *, const char *,
                                                          const char *, const char *),
                                        void *context);
PP_API enum pp_status pp_progress_set(struct pp_lease *lease, unsigned ops, int (*progress)(void *),
                                      void *context);

/* --- Transactions ------------------------------------------------------------------------ */

/*
 * Begin; inside a transaction of pp_begin(), nest (a savepoint). On a writer it is BEGIN
 * IMMEDIATE; on a reader the snapshot that all its statements then read is taken here. Inside, the
 * pool refuses every COMMIT of writes that is not its own, by the commit and the rollback hook:
 * these two are the pool's until the transaction is over.
 *
 * Fails with PP_SQLITE, PP_MISUSE, PP_ROLLED_BACK (a transaction around it is dead already),
 * PP_FILE_CHANGED, PP_CANCELLED, PP_FORKED.
 */
PP_API enum pp_status pp_begin(struct pp_lease *lease, struct pp_error *reterr_error);
/*
 * Commit what the matching pp_begin() began. When it fails, nothing of it is in the database: it
 * has been rolled back (PP_SQLITE and the reason), or SQLite or somebody's ROLLBACK had done so
 * before (PP_ROLLED_BACK), or its token was cancelled (PP_CANCELLED). PP_FILE_CHANGED: it is
 * committed, but into a file that is no longer at the pool's path. Either way this level is over.
 * PP_MISUSE: nothing was begun.
 */
PP_API enum pp_status pp_commit(struct pp_lease *lease, struct pp_error *reterr_error);
/* Undo what the matching pp_begin() began. When SQLite has rolled back already, that is success.
 * Fails with PP_MISUSE (nothing was begun), and with PP_SQLITE or PP_NOMEM: then it is undone all
 * the same, with what is around it, or by the release, which closes the connection. */
PP_API enum pp_status pp_rollback(struct pp_lease *lease, struct pp_error *reterr_error);

/* Zeroed, or NULL in its place: a write, the pool's timeout, ten attempts. */
struct pp_transaction {
	enum pp_lane lane;           /* Default PP_WRITE. */
	struct pp_deadline deadline; /* For everything together: waiting, working, attempts; so
	                              * PP_NO_WAIT leaves no time to write anything. */
	unsigned attempts_max;       /* 1..1000. Default 10. When memory is short at most 2. */
	size_t bytes_max;            /* Bytes the connection may take from begin to commit; the
	                              * transaction that wants more fails alone with PP_NOMEM.
	                              * 0: no limit. Needs accounts. */
	bool any_thread; /* pp_write(): the callback may be called in another thread that
	                  * is inside pp_write(), which is about twice as fast. */
};

/*
 * The work of a transaction. Return PP_OK to commit. Anything else rolls back: PP_SQLITE when
 * SQLite refused (the reason is read from lease->db), PP_ABORTED when you changed your mind.
 *
 * pp_transact() may run it more than once: on an error of the retry class everything is rolled back
 * and it is called again. Inside, use lease->db, pp_prepare() and pp_begin() on this lease, and no
 * other call on the same pool (PP_MISUSE).
 */
typedef enum pp_status pp_work(struct pp_lease *lease, void *context);

/*
 * Borrow, begin, work, commit, give back. Rolls back on every failure. Runs the whole again on
 * errors of class PP_RETRY_TRANSACTION or PP_RETRY_STATEMENT, with exponential backoff and
 * jitter, never past the deadline. What runs past the deadline, or when its token is cancelled,
 * is interrupted and rolled back.
 *
 * Fails with what acquire, begin and commit fail with, and with what work returned.
 */
PP_API enum pp_status pp_transact(struct pp_pool *pool, const struct pp_transaction *options,
                                  pp_work *work, void *context, struct pp_error *reterr_error);

/*
 * A read session: one snapshot for all that work reads. Borrow a reader, begin, work, end, give
 * back. In the session a point read costs SQLite no file locks, which makes it several times as
 * fast, and readers in different threads no longer meet in SQLite's own mutexes.
 *
 * The snapshot is taken before work is called, and whatever has to be waited for is waited for
 * then; so work is called once at most, and meets no lock that others hold. As long as it runs the
 * WAL cannot be cleared: see reader_max_ms. Of the options lane is PP_READ or 0, attempts_max 1 or
 * 0. pp_begin() on a lease of the read lane begins such a session, too.
 *
 * Fails with what pp_transact() fails with.
 */
PP_API enum pp_status pp_read(struct pp_pool *pool, const struct pp_transaction *options,
                              pp_work *work, void *context, struct pp_error *reterr_error);

/* What the callback of pp_write() did. */
struct pp_written {
	int64_t last_insert_rowid; /* 0: it inserted no row. */
	int64_t changes; /* Rows that it inserted, updated and deleted, triggers' included. */
};

/*
 * As pp_transact() on the write lane, for callers who are willing to share a commit: callbacks of
 * callers that come at the same time run one after the other, each in a savepoint, inside one BEGIN
 * IMMEDIATE and COMMIT, and each call returns after that COMMIT. One callback's failure undoes what
 * that one did, and nobody else's. A callback sees what those before it in its group did: if one of
 * them is undone afterwards, this one is run again.
 *
 * It may be run more than once: again by itself, as in pp_transact(), for a reason of its own, and
 * when its group did not commit (the file was full, another callback was interrupted or rolled back
 * everything); the latter counts as no attempt. Inside, what holds in pp_transact() holds. So
 * does bytes_max, for what this callback takes. Deferred foreign keys have to be met at its end.
 *
 * A group takes no more than 128 callbacks, and none after 5 ms. A deadline or a token that comes
 * while the callback has not been called ends the call at once, while it runs interrupts it, and
 * once it has run counts only when the group does not end in its 5 ms. A thread that holds a lease
 * of the pool joins no group.
 *
 * ret_written may be NULL. Fails as pp_transact() does. PP_FILE_CHANGED: as with pp_commit().
 */
PP_API enum pp_status pp_write(struct pp_pool *pool, const struct pp_transaction *options,
                               pp_work *work, void *context, struct pp_written *ret_written,
                               struct pp_error *reterr_error);

/* --- Upkeep ------------------------------------------------------------------------------ */

/*
 * Do what is due: close idle connections, renew old ones, check their health and the file's, open
 * more where borrowers wait, checkpoint the WAL, look after leases held too long and after memory.
 * The pool's thread does it by itself, unless the pool is PP_KEEPER_MANUAL. Any thread; two calls
 * at once wait for each other. ret_due_ms (may be NULL): when to call again at the latest.
 * Fails with PP_CLOSED, PP_FORKED.
 */
PP_API enum pp_status pp_keep(struct pp_pool *pool, uint64_t *ret_due_ms);

/*
 * Change readers_min and readers (their ranges as in struct pp_config; 0: as it is) while the pool
 * is used. Connections above the new number are closed when they come back. Any thread.
 * Fails with PP_INVALID, PP_CLOSED, PP_FORKED, and when a connection of readers_min could not be
 * opened with PP_SQLITE, PP_NOMEM, PP_FILE_CHANGED, or PP_LEASED (too many are in quarantine); the
 * new numbers hold all the same.
 */
PP_API enum pp_status pp_resize(struct pp_pool *pool, unsigned readers_min, unsigned readers,
                                struct pp_error *reterr_error);

/*
 * Let nobody in (acquires wait, up to their deadlines) and wait until every lease is back: then the
 * file may be copied or moved, say. Resume lets them in again.
 * Fails with PP_TIMEOUT or PP_CANCELLED (nothing is suspended then), PP_MISUSE (suspended already;
 * not suspended), PP_WOULD_DEADLOCK (this thread has a lease, or somebody who has one waits for
 * what would be suspended), PP_CLOSED, PP_FORKED.
 */
PP_API enum pp_status pp_suspend(struct pp_pool *pool, struct pp_deadline deadline);
PP_API enum pp_status pp_resume(struct pp_pool *pool);

/*
 * Close every connection (lent ones when they come back, waiting until deadline) and open the pool
 * anew on what is at its path now. This ends PP_FILE_CHANGED. A WAL that belongs to the file that
 * is gone is removed: SQLite would replay it into the new one. When it fails after closing, calls
 * say PP_FILE_CHANGED until it succeeds.
 * Fails with PP_TIMEOUT, PP_CANCELLED, PP_WOULD_DEADLOCK, PP_SQLITE, PP_NOMEM, PP_CLOSED,
 * PP_FORKED, PP_MISUSE (memdb has no file), PP_MISMATCH (another pool has that file).
 */
PP_API enum pp_status pp_reopen(struct pp_pool *pool, struct pp_deadline deadline,
                                struct pp_error *reterr_error);

/* Zeroed but for to_path or to_pool: within the pool's timeout_ms, a thousand pages a step. */
struct pp_backup {
	const char *to_path;     /* Written as to_path-partial, then renamed; replaces a file. */
	struct pp_pool *to_pool; /* Or into this pool, whose content is replaced. */
	struct pp_deadline deadline;
	unsigned step_pages; /* Pages between two calls of progress, 1..1000000. Default 1000. */
	/* Called between steps; not 0 stops with PP_ABORTED. NULL: none. */
	int (*progress)(void *context, unsigned pages_done, unsigned pages_total);
	void *context;
};

/*
 * Copy the database as it is at this moment (one snapshot) while readers and, in WAL mode, the
 * writer go on. Borrows a reader. Nothing half written is left when it fails.
 * Fails with what acquire fails with, PP_TIMEOUT, PP_CANCELLED, PP_ABORTED, PP_SQLITE, PP_NOMEM,
 * PP_INVALID.
 */
PP_API enum pp_status pp_backup(struct pp_pool *pool, const struct pp_backup *backup,
                                struct pp_error *reterr_error);

/* --- Seeing inside ----------------------------------------------------------------------- */

enum pp_accounting {
	PP_ACCOUNTING_OFF,      /* SQLite was initialised before, or the allocator is kept. */
	PP_ACCOUNTING_COUNTERS, /* Byte-exact counters over SQLite's allocator. */
	PP_ACCOUNTING_ARENAS    /* The same, and a jemalloc arena for each account. */
};

struct pp_lane_stats {
	unsigned connections; /* Slots of this lane; for a moment two of one that is renewed. */
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
	uint64_t retries;            /* Attempts of pp_transact() and pp_write() after the first. */
	uint64_t writes; /* pp_write()s that were committed as one of a group, alone or not; */
	uint64_t groups; /* ... and in how many commits. */
	uint64_t group_sizes[8]; /* Those of 1, 2, up to 4, 8 ... 128 writes. */
	uint64_t reruns;         /* pp_write()s that were run again because of their group. */

	uint64_t statement_hits, statement_misses, statement_evictions;
	uint64_t statements, statement_bytes; /* Cached now, all connections together. */

	enum pp_accounting accounting;
	uint64_t pool_bytes;        /* Live, booked to the pool itself. */
	uint64_t connections_bytes; /* Live, booked to its open connections. */
	uint64_t parked;            /* Accounts of closed connections with bytes still live, */
	uint64_t parked_bytes;      /* ... and those bytes. 0 when nothing leaks. */
	uint64_t foreign_bytes;     /* SQLite memory of this process that belongs to no pool. */

	/* Upkeep. */
	uint64_t grown, shrunk; /* Readers opened because some waited; closed because idle. */
	uint64_t renewed;       /* Connections replaced at their age. */
	uint64_t health_checks, health_failures;
	uint64_t file_changes; /* Times the file was found deleted, replaced, cut, read-only. */
	uint64_t reopened;     /* Times the pool was opened anew. */
	bool tripped;          /* PP_FILE_CHANGED until pp_reopen(). */
	bool suspended;
	uint64_t overdue;       /* Leases that passed lease_warn_ms. */
	uint64_t interrupted;   /* Leases interrupted: too old, pinning the WAL, at closing. */
	uint64_t quarantined;   /* Connections replaced while somebody held them; */
	uint64_t returned_late; /* ... of those, given back meanwhile. */
	uint64_t deadlocks;     /* Acquires refused with PP_WOULD_DEADLOCK. */
	uint64_t cancels;       /* Calls that ended with PP_CANCELLED. */
	uint64_t sheds;         /* Waiters refused by shed_ms. */
	uint64_t refusals;      /* Allocations refused by a byte limit. */
	uint64_t wal_bytes;     /* Size of the WAL file now. */
	uint64_t checkpoints, checkpoints_blocked; /* Whole; held up by a reader. */
	bool memory_pressure; /* The control group or the machine is short of memory. */
	bool neighbours;      /* Other processes have a pool on this file. */
	/* What this SQLite was built without and the pool would use, in words; "" nothing. */
	const char *missing_features;
};

enum pp_connection_state {
	PP_CONNECTION_CLOSED, /* The slot is open to be used, no connection is in it. */
	PP_CONNECTION_IDLE,
	PP_CONNECTION_LENT,
	PP_CONNECTION_KEPT,       /* The pool itself works on it. */
	PP_CONNECTION_QUARANTINED /* Lent, and replaced: closed when it comes back. */
};

/* One connection. */
struct pp_connection {
	enum pp_lane lane;
	enum pp_connection_state state;
	uint64_t id;     /* Of the slot, from 0: the same in events. */
	uint64_t age_ms; /* Since it was opened. */
	/* Since it was last lent or, idle, given back: as upkeep first met it, up to a second
	 * later, where the pool has a thread. */
	uint64_t since_ms;
	uint64_t uses;  /* Leases of the slot. */
	uint64_t bytes; /* Live; 0 without accounts. */
	int thread;     /* Kernel's number of the holder; 0: nobody. */
	char sql[192];  /* What the holder runs or prepared last; empty: nothing. */
};

/* At most max of them; ret_count says how many there are. Any thread. Fails with PP_FORKED. */
PP_API enum pp_status pp_connections_read(struct pp_pool *pool, struct pp_connection *connections,
                                          unsigned max, unsigned *ret_count);

/* Durations, each measured apart. */
#define PP_HISTOGRAM_LIST(X)                                                              \
	X(PP_HISTOGRAM_WAIT, "wait", "in the line; an acquire that did not wait is none") \
	X(PP_HISTOGRAM_CONNECT, "connect", "opening a connection")                        \
	X(PP_HISTOGRAM_VERIFY, "verify", "a health check")                                \
	X(PP_HISTOGRAM_HOLD, "hold", "a lease, of one in 32")                             \
	X(PP_HISTOGRAM_TRANSACTION, "transaction",                                        \
	  "pp_transact() and pp_write(), attempts included")                              \
	X(PP_HISTOGRAM_COMMIT, "commit", "COMMIT of an outermost transaction")            \
	X(PP_HISTOGRAM_CHECKPOINT, "checkpoint", "a checkpoint of the WAL")               \
	X(PP_HISTOGRAM_RECOVERY, "recovery",                                              \
	  "from a lost connection or file to the next that serves")

enum pp_histogram_kind {
#define X(name, tag, text) name,
	PP_HISTOGRAM_LIST(X)
#undef X
		PP_HISTOGRAMS
};

/* Log-linear: eight buckets for each power of two of nanoseconds, so a value is known to 12.5 %. */
struct pp_histogram {
	uint64_t count, sum_ns, max_ns;
	uint64_t buckets[320];
};

PP_API enum pp_status pp_histogram_read(struct pp_pool *pool, enum pp_histogram_kind kind,
                                        struct pp_histogram *ret_histogram);
/* The highest value of the bucket in which the percentile lies; 0 when there is none. */
PP_API uint64_t pp_histogram_percentile_ns(const struct pp_histogram *histogram, double percentile);

/*
 * OpenMetrics text of everything above, with the names of OpenTelemetry's db.client.connection.*;
 * label pool is name. Always ends in NUL; returns the length it would have liked, as snprintf does.
 */
PP_API size_t pp_metrics_text(struct pp_pool *pool, const char *name, char *text, size_t text_size);

#define PP_EVENT_LIST(X)                                                               \
	X(PP_EVENT_OPENED, "opened") /* A connection. */                               \
	X(PP_EVENT_CLOSED, "closed") /* A connection; message: why. */                 \
	X(PP_EVENT_DIRTY, "dirty")   /* A borrower left something. */                  \
	X(PP_EVENT_GROWN, "grown")                                                     \
	X(PP_EVENT_SHRUNK, "shrunk")                                                   \
	X(PP_EVENT_RENEWED, "renewed")                                                 \
	X(PP_EVENT_HEALTH_FAILED, "health failed")                                     \
	X(PP_EVENT_FILE_CHANGED, "file changed")                                       \
	X(PP_EVENT_REOPENED, "reopened")                                               \
	X(PP_EVENT_LEASE_OVERDUE, "lease overdue") /* Older than lease_warn_ms. */     \
	X(PP_EVENT_LEASE_BACK, "lease back")       /* ... and given back after all. */ \
	X(PP_EVENT_INTERRUPTED, "interrupted")                                         \
	X(PP_EVENT_QUARANTINED, "quarantined")                                         \
	X(PP_EVENT_WAL_LARGE, "wal large")   /* Past wal_bytes_max. */                 \
	X(PP_EVENT_WAL_PINNED, "wal pinned") /* By this lease. */                      \
	X(PP_EVENT_MEMORY, "memory")         /* Short, or no longer. */

enum pp_event_kind {
#define X(name, text) name,
	PP_EVENT_LIST(X)
#undef X
};

enum { PP_FRAMES_MAX = 16 };

/*
 * What happened. Called in the thread in which it did, with no lock that a borrower needs. It may
 * read statistics, connections, histograms and metrics of the pool, and cancel tokens; every other
 * call on the same pool may wait for its own caller. Nothing in it outlives the call.
 */
struct pp_event {
	enum pp_event_kind kind;
	const char *name; /* "lease overdue" */
	struct pp_pool *pool;
	struct pp_connection connection; /* Whose; id UINT64_MAX: of the pool as a whole. */
	const char *message;             /* One line; "" where the kind says all. */
	/* Where the lease was acquired: the caller, or with backtraces the stack (for
	 * backtrace_symbols()). */
	void *frames[PP_FRAMES_MAX];
	unsigned frame_count;
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
