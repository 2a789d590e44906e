/*
 * chart.h - one chart as inline SVG, with its table in words.
 *
 * Presentation attributes only, so that it is complete where no style is let in. A column of
 * pixels shows the least and the largest of what falls into it: no spike is lost. Series differ
 * in colour and in dashes.
 */
/* SPDX-License-Identifier: MIT */
#ifndef REPORT_CHART_H
#define REPORT_CHART_H

#include "base.h"

struct report_series {
	const char *name;
	const double *x, *y; /* x ascending; a y that is NAN is a gap. */
	size_t count;
};

enum { REPORT_SERIES_MAX = 4 };

struct report_chart {
	const char *title, *about; /* The second in a sentence, for who cannot see it. */
	enum report_unit unit;     /* Of y. */
	bool logarithmic;          /* y; values <= 0 are gaps. */
	bool percentiles;          /* x is a percentile on a 1/(1-p) axis; else seconds. */
	struct report_series series[REPORT_SERIES_MAX];
	unsigned count;
};

/* Writes nothing when no series has a value. */
void report_chart_write(struct report_arena *arena, FILE *out, const struct report_chart *chart);

#endif
