//! A rerun is carried out: the execution lives again, with new runs for what its plan says.
//!
//! ```text
//! plan ──► joins that wait again ──► runs that are repeated or were held back ──► what was not followed
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::{DateTime, SubsecRound, Utc};
use flotilla_protocol::RunNo;

use super::changes::Changes;
use super::event::Outcome;
use super::failure::ExecutionError;
use super::past::{Current, Past, is_complete};
use super::rerun::{Rerun, RerunOrder, RerunPlan};
use super::run::Run;
use super::spread::{ItemEnds, Progress, Spread};
use super::step::Step;
use super::{Execution, ExecutionStatus};
use crate::json::Json;
use crate::variables::Write;
use crate::workflow::TaskIndex;

/// What holds of an execution since its last rerun, or since its start.
#[derive(Debug, Clone, PartialEq)]
pub struct Generation {
    /// How many reruns there have been.
    pub no: u32,
    /// When it began; the time limit of the execution counts from here.
    pub began_at: DateTime<Utc>,
    /// How often tasks of `finally` had run before.
    pub finals: u32,
    /// Parameters that reruns have given, an object; `None`: none have.
    pub parameters: Option<Json>,
    /// Failures of before of which nothing runs again: they count at the end.
    pub errors: Vec<ExecutionError>,
}

impl Generation {
    /// That of an execution that starts.
    #[must_use]
    pub fn first(now: DateTime<Utc>) -> Self {
        Self {
            no: 0,
            began_at: now,
            finals: 0,
            parameters: None,
            errors: Vec::new(),
        }
    }
}

impl Execution {
    pub(super) fn rerun(
        &mut self,
        rerun: &Rerun,
        now: DateTime<Utc>,
        changes: &mut Changes,
    ) -> Outcome {
        let plan = match self.plan_rerun(&rerun.order, &rerun.past) {
            Ok(plan) => plan,
            Err(refusal) => return Outcome::Refused(refusal.kind()),
        };
        self.begin_generation(&plan, &rerun.past, now);
        changes.finished = false;
        let mut step = Step::new(self, now, changes);
        step.log_control(detail(rerun));
        step.set_status(ExecutionStatus::Running);
        step.closed = false;
        step.run_again(&plan, &rerun.order, &rerun.past);
        step.settle();
        Outcome::Applied
    }

    fn begin_generation(&mut self, plan: &RerunPlan, past: &Past, now: DateTime<Utc>) {
        let finally = self.workflow.finally.iter();
        let finals = finally.map(|task| self.visits[task.0]).max();
        self.generation = Generation {
            no: self.generation.no + 1,
            // A row keeps it as text, which keeps more digits than the times in the log have.
            began_at: now.trunc_subsecs(6),
            finals: finals.unwrap_or(0),
            parameters: plan.overridden.clone(),
            errors: plan.errors.clone(),
        };
        if let Some(parameters) = &plan.parameters {
            self.parameters = parameters.clone();
        }
        self.finished_at = None;
        self.output = None;
        self.errors.clear();
        self.links.extend(past.links.iter());
        let current = past.current(&self.workflow);
        let begin = plan.again.iter().chain(&plan.held_back);
        let begin: BTreeSet<RunNo> = begin.copied().collect();
        let gone: BTreeSet<RunNo> = plan.replaced.difference(&begin).copied().collect();
        self.flow.fired = current.fired(&gone);
        let runs = plan.replaced.iter().filter_map(|no| past.runs.get(no));
        let tasks: BTreeSet<TaskIndex> = runs.map(|run| run.task).collect();
        self.flow.omitted.retain(|task| !tasks.contains(task));
    }
}

/// What the log says of a rerun, so that it can be followed again.
fn detail(rerun: &Rerun) -> Json {
    let order = &rerun.order;
    let mut detail = serde_json::Map::new();
    detail.insert("command".to_owned(), "rerun".into());
    if !order.from.is_empty() {
        detail.insert("from".to_owned(), order.from.clone().into());
    }
    if order.reset_items {
        detail.insert("reset_items".to_owned(), true.into());
    }
    let objects = [("parameters", &order.parameters), ("vars", &order.vars)];
    for (name, object) in objects {
        if let Some(object) = object {
            let object = serde_json::from_str(object.text()).unwrap_or_default();
            detail.insert(name.to_owned(), object);
        }
    }
    if let Some(message_id) = &rerun.message_id {
        detail.insert("message_id".to_owned(), message_id.as_str().into());
    }
    Json::of(&detail)
}

impl Step<'_> {
    fn run_again(&mut self, plan: &RerunPlan, order: &RerunOrder, past: &Past) {
        let known = |no: &RunNo| past.runs.get(no);
        let workflow = Arc::clone(&self.workflow);
        let current = past.current(&workflow);
        let reopened: Vec<RunNo> = plan
            .reopened
            .iter()
            .filter_map(known)
            .filter_map(|old| self.open_again(old, plan, &current, past))
            .collect();
        // Who waits is found again among what waits again.
        self.execution.flow.open = None;
        self.execution.collect_open();
        self.give_to_the_end(plan);
        for no in reopened {
            self.fire_if_complete(no);
        }
        let begin = plan.again.iter().chain(&plan.held_back);
        let begin: BTreeSet<RunNo> = begin.copied().collect();
        for old in begin.iter().filter_map(known) {
            if let Some(no) = self.repeat(old, plan) {
                self.begin_again(no, old, order, past);
            }
        }
        for run in plan.followed.iter().filter_map(known) {
            if let Some(ended) = run.ended.clone() {
                let (follow, ended, _) = self.follow(run, ended);
                self.send_on(run, &ended, follow);
            }
        }
    }

    /// A join, or a task with `needs`, waits again with what is kept of its arrivals.
    fn open_again(
        &mut self,
        old: &Run,
        plan: &RerunPlan,
        current: &Current<'_>,
        past: &Past,
    ) -> Option<RunNo> {
        let mut branch = old.branch.clone();
        let task = &current.workflow.tasks[old.task.0];
        if task.in_cycle && task.join.is_some() && !current.has_waited(old) {
            let passed = Arc::make_mut(&mut branch.passed);
            if let Some(count) = passed.get_mut(&old.task) {
                *count -= 1;
            }
            passed.retain(|_, count| *count > 0);
        }
        branch.cut = false;
        let no = self.create_run(old.task, None, branch)?;
        let is_kept = |run: &RunNo| !plan.replaced.contains(run);
        let causes: Vec<RunNo> = old.caused_by.iter().copied().filter(is_kept).collect();
        let replaced: BTreeSet<TaskIndex> = plan
            .replaced
            .iter()
            .filter_map(|no| past.runs.get(no))
            .map(|run| run.task)
            .collect();
        let arrived = causes.iter().filter_map(|no| past.runs.get(no));
        let arrived: BTreeSet<TaskIndex> = arrived.map(|run| run.task).collect();
        let is_needs = task.needs.is_some();
        let unreached = current.unreached();
        let run = self.execution.live.get_mut(&no)?;
        run.again = Some(old.no);
        run.caused_by = causes;
        if is_needs {
            let is_kept = |task: &TaskIndex| {
                let may_be_reached = unreached.contains(task) && plan.may_reach(*task, current);
                !replaced.contains(task) && !may_be_reached
            };
            run.arrived = old.arrived.iter().copied().filter(is_kept).collect();
            run.needed = old.needed.clone();
            run.needed.retain(|task, _| is_kept(task));
        } else {
            run.arrived = arrived;
        }
        run.unsaved.branch = true;
        Some(no)
    }

    fn fire_if_complete(&mut self, no: RunNo) {
        let Some(run) = self.execution.live.get(&no) else {
            return;
        };
        let task = &self.workflow.tasks[run.task.0];
        if task.join.is_some_and(|join| is_complete(task, join, run)) {
            self.fire(no);
            self.let_in(no, false);
        }
    }

    /// Where nothing but the end is done again, the end sees the variables that are given.
    fn give_to_the_end(&mut self, plan: &RerunPlan) {
        if plan.again.is_empty() && plan.held_back.is_empty() {
            let mut branch = self.execution.ends.clone();
            self.give(&mut branch.vars, &plan.vars);
            self.execution.ends = branch;
        }
    }

    fn give(&mut self, vars: &mut crate::variables::Variables, given: &BTreeMap<Arc<str>, Json>) {
        for (name, value) in given {
            self.execution.last_write += 1;
            let no = self.execution.last_write;
            let previous = vars.get(name).map(|write| write.no);
            let write = Arc::new(Write {
                no,
                name: Arc::clone(name),
                value: value.clone(),
                previous,
            });
            self.execution.links.insert(no, previous);
            vars.insert(Arc::clone(&write));
            self.changes.writes.push(write);
        }
    }

    /// A new run in place of one that has ended, led to by the same.
    fn repeat(&mut self, old: &Run, plan: &RerunPlan) -> Option<RunNo> {
        let mut branch = old.branch.clone();
        branch.cut = false;
        self.give(&mut branch.vars, &plan.vars);
        let no = self.create_run(old.task, None, branch)?;
        let run = self.execution.live.get_mut(&no)?;
        run.again = Some(old.no);
        run.caused_by.clone_from(&old.caused_by);
        run.arrived.clone_from(&old.arrived);
        run.needed.clone_from(&old.needed);
        Some(no)
    }

    /// Lets a run in as if it had arrived, or goes on with the items that have not succeeded.
    fn begin_again(&mut self, no: RunNo, old: &Run, order: &RerunOrder, past: &Past) {
        match goes_on_with(old, order, past) {
            Some(spread) => self.begin_items(no, spread, false),
            None => self.enter(no, false),
        }
    }
}

/// Of a run of items that a rerun repeats: how many of its items (or batches) it keeps, and how many
/// there are; `None` where it keeps none.
#[must_use]
pub fn items_kept(old: &Run, order: &RerunOrder, past: &Past) -> Option<(usize, usize)> {
    let rest = goes_on_with(old, order, past)?;
    Some((rest.kept.len(), rest.progress.count as usize))
}

/// The items that a run in place of `old` goes on with; `None` where it begins as a whole.
fn goes_on_with(old: &Run, order: &RerunOrder, past: &Past) -> Option<Spread> {
    let whole = (!order.reset_items).then(|| past.spread_of(old));
    whole.flatten().and_then(|whole| rest_of(whole, past))
}

/// The items of a run that have not succeeded; `None` if all have, or none has.
fn rest_of(whole: &Run, past: &Past) -> Option<Spread> {
    let old = whole.spread.as_deref()?;
    let done = past.kept_items(whole);
    let count = old.progress.count as usize;
    if done.is_empty() || done.len() >= count {
        return None;
    }
    let progress = Progress {
        next: 0,
        active: 0,
        failed: 0,
        cancelled: 0,
        stopped: false,
        cancelling: false,
        exempt: false,
        kept_of: Some(whole.no),
        put_off: false,
        ..old.progress
    };
    let mut ends = ItemEnds::new(progress.keeps_results);
    for (index, item) in &done {
        if let Some(ended) = &item.ended {
            ends.add(*index, &ended.result, None);
        }
    }
    if past.has_lost_results(whole) {
        ends.lose_results();
    }
    let mut spread = Spread {
        list: old.list.clone(),
        progress,
        ends,
        kept: done.into_keys().collect(),
    };
    spread.pass_kept();
    Some(spread)
}
