/*
 * trial.h - one fault under the connections of a subject: which, what it is allowed to do, its
 * parts.
 *
 * Whatever here serves any target; what is told in which words is asked by trial->is_told.
 */
/* SPDX-License-Identifier: MIT */
#ifndef SCENARIOS_TRIAL_H
#define SCENARIOS_TRIAL_H

#include "subject.h"

/* Why a call has failed. */
enum trial_reason { TRIAL_LOCKED, TRIAL_LATE, TRIAL_UPGRADE, TRIAL_FILE_CHANGED };

/* What may be waited for is waited for so long. */
enum { TRIAL_LONG_MS = 3000 };

struct trial {
	struct subject subject;
	struct harness_entropy entropy;
	const struct fault *fault;
	bool wal;     /* Or a rollback journal. */
	bool ours;    /* The target is this project's pool: it keeps its own promises, too. */
	bool reopens; /* ... and opens anew by itself. */
	bool hit;     /* Somebody noticed. */
	char tag[64], copy[PATH_MAX + 8];
	/* Whether a failure of the calling thread says what it should; ours only. */
	bool (*is_told)(const struct trial *t, enum trial_reason reason,
	                const struct harness_failure *f);
	/* What is at the path now is to be served; nothing where that is the target's own affair.
	 */
	void (*reopen)(struct trial *t);
};

enum { IN_WAL = 1, IN_DELETE = 2, ALWAYS = IN_WAL | IN_DELETE };

struct fault {
	const char *name;
	void (*run)(struct trial *t);
	const char *what; /* Another process does that; see peer_start(). */
	/* Where its lock keeps a write, or a read, from being served. */
	unsigned no_writes, no_reads;
	void (*change)(struct trial *t); /* To the file. */
	bool in_transaction;             /* ... after a write, before its commit. */
	bool ours_only, wal_only;
	bool unnoticed;       /* Nobody need notice. */
	unsigned patience_ms; /* 0: the scenario's. */
	unsigned lease_max_ms;
};

/* Into the digest of what the case chose. */
int64_t trial_draw(struct trial *t, int64_t low, int64_t high);
/* From here on nobody is to be refused for his deadline: TRIAL_LONG_MS, times the slowness of the
 * variant. */
void trial_be_patient(struct trial *t);
/* All is right again since since_ns. */
void trial_serves(struct trial *t, uint64_t since_ns);
/* A write and a read; false: the write failed. */
bool trial_use(struct trial *t, struct harness_failure *f);
void trial_attempt_write(struct trial *t, bool blocked);

/* Of a struct fault, run: */
void trial_lock_held(struct trial *t);
void trial_lock_short(struct trial *t);   /* Nobody need notice. */
void trial_lock_stopped(struct trial *t); /* Its holder goes on later, or is killed. */
void trial_lock_upgrade(struct trial *t);
void trial_query_stuck(struct trial *t);
/* fault->change; another process may do fault->what in the old file meanwhile. The pool says that
 * it has noticed; of others it is asked only that they lose nothing. */
void trial_file_lost(struct trial *t);
/* Nobody promises to notice; but what is read is whole, or it is refused. */
void trial_file_damaged(struct trial *t);
/* Those that have it open go on; who is opened in the place of another one would find none, and the
 * pool says so. What is in it is not lost. */
void trial_wal_deleted(struct trial *t);

/* ... and change: */
void trial_file_delete(struct trial *t);
void trial_file_replace(struct trial *t); /* By t->copy. */
void trial_file_cut(struct trial *t);
void trial_file_make_read_only(struct trial *t);
void trial_file_damage(struct trial *t); /* fault->what: "header" or "page". */
/* From t->copy, where it still is. */
void trial_file_put_back(struct trial *t);

#endif
