//! The load: executions started over AMQP, whose ends come as rows or as answers.
//!
//! ```text
//! pace.rs says how many are due ──► start ──► confirms
//! rows.rs, or answers ──► starts.rs (which one, did it end before) ──► samples.rs (latencies)
//! ```

mod pace;
mod rows;
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

use crate::arguments::{EndsBy, FleetArguments, LoadArguments};
use crate::costs::Messages;
use crate::failure::Failure;
use crate::shape::Mix;
pub use pace::Pace;
use rows::{MAX_LOOKED_AT, Rows};
pub use samples::{Samples, Second};
pub use starts::{Started, Starts};

/// How long nothing may finish before the run gives up, and how much longer for each thousand tasks
/// of an execution.
const STALL_LIMITS: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(1));
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
    /// What this process had sent and got before.
    pub messages_before: Messages,
    pace: Pace,
    /// The text that each start carries.
    payload: String,
    publisher: Publisher,
    ends: Ends,
    outcomes: Outcomes,
    confirms: mpsc::UnboundedReceiver<(u64, PublishOutcome)>,
    /// How many had ended when that was last seen to change, and when.
    last_progress: (usize, Instant),
}

/// How the load learns that executions have ended.
enum Ends {
    Rows(Rows),
    Answers(Box<Answers>),
}

/// Answers to starts.
struct Answers {
    queue: String,
    consumer: Consumer,
    // Dropped last: the consumer lives on it.
    _connection: Connection,
}

/// What the load waits for.
enum Event {
    Answered(Box<Delivery>),
    LookDue,
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
    /// Connects; nothing is started yet.
    pub async fn connect(
        arguments: &LoadArguments,
        fleet: &FleetArguments,
        mix: Mix,
        pace: Pace,
    ) -> Result<Self, Failure> {
        let messages_before = Messages::own();
        let options = ConnectOptions::new(&fleet.amqp_url, "flotilla-loadtest");
        let ends = match arguments.ends {
            EndsBy::Rows => Ends::Rows(Rows::connect(&fleet.database.url).await?),
            EndsBy::Answers => Ends::Answers(Box::new(Answers::listen(&options).await?)),
        };
        let publisher = Publisher::start(PublisherOptions::new(options));
        publisher.ready().await;
        let (outcomes, confirms) = mpsc::unbounded_channel();
        let payload = "x".repeat(usize::try_from(mix.payload).unwrap_or(usize::MAX));
        Ok(Self {
            starts: Starts::default(),
            samples: Samples::default(),
            not_succeeded: 0,
            mix,
            messages_before,
            pace,
            payload,
            publisher,
            ends,
            outcomes,
            confirms,
            last_progress: (0, Instant::now()),
        })
    }

    /// From now on so many start a second, whatever has become of those before.
    pub fn set_rate(&mut self, rate: f64) {
        self.pace = Pace::Open {
            rate,
            from: Instant::now(),
            first: self.starts.len(),
        };
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
                event = self.ends.next(self.starts.oldest_at()) => match event? {
                    Event::Answered(delivery) => self.answered(&delivery)?,
                    Event::LookDue => self.look().await?,
                },
                Some((number, outcome)) = self.confirms.recv() => self.confirmed(number, outcome)?,
                () = wait_until(next_start, self.pace.awake_before()) => {}
            }
            self.take_ready()?;
        }
        self.look_for_progress()
    }

    /// Lets go of the broker, to which nothing more is sent.
    pub async fn close(&self) {
        self.publisher.close().await;
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
            let Some(delivery) = self.ends.ready() else {
                break;
            };
            self.answered(&delivery?)?;
        }
        while let Ok((number, outcome)) = self.confirms.try_recv() {
            self.confirmed(number, outcome)?;
        }
        Ok(())
    }

    /// Looks which executions have ended, by their rows.
    async fn look(&mut self) -> Result<(), Failure> {
        if let Ends::Rows(rows) = &mut self.ends {
            let until = rows.begun_until(Instant::now());
            let ids = self.starts.oldest(MAX_LOOKED_AT, until);
            for (id, has_succeeded) in rows.ended(&ids, self.starts.under_way()).await? {
                if let Some(number) = self.starts.number_of(id) {
                    self.ended(number, has_succeeded);
                }
            }
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
        let payload = match self.payload.as_str() {
            "" => String::new(),
            text => format!(",\"payload\":\"{text}\""),
        };
        let body = format!(
            "{{\"workflow\":\"{}\",\"version\":\"{}\",\"parameters\":{{\"start\":{number}{payload}}},\
             \"execution_id\":\"{id}\"}}",
            workflow.reference, workflow.version
        );
        let key = names::WORKFLOW_START;
        let reply_to = self.ends.reply_to();
        let message = Outgoing {
            correlation_id: reply_to.is_some().then(|| number.to_string()),
            reply_to,
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

    fn answered(&mut self, delivery: &Delivery) -> Result<(), Failure> {
        match delivery.envelope.message_type.as_deref() {
            Some(names::WORKFLOW_FINISHED) => {
                let number = delivery.envelope.correlation_id.as_deref();
                if let Some(number) = number.and_then(|number| number.parse().ok()) {
                    self.ended(number, has_succeeded(&delivery.body));
                }
                Ok(())
            }
            Some(names::WORKFLOW_REJECTED) => {
                let said = String::from_utf8_lossy(&delivery.body).into_owned();
                Err(Failure::Rejected(said))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// An execution has ended. Answers may come twice: they are published at least once.
    fn ended(&mut self, number: usize, has_succeeded: bool) {
        let now = Instant::now();
        let Some(started) = self.starts.end(number, now) else {
            return;
        };
        let latency = now.saturating_duration_since(started.at);
        if let Ends::Rows(rows) = &mut self.ends {
            rows.learn(latency);
        }
        let counted_at = if self.pace.is_open() { started.at } else { now };
        let tasks = self.mix.workflows[started.workflow].tasks;
        self.samples.add(now, counted_at, latency, tasks);
        if !has_succeeded {
            self.not_succeeded += 1;
        }
    }

    fn look_for_progress(&mut self) -> Result<(), Failure> {
        let now = Instant::now();
        let ended = self.starts.ended();
        if ended > self.last_progress.0 || self.starts.under_way() == 0 {
            self.last_progress = (ended, now);
        }
        let tasks = self.mix.workflows.iter().map(|workflow| workflow.tasks);
        let limit = STALL_LIMITS.0 + STALL_LIMITS.1 * (tasks.max().unwrap_or(0) / 1000);
        if now - self.last_progress.1 > limit {
            return Err(Failure::Stalled {
                seconds: limit.as_secs(),
                missing: self.starts.under_way(),
            });
        }
        Ok(())
    }
}

impl Ends {
    /// Where answers go, if any are asked for.
    fn reply_to(&self) -> Option<String> {
        match self {
            Self::Rows(_) => None,
            Self::Answers(answers) => Some(answers.queue.clone()),
        }
    }

    /// The next event, where the oldest execution that has not ended began then.
    async fn next(&mut self, oldest: Option<Instant>) -> Result<Event, Failure> {
        match self {
            Self::Rows(rows) => {
                rows.look_due(oldest).await;
                Ok(Event::LookDue)
            }
            Self::Answers(answers) => {
                let delivery = answers.consumer.next().await;
                let delivery = delivery.ok_or(Failure::RepliesLost)?;
                Ok(Event::Answered(Box::new(delivery)))
            }
        }
    }

    /// An answer that is here already.
    fn ready(&mut self) -> Option<Result<Delivery, Failure>> {
        match self {
            Self::Rows(_) => None,
            Self::Answers(answers) => {
                let delivery = answers.consumer.next().now_or_never()?;
                Some(delivery.ok_or(Failure::RepliesLost))
            }
        }
    }
}

impl Answers {
    async fn listen(options: &ConnectOptions) -> Result<Self, Failure> {
        let connection = Connection::open_with(options).await?;
        let queue = reply_queue(&connection).await?;
        let consumer = connection.consume_without_acks(&queue).await?;
        Ok(Self {
            queue,
            consumer,
            _connection: connection,
        })
    }
}

/// Waits for a time, the last stretch before it awake.
async fn wait_until(time: Instant, awake: Duration) {
    let timer = time.checked_sub(awake).unwrap_or(time);
    tokio::time::sleep_until(timer.into()).await;
    while Instant::now() < time {
        tokio::task::yield_now().await;
    }
}

fn has_succeeded(body: &[u8]) -> bool {
    #[derive(serde::Deserialize)]
    struct Finished<'a> {
        status: &'a str,
    }
    serde_json::from_slice::<Finished>(body).is_ok_and(|finished| finished.status == "succeeded")
}
