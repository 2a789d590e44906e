/* small.c - targets opened so that little happens often, and nothing by itself. */
/* SPDX-License-Identifier: MIT */
#include "targets.h"

#include <poolproof/pool.h>

#include <string.h>

bool small_open(const struct harness_target *target, const struct harness_target_options *o,
                void **ret_target, struct harness_failure *f)
{
	struct pp_config config = {
		.path = o->path,
		.must_exist = true,
		.readers = 1,
		.wal_bytes_max = 64 * 1024,
		.keeper = o->threads == 1 ? PP_KEEPER_MANUAL : PP_KEEPER_THREAD,
		.journal = strcmp(o->journal_mode, "WAL") == 0 ? PP_JOURNAL_WAL : PP_JOURNAL_DELETE,
		.synchronous = strcmp(o->synchronous, "FULL") == 0 ? PP_SYNCHRONOUS_FULL
		                                                   : PP_SYNCHRONOUS_NORMAL,
	};
	struct pp_pool *pool;
	struct pp_error error;

	if (target != &target_poolproof)
		return target->open(o, ret_target, f);
	if (pp_open(&config, &pool, &error) != PP_OK) {
		*f = (struct harness_failure){ .kind = HARNESS_FAILURE_SQL };
		pp_error_text(&error, f->text, sizeof f->text);
		return false;
	}
	*ret_target = pool;
	return true;
}

void small_keep(const struct harness_target *target, void *opened)
{
	if (target == &target_poolproof)
		pp_keep(opened, NULL);
}
