/*
 * poolproof/harness/script.h - transactions in pgbench's script language.
 *
 *     \set k random_zipfian(1, :records, 0.99)
 *     BEGIN;
 *     UPDATE account SET balance = balance - 1 WHERE id = :k;
 *     END;
 *
 * Threads    A script that is loaded is read only and may be run by any number of threads.
 * Ownership  harness_script_load() gives, harness_script_free() takes (NULL too).
 * Errors     Words in the form "file:line: what SQLite or the parser said".
 *
 * A :variable in SQL is bound as a parameter, so it may stand where SQLite takes a value, and
 * its text is never SQL. BEGIN, END, COMMIT and ROLLBACK go to the target's begin, commit and
 * rollback. A script whose statements all read borrows a reader, any other the writer; it does so
 * at its first SQL. The language is described in harness/SCRIPTS.md.
 */
/* SPDX-License-Identifier: MIT */
#ifndef POOLPROOF_HARNESS_SCRIPT_H
#define POOLPROOF_HARNESS_SCRIPT_H

#include <poolproof/harness/load.h>

struct sqlite3;
struct harness_script;

/* A variable that exists before the script's first line. Copied. */
struct harness_variable {
	const char *name;
	struct harness_value value;
};

/* Parses text (name stands for the file in errors) and prepares each statement on db, which must
 * hold the schema that the script will meet. DDL in the script is run inside a transaction that is
 * rolled back, so later statements may use what it makes. NULL on failure. */
struct harness_script *harness_script_parse(const char *name, const char *text, struct sqlite3 *db,
                                            const struct harness_variable *variables,
                                            unsigned variable_count, char *reterr_text,
                                            size_t text_size);
/* The same from a file. */
struct harness_script *harness_script_load(const char *path, struct sqlite3 *db,
                                           const struct harness_variable *variables,
                                           unsigned variable_count, char *reterr_text,
                                           size_t text_size);
void harness_script_free(struct harness_script *script);

enum harness_access harness_script_access(const struct harness_script *script);
/* The file's name without its folder, fit for harness_operation.name: what is not a letter, digit,
 * '_', '-' or '.' is '_'. */
const char *harness_script_name(const struct harness_script *script);

/* A harness_operation_fn: context is the script. :client_id is the worker's thread, :random_seed
 * and :default_seed (of hash() and permute()) are the run's seed; 0 when worker->run is NULL. */
bool harness_script_run(struct harness_worker *worker, void *context,
                        struct harness_failure *reterr_failure);

#endif
