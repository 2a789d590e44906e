/* oracle.c - what must be true afterwards: acknowledgements, the log, holders, deadlines. */
/* SPDX-License-Identifier: MIT */
#include "internal.h"

#include <poolproof/harness/oracle.h>

#include <assert.h>
#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* --- What was acknowledged ---------------------------------------------------------------- */

struct harness_acks *harness_acks_new(const char *path)
{
	int file = -1, flags = MAP_SHARED | MAP_ANONYMOUS;
	struct harness_acks *acks;

	if (path != NULL) {
		flags = MAP_SHARED;
		file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
		if (file < 0 || ftruncate(file, sizeof *acks) != 0) {
			if (file >= 0)
				close(file);
			return NULL;
		}
	}
	acks = mmap(NULL, sizeof *acks, PROT_READ | PROT_WRITE, flags, file, 0);
	if (file >= 0)
		close(file);
	return acks == MAP_FAILED ? NULL : acks;
}

void harness_acks_free(struct harness_acks *acks)
{
	if (acks != NULL)
		munmap(acks, sizeof *acks);
}

static atomic_uchar *fate_of(struct harness_acks *acks, unsigned thread, unsigned n)
{
	assert(thread < HARNESS_ACK_THREADS && n < HARNESS_ACK_WRITES);
	return &acks->fates[thread][n];
}

void harness_acks_meant(struct harness_acks *acks, unsigned thread, unsigned n)
{
	atomic_store(fate_of(acks, thread, n), HARNESS_MEANT);
}

void harness_acks_ended(struct harness_acks *acks, unsigned thread, unsigned n, bool acknowledged)
{
	atomic_store(fate_of(acks, thread, n),
	             acknowledged ? HARNESS_ACKNOWLEDGED : HARNESS_FAILED);
	atomic_fetch_add(&acks->ended, 1);
}

struct finding {
	unsigned thread, n;
	bool there;
	uint64_t count;
};

/* Whether it is as it should be. */
static bool judge_one(enum harness_fate fate, bool there, struct harness_ack_sums *sums)
{
	sums->acknowledged += fate == HARNESS_ACKNOWLEDGED;
	sums->failed += fate == HARNESS_FAILED;
	sums->unknown += fate == HARNESS_MEANT;
	sums->survived += fate == HARNESS_MEANT && there;
	sums->lost += fate == HARNESS_ACKNOWLEDGED && !there;
	sums->phantoms += fate == HARNESS_FAILED && there;
	return fate != (there ? HARNESS_FAILED : HARNESS_ACKNOWLEDGED);
}

static void tell(struct harness_run *run, const char *what, const struct finding *first)
{
	harness_fail(run, "%s: write %u of thread %u was %s and is %s; %llu wrong in all", what,
	             first->n, first->thread, first->there ? "reported as failed" : "acknowledged",
	             first->there ? "there" : "lost", (unsigned long long)first->count);
}

uint64_t harness_acks_judge(struct harness_run *run, const char *what,
                            const struct harness_acks *acks,
                            bool (*is_there)(void *context, unsigned thread, unsigned n),
                            void *context, struct harness_ack_sums *sums)
{
	struct finding first = { .count = 0 };

	for (unsigned t = 0; t < HARNESS_ACK_THREADS; t++)
		for (unsigned n = 0; n < HARNESS_ACK_WRITES; n++) {
			enum harness_fate fate = atomic_load(&acks->fates[t][n]);
			bool there;

			if (fate == HARNESS_UNBORN)
				break; /* Each thread counts up. */
			there = is_there(context, t, n);
			if (!judge_one(fate, there, sums) && first.count++ == 0)
				first = (struct finding){ t, n, there, 1 };
		}
	if (first.count > 0)
		tell(run, what, &first);
	return first.count;
}

/* --- A log of writes ---------------------------------------------------------------------- */

const char harness_log_schema[] =
	"CREATE TABLE harness_log(id INTEGER PRIMARY KEY, thread INTEGER, n INTEGER, payload TEXT);"
	"CREATE UNIQUE INDEX harness_log_who ON harness_log(thread, n);"
	"CREATE TABLE harness_count(rows INTEGER);"
	"INSERT INTO harness_count VALUES (0);";
/* Who else is in the same transaction has moved the counter on with his row. */
const char harness_log_insert[] =
	"INSERT INTO harness_log SELECT rows + 1, ?1, ?2, printf('%0*d', ?3, ?1 * 4096 + ?2) "
	"FROM harness_count";
const char harness_log_count[] = "UPDATE harness_count SET rows = rows + 1";

static const char log_read[] =
	"SELECT count(*), ifnull(max(id), 0), (SELECT max(rows) FROM harness_count), "
	"sum(id < 1 OR payload IS NOT printf('%0*d', length(payload), thread * 4096 + n)) FROM "
	"harness_log";

static struct harness_log_state wrong_state(const char *format, ...)
{
	struct harness_log_state state = { .rows = -1 };
	va_list args;

	va_start(args, format);
	vsnprintf(state.wrong, sizeof state.wrong, format, args);
	va_end(args);
	return state;
}

static struct harness_log_state state_of(sqlite3_stmt *stmt)
{
	int64_t rows = sqlite3_column_int64(stmt, 0), last = sqlite3_column_int64(stmt, 1),
		counted = sqlite3_column_int64(stmt, 2), spoiled = sqlite3_column_int64(stmt, 3);

	if (rows != last || rows != counted)
		return wrong_state("%lld rows, the last is number %lld, %lld were counted",
		                   (long long)rows, (long long)last, (long long)counted);
	if (spoiled != 0)
		return wrong_state("%lld of %lld rows are spoiled", (long long)spoiled,
		                   (long long)rows);
	return (struct harness_log_state){ .rows = rows };
}

static bool is_sound(sqlite3 *db, struct harness_log_state *ret)
{
	sqlite3_stmt *stmt = NULL;
	const char *text = NULL;

	if (sqlite3_prepare_v2(db, "PRAGMA integrity_check", -1, &stmt, NULL) == SQLITE_OK &&
	    sqlite3_step(stmt) == SQLITE_ROW)
		text = (const char *)sqlite3_column_text(stmt, 0);
	if (text == NULL || strcmp(text, "ok") != 0)
		*ret = wrong_state("integrity_check: %.150s",
		                   text != NULL ? text : sqlite3_errmsg(db));
	sqlite3_finalize(stmt);
	return ret->rows >= 0;
}

struct harness_log_state harness_log_read(sqlite3 *db, bool sound)
{
	struct harness_log_state state;
	sqlite3_stmt *stmt = NULL;

	if (sqlite3_prepare_v2(db, log_read, -1, &stmt, NULL) != SQLITE_OK ||
	    sqlite3_step(stmt) != SQLITE_ROW)
		state = wrong_state("%.150s (%d)", sqlite3_errmsg(db),
		                    sqlite3_extended_errcode(db));
	else
		state = state_of(stmt);
	sqlite3_finalize(stmt);
	if (state.rows >= 0 && sound)
		is_sound(db, &state);
	return state;
}

bool harness_log_has(void *db, unsigned thread, unsigned n)
{
	sqlite3_stmt *stmt = NULL;
	bool there;

	sqlite3_prepare_v2(db, "SELECT 1 FROM harness_log WHERE thread = ?1 AND n = ?2", -1, &stmt,
	                   NULL);
	sqlite3_bind_int64(stmt, 1, thread);
	sqlite3_bind_int64(stmt, 2, n);
	there = sqlite3_step(stmt) == SQLITE_ROW;
	sqlite3_finalize(stmt);
	return there;
}

/* --- Holders ------------------------------------------------------------------------------ */

enum { HANDLES_MAX = 4096 };

/* A handle has its place for good: an address that is used again is the same handle to us. Relaxed:
 * a lock, or an order, here would hide from tsan what it is to see. */
static struct holder {
	_Atomic(const void *) handle;
	atomic_uint holders;
} holders[HANDLES_MAX];

static struct holder *holder_of(const void *handle)
{
	uintptr_t at = (uintptr_t)handle / 16 * 2654435761u;

	for (unsigned i = 0; i < HANDLES_MAX; i++) {
		struct holder *h = &holders[(at + i) % HANDLES_MAX];
		const void *there = NULL;

		if (atomic_compare_exchange_strong_explicit(&h->handle, &there, handle,
		                                            memory_order_relaxed,
		                                            memory_order_relaxed) ||
		    there == handle)
			return h;
	}
	return NULL;
}

bool harness_hold(struct harness_run *run, const void *handle)
{
	static atomic_bool told;
	struct holder *h = holder_of(handle);
	unsigned before;

	if (h == NULL) {
		if (!atomic_exchange_explicit(&told, true, memory_order_relaxed))
			harness_distrust(run,
			                 "there were more than %d connections: who held the last "
			                 "ones was not watched",
			                 HANDLES_MAX);
		return true;
	}
	before = atomic_fetch_add_explicit(&h->holders, 1, memory_order_relaxed);
	if (before > 0)
		harness_fail(run, "a connection (%p) was lent to a second borrower", handle);
	return before == 0;
}

void harness_let_go(const void *handle)
{
	struct holder *h = holder_of(handle);

	if (h != NULL)
		atomic_fetch_sub_explicit(&h->holders, 1, memory_order_relaxed);
}

/* --- Deadlines ---------------------------------------------------------------------------- */

uint64_t harness_lateness_ns(void)
{
	return UINT64_C(500000000) * time_multiplier();
}

void harness_deadline_judge(struct harness_run *run, uint64_t asked_ns, uint64_t patience_ns,
                            bool acquired)
{
	uint64_t took = now_ns() - asked_ns;

	if (took > harness_lateness_ns() && took - harness_lateness_ns() > patience_ns)
		harness_fail(run, "an acquire with %.0f ms of patience %s after %.0f ms",
		             (double)patience_ns / 1e6, acquired ? "succeeded" : "failed",
		             (double)took / 1e6);
}
