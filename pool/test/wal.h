/* wal.h - a WAL that grows. */
/* SPDX-License-Identifier: MIT */
#ifndef POOL_TEST_WAL_H
#define POOL_TEST_WAL_H

#include "fixture.h"
#include "internal.h"

/* Commits until the WAL has so many pages. */
static inline void grow(struct pp_pool *pool, unsigned pages)
{
	struct pp_lease lease = { 0 };

	acquire(pool, PP_WRITE, &lease);
	sql(lease.db, "CREATE TABLE IF NOT EXISTS big(x)");
	do {
		sql(lease.db, "INSERT INTO big VALUES (zeroblob(3900))");
	} while (atomic_load(&pool->wal.pages) < pages);
	pp_release(&lease);
}

#endif
