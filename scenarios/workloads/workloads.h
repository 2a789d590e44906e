/* workloads.h - what a scenario can put on a database of its own. */
/* SPDX-License-Identifier: MIT */
#ifndef SCENARIOS_WORKLOADS_H
#define SCENARIOS_WORKLOADS_H

#include <poolproof/harness/disk.h>
#include <poolproof/harness/load.h>
#include <poolproof/harness/oracle.h>
#include <poolproof/harness/run.h>
#include <poolproof/harness/script.h>

struct sqlite3;

/*
 * YCSB (Cooper et al., SoCC 2010): one table of records with ten fields of 100 bytes, keys by a
 * scrambled Zipfian distribution of parameter 0.99. Mixes by letter:
 * a: 50 % reads, 50 % updates. b: 95/5. c: reads only. f: 50 % reads, 50 % read-modify-write.
 */
bool ycsb_create(struct sqlite3 *db, int64_t records);

enum { YCSB_OPERATIONS = 3 };

struct ycsb {
	struct harness_script *scripts[YCSB_OPERATIONS]; /* read, update, read-modify-write */
};

/* false: a script does not fit db; the text says why. */
bool ycsb_load(struct ycsb *ycsb, struct sqlite3 *db, int64_t records, char *reterr_text,
               size_t text_size);
void ycsb_free(struct ycsb *ycsb);
/* The operations of a mix, YCSB_OPERATIONS of them; false: there is no such letter. */
bool ycsb_mix(const struct ycsb *ycsb, char letter, struct harness_operation *ret_operations);

/*
 * A ledger whose sum never changes: transfers, transfers that are given up half-way, borrowers
 * who forget to end their transaction, and audits that add everything up.
 */
enum { LEDGER_OPERATIONS = 4, LEDGER_ACCOUNTS = 100, LEDGER_SUM = LEDGER_ACCOUNTS * 1000 };

bool ledger_create(struct sqlite3 *db);
void ledger_operations(struct harness_operation *ret_operations);
/* What the accounts add up to; INT64_MIN when they cannot be read. */
int64_t ledger_sum(struct sqlite3 *db);

/*
 * The log of harness/oracle.h, filled through a target while its disk is recorded, and what it must
 * be like on every disk that is left: the same rows in the same order, from the first to some row
 * that is not inside a write. Some writes have several rows, some give up, some roll back
 * everything; between them the WAL is checkpointed. One thread does the same for the same seed.
 */
enum { LOGBOOK_ROWS = 16384 };

struct logbook {
	struct harness_run *run;
	const struct harness_target *target;
	struct harness_disk *disk;
	char folder[3072], path[3584]; /* path: in folder. */
	unsigned page_bytes;
	uint64_t seed;
	unsigned writes;                       /* Of each thread. */
	struct harness_target_options options; /* path, threads and journal_mode, too. */
	/* Opens target. NULL: target's own. And in place of a checkpoint by SQL, now and then. */
	bool (*open)(const struct harness_target *target,
	             const struct harness_target_options *options, void **ret_target,
	             struct harness_failure *reterr_failure);
	void (*upkeep)(const struct harness_target *target, void *state);

	/* What became of it. */
	void *state;
	unsigned row_count, acknowledged, refused; /* refused: without having been asked to fail. */
	struct logbook_row {
		unsigned thread, n;
		size_t acknowledged_at; /* Place in disk. SIZE_MAX: it was not. */
		bool continues;         /* The write of the row before it. */
	} rows[LOGBOOK_ROWS];
	/* By thread and n; each thread writes its own. */
	bool continuing[HARNESS_ACK_THREADS][HARNESS_ACK_WRITES];
};

enum logbook_end {
	LOGBOOK_WELL,
	LOGBOOK_WRONG, /* Something was not as it has to be, without power loss. */
	LOGBOOK_CANNOT /* It cannot be done here. */
};
/* Makes an empty log, records what the target does with it, closes, and reads what there is. Not
 * well: text says why, in a line. */
enum logbook_end logbook_record(struct logbook *book, char *text, size_t text_size);
/* The end of it: the rows, and when each was acknowledged. false: one that was is not there. */
bool logbook_settle(struct logbook *book, char *text, size_t text_size);

struct logbook_finding {
	bool wrong, phantom; /* phantom: a row that is not in the book, or not there. */
	unsigned rows,
		lost; /* lost: rows that were acknowledged before place, and are not there. */
	uint64_t recovery_ns; /* To open it and read a first row. */
	char text[200];       /* What is wrong or lost. */
};
/* The disk as it was left when the power went at this place. It is changed by the recovery, but not
 * checkpointed. */
struct logbook_finding logbook_judge(const struct logbook *book, struct harness_image *image,
                                     size_t place);

#endif
