//! The store of the simulation, with what must hold of each commit.

use std::collections::BTreeSet;
use std::ops::{Deref, DerefMut};

use chrono::{DateTime, Utc};
use flotilla_engine::execution::TransitionKind;
use flotilla_protocol::{ExecutionId, RunNo};
use flotilla_simulation::Store;
pub use flotilla_simulation::store::UNSTORABLE;
use flotilla_turn::Mark;
use flotilla_turn::rows::{
    Commit, CommitAnswer, Epoch, OutboxJob, PartitionNo, TakenPartition, TransitionRow,
};
use uuid::Uuid;

/// The store, whose clock is that of the test.
pub struct Database {
    store: Store,
    /// Jobs that the broker has, for the check that no row is deleted before.
    pub published: BTreeSet<(ExecutionId, RunNo, u32)>,
}

impl Deref for Database {
    type Target = Store;

    fn deref(&self) -> &Store {
        &self.store
    }
}

impl DerefMut for Database {
    fn deref_mut(&mut self) -> &mut Store {
        &mut self.store
    }
}

impl Database {
    pub fn new(partitions: PartitionNo, definitions: &[&str]) -> Self {
        let compile = |yaml: &&str| {
            let compiled = flotilla_engine::compile(yaml).expect("a sound workflow");
            compiled.workflow
        };
        let workflows: Vec<_> = definitions.iter().map(compile).collect();
        Self {
            store: Store::new(partitions, &workflows),
            published: BTreeSet::new(),
        }
    }

    /// Takes partitions whose lease has expired, up to an even share; gives that as well.
    pub fn take(
        &mut self,
        owner: Uuid,
        lease_s: f64,
        now: DateTime<Utc>,
    ) -> (Vec<TakenPartition>, usize) {
        self.store.now = now;
        if !self.store.coordinators.contains_key(&owner) {
            self.store.register(owner);
        }
        let (taken, share) = self.store.take(owner, lease_s);
        (taken, share.partitions)
    }

    pub fn take_one(
        &mut self,
        no: PartitionNo,
        owner: Uuid,
        lease_s: f64,
        now: DateTime<Utc>,
    ) -> TakenPartition {
        self.store.now = now;
        self.store.take_one(no, owner, lease_s)
    }

    pub fn renew(
        &mut self,
        owner: Uuid,
        held: &[(PartitionNo, Epoch)],
        lease_s: f64,
        now: DateTime<Utc>,
    ) -> usize {
        self.store.now = now;
        self.store.renew(owner, held, lease_s)
    }

    pub fn mark(&mut self, key: &str, owner: Uuid, lease_s: f64, now: DateTime<Utc>) -> Mark {
        self.store.now = now;
        self.store.mark_suspect(key, owner, lease_s)
    }

    /// The whole commit or nothing of it, and what must hold of it.
    pub fn commit(&mut self, commit: &Commit, now: DateTime<Utc>) -> CommitAnswer {
        self.store.now = now;
        let (before, commits) = (self.store.jobs.clone(), self.store.commits);
        let answer = self.store.commit(commit);
        if let CommitAnswer::Refused { error } = &answer {
            let has_parted = error.starts_with("23505") || error.starts_with("FL002");
            assert!(!has_parted, "rows and memory have parted: {error}");
        }
        if self.store.commits > commits {
            for fence in &commit.partitions {
                assert!(
                    fence.dispatched_through < fence.turn,
                    "a watermark over its own turn"
                );
            }
            for job in before.iter().filter(|job| !self.store.jobs.contains(job)) {
                let key = (job.execution_id, job.run, job.attempt);
                assert!(
                    self.published.contains(&key) || !self.is_current(job),
                    "the watermark passed {job:?}, which the broker does not have"
                );
            }
            let touched: BTreeSet<ExecutionId> = commit
                .transitions
                .iter()
                .map(|row| row.execution_id)
                .collect();
            for id in touched {
                self.check(id);
            }
        }
        answer
    }

    fn is_current(&self, job: &OutboxJob) -> bool {
        let row = &self.tasks[&(job.execution_id, job.run)];
        row.attempt == job.attempt && ["dispatched", "running"].contains(&row.status)
    }

    /// What must hold for the rows of one execution after each commit.
    fn check(&self, id: ExecutionId) {
        let log = self.transitions.range((id, 0)..=(id, i64::MAX));
        let log: Vec<&TransitionRow> = log.map(|(_, row)| row).collect();
        let last_seq = self.executions[&id].state.last_seq;
        assert_eq!(
            log.len(),
            usize::try_from(last_seq).expect("positive"),
            "a gap in the log"
        );
        let mut ends = BTreeSet::new();
        for row in log.iter().filter(|row| is_end(row)) {
            assert!(
                ends.insert((row.task_id, row.attempt)),
                "two ends of {row:?}"
            );
        }
        // One test plants a row that makes the engine panic.
        if !self.executions[&id].state.visits.is_empty() {
            assert_eq!(self.fold(id), [""; 0], "{id} is not what its log says");
        }
        let held = self.restore(id);
        held.execution.check().expect("the rows are consistent");
        let mut waits = held.execution.live.values().filter(|run| {
            held.execution.job(run.no).is_some()
                || held.execution.child(run).is_some()
                || self.timers.contains_key(&(id, run.no))
        });
        assert!(
            held.execution.status.is_final()
                || held.execution.status.is_paused()
                || waits.next().is_some(),
            "nothing will ever happen to {id}"
        );
    }
}

fn is_end(row: &TransitionRow) -> bool {
    let is_end = match row.kind {
        TransitionKind::TaskEnded | TransitionKind::TaskRetryScheduled => row.attempt.is_some(),
        TransitionKind::ExecutionStarted
        | TransitionKind::TaskDispatched
        | TransitionKind::TaskStarted
        | TransitionKind::JoinArrived
        | TransitionKind::ControlApplied
        | TransitionKind::JobResent
        | TransitionKind::ExecutionStatusChanged => false,
    };
    is_end && row.from_status != Some("retrying")
}
