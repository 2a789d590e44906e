/*
 * shortage.h - a load that goes on while something runs out, has run out, and is there again.
 *
 * Which operation the shortage begins with is drawn, and with which it ends; whoever does that
 * operation makes it and ends it. Its end is an operation too: after it everything must work.
 */
/* SPDX-License-Identifier: MIT */
#ifndef SCENARIOS_SHORTAGE_H
#define SCENARIOS_SHORTAGE_H

#include "subject.h"

struct shortage;

/* Who takes part in a shortage. */
enum greed {
	GREED_NONE,
	GREED_EVERY_CONNECTION, /* All are kept ... */
	GREED_WRITER,           /* ... or this one, until enough others were refused. */
	GREED_SOME              /* Some read, and want more than there is. */
};

struct want {
	const char *name;
	/* In the thread of the operation that it begins or ends with. May be NULL. */
	void (*make)(struct shortage *shortage);
	void (*end)(struct shortage *shortage);
	enum greed greed;
	const char *greedy_sql; /* GREED_SOME. */
	/* Whether a failure of the calling thread is of the right kind; of our own pool only. */
	bool (*is_right)(const struct harness_failure *f);
	bool ours_only;
	bool sparing;           /* Nobody but who is greedy by SQL may fail. */
	unsigned payload_bytes; /* 0: the subject's. */
	unsigned short_ms;      /* Everybody's patience while it lasts. 0: as at other times. */
	unsigned crowd_from;  /* Threads from this one on are there while it lasts only. 0: all are.
	                       */
	unsigned waiting_max; /* Of both lanes. 0: any number. */
};

struct shortage {
	struct subject subject;
	const struct want *want;
	bool ours;
	unsigned threads;
	unsigned from, to;         /* Operations that it begins and ends with. */
	unsigned greedy, refusals; /* How many take part; how many are to be refused. */
	unsigned capacity[2];      /* Of each lane: readers, the writer. */

	atomic_bool leaving;
	atomic_uint crowd, started, inside, refused, keepers, held[2];
	atomic_uint_least64_t made_ns, ended_ns; /* 0: not yet. */
	atomic_uint_least64_t full_ns[2];        /* When all of a lane were last lent. */
	atomic_uint_least64_t recovered_ns;      /* From its end until each thread was served. */
};

/* Makes one, of a drawn length, ours: the target is this project's pool. Whether nothing was wrong;
 * ret_hit: whether anybody was refused, or had to wait until it was over. */
bool shortage_run(struct harness_run *run, const struct want *want, bool ours,
                  struct harness_entropy *entropy, const struct subject_options *options,
                  bool *ret_hit);

#endif
