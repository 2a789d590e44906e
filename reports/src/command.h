/*
 * command.h - the command `poolproof`: what its subcommands share.
 *
 * folder is where the program lies: scenarios/ beside it, sibling variants beside that. It is a
 * parameter, not looked up, so that a test can put up a tree of its own.
 */
/* SPDX-License-Identifier: MIT */
#ifndef REPORT_COMMAND_H
#define REPORT_COMMAND_H

#include "gate.h"

/* The whole command; returns the exit code. */
int report_command(int argc, char **argv, const char *folder);

/* Each in a file of its own; argv[0] is "poolproof NAME". */
int report_list_main(int argc, char **argv, const char *folder);
int report_run_main(int argc, char **argv, const char *folder);
int report_gate_main(int argc, char **argv, const char *folder);
int report_report_main(int argc, char **argv, const char *folder);
int report_pack_main(int argc, char **argv, const char *folder);
int report_bench_main(int argc, char **argv, const char *folder);

extern const char *const report_variants[];
enum { REPORT_VARIANTS = 6 };

/* "poolproof: WORDS" on stderr; returns code. */
int report_complain(int code, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Where runs go by default: <build>/runs when folder is <build>/VARIANT, else ./runs. */
const char *report_build_folder(struct report_arena *arena, const char *folder);
/* Names of all scenarios built in any variant beside folder, sorted. */
size_t report_scenarios(struct report_arena *arena, const char *folder, const char ***ret_names);
/* SOURCE_DATE_EPOCH, else now: "2026-11-23T19:00:00Z". */
const char *report_time(struct report_arena *arena, const char *format);

/* What gate and report have in common: runs, gates, baselines, records. */
struct report_session {
	struct report_arena arena;
	struct report_inputs inputs;
	struct report_run *baselines;
	const char *ratchet_path; /* Next to the gate file; NULL without one. */
};
struct report_request {
	const char *folder;
	const char **runs, **baselines, **expressions;
	size_t run_count, baseline_count, expression_count;
	const char *gates; /* NULL: the default, where it exists. */
	bool need_gates;   /* No gate file at all is an error. */
	bool names;        /* Only names are asked for: a gate file may still be without a gate. */
	bool strict;
};
/* Reads everything that is named; complains and returns an exit code, or REPORT_PASS. */
int report_session_open(struct report_session *session, const struct report_request *request);
void report_session_close(struct report_session *session);

/* The forms in which a judgement leaves the program. */
json_t *report_results_json(struct report_arena *arena, const struct report_judgement *judgement);
void report_print_table(struct report_arena *arena, FILE *out,
                        const struct report_judgement *judgement, bool explain, bool colour);
void report_write_json(struct report_arena *arena, FILE *out, const struct report_inputs *inputs,
                       const struct report_judgement *judgement);
void report_write_junit(struct report_arena *arena, FILE *out, const struct report_inputs *inputs,
                        const struct report_judgement *judgement);
void report_write_page(struct report_arena *arena, FILE *out, const struct report_inputs *inputs,
                       const struct report_judgement *judgement);
/* What "make bench" measured (bench-1.schema.json). */
void report_write_bench(struct report_arena *arena, FILE *out, const json_t *report);
/* The command that repeats a run; "" where the run does not know. */
const char *report_repeat(struct report_arena *arena, const struct report_run *run);

#endif
