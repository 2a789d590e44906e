/* sequences_keep.c - upkeep, other sizes, opening anew, copies, seeing inside, no file at all. */
/* SPDX-License-Identifier: MIT */
#include "sequences.h"

#include <poolproof/harness/vtime.h>

#include <string.h>

static const uint64_t second_ns = 1000000000;

/* --- Sizes -------------------------------------------------------------------------------- */

static void resize(struct trial *t)
{
	struct pp_lease first = { 0 }, second = { 0 };

	trial_did(t, "pp_resize, up", pp_resize(t->pool, 2, 2, &t->error));
	if (trial_acquire(t, PP_READ, &first)) {
		if (pp_acquire(t->pool, PP_READ, PP_NO_WAIT, &second, NULL) == PP_OK)
			trial_release(t, &second);
		trial_release(t, &first);
	}
	trial_did(t, "pp_resize, down", pp_resize(t->pool, 1, 1, &t->error));
}

static void suspend(struct trial *t)
{
	struct pp_lease lease = { 0 };

	trial_must(t, "pp_suspend", pp_suspend(t->pool, pp_in_ms(1000)));
	trial_must(t, "pp_resume", pp_resume(t->pool));
	if (trial_acquire(t, PP_READ, &lease)) {
		trial_count(t, &lease);
		trial_release(t, &lease);
	}
}

static void reopen(struct trial *t)
{
	struct pp_lease lease = { 0 };

	if (trial_did(t, "pp_reopen", pp_reopen(t->pool, pp_in_ms(1000), &t->error)) &&
	    trial_acquire(t, PP_READ, &lease)) {
		trial_count(t, &lease);
		trial_release(t, &lease);
	}
}

/* --- pp_keep() ---------------------------------------------------------------------------- */

static void keep_after(struct trial *t, uint64_t seconds)
{
	uint64_t due_ms = 0;

	harness_vtime_sleep_ns(seconds * second_ns);
	trial_must(t, "pp_keep", pp_keep(t->pool, &due_ms));
}

static void short_lives(struct pp_config *config)
{
	config->age_ms = 60000;
}

static void renew(struct trial *t)
{
	keep_after(t, 61);
	keep_after(t, 61);
}

static void check_often(struct pp_config *config)
{
	config->health_ms = 1000;
}

static void check_lightly(struct pp_config *config)
{
	config->health_ms = 1000;
	config->health = PP_HEALTH_SELECT_1;
}

static void be_healthy(struct trial *t)
{
	keep_after(t, 2);
	keep_after(t, 2);
}

static void two_readers(struct pp_config *config)
{
	config->readers = 2;
	config->readers_min = 1;
	config->idle_ms = 1000;
}

/* A second reader is opened and, when nobody wants it any more, closed. */
static void shrink(struct trial *t)
{
	trial_did(t, "pp_resize", pp_resize(t->pool, 2, 2, &t->error));
	trial_did(t, "pp_resize", pp_resize(t->pool, 1, 2, &t->error));
	keep_after(t, 2);
	keep_after(t, 2);
}

static void short_wal(struct pp_config *config)
{
	config->wal_bytes_max = 65536;
}

static enum pp_status put_pages(struct pp_lease *lease, void *context)
{
	sqlite3_stmt *stmt;
	enum pp_status status =
		pp_prepare(lease, "INSERT INTO pair SELECT 100000, zeroblob(150000)", &stmt, NULL);

	if (status == PP_OK && sqlite3_step(stmt) != SQLITE_DONE)
		status = PP_SQLITE;
	if (status == PP_OK)
		status = pp_prepare(lease, "DELETE FROM pair WHERE n = 100000", &stmt, NULL);
	if (status == PP_OK && sqlite3_step(stmt) != SQLITE_DONE)
		status = PP_SQLITE;
	return status == PP_OK ? trial_put_work(lease, context) : status;
}

static void checkpoint(struct trial *t)
{
	unsigned n = trial_write(t);
	enum pp_status status = pp_transact(t->pool, NULL, put_pages, &n, &t->error);

	trial_did(t, "pp_transact", status);
	trial_settle(t, n, status);
	keep_after(t, 2);
}

static void warn_soon(struct pp_config *config)
{
	config->lease_warn_ms = 1000;
	config->lease_max_ms = 2000;
	config->lease_grace_ms = 1000;
}

/* Warned of, interrupted, replaced while its holder has it, and given back after all. */
static void hold_long(struct trial *t)
{
	struct pp_lease lease = { 0 };

	if (!trial_acquire(t, PP_READ, &lease))
		return;
	for (unsigned i = 0; i < 4; i++)
		keep_after(t, 2);
	trial_release(t, &lease);
	keep_after(t, 2);
}

/* --- Copies ------------------------------------------------------------------------------- */

static void back_up(struct trial *t)
{
	struct pp_backup backup = { .to_path = t->copy_path, .step_pages = 1 };

	trial_did(t, "pp_backup", pp_backup(t->pool, &backup, &t->error));
}

static void back_up_into_pool(struct trial *t)
{
	struct pp_config config = trial_config(t);
	struct pp_closing closing = { 0 };
	struct pp_pool *other = NULL;

	config.path = t->other_path;
	if (pp_open(&config, &other, NULL) != PP_OK) {
		trial_wrong(t, "a second pool cannot be opened, and nothing fails");
		return;
	}
	trial_arm(t);
	trial_did(t, "pp_backup, into a pool",
	          pp_backup(t->pool, &(struct pp_backup){ .to_pool = other }, &t->error));
	trial_disarm(t);
	if (pp_check(other, NULL, 0) != 0)
		trial_wrong(t, "the other pool's pp_check() is not content");
	trial_must(t, "pp_close", pp_close(other, pp_in_ms(1000), &closing));
	if (closing.residue_bytes > 0)
		trial_wrong(t, "the other pool leaves %llu bytes",
		            (unsigned long long)closing.residue_bytes);
}

/* --- Seeing inside ------------------------------------------------------------------------ */

static void see(struct trial *t)
{
	struct pp_connection connections[4];
	struct pp_histogram histogram;
	struct pp_stats stats;
	static char text[65536];
	unsigned count = 0, n = trial_write(t);
	enum pp_status status = pp_transact(t->pool, NULL, trial_put_work, &n, &t->error);

	trial_did(t, "pp_transact", status);
	trial_settle(t, n, status);
	trial_must(t, "pp_stats_read", pp_stats_read(t->pool, &stats));
	trial_must(t, "pp_connections_read", pp_connections_read(t->pool, connections, 4, &count));
	trial_must(t, "pp_histogram_read",
	           pp_histogram_read(t->pool, PP_HISTOGRAM_COMMIT, &histogram));
	if (count != 2 || stats.commits + stats.rollbacks == 0)
		trial_wrong(t, "%u connections, %llu commits", count,
		            (unsigned long long)stats.commits);
	if (pp_metrics_text(t->pool, "sweep", text, sizeof text) == 0 ||
	    strstr(text, "# EOF") == NULL)
		trial_wrong(t, "the metrics do not end");
	if (pp_check(t->pool, text, sizeof text) != 0)
		trial_wrong(t, "pp_check(), in the middle: %.350s", text);
}

/* --- No file ------------------------------------------------------------------------------ */

static void in_memory(struct pp_config *config)
{
	config->path = "file:/sweep?vfs=memdb";
}

static void live_in_memory(struct trial *t)
{
	struct pp_lease lease = { 0 };
	unsigned n = trial_write(t);
	enum pp_status status = pp_write(t->pool, NULL, trial_put_work, &n, NULL, &t->error);

	trial_did(t, "pp_write", status);
	trial_settle(t, n, status);
	if (trial_acquire(t, PP_READ, &lease)) {
		trial_count(t, &lease);
		trial_release(t, &lease);
	}
	trial_did_as(t, "pp_reopen, no file", pp_reopen(t->pool, PP_NO_WAIT, &t->error), PP_MISUSE);
}

static const struct sequence list[] = {
	{ "resize", "one reader more, both lent, one less", 0, NULL, resize },
	{ "suspend", "nobody let in, and let in again; a read", 0, NULL, suspend },
	{ "reopen", "everything closed and opened anew; a read", SEQUENCE_IO | SEQUENCE_HELPED,
	  NULL, reopen },
	{ "renew", "connections past their age", 0, short_lives, renew },
	{ "be_healthy", "health checks of connections and file", SEQUENCE_IO, check_often,
	  be_healthy },
	{ "be_healthy_lightly", "the same by SELECT 1", 0, check_lightly, be_healthy },
	{ "shrink", "a reader that nobody borrows", 0, two_readers, shrink },
	{ "checkpoint", "a WAL past its bound", SEQUENCE_IO, short_wal, checkpoint },
	{ "hold_long", "a lease that is warned of, and replaced", SEQUENCE_HELPED, warn_soon,
	  hold_long },
	{ "back_up", "a copy in a file", SEQUENCE_IO | SEQUENCE_FILES, NULL, back_up },
	{ "back_up_into_pool", "a copy in another pool", SEQUENCE_ARMS | SEQUENCE_FILES, NULL,
	  back_up_into_pool },
	{ "see", "a write; statistics, connections, histograms, metrics, check", 0, NULL, see },
	{ "in_memory", "memdb: a write, a read", SEQUENCE_MEMDB, in_memory, live_in_memory },
};

const struct sequences sequences_keep = { list, sizeof list / sizeof *list };
