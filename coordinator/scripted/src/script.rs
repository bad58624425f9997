//! A script: what workers answer, and what happens from outside, in virtual time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::TimeDelta;
use flotilla_engine::definition::Compiled;
use flotilla_engine::diagnostic::Diagnostic;
use flotilla_engine::execution::RerunOrder;
use flotilla_engine::{Json, Workflow};
use flotilla_protocol::message::TaskError;

/// How long a worker takes where the script says nothing.
pub(crate) const DEFAULT_TAKES: TimeDelta = TimeDelta::seconds(1);

/// All that happens to an execution.
#[derive(Debug, Clone, Default)]
pub struct Script {
    /// Parameters of the start, an object.
    pub parameters: Option<Json>,
    /// Answers by the name of the task. One that is not named succeeds after a second, with null.
    pub answers: BTreeMap<String, TaskAnswers>,
    /// What happens from outside, to the execution itself.
    pub events: Vec<ScriptEvent>,
    /// Workflows that may be run as its children, by their references. Their tasks are answered as if
    /// they were tasks of the workflow itself, and seen as `workflow.task`.
    pub children: Children,
}

/// Workflows by their references.
pub type Children = BTreeMap<String, Arc<Workflow>>;

/// What workers answer for one task.
#[derive(Debug, Clone)]
pub enum TaskAnswers {
    /// The n-th execution of the task gets the n-th answer, and those after the last one the last.
    InOrder(Vec<Answer>),
    /// Each item has answers of its own, in order as above.
    PerItem {
        /// By the index of the item, from 0.
        items: BTreeMap<u32, Vec<Answer>>,
        /// For all other items.
        default: Vec<Answer>,
    },
}

/// What a worker makes of one delivery of a job.
#[derive(Debug, Clone)]
pub struct Answer {
    /// How it ends.
    pub status: AnswerStatus,
    /// The result.
    pub result: Option<Json>,
    /// Whether the rendered input is the result.
    pub echo: bool,
    /// The error.
    pub error: Option<TaskError>,
    /// From the delivery to the answer.
    pub takes: TimeDelta,
    /// How often the answer comes again.
    pub duplicates: u32,
    /// Between one and the next.
    pub duplicate_gap: TimeDelta,
    /// How long it takes to stop after a cancel; `None` for a worker that does not listen.
    pub stops_after: Option<TimeDelta>,
    /// From the delivery to the last heartbeat; `None` for a worker that says all the time that it is
    /// alive.
    pub silent_after: Option<TimeDelta>,
}

/// How a delivery ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnswerStatus {
    /// With a success.
    Succeeded,
    /// With a failure.
    Failed,
    /// The worker gives the attempt up, as beyond its time limit.
    TimedOut,
    /// The worker dies; the job goes to another one.
    Lost,
    /// Not at all, unless the attempt has a time limit.
    Never,
}

/// Something that happens from outside.
#[derive(Debug, Clone)]
pub struct ScriptEvent {
    /// Since the start; `None`: a second after the execution has ended, several of these one after
    /// another.
    pub at: Option<TimeDelta>,
    /// What happens.
    pub action: Action,
}

/// What can happen from outside.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// The execution is paused.
    Pause,
    /// It is resumed.
    Resume,
    /// It is cancelled.
    Cancel,
    /// Tasks of it run again, once it has ended.
    Rerun(RerunOrder),
    /// Its status is noted.
    Check,
    /// The coordinator dies, and another one makes the execution of its rows.
    Restart,
    /// The same start comes again, with the same key.
    StartAgain,
}

/// The workflows among which each finds its children, and what is wrong where one of them names another
/// that is not there.
pub fn library<'a>(
    compiled: impl Iterator<Item = &'a Compiled> + Clone,
) -> (Children, Vec<Diagnostic>) {
    let names: BTreeSet<&str> = compiled
        .clone()
        .map(|one| &*one.workflow.reference)
        .collect();
    let unknown = compiled
        .clone()
        .flat_map(|one| one.unknown_children(&names));
    let unknown = unknown.collect();
    let workflows = compiled.map(|one| {
        let workflow = Arc::clone(&one.workflow);
        (workflow.reference.to_string(), workflow)
    });
    (workflows.collect(), unknown)
}

impl Default for Answer {
    fn default() -> Self {
        Self {
            status: AnswerStatus::Succeeded,
            result: None,
            echo: false,
            error: None,
            takes: DEFAULT_TAKES,
            duplicates: 0,
            duplicate_gap: TimeDelta::zero(),
            stops_after: None,
            silent_after: None,
        }
    }
}

impl TaskAnswers {
    /// The answer to an execution of the task.
    ///
    /// `of_task` counts those before it, of the task as a whole, `of_item` those of the same item.
    #[must_use]
    pub fn answer(&self, item: Option<u32>, of_task: usize, of_item: usize) -> Answer {
        let (list, before) = match self {
            Self::InOrder(list) => (list, of_task),
            Self::PerItem { items, default } => {
                let own = item.and_then(|index| items.get(&index));
                (own.unwrap_or(default), of_item)
            }
        };
        let answer = list.get(before).or_else(|| list.last());
        answer.cloned().unwrap_or_default()
    }
}
