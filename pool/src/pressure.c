/*
 * pressure.c - when memory is short: noticing it, giving back, fitting into limits.
 *
 * To know before reading: what the control group (version 2) and its parents hold of their limits
 * counts without the file cache, which the kernel takes back by itself: beside a busy database
 * file it always fills the limit. How long tasks stood still for want of memory (PSI) counts too,
 * the machine's where the group's is not there. What cannot be read or makes no sense is not known,
 * and then there is no pressure. Nothing here allocates but SQLite, for what is to be opened.
 */
/* SPDX-License-Identifier: MIT */
#include "internal.h"

#include <ctype.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
	LOOK_MS = 1000,
	/* Percent of a limit, and of the last ten seconds that some task stood still. Once it is
	 * short, it is so until both are well below: else it would come and go. */
	FULL_PERCENT = 90,
	FULL_PERCENT_OVER = 80,
	STALL_PERCENT = 10,
	STALL_PERCENT_OVER = 5,
	FILE_MAX = 4096,          /* Of what is read; memory.stat is half of it. */
	CACHE_KIB_MIN = 16,       /* A page cache smaller than that makes SQLite slow. */
	GROUP = sizeof "0::" - 1, /* Where a line of version 2 in /proc/self/cgroup goes on. */
};

/* Written by tests only, before a pool is open. */
static const char *root = "";

void pressure_root_set(const char *folder)
{
	root = folder;
}

/* --- Reading ------------------------------------------------------------------------------ */

/* false: it is not there, or there is nothing in it. */
static bool file_read(const char *folder, const char *group, const char *name, char text[FILE_MAX])
{
	char path[FILE_MAX];
	ssize_t length = -1;
	int file = -1;

	if (snprintf(path, sizeof path, "%s%s%s/%s", root, folder, group, name) < FILE_MAX)
		file = open(path, O_RDONLY | O_CLOEXEC);
	if (file < 0)
		return false;
	length = read(file, text, FILE_MAX - 1);
	close(file);
	text[length > 0 ? length : 0] = '\0';
	return length > 0;
}

/* The number behind a label that stands at the beginning of a line. "max" is none. */
static bool number_after(const char *text, const char *label, uint64_t *ret)
{
	size_t length = strlen(label);

	while (text != NULL && strncmp(text, label, length) != 0) {
		text = strchr(text, '\n');
		text = text != NULL ? text + 1 : NULL;
	}
	if (text == NULL || !isdigit((unsigned char)text[length]))
		return false;
	*ret = strtoull(text + length, NULL, 10);
	return true;
}

static bool number_read(const char *group, const char *name, uint64_t *ret)
{
	char text[FILE_MAX];

	return file_read("/sys/fs/cgroup", group, name, text) && number_after(text, "", ret);
}

/* What the group holds of one of its limits, in percent; 0: not known. */
static unsigned percent_of(const char *group, const char *limit_name, uint64_t bytes)
{
	uint64_t limit;

	if (!number_read(group, limit_name, &limit))
		return 0;
	return bytes >= limit ? 100 : (unsigned)((double)bytes / (double)limit * 100);
}

static unsigned group_percent(const char *group)
{
	char text[FILE_MAX];
	uint64_t bytes, inactive = 0, active = 0;
	unsigned high, max;

	if (!number_read(group, "memory.current", &bytes))
		return 0;
	if (file_read("/sys/fs/cgroup", group, "memory.stat", text)) {
		number_after(text, "inactive_file ", &inactive);
		number_after(text, "active_file ", &active);
	}
	/* They are not read at one instant. */
	bytes -= inactive < bytes ? inactive : bytes;
	bytes -= active < bytes ? active : bytes;
	high = percent_of(group, "memory.high", bytes);
	max = percent_of(group, "memory.max", bytes);
	return high > max ? high : max;
}

/* The fullest of the group and those around it: any of them may be what is limited. */
static unsigned full_percent(char *group)
{
	unsigned fullest = group_percent(group);

	for (char *end = strrchr(group, '/'); end != NULL; end = strrchr(group, '/')) {
		unsigned percent;

		*end = '\0';
		percent = group_percent(group);
		fullest = percent > fullest ? percent : fullest;
	}
	return fullest;
}

/* 0: not known. */
static unsigned stall_percent(const char *group)
{
	char text[FILE_MAX];
	uint64_t percent = 0;

	if (!file_read("/sys/fs/cgroup", group, "memory.pressure", text) &&
	    !file_read("/proc/pressure", "", "memory", text))
		return 0;
	number_after(text, "some avg10=", &percent);
	return percent <= 100 ? (unsigned)percent : 0;
}

/* This process's, under the place where version 2 is mounted; "": the topmost, or not known. */
static void group_read(char group[FILE_MAX])
{
	char text[FILE_MAX];
	const char *line = text;

	group[0] = '\0';
	if (!file_read("/proc/self", "", "cgroup", text))
		return;
	while (line != NULL && strncmp(line, "0::", GROUP) != 0) {
		line = strchr(line, '\n');
		line = line != NULL ? line + 1 : NULL;
	}
	if (line == NULL)
		return;
	snprintf(group, FILE_MAX, "%s", line + GROUP);
	group[strcspn(group, "\n")] = '\0';
}

/* --- The duty ----------------------------------------------------------------------------- */

static void look(struct pp_pool *pool)
{
	bool was = atomic_load_explicit(&pool->pressure, memory_order_relaxed), is;
	char group[FILE_MAX];
	unsigned full, stall;

	group_read(group);
	stall = stall_percent(group);
	full = full_percent(group);
	is = full >= (was ? FULL_PERCENT_OVER : FULL_PERCENT) ||
	     stall >= (was ? STALL_PERCENT_OVER : STALL_PERCENT);
	if (is == was)
		return;
	atomic_store_explicit(&pool->pressure, is, memory_order_relaxed);
	event_send(pool, PP_EVENT_MEMORY, NULL,
	           "%s: the control group holds %u %% of its limit, tasks stood still for %u %% of "
	           "the last ten seconds",
	           is ? "short" : "no longer short", full, stall);
}

/* What idle connections keep only to be faster. */
static void idle_shrink(struct pp_pool *pool)
{
	for (unsigned l = 0; l < LANES; l++)
		for (unsigned i = lane_used(&pool->lanes[l]); i-- > 0;) {
			struct slot *slot = &pool->lanes[l].slots[i];

			if (!slot_keep(slot, SLOT_IDLE))
				continue;
			sqlite3_db_release_memory(slot->connection.db);
			account_settle(atomic_load(&slot->connection.account));
			line_give_back(pool, slot, SLOT_IDLE);
		}
}

uint64_t pressure_keep(struct pp_pool *pool, uint64_t now_ms)
{
	look(pool);
	if (memory_is_short(pool))
		idle_shrink(pool);
	return now_ms + LOOK_MS;
}

/* --- Limits ------------------------------------------------------------------------------- */

enum pp_status memory_explain(enum pp_status status, const struct account *account,
                              struct pp_error *error)
{
	struct refusal refusal = account_refused(account);

	if (status == PP_OK || error == NULL || refusal.whose == NULL ||
	    (status != PP_NOMEM && error->sqlite_code != SQLITE_IOERR_NOMEM))
		return status;
	error->status = PP_NOMEM;
	error->error_class = PP_FATAL;
	snprintf(error->message, sizeof error->message,
	         "the %s is over its limit of %llu bytes: %llu more were wanted", refusal.whose,
	         (unsigned long long)refusal.bytes_max, (unsigned long long)refusal.wanted);
	return PP_NOMEM;
}

/* Half of what the connection may have, which leaves the other for statements and rows. 0: there is
 * no limit. */
static uint64_t cache_budget(const struct pp_pool *pool)
{
	unsigned readers = atomic_load_explicit(&pool->readers, memory_order_relaxed);
	uint64_t connection = pool->config.connection_bytes_max;
	uint64_t part = pool->config.pool_bytes_max / (readers + 1);

	if (connection == 0 || (part != 0 && part < connection))
		connection = part;
	return connection / 2;
}

static const char cache_sql[] = "PRAGMA cache_size";

/* Read one by one: as columns of a SELECT they would be virtual tables, which take ten times as
 * long to make as both take to be read. */
static int cache_read(sqlite3 *db, uint64_t *ret_bytes)
{
	int64_t size = 0, unit = -1024; /* A size below 0 is in KiB, one above in pages. */
	int rc = handle_number(db, cache_sql, &size);

	if (rc == SQLITE_OK && size > 0)
		rc = handle_number(db, "PRAGMA page_size", &unit);
	*ret_bytes = (uint64_t)(size * unit);
	return rc;
}

/* SQLite gives a page that it does not need to another only when the cache is full by cache_size
 * (2 MB, or what on_open has set); an allocation that is refused before is an error to it. */
enum pp_status cache_fit(struct connection *c, struct pp_error *error)
{
	uint64_t budget = cache_budget(c->pool), bytes = 0;
	char sql[64];
	int rc;

	if (budget == 0)
		return PP_OK;
	rc = cache_read(c->db, &bytes);
	if (rc == SQLITE_OK && bytes > budget) {
		budget = budget / 1024 > CACHE_KIB_MIN ? budget / 1024 : CACHE_KIB_MIN;
		snprintf(sql, sizeof sql, "%s=-%llu", cache_sql, (unsigned long long)budget);
		rc = sqlite3_exec(c->db, sql, NULL, NULL, NULL);
	}
	return rc == SQLITE_OK ? PP_OK : error_sqlite(error, c->db, rc, "open", cache_sql);
}
