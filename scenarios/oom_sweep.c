/*
 * oom_sweep - there is no memory, for one allocation after the other.
 *
 * Question   What if any one allocation fails?
 * Load       Some 45 short sequences of calls over the whole public interface, each again and again
 *            on a fresh database: the first allocation of SQLite's or the pool's fails, then the
 *            second, ... until there is none left; then all from the first on, from the second on,
 *            ...; then pairs, all or drawn from the seed, the second of which meets what follows
 *            the first. In WAL and in DELETE mode, with one thread and in virtual time. What would
 *            be, call by call, a trial that was done is counted, and done once in 16 times.
 * Passes     when each call says PP_OK or PP_NOMEM, the pool works as soon as there is memory, each
 *            write is there whole or not at all as it was told, and no byte and no descriptor is
 *            left.
 *
 * On another target (--target raw): nothing crashes, it serves afterwards, writes are whole.
 */
/* SPDX-License-Identifier: MIT */
#include "targets/targets.h"
#include "workloads/sweep.h"

#include <poolproof/harness/run.h>

#include <stdio.h>

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

enum { DOUBT = 16 };

static uint64_t last_count; /* How often a place was met again after which nothing was asked. */
static uint64_t same_count; /* Of these, not done. */

/* Where nothing was allocated any more after this one had failed, whatever else is to fail from
 * there on is not asked: it is the same trial. One of so many is done all the same, and must be
 * what is said of it. */
static bool is_known(uint64_t place)
{
	if (!sweep_is_last(place) || last_count++ % DOUBT == 0)
		return false;
	same_count++;
	return true;
}

static void doubt(struct harness_run *run, const struct harness_fault *fault, const char *what)
{
	if (sweep_is_last(fault->skip) && fault->visits != 0 && fault->visits != fault->skip + 1)
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
		sweep_one(&fault, what);
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
		sweep_one(&fault, what);
		doubt(run, &fault, what);
	}
}

static const struct sweep_pairs pairs = { .place = "heap", .errors = { 0 }, .error_count = 1 };

static void body(struct harness_run *run)
{
	const struct sweep_options *o = &sweep_options;
	uint64_t places;

	if (!harness_fault_heap() || sqlite3_initialize() != SQLITE_OK)
		harness_cannot(run,
		               "SQLite's allocator cannot be wrapped; is it initialised already?");
	sweep_begin(run, &law, 0, &pairs);
	while (sweep_next()) {
		sweep_visits((const char *const[]){ "heap" }, 1, &places);
		if ((o->modes & SWEEP_ONCE) != 0)
			each_once(places);
		if ((o->modes & SWEEP_LASTING) != 0)
			all_from_each(run, places);
		sweep_pairs(places);
	}
	harness_number(run, "same_count", (double)same_count);
	sweep_end();
}

static const struct harness_scenario scenario = {
	.name = "oom_sweep",
	.question = "What if any one allocation fails?",
	.load = "short sequences over the whole interface, each allocation failing in turn: once, "
		"from then on, in pairs",
	.passes = "each call says OK or NOMEM, the pool works when there is memory, every write is "
		  "whole or not there, nothing is left",
	.options = sweep_argp,
	.option = sweep_option,
	.body = body,
};

int main(int argc, char **argv)
{
	return harness_main(&scenario, targets_all, argc, argv);
}
