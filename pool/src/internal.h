/*
 * internal.h - how a pool is built.
 *
 * A pool is a row in a static table (the registry). Its slots stand in two lanes; a slot holds a
 * connection; a line of waiters stands before the lanes.
 *
 * Locks, in the order they are taken (none is ever taken while a later one is held):
 *     keep_mutex (pool)         upkeep: which slots there are, the anchor, suspension, reopening
 *     registry_mutex (pool.c)   the table: which file is whose, reference counts, states
 *     line.mutex (line.c)       one line's waiters; of two lines the first one's first. lines[0]'s
 *                               also registering statements (statement.c)
 *     group.mutex (group.c)     who waits for a group, and what has become of its members
 *     accounts_mutex (memory.c) the states of accounts
 * No call into SQLite happens under any of them but keep_mutex, which acquire, release and
 * transactions never take: who holds it keeps only upkeep waiting. Two more, in pp_setup() and
 * vfs_register(), keep the first pp_open() of a process from running twice; SQLite is configured
 * and initialised under them.
 */
/* SPDX-License-Identifier: MIT */
#ifndef POOL_INTERNAL_H
#define POOL_INTERNAL_H

#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <sys/types.h>

#include <poolproof/pool.h>

#include "glance.h"
#include "memory.h"

enum {
	LANES = 2,
	/* Slots: readers and a few more while old connections or quarantined ones are still there;
	 * the writer's likewise. */
	READER_SLOTS = PP_READERS_MAX + 8,
	WRITER_SLOTS = 4,
	SLOTS = WRITER_SLOTS + READER_SLOTS,
	PROGRESS_OPS = 1000, /* Of the virtual machine between two looks at deadline and token. */
	OWN_STATEMENTS = 4,  /* Of a connection: begin, snapshot, commit, rollback. */
	LIMITS = SQLITE_LIMIT_WORKER_THREADS + 1, /* Of sqlite3_limit(), in SQLite 3.40. */
	HANDLE_CHUNKS_MAX = 48, /* Of a handle, with something that is compared; some 16. */
	HANDLE_CHUNKS_STEP = 4, /* So many are compared at once. */
	CACHE_LINE = 64,
	GROUP_SIZES = sizeof(((struct pp_stats *)0)->group_sizes) / sizeof(uint64_t)
};

/* --- statement.c: prepared statements of one connection ---------------------------------- */

struct statement {
	sqlite3_stmt *stmt;
	uint64_t hash;
	size_t bytes;
	bool taken;  /* By the lease now; is in the taken list. */
	bool spare;  /* A second copy of a text; not in a bucket, goes at the release. */
	unsigned id; /* By which it stands in by_id; 0: in no place. */
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
	/* Those that pp_statement() was asked for, by what pp_statement_register() gave. */
	struct statement **by_id;
	unsigned by_id_count; /* Places in it; grows with the ids that are asked for. */
	/* Written by the holder, read by pp_stats_read(): relaxed. */
	atomic_uint_least64_t hits, misses, evictions, live, live_bytes;
};

/* --- connection.c, prove.c: one sqlite3 handle
 * ----------------------------------------------------- */

/* Compared at once. */
typedef uint64_t handle_chunk __attribute__((vector_size(16)));

/* What cannot be undone. */
enum dirt { DIRTY_TEMP = 1, DIRTY_ATTACH = 2, DIRTY_PRAGMA = 4, DIRTY_AUTHORIZER = 8 };

/* Why what runs on a connection was stopped. */
enum stop { STOP_NOT, STOP_CANCELLED, STOP_DEADLINE, STOP_INTERRUPTED, STOP_CLOSED };

typedef int authorizer_fn(void *context, int action, const char *first, const char *second,
                          const char *database, const char *trigger);

struct connection {
	sqlite3 *db; /* NULL: not open. */
	struct pp_pool *pool;
	enum pp_lane lane;
	/* Written by the holder; anybody may read it and then the account's bytes: accounts are
	 * in a static table. NULL: not open, or no accounts. */
	struct account *_Atomic account;
	/* Prepared at the opening: needed without memory. OWN_STATEMENTS of them. snapshot reads
	 * nothing, but has the file's state kept from there on. */
	sqlite3_stmt *begin, *snapshot, *commit, *rollback;
	struct statements statements;
	int limits[LIMITS]; /* As on_open left them. */

	unsigned depth;   /* Of pp_begin(). */
	bool dead;        /* The transaction around depth is gone. */
	bool committing;  /* COMMIT now is ours. */
	unsigned at_work; /* The depth at which the callback now at work was called; 0: none is. */
	uint64_t rollbacks;          /* Counted by the rollback hook. */
	uint64_t rollbacks_at_begin; /* When the outermost pp_begin() began. */

	unsigned dirty; /* What the authorizer saw since the opening: enum dirt. */
	bool foreign;   /* A statement that is not ours was met in this lease. */
	bool discard;   /* An error was met after which it is not kept. */
	uint64_t salt;  /* In the names of its savepoints. */
	/* Of the handle, clean: what handle_note() saw. */
	handle_chunk image[HANDLE_CHUNKS_MAX];
	bool tolerates; /* Statements that are not ours are there, and taken for virtual tables'. */

	uint64_t deadline_ns;   /* No busy wait goes past it. */
	uint64_t busy_until_ns; /* Nor past this. */

	/* What stops it (stop.c). The holder's but for interrupt, which anybody sets to the
	 * generation that is to be interrupted: the next borrower's is another. */
	bool lent; /* To a borrower: he can be stopped, his authorizer is asked; */
	bool own;  /* ... but not of what the pool prepares for him. */
	const struct pp_token *token; /* Of who has it or has it opened. */
	uint64_t generation;
	atomic_uint_least64_t interrupt;
	enum stop stopped;
	authorizer_fn *authorizer; /* The user's, behind ours. */
	void *authorizer_context;
	int (*progress)(void *context);
	void *progress_context;

	/* What the holder prepared last (statement.c), for others to read. A hazard pointer: the
	 * reader publishes in peeked what it reads, and looks again; who frees a text first takes
	 * it out of current_sql and waits while it is peeked. All seq_cst. */
	const char *_Atomic current_sql, *_Atomic peeked;

	atomic_uint_least64_t opened_ms; /* Coarse. Relaxed. */
	atomic_uint_least64_t renew_ms;  /* When it is too old, jitter included. Relaxed. */
	/* Since when it reads a snapshot of a WAL, coarse; 0: it reads none. Written by vfs.c in
	 * the holder's thread. Relaxed: it says whom to look at. */
	atomic_uint_least64_t snapshot_ms;
	bool no_checkpoint; /* Closing it must not touch the WAL: the file is another. */
	bool has_turn;      /* Its BEGIN is next of all processes' (turn.c). */
};

/* Open the handle of a connection whose pool and lane are set. On failure nothing is left. */
enum pp_status connection_open(struct connection *connection, struct pp_deadline until,
                               struct pp_error *reterr_error);
/* Close; returns true when nothing of it is left. */
bool connection_close(struct connection *connection);
/* Look at what the borrower gave back and mend it. false: it has to be closed. */
bool connection_prove(struct connection *connection);
/* handle.c: find out where to look, once, with SQLite initialised; not when it fails. */
void handle_learn(void);
bool handle_is_known(void);
/* What the handle is like, clean. */
void handle_note(struct connection *connection);
/* To look at it: handle.h. */
/* The first column of the first row, as a number; else the code, and nothing written. */
int handle_number(sqlite3 *db, const char *sql, int64_t *ret_number);
/* Only in an SQLite built with SQLITE_ENABLE_PREUPDATE_HOOK, as Debian's is. */
extern void *sqlite3_preupdate_hook(sqlite3 *db,
                                    void (*hook)(void *, sqlite3 *, int, char const *, char const *,
                                                 sqlite3_int64, sqlite3_int64),
                                    void *context) __attribute__((weak));
/* What each connection has for an authorizer; the users' are behind it. */
authorizer_fn connection_authorize;
/* Whatever a borrower put there: our hooks and handlers again. */
void connection_hooks_reset(struct connection *connection);
/* Install the hooks that tell who ends a transaction. false: others were there. */
bool connection_watch(struct connection *connection);
/* Within a transaction, from one borrower to the next: what is not the transaction is as at a
 * release. false: the hooks that tell who ends a transaction were gone. */
bool connection_pass(struct connection *connection);
/* What a transaction on it begins with: never freed, errors point to it. */
const char *connection_begin_sql(const struct connection *connection);
/* SQLITE_OK, or why the holder's work is to stop; asked by the busy and the progress handler. */
enum stop connection_stop(struct connection *connection, uint64_t now_ns);
/* health_look() by who has it lent: his authorizer is not asked; */
enum pp_status connection_file(struct connection *connection, struct pp_error *reterr_error);
/* ... and his deadline and his token end it. */
enum pp_status connection_look(struct connection *connection, struct pp_error *reterr_error);
/* The error of what was stopped, which the pool knows better than SQLite; counts cancellations. */
enum pp_status connection_stopped(struct connection *connection, const char *doing,
                                  struct pp_error *reterr_error);
/* From here on it can be stopped, by this lease's token or generation. */
static inline void connection_lend(struct connection *connection, const struct pp_token *token,
                                   uint64_t generation)
{
	connection->token = token;
	connection->generation = generation;
	connection->stopped = STOP_NOT;
	connection->lent = true;
}
void connection_authorizer_set(struct connection *connection, authorizer_fn *authorizer,
                               void *context);
void connection_progress_set(struct connection *connection, unsigned ops, int (*progress)(void *),
                             void *context);
/* Copies what the holder prepared last. Any thread. */
void connection_sql(struct connection *connection, char *sql, size_t sql_size);
/* A statement is there that the pool did not prepare, and it is the newest. */
bool connection_has_foreign(const struct connection *connection);

void statements_init(struct statements *statements, unsigned count_max, size_t bytes_max);
void statements_done(struct statements *statements);
/* Reset what the lease took, drop what is over the bounds. */
void statements_give_back(struct statements *statements);
enum pp_status statement_take(struct connection *connection, const char *sql,
                              sqlite3_stmt **ret_stmt, struct pp_error *reterr_error);
/* The same for a registered text. */
enum pp_status statement_take_id(struct connection *connection, unsigned id,
                                 sqlite3_stmt **ret_stmt, struct pp_error *reterr_error);
/* The texts of a pool that nobody uses any more. */
void registered_free(struct pp_pool *pool);

/* --- line.c: slots and those who wait for one --------------------------------------------- */

enum slot_state {
	SLOT_SPARE, /* Not in use. Only who holds keep_mutex takes it out of this state. */
	SLOT_EMPTY, /* No connection is open; whoever claims it opens one. */
	SLOT_IDLE,
	SLOT_LEASED,
	SLOT_KEPT,  /* Upkeep or pp_check() works on it. */
	SLOT_NEXT,  /* Being opened, or waiting to take the place of one still lent. */
	SLOT_HELD,  /* With its whole lane (lane_hold). */
	SLOT_CLOSED /* Taken out by pp_close(), for good. */
};

/* What becomes of a lent connection when it comes back. */
enum fate {
	FATE_KEEP,
	FATE_DROP,        /* Closed; the slot is spare. */
	FATE_REPLACE,     /* The same, and the successor, kept until then, is idle. */
	FATE_QUARANTINED, /* Closed, the slot is spare; another took its place long ago. */
	FATE_OBEYED = 8   /* Added to what is being done now: nobody takes that back. */
};

struct slot {
	/* Who holds it: claimed by compare-and-swap, given back by a sequentially consistent
	 * exchange (see line.c). Everything else in a slot belongs to whoever holds it. */
	_Alignas(CACHE_LINE) atomic_uint state;
	atomic_uint open; /* A connection is there. Relaxed: for statistics. */
	/* As statistics, events and probes name it: its place in the row of slots, the writer's
	 * first. Written once, with its connection's pool and lane. */
	unsigned id;
	/* Odd while lent. Relaxed where the holder reads it; released when since_ms and the rest
	 * are this lease's, acquired by who looks at another's. */
	atomic_uint_least64_t generation;
	/* Coarse time of the last lending or return; 0: the keeper has not met it yet. Relaxed. */
	atomic_uint_least64_t since_ms;
	atomic_uint_least64_t acquires; /* Relaxed: written by the holder. */
	atomic_int holder;              /* Thread, by the kernel's number; 0 none. Relaxed. */
	atomic_uint fate; /* enum fate: set under keep_mutex, obeyed at the release. seq_cst. */
	struct slot *successor; /* With FATE_REPLACE; written before fate. */
	uint64_t lent_ns;       /* Where this lease is a sample for PP_HISTOGRAM_HOLD; else 0. */
	/* Where it was acquired. The keeper reads them from a lease that it has just seen lent, and
	 * again when it is still the same: then they are that lease's. Relaxed. */
	void *_Atomic frames[PP_FRAMES_MAX];
	atomic_uint frame_count;
	/* The generations that the watchdog has warned of and interrupted, and when it did: its
	 * own, but a release asks whether it was warned of. Relaxed. */
	atomic_uint_least64_t warned;
	uint64_t interrupted, interrupted_ms;
	/* In quarantine, whoever of a group has the lease: where lanes exclude each other, nobody
	 * waits for it. Written under keep_mutex. */
	atomic_bool absent;
	struct connection connection;
};

struct waiter {
	pthread_cond_t wake;
	enum pp_lane lane;
	uint64_t since_ns;
	bool signalled; /* Woken, and has not run yet. */
	bool shed;      /* Refused by CoDel, and taken out of the line. */
	int thread;
	const struct pp_token *token;
	struct slot *slot; /* Handed over; NULL until then. */
	struct waiter *next;
};

/* CoDel (Nichols and Jacobson, RFC 8289) on the time in the line. */
struct codel {
	uint64_t above_ns; /* When the time will have been above the target for an interval. */
	uint64_t next_ns;  /* The next refusal. */
	unsigned count;    /* Refusals in a row; 0: not refusing. */
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
	bool closing;   /* Nobody enters; the closer waits for drained. */
	unsigned aside; /* Those who wait beside the line (line_wait_alone). */
	/* Who has, or waits for, a whole lane (lane_hold). */
	struct whole {
		bool held;  /* Nobody is served. */
		bool waits; /* For the rest of it. */
		int thread; /* 0: held for nobody's own use, anybody ends it. */
	} whole[LANES];
	pthread_cond_t drained;
	struct codel codel;
	struct lane_counts {
		unsigned waiting;
		uint64_t waits, handovers, timeouts, overloads, sheds, wait_ns_total, wait_ns_max;
	} lanes[LANES];
};

struct lane {
	struct slot *slots;
	unsigned count;   /* Of slots, spare ones included. */
	atomic_uint used; /* Slots from here on are spare. Only grows, under keep_mutex. Relaxed. */
	struct line *line; /* Its own, or one for both where the lanes exclude each other. */
};

enum pool_state {
	POOL_UNUSED,
	POOL_OPENING, /* Its file is claimed; connections are being opened. */
	POOL_OPEN,
	POOL_CLOSING,
	POOL_FORKED /* In a child: the parent's. Never used again. */
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
	atomic_uint_least64_t grown, shrunk, renewed, health_checks, health_failures, file_changes;
	atomic_uint_least64_t reopened, overdue, interrupted, quarantined, returned_late;
	atomic_uint_least64_t deadlocks, cancels, checkpoints, checkpoints_blocked;
	atomic_uint_least64_t writes, groups, reruns, group_sizes[GROUP_SIZES];
};

/* As struct pp_histogram, added to by anybody. Relaxed: sums. */
struct histogram {
	atomic_uint_least64_t sum_ns, max_ns;
	atomic_uint_least64_t buckets[sizeof(((struct pp_histogram *)0)->buckets) / 8];
};

/* --- The state of the upkeep's parts ------------------------------------------------------- */

/* keeper.c */
enum { DUTIES = 6, UPKEEP_MS = 1000 /* At the latest it is looked again then. */ };

struct keeper {
	pthread_t thread;
	bool running;          /* There is a thread. Written by who opens and closes. */
	pthread_mutex_t mutex; /* Guards poked; nothing is locked under it. */
	pthread_cond_t wake;
	bool poked;
	/* Nothing is kept up any more, and upkeep's own statements end early. Set under mutex; who
	 * does upkeep looks under keep_mutex, through which keeper_stop() goes after setting it. */
	atomic_bool stopping;
	uint64_t due_ms[DUTIES]; /* Under keep_mutex. */
};

/* health.c: the file as it was. Any thread compares; written under keep_mutex, each field is read
 * apart. Relaxed: a torn picture only has the file looked at again. */
struct health {
	atomic_uint_least64_t file_bytes; /* The largest size seen; may shrink by our own hand. */
	atomic_uint mode;
	atomic_uint_least64_t looked_ms; /* Coarse; when it was last found well. Relaxed. */
	dev_t wal_device; /* Of the WAL that belongs to the file; under keep_mutex. */
	atomic_uint_least64_t wal_inode; /* 0: none, or not known. */
	uint64_t due_ms;                 /* The next check. */
};

/* wal.c */
struct wal {
	/* In the WAL, as the last commit's hook or checkpoint said; and what there were when one
	 * was last tried or asked for. Relaxed, both: a wrong one costs a checkpoint. */
	atomic_uint_least64_t pages, tried;
	struct pp_token stop; /* Cancelled when the keeper is to stop: it may stand in the line. */
	/* The rest under keep_mutex. */
	enum wal_turn { WAL_LEAVE, WAL_FINISH, WAL_CUT } turn; /* What wal_turn() is to do. */
	bool reported;                                         /* That it is past its bound. */
	const struct slot *pinned_by;  /* Who has been reported to hold it; NULL: nobody. */
	uint64_t pinned_by_generation; /* ... in which lease. */
	int copied, stuck;             /* Pages, by now and when it last was not whole. */
	uint64_t pause_ms, again_ms;   /* Before the writers are stopped for that again. */
};

/* turn.c: whose turn it is among processes. */
struct turn {
	int file;                         /* -1: there is none. */
	atomic_bool neighbours;           /* As of looked_ms. Relaxed, as all here: advice. */
	atomic_uint_least64_t looked_ms;  /* Coarse. */
	atomic_uint_least64_t in_vain_ns; /* Waited for a turn since the last one that came. */
};

/* A text of pp_statement_register(); kept until the pool is closed. */
struct registered {
	uint64_t hash;
	char sql[];
};

/* write.c: a group under way, of whoever holds this writer's slot and has its baton. The rest under
 * group.mutex. In the static table, so that none of its members has to outlive another. */
struct batch {
	struct pp_lease lease;
	struct member *ran; /* Whose work is done and waits for the commit; the last one first. */
	struct member *committing; /* The same, when nobody can leave any more: the finisher's. */
	unsigned count;            /* Members it took. */
	uint64_t until_ns;         /* It takes nobody after that. */
	uint64_t deadline_ns;      /* The earliest of those who ran. */
	bool full;                 /* It takes nobody any more; */
	bool sealed;               /* ... and nobody leaves it. */
	bool doomed;               /* It must not be committed, because of cause. */
	struct pp_cause cause;
	/* Whoever takes this back passes the lead on: the finisher, or who replaces a stuck one.
	 * seq_cst, by exchange. */
	atomic_bool leads;
};

/* group.c: those who share a commit. All under mutex but the atomics. */
struct group {
	pthread_mutex_t mutex;
	struct member *head, *tail; /* Who waits to be taken, in the order in which they came. */
	bool led;                   /* Somebody leads a group, or is about to. */
	unsigned inside;            /* Calls under way, for which the closer waits. */
	unsigned pausing;           /* ... of them, between two attempts. */
	pthread_cond_t changed;     /* closing, or inside is 0 then; a token of who pauses. */
	/* seq_cst: the canceller's half of a handshake as in line.c. Written under mutex. */
	atomic_uint waiting; /* Who waits: to be taken, for a commit, in a pause. */
	atomic_bool closing;
	struct lane_counts counts; /* Of the wait to be taken. */
	/* How many members a batch takes, and how long. Tests change them. */
	unsigned take_max;
	uint64_t take_ns;
	struct batch batches[WRITER_SLOTS];
};

struct pp_pool {
	/* Guarded by registry_mutex: */
	enum pool_state state;
	unsigned references;
	bool being_closed; /* A thread is in pp_close() with it. */
	struct identity identity;

	atomic_uint_least64_t process; /* In which it was opened; see fork.c. Relaxed. */

	/* Set while opening, constant until the pool is unused again, but for path's file and
	 * config's readers and readers_min, which keep_mutex guards: */
	struct pp_config config;         /* Defaults filled in; its path is path. */
	char path[PATH_MAX];             /* In the row: late-comers name it in errors. */
	struct account *_Atomic account; /* Atomic: errors of late-comers read it. */
	/* Never lent, closed last; the keeper's, under keep_mutex. Without it memdb's store would
	 * go with the last borrower, and the WAL be cleared away with the last idle reader. */
	struct connection anchor;
	bool gated;  /* Readers and the writer exclude each other. */
	bool filled; /* From here on gated does not change. */
	struct lane lanes[LANES];

	/* The closer waits on these; they outlive what they serve. */
	struct line lines[LANES];
	struct counters counters; /* Relaxed: sums, they order nothing. */
	struct histogram histograms[PP_HISTOGRAMS];

	/* Upkeep (keeper.c, size.c). The mutex is made once and never destroyed. */
	pthread_mutex_t keep_mutex;
	struct keeper keeper;
	/* By pp_suspend(), which holds both lanes. Written under keep_mutex. Relaxed. */
	_Atomic enum suspension { SUSPENDED_NOT, SUSPENDED_SOON, SUSPENDED } suspended;
	/* How many readers there are to be; config has what was asked for at the opening. Written
	 * under keep_mutex. Relaxed. */
	atomic_uint readers, readers_min;
	bool surplus; /* There may be more: they were changed while slots were held. keep_mutex. */
	/* The writer's slot while it is an exclusive lease: it holds the read lane, and the anchor
	 * is closed. Set under keep_mutex; relaxed: who reads it of itself wrote it. */
	struct slot *_Atomic exclusive;
	atomic_bool tripped;           /* seq_cst. Set by who finds the file changed. */
	atomic_bool pressure;          /* Relaxed: advice. */
	atomic_uint_least64_t lost_ns; /* Since when something is lost; 0: nothing. Relaxed. */
	struct health health;
	struct glance glance;
	struct wal wal;
	struct turn turn;
	struct group group; /* Its mutex is never destroyed. */

	/* Those below registered_count do not change. Written under lines[0].mutex; released with
	 * the count, acquired by who looks for one. */
	struct registered *registered[PP_STATEMENTS_MAX];
	atomic_uint registered_count;
};

void line_init(struct line *line);
/* The fast way: a slot nobody holds, or NULL. */
struct slot *line_claim(struct pp_pool *pool, enum pp_lane lane);
/* The slow way: stand in the line. until.ns is a point in time. */
enum pp_status line_wait(struct pp_pool *pool, enum pp_lane lane, struct pp_deadline until,
                         struct slot **ret_slot);
/* Give a slot back, in the state it is in now (empty, idle or spare), and serve the line. */
void line_give_back(struct pp_pool *pool, struct slot *slot, enum slot_state state);
/* Serve whoever waits for a lane whose slots have changed. */
void line_serve(struct pp_pool *pool, enum pp_lane lane);
/* How long the head of a lane's waiters has waited; 0: nobody waits. */
uint64_t line_head_wait_ns(struct pp_pool *pool, enum pp_lane lane);
/* circle.c, with both lines locked: a thread that waits for one of a lane, or for all of it, would
 * wait for itself. */
bool waiting_is_hopeless(const struct pp_pool *pool, enum pp_lane lane, int thread);
bool holding_is_hopeless(const struct pp_pool *pool, enum pp_lane lane, int thread);
/* Wake who waits with this token, or (NULL) everybody, to look again. */
void line_wake(struct line *line, const struct pp_token *token);
/* Let nobody in, wake everybody, take every slot out; returns how many were still lent when the
 * deadline passed. */
unsigned line_close(struct pp_pool *pool, uint64_t deadline_ns);
/*
 * Hold a whole lane: every slot of it is SLOT_KEPT, and nobody is let in. The caller has keep_mutex
 * or an exclusive lease. Fails with PP_TIMEOUT, PP_CANCELLED, PP_WOULD_DEADLOCK, PP_CLOSED; then
 * nothing is held.
 * Holding is undone by lane_unhold(): slots with a connection are idle, the others empty.
 */
enum pp_status lane_hold(struct pp_pool *pool, enum pp_lane lane, struct pp_deadline until);
void lane_unhold(struct pp_pool *pool, enum pp_lane lane);
/* From here on any thread may undo it: nobody who waits for it waits for this one. */
void lane_disown(struct pp_pool *pool, enum pp_lane lane);
/* Until this thread's is the only writer that is lent: none is out in quarantine. */
enum pp_status line_wait_alone(struct pp_pool *pool, struct pp_deadline until);
/* One slot, for the pool itself: from a state to SLOT_KEPT. Back by line_give_back(). */
bool slot_keep(struct slot *slot, enum slot_state from);
unsigned lane_count_in(const struct lane *lane, enum slot_state state);
/* How many there are to borrow or borrowed: without the spare ones, successors, and those that are
 * not to come back. */
unsigned lane_size(const struct lane *lane);

static inline struct lane *pool_lane(struct pp_pool *pool, enum pp_lane lane)
{
	return &pool->lanes[lane - PP_READ];
}

/* Since when the slot is as it is; the keeper's, who notes it where he is the first to ask. */
static inline uint64_t slot_since(struct slot *slot, uint64_t now_ms)
{
	uint64_t since = atomic_load_explicit(&slot->since_ms, memory_order_relaxed);

	if (since == 0)
		atomic_store_explicit(&slot->since_ms, now_ms, memory_order_relaxed);
	return since != 0 ? since : now_ms;
}

static inline unsigned lane_used(const struct lane *lane)
{
	return atomic_load_explicit(&lane->used, memory_order_relaxed);
}

static inline void count(atomic_uint_least64_t *counter)
{
	atomic_fetch_add_explicit(counter, 1, memory_order_relaxed);
}

/* --- lease.c ------------------------------------------------------------------------------ */

/* The slot of a lease that is good, or NULL. */
struct slot *lease_slot(const struct pp_lease *lease);
/* What to say when there is none. */
enum pp_status lease_refused(const struct pp_lease *lease, const char *doing,
                             struct pp_error *reterr_error);
/* *ret_lease may be written, and empty again, also where it fails. */
enum pp_status lease_acquire(struct pp_pool *pool, enum pp_lane lane, struct pp_deadline deadline,
                             void *caller, struct pp_lease *ret_lease,
                             struct pp_error *reterr_error);
void lease_release(struct pp_lease *lease);
/* The lease goes on with a generation, an age and a token of its own: what was
 * meant for who had it before does not hit who has it now. */
void lease_hand_over(struct pp_lease *lease, const struct pp_token *token, void *caller);
/* Before it is another thread's, and after. */
void lease_part(const struct pp_lease *lease, int to_thread);
void lease_join(void);
/* This thread holds a lease of the pool. */
bool lease_is_mine(const struct pp_pool *pool);
/* Of the calling thread: the kernel's number; its leases, of all pools. */
int thread_number(void);
unsigned leases_held(void);
/* Open a slot's connection, and close it; the caller holds the slot. */
enum pp_status slot_open(struct slot *slot, struct pp_deadline until,
                         struct pp_error *reterr_error);
void slot_close(struct slot *slot, const char *why);

/* What a borrower set through the pool goes too: back to the configuration's. */
static inline void connection_callbacks_reset(struct connection *connection)
{
	const struct pp_config *config = &connection->pool->config;

	connection->authorizer = config->authorizer;
	connection->authorizer_context = config->authorizer_context;
	connection->progress = config->progress;
	connection->progress_context = config->progress_context;
}

/* --- size.c: which slots there are --------------------------------------------------------- */

/* All but size_obey() under keep_mutex. Open a connection in a spare slot. */
enum pp_status size_add(struct pp_pool *pool, enum pp_lane lane, struct pp_error *reterr_error);
/* A spare slot, in SLOT_NEXT, without a connection. NULL: there is none. */
struct slot *slot_take_spare(struct pp_pool *pool, enum pp_lane lane);
/* Another connection takes the place of one that is lent and stuck. */
void size_quarantine(struct pp_pool *pool, struct slot *slot, uint64_t generation);
/* What a fate that is not FATE_KEEP wants done; the caller holds the slot. */
void size_obey(struct pp_pool *pool, struct slot *slot);
/* The keeper's connection, if it is not there. */
enum pp_status anchor_open(struct pp_pool *pool, struct pp_error *reterr_error);

/* --- whole.c: all of a pool at once --------------------------------------------------------- */

enum pp_status exclusive_begin(struct pp_pool *pool, struct slot *writer, struct pp_deadline until);
void exclusive_end(struct pp_pool *pool, struct slot *writer);
/* This thread has a reader, for which it would wait itself. */
bool exclusive_is_hopeless(const struct pp_pool *pool);
/* Before closing: a suspended pool's slots can be taken out again. */
void suspension_end(struct pp_pool *pool);

/* --- keeper.c, watchdog.c, health.c, wal.c, pressure.c ------------------------------------- */

enum pp_status keeper_start(struct pp_pool *pool, struct pp_error *reterr_error);
void keeper_stop(struct pp_pool *pool);
/* Somebody has, or waits for, a whole lane: slots are his. Under keep_mutex. */
bool pool_is_held(struct pp_pool *pool);
/* Have it look now. Any thread. */
void keeper_poke(struct pp_pool *pool);
/* The watchdog's duty, by who is in the middle of another one. false: the keeper is stopping. */
bool keeper_watch(struct pp_pool *pool);

/* Keeper's duties, under keep_mutex. Each returns when it is due again, in coarse ms. */
uint64_t size_keep(struct pp_pool *pool, uint64_t now_ms);
uint64_t watchdog_keep(struct pp_pool *pool, uint64_t now_ms);
uint64_t health_keep(struct pp_pool *pool, uint64_t now_ms);
uint64_t wal_keep(struct pp_pool *pool, uint64_t now_ms);
/* What that has left in turn, without keep_mutex: it stands in the writers' line. */
void wal_turn(struct pp_pool *pool, enum wal_turn turn);
uint64_t pressure_keep(struct pp_pool *pool, uint64_t now_ms);
uint64_t turn_keep(struct pp_pool *pool, uint64_t now_ms);

/* The group or the machine is short of memory, or the pool is past its soft limit. Any thread. */
bool memory_is_short(struct pp_pool *pool);
/* Puts into words that a limit refused; PP_NOMEM where it was that, else status. By the holder. */
enum pp_status memory_explain(enum pp_status status, const struct account *account,
                              struct pp_error *error);
/* Makes a new connection's page cache fit into its part of the limits. */
enum pp_status cache_fit(struct connection *connection, struct pp_error *reterr_error);
/* Tests: a folder in which to look for /proc and /sys, before a pool is open. */
void pressure_root_set(const char *root);

/* Interrupt what runs on a lent slot, if it is still this lease's. Any thread. */
void watchdog_interrupt(struct pp_pool *pool, struct slot *slot, uint64_t generation,
                        const char *why);
void watchdog_interrupt_all(struct pp_pool *pool, const char *why);
/* The generation of a slot that is lent; 0: it is not. Any thread. */
uint64_t slot_lent(const struct slot *slot);
/* Bytes of the pool and its connections. */
uint64_t pool_bytes(struct pp_pool *pool);

void health_init(struct pp_pool *pool);
bool health_is_ours(const struct pp_pool *pool, const struct stat *file);
/* The file as it is now becomes the one that it should be. After opening; under keep_mutex. */
void health_note(struct pp_pool *pool);
/* It may soon be another one, and rightly. */
void health_forget_wal(struct pp_pool *pool);
/* A look at the file: PP_OK, or PP_FILE_CHANGED. Trips the pool, or has the keeper open it anew. A
 * stat() when all is well. The caller holds a slot or keep_mutex, and db, outside of a transaction:
 * it is asked where the file has become shorter. */
enum pp_status health_look(struct pp_pool *pool, sqlite3 *db, struct pp_error *reterr_error);
/* It has been, in this tick of the coarse clock, and was well. */
bool health_looked(const struct pp_pool *pool);
/* The same before a connection is opened: SQLite would open whatever is at the path now, beside
 * connections that have another file and its WAL open. */
enum pp_status health_before_open(struct pp_pool *pool, struct pp_error *reterr_error);
/* It has the pool's file and no other one, and may write where that may be written. Before anything
 * is done on it. */
enum pp_status health_after_open(struct pp_pool *pool, sqlite3 *db, struct pp_error *reterr_error);
/* Before the last connections are closed; the caller holds all slots. When the file at the path is
 * another one, they leave what is there alone but for the WAL of the old one. */
void health_part(struct pp_pool *pool);
/* The pool's own hand made the file so long (vfs.c). */
void health_shrunk(struct pp_pool *pool, uint64_t bytes);

/* SQLite's WAL hook: context is the pool. */
int wal_on_commit(void *context, sqlite3 *db, const char *name, int pages);
uint64_t wal_bytes(const struct pp_pool *pool);

/* --- turn.c: one process after the other --------------------------------------------------- */

void turn_open(struct pp_pool *pool);
void turn_close(struct pp_pool *pool);
/* Before BEGIN IMMEDIATE. false: not taken (no neighbours, no side-car file, or patience is over:
 * half of what is left until the deadline). BEGIN is to be tried all the same. */
bool turn_take(struct connection *connection);
/* After it, whether it began or not. */
void turn_give(struct connection *connection);

/* --- fork.c -------------------------------------------------------------------------------- */

/* The number of this process, 0 in a child that has not opened a pool. */
extern const uint64_t *process_number;
/* Before a pool is opened: notice a fork, give this process a number. */
void process_begin(void);
/* In a child, called by process_begin(): what threads of the parent may have held. */
void pool_after_fork(void);
void vfs_after_fork(void);
void statements_after_fork(void);

static inline bool pool_forked(const struct pp_pool *pool)
{
	return *(const volatile uint64_t *)process_number !=
	       atomic_load_explicit(&pool->process, memory_order_relaxed);
}

/* --- barrier.c ----------------------------------------------------------------------------- */

/* Others execute the fence. Constant from the first pp_open() of a process on. */
extern bool barrier_is_remote;
/* Before a pool is opened, and again in a child. */
void barrier_begin(void);
/* After a sequentially consistent store, before the load that must not go before it. */
void barrier_for_all(void);

/* By the holder, before it looks at the slot's fate: see barrier.c. */
static inline void generation_end(struct slot *slot, uint64_t generation)
{
	if (barrier_is_remote) {
		atomic_store_explicit(&slot->generation, generation, memory_order_release);
		atomic_signal_fence(memory_order_seq_cst);
	} else {
		atomic_store(&slot->generation, generation);
	}
}

/* --- histogram.c, event.c ------------------------------------------------------------------ */

void histogram_note(struct pp_pool *pool, enum pp_histogram_kind kind, uint64_t ns);
/* The highest value that is counted in a bucket, but for the last one, which has none. */
uint64_t histogram_bound_ns(unsigned bucket);
/* slot NULL: of the pool as a whole. Costs a comparison where nobody listens and no probe is on. */
void event_send(struct pp_pool *pool, enum pp_event_kind kind, struct slot *slot,
                const char *format, ...) __attribute__((format(printf, 4, 5)));
/* What this SQLite was built without, in words; the thread's until it asks again. Tests replace how
 * it is asked. */
const char *features_missing(void);
extern int (*compileoption_used)(const char *option);
/* What is known of a slot; any thread. */
void slot_describe(struct slot *slot, struct pp_connection *ret);

/* --- transaction.c ------------------------------------------------------------------------ */

/* The transactions this thread is inside of, innermost first. */
extern _Thread_local struct frame *transaction_frames __attribute__((tls_model("initial-exec")));
bool transaction_has_frame(const struct pp_pool *pool);

/* This thread is inside pp_transact() or pp_write() of this pool. */
static inline bool transaction_is_inside(const struct pp_pool *pool)
{
	return transaction_frames != NULL && transaction_has_frame(pool);
}

/* Why SQLite failed, if it was because the file is lost: in place of begin's look. */
enum pp_status transaction_explain(struct connection *connection, enum pp_status status,
                                   struct pp_error *error);
/* What pp_begin(), pp_commit() and pp_rollback() do. ends_here: who begins it also commits it, and
 * the commit looks at the file. */
enum pp_status transaction_begin(struct connection *connection, bool ends_here,
                                 struct pp_error *error);
enum pp_status transaction_commit(struct connection *connection, struct pp_error *error);
enum pp_status transaction_rollback(struct connection *connection, struct pp_error *error);
/* The transaction that was begun is over, whoever ended it. */
bool transaction_is_dead(struct connection *connection);
/* The callback, at the level that has just been begun. PP_OK: the level may be committed. PP_FORKED
 * also where the callback says so, of another pool: pool_forked() tells whether anything here is
 * still this process'. */
enum pp_status transaction_work(struct pp_lease *lease, pp_work *work, void *context,
                                struct pp_error *error);
/* Undo a level and what the callback left open in it. */
void transaction_undo(struct connection *connection, unsigned depth);
/* One attempt of pp_transact(), or of pp_write() as one of a group. */
typedef enum pp_status attempt_fn(struct pp_pool *pool, const struct pp_transaction *options,
                                  void *caller, pp_work *work, void *context,
                                  struct pp_error *error);
attempt_fn transaction_attempt;
/* What was asked for, with what zero means filled in. */
enum pp_status transaction_options(struct pp_pool *pool, const struct pp_transaction *given,
                                   const char *doing, struct pp_transaction *ret_options,
                                   struct pp_error *error);
/* All of pp_transact() but the first attempt, which is given. */
enum pp_status transaction_run(struct pp_pool *pool, const struct pp_transaction *options,
                               attempt_fn *first, void *caller, pp_work *work, void *context,
                               struct pp_error *reterr_error);

/* --- group.c, write.c: several writes in one commit ----------------------------------------- */

void group_init(struct group *group);
/* Wake who waits with this token, or (NULL) everybody, to look again. */
void group_wake(struct pp_pool *pool, const struct pp_token *token);
/* The writer in this slot is being replaced: who waits for its commit is let go, and somebody else
 * leads. */
void group_abandon(struct pp_pool *pool, const struct slot *slot);
/* Closing: let nobody in, and whoever waits leave; wait until all calls are over. */
void group_shut(struct pp_pool *pool);
void group_drain(struct pp_pool *pool);
/* Around a call that is in no line between two attempts: the closer waits for it. A pause ends when
 * the pool closes or the token is cancelled. */
void group_enter(struct pp_pool *pool);
void group_exit(struct pp_pool *pool);
unsigned group_inside(struct pp_pool *pool);
void group_pause(struct pp_pool *pool, uint64_t ns, const struct pp_token *token);
/* What is not as it should be, in words; NULL: nothing. */
const char *group_check(struct pp_pool *pool);

/* --- clock.c ------------------------------------------------------------------------------ */

uint64_t clock_ns(void);
uint64_t clock_coarse_ms(void); /* A few milliseconds behind, and a few nanoseconds to read. */
void clock_sleep_ns(uint64_t ns);
uint64_t deadline_ns(const struct pp_pool *pool, struct pp_deadline deadline);
/* The same deadline with its point in time filled in. */
struct pp_deadline deadline_fix(const struct pp_pool *pool, struct pp_deadline deadline);
static inline bool token_cancelled(const struct pp_token *token)
{
	return token != NULL && __atomic_load_n(&token->cancelled, __ATOMIC_SEQ_CST) != 0;
}
/* Tests: all clocks here go on by so much; of the second, who waits looks again. */
void clock_pass_ns(uint64_t ns);
void clock_travel_ms(uint64_t ms);
/* A pool of this process has this file. Any thread. */
bool file_is_pooled(const struct stat *file);
/* Calls for each pool that is open. */
void pools_visit(void (*visit)(struct pp_pool *pool, void *context), void *context);
/* Defaults in place of zeros; what is out of bounds is PP_INVALID. */
enum pp_status options_read(const struct pp_config *given, struct pp_config *ret_config,
                            struct pp_error *reterr_error);
/* Names the options in which two configurations differ; how the file is named is none. */
bool options_equal(const struct pp_config *a, const struct pp_config *b, char *ret_names,
                   size_t size);
/* The pool's file is this one now; false: it is another pool's. Under keep_mutex. */
bool registry_rename(struct pp_pool *pool, dev_t device, ino_t inode);
/* Waits on cond until deadline_ns (UINT64_MAX: for ever). */
void clock_wait(pthread_cond_t *cond, pthread_mutex_t *mutex, uint64_t deadline_ns);
/* Until the coarse clock shows until_ms; it may come back a little too early. */
void clock_wait_coarse(pthread_cond_t *cond, pthread_mutex_t *mutex, uint64_t until_ms);
/* false: the point in time passed first. */
bool clock_lock(pthread_mutex_t *mutex, uint64_t until_ns);
void clock_cond_init(pthread_cond_t *cond);
/* Sleeps while *word is value, until deadline_ns; may return sooner. Who changes the word wakes one
 * who sleeps on it: the word may be gone by then, it is not looked at. */
void clock_park(atomic_uint *word, unsigned value, uint64_t deadline_ns);
void clock_unpark(atomic_uint *word);

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
/* What is kept of an error behind another one. */
struct pp_cause error_cause(const struct pp_error *error);
/* Puts what is in *error behind a new one about to be written there. */
void error_chain(struct pp_error *error, const struct pp_error *cause);

#endif
