/* Charts; see chart.h. */
/* SPDX-License-Identifier: MIT */
#include "chart.h"

#include <math.h>
#include <string.h>

enum { WIDTH = 860, HEIGHT = 260, LEFT = 80, RIGHT = 16, TOP = 34, BOTTOM = 38 };
enum { COLUMNS = WIDTH - LEFT - RIGHT, ROWS_MAX = 20, TICKS_MAX = 12 };

/* Told apart by the colour-blind too (Okabe and Ito), and by their dashes. */
static const struct {
	const char *colour, *dash;
} looks[REPORT_SERIES_MAX] = {
	{ "#0072b2", "none" }, { "#c04a00", "7 3" }, { "#007a5a", "2 3" }, { "#a8488a", "9 3 2 3" }
};

struct plot {
	struct report_arena *arena;
	FILE *out;
	const struct report_chart *chart;
	double x_low, x_high, y_low, y_high; /* In the axis' own measure: log10 where it is. */
};

static double x_measure(const struct report_chart *chart, double x)
{
	return chart->percentiles ? -log10(1 - x / 100) : x;
}

static double y_measure(const struct report_chart *chart, double y)
{
	if (!chart->logarithmic)
		return y;
	return y > 0 ? log10(y) : NAN;
}

static double x_pixel(const struct plot *p, double x)
{
	return LEFT + COLUMNS * (x_measure(p->chart, x) - p->x_low) / (p->x_high - p->x_low);
}

static double y_pixel(const struct plot *p, double y)
{
	return HEIGHT - BOTTOM -
	       (HEIGHT - TOP - BOTTOM) * (y_measure(p->chart, y) - p->y_low) /
	               (p->y_high - p->y_low);
}

/* 1, 2 or 5 times a power of ten, so that about `parts` fit. */
static double step_for(double range, int parts)
{
	double power = pow(10, floor(log10(range / parts))), part = range / parts / power;

	return power * (part <= 1 ? 1 : part <= 2 ? 2 : part <= 5 ? 5 : 10);
}

/* Powers of 1024 read better for bytes. */
static double y_step(const struct plot *p)
{
	double scale = 1;

	if (p->chart->unit == REPORT_BYTES && p->y_high >= 100 * 1024)
		while (p->y_high / scale >= 1024)
			scale *= 1024;
	return scale * step_for((p->y_high - p->y_low) / scale, 4);
}

/* false: there is nothing to draw. */
static bool measure(struct plot *p)
{
	bool any = false;

	for (unsigned s = 0; s < p->chart->count; s++) {
		const struct report_series *series = &p->chart->series[s];

		for (size_t i = 0; i < series->count; i++) {
			double x = x_measure(p->chart, series->x[i]);
			double y = y_measure(p->chart, series->y[i]);

			if (!isfinite(y) || !isfinite(x))
				continue;
			p->x_low = any ? fmin(p->x_low, x) : x;
			p->x_high = any ? fmax(p->x_high, x) : x;
			p->y_low = any ? fmin(p->y_low, y) : y;
			p->y_high = any ? fmax(p->y_high, y) : y;
			any = true;
		}
	}
	if (!any)
		return false;
	if (p->chart->logarithmic) {
		p->y_low = floor(p->y_low);
		p->y_high = fmax(ceil(p->y_high), p->y_low + 1);
	} else {
		p->y_low = fmin(p->y_low, 0);
		p->y_high = p->y_high > p->y_low ? p->y_high : p->y_low + 1;
		p->y_high = y_step(p) * ceil(p->y_high / y_step(p));
	}
	p->x_low = fmin(p->x_low, 0);
	if (p->x_high <= p->x_low)
		p->x_high = p->x_low + 1;
	return true;
}

static void tick_text(struct plot *p, double x, double y, const char *anchor, const char *text)
{
	fprintf(p->out, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">", x, y, anchor);
	report_escape(p->out, text);
	fputs("</text>", p->out);
}

static void y_tick(struct plot *p, double value)
{
	double y = y_pixel(p, value);

	fprintf(p->out, "<path d=\"M%d %.1fH%d\" stroke=\"currentColor\" stroke-opacity=\".18\"/>",
	        LEFT, y, WIDTH - RIGHT);
	tick_text(p, LEFT - 6, y + 4, "end", report_quantity(p->arena, p->chart->unit, value));
}

static void y_axis(struct plot *p)
{
	double step;

	if (p->chart->logarithmic) {
		for (double power = p->y_low; power <= p->y_high; power++)
			y_tick(p, pow(10, power));
		return;
	}
	step = y_step(p);
	for (int i = 0; i < TICKS_MAX && p->y_low + i * step <= p->y_high * 1.0001; i++)
		y_tick(p, p->y_low + i * step);
}

static void x_axis(struct plot *p)
{
	static const char *const percents[] = { "0",     "90",     "99",     "99.9",
		                                "99.99", "99.999", "99.9999" };
	double base = HEIGHT - BOTTOM, step;

	if (p->chart->percentiles) {
		for (int i = 0; i < 7 && i <= p->x_high + 0.001; i++)
			tick_text(p, LEFT + COLUMNS * (i - p->x_low) / (p->x_high - p->x_low),
			          base + 16, "middle", percents[i]);
	} else {
		step = step_for(p->x_high - p->x_low, 8);
		for (int i = 0; i < 2 * TICKS_MAX && p->x_low + i * step <= p->x_high * 1.0001; i++)
			tick_text(p, x_pixel(p, p->x_low + i * step), base + 16, "middle",
			          report_print(p->arena, "%g", p->x_low + i * step));
	}
	tick_text(p, LEFT + COLUMNS / 2, base + 32, "middle",
	          p->chart->percentiles ? "percentile (%), each decade ten times rarer"
	                                : "time since the start (s)");
	fprintf(p->out, "<path d=\"M%d %.1fH%d\" stroke=\"currentColor\"/>", LEFT, base,
	        WIDTH - RIGHT);
}

static bool has_value(const struct plot *p, const struct report_series *series)
{
	for (size_t i = 0; i < series->count; i++) {
		if (isfinite(y_measure(p->chart, series->y[i])))
			return true;
	}
	return false;
}

static void legend(struct plot *p)
{
	double x = LEFT;

	for (unsigned s = 0; s < p->chart->count; s++) {
		const char *name = p->chart->series[s].name;

		if (!has_value(p, &p->chart->series[s]))
			continue;
		fprintf(p->out,
		        "<path class=\"s%u\" d=\"M%.1f 14h26\" stroke=\"%s\" stroke-width=\"2.5\" "
		        "stroke-dasharray=\"%s\"/>",
		        s, x, looks[s].colour, looks[s].dash);
		tick_text(p, x + 32, 18, "start", name);
		x += 48 + 7.5 * (double)strlen(name);
	}
}

/* What one column of pixels holds; its extremes are drawn in the order in which they came. */
struct column {
	int at;
	double x, low, high;
	bool low_first;
};

static void draw_column(struct plot *p, const struct column *c, bool *down)
{
	double first = c->low_first ? c->low : c->high, second = c->low_first ? c->high : c->low;

	fprintf(p->out, "%s%.1f %.1f", *down ? "L" : "M", c->x, first);
	if (!*down || fabs(second - first) >= 0.05)
		fprintf(p->out, "L%.1f %.1f", c->x, second);
	*down = true;
}

static void line(struct plot *p, unsigned number)
{
	const struct report_series *s = &p->chart->series[number];
	struct column c = { .at = -1 };
	bool down = false;

	fprintf(p->out,
	        "<path class=\"s%u\" fill=\"none\" stroke=\"%s\" stroke-width=\"1.8\" "
	        "stroke-linecap=\"round\" stroke-linejoin=\"round\" stroke-dasharray=\"%s\" d=\"",
	        number, looks[number].colour, looks[number].dash);
	for (size_t i = 0; i < s->count; i++) {
		double y = y_pixel(p, s->y[i]), x = x_pixel(p, s->x[i]);

		if (!isfinite(y) || !isfinite(x) || (int)x != c.at) {
			if (c.at >= 0)
				draw_column(p, &c, &down);
			c = (struct column){ (int)x, x, y, y, true };
			if (!isfinite(y) || !isfinite(x)) {
				c.at = -1;
				down = false;
			}
		} else if (y < c.low) {
			c.low = y;
			c.low_first = false;
		} else if (y > c.high) {
			c.high = y;
			c.low_first = true;
		}
	}
	if (c.at >= 0)
		draw_column(p, &c, &down);
	fputs("\"/>", p->out);
}

/*
 * The largest value of each stretch of time, so that the table loses no spike either. A stretch in
 * which some point has no value has none: the largest p99.9 of the intervals that have one may lie
 * below the largest p99 of all.
 */
static void table_row(struct plot *p, double low, double high, bool last)
{
	const struct report_chart *chart = p->chart;

	fprintf(p->out, "<tr><th scope=\"row\">%s</th>",
	        chart->percentiles ? report_print(p->arena, "%.10g %%", low)
	                           : report_print(p->arena, "%.4g s", low));
	for (unsigned s = 0; s < chart->count; s++) {
		const struct report_series *series = &chart->series[s];
		double most = -INFINITY;

		for (size_t i = 0; i < series->count && !isnan(most); i++) {
			if (series->x[i] < low || (series->x[i] >= high && !last))
				continue;
			most = isnan(series->y[i]) ? NAN : fmax(most, series->y[i]);
		}
		fprintf(p->out, "<td>%s</td>",
		        isfinite(most) ? report_quantity(p->arena, chart->unit, most) : "–");
	}
	fputs("</tr>\n", p->out);
}

static void table(struct plot *p)
{
	const struct report_chart *chart = p->chart;
	const struct report_series *first = &chart->series[0];

	fputs("<details><summary>The numbers</summary><div class=\"wide\"><table><thead><tr><th "
	      "scope=\"col\">",
	      p->out);
	fputs(chart->percentiles ? "percentile" : "from", p->out);
	for (unsigned s = 0; s < chart->count; s++) {
		fputs("</th><th scope=\"col\">", p->out);
		report_escape(p->out, chart->series[s].name);
		if (!chart->percentiles)
			fputs(", largest", p->out);
	}
	fputs("</th></tr></thead><tbody>\n", p->out);
	if (chart->percentiles) {
		for (size_t i = 0; i < first->count; i++)
			table_row(p, first->x[i], nextafter(first->x[i], 100), false);
	} else {
		double part = (p->x_high - p->x_low) / ROWS_MAX;

		for (int i = 0; i < ROWS_MAX; i++)
			table_row(p, p->x_low + i * part, p->x_low + (i + 1) * part,
			          i + 1 == ROWS_MAX);
	}
	fputs("</tbody></table></div></details>", p->out);
}

void report_chart_write(struct report_arena *arena, FILE *out, const struct report_chart *chart)
{
	struct plot p = { .arena = arena, .out = out, .chart = chart };

	if (!measure(&p))
		return;
	fprintf(out,
	        "<figure><figcaption>%s</figcaption>"
	        "<svg viewBox=\"0 0 %d %d\" width=\"%d\" height=\"%d\" role=\"img\" "
	        "font-family=\"system-ui,sans-serif\" font-size=\"12\" "
	        "fill=\"currentColor\"><title>",
	        chart->title, WIDTH, HEIGHT, WIDTH, HEIGHT);
	report_escape(out, chart->title);
	fputs("</title><desc>", out);
	report_escape(out, chart->about);
	fputs("</desc>\n", out);
	y_axis(&p);
	x_axis(&p);
	legend(&p);
	for (unsigned s = chart->count; s-- > 0;) { /* The first is the most important: on top. */
		if (has_value(&p, &chart->series[s]))
			line(&p, s);
	}
	fputs("</svg>\n", out);
	table(&p);
	fputs("</figure>\n", out);
}
