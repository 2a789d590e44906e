/* Text for people and for formats: escapes, repaired UTF-8, quantities. See base.h. */
/* SPDX-License-Identifier: MIT */
#include "base.h"

#include <math.h>
#include <string.h>

/* Bytes of the character at text that HTML, XML and JSON may all carry; 0 when there is none. */
static size_t character(const unsigned char *text)
{
	size_t size = *text < 0x80 ? 1 : *text >= 0xf0 ? 4 : *text >= 0xe0 ? 3 : 2;
	uint32_t code = size == 1 ? *text : *text & (0x7fu >> size);

	if (size == 1)
		return (*text >= 0x20 && *text != 0x7f) || *text == '\n' || *text == '\t';
	if (*text < 0xc2 || *text > 0xf4)
		return 0;
	for (size_t i = 1; i < size; i++) {
		if ((text[i] & 0xc0) != 0x80)
			return 0;
		code = code << 6 | (text[i] & 0x3f);
	}
	if (code < (size == 2 ? 0x80u : size == 3 ? 0x800u : 0x10000u) || code > 0x10ffff)
		return 0;
	/* Surrogates, C1 controls and the two that XML forbids. */
	return (code >= 0xd800 && code <= 0xdfff) || code < 0xa0 || (code & 0xfffe) == 0xfffe
	               ? 0
	               : size;
}

void report_escape(FILE *out, const char *text)
{
	for (; *text != '\0';) {
		size_t size = character((const unsigned char *)text);

		if (size == 0)
			fputs("\xef\xbf\xbd", out);
		else if (*text == '<')
			fputs("&lt;", out);
		else if (*text == '>')
			fputs("&gt;", out);
		else if (*text == '&')
			fputs("&amp;", out);
		else if (*text == '"')
			fputs("&quot;", out);
		else if (*text == '\'')
			fputs("&#39;", out);
		else
			fwrite(text, 1, size, out);
		text += size == 0 ? 1 : size;
	}
}

const char *report_clean(struct report_arena *arena, const char *text)
{
	char *clean = report_alloc(arena, 3 * strlen(text) + 1), *to = clean;

	while (*text != '\0') {
		size_t size = character((const unsigned char *)text);

		memcpy(to, size == 0 ? "\xef\xbf\xbd" : text, size == 0 ? 3 : size);
		to += size == 0 ? 3 : size;
		text += size == 0 ? 1 : size;
	}
	return clean;
}

static int characters(const char *text, size_t size)
{
	int count = 0;

	for (size_t i = 0; i < size; i++)
		count += (text[i] & 0xc0) != 0x80;
	return count;
}

int report_width(const char *text)
{
	return characters(text, strlen(text));
}

void report_fill(FILE *out, int at, int indent, const char *text)
{
	enum { LINE = 80 };
	bool first = true;

	for (; at < indent; at++)
		fputc(' ', out);
	while (*text != '\0') {
		size_t size = strcspn(text, " ");
		int wide = characters(text, size);

		if (!first && at + 1 + wide > LINE) {
			fprintf(out, "\n%*s", indent, "");
			at = indent;
		} else if (!first) {
			fputc(' ', out);
			at++;
		}
		fwrite(text, 1, size, out);
		first = false;
		at += wide;
		text += size;
		text += strspn(text, " ");
	}
	fputc('\n', out);
}

const char *report_digits(struct report_arena *arena, double value, int decimals)
{
	char plain[400], *text = report_alloc(arena, 600), *to = text;
	const char *from = plain;
	size_t whole;

	snprintf(plain, sizeof plain, "%.*f", decimals, value);
	if (*from == '-')
		*to++ = *from++;
	whole = strspn(from, "0123456789");
	for (size_t i = 0; i < whole; i++) {
		if (i > 0 && (whole - i) % 3 == 0)
			*to++ = ',';
		*to++ = from[i];
	}
	strcpy(to, from + whole);
	return text;
}

/* Three digits that matter: "1.23", "12.3", "123". */
static const char *scaled(struct report_arena *arena, double value, const char *unit)
{
	double size = fabs(value);
	int decimals = size >= 100 || size == floor(size) ? 0 : size >= 10 ? 1 : 2;

	return report_print(arena, "%s %s", report_digits(arena, value, decimals), unit);
}

static const char *bytes(struct report_arena *arena, double value)
{
	static const char *const units[] = { "KiB", "MiB", "GiB", "TiB" };
	unsigned unit = 0;

	/* A leak is told to the byte. */
	if (fabs(value) < 100 * 1024)
		return scaled(arena, value, "B");
	value /= 1024;
	for (; fabs(value) >= 1024 && unit + 1 < sizeof units / sizeof *units; unit++)
		value /= 1024;
	return scaled(arena, value, units[unit]);
}

const char *report_quantity(struct report_arena *arena, enum report_unit unit, double value)
{
	double size = fabs(value);

	switch (unit) {
	case REPORT_TIME:
		return size < 1e3   ? scaled(arena, value, "ns")
		       : size < 1e6 ? scaled(arena, value / 1e3, "us")
		       : size < 1e9 ? scaled(arena, value / 1e6, "ms")
		                    : scaled(arena, value / 1e9, "s");
	case REPORT_BYTES:
		return bytes(arena, value);
	case REPORT_RATE:
		return scaled(arena, value, "/s");
	case REPORT_PERCENT:
		/* Cut at two decimals; the addend mends 89.79 being stored as 89.78999. */
		return report_print(arena, "%.2f %%", floor(value * 100 + 1e-7) / 100);
	case REPORT_COUNT:
		break;
	}
	return report_digits(arena, value, value == floor(value) ? 0 : 2);
}
