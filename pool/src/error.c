/* error.c - errors as values: what happened, where, what can be done. Nothing here allocates. */
/* SPDX-License-Identifier: MIT */
#include "internal.h"
#include "classes.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const char *pp_status_name(enum pp_status status)
{
	static const char *const names[] = {
#define X(name, text) #name,
		PP_STATUS_LIST(X)
#undef X
	};

	return (unsigned)status < sizeof names / sizeof *names ? names[status] : "PP_?";
}

const char *pp_status_text(enum pp_status status)
{
	static const char *const texts[] = {
#define X(name, text) text,
		PP_STATUS_LIST(X)
#undef X
	};

	return (unsigned)status < sizeof texts / sizeof *texts ? texts[status] : "unknown status";
}

const char *pp_class_name(enum pp_class error_class)
{
	static const char *const names[] = {
#define X(name, text) #name,
		PP_CLASS_LIST(X)
#undef X
	};

	return (unsigned)error_class < sizeof names / sizeof *names ? names[error_class] : "PP_?";
}

const char *pp_version(void)
{
	return PP_VERSION;
}

enum pp_class pp_class_of(int code)
{
	switch (code) {
#define X(name, class, why) \
	case name:          \
		return PP_##class;
		CODE_LIST(X)
#undef X
	default:
		return code == (code & 0xff) ? PP_FATAL : pp_class_of(code & 0xff);
	}
}

enum pp_status error_set(struct pp_error *error, enum pp_status status, const char *doing,
                         const char *format, ...)
{
	va_list args;

	if (error == NULL)
		return status;
	*error = (struct pp_error){
		.status = status, .doing = doing, .sql_offset = -1, .attempt = 1
	};
	va_start(args, format);
	vsnprintf(error->message, sizeof error->message, format, args);
	va_end(args);
	return status;
}

enum pp_status error_code(enum pp_status status, struct pp_error *error, int sqlite_code,
                          int system_errno)
{
	if (error != NULL) {
		error->sqlite_code = sqlite_code;
		error->system_errno = system_errno;
		error->error_class = pp_class_of(sqlite_code);
	}
	return status;
}

enum pp_status error_sqlite(struct pp_error *error, sqlite3 *db, int code, const char *doing,
                            const char *sql)
{
	bool memory = (code & 0xff) == SQLITE_NOMEM || code == SQLITE_IOERR_NOMEM;
	enum pp_status status = memory ? PP_NOMEM : PP_SQLITE;
	const char *words = db != NULL ? sqlite3_errmsg(db) : sqlite3_errstr(code);

	if (error == NULL)
		return status;
	error_set(error, status, doing, "%s", words);
	error->sqlite_code = code;
	error->error_class = pp_class_of(code);
	if (db != NULL) {
		error->system_errno = sqlite3_system_errno(db);
		error->sql_offset = sqlite3_error_offset(db);
	}
	if (sql != NULL)
		snprintf(error->sql, sizeof error->sql, "%s", sql);
	return status;
}

void error_pool(struct pp_error *error, struct pp_pool *pool)
{
	uint64_t oldest = UINT64_MAX, now = clock_coarse_ms();

	if (error == NULL)
		return;
	for (unsigned l = 0; l < LANES; l++) {
		const struct lane *lane = &pool->lanes[l];

		error->connections += lane_size(lane);
		for (unsigned i = 0; i < lane_used(lane); i++) {
			const struct slot *slot = &lane->slots[i];
			uint64_t since =
				atomic_load_explicit(&slot->since_ms, memory_order_relaxed);

			if (atomic_load_explicit(&slot->state, memory_order_relaxed) != SLOT_LEASED)
				continue;
			error->leased++;
			if (since != 0)
				oldest = since < oldest ? since : oldest;
		}
		error->waiting +=
			atomic_load_explicit(&pool->lines[l].waiting, memory_order_relaxed);
	}
	error->waiting += atomic_load_explicit(&pool->group.waiting, memory_order_relaxed);
	error->oldest_lease_ms = oldest < now ? now - oldest : 0;
	error->memory_bytes = pool_bytes(pool);
}

struct pp_cause error_cause(const struct pp_error *error)
{
	struct pp_cause cause = { .status = error->status,
		                  .sqlite_code = error->sqlite_code,
		                  .doing = error->doing };

	snprintf(cause.message, sizeof cause.message, "%.*s", (int)sizeof cause.message - 1,
	         error->message);
	return cause;
}

void error_chain(struct pp_error *error, const struct pp_error *cause)
{
	if (cause->doing == NULL)
		return;
	error->cause_count = cause->cause_count;
	memcpy(error->causes, cause->causes, sizeof error->causes);
	if (error->cause_count < PP_CAUSES_MAX)
		error->causes[error->cause_count++] = error_cause(cause);
}

/* Appends to text and moves *length on, past the end of the text if need be, as snprintf counts. */
static void append(char *text, size_t size, size_t *length, const char *format, ...)
	__attribute__((format(printf, 4, 5)));

static void append(char *text, size_t size, size_t *length, const char *format, ...)
{
	va_list args;
	size_t at = *length < size ? *length : size;

	va_start(args, format);
	*length += (size_t)vsnprintf(size == 0 ? NULL : text + at, size - at, format, args);
	va_end(args);
}

size_t pp_error_text(const struct pp_error *error, char *text, size_t size)
{
	size_t length = 0;

	append(text, size, &length, "%s: %s: %s", error->doing != NULL ? error->doing : "pool",
	       pp_status_text(error->status), error->message);
	if (error->sqlite_code != 0)
		append(text, size, &length, " (SQLite code %d, %s)", error->sqlite_code,
		       pp_class_name(error->error_class));
	if (error->system_errno != 0)
		append(text, size, &length, " (errno %d)", error->system_errno);
	if (error->sql[0] != '\0')
		append(text, size, &length, " in \"%s\"", error->sql);
	if (error->sql_offset >= 0)
		append(text, size, &length, " at byte %d", error->sql_offset);
	if (error->attempt > 1)
		append(text, size, &length, ", attempt %u", error->attempt);
	if (error->elapsed_ns != 0)
		append(text, size, &length, ", after %.1f ms", (double)error->elapsed_ns / 1e6);
	if (error->connections != 0)
		append(text, size, &length,
		       " [%u of %u connections lent, the longest for %llu ms; %u waiting; %llu "
		       "bytes]",
		       error->leased, error->connections,
		       (unsigned long long)error->oldest_lease_ms, error->waiting,
		       (unsigned long long)error->memory_bytes);
	for (unsigned i = error->cause_count; i > 0; i--)
		append(text, size, &length, "; because %s: %s", error->causes[i - 1].doing,
		       error->causes[i - 1].message);
	return length;
}
