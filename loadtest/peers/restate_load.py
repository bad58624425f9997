"""Restate with services in Node: `restate_load.py WORKLOAD SECONDS IN_FLIGHT [FORM]`. In the form `run`
steps are functions of the process that runs the workflow, in `dispatched` they are invocations.

The server is one process with its own log on disk; the service and the load are processes beside it.
"""

import json
import os
import socket
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request

from measure import Cpu, environment, result, stop, wait_until

TASKS = {"single": 1, "chain": 10, "fanout": 102}


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def answers(url):
    try:
        with urllib.request.urlopen(url, timeout=2) as response:
            return response.status == 200
    except (OSError, urllib.error.URLError):
        return False


def server_binary(node):
    folder = os.path.join(node, "node_modules", "@restatedev")
    machine = {"x86_64": "x64", "aarch64": "arm64"}[os.uname().machine]
    return os.path.join(folder, f"restate-server-linux-{machine}", "bin", "restate-server")


def start(node, data, ports):
    """The server and the service, which is registered once both answer."""
    ingress, admin, fabric, service = ports
    variables = {
        "RESTATE_INGRESS__BIND_ADDRESS": f"127.0.0.1:{ingress}",
        "RESTATE_ADMIN__BIND_ADDRESS": f"127.0.0.1:{admin}",
        "RESTATE_BIND_ADDRESS": f"127.0.0.1:{fabric}",
        "RESTATE_ADVERTISED_ADDRESS": f"http://127.0.0.1:{fabric}",
        "RESTATE_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "1",
        "RUST_LOG": "error",
    }
    server = subprocess.Popen(
        [server_binary(node), "--node-name", "peer", "--base-dir", data],
        env={**os.environ, **variables},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    worker = subprocess.Popen(
        ["node", "restate_service.mjs", str(service)],
        cwd=node,
        env={**os.environ, "RESTATE_LOGGING": "ERROR", "NODE_ENV": "production"},
        stdout=subprocess.DEVNULL,
        stderr=sys.stderr,
        start_new_session=True,
    )
    return server, worker


def register(admin, service):
    body = json.dumps({"uri": f"http://127.0.0.1:{service}"}).encode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{admin}/deployments",
        data=body,
        headers={"content-type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return response.status < 300
    except (OSError, urllib.error.URLError):
        return False


def main(workload, seconds, in_flight, form="run"):
    node = os.path.join(environment("PEERS_HOME"), "node")
    ports = [free_port() for _ in range(4)]
    ingress, admin, _, service = ports
    with tempfile.TemporaryDirectory(dir=environment("PEERS_HOME")) as data:
        processes = list(start(node, data, ports))
        try:
            wait_until(lambda: answers(f"http://127.0.0.1:{admin}/health"), 60, "Restate")
            wait_until(lambda: register(admin, service), 30, "the service of Restate")
            health = f"http://127.0.0.1:{ingress}/restate/health"
            wait_until(lambda: answers(health), 30, "the ingress of Restate")
            load = subprocess.Popen(
                ["node", "restate_load.mjs", f"http://127.0.0.1:{ingress}/{form}/{workload}"]
                + [str(seconds), str(in_flight)],
                cwd=node,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
            processes.append(load)
            load.stdin.write("warm\n")
            load.stdin.flush()
            load.stdout.readline()
            server, worker = processes[:2]
            cpu = Cpu({"restate": server.pid, "worker": worker.pid, "load": load.pid})
            load.stdin.write("go\n")
            load.stdin.close()
            said = json.loads(load.stdout.readline())
            print(
                json.dumps(
                    result(
                        "restate" if form == "run" else f"restate-{form}",
                        workload,
                        said["latencies"],
                        said["seconds"],
                        TASKS[workload],
                        cpu,
                    )
                )
            )
        finally:
            for process in reversed(processes):
                stop(process)


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), *sys.argv[4:])
