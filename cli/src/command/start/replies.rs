//! What a coordinator says to a start message.

use flotilla_protocol::amqp::Delivery;
use flotilla_protocol::message::{WorkflowFinished, WorkflowRejected, WorkflowStarted};
use flotilla_protocol::names;

use super::Started;
use super::wait::Ended;
use crate::failure::Failure;
use crate::replies::Replies;

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

/// The replies to a start.
pub struct StartReplies {
    replies: Replies,
    /// An end that came before anybody waited for it.
    finished: Option<Ended>,
}

impl StartReplies {
    /// Those that come as `replies`.
    pub fn new(replies: Replies) -> Self {
        Self {
            replies,
            finished: None,
        }
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
        self.replies.is_open()
    }

    /// The next reply; `None` once the connection is lost, and the queue with it. Cancel-safe.
    pub async fn next(&mut self) -> Option<Reply> {
        loop {
            let delivery = self.replies.next().await?;
            if let Some(reply) = read(&delivery) {
                return Some(reply);
            }
        }
    }

    /// Disconnects; the queue goes with the connection.
    pub async fn close(self) {
        self.replies.close().await;
    }
}

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
