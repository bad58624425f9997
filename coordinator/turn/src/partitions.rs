//! The partitions that this process owns, and how far each is dispatched.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use flotilla_protocol::{ExecutionId, RunNo};

use crate::rows::{Epoch, PartitionNo, PartitionTurn, TakenPartition, TurnNo};

/// A partition that is ours, until the fence says otherwise.
#[derive(Debug)]
pub(crate) struct Partition {
    pub epoch: Epoch,
    pub last_turn: TurnNo,
    /// Publications of each turn that the broker has not confirmed.
    unconfirmed: BTreeMap<TurnNo, usize>,
    /// Timers due before this are in memory.
    pub timers_until: DateTime<Utc>,
    /// Up to when timers are being loaded.
    pub timers_asked: Option<DateTime<Utc>>,
    /// When the last probe was sent, unless it has come back.
    pub probe_sent_at: Option<DateTime<Utc>>,
    /// Probes that were sent before this mean nothing: completions that were in the inbox before them
    /// may come again after them.
    pub probes_count_from: DateTime<Utc>,
    /// Deadlines due until then may act: a probe that was sent at that time has come back.
    pub deadlines_until: Option<DateTime<Utc>>,
    /// Timers that have changed since more were asked for: what comes may be older.
    pub timers_changed: BTreeSet<(ExecutionId, RunNo)>,
    /// When it was taken: what was due before may be much at once.
    pub taken_at: DateTime<Utc>,
    /// Since when it is being handed over: nothing more of it is taken.
    pub leaving_since: Option<DateTime<Utc>>,
    /// Since when its inbox is not read, or nothing can be published.
    pub cut_off_since: Option<DateTime<Utc>>,
}

impl Partition {
    pub fn new(taken: &TakenPartition) -> Self {
        Self {
            epoch: taken.epoch,
            last_turn: taken.last_turn,
            unconfirmed: BTreeMap::new(),
            timers_until: taken.timers_until,
            timers_asked: None,
            probe_sent_at: None,
            probes_count_from: taken.now,
            deadlines_until: None,
            timers_changed: BTreeSet::new(),
            taken_at: taken.now,
            leaving_since: None,
            cut_off_since: None,
        }
    }

    /// Whether it takes part in turns, and is not being handed over.
    pub fn is_serving(&self) -> bool {
        self.leaving_since.is_none()
    }

    /// Whether the broker has confirmed everything.
    pub fn is_dispatched(&self) -> bool {
        self.unconfirmed.is_empty()
    }

    /// Timers due before this must be kept in memory.
    pub fn timer_horizon(&self) -> DateTime<Utc> {
        self.timers_asked.unwrap_or(self.timers_until)
    }

    pub fn owe(&mut self, turn: TurnNo, publications: usize) {
        if publications > 0 {
            *self.unconfirmed.entry(turn).or_insert(0) += publications;
        }
    }

    pub fn confirm(&mut self, turn: TurnNo) {
        if let Some(count) = self.unconfirmed.get_mut(&turn) {
            *count -= 1;
            if *count == 0 {
                self.unconfirmed.remove(&turn);
            }
        }
    }

    /// The highest turn up to which every turn is confirmed.
    pub fn dispatched_through(&self) -> TurnNo {
        self.unconfirmed
            .keys()
            .next()
            .map_or(self.last_turn, |turn| turn - 1)
    }

    /// Whether nothing of the newest turn is unconfirmed.
    pub fn is_newest_confirmed(&self) -> bool {
        !self.unconfirmed.contains_key(&self.last_turn)
    }

    /// The fence of the next turn.
    pub fn next_turn(&self, partition: PartitionNo) -> PartitionTurn {
        PartitionTurn {
            partition,
            epoch: self.epoch,
            turn: self.last_turn + 1,
            dispatched_through: self.dispatched_through(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition(last_turn: TurnNo) -> Partition {
        Partition::new(&TakenPartition {
            partition: 0,
            epoch: 1,
            last_turn,
            dispatched_through: last_turn,
            jobs: Vec::new(),
            replies: Vec::new(),
            timers: Vec::new(),
            timers_until: DateTime::UNIX_EPOCH,
            now: DateTime::UNIX_EPOCH,
        })
    }

    #[test]
    fn the_watermark_does_not_pass_a_turn_that_is_not_confirmed() {
        let mut partition = partition(7);
        assert_eq!(partition.dispatched_through(), 7);
        partition.owe(8, 2);
        partition.owe(9, 1);
        partition.last_turn = 9;
        assert_eq!(partition.dispatched_through(), 7);
        partition.confirm(9);
        assert_eq!(
            partition.dispatched_through(),
            7,
            "9 is confirmed, 8 is not"
        );
        partition.confirm(8);
        assert_eq!(partition.dispatched_through(), 7, "one of two");
        partition.confirm(8);
        assert_eq!(partition.dispatched_through(), 9);
    }
}
