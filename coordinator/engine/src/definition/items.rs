//! Reads `with_items` of a task, and what belongs to it.

use super::reader::{Fields, Moment, Reader, Site};
use super::task::{Least, field, quantity};
use super::text::did_you_mean;
use super::tree::{Node, Value};
use crate::expression::{ValueTemplate, has_markers};
use crate::workflow::{OnItemFailure, Tolerance, WithItems};

/// What has a meaning only beside `with_items`.
const COMPANIONS: [&str; 4] = ["batch_size", "concurrency", "tolerate", "on_item_failure"];

/// Reads what the task at `index` says of items.
pub(super) fn read(
    reader: &mut Reader,
    fields: Fields,
    path: &str,
    index: usize,
) -> Option<WithItems> {
    let site = Site::Task(index, Moment::Items);
    let Some((node, list_path)) = field(fields, path, "with_items") else {
        for name in COMPANIONS {
            if let Some((key, _)) = fields.entry(name) {
                let message = format!("`{name}` has a meaning only beside `with_items`");
                let path = super::reader::join(path, name);
                reader.error("misplaced_key", &key.place, &path, message);
            }
        }
        return None;
    };
    if fields.get("action").is_none() {
        let message = "`with_items` needs an `action` that runs for each item";
        reader.error("missing_key", &node.place, &list_path, message);
    }
    Some(WithItems {
        list: list(reader, node, &list_path, site),
        batch_size: batch_size(reader, fields, path),
        concurrency: concurrency(reader, fields, path, site),
        tolerate: tolerate(reader, fields, path),
        on_item_failure: on_item_failure(reader, fields, path),
    })
}

fn list(reader: &mut Reader, node: &Node, path: &str, site: Site) -> ValueTemplate {
    match &node.value {
        Value::List(_) => {}
        Value::Text(text) if has_markers(text) => {}
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text(_) | Value::Map(_) => {
            reader.wrong_type(node, path, "a list, or a template that gives one");
        }
    }
    reader.value(node, path, site)
}

fn batch_size(reader: &mut Reader, fields: Fields, path: &str) -> Option<u32> {
    let (node, path) = field(fields, path, "batch_size")?;
    let size = match &node.value {
        Value::Number(text) => text.parse().ok().filter(|size: &u32| *size >= 1),
        Value::Null | Value::Bool(_) | Value::Text(_) | Value::List(_) | Value::Map(_) => None,
    };
    if size.is_none() {
        reader.wrong_type(node, &path, "a whole number of 1 or more");
    }
    size
}

fn concurrency(
    reader: &mut Reader,
    fields: Fields,
    path: &str,
    site: Site,
) -> Option<ValueTemplate> {
    let (node, path) = field(fields, path, "concurrency")?;
    let concurrency = quantity(reader, node, &path, site, Least::From(1.0))?;
    if let Value::Number(text) = &node.value
        && text.parse::<u32>().is_err()
    {
        reader.wrong_type(node, &path, "a whole number of 1 or more");
        return None;
    }
    Some(concurrency)
}

fn tolerate(reader: &mut Reader, fields: Fields, path: &str) -> Tolerance {
    let none = Tolerance::Count(0);
    let Some((node, path)) = field(fields, path, "tolerate") else {
        return none;
    };
    let found = match &node.value {
        Value::Number(text) => text.parse().ok().map(Tolerance::Count),
        Value::Text(text) => text.strip_suffix('%').and_then(percent),
        Value::Null | Value::Bool(_) | Value::List(_) | Value::Map(_) => None,
    };
    found.unwrap_or_else(|| {
        let expected = "a whole number of 0 or more, or a share such as \"10%\"";
        reader.wrong_type(node, &path, expected);
        none
    })
}

fn percent(text: &str) -> Option<Tolerance> {
    let share: f64 = text.trim().parse().ok()?;
    (0.0..=100.0)
        .contains(&share)
        .then_some(Tolerance::Percent(share))
}

fn on_item_failure(reader: &mut Reader, fields: Fields, path: &str) -> OnItemFailure {
    let Some((node, path)) = field(fields, path, "on_item_failure") else {
        return OnItemFailure::Continue;
    };
    match reader.text(node, &path) {
        None | Some("continue") => OnItemFailure::Continue,
        Some("drain") => OnItemFailure::Drain,
        Some("cancel") => OnItemFailure::Cancel,
        Some(other) => {
            let hint = did_you_mean(other, ["continue", "drain", "cancel"]);
            let message = format!("expected `continue`, `drain` or `cancel`, found `{other}`");
            reader
                .error("invalid_value", &node.place, &path, message)
                .hint = hint;
            OnItemFailure::Continue
        }
    }
}
