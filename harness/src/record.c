/*
 * record.c - the run directory: made, written to, taken away again.
 *
 * Every write is checked. What cannot be written ends the run as "could not run": half a record
 * would be worse than none. Only what a run makes is ever removed, by name.
 */
/* SPDX-License-Identifier: MIT */
#include "internal.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char csv_head[] =
	"time_s,operations_count,leased_count,waiting_count,connections_count,statements_count,"
	"heap_bytes,pool_bytes,connections_bytes,sqlite_bytes,rss_bytes,pss_bytes,wal_bytes,"
	"fd_count,thread_count\n";

static const char *advice(int error)
{
	if (error == ENOSPC || error == EDQUOT || error == EFBIG)
		return "make room, or choose another place with --dir";
	if (error == EACCES || error == EPERM || error == EROFS)
		return "make it writable, or choose another place with --dir";
	return "choose another place with --dir";
}

static bool refuse(char *ret_why, size_t why_size, const char *path, int error)
{
	snprintf(ret_why, why_size, "%s: %s; %s", path, strerror(error), advice(error));
	return false;
}

/* Like mkdir -p. path is put back as it was. */
static int make_parents(char *path)
{
	for (char *slash = strchr(path + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		int rc = mkdir(path, 0777);
		int error = errno;
		*slash = '/';
		if (rc != 0 && error != EEXIST)
			return error;
	}
	return 0;
}

/* <build>/runs for <build>/VARIANT/scenarios/NAME, else ./runs. */
static void default_base(char *base, size_t base_size)
{
	static const char tail[] = "/" PP_VARIANT "/scenarios";
	ssize_t size = readlink("/proc/self/exe", base, base_size - 16);
	char *cut;

	base[size > 0 ? size : 0] = '\0';
	cut = strrchr(base, '/');
	if (cut != NULL)
		*cut = '\0';
	size = (ssize_t)strlen(base) - (ssize_t)strlen(tail);
	if (size > 0 && strcmp(base + size, tail) == 0)
		strcpy(base + size, "/runs");
	else
		strcpy(base, "runs");
}

static int make_default(struct harness_run *run)
{
	char base[PATH_MAX / 2], when[32];
	struct tm tm;
	int used;

	default_base(base, sizeof base);
	localtime_r(&run->started.tv_sec, &tm);
	strftime(when, sizeof when, "%Y%m%dT%H%M%S", &tm);
	used = snprintf(run->directory, sizeof run->directory, "%s/%s-%s-%llu", base,
	                run->scenario->name, when, (unsigned long long)run->options.seed);
	if (make_parents(run->directory) != 0)
		return errno;
	for (int i = 2; mkdir(run->directory, 0777) != 0; i++) {
		if (errno != EEXIST || i > 99)
			return errno;
		/* The same seed twice in a second. */
		snprintf(run->directory + used, sizeof run->directory - (size_t)used, "-%d", i);
	}
	return 0;
}

static int make_wanted(struct harness_run *run, const char *wanted)
{
	int error;

	if (snprintf(run->directory, sizeof run->directory, "%s", wanted) >=
	    (int)sizeof run->directory)
		return ENAMETOOLONG;
	error = make_parents(run->directory);
	if (error == 0 && mkdir(run->directory, 0777) != 0 && errno != EEXIST)
		error = errno;
	return error;
}

static int create(struct harness_run *run, const char *file)
{
	char path[PATH_MAX];

	snprintf(path, sizeof path, "%s/%s", run->directory, file);
	return open(path, O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0666);
}

bool record_create(struct harness_run *run, const char *wanted, char *ret_why, size_t why_size)
{
	char head[256];
	int error = wanted != NULL ? make_wanted(run, wanted) : make_default(run);

	if (error != 0)
		return refuse(ret_why, why_size, run->directory, error);
	snprintf(run->work, sizeof run->work, "%s/work", run->directory);
	if (mkdir(run->work, 0777) != 0) {
		error = errno;
		if (error != EEXIST) {
			rmdir(run->directory);
			return refuse(ret_why, why_size, run->directory, error);
		}
		snprintf(ret_why, why_size, "%s: holds a run already; name a new folder with --dir",
		         run->directory);
		return false;
	}
	run->events_fd = create(run, "events.jsonl");
	run->memory_fd = create(run, "memory.csv");
	run->hlog_fd = create(run, "latency.hlog");
	if (run->events_fd < 0 || run->memory_fd < 0 || run->hlog_fd < 0) {
		error = errno;
		if (error != EEXIST)
			record_remove(run);
		else
			rmdir(run->work);
		return refuse(ret_why, why_size, run->directory, error);
	}
	record_write(run, run->memory_fd, "memory.csv", csv_head, sizeof csv_head - 1);
	record_write(run, run->hlog_fd, "latency.hlog", head,
	             hlog_head(&run->started, head, sizeof head));
	return true;
}

static int remove_entry(const char *path, const struct stat *status, int type, struct FTW *ftw)
{
	(void)status, (void)type, (void)ftw;
	remove(path);
	return 0;
}

void record_remove_work(const struct harness_run *run)
{
	nftw(run->work, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

void record_remove(const struct harness_run *run)
{
	static const char *const ours[] = { "events.jsonl",
		                            "memory.csv",
		                            "latency.hlog",
		                            "run.json.new",
		                            "leaks/stacks.txt",
		                            "leaks",
		                            "" };
	char path[PATH_MAX];

	record_remove_work(run);
	for (unsigned i = 0; i < sizeof ours / sizeof *ours; i++) {
		snprintf(path, sizeof path, "%s/%s", run->directory, ours[i]);
		remove(path); /* A folder goes only when it is empty. */
	}
}

static bool write_all(int fd, const char *text, size_t size)
{
	while (size > 0) {
		ssize_t written = write(fd, text, size);

		if (written < 0 && errno == EINTR)
			continue;
		if (written <= 0) {
			if (written == 0)
				errno = ENOSPC;
			return false;
		}
		text += written;
		size -= (size_t)written;
	}
	return true;
}

void record_write(struct harness_run *run, int fd, const char *file, const char *text, size_t size)
{
	if (fd >= 0 && !write_all(fd, text, size))
		cannot(run, "%s/%s: %s; %s", run->directory, file, strerror(errno), advice(errno));
}

void record_close(struct harness_run *run)
{
	int *fds[] = { &run->events_fd, &run->memory_fd, &run->hlog_fd };

	for (unsigned i = 0; i < 3; i++) {
		if (*fds[i] >= 0 && close(*fds[i]) != 0)
			cannot(run, "%s: %s; %s", run->directory, strerror(errno), advice(errno));
		*fds[i] = -1;
	}
}

static void sync_directory(const char *path)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd >= 0) {
		fsync(fd); /* Some file systems cannot; then the rename is as safe as it gets. */
		close(fd);
	}
}

bool record_result(const struct harness_run *run, const char *json, char *ret_why, size_t why_size)
{
	char fresh[PATH_MAX], final[PATH_MAX];
	int fd, error;

	snprintf(fresh, sizeof fresh, "%s/run.json.new", run->directory);
	snprintf(final, sizeof final, "%s/run.json", run->directory);
	fd = open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	if (fd < 0)
		return refuse(ret_why, why_size, fresh, errno);
	error = !write_all(fd, json, strlen(json)) || fsync(fd) != 0 ? errno : 0;
	if (close(fd) != 0 && error == 0)
		error = errno;
	if (error == 0 && rename(fresh, final) != 0)
		error = errno;
	if (error != 0)
		return refuse(ret_why, why_size, fresh, error);
	sync_directory(run->directory);
	return true;
}
