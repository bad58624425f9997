//! The state machine of an execution: the state that its rows hold, the events that can happen to
//! it, and the changes that follow.
//!
//! ```text
//! event ──apply──► step: end of a run ──routes──► arrivals ──joins, guards──► due runs ──► jobs
//!                    ▲                                             │
//!                    └──── skipped, no action, cannot be rendered ─┘
//! ```
//!
//! One event is one step. All that a step releases is rendered before any of it is dispatched.

mod again;
mod alive;
mod apply;
mod arrive;
mod branch;
mod changes;
mod check;
mod control;
mod dispatch;
mod event;
mod failure;
mod family;
mod finish;
mod flow;
mod given;
mod item_ends;
mod items;
mod joins;
mod log;
mod needs;
mod parallel;
mod past;
mod policy;
mod remains;
mod rerun;
mod retry;
mod routes;
mod run;
mod settle;
mod sight;
mod spread;
mod start;
mod step;
mod time;

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use flotilla_protocol::{ExecutionId, RunNo, TaskId};

pub use again::{Generation, items_kept};
pub use branch::{Branch, SeenTask, WriteLinks};
pub use changes::{Changes, Job, JobCancel, TimerChange, TimerKind, Transition, TransitionKind};
pub use event::{AttemptId, Command, ControlRefusal, Event, IgnoredReason, Outcome, Report};
pub use failure::{ExecutionError, kind};
pub use family::{ChildRefusal, ChildStart, Family, FamilyMessage, MAX_DEPTH, Parent, follow};
pub use flow::{Flow, HeldFailure};
pub use past::Past;
pub use rerun::{Rerun, RerunOrder, RerunPlan, RerunRefusal};
pub use retry::jittered_delay_s;
pub use run::{Run, RunStatus, Unsaved};
pub use spread::{
    Item, ItemEnds, MAX_ITEMS_IN_FLIGHT, MAX_LISTED_FAILURES, MAX_RESULT_LIST_BYTES,
    MOST_UNREAD_RESULTS, Progress, Spread,
};
pub use start::{Rejection, Start, start};
pub use time::NO_RUN;

use crate::json::Json;
use crate::variables::WriteNo;
use crate::workflow::Workflow;

/// Jobs that one event dispatches at most; the rest follow by timers that are due at once.
pub const MAX_JOBS_PER_STEP: usize = 256;
/// Bytes of input that one event dispatches at most, likewise.
pub const MAX_JOB_BYTES_PER_STEP: usize = 8 * 1024 * 1024;
/// Bytes of all variables that one branch sees, as JSON text.
pub const MAX_VARIABLE_BYTES: usize = 8 * 1024 * 1024;
/// Seconds that a worker has beyond the time limit to report the timeout itself.
pub const DEADLINE_SLACK_S: f64 = 5.0;
/// Seconds that an attempt without a time limit has to stop once its execution is cancelled.
pub const CANCEL_GRACE_S: f64 = 300.0;

/// One execution of a workflow: what its rows hold, in memory.
#[derive(Debug, Clone)]
pub struct Execution {
    /// Its id.
    pub id: ExecutionId,
    /// The definition that it started with.
    pub workflow: Arc<Workflow>,
    /// Where it stands.
    pub status: ExecutionStatus,
    /// When it was created.
    pub created_at: DateTime<Utc>,
    /// When it ended.
    pub finished_at: Option<DateTime<Utc>>,
    /// Parameters with defaults, an object.
    pub parameters: Json,
    /// The run of another execution whose child it is.
    pub parent: Option<Parent>,
    /// Seconds that it may take, as its start says; `None`: as the definition says.
    pub timeout: Option<f64>,
    /// How many tasks stand where.
    pub counts: Counts,
    /// Visits of each task, by its index.
    pub visits: Vec<u32>,
    /// Number of the newest run.
    pub last_run: RunNo,
    /// Number of the newest write of a variable.
    pub last_write: WriteNo,
    /// Number of the newest transition.
    pub last_seq: i64,
    /// Runs that have not ended.
    pub live: BTreeMap<RunNo, Run>,
    /// The ends of all branches so far, merged in the order in which they ended.
    pub ends: Branch,
    /// The last ended run of each watched task.
    pub last_ended: BTreeMap<Arc<str>, SeenTask>,
    /// Which write replaced which, as far back as live branches reach.
    pub links: WriteLinks,
    /// What joins and tasks with `needs` have come to.
    pub flow: Flow,
    /// What has failed without being handled.
    pub errors: Vec<ExecutionError>,
    /// What `output_map` gave, once the execution has ended.
    pub output: Option<Json>,
    /// Which rerun this is, and what holds since.
    pub generation: Generation,
}

/// Where an execution stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ExecutionStatus {
    /// Tasks run or wait for timers.
    Running,
    /// A pause was ordered, and attempts are still with workers.
    Pausing,
    /// Nothing runs, and nothing is dispatched until it is resumed.
    Paused,
    /// A cancel was ordered, and attempts are still with workers.
    Cancelling,
    /// A failure was not handled; what runs ends, nothing new starts.
    Failing,
    /// All done.
    Succeeded,
    /// Ended with at least one failure that was not handled.
    Failed,
    /// Ended because a user wanted it.
    Cancelled,
    /// Ended because it took longer than it may.
    TimedOut,
}

/// How many tasks of an execution stand where.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Runs created.
    pub total: i32,
    /// Runs not ended.
    pub active: i32,
    /// Runs by their end.
    pub succeeded: i32,
    /// As above.
    pub failed: i32,
    /// As above.
    pub timed_out: i32,
    /// As above.
    pub cancelled: i32,
    /// As above.
    pub skipped: i32,
    /// As above.
    pub omitted: i32,
    /// Attempts dispatched.
    pub attempts: i32,
}

impl ExecutionStatus {
    /// The word of the SQL type `execution_status`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Pausing => "pausing",
            Self::Paused => "paused",
            Self::Cancelling => "cancelling",
            Self::Failing => "failing",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::TimedOut => "timed_out",
        }
    }

    /// Reads a word of the SQL type `execution_status`; `None` for words of later versions.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Some(match word {
            "running" => Self::Running,
            "pausing" => Self::Pausing,
            "paused" => Self::Paused,
            "cancelling" => Self::Cancelling,
            "failing" => Self::Failing,
            "succeeded" => Self::Succeeded,
            "failed" => Self::Failed,
            "cancelled" => Self::Cancelled,
            "timed_out" => Self::TimedOut,
            _ => return None,
        })
    }

    /// Whether nothing can change any more.
    #[must_use]
    pub fn is_final(self) -> bool {
        match self {
            Self::Running | Self::Pausing | Self::Paused | Self::Cancelling | Self::Failing => {
                false
            }
            Self::Succeeded | Self::Failed | Self::Cancelled | Self::TimedOut => true,
        }
    }

    /// Whether a pause is in force: nothing is dispatched, and what would start is held back.
    #[must_use]
    pub fn is_paused(self) -> bool {
        matches!(self, Self::Pausing | Self::Paused)
    }
}

impl Execution {
    /// The id of one of its runs.
    #[must_use]
    pub fn task_id(&self, run: RunNo) -> TaskId {
        TaskId::derive(self.id, self.created_at, run)
    }

    /// The job of the current attempt of a live run, as it is to be published again; `None` if no
    /// worker is to have it.
    #[must_use]
    pub fn job(&self, run: RunNo) -> Option<Job> {
        let run = self.live.get(&run).filter(|run| self.has_a_worker(run))?;
        let task = &self.workflow.tasks[run.task.0];
        Some(Job {
            run: run.no,
            task_id: self.task_id(run.no),
            attempt: run.attempt,
            task: Arc::clone(&task.name),
            visit: run.visit,
            item: run.item.map(|item| (item.index, item.batch_size)),
            action: run.action.clone()?,
            pool: Arc::clone(&task.pool),
            input: run.input.clone()?,
            secrets: run.secrets.clone(),
            timeout: run.timeout,
            heartbeat: task.heartbeat,
            starts: run.starts,
            resent: true,
        })
    }

    /// Forgets which write replaced which where no merge can ask for it any more: below the oldest
    /// write of a name that a live branch still sees.
    fn trim_links(&mut self) {
        if self.links.len() < 256 || !self.links.len().is_multiple_of(128) {
            return;
        }
        let mut oldest: BTreeMap<&str, WriteNo> = BTreeMap::new();
        for write in self.live.values().flat_map(|run| run.branch.vars.iter()) {
            let no = oldest.entry(&write.name).or_insert(write.no);
            *no = write.no.min(*no);
        }
        let mut kept = WriteLinks::new();
        let live = self.live.values().flat_map(|run| run.branch.vars.iter());
        for write in live.chain(self.ends.vars.iter()) {
            let Some(floor) = oldest.get(&*write.name) else {
                continue;
            };
            let mut at = Some(write.no);
            while let Some(no) = at.filter(|no| no >= floor) {
                let previous = self.links.get(&no).copied().flatten();
                if kept.insert(no, previous).is_some() {
                    break;
                }
                at = previous;
            }
        }
        self.links = kept;
    }
}
