/* .ci/run and the recipe of `make gate`: no green by a verdict that is not this gate's, nor by a
 * doubt that is not the machine's. */
/* SPDX-License-Identifier: MIT */
#include "fixture.h"

#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define STOLEN "<error message=\"the machine stole 9.5 % of the time\">x</error>\n"

/* Of the source tree. */
static const char *root(struct fixture *f)
{
	return report_print(&f->arena, "%.*s../..", (int)(report_basename(__FILE__) - __FILE__),
	                    __FILE__);
}

static int shell(struct fixture *f, const char *command)
{
	int status = system(report_print(&f->arena, "(%s) >%s/.out 2>&1", command, f->folder));

	CHECK(WIFEXITED(status));
	f->out = (char *)fixture_read(f, ".out");
	return WEXITSTATUS(status);
}

/* .ci/run in a tree of its own, where `make gate` is the words given, and an earlier gate has left
 * a PASS and a doubt that is forgiven. */
static int ci_run(struct fixture *f, const char *gate)
{
	const char *make = fixture_write(
		f, "bin/make",
		report_print(&f->arena, "#!/bin/sh\n[ \"$1\" = gate ] || exit 0\n%s\n", gate));

	CHECK(chmod(make, 0755) == 0);
	fixture_write(f, "tree/build/gate/verdict", "0\n");
	fixture_write(f, "tree/build/report/junit.xml", STOLEN);
	fixture_write(f, "tree/.ci/x", "");
	return shell(f, report_print(&f->arena,
	                             "cp %s/.ci/run %s/tree/.ci/run && "
	                             "PATH=%s/bin:$PATH bash %s/tree/.ci/run",
	                             root(f), f->folder, f->folder, f->folder));
}

/* Under Valgrind every program of the scripts would run under it, and answer for its own leaks. */
static bool skipped(void)
{
	if (strcmp(PP_VARIANT, "valgrind") != 0)
		return false;
	puts("ci: skipped: what is tested are scripts, and variant=valgrind follows children");
	return true;
}

#define SAYS(verdict, errors)                                                   \
	"echo " verdict " >build/gate/verdict; cat >build/report/junit.xml <<'" \
	"END'\n<testsuite errors=\"1\">\n" errors "</testsuite>\nEND\n"

static const struct {
	const char *what, *gate;
	int code;
} gates[] = {
	{ "died before its verdict", "exit 2", 2 },
	{ "passed", SAYS("0", ""), 0 },
	{ "failed", SAYS("1", STOLEN) "exit 2", 1 },
	{ "could not run", SAYS("4", "") "exit 2", 4 },
	{ "passed, but make did not", SAYS("0", "") "exit 2", 2 },
	{ "found the disk full", ": >build/gate/verdict; exit 2", 2 },
	{ "doubts times", SAYS("3", STOLEN STOLEN) "exit 2", 0 },
	{ "doubts a run too",
	  SAYS("3", STOLEN "<error message=\"interrupted after 150 s\"></error>\n") "exit 2", 3 },
	{ "doubts a run that speaks of a theft",
	  SAYS("3", "<error message=\"lagged; the machine stole 9 %\"></error>\n") "exit 2", 3 },
	{ "judged nothing", SAYS("3", "") "exit 2", 3 },
	{ "has no report", "echo 3 >build/gate/verdict; exit 2", 3 },
};

TEST_ROWS(ci, is_green_for_this_gate_alone, sizeof gates / sizeof *gates)
{
	if (skipped())
		return;
	CLEANUP(fixture_close) struct fixture f = fixture_open();
	int code = ci_run(&f, gates[row].gate);

	CHECK_MSG(code == gates[row].code, "a gate that %s: exit %d\n%s", gates[row].what, code,
	          f.out);
}

static const struct {
	const char *verdict;
	int code;
} doubts[] = {
	{ NULL, 0 },
	{ "{\"result\":\"UNTRUSTWORTHY\",\"reasons\":[{\"text\":\"interrupted after 3 s\"}]}", 3 },
};

/* The words are those that the gate writes. */
TEST_ROWS(ci, forgives_what_the_gate_calls_stolen, sizeof doubts / sizeof *doubts)
{
	if (skipped())
		return;
	CLEANUP(fixture_close) struct fixture f = fixture_open();
	const char *run =
		fixture_run(&f, (struct fixture_run){ .verdict = doubts[row].verdict,
	                                              .numbers = "{\"operations_per_s\":500,"
	                                                         "\"machine.steal_percent\":30}" });
	const char *file = fixture_write(
		&f, "g", "[concurrent_load]\nfail throughput(operations) >= 600 /s\n");
	int code;

	CHECK_INT(fixture_command(&f, "gate", run, "-g", file, NULL), ==, REPORT_UNTRUSTWORTHY);
	CHECK_INT(
		fixture_command(&f, "report", run, "-g", file, "-o", fixture_path(&f, "out"), NULL),
		==, REPORT_PASS);
	code = ci_run(&f, report_print(&f.arena,
	                               "echo 3 >build/gate/verdict; cp %s/out/junit.xml "
	                               "build/report/; exit 2",
	                               f.folder));
	CHECK_MSG(code == doubts[row].code, "exit %d\n%s", code, f.out);
}

/* MAKE=false: the first build fails. */
TEST(ci, a_gate_that_dies_leaves_no_verdict)
{
	if (skipped())
		return;
	CLEANUP(fixture_close) struct fixture f = fixture_open();

	fixture_write(&f, "gate/verdict", "0\n");
	fixture_write(&f, "report/junit.xml", STOLEN);
	CHECK_INT(shell(&f, report_print(&f.arena,
	                                 "unset MAKEFLAGS MFLAGS MAKELEVEL; make -C %s -o setup "
	                                 "gate MAKE=false BUILD=%s",
	                                 root(&f), f.folder)),
	          ==, 2);
	CHECK_MSG(access(fixture_path(&f, "gate/verdict"), F_OK) != 0, "%s", f.out);
	CHECK(access(fixture_path(&f, "report/junit.xml"), F_OK) != 0);
}
