//! The load: a closed loop of executions, started over AMQP and counted by the replies to them.

use std::time::{Duration, Instant};

use flotilla_protocol::ExecutionId;
use flotilla_protocol::amqp::{
    ConnectOptions, Connection, Consumer, Outgoing, PublishOutcome, Publisher, PublisherOptions,
    reply_queue,
};
use flotilla_protocol::message::WorkflowStart;
use flotilla_protocol::names;
use futures::StreamExt;
use futures::future::{BoxFuture, FutureExt};
use futures::stream::FuturesUnordered;
use hdrhistogram::Histogram;
use uuid::Uuid;

use crate::failure::Failure;
use crate::shape::Workflow;

/// How long nothing may finish before the run gives up.
const STALL_LIMIT: Duration = Duration::from_secs(60);
/// How often the loop looks whether anything finishes.
const LOOK: Duration = Duration::from_secs(1);
/// Replies that come before one acknowledgement for all of them.
const ACK_EVERY: u64 = 100;
/// Replies that may be unacknowledged; more than [`ACK_EVERY`], else both sides would wait.
const PREFETCH: u16 = 1000;

type Confirm = BoxFuture<'static, (usize, PublishOutcome)>;

/// A load under way.
pub struct Load {
    workflow: Workflow,
    publisher: Publisher,
    reply_to: String,
    replies: Consumer,
    confirms: FuturesUnordered<Confirm>,
    /// All starts, by number.
    starts: Vec<Started>,
    /// How many of them have ended.
    pub ended: usize,
    /// How many have ended other than succeeded.
    pub not_succeeded: u64,
    /// Latencies of those that ended while it was recorded, in microseconds.
    pub latencies: Histogram<u64>,
    is_recording: bool,
    unacknowledged: u64,
    // Dropped last: the consumer lives on it.
    _connection: Connection,
}

#[derive(Debug, Clone, Copy)]
struct Started {
    id: Uuid,
    at: Instant,
    has_ended: bool,
}

/// When to stop starting executions.
#[derive(Debug, Clone, Copy)]
pub enum Until {
    /// After so many have ended.
    Ended(usize),
    /// After this time.
    Time(Instant),
    /// Start none, and wait until all have ended.
    Drained,
}

impl Load {
    /// Connects.
    pub async fn connect(url: &str, workflow: Workflow) -> Result<Self, Failure> {
        let options = ConnectOptions::new(url, "flotilla-loadtest");
        let connection = Connection::open_with(&options).await?;
        let reply_to = reply_queue(&connection).await?;
        let replies = connection.consume(&reply_to, PREFETCH).await?;
        Ok(Self {
            workflow,
            publisher: Publisher::start(PublisherOptions::new(options)),
            reply_to,
            replies,
            confirms: FuturesUnordered::new(),
            starts: Vec::new(),
            ended: 0,
            not_succeeded: 0,
            latencies: Histogram::new(3).expect("three digits are a valid precision"),
            is_recording: false,
            unacknowledged: 0,
            _connection: connection,
        })
    }

    /// Keeps `in_flight` executions under way.
    pub async fn run(&mut self, in_flight: usize, until: Until) -> Result<(), Failure> {
        let mut last_progress = (self.ended, Instant::now());
        let mut look = tokio::time::interval(LOOK);
        while !self.is_over(until) {
            if !matches!(until, Until::Drained) {
                while self.starts.len() - self.ended < in_flight {
                    self.start();
                }
            }
            tokio::select! {
                delivery = self.replies.next() => {
                    let delivery = delivery.ok_or(Failure::RepliesLost)?;
                    let message_type = delivery.envelope.message_type.as_deref();
                    self.replied(message_type, delivery.envelope.correlation_id.as_deref(), &delivery.body)?;
                    self.acknowledge(delivery.tag).await?;
                }
                Some((number, outcome)) = self.confirms.next() => self.confirmed(number, outcome)?,
                _ = look.tick() => {
                    if self.ended > last_progress.0 {
                        last_progress = (self.ended, Instant::now());
                    } else if last_progress.1.elapsed() > STALL_LIMIT {
                        let missing = self.starts.len() - self.ended;
                        return Err(Failure::Stalled { seconds: STALL_LIMIT.as_secs(), missing });
                    }
                }
            }
        }
        Ok(())
    }

    /// Begins or ends to record latencies.
    pub fn record(&mut self, is_recording: bool) {
        self.is_recording = is_recording;
    }

    /// How many executions were started.
    pub fn started(&self) -> usize {
        self.starts.len()
    }

    /// The lowest and the highest id of all starts.
    pub fn id_range(&self) -> (Uuid, Uuid) {
        let ids = || self.starts.iter().map(|start| start.id);
        (
            ids().min().unwrap_or_default(),
            ids().max().unwrap_or_default(),
        )
    }

    fn is_over(&self, until: Until) -> bool {
        match until {
            Until::Ended(count) => self.ended >= count,
            Until::Time(time) => Instant::now() >= time,
            Until::Drained => self.ended >= self.starts.len(),
        }
    }

    fn start(&mut self) {
        let number = self.starts.len();
        self.starts.push(Started {
            id: Uuid::now_v7(),
            at: Instant::now(),
            has_ended: false,
        });
        self.publish(number);
    }

    fn publish(&mut self, number: usize) {
        let body = WorkflowStart {
            workflow: self.workflow.reference.clone(),
            version: Some(self.workflow.version.clone()),
            parameters: serde_json::value::RawValue::from_string(format!("{{\"start\":{number}}}"))
                .ok(),
            execution_id: Some(ExecutionId(self.starts[number].id)),
            idempotency_key: None,
            tags: std::collections::BTreeMap::new(),
            timeout: None,
        };
        let message = Outgoing {
            reply_to: Some(self.reply_to.clone()),
            correlation_id: Some(number.to_string()),
            ..Outgoing::start(&body)
        };
        let confirm = self.publisher.enqueue(message);
        self.confirms
            .push(confirm.map(move |outcome| (number, outcome)).boxed());
    }

    /// A start whose fate is not known is sent again: it has a name.
    fn confirmed(&mut self, number: usize, outcome: PublishOutcome) -> Result<(), Failure> {
        match outcome {
            PublishOutcome::Confirmed => Ok(()),
            PublishOutcome::Unknown => {
                self.publish(number);
                Ok(())
            }
            PublishOutcome::Returned | PublishOutcome::Nacked => Err(Failure::NotTaken),
        }
    }

    fn replied(
        &mut self,
        message_type: Option<&str>,
        number: Option<&str>,
        body: &[u8],
    ) -> Result<(), Failure> {
        match message_type {
            Some(names::WORKFLOW_FINISHED) => {}
            Some(names::WORKFLOW_REJECTED) => {
                return Err(Failure::Rejected(
                    String::from_utf8_lossy(body).into_owned(),
                ));
            }
            Some(_) | None => return Ok(()),
        }
        let start = number.and_then(|number| number.parse::<usize>().ok());
        let Some(start) = start.and_then(|number| self.starts.get_mut(number)) else {
            return Ok(());
        };
        // Replies may come twice: they are published at least once.
        if std::mem::replace(&mut start.has_ended, true) {
            return Ok(());
        }
        self.ended += 1;
        if self.is_recording {
            let latency = u64::try_from(start.at.elapsed().as_micros()).unwrap_or(u64::MAX);
            // It grows with its values, so that no value is too large.
            let _ = self.latencies.record(latency);
        }
        if !has_succeeded(body) {
            self.not_succeeded += 1;
        }
        Ok(())
    }

    async fn acknowledge(&mut self, tag: u64) -> Result<(), Failure> {
        self.unacknowledged += 1;
        if self.unacknowledged >= ACK_EVERY {
            self.unacknowledged = 0;
            self.replies.acker().ack(tag, true).await?;
        }
        Ok(())
    }
}

fn has_succeeded(body: &[u8]) -> bool {
    #[derive(serde::Deserialize)]
    struct Finished<'a> {
        status: &'a str,
    }
    serde_json::from_slice::<Finished>(body).is_ok_and(|finished| finished.status == "succeeded")
}
