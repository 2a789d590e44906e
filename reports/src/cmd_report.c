/* poolproof report and pack-coverage: write files, each whole or not at all. */
/* SPDX-License-Identifier: MIT */
#include "command.h"

#include <argp.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct report_options {
	struct report_session session;
	struct report_request request;
	const char *out;
};

static error_t report_option(int key, char *value, struct argp_state *state)
{
	struct report_options *o = state->input;
	struct report_request *q = &o->request;

	switch (key) {
	case 'o':
		if (*value == '\0')
			argp_error(state, "--out: an empty name");
		o->out = value;
		return 0;
	case 'g':
		q->gates = value;
		return 0;
	case 'b':
		q->baselines = report_grow(&o->session.arena, q->baselines, q->baseline_count,
		                           sizeof *q->baselines);
		q->baselines[q->baseline_count++] = value;
		return 0;
	case ARGP_KEY_ARG:
		q->runs = report_grow(&o->session.arena, q->runs, q->run_count, sizeof *q->runs);
		q->runs[q->run_count++] = value;
		return 0;
	}
	return ARGP_ERR_UNKNOWN;
}

typedef void writer(struct report_arena *arena, FILE *out, const struct report_inputs *inputs,
                    const struct report_judgement *judgement);

static const struct {
	const char *name;
	writer *write;
} files[] = { { "report.json", report_write_json },
	      { "junit.xml", report_write_junit },
	      { "index.html", report_write_page } };
enum { FILES = sizeof files / sizeof *files };

/* All or none: what is there from before stays, whole, until all three are on the disk. */
static bool write_files(struct report_session *s, const char *folder,
                        const struct report_judgement *judgement, const char **reterr_text)
{
	struct report_output outs[FILES] = { 0 };
	bool written = true;

	for (int i = 0; i < FILES && written; i++) {
		const char *path = report_print(&s->arena, "%s/%s", folder, files[i].name);

		written = report_output_open(&s->arena, path, &outs[i], reterr_text);
		if (!written)
			break;
		files[i].write(&s->arena, outs[i].stream, &s->inputs, judgement);
		written = report_output_finish(&s->arena, &outs[i], reterr_text);
	}
	for (int i = 0; i < FILES && written; i++)
		written = report_output_keep(&s->arena, &outs[i], reterr_text);
	for (int i = 0; i < FILES; i++)
		report_output_drop(&outs[i]);
	return written;
}

static int write_all(struct report_options *o)
{
	struct report_session *s = &o->session;
	struct report_judgement judgement;
	const char *error, *folder = o->out;

	if (folder == NULL)
		folder = report_print(&s->arena, "%s/report",
		                      report_build_folder(&s->arena, o->request.folder));
	if (!report_judge(&s->arena, &s->inputs, &judgement, &error))
		return report_complain(REPORT_USAGE, "%s", error);
	if (!report_make_folder(&s->arena, folder, &error) ||
	    !write_files(s, folder, &judgement, &error))
		return report_complain(REPORT_CANNOT, "%s", error);
	for (int i = 0; i < FILES; i++)
		printf("%s/%s\n", folder, files[i].name);
	return REPORT_PASS;
}

int report_report_main(int argc, char **argv, const char *folder)
{
	static const struct argp_option options[] = {
		{ "out", 'o', "DIR", 0, "Where to write (default <build>/report)", 0 },
		{ "gates", 'g', "FILE", 0, "The gate file (default ci/gates.conf, if there)", 0 },
		{ "baseline", 'b', "RUN", 0, "A run that \"baseline\" stands for", 0 },
		{ 0 }
	};
	static const struct argp argp = {
		.options = options,
		.parser = report_option,
		.args_doc = "[RUN...]",
		.doc = "Writes index.html, report.json and junit.xml of runs.\v"
		       "The exit code says whether they were written, not what the verdict is: "
		       "that is what \"poolproof gate\" is for. Without RUN: the newest run of "
		       "each "
		       "scenario, variant, target and tool."
	};
	struct report_options o = { .request = { .folder = folder } };
	int code;

	if (argp_parse(&argp, argc, argv, 0, NULL, &o) != 0)
		return REPORT_USAGE;
	code = report_session_open(&o.session, &o.request);
	if (code == REPORT_PASS)
		code = write_all(&o);
	report_session_close(&o.session);
	return code;
}

struct pack_options {
	const char *dir, *file;
	const char *failed; /* What failed while it was measured; NULL: nothing. */
};

static error_t pack_option(int key, char *value, struct argp_state *state)
{
	struct pack_options *o = state->input;

	if (key == 'd' && *value == '\0')
		argp_error(state, "--dir: an empty name");
	else if (key == 'd')
		o->dir = value;
	else if (key == 'f')
		o->failed = value;
	else if (key == ARGP_KEY_ARG && o->file == NULL)
		o->file = value;
	else if (key == ARGP_KEY_ARG)
		argp_error(state, "one GCOVR.json only");
	else if (key == ARGP_KEY_END && (o->file == NULL || o->dir == NULL))
		argp_error(state, "--dir DIR and GCOVR.json are needed");
	else
		return ARGP_ERR_UNKNOWN;
	return 0;
}

static json_t *pack_verdict(bool data, const char *failed)
{
	if (failed != NULL)
		return json_pack("{s:s s:[{s:s s:s}]}", "result", "FAIL", "reasons", "result",
		                 "FAIL", "text", failed);
	if (!data)
		return json_pack("{s:s s:[{s:s s:s}]}", "result", "UNTRUSTWORTHY", "reasons",
		                 "result", "UNTRUSTWORTHY", "text",
		                 "no data: gcovr found no line of code");
	return json_pack("{s:s s:[]}", "result", "PASS", "reasons");
}

static json_t *pack_run(struct report_arena *arena, const struct report_coverage *coverage,
                        const char *failed)
{
	json_t *numbers = json_object();
	bool data = true;

	for (int m = 0; m < REPORT_MEASURES; m++) {
		struct report_ratio r = report_coverage_sum(coverage, NULL, (enum report_measure)m);
		const char *name = report_print(arena, "coverage.%s", report_measures[m]);

		json_object_set_new(numbers, report_print(arena, "%s.covered_count", name),
		                    json_integer((json_int_t)r.covered));
		json_object_set_new(numbers, report_print(arena, "%s.total_count", name),
		                    json_integer((json_int_t)r.total));
		if (r.total > 0)
			json_object_set_new(
				numbers, report_print(arena, "%s_percent", name),
				json_real(floor(10000 * (double)r.covered / (double)r.total) /
			                  100));
		data = data && (m != REPORT_LINES || r.total > 0);
	}
	return json_pack("{s:i s:s s:s s:s s:s s:s s:{s:s s:s} s:o s:o}", "format", 1, "scenario",
	                 "coverage", "variant", "coverage", "under", "none", "target", "",
	                 "started", report_time(arena, "%Y-%m-%dT%H:%M:%SZ"), "versions",
	                 "poolproof", PP_VERSION, "coverage", "gcovr JSON", "verdict",
	                 pack_verdict(data, failed), "numbers", numbers);
}

/* run.json comes last: without it the directory is no run. */
static int pack(struct report_arena *arena, const struct pack_options *o)
{
	const char *error, *name;
	struct report_coverage coverage;
	struct report_output out = { 0 };
	json_t *run;
	size_t size;
	char *text;

	if (!report_coverage_read(arena, o->file, &coverage, &error) ||
	    !report_read(arena, o->file, &text, &size, &error))
		return report_complain(REPORT_USAGE, "%s", error);
	name = report_print(arena, "%s/coverage.json", o->dir);
	if (!report_make_folder(arena, o->dir, &error) ||
	    !report_output_open(arena, name, &out, &error))
		return report_complain(REPORT_CANNOT, "%s", error);
	fwrite(text, 1, size, out.stream);
	if (!report_output_close(arena, &out, &error) ||
	    !report_output_open(arena, report_print(arena, "%s/run.json", o->dir), &out, &error))
		return report_complain(REPORT_CANNOT, "%s", error);
	run = pack_run(arena, &coverage, o->failed);
	json_dumpf(run, out.stream, JSON_INDENT(2) | JSON_REAL_PRECISION(12));
	fputc('\n', out.stream);
	json_decref(run);
	if (!report_output_close(arena, &out, &error))
		return report_complain(REPORT_CANNOT, "%s", error);
	return REPORT_PASS;
}

int report_pack_main(int argc, char **argv, const char *folder)
{
	static const struct argp_option options[] = {
		{ "dir", 'd', "DIR", 0, "The run directory to make", 0 },
		{ "failed", 'f', "WORDS", 0, "Its verdict is FAIL, for this reason", 0 },
		{ 0 }
	};
	static const struct argp argp = { .options = options,
		                          .parser = pack_option,
		                          .args_doc = "GCOVR.json",
		                          .doc = "Makes a run directory of what \"gcovr --json\" "
		                                 "wrote, so that it can be judged and shown." };
	struct pack_options o = { 0 };
	struct report_arena arena = { 0 };
	int code;

	(void)folder;
	if (argp_parse(&argp, argc, argv, 0, NULL, &o) != 0)
		return REPORT_USAGE;
	code = pack(&arena, &o);
	report_arena_done(&arena);
	return code;
}
