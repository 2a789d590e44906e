/*
 * recovery - something goes wrong, and then it ends: how long until a write succeeds again?
 *
 * Question   How long until the pool serves again after each kind of trouble?
 * Load       One thread writes. Each kind of trouble is made --times times on one pool with short
 *            intervals (leases of 20 ms, upkeep every 10 ms): a process dies in the middle of a
 *            commit, alone or beside this one; a connection is of no more use; a writer does not
 * come back, or its query does not end; the file is replaced, deleted, cut, made read-only; disk,
 * descriptors and memory run out; another process has the lock; a reader pins the WAL; the line is
 * full; the process forks. Time is real. Passes     when each trouble was met, and after each a
 * write succeeds within five seconds.
 *
 * What is measured begins with the end of the trouble, or where the pool has to end it itself with
 * its beginning, and ends with the first write that succeeds: recovery.KIND. ci/gates.conf has the
 * bounds. A target other than poolproof meets those that are not the pool's own.
 */
/* SPDX-License-Identifier: MIT */
#include "targets/rig.h"
#include "targets/targets.h"
#include "workloads/victim.h"

#include <poolproof/harness/case.h>
#include <poolproof/harness/entropy.h>
#include <poolproof/harness/fault.h>
#include <poolproof/point.h>
#include <poolproof/pool.h>

#include <argp.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { KEY_TIMES = 0x1000, KEY_VICTIM, KEY_HOLDER, TIMES_MAX = 100000 };
enum { LIMIT = 10 /* Times harness_lateness_ns(): five seconds. */ };

static const struct argp_option options[] = {
	{ "times", KEY_TIMES, "N", 0, "How often each (20)", 0 },
	{ "victim", KEY_VICTIM, "PLAN", OPTION_HIDDEN, "Be the one that is killed", 0 },
	{ "holder", KEY_HOLDER, "FILE", OPTION_HIDDEN, "Be the one that holds the lock", 0 },
	{ 0 },
};

static unsigned times = 20;
static unsigned turn; /* Of the kind, on a file of its own: no two victims write the same rows. */
static struct harness_entropy entropy;
static const char *victim_text, *holder_path; /* NULL: this is none. */
static char *const *arguments;

struct kind {
	const char *name;
	bool pools, slow; /* Only this project's pool can meet it; a fifth as often, it takes a
	                     second. */
	enum pp_file_change on_file_change;
	unsigned line_max;
	/* Makes the trouble and ends it, or leaves that to the pool; *ret_since_ns: from when on it
	 * could be served. false: it was not met. */
	bool (*once)(struct rig *r, uint64_t *ret_since_ns);
	bool (*served)(struct rig *r); /* NULL: a write succeeds. */
};

static void pause_us(long us)
{
	nanosleep(&(struct timespec){ .tv_nsec = us * 1000 }, NULL);
}

static const char *option(int key, const char *value)
{
	if (key == KEY_VICTIM)
		victim_text = value;
	if (key == KEY_HOLDER)
		holder_path = value;
	return key == KEY_TIMES ? harness_read_whole(value, 1, TIMES_MAX, &times) : NULL;
}

static int help(const struct harness_target *target, const struct harness_options *o)
{
	if (holder_path != NULL)
		return rig_hold(holder_path);
	if (victim_text == NULL)
		return -1;
	points_feed();
	return victim_main(victim_text, target, o, &(struct victim_manner){ 0 });
}

/* --- Trouble that anybody can have ---------------------------------------------------------- */

static unsigned draw(struct rig *r, unsigned low, unsigned high)
{
	unsigned drawn = (unsigned)harness_entropy_uniform(&entropy, low, high);

	harness_case_choose(r->run, drawn);
	return drawn;
}

/* At a place where the lock is held and something written, or about to be. */
static bool kill_a_victim(struct rig *r)
{
	static const char *const places[] = { "io.pwrite*", "pool.commit", "pool.committed" };
	struct victim_plan plan = { .round = turn };
	struct harness_acks *acks;
	enum victim_end end;
	unsigned choices = pp_points_set != NULL && r->target == &target_poolproof ? 3 : 1;

	snprintf(plan.database, sizeof plan.database, "%s", r->path);
	snprintf(plan.place, sizeof plan.place, "%s", places[draw(r, 0, choices - 1)]);
	plan.skip = draw(r, 5, 40);
	acks = victim_acks(r->run, &plan);
	end = victim_wait(r->run, victim_start(r->run, arguments, &plan), acks, HARNESS_ACK_WRITES);
	victim_acks_free(acks, &plan);
	return end == VICTIM_AT_PLACE;
}

static bool killed(struct rig *r, uint64_t *ret_since)
{
	bool met;

	rig_close(r);
	met = kill_a_victim(r);
	*ret_since = harness_now_ns();
	return met;
}

static bool killed_beside(struct rig *r, uint64_t *ret_since)
{
	bool met = kill_a_victim(r);

	*ret_since = harness_now_ns();
	return met;
}

static bool locked(struct rig *r, uint64_t *ret_since)
{
	int end, status = -1;
	pid_t child = rig_holder(r, &end);
	bool met = !rig_write(r);

	*ret_since = harness_now_ns();
	close(end);
	return waitpid(child, &status, 0) == child && status == 0 && met;
}

/* Nothing of what place stands for succeeds. */
static bool without(struct rig *r, const char *place, int number, uint64_t *ret_since)
{
	struct harness_fault fault = { .place = place, .error = number, .times = UINT64_MAX };
	bool met;

	harness_fault_arm(&fault, 1);
	met = !rig_write(r);
	*ret_since = harness_now_ns();
	harness_fault_disarm();
	return met && fault.hits > 0;
}

static bool disk_full(struct rig *r, uint64_t *ret_since)
{
	return without(r, "io.pwrite*", ENOSPC, ret_since);
}

static bool no_memory(struct rig *r, uint64_t *ret_since)
{
	return without(r, "heap", 0, ret_since);
}

/* The writer's connection has to be opened anew after this. */
static bool spoil_the_writer(struct rig *r)
{
	struct pp_lease lease = { 0 };

	if (pp_acquire(r->pool, PP_WRITE, pp_in_ms(1000), &lease, NULL) != PP_OK ||
	    sqlite3_exec(lease.db, "ATTACH ':memory:' AS other", NULL, NULL, NULL) != SQLITE_OK)
		return false;
	return pp_release(&lease) == PP_OK;
}

static bool no_descriptors(struct rig *r, uint64_t *ret_since)
{
	struct harness_fault fault = { .place = "io.open", .error = EMFILE, .times = UINT64_MAX };
	bool met;

	if (r->pool == NULL)
		rig_close(r);
	harness_fault_arm(&fault, 1);
	met = (r->pool == NULL || spoil_the_writer(r)) && !rig_write(r);
	*ret_since = harness_now_ns();
	harness_fault_disarm();
	return met && fault.hits > 0;
}

/* --- Trouble of the pool's own -------------------------------------------------------------- */

static bool retired(struct rig *r, uint64_t *ret_since)
{
	uint64_t before = rig_stats(r).retired;

	*ret_since = harness_now_ns();
	return spoil_the_writer(r) && rig_stats(r).retired == before + 1;
}

static void *be_in_the_way(void *context)
{
	struct rig *r = context;
	struct pp_lease lease = { 0 };

	if (pp_acquire(r->pool, PP_WRITE, pp_in_ms(3000), &lease, NULL) != PP_OK)
		harness_fail(r->run, "%s: the writer was not to be had", r->name);
	sem_post(&r->there);
	while (sem_wait(&r->go) != 0)
		;
	pp_release(&lease);
	return NULL;
}

static void *run_for_ever(void *context)
{
	struct rig *r = context;
	struct pp_lease lease = { 0 };

	if (pp_acquire(r->pool, PP_WRITE, pp_in_ms(3000), &lease, NULL) != PP_OK)
		harness_fail(r->run, "%s: the writer was not to be had", r->name);
	sem_post(&r->there);
	if (sqlite3_exec(lease.db,
	                 "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) "
	                 "SELECT count(*) FROM n",
	                 NULL, NULL, NULL) != SQLITE_INTERRUPT)
		harness_fail(r->run, "%s: the query was not interrupted", r->name);
	pp_release(&lease);
	return NULL;
}

static bool writer_stuck(struct rig *r, uint64_t *ret_since)
{
	rig_another(r, be_in_the_way);
	sem_wait(&r->there);
	*ret_since = harness_now_ns();
	return true;
}

static bool query_stuck(struct rig *r, uint64_t *ret_since)
{
	rig_another(r, run_for_ever);
	sem_wait(&r->there);
	*ret_since = harness_now_ns();
	return true;
}

/* One has the writer, one waits for it, and the line is full. */
static bool overloaded(struct rig *r, uint64_t *ret_since)
{
	struct pp_lease lease = { 0 };
	bool met;

	rig_another(r, be_in_the_way);
	sem_wait(&r->there);
	rig_another(r, be_in_the_way);
	while (rig_stats(r).write.waiting == 0)
		pause_us(50);
	met = pp_acquire(r->pool, PP_WRITE, pp_in_ms(1000), &lease, NULL) == PP_OVERLOADED;
	*ret_since = harness_now_ns();
	rig_let_go(r);
	return met;
}

static bool forked(struct rig *r, uint64_t *ret_since)
{
	int status = -1;
	pid_t child;

	*ret_since = harness_now_ns();
	child = fork();
	if (child == 0)
		_exit(pp_keep(r->pool, NULL) == PP_FORKED ? 0 : 1);
	return child > 0 && waitpid(child, &status, 0) == child && status == 0;
}

/* --- The file ----------------------------------------------------------------------------- */

static bool is_refused(struct rig *r)
{
	return !rig_write(r) && rig_stats(r).tripped;
}

static bool reopen(struct rig *r)
{
	struct pp_error error;

	if (pp_reopen(r->pool, pp_in_ms(1000), &error) == PP_OK)
		return true;
	harness_case_fail(r->run, "pp_reopen: %s", error.message);
	return false;
}

static bool file_deleted(struct rig *r, uint64_t *ret_since)
{
	bool met = unlink(r->path) == 0 && is_refused(r);

	rig_replace(r);
	*ret_since = harness_now_ns();
	return met && reopen(r);
}

static bool file_cut(struct rig *r, uint64_t *ret_since)
{
	bool met = truncate(r->path, 8192) == 0 && is_refused(r);

	rig_replace(r);
	*ret_since = harness_now_ns();
	return met && reopen(r);
}

static bool file_readonly(struct rig *r, uint64_t *ret_since)
{
	bool met = chmod(r->path, 0444) == 0 && is_refused(r);

	*ret_since = harness_now_ns();
	return chmod(r->path, 0644) == 0 && met && reopen(r);
}

/* PP_FILE_REOPEN: the pool sees to it itself. */
static bool file_replaced(struct rig *r, uint64_t *ret_since)
{
	rig_replace(r);
	*ret_since = harness_now_ns();
	return !rig_write(r);
}

/* --- The WAL ------------------------------------------------------------------------------ */

static bool wal_pinned(struct rig *r, uint64_t *ret_since)
{
	struct pp_lease lease = { 0 };
	bool met = pp_acquire(r->pool, PP_READ, pp_in_ms(1000), &lease, NULL) == PP_OK &&
	           pp_begin(&lease, NULL) == PP_OK;

	while (met && rig_stats(r).wal_bytes <= 2 * RIG_WAL_MAX)
		met = rig_write(r);
	*ret_since = harness_now_ns();
	pp_release(&lease);
	return met;
}

static bool is_wal_cut(struct rig *r)
{
	return rig_stats(r).wal_bytes <= RIG_WAL_MAX;
}

/* --- One after the other ------------------------------------------------------------------- */

static const struct kind kinds[] = {
	{ "kill", .once = killed },
	{ "kill_beside", .once = killed_beside },
	{ "lock", .once = locked },
	{ "disk_full", .once = disk_full },
	{ "no_memory", .once = no_memory },
	{ "no_descriptors", .once = no_descriptors },
	{ "connection_retired", .pools = true, .once = retired },
	{ "writer_stuck", .pools = true, .once = writer_stuck },
	{ "query_stuck", .pools = true, .once = query_stuck },
	{ "overloaded", .pools = true, .line_max = 1, .once = overloaded },
	{ "fork", .pools = true, .once = forked },
	{ "file_deleted", .pools = true, .once = file_deleted },
	{ "file_cut", .pools = true, .once = file_cut },
	{ "file_readonly", .pools = true, .once = file_readonly },
	{ "file_replaced", .pools = true, .on_file_change = PP_FILE_REOPEN, .once = file_replaced },
	{ "wal_pinned", .pools = true, .slow = true, .once = wal_pinned, .served = is_wal_cut },
};

struct tally {
	unsigned injected, hit, survived;
};

static void do_case(struct rig *r, const struct kind *kind, struct tally *tally)
{
	bool (*served)(struct rig *) = kind->served != NULL ? kind->served : rig_write;
	uint64_t since = harness_now_ns(), limit = LIMIT * harness_lateness_ns();
	bool met = kind->once(r, &since), well = served(r);
	char tag[64];

	while (!well && harness_now_ns() - since < limit) {
		pause_us(50);
		well = served(r);
		harness_step(r->run); /* It answers; it has so long as the limit says. */
	}
	snprintf(tag, sizeof tag, "recovery.%s", kind->name);
	harness_duration(r->run, tag, harness_now_ns() - since);
	rig_let_go(r);
	tally->injected++;
	tally->hit += met;
	tally->survived += well;
	harness_case_note(r->run, "%s, %s", met ? "met" : "not met",
	                  well ? "served" : "not served");
	if (!met)
		harness_case_fail(r->run, "the trouble was not met");
	if (!well)
		harness_case_fail(r->run, "nothing is served %.0f s after it", (double)limit / 1e9);
}

static void number(struct rig *r, const char *what, unsigned value)
{
	char name[64];

	snprintf(name, sizeof name, "fault.%s.%s_count", r->name, what);
	harness_number(r->run, name, value);
}

static void do_kind(struct harness_run *run, const struct kind *kind)
{
	unsigned often = kind->slow ? (times + 4) / 5 : times;
	struct tally tally = { 0 };
	struct rig r;

	rig_init(&r, run, kind->name);
	r.on_file_change = kind->on_file_change;
	r.line_max = kind->line_max;
	harness_case_always(run, "%s, opened", kind->name);
	if (!rig_open(&r))
		harness_fail(run, "%s could not be opened", r.path);
	harness_case_end(run);
	for (unsigned i = 0; i < often && r.state != NULL; i++) {
		if (!harness_case_begin(run, "%s %u", kind->name, i))
			continue;
		turn = i;
		harness_entropy_init(&entropy, harness_run_options(run)->seed,
		                     (uint64_t)(kind - kinds), i);
		do_case(&r, kind, &tally);
		harness_case_end(run);
	}
	number(&r, "injected", tally.injected);
	number(&r, "hit", tally.hit);
	number(&r, "survived", tally.survived);
	harness_case_always(run, "%s, closed", kind->name);
	rig_done(&r);
	harness_case_end(run);
}

static void body(struct harness_run *run)
{
	bool ours = harness_run_target(run) == &target_poolproof;
	bool wal = strcmp(harness_run_options(run)->journal_mode, "WAL") == 0;

	if (!harness_fault_heap() || !harness_fault_io())
		harness_cannot(run, "this SQLite has no VFS \"unix\"");
	for (unsigned k = 0; k < sizeof kinds / sizeof *kinds; k++)
		if ((ours || !kinds[k].pools) && (wal || kinds[k].once != wal_pinned))
			do_kind(run, &kinds[k]);
}

static const struct harness_scenario scenario = {
	.name = "recovery",
	.question = "How long until the pool serves again after each kind of trouble?",
	.load = "each kind of trouble --times times, on a pool with short intervals, and writes "
		"until "
		"one succeeds",
	.passes = "each trouble is met, and a write succeeds within five seconds of its end",
	.options = options,
	.option = option,
	.help = help,
	.body = body,
};

int main(int argc, char **argv)
{
	arguments = argv;
	return harness_main(&scenario, targets_all, argc, argv);
}
