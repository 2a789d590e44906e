/*
 * poolproof/harness/machine.h - on what something was measured.
 *
 *     struct harness_machine_time before = harness_machine_time_read();
 *     ...
 *     stolen = harness_stolen_percent(before);
 *
 * Threads    Any.
 * Ownership  What the two functions return is the caller's: jansson objects, of text and numbers.
 * Errors     What cannot be read is "unknown", or 0.
 */
/* SPDX-License-Identifier: MIT */
#ifndef POOLPROOF_HARNESS_MACHINE_H
#define POOLPROOF_HARNESS_MACHINE_H

#include <stdint.h>

struct json_t;

struct json_t *harness_machine_json(void);  /* Kernel, processor, memory. */
struct json_t *harness_versions_json(void); /* Ours, SQLite's, the compiler's, the allocator's. */

struct harness_machine_time {
	uint64_t total, steal; /* Ticks of all processors together, as /proc/stat has them. */
};
struct harness_machine_time harness_machine_time_read(void);
/* How much of the machine's time another guest had since then. */
double harness_stolen_percent(struct harness_machine_time since);

#endif
