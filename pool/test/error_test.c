/* Errors: words, classes, a text that always fits. */
/* SPDX-License-Identifier: MIT */
#include "fixture.h"

#include "internal.h"

TEST(error, every_status_and_class_has_a_name_and_words)
{
#define X(name, text)                           \
	CHECK_STR(pp_status_name(name), #name); \
	CHECK_STR(pp_status_text(name), text);
	PP_STATUS_LIST(X)
#undef X
#define X(name, text) CHECK_STR(pp_class_name(name), #name);
	PP_CLASS_LIST(X)
#undef X
	CHECK_STR(pp_status_name((enum pp_status)99), "PP_?");
	CHECK_STR(pp_status_text((enum pp_status)99), "unknown status");
	CHECK_STR(pp_class_name((enum pp_class)99), "PP_?");
	CHECK_STR(pp_version(), PP_VERSION);
}

static const struct {
	int code;
	enum pp_class class;
} classes[] = {
	{ SQLITE_BUSY, PP_RETRY_TRANSACTION },
	{ SQLITE_BUSY_SNAPSHOT, PP_RETRY_TRANSACTION },
	{ SQLITE_BUSY_RECOVERY, PP_RETRY_TRANSACTION },
	{ SQLITE_BUSY_TIMEOUT, PP_RETRY_TRANSACTION },
	{ SQLITE_PROTOCOL, PP_RETRY_TRANSACTION },
	{ SQLITE_LOCKED, PP_FATAL }, /* Without a shared cache it is the connection's own doing. */
	{ SQLITE_LOCKED_SHAREDCACHE, PP_RETRY_STATEMENT },
	{ SQLITE_SCHEMA, PP_RETRY_STATEMENT },
	{ SQLITE_IOERR_FSYNC, PP_DISCARD_CONNECTION },
	{ SQLITE_IOERR_NOMEM, PP_FATAL },
	{ SQLITE_CORRUPT_INDEX, PP_DISCARD_CONNECTION },
	{ SQLITE_NOTADB, PP_DISCARD_CONNECTION },
	{ SQLITE_READONLY_DBMOVED, PP_DISCARD_CONNECTION },
	{ SQLITE_CANTOPEN_DIRTYWAL, PP_DISCARD_CONNECTION },
	{ SQLITE_READONLY, PP_FATAL },
	{ SQLITE_FULL, PP_FATAL },
	{ SQLITE_NOMEM, PP_FATAL },
	{ SQLITE_CONSTRAINT_UNIQUE, PP_FATAL },
	{ SQLITE_ABORT_ROLLBACK, PP_FATAL },
};

TEST_ROWS(error, class_says_what_can_be_done, sizeof classes / sizeof *classes)
{
	CHECK_INT(pp_class_of(classes[row].code), ==, classes[row].class);
}

/* All of the pool's, whether lent or not. */
TEST(error, tells_what_the_pool_holds_at_that_moment)
{
	CLEANUP(fixture_close)
	struct fixture f =
		fixture_config((struct pp_config){ .readers = 3, .keeper = PP_KEEPER_MANUAL });
	CLEANUP(pp_release) struct pp_lease writer = { 0 };
	struct pp_lease none = { 0 };
	struct pp_error error;
	struct pp_stats s;

	acquire_elsewhere(f.pool, PP_WRITE, &writer);
	clock_travel_ms(5000);
	CHECK_INT(pp_acquire(f.pool, PP_WRITE, PP_NO_WAIT, &none, &error), ==, PP_TIMEOUT);
	s = stats(f.pool);
	CHECK_INT(error.memory_bytes, ==, s.pool_bytes + s.connections_bytes);
	CHECK_INT(error.memory_bytes, >, 100000);
	CHECK_INT(error.connections, ==, 4);
	CHECK_INT(error.leased, ==, 1);
	CHECK_INT(error.oldest_lease_ms, >=, 5000);
}

TEST(error, tells_what_the_system_said)
{
	struct pp_error error;
	sqlite3 *db;
	int rc = sqlite3_open_v2("/nowhere/a.db", &db, SQLITE_OPEN_READWRITE, NULL);

	CHECK_INT(error_sqlite(&error, db, rc, "open", NULL), ==, PP_SQLITE);
	CHECK_INT(error.system_errno, ==, ENOENT);
	CHECK_INT(error.error_class, ==, PP_FATAL);
	sqlite3_close(db);
}

TEST(error, text_fits_any_buffer)
{
	struct pp_error error = { .status = PP_SQLITE,
		                  .doing = "prepare",
		                  .sqlite_code = SQLITE_ERROR,
		                  .system_errno = 5,
		                  .sql_offset = 3,
		                  .attempt = 2,
		                  .elapsed_ns = 1500000,
		                  .message = "words",
		                  .sql = "SELECT",
		                  .connections = 5,
		                  .leased = 1 };
	char text[512], small[8];
	size_t length = pp_error_text(&error, text, sizeof text);

	CHECK_STR(text,
	          "prepare: SQLite refused: words (SQLite code 1, PP_FATAL) (errno 5) in "
	          "\"SELECT\" at byte 3, attempt 2, after 1.5 ms [1 of 5 connections lent, the "
	          "longest for 0 ms; 0 waiting; 0 bytes]");
	CHECK_INT(length, ==, strlen(text));
	CHECK_INT(pp_error_text(&error, small, sizeof small), ==, length);
	CHECK_STR(small, "prepare");
	CHECK_INT(pp_error_text(&error, NULL, 0), ==, length);
	CHECK_INT(pp_error_text(&(struct pp_error){ .sql_offset = -1 }, text, sizeof text), >, 0);
}
