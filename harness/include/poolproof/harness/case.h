/*
 * poolproof/harness/case.h - one run, many cases, each with a name by which it is run again.
 *
 *     while (harness_sweep_next(&sweep)) {
 *             if (!harness_case_begin(run, "WAL, insert, once, heap %llu", n))
 *                     continue;                     // --case asks for another one
 *             ...
 *             harness_case_note(run, "%s", pp_status_name(status));
 *             if (!whole)
 *                     harness_case_fail(run, "a row is missing");
 *             harness_case_end(run);
 *     }
 *
 * What a case chose and what became of it are two digests in run.json ("choices.digest_count",
 * "events.digest_count"): equal for equal seeds, and --replay DIR says when they are not.
 *
 * Threads    begin, choose, note, end: the body's own thread. fail and harness_duration: any.
 * Ownership  Strings are copied.
 * Hangs      A case in which for four seconds nothing is noted, no operation of a load ends and
 *            nobody calls harness_step() is one: no call in it may wait longer.
 */
/* SPDX-License-Identifier: MIT */
#ifndef POOLPROOF_HARNESS_CASE_H
#define POOLPROOF_HARNESS_CASE_H

#include <poolproof/harness/run.h>

/* false: it is not wanted; nothing has begun. Names are unique in a run, and the same for the same
 * seed and options. */
bool harness_case_begin(struct harness_run *run, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
/* The same for what is done whichever case is wanted, because others need it (a recording, a first
 * round): it is named when it fails, crashes or hangs. Counted where it is wanted. */
void harness_case_always(struct harness_run *run, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
/* Something that was drawn: which operation, which fault. */
void harness_case_choose(struct harness_run *run, uint64_t what);
/* Something that happened, in words that do not depend on timing. The last ones are in events.jsonl
 * when the case fails. */
void harness_case_note(struct harness_run *run, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
/* The verdict is FAIL, and says which case. So does harness_fail(), while one runs. */
void harness_case_fail(struct harness_run *run, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
void harness_case_end(struct harness_run *run);

/* A duration under a tag of its own ("recovery.kill"), for latency.hlog and the percentiles. */
void harness_duration(struct harness_run *run, const char *tag, uint64_t ns);

#endif
