/*
 * hlog.h - HdrHistogram's V2 interval log, as the public tools read it.
 *
 *     hlog_init(&encoder);
 *     size = hlog_line(&encoder, "acquire.wait", 3.0, 1.0, histogram, &line);
 *
 * Threads    One thread at a time for each encoder.
 * Memory     Everything is taken by hlog_init(); hlog_line() allocates nothing.
 */
/* SPDX-License-Identifier: MIT */
#ifndef HARNESS_HLOG_H
#define HARNESS_HLOG_H

#include <stdbool.h>
#include <stddef.h>
#include <time.h>
#include <zlib.h>

#include <poolproof/harness/histogram.h>

struct hlog {
	z_stream deflate;
	struct hlog_buffers *buffers;
};

bool hlog_init(struct hlog *encoder);
void hlog_done(struct hlog *encoder);

/* The log's head, into text. started is since the epoch. Returns the length. */
size_t hlog_head(const struct timespec *started, char *text, size_t text_size);
/* One line with its newline, valid until the next call. Returns its length. */
size_t hlog_line(struct hlog *encoder, const char *tag, double start_s, double length_s,
                 const struct harness_histogram *h, const char **ret_line);

#endif
