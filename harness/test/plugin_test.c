/* Targets that come from shared objects: found by name and by path, refused in one line. */
/* SPDX-License-Identifier: MIT */
#include "fake.h"

#include <dlfcn.h>
#include <limits.h>
#include <unistd.h>

static const struct fake nothing;

/* NAME in peers/ beside this program. */
static const char *beside(const char *name)
{
	static char path[PATH_MAX + 128];
	char self[PATH_MAX] = "";

	CHECK(readlink("/proc/self/exe", self, sizeof self - 1) > 0);
	*strrchr(self, '/') = '\0';
	snprintf(path, sizeof path, "%s/peers/%s", self, name);
	return path;
}

TEST_ROWS(plugin, is_driven_by_name_and_by_path, 2)
{
	CLEANUP(outcome_done)
	struct outcome o = scenario_run(&fake_scenario, nothing, "--target",
	                                row == 0 ? "tiny" : beside("tiny.so"), "--threads", "2",
	                                "--operations", "50", NULL);

	CHECK_STR(o.reasons, "");
	CHECK_INT(o.code, ==, 0);
	CHECK_CONTAINS(o.out, "PASS fake_scenario on tiny");
	CHECK_INT(outcome_number(&o, "operations_count"), ==, 100);
	CHECK_INT(outcome_number(&o, "tiny.pools_count"), ==, 1);
	CHECK_INT(outcome_number(&o, "heap.leaked_bytes"), ==, 0);
}

TEST(plugin, is_listed_where_it_is_there)
{
	CLEANUP(outcome_done)
	struct outcome list = scenario_run(&fake_scenario, nothing, "--list-targets", NULL);
	CLEANUP(outcome_done)
	struct outcome about = scenario_run(&fake_scenario, nothing, "--describe", NULL);

	CHECK_STR(list.out, "fake         does what the test says\n"
	                    "absent       is not built; it needs libabsent-dev\n"
	                    "other_format a plug-in beside this program\n"
	                    "tiny         a plug-in beside this program\n");
	CHECK_CONTAINS(about.out, "\"targets\":[\"fake\",\"other_format\",\"tiny\"]");
}

static void body_that_looks(struct harness_run *run)
{
	if (dlopen(beside("tiny.so"), RTLD_NOLOAD | RTLD_NOW) != NULL)
		harness_fail(run, "the plug-in is loaded, its names are %s",
		             dlsym(RTLD_DEFAULT, "harness_plugin") != NULL ? "seen" : "hidden");
	fake_scenario.body(run);
}

/* A run that drives something else has no such library in its memory. */
TEST_ROWS(plugin, is_not_loaded_unless_it_is_asked_for, 2)
{
	struct harness_scenario looking = fake_scenario;
	looking.body = body_that_looks;
	CLEANUP(outcome_done)
	struct outcome o = scenario_run(&looking, nothing, "--target", row == 0 ? "fake" : "tiny",
	                                "--operations", "5", NULL);

	CHECK_STR(o.reasons, row == 0 ? "" : "the plug-in is loaded, its names are seen\n");
}

static const char *some_library(void)
{
	Dl_info info;

	CHECK(dladdr((void *)(uintptr_t)json_loads, &info) != 0);
	return info.dli_fname;
}

static const struct {
	const char *target, *why;
} unusable[] = {
	{ "absent", "/peers/absent.so; install libabsent-dev and build again" },
	{ "./none.so", "there is no ./none.so; give the path of a plug-in" },
	/* A program is no shared object; the words in between are the linker's. */
	{ "/proc/self/exe", "); install what it needs" },
	{ NULL, " is no plug-in; end it with HARNESS_PLUGIN(target)" },
	{ "other_format",
	  " is made for format 3 of target.h, and this program has 2; build it again" },
};

TEST_ROWS(plugin, that_cannot_be_used_is_refused_in_one_line, sizeof unusable / sizeof *unusable)
{
	const char *target = unusable[row].target != NULL ? unusable[row].target : some_library();
	char begin[PATH_MAX], end[256];
	CLEANUP(outcome_done)
	struct outcome o = scenario_run(&fake_scenario, nothing, "--target", target, NULL);

	snprintf(begin, sizeof begin, "fake_scenario: --target %s: ", target);
	snprintf(end, sizeof end, "%s\n", unusable[row].why);
	CHECK_INT(o.code, ==, 4);
	CHECK_MSG(strncmp(o.error, begin, strlen(begin)) == 0, "%s", o.error);
	CHECK_MSG(strlen(o.error) > strlen(end) &&
	                  strcmp(o.error + strlen(o.error) - strlen(end), end) == 0,
	          "%s", o.error);
	CHECK(strchr(o.error, '\n') == o.error + strlen(o.error) - 1);
	CHECK_STR(o.out, "");
	CHECK(access(o.directory, F_OK) != 0);
}

TEST(target, says_in_setup_what_it_lacks)
{
	CLEANUP(outcome_done)
	struct outcome o = scenario_run(
		&fake_scenario, (struct fake){ .lacking = "no driver; install libfake-driver" },
		"--operations", "5", NULL);

	CHECK_INT(o.code, ==, 4);
	CHECK_STR(o.error, "fake_scenario: --target fake: no driver; install libfake-driver\n");
	CHECK(access(o.directory, F_OK) != 0);
}
