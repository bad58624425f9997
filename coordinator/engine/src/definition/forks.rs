//! Which tasks two branches may enter that are both taken: then a task without `join` runs twice.
//!
//! Of each task (and of the start) it is worked out which of its transitions may be taken together. Two
//! of them enter a task by themselves if no other task lies on every way there: that is a question for
//! dominators.

use petgraph::algo::dominators::simple_fast;
use petgraph::graph::{DiGraph, NodeIndex};
use petgraph::visit::{EdgeRef, NodeFiltered};

use super::document::Draft;
use super::draft::{DraftRoute, DraftTask, Target};
use super::graph::Graph;
use crate::workflow::{On, TaskIndex};

/// Edges that are looked at in all; a larger graph is not asked, and every task that several
/// transitions lead to counts.
const MOST_STEPS: usize = 5_000_000;

/// By task, whether parallel branches may enter it.
pub(super) fn entered(draft: &Draft, graph: &Graph) -> Vec<bool> {
    let is_asked = &graph.is_split;
    if !is_asked.contains(&true) {
        return is_asked.clone();
    }
    let forks = forks(draft, graph);
    if forks.len().saturating_mul(graph.graph.edge_count()) > MOST_STEPS {
        return is_asked.clone();
    }
    let mut search = Search {
        graph: graph.graph.map(|_, _| (), |_, ()| ()),
        root: NodeIndex::end(),
        entered: vec![false; is_asked.len()],
    };
    search.root = search.graph.add_node(());
    for (from, targets) in &forks {
        search.fork(*from, targets, is_asked);
    }
    search.entered
}

/// Targets that are entered together, and the task that leads to them; `None`: the start.
type Fork = (Option<TaskIndex>, Vec<TaskIndex>);

fn forks(draft: &Draft, graph: &Graph) -> Vec<Fork> {
    let mut forks = vec![(None, graph.starts.clone())];
    for (index, task) in draft.tasks.iter().enumerate() {
        let index = TaskIndex(index);
        for mut targets in together(task, graph) {
            targets.extend(&graph.needed_by[index.0]);
            forks.push((Some(index), targets));
        }
    }
    forks.retain(|(_, targets)| targets.len() > 1);
    forks
}

/// How a task may end, as far as its routes tell ends apart.
#[derive(Clone, Copy)]
enum End {
    /// With success, where this branch of its decision is taken.
    Success(Option<usize>),
    Failure,
    Timeout,
}

/// For each way in which a task may end: all that may be entered then.
fn together(task: &DraftTask, graph: &Graph) -> Vec<Vec<TaskIndex>> {
    let branches = task.routes.branches.as_deref().unwrap_or_default();
    let successes: Vec<End> = if branches.is_empty() {
        vec![End::Success(None)]
    } else {
        (0..branches.len())
            .map(|at| End::Success(Some(at)))
            .collect()
    };
    let ends = successes.into_iter().chain([End::Failure, End::Timeout]);
    let known = |target: &Target| graph.by_name.get(&target.name).copied();
    ends.map(|end| {
        let branch = match end {
            End::Success(Some(at)) => branches[at].targets.as_slice(),
            End::Success(None) | End::Failure | End::Timeout => &[],
        };
        let routes = task.routes.routes.iter();
        let routes = routes.filter(|route| may_follow(route, end));
        let targets = branch.iter().chain(routes.flat_map(|route| &route.targets));
        targets.filter_map(known).collect()
    })
    .collect()
}

/// Whether the route may be taken at such an end. Of a condition its beginning tells, where nothing
/// behind it can undo that.
fn may_follow(route: &DraftRoute, end: End) -> bool {
    let is_success = matches!(end, End::Success(_));
    match &route.on {
        On::Success => is_success,
        On::Failure => matches!(end, End::Failure),
        On::Timeout => matches!(end, End::Timeout),
        On::Complete => true,
        On::When(condition) => {
            let text = condition.text();
            let begins = |call: &str| {
                text == call || text.starts_with(&format!("{call} and ")) && !text.contains(" or ")
            };
            if begins("succeeded()") {
                is_success
            } else if begins("failed()") || begins("timed_out()") {
                !is_success
            } else {
                text != "false"
            }
        }
    }
}

struct Search {
    /// All edges, and a node that the fork under search leaves from.
    graph: DiGraph<(), ()>,
    root: NodeIndex,
    entered: Vec<bool>,
}

impl Search {
    /// Notes the tasks that two targets of a fork enter by ways of their own.
    fn fork(&mut self, from: Option<TaskIndex>, targets: &[TaskIndex], is_asked: &[bool]) {
        for target in targets {
            self.graph.add_edge(self.root, NodeIndex::new(target.0), ());
        }
        let from = from.map(|from| NodeIndex::new(from.0));
        let root = self.root;
        let rest = NodeFiltered::from_fn(&self.graph, |node| Some(node) != from);
        let dominators = simple_fast(&rest, root);
        for (index, entered) in self.entered.iter_mut().enumerate() {
            let node = NodeIndex::new(index);
            if !is_asked[index] || dominators.immediate_dominator(node) != Some(root) {
                continue;
            }
            let direct = targets.iter().filter(|target| target.0 == index).count();
            let mut before = self
                .graph
                .neighbors_directed(node, petgraph::Direction::Incoming)
                .filter(|before| *before != root && Some(*before) != from);
            *entered |= match direct {
                0 => true,
                1 => before.any(|before| dominators.dominators(before).is_some()),
                _ => true,
            };
        }
        // The last first: removing one gives its number to the last.
        let mut edges: Vec<_> = self.graph.edges(root).map(|edge| edge.id()).collect();
        edges.sort_unstable();
        for edge in edges.into_iter().rev() {
            self.graph.remove_edge(edge);
        }
    }
}
