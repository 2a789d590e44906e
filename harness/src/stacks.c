/*
 * stacks.c - every thread's stack of a child that hangs, or the one of a crash.
 *
 * The parent asks one thread after another by a signal; its handler only walks the stack, which
 * works inside any lock. Parent and child are one program forked, so addresses mean the same in
 * both, and the parent, which has all its freedom, finds the names.
 */
/* SPDX-License-Identifier: MIT */
#include "internal.h"

#include <dirent.h>
#include <dlfcn.h>
#include <elf.h>
#include <execinfo.h>
#include <fcntl.h>
#include <link.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { ASK_SIGNAL = 40, SHOWN_LINES = 120 };
static const int crashes[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT };
static struct shared *shared; /* For the handlers; the child's. */

static void on_ask(int number)
{
	int error = errno, count;

	(void)number;
	/* A late answer to an earlier question must not spoil another thread's. */
	if (atomic_load(&shared->frame_wanted) == (int)syscall(SYS_gettid) &&
	    atomic_load(&shared->frame_count) == 0) {
		count = backtrace(shared->frames, SHARED_FRAMES);
		atomic_store(&shared->frame_count, count > 0 ? count : 1);
	}
	errno = error;
}

static void on_crash(int number)
{
	int none = 0, me = (int)syscall(SYS_gettid);

	if (atomic_compare_exchange_strong(&shared->crash_thread, &none, me)) {
		atomic_store(&shared->crash_signal, number);
		atomic_store(&shared->frame_count, backtrace(shared->frames, SHARED_FRAMES));
	} else if (none != me) {
		/* Of several that crash at once the first one's stack is kept, and it ends them. */
		for (;;)
			pause();
	}
	signal(number, SIG_DFL);
	raise(number);
}

void stacks_handlers(struct harness_run *run)
{
	struct sigaction act = { .sa_handler = on_ask, .sa_flags = SA_RESTART }, old;
	void *frames[4];

	shared = run->shared;
	backtrace(frames, 4); /* Loads libgcc now: a handler cannot. */
	sigaction(ASK_SIGNAL, &act, NULL);
	act = (struct sigaction){ .sa_handler = on_crash, .sa_flags = SA_NODEFER };
	for (unsigned i = 0; i < sizeof crashes / sizeof *crashes; i++)
		if (sigaction(crashes[i], NULL, &old) == 0 && old.sa_handler == SIG_DFL)
			sigaction(crashes[i], &act, NULL); /* A sanitizer keeps its own. */
}

/* The function around an address of an object file, from its full symbol table: functions that
 * are hidden or static too, which dladdr() does not know. */
static bool symbol_in(const unsigned char *file, size_t size, uint64_t address, char *ret_name,
                      size_t name_size)
{
	const ElfW(Ehdr) *head = (const void *)file;
	const ElfW(Shdr) *sections = (const void *)(file + head->e_shoff);

	if (size < sizeof *head || memcmp(file, ELFMAG, SELFMAG) != 0 ||
	    head->e_shoff + head->e_shnum * sizeof *sections > size)
		return false;
	for (unsigned i = 0; i < head->e_shnum; i++) {
		const ElfW(Sym) *symbols = (const void *)(file + sections[i].sh_offset);
		size_t count = sections[i].sh_size / sizeof *symbols;

		if (sections[i].sh_type != SHT_SYMTAB || sections[i].sh_link >= head->e_shnum ||
		    sections[i].sh_offset + sections[i].sh_size > size)
			continue;
		const char *names = (const char *)file + sections[sections[i].sh_link].sh_offset;
		for (size_t j = 0; j < count; j++) {
			if (ELF64_ST_TYPE(symbols[j].st_info) != STT_FUNC ||
			    address < symbols[j].st_value ||
			    address >= symbols[j].st_value + symbols[j].st_size)
				continue;
			snprintf(ret_name, name_size, "%s+0x%llx", names + symbols[j].st_name,
			         (unsigned long long)(address - symbols[j].st_value));
			return true;
		}
	}
	return false;
}

static bool symbol_of(const Dl_info *object, void *address, char *ret_name, size_t name_size)
{
	const char *path = object->dli_fname;
	uint64_t offset = (uint64_t)((char *)address - (char *)object->dli_fbase);
	struct stat status;
	bool found = false;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0) /* argv[0] of the program, perhaps without its folder. */
		fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	if (fd >= 0 && fstat(fd, &status) == 0 && status.st_size > 0) {
		size_t size = (size_t)status.st_size;
		void *file = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);

		if (file != MAP_FAILED) {
			found = symbol_in(file, size, offset, ret_name, name_size);
			munmap(file, size);
		}
	}
	if (fd >= 0)
		close(fd);
	return found;
}

static void frame_write(FILE *to, unsigned number, void *address)
{
	Dl_info object = { 0 };
	char name[256] = "?";
	const char *slash = NULL;

	if (dladdr(address, &object) != 0) {
		slash = strrchr(object.dli_fname, '/');
		/* One less: a return address may already be in the next function. */
		if (!symbol_of(&object, (char *)address - 1, name, sizeof name) &&
		    object.dli_sname != NULL)
			snprintf(name, sizeof name, "%s+0x%tx", object.dli_sname,
			         (char *)address - (char *)object.dli_saddr);
	}
	fprintf(to, "  #%-2u %p %s (%s)\n", number, address, name,
	        slash != NULL              ? slash + 1
	        : object.dli_fname != NULL ? object.dli_fname
	                                   : "?");
}

static void frames_write(FILE *to, const struct shared *from)
{
	unsigned count = (unsigned)atomic_load(&from->frame_count);

	/* The first two are the handler and the kernel's way into it. */
	for (unsigned i = 2; i < count; i++)
		frame_write(to, i - 2, from->frames[i]);
}

/* Both to leaks/stacks.txt and, the first lines, to standard error. */
static void text_write(const struct harness_run *run, const char *text)
{
	char path[PATH_MAX];
	const char *end = text;
	FILE *file;

	snprintf(path, sizeof path, "%s/leaks", run->directory);
	mkdir(path, 0777);
	snprintf(path, sizeof path, "%s/leaks/stacks.txt", run->directory);
	file = fopen(path, "we");
	if (file == NULL || fputs(text, file) < 0 || fflush(file) != 0)
		fprintf(stderr, "%s: %s\n", path, strerror(errno));
	if (file != NULL)
		fclose(file);
	for (unsigned i = 0; i < SHOWN_LINES && *end != '\0'; i++)
		end = strchrnul(end, '\n') + 1;
	fwrite(text, 1, (size_t)(end - text), stderr);
	if (*end != '\0')
		fprintf(stderr, "  ... all of it in %s\n", path);
}

static void thread_write(FILE *to, struct shared *from, pid_t child, pid_t thread,
                         uint64_t limit_ns)
{
	char path[64], name[32] = "?\n";
	FILE *comm;

	snprintf(path, sizeof path, "/proc/%d/task/%d/comm", (int)child, (int)thread);
	comm = fopen(path, "re");
	if (comm != NULL) {
		if (fgets(name, sizeof name, comm) == NULL)
			name[0] = '\0';
		fclose(comm);
	}
	fprintf(to, "thread %d %s", (int)thread, name);
	atomic_store(&from->frame_count, 0);
	atomic_store(&from->frame_wanted, thread);
	syscall(SYS_tgkill, child, thread, ASK_SIGNAL);
	while (atomic_load(&from->frame_count) == 0 && now_ns() < limit_ns)
		nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
	if (atomic_load(&from->frame_count) == 0)
		fprintf(to, "  did not answer: it blocks every signal, or is not scheduled\n");
	frames_write(to, from);
}

/* All of them within four seconds, one that is silent at most half a one. NULL: no memory. */
static char *threads_text(struct shared *from, pid_t process)
{
	uint64_t limit = now_ns() + 4000000000;
	char path[64], *text = NULL;
	size_t size;
	FILE *to = open_memstream(&text, &size);
	DIR *tasks;

	snprintf(path, sizeof path, "/proc/%d/task", (int)process);
	tasks = opendir(path);
	for (struct dirent *e; to != NULL && tasks != NULL && (e = readdir(tasks)) != NULL;) {
		uint64_t soon = now_ns() + 500000000;

		/* Whoever asks is none of those that hang. */
		if (e->d_name[0] != '.' && atoi(e->d_name) != (int)syscall(SYS_gettid))
			thread_write(to, from, process, atoi(e->d_name),
			             soon < limit ? soon : limit);
	}
	if (tasks != NULL)
		closedir(tasks);
	if (to == NULL)
		return NULL;
	fclose(to);
	return text;
}

void stacks_of_threads(const struct harness_run *run, pid_t child)
{
	char *text = threads_text(run->shared, child);

	if (text != NULL)
		text_write(run, text);
	free(text);
}

/* --- Of a process that helps a run -------------------------------------------------------- */

static void tell_of_myself(struct shared *mine, const struct harness_helper *helper)
{
	struct harness_gauges gauges = { 0 };
	char *text = threads_text(mine, getpid());

	fprintf(stderr, "%s %d hangs:\n%s", helper->name, (int)getpid(), text != NULL ? text : "");
	free(text);
	if (*helper->state == NULL)
		return;
	helper->target->gauges(*helper->state, &gauges);
	fprintf(stderr, "%s %d: its target has %u connections, %u lent, %u waiters\n", helper->name,
	        (int)getpid(), gauges.connections, gauges.leased, gauges.waiting);
}

static void *tell_when_asked(void *context)
{
	sigset_t asked;
	int number;

	sigemptyset(&asked);
	sigaddset(&asked, HARNESS_HELPER_SIGNAL);
	while (sigwait(&asked, &number) == 0)
		tell_of_myself(shared, context);
	return NULL;
}

bool harness_helper_tells(const struct harness_helper *helper)
{
	struct sigaction act = { .sa_handler = on_ask, .sa_flags = SA_RESTART };
	void *frames[4];
	pthread_t thread;
	sigset_t asked;

	shared = pages_take(sizeof *shared);
	if (shared == NULL)
		return false;
	backtrace(frames, 4);
	sigaction(ASK_SIGNAL, &act, NULL);
	sigemptyset(&asked);
	sigaddset(&asked, HARNESS_HELPER_SIGNAL);
	/* Of all threads that come later, too: the one that waits for it gets it. */
	pthread_sigmask(SIG_BLOCK, &asked, NULL);
	return pthread_create(&thread, NULL, tell_when_asked, (void *)(uintptr_t)helper) == 0 &&
	       pthread_detach(thread) == 0;
}

void stacks_of_crash(const struct harness_run *run)
{
	char *text = NULL;
	size_t size;
	FILE *to;

	if (atomic_load(&run->shared->frame_count) <= 0 ||
	    (to = open_memstream(&text, &size)) == NULL)
		return;
	fprintf(to, "crash by SIG%s\n", sigabbrev_np(atomic_load(&run->shared->crash_signal)));
	frames_write(to, run->shared);
	fclose(to);
	text_write(run, text);
	free(text);
}
