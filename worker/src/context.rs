//! What a handler learns about the attempt that it works on.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use flotilla_protocol::message::JobItem;
use flotilla_protocol::{ExecutionId, TaskId};
use tokio::task::JoinHandle;

/// The attempt that a handler works on.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Context {
    /// The execution.
    pub execution_id: ExecutionId,
    /// The run of the task.
    pub task_id: TaskId,
    /// Number of the attempt, from 1.
    pub attempt: u32,
    /// The same for all attempts of one piece of work: hand it to whoever must not act twice.
    pub idempotency_key: String,
    /// Reference of the workflow.
    pub workflow: String,
    /// Name of the task.
    pub task: String,
    /// Place of the item, where the task runs once per item.
    pub item: Option<JobItem>,
    /// How long the attempt may take from its start; the worker ends it then.
    pub timeout: Option<Duration>,
    /// Name of this worker.
    pub worker: Arc<str>,
    pub(crate) leftovers: Leftovers,
}

/// What goes on after a handler's future is gone and has to end before the attempt counts as ended:
/// the processes that it started.
#[derive(Debug, Clone, Default)]
pub(crate) struct Leftovers(Arc<Mutex<Vec<JoinHandle<()>>>>);

impl Leftovers {
    /// Adds one.
    pub(crate) fn add(&self, leftover: JoinHandle<()>) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(leftover);
    }

    /// Waits for the end of all.
    pub(crate) async fn end(&self) {
        loop {
            let leftover = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let Some(leftover) = leftover else { return };
            if let Err(error) = leftover.await {
                tracing::error!(%error, "what an attempt left over did not end well");
            }
        }
    }
}
