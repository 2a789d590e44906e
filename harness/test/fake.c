/*
 * fake.c - the fake target, and the processes its scenarios run in.
 */
/* SPDX-License-Identifier: MIT */
#include "fake.h"

#include <fcntl.h>
#include <ftw.h>
#include <stdarg.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <valgrind/valgrind.h>

struct fake_state {
	_Atomic uint64_t lends;
	_Atomic unsigned waiting;
	sem_t never; /* Never posted. */
};
static struct fake fake;
static void *volatile leaked;
static unsigned setups;

static const char *fake_setup(void)
{
	setups++;
	return fake.lacking;
}

/* Named, so that the test finds it in the stacks; static, as most functions are. */
static __attribute__((noinline)) void wait_for_ever(struct fake_state *state)
{
	atomic_fetch_add(&state->waiting, 1);
	while (sem_wait(&state->never) != 0)
		continue;
}

static void *sleeper(void *context)
{
	for (;;)
		pause();
	return context;
}

static bool fake_open(const struct harness_target_options *options, void **ret_target,
                      struct harness_failure *reterr_failure)
{
	struct fake_state *state = calloc(1, sizeof *state);
	pthread_t thread;

	(void)options, (void)reterr_failure;
	sem_init(&state->never, 0, 0);
	if (fake.leak_heap) {
		leaked = malloc(16);
		leaked = NULL;
	}
	if (fake.leak_fd)
		(void)!open("/dev/null", O_RDONLY | O_CLOEXEC);
	if (fake.leak_thread)
		pthread_create(&thread, NULL, sleeper, NULL);
	*ret_target = state;
	return true;
}

static void fake_close(void *target, struct harness_residue *ret_residue)
{
	struct fake_state *state = target;

	if (fake.hang_in_close)
		wait_for_ever(state);
	if (fake.leak_booked)
		*ret_residue = (struct harness_residue){ .bytes = 16, .text = "connection 3" };
	sem_destroy(&state->never);
	free(state);
}

static bool fake_lend(void *target, enum harness_access access, uint64_t timeout_ns,
                      struct harness_connection *ret_connection,
                      struct harness_failure *reterr_failure)
{
	struct fake_state *state = target;

	(void)access, (void)timeout_ns;
	if (atomic_fetch_add(&state->lends, 1) >= 20 && fake.hang_in_lend)
		wait_for_ever(state);
	if (fake.refuse) {
		reterr_failure->kind = HARNESS_FAILURE_OVERLOADED;
		strcpy(reterr_failure->text, "the line\nis \"full\" \xff");
		return false;
	}
	ret_connection->handle = target;
	return true;
}

static void fake_give_back(void *target, struct harness_connection *connection)
{
	(void)target;
	connection->handle = NULL;
}

/* The handler runs, and what it raises is not delivered. */
static void crash_and_exit(void)
{
	struct sigaction crash;
	sigset_t all;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, NULL);
	sigaction(SIGSEGV, NULL, &crash);
	crash.sa_handler(SIGSEGV);
	_exit(1);
}

static bool fake_query(struct harness_connection *connection, const char *sql,
                       const struct harness_value *args, unsigned arg_count, harness_row_fn *on_row,
                       void *context, struct harness_failure *reterr_failure)
{
	(void)connection, (void)sql, (void)args, (void)arg_count, (void)on_row, (void)context,
		(void)reterr_failure;
	if (fake.crash)
		raise(SIGSEGV);
	if (fake.crash_late)
		crash_and_exit();
	return true;
}

static bool fake_step(struct harness_connection *connection, struct harness_failure *reterr_failure)
{
	(void)connection, (void)reterr_failure;
	return true;
}

/* Twice, as a target may that met a busy database. */
static bool fake_transact(void *target, enum harness_access access, uint64_t timeout_ns,
                          harness_body_fn *body, void *context,
                          struct harness_failure *reterr_failure)
{
	struct harness_connection connection = { .handle = target };

	(void)access, (void)timeout_ns;
	return body(&connection, context, reterr_failure) &&
	       body(&connection, context, reterr_failure);
}

static void fake_gauges(void *target, struct harness_gauges *ret_gauges)
{
	struct fake_state *state = target;

	ret_gauges->connections = 3;
	ret_gauges->leased = 2;
	ret_gauges->waiting = atomic_load(&state->waiting);
}

static void fake_numbers(void *target, harness_number_fn *emit, void *context)
{
	struct fake_state *state = target;

	emit(context, "fake.lends_count", (double)state->lends);
	emit(context, "fake.setups_count", setups);
}

static unsigned fake_check(void *target, char *text, size_t text_size)
{
	(void)target;
	if (!fake.violate)
		return 0;
	snprintf(text, text_size, "leased_count is 2, the slots say 3");
	return 1;
}

const struct harness_target fake_target = {
	.name = "fake",
	.about = "does what the test says",
	.setup = fake_setup,
	.open = fake_open,
	.close = fake_close,
	.lend = fake_lend,
	.give_back = fake_give_back,
	.query = fake_query,
	.begin = fake_step,
	.commit = fake_step,
	.rollback = fake_step,
	.transact = fake_transact,
	.gauges = fake_gauges,
	.numbers = fake_numbers,
	.check = fake_check,
};

bool fake_operation(struct harness_worker *worker, void *context,
                    struct harness_failure *reterr_failure)
{
	struct harness_connection c = { 0 };
	bool ok;

	harness_choose(worker, harness_entropy_next(&worker->entropy));
	if (!harness_lend(worker, HARNESS_READ, &c, reterr_failure))
		return false;
	ok = harness_begin(worker, &c, reterr_failure) &&
	     harness_query(worker, &c, "SELECT 1", NULL, 0, NULL, context, reterr_failure) &&
	     harness_commit(worker, &c, reterr_failure);
	harness_give_back(worker, &c);
	return ok;
}

static void fake_body(struct harness_run *run)
{
	const struct harness_options *o = harness_run_options(run);
	struct harness_operation operations[] = { { "touch", 1, fake_operation, NULL } };
	char path[PATH_MAX];

	snprintf(path, sizeof path, "%s/fake.db", harness_run_work(run));
	if (!harness_target_open(run, path))
		return;
	harness_load_run(run,
	                 &(struct harness_load){ .phase = "load",
	                                         .threads = o->threads,
	                                         .seconds = o->seconds,
	                                         .operations_per_thread = o->operations_per_thread,
	                                         .rate_per_s = o->rate_per_s,
	                                         .poisson = o->poisson,
	                                         .operations = operations,
	                                         .operation_count = 1 });
	harness_target_close(run);
}

const struct harness_scenario fake_scenario = {
	.name = "fake_scenario",
	.question = "Does the harness notice?",
	.load = "A little.",
	.passes = "when nothing is planted.",
	.body = fake_body,
};

struct harness_scenario fake_with_body(void (*body)(struct harness_run *run))
{
	struct harness_scenario s = fake_scenario;

	s.body = body;
	return s;
}

/* Its functions would be in a plug-in that is not there. */
static const struct harness_target absent = { .name = "absent", .package = "libabsent-dev" };
static const struct harness_target *const targets[] = { &fake_target, &absent, NULL };

static void unlimit_files(void)
{
	setrlimit(RLIMIT_FSIZE, &(struct rlimit){ RLIM_INFINITY, RLIM_INFINITY });
}

/* Until exit(): coverage counters are written after its handlers, and would be cut. */
static void limit_files(long size)
{
	setrlimit(RLIMIT_FSIZE, &(struct rlimit){ (rlim_t)size, RLIM_INFINITY });
	atexit(unlimit_files);
}

/* What is planted is found by the harness; Memcheck's own record of it would be taken for a leak of
 * the tests. Its leak check on demand goes on. */
void fake_leaks_are_meant(void)
{
	VALGRIND_CLO_CHANGE("--leak-check=no");
}

static _Noreturn void run_here(const struct harness_scenario *scenario, struct outcome *o, int argc,
                               char **argv)
{
	if (freopen("out", "w", stdout) == NULL || freopen("error", "w", stderr) == NULL)
		exit(99);
	if (fake.leak_heap || fake.leak_thread || fake.crash || fake.crash_late)
		fake_leaks_are_meant();
	if (fake.file_size_max > 0)
		limit_files(fake.file_size_max);
	watch_limit_s = fake.watch_limit_s;
	watch_between_s = fake.watch_between_s;
	(void)o;
	exit(harness_main(scenario, targets, argc, argv));
}

static void read_text(const char *base, const char *file, char *text, size_t text_size)
{
	char path[1024];
	FILE *f;
	size_t size = 0;

	snprintf(path, sizeof path, "%s/%s", base, file);
	f = fopen(path, "r");
	if (f != NULL) {
		size = fread(text, 1, text_size - 1, f);
		fclose(f);
	}
	text[size] = '\0';
}

char *outcome_file(const struct outcome *o, const char *file)
{
	enum { SIZE = 4 << 20 };
	char *text = malloc(SIZE);

	read_text(o->directory, file, text, SIZE);
	return text;
}

static void read_outcome(struct outcome *o)
{
	char path[1024];
	json_t *reason;
	size_t i;

	read_text(o->base, "out", o->out, sizeof o->out);
	read_text(o->base, "error", o->error, sizeof o->error);
	snprintf(path, sizeof path, "%s/run.json", o->directory);
	o->json = json_load_file(path, 0, NULL);
	json_array_foreach(json_object_get(json_object_get(o->json, "verdict"), "reasons"), i,
	                   reason)
	{
		strcat(o->reasons, json_string_value(json_object_get(reason, "text")));
		strcat(o->reasons, "\n");
	}
}

struct outcome scenario_run(const struct harness_scenario *scenario, struct fake plan, ...)
{
	struct outcome o = { .code = -1 };
	char *argv[32] = { (char *)(uintptr_t)scenario->name, (char *)"--dir", o.directory };
	int argc = 3, status;
	va_list args;
	pid_t child;

	snprintf(o.base, sizeof o.base, "%s/poolproof-test-XXXXXX",
	         getenv("TMPDIR") != NULL ? getenv("TMPDIR") : "/tmp");
	CHECK(mkdtemp(o.base) != NULL);
	snprintf(o.directory, sizeof o.directory, "%s/run", o.base);
	va_start(args, plan);
	while ((argv[argc] = va_arg(args, char *)) != NULL)
		argc++;
	va_end(args);
	fake = plan;
	fflush(NULL);
	child = fork();
	if (child == 0) {
		if (chdir(o.base) != 0)
			exit(99);
		run_here(scenario, &o, argc, argv);
	}
	CHECK_INT(waitpid(child, &status, 0), ==, child);
	if (WIFEXITED(status))
		o.code = WEXITSTATUS(status);
	read_outcome(&o);
	return o;
}

static int remove_entry(const char *path, const struct stat *status, int type, struct FTW *ftw)
{
	(void)status, (void)type, (void)ftw;
	return remove(path);
}

void outcome_done(struct outcome *o)
{
	json_decref(o->json);
	nftw(o->base, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

double outcome_number(const struct outcome *o, const char *name)
{
	json_t *number = json_object_get(json_object_get(o->json, "numbers"), name);

	CHECK_MSG(json_is_number(number), "run.json has no number %s; errors: %s", name, o->error);
	return json_number_value(number);
}
