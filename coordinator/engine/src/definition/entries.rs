//! Checks how tasks are entered: that every one can be reached, and that it is clear what its joins,
//! `needs` and the lists of the top level bring together.

use petgraph::graph::NodeIndex;

use super::document::Draft;
use super::draft::{DraftTask, Target};
use super::forks;
use super::graph::Graph;
use super::reader::Reader;
use super::tree::Place;
use crate::workflow::{Join, TaskIndex};

/// Reports what is wrong.
pub(super) fn check(reader: &mut Reader, draft: &Draft, graph: &Graph) {
    Entries {
        reader,
        draft,
        graph,
    }
    .check();
}

struct Entries<'c, 'a> {
    reader: &'c mut Reader<'a>,
    draft: &'c Draft,
    graph: &'c Graph,
}

impl Entries<'_, '_> {
    fn check(&mut self) {
        self.start();
        self.finally();
        // An unknown name may be what should have led to a task that nothing reaches now.
        if self.graph.is_complete && !self.draft.tasks.is_empty() {
            self.reached();
        }
        for (index, task) in self.draft.tasks.iter().enumerate() {
            let index = TaskIndex(index);
            if let Some((join, place)) = &task.join {
                self.join(index, task, *join, place);
            }
            if let Some(needs) = &task.needs {
                self.needs(index, task, &needs.place);
            }
        }
        let entered = forks::entered(self.draft, self.graph);
        let tasks = self.draft.tasks.iter().zip(entered);
        // A child of a parallel task is entered by that alone; that two have one name is said elsewhere.
        let is_child = |task: &DraftTask| task.is_part && task.name.contains('/');
        for (task, _) in tasks.filter(|(task, is_entered)| *is_entered && !is_child(task)) {
            self.several(task);
        }
    }

    /// Warns where several transitions make several runs.
    fn several(&mut self, task: &DraftTask) {
        let message = format!(
            "several transitions lead to `{}`: it runs once for each that is taken",
            task.shown()
        );
        let warning = self
            .reader
            .warning("several_entries", &task.place, &task.path, message);
        warning.hint =
            Some("write `join: all` if all of them are taken and it shall wait for all".to_owned());
    }

    fn join(&mut self, index: TaskIndex, task: &DraftTask, join: Join, place: &Place) {
        let path = format!("{}.join", task.path);
        let predecessors = &self.graph.predecessors[index.0];
        if task.needs.is_some() {
            let message = "`needs` joins by itself: there is nothing left to join";
            self.reader.error("mixed_entries", place, &path, message);
        } else if predecessors.is_empty() && self.graph.is_complete {
            let message = format!(
                "nothing leads to `{}`, so there is nothing to join",
                task.shown()
            );
            self.reader
                .error("join_without_predecessor", place, &path, message);
        } else if let Join::Count(count) = join
            && count as usize > predecessors.len()
            && self.graph.is_complete
        {
            let message = format!(
                "`{}` joins {count} arrivals, and {} can arrive: several transitions from one task \
                 are one arrival",
                task.shown(),
                predecessors.len()
            );
            self.reader.error("join_of_too_many", place, &path, message);
        }
        if task.parallel.is_none() {
            self.across_splits(index, task, place, &path);
        }
    }

    /// Arrivals on different routes never meet.
    fn across_splits(&mut self, index: TaskIndex, task: &DraftTask, place: &Place, path: &str) {
        let splits = |task: &TaskIndex| &self.graph.splits[task.0];
        let predecessors = &self.graph.predecessors[index.0];
        let Some((first, others)) = predecessors.split_first() else {
            return;
        };
        let Some(other) = others.iter().find(|other| splits(other) != splits(first)) else {
            return;
        };
        let (one, two) = (splits(first), splits(other));
        let differs = |split: &&TaskIndex| one.contains(split) != two.contains(split);
        let Some(split) = one.iter().chain(two).find(differs) else {
            return;
        };
        let name = |index: &TaskIndex| self.draft.tasks[index.0].shown();
        let message = format!(
            "`{}` is reached from `{}` and from `{}`, and only one of them lies behind `{}`, which \
             runs once for each transition into it: their arrivals never meet",
            task.shown(),
            name(first),
            name(other),
            name(split)
        );
        let hint = format!(
            "write `join: 1` at `{}` if only one of the transitions into it is taken",
            name(split)
        );
        self.reader
            .error("join_across_splits", place, path, message)
            .hint = Some(hint);
    }

    fn needs(&mut self, index: TaskIndex, task: &DraftTask, place: &Place) {
        let path = format!("{}.needs", task.path);
        if !self.graph.predecessors[index.0].is_empty() {
            let message = format!(
                "`{}` runs by its `needs`, so no transition may lead to it",
                task.shown()
            );
            self.reader.error("mixed_entries", place, &path, message);
        } else if self.graph.in_cycle[index.0] {
            let message = format!(
                "`{}` runs at most once, so it may not lead to what it needs",
                task.shown()
            );
            self.reader.error("needs_in_cycle", place, &path, message);
        }
        let targets = task.needs.iter().flat_map(|needs| &needs.targets);
        for target in targets {
            self.refuse_finally(target);
        }
    }

    /// A start is entered once, by the start alone.
    fn start(&mut self) {
        for target in self.draft.start.iter().flatten() {
            let Some(index) = self.graph.by_name.get(&target.name) else {
                continue;
            };
            let task = &self.draft.tasks[index.0];
            let word = match (&task.join, &task.needs) {
                (Some(_), _) => "join",
                (None, Some(_)) => "needs",
                (None, None) => {
                    self.refuse_finally(target);
                    continue;
                }
            };
            let message = format!(
                "`{}` has `{word}`, so it is no task to start with",
                task.shown()
            );
            self.reader
                .error("invalid_start", &target.place, &target.path, message);
        }
    }

    fn finally(&mut self) {
        for target in &self.draft.finally {
            let Some(index) = self.graph.by_name.get(&target.name) else {
                continue;
            };
            let task = &self.draft.tasks[index.0];
            if task.join.is_some() || task.needs.is_some() {
                let message = format!(
                    "`{}` of `finally` waits for the end of all else, so it has no `join` and no \
                     `needs`",
                    task.name
                );
                self.reader
                    .error("misplaced_finally", &target.place, &target.path, message);
            }
            let mut ways = task.routes.ways().flat_map(|(targets, ..)| targets);
            let next = ways.find(|next| self.graph.by_name.contains_key(&next.name));
            if let Some(next) = next {
                let message = format!("`{}` is of `finally`: nothing follows it", task.name);
                self.reader
                    .error("misplaced_finally", &next.place, &next.path, message);
            }
        }
        for target in self
            .draft
            .tasks
            .iter()
            .flat_map(|task| task.routes.ways().flat_map(|(targets, ..)| targets))
        {
            self.refuse_finally(target);
        }
    }

    /// Refuses a name that is of `finally`, where it would run before the end.
    fn refuse_finally(&mut self, target: &Target) {
        let index = self.graph.by_name.get(&target.name);
        if index.is_some_and(|index| self.graph.finally.contains(index)) {
            let message = format!(
                "`{}` is of `finally`: it runs once all else has ended",
                target.name
            );
            self.reader
                .error("misplaced_finally", &target.place, &target.path, message);
        }
    }

    fn reached(&mut self) {
        let graph = self.graph;
        if graph.starts.is_empty() {
            let message = if graph.finally.is_empty() {
                "there is no task to start with: something leads to each of them"
            } else {
                "there is no task to start with: something leads to each of them, or it is of `finally`"
            };
            let place = &self.draft.tasks_place;
            self.reader.error("no_start", place, "tasks", message);
            return;
        }
        let mut reached = vec![false; self.draft.tasks.len()];
        let entered = graph.starts.iter().chain(&graph.finally);
        let mut open: Vec<usize> = entered.map(|task| task.0).collect();
        while let Some(index) = open.pop() {
            if !std::mem::replace(&mut reached[index], true) {
                let next = graph.graph.neighbors(NodeIndex::new(index));
                open.extend(next.map(NodeIndex::index));
            }
        }
        let tasks = self.draft.tasks.iter().zip(reached);
        for (task, _) in tasks.filter(|(task, reached)| !reached && !task.is_part) {
            let message = format!("no start leads to `{}`", task.name);
            self.reader
                .error("unreachable_task", &task.place, &task.path, message);
        }
    }
}
