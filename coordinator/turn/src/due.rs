//! Timers that are due: which of them a turn takes. Deadlines wait for a probe of their inbox, and
//! what was overdue before its partition came here is taken at a measured pace.

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta, Utc};
use flotilla_engine::execution::TimerKind;
use flotilla_protocol::message::CoordinatorProbe;

use crate::Turns;
use crate::effect::Effect;
use crate::gather::{Budget, Item, Turn};
use crate::mutant::Mutant;
use crate::rows::{PartitionNo, TimerRow};

/// Seconds after which a probe that has not come back is sent again.
const PROBE_PATIENCE_S: i64 = 30;
/// Timers per second that were overdue when their partition was taken: after a long outage there may
/// be thousands of them, and each may dispatch a job.
const OVERDUE_PER_S: i64 = 500;
/// How many of them may act at once.
const OVERDUE_BURST: i64 = 250;

/// Lets overdue timers through at a bounded rate.
#[derive(Debug)]
pub(crate) struct Pace {
    left: i64,
    refilled_at: DateTime<Utc>,
}

impl Pace {
    pub fn new(now: DateTime<Utc>) -> Self {
        Self {
            left: OVERDUE_BURST,
            refilled_at: now,
        }
    }

    fn refill(&mut self, now: DateTime<Utc>) {
        let each = TimeDelta::microseconds(1_000_000 / OVERDUE_PER_S);
        let passed = (now - self.refilled_at).num_microseconds().unwrap_or(0);
        let more = passed / each.num_microseconds().unwrap_or(1);
        self.left = (self.left + more).min(OVERDUE_BURST);
        self.refilled_at = if self.left == OVERDUE_BURST {
            now
        } else {
            self.refilled_at + each * i32::try_from(more).unwrap_or(i32::MAX)
        };
    }
}

/// What a timer that is due has to wait for.
enum Standing {
    Acts,
    Probe,
    /// Its partition is being handed over.
    NextOwner,
}

impl Turns {
    pub(crate) fn take_timers(
        &mut self,
        turn: &mut Turn,
        budget: &mut Budget,
        out: &mut Vec<Effect>,
    ) {
        self.pace.refill(self.now);
        let taken_at = self.partitions.values().map(|held| held.taken_at).max();
        let Some(boundary) = taken_at.map(|at| at.min(self.now)) else {
            return;
        };
        let mut taken: Vec<TimerRow> = Vec::new();
        let mut to_probe = BTreeSet::new();
        for timer in self.timers.due(DateTime::UNIX_EPOCH, boundary) {
            if budget.is_spent() || self.pace.left == 0 {
                break;
            }
            if self.sort_out(timer, &mut to_probe) {
                self.pace.left -= 1;
                budget.spend(1, 0);
                taken.push(*timer);
            }
        }
        let just_after_now = self.now + TimeDelta::microseconds(1);
        for timer in self.timers.due(boundary, just_after_now) {
            if budget.is_spent() {
                break;
            }
            if self.sort_out(timer, &mut to_probe) {
                budget.spend(1, 0);
                taken.push(*timer);
            }
        }
        for timer in taken {
            self.timers.clear(timer.execution_id, timer.run);
            turn.items.push(Item::Timer(timer));
        }
        for partition in to_probe {
            self.send_probe(partition, out);
        }
    }

    /// Whether a timer that is due may act; notes the probe that it waits for.
    fn sort_out(&self, timer: &TimerRow, to_probe: &mut BTreeSet<PartitionNo>) -> bool {
        match self.standing(timer) {
            Standing::Acts => true,
            Standing::Probe => {
                to_probe.insert(timer.partition);
                false
            }
            Standing::NextOwner => false,
        }
    }

    fn standing(&self, timer: &TimerRow) -> Standing {
        let Some(held) = self.partitions.get(&timer.partition) else {
            return Standing::NextOwner;
        };
        if !held.is_serving() {
            return Standing::NextOwner;
        }
        match timer.kind {
            // A completion that ends the attempt, or the execution, may wait in the inbox.
            TimerKind::Deadline
            | TimerKind::Cancel
            | TimerKind::Heartbeat
            | TimerKind::TotalTimeout
            | TimerKind::ExecutionTimeout
                if Some(timer.due_at) > held.deadlines_until
                    && !self.is_planted(Mutant::DeadlineWithoutProbe) =>
            {
                Standing::Probe
            }
            TimerKind::Deadline
            | TimerKind::Cancel
            | TimerKind::Heartbeat
            | TimerKind::TotalTimeout
            | TimerKind::ExecutionTimeout
            | TimerKind::Retry
            | TimerKind::Dispatch
            | TimerKind::Delay => Standing::Acts,
        }
    }

    /// A probe has come back: whatever a worker sent before it has been taken, so the deadlines that
    /// were due when it was sent may act. It may be an older one than the last.
    pub(crate) fn allow_deadlines(&mut self, probe: CoordinatorProbe) {
        let held = self.partitions.get_mut(&probe.partition);
        let Some(held) = held.filter(|held| held.epoch == probe.epoch) else {
            return;
        };
        let Some(sent_at) = probe.sent_at.filter(|at| *at >= held.probes_count_from) else {
            return;
        };
        held.deadlines_until = Some(sent_at).max(held.deadlines_until);
        if held.probe_sent_at.is_some_and(|last| last <= sent_at) {
            held.probe_sent_at = None;
        }
    }

    fn send_probe(&mut self, partition: PartitionNo, out: &mut Vec<Effect>) {
        let patience = TimeDelta::seconds(PROBE_PATIENCE_S);
        let now = self.now;
        if let Some(held) = self.partitions.get_mut(&partition)
            && held
                .probe_sent_at
                .is_none_or(|sent_at| now - sent_at > patience)
        {
            held.probe_sent_at = Some(now);
            out.push(Effect::SendProbe(CoordinatorProbe {
                partition,
                epoch: held.epoch,
                sent_at: Some(now),
            }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pace_lets_a_burst_through_and_then_so_many_a_second() {
        let begin = DateTime::UNIX_EPOCH;
        let mut pace = Pace::new(begin);
        pace.left = 0;
        pace.refill(begin + TimeDelta::milliseconds(3));
        assert_eq!(pace.left, 1, "one each 2 ms");
        pace.refill(begin + TimeDelta::milliseconds(4));
        assert_eq!(pace.left, 2, "the rest of the time is not lost");
        pace.refill(begin + TimeDelta::milliseconds(204));
        assert_eq!(pace.left, 102);
        pace.refill(begin + TimeDelta::seconds(60));
        assert_eq!(pace.left, OVERDUE_BURST, "no more than a burst is saved up");
    }
}
