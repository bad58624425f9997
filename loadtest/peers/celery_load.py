"""Celery with RabbitMQ and results in Postgres: `celery_load.py WORKLOAD SECONDS IN_FLIGHT`."""

import json
import os
import subprocess
import sys
import time

import psycopg2

from measure import EVERY_S, Cpu, Database, environment, listener, result, stop, wait_until

WARM_UP_S = 3.0
# The time between two looks at the rows, where many are under way and where one is.
LOOK_S = 0.0005 if EVERY_S else 0.005
TASKS = {"single": 1, "chain": 10, "fanout": 102}


def start(app, workload):
    """Starts an execution, and gives the id of its last task."""
    from celery import chain, chord

    step, merge = app.step, app.merge
    if workload == "single":
        return step.apply_async((1,)).id
    if workload == "chain":
        first, rest = step.s(1), [step.s() for _ in range(9)]
        return chain(first, *rest).apply_async().id
    # One step, whose value each of 100 takes, and one that has them all.
    spread = chord([step.s() for _ in range(100)], merge.s())
    return chain(step.s(1), spread).apply_async().id


def run(app, workload, seconds, in_flight, connection, groups):
    """Keeps so many under way; the ends are found in the rows of the results, as a user finds them."""
    under_way, latencies = {}, []
    cursor = connection.cursor()
    began = time.monotonic()
    measured_from, cpu, due = None, None, began
    while True:
        now = time.monotonic()
        if measured_from is None and now >= began + WARM_UP_S:
            measured_from, cpu, latencies = now, Cpu(groups), []
        if measured_from is not None and now >= measured_from + seconds:
            break
        if now >= due:
            for _ in range(min(in_flight - len(under_way), 64)):
                under_way[start(app, workload)] = time.monotonic()
            due = now + EVERY_S
        if not under_way:
            time.sleep(max(due - time.monotonic(), 0))
            continue
        cursor.execute(
            "SELECT task_id FROM celery_taskmeta WHERE task_id = ANY (%s) AND status = 'SUCCESS'",
            (list(under_way),),
        )
        ended = cursor.fetchall()
        now = time.monotonic()
        for (task_id,) in ended:
            latencies.append(now - under_way.pop(task_id))
        if not ended and len(under_way) >= in_flight:
            time.sleep(LOOK_S)
    return latencies, time.monotonic() - measured_from, cpu


def main(workload, seconds, in_flight):
    with Database("celery") as database:
        os.environ["PEER_RESULTS"] = "db+" + database.url.replace("postgres://", "postgresql+psycopg2://")
        import celery_app

        pool = os.environ.get("PEER_POOL", "prefork")
        concurrency = os.environ.get("PEER_CONCURRENCY", str(os.cpu_count()))
        # The tables of the results are made before two processes try to at once.
        session = celery_app.app.backend.ResultSession()
        session.close()
        worker = subprocess.Popen(
            [sys.executable, "-m", "celery", "-A", "celery_app", "worker", "--pool", pool]
            + ["--concurrency", concurrency, "--loglevel", "ERROR", "--without-gossip"]
            + ["--without-mingle", "--without-heartbeat"],
            cwd=os.path.dirname(os.path.abspath(__file__)),
            # It warns of root at each start, also where all of it is a private folder.
            env={**os.environ, "PYTHONWARNINGS": "ignore"},
            stdout=subprocess.DEVNULL,
            stderr=sys.stderr,
            start_new_session=True,
        )
        try:
            connection = psycopg2.connect(database.url)
            connection.autocommit = True
            ping = celery_app.app.control.ping
            wait_until(lambda: ping(timeout=0.5), 30, "a worker of Celery")
            groups = {
                "load": os.getpid(),
                "worker": worker.pid,
                "postgres": listener(environment("DATABASE_URL"), 5432),
                "rabbitmq": listener(environment("AMQP_URL"), 5672),
            }
            latencies, spent, cpu = run(
                celery_app, workload, seconds, in_flight, connection, groups
            )
            print(json.dumps(result("celery", workload, latencies, spent, TASKS[workload], cpu)))
        finally:
            stop(worker)
            with celery_app.app.connection_for_write() as broker:
                broker.default_channel.queue_delete("peer-celery")


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]))
