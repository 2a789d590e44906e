/*
 * script_parse_test.c - what is refused in a script or its file, and in which words.
 */
/* SPDX-License-Identifier: MIT */
#include "script.h"

#include <unistd.h>

struct fixture {
	sqlite3 *db;
	struct harness_script *script;
	char error[512];
};

static struct fixture fixture_open(void)
{
	return (struct fixture){ .db = accounts_open() };
}

static void fixture_close(struct fixture *f)
{
	harness_script_free(f->script);
	CHECK_INT(sqlite3_close(f->db), ==, SQLITE_OK);
}

static bool parse(struct fixture *f, const char *text)
{
	harness_script_free(f->script);
	f->script = parse_mine(f->db, text, f->error, sizeof f->error);
	/* No transaction is left. */
	CHECK(sqlite3_get_autocommit(f->db));
	return f->script != NULL;
}

static const struct {
	const char *text, *error;
} refused_scripts[] = {
	{ "", "dir/mine.sql:1: the script is empty; write SQL or a command like \\set" },
	{ "-- only\n/* words */ ;\n", "dir/mine.sql:1: the script is empty; write SQL or a command "
	                              "like \\set" },
	{ "SELECT 1;\n\nSELEC 1;", "dir/mine.sql:3: near \"SELEC\": syntax error" },
	{ "SELECT 1,\n2,\nFROM account;", "dir/mine.sql:3: near \"FROM\": syntax error" },
	{ "SELECT nosuch FROM account", "dir/mine.sql:1: no such column: nosuch" },
	{ "SELECT 1; SELECT 'a\n", "dir/mine.sql:1: unrecognized token: \"'a \"" },
	{ "SELECT 1 +", "dir/mine.sql:1: incomplete input" },
	{ "UPDATE account\nSET balance = ?",
	  "dir/mine.sql:2: the parameter ? has no variable; write "
	  "it :name" },
	{ "SELECT ?1", "dir/mine.sql:1: the parameter ?1 has no variable; write it :name" },
	{ "SELECT $k", "dir/mine.sql:1: the parameter $k has no variable; write it :name" },
	{ "SELECT @k", "dir/mine.sql:1: the parameter @k has no variable; write it :name" },
	{ "SELECT\n :record",
	  "dir/mine.sql:2: column 2: variable \":record\" is not set before this "
	  "place; did you mean \"records\"?" },
	{ "SELECT :k;\n\\set k 1",
	  "dir/mine.sql:1: column 8: variable \":k\" is not set before this "
	  "place" },
	{ "\\set k :k + 1",
	  "dir/mine.sql:1: column 8: variable \":k\" is not set before this place" },
	{ "\\set 1k 1", "dir/mine.sql:1: \\set needs a name of letters, digits and \"_\", then an "
	                "expression; \"1k\" is no name" },
	{ "\\set", "dir/mine.sql:1: \\set needs a name of letters, digits and \"_\", then an "
	           "expression; \"\" is no name" },
	{ "\\set k", "dir/mine.sql:1: column 7: the expression ends where a value should be" },
	{ "\\sett k 1",
	  "dir/mine.sql:1: unknown command \"\\sett\"; did you mean \"\\set\"?; known: "
	  "\\set, \\sleep, \\if, \\elif, \\else, \\endif, \\gset" },
	{ "\\shell ls",
	  "dir/mine.sql:1: \\shell is pgbench's and not supported here; known: \\set, "
	  "\\sleep, \\if, \\elif, \\else, \\endif, \\gset" },
	{ "\\startpipeline", "dir/mine.sql:1: \\startpipeline is pgbench's and not supported here; "
	                     "known: \\set, \\sleep, \\if, \\elif, \\else, \\endif, \\gset" },
	{ "\\sleep",
	  "dir/mine.sql:1: \\sleep needs a whole number or a :variable, then us, ms or s "
	  "(the default), not \"\"" },
	{ "\\sleep -1",
	  "dir/mine.sql:1: \\sleep needs a whole number or a :variable, then us, ms or s "
	  "(the default), not \"-1\"" },
	{ "\\sleep 1 h", "dir/mine.sql:1: \\sleep knows us, ms and s, not \"h\"" },
	{ "\\sleep 1 s now", "dir/mine.sql:1: \"now\" is too much after \\sleep" },
	{ "\\if 1\n\\if 2\n\\endif", "dir/mine.sql:1: this \\if has no \\endif" },
	{ "\\endif", "dir/mine.sql:1: \\endif without \\if" },
	{ "\\elif 1", "dir/mine.sql:1: \\elif without \\if" },
	{ "\\if 1\n\\else\n\\elif 1\n\\endif", "dir/mine.sql:3: \\elif after \\else" },
	{ "\\if 1\n\\else\n\\else\n\\endif", "dir/mine.sql:3: \\else after \\else" },
	{ "\\if\n\\endif",
	  "dir/mine.sql:1: column 4: the expression ends where a value should be" },
	{ "\\gset", "dir/mine.sql:1: \\gset needs a query right before it" },
	{ "SELECT 1 AS a \\gset\n\\gset", "dir/mine.sql:2: \\gset needs a query right before it" },
	{ "BEGIN;\n\\gset\nEND", "dir/mine.sql:2: \\gset needs a query right before it" },
	{ "DELETE FROM account \\gset", "dir/mine.sql:1: \\gset needs a query that returns columns "
	                                "before it" },
	{ "SELECT count(*) FROM account \\gset",
	  "dir/mine.sql:1: the column \"count(*)\" cannot name a "
	  "variable; write AS and a name" },
	{ "SELECT 1 AS a \\gset b c", "dir/mine.sql:1: \"c\" is too much after \\gset" },
	{ "BEGIN;\nSELECT 1;\nBEGIN;",
	  "dir/mine.sql:3: BEGIN inside a transaction; END it first, or "
	  "use SAVEPOINT" },
	{ "SELECT 1;\nEND;",
	  "dir/mine.sql:2: there is no transaction to end here; BEGIN is missing" },
	{ "BEGIN;\nROLLBACK;\nCOMMIT;",
	  "dir/mine.sql:3: there is no transaction to end here; BEGIN is "
	  "missing" },
	{ "SELECT 1;\nBEGIN;\nROLLBACK TO p;",
	  "dir/mine.sql:2: this transaction is never ended; write "
	  "END; after it" },
	{ "ATTACH 'x' AS y", "dir/mine.sql:1: ATTACH changes the connection for whoever borrows it "
	                     "next; give the run a database that has all tables" },
	{ "CREATE TABLE account (id)", "dir/mine.sql:1: table account already exists" },
	{ "SELECT '\xff'", "dir/mine.sql:1: byte 0xFF is not UTF-8; save the file as UTF-8" },
	{ "SELECT '\xed\xa0\x80'",
	  "dir/mine.sql:1: byte 0xED is not UTF-8; save the file as UTF-8" },
};

TEST_ROWS(script_parse, refuses_in_words, sizeof refused_scripts / sizeof *refused_scripts)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open();

	CHECK_MSG(!parse(&f, refused_scripts[row].text), "accepted: %s", refused_scripts[row].text);
	CHECK_STR(f.error, refused_scripts[row].error);
}

static const struct {
	const char *text;
	enum harness_access access;
} accesses[] = {
	{ "SELECT 1", HARNESS_READ },
	{ "BEGIN; SELECT 1; END", HARNESS_READ },
	{ "BEGIN DEFERRED TRANSACTION; SELECT 1; END TRANSACTION", HARNESS_READ },
	{ "BEGIN IMMEDIATE; SELECT 1; COMMIT", HARNESS_WRITE },
	{ "BEGIN /* now */ EXCLUSIVE; SELECT 1; COMMIT", HARNESS_WRITE },
	{ "SELECT 1; DELETE FROM account", HARNESS_WRITE },
	{ "\\set k 1", HARNESS_READ },
	{ "PRAGMA user_version = 3", HARNESS_WRITE },
};

TEST_ROWS(script_parse, knows_who_only_reads, sizeof accesses / sizeof *accesses)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open();

	CHECK_MSG(parse(&f, accesses[row].text), "%s", f.error);
	CHECK_INT(harness_script_access(f.script), ==, accesses[row].access);
	CHECK_STR(harness_script_name(f.script), "mine.sql");
}

TEST(script_parse, stops_at_64_variables)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open();
	char text[4096] = "";

	for (int i = 0; i < 60; i++)
		sprintf(text + strlen(text), "\\set v%d 1\n", i);
	CHECK(!parse(&f, text));
	CHECK_CONTAINS(f.error, "mine.sql:60: \"v59\" is one variable too many; 64 is the most");
}

TEST(script_parse, refuses_a_variable_that_has_no_name)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open();
	const struct harness_variable bad = { "a b", { .type = HARNESS_NULL } };

	CHECK(harness_script_parse("x", "SELECT 1", f.db, &bad, 1, f.error, sizeof f.error) ==
	      NULL);
	CHECK_CONTAINS(f.error, "\"a b\" cannot name a variable");
}

static const char *const always_there[] = { "client_id", "random_seed", "default_seed" };

/* A script that is run with another seed than the run's would not be repeated by it. */
TEST_ROWS(script_parse, refuses_to_define_what_is_always_there,
          sizeof always_there / sizeof *always_there)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open();
	const struct harness_variable bad = { always_there[row],
		                              { .type = HARNESS_INTEGER, .integer = 3 } };
	char expected[128];

	CHECK(harness_script_parse("x", "SELECT 1", f.db, &bad, 1, f.error, sizeof f.error) ==
	      NULL);
	snprintf(expected, sizeof expected,
	         "x:1: \"%s\" is always there and cannot be defined by -D; choose another name",
	         always_there[row]);
	CHECK_STR(f.error, expected);
}

TEST(script_parse, leaves_the_schema_as_it_was)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open();

	CHECK_MSG(parse(&f, "CREATE TABLE extra (a);\nINSERT INTO extra VALUES (1);\n"
	                    "CREATE TRIGGER t AFTER INSERT ON extra BEGIN SELECT ';\\'; END;\n"
	                    "DROP TABLE account; DROP TABLE extra;"),
	          "%s", f.error);
	CHECK_STR(value_of(f.db, "SELECT group_concat(name) FROM sqlite_schema"), "account");
	CHECK(!parse(&f, "DROP TABLE account; SELECT * FROM account"));
	CHECK_STR(value_of(f.db, "SELECT count(*) FROM account"), "2");
}

/* ---- Files ---- */

static struct harness_script *load(struct fixture *f, const char *path, const char *bytes,
                                   size_t size)
{
	FILE *file = fopen(path, "w");

	CHECK(file != NULL);
	CHECK_INT(fwrite(bytes, 1, size, file), ==, size);
	fclose(file);
	f->script = harness_script_load(path, f->db, NULL, 0, f->error, sizeof f->error);
	unlink(path);
	return f->script;
}

TEST(script_load, says_what_is_wrong_with_a_file)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open();
	char folder[] = "/tmp/script-test-XXXXXX", path[64], expected[128];

	CHECK(mkdtemp(folder) != NULL);
	CHECK(harness_script_load(folder, f.db, NULL, 0, f.error, sizeof f.error) == NULL);
	snprintf(expected, sizeof expected, "%s: this is a folder, not a script; name a file in it",
	         folder);
	CHECK_STR(f.error, expected);

	snprintf(path, sizeof path, "%s/a b.sql", folder);
	CHECK(harness_script_load(path, f.db, NULL, 0, f.error, sizeof f.error) == NULL);
	snprintf(expected, sizeof expected, "%s: no such file; name a script (--script FILE)",
	         path);
	CHECK_STR(f.error, expected);

	CHECK(load(&f, path, "SELECT 1\0;", 10) == NULL);
	CHECK_CONTAINS(f.error, "NUL bytes");
	CHECK(load(&f, path, "\xEF\xBB\xBFSELECT 1;\r\n", 14) != NULL);
	CHECK_STR(harness_script_name(f.script), "a_b.sql");
	rmdir(folder);
}

TEST(script_load, refuses_what_is_too_large_for_a_script)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open();
	char path[] = "/tmp/script-test-XXXXXX", *spaces = malloc(SCRIPT_FILE_MAX + 1);
	int fd = mkstemp(path);

	CHECK(fd >= 0 && spaces != NULL);
	close(fd);
	memset(spaces, ' ', SCRIPT_FILE_MAX + 1);
	CHECK(load(&f, path, spaces, SCRIPT_FILE_MAX + 1) == NULL);
	CHECK_CONTAINS(f.error, "larger than 256 KiB");
	free(spaces);
}
