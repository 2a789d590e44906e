/*
 * words.c - the nearest known word, a line that is valid and only one, a word for a shell.
 */
/* SPDX-License-Identifier: MIT */
#include "internal.h"

#include <string.h>

enum { WORD_MAX = 40 };

/* Levenshtein's distance by one row; words longer than WORD_MAX are near to nothing. */
static unsigned distance(const char *a, const char *b)
{
	unsigned row[WORD_MAX + 1];
	size_t a_length = strlen(a), b_length = strlen(b);

	if (a_length > WORD_MAX || b_length > WORD_MAX)
		return WORD_MAX;
	for (unsigned i = 0; i <= b_length; i++)
		row[i] = i;
	for (size_t i = 0; i < a_length; i++) {
		unsigned corner = row[0];

		row[0]++;
		for (size_t j = 0; j < b_length; j++) {
			unsigned change = corner + (a[i] != b[j]);

			corner = row[j + 1];
			row[j + 1] = change < corner + 1 ? change : corner + 1;
			if (row[j] + 1 < row[j + 1])
				row[j + 1] = row[j] + 1;
		}
	}
	return row[b_length];
}

const char *closest_word(const char *word, const char *const words[], unsigned count)
{
	unsigned least = (unsigned)strlen(word) / 3 + 1;
	const char *found = NULL;

	for (unsigned i = 0; i < count; i++) {
		unsigned d = distance(word, words[i]);

		if (d <= least && (found == NULL || d < least)) {
			least = d;
			found = words[i];
		}
	}
	return found;
}

/* How many bytes the UTF-8 character at text has; 0: it is none. */
static unsigned character_size(const unsigned char *text)
{
	unsigned size = text[0] < 0x80   ? 1
	                : text[0] < 0xc2 ? 0
	                : text[0] < 0xe0 ? 2
	                : text[0] < 0xf0 ? 3
	                : text[0] < 0xf5 ? 4
	                                 : 0;

	for (unsigned i = 1; i < size; i++)
		if ((text[i] & 0xc0) != 0x80)
			return 0;
	if ((text[0] == 0xe0 && text[1] < 0xa0) || (text[0] == 0xed && text[1] > 0x9f) ||
	    (text[0] == 0xf0 && text[1] < 0x90) || (text[0] == 0xf4 && text[1] > 0x8f))
		return 0; /* Overlong, a surrogate, or past the last one. */
	return size;
}

void one_line(char *text)
{
	while (*text != '\0') {
		unsigned size = character_size((unsigned char *)text);

		if (size == 0)
			*text = '?';
		else if (size == 1 && ((unsigned char)*text < ' ' || *text == 0x7f))
			*text = ' ';
		text += size == 0 ? 1 : size;
	}
}

void shell_quote(char *to, size_t to_size, const char *word)
{
	static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				    "0123456789_-+=.,:/@%";
	size_t used = 0;

	if (word[0] != '\0' && word[strspn(word, plain)] == '\0') {
		snprintf(to, to_size, "%s", word);
		return;
	}
	if (to_size < 8)
		return;
	to[used++] = '\'';
	for (; *word != '\0' && used + 7 < to_size; word++) {
		if (*word == '\'') {
			memcpy(to + used, "'\\''", 4);
			used += 4;
		} else {
			to[used++] = *word;
		}
	}
	to[used++] = '\'';
	to[used] = '\0';
}
