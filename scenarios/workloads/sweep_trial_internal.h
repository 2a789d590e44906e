/* sweep_trial_internal.h - what the parts of a trial know of each other. */
/* SPDX-License-Identifier: MIT */
#ifndef SCENARIOS_WORKLOADS_TRIAL_INTERNAL_H
#define SCENARIOS_WORKLOADS_TRIAL_INTERNAL_H

#include "sweep_trial.h"

/* The database anew, and nothing beside it. */
void trial_place(struct trial *t);
/* Nothing is armed. false: it could not be opened, which is wrong. */
bool trial_open(struct trial *t);
/* What comes next, with the faults still armed: it may fail as the sequence may. */
void trial_go_on(struct trial *t);
/* Everything that must hold afterwards, and the close. */
void trial_prove(struct trial *t);

/* sweep_examine.c: the file is sound and has each write whole or not at all, as it was told.
 * Everything is closed. */
void trial_examine(struct trial *t);

/* generic.c: the same for a target that is driven by its table. */
bool generic_open(struct trial *t);
void generic_go_on(struct trial *t);
void generic_prove(struct trial *t);

#endif
