//! The load: executions started over AMQP and counted by the replies to them.
//!
//! ```text
//! pace.rs says how many are due ──► start ──► confirms
//! replies ──► starts.rs (which one, did it end before) ──► samples.rs (latencies, this second)
//! ```

mod pace;
mod samples;
mod starts;

use std::time::{Duration, Instant};

use flotilla_protocol::amqp::{
    ConnectOptions, Connection, Consumer, Delivery, Outcomes, Outgoing, PublishOutcome, Publisher,
    PublisherOptions, reply_queue,
};
use flotilla_protocol::names;
use futures::FutureExt;
use tokio::sync::mpsc;

use crate::failure::Failure;
use crate::shape::Mix;
use pace::Pace;
use samples::Samples;
pub use samples::Second;
use starts::{Started, Starts};

/// How long nothing may finish before the run gives up.
const STALL_LIMIT: Duration = Duration::from_secs(60);
/// Starts that are made between two looks at what has come.
const MAX_BURST: usize = 256;

/// A load under way.
pub struct Load {
    /// All starts, by number.
    pub starts: Starts,
    /// What the measurement is made of.
    pub samples: Samples,
    /// How many have ended other than succeeded.
    pub not_succeeded: u64,
    /// What is started.
    pub mix: Mix,
    pace: Pace,
    publisher: Publisher,
    reply_to: String,
    replies: Consumer,
    outcomes: Outcomes,
    confirms: mpsc::UnboundedReceiver<(u64, PublishOutcome)>,
    /// How many had ended when that was last seen to change, and when.
    last_progress: (usize, Instant),
    // Dropped last: the consumer lives on it.
    _connection: Connection,
}

/// When to stop.
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
    /// Connects; nothing is started yet. With a `rate` in executions a second the loop is open, else
    /// `in_flight` executions are under way at a time.
    pub async fn connect(
        url: &str,
        mix: Mix,
        in_flight: usize,
        rate: Option<f64>,
    ) -> Result<Self, Failure> {
        let options = ConnectOptions::new(url, "flotilla-loadtest");
        let connection = Connection::open_with(&options).await?;
        let reply_to = reply_queue(&connection).await?;
        let replies = connection.consume_without_acks(&reply_to).await?;
        let publisher = Publisher::start(PublisherOptions::new(options));
        publisher.ready().await;
        let (outcomes, confirms) = mpsc::unbounded_channel();
        let from = Instant::now();
        let pace = rate.map_or(Pace::Closed { in_flight }, |rate| Pace::Open { rate, from });
        Ok(Self {
            starts: Starts::default(),
            samples: Samples::default(),
            not_succeeded: 0,
            mix,
            pace,
            publisher,
            reply_to,
            replies,
            outcomes,
            confirms,
            last_progress: (0, Instant::now()),
            _connection: connection,
        })
    }

    /// Carries the load on for a slice of time, or until it is over.
    pub async fn run(&mut self, until: Until, slice: Duration) -> Result<(), Failure> {
        let slice_end = Instant::now() + slice;
        while !self.is_over(until) && Instant::now() < slice_end {
            let next_start = self.start_due(until).unwrap_or(slice_end).min(slice_end);
            let next_start = match until {
                Until::Time(time) => next_start.min(time),
                Until::Ended(_) | Until::Drained => next_start,
            };
            tokio::select! {
                delivery = self.replies.next() => {
                    self.delivered(&delivery.ok_or(Failure::RepliesLost)?)?;
                }
                Some((number, outcome)) = self.confirms.recv() => self.confirmed(number, outcome)?,
                () = tokio::time::sleep_until(next_start.into()) => {}
            }
            self.take_ready()?;
        }
        self.look_for_progress()
    }

    /// Whether the load has come to this end.
    pub fn is_over(&self, until: Until) -> bool {
        match until {
            Until::Ended(count) => self.starts.ended() >= count,
            Until::Time(time) => Instant::now() >= time,
            Until::Drained => self.starts.under_way() == 0,
        }
    }

    /// How many tasks all executions have that were started.
    pub fn tasks(&self) -> u64 {
        let workflows = &self.mix.workflows;
        let started = self.starts.by_workflow(workflows.len());
        let tasks = workflows.iter().zip(started);
        tasks
            .map(|(workflow, started)| u64::from(workflow.tasks) * started as u64)
            .sum()
    }

    /// Whatever has come by now.
    fn take_ready(&mut self) -> Result<(), Failure> {
        for _ in 0..MAX_BURST {
            let Some(delivery) = self.replies.next().now_or_never() else {
                break;
            };
            self.delivered(&delivery.ok_or(Failure::RepliesLost)?)?;
        }
        while let Ok((number, outcome)) = self.confirms.try_recv() {
            self.confirmed(number, outcome)?;
        }
        Ok(())
    }

    /// Starts what is due; says when the next is, if that is a matter of time.
    fn start_due(&mut self, until: Until) -> Option<Instant> {
        if matches!(until, Until::Drained) {
            return None;
        }
        let now = Instant::now();
        let due = self.pace.due(now, &self.starts);
        for _ in 0..due.min(MAX_BURST) {
            let number = self.starts.len();
            let at = self.pace.scheduled(number).unwrap_or(now);
            let workflow = self.mix.index(number);
            self.starts.add(at, workflow);
            self.publish(number);
        }
        self.pace.scheduled(self.starts.len())
    }

    /// The body is written by hand: no part of it needs an escape.
    fn publish(&mut self, number: usize) {
        let Started { id, workflow, .. } = self.starts.get(number);
        let workflow = &self.mix.workflows[*workflow];
        let body = format!(
            "{{\"workflow\":\"{}\",\"version\":\"{}\",\"parameters\":{{\"start\":{number}}},\
             \"execution_id\":\"{id}\"}}",
            workflow.reference, workflow.version
        );
        let key = names::WORKFLOW_START;
        let message = Outgoing {
            reply_to: Some(self.reply_to.clone()),
            correlation_id: Some(number.to_string()),
            ..Outgoing::new(names::EXCHANGE, key, key, body.into_bytes())
        };
        self.publisher
            .enqueue_numbered(message, number as u64, &self.outcomes);
    }

    /// A start whose fate is not known is sent again: it has a name.
    fn confirmed(&mut self, number: u64, outcome: PublishOutcome) -> Result<(), Failure> {
        match outcome {
            PublishOutcome::Confirmed => Ok(()),
            PublishOutcome::Unknown => {
                self.publish(usize::try_from(number).unwrap_or(usize::MAX));
                Ok(())
            }
            PublishOutcome::Returned | PublishOutcome::Nacked => Err(Failure::NotTaken),
        }
    }

    fn delivered(&mut self, delivery: &Delivery) -> Result<(), Failure> {
        match delivery.envelope.message_type.as_deref() {
            Some(names::WORKFLOW_FINISHED) => self.finished(delivery),
            Some(names::WORKFLOW_REJECTED) => {
                let said = String::from_utf8_lossy(&delivery.body).into_owned();
                return Err(Failure::Rejected(said));
            }
            Some(_) | None => {}
        }
        Ok(())
    }

    fn finished(&mut self, delivery: &Delivery) {
        let number = delivery.envelope.correlation_id.as_deref();
        let number = number.and_then(|number| number.parse::<usize>().ok());
        // Replies may come twice: they are published at least once.
        let Some(started) = number.and_then(|number| self.starts.end(number)) else {
            return;
        };
        let now = Instant::now();
        let counted_at = if self.pace.is_open() { started.at } else { now };
        let tasks = self.mix.workflows[started.workflow].tasks;
        self.samples.add(now, counted_at, now - started.at, tasks);
        if !has_succeeded(&delivery.body) {
            self.not_succeeded += 1;
        }
    }

    fn look_for_progress(&mut self) -> Result<(), Failure> {
        let now = Instant::now();
        let ended = self.starts.ended();
        if ended > self.last_progress.0 || self.starts.under_way() == 0 {
            self.last_progress = (ended, now);
        }
        if now - self.last_progress.1 > STALL_LIMIT {
            return Err(Failure::Stalled {
                seconds: STALL_LIMIT.as_secs(),
                missing: self.starts.under_way(),
            });
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
