//! Messages on their way out: where each one goes, and with which properties.

use std::borrow::Cow;

use serde::Serialize;

use super::delivery::Delivery;
use crate::bundle::BundledJob;
use crate::envelope::Envelope;
use crate::message::{
    CoordinatorProbe, TaskCancel, TaskCompleted, TaskDead, TaskJob, TaskLog, TaskStarted,
    WorkflowControl, WorkflowControlReply, WorkflowFinished, WorkflowRejected, WorkflowStart,
    WorkflowStarted,
};
use crate::names;
use crate::refusal::Refusal;

/// A message to publish. It is always persistent JSON of this contract's version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// The exchange; empty: `routing_key` is the name of a queue.
    pub exchange: Cow<'static, str>,
    /// The routing key.
    pub routing_key: String,
    /// The property `type`; empty: none.
    pub message_type: Cow<'static, str>,
    /// Makes the message idempotent.
    pub message_id: Option<String>,
    /// What an answer refers to.
    pub correlation_id: Option<String>,
    /// The queue for answers.
    pub reply_to: Option<String>,
    /// The trace that the message belongs to.
    pub traceparent: Option<String>,
    /// Further headers; one of a name that is set anyway wins.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
    /// Whether the broker returns the message if no queue takes it.
    pub mandatory: bool,
}

impl Outgoing {
    /// A message with nothing but a place, a type and a body.
    #[must_use]
    pub fn new(
        exchange: impl Into<Cow<'static, str>>,
        routing_key: impl Into<String>,
        message_type: impl Into<Cow<'static, str>>,
        body: Vec<u8>,
    ) -> Self {
        Self {
            exchange: exchange.into(),
            routing_key: routing_key.into(),
            message_type: message_type.into(),
            message_id: None,
            correlation_id: None,
            reply_to: None,
            traceparent: None,
            headers: Vec::new(),
            body,
            mandatory: true,
        }
    }

    /// A message straight to a queue.
    #[must_use]
    pub fn to_queue(
        queue: impl Into<String>,
        message_type: impl Into<Cow<'static, str>>,
        body: Vec<u8>,
    ) -> Self {
        Self::new("", queue, message_type, body)
    }

    /// `workflow.start`; set `message_id`, `reply_to` and `correlation_id` as wanted.
    #[must_use]
    pub fn start(start: &WorkflowStart) -> Self {
        let key = names::WORKFLOW_START;
        Self::new(names::EXCHANGE, key, key, json(start))
    }

    /// `workflow.control`; set `message_id`, `reply_to` and `correlation_id` as wanted.
    #[must_use]
    pub fn control(control: &WorkflowControl) -> Self {
        let key = names::WORKFLOW_CONTROL;
        Self::new(names::EXCHANGE, key, key, json(control))
    }

    /// A delivered `workflow.control`, unchanged, to the inbox of `partition`.
    #[must_use]
    pub fn forwarded_control(delivery: &Delivery, partition: i32) -> Self {
        let queue = names::inbox_queue(partition);
        let message = Self::to_queue(queue, names::WORKFLOW_CONTROL, delivery.body.clone());
        message.with_envelope(&delivery.envelope)
    }

    /// `task.job` for the workers of `pool`, whose answers go to the inbox of `partition`.
    #[must_use]
    pub fn job(pool: &str, partition: i32, job: &TaskJob) -> Self {
        let key = names::job_routing_key(pool);
        Self {
            message_id: Some(names::job_message_id(job.task_id, job.attempt)),
            correlation_id: Some(job.execution_id.to_string()),
            reply_to: Some(names::inbox_queue(partition)),
            ..Self::new(names::EXCHANGE, key, names::TASK_JOB, json(job))
        }
    }

    /// `task.bundle` for the workers of `pool` that consume bundles; the body is that of a
    /// [`BundleWriter`](crate::bundle::BundleWriter).
    #[must_use]
    pub fn bundle(pool: &str, body: Vec<u8>) -> Self {
        let key = names::bundle_routing_key(pool);
        Self::new(names::EXCHANGE, key, names::TASK_BUNDLE, body)
    }

    /// A job of a bundle, as the `task.job` that it would have been alone.
    #[must_use]
    pub fn unbundled(pool: &str, job: BundledJob) -> Self {
        let key = names::job_routing_key(pool);
        Self::new(names::EXCHANGE, key, names::TASK_JOB, job.body).with_envelope(&job.envelope)
    }

    /// `task.completed` to a job's `reply_to`; one completion as an object, several as a list.
    #[must_use]
    pub fn completed(reply_to: &str, completions: &[TaskCompleted]) -> Self {
        let body = match completions {
            [completed] => json(completed),
            _ => json(completions),
        };
        Self::to_queue(reply_to, names::TASK_COMPLETED, body)
    }

    /// `task.started` to a job's `reply_to`.
    #[must_use]
    pub fn task_started(reply_to: &str, started: &TaskStarted) -> Self {
        Self::to_queue(reply_to, names::TASK_STARTED, json(started))
    }

    /// `task.heartbeat` to a job's `reply_to`.
    #[must_use]
    pub fn heartbeat(reply_to: &str, alive: &TaskStarted) -> Self {
        Self::to_queue(reply_to, names::TASK_HEARTBEAT, json(alive))
    }

    /// `task.dead` to a job's `reply_to`.
    #[must_use]
    pub fn dead(reply_to: &str, dead: &TaskDead) -> Self {
        Self::to_queue(reply_to, names::TASK_DEAD, json(dead))
    }

    /// `task.log` to a job's `reply_to`.
    #[must_use]
    pub fn log(reply_to: &str, log: &TaskLog) -> Self {
        Self::to_queue(reply_to, names::TASK_LOG, json(log))
    }

    /// `task.cancel` to all workers; it is no fault if there are none.
    #[must_use]
    pub fn cancel(cancel: &TaskCancel) -> Self {
        Self {
            mandatory: false,
            ..Self::new(names::CANCEL_EXCHANGE, "", names::TASK_CANCEL, json(cancel))
        }
    }

    /// `coordinator.probe` to the inbox that it asks about.
    #[must_use]
    pub fn probe(probe: &CoordinatorProbe) -> Self {
        let queue = names::inbox_queue(probe.partition);
        Self::to_queue(queue, names::COORDINATOR_PROBE, json(probe))
    }

    /// `workflow.started`, an answer.
    #[must_use]
    pub fn started(reply_to: &str, correlation_id: Option<&str>, body: &WorkflowStarted) -> Self {
        Self::reply(
            reply_to,
            correlation_id,
            names::WORKFLOW_STARTED,
            json(body),
        )
    }

    /// `workflow.rejected`, an answer.
    #[must_use]
    pub fn rejected(reply_to: &str, correlation_id: Option<&str>, body: &WorkflowRejected) -> Self {
        Self::reply(
            reply_to,
            correlation_id,
            names::WORKFLOW_REJECTED,
            json(body),
        )
    }

    /// `workflow.finished`, an answer.
    #[must_use]
    pub fn finished(reply_to: &str, correlation_id: Option<&str>, body: &WorkflowFinished) -> Self {
        Self::reply(
            reply_to,
            correlation_id,
            names::WORKFLOW_FINISHED,
            json(body),
        )
    }

    /// `workflow.control.reply`, an answer.
    #[must_use]
    pub fn control_reply(
        reply_to: &str,
        correlation_id: Option<&str>,
        body: &WorkflowControlReply,
    ) -> Self {
        Self::reply(
            reply_to,
            correlation_id,
            names::WORKFLOW_CONTROL_REPLY,
            json(body),
        )
    }

    /// Any answer, with a body that is JSON already.
    #[must_use]
    pub fn reply(
        reply_to: &str,
        correlation_id: Option<&str>,
        message_type: impl Into<Cow<'static, str>>,
        body: Vec<u8>,
    ) -> Self {
        Self {
            correlation_id: correlation_id.map(str::to_owned),
            ..Self::to_queue(reply_to, message_type, body)
        }
    }

    /// A delivery of `queue` that cannot be used, to the dead letters.
    #[must_use]
    pub fn dead_letter(delivery: &Delivery, queue: &str, refusal: Refusal) -> Self {
        let message_type = delivery.envelope.message_type.clone().unwrap_or_default();
        let message = Self::new(names::DEAD, "", message_type, delivery.body.clone());
        let mut message = message.with_envelope(&delivery.envelope);
        let mut header = |name: &str, value: &str| {
            message.headers.push((name.to_owned(), value.to_owned()));
        };
        header(names::REASON_HEADER, refusal.reason());
        header(names::QUEUE_HEADER, queue);
        if let Some(version) = delivery.envelope.version {
            header(names::VERSION_HEADER, &version.to_string());
        }
        message
    }

    /// Takes over what an envelope says about ids, answers and trace.
    fn with_envelope(self, envelope: &Envelope) -> Self {
        Self {
            message_id: envelope.message_id.clone(),
            correlation_id: envelope.correlation_id.clone(),
            reply_to: envelope.reply_to.clone(),
            traceparent: envelope.traceparent.clone(),
            ..self
        }
    }
}

fn json<T: Serialize + ?Sized>(message: &T) -> Vec<u8> {
    serde_json::to_vec(message).expect("messages have text keys and serialize into memory")
}
