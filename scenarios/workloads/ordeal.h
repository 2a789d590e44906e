/*
 * ordeal.h - one fault under the connections of a subject: which, what it is allowed to do, its
 * parts.
 *
 * Whatever here serves any target; what is told in which words is asked by ordeal->is_told.
 */
/* SPDX-License-Identifier: MIT */
#ifndef SCENARIOS_WORKLOADS_ORDEAL_H
#define SCENARIOS_WORKLOADS_ORDEAL_H

#include "subject.h"

/* Why a call has failed. */
enum ordeal_reason { ORDEAL_LOCKED, ORDEAL_LATE, ORDEAL_UPGRADE, ORDEAL_FILE_CHANGED };

/* What may be waited for is waited for so long. */
enum { ORDEAL_LONG_MS = 3000 };

struct ordeal {
	struct subject subject;
	struct harness_entropy entropy;
	const struct fault *fault;
	bool wal;     /* Or a rollback journal. */
	bool ours;    /* The target is this project's pool: it keeps its own promises, too. */
	bool reopens; /* ... and opens anew by itself. */
	bool hit;     /* Somebody noticed. */
	char tag[64], copy[PATH_MAX + 8];
	/* Whether a failure of the calling thread says what it should; ours only. */
	bool (*is_told)(const struct ordeal *t, enum ordeal_reason reason,
	                const struct harness_failure *f);
	/* What is at the path now is to be served; nothing where that is the target's own affair.
	 */
	void (*reopen)(struct ordeal *t);
};

enum { IN_WAL = 1, IN_DELETE = 2, ALWAYS = IN_WAL | IN_DELETE };

struct fault {
	const char *name;
	void (*run)(struct ordeal *t);
	const char *what; /* Another process does that; see peer_start(). */
	/* Where its lock keeps a write, or a read, from being served. */
	unsigned no_writes, no_reads;
	void (*change)(struct ordeal *t); /* To the file. */
	bool in_transaction;              /* ... after a write, before its commit. */
	bool ours_only, wal_only;
	bool unnoticed;       /* Nobody need notice. */
	unsigned patience_ms; /* 0: the scenario's. */
	unsigned lease_max_ms;
};

/* Into the digest of what the case chose. */
int64_t ordeal_draw(struct ordeal *t, int64_t low, int64_t high);
/* From here on nobody is to be refused for his deadline: ORDEAL_LONG_MS, times the slowness of the
 * variant. */
void ordeal_be_patient(struct ordeal *t);
/* All is right again since since_ns. */
void ordeal_serves(struct ordeal *t, uint64_t since_ns);
/* A write and a read; false: the write failed. */
bool ordeal_use(struct ordeal *t, struct harness_failure *f);
void ordeal_attempt_write(struct ordeal *t, bool blocked);

/* Of a struct fault, run: */
void ordeal_lock_held(struct ordeal *t);
void ordeal_lock_short(struct ordeal *t);   /* Nobody need notice. */
void ordeal_lock_stopped(struct ordeal *t); /* Its holder goes on later, or is killed. */
void ordeal_lock_upgrade(struct ordeal *t);
void ordeal_query_stuck(struct ordeal *t);
/* fault->change; another process may do fault->what in the old file meanwhile. The pool says that
 * it has noticed, and leaves nothing of the old file beside the new one that a crash would bring
 * into it; of others it is asked only that they lose nothing. */
void ordeal_file_lost(struct ordeal *t);
/* Nobody promises to notice; but what is read is whole, or it is refused. */
void ordeal_file_damaged(struct ordeal *t);
/* Those that have it open go on; who is opened in the place of another one would find none, and the
 * pool says so. What is in it is not lost. */
void ordeal_wal_deleted(struct ordeal *t);

/* ... and change: */
void ordeal_file_delete(struct ordeal *t);
void ordeal_file_replace(struct ordeal *t); /* By t->copy. */
void ordeal_file_cut(struct ordeal *t);
void ordeal_file_make_read_only(struct ordeal *t);
void ordeal_file_damage(struct ordeal *t); /* fault->what: "header" or "page". */
/* From t->copy, where it still is. */
void ordeal_file_put_back(struct ordeal *t);

#endif
