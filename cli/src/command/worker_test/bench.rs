//! The test as the worker's coordinator: publishes jobs, reads what is said about them, and looks at
//! the queue.

use std::collections::BTreeSet;
use std::time::Duration;

use flotilla_protocol::amqp::{
    ConnectOptions, Connection, Delivery, Outgoing, PublishOutcome, Publisher, PublisherOptions,
    QueueState, queue_state, reply_queue,
};
use flotilla_protocol::message::{TaskCompleted, TaskJob, TaskStarted};
use flotilla_protocol::{ExecutionId, InboxMessage, RawJson, TaskId, decode_inbox, names};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout_at};
use uuid::Uuid;

use super::process::Process;
use super::verdict::{Clause, Stop};
use crate::broker;
use crate::failure::Failure;

/// Time between two looks at what nobody tells of.
const LOOK: Duration = Duration::from_millis(20);
/// How much of an unreadable body is shown.
const SHOWN_BYTES: usize = 200;
/// Bounds of the time in which a worker does what needs no answer.
const SETTLE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(10));
/// The time limit of an ordinary job, in seconds: more than any check waits.
const TIME_LIMIT_S: f64 = 300.0;

/// Something that the worker said about a job.
#[derive(Debug, Clone)]
pub enum Said {
    /// `task.completed`.
    Completed(TaskCompleted),
    /// `task.started`.
    Started(TaskStarted),
    /// `task.heartbeat`.
    Heartbeat,
}

/// Something that was said, in the order of arrival.
#[derive(Debug)]
struct Received {
    at: Instant,
    task_id: TaskId,
    said: Said,
}

/// What the user wants to have tested.
#[derive(Debug, Clone)]
pub struct Subject {
    /// The pool.
    pub pool: String,
    /// The action.
    pub action: String,
    /// An input with which it succeeds.
    pub input: RawJson,
    /// How long an answer may take.
    pub patience: Duration,
    /// How long a worker stands still.
    pub freeze: Duration,
}

/// The test as the worker's coordinator.
pub struct Bench {
    /// What is tested.
    pub subject: Subject,
    /// To declare queues with.
    pub connection: Connection,
    /// The worker, where the test starts it.
    pub worker: Option<Process>,
    /// How long an ordinary job takes, once that is known.
    pub typical: Duration,
    publisher: Publisher,
    reply_to: String,
    incoming: mpsc::UnboundedReceiver<Delivery>,
    listener: mpsc::UnboundedSender<Delivery>,
    received: Vec<Received>,
    asked: BTreeSet<TaskId>,
}

impl Bench {
    /// Connects, and opens the queue for answers.
    pub async fn open(amqp_url: &str, subject: Subject) -> Result<Self, Failure> {
        let connection = broker::connect(amqp_url).await?;
        let reply_to = reply_queue(&connection).await.map_err(cannot_listen)?;
        let name = format!("{} worker-test", broker::CONNECTION_NAME);
        let options = PublisherOptions::new(ConnectOptions::new(amqp_url, name));
        let (listener, incoming) = mpsc::unbounded_channel();
        let bench = Self {
            subject,
            connection,
            worker: None,
            typical: Duration::ZERO,
            publisher: Publisher::start(options),
            reply_to,
            incoming,
            listener,
            received: Vec::new(),
            asked: BTreeSet::new(),
        };
        bench.listen(&bench.reply_to).await?;
        Ok(bench)
    }

    /// Reads another queue of answers, too.
    pub async fn listen(&self, queue: &str) -> Result<(), Failure> {
        let consuming = self.connection.consume(queue, 0).await;
        let mut consumer = consuming.map_err(cannot_listen)?;
        let listener = self.listener.clone();
        tokio::spawn(async move {
            let acker = consumer.acker();
            while let Some(delivery) = consumer.next().await {
                let tag = delivery.tag;
                let is_wanted = listener.send(delivery).is_ok();
                if !is_wanted || !matches!(acker.ack(tag, false).await, Ok(true)) {
                    return;
                }
            }
        });
        Ok(())
    }

    /// The queue of the pool.
    pub fn queue(&self) -> String {
        names::jobs_queue(&self.subject.pool)
    }

    /// A job with the input that succeeds, under fresh ids.
    pub fn job(&mut self) -> TaskJob {
        let input = self.subject.input.clone();
        self.job_with(input)
    }

    /// A job under fresh ids.
    pub fn job_with(&mut self, input: RawJson) -> TaskJob {
        let task_id = TaskId(Uuid::now_v7());
        self.asked.insert(task_id);
        TaskJob {
            execution_id: ExecutionId(Uuid::now_v7()),
            task_id,
            attempt: 1,
            starts: 0,
            resent: false,
            workflow: "worker-test.check".to_owned(),
            task: "check".to_owned(),
            visit: 1,
            action: self.subject.action.clone(),
            input,
            timeout: Some(TIME_LIMIT_S),
            heartbeat: None,
            idempotency_key: format!("worker-test-{task_id}"),
            item: None,
            secrets: Vec::new(),
        }
    }

    /// Publishes a job whose answer comes here.
    pub async fn publish(&self, job: &TaskJob) -> Result<(), Failure> {
        self.publish_for(job, &self.reply_to).await
    }

    /// Publishes a job whose answer goes to another queue.
    pub async fn publish_for(&self, job: &TaskJob, reply_to: &str) -> Result<(), Failure> {
        self.send(self.message(job, reply_to)).await
    }

    /// The message of a job.
    pub fn message(&self, job: &TaskJob, reply_to: &str) -> Outgoing {
        let body = serde_json::to_vec(job).expect("jobs have text keys");
        Outgoing {
            message_id: Some(names::job_message_id(job.task_id, job.attempt)),
            correlation_id: Some(job.execution_id.to_string()),
            reply_to: Some(reply_to.to_owned()),
            ..Outgoing::new(
                names::EXCHANGE,
                names::job_routing_key(&self.subject.pool),
                names::TASK_JOB,
                body,
            )
        }
    }

    /// The queue that answers usually go to.
    pub fn reply_to(&self) -> &str {
        &self.reply_to
    }

    /// Publishes any message.
    pub async fn send(&self, message: Outgoing) -> Result<(), Failure> {
        let what = message.message_type.clone();
        match self.publisher.publish(message).await {
            PublishOutcome::Confirmed => Ok(()),
            outcome @ (PublishOutcome::Returned | PublishOutcome::Nacked) => Err(Failure::refused(
                format!("the broker did not take a {what} ({outcome:?})"),
            )
            .hint("`flotilla migrate` declares exchanges and queues")),
            PublishOutcome::Unknown => Err(Failure::unreachable(format!(
                "the broker did not confirm a {what}"
            ))),
        }
    }

    /// Waits for the answer to a job, which must come and must be for it.
    pub async fn completion(&mut self, job: &TaskJob) -> Result<TaskCompleted, Stop> {
        let until = Instant::now() + self.subject.patience;
        loop {
            if let Some(completed) = self.completions(job).next() {
                let completed = completed.clone();
                return same_job(job, completed);
            }
            if !self.hear(until).await? {
                let seen = self.nothing_came().await?;
                return Clause::Answer.broken(seen);
            }
        }
    }

    /// Takes what is said until a moment, or until the first completion of a job.
    pub async fn hear_until(&mut self, until: Instant, job: &TaskJob) -> Result<(), Stop> {
        while self.completions(job).next().is_none() && self.hear(until).await? {}
        Ok(())
    }

    /// Takes all that is said within a time.
    pub async fn hear_for(&mut self, time: Duration) -> Result<(), Stop> {
        let until = Instant::now() + time;
        while self.hear(until).await? {}
        Ok(())
    }

    /// What was said about a job, in order.
    pub fn said(&self, job: &TaskJob) -> impl Iterator<Item = (Instant, &Said)> {
        let task_id = job.task_id;
        let about = self
            .received
            .iter()
            .filter(move |one| one.task_id == task_id);
        about.map(|one| (one.at, &one.said))
    }

    /// The answers to a job.
    pub fn completions(&self, job: &TaskJob) -> impl Iterator<Item = &TaskCompleted> {
        self.said(job).filter_map(|(_, said)| match said {
            Said::Completed(completed) => Some(completed),
            Said::Started(_) | Said::Heartbeat => None,
        })
    }

    /// Takes one message; false if none came until then.
    async fn hear(&mut self, until: Instant) -> Result<bool, Stop> {
        let Ok(delivery) = timeout_at(until, self.incoming.recv()).await else {
            return Ok(false);
        };
        let Some(delivery) = delivery else {
            return Err(Failure::unreachable("the connection to the broker is lost").into());
        };
        self.take(&delivery)?;
        Ok(true)
    }

    fn take(&mut self, delivery: &Delivery) -> Result<(), Stop> {
        if delivery.envelope.message_type.as_deref() == Some(FILLER) {
            return Ok(());
        }
        let message = match decode_inbox(&delivery.envelope, &delivery.body) {
            Ok(message) => message,
            Err(refused) => {
                let shown = &delivery.body[..delivery.body.len().min(SHOWN_BYTES)];
                let shown = String::from_utf8_lossy(shown);
                let seen = format!("a coordinator refuses what came ({refused}): {shown}");
                return Clause::Answer.broken(seen);
            }
        };
        match message {
            InboxMessage::Completed(all) => {
                for completed in all {
                    self.note(completed.task_id, Said::Completed(completed));
                }
            }
            InboxMessage::Started(started) => self.note(started.task_id, Said::Started(started)),
            InboxMessage::Heartbeat(alive) => self.note(alive.task_id, Said::Heartbeat),
            // Lines of logs are best effort; the rest is said by coordinators.
            InboxMessage::Log(_)
            | InboxMessage::Dead(_)
            | InboxMessage::Probe(_)
            | InboxMessage::Control(_) => {}
        }
        Ok(())
    }

    fn note(&mut self, task_id: TaskId, said: Said) {
        let at = Instant::now();
        self.received.push(Received { at, task_id, said });
    }

    /// Where a job may be to which no answer came.
    async fn nothing_came(&self) -> Result<String, Failure> {
        let state = self.state().await?;
        let mut seen = format!(
            "no answer within {} s; {} jobs wait in {}, {} consume it",
            self.subject.patience.as_secs_f64(),
            state.messages,
            self.queue(),
            state.consumers
        );
        let strange = self.received.iter();
        let strange = strange.filter(|one| !self.asked.contains(&one.task_id));
        if let Some(one) = strange.last() {
            seen.push_str("; something was said about the task ");
            seen.push_str(&one.task_id.to_string());
            seen.push_str(", which nobody asked for");
        }
        Ok(seen)
    }

    /// What the broker tells about the queue of the pool.
    pub async fn state(&self) -> Result<QueueState, Failure> {
        let name = self.queue();
        let state = queue_state(&self.connection, &name).await;
        let state = state.map_err(|error| broker::failed("could not look at the queue", error))?;
        state.ok_or_else(|| Failure::refused(format!("the queue {name} was deleted meanwhile")))
    }

    /// Waits until the queue is as wanted; false if that takes longer than the patience.
    pub async fn queue_is(&self, wanted: impl Fn(QueueState) -> bool) -> Result<bool, Failure> {
        let until = Instant::now() + self.subject.patience;
        while !wanted(self.state().await?) {
            if Instant::now() > until {
                return Ok(false);
            }
            sleep(LOOK).await;
        }
        Ok(true)
    }

    /// Waits until a worker has taken all jobs.
    pub async fn taken(&self) -> Result<(), Stop> {
        if self.queue_is(|state| state.messages == 0).await? {
            return Ok(());
        }
        let seen = self.nothing_came().await?;
        Clause::Answer.broken(seen)
    }

    /// Gives the worker the time that it usually needs, and more.
    pub async fn settle(&mut self) -> Result<(), Stop> {
        let (least, most) = SETTLE;
        self.hear_for((self.typical * 3).clamp(least, most)).await
    }
}

/// The type of a message that only takes up room.
pub const FILLER: &str = "worker-test.filler";

fn same_job(job: &TaskJob, completed: TaskCompleted) -> Result<TaskCompleted, Stop> {
    let asked = (job.execution_id, job.attempt);
    let told = (completed.execution_id, completed.attempt);
    if asked == told {
        return Ok(completed);
    }
    Clause::Ids.broken(format!(
        "attempt {} of execution {} was answered as attempt {} of execution {}",
        asked.1, asked.0, told.1, told.0
    ))
}

fn cannot_listen(error: flotilla_protocol::amqp::AmqpError) -> Failure {
    broker::failed("could not open a queue for answers", error)
}
