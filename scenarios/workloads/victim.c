/* victim.c - a process that writes until it is killed, and who kills it. See victim.h. */
/* SPDX-License-Identifier: MIT */
#include "victim.h"

#include <poolproof/harness/case.h>
#include <poolproof/harness/entropy.h>
#include <poolproof/harness/fault.h>

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { ARGUMENTS_MAX = 64, TEXT_MAX = PATH_MAX + 128, BYTES_MAX = 1500 };
/* Three seconds, times the slowness: it tells where it hangs before this process is said to. */
enum { QUIET_LATENESSES = 6 };
enum { SESSION_WRITES = 24 }; /* Of a thread, between an open and a close. */

/* As an option's value. The database is last: it may hold anything. */
static void plan_write(const struct victim_plan *p, char ret_text[TEXT_MAX])
{
	snprintf(ret_text, TEXT_MAX, "%u,%u,%s,%llu,%s", p->round, p->variation,
	         p->place[0] != '\0' ? p->place : "-", (unsigned long long)p->skip, p->database);
}

static bool plan_read(struct victim_plan *p, const char *text)
{
	unsigned long long skip;
	int used = 0;

	if (sscanf(text, "%u,%u,%31[^,],%llu,%n", &p->round, &p->variation, p->place, &skip,
	           &used) != 4 ||
	    used == 0)
		return false;
	p->skip = skip;
	if (strcmp(p->place, "-") == 0)
		p->place[0] = '\0';
	snprintf(p->database, sizeof p->database, "%s", text + used);
	return true;
}

static void acks_path(const struct victim_plan *p, char ret_path[PATH_MAX])
{
	snprintf(ret_path, PATH_MAX, "%s.acks-%u", p->database, p->round);
}

/* The round's part of the log's threads. */
static int64_t log_thread(unsigned round, unsigned thread)
{
	return (int64_t)round * HARNESS_ACK_THREADS + thread;
}

/* --- The victim --------------------------------------------------------------------------- */

struct victim {
	struct victim_plan plan;
	const struct harness_target *target;
	const struct harness_options *options;
	struct harness_acks *acks;
	void *state; /* The target's. */
};

struct writer {
	pthread_t id;
	struct victim *victim;
	unsigned thread, n;
};

static unsigned payload_bytes(const struct writer *w)
{
	struct harness_entropy e;

	harness_entropy_init(&e, w->victim->options->seed,
	                     (uint64_t)log_thread(w->victim->plan.round, w->thread), w->n);
	return (unsigned)harness_entropy_uniform(&e, 1, BYTES_MAX);
}

/* One in 16 changes its mind, and one in 32 has SQLite roll back everything by writing twice. */
static bool write_row(struct harness_connection *connection, void *context,
                      struct harness_failure *f)
{
	static const char again[] = "INSERT OR ROLLBACK INTO harness_log VALUES (1, ?1, ?2, '')";
	const struct writer *w = context;
	const struct harness_target *target = w->victim->target;
	struct harness_value args[] = {
		{ .type = HARNESS_INTEGER,
		  .integer = log_thread(w->victim->plan.round, w->thread) },
		{ .type = HARNESS_INTEGER, .integer = w->n },
		{ .type = HARNESS_INTEGER, .integer = payload_bytes(w) },
	};

	if (!target->query(connection, harness_log_insert, args, 3, NULL, NULL, f) ||
	    !target->query(connection, harness_log_count, NULL, 0, NULL, NULL, f))
		return false;
	if (w->n % 32 == 3)
		return target->query(connection, again, args, 2, NULL, NULL, f);
	if (w->n % 16 == 7)
		*f = (struct harness_failure){ .kind = HARNESS_FAILURE_OTHER,
			                       .text = "changed its mind" };
	return w->n % 16 != 7;
}

/* One in four is willing to share nothing. */
static bool write_one(struct writer *w)
{
	const struct harness_target *target = w->victim->target;
	uint64_t patience_ns = w->victim->options->timeout_ms * 1000000ull;
	struct harness_failure failure;

	if (target->write != NULL && w->n % 4 != 1)
		return target->write(w->victim->state, patience_ns, write_row, w, &failure);
	return target->transact(w->victim->state, HARNESS_WRITE, patience_ns, write_row, w,
	                        &failure);
}

static void *write_session(void *context)
{
	struct writer *w = context;
	struct harness_acks *acks = w->victim->acks;

	for (unsigned i = 0; i < SESSION_WRITES && w->n < HARNESS_ACK_WRITES; i++, w->n++) {
		harness_acks_meant(acks, w->thread, w->n);
		harness_acks_ended(acks, w->thread, w->n, write_one(w));
	}
	return NULL;
}

static bool session(struct victim *v, struct writer *writers, const struct victim_manner *manner,
                    unsigned number)
{
	const struct harness_options *o = v->options;
	struct harness_target_options options = {
		.path = v->plan.database,
		.threads = o->threads,
		.readers = o->readers,
		.timeout_ms = o->timeout_ms,
		.synchronous = o->synchronous,
		.journal_mode = o->journal_mode,
	};
	struct harness_failure failure = { .kind = HARNESS_FAILURE_OTHER };
	struct harness_residue residue;

	if (!v->target->open(&options, &v->state, &failure)) {
		fprintf(stderr, "victim: %s could not open %s: %s\n", v->target->name,
		        v->plan.database, failure.text);
		return false;
	}
	for (unsigned t = 0; t < o->threads; t++) {
		writers[t].victim = v;
		writers[t].thread = t;
		if (pthread_create(&writers[t].id, NULL, write_session, &writers[t]) != 0)
			return false;
	}
	if (manner->beside != NULL)
		manner->beside(v->state, &v->plan, number);
	for (unsigned t = 0; t < o->threads; t++)
		pthread_join(writers[t].id, NULL);
	v->target->close(v->state, &residue);
	v->state = NULL;
	return true;
}

/* Whatever the target's setup() configures comes before SQLite is initialised. */
static const char *set_up(const struct victim *v, const struct victim_manner *manner)
{
	const char *lacking = NULL;

	if (manner->prepare != NULL)
		manner->prepare(&v->plan);
	if (v->target->setup != NULL)
		lacking = v->target->setup();
	if (lacking != NULL)
		return lacking;
	if (sqlite3_initialize() != SQLITE_OK || !harness_fault_io())
		return "SQLite's unix VFS";
	harness_sync_skip(true);
	return v->acks == NULL ? strerror(errno) : NULL;
}

int victim_main(const char *text, const struct harness_target *target,
                const struct harness_options *options, const struct victim_manner *manner)
{
	static struct writer writers[HARNESS_ACK_THREADS];
	static struct victim v;
	static struct harness_fault fault;
	static struct harness_helper helper = { .name = "victim", .state = &v.state };
	char path[PATH_MAX];
	const char *lacking;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	v = (struct victim){ .target = target, .options = options };
	if (!plan_read(&v.plan, text)) {
		fprintf(stderr, "victim: --victim %s: is no plan; kill starts it itself\n", text);
		return 2;
	}
	helper.target = target;
	acks_path(&v.plan, path);
	v.acks = harness_acks_new(path);
	lacking = harness_helper_tells(&helper) ? set_up(&v, manner) : "memory, or a thread";
	if (lacking != NULL) {
		fprintf(stderr, "victim: lacks %s\n", lacking);
		return 1;
	}
	fault = (struct harness_fault){
		.place = v.plan.place,
		.action = HARNESS_FAULT_KILL,
		.any_thread = true,
		.skip = v.plan.skip,
	};
	if (v.plan.place[0] != '\0')
		harness_fault_arm(&fault, 1);
	for (unsigned i = 0; session(&v, writers, manner, i); i++)
		;
	return 1;
}

/* --- The killer --------------------------------------------------------------------------- */

struct harness_acks *victim_acks(struct harness_run *run, const struct victim_plan *plan)
{
	struct harness_acks *acks;
	char path[PATH_MAX];

	acks_path(plan, path);
	unlink(path);
	acks = harness_acks_new(path);
	if (acks == NULL)
		harness_cannot(run, "%s: %s; is the disk full?", path, strerror(errno));
	return acks;
}

void victim_acks_free(struct harness_acks *acks, const struct victim_plan *plan)
{
	char path[PATH_MAX];

	harness_acks_free(acks);
	acks_path(plan, path);
	unlink(path);
}

pid_t victim_start(struct harness_run *run, char *const arguments[], const struct victim_plan *plan)
{
	char self[PATH_MAX] = "", text[TEXT_MAX];
	const char *words[ARGUMENTS_MAX + 3];
	unsigned count = 0;
	pid_t child;
	int rc;

	if (readlink("/proc/self/exe", self, sizeof self - 1) < 0)
		harness_cannot(run, "/proc/self/exe: %s; mount /proc", strerror(errno));
	plan_write(plan, text);
	while (arguments[count] != NULL && count < ARGUMENTS_MAX) {
		words[count] = arguments[count];
		count++;
	}
	words[count] = "--victim";
	words[count + 1] = text;
	words[count + 2] = NULL;
	rc = posix_spawn(&child, self, NULL, NULL, (char **)(uintptr_t)words, environ);
	if (rc != 0)
		harness_cannot(run, "%s: %s; raise the limit on processes", self, strerror(rc));
	return child;
}

enum victim_end victim_wait(struct harness_run *run, pid_t child, const struct harness_acks *acks,
                            unsigned writes)
{
	uint64_t since = harness_now_ns();
	unsigned ended = 0, before = 0;
	bool killed = false, asked = false;
	int status = 0;

	while (waitpid(child, &status, killed ? 0 : WNOHANG) == 0) {
		ended = atomic_load(&acks->ended);
		if (ended != before) {
			harness_step(run);
			since = harness_now_ns();
		} else if (!asked &&
		           harness_now_ns() - since > QUIET_LATENESSES * harness_lateness_ns()) {
			kill(child, HARNESS_HELPER_SIGNAL);
			asked = true;
		}
		before = ended;
		killed = ended >= writes;
		if (killed)
			kill(child, SIGKILL);
		else
			nanosleep(&(struct timespec){ .tv_nsec = 50000 }, NULL);
	}
	if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL)
		return VICTIM_BY_ITSELF;
	return killed ? VICTIM_AFTER : VICTIM_AT_PLACE;
}

/* --- The judge ---------------------------------------------------------------------------- */

struct look {
	sqlite3_stmt *stmt;
	unsigned round;
};

static bool is_there(void *context, unsigned thread, unsigned n)
{
	const struct look *look = context;
	bool there;

	sqlite3_bind_int64(look->stmt, 1, log_thread(look->round, thread));
	sqlite3_bind_int64(look->stmt, 2, n);
	there = sqlite3_step(look->stmt) == SQLITE_ROW;
	sqlite3_reset(look->stmt);
	return there;
}

static bool is_sound(struct harness_run *run, sqlite3 *db, struct victim_findings *findings)
{
	struct harness_log_state state = harness_log_read(db, findings->integrity);
	sqlite3_stmt *check = NULL;
	bool sound;

	if (state.rows < findings->rows) {
		harness_case_fail(run, "%s", state.rows < 0 ? state.wrong : "rows are gone");
		return false;
	}
	findings->rows = state.rows;
	sqlite3_prepare_v2(db, "PRAGMA quick_check", -1, &check, NULL);
	sound = sqlite3_step(check) == SQLITE_ROW &&
	        strcmp((const char *)sqlite3_column_text(check, 0), "ok") == 0;
	sqlite3_finalize(check);
	if (!sound)
		harness_case_fail(run, "the file is not sound");
	return sound;
}

bool victim_judge(struct harness_run *run, const struct victim_plan *const plans[],
                  struct harness_acks *const acks[], unsigned count,
                  struct victim_findings *findings)
{
	static const char has[] = "SELECT 1 FROM harness_log WHERE thread = ?1 AND n = ?2";
	uint64_t wrong = 0, start = harness_now_ns();
	struct look look = { 0 };
	sqlite3 *db;
	bool sound;

	sqlite3_open(plans[0]->database, &db);
	sqlite3_db_config(db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
	sqlite3_exec(db, "SELECT * FROM harness_count", NULL, NULL, NULL);
	findings->recovery_ns = harness_now_ns() - start;
	sound = is_sound(run, db, findings) &&
	        sqlite3_prepare_v2(db, has, -1, &look.stmt, NULL) == SQLITE_OK;
	for (unsigned i = 0; i < count && sound; i++) {
		look.round = plans[i]->round;
		wrong += harness_acks_judge(run, "recovered", acks[i], is_there, &look,
		                            &findings->sums);
	}
	sqlite3_finalize(look.stmt);
	sqlite3_close(db);
	return sound && wrong == 0;
}
