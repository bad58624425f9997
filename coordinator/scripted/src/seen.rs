//! What was seen of an execution: deliveries, runs, and how it ended.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use flotilla_engine::execution::ExecutionError;
use flotilla_protocol::RunNo;
use flotilla_protocol::message::CompletionStatus;
use serde_json::{Map, Value};

use crate::script::Action;

/// All that was seen. Times are seconds since the start.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// A word of `execution_status`, or `rejected`.
    pub status: String,
    /// Whether nothing can change any more.
    pub is_final: bool,
    /// Jobs as workers got them, in order.
    pub deliveries: Vec<Delivery>,
    /// What happened to it, in order.
    pub steps: Vec<Step>,
    /// Runs of tasks that began, in order.
    pub starts: Vec<(RunNo, Arc<str>, f64)>,
    /// Runs by their number; those of items are part of the run of their task.
    pub runs: BTreeMap<RunNo, SeenRun>,
    /// What `output_map` gave, or null.
    pub output: Value,
    /// The final variables.
    pub variables: Map<String, Value>,
    /// What was not handled.
    pub errors: Vec<ExecutionError>,
    /// When the execution ended.
    pub elapsed_s: Option<f64>,
    /// Time and status of each check.
    pub checkpoints: Vec<(f64, String)>,
    /// Answers that had no effect.
    pub ignored_answers: u64,
    /// Executions that were created.
    pub created: u64,
    /// What the rows of the execution say otherwise than the execution itself, a sentence each.
    pub damage: Vec<String>,
}

/// Something that happened to an execution or to one of its children. Whoever makes the same happen to
/// a real one in the same order must see the same.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// A worker got a job; the position in [`Seen::deliveries`].
    Delivered(usize),
    /// Its worker said how it ended, perhaps not for the first time.
    Answered(usize, CompletionStatus),
    /// Its worker died.
    Lost(usize),
    /// Something happened from outside.
    Acted(Action),
    /// Time alone did something.
    TimerFired,
}

/// One run.
#[derive(Debug, Clone, PartialEq)]
pub struct SeenRun {
    /// The task.
    pub task: Arc<str>,
    /// Where it stands, a word of `task_status`.
    pub status: &'static str,
}

/// One job in the hands of one worker.
#[derive(Debug, Clone, PartialEq)]
pub struct Delivery {
    /// The task.
    pub task: Arc<str>,
    /// The run.
    pub run: RunNo,
    /// The item, from 0.
    pub item: Option<u32>,
    /// The attempt, from 1.
    pub attempt: u32,
    /// Rendered name of the action.
    pub action: Arc<str>,
    /// Rendered input.
    pub input: Value,
    /// When the worker got it.
    pub from_s: f64,
    /// When the worker was done with it, if ever.
    pub to_s: Option<f64>,
}

impl Delivery {
    fn end_s(&self) -> f64 {
        self.to_s.unwrap_or(f64::INFINITY)
    }
}

impl Seen {
    /// How often each task began.
    #[must_use]
    pub fn run_counts(&self) -> BTreeMap<&str, u64> {
        let mut counts = BTreeMap::new();
        for (_, task, _) in &self.starts {
            *counts.entry(&**task).or_insert(0) += 1;
        }
        counts
    }

    /// The deliveries of a task, in order.
    pub fn of<'a>(&'a self, task: &'a str) -> impl Iterator<Item = &'a Delivery> + Clone {
        self.deliveries.iter().filter(move |one| &*one.task == task)
    }

    /// How often a worker got each item of a task.
    #[must_use]
    pub fn item_counts(&self, task: &str) -> BTreeMap<u32, u64> {
        let mut counts = BTreeMap::new();
        for item in self.of(task).filter_map(|delivery| delivery.item) {
            *counts.entry(item).or_insert(0) += 1;
        }
        counts
    }

    /// The tasks of which a run has this status.
    #[must_use]
    pub fn tasks_in(&self, status: &str) -> BTreeSet<&str> {
        let runs = self.runs.values().filter(|run| run.status == status);
        runs.map(|run| &*run.task).collect()
    }

    /// The status of the latest run of a task.
    #[must_use]
    pub fn task_status(&self, task: &str) -> Option<&'static str> {
        let mut runs = self.runs.values().rev();
        runs.find(|run| &*run.task == task).map(|run| run.status)
    }

    /// When runs of a task began.
    #[must_use]
    pub fn started_at(&self, task: &str) -> Vec<f64> {
        let starts = self.starts.iter().filter(|(_, name, _)| &**name == task);
        starts.map(|(_, _, at)| *at).collect()
    }

    /// Whether all of `first` had ended when `second` began.
    #[must_use]
    pub fn is_before(&self, first: &str, second: &str) -> bool {
        let began = self.started_at(second).into_iter().reduce(f64::min);
        let Some(began) = began else {
            return false;
        };
        let starts = self.started_at(first);
        !starts.is_empty()
            && starts.iter().all(|at| *at <= began)
            && self.of(first).all(|delivery| delivery.end_s() <= began)
    }

    /// Whether both tasks were with workers at the same time.
    #[must_use]
    pub fn overlap(&self, one: &str, other: &str) -> bool {
        self.of(one).any(|a| {
            self.of(other)
                .any(|b| a.from_s < b.end_s() && b.from_s < a.end_s())
        })
    }

    /// The most deliveries of a task at a time. One that ends when another begins is not beside it.
    #[must_use]
    pub fn max_parallel(&self, task: &str) -> usize {
        let mut begins: Vec<f64> = self.of(task).map(|one| one.from_s).collect();
        let mut ends: Vec<f64> = self.of(task).map(Delivery::end_s).collect();
        begins.sort_by(f64::total_cmp);
        ends.sort_by(f64::total_cmp);
        let mut ended = 0;
        let open = begins.iter().enumerate().map(|(begun, at)| {
            ended += ends[ended..].iter().take_while(|end| *end <= at).count();
            begun + 1 - ended
        });
        open.max().unwrap_or(0)
    }
}
