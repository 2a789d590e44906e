/*
 * script_internal.h - what the files of the script language share.
 *
 * script_parse.c reads a script into steps, with script_command.c for what starts with a
 * backslash, script_sql.c for SQL and script_expr.c for expressions. script.c runs the steps,
 * script_eval.c computes the expressions. Everything a script holds comes from script_alloc()
 * and goes with the script.
 */
/* SPDX-License-Identifier: MIT */
#ifndef SCRIPT_INTERNAL_H
#define SCRIPT_INTERNAL_H

#include <poolproof/harness/script.h>

#include <sqlite3.h>

enum {
	SCRIPT_VARIABLES_MAX = 64, /* They stand on the stack of a run. */
	SCRIPT_TEXT_MAX = 8192,    /* Bytes of text that the \gsets of one run may keep in all. */
	SCRIPT_ARGUMENTS_MAX = 16, /* Of one function; pgbench's limit too. */
	SCRIPT_EXPR_MAX = 500,     /* Parts of one expression: bounds the recursion. */
	SCRIPT_IF_MAX = 16,        /* \if within \if. */
	SCRIPT_FILE_MAX = 1 << 18, /* Bytes of a script's file. */
};

/* Variables that always exist; a caller may give them a value. */
enum { SCRIPT_CLIENT_ID, SCRIPT_RANDOM_SEED, SCRIPT_DEFAULT_SEED, SCRIPT_BUILTINS };

enum script_type {
	SCRIPT_UNSET,
	SCRIPT_NULL,
	SCRIPT_BOOLEAN,
	SCRIPT_INTEGER,
	SCRIPT_DOUBLE,
	SCRIPT_TEXT
};

struct script_value {
	enum script_type type;
	union {
		bool boolean;
		int64_t integer;
		double real;
		const char *text;
	};
};

enum script_op {
	OP_CONSTANT,
	OP_VARIABLE,
	OP_OR,
	OP_AND,
	OP_NOT,
	OP_IS,
	OP_CASE,
	OP_EQ,
	OP_NE,
	OP_LT,
	OP_LE,
	OP_GT,
	OP_GE,
	OP_ADD,
	OP_SUB,
	OP_MUL,
	OP_DIV,
	OP_MOD,
	OP_BIT_OR,
	OP_BIT_XOR,
	OP_BIT_AND,
	OP_SHIFT_LEFT,
	OP_SHIFT_RIGHT,
	OP_ABS,
	OP_DEBUG,
	OP_DOUBLE,
	OP_EXP,
	OP_GREATEST,
	OP_HASH_FNV1A,
	OP_HASH_MURMUR2,
	OP_INT,
	OP_LEAST,
	OP_LN,
	OP_PERMUTE,
	OP_PI,
	OP_POW,
	OP_RANDOM,
	OP_RANDOM_EXPONENTIAL,
	OP_RANDOM_GAUSSIAN,
	OP_RANDOM_ZIPFIAN,
	OP_SQRT
};

/* A node. Its arguments are a list: first, then each one's next. */
struct script_expr {
	enum script_op op;
	unsigned line, column; /* Of its token, for errors. */
	unsigned variable;     /* OP_VARIABLE: slot. */
	struct script_value value;
	struct script_expr *first, *next;
};

enum script_step_kind {
	STEP_NOTHING, /* Where a jump lands: \else, \endif. */
	STEP_SET,
	STEP_SLEEP,
	STEP_UNLESS, /* Jumps to target unless expr is true. */
	STEP_JUMP,   /* To target. */
	STEP_QUERY,
	STEP_BEGIN,
	STEP_COMMIT,
	STEP_ROLLBACK
};

struct script_step {
	enum script_step_kind kind;
	unsigned line;
	const struct script_expr *expr;
	unsigned variable;  /* STEP_SET: slot. */
	bool chosen;        /* STEP_SET: the value goes into the worker's digest. */
	int64_t unit_ns;    /* STEP_SLEEP */
	const char *sql;    /* STEP_QUERY */
	unsigned *args;     /* Slots, in the order of SQLite's indexes. */
	unsigned arg_count; /* At most SCRIPT_VARIABLES_MAX. */
	unsigned *columns;  /* \gset: the slot of each column; NULL without. */
	unsigned column_count;
	struct script_step *target, *next;
};

struct script_block; /* What script_alloc() gave out. */

struct harness_script {
	struct script_block *blocks;
	const char *file; /* In errors. */
	const char *name;
	struct script_step *steps;
	enum harness_access access;
	const char *names[SCRIPT_VARIABLES_MAX];
	struct script_value initial[SCRIPT_VARIABLES_MAX];
	/* Filled by \gset. Once such a value is used, what follows depends on the database and on
	 * timing, so nothing after that is counted as chosen. */
	bool measured[SCRIPT_VARIABLES_MAX];
	unsigned variable_count;
};

/* Zeroed memory that lives as long as the script; NULL: none left. */
void *script_alloc(struct harness_script *script, size_t size);
const char *script_copy(struct harness_script *script, const char *text, size_t size);

/* The state of reading. The first error stays. */
struct script_parser {
	struct harness_script *script;
	sqlite3 *db;
	const char *text, *at; /* The whole, and where reading stands. */
	const char *line_at;   /* script_line() counts on from here, */
	unsigned line;         /* where this many newlines were seen. */
	bool failed;
	char *error;
	size_t error_size;

	struct script_step **last; /* Where the next step is hung. */
	struct script_step *query; /* The SQL that a \gset here would belong to. */
	struct {
		struct script_step *unless; /* Still without its target; NULL after \else. */
		struct script_step *jumps;  /* To the \endif, chained by target. */
		unsigned line;
	} ifs[SCRIPT_IF_MAX];
	unsigned if_count;
	bool branches;      /* An \if was seen. */
	bool measured_used; /* See measured[]. */
	bool savepoint;     /* DDL was run on db, to be undone. */
};

/* Record an error at a place in the text. Returns NULL, for return statements. */
void *script_error(struct script_parser *p, const char *where, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
/* The same with the column. */
void *script_error_column(struct script_parser *p, const char *where, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
unsigned script_line(struct script_parser *p, const char *where);
/* "; did you mean "X"?" for the name nearest to word, or "". */
const char *script_suggest(const char *const *names, unsigned count, const char *word,
                           size_t word_size, char *text, size_t text_size);
/* The slot of a variable that is set before this place; -1 with an error. */
int script_use(struct script_parser *p, const char *where, const char *name, size_t size);
/* The slot of a variable, made if there is none; -1 with an error. */
int script_define(struct script_parser *p, const char *where, const char *name, size_t size);
bool script_name_byte(char byte, bool first);

/* Reads one expression from p->at to the end of its (continued) line. */
struct script_expr *script_expr_parse(struct script_parser *p);
/* A backslash, then the end of the line: its length, or 0. */
size_t script_continuation(const char *at);

/* The whole text into steps. */
void script_parse_text(struct script_parser *p);
struct script_step *script_step_append(struct script_parser *p, enum script_step_kind kind,
                                       const char *where);
/* The next statement at p->at, or a step over what is none. */
void script_parse_sql(struct script_parser *p);
/* The command whose backslash is at p->at. */
void script_parse_command(struct script_parser *p);

/* One run of a script. */
struct script_frame {
	const struct harness_script *script;
	struct harness_worker *worker;
	struct harness_failure *failure;
	struct harness_connection connection;
	bool lent;
	unsigned begun_line; /* Of the BEGIN; 0 outside a transaction. */
	struct script_value variables[SCRIPT_VARIABLES_MAX];
	size_t text_used;
	char text[SCRIPT_TEXT_MAX];
};

/* false: the failure says why, with file and line. */
bool script_eval(struct script_frame *f, const struct script_expr *expr,
                 struct script_value *ret_value);
/* As \if and CASE take it: a number is true unless it is 0, NULL is not. */
bool script_truth(const struct script_value *value);
/* A text as pgbench reads variables: NULL, a boolean, a number. false: none of them. */
bool script_value_of_text(const char *text, struct script_value *ret_value);
bool script_to_integer(struct script_frame *f, const struct script_expr *at,
                       const struct script_value *value, int64_t *ret_integer);
bool script_run_error(struct script_frame *f, unsigned line, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

int64_t script_hash_fnv1a(int64_t value, uint64_t seed);
int64_t script_hash_murmur2(int64_t value, uint64_t seed);
/* Where value (modulo size) stands in a permutation of 0..size-1; size > 0. */
int64_t script_permute(int64_t value, int64_t size, uint64_t seed);

#endif
