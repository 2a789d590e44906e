/*
 * probes.h - the places where perf, bpftrace or SystemTap may look: USDT, provider "poolproof".
 *
 * A probe is one NOP and a note in the library until somebody attaches to it; its arguments are
 * values that are at hand, never worth computing for it. Users' scripts depend on the names and on
 * the order of the arguments: ci/probes knows both, and they only ever grow at the end.
 */
/* SPDX-License-Identifier: MIT */
#ifndef POOL_PROBES_H
#define POOL_PROBES_H

#include <sys/sdt.h>

/* pool is a struct pp_pool *, lane an enum pp_lane, slot the id in struct pp_connection. */

/* lease.c: an acquire has been asked for; one has been granted. wait_ns is 0 when there was none.
 */
#define PROBE_ACQUIRE_START(pool, lane) DTRACE_PROBE2(poolproof, acquire_start, pool, lane)
#define PROBE_ACQUIRE_DONE(pool, lane, slot, wait_ns) \
	DTRACE_PROBE4(poolproof, acquire_done, pool, lane, slot, wait_ns)
/* lease.c: a good lease is given back, before the connection is proved clean. */
#define PROBE_RELEASE(pool, lane, slot) DTRACE_PROBE3(poolproof, release, pool, lane, slot)

/* line.c: around standing in the line; status is an enum pp_status. */
#define PROBE_WAIT_BEGIN(pool, lane) DTRACE_PROBE2(poolproof, wait_begin, pool, lane)
#define PROBE_WAIT_END(pool, lane, status, wait_ns) \
	DTRACE_PROBE4(poolproof, wait_end, pool, lane, status, wait_ns)

/* transaction.c: an outermost or nested level has begun, was committed, was rolled back. status is
 * an enum pp_status; depth counts from 1. */
#define PROBE_BEGIN(pool, depth, status) DTRACE_PROBE3(poolproof, begin, pool, depth, status)
#define PROBE_COMMIT(pool, depth, status) DTRACE_PROBE3(poolproof, commit, pool, depth, status)
#define PROBE_ROLLBACK(pool, depth, status) DTRACE_PROBE3(poolproof, rollback, pool, depth, status)
/* transaction.c: pp_transact() goes round again; attempt is the one that failed, from 1, and
 * sqlite_code why. */
#define PROBE_RETRY(pool, attempt, sqlite_code) \
	DTRACE_PROBE3(poolproof, retry, pool, attempt, sqlite_code)

/* write.c: a group is over; writes have shared its commit, status is an enum pp_status: of the
 * commit, or PP_ROLLED_BACK where there was none. */
#define PROBE_GROUP(pool, writes, status) DTRACE_PROBE3(poolproof, group, pool, writes, status)

/* wal.c: a checkpoint is over; sqlite_code is its result, the frames are
 * sqlite3_wal_checkpoint_v2's. */
#define PROBE_CHECKPOINT(pool, sqlite_code, frames, frames_done) \
	DTRACE_PROBE4(poolproof, checkpoint, pool, sqlite_code, frames, frames_done)

/* event.c: an event, whether somebody listens or not; kind is an enum pp_event_kind, slot -1 where
 * it is of the pool as a whole. */
#define PROBE_EVENT(pool, kind, slot) DTRACE_PROBE3(poolproof, event, pool, kind, slot)

#endif
