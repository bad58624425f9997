"""What all peers are measured with: CPU time of processes, latencies, databases of their own.

CPU time is what /proc says of processes and all that they have started, as flotilla-loadtest reads it.
"""

import os
import signal
import subprocess
import time
import urllib.parse

import psycopg2

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
# Seconds from a start to the next one in its place; with 0 the next comes when the one before has ended.
EVERY_S = float(os.environ.get("PEER_EVERY", "0"))


def environment(name):
    """A variable that has to be set."""
    value = os.environ.get(name)
    if not value:
        raise SystemExit(f"{name} is not set")
    return value


def listener(url, default_port):
    """The process that listens on the port of a URL, or None."""
    port = urllib.parse.urlparse(url).port or default_port
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with open(table, encoding="ascii") as rows:
            for row in list(rows)[1:]:
                fields = row.split()
                if fields[3] == "0A" and fields[1].endswith(f":{port:04X}"):
                    inodes.add(f"socket:[{fields[9]}]")
    holders = [pid for pid in _pids() if inodes & set(_sockets(pid))]
    return min(holders, default=None)


def _pids():
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _sockets(pid):
    folder = f"/proc/{pid}/fd"
    try:
        return [os.readlink(f"{folder}/{name}") for name in os.listdir(folder)]
    except OSError:
        return []


def _stats():
    """Parent and CPU time of each process; children that have ended count with their parent."""
    stats = {}
    for pid in _pids():
        try:
            with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
                fields = file.read().rsplit(") ", 1)[1].split()
        except OSError:
            continue
        ticks = sum(int(fields[at]) for at in range(11, 15))
        stats[pid] = (int(fields[1]), ticks * 1000.0 / TICKS_PER_SECOND)
    return stats


class Cpu:
    """CPU time of groups of processes, by name, from now on."""

    def __init__(self, groups):
        self.groups = {name: pid for name, pid in groups.items() if pid is not None}
        self.before = self._read()

    def _read(self):
        stats = _stats()
        return {name: self._tree(stats, pid) for name, pid in self.groups.items()}

    def _tree(self, stats, root):
        others = set(self.groups.values()) - {root}
        total, rest = 0.0, [root]
        while rest:
            pid = rest.pop()
            total += stats.get(pid, (0, 0.0))[1]
            children = (child for child, (parent, _) in stats.items() if parent == pid)
            rest.extend(child for child in children if child not in others)
        return total

    def per_task(self, tasks):
        """Milliseconds of CPU a task since the beginning, by group; None where nothing has ended."""
        now = self._read()
        return {name: (now[name] - self.before[name]) / tasks if tasks else None for name in now}


def result(system, workload, ended, seconds, tasks_each, cpu):
    """One result; `ended` are the latencies in seconds of the executions that ended in time."""
    tasks = len(ended) * tasks_each
    by_process = cpu.per_task(tasks)
    ordered = sorted(ended) or [0.0]

    def at(part):
        return 1000.0 * ordered[min(int(len(ordered) * part), len(ordered) - 1)]

    return {
        "system": system,
        "workload": workload,
        "executions": len(ended),
        "tasks": tasks,
        "seconds": seconds,
        "executions_per_s": len(ended) / seconds,
        "tasks_per_s": tasks / seconds,
        "latency_ms": {"p50": at(0.5), "p99": at(0.99)},
        "cpu_ms_per_task": sum(by_process.values()) if tasks else None,
        "cpu_by_process": by_process,
    }


class Database:
    """A database of its own on the server of DATABASE_URL, gone afterwards."""

    def __init__(self, purpose):
        self.server = environment("DATABASE_URL")
        parts = urllib.parse.urlparse(self.server)
        self.name = f"{parts.path.strip('/')[:24]}_peer_{purpose}"
        self.url = parts._replace(path="/" + self.name).geturl()

    def _order(self, statement):
        connection = psycopg2.connect(self.server)
        connection.autocommit = True
        connection.cursor().execute(statement)
        connection.close()

    def __enter__(self):
        self._order(f'DROP DATABASE IF EXISTS "{self.name}" WITH (FORCE)')
        self._order(f'CREATE DATABASE "{self.name}"')
        return self

    def __exit__(self, *_):
        self._order(f'DROP DATABASE IF EXISTS "{self.name}" WITH (FORCE)')


def stop(process):
    """Ends a process, and where it does not end within half a minute, all of its session."""
    process.terminate()
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_until(condition, seconds, what):
    """Looks until a condition holds; what it is about is said where it never does."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return
        time.sleep(0.1)
    raise SystemExit(f"{what}: not within {seconds} s")
