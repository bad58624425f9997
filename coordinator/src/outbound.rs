//! Publishing: all at once, in order, each with a confirm; answers come back in batches.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use flotilla_protocol::amqp::{Outgoing, PublishOutcome, Publisher};
use flotilla_protocol::names;
use flotilla_turn::{Destination, Input, Publication};
use futures::StreamExt;
use futures::future::{BoxFuture, FutureExt};
use futures::stream::FuturesUnordered;
use tokio::sync::mpsc;

/// Wait before a publication that was refused is tried again, so that a full queue is not hammered.
const REFUSED_WAIT: Duration = Duration::from_millis(100);

type Outcome = (u64, PublishOutcome);

/// Publishes what turns owe.
pub(crate) struct Outbound {
    publisher: Publisher,
    waiting: mpsc::UnboundedSender<Pin<Box<dyn Future<Output = Outcome> + Send>>>,
}

impl Outbound {
    pub fn new(publisher: Publisher, inputs: mpsc::UnboundedSender<Input>) -> Self {
        let (waiting, receiver) = mpsc::unbounded_channel();
        tokio::spawn(collect(receiver, inputs));
        Self { publisher, waiting }
    }

    pub fn publisher(&self) -> &Publisher {
        &self.publisher
    }

    /// Publishes; the messages have their places in the order when this returns.
    pub fn publish(&self, publications: &[Arc<Publication>]) {
        for publication in publications {
            let id = publication.id;
            let outcome = self.publisher.enqueue(outgoing(publication));
            // The receiver lives as long as the driver.
            let _ = self
                .waiting
                .send(outcome.map(move |outcome| (id, outcome)).boxed());
        }
    }
}

/// Waits for confirms and reports what has come, as much as there is at a time.
async fn collect(
    mut receiver: mpsc::UnboundedReceiver<BoxFuture<'static, Outcome>>,
    inputs: mpsc::UnboundedSender<Input>,
) {
    let mut pending: FuturesUnordered<BoxFuture<'static, Outcome>> = FuturesUnordered::new();
    loop {
        let first = tokio::select! {
            biased;
            Some(outcome) = pending.next() => outcome,
            future = receiver.recv() => {
                let Some(future) = future else { return };
                pending.push(future);
                continue;
            }
        };
        let mut confirmed = Vec::new();
        report(first, &mut confirmed, &inputs).await;
        while let Some(Some(outcome)) = pending.next().now_or_never() {
            report(outcome, &mut confirmed, &inputs).await;
        }
        if !confirmed.is_empty() && inputs.send(Input::PublishConfirmed(confirmed)).is_err() {
            return;
        }
    }
}

async fn report(
    (id, outcome): Outcome,
    confirmed: &mut Vec<u64>,
    inputs: &mpsc::UnboundedSender<Input>,
) {
    // Inputs that nobody takes any more belong to a coordinator that has stopped.
    let _ = match outcome {
        PublishOutcome::Confirmed => {
            confirmed.push(id);
            Ok(())
        }
        PublishOutcome::Returned => inputs.send(Input::PublishReturned(id)),
        PublishOutcome::Nacked => {
            tokio::time::sleep(REFUSED_WAIT).await;
            inputs.send(Input::PublishFailed(id))
        }
        PublishOutcome::Unknown => inputs.send(Input::PublishFailed(id)),
    };
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
