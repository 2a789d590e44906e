/* upkeep.h - pools without a thread for their upkeep, in virtual time; what they tell of. */
/* SPDX-License-Identifier: MIT */
#ifndef POOL_TEST_UPKEEP_H
#define POOL_TEST_UPKEEP_H

#include "fixture.h"

#include "internal.h"

/* What the pool told of. */
struct diary {
	pthread_mutex_t mutex;
	unsigned counts[PP_EVENT_MEMORY + 1];
	struct pp_event last[PP_EVENT_MEMORY + 1];
	char message[PP_EVENT_MEMORY + 1][128];
};

static inline void write_down(const struct pp_event *event, void *context)
{
	struct diary *diary = context;

	pthread_mutex_lock(&diary->mutex);
	diary->counts[event->kind]++;
	diary->last[event->kind] = *event;
	snprintf(diary->message[event->kind], sizeof diary->message[0], "%s", event->message);
	pthread_mutex_unlock(&diary->mutex);
}

static inline unsigned told(struct diary *diary, enum pp_event_kind kind)
{
	unsigned count;

	pthread_mutex_lock(&diary->mutex);
	count = diary->counts[kind];
	pthread_mutex_unlock(&diary->mutex);
	return count;
}

/* Calls of clock_nanosleep(), by any thread (turn_test.c). */
extern atomic_uint sleeps_begun;

static inline struct fixture manual(struct pp_config config, struct diary *diary)
{
	config.keeper = PP_KEEPER_MANUAL;
	if (diary != NULL) {
		pthread_mutex_init(&diary->mutex, NULL);
		config.on_event = write_down;
		config.on_event_context = diary;
	}
	return fixture_config(config);
}

static inline void later(struct fixture *f, uint64_t ms)
{
	clock_travel_ms(ms);
	CHECK_INT(pp_keep(f->pool, NULL), ==, PP_OK);
}

static inline void *keep_once(void *pool)
{
	CHECK_INT(pp_keep(pool, NULL), ==, PP_OK);
	return NULL;
}

static inline void release_all(struct pp_lease *leases, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		pp_release(&leases[i]);
}

static const char endless[] =
	"WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n";

struct runner {
	struct pp_pool *pool;
	enum pp_lane lane;
	struct pp_deadline deadline;
	atomic_bool running;
	int rc;
};

static inline int tell(void *context)
{
	struct runner *r = context;

	atomic_store(&r->running, true);
	return 0;
}

/* Runs what never ends until somebody stops it; the connection is good afterwards. */
static inline void *run_endless(void *context)
{
	struct runner *r = context;
	struct pp_lease lease = { 0 };
	struct pp_error error = { 0 };

	must(pp_acquire(r->pool, r->lane, r->deadline, &lease, &error), &error);
	pp_progress_set(&lease, 100, tell, r);
	r->rc = sqlite3_exec(lease.db, endless, NULL, NULL, NULL);
	pp_release(&lease);
	acquire(r->pool, r->lane, &lease);
	CHECK_INT(number(lease.db, "SELECT count(*) FROM t"), ==, 0);
	pp_release(&lease);
	return NULL;
}

struct worker {
	struct pp_pool *pool;
	atomic_bool stop;
	atomic_uint rounds;
};

static inline void *borrow_until_stopped(void *context)
{
	struct worker *w = context;

	while (!atomic_load(&w->stop)) {
		struct pp_lease lease = { 0 };

		acquire(w->pool, PP_READ, &lease);
		CHECK_INT(number(lease.db, "SELECT count(*) FROM t"), ==, 0);
		pp_release(&lease);
		atomic_fetch_add(&w->rounds, 1);
	}
	return NULL;
}

#endif
