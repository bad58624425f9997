//! Reads a task of `type: parallel`, and makes tasks of it that the graph can have: `p:fork`, which is
//! entered in its place; its children `p/child`; and the task `p` itself, which joins them and has what
//! follows. No name of a file holds `:` or `/`, so these names cannot clash.

use std::collections::BTreeMap;

use super::check::Read;
use super::document::Draft;
use super::draft::{DraftParallel, DraftRoute, DraftRoutes, DraftTask, Target};
use super::reader::{Fields, Moment, Reader, Site, join};
use super::tree::{Node, Place, Value};
use super::{entry, kind, routes, task};
use crate::expression::{Compiled, Condition};
use crate::workflow::{Join, On, TaskIndex};

/// What belongs to an attempt, which a parallel task does not have; and to a time limit.
const OF_ACTIONS: [&str; 14] = [
    "action",
    "input",
    "with_items",
    "batch_size",
    "concurrency",
    "tolerate",
    "on_item_failure",
    "retry",
    "timeout",
    "total_timeout",
    "heartbeat",
    "pool",
    "max_redeliveries",
    "on_timeout",
];
/// What says how a task is entered and what follows it, which a child does not have.
const OF_ROUTES: [&str; 10] = [
    "on_success",
    "on_failure",
    "on_timeout",
    "on_complete",
    "decision",
    "next",
    "join",
    "needs",
    "rule",
    "tasks",
];

/// Tasks that parallel ones are made of. They stand after those of the file, which keep their positions.
pub(super) struct Parts {
    before: usize,
    pub tasks: Vec<DraftTask>,
}

impl Parts {
    /// None so far, after so many tasks of the file.
    pub(super) fn after(before: usize) -> Self {
        Self {
            before,
            tasks: Vec::new(),
        }
    }

    fn next(&self) -> usize {
        self.before + self.tasks.len()
    }
}

/// The parallel task under way.
struct Whole<'n> {
    fields: Fields<'n>,
    path: &'n str,
    name: &'n str,
    place: &'n Place,
}

/// Reads the parallel task at `index`.
pub(super) fn read(
    reader: &mut Reader,
    fields: Fields,
    path: &str,
    index: usize,
    (name, place): (String, Place),
    parts: &mut Parts,
) -> DraftTask {
    refuse(reader, fields, path, &OF_ACTIONS, |key| {
        format!(
            "a parallel task runs no action, so `{key}` has no place here: its children have it"
        )
    });
    let whole = Whole {
        fields,
        path,
        name: &name,
        place: &place,
    };
    let fork = TaskIndex(parts.next());
    let read = whole.fork(reader, fork.0);
    parts.tasks.push(read);
    let children = whole.children(reader, parts);
    let ways = whole.ways(&children);
    parts.tasks[fork.0 - parts.before].routes = ways;
    let publish = task::field(fields, path, "publish").map_or_else(Vec::new, |(node, path)| {
        task::publish(reader, node, &path, |entry| {
            Site::Task(index, Moment::Publish(entry))
        })
    });
    let (routes, handles_timeout) = routes::read(reader, fields, path, index);
    DraftTask {
        join: (!children.is_empty()).then(|| (Join::All, place.clone())),
        ignore_failure: task::flag(reader, fields, path, "ignore_failure"),
        path: path.to_owned(),
        publish,
        routes,
        handles_timeout,
        parallel: Some(DraftParallel { fork, children }),
        name,
        ..DraftTask::empty(&place)
    }
}

impl Whole<'_> {
    /// What is entered: it has the guard and all that says when the task is due.
    fn fork(&self, reader: &mut Reader, index: usize) -> DraftTask {
        DraftTask {
            name: fork_name(self.name),
            path: self.path.to_owned(),
            when: task::when(reader, self.fields, self.path, index),
            delay: task::delay(reader, self.fields, self.path, index),
            join: entry::join_of(reader, self.fields, self.path),
            needs: entry::needs(reader, self.fields, self.path),
            is_part: true,
            ..DraftTask::empty(self.place)
        }
    }

    fn children(&self, reader: &mut Reader, parts: &mut Parts) -> Vec<(String, TaskIndex)> {
        let mut children = Vec::new();
        let Some((node, path)) = task::field(self.fields, self.path, "tasks") else {
            let message = "a parallel task needs `tasks`, its children";
            reader.error("missing_key", self.place, self.path, message);
            return children;
        };
        let items = reader.list(node, &path, "a list of tasks");
        if items.is_empty() && matches!(node.value, Value::List(_)) {
            let message = "a parallel task needs at least one child";
            reader.error("missing_key", &node.place, &path, message);
        }
        for (position, item) in items.iter().enumerate() {
            let path = format!("{path}[{position}]");
            let index = parts.next();
            if let Some(child) = self.child(reader, item, &path, index) {
                children.push((child.0, TaskIndex(index)));
                parts.tasks.push(child.1);
            }
        }
        children
    }

    fn child(
        &self,
        reader: &mut Reader,
        node: &Node,
        path: &str,
        index: usize,
    ) -> Option<(String, DraftTask)> {
        let fields = task::fields(reader, node, path)?;
        refuse(reader, fields, path, &OF_ROUTES, |key| {
            format!(
                "a child of a parallel task has no `{key}`: the task is entered, and left, as a whole"
            )
        });
        let (name, place) = task::name(reader, fields, node, path);
        let kind = kind::kind(reader, fields, path);
        if kind == kind::Kind::Parallel {
            let message = "a child of a parallel task is not parallel itself";
            let path = join(path, "type");
            reader.error("invalid_value", &place, &path, message);
        }
        let read = task::read_fields(reader, fields, path, (index, kind), (name.clone(), place));
        let child = DraftTask {
            name: format!("{}/{name}", self.name),
            routes: DraftRoutes {
                branches: None,
                routes: vec![self.way(On::Complete, 0, vec![self.name.to_owned()])],
            },
            join: None,
            needs: None,
            is_part: true,
            ..read
        };
        Some((name, child))
    }

    /// Where the fork leads: to the children, or past them.
    fn ways(&self, children: &[(String, TaskIndex)]) -> DraftRoutes {
        let names = children
            .iter()
            .map(|(child, _)| format!("{}/{child}", self.name))
            .collect();
        let is_certain = ["when", "delay"]
            .iter()
            .all(|key| self.fields.get(key).is_none());
        let routes = if is_certain {
            vec![self.way(On::Complete, 0, names)]
        } else {
            vec![
                self.way(status("=="), 0, names),
                self.way(status("!="), 1, vec![self.name.to_owned()]),
            ]
        };
        DraftRoutes {
            branches: None,
            routes,
        }
    }

    fn way(&self, on: On, list: usize, names: Vec<String>) -> DraftRoute {
        let targets = names.into_iter().map(|name| Target {
            name,
            place: self.place.clone(),
            path: self.path.to_owned(),
        });
        DraftRoute {
            on,
            publish: Vec::new(),
            targets: targets.collect(),
            list,
        }
    }
}

/// A comparison of the status with that of a success which was no skip.
fn status(comparison: &str) -> On {
    let text = format!("{{{{ status() {comparison} 'succeeded' }}}}");
    let (compiled, _) = Compiled::new(&text).expect("the expression is well formed");
    On::When(Condition::compiled(compiled))
}

fn fork_name(name: &str) -> String {
    format!("{name}:fork")
}

fn refuse(
    reader: &mut Reader,
    fields: Fields,
    path: &str,
    keys: &[&str],
    message: impl Fn(&str) -> String,
) {
    for (key, _) in fields
        .0
        .iter()
        .filter(|(key, _)| keys.contains(&key.text.as_str()))
    {
        let path = join(path, &key.text);
        reader.error("misplaced_key", &key.place, &path, message(&key.text));
    }
}

/// Lets what leads to a parallel task lead to its fork, and refuses names that only parts have.
pub(super) fn redirect(reader: &mut Reader, draft: &mut Draft) {
    let forks: BTreeMap<String, String> = draft
        .tasks
        .iter()
        .filter(|task| task.parallel.is_some())
        .map(|task| (task.name.clone(), fork_name(&task.name)))
        .collect();
    for target in &draft.finally {
        if forks.contains_key(&target.name) {
            let message = format!("`{}` is parallel, so it is not of `finally`", target.name);
            reader.error("misplaced_finally", &target.place, &target.path, message);
        }
    }
    let is_parallel = |target: &Target| forks.contains_key(&target.name);
    draft.finally.retain(|target| !is_parallel(target));
    let lists = draft.tasks.iter().filter_map(|task| task.needs.as_ref());
    let needs = lists.flat_map(|needs| &needs.targets);
    for target in needs.chain(&draft.finally) {
        refuse_part(reader, target);
    }
    let whole = draft.tasks.iter_mut().filter(|task| !task.is_part);
    let routes = whole.flat_map(|task| task.routes.targets_mut());
    for target in routes.chain(draft.start.iter_mut().flatten()) {
        refuse_part(reader, target);
        if let Some(fork) = forks.get(&target.name) {
            target.name.clone_from(fork);
        }
    }
}

fn refuse_part(reader: &mut Reader, target: &Target) {
    if target.name.contains([':', '/']) {
        let message = format!(
            "`{}` is a part of a parallel task, which is entered, and left, as a whole",
            target.name
        );
        reader.error("unknown_target", &target.place, &target.path, message);
    }
}

/// What a parallel task ends with is read of how its parts have ended.
pub(super) fn watch(draft: &Draft, read: &mut Read) {
    for parallel in draft.tasks.iter().filter_map(|task| task.parallel.as_ref()) {
        read.watched.insert(parallel.fork);
        let children = parallel.children.iter();
        read.watched.extend(children.map(|(_, child)| *child));
    }
}
