//! Reads the top level of a definition.

use std::sync::Arc;

use super::draft::{DraftTask, Target};
use super::parallel::{self, Parts};
use super::reader::{Fields, Reader, Site, is_reference};
use super::routes;
use super::task::{self, Least, bounded, variable_name};
use super::text::did_you_mean;
use super::tree::{Node, Place, Value};
use crate::expression::ValueTemplate;
use crate::output::OutputSchema;
use crate::parameters::ParameterSchema;
use crate::workflow::{
    CancellationPolicy, DEFAULT_MAX_ITEMS, DEFAULT_RUNS_PER_TASK, FailPolicy, MOST_ITEMS,
    MOST_RUNS_PER_TASK,
};

/// Most tasks of a definition.
const TASK_LIMIT: usize = 1_000;

/// The keys of the top level.
pub(super) const KNOWN: [&str; 18] = [
    "ref",
    "label",
    "version",
    "description",
    "tags",
    "parameters",
    "vars",
    "timeout",
    "tasks",
    "output",
    "output_map",
    "max_items",
    "start",
    "finally",
    "fail_policy",
    "cancellation_policy",
    "cancel_grace",
    "max_runs_per_task",
];
/// Named templates, in the order of the file.
pub(super) type Entries = Vec<(Arc<str>, ValueTemplate)>;

/// A definition that has been read.
pub(super) struct Draft {
    pub reference: String,
    pub version: String,
    pub parameters: ParameterSchema,
    pub vars: Entries,
    pub timeout: Option<f64>,
    pub tasks: Vec<DraftTask>,
    pub output: Option<Entries>,
    pub output_schema: Option<OutputSchema>,
    pub max_items: u32,
    pub start: Option<Vec<Target>>,
    pub finally: Vec<Target>,
    pub policies: Policies,
    /// Where the list of tasks stands.
    pub tasks_place: Place,
}

/// What happens to the rest when something fails or a user cancels.
pub(super) struct Policies {
    pub fail: FailPolicy,
    pub cancellation: CancellationPolicy,
    pub cancel_grace: Option<f64>,
    pub max_runs_per_task: u32,
}

/// Reads the document.
pub(super) fn read(reader: &mut Reader, node: &Node) -> Option<Draft> {
    let fields = reader.fields(node, "", &KNOWN, &[])?;
    let reference = reference(reader, fields, node);
    let version = fields
        .get("version")
        .and_then(|node| reader.text(node, "version"));
    for name in ["label", "description"] {
        fields.get(name).and_then(|node| reader.text(node, name));
    }
    if let Some(node) = fields.get("tags") {
        for (index, tag) in reader
            .list(node, "tags", "a list of texts")
            .iter()
            .enumerate()
        {
            reader.text(tag, &format!("tags[{index}]"));
        }
    }
    let parameters = match fields.get("parameters") {
        Some(node) => super::parameters::read(reader, node),
        None => super::parameters::none(),
    };
    let vars = fields
        .get("vars")
        .map_or_else(Vec::new, |node| entries(reader, node, "vars", Site::Vars));
    let (tasks, tasks_place) = tasks(reader, fields, node);
    let output = fields
        .get("output_map")
        .map(|node| entries(reader, node, "output_map", Site::Output));
    let mut draft = Draft {
        reference,
        version: version.unwrap_or("0.0.0").to_owned(),
        parameters,
        vars,
        timeout: task::seconds(reader, fields, "", "timeout", Least::Above(0.0)),
        tasks,
        output_schema: super::output::read(reader, fields),
        output,
        max_items: count(reader, fields, "max_items", DEFAULT_MAX_ITEMS, MOST_ITEMS),
        start: fields.get("start").map(|node| named(reader, node, "start")),
        finally: fields
            .get("finally")
            .map_or_else(Vec::new, |node| named(reader, node, "finally")),
        policies: policies(reader, fields),
        tasks_place,
    };
    parallel::redirect(reader, &mut draft);
    Some(draft)
}

/// A whole number from 1 to `most`.
fn count(reader: &mut Reader, fields: Fields, name: &str, default: u32, most: u32) -> u32 {
    let Some(node) = fields.get(name) else {
        return default;
    };
    let number = match &node.value {
        Value::Number(text) => text.parse().ok(),
        Value::Null | Value::Bool(_) | Value::Text(_) | Value::List(_) | Value::Map(_) => None,
    };
    number
        .filter(|number| (1..=most).contains(number))
        .unwrap_or_else(|| {
            reader.wrong_type(node, name, &format!("a whole number from 1 to {most}"));
            default
        })
}

/// A list of tasks, at least one.
fn named(reader: &mut Reader, node: &Node, path: &str) -> Vec<Target> {
    if matches!(&node.value, Value::List(items) if items.is_empty()) {
        let message = format!("`{path}` names at least one task");
        reader.error("invalid_value", &node.place, path, message);
    }
    routes::names(reader, node, path)
}

fn policies(reader: &mut Reader, fields: Fields) -> Policies {
    let fail = [
        ("drain", FailPolicy::Drain),
        ("continue", FailPolicy::Continue),
        ("cancel", FailPolicy::Cancel),
    ];
    let cancellation = [
        ("cancel_running", CancellationPolicy::CancelRunning),
        ("allow_finish", CancellationPolicy::AllowFinish),
    ];
    let (most, default) = (MOST_RUNS_PER_TASK, DEFAULT_RUNS_PER_TASK);
    Policies {
        fail: one_of(reader, fields, "fail_policy", &fail),
        cancellation: one_of(reader, fields, "cancellation_policy", &cancellation),
        cancel_grace: fields
            .get("cancel_grace")
            .and_then(|node| bounded(reader, node, "cancel_grace", Least::From(0.0))),
        max_runs_per_task: count(reader, fields, "max_runs_per_task", default, most),
    }
}

/// What one of some words stands for; of an absent field, the first.
fn one_of<T: Copy>(reader: &mut Reader, fields: Fields, name: &str, words: &[(&str, T)]) -> T {
    let found = fields.get(name).and_then(|node| {
        let text = reader.text(node, name)?;
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
            return Some(*value);
        }
        let list: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let message = format!("`{name}` is one of {}, not `{text}`", list.join(", "));
        let hint = did_you_mean(text, list);
        reader
            .error("invalid_value", &node.place, name, message)
            .hint = hint;
        None
    });
    found.unwrap_or(words[0].1)
}

fn reference(reader: &mut Reader, fields: Fields, node: &Node) -> String {
    let Some(node) = fields.get("ref") else {
        let mut place = node.place.clone();
        place.span.end = place.span.start;
        reader.error(
            "missing_key",
            &place,
            "",
            "a workflow needs a `ref`, `pack.name`",
        );
        return String::new();
    };
    let Some(text) = reader.text(node, "ref") else {
        return String::new();
    };
    if !is_reference(text) {
        let message = format!("the ref `{text}` does not have the form `pack.name`");
        reader.error("invalid_ref", &node.place, "ref", message);
    }
    text.to_owned()
}

fn entries(reader: &mut Reader, node: &Node, path: &str, site: fn(usize) -> Site) -> Entries {
    let mut entries = Vec::new();
    for (index, (key, node)) in reader.map(node, path).iter().enumerate() {
        let path = format!("{path}.{}", key.text);
        variable_name(reader, &key.text, &key.place, &path);
        entries.push((
            Arc::from(key.text.as_str()),
            reader.value(node, &path, site(index)),
        ));
    }
    entries
}

fn tasks(reader: &mut Reader, fields: Fields, node: &Node) -> (Vec<DraftTask>, Place) {
    let Some((key, tasks)) = fields.entry("tasks") else {
        let mut place = node.place.clone();
        place.span.end = place.span.start;
        reader.error("missing_key", &place, "", "a workflow needs `tasks`");
        return (Vec::new(), place);
    };
    let items = reader.list(tasks, "tasks", "a list of tasks");
    if items.is_empty() && matches!(tasks.value, Value::List(_)) {
        reader.error(
            "missing_key",
            &key.place,
            "tasks",
            "a workflow needs at least one task",
        );
    }
    if items.len() > TASK_LIMIT {
        let message = format!(
            "a workflow has at most {TASK_LIMIT} tasks, this one {}",
            items.len()
        );
        reader.error("too_many_tasks", &key.place, "tasks", message);
        return (Vec::new(), key.place.clone());
    }
    let mut read = Vec::new();
    let mut parts = Parts::after(items.len());
    for (index, item) in items.iter().enumerate() {
        // A task that is none keeps its place, so that all others keep their position.
        let task = task::read(reader, item, index, &mut parts);
        read.push(task.unwrap_or_else(|| DraftTask::empty(&item.place)));
    }
    read.append(&mut parts.tasks);
    if read.len() > TASK_LIMIT {
        let message = format!(
            "a workflow has at most {TASK_LIMIT} tasks, this one {} with those that its parallel \
             tasks are made of",
            read.len()
        );
        reader.error("too_many_tasks", &key.place, "tasks", message);
    }
    (read, key.place.clone())
}
