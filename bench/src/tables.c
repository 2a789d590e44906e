/* tables.c - which tables there are, and what has to be reached in them. */
/* SPDX-License-Identifier: MIT */
#include "bench.h"

#include <string.h>

const struct bench_table *const bench_tables[] = { &bench_lending, &bench_writes, &bench_allocator,
	                                           &bench_growth, NULL };

const char *const bench_figures[] = { "ns", "per_s", "ms" };
const char *const bench_kinds[] = { "ours", "peer", "limit" };

/* Ratios are of one run, ours beside theirs: how many times better. */
const struct bench_goal bench_goals[] = {
	{ "the lending alone, one thread", "lending/1", "alone", NULL, NULL, NULL, '<', 15 },
	{ "with everything on, one thread", "lending/1", "poolproof", NULL, NULL, NULL, '<', 40 },
	{ "against libzdb", "lending/1", "poolproof", NULL, NULL, "libzdb", '>', 30 },
	{ "against apr_reslist", "lending/1", "poolproof", NULL, NULL, "apr", '>', 1 },
	{ "with each doubling of the connections, in %", "growth/connections-", "poolproof", NULL,
	  NULL, NULL, '<', 2 },
	{ "with each doubling of the waiters, in %", "growth/waiters-", "poolproof", NULL, NULL,
	  NULL, '<', 2 },
	{ "with each doubling of cached statements, in %", "growth/statements-", "poolproof", NULL,
	  NULL, NULL, '<', 2 },
	{ "with each doubling of the database, in %", "growth/megabytes-", "poolproof", NULL, NULL,
	  NULL, '<', 2 },
	{ "two threads against one", "lending/2", "poolproof", NULL, "lending/1", "poolproof", '>',
	  1.8 },
};
const unsigned bench_goal_count = sizeof bench_goals / sizeof *bench_goals;

bool bench_more_is_better(const char *figure)
{
	return strcmp(figure, "per_s") == 0 || strcmp(figure, "fairness") == 0;
}

const struct bench_row *bench_row_find(const char *name, const struct bench_table **ret_table)
{
	for (unsigned t = 0; bench_tables[t] != NULL; t++)
		for (unsigned r = 0; r < bench_tables[t]->row_count; r++) {
			if (strcmp(bench_tables[t]->rows[r].name, name) != 0)
				continue;
			if (ret_table != NULL)
				*ret_table = bench_tables[t];
			return &bench_tables[t]->rows[r];
		}
	return NULL;
}

unsigned bench_contender_count(const struct bench_row *row)
{
	unsigned count = 0;

	while (row->contenders[count].name != NULL)
		count++;
	return count;
}

unsigned bench_contender_find(const struct bench_row *row, const char *name)
{
	unsigned i = 0;

	while (row->contenders[i].name != NULL && strcmp(row->contenders[i].name, name) != 0)
		i++;
	return i;
}
