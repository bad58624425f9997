//! Messages that concern no turn: what cannot be used goes to the dead letters, dead letters become
//! rows, control messages are answered. Each is tried until it succeeds; only then is the delivery
//! that it came with acknowledged.

use std::time::Duration;

use flotilla_protocol::amqp::{Outgoing, PublishOutcome, Publisher};
use flotilla_protocol::message::WorkflowControlReply;
use flotilla_protocol::names;
use flotilla_turn::Input;
use flotilla_turn::message::{DeadLetter, DeliveryId, Forward, RefusedMessage};
use tokio::sync::mpsc;

use crate::reception::unknown_command;
use crate::storage::{self, DeadLetterRow, chain};

const AGAIN_AFTER: Duration = Duration::from_millis(300);

/// What passing on needs.
#[derive(Clone)]
pub(crate) struct Forwarding {
    pub publisher: Publisher,
    pub pool: sqlx::PgPool,
    pub inputs: mpsc::UnboundedSender<Input>,
}

impl Forwarding {
    /// Passes a message on, then tells the turn logic.
    pub async fn run(self, delivery: DeliveryId, forward: Forward) {
        match forward {
            Forward::Refused(refused) => self.refused(refused).await,
            Forward::Control { control, reply_to } => {
                if let Some(to) = reply_to {
                    let reply = WorkflowControlReply {
                        execution_id: control.execution_id,
                        command: control.command,
                        accepted: false,
                        reason: Some("not_supported".to_owned()),
                    };
                    self.publish(Outgoing::control_reply(
                        &to.reply_to,
                        to.correlation_id.as_deref(),
                        &reply,
                    ))
                    .await;
                }
            }
            Forward::Dead(letter) => self.dead(letter).await,
        }
        // Nobody waits any more when the coordinator has stopped; the message comes again.
        let _ = self.inputs.send(Input::Forwarded(delivery));
    }

    async fn refused(&self, refused: RefusedMessage) {
        tracing::warn!(
            queue = refused.queue,
            reason = refused.reason,
            detail = refused.detail,
            "a message cannot be used"
        );
        if let Some((execution_id, command, to)) = unknown_command(&refused) {
            let reason = Some("unknown_command".to_owned());
            let reply = WorkflowControlReply {
                execution_id,
                command,
                accepted: false,
                reason,
            };
            self.publish(Outgoing::control_reply(
                &to.reply_to,
                to.correlation_id.as_deref(),
                &reply,
            ))
            .await;
        }
        self.publish(dead_letter(refused)).await;
    }

    async fn dead(&self, letter: DeadLetter) {
        let row = DeadLetterRow {
            key: letter.key,
            queue: letter.queue,
            reason: letter.reason,
            message_id: letter.message_id,
            execution_id: letter.execution_id,
            task_id: letter.task_id,
            properties: letter.properties,
            body: letter.body,
        };
        loop {
            match storage::insert_dead_letter(&self.pool, &row).await {
                Ok(_) => break,
                Err(error) => {
                    tracing::warn!(error = chain(&error), "a dead letter could not be stored");
                    tokio::time::sleep(AGAIN_AFTER).await;
                }
            }
        }
        if let Some((reply_to, dead)) = letter.dead_job {
            self.publish(Outgoing::dead(&reply_to, &dead)).await;
        }
    }

    /// Publishes until the broker has it, or says that nobody wants it.
    async fn publish(&self, message: Outgoing) {
        loop {
            match self.publisher.publish(message.clone()).await {
                PublishOutcome::Confirmed | PublishOutcome::Returned => return,
                PublishOutcome::Nacked | PublishOutcome::Unknown => {
                    tokio::time::sleep(AGAIN_AFTER).await;
                }
            }
        }
    }
}

/// The message as it came, with the reason and the queue as headers.
fn dead_letter(refused: RefusedMessage) -> Outgoing {
    let RefusedMessage {
        reason,
        queue,
        envelope,
        body,
        ..
    } = refused;
    let mut headers = vec![
        (names::REASON_HEADER.to_owned(), reason.to_owned()),
        (names::QUEUE_HEADER.to_owned(), queue),
    ];
    if let Some(version) = envelope.version {
        headers.push((names::VERSION_HEADER.to_owned(), version.to_string()));
    }
    Outgoing {
        message_id: envelope.message_id,
        correlation_id: envelope.correlation_id,
        reply_to: envelope.reply_to,
        traceparent: envelope.traceparent,
        headers,
        ..Outgoing::new(
            names::DEAD,
            "",
            envelope.message_type.unwrap_or_default(),
            body,
        )
    }
}
