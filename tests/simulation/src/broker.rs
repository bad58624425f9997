//! RabbitMQ in memory: quorum queues, channels with tags of their own, confirms and returns. What a
//! client sees of it is the caller's business: a message or an answer may be late or lost on the way.
//! It is held against the real server by a suite that runs on both.
//!
//! ```text
//! publish ──► queue ──deliver──► unacknowledged, by channel ──acknowledge──► gone
//!               ▲                        │
//!               └── at the head, in order, one delivery more ── its channel closes
//!                     beyond the limit ──► dead letters
//! ```

use std::collections::VecDeque;

/// A queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueNo(usize);
/// A connection of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionNo(usize);
/// A channel of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelNo(usize);

/// A message in a queue or in the hands of a consumer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored<M> {
    /// The same for every delivery; later messages have higher numbers.
    pub no: u64,
    /// How often it has come back (`x-delivery-count`).
    pub returns: u32,
    /// Where it died, if it did.
    pub died_in: Option<QueueNo>,
    /// Whether it comes to its end as soon as it comes back, whatever its queue allows.
    pub once: bool,
    /// What it says.
    pub message: M,
}

/// How a queue is declared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QueueOptions {
    /// How often a message may come back (`x-delivery-limit`); one more time is its end.
    pub delivery_limit: Option<u32>,
    /// Where it goes then; without that it is dropped.
    pub dead_letters: Option<QueueNo>,
    /// Messages above which publishers are refused (`x-max-length`, `reject-publish`).
    pub max_length: Option<usize>,
}

#[derive(Debug, Clone)]
struct Queue<M> {
    name: String,
    is_declared: bool,
    options: QueueOptions,
    ready: VecDeque<Stored<M>>,
    /// How many at the head of it have come back: what comes back later stands behind those.
    returned: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ChannelState {
    Open,
    /// It looks open; nothing is delivered on it, and what is acknowledged on it is not heard.
    Silent,
    Closed,
}

#[derive(Debug, Clone)]
struct Channel<M> {
    connection: ConnectionNo,
    state: ChannelState,
    queue: Option<QueueNo>,
    prefetch: usize,
    next_tag: u64,
    unacknowledged: VecDeque<(u64, Stored<M>)>,
}

/// A message as a consumer sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery<M> {
    /// Its number on its channel.
    pub tag: u64,
    /// The message.
    pub stored: Stored<M>,
}

/// What the broker says to a publication.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Published {
    /// It is stored; the publisher gets a confirm.
    Confirmed,
    /// There is no such queue; a mandatory message comes back, then it is confirmed all the same.
    Returned,
    /// There is no such queue and the message was not mandatory: gone, and confirmed.
    Dropped,
    /// The queue is full.
    Refused,
    /// Nothing is read from connections that publish, for now.
    Blocked,
    /// The connection is closed.
    Closed,
}

/// The channel is closed for it, as by the real broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChannelError {
    /// 404: the queue to consume from is not there.
    NotFound,
    /// 406: the tag is not one that the broker waits for.
    PreconditionFailed,
    /// The channel was closed before.
    Closed,
}

/// All queues, connections and channels.
#[derive(Debug, Clone)]
pub struct Broker<M> {
    queues: Vec<Queue<M>>,
    channels: Vec<Channel<M>>,
    /// Whether each is open.
    connections: Vec<bool>,
    last_no: u64,
    /// Whether publishers are blocked: memory or disk is low.
    alarm: bool,
}

impl<M> Default for Broker<M> {
    fn default() -> Self {
        Self {
            queues: Vec::new(),
            channels: Vec::new(),
            connections: Vec::new(),
            last_no: 0,
            alarm: false,
        }
    }
}

impl<M: Clone> Broker<M> {
    /// Declares a queue; one that is there stays as it is.
    pub fn declare(&mut self, name: &str, options: QueueOptions) -> QueueNo {
        let known = self.queues.iter().position(|queue| queue.name == name);
        let no = known.unwrap_or(self.queues.len());
        if known.is_none() {
            self.queues.push(Queue {
                name: name.to_owned(),
                is_declared: false,
                options,
                ready: VecDeque::new(),
                returned: 0,
            });
        }
        let queue = &mut self.queues[no];
        if !queue.is_declared {
            queue.is_declared = true;
            queue.options = options;
        }
        QueueNo(no)
    }

    /// The queue of that name, if it is there.
    #[must_use]
    pub fn queue(&self, name: &str) -> Option<QueueNo> {
        let is_it = |queue: &Queue<M>| queue.name == name && queue.is_declared;
        self.queues.iter().position(is_it).map(QueueNo)
    }

    /// The name of a queue.
    #[must_use]
    pub fn name(&self, queue: QueueNo) -> &str {
        &self.queues[queue.0].name
    }

    /// Opens a connection.
    pub fn connect(&mut self) -> ConnectionNo {
        self.connections.push(true);
        ConnectionNo(self.connections.len() - 1)
    }

    /// Opens a channel of a connection and consumes from a queue.
    ///
    /// # Errors
    ///
    /// If the queue is not there or the connection is closed.
    pub fn consume(
        &mut self,
        connection: ConnectionNo,
        queue: QueueNo,
        prefetch: usize,
    ) -> Result<ChannelNo, ChannelError> {
        if !self.connections[connection.0] {
            return Err(ChannelError::Closed);
        }
        if !self.queues[queue.0].is_declared {
            return Err(ChannelError::NotFound);
        }
        self.channels.push(Channel {
            connection,
            state: ChannelState::Open,
            queue: Some(queue),
            prefetch,
            next_tag: 1,
            unacknowledged: VecDeque::new(),
        });
        Ok(ChannelNo(self.channels.len() - 1))
    }

    /// Publishes to a queue. `mandatory`: tell if it is not there.
    pub fn publish(
        &mut self,
        connection: ConnectionNo,
        queue: QueueNo,
        message: M,
        mandatory: bool,
    ) -> Published {
        if !self.connections[connection.0] {
            return Published::Closed;
        }
        if self.alarm {
            return Published::Blocked;
        }
        self.arrive(queue, message, mandatory)
    }

    /// As [`Broker::arrive`], of a message that is delivered once, as from a queue with the delivery limit
    /// 0. It shares the queue of others here: which of two queues a consumer reads first says nothing.
    pub fn arrive_once(&mut self, queue: QueueNo, message: M, mandatory: bool) -> Published {
        let published = self.arrive(queue, message, mandatory);
        if published == Published::Confirmed
            && let Some(stored) = self.queues[queue.0].ready.back_mut()
        {
            stored.once = true;
        }
        published
    }

    /// A publication arrives, whoever sent it and whether they still live.
    pub fn arrive(&mut self, queue: QueueNo, message: M, mandatory: bool) -> Published {
        let queue = &mut self.queues[queue.0];
        if !queue.is_declared {
            return if mandatory {
                Published::Returned
            } else {
                Published::Dropped
            };
        }
        let limit = queue.options.max_length;
        if limit.is_some_and(|limit| queue.ready.len() >= limit) {
            return Published::Refused;
        }
        self.last_no += 1;
        queue.ready.push_back(Stored {
            no: self.last_no,
            returns: 0,
            died_in: None,
            once: false,
            message,
        });
        Published::Confirmed
    }

    /// Delivers the next message on a channel, if there is one and the channel may have more.
    pub fn deliver(&mut self, channel: ChannelNo) -> Option<Delivery<M>> {
        let held = &mut self.channels[channel.0];
        let queue = held.queue?;
        if held.state != ChannelState::Open || held.unacknowledged.len() >= held.prefetch {
            return None;
        }
        let queue = &mut self.queues[queue.0];
        let stored = queue.ready.pop_front()?;
        queue.returned = queue.returned.saturating_sub(1);
        let tag = held.next_tag;
        held.next_tag += 1;
        held.unacknowledged.push_back((tag, stored.clone()));
        Some(Delivery { tag, stored })
    }

    /// Acknowledges a delivery, or all up to it. What is gone for good.
    ///
    /// # Errors
    ///
    /// A tag that is not waited for closes the channel.
    pub fn acknowledge(
        &mut self,
        channel: ChannelNo,
        tag: u64,
        multiple: bool,
    ) -> Result<Vec<Stored<M>>, ChannelError> {
        let held = &mut self.channels[channel.0];
        match held.state {
            ChannelState::Open => {}
            ChannelState::Silent => return Ok(Vec::new()),
            ChannelState::Closed => return Err(ChannelError::Closed),
        }
        let waiting = &mut held.unacknowledged;
        let Ok(at) = waiting.binary_search_by_key(&tag, |(tag, _)| *tag) else {
            self.close_channel(channel);
            return Err(ChannelError::PreconditionFailed);
        };
        let from = if multiple { 0 } else { at };
        Ok(waiting.drain(from..=at).map(|(_, stored)| stored).collect())
    }

    /// Closes a channel; what is not acknowledged on it goes back to the head of its queue, in
    /// order, behind what has come back before.
    pub fn close_channel(&mut self, channel: ChannelNo) {
        let held = &mut self.channels[channel.0];
        held.state = ChannelState::Closed;
        let queue = held.queue;
        let back = std::mem::take(&mut held.unacknowledged);
        if let Some(queue) = queue {
            self.put_back(queue, back);
        }
    }

    fn put_back(&mut self, queue: QueueNo, back: VecDeque<(u64, Stored<M>)>) {
        let held = &mut self.queues[queue.0];
        let options = held.options;
        let mut dead = Vec::new();
        for (_, mut stored) in back {
            stored.returns += 1;
            let limit = if stored.once {
                Some(0)
            } else {
                options.delivery_limit
            };
            if limit.is_some_and(|limit| stored.returns > limit) {
                dead.push(stored);
            } else if held.is_declared {
                held.ready.insert(held.returned, stored);
                held.returned += 1;
            }
        }
        let Some(dead_letters) = options.dead_letters else {
            return;
        };
        for stored in dead {
            self.last_no += 1;
            self.queues[dead_letters.0].ready.push_back(Stored {
                no: self.last_no,
                returns: 0,
                died_in: Some(queue),
                once: false,
                message: stored.message,
            });
        }
    }

    /// Closes a connection with all its channels.
    pub fn close_connection(&mut self, connection: ConnectionNo) {
        self.connections[connection.0] = false;
        for no in 0..self.channels.len() {
            let held = &self.channels[no];
            if held.connection == connection && held.state != ChannelState::Closed {
                self.close_channel(ChannelNo(no));
            }
        }
    }

    /// Makes a channel silent: its owner notices nothing.
    pub fn silence(&mut self, channel: ChannelNo) {
        let held = &mut self.channels[channel.0];
        if held.state == ChannelState::Open {
            held.state = ChannelState::Silent;
        }
    }

    /// Removes what is ready in a queue; what is with consumers stays theirs.
    pub fn purge(&mut self, queue: QueueNo) -> Vec<Stored<M>> {
        let queue = &mut self.queues[queue.0];
        queue.returned = 0;
        queue.ready.drain(..).collect()
    }

    /// Deletes a queue with all its messages; the channels whose consumers are told that they are
    /// cancelled.
    pub fn delete(&mut self, queue: QueueNo) -> Vec<ChannelNo> {
        self.queues[queue.0].is_declared = false;
        self.purge(queue);
        let mut cancelled = Vec::new();
        for (no, held) in self.channels.iter_mut().enumerate() {
            if held.queue == Some(queue) && held.state != ChannelState::Closed {
                held.queue = None;
                cancelled.push(ChannelNo(no));
            }
        }
        cancelled
    }

    /// Blocks and unblocks publishers.
    pub fn set_alarm(&mut self, on: bool) {
        self.alarm = on;
    }

    /// Whether publishers are blocked.
    #[must_use]
    pub fn has_alarm(&self) -> bool {
        self.alarm
    }

    /// Whether a queue is there.
    #[must_use]
    pub fn is_declared(&self, queue: QueueNo) -> bool {
        self.queues[queue.0].is_declared
    }

    /// Whether the broker waits for the acknowledgement of a tag.
    #[must_use]
    pub fn waits_for(&self, channel: ChannelNo, tag: u64) -> bool {
        let waiting = &self.channels[channel.0].unacknowledged;
        waiting.binary_search_by_key(&tag, |(tag, _)| *tag).is_ok()
    }

    /// Whether a channel is open, as far as its owner can tell.
    #[must_use]
    pub fn is_open(&self, channel: ChannelNo) -> bool {
        self.channels[channel.0].state != ChannelState::Closed
    }

    /// Whether a channel is silent.
    #[must_use]
    pub fn is_silent(&self, channel: ChannelNo) -> bool {
        self.channels[channel.0].state == ChannelState::Silent
    }

    /// Whether a connection is open.
    #[must_use]
    pub fn is_connected(&self, connection: ConnectionNo) -> bool {
        self.connections[connection.0]
    }

    /// What waits in a queue, from the head.
    #[must_use]
    pub fn ready(&self, queue: QueueNo) -> &VecDeque<Stored<M>> {
        &self.queues[queue.0].ready
    }

    /// The same, to change it as no broker would.
    pub fn ready_mut(&mut self, queue: QueueNo) -> &mut VecDeque<Stored<M>> {
        &mut self.queues[queue.0].ready
    }

    /// What of a queue is with consumers.
    pub fn unacknowledged(&self, queue: QueueNo) -> impl Iterator<Item = &Stored<M>> {
        self.unacknowledged_by_channel(queue)
            .map(|(_, stored)| stored)
    }

    /// The same, with the channel.
    pub fn unacknowledged_by_channel(
        &self,
        queue: QueueNo,
    ) -> impl Iterator<Item = (ChannelNo, &Stored<M>)> {
        let consumers = self.channels.iter().enumerate();
        consumers
            .filter(move |(_, channel)| channel.queue == Some(queue))
            .flat_map(|(no, channel)| {
                let waiting = channel.unacknowledged.iter();
                waiting.map(move |(_, stored)| (ChannelNo(no), stored))
            })
    }

    /// Everything of a queue: with consumers, then what is ready.
    pub fn messages(&self, queue: QueueNo) -> impl Iterator<Item = &Stored<M>> {
        self.unacknowledged(queue).chain(self.ready(queue))
    }

    /// All queues that are there.
    pub fn queues(&self) -> impl Iterator<Item = QueueNo> + use<'_, M> {
        let all = self.queues.iter().enumerate();
        all.filter(|(_, queue)| queue.is_declared)
            .map(|(no, _)| QueueNo(no))
    }
}
