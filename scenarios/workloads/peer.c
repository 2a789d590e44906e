/*
 * peer.c - another process on the subject's file: this program once more.
 *
 * It tells by a byte that it has what it was told to have, and ends when its standard input does.
 */
/* SPDX-License-Identifier: MIT */
#include "subject.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { BUSY_MS = 3000, PAGE_BYTES = 4096 };

static const char copy_sql[] = "VACUUM INTO";

static const struct job {
	const char *what, *sql, *end;
} jobs[] = {
	{ "shared", "BEGIN; SELECT count(*) FROM peer", "COMMIT" },
	{ "reserved", "BEGIN IMMEDIATE", "COMMIT" },
	{ "exclusive", "BEGIN EXCLUSIVE", "COMMIT" },
	{ "writer", "BEGIN IMMEDIATE; INSERT INTO peer SELECT x FROM filler", "ROLLBACK" },
	{ "write", "INSERT INTO peer VALUES (1)", NULL },
	{ "copy", copy_sql, NULL },
	{ "recover", NULL, NULL },
	{ "header", NULL, NULL },
	{ "page", NULL, NULL },
};

/* --- There -------------------------------------------------------------------------------- */

/* A page of 0xff is of no kind that SQLite knows. */
static bool damage(const char *path, bool header)
{
	unsigned char garbage[PAGE_BYTES];
	struct stat status;
	int file = open(path, O_RDWR | O_CLOEXEC);
	bool well;

	memset(garbage, 0xff, sizeof garbage);
	well = file >= 0 && fstat(file, &status) == 0 &&
	       pwrite(file, garbage, sizeof garbage,
	              header ? 0 : status.st_size / PAGE_BYTES / 2 * PAGE_BYTES) ==
	               (ssize_t)sizeof garbage;
	if (file >= 0)
		close(file);
	return well;
}

static bool bytes_copy(const char *from_path, const char *to_path)
{
	int from = open(from_path, O_RDONLY | O_CLOEXEC);
	int to = open(to_path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	struct stat status;
	bool well = from >= 0 && to >= 0 && fstat(from, &status) == 0;

	for (off_t left = well ? status.st_size : 0; well && left > 0;) {
		ssize_t size = copy_file_range(from, NULL, to, NULL, (size_t)left, 0);

		well = size > 0;
		left -= size;
	}
	close(from);
	close(to);
	return well;
}

/* What a crash would leave now, of database and WAL: recovered, it has to be a whole log. */
static bool recovers(const char *path)
{
	static const char *const ends[] = { "", "-wal", "-journal", "-shm" };
	char from[PATH_MAX + 16], to[PATH_MAX + 32];
	struct harness_log_state state = { .rows = -1 };
	sqlite3 *db;

	for (unsigned i = 0; i < 3; i++) {
		snprintf(from, sizeof from, "%s%s", path, ends[i]);
		snprintf(to, sizeof to, "%s.crashed%s", path, ends[i]);
		if (access(from, F_OK) == 0 && !bytes_copy(from, to))
			return false;
	}
	snprintf(to, sizeof to, "%s.crashed", path);
	if (sqlite3_open(to, &db) == SQLITE_OK)
		state = harness_log_read(db, true);
	sqlite3_close(db);
	for (unsigned i = 0; i < 4; i++) {
		snprintf(to, sizeof to, "%s.crashed%s", path, ends[i]);
		unlink(to);
	}
	if (state.rows < 0)
		fprintf(stderr, "%s, after a crash: %s\n", path, state.wrong);
	return state.rows >= 0;
}

/* The log's tables are the last ones, where they were the first. */
static bool move_log(sqlite3 *db)
{
	return sqlite3_exec(db,
	                    "DELETE FROM filler; DROP INDEX harness_log_who;"
	                    "ALTER TABLE harness_log RENAME TO moved_log;"
	                    "ALTER TABLE harness_count RENAME TO moved_count",
	                    NULL, NULL, NULL) == SQLITE_OK &&
	       sqlite3_exec(db, harness_log_schema, NULL, NULL, NULL) == SQLITE_OK &&
	       sqlite3_exec(db,
	                    "INSERT INTO harness_log SELECT * FROM moved_log;"
	                    "UPDATE harness_count SET rows = (SELECT rows FROM moved_count);"
	                    "DROP TABLE moved_log; DROP TABLE moved_count",
	                    NULL, NULL, NULL) == SQLITE_OK;
}

/* With the same rows on other pages: what belongs to the one file, a WAL say, would spoil the
 * other. */
static bool make_copy(sqlite3 *db, const char *path)
{
	char copy[PATH_MAX + 8], sql[PATH_MAX + 32];
	sqlite3 *other = NULL;
	bool well;

	snprintf(copy, sizeof copy, "%s.copy", path);
	snprintf(sql, sizeof sql, "VACUUM INTO '%s'", copy);
	well = sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK &&
	       sqlite3_open(copy, &other) == SQLITE_OK &&
	       sqlite3_exec(other, "PRAGMA synchronous=OFF; BEGIN", NULL, NULL, NULL) ==
	               SQLITE_OK &&
	       move_log(other) &&
	       sqlite3_exec(other, "COMMIT; VACUUM", NULL, NULL, NULL) == SQLITE_OK;
	sqlite3_close(other);
	return well;
}

static bool run_sql(const struct job *job, const char *path, int hold_ms)
{
	struct pollfd in = { .fd = STDIN_FILENO, .events = POLLIN };
	sqlite3 *db;
	bool well;

	well = sqlite3_open(path, &db) == SQLITE_OK &&
	       sqlite3_busy_timeout(db, BUSY_MS) == SQLITE_OK &&
	       (job->sql == copy_sql ? make_copy(db, path)
	                             : sqlite3_exec(db, job->sql, NULL, NULL, NULL) == SQLITE_OK);
	if (!well)
		fprintf(stderr, "%s, %s: %s\n", job->what, path, sqlite3_errmsg(db));
	if (well && job->end != NULL && write(STDOUT_FILENO, "", 1) == 1) {
		poll(&in, 1, hold_ms);
		sqlite3_exec(db, job->end, NULL, NULL, NULL);
	}
	sqlite3_close(db);
	return well;
}

static const struct job *job_of(const char *what)
{
	unsigned i = 0;

	while (i < sizeof jobs / sizeof *jobs && strcmp(jobs[i].what, what) != 0)
		i++;
	assert(i < sizeof jobs / sizeof *jobs && "no such job");
	return &jobs[i];
}

void peer_main(int argc, char **argv)
{
	const struct job *job;
	bool well;
	int hold_ms;

	if (argc != 5 || strcmp(argv[1], "--peer") != 0)
		return;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	job = job_of(argv[2]);
	hold_ms = atoi(argv[4]);
	if (strcmp(job->what, "recover") == 0)
		well = recovers(argv[3]);
	else if (job->sql == NULL)
		well = damage(argv[3], strcmp(job->what, "header") == 0);
	else
		well = run_sql(job, argv[3], hold_ms > 0 ? hold_ms : -1);
	_exit(well ? 0 : 1);
}

/* --- Here --------------------------------------------------------------------------------- */

static void spawn(struct subject *s, struct peer *peer, const char *what, const char *hold_ms,
                  const int in[2], const int out[2])
{
	char self[PATH_MAX] = "";
	const char *words[] = { self, "--peer", what, s->path, hold_ms, NULL };
	posix_spawn_file_actions_t actions;
	int rc;

	if (readlink("/proc/self/exe", self, sizeof self - 1) < 0)
		harness_cannot(s->run, "/proc/self/exe: %s; mount /proc", strerror(errno));
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, in[0], STDIN_FILENO);
	posix_spawn_file_actions_adddup2(&actions, out[1], STDOUT_FILENO);
	rc = posix_spawn(&peer->pid, self, &actions, NULL, (char **)(uintptr_t)words, environ);
	posix_spawn_file_actions_destroy(&actions);
	if (rc != 0)
		harness_cannot(s->run, "%s: %s; raise the limit on processes", self, strerror(rc));
}

void peer_start(struct subject *s, struct peer *peer, const char *what, unsigned hold_ms)
{
	bool holds = job_of(what)->end != NULL;
	int in[2], out[2];
	char text[16], byte;

	snprintf(text, sizeof text, "%u", hold_ms);
	if (pipe2(in, O_CLOEXEC) != 0 || pipe2(out, O_CLOEXEC) != 0)
		harness_cannot(s->run, "pipe: %s; raise the limit on open files", strerror(errno));
	spawn(s, peer, what, text, in, out);
	close(in[0]);
	close(out[1]);
	peer->of = s;
	peer->what = what;
	peer->tell = in[1];
	peer->told = out[0];
	/* A byte, or the end of one that does and ends: whether it could is its exit status. */
	if (read(peer->told, &byte, 1) != holds)
		subject_fail(s, "the other process could not have '%s'", what);
}

/* The exit status, as waitpid() has it. */
static int reap(struct peer *peer)
{
	int status = -1;

	close(peer->tell);
	close(peer->told);
	while (waitpid(peer->pid, &status, 0) < 0 && errno == EINTR)
		;
	return status;
}

void peer_end(struct peer *peer)
{
	int status = reap(peer);

	if (status != 0)
		subject_fail(peer->of, "the other process could not do '%s' (status %d)",
		             peer->what, status);
}

void peer_kill(struct peer *peer)
{
	kill(peer->pid, SIGKILL);
	reap(peer);
}

void peer_stop(const struct peer *peer)
{
	kill(peer->pid, SIGSTOP);
	while (waitpid(peer->pid, NULL, WUNTRACED) < 0 && errno == EINTR)
		;
}

void peer_continue(const struct peer *peer)
{
	kill(peer->pid, SIGCONT);
}

void peer_do(struct subject *s, const char *what)
{
	struct peer peer;

	peer_start(s, &peer, what, 0);
	peer_end(&peer);
}
