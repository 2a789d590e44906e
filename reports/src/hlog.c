/*
 * The log and its histograms; see hlog.h. One thing to know before reading: everything in the
 * file is foreign, so every length is checked before it is believed.
 */
/* SPDX-License-Identifier: MIT */
#include "hlog.h"

#include <endian.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

enum {
	COOKIE_COMPRESSED = 0x1c849304, /* Less 0x10, which says "word size is variable". */
	COOKIE_PLAIN = 0x1c849303,
	HEAD_SIZE = 40,
	COUNTS_MAX = 1 << 20 /* Five digits over 63 bits need 6.2 million; ours are 3 digits. */
};

struct layout {
	unsigned half_magnitude; /* log2 of half a bucket's slots. */
	unsigned unit_magnitude;
};

static struct layout layout_of(uint64_t lowest, unsigned digits)
{
	struct layout l = { 0 };
	double slots = 2 * pow(10, digits);

	while ((double)(UINT64_C(1) << (l.half_magnitude + 1)) < slots)
		l.half_magnitude++;
	while (lowest >> (l.unit_magnitude + 1) != 0)
		l.unit_magnitude++;
	return l;
}

/* The range of values that index stands for. */
static void bounds(const struct report_histogram *h, size_t index, uint64_t *ret_low,
                   uint64_t *ret_high)
{
	struct layout l = layout_of(h->lowest, h->digits);
	size_t half = (size_t)1 << l.half_magnitude;
	unsigned bucket = (unsigned)(index >> l.half_magnitude);
	uint64_t sub = index & (half - 1);

	if (bucket > 0) {
		sub += half;
		bucket--;
	}
	*ret_low = sub << (bucket + l.unit_magnitude);
	*ret_high = *ret_low + (UINT64_C(1) << (bucket + l.unit_magnitude)) - 1;
}

/* How many indexes fit into 63 bits of value. */
static size_t size_max(uint64_t lowest, unsigned digits)
{
	struct layout l = layout_of(lowest, digits);
	size_t size = (size_t)(64 - l.unit_magnitude - l.half_magnitude) << l.half_magnitude;

	return size < COUNTS_MAX ? size : COUNTS_MAX;
}

uint64_t report_histogram_rank(const struct report_histogram *h, uint64_t rank)
{
	uint64_t seen = 0, low, high;

	for (size_t i = 0; i < h->size; i++) {
		seen += h->counts[i];
		if (h->counts[i] > 0 && seen >= rank) {
			bounds(h, i, &low, &high);
			return high;
		}
	}
	return 0;
}

uint64_t report_histogram_percentile(const struct report_histogram *h, double percent)
{
	/* The small subtrahend keeps 99.9 % of 10,000 at rank 9,990 whatever the rounding. */
	double rank = ceil(percent / 100 * (double)h->count - 1e-6);

	return report_histogram_rank(h, rank < 1 ? 1 : (uint64_t)rank);
}

uint64_t report_histogram_max(const struct report_histogram *h)
{
	return report_histogram_rank(h, h->count);
}

uint64_t report_histogram_min(const struct report_histogram *h)
{
	uint64_t low = 0, high;

	for (size_t i = 0; i < h->size; i++) {
		if (h->counts[i] > 0) {
			bounds(h, i, &low, &high);
			break;
		}
	}
	return low;
}

double report_histogram_mean(const struct report_histogram *h)
{
	double sum = 0;
	uint64_t low, high;

	for (size_t i = 0; i < h->size; i++) {
		if (h->counts[i] == 0)
			continue;
		bounds(h, i, &low, &high);
		/* The middle of the bucket, as HdrHistogram takes it. */
		sum += (double)h->counts[i] * (double)(low + (high - low + 1) / 2);
	}
	return h->count == 0 ? 0 : sum / (double)h->count;
}

bool report_percentile_holds(uint64_t count, double percent)
{
	return percent <= 0 || (double)count * (1 - percent / 100) >= 10 - 1e-6;
}

/* Decodes in place of text; returns the size, or -1. */
static long base64_decode(const char *text, unsigned char *to)
{
	static const char alphabet[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	uint32_t bits = 0;
	unsigned have = 0;
	long size = 0;

	for (; *text != '\0' && *text != '='; text++) {
		const char *found = strchr(alphabet, *text);

		if (found == NULL)
			return -1;
		bits = bits << 6 | (uint32_t)(found - alphabet);
		have += 6;
		if (have >= 8) {
			have -= 8;
			to[size++] = (unsigned char)(bits >> have);
		}
	}
	return text[strspn(text, "=")] == '\0' ? size : -1;
}

static uint32_t get32(const unsigned char *from)
{
	uint32_t value;

	memcpy(&value, from, sizeof value);
	return be32toh(value);
}

static uint64_t get64(const unsigned char *from)
{
	uint64_t value;

	memcpy(&value, from, sizeof value);
	return be64toh(value);
}

/* Zig-zag LEB128 as HdrHistogram has it: nine bytes at most, the ninth is all payload. */
static const unsigned char *get_varint(const unsigned char *from, const unsigned char *end,
                                       int64_t *ret_value)
{
	uint64_t value = 0;

	for (unsigned i = 0; i < 9; i++) {
		if (from == end)
			return NULL;
		value |= (uint64_t)(i < 8 ? *from & 0x7f : *from) << (7 * i);
		if ((*from++ & 0x80) == 0)
			break;
	}
	*ret_value = (int64_t)(value >> 1) ^ -(int64_t)(value & 1);
	return from;
}

static const char *decode_counts(struct report_arena *arena, const unsigned char *from,
                                 const unsigned char *end, struct report_histogram *h)
{
	size_t most = size_max(h->lowest, h->digits), index = 0;
	uint64_t *counts = report_alloc(arena, most * sizeof *counts);

	while (from < end) {
		int64_t value;

		from = get_varint(from, end, &value);
		if (from == NULL)
			return "a count is cut short";
		if (value < 0) { /* A run of zeros. */
			if (value < -(int64_t)(most - index))
				return "more counts than values";
			index += (size_t)-value;
			continue;
		}
		if (index >= most)
			return "more counts than values";
		if ((uint64_t)value > UINT64_MAX / 2 - h->count)
			return "the counts overflow";
		counts[index++] = (uint64_t)value;
		h->count += (uint64_t)value;
	}
	h->counts = counts;
	h->size = index;
	return NULL;
}

/* The encoding inside the compression: 40 bytes of head, then the counts. */
static const char *decode_plain(struct report_arena *arena, const unsigned char *data, size_t size,
                                struct report_histogram *h)
{
	if (size < HEAD_SIZE || (get32(data) & ~UINT32_C(0xf0)) != (COOKIE_PLAIN & ~0xf0))
		return "not a V2 histogram";
	if (get32(data + 4) != size - HEAD_SIZE)
		return "the length is wrong";
	if (get32(data + 8) != 0)
		return "a shifted histogram, which is not understood";
	h->digits = get32(data + 12);
	h->lowest = get64(data + 16);
	if (h->digits > 5 || h->lowest < 1 || h->lowest > UINT64_C(1) << 32)
		return "the precision makes no sense";
	return decode_counts(arena, data + HEAD_SIZE, data + size, h);
}

static const char *decode(struct report_arena *arena, const char *base64,
                          struct report_histogram *h)
{
	unsigned char *packed = report_alloc(arena, strlen(base64) + 8);
	/* A count takes at most nine bytes. */
	uLongf size = HEAD_SIZE + 9 * (uLongf)(strlen(base64) < 4096 ? 65536 : COUNTS_MAX);
	long packed_size = base64_decode(base64, packed);
	unsigned char *data;
	const char *wrong;

	if (packed_size < 8)
		return "not base64";
	if ((get32(packed) & ~UINT32_C(0xf0)) != (COOKIE_COMPRESSED & ~0xf0))
		return "not a compressed V2 histogram";
	if (get32(packed + 4) != (uint32_t)packed_size - 8)
		return "the length is wrong";
	data = malloc(size);
	if (data == NULL || uncompress(data, &size, packed + 8, (uLong)packed_size - 8) != Z_OK)
		wrong = "the compressed data is damaged";
	else
		wrong = decode_plain(arena, data, size, h);
	free(data);
	return wrong;
}

bool report_histogram_decode(struct report_arena *arena, const char *base64,
                             struct report_histogram *ret_histogram, const char **reterr_text)
{
	struct report_histogram h = { 0 };
	const char *wrong = decode(arena, base64, &h);

	if (wrong != NULL) {
		*reterr_text = wrong;
		return false;
	}
	*ret_histogram = h;
	return true;
}

static const char *add(struct report_arena *arena, struct report_histogram *into,
                       const struct report_histogram *from)
{
	if (into->digits == 0 && into->lowest == 0) {
		into->digits = from->digits;
		into->lowest = from->lowest;
	}
	if (into->digits != from->digits || into->lowest != from->lowest)
		return "the precision changes within the log";
	if (into->size < from->size) {
		uint64_t *larger = report_alloc(arena, from->size * sizeof *larger);

		if (into->size > 0)
			memcpy(larger, into->counts, into->size * sizeof *larger);
		into->counts = larger;
		into->size = from->size;
	}
	for (size_t i = 0; i < from->size; i++)
		into->counts[i] += from->counts[i];
	into->count += from->count;
	return NULL;
}

static unsigned tag_number(struct report_arena *arena, struct report_hlog *log, const char *name,
                           size_t size)
{
	for (size_t i = 0; i < log->tag_count; i++) {
		if (strlen(log->tags[i].name) == size && memcmp(log->tags[i].name, name, size) == 0)
			return (unsigned)i;
	}
	log->tags = report_grow(arena, log->tags, log->tag_count, sizeof *log->tags);
	log->tags[log->tag_count].name = report_copy(arena, name, size);
	return (unsigned)log->tag_count++;
}

/* One line: [Tag=NAME,]start,length,max,histogram. */
static const char *read_line(struct report_arena *arena, struct report_hlog *log, const char *line)
{
	struct report_interval interval = { 0 };
	struct report_arena scratch = { 0 };
	struct report_histogram h = { 0 };
	const char *name = "", *comma = "", *wrong;
	char *end;

	if (strncmp(line, "Tag=", 4) == 0) {
		name = line + 4;
		comma = strchr(name, ',');
		if (comma == NULL)
			return "a tag without an interval";
		line = comma + 1;
	}
	interval.start_s = strtod(line, &end);
	if (end == line || *end != ',')
		return "no start of the interval";
	line = end + 1;
	interval.length_s = strtod(line, &end);
	if (end == line || *end != ',' || !isfinite(interval.start_s + interval.length_s))
		return "no length of the interval";
	line = strchr(end + 1, ',');
	if (line == NULL)
		return "no histogram";
	wrong = decode(&scratch, line + 1, &h);
	if (wrong == NULL) {
		interval.tag =
			tag_number(arena, log, name, (size_t)(comma - name) * (*comma == ','));
		interval.count = h.count;
		interval.p50_ns = report_histogram_percentile(&h, 50);
		interval.p99_ns = report_histogram_percentile(&h, 99);
		interval.p999_ns = report_histogram_percentile(&h, 99.9);
		interval.max_ns = report_histogram_max(&h);
		wrong = add(arena, &log->tags[interval.tag].total, &h);
		log->intervals = report_grow(arena, log->intervals, log->interval_count,
		                             sizeof *log->intervals);
		log->intervals[log->interval_count++] = interval;
	}
	report_arena_done(&scratch);
	return wrong;
}

bool report_hlog_read(struct report_arena *arena, const char *path, struct report_hlog *ret_log,
                      const char **reterr_text)
{
	struct report_hlog log = { 0 };
	unsigned number = 1;
	size_t size;
	char *text;

	if (!report_read(arena, path, &text, &size, reterr_text))
		return false;
	if (strlen(text) != size) {
		*reterr_text = report_print(arena, "%s: holds a NUL byte: damaged", path);
		return false;
	}
	for (char *line = text, *end; *line != '\0'; line = end, number++) {
		const char *wrong = NULL;

		end = strchrnul(line, '\n');
		if (*end != '\0')
			*end++ = '\0';
		line[strcspn(line, "\r")] = '\0';
		if (*line != '#' && *line != '"' && *line != '\0')
			wrong = read_line(arena, &log, line);
		if (wrong != NULL) {
			*reterr_text = report_print(arena, "%s:%u: %s", path, number, wrong);
			return false;
		}
	}
	*ret_log = log;
	return true;
}

const struct report_histogram *report_hlog_find(const struct report_hlog *log, const char *tag)
{
	for (size_t i = 0; i < log->tag_count; i++) {
		if (strcmp(log->tags[i].name, tag) == 0)
			return &log->tags[i].total;
	}
	return NULL;
}
