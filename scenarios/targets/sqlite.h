/* sqlite.h - what targets over plain sqlite3 handles have in common. */
/* SPDX-License-Identifier: MIT */
#ifndef SCENARIOS_TARGETS_SQLITE_H
#define SCENARIOS_TARGETS_SQLITE_H

#include <poolproof/harness/target.h>

#include <sqlite3.h>

/* What SQLite says on db, as a failure; returns false, so that one can return it. */
bool sqlite_failed(sqlite3 *db, struct harness_failure *reterr_failure);
/* Binds args, steps to the end, hands on the rows. Leaves the statement reset. */
bool sqlite_run(sqlite3_stmt *stmt, const struct harness_value *args, unsigned arg_count,
                harness_row_fn *on_row, void *context, struct harness_failure *reterr_failure);

#endif
