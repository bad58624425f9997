//! Rows of executions that do not exist. No execution leads to them, so their tables are walked.

use super::{Invariant, Query::Walk};

/// The invariants of rows without an execution.
pub(super) const INVARIANTS: &[Invariant] = &[
    Invariant {
        name: "log_has_its_execution",
        rule: "every entry of the log is of an execution that exists",
        query: Walk("workflow_transition"),
    },
    Invariant {
        name: "runs_have_their_execution",
        rule: "every run is of an execution that exists",
        query: Walk("workflow_task"),
    },
    Invariant {
        name: "writes_have_their_execution",
        rule: "every write of a variable is of an execution that exists",
        query: Walk("workflow_variable"),
    },
    Invariant {
        name: "timers_have_their_execution",
        rule: "every timer is of an execution that exists",
        query: Walk("workflow_timer"),
    },
    Invariant {
        name: "starts_have_their_execution",
        rule: "every start that was accepted has made its execution",
        query: Walk("workflow_start"),
    },
];
