/*
 * shutdown - a pool is closed under full load, at every moment.
 *
 * Question   Is closing over in its time, and is nothing lost, freed under a holder or left behind?
 * Load       --threads threads do all that a pool can do; it is closed at a random moment, or when
 * a thread is at one named point of the pool (instrumented builds), by one to three threads with
 * little time or more, with leases held past it, stuck queries, a fork() meanwhile.
 *            --rounds times. Then, and on other targets only this: borrowers read and write while
 * it is closed, and give back what they have afterwards. Passes     when closing is back by its
 * deadline, once with PP_OK; PP_LEASED counts who still holds; holders' connections answer; waiters
 * are woken and all calls say PP_CLOSED; acknowledged writes are there; no byte and no descriptor
 * is left; the file can be opened again at once.
 */
/* SPDX-License-Identifier: MIT */
#include "targets/targets.h"
#include "workloads/borrow.h"
#include "workloads/shut.h"

#include <poolproof/harness/case.h>
#include <poolproof/harness/entropy.h>
#include <poolproof/harness/run.h>

#include <argp.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

enum { KEY_ROUNDS = 0x1000, ROUNDS_MAX = 100000 };

static const struct argp_option options[] = {
	{ "rounds", KEY_ROUNDS, "N", 0, "How often it is closed (300)", 0 },
	{ 0 },
};

static unsigned rounds = 300;

static const char *option(int key, const char *value)
{
	return key == KEY_ROUNDS ? harness_read_whole(value, 1, ROUNDS_MAX, &rounds) : NULL;
}

static struct shut_sums sums;

/* --- All rounds --------------------------------------------------------------------------- */

static void target_round(struct harness_run *run, unsigned n)
{
	struct harness_entropy entropy;
	struct borrow_close what = { .acks = harness_acks_new(NULL) };
	char path[PATH_MAX];

	harness_entropy_init(&entropy, harness_run_options(run)->seed, 1, n);
	if (!harness_case_begin(run, "target round %u", n)) {
		harness_acks_free(what.acks);
		return;
	}
	if (what.acks == NULL)
		harness_cannot(run, "no memory for what was acknowledged: %s", strerror(errno));
	snprintf(path, sizeof path, "%s/target-%u.db", harness_run_work(run), n);
	what.path = path;
	if (harness_run_target(run) == &target_poolproof)
		what.identity = target_poolproof_identity;
	what.late = (unsigned)harness_entropy_uniform(&entropy, 0, 2);
	what.wait_us = (unsigned)harness_entropy_uniform(&entropy, 0, 15000);
	what.seed = harness_entropy_next(&entropy);
	harness_case_choose(run, what.seed);
	borrow_create(run, path);
	borrow_close(run, &what);
	borrow_judge_descriptors(run);
	borrow_examine(run, path, what.acks, &sums.acks);
	borrow_remove(path);
	harness_acks_free(what.acks);
	harness_case_note(run, "closed");
	harness_case_end(run);
}

static void numbers(struct harness_run *run)
{
	unsigned points = 0;

	for (unsigned i = 0; i < PP_POINTS; i++)
		points += sums.points[i];
	harness_number(run, "rounds_count", rounds);
	harness_number(run, "closing.longest_ms", (double)sums.longest_ns / 1e6);
	harness_number(run, "closing.past_deadline_ms", (double)sums.late_ns / 1e6);
	harness_number(run, "closing.late_count", sums.late);
	harness_number(run, "closing.leased_count", sums.leased);
	harness_number(run, "closing.points_count", points);
	harness_number(run, "closing.told_ms", (double)sums.told_ns / 1e6);
}

static void body(struct harness_run *run)
{
	bool ours = harness_run_target(run) == &target_poolproof;

	for (unsigned n = 0; ours && n < rounds; n++)
		shut_round(run, n, &sums);
	for (unsigned n = 0; n < (ours ? (rounds + 9) / 10 : rounds); n++)
		target_round(run, n);
	if (ours)
		numbers(run);
	harness_number(run, "writes.acknowledged_count", (double)sums.acks.acknowledged);
	harness_number(run, "writes.lost_count", (double)sums.acks.lost);
	harness_number(run, "writes.phantoms_count", (double)sums.acks.phantoms);
}

static const struct harness_scenario scenario = {
	.name = "shutdown",
	.question =
		"Is closing over in its time, and is nothing lost, freed under a holder or left "
		"behind?",
	.load = "all that a pool can do, and it is closed --rounds times, at each of its points",
	.passes = "closing is back in time, waiters are told, holders' connections answer, "
		  "acknowledged writes are there, nothing is left",
	.options = options,
	.option = option,
	.body = body,
};

int main(int argc, char **argv)
{
	return harness_main(&scenario, targets_all, argc, argv);
}
