/*
 * script_expr.c - reads one expression of a script into a tree.
 *
 * Precedence climbing with pgbench's table, lowest first: OR, AND, NOT, IS, comparison (does not
 * chain), | # & << >> ~, + -, * / %, unary + -.
 */
/* SPDX-License-Identifier: MIT */
#include "script_internal.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum level {
	LEVEL_OR = 1,
	LEVEL_AND,
	LEVEL_NOT,
	LEVEL_IS,
	LEVEL_COMPARE,
	LEVEL_BITS,
	LEVEL_SUM,
	LEVEL_PRODUCT,
	LEVEL_UNARY
};

enum token_kind { TOKEN_END, TOKEN_NUMBER, TOKEN_VARIABLE, TOKEN_WORD, TOKEN_SIGN };

struct reader {
	struct script_parser *p;
	enum token_kind kind; /* The token that comes next. */
	const char *start;
	size_t size;
	bool is_double;
	uint64_t integer; /* 2^63 is let through for the sake of -2^63. */
	double real;
	unsigned parts; /* Counted against SCRIPT_EXPR_MAX. */
};

static const struct {
	const char *text;
	enum level level;
	enum script_op op;
} operators[] = {
	{ "OR", LEVEL_OR, OP_OR },           { "AND", LEVEL_AND, OP_AND },
	{ "<=", LEVEL_COMPARE, OP_LE },      { ">=", LEVEL_COMPARE, OP_GE },
	{ "<>", LEVEL_COMPARE, OP_NE },      { "!=", LEVEL_COMPARE, OP_NE },
	{ "<<", LEVEL_BITS, OP_SHIFT_LEFT }, { ">>", LEVEL_BITS, OP_SHIFT_RIGHT },
	{ "<", LEVEL_COMPARE, OP_LT },       { ">", LEVEL_COMPARE, OP_GT },
	{ "=", LEVEL_COMPARE, OP_EQ },       { "|", LEVEL_BITS, OP_BIT_OR },
	{ "#", LEVEL_BITS, OP_BIT_XOR },     { "&", LEVEL_BITS, OP_BIT_AND },
	{ "+", LEVEL_SUM, OP_ADD },          { "-", LEVEL_SUM, OP_SUB },
	{ "*", LEVEL_PRODUCT, OP_MUL },      { "/", LEVEL_PRODUCT, OP_DIV },
	{ "%", LEVEL_PRODUCT, OP_MOD },
};

static const struct {
	const char *name;
	unsigned min, max;
	enum script_op op;
} functions[] = {
	{ "abs", 1, 1, OP_ABS },
	{ "debug", 1, 1, OP_DEBUG },
	{ "double", 1, 1, OP_DOUBLE },
	{ "exp", 1, 1, OP_EXP },
	{ "greatest", 1, SCRIPT_ARGUMENTS_MAX, OP_GREATEST },
	{ "hash", 1, 2, OP_HASH_MURMUR2 },
	{ "hash_fnv1a", 1, 2, OP_HASH_FNV1A },
	{ "hash_murmur2", 1, 2, OP_HASH_MURMUR2 },
	{ "int", 1, 1, OP_INT },
	{ "least", 1, SCRIPT_ARGUMENTS_MAX, OP_LEAST },
	{ "ln", 1, 1, OP_LN },
	{ "mod", 2, 2, OP_MOD },
	{ "permute", 2, 3, OP_PERMUTE },
	{ "pi", 0, 0, OP_PI },
	{ "pow", 2, 2, OP_POW },
	{ "power", 2, 2, OP_POW },
	{ "random", 2, 2, OP_RANDOM },
	{ "random_exponential", 3, 3, OP_RANDOM_EXPONENTIAL },
	{ "random_gaussian", 3, 3, OP_RANDOM_GAUSSIAN },
	{ "random_zipfian", 3, 3, OP_RANDOM_ZIPFIAN },
	{ "sqrt", 1, 1, OP_SQRT },
};

enum { OPERATORS = sizeof operators / sizeof *operators };
enum { FUNCTIONS = sizeof functions / sizeof *functions };

static struct script_expr *read_expr(struct reader *r, enum level level);

size_t script_continuation(const char *at)
{
	if (at[0] != '\\')
		return 0;
	if (at[1] == '\n')
		return 2;
	return at[1] == '\r' && at[2] == '\n' ? 3 : 0;
}

bool script_name_byte(char byte, bool first)
{
	return isalpha((unsigned char)byte) || byte == '_' || (byte & 0x80) != 0 ||
	       (!first && isdigit((unsigned char)byte));
}

static size_t name_size(const char *at)
{
	size_t size = 0;

	while (script_name_byte(at[size], size == 0))
		size++;
	return size;
}

static void read_number(struct reader *r)
{
	const char *end = r->start + strspn(r->start, "0123456789");
	char *real_end;

	r->kind = TOKEN_NUMBER;
	r->is_double = *end == '.' || *end == 'e' || *end == 'E';
	errno = 0;
	if (r->is_double) {
		r->real = strtod(r->start, &real_end);
		end = real_end;
		if (!isfinite(r->real))
			script_error_column(r->p, r->start,
			                    "this number is too large for a double");
	} else {
		r->integer = strtoull(r->start, NULL, 10);
		if (errno == ERANGE || r->integer > (uint64_t)1 << 63)
			script_error_column(r->p, r->start,
			                    "this number is too large for a 64-bit integer");
	}
	r->size = (size_t)(end - r->start);
}

static void read_sign(struct reader *r)
{
	r->kind = TOKEN_SIGN;
	r->size = 1;
	for (unsigned i = 0; i < OPERATORS; i++)
		if (operators[i].text[1] != '\0' && strncmp(operators[i].text, r->start, 2) == 0)
			r->size = 2;
	if (strchr("()+-*/%,<>=|#&~", *r->start) == NULL && r->size == 1)
		script_error_column(r->p, r->start, "unexpected character \"%.1s\"", r->start);
}

/* Reads the next token. At the end of the line it stays there. */
static void advance(struct reader *r)
{
	const char *at = r->start + r->size;
	size_t continuation;

	while ((continuation = script_continuation(at)) > 0 ||
	       (isspace((unsigned char)*at) && *at != '\n'))
		at += continuation > 0 ? continuation : 1;
	r->start = at;
	r->size = 0;
	if (*at == '\0' || *at == '\n') {
		r->kind = TOKEN_END;
	} else if (isdigit((unsigned char)*at) || (*at == '.' && isdigit((unsigned char)at[1]))) {
		read_number(r);
	} else if (*at == ':' && name_size(at + 1) > 0) {
		r->kind = TOKEN_VARIABLE;
		r->size = 1 + name_size(at + 1);
	} else if (name_size(at) > 0) {
		r->kind = TOKEN_WORD;
		r->size = name_size(at);
	} else {
		read_sign(r);
	}
}

static bool next_is(const struct reader *r, const char *text)
{
	return (r->kind == TOKEN_WORD || r->kind == TOKEN_SIGN) && strlen(text) == r->size &&
	       strncasecmp(r->start, text, r->size) == 0;
}

static bool accept(struct reader *r, const char *text)
{
	if (!next_is(r, text))
		return false;
	advance(r);
	return true;
}

static void *unexpected(struct reader *r, const char *wanted)
{
	if (r->kind == TOKEN_END)
		return script_error_column(r->p, r->start, "the expression ends where %s should be",
		                           wanted);
	return script_error_column(r->p, r->start, "\"%.*s\" stands where %s should be",
	                           (int)r->size, r->start, wanted);
}

static bool expect(struct reader *r, const char *text)
{
	char wanted[16];

	if (accept(r, text))
		return true;
	snprintf(wanted, sizeof wanted, "\"%s\"", text);
	unexpected(r, wanted);
	return false;
}

static struct script_expr *node(struct reader *r, enum script_op op, const char *where)
{
	struct script_expr *expr;

	if (++r->parts > SCRIPT_EXPR_MAX)
		return script_error_column(r->p, where,
		                           "the expression has more than %d parts; split it",
		                           SCRIPT_EXPR_MAX);
	expr = script_alloc(r->p->script, sizeof *expr);
	if (expr == NULL)
		return script_error(r->p, where, "out of memory");
	expr->op = op;
	expr->line = script_line(r->p, where);
	while (where > r->p->text && where[-1] != '\n') {
		expr->column++;
		where--;
	}
	expr->column++;
	return expr;
}

static struct script_expr *constant(struct reader *r, const char *where, struct script_value value)
{
	struct script_expr *expr = node(r, OP_CONSTANT, where);

	if (expr != NULL)
		expr->value = value;
	return expr;
}

/* A node with two arguments, either of which may have failed. */
static struct script_expr *pair(struct reader *r, enum script_op op, const char *where,
                                struct script_expr *left, struct script_expr *right)
{
	struct script_expr *expr;

	if (left == NULL || right == NULL || (expr = node(r, op, where)) == NULL)
		return NULL;
	expr->first = left;
	left->next = right;
	return expr;
}

/* -x is 0 - x, as in pgbench; only a number may be 2^63 there. */
static struct script_expr *read_negative(struct reader *r, const char *where)
{
	struct script_value value = { .type = SCRIPT_INTEGER, .integer = 0 };

	if (r->kind == TOKEN_NUMBER && !r->is_double && r->integer == (uint64_t)1 << 63) {
		advance(r);
		value.integer = INT64_MIN;
		return constant(r, where, value);
	}
	struct script_expr *zero = constant(r, where, value);
	return pair(r, OP_SUB, where, zero, read_expr(r, LEVEL_UNARY));
}

static struct script_expr *read_constant(struct reader *r)
{
	const char *where = r->start;
	struct script_value value = { .type = SCRIPT_INTEGER, .integer = (int64_t)r->integer };

	if (r->is_double)
		value = (struct script_value){ .type = SCRIPT_DOUBLE, .real = r->real };
	else if (r->integer > INT64_MAX)
		return script_error_column(r->p, where,
		                           "this number is too large for a 64-bit integer");
	advance(r);
	return constant(r, where, value);
}

static struct script_expr *read_variable(struct reader *r)
{
	struct script_expr *expr = node(r, OP_VARIABLE, r->start);
	int slot;

	if (expr == NULL || (slot = script_use(r->p, r->start, r->start + 1, r->size - 1)) < 0)
		return NULL;
	expr->variable = (unsigned)slot;
	r->p->measured_used = r->p->measured_used || r->p->script->measured[slot];
	advance(r);
	return expr;
}

/* CASE WHEN a THEN b ... [ELSE z] END: the arguments are a, b, ..., z. */
static struct script_expr *read_case(struct reader *r, const char *where)
{
	struct script_expr *expr = node(r, OP_CASE, where), **last;

	if (expr == NULL)
		return NULL;
	last = &expr->first;
	if (!next_is(r, "WHEN"))
		return unexpected(r, "\"WHEN\"");
	while (accept(r, "WHEN")) {
		if ((*last = read_expr(r, LEVEL_OR)) == NULL || !expect(r, "THEN"))
			return NULL;
		last = &(*last)->next;
		if ((*last = read_expr(r, LEVEL_OR)) == NULL)
			return NULL;
		last = &(*last)->next;
	}
	if (accept(r, "ELSE"))
		*last = read_expr(r, LEVEL_OR);
	else
		*last = constant(r, where, (struct script_value){ .type = SCRIPT_NULL });
	return *last != NULL && expect(r, "END") ? expr : NULL;
}

static int find_function(struct reader *r, const char *name, size_t size)
{
	const char *names[FUNCTIONS];
	char hint[64];

	for (unsigned i = 0; i < FUNCTIONS; i++) {
		names[i] = functions[i].name;
		if (strlen(names[i]) == size && strncasecmp(names[i], name, size) == 0)
			return (int)i;
	}
	script_error_column(r->p, name, "unknown function \"%.*s\"%s", (int)size, name,
	                    script_suggest(names, FUNCTIONS, name, size, hint, sizeof hint));
	return -1;
}

static unsigned read_arguments(struct reader *r, struct script_expr **last)
{
	unsigned count = 0;

	if (accept(r, ")"))
		return 0;
	do {
		*last = read_expr(r, LEVEL_OR);
		if (*last == NULL)
			return 0;
		last = &(*last)->next;
		count++;
	} while (accept(r, ","));
	expect(r, ")");
	return count;
}

/* The seed that hash() and permute() take when none is written. */
static void append_default_seed(struct reader *r, struct script_expr *call)
{
	struct script_expr **last = &call->first;

	while (*last != NULL)
		last = &(*last)->next;
	*last = node(r, OP_VARIABLE, r->start);
	if (*last != NULL)
		(*last)->variable = SCRIPT_DEFAULT_SEED;
}

static void *wrong_count(struct reader *r, const char *where, int index, unsigned count)
{
	unsigned min = functions[index].min, max = functions[index].max;
	const char *name = functions[index].name;

	if (min == max)
		return script_error_column(r->p, where, "%s() takes %u argument%s, not %u", name,
		                           min, min == 1 ? "" : "s", count);
	return script_error_column(r->p, where, "%s() takes %u to %u arguments, not %u", name, min,
	                           max, count);
}

static struct script_expr *read_call(struct reader *r)
{
	const char *where = r->start;
	size_t size = r->size;
	struct script_expr *expr;
	unsigned count;
	int index;

	advance(r);
	if (!next_is(r, "("))
		return script_error_column(r->p, where,
		                           "\"%.*s\" is not a value; a variable is written :%.*s, "
		                           "a function with (",
		                           (int)size, where, (int)size, where);
	index = find_function(r, where, size);
	if (index < 0 || (expr = node(r, functions[index].op, where)) == NULL)
		return NULL;
	advance(r);
	count = read_arguments(r, &expr->first);
	if (r->p->failed)
		return NULL;
	if (count < functions[index].min || count > functions[index].max)
		return wrong_count(r, where, index, count);
	if (functions[index].max == functions[index].min + 1 && count == functions[index].min)
		append_default_seed(r, expr);
	return expr;
}

static struct script_expr *read_word(struct reader *r)
{
	const char *where = r->start;

	if (accept(r, "NULL"))
		return constant(r, where, (struct script_value){ .type = SCRIPT_NULL });
	if (accept(r, "TRUE"))
		return constant(r, where,
		                (struct script_value){ .type = SCRIPT_BOOLEAN, .boolean = true });
	if (accept(r, "FALSE"))
		return constant(r, where, (struct script_value){ .type = SCRIPT_BOOLEAN });
	if (accept(r, "CASE"))
		return read_case(r, where);
	if (next_is(r, "WHEN") || next_is(r, "THEN") || next_is(r, "ELSE") || next_is(r, "END") ||
	    next_is(r, "IS") || next_is(r, "AND") || next_is(r, "OR"))
		return unexpected(r, "a value");
	return read_call(r);
}

static struct script_expr *read_not(struct reader *r, const char *where)
{
	struct script_expr *operand = read_expr(r, LEVEL_NOT), *expr;

	if (operand == NULL || (expr = node(r, OP_NOT, where)) == NULL)
		return NULL;
	expr->first = operand;
	return expr;
}

/* ~x is x # -1. It binds like the other operators on bits: ~1 + 2 is ~(1 + 2). */
static struct script_expr *read_complement(struct reader *r, const char *where)
{
	struct script_expr *ones =
		constant(r, where, (struct script_value){ .type = SCRIPT_INTEGER, .integer = -1 });

	return pair(r, OP_BIT_XOR, where, ones, read_expr(r, LEVEL_BITS + 1));
}

static struct script_expr *read_operand(struct reader *r)
{
	const char *where = r->start;
	struct script_expr *expr;

	if (r->kind == TOKEN_NUMBER)
		return read_constant(r);
	if (r->kind == TOKEN_VARIABLE)
		return read_variable(r);
	if (accept(r, "("))
		return (expr = read_expr(r, LEVEL_OR)) != NULL && expect(r, ")") ? expr : NULL;
	if (accept(r, "+"))
		return read_expr(r, LEVEL_UNARY);
	if (accept(r, "-"))
		return read_negative(r, where);
	if (accept(r, "~"))
		return read_complement(r, where);
	if (accept(r, "NOT"))
		return read_not(r, where);
	if (r->kind == TOKEN_WORD)
		return read_word(r);
	return unexpected(r, "a value");
}

/* IS [NOT] NULL|TRUE|FALSE, ISNULL, NOTNULL after left; left itself when none follows. */
static struct script_expr *read_is(struct reader *r, struct script_expr *left)
{
	const char *where = r->start;
	struct script_value what = { .type = SCRIPT_NULL };
	bool negated = next_is(r, "NOTNULL");
	struct script_expr *expr;

	if (!accept(r, "ISNULL") && !accept(r, "NOTNULL")) {
		if (!accept(r, "IS"))
			return left;
		negated = accept(r, "NOT");
		if (next_is(r, "TRUE") || next_is(r, "FALSE")) {
			what.type = SCRIPT_BOOLEAN;
			what.boolean = next_is(r, "TRUE");
		} else if (!next_is(r, "NULL")) {
			return unexpected(r, "NULL, TRUE or FALSE");
		}
		advance(r);
	}
	left = pair(r, OP_IS, where, left, constant(r, where, what));
	if (!negated || left == NULL || (expr = node(r, OP_NOT, where)) == NULL)
		return left;
	expr->first = left;
	return expr;
}

static int find_operator(const struct reader *r)
{
	for (unsigned i = 0; i < OPERATORS; i++)
		if (next_is(r, operators[i].text))
			return (int)i;
	return -1;
}

/* An operand and every operator after it that binds at least as tightly as level. */
static struct script_expr *read_expr(struct reader *r, enum level level)
{
	struct script_expr *left, *before;
	bool compared = false;

	if (++r->parts > SCRIPT_EXPR_MAX)
		return script_error_column(r->p, r->start,
		                           "the expression has more than %d parts; split it",
		                           SCRIPT_EXPR_MAX);
	left = read_operand(r);
	while (left != NULL && !r->p->failed) {
		const char *where = r->start;
		int i = find_operator(r);

		before = left;
		if (level <= LEVEL_IS)
			left = read_is(r, left);
		if (left != before) {
			compared = false;
			continue;
		}
		if (i < 0 || operators[i].level < level)
			break;
		if (operators[i].level == LEVEL_COMPARE && compared)
			return script_error_column(r->p, where,
			                           "comparisons do not chain; use AND");
		compared = operators[i].level == LEVEL_COMPARE;
		advance(r);
		left = pair(r, operators[i].op, where, left, read_expr(r, operators[i].level + 1));
	}
	return r->p->failed ? NULL : left;
}

struct script_expr *script_expr_parse(struct script_parser *p)
{
	struct reader r = { .p = p, .start = p->at };
	struct script_expr *expr;

	advance(&r);
	expr = read_expr(&r, LEVEL_OR);
	if (expr == NULL || p->failed)
		return NULL;
	if (r.kind != TOKEN_END)
		return unexpected(&r, "an operator or the end of the line");
	p->at = r.start;
	return expr;
}
