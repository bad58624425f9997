//! Partitions come and go, with their channels and timers.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};

use crate::Turns;
use crate::effect::Effect;
use crate::gather::{Item, Recovery};
use crate::machine::{Phase, Stopping, TIMER_HORIZON_S};
use crate::message::ChannelId;
use crate::mutant::Mutant;
use crate::partitions::Partition;
use crate::rows::{Epoch, OutboxJob, OutboxReply, PartitionNo, TakenPartition, TimerRow, TurnNo};

impl Turns {
    pub(crate) fn take_partition(&mut self, mut taken: TakenPartition, out: &mut Vec<Effect>) {
        let no = taken.partition;
        if self.is_planted(Mutant::NoOutboxAtTakeOver) {
            taken.jobs.clear();
            taken.replies.clear();
        }
        if self.partitions.contains_key(&no) {
            self.lose_partition(no, out);
            self.forget_in_turn(no);
        }
        self.now = self.now.max(taken.now);
        let mut partition = Partition::new(&taken);
        for timer in &taken.timers {
            self.timers.set_loaded(*timer, self.now);
        }
        for recovery in recoveries(taken) {
            partition.owe(recovery.turn, recovery.jobs.len() + recovery.replies.len());
            self.recoveries.push_back(recovery);
        }
        self.partitions.insert(no, partition);
        if self.stopping == Stopping::No {
            self.ensure_open(ChannelId::Inbox(no), out);
            self.ensure_open(ChannelId::Start, out);
        } else {
            self.leave(&[no]);
        }
    }

    /// Forgets a partition that is no longer ours.
    pub(crate) fn lose_partition(&mut self, no: PartitionNo, out: &mut Vec<Effect>) {
        self.partitions.remove(&no);
        if !self.is_planted(Mutant::CacheKeptAfterFence) {
            self.cache.remove_partition(no);
        }
        self.timers.remove_partition(no);
        self.keep_orphans(no);
        if !self.is_planted(Mutant::LostPartitionPublishes) {
            self.publications.remove_partition(no);
            self.pacing.remove_partition(no);
        }
        self.recoveries.retain(|recovery| recovery.partition != no);
        self.poisoned.retain(|poisoned| poisoned.partition != no);
        self.lost_jobs.retain(|lost| lost.partition != no);
        self.close_channel(ChannelId::Inbox(no), out);
        if self.partitions.is_empty() {
            self.close_channel(ChannelId::Start, out);
        }
    }

    /// The partition begins anew while a turn is under way: what that turn took of it has come again
    /// with the partition, or will.
    fn forget_in_turn(&mut self, no: PartitionNo) {
        let turn = match &mut self.phase {
            Phase::Idle => return,
            Phase::Loading { turn, is_void, .. } => {
                *is_void = true;
                turn
            }
            Phase::Committing { turn, .. } => turn,
        };
        turn.items.retain(|item| match item {
            Item::Delivery { id, .. } => id.channel != ChannelId::Inbox(no),
            Item::Timer(timer) => timer.partition != no,
            Item::Recovery(recovery) => recovery.partition != no,
            Item::Poisoned(poisoned) => poisoned.partition != no,
            Item::LostJob(lost) => lost.partition != no,
        });
        turn.farewells.retain(|farewell| *farewell != no);
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
            let now = self.now;
            self.poisoned
                .retain(|poisoned| poisoned.delivery.generation != generation);
            if let ChannelId::Inbox(partition) = channel
                && let Some(held) = self.partitions.get_mut(&partition)
            {
                // Completions that came before the probe may come again.
                held.probe_sent_at = None;
                held.probes_count_from = now;
                held.deadlines_until = None;
            }
            if self.is_wanted(channel) {
                self.ensure_open(channel, out);
            }
        }
    }

    /// Whether a channel that has closed is to be opened again.
    fn is_wanted(&self, channel: ChannelId) -> bool {
        let is_running = self.stopping == Stopping::No;
        match channel {
            ChannelId::Control | ChannelId::Dead => is_running,
            ChannelId::Start => is_running && self.partitions.values().any(Partition::is_serving),
            ChannelId::Inbox(no) => self.partitions.get(&no).is_some_and(Partition::is_serving),
        }
    }

    pub(crate) fn ensure_open(&mut self, channel: ChannelId, out: &mut Vec<Effect>) {
        if !self.channels.contains(channel) {
            let generation = self.channels.open(channel, self.now);
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
        let changed = std::mem::take(&mut held.timers_changed);
        if let Some(timers) = timers {
            held.timers_until = until;
            for timer in timers {
                if !changed.contains(&(timer.execution_id, timer.run)) {
                    self.timers.set_loaded(timer, self.now);
                }
            }
        }
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
