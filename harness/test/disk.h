/* disk.h - for tests of power loss: a folder, a database in it, and what is left of it. */
/* SPDX-License-Identifier: MIT */
#ifndef HARNESS_TEST_DISK_H
#define HARNESS_TEST_DISK_H

#include "disk_internal.h"
#include "internal.h"

#include <poolproof/harness/entropy.h>
#include <poolproof/harness/test.h>

#include <sqlite3.h>

struct fixture {
	char folder[64], path[96];
	struct harness_power power;
	sqlite3 *db;
};

static inline struct fixture fixture_open(void)
{
	struct fixture f = { .folder = "/tmp/poolproof-disk-XXXXXX" };

	CHECK(mkdtemp(f.folder) != NULL);
	snprintf(f.path, sizeof f.path, "%s/log.db", f.folder);
	CHECK(harness_power_init(&f.power));
	return f;
}

static inline void fixture_close(struct fixture *f)
{
	char command[128];

	sqlite3_close(f->db);
	harness_power_done(&f->power);
	snprintf(command, sizeof command, "rm -rf %s", f->folder);
	CHECK_INT(system(command), ==, 0);
}

static inline void sql(sqlite3 *db, const char *text)
{
	char *error = NULL;

	CHECK_MSG(sqlite3_exec(db, text, NULL, NULL, &error) == SQLITE_OK, "%s: %s", text, error);
}

static inline void open_as(struct fixture *f, const char *journal, const char *synchronous)
{
	char text[128];

	CHECK_INT(sqlite3_open(f->path, &f->db), ==, SQLITE_OK);
	snprintf(text, sizeof text, "PRAGMA journal_mode=%s; PRAGMA synchronous=%s", journal,
	         synchronous);
	sql(f->db, text);
}

static inline void close_db(struct fixture *f)
{
	CHECK_INT(sqlite3_close(f->db), ==, SQLITE_OK);
	f->db = NULL;
}

static inline const char *text_of(struct fixture *f, const char *name)
{
	static char text[4096];
	const struct image_file *file = image_file(f->power.image, name);

	if (!file->exists)
		return "(none)";
	memcpy(text, file->bytes, file->size);
	text[file->size] = '\0';
	return text;
}

/* The disk at this place; returns the text of file "a". */
static inline const char *left(struct fixture *f, size_t place, unsigned damage)
{
	struct harness_entropy e;

	harness_entropy_init(&e, 1, place, damage);
	harness_cut_move(f->power.cut, place);
	CHECK(harness_cut_has(f->power.cut, damage));
	harness_cut_image(f->power.cut, damage, &e, f->power.image);
	return text_of(f, "a");
}

#endif
