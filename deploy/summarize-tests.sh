#!/usr/bin/env bash
#
# Runs a command that prints what `cargo test` prints, passes its output through unchanged, and ends
# with one line: `N passed, N failed`, and `, N skipped` where tests were ignored.
# Fails if the command failed or if no test was run.
#
#   summarize-tests.sh COMMAND...
#
# A test program that prints nothing for TEST_SILENCE seconds (900) hangs: it is shown with the state of
# its servers and killed, so that the others still run. Building may be silent for as long as it takes.

set -uo pipefail

[ $# -gt 0 ] || { echo "usage: summarize-tests.sh COMMAND..." >&2; exit 2; }

readonly SILENCE=${TEST_SILENCE:-900}
folder=$(mktemp -d)
output=$folder/output
: >"$output"

# What the process has started, and what that has.
descendants() { # pid
    local child
    for child in $(cat "/proc/$1/task/"*/children 2>/dev/null); do
        descendants "$child"
        echo "$child"
    done
}

end_what_hangs() {
    local pid pids
    # It may outlive this script for a moment, and must not keep its output open.
    while sleep 5 >/dev/null 2>&1; do
        [ $((EPOCHSECONDS - $(stat -c %Y "$output"))) -ge "$SILENCE" ] || continue
        grep -q '^running [0-9]* test' "$output" || continue
        read -r pid <"$folder/pid" || continue
        pids=$(descendants "$pid")
        [ -n "$pids" ] || continue
        # shellcheck disable=SC2086
        show_state $pids 2>&1 | tee -a "$output"
        # shellcheck disable=SC2086
        kill -KILL $pids
    done
}

show_state() { # pid...
    echo "nothing was printed for $SILENCE s: killing what hangs"
    ps -o pid,ppid,stat,time,args -p "$*"
    df -h .
    timeout 60 "$(dirname "$0")/servers.sh" ctl status
}

end_what_hangs </dev/null &
watch=$!
trap 'kill "$watch" 2>/dev/null; rm -rf "$folder"' EXIT

(echo "$BASHPID" >"$folder/pid" && exec "$@") 2>&1 </dev/null | tee -a "$output"
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
