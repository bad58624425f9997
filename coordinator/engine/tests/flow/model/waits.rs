//! The part of the interpreter that decides what waits: joins that nothing can reach any more, and
//! tasks that run by how others have ended.

use super::{Branch, Goal, Join, Model, Need, Next, State};
use crate::rules;

impl Model<'_> {
    pub(super) fn note(&mut self, task: usize, need: Need, branch: Option<Branch>, is_end: bool) {
        let is_final = !self.may_repeat(task);
        let mut is_taken = false;
        for needing in self.needing(task) {
            let Some(no) = self.undecided(needing) else {
                continue;
            };
            is_taken = true;
            if let Some(branch) = &branch {
                self.runs[no].branch.merge(branch);
            }
            self.runs[no].needed.insert(task, need);
            if is_final {
                self.runs[no].arrived.insert(task);
            }
            self.decide(no);
        }
        if let Some(branch) = branch.filter(|_| !is_taken && is_end) {
            self.ends.merge(&branch);
        }
    }

    /// The waiting run of a task with `needs`; `None` once it is decided.
    fn undecided(&mut self, task: usize) -> Option<usize> {
        match self.runs.iter().position(|run| run.task == task) {
            Some(no) => (self.runs[no].state == State::Needs).then_some(no),
            None => {
                let first = self.first.clone();
                self.create(task, State::Needs, first)
            }
        }
    }

    fn is_undecided(&self, task: usize) -> bool {
        let run = self.runs.iter().find(|run| run.task == task);
        self.spec.tasks[task].needs.is_some() && run.is_none_or(|run| run.state == State::Needs)
    }

    fn decide(&mut self, no: usize) {
        let run = &self.runs[no];
        let (needs, rule) = self.spec.tasks[run.task]
            .needs
            .as_ref()
            .expect("it needs others");
        let ends: Vec<Need> = run.arrived.iter().map(|task| run.needed[task]).collect();
        match rules::decide(rule, &ends, needs.len() - ends.len()) {
            Some(true) => {
                self.is_unclear |= run.needed.values().all(|need| *need == Need::Omitted);
                self.runs[no].state = State::Due;
                self.queue.push_back(Next::Decided(no));
            }
            Some(false) => self.omit(no),
            None => {}
        }
    }

    /// Ends a run that never became due.
    pub(super) fn omit(&mut self, no: usize) {
        let task = self.runs[no].task;
        self.runs[no].state = State::Ended("omitted");
        self.ends.merge(&self.runs[no].branch);
        if self.spec.tasks[task].needs.is_some() {
            if !self.needing(task).is_empty() {
                let ended = Next::Ended(task, Need::Omitted, None, false);
                self.queue.push_back(ended);
            }
            self.review();
        }
    }

    /// Whether a task may be visited more than once, by the shape of the graph alone.
    fn may_repeat(&self, task: usize) -> bool {
        let spec = self.spec;
        if spec.reaches(task, task) {
            return true;
        }
        if spec.tasks[task].needs.is_some() {
            return false;
        }
        if spec.tasks[task].join.is_some() {
            return (0..spec.tasks.len())
                .any(|split| self.is_split(split) && self.flows(split, task));
        }
        let before = spec.predecessors(task);
        self.is_split(task) || before.into_iter().any(|from| self.may_repeat(from))
    }

    /// Whether transitions alone lead from one task to another; there is no cycle behind `to`.
    fn flows(&self, from: usize, to: usize) -> bool {
        let before = self.spec.predecessors(to);
        before.into_iter().any(|task| {
            task == from || task != to && !self.spec.reaches(task, task) && self.flows(from, task)
        })
    }

    /// Decides what nothing alive can change any more; false if there is nothing of the kind.
    pub(super) fn settle(&mut self) -> bool {
        let quiet: Vec<Goal> = self
            .goals()
            .into_iter()
            .filter(|goal| !self.is_awaited(*goal))
            .collect();
        let mut ready: Vec<Goal> = quiet
            .iter()
            .copied()
            .filter(|goal| self.leading(*goal).is_empty())
            .collect();
        if ready.is_empty() {
            // Joins that lead to each other in a circle: the oldest that nothing else leads to.
            let in_circle = |goal: &Goal| {
                self.leading(*goal).iter().all(|other| match other {
                    Goal::Join(no) => {
                        let back = self.spec.reaches(self.task(*goal), self.runs[*no].task);
                        back && quiet.contains(other)
                    }
                    Goal::Needed(_) => false,
                })
            };
            ready.extend(quiet.iter().copied().find(in_circle));
        }
        for goal in &ready {
            match goal {
                Goal::Join(no)
                    if self.spec.tasks[self.runs[*no].task].join == Some(Join::Active) =>
                {
                    self.fire(*no);
                    self.let_in(*no, false);
                }
                Goal::Join(no) => {
                    // What comes later is absorbed, as behind a join that has run.
                    self.fired.insert(self.key(*no));
                    self.omit(*no);
                    self.errors += 1;
                }
                Goal::Needed(task) => self.give_up(*task),
            }
        }
        !ready.is_empty()
    }

    /// Nothing can reach a needed task any more.
    fn give_up(&mut self, task: usize) {
        for needing in self.needing(task) {
            let Some(no) = self.undecided(needing) else {
                continue;
            };
            if self.runs[no].arrived.insert(task) {
                self.runs[no].needed.entry(task).or_insert(Need::Omitted);
                self.decide(no);
            }
        }
    }

    fn goals(&self) -> Vec<Goal> {
        let all = 0..self.spec.tasks.len();
        let joins = (0..self.runs.len()).filter(|no| self.runs[*no].state == State::Join);
        let is_awaited = |task: &usize| {
            self.needing(*task).into_iter().any(|needing| {
                let run = self.runs.iter().find(|run| run.task == needing);
                self.is_undecided(needing) && run.is_none_or(|run| !run.arrived.contains(task))
            })
        };
        joins
            .map(Goal::Join)
            .chain(all.filter(is_awaited).map(Goal::Needed))
            .collect()
    }

    fn task(&self, goal: Goal) -> usize {
        match goal {
            Goal::Join(no) => self.runs[no].task,
            Goal::Needed(task) => task,
        }
    }

    /// Whether a run that waits for nobody can lead there.
    fn is_awaited(&self, goal: Goal) -> bool {
        let under_way = self
            .runs
            .iter()
            .filter(|run| matches!(run.state, State::Due | State::Out));
        under_way
            .filter(|run| !run.branch.cut)
            .any(|run| self.branch_leads(run.task, &run.branch, 0, goal))
    }

    /// What else waits, may run yet, and can lead there.
    fn leading(&self, goal: Goal) -> Vec<Goal> {
        let joins = (0..self.runs.len()).filter(|no| {
            let run = &self.runs[*no];
            run.state == State::Join
                && Goal::Join(*no) != goal
                && self.branch_leads(run.task, &run.branch, 1, goal)
        });
        let needing = (0..self.spec.tasks.len()).filter(|task| {
            let run = self.runs.iter().find(|run| run.task == *task);
            let branch = run.map_or(&self.first, |run| &run.branch);
            self.is_undecided(*task) && self.branch_leads(*task, branch, 0, goal)
        });
        joins
            .map(Goal::Join)
            .chain(needing.map(Goal::Needed))
            .collect()
    }

    /// Whether a branch at a task, which it has still to pass `own` times as a join, leads to a goal.
    fn branch_leads(&self, at: usize, branch: &Branch, own: u32, goal: Goal) -> bool {
        match goal {
            Goal::Needed(task) => at == task || self.spec.reaches(at, task),
            Goal::Join(no) => {
                let (task, route, generation) = self.key(no);
                let passes = branch.passes(task) + if at == task { own } else { 0 };
                self.spec.reaches(at, task)
                    && (route == 0 || route == branch.route)
                    && passes == generation
            }
        }
    }
}
