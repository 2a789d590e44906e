/* The run directory: what is in it, and that it never harms another. */
/* SPDX-License-Identifier: MIT */
#include "fake.h"

#include <sqlite3.h>
#include <sys/stat.h>
#include <unistd.h>

static const struct fake nothing;

TEST(record, writes_every_file_in_its_format)
{
	CLEANUP(outcome_done)
	struct outcome o =
		scenario_run(&fake_scenario, nothing, "--threads", "2", "--seconds", "0.3", NULL);
	char *csv = outcome_file(&o, "memory.csv"), *log = outcome_file(&o, "latency.hlog");
	char *events = outcome_file(&o, "events.jsonl");
	unsigned commas = 0, rows = 0;

	CHECK_INT(o.code, ==, 0);
	CHECK(strncmp(csv, "time_s,operations_count,", 24) == 0);
	for (char *at = csv; *at != '\0'; at++) {
		commas += *at == ',';
		rows += *at == '\n';
	}
	CHECK(rows >= 3);
	CHECK_INT(commas, ==, rows * 14);
	CHECK(strncmp(log, "#[Histogram log format version 1.3]\n#[StartTime: ", 48) == 0);
	CHECK_CONTAINS(log, "\nTag=operation,");
	CHECK_CONTAINS(log, "\nTag=operation.touch,");
	CHECK_CONTAINS(log, "\nTag=acquire.wait,");
	CHECK_CONTAINS(log, "\nTag=transaction,");
	CHECK_CONTAINS(log, "\nTag=commit,");
	for (char *line = strtok(events, "\n"); line != NULL; line = strtok(NULL, "\n")) {
		json_t *event = json_loads(line, 0, NULL);

		CHECK_MSG(json_is_integer(json_object_get(event, "t_ns")), "no event: %s", line);
		json_decref(event);
	}
	free(csv);
	free(log);
	free(events);
}

TEST(record, never_writes_into_an_earlier_run)
{
	char again[600];
	CLEANUP(outcome_done)
	struct outcome first = scenario_run(&fake_scenario, nothing, "--operations", "5", NULL);
	char *before = outcome_file(&first, "events.jsonl");
	CLEANUP(outcome_done) struct outcome second = { 0 };

	snprintf(again, sizeof again, "--dir=%s", first.directory);
	second = scenario_run(&fake_scenario, nothing, again, "--operations", "5", NULL);
	CHECK_INT(second.code, ==, 4);
	CHECK_CONTAINS(second.error, "File exists; choose another place with --dir");
	char *after = outcome_file(&first, "events.jsonl");
	CHECK_STR(before, after);
	free(before);
	free(after);
}

TEST(record, says_which_folder_it_cannot_make)
{
	CLEANUP(outcome_done)
	struct outcome o = scenario_run(&fake_scenario, nothing, "--dir", "/dev/null/x/y", NULL);

	CHECK_INT(o.code, ==, 4);
	CHECK_STR(o.error, "fake_scenario: /dev/null/x/y: Not a directory; choose another place "
	                   "with --dir\n");
}

TEST(record, removes_the_work_folder_after_a_pass_only)
{
	CLEANUP(outcome_done)
	struct outcome good = scenario_run(&fake_scenario, nothing, "--operations", "5", NULL);
	CLEANUP(outcome_done)
	struct outcome bad = scenario_run(&fake_scenario, (struct fake){ .leak_booked = true },
	                                  "--operations", "5", NULL);
	char path[600];

	snprintf(path, sizeof path, "%s/work", good.directory);
	CHECK(access(path, F_OK) != 0);
	snprintf(path, sizeof path, "%s/work", bad.directory);
	CHECK(access(path, F_OK) == 0);
}

static char source[512];

static void body_copy(struct harness_run *run)
{
	char path[PATH_MAX];
	sqlite3 *db;

	harness_copy_database(run, source, path, sizeof path);
	CHECK_INT(sqlite3_open(path, &db), ==, SQLITE_OK);
	if (sqlite3_exec(db, "INSERT INTO t VALUES(2)", NULL, NULL, NULL) == SQLITE_OK)
		harness_number(run, "changes_count", sqlite3_changes(db));
	sqlite3_close(db);
}

static struct outcome copy_run(void)
{
	struct harness_scenario s = fake_with_body(body_copy);

	sqlite3_shutdown(); /* What this process keeps would be in the census before. */
	return scenario_run(&s, nothing, NULL);
}

static void source_make(const char *sql)
{
	sqlite3 *db;

	CHECK_INT(sqlite3_open(source, &db), ==, SQLITE_OK);
	CHECK_INT(sqlite3_exec(db, sql, NULL, NULL, NULL), ==, SQLITE_OK);
	CHECK_INT(sqlite3_close(db), ==, SQLITE_OK);
}

static void folder_make(char *folder, size_t folder_size)
{
	snprintf(folder, folder_size, "%s/poolproof-copy-XXXXXX",
	         getenv("TMPDIR") != NULL ? getenv("TMPDIR") : "/tmp");
	CHECK(mkdtemp(folder) != NULL);
}

TEST_ROWS(record, copies_a_database_of_any_name, 2)
{
	char folder[256];

	folder_make(folder, sizeof folder);
	snprintf(source, sizeof source, "%s/what? 100%% #1 \xc3\xa4.db", folder);
	source_make(
		row == 0 ? "CREATE TABLE t(x); INSERT INTO t VALUES(1)"
			 : "PRAGMA journal_mode=WAL; CREATE TABLE t(x); INSERT INTO t VALUES(1)");
	CLEANUP(outcome_done) struct outcome o = copy_run();

	CHECK_STR(o.reasons, "");
	CHECK_INT(outcome_number(&o, "changes_count"), ==, 1);
	CHECK_INT(outcome_number(&o, "heap.leaked_bytes"), ==, 0);
	unlink(source);
	CHECK_INT(rmdir(folder), ==, 0); /* Nothing was left beside it. */
}

TEST(record, says_what_is_wrong_with_a_database)
{
	char folder[256];

	folder_make(folder, sizeof folder);
	snprintf(source, sizeof source, "%s/a.db", folder);
	{
		CLEANUP(outcome_done) struct outcome missing = copy_run();
		CHECK_INT(missing.code, ==, 4);
		CHECK_CONTAINS(missing.error, "a.db: no such file; name an SQLite database\n");
	}
	{
		char name[sizeof source];

		strcpy(name, source);
		source[0] = '\0';
		CLEANUP(outcome_done) struct outcome nameless = copy_run();
		strcpy(source, name);
		CHECK_INT(nameless.code, ==, 4);
		CHECK_CONTAINS(nameless.error, "fake_scenario: the database's name is empty (''); "
		                               "name an SQLite database, such as app.db\n");
	}
	FILE *f = fopen(source, "w");
	for (int i = 0; i < 1000; i++)
		fputs("not a database at all\n", f);
	fclose(f);
	CLEANUP(outcome_done) struct outcome text = copy_run();
	CHECK_INT(text.code, ==, 4);
	CHECK_CONTAINS(text.error, "it is not an SQLite database (or is encrypted); name one\n");
	if (geteuid() != 0) {
		CHECK_INT(chmod(source, 0), ==, 0);
		CLEANUP(outcome_done) struct outcome secret = copy_run();
		CHECK_CONTAINS(secret.error, "cannot be read by you");
	}
	unlink(source);
	strcpy(source, folder);
	CLEANUP(outcome_done) struct outcome directory = copy_run();
	CHECK_CONTAINS(directory.error, "is a folder; name an SQLite database in it\n");
	rmdir(folder);
}

/* A page in the middle is overwritten: opening and copying notice nothing. */
TEST(record, refuses_a_database_that_is_damaged_already)
{
	char folder[256], noise[1024];

	folder_make(folder, sizeof folder);
	snprintf(source, sizeof source, "%s/a.db", folder);
	source_make(
		"CREATE TABLE t(x); WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n "
		"WHERE i < 5000) INSERT INTO t SELECT hex(randomblob(20)) FROM n");
	memset(noise, 0xa5, sizeof noise);
	FILE *f = fopen(source, "r+");
	fseek(f, 20 * 4096, SEEK_SET);
	fwrite(noise, 1, sizeof noise, f);
	fclose(f);
	CLEANUP(outcome_done) struct outcome o = copy_run();
	CHECK_INT(o.code, ==, 4);
	CHECK_CONTAINS(o.error, "a.db: it is damaged: ");
	CHECK_CONTAINS(o.error, "repair it first");
	unlink(source);
	rmdir(folder);
}

TEST(record, says_that_another_program_holds_the_database)
{
	char folder[256];
	sqlite3 *db;

	folder_make(folder, sizeof folder);
	snprintf(source, sizeof source, "%s/a.db", folder);
	source_make("CREATE TABLE t(x)");
	CHECK_INT(sqlite3_open(source, &db), ==, SQLITE_OK);
	CHECK_INT(sqlite3_exec(db, "BEGIN EXCLUSIVE", NULL, NULL, NULL), ==, SQLITE_OK);
	CLEANUP(outcome_done) struct outcome o = copy_run();
	CHECK_INT(o.code, ==, 4);
	CHECK_CONTAINS(o.error, "database is locked; another program holds it");
	sqlite3_close(db);
	unlink(source);
	rmdir(folder);
}
