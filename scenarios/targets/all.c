/* all.c - the list of targets. */
/* SPDX-License-Identifier: MIT */
#include "targets.h"

/* What they load is theirs, and not in the memory of a run that drives something else. */
static const struct harness_target libzdb = {
	.name = "libzdb",
	.about = "libzdb's ConnectionPool (plug-in)",
	.package = "libzdb-dev",
};
static const struct harness_target apr = {
	.name = "apr",
	.about = "APR's reslist of apr_dbd connections (plug-in)",
	.package = "libaprutil1-dev and libaprutil1-dbd-sqlite3",
};

const struct harness_target *const targets_all[] = { &target_poolproof, &target_raw, &libzdb, &apr,
	                                             NULL };
