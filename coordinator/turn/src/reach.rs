//! Whether the broker can be reached. A lease is kept only by who can work: a partition whose inbox
//! is not read, or for which nothing can be published, is let go, and a coordinator that is cut off
//! takes none. A channel that has gone silent while its queue has messages counts as closed.

use chrono::{DateTime, TimeDelta, Utc};

use crate::Turns;
use crate::channels::Channel;
use crate::effect::Effect;
use crate::message::ChannelId;
use crate::rows::PartitionNo;

/// Seconds for which a partition is kept while its inbox is not read or nothing can be published.
const CUT_OFF_LIMIT_S: i64 = 3;
/// Seconds without a delivery after which a queue is looked at.
const QUIET_LIMIT_S: i64 = 10;
/// Seconds until it is looked at again when messages were found in it.
const SECOND_LOOK_S: i64 = 1;

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
        for (channel, held) in self.channels.iter_mut() {
            if held.is_due_for_a_look(now) {
                held.is_inspected = true;
                out.push(Effect::InspectQueue {
                    channel: *channel,
                    generation: held.generation,
                });
            }
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
        out: &mut Vec<Effect>,
    ) {
        let now = self.now;
        let Some(held) = self.channels.current(channel, generation) else {
            return;
        };
        held.is_inspected = false;
        if messages.is_none_or(|messages| messages == 0) || !held.is_quiet(now) {
            held.hears(now);
        } else if held.is_suspected {
            tracing::warn!(?channel, "a consumer has gone silent");
            out.push(Effect::CloseChannel {
                channel,
                generation,
            });
            self.channel_closed(channel, generation, out);
        } else {
            held.is_suspected = true;
            held.quiet_since = now;
        }
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
    /// Something has come.
    pub(crate) fn hears(&mut self, now: DateTime<Utc>) {
        self.quiet_since = now;
        self.is_suspected = false;
    }

    /// Whether nothing has come for long enough to wonder. What is here and not acknowledged may be
    /// all that the broker will give.
    fn is_quiet(&self, now: DateTime<Utc>) -> bool {
        let limit_s = if self.is_suspected {
            SECOND_LOOK_S
        } else {
            QUIET_LIMIT_S
        };
        self.is_open
            && self.deliveries.is_empty()
            && now - self.quiet_since >= TimeDelta::seconds(limit_s)
    }

    fn is_due_for_a_look(&self, now: DateTime<Utc>) -> bool {
        !self.is_inspected && self.is_quiet(now)
    }
}
