/*
 * page.h - the parts of index.html. Everything foreign goes through report_escape(); text that
 * stands in the source does not.
 */
/* SPDX-License-Identifier: MIT */
#ifndef REPORT_PAGE_H
#define REPORT_PAGE_H

#include "command.h"

struct report_page {
	struct report_arena *arena;
	FILE *out;
	const struct report_inputs *inputs;
	const struct report_judgement *judgement;
};

/* From the document's first line to <main>, and from </main> on. The verdict comes first in the
 * title. Both are words of the program's own. */
void report_page_begin(FILE *out, const char *title, const char *verdict);
void report_page_end(FILE *out);
/* A whole element: <tag attributes>text</tag>, the text escaped. attributes may be "". */
void report_element(FILE *out, const char *tag, const char *attributes, const char *text);
/* "<span class=… >✔ PASS</span>": word and shape, never colour alone. */
void report_badge(FILE *out, enum report_verdict verdict);

/* One run: what it is, its charts, its percentiles; number names its anchor. */
void report_page_run(struct report_page *page, const struct report_run *run, size_t number);
/* Nothing where no run has injected any. */
void report_page_faults(struct report_page *page);
void report_page_leaks(struct report_page *page);
void report_page_coverage(struct report_page *page, const struct report_run *run);

#endif
