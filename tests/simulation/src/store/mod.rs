//! Postgres in memory: the tables, `commit_turn_v3` with its fence, take-overs with leases on its own
//! clock, loads. It decides nothing and checks nothing: it is held against the real server by a suite
//! that runs on both.

mod commit;
mod history;
mod journal;
mod load;
mod partitions;

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use flotilla_engine::{DefinitionHash, Workflow};
use flotilla_protocol::{ExecutionId, RunNo};
use flotilla_turn::rows::{
    Epoch, ExecutionRow, IgnoredRow, OutboxJob, OutboxReply, PartitionNo, StartRow, TaskRow,
    TimerRow, TransitionRow, TurnNo, VariableRow,
};
use flotilla_turn::{Held, Mark};
use uuid::Uuid;

pub use journal::{Call, Recorded};
pub(crate) use load::child_of;
pub use partitions::Share;

/// A text that this store refuses within a result, as Postgres refuses some.
pub const UNSTORABLE: &str = "unstorable";

/// A row of `coordinator_partition`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionRow {
    /// Who took it last; `None` if it was released or never taken.
    pub owner: Option<Uuid>,
    /// How often it has been taken.
    pub epoch: Epoch,
    /// When others may take it.
    pub lease_expires_at: DateTime<Utc>,
    /// Its last committed turn.
    pub last_turn: TurnNo,
    /// The id of that commit.
    pub turn_id: Uuid,
    /// Outbox rows up to this turn are gone.
    pub dispatched_through: TurnNo,
}

impl PartitionRow {
    /// One that nobody has taken yet.
    fn new() -> Self {
        Self {
            owner: None,
            epoch: 0,
            lease_expires_at: DateTime::UNIX_EPOCH,
            last_turn: 0,
            turn_id: Uuid::nil(),
            dispatched_through: 0,
        }
    }
}

/// A row of `coordinator`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CoordinatorRow {
    /// When it last said that it lives.
    pub seen_at: DateTime<Utc>,
    /// Whether it has stopped cleanly.
    pub has_stopped: bool,
}

/// All tables, and the clock.
#[derive(Debug, Clone, Default)]
pub struct Store {
    /// What `clock_timestamp()` says.
    pub now: DateTime<Utc>,
    /// `coordinator_partition`
    pub partitions: BTreeMap<PartitionNo, PartitionRow>,
    /// `coordinator`
    pub coordinators: BTreeMap<Uuid, CoordinatorRow>,
    /// `workflow_start`
    pub starts: BTreeMap<ExecutionId, StartRow>,
    /// The unique index of keys.
    keys: BTreeMap<String, ExecutionId>,
    /// `workflow_execution`; `reply_to` and `errors` of the state are always set.
    pub executions: BTreeMap<ExecutionId, ExecutionRow>,
    /// `workflow_task`
    pub tasks: BTreeMap<(ExecutionId, RunNo), TaskRow>,
    /// `workflow_variable`
    pub variables: BTreeMap<(ExecutionId, u64), VariableRow>,
    /// `workflow_transition`
    pub transitions: BTreeMap<(ExecutionId, i64), TransitionRow>,
    /// `workflow_timer`
    pub timers: BTreeMap<(ExecutionId, RunNo), TimerRow>,
    /// The jobs in `workflow_outbox`.
    pub jobs: Vec<OutboxJob>,
    /// The replies in `workflow_outbox`.
    pub replies: Vec<OutboxReply>,
    /// `workflow_ignored_message`
    pub ignored: Vec<IgnoredRow>,
    /// `workflow_suspect_message`: whose mark each message bears.
    pub suspects: BTreeMap<String, Uuid>,
    /// `workflow_dead_letter`: keys and reasons.
    pub dead_letters: BTreeMap<String, String>,
    /// The definitions, compiled.
    pub workflows: BTreeMap<DefinitionHash, Arc<Workflow>>,
    /// Commits that were executed.
    pub commits: usize,
    /// Planted bugs of the fence.
    pub(crate) fence: Fence,
    journal: journal::Journal,
}

/// How the fence works: a planted bug, or none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Fence {
    /// As in `commit_turn_v3`.
    #[default]
    Sound,
    /// What it moves is committed, though it misses others.
    CommitsTheRest,
    /// It asks for the epoch and not for the turn.
    WithoutTurn,
}

impl Store {
    /// A store with so many partitions that nobody has taken yet.
    #[must_use]
    pub fn new(partitions: PartitionNo, workflows: &[Arc<Workflow>]) -> Self {
        Self {
            partitions: (0..partitions)
                .map(|no| (no, PartitionRow::new()))
                .collect(),
            workflows: workflows
                .iter()
                .map(|workflow| (workflow.hash, Arc::clone(workflow)))
                .collect(),
            now: DateTime::from_timestamp(1_700_000_000, 0).expect("a valid time"),
            ..Self::default()
        }
    }

    /// Marks a message as suspect, unless it bears the mark of another coordinator that lives.
    pub fn mark_suspect(&mut self, key: &str, owner: Uuid, lease_s: f64) -> Mark {
        self.keep(|| Call::Mark {
            key: key.to_owned(),
            owner,
            lease_s,
        });
        let found = self.suspects.get(key).copied();
        let row = found.and_then(|marked_by| self.coordinators.get(&marked_by));
        let since = self.now - seconds(lease_s);
        let lives = row.is_some_and(|row| !row.has_stopped && row.seen_at > since);
        if lives && found != Some(owner) {
            return Mark::OfTheLiving;
        }
        self.suspects.insert(key.to_owned(), owner);
        let is_innocent = row.is_some_and(|row| row.has_stopped) || found == Some(owner);
        if found.is_some() && !is_innocent {
            Mark::OfTheDead
        } else {
            Mark::Ours
        }
    }

    /// Takes a mark back, if it is still that of `owner`.
    pub fn clear_suspect(&mut self, key: &str, owner: Uuid) {
        self.keep(|| Call::Clear {
            key: key.to_owned(),
            owner,
        });
        if self.suspects.get(key) == Some(&owner) {
            self.suspects.remove(key);
        }
    }

    /// Records a dead letter; whether it is new.
    pub fn insert_dead_letter(&mut self, key: &str, reason: &str) -> bool {
        self.keep(|| Call::DeadLetter {
            key: key.to_owned(),
            reason: reason.to_owned(),
        });
        self.dead_letters
            .insert(key.to_owned(), reason.to_owned())
            .is_none()
    }

    /// An execution as its rows say.
    ///
    /// # Panics
    ///
    /// When the rows do not fit together, or there are none.
    #[must_use]
    pub fn restore(&self, id: ExecutionId) -> Held {
        let rows = self.load_execution(id).expect("it is there");
        let workflow = Arc::clone(&self.workflows[&rows.row.definition_hash]);
        flotilla_turn::restore(&rows, workflow).expect("rows can be read")
    }
}

/// Seconds as the store keeps them: to the microsecond.
#[must_use]
pub fn seconds(seconds: f64) -> TimeDelta {
    #[expect(clippy::cast_possible_truncation, reason = "some seconds")]
    TimeDelta::microseconds((seconds * 1e6) as i64)
}
