/* shortage.c - operations before, in and after a shortage, and what each may say. */
/* SPDX-License-Identifier: MIT */
#include "shortage.h"

#include <poolproof/harness/case.h>

#include <stdio.h>
#include <string.h>
#include <time.h>

enum { OPERATIONS_EACH = 40 };
/* Of a hundred operations. */
enum { READS = 45, WRITES = 45 };

/* --- What one operation says -------------------------------------------------------------- */

static bool is_over(const struct shortage *s)
{
	return atomic_load(&s->ended_ns) != 0;
}

/* Some of the time since asked_ns. */
static bool was_on(const struct shortage *s, uint64_t asked_ns)
{
	uint64_t made = atomic_load(&s->made_ns), ended = atomic_load(&s->ended_ns);

	return made != 0 && (ended == 0 || asked_ns <= ended);
}

/* How long not all of a lane have been lent, for whoever asked at asked_ns; who has one and has not
 * yet counted it is what lateness is for. */
static void judge_idle(struct shortage *s, enum harness_access access, uint64_t asked_ns)
{
	uint64_t now = harness_now_ns(), since = atomic_load(&s->full_ns[access]);

	if (since < asked_ns)
		since = asked_ns;
	if (atomic_load(&s->held[access]) < s->capacity[access] &&
	    now - since > harness_lateness_ns())
		subject_fail(&s->subject,
		             "a borrower waited past his deadline while a connection was idle for "
		             "the last %.0f ms",
		             (double)(now - since) / 1e6);
}

/* Of others only this can be told: who was given no connection was not refused by SQL. */
static bool is_right(const struct shortage *s, const struct harness_failure *f)
{
	if (s->ours)
		return s->want->is_right(f);
	return s->want->greed != GREED_EVERY_CONNECTION || f->kind == HARNESS_FAILURE_TIMEOUT ||
	       f->kind == HARNESS_FAILURE_OVERLOADED || f->kind == HARNESS_FAILURE_BUSY;
}

static void judge_refusal(struct shortage *s, enum harness_access access, bool greedy,
                          uint64_t asked_ns, const struct harness_failure *f)
{
	if (f->kind == HARNESS_FAILURE_TIMEOUT)
		judge_idle(s, access, asked_ns);
	if (!was_on(s, asked_ns))
		subject_fail(&s->subject, "refused %s: %.300s",
		             is_over(s) ? "after the shortage had ended" : "before there was any",
		             f->text);
	else if (s->want->sparing && !greedy)
		subject_fail(&s->subject, "refused for what somebody else wanted: %.300s", f->text);
	else if (!is_right(s, f))
		subject_fail(&s->subject, "an error of the wrong kind: %.300s", f->text);
	else
		atomic_fetch_add(&s->refused, 1);
}

/* Of each thread, the first that was asked for after the end. */
static void note_recovery(struct shortage *s, uint64_t asked_ns)
{
	static _Thread_local const struct shortage *told;
	uint64_t ended = atomic_load(&s->ended_ns), took = harness_now_ns() - ended, before;

	if (ended == 0 || asked_ns < ended || told == s)
		return;
	told = s;
	before = atomic_load(&s->recovered_ns);
	while (took > before && !atomic_compare_exchange_weak(&s->recovered_ns, &before, took))
		;
}

/* --- Operations --------------------------------------------------------------------------- */

static void count_held(struct shortage *s, enum harness_access access)
{
	if (atomic_fetch_add(&s->held[access], 1) + 1 >= s->capacity[access])
		atomic_store(&s->full_ns[access], harness_now_ns());
}

static void count_back(struct shortage *s, enum harness_access access)
{
	if (atomic_fetch_sub(&s->held[access], 1) >= s->capacity[access])
		atomic_store(&s->full_ns[access], harness_now_ns());
}

static void begin(struct shortage *s)
{
	if (s->want->make != NULL)
		s->want->make(s);
	atomic_store(&s->made_ns, harness_now_ns());
}

static void end(struct shortage *s)
{
	if (s->want->end != NULL)
		s->want->end(s);
	atomic_store(&s->ended_ns, harness_now_ns());
}

/* Enough were refused, or, where nobody is to be, all the others are waiting. */
static bool is_enough(struct shortage *s)
{
	struct harness_gauges gauges = { 0 };

	if (s->want->waiting_max > 0) {
		s->subject.target->gauges(s->subject.state, &gauges);
		if (gauges.waiting > s->want->waiting_max) {
			subject_fail(&s->subject,
			             "%u wait where %u may: nobody was told that the line is full",
			             gauges.waiting, s->want->waiting_max);
			return true;
		}
	}
	return atomic_load(&s->refused) >= s->refusals ||
	       (s->want->sparing && atomic_load(&s->inside) >= s->threads);
}

static void pause_briefly(void)
{
	nanosleep(&(struct timespec){ .tv_nsec = 200000 }, NULL);
}

static void send_crowd_home(struct shortage *s)
{
	atomic_store(&s->leaving, true);
	while (atomic_load(&s->crowd) > 0)
		pause_briefly();
}

static bool keep(struct harness_worker *worker, struct shortage *s, enum harness_access access,
                 struct harness_failure *f)
{
	uint64_t limit = harness_now_ns() + harness_lateness_ns();
	struct harness_connection c;
	bool well = subject_lend(worker, &s->subject, access, &c, f);

	if (well) {
		count_held(s, access);
		while (!is_enough(s) && harness_now_ns() < limit)
			pause_briefly();
		count_back(s, access);
		subject_give_back(worker, &s->subject, &c);
	}
	if (atomic_fetch_sub(&s->keepers, 1) == 1) {
		send_crowd_home(s);
		end(s);
	}
	return well;
}

/* The first so many operations of a shortage are greedy. */
static bool be_greedy(struct harness_worker *worker, struct shortage *s, enum harness_access access,
                      struct harness_failure *f)
{
	struct harness_connection c;
	bool well;

	if (s->want->greed != GREED_SOME)
		return keep(worker, s, access, f);
	if (!subject_lend(worker, &s->subject, access, &c, f))
		return false;
	well = subject_sql(worker, &c, s->want->greedy_sql, f);
	subject_give_back(worker, &s->subject, &c);
	return well;
}

/* Leaves something that makes a pool open another connection in the place of this one. */
static bool soil(struct harness_worker *worker, struct shortage *s, struct harness_failure *f)
{
	struct harness_connection c;
	bool well = subject_lend(worker, &s->subject, HARNESS_WRITE, &c, f);

	if (!well)
		return false;
	count_held(s, HARNESS_WRITE);
	well = subject_sql(worker, &c, "CREATE TEMP TABLE IF NOT EXISTS soil(x)", f);
	count_back(s, HARNESS_WRITE);
	subject_give_back(worker, &s->subject, &c);
	return well;
}

static bool perform(struct harness_worker *worker, struct shortage *s, unsigned kind,
                    struct harness_failure *f)
{
	if (kind < READS)
		return subject_read(worker, &s->subject, f);
	return kind < READS + WRITES ? subject_write(worker, &s->subject, f) : soil(worker, s, f);
}

static enum harness_access access_of(const struct shortage *s, unsigned number, bool greedy,
                                     unsigned kind)
{
	if (!greedy)
		return kind < READS ? HARNESS_READ : HARNESS_WRITE;
	return s->want->greed == GREED_SOME || number + 1 < s->from + s->greedy ? HARNESS_READ
	                                                                        : HARNESS_WRITE;
}

/* Who is impatient has asked before it ended. */
static uint64_t patience_of(const struct shortage *s, uint64_t asked_ns)
{
	return s->want->short_ms > 0 && was_on(s, asked_ns) && !is_over(s)
	               ? s->want->short_ms * UINT64_C(1000000)
	               : s->subject.options.patience_ns;
}

static void take_part(struct harness_worker *worker, struct shortage *s, struct harness_failure *f)
{
	unsigned number = atomic_fetch_add(&s->started, 1);
	unsigned kind = (unsigned)harness_entropy_uniform(&worker->entropy, 0, 99);
	bool greedy = number >= s->from && number < s->from + s->greedy, well;
	enum harness_access access = access_of(s, number, greedy, kind);
	uint64_t asked;

	worker->target_state = s->subject.state;
	harness_choose(worker, kind);
	if (number == s->from)
		begin(s);
	if (number == s->to)
		end(s);
	asked = harness_now_ns();
	worker->timeout_ns = patience_of(s, asked);
	atomic_fetch_add(&s->inside, 1);
	well = greedy ? be_greedy(worker, s, access, f) : perform(worker, s, kind, f);
	atomic_fetch_sub(&s->inside, 1);
	if (!well)
		judge_refusal(s, access, greedy, asked, f);
	else if (!greedy)
		note_recovery(s, asked);
}

/* What may not fail has been told. */
static bool operation(struct harness_worker *worker, void *context, struct harness_failure *f)
{
	struct shortage *s = context;

	if (s->want->crowd_from == 0 || worker->thread < s->want->crowd_from) {
		take_part(worker, s, f);
		return true;
	}
	while (atomic_load(&s->made_ns) == 0 && !is_over(s))
		pause_briefly();
	atomic_fetch_add(&s->crowd, 1);
	if (!atomic_load(&s->leaving))
		take_part(worker, s, f);
	atomic_fetch_sub(&s->crowd, 1);
	return true;
}

/* --- All of it ---------------------------------------------------------------------------- */

static unsigned draw(struct shortage *s, struct harness_entropy *entropy, unsigned low,
                     unsigned high)
{
	unsigned drawn = (unsigned)harness_entropy_uniform(entropy, low, high);

	harness_case_choose(s->subject.run, drawn);
	return drawn;
}

static void load(struct shortage *s)
{
	const struct harness_operation operations[] = { { s->want->name, 1, operation, s } };

	harness_load_run(s->subject.run, &(struct harness_load){
						 .phase = s->want->name,
						 .threads = s->threads,
						 .operations_per_thread = OPERATIONS_EACH,
						 .operations = operations,
						 .operation_count = 1,
					 });
}

static void prepare(struct shortage *s, struct harness_entropy *entropy, unsigned readers)
{
	unsigned crowd_from = s->want->crowd_from,
		 active = crowd_from > 0 && crowd_from < s->threads ? crowd_from : s->threads,
		 all = active * OPERATIONS_EACH;

	s->capacity[HARNESS_READ] = readers;
	s->capacity[HARNESS_WRITE] = 1;
	s->from = draw(s, entropy, all / 8, all / 4);
	s->to = draw(s, entropy, all / 2, all * 3 / 4);
	s->refusals = draw(s, entropy, 3, 9);
	switch (s->want->greed) {
	case GREED_NONE:
		break;
	case GREED_EVERY_CONNECTION:
		s->greedy = readers + 1;
		break;
	case GREED_WRITER:
		s->greedy = 1;
		break;
	case GREED_SOME:
		s->greedy = s->refusals;
		break;
	}
	if (s->want->greed == GREED_EVERY_CONNECTION || s->want->greed == GREED_WRITER) {
		atomic_store(&s->keepers, s->greedy);
		s->to = UINT_MAX; /* The last of them ends it. */
	}
}

static void judge_recovery(struct shortage *s)
{
	uint64_t took = atomic_load(&s->recovered_ns);
	char tag[64];

	if (took > harness_lateness_ns() + s->subject.options.patience_ns)
		subject_fail(&s->subject, "does not serve everybody again until %.0f ms after it",
		             (double)took / 1e6);
	snprintf(tag, sizeof tag, "recovery.%s", s->want->name);
	harness_duration(s->subject.run, tag, took);
}

bool shortage_run(struct harness_run *run, const struct want *want, bool ours,
                  struct harness_entropy *entropy, const struct subject_options *options,
                  bool *ret_hit)
{
	static struct shortage s; /* Large. */

	memset(&s, 0, sizeof s);
	s.want = want;
	s.ours = ours;
	s.threads = harness_run_options(run)->threads;
	if (!subject_open(&s.subject, run, options))
		return false;
	prepare(&s, entropy, harness_run_options(run)->readers);
	load(&s);
	judge_recovery(&s);
	*ret_hit = atomic_load(&s.refused) > 0 ||
	           (want->greed == GREED_EVERY_CONNECTION && atomic_load(&s.ended_ns) > 0);
	return subject_close(&s.subject);
}
