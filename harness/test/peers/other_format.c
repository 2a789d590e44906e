/* other_format.c - a plug-in made for a target.h of another time. */
/* SPDX-License-Identifier: MIT */
#include <poolproof/harness/target.h>

extern const struct harness_plugin harness_plugin;
__attribute__((visibility("default")))
const struct harness_plugin harness_plugin = { HARNESS_PLUGIN_FORMAT + 1, NULL };
