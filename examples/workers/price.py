#!/usr/bin/env python3
"""A worker with nothing but an AMQP client: `price.py [POOL]`, with the broker's URL in AMQP_URL.

It answers jobs one at a time, each in less than a minute; price_full.py is for more than that.
"""
import json, os, socket, sys, time
from datetime import datetime, timezone
import pika

def price(order, key):  # `key` is the same for all attempts of one piece of work
    time.sleep(order.get("seconds", 0))  # a supplier may have to be asked
    return {"total": sum(line["price"] * line["count"] for line in order["lines"]), "quote": key}

ACTIONS = {"shop.price": price}
WORKER, now = f"{socket.gethostname()}/{os.getpid()}", lambda: datetime.now(timezone.utc).isoformat()

def send(reply_to, kind, body):  # again until the broker has it
    properties = pika.BasicProperties(type=kind, content_type="application/json", delivery_mode=2, headers={"flotilla-version": 1})
    while True:
        try:
            return channel.basic_publish("", reply_to, json.dumps(body, allow_nan=False), properties, mandatory=True)
        except (pika.exceptions.UnroutableError, pika.exceptions.NackError):
            connection.sleep(0.5)

def on_job(channel, delivery, properties, body):
    try:
        job = json.loads(body)
        count = (properties.headers or {}).get("x-delivery-count", 0) + job.get("starts", 0)
        answer = {name: job[name] for name in ("execution_id", "task_id", "attempt")} | {"worker": WORKER, "started_at": now()}
        if not properties.reply_to or not isinstance(job["action"], str):
            raise TypeError("not a job")
    except Exception:
        return channel.basic_reject(delivery.delivery_tag, requeue=False)  # to the dead letters
    if count > 0:  # it may have killed a worker, so its start is told first
        send(properties.reply_to, "task.started", answer)
    try:
        if job.get("secrets"):
            raise ValueError("this worker cannot fill in secrets")
        result = ACTIONS[job["action"]](job["input"], job["idempotency_key"])
        answer |= {"status": "succeeded", "result": json.loads(json.dumps(result, allow_nan=False))}
    except Exception as error:  # what is wrong with the job itself is not worth a retry
        kind = type(error).__name__ if job.get("action") in ACTIONS else "unknown_action"
        retryable = not isinstance(error, (LookupError, TypeError, ValueError, AttributeError))
        answer |= {"status": "failed", "error": {"kind": kind, "message": str(error), "retryable": retryable}}
    send(properties.reply_to, "task.completed", answer | {"finished_at": now()})
    channel.basic_ack(delivery.delivery_tag)

connection = pika.BlockingConnection(pika.URLParameters(os.environ["AMQP_URL"]))
channel = connection.channel()
channel.confirm_delivery()
channel.basic_qos(prefetch_count=1)
channel.basic_consume("flotilla.jobs." + (sys.argv[1:] or ["default"])[0], on_job)
print("ready", flush=True)
channel.start_consuming()
