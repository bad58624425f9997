//! Consuming: one task per channel, on one connection that is opened again when it is lost.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use flotilla_protocol::amqp::{Acker, AmqpError, ConnectOptions, Consumer, declare_inbox};
use flotilla_protocol::names;
use flotilla_turn::Input;
use flotilla_turn::message::{ChannelId, DeliveryId};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::failpoints;
use crate::reception::receive;
use crate::shared_connection::{RETRY_AFTER, SharedConnection};
use crate::storage::chain;

/// Unacknowledged deliveries per channel.
const PREFETCH: u16 = 500;
/// How long an acknowledgement waits for others. The broker writes each to its disk, and what the turn
/// publishes should not wait for that; who is not acknowledged yet when the coordinator dies comes again.
const ACKNOWLEDGE_DELAY: Duration = Duration::from_millis(5);
/// Deliveries whose acknowledgement does not wait.
const ACKNOWLEDGED_TOGETHER: u64 = 32;
/// How long closing a channel may take before the next opening of it.
const CLOSE_LIMIT: Duration = Duration::from_secs(2);

/// An order to acknowledge everything up to a delivery.
struct Acknowledge {
    tag: u64,
    done: oneshot::Sender<()>,
}

/// The channels that are consumed.
pub(crate) struct Inbound {
    inputs: mpsc::UnboundedSender<Input>,
    connection: Arc<SharedConnection>,
    channels: BTreeMap<(ChannelId, u64), mpsc::UnboundedSender<Acknowledge>>,
    /// The task of the last opening of each channel.
    tasks: BTreeMap<ChannelId, JoinHandle<()>>,
}

impl Inbound {
    pub fn new(options: ConnectOptions, inputs: mpsc::UnboundedSender<Input>) -> Self {
        Self {
            inputs,
            connection: Arc::new(SharedConnection::new(options)),
            channels: BTreeMap::new(),
            tasks: BTreeMap::new(),
        }
    }

    /// Opens a channel in a task of its own, after the last opening of it has given back what it
    /// held: a probe must not come before a message that an earlier opening still has.
    pub fn open(&mut self, channel: ChannelId, generation: u64) {
        let (sender, orders) = mpsc::unbounded_channel();
        self.channels.insert((channel, generation), sender);
        let consuming = Consuming {
            channel,
            generation,
            queue: queue_of(channel),
            connection: Arc::clone(&self.connection),
            inputs: self.inputs.clone(),
        };
        let last = self.tasks.remove(&channel);
        let task = tokio::spawn(async move {
            if let Some(last) = last {
                // It has ended, or its connection is dead, and the broker ends it.
                let _ = tokio::time::timeout(CLOSE_LIMIT, last).await;
            }
            consuming.run(orders).await;
        });
        self.tasks.insert(channel, task);
    }

    /// Closes a channel; what is not acknowledged goes back.
    pub fn close(&mut self, channel: ChannelId, generation: u64) {
        self.channels.remove(&(channel, generation));
    }

    /// Acknowledges everything up to a delivery. What is returned completes when that is written.
    pub fn acknowledge(&mut self, delivery: DeliveryId) -> oneshot::Receiver<()> {
        let (done, written) = oneshot::channel();
        if let Some(orders) = self.channels.get(&(delivery.channel, delivery.generation)) {
            // A channel that has ended delivers again what was not acknowledged.
            let _ = orders.send(Acknowledge {
                tag: delivery.tag,
                done,
            });
        }
        written
    }

    /// Closes the connection.
    pub async fn shut_down(self) {
        drop(self.channels);
        self.connection.close().await;
    }
}

/// The queue that a channel reads.
pub(crate) fn queue_of(channel: ChannelId) -> String {
    match channel {
        ChannelId::Inbox(partition) => names::inbox_queue(partition),
        ChannelId::Start => names::START_QUEUE.to_owned(),
        ChannelId::Control => names::CONTROL_QUEUE.to_owned(),
        ChannelId::Dead => names::DEAD.to_owned(),
    }
}

/// One channel: opened, consumed until it ends.
struct Consuming {
    channel: ChannelId,
    generation: u64,
    queue: String,
    connection: Arc<SharedConnection>,
    inputs: mpsc::UnboundedSender<Input>,
}

impl Consuming {
    async fn run(self, mut orders: mpsc::UnboundedReceiver<Acknowledge>) {
        let (channel, generation) = (self.channel, self.generation);
        let Some(consumer) = self.open(&mut orders).await else {
            return;
        };
        if self
            .inputs
            .send(Input::ChannelOpened {
                channel,
                generation,
            })
            .is_ok()
        {
            self.consume(consumer, orders).await;
        }
        let _ = self.inputs.send(Input::ChannelClosed {
            channel,
            generation,
        });
    }

    /// Tries until it succeeds or nobody wants the channel any more.
    async fn open(&self, orders: &mut mpsc::UnboundedReceiver<Acknowledge>) -> Option<Consumer> {
        loop {
            match self.try_open().await {
                Ok(Some(consumer)) => return Some(consumer),
                // Of the connection, the log has said it.
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(
                        queue = self.queue,
                        error = chain(&error),
                        "a queue cannot be consumed"
                    );
                }
            }
            tokio::select! {
                () = tokio::time::sleep(RETRY_AFTER) => {}
                order = orders.recv() => order.map(drop)?,
            }
        }
    }

    /// `None` if there is no connection.
    async fn try_open(&self) -> Result<Option<Consumer>, AmqpError> {
        let Some(connection) = self.connection.current().await else {
            return Ok(None);
        };
        if let ChannelId::Inbox(partition) = self.channel {
            declare_inbox(&connection, partition).await?;
        }
        connection.consume(&self.queue, PREFETCH).await.map(Some)
    }

    async fn consume(
        &self,
        mut consumer: Consumer,
        mut orders: mpsc::UnboundedReceiver<Acknowledge>,
    ) {
        let acker = consumer.acker();
        let mut owed = Owed::default();
        loop {
            tokio::select! {
                order = orders.recv() => match order {
                    Some(order) => {
                        if owed.add(order) || failpoints::ENABLED {
                            self.acknowledge(&acker, owed.take()).await;
                        }
                    }
                    None => {
                        self.acknowledge(&acker, owed.take()).await;
                        consumer.close().await;
                        return;
                    }
                },
                () = owed.due() => self.acknowledge(&acker, owed.take()).await,
                delivery = consumer.next() => {
                    let Some(delivery) = delivery else {
                        tracing::warn!(queue = self.queue, "a consumer has ended");
                        return;
                    };
                    let delivered = receive(self.channel, self.generation, &self.queue, delivery);
                    if self.inputs.send(Input::Delivered(delivered)).is_err() {
                        return;
                    }
                }
            }
        }
    }

    async fn acknowledge(&self, acker: &Acker, order: Option<Acknowledge>) {
        let Some(Acknowledge { tag, done }) = order else {
            return;
        };
        match acker.ack(tag, true).await {
            Ok(true) => {}
            Ok(false) => tracing::debug!(queue = self.queue, "acknowledged too late"),
            Err(error) => {
                tracing::warn!(
                    queue = self.queue,
                    error = chain(&error),
                    "could not acknowledge"
                );
            }
        }
        // Only the fault tests wait for it.
        let _ = done.send(());
    }
}

/// The acknowledgement of a channel that is not sent yet. It covers all before it.
#[derive(Default)]
struct Owed {
    order: Option<Acknowledge>,
    /// When it is sent at the latest.
    due: Option<Instant>,
    /// The last tag that was acknowledged.
    sent: u64,
}

impl Owed {
    /// Whether it should be sent now.
    fn add(&mut self, order: Acknowledge) -> bool {
        let is_much = order.tag.saturating_sub(self.sent) >= ACKNOWLEDGED_TOGETHER;
        self.order = Some(order);
        self.due
            .get_or_insert_with(|| Instant::now() + ACKNOWLEDGE_DELAY);
        is_much
    }

    fn take(&mut self) -> Option<Acknowledge> {
        self.due = None;
        let order = self.order.take()?;
        self.sent = order.tag;
        Some(order)
    }

    async fn due(&self) {
        match self.due {
            Some(due) => tokio::time::sleep_until(due).await,
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn order(tag: u64) -> Acknowledge {
        let (done, _) = oneshot::channel();
        Acknowledge { tag, done }
    }

    #[tokio::test]
    async fn one_acknowledgement_waits_and_covers_those_that_come_meanwhile() {
        let mut owed = Owed::default();
        assert!(!owed.add(order(1)));
        let due = owed.due;
        assert!(!owed.add(order(2)));
        assert_eq!(owed.due, due, "the first says when");
        owed.due().await;
        assert!(due.is_some_and(|due| due <= Instant::now()));
        assert_eq!(owed.take().map(|order| order.tag), Some(2));
        assert!(owed.take().is_none());
        assert!(owed.due().now_or_never().is_none(), "nothing is owed");
    }

    #[test]
    fn many_do_not_wait() {
        let mut owed = Owed::default();
        assert!(!owed.add(order(ACKNOWLEDGED_TOGETHER - 1)));
        assert!(owed.add(order(ACKNOWLEDGED_TOGETHER)));
        owed.take();
        assert!(!owed.add(order(ACKNOWLEDGED_TOGETHER + 1)));
    }
}
