//! Timers that are due soon, of all partitions held. Those due later stay in Postgres alone.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};
use flotilla_engine::execution::TimerKind;
use flotilla_protocol::{ExecutionId, RunNo};
use uuid::Uuid;

use crate::rows::{PartitionNo, TimerRow};

/// A set of timers by run and by time.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    by_run: BTreeMap<(ExecutionId, RunNo), TimerRow>,
    by_due: BTreeSet<(DateTime<Utc>, ExecutionId, RunNo)>,
    /// What is known of the workers whose silence counts.
    watches: BTreeMap<(ExecutionId, RunNo), Watch>,
}

/// What is known of a worker whose silence counts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Watch {
    /// The silence that means its death.
    pub silence: TimeDelta,
    /// When the time limit of its attempt has passed, as far as it is known here.
    pub ends_at: Option<DateTime<Utc>>,
}

impl Timers {
    pub fn set(&mut self, timer: TimerRow) {
        self.clear(timer.execution_id, timer.run);
        self.by_due
            .insert((timer.due_at, timer.execution_id, timer.run));
        self.by_run.insert((timer.execution_id, timer.run), timer);
    }

    /// Sets a timer as the database has it, which gives heartbeats a fresh window from now.
    pub fn set_loaded(&mut self, timer: TimerRow, now: DateTime<Utc>) {
        self.set(timer);
        if timer.kind == TimerKind::Heartbeat {
            let silence = (timer.due_at - now).max(TimeDelta::seconds(1));
            let ends_at = None;
            let key = (timer.execution_id, timer.run);
            self.watches.insert(key, Watch { silence, ends_at });
        }
    }

    /// The timer of a run, if it is one of heartbeats.
    pub fn heartbeat(&self, key: (ExecutionId, RunNo)) -> Option<TimerRow> {
        let timer = self.by_run.get(&key)?;
        (timer.kind == TimerKind::Heartbeat).then_some(*timer)
    }

    pub fn watch_of(&self, key: (ExecutionId, RunNo)) -> Option<Watch> {
        self.watches.get(&key).copied()
    }

    pub fn watch(&mut self, key: (ExecutionId, RunNo), watch: Watch) {
        self.watches.insert(key, watch);
    }

    /// Gives all workers of a partition whose silence counts a fresh window.
    pub fn refresh(&mut self, partition: PartitionNo, now: DateTime<Utc>) {
        let of_partition = self
            .by_run
            .values()
            .filter(|timer| timer.partition == partition && timer.kind == TimerKind::Heartbeat);
        let timers: Vec<TimerRow> = of_partition.copied().collect();
        for mut timer in timers {
            let key = (timer.execution_id, timer.run);
            if let Some(watch) = self.watch_of(key) {
                timer.due_at = timer.due_at.max(now + watch.silence);
                self.set(timer);
                self.watch(key, watch);
            }
        }
    }

    pub fn clear(&mut self, execution_id: ExecutionId, run: RunNo) {
        if let Some(old) = self.by_run.remove(&(execution_id, run)) {
            self.by_due.remove(&(old.due_at, execution_id, run));
            self.watches.remove(&(execution_id, run));
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
