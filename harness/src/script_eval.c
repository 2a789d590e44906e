/*
 * script_eval.c - computes an expression, with pgbench's types and rules.
 *
 * One thing is stricter than pgbench: a double is always finite, because SQLite has no NaN and
 * would store NULL. What would be infinite or no number is an error.
 */
/* SPDX-License-Identifier: MIT */
#include "script_internal.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "internal.h"

static const char *const type_names[] = { "unset", "NULL", "boolean", "integer", "double", "text" };

bool script_run_error(struct script_frame *f, unsigned line, const char *format, ...)
{
	size_t size = sizeof f->failure->text;
	va_list args;
	int used;

	*f->failure = (struct harness_failure){ .kind = HARNESS_FAILURE_OTHER };
	used = snprintf(f->failure->text, size, "%s:%u: ", f->script->file, line);
	if (used < 0 || (size_t)used >= size)
		return false;
	va_start(args, format);
	vsnprintf(f->failure->text + used, size - (size_t)used, format, args);
	va_end(args);
	one_line(f->failure->text);
	return false;
}

/* An error of this node, with its column. */
__attribute__((format(printf, 3, 4))) static bool
fail(struct script_frame *f, const struct script_expr *at, const char *format, ...)
{
	char text[256];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof text, format, args);
	va_end(args);
	return script_run_error(f, at->line, "column %u: %s", at->column, text);
}

static bool set_integer(struct script_value *v, int64_t integer)
{
	*v = (struct script_value){ .type = SCRIPT_INTEGER, .integer = integer };
	return true;
}

static bool set_boolean(struct script_value *v, bool boolean)
{
	*v = (struct script_value){ .type = SCRIPT_BOOLEAN, .boolean = boolean };
	return true;
}

static bool set_double(struct script_frame *f, const struct script_expr *at, struct script_value *v,
                       double real)
{
	if (!isfinite(real))
		return fail(f, at, "the result is not a finite number, which SQLite cannot store");
	*v = (struct script_value){ .type = SCRIPT_DOUBLE, .real = real };
	return true;
}

static bool is_integer(const char *text)
{
	text += *text == '+' || *text == '-';
	return *text != '\0' && text[strspn(text, "0123456789")] == '\0';
}

bool script_value_of_text(const char *text, struct script_value *ret_value)
{
	size_t size = strlen(text);
	struct script_value v = { .type = SCRIPT_NULL };
	char *end = NULL;

	errno = 0;
	if (size == 0)
		return false;
	if (strcasecmp(text, "null") == 0) {
		*ret_value = v;
		return true;
	}
	if (strncasecmp(text, "true", size) == 0 || strncasecmp(text, "yes", size) == 0 ||
	    strcasecmp(text, "on") == 0)
		return set_boolean(ret_value, true);
	if (strncasecmp(text, "false", size) == 0 || strncasecmp(text, "no", size) == 0 ||
	    strcasecmp(text, "off") == 0 || strcasecmp(text, "of") == 0)
		return set_boolean(ret_value, false);
	if (is_integer(text))
		v = (struct script_value){ .type = SCRIPT_INTEGER,
			                   .integer = strtoll(text, &end, 10) };
	else
		v = (struct script_value){ .type = SCRIPT_DOUBLE, .real = strtod(text, &end) };
	if (errno == ERANGE || *end != '\0' || (v.type == SCRIPT_DOUBLE && !isfinite(v.real)))
		return false;
	*ret_value = v;
	return true;
}

bool script_truth(const struct script_value *v)
{
	switch (v->type) {
	case SCRIPT_BOOLEAN:
		return v->boolean;
	case SCRIPT_INTEGER:
		return v->integer != 0;
	case SCRIPT_DOUBLE:
		return v->real != 0;
	default:
		return false;
	}
}

/* Doubles that have an integer: [-2^63, 2^63), both exact. */
bool script_to_integer(struct script_frame *f, const struct script_expr *at,
                       const struct script_value *v, int64_t *ret_integer)
{
	double real;

	if (v->type == SCRIPT_INTEGER) {
		*ret_integer = v->integer;
		return true;
	}
	if (v->type != SCRIPT_DOUBLE)
		return fail(f, at, "a number is needed, and this is %s", type_names[v->type]);
	real = rint(v->real);
	if (!(real >= -0x1p63 && real < 0x1p63))
		return fail(f, at, "%g is too large for a 64-bit integer", v->real);
	*ret_integer = (int64_t)real;
	return true;
}

static bool to_double(struct script_frame *f, const struct script_expr *at,
                      const struct script_value *v, double *ret_real)
{
	if (v->type != SCRIPT_INTEGER && v->type != SCRIPT_DOUBLE)
		return fail(f, at, "a number is needed, and this is %s", type_names[v->type]);
	*ret_real = v->type == SCRIPT_INTEGER ? (double)v->integer : v->real;
	return true;
}

static bool to_boolean(struct script_frame *f, const struct script_expr *at,
                       const struct script_value *v, bool *ret_boolean)
{
	if (v->type != SCRIPT_BOOLEAN)
		return fail(f, at, "a boolean is needed, and this is %s", type_names[v->type]);
	*ret_boolean = v->boolean;
	return true;
}

/* As in pgbench: the second operand is not looked at unless the first leaves the answer open, and
 * a NULL in first place does not. */
static bool eval_logic(struct script_frame *f, const struct script_expr *e, struct script_value *v)
{
	bool open = e->op == OP_AND, boolean = false;

	if (!script_eval(f, e->first, v))
		return false;
	if (v->type == SCRIPT_NULL)
		return true;
	if (!to_boolean(f, e->first, v, &boolean))
		return false;
	if (boolean != open)
		return true;
	return script_eval(f, e->first->next, v) &&
	       (v->type == SCRIPT_NULL || to_boolean(f, e->first->next, v, &boolean));
}

static bool eval_case(struct script_frame *f, const struct script_expr *e, struct script_value *v)
{
	const struct script_expr *arm = e->first;

	for (; arm->next != NULL; arm = arm->next->next) {
		if (!script_eval(f, arm, v))
			return false;
		if (script_truth(v))
			return script_eval(f, arm->next, v);
	}
	return script_eval(f, arm, v);
}

static bool eval_variable(struct script_frame *f, const struct script_expr *e,
                          struct script_value *v)
{
	const char *name = f->script->names[e->variable];

	*v = f->variables[e->variable];
	if (v->type == SCRIPT_UNSET)
		return fail(f, e, "variable \":%s\" was not set on the way here", name);
	if (v->type == SCRIPT_TEXT && !script_value_of_text(v->text, v))
		return fail(f, e, "variable \":%s\" holds the text \"%.40s\", which is no number",
		            name, v->text);
	return true;
}

static bool compare_result(enum script_op op, int order)
{
	switch (op) {
	case OP_EQ:
		return order == 0;
	case OP_NE:
		return order != 0;
	case OP_LT:
		return order < 0;
	case OP_LE:
		return order <= 0;
	case OP_GT:
		return order > 0;
	default:
		return order >= 0;
	}
}

static bool arithmetic_double(struct script_frame *f, const struct script_expr *e, double a,
                              double b, struct script_value *v)
{
	switch (e->op) {
	case OP_ADD:
		return set_double(f, e, v, a + b);
	case OP_SUB:
		return set_double(f, e, v, a - b);
	case OP_MUL:
		return set_double(f, e, v, a * b);
	case OP_DIV:
		return b == 0 ? fail(f, e, "division by zero") : set_double(f, e, v, a / b);
	default:
		return set_boolean(v, compare_result(e->op, (a > b) - (a < b)));
	}
}

static bool divide(struct script_frame *f, const struct script_expr *e, int64_t a, int64_t b,
                   struct script_value *v)
{
	if (b == 0)
		return fail(f, e, "division by zero");
	if (b == -1) { /* INT64_MIN / -1 traps, and so does the remainder. */
		if (e->op == OP_MOD)
			return set_integer(v, 0);
		if (a == INT64_MIN)
			return fail(f, e, "the result is out of the range of 64-bit integers");
		return set_integer(v, -a);
	}
	return set_integer(v, e->op == OP_DIV ? a / b : a % b);
}

static bool arithmetic_integer(struct script_frame *f, const struct script_expr *e, int64_t a,
                               int64_t b, struct script_value *v)
{
	int64_t result;
	bool overflow;

	if (e->op == OP_ADD)
		overflow = __builtin_add_overflow(a, b, &result);
	else if (e->op == OP_SUB)
		overflow = __builtin_sub_overflow(a, b, &result);
	else if (e->op == OP_MUL)
		overflow = __builtin_mul_overflow(a, b, &result);
	else if (e->op == OP_DIV || e->op == OP_MOD)
		return divide(f, e, a, b, v);
	else
		return set_boolean(v, compare_result(e->op, (a > b) - (a < b)));
	if (overflow)
		return fail(f, e, "the result is out of the range of 64-bit integers");
	return set_integer(v, result);
}

static bool eval_arithmetic(struct script_frame *f, const struct script_expr *e,
                            const struct script_value *args, struct script_value *v)
{
	const struct script_expr *left = e->first, *right = e->first->next;
	double a = 0, b = 0;
	int64_t m = 0, n = 0;

	if (e->op != OP_MOD && (args[0].type == SCRIPT_DOUBLE || args[1].type == SCRIPT_DOUBLE))
		return to_double(f, left, &args[0], &a) && to_double(f, right, &args[1], &b) &&
		       arithmetic_double(f, e, a, b, v);
	return script_to_integer(f, left, &args[0], &m) &&
	       script_to_integer(f, right, &args[1], &n) && arithmetic_integer(f, e, m, n, v);
}

static bool eval_bits(struct script_frame *f, const struct script_expr *e,
                      const struct script_value *args, struct script_value *v)
{
	int64_t a = 0, b = 0;

	if (!script_to_integer(f, e->first, &args[0], &a) ||
	    !script_to_integer(f, e->first->next, &args[1], &b))
		return false;
	if (e->op == OP_BIT_AND)
		return set_integer(v, a & b);
	if (e->op == OP_BIT_OR)
		return set_integer(v, a | b);
	if (e->op == OP_BIT_XOR)
		return set_integer(v, a ^ b);
	if (b < 0 || b > 63)
		return fail(f, e, "a shift by %lld is outside 0..63", (long long)b);
	return set_integer(v, e->op == OP_SHIFT_LEFT ? (int64_t)((uint64_t)a << b) : a >> b);
}

static bool eval_double_function(struct script_frame *f, const struct script_expr *e,
                                 const struct script_value *arg, struct script_value *v)
{
	double x = 0;

	if (!to_double(f, e->first, arg, &x))
		return false;
	if (e->op == OP_SQRT && x < 0)
		return fail(f, e, "sqrt() of %g, which is negative", x);
	if (e->op == OP_LN && x <= 0)
		return fail(f, e, "ln() of %g, which is not above 0", x);
	if (e->op == OP_SQRT)
		x = sqrt(x);
	else if (e->op == OP_LN)
		x = log(x);
	else if (e->op == OP_EXP)
		x = exp(x);
	return set_double(f, e, v, x);
}

static bool eval_abs(struct script_frame *f, const struct script_expr *e,
                     const struct script_value *arg, struct script_value *v)
{
	int64_t integer = 0;

	if (arg->type == SCRIPT_DOUBLE)
		return set_double(f, e, v, fabs(arg->real));
	if (!script_to_integer(f, e->first, arg, &integer))
		return false;
	if (integer == INT64_MIN)
		return fail(f, e, "the result is out of the range of 64-bit integers");
	return set_integer(v, integer < 0 ? -integer : integer);
}

static bool eval_extreme(struct script_frame *f, const struct script_expr *e,
                         const struct script_value *args, unsigned count, struct script_value *v)
{
	const struct script_expr *at = e->first;
	int64_t best = 0, n = 0;
	double best_real = 0, x = 0;
	bool real = false;

	for (unsigned i = 0; i < count; i++)
		real = real || args[i].type == SCRIPT_DOUBLE;
	for (unsigned i = 0; i < count; i++, at = at->next) {
		if (real ? !to_double(f, at, &args[i], &x)
		         : !script_to_integer(f, at, &args[i], &n))
			return false;
		if (real && (i == 0 || (e->op == OP_LEAST ? x < best_real : x > best_real)))
			best_real = x;
		if (!real && (i == 0 || (e->op == OP_LEAST ? n < best : n > best)))
			best = n;
	}
	return real ? set_double(f, e, v, best_real) : set_integer(v, best);
}

/* What each distribution asks of its parameter. */
static bool check_parameter(struct script_frame *f, const struct script_expr *e, double parameter)
{
	if (e->op == OP_RANDOM_GAUSSIAN && !(parameter >= 2))
		return fail(f, e, "random_gaussian() needs a parameter of at least 2, not %g",
		            parameter);
	if (!(parameter > 0))
		return fail(f, e, "%s() needs a parameter above 0, not %g",
		            e->op == OP_RANDOM_ZIPFIAN ? "random_zipfian" : "random_exponential",
		            parameter);
	return true;
}

static bool eval_random(struct script_frame *f, const struct script_expr *e,
                        const struct script_value *args, struct script_value *v)
{
	struct harness_entropy *entropy = &f->worker->entropy;
	const struct script_expr *second = e->first->next;
	int64_t low = 0, high = 0, size;
	double parameter = 0;

	if (!script_to_integer(f, e->first, &args[0], &low) ||
	    !script_to_integer(f, second, &args[1], &high))
		return false;
	if (low > high)
		return fail(f, e, "nothing lies between %lld and %lld", (long long)low,
		            (long long)high);
	if (__builtin_sub_overflow(high, low, &size) || size == INT64_MAX)
		return fail(f, e, "%lld to %lld is too wide; 2^63 - 1 numbers are the most",
		            (long long)low, (long long)high);
	if (e->op == OP_RANDOM)
		return set_integer(v, harness_entropy_uniform(entropy, low, high));
	if (!to_double(f, second->next, &args[2], &parameter) || !check_parameter(f, e, parameter))
		return false;
	if (e->op == OP_RANDOM_GAUSSIAN)
		return set_integer(v, harness_entropy_gaussian(entropy, low, high, parameter));
	if (e->op == OP_RANDOM_EXPONENTIAL)
		return set_integer(v, harness_entropy_exponential(entropy, low, high, parameter));
	return set_integer(v, harness_entropy_zipfian(entropy, low, high, parameter));
}

static bool eval_hash(struct script_frame *f, const struct script_expr *e,
                      const struct script_value *args, struct script_value *v)
{
	const struct script_expr *second = e->first->next;
	int64_t a = 0, b = 0, seed = 0;

	if (!script_to_integer(f, e->first, &args[0], &a) ||
	    !script_to_integer(f, second, &args[1], &b))
		return false;
	if (e->op == OP_HASH_FNV1A)
		return set_integer(v, script_hash_fnv1a(a, (uint64_t)b));
	if (e->op == OP_HASH_MURMUR2)
		return set_integer(v, script_hash_murmur2(a, (uint64_t)b));
	if (b <= 0)
		return fail(f, e, "permute() needs a size above 0, not %lld", (long long)b);
	return script_to_integer(f, second->next, &args[2], &seed) &&
	       set_integer(v, script_permute(a, b, (uint64_t)seed));
}

static bool eval_pow(struct script_frame *f, const struct script_expr *e,
                     const struct script_value *args, struct script_value *v)
{
	double a = 0, b = 0;

	return to_double(f, e->first, &args[0], &a) && to_double(f, e->first->next, &args[1], &b) &&
	       set_double(f, e, v, pow(a, b));
}

/* Into the run's events, where pgbench writes to its standard error. */
static bool eval_debug(struct script_frame *f, const struct script_expr *e,
                       const struct script_value *arg, struct script_value *v)
{
	char text[64];

	*v = *arg;
	if (arg->type == SCRIPT_INTEGER)
		snprintf(text, sizeof text, "integer %lld", (long long)arg->integer);
	else if (arg->type == SCRIPT_DOUBLE)
		snprintf(text, sizeof text, "double %.15g", arg->real);
	else if (arg->type == SCRIPT_BOOLEAN)
		snprintf(text, sizeof text, "boolean %s", arg->boolean ? "true" : "false");
	else
		snprintf(text, sizeof text, "NULL");
	if (f->worker->run != NULL)
		harness_event(f->worker->run, "debug", "%s:%u: thread %u: %s", f->script->file,
		              e->line, f->worker->thread, text);
	return true;
}

static bool is_same(const struct script_value *a, const struct script_value *b)
{
	return a->type == b->type && (a->type == SCRIPT_NULL || a->boolean == b->boolean);
}

static bool eval_call(struct script_frame *f, const struct script_expr *e,
                      const struct script_value *args, unsigned count, struct script_value *v)
{
	bool boolean = false;
	int64_t integer = 0;

	switch (e->op) {
	case OP_NOT:
		return to_boolean(f, e->first, &args[0], &boolean) && set_boolean(v, !boolean);
	case OP_BIT_OR:
	case OP_BIT_XOR:
	case OP_BIT_AND:
	case OP_SHIFT_LEFT:
	case OP_SHIFT_RIGHT:
		return eval_bits(f, e, args, v);
	case OP_ABS:
		return eval_abs(f, e, args, v);
	case OP_DOUBLE:
	case OP_EXP:
	case OP_LN:
	case OP_SQRT:
		return eval_double_function(f, e, args, v);
	case OP_GREATEST:
	case OP_LEAST:
		return eval_extreme(f, e, args, count, v);
	case OP_HASH_FNV1A:
	case OP_HASH_MURMUR2:
	case OP_PERMUTE:
		return eval_hash(f, e, args, v);
	case OP_INT:
		return script_to_integer(f, e->first, &args[0], &integer) &&
		       set_integer(v, integer);
	case OP_PI:
		return set_double(f, e, v, M_PI);
	case OP_POW:
		return eval_pow(f, e, args, v);
	case OP_RANDOM:
	case OP_RANDOM_EXPONENTIAL:
	case OP_RANDOM_GAUSSIAN:
	case OP_RANDOM_ZIPFIAN:
		return eval_random(f, e, args, v);
	default:
		return eval_arithmetic(f, e, args, v);
	}
}

/* Computes every argument, then the function; a NULL among them makes the result NULL. */
static bool eval_strict(struct script_frame *f, const struct script_expr *e, struct script_value *v)
{
	struct script_value args[SCRIPT_ARGUMENTS_MAX];
	unsigned count = 0;
	bool null = false;

	for (const struct script_expr *arg = e->first; arg != NULL; arg = arg->next) {
		if (!script_eval(f, arg, &args[count]))
			return false;
		null = null || args[count].type == SCRIPT_NULL;
		count++;
	}
	if (e->op == OP_DEBUG)
		return eval_debug(f, e, &args[0], v);
	if (e->op == OP_IS)
		return set_boolean(v, is_same(&args[0], &args[1]));
	if (null) {
		*v = (struct script_value){ .type = SCRIPT_NULL };
		return true;
	}
	return eval_call(f, e, args, count, v);
}

bool script_eval(struct script_frame *f, const struct script_expr *e, struct script_value *v)
{
	switch (e->op) {
	case OP_CONSTANT:
		*v = e->value;
		return true;
	case OP_VARIABLE:
		return eval_variable(f, e, v);
	case OP_AND:
	case OP_OR:
		return eval_logic(f, e, v);
	case OP_CASE:
		return eval_case(f, e, v);
	default:
		return eval_strict(f, e, v);
	}
}
