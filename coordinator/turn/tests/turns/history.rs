//! All that the database holds of one execution, and whether its log gives its rows.

use std::sync::Arc;

use flotilla_protocol::{ExecutionId, RunNo};
use flotilla_turn::fold::{History, fold};
use flotilla_turn::rows::{LoadedTransition, TransitionRow};

use crate::database::{Database, loaded_row, loaded_task};

impl Database {
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
