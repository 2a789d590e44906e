/*
 * poolproof/harness/fault.h - one thing fails, on purpose: which, whose, when, how often, how.
 *
 *     harness_fault_heap();                       // once, before SQLite is initialised
 *     struct harness_fault fault = { .place = "heap", .skip = 3 };
 *     harness_fault_arm(&fault, 1);
 *     ...                                         // this thread's fourth allocation fails
 *     harness_fault_disarm();                     // fault.visits, .hits, .benign say what became
 *
 *     while (harness_sweep_next(&sweep)) {        // the first, the second, ... until none is left
 *             ...
 *     }
 *
 * A place is where something can fail: "heap" (an allocation of SQLite's, and whatever goes through
 * its allocator), "io.write" and its like (a system call of SQLite's unix VFS), "io.sync" (its
 * xSync), and what a program adds by harness_fault_place().
 *
 * Threads    A plan hits visits of the thread that armed it; with any_thread, everybody's. Each
 *            thread arms and disarms its own, one set at a time; plans for everybody are one
 *            thread's at a time. After disarm no visit counts any more, but another thread's DELAY
 *            or CALL may still be under way.
 * Ownership  Plans are the caller's, and must stay where they are until disarmed.
 * Memory     Nothing is allocated.
 * Errors     What is not known (a place, too many plans) asserts: it is the test's own mistake.
 * Cost       A visit while nothing is armed is two loads.
 *
 * After SQLite's own do_malloc_test and do_ioerr_test (test/malloc_common.tcl), whose counters are
 * the process's; these are the thread's, so that a thread of the pool's does not eat the fault.
 */
/* SPDX-License-Identifier: MIT */
#ifndef POOLPROOF_HARNESS_FAULT_H
#define POOLPROOF_HARNESS_FAULT_H

#include <stdbool.h>
#include <stdint.h>

enum {
	HARNESS_FAULTS_MAX = 8,  /* Armed at one time, by one thread. */
	HARNESS_PLACES_MAX = 128 /* Of a process. */
};

enum harness_fault_action {
	HARNESS_FAULT_FAIL,  /* The place fails. */
	HARNESS_FAULT_SHORT, /* A transfer ends half-way, well; elsewhere nothing. */
	HARNESS_FAULT_KILL,  /* SIGKILL to this process. */
	HARNESS_FAULT_DELAY, /* It takes delay_us longer. */
	HARNESS_FAULT_CALL   /* call(context), there. */
};

struct harness_fault {
	const char *place; /* "heap", "io.write"; "io.*": all whose names begin so; "*". A pattern's
	                    * visits are counted together. */
	enum harness_fault_action action;
	int error; /* For io.: an errno. 0: EIO, or what the place has itself. */
	bool any_thread;
	uint64_t skip;  /* Visits that pass first. */
	uint64_t times; /* How many after them are hit. 0: one; UINT64_MAX: all. */
	unsigned delay_us;
	void (*call)(void *context);
	void *context;

	/* What became of it. */
	uint64_t visits; /* Of its places, hit or not. */
	uint64_t hits;
	uint64_t benign; /* Hits that SQLite says it does without. */
	const char *hit; /* The place of the first hit; NULL: none. */
};

/* The place of this name, from now on known. Any thread, any number of times. */
unsigned harness_fault_place(const char *name);
const char *harness_fault_place_name(unsigned place);

void harness_fault_arm(struct harness_fault faults[], unsigned count);
/* Nothing armed is a no-op. */
void harness_fault_disarm(void);
/* Those for everybody, whoever armed them. */
void harness_fault_disarm_everybodys(void);

/* At a place: 0 to go on, HARNESS_FAULT_PART to transfer a part, or an errno with which to fail. */
enum { HARNESS_FAULT_PART = -1 };
int harness_fault_visit(unsigned place);

/*
 * The places of SQLite. heap: over the allocator that SQLITE_CONFIG_GETMALLOC gives, so after
 * whoever configures one (pp_setup()), and before sqlite3_initialize(). io: of the VFS "unix";
 * SQLite is initialised. Again: nothing. false: SQLite refused.
 */
bool harness_fault_heap(void);
bool harness_fault_io(void);
/* Live bytes of SQLite's allocator, since harness_fault_heap(): equal before and after what leaves
 * nothing. */
int64_t harness_fault_heap_bytes(void);
/* After harness_fault_io(): no xSync reaches the disk any more, which is most of the time of who is
 * killed often; what a killed process wrote is there all the same. Its place is still visited. */
void harness_sync_skip(bool skip);

/* --- Every place in turn ------------------------------------------------------------------ */

/*
 * The same thing done again and again: the first visit of a place fails, then the second, and so
 * on, until a round in which none was hit. A round that is left out (another case is wanted) is
 * not armed and ends nothing. Zero it, set plans[0] (its skip is where to begin), and
 *
 *     while (harness_sweep_next(&sweep)) {
 *             prepare();
 *             harness_sweep_arm(&sweep);
 *             act();
 *             harness_sweep_disarm(&sweep);
 *             judge(sweep.plans[0].hits, sweep.plans[0].benign);
 *     }
 */
struct harness_sweep {
	/* The one that is moved on, and where its place is not NULL a second that is armed with it:
	 * a fault while another is recovered from. Both skip from the beginning. */
	struct harness_fault plans[2];
	uint64_t stride;       /* How many places further each time. 0: one. */
	uint64_t rounds, hits; /* In all; rounds in which it was armed. */
	bool began, armed;
	uint64_t round_hits;   /* Since the last next(). */
	unsigned blind_rounds; /* In a row, not armed. */
};
bool harness_sweep_next(struct harness_sweep *sweep);
void harness_sweep_arm(struct harness_sweep *sweep);
void harness_sweep_disarm(struct harness_sweep *sweep);

#endif
