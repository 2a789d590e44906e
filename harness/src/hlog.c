/*
 * hlog.c - histogram to text: zig-zag LEB128 with runs of zeros, zlib, base64.
 */
/* SPDX-License-Identifier: MIT */
#include "hlog.h"

#include <endian.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

enum {
	/* The second-lowest digit says "LEB128, words of one byte", as the reference encoder does;
	 * decoders mask it out. */
	COOKIE_PLAIN = 0x1c849303 | 0x10,
	COOKIE_COMPRESSED = 0x1c849304 | 0x10,
	HEAD_SIZE = 40,
	PLAIN_SIZE = HEAD_SIZE + 9 * HARNESS_HISTOGRAM_SIZE, /* Nine bytes is the longest LEB128. */
	COMPRESSED_SIZE = PLAIN_SIZE + PLAIN_SIZE / 100 + 64,
	LINE_SIZE = COMPRESSED_SIZE * 4 / 3 + 256,
};

struct hlog_buffers {
	unsigned char plain[PLAIN_SIZE];
	unsigned char compressed[8 + COMPRESSED_SIZE];
	char line[LINE_SIZE];
};

bool hlog_init(struct hlog *encoder)
{
	memset(encoder, 0, sizeof *encoder);
	if (deflateInit(&encoder->deflate, Z_DEFAULT_COMPRESSION) != Z_OK)
		return false;
	/* mmap: the harness stays out of the heap that it watches. */
	encoder->buffers = mmap(NULL, sizeof *encoder->buffers, PROT_READ | PROT_WRITE,
	                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (encoder->buffers != MAP_FAILED)
		return true;
	encoder->buffers = NULL;
	deflateEnd(&encoder->deflate);
	return false;
}

void hlog_done(struct hlog *encoder)
{
	if (encoder->buffers == NULL)
		return;
	deflateEnd(&encoder->deflate);
	munmap(encoder->buffers, sizeof *encoder->buffers);
	encoder->buffers = NULL;
}

static unsigned char *put32(unsigned char *at, uint32_t value)
{
	value = htobe32(value);
	memcpy(at, &value, sizeof value);
	return at + sizeof value;
}

static unsigned char *put64(unsigned char *at, uint64_t value)
{
	value = htobe64(value);
	memcpy(at, &value, sizeof value);
	return at + sizeof value;
}

/* Seven bits a byte, the ninth byte whole. */
static unsigned char *put_leb128(unsigned char *at, int64_t value)
{
	uint64_t zigzag = (uint64_t)value << 1 ^ (uint64_t)(value >> 63);

	for (int i = 0; i < 8 && zigzag > 0x7f; i++) {
		*at++ = (unsigned char)(zigzag | 0x80);
		zigzag >>= 7;
	}
	*at++ = (unsigned char)zigzag;
	return at;
}

static size_t encode_plain(const struct harness_histogram *h, unsigned char *buffer)
{
	unsigned char *at = buffer + HEAD_SIZE;
	double ratio = 1;
	uint64_t ratio_bits;

	for (unsigned i = 0; i < h->end;) {
		int64_t zeros = 0;

		for (; i < h->end && h->counts[i] == 0; i++)
			zeros++;
		if (zeros > 0)
			at = put_leb128(at, -zeros);
		else
			at = put_leb128(at, (int64_t)h->counts[i++]);
	}
	size_t size = (size_t)(at - buffer);
	memcpy(&ratio_bits, &ratio, sizeof ratio_bits);
	at = put32(buffer, COOKIE_PLAIN);
	at = put32(at, (uint32_t)(size - HEAD_SIZE));
	at = put32(at, 0); /* Normalising offset: values are not shifted. */
	at = put32(at, 3); /* Significant digits. */
	at = put64(at, 1); /* Lowest value that can be told from 0. */
	at = put64(at, HARNESS_HISTOGRAM_VALUE_MAX);
	put64(at, ratio_bits);
	return size;
}

/* The buffers are sized for the worst, so one deflate() is always enough. */
static size_t compress_plain(struct hlog *encoder, size_t plain_size)
{
	z_stream *z = &encoder->deflate;
	unsigned char *out = encoder->buffers->compressed;

	deflateReset(z);
	z->next_in = encoder->buffers->plain;
	z->avail_in = (uInt)plain_size;
	z->next_out = out + 8;
	z->avail_out = COMPRESSED_SIZE;
	deflate(z, Z_FINISH);
	put32(put32(out, COOKIE_COMPRESSED), (uint32_t)z->total_out);
	return 8 + z->total_out;
}

static char *put_base64(char *at, const unsigned char *data, size_t size)
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

	for (size_t i = 0; i < size; i += 3) {
		size_t left = size - i;
		uint32_t three = (uint32_t)data[i] << 16;

		three |= left > 1 ? (uint32_t)data[i + 1] << 8 : 0;
		three |= left > 2 ? data[i + 2] : 0;
		*at++ = digits[three >> 18];
		*at++ = digits[three >> 12 & 63];
		*at++ = left > 1 ? digits[three >> 6 & 63] : '=';
		*at++ = left > 2 ? digits[three & 63] : '=';
	}
	return at;
}

size_t hlog_head(const struct timespec *started, char *text, size_t text_size)
{
	char date[64];
	struct tm tm;

	gmtime_r(&started->tv_sec, &tm);
	strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%SZ", &tm);
	return (size_t)snprintf(text, text_size,
	                        "#[Histogram log format version 1.3]\n"
	                        "#[StartTime: %lld.%03ld (seconds since epoch), %s]\n"
	                        "\"StartTimestamp\",\"Interval_Length\",\"Interval_Max\","
	                        "\"Interval_Compressed_Histogram\"\n",
	                        (long long)started->tv_sec, started->tv_nsec / 1000000, date);
}

size_t hlog_line(struct hlog *encoder, const char *tag, double start_s, double length_s,
                 const struct harness_histogram *h, const char **ret_line)
{
	char *line = encoder->buffers->line;
	size_t size = compress_plain(encoder, encode_plain(h, encoder->buffers->plain));
	/* Interval_Max is in milliseconds by the log's custom; the histogram's own unit is ns. */
	int head = snprintf(line, 200, "Tag=%.99s,%.3f,%.3f,%.3f,", tag, start_s, length_s,
	                    (double)harness_histogram_max(h) / 1e6);
	char *end = put_base64(line + head, encoder->buffers->compressed, size);

	*end++ = '\n';
	*ret_line = line;
	return (size_t)(end - line);
}
