// Reads a log with the public hdr-histogram-js and compares what it finds with what the writer
// expects: count, p50, p90, p99, p99.9, p99.99 and max, exactly.
//
//     node hlog_oracle.mjs LOG EXPECTED
//
// SPDX-License-Identifier: MIT
import fs from "node:fs";
import { HistogramLogReader } from "hdr-histogram-js";

const [logPath, expectedPath] = process.argv.slice(2);
const reader = new HistogramLogReader(fs.readFileSync(logPath, "utf8"), 64);
const expected = fs.readFileSync(expectedPath, "utf8").trim().split("\n");
let wrong = 0;

expected.forEach((line, i) => {
	const h = reader.nextIntervalHistogram();
	const found = h === null ? "no histogram" :
		[h.totalCount, ...[50, 90, 99, 99.9, 99.99].map((p) => h.getValueAtPercentile(p)),
			h.maxValue].join(" ");

	if (found !== line || h.tag !== "oracle") {
		console.error(`line ${i + 1}: expected ${line}, the reader found ${found}`);
		wrong++;
	}
});
if (reader.nextIntervalHistogram() !== null) {
	console.error(`more than ${expected.length} histograms`);
	wrong++;
}
console.log(`hlog_oracle: ${expected.length} histograms, ${wrong} wrong`);
process.exit(wrong === 0 && expected.length > 0 ? 0 : 1);
