"""Flotilla and its peers at the same work, in turn, so that a slow minute of the machine hits all alike.

PEER_SECONDS (20) a run, PEER_RUNS (3) of each, of which the median counts; PEER_SYSTEMS, PEER_WORKLOADS
to leave some out; PEER_FOLDER, where all results are written. `make compare` calls it.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
PEERS = ["celery", "dbos", "restate", "restate-dispatched"]
IN_FLIGHT = {"single": 1000, "chain": 1000, "fanout": 100}
# Enough to keep each busy: more makes its latency longer and not its rate higher. See README.md.
PEER_IN_FLIGHT = {
    "celery": {"single": 300, "chain": 100, "fanout": 10},
    "dbos": {"single": 100, "chain": 100, "fanout": 10},
    "restate": {"single": 200, "chain": 200, "fanout": 20},
    "restate-dispatched": {"single": 200, "chain": 200, "fanout": 20},
}
# Starts a second of the workload that asks how long one execution takes where there is no other.
IDLE_RATE = 20
# How many times as fast as a peer Flotilla has to be.
FLOORS = {
    ("single", "restate-dispatched"): 4,
    ("chain", "restate-dispatched"): 4,
    ("fanout", "restate-dispatched"): 4,
    ("chain", "celery"): 15,
    ("fanout", "celery"): 15,
}


def words(name, default):
    return os.environ.get(name, default).replace(",", " ").split()


def flotilla(workload, seconds):
    """A run of flotilla-loadtest on a database that it shares with its earlier runs."""
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        command = [os.environ["FLOTILLA_LOADTEST"], "run", "--seconds", str(seconds), "--json", file.name]
        if workload == "idle":
            command += ["--shape", "single", "--rate", str(IDLE_RATE)]
        else:
            command += ["--shape", workload, "--in-flight", str(IN_FLIGHT[workload])]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        with open(file.name, encoding="utf-8") as text:
            report = json.load(text)
    return {**report, "system": "flotilla", "workload": workload}


def peer(system, workload, seconds):
    python = os.path.join(os.environ["PEERS_HOME"], "venv", "bin", "python")
    # What follows a hyphen is the form of a system that has several.
    name, *form = system.split("-", 1)
    if workload == "idle":
        shape, in_flight, every = "single", 1, 1 / IDLE_RATE
    else:
        shape, every = workload, 0
        in_flight = os.environ.get("PEER_IN_FLIGHT") or PEER_IN_FLIGHT[system][workload]
    command = [python, f"{name}_load.py", shape, str(seconds), str(in_flight), *form]
    environment = {**os.environ, "PEER_EVERY": str(every)}
    output = subprocess.run(command, check=True, cwd=HERE, env=environment, stdout=subprocess.PIPE, text=True).stdout
    return {**json.loads(output.strip().splitlines()[-1]), "workload": workload}


def measure(systems, workloads, seconds, runs):
    results = {}
    for number in range(runs):
        for workload in workloads:
            for system in systems:
                if system == "flotilla":
                    one = flotilla(workload, seconds)
                else:
                    one = peer(system, workload, seconds)
                results.setdefault((workload, system), []).append(one)
                print(
                    f"{workload:<8} {system:<18} run {number + 1}: {one['tasks_per_s']:.0f} tasks/s, "
                    f"p50 {milliseconds(one['latency_ms']['p50'])} ms, "
                    f"{shown(one['cpu_ms_per_task'])} ms of CPU a task",
                    file=sys.stderr,
                )
    return results


def median(runs, *place):
    """The median of a figure; None where one of the runs has none."""

    def value(run):
        for key in place:
            run = run[key]
        return run

    values = [value(run) for run in runs]
    return None if None in values else statistics.median_low(values)


def shown(value):
    return "unknown" if value is None else f"{value:.3f}"


def milliseconds(value):
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}"


def ratio(ours, runs, workload):
    """How a peer's runs compare with ours, in words: by the rate, or where both idle by the latency."""
    rate, cpu = median(runs, "tasks_per_s"), median(runs, "cpu_ms_per_task")
    our_cpu = median(ours, "cpu_ms_per_task")
    if not rate or not cpu or not our_cpu:
        return "nothing ended in time" if not rate else "unknown"
    faster, cheaper = median(ours, "tasks_per_s") / rate, cpu / our_cpu
    if workload == "idle":
        faster = median(runs, "latency_ms", "p50") / median(ours, "latency_ms", "p50")
    return f"{faster:.1f} times as fast, {cheaper:.1f} times as cheap"


def floors(results):
    """A line for each floor whose two sides were measured: by the rates alone, whatever is known of CPU."""
    lines = []
    for (workload, system), floor in FLOORS.items():
        ours, theirs = results.get((workload, "flotilla")), results.get((workload, system))
        if not ours or not theirs:
            continue
        rate, peer_rate = median(ours, "tasks_per_s"), median(theirs, "tasks_per_s")
        what = f"- {workload}, Flotilla / {system}"
        if not peer_rate:
            lines.append(f"{what}: unknown, nothing of {system} ended in time (floor {floor})")
            continue
        # The ratio is cut, not rounded: what prints as the floor has met it.
        met = "met" if rate >= floor * peer_rate else "**missed**"
        lines.append(f"{what}: {int(rate / peer_rate * 10) / 10:.1f}, floor {floor}: {met}")
    return "\n".join(lines)


def table(results, workloads, systems):
    lines = [
        "| workload | system | executions/s | tasks/s | p50 / p99 ms | CPU ms/task | Flotilla is |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for workload in workloads:
        ours = results.get((workload, "flotilla"))
        for system in systems:
            runs = results[(workload, system)]
            compared = ratio(ours, runs, workload) if ours and system != "flotilla" else ""
            lines.append(
                f"| {workload} | {system} | {median(runs, 'executions_per_s'):,.0f} | "
                f"{median(runs, 'tasks_per_s'):,.0f} | "
                f"{milliseconds(median(runs, 'latency_ms', 'p50'))} / "
                f"{milliseconds(median(runs, 'latency_ms', 'p99'))} | "
                f"{shown(median(runs, 'cpu_ms_per_task'))} | {compared} |"
            )
    return "\n".join(lines)


def main():
    seconds, runs = int(os.environ.get("PEER_SECONDS", "20")), int(os.environ.get("PEER_RUNS", "3"))
    systems = words("PEER_SYSTEMS", " ".join(["flotilla"] + PEERS))
    workloads = words("PEER_WORKLOADS", "single chain fanout idle")
    results = measure(systems, workloads, seconds, runs)
    text = "\n\n".join(filter(None, [table(results, workloads, systems), floors(results)]))
    print(text)
    folder = os.environ.get("PEER_FOLDER")
    if folder:
        os.makedirs(folder, exist_ok=True)
        for (workload, system), of in results.items():
            with open(os.path.join(folder, f"peer-{workload}-{system}.json"), "w", encoding="utf-8") as file:
                json.dump(of, file)
                file.write("\n")
        with open(os.path.join(folder, "peers.md"), "w", encoding="utf-8") as file:
            file.write(text + "\n")


if __name__ == "__main__":
    main()
