/* Bars; see bars.h. */
/* SPDX-License-Identifier: MIT */
#include "bars.h"

#include <math.h>

enum { WIDTH = 860, LEFT = 130, RIGHT = 270, SPAN = WIDTH - LEFT - RIGHT };
enum { PITCH = 24, BAR = 14, HEAD = 18 };

static double extent(const struct report_bars *b)
{
	double most = 0;

	for (unsigned i = 0; i < b->bar_count; i++) {
		most = fmax(most, b->bars[i].length); /* fmax() passes over NAN. */
		most = fmax(most, b->bars[i].high);
	}
	/* A goal far beyond the bars would squeeze them: then it only stands in words. */
	for (unsigned i = 0; i < b->mark_count; i++)
		if (b->marks[i].at < 2 * most)
			most = fmax(most, b->marks[i].at);
	return most > 0 ? most : 1;
}

static void text(FILE *out, double x, double y, const char *attributes, const char *words)
{
	fprintf(out, "<text x=\"%.1f\" y=\"%.1f\"%s>", x, y, attributes);
	report_escape(out, words);
	fputs("</text>", out);
}

/* reach: where its goals end, which its words keep clear of. */
static void bar(FILE *out, const struct report_bar *b, double top, double reach, double scale)
{
	double middle = top + BAR / 2.0, end = LEFT;

	text(out, LEFT - 8, middle + 4,
	     b->ours ? " text-anchor=\"end\" font-weight=\"700\"" : " text-anchor=\"end\"",
	     b->name);
	if (isfinite(b->length)) {
		end = LEFT + fmax(b->length * scale, 1);
		fprintf(out, "<rect x=\"%d\" y=\"%.1f\" width=\"%.1f\" height=\"%d\" %s/>", LEFT,
		        top, end - LEFT, BAR,
		        b->ours ? "class=\"f0\" fill=\"#0072b2\""
		                : "fill=\"currentColor\" fill-opacity=\".35\"");
	}
	if (isfinite(b->low) && isfinite(b->high)) {
		double low = LEFT + b->low * scale, high = LEFT + b->high * scale;

		fprintf(out,
		        "<path d=\"M%.1f %.1fH%.1fM%.1f %.1fv6M%.1f %.1fv6\" "
		        "stroke=\"currentColor\" stroke-width=\"1.4\"/>",
		        low, middle, high, low, middle - 3, high, middle - 3);
		end = fmax(end, high);
	}
	text(out, fmax(end, reach) + 8, middle + 4, "", b->value);
}

/* A mark that does not fit is not drawn. */
static bool is_drawn(const struct report_mark *m, double scale)
{
	return m->at * scale <= SPAN + 0.5;
}

static double reach_of(const struct report_bars *b, unsigned number, double scale)
{
	double reach = 0;

	for (unsigned i = 0; i < b->mark_count; i++)
		if (b->marks[i].bar == (int)number && is_drawn(&b->marks[i], scale))
			reach = fmax(reach, LEFT + b->marks[i].at * scale);
	return reach;
}

static void line(FILE *out, const struct report_mark *m, double x, double from, double to)
{
	fprintf(out,
	        "<path class=\"s%d\" d=\"M%.1f %.1fV%.1f\" stroke=\"%s\" stroke-width=\"2.5\" "
	        "stroke-dasharray=\"%s\"/>",
	        m->bar < 0 ? 1 : 2, x, from, to, m->bar < 0 ? "#c04a00" : "#007a5a",
	        m->bar < 0 ? "2 3" : "none");
}

static void mark(FILE *out, const struct report_bars *b, unsigned number, double top, double scale)
{
	const struct report_mark *m = &b->marks[number];
	double x = LEFT + m->at * scale, y = HEAD * number;

	line(out, m, LEFT + 2, y + 2, y + 14);
	text(out, LEFT + 10, y + 12, "", m->text);
	if (!is_drawn(m, scale))
		return;
	if (m->bar < 0)
		line(out, m, x, top, top + PITCH * b->bar_count);
	else
		line(out, m, x, top + PITCH * m->bar, top + PITCH * m->bar + BAR + 6);
}

void report_bars_write(FILE *out, const struct report_bars *b)
{
	double scale = SPAN / extent(b), top = HEAD * b->mark_count + 6;
	double height = top + PITCH * b->bar_count;

	fputs("<figure><figcaption>", out);
	report_escape(out, b->title);
	fprintf(out,
	        "</figcaption><svg viewBox=\"0 0 %d %.0f\" width=\"%d\" height=\"%.0f\" "
	        "role=\"img\" "
	        "font-family=\"system-ui,sans-serif\" font-size=\"12\" "
	        "fill=\"currentColor\"><title>",
	        WIDTH, height, WIDTH, height);
	report_escape(out, b->title);
	fputs("</title><desc>", out);
	report_escape(out, b->about);
	fputs("</desc>\n", out);
	fprintf(out, "<path d=\"M%d %.1fV%.1f\" stroke=\"currentColor\"/>\n", LEFT, top - 3,
	        height);
	for (unsigned i = 0; i < b->bar_count; i++)
		bar(out, &b->bars[i], top + PITCH * i + 3, reach_of(b, i, scale), scale);
	for (unsigned i = 0; i < b->mark_count; i++)
		mark(out, b, i, top, scale);
	fputs("</svg></figure>\n", out);
}
