//! Reads the top level of a definition.

use std::sync::Arc;

use super::draft::DraftTask;
use super::reader::{Fields, Reader, Site, is_reference};
use super::task::{self, Least, variable_name};
use super::tree::{Node, Place, Value};
use crate::expression::ValueTemplate;
use crate::output::OutputSchema;
use crate::parameters::ParameterSchema;
use crate::workflow::{DEFAULT_MAX_ITEMS, MOST_ITEMS};

/// Most tasks of a definition.
const TASK_LIMIT: usize = 1_000;

const KNOWN: [&str; 12] = [
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
];
const LATER: [&str; 6] = [
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
    /// Where the list of tasks stands.
    pub tasks_place: Place,
}

/// Reads the document.
pub(super) fn read(reader: &mut Reader, node: &Node) -> Option<Draft> {
    let fields = reader.fields(node, "", &KNOWN, &LATER)?;
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
    Some(Draft {
        reference,
        version: version.unwrap_or("0.0.0").to_owned(),
        parameters,
        vars,
        timeout: task::seconds(reader, fields, "", "timeout", Least::Above(0.0)),
        tasks,
        output_schema: super::output::read(reader, fields),
        output,
        max_items: max_items(reader, fields),
        tasks_place,
    })
}

fn max_items(reader: &mut Reader, fields: Fields) -> u32 {
    let Some(node) = fields.get("max_items") else {
        return DEFAULT_MAX_ITEMS;
    };
    let number = match &node.value {
        Value::Number(text) => text.parse().ok(),
        Value::Null | Value::Bool(_) | Value::Text(_) | Value::List(_) | Value::Map(_) => None,
    };
    number
        .filter(|number| (1..=MOST_ITEMS).contains(number))
        .unwrap_or_else(|| {
            let expected = format!("a whole number from 1 to {MOST_ITEMS}");
            reader.wrong_type(node, "max_items", &expected);
            DEFAULT_MAX_ITEMS
        })
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
    for (index, item) in items.iter().enumerate() {
        // A task that is none keeps its place, so that all others keep their position.
        read.push(task::read(reader, item, index).unwrap_or_else(|| DraftTask::empty(&item.place)));
    }
    (read, key.place.clone())
}
