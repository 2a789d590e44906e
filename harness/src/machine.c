/* machine.c - on what something was measured, and how much of it was taken away meanwhile. */
/* SPDX-License-Identifier: MIT */
#include <poolproof/harness/machine.h>

#include <jansson.h>
#include <sqlite3.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "internal.h"

struct harness_machine_time harness_machine_time_read(void)
{
	struct harness_machine_time t = { 0, 0 };
	unsigned long long parts[8] = { 0 };
	FILE *file = fopen("/proc/stat", "re");

	if (file == NULL)
		return t;
	if (fscanf(file, "cpu %llu %llu %llu %llu %llu %llu %llu %llu", &parts[0], &parts[1],
	           &parts[2], &parts[3], &parts[4], &parts[5], &parts[6], &parts[7]) == 8) {
		for (unsigned i = 0; i < 8; i++)
			t.total += parts[i];
		t.steal = parts[7];
	}
	fclose(file);
	return t;
}

double harness_stolen_percent(struct harness_machine_time since)
{
	struct harness_machine_time now = harness_machine_time_read();

	if (now.total <= since.total)
		return 0;
	return 100.0 * (double)(now.steal - since.steal) / (double)(now.total - since.total);
}

json_t *harness_versions_json(void)
{
	char compiler[128], allocator[64];

#ifdef __clang__
	snprintf(compiler, sizeof compiler, "clang %d.%d.%d", __clang_major__, __clang_minor__,
	         __clang_patchlevel__);
#else
	snprintf(compiler, sizeof compiler, "gcc %d.%d.%d", __GNUC__, __GNUC_MINOR__,
	         __GNUC_PATCHLEVEL__);
#endif
	heap_allocator(allocator, sizeof allocator);
	return json_pack("{s:s, s:s, s:s, s:s}", "poolproof", PP_VERSION, "sqlite",
	                 sqlite3_libversion(), "compiler", compiler, "allocator", allocator);
}

json_t *harness_machine_json(void)
{
	char line[256], cpu[256] = "unknown";
	FILE *file = fopen("/proc/cpuinfo", "re");
	struct utsname name;

	while (file != NULL && fgets(line, sizeof line, file) != NULL)
		if (sscanf(line, "model name : %255[^\n]", cpu) == 1)
			break;
	if (file != NULL)
		fclose(file);
	one_line(cpu);
	uname(&name);
	return json_pack("{s:s, s:s, s:i, s:I}", "kernel", name.release, "cpu", cpu, "cpus",
	                 (int)sysconf(_SC_NPROCESSORS_ONLN), "memory_bytes",
	                 (json_int_t)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE));
}
