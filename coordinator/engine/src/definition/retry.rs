//! Reads the `retry` of a task.

use super::reader::{Fields, Moment, Reader, Site, join};
use super::task::{Least, bounded, field, quantity};
use super::text::did_you_mean;
use super::tree::{Node, Value};
use crate::expression::ValueTemplate;
use crate::workflow::{Backoff, Retry};

/// The keys of `retry`.
pub(super) const KNOWN: [&str; 7] = [
    "count",
    "delay",
    "backoff",
    "factor",
    "max_delay",
    "jitter",
    "when",
];
pub(super) const BACKOFFS: [&str; 3] = ["constant", "linear", "exponential"];

/// Reads the `retry` of the task at `index`.
pub(super) fn read(reader: &mut Reader, node: &Node, path: &str, index: usize) -> Option<Retry> {
    let fields = reader.fields(node, path, &KNOWN, &[])?;
    let site = Site::Task(index, Moment::Before);
    let Some((node_count, count_path)) = field(fields, path, "count") else {
        let place = fields.0.first().map_or(&node.place, |(key, _)| &key.place);
        let message = "`retry` needs `count`, the attempts after the first";
        reader.error("missing_key", place, path, message);
        return None;
    };
    let count = whole(reader, node_count, &count_path, site);
    let delay = field(fields, path, "delay")
        .and_then(|(node, path)| quantity(reader, node, &path, site, Least::From(0.0)));
    let max_delay = field(fields, path, "max_delay")
        .and_then(|(node, path)| bounded(reader, node, &path, Least::From(0.0)));
    let factor = field(fields, path, "factor")
        .and_then(|(node, path)| bounded(reader, node, &path, Least::From(1.0)));
    let when = field(fields, path, "when").and_then(|(node, path)| {
        reader
            .condition(node, &path, Site::Task(index, Moment::Attempted))
            .map(|(when, _)| when)
    });
    let jitter = jitter(reader, fields, path);
    let backoff = backoff(reader, fields, path, factor);
    Some(Retry {
        count: count?,
        delay,
        backoff,
        max_delay,
        jitter,
        when,
    })
}

/// A whole number of 0 or more, or a template that gives one.
fn whole(reader: &mut Reader, node: &Node, path: &str, site: Site) -> Option<ValueTemplate> {
    let value = quantity(reader, node, path, site, Least::From(0.0))?;
    if let Value::Number(text) = &node.value
        && text.parse::<u32>().is_err()
    {
        reader.wrong_type(node, path, "a whole number of 0 or more");
        return None;
    }
    Some(value)
}

fn jitter(reader: &mut Reader, fields: Fields, path: &str) -> f64 {
    let Some((node, path)) = field(fields, path, "jitter") else {
        return 0.0;
    };
    let Some(jitter) = reader.number(node, &path) else {
        return 0.0;
    };
    if !(0.0..=1.0).contains(&jitter) {
        let message = format!("expected a number from 0 to 1, found {jitter}");
        reader.error("invalid_value", &node.place, &path, message);
    }
    jitter
}

fn backoff(reader: &mut Reader, fields: Fields, path: &str, factor: Option<f64>) -> Backoff {
    let exponential = Backoff::Exponential {
        factor: factor.unwrap_or(2.0),
    };
    let found = field(fields, path, "backoff");
    let kind = match &found {
        Some((node, path)) => reader.text(node, path).map(|kind| (kind, node, path)),
        None => None,
    };
    let backoff = match kind {
        None | Some(("constant", ..)) => Backoff::Constant,
        Some(("linear", ..)) => Backoff::Linear,
        Some(("exponential", ..)) => return exponential,
        Some((kind, node, path)) => {
            let hint = did_you_mean(kind, BACKOFFS);
            let message = format!("unknown backoff `{kind}`");
            reader
                .error("invalid_value", &node.place, path, message)
                .hint = hint;
            return exponential;
        }
    };
    if let Some((key, _)) = fields.entry("factor") {
        let path = join(path, "factor");
        let message = "`factor` belongs to `backoff: exponential`";
        reader.error("invalid_value", &key.place, &path, message);
    }
    backoff
}
