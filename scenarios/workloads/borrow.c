/* borrow.c - borrowers of any target, and a close in their midst. */
/* SPDX-License-Identifier: MIT */
#include "borrow.h"

#include <poolproof/harness/case.h>
#include <poolproof/harness/entropy.h>
#include <poolproof/harness/run.h>

#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { THREADS_MAX = 256, CLOSE_MS = 2000, DESCRIPTORS_MAX = 256 };

/* --- The database ------------------------------------------------------------------------- */

void borrow_create(struct harness_run *run, const char *path)
{
	sqlite3 *db;

	if (sqlite3_open(path, &db) != SQLITE_OK ||
	    sqlite3_exec(db, "PRAGMA synchronous=OFF; BEGIN", NULL, NULL, NULL) != SQLITE_OK ||
	    sqlite3_exec(db, harness_log_schema, NULL, NULL, NULL) != SQLITE_OK ||
	    sqlite3_exec(db, "COMMIT", NULL, NULL, NULL) != SQLITE_OK)
		harness_cannot(run, "%s: %s; is the disk full?", path, sqlite3_errmsg(db));
	sqlite3_close(db);
}

void borrow_remove(const char *path)
{
	static const char *const ends[] = { "", "-wal", "-shm", "-journal", "-turn" };
	char name[PATH_MAX + 16];

	for (unsigned i = 0; i < sizeof ends / sizeof *ends; i++) {
		snprintf(name, sizeof name, "%s%s", path, ends[i]);
		unlink(name);
	}
}

void borrow_examine(struct harness_run *run, const char *path, const struct harness_acks *acks,
                    struct harness_ack_sums *sums)
{
	struct harness_log_state state;
	sqlite3 *db;

	if (sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE, NULL) != SQLITE_OK) {
		harness_case_fail(run, "%s: %s", path, sqlite3_errmsg(db));
	} else {
		state = harness_log_read(db, true);
		if (state.rows < 0)
			harness_case_fail(run, "the log is not whole: %s", state.wrong);
		if (harness_acks_judge(run, path, acks, harness_log_has, db, sums) > 0)
			harness_case_fail(run, "what was acknowledged is not what is there");
	}
	sqlite3_close(db);
}

/* The harness opens and closes what is not there. */
void borrow_judge_descriptors(struct harness_run *run)
{
	const char *folder = harness_run_work(run);
	char name[64], path[PATH_MAX];
	unsigned count = 0;

	for (unsigned i = 0; i < DESCRIPTORS_MAX; i++) {
		ssize_t length;

		snprintf(name, sizeof name, "/proc/self/fd/%u", i);
		length = readlink(name, path, sizeof path - 1);
		path[length > 0 ? length : 0] = '\0';
		count += strncmp(path, folder, strlen(folder)) == 0;
	}
	if (count > 0)
		harness_case_fail(run, "closed, and %u descriptors of its files are open", count);
}

/* --- Borrowers ---------------------------------------------------------------------------- */

struct lending {
	struct harness_run *run;
	const struct harness_target *target;
	void *state;
	const struct borrow_close *what;
	struct harness_residue residue;
	atomic_bool closing;
};

struct borrower {
	struct lending *lending;
	unsigned thread, writes;
	struct harness_entropy entropy;
};

static void linger(struct borrower *b, int us_low, int us_high)
{
	int64_t us = harness_entropy_uniform(&b->entropy, us_low, us_high);

	nanosleep(&(struct timespec){ .tv_nsec = us * 1000 }, NULL);
}

/* Locks of others are no finding here, and an interruption is none at closing. */
static void touch(struct borrower *b, struct harness_connection *connection)
{
	struct lending *l = b->lending;
	struct harness_failure f = { 0 };

	if (l->target->query(connection, "SELECT max(rows) FROM harness_count", NULL, 0, NULL, NULL,
	                     &f) ||
	    f.kind == HARNESS_FAILURE_BUSY || (f.code & 0xff) == SQLITE_INTERRUPT)
		return;
	harness_case_fail(l->run,
	                  "a holder's connection does not answer%s: it was closed or freed under "
	                  "its holder (%s)",
	                  atomic_load(&l->closing) ? " while the target closes" : "", f.text);
}

static bool write_row(struct borrower *b, struct harness_connection *connection, unsigned n)
{
	const struct harness_target *target = b->lending->target;
	struct harness_value args[3] = { { .type = HARNESS_INTEGER, .integer = b->thread },
		                         { .type = HARNESS_INTEGER, .integer = n },
		                         { .type = HARNESS_INTEGER, .integer = 20 } };
	struct harness_failure f;
	bool well;

	if (!target->begin(connection, &f))
		return false;
	connection->depth = 1;
	well = target->query(connection, harness_log_insert, args, 3, NULL, NULL, &f) &&
	       target->query(connection, harness_log_count, NULL, 0, NULL, NULL, &f) &&
	       target->commit(connection, &f);
	if (!well)
		target->rollback(connection, &f);
	connection->depth = 0;
	return well;
}

static void use(struct borrower *b, struct harness_connection *connection)
{
	struct lending *l = b->lending;
	bool late = b->thread < l->what->late;

	if (connection->access == HARNESS_WRITE && b->writes < HARNESS_ACK_WRITES) {
		unsigned n = b->writes++;

		harness_acks_meant(l->what->acks, b->thread, n);
		harness_acks_ended(l->what->acks, b->thread, n, write_row(b, connection, n));
	}
	touch(b, connection);
	linger(b, 0, 1000);
	while (late && !atomic_load(&l->closing))
		linger(b, 0, 1000);
	if (late)
		linger(b, 10000, 60000);
	touch(b, connection);
}

static const void *identity(const struct lending *l, const struct harness_connection *connection)
{
	return l->what->identity != NULL ? l->what->identity(connection) : connection->handle;
}

static void borrow(struct borrower *b)
{
	static const unsigned ms[] = { 1, 50, 1000 };
	struct lending *l = b->lending;
	uint64_t patience = ms[harness_entropy_uniform(&b->entropy, 0, 2)] * UINT64_C(1000000);
	enum harness_access access =
		harness_entropy_uniform(&b->entropy, 0, 2) == 0 ? HARNESS_WRITE : HARNESS_READ;
	struct harness_connection connection = { 0 };
	struct harness_failure f;
	uint64_t asked = harness_now_ns();
	bool lent = l->target->lend(l->state, access, patience, &connection, &f);

	harness_deadline_judge(l->run, asked, patience, lent);
	harness_step(l->run);
	if (!lent)
		return;
	harness_hold(l->run, identity(l, &connection));
	use(b, &connection);
	harness_let_go(identity(l, &connection));
	l->target->give_back(l->state, &connection);
}

static void *borrow_for_long(void *context)
{
	struct borrower *b = context;

	for (unsigned n = 0; !atomic_load(&b->lending->closing); n++) {
		harness_entropy_init(&b->entropy, b->lending->what->seed, b->thread, n);
		borrow(b);
	}
	return NULL;
}

/* --- Closing ------------------------------------------------------------------------------ */

static void *close_target(void *context)
{
	struct lending *l = context;

	l->target->close(l->state, &l->residue);
	return NULL;
}

static void close_in_time(struct lending *l)
{
	struct timespec until;
	uint64_t ns = CLOSE_MS * UINT64_C(1000000) + harness_lateness_ns();
	pthread_t thread;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += (time_t)(ns / 1000000000) + 1;
	atomic_store(&l->closing, true);
	if (pthread_create(&thread, NULL, close_target, l) != 0)
		harness_cannot(l->run, "no more threads; raise the limit");
	if (pthread_timedjoin_np(thread, NULL, &until) == 0)
		return;
	harness_case_fail(
		l->run, "close is not back %d ms after the last connection was due back: it hangs",
		CLOSE_MS);
	pthread_join(thread, NULL);
}

static bool open_target(struct lending *l)
{
	struct harness_target_options options = harness_run_target_options(l->run, l->what->path);
	struct harness_failure f = { 0 };

	if (l->target->open(&options, &l->state, &f))
		return true;
	harness_case_fail(l->run, "%s could not open %s: %s", l->target->name, l->what->path,
	                  f.text);
	return false;
}

static void judge_residue(struct lending *l)
{
	if (l->residue.bytes + l->residue.connections > 0)
		harness_case_fail(l->run, "closing left %llu bytes, %llu connections: %s",
		                  (unsigned long long)l->residue.bytes,
		                  (unsigned long long)l->residue.connections, l->residue.text);
}

static void run_and_close(struct lending *l)
{
	static struct borrower borrowers[THREADS_MAX];
	static pthread_t threads[THREADS_MAX];
	unsigned count = harness_run_options(l->run)->threads;

	for (unsigned i = 0; i < count; i++) {
		borrowers[i] = (struct borrower){ .lending = l, .thread = i };
		if (pthread_create(&threads[i], NULL, borrow_for_long, &borrowers[i]) != 0)
			harness_cannot(l->run, "no more threads; raise the limit");
	}
	harness_target_show(l->run, l->state);
	nanosleep(&(struct timespec){ .tv_nsec = l->what->wait_us * 1000L }, NULL);
	harness_target_show(l->run, NULL);
	close_in_time(l);
	for (unsigned i = 0; i < count; i++)
		pthread_join(threads[i], NULL);
	judge_residue(l);
}

void borrow_close(struct harness_run *run, const struct borrow_close *what)
{
	struct lending l = { .run = run, .target = harness_run_target(run), .what = what };
	char text[1024];

	if (!open_target(&l))
		return;
	run_and_close(&l);
	if (!open_target(&l))
		return;
	if (l.target->check(l.state, text, sizeof text) != 0)
		harness_case_fail(run, "opened again, its invariants are violated: %s", text);
	l.target->close(l.state, &l.residue);
	judge_residue(&l);
}
