//! Whether the broker can be reached. A lease is kept only by who can work: a partition whose inbox
//! is not read, or for which nothing can be published, is let go, and a coordinator that is cut off
//! takes none.
//!
//! A channel can go silent without an end, while its queue fills or the broker believes to have
//! delivered. An inbox on which nothing has come for long is asked for a probe, which must come back;
//! the depth of its queue would not tell, since the broker may count the messages as delivered. The
//! queues that all coordinators share are looked at.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use flotilla_protocol::message::CoordinatorProbe;

use crate::Turns;
use crate::channels::Channel;
use crate::effect::Effect;
use crate::message::ChannelId;
use crate::partitions::Partition;
use crate::rows::PartitionNo;

/// Seconds for which a partition is kept while its inbox is not read or nothing can be published.
const CUT_OFF_LIMIT_S: i64 = 3;
/// Seconds without a delivery after which a channel is tried.
const QUIET_LIMIT_S: i64 = 10;
/// Seconds after which what must come, since it is in the queue, counts as missing.
const ANSWER_LIMIT_S: i64 = 3;

impl Turns {
    /// Looks at every channel and at the publisher; called at each tick.
    pub(crate) fn watch_reach(&mut self, out: &mut Vec<Effect>) {
        let (now, is_up) = (self.now, self.publisher_is_up);
        for (no, held) in &mut self.partitions {
            let works = is_up && self.channels.is_open(ChannelId::Inbox(*no));
            mark_since(&mut held.cut_off_since, works, now);
        }
        let works = is_up && self.channels.is_open(ChannelId::Control);
        mark_since(&mut self.cut_off_since, works, now);
        self.try_quiet_channels(out);
    }

    fn try_quiet_channels(&mut self, out: &mut Vec<Effect>) {
        let now = self.now;
        let mut silent = Vec::new();
        for (channel, held) in self.channels.iter_mut() {
            if !held.is_quiet(now) {
                continue;
            }
            if held.is_suspected {
                silent.push((*channel, held.generation));
            } else if !held.is_tried {
                held.is_tried = true;
                out.extend(trial(*channel, held.generation, &self.partitions));
            }
        }
        for (channel, generation) in silent {
            tracing::warn!(?channel, "a consumer has gone silent");
            out.push(Effect::CloseChannel {
                channel,
                generation,
            });
            self.channel_closed(channel, generation, out);
        }
    }

    /// Whether this coordinator could work for a partition that it took.
    pub(crate) fn is_reachable(&self) -> bool {
        !is_past_limit(self.cut_off_since, self.now)
    }

    /// Lets go of partitions that cannot be worked for. Called between two turns.
    pub(crate) fn abandon_what_is_cut_off(&mut self, out: &mut Vec<Effect>) {
        let cut_off: Vec<PartitionNo> = self
            .partitions
            .iter()
            .filter(|(_, held)| held.is_serving() && is_past_limit(held.cut_off_since, self.now))
            .map(|(no, _)| *no)
            .collect();
        if !cut_off.is_empty() {
            tracing::warn!(partitions = ?cut_off, "the broker cannot be reached for partitions");
            self.let_go(&cut_off, out);
        }
    }

    /// The answer to a look into a queue.
    pub(crate) fn queue_inspected(
        &mut self,
        channel: ChannelId,
        generation: u64,
        messages: Option<u32>,
    ) {
        let now = self.now;
        let Some(held) = self.channels.current(channel, generation) else {
            return;
        };
        if messages.is_none_or(|messages| messages == 0) {
            held.hears(now);
        } else {
            held.suspect(now);
        }
    }

    /// A probe is in the inbox of a partition, and must come soon, if it has not already.
    pub(crate) fn probe_sent(&mut self, partition: PartitionNo) {
        let now = self.now;
        if let Some(held) = self.channels.get_mut(ChannelId::Inbox(partition)) {
            held.suspect(now);
        }
    }

    /// A probe could not be sent.
    pub(crate) fn probe_failed(&mut self, partition: PartitionNo) {
        let now = self.now;
        if let Some(held) = self.channels.get_mut(ChannelId::Inbox(partition)) {
            held.hears(now);
        }
        if let Some(held) = self.partitions.get_mut(&partition) {
            held.probe_sent_at = None;
        }
    }
}

/// What shows whether a channel that is quiet still works.
fn trial(
    channel: ChannelId,
    generation: u64,
    partitions: &BTreeMap<PartitionNo, Partition>,
) -> Option<Effect> {
    match channel {
        ChannelId::Inbox(partition) => {
            let epoch = partitions.get(&partition)?.epoch;
            Some(Effect::SendProbe(CoordinatorProbe {
                partition,
                epoch,
                sent_at: None,
            }))
        }
        ChannelId::Start | ChannelId::Control | ChannelId::Dead => Some(Effect::InspectQueue {
            channel,
            generation,
        }),
    }
}

fn mark_since(since: &mut Option<DateTime<Utc>>, works: bool, now: DateTime<Utc>) {
    if works {
        *since = None;
    } else {
        since.get_or_insert(now);
    }
}

fn is_past_limit(since: Option<DateTime<Utc>>, now: DateTime<Utc>) -> bool {
    since.is_some_and(|since| now - since >= TimeDelta::seconds(CUT_OFF_LIMIT_S))
}

impl Channel {
    /// Something has come, or there is nothing to come.
    pub(crate) fn hears(&mut self, now: DateTime<Utc>) {
        self.quiet_since = now;
        self.is_tried = false;
        self.is_suspected = false;
    }

    /// There is something to come, unless it has come meanwhile.
    fn suspect(&mut self, now: DateTime<Utc>) {
        if self.is_tried && !self.is_suspected {
            self.is_suspected = true;
            self.quiet_since = now;
        }
    }

    /// Whether nothing has come for long enough to wonder. What is here and not acknowledged may be
    /// all that the broker will give.
    fn is_quiet(&self, now: DateTime<Utc>) -> bool {
        let limit_s = if self.is_suspected {
            ANSWER_LIMIT_S
        } else {
            QUIET_LIMIT_S
        };
        self.is_open
            && self.deliveries.is_empty()
            && now - self.quiet_since >= TimeDelta::seconds(limit_s)
    }
}
