//! What each channel has delivered and what of it may be acknowledged: always a prefix.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use chrono::{DateTime, Utc};

use crate::message::{ChannelId, Delivered, DeliveryId, Message};

/// Where a delivery stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// It waits for a turn.
    Pending,
    /// It is suspect and waits until it is marked; only one is at a time.
    Suspect,
    /// It waits until its mark as a suspect is written.
    Marking,
    /// It is marked, and may be taken in a turn of its own.
    Marked,
    /// It is part of the turn under way.
    Taken,
    /// It is being passed on.
    Forwarding,
    /// Its effect is safe.
    Done,
}

impl Stage {
    /// Whether it is a suspect that has not been taken.
    pub fn is_set_aside(self) -> bool {
        match self {
            Self::Suspect | Self::Marking | Self::Marked => true,
            Self::Pending | Self::Taken | Self::Forwarding | Self::Done => false,
        }
    }
}

/// A delivery that is not acknowledged yet.
#[derive(Debug)]
pub(crate) struct Delivery {
    pub tag: u64,
    pub bytes: usize,
    pub suspect_key: Option<String>,
    pub stage: Stage,
    pub message: Arc<Message>,
}

/// One opening of a channel.
#[derive(Debug)]
pub(crate) struct Channel {
    pub generation: u64,
    pub is_open: bool,
    pub deliveries: VecDeque<Delivery>,
    /// Since when nothing has come.
    pub quiet_since: DateTime<Utc>,
    /// Whether it is being tried, since nothing has come for long.
    pub is_tried: bool,
    /// Whether there is something in its queue that does not come.
    pub is_suspected: bool,
}

/// All channels.
#[derive(Debug, Default)]
pub(crate) struct Channels {
    by_id: BTreeMap<ChannelId, Channel>,
    last_generation: u64,
}

impl Channels {
    /// Begins a new opening; gives its number.
    pub fn open(&mut self, channel: ChannelId, now: DateTime<Utc>) -> u64 {
        self.last_generation += 1;
        let generation = self.last_generation;
        self.by_id.insert(
            channel,
            Channel {
                generation,
                is_open: false,
                deliveries: VecDeque::new(),
                quiet_since: now,
                is_tried: false,
                is_suspected: false,
            },
        );
        generation
    }

    /// Forgets a channel; gives the number of its opening.
    pub fn close(&mut self, channel: ChannelId) -> Option<u64> {
        self.by_id
            .remove(&channel)
            .map(|channel| channel.generation)
    }

    pub fn contains(&self, channel: ChannelId) -> bool {
        self.by_id.contains_key(&channel)
    }

    /// Whether every channel that is wanted is open.
    pub fn are_open(&self) -> bool {
        self.by_id.values().all(|channel| channel.is_open)
    }

    /// Whether a channel is there and consumes.
    pub fn is_open(&self, channel: ChannelId) -> bool {
        self.by_id.get(&channel).is_some_and(|held| held.is_open)
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&ChannelId, &mut Channel)> {
        self.by_id.iter_mut()
    }

    pub fn ids(&self) -> Vec<ChannelId> {
        self.by_id.keys().copied().collect()
    }

    /// The channel, if `generation` is its current opening.
    pub fn current(&mut self, channel: ChannelId, generation: u64) -> Option<&mut Channel> {
        self.by_id
            .get_mut(&channel)
            .filter(|held| held.generation == generation)
    }

    pub fn get_mut(&mut self, channel: ChannelId) -> Option<&mut Channel> {
        self.by_id.get_mut(&channel)
    }

    /// Adds a delivery; false if it came on an earlier opening.
    pub fn push(
        &mut self,
        delivered: Delivered,
        stage: Stage,
        now: DateTime<Utc>,
    ) -> Option<Arc<Message>> {
        let channel = self.current(delivered.id.channel, delivered.id.generation)?;
        channel.hears(now);
        let message = Arc::new(delivered.message);
        channel.deliveries.push_back(Delivery {
            tag: delivered.id.tag,
            bytes: delivered.bytes,
            suspect_key: delivered.suspect_key,
            stage,
            message: Arc::clone(&message),
        });
        Some(message)
    }

    pub fn delivery(&mut self, id: DeliveryId) -> Option<&mut Delivery> {
        let deliveries = &mut self.current(id.channel, id.generation)?.deliveries;
        let at = deliveries
            .binary_search_by_key(&id.tag, |delivery| delivery.tag)
            .ok()?;
        deliveries.get_mut(at)
    }

    /// Takes away everything at the front that is done; gives the last of it, up to which the
    /// channel can be acknowledged.
    pub fn settle(&mut self, channel: ChannelId) -> Option<DeliveryId> {
        let held = self.by_id.get_mut(&channel)?;
        let mut last = None;
        while held
            .deliveries
            .front()
            .is_some_and(|delivery| delivery.stage == Stage::Done)
        {
            last = held.deliveries.pop_front().map(|delivery| delivery.tag);
        }
        last.map(|tag| DeliveryId {
            channel,
            generation: held.generation,
            tag,
        })
    }
}
