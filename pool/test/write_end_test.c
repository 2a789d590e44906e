/* pp_write(): pauses and the closer, a member that does not come back, fork. */
/* SPDX-License-Identifier: MIT */
#include "group.h"

#include <sys/wait.h>
#include <valgrind/valgrind.h>

enum { MODES = 2, HOUR_MS = 3600000 };

static enum pp_status always_busy(struct pp_lease *lease, void *context)
{
	(void)lease, (void)context;
	sqlite3_exec(lease->db, "SELECT fail_busy()", NULL, NULL, NULL);
	return PP_SQLITE;
}

static void *transact_busily(void *context)
{
	struct call *call = context;

	call->status = pp_transact(call->pool, &call->options, always_busy, call, &call->error);
	return NULL;
}

/* Between two attempts a call is in no line: the closer waits for it, since the pool may be another
 * file's afterwards. */
TEST_ROWS(pause, is_ended_and_waited_for_by_the_closer, 2)
{
	CLEANUP(fixture_remove)
	struct fixture f = fixture_config((struct pp_config){ .readers = 1, .on_open = set_up });
	struct call call = { .pool = f.pool,
		             .work = always_busy,
		             .options = { .attempts_max = 1000, .deadline = PP_FOREVER } };
	pthread_t thread = thread_start(row == 0 ? transact_busily : call_run, &call);

	WAIT_FOR(stats(f.pool).retries >= 8); /* The pauses are long by now. */
	CHECK_INT(pp_close(f.pool, PP_FOREVER, NULL), ==, PP_OK);
	CHECK_INT(f.pool->group.inside, ==, 0);
	pthread_join(thread, NULL);
	CHECK_INT(call.status, ==, PP_CLOSED);
	CHECK_INT(call.error.causes[0].sqlite_code, ==, SQLITE_BUSY);
}

static void *pause_inside(void *context)
{
	struct pp_pool *pool = context;

	group_enter(pool);
	group_pause(pool, UINT64_MAX / 4, NULL);
	group_exit(pool);
	return NULL;
}

TEST(pause, however_long_ends_with_the_pool)
{
	CLEANUP(fixture_remove) struct fixture f = fixture_open(1);
	pthread_t thread = thread_start(pause_inside, f.pool);

	WAIT_FOR(atomic_load(&f.pool->group.waiting) == 1);
	CHECK_INT(pp_close(f.pool, PP_FOREVER, NULL), ==, PP_OK);
	pthread_join(thread, NULL);
}

static void *close_it(void *context)
{
	CHECK_INT(pp_close(context, PP_FOREVER, NULL), ==, PP_OK);
	return NULL;
}

struct closer {
	struct pp_pool *pool;
	atomic_int thread;
	atomic_bool done;
};

static void *close_and_say_so(void *context)
{
	struct closer *c = context;

	atomic_store(&c->thread, thread_number());
	close_it(c->pool);
	atomic_store(&c->done, true);
	return NULL;
}

/* In a system call whose first argument lies in there, as the kernel says. */
static bool sleeps_in(int thread, const void *place, size_t size)
{
	char path[64];
	unsigned long number, address = 0;
	FILE *file;
	bool told;

	snprintf(path, sizeof path, "/proc/self/task/%d/syscall", thread);
	file = fopen(path, "r");
	told = file != NULL && fscanf(file, "%lu %lx", &number, &address) == 2;
	if (file != NULL)
		fclose(file);
	return told && address - (uintptr_t)place < size;
}

/* All connections are back, and a call is still somewhere inside: the closer sleeps until it is
 * out. */
TEST(close, waits_for_a_call_that_is_in_no_line)
{
	CLEANUP(fixture_remove) struct fixture f = fixture_open(1);
	struct closer c = { .pool = f.pool };
	pthread_t thread;

	group_enter(f.pool);
	thread = thread_start(close_and_say_so, &c);
	WAIT_FOR(atomic_load(&f.pool->lanes[1].slots[0].state) == SLOT_CLOSED);
	WAIT_FOR(atomic_load(&c.done) || sleeps_in(atomic_load(&c.thread), &f.pool->group.changed,
	                                           sizeof f.pool->group.changed));
	CHECK(!atomic_load(&c.done));
	group_exit(f.pool);
	pthread_join(thread, NULL);
}

/* --- One that does not come back ------------------------------------------------------------- */

/* Another connection takes the place of its; who has run in its group is run again, and the others
 * are led by somebody else. It finds out when it is back. */
TEST_ROWS(stuck, member_keeps_nobody, MODES)
{
	struct diary diary = { 0 };
	CLEANUP(fixture_close)
	struct fixture f = manual((struct pp_config){ .readers = 1,
	                                              .lease_max_ms = 10000,
	                                              .lease_grace_ms = 500,
	                                              .busy_timeout_ms = 86400000 },
	                          &diary);
	struct gate gate = { 0 };
	struct call calls[5] = { [2] = { .work = wait_inside, .context = &gate } };
	struct pp_lease lease = { 0 };

	for (unsigned i = 0; i < 5; i++)
		calls[i].options.deadline = PP_FOREVER;
	acquire_elsewhere(f.pool, PP_WRITE, &lease);
	calls_line_up(&f, calls, 5, row == 1);
	pp_release(&lease);
	WAIT_FOR(atomic_load(&gate.reached));
	later(&f, 10500);
	CHECK_INT(diary.last[PP_EVENT_INTERRUPTED].connection.thread, ==,
	          calls[row == 1 ? 0 : 2].thread_number);
	CHECK_INT(stats(f.pool).quarantined, ==, 0);
	later(&f, 600);
	CHECK_INT(stats(f.pool).quarantined, ==, 1);
	/* With any_thread it is the leader that is stuck in another's callback. */
	WAIT_FOR(stats(f.pool).reruns == (row == 1 ? 1 : 2));
	CHECK_INT(calls[3].runs, ==, 0); /* SQLite's own lock is still the stuck one's. */
	atomic_store(&gate.open, true);
	calls_join(calls, 5);
	for (unsigned i = 0; i < 5; i++) {
		if (i != 2)
			must(calls[i].status, &calls[i].error);
		CHECK_INT(calls[i].runs, ==, i < 2 ? 2 : 1);
	}
	CHECK_INT(calls[2].status, ==, PP_TIMEOUT);
	CHECK_INT(stats(f.pool).reruns, ==, 2);
	CHECK_INT(stats(f.pool).returned_late, ==, 1);
	CHECK_INT(rows_in(f.pool), ==, 4);
}

/* Opening the replacement may have to wait. */
static void *quarantine_writer(void *context)
{
	struct pp_pool *pool = context;
	struct slot *slot = &pool->lanes[1].slots[0];

	pthread_mutex_lock(&pool->keep_mutex);
	size_quarantine(pool, slot, atomic_load(&slot->generation));
	pthread_mutex_unlock(&pool->keep_mutex);
	return NULL;
}

/* Its commit has begun, and nobody knows how it ends: it is waited for, and the others are not
 * kept. A handle of our own stands for another process, which the commit waits for. */
TEST_ROWS(stuck, commit_is_waited_for, MODES)
{
	CLEANUP(fixture_close)
	struct fixture f = manual((struct pp_config){ .readers = 1,
	                                              .journal = PP_JOURNAL_DELETE,
	                                              .busy_timeout_ms = 86400000 },
	                          NULL);
	struct call calls[2] = { 0 }, late = { .pool = f.pool, .options.deadline = PP_FOREVER };
	struct pp_lease lease = { 0 };
	pthread_t thread;
	sqlite3 *other;

	CHECK_INT(sqlite3_open(f.path, &other), ==, SQLITE_OK);
	acquire_elsewhere(f.pool, PP_WRITE, &lease);
	calls_line_up(&f, calls, 2, row == 1);
	sql(other, "BEGIN; SELECT * FROM t");
	atomic_store(&sleeps_begun, 0);
	pp_release(&lease);
	WAIT_FOR(atomic_load(&sleeps_begun) > 0); /* The commit waits. */
	call_start(&late);
	WAIT_FOR(stats(f.pool).write.waiting == 1); /* It waits for whoever leads next. */
	thread = thread_start(quarantine_writer, f.pool);
	WAIT_FOR(atomic_load(&f.pool->lines[0].waiting) == 1); /* Now it leads. */
	sql(other, "COMMIT");
	pthread_join(thread, NULL);
	calls_join(calls, 2);
	calls_join(&late, 1);
	sqlite3_close(other);
	for (unsigned i = 0; i < 2; i++) {
		must(calls[i].status, &calls[i].error);
		CHECK_INT(calls[i].runs, ==, 1);
	}
	must(late.status, &late.error);
	CHECK_INT(stats(f.pool).quarantined, ==, 1);
	CHECK_INT(stats(f.pool).returned_late, ==, 1);
	CHECK_INT(stats(f.pool).reruns, ==, 0);
	CHECK_INT(rows_in(f.pool), ==, 3);
}

static void *call_from_elsewhere(void *context)
{
	struct call *call = context;

	call->status = pp_write(call->pool, &call->options, call->work, call, NULL, &call->error);
	return NULL;
}

/* Told of while it runs, and when it is through although the lease goes on. */
TEST_ROWS(overdue, member_is_told_of_by_itself, MODES)
{
	struct diary diary = { 0 };
	CLEANUP(fixture_close)
	struct fixture f =
		manual((struct pp_config){ .readers = 1, .lease_warn_ms = 1000 }, &diary);
	struct gate first = { 0 }, second = { 0 };
	struct call calls[2] = {
		{ .work = wait_inside, .context = &first, .options.deadline = PP_FOREVER },
		{ .work = wait_inside, .context = &second, .options.deadline = PP_FOREVER },
	};
	struct pp_lease lease = { 0 };
	void *caller;

	acquire_elsewhere(f.pool, PP_WRITE, &lease);
	calls_line_up(&f, calls, 1, row == 1);
	calls[1].pool = f.pool;
	calls[1].options.any_thread = row == 1;
	calls[1].thread = thread_start(call_from_elsewhere, &calls[1]);
	WAIT_FOR(stats(f.pool).write.waiting == 2);
	pp_release(&lease);
	WAIT_FOR(atomic_load(&first.reached));
	later(&f, 1100);
	CHECK_INT(told(&diary, PP_EVENT_LEASE_OVERDUE), ==, 1);
	CHECK_INT(diary.last[PP_EVENT_LEASE_OVERDUE].connection.thread, ==, calls[0].thread_number);
	caller = diary.last[PP_EVENT_LEASE_OVERDUE].frames[0];
	atomic_store(&first.open, true);
	WAIT_FOR(atomic_load(&second.reached));
	CHECK_INT(told(&diary, PP_EVENT_LEASE_BACK), ==, 1);
	later(&f, 800);
	CHECK_INT(told(&diary, PP_EVENT_LEASE_OVERDUE), ==, 1); /* Its own time counts. */
	later(&f, 300);
	CHECK_INT(told(&diary, PP_EVENT_LEASE_OVERDUE), ==, 2);
	CHECK_INT(diary.last[PP_EVENT_LEASE_OVERDUE].frame_count, ==, 1);
	CHECK(diary.last[PP_EVENT_LEASE_OVERDUE].frames[0] != caller);
	atomic_store(&second.open, true);
	calls_join(calls, 2);
	CHECK_INT(told(&diary, PP_EVENT_LEASE_BACK), ==, 2);
	CHECK_INT(stats(f.pool).groups, ==, 1);
}

/* --- fork() --------------------------------------------------------------------------------- */

struct forking {
	struct call call;
	pid_t child;
};

static enum pp_status fork_inside(struct pp_lease *lease, void *context)
{
	struct forking *f = context;
	enum pp_status status = run_sql(lease, context);

	f->child = fork();
	return status;
}

static void child_end_with(int status)
{
	VALGRIND_CLO_CHANGE("--leak-check=no");
#ifdef PP_COVERAGE
	extern void __gcov_dump(void);

	__gcov_dump();
#endif
	_exit(status);
}

/* In the child nothing is called of SQLite: its transaction is as it was. */
static int see_in_the_child(struct forking *f)
{
	const struct connection *c = &f->call.pool->lanes[1].slots[0].connection;

	return f->call.status == PP_FORKED && c->depth > 0 && !sqlite3_get_autocommit(c->db) &&
	                       pp_write(f->call.pool, NULL, run_sql, &f->call, NULL, NULL) ==
	                               PP_FORKED
	               ? 0
	               : 1;
}

static void *write_and_fork(void *context)
{
	struct forking *f = context;

	call_run(&f->call);
	if (f->child == 0)
		child_end_with(see_in_the_child(f));
	return NULL;
}

/* The callback returns twice, in the child to PP_FORKED and in the parent to a commit. */
TEST_ROWS(fork, inside_a_group_commits_once, 3)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open(1);
	struct call others[2] = { 0 };
	struct forking forking = { .call = { .pool = f.pool, .work = fork_inside }, .child = -1 };
	struct pp_lease lease = { 0 };
	int status;

	acquire_elsewhere(f.pool, PP_WRITE, &lease);
	if (row == 2)
		calls_line_up(&f, &others[0], 1, false);
	forking.call.thread = thread_start(write_and_fork, &forking);
	WAIT_FOR(stats(f.pool).write.waiting == (row == 2 ? 2 : 1));
	if (row == 1)
		calls_line_up(&f, &others[1], 1, false);
	pp_release(&lease);
	pthread_join(forking.call.thread, NULL);
	must(forking.call.status, &forking.call.error);
	CHECK_INT(waitpid(forking.child, &status, 0), ==, forking.child);
	CHECK_INT(status, ==, 0);
	if (row != 0)
		pthread_join(others[row == 2 ? 0 : 1].thread, NULL);
	CHECK_INT(rows_in(f.pool), ==, row == 0 ? 1 : 2);
}
