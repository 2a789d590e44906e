/* See fixture.h. */
/* SPDX-License-Identifier: MIT */
#include "fixture.h"

#include <endian.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zlib.h>

struct fixture fixture_open(void)
{
	struct fixture f = { .folder = "/tmp/poolproof-reports-XXXXXX" };

	CHECK(mkdtemp(f.folder) != NULL);
	setenv("SOURCE_DATE_EPOCH", "1700000000", 1);
	return f;
}

static int remove_one(const char *path, const struct stat *s, int type, struct FTW *where)
{
	(void)s, (void)type, (void)where;
	return remove(path);
}

void fixture_close(struct fixture *f)
{
	nftw(f->folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	report_arena_done(&f->arena);
}

const char *fixture_path(struct fixture *f, const char *name)
{
	return report_print(&f->arena, "%s/%s", f->folder, name);
}

const char *fixture_write(struct fixture *f, const char *name, const char *text)
{
	const char *path = fixture_path(f, name), *error;
	FILE *out;

	CHECK(report_make_folder(
		&f->arena, report_copy(&f->arena, path, (size_t)(report_basename(path) - path) - 1),
		&error));
	out = fopen(path, "wb");
	CHECK(out != NULL);
	fputs(text, out);
	CHECK(fclose(out) == 0);
	return path;
}

const char *fixture_read(struct fixture *f, const char *name)
{
	const char *error = "";
	char *text;
	size_t size;

	CHECK_MSG(report_read(&f->arena, fixture_path(f, name), &text, &size, &error), "%s", error);
	return text;
}

/* As many values as run.json counts. */
static void default_log(struct fixture *f, const char *name)
{
	uint64_t values[1000];

	for (size_t i = 0; i < 1000; i++)
		values[i] = (i + 1) * 1000;
	fixture_write(f, report_print(&f->arena, "%s/latency.hlog", name),
	              fixture_hlog_line(f, "operation", 0, values, 1000));
}

const char *fixture_run(struct fixture *f, struct fixture_run run)
{
	const char *name = run.name != NULL ? run.name : "concurrent_load-20261123T190000-42";
	const char *scenario = run.scenario != NULL ? run.scenario : "concurrent_load";

	fixture_write(
		f, report_print(&f->arena, "%s/run.json", name),
		report_print(
			&f->arena,
			"{\"format\":1,\"scenario\":\"%s\",\"variant\":\"%s\",\"under\":\"%s\","
			"\"target\":\"poolproof\",\"seed\":42,\"started\":\"%s\",\"seconds\":1.5,"
			"\"repeat\":\"poolproof run concurrent_load --seed 42\",\"verdict\":%s,"
			"\"numbers\":%s}",
			scenario, run.variant != NULL ? run.variant : "release",
			run.under != NULL ? run.under : "none",
			run.started != NULL ? run.started : "2026-11-23T19:00:00Z",
			run.verdict != NULL ? run.verdict : "{\"result\":\"PASS\",\"reasons\":[]}",
			run.numbers != NULL ? run.numbers
					    : "{\"operations_count\":1000,\"operations_per_s\":500,"
					      "\"errors_count\":0,\"errors.busy_count\":0,"
					      "\"heap.residue_bytes\":0,\"fd.leaked_count\":0,"
					      "\"pool.retired_count\":0}"));
	if (run.numbers == NULL)
		default_log(f, name);
	return fixture_path(f, name);
}

struct report_run fixture_load(struct fixture *f, const char *path)
{
	struct report_run run;
	const char *error = "";

	CHECK_MSG(report_run_read(&f->arena, path, &run, &error), "%s", error);
	return run;
}

/* HdrHistogram's index, written a second time from its description: 2048 slots of one, then
 * 1024 slots for each doubling. */
static size_t index_of(uint64_t value)
{
	unsigned bucket = value < 2048 ? 0 : 53 - (unsigned)__builtin_clzll(value);

	return bucket == 0 ? value : ((size_t)bucket << 10) + (size_t)(value >> bucket);
}

static size_t put_varint(unsigned char *to, int64_t value)
{
	uint64_t bits = ((uint64_t)value << 1) ^ (uint64_t)(value >> 63);
	size_t size = 0;

	while (bits >= 0x80 && size < 8) {
		to[size++] = (unsigned char)(bits | 0x80);
		bits >>= 7;
	}
	to[size++] = (unsigned char)bits;
	return size;
}

static void put32(unsigned char *to, uint32_t value)
{
	value = htobe32(value);
	memcpy(to, &value, sizeof value);
}

static size_t encode_plain(const uint64_t *counts, size_t size, unsigned char *to)
{
	size_t at = 40;

	memset(to, 0, at);
	for (size_t i = 0; i < size;) {
		size_t zeros = 0;

		while (i + zeros < size && counts[i + zeros] == 0)
			zeros++;
		at += put_varint(to + at, zeros > 0 ? -(int64_t)zeros : (int64_t)counts[i]);
		i += zeros > 0 ? zeros : 1;
	}
	put32(to, 0x1c849313);
	put32(to + 4, (uint32_t)at - 40);
	put32(to + 12, 3);
	put32(to + 20, 1);
	put32(to + 24, 256); /* Highest trackable: 2^40. */
	put32(to + 32, 0x3ff00000);
	return at;
}

const char *fixture_pack(struct fixture *f, const unsigned char *plain, size_t size)
{
	static const char alphabet[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	uLongf packed_size = compressBound(size);
	unsigned char *packed = report_alloc(&f->arena, packed_size + 11);
	char *text, *to;

	CHECK(compress(packed + 8, &packed_size, plain, size) == Z_OK);
	put32(packed, 0x1c849314);
	put32(packed + 4, (uint32_t)packed_size);
	text = to = report_alloc(&f->arena, packed_size * 2 + 16);
	for (size_t i = 0; i < packed_size + 8; i += 3) {
		uint32_t bits =
			(uint32_t)packed[i] << 16 | (uint32_t)packed[i + 1] << 8 | packed[i + 2];

		for (int k = 0; k < 4; k++)
			*to++ = i + (size_t)k > packed_size + 8
			                ? '='
			                : alphabet[bits >> (18 - 6 * k) & 63];
	}
	return text;
}

const char *fixture_base64(struct fixture *f, const uint64_t *values, size_t count)
{
	enum { SLOTS = 32 << 10 };
	uint64_t *counts = report_alloc(&f->arena, SLOTS * sizeof *counts);
	unsigned char *plain = report_alloc(&f->arena, SLOTS * 9 + 64);
	size_t last = 0;

	for (size_t i = 0; i < count; i++) {
		counts[index_of(values[i])]++;
		last = index_of(values[i]) > last ? index_of(values[i]) : last;
	}
	return fixture_pack(f, plain, encode_plain(counts, last + 1, plain));
}

const char *fixture_hlog_line(struct fixture *f, const char *tag, double start_s,
                              const uint64_t *values, size_t count)
{
	return report_print(&f->arena, "%s%s%s%.3f,1.000,0.000,%s\n", *tag ? "Tag=" : "", tag,
	                    *tag ? "," : "", start_s, fixture_base64(f, values, count));
}

static void redirect(const char *path, int to)
{
	int file = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	dup2(file, to);
	close(file);
}

/* The soft limit alone, so that it can be lifted before coverage is written. */
static void limit_files(size_t size)
{
	struct rlimit limit;

	getrlimit(RLIMIT_FSIZE, &limit);
	limit.rlim_cur = size > 0 ? size : limit.rlim_max;
	setrlimit(RLIMIT_FSIZE, &limit);
	signal(SIGXFSZ, SIG_IGN);
}

/* Whoever watches the tests (Valgrind) may know its files by names from where they began, and
 * reads them again in a program that is executed. */
static bool executes(const char *command)
{
	return command != NULL && (strcmp(command, "run") == 0 || strcmp(command, "list") == 0);
}

int fixture_command(struct fixture *f, const char *first, ...)
{
	const char *out = fixture_path(f, ".out"), *err = fixture_path(f, ".err");
	char *argv[24] = { (char *)"poolproof" };
	int argc = 1, status;
	va_list args;
	pid_t child;

	va_start(args, first);
	for (const char *word = first; word != NULL; word = va_arg(args, const char *))
		argv[argc++] = (char *)word;
	va_end(args);
	fflush(NULL);
	child = fork();
	if (child == 0) {
		redirect(f->output != NULL ? f->output : out, STDOUT_FILENO);
		redirect(err, STDERR_FILENO);
		if (!executes(first) && chdir(f->folder) != 0)
			_exit(99);
		limit_files(f->disk);
		status = report_command(argc, argv, fixture_path(f, "build/release"));
		limit_files(0);
		report_arena_done(&f->arena); /* Or the child's leak check would count it. */
		exit(status);
	}
	CHECK(child > 0 && waitpid(child, &status, 0) == child);
	f->out = (char *)(f->output != NULL ? "" : fixture_read(f, ".out"));
	f->err = (char *)fixture_read(f, ".err");
	CHECK_MSG(WIFEXITED(status), "the command died: %s", f->err);
	return WEXITSTATUS(status);
}
