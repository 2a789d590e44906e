/*
 * metrics.c - what is known of a pool as OpenMetrics text, for Prometheus and what reads the same.
 *
 * To know before reading: what OpenTelemetry has a name for (db.client.connection.*) is under that
 * name, in the spelling in which its exporters write it for Prometheus: unit and _total added.
 * Everything else is poolproof_ and the name of its field in struct pp_stats or pp_lane_stats.
 * Numbers are written as integers, or with nine places behind the point: exact, whatever the
 * locale.
 */
/* SPDX-License-Identifier: MIT */
#include "internal.h"

#include <assert.h>
#include <stdio.h>

/* The text as far as it fits, and how long it would like to be. */
struct page {
	char *text;
	size_t size, length;
	const char *pool; /* The label. */
};

static void put_byte(struct page *p, char byte)
{
	if (p->length + 1 < p->size)
		p->text[p->length] = byte;
	p->length++;
}

static void put(struct page *p, const char *text)
{
	while (*text != '\0')
		put_byte(p, *text++);
}

/* A page has 400 of them: by snprintf() they would take half of its time. */
static void put_number(struct page *p, uint64_t number)
{
	char digits[20];
	unsigned count = 0;

	do
		digits[count++] = (char)('0' + number % 10);
	while ((number /= 10) != 0);
	while (count > 0)
		put_byte(p, digits[--count]);
}

static void put_seconds(struct page *p, uint64_t ns)
{
	put_number(p, ns / 1000000000);
	put_byte(p, '.');
	for (uint64_t unit = 100000000; unit > 0; unit /= 10)
		put_byte(p, (char)('0' + ns / unit % 10));
}

static void put_label(struct page *p, const char *label, const char *value)
{
	put(p, label);
	put(p, "=\"");
	for (; *value != '\0'; value++) {
		if (*value == '\\' || *value == '"' || *value == '\n')
			put_byte(p, '\\');
		put_byte(p, *value == '\n' ? 'n' : *value);
	}
	put(p, "\"");
}

/* A sample is opened, may get more labels, and is closed with its value. */
static void sample_open(struct page *p, const char *name, const char *suffix)
{
	put(p, name);
	put(p, suffix);
	put(p, "{");
	put_label(p, "pool", p->pool);
}

static void sample_close(struct page *p, uint64_t number)
{
	put(p, "} ");
	put_number(p, number);
	put(p, "\n");
}

static void sample_close_seconds(struct page *p, uint64_t ns)
{
	put(p, "} ");
	put_seconds(p, ns);
	put(p, "\n");
}

static void put_family(struct page *p, const char *name, const char *type, const char *unit,
                       const char *help)
{
	const char *const lines[][2] = { { "# TYPE ", type },
		                         { "# UNIT ", unit },
		                         { "# HELP ", help } };

	for (unsigned i = 0; i < sizeof lines / sizeof *lines; i++) {
		if (lines[i][1] == NULL)
			continue;
		put(p, lines[i][0]);
		put(p, name);
		put(p, " ");
		put(p, lines[i][1]);
		put(p, "\n");
	}
}

/* --- Counters and gauges ----------------------------------------------------------------- */

enum type { COUNTER, GAUGE };
static const char *const type_names[] = { "counter", "gauge" };
static const char *const suffixes[] = { "_total", "" };

/* One field of the statistics. With unit "seconds" it is in nanoseconds. */
struct family {
	const char *name;
	enum type type;
	const char *unit;
	size_t offset, size;
	const char *help;
};

#define FIELD(struct_, field) offsetof(struct struct_, field), sizeof(((struct struct_ *)0)->field)
#define LANE(name, type, unit, field, help)                         \
	{                                                           \
		name, type, unit, FIELD(pp_lane_stats, field), help \
	}
#define POOL(field, type, unit, help)                                         \
	{                                                                     \
		"poolproof_" #field, type, unit, FIELD(pp_stats, field), help \
	}

static const struct family lane_families[] = {
	LANE("db_client_connection_pending_requests", GAUGE, NULL, waiting,
	     "Waiters in the line now."),
	LANE("db_client_connection_timeouts", COUNTER, NULL, timeouts,
	     "Acquires that ended at their deadline."),
	LANE("poolproof_lane_connections", GAUGE, NULL, connections, "Slots in use."),
	LANE("poolproof_lane_open", GAUGE, NULL, open, "Slots with an open connection."),
	LANE("poolproof_lane_acquires", COUNTER, NULL, acquires, "Acquires that succeeded."),
	LANE("poolproof_lane_waits", COUNTER, NULL, waits, "Acquires that stood in the line."),
	LANE("poolproof_lane_handovers", COUNTER, NULL, handovers,
	     "Waiters that were given a connection directly."),
	LANE("poolproof_lane_overloads", COUNTER, NULL, overloads,
	     "Acquires refused because the line was full."),
	LANE("poolproof_lane_wait_seconds", COUNTER, "seconds", wait_ns_total, "Time in the line."),
	LANE("poolproof_lane_wait_max_seconds", GAUGE, "seconds", wait_ns_max,
	     "The longest time in the line."),
};

static const struct family pool_families[] = {
	POOL(gated, GAUGE, NULL, "1: readers and the writer exclude each other."),
	POOL(opened, COUNTER, NULL, "Connections opened."),
	POOL(closed, COUNTER, NULL, "Connections closed."),
	POOL(dirty, COUNTER, NULL, "Releases that had to mend something."),
	POOL(dirty_transaction, COUNTER, NULL, "Releases with a transaction left open."),
	POOL(dirty_statements, COUNTER, NULL, "Releases with statements the pool did not prepare."),
	POOL(dirty_settings, COUNTER, NULL, "Releases with temporary objects, ATTACH or pragmas."),
	POOL(retired, COUNTER, NULL, "Connections closed because they could not be mended."),
	POOL(commits, COUNTER, NULL, "Outermost transactions committed."),
	POOL(rollbacks, COUNTER, NULL, "Outermost transactions rolled back."),
	POOL(lost, COUNTER, NULL, "Transactions ended by SQLite or by the caller's own SQL."),
	POOL(retries, COUNTER, NULL, "Attempts of pp_transact() after the first."),
	POOL(writes, COUNTER, NULL, "Calls of pp_write() that were committed with their group."),
	POOL(groups, COUNTER, NULL, "Commits of groups; writes by groups is their mean size."),
	POOL(reruns, COUNTER, NULL, "Calls of pp_write() run again because of their group."),
	POOL(statement_hits, COUNTER, NULL, "Statements found in a cache."),
	POOL(statement_misses, COUNTER, NULL, "Statements prepared anew."),
	POOL(statement_evictions, COUNTER, NULL, "Statements dropped from a cache."),
	POOL(statements, GAUGE, NULL, "Statements cached now."),
	POOL(statement_bytes, GAUGE, "bytes", "Memory of the statements cached now."),
	POOL(pool_bytes, GAUGE, "bytes", "Live memory of the pool itself."),
	POOL(connections_bytes, GAUGE, "bytes", "Live memory of its open connections."),
	POOL(parked, GAUGE, NULL, "Closed connections of which memory is left."),
	POOL(parked_bytes, GAUGE, "bytes", "Memory left of closed connections; 0 without leaks."),
	POOL(foreign_bytes, GAUGE, "bytes", "SQLite memory of this process outside all pools."),
	POOL(grown, COUNTER, NULL, "Readers opened because somebody waited."),
	POOL(shrunk, COUNTER, NULL, "Readers closed because they were idle."),
	POOL(renewed, COUNTER, NULL, "Connections replaced at their age."),
	POOL(health_checks, COUNTER, NULL, "Health checks."),
	POOL(health_failures, COUNTER, NULL, "Health checks that failed."),
	POOL(file_changes, COUNTER, NULL, "Times the file was deleted, replaced, cut, read-only."),
	POOL(reopened, COUNTER, NULL, "Times the pool was opened anew."),
	POOL(tripped, GAUGE, NULL, "1: the file changed, and calls fail until pp_reopen()."),
	POOL(suspended, GAUGE, NULL, "1: between pp_suspend() and pp_resume()."),
	POOL(overdue, COUNTER, NULL, "Leases that passed lease_warn_ms."),
	POOL(interrupted, COUNTER, NULL, "Leases interrupted."),
	POOL(quarantined, COUNTER, NULL, "Connections replaced while somebody held them."),
	POOL(returned_late, COUNTER, NULL, "Connections given back from quarantine."),
	POOL(deadlocks, COUNTER, NULL, "Acquires that would have waited for themselves."),
	POOL(cancels, COUNTER, NULL, "Calls ended by their token."),
	POOL(sheds, COUNTER, NULL, "Waiters refused because all waited too long."),
	POOL(refusals, COUNTER, NULL, "Allocations refused by a byte limit."),
	POOL(wal_bytes, GAUGE, "bytes", "Size of the WAL file."),
	POOL(checkpoints, COUNTER, NULL, "Checkpoints that copied all."),
	POOL(checkpoints_blocked, COUNTER, NULL, "Checkpoints held up by a reader."),
	POOL(memory_pressure, GAUGE, NULL,
	     "1: the control group or the machine is short of memory."),
	POOL(neighbours, GAUGE, NULL, "1: other processes have a pool on this file."),
};

static void put_field(struct page *p, const struct family *f, const void *stats, const char *lane)
{
	const void *field = (const char *)stats + f->offset;
	uint64_t number = f->size == sizeof(bool)       ? *(const bool *)field
	                  : f->size == sizeof(unsigned) ? *(const unsigned *)field
	                                                : *(const uint64_t *)field;

	sample_open(p, f->name, suffixes[f->type]);
	if (lane != NULL)
		put_label(p, ",lane", lane);
	if (f->unit != NULL && *f->unit == 's')
		sample_close_seconds(p, number);
	else
		sample_close(p, number);
}

static void put_stats(struct page *p, const struct pp_stats *stats)
{
	for (unsigned i = 0; i < sizeof lane_families / sizeof *lane_families; i++) {
		const struct family *f = &lane_families[i];

		put_family(p, f->name, type_names[f->type], f->unit, f->help);
		put_field(p, f, &stats->read, "read");
		put_field(p, f, &stats->write, "write");
	}
	for (unsigned i = 0; i < sizeof pool_families / sizeof *pool_families; i++) {
		const struct family *f = &pool_families[i];

		put_family(p, f->name, type_names[f->type], f->unit, f->help);
		put_field(p, f, stats, NULL);
	}
}

/* --- What OpenTelemetry counts otherwise -------------------------------------------------- */

static void put_state(struct page *p, const char *lane, const char *state, unsigned number)
{
	sample_open(p, "db_client_connection_count", "");
	put_label(p, ",lane", lane);
	put_label(p, ",state", state);
	sample_close(p, number);
}

static void put_states(struct page *p, const struct pp_lane_stats *lane, const char *name)
{
	/* Read one after the other: a connection may have been lent between. */
	put_state(p, name, "idle", lane->open > lane->leased ? lane->open - lane->leased : 0);
	put_state(p, name, "used", lane->leased);
}

static void put_bound(struct page *p, const char *name, const char *help, unsigned readers)
{
	put_family(p, name, "gauge", NULL, help);
	sample_open(p, name, "");
	put_label(p, ",lane", "read");
	sample_close(p, readers);
	sample_open(p, name, "");
	put_label(p, ",lane", "write");
	sample_close(p, 1);
}

static void put_connections(struct page *p, struct pp_pool *pool, const struct pp_stats *stats)
{
	put_family(p, "db_client_connection_count", "gauge", NULL,
	           "Open connections, lent (used) and not (idle).");
	put_states(p, &stats->read, "read");
	put_states(p, &stats->write, "write");
	put_bound(p, "db_client_connection_max", "Most connections there may be.",
	          atomic_load_explicit(&pool->readers, memory_order_relaxed));
	put_bound(p, "db_client_connection_idle_min", "Connections that stay open when idle.",
	          atomic_load_explicit(&pool->readers_min, memory_order_relaxed));
}

/* What the numbers were made with. */
static void put_build(struct page *p, const struct pp_stats *stats)
{
	static const char *const accounting[] = { "off", "counters", "arenas" };
	const char *const labels[][2] = {
		{ ",version", pp_version() },
		{ ",sqlite", sqlite3_libversion() },
		{ ",accounting", accounting[stats->accounting] },
		{ ",missing_features", stats->missing_features },
	};

	put_family(p, "poolproof_build", "gauge", NULL, "1; the labels say what it is made of.");
	sample_open(p, "poolproof_build", "");
	for (unsigned i = 0; i < sizeof labels / sizeof *labels; i++)
		put_label(p, labels[i][0], labels[i][1]);
	sample_close(p, 1);
}

/* --- Histograms --------------------------------------------------------------------------- */

/* Powers of two of nanoseconds, from 8 us to 34 s: each is where a bucket of ours ends, so what is
 * counted below it is exact. What ends there is the last nanosecond before it. */
enum { BOUND_FIRST = 13, BOUND_LAST = 35 };

static const char *const histogram_names[] = {
	[PP_HISTOGRAM_WAIT] = "db_client_connection_wait_time_seconds",
	[PP_HISTOGRAM_CONNECT] = "db_client_connection_create_time_seconds",
	[PP_HISTOGRAM_VERIFY] = "poolproof_verify_seconds",
	[PP_HISTOGRAM_HOLD] = "db_client_connection_use_time_seconds",
	[PP_HISTOGRAM_TRANSACTION] = "poolproof_transaction_seconds",
	[PP_HISTOGRAM_COMMIT] = "poolproof_commit_seconds",
	[PP_HISTOGRAM_CHECKPOINT] = "poolproof_checkpoint_seconds",
	[PP_HISTOGRAM_RECOVERY] = "poolproof_recovery_seconds",
};

static const char *const histogram_texts[] = {
#define X(kind, tag, text) "Time: " text ".",
	PP_HISTOGRAM_LIST(X)
#undef X
};

static const char *const histogram_tags[] = {
#define X(kind, tag, text) tag,
	PP_HISTOGRAM_LIST(X)
#undef X
};

static void put_buckets(struct page *p, const char *name, const struct pp_histogram *h)
{
	uint64_t below = 0;
	unsigned next = 0;

	for (unsigned bound = BOUND_FIRST; bound <= BOUND_LAST; bound++) {
		uint64_t ns = (UINT64_C(1) << bound) - 1;

		while (histogram_bound_ns(next) <= ns)
			below += h->buckets[next++];
		sample_open(p, name, "_bucket");
		put(p, ",le=\"");
		put_seconds(p, ns);
		put(p, "\"");
		sample_close(p, below);
	}
	sample_open(p, name, "_bucket");
	put_label(p, ",le", "+Inf");
	sample_close(p, h->count);
}

static void put_histogram(struct page *p, const char *name, const char *help,
                          const struct pp_histogram *h)
{
	put_family(p, name, "histogram", "seconds", help);
	put_buckets(p, name, h);
	sample_open(p, name, "_sum");
	sample_close_seconds(p, h->sum_ns);
	sample_open(p, name, "_count");
	sample_close(p, h->count);
}

/* How many writes a commit has had. */
static void put_group_sizes(struct page *p, const struct pp_stats *stats)
{
	static const char name[] = "poolproof_group_size";
	uint64_t below = 0;

	put_family(p, name, "histogram", NULL, "Calls of pp_write() in a commit.");
	for (unsigned i = 0; i <= GROUP_SIZES; i++) {
		char bound[16] = "+Inf";

		if (i < GROUP_SIZES) {
			below += stats->group_sizes[i];
			snprintf(bound, sizeof bound, "%u.0", 1U << i);
		}
		sample_open(p, name, "_bucket");
		put_label(p, ",le", bound);
		sample_close(p, below);
	}
	sample_open(p, name, "_sum");
	sample_close(p, stats->writes);
	sample_open(p, name, "_count");
	sample_close(p, below);
}

static void put_longest(struct page *p, const uint64_t max_ns[PP_HISTOGRAMS])
{
	put_family(p, "poolproof_longest_seconds", "gauge", "seconds",
	           "The longest there was of each of the histograms.");
	for (unsigned i = 0; i < PP_HISTOGRAMS; i++) {
		sample_open(p, "poolproof_longest_seconds", "");
		put_label(p, ",of", histogram_tags[i]);
		sample_close_seconds(p, max_ns[i]);
	}
}

static void put_histograms(struct page *p, struct pp_pool *pool)
{
	uint64_t max_ns[PP_HISTOGRAMS];

	for (unsigned i = 0; i < PP_HISTOGRAMS; i++) {
		struct pp_histogram h;

		pp_histogram_read(pool, (enum pp_histogram_kind)i, &h);
		put_histogram(p, histogram_names[i], histogram_texts[i], &h);
		max_ns[i] = h.max_ns;
	}
	put_longest(p, max_ns);
}

size_t pp_metrics_text(struct pp_pool *pool, const char *name, char *text, size_t text_size)
{
	struct page page = { .text = text, .size = text_size, .pool = name };
	struct pp_stats stats;

	assert(name != NULL);
	/* After a fork the pool is another process's, and so are its numbers. */
	if (pp_stats_read(pool, &stats) == PP_OK) {
		put_connections(&page, pool, &stats);
		put_stats(&page, &stats);
		put_histograms(&page, pool);
		put_group_sizes(&page, &stats);
		put_build(&page, &stats);
	}
	put(&page, "# EOF\n");
	if (text_size > 0)
		text[page.length < text_size ? page.length : text_size - 1] = '\0';
	return page.length;
}
