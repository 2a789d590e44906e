/*
 * rounds.c - who is measured when.
 *
 * Rounds are outermost, so that each row is spread over the whole run and what changes in minutes
 * is in its intervals; in a row all contenders follow each other, so that what changes in seconds
 * cancels. A row whose control does not hold is measured again, all its rounds, once: of many
 * rows one may be unlucky.
 */
/* SPDX-License-Identifier: MIT */
#include "bench.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <poolproof/harness/machine.h>
#include <poolproof/harness/stat.h>

/* At least so long is measured, however little time is left. */
#define SHORTEST_S 0.01

struct rounds {
	const struct bench_plan *plan;
	FILE *raw;
	char work[PATH_MAX]; /* Emptied after each measurement. */
	unsigned take;       /* 1: what is measured again. */
	uint64_t start_ns;

	/* How time is shared out; anew before each round, so that all take what was asked for, and
	 * the same for everybody within a round. */
	double weights; /* Of all that is measured in a round. */
	double unit_s;  /* Of weight 1, what goes before and after included. */
	/* Starting and ending a process, opening what it measures: of the last round. */
	double overhead_s;
	double measured_s; /* In this round, growing warm included. */
	unsigned measured; /* ... and how often. */
};

static int remove_one(const char *path, const struct stat *s, int type, struct FTW *where)
{
	(void)s, (void)type, (void)where;
	return remove(path);
}

static bool empty(const char *folder)
{
	nftw(folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	if (mkdir(folder, 0755) == 0)
		return true;
	bench_complain(4, "%s: %s", folder, strerror(errno));
	return false;
}

static double weight(const struct bench_row *row)
{
	return row->weight > 0 ? row->weight : 1;
}

static bool is_wanted(const struct bench_plan *plan, const struct bench_row *row)
{
	return plan->rows == NULL || strstr(row->name, plan->rows) != NULL;
}

/* --- A child ----------------------------------------------------------------------------- */

static void become(const struct rounds *r, const struct bench_row *row,
                   const struct bench_contender *contender, double seconds, unsigned round)
{
	const char *variant = contender->variant != NULL ? contender->variant : PP_VARIANT;
	char program[PATH_MAX + 64], seconds_text[32], seed[32];

	snprintf(program, sizeof program, "%s/%s/poolproof-bench", r->plan->programs, variant);
	snprintf(seconds_text, sizeof seconds_text, "%.4f", seconds);
	snprintf(seed, sizeof seed, "%llu", (unsigned long long)(r->plan->seed + round));
	execl(program, program, "--one", row->name, "--contender", contender->name, "--seconds",
	      seconds_text, "--seed", seed, "--folder", r->work, (char *)NULL);
	bench_complain(4, "%s: %s; make VARIANT=%s bench-program builds it", program,
	               strerror(errno), variant);
	_exit(4);
}

/* The child's line, or NULL and in words why there is none. */
static json_t *line_of(int fd, pid_t child, char *why, size_t why_size)
{
	FILE *in = fdopen(fd, "r");
	json_t *figures = in != NULL ? json_loadf(in, 0, NULL) : NULL;
	int status = 0;

	if (in != NULL)
		fclose(in);
	while (waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	if (WIFSIGNALED(status))
		snprintf(why, why_size, "%s",
		         WTERMSIG(status) == SIGALRM ? "did not end" : strsignal(WTERMSIG(status)));
	else if (WEXITSTATUS(status) != 0 || figures == NULL)
		snprintf(why, why_size, "exit code %d", WEXITSTATUS(status));
	else
		return figures;
	json_decref(figures);
	return NULL;
}

static json_t *measure(struct rounds *r, const struct bench_row *row,
                       const struct bench_contender *contender, unsigned round, char *why,
                       size_t why_size)
{
	double seconds = (weight(row) * r->unit_s - r->overhead_s) / 1.1;
	int ends[2];
	pid_t child;

	seconds = seconds > SHORTEST_S ? seconds : SHORTEST_S;
	r->measured_s += 1.1 * seconds;
	r->measured++;
	if (pipe2(ends, O_CLOEXEC) != 0 || (child = fork()) < 0) {
		snprintf(why, why_size, "%s", strerror(errno));
		return NULL;
	}
	if (child == 0) {
		dup2(ends[1], STDOUT_FILENO);
		become(r, row, contender, seconds, round);
	}
	close(ends[1]);
	return line_of(ends[0], child, why, why_size);
}

/* --- A round ----------------------------------------------------------------------------- */

/* false: ours failed, or the line could not be written. */
static bool measure_row(struct rounds *r, const struct bench_row *row, unsigned round)
{
	unsigned count = bench_contender_count(row), order[BENCH_CONTENDERS_MAX + 1];

	harness_abba(round, count + 1, order); /* The last is ours, again. */
	for (unsigned i = 0; i <= count; i++) {
		const struct bench_contender *c = &row->contenders[order[i] % count];
		char why[256] = "";
		json_t *figures = measure(r, row, c, round, why, sizeof why);
		json_t *line = json_pack("{s:s, s:s, s:i, s:i, s:i}", "row", row->name, "contender",
		                         order[i] == count ? BENCH_AGAIN : c->name, "round",
		                         (int)round, "place", (int)i, "take", (int)r->take);

		if (figures != NULL)
			json_object_set_new(line, "figures", figures);
		else
			json_object_set_new(line, "failed", json_string(why));
		json_dumpf(line, r->raw, JSON_COMPACT | JSON_REAL_PRECISION(12));
		json_decref(line);
		if (!empty(r->work))
			return false;
		if (fputc('\n', r->raw) == EOF || fflush(r->raw) != 0)
			return bench_complain(0, "raw.jsonl: %s", strerror(errno));
		if (figures == NULL)
			bench_complain(0, "%s, %s: %s", row->name, c->name, why);
		if (figures == NULL && c->kind == BENCH_OURS)
			return false;
	}
	return true;
}

static double elapsed_s(const struct rounds *r)
{
	return (double)(bench_now_ns() - r->start_ns) / 1e9;
}

/* Before a round: what is left is for it and those after it. */
static void share_out(struct rounds *r, unsigned round)
{
	double left = r->plan->seconds - elapsed_s(r);

	r->unit_s = left / (r->plan->rounds - round) / r->weights;
	r->measured_s = 0;
	r->measured = 0;
}

static void book_overhead(struct rounds *r, double took_s)
{
	if (r->measured > 0)
		r->overhead_s = (took_s - r->measured_s) / r->measured;
}

/* Rows that are wanted; of the second take, those whose control did not hold in the first. */
static bool measure_rows(struct rounds *r, const struct bench_evidence *doubts)
{
	for (unsigned round = 0; round < r->plan->rounds; round++) {
		double begin = elapsed_s(r);

		if (doubts == NULL) {
			fprintf(stderr, "bench: round %u of %u after %.0f s\n", round + 1,
			        r->plan->rounds, begin);
			share_out(r, round);
		}
		for (unsigned t = 0; bench_tables[t] != NULL; t++)
			for (unsigned i = 0; i < bench_tables[t]->row_count; i++) {
				const struct bench_row *row = &bench_tables[t]->rows[i];

				if (is_wanted(r->plan, row) &&
				    (doubts == NULL || bench_is_doubtful(doubts, row)) &&
				    !measure_row(r, row, round))
					return false;
			}
		if (doubts == NULL)
			book_overhead(r, elapsed_s(r) - begin);
	}
	return true;
}

static bool measure_doubtful_again(struct rounds *r, const char *path)
{
	struct bench_evidence *evidence = bench_evidence_read(path);
	bool well = evidence != NULL;

	r->take = 1;
	if (well)
		well = measure_rows(r, evidence);
	bench_evidence_free(evidence);
	return well;
}

/* --- All of it --------------------------------------------------------------------------- */

static void say_line(FILE *raw, json_t *line)
{
	json_dumpf(line, raw, JSON_COMPACT | JSON_REAL_PRECISION(12));
	fputc('\n', raw);
	fflush(raw);
	json_decref(line);
}

static bool open_all(struct rounds *r, char *path, size_t path_size)
{
	char started[32];
	time_t now = time(NULL);
	struct tm tm;

	snprintf(path, path_size, "%s/raw.jsonl", r->plan->folder);
	snprintf(r->work, sizeof r->work, "%s/db", r->plan->folder);
	if (mkdir(r->plan->folder, 0755) != 0 && errno != EEXIST) {
		bench_complain(4, "%s: %s", r->plan->folder, strerror(errno));
		return false;
	}
	if (!empty(r->work))
		return false;
	strcat(r->work, "/one");
	if (!empty(r->work))
		return false;
	r->raw = fopen(path, "we");
	if (r->raw == NULL) {
		bench_complain(4, "%s: %s", path, strerror(errno));
		return false;
	}
	strftime(started, sizeof started, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &tm));
	say_line(r->raw,
	         json_pack("{s:i, s:s, s:i, s:f, s:I, s:s, s:o, s:o}", "format", 1, "started",
	                   started, "rounds", (int)r->plan->rounds, "seconds", r->plan->seconds,
	                   "seed", (json_int_t)r->plan->seed, "variant", PP_VARIANT, "machine",
	                   harness_machine_json(), "versions", harness_versions_json()));
	return true;
}

static double weight_of_all(const struct bench_plan *plan)
{
	double sum = 0;

	for (unsigned t = 0; bench_tables[t] != NULL; t++)
		for (unsigned i = 0; i < bench_tables[t]->row_count; i++) {
			const struct bench_row *row = &bench_tables[t]->rows[i];

			if (is_wanted(plan, row))
				sum += weight(row) * (bench_contender_count(row) + 1);
		}
	return sum;
}

int bench_rounds(const struct bench_plan *plan)
{
	struct harness_machine_time before = harness_machine_time_read();
	struct rounds r = { .plan = plan, .start_ns = bench_now_ns() };
	char path[PATH_MAX];
	bool well;

	r.weights = weight_of_all(plan);
	if (r.weights <= 0)
		return bench_complain(2, "no row has \"%s\" in its name; --list tells them",
		                      plan->rows);
	if (!open_all(&r, path, sizeof path))
		return 4;
	well = measure_rows(&r, NULL);
	if (well)
		well = measure_doubtful_again(&r, path);
	say_line(r.raw, json_pack("{s:f, s:f}", "took_s", elapsed_s(&r), "stolen_percent",
	                          harness_stolen_percent(before)));
	fclose(r.raw);
	*strrchr(r.work, '/') = '\0';
	nftw(r.work, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	return well ? 0 : 4;
}
