"""DBOS on Postgres: `dbos_load.py WORKLOAD SECONDS IN_FLIGHT`.

DBOS is a library: workflows run in the process that starts them, and each step is a row in Postgres
before the next one begins. So the load is in the same processes, of which there is one for each core.
"""

import asyncio
import json
import multiprocessing
import os
import sys
import time

from measure import EVERY_S, Cpu, Database, environment, listener, result

WARM_UP_S = 3.0
TASKS = {"single": 1, "chain": 10, "fanout": 102}


def workflows(DBOS):
    """The three workloads; a step gives back the number that follows."""

    @DBOS.step()
    async def step(value):
        return value + 1

    @DBOS.workflow()
    async def single(value):
        return await step(value)

    @DBOS.workflow()
    async def chain(value):
        for _ in range(10):
            value = await step(value)
        return value

    @DBOS.workflow()
    async def fanout(value):
        value = await step(value)
        parts = await asyncio.gather(*(step(value) for _ in range(100)))
        return await step(len(parts))

    return {"single": single, "chain": chain, "fanout": fanout}


def member(url, number, workload, seconds, in_flight, pipe):
    """One process: keeps so many workflows under way and tells how long each took."""
    from dbos import DBOS, DBOSConfig

    config = DBOSConfig(
        name="peer",
        system_database_url=url,
        executor_id=str(number),
        application_version="1",
        log_level="ERROR",
        run_admin_server=False,
        sys_db_pool_size=int(os.environ.get("PEER_POOL_SIZE", "20")),
    )
    DBOS(config=config)
    run = workflows(DBOS)[workload]
    DBOS.launch()
    latencies = []

    async def place(until):
        while time.monotonic() < until:
            began = time.monotonic()
            await run(1)
            latencies.append(time.monotonic() - began)
            if EVERY_S:
                await asyncio.sleep(began + EVERY_S - time.monotonic())

    async def load(for_s):
        until = time.monotonic() + for_s
        await asyncio.gather(*(place(until) for _ in range(in_flight)))

    asyncio.run(load(WARM_UP_S))
    pipe.send("warm")
    pipe.recv()
    latencies.clear()
    began = time.monotonic()
    asyncio.run(load(seconds))
    pipe.send((latencies, time.monotonic() - began))
    pipe.recv()
    DBOS.destroy()


def main(workload, seconds, in_flight):
    context = multiprocessing.get_context("spawn")
    members = min(int(os.environ.get("PEER_CONCURRENCY", str(os.cpu_count()))), in_flight)
    with Database("dbos") as database:
        url = database.url.replace("postgres://", "postgresql://")
        # The first makes the tables.
        from dbos import DBOS, DBOSConfig

        DBOS(config=DBOSConfig(name="peer", system_database_url=url, log_level="ERROR", run_admin_server=False))
        DBOS.launch()
        DBOS.destroy()
        pipes, processes = [], []
        for number in range(members):
            ours, theirs = context.Pipe()
            each = in_flight // members
            process = context.Process(
                target=member, args=(url, number, workload, seconds, each, theirs), daemon=True
            )
            process.start()
            # One that dies is an end of its pipe then.
            theirs.close()
            pipes.append(ours)
            processes.append(process)
        for pipe in pipes:
            pipe.recv()
        cpu = Cpu({
            "load": os.getpid(),
            "postgres": listener(environment("DATABASE_URL"), 5432),
        })
        for pipe in pipes:
            pipe.send("go")
        answers = [pipe.recv() for pipe in pipes]
        latencies = [latency for answer in answers for latency in answer[0]]
        spent = max(answer[1] for answer in answers)
        print(json.dumps(result("dbos", workload, latencies, spent, TASKS[workload], cpu)))
        for pipe in pipes:
            pipe.send("end")
        for process in processes:
            process.join(30)


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]))
