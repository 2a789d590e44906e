/*
 * Reads Valgrind's XML; see leaks.h. Two things to know before reading. A process that is killed
 * leaves its document open: libxml2's reader gives what is whole before it meets the end. And a
 * child that forks without exec writes its document into the middle of its parent's (Valgrind
 * 3.19), so a file is first taken apart into documents, as brackets nest.
 */
/* SPDX-License-Identifier: MIT */
#include "leaks.h"

#include <libxml/xmlreader.h>
#include <stdlib.h>
#include <string.h>

enum { FINGERPRINT_FRAMES = 8 };

static const char *const head = "<?xml", *const tail = "</valgrindoutput>";

struct document {
	char *text;
	size_t size;
};

/* What is known of the <error> that is being read. */
struct reading {
	struct report_arena *arena;
	struct report_leaks *leaks;
	const char *tool;
	struct report_leak error;
	unsigned stacks;
	char field[16];
	struct report_frame frame;
	const char *directory, *file;
};

/* The path from our own folder on; NULL when it is not in our code. */
static const char *our_path(const char *path)
{
	static const char *const folders[] = { "pool/src/",     "pool/test/",   "harness/src/",
		                               "harness/test/", "scenarios/",   "reports/src/",
		                               "reports/test/", "pool/include/" };

	for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) {
		for (const char *found = path; (found = strstr(found, folders[i])) != NULL;
		     found++) {
			if (found == path || found[-1] == '/')
				return found;
		}
	}
	return NULL;
}

static bool is_allocator(const struct report_frame *frame)
{
	static const char *const names[] = {
		"malloc",   "calloc",         "realloc",       "reallocarray",
		"memalign", "posix_memalign", "aligned_alloc", "malloc_usable_size",
		"strdup",   "strndup",        "free"
	};

	if (strstr(frame->object, "/vgpreload_") != NULL)
		return true;
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		if (strcmp(frame->function, names[i]) == 0)
			return true;
	}
	return false;
}

static void fingerprint(struct report_leak *leak)
{
	uint64_t hash = report_hash(REPORT_HASH, leak->kind);
	unsigned used = 0;

	for (size_t i = 0; i < leak->frame_count && used < FINGERPRINT_FRAMES; i++) {
		const struct report_frame *frame = &leak->frames[i];

		if (is_allocator(frame))
			continue;
		hash = report_hash(report_hash(report_hash(hash, "|"), frame->function), "@");
		hash = report_hash(hash,
		                   report_basename(*frame->place ? frame->place : frame->object));
		used++;
	}
	snprintf(leak->fingerprint, sizeof leak->fingerprint, "%016llx", (unsigned long long)hash);
}

/* The pool's allocator wrappers are on every stack; they are the site only of their own leaks. */
static const struct report_frame *site_of(const struct report_leak *leak)
{
	const struct report_frame *wrapper = NULL;

	for (size_t i = 0; i < leak->frame_count; i++) {
		const struct report_frame *frame = &leak->frames[i];

		if (!frame->ours)
			continue;
		if (strncmp(frame->place, "pool/src/memory", 15) != 0 &&
		    strncmp(frame->place, "pool/src/account", 16) != 0)
			return frame;
		if (wrapper == NULL)
			wrapper = frame;
	}
	return wrapper;
}

static void book(struct reading *r)
{
	struct report_leaks *leaks = r->leaks;
	struct report_leak *leak = NULL;

	fingerprint(&r->error);
	for (size_t i = 0; i < leaks->count && leak == NULL; i++) {
		if (strcmp(leaks->items[i].fingerprint, r->error.fingerprint) == 0)
			leak = &leaks->items[i];
	}
	if (leak == NULL) {
		leaks->items =
			report_grow(r->arena, leaks->items, leaks->count, sizeof *leaks->items);
		leak = &leaks->items[leaks->count++];
		*leak = r->error;
		leak->bytes = leak->blocks = 0;
		leak->site = site_of(leak);
	}
	if (leak->document != leaks->documents) {
		leak->document = leaks->documents;
		leak->processes++;
		leak->document_bytes = leak->document_blocks = 0;
	}
	leak->document_bytes += r->error.bytes;
	leak->document_blocks += r->error.blocks;
	if (leak->document_bytes > leak->bytes)
		leak->bytes = leak->document_bytes;
	if (leak->document_blocks > leak->blocks)
		leak->blocks = leak->document_blocks;
}

static void end_frame(struct reading *r)
{
	struct report_leak *e = &r->error;
	const char *path, *ours;

	if (r->stacks != 1) /* The others say where a freed block came from. */
		return;
	path = report_print(r->arena, "%s%s%s", r->directory, *r->directory ? "/" : "", r->file);
	ours = *r->file != '\0' ? our_path(path) : NULL;
	r->frame.ours = ours != NULL;
	r->frame.place = ours != NULL ? ours : report_basename(r->file);
	e->frames = report_grow(r->arena, e->frames, e->frame_count, sizeof *e->frames);
	e->frames[e->frame_count++] = r->frame;
}

static void set_kind(struct report_leak *e, const char *kind)
{
	static const struct {
		const char *valgrind, *ours;
	} kinds[] = { { "Leak_DefinitelyLost", "definite" },
		      { "Leak_IndirectlyLost", "indirect" },
		      { "Leak_PossiblyLost", "possible" },
		      { "Leak_StillReachable", "reachable" } };

	e->kind = kind;
	for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
		if (strcmp(kind, kinds[i].valgrind) == 0) {
			e->kind = kinds[i].ours;
			e->lost = true;
		}
	}
}

static void set_field(struct reading *r, const char *value)
{
	const char *text = report_copy(r->arena, value, strlen(value));

	if (strcmp(r->field, "kind") == 0)
		set_kind(&r->error, text);
	else if (strcmp(r->field, "what") == 0 || strcmp(r->field, "text") == 0)
		r->error.text = *r->error.text == '\0' ? text : r->error.text;
	else if (strcmp(r->field, "leakedbytes") == 0)
		r->error.bytes = strtoull(text, NULL, 10);
	else if (strcmp(r->field, "leakedblocks") == 0)
		r->error.blocks = strtoull(text, NULL, 10);
	else if (strcmp(r->field, "fn") == 0)
		r->frame.function = text;
	else if (strcmp(r->field, "obj") == 0)
		r->frame.object = text;
	else if (strcmp(r->field, "dir") == 0)
		r->directory = text;
	else if (strcmp(r->field, "file") == 0)
		r->file = text;
	else if (strcmp(r->field, "line") == 0)
		r->frame.line = (unsigned)strtoul(text, NULL, 10);
	else if (strcmp(r->field, "tool") == 0)
		r->tool = text;
}

static void begin_element(struct reading *r, const char *name)
{
	snprintf(r->field, sizeof r->field, "%s", name);
	if (strcmp(name, "error") == 0) {
		r->error = (struct report_leak){ .kind = "unknown", .text = "", .tool = r->tool };
		r->stacks = 0;
	} else if (strcmp(name, "stack") == 0) {
		r->stacks++;
	} else if (strcmp(name, "frame") == 0) {
		r->frame = (struct report_frame){ .function = "???", .object = "", .place = "" };
		r->directory = r->file = "";
	}
}

static void end_element(struct reading *r, const char *name)
{
	*r->field = '\0';
	if (strcmp(name, "frame") == 0)
		end_frame(r);
	else if (strcmp(name, "error") == 0)
		book(r);
}

/* false: the document is damaged; what came before the damage is kept. */
static bool read_document(struct reading *r, const struct document *d)
{
	xmlTextReaderPtr reader = xmlReaderForMemory(d->text, (int)d->size, NULL, NULL,
	                                             XML_PARSE_NONET | XML_PARSE_NOERROR |
	                                                     XML_PARSE_NOWARNING | XML_PARSE_HUGE);
	int more = -1;

	while (reader != NULL && (more = xmlTextReaderRead(reader)) == 1) {
		int type = xmlTextReaderNodeType(reader);
		const char *name = (const char *)xmlTextReaderConstName(reader);

		if (type == XML_READER_TYPE_ELEMENT && !xmlTextReaderIsEmptyElement(reader))
			begin_element(r, name);
		else if (type == XML_READER_TYPE_END_ELEMENT)
			end_element(r, name);
		else if (type == XML_READER_TYPE_TEXT)
			set_field(r, (const char *)xmlTextReaderConstValue(reader));
	}
	xmlFreeTextReader(reader);
	return more == 0;
}

static void append(struct document *d, const char *text, size_t size)
{
	char *larger = realloc(d->text, d->size + size + 1);

	if (larger == NULL) {
		fprintf(stderr, "poolproof: out of memory (%zu bytes)\n", d->size + size);
		exit(REPORT_CANNOT);
	}
	memcpy(larger + d->size, text, size);
	d->text = larger;
	d->size += size;
	d->text[d->size] = '\0';
}

static void finish(struct report_arena *arena, struct report_leaks *leaks, struct document *d,
                   bool whole)
{
	struct reading r = { .arena = arena, .leaks = leaks, .tool = "valgrind" };

	leaks->documents++;
	whole &= read_document(&r, d);
	leaks->truncated += !whole;
	/* A cut before the tool is named still was a process under watch. */
	leaks->memcheck_documents += strcmp(r.tool, "helgrind") != 0;
	free(d->text);
}

/* Takes a file apart and reads each document when its end is met. */
static void read_text(struct report_arena *arena, struct report_leaks *leaks, const char *text)
{
	struct document *open = NULL;
	size_t depth = 0;
	unsigned before = leaks->documents;

	while (*text != '\0') {
		const char *begin = strstr(text + 1, head), *end = strstr(text, tail);
		const char *next = begin;
		bool closing = end != NULL && (begin == NULL || end < begin);

		if (strncmp(text, head, strlen(head)) == 0) {
			open = report_grow(arena, open, depth, sizeof *open);
			open[depth++] = (struct document){ 0 };
		}
		if (closing)
			next = end + strlen(tail);
		else if (next == NULL)
			next = text + strlen(text);
		if (depth > 0) {
			append(&open[depth - 1], text, (size_t)(next - text));
			if (closing)
				finish(arena, leaks, &open[--depth], true);
		}
		text = next;
	}
	while (depth > 0)
		finish(arena, leaks, &open[--depth], false);
	if (leaks->documents == before) { /* Empty, or cut in its first five bytes. */
		leaks->documents++;
		leaks->memcheck_documents++;
		leaks->truncated++;
	}
}

static int by_weight(const void *a, const void *b)
{
	const struct report_leak *x = a, *y = b;

	if (x->lost != y->lost)
		return x->lost ? 1 : -1;
	if (x->bytes != y->bytes)
		return x->bytes < y->bytes ? 1 : -1;
	return strcmp(x->fingerprint, y->fingerprint);
}

void report_leaks_read(struct report_arena *arena, const char *folder,
                       struct report_leaks *ret_leaks)
{
	struct report_leaks leaks = { 0 };
	const char **names, *error;
	size_t count = report_list(arena, folder, &names), size;

	for (size_t i = 0; i < count; i++) {
		char *text;

		if (!report_glob("*.xml", names[i]))
			continue;
		leaks.files++;
		if (report_read(arena, report_print(arena, "%s/%s", folder, names[i]), &text, &size,
		                &error))
			read_text(arena, &leaks, text);
		else
			leaks.truncated++;
	}
	if (leaks.count > 0)
		qsort(leaks.items, leaks.count, sizeof *leaks.items, by_weight);
	*ret_leaks = leaks;
}

void report_leaks_mark_known(struct report_arena *arena, struct report_leaks *leaks,
                             const char *path)
{
	const char *error;
	char *text, *rest;
	size_t size;

	if (!report_read(arena, path, &text, &size, &error))
		return;
	for (char *line = strtok_r(text, "\n", &rest); line != NULL;
	     line = strtok_r(NULL, "\n", &rest)) {
		line += strspn(line, " \t");
		line[strcspn(line, " \t\r#")] = '\0';
		for (size_t i = 0; i < leaks->count; i++)
			leaks->items[i].known |= strcmp(leaks->items[i].fingerprint, line) == 0;
	}
}
