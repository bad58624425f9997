//! Which task can lead to which: asked after many events, so it is worked out once per definition,
//! one bit for each pair of tasks.

use petgraph::algo::tarjan_scc;
use petgraph::graph::{DiGraph, NodeIndex};

use crate::workflow::TaskIndex;

/// Which task leads to which, over any number of edges but at least one.
#[derive(Debug, Clone, Default)]
pub struct Reach {
    /// Of each task the set of those it leads to, 64 to a word.
    rows: Vec<Vec<u64>>,
}

impl Reach {
    /// Works it out for a graph whose node `i` is task `i`.
    #[must_use]
    pub fn of<E>(graph: &DiGraph<TaskIndex, E>) -> Self {
        let words = graph.node_count().div_ceil(64);
        let mut rows = vec![Vec::new(); graph.node_count()];
        // Components come with those first that others lead to.
        for component in tarjan_scc(graph) {
            let mut row = vec![0_u64; words];
            for node in &component {
                for next in graph.neighbors(*node) {
                    set(&mut row, next);
                    for (word, more) in row.iter_mut().zip(&rows[next.index()]) {
                        *word |= *more;
                    }
                }
            }
            for node in component {
                rows[node.index()] = row.clone();
            }
        }
        Self { rows }
    }

    /// Whether `from` leads to `to`; to itself only on a cycle.
    #[must_use]
    pub fn leads(&self, from: TaskIndex, to: TaskIndex) -> bool {
        self.rows
            .get(from.0)
            .and_then(|row| row.get(to.0 / 64))
            .is_some_and(|word| word >> (to.0 % 64) & 1 == 1)
    }
}

fn set(row: &mut [u64], node: NodeIndex) {
    row[node.index() / 64] |= 1 << (node.index() % 64);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(tasks: usize, edges: &[(usize, usize)]) -> Reach {
        let mut graph = DiGraph::<TaskIndex, ()>::new();
        let nodes: Vec<NodeIndex> = (0..tasks)
            .map(|index| graph.add_node(TaskIndex(index)))
            .collect();
        for (from, to) in edges {
            graph.update_edge(nodes[*from], nodes[*to], ());
        }
        Reach::of(&graph)
    }

    fn pairs(reach: &Reach, tasks: usize) -> Vec<(usize, usize)> {
        let all = (0..tasks).flat_map(|from| (0..tasks).map(move |to| (from, to)));
        all.filter(|(from, to)| reach.leads(TaskIndex(*from), TaskIndex(*to)))
            .collect()
    }

    #[test]
    fn a_chain_leads_forward_only() {
        let reach = graph(3, &[(0, 1), (1, 2)]);
        assert_eq!(pairs(&reach, 3), [(0, 1), (0, 2), (1, 2)]);
    }

    #[test]
    fn what_lies_on_a_cycle_leads_to_itself() {
        let reach = graph(4, &[(0, 1), (1, 2), (2, 1), (2, 3), (3, 3)]);
        let expected = [
            (0, 1),
            (0, 2),
            (0, 3),
            (1, 1),
            (1, 2),
            (1, 3),
            (2, 1),
            (2, 2),
            (2, 3),
            (3, 3),
        ];
        assert_eq!(pairs(&reach, 4), expected);
    }

    #[test]
    fn there_is_room_for_many_tasks() {
        let edges: Vec<(usize, usize)> = (0..199).map(|at| (at, at + 1)).collect();
        let reach = graph(200, &edges);
        assert_eq!(pairs(&reach, 200).len(), 200 * 199 / 2);
        assert!(!reach.leads(TaskIndex(0), TaskIndex(200)));
    }
}
