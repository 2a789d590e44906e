/*
 * poolproof/harness/test_schema.h - for tests: JSON against a schema.
 *
 * As much of JSON Schema as ours use: type, enum, required, properties, items. A name that is not
 * in a schema's properties is a failure: what we write is in it.
 */
/* SPDX-License-Identifier: MIT */
#ifndef POOLPROOF_HARNESS_TEST_SCHEMA_H
#define POOLPROOF_HARNESS_TEST_SCHEMA_H

#include <stdbool.h>

#include <jansson.h>

#include <poolproof/harness/test.h>

static inline bool test_has_type(const char *type, const json_t *value)
{
	return strcmp(type, "object") == 0    ? json_is_object(value)
	       : strcmp(type, "array") == 0   ? json_is_array(value)
	       : strcmp(type, "string") == 0  ? json_is_string(value)
	       : strcmp(type, "integer") == 0 ? json_is_integer(value)
	       : strcmp(type, "number") == 0  ? json_is_number(value)
	       : strcmp(type, "boolean") == 0 ? json_is_boolean(value)
	                                      : json_is_null(value);
}

static inline bool test_type_fits(const json_t *type, const json_t *value)
{
	bool fits = type == NULL ||
	            (json_is_string(type) && test_has_type(json_string_value(type), value));

	for (size_t i = 0; i < json_array_size(type); i++)
		fits |= test_has_type(json_string_value(json_array_get(type, i)), value);
	return fits;
}

static inline bool test_is_among(const json_t *words, const json_t *value)
{
	bool found = words == NULL;

	for (size_t i = 0; i < json_array_size(words); i++)
		found |= json_equal(json_array_get(words, i), value) == 1;
	return found;
}

static inline void test_schema(const json_t *schema, json_t *value, const char *where)
{
	const json_t *required = json_object_get(schema, "required");
	const json_t *properties = json_object_get(schema, "properties");
	const char *key;
	json_t *part;

	CHECK_MSG(test_type_fits(json_object_get(schema, "type"), value), "%s has the wrong type",
	          where);
	CHECK_MSG(test_is_among(json_object_get(schema, "enum"), value), "%s is not listed", where);
	for (size_t i = 0; i < json_array_size(required); i++) {
		key = json_string_value(json_array_get(required, i));
		CHECK_MSG(json_object_get(value, key) != NULL, "%s has no %s", where, key);
	}
	json_object_foreach(value, key, part)
	{
		CHECK_MSG(json_object_get(properties, key) != NULL || properties == NULL,
		          "%s.%s is not in the schema", where, key);
		test_schema(json_object_get(properties, key), part, key);
	}
	for (size_t i = 0; i < json_array_size(value); i++)
		test_schema(json_object_get(schema, "items"), json_array_get(value, i), where);
}

#endif
