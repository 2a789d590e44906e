/* everything.c - threads that use a pool in every way, and what each call may say when. */
/* SPDX-License-Identifier: MIT */
#include "everything.h"

#include <poolproof/harness/case.h>

#include <time.h>

static bool fits(const struct everything_worker *w, const struct everything_call *call,
                 enum pp_status status, const struct pp_error *error, uint64_t took_ns)
{
	switch (status) {
	case PP_OK:
		return true;
	case PP_CLOSED:
		return atomic_load(&w->all->closing_ns) != 0;
	case PP_TIMEOUT:
		return took_ns + 1000000 >= w->patience_ns ||
		       (error->sqlite_code == SQLITE_INTERRUPT && everything_interrupts(w->all));
	case PP_ROLLED_BACK:
		return everything_interrupts(w->all) || w->patience_ns != UINT64_MAX;
	case PP_SQLITE:
		if ((error->sqlite_code & 0xff) == SQLITE_BUSY)
			return (call->may & MAY_BE_REFUSED) != 0;
		return (error->sqlite_code & 0xff) == SQLITE_INTERRUPT &&
		       (everything_interrupts(w->all) || took_ns + 1000000 >= w->patience_ns);
	default:
		return (call->may & 1u << status) != 0;
	}
}

/* Once it closes: who waits is told at once, who works is let finish or stopped in time. */
static void judge_end(struct everything_worker *w, const struct everything_call *call,
                      enum pp_status status, uint64_t begun, uint64_t now)
{
	struct everything *all = w->all;
	uint64_t closing = atomic_load(&all->closing_ns), since = closing > begun ? closing : begun;
	uint64_t patience_ns = status == PP_CLOSED ? 0 : atomic_load(&all->patience_ns), told;

	if (closing == 0 || now <= since || (call->may & MAY_LAST) != 0)
		return;
	if (now - since > patience_ns + harness_lateness_ns())
		harness_case_fail(
			all->run,
			"%s ended with %s %.0f ms after the closing began: its waiter was "
			"not woken, or what ran was not interrupted",
			call->name, pp_status_name(status), (double)(now - since) / 1e6);
	told = atomic_load(&all->told_ns);
	while (status == PP_CLOSED && now - since > told &&
	       !atomic_compare_exchange_weak(&all->told_ns, &told, now - since))
		;
}

static void *work(void *context)
{
	struct everything_worker *w = context;
	enum pp_status status = PP_OK;

	for (w->index = 0; status != PP_CLOSED; w->index++) {
		struct pp_error error = { 0 };
		const struct everything_call *call;
		uint64_t begun = harness_now_ns(), now;

		harness_entropy_init(&w->entropy, w->all->seed, w->thread, w->index);
		w->patience_ns = UINT64_MAX;
		call = everything_next(w);
		atomic_store(&w->doing, call->name);
		status = call->run(w, &error);
		now = harness_now_ns();
		if (!fits(w, call, status, &error, now - begun))
			harness_case_fail(w->all->run, "%s says %s after %.1f ms: %s", call->name,
			                  pp_status_name(status), (double)(now - begun) / 1e6,
			                  error.message);
		judge_end(w, call, status, begun, now);
		harness_step(w->all->run);
	}
	atomic_store(&w->doing, "a call after the closing");
	everything_all_closed(w);
	return NULL;
}

void everything_start(struct everything *all, struct everything_worker *workers, unsigned count)
{
	for (unsigned t = 0; t < count; t++) {
		workers[t].all = all;
		workers[t].thread = t;
		if (pthread_create(&workers[t].running, NULL, work, &workers[t]) != 0)
			harness_cannot(all->run, "no more threads; raise the limit");
	}
}

void everything_join(struct everything *all, struct everything_worker *workers, unsigned count)
{
	for (unsigned t = 0; t < count; t++) {
		struct timespec until;

		clock_gettime(CLOCK_REALTIME, &until);
		until.tv_sec += (time_t)(2 * harness_lateness_ns() / 1000000000) + 1;
		if (pthread_timedjoin_np(workers[t].running, NULL, &until) == 0)
			continue;
		harness_case_fail(
			all->run,
			"the pool is closed and %s does not end: its waiter was not woken, "
			"or what ran was not interrupted",
			atomic_load(&workers[t].doing));
		pthread_join(workers[t].running, NULL);
	}
}
