/*
 * power_loss - the power goes while a database is written, at every place and in every way.
 *
 * Question   Is every write there that was acknowledged, and is the file sound, after power loss?
 * Load       Threads (one, so that it can be repeated; every fourth time --threads) write a log
 *            through the target, with writes that fail, roll back and checkpoint, while each write
 *            and sync of SQLite's is recorded. Then --states disks that a cut could have left are
 *            made of it, in memory: unsynced writes there, dropped, torn, reordered, garbage, names
 *            of files not yet or still there. Plain SQLite opens each. Of some the power goes again
 *            while it recovers, at every place.
 * Passes     when with FULL no acknowledged write is lost, and with NORMAL only the last ones are;
 *            when rows are whole and in their order, no write is half there, and integrity_check is
 *            content. NORMAL with a rollback journal may break a file when writes change their
 *            order (sqlite.org/pragma.html#pragma_synchronous): that is counted, and wrong only
 *            where they kept it.
 */
/* SPDX-License-Identifier: MIT */
#include "targets/targets.h"
#include "workloads/workloads.h"

#include <poolproof/harness/case.h>
#include <poolproof/harness/disk.h>
#include <poolproof/harness/entropy.h>

#include <argp.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

enum { KEY_STATES = 0x1000, KEY_PLANT };
enum {
	STATES_MAX = 1000000000,
	STATES_OF_RECORDING = 4000,
	RECORDINGS_MIN = 4, /* Of each mode. */
	WRITES = 28,        /* Of a recording, all threads together. */
	TOLD_MAX = 5,       /* States that are told of, and written out. */
	AGAIN = 1500        /* States of which one has the power go again. */
};

static const struct argp_option options[] = {
	{ "states", KEY_STATES, "N", 0, "Disks to look at (100000)", 0 },
	{ "plant", KEY_PLANT, "DEFECT", OPTION_HIDDEN, "What is to be found", 0 },
	{ 0 },
};

static unsigned states = 100000;
static enum harness_disk_plant plant;

static const char *option(int key, const char *value)
{
	if (key == KEY_PLANT)
		return harness_plant_named(value, &plant)
		               ? NULL
		               : "must be sync-dropped, journal-sync-dropped, "
		                 "database-sync-dropped, commit-torn or one-sync-dropped";
	return harness_read_whole(value, 1, STATES_MAX, &states);
}

static const struct mode {
	const char *name, *synchronous, *journal;
	bool full, wal;
} modes[] = {
	{ "full_wal", "FULL", "WAL", true, true },
	{ "full_delete", "FULL", "DELETE", true, false },
	{ "normal_wal", "NORMAL", "WAL", false, true },
	{ "normal_delete", "NORMAL", "DELETE", false, false },
};
enum { MODES = sizeof modes / sizeof *modes };

static struct power {
	struct harness_run *run;
	const struct mode *mode;
	unsigned recording;
	struct logbook book;
	/* What the target wrote; and what SQLite did when it recovered from a loss. */
	struct harness_power first, again;

	bool found, again_due; /* In this recording. */
	unsigned told;
	uint64_t states, again_states, states_of[MODES], cpu_ns;
	uint64_t recordings, applicable, caught, acknowledged, refused;
	uint64_t lost, phantoms, corrupt;          /* lost: FULL. */
	uint64_t suffix_lost, lost_max, reordered; /* NORMAL. reordered: broken, as documented. */
} power;

/* --- Recording ---------------------------------------------------------------------------- */

static bool is_threaded(const struct power *p)
{
	return p->recording % 4 == 3 && harness_run_options(p->run)->threads > 1;
}

static bool record(struct power *p)
{
	static const unsigned pages[] = { 512, 1024, 1024, 4096 };
	const struct harness_options *o = harness_run_options(p->run);
	struct harness_entropy e;
	char text[512] = "";
	enum logbook_end end;

	harness_entropy_init(&e, o->seed, (uint64_t)(p->mode - modes), p->recording);
	p->book.options = (struct harness_target_options){
		.path = p->book.path,
		.threads = is_threaded(p) ? o->threads : 1,
		.readers = o->readers,
		.timeout_ms = o->timeout_ms,
		.synchronous = p->mode->synchronous,
		.journal_mode = p->mode->journal,
	};
	p->book.writes = (WRITES + p->book.options.threads - 1) / p->book.options.threads;
	p->book.seed = harness_entropy_next(&e);
	p->book.page_bytes = pages[harness_entropy_uniform(&e, 0, 3)];
	harness_disk_plant(p->first.disk, plant);
	if (!is_threaded(p))
		harness_case_always(p->run, "%s, recording %u", p->mode->name, p->recording);
	end = logbook_record(&p->book, text, sizeof text);
	if (end == LOGBOOK_CANNOT)
		harness_cannot(p->run, "%s: %s", p->book.path, text);
	if (end == LOGBOOK_WRONG)
		harness_case_fail(p->run, "without power loss: %s", text);
	if (!is_threaded(p))
		harness_case_end(p->run);
	return end == LOGBOOK_WELL;
}

/* --- One disk ----------------------------------------------------------------------------- */

struct state {
	size_t place, place_again; /* place_again: 0, or of the recovery. */
	unsigned damage, damage_again;
};

static void seed(const struct power *p, const struct state *s, bool again,
                 struct harness_entropy *e)
{
	uint64_t index = (uint64_t)(p->mode - modes) << 32 | p->recording;
	uint64_t at = (uint64_t)s->place << 44 | (uint64_t)s->damage << 32;

	harness_entropy_init(e, harness_run_options(p->run)->seed, index,
	                     again ? at | s->place_again << 12 | s->damage_again : at);
}

static void tell(struct power *p, const struct state *s, struct harness_image *image,
                 const char *text)
{
	char folder[PATH_MAX + 32], again[96] = "";

	if (s->place_again > 0)
		snprintf(again, sizeof again, ", and in the recovery at place %zu, damage %u (%s)",
		         s->place_again, s->damage_again, harness_damage_name(s->damage_again));
	snprintf(folder, sizeof folder, "%s/disk-%u", harness_run_work(p->run), p->told++);
	harness_image_save(image, folder);
	harness_case_fail(p->run, "place %zu, damage %u (%s)%s: %s; the disk is in %s", s->place,
	                  s->damage, harness_damage_name(s->damage), again, text, folder);
}

/* What a finding is in this mode. Returns whether the state is as it must not be. */
static bool weigh(struct power *p, const struct state *s, const struct logbook_finding *f)
{
	bool in_order = s->place_again == 0 && s->damage <= HARNESS_DAMAGE_LAST_TORN;
	bool documented = !p->mode->full && !p->mode->wal && !in_order;

	p->phantoms += f->phantom && !documented;
	p->corrupt += f->wrong && !documented;
	p->reordered += f->wrong && documented;
	p->lost += p->mode->full ? f->lost : 0;
	p->suffix_lost += !p->mode->full && f->lost > 0;
	if (!p->mode->full && f->lost > p->lost_max)
		p->lost_max = f->lost;
	return (f->wrong && !documented) || (f->lost > 0 && p->mode->full);
}

static void look(struct power *p, const struct state *s, bool again)
{
	const struct harness_power *side = again ? &p->again : &p->first;
	unsigned damage = again ? s->damage_again : s->damage;
	struct logbook_finding finding;
	struct harness_entropy e;
	uint64_t drawn;

	seed(p, s, again, &e);
	drawn = harness_cut_image(side->cut, damage, &e, side->image);
	finding = logbook_judge(&p->book, side->image, s->place);
	if (p->states % 64 == 0)
		harness_duration(p->run, "recovery.power", finding.recovery_ns);
	if (!is_threaded(p)) {
		harness_case_choose(p->run, drawn);
		harness_case_note(p->run, "%u rows, %u lost%s%s", finding.rows, finding.lost,
		                  finding.text[0] != '\0' ? ": " : "", finding.text);
	}
	if (!weigh(p, s, &finding))
		return;
	p->found = true;
	if (plant != HARNESS_PLANT_NONE || p->told >= TOLD_MAX)
		return;
	seed(p, s, again, &e);
	/* As it was before SQLite mended it. */
	harness_cut_image(side->cut, damage, &e, side->image);
	tell(p, s, side->image, finding.text);
}

/* --- Once more, while it recovers --------------------------------------------------------- */

static bool recover(struct power *p, const struct state *s)
{
	struct harness_entropy e;
	char sql[64];
	sqlite3 *db;

	seed(p, s, false, &e);
	harness_cut_image(p->first.cut, s->damage, &e, p->first.image);
	harness_image_record(p->first.image, p->again.disk);
	snprintf(sql, sizeof sql, "PRAGMA synchronous=%s", p->mode->synchronous);
	if (harness_image_open(p->first.image, "log.db", &db) == SQLITE_OK &&
	    sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK)
		sqlite3_exec(db, "SELECT count(*) FROM harness_log", NULL, NULL, NULL);
	sqlite3_close(db);
	harness_image_record(p->first.image, NULL);
	/* The next one may have more to mend. */
	return harness_disk_length(p->again.disk) > harness_disk_first(p->again.disk) + 1;
}

static void look_again(struct power *p, struct state s)
{
	struct harness_walk walk;

	p->again_due = false;
	harness_walk_begin(&walk, p->again.cut, UINT_MAX, 3, 0);
	while (harness_walk_next(&walk)) {
		s.place_again = walk.place;
		s.damage_again = walk.damage;
		look(p, &s, true);
		p->again_states++;
	}
}

/* --- All of them -------------------------------------------------------------------------- */

static void look_case(struct power *p, size_t place, unsigned damage)
{
	const struct state s = { .place = place, .damage = damage };
	bool own = !is_threaded(p);

	p->states++;
	p->states_of[p->mode - modes]++;
	p->again_due |= p->states % AGAIN == 0;
	if (own && !harness_case_begin(p->run, "%s, recording %u, place %zu, damage %u",
	                               p->mode->name, p->recording, place, damage))
		return;
	look(p, &s, false);
	if (p->again_due && plant == HARNESS_PLANT_NONE && recover(p, &s))
		look_again(p, s);
	if (own)
		harness_case_end(p->run);
	else if (p->states % 256 == 0)
		harness_case_note(p->run, "goes on");
}

static uint64_t cpu_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static void look_recording(struct power *p, unsigned wanted)
{
	uint64_t start = cpu_ns();
	struct harness_walk walk;

	harness_walk_begin(&walk, p->first.cut, wanted, UINT_MAX, p->recording);
	while (harness_walk_next(&walk))
		look_case(p, walk.place, walk.damage);
	p->cpu_ns += cpu_ns() - start;
}

static void one_recording(struct power *p, unsigned wanted)
{
	/* What NORMAL may lose it may lose for one sync less, too. */
	bool applicable =
		p->mode->full || (p->mode->wal && plant != HARNESS_PLANT_ONE_SYNC_DROPPED);

	if (p->recording == 0)
		harness_event(p->run, "phase", "%s", p->mode->name);
	if (is_threaded(p) && !harness_case_begin(p->run, "%s, recording %u, with threads",
	                                          p->mode->name, p->recording))
		return;
	p->found = false;
	p->again_due = true;
	if (record(p)) {
		look_recording(p, wanted);
		p->recordings++;
		p->acknowledged += p->book.acknowledged;
		p->refused += p->book.refused;
		p->applicable += applicable;
		p->caught += applicable && p->found;
	}
	if (is_threaded(p))
		harness_case_end(p->run);
}

static void report(struct power *p)
{
	double caught = p->applicable > 0 ? 100.0 * (double)p->caught / (double)p->applicable : 0;
	double looked = (double)(p->states + p->again_states);
	char name[64];

	for (unsigned m = 0; m < MODES; m++) {
		snprintf(name, sizeof name, "%s.states_count", modes[m].name);
		harness_number(p->run, name, (double)p->states_of[m]);
	}
	harness_number(p->run, "recordings_count", (double)p->recordings);
	harness_number(p->run, "compound.states_count", (double)p->again_states);
	harness_number(p->run, "writes.acknowledged_count", (double)p->acknowledged);
	harness_number(p->run, "writes.refused_count", (double)p->refused);
	harness_number(p->run, "writes.lost_count", (double)p->lost);
	harness_number(p->run, "writes.phantoms_count", (double)p->phantoms);
	harness_number(p->run, "corrupt_count", (double)p->corrupt);
	harness_number(p->run, "suffix_lost_count", (double)p->suffix_lost);
	harness_number(p->run, "lost.max_count", (double)p->lost_max);
	harness_number(p->run, "normal_delete.corrupt_count", (double)p->reordered);
	harness_number(p->run, "states_count", looked);
	harness_number(p->run, "judged_per_s", looked / ((double)p->cpu_ns / 1e9 + 1e-9));
	if (plant == HARNESS_PLANT_NONE)
		return;
	harness_number(p->run, "planted.caught_percent", caught);
	if (caught < 95)
		harness_fail(p->run, "planted %s: found in %.0f %% of %llu recordings",
		             harness_plant_name(plant), caught, (unsigned long long)p->applicable);
}

static void take(struct power *p)
{
	if (!harness_power_init(&p->first) || !harness_power_init(&p->again))
		harness_cannot(p->run, "no address space for a recording; raise ulimit -v");
	snprintf(p->book.folder, sizeof p->book.folder, "%s/power", harness_run_work(p->run));
	snprintf(p->book.path, sizeof p->book.path, "%s/log.db", p->book.folder);
	p->book.run = p->run;
	p->book.target = harness_run_target(p->run);
	p->book.disk = p->first.disk;
	p->book.open = small_open;
	p->book.upkeep = small_keep;
	if (mkdir(p->book.folder, 0755) != 0)
		harness_cannot(p->run, "%s: %s; make room", p->book.folder, strerror(errno));
}

static bool is_wanted(const struct harness_options *o, const struct mode *mode)
{
	return (!o->synchronous_asked || strcmp(o->synchronous, mode->synchronous) == 0) &&
	       (!o->journal_asked || strcmp(o->journal_mode, mode->journal) == 0);
}

static void body(struct harness_run *run)
{
	const struct harness_options *o = harness_run_options(run);
	unsigned wanted = 0, recordings, of_mode;
	struct power *p = &power;

	p->run = run;
	target_poolproof_any_thread = true;
	take(p);
	for (unsigned m = 0; m < MODES; m++)
		wanted += is_wanted(o, &modes[m]);
	of_mode = (unsigned)((states + wanted - 1) / wanted);
	recordings = of_mode / STATES_OF_RECORDING;
	recordings = recordings > RECORDINGS_MIN ? recordings : RECORDINGS_MIN;
	for (unsigned m = 0; m < MODES; m++)
		for (unsigned r = 0; r < recordings && is_wanted(o, &modes[m]); r++) {
			p->mode = &modes[m];
			p->recording = r;
			one_recording(p, of_mode / recordings + 1);
		}
	report(p);
	harness_power_done(&p->first);
	harness_power_done(&p->again);
}

static const struct harness_scenario scenario = {
	.name = "power_loss",
	.question =
		"Is every write there that was acknowledged, and is the file sound, after power "
		"loss?",
	.load = "what the target writes and syncs is recorded; --states disks that a power loss "
		"could have left of it are opened by plain SQLite",
	.passes = "FULL: no acknowledged write is lost; NORMAL: only the last ones are; no file is "
		  "broken, no write half there",
	.options = options,
	.option = option,
	.body = body,
};

int main(int argc, char **argv)
{
	return harness_main(&scenario, targets_all, argc, argv);
}
