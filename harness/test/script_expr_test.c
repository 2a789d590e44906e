/*
 * script_expr_test.c - expressions: their values, and what is said of wrong ones.
 *
 * The expected values of the table "like_pgbench" were printed by pgbench 15.18, with its debug()
 * function.
 */
/* SPDX-License-Identifier: MIT */
#include <poolproof/harness/test.h>

#include "script_internal.h"

static const struct harness_variable variables[] = {
	{ "records", { .type = HARNESS_INTEGER, .integer = 100 } },
	{ "share", { .type = HARNESS_REAL, .real = 0.25 } },
	{ "greeting", { .type = HARNESS_TEXT, .text = "it's" } },
	{ "number_text", { .type = HARNESS_TEXT, .text = "-12" } },
	{ "yes_text", { .type = HARNESS_TEXT, .text = "y" } },
	{ "nothing", { .type = HARNESS_NULL } },
};

struct fixture {
	sqlite3 *db;
	struct harness_worker worker;
	struct harness_script *script;
	struct harness_failure failure;
	char error[512];
};

static struct fixture fixture_open(void)
{
	struct fixture f = { 0 };

	CHECK_INT(sqlite3_open(":memory:", &f.db), ==, SQLITE_OK);
	harness_entropy_init(&f.worker.entropy, 42, 0, 0);
	return f;
}

static void fixture_close(struct fixture *f)
{
	harness_script_free(f->script);
	sqlite3_close(f->db);
}

static bool parse(struct fixture *f, const char *text)
{
	harness_script_free(f->script);
	f->script = harness_script_parse("mine.sql", text, f->db, variables,
	                                 sizeof variables / sizeof *variables, f->error,
	                                 sizeof f->error);
	return f->script != NULL;
}

static void free_text(char **text)
{
	free(*text);
}

/* "int 7", as pgbench's debug() prints, or the error. */
static void evaluate(struct fixture *f, const char *expression, char *text, size_t size)
{
	CLEANUP(free_text) char *script = NULL;
	struct script_frame frame = { .worker = &f->worker, .failure = &f->failure };
	struct script_value v;

	CHECK(asprintf(&script, "\\set x %s", expression) > 0);
	if (!parse(f, script)) {
		snprintf(text, size, "%s", f->error);
		return;
	}
	frame.script = f->script;
	memcpy(frame.variables, f->script->initial, sizeof frame.variables);
	frame.variables[SCRIPT_DEFAULT_SEED].type = SCRIPT_INTEGER;
	if (!script_eval(&frame, f->script->steps->expr, &v))
		snprintf(text, size, "%s", f->failure.text);
	else if (v.type == SCRIPT_NULL)
		snprintf(text, size, "null");
	else if (v.type == SCRIPT_BOOLEAN)
		snprintf(text, size, "boolean %s", v.boolean ? "true" : "false");
	else if (v.type == SCRIPT_INTEGER)
		snprintf(text, size, "int %lld", (long long)v.integer);
	else
		snprintf(text, size, "double %.15g", v.real);
}

static void check_value(const char *expression, const char *value)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open();
	char text[512];

	evaluate(&f, expression, text, sizeof text);
	CHECK_MSG(strcmp(text, value) == 0, "%s: %s, not %s", expression, text, value);
}

static const struct {
	const char *expression, *value;
} like_pgbench[] = {
	{ "1", "int 1" },
	{ "+3", "int 3" },
	{ "-9223372036854775808", "int -9223372036854775808" },
	{ "9223372036854775807", "int 9223372036854775807" },
	{ "1.5", "double 1.5" },
	{ ".5", "double 0.5" },
	{ "1e3", "double 1000" },
	{ "2.5E-1", "double 0.25" },
	{ "TRUE", "boolean true" },
	{ "false", "boolean false" },
	{ "NULL", "null" },
	{ "1 + 2 * 3", "int 7" },
	{ "(1 + 2) * 3", "int 9" },
	{ "7 / 2", "int 3" },
	{ "-7 / 2", "int -3" },
	{ "7 / -2", "int -3" },
	{ "-7 % 3", "int -1" },
	{ "7 % -3", "int 1" },
	{ "mod(-7, 2)", "int -1" },
	{ "mod(7.6, 3)", "int 2" },
	{ "-9223372036854775808 % -1", "int 0" },
	{ "7 / 2.0", "double 3.5" },
	{ "1 - 2 - 3", "int -4" },
	{ "2 * 3 % 4", "int 2" },
	{ "-2 * -3", "int 6" },
	{ "- - 5", "int 5" },
	{ "~5", "int -6" },
	{ "~1 + 2", "int -4" },
	{ "~1 & 3", "int 2" },
	{ "2 + ~3 + 4", "int -6" },
	{ "5 & 6", "int 4" },
	{ "5 | 6", "int 7" },
	{ "5 # 6", "int 3" },
	{ "1 << 4 + 1", "int 32" },
	{ "-16 >> 2", "int -4" },
	{ "1 | 2 # 3 & 4", "int 0" },
	{ "6.4 & 3", "int 2" },
	{ "1 = 1.0", "boolean true" },
	{ "1 <> 2", "boolean true" },
	{ "1 != 2", "boolean true" },
	{ "2 < 1", "boolean false" },
	{ "2 <= 2", "boolean true" },
	{ "2 > 1", "boolean true" },
	{ "2 >= 3", "boolean false" },
	{ "1 + 1 = 2", "boolean true" },
	{ "NOT TRUE", "boolean false" },
	{ "NOT 1 = 2", "boolean true" },
	{ "NOT FALSE AND FALSE", "boolean false" },
	{ "TRUE OR FALSE AND FALSE", "boolean true" },
	{ "TRUE AND NULL", "null" },
	{ "NULL AND TRUE", "null" },
	{ "FALSE AND NULL", "boolean false" },
	{ "NULL OR TRUE", "null" },
	{ "TRUE OR NULL", "boolean true" },
	{ "FALSE OR NULL", "null" },
	{ "TRUE OR 1/0 = 1", "boolean true" },
	{ "NULL + 1", "null" },
	{ "NULL = NULL", "null" },
	{ "NULL IS NULL", "boolean true" },
	{ "1 IS NULL", "boolean false" },
	{ "1 IS NOT NULL", "boolean true" },
	{ "NULL ISNULL", "boolean true" },
	{ "1 NOTNULL", "boolean true" },
	{ "TRUE IS TRUE", "boolean true" },
	{ "FALSE IS NOT TRUE", "boolean true" },
	{ "1 IS TRUE", "boolean false" },
	{ "NULL IS FALSE", "boolean false" },
	{ "1 = 2 IS FALSE", "boolean true" },
	{ "NOT NULL IS NULL", "boolean false" },
	{ "CASE WHEN 1 THEN 2 ELSE 3 END", "int 2" },
	{ "CASE WHEN 0 THEN 2 WHEN 0.5 THEN 4 END", "int 4" },
	{ "CASE WHEN NULL THEN 2 END", "null" },
	{ "CASE WHEN TRUE THEN 1 ELSE 1/0 END", "int 1" },
	{ "case when false then 1 else 5 end + 1", "int 6" },
	{ "abs(-5)", "int 5" },
	{ "abs(-5.5)", "double 5.5" },
	{ "double(3)", "double 3" },
	{ "int(2.5)", "int 2" },
	{ "int(3.5)", "int 4" },
	{ "int(-2.5)", "int -2" },
	{ "int(2.4)", "int 2" },
	{ "exp(0)", "double 1" },
	{ "ln(1)", "double 0" },
	{ "sqrt(2)", "double 1.4142135623731" },
	{ "pi()", "double 3.14159265358979" },
	{ "pow(2, 10)", "double 1024" },
	{ "power(2.0, -1)", "double 0.5" },
	{ "greatest(1, 5, 3)", "int 5" },
	{ "least(4, 2, 9)", "int 2" },
	{ "greatest(1, 2.5)", "double 2.5" },
	{ "least(1, 2.5)", "double 1" },
	{ "greatest(1, NULL)", "null" },
	{ "debug(4)", "int 4" },
	{ "hash(10, 5432)", "int -5817877081768721676" },
	{ "hash_murmur2(10, 5432)", "int -5817877081768721676" },
	{ "hash_murmur2(-1, 0)", "int 4219408603045787357" },
	{ "hash_fnv1a(10, 5432)", "int -7793829335365542153" },
	{ "hash_fnv1a(-1, 0)", "int -8289690350564177859" },
	{ "hash_fnv1a(0, -1)", "int 4052466453699787802" },
	{ "permute(0, 2, 5431)", "int 0" },
	{ "permute(1, 2, 5431)", "int 1" },
	{ "permute(0, 2, 5433)", "int 1" },
	{ "permute(3, 3, 7)", "int 0" },
	{ "permute(-1, 10, 7)", "int 7" },
	{ "permute(77, 1000, 1)", "int 576" },
	{ "permute(9223372036854775796, 9223372036854775797, 5432)", "int 520382784483822430" },
	{ "permute(9223372036854775795, 9223372036854775797, 5432)", "int 1143715004660802862" },
	{ "permute(123456789, 1000000007, -3)", "int 329734810" },
	{ "permute(5, 1, 9)", "int 0" },
	{ "permute(1023, 1024, 42)", "int 429" },
	{ "Abs(-1) + PI() - pi()", "double 1" },
	{ "1 -- 2", "int 3" },
	{ "1.0 + 1", "double 2" },
	{ "1e15 + 0.5", "double 1e+15" },
	{ "NOT NOT TRUE", "boolean true" },
	{ "1 = 1 AND 2 = 2", "boolean true" },
	{ "3 - -2", "int 5" },
	{ "2 - ~1", "int 4" },
	{ "1.5 % 2", "int 0" },
	{ "1 IS NULL IS NULL", "boolean false" },
	{ "NULL ISNULL ISNULL", "boolean false" },
	{ "1 + 2 IS NOT NULL", "boolean true" },
	{ "- 2 + 3", "int 1" },
	{ "-9223372036854775807 - 1", "int -9223372036854775808" },
	{ "int(NULL)", "null" },
	{ "5 # ~0", "int -6" },
	{ "7 & 3 = 3", "boolean true" },
	{ "1 = 1 | 2", "boolean false" },
};

TEST_ROWS(script_expr, gives_what_pgbench_gives, sizeof like_pgbench / sizeof *like_pgbench)
{
	check_value(like_pgbench[row].expression, like_pgbench[row].value);
}

/* What pgbench does not have, or does in another way. */
static const struct {
	const char *expression, *value;
} of_ours[] = {
	{ ":records + 1", "int 101" },
	{ ":share * 4", "double 1" },
	{ ":number_text - 1", "int -13" },
	{ "NOT :yes_text", "boolean false" },
	{ ":nothing IS NULL", "boolean true" },
	{ "1 + \\\n  2", "int 3" },
	{ "1 + \\\r\n  2\r", "int 3" },
	{ "hash(1) = hash(1, 0)", "boolean true" },
	{ "permute(4, 9) = permute(4, 9, :default_seed)", "boolean true" },
};

TEST_ROWS(script_expr, reads_variables_and_continued_lines, sizeof of_ours / sizeof *of_ours)
{
	check_value(of_ours[row].expression, of_ours[row].value);
}

static const struct {
	const char *expression, *error;
} refused_expressions[] = {
	{ "1 ISNULL = FALSE", "column 10: a number is needed, and this is boolean" },
	{ "5 between 1",
	  "column 10: \"between\" stands where an operator or the end of the line should be" },
	{ "1 < 2 < 3", "column 14: comparisons do not chain; use AND" },
	{ "1 = 2 = 3", "column 14: comparisons do not chain; use AND" },
	{ "1 +", "column 11: the expression ends where a value should be" },
	{ "(1", "column 10: the expression ends where \")\" should be" },
	{ "1 2", "column 10: \"2\" stands where an operator or the end of the line should be" },
	{ "1/0", "column 9: division by zero" },
	{ "1%0", "column 9: division by zero" },
	{ "9223372036854775807 + 1",
	  "column 28: the result is out of the range of 64-bit integers" },
	{ "-9223372036854775808 - 1",
	  "column 29: the result is out of the range of 64-bit integers" },
	{ "9223372036854775807 * 2",
	  "column 28: the result is out of the range of 64-bit integers" },
	{ "-9223372036854775808 / -1",
	  "column 29: the result is out of the range of 64-bit integers" },
	{ "9223372036854775808", "column 8: this number is too large for a 64-bit integer" },
	{ "1e400", "column 8: this number is too large for a double" },
	{ "int(1e19)", "column 12: 1e+19 is too large for a 64-bit integer" },
	{ "NOT 1", "column 12: a boolean is needed, and this is integer" },
	{ "1 AND TRUE", "column 8: a boolean is needed, and this is integer" },
	{ "1 + TRUE", "column 12: a number is needed, and this is boolean" },
	{ "abs(1, 2)", "column 8: abs() takes 1 argument, not 2" },
	{ "greatest()", "column 8: greatest() takes 1 to 16 arguments, not 0" },
	{ "random(2, 1)", "column 8: nothing lies between 2 and 1" },
	{ "random_gaussian(1, 10, 1.9)",
	  "column 8: random_gaussian() needs a parameter of at least 2, not 1.9" },
	{ "random_exponential(1, 10, 0)",
	  "column 8: random_exponential() needs a parameter above 0, not 0" },
	{ "random_zipfian(1, 10, 0)",
	  "column 8: random_zipfian() needs a parameter above 0, not 0" },
	{ "permute(1, 0, 1)", "column 8: permute() needs a size above 0, not 0" },
	{ "nosuch(1)", "column 8: unknown function \"nosuch\"" },
	{ ":undefined", "column 8: variable \":undefined\" is not set before this place" },
	{ "hash()", "column 8: hash() takes 1 to 2 arguments, not 0" },
	{ "TRUE + 1", "column 8: a number is needed, and this is boolean" },
	{ "-TRUE", "column 9: a number is needed, and this is boolean" },
	{ "CASE 1 WHEN 1 THEN 2 END", "column 13: \"1\" stands where \"WHEN\" should be" },
	{ "random(0, 9223372036854775807)",
	  "column 8: 0 to 9223372036854775807 is too wide; 2^63 - 1 numbers are the most" },
	{ "1 << 64", "column 10: a shift by 64 is outside 0..63" },
	{ "1.0/0", "column 11: division by zero" },
	{ "sqrt(-1)", "column 8: sqrt() of -1, which is negative" },
	{ "ln(0)", "column 8: ln() of 0, which is not above 0" },
	{ "exp(1000)", "column 8: the result is not a finite number, which SQLite cannot store" },
	{ "0x10", "column 9: \"x10\" stands where an operator or the end of the line should be" },
	{ "1 > 2 = FALSE", "column 14: comparisons do not chain; use AND" },
	{ "(1 > 2) = FALSE", "column 11: a number is needed, and this is boolean" },
	{ "TRUE = TRUE", "column 8: a number is needed, and this is boolean" },
	{ "1 OR TRUE", "column 8: a boolean is needed, and this is integer" },
	{ "TRUE < FALSE", "column 8: a number is needed, and this is boolean" },
	{ "greatest(TRUE)", "column 17: a number is needed, and this is boolean" },
	{ "double(TRUE)", "column 15: a number is needed, and this is boolean" },
	{ "rndom(1, 2)", "column 8: unknown function \"rndom\"; did you mean \"random\"?" },
	{ "random",
	  "column 8: \"random\" is not a value; a variable is written :random, a function with (" },
	{ "k + 1", "column 8: \"k\" is not a value; a variable is written :k, a function with (" },
	{ "1 IS 2", "column 13: \"2\" stands where NULL, TRUE or FALSE should be" },
	{ "CASE WHEN 1 THEN 2", "column 26: the expression ends where \"END\" should be" },
	{ "CASE END", "column 13: \"END\" stands where \"WHEN\" should be" },
	{ "1 ! 2", "column 10: unexpected character \"!\"" },
	{ "AND", "column 8: \"AND\" stands where a value should be" },
	{ "1 +* 2", "column 11: \"*\" stands where a value should be" },
	{ ":", "column 8: unexpected character \":\"" },
	{ ":1", "column 8: unexpected character \":\"" },
	{ "random(1,", "column 17: the expression ends where a value should be" },
	{ "1)", "column 9: \")\" stands where an operator or the end of the line should be" },
	{ "abs(-9223372036854775808)",
	  "column 8: the result is out of the range of 64-bit integers" },
	{ "-(-9223372036854775808)",
	  "column 8: the result is out of the range of 64-bit integers" },
	{ "permute(1)", "column 8: permute() takes 2 to 3 arguments, not 1" },
	{ "'a'", "column 8: unexpected character \"'\"" },
	{ "1.5.2", "column 11: \".2\" stands where an operator or the end of the line should be" },
	{ "1 + @", "column 12: unexpected character \"@\"" },
	{ "random(1, 2) random(1, 2)",
	  "column 21: \"random\" stands where an operator or the end of the line should be" },
	{ "greatest(1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17)",
	  "column 8: greatest() takes 1 to 16 arguments, not 17" },
};

TEST_ROWS(script_expr, refuses_in_words, sizeof refused_expressions / sizeof *refused_expressions)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open();
	char text[512];

	evaluate(&f, refused_expressions[row].expression, text, sizeof text);
	CHECK_CONTAINS(text, "mine.sql:1: column ");
	CHECK_MSG(strcmp(strstr(text, "column "), refused_expressions[row].error) == 0,
	          "%s: \"%s\", not \"%s\"", refused_expressions[row].expression, text,
	          refused_expressions[row].error);
}

TEST(script_expr, bounds_its_recursion)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open();
	char text[4096] = "\\set x ";

	for (int i = 0; i < 2000; i++)
		strcat(text, "(");
	CHECK(!parse(&f, text));
	CHECK_CONTAINS(f.error, "more than 500 parts");
}

static int64_t drawn(struct fixture *f, const char *expression)
{
	char text[512];

	evaluate(f, expression, text, sizeof text);
	CHECK_MSG(strncmp(text, "int ", 4) == 0, "%s", text);
	return strtoll(text + 4, NULL, 10);
}

static const char *const distributions[] = {
	"random(-2, 7)",
	"random_exponential(-2, 7, 2.5)",
	"random_gaussian(-2, 7, 2)",
	"random_zipfian(-2, 7, 0.99)",
};

TEST_ROWS(script_expr, draws_all_of_a_range_and_nothing_else,
          sizeof distributions / sizeof *distributions)
{
	CLEANUP(fixture_close) struct fixture f = fixture_open();
	unsigned seen[10] = { 0 };

	for (int i = 0; i < 2000; i++) {
		int64_t n = drawn(&f, distributions[row]);

		CHECK(n >= -2 && n <= 7);
		seen[n + 2]++;
	}
	for (int i = 0; i < 10; i++)
		CHECK(seen[i] > 0);
}

TEST(script_expr, permutes_without_collision)
{
	for (int64_t size = 1; size <= 70; size++) {
		unsigned char seen[70] = { 0 };

		for (int64_t i = 0; i < size; i++) {
			int64_t n = script_permute(i, size, (uint64_t)size);

			CHECK(n >= 0 && n < size && !seen[n]);
			seen[n] = 1;
		}
	}
	CHECK_INT(script_permute(4, 70, 5), ==, script_permute(4 + 70 * 3, 70, 5));
}
