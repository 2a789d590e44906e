/*
 * peer.h - what plug-ins over libraries without SQLite's types and codes have in common.
 */
/* SPDX-License-Identifier: MIT */
#ifndef SCENARIOS_PEERS_PEER_H
#define SCENARIOS_PEERS_PEER_H

#include <poolproof/harness/target.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A column whose library gives its text only: a whole number, a decimal one, or else text. */
static inline struct harness_value peer_value(const char *text)
{
	struct harness_value value = { .type = HARNESS_NULL, .text = text };
	char *end;

	if (text == NULL)
		return value;
	value.type = HARNESS_TEXT;
	if (*text == '\0' || strchr("-0123456789", *text) == NULL)
		return value;
	errno = 0;
	value.integer = strtoll(text, &end, 10);
	if (*end == '\0' && errno == 0) {
		value.type = HARNESS_INTEGER;
		return value;
	}
	value.real = strtod(text, &end);
	if (*end == '\0')
		value.type = HARNESS_REAL;
	return value;
}

/* What SQLite said, where its code is not to be had: a lock (5, SQLITE_BUSY) or an error (1). */
static inline bool peer_failed(const char *text, struct harness_failure *f)
{
	bool locked = strstr(text, "locked") != NULL;

	f->kind = locked ? HARNESS_FAILURE_BUSY : HARNESS_FAILURE_SQL;
	f->code = locked ? 5 : 1;
	snprintf(f->text, sizeof f->text, "%.*s", (int)sizeof f->text - 1, text);
	return false;
}

#endif
