/*
 * event.c - telling the program what happened.
 *
 * To know before reading: an event is built on the stack and nothing in it outlives the call. No
 * line's and no table's lock is held here, but keep_mutex may be, by the upkeep that has something
 * to tell: what a listener may call (see struct pp_event) never takes it.
 */
/* SPDX-License-Identifier: MIT */
#include "internal.h"
#include "probes.h"

#include <stdarg.h>
#include <stdio.h>

static const char *const names[] = {
#define X(kind, name) name,
	PP_EVENT_LIST(X)
#undef X
};

/* Where the lease was acquired, if the slot is lent, and still is when we have looked: then what
 * was read is that lease's. slot_lend() writes the frames, then releases the odd generation; the
 * acquiring loads here keep the second look at it the last. What comes back from quarantine has
 * not been lent to anybody else either. */
static unsigned frames_copy(struct slot *slot, bool quarantined, void **frames)
{
	uint64_t lease = atomic_load_explicit(&slot->generation, memory_order_acquire);
	unsigned frame_count = atomic_load_explicit(&slot->frame_count, memory_order_acquire);
	bool same;

	for (unsigned i = 0; i < frame_count; i++)
		frames[i] = atomic_load_explicit(&slot->frames[i], memory_order_acquire);
	same = atomic_load_explicit(&slot->generation, memory_order_relaxed) == lease;
	return same && (lease % 2 != 0 || quarantined) ? frame_count : 0;
}

void event_send(struct pp_pool *pool, enum pp_event_kind kind, struct slot *slot,
                const char *format, ...)
{
	char message[512];
	struct pp_event event;
	va_list args;

	PROBE_EVENT(pool, kind, slot != NULL ? (int)slot->id : -1);
	if (pool->config.on_event == NULL)
		return;
	va_start(args, format);
	vsnprintf(message, sizeof message, format, args);
	va_end(args);
	event = (struct pp_event){ .kind = kind,
		                   .name = names[kind],
		                   .pool = pool,
		                   .connection.id = UINT64_MAX,
		                   .message = message };
	if (slot != NULL) {
		slot_describe(slot, &event.connection);
		event.frame_count = frames_copy(
			slot, event.connection.state == PP_CONNECTION_QUARANTINED, event.frames);
	}
	pool->config.on_event(&event, pool->config.on_event_context);
}
