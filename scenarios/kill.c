/*
 * kill - a process that writes is killed, anywhere, again and again.
 *
 * Question   Is every write there that was acknowledged, and none that was reported as failed?
 * Load       A second process, which is this program once more, writes rows from --threads threads,
 *            three of four by the target's shared commits where it has them; some change their
 *            mind, some roll back their whole group, and the target is closed and opened again.
 *            It dies (SIGKILL) --kills times: at each named point of the pool in turn, at system
 *            calls of SQLite (between two writes of a commit, say), after a random number of
 *            writes, and, a second time, while it opens what the first left. In memory that
 *            the two share it notes each write before it begins and what became of it.
 * Passes     when after every kill each write that was acknowledged is in the file, each that
 *            failed is not, the rows are the first so many without a hole, each whole, none fewer
 *            than before, and the file is sound.
 */
/* SPDX-License-Identifier: MIT */
#include "targets/targets.h"
#include "workloads/victim.h"

#include <poolproof/harness/case.h>
#include <poolproof/harness/entropy.h>
#include <poolproof/harness/fault.h>
#include <poolproof/point.h>

#include <argp.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { KEY_KILLS = 0x1000, KEY_VICTIM, KILLS_MAX = 100000 };
enum {
	AFTER_MAX = 300,     /* Writes, at most, of one that is killed anywhere. */
	PATIENCE = 800,      /* Writes, after which a place was not reached. */
	CASES_A_FILE = 16,   /* Then the next file is begun: to read it all takes time. */
	INTEGRITY_EVERY = 8, /* Cases, of which one has an integrity_check. */
	LONG_RUN = 250,      /* Kills that have to reach every point. */
};

/* Where a victim dies. */
enum kind { AT_POINT, AT_CALL, ANYWHERE, IN_RECOVERY, KINDS };
static const char *const kind_names[KINDS] = { "kill_at_point", "kill_at_call", "kill_anywhere",
	                                       "kill_in_recovery" };

static const struct argp_option options[] = {
	{ "kills", KEY_KILLS, "N", 0, "How often (500)", 0 },
	{ "victim", KEY_VICTIM, "PLAN", OPTION_HIDDEN, "Be the one that is killed", 0 },
	{ 0 },
};

struct aim {
	enum kind kind;
	unsigned place, after; /* place: of point_names or call_names. */
	struct victim_plan plan;
};

static unsigned kills = 500;
static const char *victim_text; /* NULL: this is no victim. */
static char *const *arguments;

/* Those that change a file or a lock, and how often one of them is made in a short time. An odd
 * number: every second one is drawn for a victim that is followed by another. */
static const struct {
	const char *name;
	unsigned skip_max;
} calls[] = { { "io.pwrite*", 300 }, { "io.sync", 40 },   { "io.ftruncate", 8 }, { "io.unlink", 3 },
	      { "io.open", 30 },     { "io.fcntl", 300 }, { "io.close", 20 } };
enum { CALLS = sizeof calls / sizeof *calls };

static struct {
	unsigned cases, kills, points_drawn, calls_drawn; /* So far. */
	unsigned file;                                    /* Which one is written to. */
	unsigned at_point[PP_POINTS], at_call[CALLS];
	unsigned injected[KINDS], hit[KINDS], survived[KINDS];
	struct victim_findings findings;
} so_far;

static const char *option(int key, const char *value)
{
	if (key == KEY_VICTIM)
		victim_text = value;
	return key == KEY_KILLS ? harness_read_whole(value, 1, KILLS_MAX, &kills) : NULL;
}

/* --- The victim --------------------------------------------------------------------------- */

static void prepare(const struct victim_plan *plan)
{
	target_poolproof_any_thread = plan->variation % 2 == 1;
	points_feed();
}

static void use(void *pool, const struct victim_plan *plan, unsigned session)
{
	eager_use(pool, plan->database, plan->place, plan->variation + session);
}

static int help(const struct harness_target *target, const struct harness_options *o)
{
	struct harness_target eager = target_poolproof;
	bool ours = target == &target_poolproof;

	eager.open = eager_open;
	return victim_text == NULL
	               ? -1
	               : victim_main(victim_text, ours ? &eager : target, o,
	                             &(struct victim_manner){ .prepare = ours ? prepare : NULL,
	                                                      .beside = ours ? use : NULL });
}

/* --- What is drawn ------------------------------------------------------------------------ */

static bool has_points(const struct harness_run *run)
{
	return pp_points_set != NULL && harness_run_target(run) == &target_poolproof;
}

static bool is_passed(const struct harness_run *run, unsigned point)
{
	bool wal = strcmp(harness_run_options(run)->journal_mode, "WAL") == 0;

	return wal || !points_of_wal(point);
}

static uint64_t upto(struct harness_entropy *e, unsigned most)
{
	return (uint64_t)harness_entropy_uniform(e, 0, most);
}

static void aim_at(struct aim *aim, const char *place, uint64_t skip)
{
	snprintf(aim->plan.place, sizeof aim->plan.place, "%s", place);
	aim->plan.skip = skip;
}

static void draw_place(const struct harness_run *run, struct harness_entropy *e, struct aim *aim)
{
	if (aim->kind == AT_POINT && !has_points(run))
		aim->kind = AT_CALL;
	if (aim->kind == AT_POINT) {
		do
			aim->place = so_far.points_drawn++ % PP_POINTS;
		while (!is_passed(run, aim->place));
		aim_at(aim, points_names[aim->place], upto(e, points_skip_max(aim->place)));
	} else if (aim->kind == AT_CALL) {
		aim->place = so_far.calls_drawn++ % CALLS;
		aim_at(aim, calls[aim->place].name, upto(e, calls[aim->place].skip_max));
	} else if (aim->kind == IN_RECOVERY) {
		aim_at(aim, "io.*", upto(e, 400));
	} else {
		aim->after = (unsigned)upto(e, AFTER_MAX);
	}
}

static void draw(struct harness_run *run, enum kind kind, struct aim *ret)
{
	struct harness_entropy e;

	*ret = (struct aim){ .kind = kind, .after = PATIENCE };
	ret->plan.round = so_far.kills++;
	harness_entropy_init(&e, harness_run_options(run)->seed, 0, ret->plan.round);
	snprintf(ret->plan.database, sizeof ret->plan.database, "%s/log-%u.db",
	         harness_run_work(run), so_far.file);
	ret->plan.variation = (unsigned)upto(&e, 29);
	draw_place(run, &e, ret);
}

/* --- One case ----------------------------------------------------------------------------- */

/* What is left of the last one has been judged. */
static void next_file(struct harness_run *run)
{
	static const char *const ends[] = { "", "-wal", "-shm", "-journal", "-turn", ".copy" };
	char path[PATH_MAX];
	sqlite3 *db;

	for (unsigned i = 0; i < sizeof ends / sizeof *ends; i++) {
		snprintf(path, sizeof path, "%s/log-%u.db%s", harness_run_work(run), so_far.file,
		         ends[i]);
		unlink(path);
	}
	snprintf(path, sizeof path, "%s/log-%u.db", harness_run_work(run), ++so_far.file);
	if (sqlite3_open(path, &db) != SQLITE_OK ||
	    sqlite3_exec(db, harness_log_schema, NULL, NULL, NULL) != SQLITE_OK)
		harness_cannot(run, "%s: %s; is the disk full?", path, sqlite3_errmsg(db));
	sqlite3_close(db);
	so_far.findings.rows = 0;
}

static struct harness_acks *kill_one(struct harness_run *run, const struct aim *aim)
{
	struct harness_acks *acks = victim_acks(run, &aim->plan);
	uint64_t start = harness_now_ns();
	enum victim_end end =
		victim_wait(run, victim_start(run, arguments, &aim->plan), acks, aim->after);

	harness_duration(run, kind_names[aim->kind], harness_now_ns() - start);
	if (end == VICTIM_BY_ITSELF)
		harness_case_fail(run, "the victim ended by itself");
	so_far.injected[aim->kind]++;
	so_far.hit[aim->kind] += end == VICTIM_AT_PLACE || aim->kind == ANYWHERE;
	if (end == VICTIM_AT_PLACE && aim->kind == AT_POINT)
		so_far.at_point[aim->place]++;
	if (end == VICTIM_AT_PLACE && aim->kind == AT_CALL)
		so_far.at_call[aim->place]++;
	return acks;
}

static void name_case(const struct aim aims[], unsigned count, char *ret, size_t size)
{
	size_t used = 0;

	for (unsigned i = 0; i < count; i++) {
		const struct aim *a = &aims[i];

		used += (size_t)snprintf(ret + used, size - used, "%skill %u, ", i > 0 ? "; " : "",
		                         a->plan.round);
		if (a->kind == ANYWHERE)
			used += (size_t)snprintf(ret + used, size - used, "after %u writes",
			                         a->after);
		else
			used += (size_t)snprintf(ret + used, size - used, "at %s after %llu",
			                         a->plan.place, (unsigned long long)a->plan.skip);
	}
}

static void do_case(struct harness_run *run, const struct aim aims[], unsigned count)
{
	const struct victim_plan *plans[2] = { &aims[0].plan, &aims[1].plan };
	struct harness_acks *acks[2];
	char what[120], tag[64];
	bool well;

	name_case(aims, count, what, sizeof what);
	if (!harness_case_begin(run, "%s", what))
		return;
	for (unsigned i = 0; i < count; i++) {
		harness_case_choose(run, aims[i].plan.variation);
		acks[i] = kill_one(run, &aims[i]);
	}
	so_far.findings.integrity = so_far.cases % INTEGRITY_EVERY == 0;
	well = victim_judge(run, plans, acks, count, &so_far.findings);
	snprintf(tag, sizeof tag, "recovery.%s", kind_names[aims[count - 1].kind]);
	harness_duration(run, tag, so_far.findings.recovery_ns);
	for (unsigned i = 0; i < count; i++) {
		so_far.survived[aims[i].kind] += well;
		victim_acks_free(acks[i], plans[i]);
	}
	harness_case_end(run);
}

/* --- The run ------------------------------------------------------------------------------ */

static void numbers(struct harness_run *run, double seconds)
{
	const struct harness_ack_sums *sums = &so_far.findings.sums;
	char name[64];

	harness_number(run, "kills_count", so_far.kills);
	harness_number(run, "kills.each_ms", seconds * 1000 / so_far.kills);
	harness_number(run, "writes.acknowledged_count", (double)sums->acknowledged);
	harness_number(run, "writes.failed_count", (double)sums->failed);
	harness_number(run, "writes.unknown_count", (double)sums->unknown);
	harness_number(run, "writes.survived_count", (double)sums->survived);
	harness_number(run, "writes.lost_count", (double)sums->lost);
	harness_number(run, "writes.phantoms_count", (double)sums->phantoms);
	for (unsigned k = 0; k < KINDS; k++) {
		snprintf(name, sizeof name, "fault.%s.injected_count", kind_names[k]);
		harness_number(run, name, so_far.injected[k]);
		snprintf(name, sizeof name, "fault.%s.hit_count", kind_names[k]);
		harness_number(run, name, so_far.hit[k]);
		snprintf(name, sizeof name, "fault.%s.survived_count", kind_names[k]);
		harness_number(run, name, so_far.survived[k]);
	}
	for (unsigned c = 0; c < CALLS; c++) {
		snprintf(name, sizeof name, "kill.at.%.*s_count", (int)strcspn(calls[c].name, "*"),
		         calls[c].name);
		harness_number(run, name, so_far.at_call[c]);
	}
}

/* Each point once at least, or a long run says nothing about it. */
static void judge_points(struct harness_run *run)
{
	char name[64], missed[600] = "";
	unsigned reached = 0, missed_count = 0;
	size_t used = 0;

	for (unsigned p = 0; p < PP_POINTS; p++) {
		snprintf(name, sizeof name, "kill.at.%s_count", points_names[p]);
		harness_number(run, name, so_far.at_point[p]);
		reached += so_far.at_point[p] > 0;
		if (so_far.at_point[p] > 0 || !is_passed(run, p))
			continue;
		missed_count++;
		used += (size_t)snprintf(missed + used, sizeof missed - used, " %s",
		                         points_names[p]);
	}
	harness_number(run, "kills.points_reached_count", reached);
	harness_number(run, "kills.points_missed_count", missed_count);
	if (missed_count == 0)
		return;
	harness_event(run, "missed", "nobody was killed at%s", missed);
	if (kills >= LONG_RUN)
		harness_distrust(run, "nobody was killed at%s", missed);
}

static void body(struct harness_run *run)
{
	/* One case after the other; what is killed twice is not looked at between. */
	static const struct {
		enum kind kinds[2];
		unsigned count;
	} cycle[] = { { { AT_POINT }, 1 }, { { AT_CALL, IN_RECOVERY }, 2 },
		      { { AT_POINT }, 1 }, { { ANYWHERE, IN_RECOVERY }, 2 },
		      { { AT_POINT }, 1 }, { { AT_CALL }, 1 } };
	uint64_t start = harness_now_ns();
	struct aim aims[2];

	while (so_far.kills < kills) {
		unsigned i = so_far.cases % (sizeof cycle / sizeof *cycle);

		if (so_far.cases % CASES_A_FILE == 0)
			next_file(run);
		for (unsigned k = 0; k < cycle[i].count; k++)
			draw(run, cycle[i].kinds[k], &aims[k]);
		do_case(run, aims, cycle[i].count);
		so_far.cases++;
	}
	numbers(run, (double)(harness_now_ns() - start) / 1e9);
	if (has_points(run))
		judge_points(run);
}

static const struct harness_scenario scenario = {
	.name = "kill",
	.question =
		"Is every write there that was acknowledged, and none that was reported as failed, "
		"when the process is killed?",
	.load = "writes from --threads threads of a process that is killed --kills times, at named "
		"points of the pool, at system calls, anywhere, and again while it recovers",
	.passes = "after each kill every acknowledged write is there, none that failed, no row is "
		  "missing before another, the file is sound",
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
