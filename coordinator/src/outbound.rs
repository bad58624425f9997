//! Publishing: all at once, in order, each with a confirm; answers come back in batches.

use std::sync::Arc;
use std::time::Duration;

use flotilla_protocol::amqp::{Outcomes, Outgoing, PublishOutcome, Publisher};
use flotilla_protocol::names;
use flotilla_turn::{Destination, Input, Publication};
use tokio::sync::mpsc;

/// Wait before a publication that was refused is tried again, so that a full queue is not hammered.
const REFUSED_WAIT: Duration = Duration::from_millis(100);
/// Outcomes that are reported together at most.
const MAX_REPORTED: usize = 4096;

/// Publishes what turns owe.
pub(crate) struct Outbound {
    publisher: Publisher,
    outcomes: Outcomes,
}

impl Outbound {
    pub fn new(publisher: Publisher, inputs: mpsc::UnboundedSender<Input>) -> Self {
        let (outcomes, receiver) = mpsc::unbounded_channel();
        tokio::spawn(collect(receiver, inputs));
        Self {
            publisher,
            outcomes,
        }
    }

    pub fn publisher(&self) -> &Publisher {
        &self.publisher
    }

    /// Publishes; the messages have their places in the order when this returns.
    pub fn publish(&self, publications: &[Arc<Publication>]) {
        for publication in publications {
            self.publisher
                .enqueue_numbered(outgoing(publication), publication.id, &self.outcomes);
        }
    }
}

/// Waits for outcomes and reports what has come, as much as there is at a time.
async fn collect(
    mut receiver: mpsc::UnboundedReceiver<(u64, PublishOutcome)>,
    inputs: mpsc::UnboundedSender<Input>,
) {
    let mut outcomes = Vec::new();
    while receiver.recv_many(&mut outcomes, MAX_REPORTED).await > 0 {
        let mut confirmed = Vec::new();
        for (id, outcome) in outcomes.drain(..) {
            match outcome {
                PublishOutcome::Confirmed => confirmed.push(id),
                // Inputs that nobody takes any more belong to a coordinator that has stopped.
                PublishOutcome::Returned => drop(inputs.send(Input::PublishReturned(id))),
                PublishOutcome::Nacked => {
                    tokio::time::sleep(REFUSED_WAIT).await;
                    drop(inputs.send(Input::PublishFailed(id)));
                }
                PublishOutcome::Unknown => drop(inputs.send(Input::PublishFailed(id))),
            }
        }
        if !confirmed.is_empty() && inputs.send(Input::PublishConfirmed(confirmed)).is_err() {
            return;
        }
    }
}

fn outgoing(publication: &Publication) -> Outgoing {
    let body = publication.body.clone();
    match &publication.to {
        Destination::Pool {
            pool,
            message_id,
            execution_id,
            partition,
            traceparent,
        } => Outgoing {
            message_id: Some(message_id.clone()),
            correlation_id: Some(execution_id.to_string()),
            reply_to: Some(names::inbox_queue(*partition)),
            traceparent: traceparent.as_deref().map(str::to_owned),
            ..Outgoing::new(
                names::EXCHANGE,
                names::job_routing_key(pool),
                names::TASK_JOB,
                body,
            )
        },
        Destination::Client {
            reply_to,
            correlation_id,
            message_type,
        } => Outgoing::reply(
            reply_to,
            correlation_id.as_deref(),
            message_type.clone(),
            body,
        ),
    }
}
