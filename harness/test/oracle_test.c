/* Each finding of the oracles, planted. */
/* SPDX-License-Identifier: MIT */
#include "fake.h"

#include <poolproof/harness/oracle.h>

#include <pthread.h>
#include <sys/wait.h>
#include <signal.h>
#include <unistd.h>

static const struct fake nothing;

static struct outcome judge(void (*body)(struct harness_run *run))
{
	struct harness_scenario s = fake_with_body(body);

	return scenario_run(&s, nothing, NULL);
}

/* --- What was acknowledged ---------------------------------------------------------------- */

/* The writes 0..3 of thread 0, of which 1 failed and 3 was never heard of again, and one of
 * thread 7; what is there is a letter each: 0..3, then thread 7's. */
static const char *there;

static bool is_there(void *context, unsigned thread, unsigned n)
{
	const char *letters = context;

	return strchr(letters, thread == 7 ? 'x' : (int)('0' + n)) != NULL;
}

static void judge_acks(struct harness_run *run)
{
	struct harness_acks *acks = harness_acks_new(NULL);
	struct harness_ack_sums sums = { 0 };
	uint64_t wrong;

	for (unsigned n = 0; n < 4; n++)
		harness_acks_meant(acks, 0, n);
	harness_acks_ended(acks, 0, 0, true);
	harness_acks_ended(acks, 0, 1, false);
	harness_acks_ended(acks, 0, 2, true);
	harness_acks_meant(acks, 7, 0);
	harness_acks_ended(acks, 7, 0, true);
	wrong = harness_acks_judge(run, "kill 9", acks, is_there, (void *)(uintptr_t)there, &sums);
	harness_number(run, "wrong_count", (double)wrong);
	harness_number(run, "ended_count", acks->ended);
	harness_number(run, "acknowledged_count", (double)sums.acknowledged);
	harness_number(run, "failed_count", (double)sums.failed);
	harness_number(run, "unknown_count", (double)sums.unknown);
	harness_number(run, "survived_count", (double)sums.survived);
	harness_number(run, "lost_count", (double)sums.lost);
	harness_number(run, "phantoms_count", (double)sums.phantoms);
	harness_acks_free(acks);
}

static const struct {
	const char *there, *reason;
	unsigned lost, phantoms, survived;
} judged[] = {
	{ "02x", "", 0, 0, 0 },
	{ "023x", "", 0, 0, 1 },
	{ "0x", "kill 9: write 2 of thread 0 was acknowledged and is lost; 1 wrong in all\n", 1, 0,
	  0 },
	{ "02", "kill 9: write 0 of thread 7 was acknowledged and is lost; 1 wrong in all\n", 1, 0,
	  0 },
	{ "012x",
	  "kill 9: write 1 of thread 0 was reported as failed and is there; 1 wrong in all\n", 0, 1,
	  0 },
	{ "13", "kill 9: write 0 of thread 0 was acknowledged and is lost; 4 wrong in all\n", 3, 1,
	  1 },
};

TEST_ROWS(acks, are_judged, sizeof judged / sizeof *judged)
{
	there = judged[row].there;
	CLEANUP(outcome_done) struct outcome o = judge(judge_acks);

	CHECK_STR(o.reasons, judged[row].reason);
	CHECK_INT(outcome_number(&o, "lost_count"), ==, judged[row].lost);
	CHECK_INT(outcome_number(&o, "phantoms_count"), ==, judged[row].phantoms);
	CHECK_INT(outcome_number(&o, "survived_count"), ==, judged[row].survived);
	CHECK_INT(outcome_number(&o, "wrong_count"), ==, judged[row].lost + judged[row].phantoms);
	CHECK_INT(outcome_number(&o, "acknowledged_count"), ==, 3);
	CHECK_INT(outcome_number(&o, "failed_count"), ==, 1);
	CHECK_INT(outcome_number(&o, "unknown_count"), ==, 1);
	CHECK_INT(outcome_number(&o, "ended_count"), ==, 4);
}

/* What a process noted is there when it is dead, by the file or by the common memory. */
TEST_ROWS(acks, outlive_who_noted_them, 2)
{
	char path[] = "/tmp/poolproof-acks-XXXXXX";
	struct harness_acks *acks, *again;
	int file = mkstemp(path);
	pid_t child;

	acks = harness_acks_new(row == 0 ? NULL : path);
	CHECK(acks != NULL);
	child = fork();
	if (child == 0) {
		struct harness_acks *mine = row == 0 ? acks : harness_acks_new(path);

		harness_acks_meant(mine, 255, 4095);
		harness_acks_ended(mine, 255, 4095, true);
		kill(getpid(), SIGKILL);
	}
	waitpid(child, NULL, 0);
	again = row == 0 ? acks : harness_acks_new(path);
	CHECK_INT(again->fates[255][4095], ==, HARNESS_ACKNOWLEDGED);
	CHECK_INT(again->ended, ==, 1);
	if (again != acks)
		harness_acks_free(again);
	harness_acks_free(acks);
	harness_acks_free(NULL);
	close(file);
	unlink(path);
}

TEST(acks, say_that_there_is_no_room)
{
	CHECK(harness_acks_new("/nowhere/acks") == NULL);
}

/* --- The log ------------------------------------------------------------------------------ */

static void exec(sqlite3 *db, const char *sql)
{
	char *words = NULL;

	CHECK_MSG(sqlite3_exec(db, sql, NULL, NULL, &words) == SQLITE_OK, "%s: %s", sql, words);
}

static void write_one(sqlite3 *db, int thread, int n)
{
	sqlite3_stmt *stmt;

	exec(db, "BEGIN");
	CHECK_INT(sqlite3_prepare_v2(db, harness_log_insert, -1, &stmt, NULL), ==, SQLITE_OK);
	sqlite3_bind_int(stmt, 1, thread);
	sqlite3_bind_int(stmt, 2, n);
	sqlite3_bind_int(stmt, 3, 100);
	CHECK_INT(sqlite3_step(stmt), ==, SQLITE_DONE);
	sqlite3_finalize(stmt);
	exec(db, harness_log_count);
	exec(db, "COMMIT");
}

static sqlite3 *log_of_six(void)
{
	sqlite3 *db;

	CHECK_INT(sqlite3_open(":memory:", &db), ==, SQLITE_OK);
	exec(db, harness_log_schema);
	for (int n = 0; n < 3; n++) {
		write_one(db, 0, n);
		write_one(db, 200, n);
	}
	return db;
}

static const struct {
	const char *sql, *wrong;
} logs[] = {
	{ "SELECT 1", "" },
	{ "DELETE FROM harness_log WHERE id = 3", "5 rows, the last is number 6, 6 were counted" },
	{ "DELETE FROM harness_log WHERE id = 6", "5 rows, the last is number 5, 6 were counted" },
	{ "UPDATE harness_log SET id = 7 WHERE id = 3",
	  "6 rows, the last is number 7, 6 were counted" },
	{ "UPDATE harness_count SET rows = 7", "6 rows, the last is number 6, 7 were counted" },
	{ "UPDATE harness_log SET id = 0 WHERE id = 1", "1 of 6 rows are spoiled" },
	{ "UPDATE harness_log SET payload = replace(payload, '0', '1') WHERE id > 4",
	  "2 of 6 rows are spoiled" },
	{ "UPDATE harness_log SET payload = NULL WHERE id = 2", "1 of 6 rows are spoiled" },
	{ "UPDATE harness_log SET n = 9 WHERE id = 2", "1 of 6 rows are spoiled" },
	{ "DROP TABLE harness_count", "no such table: harness_count (1)" },
};

TEST_ROWS(log, is_a_prefix_or_it_is_said_what_it_is, sizeof logs / sizeof *logs)
{
	sqlite3 *db = log_of_six();
	struct harness_log_state state;

	exec(db, logs[row].sql);
	state = harness_log_read(db, true);
	CHECK_STR(state.wrong, logs[row].wrong);
	CHECK_INT(state.rows, ==, row == 0 ? 6 : -1);
	sqlite3_close(db);
}

TEST(log, knows_each_write)
{
	sqlite3 *db = log_of_six();

	CHECK(harness_log_has(db, 200, 2));
	CHECK(!harness_log_has(db, 200, 3));
	CHECK(!harness_log_has(db, 1, 0));
	sqlite3_close(db);
}

/* An index that lost an entry; only who asks whether the file is sound hears of it. */
TEST_ROWS(log, is_sound_where_that_is_asked, 2)
{
	sqlite3 *db = log_of_six();
	struct harness_log_state state;

	exec(db, "PRAGMA writable_schema = ON; UPDATE sqlite_schema SET sql = 'CREATE UNIQUE INDEX "
	         "harness_log_who ON harness_log(thread, n) WHERE n <> 1' WHERE name = "
	         "'harness_log_who'; PRAGMA writable_schema = RESET");
	state = harness_log_read(db, row == 1);
	CHECK_INT(state.rows, ==, row == 1 ? -1 : 6);
	CHECK_CONTAINS(state.wrong, row == 1 ? "integrity_check: " : "");
	sqlite3_close(db);
}

/* --- Holders and deadlines ---------------------------------------------------------------- */

static void hold_twice(struct harness_run *run)
{
	int a = 0, b = 0;

	harness_number(run, "held_count", harness_hold(run, &a) + harness_hold(run, &b));
	harness_let_go(&b);
	harness_number(run, "held_again_count", harness_hold(run, &b));
	harness_number(run, "held_twice_count", !harness_hold(run, &a));
	harness_let_go(&a);
	harness_let_go(&a);
	harness_number(run, "held_after_count", harness_hold(run, &a));
}

TEST(holders, are_one_at_a_time)
{
	CLEANUP(outcome_done) struct outcome o = judge(hold_twice);

	CHECK_INT(o.code, ==, 1);
	CHECK_CONTAINS(o.reasons, ") was lent to a second borrower\n");
	CHECK(strchr(o.reasons, '\n') == o.reasons + strlen(o.reasons) - 1);
	CHECK_INT(outcome_number(&o, "held_count"), ==, 2);
	CHECK_INT(outcome_number(&o, "held_again_count"), ==, 1);
	CHECK_INT(outcome_number(&o, "held_twice_count"), ==, 1);
	CHECK_INT(outcome_number(&o, "held_after_count"), ==, 1);
}

static void *hold_each(void *context)
{
	static char handles[4096];
	struct harness_run *run = context;

	/* Each is somebody's for a moment; the order in which they come is the same for all. */
	for (unsigned i = 0; i < sizeof handles; i += 16)
		harness_hold(run, &handles[i]);
	return NULL;
}

static void hold_in_threads(struct harness_run *run)
{
	pthread_t threads[2];

	for (unsigned i = 0; i < 2; i++)
		pthread_create(&threads[i], NULL, hold_each, run);
	for (unsigned i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	harness_number(run, "bodies_count", 1);
}

/* Whichever comes second to a handle is told, once for each. */
TEST(holders, are_counted_among_threads)
{
	CLEANUP(outcome_done) struct outcome o = judge(hold_in_threads);
	char *events = outcome_file(&o, "events.jsonl");
	unsigned told = 0;

	for (const char *at = events; (at = strstr(at, "second borrower")) != NULL; at++)
		told++;
	CHECK_INT(told, ==, 256);
	free(events);
}

static void hold_too_many(struct harness_run *run)
{
	for (uintptr_t i = 1; i <= 4100; i++)
		harness_hold(run, (const void *)(i * 64));
	harness_number(run, "bodies_count", 1);
}

TEST(holders, are_not_trusted_where_there_are_too_many)
{
	CLEANUP(outcome_done) struct outcome o = judge(hold_too_many);

	CHECK_INT(o.code, ==, 3);
	CHECK_STR(o.reasons, "there were more than 4096 connections: who held the last ones was "
	                     "not watched\n");
}

static void miss_deadlines(struct harness_run *run)
{
	uint64_t late = harness_lateness_ns(), now = now_ns(), second = 1000000000;

	harness_deadline_judge(run, now - late / 2, 0, false);
	harness_deadline_judge(run, now - 20 * second, 20 * second, true);
	harness_deadline_judge(run, now - 20 * second, UINT64_MAX, true);
	harness_deadline_judge(run, now - 2 * second - late, second, false);
	harness_deadline_judge(run, now - second - late, 0, true);
	harness_number(run, "bodies_count", 1);
}

TEST(deadlines, are_kept_but_for_a_little)
{
	CLEANUP(outcome_done) struct outcome o = judge(miss_deadlines);

	CHECK_INT(o.code, ==, 1);
	CHECK_CONTAINS(o.reasons, "an acquire with 1000 ms of patience failed after ");
	CHECK_CONTAINS(o.reasons, "an acquire with 0 ms of patience succeeded after ");
	CHECK_INT(json_array_size(json_object_get(json_object_get(o.json, "verdict"), "reasons")),
	          ==, 2);
}
