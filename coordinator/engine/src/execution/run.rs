//! A run of a task: one visit with its attempts, from its creation to its end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use flotilla_protocol::RunNo;

use super::branch::Branch;
use super::spread::{Item, Spread};
use crate::json::Json;
use crate::rule::{Need, Verdict};
use crate::scope::{EndStatus, Ended};
use crate::workflow::{Needs, TaskIndex};

/// One run of a task.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// Its number within the execution.
    pub no: RunNo,
    /// Which task it runs.
    pub task: TaskIndex,
    /// The number of this visit of the task, from 1.
    pub visit: u32,
    /// Where it stands.
    pub status: RunStatus,
    /// The current attempt, from 1; 0 before the first dispatch.
    pub attempt: u32,
    /// Attempts that the retry rule allows in all.
    pub max_attempts: u32,
    /// How often a worker has said that it starts the current attempt.
    pub starts: u32,
    /// Rendered name of the action; `None` before the dispatch and for tasks without one.
    pub action: Option<Arc<str>>,
    /// Rendered input; `None` as for `action`.
    pub input: Option<Json>,
    /// The places of the input that the worker fills in; `None` if it has none.
    pub secrets: Option<Json>,
    /// Seconds that an attempt may run.
    pub timeout: Option<f64>,
    /// When its attempts, or its items, have had their time together; `None` before the first, and
    /// where that time has no limit.
    pub until: Option<DateTime<Utc>>,
    /// Which item it is for; `None`: the task as a whole.
    pub item: Option<Item>,
    /// The items of the task and how far it has come, once they are known.
    pub spread: Option<Box<Spread>>,
    /// What the run sees, and hands on; of an item, what the task as a whole sees.
    pub branch: Branch,
    /// The run that it repeats, or goes on for, by a rerun.
    pub again: Option<RunNo>,
    /// The runs that led here.
    pub caused_by: Vec<RunNo>,
    /// Predecessors that have arrived at this join; of a task with `needs`, those of its needed tasks
    /// whose ends are final.
    pub arrived: BTreeSet<TaskIndex>,
    /// Of a task with `needs`: how those have ended that have.
    pub needed: BTreeMap<TaskIndex, Need>,
    /// Whether the run is held back: the execution has failed, or its time came during a pause. A
    /// run that waits for its next attempt or its dispatch keeps its status, and has no timer.
    pub held: bool,
    /// The worker that was last heard of.
    pub worker: Option<Arc<str>>,
    /// How it ended, once it has; before that, how the last attempt ended.
    pub ended: Option<Ended>,
    /// When the run was created.
    pub created_at: DateTime<Utc>,
    /// When the current attempt was dispatched.
    pub dispatched_at: Option<DateTime<Utc>>,
    /// When a worker started the current attempt, by the worker's word.
    pub started_at: Option<DateTime<Utc>>,
    /// When the run ended.
    pub finished_at: Option<DateTime<Utc>>,
    /// Which large parts have changed since the row was last written.
    pub unsaved: Unsaved,
}

/// Parts of a run that are written only when they have changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Unsaved {
    /// [`Run::input`] and [`Run::secrets`]
    pub input: bool,
    /// [`Run::branch`] and [`Run::until`]
    pub branch: bool,
    /// [`Run::ended`]
    pub end: bool,
    /// The list of [`Run::spread`]
    pub items: bool,
}

/// Where a run stands.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum RunStatus {
    /// A join that is not complete, a task with `needs` that is not decided, or a run that is held back.
    Waiting,
    /// Due, but its dispatch was put off by a timer.
    Delayed,
    /// The job is on its way or in the hands of a worker that has not reported yet.
    Dispatched,
    /// A worker has reported that it runs the attempt.
    Running,
    /// Waiting for the next attempt.
    Retrying,
    /// Its items are run.
    Spread,
    /// Over.
    Ended(EndStatus),
}

impl RunStatus {
    /// The word of the SQL type `task_status`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Delayed => "delayed",
            Self::Dispatched => "dispatched",
            Self::Running | Self::Spread => "running",
            Self::Retrying => "retrying",
            Self::Ended(end) => end.word(),
        }
    }

    /// Reads a word of the SQL type `task_status`; `running` may be [`Self::Spread`], too, which
    /// the word alone does not tell.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Some(match word {
            "waiting" => Self::Waiting,
            "delayed" => Self::Delayed,
            "dispatched" => Self::Dispatched,
            "running" => Self::Running,
            "retrying" => Self::Retrying,
            other => Self::Ended(EndStatus::from_word(other)?),
        })
    }
}

impl Run {
    /// A run that nothing has happened to yet.
    #[must_use]
    pub fn new(no: RunNo, task: TaskIndex, visit: u32, branch: Branch, now: DateTime<Utc>) -> Self {
        Self {
            no,
            task,
            visit,
            status: RunStatus::Waiting,
            attempt: 0,
            max_attempts: 1,
            starts: 0,
            action: None,
            input: None,
            secrets: None,
            timeout: None,
            until: None,
            item: None,
            spread: None,
            branch,
            again: None,
            caused_by: Vec::new(),
            arrived: BTreeSet::new(),
            needed: BTreeMap::new(),
            held: false,
            worker: None,
            ended: None,
            created_at: now,
            dispatched_at: None,
            started_at: None,
            finished_at: None,
            unsaved: Unsaved {
                branch: true,
                ..Unsaved::default()
            },
        }
    }

    /// What the rule of its task says of the ends that it has noted.
    pub(super) fn verdict(&self, needs: &Needs) -> Verdict {
        let noted = self.arrived.iter();
        let ended: Vec<Need> = noted
            .filter_map(|task| self.needed.get(task).copied())
            .collect();
        needs.rule.decide(needs.tasks.len(), &ended)
    }

    /// Whether it runs, or waits for its next attempt and is not held back.
    pub(super) fn is_under_way(&self) -> bool {
        match self.status {
            RunStatus::Dispatched | RunStatus::Running | RunStatus::Spread => true,
            RunStatus::Retrying | RunStatus::Delayed => !self.held,
            RunStatus::Waiting | RunStatus::Ended(_) => false,
        }
    }

    /// Whether a completion of the current attempt would count.
    #[must_use]
    pub fn is_with_a_worker(&self) -> bool {
        matches!(self.status, RunStatus::Dispatched | RunStatus::Running)
    }
}
