/*
 * watch.c - the parent, while the child lives: a hang is a FAIL, and so is a crash.
 *
 * Progress is operations finished, and steps of the target's open, check and close. Nothing of it
 * for the limit, while something is inside one of these, is a hang. A load that merely waits for
 * its next operation is not inside.
 */
/* SPDX-License-Identifier: MIT */
#include "internal.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

double watch_limit_s;
static sigset_t outside; /* The mask that the caller had, and the child gets. */

struct stillness {
	uint64_t steps, since_ns;
};

void watch_block(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigprocmask(SIG_BLOCK, &set, &outside);
}

void watch_unblock(void)
{
	sigprocmask(SIG_SETMASK, &outside, NULL);
}

void watch_prepare_child(struct harness_run *run)
{
	/* The terminal sends Ctrl-C to both; the parent passes it on as a request. */
	signal(SIGINT, SIG_IGN);
	signal(SIGTERM, SIG_IGN);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	stacks_handlers(run);
	watch_unblock();
}

static bool inside(const struct shared *shared)
{
	if (atomic_load(&shared->target_steps) % 2 == 1 ||
	    atomic_load(&shared->case_steps) % 2 == 1)
		return true;
	for (unsigned i = 0; i < SHARED_THREADS; i++)
		if (atomic_load_explicit(&shared->slots[i].inside, memory_order_relaxed))
			return true;
	return false;
}

static uint64_t limit_ns(const struct harness_run *run)
{
	/* Waiting for a connection is allowed to take its time. */
	double limit = watch_limit_s > 0 ? watch_limit_s : 10,
	       wait = run->options.timeout_ms / 500.0;

	if (watch_limit_s == 0 && wait > limit)
		limit = wait;
	return (uint64_t)(limit * time_multiplier() * 1e9);
}

static bool hangs(const struct harness_run *run, struct stillness *still)
{
	uint64_t now = now_ns();
	uint64_t steps = finished_count(run->shared) + atomic_load(&run->shared->target_steps) +
	                 atomic_load(&run->shared->case_steps);

	if (steps != still->steps || still->since_ns == 0 || !inside(run->shared)) {
		still->steps = steps;
		still->since_ns = now;
	}
	return now - still->since_ns > limit_ns(run);
}

static const char *hangs_where(const struct shared *shared)
{
	if (atomic_load(&shared->target_steps) % 2 == 1)
		return "the target's open, check or close";
	return atomic_load(&shared->case_steps) % 2 == 1 ? shared->case_name : shared->phase;
}

static void hang(struct harness_run *run, pid_t child)
{
	struct shared *shared = run->shared;
	const char *where = hangs_where(shared);

	verdict_add(run, VERDICT_FAIL,
	            "hang: nothing finished for %.1f s in %s; every thread's stack is in "
	            "leaks/stacks.txt; the target had %u connections, %u lent, %u waiters",
	            (double)limit_ns(run) / 1e9, where, atomic_load(&shared->seen_connections),
	            atomic_load(&shared->seen_leased), atomic_load(&shared->seen_waiting));
	fprintf(stderr, "%s: hang in %s after %.1f s\n", run->scenario->name, where,
	        run_seconds(run));
	stacks_of_threads(run, child);
	kill(child, SIGKILL);
}

/* ", in case '...'": where it was, if it was in one. */
static void case_words(const struct shared *shared, char *ret_words, size_t size)
{
	ret_words[0] = '\0';
	if (atomic_load(&shared->case_steps) % 2 == 1)
		snprintf(ret_words, size, ", in case '%s'", shared->case_name);
}

static void ended(struct harness_run *run, int status, bool killed)
{
	struct shared *shared = run->shared;
	char words[SHARED_CASE + 16];

	if (killed || atomic_load(&shared->cannot) != 0)
		return;
	case_words(shared, words, sizeof words);
	if (WIFSIGNALED(status)) {
		verdict_add(run, VERDICT_FAIL, "crash: SIG%s%s%s", sigabbrev_np(WTERMSIG(status)),
		            words,
		            atomic_load(&shared->frame_count) > 0
		                    ? "; its stack is in leaks/stacks.txt"
		                    : "");
		stacks_of_crash(run);
	} else if (!atomic_load(&shared->complete)) {
		verdict_add(run, VERDICT_FAIL, "the body ended the process with exit status %d%s",
		            WEXITSTATUS(status), words);
	} else if (WEXITSTATUS(status) != 0) {
		verdict_add(run, VERDICT_FAIL,
		            "exit status %d after everything was done: a sanitizer's or Valgrind's "
		            "finding, see standard error",
		            WEXITSTATUS(status));
	}
}

/* The first Ctrl-C asks, the second does not. */
static void interrupt(struct harness_run *run, pid_t child, bool *killed)
{
	if (atomic_exchange(&run->shared->stop, 1) != 0) {
		*killed = true;
		kill(child, SIGKILL);
		return;
	}
	verdict_add(run, VERDICT_UNTRUSTWORTHY, "interrupted after %.1f s", run_seconds(run));
	fprintf(stderr, "\n%s: stopping, then writing the reports; interrupt again to kill it\n",
	        run->scenario->name);
}

void watch_child(struct harness_run *run, pid_t child, struct progress *progress)
{
	struct stillness still = { 0, 0 };
	bool killed = false;
	sigset_t set;
	int status;

	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	while (waitpid(child, &status, WNOHANG) == 0) {
		int got = sigtimedwait(&set, NULL, &(struct timespec){ .tv_nsec = 100000000 });

		if (got == SIGINT || got == SIGTERM)
			interrupt(run, child, &killed);
		progress_tick(progress, run);
		if (!killed && hangs(run, &still)) {
			killed = true;
			progress_end(progress);
			hang(run, child);
		}
	}
	progress_end(progress);
	ended(run, status, killed);
}
