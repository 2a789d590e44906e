/* workloads.h - what a scenario can put on a database of its own. */
/* SPDX-License-Identifier: MIT */
#ifndef SCENARIOS_WORKLOADS_H
#define SCENARIOS_WORKLOADS_H

#include <poolproof/harness/load.h>
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

#endif
