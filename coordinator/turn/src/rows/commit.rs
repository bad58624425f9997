//! What a turn writes, and what the database answers.

use chrono::{DateTime, Utc};
use flotilla_engine::execution::{Counts, Parent, TimerKind, TransitionKind};
use flotilla_engine::{DefinitionHash, Json};
use flotilla_protocol::{ExecutionId, RunNo, TaskId};
use uuid::Uuid;

use super::{Epoch, PartitionNo, TurnNo};

/// All that one turn writes, in one statement. The turn's id tells a commit that is sent again from
/// somebody else's.
#[derive(Debug, Clone, PartialEq)]
pub struct Commit {
    /// Names this commit; the same when it is sent again.
    pub turn_id: Uuid,
    /// Seconds for which the leases of `partitions` are renewed.
    pub lease_s: f64,
    /// The fence: every partition that the turn touches, ascending.
    pub partitions: Vec<PartitionTurn>,
    /// Names of new executions, ascending by id.
    pub starts: Vec<StartRow>,
    /// New executions.
    pub new_executions: Vec<ExecutionRow>,
    /// Executions that were there before.
    pub executions: Vec<ExecutionStateRow>,
    /// New runs.
    pub new_tasks: Vec<TaskRow>,
    /// Runs that were there before.
    pub tasks: Vec<TaskRow>,
    /// Variables.
    pub variables: Vec<VariableRow>,
    /// Log entries.
    pub transitions: Vec<TransitionRow>,
    /// Timers to set; a run has at most one, a new one replaces the old.
    pub timers_set: Vec<TimerRow>,
    /// Timers to clear.
    pub timers_cleared: Vec<(ExecutionId, RunNo)>,
    /// Jobs that this turn owes.
    pub jobs: Vec<OutboxJob>,
    /// Replies that this turn owes.
    pub replies: Vec<OutboxReply>,
    /// Messages that had no effect.
    pub ignored: Vec<IgnoredRow>,
}

impl Commit {
    /// A commit that writes nothing yet.
    #[must_use]
    pub fn empty(turn_id: Uuid, lease_s: f64) -> Self {
        Self {
            turn_id,
            lease_s,
            partitions: Vec::new(),
            starts: Vec::new(),
            new_executions: Vec::new(),
            executions: Vec::new(),
            new_tasks: Vec::new(),
            tasks: Vec::new(),
            variables: Vec::new(),
            transitions: Vec::new(),
            timers_set: Vec::new(),
            timers_cleared: Vec::new(),
            jobs: Vec::new(),
            replies: Vec::new(),
            ignored: Vec::new(),
        }
    }
}

/// A partition in the fence of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionTurn {
    /// The partition.
    pub partition: PartitionNo,
    /// The epoch in which it was taken.
    pub epoch: Epoch,
    /// The turn that this commit is for it, one more than its last.
    pub turn: TurnNo,
    /// Every turn up to this one is confirmed by the broker; outbox rows up to it are deleted.
    pub dispatched_through: TurnNo,
}

/// The name of a start, unique over all partitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartRow {
    /// The execution.
    pub execution_id: ExecutionId,
    /// The key that the user gave.
    pub idempotency_key: Option<String>,
    /// Reference of the workflow.
    pub workflow: String,
    /// The partition of the execution.
    pub partition: PartitionNo,
}

/// An execution as it is first written.
#[derive(Debug, Clone, PartialEq)]
pub struct ExecutionRow {
    /// The definition.
    pub definition_hash: DefinitionHash,
    /// Reference of the workflow.
    pub workflow: String,
    /// Version of the workflow.
    pub version: String,
    /// The partition, for its whole life.
    pub partition: PartitionNo,
    /// The run whose child it is.
    pub parent: Option<Parent>,
    /// Seconds that it may take, as its start says.
    pub timeout_s: Option<f64>,
    /// The key that the user gave.
    pub idempotency_key: Option<String>,
    /// Labels, an object of texts.
    pub tags: Json,
    /// Parameters with defaults.
    pub parameters: Json,
    /// Where replies go: a list of `{"reply_to", "correlation_id"}`.
    pub reply_to: Json,
    /// Trace context of the start message.
    pub traceparent: Option<String>,
    /// When it was created.
    pub created_at: DateTime<Utc>,
    /// The part that changes.
    pub state: ExecutionStateRow,
}

/// The part of an execution's row that changes.
#[derive(Debug, Clone, PartialEq)]
pub struct ExecutionStateRow {
    /// The execution.
    pub execution_id: ExecutionId,
    /// A word of `execution_status`.
    pub status: &'static str,
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
    /// Which writes and ended runs the ended branches left, merged: `{"vars": {name: write_no},
    /// "tasks": {name: run}, "last_ended": {name: run}}`, empty parts left out.
    pub ends: Json,
    /// Failures that nothing handled, a list; `None` if unchanged.
    pub errors: Option<Json>,
    /// What `output_map` gave; `None` if unchanged.
    pub output: Option<Json>,
    /// Where replies go; `None` if unchanged.
    pub reply_to: Option<Json>,
    /// When it ended.
    pub finished_at: Option<DateTime<Utc>>,
}

/// A run of a task.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskRow {
    /// The execution.
    pub execution_id: ExecutionId,
    /// Its number.
    pub run: RunNo,
    /// Its id, derived from the two above. Written once.
    pub task_id: TaskId,
    /// Name of the task. Written once.
    pub task: String,
    /// Number of the visit. Written once.
    pub visit: u32,
    /// When the run was created. Written once.
    pub created_at: DateTime<Utc>,
    /// A word of `task_status`.
    pub status: &'static str,
    /// The current attempt.
    pub attempt: u32,
    /// Attempts allowed.
    pub max_attempts: u32,
    /// Starts seen of the current attempt.
    pub starts: u32,
    /// Whether it is held back: the execution has failed, or its time came during a pause.
    pub held: bool,
    /// Name of the action.
    pub action: Option<String>,
    /// The worker pool.
    pub pool: Option<String>,
    /// Seconds that an attempt may run.
    pub timeout_s: Option<f64>,
    /// Rendered input; `None` if unchanged.
    pub input: Option<Json>,
    /// The places of the input that the worker fills in; `None` if there are none or they are unchanged.
    pub secrets: Option<Json>,
    /// What the run sees: `{"vars": {name: write_no}, "tasks": {name: run}, "passed": {task: count}}`,
    /// empty parts left out; `None` if unchanged.
    pub branch: Option<Json>,
    /// The run of the whole task, where this is the run of an item. Written once.
    pub item_of: Option<RunNo>,
    /// Position of the item. Written once.
    pub item_index: Option<u32>,
    /// Items of the batch. Written once.
    pub batch_size: Option<u32>,
    /// The items of a task as a whole; `None` if it has none or they are unchanged.
    pub items: Option<Json>,
    /// How far it has come with them; `None` if it has none.
    pub item_progress: Option<Json>,
    /// Runs that led here.
    pub caused_by: Vec<RunNo>,
    /// Predecessors that have arrived at this join, by task index.
    pub arrived: Vec<u32>,
    /// The worker last heard of.
    pub worker: Option<String>,
    /// Result of the last attempt; `None` if there is none or it is unchanged.
    pub result: Option<Json>,
    /// Error of the last attempt, likewise.
    pub error: Option<Json>,
    /// When the current attempt was dispatched.
    pub dispatched_at: Option<DateTime<Utc>>,
    /// When a worker started it.
    pub started_at: Option<DateTime<Utc>>,
    /// When the run ended.
    pub finished_at: Option<DateTime<Utc>>,
}

/// A write of a variable.
#[derive(Debug, Clone, PartialEq)]
pub struct VariableRow {
    /// The execution.
    pub execution_id: ExecutionId,
    /// Its number.
    pub write_no: u64,
    /// Name of the variable.
    pub name: String,
    /// What was written.
    pub value: Json,
    /// The write that it replaced in its branch.
    pub previous_write_no: Option<u64>,
}

/// A log entry.
#[derive(Debug, Clone, PartialEq)]
pub struct TransitionRow {
    /// The execution.
    pub execution_id: ExecutionId,
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
    pub from_status: Option<&'static str>,
    /// Status after.
    pub to_status: Option<&'static str>,
    /// More.
    pub detail: Option<Json>,
}

/// A timer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimerRow {
    /// The execution.
    pub execution_id: ExecutionId,
    /// The run.
    pub run: RunNo,
    /// Its partition, so that an owner can load what is due.
    pub partition: PartitionNo,
    /// Why it was set.
    pub kind: TimerKind,
    /// When it fires.
    pub due_at: DateTime<Utc>,
}

/// A job that a turn owes; its body is made from the task row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutboxJob {
    /// The partition.
    pub partition: PartitionNo,
    /// The turn.
    pub turn: TurnNo,
    /// The execution.
    pub execution_id: ExecutionId,
    /// The run.
    pub run: RunNo,
    /// The attempt.
    pub attempt: u32,
}

/// A reply that a turn owes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxReply {
    /// The partition.
    pub partition: PartitionNo,
    /// The turn.
    pub turn: TurnNo,
    /// The queue.
    pub reply_to: String,
    /// The request's correlation id.
    pub correlation_id: Option<String>,
    /// The message.
    pub message: ReplyMessage,
}

/// What a reply says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReplyMessage {
    /// A message that is stored whole: its type and its body.
    Stored {
        /// The message type.
        message_type: String,
        /// The body, JSON text.
        body: String,
    },
    /// `workflow.finished`, made from the execution's row.
    Finished {
        /// The execution.
        execution_id: ExecutionId,
    },
}

/// A message that had no effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IgnoredRow {
    /// The queue it came from.
    pub queue: String,
    /// Its type.
    pub message_type: &'static str,
    /// The execution that it names.
    pub execution_id: ExecutionId,
    /// The run that it names.
    pub task_id: Option<TaskId>,
    /// The attempt that it names.
    pub attempt: Option<u32>,
    /// The worker that sent it.
    pub worker: Option<String>,
    /// A word of `ignored_reason`.
    pub reason: &'static str,
}

/// What the database answers to a commit.
#[derive(Debug, Clone, PartialEq)]
pub enum CommitAnswer {
    /// Written, now or by an earlier sending of the same commit.
    Committed {
        /// The database's clock.
        now: DateTime<Utc>,
    },
    /// These partitions belong to somebody else now; nothing was written.
    Fenced {
        /// The partitions.
        lost: Vec<PartitionNo>,
    },
    /// Nothing was written, or nobody knows; the same commit may succeed later.
    TryAgain {
        /// What the database said.
        error: String,
    },
    /// A start of this turn was made by somebody else meanwhile: look again.
    StartExists {
        /// The id that is taken; `None` if it is an idempotency key.
        execution_id: Option<ExecutionId>,
    },
    /// The database will never take this commit.
    Refused {
        /// What the database said.
        error: String,
    },
}
