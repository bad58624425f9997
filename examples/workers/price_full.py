#!/usr/bin/env python3
"""A worker with everything that the contract has: `price_full.py [POOL]`, with the broker's URL in AMQP_URL.

Beyond price.py it runs several jobs at a time, stops them when they are cancelled or their time is
over, tells of long ones that they are alive, acknowledges those early that the broker would not wait
for, comes back when the connection is lost, and ends what runs before it ends itself (SIGTERM).

    main thread: all of AMQP        on_job ──> begin ──> a thread per attempt: the handler
                 (pika is not             answer <── done <──┘
                 thread-safe)
"""
import json, os, queue, signal, socket, sys, threading, time
from collections import OrderedDict
from datetime import datetime, timezone
import pika
from pika.adapters.utils.connection_workflow import AMQPConnectorException
from pika.exceptions import AMQPError, NackError, UnroutableError

AT_A_TIME = int(os.environ.get("AT_A_TIME", 4))  # jobs
TELL_AFTER_S = 0.5          # a job that runs for longer has its start told
BROKER_WAITS_S = 900        # jobs that may take longer are acknowledged early; RabbitMQ's own limit is 1800
HEARTBEAT_S = 10            # silence after which an early acknowledged job is given to another worker
REMEMBER_CANCELS_S = 600
WORKER = f"{socket.gethostname()}/{os.getpid()}"


def price(attempt):
    """An action: `attempt.key` is the same for all attempts of one piece of work, `wait` ends early."""
    order = attempt.job["input"]
    attempt.wait(order.get("seconds", 0))  # a supplier may have to be asked
    return {"total": sum(line["price"] * line["count"] for line in order["lines"]), "quote": attempt.key}


ACTIONS = {"shop.price": price}


class Stopped(Exception):
    """The attempt was cancelled, or its time is over."""


class Attempt:
    """One job in the hands of this worker."""

    def __init__(self, job, reply_to):
        self.job, self.reply_to, self.key = job, reply_to, job["idempotency_key"]
        self.ids = {name: job[name] for name in ("execution_id", "task_id", "attempt")}
        are_numbers = all(isinstance(job.get(name) or 0, (int, float)) for name in ("timeout", "heartbeat"))
        if not reply_to or not isinstance(job["action"], str) or not are_numbers:
            raise TypeError("not a job")
        self.deliveries = []                 # (session, tag, consumer): a job may come twice
        self.started_at, self.began = None, None
        self.is_told = self.is_acknowledged = False
        self.heartbeat_at = None
        self.stopped, self.stop_status, self.stop_error = threading.Event(), None, None
        self.ending = None                   # what the completion says

    def wait(self, seconds):
        """Waits, and raises Stopped as soon as the attempt is to stop. Handlers call it often."""
        if self.stopped.wait(seconds):
            raise Stopped

    def stop(self, status, kind, message, retryable):
        if not self.stopped.is_set():
            self.stop_status = status
            self.stop_error = {"kind": kind, "message": message, "retryable": retryable}
            self.stopped.set()

    def may_outlast_the_broker(self):
        return self.job.get("timeout") is None or self.job["timeout"] > BROKER_WAITS_S

    def heartbeat_seconds(self):
        return self.job.get("heartbeat") or (HEARTBEAT_S if self.is_acknowledged else None)


class Worker:
    def __init__(self, url, pool):
        self.parameters, self.queue = pika.URLParameters(url), f"flotilla.jobs.{pool}"
        self.attempts = {}                   # by execution, task and attempt
        self.answered = OrderedDict()        # answered after their delivery was lost: not to be run again
        self.cancelled = OrderedDict()       # attempts that are not here: when and why they were cancelled
        self.outbox = []                     # (when, reply_to, type, body, what to do once it is confirmed)
        self.done = queue.SimpleQueue()
        self.session, self.connection, self.channel = 0, None, None
        self.consumers = {}                  # of jobs: how many each may be sent
        self.is_draining = False

    def run(self):
        while not (self.is_draining and not self.attempts and not self.outbox):
            try:
                # Closed whatever happens: nobody else would get the jobs of a connection that is left open.
                with pika.BlockingConnection(self.parameters) as self.connection:
                    self.serve()
            except (AMQPError, AMQPConnectorException, OSError) as error:
                print(f"connection lost, trying again: {error!r}", file=sys.stderr, flush=True)
                time.sleep(1)

    def serve(self):
        self.session, self.consumers = self.session + 1, {}
        self.channel = self.connection.channel()
        self.channel.confirm_delivery()
        # Cancels first, so that none goes past a job.
        cancels = self.channel.queue_declare("", exclusive=True, auto_delete=True).method.queue
        self.channel.queue_bind(cancels, "flotilla.cancel")
        self.channel.basic_consume(cancels, self.on_cancel, auto_ack=True)
        self.consume()
        if self.session == 1:
            print("ready", flush=True)
        while not (self.is_draining and not self.attempts and not self.outbox):
            self.connection.process_data_events(time_limit=0.1)
            self.look()
            self.consume()

    def consume(self):
        """Asks for as many jobs as there are places for.

        A prefetch does not count jobs that were acknowledged early, nor those of an earlier session. So such
        a job takes its consumer with it (`acknowledge`), and places that come free get a consumer of their own.
        """
        if not self.consumers.keys() <= set(self.channel.consumer_tags):
            raise AMQPError("jobs do not come any more")
        if self.is_draining or (len(self.consumers) > 1 and not self.attempts):  # without jobs one is enough
            for consumer in list(self.consumers):
                self.cancel(consumer)
        uncounted = [attempt for attempt in self.attempts.values()
                     if all(consumer not in self.consumers for _, _, consumer in attempt.deliveries)]
        free = AT_A_TIME - len(uncounted) - sum(self.consumers.values())
        if free > 0 and not self.is_draining:
            self.channel.basic_qos(prefetch_count=free)  # of the consumers that come after it
            self.consumers[self.channel.basic_consume(self.queue, self.on_job)] = free

    def cancel(self, consumer):
        """Ends a consumer; pika gives back what it was sent and on_job has not seen."""
        if self.consumers.pop(consumer, None):
            self.channel.basic_cancel(consumer)

    def on_job(self, channel, delivery, properties, body):
        place = (self.session, delivery.delivery_tag, delivery.consumer_tag)
        headers = properties.headers or {}
        try:
            if headers.get("flotilla-version", 1) > 1:
                return self.dead_letter(place, properties, body, "newer_version")
            attempt = Attempt(json.loads(body), properties.reply_to)
            name = tuple(attempt.ids.values())
            known = self.attempts.get(name)
            runs_before = headers.get("x-delivery-count", 0) + attempt.job.get("starts", 0)
        except (KeyError, TypeError):
            return self.dead_letter(place, properties, body, "wrong_type")
        except (ValueError, RecursionError):
            return self.dead_letter(place, properties, body, "not_json")
        if known:                            # it came twice; both are acknowledged when it is answered
            known.deliveries.append(place)
            if known.is_acknowledged and not known.ending:
                self.tell_start(known)       # its coordinator heard nothing; this one is acknowledged with it
        elif self.answered.pop(name, None):
            self.acknowledge(place)
        else:
            self.attempts[name] = attempt
            attempt.deliveries.append(place)
            if name in self.cancelled:
                attempt.stop("cancelled", "cancelled", self.cancelled[name][1], False)
                attempt.ending = {"status": "cancelled", "error": attempt.stop_error}
                self.answer(attempt)
            elif runs_before > 0:            # it may have killed a worker
                self.tell_start(attempt, then=lambda: self.begin(attempt))
            else:
                self.begin(attempt)

    def on_cancel(self, channel, delivery, properties, body):
        try:
            cancel = json.loads(body)
            name = tuple(cancel[part] for part in ("execution_id", "task_id", "attempt"))
            known = self.attempts.get(name)
        except (KeyError, TypeError, ValueError):
            return
        reason = cancel.get("reason") or "the attempt was cancelled"
        if known:
            known.stop("cancelled", "cancelled", reason, False)
        else:                                # its job may still be on the way
            self.cancelled[name] = (time.monotonic(), reason)

    def begin(self, attempt):
        attempt.began = time.monotonic()
        attempt.started_at = attempt.started_at or now()
        threading.Thread(target=self.work, args=(attempt,), daemon=True).start()

    def work(self, attempt):
        """Runs the handler, in a thread of its own, and whatever comes of it is an answer."""
        try:
            attempt.wait(0)                  # it may have been cancelled while its start was told
            handler = ACTIONS.get(attempt.job.get("action"))
            if handler is None:
                raise LookupError(f"unknown action {attempt.job.get('action')}")
            if attempt.job.get("secrets"):
                raise ValueError("this worker cannot fill in secrets")
            result = json.loads(json.dumps(handler(attempt), allow_nan=False))
            attempt.ending = {"status": "succeeded", "result": result}
        except Stopped:
            attempt.ending = {"status": attempt.stop_status, "error": attempt.stop_error}
        except Exception as error:           # what is wrong with the job itself is not worth a retry
            kind = type(error).__name__ if attempt.job.get("action") in ACTIONS else "unknown_action"
            retryable = not isinstance(error, (LookupError, TypeError, ValueError, AttributeError))
            attempt.ending = {"status": "failed", "error": {"kind": kind, "message": str(error), "retryable": retryable}}
        self.done.put(attempt)
        try:
            self.connection.add_callback_threadsafe(lambda: None)  # wakes the main thread
        except AMQPError:
            pass                             # it looks by itself once it is connected again

    def look(self):
        """What is due: answers, starts to tell, heartbeats, time limits, messages to send."""
        while not self.done.empty():
            self.answer(self.done.get())
        at = time.monotonic()
        for attempt in list(self.attempts.values()):
            if attempt.began is None or attempt.ending:
                continue
            limit = attempt.job.get("timeout")
            if limit is not None and at - attempt.began > limit:
                attempt.stop("timed_out", "task_timeout", f"the attempt took longer than {limit} s", True)
            if not attempt.is_told and at - attempt.began > TELL_AFTER_S:
                self.tell_start(attempt)
            seconds = attempt.heartbeat_seconds()
            if attempt.is_told and seconds and at > (attempt.heartbeat_at or attempt.began) + seconds / 3:
                attempt.heartbeat_at = at
                self.send(attempt.reply_to, "task.heartbeat", {**attempt.ids, "worker": WORKER})
        while self.cancelled and next(iter(self.cancelled.values()))[0] < at - REMEMBER_CANCELS_S:
            self.cancelled.popitem(last=False)
        self.empty_outbox()

    def tell_start(self, attempt, then=lambda: None):
        """Tells a start, once for each delivery: starts are counted. A long job is acknowledged with it."""
        attempt.is_told = True
        attempt.started_at = attempt.started_at or now()
        body = {**attempt.ids, "worker": WORKER, "started_at": attempt.started_at}
        is_long = attempt.may_outlast_the_broker()
        if is_long:
            body |= {"acknowledged": True, "heartbeat": attempt.job.get("heartbeat") or HEARTBEAT_S}

        def confirmed():
            if is_long:
                attempt.is_acknowledged = True
                self.acknowledge_all(attempt, is_early=True)
            then()
        self.send(attempt.reply_to, "task.started", body, confirmed)

    def answer(self, attempt):
        body = {**attempt.ids, **attempt.ending, "worker": WORKER, "finished_at": now()}
        if attempt.started_at:
            body["started_at"] = attempt.started_at

        def confirmed():
            name = tuple(attempt.ids.values())
            if not self.acknowledge_all(attempt) and not attempt.is_acknowledged:
                self.answered[name] = True   # the broker delivers it again
                if len(self.answered) > 1000:
                    self.answered.popitem(last=False)
            self.attempts.pop(name, None)
        self.send(attempt.reply_to, "task.completed", body, confirmed)

    def dead_letter(self, place, properties, body, reason):
        headers = {**(properties.headers or {}), "flotilla-reason": reason, "flotilla-queue": self.queue}
        kept = pika.BasicProperties(type=properties.type, message_id=properties.message_id, reply_to=properties.reply_to,
                                    correlation_id=properties.correlation_id, delivery_mode=2, headers=headers)
        self.channel.basic_publish("flotilla.dead", "", body, kept, mandatory=True)
        self.acknowledge(place)

    def acknowledge_all(self, attempt, is_early=False):
        """Acknowledges what was delivered in this session; what came before it comes again."""
        deliveries, attempt.deliveries = attempt.deliveries, []
        return any([self.acknowledge(place, is_early) for place in deliveries])

    def acknowledge(self, place, is_early=False):
        session, tag, consumer = place
        try:
            if session == self.session:
                if is_early:                 # or the broker would send another job in its place
                    self.cancel(consumer)
                self.channel.basic_ack(tag)
                return True
        except AMQPError:
            pass                             # the main loop hears of it, too
        return False

    def send(self, reply_to, kind, body, then=lambda: None):
        """Keeps a message until the broker has confirmed it, and then does what follows from that."""
        self.outbox.append((0, reply_to, kind, json.dumps(body), then))

    def empty_outbox(self):
        """Publishes what is due; what the broker does not take is tried again a moment later."""
        due, self.outbox = self.outbox, []
        try:
            while due:
                when, reply_to, kind, body, then = due[0]
                properties = pika.BasicProperties(type=kind, content_type="application/json", delivery_mode=2,
                                                  headers={"flotilla-version": 1})
                is_taken = False
                if when <= time.monotonic():
                    when = time.monotonic() + 0.5
                    try:
                        self.channel.basic_publish("", reply_to, body, properties, mandatory=True)
                        is_taken = True
                    except (UnroutableError, NackError):
                        pass
                due.pop(0)
                if is_taken:
                    then()
                else:
                    self.outbox.append((when, reply_to, kind, body, then))
        finally:
            self.outbox = due + self.outbox


def now():
    return datetime.now(timezone.utc).isoformat()


if __name__ == "__main__":
    worker = Worker(os.environ["AMQP_URL"], (sys.argv[1:] or ["default"])[0])
    signal.signal(signal.SIGTERM, lambda *_: setattr(worker, "is_draining", True))
    worker.run()
