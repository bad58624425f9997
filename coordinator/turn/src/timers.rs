//! Timers that are due soon, of all partitions held. Those due later stay in Postgres alone.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use flotilla_protocol::{ExecutionId, RunNo};
use uuid::Uuid;

use crate::rows::{PartitionNo, TimerRow};

/// A set of timers by run and by time.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    by_run: BTreeMap<(ExecutionId, RunNo), TimerRow>,
    by_due: BTreeSet<(DateTime<Utc>, ExecutionId, RunNo)>,
}

impl Timers {
    pub fn set(&mut self, timer: TimerRow) {
        self.clear(timer.execution_id, timer.run);
        self.by_due
            .insert((timer.due_at, timer.execution_id, timer.run));
        self.by_run.insert((timer.execution_id, timer.run), timer);
    }

    pub fn clear(&mut self, execution_id: ExecutionId, run: RunNo) {
        if let Some(old) = self.by_run.remove(&(execution_id, run)) {
            self.by_due.remove(&(old.due_at, execution_id, run));
        }
    }

    /// The partition of the timer of a run, if there is one.
    pub fn partition_of(&self, execution_id: ExecutionId, run: RunNo) -> Option<PartitionNo> {
        self.by_run
            .get(&(execution_id, run))
            .map(|timer| timer.partition)
    }

    pub fn remove_partition(&mut self, partition: PartitionNo) {
        let gone: Vec<TimerRow> = self
            .by_run
            .values()
            .filter(|timer| timer.partition == partition)
            .copied()
            .collect();
        for timer in gone {
            self.clear(timer.execution_id, timer.run);
        }
    }

    /// Timers due at `from` or later and before `until`, earliest first.
    pub fn due(
        &self,
        from: DateTime<Utc>,
        until: DateTime<Utc>,
    ) -> impl Iterator<Item = &TimerRow> {
        let at = |time| (time, ExecutionId(Uuid::nil()), 0);
        self.by_due
            .range(at(from)..at(until))
            .filter_map(|(_, execution_id, run)| self.by_run.get(&(*execution_id, *run)))
    }

    /// When the next timer is due.
    pub fn next_due(&self) -> Option<DateTime<Utc>> {
        self.by_due.first().map(|(due, _, _)| *due)
    }
}
