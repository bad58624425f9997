//! Messages under way to the broker: each is published until it is confirmed.

use std::sync::Arc;
use std::time::Duration;

use flotilla_protocol::amqp::{Outgoing, PublishOutcome, Publisher};
use flotilla_protocol::message::TaskStarted;
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};

use super::gather::Batch;
use super::held::{JobKey, Receipt};
use crate::pulse::Pulse;

/// The first wait before a message is published again.
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// The longest wait before a message is published again.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// A message that is at the broker now.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    /// Completions of these jobs.
    Completions {
        reply_to: Arc<str>,
        keys: Vec<JobKey>,
    },
    /// The start of a job that runs only now.
    Announcement(JobKey),
    /// The start of a job that runs already, if the broker took it.
    Started,
    /// That a job that runs is about to be acknowledged.
    Acknowledgement(JobKey),
    /// A job that could not be read.
    DeadLetter(Unreadable),
}

/// A job that could not be read, as far as it could.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unreadable {
    pub(crate) receipt: Receipt,
    /// Who waits for it, where to answer, and what was wrong.
    pub(crate) answer: Option<(JobKey, Arc<str>, String)>,
}

/// The messages under way.
pub(crate) struct Outbound {
    publisher: Publisher,
    under_way: FuturesUnordered<BoxFuture<'static, Sent>>,
}

impl Outbound {
    pub(crate) fn new(publisher: Publisher) -> Self {
        Self {
            publisher,
            under_way: FuturesUnordered::new(),
        }
    }

    /// Sends completions.
    pub(crate) fn completions(&mut self, batch: Batch) {
        let message = Outgoing::to_queue(
            &*batch.reply_to,
            flotilla_protocol::names::TASK_COMPLETED,
            batch.body,
        );
        let sent = Sent::Completions {
            reply_to: batch.reply_to,
            keys: batch.keys,
        };
        self.until_confirmed(message, sent);
    }

    /// Tells that a job will run as soon as this is confirmed.
    pub(crate) fn announcement(&mut self, reply_to: &str, key: JobKey, started: &TaskStarted) {
        let message = Outgoing::task_started(reply_to, started);
        self.until_confirmed(message, Sent::Announcement(key));
    }

    /// Tells that a job runs. Its completion will tell too: one attempt is enough.
    pub(crate) fn started(&mut self, reply_to: &str, started: &TaskStarted) {
        let publishing = self
            .publisher
            .enqueue(Outgoing::task_started(reply_to, started));
        self.under_way.push(Box::pin(async move {
            let outcome = publishing.await;
            if outcome != PublishOutcome::Confirmed {
                tracing::debug!(?outcome, "task.started was not taken");
            }
            Sent::Started
        }));
    }

    /// Tells that a job that runs will be acknowledged as soon as this is confirmed.
    pub(crate) fn acknowledgement(&mut self, reply_to: &str, key: JobKey, started: &TaskStarted) {
        let message = Outgoing::task_started(reply_to, started);
        self.until_confirmed(message, Sent::Acknowledgement(key));
    }

    /// The signs of life of an attempt.
    pub(crate) fn pulse(&self, reply_to: Arc<str>, key: JobKey, worker: Arc<str>) -> Pulse {
        Pulse::new(self.publisher.clone(), reply_to, key, worker)
    }

    /// Hands over a job that could not be read.
    pub(crate) fn dead_letter(&mut self, message: Outgoing, unreadable: Unreadable) {
        self.until_confirmed(message, Sent::DeadLetter(unreadable));
    }

    /// The next message that is at the broker; waits for ever while there is none.
    pub(crate) async fn next(&mut self) -> Sent {
        match self.under_way.next().await {
            Some(sent) => sent,
            None => std::future::pending().await,
        }
    }

    /// Closes the connection.
    pub(crate) async fn close(self) {
        self.publisher.close().await;
    }

    fn until_confirmed(&mut self, message: Outgoing, sent: Sent) {
        let publisher = self.publisher.clone();
        // Queued now and not when first polled, so that messages leave in the order of the calls.
        let first = publisher.enqueue(message.clone());
        self.under_way.push(Box::pin(async move {
            let outcome = first.await;
            if outcome != PublishOutcome::Confirmed {
                publish_again(&publisher, &message, outcome).await;
            }
            sent
        }));
    }
}

/// Publishes until it is confirmed: an inbox may be missing for a moment, and a message that
/// arrives twice does no harm.
async fn publish_again(publisher: &Publisher, message: &Outgoing, first: PublishOutcome) {
    let mut wait = FIRST_WAIT;
    let mut outcome = first;
    loop {
        tracing::warn!(
            ?outcome,
            exchange = %message.exchange,
            routing_key = message.routing_key,
            message_type = %message.message_type,
            "message not confirmed, publishing it again"
        );
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(LONGEST_WAIT);
        outcome = publisher.publish(message.clone()).await;
        if outcome == PublishOutcome::Confirmed {
            return;
        }
    }
}
