//! Messages that concern no turn: what cannot be used goes to the dead letters, dead letters become
//! rows, commands go to the inbox of their execution. Each is tried until it succeeds; only then is the delivery
//! that it came with acknowledged. Lines of logs become rows too, but only if that is soon done.

use std::time::Duration;

use flotilla_protocol::amqp::{Outgoing, PublishOutcome, Publisher};
use flotilla_protocol::message::{TaskDead, WorkflowControlReply};
use flotilla_protocol::{ExecutionId, names};
use flotilla_turn::Input;
use flotilla_turn::message::{
    ControlRequest, DeadLetter, DeliveryId, Forward, RefusedMessage, ReplyAddress,
};
use flotilla_turn::rows::PartitionNo;
use tokio::sync::mpsc;

use crate::orders::ORDER_LIMIT;
use crate::reception::unknown_command;
use crate::storage::{self, DeadLetterRow, chain, within};
use crate::task_logs::LogWriter;

const AGAIN_AFTER: Duration = Duration::from_millis(300);

/// What passing on needs.
#[derive(Clone)]
pub(crate) struct Forwarding {
    pub publisher: Publisher,
    pub pool: sqlx::PgPool,
    pub logs: LogWriter,
    pub inputs: mpsc::UnboundedSender<Input>,
}

impl Forwarding {
    /// Passes a message on, then tells the turn logic.
    pub async fn run(self, delivery: DeliveryId, forward: Forward) {
        match forward {
            Forward::Refused(refused) => self.refused(refused).await,
            Forward::Control { request, original } => self.control(request, original).await,
            Forward::Start {
                partition,
                original,
            } => self.deliver(to_inbox(partition, original)).await,
            Forward::Dead(letter) => self.dead(letter).await,
            Forward::Returned(jobs) => self.returned(jobs).await,
            Forward::Log(log) => self.logs.write(log).await,
        }
        // Nobody waits any more when the coordinator has stopped; the message comes again.
        let _ = self.inputs.send(Input::Forwarded(delivery));
    }

    /// Hands a command to the inbox of its execution, whoever owns that; nobody else may carry it
    /// out.
    async fn control(&self, request: ControlRequest, original: RefusedMessage) {
        let execution_id = request.control.execution_id;
        let partition = loop {
            let looking = storage::partition_of(&self.pool, execution_id);
            match within(ORDER_LIMIT, looking).await {
                Ok(partition) => break partition,
                Err(error) => {
                    tracing::warn!(error = chain(&error), "a partition cannot be looked up");
                    tokio::time::sleep(AGAIN_AFTER).await;
                }
            }
        };
        match (partition, request.reply_to) {
            (Some(partition), _) => self.deliver(to_inbox(partition, original)).await,
            (None, Some(to)) => {
                let command = request.control.command;
                self.refuse(execution_id, command, "unknown_execution", &to)
                    .await;
            }
            (None, None) => {}
        }
    }

    async fn refuse(
        &self,
        execution_id: ExecutionId,
        command: String,
        reason: &str,
        to: &ReplyAddress,
    ) {
        let reply = WorkflowControlReply {
            execution_id,
            command,
            accepted: false,
            reason: Some(reason.to_owned()),
            detail: None,
        };
        let correlation_id = to.correlation_id.as_deref();
        self.publish(Outgoing::control_reply(
            &to.reply_to,
            correlation_id,
            &reply,
        ))
        .await;
    }

    async fn refused(&self, refused: RefusedMessage) {
        tracing::warn!(
            queue = refused.queue,
            reason = refused.reason,
            detail = refused.detail,
            "a message cannot be used"
        );
        if let Some((execution_id, command, to)) = unknown_command(&refused) {
            self.refuse(execution_id, command, "unknown_command", &to)
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
            let storing = storage::insert_dead_letter(&self.pool, &row);
            match within(ORDER_LIMIT, storing).await {
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

    async fn returned(&self, jobs: Vec<(String, TaskDead)>) {
        tracing::info!(jobs = jobs.len(), "a bundle of jobs came back");
        let messages = jobs
            .iter()
            .map(|(reply_to, dead)| self.deliver(Outgoing::dead(reply_to, dead)));
        futures::future::join_all(messages).await;
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

    /// Publishes until the broker has it: an inbox may be missing for a moment.
    async fn deliver(&self, message: Outgoing) {
        while self.publisher.publish(message.clone()).await != PublishOutcome::Confirmed {
            tokio::time::sleep(AGAIN_AFTER).await;
        }
    }
}

/// A message of a user, unchanged, for the owner of a partition.
fn to_inbox(partition: PartitionNo, original: RefusedMessage) -> Outgoing {
    let envelope = original.envelope;
    Outgoing {
        message_id: envelope.message_id,
        correlation_id: envelope.correlation_id,
        reply_to: envelope.reply_to,
        traceparent: envelope.traceparent,
        ..Outgoing::to_queue(
            names::inbox_queue(partition),
            envelope.message_type.unwrap_or_default(),
            original.body,
        )
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
