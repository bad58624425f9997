//! Resolves the names of tasks, and works out of the graph that transitions and `needs` make how each
//! task is entered.

use std::collections::BTreeMap;

use petgraph::algo::tarjan_scc;
use petgraph::graph::{DiGraph, NodeIndex};

use super::document::Draft;
use super::draft::Target;
use super::reader::Reader;
use super::text::did_you_mean;
use crate::reach::Reach;
use crate::workflow::{Targets, TaskIndex};

/// The graph of a definition.
pub(super) struct Graph {
    /// Position by name; of equal names the first.
    pub by_name: BTreeMap<String, TaskIndex>,
    /// Transitions and needs.
    pub graph: DiGraph<TaskIndex, ()>,
    pub reach: Reach,
    /// Whether every name that a task names is known.
    pub is_complete: bool,
    /// By task: those that transitions come from, each once, ascending.
    pub predecessors: Vec<Vec<TaskIndex>>,
    /// By task: the tasks that it needs, ascending; and those that need it.
    pub needs: Vec<Vec<TaskIndex>>,
    pub needed_by: Vec<Vec<TaskIndex>>,
    pub in_cycle: Vec<bool>,
    pub starts: Vec<TaskIndex>,
    pub finally: Vec<TaskIndex>,
    pub is_split: Vec<bool>,
    /// By task: the splits that lead to it, itself among them, ascending.
    pub splits: Vec<Vec<TaskIndex>>,
    pub may_repeat: Vec<bool>,
}

/// Builds the graph and reports what is wrong with it.
pub(super) fn build(reader: &mut Reader, draft: &Draft) -> Graph {
    let by_name = names(reader, draft);
    let mut edges = Edges::new(draft.tasks.len());
    edges.read(reader, draft, &by_name);
    let listed = |reader: &mut Reader, targets: &[Target]| -> Vec<TaskIndex> {
        let known = targets.iter().filter_map(|target| {
            let found = by_name.get(&target.name).copied();
            if found.is_none() {
                unknown_task(reader, target, &by_name);
            }
            found
        });
        known.collect()
    };
    let finally = listed(reader, &draft.finally);
    let starts = match &draft.start {
        Some(start) => listed(reader, start),
        None => (0..draft.tasks.len())
            .map(TaskIndex)
            .filter(|task| edges.leads_nothing_to(*task) && !finally.contains(task))
            .collect(),
    };
    let found = Graph::of(draft, by_name, edges, starts, finally);
    super::entries::check(reader, draft, &found);
    found
}

/// The edges of the graph, as they are read.
struct Edges {
    graph: DiGraph<TaskIndex, ()>,
    transitions: DiGraph<TaskIndex, ()>,
    predecessors: Vec<Vec<TaskIndex>>,
    needs: Vec<Vec<TaskIndex>>,
    is_complete: bool,
}

impl Edges {
    fn new(tasks: usize) -> Self {
        let mut graph = DiGraph::new();
        for index in 0..tasks {
            graph.add_node(TaskIndex(index));
        }
        Self {
            transitions: graph.clone(),
            graph,
            predecessors: vec![Vec::new(); tasks],
            needs: vec![Vec::new(); tasks],
            is_complete: true,
        }
    }

    fn read(&mut self, reader: &mut Reader, draft: &Draft, by_name: &BTreeMap<String, TaskIndex>) {
        for (index, task) in draft.tasks.iter().enumerate() {
            let node = NodeIndex::new(index);
            for target in task.routes.ways().flat_map(|(targets, ..)| targets) {
                match by_name.get(&target.name) {
                    Some(to) => {
                        self.graph.update_edge(node, NodeIndex::new(to.0), ());
                        self.transitions.update_edge(node, NodeIndex::new(to.0), ());
                        self.predecessors[to.0].push(TaskIndex(index));
                    }
                    None if is_command(&target.name) => {}
                    None => {
                        unknown_target(reader, target, by_name);
                        self.is_complete = false;
                    }
                }
            }
            for target in task.needs.iter().flat_map(|needs| &needs.targets) {
                match by_name.get(&target.name) {
                    Some(needed) => {
                        self.graph.update_edge(NodeIndex::new(needed.0), node, ());
                        self.needs[index].push(*needed);
                    }
                    None => {
                        unknown_task(reader, target, by_name);
                        self.is_complete = false;
                    }
                }
            }
        }
    }

    fn leads_nothing_to(&self, task: TaskIndex) -> bool {
        self.predecessors[task.0].is_empty() && self.needs[task.0].is_empty()
    }
}

impl Graph {
    fn of(
        draft: &Draft,
        by_name: BTreeMap<String, TaskIndex>,
        edges: Edges,
        starts: Vec<TaskIndex>,
        finally: Vec<TaskIndex>,
    ) -> Self {
        let Edges {
            graph,
            transitions,
            mut predecessors,
            mut needs,
            is_complete,
        } = edges;
        let in_cycle = cycles(&graph);
        let is_split: Vec<bool> = (0..draft.tasks.len())
            .map(|index| {
                let entries =
                    predecessors[index].len() + usize::from(starts.contains(&TaskIndex(index)));
                let task = &draft.tasks[index];
                entries > 1 && !in_cycle[index] && task.join.is_none() && task.needs.is_none()
            })
            .collect();
        for list in predecessors.iter_mut().chain(&mut needs) {
            list.sort_unstable();
            list.dedup();
        }
        let splits = splits(&transitions, &is_split);
        let may_repeat = repeats(draft, &transitions, &in_cycle, &is_split, &splits);
        let mut needed_by = vec![Vec::new(); needs.len()];
        for (index, list) in needs.iter().enumerate() {
            for needed in list {
                needed_by[needed.0].push(TaskIndex(index));
            }
        }
        Self {
            by_name,
            reach: Reach::of(&graph),
            graph,
            is_complete,
            predecessors,
            needs,
            needed_by,
            in_cycle,
            starts,
            finally,
            is_split,
            splits,
            may_repeat,
        }
    }
}

/// By task, the splits that transitions lead from to it, and itself if it is one. What lies behind a
/// task with `needs` has left them all.
fn splits(transitions: &DiGraph<TaskIndex, ()>, is_split: &[bool]) -> Vec<Vec<TaskIndex>> {
    let reach = Reach::of(transitions);
    let all: Vec<TaskIndex> = (0..is_split.len())
        .filter(|index| is_split[*index])
        .map(TaskIndex)
        .collect();
    (0..is_split.len())
        .map(TaskIndex)
        .map(|task| {
            let leading = all.iter().copied();
            leading
                .filter(|split| *split == task || reach.leads(*split, task))
                .collect()
        })
        .collect()
}

/// Which tasks may be visited more than once: those on cycles and splits, and what they lead to up to
/// a join of all that arrives.
fn repeats(
    draft: &Draft,
    transitions: &DiGraph<TaskIndex, ()>,
    in_cycle: &[bool],
    is_split: &[bool],
    splits: &[Vec<TaskIndex>],
) -> Vec<bool> {
    let mut repeats = vec![false; draft.tasks.len()];
    let mut open: Vec<usize> = (0..draft.tasks.len())
        .filter(|index| {
            let joins_routes = draft.tasks[*index].join.is_some() && !splits[*index].is_empty();
            in_cycle[*index] || is_split[*index] || joins_routes
        })
        .collect();
    while let Some(index) = open.pop() {
        if std::mem::replace(&mut repeats[index], true) {
            continue;
        }
        let next = transitions.neighbors(NodeIndex::new(index));
        open.extend(
            next.map(NodeIndex::index)
                .filter(|next| draft.tasks[*next].join.is_none()),
        );
    }
    repeats
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

/// A name in a list where no orders may stand.
fn unknown_task(reader: &mut Reader, target: &Target, by_name: &BTreeMap<String, TaskIndex>) {
    if reader.is_full() {
        return;
    }
    let message = format!("there is no task `{}`", target.name);
    let hint = did_you_mean(&target.name, by_name.keys().map(String::as_str));
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
