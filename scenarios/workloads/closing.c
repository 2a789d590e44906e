/* closing.c - several close one pool at once, and each is judged: in time, once, and truthful. */
/* SPDX-License-Identifier: MIT */
#include "closing.h"

#include <poolproof/harness/case.h>

#include <errno.h>
#include <time.h>

enum { LAST_MS = 3000 };

struct timespec closing_after_ns(uint64_t ns)
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	ns += (uint64_t)until.tv_nsec;
	until.tv_sec += (time_t)(ns / 1000000000);
	until.tv_nsec = (long)(ns % 1000000000);
	return until;
}

static void note_time(struct closing *c, uint64_t took, uint64_t allowed, unsigned patience_ms)
{
	uint64_t late = took > allowed ? took - allowed : 0;

	c->longest_ns = took > c->longest_ns ? took : c->longest_ns;
	c->late_ns = late > c->late_ns ? late : c->late_ns;
	if (late <= harness_lateness_ns())
		return;
	c->late++;
	harness_case_fail(
		c->all->run,
		"pp_close() was back %.0f ms after its deadline of %u ms: the deadline is "
		"not kept",
		(double)late / 1e6, patience_ms);
}

static enum pp_status close_timed(struct everything *all, unsigned patience_ms,
                                  struct pp_closing *ret_left, uint64_t *ret_took)
{
	uint64_t begun = harness_now_ns(), none = 0;
	enum pp_status status;

	atomic_store(&all->patience_ns, patience_ms * UINT64_C(1000000));
	atomic_compare_exchange_strong(&all->closing_ns, &none, begun);
	status = pp_close(all->pool, patience_ms == 0 ? PP_NO_WAIT : pp_in_ms(patience_ms),
	                  ret_left);
	*ret_took = harness_now_ns() - begun;
	harness_duration(all->run, "closing", *ret_took);
	return status;
}

static void *close_once(void *context)
{
	struct closer *closer = context;
	struct closing *c = closer->of;
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	uint64_t took;

	while (sem_wait(&closer->go) != 0)
		;
	nanosleep(&(struct timespec){ .tv_nsec = closer->delay_us * 1000L }, NULL);
	closer->status = close_timed(c->all, closer->patience_ms, &closer->left, &took);
	pthread_mutex_lock(&lock);
	note_time(c, took, closer->patience_ms * UINT64_C(1000000), closer->patience_ms);
	pthread_mutex_unlock(&lock);
	return NULL;
}

static void closer_start(struct closing *c, struct closer *closer, unsigned patience_ms)
{
	closer->of = c;
	closer->patience_ms = patience_ms;
	sem_init(&closer->go, 0, 0);
	if (pthread_create(&closer->thread, NULL, close_once, closer) != 0)
		harness_cannot(c->all->run, "no more threads; raise the limit");
}

void closing_prepare(struct closing *c)
{
	sem_init(&c->begun, 0, 0);
	for (unsigned i = 0; i < c->count; i++)
		closer_start(c, &c->closers[i], c->patience_ms);
}

void closing_fire(struct closing *c, unsigned first)
{
	if (atomic_exchange(&c->fired, true))
		return;
	for (unsigned i = first; i < c->count; i++)
		sem_post(&c->closers[i].go);
	sem_post(&c->begun);
}

void closing_await_fire(struct closing *c, unsigned us)
{
	struct timespec until = closing_after_ns(us * UINT64_C(1000));

	while (sem_timedwait(&c->begun, &until) != 0 && errno == EINTR)
		;
}

/* When one is not back long after its deadline the holders are let go, so that the run goes on. */
static void await(struct closing *c, struct closer *closer)
{
	struct timespec until = closing_after_ns(closer->patience_ms * UINT64_C(1000000) +
	                                         2 * harness_lateness_ns());

	if (pthread_timedjoin_np(closer->thread, NULL, &until) == 0)
		return;
	harness_case_fail(c->all->run,
	                  "pp_close() is not back long after its deadline of %u ms, with %u leases "
	                  "held on purpose: the deadline is not kept, or a waiter was not woken",
	                  closer->patience_ms, atomic_load(&c->all->late));
	atomic_store(&c->all->released, true);
	pthread_join(closer->thread, NULL);
}

static void judge_one(struct closing *c, const struct closer *closer, unsigned late)
{
	unsigned threads = harness_run_options(c->all->run)->threads;

	if (closer->status == PP_OK || closer->status == PP_CLOSED)
		return;
	if (closer->status != PP_LEASED)
		harness_case_fail(c->all->run, "pp_close() says %s",
		                  pp_status_name(closer->status));
	else if (closer->left.leased < late || closer->left.leased < 1 ||
	         closer->left.leased > threads)
		harness_case_fail(c->all->run, "PP_LEASED counts %u leases, and %u are held",
		                  closer->left.leased, late);
}

/* How many said PP_OK. Whoever holds on purpose still does. */
static unsigned judge(struct closing *c)
{
	unsigned late = atomic_load(&c->all->late), oks = 0;

	for (unsigned i = 0; i < c->count; i++) {
		judge_one(c, &c->closers[i], late);
		oks += c->closers[i].status == PP_OK;
		c->leased |= c->closers[i].status == PP_LEASED;
	}
	if (oks > 1)
		harness_case_fail(c->all->run, "%u threads closed one pool", oks);
	if (late > 0 && oks > 0)
		harness_case_fail(c->all->run, "pp_close() says PP_OK, and %u leases are held",
		                  late);
	if (oks == 0 && !c->leased)
		harness_case_fail(c->all->run, "%u threads closed, and each says another one does",
		                  c->count);
	return oks;
}

static void judge_left(struct closing *c, enum pp_status status, const struct pp_closing *left)
{
	if (status != PP_OK)
		harness_case_fail(c->all->run,
		                  "the last pp_close() says %s, %u leased: all was given back, or "
		                  "should have been interrupted",
		                  pp_status_name(status), left->leased);
	else if (left->residue_bytes + left->parked + left->leased > 0)
		harness_case_fail(c->all->run, "closing left %llu bytes, %u connections parked",
		                  (unsigned long long)left->residue_bytes, left->parked);
}

/* What was held on purpose comes back now. */
static void close_at_last(struct closing *c)
{
	struct closer last = { 0 };

	closer_start(c, &last, LAST_MS);
	sem_post(&last.go);
	await(c, &last);
	judge_left(c, last.status, &last.left);
	sem_destroy(&last.go);
}

void closing_finish(struct closing *c)
{
	unsigned oks;

	for (unsigned i = 0; i < c->count; i++)
		await(c, &c->closers[i]);
	oks = judge(c);
	atomic_store(&c->all->released, true);
	for (unsigned i = 0; i < c->count; i++)
		if (c->closers[i].status == PP_OK)
			judge_left(c, PP_OK, &c->closers[i].left);
	if (oks == 0)
		close_at_last(c);
	for (unsigned i = 0; i < c->count; i++)
		sem_destroy(&c->closers[i].go);
	sem_destroy(&c->begun);
}
