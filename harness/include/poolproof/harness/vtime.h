/*
 * poolproof/harness/vtime.h - time that passes when somebody sleeps.
 *
 *     harness_vtime_begin();           // SQLite's xSleep takes no time from here on
 *     harness_vtime_listen(travel);    // whoever has a clock of his own is told
 *     ...
 *     harness_vtime_end();
 *
 * SQLite waits by the VFS' xSleep: when it cannot have a lock on the WAL index it tries a hundred
 * times, 10 s in all, and a sweep of every system call takes minutes. Here xSleep adds to a virtual
 * clock and returns, and SQLite's current time is the real one and that.
 *
 * Threads    Time is the process'. begin, end and listen: one thread; the rest: any.
 * Caveat     For what one thread does alone: of two, the one that sleeps takes the other's time.
 */
/* SPDX-License-Identifier: MIT */
#ifndef POOLPROOF_HARNESS_VTIME_H
#define POOLPROOF_HARNESS_VTIME_H

#include <stdbool.h>
#include <stdint.h>

/* SQLite is initialised. false: there is no VFS "unix". */
bool harness_vtime_begin(void);
void harness_vtime_end(void);
/* As if it slept. */
void harness_vtime_sleep_ns(uint64_t ns);
/* Slept since the begin. */
uint64_t harness_vtime_ns(void);
/* Called with each step; NULL: nobody. */
void harness_vtime_listen(void (*passed)(uint64_t ns));

#endif
