/*
 * eager.c - the pool with short intervals, and somebody who uses of it what is no write.
 *
 * What a pool does once an hour it does here every few milliseconds, so that whoever kills it, or
 * looks at its points, meets all of it in a short time.
 */
/* SPDX-License-Identifier: MIT */
#include "targets.h"

#include <poolproof/pool.h>

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum {
	HOLD_MS = 30,   /* Longer than overtake_ms, shorter than lease_max_ms. */
	STUCK_MS = 100, /* Longer than lease_max_ms and lease_grace_ms, and than age_ms. */
};

static void say_busy(sqlite3_context *context, int count, sqlite3_value **values)
{
	(void)count, (void)values;
	sqlite3_result_error_code(context, SQLITE_BUSY);
}

static int on_open(sqlite3 *db, void *context)
{
	return sqlite3_create_function(db, "say_busy", 0, SQLITE_UTF8, context, say_busy, NULL,
	                               NULL);
}

bool eager_open(const struct harness_target_options *o, void **ret, struct harness_failure *f)
{
	struct pp_config config = {
		.path = o->path,
		.must_exist = true,
		.readers = o->readers,
		.timeout_ms = o->timeout_ms,
		.journal = strcmp(o->journal_mode, "WAL") == 0 ? PP_JOURNAL_WAL : PP_JOURNAL_DELETE,
		.synchronous = strcmp(o->synchronous, "FULL") == 0 ? PP_SYNCHRONOUS_FULL
		                                                   : PP_SYNCHRONOUS_NORMAL,
		.on_open = on_open,
		.age_ms = 30,
		.health_ms = 10,
		.lease_max_ms = 50,
		.lease_grace_ms = 10,
		.wal_bytes_max = 65536,
	};
	struct pp_error error;

	if (pp_open(&config, (struct pp_pool **)ret, &error) == PP_OK)
		return true;
	*f = (struct harness_failure){ .kind = HARNESS_FAILURE_OTHER, .code = error.sqlite_code };
	pp_error_text(&error, f->text, sizeof f->text);
	return false;
}

/* What may fail in each of these fails: it is done to be killed in. */

static void backup(struct pp_pool *pool, const char *path)
{
	char copy[PATH_MAX];

	snprintf(copy, sizeof copy, "%s.copy", path);
	pp_backup(pool, &(struct pp_backup){ .to_path = copy, .step_pages = 10 }, NULL);
}

static void reopen(struct pp_pool *pool, const char *path)
{
	(void)path;
	pp_reopen(pool, pp_in_ms(1000), NULL);
}

static void vacuum(struct pp_pool *pool, const char *path)
{
	struct pp_lease lease = { 0 };

	(void)path;
	if (pp_acquire(pool, PP_EXCLUSIVE, pp_in_ms(1000), &lease, NULL) == PP_OK)
		sqlite3_exec(lease.db, "VACUUM", NULL, NULL, NULL);
	pp_release(&lease);
}

static void pass_ms(long ms)
{
	nanosleep(&(struct timespec){ .tv_nsec = ms * 1000000 }, NULL);
}

static void hold(struct pp_pool *pool, enum pp_lane lane, long ms)
{
	struct pp_lease lease = { 0 };

	if (pp_acquire(pool, lane, pp_in_ms(1000), &lease, NULL) == PP_OK)
		pass_ms(ms);
	pp_release(&lease);
}

static void be_stuck(struct pp_pool *pool, const char *path)
{
	(void)path;
	hold(pool, PP_READ, STUCK_MS);
}

/* The writers come to stand in the line. */
static void keep_the_writer(struct pp_pool *pool, const char *path)
{
	(void)path;
	hold(pool, PP_WRITE, HOLD_MS);
}

/* The pool stays open longer than the writers take. */
static void let_it_age(struct pp_pool *pool, const char *path)
{
	(void)pool, (void)path;
	pass_ms(STUCK_MS);
}

static enum pp_status meet_a_lock(struct pp_lease *lease, void *context)
{
	(void)context;
	return sqlite3_exec(lease->db, "SELECT say_busy()", NULL, NULL, NULL) == SQLITE_OK
	               ? PP_OK
	               : PP_SQLITE;
}

static void retry(struct pp_pool *pool, const char *path)
{
	(void)path;
	pp_transact(pool, &(struct pp_transaction){ .attempts_max = 2 }, meet_a_lock, NULL, NULL);
}

void eager_use(void *pool, const char *path, const char *place, unsigned which)
{
	static const struct {
		const char *place;
		void (*use)(struct pp_pool *pool, const char *path);
	} uses[] = {
		{ "pool.backup", backup },       { "pool.reopen", reopen },
		{ "pool.retry", retry },         { "pool.checkpoint", vacuum },
		{ "pool.checkpointed", vacuum }, { "pool.hand_over", keep_the_writer },
		{ "pool.renew", let_it_age },    { "pool.quarantine", be_stuck },
	};
	enum { USES = sizeof uses / sizeof *uses, BRIEF = 4 };
	unsigned i = 0;

	while (i < USES && strcmp(uses[i].place, place) != 0)
		i++;
	/* Those behind them take their time: only where they are wanted. */
	uses[i < USES ? i : which % BRIEF].use(pool, path);
}
