//! The simulated broker.

use flotilla_simulation::Broker;
use flotilla_simulation::broker::{self, ChannelError, Published, QueueNo, QueueOptions};

use crate::server::{ChannelNo, ConnectionNo, Delivered, PublisherNo, Told};

/// As pools are declared.
const DELIVERY_LIMIT: u32 = 20;

pub struct Memory {
    broker: Broker<u32>,
    queue: QueueNo,
    dead: QueueNo,
    connections: Vec<broker::ConnectionNo>,
    publishers: Vec<broker::ConnectionNo>,
    channels: Vec<broker::ChannelNo>,
    /// Consumers that were told that they are cancelled.
    cancelled: Vec<broker::ChannelNo>,
    /// What a client sends again when it may.
    blocked: Vec<(PublisherNo, u32, bool)>,
}

impl Memory {
    pub fn new() -> Self {
        let mut broker = Broker::default();
        let dead = broker.declare("dead", QueueOptions::default());
        let queue = broker.declare("jobs", options(dead));
        Self {
            broker,
            queue,
            dead,
            connections: Vec::new(),
            publishers: Vec::new(),
            channels: Vec::new(),
            cancelled: Vec::new(),
            blocked: Vec::new(),
        }
    }

    pub fn connect(&mut self) -> ConnectionNo {
        self.connections.push(self.broker.connect());
        self.connections.len() - 1
    }

    pub fn publisher(&mut self) -> PublisherNo {
        self.publishers.push(self.broker.connect());
        self.publishers.len() - 1
    }

    pub fn consume(&mut self, connection: ConnectionNo, prefetch: u16) -> Option<ChannelNo> {
        let connection = self.connections[connection];
        let opened = self
            .broker
            .consume(connection, self.queue, usize::from(prefetch));
        self.channels.push(opened.ok()?);
        Some(self.channels.len() - 1)
    }

    pub fn publish(&mut self, publisher: PublisherNo, number: u32, mandatory: bool) -> Told {
        let connection = self.publishers[publisher];
        let published = self
            .broker
            .publish(connection, self.queue, number, mandatory);
        match published {
            Published::Confirmed | Published::Dropped => Told::Confirmed,
            Published::Returned => Told::Returned,
            Published::Blocked => {
                self.blocked.push((publisher, number, mandatory));
                Told::Blocked
            }
            Published::Refused | Published::Closed => panic!("{published:?}"),
        }
    }

    pub fn unblocked(&mut self) -> Vec<Told> {
        let blocked = std::mem::take(&mut self.blocked);
        let blocked = blocked.into_iter();
        blocked
            .map(|(publisher, number, mandatory)| self.publish(publisher, number, mandatory))
            .collect()
    }

    pub fn next(&mut self, channel: ChannelNo) -> Option<Delivered> {
        let delivery = self.broker.deliver(self.channels[channel])?;
        Some(Delivered {
            tag: delivery.tag,
            number: delivery.stored.message,
            returns: delivery.stored.returns,
        })
    }

    pub fn is_idle(&mut self, channel: ChannelNo) -> bool {
        !self.has_ended(channel) && self.next(channel).is_none()
    }

    pub fn has_ended(&self, channel: ChannelNo) -> bool {
        let channel = self.channels[channel];
        !self.broker.is_open(channel) || self.cancelled.contains(&channel)
    }

    pub fn acknowledge(&mut self, channel: ChannelNo, tag: u64, multiple: bool) -> bool {
        let channel = self.channels[channel];
        match self.broker.acknowledge(channel, tag, multiple) {
            // That the tag was wrong is not answered: the channel is closed for it.
            Ok(_) | Err(ChannelError::PreconditionFailed) => true,
            Err(ChannelError::Closed) => false,
            Err(ChannelError::NotFound) => panic!("no queue is named"),
        }
    }

    pub fn close_channel(&mut self, channel: ChannelNo) {
        self.broker.close_channel(self.channels[channel]);
    }

    pub fn close_connection(&mut self, connection: ConnectionNo) {
        self.broker.close_connection(self.connections[connection]);
    }

    pub fn ready(&self) -> Option<usize> {
        let is_there = self.broker.is_declared(self.queue);
        is_there.then(|| self.broker.ready(self.queue).len())
    }

    pub fn purge(&mut self) {
        self.broker.purge(self.queue);
    }

    pub fn delete_queue(&mut self) {
        let mut cancelled = self.broker.delete(self.queue);
        self.cancelled.append(&mut cancelled);
    }

    pub fn declare_queue(&mut self) {
        self.queue = self.broker.declare("jobs", options(self.dead));
    }

    pub fn dead_letters(&mut self, count: usize) -> Vec<(Delivered, String)> {
        let connection = self.broker.connect();
        let opened = self.broker.consume(connection, self.dead, count);
        let channel = opened.expect("the queue is there");
        let deliveries = std::iter::from_fn(|| self.broker.deliver(channel));
        let letters: Vec<_> = deliveries.take(count).collect();
        assert_eq!(letters.len(), count, "dead letters");
        let letters = letters.into_iter().map(|delivery| {
            assert_eq!(delivery.stored.died_in, Some(self.queue));
            let delivered = Delivered {
                tag: delivery.tag,
                number: delivery.stored.message,
                returns: delivery.stored.returns,
            };
            // There is no other death here.
            (delivered, "delivery_limit".to_owned())
        });
        letters.collect()
    }

    pub fn set_alarm(&mut self, on: bool) {
        self.broker.set_alarm(on);
    }
}

fn options(dead: QueueNo) -> QueueOptions {
    QueueOptions {
        delivery_limit: Some(DELIVERY_LIMIT),
        dead_letters: Some(dead),
        max_length: None,
    }
}
