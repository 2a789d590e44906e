/* main.c - the command line of the benchmark. */
/* SPDX-License-Identifier: MIT */
#include "bench.h"

#include <argp.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum key { KEY_ONE = 0x100, KEY_CONTENDER, KEY_QUICK, KEY_JUDGE, KEY_LIST, KEY_SEED, KEY_ROUNDS };

struct options {
	struct bench_plan plan;
	const char *one, *contender, *judge;
	bool list;
};

static const struct argp_option options[] = {
	{ "rows", 'r', "WORD", 0, "Only rows whose name has WORD; --list tells them", 1 },
	{ "seconds", 's', "S", 0, "How long all of it may take, about (default 900)", 1 },
	{ "rounds", KEY_ROUNDS, "N", 0, "How often each is measured, 2..256 (default 14)", 1 },
	{ "quick", KEY_QUICK, NULL, 0, "Two rounds of a moment each: shows that all works", 1 },
	{ "seed", KEY_SEED, "N", 0, "For the intervals and the keys (default 1)", 1 },
	{ "folder", 'f', "DIR", 0, "Where the results go (default build/bench)", 1 },
	{ "list", KEY_LIST, NULL, 0, "List rows and contenders", 2 },
	{ "judge", KEY_JUDGE, "FILE", 0, "Judge the raw figures of an earlier run again", 2 },
	{ "one", KEY_ONE, "ROW", 0, "One measurement of --contender; a line of JSON", 2 },
	{ "contender", KEY_CONTENDER, "NAME", 0, "Whose (default: ours)", 2 },
	{ 0 },
};

static double number(struct argp_state *state, const char *what, const char *text, double low,
                     double high)
{
	char *end;
	double value = strtod(text, &end);

	if (*text == '\0' || *end != '\0' || !(value >= low && value <= high))
		argp_error(state, "%s %s: want a number from %g to %g", what, text, low, high);
	return value;
}

static error_t option(int key, char *value, struct argp_state *state)
{
	struct options *o = state->input;

	switch (key) {
	case 'r':
		o->plan.rows = *value != '\0' ? value : NULL;
		return 0;
	case 's':
		o->plan.seconds = number(state, "--seconds", value, 0.001, 1e6);
		return 0;
	case 'f':
		o->plan.folder = value;
		return 0;
	case KEY_ROUNDS:
		o->plan.rounds = (unsigned)number(state, "--rounds", value, 2, 256);
		return 0;
	case KEY_SEED:
		o->plan.seed = (uint64_t)number(state, "--seed", value, 0, 1e15);
		return 0;
	case KEY_QUICK:
		o->plan.rounds = 2;
		o->plan.seconds = 1;
		return 0;
	case KEY_LIST:
		o->list = true;
		return 0;
	case KEY_JUDGE:
		o->judge = value;
		return 0;
	case KEY_ONE:
		o->one = value;
		return 0;
	case KEY_CONTENDER:
		o->contender = value;
		return 0;
	case ARGP_KEY_ARG:
		argp_error(state, "what is \"%s\"? --help tells the options", value);
	}
	return ARGP_ERR_UNKNOWN;
}

static int list(void)
{
	for (unsigned t = 0; bench_tables[t] != NULL; t++)
		for (unsigned r = 0; r < bench_tables[t]->row_count; r++) {
			const struct bench_row *row = &bench_tables[t]->rows[r];

			printf("%-24s %s\n%24s", row->name, row->about, "");
			for (unsigned c = 0; row->contenders[c].name != NULL; c++)
				printf(" %s", row->contenders[c].name);
			printf("\n");
		}
	return 0;
}

/* --- One measurement --------------------------------------------------------------------- */

static int measure_one(const struct options *o)
{
	struct bench_measurement m = { .seconds = o->plan.seconds, .seed = o->plan.seed };
	const struct bench_table *table = NULL;
	char folder[PATH_MAX];
	unsigned contender;

	m.row = bench_row_find(o->one, &table);
	if (m.row == NULL)
		return bench_complain(2, "no row \"%s\"; --list tells them", o->one);
	contender = o->contender == NULL ? 0 : bench_contender_find(m.row, o->contender);
	if (contender == bench_contender_count(m.row))
		return bench_complain(2, "%s has no contender \"%s\"", m.row->name, o->contender);
	m.contender = &m.row->contenders[contender];
	/* libzdb wants the whole path. */
	if (realpath(o->plan.folder, folder) == NULL || strlen(folder) >= sizeof m.folder)
		return bench_complain(4, "%s: no such folder", o->plan.folder);
	strcpy(m.folder, folder);
	m.figures = json_object();
	alarm(120 + (unsigned)(3 * m.seconds));
	table->measure(&m);
	json_dumpf(m.figures, stdout, JSON_COMPACT | JSON_REAL_PRECISION(12));
	printf("\n");
	fflush(stdout);
	_exit(0); /* What is still open goes with the process. */
}

/* --- All of them ------------------------------------------------------------------------- */

static int judge(const struct options *o, const char *raw)
{
	struct bench_evidence *evidence = bench_evidence_read(raw);
	char path[PATH_MAX], fresh[PATH_MAX + 8];
	json_t *report;
	int code;

	if (evidence == NULL)
		return 4;
	report = bench_report(evidence);
	bench_evidence_free(evidence);
	snprintf(path, sizeof path, "%s/report.json", o->plan.folder);
	snprintf(fresh, sizeof fresh, "%s.new", path);
	code = (int)json_integer_value(json_object_get(json_object_get(report, "verdict"), "exit"));
	if (json_dump_file(report, fresh, JSON_INDENT(1) | JSON_REAL_PRECISION(9)) != 0 ||
	    rename(fresh, path) != 0)
		code = bench_complain(4, "%s cannot be written", path);
	else
		bench_print(stdout, report);
	json_decref(report);
	return code;
}

int main(int argc, char **argv)
{
	static const struct argp argp = {
		.options = options,
		.parser = option,
		.doc = "Measures the pool beside its peers: interleaved rounds, a process for each "
		       "measurement, medians with their intervals.\v"
		       "Exit codes: 0 all goals met, 1 a goal missed, 2 bad usage, 3 "
		       "UNTRUSTWORTHY, 4 could not run."
	};
	struct options o = { .plan = { .folder = "build/bench",
		                       .rounds = BENCH_ROUNDS,
		                       .seconds = 900,
		                       .seed = 1 } };
	char programs[PATH_MAX] = "", raw[PATH_MAX];
	int code;

	argp_err_exit_status = 2;
	argp_parse(&argp, argc, argv, 0, NULL, &o);
	if (o.list)
		return list();
	if (o.one != NULL)
		return measure_one(&o);
	if (o.judge != NULL)
		return judge(&o, o.judge);
	/* BUILD/VARIANT/poolproof-bench: two folders up. */
	if (readlink("/proc/self/exe", programs, sizeof programs - 1) < 0)
		return bench_complain(4, "/proc/self/exe cannot be read; is /proc mounted?");
	*strrchr(programs, '/') = '\0';
	*strrchr(programs, '/') = '\0';
	o.plan.programs = programs;
	code = bench_rounds(&o.plan);
	if (code != 0)
		return code;
	snprintf(raw, sizeof raw, "%s/raw.jsonl", o.plan.folder);
	return judge(&o, raw);
}
