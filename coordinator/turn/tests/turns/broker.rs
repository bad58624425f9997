//! RabbitMQ in memory: queues, consumers, and redelivery at the head when a channel is lost.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use flotilla_protocol::decode::InboxMessage;
use flotilla_protocol::message::TaskJob;
use flotilla_turn::message::{
    ChannelId, ControlRequest, Delivered, DeliveryId, Message, StartRequest,
};
use flotilla_turn::{Destination, Publication};

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

#[derive(Debug, Clone)]
pub struct Stored {
    /// The same for every delivery.
    pub no: u64,
    pub body: Body,
    pub deliveries: u32,
    pub bytes: usize,
}

struct Consumer {
    next_tag: u64,
    unacknowledged: BTreeMap<u64, Stored>,
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
    pub queues: BTreeMap<Queue, VecDeque<Stored>>,
    consumers: BTreeMap<(usize, ChannelId, u64), Consumer>,
    last_no: u64,
    /// Queues of clients that have gone.
    pub gone: BTreeSet<String>,
    pub replies: Vec<Reply>,
    /// Every job that has come, as `task/attempt`.
    pub jobs: Vec<String>,
}

impl Broker {
    pub fn put(&mut self, queue: Queue, body: Body, bytes: usize) {
        self.last_no += 1;
        let message = Stored {
            no: self.last_no,
            body,
            deliveries: 0,
            bytes,
        };
        self.queues.entry(queue).or_default().push_back(message);
    }

    /// Takes a publication; false if it has nowhere to go.
    pub fn publish(&mut self, publication: &Publication) -> bool {
        match &publication.to {
            Destination::Pool { pool, .. } => {
                let queue = Queue::Pool(pool.to_string());
                if !self.queues.contains_key(&queue) {
                    return false;
                }
                let job: TaskJob = serde_json::from_slice(&publication.body).expect("a job");
                self.jobs.push(format!("{}/{}", job.task, job.attempt));
                self.put(queue, Body::Job(Box::new(job)), publication.body.len());
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
        let consumer = Consumer {
            next_tag: 1,
            unacknowledged: BTreeMap::new(),
        };
        self.consumers
            .insert((owner, channel, generation), consumer);
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
        let Some(consumer) = self.consumers.remove(&(owner, channel, generation)) else {
            return;
        };
        let queue = self.queues.entry(Queue::Of(channel)).or_default();
        for (_, mut message) in consumer.unacknowledged.into_iter().rev() {
            message.deliveries += 1;
            queue.push_front(message);
        }
    }

    /// Delivers the next message to a consumer.
    pub fn deliver(
        &mut self,
        owner: usize,
        channel: ChannelId,
        generation: u64,
    ) -> Option<Delivered> {
        let consumer = self.consumers.get_mut(&(owner, channel, generation))?;
        let message = self.queues.get_mut(&Queue::Of(channel))?.pop_front()?;
        let tag = consumer.next_tag;
        consumer.next_tag += 1;
        let delivered = Delivered {
            id: DeliveryId {
                channel,
                generation,
                tag,
            },
            bytes: message.bytes,
            suspect_key: (message.deliveries >= 3).then(|| format!("message {}", message.no)),
            message: match &message.body {
                Body::Start(start) => Message::Start(start.clone()),
                Body::Inbox(inbox) => Message::Inbox(inbox.clone()),
                Body::Control(request) => Message::Control(request.clone()),
                Body::Job(_) => panic!("coordinators read no jobs"),
            },
        };
        consumer.unacknowledged.insert(tag, message);
        Some(delivered)
    }

    /// Acknowledges everything up to a delivery; gives what is gone for good.
    pub fn acknowledge(&mut self, owner: usize, id: DeliveryId) -> Vec<Stored> {
        let key = (owner, id.channel, id.generation);
        let Some(consumer) = self.consumers.get_mut(&key) else {
            return Vec::new();
        };
        assert!(
            consumer.unacknowledged.contains_key(&id.tag),
            "acknowledged twice"
        );
        let kept = consumer.unacknowledged.split_off(&(id.tag + 1));
        std::mem::replace(&mut consumer.unacknowledged, kept)
            .into_values()
            .collect()
    }

    pub fn unacknowledged(&self) -> usize {
        self.consumers
            .values()
            .map(|consumer| consumer.unacknowledged.len())
            .sum()
    }
}
