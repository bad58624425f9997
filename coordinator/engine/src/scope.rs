//! What an expression can see.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use flotilla_protocol::ExecutionId;
use minijinja::Value;

use crate::json::Json;
use crate::variables::Variables;

/// All that an expression can see at one place of one execution.
#[derive(Debug, Clone, Copy)]
pub struct Scope<'a> {
    /// `parameters`, an object.
    pub parameters: &'a Json,
    /// `vars`: the variables of the branch.
    pub vars: &'a Variables,
    /// `task.<name>`: the ended runs that this branch sees.
    pub tasks: &'a BTreeMap<Arc<str>, Arc<TaskView>>,
    /// `system`.
    pub system: &'a System,
    /// `item`, `index` and `batch`; `None` outside of `with_items`.
    pub item: Option<&'a ItemView>,
    /// The end that transitions and `publish` speak of: `result()`, `error()`, `status()`, …
    /// `None` elsewhere, where these functions are errors.
    pub ended: Option<&'a Ended>,
}

/// The item, or the batch of items, that a run is for.
#[derive(Debug, Clone)]
pub struct ItemView {
    /// `item`: the item, or the list of the items of a batch.
    pub value: Value,
    /// `index`: its position among all items (or batches), from 0.
    pub index: u32,
    /// Whether it is a batch, and so `batch` is defined, too.
    pub is_batch: bool,
}

/// `system`: facts about the execution.
#[derive(Debug, Clone)]
pub struct System {
    /// `system.execution_id`
    pub execution_id: ExecutionId,
    /// `system.workflow`
    pub workflow: Arc<str>,
    /// `system.version`
    pub version: Arc<str>,
    /// `system.started_at`, RFC 3339.
    pub started_at: DateTime<Utc>,
    /// `system.parent_id`, null without a parent.
    pub parent_id: Option<ExecutionId>,
    /// `system.visit`; not defined outside of a task.
    pub visit: Option<u32>,
    /// `system.attempt`; not defined outside of a task.
    pub attempt: Option<u32>,
    /// `system.status`: the final status, in `finally` and `output_map` only.
    pub status: Option<&'static str>,
    /// `pack`, an object with `config`; `None` for a workflow that belongs to no pack.
    pub pack: Option<Json>,
}

/// How a task has ended, as transitions and `publish` see it.
#[derive(Debug, Clone, PartialEq)]
pub struct Ended {
    /// Its status.
    pub status: EndStatus,
    /// `result()`; null where there is none.
    pub result: Json,
    /// `error()`, an object with `kind` and `message`; null after success.
    pub error: Json,
    /// Whether `failed()` holds after a timeout: the task has no route for timeouts alone.
    pub timeout_is_failure: bool,
    /// Whether a failure counts as success for what follows; `status()` still tells it.
    pub is_ignored: bool,
}

impl Ended {
    /// `succeeded()`
    #[must_use]
    pub fn has_succeeded(&self) -> bool {
        match self.status {
            EndStatus::Succeeded | EndStatus::Skipped => true,
            EndStatus::Failed | EndStatus::TimedOut | EndStatus::Cancelled => self.is_ignored,
            EndStatus::Omitted => false,
        }
    }

    /// `failed()`
    #[must_use]
    pub fn has_failed(&self) -> bool {
        let is_failure = self.status == EndStatus::Failed
            || self.status == EndStatus::TimedOut && self.timeout_is_failure;
        is_failure && !self.is_ignored
    }

    /// `timed_out()`
    #[must_use]
    pub fn has_timed_out(&self) -> bool {
        self.status == EndStatus::TimedOut && !self.is_ignored
    }
}

/// How a task can end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EndStatus {
    /// `succeeded`
    Succeeded,
    /// `failed`
    Failed,
    /// `timed_out`
    TimedOut,
    /// `cancelled`
    Cancelled,
    /// `skipped`: the guard was false. `succeeded()` holds.
    Skipped,
    /// `omitted`: it was never due, or the end of the execution came first.
    Omitted,
}

impl EndStatus {
    /// The word that expressions and SQL use.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::TimedOut => "timed_out",
            Self::Cancelled => "cancelled",
            Self::Skipped => "skipped",
            Self::Omitted => "omitted",
        }
    }

    /// Reads a word of the SQL type `task_status` that means an end.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Some(match word {
            "succeeded" => Self::Succeeded,
            "failed" => Self::Failed,
            "timed_out" => Self::TimedOut,
            "cancelled" => Self::Cancelled,
            "skipped" => Self::Skipped,
            "omitted" => Self::Omitted,
            _ => return None,
        })
    }
}

/// A run of a task that has ended, as `task.<name>` shows it.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskView {
    /// `.status`
    pub status: EndStatus,
    /// `.result`
    pub result: Json,
    /// `.error`
    pub error: Json,
    /// `.visits`: the number of this visit.
    pub visits: u32,
}
