/*
 * leaks.h - what Valgrind's XML says of a run: one entry a leak or error, not one a process.
 *
 * A forked child repeats its parent's leaks, and a busy line leaks in many records. Findings with
 * the same fingerprint are one: the kind and the first eight frames as function@file, without
 * lines and addresses and without the allocator's own frames.
 */
/* SPDX-License-Identifier: MIT */
#ifndef REPORT_LEAKS_H
#define REPORT_LEAKS_H

#include "base.h"

struct report_frame {
	const char *function; /* "???" where unknown. */
	const char *object;   /* Program or library, its path. */
	const char *place;    /* "pool/src/pool.c" in our code, else the file's name; "" unknown. */
	unsigned line;        /* 0 unknown. */
	bool ours;            /* In pool/, harness/, scenarios/ or reports/. */
};

struct report_leak {
	char fingerprint[17];
	const char *tool; /* "memcheck", "helgrind". */
	const char *kind; /* definite, indirect, possible, reachable; or Valgrind's ("Race"). */
	const char *text; /* Valgrind's words. */
	bool lost;        /* Memory lost, rather than an error such as an invalid read. */
	bool known;       /* Listed in the file of known fingerprints. */
	uint64_t bytes;   /* The most that one process lost here. */
	uint64_t blocks;
	unsigned processes; /* In how many processes it was found. */
	struct report_frame *frames;
	size_t frame_count;
	const struct report_frame *site; /* First line of our own code; NULL when there is none. */

	unsigned document; /* While reading: the process now counted, and its sums. */
	uint64_t document_bytes, document_blocks;
};

struct report_leaks {
	struct report_leak *items;
	size_t count;
	unsigned files, documents; /* XML files, and processes in them. */
	unsigned memcheck_documents;
	unsigned truncated; /* Processes whose report is cut or damaged. */
};

/* Every *.xml in folder; an unreadable file counts as truncated. */
void report_leaks_read(struct report_arena *arena, const char *folder,
                       struct report_leaks *ret_leaks);
/* Marks what the file lists: one fingerprint a line, '#' begins a comment. No file: nothing. */
void report_leaks_mark_known(struct report_arena *arena, struct report_leaks *leaks,
                             const char *path);

#endif
