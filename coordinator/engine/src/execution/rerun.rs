//! What a rerun does: which runs are repeated, which begin that were held back, which wait again.
//! It is asked before the execution is touched, so that a refusal and a rehearsal change nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use flotilla_protocol::{ExecutionId, RunNo};
use thiserror::Error;

use super::event::ControlRefusal;
use super::failure::ExecutionError;
use super::past::{Current, Past};
use super::routes::follow;
use super::run::{Run, RunStatus};
use super::{Execution, ExecutionStatus};
use crate::json::Json;
use crate::scope::EndStatus;
use crate::workflow::{FailPolicy, TaskIndex};

/// What a user wants to run again.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RerunOrder {
    /// Names of tasks; empty: those whose failure was not handled, and those that the end cut off.
    pub from: Vec<String>,
    /// Whether items that have succeeded run again, too.
    pub reset_items: bool,
    /// Parameters that override, an object.
    pub parameters: Option<Json>,
    /// Variables that override, an object.
    pub vars: Option<Json>,
}

/// A rerun that was ordered, with all that the execution has behind it.
#[derive(Debug, Clone)]
pub struct Rerun {
    /// What is wanted.
    pub order: RerunOrder,
    /// All runs that have ended.
    pub past: Past,
    /// The id of the message, so that the log tells which message did it.
    pub message_id: Option<String>,
}

/// What a rerun is going to do. Runs are ascending.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RerunPlan {
    /// Runs that are repeated.
    pub again: Vec<RunNo>,
    /// Runs that were about to begin, and do so now.
    pub held_back: Vec<RunNo>,
    /// Joins and tasks with `needs` that wait again, with what of their arrivals is kept.
    pub reopened: Vec<RunNo>,
    /// Runs that have ended without a look at what follows them: that is done now.
    pub followed: Vec<RunNo>,
    /// Runs that count no more: those that are repeated, begin or wait again, and what they have led
    /// to.
    pub replaced: BTreeSet<RunNo>,
    /// Runs that stay as they are.
    pub kept: Vec<RunNo>,
    /// Failures that stay, since nothing of them runs again.
    pub errors: Vec<ExecutionError>,
    /// Parameters that reruns have given, an object; `None`: none have.
    pub overridden: Option<Json>,
    /// All parameters, an object.
    pub parameters: Option<Json>,
    /// Variables that are given.
    pub vars: BTreeMap<Arc<str>, Json>,
}

impl RerunPlan {
    /// Whether what begins is of a task, or may lead to it.
    pub(super) fn may_reach(&self, to: TaskIndex, current: &Current<'_>) -> bool {
        let begin = self.again.iter().chain(&self.held_back);
        let runs = begin.filter_map(|no| current.runs.get(no));
        let mut tasks = runs.map(|run| run.task);
        tasks.any(|from| from == to || current.workflow.reach.leads(from, to))
    }
}

/// Why nothing runs again.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RerunRefusal {
    /// Only what has ended can run again.
    #[error("the execution is {0}, and has not ended")]
    StillRunning(&'static str),
    /// Its parent does not wait for it any more, and starts a child of its own where it runs again.
    #[error("it is a child of {0}, which is what to run again")]
    IsChild(ExecutionId),
    /// The definition has no such task.
    #[error("the workflow has no task {0}")]
    UnknownTask(String),
    /// The task was never run, so there is nothing to run again.
    #[error("task {0} has not run")]
    NeverRan(String),
    /// Nothing has failed or was cut off, and no task was named.
    #[error("nothing has failed that could run again; name the tasks to run again")]
    NothingFailed,
    /// Parameters that a start would be refused for.
    #[error("{0}")]
    InvalidParameters(String),
    /// A variable that nothing in the definition assigns, or values that are too large.
    #[error("{0}")]
    InvalidVariables(String),
}

impl RerunRefusal {
    /// The refusal without its details.
    #[must_use]
    pub fn kind(&self) -> ControlRefusal {
        match self {
            Self::StillRunning(_) => ControlRefusal::StillRunning,
            Self::IsChild(_) => ControlRefusal::IsChild,
            Self::UnknownTask(_) => ControlRefusal::UnknownTask,
            Self::NeverRan(_) => ControlRefusal::NeverRan,
            Self::NothingFailed => ControlRefusal::NothingFailed,
            Self::InvalidParameters(_) => ControlRefusal::InvalidParameters,
            Self::InvalidVariables(_) => ControlRefusal::InvalidVariables,
        }
    }
}

impl Execution {
    /// What a rerun does: the one place that decides it.
    ///
    /// # Errors
    /// Why nothing runs again.
    pub fn plan_rerun(&self, order: &RerunOrder, past: &Past) -> Result<RerunPlan, RerunRefusal> {
        if !self.status.is_final() {
            return Err(RerunRefusal::StillRunning(self.status.word()));
        }
        if let Some(parent) = self.parent {
            return Err(RerunRefusal::IsChild(parent.execution_id));
        }
        let mut plan = RerunPlan {
            vars: self.given_variables(order)?,
            ..RerunPlan::default()
        };
        self.bind_again(order, &mut plan)?;
        let current = past.current(&self.workflow);
        let picked = if order.from.is_empty() {
            self.failed_or_cut_off(&current, past)
        } else {
            self.named(order, &current, past)?
        };
        self.spread_out_from(&picked, &current, &mut plan);
        let evaluates_again = self.keep_errors(&current, past, &mut plan);
        let is_asked = !order.from.is_empty() || evaluates_again;
        let has_begun = !plan.again.is_empty()
            || !plan.held_back.is_empty()
            || !plan.followed.is_empty()
            || self.waits_to_settle(&plan);
        if has_begun || is_asked {
            Ok(plan)
        } else {
            Err(RerunRefusal::NothingFailed)
        }
    }

    /// Runs that failed without being handled, or that were cut off by the end.
    fn failed_or_cut_off(&self, current: &Current<'_>, past: &Past) -> BTreeSet<RunNo> {
        let named: BTreeSet<RunNo> = self.errors.iter().filter_map(failed_run).collect();
        let led = current.with_followers();
        let mut picked = BTreeSet::new();
        for run in current.runs.values() {
            let has_failed = named.contains(&run.no) && !current.has_waited(run);
            let is_cut_off = run.status == RunStatus::Ended(EndStatus::Cancelled)
                && (run.attempt > 0 || run.spread.is_some());
            let is_nobodys = self.fate_of(run, &led) == Unfollowed::Failed;
            if has_failed || is_cut_off || is_nobodys {
                picked.extend(self.parts(run, past));
            }
        }
        picked
    }

    /// The latest runs of the named tasks: those that have failed, if any has, else the last of each
    /// route.
    fn named(
        &self,
        order: &RerunOrder,
        current: &Current<'_>,
        past: &Past,
    ) -> Result<BTreeSet<RunNo>, RerunRefusal> {
        let failed: BTreeSet<RunNo> = self.errors.iter().filter_map(failed_run).collect();
        let mut picked = BTreeSet::new();
        for name in &order.from {
            let index = self.workflow.by_name.get(name.as_str());
            let index = index.ok_or_else(|| RerunRefusal::UnknownTask(name.clone()))?;
            if self.workflow.tasks[index.0].is_finally {
                // It runs again in any case.
                continue;
            }
            let of_task = || {
                let runs = current.runs.values().filter(|run| run.task == *index);
                runs.filter(|run| !current.has_waited(run) && !current.was_held_back(run))
            };
            let mut found: Vec<&Run> = of_task()
                .filter(|run| failed.contains(&run.no))
                .copied()
                .collect();
            if found.is_empty() {
                let last: BTreeMap<RunNo, &Run> =
                    of_task().map(|run| (self.route_into(run), *run)).collect();
                found = last.into_values().collect();
            }
            if found.is_empty() {
                return Err(RerunRefusal::NeverRan(name.clone()));
            }
            for run in found {
                picked.extend(self.parts(run, past));
            }
        }
        Ok(picked)
    }

    /// The route on which a run was entered; each run of a split is on one of its own.
    fn route_into(&self, run: &Run) -> RunNo {
        if self.workflow.tasks[run.task.0].in_cycle {
            return 0;
        }
        run.branch.route
    }

    /// What is to be repeated for a run: of a parallel task its children that have failed, or all of
    /// them where none has.
    fn parts(&self, run: &Run, past: &Past) -> Vec<RunNo> {
        let task = &self.workflow.tasks[run.task.0];
        let Some(parallel) = &task.parallel else {
            return vec![run.no];
        };
        let causes = run.caused_by.iter().filter_map(|no| past.runs.get(no));
        let has_failed = |cause: &&Run| match cause.status {
            RunStatus::Ended(EndStatus::Failed | EndStatus::TimedOut | EndStatus::Cancelled) => {
                !self.workflow.tasks[cause.task.0].ignore_failure
            }
            RunStatus::Ended(EndStatus::Succeeded | EndStatus::Skipped | EndStatus::Omitted)
            | RunStatus::Waiting
            | RunStatus::Delayed
            | RunStatus::Dispatched
            | RunStatus::Running
            | RunStatus::Retrying
            | RunStatus::Spread => false,
        };
        let failed: Vec<RunNo> = causes
            .clone()
            .filter(has_failed)
            .map(|run| run.no)
            .collect();
        if !failed.is_empty() {
            return failed;
        }
        let forks = causes.flat_map(|cause| {
            let is_fork = cause.task == parallel.fork;
            let before = if is_fork { &[][..] } else { &cause.caused_by };
            is_fork
                .then_some(cause.no)
                .into_iter()
                .chain(before.iter().copied())
        });
        let mut forks: Vec<RunNo> = forks.collect();
        forks.dedup();
        forks
    }

    /// From what is repeated to all that begins, waits again, or counts no more.
    fn spread_out_from(
        &self,
        picked: &BTreeSet<RunNo>,
        current: &Current<'_>,
        plan: &mut RerunPlan,
    ) {
        let behind = current.led_from(picked);
        let again: BTreeSet<RunNo> = picked.difference(&behind).copied().collect();
        let mut sources = again.clone();
        for run in current.runs.values() {
            if !behind.contains(&run.no) && !picked.contains(&run.no) {
                if current.was_held_back(run) {
                    plan.held_back.push(run.no);
                    sources.insert(run.no);
                } else if current.has_waited(run) && !current.was_omitted_by_rule(run) {
                    sources.insert(run.no);
                }
            }
        }
        plan.replaced = current.followers(&sources);
        plan.again = again.iter().copied().collect();
        for no in &plan.replaced {
            let Some(run) = current.runs.get(no).filter(|_| !again.contains(no)) else {
                continue;
            };
            let task = &self.workflow.tasks[run.task.0];
            let waits = task.needs.is_some() || task.join.is_some();
            let is_kept = |cause: &&RunNo| !plan.replaced.contains(*cause);
            let has_arrivals =
                task.needs.is_some() || run.caused_by.iter().any(|cause| is_kept(&cause));
            if waits && has_arrivals && !plan.held_back.contains(no) {
                plan.reopened.push(*no);
            }
        }
        let kept = current.runs.keys().filter(|no| !plan.replaced.contains(no));
        plan.kept = kept.copied().collect();
        let led = current.with_followers();
        let followed = current.runs.values().filter(|run| {
            !plan.replaced.contains(&run.no) && self.fate_of(run, &led) == Unfollowed::Leads
        });
        plan.followed = followed.map(|run| run.no).collect();
    }

    /// What becomes of a run whose end nothing followed because the execution was stopping.
    fn fate_of(&self, run: &Run, led: &BTreeSet<RunNo>) -> Unfollowed {
        let stops = match self.status {
            ExecutionStatus::Cancelled | ExecutionStatus::TimedOut => true,
            ExecutionStatus::Failed => self.workflow.fail_policy == FailPolicy::Cancel,
            ExecutionStatus::Running
            | ExecutionStatus::Pausing
            | ExecutionStatus::Paused
            | ExecutionStatus::Cancelling
            | ExecutionStatus::Failing
            | ExecutionStatus::Succeeded => false,
        };
        if !stops || run.branch.cut || led.contains(&run.no) {
            return Unfollowed::Ends;
        }
        let Some(ended) = &run.ended else {
            return Unfollowed::Ends;
        };
        let is_failure = match run.status {
            RunStatus::Ended(EndStatus::Failed | EndStatus::TimedOut) => true,
            RunStatus::Ended(EndStatus::Succeeded | EndStatus::Skipped) => false,
            RunStatus::Ended(EndStatus::Cancelled | EndStatus::Omitted)
            | RunStatus::Waiting
            | RunStatus::Delayed
            | RunStatus::Dispatched
            | RunStatus::Running
            | RunStatus::Retrying
            | RunStatus::Spread => return Unfollowed::Ends,
        };
        let task = &self.workflow.tasks[run.task.0];
        let (follow, _, _) = follow(self, run, ended.clone(), true);
        let targets = || follow.taken.iter().map(|taken| &taken.targets);
        if targets().any(|targets| !targets.tasks.is_empty() || targets.fail) {
            Unfollowed::Leads
        } else if is_failure && !task.ignore_failure && !targets().any(|targets| targets.noop) {
            Unfollowed::Failed
        } else if task.needed_by.is_empty() {
            Unfollowed::Ends
        } else {
            Unfollowed::Leads
        }
    }

    /// Whether something waits again that was not found to wait in vain.
    fn waits_to_settle(&self, plan: &RerunPlan) -> bool {
        let failed: BTreeSet<RunNo> = self.errors.iter().filter_map(failed_run).collect();
        plan.reopened.iter().any(|no| !failed.contains(no))
    }
}

/// What becomes of a run whose end nothing followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unfollowed {
    /// Nothing follows.
    Ends,
    /// It leads on.
    Leads,
    /// It has failed, and nothing handles that.
    Failed,
}

/// The run that an error is about.
fn failed_run(error: &ExecutionError) -> Option<RunNo> {
    Some(error.task_id?.run())
}
