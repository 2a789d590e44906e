/*
 * handshake.h - one gives back in the instant in which the other comes to wait, over and over.
 *
 * There is one connection and nobody else, and the one who waits does not look again by himself for
 * a minute: when the giver misses him he stands there with the connection idle.
 */
/* SPDX-License-Identifier: MIT */
#ifndef SCENARIOS_HANDSHAKE_H
#define SCENARIOS_HANDSHAKE_H

struct harness_run;

/* A case. */
void handshake_run(struct harness_run *run, double seconds);

#endif
