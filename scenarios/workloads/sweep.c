/*
 * sweep.c - which sequences, where, and what is told of them.
 *
 * To know before reading: a sequence is first done with nothing failing, which says how many places
 * there are; then the sweep goes over them by number, so a case can be run alone by its name.
 */
/* SPDX-License-Identifier: MIT */
#include "sweep.h"

#include <poolproof/harness/case.h>
#include <poolproof/harness/entropy.h>
#include <poolproof/harness/run.h>
#include <poolproof/harness/vtime.h>
#include <poolproof/point.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum { KEY_SEQUENCE = 0x1000, KEY_MODES, KEY_PAIRS, KEY_STRIDE, KEY_PART };
enum { SEQUENCES_MAX = 64, PLACES_MAX = 32, ROOM_BYTES = 64 << 20 };

const struct argp_option sweep_argp[] = {
	{ "sequence", KEY_SEQUENCE, "WORD", 0, "Only the sequences with WORD in their name", 0 },
	{ "modes", KEY_MODES, "LIST", 0, "Of once, lasting, pairs (all)", 0 },
	{ "pairs", KEY_PAIRS, "N", 0,
	  "Pairs of faults, of each sequence and journal mode (20), or all", 0 },
	{ "stride", KEY_STRIDE, "N", 0, "Every N-th place only (1)", 0 },
	{ "part", KEY_PART, "K/N", 0, "The K-th of N parts of the sweep (1/1)", 0 },
	{ 0 },
};

struct sweep_options sweep_options = {
	.modes = SWEEP_ONCE | SWEEP_LASTING | SWEEP_PAIRS,
	.pairs = 20,
	.stride = 1,
	.part = 1,
	.parts = 1,
};

/* --- Options ------------------------------------------------------------------------------ */

static const char *read_modes(const char *value)
{
	static const char *const names[] = { "once", "lasting", "pairs" };
	unsigned modes = 0, i;

	while (*value != '\0') {
		size_t length = strcspn(value, ",");

		for (i = 0; i < 3; i++)
			if (strlen(names[i]) == length && strncmp(value, names[i], length) == 0)
				break;
		if (i == 3)
			return "must be a list of once, lasting, pairs";
		modes |= 1U << i;
		value += length + (value[length] == ',');
	}
	sweep_options.modes = modes;
	return modes != 0 ? NULL : "must be a list of once, lasting, pairs";
}

static const char *read_part(const char *value)
{
	struct sweep_options *o = &sweep_options;
	char first[16] = "";
	size_t length = strcspn(value, "/");

	if (length >= sizeof first || value[length] == '\0')
		return "must be K/N, 1 <= K <= N <= 64";
	memcpy(first, value, length);
	if (harness_read_whole(value + length + 1, 1, 64, &o->parts) != NULL ||
	    harness_read_whole(first, 1, o->parts, &o->part) != NULL)
		return "must be K/N, 1 <= K <= N <= 64";
	return NULL;
}

static const char *read_pairs(const char *value)
{
	if (strcmp(value, "all") == 0)
		sweep_options.pairs = SWEEP_ALL;
	else if (harness_read_whole(value, 0, 100000, &sweep_options.pairs) != NULL)
		return "must be a whole number, 0 to 100000, or all";
	return NULL;
}

static const char *read_sequence(const char *value)
{
	static const struct sequences *const all[] = { &sequences_lend, &sequences_work,
		                                       &sequences_keep, &sequences_generic };

	sweep_options.sequence = value;
	for (unsigned i = 0; i < sizeof all / sizeof *all; i++)
		for (unsigned j = 0; j < all[i]->count; j++)
			if (strstr(all[i]->list[j].name, value) != NULL)
				return NULL;
	return "no sequence has that in its name; they are in scenarios/workloads/sequences_*.c";
}

const char *sweep_option(int key, const char *value)
{
	switch (key) {
	case KEY_SEQUENCE:
		return read_sequence(value);
	case KEY_MODES:
		return read_modes(value);
	case KEY_PAIRS:
		return read_pairs(value);
	case KEY_STRIDE:
		return harness_read_whole(value, 1, 100000, &sweep_options.stride);
	case KEY_PART:
		return read_part(value);
	default:
		return NULL;
	}
}

/* --- The sequences ------------------------------------------------------------------------ */

static struct {
	struct harness_run *run;
	struct trial trial;
	const struct sequence *sequences[SEQUENCES_MAX];
	unsigned count, position; /* position: of sequence and journal mode; 0: before the first. */
	struct trial_sums before; /* When this sequence began. */
	uint64_t armed;           /* Trials of it. */
	const struct sweep_pairs *pairs;
	uint64_t pair_count; /* That met both faults. */
	char folder[300];
	bool in_memory; /* The folder is in /dev/shm. */
	struct {
		const char *name;
		uint64_t hits;
	} places[PLACES_MAX];
} sweep;

/* How often the place of the pairs is visited in this sequence where visit n alone fails, with each
 * of the errors; 0: not known. */
enum { KNOWN_MAX = 16384 };
static uint32_t reach[SWEEP_ERRORS_MAX][KNOWN_MAX];

static void choose(const struct sequences *from, unsigned traits)
{
	const struct sweep_options *o = &sweep_options;

	for (unsigned i = 0; i < from->count; i++) {
		const struct sequence *s = &from->list[i];

		if ((s->traits & traits) == traits &&
		    (o->sequence == NULL || strstr(s->name, o->sequence) != NULL))
			sweep.sequences[sweep.count++] = s;
	}
}

/* Memory is faster than the fastest disk, and a sync in it costs nothing. */
static void choose_folder(void)
{
	struct statvfs room;

	snprintf(sweep.folder, sizeof sweep.folder, "/dev/shm/poolproof-XXXXXX");
	sweep.in_memory = statvfs("/dev/shm", &room) == 0 &&
	                  room.f_bavail * room.f_frsize >= ROOM_BYTES &&
	                  mkdtemp(sweep.folder) != NULL;
	if (!sweep.in_memory)
		snprintf(sweep.folder, sizeof sweep.folder, "%s", harness_run_work(sweep.run));
	harness_sync_skip(!sweep.in_memory);
}

/* One that nothing is learnt from: what SQLite and we keep for good is there afterwards. */
static void warm_up(void)
{
	struct harness_fault none = { .place = "*", .skip = UINT64_MAX };

	harness_case_always(sweep.run, "before any fault");
	sweep.trial.sequence = sweep.sequences[0];
	for (unsigned i = 0; i < 4; i++) {
		sweep.trial.wal = i % 2 != 0;
		trial_baseline(&sweep.trial);
		trial_run(&sweep.trial, &none, 1);
	}
	harness_case_end(sweep.run);
	trial_baseline(&sweep.trial);
	sweep.trial.sums = (struct trial_sums){ 0 };
}

void sweep_begin(struct harness_run *run, const struct trial_law *law, unsigned traits,
                 const struct sweep_pairs *pairs)
{
	unsigned char byte;

	sweep.run = run;
	sweep.pairs = pairs;
	sqlite3_randomness(1, &byte); /* Seeded by a system call, which is no sequence's. */
	if (!harness_vtime_begin())
		harness_cannot(run, "SQLite has no VFS \"unix\"; use one that has");
	if (pp_sleep_set != NULL) {
		pp_sleep_set(harness_vtime_sleep_ns);
		harness_vtime_listen(pp_time_pass_ns);
	}
	if (strcmp(harness_run_target(run)->name, "poolproof") == 0) {
		choose(&sequences_lend, traits);
		choose(&sequences_work, traits);
		choose(&sequences_keep, traits);
	} else {
		choose(&sequences_generic, traits | SEQUENCE_GENERIC);
	}
	if (sweep.count == 0)
		harness_cannot(run, "--sequence %s: none of this target's and this scenario's",
		               sweep_options.sequence);
	choose_folder();
	trial_init(&sweep.trial, run, law, sweep.folder);
	warm_up();
}

static const char *mode(void)
{
	return sweep.trial.wal ? "WAL" : "DELETE";
}

static unsigned long long since(enum trial_recovery how)
{
	return sweep.trial.sums.recovered[how] - sweep.before.recovered[how];
}

static void tell_sequence(void)
{
	const struct trial *t = &sweep.trial;
	const struct trial_sums *now = &t->sums, *was = &sweep.before;
	uint64_t hits = now->hits - was->hits, wrong = now->wrong - was->wrong;

	harness_event(sweep.run, "fault",
	              "%s, %s: %llu rounds, %llu hits, %llu wrong; it served at once %llu times, "
	              "again %llu, after pp_keep() %llu, after pp_reopen() %llu",
	              mode(), t->sequence->name, (unsigned long long)(now->runs - was->runs),
	              (unsigned long long)hits, (unsigned long long)wrong, since(TRIAL_AT_ONCE),
	              since(TRIAL_AGAIN), since(TRIAL_KEPT), since(TRIAL_REOPENED));
	if (sweep.armed > 0 && hits == 0)
		harness_distrust(sweep.run, "%s, %s: nothing was hit", mode(), t->sequence->name);
}

/* One for each part, and the next one for each beginning with another: of two parts each has every
 * second sequence in WAL mode, which takes a tenth longer than DELETE, and the others in DELETE. */
static bool is_part(unsigned position)
{
	unsigned parts = sweep_options.parts;

	return (position + position / parts) % parts == sweep_options.part - 1;
}

bool sweep_next(void)
{
	if (sweep.position > 0)
		tell_sequence();
	for (; sweep.position < 2 * sweep.count; sweep.position++) {
		const struct sequence *s = sweep.sequences[sweep.position / 2];

		sweep.trial.wal = sweep.position % 2 == 0;
		if (!is_part(sweep.position) ||
		    (!sweep.trial.wal && (s->traits & SEQUENCE_MEMDB) != 0))
			continue;
		sweep.trial.sequence = s;
		sweep.before = sweep.trial.sums;
		sweep.armed = 0;
		memset(reach, 0, sizeof reach);
		sweep.position++;
		return true;
	}
	return false;
}

/* --- Trials ------------------------------------------------------------------------------- */

void sweep_visits(const char *const places[], unsigned count, uint64_t ret_visits[])
{
	struct harness_fault none[HARNESS_FAULTS_MAX];

	harness_case_always(sweep.run, "%s, %s, nothing", mode(), sweep.trial.sequence->name);
	for (unsigned i = 0; i < count; i++)
		none[i] = (struct harness_fault){ .place = places[i], .skip = UINT64_MAX };
	trial_run(&sweep.trial, none, count);
	for (unsigned i = 0; i < count; i++)
		ret_visits[i] = none[i].visits;
	harness_case_end(sweep.run);
}

static void count_places(const struct harness_fault *fault)
{
	unsigned i = 0;

	if (fault->hit == NULL)
		return;
	while (i < PLACES_MAX && sweep.places[i].name != NULL &&
	       strcmp(sweep.places[i].name, fault->hit) != 0)
		i++;
	if (i == PLACES_MAX)
		return;
	sweep.places[i].name = fault->hit;
	sweep.places[i].hits += fault->hits;
}

static void learn(const struct harness_fault *fault)
{
	const struct sweep_pairs *p = sweep.pairs;

	if (fault->hits != 1 || fault->times > 1 || fault->action != HARNESS_FAULT_FAIL ||
	    strcmp(fault->place, p->place) != 0 || fault->skip >= KNOWN_MAX)
		return;
	for (unsigned i = 0; i < p->error_count; i++)
		if (p->errors[i] == fault->error)
			reach[i][fault->skip] = (uint32_t)fault->visits;
}

bool sweep_is_last(uint64_t n)
{
	return n < KNOWN_MAX && reach[0][n] == n + 1;
}

static void try(struct harness_fault faults[], unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		harness_case_choose(sweep.run, faults[i].skip);
	trial_run(&sweep.trial, faults, count);
	sweep.armed++;
	for (unsigned i = 0; i < count; i++)
		count_places(&faults[i]);
	/* Who waits for a lock asks as often as real time lets him. */
	if (faults[0].times != UINT64_MAX)
		harness_case_note(sweep.run, "%llu hits", (unsigned long long)faults[0].hits);
	harness_case_end(sweep.run);
}

void sweep_one(struct harness_fault *fault, const char *what)
{
	if (!harness_case_begin(sweep.run, "%s, %s, %s", mode(), sweep.trial.sequence->name, what))
		return;
	try(fault, 1);
	learn(fault);
}

/* --- Pairs -------------------------------------------------------------------------------- */

static struct harness_fault visit_of(uint64_t n, unsigned error)
{
	return (struct harness_fault){ .place = sweep.pairs->place,
		                       .error = sweep.pairs->errors[error],
		                       .skip = n,
		                       .times = 1 };
}

/* "17", or "17 (errno 5)". */
static const char *told(const struct harness_fault *fault, char text[static 40])
{
	int length = snprintf(text, 40, "%llu", (unsigned long long)fault->skip);

	if (fault->error != 0)
		snprintf(text + length, 40 - (size_t)length, " (errno %d)", fault->error);
	return text;
}

/* The number of the last visit where this one fails, alone; n where it was never come to. */
static uint64_t last_visit(uint64_t n, unsigned error)
{
	struct harness_fault fault = visit_of(n, error);
	bool goes_on = sweep.trial.goes_on;
	char text[40];

	if (!goes_on && n < KNOWN_MAX && reach[error][n] != 0)
		return reach[error][n] - 1;
	harness_case_always(sweep.run, "%s, %s, alone%s, %s %s", mode(), sweep.trial.sequence->name,
	                    goes_on ? " and on" : "", fault.place, told(&fault, text));
	try(&fault, 1);
	if (!goes_on)
		learn(&fault);
	return fault.hits == 0 ? n : fault.visits - 1;
}

static unsigned any_error(struct harness_entropy *entropy)
{
	return (unsigned)harness_entropy_uniform(entropy, 0, sweep.pairs->error_count - 1);
}

static void one_pair(struct harness_entropy *entropy, unsigned i, uint64_t first, unsigned error,
                     uint64_t second)
{
	struct harness_fault faults[] = { visit_of(first, error),
		                          visit_of(second, any_error(entropy)) };
	char texts[2][40], what[160];

	snprintf(what, sizeof what, "%s %u, %s %s and %s",
	         sweep.trial.goes_on ? "recovery" : "pair", i, sweep.pairs->place,
	         told(&faults[0], texts[0]), told(&faults[1], texts[1]));
	if (!harness_case_begin(sweep.run, "%s, %s, %s", mode(), sweep.trial.sequence->name, what))
		return;
	try(faults, 2);
	sweep.pair_count += faults[1].hits;
	if (faults[1].hits == 0)
		harness_distrust(sweep.run,
		                 "%s, %s, %s: the second fault was not met in %llu visits, and is "
		                 "where the first one, alone, leads to",
		                 mode(), sweep.trial.sequence->name, what,
		                 (unsigned long long)faults[0].visits);
}

/* The second fault meets whoever comes after the sequence in which the first one was met. */
static void one_recovery(struct harness_entropy *entropy, unsigned i, uint64_t first,
                         unsigned error)
{
	uint64_t of_sequence = last_visit(first, error), last;

	sweep.trial.goes_on = true;
	last = last_visit(first, error);
	if (last > of_sequence)
		one_pair(entropy, i, first, error,
		         (uint64_t)harness_entropy_uniform(entropy, (int64_t)of_sequence + 1,
		                                           (int64_t)last));
	sweep.trial.goes_on = false;
}

static void all_pairs(struct harness_entropy *entropy, uint64_t visits)
{
	unsigned i = 0, j = 0;

	for (uint64_t n = 0; n < visits; n += sweep_options.stride) {
		unsigned error = any_error(entropy);
		uint64_t last = last_visit(n, error);

		for (uint64_t second = n + 1; second <= last; second++)
			one_pair(entropy, i++, n, error, second);
		one_recovery(entropy, j++, n, error);
	}
}

/* From the drawn visit on the next one that anything comes after in the sequence. The second fault
 * is near enough to it to meet what is done about it, as a rule. */
static void draw_pair(struct harness_entropy *entropy, unsigned i, uint64_t step, uint64_t steps)
{
	uint64_t first = 0, last = 0;
	unsigned error = any_error(entropy);

	for (uint64_t tried = 0; tried < steps && last <= first; tried++) {
		first = (step + tried) % steps * sweep_options.stride;
		last = last_visit(first, error);
	}
	if (last > first)
		one_pair(entropy, i, first, error,
		         first + (uint64_t)harness_entropy_zipfian(entropy, 1,
		                                                   (int64_t)(last - first), 0.99));
}

/* Each draw is a statement of its own: the order of arguments is the compiler's. */
static void some_pairs(struct harness_entropy *entropy, uint64_t visits, unsigned count)
{
	uint64_t stride = sweep_options.stride, steps = (visits + stride - 1) / stride;

	for (unsigned i = 0; i < count && steps > 0; i++) {
		int64_t last = (int64_t)steps - 1;
		uint64_t step = (uint64_t)harness_entropy_uniform(entropy, 0, last);

		draw_pair(entropy, i, step, steps);
		step = (uint64_t)harness_entropy_uniform(entropy, 0, last);
		one_recovery(entropy, i, step * stride, any_error(entropy));
	}
}

void sweep_pairs(uint64_t visits)
{
	const struct sweep_options *o = &sweep_options;
	struct harness_entropy entropy;

	if ((o->modes & SWEEP_PAIRS) == 0)
		return;
	harness_entropy_init(&entropy, harness_run_options(sweep.run)->seed, 0, sweep.position);
	if (o->pairs == SWEEP_ALL)
		all_pairs(&entropy, visits);
	else
		some_pairs(&entropy, visits, o->pairs / o->stride);
}

/* --- The end ------------------------------------------------------------------------------ */

static void number(const char *name, uint64_t value)
{
	harness_number(sweep.run, name, (double)value);
}

void sweep_end(void)
{
	const struct trial_sums *sums = &sweep.trial.sums;
	char name[64];

	number("runs_count", sums->runs);
	number("hits_count", sums->hits);
	number("pairs_count", sweep.pair_count);
	number("benign_count", sums->benign);
	number("wrong_count", sums->wrong);
	number("nomem_count", sums->nomem);
	number("lost_bytes", sums->lost_bytes);
	number("writes.late_count", sums->late);
	number("recovered.at_once_count", sums->recovered[TRIAL_AT_ONCE]);
	number("recovered.again_count", sums->recovered[TRIAL_AGAIN]);
	number("recovered.kept_count", sums->recovered[TRIAL_KEPT]);
	number("recovered.reopened_count", sums->recovered[TRIAL_REOPENED]);
	for (unsigned i = 0; i < PLACES_MAX && sweep.places[i].name != NULL; i++) {
		snprintf(name, sizeof name, "fault.%s.hits_count", sweep.places[i].name);
		number(name, sweep.places[i].hits);
	}
	trial_done(&sweep.trial);
	if (sweep.in_memory)
		rmdir(sweep.folder);
	harness_vtime_end();
}
