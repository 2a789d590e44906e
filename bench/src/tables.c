/* tables.c - which tables there are, and what has to be reached in them. */
/* SPDX-License-Identifier: MIT */
#include "bench.h"

#include <string.h>

const struct bench_table *const bench_tables[] = { &bench_lending,   &bench_writes,
	                                           &bench_reads,     &bench_statements,
	                                           &bench_allocator, &bench_growth,
	                                           &bench_visits,    NULL };

const char *const bench_figures[] = { "ns", "per_s", "ms" };
const char *const bench_kinds[] = { "ours", "peer", "limit" };

/* Ratios are of one run, ours beside theirs: how many times better. */
const struct bench_goal bench_goals[] = {
	{ "the lending alone, in ns", "lending/1", "alone", NULL, NULL, NULL, '<', 15 },
	{ "with everything on, in ns", "lending/1", "poolproof", NULL, NULL, NULL, '<', 40 },
	{ "against libzdb", "lending/1", "poolproof", NULL, NULL, "libzdb", '>', 30 },
	{ "against apr_reslist", "lending/1", "poolproof", NULL, NULL, "apr", '>', 1 },
	{ "two threads against one", "lending/2", "poolproof", NULL, "lending/1", "poolproof", '>',
	  1.8 },
	{ "against plain SQLite, alone", "writes/full-1", "poolproof", NULL, NULL, "timeout", '>',
	  0.98 },
	{ "against busy_timeout", "writes/full-32", "poolproof", NULL, NULL, "timeout", '>', 4 },
	{ "against busy_timeout", "writes/full-32", "any-thread", NULL, NULL, "timeout", '>', 10 },
	{ "p99.9 against FIFO's", "writes/full-32", "poolproof", "p99.9_us", NULL, "fifo", '>', 6 },
	{ "p99.9 against FIFO's", "writes/full-32", "any-thread", "p99.9_us", NULL, "fifo", '>',
	  6 },
	{ "slowest thread by fastest", "writes/full-32", "poolproof", "fairness", NULL, NULL, '>',
	  0.9 },
	{ "slowest thread by fastest", "writes/full-32", "any-thread", "fairness", NULL, NULL, '>',
	  0.9 },
	{ "against plain SQLite, held", "reads/each-1", "poolproof", NULL, NULL, "sqlite", '>',
	  0.95 },
	{ "against plain SQLite, held", "reads/each-1", "held", NULL, NULL, "sqlite", '>', 0.98 },
	{ "against plain SQLite, autocommit", "reads/session-2", "poolproof", NULL, NULL, "sqlite",
	  '>', 8 },
	{ "against SQLite as shipped", "allocator/prepare-1", "instrumented", NULL, NULL, "sqlite",
	  '>', 1 },
	{ "against SQLite as shipped", "allocator/prepare-2", "instrumented", NULL, NULL, "sqlite",
	  '>', 1 },
	{ "against SQLite as shipped", "allocator/ycsb-a", "instrumented", NULL, NULL, "sqlite",
	  '>', 1 },
	{ "against SQLite as shipped", "allocator/ycsb-b", "instrumented", NULL, NULL, "sqlite",
	  '>', 1 },
	{ "against SQLite as shipped", "allocator/ycsb-c", "instrumented", NULL, NULL, "sqlite",
	  '>', 1 },
	{ "against SQLite as shipped", "allocator/ycsb-f", "instrumented", NULL, NULL, "sqlite",
	  '>', 1 },
	{ "a point that is switched off, in ns", "points/off", "point", NULL, NULL, NULL, '<', 1 },
	{ "% per doubling", "growth/connections-", "poolproof", NULL, NULL, NULL, '<', 2 },
	{ "% per doubling", "growth/waiters-", "poolproof", NULL, NULL, NULL, '<', 2 },
	{ "% per doubling", "growth/statements-", "poolproof", NULL, NULL, NULL, '<', 2 },
	{ "% per doubling", "growth/megabytes-", "poolproof", NULL, NULL, NULL, '<', 2 },
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
