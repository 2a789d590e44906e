/* shut.c - a pool, everything that can be done with it, and a moment in which it is closed. */
/* SPDX-License-Identifier: MIT */
#include "shut.h"

#include "closing.h"

#include <poolproof/harness/case.h>
#include <poolproof/harness/fault.h>

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { THREADS_MAX = 256, RANDOM_ROUNDS = 5, NEVER_MET_US = 30000 };

struct round {
	struct harness_run *run;
	struct shut_sums *sums;
	struct everything all;
	struct everything_worker workers[THREADS_MAX];
	struct closing closing;
	struct pp_config config;
	char path[PATH_MAX - 16], copy[PATH_MAX];
	unsigned wait_us, moment_us; /* Until it is closed; what a thread stays at the point. */
	int point;                   /* -1: at random. */
	bool forks;
	struct harness_fault fault;
	sem_t shut; /* One who closes lets nobody in any more. */
};

static struct round *visited; /* The round under way. */
static unsigned places[PP_POINTS];
static const char *const point_names[] = {
#define X(name, text) text,
	PP_POINT_LIST(X)
#undef X
};

/* --- At a point --------------------------------------------------------------------------- */

/* At pool.shut one is closing already: it is for the others. */
static void fire(struct round *r)
{
	closing_fire(&r->closing, r->point == PP_POINT_SHUT ? 1 : 0);
}

/* These have a lock that the closer needs. */
static bool has_lock(int point)
{
	return point == PP_POINT_WAIT || point == PP_POINT_HAND_OVER || point == PP_POINT_KEEP ||
	       point == PP_POINT_QUARANTINE || point == PP_POINT_REOPEN;
}

/* A thread is at the point: others close, and it stays until they have shut, or a moment. */
static void close_now(void *context)
{
	struct round *r = context;
	struct timespec until = closing_after_ns(r->moment_us * UINT64_C(1000));

	fire(r);
	while (!has_lock(r->point) && sem_timedwait(&r->shut, &until) != 0 && errno == EINTR)
		;
}

static void visit(enum pp_point point)
{
	if (point == PP_POINT_SHUT)
		sem_post(&visited->shut);
	harness_fault_visit(places[point]);
}

/* What makes a thread come there soon. */
static const char *favourite_of(int point)
{
	switch (point) {
	case PP_POINT_OPEN:
	case PP_POINT_CLOSE:
		return "abandon";
	case PP_POINT_RETRY:
		return "transact";
	case PP_POINT_CHECKPOINT:
	case PP_POINT_CHECKPOINTED:
	case PP_POINT_KEEP:
	case PP_POINT_RENEW:
	case PP_POINT_QUARANTINE:
		return "keep";
	case PP_POINT_REOPEN:
		return "reopen";
	case PP_POINT_BACKUP:
		return "backup";
	default:
		return NULL;
	}
}

/* How many pass there before one stays. */
static unsigned skip_max(int point)
{
	return point == PP_POINT_SHUT ? 0 : favourite_of(point) != NULL ? 2 : 8;
}

/* --- What a round is ---------------------------------------------------------------------- */

static struct harness_entropy entropy;

static unsigned draw(struct harness_run *run, unsigned low, unsigned high)
{
	unsigned drawn = (unsigned)harness_entropy_uniform(&entropy, low, high);

	harness_case_choose(run, drawn);
	return drawn;
}

static bool one_in(struct harness_run *run, unsigned n)
{
	return draw(run, 1, n) == 1;
}

static void draw_config(struct round *r)
{
	const struct harness_options *o = harness_run_options(r->run);
	bool wal = strcmp(o->journal_mode, "WAL") == 0 && !one_in(r->run, 6);
	bool full = strcmp(o->synchronous, "FULL") == 0 && one_in(r->run, 4);
	bool interrupts = r->point == PP_POINT_QUARANTINE || one_in(r->run, 8);
	bool renews = r->point == PP_POINT_RENEW || one_in(r->run, 4);

	r->all.interrupts = interrupts;
	r->config = (struct pp_config){
		.path = r->path,
		.readers = draw(r->run, 2, 4),
		.readers_min = 1,
		.grow_ms = 1,
		.overtake_ms = draw(r->run, 1, 10),
		.timeout_ms = 1000,
		.journal = wal ? PP_JOURNAL_WAL : PP_JOURNAL_DELETE,
		.synchronous = full ? PP_SYNCHRONOUS_FULL : PP_SYNCHRONOUS_NORMAL,
		.keeper = one_in(r->run, 8) ? PP_KEEPER_MANUAL : PP_KEEPER_THREAD,
		.wal_bytes_max = 65536,
		.on_open = everything_on_open,
		.age_ms = renews ? 1 : PP_NEVER,
		.lease_max_ms = interrupts ? 5 : PP_NEVER,
		.lease_grace_ms = 1,
	};
}

static void draw_round(struct round *r)
{
	static const unsigned patience_ms[] = { 0, 2, 5, 10, 20, 60 };
	struct harness_run *run = r->run;

	draw_config(r);
	r->wait_us = r->point < 0 || r->point == PP_POINT_SHUT ? draw(run, 0, 15000) : NEVER_MET_US;
	r->moment_us = draw(run, 0, 5000);
	r->forks = one_in(run, 6);
	r->closing.count = draw(run, r->point == PP_POINT_SHUT ? 2 : 1, CLOSERS_MAX);
	r->closing.patience_ms = patience_ms[draw(run, 0, 5)];
	for (unsigned i = 1; i < r->closing.count; i++)
		r->closing.closers[i].delay_us = draw(run, 0, 500);
	r->all.late_wanted = one_in(run, 3) ? (int)draw(run, 1, 2) : 0;
	if (r->point == PP_POINT_QUARANTINE)
		r->all.late_wanted = 1;
	r->all.late_lane = PP_READ;
	if (r->point < 0 && one_in(run, 2)) /* They keep others from many points. */
		r->all.late_lane = one_in(run, 2) ? PP_WRITE : PP_EXCLUSIVE;
	r->all.stuck_wanted = one_in(run, 4) ? 1 : 0;
	r->fault = (struct harness_fault){
		.place = r->point < 0 ? NULL : point_names[r->point],
		.action = HARNESS_FAULT_CALL,
		.any_thread = true,
		.skip = draw(run, 0, skip_max(r->point)),
		.call = close_now,
		.context = r,
	};
	r->all.seed = harness_entropy_next(&entropy);
	harness_case_choose(run, r->all.seed);
}

/* --- A round ------------------------------------------------------------------------------ */

static void files_remove(struct round *r)
{
	char path[PATH_MAX + 16];

	borrow_remove(r->path);
	for (unsigned i = 0; i < harness_run_options(r->run)->threads; i++) {
		snprintf(path, sizeof path, "%s-%u", r->copy, i);
		unlink(path);
	}
}

/* A child of this moment is told, whatever locks it was born with. */
static void fork_now(struct round *r)
{
	pid_t child = fork();
	int status = 0;

	if (child == 0) {
		struct pp_lease lease;
		bool told =
			pp_acquire(r->all.pool, PP_READ, PP_FOREVER, &lease, NULL) == PP_FORKED &&
			pp_close(r->all.pool, PP_FOREVER, NULL) == PP_FORKED;

		_exit(told ? 0 : 1);
	}
	if (child > 0)
		waitpid(child, &status, 0);
	if (status != 0)
		harness_case_fail(r->run, "a child of fork() is not told PP_FORKED (status %d)",
		                  status);
}

static void start(struct round *r, unsigned threads)
{
	closing_prepare(&r->closing);
	if (r->point >= 0)
		harness_fault_arm(&r->fault, 1);
	everything_start(&r->all, r->workers, threads);
}

static void close_it(struct round *r, unsigned threads)
{
	closing_await_fire(&r->closing, r->wait_us);
	if (r->point == PP_POINT_SHUT)
		sem_post(&r->closing.closers[0].go);
	else
		fire(r);
	if (r->forks)
		fork_now(r);
	if (r->point == PP_POINT_SHUT) {
		closing_await_fire(&r->closing, NEVER_MET_US);
		fire(r);
	}
	closing_finish(&r->closing);
	everything_join(&r->all, r->workers, threads);
	if (r->point >= 0) {
		harness_fault_disarm();
		r->sums->points[r->point] |= r->fault.hits > 0;
	}
}

/* By a pool on the same file, at once; then by a plain handle. */
static void examine(struct round *r)
{
	struct pp_pool *pool;
	char text[1024];
	enum pp_status status = pp_open(&r->config, &pool, NULL);

	if (status != PP_OK) {
		harness_case_fail(r->run, "the file cannot be opened again: %s",
		                  pp_status_name(status));
		return;
	}
	if (pp_check(pool, text, sizeof text) != 0)
		harness_case_fail(r->run, "opened again, pp_check: %s", text);
	if (pp_close(pool, pp_in_ms(3000), NULL) != PP_OK)
		harness_case_fail(r->run, "opened again, it cannot be closed");
	borrow_examine(r->run, r->path, r->all.acks, &r->sums->acks);
}

static void add_up(struct round *r)
{
	const struct closing *c = &r->closing;
	uint64_t told = atomic_load(&r->all.told_ns);

	r->sums->longest_ns =
		c->longest_ns > r->sums->longest_ns ? c->longest_ns : r->sums->longest_ns;
	r->sums->late_ns = c->late_ns > r->sums->late_ns ? c->late_ns : r->sums->late_ns;
	r->sums->told_ns = told > r->sums->told_ns ? told : r->sums->told_ns;
	r->sums->late += c->late;
	r->sums->leased += c->leased;
}

static void play(struct round *r)
{
	unsigned threads = harness_run_options(r->run)->threads;
	struct pp_error error;

	if (pp_open(&r->config, &r->all.pool, &error) != PP_OK)
		harness_cannot(r->run, "%s: %s; is the disk full?", r->path, error.message);
	harness_target_show(r->run, r->all.pool);
	visited = r;
	if (pp_points_set != NULL)
		pp_points_set(visit);
	start(r, threads);
	close_it(r, threads);
	harness_target_show(r->run, NULL);
	if (pp_points_set != NULL)
		pp_points_set(NULL);
	borrow_judge_descriptors(r->run);
	examine(r);
	borrow_judge_descriptors(r->run);
	add_up(r);
}

static void places_make(void)
{
	for (unsigned i = 0; i < PP_POINTS; i++)
		places[i] = harness_fault_place(point_names[i]);
}

void shut_round(struct harness_run *run, unsigned n, struct shut_sums *sums)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	static struct round r;
	int point = (int)(n % (PP_POINTS + RANDOM_ROUNDS));

	pthread_once(&once, places_make);
	if (pp_points_set == NULL || point >= (int)PP_POINTS)
		point = -1;
	harness_entropy_init(&entropy, harness_run_options(run)->seed, 0, n);
	if (!harness_case_begin(run, "round %u, at %s", n,
	                        point < 0 ? "random" : point_names[point]))
		return;
	r = (struct round){ .run = run, .sums = sums, .point = point };
	snprintf(r.path, sizeof r.path, "%s/shutdown-%u.db", harness_run_work(run), n);
	snprintf(r.copy, sizeof r.copy, "%s-copy", r.path);
	r.all.run = run;
	r.closing.all = &r.all;
	r.all.copy_path = r.copy;
	r.all.favourite = favourite_of(point);
	r.all.acks = harness_acks_new(NULL);
	if (r.all.acks == NULL)
		harness_cannot(run, "no memory for what was acknowledged: %s", strerror(errno));
	sem_init(&r.shut, 0, 0);
	draw_round(&r);
	borrow_create(run, r.path);
	play(&r);
	files_remove(&r);
	harness_acks_free(r.all.acks);
	sem_destroy(&r.shut);
	harness_case_note(run, "closed");
	harness_case_end(run);
}
