/* tiny.c - the least that is a target, as a plug-in: it lends itself, and does nothing. What its
 * setup() keeps is not given back. */
/* SPDX-License-Identifier: MIT */
#include <poolproof/harness/target.h>

#include <stdlib.h>

static int pool;
static void *volatile kept; /* Volatile: else nobody reads it, and it is left out. */

static const char *setup(void)
{
	kept = malloc(1000);
	return kept != NULL ? NULL : "memory; free some";
}

static bool open_(const struct harness_target_options *options, void **ret_target,
                  struct harness_failure *f)
{
	(void)options, (void)f;
	*ret_target = &pool;
	return true;
}

static void close_(void *target, struct harness_residue *ret)
{
	(void)target;
	*ret = (struct harness_residue){ 0 };
}

static bool lend(void *target, enum harness_access access, uint64_t timeout_ns,
                 struct harness_connection *ret, struct harness_failure *f)
{
	(void)access, (void)timeout_ns, (void)f;
	ret->handle = target;
	return true;
}

static void give_back(void *target, struct harness_connection *connection)
{
	(void)target, (void)connection;
}

static bool query(struct harness_connection *connection, const char *sql,
                  const struct harness_value *args, unsigned arg_count, harness_row_fn *on_row,
                  void *context, struct harness_failure *f)
{
	(void)connection, (void)sql, (void)args, (void)arg_count, (void)on_row, (void)context,
		(void)f;
	return true;
}

static bool step(struct harness_connection *connection, struct harness_failure *f)
{
	(void)connection, (void)f;
	return true;
}

static bool transact(void *target, enum harness_access access, uint64_t timeout_ns,
                     harness_body_fn *body, void *context, struct harness_failure *f)
{
	struct harness_connection connection = { .handle = target, .access = access };

	(void)timeout_ns;
	return body(&connection, context, f);
}

static void gauges(void *target, struct harness_gauges *ret)
{
	(void)target;
	*ret = (struct harness_gauges){ .connections = 1 };
}

static void numbers(void *target, harness_number_fn *emit, void *context)
{
	(void)target;
	emit(context, "tiny.pools_count", 1);
}

static unsigned check(void *target, char *text, size_t size)
{
	(void)target, (void)text, (void)size;
	return 0;
}

static const struct harness_target tiny = {
	.name = "tiny",
	.about = "nothing",
	.setup = setup,
	.open = open_,
	.close = close_,
	.lend = lend,
	.give_back = give_back,
	.query = query,
	.begin = step,
	.commit = step,
	.rollback = step,
	.transact = transact,
	.gauges = gauges,
	.numbers = numbers,
	.check = check,
};

HARNESS_PLUGIN(tiny);
