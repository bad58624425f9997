//! Which variables may have a value at which place: for each task, those that some path to it
//! assigns.

use std::collections::{BTreeMap, BTreeSet};

use super::document::Draft;
use super::draft::DraftTask;
use super::graph::Graph;
use super::reader::{Moment, Site};
use crate::workflow::Publish;

/// A set of variables, one bit each.
type Set = Vec<u64>;

/// What may be assigned where.
pub(super) struct Flow {
    names: BTreeMap<String, usize>,
    /// When a task is entered.
    entered: Vec<Set>,
}

impl Flow {
    /// Follows all paths of the graph.
    pub(super) fn new(draft: &Draft, graph: &Graph) -> Self {
        let mut names = BTreeMap::new();
        for name in assigned(draft) {
            let next = names.len();
            names.entry(name.to_owned()).or_insert(next);
        }
        let empty: Set = vec![0; names.len().div_ceil(64)];
        let mut flow = Self {
            names,
            entered: vec![empty; draft.tasks.len()],
        };
        flow.follow(draft, graph);
        // What runs at the end sees what any branch has left.
        for task in &graph.finally {
            let all = flow.all(draft);
            flow.entered[task.0] = all;
        }
        flow
    }

    fn follow(&mut self, draft: &Draft, graph: &Graph) {
        let mut open: BTreeSet<usize> = (0..draft.tasks.len()).collect();
        while let Some(index) = open.pop_first() {
            let task = &draft.tasks[index];
            let mut ended = self.entered[index].clone();
            self.add(&mut ended, &task.publish);
            for (targets, publish, _) in task.routes.ways() {
                let mut passed = ended.clone();
                self.add(&mut passed, publish);
                for target in targets
                    .iter()
                    .filter_map(|target| graph.by_name.get(&target.name))
                {
                    if union(&mut self.entered[target.0], &passed) {
                        open.insert(target.0);
                    }
                }
            }
            for needing in &graph.needed_by[index] {
                if union(&mut self.entered[needing.0], &ended) {
                    open.insert(needing.0);
                }
            }
        }
    }

    /// All that some task publishes.
    fn all(&self, draft: &Draft) -> Set {
        let mut all: Set = vec![0; self.names.len().div_ceil(64)];
        for task in &draft.tasks {
            self.add(&mut all, &task.publish);
            for (_, publish, _) in task.routes.ways() {
                self.add(&mut all, publish);
            }
        }
        all
    }

    fn add(&self, set: &mut Set, publish: &[Publish]) {
        for name in publish
            .iter()
            .filter_map(|entry| self.names.get(&*entry.name))
        {
            set[name / 64] |= 1 << (name % 64);
        }
    }

    /// Whether anything assigns the variable.
    pub(super) fn writes(&self, name: &str) -> bool {
        self.names.contains_key(name)
    }

    /// All variables.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.names.keys().map(String::as_str)
    }

    /// Whether some path assigns the variable before a place.
    pub(super) fn is_assigned(&self, draft: &Draft, name: &str, site: Site) -> bool {
        let is_in =
            |entries: &[(std::sync::Arc<str>, _)]| entries.iter().any(|(n, _)| &**n == name);
        match site {
            Site::Default(_) => false,
            Site::Vars(at) => is_in(&draft.vars[..at.min(draft.vars.len())]),
            Site::Output(at) => {
                let output = draft.output.as_deref().unwrap_or_default();
                is_in(&output[..at.min(output.len())]) || self.is_written(draft, name)
            }
            Site::Task(index, moment) => {
                is_in(&draft.vars) || self.is_assigned_in(&draft.tasks[index], index, name, moment)
            }
        }
    }

    fn is_assigned_in(&self, task: &DraftTask, index: usize, name: &str, moment: Moment) -> bool {
        let is_in =
            |list: &[Publish], end: usize| list.iter().take(end).any(|entry| &*entry.name == name);
        let is_entered = self
            .names
            .get(name)
            .is_some_and(|bit| self.entered[index][bit / 64] >> (bit % 64) & 1 == 1);
        is_entered
            || match moment {
                Moment::Items | Moment::Before | Moment::Attempted => false,
                Moment::Publish(at) => is_in(&task.publish, at),
                Moment::Ended => is_in(&task.publish, usize::MAX),
                Moment::Route(list, at) => {
                    let mut ways = task.routes.ways();
                    is_in(&task.publish, usize::MAX)
                        || ways.any(|(_, publish, own)| own == list && is_in(publish, at))
                }
            }
    }

    /// Whether a variable, not an output, has the name.
    fn is_written(&self, draft: &Draft, name: &str) -> bool {
        draft.vars.iter().any(|(var, _)| &**var == name)
            || draft.tasks.iter().any(|task| {
                let lists = std::iter::once(task.publish.as_slice())
                    .chain(task.routes.ways().map(|(_, publish, _)| publish));
                lists.flatten().any(|entry| &*entry.name == name)
            })
    }
}

/// The names of all variables.
fn assigned(draft: &Draft) -> impl Iterator<Item = &str> {
    let vars = draft.vars.iter().map(|(name, _)| &**name);
    let published = draft.tasks.iter().flat_map(|task| {
        std::iter::once(task.publish.as_slice())
            .chain(task.routes.ways().map(|(_, publish, _)| publish))
            .flatten()
            .map(|entry| &*entry.name)
    });
    let output = draft.output.iter().flatten().map(|(name, _)| &**name);
    vars.chain(published).chain(output)
}

/// Adds `other` to `set`; whether that changed it.
fn union(set: &mut Set, other: &Set) -> bool {
    let mut is_changed = false;
    for (bits, more) in set.iter_mut().zip(other) {
        is_changed |= *more & !*bits != 0;
        *bits |= more;
    }
    is_changed
}
