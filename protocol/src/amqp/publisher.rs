//! Publishing with confirms, over a connection that comes back by itself.
//!
//! ```text
//! publish() ─┐
//! publish() ─┼─ requests ──> one task (sender.rs) ──> lapin ──> broker
//! publish() ─┘ <── outcome ──┘        └── status
//! ```

use std::future::Future;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

use super::connection::ConnectOptions;
use super::outgoing::Outgoing;
use super::reply::{Outcomes, Reply};
use super::sender;

/// What became of a publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PublishOutcome {
    /// The broker has it, on disk.
    Confirmed,
    /// The broker has no queue for it, and sent it back.
    Returned,
    /// The broker refused it (the queue is full), or AMQP cannot carry it: a property is longer
    /// than 255 bytes, or the headers do not fit into a frame.
    Nacked,
    /// The broker may have it or not: the connection or the channel was lost, or time has passed.
    Unknown,
}

/// Whether publishing works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PublisherStatus {
    /// Connected.
    Open,
    /// Connected, but the broker takes nothing at the moment; no time limit runs.
    Blocked,
    /// Not connected; publishes wait for the next connection.
    Down,
}

/// How to publish.
#[derive(Debug, Clone)]
pub struct PublisherOptions {
    /// How to connect.
    pub connect: ConnectOptions,
    /// How long a confirm may take; the time in which the broker blocks does not count.
    pub confirm_limit: Duration,
    /// How long a publish waits for a connection.
    pub publish_limit: Duration,
}

impl PublisherOptions {
    /// The usual limits.
    #[must_use]
    pub fn new(connect: ConnectOptions) -> Self {
        Self {
            connect,
            confirm_limit: Duration::from_secs(15),
            publish_limit: Duration::from_secs(15),
        }
    }
}

/// What the task that publishes is asked to do.
pub(super) enum Request {
    Publish(Box<Outgoing>, Reply),
    Close,
}

/// Publishes messages with confirms. Clones share one connection; when the last one is dropped,
/// what was queued is still published.
#[derive(Debug, Clone)]
pub struct Publisher {
    requests: mpsc::UnboundedSender<Request>,
    status: watch::Receiver<PublisherStatus>,
}

impl Publisher {
    /// Starts to connect in the background; publishes wait for it. Needs a tokio runtime.
    #[must_use]
    pub fn start(options: PublisherOptions) -> Self {
        let (requests, receiver) = mpsc::unbounded_channel();
        let (sender, status) = watch::channel(PublisherStatus::Down);
        tokio::spawn(sender::run(options, receiver, sender));
        Self { requests, status }
    }

    /// Publishes one message and waits for what becomes of it. May be called thousands of times at
    /// once: messages are sent in the order in which the calls are first polled, without waiting
    /// for each other. Dropping the future gives up waiting, not necessarily publishing.
    pub async fn publish(&self, message: Outgoing) -> PublishOutcome {
        self.enqueue(message).await
    }

    /// As [`Publisher::publish`], but the message has its place in the order when this returns.
    pub fn enqueue(
        &self,
        message: Outgoing,
    ) -> impl Future<Output = PublishOutcome> + Send + 'static {
        let (reply, outcome) = oneshot::channel();
        self.request(message, Reply::one(reply));
        async move { outcome.await.unwrap_or(PublishOutcome::Unknown) }
    }

    /// As [`Publisher::enqueue`], for those who publish much: the outcome comes out of `outcomes`,
    /// with the number that is given here.
    pub fn enqueue_numbered(&self, message: Outgoing, number: u64, outcomes: &Outcomes) {
        self.request(message, Reply::many(number, outcomes.clone()));
    }

    fn request(&self, message: Outgoing, reply: Reply) {
        // Where nobody receives, the reply is dropped, and that says `Unknown`.
        let _ = self
            .requests
            .send(Request::Publish(Box::new(message), reply));
    }

    /// The status, to be read or waited for.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<PublisherStatus> {
        self.status.clone()
    }

    /// Waits until the publisher is connected; `false` if it has been closed.
    pub async fn ready(&self) -> bool {
        let mut status = self.status.clone();
        status
            .wait_for(|status| *status != PublisherStatus::Down)
            .await
            .is_ok()
    }

    /// Publishes what was queued, waits for the confirms and closes the connection. Later publishes
    /// end as [`PublishOutcome::Unknown`].
    pub async fn close(&self) {
        let _ = self.requests.send(Request::Close);
        let mut status = self.status.clone();
        // The task that publishes holds the other end until it has closed the connection.
        while status.changed().await.is_ok() {}
    }
}
