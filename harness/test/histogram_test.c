/* Histograms against sorted lists, and the log's text against its own decoding. The public
 * JavaScript decoder reads the same text in hlog_oracle.sh. */
/* SPDX-License-Identifier: MIT */
#include "hlog.h"

#include <poolproof/harness/entropy.h>
#include <poolproof/harness/test.h>

#include <math.h>

enum { VALUES = 20000 };
static struct harness_histogram h, other;

static int by_value(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

/* Up to 2^bits, evenly in the logarithm. */
static uint64_t any_value(struct harness_entropy *e, int bits)
{
	return (uint64_t)exp2(harness_entropy_unit(e) * bits);
}

static const double percentiles[] = { 0, 10, 50, 90, 99, 99.9, 99.99, 100 };

TEST(histogram, keeps_three_digits_of_every_percentile)
{
	static uint64_t values[VALUES];
	struct harness_entropy e;

	harness_entropy_init(&e, 1, 0, 0);
	for (int i = 0; i < VALUES; i++)
		harness_histogram_record(&h, values[i] = any_value(&e, 40));
	qsort(values, VALUES, sizeof *values, by_value);
	for (unsigned i = 0; i < sizeof percentiles / sizeof *percentiles; i++) {
		size_t rank = (size_t)ceil(percentiles[i] / 100 * VALUES - 1e-6);
		double exact = (double)values[rank == 0 ? 0 : rank - 1];
		double found = (double)harness_histogram_percentile(&h, percentiles[i]);

		CHECK_MSG(found >= exact && found <= exact * 1.001, "p%g: %g for %g",
		          percentiles[i], found, exact);
	}
	CHECK(harness_histogram_min(&h) <= values[0]);
	CHECK(harness_histogram_max(&h) >= values[VALUES - 1]);
	CHECK_INT(h.count, ==, VALUES);
}

TEST(histogram, tells_every_value_below_2048_apart)
{
	for (uint64_t i = 0; i < 2048; i++) {
		harness_histogram_clear(&h);
		harness_histogram_record(&h, i);
		CHECK_INT(harness_histogram_min(&h), ==, i);
		CHECK_INT(harness_histogram_max(&h), ==, i);
		CHECK_INT((uint64_t)harness_histogram_mean(&h), ==, i);
	}
}

TEST(histogram, counts_what_is_too_long_as_the_longest)
{
	harness_histogram_record(&h, UINT64_MAX);
	harness_histogram_record(&h, HARNESS_HISTOGRAM_VALUE_MAX);
	CHECK_INT(harness_histogram_max(&h), ==, HARNESS_HISTOGRAM_VALUE_MAX);
	CHECK_INT(h.counts[HARNESS_HISTOGRAM_SIZE - 1], ==, 2);
}

TEST(histogram, is_empty_when_all_zero)
{
	CHECK_INT(harness_histogram_min(&h) + harness_histogram_max(&h) +
	                  harness_histogram_percentile(&h, 50),
	          ==, 0);
	CHECK(harness_histogram_mean(&h) == 0);
}

TEST(histogram, adds_and_clears)
{
	harness_histogram_record(&h, 5);
	harness_histogram_record(&other, 1000000);
	harness_histogram_record(&other, 5);
	harness_histogram_add(&h, &other);
	CHECK_INT(h.count, ==, 3);
	CHECK_INT(h.counts[5], ==, 2);
	CHECK_INT(harness_histogram_max(&h), ==, harness_histogram_max(&other));
	harness_histogram_clear(&h);
	CHECK_INT(h.count, ==, 0);
	for (unsigned i = 0; i < HARNESS_HISTOGRAM_SIZE; i++)
		CHECK_INT(h.counts[i], ==, 0);
}

static int digit_of(char c)
{
	const char *digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

	return (int)(strchr(digits, c) - digits);
}

static size_t from_base64(const char *text, size_t size, unsigned char *to)
{
	size_t used = 0;

	for (size_t i = 0; i + 3 < size; i += 4) {
		int left = text[i + 2] == '=' ? 1 : text[i + 3] == '=' ? 2 : 3;
		int bits = digit_of(text[i]) << 18 | digit_of(text[i + 1]) << 12;

		bits |= left > 1 ? digit_of(text[i + 2]) << 6 : 0;
		bits |= left > 2 ? digit_of(text[i + 3]) : 0;
		for (int j = 0; j < left; j++)
			to[used++] = (unsigned char)(bits >> (16 - 8 * j));
	}
	return used;
}

static const unsigned char *leb128(const unsigned char *at, int64_t *ret_value)
{
	uint64_t value = 0;

	for (int i = 0;; i++) {
		if (i == 8) {
			value |= (uint64_t)*at++ << 56;
			break;
		}
		value |= (uint64_t)(*at & 0x7f) << 7 * i;
		if ((*at++ & 0x80) == 0)
			break;
	}
	*ret_value = (int64_t)(value >> 1) ^ -(int64_t)(value & 1);
	return at;
}

/* What a reader does: base64, zlib, LEB128. */
static void decode(const char *line, size_t size, struct harness_histogram *to)
{
	static unsigned char packed[1 << 20], plain[1 << 20];
	const char *text = strrchr(line, ',') + 1;
	size_t packed_size = from_base64(text, size - (size_t)(text - line) - 1, packed);
	uLongf plain_size = sizeof plain;
	unsigned slot = 0;

	CHECK_INT(packed[0] << 24 | packed[1] << 16 | packed[2] << 8 | packed[3], ==, 0x1c849314);
	CHECK_INT(uncompress(plain, &plain_size, packed + 8, packed_size - 8), ==, Z_OK);
	CHECK_INT(plain[0] << 24 | plain[1] << 16 | plain[2] << 8 | plain[3], ==, 0x1c849313);
	for (const unsigned char *at = plain + 40; at < plain + plain_size;) {
		int64_t value;

		at = leb128(at, &value);
		if (value < 0) {
			slot += (unsigned)-value;
			continue;
		}
		to->counts[slot++] = (uint64_t)value;
		to->count += (uint64_t)value;
	}
	to->end = slot;
}

TEST(histogram, comes_back_from_its_log_line)
{
	struct harness_entropy e;
	struct hlog encoder;
	const char *line;

	CHECK(hlog_init(&encoder));
	for (int round = 0; round < 20; round++) {
		harness_entropy_init(&e, 2, 0, (uint64_t)round);
		harness_histogram_clear(&h);
		memset(&other, 0, sizeof other);
		for (int i = 0; i < round * 100; i++)
			harness_histogram_record(&h, any_value(&e, 2 * round));
		/* Counts of every length a LEB128 can have, the ninth byte too. */
		h.counts[9] += UINT64_C(1) << 3 * round;
		h.count += UINT64_C(1) << 3 * round;
		h.end = h.end > 10 ? h.end : 10;
		size_t size = hlog_line(&encoder, "t", 0.5, 1, &h, &line);
		CHECK(strncmp(line, "Tag=t,0.500,1.000,", 18) == 0 && line[size - 1] == '\n');
		decode(line, size, &other);
		CHECK_INT(other.count, ==, h.count);
		CHECK_INT(other.end, ==, h.end);
		CHECK_INT(memcmp(other.counts, h.counts, sizeof h.counts), ==, 0);
	}
	hlog_done(&encoder);
}

/* For hlog_oracle.sh: a log, and beside it what its reader should find. */
TEST(histogram, writes_a_log_for_the_oracle)
{
	const char *path = getenv("HLOG_ORACLE");
	struct harness_entropy e;
	struct hlog encoder;
	char head[256], expected_path[4096];
	const char *line;

	if (path == NULL)
		return; /* hlog_oracle.sh asks for it. */
	snprintf(expected_path, sizeof expected_path, "%s.expected", path);
	FILE *log = fopen(path, "w"), *expected = fopen(expected_path, "w");
	CHECK(log != NULL && expected != NULL && hlog_init(&encoder));
	hlog_head(&(struct timespec){ 1764000000, 250000000 }, head, sizeof head);
	fputs(head, log);
	for (int round = 0; round < 40; round++) {
		harness_entropy_init(&e, 3, 0, (uint64_t)round);
		harness_histogram_clear(&h);
		for (int i = 0; i < 1 + round * 500; i++)
			harness_histogram_record(&h, any_value(&e, 1 + round));
		size_t size = hlog_line(&encoder, "oracle", round, 1, &h, &line);
		fwrite(line, 1, size, log);
		fprintf(expected, "%llu", (unsigned long long)h.count);
		for (unsigned i = 2; i < 7; i++)
			fprintf(expected, " %llu",
			        (unsigned long long)harness_histogram_percentile(&h,
			                                                         percentiles[i]));
		fprintf(expected, " %llu\n", (unsigned long long)harness_histogram_max(&h));
	}
	CHECK_INT(fclose(log) | fclose(expected), ==, 0);
	hlog_done(&encoder);
}
