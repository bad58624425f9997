//! All that is stored of one execution, and whether it follows from its log.

use std::sync::Arc;

use flotilla_protocol::{ExecutionId, RunNo};
use flotilla_turn::fold::{History, fold};
use flotilla_turn::rows::LoadedTransition;

use super::Store;
use super::load::{loaded_row, loaded_task};

impl Store {
    /// All that is stored of an execution.
    ///
    /// # Panics
    ///
    /// If there is none.
    #[must_use]
    pub fn history(&self, id: ExecutionId) -> History {
        let rows = (id, 0)..=(id, RunNo::MAX);
        let tasks = self.tasks.range(rows.clone());
        let variables = self.variables.range((id, 0)..=(id, u64::MAX));
        let transitions = self.transitions.range((id, 0)..=(id, i64::MAX));
        History {
            row: loaded_row(&self.executions[&id]),
            tasks: tasks.map(|(_, row)| loaded_task(row)).collect(),
            variables: variables.map(|(_, row)| row.clone()).collect(),
            transitions: transitions
                .map(|(_, row)| LoadedTransition::from(row))
                .collect(),
            timers: self.timers.range(rows).map(|(_, row)| *row).collect(),
        }
    }

    /// What in the rows of an execution does not follow from its log.
    #[must_use]
    pub fn fold(&self, id: ExecutionId) -> Vec<String> {
        let history = self.history(id);
        let workflow = Arc::clone(&self.workflows[&history.row.definition_hash]);
        fold(&history, workflow)
    }
}
