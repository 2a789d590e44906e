/* Who is measured when, and what becomes of those who fail: with a program that only pretends. */
/* SPDX-License-Identifier: MIT */
#include "bench.h"

#include <fcntl.h>
#include <poolproof/harness/test.h>
#include <sys/stat.h>
#include <unistd.h>

/* The script sees $4, the contender, and $n, how often this one was called before. */
struct pretence {
	char folder[64];
	struct bench_plan plan;
	char path[128], rows[64];
};

static struct pretence *pretend(struct pretence *p, unsigned rounds, const char *script)
{
	static char programs[64];
	FILE *out;

	strcpy(p->folder, "/tmp/poolproof-rounds-XXXXXX");
	CHECK(mkdtemp(p->folder) != NULL);
	strcpy(programs, p->folder);
	p->plan = (struct bench_plan){ .folder = p->folder,
		                       .programs = programs,
		                       .rows = "lending/32",
		                       .seconds = 0.01,
		                       .rounds = rounds,
		                       .seed = 1 };
	snprintf(p->path, sizeof p->path, "%s/%s", p->folder, PP_VARIANT);
	CHECK(mkdir(p->path, 0700) == 0);
	strcat(p->path, "/poolproof-bench");
	out = fopen(p->path, "w");
	fprintf(out, "#!/bin/sh\nc=%s/$4; n=$(cat $c 2>/dev/null | wc -c); printf x >>$c\n%s\n",
	        p->folder, script);
	fclose(out);
	CHECK(chmod(p->path, 0700) == 0);
	snprintf(p->path, sizeof p->path, "%s/raw.jsonl", p->folder);
	return p;
}

static void pretence_close(struct pretence *p)
{
	char command[128];

	snprintf(command, sizeof command, "rm -rf %s", p->folder);
	CHECK(system(command) == 0);
}

/* The lines, less head and tail. */
static json_t *lines_of(const struct pretence *p)
{
	FILE *in = fopen(p->path, "r");
	json_t *lines = json_array(), *line;

	CHECK(in != NULL);
	while ((line = json_loadf(in, JSON_DISABLE_EOF_CHECK, NULL)) != NULL)
		if (json_object_get(line, "row") != NULL)
			json_array_append_new(lines, line);
		else
			json_decref(line);
	fclose(in);
	return lines;
}

static const char *word(const json_t *lines, size_t i, const char *name)
{
	return bench_text(json_array_get(lines, i), name);
}

static int number(const json_t *lines, size_t i, const char *name)
{
	return (int)json_integer_value(json_object_get(json_array_get(lines, i), name));
}

TEST(rounds, go_forwards_and_then_backwards)
{
	CLEANUP(pretence_close) struct pretence p;
	json_t *lines;

	CHECK_INT(bench_rounds(&pretend(&p, 2, "echo '{\"ns\":10}'")->plan), ==, 0);
	lines = lines_of(&p);
	CHECK_INT(json_array_size(lines), ==, 2 * 7); /* Six, and ours again. */
	CHECK_STR(word(lines, 0, "contender"), "poolproof");
	CHECK_STR(word(lines, 6, "contender"), BENCH_AGAIN);
	for (size_t i = 0; i < 7; i++) {
		CHECK_STR(word(lines, i, "contender"), word(lines, 13 - i, "contender"));
		CHECK_INT(number(lines, i, "round"), ==, 0);
		CHECK_INT(number(lines, i, "place"), ==, i);
		CHECK_INT(number(lines, 7 + i, "round"), ==, 1);
		CHECK_STR(word(lines, i, "row"), "lending/32");
	}
	json_decref(lines);
	snprintf(p.path, sizeof p.path, "%s/db", p.folder);
	CHECK(access(p.path, F_OK) != 0); /* Nothing of the measurements is left. */
}

/* Ours is called twice a round. Of the first fourteen rounds' calls it is the second in round 0,
 * then the first in round 1, and later the first in even rounds that are made for "again". */
TEST(rounds, measure_a_doubtful_row_again)
{
	CLEANUP(pretence_close) struct pretence p;
	struct bench_evidence *evidence;
	json_t *lines;

	pretend(&p, 14,
	        "case $4:$n in poolproof:1|poolproof:2) ns=20;; poolproof:?|poolproof:1?|"
	        "poolproof:2[0-7]) case $((n % 4)) in 0|3) ns=20; [ $n -lt 4 ] && ns=10;; *) "
	        "ns=10;; "
	        "esac;; *) ns=10;; esac; echo \"{\\\"ns\\\":$ns}\"");
	CHECK_INT(bench_rounds(&p.plan), ==, 0);
	lines = lines_of(&p);
	CHECK_INT(json_array_size(lines), ==, 2 * 14 * 7);
	CHECK_INT(number(lines, 14 * 7 - 1, "take"), ==, 0);
	CHECK_INT(number(lines, 14 * 7, "take"), ==, 1);
	json_decref(lines);
	evidence = bench_evidence_read(p.path);
	CHECK(!bench_is_doubtful(evidence, bench_row_find("lending/32", NULL)));
	bench_evidence_free(evidence);
}

static const struct {
	const char *what, *script, *why;
} failures[] = {
	{ "an exit code", "[ $4 = apr ] && exit 7; echo '{\"ns\":10}'", "exit code 7" },
	{ "a crash", "[ $4 = apr ] && kill -SEGV $$; echo '{\"ns\":10}'", "Segmentation fault" },
	{ "a hang", "[ $4 = apr ] && kill -ALRM $$; echo '{\"ns\":10}'", "did not end" },
	{ "nothing said", "[ $4 = apr ] && exit; echo '{\"ns\":10}'", "exit code 0" },
	{ "half a line", "[ $4 = apr ] && echo '{' && exit; echo '{\"ns\":10}'", "exit code 0" },
};

TEST_ROWS(rounds, go_on_when_a_peer_fails, sizeof failures / sizeof *failures)
{
	CLEANUP(pretence_close) struct pretence p;
	unsigned failed = 0;
	json_t *lines;

	CHECK_INT(bench_rounds(&pretend(&p, 2, failures[row].script)->plan), ==, 0);
	lines = lines_of(&p);
	CHECK_INT(json_array_size(lines), ==, 2 * 7);
	for (size_t i = 0; i < json_array_size(lines); i++)
		if (strcmp(word(lines, i, "failed"), failures[row].why) == 0) {
			CHECK_STR(word(lines, i, "contender"), "apr");
			failed++;
		}
	CHECK_INT(failed, ==, 2);
	json_decref(lines);
}

TEST(rounds, end_when_ours_fails)
{
	CLEANUP(pretence_close) struct pretence p;

	CHECK_INT(bench_rounds(&pretend(&p, 2, "[ $4 = poolproof ] && exit 7; echo '{}'")->plan),
	          ==, 4);
}

TEST(rounds, say_which_program_is_missing)
{
	CLEANUP(pretence_close) struct pretence p;

	pretend(&p, 2, "");
	p.plan.programs = "/nowhere";
	CHECK_INT(bench_rounds(&p.plan), ==, 4);
}

/* --- The tables -------------------------------------------------------------------------- */

TEST(tables, goals_are_of_rows_and_contenders_that_exist)
{
	for (unsigned i = 0; i < bench_goal_count; i++) {
		const struct bench_goal *goal = &bench_goals[i];
		const struct bench_row *ours = bench_row_find(goal->row, NULL), *theirs;
		const char *than = goal->against_row != NULL ? goal->against_row : goal->row;
		unsigned found = 0;

		if (goal->row[strlen(goal->row) - 1] == '-') {
			for (unsigned t = 0; bench_tables[t] != NULL; t++)
				for (unsigned r = 0; r < bench_tables[t]->row_count; r++)
					found += strncmp(bench_tables[t]->rows[r].name, goal->row,
					                 strlen(goal->row)) == 0 &&
					         bench_tables[t]->rows[r].size > 0;
			CHECK_MSG(found > 1, "%s", goal->row);
			continue;
		}
		CHECK_MSG(ours != NULL, "%s", goal->row);
		CHECK_MSG(bench_contender_find(ours, goal->ours) < bench_contender_count(ours),
		          "%s: %s", goal->row, goal->ours);
		theirs = bench_row_find(than, NULL);
		CHECK_MSG(theirs != NULL, "%s", than);
		if (goal->against != NULL)
			CHECK_MSG(bench_contender_find(theirs, goal->against) <
			                  bench_contender_count(theirs),
			          "%s: %s", than, goal->against);
	}
}

TEST(tables, rows_have_one_name_and_ours_first)
{
	for (unsigned t = 0; bench_tables[t] != NULL; t++)
		for (unsigned r = 0; r < bench_tables[t]->row_count; r++) {
			const struct bench_row *one = &bench_tables[t]->rows[r];

			CHECK(bench_row_find(one->name, NULL) == one);
			CHECK(strncmp(one->name, bench_tables[t]->name,
			              strlen(bench_tables[t]->name)) == 0);
			CHECK(one->contenders[0].kind == BENCH_OURS);
			CHECK(bench_contender_count(one) <= BENCH_CONTENDERS_MAX);
			CHECK(one->threads >= 1 && one->threads < BENCH_THREADS_MAX);
		}
}
