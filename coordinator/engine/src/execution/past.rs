//! Runs that have ended, and how they hang together: what a rerun looks at. Not kept in memory while
//! an execution lives; its rows have them all.

use std::collections::{BTreeMap, BTreeSet};

use flotilla_protocol::RunNo;

use super::branch::WriteLinks;
use super::changes::Changes;
use super::run::{Run, RunStatus};
use crate::rule::Verdict;
use crate::scope::EndStatus;
use crate::workflow::{Join, Task, TaskIndex, Workflow};

/// All runs of an execution that have ended, and all writes of its variables.
#[derive(Debug, Clone, Default)]
pub struct Past {
    /// The runs, those of items among them. Of a run of items that all succeeded, its items may be
    /// absent; inputs are not looked at.
    pub runs: BTreeMap<RunNo, Run>,
    /// Which write replaced which.
    pub links: WriteLinks,
    /// Runs whose items left more than a list of results may hold, which is why their results are not
    /// here.
    pub too_large: BTreeSet<RunNo>,
}

impl Past {
    /// Takes in what one or more events have changed.
    pub fn add(&mut self, changes: &Changes) {
        for run in &changes.ended {
            self.runs.insert(run.no, run.clone());
        }
        let writes = changes.writes.iter();
        self.links
            .extend(writes.map(|write| (write.no, write.previous)));
    }

    /// Runs of tasks of the graph that count: not those of items or of `finally`, and none that a rerun
    /// has replaced, or that followed from one of those.
    pub(super) fn current<'a>(&'a self, workflow: &'a Workflow) -> Current<'a> {
        let replaced = self.replaced(workflow);
        let is_current = |run: &&Run| {
            run.item.is_none()
                && !workflow.tasks[run.task.0].is_finally
                && !replaced.contains(&run.no)
        };
        let runs = self.runs.values().filter(is_current);
        Current {
            workflow,
            runs: runs.map(|run| (run.no, run)).collect(),
        }
    }

    /// Runs that reruns have repeated, and all that followed from them by a transition. What only noted
    /// how one of them ended is among them: it waited again, as a run in its place.
    fn replaced(&self, workflow: &Workflow) -> BTreeSet<RunNo> {
        let all = Current {
            workflow,
            runs: self.runs.iter().map(|(no, run)| (*no, run)).collect(),
        };
        let repeated = self.runs.values().filter_map(|run| run.again).collect();
        let mut replaced = all.reached(&repeated, |_| Vec::new());
        replaced.extend(repeated);
        replaced
    }

    /// Items of a run that have succeeded, by its own word or, where it has kept some, by that of the
    /// runs before it: by their index.
    pub(super) fn kept_items(&self, whole: &Run) -> BTreeMap<u32, &Run> {
        let mut kept = BTreeMap::new();
        for run in self.kept_of(whole) {
            for item in self.runs.values() {
                let Some(place) = item.item.filter(|place| place.of == run.no) else {
                    continue;
                };
                if item.status == RunStatus::Ended(EndStatus::Succeeded) {
                    kept.entry(place.index).or_insert(item);
                }
            }
        }
        kept
    }

    /// Whether the results of the items that a run keeps are not here, since they take too much.
    pub(super) fn has_lost_results(&self, whole: &Run) -> bool {
        self.kept_of(whole)
            .any(|run| self.too_large.contains(&run.no))
    }

    /// A run of items, and those before it whose items it keeps, the latest first.
    fn kept_of<'a>(&'a self, whole: &'a Run) -> impl Iterator<Item = &'a Run> {
        std::iter::successors(Some(whole), |run| {
            let no = run.spread.as_deref()?.progress.kept_of?;
            self.runs.get(&no)
        })
    }

    /// The run whose list of items a run goes on with: its own, or that of the run that it repeats
    /// where it had none yet.
    pub(super) fn spread_of<'a>(&'a self, run: &'a Run) -> Option<&'a Run> {
        let mut at = Some(run);
        while let Some(run) = at {
            if run.spread.is_some() {
                return Some(run);
            }
            at = run.again.and_then(|no| self.runs.get(&no));
        }
        None
    }
}

/// The runs that count.
pub(super) struct Current<'a> {
    pub workflow: &'a Workflow,
    pub runs: BTreeMap<RunNo, &'a Run>,
}

impl Current<'_> {
    /// Runs, and all that they have led to: by a transition, or as a task that is needed.
    pub fn followers(&self, of: &BTreeSet<RunNo>) -> BTreeSet<RunNo> {
        let mut found = self.led_from(of);
        found.extend(of);
        found
    }

    /// All that runs have led to; they themselves only where one has led to another.
    pub fn led_from(&self, of: &BTreeSet<RunNo>) -> BTreeSet<RunNo> {
        let unreached = self.unreached();
        self.reached(of, |run| self.needing(run.task, &unreached))
    }

    /// All that runs have led to by a transition, and what `more` says follows from each.
    fn reached(&self, of: &BTreeSet<RunNo>, more: impl Fn(&Run) -> Vec<RunNo>) -> BTreeSet<RunNo> {
        let mut found = BTreeSet::new();
        let mut led_to: BTreeMap<RunNo, Vec<RunNo>> = BTreeMap::new();
        for run in self.runs.values() {
            for cause in &run.caused_by {
                led_to.entry(*cause).or_default().push(run.no);
            }
        }
        let mut open: Vec<RunNo> = of.iter().copied().collect();
        while let Some(no) = open.pop() {
            let mut next = led_to.remove(&no).unwrap_or_default();
            if let Some(run) = self.runs.get(&no).filter(|run| run.item.is_none()) {
                next.extend(more(run));
            }
            open.extend(next.into_iter().filter(|no| found.insert(*no)));
        }
        found
    }

    /// Runs of tasks with `needs` that have noted how a task ended, an omission as well, or that nothing
    /// reached one that it may lead to this time.
    fn needing(&self, task: TaskIndex, unreached: &BTreeSet<TaskIndex>) -> Vec<RunNo> {
        let depends = |needed: &TaskIndex| {
            *needed == task
                || unreached.contains(needed) && self.workflow.reach.leads(task, *needed)
        };
        let runs = self.runs.values();
        let has_noted = runs.filter(|run| run.needed.keys().any(depends));
        has_noted.map(|run| run.no).collect()
    }

    /// Tasks that others need, and that nothing has reached.
    pub fn unreached(&self) -> BTreeSet<TaskIndex> {
        let noted = self.runs.values().flat_map(|run| run.needed.keys());
        let mut unreached: BTreeSet<TaskIndex> = noted.copied().collect();
        for run in self.runs.values() {
            unreached.remove(&run.task);
        }
        unreached
    }

    /// Runs that some other one was led to from.
    pub fn with_followers(&self) -> BTreeSet<RunNo> {
        let causes = self.runs.values().flat_map(|run| run.caused_by.iter());
        causes.copied().collect()
    }

    /// Whether a run ended before it could begin because others had not arrived, or not ended.
    pub fn has_waited(&self, run: &Run) -> bool {
        self.has_not_begun(run) && !run.held && !self.is_due(run)
    }

    /// Whether a run was about to begin when it was ended.
    pub fn was_held_back(&self, run: &Run) -> bool {
        self.has_not_begun(run) && (run.held || self.is_due(run))
    }

    fn has_not_begun(&self, run: &Run) -> bool {
        let is_cut_off = match run.status {
            RunStatus::Ended(EndStatus::Omitted | EndStatus::Cancelled) => true,
            RunStatus::Ended(_)
            | RunStatus::Waiting
            | RunStatus::Delayed
            | RunStatus::Dispatched
            | RunStatus::Running
            | RunStatus::Retrying
            | RunStatus::Spread => false,
        };
        is_cut_off && run.attempt == 0 && run.spread.is_none()
    }

    /// Whether all that it waits for has arrived, or ended. Of a join that waits for what is alive
    /// nobody knows: it is asked anew.
    fn is_due(&self, run: &Run) -> bool {
        let task = &self.workflow.tasks[run.task.0];
        match self.verdict(run) {
            Some(verdict) => verdict == Verdict::Runs,
            None => task.join.is_none_or(|join| is_complete(task, join, run)),
        }
    }

    /// Whether its rule has said that it does not run; the end omits what is not decided.
    pub fn was_omitted_by_rule(&self, run: &Run) -> bool {
        self.verdict(run) == Some(Verdict::Omitted)
    }

    /// What the rule of a task with `needs` says of the ends that it has noted.
    fn verdict(&self, run: &Run) -> Option<Verdict> {
        let needs = self.workflow.tasks[run.task.0].needs.as_ref()?;
        Some(run.verdict(needs))
    }

    /// The generations of joins that have run, by join and route.
    pub fn fired(&self, without: &BTreeSet<RunNo>) -> BTreeMap<(TaskIndex, RunNo), u32> {
        let mut fired = BTreeMap::new();
        for run in self.runs.values() {
            let task = &self.workflow.tasks[run.task.0];
            if task.join.is_none() || without.contains(&run.no) || self.has_waited(run) {
                continue;
            }
            let passed = run.branch.passed(run.task);
            let generations = if task.in_cycle { passed } else { 1 };
            let route = if task.behind_split {
                run.branch.route
            } else {
                0
            };
            let known = fired.entry((run.task, route)).or_insert(0);
            *known = generations.max(*known);
        }
        fired
    }
}

/// Whether a join has all its arrivals. One that waits for what is alive never says so.
pub(super) fn is_complete(task: &Task, join: Join, run: &Run) -> bool {
    let arrived = run.arrived.len();
    match join {
        Join::All => match &task.parallel {
            Some(parallel) => parallel.is_complete(&run.arrived),
            None => arrived >= task.predecessors.len(),
        },
        Join::Count(count) => arrived >= count as usize,
        Join::Active => false,
    }
}
