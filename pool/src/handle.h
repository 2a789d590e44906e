/*
 * handle.h - the looks at a handle's memory (handle.c): inline, since each release takes them, and
 * a call would cost as much as a look.
 */
/* SPDX-License-Identifier: MIT */
#ifndef POOL_HANDLE_H
#define POOL_HANDLE_H

#include "internal.h"

#include <string.h>

/* Offsets. Written by handle_learn(), before the first connection is opened; constant from then on.
 */
struct handle_places {
	bool known;
	/* Of single values: the newest statement, how many are active, whether no transaction is
	 * open (a byte), the last error, the last rowid, the authorizer. */
	unsigned newest, active, automatic, error, rowid, authorizer;
	/* Of the chunks with what is compared: hooks, handlers and limits. */
	unsigned chunk_count;
	uint16_t chunks[HANDLE_CHUNKS_MAX];
	handle_chunk masks[HANDLE_CHUNKS_MAX]; /* Its bytes in each; of one more none. */
};
extern struct handle_places handle_places;

static inline handle_chunk handle_chunk_at(const struct connection *c, unsigned offset)
{
	handle_chunk chunk;

	memcpy(&chunk, (const char *)c->db + offset, sizeof chunk);
	return chunk;
}

static inline int handle_int_at(const struct connection *c, unsigned offset)
{
	int value;

	memcpy(&value, (const char *)c->db + offset, sizeof value);
	return value;
}

static inline int64_t handle_int64_at(const struct connection *c, unsigned offset)
{
	int64_t value;

	memcpy(&value, (const char *)c->db + offset, sizeof value);
	return value;
}

static inline void *handle_pointer_at(const struct connection *c, unsigned offset)
{
	void *value;

	memcpy(&value, (const char *)c->db + offset, sizeof value);
	return value;
}

static inline handle_chunk handle_difference(const struct connection *c, unsigned i)
{
	const struct handle_places *p = &handle_places;

	return (handle_chunk_at(c, p->chunks[i]) ^ c->image[i]) & p->masks[i];
}

/* Four at a time: chunk_count is made up to that with chunks whose masks are empty. */
static inline bool handle_settings_differ(const struct connection *c)
{
	handle_chunk difference = { 0 };

	for (unsigned i = 0; i < handle_places.chunk_count; i += HANDLE_CHUNKS_STEP)
		difference |= handle_difference(c, i) | handle_difference(c, i + 1) |
		              handle_difference(c, i + 2) | handle_difference(c, i + 3);
	return (difference[0] | difference[1]) != 0;
}

/* What is not as it was noted, and the last error. Where it cannot be told, all that may be. */
enum { HANDLE_SETTINGS = 1, HANDLE_ROWID = 2, HANDLE_AUTHORIZER = 4 };

static inline unsigned handle_look(const struct connection *c, authorizer_fn *authorizer,
                                   int *ret_error)
{
	const struct handle_places *p = &handle_places;
	unsigned changed = 0;

	if (!p->known) {
		*ret_error = sqlite3_extended_errcode(c->db);
		return HANDLE_SETTINGS | HANDLE_ROWID;
	}
	*ret_error = handle_int_at(c, p->error);
	if (handle_settings_differ(c))
		changed |= HANDLE_SETTINGS;
	if (handle_int64_at(c, p->rowid) != 0)
		changed |= HANDLE_ROWID;
	if (handle_pointer_at(c, p->authorizer) != (void *)authorizer)
		changed |= HANDLE_AUTHORIZER;
	return changed;
}

/* No transaction is open, no statement active, and this is the newest. false: or it cannot be told.
 */
static inline bool handle_is_at_rest(const struct connection *c, const sqlite3_stmt *newest)
{
	const struct handle_places *p = &handle_places;

	return p->known && handle_int_at(c, p->active) == 0 &&
	       ((const char *)c->db)[p->automatic] == 1 &&
	       handle_pointer_at(c, p->newest) == newest;
}

#endif
