/* poolproof bench-page: the page of a benchmark's report.json. */
/* SPDX-License-Identifier: MIT */
#include "command.h"

#include <argp.h>

struct bench_options {
	const char *out, *file;
};

static error_t option(int key, char *value, struct argp_state *state)
{
	struct bench_options *o = state->input;

	if (key == 'o' && *value == '\0')
		argp_error(state, "--out: an empty name");
	else if (key == 'o')
		o->out = value;
	else if (key == ARGP_KEY_ARG && o->file == NULL)
		o->file = value;
	else if (key == ARGP_KEY_ARG)
		argp_error(state, "one REPORT.json only");
	else
		return ARGP_ERR_UNKNOWN;
	return 0;
}

static int write_page(struct report_arena *arena, const struct bench_options *o)
{
	struct report_output out = { 0 };
	const char *error = "";
	json_t *report = report_read_json(arena, o->file, JSON_REJECT_DUPLICATES, &error);
	int code = REPORT_PASS;

	if (report == NULL)
		return report_complain(REPORT_USAGE, "%s", error);
	if (json_integer_value(json_object_get(report, "format")) != 1 ||
	    !json_is_array(json_object_get(report, "tables"))) {
		json_decref(report);
		return report_complain(REPORT_USAGE, "%s is no report of a benchmark", o->file);
	}
	if (!report_output_open(arena, o->out, &out, &error)) {
		code = report_complain(REPORT_CANNOT, "%s", error);
	} else {
		report_write_bench(arena, out.stream, report);
		if (!report_output_close(arena, &out, &error))
			code = report_complain(REPORT_CANNOT, "%s", error);
		else
			printf("%s\n", o->out);
	}
	json_decref(report);
	return code;
}

int report_bench_main(int argc, char **argv, const char *folder)
{
	static const struct argp_option options[] = {
		{ "out", 'o', "FILE", 0, "Where to write (default index.html beside REPORT.json)",
		  0 },
		{ 0 }
	};
	static const struct argp argp = { .options = options,
		                          .parser = option,
		                          .args_doc = "[REPORT.json]",
		                          .doc = "Makes a page of what \"make bench\" measured "
		                                 "(default <build>/bench/report.json)." };
	struct report_arena arena = { 0 };
	struct bench_options o = { 0 };
	int code;

	if (argp_parse(&argp, argc, argv, 0, NULL, &o) != 0)
		return REPORT_USAGE;
	if (o.file == NULL)
		o.file = report_print(&arena, "%s/bench/report.json",
		                      report_build_folder(&arena, folder));
	if (o.out == NULL)
		o.out = report_print(&arena, "%.*sindex.html",
		                     (int)(report_basename(o.file) - o.file), o.file);
	code = write_page(&arena, &o);
	report_arena_done(&arena);
	return code;
}
