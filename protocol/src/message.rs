//! The bodies of all messages. Field names and defaults are those of the wire contract; the golden
//! files under `protocol/golden` pin them to the letter.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::ids::{ExecutionId, TaskId};

/// JSON that is carried as text and only parsed where somebody looks into it.
pub type RawJson = Box<RawValue>;

/// `workflow.start`: a user asks for an execution.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct WorkflowStart {
    /// Reference of the workflow, `pack.name`.
    pub workflow: String,
    /// Version; absent: the newest registered one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Parameters, an object; absent: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameters: Option<RawJson>,
    /// Names the start: the same id twice is one execution.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub execution_id: Option<ExecutionId>,
    /// Names the start where no id is given, unique over all workflows; at most 512 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
    /// Free labels, shown and searched in SQL.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// Seconds that the whole execution may take.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        serialize_with = "number"
    )]
    pub timeout: Option<f64>,
}

/// `workflow.started`: the answer to a start that was accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkflowStarted {
    /// The execution.
    pub execution_id: ExecutionId,
    /// False if the same start had been accepted before.
    pub created: bool,
}

/// An error with its kind, as workers report it and as rows and replies show it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TaskError {
    /// One word that scripts can match on; the reference lists those of Flotilla.
    pub kind: String,
    /// One sentence for people.
    #[serde(default)]
    pub message: String,
    /// False: a retry would not help and is not tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retryable: Option<bool>,
    /// Anything more that helps to understand it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<RawJson>,
}

/// `workflow.rejected`: the answer to a start that was refused.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct WorkflowRejected {
    /// Why: `unknown_workflow`, `unknown_version`, `id_conflict` or `invalid_input`.
    pub error: TaskError,
}

/// `workflow.finished`: an execution has ended.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct WorkflowFinished {
    /// The execution.
    pub execution_id: ExecutionId,
    /// Its final status, a word of the SQL type `execution_status`.
    pub status: String,
    /// What `output_map` gave; null if there is none.
    pub output: Option<RawJson>,
    /// What went wrong, a list.
    pub errors: RawJson,
}

/// The place of an item within `with_items`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobItem {
    /// Position, from 0.
    pub index: u32,
    /// Number of items in this batch; null where items are not batched.
    pub batch_size: Option<u32>,
}

/// `task.job`: one attempt of one task, for a worker.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TaskJob {
    /// The execution.
    pub execution_id: ExecutionId,
    /// The run of the task.
    pub task_id: TaskId,
    /// Number of the attempt, from 1.
    pub attempt: u32,
    /// Reference of the workflow.
    pub workflow: String,
    /// Name of the task.
    pub task: String,
    /// Number of the visit, from 1.
    pub visit: u32,
    /// Name of the action.
    pub action: String,
    /// Rendered input.
    pub input: RawJson,
    /// Seconds that the attempt may run, from its start at the worker; null: no limit.
    #[serde(serialize_with = "number")]
    pub timeout: Option<f64>,
    /// Seconds of silence after which the attempt is given up; null: heartbeats are not expected.
    #[serde(serialize_with = "number")]
    pub heartbeat: Option<f64>,
    /// The same for all attempts of one piece of work.
    pub idempotency_key: String,
    /// Place of the item; null outside of `with_items`.
    pub item: Option<JobItem>,
    /// Places of the input that the worker fills in.
    #[serde(default)]
    pub secrets: Vec<RawJson>,
    /// How often a worker has said before that it starts this attempt; absent: never.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub starts: u32,
    /// Whether this attempt was published before; a worker may have had it, as with `x-delivery-count`
    /// above 0.
    #[serde(default, skip_serializing_if = "is_false")]
    pub resent: bool,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde calls it with a reference to the field"
)]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CompletionStatus {
    /// The work is done.
    Succeeded,
    /// The work could not be done.
    Failed,
    /// The time limit ended it.
    TimedOut,
    /// A cancel ended it.
    Cancelled,
}

/// `task.completed`: an attempt has ended.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TaskCompleted {
    /// The execution, from the job.
    pub execution_id: ExecutionId,
    /// The run, from the job.
    pub task_id: TaskId,
    /// The attempt, from the job.
    pub attempt: u32,
    /// How it ended.
    pub status: CompletionStatus,
    /// Any JSON, with every status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<RawJson>,
    /// What went wrong, where the status is not `succeeded`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<TaskError>,
    /// When the worker started it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<DateTime<Utc>>,
    /// When the worker ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<DateTime<Utc>>,
    /// Name of the worker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<String>,
}

/// `task.started` and `task.heartbeat`: an attempt is alive.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TaskStarted {
    /// The execution, from the job.
    pub execution_id: ExecutionId,
    /// The run, from the job.
    pub task_id: TaskId,
    /// The attempt, from the job.
    pub attempt: u32,
    /// Name of the worker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<String>,
    /// When the worker started it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<DateTime<Utc>>,
    /// True if the job has been acknowledged already, since it may outlast the broker's limit.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub acknowledged: bool,
    /// Seconds between heartbeats, for an acknowledged job.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        serialize_with = "number"
    )]
    pub heartbeat: Option<f64>,
    /// How far the work is, 0 to 1 (heartbeats only).
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        serialize_with = "number"
    )]
    pub progress: Option<f64>,
    /// What the work is doing (heartbeats only).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<RawJson>,
}

/// `task.dead`: a job became a dead letter.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TaskDead {
    /// The execution, from the job.
    pub execution_id: ExecutionId,
    /// The run, from the job.
    pub task_id: TaskId,
    /// The attempt, from the job.
    pub attempt: u32,
    /// Why the job died.
    pub reason: String,
    /// How often it had been delivered.
    pub deliveries: u32,
    /// Whether it was one of a bundle, which is delivered once only: its worker may have died, or has
    /// given it back.
    #[serde(default, skip_serializing_if = "is_false")]
    pub bundled: bool,
}

fn is_false(yes: &bool) -> bool {
    !yes
}

/// One line of a task's log.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LogLine {
    /// Number of the line within the attempt.
    pub no: u32,
    /// When it was written.
    pub at: DateTime<Utc>,
    /// `stdout`, `stderr` or `log` (what the handler itself says).
    pub stream: String,
    /// The line without its end.
    pub text: String,
}

/// `task.log`: lines that an attempt has written.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TaskLog {
    /// The execution, from the job.
    pub execution_id: ExecutionId,
    /// The run, from the job.
    pub task_id: TaskId,
    /// The attempt, from the job.
    pub attempt: u32,
    /// Name of the worker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<String>,
    /// The lines, in order.
    pub lines: Vec<LogLine>,
}

/// `task.cancel`: an attempt shall stop.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskCancel {
    /// The execution.
    pub execution_id: ExecutionId,
    /// The run.
    pub task_id: TaskId,
    /// The attempt.
    pub attempt: u32,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// `workflow.control`: a user commands an execution. Fields beyond the command are read by the
/// command that they belong to.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct WorkflowControl {
    /// The execution.
    pub execution_id: ExecutionId,
    /// `cancel`, `pause`, `resume`, `rerun` or `signal`.
    pub command: String,
    /// Why, for `cancel`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Names of the tasks to start from, for `rerun`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub from: Vec<String>,
    /// Whether items that succeeded run again too, for `rerun`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reset_items: bool,
    /// Parameters that override, an object, for `rerun`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameters: Option<RawJson>,
    /// Variables that override, an object, for `rerun`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vars: Option<RawJson>,
}

/// Writes whole seconds as `30` and not as `30.0`, as the contract shows them.
#[expect(
    clippy::ref_option,
    reason = "serde calls it with a reference to the field"
)]
#[expect(
    clippy::cast_possible_truncation,
    reason = "the value is whole and below 2^53"
)]
fn number<S: serde::Serializer>(value: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) if value.fract() == 0.0 && value.abs() < 9e15 => {
            serializer.serialize_i64(*value as i64)
        }
        Some(value) => serializer.serialize_f64(*value),
        None => serializer.serialize_none(),
    }
}

/// `workflow.control.reply`: what became of a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkflowControlReply {
    /// The execution.
    pub execution_id: ExecutionId,
    /// The command.
    pub command: String,
    /// Whether it was carried out.
    pub accepted: bool,
    /// Why it was not, in one word: `unknown_execution`, `already_finished`, `not_paused`, `wrong_status`,
    /// `still_running`, `is_child`, `unknown_task`, `never_ran`, `nothing_failed`, `invalid_parameters`,
    /// `invalid_variables`, `not_supported`, `unknown_command`.
    pub reason: Option<String>,
    /// What exactly is wrong, for people, where the word does not say all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// `coordinator.probe`: the owner of a partition asks how far its own inbox has been read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CoordinatorProbe {
    /// The partition.
    pub partition: i32,
    /// The epoch in which the probe was sent; one of an earlier epoch means nothing.
    pub epoch: i64,
    /// When it was sent: deadlines due until then may act once it has come back. One that does not say
    /// shows only that the inbox is read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent_at: Option<DateTime<Utc>>,
}
