/* Classes: each result code that sqlite3.h has is placed, on purpose. */
/* SPDX-License-Identifier: MIT */
#include "fixture.h"

#include "classes.h"
#include "internal.h"

static const struct {
	const char *name;
	int code;
	enum pp_class class;
	const char *why;
} placed[] = {
#define X(name, class, why) { #name, name, PP_##class, why },
	CODE_LIST(X)
#undef X
};

enum { PLACED = sizeof placed / sizeof *placed };

static int find(const char *name)
{
	for (int i = 0; i < PLACED; i++)
		if (strcmp(placed[i].name, name) == 0)
			return i;
	return -1;
}

/* What sqlite3.h says, line by line. */
struct header {
	bool primaries; /* Between SQLITE_OK and SQLITE_DONE. */
	unsigned found;
	char unplaced[1024];
};

static void header_code(struct header *h, const char *name, int code)
{
	int at = find(name);

	h->found++;
	if (at < 0 || placed[at].code != code)
		snprintf(h->unplaced + strlen(h->unplaced),
		         sizeof h->unplaced - strlen(h->unplaced), " %s=%d", name, code);
}

static void header_line(struct header *h, const char *line)
{
	char name[64], primary[64];
	int number;

	/* A blank in a format is any number of them, or none. */
	if (sscanf(line, "#define %63[A-Z_0-9] (%63[A-Z_] | (%d << 8)", name, primary, &number) ==
	    3) {
		int at = find(primary);

		CHECK_MSG(at >= 0, "%s is of %s, which is not placed", name, primary);
		header_code(h, name, placed[at].code | number << 8);
	} else if (sscanf(line, "#define %63[A-Z_0-9] %d", name, &number) == 2) {
		h->primaries |= strcmp(name, "SQLITE_OK") == 0;
		if (h->primaries)
			header_code(h, name, number);
		h->primaries &= strcmp(name, "SQLITE_DONE") != 0;
	}
}

TEST(class, every_code_of_sqlite3_h_is_placed)
{
	FILE *file = fopen("/usr/include/sqlite3.h", "r");
	struct header h = { 0 };
	char line[512];

	CHECK_MSG(file != NULL, "no /usr/include/sqlite3.h");
	while (fgets(line, sizeof line, file) != NULL)
		header_line(&h, line);
	fclose(file);
	CHECK_MSG(h.unplaced[0] == '\0', "to be placed in pool/src/classes.h:%s", h.unplaced);
	CHECK_INT(h.found, ==, PLACED);
	CHECK_INT(h.found, >=, 106); /* Of 3.40. */
}

/* The check above notices a code that is not placed, and one that has another number. */
static const struct {
	const char *line, *unplaced;
} lines[] = {
	{ "#define SQLITE_IOERR_MADEUP         (SQLITE_IOERR | (99<<8))\n",
	  " SQLITE_IOERR_MADEUP=25354" },
	{ "#define SQLITE_CONSTRAINT_PINNED     (SQLITE_CONSTRAINT |(12<<8))\n",
	  " SQLITE_CONSTRAINT_PINNED=3091" },
	{ "#define SQLITE_CONSTRAINT_PINNED     (SQLITE_CONSTRAINT |(11<<8))\n", "" },
	{ "#define SQLITE_BUSY_TIMEOUT            (SQLITE_BUSY   |  (3<<8))\n", "" },
	{ "#define SQLITE_OK           0   /* Successful result */\n", "" },
	{ "#define SQLITE_OPEN_READONLY         0x00000001  /* Ok for sqlite3_open_v2() */\n", "" },
};

TEST_ROWS(class, check_of_the_header_notices, sizeof lines / sizeof *lines)
{
	struct header h = { 0 };

	header_line(&h, lines[row].line);
	CHECK_STR(h.unplaced, lines[row].unplaced);
}

TEST_ROWS(class, is_what_the_table_says_with_a_reason, PLACED)
{
	CHECK_INT(pp_class_of(placed[row].code), ==, placed[row].class);
	CHECK(strlen(placed[row].why) > 0);
	for (int i = 0; i < row; i++)
		CHECK_MSG(placed[i].code != placed[row].code, "%s is there twice",
		          placed[row].name);
}

/* By what is in doubt after them, and not one by one. */
static enum pp_class class_of_family(int code)
{
	switch (code & 0xff) {
	case SQLITE_IOERR:
		return code == SQLITE_IOERR_NOMEM || code == SQLITE_IOERR_GETTEMPPATH
		               ? PP_FATAL
		               : PP_DISCARD_CONNECTION;
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB:
	case SQLITE_INTERNAL:
	case SQLITE_MISUSE:
		return PP_DISCARD_CONNECTION;
	case SQLITE_BUSY:
	case SQLITE_PROTOCOL:
		return PP_RETRY_TRANSACTION;
	case SQLITE_SCHEMA:
		return PP_RETRY_STATEMENT;
	case SQLITE_READONLY:
		return code == SQLITE_READONLY || code == SQLITE_READONLY_DIRECTORY
		               ? PP_FATAL
		               : PP_DISCARD_CONNECTION;
	default:
		return code == SQLITE_CANTOPEN_DIRTYWAL ? PP_DISCARD_CONNECTION
		       : code == SQLITE_ERROR_RETRY || code == SQLITE_LOCKED_SHAREDCACHE
		               ? PP_RETRY_STATEMENT
		               : PP_FATAL;
	}
}

TEST_ROWS(class, is_its_familys, PLACED)
{
	CHECK_MSG(pp_class_of(placed[row].code) == class_of_family(placed[row].code), "%s is %s",
	          placed[row].name, pp_class_name(pp_class_of(placed[row].code)));
}

static const struct {
	const char *what;
	int code;
	enum pp_class class;
} others[] = {
	{ "a newer I/O error", SQLITE_IOERR | 99 << 8, PP_DISCARD_CONNECTION },
	{ "a newer busy", SQLITE_BUSY | 99 << 8, PP_RETRY_TRANSACTION },
	{ "a newer schema", SQLITE_SCHEMA | 99 << 8, PP_RETRY_STATEMENT },
	{ "a newer constraint", SQLITE_CONSTRAINT | 99 << 8, PP_FATAL },
	{ "a primary code that is none", 77, PP_FATAL },
	{ "an extension of none", 77 | 1 << 8, PP_FATAL },
	{ "no code at all", -1, PP_FATAL },
};

TEST_ROWS(class, of_an_unknown_code_is_its_primarys, sizeof others / sizeof *others)
{
	CHECK_MSG(pp_class_of(others[row].code) == others[row].class, "%s: %s", others[row].what,
	          pp_class_name(pp_class_of(others[row].code)));
}

/* Out of memory in the VFS is out of memory, not a file in doubt. */
TEST(class, out_of_memory_inside_the_vfs_is_out_of_memory)
{
	struct pp_error error = { 0 };

	CHECK_INT(error_sqlite(&error, NULL, SQLITE_IOERR_NOMEM, "read", NULL), ==, PP_NOMEM);
	CHECK_INT(error.error_class, ==, PP_FATAL);
	CHECK_INT(error.sqlite_code, ==, SQLITE_IOERR_NOMEM);
	CHECK_INT(error_sqlite(&error, NULL, SQLITE_IOERR_READ, "read", NULL), ==, PP_SQLITE);
	CHECK_INT(error.error_class, ==, PP_DISCARD_CONNECTION);
}
