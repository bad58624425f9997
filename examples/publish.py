#!/usr/bin/env python3
"""Starts examples.order with nothing but an AMQP client, and prints the replies.

AMQP_URL names the broker; an argument names the execution (the same id twice is one execution).
"""
import json, os, sys, uuid
import pika

execution_id = sys.argv[1] if len(sys.argv) > 1 else str(uuid.uuid4())
start = {"workflow": "examples.order", "execution_id": execution_id, "parameters": {"order_id": 7, "amount": 1200}}
channel = pika.BlockingConnection(pika.URLParameters(os.environ["AMQP_URL"])).channel()
channel.confirm_delivery()
replies = channel.queue_declare("", exclusive=True).method.queue
properties = pika.BasicProperties(type="workflow.start", content_type="application/json", delivery_mode=2,
                                  reply_to=replies, correlation_id=execution_id, headers={"flotilla-version": 1})
channel.basic_publish("flotilla", "workflow.start", json.dumps(start), properties, mandatory=True)
for _, reply, body in channel.consume(replies, auto_ack=True):
    print(reply.type, body.decode(), flush=True)
    if reply.type in ("workflow.finished", "workflow.rejected"):
        break
