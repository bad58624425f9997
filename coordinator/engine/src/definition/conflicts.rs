//! Warns where branches that a task brings together have written the same variable: which value stays,
//! the order of their arrivals decides.

use std::collections::{BTreeMap, BTreeSet};

use super::document::Draft;
use super::graph::Graph;
use super::reader::Reader;
use crate::workflow::{Join, Publish, TaskIndex};

/// A place that writes: a task, and its list of routes, or `None` for its own `publish`.
type Writer = (TaskIndex, Option<usize>);

/// Places that are looked at in all, each at most once for each way into a task; of a larger definition
/// nothing is warned.
const MOST_STEPS: usize = 5_000_000;

/// A place that writes, and what.
struct Place<'d> {
    writer: Writer,
    /// Where the branch goes on from there; `None`: the task itself writes.
    targets: Option<Vec<TaskIndex>>,
    publish: &'d [Publish],
}

/// Looks at every task that brings branches together which are all taken.
pub(super) fn warn(reader: &mut Reader, draft: &Draft, graph: &Graph) {
    if reader.is_full() {
        return;
    }
    let places = places(draft, graph);
    let joined = |index: usize| graph.predecessors[index].len() + graph.needs[index].len();
    let branches: usize = (0..draft.tasks.len()).map(joined).sum();
    if branches.saturating_mul(places.len()) > MOST_STEPS {
        return;
    }
    for (index, task) in draft.tasks.iter().enumerate() {
        let index = TaskIndex(index);
        let joined = match (&task.join, &task.needs) {
            (Some((Join::All, _)), _) => &graph.predecessors[index.0],
            (Some((Join::Count(count), _)), _) if *count > 1 => &graph.predecessors[index.0],
            // Where one branch of several is taken, none of them is in the way of another.
            (Some((Join::Count(_) | Join::Active, _)), _) | (None, None) => continue,
            (None, Some(_)) => &graph.needs[index.0],
        };
        let writers: Vec<BTreeMap<&str, BTreeSet<Writer>>> = joined
            .iter()
            .map(|from| writers(&places, graph, *from, index))
            .collect();
        if let Some(name) = conflict(&writers) {
            let message = format!(
                "several of the branches that `{}` brings together write `{name}`: the one that \
                 arrives last wins",
                task.name
            );
            let warning = reader.warning("conflicting_writes", &task.place, &task.path, message);
            warning.hint =
                Some("publish under names of their own, and choose behind it".to_owned());
        }
    }
}

/// All places that write.
fn places<'d>(draft: &'d Draft, graph: &Graph) -> Vec<Place<'d>> {
    let mut places = Vec::new();
    for (index, task) in draft.tasks.iter().enumerate() {
        let index = TaskIndex(index);
        places.push(Place {
            writer: (index, None),
            targets: None,
            publish: &task.publish,
        });
        for (no, (targets, publish, _)) in task.routes.ways().enumerate() {
            let targets = targets
                .iter()
                .filter_map(|target| graph.by_name.get(&target.name));
            places.push(Place {
                writer: (index, Some(no)),
                targets: Some(targets.copied().collect()),
                publish,
            });
        }
    }
    places.retain(|place| !place.publish.is_empty());
    places
}

/// By variable, who writes it on the way to `to` by way of `from`.
fn writers<'d>(
    places: &[Place<'d>],
    graph: &Graph,
    from: TaskIndex,
    to: TaskIndex,
) -> BTreeMap<&'d str, BTreeSet<Writer>> {
    let mut found: BTreeMap<&str, BTreeSet<Writer>> = BTreeMap::new();
    let leads = |task: TaskIndex| task == from || graph.reach.leads(task, from);
    for place in places {
        let (task, _) = place.writer;
        let is_passed = match &place.targets {
            None => leads(task),
            Some(targets) => targets
                .iter()
                .any(|target| leads(*target) || task == from && *target == to),
        };
        if is_passed {
            for entry in place.publish {
                found.entry(&entry.name).or_default().insert(place.writer);
            }
        }
    }
    found
}

/// A name that two branches have each written where the other has not been.
fn conflict<'d>(branches: &[BTreeMap<&'d str, BTreeSet<Writer>>]) -> Option<&'d str> {
    for (at, one) in branches.iter().enumerate() {
        for (name, writers) in one {
            let is_in_conflict = branches[at + 1..].iter().any(|other| {
                other
                    .get(name)
                    .is_some_and(|others| !writers.is_subset(others) && !others.is_subset(writers))
            });
            if is_in_conflict {
                return Some(name);
            }
        }
    }
    None
}
