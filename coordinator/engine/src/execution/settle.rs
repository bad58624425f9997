//! Joins and needed tasks that nothing alive can reach any more: what waits for them is decided, so
//! that nothing waits for ever.
//!
//! ```text
//! a join with arrivals, a needed task ──► does a run that is under way lead there? ──► wait
//!                                     └─► does another one that waits lead there? ───► wait for it
//!                                     └─► nothing does ──────────────────────────────► decide
//! ```

use flotilla_protocol::RunNo;

use super::flow::{Goal, JoinKey, join_key};
use super::run::Run;
use super::step::Step;
use super::{Execution, ExecutionStatus};
use crate::workflow::{Join, TaskIndex};

/// Something that waits and may run yet, so that it is alive for what lies behind it.
#[derive(Debug, Clone, Copy)]
enum Waiter {
    Join(RunNo),
    Needs(TaskIndex),
}

/// What a goal waits for.
#[derive(Debug, Clone, Copy)]
enum Target {
    /// Arrivals of a route and generation.
    Arrivals(JoinKey),
    /// An end of a task.
    End(TaskIndex),
}

impl Step<'_> {
    /// Decides what nothing alive can change any more; false if there is nothing of the kind.
    pub(super) fn settle_waits(&mut self) -> bool {
        if !self.may_settle() {
            return false;
        }
        let goals: Vec<Goal> = self.execution.open().goals.keys().copied().collect();
        let quiet: Vec<Goal> = goals
            .into_iter()
            .filter(|goal| !self.is_reached(*goal))
            .collect();
        if quiet.is_empty() {
            return false;
        }
        let waiters = self.waiters();
        let ready = self.execution.first_of(&quiet, &waiters);
        for goal in &ready {
            match goal {
                Goal::Join(no) => self.settle_join(*no),
                Goal::Needed(task) => self.settle_needed(*task),
            }
        }
        !ready.is_empty()
    }

    fn may_settle(&mut self) -> bool {
        let goes_on = match self.execution.status {
            ExecutionStatus::Running => true,
            ExecutionStatus::Failing => !self.execution.is_draining(),
            // The resume decides.
            ExecutionStatus::Pausing
            | ExecutionStatus::Paused
            | ExecutionStatus::Cancelling
            | ExecutionStatus::Succeeded
            | ExecutionStatus::Failed
            | ExecutionStatus::Cancelled
            | ExecutionStatus::TimedOut => false,
        };
        goes_on && !self.execution.open().goals.is_empty() && !self.execution.in_finally()
    }

    /// Whether a run that is under way leads to the goal. Which one it was is remembered, since it
    /// mostly is so still at the next event.
    fn is_reached(&mut self, goal: Goal) -> bool {
        let target = self.execution.target(goal);
        let known = self.execution.open().goals.get(&goal).copied();
        let is_known = known
            .flatten()
            .and_then(|no| self.execution.live.get(&no))
            .is_some_and(|run| self.execution.leads_under_way(run, &target));
        if is_known {
            return true;
        }
        let execution = &*self.execution;
        let mut live = execution.live.values();
        let found = live.find(|run| execution.leads_under_way(run, &target));
        let found = found.map(|run| run.no);
        self.execution.open().goals.insert(goal, found);
        found.is_some()
    }

    fn waiters(&mut self) -> Vec<Waiter> {
        let open = self.execution.open();
        let joins = open.joins.values().copied().map(Waiter::Join);
        let undecided = open.undecided.iter().copied().map(Waiter::Needs);
        joins.chain(undecided).collect()
    }

    fn settle_join(&mut self, no: RunNo) {
        let Some(run) = self.execution.live.get(&no) else {
            return;
        };
        match self.workflow.tasks[run.task.0].join {
            Some(Join::Active) => {
                self.fire(no);
                self.let_in(no, false);
            }
            Some(Join::All | Join::Count(_)) | None => self.fail_join(no),
        }
    }
}

impl Execution {
    /// Of goals that nothing under way leads to: those that nothing else that waits leads to either.
    /// Where joins lead to each other in a circle, the oldest of a circle that nothing else leads to.
    fn first_of(&self, quiet: &[Goal], waiters: &[Waiter]) -> Vec<Goal> {
        let leading = |goal: Goal| {
            let target = self.target(goal);
            let others = waiters.iter().filter(move |waiter| !waiter.is(goal));
            others.filter(move |waiter| self.waiter_leads(**waiter, &target))
        };
        let ready: Vec<Goal> = quiet
            .iter()
            .copied()
            .filter(|goal| leading(*goal).next().is_none())
            .collect();
        if !ready.is_empty() {
            return ready;
        }
        let is_circle = |goal: &Goal| {
            let own = self.target(*goal).task();
            leading(*goal).all(|waiter| match waiter {
                Waiter::Join(no) => {
                    let back = self.live.get(no);
                    quiet.contains(&Goal::Join(*no))
                        && back.is_some_and(|run| self.workflow.reach.leads(own, run.task))
                }
                Waiter::Needs(_) => false,
            })
        };
        quiet.iter().copied().find(is_circle).into_iter().collect()
    }

    fn target(&self, goal: Goal) -> Target {
        match goal {
            Goal::Join(no) => match self.live.get(&no) {
                Some(run) => Target::Arrivals(join_key(run)),
                // A join that waits is alive; what is not leads nowhere.
                None => Target::End(TaskIndex(usize::MAX)),
            },
            Goal::Needed(task) => Target::End(task),
        }
    }

    /// Whether a run that does not wait for others can still lead to a target.
    fn leads_under_way(&self, run: &Run, target: &Target) -> bool {
        let waits = || {
            let open = self.flow.open.as_ref();
            open.is_some_and(|open| open.contains(run.no))
        };
        // Behind what stood beside `fail` nothing runs.
        run.item.is_none()
            && !run.branch.cut
            && self.branch_leads(
                run.task,
                run.branch.route,
                &|join| run.branch.passed(join),
                target,
            )
            && !waits()
    }

    fn waiter_leads(&self, waiter: Waiter, target: &Target) -> bool {
        match waiter {
            Waiter::Join(no) => self.live.get(&no).is_some_and(|run| {
                let passed = |join| run.branch.passed(join) + u32::from(join == run.task);
                self.branch_leads(run.task, run.branch.route, &passed, target)
            }),
            Waiter::Needs(task) => {
                let open = self.flow.open.as_ref();
                let run = open
                    .and_then(|open| open.needs.get(&task))
                    .and_then(|no| self.live.get(no));
                let passed = |join| run.map_or(0, |run| run.branch.passed(join));
                self.branch_leads(task, 0, &passed, target)
            }
        }
    }

    /// Whether a branch at `task` can lead to a target. What is not behind a split can be reached from
    /// any route, by way of a task with `needs`.
    fn branch_leads(
        &self,
        task: TaskIndex,
        route: RunNo,
        passed: &dyn Fn(TaskIndex) -> u32,
        target: &Target,
    ) -> bool {
        let reach = &self.workflow.reach;
        match target {
            Target::Arrivals(key) => {
                reach.leads(task, key.task)
                    && (key.route == 0 || key.route == route)
                    && passed(key.task) == key.generation
            }
            Target::End(needed) => task == *needed || reach.leads(task, *needed),
        }
    }
}

impl Waiter {
    fn is(self, goal: Goal) -> bool {
        match self {
            Self::Join(no) => goal == Goal::Join(no),
            Self::Needs(_) => false,
        }
    }
}

impl Target {
    fn task(self) -> TaskIndex {
        match self {
            Self::Arrivals(key) => key.task,
            Self::End(task) => task,
        }
    }
}
