#!/usr/bin/env bash
#
# The demo: builds what is needed, brings up the servers, and runs examples.release_check over a
# folder with a coordinator and a worker of its own. `make demo` calls it.
#
#   demo.sh [FOLDER]      the folder to check; default: DEMO_FOLDER, else the project's own sources
#
# Environment:
#   FLOTILLA_HOME             the state folder of the servers, default: .flotilla of the project
#   DATABASE_URL, AMQP_URL    where both are set, those servers are used and none is started
#
# The servers stay up. The coordinator and the worker are stopped at the end, however it ends; their
# logs stay in $FLOTILLA_HOME/demo. The last line is `execution <uuid> succeeded`.

set -euo pipefail

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
export FLOTILLA_HOME=${FLOTILLA_HOME:-$root/.flotilla}
[[ $FLOTILLA_HOME = /* ]] || FLOTILLA_HOME=$PWD/$FLOTILLA_HOME
export PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin

readonly READY_SECONDS=15 STOP_SECONDS=15 WAIT_SECONDS=900
pids=()
work=

say() { printf '\n== %s\n' "$*"; }
die() {
    printf 'demo: %s\n' "$*" >&2
    exit 1
}

main() {
    local given=${1:-${DEMO_FOLDER:-$root}} folder
    folder=$(cd -- "$given" 2>/dev/null && pwd) || die "cannot enter the folder $given"

    say "building"
    build
    say "bringing up Postgres and RabbitMQ"
    "$root/deploy/servers.sh" up >/dev/null
    # What was given stands in the env file now, where every command looks.
    unset DATABASE_URL AMQP_URL
    trap 'stop_services' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    mkdir -p "$FLOTILLA_HOME/demo"
    work=$(mktemp -d "$FLOTILLA_HOME/demo/run.XXXXXX")

    say "preparing database and queues, registering the examples"
    "$flotilla" migrate
    "$flotilla" register "$root/examples/workflows"
    say "starting a coordinator and a worker"
    start_service coordinator
    start_service worker --allow-shell

    local id
    id=$(new_execution_id)
    say "checking $folder"
    run_check "$id" "$folder"
}

# Only what is out of date is built; a binary of the caller's is taken as it is.
build() {
    if [ -n "${FLOTILLA_BIN:-}" ]; then
        flotilla=$FLOTILLA_BIN
        return
    fi
    command -v cargo >/dev/null || die "cargo is not installed"
    (cd "$root" && cargo build --release --package flotilla --package flotilla-loadtest </dev/null)
    local target=${CARGO_TARGET_DIR:-target}
    [[ $target = /* ]] || target=$root/$target
    flotilla=$target/release/flotilla
}

start_service() { # name arguments...
    local name=$1
    shift
    "$flotilla" "$name" --name "demo-$name/$$" "$@" </dev/null >"$work/$name.out" 2>"$work/$name.log" &
    local pid=$!
    pids+=("$pid")
    local deadline=$((SECONDS + READY_SECONDS))
    until grep -qx ready "$work/$name.out"; do
        if ! kill -0 "$pid" 2>/dev/null; then
            tail -n 20 "$work/$name.log" >&2
            die "the $name has ended"
        fi
        if [ "$SECONDS" -ge "$deadline" ]; then
            echo "$name: not ready after $READY_SECONDS s; if another one does its work, that will do"
            return
        fi
        sleep 0.05
    done
    echo "$name: ready, pid $pid, log $work/$name.log"
}

# Asks them to drain; what has not ended a while later is killed.
stop_services() {
    local pid deadline=$((SECONDS + STOP_SECONDS))
    [ "${#pids[@]}" -gt 0 ] || return 0
    kill -TERM "${pids[@]}" 2>/dev/null || true
    for pid in "${pids[@]}"; do
        while kill -0 "$pid" 2>/dev/null && [ "$SECONDS" -lt "$deadline" ]; do
            sleep 0.05
        done
        kill -KILL "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
    pids=()
}

# A UUID of version 7: milliseconds, then random bits.
new_execution_id() {
    local time random
    time=$(printf %012x "$(date +%s%3N)")
    random=$(od -An -N 10 -tx1 /dev/urandom | tr -d ' \n')
    echo "${time:0:8}-${time:8:4}-7${random:0:3}-8${random:3:3}-${random:6:12}"
}

# Starts the check and waits for its end, and meanwhile shows each transition as it is stored.
run_check() { # id folder
    local id=$1 folder=$2 starting code=0
    "$flotilla" start examples.release_check --id "$id" --tag demo=yes \
        -p folder="$(json_text "$folder")" -p output="$(json_text "$work/release")" \
        --wait --wait-timeout "$WAIT_SECONDS" </dev/null >"$work/start.out" 2>"$work/start.err" &
    starting=$!
    pids+=("$starting")
    last_seq=0
    while kill -0 "$starting" 2>/dev/null; do
        show_new_transitions "$id"
        sleep 0.1
    done
    wait "$starting" || code=$?
    show_new_transitions "$id"
    if [ "$code" -ne 0 ]; then
        cat "$work/start.out" "$work/start.err" >&2
        "$flotilla" show "$id" >&2 || true
        tail -n 20 "$work/worker.log" "$work/coordinator.log" >&2
        die "execution $id did not succeed"
    fi

    say "the execution, as \`flotilla show $id\` shows it"
    "$flotilla" show "$id"
    say "the manifest"
    cat "$work/release/manifest.json"
    printf '\n'
    say "the output"
    stop_services
    cat "$work/start.out"
}

# Lines of the table of transitions begin with their numbers.
show_new_transitions() { # id
    local lines
    lines=$("$flotilla" show "$1" --transitions 2>/dev/null </dev/null |
        awk -v last="$last_seq" '$1 == "SEQ" { on = 1; next } /^$/ { on = 0 } on && $1 > last') || true
    [ -n "$lines" ] || return 0
    printf '%s\n' "$lines"
    last_seq=$(printf '%s\n' "$lines" | awk 'END { print $1 }')
}

# A text as JSON, so that a folder called 7 stays a text.
json_text() {
    local text=${1//\\/\\\\}
    printf '"%s"' "${text//\"/\\\"}"
}

main "$@"
