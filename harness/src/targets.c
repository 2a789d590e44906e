/*
 * targets.c - which targets there are: the scenario's own, and plug-ins.
 *
 * A plug-in is loaded when it is asked for and at no other time: what its library brings along
 * (libzdb: the clients of two servers) is in no other run's memory. It stays loaded to the end,
 * for the stacks of a crash.
 */
/* SPDX-License-Identifier: MIT */
#include "internal.h"

#include <dirent.h>
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { NAMES_MAX = 64, NAME_SIZE = 64, EXIT_USAGE = 2, EXIT_CANNOT = 4 };

/* DIR/PROGRAM -> DIR/peers */
static void plugin_folder(char *ret_path, size_t size)
{
	char self[PATH_MAX] = "", *slash = NULL;

	if (readlink("/proc/self/exe", self, sizeof self - 1) > 0)
		slash = strrchr(self, '/');
	snprintf(ret_path, size, "%.*s/peers", slash != NULL ? (int)(slash - self) : 0, self);
}

static void plugin_path(const char *name, char *ret_path, size_t size)
{
	char folder[PATH_MAX];

	plugin_folder(folder, sizeof folder);
	snprintf(ret_path, size, "%s/%s.so", folder, name);
}

/* Whether target can be driven: its functions are here, or its plug-in is. */
static bool is_there(const struct harness_target *target)
{
	char path[PATH_MAX + NAME_SIZE];

	plugin_path(target->name, path, sizeof path);
	return target->package == NULL || access(path, F_OK) == 0;
}

static const struct harness_target *listed(const struct harness_target *const targets[],
                                           const char *name)
{
	while (*targets != NULL && strcmp((*targets)->name, name) != 0)
		targets++;
	return *targets;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The targets that are there by name, the scenario's first. The strings live until the next call.
 */
static unsigned names_of(const struct harness_target *const targets[], const char **ret_names)
{
	static char files[NAMES_MAX][NAME_SIZE];
	unsigned count = 0, own;
	char folder[PATH_MAX];
	struct dirent *entry;
	DIR *dir;

	for (unsigned i = 0; targets[i] != NULL && count < NAMES_MAX; i++)
		if (is_there(targets[i]))
			ret_names[count++] = targets[i]->name;
	own = count;
	plugin_folder(folder, sizeof folder);
	dir = opendir(folder);
	while (dir != NULL && count < NAMES_MAX && (entry = readdir(dir)) != NULL) {
		size_t length = strlen(entry->d_name);

		if (length <= 3 || length - 3 >= NAME_SIZE ||
		    strcmp(entry->d_name + length - 3, ".so") != 0)
			continue;
		snprintf(files[count], NAME_SIZE, "%.*s", (int)length - 3, entry->d_name);
		if (listed(targets, files[count]) == NULL) {
			ret_names[count] = files[count];
			count++;
		}
	}
	if (dir != NULL)
		closedir(dir);
	qsort(ret_names + own, count - own, sizeof *ret_names, by_name);
	return count;
}

json_t *targets_json(const struct harness_target *const targets[])
{
	const char *names[NAMES_MAX];
	unsigned count = names_of(targets, names);
	json_t *json = json_array();

	for (unsigned i = 0; i < count; i++)
		json_array_append_new(json, json_string(names[i]));
	return json;
}

void targets_line(const struct harness_target *const targets[], char ret_line[TARGETS_LINE])
{
	const char *names[NAMES_MAX];
	unsigned count = names_of(targets, names);
	size_t used = 0;

	ret_line[0] = '\0';
	for (unsigned i = 0; i < count && used < TARGETS_LINE; i++)
		used += (size_t)snprintf(ret_line + used, TARGETS_LINE - used, "%s%s",
		                         i == 0 ? "" : ", ", names[i]);
}

void targets_print(const struct harness_target *const targets[])
{
	const char *names[NAMES_MAX];
	unsigned count = names_of(targets, names);

	for (unsigned i = 0; targets[i] != NULL; i++)
		if (is_there(targets[i]))
			printf("%-12s %s\n", targets[i]->name, targets[i]->about);
		else
			printf("%-12s is not built; it needs %s\n", targets[i]->name,
			       targets[i]->package);
	for (unsigned i = 0; i < count; i++)
		if (listed(targets, names[i]) == NULL)
			printf("%-12s a plug-in beside this program\n", names[i]);
}

/* NULL, and a line in ret_why. */
static const struct harness_target *plugin_load(const char *path, const char *package,
                                                char *ret_why, size_t why_size)
{
	const struct harness_plugin *plugin;
	void *file;

	if (access(path, F_OK) != 0) {
		snprintf(ret_why, why_size, "there is no %s; %s%s%s", path,
		         package != NULL ? "install " : "give the path of a plug-in",
		         package != NULL ? package : "", package != NULL ? " and build again" : "");
		return NULL;
	}
	/* Global, as if the program were linked with it: what the library loads itself (apr_dbd its
	 * driver) looks for its names there. */
	file = dlopen(path, RTLD_NOW | RTLD_GLOBAL);
	if (file == NULL) {
		snprintf(ret_why, why_size, "%s does not load (%s); install %s", path, dlerror(),
		         package != NULL ? package : "what it needs");
		return NULL;
	}
	plugin = dlsym(file, "harness_plugin");
	if (plugin == NULL)
		snprintf(ret_why, why_size, "%s is no plug-in; end it with HARNESS_PLUGIN(target)",
		         path);
	else if (plugin->format != HARNESS_PLUGIN_FORMAT)
		snprintf(ret_why, why_size,
		         "%s is made for format %u of target.h, and this program has %d; build it "
		         "again",
		         path, plugin->format, HARNESS_PLUGIN_FORMAT);
	else
		return plugin->target;
	return NULL;
}

static int unknown(const struct harness_scenario *s, const struct harness_target *const targets[],
                   const char *name)
{
	const char *names[NAMES_MAX], *near = closest_word(name, names, names_of(targets, names));
	char line[TARGETS_LINE];

	targets_line(targets, line);
	fprintf(stderr, "%s: --target %s: unknown target; %s%s%s\n", s->name, name,
	        near != NULL ? "did you mean " : "known: ", near != NULL ? near : line,
	        near != NULL ? "?" : "");
	return EXIT_USAGE;
}

int target_find(const struct harness_scenario *s, const struct harness_target *const targets[],
                const char *name, const struct harness_target **ret)
{
	const struct harness_target *own = name != NULL ? listed(targets, name) : targets[0];
	const struct harness_target *loaded;
	char path[PATH_MAX + NAME_SIZE], why[2 * PATH_MAX + 512];

	if (own != NULL && own->package == NULL) {
		*ret = own;
		return -1;
	}
	if (strchr(name, '/') != NULL)
		snprintf(path, sizeof path, "%s", name);
	else
		plugin_path(name, path, sizeof path);
	if (own == NULL && strchr(name, '/') == NULL && access(path, F_OK) != 0)
		return unknown(s, targets, name);
	loaded = plugin_load(path, own != NULL ? own->package : NULL, why, sizeof why);
	if (loaded == NULL) {
		fprintf(stderr, "%s: --target %s: %s\n", s->name, name, why);
		return EXIT_CANNOT;
	}
	*ret = loaded;
	return -1;
}
