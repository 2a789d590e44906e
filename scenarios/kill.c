/*
 * kill - a process that writes is killed in the middle, again and again.
 *
 * Question   Is every write there that was acknowledged, and none that was reported as failed?
 * Load       A second process, which is this program once more, writes by pp_write() from --threads
 *            threads, a row each time; some callbacks fail, some roll back their whole group. It is
 *            killed (SIGKILL) after a random number of writes, --kills times on one database. In
 *            memory that the two share it notes each write before it begins and what became of it.
 * Passes     when after every kill each write that was acknowledged is in the file, each that
 * failed is not, and the file is sound.
 */
/* SPDX-License-Identifier: MIT */
#include "targets/targets.h"

#include <poolproof/harness/entropy.h>
#include <poolproof/harness/run.h>
#include <poolproof/pool.h>

#include <argp.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { KEY_KILLS = 0x1000, KILLS_MAX = 100000 };
enum { THREADS_MAX = 256, WRITES_MAX = 4096, AFTER_MAX = 500 };
enum fate { UNBORN, MEANT, ACKNOWLEDGED, FAILED };

static const struct argp_option options[] = {
	{ "kills", KEY_KILLS, "N", 0, "How often (500)", 0 },
	{ 0 },
};

/* Each write has one writer; what is in it when the process dies is what that knew. */
struct notes {
	unsigned threads, round;
	bool any_thread, full, wal;
	atomic_uint ended; /* Writes, well or not. */
	atomic_uchar fates[THREADS_MAX][WRITES_MAX];
};

static unsigned kills = 500;

static const char *option(int key, const char *value)
{
	char *end;
	unsigned long n = strtoul(value, &end, 10);

	if (key != KEY_KILLS)
		return NULL;
	if (*end != '\0' || n == 0 || n > KILLS_MAX)
		return "must be 1..100000";
	kills = (unsigned)n;
	return NULL;
}

/* --- The victim --------------------------------------------------------------------------- */

struct writer {
	struct pp_pool *pool;
	struct notes *notes;
	unsigned thread, n;
};

/* Never twice in all rounds. */
static int64_t id_of(const struct notes *notes, unsigned thread, unsigned n)
{
	return ((int64_t)notes->round * THREADS_MAX + thread) * WRITES_MAX + n + 1;
}

static enum pp_status write_row(struct pp_lease *lease, void *context)
{
	const struct writer *w = context;
	const char *again = "INSERT OR ROLLBACK INTO writes VALUES (?1)";
	sqlite3_stmt *stmt;

	for (unsigned times = w->n % 32 == 3 ? 2 : 1; times > 0; times--) {
		const char *sql =
			times == 1 && w->n % 32 == 3 ? again : "INSERT INTO writes VALUES (?1)";

		if (pp_prepare(lease, sql, &stmt, NULL) != PP_OK)
			return PP_SQLITE;
		sqlite3_bind_int64(stmt, 1, id_of(w->notes, w->thread, w->n));
		if (sqlite3_step(stmt) != SQLITE_DONE)
			return PP_SQLITE;
	}
	return w->n % 16 == 7 ? PP_ABORTED : PP_OK;
}

static void *write_for_ever(void *context)
{
	struct writer *w = context;
	struct pp_transaction how = { .any_thread = w->notes->any_thread, .deadline = PP_FOREVER };

	for (w->n = 0; w->n < WRITES_MAX; w->n++) {
		atomic_uchar *fate = &w->notes->fates[w->thread][w->n];

		atomic_store(fate, MEANT);
		atomic_store(fate, pp_write(w->pool, &how, write_row, w, NULL, NULL) == PP_OK
		                           ? ACKNOWLEDGED
		                           : FAILED);
		atomic_fetch_add(&w->notes->ended, 1);
	}
	return NULL;
}

static struct notes *notes_map(const char *path)
{
	int file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	struct notes *notes = MAP_FAILED;

	if (file >= 0 && ftruncate(file, sizeof *notes) == 0)
		notes = mmap(NULL, sizeof *notes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	if (file >= 0)
		close(file);
	return notes == MAP_FAILED ? NULL : notes;
}

static int be_the_victim(const char *notes_path, const char *path)
{
	static struct writer writers[THREADS_MAX];
	struct notes *notes = notes_map(notes_path);
	struct pp_pool *pool;
	pthread_t thread;

	if (notes == NULL)
		return 1;
	if (pp_open(&(struct pp_config){ .path = path,
	                                 .readers = 1,
	                                 .journal = notes->wal ? PP_JOURNAL_WAL : PP_JOURNAL_DELETE,
	                                 .synchronous = notes->full ? PP_SYNCHRONOUS_FULL
	                                                            : PP_SYNCHRONOUS_NORMAL },
	            &pool, NULL) != PP_OK)
		return 1;
	for (unsigned i = 0; i < notes->threads; i++) {
		writers[i] = (struct writer){ pool, notes, i, 0 };
		if (pthread_create(&thread, NULL, write_for_ever, &writers[i]) != 0)
			return 1;
	}
	for (;;)
		pause();
}

/* --- The killer --------------------------------------------------------------------------- */

static pid_t start_victim(struct harness_run *run, const char *notes_path, const char *path)
{
	char self[PATH_MAX] = "";
	const char *words[] = { self, "--victim", notes_path, path, NULL };
	pid_t child;
	int rc;

	if (readlink("/proc/self/exe", self, sizeof self - 1) < 0)
		harness_cannot(run, "/proc/self/exe: %s; mount /proc", strerror(errno));
	rc = posix_spawn(&child, self, NULL, NULL, (char **)(uintptr_t)words, environ);
	if (rc != 0)
		harness_cannot(run, "%s: %s; raise the limit on processes", self, strerror(rc));
	return child;
}

/* After so many writes; false: it died by itself. */
static bool kill_after(pid_t child, const struct notes *notes, unsigned writes)
{
	int status;

	while (atomic_load(&notes->ended) < writes) {
		if (waitpid(child, &status, WNOHANG) != 0)
			return false;
		nanosleep(&(struct timespec){ .tv_nsec = 50000 }, NULL);
	}
	kill(child, SIGKILL);
	waitpid(child, &status, 0);
	return WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
}

struct sums {
	uint64_t acknowledged, failed, unknown, lost, phantoms;
};

static void look_up(struct harness_run *run, sqlite3_stmt *stmt, const struct notes *notes,
                    struct sums *sums)
{
	for (unsigned t = 0; t < notes->threads; t++)
		for (unsigned n = 0; n < WRITES_MAX && notes->fates[t][n] != UNBORN; n++) {
			unsigned fate = notes->fates[t][n];
			bool there;

			sqlite3_bind_int64(stmt, 1, id_of(notes, t, n));
			there = sqlite3_step(stmt) == SQLITE_ROW;
			sqlite3_reset(stmt);
			sums->acknowledged += fate == ACKNOWLEDGED;
			sums->failed += fate == FAILED;
			sums->unknown += fate == MEANT;
			sums->lost += fate == ACKNOWLEDGED && !there;
			sums->phantoms += fate == FAILED && there;
			if (fate == (there ? FAILED : ACKNOWLEDGED))
				harness_fail(run, "kill %u, thread %u: write %u was %s and is %s",
				             notes->round, t, n,
				             there ? "reported as failed" : "acknowledged",
				             there ? "there" : "lost");
		}
}

/* With a plain handle, which recovers what the victim left. */
static void examine(struct harness_run *run, const char *path, const struct notes *notes,
                    struct sums *sums)
{
	sqlite3_stmt *stmt = NULL, *check = NULL;
	sqlite3 *db;

	if (sqlite3_open(path, &db) != SQLITE_OK ||
	    sqlite3_prepare_v2(db, "SELECT 1 FROM writes WHERE id = ?1", -1, &stmt, NULL) !=
	            SQLITE_OK ||
	    sqlite3_prepare_v2(db, "PRAGMA quick_check", -1, &check, NULL) != SQLITE_OK)
		harness_fail(run, "kill %u: %s", notes->round, sqlite3_errmsg(db));
	else if (sqlite3_step(check) != SQLITE_ROW ||
	         strcmp((const char *)sqlite3_column_text(check, 0), "ok") != 0)
		harness_fail(run, "kill %u: the file is not sound", notes->round);
	else
		look_up(run, stmt, notes, sums);
	sqlite3_finalize(check);
	sqlite3_finalize(stmt);
	sqlite3_close(db);
}

static void kill_one(struct harness_run *run, unsigned round, unsigned after, struct sums *sums)
{
	const struct harness_options *o = harness_run_options(run);
	char path[PATH_MAX], notes_path[PATH_MAX];
	struct notes *notes;

	snprintf(path, sizeof path, "%s/writes.db", harness_run_work(run));
	snprintf(notes_path, sizeof notes_path, "%s/notes", harness_run_work(run));
	unlink(notes_path);
	notes = notes_map(notes_path);
	if (notes == NULL)
		harness_cannot(run, "%s: %s; is the disk full?", notes_path, strerror(errno));
	notes->threads = o->threads;
	notes->round = round;
	notes->any_thread = round % 2 == 1;
	notes->full = strcmp(o->synchronous, "FULL") == 0;
	notes->wal = strcmp(o->journal_mode, "WAL") == 0;
	if (!kill_after(start_victim(run, notes_path, path), notes, after))
		harness_fail(run, "kill %u: the victim ended by itself", round);
	examine(run, path, notes, sums);
	munmap(notes, sizeof *notes);
}

static void body(struct harness_run *run)
{
	struct harness_entropy entropy;
	struct sums sums = { 0 };
	char path[PATH_MAX];
	sqlite3 *db;

	snprintf(path, sizeof path, "%s/writes.db", harness_run_work(run));
	if (sqlite3_open(path, &db) != SQLITE_OK ||
	    sqlite3_exec(db, "CREATE TABLE writes(id INTEGER PRIMARY KEY)", NULL, NULL, NULL) !=
	            SQLITE_OK)
		harness_cannot(run, "%s: %s; is the disk full?", path, sqlite3_errmsg(db));
	sqlite3_close(db);
	harness_entropy_init(&entropy, harness_run_options(run)->seed, 0, 0);
	for (unsigned round = 0; round < kills; round++)
		kill_one(run, round, (unsigned)harness_entropy_uniform(&entropy, 0, AFTER_MAX),
		         &sums);
	harness_number(run, "kills_count", kills);
	harness_number(run, "writes.acknowledged_count", (double)sums.acknowledged);
	harness_number(run, "writes.failed_count", (double)sums.failed);
	harness_number(run, "writes.unknown_count", (double)sums.unknown);
	harness_number(run, "writes.lost_count", (double)sums.lost);
	harness_number(run, "writes.phantoms_count", (double)sums.phantoms);
}

static const struct harness_scenario scenario = {
	.name = "kill",
	.question =
		"Is every write there that was acknowledged, and none that was reported as failed, "
		"when the process is killed?",
	.load = "pp_write() from --threads threads of a process that is killed --kills times",
	.passes =
		"after each kill every acknowledged write is there, none that failed, the file is "
		"sound",
	.options = options,
	.option = option,
	.body = body,
};

int main(int argc, char **argv)
{
	static const struct harness_target *const targets[] = { &target_poolproof, NULL };

	if (argc == 4 && strcmp(argv[1], "--victim") == 0)
		return be_the_victim(argv[2], argv[3]);
	return harness_main(&scenario, targets, argc, argv);
}
