/*
 * member.h - a call of pp_write() that shares its commit: what group.c and write.c know of it.
 *
 * See group.c for its states, and for who may do what when.
 */
/* SPDX-License-Identifier: MIT */
#ifndef POOL_MEMBER_H
#define POOL_MEMBER_H

#include "internal.h"

enum state { WAITING, LEADING, RUNNING, CARRIED, RAN, COMMITTING, DONE, POKED = 8 };

/* On the stack of its caller. */
struct member {
	const struct pp_transaction *options;
	pp_work *work;
	void *context, *caller;
	int thread;
	uint64_t since_ns;

	atomic_uint state;
	struct member *next; /* In the chain of those who wait, or of those who ran. */
	/* Written by who runs it or finishes its batch, before the state that tells. */
	struct batch *batch;
	uint64_t bound_ns; /* RAN: it does not leave before. */
	enum pp_status status;
	bool undone; /* By others; error says why. */
	struct pp_error error;
};

/* It waits, or leads. Fails with PP_CLOSED, PP_OVERLOADED. */
enum pp_status member_enter(struct pp_pool *pool, struct member *member);
/* Until there is something for its thread to do: LEADING, RUNNING, DONE. */
enum state member_await(struct pp_pool *pool, struct member *member);

/* The mutex is held; but what is said of a member is also said without it, by whose it is. */

/* Its state, and wakes it: it may be gone when this returns. */
void member_tell(struct member *member, enum state state);
/* It is to be run again by itself, because of this. */
void member_undo(struct member *member, const struct pp_cause *cause);
/* Out of the chain of those who wait. */
void group_dequeue(struct pp_pool *pool, struct member *member, uint64_t now_ns);
/* The first of them leads from now on; where there is none, whoever comes next. */
void group_lead_pass(struct pp_pool *pool);
/* A batch must not be committed; the first reason counts. */
void batch_doom(struct batch *batch, struct pp_cause cause);
struct batch *group_batch(struct pp_pool *pool, const struct slot *slot);

#endif
