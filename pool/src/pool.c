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
#include "point.h"
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
static struct slot slot_table[PP_POOLS_MAX][SLOTS];
static pthread_mutex_t registry_mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t registry_changed = PTHREAD_COND_INITIALIZER;

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
 * on it. Another thread may be making it at the same time; and when the opening fails it stays,
 * empty, as SQLite leaves it: another process may be about to write to it. */
static int find_or_make(const struct pp_config *config, struct stat *ret_file)
{
	if (stat(config->path, ret_file) == 0)
		return 0;
	if (errno != ENOENT || config->must_exist)
		return errno;
	if (mknod(config->path, S_IFREG | 0644, 0) != 0 && errno != EEXIST)
		return errno;
	return stat(config->path, ret_file) == 0 ? 0 : errno;
}

static enum pp_status identify(const struct pp_config *config, struct identity *ret,
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
	number = find_or_make(config, &file);
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

static bool identity_equal(const struct identity *a, const struct identity *b)
{
	if (a->memdb || b->memdb)
		return a->memdb == b->memdb && strcmp(a->name, b->name) == 0;
	return a->device == b->device && a->inode == b->inode;
}

/* --- The registry ------------------------------------------------------------------------ */

static void row_make(struct pp_pool *row)
{
	for (unsigned l = 0; l < LANES; l++) {
		pthread_mutex_init(&row->lines[l].mutex, NULL);
		clock_cond_init(&row->lines[l].drained);
	}
	pthread_mutex_init(&row->keep_mutex, NULL);
	pthread_mutex_init(&row->group.mutex, NULL);
	clock_cond_init(&row->group.changed);
	pthread_mutex_init(&row->keeper.mutex, NULL);
	clock_cond_init(&row->keeper.wake);
}

static void rows_make(void)
{
	for (unsigned p = 0; p < PP_POOLS_MAX; p++)
		row_make(&pools[p]);
}

/* What was open is the parent's; what was being opened or closed never will be. */
void pool_after_fork(void)
{
	pthread_mutex_init(&registry_mutex, NULL);
	pthread_cond_init(&registry_changed, NULL);
	for (unsigned p = 0; p < PP_POOLS_MAX; p++) {
		if (pools[p].state == POOL_UNUSED)
			row_make(&pools[p]);
		else
			pools[p].state = POOL_FORKED;
	}
}

void pools_visit(void (*visit)(struct pp_pool *pool, void *context), void *context)
{
	/* Lines and keepers of rows without a pool are idle, and may be asked all the same. */
	for (unsigned p = 0; p < PP_POOLS_MAX; p++)
		if (pools[p].process != 0 && !pool_forked(&pools[p]))
			visit(&pools[p], context);
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

bool registry_rename(struct pp_pool *pool, dev_t device, ino_t inode)
{
	struct pp_pool *row;
	bool taken;

	pthread_mutex_lock(&registry_mutex);
	row = row_find(&(struct identity){ .device = device, .inode = inode });
	taken = row != NULL && row != pool && row->state != POOL_UNUSED;
	if (!taken) {
		pool->identity.device = device;
		pool->identity.inode = inode;
	}
	pthread_mutex_unlock(&registry_mutex);
	return !taken;
}

static enum pp_status row_share(struct pp_pool *row, const struct pp_config *config,
                                struct pp_error *error)
{
	char names[160];

	if (row->state == POOL_FORKED)
		return error_set(error, PP_FORKED, "open",
		                 "%.160s was open at fork(): exec a program to open it, or open it "
		                 "after the fork only",
		                 config->path);
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

bool file_is_pooled(const struct stat *file)
{
	struct identity identity = { .device = file->st_dev, .inode = file->st_ino };
	struct pp_pool *row;
	bool pooled;

	pthread_mutex_lock(&registry_mutex);
	row = row_find(&identity);
	pooled = row != NULL && row->state != POOL_UNUSED;
	pthread_mutex_unlock(&registry_mutex);
	return pooled;
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
static void path_resolve(struct pp_pool *pool)
{
	if (pool->identity.memdb || realpath(pool->config.path, pool->path) == NULL)
		snprintf(pool->path, sizeof pool->path, "%s", pool->config.path);
	pool->config.path = pool->path;
}

/* The generation goes on from the row's last pool: a lease of that one never fits again. */
static void slot_init(struct slot *slot)
{
	struct statements *s = &slot->connection.statements;

	atomic_store(&slot->open, 0);
	atomic_store(&slot->since_ms, 0);
	atomic_store(&slot->acquires, 0);
	atomic_store(&slot->warned, 0);
	atomic_store(&slot->holder, 0);
	atomic_store(&s->hits, 0);
	atomic_store(&s->misses, 0);
	atomic_store(&s->evictions, 0);
	atomic_store(&slot->state, SLOT_SPARE);
}

/* Slots that no pool of this row has used are as they should be: untouched. */
static void lane_init(struct lane *lane, struct slot *slots, unsigned slot_count, struct line *line)
{
	for (unsigned i = lane_used(lane); i-- > 0;)
		slot_init(&slots[i]);
	lane->slots = slots;
	lane->count = slot_count;
	lane->line = line;
	atomic_store_explicit(&lane->used, 0, memory_order_relaxed);
}

/* A pool that has lost its file is still there, with the WAL beside it: another one on what is at
 * the path now would take that for its own. */
static bool path_is_taken(const struct pp_pool *pool)
{
	bool taken = false;

	pthread_mutex_lock(&registry_mutex);
	for (unsigned p = 0; p < PP_POOLS_MAX; p++)
		taken |= &pools[p] != pool && pools[p].state == POOL_OPEN &&
		         !pools[p].identity.memdb && strcmp(pools[p].path, pool->path) == 0;
	pthread_mutex_unlock(&registry_mutex);
	return taken;
}

static enum pp_status path_make(struct pp_pool *pool, struct pp_error *error)
{
	path_resolve(pool);
	if (!pool->identity.memdb && path_is_taken(pool))
		return error_set(error, PP_FILE_CHANGED, "open",
		                 "%.160s: a pool is open on the file that was here before; "
		                 "pp_reopen() it, or close it first",
		                 pool->path);
	return PP_OK;
}

/* The writer first: what recovers the file, and sets its journal mode, has to be alone. */
static enum pp_status connections_open(struct pp_pool *pool, struct pp_error *error)
{
	enum pp_status status = PP_OK;

	if (pool->identity.memdb)
		status = anchor_open(pool, error);
	if (status == PP_OK)
		status = size_add(pool, PP_WRITE, error);
	if (status == PP_OK)
		status = anchor_open(pool, error);
	for (unsigned i = 0; status == PP_OK && i < pool->config.readers_min; i++)
		status = size_add(pool, PP_READ, error);
	return status;
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
		for (unsigned i = 0; i < lane_used(&pool->lanes[l]); i++)
			if (pool->lanes[l].slots[i].connection.db != NULL)
				connection_empty(&pool->lanes[l].slots[i].connection, ret_closing);
	if (pool->anchor.db != NULL)
		connection_empty(&pool->anchor, ret_closing);
	glance_close(pool);
	turn_close(pool);
	registered_free(pool);
	ret_closing->residue_bytes += account_close(pool->account);
	pool->account = NULL;
}

/* Atomic counters, one by one: a thread on its way out of the row's last pool may still add to one.
 */
static void zero(void *counters, size_t size)
{
	atomic_uint_least64_t *counter = counters;

	for (size_t i = 0; i < size / sizeof *counter; i++)
		atomic_store_explicit(&counter[i], 0, memory_order_relaxed);
}

static void row_init(struct pp_pool *pool, const struct pp_config *config)
{
	struct slot *slots = slot_table[pool - pools];

	atomic_store_explicit(&pool->process, *process_number, memory_order_relaxed);
	pool->config = *config;
	pool->gated = pool->filled = false;
	zero(&pool->counters, sizeof pool->counters);
	zero(&pool->histograms, sizeof pool->histograms);
	for (unsigned l = 0; l < LANES; l++)
		line_init(&pool->lines[l]);
	group_init(&pool->group);
	lane_init(&pool->lanes[1], slots, WRITER_SLOTS, &pool->lines[1]);
	lane_init(&pool->lanes[0], slots + WRITER_SLOTS, READER_SLOTS, &pool->lines[0]);
	atomic_store(&pool->readers, config->readers);
	atomic_store(&pool->readers_min, config->readers_min);
	atomic_store(&pool->suspended, SUSPENDED_NOT);
	atomic_store(&pool->exclusive, NULL);
	atomic_store(&pool->tripped, false);
	atomic_store(&pool->pressure, false);
	atomic_store(&pool->lost_ns, 0);
	atomic_store(&pool->keeper.stopping, false);
	atomic_store(&pool->turn.neighbours, false);
	pool->turn.file = -1;
	pool->surplus = false;
	pool->wal = (struct wal){ 0 };
	health_init(pool);
}

static enum pp_status row_fill(struct pp_pool *pool, const struct pp_config *config,
                               struct pp_error *error)
{
	enum pp_status status;

	row_init(pool, config);
	pool->account = account_open(NULL);
	if (pool->account == NULL && memory_accounting() != PP_ACCOUNTING_OFF)
		return error_set(error, PP_NOMEM, "open", "no account is free for a pool");
	account_limit_set(pool->account, config->pool_bytes_max);
	status = path_make(pool, error);
	if (status == PP_OK)
		status = connections_open(pool, error);
	if (status != PP_OK)
		return status;
	if (pool->gated)
		pool_lane(pool, PP_WRITE)->line = pool_lane(pool, PP_READ)->line;
	pool->filled = true;
	health_note(pool);
	turn_open(pool);
	return keeper_start(pool, error);
}

enum pp_status pp_open(const struct pp_config *given, struct pp_pool **ret_pool,
                       struct pp_error *reterr_error)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	struct pp_config config;
	struct identity identity = { 0 };
	struct pp_pool *row = NULL;
	bool new = false;
	enum pp_status status;
	int rc;

	assert(given != NULL && ret_pool != NULL);
	pthread_once(&once, rows_make);
	process_begin();
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
	status = identify(&config, &identity, reterr_error);
	if (status == PP_OK)
		status = row_claim(&identity, &config, &row, &new, reterr_error);
	if (status == PP_OK && new) {
		status = row_fill(row, &config, reterr_error);
		if (status != PP_OK) {
			struct pp_closing closing;

			keeper_stop(row);
			row_empty(row, &closing);
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

/* When what runs is interrupted: with a quarter of the time left to come to an end. */
static uint64_t patience_ns(uint64_t until)
{
	uint64_t now = clock_ns();

	return until == UINT64_MAX || until <= now ? until : until - (until - now) / 4;
}

static unsigned drain(struct pp_pool *pool, uint64_t until)
{
	unsigned leased = line_close(pool, patience_ns(until));

	if (leased == 0)
		return 0;
	watchdog_interrupt_all(pool, "the pool closes");
	return line_close(pool, until);
}

enum pp_status pp_close(struct pp_pool *pool, struct pp_deadline deadline,
                        struct pp_closing *ret_closing)
{
	struct pp_closing closing = { 0 };
	enum pp_status status;
	uint64_t until;

	if (pool == NULL)
		return PP_OK;
	if (pool_forked(pool))
		return PP_FORKED;
	if (transaction_is_inside(pool))
		return PP_MISUSE;
	until = deadline_ns(pool, deadline);
	if (row_drop(pool, &status)) {
		keeper_stop(pool);
		suspension_end(pool);
		group_shut(pool);
		POINT(SHUT);
		closing.leased = drain(pool, until);
		if (closing.leased > 0) {
			status = PP_LEASED;
			row_settle(pool, POOL_CLOSING);
		} else {
			group_drain(pool);
			health_part(pool);
			row_empty(pool, &closing);
			row_settle(pool, POOL_UNUSED);
		}
	}
	if (ret_closing != NULL && (status == PP_OK || status == PP_LEASED))
		*ret_closing = closing;
	return status;
}
