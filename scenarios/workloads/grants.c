/* grants.c - a line as it was served, judged afterwards. */
/* SPDX-License-Identifier: MIT */
#include "grants.h"

#include <poolproof/harness/case.h>
#include <poolproof/harness/oracle.h>

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum { GRANTS_MAX = 1 << 20, THREADS_MAX = 512 };

static struct grant all[GRANTS_MAX];
static atomic_uint all_count;

void grants_begin(void)
{
	atomic_store(&all_count, 0);
}

bool grants_add(const struct grant *grant)
{
	unsigned at = atomic_fetch_add_explicit(&all_count, 1, memory_order_relaxed);

	if (at >= GRANTS_MAX) {
		atomic_store(&all_count, GRANTS_MAX);
		return false;
	}
	all[at] = *grant;
	return true;
}

/* Those of a lane, as they were served; the refused ones behind them. */
static int by_order(const void *a, const void *b)
{
	const struct grant *x = a, *y = b;
	uint64_t left = x->order - 1, right = y->order - 1; /* 0, refused, is the largest. */

	if (x->lane != y->lane)
		return x->lane < y->lane ? -1 : 1;
	return left < right ? -1 : left > right;
}

/* The first in served[0..count) that was given back after then. */
static unsigned first_after(const struct grant *served, unsigned count, uint64_t then)
{
	unsigned low = 0, high = count;

	while (low < high) {
		unsigned middle = low + (high - low) / 2;

		if (served[middle].back_ns > then)
			high = middle;
		else
			low = middle + 1;
	}
	return low;
}

/* --- Three rules -------------------------------------------------------------------------- */

static void judge_order(struct harness_run *run, const struct grant *served, unsigned count,
                        struct grants_verdict *v)
{
	const struct grant *last = NULL;

	for (unsigned i = 0; i < count; i++) {
		if (served[i].stood_ns == 0)
			continue;
		if (last != NULL && served[i].stood_order < last->stood_order &&
		    v->violations++ == 0)
			harness_case_fail(
				run,
				"lane %u: thread %u came to the line before thread %u and "
				"was served after it: the line is not in order",
				served[i].lane, served[i].thread, last->thread);
		last = &served[i];
	}
}

/* Who waits is w: served as the end'th of the lane, or refused before that one was. */
static void judge_overtaking(struct harness_run *run, const struct grant *served, unsigned end,
                             const struct grant *w, uint64_t overtake_ns, unsigned allowed,
                             struct grants_verdict *v)
{
	uint64_t due = w->stood_ns + overtake_ns, overtakers = 0;

	for (unsigned j = first_after(served, end, due); j < end; j++)
		overtakers += served[j].asked_ns > due && served[j].ended_ns < w->ended_ns;
	if (overtakers > v->overtaken_most)
		v->overtaken_most = overtakers;
	if (overtakers <= allowed || v->violations++ > 0)
		return;
	harness_case_fail(run,
	                  "lane %u: thread %u stood in the line for %.0f ms, and %llu who asked "
	                  "after it was due (%.0f ms) were served before: newcomers overtake for "
	                  "ever, it starves",
	                  w->lane, w->thread, (double)(w->ended_ns - w->stood_ns) / 1e6,
	                  (unsigned long long)overtakers, (double)overtake_ns / 1e6);
}

/* From until: nobody had the connection, and w stood there. */
static void judge_idle(struct harness_run *run, const struct grant *w, uint64_t from,
                       uint64_t until, struct grants_verdict *v)
{
	uint64_t since = w->stood_ns > from ? w->stood_ns : from;
	uint64_t to = w->ended_ns < until ? w->ended_ns : until;

	if (to < since || to - since <= harness_lateness_ns() || v->violations++ > 0)
		return;
	harness_case_fail(run,
	                  "lane %u: the connection lay idle for %.0f ms while thread %u waited for "
	                  "it: a wake-up was lost",
	                  w->lane, (double)(to - since) / 1e6, w->thread);
}

/* The gap before the grant that ended w's wait, or in which it was refused. */
static void judge_gap(struct harness_run *run, const struct grant *served, unsigned count,
                      unsigned end, const struct grant *w, struct grants_verdict *v)
{
	uint64_t from = end > 0 ? served[end - 1].back_ns : 0;
	uint64_t until = end < count ? served[end].ended_ns : UINT64_MAX;

	judge_idle(run, w, from, until, v);
}

/* --- A lane ------------------------------------------------------------------------------- */

static void judge_one(struct harness_run *run, const struct grant *served, unsigned count,
                      unsigned end, const struct grant *w, uint64_t overtake_ns, unsigned allowed,
                      struct grants_verdict *v)
{
	if (w->stood_ns == 0)
		return;
	v->waits++;
	judge_overtaking(run, served, end, w, overtake_ns, allowed, v);
	judge_gap(run, served, count, end, w, v);
	if (w->order != 0 && w->ended_ns - w->stood_ns > v->waited_most_ns)
		v->waited_most_ns = w->ended_ns - w->stood_ns;
}

void grants_judge(struct harness_run *run, unsigned lane, uint64_t overtake_ns, unsigned allowed,
                  struct grants_verdict *verdict)
{
	unsigned count = atomic_load(&all_count), first = 0, served = 0, end;

	qsort(all, count, sizeof *all, by_order);
	while (first < count && all[first].lane != lane)
		first++;
	for (end = first; end < count && all[end].lane == lane; end++)
		served += all[end].order != 0;
	judge_order(run, &all[first], served, verdict);
	for (unsigned i = first; i < end; i++) {
		const struct grant *w = &all[i];
		unsigned before =
			w->order != 0 ? i - first : first_after(&all[first], served, w->ended_ns);

		verdict->refusals += w->order == 0;
		judge_one(run, &all[first], served, before, w, overtake_ns, allowed, verdict);
	}
}

double grants_fairness(bool (*wanted)(unsigned thread), unsigned threads)
{
	static uint64_t served[THREADS_MAX];
	uint64_t least = UINT64_MAX, most = 0;

	memset(served, 0, sizeof served);
	for (unsigned i = 0; i < atomic_load(&all_count); i++)
		served[all[i].thread] += all[i].order != 0;
	for (unsigned t = 0; t < threads; t++) {
		if (!wanted(t))
			continue;
		least = served[t] < least ? served[t] : least;
		most = served[t] > most ? served[t] : most;
	}
	return most == 0 ? 0 : 100 * (double)least / (double)most;
}
