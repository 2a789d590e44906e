/* Reads gcovr's JSON; see coverage.h. */
/* SPDX-License-Identifier: MIT */
#include "coverage.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

const char *const report_measures[REPORT_MEASURES] = { "lines", "functions", "branches" };

static bool is_code(const json_t *line)
{
	return !json_is_true(json_object_get(line, "gcovr/noncode"));
}

static int64_t count_of(const json_t *object, const char *key)
{
	return (int64_t)json_integer_value(json_object_get(object, key));
}

static int by_line(const void *a, const void *b)
{
	int64_t x = count_of(*(json_t *const *)a, "line_number");
	int64_t y = count_of(*(json_t *const *)b, "line_number");

	return x < y ? -1 : x > y;
}

/* "12, 40-44": noncode lines between two uncovered ones do not part them. */
static const char *uncovered(struct report_arena *arena, json_t *const *lines, size_t count)
{
	const char *text = "";
	int64_t first = 0, last = 0;

	for (size_t i = 0; i <= count; i++) {
		bool missed = i < count && is_code(lines[i]) && count_of(lines[i], "count") == 0;

		if (i < count && !is_code(lines[i]))
			continue;
		if (missed) {
			last = count_of(lines[i], "line_number");
			first = first == 0 ? last : first;
		} else if (first != 0) {
			text = report_print(arena, first == last ? "%s%s%lld" : "%s%s%lld-%lld",
			                    text, *text == '\0' ? "" : ", ", (long long)first,
			                    (long long)last);
			first = 0;
		}
	}
	return text;
}

static void read_lines(struct report_arena *arena, const json_t *array, struct report_file *file)
{
	size_t count = json_array_size(array), index, k;
	json_t **lines = report_alloc(arena, (count + 1) * sizeof *lines), *line, *branch;

	json_array_foreach(array, index, line)
	{
		lines[index] = line;
		if (!is_code(line))
			continue;
		file->ratios[REPORT_LINES].total++;
		file->ratios[REPORT_LINES].covered += count_of(line, "count") > 0;
		json_array_foreach(json_object_get(line, "branches"), k, branch)
		{
			file->ratios[REPORT_BRANCHES].total++;
			file->ratios[REPORT_BRANCHES].covered += count_of(branch, "count") > 0;
		}
	}
	qsort(lines, count, sizeof *lines, by_line);
	file->uncovered = uncovered(arena, lines, count);
}

static void read_functions(struct report_arena *arena, const json_t *array,
                           struct report_file *file)
{
	size_t index;
	json_t *function;

	json_array_foreach(array, index, function)
	{
		bool called = count_of(function, "execution_count") > 0;
		const char *name = json_string_value(json_object_get(function, "name"));

		file->ratios[REPORT_FUNCTIONS].total++;
		file->ratios[REPORT_FUNCTIONS].covered += called;
		if (called)
			continue;
		file->functions = report_grow(arena, file->functions, file->function_count,
		                              sizeof *file->functions);
		name = name == NULL ? "?" : name;
		file->functions[file->function_count++] = report_copy(arena, name, strlen(name));
	}
}

static int by_path(const void *a, const void *b)
{
	return strcmp(((const struct report_file *)a)->path, ((const struct report_file *)b)->path);
}

bool report_coverage_read(struct report_arena *arena, const char *path,
                          struct report_coverage *ret_coverage, const char **reterr_text)
{
	struct report_coverage coverage = { 0 };
	json_t *root = report_read_json(arena, path, 0, reterr_text), *files, *item;
	size_t index;

	files = json_object_get(root, "files");
	if (!json_is_array(files)) {
		if (root != NULL)
			*reterr_text =
				report_print(arena, "%s: not gcovr's JSON: no \"files\"", path);
		json_decref(root);
		return false;
	}
	json_array_foreach(files, index, item)
	{
		const char *name = json_string_value(json_object_get(item, "file"));
		struct report_file *file;

		coverage.files =
			report_grow(arena, coverage.files, coverage.count, sizeof *coverage.files);
		file = &coverage.files[coverage.count++];
		file->path = report_copy(arena, name == NULL ? "?" : name,
		                         name == NULL ? 1 : strlen(name));
		read_lines(arena, json_object_get(item, "lines"), file);
		read_functions(arena, json_object_get(item, "functions"), file);
	}
	json_decref(root);
	if (coverage.count > 0)
		qsort(coverage.files, coverage.count, sizeof *coverage.files, by_path);
	*ret_coverage = coverage;
	return true;
}

bool report_component_has(const struct report_component *component, const char *path)
{
	bool has = false;

	for (size_t i = 0; i < component->count; i++) {
		const char *pattern = component->patterns[i];

		if (*pattern == '!' && report_glob(pattern + 1, path))
			return false;
		has |= *pattern != '!' && report_glob(pattern, path);
	}
	return has;
}

struct report_ratio report_coverage_sum(const struct report_coverage *coverage,
                                        const struct report_component *component,
                                        enum report_measure measure)
{
	struct report_ratio sum = { 0 };

	for (size_t i = 0; i < coverage->count; i++) {
		const struct report_file *file = &coverage->files[i];

		if (component != NULL && !report_component_has(component, file->path))
			continue;
		sum.covered += file->ratios[measure].covered;
		sum.total += file->ratios[measure].total;
	}
	return sum;
}
