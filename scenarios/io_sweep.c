/*
 * io_sweep - one system call after the other fails.
 *
 * Question   What if any one system call fails?
 * Load       Sequences of calls of the pool that reach the file, each again and again on a fresh
 *            database: the first system call of SQLite's unix VFS fails with EIO, then the second,
 *            ... until there is none left; and so with ENOSPC where something is made or written,
 *            EMFILE where something is opened, EINTR once and three times, transfers cut short,
 *            refused locks; each once, and (but for EINTR) from then on; then pairs, all or drawn
 *            from the seed, the second of which meets what comes after the first. In WAL and in
 *            DELETE mode, with one thread and in virtual time.
 * Passes     when each call succeeds or fails for a reason that fits, the pool serves again (it is
 *            counted what that took), each write is there whole or not at all, what was
 *            acknowledged is there, the file is sound, and nothing is left.
 *
 * On another target (--target raw): nothing crashes, it serves afterwards, writes are whole.
 */
/* SPDX-License-Identifier: MIT */
#include "targets/targets.h"
#include "workloads/sweep.h"

#include <poolproof/harness/run.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* What fails how. A transfer that is cut short is no failure, and nobody notices. */
static const struct kind {
	const char *name, *place;
	enum harness_fault_action action;
	int error;
	uint64_t times[2]; /* 0: no more. */
} kinds[] = {
	{ "EIO", "io.*", HARNESS_FAULT_FAIL, EIO, { 1, UINT64_MAX } },
	{ "ENOSPC", "io.open", HARNESS_FAULT_FAIL, ENOSPC, { 1, UINT64_MAX } },
	{ "ENOSPC", "io.write", HARNESS_FAULT_FAIL, ENOSPC, { 1, UINT64_MAX } },
	{ "ENOSPC", "io.pwrite64", HARNESS_FAULT_FAIL, ENOSPC, { 1, UINT64_MAX } },
	{ "ENOSPC", "io.fallocate", HARNESS_FAULT_FAIL, ENOSPC, { 1, UINT64_MAX } },
	{ "EMFILE", "io.open", HARNESS_FAULT_FAIL, EMFILE, { 1, UINT64_MAX } },
	{ "EINTR", "io.*", HARNESS_FAULT_FAIL, EINTR, { 1, 3 } },
	{ "short", "io.pread64", HARNESS_FAULT_SHORT, 0, { 1, UINT64_MAX } },
	{ "short", "io.pwrite64", HARNESS_FAULT_SHORT, 0, { 1, UINT64_MAX } },
	{ "EAGAIN", "io.fcntl", HARNESS_FAULT_FAIL, EAGAIN, { 1, UINT64_MAX } },
	{ "EACCES", "io.fcntl", HARNESS_FAULT_FAIL, EACCES, { 1, UINT64_MAX } },
};
enum { KINDS = sizeof kinds / sizeof *kinds };

static const char *const io_places[] = { "io.*",         "io.open",    "io.write", "io.pwrite64",
	                                 "io.fallocate", "io.pread64", "io.fcntl" };
enum { PLACES = sizeof io_places / sizeof *io_places };

/* --- What may come of it ------------------------------------------------------------------ */

/* A page that cannot be read for EIO is a damaged one to SQLite (SQLITE_IOERR_CORRUPTFS). */
static bool code_fits(int code)
{
	switch (code & 0xff) {
	case SQLITE_CORRUPT:
	case SQLITE_IOERR:
	case SQLITE_CANTOPEN:
	case SQLITE_FULL:
	case SQLITE_BUSY:
	case SQLITE_PROTOCOL:
	case SQLITE_READONLY:
		return true;
	default:
		return false;
	}
}

static bool is_cut_short_only(const struct trial *t)
{
	for (unsigned i = 0; i < t->fault_count; i++)
		if (t->faults[i].action != HARNESS_FAULT_SHORT)
			return false;
	return true;
}

static bool allows(const struct trial *t, enum pp_status status, enum pp_status expected)
{
	(void)expected;
	if (is_cut_short_only(t))
		return false;
	switch (status) {
	case PP_SQLITE:
		return code_fits(t->error.sqlite_code);
	case PP_NOMEM: /* mmap() and its like: the kernel has none. */
		return t->error.sqlite_code == SQLITE_IOERR_NOMEM;
	case PP_ROLLED_BACK:
	case PP_TIMEOUT:
	case PP_FILE_CHANGED:
		return true;
	default:
		return false;
	}
}

/* Where a lock could not be given up, SQLite's table of locks says that it is still had, as long as
 * any connection to the file is open. */
static enum trial_recovery patience(const struct trial *t)
{
	for (unsigned i = 0; i < t->fault_count; i++) {
		const struct harness_fault *f = &t->faults[i];

		if (f->hit != NULL && (f->hits > 1 || strcmp(f->hit, "io.fcntl") == 0))
			return TRIAL_REOPENED;
	}
	return TRIAL_KEPT;
}

static const struct trial_law law = { .allows = allows, .late = true, .patience = patience };

/* --- The sweep ---------------------------------------------------------------------------- */

static const char *often(uint64_t times)
{
	return times == 1 ? "once" : times == 3 ? "three times" : "lasting";
}

static bool is_wanted(uint64_t times)
{
	unsigned mode = times == 1 ? SWEEP_ONCE : SWEEP_LASTING;

	return times != 0 && (sweep_options.modes & mode) != 0;
}

static void every_one(const struct kind *kind, uint64_t places, uint64_t times)
{
	char what[80];

	for (uint64_t n = 0; n < places; n += sweep_options.stride) {
		struct harness_fault fault = { .place = kind->place,
			                       .action = kind->action,
			                       .error = kind->error,
			                       .skip = n,
			                       .times = times };

		snprintf(what, sizeof what, "%s, %s, %s %llu", often(times), kind->name,
		         kind->place, (unsigned long long)n);
		sweep_one(&fault, what);
	}
}

static unsigned place_of(const struct kind *kind)
{
	unsigned i = 0;

	while (strcmp(io_places[i], kind->place) != 0)
		i++;
	return i;
}

static void every_kind(const uint64_t visits[])
{
	for (unsigned i = 0; i < KINDS; i++)
		for (unsigned j = 0; j < 2; j++)
			if (is_wanted(kinds[i].times[j]))
				every_one(&kinds[i], visits[place_of(&kinds[i])],
				          kinds[i].times[j]);
}

static const struct sweep_pairs pairs = { .place = "io.*",
	                                  .errors = { EIO, ENOSPC, EINTR, EAGAIN },
	                                  .error_count = 4 };

static void install(struct harness_run *run)
{
	if (!harness_fault_heap() || sqlite3_initialize() != SQLITE_OK || !harness_fault_io())
		harness_cannot(run,
		               "SQLite's system calls cannot be replaced; does it have its VFS "
		               "\"unix\"?");
	for (unsigned i = 1; i < PLACES; i++) /* What this SQLite does not call is not visited. */
		harness_fault_place(io_places[i]);
}

static void body(struct harness_run *run)
{
	uint64_t visits[PLACES];

	install(run);
	sweep_begin(run, &law, SEQUENCE_IO, &pairs);
	while (sweep_next()) {
		sweep_visits(io_places, PLACES, visits);
		every_kind(visits);
		sweep_pairs(visits[0]);
	}
	sweep_end();
}

static const struct harness_scenario scenario = {
	.name = "io_sweep",
	.question = "What if any one system call fails?",
	.load = "sequences that reach the file, each system call failing in turn: EIO, ENOSPC, "
		"EMFILE, EINTR, cut short, locks refused; once, from then on, in pairs",
	.passes = "each call succeeds or says why not, the pool serves again, every write is whole "
		  "or not there, the file is sound, nothing is left",
	.options = sweep_argp,
	.option = sweep_option,
	.body = body,
};

int main(int argc, char **argv)
{
	return harness_main(&scenario, targets_all, argc, argv);
}
