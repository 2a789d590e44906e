/* pins.c - who pins the WAL is named or stopped, and then it is bounded. */
/* SPDX-License-Identifier: MIT */
#include "pins.h"

#include "borrow.h"

#include <poolproof/harness/case.h>
#include <poolproof/harness/oracle.h>
#include <poolproof/pool.h>

#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

/*
 * Upkeep looks at the WAL when a thousand pages were written (4 MiB, the slack), or a second has
 * passed, and to cut it borrows the writer, which takes a second at most. So it knows a reader that
 * pins it after one look, and the WAL is small again after two looks and a turn.
 */
enum {
	WAL_MAX = 1 << 20,
	SLACK = 1000 * 4096,
	ROW = 16384,
	READER_MAX_MS = 100,
	NAMED_MS = 3000,
	CUT_MS = 3000,
	AFTER_MS = 500 /* And then it stays so, with the writer going on. */
};

struct pins {
	struct harness_run *run;
	struct pp_pool *pool;
	bool limit;        /* reader_max_ms is set. */
	atomic_int reader; /* Its kernel's number. */
	atomic_bool gone;  /* The reader has given back. */
	atomic_bool leave; /* It is to. */
	atomic_bool over;  /* The writer is to end. */
	atomic_uint named, interrupted;
	uint64_t wal_most, cut_ns;
};

static void pause_ms(unsigned ms)
{
	nanosleep(&(struct timespec){ .tv_nsec = ms * 1000000L }, NULL);
}

static void on_event(const struct pp_event *event, void *context)
{
	struct pins *p = context;
	bool his = event->connection.thread == atomic_load(&p->reader);

	if (event->kind == PP_EVENT_WAL_PINNED && his)
		atomic_fetch_add(&p->named, 1);
	if (event->kind == PP_EVENT_INTERRUPTED && his)
		atomic_fetch_add(&p->interrupted, 1);
}

/* One snapshot, and what is long enough to be interrupted, again and again. */
static enum pp_status read_slowly(struct pp_lease *lease, void *context)
{
	struct pins *p = context;
	int rc = SQLITE_OK;

	atomic_store(&p->reader, (int)gettid());
	while (rc == SQLITE_OK && !atomic_load(&p->leave)) {
		rc = sqlite3_exec(lease->db,
		                  "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c "
		                  "WHERE n < 2000) SELECT count(*) FROM c, harness_count",
		                  NULL, NULL, NULL);
		harness_step(p->run);
		pause_ms(1);
	}
	return rc == SQLITE_OK ? PP_OK : PP_SQLITE;
}

static void *be_slow(void *context)
{
	struct pins *p = context;
	struct pp_transaction how = { .deadline = PP_FOREVER };
	struct pp_error error = { 0 };
	enum pp_status status = pp_read(p->pool, &how, read_slowly, p, &error);

	if (status != PP_OK && (!p->limit || error.sqlite_code != SQLITE_INTERRUPT))
		harness_case_fail(p->run, "the slow reader: %s, %s", pp_status_name(status),
		                  error.message);
	atomic_store(&p->gone, true);
	return NULL;
}

static enum pp_status write_row(struct pp_lease *lease, void *context)
{
	char sql[128];

	(void)context;
	snprintf(sql, sizeof sql, "INSERT INTO filler VALUES (randomblob(%d))", ROW);
	return sqlite3_exec(lease->db, sql, NULL, NULL, NULL) == SQLITE_OK ? PP_OK : PP_SQLITE;
}

static void *be_greedy(void *context)
{
	struct pins *p = context;
	struct pp_error error;

	while (!atomic_load(&p->over)) {
		if (pp_transact(p->pool, NULL, write_row, NULL, &error) != PP_OK) {
			harness_case_fail(p->run, "the writer: %s", error.message);
			break;
		}
		harness_step(p->run);
	}
	return NULL;
}

static uint64_t wal_bytes(struct pins *p)
{
	struct pp_stats stats;

	pp_stats_read(p->pool, &stats);
	p->wal_most = stats.wal_bytes > p->wal_most ? stats.wal_bytes : p->wal_most;
	return stats.wal_bytes;
}

static bool is_large(struct pins *p)
{
	return wal_bytes(p) > WAL_MAX + ROW + SLACK;
}

/* He is told of while the WAL grows; by the limit he is gone. */
static bool is_known(struct pins *p)
{
	if (p->limit)
		return atomic_load(&p->interrupted) > 0 && atomic_load(&p->gone);
	return is_large(p) && atomic_load(&p->named) > 0;
}

static bool is_small(struct pins *p)
{
	return !is_large(p);
}

/* How long it took; more than limit_ms and lateness: too long. */
static uint64_t await(struct pins *p, bool (*is_so)(struct pins *), unsigned limit_ms,
                      const char *what)
{
	uint64_t begun = harness_now_ns(),
		 limit = limit_ms * UINT64_C(1000000) + harness_lateness_ns();

	while (!is_so(p) && harness_now_ns() - begun < limit)
		pause_ms(2);
	if (harness_now_ns() - begun >= limit)
		harness_case_fail(p->run, "%s, %.0f ms later; the WAL has %llu bytes of at most %d",
		                  what, (double)limit / 1e6, (unsigned long long)wal_bytes(p),
		                  WAL_MAX);
	return harness_now_ns() - begun;
}

static void watch(struct pins *p)
{
	uint64_t until;

	harness_duration(p->run, p->limit ? "wal.stopped" : "wal.named",
	                 await(p, is_known, NAMED_MS,
	                       p->limit ? "who pins the WAL is not interrupted"
	                                : "who pins the WAL is not named in an event"));
	atomic_store(&p->leave, true);
	p->cut_ns = await(p, is_small, CUT_MS, "the reader is gone and the WAL is not cut");
	harness_duration(p->run, "wal.cut", p->cut_ns);
	for (until = harness_now_ns() + AFTER_MS * UINT64_C(1000000); harness_now_ns() < until;
	     pause_ms(5))
		if (is_large(p))
			await(p, is_small, CUT_MS, "nobody reads and the WAL is not bounded");
}

static void play(struct pins *p, const char *path)
{
	struct pp_config config = { .path = path,
		                    .readers = 2,
		                    .synchronous = PP_SYNCHRONOUS_NORMAL,
		                    .wal_bytes_max = WAL_MAX,
		                    .reader_max_ms = p->limit ? READER_MAX_MS : PP_NEVER,
		                    .on_event = on_event,
		                    .on_event_context = p };
	pthread_t reader, writer;
	struct pp_error error;

	if (pp_open(&config, &p->pool, &error) != PP_OK)
		harness_cannot(p->run, "%s: %s; is the disk full?", path, error.message);
	if (pthread_create(&reader, NULL, be_slow, p) != 0)
		harness_cannot(p->run, "no more threads; raise the limit");
	while (atomic_load(&p->reader) == 0)
		pause_ms(1);
	if (pthread_create(&writer, NULL, be_greedy, p) != 0)
		harness_cannot(p->run, "no more threads; raise the limit");
	harness_target_show(p->run, p->pool);
	watch(p);
	harness_target_show(p->run, NULL);
	atomic_store(&p->leave, true);
	atomic_store(&p->over, true);
	pthread_join(reader, NULL);
	pthread_join(writer, NULL);
	if (pp_close(p->pool, pp_in_ms(3000), NULL) != PP_OK)
		harness_case_fail(p->run, "the pool cannot be closed");
}

static void make_filler(struct harness_run *run, const char *path)
{
	sqlite3 *db;

	borrow_create(run, path);
	if (sqlite3_open(path, &db) != SQLITE_OK ||
	    sqlite3_exec(db, "CREATE TABLE filler(x)", NULL, NULL, NULL) != SQLITE_OK)
		harness_cannot(run, "%s: %s; is the disk full?", path, sqlite3_errmsg(db));
	sqlite3_close(db);
}

void pins_run(struct harness_run *run)
{
	uint64_t most = 0, cut_ns = 0;
	char path[PATH_MAX];

	for (unsigned limit = 0; limit < 2; limit++) {
		struct pins p = { .run = run, .limit = limit == 1 };

		if (!harness_case_begin(run, "a pinned WAL, %s reader_max_ms",
		                        p.limit ? "with" : "without"))
			continue;
		snprintf(path, sizeof path, "%s/pinned-%u.db", harness_run_work(run), limit);
		make_filler(run, path);
		play(&p, path);
		borrow_remove(path);
		most = p.wal_most > most ? p.wal_most : most;
		cut_ns = p.cut_ns > cut_ns ? p.cut_ns : cut_ns;
		harness_case_note(run, "over");
		harness_case_end(run);
	}
	harness_number(run, "wal.max_bytes", (double)most);
	harness_number(run, "wal.cut_longest_ms", (double)cut_ns / 1e6);
}
