/*
 * watch.c - the parent, while the child lives: a hang is a FAIL, and so is a crash.
 *
 * Progress is operations finished, and steps of cases, of bodies, and of the target's open, check
 * and close. Nothing of it for the limit, while something is inside one of these, is a hang. A load
 * that merely waits for its next operation is not inside. What a body does between all of these (it
 * makes a database, say) may take long, and has a limit of its own.
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

/* Four seconds, and then a moment for the stacks: a hang is told within five. Who may wait for a
 * connection is not late before that time is over, and half a second more. */
#define QUIET_S 4.0
#define OVER_TIMEOUT_S 1.0
#define BETWEEN_S 600.0

double watch_limit_s, watch_between_s;
static sigset_t outside; /* The mask that the caller had, and the child gets. */

enum where { WAITING, IN_TARGET, IN_CASE, IN_LOAD, BETWEEN };

struct stillness {
	enum where where;
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

static bool is_anybody_inside(const struct shared *shared)
{
	for (unsigned i = 0; i < SHARED_THREADS; i++)
		if (atomic_load_explicit(&shared->slots[i].inside, memory_order_relaxed))
			return true;
	return false;
}

static enum where where_is(const struct shared *shared)
{
	if (atomic_load(&shared->target_steps) % 2 == 1)
		return IN_TARGET;
	if (case_runs(shared))
		return IN_CASE;
	if (atomic_load(&shared->loading) == 0)
		return BETWEEN;
	return is_anybody_inside(shared) ? IN_LOAD : WAITING;
}

static double limit_s(const struct harness_run *run, enum where where)
{
	double over = run->options.timeout_ms / 1000.0 + OVER_TIMEOUT_S;

	if (where == BETWEEN)
		return (watch_between_s > 0 ? watch_between_s : BETWEEN_S) * time_multiplier();
	if (watch_limit_s > 0)
		return watch_limit_s * time_multiplier();
	/* A case says itself what its calls may wait for: three seconds at most. */
	return (where != IN_CASE && over > QUIET_S ? over : QUIET_S) * time_multiplier();
}

static bool hangs(const struct harness_run *run, struct stillness *still)
{
	const struct shared *shared = run->shared;
	enum where where = where_is(shared);
	uint64_t now = now_ns();
	uint64_t steps = finished_count(shared) + atomic_load(&shared->target_steps) +
	                 atomic_load(&shared->case_steps);

	if (steps != still->steps || still->since_ns == 0 || where != still->where ||
	    where == WAITING)
		*still = (struct stillness){ where, steps, now };
	return (double)(now - still->since_ns) > limit_s(run, where) * 1e9;
}

static const char *name_of(const struct shared *shared, enum where where)
{
	switch (where) {
	case IN_TARGET:
		return "the target's open, check or close";
	case IN_CASE:
		return shared->case_name;
	case BETWEEN:
		return "the body, outside of all cases and loads";
	default:
		return shared->phase;
	}
}

static void state_of(const struct shared *shared, char *ret_text, size_t size)
{
	unsigned connections = atomic_load(&shared->seen_connections);

	if (connections == 0)
		snprintf(ret_text, size, "nothing is known of the target's state");
	else
		snprintf(ret_text, size, "the target had %u connections, %u lent, %u waiters",
		         connections, atomic_load(&shared->seen_leased),
		         atomic_load(&shared->seen_waiting));
}

static void hang(struct harness_run *run, pid_t child, enum where where)
{
	const char *name = name_of(run->shared, where);
	char state[120];

	state_of(run->shared, state, sizeof state);
	verdict_add(run, VERDICT_FAIL,
	            "hang: nothing finished for %.1f s in %s; every thread's stack is in "
	            "leaks/stacks.txt; %s",
	            limit_s(run, where), name, state);
	fprintf(stderr, "%s: hang in %s after %.1f s\n", run->scenario->name, name,
	        run_seconds(run));
	stacks_of_threads(run, child);
	kill(child, SIGKILL);
}

/* The child's own word goes before its end: Valgrind ends a client of several threads by a signal
 * to itself, and where that comes late, it has an exit status (core_panic). */
static int crash_signal(const struct shared *shared, int status)
{
	int told = atomic_load(&shared->complete) ? 0 : atomic_load(&shared->crash_signal);

	return told != 0 ? told : WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static void ended(struct harness_run *run, int status, bool killed)
{
	struct shared *shared = run->shared;
	int crash = crash_signal(shared, status);

	if (killed || atomic_load(&shared->cannot) != 0)
		return;
	if (crash != 0) {
		verdict_add(run, VERDICT_FAIL, "crash: SIG%s%s%s%s", sigabbrev_np(crash),
		            case_runs(shared) ? " in case " : "",
		            case_runs(shared) ? shared->case_name : "",
		            atomic_load(&shared->frame_count) > 0
		                    ? "; its stack is in leaks/stacks.txt"
		                    : "");
		stacks_of_crash(run);
	} else if (!atomic_load(&shared->complete)) {
		verdict_add(run, VERDICT_FAIL, "the body ended the process with exit status %d%s%s",
		            WEXITSTATUS(status), case_runs(shared) ? " in case " : "",
		            case_runs(shared) ? shared->case_name : "");
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
	struct stillness still = { .since_ns = 0 };
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
			hang(run, child, still.where);
		}
	}
	progress_end(progress);
	ended(run, status, killed);
}
