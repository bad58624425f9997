//! A message that is answered: published, confirmed, with a queue of its own for the replies.

use flotilla_protocol::amqp::{
    ConnectOptions, Connection, Consumer, Delivery, Outgoing, PublishOutcome, Publisher,
    PublisherOptions, queue_depth, reply_queue,
};
use uuid::Uuid;

use crate::broker;
use crate::failure::Failure;

/// Replies that the client holds at a time.
const PREFETCH: u16 = 10;

/// What is said of a message where it cannot be sent.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    /// What people call the message.
    pub name: &'static str,
    /// The queue that it goes to.
    pub queue: &'static str,
    /// What to do where nobody knows whether it is stored.
    pub again: &'static str,
}

/// The queue of replies to one message.
pub struct Replies {
    queue: String,
    correlation_id: String,
    connection: Connection,
    consumer: Option<Consumer>,
}

impl Replies {
    /// Publishes a message, and opens the queue for its replies before that.
    pub async fn ask(amqp_url: &str, asked: Asked, message: Outgoing) -> Result<Self, Failure> {
        let replies = Self::open(amqp_url, asked).await?;
        let name = format!("{} {}", broker::CONNECTION_NAME, asked.name);
        let publisher =
            Publisher::start(PublisherOptions::new(ConnectOptions::new(amqp_url, name)));
        let message = Outgoing {
            reply_to: Some(replies.queue.clone()),
            correlation_id: Some(replies.correlation_id.clone()),
            ..message
        };
        let outcome = publisher.publish(message).await;
        publisher.close().await;
        judge(outcome, asked).map(|()| replies)
    }

    async fn open(amqp_url: &str, asked: Asked) -> Result<Self, Failure> {
        let connection = broker::connect(amqp_url).await?;
        let could_not = |error| broker::failed("could not open a queue for replies", error);
        let depth = queue_depth(&connection, asked.queue).await;
        if depth.map_err(could_not)?.is_none() {
            return Err(not_migrated(asked));
        }
        let queue = reply_queue(&connection).await.map_err(could_not)?;
        let consumer = connection.consume(&queue, PREFETCH).await;
        Ok(Self {
            consumer: Some(consumer.map_err(could_not)?),
            queue,
            correlation_id: Uuid::now_v7().to_string(),
            connection,
        })
    }

    /// Whether replies may still come.
    pub fn is_open(&self) -> bool {
        self.consumer.is_some()
    }

    /// The next reply; `None` once the connection is lost, and the queue with it. Cancel-safe.
    ///
    /// Nothing is acknowledged: the queue ends with the command, and few replies come.
    pub async fn next(&mut self) -> Option<Delivery> {
        while let Some(consumer) = self.consumer.as_mut() {
            let Some(delivery) = consumer.next().await else {
                self.consumer = None;
                break;
            };
            if delivery.envelope.correlation_id.as_deref() == Some(&self.correlation_id) {
                return Some(delivery);
            }
        }
        None
    }

    /// Disconnects; the queue goes with the connection.
    pub async fn close(self) {
        drop(self.consumer);
        self.connection.close().await;
    }
}

fn judge(outcome: PublishOutcome, asked: Asked) -> Result<(), Failure> {
    match outcome {
        PublishOutcome::Confirmed => Ok(()),
        PublishOutcome::Returned => Err(not_migrated(asked)),
        PublishOutcome::Nacked => Err(Failure::refused(format!(
            "the broker refused the {}: its queue is full, or a name is too long",
            asked.name
        ))),
        PublishOutcome::Unknown => Err(Failure::unreachable(format!(
            "the broker did not confirm the {}; it may or may not be stored",
            asked.name
        ))
        .hint(asked.again)),
    }
}

/// The broker was never set up for Flotilla.
fn not_migrated(asked: Asked) -> Failure {
    Failure::refused(format!(
        "the broker has no queue {}, so the {} was not sent",
        asked.queue, asked.name
    ))
    .hint("`flotilla migrate` declares the queues")
    .of_kind("not_migrated")
}
