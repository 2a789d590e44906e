/*
 * connection_faults - the file, and who else uses it, go wrong under the connections.
 *
 * Question   Is everybody told in time, is nothing lost, and how long until it serves again?
 * Load       Locks of another process (held, stopped, killed), a lock upgrade, a stuck query, a
 *            lease never given back; the file deleted, replaced, cut, damaged, made read-only, its
 *            WAL deleted; a forked child; and faults in the middle of the recovery from another.
 *            Each --rounds times, in WAL mode and with a rollback journal.
 * Passes     when each call succeeds or fails by its deadline and for the right reason, no
 *            acknowledged write is lost, a write and a read succeed soon after what was wrong was
 *            put right, and nothing is left.
 */
/* SPDX-License-Identifier: MIT */
#include "targets/targets.h"
#include "workloads/ordeal.h"

#include <poolproof/harness/case.h>
#include <poolproof/harness/fault.h>
#include <poolproof/point.h>
#include <poolproof/pool.h>

#include <argp.h>
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { KEY_ROUNDS = 0x1000, ROUNDS_MAX = 1000 };
/* What a refusal may wait; what is to be served waits for it. */
enum { PATIENCE_MS = 60, LEASE_MAX_MS = 40, LEASE_GRACE_MS = 10 };

static const struct argp_option options[] = {
	{ "rounds", KEY_ROUNDS, "N", 0, "How often each (2)", 0 },
	{ 0 },
};

static unsigned rounds = 2;

static const char *option(int key, const char *value)
{
	return key == KEY_ROUNDS ? harness_read_whole(value, 1, ROUNDS_MAX, &rounds) : NULL;
}

/* What pool.h says a call fails with. The status of a read that came after may have overwritten
 * that of the write, so of a changed file the words are asked. */
static bool is_told(const struct ordeal *t, enum ordeal_reason reason,
                    const struct harness_failure *f)
{
	switch (reason) {
	case ORDEAL_LOCKED:
		return target_poolproof_status() == PP_TIMEOUT || f->kind == HARNESS_FAILURE_BUSY;
	case ORDEAL_LATE:
		return target_poolproof_status() == PP_TIMEOUT;
	case ORDEAL_UPGRADE:
		return f->code == (t->wal ? SQLITE_BUSY_SNAPSHOT : SQLITE_BUSY);
	case ORDEAL_FILE_CHANGED:
		return strstr(f->text, pp_status_text(PP_FILE_CHANGED)) != NULL;
	}
	return false;
}

/* --- Borrowers ---------------------------------------------------------------------------- */

/* Keeps a connection of either lane until it is told to give it back. */
struct sitter {
	struct ordeal *ordeal;
	enum harness_access access;
	sem_t sits, enough;
	bool lent;
};

static void *sit(void *context)
{
	struct sitter *sitter = context;
	struct subject *s = &sitter->ordeal->subject;
	struct harness_worker worker = s->worker;
	struct harness_failure f;
	struct harness_connection c;

	sitter->lent = harness_lend(&worker, sitter->access, &c, &f);
	sem_post(&sitter->sits);
	while (sem_wait(&sitter->enough) != 0)
		;
	if (sitter->lent)
		harness_give_back(&worker, &c);
	return NULL;
}

static pthread_t sitter_start(struct ordeal *t, struct sitter *sitter, enum harness_access access)
{
	pthread_t thread;

	*sitter = (struct sitter){ .ordeal = t, .access = access };
	sem_init(&sitter->sits, 0, 0);
	sem_init(&sitter->enough, 0, 0);
	if (pthread_create(&thread, NULL, sit, sitter) != 0)
		harness_cannot(t->subject.run, "no thread; raise the limit on processes");
	while (sem_wait(&sitter->sits) != 0)
		;
	return thread;
}

static void sitter_end(struct sitter *sitter, pthread_t thread)
{
	sem_post(&sitter->enough);
	pthread_join(thread, NULL);
	sem_destroy(&sitter->sits);
	sem_destroy(&sitter->enough);
}

/* The writer is not given back: another one takes its place. */
static void lease_stuck(struct ordeal *t)
{
	struct sitter sitter;
	pthread_t thread = sitter_start(t, &sitter, HARNESS_WRITE);
	struct pp_stats stats;

	ordeal_serves(t, harness_now_ns());
	pp_stats_read(t->subject.state, &stats);
	t->hit = stats.quarantined > 0;
	sitter_end(&sitter, thread);
}

/* ... and while another takes its place, another process locks. */
static void lease_stuck_and_locked(struct ordeal *t)
{
	struct sitter sitter;
	struct peer peer;
	pthread_t thread;

	peer_start(&t->subject, &peer, t->fault->what, 0);
	thread = sitter_start(t, &sitter, HARNESS_WRITE);
	ordeal_attempt_write(t, true);
	peer_end(&peer);
	ordeal_serves(t, harness_now_ns());
	sitter_end(&sitter, thread);
}

static enum pp_status never(struct pp_lease *lease, void *context)
{
	(void)lease, (void)context;
	_exit(2);
}

/* The child is told; the parent does not notice. */
static void forked_child(struct ordeal *t)
{
	struct pp_lease lease = { 0 };
	int status = -1;
	pid_t child = fork();

	if (child == 0)
		_exit(pp_acquire(t->subject.state, PP_READ, PP_FOREVER, &lease, NULL) ==
		                              PP_FORKED &&
		                      pp_write(t->subject.state, NULL, never, NULL, NULL, NULL) ==
		                              PP_FORKED &&
		                      pp_close(t->subject.state, PP_FOREVER, NULL) == PP_FORKED
		              ? 0
		              : 1);
	waitpid(child, &status, 0);
	t->hit = true;
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
		subject_fail(&t->subject, "a forked child used the pool of its parent");
	ordeal_serves(t, harness_now_ns());
}

/* --- The file ----------------------------------------------------------------------------- */

static void reopen(struct ordeal *t)
{
	struct pp_error error = { 0 };

	if (t->ours && !t->reopens &&
	    pp_reopen(t->subject.state, pp_in_ms(ORDEAL_LONG_MS), &error) != PP_OK)
		subject_fail(&t->subject, "cannot be opened anew: %.200s", error.message);
}

/* --- Faults in the recovery from another -------------------------------------------------- */

static struct ordeal *replaced_again;

static void visit(enum pp_point point)
{
	char again[PATH_MAX + 16];

	if (point != PP_POINT_REOPEN || replaced_again == NULL)
		return;
	snprintf(again, sizeof again, "%s2", replaced_again->copy);
	replaced_again->hit = rename(again, replaced_again->subject.path) == 0;
	replaced_again = NULL;
}

/* Replaced, and again while the pool opens it anew. */
static void replaced_twice(struct ordeal *t)
{
	char again[PATH_MAX + 16];
	struct pp_error error;
	uint64_t since_ns;

	snprintf(again, sizeof again, "%s2", t->copy);
	peer_do(&t->subject, "copy");
	rename(t->copy, again);
	peer_do(&t->subject, "copy");
	replaced_again = t;
	if (pp_points_set != NULL)
		pp_points_set(visit);
	else
		t->hit = true; /* This build has no points: replaced once. */
	ordeal_file_replace(t);
	since_ns = harness_now_ns();
	if (!t->reopens && pp_reopen(t->subject.state, pp_in_ms(ORDEAL_LONG_MS), &error) != PP_OK)
		reopen(t);
	ordeal_serves(t, since_ns);
	peer_do(&t->subject, "recover");
	if (pp_points_set != NULL)
		pp_points_set(NULL);
}

/* Replaced, and the disk fails once while the pool opens it anew. */
static void reopen_fails(struct ordeal *t)
{
	struct harness_fault fault = { .place = "io.*", .skip = (uint64_t)ordeal_draw(t, 0, 60) };
	struct pp_error error;
	uint64_t since_ns;

	peer_do(&t->subject, "copy");
	ordeal_file_replace(t);
	since_ns = harness_now_ns();
	harness_fault_arm(&fault, 1);
	pp_reopen(t->subject.state, pp_in_ms(ORDEAL_LONG_MS), &error);
	harness_fault_disarm();
	t->hit = fault.hits > 0;
	t->reopens = false;
	reopen(t);
	ordeal_serves(t, since_ns);
	peer_do(&t->subject, "recover");
}

/* --- All of them -------------------------------------------------------------------------- */

#define FAULT(name_, run_, ...)                         \
	{                                               \
		.name = name_, .run = run_, __VA_ARGS__ \
	}
static const struct fault faults[] = {
	FAULT("lock_shared", ordeal_lock_held, .what = "shared", .no_writes = IN_DELETE,
	      .unnoticed = true),
	FAULT("lock_reserved", ordeal_lock_held, .what = "reserved", .no_writes = ALWAYS),
	FAULT("lock_exclusive", ordeal_lock_held, .what = "exclusive", .no_writes = ALWAYS,
	      .no_reads = IN_DELETE),
	FAULT("lock_writer", ordeal_lock_held, .what = "writer", .no_writes = ALWAYS),
	FAULT("lock_short", ordeal_lock_short, .what = "exclusive", .patience_ms = ORDEAL_LONG_MS),
	FAULT("lock_stopped", ordeal_lock_stopped, .what = "writer", .no_writes = ALWAYS),
	FAULT("lock_upgrade", ordeal_lock_upgrade),
	FAULT("query_stuck", ordeal_query_stuck),
	FAULT("lease_stuck", lease_stuck, .ours_only = true, .lease_max_ms = LEASE_MAX_MS),
	FAULT("lease_stuck_and_locked", lease_stuck_and_locked, .what = "exclusive",
	      .ours_only = true, .lease_max_ms = LEASE_MAX_MS),
	FAULT("forked_child", forked_child, .ours_only = true),
	FAULT("file_deleted", ordeal_file_lost, .change = ordeal_file_delete),
	FAULT("file_replaced", ordeal_file_lost, .change = ordeal_file_replace),
	FAULT("file_cut", ordeal_file_lost, .change = ordeal_file_cut),
	FAULT("file_read_only", ordeal_file_lost, .change = ordeal_file_make_read_only),
	FAULT("file_deleted_in_transaction", ordeal_file_lost, .change = ordeal_file_delete,
	      .in_transaction = true),
	FAULT("file_replaced_in_transaction", ordeal_file_lost, .change = ordeal_file_replace,
	      .in_transaction = true),
	FAULT("file_replaced_under_reader", ordeal_file_lost, .change = ordeal_file_replace,
	      .what = "shared"),
	FAULT("file_header_damaged", ordeal_file_damaged, .change = ordeal_file_damage,
	      .what = "header"),
	FAULT("file_page_damaged", ordeal_file_damaged, .change = ordeal_file_damage,
	      .what = "page"),
	FAULT("wal_deleted", ordeal_wal_deleted, .wal_only = true),
	FAULT("file_replaced_twice", replaced_twice, .ours_only = true),
	FAULT("reopen_fails", reopen_fails, .ours_only = true),
};
enum { FAULTS = sizeof faults / sizeof *faults };

struct sums {
	unsigned injected, hit, survived;
};

/* What the options of every target do not say. */
static const struct ordeal *next;

static void adjust(struct pp_config *config)
{
	config->busy_timeout_ms = ORDEAL_LONG_MS;
	config->on_file_change = next->reopens ? PP_FILE_REOPEN : PP_FILE_TRIP;
	config->lease_max_ms = next->fault->lease_max_ms;
	config->lease_grace_ms = next->fault->lease_max_ms > 0 ? LEASE_GRACE_MS : 0;
}

static void run_one(struct harness_run *run, const struct fault *fault, bool wal, unsigned round,
                    struct sums *sums)
{
	unsigned patience_ms = fault->patience_ms > 0 ? fault->patience_ms : PATIENCE_MS;
	struct ordeal t = { .fault = fault,
		            .wal = wal,
		            .ours = harness_run_target(run) == &target_poolproof,
		            .reopens = round % 2 == 1,
		            .is_told = is_told,
		            .reopen = reopen };
	struct subject_options how = { .journal = wal ? "WAL" : "DELETE",
		                       .patience_ns = patience_ms * UINT64_C(1000000),
		                       .identity = t.ours ? target_poolproof_identity : NULL };
	struct harness_failure f;
	char name[96];

	if ((fault->ours_only && !t.ours) || (fault->wal_only && !wal) ||
	    !harness_case_begin(run, "%s, %s, round %u", fault->name, how.journal, round))
		return;
	harness_entropy_init(&t.entropy, harness_run_options(run)->seed,
	                     (uint64_t)(fault - faults) * 2 + wal, round);
	snprintf(name, sizeof name, "%s-%s-%u", fault->name, how.journal, round);
	snprintf(t.tag, sizeof t.tag, "recovery.%s", fault->name);
	how.name = name;
	next = &t;
	sums->injected++;
	if (subject_open(&t.subject, run, &how)) {
		ordeal_be_patient(&t);
		snprintf(t.copy, sizeof t.copy, "%s.copy", t.subject.path);
		for (int64_t writes = ordeal_draw(&t, 1, 9); writes > 0; writes--)
			if (!subject_write(&t.subject.worker, &t.subject, &f))
				subject_fail(&t.subject, "nothing is wrong yet, and: %.300s",
				             f.text);
		fault->run(&t);
		sums->hit += t.hit;
		if (t.ours && !t.hit && !fault->unnoticed)
			harness_distrust(run, "%s, %s: nobody noticed", fault->name, how.journal);
		sums->survived += subject_close(&t.subject);
	}
	harness_case_end(run);
}

static void body(struct harness_run *run)
{
	struct sums sums;
	char name[96];

	sqlite3_initialize();
	if (!harness_fault_io())
		harness_cannot(run, "SQLite has no VFS \"unix\"; use one that has");
	target_poolproof_adjust = adjust;
	for (unsigned i = 0; i < FAULTS; i++) {
		sums = (struct sums){ 0 };
		for (unsigned round = 0; round < rounds; round++)
			for (unsigned wal = 2; wal-- > 0;)
				run_one(run, &faults[i], wal == 1, round, &sums);
		if (sums.injected == 0)
			continue;
		snprintf(name, sizeof name, "fault.%s.injected_count", faults[i].name);
		harness_number(run, name, sums.injected);
		snprintf(name, sizeof name, "fault.%s.hit_count", faults[i].name);
		harness_number(run, name, sums.hit);
		snprintf(name, sizeof name, "fault.%s.survived_count", faults[i].name);
		harness_number(run, name, sums.survived);
	}
}

static const struct harness_scenario scenario = {
	.name = "connection_faults",
	.question =
		"Is everybody told in time, is nothing lost, and how long until it serves again, "
		"when the file or who else uses it goes wrong under the connections?",
	.load = "locks of other processes, stuck borrowers, a lost or damaged file, a forked "
		"child; "
		"each --rounds times, WAL and DELETE",
	.passes = "each call succeeds or fails by its deadline for the right reason, nothing is "
		  "lost, "
		  "it serves again soon",
	.options = options,
	.option = option,
	.body = body,
};

int main(int argc, char **argv)
{
	peer_main(argc, argv);
	return harness_main(&scenario, targets_all, argc, argv);
}
