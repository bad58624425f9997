//! The language as a JSON Schema, for editors: which keys stand where, and what they take. Its objects
//! have the keys of the tables that the reader goes by. What a schema cannot say (names that must
//! exist, a graph that has a start), the reader alone says.

mod task;

use serde_json::{Map, Value, json};

use super::{document, output, parameters, retry, routes};
use crate::workflow::{MOST_ITEMS, MOST_RUNS_PER_TASK};

/// The JSON Schema (draft 2020-12) of a definition.
#[must_use]
pub fn schema() -> Value {
    let mut schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A workflow of Flotilla",
    });
    let top = object(&document::KNOWN, &["ref", "tasks"], top);
    for (key, value) in top {
        schema[key] = value;
    }
    schema["dependentRequired"] = json!({"output": ["output_map"]});
    schema["$defs"] = json!({
        "task": task::schema(),
        "retry": object(&retry::KNOWN, &["count"], task::retry),
        "entry": object(&routes::ENTRY, &[], task::entry),
        "branch": task::branch_schema(),
        "parameter": object(&parameters::FLAT, &[], parameter),
        "output": object(&output::FLAT, &[], parameter),
        "name": {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,128}$"},
        "reference": {
            "type": "string",
            "pattern": "^[A-Za-z0-9_-]{1,128}(\\.[A-Za-z0-9_-]{1,128})+$",
        },
        "template": {"type": "string", "pattern": "\\{[{%#]"},
        "condition": {"anyOf": [{"type": "boolean"}, {"type": "string", "pattern": "\\{\\{"}]},
        "names": {"anyOf": [
            {"type": "string"},
            {"type": "array", "items": {"type": "string"}, "uniqueItems": true},
        ]},
        "values": {"type": "object", "propertyNames": {"$ref": "#/$defs/name"}},
        "publish": {"type": "array", "items": {"anyOf": [
            {"$ref": "#/$defs/name"},
            {"$ref": "#/$defs/values", "minProperties": 1},
        ]}},
    });
    schema
}

/// An object with the keys of a table.
fn object(
    known: &[&str],
    required: &[&str],
    shape: fn(&str) -> Option<Value>,
) -> Map<String, Value> {
    let properties: Map<String, Value> = known
        .iter()
        .filter_map(|key| Some(((*key).to_owned(), shape(key)?)))
        .collect();
    let mut object = Map::new();
    object.insert("type".to_owned(), json!("object"));
    object.insert("properties".to_owned(), Value::Object(properties));
    if !required.is_empty() {
        object.insert("required".to_owned(), json!(required));
    }
    object.insert("additionalProperties".to_owned(), json!(false));
    object
}

/// A shape with what an editor shows beside it.
fn described(mut shape: Value, description: &str) -> Option<Value> {
    shape["description"] = json!(description);
    Some(shape)
}

fn of(name: &str) -> Value {
    json!({"$ref": format!("#/$defs/{name}")})
}

fn text() -> Value {
    json!({"type": "string"})
}

fn words(words: &[&str]) -> Value {
    json!({"type": "string", "enum": words})
}

fn list(items: &Value) -> Value {
    json!({"type": "array", "minItems": 1, "items": items})
}

fn flag() -> Value {
    json!({"type": "boolean"})
}

/// One name or a list of names, at least one.
fn some_names() -> Value {
    json!({"$ref": "#/$defs/names", "minItems": 1})
}

fn whole(least: u32, most: Option<u32>) -> Value {
    let mut shape = json!({"type": "integer", "minimum": least});
    if let Some(most) = most {
        shape["maximum"] = json!(most);
    }
    shape
}

/// Seconds of more than 0, or `null` for no limit.
fn limit() -> Value {
    json!({"type": ["number", "null"], "exclusiveMinimum": 0})
}

fn or_template(shape: &Value) -> Value {
    json!({"anyOf": [shape, of("template")]})
}

fn from_zero() -> Value {
    json!({"type": "number", "minimum": 0})
}

fn top(key: &str) -> Option<Value> {
    let (shape, description) = match key {
        "ref" => (of("reference"), "The name of the workflow, `pack.name`."),
        "label" => (text(), "A name for people."),
        "version" => (text(), "The version; \"0.0.0\" by default."),
        "description" => (text(), "What the workflow is for."),
        "tags" => (
            json!({"type": "array", "items": text()}),
            "Words to find it by.",
        ),
        "parameters" => (
            either_form("parameter"),
            "What a start brings: `name: {type, required, default, …}`, or a JSON Schema.",
        ),
        "vars" => (
            of("values"),
            "First values of variables, evaluated top to bottom.",
        ),
        "timeout" => (limit(), "Seconds that the whole execution may take."),
        "tasks" => (list(&of("task")), "The tasks."),
        "output" => (
            either_form("output"),
            "What `output_map` gives: `name: {type, required, …}`, or a JSON Schema.",
        ),
        "output_map" => (
            of("values"),
            "What the execution gives, evaluated top to bottom at its end.",
        ),
        _ => return policy(key),
    };
    described(shape, description)
}

/// How an execution runs.
fn policy(key: &str) -> Option<Value> {
    let (shape, description) = match key {
        "max_items" => (
            whole(1, Some(MOST_ITEMS)),
            "The most items of one `with_items`; 100,000 by default.",
        ),
        "max_runs_per_task" => (
            whole(1, Some(MOST_RUNS_PER_TASK)),
            "The most visits of one task; 10,000 by default.",
        ),
        "start" => (
            some_names(),
            "Where the graph starts; by default at the tasks that nothing leads to.",
        ),
        "finally" => (
            some_names(),
            "Tasks that run after all else has ended, whatever the outcome.",
        ),
        "fail_policy" => (
            words(&["drain", "continue", "cancel"]),
            "What happens to the rest after a failure that nothing handles; `drain` by default.",
        ),
        "cancellation_policy" => (
            words(&["cancel_running", "allow_finish"]),
            "What a cancel does to what runs; `cancel_running` by default.",
        ),
        "cancel_grace" => (
            from_zero(),
            "Seconds that an attempt has to stop once it was told to.",
        ),
        _ => return None,
    };
    described(shape, description)
}

/// The flat form with entries of the given shape, or a JSON Schema, as the reader tells them apart.
fn either_form(entry: &str) -> Value {
    let objects = json!({"type": "object", "additionalProperties": {"type": "object"}});
    json!({
        "type": "object",
        "if": {"anyOf": [
            {"required": ["$schema"]},
            {"required": ["type"], "properties": {"type": {"const": "object"}}},
            {"required": ["properties"], "properties": {"properties": objects}},
        ]},
        "then": {"$ref": "https://json-schema.org/draft/2020-12/schema"},
        "else": {"propertyNames": of("name"), "additionalProperties": of(entry)},
    })
}

fn parameter(key: &str) -> Option<Value> {
    let (shape, description) = match key {
        "type" => (words(&parameters::TYPES), "The type of the value."),
        "required" => (flag(), "Whether it must be there."),
        "default" => (
            json!({}),
            "The value where none is given; may be a template over earlier parameters.",
        ),
        "enum" => (json!({"type": "array"}), "The values that it may have."),
        "description" => (text(), "What it is for."),
        "secret" => (
            flag(),
            "Has no effect: the value is stored and shown like any other. Use `secret()` in an input.",
        ),
        _ => return None,
    };
    described(shape, description)
}

#[cfg(test)]
mod tests {
    use super::super::task as task_reader;
    use super::*;

    #[test]
    fn a_key_that_the_reader_knows_is_in_the_schema() {
        let schema = schema();
        let objects: [(&str, &[&str]); 7] = [
            ("", &document::KNOWN),
            ("/$defs/task", &task_reader::KNOWN),
            ("/$defs/retry", &retry::KNOWN),
            ("/$defs/entry", &routes::ENTRY),
            ("/$defs/branch", &routes::BRANCH),
            ("/$defs/parameter", &parameters::FLAT),
            ("/$defs/output", &output::FLAT),
        ];
        for (pointer, known) in objects {
            let object = schema.pointer(pointer).expect("the object is there");
            let properties = object["properties"].as_object().expect("it has keys");
            let keys: Vec<&str> = properties.keys().map(String::as_str).collect();
            assert_eq!(keys, known, "{pointer}");
        }
    }
}
