/*
 * sweep_trial.h - one sequence of calls on a fresh database while something fails, and what is
 * judged.
 *
 *     trial_init(&t, run, &law, folder);
 *     t.sequence = &sequences[i];
 *     trial_run(&t, faults, 1);        // faults[0].hits says whether anything was hit
 *
 * A trial puts the same small database in place, opens the pool (sequences that open it themselves
 * do it while the fault is armed), arms, runs the sequence, disarms and proves: the pool writes and
 * reads, pp_check() is content, the close leaves no byte and no descriptor, and a plain handle
 * finds each write whole or not at all, as it was acknowledged. A target that is no pool of ours is
 * driven by the generic sequences and judged by the same database.
 *
 * A write is two rows of table pair with its number, so half a write is seen.
 *
 * Threads    One trial at a time, by the body's own thread.
 * Errors     What is wrong is told by harness_case_fail() and counted.
 */
/* SPDX-License-Identifier: MIT */
#ifndef SCENARIOS_WORKLOADS_TRIAL_H
#define SCENARIOS_WORKLOADS_TRIAL_H

#include <poolproof/harness/fault.h>
#include <poolproof/harness/load.h>
#include <poolproof/pool.h>

struct trial;

enum sequence_traits {
	SEQUENCE_OPENS = 1,   /* Opens and closes by itself, armed. */
	SEQUENCE_ARMS = 2,    /* Calls trial_arm() when it has prepared what it needs. */
	SEQUENCE_IO = 4,      /* Makes sense when system calls fail, too. */
	SEQUENCE_GENERIC = 8, /* Drives any target, by its table. */
	SEQUENCE_MEMDB = 16,  /* The database has no file. */
	SEQUENCE_FILES = 32,  /* Makes others beside the database. */
	SEQUENCE_HELPED = 64  /* Until it serves again pp_keep() or pp_reopen() may be needed. */
};

struct sequence {
	const char *name;
	const char *about;
	unsigned traits;
	void (*configure)(struct pp_config *config); /* NULL: as trials are. */
	void (*run)(struct trial *t);
};

/* What it took until the pool served again: nothing, a second attempt, pp_keep() half a minute
 * later, pp_reopen(). */
enum trial_recovery { TRIAL_AT_ONCE, TRIAL_AGAIN, TRIAL_KEPT, TRIAL_REOPENED, TRIAL_RECOVERIES };

/* What may come out when something fails. */
struct trial_law {
	/* Of the call in t->doing. status is not what is expected. */
	bool (*allows)(const struct trial *t, enum pp_status status, enum pp_status expected);
	bool late; /* A write that was reported as failed may be there, whole. */
	/* What may be needed until the pool serves again. */
	enum trial_recovery (*patience)(const struct trial *t);
};

enum trial_fate { TRIAL_UNDONE, TRIAL_THERE, TRIAL_EITHER };
enum { TRIAL_WRITES = 16, TRIAL_IMAGE = 65536 };

/* What the process holds that a trial must give back. */
struct trial_residue {
	int64_t bytes; /* Of SQLite's allocator. */
	uint64_t fds;  /* A bit each. */
};

struct trial_sums {
	uint64_t runs, hits, benign, wrong, nomem, lost_bytes, late;
	uint64_t recovered[TRIAL_RECOVERIES];
};

struct trial {
	struct harness_run *run;
	const struct trial_law *law;
	const struct sequence *sequence;
	bool wal;
	char path[512], copy_path[528], other_path[528];
	struct pp_pool *pool;         /* NULL: not open. */
	struct pp_error error;        /* For the next call; empty. */
	const char *doing;            /* The call that is judged. */
	struct harness_worker worker; /* Generic sequences' own. */
	struct harness_failure failure;

	struct harness_fault *faults;
	unsigned fault_count;
	bool armed, disturbed; /* disturbed: something was hit that may show. */
	bool goes_on; /* What comes after the sequence meets faults, too: a write and a read. */

	enum trial_fate fates[TRIAL_WRITES];
	unsigned write_count;
	unsigned wrong; /* In this trial. */
	struct trial_residue before;
	struct trial_sums sums;

	/* The database as each trial finds it: empty tables, in the journal mode. */
	unsigned char image[2][TRIAL_IMAGE];
	size_t image_size[2];
};

/* folder: for the databases. Ends the run when there is no room. */
void trial_init(struct trial *t, struct harness_run *run, const struct trial_law *law,
                const char *folder);
/* What is held now is nobody's fault. */
void trial_baseline(struct trial *t);
/* Removes the databases. */
void trial_done(struct trial *t);
/* Between harness_case_begin() and _end(). */
void trial_run(struct trial *t, struct harness_fault faults[], unsigned count);

/* --- For sequences ------------------------------------------------------------------------ */

void trial_arm(struct trial *t);
void trial_disarm(struct trial *t);

/* What came of a call that was given &t->error, of one that has no error, and of one that never
 * fails. True: as expected. */
bool trial_did(struct trial *t, const char *doing, enum pp_status status);
bool trial_did_as(struct trial *t, const char *doing, enum pp_status status,
                  enum pp_status expected);
bool trial_must(struct trial *t, const char *doing, enum pp_status status);
/* A statement of the borrower's own. */
bool trial_sql(struct trial *t, sqlite3 *db, const char *sql);
void trial_wrong(struct trial *t, const char *format, ...) __attribute__((format(printf, 2, 3)));
struct pp_config trial_config(const struct trial *t);

bool trial_acquire(struct trial *t, enum pp_lane lane, struct pp_lease *ret_lease);
void trial_release(struct trial *t, struct pp_lease *lease);
/* A write of its own: its number, to be settled when it is known what became of it. */
unsigned trial_write(struct trial *t);
/* Puts both rows of write n. */
enum pp_status trial_put(struct pp_lease *lease, unsigned n);
/* The same for pp_transact() and its like: context is the number. */
enum pp_status trial_put_work(struct pp_lease *lease, void *context);
void trial_settle(struct trial *t, unsigned n, enum pp_status status);
/* Counts the rows: what was acknowledged is there. */
bool trial_count(struct trial *t, struct pp_lease *lease);

#endif
