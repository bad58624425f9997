//! What a turn loads, and what a new owner finds.

use chrono::{DateTime, Utc};
use flotilla_engine::execution::{Counts, Parent, TransitionKind};
use flotilla_engine::{DefinitionHash, Json};
use flotilla_protocol::{ExecutionId, RunNo, TaskId};

use super::{
    Epoch, OutboxJob, OutboxReply, PartitionNo, TimerRow, TransitionRow, TurnNo, VariableRow,
};

/// An execution as it is loaded: its row, its live runs, and what those see.
#[derive(Debug, Clone, PartialEq)]
pub struct LoadedExecution {
    /// Its row; `errors`, `output` and `reply_to` of the state are always set.
    pub row: LoadedRow,
    /// Live runs, with all columns.
    pub tasks: Vec<LoadedTask>,
    /// Writes that `ends` or a live run sees, with values.
    pub variables: Vec<VariableRow>,
    /// Which write replaced which, from each of those back to the oldest write of the same name that
    /// a live run sees.
    pub links: Vec<(u64, Option<u64>)>,
    /// Ended runs that `ends` or a live run names.
    pub seen: Vec<LoadedTask>,
    /// Ended items of live runs: all where the list of results is made, else those that failed; and
    /// those that a rerun has kept.
    pub item_ends: Vec<LoadedItemEnd>,
    /// Live runs whose items left more than a list of results may hold: those results are not here.
    pub too_large: Vec<RunNo>,
}

/// All that an execution has behind it, for a rerun.
#[derive(Debug, Clone, PartialEq)]
pub struct LoadedPast {
    /// The execution.
    pub execution_id: ExecutionId,
    /// Runs that have ended, without inputs. Of a task of which no item has failed or was left out the
    /// items are absent.
    pub tasks: Vec<LoadedTask>,
    /// All writes, with values.
    pub variables: Vec<VariableRow>,
    /// Runs whose items left more than a list of results may hold: those results are not here.
    pub too_large: Vec<RunNo>,
}

/// How an item has ended, as it is loaded.
#[derive(Debug, Clone, PartialEq)]
pub struct LoadedItemEnd {
    /// The run of the whole task.
    pub item_of: RunNo,
    /// Position of the item.
    pub item_index: u32,
    /// Its result, if it has one and it is wanted.
    pub result: Option<Json>,
    /// Its error, if it failed.
    pub error: Option<Json>,
    /// Whether it is the end of an earlier run of the task, which a rerun has kept.
    pub is_kept: bool,
}

/// An execution's row as it is loaded.
#[derive(Debug, Clone, PartialEq)]
pub struct LoadedRow {
    /// The execution.
    pub execution_id: ExecutionId,
    /// The definition.
    pub definition_hash: DefinitionHash,
    /// The partition.
    pub partition: PartitionNo,
    /// A word of `execution_status`.
    pub status: String,
    /// The run whose child it is.
    pub parent: Option<Parent>,
    /// Seconds that it may take, as its start says.
    pub timeout_s: Option<f64>,
    /// Parameters with defaults.
    pub parameters: Json,
    /// Where replies go.
    pub reply_to: Json,
    /// Trace context of the start message.
    pub traceparent: Option<String>,
    /// When it was created.
    pub created_at: DateTime<Utc>,
    /// When it ended.
    pub finished_at: Option<DateTime<Utc>>,
    /// How many tasks stand where.
    pub counts: Counts,
    /// Visits by task index.
    pub visits: Vec<u32>,
    /// Number of the newest run.
    pub last_run: RunNo,
    /// Number of the newest write.
    pub last_write: u64,
    /// Number of the newest transition.
    pub last_seq: i64,
    /// Runs that have not ended, ascending.
    pub live_runs: Vec<RunNo>,
    /// As in [`super::ExecutionStateRow::ends`].
    pub ends: Json,
    /// Failures that nothing handled.
    pub errors: Json,
    /// What `output_map` gave.
    pub output: Option<Json>,
}

/// A run's row as it is loaded.
#[derive(Debug, Clone, PartialEq)]
pub struct LoadedTask {
    /// Its number.
    pub run: RunNo,
    /// Name of the task.
    pub task: String,
    /// Number of the visit.
    pub visit: u32,
    /// A word of `task_status`.
    pub status: String,
    /// The current attempt.
    pub attempt: u32,
    /// Attempts allowed.
    pub max_attempts: u32,
    /// Starts seen of the current attempt.
    pub starts: u32,
    /// Whether it is held back.
    pub held: bool,
    /// Name of the action.
    pub action: Option<String>,
    /// Seconds that an attempt may run.
    pub timeout_s: Option<f64>,
    /// Rendered input.
    pub input: Option<Json>,
    /// The places of it that the worker fills in.
    pub secrets: Option<Json>,
    /// As in [`super::TaskRow::branch`].
    pub branch: Json,
    /// The run of the whole task, where this is the run of an item.
    pub item_of: Option<RunNo>,
    /// Position of the item.
    pub item_index: Option<u32>,
    /// Items of the batch.
    pub batch_size: Option<u32>,
    /// The items of a task as a whole.
    pub items: Option<Json>,
    /// How far it has come with them.
    pub item_progress: Option<Json>,
    /// Runs that led here.
    pub caused_by: Vec<RunNo>,
    /// Predecessors that have arrived, by task index.
    pub arrived: Vec<u32>,
    /// The worker last heard of.
    pub worker: Option<String>,
    /// Result of the last attempt.
    pub result: Option<Json>,
    /// Error of the last attempt.
    pub error: Option<Json>,
    /// When the run was created.
    pub created_at: DateTime<Utc>,
    /// When the current attempt was dispatched.
    pub dispatched_at: Option<DateTime<Utc>>,
    /// When a worker started it.
    pub started_at: Option<DateTime<Utc>>,
    /// When the run ended.
    pub finished_at: Option<DateTime<Utc>>,
}

/// An entry of the log as it is loaded.
#[derive(Debug, Clone, PartialEq)]
pub struct LoadedTransition {
    /// Its number.
    pub seq: i64,
    /// When it happened.
    pub at: DateTime<Utc>,
    /// What happened.
    pub kind: TransitionKind,
    /// The run.
    pub task_id: Option<TaskId>,
    /// The attempt.
    pub attempt: Option<u32>,
    /// Status before.
    pub from_status: Option<String>,
    /// Status after.
    pub to_status: Option<String>,
    /// More.
    pub detail: Option<Json>,
}

impl From<&TransitionRow> for LoadedTransition {
    /// As it is loaded from a store that changes nothing of it.
    fn from(row: &TransitionRow) -> Self {
        Self {
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
}

/// A start that is to be looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartLookup {
    /// The id that the start names.
    pub execution_id: Option<ExecutionId>,
    /// The key that the start names.
    pub idempotency_key: Option<String>,
    /// The workflow.
    pub workflow: String,
    /// The version; `None`: the newest.
    pub version: Option<String>,
}

/// What a lookup found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundStart {
    /// A start of that name.
    pub existing: Option<ExistingStart>,
    /// The definition that the start would run.
    pub definition: FoundDefinition,
}

/// A start of the same name that was accepted before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExistingStart {
    /// The execution.
    pub execution_id: ExecutionId,
    /// Its workflow.
    pub workflow: String,
    /// Its partition.
    pub partition: PartitionNo,
}

/// The definition that a start would run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FoundDefinition {
    /// It is registered.
    Registered(DefinitionHash),
    /// No workflow of that reference is.
    UnknownWorkflow,
    /// The workflow is, but not in that version.
    UnknownVersion,
}

/// A command that is to be looked up.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ControlLookup {
    /// The execution.
    pub execution_id: ExecutionId,
    /// Id of the message that brought the command.
    pub message_id: String,
}

/// A job that was dispatched and is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LostJob {
    /// The partition of its execution.
    pub partition: PartitionNo,
    /// The execution.
    pub execution_id: ExecutionId,
    /// The run.
    pub run: RunNo,
    /// The attempt.
    pub attempt: u32,
}

/// A partition that was taken, with what its former owner owed.
#[derive(Debug, Clone, PartialEq)]
pub struct TakenPartition {
    /// The partition.
    pub partition: PartitionNo,
    /// The epoch that is ours.
    pub epoch: Epoch,
    /// Its last turn.
    pub last_turn: TurnNo,
    /// Turns up to this one are confirmed.
    pub dispatched_through: TurnNo,
    /// Jobs above the watermark.
    pub jobs: Vec<OutboxJob>,
    /// Replies above the watermark.
    pub replies: Vec<OutboxReply>,
    /// Timers that are due before `timers_until`.
    pub timers: Vec<TimerRow>,
    /// Up to when timers were loaded.
    pub timers_until: DateTime<Utc>,
    /// The database's clock.
    pub now: DateTime<Utc>,
}
