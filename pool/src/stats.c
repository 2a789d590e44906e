/*
 * stats.c - looking inside: the snapshot, and the invariants recomputed.
 *
 * To know before reading: everything read here without holding the slot is an atomic. What is
 * not, pp_check() looks at by borrowing the slot, and leaves lent slots alone.
 */
/* SPDX-License-Identifier: MIT */
#include "internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static uint64_t get(const atomic_uint_least64_t *counter)
{
	return atomic_load_explicit(counter, memory_order_relaxed);
}

static void slot_read(const struct slot *slot, struct pp_lane_stats *lane, struct pp_stats *stats)
{
	const struct statements *s = &slot->connection.statements;

	lane->open += atomic_load_explicit(&slot->open, memory_order_relaxed);
	lane->leased += atomic_load(&slot->state) == SLOT_LEASED;
	lane->acquires += get(&slot->acquires);
	stats->connections_bytes += account_bytes(atomic_load(&slot->connection.account));
	stats->statement_hits += get(&s->hits);
	stats->statement_misses += get(&s->misses);
	stats->statement_evictions += get(&s->evictions);
	stats->statements += get(&s->live);
	stats->statement_bytes += get(&s->live_bytes);
}

/* Who waits for a group waits for the writer. */
static void group_read(struct group *group, struct pp_lane_stats *lane)
{
	const struct lane_counts *counts = &group->counts;

	pthread_mutex_lock(&group->mutex);
	lane->waiting += counts->waiting;
	lane->waits += counts->waits;
	lane->timeouts += counts->timeouts;
	lane->overloads += counts->overloads;
	lane->wait_ns_total += counts->wait_ns_total;
	if (counts->wait_ns_max > lane->wait_ns_max)
		lane->wait_ns_max = counts->wait_ns_max;
	pthread_mutex_unlock(&group->mutex);
}

static void lane_read(struct pp_pool *pool, enum pp_lane which, struct pp_lane_stats *ret_lane,
                      struct pp_stats *stats)
{
	struct lane *lane = pool_lane(pool, which);
	const struct lane_counts *counts = &lane->line->lanes[which - PP_READ];

	ret_lane->connections = lane_size(lane);
	for (unsigned i = 0; i < lane_used(lane); i++)
		slot_read(&lane->slots[i], ret_lane, stats);
	pthread_mutex_lock(&lane->line->mutex);
	ret_lane->waiting = counts->waiting;
	ret_lane->waits = counts->waits;
	ret_lane->handovers = counts->handovers;
	ret_lane->timeouts = counts->timeouts;
	ret_lane->overloads = counts->overloads;
	stats->sheds += counts->sheds;
	ret_lane->wait_ns_total = counts->wait_ns_total;
	ret_lane->wait_ns_max = counts->wait_ns_max;
	pthread_mutex_unlock(&lane->line->mutex);
}

enum pp_status pp_stats_read(struct pp_pool *pool, struct pp_stats *ret_stats)
{
	const struct counters *c = &pool->counters;

	if (pool_forked(pool))
		return PP_FORKED;
	*ret_stats = (struct pp_stats){
		.gated = pool->gated,
		.opened = get(&c->opened),
		.closed = get(&c->closed),
		.dirty = get(&c->dirty),
		.dirty_transaction = get(&c->dirty_transaction),
		.dirty_statements = get(&c->dirty_statements),
		.dirty_settings = get(&c->dirty_settings),
		.retired = get(&c->retired),
		.commits = get(&c->commits),
		.rollbacks = get(&c->rollbacks),
		.lost = get(&c->lost),
		.retries = get(&c->retries),
		.writes = get(&c->writes),
		.groups = get(&c->groups),
		.reruns = get(&c->reruns),
		.accounting = memory_accounting(),
		.pool_bytes = account_bytes(pool->account) +
		              account_bytes(atomic_load(&pool->anchor.account)),
		.foreign_bytes = accounts_foreign_bytes(),
		.grown = get(&c->grown),
		.shrunk = get(&c->shrunk),
		.renewed = get(&c->renewed),
		.health_checks = get(&c->health_checks),
		.health_failures = get(&c->health_failures),
		.file_changes = get(&c->file_changes),
		.reopened = get(&c->reopened),
		.tripped = atomic_load(&pool->tripped),
		.suspended = atomic_load(&pool->suspended) == SUSPENDED,
		.overdue = get(&c->overdue),
		.interrupted = get(&c->interrupted),
		.quarantined = get(&c->quarantined),
		.returned_late = get(&c->returned_late),
		.deadlocks = get(&c->deadlocks),
		.cancels = get(&c->cancels),
		.refusals = account_refusals(pool->account),
		.wal_bytes = wal_bytes(pool),
		.checkpoints = get(&c->checkpoints),
		.checkpoints_blocked = get(&c->checkpoints_blocked),
		.memory_pressure = atomic_load(&pool->pressure),
		.neighbours = atomic_load(&pool->turn.neighbours),
		.missing_features = features_missing(),
	};
	for (unsigned i = 0; i < GROUP_SIZES; i++)
		ret_stats->group_sizes[i] = get(&c->group_sizes[i]);
	lane_read(pool, PP_READ, &ret_stats->read, ret_stats);
	lane_read(pool, PP_WRITE, &ret_stats->write, ret_stats);
	group_read(&pool->group, &ret_stats->write);
	accounts_parked(&ret_stats->parked, &ret_stats->parked_bytes);
	return PP_OK;
}

/* --- One connection ----------------------------------------------------------------------- */

static enum pp_connection_state state_of(const struct slot *slot)
{
	switch (atomic_load(&slot->state)) {
	case SLOT_IDLE:
		return PP_CONNECTION_IDLE;
	case SLOT_LEASED:
		return (atomic_load(&slot->fate) & ~(unsigned)FATE_OBEYED) == FATE_QUARANTINED
		               ? PP_CONNECTION_QUARANTINED
		               : PP_CONNECTION_LENT;
	case SLOT_KEPT:
	case SLOT_HELD:
	case SLOT_NEXT:
		return PP_CONNECTION_KEPT;
	default:
		return PP_CONNECTION_CLOSED;
	}
}

void slot_describe(struct slot *slot, struct pp_connection *ret)
{
	uint64_t now = clock_coarse_ms();

	*ret = (struct pp_connection){
		.lane = slot->connection.lane,
		.state = state_of(slot),
		.id = slot->id,
		.uses = get(&slot->acquires),
		.bytes = account_bytes(atomic_load(&slot->connection.account)),
		.thread = atomic_load_explicit(&slot->holder, memory_order_relaxed),
	};
	ret->since_ms = get(&slot->since_ms);
	ret->since_ms = ret->since_ms != 0 ? now - ret->since_ms : 0;
	if (atomic_load_explicit(&slot->open, memory_order_relaxed))
		ret->age_ms = now - get(&slot->connection.opened_ms);
	connection_sql(&slot->connection, ret->sql, sizeof ret->sql);
}

enum pp_status pp_connections_read(struct pp_pool *pool, struct pp_connection *connections,
                                   unsigned max, unsigned *ret_count)
{
	unsigned found = 0;

	if (pool_forked(pool))
		return PP_FORKED;
	for (unsigned l = LANES; l-- > 0;) /* The writer first. */
		for (unsigned i = 0; i < lane_used(&pool->lanes[l]); i++) {
			struct slot *slot = &pool->lanes[l].slots[i];

			if (atomic_load(&slot->state) == SLOT_SPARE)
				continue;
			if (found < max)
				slot_describe(slot, &connections[found]);
			found++;
		}
	*ret_count = found;
	return PP_OK;
}

/* --- What this SQLite has not ------------------------------------------------------------- */

int (*compileoption_used)(const char *option) = sqlite3_compileoption_used;

const char *features_missing(void)
{
	/* Text by the mask of what is missing would be 2^n texts: the list is built once a call
	 * into a buffer of the thread's. */
	static const struct {
		const char *option, *words;
	} options[] = {
		{ "OMIT_AUTHORIZATION", "authorizer: temporary tables, ATTACH and pragmas of a "
		                        "borrower are not seen" },
		{ "OMIT_PROGRESS_CALLBACK", "progress handler: running statements cannot be "
		                            "cancelled or interrupted" },
		{ "OMIT_WAL", "write-ahead log: readers and the writer take turns" },
		{ "OMIT_DESERIALIZE", "memdb" },
		{ "OMIT_TRACE", "trace" },
		{ "ENABLE_MEMORY_MANAGEMENT",
		  "separate page caches: a global lock is taken at every page" },
	};
	static _Thread_local char text[512];
	size_t length = 0;

	text[0] = '\0';
	for (unsigned i = 0; i < sizeof options / sizeof *options; i++)
		if (compileoption_used(options[i].option))
			length += (size_t)snprintf(text + length, sizeof text - length, "%s%s",
			                           length > 0 ? "; " : "", options[i].words);
	if (!handle_is_known())
		snprintf(text + length, sizeof text - length,
		         "%sa handle whose memory can be read: every release sets hooks and limits "
		         "anew",
		         length > 0 ? "; " : "");
	return text;
}

/* --- Invariants -------------------------------------------------------------------------- */

struct findings {
	char *text;
	size_t size, length;
	unsigned count;
};

static void find(struct findings *f, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void find(struct findings *f, const char *format, ...)
{
	va_list args;

	f->count++;
	va_start(args, format);
	if (f->length + 1 < f->size) {
		f->length +=
			(size_t)vsnprintf(f->text + f->length, f->size - f->length, format, args);
		if (f->length + 1 < f->size)
			f->length +=
				(size_t)snprintf(f->text + f->length, f->size - f->length, "\n");
	}
	va_end(args);
}

static void statements_check(const struct statements *s, const char *name, struct findings *f)
{
	unsigned created = 0, used = 0, bucketed = 0;
	size_t bytes = 0;

	for (const struct statement *e = s->newest; e != NULL; e = e->older) {
		created++;
		bytes += e->bytes;
		bucketed += !e->spare;
		if (e->taken)
			find(f, "%s: statement \"%.40s\" is marked as taken", name, e->sql);
		if (sqlite3_stmt_busy(e->stmt))
			find(f, "%s: statement \"%.40s\" is still running", name, e->sql);
	}
	for (const struct statement *e = s->most_recent; e != NULL; e = e->less_recent)
		used++;
	for (unsigned b = 0; b < s->bucket_count && s->buckets != NULL; b++)
		for (const struct statement *e = s->buckets[b]; e != NULL; e = e->bucket_next)
			bucketed--;
	for (unsigned id = 0; id < s->by_id_count; id++)
		if (s->by_id[id] != NULL && s->by_id[id]->id != id)
			find(f, "%s: statement %u is another one, \"%.40s\"", name, id,
			     s->by_id[id]->sql);
	if (created != s->count || used != s->count || bucketed != 0)
		find(f, "%s: %u statements counted, %u by creation, %u by use, %d by text", name,
		     s->count, created, used, (int)(s->count - bucketed));
	if (bytes != s->bytes || s->bytes > s->bytes_max || s->count > s->count_max)
		find(f,
		     "%s: %u statements of at most %u, %zu bytes counted, %zu added up, at most "
		     "%zu",
		     name, s->count, s->count_max, s->bytes, bytes, s->bytes_max);
}

/* The caller holds the slot. */
static void connection_check(struct connection *c, const char *name, struct findings *f)
{
	if (!sqlite3_get_autocommit(c->db) || sqlite3_txn_state(c->db, NULL) != SQLITE_TXN_NONE)
		find(f, "%s: idle with a transaction open", name);
	if (c->depth != 0 || c->at_work > 0)
		find(f, "%s: idle at depth %u%s", name, c->depth,
		     c->at_work > 0 ? ", at work" : "");
	if (connection_has_foreign(c) && !c->tolerates)
		find(f, "%s: idle with a statement that is not the pool's", name);
	statements_check(&c->statements, name, f);
#ifdef PP_JEMALLOC
	struct account *account = atomic_load(&c->account);
	uint64_t counted = account_bytes(account), arena = account_arena_bytes(account);

	if (account != NULL && arena != counted)
		find(f, "%s: %llu bytes booked, jemalloc says %llu", name,
		     (unsigned long long)counted, (unsigned long long)arena);
#endif
}

/* A borrow that no statistic counts, past the line only when nobody stands in it. */
static void slot_check(struct pp_pool *pool, struct slot *slot, const char *name,
                       struct findings *f)
{
	unsigned state = atomic_load(&slot->state);
	uint64_t generation;

	if (!slot_keep(slot, SLOT_IDLE)) {
		if (state > SLOT_CLOSED)
			find(f, "%s: state %u is none", name, state);
		return;
	}
	generation = atomic_load_explicit(&slot->generation, memory_order_relaxed);
	if (generation % 2 != 0)
		find(f, "%s: idle with the generation of a lent one, %llu", name,
		     (unsigned long long)generation);
	if (slot->connection.db == NULL || atomic_load(&slot->open) != 1)
		find(f, "%s: idle without a connection", name);
	else
		connection_check(&slot->connection, name, f);
	line_give_back(pool, slot, SLOT_IDLE);
}

static void line_check(struct pp_pool *pool, struct line *line, struct findings *f)
{
	unsigned counted = 0, said, waiting, by_lane, others;
	const struct waiter *last = NULL;

	pthread_mutex_lock(&line->mutex);
	for (const struct waiter *w = line->head; w != NULL; w = w->next) {
		counted++;
		last = w;
	}
	said = line->count;
	others = line->closing + line->whole[0].held + line->whole[1].held + line->aside;
	waiting = atomic_load(&line->waiting);
	by_lane = line->lanes[0].waiting + line->lanes[1].waiting;
	if (last != line->tail)
		find(f, "line %td: the tail is not its last", line - pool->lines);
	pthread_mutex_unlock(&line->mutex);
	if (said != counted || by_lane != counted || waiting != counted + others)
		find(f, "line %td: %u stand in it, %u counted, %u by lane, %u published",
		     line - pool->lines, counted, said, by_lane, waiting);
}

unsigned pp_check(struct pp_pool *pool, char *text, size_t text_size)
{
	struct findings f = { text, text_size, 0, 0 };

	if (text_size > 0)
		text[0] = '\0';
	if (pool_forked(pool))
		return 0;
	/* Slots are kept for a moment, which only who has keep_mutex may; while a lane is held
	 * whole it has no idle slot. */
	pthread_mutex_lock(&pool->keep_mutex);
	for (unsigned l = 0; l < LANES; l++) {
		line_check(pool, &pool->lines[l], &f);
		for (unsigned i = 0; i < lane_used(&pool->lanes[l]); i++) {
			char name[32];

			snprintf(name, sizeof name, "%s %u", l == 0 ? "reader" : "writer", i);
			slot_check(pool, &pool->lanes[l].slots[i], name, &f);
		}
	}
	if (group_check(pool) != NULL)
		find(&f, "pp_write(): %s", group_check(pool));
	pthread_mutex_unlock(&pool->keep_mutex);
	return f.count;
}
