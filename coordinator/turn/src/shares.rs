//! Even shares. Who holds more partitions than its share hands the rest over between two turns: it
//! takes nothing more of them, waits for the confirms of what it has published, writes the watermark
//! once more, and lets go. A clean stop is the same for all of them.

use chrono::TimeDelta;

use crate::Turns;
use crate::effect::Effect;
use crate::gather::Turn;
use crate::machine::{Looking, Stopping};
use crate::message::ChannelId;
use crate::partitions::Partition;
use crate::rows::PartitionNo;

/// Milliseconds that a hand-over waits for confirms. What is not confirmed by then the next owner
/// publishes once more.
const LEAVE_PATIENCE_MS: i64 = 1000;
/// Looks in a row that must find too many partitions here before some are handed over: others that
/// start or stop at the same time are then known.
const EXCESS_LOOKS: u32 = 2;

impl Turns {
    /// Learns how many partitions are its share.
    pub(crate) fn shared(&mut self, share: Option<usize>) {
        let serving = || {
            self.partitions
                .iter()
                .filter(|(_, held)| held.is_serving())
                .map(|(no, _)| *no)
        };
        let excess = share.map_or(0, |share| serving().count().saturating_sub(share));
        if excess == 0 {
            self.excess_looks = 0;
            return;
        }
        self.excess_looks += 1;
        if self.excess_looks < EXCESS_LOOKS {
            return;
        }
        let mut leaving: Vec<PartitionNo> = serving().collect();
        let kept = leaving.len() - excess;
        leaving.drain(..kept);
        tracing::info!(?leaving, "hands partitions over");
        self.leave(&leaving);
    }

    /// Begins to hand partitions over.
    pub(crate) fn leave(&mut self, leaving: &[PartitionNo]) {
        for no in leaving {
            if let Some(held) = self.partitions.get_mut(no) {
                held.leaving_since.get_or_insert(self.now);
            }
        }
    }

    /// Stops reading what belongs to partitions that are being handed over. Called between two
    /// turns: what a turn has taken is acknowledged on the channel that it came on.
    pub(crate) fn close_what_leaves(&mut self, out: &mut Vec<Effect>) {
        let leaving: Vec<PartitionNo> = self
            .partitions
            .iter()
            .filter(|(_, held)| !held.is_serving())
            .map(|(no, _)| *no)
            .collect();
        for no in leaving {
            self.close_channel(ChannelId::Inbox(no), out);
        }
        if !self.partitions.values().any(Partition::is_serving) {
            self.close_channel(ChannelId::Start, out);
        }
    }

    /// The partitions of which nothing is left to do but to let go.
    pub(crate) fn ready_to_leave(&self) -> Vec<PartitionNo> {
        let patience = TimeDelta::milliseconds(LEAVE_PATIENCE_MS);
        self.partitions
            .iter()
            .filter(|(_, held)| {
                held.leaving_since
                    .is_some_and(|since| held.is_dispatched() || self.now - since >= patience)
            })
            .map(|(no, _)| *no)
            .collect()
    }

    /// Lets go of partitions whose last watermark is written.
    pub(crate) fn let_go(&mut self, farewells: &[PartitionNo], out: &mut Vec<Effect>) {
        let held: Vec<_> = farewells
            .iter()
            .filter_map(|no| self.partitions.get(no).map(|held| (*no, held.epoch)))
            .collect();
        for (no, _) in &held {
            self.lose_partition(*no, out);
        }
        if !held.is_empty() {
            let resigns = self.stopping != Stopping::No;
            out.push(Effect::ReleasePartitions { held, resigns });
        }
    }

    /// Ends a clean stop once nothing is held any more.
    pub(crate) fn stop_if_done(&mut self, out: &mut Vec<Effect>) {
        // A look that is under way may take more.
        let is_held = !self.partitions.is_empty() || self.looking != Looking::No;
        if self.stopping != Stopping::Finishing || is_held {
            return;
        }
        for channel in self.channels.ids() {
            self.close_channel(channel, out);
        }
        out.push(Effect::ReleasePartitions {
            held: Vec::new(),
            resigns: true,
        });
        out.push(Effect::Stopped);
        self.stopping = Stopping::Done;
    }

    /// Whether a turn says farewell to partitions.
    pub(crate) fn add_farewells(&self, turn: &mut Turn) {
        turn.farewells = self.ready_to_leave();
    }
}
