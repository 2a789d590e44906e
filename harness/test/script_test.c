/*
 * script_test.c - what a run of a script asks of its target.
 *
 * The target here is one in-memory database and a list of what was asked of it.
 */
/* SPDX-License-Identifier: MIT */
#include "script.h"

/* ---- The target ---- */

struct fixture {
	sqlite3 *db;
	char asked[4096]; /* "lend write, query 0, give back, " */
	int lent;
	const char *refuse; /* The call that fails, by its name here. */
	struct harness_worker worker;
	struct harness_script *script;
	struct harness_failure failure;
	char error[512];
};

__attribute__((format(printf, 2, 3))) static void note(struct fixture *f, const char *format, ...)
{
	size_t used = strlen(f->asked);
	va_list args;

	va_start(args, format);
	vsnprintf(f->asked + used, sizeof f->asked - used, format, args);
	va_end(args);
}

static bool refused(struct fixture *f, const char *call, struct harness_failure *failure)
{
	if (f->refuse == NULL || strcmp(f->refuse, call) != 0)
		return false;
	*failure = (struct harness_failure){ .kind = HARNESS_FAILURE_BUSY, .code = SQLITE_BUSY };
	snprintf(failure->text, sizeof failure->text, "%s refused", call);
	return true;
}

static bool fake_lend(void *target, enum harness_access access, uint64_t timeout_ns,
                      struct harness_connection *ret_connection,
                      struct harness_failure *reterr_failure)
{
	struct fixture *f = target;

	(void)timeout_ns;
	note(f, "lend %s, ", access == HARNESS_READ ? "read" : "write");
	if (refused(f, "lend", reterr_failure))
		return false;
	*ret_connection = (struct harness_connection){ .handle = f, .access = access };
	f->lent++;
	return true;
}

static void fake_give_back(void *target, struct harness_connection *connection)
{
	struct fixture *f = target;

	(void)connection;
	note(f, "give back, ");
	f->lent--;
}

static bool fail_sql(struct fixture *f, struct harness_failure *failure)
{
	failure->kind = HARNESS_FAILURE_SQL;
	failure->code = sqlite3_extended_errcode(f->db);
	snprintf(failure->text, sizeof failure->text, "%s", sqlite3_errmsg(f->db));
	return false;
}

static void bind(sqlite3_stmt *statement, const struct harness_value *args, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		int n = (int)i + 1;

		if (args[i].type == HARNESS_INTEGER)
			sqlite3_bind_int64(statement, n, args[i].integer);
		else if (args[i].type == HARNESS_REAL)
			sqlite3_bind_double(statement, n, args[i].real);
		else if (args[i].type == HARNESS_TEXT)
			sqlite3_bind_text(statement, n, args[i].text, -1, SQLITE_TRANSIENT);
	}
}

static struct harness_value column(sqlite3_stmt *statement, int i)
{
	struct harness_value v = { .type = HARNESS_NULL };

	switch (sqlite3_column_type(statement, i)) {
	case SQLITE_INTEGER:
		v.type = HARNESS_INTEGER;
		v.integer = sqlite3_column_int64(statement, i);
		break;
	case SQLITE_FLOAT:
		v.type = HARNESS_REAL;
		v.real = sqlite3_column_double(statement, i);
		break;
	case SQLITE_TEXT:
		v.type = HARNESS_TEXT;
		v.text = (const char *)sqlite3_column_text(statement, i);
		break;
	}
	return v;
}

static bool fake_query(struct harness_connection *connection, const char *sql,
                       const struct harness_value *args, unsigned arg_count, harness_row_fn *on_row,
                       void *context, struct harness_failure *reterr_failure)
{
	struct fixture *f = connection->handle;
	struct harness_value row[16];
	sqlite3_stmt *statement = NULL;
	int rc;

	note(f, "query %u, ", arg_count);
	if (sqlite3_prepare_v2(f->db, sql, -1, &statement, NULL) != SQLITE_OK)
		return fail_sql(f, reterr_failure);
	bind(statement, args, arg_count);
	while ((rc = sqlite3_step(statement)) == SQLITE_ROW) {
		unsigned count = (unsigned)sqlite3_column_count(statement);

		for (unsigned i = 0; i < count && i < 16; i++)
			row[i] = column(statement, (int)i);
		if (on_row != NULL && !on_row(context, row, count))
			break;
	}
	sqlite3_finalize(statement);
	return rc == SQLITE_DONE || rc == SQLITE_ROW || fail_sql(f, reterr_failure);
}

static bool control(struct harness_connection *connection, const char *sql,
                    struct harness_failure *reterr_failure)
{
	struct fixture *f = connection->handle;

	note(f, "%s, ", sql);
	return !refused(f, sql, reterr_failure) &&
	       (sqlite3_exec(f->db, sql, NULL, NULL, NULL) == SQLITE_OK ||
	        fail_sql(f, reterr_failure));
}

static bool fake_begin(struct harness_connection *c, struct harness_failure *reterr_failure)
{
	return control(c, "begin", reterr_failure);
}

static bool fake_commit(struct harness_connection *c, struct harness_failure *reterr_failure)
{
	return control(c, "commit", reterr_failure);
}

static bool fake_rollback(struct harness_connection *c, struct harness_failure *reterr_failure)
{
	return control(c, "rollback", reterr_failure);
}

static const struct harness_target fake = {
	.name = "fake",
	.lend = fake_lend,
	.give_back = fake_give_back,
	.query = fake_query,
	.begin = fake_begin,
	.commit = fake_commit,
	.rollback = fake_rollback,
};

/* ---- The fixture ---- */

static struct fixture *fixture_open(void)
{
	struct fixture *f = calloc(1, sizeof *f);

	CHECK(f != NULL);
	f->db = accounts_open();
	f->worker.target = &fake;
	f->worker.target_state = f;
	f->worker.thread = 3;
	harness_entropy_init(&f->worker.entropy, 42, 3, 0);
	return f;
}

static void fixture_close(struct fixture **f)
{
	harness_script_free((*f)->script);
	CHECK_INT((*f)->lent, ==, 0);
	CHECK_INT(sqlite3_close((*f)->db), ==, SQLITE_OK);
	free(*f);
}

#define FIXTURE(f) CLEANUP(fixture_close) struct fixture *f = fixture_open()

static bool parse(struct fixture *f, const char *text)
{
	harness_script_free(f->script);
	f->script = parse_mine(f->db, text, f->error, sizeof f->error);
	/* The schema is as before, and no transaction is left. */
	CHECK(sqlite3_get_autocommit(f->db));
	return f->script != NULL;
}

static bool run(struct fixture *f)
{
	f->asked[0] = '\0';
	return harness_script_run(&f->worker, f->script, &f->failure);
}

static void parse_and_run(struct fixture *f, const char *text)
{
	CHECK_MSG(parse(f, text), "%s", f->error);
	CHECK_MSG(run(f), "%s", f->failure.text);
}

TEST(script_run, takes_a_connection_at_its_first_sql_and_gives_it_back)
{
	FIXTURE(f);

	parse_and_run(f, "\\set k 2\n\\sleep 1 us\n-- a comment; not SQL\n"
	                 "BEGIN;\nUPDATE account SET balance = balance + :k WHERE id = :k;\n"
	                 "SELECT 1; SELECT 2;\nEND;\n");
	CHECK_STR(f->asked, "lend write, begin, query 1, query 0, query 0, commit, give back, ");
	CHECK_STR(value_of(f->db, "SELECT balance FROM account WHERE id = 2"), "22");
	parse_and_run(f, "\\set k 2");
	CHECK_STR(f->asked, "");
}

TEST(script_run, binds_each_type)
{
	FIXTURE(f);

	parse_and_run(f, "\\set i -5\n\\set d 1.5\n\\set b 1 = 1\n\\set n NULL\n"
	                 "INSERT INTO account VALUES (9, typeof(:i)||typeof(:d)||typeof(:b)||"
	                 "typeof(:n)||typeof(:greeting), :greeting||':i'||:i||:d||:b)");
	CHECK_STR(value_of(f->db, "SELECT balance FROM account WHERE id = 9"),
	          "integerrealintegernulltext");
	CHECK_STR(value_of(f->db, "SELECT name FROM account WHERE id = 9"), "it's:i-51.51");
}

TEST(script_run, knows_its_client_and_its_seed)
{
	FIXTURE(f);

	parse_and_run(f, "INSERT INTO account VALUES (9, :client_id, :random_seed)");
	CHECK_STR(value_of(f->db, "SELECT balance FROM account WHERE id = 9"), "3");
}

TEST(script_run, rolls_back_and_says_where)
{
	FIXTURE(f);

	CHECK(parse(f, "BEGIN;\nDELETE FROM account WHERE id = 1;\n\n"
	               "INSERT INTO account\nVALUES (2, 0, '');\nEND;"));
	CHECK(!run(f));
	CHECK_STR(f->failure.text, "dir/mine.sql:4: UNIQUE constraint failed: account.id");
	CHECK_INT(f->failure.kind, ==, HARNESS_FAILURE_SQL);
	CHECK_INT(f->failure.code & 0xff, ==, SQLITE_CONSTRAINT);
	CHECK_STR(f->asked, "lend write, begin, query 0, query 0, rollback, give back, ");
	CHECK_STR(value_of(f->db, "SELECT count(*) FROM account"), "2");
}

static const struct {
	const char *refuse, *asked, *text;
} refusals[] = {
	{ "lend", "lend write, ", "dir/mine.sql:1: lend refused" },
	{ "begin", "lend write, begin, give back, ", "dir/mine.sql:1: begin refused" },
	{ "commit", "lend write, begin, query 0, commit, rollback, give back, ",
	  "dir/mine.sql:3: commit refused" },
};

TEST_ROWS(script_run, passes_on_what_the_target_refuses, sizeof refusals / sizeof *refusals)
{
	FIXTURE(f);

	CHECK(parse(f, "BEGIN;\nDELETE FROM account;\nEND;"));
	f->refuse = refusals[row].refuse;
	CHECK(!run(f));
	CHECK_STR(f->failure.text, refusals[row].text);
	CHECK_INT(f->failure.code, ==, SQLITE_BUSY);
	CHECK_STR(f->asked, refusals[row].asked);
	CHECK(sqlite3_get_autocommit(f->db));
}

TEST(script_run, says_where_an_expression_failed)
{
	FIXTURE(f);

	CHECK(parse(f, "BEGIN;\n\\set k 1\n\\set x 7 / (:k - 1)\nEND;"));
	CHECK(!run(f));
	CHECK_STR(f->failure.text, "dir/mine.sql:3: column 10: division by zero");
	CHECK_INT(f->failure.kind, ==, HARNESS_FAILURE_OTHER);
	CHECK_STR(f->asked, "lend read, begin, rollback, give back, ");
}

static const struct {
	const char *text, *value;
} branches[] = {
	{ "\\if 1\n\\set r 1\n\\else\n\\set r 2\n\\endif", "1" },
	{ "\\if 0\n\\set r 1\n\\else\n\\set r 2\n\\endif", "2" },
	{ "\\set r 0\n\\if NULL\n\\set r 1\n\\endif", "0" },
	{ "\\set a 2\n\\set r 9\n\\if :a = 1\n\\set r 1\n\\elif :a = 2\n\\set r 2\n\\elif 1\n"
	  "\\set r 3\n\\else\n\\set r 4\n\\endif",
	  "2" },
	{ "\\set r 9\n\\if 0\n\\set r 1\n\\elif 0\n\\set r 2\n\\else\n\\set r 4\n\\endif", "4" },
	{ "\\set r 0\n\\if 1\n\\if 0\n\\set r 1\n\\else\n\\set r 2\n\\endif\n\\else\n\\set r 3\n"
	  "\\endif",
	  "2" },
	{ "\\set r 0\n\\if 0\n\\if 1\n\\set r 1\n\\endif\n\\endif", "0" },
	{ "\\set r 0\n\\if 1.5\n\\set r 1\n\\elif 1/0\n\\endif", "1" },
};

TEST_ROWS(script_run, follows_one_branch, sizeof branches / sizeof *branches)
{
	FIXTURE(f);
	char text[512];

	snprintf(text, sizeof text, "%s\nUPDATE account SET balance = :r", branches[row].text);
	parse_and_run(f, text);
	CHECK_STR(value_of(f->db, "SELECT balance FROM account"), branches[row].value);
}

static const struct {
	const char *text, *error;
} bad_ways[] = {
	{ "\\if 0\n\\set a 1\n\\endif\nSELECT :a",
	  "dir/mine.sql:4: variable \":a\" was not set on the "
	  "way here" },
	{ "\\if 0\n\\set a 1\n\\endif\n\\set b :a",
	  "dir/mine.sql:4: column 8: variable \":a\" was not "
	  "set on the way here" },
	{ "BEGIN;\n\\if 0\nEND;\n\\endif",
	  "dir/mine.sql:1: the script ended inside this transaction" },
	{ "\\if 1\nEND;\n\\endif", "dir/mine.sql:2: there is no transaction to end here" },
	{ "BEGIN;\n\\if 1\nBEGIN;\n\\endif\nEND;",
	  "dir/mine.sql:3: BEGIN inside the transaction of "
	  "line 1" },
	{ "\\set n -1\n\\sleep :n", "dir/mine.sql:2: \\sleep: -1 is outside 0 s to one day" },
	{ "\\set n :greeting", "dir/mine.sql:1: column 8: variable \":greeting\" holds the text "
	                       "\"it's\", which is no number" },
	{ "SELECT 1 AS a WHERE 0 \\gset",
	  "dir/mine.sql:1: \\gset needs exactly one row, and there was "
	  "none" },
	{ "SELECT id FROM account \\gset",
	  "dir/mine.sql:1: \\gset needs exactly one row, and there "
	  "were more" },
	{ "SELECT printf('%.*c', 8192, 'x') AS a\n\\gset",
	  "dir/mine.sql:1: \\gset: the texts exceed "
	  "8192 bytes in all" },
};

TEST_ROWS(script_run, refuses_a_bad_way, sizeof bad_ways / sizeof *bad_ways)
{
	FIXTURE(f);

	CHECK_MSG(parse(f, bad_ways[row].text), "%s", f->error);
	CHECK(!run(f));
	CHECK_STR(f->failure.text, bad_ways[row].error);
}

TEST(script_run, gathers_a_row_into_variables)
{
	FIXTURE(f);

	parse_and_run(f, "SELECT id AS k, name, 2.5 AS d, NULL AS n, '17' AS t FROM account\n"
	                 "WHERE id = 2 \\gset got_\n"
	                 "\\set sum :got_k + :got_d + :got_t\n"
	                 "INSERT INTO account VALUES (9, :sum, :got_name || typeof(:got_n)) "
	                 "RETURNING id \\gset\n"
	                 "UPDATE account SET balance = balance + 1 WHERE id = :id");
	CHECK_STR(value_of(f->db, "SELECT balance || name FROM account WHERE id = 9"),
	          "22.5twonull");
}

static uint64_t digest_of(struct fixture *f, uint64_t seed)
{
	f->worker.digest = 0;
	harness_entropy_init(&f->worker.entropy, seed, 0, 0);
	CHECK_MSG(run(f), "%s", f->failure.text);
	return f->worker.digest;
}

TEST(script_run, chooses_the_same_for_the_same_seed)
{
	FIXTURE(f);
	uint64_t first;

	CHECK(parse(f, "\\set a random(1, 1000000)\n\\set b random_gaussian(1, :a, 3)\n"
	               "\\set c :a / 3.0\n\\set d :a = 1\n\\set e NULL"));
	first = digest_of(f, 1);
	CHECK(digest_of(f, 1) == first);
	CHECK(digest_of(f, 2) != first);
}

/* What the database says depends on timing, so it must not reach the digest. */
TEST(script_run, does_not_count_what_the_database_decided)
{
	FIXTURE(f);
	uint64_t first;

	CHECK(parse(f, "\\set a random(1, 1000000)\n"
	               "SELECT balance FROM account WHERE id = 1 \\gset\n"
	               "\\set b random(1, 1000000)\n\\set c :balance + 1\n"
	               "\\set d random(1, :c)\n"
	               "UPDATE account SET balance = balance + 1"));
	first = digest_of(f, 1);
	CHECK(first != 0);
	CHECK(digest_of(f, 1) == first);
}
