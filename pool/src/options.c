/* options.c - what a pool may be given, its bounds and its defaults. */
/* SPDX-License-Identifier: MIT */
#include "internal.h"

#include <stdio.h>
#include <string.h>

/* One list: name, lowest, highest, default. Those up to PP_NEVER are above every other value. */
#define OPTION_LIST(X)                                                \
	X(readers, 1, PP_READERS_MAX, 4)                              \
	X(readers_min, 1, config->readers, config->readers)           \
	X(grow_ms, 1, 60000, 5)                                       \
	X(timeout_ms, 1, 86400000, 5000)                              \
	X(busy_timeout_ms, 1, 86400000, 5000)                         \
	X(line_max, 1, 65536, 1024)                                   \
	X(overtake_ms, 1, 60000, 10)                                  \
	X(statements_max, 1, 10000, 100)                              \
	X(statements_bytes_max, 4096, 1073741824, 1048576)            \
	X(journal, 0, PP_JOURNAL_KEEP, PP_JOURNAL_WAL)                \
	X(synchronous, 0, PP_SYNCHRONOUS_NORMAL, PP_SYNCHRONOUS_FULL) \
	X(keeper, 0, PP_KEEPER_MANUAL, PP_KEEPER_THREAD)              \
	X(idle_ms, 1, PP_NEVER, 300000)                               \
	X(age_ms, 1, PP_NEVER, 3600000)                               \
	X(health_ms, 1, PP_NEVER, 30000)                              \
	X(health, 0, PP_HEALTH_SELECT_1, PP_HEALTH_FILE)              \
	X(on_file_change, 0, PP_FILE_REOPEN, PP_FILE_TRIP)            \
	X(lease_warn_ms, 1, PP_NEVER, 60000)                          \
	X(lease_max_ms, 1, PP_NEVER, PP_NEVER)                        \
	X(lease_grace_ms, 1, 86400000, 1000)                          \
	X(wal_bytes_max, 65536, 1099511627776, 67108864)              \
	X(reader_max_ms, 1, PP_NEVER, PP_NEVER)                       \
	X(shed_ms, 1, PP_NEVER, PP_NEVER)                             \
	X(shed_interval_ms, 1, 60000, 100)                            \
	X(connection_bytes_max, 65536, SIZE_MAX, 0)                   \
	X(pool_bytes_soft, 65536, SIZE_MAX, 0)                        \
	X(pool_bytes_max, 262144, SIZE_MAX, 0)

/* What is only equal or not. */
#define OTHER_LIST(X)         \
	X(on_open)            \
	X(on_open_context)    \
	X(authorizer)         \
	X(authorizer_context) \
	X(progress) X(progress_context) X(on_event) X(on_event_context) X(backtraces)

static enum pp_status limits_need_accounts(const struct pp_config *c, struct pp_error *error)
{
	const char *name = c->connection_bytes_max > 0 ? "connection_bytes_max"
	                   : c->pool_bytes_soft > 0    ? "pool_bytes_soft"
	                   : c->pool_bytes_max > 0     ? "pool_bytes_max"
	                                               : NULL;

	if (name == NULL || memory_accounting() != PP_ACCOUNTING_OFF)
		return PP_OK;
	return error_set(error, PP_INVALID, "open",
	                 "%s is set, but there are no accounts: call pp_setup(0) before anything "
	                 "uses SQLite",
	                 name);
}

static bool is_outside(uint64_t value, uint64_t low, uint64_t high)
{
	return value < low || value > high;
}

enum pp_status options_read(const struct pp_config *given, struct pp_config *config,
                            struct pp_error *error)
{
	*config = *given;
	if (given->path == NULL || given->path[0] == '\0')
		return error_set(error, PP_INVALID, "open",
		                 "path is missing: name a database file");
#define X(name, low, high, standard)                                                             \
	if (given->name == 0)                                                                    \
		config->name = (standard);                                                       \
	else if (is_outside(given->name, (low), (high)))                                         \
		return error_set(error, PP_INVALID, "open", "%s is %llu: it must be %llu..%llu", \
		                 #name, (unsigned long long)given->name,                         \
		                 (unsigned long long)(low), (unsigned long long)(high));
	OPTION_LIST(X)
#undef X
	return limits_need_accounts(config, error);
}

static void differing(char *names, size_t size, const char *name, bool differs)
{
	size_t length = strlen(names);

	if (differs)
		snprintf(names + length, size - length, "%s%s", length > 0 ? ", " : "", name);
}

bool options_equal(const struct pp_config *a, const struct pp_config *b, char *names, size_t size)
{
	names[0] = '\0';
#define X(name, low, high, standard) differing(names, size, #name, a->name != b->name);
	OPTION_LIST(X)
#undef X
#define X(name) differing(names, size, #name, a->name != b->name);
	OTHER_LIST(X)
#undef X
	return names[0] == '\0';
}
