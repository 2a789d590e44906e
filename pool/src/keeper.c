/*
 * keeper.c - what is to be done now and then, by the pool's thread or by pp_keep().
 *
 * To know before reading: duties are called one after the other under keep_mutex, each when it is
 * due, and say when they are due again. Whoever notices that something is to be done now (a waiter
 * for whom there is no reader, a commit that has filled the WAL) pokes; all duties are then asked.
 */
/* SPDX-License-Identifier: MIT */
#include "internal.h"
#include "point.h"

#include <signal.h>
#include <string.h>

/* With slots and connections, which a suspension or an exclusive lease has to itself, or without.
 */
static const struct duty {
	uint64_t (*keep)(struct pp_pool *pool, uint64_t now_ms);
	bool slots;
} duties[DUTIES] = {
	{ watchdog_keep, false }, { pressure_keep, true }, { health_keep, true },
	{ size_keep, true },      { wal_keep, true },      { turn_keep, false },
};

bool pool_is_held(struct pp_pool *pool)
{
	return atomic_load(&pool->suspended) != SUSPENDED_NOT ||
	       atomic_load(&pool->exclusive) != NULL;
}

static uint64_t keep(struct pp_pool *pool, bool all)
{
	bool alone = pool_is_held(pool);
	uint64_t now = clock_coarse_ms(), due = now + UPKEEP_MS;

	POINT(KEEP);
	for (unsigned i = 0; i < DUTIES; i++) {
		uint64_t *at = &pool->keeper.due_ms[i];

		if (alone && duties[i].slots)
			*at = 0;
		else if (all || now >= *at)
			*at = duties[i].keep(pool, now);
		if (*at > now && *at < due)
			due = *at;
	}
	return due;
}

static uint64_t keep_locked(struct pp_pool *pool, bool all)
{
	uint64_t due = UINT64_MAX;
	enum wal_turn turn;

	pthread_mutex_lock(&pool->keep_mutex);
	pool->wal.turn = WAL_LEAVE;
	if (!atomic_load(&pool->keeper.stopping))
		due = keep(pool, all);
	turn = pool->wal.turn;
	pthread_mutex_unlock(&pool->keep_mutex);
	if (turn != WAL_LEAVE)
		wal_turn(pool, turn);
	return due;
}

bool keeper_watch(struct pp_pool *pool)
{
	bool going;

	pthread_mutex_lock(&pool->keep_mutex);
	going = !atomic_load(&pool->keeper.stopping);
	if (going)
		watchdog_keep(pool, clock_coarse_ms());
	pthread_mutex_unlock(&pool->keep_mutex);
	return going;
}

enum pp_status pp_keep(struct pp_pool *pool, uint64_t *ret_due_ms)
{
	uint64_t due, now;

	if (pool_forked(pool))
		return PP_FORKED;
	due = keep_locked(pool, true);
	if (due == UINT64_MAX)
		return PP_CLOSED;
	now = clock_coarse_ms();
	if (ret_due_ms != NULL)
		*ret_due_ms = due > now ? due - now : 0;
	return PP_OK;
}

/* --- The thread --------------------------------------------------------------------------- */

static void *run(void *context)
{
	struct pp_pool *pool = context;
	struct keeper *k = &pool->keeper;
	uint64_t due = 0;

	pthread_setname_np(pthread_self(), "poolproof");
	pthread_mutex_lock(&k->mutex);
	while (!atomic_load(&k->stopping)) {
		bool all = k->poked;

		if (!all && clock_coarse_ms() < due) {
			clock_wait_coarse(&k->wake, &k->mutex, due);
			continue;
		}
		k->poked = false;
		pthread_mutex_unlock(&k->mutex);
		due = keep_locked(pool, all);
		pthread_mutex_lock(&k->mutex);
	}
	pthread_mutex_unlock(&k->mutex);
	return NULL;
}

void keeper_poke(struct pp_pool *pool)
{
	pthread_mutex_lock(&pool->keeper.mutex);
	pool->keeper.poked = true;
	pthread_cond_signal(&pool->keeper.wake);
	pthread_mutex_unlock(&pool->keeper.mutex);
}

/* Signals are the program's: its threads are to get them. */
enum pp_status keeper_start(struct pp_pool *pool, struct pp_error *error)
{
	sigset_t all, before;
	int number;

	memset(pool->keeper.due_ms, 0, sizeof pool->keeper.due_ms);
	pool->keeper.poked = false;
	atomic_store(&pool->keeper.stopping, false);
	if (pool->config.keeper == PP_KEEPER_MANUAL)
		return PP_OK;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	number = pthread_create(&pool->keeper.thread, NULL, run, pool);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (number != 0)
		return error_code(error_set(error, PP_NOMEM, "open", "no thread for upkeep: %s",
		                            strerror(number)),
		                  error, 0, number);
	pool->keeper.running = true;
	return PP_OK;
}

void keeper_stop(struct pp_pool *pool)
{
	struct keeper *k = &pool->keeper;

	pthread_mutex_lock(&k->mutex);
	atomic_store(&k->stopping, true);
	pthread_cond_signal(&k->wake);
	pthread_mutex_unlock(&k->mutex);
	pp_cancel(&pool->wal.stop); /* It may stand in the writers' line. */
	if (k->running)
		pthread_join(k->thread, NULL);
	k->running = false;
	/* Whoever calls pp_keep() or pp_resize() is out when we have been in. */
	pthread_mutex_lock(&pool->keep_mutex);
	pthread_mutex_unlock(&pool->keep_mutex);
}
