//! What a handler learns about the attempt that it works on.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use flotilla_protocol::message::JobItem;
use flotilla_protocol::{ExecutionId, TaskId};
use serde::Serialize;
use serde_json::value::to_raw_value;
use tokio::task::JoinHandle;

use crate::log::{AttemptLog, Stream};
use crate::pulse::Pulse;

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
    pub(crate) log: AttemptLog,
    pub(crate) pulse: Pulse,
}

impl Context {
    /// Says how far the work is, from 0 to 1, and what it is doing. It does not wait, and may be called
    /// as often as one likes: at most one a second is sent. A detail that is no JSON is left out.
    ///
    /// Nobody has to call it: a worker keeps its long jobs alive by itself.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn heartbeat(&self, progress: Option<f64>, detail: impl Serialize) {
        self.pulse.say(progress, to_raw_value(&detail).ok());
    }

    /// Adds a line to the task's log, or several where the text has several. It does not wait, and is
    /// best effort: an attempt may log 10,000 lines of 8 KiB, 2 MiB in all; what goes beyond is cut,
    /// and the last line of the log says so.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn log(&self, text: impl AsRef<str>) {
        self.log.text(Stream::Log, text.as_ref());
    }
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
