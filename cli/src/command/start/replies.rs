//! The replies to one start message, from a queue of its own.

use flotilla_protocol::amqp::{Connection, Consumer, Delivery, queue_depth, reply_queue};
use flotilla_protocol::message::{WorkflowFinished, WorkflowRejected, WorkflowStarted};
use flotilla_protocol::names;

use super::Started;
use super::wait::Ended;
use crate::broker;
use crate::failure::Failure;

/// Replies that the client holds at a time.
const PREFETCH: u16 = 10;

/// What a coordinator says.
#[derive(Debug)]
pub enum Reply {
    /// The start was accepted.
    Started(WorkflowStarted),
    /// The start was refused.
    Rejected(WorkflowRejected),
    /// The execution has ended.
    Finished(WorkflowFinished),
}

impl Reply {
    /// Takes over what the reply says of the start; gives back the end, if it is one.
    pub fn note(self, started: &mut Started) -> Result<Option<Ended>, Failure> {
        match self {
            Self::Started(reply) => {
                started.id = Some(reply.execution_id);
                started.created = Some(reply.created);
                Ok(None)
            }
            Self::Rejected(reply) => Err(rejection(&reply)),
            Self::Finished(reply) => {
                started.id = Some(reply.execution_id);
                Ok(Some(Ended::from(reply)))
            }
        }
    }
}

fn rejection(reply: &WorkflowRejected) -> Failure {
    let failure = Failure::refused(format!(
        "the start was rejected: {} ({})",
        reply.error.message, reply.error.kind
    ))
    .of_kind(reply.error.kind.as_str());
    match reply.error.kind.as_str() {
        "unknown_workflow" | "unknown_version" => {
            failure.hint("`flotilla register FILE` makes it known")
        }
        "id_conflict" => failure.hint("choose another --id or --key"),
        _ => failure,
    }
}

/// The broker was never set up for Flotilla.
pub fn not_migrated() -> Failure {
    Failure::refused("the broker has no queue for start messages, so nothing was started")
        .hint("`flotilla migrate` declares the queues")
        .of_kind("not_migrated")
}

/// The queue of replies.
pub struct Replies {
    queue: String,
    correlation_id: String,
    connection: Connection,
    consumer: Option<Consumer>,
    /// An end that came before anybody waited for it.
    finished: Option<Ended>,
}

impl Replies {
    /// Connects and consumes a new queue.
    pub async fn open(amqp_url: &str, correlation_id: String) -> Result<Self, Failure> {
        let connection = broker::connect(amqp_url).await?;
        let could_not = |error| broker::failed("could not open a queue for replies", error);
        if queue_depth(&connection, names::START_QUEUE)
            .await
            .map_err(could_not)?
            .is_none()
        {
            return Err(not_migrated());
        }
        let queue = reply_queue(&connection).await.map_err(could_not)?;
        let consumer = connection.consume(&queue, PREFETCH).await;
        Ok(Self {
            consumer: Some(consumer.map_err(could_not)?),
            queue,
            correlation_id,
            connection,
            finished: None,
        })
    }

    /// The name of the queue.
    pub fn queue(&self) -> &str {
        &self.queue
    }

    /// Keeps an end until somebody waits for it.
    pub fn keep(&mut self, finished: Option<Ended>) {
        if finished.is_some() {
            self.finished = finished;
        }
    }

    /// The end that was kept.
    pub fn take_finished(&mut self) -> Option<Ended> {
        self.finished.take()
    }

    /// Whether replies may still come.
    pub fn is_open(&self) -> bool {
        self.consumer.is_some()
    }

    /// The next reply; `None` once the connection is lost, and the queue with it. Cancel-safe.
    pub async fn next(&mut self) -> Option<Reply> {
        while let Some(consumer) = self.consumer.as_mut() {
            let Some(delivery) = consumer.next().await else {
                self.consumer = None;
                break;
            };
            if delivery.envelope.correlation_id.as_deref() == Some(&self.correlation_id)
                && let Some(reply) = read(&delivery)
            {
                return Some(reply);
            }
        }
        None
    }

    /// Disconnects; the queue goes with the connection.
    pub async fn close(self) {
        drop(self.consumer);
        self.connection.close().await;
    }
}

/// Nothing is acknowledged: the queue ends with the command, and a start has three replies at most.
fn read(delivery: &Delivery) -> Option<Reply> {
    let body = &delivery.body;
    let reply = match delivery.envelope.message_type.as_deref()? {
        names::WORKFLOW_STARTED => serde_json::from_slice(body).map(Reply::Started),
        names::WORKFLOW_REJECTED => serde_json::from_slice(body).map(Reply::Rejected),
        names::WORKFLOW_FINISHED => serde_json::from_slice(body).map(Reply::Finished),
        _ => return None,
    };
    reply
        .inspect_err(|error| tracing::warn!(%error, "a reply that cannot be read"))
        .ok()
}
