/*
 * poolproof/harness/target.h - what a scenario drives: a pool, or something used like one.
 *
 * A target is a table of functions. poolproof and raw sqlite3 are two (scenarios/targets/). Another
 * pool is a plug-in: a shared object that ends with
 *
 *     HARNESS_PLUGIN(my_target);
 *
 * and is driven by `poolproof run SCENARIO --target ./mine.so`. The harness calls a target, never
 * the other way round.
 *
 * Threads    setup, open, close, gauges, check: one thread at a time. The rest: any thread, each
 *            with a connection of its own.
 * Ownership  What open gives is the target's until close. A connection is the caller's from lend
 *            to give_back.
 * Errors     false, and then *reterr_failure says why. true leaves it untouched.
 */
/* SPDX-License-Identifier: MIT */
#ifndef POOLPROOF_HARNESS_TARGET_H
#define POOLPROOF_HARNESS_TARGET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum harness_access { HARNESS_READ, HARNESS_WRITE };

/* One list: what went wrong, and the counter under which a run books it. */
#define HARNESS_FAILURE_LIST(X)                                                      \
	X(HARNESS_FAILURE_TIMEOUT, "timeout")       /* no connection in time */      \
	X(HARNESS_FAILURE_OVERLOADED, "overloaded") /* refused at once */            \
	X(HARNESS_FAILURE_BUSY, "busy")             /* SQLITE_BUSY, SQLITE_LOCKED */ \
	X(HARNESS_FAILURE_SQL, "sql")               /* anything else SQLite said */  \
	X(HARNESS_FAILURE_OTHER, "other")

enum harness_failure_kind {
#define X(name, text) name,
	HARNESS_FAILURE_LIST(X)
#undef X
		HARNESS_FAILURE_KINDS
};

struct harness_failure {
	enum harness_failure_kind kind;
	int code;       /* SQLite's extended result code; 0 when SQLite was not involved. */
	char text[512]; /* One line, no newline. */
};

enum harness_value_type { HARNESS_NULL, HARNESS_INTEGER, HARNESS_REAL, HARNESS_TEXT };

struct harness_value {
	enum harness_value_type type;
	int64_t integer;
	double real;
	const char *text; /* NUL-terminated; for a row callback valid until it returns. */
};

/* A borrowed connection. handle is the target's own; the rest is what the harness keeps. */
struct harness_connection {
	void *handle;
	enum harness_access access;
	uint64_t lent_ns;  /* Monotonic time at which the lend returned. */
	uint64_t begun_ns; /* Monotonic time of the outermost begin; 0 outside a transaction. */
	unsigned depth;    /* Begins that have not ended. */
};

struct harness_target_options {
	const char *path;         /* Database file; exists. */
	unsigned threads;         /* How many threads will borrow at once. */
	unsigned readers;         /* Size of the read lane, where a target has lanes. */
	unsigned timeout_ms;      /* How long a borrower is willing to wait in all. */
	const char *synchronous;  /* "FULL" or "NORMAL". */
	const char *journal_mode; /* "WAL" or "DELETE". */
};

/* What a target can say of itself while it runs; all 0 where it cannot. */
struct harness_gauges {
	unsigned connections, leased, waiting;
	uint64_t pool_bytes;        /* Live bytes booked to the pool itself. */
	uint64_t connections_bytes; /* Live bytes booked to connections, all together. */
	uint64_t statements;        /* Statements open, all connections together. */
};

/* What is left after close. */
struct harness_residue {
	uint64_t bytes;       /* Booked to accounts that are closed, and still live. */
	uint64_t connections; /* Not closed: still lent, or zombies. */
	char text[256];       /* In words, where there is something; else empty. */
};

/* Called for each row; false stops the statement without an error. */
typedef bool harness_row_fn(void *context, const struct harness_value *columns, unsigned count);
/* Runs inside a transaction; false rolls it back. May be called more than once. */
typedef bool harness_body_fn(struct harness_connection *connection, void *context,
                             struct harness_failure *reterr_failure);
/* Receives a number by name, for run.json: "pool.repaired_count". */
typedef void harness_number_fn(void *context, const char *name, double value);

struct harness_target {
	const char *name;  /* "poolproof" */
	const char *about; /* One line for `--list-targets`. */
	/* Set in a scenario's list where the functions are in the plug-in of this name: what to
	 * install so that it is built and loads. */
	const char *package;

	/* Once in the process, before anything there calls SQLite: for what must be configured
	 * while it is not initialised, and what a program does once in its life; what it keeps is
	 * no leak of the run. Returns NULL, or what is lacking, in words: then the run cannot be
	 * done. May be NULL. */
	const char *(*setup)(void);
	bool (*open)(const struct harness_target_options *options, void **ret_target,
	             struct harness_failure *reterr_failure);
	/* Waits for what is lent, but not for ever. Accepts NULL. */
	void (*close)(void *target, struct harness_residue *ret_residue);

	bool (*lend)(void *target, enum harness_access access, uint64_t timeout_ns,
	             struct harness_connection *ret_connection,
	             struct harness_failure *reterr_failure);
	/* Whatever state the borrower left it in is the target's to mend. */
	void (*give_back)(void *target, struct harness_connection *connection);

	/* One statement, from its first step to its last; args in the order of SQLite's indexes. */
	bool (*query)(struct harness_connection *connection, const char *sql,
	              const struct harness_value *args, unsigned arg_count, harness_row_fn *on_row,
	              void *context, struct harness_failure *reterr_failure);
	bool (*begin)(struct harness_connection *connection,
	              struct harness_failure *reterr_failure);
	bool (*commit)(struct harness_connection *connection,
	               struct harness_failure *reterr_failure);
	bool (*rollback)(struct harness_connection *connection,
	                 struct harness_failure *reterr_failure);
	/* Borrow, begin, body, commit or roll back, give back; retried as the target sees fit.
	 * A body that returns false with kind HARNESS_FAILURE_OTHER and code 0 asked for a
	 * rollback. */
	bool (*transact)(void *target, enum harness_access access, uint64_t timeout_ns,
	                 harness_body_fn *body, void *context,
	                 struct harness_failure *reterr_failure);

	/* As transact on the write lane, for callers willing to share a commit; NULL: transact. */
	bool (*write)(void *target, uint64_t timeout_ns, harness_body_fn *body, void *context,
	              struct harness_failure *reterr_failure);

	void (*gauges)(void *target, struct harness_gauges *ret_gauges);
	/* Everything countable, by name; called once, before close. */
	void (*numbers)(void *target, harness_number_fn *emit, void *context);
	/* Recompute the invariants; says each mismatch in words. Returns how many. */
	unsigned (*check)(void *target, char *text, size_t text_size);
};

/* What a plug-in exports. The format is that of everything above: another one is refused. */
enum { HARNESS_PLUGIN_FORMAT = 2 };

struct harness_plugin {
	unsigned format;
	const struct harness_target *target;
};

#define HARNESS_PLUGIN(name)                               \
	extern const struct harness_plugin harness_plugin; \
	__attribute__((visibility("default")))             \
	const struct harness_plugin harness_plugin = { HARNESS_PLUGIN_FORMAT, &(name) }

#endif
