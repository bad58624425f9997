//! What the messages of the simulated broker say. Bodies are structures and not JSON: what is on the
//! wire is pinned elsewhere.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use flotilla_protocol::decode::InboxMessage;
use flotilla_protocol::message::TaskDead;
use flotilla_protocol::{ExecutionId, RunNo, TaskId};
use flotilla_turn::message::{
    ChannelId, ControlRequest, DeadLetter, Delivered, DeliveryId, Forward, Message, RefusedMessage,
    StartRequest,
};
use flotilla_turn::rows::PartitionNo;

use crate::broker::Delivery;

/// Deliveries before the one at which a message becomes a suspect.
const SUSPECT_AFTER: u32 = 3;

/// What a message says.
#[derive(Debug, Clone)]
pub(crate) enum Body {
    Start(Arc<StartRequest>),
    /// With the time at which it arrived.
    Inbox(Arc<InboxMessage>, DateTime<Utc>),
    Control(Arc<ControlRequest>),
    Job(Job),
    /// A bundle, of one job: how many are in it matters to nobody but the worker.
    Bundle(Job),
    Reply(Reply),
    Refused(Refused),
}

impl Body {
    /// A message for an inbox.
    pub fn inbox(message: InboxMessage) -> Self {
        Self::Inbox(Arc::new(message), DateTime::UNIX_EPOCH)
    }
}

/// A job, as far as a worker of the simulation looks at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Job {
    pub execution_id: ExecutionId,
    pub task_id: TaskId,
    pub attempt: u32,
    pub partition: PartitionNo,
}

impl Job {
    pub fn key(&self) -> AttemptKey {
        (self.execution_id, self.task_id.run(), self.attempt)
    }

    pub fn show(&self) -> String {
        show_attempt(self.key())
    }
}

/// Names an attempt.
pub(crate) type AttemptKey = (ExecutionId, RunNo, u32);

pub(crate) fn show_attempt((id, run, attempt): AttemptKey) -> String {
    format!("{}.{run}/{attempt}", show_id(id))
}

/// Ids of the simulation are small numbers.
pub(crate) fn show_id(id: ExecutionId) -> String {
    format!("x{}", id.0.as_u128() & 0xffff_ffff)
}

/// A reply to a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reply {
    pub message_type: String,
    pub text: String,
}

/// A message that somebody could not use.
#[derive(Debug, Clone)]
pub(crate) struct Refused {
    pub reason: &'static str,
}

/// What the coordinator makes of a delivery.
pub(crate) fn receive(
    channel: ChannelId,
    generation: u64,
    delivery: &Delivery<Body>,
    inbox_name: impl Fn(PartitionNo) -> String,
) -> Delivered {
    let stored = &delivery.stored;
    let suspect_key = (stored.returns >= SUSPECT_AFTER).then(|| format!("message {}", stored.no));
    let message = match &stored.message {
        Body::Start(request) => Message::Start(Box::new((**request).clone())),
        Body::Inbox(message, _) => Message::Inbox((**message).clone()),
        Body::Control(request) => control(channel, request),
        Body::Job(job) => dead(
            stored.no,
            "delivery_limit",
            Some((job, stored.returns)),
            inbox_name,
        ),
        Body::Bundle(job) => {
            let told = (inbox_name(job.partition), death(job, stored.returns, true));
            Message::Forward(Box::new(Forward::Returned(vec![told])))
        }
        Body::Refused(refused) => dead(stored.no, refused.reason, None, inbox_name),
        Body::Reply(_) => panic!("coordinators read no replies"),
    };
    Delivered {
        id: DeliveryId {
            channel,
            generation,
            tag: delivery.tag,
        },
        bytes: 100,
        suspect_key,
        message,
    }
}

/// A command is passed on, unless it has come to the inbox of its execution.
fn control(channel: ChannelId, request: &Arc<ControlRequest>) -> Message {
    let request = (**request).clone();
    match channel {
        ChannelId::Inbox(_) => Message::Control(Box::new(request)),
        ChannelId::Start | ChannelId::Control | ChannelId::Dead => {
            Message::Forward(Box::new(Forward::Control {
                request,
                original: RefusedMessage::default(),
            }))
        }
    }
}

fn dead(
    no: u64,
    reason: &str,
    job: Option<(&Job, u32)>,
    inbox_name: impl Fn(PartitionNo) -> String,
) -> Message {
    let dead_job =
        job.map(|(job, deliveries)| (inbox_name(job.partition), death(job, deliveries, false)));
    Message::Forward(Box::new(Forward::Dead(DeadLetter {
        key: format!("message {no}"),
        queue: String::new(),
        reason: reason.to_owned(),
        message_id: None,
        execution_id: job.map(|(job, _)| job.execution_id),
        task_id: job.map(|(job, _)| job.task_id),
        properties: serde_json::Value::Null,
        body: Vec::new(),
        dead_job,
    })))
}

fn death(job: &Job, deliveries: u32, bundled: bool) -> TaskDead {
    TaskDead {
        execution_id: job.execution_id,
        task_id: job.task_id,
        attempt: job.attempt,
        reason: "delivery_limit".to_owned(),
        deliveries,
        bundled,
    }
}
