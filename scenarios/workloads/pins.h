/*
 * pins.h - a reader keeps a snapshot while a writer fills the WAL.
 *
 * Two cases: without reader_max_ms the pool names him in an event; with it he is interrupted. Once
 * he is gone the WAL is small again soon.
 */
/* SPDX-License-Identifier: MIT */
#ifndef SCENARIOS_PINS_H
#define SCENARIOS_PINS_H

struct harness_run;

void pins_run(struct harness_run *run);

#endif
