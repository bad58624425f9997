//! What can happen to an execution from outside.

use chrono::{DateTime, Utc};
use flotilla_protocol::message::{CompletionStatus, TaskError};
use flotilla_protocol::{RunNo, TaskId};

use super::changes::TimerKind;
use super::rerun::Rerun;
use crate::json::Json;

/// One attempt of one run, as messages name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttemptId {
    /// The run.
    pub task_id: TaskId,
    /// Number of the attempt, from 1.
    pub attempt: u32,
}

/// Something that has happened.
#[derive(Debug, Clone)]
pub enum Event {
    /// A worker says that an attempt has ended.
    AttemptEnded {
        /// Which one.
        attempt: AttemptId,
        /// How it ended, boxed since it is much larger than the other events.
        report: Box<Report>,
    },
    /// The execution has ended that an attempt of a sub-workflow is, or none could be made.
    ChildEnded {
        /// Which one.
        attempt: AttemptId,
        /// How it ended, boxed as above.
        report: Box<Report>,
    },
    /// A worker says that it runs an attempt.
    AttemptStarted {
        /// Which one.
        attempt: AttemptId,
        /// The worker.
        worker: Option<String>,
        /// When it started.
        started_at: Option<DateTime<Utc>>,
    },
    /// A worker says that it runs an attempt, and that its job is acknowledged: the broker will not
    /// give it to another worker any more, should this one die.
    AttemptAcknowledged {
        /// Which one.
        attempt: AttemptId,
        /// The worker.
        worker: Option<String>,
        /// When it started.
        started_at: Option<DateTime<Utc>>,
        /// Seconds of silence after which the worker counts as dead.
        heartbeat_s: f64,
    },
    /// A job became a dead letter.
    JobDied {
        /// Which one.
        attempt: AttemptId,
        /// Why.
        reason: String,
    },
    /// The bundle in which a job was has come back from its worker.
    JobReturned {
        /// Which one.
        attempt: AttemptId,
    },
    /// A completion could not be taken, however often it was tried.
    CompletionPoisoned {
        /// Which one.
        attempt: AttemptId,
        /// Why.
        reason: String,
    },
    /// A timer has run out. For a deadline: and nothing of the attempt waits in the inbox.
    TimerFired {
        /// The run; [`super::NO_RUN`] for the execution as a whole.
        run: RunNo,
        /// Which timer.
        kind: TimerKind,
    },
    /// The broker has lost the job of an attempt that no worker has reported to run.
    JobLost {
        /// Which one.
        attempt: AttemptId,
    },
    /// A user has sent a command.
    Controlled {
        /// What is to happen.
        command: Command,
        /// The id of the message, so that the log tells which message did it.
        message_id: Option<String>,
    },
    /// A user wants tasks of an execution that has ended to run again.
    RerunOrdered(Box<Rerun>),
}

/// What a user can order an execution to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// End: what runs is told to stop, and nothing else starts.
    Cancel {
        /// Why, for the log and the workers.
        reason: Option<String>,
    },
    /// Dispatch nothing until [`Command::Resume`].
    Pause,
    /// Go on after [`Command::Pause`].
    Resume,
}

impl Command {
    /// The word of control messages.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Cancel { .. } => "cancel",
            Self::Pause => "pause",
            Self::Resume => "resume",
        }
    }
}

/// How an attempt ended, by a worker's word or as the end of a child.
#[derive(Debug, Clone)]
pub struct Report {
    /// The outcome.
    pub status: CompletionStatus,
    /// The result, if any.
    pub result: Option<Json>,
    /// The error, if any.
    pub error: Option<TaskError>,
    /// When it started.
    pub started_at: Option<DateTime<Utc>>,
    /// When it ended.
    pub finished_at: Option<DateTime<Utc>>,
    /// The worker.
    pub worker: Option<String>,
}

/// What became of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It changed the execution.
    Applied,
    /// It had no effect, for a reason that is recorded.
    Ignored(IgnoredReason),
    /// A command that cannot be followed.
    Refused(ControlRefusal),
    /// It had no effect and nobody needs to know (a timer that was overtaken, a heartbeat).
    Nothing,
}

impl From<Result<(), IgnoredReason>> for Outcome {
    fn from(applied: Result<(), IgnoredReason>) -> Self {
        match applied {
            Ok(()) => Self::Applied,
            Err(reason) => Self::Ignored(reason),
        }
    }
}

/// Why a message of a worker has no effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IgnoredReason {
    /// There is no such execution.
    UnknownExecution,
    /// The execution has no such run.
    UnknownTask,
    /// The attempt is not the current one.
    StaleAttempt,
    /// The attempt has ended already.
    AlreadyCompleted,
    /// The execution has ended already.
    ExecutionFinished,
}

impl IgnoredReason {
    /// The word of the SQL type `ignored_reason`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::UnknownExecution => "unknown_execution",
            Self::UnknownTask => "unknown_task",
            Self::StaleAttempt => "stale_attempt",
            Self::AlreadyCompleted => "already_completed",
            Self::ExecutionFinished => "execution_finished",
        }
    }
}

/// Why a command is not followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ControlRefusal {
    /// The execution has ended.
    AlreadyFinished,
    /// Only what is paused can be resumed.
    NotPaused,
    /// An execution that is failing or cancelling cannot be paused.
    WrongStatus,
    /// Only what has ended can run again.
    StillRunning,
    /// It is a child, which its parent starts anew.
    IsChild,
    /// The definition has no such task.
    UnknownTask,
    /// The task was never run.
    NeverRan,
    /// Nothing has failed, and no task was named.
    NothingFailed,
    /// Parameters that a start would be refused for.
    InvalidParameters,
    /// Variables that nothing assigns, or that are too large.
    InvalidVariables,
}

impl ControlRefusal {
    /// The word of control replies.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::AlreadyFinished => "already_finished",
            Self::NotPaused => "not_paused",
            Self::WrongStatus => "wrong_status",
            Self::StillRunning => "still_running",
            Self::IsChild => "is_child",
            Self::UnknownTask => "unknown_task",
            Self::NeverRan => "never_ran",
            Self::NothingFailed => "nothing_failed",
            Self::InvalidParameters => "invalid_parameters",
            Self::InvalidVariables => "invalid_variables",
        }
    }
}
