#!/bin/sh
# Proves latency.hlog with the public reader: hlog_oracle.sh HARNESS-TESTS BUILD-DIR
# Exit code 77 (skipped) where npm is missing.
# SPDX-License-Identifier: MIT
set -eu

if [ $# -ne 2 ]; then
	echo "usage: $0 HARNESS-TESTS BUILD-DIR" >&2
	exit 2
fi
here=$(cd "$(dirname "$0")" && pwd)
tests=$1
place=$2/hlog-oracle

if ! command -v npm >/dev/null 2>&1 || ! command -v node >/dev/null 2>&1; then
	echo "hlog_oracle: SKIPPED: npm is not installed (ci/setup nightly installs it)" >&2
	exit 77
fi
mkdir -p "$place"
cp "$here/package.json" "$here/package-lock.json" "$here/hlog_oracle.mjs" "$place/"
(cd "$place" && npm ci --silent --no-audit --no-fund --ignore-scripts)
HLOG_ORACLE=$place/random.hlog "$tests" histogram/writes_a_log_for_the_oracle
node "$place/hlog_oracle.mjs" "$place/random.hlog" "$place/random.hlog.expected"
