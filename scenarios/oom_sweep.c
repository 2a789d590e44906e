/*
 * oom_sweep - there is no memory, for one allocation after the other.
 *
 * Question   What if any one allocation fails?
 * Load       Some 45 short sequences of calls over the whole public interface, each again and again
 *            on a fresh database: the first allocation of SQLite's or the pool's fails, then the
 *            second, ... until there is none left; then all from the first on, from the second on,
 *            ...; then pairs, drawn from the seed, the second of which meets the recovery from the
 *            first. In WAL and in DELETE mode, with one thread and in virtual time. What would be,
 *            call by call, a trial that was done is counted, and done once in 16 times.
 * Passes     when each call says PP_OK or PP_NOMEM, the pool works as soon as there is memory, each
 * write is there whole or not at all as it was told, and no byte and no descriptor is left.
 *
 * On another target (--target raw): nothing crashes, it serves afterwards, writes are whole.
 */
/* SPDX-License-Identifier: MIT */
#include "targets/targets.h"
#include "workloads/sweep.h"

#include <poolproof/harness/case.h>
#include <poolproof/harness/entropy.h>
#include <poolproof/harness/run.h>

#include <stdio.h>
#include <string.h>

/* Only a lack of memory is told, and nothing else made of it. */
static bool allows(const struct trial *t, enum pp_status status, enum pp_status expected)
{
	(void)t, (void)expected;
	return status == PP_NOMEM;
}

static enum trial_recovery patience(const struct trial *t)
{
	(void)t;
	return TRIAL_AT_ONCE;
}

static const struct trial_law law = { .allows = allows, .patience = patience };

/* --- What need not be done twice ---------------------------------------------------------- */

enum { KNOWN_MAX = 16384, DOUBT = 16 };

/* Places of this sequence after which, when they failed once, nothing was allocated any more.
 * Whatever else is to fail from there on is not asked, so it is the same trial. */
static bool is_last[KNOWN_MAX];
static uint64_t last_count; /* How often one was met again. */
static uint64_t same_count; /* Of these, not done. */

static void know(const struct harness_fault *once)
{
	if (once->skip < KNOWN_MAX)
		is_last[once->skip] = once->hits == 1 && once->visits == once->skip + 1;
}

/* One of so many is done all the same, and must be what is said of it. */
static bool is_known(uint64_t place)
{
	if (place >= KNOWN_MAX || !is_last[place] || last_count++ % DOUBT == 0)
		return false;
	same_count++;
	return true;
}

static void doubt(struct harness_run *run, const struct harness_fault *fault, const char *what)
{
	if (fault->skip < KNOWN_MAX && is_last[fault->skip] && fault->visits != 0 &&
	    fault->visits != fault->skip + 1)
		harness_distrust(run, "%s: allocates where the same failure, once, ended all",
		                 what);
}

/* --- The faults --------------------------------------------------------------------------- */

static void each_once(uint64_t places)
{
	char what[64];

	for (uint64_t n = 0; n < places; n += sweep_options.stride) {
		struct harness_fault fault = { .place = "heap", .skip = n, .times = 1 };

		snprintf(what, sizeof what, "once, heap %llu", (unsigned long long)n);
		sweep_one(&fault, 1, what);
		know(&fault);
	}
}

static void all_from_each(struct harness_run *run, uint64_t places)
{
	char what[64];

	for (uint64_t n = 0; n < places; n += sweep_options.stride) {
		struct harness_fault fault = { .place = "heap", .skip = n, .times = UINT64_MAX };

		if (is_known(n))
			continue;
		snprintf(what, sizeof what, "lasting, heap %llu", (unsigned long long)n);
		sweep_one(&fault, 1, what);
		doubt(run, &fault, what);
	}
}

/* Near enough to the first to meet what is done about it, as a rule. */
static void some_pairs(struct harness_run *run, uint64_t places, struct harness_entropy *entropy)
{
	char what[64];

	for (unsigned i = 0; i < sweep_options.pairs / sweep_options.stride && places > 0; i++) {
		uint64_t first = (uint64_t)harness_entropy_uniform(entropy, 0, (int64_t)places - 1);
		uint64_t apart = (uint64_t)harness_entropy_zipfian(entropy, 1, 64, 0.99);
		struct harness_fault faults[] = { { .place = "heap", .skip = first },
			                          { .place = "heap", .skip = first + apart } };

		if (is_known(first))
			continue;
		snprintf(what, sizeof what, "pair %u, heap %llu and %llu", i,
		         (unsigned long long)first, (unsigned long long)(first + apart));
		sweep_one(faults, 2, what);
		doubt(run, faults, what);
	}
}

static void body(struct harness_run *run)
{
	const struct sweep_options *o = &sweep_options;
	struct harness_entropy entropy;
	uint64_t places, sequence = 0;

	if (!harness_fault_heap() || sqlite3_initialize() != SQLITE_OK)
		harness_cannot(run,
		               "SQLite's allocator cannot be wrapped; is it initialised already?");
	sweep_begin(run, &law, 0);
	while (sweep_next()) {
		sweep_visits((const char *const[]){ "heap" }, 1, &places);
		harness_entropy_init(&entropy, harness_run_options(run)->seed, 0, sequence++);
		memset(is_last, 0, sizeof is_last);
		if ((o->modes & SWEEP_ONCE) != 0)
			each_once(places);
		if ((o->modes & SWEEP_LASTING) != 0)
			all_from_each(run, places);
		if ((o->modes & SWEEP_PAIRS) != 0)
			some_pairs(run, places, &entropy);
	}
	harness_number(run, "same_count", (double)same_count);
	sweep_end();
}

static const struct harness_scenario scenario = {
	.name = "oom_sweep",
	.question = "What if any one allocation fails?",
	.load = "short sequences over the whole interface, each allocation failing in turn: once, "
		"from "
		"then on, in pairs",
	.passes = "each call says OK or NOMEM, the pool works when there is memory, every write is "
		  "whole "
		  "or not there, nothing is left",
	.options = sweep_argp,
	.option = sweep_option,
	.body = body,
};

int main(int argc, char **argv)
{
	return harness_main(&scenario, targets_all, argc, argv);
}
