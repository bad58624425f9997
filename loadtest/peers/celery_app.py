"""The steps as Celery has them: tasks that give back the number that follows."""

import os

from celery import Celery
from kombu import Queue

app = Celery(
    "peer",
    broker=os.environ["AMQP_URL"],
    backend=os.environ["PEER_RESULTS"],
)
QUORUM = {"x-queue-type": "quorum"} if os.environ.get("PEER_QUORUM") == "1" else {}
app.conf.update(
    # A job of a worker that dies is given to another one, as Flotilla does.
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    # A step counts as handed on once the broker has it on disk.
    broker_transport_options={"confirm_publish": True},
    task_queues=[Queue("peer-celery", durable=True, queue_arguments=QUORUM)],
    task_default_queue="peer-celery",
    # With quorum queues there is no prefetch for the whole process.
    worker_detect_quorum_queues=bool(QUORUM),
    worker_prefetch_multiplier=16,
    # The results in Postgres tell when a chord is complete; they are asked that often.
    result_chord_retry_interval=0.1,
    result_expires=None,
    task_serializer="json",
    result_serializer="json",
    accept_content=["json"],
    database_engine_options={"pool_size": 4, "max_overflow": 4},
    worker_send_task_events=False,
    task_send_sent_event=False,
    worker_hijack_root_logger=False,
)


@app.task(name="peer.step")
def step(value):
    return value + 1


@app.task(name="peer.merge")
def merge(values):
    return len(values)
