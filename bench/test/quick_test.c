/* The whole chain, measured in earnest for a moment: a row of each table. */
/* SPDX-License-Identifier: MIT */
#include "bench.h"

#include <limits.h>
#include <poolproof/harness/test.h>
#include <poolproof/harness/test_schema.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

struct quick {
	char folder[64];
	int code;
	json_t *report;
};

static void quick_close(struct quick *q)
{
	char command[128];

	json_decref(q->report);
	snprintf(command, sizeof command, "rm -rf %s", q->folder);
	CHECK(system(command) == 0);
}

/* The program lies beside this one. */
static int run(const char *folder, const char *options)
{
	char self[PATH_MAX] = "", command[2 * PATH_MAX];
	int status;

	CHECK(readlink("/proc/self/exe", self, sizeof self - 1) > 0);
	*strrchr(self, '/') = '\0';
	snprintf(command, sizeof command, "%s/poolproof-bench --folder %s %s >/dev/null 2>&1", self,
	         folder, options);
	status = system(command);
	CHECK(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static struct quick quick(const char *options)
{
	struct quick q = { .folder = "/tmp/poolproof-quick-XXXXXX" };
	char path[128];

	CHECK(mkdtemp(q.folder) != NULL);
	q.code = run(q.folder, options);
	snprintf(path, sizeof path, "%s/report.json", q.folder);
	q.report = json_load_file(path, 0, NULL);
	return q;
}

static const char *const rows[] = { "lending/wait-8", "writes/full-2", "reads/each-1",
	                            "statements/read", "growth/statements-10" };

TEST_ROWS(quick, measures_every_table, sizeof rows / sizeof *rows)
{
	char options[128], path[PATH_MAX];
	json_t *row_json, *schema;

	snprintf(options, sizeof options, "--quick --rows %s", rows[row]);
	{
		CLEANUP(quick_close) struct quick q = quick(options);

		CHECK_INT(q.code, ==, 3); /* Two rounds can prove nothing, and say so. */
		CHECK(q.report != NULL);
		snprintf(path, sizeof path, "%.*s../../reports/bench-1.schema.json",
		         (int)(strrchr(__FILE__, '/') + 1 - __FILE__), __FILE__);
		schema = json_load_file(path, 0, NULL);
		test_schema(schema, q.report, "report");
		json_decref(schema);
		row_json = json_array_get(
			json_object_get(json_array_get(json_object_get(q.report, "tables"), 0),
		                        "rows"),
			0);
		CHECK_STR(json_string_value(json_object_get(row_json, "name")), rows[row]);
		for (size_t i = 0; i < json_array_size(json_object_get(row_json, "contenders"));
		     i++) {
			json_t *c = json_array_get(json_object_get(row_json, "contenders"), i);

			CHECK(json_number_value(json_object_get(c, "value")) > 0);
		}
	}
}

TEST(quick, cannot_write_and_says_so)
{
	CHECK_INT(run("/proc", "--quick --rows lending/1"), ==, 4);
}

static const char *const nonsense[] = {
	"--rows nothing-like-it",           "--rounds 1", "--seconds x", "--one lending/none",
	"--one lending/1 --contender none", "surplus"
};

TEST_ROWS(quick, refuses_nonsense, sizeof nonsense / sizeof *nonsense)
{
	CLEANUP(quick_close) struct quick q = quick(nonsense[row]);

	CHECK_INT(q.code, ==, 2);
	CHECK(q.report == NULL);
}
