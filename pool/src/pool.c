/*
 * pool.c - opening and closing; the registry of pools by file.
 *
 * To know before reading: pools are rows of a static table, which is the registry. A row is claimed
 * (POOL_OPENING) under the lock and filled in without it, so that a slow disk under one file does
 * not keep others from opening theirs; who wants the same file waits for the row to settle. Rows
 * are never freed: a thread on its way out of a release may still look at the row's lines.
 */
/* SPDX-License-Identifier: MIT */
#include "internal.h"
#include "vfs.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static struct pp_pool pools[PP_POOLS_MAX];
/* A row of slots for each. Like the rows never freed: a thread in pp_acquire() may look at a slot
 * while another closes the pool. Untouched, they cost no memory. */
static struct slot slot_table[PP_POOLS_MAX][PP_READERS_MAX + 1];
static pthread_mutex_t registry_mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t registry_changed = PTHREAD_COND_INITIALIZER;

/* --- Options ----------------------------------------------------------------------------- */

/* One list: name, lowest, highest, default. */
#define OPTION_LIST(X)                        \
	X(readers, 1, PP_READERS_MAX, 4)      \
	X(timeout_ms, 1, 86400000, 5000)      \
	X(busy_timeout_ms, 1, 86400000, 5000) \
	X(line_max, 1, 65536, 1024)           \
	X(overtake_ms, 1, 60000, 10)          \
	X(statements_max, 1, 10000, 100)      \
	X(statements_bytes_max, 4096, 1073741824, 1048576)

static enum pp_status options_read(const struct pp_config *given, struct pp_config *ret_config,
                                   struct pp_error *error)
{
	*ret_config = *given;
	if (given->path == NULL || given->path[0] == '\0')
		return error_set(error, PP_INVALID, "open",
		                 "path is missing: name a database file");
#define X(name, low, high, standard)                                                             \
	if (given->name == 0)                                                                    \
		ret_config->name = (standard);                                                   \
	else if (given->name < (low) || given->name > (high))                                    \
		return error_set(error, PP_INVALID, "open", "%s is %llu: it must be %llu..%llu", \
		                 #name, (unsigned long long)given->name,                         \
		                 (unsigned long long)(low), (unsigned long long)(high));
	OPTION_LIST(X)
#undef X
	if ((unsigned)given->journal > PP_JOURNAL_KEEP)
		return error_set(error, PP_INVALID, "open", "journal is %d: it must be 0..%d",
		                 (int)given->journal, PP_JOURNAL_KEEP);
	if ((unsigned)given->synchronous > PP_SYNCHRONOUS_NORMAL)
		return error_set(error, PP_INVALID, "open", "synchronous is %d: it must be 0..%d",
		                 (int)given->synchronous, PP_SYNCHRONOUS_NORMAL);
	return PP_OK;
}

static void differing(char *names, size_t size, const char *name, bool differs)
{
	size_t length = strlen(names);

	if (differs)
		snprintf(names + length, size - length, "%s%s", length > 0 ? ", " : "", name);
}

/* Names the options in which two configurations differ; how the file is named is none. */
static bool options_equal(const struct pp_config *a, const struct pp_config *b, char *names,
                          size_t size)
{
	names[0] = '\0';
#define X(name, low, high, standard) differing(names, size, #name, a->name != b->name);
	OPTION_LIST(X)
#undef X
	differing(names, size, "journal", a->journal != b->journal);
	differing(names, size, "synchronous", a->synchronous != b->synchronous);
	differing(names, size, "on_open", a->on_open != b->on_open);
	differing(names, size, "on_open_context", a->on_open_context != b->on_open_context);
	return names[0] == '\0';
}

/* --- Which file -------------------------------------------------------------------------- */

/* "file:/NAME?vfs=memdb" and nothing else of URIs. */
static enum pp_status identify_memdb(const char *path, struct identity *ret, struct pp_error *error)
{
	static const char suffix[] = "?vfs=memdb";
	const char *name = path + strlen("file:");
	size_t length = strlen(name), tail = sizeof suffix - 1;

	if (length < tail + 2 || name[0] != '/' || name[1] == '/' ||
	    strcmp(name + length - tail, suffix) != 0 || length - tail >= sizeof ret->name ||
	    memchr(name, '?', length - tail) != NULL)
		return error_set(
			error, PP_INVALID, "open",
			"path \"%.100s\": of URIs only file:/NAME?vfs=memdb; else give a plain "
			"file name",
			path);
	*ret = (struct identity){ .memdb = true };
	memcpy(ret->name, name, length - tail);
	return PP_OK;
}

/* 0, or errno. A missing file is made, by mknod(): opening and closing it would drop SQLite's locks
 * on it. Another thread may be making it at the same time. */
static int find_or_make(const struct pp_config *config, struct stat *ret_file, bool *ret_made)
{
	if (stat(config->path, ret_file) == 0)
		return 0;
	if (errno != ENOENT || config->must_exist)
		return errno;
	*ret_made = mknod(config->path, S_IFREG | 0644, 0) == 0;
	if (!*ret_made && errno != EEXIST)
		return errno;
	return stat(config->path, ret_file) == 0 ? 0 : errno;
}

static enum pp_status identify(const struct pp_config *config, struct identity *ret, bool *ret_made,
                               struct pp_error *error)
{
	const char *path = config->path;
	struct stat file;
	int number;

	if (strncmp(path, "file:", 5) == 0)
		return identify_memdb(path, ret, error);
	if (path[0] == ':')
		return error_set(
			error, PP_INVALID, "open",
			"path \"%.100s\": each connection would get a database of its own; use "
			"file:/NAME?vfs=memdb",
			path);
	number = find_or_make(config, &file, ret_made);
	if (number != 0) {
		return error_code(
			error_set(error, PP_SQLITE, "open", "%.160s: %s", path, strerror(number)),
			error, SQLITE_CANTOPEN, number);
	}
	if (!S_ISREG(file.st_mode))
		return error_set(error, PP_INVALID, "open", "%.160s: not a regular file", path);
	*ret = (struct identity){ .device = file.st_dev, .inode = file.st_ino };
	return PP_OK;
}

/* Takes back a file that identify() made, unless somebody has put something into it. */
static void unmake(const char *path)
{
	struct stat file;

	if (stat(path, &file) == 0 && file.st_size == 0)
		unlink(path);
}

static bool identity_equal(const struct identity *a, const struct identity *b)
{
	if (a->memdb || b->memdb)
		return a->memdb == b->memdb && strcmp(a->name, b->name) == 0;
	return a->device == b->device && a->inode == b->inode;
}

/* --- The registry ------------------------------------------------------------------------ */

static void lines_make(void)
{
	for (unsigned p = 0; p < PP_POOLS_MAX; p++)
		for (unsigned l = 0; l < LANES; l++) {
			pthread_mutex_init(&pools[p].lines[l].mutex, NULL);
			clock_cond_init(&pools[p].lines[l].drained);
		}
}

/* The row of this file, or an unused one; NULL when the table is full. */
static struct pp_pool *row_find(const struct identity *identity)
{
	struct pp_pool *unused = NULL;

	for (unsigned i = 0; i < PP_POOLS_MAX; i++) {
		if (pools[i].state == POOL_UNUSED)
			unused = unused != NULL ? unused : &pools[i];
		else if (identity_equal(&pools[i].identity, identity))
			return &pools[i];
	}
	return unused;
}

static enum pp_status row_share(struct pp_pool *row, const struct pp_config *config,
                                struct pp_error *error)
{
	char names[160];

	if (row->state == POOL_CLOSING)
		return error_set(error, PP_CLOSED, "open", "the pool on %.160s is still closing",
		                 config->path);
	if (!options_equal(&row->config, config, names, sizeof names))
		return error_set(error, PP_MISMATCH, "open", "%.80s is open with other: %s",
		                 config->path, names);
	row->references++;
	return PP_OK;
}

/* Finds or claims the row; *ret_new: it is the caller's to fill in, and to settle. */
static enum pp_status row_claim(const struct identity *identity, const struct pp_config *config,
                                struct pp_pool **ret_row, bool *ret_new, struct pp_error *error)
{
	struct pp_pool *row = NULL;
	enum pp_status status = PP_OK;

	pthread_mutex_lock(&registry_mutex);
	while ((row = row_find(identity)) != NULL && row->state == POOL_OPENING)
		pthread_cond_wait(&registry_changed, &registry_mutex);
	*ret_new = row != NULL && row->state == POOL_UNUSED;
	if (row == NULL) {
		status = error_set(error, PP_INVALID, "open",
		                   "%d pools are open, the most there can be", PP_POOLS_MAX);
	} else if (*ret_new) {
		row->state = POOL_OPENING;
		row->identity = *identity;
		row->references = 1;
	} else {
		status = row_share(row, config, error);
	}
	pthread_mutex_unlock(&registry_mutex);
	*ret_row = row;
	return status;
}

static void row_settle(struct pp_pool *row, enum pool_state state)
{
	pthread_mutex_lock(&registry_mutex);
	row->state = state;
	row->being_closed = false;
	pthread_cond_broadcast(&registry_changed);
	pthread_mutex_unlock(&registry_mutex);
}

/* --- Filling a row ----------------------------------------------------------------------- */

/* Connections are opened again later, when the working directory may be another. */
static char *path_resolve(const struct pp_pool *pool)
{
	char *resolved = pool->identity.memdb ? NULL : realpath(pool->config.path, NULL);
	char *path = sqlite3_mprintf("%s", resolved != NULL ? resolved : pool->config.path);

	free(resolved);
	return path;
}

/* The generation goes on from the row's last pool: a lease of that one never fits again. */
static void slot_init(struct slot *slot, struct pp_pool *pool, enum pp_lane lane)
{
	struct statements *s = &slot->connection.statements;

	slot->connection.pool = pool;
	slot->connection.lane = lane;
	atomic_store(&slot->open, 0);
	atomic_store(&slot->since_ms, 0);
	atomic_store(&slot->acquires, 0);
	atomic_store(&s->hits, 0);
	atomic_store(&s->misses, 0);
	atomic_store(&s->evictions, 0);
	atomic_store(&slot->state, SLOT_EMPTY);
}

static enum pp_status slots_make(struct pp_pool *pool, struct pp_error *error)
{
	struct slot *slots = slot_table[pool - pools];

	pool->path = path_resolve(pool);
	if (pool->path == NULL)
		return error_set(error, PP_NOMEM, "open", "no memory for the path");
	pool->config.path = pool->path;
	for (unsigned i = 0; i <= pool->config.readers; i++)
		slot_init(&slots[i], pool, i == 0 ? PP_WRITE : PP_READ);
	*pool_lane(pool, PP_WRITE) = (struct lane){ slots, 1, &pool->lines[1] };
	*pool_lane(pool, PP_READ) =
		(struct lane){ slots + 1, pool->config.readers, &pool->lines[0] };
	return PP_OK;
}

static enum pp_status connections_open(struct pp_pool *pool, struct pp_error *error)
{
	/* memdb's store goes with its last connection, and every lent one may be retired. */
	if (pool->identity.memdb) {
		enum pp_status status;

		pool->anchor.pool = pool;
		pool->anchor.lane = PP_WRITE;
		status = connection_open(&pool->anchor, UINT64_MAX, error);
		if (status != PP_OK)
			return status;
	}
	for (unsigned l = LANES; l-- > 0;) /* The writer first. */
		for (unsigned i = 0; i < pool->lanes[l].count; i++) {
			struct slot *slot = &pool->lanes[l].slots[i];
			enum pp_status status =
				connection_open(&slot->connection, UINT64_MAX, error);

			if (status != PP_OK)
				return status;
			atomic_store(&slot->open, 1);
			atomic_store(&slot->state, SLOT_IDLE);
		}
	return PP_OK;
}

static void connection_empty(struct connection *connection, struct pp_closing *closing)
{
	struct account *account = atomic_load(&connection->account);

	if (!connection_close(connection)) {
		closing->parked++;
		closing->residue_bytes += account_bytes(account);
	}
}

/* Everything the row holds, also when it is half filled; readers before the writer, whose close
 * checkpoints. What is left is what somebody else still holds. */
static void row_empty(struct pp_pool *pool, struct pp_closing *ret_closing)
{
	*ret_closing = (struct pp_closing){ 0 };
	for (unsigned l = 0; l < LANES; l++)
		for (unsigned i = 0; i < pool->lanes[l].count; i++)
			connection_empty(&pool->lanes[l].slots[i].connection, ret_closing);
	if (pool->anchor.db != NULL)
		connection_empty(&pool->anchor, ret_closing);
	sqlite3_free(pool->path);
	ret_closing->residue_bytes += account_close(pool->account);
	pool->path = NULL;
	pool->account = NULL;
}

static enum pp_status row_fill(struct pp_pool *pool, const struct pp_config *config,
                               struct pp_error *error)
{
	struct account *before;
	enum pp_status status;

	pool->config = *config;
	pool->gated = pool->filled = false;
	pool->counters = (struct counters){ 0 };
	for (unsigned l = 0; l < LANES; l++) {
		line_init(&pool->lines[l]);
		pool->lanes[l] = (struct lane){ .line = &pool->lines[l] };
	}
	pool->account = account_open(NULL);
	if (pool->account == NULL && memory_accounting() != PP_ACCOUNTING_OFF)
		return error_set(error, PP_NOMEM, "open", "no account is free for a pool");
	before = account_enter(pool->account);
	status = slots_make(pool, error);
	account_enter(before);
	if (status == PP_OK)
		status = connections_open(pool, error);
	if (pool->gated)
		pool_lane(pool, PP_WRITE)->line = pool_lane(pool, PP_READ)->line;
	pool->filled = true;
	return status;
}

enum pp_status pp_open(const struct pp_config *given, struct pp_pool **ret_pool,
                       struct pp_error *reterr_error)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	struct pp_config config;
	struct identity identity = { 0 };
	struct pp_pool *row = NULL;
	bool made = false, new = false;
	enum pp_status status;
	int rc;

	assert(given != NULL && ret_pool != NULL);
	pthread_once(&once, lines_make);
	if (pp_setup(0) != PP_OK)
		return error_set(reterr_error, PP_MISUSE, "open",
		                 "SQLite was built without threads (THREADSAFE=0)");
	status = options_read(given, &config, reterr_error);
	if (status != PP_OK)
		return status;
	rc = vfs_register();
	if (rc == SQLITE_NOTFOUND)
		return error_code(error_set(reterr_error, PP_SQLITE, "open",
		                            "SQLite has no unix VFS or no memdb"),
		                  reterr_error, rc, 0);
	if (rc != SQLITE_OK)
		return error_sqlite(reterr_error, NULL, rc, "initialise SQLite", NULL);
	status = identify(&config, &identity, &made, reterr_error);
	if (status == PP_OK)
		status = row_claim(&identity, &config, &row, &new, reterr_error);
	if (status != PP_OK && made)
		unmake(config.path);
	if (status == PP_OK && new) {
		status = row_fill(row, &config, reterr_error);
		if (status != PP_OK) {
			struct pp_closing closing;

			row_empty(row, &closing);
			if (made)
				unmake(config.path);
		}
		row_settle(row, status == PP_OK ? POOL_OPEN : POOL_UNUSED);
	}
	if (status == PP_OK)
		*ret_pool = row;
	return status;
}

/* --- Closing ----------------------------------------------------------------------------- */

/* true: it was the last, and the row is the caller's to empty. */
static bool row_drop(struct pp_pool *pool, enum pp_status *ret_status)
{
	bool last;

	*ret_status = PP_OK;
	pthread_mutex_lock(&registry_mutex);
	if ((pool->state != POOL_OPEN && pool->state != POOL_CLOSING) || pool->being_closed)
		*ret_status = PP_CLOSED;
	last = *ret_status == PP_OK && pool->references == 1;
	if (last)
		pool->state = POOL_CLOSING;
	else if (*ret_status == PP_OK)
		pool->references--;
	if (last)
		pool->being_closed = true; /* By this thread; another's pp_close() is refused. */
	pthread_mutex_unlock(&registry_mutex);
	return last;
}

enum pp_status pp_close(struct pp_pool *pool, struct pp_deadline deadline,
                        struct pp_closing *ret_closing)
{
	struct pp_closing closing = { 0 };
	enum pp_status status;
	uint64_t until;

	if (pool == NULL)
		return PP_OK;
	if (transaction_is_inside(pool))
		return PP_MISUSE;
	until = deadline_ns(pool, deadline);
	if (row_drop(pool, &status)) {
		closing.leased = line_close(pool, until);
		if (closing.leased > 0) {
			status = PP_LEASED;
			row_settle(pool, POOL_CLOSING);
		} else {
			row_empty(pool, &closing);
			row_settle(pool, POOL_UNUSED);
		}
	}
	if (ret_closing != NULL && (status == PP_OK || status == PP_LEASED))
		*ret_closing = closing;
	return status;
}
