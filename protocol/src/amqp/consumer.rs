//! Consuming a queue: each time on a channel and under a consumer tag of its own.

use std::sync::Arc;

use futures::StreamExt;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicGetOptions, BasicNackOptions, BasicQosOptions,
    BasicRejectOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use uuid::Uuid;

use super::connection::Connection;
use super::delivery::Delivery;
use super::traffic::count_delivered;
use super::{AmqpError, short};

/// The priority of a consumer that is served before others; theirs is 0.
const FIRST: i32 = 10;

/// The deliveries of one queue, in order, until something ends them.
pub struct Consumer {
    /// Taken when the channel is closed.
    stream: Option<lapin::Consumer>,
    has_ended: bool,
    channel: Arc<lapin::Channel>,
}

impl std::fmt::Debug for Consumer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Consumer")
            .field("channel", &self.channel.id())
            .finish_non_exhaustive()
    }
}

impl Connection {
    /// Consumes `queue`; at most `prefetch` deliveries are unacknowledged at a time.
    ///
    /// # Errors
    /// The connection has ended, or the broker refuses: there may be no such queue.
    pub async fn consume(&self, queue: &str, prefetch: u16) -> Result<Consumer, AmqpError> {
        self.consume_with(queue, prefetch, FieldTable::default())
            .await
    }

    /// As [`Connection::consume`], ahead of all who consume it as usual: they get what this consumer
    /// has no room for.
    ///
    /// # Errors
    /// As [`Connection::consume`].
    pub async fn consume_first(&self, queue: &str, prefetch: u16) -> Result<Consumer, AmqpError> {
        let mut arguments = FieldTable::default();
        arguments.insert("x-priority".into(), AMQPValue::LongInt(FIRST));
        self.consume_with(queue, prefetch, arguments).await
    }

    async fn consume_with(
        &self,
        queue: &str,
        prefetch: u16,
        arguments: FieldTable,
    ) -> Result<Consumer, AmqpError> {
        let channel = self.channel().await?;
        channel
            .basic_qos(prefetch, BasicQosOptions::default())
            .await
            .map_err(AmqpError::Channel)?;
        begin(channel, queue, BasicConsumeOptions::default(), arguments).await
    }

    /// Consumes `queue`, whose messages are gone as soon as they are sent here: for answers, which
    /// nobody else could use. There is nothing to acknowledge, and no limit to what is on its way.
    ///
    /// # Errors
    /// The connection has ended, or the broker refuses: there may be no such queue.
    pub async fn consume_without_acks(&self, queue: &str) -> Result<Consumer, AmqpError> {
        let options = BasicConsumeOptions {
            no_ack: true,
            ..BasicConsumeOptions::default()
        };
        begin(self.channel().await?, queue, options, FieldTable::default()).await
    }
}

async fn begin(
    channel: lapin::Channel,
    queue: &str,
    options: BasicConsumeOptions,
    arguments: FieldTable,
) -> Result<Consumer, AmqpError> {
    let tag = format!("flotilla-{}", Uuid::now_v7());
    let stream = channel
        .basic_consume(short(queue)?, short(&tag)?, options, arguments)
        .await
        .map_err(|source| AmqpError::Consume {
            queue: queue.to_owned(),
            source,
        })?;
    Ok(Consumer {
        stream: Some(stream),
        has_ended: false,
        channel: Arc::new(channel),
    })
}

impl Consumer {
    /// The next delivery; `None` once the channel has closed, the queue was deleted or the broker
    /// cancelled the consumer. Nothing comes after `None`. Cancel-safe.
    pub async fn next(&mut self) -> Option<Delivery> {
        // lapin's stream would wait for ever once it has ended.
        if self.has_ended {
            return None;
        }
        match self.stream.as_mut()?.next().await {
            Some(Ok(delivery)) => {
                count_delivered();
                return Some(Delivery::new(delivery));
            }
            Some(Err(error)) => tracing::debug!(%error, "consumer ended"),
            None => tracing::debug!("consumer ended"),
        }
        self.has_ended = true;
        None
    }

    /// Acknowledges this consumer's deliveries.
    #[must_use]
    pub fn acker(&self) -> Acker {
        Acker {
            channel: Arc::clone(&self.channel),
        }
    }

    /// Whether deliveries may still come and can still be acknowledged.
    #[must_use]
    pub fn is_open(&self) -> bool {
        !self.has_ended && self.channel.status().connected()
    }

    /// Closes the channel; what is unacknowledged goes back to the queue.
    pub async fn close(mut self) {
        let stream = self.stream.take();
        close_channel(&self.channel, stream).await;
    }
}

/// Takes single messages out of a queue, without being one of its consumers. What it has not
/// acknowledged goes back when it is closed.
#[derive(Debug)]
pub struct Getter {
    queue: String,
    acker: Acker,
}

impl Connection {
    /// Gets single messages of `queue`.
    ///
    /// # Errors
    /// The connection has ended.
    pub async fn getter(&self, queue: &str) -> Result<Getter, AmqpError> {
        let channel = Arc::new(self.channel().await?);
        Ok(Getter {
            queue: queue.to_owned(),
            acker: Acker { channel },
        })
    }
}

impl Getter {
    /// The first message that waits, if there is one.
    ///
    /// # Errors
    /// The channel has ended: there may be no such queue.
    pub async fn get(&self) -> Result<Option<Delivery>, AmqpError> {
        let channel = &self.acker.channel;
        let got = channel
            .basic_get(short(&self.queue)?, BasicGetOptions::default())
            .await
            .map_err(AmqpError::Channel)?;
        Ok(got.map(|got| Delivery::new(got.delivery)))
    }

    /// Acknowledges what was got.
    #[must_use]
    pub fn acker(&self) -> &Acker {
        &self.acker
    }

    /// Closes the channel.
    pub async fn close(self) {
        close_channel(&self.acker.channel, None).await;
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        // Dropping lapin's consumer would send `basic.cancel` and leave the unacknowledged
        // deliveries in limbo; closing the channel first gives them back.
        let Some(stream) = self.stream.take() else {
            return;
        };
        let channel = Arc::clone(&self.channel);
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { close_channel(&channel, Some(stream)).await });
        }
    }
}

async fn close_channel(channel: &lapin::Channel, stream: Option<lapin::Consumer>) {
    if let Err(error) = channel.close(200, "OK".into()).await {
        tracing::debug!(%error, "channel was closed already");
    }
    drop(stream);
}

/// Acknowledges deliveries of one [`Consumer`].
#[derive(Clone)]
pub struct Acker {
    channel: Arc<lapin::Channel>,
}

impl std::fmt::Debug for Acker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Acker")
            .field("channel", &self.channel.id())
            .finish_non_exhaustive()
    }
}

impl Acker {
    /// Acknowledges the delivery `tag`, with all before it if `multiple`. `false`: it came too late,
    /// the channel has ended, and the broker delivers the message again.
    ///
    /// `true` says that the acknowledgement was written to the connection; the broker does not
    /// confirm it.
    ///
    /// # Errors
    /// The acknowledgement could not be sent for another reason.
    pub async fn ack(&self, tag: u64, multiple: bool) -> Result<bool, AmqpError> {
        let sent = self
            .channel
            .basic_ack(tag, BasicAckOptions { multiple })
            .await;
        self.was_in_time(sent)
    }

    /// Gives the delivery `tag` back to its queue. `false`: it had gone back already.
    ///
    /// # Errors
    /// The message could not be sent for another reason than the end of the channel.
    pub async fn nack_requeue(&self, tag: u64) -> Result<bool, AmqpError> {
        let options = BasicNackOptions {
            multiple: false,
            requeue: true,
        };
        let sent = self.channel.basic_nack(tag, options).await;
        self.was_in_time(sent)
    }

    /// Rejects the delivery `tag`, which becomes a dead letter where its queue has a place for those.
    /// `false`: it had gone back already.
    ///
    /// # Errors
    /// The message could not be sent for another reason than the end of the channel.
    pub async fn reject(&self, tag: u64) -> Result<bool, AmqpError> {
        let options = BasicRejectOptions { requeue: false };
        let sent = self.channel.basic_reject(tag, options).await;
        self.was_in_time(sent)
    }

    fn was_in_time(&self, sent: Result<(), lapin::Error>) -> Result<bool, AmqpError> {
        match sent {
            Ok(()) => Ok(true),
            Err(_) if !self.channel.status().connected() => Ok(false),
            Err(error) => Err(AmqpError::Acknowledge(error)),
        }
    }
}
