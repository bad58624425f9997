//! Take-overs, releases, timers, and who lives. A take-over is several statements: others can commit
//! between them.

use chrono::{DateTime, Utc};
use flotilla_engine::execution::TimerKind;
use flotilla_turn::TIMER_HORIZON_S;
use flotilla_turn::rows::{Epoch, PartitionNo, TakenPartition, TimerRow};
use uuid::Uuid;

use super::{Call, CoordinatorRow, PartitionRow, Store, seconds};

/// Seconds for which a coordinator counts as living after it was seen, however short its lease.
const SHORTEST_LIFE_S: f64 = 2.0;

/// How many partitions a coordinator is to hold, and holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// An even share of all partitions, rounded up.
    pub partitions: usize,
    /// Those that it holds.
    pub held: usize,
}

impl Store {
    /// The first statement of a take-over: says that a coordinator lives, and counts those that do.
    pub fn even_share(&mut self, owner: Uuid, lease_s: f64) -> Share {
        if let Some(row) = self.coordinators.get_mut(&owner) {
            row.seen_at = self.now;
        }
        let since = self.now - seconds(lease_s.max(SHORTEST_LIFE_S));
        let others = self.coordinators.iter().filter(|(id, _)| **id != owner);
        let living = others.filter(|(_, row)| !row.has_stopped && row.seen_at > since);
        let partitions = self.partitions.values();
        let held =
            partitions.filter(|row| row.owner == Some(owner) && row.lease_expires_at > self.now);
        Share {
            held: held.count(),
            partitions: self.partitions.len().div_ceil(living.count() + 1),
        }
    }

    /// The second, and the first that writes: takes partitions whose leases have expired, at most
    /// `limit`, by raising their epochs. What their former owners owed is still to be read.
    pub fn raise_epochs(&mut self, owner: Uuid, lease_s: f64, limit: usize) -> Vec<TakenPartition> {
        self.keep(|| Call::Take { owner, lease_s });
        let free = self.partitions.iter();
        let free = free.filter(|(_, row)| row.lease_expires_at <= self.now);
        let free: Vec<PartitionNo> = free.map(|(no, _)| *no).take(limit).collect();
        free.iter()
            .map(|no| self.raise_epoch(*no, owner, lease_s))
            .collect()
    }

    fn raise_epoch(&mut self, no: PartitionNo, owner: Uuid, lease_s: f64) -> TakenPartition {
        let now = self.now;
        let row = self.partitions.get_mut(&no).expect("a partition");
        row.owner = Some(owner);
        row.epoch += 1;
        row.lease_expires_at = now + seconds(lease_s);
        TakenPartition {
            partition: no,
            epoch: row.epoch,
            last_turn: row.last_turn,
            dispatched_through: row.dispatched_through,
            jobs: Vec::new(),
            replies: Vec::new(),
            timers: Vec::new(),
            timers_until: now + seconds(TIMER_HORIZON_S as f64),
            now,
        }
    }

    /// The third statement of a take-over: what is owed above the watermarks.
    pub fn add_outbox(&self, taken: &mut [TakenPartition]) {
        for taken in taken {
            let no = taken.partition;
            let through = self.partitions[&no].dispatched_through;
            let is_owed = |partition, turn| partition == no && turn > through;
            let jobs = self.jobs.iter();
            taken.jobs = jobs
                .filter(|job| is_owed(job.partition, job.turn))
                .copied()
                .collect();
            let replies = self.replies.iter();
            taken.replies = replies
                .filter(|reply| is_owed(reply.partition, reply.turn))
                .cloned()
                .collect();
        }
    }

    /// The fourth: the timers that are due soon.
    pub fn add_timers(&self, taken: &mut [TakenPartition]) {
        for taken in taken {
            taken.timers = self.due(
                taken.partition,
                DateTime::<Utc>::MIN_UTC,
                taken.timers_until,
            );
        }
    }

    /// The statements of a take-over one right after the other.
    pub fn take(&mut self, owner: Uuid, lease_s: f64) -> (Vec<TakenPartition>, Share) {
        let share = self.even_share(owner, lease_s);
        let limit = share.partitions.saturating_sub(share.held);
        let mut taken = self.raise_epochs(owner, lease_s, limit);
        self.add_outbox(&mut taken);
        self.add_timers(&mut taken);
        (taken, share)
    }

    /// Takes one partition, whether its lease has expired or not.
    pub fn take_one(&mut self, no: PartitionNo, owner: Uuid, lease_s: f64) -> TakenPartition {
        let mut taken = [self.raise_epoch(no, owner, lease_s)];
        self.add_outbox(&mut taken);
        self.add_timers(&mut taken);
        let [taken] = taken;
        taken
    }

    /// Timers of a partition that are due in `from..until`, earliest first.
    #[must_use]
    pub fn timers(
        &self,
        partition: PartitionNo,
        from: DateTime<Utc>,
        until: DateTime<Utc>,
    ) -> Vec<TimerRow> {
        self.keep(|| Call::Timers {
            partition,
            from,
            until,
        });
        self.due(partition, from, until)
    }

    fn due(
        &self,
        partition: PartitionNo,
        from: DateTime<Utc>,
        until: DateTime<Utc>,
    ) -> Vec<TimerRow> {
        let mut due: Vec<TimerRow> = self
            .timers
            .values()
            .filter(|timer| timer.partition == partition && (from..until).contains(&timer.due_at))
            .map(|timer| self.with_fresh_window(*timer))
            .collect();
        due.sort_by_key(|timer| (timer.due_at, timer.execution_id, timer.run));
        due
    }

    /// A worker whose heartbeats are waited for has as long as it said with its acknowledgement.
    fn with_fresh_window(&self, timer: TimerRow) -> TimerRow {
        if timer.kind != TimerKind::Heartbeat {
            return timer;
        }
        let id = timer.execution_id;
        let log = self.transitions.range((id, 0)..=(id, i64::MAX));
        let said = log.rev().find_map(|(_, row)| {
            let is_of_run = row.task_id.is_some_and(|task| task.run() == timer.run);
            let detail = row.detail.as_ref().filter(|_| is_of_run)?;
            let detail: serde_json::Value = serde_json::from_str(detail.text()).ok()?;
            detail["heartbeat"].as_f64()
        });
        let window = said.and_then(|seconds| {
            chrono::TimeDelta::from_std(std::time::Duration::from_secs_f64(seconds)).ok()
        });
        let fresh = window.map(|window| self.now + window);
        TimerRow {
            due_at: fresh.unwrap_or(timer.due_at).max(timer.due_at),
            ..timer
        }
    }

    /// Gives partitions back, those that are still held in that epoch; how many. With `resigns` the
    /// coordinator counts no more where partitions are shared.
    pub fn release(&mut self, owner: Uuid, held: &[(PartitionNo, Epoch)], resigns: bool) -> usize {
        self.keep(|| Call::Release {
            owner,
            held: held.to_vec(),
            resigns,
        });
        let now = self.now;
        let mut released = 0;
        for (no, epoch) in held {
            if let Some(row) = self.partitions.get_mut(no)
                && row.owner == Some(owner)
                && row.epoch == *epoch
            {
                row.owner = None;
                row.lease_expires_at = now;
                released += 1;
            }
        }
        if let Some(row) = self.coordinators.get_mut(&owner).filter(|_| resigns) {
            row.has_stopped = true;
        }
        released
    }

    /// Renews the leases of partitions, those that are still held in that epoch; how many.
    pub fn renew(&mut self, owner: Uuid, held: &[(PartitionNo, Epoch)], lease_s: f64) -> usize {
        self.keep(|| Call::Renew {
            owner,
            held: held.to_vec(),
            lease_s,
        });
        let until = self.now + seconds(lease_s);
        let mut renewed = 0;
        for (no, epoch) in held {
            if let Some(row) = self.partitions.get_mut(no)
                && row.owner == Some(owner)
                && row.epoch == *epoch
            {
                row.lease_expires_at = until;
                renewed += 1;
            }
        }
        renewed
    }

    /// Adds a partition, as `migrate --partitions` does.
    pub fn add_partition(&mut self) -> PartitionNo {
        self.keep(|| Call::AddPartition);
        let no = self
            .partitions
            .keys()
            .next_back()
            .map_or(0, |last| last + 1);
        self.partitions.insert(no, PartitionRow::new());
        no
    }

    /// Says that a coordinator has started.
    pub fn register(&mut self, id: Uuid) {
        self.keep(|| Call::Register(id));
        let row = CoordinatorRow {
            seen_at: self.now,
            has_stopped: false,
        };
        self.coordinators.insert(id, row);
    }
}
