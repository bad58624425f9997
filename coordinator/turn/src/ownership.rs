//! Partitions come and go, with their channels and timers.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};

use crate::Turns;
use crate::effect::Effect;
use crate::gather::Recovery;
use crate::machine::{Stopping, TIMER_HORIZON_S};
use crate::message::ChannelId;
use crate::partitions::Partition;
use crate::rows::{Epoch, OutboxJob, OutboxReply, PartitionNo, TakenPartition, TimerRow, TurnNo};

impl Turns {
    pub(crate) fn take_partition(&mut self, taken: TakenPartition, out: &mut Vec<Effect>) {
        let no = taken.partition;
        if self.partitions.contains_key(&no) {
            self.lose_partition(no, out);
        }
        self.now = self.now.max(taken.now);
        let mut partition = Partition::new(&taken);
        for timer in &taken.timers {
            self.timers.set(*timer);
        }
        for recovery in recoveries(taken) {
            partition.owe(recovery.turn, recovery.jobs.len() + recovery.replies.len());
            self.recoveries.push_back(recovery);
        }
        self.partitions.insert(no, partition);
        self.ensure_open(ChannelId::Inbox(no), out);
        self.ensure_open(ChannelId::Start, out);
    }

    /// Forgets a partition that is no longer ours.
    pub(crate) fn lose_partition(&mut self, no: PartitionNo, out: &mut Vec<Effect>) {
        self.partitions.remove(&no);
        self.cache.remove_partition(no);
        self.timers.remove_partition(no);
        self.publications.remove_partition(no);
        self.recoveries.retain(|recovery| recovery.partition != no);
        self.poisoned.retain(|poisoned| poisoned.partition != no);
        self.close_channel(ChannelId::Inbox(no), out);
        if self.partitions.is_empty() {
            self.close_channel(ChannelId::Start, out);
        }
    }

    pub(crate) fn close_channel(&mut self, channel: ChannelId, out: &mut Vec<Effect>) {
        if let Some(generation) = self.channels.close(channel) {
            out.push(Effect::CloseChannel {
                channel,
                generation,
            });
        }
    }

    pub(crate) fn channel_closed(
        &mut self,
        channel: ChannelId,
        generation: u64,
        out: &mut Vec<Effect>,
    ) {
        if self.channels.current(channel, generation).is_some() {
            self.channels.close(channel);
            if self.stopping == Stopping::No {
                self.ensure_open(channel, out);
            }
        }
    }

    pub(crate) fn ensure_open(&mut self, channel: ChannelId, out: &mut Vec<Effect>) {
        if !self.channels.contains(channel) {
            let generation = self.channels.open(channel);
            out.push(Effect::OpenChannel {
                channel,
                generation,
            });
        }
    }

    pub(crate) fn refill_timers(&mut self, out: &mut Vec<Effect>) {
        let half = TimeDelta::seconds(TIMER_HORIZON_S / 2);
        let until = self.now + TimeDelta::seconds(TIMER_HORIZON_S);
        for (partition, held) in &mut self.partitions {
            if held.timers_asked.is_none() && held.timers_until - self.now < half {
                held.timers_asked = Some(until);
                let (from, epoch) = (held.timers_until, held.epoch);
                out.push(Effect::LoadTimers {
                    partition: *partition,
                    epoch,
                    from,
                    until,
                });
            }
        }
    }

    pub(crate) fn timers_loaded(
        &mut self,
        partition: PartitionNo,
        epoch: Epoch,
        until: DateTime<Utc>,
        timers: Option<Vec<TimerRow>>,
    ) {
        let Some(held) = self
            .partitions
            .get_mut(&partition)
            .filter(|held| held.epoch == epoch)
        else {
            return;
        };
        held.timers_asked = None;
        if let Some(timers) = timers {
            held.timers_until = until;
            for timer in timers {
                self.timers.set(timer);
            }
        }
    }

    /// Lets go of everything, at the end of a clean stop.
    pub(crate) fn leave(&mut self, out: &mut Vec<Effect>) {
        for channel in self.channels.ids() {
            self.close_channel(channel, out);
        }
        let held = std::mem::take(&mut self.partitions);
        let released = held
            .iter()
            .map(|(no, partition)| (*no, partition.epoch))
            .collect();
        out.push(Effect::ReleasePartitions(released));
        out.push(Effect::Stopped);
        self.stopping = Stopping::Done;
    }
}
/// What the former owner owed, by turn.
fn recoveries(taken: TakenPartition) -> Vec<Recovery> {
    let mut by_turn: BTreeMap<TurnNo, (Vec<OutboxJob>, Vec<OutboxReply>)> = BTreeMap::new();
    for job in taken.jobs {
        by_turn.entry(job.turn).or_default().0.push(job);
    }
    for reply in taken.replies {
        by_turn.entry(reply.turn).or_default().1.push(reply);
    }
    let (partition, epoch) = (taken.partition, taken.epoch);
    by_turn
        .into_iter()
        .map(|(turn, (jobs, replies))| Recovery {
            partition,
            epoch,
            turn,
            jobs,
            replies,
        })
        .collect()
}
