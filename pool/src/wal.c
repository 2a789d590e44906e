/*
 * wal.c - checkpoints that nobody waits for, and a bound on the WAL.
 *
 * To know before reading: SQLite's automatic checkpoint runs inside the commit that fills the WAL.
 * Here it does when nobody waits for that commit but its own caller, who has all of the time that
 * it takes either way. Where others wait, the commit only wakes the keeper. A passive checkpoint
 * hinders nobody and copies as much as the oldest snapshot allows. Under load somebody always
 * writes while it copies, and SQLite goes back to the start of the file only when all of it is
 * copied: so the writer is borrowed, in its line like anybody, to copy the rest. A file that is
 * written over again and again is synced twice as fast as one that grows. Past its bound the file
 * is cut as well, which needs an instant in which nobody reads from it: the writer is borrowed, in
 * its line like anybody, so that the WAL does not grow meanwhile, and readers are waited for, for a
 * moment. Somebody who holds an old snapshot all the time is named, and interrupted at the age that
 * the configuration says.
 */
/* SPDX-License-Identifier: MIT */
#include "internal.h"
#include "point.h"
#include "probes.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

enum {
	PAGES = 1000,            /* Between two checkpoints: as SQLite's automatic one. */
	PAGES_ALONE = 4 * PAGES, /* ... where no keeper may come, so that one is made at last. */
	LOOK_MS = 1000,          /* Other processes' commits wake nobody: the file is looked at. */
	TURN_MS = 1000,          /* To wait in the writers' line. */
	CUT_NS = 100000000,      /* For which writers wait, at most, until readers have left. */
	PAUSE_MS_MAX = 32 * LOOK_MS /* Between two attempts that will hardly succeed. */
};

static uint64_t load(atomic_uint_least64_t *value)
{
	return atomic_load_explicit(value, memory_order_relaxed);
}

static void store(atomic_uint_least64_t *value, uint64_t x)
{
	atomic_store_explicit(value, x, memory_order_relaxed);
}

uint64_t wal_bytes(const struct pp_pool *pool)
{
	char path[PATH_MAX + 8];
	struct stat file;

	snprintf(path, sizeof path, "%s-wal", pool->path);
	return stat(path, &file) == 0 ? (uint64_t)file.st_size : 0;
}

/* true: whole, everything that was in the WAL is in the database. *ret_copied: pages that are. */
static bool checkpoint(struct pp_pool *pool, sqlite3 *db, int mode, int *ret_copied)
{
	uint64_t start = clock_ns(), known = load(&pool->wal.pages);
	int pages = -1, copied = -1, rc;
	bool whole;

	POINT(CHECKPOINT);
	rc = sqlite3_wal_checkpoint_v2(db, "main", mode, &pages, &copied);
	POINT(CHECKPOINTED);
	whole = rc == SQLITE_OK && copied == pages;

	histogram_note(pool, PP_HISTOGRAM_CHECKPOINT, clock_ns() - start);
	PROBE_CHECKPOINT(pool, rc, pages, copied);
	count(whole ? &pool->counters.checkpoints : &pool->counters.checkpoints_blocked);
	/* SQLite does not say when it fails early; and a commit meanwhile knows better. */
	if (pages >= 0)
		atomic_compare_exchange_strong(&pool->wal.pages, &known, (uint64_t)pages);
	store(&pool->wal.tried, load(&pool->wal.pages));
	*ret_copied = copied;
	return whole;
}

/* --- In a commit -------------------------------------------------------------------------- */

/* The keeper leaves a pool alone that an exclusive lease has. */
static bool is_unkept(struct pp_pool *pool)
{
	return pool->config.keeper == PP_KEEPER_MANUAL ||
	       atomic_load_explicit(&pool->exclusive, memory_order_relaxed) != NULL;
}

/* For whom it would take longer: somebody in the writers' line, or another one of the group. */
static bool anybody_waits(struct pp_pool *pool)
{
	return group_inside(pool) > 1 || line_head_wait_ns(pool, PP_WRITE) > 0;
}

/* Called with the commit done: what goes wrong here is none of it, and is not told. */
int wal_on_commit(void *context, sqlite3 *db, const char *name, int pages)
{
	struct pp_pool *pool = context;
	struct wal *w = &pool->wal;
	uint64_t now = (uint64_t)pages;
	int copied;

	if (strcmp(name, "main") != 0) { /* What a borrower has attached: as SQLite would. */
		if (pages >= PAGES)
			sqlite3_wal_checkpoint_v2(db, name, SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
		return SQLITE_OK;
	}
	store(&w->pages, now);
	if (now < load(&w->tried)) /* It has begun anew, at the start of the file. */
		store(&w->tried, 0);
	if (now < load(&w->tried) + PAGES)
		return SQLITE_OK;
	if (is_unkept(pool) ? pages >= PAGES_ALONE : !anybody_waits(pool))
		checkpoint(pool, db, SQLITE_CHECKPOINT_PASSIVE, &copied);
	else if (!is_unkept(pool))
		keeper_poke(pool);
	return SQLITE_OK;
}

/* --- Past its bound ----------------------------------------------------------------------- */

/*
 * The lease with the oldest snapshot that was there when the checkpoint began: nothing after the
 * point in the WAL up to which it reads may be copied over what it reads, so as long as it is there
 * none of the others matters. When no lease has one, another process reads, or one that was closed
 * under somebody's statement. How long it has been lent does not tell: a lease may be kept for
 * hours and read for moments.
 */
static struct slot *oldest_reader(struct pp_pool *pool, uint64_t now_ms, uint64_t *ret_generation,
                                  uint64_t *ret_since_ms)
{
	struct slot *oldest = NULL;

	*ret_generation = 0;
	*ret_since_ms = now_ms + 1;
	for (unsigned l = 0; l < LANES; l++)
		for (unsigned i = lane_used(&pool->lanes[l]); i-- > 0;) {
			struct slot *slot = &pool->lanes[l].slots[i];
			uint64_t since = load(&slot->connection.snapshot_ms);
			uint64_t generation = slot_lent(slot);

			if (since == 0 || since >= *ret_since_ms || generation == 0)
				continue;
			oldest = slot;
			*ret_since_ms = since;
			*ret_generation = generation;
		}
	return oldest;
}

static void tell(struct pp_pool *pool, uint64_t now_ms)
{
	struct wal *w = &pool->wal;
	uint64_t generation, since;
	struct slot *slot = oldest_reader(pool, now_ms, &generation, &since);

	if (!w->reported)
		event_send(pool, PP_EVENT_WAL_LARGE, NULL,
		           "%llu bytes, wal_bytes_max is %llu; %s holds it",
		           (unsigned long long)wal_bytes(pool),
		           (unsigned long long)pool->config.wal_bytes_max,
		           slot != NULL ? "a lease" : "no lease");
	w->reported = true;
	if (slot == NULL)
		return;
	if (slot != w->pinned_by || generation != w->pinned_by_generation)
		event_send(pool, PP_EVENT_WAL_PINNED, slot, "its snapshot is %llu ms old",
		           (unsigned long long)(now_ms - since));
	w->pinned_by = slot;
	w->pinned_by_generation = generation;
	if (pool->config.reader_max_ms == PP_NEVER || now_ms - since < pool->config.reader_max_ms ||
	    load(&slot->connection.interrupt) == generation)
		return;
	watchdog_interrupt(pool, slot, generation, "pins the WAL");
	w->again_ms = 0;
}

/* Without a WAL, on a file that is another, or when the anchor could not be opened. */
static bool is_out_of_use(struct pp_pool *pool)
{
	return pool->gated || atomic_load(&pool->tripped) || pool->anchor.db == NULL;
}

static void is_well(struct wal *w)
{
	w->reported = false;
	w->pinned_by = NULL;
}

/* Where nothing could be copied since it last could not be cut, whoever was in the way still is:
 * the writers are stopped for that again only after a pause, twice as long each time. */
static bool is_worth_a_cut(struct pp_pool *pool, uint64_t now_ms)
{
	struct wal *w = &pool->wal;

	checkpoint(pool, pool->anchor.db, SQLITE_CHECKPOINT_PASSIVE, &w->copied);
	if (w->copied != w->stuck)
		w->pause_ms = w->again_ms = 0;
	return now_ms >= w->again_ms;
}

/* The caller has the writer. The bulk has been copied before: writers wait here for one write's
 * worth of copying, and CUT_NS for readers. TRUNCATE is RESTART and then cuts. */
static bool cut(struct pp_pool *pool)
{
	int copied;
	bool whole;

	if (is_out_of_use(pool)) /* Since it was to be cut. */
		return false;
	pool->anchor.deadline_ns = clock_ns() + CUT_NS;
	whole = checkpoint(pool, pool->anchor.db, SQLITE_CHECKPOINT_TRUNCATE, &copied);
	pool->anchor.deadline_ns = UINT64_MAX;
	return whole;
}

static void put_off(struct wal *w, uint64_t now_ms)
{
	w->stuck = w->copied;
	w->pause_ms = 2 * w->pause_ms + LOOK_MS;
	if (w->pause_ms > PAUSE_MS_MAX)
		w->pause_ms = PAUSE_MS_MAX;
	w->again_ms = now_ms + w->pause_ms;
}

static void put_off_and_tell(struct pp_pool *pool)
{
	put_off(&pool->wal, clock_coarse_ms());
	tell(pool, clock_coarse_ms());
}

/* The caller has the writer: nothing is added meanwhile, and where no reader is in the way either,
 * the next write begins at the start of the file again. */
static void copy_the_rest(struct pp_pool *pool)
{
	struct wal *w = &pool->wal;

	if (!is_out_of_use(pool) &&
	    !checkpoint(pool, pool->anchor.db, SQLITE_CHECKPOINT_PASSIVE, &w->copied))
		w->stuck = w->copied;
}

/* Who has the writer may be stuck, and it is for the thread that waits here to find out: it looks
 * when a lease has had its time. That costs its place in the line. */
static enum pp_status take_writer(struct pp_pool *pool, void *caller, struct pp_lease *ret_lease)
{
	const struct pp_config *c = &pool->config;
	uint64_t most = (uint64_t)c->lease_max_ms + c->lease_grace_ms;
	uint64_t end = clock_ns() + TURN_MS * 1000000ull;
	enum pp_status status;

	do {
		struct pp_deadline until = pp_with_token(pp_in_ms(most), &pool->wal.stop);

		until.ns = until.ns < end ? until.ns : end;
		status = lease_acquire(pool, PP_WRITE, until, caller, ret_lease, NULL);
	} while (status == PP_TIMEOUT && keeper_watch(pool) && clock_ns() < end);
	return status;
}

/* The lease first, and then keep_mutex: nobody waits for a lease under that. */
void wal_turn(struct pp_pool *pool, enum wal_turn turn)
{
	struct pp_lease writer = { 0 };
	enum pp_status status = take_writer(pool, __builtin_return_address(0), &writer);

	if (status == PP_CLOSED || status == PP_CANCELLED)
		return; /* It may be another pool's row by now. */
	pthread_mutex_lock(&pool->keep_mutex);
	if (turn == WAL_FINISH && status == PP_OK)
		copy_the_rest(pool);
	else if (turn == WAL_CUT && (status != PP_OK || !cut(pool)))
		put_off_and_tell(pool);
	else if (turn == WAL_CUT)
		is_well(&pool->wal);
	pthread_mutex_unlock(&pool->keep_mutex);
	if (status == PP_OK)
		lease_release(&writer);
}

uint64_t wal_keep(struct pp_pool *pool, uint64_t now_ms)
{
	struct wal *w = &pool->wal;
	bool whole;

	if (is_out_of_use(pool))
		return now_ms + LOOK_MS;
	if (wal_bytes(pool) > pool->config.wal_bytes_max) {
		if (is_worth_a_cut(pool, now_ms))
			w->turn = WAL_CUT;
		else
			tell(pool, now_ms);
		return now_ms + LOOK_MS;
	}
	is_well(w);
	if (load(&w->pages) < load(&w->tried) + PAGES)
		return now_ms + LOOK_MS;
	whole = checkpoint(pool, pool->anchor.db, SQLITE_CHECKPOINT_PASSIVE, &w->copied);
	/* Somebody wrote meanwhile; or reads what is older, and that is looked at again when more
	 * could be copied. */
	if (whole ? load(&w->pages) > (uint64_t)w->copied : w->copied != w->stuck)
		w->turn = WAL_FINISH;
	return now_ms + LOOK_MS;
}
