/* ycsb.c - YCSB's core workload in the script language that users write theirs in. */
/* SPDX-License-Identifier: MIT */
#include "workloads.h"

#include <sqlite3.h>
#include <stdio.h>

/* permute() scatters the popular keys over the table, as YCSB's hash does. */
#define KEY "\\set key permute(random_zipfian(0, :records - 1, 0.99), :records, 7)\n"
#define FIELD "\\set field random(0, 9223372036854775806)\n"
#define READ "SELECT * FROM usertable WHERE ycsb_key = :key;\n"
#define UPDATE "UPDATE usertable SET field0 = printf('%0100d', :field) WHERE ycsb_key = :key;\n"

static const struct {
	const char *name, *text;
} texts[YCSB_OPERATIONS] = {
	{ "read", KEY READ },
	{ "update", KEY FIELD UPDATE },
	{ "read_modify_write", KEY FIELD "BEGIN;\n" READ UPDATE "END;\n" },
};

static const struct {
	char letter;
	unsigned weights[YCSB_OPERATIONS];
} mixes[] = {
	{ 'a', { 50, 50, 0 } },
	{ 'b', { 95, 5, 0 } },
	{ 'c', { 100, 0, 0 } },
	{ 'f', { 50, 0, 50 } },
};

bool ycsb_create(sqlite3 *db, int64_t records)
{
	char insert[512];

	snprintf(
		insert, sizeof insert,
		"WITH RECURSIVE n(k) AS (SELECT 0 UNION ALL SELECT k + 1 FROM n WHERE k + 1 < %lld)"
		"INSERT INTO usertable SELECT k, %s FROM n",
		(long long)records,
		"hex(randomblob(50)), hex(randomblob(50)), hex(randomblob(50)), "
		"hex(randomblob(50)),"
		"hex(randomblob(50)), hex(randomblob(50)), hex(randomblob(50)), "
		"hex(randomblob(50)),"
		"hex(randomblob(50)), hex(randomblob(50))");
	return sqlite3_exec(db,
	                    "CREATE TABLE usertable(ycsb_key INTEGER PRIMARY KEY, field0, field1,"
	                    "field2, field3, field4, field5, field6, field7, field8, field9)",
	                    NULL, NULL, NULL) == SQLITE_OK &&
	       sqlite3_exec(db, insert, NULL, NULL, NULL) == SQLITE_OK;
}

bool ycsb_load(struct ycsb *ycsb, sqlite3 *db, int64_t records, char *reterr_text, size_t size)
{
	struct harness_variable variable = {
		.name = "records", .value = { .type = HARNESS_INTEGER, .integer = records }
	};

	for (unsigned i = 0; i < YCSB_OPERATIONS; i++) {
		ycsb->scripts[i] = harness_script_parse(texts[i].name, texts[i].text, db, &variable,
		                                        1, reterr_text, size);
		if (ycsb->scripts[i] == NULL)
			return false;
	}
	return true;
}

void ycsb_free(struct ycsb *ycsb)
{
	for (unsigned i = 0; i < YCSB_OPERATIONS; i++)
		harness_script_free(ycsb->scripts[i]);
	*ycsb = (struct ycsb){ 0 };
}

bool ycsb_mix(const struct ycsb *ycsb, char letter, struct harness_operation *ret)
{
	for (unsigned m = 0; m < sizeof mixes / sizeof *mixes; m++) {
		if (mixes[m].letter != letter)
			continue;
		for (unsigned i = 0; i < YCSB_OPERATIONS; i++)
			ret[i] = (struct harness_operation){ texts[i].name, mixes[m].weights[i],
				                             harness_script_run, ycsb->scripts[i] };
		return true;
	}
	return false;
}
