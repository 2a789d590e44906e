/* rig.c - a target on a file of its own, and who stands in its way. See rig.h. */
/* SPDX-License-Identifier: MIT */
#include "rig.h"
#include "targets.h"

#include <poolproof/harness/oracle.h>

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void make_whole(const struct rig *r)
{
	sqlite3 *db;

	unlink(r->whole);
	if (sqlite3_open(r->whole, &db) != SQLITE_OK ||
	    sqlite3_exec(db, harness_log_schema, NULL, NULL, NULL) != SQLITE_OK ||
	    sqlite3_exec(
		    db,
		    "CREATE TABLE served(what BLOB);"
		    "INSERT INTO served SELECT zeroblob(3000) FROM json_each('[1,2,3,4,5,6,7]')",
		    NULL, NULL, NULL) != SQLITE_OK)
		harness_cannot(r->run, "%s: %s; is the disk full?", r->whole, sqlite3_errmsg(db));
	sqlite3_close(db);
}

/* The file at path is neither opened nor closed: that would drop SQLite's locks on it. */
void rig_replace(struct rig *r)
{
	char next[PATH_MAX];
	int from, to;
	bool well;

	snprintf(next, sizeof next, "%s.next", r->path);
	from = open(r->whole, O_RDONLY | O_CLOEXEC);
	to = open(next, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	well = from >= 0 && to >= 0 && copy_file_range(from, NULL, to, NULL, 1 << 30, 0) > 0;
	if (from >= 0)
		close(from);
	if (to >= 0)
		close(to);
	if (!well || rename(next, r->path) != 0)
		harness_cannot(r->run, "%s: %s; is the disk full?", next, strerror(errno));
}

void rig_init(struct rig *r, struct harness_run *run, const char *name)
{
	*r = (struct rig){ .run = run, .name = name, .target = harness_run_target(run) };
	snprintf(r->path, sizeof r->path, "%s/%s.db", harness_run_work(run), name);
	snprintf(r->whole, sizeof r->whole, "%s/whole.db", harness_run_work(run));
	sem_init(&r->there, 0, 0);
	sem_init(&r->go, 0, 0);
	make_whole(r);
	rig_replace(r);
}

void rig_done(struct rig *r)
{
	rig_close(r);
	sem_destroy(&r->there);
	sem_destroy(&r->go);
}

/* --- The target --------------------------------------------------------------------------- */

static bool short_open(const struct rig *r, struct pp_pool **ret)
{
	const struct harness_options *o = harness_run_options(r->run);
	struct pp_config config = {
		.path = r->path,
		.must_exist = true,
		.readers = 2,
		.journal = strcmp(o->journal_mode, "WAL") == 0 ? PP_JOURNAL_WAL : PP_JOURNAL_DELETE,
		.synchronous = strcmp(o->synchronous, "FULL") == 0 ? PP_SYNCHRONOUS_FULL
		                                                   : PP_SYNCHRONOUS_NORMAL,
		.health_ms = 10,
		.lease_max_ms = 20,
		.lease_grace_ms = 5,
		.wal_bytes_max = RIG_WAL_MAX,
		.on_file_change = r->on_file_change,
		.line_max = r->line_max,
	};

	return pp_open(&config, ret, NULL) == PP_OK;
}

bool rig_open(struct rig *r)
{
	const struct harness_options *o = harness_run_options(r->run);
	struct harness_target_options to = {
		.path = r->path,
		.threads = 1,
		.readers = 2,
		.timeout_ms = RIG_PATIENCE_MS,
		.synchronous = o->synchronous,
		.journal_mode = o->journal_mode,
	};
	struct harness_failure f;
	void *state;

	if (r->target == &target_poolproof) {
		if (short_open(r, &r->pool))
			r->state = r->pool;
	} else if (r->target->open(&to, &state, &f)) {
		r->state = state;
	}
	if (r->state != NULL)
		harness_target_show(r->run, r->state);
	return r->state != NULL;
}

void rig_close(struct rig *r)
{
	struct harness_residue residue = { 0 };
	char text[400] = "";

	if (r->state == NULL)
		return;
	harness_target_show(r->run, NULL);
	if (r->target->check(r->state, text, sizeof text) > 0)
		harness_fail(r->run, "%s: %s", r->name, text);
	r->target->close(r->state, &residue);
	r->state = r->pool = NULL;
	if (residue.bytes + residue.connections > 0)
		harness_fail(r->run, "%s: %.200s", r->name, residue.text);
}

static bool insert(struct harness_connection *connection, void *context, struct harness_failure *f)
{
	const struct rig *r = context;

	return r->target->query(connection, "INSERT INTO served VALUES (zeroblob(3000))", NULL, 0,
	                        NULL, NULL, f);
}

bool rig_write(struct rig *r)
{
	struct harness_failure f;
	bool well;

	if (r->state == NULL && !rig_open(r))
		return false;
	well = r->target->transact(r->state, HARNESS_WRITE, RIG_PATIENCE_MS * 1000000ull, insert, r,
	                           &f);
	harness_step(r->run);
	return well;
}

struct pp_stats rig_stats(const struct rig *r)
{
	struct pp_stats s = { 0 };

	pp_stats_read(r->pool, &s);
	return s;
}

/* --- Others ------------------------------------------------------------------------------- */

void rig_another(struct rig *r, void *(*does)(void *rig))
{
	if (r->other_count == RIG_OTHERS_MAX ||
	    pthread_create(&r->others[r->other_count], NULL, does, r) != 0)
		harness_cannot(r->run, "no thread; raise the limit on processes");
	r->other_count++;
}

void rig_let_go(struct rig *r)
{
	for (unsigned i = 0; i < r->other_count; i++)
		sem_post(&r->go);
	for (unsigned i = 0; i < r->other_count; i++)
		pthread_join(r->others[i], NULL);
	/* Of those who did not wait, or were not waited for. */
	while (sem_trywait(&r->go) == 0 || sem_trywait(&r->there) == 0)
		;
	r->other_count = 0;
}

int rig_hold(const char *path)
{
	sqlite3 *db;
	char byte = '.';

	if (sqlite3_open(path, &db) != SQLITE_OK || sqlite3_busy_timeout(db, 3000) != SQLITE_OK ||
	    sqlite3_exec(db, "BEGIN EXCLUSIVE; UPDATE harness_count SET rows = rows", NULL, NULL,
	                 NULL) != SQLITE_OK ||
	    write(STDOUT_FILENO, &byte, 1) != 1)
		return 1;
	while (read(STDIN_FILENO, &byte, 1) > 0)
		;
	if (sqlite3_exec(db, "COMMIT", NULL, NULL, NULL) != SQLITE_OK)
		return 1;
	return sqlite3_close(db) == SQLITE_OK ? 0 : 1;
}

pid_t rig_holder(struct rig *r, int *ret_end)
{
	char self[PATH_MAX] = "", byte;
	const char *words[] = { self, "--holder", r->path, NULL };
	posix_spawn_file_actions_t actions;
	int in[2], out[2], rc;
	pid_t child;

	if (readlink("/proc/self/exe", self, sizeof self - 1) < 0 || pipe2(in, O_CLOEXEC) != 0 ||
	    pipe2(out, O_CLOEXEC) != 0)
		harness_cannot(r->run, "/proc/self/exe, pipe: %s; mount /proc", strerror(errno));
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, in[0], STDIN_FILENO);
	posix_spawn_file_actions_adddup2(&actions, out[1], STDOUT_FILENO);
	rc = posix_spawn(&child, self, &actions, NULL, (char **)(uintptr_t)words, environ);
	posix_spawn_file_actions_destroy(&actions);
	if (rc != 0)
		harness_cannot(r->run, "%s: %s; raise the limit on processes", self, strerror(rc));
	close(in[0]);
	close(out[1]);
	if (read(out[0], &byte, 1) != 1)
		harness_fail(r->run, "the other process could not lock %s", r->path);
	close(out[0]);
	*ret_end = in[1];
	return child;
}
