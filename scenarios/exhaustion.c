/*
 * exhaustion - something that a pool lives on runs out under load, and is there again.
 *
 * Question   Does everybody get a clear error in time, and does everything work again afterwards?
 * Load       --threads threads read, write and leave connections to be opened anew, --rounds times
 *            with each shortage: connections, the line, descriptors, disk space, threads, memory.
 * Passes     when nobody fails before and after it, whoever fails in it is told so by his deadline
 *            and by an error of the right kind, nobody is refused beside an idle connection, every
 *            acknowledged write is there, and nothing is left.
 */
/* SPDX-License-Identifier: MIT */
#include "targets/targets.h"
#include "workloads/shortage.h"

#include <poolproof/harness/case.h>
#include <poolproof/harness/fault.h>
#include <poolproof/pool.h>

#include <argp.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum { KEY_ROUNDS = 0x1000, ROUNDS_MAX = 1000 };
enum { SHORT_MS = 25, WAITING_MAX = 2 };
/* Longer than anybody who is served in the end has to wait: 2 s, times the slowness of the variant.
 */
enum { PATIENCE_LATENESSES = 4 };
enum { FILE_BYTES_MAX = 1 << 20, ROW_BYTES = 1 << 16, CONNECTION_BYTES_MAX = 4 << 20 };

static const struct argp_option options[] = {
	{ "rounds", KEY_ROUNDS, "N", 0, "How often each (3)", 0 },
	{ 0 },
};

static unsigned rounds = 3;

static const char *option(int key, const char *value)
{
	return key == KEY_ROUNDS ? harness_read_whole(value, 1, ROUNDS_MAX, &rounds) : NULL;
}

/* --- What is right ------------------------------------------------------------------------ */

static bool is_timeout(const struct harness_failure *f)
{
	return f->kind == HARNESS_FAILURE_TIMEOUT;
}

static bool is_overload(const struct harness_failure *f)
{
	return f->kind == HARNESS_FAILURE_OVERLOADED;
}

static bool is_nothing(const struct harness_failure *f)
{
	(void)f;
	return false;
}

static bool is_cannot_open(const struct harness_failure *f)
{
	return (f->code & 0xff) == SQLITE_CANTOPEN;
}

/* ENOSPC is FULL where a page is written; where an index or a journal is made longer, and for EFBIG
 * (a limit on the size of files), SQLite has only IOERR. */
static bool is_full(const struct harness_failure *f)
{
	return (f->code & 0xff) == SQLITE_FULL || (f->code & 0xff) == SQLITE_IOERR;
}

static bool is_no_memory(const struct harness_failure *f)
{
	return (f->code & 0xff) == SQLITE_NOMEM || target_poolproof_status() == PP_NOMEM;
}

/* --- What runs out ------------------------------------------------------------------------ */

static struct harness_fault no_descriptors[] = {
	{ .place = "io.open", .error = EMFILE, .any_thread = true, .times = UINT64_MAX },
};
static struct harness_fault no_space[] = {
	{ .place = "io.pwrite*", .error = ENOSPC, .any_thread = true, .times = UINT64_MAX },
	{ .place = "io.write", .error = ENOSPC, .any_thread = true, .times = UINT64_MAX },
};

static void descriptors_fail(struct shortage *s)
{
	(void)s;
	harness_fault_arm(no_descriptors, 1);
}

static void space_fails(struct shortage *s)
{
	(void)s;
	harness_fault_arm(no_space, sizeof no_space / sizeof *no_space);
}

static void faults_end(struct shortage *s)
{
	(void)s;
	harness_fault_disarm_everybodys();
}

static struct rlimit limit_before;

static void limit_set(struct shortage *s, int resource, rlim_t most)
{
	struct rlimit limit;

	if (getrlimit(resource, &limit_before) != 0)
		harness_cannot(s->subject.run, "getrlimit: %s", strerror(errno));
	limit = limit_before;
	limit.rlim_cur = most < limit.rlim_max ? most : limit.rlim_max;
	setrlimit(resource, &limit);
}

/* What is open stays open, and nothing can be opened. */
static void descriptors_limit(struct shortage *s)
{
	limit_set(s, RLIMIT_NOFILE, STDERR_FILENO + 1);
}

static void descriptors_end(struct shortage *s)
{
	(void)s;
	setrlimit(RLIMIT_NOFILE, &limit_before);
}

/* Of every file of this process; those of the run's record are shorter. */
static void space_limit(struct shortage *s)
{
	limit_set(s, RLIMIT_FSIZE, FILE_BYTES_MAX);
}

static void space_end(struct shortage *s)
{
	(void)s;
	setrlimit(RLIMIT_FSIZE, &limit_before);
}

/* No thread has room for its stack: another pool cannot have its keeper, and says so. */
static void other_pool(struct shortage *s, enum pp_status expected)
{
	char path[PATH_MAX + 16];
	struct pp_error error = { 0 };
	struct pp_pool *pool = NULL;
	enum pp_status status;

	snprintf(path, sizeof path, "%s.other", s->subject.path);
	status = pp_open(&(struct pp_config){ .path = path, .readers = 1 }, &pool, &error);
	if (status != expected)
		subject_fail(&s->subject, "opening another pool said %s in place of %s: %s",
		             pp_status_name(status), pp_status_name(expected), error.message);
	if (status == PP_OK && pp_close(pool, pp_in_ms(3000), NULL) != PP_OK)
		subject_fail(&s->subject, "another pool could not be closed");
	if (status != PP_OK)
		atomic_fetch_add(&s->refused, 1);
}

static pthread_attr_t attributes_before;

static void threads_fail(struct shortage *s)
{
	pthread_attr_t attributes;

	pthread_getattr_default_np(&attributes_before);
	pthread_attr_init(&attributes);
	pthread_attr_setstacksize(&attributes, (size_t)1 << 47);
	pthread_setattr_default_np(&attributes);
	pthread_attr_destroy(&attributes);
	other_pool(s, PP_NOMEM);
}

static void threads_end(struct shortage *s)
{
	pthread_setattr_default_np(&attributes_before);
	pthread_attr_destroy(&attributes_before);
	other_pool(s, PP_OK);
}

#define WANT(name_, ...)                   \
	{                                  \
		.name = name_, __VA_ARGS__ \
	}
static const struct want wants[] = {
	WANT("connections", .greed = GREED_EVERY_CONNECTION, .is_right = is_timeout,
	     .short_ms = SHORT_MS),
	WANT("connections_for_a_moment", .greed = GREED_EVERY_CONNECTION, .is_right = is_nothing,
	     .sparing = true),
	WANT("line", .greed = GREED_WRITER, .is_right = is_overload, .ours_only = true,
	     .waiting_max = 2 * WAITING_MAX, .crowd_from = WAITING_MAX + 1),
	WANT("descriptors", .make = descriptors_fail, .end = faults_end,
	     .is_right = is_cannot_open),
	WANT("descriptors_by_limit", .make = descriptors_limit, .end = descriptors_end,
	     .is_right = is_cannot_open),
	WANT("space", .make = space_fails, .end = faults_end, .is_right = is_full),
	WANT("space_by_limit", .make = space_limit, .end = space_end, .is_right = is_full,
	     .payload_bytes = ROW_BYTES),
	WANT("threads", .make = threads_fail, .end = threads_end, .is_right = is_nothing,
	     .ours_only = true),
	WANT("memory", .greed = GREED_SOME, .is_right = is_no_memory, .ours_only = true,
	     .sparing = true, .greedy_sql = "SELECT length(hex(zeroblob(4000000)))"),
};
enum { WANTS = sizeof wants / sizeof *wants };

/* --- All of it ---------------------------------------------------------------------------- */

struct sums {
	unsigned injected, hit, survived;
};

static const struct want *next;

static void adjust(struct pp_config *config)
{
	if (next->waiting_max > 0)
		config->line_max = WAITING_MAX;
	if (next->greed == GREED_SOME)
		config->connection_bytes_max = CONNECTION_BYTES_MAX;
}

static void run_one(struct harness_run *run, const struct want *want, unsigned round,
                    struct sums *sums)
{
	const char *journal = harness_run_options(run)->journal_mode;
	bool ours = harness_run_target(run) == &target_poolproof, hit = false;
	struct harness_entropy entropy;
	char name[80];

	if ((want->ours_only && !ours) ||
	    !harness_case_begin(run, "%s, %s, round %u", want->name, journal, round))
		return;
	harness_entropy_init(&entropy, harness_run_options(run)->seed, (uint64_t)(want - wants),
	                     round);
	snprintf(name, sizeof name, "%s-%u", want->name, round);
	next = want;
	sums->injected++;
	sums->survived +=
		shortage_run(run, want, ours, &entropy,
	                     &(struct subject_options){
				     .name = name,
				     .journal = journal,
				     .patience_ns = PATIENCE_LATENESSES * harness_lateness_ns(),
				     .payload_bytes = want->payload_bytes,
				     .identity = ours ? target_poolproof_identity : NULL },
	                     &hit);
	sums->hit += hit;
	if (ours && !hit && want->greed != GREED_NONE)
		harness_case_fail(run, "nobody was refused: what there is has no bound");
	else if (ours && !hit)
		harness_distrust(run, "%s: nobody met the shortage", name);
	harness_case_end(run);
}

static void body(struct harness_run *run)
{
	struct sums sums;
	char name[96];

	signal(SIGXFSZ, SIG_IGN);
	sqlite3_initialize();
	if (!harness_fault_io())
		harness_cannot(run, "SQLite has no VFS \"unix\"; use one that has");
	target_poolproof_adjust = adjust;
	for (unsigned i = 0; i < WANTS; i++) {
		sums = (struct sums){ 0 };
		for (unsigned round = 0; round < rounds; round++)
			run_one(run, &wants[i], round, &sums);
		if (sums.injected == 0)
			continue;
		snprintf(name, sizeof name, "fault.%s.injected_count", wants[i].name);
		harness_number(run, name, sums.injected);
		snprintf(name, sizeof name, "fault.%s.hit_count", wants[i].name);
		harness_number(run, name, sums.hit);
		snprintf(name, sizeof name, "fault.%s.survived_count", wants[i].name);
		harness_number(run, name, sums.survived);
	}
}

static const struct harness_scenario scenario = {
	.name = "exhaustion",
	.question =
		"Does everybody get a clear error in time, and does everything work again, when "
		"something that a pool lives on runs out?",
	.load = "reads, writes and connections to be opened anew from --threads threads; --rounds "
		"times each shortage",
	.passes =
		"errors only in the shortage, in time and of the right kind, nothing lost, nothing "
		"left",
	.options = options,
	.option = option,
	.errors_fail = true,
	.body = body,
};

int main(int argc, char **argv)
{
	return harness_main(&scenario, targets_all, argc, argv);
}
