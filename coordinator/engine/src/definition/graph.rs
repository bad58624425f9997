//! Resolves the names of tasks and checks the graph that the routes make.

use std::collections::BTreeMap;

use petgraph::algo::tarjan_scc;
use petgraph::graph::{DiGraph, NodeIndex};

use super::document::Draft;
use super::draft::Target;
use super::reader::Reader;
use super::text::did_you_mean;
use crate::workflow::{Targets, TaskIndex};

/// The graph of a definition.
pub(super) struct Graph {
    /// Position by name; of equal names the first.
    pub by_name: BTreeMap<String, TaskIndex>,
    pub graph: DiGraph<TaskIndex, ()>,
    /// By task, each once, ascending.
    pub predecessors: Vec<Vec<TaskIndex>>,
    pub in_cycle: Vec<bool>,
    pub starts: Vec<TaskIndex>,
}

/// Builds the graph and reports what is wrong with it.
pub(super) fn build(reader: &mut Reader, draft: &Draft) -> Graph {
    let by_name = names(reader, draft);
    let mut graph = DiGraph::new();
    let nodes: Vec<NodeIndex> = (0..draft.tasks.len())
        .map(|index| graph.add_node(TaskIndex(index)))
        .collect();
    let mut predecessors = vec![Vec::new(); nodes.len()];
    let mut is_complete = true;
    for (index, task) in draft.tasks.iter().enumerate() {
        for target in task.routes.ways().flat_map(|(targets, ..)| targets) {
            match by_name.get(&target.name) {
                Some(to) => {
                    graph.update_edge(nodes[index], nodes[to.0], ());
                    predecessors[to.0].push(TaskIndex(index));
                }
                None if is_command(&target.name) => {}
                None => {
                    unknown_target(reader, target, &by_name);
                    is_complete = false;
                }
            }
        }
    }
    for list in &mut predecessors {
        list.sort_unstable();
        list.dedup();
    }
    let in_cycle = cycles(&graph);
    let starts = (0..nodes.len())
        .map(TaskIndex)
        .filter(|task| predecessors[task.0].is_empty());
    let found = Graph {
        starts: starts.collect(),
        by_name,
        graph,
        predecessors,
        in_cycle,
    };
    found.check(reader, draft, is_complete);
    found
}

/// Whether a target is no task but an order.
fn is_command(name: &str) -> bool {
    name == "fail" || name == "noop"
}

/// Resolves the targets of a route.
pub(super) fn resolve(targets: &[Target], by_name: &BTreeMap<String, TaskIndex>) -> Targets {
    Targets {
        tasks: targets
            .iter()
            .filter_map(|target| by_name.get(&target.name).copied())
            .collect(),
        fail: targets.iter().any(|target| target.name == "fail"),
        noop: targets.iter().any(|target| target.name == "noop"),
    }
}

fn names(reader: &mut Reader, draft: &Draft) -> BTreeMap<String, TaskIndex> {
    let mut by_name: BTreeMap<String, TaskIndex> = BTreeMap::new();
    for (index, task) in draft.tasks.iter().enumerate() {
        if task.name.is_empty() || is_command(&task.name) {
            continue;
        }
        if let Some(first) = by_name.get(&task.name) {
            let line = draft.tasks[first.0].place.line;
            let message = format!(
                "the name `{}` is taken by the task in line {line}",
                task.name
            );
            let path = format!("{}.name", task.path);
            reader.error("duplicate_name", &task.place, &path, message);
        } else {
            by_name.insert(task.name.clone(), TaskIndex(index));
        }
    }
    by_name
}

fn unknown_target(reader: &mut Reader, target: &Target, by_name: &BTreeMap<String, TaskIndex>) {
    if reader.is_full() {
        return;
    }
    let message = format!("there is no task `{}`", target.name);
    let names = by_name.keys().map(String::as_str).chain(["fail", "noop"]);
    let hint = did_you_mean(&target.name, names);
    reader
        .error("unknown_target", &target.place, &target.path, message)
        .hint = hint;
}

fn cycles(graph: &DiGraph<TaskIndex, ()>) -> Vec<bool> {
    let mut in_cycle = vec![false; graph.node_count()];
    for component in tarjan_scc(graph) {
        let is_cycle = component.len() > 1
            || component
                .iter()
                .any(|node| graph.contains_edge(*node, *node));
        for node in component {
            in_cycle[node.index()] = is_cycle;
        }
    }
    in_cycle
}

impl Graph {
    fn check(&self, reader: &mut Reader, draft: &Draft, is_complete: bool) {
        // An unknown target may be what should have led to a task that nothing reaches now.
        if is_complete && !draft.tasks.is_empty() {
            self.check_starts(reader, draft);
        }
        for (index, task) in draft.tasks.iter().enumerate() {
            let predecessors = self.predecessors[index].len();
            if let Some((_, place)) = &task.join
                && predecessors == 0
                && is_complete
            {
                let message = format!(
                    "nothing leads to `{}`, so there is nothing to join",
                    task.name
                );
                reader.error(
                    "join_without_predecessor",
                    place,
                    &format!("{}.join", task.path),
                    message,
                );
            }
            if task.join.is_none() && !self.in_cycle[index] && predecessors > 1 {
                let message = format!(
                    "several transitions lead to `{}`: it runs once for each that is taken",
                    task.name
                );
                let warning = reader.warning("several_entries", &task.place, &task.path, message);
                warning.hint = Some(
                    "write `join: all` if all of them are taken and it shall wait for all"
                        .to_owned(),
                );
            }
        }
    }

    fn check_starts(&self, reader: &mut Reader, draft: &Draft) {
        if self.starts.is_empty() {
            let message = "there is no task to start with: something leads to each of them";
            reader.error("no_start", &draft.tasks_place, "tasks", message);
            return;
        }
        let mut reached = vec![false; draft.tasks.len()];
        let mut open: Vec<usize> = self.starts.iter().map(|task| task.0).collect();
        while let Some(index) = open.pop() {
            if !std::mem::replace(&mut reached[index], true) {
                open.extend(
                    self.graph
                        .neighbors(NodeIndex::new(index))
                        .map(NodeIndex::index),
                );
            }
        }
        for (task, _) in draft
            .tasks
            .iter()
            .zip(reached)
            .filter(|(_, reached)| !reached)
        {
            let message = format!("no start leads to `{}`", task.name);
            reader.error("unreachable_task", &task.place, &task.path, message);
        }
    }
}
