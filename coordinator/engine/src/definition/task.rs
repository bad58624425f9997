//! Reads one task.

use flotilla_protocol::names::is_pool_name;

use super::draft::DraftTask;
use super::entry;
use super::kind::{Kind, demand_workflow, kind};
use super::parallel::Parts;
use super::reader::{Fields, Moment, Reader, Site, is_name, is_reference, join};
use super::routes;
use super::tree::{Node, Place, Value};
use crate::expression::{Condition, ValueTemplate};
use crate::json::Json;
use crate::pack::ActionDefaults;
use crate::workflow::Publish;

/// Seconds that an attempt of an action may run, where the file says nothing.
const DEFAULT_TIMEOUT_S: f64 = 300.0;
/// Redeliveries of a job whose workers die, where the file says nothing.
const DEFAULT_REDELIVERIES: u32 = 5;

/// The keys of a task.
pub(super) const KNOWN: [&str; 29] = [
    "name",
    "type",
    "action",
    "input",
    "publish",
    "on_success",
    "on_failure",
    "on_timeout",
    "on_complete",
    "decision",
    "next",
    "when",
    "retry",
    "timeout",
    "total_timeout",
    "heartbeat",
    "delay",
    "pool",
    "max_redeliveries",
    "join",
    "with_items",
    "batch_size",
    "concurrency",
    "tolerate",
    "on_item_failure",
    "needs",
    "rule",
    "ignore_failure",
    "tasks",
];

/// Reads the task at `index`, and what it is made of.
pub(super) fn read(
    reader: &mut Reader,
    node: &Node,
    index: usize,
    parts: &mut Parts,
) -> Option<DraftTask> {
    let path = format!("tasks[{index}]");
    let fields = fields(reader, node, &path)?;
    let named = name(reader, fields, node, &path);
    let kind = kind(reader, fields, &path);
    if kind == Kind::Parallel {
        let read = super::parallel::read(reader, fields, &path, index, named, parts);
        return Some(read);
    }
    if let Some((key, _)) = fields.entry("tasks") {
        let path = join(&path, "tasks");
        let message = "only a task of `type: parallel` has `tasks`";
        reader.error("misplaced_key", &key.place, &path, message);
    }
    Some(read_fields(reader, fields, &path, (index, kind), named))
}

/// The fields of what shall be a task.
pub(super) fn fields<'n>(reader: &mut Reader, node: &'n Node, path: &str) -> Option<Fields<'n>> {
    reader.fields(node, path, &KNOWN, &[])
}

/// Reads a task that is not parallel.
pub(super) fn read_fields(
    reader: &mut Reader,
    fields: Fields,
    path: &str,
    (index, kind): (usize, Kind),
    (name, place): (String, Place),
) -> DraftTask {
    let before = Site::Task(index, Moment::Before);
    let action = action(reader, fields, path, before);
    let defaults = defaults(reader, fields);
    let is_workflow = kind == Kind::Workflow;
    if is_workflow {
        demand_workflow(reader, fields, path, &place);
    }
    let has_timeout = action.is_some() && !is_workflow;
    let timeout = timeout(reader, fields, path, before, has_timeout, &defaults);
    let when = when(reader, fields, path, index);
    let retry = field(fields, path, "retry")
        .and_then(|(node, path)| super::retry::read(reader, node, &path, index));
    let publish = field(fields, path, "publish").map_or_else(Vec::new, |(node, path)| {
        publish(reader, node, &path, |entry| {
            Site::Task(index, Moment::Publish(entry))
        })
    });
    let (routes, handles_timeout) = routes::read(reader, fields, path, index);
    DraftTask {
        delay: delay(reader, fields, path, index),
        total_timeout: seconds(reader, fields, path, "total_timeout", Least::Above(0.0)),
        heartbeat: seconds(reader, fields, path, "heartbeat", Least::From(1.0)),
        input: input(reader, fields, path, before),
        pool: pool(reader, fields, path, defaults.pool),
        max_redeliveries: redeliveries(reader, fields, path),
        join: entry::join_of(reader, fields, path),
        needs: entry::needs(reader, fields, path),
        ignore_failure: flag(reader, fields, path, "ignore_failure"),
        items: super::items::read(reader, fields, path, index),
        path: path.to_owned(),
        parallel: None,
        is_part: false,
        action_place: fields
            .get("action")
            .map_or_else(|| place.clone(), |node| node.place.clone()),
        name,
        place,
        action,
        is_workflow,
        when,
        retry,
        timeout,
        publish,
        routes,
        handles_timeout,
    }
}

/// The guard.
pub(super) fn when(
    reader: &mut Reader,
    fields: Fields,
    path: &str,
    index: usize,
) -> Option<Condition> {
    let (node, path) = field(fields, path, "when")?;
    let site = Site::Task(index, Moment::Items);
    let (condition, _) = reader.condition(node, &path, site)?;
    Some(condition)
}

pub(super) fn field<'n>(fields: Fields<'n>, path: &str, name: &str) -> Option<(&'n Node, String)> {
    fields.get(name).map(|node| (node, join(path, name)))
}

pub(super) fn name(
    reader: &mut Reader,
    fields: Fields,
    task: &Node,
    path: &str,
) -> (String, Place) {
    let Some((node, path)) = field(fields, path, "name") else {
        let place = fields.0.first().map_or(&task.place, |(key, _)| &key.place);
        reader.error("missing_key", place, path, "a task needs a `name`");
        return (String::new(), place.clone());
    };
    let Some(name) = reader.text(node, &path) else {
        return (String::new(), node.place.clone());
    };
    if name == "fail" || name == "noop" {
        let message = format!("`{name}` is what routes say, so no task may be named so");
        reader.error("reserved_name", &node.place, &path, message);
    } else if !is_name(name) {
        let message = format!("the name `{name}` may hold letters, digits, `_` and `-` only");
        reader.error("invalid_name", &node.place, &path, message);
    }
    (name.to_owned(), node.place.clone())
}

fn action(reader: &mut Reader, fields: Fields, path: &str, site: Site) -> Option<ValueTemplate> {
    let (node, path) = field(fields, path, "action")?;
    let text = reader.text(node, &path)?;
    let action = reader.value(node, &path, site);
    if action.is_literal() && !is_reference(text) && !crate::expression::has_markers(text) {
        let message = format!("the action `{text}` does not have the form `pack.name`");
        reader.error("invalid_ref", &node.place, &path, message);
    }
    Some(action)
}

/// What the action says of itself.
fn defaults(reader: &Reader, fields: Fields) -> ActionDefaults {
    let Some(Value::Text(action)) = fields.get("action").map(|node| &node.value) else {
        return ActionDefaults::default();
    };
    let defaults = reader.pack.actions.get(action);
    defaults.cloned().unwrap_or_default()
}

fn input(reader: &mut Reader, fields: Fields, path: &str, site: Site) -> ValueTemplate {
    let empty = || ValueTemplate::map(Vec::new());
    let Some((node, path)) = field(fields, path, "input") else {
        return empty();
    };
    let is_template = |text: &str| crate::expression::has_markers(text);
    match &node.value {
        Value::Null => empty(),
        Value::Map(_) => reader.value(node, &path, site),
        Value::Text(text) if is_template(text) => reader.value(node, &path, site),
        Value::Bool(_) | Value::Number(_) | Value::Text(_) | Value::List(_) => {
            reader.wrong_type(node, &path, "an object");
            empty()
        }
    }
}

fn timeout(
    reader: &mut Reader,
    fields: Fields,
    path: &str,
    site: Site,
    has_action: bool,
    defaults: &ActionDefaults,
) -> Option<ValueTemplate> {
    let Some((node, path)) = field(fields, path, "timeout") else {
        let seconds = defaults.timeout.unwrap_or(DEFAULT_TIMEOUT_S).to_string();
        let seconds = Json::parse(seconds).expect("a number is JSON");
        return has_action.then(|| ValueTemplate::literal(seconds));
    };
    if matches!(node.value, Value::Null) {
        return None;
    }
    quantity(reader, node, &path, site, Least::Above(0.0))
}

/// Looked at once for all items, so it sees none of them.
pub(super) fn delay(
    reader: &mut Reader,
    fields: Fields,
    path: &str,
    index: usize,
) -> Option<ValueTemplate> {
    let (node, path) = field(fields, path, "delay")?;
    let site = Site::Task(index, Moment::Items);
    quantity(reader, node, &path, site, Least::From(0.0))
}

/// Seconds that stand in the file, or `null` for none.
pub(super) fn seconds(
    reader: &mut Reader,
    fields: Fields,
    path: &str,
    name: &str,
    least: Least,
) -> Option<f64> {
    let (node, path) = field(fields, path, name)?;
    if matches!(node.value, Value::Null) {
        return None;
    }
    bounded(reader, node, &path, least)
}

/// The least that a number may be.
#[derive(Clone, Copy)]
pub(super) enum Least {
    Above(f64),
    From(f64),
}

/// A number within bounds, or a template that gives one.
pub(super) fn quantity(
    reader: &mut Reader,
    node: &Node,
    path: &str,
    site: Site,
    least: Least,
) -> Option<ValueTemplate> {
    if let Value::Text(text) = &node.value
        && crate::expression::has_markers(text)
    {
        return Some(reader.value(node, path, site));
    }
    bounded(reader, node, path, least)?;
    Some(reader.value(node, path, site))
}

pub(super) fn bounded(reader: &mut Reader, node: &Node, path: &str, least: Least) -> Option<f64> {
    let number = reader.number(node, path)?;
    let (fits, word) = match least {
        Least::Above(bound) => (number > bound, format!("more than {bound}")),
        Least::From(bound) => (number >= bound, format!("{bound} or more")),
    };
    if !fits {
        let message = format!("expected a number of {word}, found {number}");
        reader.error("invalid_value", &node.place, path, message);
        return None;
    }
    Some(number)
}

fn pool(reader: &mut Reader, fields: Fields, path: &str, default: Option<String>) -> String {
    let found = field(fields, path, "pool");
    let Some((node, path)) = found else {
        return default.unwrap_or_else(|| "default".to_owned());
    };
    pool_name(reader, node, &path).unwrap_or_default()
}

/// The name of a pool, which is that of a queue as well.
pub(super) fn pool_name(reader: &mut Reader, node: &Node, path: &str) -> Option<String> {
    let pool = reader.text(node, path)?;
    if !is_pool_name(pool) {
        let message =
            format!("the pool `{pool}` may hold 1 to 100 letters, digits, `_`, `-` and `.` only");
        reader.error("invalid_name", &node.place, path, message);
    }
    Some(pool.to_owned())
}

fn redeliveries(reader: &mut Reader, fields: Fields, path: &str) -> u32 {
    let Some((node, path)) = field(fields, path, "max_redeliveries") else {
        return DEFAULT_REDELIVERIES;
    };
    if let Value::Number(text) = &node.value
        && let Ok(number) = text.parse()
    {
        return number;
    }
    reader.wrong_type(node, &path, "a whole number of 0 or more");
    DEFAULT_REDELIVERIES
}

pub(super) fn flag(reader: &mut Reader, fields: Fields, path: &str, name: &str) -> bool {
    let Some((node, path)) = field(fields, path, name) else {
        return false;
    };
    let Value::Bool(value) = node.value else {
        reader.wrong_type(node, &path, "`true` or `false`");
        return false;
    };
    value
}

/// A publish list.
pub(super) fn publish(
    reader: &mut Reader,
    node: &Node,
    path: &str,
    site: impl Fn(usize) -> Site,
) -> Vec<Publish> {
    let mut list: Vec<Publish> = Vec::new();
    let items = reader.list(node, path, "a list of `name: value`");
    for (index, item) in items.iter().enumerate() {
        let path = format!("{path}[{index}]");
        match &item.value {
            Value::Text(name) => {
                variable_name(reader, name, &item.place, &path);
                list.push(Publish {
                    name: name.as_str().into(),
                    value: None,
                });
            }
            Value::Map(entries) if !entries.is_empty() => {
                for (key, node) in entries {
                    let path = join(&path, &key.text);
                    variable_name(reader, &key.text, &key.place, &path);
                    let value = Some(reader.value(node, &path, site(list.len())));
                    list.push(Publish {
                        name: key.text.as_str().into(),
                        value,
                    });
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::List(_) | Value::Map(_) => {
                reader.wrong_type(item, &path, "`name: value`, or a name for the whole result");
            }
        }
    }
    list
}

/// Checks the name of a variable.
pub(super) fn variable_name(reader: &mut Reader, name: &str, place: &Place, path: &str) {
    if !is_name(name) {
        let message = format!("the variable `{name}` may hold letters, digits, `_` and `-` only");
        reader.error("invalid_name", place, path, message);
    }
}
