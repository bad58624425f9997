//! The border to the broker: a delivery becomes a message that the turn logic understands, or one
//! that is passed on.

use std::hash::{DefaultHasher, Hash, Hasher};

use flotilla_protocol::amqp::Delivery;
use flotilla_protocol::decode::{
    InboxMessage, control_names, decode_control, decode_inbox, decode_job, decode_start,
};
use flotilla_protocol::envelope::Envelope;
use flotilla_protocol::message::{TaskDead, WorkflowControl};
use flotilla_protocol::refusal::{Refusal, Refused};
use flotilla_protocol::{ExecutionId, names};
use flotilla_turn::message::{
    ChannelId, ControlRequest, DeadLetter, Delivered, DeliveryId, Forward, Message, RefusedMessage,
    ReplyAddress, StartRequest,
};
use uuid::Uuid;

/// Deliveries before the one at which a message becomes a suspect.
const SUSPECT_AFTER: u32 = 3;

/// Reads a delivery of `channel`.
pub(crate) fn receive(
    channel: ChannelId,
    generation: u64,
    queue: &str,
    delivery: Delivery,
) -> Delivered {
    let suspect_key = (delivery.envelope.delivery_count >= SUSPECT_AFTER)
        .then(|| key(queue, &delivery.envelope, &delivery.body));
    let id = DeliveryId {
        channel,
        generation,
        tag: delivery.tag,
    };
    let bytes = delivery.body.len();
    let message = match channel {
        ChannelId::Start => start(queue, delivery),
        ChannelId::Control => control(queue, delivery),
        ChannelId::Dead => Message::Forward(Box::new(dead(delivery))),
        ChannelId::Inbox(_) => inbox(queue, delivery),
    };
    Delivered {
        id,
        bytes,
        suspect_key,
        message,
    }
}

fn start(queue: &str, delivery: Delivery) -> Message {
    let mut start = match decode_start(&delivery.envelope, &delivery.body) {
        Ok(start) => start,
        Err(refused) => return refuse(queue, delivery, refused),
    };
    if start.execution_id.is_none() && start.idempotency_key.is_none() {
        let message_id = delivery.envelope.message_id.as_deref();
        start.execution_id = message_id
            .and_then(|id| Uuid::parse_str(id).ok())
            .map(ExecutionId);
    }
    let (reply_to, traceparent) = (
        reply_address(&delivery.envelope),
        delivery.envelope.traceparent.clone(),
    );
    let original = original(queue, delivery, Refusal::Rejected, String::new());
    Message::Start(Box::new(StartRequest {
        start,
        fresh_id: ExecutionId(Uuid::now_v7()),
        reply_to,
        traceparent,
        original,
    }))
}

fn inbox(queue: &str, delivery: Delivery) -> Message {
    if delivery.envelope.message_type.as_deref() == Some(names::WORKFLOW_START) {
        return start(queue, delivery);
    }
    match decode_inbox(&delivery.envelope, &delivery.body) {
        Ok(InboxMessage::Control(command)) => {
            Message::Control(Box::new(request(command, &delivery.envelope)))
        }
        Ok(InboxMessage::Log(log)) => Message::Forward(Box::new(Forward::Log(log))),
        Ok(message) => Message::Inbox(message),
        Err(mut refused) => {
            let completed = std::mem::take(&mut refused.salvaged);
            if completed.is_empty() {
                return refuse(queue, delivery, refused);
            }
            let refused = Box::new(original(queue, delivery, refused.refusal, refused.message));
            Message::Salvaged { completed, refused }
        }
    }
}

fn control(queue: &str, delivery: Delivery) -> Message {
    match decode_control(&delivery.envelope, &delivery.body) {
        Ok(command) => {
            let request = request(command, &delivery.envelope);
            let original = original(queue, delivery, Refusal::Rejected, String::new());
            Message::Forward(Box::new(Forward::Control { request, original }))
        }
        Err(refused) => refuse(queue, delivery, refused),
    }
}

fn request(control: WorkflowControl, envelope: &Envelope) -> ControlRequest {
    ControlRequest {
        control,
        message_id: envelope.message_id.clone(),
        reply_to: reply_address(envelope),
    }
}

fn refuse(queue: &str, delivery: Delivery, refused: Refused) -> Message {
    let refused = original(queue, delivery, refused.refusal, refused.message);
    Message::Forward(Box::new(Forward::Refused(refused)))
}

fn original(queue: &str, delivery: Delivery, refusal: Refusal, detail: String) -> RefusedMessage {
    RefusedMessage {
        reason: refusal.reason(),
        detail,
        queue: queue.to_owned(),
        envelope: delivery.envelope,
        body: delivery.body,
    }
}

/// Who is told that a command is not known: its sender, beside the dead letter.
pub(crate) fn unknown_command(
    refused: &RefusedMessage,
) -> Option<(ExecutionId, String, ReplyAddress)> {
    if refused.reason != Refusal::UnknownCommand.reason() {
        return None;
    }
    let (execution_id, command) = control_names(&refused.body)?;
    Some((execution_id, command, reply_address(&refused.envelope)?))
}

fn dead(delivery: Delivery) -> Forward {
    let envelope = &delivery.envelope;
    let queue = envelope
        .original_queue
        .clone()
        .unwrap_or_else(|| names::DEAD.to_owned());
    let reason = envelope
        .reason
        .clone()
        .unwrap_or_else(|| "unknown".to_owned());
    if let Some(jobs) = returned(&delivery, &reason) {
        return Forward::Returned(jobs);
    }
    let key = key(&queue, envelope, &delivery.body);
    let job = match envelope.message_type.as_deref() {
        Some(names::TASK_JOB) => dead_job(&delivery, &reason, false),
        Some(_) | None => None,
    };
    let ids = ids_of(&delivery.body);
    Forward::Dead(DeadLetter {
        key,
        queue,
        reason,
        message_id: envelope.message_id.clone(),
        execution_id: ids.execution_id,
        task_id: ids.task_id,
        properties: delivery.properties_json(),
        dead_job: job,
        body: delivery.body,
    })
}

/// The jobs of a bundle that came back, which is nothing that anybody would have to look at. One that
/// cannot be read is refused where it is consumed, and becomes a dead letter like any message.
fn returned(delivery: &Delivery, reason: &str) -> Option<Vec<(String, TaskDead)>> {
    if !delivery.is_bundle() {
        return None;
    }
    let jobs = delivery.unbundle().ok()?;
    let told: Vec<_> = jobs
        .iter()
        .filter_map(|job| dead_job(job, reason, true))
        .collect();
    (!told.is_empty()).then_some(told)
}

fn dead_job(delivery: &Delivery, reason: &str, bundled: bool) -> Option<(String, TaskDead)> {
    let reply_to = delivery.envelope.reply_to.clone()?;
    let job = decode_job(&delivery.envelope, &delivery.body).ok()?;
    let dead = TaskDead {
        execution_id: job.execution_id,
        task_id: job.task_id,
        attempt: job.attempt,
        reason: reason.to_owned(),
        deliveries: delivery.envelope.delivery_count,
        bundled,
    };
    Some((reply_to, dead))
}

/// The ids that a body names, as far as it can be read at all.
#[derive(Default, serde::Deserialize)]
struct Ids {
    #[serde(default)]
    execution_id: Option<ExecutionId>,
    #[serde(default)]
    task_id: Option<flotilla_protocol::TaskId>,
}

fn ids_of(body: &[u8]) -> Ids {
    if body.len() > names::MAX_MESSAGE_BYTES {
        return Ids::default();
    }
    serde_json::from_slice(body).unwrap_or_default()
}

fn reply_address(envelope: &Envelope) -> Option<ReplyAddress> {
    let reply_to = envelope
        .reply_to
        .clone()
        .filter(|queue| !queue.is_empty())?;
    Some(ReplyAddress {
        reply_to,
        correlation_id: envelope.correlation_id.clone(),
    })
}

/// The same for every delivery of a message.
fn key(queue: &str, envelope: &Envelope, body: &[u8]) -> String {
    let mut hasher = DefaultHasher::new();
    (
        queue,
        &envelope.message_id,
        &envelope.correlation_id,
        &envelope.reply_to,
        body,
    )
        .hash(&mut hasher);
    let id = envelope.message_id.as_deref().unwrap_or_default();
    format!(
        "{queue}:{}:{:016x}",
        id.chars().take(100).collect::<String>(),
        hasher.finish()
    )
}
