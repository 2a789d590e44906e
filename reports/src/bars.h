/*
 * bars.h - contenders side by side, as inline SVG.
 *
 * As the charts over time (chart.h): presentation attributes only, words beside colours. The bars
 * begin at zero; a whisker is the interval. What nobody can pass is a line across all bars, what
 * one of them is to reach a line across that one; both are explained above.
 */
/* SPDX-License-Identifier: MIT */
#ifndef REPORT_BARS_H
#define REPORT_BARS_H

#include "base.h"

struct report_bar {
	const char *name,
		*value; /* The second in words, and whatever else stands behind the bar. */
	double length, low, high; /* low NAN: no whisker. length NAN: no bar. */
	bool ours;
};

struct report_mark {
	const char *text;
	double at;
	int bar; /* Whose goal; -1: everybody's limit. */
};

enum { REPORT_BARS_MAX = 16, REPORT_MARKS_MAX = 8 };

struct report_bars {
	const char *title, *about;
	struct report_bar bars[REPORT_BARS_MAX];
	unsigned bar_count;
	struct report_mark marks[REPORT_MARKS_MAX];
	unsigned mark_count;
};

void report_bars_write(FILE *out, const struct report_bars *bars);

#endif
