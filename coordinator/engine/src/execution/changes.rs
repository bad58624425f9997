//! What one or more events have changed: the rows to write and the effects that follow once they
//! are written. Plain data that can be compared.

use std::collections::BTreeSet;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use flotilla_protocol::{RunNo, TaskId};

use super::family::FamilyMessage;
use super::run::Run;
use crate::json::Json;
use crate::variables::Write;

/// All that has changed in one execution since its rows were last written.
#[derive(Debug, Default, PartialEq)]
pub struct Changes {
    /// Log entries, in order.
    pub transitions: Vec<Transition>,
    /// Variables that were written.
    pub writes: Vec<Arc<Write>>,
    /// Runs that were created or changed and are still alive.
    pub touched: BTreeSet<RunNo>,
    /// Runs that have ended.
    pub ended: Vec<Run>,
    /// Timers to set and to clear, in order.
    pub timers: Vec<TimerChange>,
    /// Jobs to publish, in order.
    pub jobs: Vec<Job>,
    /// Attempts whose workers are to be told to stop, in order.
    pub cancels: Vec<JobCancel>,
    /// What its children, or its parent, are to be told, in order; see [`super::follow`].
    pub family: Vec<FamilyMessage>,
    /// Whether the execution has ended.
    pub finished: bool,
}

/// One entry of the log of an execution.
#[derive(Debug, Clone, PartialEq)]
pub struct Transition {
    /// Its number, from 1 without a gap.
    pub seq: i64,
    /// What happened.
    pub kind: TransitionKind,
    /// The run that it happened to; `None` for the execution as a whole.
    pub task_id: Option<TaskId>,
    /// The attempt that it happened to.
    pub attempt: Option<u32>,
    /// Status before; `None` where there was none.
    pub from: Option<&'static str>,
    /// Status after.
    pub to: Option<&'static str>,
    /// What else is worth knowing; a JSON object.
    pub detail: Option<Json>,
}

/// What an entry of the log says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TransitionKind {
    /// The execution was created.
    ExecutionStarted,
    /// An attempt was dispatched.
    TaskDispatched,
    /// A worker said that it runs the attempt.
    TaskStarted,
    /// The run has ended.
    TaskEnded,
    /// An attempt has ended, and another follows.
    TaskRetryScheduled,
    /// A branch has reached a join.
    JoinArrived,
    /// A command was followed. About a run: its time came during a pause, and it is held back.
    ControlApplied,
    /// The same attempt was published again, since its job was lost or its worker fell silent.
    JobResent,
    /// The execution as a whole has another status.
    ExecutionStatusChanged,
}

impl TransitionKind {
    /// The word of the SQL type `transition_kind`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::ExecutionStarted => "execution_started",
            Self::TaskDispatched => "task_dispatched",
            Self::TaskStarted => "task_started",
            Self::TaskEnded => "task_ended",
            Self::TaskRetryScheduled => "task_retry_scheduled",
            Self::JoinArrived => "join_arrived",
            Self::ControlApplied => "control_applied",
            Self::JobResent => "job_resent",
            Self::ExecutionStatusChanged => "execution_status_changed",
        }
    }

    /// Reads a word of the SQL type `transition_kind`; `None` for words of later versions.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Some(match word {
            "execution_started" => Self::ExecutionStarted,
            "task_dispatched" => Self::TaskDispatched,
            "task_started" => Self::TaskStarted,
            "task_ended" => Self::TaskEnded,
            "task_retry_scheduled" => Self::TaskRetryScheduled,
            "join_arrived" => Self::JoinArrived,
            "control_applied" => Self::ControlApplied,
            "job_resent" => Self::JobResent,
            "execution_status_changed" => Self::ExecutionStatusChanged,
            _ => return None,
        })
    }
}

/// Why a timer was set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TimerKind {
    /// The next attempt is due.
    Retry,
    /// The attempt that runs has reached its time limit.
    Deadline,
    /// A dispatch that was put off, since its step released too many jobs at once.
    Dispatch,
    /// The attempt was told to stop, and has had its time to do so.
    Cancel,
    /// Nothing was heard for too long of the worker of an attempt whose job is acknowledged, or whose
    /// task says how long it may be silent.
    Heartbeat,
    /// The delay of the task is over.
    Delay,
    /// All attempts of the run together, or all its items, have had their time.
    TotalTimeout,
    /// The execution as a whole has taken as long as it may; of [`super::NO_RUN`].
    ExecutionTimeout,
}

impl TimerKind {
    /// The word of the SQL type `timer_kind`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Retry => "retry",
            Self::Deadline => "deadline",
            Self::Dispatch => "dispatch",
            Self::Cancel => "cancel",
            Self::Heartbeat => "heartbeat",
            Self::Delay => "delay",
            Self::TotalTimeout => "total_timeout",
            Self::ExecutionTimeout => "execution_timeout",
        }
    }

    /// Reads a word of the SQL type `timer_kind`.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Some(match word {
            "retry" => Self::Retry,
            "deadline" => Self::Deadline,
            "dispatch" => Self::Dispatch,
            "cancel" => Self::Cancel,
            "heartbeat" => Self::Heartbeat,
            "delay" => Self::Delay,
            "total_timeout" => Self::TotalTimeout,
            "execution_timeout" => Self::ExecutionTimeout,
            _ => return None,
        })
    }
}

/// A timer is set or cleared. A run has at most one timer, and the execution as a whole, which is
/// [`super::NO_RUN`] here, has another.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum TimerChange {
    /// It shall fire at `due`.
    Set {
        /// The run.
        run: RunNo,
        /// Why.
        kind: TimerKind,
        /// When.
        due: DateTime<Utc>,
    },
    /// It shall not fire any more.
    Clear {
        /// The run.
        run: RunNo,
    },
}

/// One attempt for a worker, as the message carries it.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// The run.
    pub run: RunNo,
    /// Its id.
    pub task_id: TaskId,
    /// The attempt.
    pub attempt: u32,
    /// Name of the task.
    pub task: Arc<str>,
    /// Number of the visit.
    pub visit: u32,
    /// Of an item: its position, and how many items the batch has where there are batches.
    pub item: Option<(u32, Option<u32>)>,
    /// Name of the action.
    pub action: Arc<str>,
    /// The pool whose workers run it.
    pub pool: Arc<str>,
    /// Rendered input.
    pub input: Json,
    /// The places of it that the worker fills in, a list; `None` if there are none.
    pub secrets: Option<Json>,
    /// Seconds that the attempt may run.
    pub timeout: Option<f64>,
    /// Seconds of silence after which it is given up.
    pub heartbeat: Option<f64>,
    /// How often a worker has said that it starts the attempt.
    pub starts: u32,
    /// Whether it may have been published before.
    pub resent: bool,
}

/// An attempt that its worker is to stop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobCancel {
    /// The run.
    pub task_id: TaskId,
    /// The attempt.
    pub attempt: u32,
    /// Why, if the user gave a reason. It is not kept: what is repeated later comes without it.
    pub reason: Option<String>,
}
