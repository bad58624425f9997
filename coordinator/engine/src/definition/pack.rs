//! Reads the files of a pack that are no workflows: `pack.yaml`, and its actions.

use serde_json::{Map, Value as JsonValue};

use super::reader::{Fields, Reader, is_name, is_reference, join, literal};
use super::task;
use super::tree::{self, Node, Value};
use crate::diagnostic::{Diagnostic, Severity};
use crate::json::Json;
use crate::pack::ActionDefaults;

const PACK: [&str; 4] = ["ref", "label", "description", "config"];
const ACTION: [&str; 6] = [
    "ref",
    "label",
    "description",
    "pool",
    "timeout",
    "parameters",
];

/// What `pack.yaml` says.
#[derive(Debug, Clone, PartialEq)]
pub struct PackFile {
    /// The name of the pack: what the references of its workflows and actions begin with.
    pub reference: String,
    /// `pack.config`
    pub config: Map<String, JsonValue>,
}

/// What the file of an action says.
#[derive(Debug, Clone, PartialEq)]
pub struct ActionFile {
    /// `pack.name`
    pub reference: String,
    /// What it is for.
    pub description: Option<String>,
    /// What holds for its tasks.
    pub defaults: ActionDefaults,
    /// The schema of its input, as it was written; null if there is none.
    pub parameters: Json,
}

/// Reads `pack.yaml`.
///
/// # Errors
///
/// All that is wrong with it.
pub fn read_pack(source: &str) -> Result<PackFile, Vec<Diagnostic>> {
    let node = tree::parse(source)?;
    let mut reader = Reader::new(source);
    let read = reader.fields(&node, "", &PACK, &[]).map(|fields| {
        texts(&mut reader, fields);
        let reference = reference(&mut reader, &node, fields, |reader, node, text| {
            if !is_name(text) {
                let message = format!(
                    "the name `{text}` of a pack may hold letters, digits, `_` and `-` only"
                );
                reader.error("invalid_name", &node.place, "ref", message);
            }
        });
        PackFile {
            reference,
            config: fields
                .get("config")
                .map(|node| config(&mut reader, node))
                .unwrap_or_default(),
        }
    });
    finished(reader, read)
}

/// Reads the file of an action.
///
/// # Errors
///
/// All that is wrong with it.
pub fn read_action(source: &str) -> Result<ActionFile, Vec<Diagnostic>> {
    let node = tree::parse(source)?;
    let mut reader = Reader::new(source);
    let read = reader.fields(&node, "", &ACTION, &[]).map(|fields| {
        texts(&mut reader, fields);
        let reference = reference(&mut reader, &node, fields, |reader, node, text| {
            if !is_reference(text) {
                let message = format!("the ref `{text}` does not have the form `pack.name`");
                reader.error("invalid_ref", &node.place, "ref", message);
            }
        });
        let parameters = fields.get("parameters");
        if let Some(node) = parameters {
            super::parameters::read(&mut reader, node);
        }
        ActionFile {
            reference,
            description: fields.get("description").and_then(description),
            defaults: ActionDefaults {
                pool: fields
                    .get("pool")
                    .and_then(|node| task::pool_name(&mut reader, node, "pool")),
                timeout: fields.get("timeout").and_then(|node| {
                    super::task::bounded(
                        &mut reader,
                        node,
                        "timeout",
                        super::task::Least::Above(0.0),
                    )
                }),
            },
            parameters: parameters.map_or_else(Json::null, |node| literal(&node.value)),
        }
    });
    finished(reader, read)
}

fn finished<T>(reader: Reader, read: Option<T>) -> Result<T, Vec<Diagnostic>> {
    let found = reader.diagnostics;
    match read {
        Some(read)
            if found
                .iter()
                .all(|found| found.severity == Severity::Warning) =>
        {
            Ok(read)
        }
        Some(_) | None => Err(found),
    }
}

fn texts(reader: &mut Reader, fields: Fields) {
    for name in ["label", "description"] {
        fields.get(name).and_then(|node| reader.text(node, name));
    }
}

fn description(node: &Node) -> Option<String> {
    match &node.value {
        Value::Text(text) => Some(text.clone()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::List(_) | Value::Map(_) => None,
    }
}

fn reference(
    reader: &mut Reader,
    node: &Node,
    fields: Fields,
    check: impl Fn(&mut Reader, &Node, &str),
) -> String {
    let Some(found) = fields.get("ref") else {
        let mut place = node.place.clone();
        place.span.end = place.span.start;
        reader.error("missing_key", &place, "", "it needs a `ref`");
        return String::new();
    };
    let Some(text) = reader.text(found, "ref") else {
        return String::new();
    };
    check(reader, found, text);
    text.to_owned()
}

/// Values as they are: what looks like a template is none.
fn config(reader: &mut Reader, node: &Node) -> Map<String, JsonValue> {
    let mut config = Map::new();
    for (key, node) in reader.map(node, "config") {
        let path = join("config", &key.text);
        if !is_name(&key.text) {
            let message = format!(
                "the key `{}` may hold letters, digits, `_` and `-` only",
                key.text
            );
            reader.error("invalid_name", &key.place, &path, message);
        }
        let value = serde_json::from_str(literal(&node.value).text());
        config.insert(key.text.clone(), value.unwrap_or_default());
    }
    config
}
