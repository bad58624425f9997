//! What joins and tasks with `needs` have come to: what later events ask for, and an index of those
//! that wait.

use std::collections::{BTreeMap, BTreeSet};

use flotilla_protocol::RunNo;

use super::Execution;
use super::failure::ExecutionError;
use super::run::{Run, RunStatus};
use crate::workflow::TaskIndex;

/// What joins and tasks with `needs` have come to.
#[derive(Debug, Clone, Default)]
pub struct Flow {
    /// Of each join behind a split, by route: how many generations have run. A route that nothing
    /// alive is on any more may be absent. Since a rerun of every join; one that is not behind a split has
    /// the route 0.
    pub fired: BTreeMap<(TaskIndex, RunNo), u32>,
    /// Tasks with `needs` that were omitted.
    pub omitted: BTreeSet<TaskIndex>,
    /// Failures that a task with `needs` may handle yet, in the order in which they happened.
    pub held_failures: Vec<HeldFailure>,
    /// Who waits; `None` until somebody asks.
    pub(super) open: Option<Open>,
}

/// A failure that counts as unhandled only once no task that needs the failed one will run.
#[derive(Debug, Clone, PartialEq)]
pub struct HeldFailure {
    /// The task that failed.
    pub task: TaskIndex,
    /// What the list of errors is to say.
    pub error: ExecutionError,
}

/// Which arrivals belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct JoinKey {
    pub task: TaskIndex,
    /// The run of the split that opened the route; 0 for that of the execution.
    pub route: RunNo,
    /// How often the arriving branches have passed the join.
    pub generation: u32,
}

/// Something that waits until nothing alive can reach it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Goal {
    /// A join that has arrivals, by its run.
    Join(RunNo),
    /// A task that another one needs.
    Needed(TaskIndex),
}

/// Who waits: made of the live runs, and kept up to date from then on.
#[derive(Debug, Clone, Default)]
pub(super) struct Open {
    /// Joins that have arrivals and have not run.
    pub joins: BTreeMap<JoinKey, RunNo>,
    /// Tasks with `needs` of which some needed one has ended, and that are not decided.
    pub needs: BTreeMap<TaskIndex, RunNo>,
    /// All tasks with `needs` that are not decided.
    pub undecided: BTreeSet<TaskIndex>,
    /// All that something waits for, each with a run that is alive and can reach it, if one is known:
    /// that spares looking for one.
    pub goals: BTreeMap<Goal, Option<RunNo>>,
    runs: BTreeMap<RunNo, Waiter>,
}

#[derive(Debug, Clone, Copy)]
enum Waiter {
    Join(JoinKey),
    Needs(TaskIndex),
}

impl Flow {
    /// What rows keep of it.
    #[must_use]
    pub fn new(
        fired: BTreeMap<(TaskIndex, RunNo), u32>,
        omitted: BTreeSet<TaskIndex>,
        held_failures: Vec<HeldFailure>,
    ) -> Self {
        Self {
            fired,
            omitted,
            held_failures,
            open: None,
        }
    }
}

impl Execution {
    /// Finds out who waits, if that is not known.
    pub(super) fn collect_open(&mut self) {
        if self.flow.open.is_some() {
            return;
        }
        let mut open = Open::default();
        for run in self.live.values() {
            if run.status != RunStatus::Waiting || run.held {
                continue;
            }
            let task = &self.workflow.tasks[run.task.0];
            if task.needs.is_some() {
                open.add_needs(run.task, run.no);
            } else if task.join.is_some() {
                open.add_join(join_key(run), run.no);
            }
        }
        let undecided = self.workflow.needing.iter().copied();
        open.undecided = undecided
            .filter(|task| self.visits[task.0] == 0 || open.needs.contains_key(task))
            .collect();
        for task in &open.undecided {
            let run = open.needs.get(task).and_then(|no| self.live.get(no));
            let has_ended = |task: &TaskIndex| run.is_some_and(|run| run.arrived.contains(task));
            let needs = self.workflow.tasks[task.0].needs.as_ref();
            let tasks = needs.map_or(&[][..], |needs| &needs.tasks);
            let awaited = tasks.iter().filter(|task| !has_ended(task));
            open.goals
                .extend(awaited.map(|task| (Goal::Needed(*task), None)));
        }
        self.flow.open = Some(open);
    }

    pub(super) fn open(&mut self) -> &mut Open {
        self.collect_open();
        self.flow.open.get_or_insert_default()
    }

    /// Forgets of which routes joins have run where nothing alive is on the route any more.
    pub(super) fn trim_fired(&mut self) {
        if self.flow.fired.len() < 64 || !self.flow.fired.len().is_multiple_of(32) {
            return;
        }
        let alive: BTreeSet<RunNo> = self.live.values().map(|run| run.branch.route).collect();
        self.flow
            .fired
            .retain(|(_, route), _| *route == 0 || alive.contains(route));
    }
}

/// The key of the arrivals that an open join has.
pub(super) fn join_key(run: &Run) -> JoinKey {
    JoinKey {
        task: run.task,
        route: run.branch.route,
        generation: run.branch.passed(run.task),
    }
}

impl Open {
    pub fn add_join(&mut self, key: JoinKey, no: RunNo) {
        self.joins.insert(key, no);
        self.goals.insert(Goal::Join(no), None);
        self.runs.insert(no, Waiter::Join(key));
    }

    pub fn add_needs(&mut self, task: TaskIndex, no: RunNo) {
        self.needs.insert(task, no);
        self.runs.insert(no, Waiter::Needs(task));
    }

    /// Whether a run waits for others.
    pub fn contains(&self, no: RunNo) -> bool {
        self.runs.contains_key(&no)
    }

    /// A run waits no more: it runs, or will not.
    pub fn remove(&mut self, no: RunNo) {
        match self.runs.remove(&no) {
            Some(Waiter::Join(key)) => {
                self.joins.remove(&key);
                self.goals.remove(&Goal::Join(no));
            }
            Some(Waiter::Needs(task)) => {
                self.needs.remove(&task);
                self.undecided.remove(&task);
            }
            None => {}
        }
    }
}
