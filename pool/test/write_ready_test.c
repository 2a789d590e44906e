/* Who gets the baton next but one is awake by then, and asleep again when it does not come. */
/* SPDX-License-Identifier: MIT */
#include "fixture.h"
#include "internal.h"
#include "member.h"

static const struct pp_transaction forever = { .deadline = { .ns = UINT64_MAX } };

struct one_who_waits {
	struct pp_pool *pool;
	struct member member;
	enum state state; /* What it has been told. */
};

static void *await(void *context)
{
	struct one_who_waits *w = context;

	CHECK_INT(member_enter(w->pool, &w->member), ==, PP_OK);
	w->state = member_await(w->pool, &w->member);
	return NULL;
}

static void ready_next(struct pp_pool *pool)
{
	pthread_mutex_lock(&pool->group.mutex);
	group_ready_next(&pool->group);
	pthread_mutex_unlock(&pool->group.mutex);
}

TEST(group, who_stands_ready_in_vain_sleeps_and_can_be_told_later)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	struct group *group = &f.pool->group;
	struct one_who_waits w = { .pool = f.pool, .member = { .options = &forever } };
	unsigned skipped;
	pthread_t thread;

	group->led = true;  /* By us. */
	ready_next(f.pool); /* Nobody is there. */
	thread = thread_start(await, &w);
	WAIT_FOR(atomic_load(&group->waiting) == 1);
	ready_next(f.pool);
	WAIT_FOR(atomic_load(&group->unready) > 0);
	/* It was in vain; so the next ones are left alone. */
	skipped = atomic_load(&group->unready);
	for (; skipped > 0; skipped--) {
		CHECK_INT(atomic_load(&group->unready), ==, skipped);
		ready_next(f.pool);
	}
	ready_next(f.pool);
	WAIT_FOR(atomic_load(&group->unready) > 0);
	pthread_mutex_lock(&group->mutex);
	group_lead_pass(f.pool);
	pthread_mutex_unlock(&group->mutex);
	pthread_join(thread, NULL);
	CHECK_INT(w.state, ==, LEADING);
	group->led = false;
}
