//! The closed loop: a new start for each execution that has ended.

use std::time::{Duration, Instant};

use flotilla_protocol::amqp::{
    Acker, ConnectOptions, Connection, Consumer, Outgoing, PublishOutcome, Publisher,
    PublisherOptions, reply_queue,
};
use flotilla_protocol::message::{WorkflowFinished, WorkflowStart};
use flotilla_protocol::{RawJson, names};
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use hdrhistogram::Histogram;

use crate::Failure;
use crate::options::RunOptions;
use crate::shape;

/// How long the last executions may take once no more are started.
const DRAIN_LIMIT: Duration = Duration::from_secs(60);
/// Deliveries that one acknowledgement covers at most.
const ACKNOWLEDGE_EVERY: u64 = 100;

/// What a run came to.
pub struct Outcome {
    /// Executions that have ended.
    pub executions: usize,
    /// Executions started that nobody has heard of again.
    pub missing: usize,
    /// Executions that ended other than succeeded.
    pub failed: usize,
    /// From the first start to the last end.
    pub elapsed: Duration,
    /// Microseconds from the start message to its `workflow.finished`.
    pub latency_us: Histogram<u64>,
}

/// Starts executions and takes their ends.
pub struct Driver {
    /// Marks the executions of this run in their tags.
    pub tag: String,
    workflow: String,
    reply_to: String,
    options: RunOptions,
    publisher: Publisher,
    consumer: Consumer,
    acker: Acker,
    _connection: Connection,
}

/// When the loop ends.
#[derive(Clone, Copy)]
enum Until {
    Started(usize),
    Time(Instant),
}

impl Driver {
    /// Connects, with a reply queue of its own.
    pub async fn connect(options: &RunOptions) -> Result<Self, Failure> {
        let connect = ConnectOptions::new(&options.amqp_url, "flotilla loadtest");
        let connection = Connection::open_with(&connect).await?;
        let reply_to = reply_queue(&connection).await?;
        let consumer = connection.consume(&reply_to, 1000).await?;
        let publisher = Publisher::start(PublisherOptions::new(connect));
        publisher.ready().await;
        Ok(Self {
            tag: uuid::Uuid::now_v7().to_string(),
            workflow: shape::reference(options.shape, options.length),
            reply_to,
            options: options.clone(),
            publisher,
            acker: consumer.acker(),
            consumer,
            _connection: connection,
        })
    }

    /// Runs some executions that are not counted.
    pub async fn warm_up(&mut self) -> Result<(), Failure> {
        let count = (self.options.in_flight as usize).min(500);
        let outcome = self.run(Until::Started(count)).await?;
        if outcome.missing > 0 {
            return Err("the first executions do not end; is a worker running?".into());
        }
        Ok(())
    }

    /// The run itself.
    pub async fn drive(&mut self) -> Result<Outcome, Failure> {
        let until = match (self.options.count, self.options.seconds) {
            (Some(count), _) => Until::Started(count),
            (None, Some(seconds)) => Until::Time(Instant::now() + Duration::from_secs_f64(seconds)),
            (None, None) => return Err("neither --count nor --seconds is given".into()),
        };
        self.run(until).await
    }

    async fn run(&mut self, until: Until) -> Result<Outcome, Failure> {
        let begun = Instant::now();
        let mut state = Loop::new(self.options.in_flight as usize)?;
        let mut confirms: FuturesUnordered<BoxFuture<'static, PublishOutcome>> =
            FuturesUnordered::new();
        let mut last_end = begun;
        loop {
            while state.may_start(until) {
                let message = self.start_message(state.started.len());
                state.started.push(Instant::now());
                confirms.push(Box::pin(self.publisher.enqueue(message)));
            }
            if state.is_done(until) {
                break;
            }
            tokio::select! {
                Some(outcome) = confirms.next(), if !confirms.is_empty() => {
                    if outcome != PublishOutcome::Confirmed {
                        return Err(format!("a start message was not taken by the broker: {outcome:?}").into());
                    }
                }
                delivery = self.consumer.next() => {
                    let delivery = delivery.ok_or("the reply queue is gone")?;
                    let tag = delivery.tag;
                    if state.take(&delivery.envelope, &delivery.body)? {
                        last_end = Instant::now();
                    }
                    if tag.is_multiple_of(ACKNOWLEDGE_EVERY) {
                        self.acker.ack(tag, true).await?;
                    }
                }
                () = tokio::time::sleep(DRAIN_LIMIT) => break,
            }
        }
        Ok(state.outcome(last_end - begun))
    }

    fn start_message(&self, no: usize) -> Outgoing {
        let parameters: RawJson =
            serde_json::value::to_raw_value(&serde_json::json!({ "n": no })).expect("is JSON");
        let start = WorkflowStart {
            workflow: self.workflow.clone(),
            version: None,
            parameters: Some(parameters),
            execution_id: None,
            idempotency_key: None,
            tags: [("loadtest".to_owned(), self.tag.clone())].into(),
            timeout: None,
        };
        Outgoing {
            reply_to: Some(self.reply_to.clone()),
            correlation_id: Some(no.to_string()),
            ..Outgoing::start(&start)
        }
    }
}

/// What the loop knows.
struct Loop {
    in_flight: usize,
    started: Vec<Instant>,
    ended: usize,
    failed: usize,
    latency_us: Histogram<u64>,
}

impl Loop {
    fn new(in_flight: usize) -> Result<Self, Failure> {
        let latency_us = Histogram::new_with_bounds(1, 600_000_000, 3)?;
        Ok(Self {
            in_flight,
            started: Vec::new(),
            ended: 0,
            failed: 0,
            latency_us,
        })
    }

    fn has_started_all(&self, until: Until) -> bool {
        match until {
            Until::Started(count) => self.started.len() >= count,
            Until::Time(end) => Instant::now() >= end,
        }
    }

    fn may_start(&self, until: Until) -> bool {
        self.started.len() - self.ended < self.in_flight && !self.has_started_all(until)
    }

    fn is_done(&self, until: Until) -> bool {
        self.ended == self.started.len() && self.has_started_all(until)
    }

    /// Takes a reply; true if an execution has ended.
    fn take(
        &mut self,
        envelope: &flotilla_protocol::envelope::Envelope,
        body: &[u8],
    ) -> Result<bool, Failure> {
        match envelope.message_type.as_deref() {
            Some(names::WORKFLOW_FINISHED) => {}
            Some(names::WORKFLOW_REJECTED) => {
                return Err(
                    format!("a start was rejected: {}", String::from_utf8_lossy(body)).into(),
                );
            }
            Some(_) | None => return Ok(false),
        }
        let finished: WorkflowFinished = serde_json::from_slice(body)?;
        let no: usize = envelope
            .correlation_id
            .as_deref()
            .unwrap_or_default()
            .parse()?;
        let started = self
            .started
            .get(no)
            .ok_or("a reply to a start that was never sent")?;
        let micros = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.latency_us.saturating_record(micros);
        self.ended += 1;
        self.failed += usize::from(finished.status != "succeeded");
        Ok(true)
    }

    fn outcome(self, elapsed: Duration) -> Outcome {
        Outcome {
            executions: self.ended,
            missing: self.started.len() - self.ended,
            failed: self.failed,
            elapsed,
            latency_us: self.latency_us,
        }
    }
}
