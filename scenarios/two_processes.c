/*
 * two_processes - two processes write to one database, each through a pool of its own.
 *
 * Question   Does one starve the other, or a thread of the other?
 * Load       Each process has as many threads; each moves money in a ledger, one short write
 *            transaction after another. The second process is this program once more.
 * Passes     when nothing fails, nobody waits past his deadline, the slowest of all threads is at
 *            least half as fast as the fastest, the ledger adds up, and no file is left beside the
 *            database.
 */
/* SPDX-License-Identifier: MIT */
#include "targets/targets.h"
#include "workloads/workloads.h"

#include <poolproof/harness/run.h>

#include <argp.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <spawn.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { KEY_SECOND = 0x1000 };
enum { PROCESSES = 2, THREADS_MAX = 256, ARGUMENTS_MAX = 64, MEETING_S = 60 };
enum { UNTRUSTWORTHY = 3 }; /* Exit code of a scenario. */

/* A deadline is kept where a thread comes back so much later: it may have to wait for a processor.
 * 32 threads on two processors were never more than 90 ms late. */
enum { LATE_MS_MAX = 500, SLOWEST_PERCENT_MIN = 50 };

static const struct argp_option options[] = {
	{ "second", KEY_SECOND, "FOLDER", OPTION_HIDDEN, "Be the second process", 0 },
	{ 0 },
};

/* What the two share, in a file: relaxed, each word is written by one. */
struct meeting {
	atomic_uint here;
	struct thread {
		_Alignas(64) atomic_ullong count;
		atomic_ullong first_ns, last_ns, longest_ns;
	} threads[PROCESSES][THREADS_MAX];
};

static const char *second_of; /* The first one's folder; NULL: this is the first. */
static char *const *arguments;
static struct meeting *meeting;
static struct harness_operation transfer;

static const char *option(int key, const char *value)
{
	if (key == KEY_SECOND)
		second_of = value;
	return NULL;
}

/* --- The load ---------------------------------------------------------------------------- */

static bool timed_transfer(struct harness_worker *worker, void *context, struct harness_failure *f)
{
	struct thread *thread = &meeting->threads[second_of != NULL][worker->thread];
	uint64_t start = harness_now_ns(), end;
	bool well;

	(void)context;
	well = transfer.run(worker, transfer.context, f);
	end = harness_now_ns();
	if (thread->first_ns == 0)
		thread->first_ns = start;
	thread->last_ns = end;
	thread->count += well;
	if (end - start > thread->longest_ns)
		thread->longest_ns = end - start;
	return well;
}

static void meet(struct harness_run *run, const char *folder)
{
	char path[PATH_MAX];
	int file;

	snprintf(path, sizeof path, "%s/meeting", folder);
	file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (file >= 0 && ftruncate(file, sizeof *meeting) == 0)
		meeting = mmap(NULL, sizeof *meeting, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	if (file < 0 || meeting == NULL || meeting == MAP_FAILED)
		harness_cannot(run, "%s: %s; is the disk full?", path, strerror(errno));
	close(file);
}

/* Both begin at one moment. One that died is noticed by the limit. */
static void wait_for_the_other(struct harness_run *run)
{
	uint64_t limit = harness_now_ns() + MEETING_S * 1000000000ull;

	atomic_fetch_add(&meeting->here, 1);
	while (atomic_load(&meeting->here) < PROCESSES) {
		if (harness_now_ns() > limit)
			harness_cannot(run, "the other process did not come within %d s",
			               MEETING_S);
		nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
	}
}

static void load(struct harness_run *run, const char *path)
{
	const struct harness_options *o = harness_run_options(run);
	struct harness_operation operations[LEDGER_OPERATIONS];

	bool open = harness_target_open(run, path);

	ledger_operations(operations);
	transfer = operations[0];
	operations[0].run = timed_transfer;
	wait_for_the_other(run);
	if (!open)
		return;
	harness_load_run(run, &(struct harness_load){
				      .phase = "transfers",
				      .threads = o->threads,
				      .seconds = o->seconds,
				      .operations_per_thread = o->operations_per_thread,
				      .rate_per_s = o->rate_per_s,
				      .poisson = o->poisson,
				      .operations = operations,
				      .operation_count = 1,
			      });
	harness_target_close(run);
}

/* --- The second process ------------------------------------------------------------------ */

/* This program with the same arguments and a few more; of two equal options the last one counts. */
static pid_t start_second(struct harness_run *run)
{
	char self[PATH_MAX] = "", folder[PATH_MAX], seed[32];
	const char *words[ARGUMENTS_MAX + 8];
	unsigned count = 0;
	posix_spawn_file_actions_t actions;
	pid_t child;
	int rc;

	if (readlink("/proc/self/exe", self, sizeof self - 1) < 0)
		harness_cannot(run, "/proc/self/exe: %s; mount /proc", strerror(errno));
	snprintf(folder, sizeof folder, "%s/second", harness_run_work(run));
	snprintf(seed, sizeof seed, "%llu", (unsigned long long)harness_run_options(run)->seed + 1);
	while (arguments[count] != NULL && count < ARGUMENTS_MAX) {
		words[count] = arguments[count];
		count++;
	}
	const char *more[] = {
		"--quiet", "--seed", seed, "--dir", folder, "--second", harness_run_work(run), NULL
	};

	memcpy(words + count, more, sizeof more);
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
	rc = posix_spawn(&child, self, &actions, NULL, (char **)(uintptr_t)words, environ);
	posix_spawn_file_actions_destroy(&actions);
	if (rc != 0)
		harness_cannot(run, "%s: %s; raise the limit on processes", self, strerror(rc));
	return child;
}

/* --- The end ----------------------------------------------------------------------------- */

static void check_database(struct harness_run *run, const char *path)
{
	static const char *const ends[] = { "-turn", "-wal", "-shm", "-journal" };
	char beside[PATH_MAX];
	sqlite3 *db;

	for (unsigned i = 0; i < sizeof ends / sizeof *ends; i++) {
		snprintf(beside, sizeof beside, "%s%s", path, ends[i]);
		if (access(beside, F_OK) == 0)
			harness_fail(run, "%s is left", beside);
	}
	if (sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE, NULL) != SQLITE_OK)
		harness_fail(run, "%s: %s", path, sqlite3_errmsg(db));
	else if (ledger_sum(db) != LEDGER_SUM)
		harness_fail(run, "the ledger adds up to %lld in place of %d at the end",
		             (long long)ledger_sum(db), LEDGER_SUM);
	sqlite3_close(db);
}

/* Transactions a second of one thread, from its first to its last. */
static double rate_of(const struct thread *thread)
{
	uint64_t took = thread->last_ns - thread->first_ns;

	return took > 0 ? (double)thread->count * 1e9 / (double)took : 0;
}

static void judge(struct harness_run *run)
{
	const struct harness_options *o = harness_run_options(run);
	double slowest = 1e18, fastest = 0, sums[PROCESSES] = { 0 }, percent;
	uint64_t longest_ns = 0;

	for (unsigned p = 0; p < PROCESSES; p++)
		for (unsigned t = 0; t < o->threads; t++) {
			const struct thread *thread = &meeting->threads[p][t];
			double rate = rate_of(thread);

			sums[p] += rate;
			slowest = rate < slowest ? rate : slowest;
			fastest = rate > fastest ? rate : fastest;
			if (thread->longest_ns > longest_ns)
				longest_ns = thread->longest_ns;
		}
	percent = fastest > 0 ? 100 * slowest / fastest : 0;
	harness_number(run, "fairness.threads_percent", percent);
	harness_number(run, "fairness.processes_percent",
	               sums[0] < sums[1] ? 100 * sums[0] / sums[1] : 100 * sums[1] / sums[0]);
	harness_number(run, "both.transactions_per_s", sums[0] + sums[1]);
	harness_number(run, "both.longest_ms", (double)longest_ns / 1e6);
	if (percent < SLOWEST_PERCENT_MIN)
		harness_fail(run, "the slowest thread did %.1f transactions/s, the fastest %.1f",
		             slowest, fastest);
	if (longest_ns > (o->timeout_ms + LATE_MS_MAX) * 1000000ull)
		harness_fail(run, "a transaction took %.0f ms, and its deadline was %u ms",
		             (double)longest_ns / 1e6, o->timeout_ms);
}

static void be_first(struct harness_run *run, const char *path)
{
	sqlite3 *db;
	pid_t second;
	int status = -1;

	if (sqlite3_open(path, &db) != SQLITE_OK || !ledger_create(db))
		harness_cannot(run, "%s: %s; is the disk full?", path, sqlite3_errmsg(db));
	sqlite3_close(db);
	second = start_second(run);
	load(run, path);
	while (waitpid(second, &status, 0) < 0 && errno == EINTR)
		;
	if (WIFEXITED(status) && WEXITSTATUS(status) == UNTRUSTWORTHY)
		harness_distrust(run, "the second process' measuring is broken");
	else if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
		harness_fail(run, "the second process failed too, or alone: see %s/second",
		             harness_run_work(run));
	check_database(run, path);
	judge(run);
}

static void body(struct harness_run *run)
{
	const char *folder = second_of != NULL ? second_of : harness_run_work(run);
	char path[PATH_MAX];

	snprintf(path, sizeof path, "%s/ledger.db", folder);
	meet(run, folder);
	if (second_of != NULL)
		load(run, path);
	else
		be_first(run, path);
	munmap(meeting, sizeof *meeting);
}

static const struct harness_scenario scenario = {
	.name = "two_processes",
	.question = "Do two processes on one database starve each other?",
	.load = "short write transactions on a ledger, from --threads threads in each of two "
		"processes",
	.passes = "nothing fails, no deadline is missed, slowest thread at least half the fastest",
	.options = options,
	.option = option,
	.errors_fail = true,
	.body = body,
};

int main(int argc, char **argv)
{
	arguments = argv;
	return harness_main(&scenario, targets_all, argc, argv);
}
