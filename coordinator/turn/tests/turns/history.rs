//! All that the database holds of one execution, and what must hold of it after each commit.

use std::collections::BTreeSet;
use std::sync::Arc;

use flotilla_engine::execution::TransitionKind;
use flotilla_protocol::{ExecutionId, RunNo};
use flotilla_turn::fold::{History, fold};
use flotilla_turn::rows::{LoadedTransition, TransitionRow};

use crate::database::{Database, loaded_row, loaded_task};

impl Database {
    /// What must hold for the rows of one execution after each commit.
    pub fn check(&self, id: ExecutionId) {
        let log: Vec<&TransitionRow> = self
            .transitions
            .range((id, 0)..=(id, i64::MAX))
            .map(|(_, row)| row)
            .collect();
        let last_seq = self.executions[&id].state.last_seq;
        assert_eq!(
            log.len(),
            usize::try_from(last_seq).expect("positive"),
            "a gap in the log"
        );
        let mut ends = BTreeSet::new();
        for row in &log {
            let is_end = match row.kind {
                TransitionKind::TaskEnded | TransitionKind::TaskRetryScheduled => {
                    row.attempt.is_some()
                }
                TransitionKind::ExecutionStarted
                | TransitionKind::TaskDispatched
                | TransitionKind::TaskStarted
                | TransitionKind::JoinArrived
                | TransitionKind::ControlApplied
                | TransitionKind::JobResent
                | TransitionKind::ExecutionStatusChanged => false,
            };
            if is_end && row.from_status != Some("retrying") {
                assert!(
                    ends.insert((row.task_id, row.attempt)),
                    "two ends of {row:?}"
                );
            }
        }
        // One test plants a row that makes the engine panic.
        if !self.executions[&id].state.visits.is_empty() {
            assert_eq!(self.fold(id), [""; 0], "{id} is not what its log says");
        }
        let held = self.restore(id);
        held.execution.check().expect("the rows are consistent");
        let mut waits = held.execution.live.keys().filter(|run| {
            held.execution.job(**run).is_some() || self.timers.contains_key(&(id, **run))
        });
        assert!(
            held.execution.status.is_final()
                || held.execution.status.is_paused()
                || waits.next().is_some(),
            "nothing will ever happen to {id}"
        );
    }

    /// All that is stored of one execution.
    pub fn history(&self, id: ExecutionId) -> History {
        let rows = (id, 0)..=(id, RunNo::MAX);
        History {
            row: loaded_row(&self.executions[&id]),
            tasks: self
                .tasks
                .range(rows.clone())
                .map(|(_, row)| loaded_task(row))
                .collect(),
            variables: self
                .variables
                .range((id, 0)..=(id, u64::MAX))
                .map(|(_, row)| row.clone())
                .collect(),
            transitions: self
                .transitions
                .range((id, 0)..=(id, i64::MAX))
                .map(|(_, row)| loaded_transition(row))
                .collect(),
            timers: self.timers.range(rows).map(|(_, row)| *row).collect(),
        }
    }

    /// What in the rows of an execution does not follow from its log.
    pub fn fold(&self, id: ExecutionId) -> Vec<String> {
        let history = self.history(id);
        let workflow = Arc::clone(&self.workflows[&history.row.definition_hash]);
        fold(&history, workflow)
    }
}

fn loaded_transition(row: &TransitionRow) -> LoadedTransition {
    LoadedTransition {
        seq: row.seq,
        at: row.at,
        kind: row.kind,
        task_id: row.task_id,
        attempt: row.attempt,
        from_status: row.from_status.map(str::to_owned),
        to_status: row.to_status.map(str::to_owned),
        detail: row.detail.clone(),
    }
}
