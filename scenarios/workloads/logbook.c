/*
 * logbook.c - the harness's log, written by threads through a target, with a disk that is recorded.
 *
 * What a write is depends on (seed, thread, index). Rows of one write stand beside each other in
 * the log, whoever shares its commit, so a disk that ends between them has half a write.
 */
/* SPDX-License-Identifier: MIT */
#include "workloads.h"

#include <poolproof/harness/entropy.h>

#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { SYNC_US = 200 }; /* In which other threads' writes come together. */
enum kind { PLAIN, GIVES_UP, ROLLS_BACK, CHECKPOINT };

struct writer {
	struct logbook *book;
	unsigned thread, n; /* The next row's. */
	unsigned refused;
};

struct writing {
	const struct logbook *book;
	enum kind kind;
	unsigned thread, n, rows;
	int64_t bytes[4];
};

static bool is_wal(const struct logbook *book)
{
	return strcmp(book->options.journal_mode, "WAL") == 0;
}

static uint64_t timeout_ns(const struct logbook *book)
{
	return (uint64_t)book->options.timeout_ms * 1000000;
}

static bool create(const struct logbook *book)
{
	char sql[128];
	sqlite3 *db;
	bool well;

	snprintf(sql, sizeof sql, "PRAGMA page_size=%u; PRAGMA journal_mode=%s", book->page_bytes,
	         book->options.journal_mode);
	well = sqlite3_open(book->path, &db) == SQLITE_OK &&
	       sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK &&
	       sqlite3_exec(db, harness_log_schema, NULL, NULL, NULL) == SQLITE_OK;
	return sqlite3_close(db) == SQLITE_OK && well;
}

/* --- Writing ------------------------------------------------------------------------------ */

static bool query(const struct writing *w, struct harness_connection *c, const char *sql,
                  const struct harness_value *args, unsigned count, struct harness_failure *f)
{
	return w->book->target->query(c, sql, args, count, NULL, NULL, f);
}

static bool write_rows(struct harness_connection *c, void *context, struct harness_failure *f)
{
	/* The last row once more: SQLite rolls back all of it, the group too. */
	static const char again[] = "INSERT OR ROLLBACK INTO harness_log SELECT * FROM harness_log "
				    "ORDER BY id DESC LIMIT 1";
	const struct writing *w = context;

	for (unsigned i = 0; i < w->rows; i++) {
		struct harness_value args[] = {
			{ .type = HARNESS_INTEGER, .integer = w->thread },
			{ .type = HARNESS_INTEGER, .integer = w->n + i },
			{ .type = HARNESS_INTEGER, .integer = w->bytes[i] },
		};

		if (!query(w, c, harness_log_insert, args, 3, f) ||
		    !query(w, c, harness_log_count, NULL, 0, f))
			return false;
	}
	if (w->kind == PLAIN)
		return true;
	if (w->kind == ROLLS_BACK && !query(w, c, again, NULL, 0, f))
		return false;
	*f = (struct harness_failure){ .kind = HARNESS_FAILURE_OTHER, .text = "gives up" };
	return false;
}

static bool write_by(const struct logbook *book, struct writing *w, struct harness_failure *f)
{
	const struct harness_target *target = book->target;

	if (target->write != NULL)
		return target->write(book->state, timeout_ns(book), write_rows, w, f);
	return target->transact(book->state, HARNESS_WRITE, timeout_ns(book), write_rows, w, f);
}

static int64_t draw_bytes(struct harness_entropy *e)
{
	static const int64_t most[] = { 60, 60, 400, 1200, 5000 };

	return harness_entropy_uniform(e, 1, most[harness_entropy_uniform(e, 0, 4)]);
}

static enum kind draw_kind(const struct logbook *book, struct harness_entropy *e)
{
	int64_t of_100 = harness_entropy_uniform(e, 0, 99);

	if (of_100 < 14 && is_wal(book))
		return CHECKPOINT;
	return of_100 < 20 ? GIVES_UP : of_100 < 26 ? ROLLS_BACK : PLAIN;
}

static void checkpoint(const struct logbook *book, struct harness_entropy *e)
{
	static const char *const modes[] = { "PRAGMA wal_checkpoint(PASSIVE)",
		                             "PRAGMA wal_checkpoint(RESTART)",
		                             "PRAGMA wal_checkpoint(TRUNCATE)" };
	const char *sql = modes[harness_entropy_uniform(e, 0, 2)];
	bool upkeep = harness_entropy_uniform(e, 0, 2) == 0;
	struct harness_connection c = { 0 };
	struct harness_failure f;

	if (upkeep && book->upkeep != NULL) {
		book->upkeep(book->target, book->state);
	} else if (book->target->lend(book->state, HARNESS_WRITE, timeout_ns(book), &c, &f)) {
		book->target->query(&c, sql, NULL, 0, NULL, NULL, &f);
		book->target->give_back(book->state, &c);
	}
}

static void write_one(struct writer *writer, struct harness_entropy *e)
{
	static const unsigned rows[] = { 1, 1, 1, 2, 4 };
	struct logbook *book = writer->book;
	struct writing w = { .book = book, .thread = writer->thread, .n = writer->n };
	struct harness_failure f = { 0 };
	bool well;

	w.kind = draw_kind(book, e);
	if (w.kind == CHECKPOINT) {
		checkpoint(book, e);
		return;
	}
	w.rows = rows[harness_entropy_uniform(e, 0, 4)];
	for (unsigned i = 0; i < w.rows; i++) {
		w.bytes[i] = draw_bytes(e);
		book->continuing[w.thread][w.n + i] = i > 0;
	}
	well = write_by(book, &w, &f);
	for (unsigned i = 0; i < w.rows; i++)
		harness_disk_mark(book->disk, w.thread, w.n + i, well);
	writer->n += w.rows;
	writer->refused += !well && w.kind == PLAIN;
}

static void *write_all(void *context)
{
	struct writer *writer = context;
	struct harness_entropy e;

	for (unsigned i = 0; i < writer->book->writes; i++) {
		harness_entropy_init(&e, writer->book->seed, writer->thread, i);
		write_one(writer, &e);
		harness_step(writer->book->run);
	}
	return NULL;
}

static bool fill(struct logbook *book)
{
	static struct writer writers[HARNESS_ACK_THREADS];
	static pthread_t threads[HARNESS_ACK_THREADS];
	unsigned started = 0;

	for (unsigned i = 0; i < book->options.threads; i++)
		writers[i] = (struct writer){ .book = book, .thread = i };
	book->refused = 0;
	if (book->options.threads == 1)
		write_all(&writers[0]);
	else
		while (started < book->options.threads &&
		       pthread_create(&threads[started], NULL, write_all, &writers[started]) == 0)
			started++;
	for (unsigned i = 0; i < started; i++)
		pthread_join(threads[i], NULL);
	for (unsigned i = 0; i < book->options.threads; i++)
		book->refused += writers[i].refused;
	return book->options.threads == 1 || started == book->options.threads;
}

/* --- Recording ---------------------------------------------------------------------------- */

static void folder_empty(const char *path)
{
	static const char *const ends[] = { "", "-wal", "-shm", "-journal", "-turn" };
	char name[PATH_MAX];

	for (unsigned i = 0; i < sizeof ends / sizeof *ends; i++) {
		snprintf(name, sizeof name, "%s%s", path, ends[i]);
		unlink(name);
	}
}

static void say(char *text, size_t size, const char *what)
{
	snprintf(text, size, "%s", what);
}

static enum logbook_end record(struct logbook *book, char *text, size_t size)
{
	struct harness_residue residue = { 0 };
	struct harness_failure f = { 0 };
	bool filled;

	if (!book->open(book->target, &book->options, &book->state, &f)) {
		say(text, size, f.text);
		return LOGBOOK_WRONG;
	}
	harness_target_show(book->run, book->state);
	filled = fill(book);
	harness_target_show(book->run, NULL);
	book->target->close(book->state, &residue);
	if (!filled) {
		say(text, size, "no thread could be started; raise the limit on processes");
		return LOGBOOK_CANNOT;
	}
	if (residue.bytes + residue.connections > 0) {
		say(text, size, residue.text);
		return LOGBOOK_WRONG;
	}
	return LOGBOOK_WELL;
}

enum logbook_end logbook_record(struct logbook *book, char *text, size_t size)
{
	enum logbook_end end;

	/* The salts of a WAL and the nonces of a journal, too. */
	sqlite3_test_control(SQLITE_TESTCTRL_PRNG_SEED, (int)(book->seed | 1), NULL);
	folder_empty(book->path);
	if (!create(book) || !harness_disk_begin(book->disk, book->folder,
	                                         book->options.threads > 1 ? SYNC_US : 0)) {
		say(text, size, "the database cannot be written; is the disk full?");
		return LOGBOOK_CANNOT;
	}
	end = record(book, text, size);
	harness_disk_end(book->disk);
	if (end == LOGBOOK_WELL && harness_disk_overflowed(book->disk)) {
		say(text, size, "the recording has no room; fewer --threads");
		return LOGBOOK_CANNOT;
	}
	return end == LOGBOOK_WELL && !logbook_settle(book, text, size) ? LOGBOOK_WRONG : end;
}
