/*
 * base.h - what all of reports/ stands on: memory, words and files.
 *
 * Memory     Everything that is read lives in one arena until the command ends; nothing is
 *            freed one by one. Running out of memory ends the program with one line.
 * Errors     false, and *reterr_text (in the arena) says what and where in one line.
 */
/* SPDX-License-Identifier: MIT */
#ifndef REPORT_BASE_H
#define REPORT_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <jansson.h>

/* What a command ends with; README.md, "Exit codes". */
enum report_exit {
	REPORT_PASS = 0,
	REPORT_FAIL = 1,
	REPORT_USAGE = 2,
	REPORT_UNTRUSTWORTHY = 3,
	REPORT_CANNOT = 4
};

struct report_block;
struct report_arena {
	struct report_block *blocks;
};

void *report_alloc(struct report_arena *arena, size_t size); /* Zeroed. */
char *report_copy(struct report_arena *arena, const char *text, size_t size);
char *report_print(struct report_arena *arena, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
/* Room for item number count in an array that is only ever grown by one; returns the array. */
void *report_grow(struct report_arena *arena, void *items, size_t count, size_t item_size);
void report_arena_done(struct report_arena *arena);

/* Which of the words is meant by a mistyped one; NULL when none is near. */
const char *report_nearest(const char *word, const char *const *words, size_t count);
/* ' (did you mean "x"?)' or "". */
const char *report_hint(struct report_arena *arena, const char *word, const char *const *words,
                        size_t count);
/* '*' and '?' stay inside a path component, '**' does not. */
bool report_glob(const char *pattern, const char *text);
/* The part after the last '/'. */
const char *report_basename(const char *path);
uint64_t report_hash(uint64_t hash, const char *text); /* FNV-1a; begin with REPORT_HASH. */
#define REPORT_HASH UINT64_C(0xcbf29ce484222325)

/* The whole file, NUL after its end. */
bool report_read(struct report_arena *arena, const char *path, char **ret_text, size_t *ret_size,
                 const char **reterr_text);
/* A JSON file, owned by the caller; NULL with "PATH:LINE: WHY". flags are jansson's. */
json_t *report_read_json(struct report_arena *arena, const char *path, size_t flags,
                         const char **reterr_text);
/* The sorted names in a folder, but "." and ".."; none when it cannot be read. */
size_t report_list(struct report_arena *arena, const char *path, const char ***ret_names);
bool report_is_folder(const char *path);
/* mkdir -p. */
bool report_make_folder(struct report_arena *arena, const char *path, const char **reterr_text);

/* A file that appears whole or not at all: write to .stream, then finish, then keep. Several that
 * belong together are all finished before the first is kept. */
struct report_output {
	FILE *stream;
	const char *path, *temporary;
};
bool report_output_open(struct report_arena *arena, const char *path,
                        struct report_output *ret_output, const char **reterr_text);
/* On disk, under its temporary name. */
bool report_output_finish(struct report_arena *arena, struct report_output *output,
                          const char **reterr_text);
bool report_output_keep(struct report_arena *arena, struct report_output *output,
                        const char **reterr_text);
/* Takes back what was not kept; nothing when it was, or was never opened. */
void report_output_drop(struct report_output *output);
/* Finish and keep. */
bool report_output_close(struct report_arena *arena, struct report_output *output,
                         const char **reterr_text);

/* Text for HTML and XML, in content and in attributes; what XML 1.0 cannot carry (control
 * characters, broken UTF-8) becomes U+FFFD. */
void report_escape(FILE *out, const char *text);
/* The same repair without the escaping, for JSON and terminals. */
const char *report_clean(struct report_arena *arena, const char *text);

/* Words filled into lines of 80 columns from column indent on; the cursor stands at column at. */
void report_fill(FILE *out, int at, int indent, const char *text);
/* Characters on the terminal, not bytes. */
int report_width(const char *text);

/* What a number counts. In the program: ns, bytes, 1/s, per cent. */
enum report_unit { REPORT_COUNT, REPORT_TIME, REPORT_BYTES, REPORT_RATE, REPORT_PERCENT };
/* "12.3 ms", "1,234", "99.99 %": percentages are cut, never rounded up. */
const char *report_quantity(struct report_arena *arena, enum report_unit unit, double value);
/* 1234567.0 as "1,234,567". */
const char *report_digits(struct report_arena *arena, double value, int decimals);

#endif
