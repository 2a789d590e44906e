/*
 * fixture.h - what the tests of reports/ stand on: a folder that goes away, runs made by hand,
 * an encoder for histograms, and the command run in a process of its own.
 */
/* SPDX-License-Identifier: MIT */
#ifndef REPORT_TEST_FIXTURE_H
#define REPORT_TEST_FIXTURE_H

#include <poolproof/harness/test.h>

#include "command.h"

struct fixture {
	struct report_arena arena;
	char folder[64];
	char *out, *err; /* Of the last command. */
	/* For the next commands; zero: as it is. */
	const char *output; /* Where their output goes, instead of to .out. */
	size_t disk;        /* No file may become larger: the disk is full then. */
};

struct fixture fixture_open(void);
void fixture_close(struct fixture *f);

/* A path inside the fixture's folder. */
const char *fixture_path(struct fixture *f, const char *name);
/* Writes a file, making its folders. */
const char *fixture_write(struct fixture *f, const char *name, const char *text);
const char *fixture_read(struct fixture *f, const char *name);

/* A run directory; each part NULL for what a clean run of concurrent_load has. numbers and
 * verdict are JSON objects; with numbers of its own it has no latency.hlog. */
struct fixture_run {
	const char *name, *scenario, *variant, *under, *verdict, *numbers, *started;
};
const char *fixture_run(struct fixture *f, struct fixture_run run);
struct report_run fixture_load(struct fixture *f, const char *path);

/* An interval log line of values (ns); lowest 1, 3 digits. */
const char *fixture_hlog_line(struct fixture *f, const char *tag, double start_s,
                              const uint64_t *values, size_t count);
const char *fixture_base64(struct fixture *f, const uint64_t *values, size_t count);
/* The outer form (compressed, base64) of any inner bytes. */
const char *fixture_pack(struct fixture *f, const unsigned char *plain, size_t size);

/* poolproof ARGUMENT…, NULL at the end, called in the fixture's folder (but run and list), where no
 * ci/gates.conf is unless a test puts it there; returns the exit code, .out and .err hold its
 * words. */
int fixture_command(struct fixture *f, const char *first, ...) __attribute__((sentinel));

#endif
