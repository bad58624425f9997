//! Warns of what has no effect: a variable that nothing reads, a time limit that a shorter one makes
//! void. These need the places of single keys, so they look at the tree.

use std::collections::BTreeSet;

use super::check::Read;
use super::document::Draft;
use super::reader::{Fields, Reader, join};
use super::tree::{Node, Place, Value};
use crate::diagnostic::{Diagnostic, Severity};

/// Looks at a definition without errors: what is misspelt is not read, either.
pub(super) fn warn(reader: &mut Reader, node: &Node, draft: &Draft, read: &Read) {
    let Value::Map(entries) = &node.value else {
        return;
    };
    let is_error = |found: &Diagnostic| found.severity == Severity::Error;
    if reader.diagnostics.iter().any(is_error) {
        return;
    }
    let fields = Fields(entries);
    unused(reader, fields, draft, read);
    if let Some(timeout) = draft.timeout {
        void_limits(reader, fields, timeout);
    }
}

/// Without `output_map` the variables that tasks publish are what an execution gives, so they are of
/// use where nothing reads them; with it, only what is read is.
fn unused(reader: &mut Reader, fields: Fields, draft: &Draft, read: &Read) {
    if read.all_variables {
        return;
    }
    let mut published = Vec::new();
    for (task, path) in tasks(fields) {
        of_task(task, &path, &mut published);
    }
    let mut seen: BTreeSet<&str> = BTreeSet::new();
    let is_given: BTreeSet<&str> = published.iter().map(|found| found.name).collect();
    let mut assigned = Vec::new();
    if let Some(node) = fields.get("vars") {
        keys(node, "vars", &mut assigned);
    }
    assigned.extend(published);
    for found in assigned {
        let is_read = read.variables.contains(found.name);
        let is_given = draft.output.is_none() && is_given.contains(found.name);
        if is_read || is_given || !seen.insert(found.name) {
            continue;
        }
        let message = format!("nothing reads the variable `{}`", found.name);
        let hint = format!("remove it, or read vars.{} where it was meant", found.name);
        reader
            .warning("unused_variable", found.place, &found.path, message)
            .hint = Some(hint);
    }
}

/// A place that gives a variable its value.
struct Assigned<'n> {
    name: &'n str,
    place: &'n Place,
    path: String,
}

/// The tasks of the top level that are objects.
fn tasks<'n>(fields: Fields<'n>) -> Vec<(Fields<'n>, String)> {
    let Some(tasks) = fields.get("tasks") else {
        return Vec::new();
    };
    objects(tasks, "tasks").collect()
}

/// The objects of a list.
fn objects<'n>(node: &'n Node, path: &str) -> impl Iterator<Item = (Fields<'n>, String)> {
    let items: &[Node] = match &node.value {
        Value::List(items) => items,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text(_) | Value::Map(_) => &[],
    };
    items
        .iter()
        .enumerate()
        .filter_map(move |(index, item)| match &item.value {
            Value::Map(entries) => Some((Fields(entries), format!("{path}[{index}]"))),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text(_) | Value::List(_) => {
                None
            }
        })
}

fn of_task<'n>(task: Fields<'n>, path: &str, found: &mut Vec<Assigned<'n>>) {
    publish(task, path, found);
    for name in ["decision", "next"] {
        if let Some(node) = task.get(name) {
            for (entry, path) in objects(node, &join(path, name)) {
                publish(entry, &path, found);
            }
        }
    }
}

fn publish<'n>(fields: Fields<'n>, path: &str, found: &mut Vec<Assigned<'n>>) {
    let Some(Node {
        value: Value::List(items),
        ..
    }) = fields.get("publish")
    else {
        return;
    };
    for (index, item) in items.iter().enumerate() {
        let path = format!("{path}.publish[{index}]");
        match &item.value {
            Value::Text(name) => found.push(Assigned {
                name,
                place: &item.place,
                path,
            }),
            Value::Map(_) => keys(item, &path, found),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::List(_) => {}
        }
    }
}

fn keys<'n>(node: &'n Node, path: &str, found: &mut Vec<Assigned<'n>>) {
    let Value::Map(entries) = &node.value else {
        return;
    };
    found.extend(entries.iter().map(|(key, _)| Assigned {
        name: &key.text,
        place: &key.place,
        path: join(path, &key.text),
    }));
}

/// Limits of tasks that the limit of the workflow comes before.
fn void_limits(reader: &mut Reader, fields: Fields, whole: f64) {
    for (task, path) in tasks(fields) {
        for name in ["timeout", "total_timeout"] {
            let Some(node) = task.get(name) else {
                continue;
            };
            let Value::Number(text) = &node.value else {
                continue;
            };
            if !text.parse().is_ok_and(|seconds: f64| seconds > whole) {
                continue;
            }
            let message = format!(
                "this limit is never reached: the whole workflow ends after {whole} seconds"
            );
            let path = join(&path, name);
            let warning = reader.warning("void_limit", &node.place, &path, message);
            warning.hint =
                Some("raise the `timeout` of the workflow, or lower this one".to_owned());
        }
    }
}
