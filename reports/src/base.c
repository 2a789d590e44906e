/* Memory, words and files; see base.h. */
/* SPDX-License-Identifier: MIT */
#include "base.h"

#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct report_block {
	struct report_block *next;
	max_align_t data[];
};

static void *allocate(size_t size)
{
	void *memory = calloc(1, size);

	if (memory == NULL) {
		fprintf(stderr, "poolproof: out of memory (%zu bytes)\n", size);
		exit(REPORT_CANNOT);
	}
	return memory;
}

void *report_alloc(struct report_arena *arena, size_t size)
{
	struct report_block *block = allocate(sizeof *block + size);

	block->next = arena->blocks;
	arena->blocks = block;
	return block->data;
}

char *report_copy(struct report_arena *arena, const char *text, size_t size)
{
	char *copy = report_alloc(arena, size + 1);

	memcpy(copy, text, size);
	return copy;
}

char *report_print(struct report_arena *arena, const char *format, ...)
{
	va_list args, again;
	char *text;
	int size;

	va_start(args, format);
	va_copy(again, args);
	size = vsnprintf(NULL, 0, format, args);
	text = report_alloc(arena, (size_t)size + 1);
	vsnprintf(text, (size_t)size + 1, format, again);
	va_end(again);
	va_end(args);
	return text;
}

/* Doubles at 8, 16, 32 …: the count alone tells when it is full. */
void *report_grow(struct report_arena *arena, void *items, size_t count, size_t item_size)
{
	void *larger;

	if (count != 0 && (count < 8 || (count & (count - 1)) != 0))
		return items;
	larger = report_alloc(arena, (count < 8 ? 8 : 2 * count) * item_size);
	if (count > 0)
		memcpy(larger, items, count * item_size);
	return larger;
}

void report_arena_done(struct report_arena *arena)
{
	while (arena->blocks != NULL) {
		struct report_block *next = arena->blocks->next;

		free(arena->blocks);
		arena->blocks = next;
	}
}

/* Levenshtein's distance; words longer than the row are never near. */
static size_t distance(const char *a, const char *b)
{
	size_t row[64], a_size = strlen(a), b_size = strlen(b);

	if (b_size >= sizeof row / sizeof *row)
		return SIZE_MAX;
	for (size_t j = 0; j <= b_size; j++)
		row[j] = j;
	for (size_t i = 1; i <= a_size; i++) {
		size_t corner = row[0];

		row[0] = i;
		for (size_t j = 1; j <= b_size; j++) {
			size_t best = corner + (a[i - 1] != b[j - 1]);

			corner = row[j];
			if (row[j] + 1 < best)
				best = row[j] + 1;
			if (row[j - 1] + 1 < best)
				best = row[j - 1] + 1;
			row[j] = best;
		}
	}
	return row[b_size];
}

const char *report_nearest(const char *word, const char *const *words, size_t count)
{
	/* A third of the word may be wrong, and two letters of a short one. */
	size_t best = strlen(word) / 3 > 2 ? strlen(word) / 3 : 2;
	const char *nearest = NULL;

	for (size_t i = 0; i < count; i++) {
		size_t d = distance(word, words[i]);

		if (d < best || (d == best && nearest == NULL)) {
			best = d;
			nearest = words[i];
		}
	}
	/* Nothing of it right is not a slip of the finger ("x" for "kB"). */
	if (nearest == NULL || (best >= strlen(word) && strstr(nearest, word) == NULL))
		return NULL;
	return nearest;
}

const char *report_hint(struct report_arena *arena, const char *word, const char *const *words,
                        size_t count)
{
	const char *nearest = report_nearest(word, words, count);

	return nearest == NULL ? "" : report_print(arena, " (did you mean \"%s\"?)", nearest);
}

bool report_glob(const char *pattern, const char *text)
{
	for (; *pattern != '\0'; pattern++, text++) {
		if (*pattern == '*') {
			bool deep = pattern[1] == '*';

			pattern += deep ? 2 : 1;
			for (;; text++) {
				if (report_glob(pattern, text))
					return true;
				if (*text == '\0' || (*text == '/' && !deep))
					return false;
			}
		}
		if (*text == '\0' || (*pattern == '?' ? *text == '/' : *pattern != *text))
			return false;
	}
	return *text == '\0';
}

const char *report_basename(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash == NULL ? path : slash + 1;
}

uint64_t report_hash(uint64_t hash, const char *text)
{
	for (; *text != '\0'; text++)
		hash = (hash ^ (unsigned char)*text) * UINT64_C(0x100000001b3);
	return hash;
}

bool report_read(struct report_arena *arena, const char *path, char **ret_text, size_t *ret_size,
                 const char **reterr_text)
{
	FILE *in = fopen(path, "rb");
	size_t size = 0, room = 65536, got;
	char *text, *held;

	if (in == NULL) {
		*reterr_text = report_print(arena, "%s: %s", path, strerror(errno));
		return false;
	}
	held = allocate(room);
	while ((got = fread(held + size, 1, room - size, in)) > 0) {
		size += got;
		if (size == room) {
			char *larger = allocate(room * 2);

			memcpy(larger, held, size);
			free(held);
			held = larger;
			room *= 2;
		}
	}
	if (ferror(in)) {
		*reterr_text = report_print(arena, "%s: %s", path, strerror(errno));
		fclose(in);
		free(held);
		return false;
	}
	fclose(in);
	text = report_copy(arena, held, size);
	free(held);
	*ret_text = text;
	*ret_size = size;
	return true;
}

json_t *report_read_json(struct report_arena *arena, const char *path, size_t flags,
                         const char **reterr_text)
{
	json_error_t error;
	json_t *json;
	size_t size;
	char *text;

	if (!report_read(arena, path, &text, &size, reterr_text))
		return NULL;
	json = json_loadb(text, size, flags, &error);
	if (json == NULL)
		*reterr_text = report_print(arena, "%s:%d: %s", path, error.line, error.text);
	return json;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

size_t report_list(struct report_arena *arena, const char *path, const char ***ret_names)
{
	DIR *folder = opendir(path);
	const char **names = NULL;
	size_t count = 0;
	struct dirent *entry;

	*ret_names = NULL;
	if (folder == NULL)
		return 0;
	while ((entry = readdir(folder)) != NULL) {
		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		names = report_grow(arena, names, count, sizeof *names);
		names[count++] = report_copy(arena, entry->d_name, strlen(entry->d_name));
	}
	closedir(folder);
	if (count > 0)
		qsort(names, count, sizeof *names, by_name);
	*ret_names = names;
	return count;
}

bool report_is_folder(const char *path)
{
	struct stat status;

	return stat(path, &status) == 0 && S_ISDIR(status.st_mode);
}

bool report_make_folder(struct report_arena *arena, const char *path, const char **reterr_text)
{
	char *part = report_copy(arena, path, strlen(path));

	for (char *slash = part;; slash++) {
		char kept = *slash;

		if (kept != '/' && kept != '\0')
			continue;
		*slash = '\0';
		if (*part != '\0' && mkdir(part, 0777) != 0) {
			int why = errno; /* Looking whether it is there may fail as well. */

			if (!report_is_folder(part)) {
				*reterr_text =
					report_print(arena, "%s: cannot make this folder: %s", part,
				                     strerror(why));
				return false;
			}
		}
		*slash = kept;
		if (kept == '\0')
			return true;
	}
}

bool report_output_open(struct report_arena *arena, const char *path,
                        struct report_output *ret_output, const char **reterr_text)
{
	struct report_output output = { .path = path };

	output.temporary = report_print(arena, "%s.%ld", path, (long)getpid());
	errno = EISDIR;
	if (!report_is_folder(path))
		output.stream = fopen(output.temporary, "wb");
	if (output.stream == NULL) {
		*reterr_text =
			report_print(arena, "%s: cannot be written: %s", path, strerror(errno));
		return false;
	}
	*ret_output = output;
	return true;
}

bool report_output_finish(struct report_arena *arena, struct report_output *output,
                          const char **reterr_text)
{
	FILE *stream = output->stream;
	bool failed = ferror(stream) != 0;

	output->stream = NULL;
	errno = failed ? EIO : 0;
	failed |= fflush(stream) != 0 || fsync(fileno(stream)) != 0;
	if (fclose(stream) == 0 && !failed)
		return true;
	*reterr_text = report_print(arena, "%s: cannot be written: %s; is the disk full?",
	                            output->path, strerror(errno));
	return false;
}

bool report_output_keep(struct report_arena *arena, struct report_output *output,
                        const char **reterr_text)
{
	if (rename(output->temporary, output->path) != 0) {
		*reterr_text = report_print(arena, "%s: cannot be written: %s", output->path,
		                            strerror(errno));
		return false;
	}
	output->temporary = NULL;
	return true;
}

void report_output_drop(struct report_output *output)
{
	if (output->stream != NULL)
		fclose(output->stream);
	if (output->temporary != NULL)
		unlink(output->temporary);
	*output = (struct report_output){ 0 };
}

bool report_output_close(struct report_arena *arena, struct report_output *output,
                         const char **reterr_text)
{
	bool kept = report_output_finish(arena, output, reterr_text) &&
	            report_output_keep(arena, output, reterr_text);

	report_output_drop(output);
	return kept;
}
