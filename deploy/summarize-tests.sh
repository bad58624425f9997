#!/usr/bin/env bash
#
# Runs a command that prints what `cargo test` prints, passes its output through unchanged, and ends
# with one line: `N passed, N failed`, and `, N skipped` where tests were ignored.
# Fails if the command failed or if no test was run.
#
#   summarize-tests.sh COMMAND...

set -uo pipefail

[ $# -gt 0 ] || { echo "usage: summarize-tests.sh COMMAND..." >&2; exit 2; }

output=$(mktemp)
trap 'rm -f "$output"' EXIT

"$@" 2>&1 </dev/null | tee "$output"
code=${PIPESTATUS[0]}

# What failed without a result line (a compiler error, a test program that was killed) counts as one.
awk -v code="$code" '
    { gsub(/\033\[[0-9;]*m/, "") }
    /^test result: / {
        for (field = 2; field <= NF; field++) {
            if ($field == "passed;") passed += $(field - 1)
            if ($field == "failed;") failed += $(field - 1)
            if ($field == "ignored;") skipped += $(field - 1)
        }
    }
    END {
        if (code != 0 && failed == 0) failed = 1
        line = sprintf("%d passed, %d failed", passed, failed)
        if (skipped > 0) line = line sprintf(", %d skipped", skipped)
        print line
        exit (failed > 0 || passed == 0)
    }
' "$output"
