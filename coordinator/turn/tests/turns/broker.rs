//! The broker of the simulation, as the tests speak of it: consumers by coordinator and channel.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use flotilla_protocol::decode::InboxMessage;
use flotilla_protocol::message::TaskJob;
pub use flotilla_simulation::broker::Stored;
use flotilla_simulation::broker::{ChannelNo, ConnectionNo, Published, QueueNo, QueueOptions};
use flotilla_turn::message::{
    ChannelId, ControlRequest, Delivered, DeliveryId, Message, StartRequest,
};
use flotilla_turn::{Destination, Publication};

/// Deliveries per channel that are not acknowledged.
const PREFETCH: usize = 10_000;

/// A queue that coordinators read, or that of a pool.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Queue {
    Of(ChannelId),
    Pool(String),
}

/// What a message says.
#[derive(Debug, Clone)]
pub enum Body {
    Start(Box<StartRequest>),
    Inbox(InboxMessage),
    Control(Box<ControlRequest>),
    Job(Box<TaskJob>),
}

/// A message with its size.
#[derive(Debug, Clone)]
pub struct Letter {
    pub body: Body,
    pub bytes: usize,
}

/// A reply as a client sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    pub to: String,
    pub correlation_id: Option<String>,
    pub message_type: String,
    pub body: serde_json::Value,
}

/// All queues and consumers; a consumer belongs to a coordinator and an opening of a channel.
#[derive(Default)]
pub struct Broker {
    model: flotilla_simulation::Broker<Letter>,
    connections: BTreeMap<usize, ConnectionNo>,
    consumers: BTreeMap<(usize, ChannelId, u64), ChannelNo>,
    /// Queues of clients that have gone.
    pub gone: BTreeSet<String>,
    pub replies: Vec<Reply>,
    /// Every job that has come, as `task/attempt`.
    pub jobs: Vec<String>,
}

impl Broker {
    /// Declares a queue.
    pub fn declare(&mut self, queue: &Queue) -> QueueNo {
        let name = format!("{queue:?}");
        self.model.declare(&name, QueueOptions::default())
    }

    pub fn has(&self, queue: &Queue) -> bool {
        self.model.queue(&format!("{queue:?}")).is_some()
    }

    pub fn delete(&mut self, queue: &Queue) {
        let no = self.declare(queue);
        self.model.delete(no);
    }

    /// What waits in a queue.
    pub fn ready(&mut self, queue: &Queue) -> &mut VecDeque<Stored<Letter>> {
        let no = self.declare(queue);
        self.model.ready_mut(no)
    }

    pub fn put(&mut self, queue: &Queue, body: Body, bytes: usize) {
        let no = self.declare(queue);
        let put = self.model.arrive(no, Letter { body, bytes }, true);
        assert_eq!(put, Published::Confirmed);
    }

    /// Takes the oldest message of a queue that nobody consumes.
    pub fn pop(&mut self, queue: &Queue) -> Option<Body> {
        self.ready(queue)
            .pop_front()
            .map(|stored| stored.message.body)
    }

    /// Takes a publication; false if it has nowhere to go.
    pub fn publish(&mut self, publication: &Publication) -> bool {
        match &publication.to {
            Destination::Pool { pool, .. } => {
                let queue = Queue::Pool(pool.to_string());
                if !self.has(&queue) {
                    return false;
                }
                let job: TaskJob = serde_json::from_slice(&publication.body).expect("a job");
                self.jobs.push(format!("{}/{}", job.task, job.attempt));
                self.put(&queue, Body::Job(Box::new(job)), publication.body.len());
                true
            }
            Destination::Client {
                reply_to,
                correlation_id,
                message_type,
            } => {
                self.replies.push(Reply {
                    to: reply_to.clone(),
                    correlation_id: correlation_id.clone(),
                    message_type: message_type.clone(),
                    body: serde_json::from_slice(&publication.body).expect("JSON"),
                });
                !self.gone.contains(reply_to)
            }
        }
    }

    pub fn open(&mut self, owner: usize, channel: ChannelId, generation: u64) {
        let queue = self.declare(&Queue::Of(channel));
        let model = &mut self.model;
        let connection = *self
            .connections
            .entry(owner)
            .or_insert_with(|| model.connect());
        let consumer = self.model.consume(connection, queue, PREFETCH);
        self.consumers
            .insert((owner, channel, generation), consumer.expect("it is there"));
    }

    /// The consumers of a coordinator.
    pub fn consumers(&self, owner: usize) -> Vec<(ChannelId, u64)> {
        self.consumers
            .keys()
            .filter(|(of, _, _)| *of == owner)
            .map(|(_, channel, generation)| (*channel, *generation))
            .collect()
    }

    /// Ends a consumer; what it has not acknowledged goes back to the head of the queue.
    pub fn close(&mut self, owner: usize, channel: ChannelId, generation: u64) {
        if let Some(consumer) = self.consumers.remove(&(owner, channel, generation)) {
            self.model.close_channel(consumer);
        }
    }

    /// Delivers the next message to a consumer.
    pub fn deliver(
        &mut self,
        owner: usize,
        channel: ChannelId,
        generation: u64,
    ) -> Option<Delivered> {
        let consumer = *self.consumers.get(&(owner, channel, generation))?;
        let delivery = self.model.deliver(consumer)?;
        let stored = delivery.stored;
        Some(Delivered {
            id: DeliveryId {
                channel,
                generation,
                tag: delivery.tag,
            },
            bytes: stored.message.bytes,
            suspect_key: (stored.returns >= 3).then(|| format!("message {}", stored.no)),
            message: match stored.message.body {
                Body::Start(start) => Message::Start(start),
                Body::Inbox(inbox) => Message::Inbox(inbox),
                Body::Control(request) => Message::Control(request),
                Body::Job(_) => panic!("coordinators read no jobs"),
            },
        })
    }

    /// Acknowledges everything up to a delivery; gives what is gone for good.
    pub fn acknowledge(&mut self, owner: usize, id: DeliveryId) -> Vec<Body> {
        let key = (owner, id.channel, id.generation);
        let Some(consumer) = self.consumers.get(&key) else {
            return Vec::new();
        };
        let gone = self.model.acknowledge(*consumer, id.tag, true);
        let gone = gone.expect("acknowledged twice").into_iter();
        gone.map(|stored| stored.message.body).collect()
    }

    pub fn unacknowledged(&self) -> usize {
        let queues = self.model.queues();
        queues
            .map(|queue| self.model.unacknowledged(queue).count())
            .sum()
    }
}
