#!/usr/bin/env bash
#
# Private Postgres and RabbitMQ servers for one folder: `make`, `flotilla dev` and the tests
# all start their servers here and nowhere else.
#
#   up                  starts what is not running, writes the env file, prints the two URLs
#   down                stops exactly what `up` started
#   clean               down, then removes the state folder
#   status              says what runs; exit 0 if both servers answer, 1 otherwise
#   ctl ARGS...         rabbitmqctl against the private node
#   psql ARGS...        psql against DATABASE_URL
#   install-clients     installs what the example workers in Python and JavaScript run on, if missing
#   install-valgrind    installs what `make guard` counts instructions with, if missing
#   start-postgres      stop-postgres      kill-postgres      (kill: kill -9, for fault tests)
#   start-rabbitmq      stop-rabbitmq      kill-rabbitmq
#   abort-postgres      ends it as `pg_ctl stop -m immediate` does: without a checkpoint, for fault tests
#
# Environment:
#   FLOTILLA_HOME             the state folder, default $PWD/.flotilla
#   DATABASE_URL, AMQP_URL    where both are set, `up` starts nothing and only writes the env file
#
# The state folder, readable by its owner only:
#   env          DATABASE_URL=... and AMQP_URL=..., to be sourced
#   instance     ports, password and node name of this instance, chosen at the first `up`
#   lock         held by every command that changes something
#   postgres/    data, log and pid file; rabbitmq/ and epmd/ likewise
#
# Rules the code below keeps:
# - Servers listen on 127.0.0.1 only, outlive the shell and inherit none of its files.
# - A process is ours only if its pid and its start time are those we wrote down.
# - Missing Debian packages are installed without starting or creating a system-wide server.
# - Postgres refuses root, so root runs it in a user namespace as user 1000 (files stay root's);
#   where the kernel gives none, as user `postgres` with its data in /var/tmp, which postgres/data
#   then links to.

# Functions are called by name, and `a && b || die` is meant as written:
# shellcheck disable=SC2317,SC2015

set -euo pipefail
umask 077

readonly START_SECONDS=120 STOP_SECONDS=30 OLDEST_POSTGRES=14
# With less free disk the broker takes no messages: four times its log file, so that both servers can
# still write what they must.
readonly DISK_MB=256
readonly RABBITMQ_BIN=/usr/lib/rabbitmq/bin

say() { printf 'servers: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

usage() {
    cat >&2 <<'TEXT'
usage: servers.sh up | down | clean | status
       servers.sh given              whether DATABASE_URL and AMQP_URL name servers that are not private
       servers.sh ctl ARGS...        rabbitmqctl against the private node
       servers.sh psql ARGS...       psql against DATABASE_URL
       servers.sh install-clients    what the example workers run on: python3-venv, nodejs, npm
       servers.sh install-valgrind   what `make guard` counts instructions with
       servers.sh start-postgres | stop-postgres | kill-postgres | abort-postgres
       servers.sh start-rabbitmq | stop-rabbitmq | kill-rabbitmq
State is kept in $FLOTILLA_HOME (default: .flotilla in the current folder).
TEXT
    exit 2
}

main() {
    [ $# -ge 1 ] || usage
    local command=$1
    shift
    case $command in
        ctl | psql) ;;
        *) [ $# -eq 0 ] || usage ;;
    esac
    local home=${FLOTILLA_HOME:-$PWD/.flotilla}
    [[ $home = /* ]] || home=$PWD/$home
    FLOTILLA_HOME=$home

    case $command in
        up) with_lock up ;;
        install-clients) with_lock install_missing_clients ;;
        install-valgrind) with_lock install_missing_valgrind ;;
        down | clean) [ ! -d "$FLOTILLA_HOME" ] || with_lock "$command" ;;
        start-postgres | start-rabbitmq) with_instance "${command/-/_}" ;;
        stop-postgres | stop-rabbitmq) with_instance "${command/-/_}" ;;
        kill-postgres | kill-rabbitmq | abort-postgres) with_instance "${command/-/_}" ;;
        status) status ;;
        given) given ;;
        ctl) ctl "$@" ;;
        psql) run_psql "$@" ;;
        *) usage ;;
    esac
}

# ---------------------------------------------------------------- commands

up() {
    if given; then
        touch instance
        write_env "$DATABASE_URL" "$AMQP_URL"
        return
    fi
    install_missing_packages
    require_disk
    load_or_choose_instance
    start_both
    write_env "$(private_database_url)" "$(private_amqp_url)"
}

down() {
    load_instance || return 0
    # Both hear of it first, so that they stop side by side.
    send_signal rabbitmq TERM
    send_signal postgres INT
    stop_rabbitmq
    stop_postgres
}

clean() {
    down
    if [ "$FLOTILLA_HOME" = "${HOME:-/}" ] || [ "$FLOTILLA_HOME" = / ] || [ -e .git ]; then
        die "refusing to remove $FLOTILLA_HOME: it does not look like a state folder"
    fi
    if [ ! -e instance ] && [ "${FLOTILLA_HOME##*/}" != .flotilla ]; then
        die "refusing to remove $FLOTILLA_HOME: \`up\` never ran there"
    fi
    remove_cluster
    cd /
    rm -rf -- "$FLOTILLA_HOME"
}

status() {
    local missing=0
    if [ ! -d "$FLOTILLA_HOME" ] || ! enter_home || ! load_instance; then
        echo "no private servers in $FLOTILLA_HOME"
        return 1
    fi
    describe postgres "$POSTGRES_PORT" postgres_answers || missing=1
    describe rabbitmq "$RABBITMQ_PORT" rabbitmq_answers || missing=1
    return "$missing"
}

describe() { # name port check
    if "$3"; then
        echo "$1: running on 127.0.0.1:$2, pid $(recorded_pid "$1")"
    elif is_running "$1"; then
        echo "$1: not answering on 127.0.0.1:$2, pid $(recorded_pid "$1")"
        return 1
    else
        echo "$1: stopped"
        return 1
    fi
}

ctl() {
    [ -d "$FLOTILLA_HOME" ] && enter_home && load_instance || die "no private servers in $FLOTILLA_HOME"
    rabbitmq_environment
    exec env -i "${rabbitmq_env[@]}" "$RABBITMQ_BIN/rabbitmqctl" "$@"
}

run_psql() {
    local url=${DATABASE_URL:-}
    if [ -z "$url" ] && [ -f "$FLOTILLA_HOME/env" ]; then
        # shellcheck disable=SC1091
        url=$(. "$FLOTILLA_HOME/env" && printf %s "$DATABASE_URL")
    fi
    [ -n "$url" ] || die "DATABASE_URL is not set and $FLOTILLA_HOME/env does not exist"
    find_postgres || die "psql is not installed"
    exec "$postgres_bin/psql" -X -d "$url" "$@"
}

# ---------------------------------------------------------------- lock and state

enter_home() {
    cd "$FLOTILLA_HOME"
    FLOTILLA_HOME=$(pwd -P)
}

with_lock() { # command
    mkdir -p "$FLOTILLA_HOME"
    enter_home
    while :; do
        exec 9>>lock
        flock -w 300 9 || die "another command holds $FLOTILLA_HOME/lock for more than 300 s"
        # `clean` may have removed the folder while this command waited for the lock.
        [ lock -ef /proc/self/fd/9 ] && break
        mkdir -p "$FLOTILLA_HOME"
        cd "$FLOTILLA_HOME"
    done
    "$1"
}

with_instance() { # function
    [ -d "$FLOTILLA_HOME" ] || die "no private servers in $FLOTILLA_HOME"
    with_lock locked_"$1"
}

locked_start_postgres() { require_instance && start_server postgres; }
locked_start_rabbitmq() { require_instance && start_server rabbitmq; }
locked_stop_postgres() { require_instance && stop_postgres; }
locked_stop_rabbitmq() { require_instance && stop_rabbitmq; }
locked_kill_postgres() { require_instance && kill_instance postgres; }
locked_abort_postgres() { require_instance && abort_postgres; }
locked_kill_rabbitmq() { require_instance && kill_instance rabbitmq; }

require_instance() { load_instance || die "no private servers in $FLOTILLA_HOME"; }

load_instance() {
    [ -s instance ] || return 1
    # shellcheck disable=SC1091
    . ./instance
    [ -n "${NODE_NAME:-}" ]
}

load_or_choose_instance() {
    load_instance && return
    POSTGRES_PORT=$(free_port)
    POSTGRES_PASSWORD=$(random_hex 16)
    RABBITMQ_PORT=$(free_port)
    DIST_PORT=$(free_port)
    EPMD_PORT=$(free_port)
    NODE_NAME=flotilla$(random_hex 4)@localhost
    save_instance
}

save_instance() {
    local name
    for name in POSTGRES_PORT POSTGRES_PASSWORD RABBITMQ_PORT DIST_PORT EPMD_PORT NODE_NAME; do
        printf '%s=%s\n' "$name" "${!name}"
    done >instance.new
    mv instance.new instance
}

random_hex() { od -An -N "$1" -tx1 /dev/urandom | tr -d ' \n'; }

# Below the range that the kernel hands out to outgoing connections.
free_port() {
    local port
    while :; do
        port=$((15000 + (RANDOM << 15 | RANDOM) % 17000))
        case " ${POSTGRES_PORT:-} ${RABBITMQ_PORT:-} ${DIST_PORT:-} ${EPMD_PORT:-} " in
            *" $port "*) continue ;;
        esac
        port_is_taken "$port" || break
    done
    echo "$port"
}

port_is_taken() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

private_database_url() { echo "postgres://flotilla:$POSTGRES_PASSWORD@127.0.0.1:$POSTGRES_PORT/flotilla"; }
private_amqp_url() { echo "amqp://guest:guest@127.0.0.1:$RABBITMQ_PORT/%2f"; }

# A shell that has sourced our env file still wants its servers started, and its tests in vhosts of their own.
given() {
    [ -n "${DATABASE_URL:-}" ] && [ -n "${AMQP_URL:-}" ] || return 1
    [ ! -d "$FLOTILLA_HOME" ] || enter_home
    ! urls_are_ours && ! urls_were_ours
}

urls_are_ours() {
    load_instance || return 1
    [ "$DATABASE_URL" = "$(private_database_url)" ] && [ "$AMQP_URL" = "$(private_amqp_url)" ]
}

# They have been removed since, or had to take other ports.
urls_were_ours() {
    [[ $DATABASE_URL =~ ^postgres://flotilla:[0-9a-f]+@127\.0\.0\.1:([0-9]+)/flotilla$ ]] || return 1
    ! port_is_taken "${BASH_REMATCH[1]}" || return 1
    [[ $AMQP_URL =~ ^amqp://guest:guest@127\.0\.0\.1:([0-9]+)/%2f$ ]] || return 1
    ! port_is_taken "${BASH_REMATCH[1]}"
}

write_env() { # database_url amqp_url
    {
        echo "DATABASE_URL=$(shell_word "$1")"
        echo "AMQP_URL=$(shell_word "$2")"
    } >env.new
    mv env.new env
    cat env
}

shell_word() {
    if [[ $1 =~ ^[A-Za-z0-9:/@._%+=?,-]*$ ]]; then
        printf %s "$1"
    else
        printf "'%s'" "${1//\'/\'\\\'\'}"
    fi
}

# ---------------------------------------------------------------- processes

# Starts a command in the background, in a session of its own, with nothing inherited but its log.
spawn() { # name folder command...
    local name=$1 folder=$2
    shift 2
    (
        cd "$folder"
        exec </dev/null >>"$FLOTILLA_HOME/$name/log" 2>&1
        local fd
        for fd in /proc/self/fd/*; do
            fd=${fd##*/}
            [ "$fd" -le 2 ] || eval "exec $fd>&-" 2>/dev/null || true
        done
        exec setsid "$@"
    ) &
    local pid=$!
    echo "$pid $(start_time "$pid")" >"$name/pid"
    disown "$pid"
}

# Field 22 of stat, counted after the command's name, which may contain anything.
start_time() {
    local stat
    { stat=$(<"/proc/$1/stat"); } 2>/dev/null || return 0
    # shellcheck disable=SC2086
    set -- ${stat##*) }
    [ "$1" = Z ] || echo "${20}"
}

recorded_pid() {
    local pid=- started
    [ -f "$1/pid" ] && read -r pid started <"$1/pid"
    echo "$pid"
}

is_running() { # name
    local pid started
    [ -f "$1/pid" ] || return 1
    read -r pid started <"$1/pid" || return 1
    [ -n "$started" ] && [ "$(start_time "$pid")" = "$started" ]
}

# Every process of an instance: the one we started and whatever it started in its folder.
instance_pids() { # name
    local link folder=$FLOTILLA_HOME/$1
    [ "$1" != postgres ] || folder=$folder/data
    for link in /proc/[0-9]*/cwd; do
        [ "$link" -ef "$folder" ] || continue
        link=${link%/cwd}
        case $(cat "$link/comm" 2>/dev/null) in
            postgres | beam.smp | erl_child_setup | inet_gethost | epmd | cpu_sup | memsup) echo "${link#/proc/}" ;;
        esac
    done
    is_running "$1" && recorded_pid "$1" || true
}

kill_instance() { # name
    local pids attempts=0
    while pids=$(instance_pids "$1") && [ -n "$pids" ]; do
        attempts=$((attempts + 1))
        [ "$attempts" -le 100 ] || die "$1 does not die: pids ${pids//$'\n'/ }"
        # shellcheck disable=SC2086
        kill -9 $pids 2>/dev/null || true
        sleep 0.05
    done
    rm -f "$1/pid"
}

send_signal() { # name signal
    is_running "$1" && kill -"$2" "$(recorded_pid "$1")" 2>/dev/null || true
}

# Sends a signal and waits; says whether the server is gone.
stop_by_signal() { # name signal seconds
    send_signal "$1" "$2"
    local deadline=$((SECONDS + $3))
    while is_running "$1"; do
        [ "$SECONDS" -lt "$deadline" ] || return 1
        sleep 0.02
    done
}

stop_postgres() {
    stop_by_signal postgres INT "$STOP_SECONDS" || say "postgres ignores a fast shutdown: killing it"
    kill_instance postgres
}

# What `pg_ctl stop -m immediate` sends: all processes end at once, and the next start recovers.
abort_postgres() {
    stop_by_signal postgres QUIT "$STOP_SECONDS" || die "postgres ignores an immediate shutdown"
    kill_instance postgres
}

# The node answers TERM with an orderly stop of the broker.
stop_rabbitmq() {
    stop_by_signal rabbitmq TERM "$STOP_SECONDS" || say "rabbitmq does not stop: killing it"
    kill_instance rabbitmq
    kill_instance epmd
}

# Not an error of the broker's: it would only wait, and everybody with it.
require_disk() {
    local free_mb
    free_mb=$(df -Pm . | awk 'NR == 2 { print $4 }')
    [ "${free_mb:-$DISK_MB}" -ge "$DISK_MB" ] ||
        die "$FLOTILLA_HOME has $free_mb MB of free disk, and RabbitMQ takes no messages below $DISK_MB: free some"
}

start_both() {
    begin postgres
    begin rabbitmq
    finish postgres
    finish rabbitmq
    ensure_database
}

start_server() { # name
    begin "$1"
    finish "$1"
    # Its port may be another one now.
    write_env "$(private_database_url)" "$(private_amqp_url)" >/dev/null
}

begin() { # name
    if is_running "$1"; then
        [ "$1" = postgres ] || keep_registered
        return
    fi
    say "starting $1"
    kill_instance "$1"
    begin_"$1"
}

# Waits for an answer. A port that somebody else took in between is given up for another one.
finish() { # name
    local name=$1 retries=2 deadline=$((SECONDS + START_SECONDS))
    until "${name}_answers"; do
        if ! is_running "$name"; then
            [ "$retries" -gt 0 ] && lost_port "$name" || fail_with_log "$name ended while it started"
            retries=$((retries - 1))
            begin "$name"
        fi
        [ "$SECONDS" -lt "$deadline" ] || fail_with_log "$name does not answer after $START_SECONDS s"
        sleep 0.05
    done
}

lost_port() {
    case $1 in
        postgres) port_is_taken "$POSTGRES_PORT" ;;
        rabbitmq) port_is_taken "$RABBITMQ_PORT" || port_is_taken "$DIST_PORT" ;;
    esac
}

fail_with_log() {
    say "$1; the end of $FLOTILLA_HOME/${1%% *}/log:"
    tail -n 25 "${1%% *}/log" >&2 || true
    exit 1
}

keep_or_choose_port() { # variable
    port_is_taken "${!1}" || return 0
    local old=${!1}
    printf -v "$1" %s "$(free_port)"
    say "port $old is taken by another program: using ${!1} as $1"
    save_instance
}

# ---------------------------------------------------------------- postgres

find_postgres() {
    local folder version newest=0
    for folder in /usr/lib/postgresql/*/bin; do
        version=${folder%/bin}
        version=${version##*/}
        [ -x "$folder/postgres" ] && [ "$version" -ge "$OLDEST_POSTGRES" ] 2>/dev/null || continue
        [ "$version" -le "$newest" ] || newest=$version
    done
    [ "$newest" -gt 0 ] || return 1
    postgres_bin=/usr/lib/postgresql/$newest/bin
    # A data folder belongs to the version that made it.
    if [ -f "$FLOTILLA_HOME/postgres/data/PG_VERSION" ]; then
        version=$(<"$FLOTILLA_HOME/postgres/data/PG_VERSION")
        [ ! -x "/usr/lib/postgresql/$version/bin/postgres" ] || postgres_bin=/usr/lib/postgresql/$version/bin
    fi
}

# Sets `unprivileged` to the words that make a command run as somebody whom Postgres accepts.
find_unprivileged() {
    unprivileged=()
    [ "$(id -u)" -eq 0 ] || return 0
    if [ -L postgres/data ]; then
        unprivileged=(setpriv --reuid=postgres --regid=postgres --clear-groups)
    else
        unprivileged=(unshare -U --map-user=1000)
    fi
}

begin_postgres() {
    find_postgres || die "no Postgres $OLDEST_POSTGRES or newer under /usr/lib/postgresql"
    mkdir -p postgres
    # The mark may outlive the data, which can lie outside (`create_cluster`).
    [ -f postgres/complete ] && [ -e postgres/data/PG_VERSION ] || create_cluster
    keep_or_choose_port POSTGRES_PORT
    write_postgres_config
    # Its process is gone, and an unrelated one may carry its pid by now.
    rm -f postgres/data/postmaster.pid
    find_unprivileged
    # A commit needs some megabytes for a moment: given back to the system each time, they would have to
    # be fetched and zeroed again, which is a tenth of the processor time of a small one.
    spawn postgres postgres/data env -i PATH="$PATH" LANG=C.UTF-8 TZ=UTC \
        MALLOC_TRIM_THRESHOLD_=33554432 MALLOC_MMAP_THRESHOLD_=16777216 \
        "${unprivileged[@]}" "$postgres_bin/postgres" -D "$(readlink -f postgres/data)"
}

create_cluster() {
    remove_cluster
    local store=postgres
    # Without the rights of root it may not come into a folder below somebody's home.
    if [ "$(id -u)" -eq 0 ] && ! unshare -U --map-user=1000 test -x "$PWD" 2>/dev/null; then
        store=$(mktemp -d /var/tmp/flotilla-postgres.XXXXXX)
        ln -s "$store/data" postgres/data
    fi
    find_unprivileged
    printf '%s\n' "$POSTGRES_PASSWORD" >"$store/password"
    [ ! -L postgres/data ] || chown -R postgres:postgres "$store"
    # initdb starts in a folder that its user may enter.
    (cd "$store" && exec env -i PATH="$PATH" LANG=C.UTF-8 TZ=UTC \
        "${unprivileged[@]}" "$postgres_bin/initdb" -D "$PWD/data" -U flotilla --pwfile="$PWD/password" \
        --auth=scram-sha-256 --encoding=UTF8 --locale=C.UTF-8 --no-sync) </dev/null >postgres/log 2>&1 9>&- ||
        fail_with_log "postgres cannot create its data folder"
    rm -f "$store/password"
    # A password sent as it is costs a debug build of a client far less than SCRAM; nobody listens
    # in on the loopback device but root.
    echo 'host all all 127.0.0.1/32 password' >postgres/data/pg_hba.conf
    echo "include 'flotilla.conf'" >>postgres/data/postgresql.conf
    touch postgres/complete
}

remove_cluster() {
    local data
    data=$(readlink postgres/data || true)
    case $data in
        /var/tmp/flotilla-postgres.*/data) rm -rf -- "${data%/data}" ;;
    esac
    rm -rf postgres/data postgres/complete postgres/database
}

write_postgres_config() {
    cat >postgres/data/flotilla.conf <<TEXT
listen_addresses = '127.0.0.1'
port = $POSTGRES_PORT
unix_socket_directories = ''
max_connections = 200
shared_buffers = 256MB
fsync = on
synchronous_commit = on
# As durable as fdatasync, in one call.
wal_sync_method = open_datasync
wal_compression = off
max_wal_size = 2GB
checkpoint_timeout = 15min
random_page_cost = 1.1
jit = off
timezone = 'UTC'
log_timezone = 'UTC'
log_min_messages = warning
log_checkpoints = off
log_lock_waits = on
log_line_prefix = '%m [%p] %d %a '
cluster_name = 'flotilla'
TEXT
    # Its folder is closed to others; its server may not be who wrote this.
    chmod a+r postgres/data/flotilla.conf
}

sql() { # database statement
    PGPASSWORD=$POSTGRES_PASSWORD PGCONNECT_TIMEOUT=5 "$postgres_bin/psql" -XqAt -v ON_ERROR_STOP=1 \
        -h 127.0.0.1 -p "$POSTGRES_PORT" -U flotilla -d "$1" -c "$2" </dev/null 2>>postgres/probe.log
}

postgres_answers() {
    is_running postgres && port_is_taken "$POSTGRES_PORT" || return 1
    find_postgres && [ "$(sql postgres 'SELECT 1')" = 1 ]
}

ensure_database() {
    [ ! -f postgres/database ] || return 0
    if [ -z "$(sql postgres "SELECT 1 FROM pg_database WHERE datname = 'flotilla'")" ]; then
        sql postgres 'CREATE DATABASE flotilla' || fail_with_log "postgres cannot create the database flotilla"
    fi
    touch postgres/database
}

# ---------------------------------------------------------------- rabbitmq

# Everything that the node and rabbitmqctl see of the environment.
rabbitmq_environment() {
    local folder=$FLOTILLA_HOME/rabbitmq
    # A scheduler that waits awake for a moment before it sleeps takes half a millisecond off the latency
    # of an idle fleet, and costs nothing that was measured where there is work. Longer waits do.
    local erl_args="+sbwt short -kernel inet_dist_use_interface {127,0,0,1}"
    rabbitmq_env=(
        PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
        HOME="$folder"
        LANG=C.UTF-8
        ERL_EPMD_PORT="$EPMD_PORT"
        ERL_EPMD_ADDRESS=127.0.0.1
        # Left to itself, each of them would start an epmd that nobody stops.
        ERL_AFLAGS="-start_epmd false"
        ERL_INETRC="$folder/inetrc"
        RABBITMQ_NODENAME="$NODE_NAME"
        RABBITMQ_NODE_IP_ADDRESS=127.0.0.1
        RABBITMQ_NODE_PORT="$RABBITMQ_PORT"
        RABBITMQ_DIST_PORT="$DIST_PORT"
        RABBITMQ_MNESIA_BASE="$folder/mnesia"
        RABBITMQ_LOG_BASE="$folder/logs"
        RABBITMQ_CONFIG_FILE="$folder/rabbitmq.conf"
        RABBITMQ_ADVANCED_CONFIG_FILE="$folder/advanced.config"
        RABBITMQ_ENABLED_PLUGINS_FILE="$folder/enabled_plugins"
        RABBITMQ_PID_FILE="$folder/node.pid"
        RABBITMQ_FEATURE_FLAGS_FILE="$folder/feature_flags"
        RABBITMQ_CONF_ENV_FILE=/dev/null
        # The default binds the scheduler to the first core, where all instances would meet.
        RABBITMQ_SCHEDULER_BIND_TYPE=u
        RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="+S $(schedulers) $erl_args"
        RABBITMQ_CTL_ERL_ARGS="+S 1:1 $erl_args"
        # Any free port, as several of them may run at a time.
        RABBITMQ_CTL_DIST_PORT_MIN=0
        RABBITMQ_CTL_DIST_PORT_MAX=0
        # The start script then becomes the node instead of waiting for it, so its pid is the node's.
        RUNNING_UNDER_SYSTEMD=true
    )
}

# One scheduler leaves the other cores of a small machine to the program under test.
schedulers() {
    local cores
    cores=$(nproc)
    if [ "$cores" -ge 8 ]; then echo 4:4; elif [ "$cores" -ge 4 ]; then echo 2:2; else echo 1:1; fi
}

begin_rabbitmq() {
    [ -x "$RABBITMQ_BIN/rabbitmq-server" ] || die "no RabbitMQ under $RABBITMQ_BIN"
    mkdir -p rabbitmq/logs rabbitmq/mnesia epmd
    begin_epmd
    keep_or_choose_port RABBITMQ_PORT
    keep_or_choose_port DIST_PORT
    write_rabbitmq_config
    rabbitmq_environment
    spawn rabbitmq rabbitmq env -i "${rabbitmq_env[@]}" "$RABBITMQ_BIN/rabbitmq-server"
}

begin_epmd() {
    is_running epmd && return
    kill_instance epmd
    # A running node looks for its epmd where it was.
    is_running rabbitmq || keep_or_choose_port EPMD_PORT
    spawn epmd epmd env -i PATH="$PATH" ERL_EPMD_ADDRESS=127.0.0.1 epmd -port "$EPMD_PORT"
    local deadline=$((SECONDS + 10))
    until port_is_taken "$EPMD_PORT"; do
        is_running epmd || fail_with_log "epmd ended while it started"
        [ "$SECONDS" -lt "$deadline" ] || fail_with_log "epmd does not answer after 10 s"
        sleep 0.02
    done
}

# A node that lost its epmd registers again by itself; rabbitmqctl finds it only then.
keep_registered() {
    begin_epmd
    local deadline=$((SECONDS + 20))
    until epmd -port "$EPMD_PORT" -names 2>/dev/null | grep -q "name ${NODE_NAME%@*} at"; do
        [ "$SECONDS" -lt "$deadline" ] || fail_with_log "rabbitmq does not register with epmd"
        sleep 0.1
    done
}

write_rabbitmq_config() {
    echo '[].' >rabbitmq/enabled_plugins
    if [ ! -f rabbitmq/.erlang.cookie ]; then
        random_hex 16 >rabbitmq/.erlang.cookie
        chmod 400 rabbitmq/.erlang.cookie
    fi
    # Names are looked up without a helper process, and localhost needs no entry in /etc/hosts.
    printf '{lookup, [file]}.\n{host, {127,0,0,1}, ["localhost"]}.\n' >rabbitmq/inetrc
    cat >rabbitmq/rabbitmq.conf <<TEXT
listeners.tcp.local = 127.0.0.1:$RABBITMQ_PORT
vm_memory_high_watermark.relative = 0.4
disk_free_limit.absolute = ${DISK_MB}MB
raft.wal_max_size_bytes = 67108864
log.console = false
log.file.level = warning
log.connection.level = error
TEXT
    # Quorum queues write to a file that is synced with each write, in place of a write and a sync: as
    # durable, and one switch between the node's threads less for each message on its own.
    echo '[{ra, [{wal_write_strategy, o_sync}]}].' >rabbitmq/advanced.config
}

# Speaks the first words of AMQP: the listener opens when the broker has booted, and a node that
# answers with Connection.Start (a method frame, type 1) takes logins.
rabbitmq_answers() {
    is_running rabbitmq && amqp_greets 2>/dev/null
}

amqp_greets() {
    (
        exec 3<>"/dev/tcp/127.0.0.1/$RABBITMQ_PORT"
        printf 'AMQP\0\0\11\1' >&3
        IFS= read -r -N 1 -t 5 first <&3
        [ "$first" = $'\x01' ]
    )
}

# ---------------------------------------------------------------- packages

install_missing_packages() {
    local packages=()
    find_postgres || packages+=(postgresql)
    { [ -x "$RABBITMQ_BIN/rabbitmq-server" ] && command -v erl >/dev/null; } || packages+=(rabbitmq-server)
    [ "${#packages[@]}" -gt 0 ] || return 0
    install_as_root "${packages[@]}"
    find_postgres && [ -x "$RABBITMQ_BIN/rabbitmq-server" ] || die "installed ${packages[*]}, yet a server is missing"
}

install_missing_clients() {
    local packages=()
    python3 -c 'import ensurepip, venv' 2>/dev/null || packages+=(python3-venv)
    command -v node >/dev/null || packages+=(nodejs)
    command -v npm >/dev/null || packages+=(npm)
    [ "${#packages[@]}" -eq 0 ] || install_as_root "${packages[@]}"
}

install_missing_valgrind() {
    command -v valgrind >/dev/null || install_as_root valgrind
}

install_as_root() { # package...
    local packages=("$@")
    say "installing ${packages[*]} (no system-wide server is started or created)"
    command -v apt-get >/dev/null || die "apt-get is missing: install ${packages[*]} by other means"
    local as_root=()
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null || die "sudo is missing: install ${packages[*]} as root"
        as_root=(sudo)
    fi
    # The functions travel as text, since the file itself may not be one that root can read.
    "${as_root[@]}" bash -c "set -euo pipefail; umask 022; $(declare -f say die install_packages \
        forbid_service_starts allow_service_starts apt_install new_units); install_packages \"\$@\"" \
        install "${packages[@]}" </dev/null 9>&- >"$FLOTILLA_HOME/install.log" 2>&1 || {
        tail -n 25 "$FLOTILLA_HOME/install.log" >&2
        die "cannot install ${packages[*]}; all of it is in $FLOTILLA_HOME/install.log"
    }
}

# From here on: run as root, in a shell of its own.
install_packages() { # package...
    mkdir -p /run/lock
    exec 8>>/run/lock/flotilla-install.lock
    flock 8
    units=$(new_units)
    trap allow_service_starts EXIT
    trap 'exit 1' HUP INT TERM
    forbid_service_starts
    export DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1
    case " $* " in
        *' postgresql '*)
            # The package that makes clusters comes first, so that it can be told not to.
            apt_install postgresql-common
            mkdir -p /etc/postgresql-common/createcluster.d
            echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.d/zz-flotilla.conf
            ;;
    esac
    apt_install "$@"
    local unit
    for unit in $units; do
        # Nor shall a server that nobody asked for start with the machine.
        systemctl disable "$unit" || true
    done
}

# The units that the packages would bring with them, without those that are there already.
new_units() {
    local pair
    for pair in rabbitmq-server:rabbitmq-server.service erlang-base:epmd.service erlang-base:epmd.socket; do
        [ -f "/var/lib/dpkg/info/${pair%%:*}.list" ] || echo "${pair#*:}"
    done
}

apt_install() {
    local install=(apt-get install -y --no-install-recommends
        -o DPkg::Lock::Timeout=300 -o Dpkg::Options::=--force-confold)
    # Package lists may be missing, or too old for what the mirror still has.
    "${install[@]}" "$@" 8>&- && return
    apt-get update 8>&-
    "${install[@]}" "$@" 8>&-
}

forbid_service_starts() {
    local policy=/usr/sbin/policy-rc.d
    # A run that was killed may have left its own file, and the administrator's set aside.
    ! grep -qs 'flotilla installs packages' "$policy" || rm -f "$policy"
    [ ! -e "$policy.before-flotilla" ] || mv -f "$policy.before-flotilla" "$policy"
    [ ! -e "$policy" ] || mv "$policy" "$policy.before-flotilla"
    printf '#!/bin/sh\n# Temporary: flotilla installs packages without starting services.\nexit 101\n' >"$policy"
    chmod 755 "$policy"
    # Erlang starts services that depend on it without asking policy-rc.d.
    # shellcheck disable=SC2086
    [ ! -d /run/systemd/system ] || [ -z "$units" ] || systemctl mask --runtime $units || true
}

allow_service_starts() {
    local policy=/usr/sbin/policy-rc.d
    rm -f /etc/postgresql-common/createcluster.d/zz-flotilla.conf "$policy"
    [ ! -e "$policy.before-flotilla" ] || mv -f "$policy.before-flotilla" "$policy"
    # shellcheck disable=SC2086
    [ ! -d /run/systemd/system ] || [ -z "$units" ] || systemctl unmask --runtime $units || true
}

main "$@"
exit
