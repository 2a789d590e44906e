/* logbook_judge.c - whether a database is what some moment of the book left. */
/* SPDX-License-Identifier: MIT */
#include "workloads.h"

#include <poolproof/harness/run.h>

#include <stdio.h>
#include <string.h>

static const char rows_sql[] = "SELECT thread, n FROM harness_log ORDER BY id";

static bool rows_read(struct logbook *book, sqlite3 *db)
{
	sqlite3_stmt *stmt = NULL;
	int rc = sqlite3_prepare_v2(db, rows_sql, -1, &stmt, NULL);

	book->row_count = 0;
	while (rc == SQLITE_OK && book->row_count < LOGBOOK_ROWS &&
	       sqlite3_step(stmt) == SQLITE_ROW) {
		struct logbook_row *row = &book->rows[book->row_count++];

		*row = (struct logbook_row){
			.thread = (unsigned)sqlite3_column_int(stmt, 0) % HARNESS_ACK_THREADS,
			.n = (unsigned)sqlite3_column_int(stmt, 1) % HARNESS_ACK_WRITES,
			.acknowledged_at = SIZE_MAX,
		};
		row->continues = book->continuing[row->thread][row->n];
	}
	return sqlite3_finalize(stmt) == SQLITE_OK && rc == SQLITE_OK;
}

/* false: a mark's row is not as the mark says. */
static bool mark_settle(struct logbook *book, const struct harness_disk_mark *mark, size_t at)
{
	unsigned i = 0;

	while (i < book->row_count &&
	       (book->rows[i].thread != mark->thread || book->rows[i].n != mark->n))
		i++;
	if (i < book->row_count && book->rows[i].acknowledged_at > at)
		book->rows[i].acknowledged_at = at;
	book->acknowledged += mark->acknowledged;
	return (i < book->row_count) == mark->acknowledged;
}

bool logbook_settle(struct logbook *book, char *text, size_t size)
{
	struct harness_disk_mark mark;
	sqlite3 *db;
	bool well = sqlite3_open_v2(book->path, &db, SQLITE_OPEN_READWRITE, NULL) == SQLITE_OK &&
	            rows_read(book, db);

	if (!well)
		snprintf(text, size, "%s", sqlite3_errmsg(db));
	sqlite3_close(db);
	book->acknowledged = 0;
	for (size_t at = 0; well && at < harness_disk_length(book->disk); at++)
		if (harness_disk_mark_at(book->disk, at, &mark) && !mark_settle(book, &mark, at)) {
			snprintf(text, size, "write %u of thread %u was %s, and is%s there", mark.n,
			         mark.thread,
			         mark.acknowledged ? "acknowledged" : "reported as failed",
			         mark.acknowledged ? " not" : "");
			well = false;
		}
	return well;
}

/* Returns how many rows are as the book has them, from the first on. */
static unsigned compare(const struct logbook *book, sqlite3 *db, struct logbook_finding *finding)
{
	sqlite3_stmt *stmt = NULL;
	unsigned i = 0;

	sqlite3_prepare_v2(db, rows_sql, -1, &stmt, NULL);
	while (sqlite3_step(stmt) == SQLITE_ROW && !finding->phantom) {
		unsigned thread = (unsigned)sqlite3_column_int(stmt, 0),
			 n = (unsigned)sqlite3_column_int(stmt, 1);

		if (i < book->row_count && thread == book->rows[i].thread && n == book->rows[i].n) {
			i++;
			continue;
		}
		finding->phantom = finding->wrong = true;
		snprintf(finding->text, sizeof finding->text,
		         "row %u is write %u of thread %u, which was never committed there", i + 1,
		         n, thread);
	}
	sqlite3_finalize(stmt);
	return i;
}

static void rows_judge(const struct logbook *book, size_t place, struct logbook_finding *finding)
{
	unsigned last = 0;

	for (unsigned i = finding->rows; i < book->row_count; i++)
		if (book->rows[i].acknowledged_at < place) {
			finding->lost++;
			last = i;
		}
	if (finding->rows < book->row_count && book->rows[finding->rows].continues) {
		finding->wrong = true;
		snprintf(finding->text, sizeof finding->text,
		         "row %u is there without row %u of the same write", finding->rows,
		         finding->rows + 1);
	} else if (finding->lost > 0) {
		snprintf(finding->text, sizeof finding->text,
		         "%u acknowledged rows are lost, the last is write %u of thread %u",
		         finding->lost, book->rows[last].n, book->rows[last].thread);
	}
}

struct logbook_finding logbook_judge(const struct logbook *book, struct harness_image *image,
                                     size_t place)
{
	struct logbook_finding finding = { 0 };
	struct harness_log_state state;
	uint64_t start = harness_now_ns();
	sqlite3 *db;

	if (harness_image_open(image, strrchr(book->path, '/') + 1, &db) == SQLITE_OK &&
	    sqlite3_db_config(db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL) == SQLITE_OK)
		sqlite3_exec(db, "SELECT 1 FROM harness_log LIMIT 1", NULL, NULL, NULL);
	finding.recovery_ns = harness_now_ns() - start;
	state = harness_log_read(db, true);
	finding.wrong = state.rows < 0;
	snprintf(finding.text, sizeof finding.text, "%s", state.wrong);
	if (!finding.wrong)
		finding.rows = compare(book, db, &finding);
	if (!finding.wrong)
		rows_judge(book, place, &finding);
	sqlite3_close(db);
	return finding;
}
