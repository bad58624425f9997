//! Reads `parameters`, in either form.

use super::reader::{Fields, Reader, Site, describe, is_name, join, literal};
use super::text::did_you_mean;
use super::tree::{Key, Node, Value};
use crate::expression::{ValueTemplate, has_markers};
use crate::parameters::{Parameter, ParameterSchema};

/// The keys of a parameter in the flat form.
pub(super) const FLAT: [&str; 6] = [
    "type",
    "required",
    "default",
    "enum",
    "description",
    "secret",
];
pub(super) const TYPES: [&str; 6] = ["string", "integer", "number", "boolean", "object", "array"];

/// Reads the schema. Where something is wrong with it, it has the names at least.
pub(super) fn read(reader: &mut Reader, node: &Node) -> ParameterSchema {
    let errors_before = reader.diagnostics.len();
    let entries = reader.map(node, "parameters");
    let (parameters, schema, is_open) = if is_json_schema(entries) {
        json_schema(reader, Fields(entries), node)
    } else {
        flat(reader, entries)
    };
    let fallback = |parameters| {
        ParameterSchema::new(parameters, "{}", true).expect("the empty schema is sound")
    };
    if reader.diagnostics.len() > errors_before {
        return fallback(parameters);
    }
    match ParameterSchema::new(parameters, &schema, is_open) {
        Ok(schema) => {
            check_defaults(reader, node, &schema);
            schema
        }
        Err((parameters, message)) => {
            let message = format!("the schema is not valid: {message}");
            reader.error("invalid_schema", &node.place, "parameters", message);
            fallback(parameters)
        }
    }
}

type Read = (Vec<Parameter>, String, bool);

pub(super) fn is_json_schema(entries: &[(Key, Node)]) -> bool {
    let fields = Fields(entries);
    let is_object = |node: &Node| matches!(&node.value, Value::Text(text) if text == "object");
    let is_map = |node: &Node| matches!(node.value, Value::Map(_));
    let has_properties = fields.get("properties").is_some_and(|node| {
        let Value::Map(entries) = &node.value else {
            return false;
        };
        entries.iter().all(|(_, node)| is_map(node))
    });
    fields.get("$schema").is_some() || fields.get("type").is_some_and(is_object) || has_properties
}

fn flat(reader: &mut Reader, entries: &[(Key, Node)]) -> Read {
    let mut parameters = Vec::new();
    let mut properties = Vec::new();
    for (index, (key, node)) in entries.iter().enumerate() {
        let path = join("parameters", &key.text);
        if !is_name(&key.text) {
            let message = format!(
                "the parameter `{}` may hold letters, digits, `_` and `-` only",
                key.text
            );
            reader.error("invalid_name", &key.place, &path, message);
        }
        let mut parameter = Parameter::new(&key.text);
        if let Value::Text(text) = &node.value {
            let message = format!("expected an object, found {}", describe(&node.value));
            let hint = TYPES
                .contains(&text.as_str())
                .then(|| format!("write {{type: {text}}}"));
            reader.error("wrong_type", &node.place, &path, message).hint = hint;
        } else if let Some(fields) = reader.fields(node, &path, &FLAT, &[]) {
            properties.push(property(reader, fields, key, &path));
            parameter.required = flag(reader, fields, &path, "required");
            if flag(reader, fields, &path, "secret") {
                warn_of_secret(reader, node, &path);
            }
            parameter.default = default(reader, fields, &path, index);
        }
        parameters.push(parameter);
    }
    (
        parameters,
        format!("{{\"properties\":{{{}}}}}", properties.join(",")),
        false,
    )
}

/// The property of a JSON Schema that an entry of the flat form stands for.
pub(super) fn property(reader: &mut Reader, fields: Fields, key: &Key, path: &str) -> String {
    let mut rules = Vec::new();
    if let Some(node) = fields.get("type") {
        let path = join(path, "type");
        if let Some(kind) = reader.text(node, &path) {
            if TYPES.contains(&kind) {
                rules.push(format!("\"type\":\"{kind}\""));
            } else {
                let hint = did_you_mean(kind, TYPES);
                let message = format!("unknown type `{kind}`");
                reader
                    .error("invalid_value", &node.place, &path, message)
                    .hint = hint;
            }
        }
    }
    if let Some(node) = fields.get("enum") {
        reader.list(node, &join(path, "enum"), "a list of values");
        rules.push(format!("\"enum\":{}", literal(&node.value).text()));
    }
    if let Some(node) = fields.get("description") {
        reader.text(node, &join(path, "description"));
    }
    let name = serde_json::to_string(&key.text).expect("a text is JSON");
    format!("{name}:{{{}}}", rules.join(","))
}

pub(super) fn flag(reader: &mut Reader, fields: Fields, path: &str, name: &str) -> bool {
    match fields.get(name).map(|node| (node, &node.value)) {
        None => false,
        Some((_, Value::Bool(value))) => *value,
        Some((node, _)) => {
            reader.wrong_type(node, &join(path, name), "a boolean");
            false
        }
    }
}

fn default(reader: &mut Reader, fields: Fields, path: &str, index: usize) -> Option<ValueTemplate> {
    let node = fields.get("default")?;
    Some(reader.value(node, &join(path, "default"), Site::Default(index)))
}

fn json_schema(reader: &mut Reader, fields: Fields, node: &Node) -> Read {
    let required: Vec<&str> = match fields.get("required") {
        Some(node) => {
            let items = reader.list(node, "parameters.required", "a list of names");
            items
                .iter()
                .filter_map(|item| reader.text(item, "parameters.required"))
                .collect()
        }
        None => Vec::new(),
    };
    let properties = match fields.get("properties") {
        Some(node) => reader.map(node, "parameters.properties"),
        None => &[],
    };
    let mut parameters = Vec::new();
    for (index, (key, node)) in properties.iter().enumerate() {
        let path = join("parameters.properties", &key.text);
        let mut parameter = Parameter::new(&key.text);
        parameter.required = required.contains(&key.text.as_str());
        if let Value::Map(entries) = &node.value {
            parameter.default = default(reader, Fields(entries), &path, index);
            if let Some(Value::Bool(true)) = Fields(entries).get("secret").map(|node| &node.value) {
                warn_of_secret(reader, node, &path);
            }
        }
        parameters.push(parameter);
    }
    let is_closed = |node: &Node| matches!(node.value, Value::Bool(false));
    let is_open = fields
        .get("additionalProperties")
        .is_some_and(|node| !is_closed(node))
        || fields.get("patternProperties").is_some();
    (parameters, literal(&node.value).text().to_owned(), is_open)
}

/// A default that is no template is checked like a value that was given.
fn check_defaults(reader: &mut Reader, node: &Node, schema: &ParameterSchema) {
    let defaults = schema.parameters().iter().filter_map(|parameter| {
        parameter
            .default
            .as_ref()
            .and_then(ValueTemplate::as_literal)
            .map(|json| (parameter, json))
    });
    let problems: Vec<_> = defaults
        .flat_map(|(parameter, json)| schema.check_one(&parameter.name, json))
        .collect();
    for problem in problems {
        let place = find_default(node, &problem.name).unwrap_or(node);
        let path = format!("parameters.{}.default", problem.name);
        reader.error("wrong_type", &place.place, &path, problem.message);
    }
}

fn find_default<'n>(node: &'n Node, name: &str) -> Option<&'n Node> {
    let Value::Map(entries) = &node.value else {
        return None;
    };
    let fields = Fields(entries);
    let parameter = match fields.get(name).or_else(|| fields.get("properties")) {
        Some(Node {
            value: Value::Map(entries),
            ..
        }) => {
            let inner = Fields(entries);
            inner.get("default").or_else(|| {
                let Value::Map(entries) = &inner.get(name)?.value else {
                    return None;
                };
                Fields(entries).get("default")
            })
        }
        _ => None,
    };
    parameter.filter(|node| !matches!(&node.value, Value::Text(text) if has_markers(text)))
}

/// The schema of a workflow without parameters.
pub(super) fn none() -> ParameterSchema {
    let schema = "{}";
    ParameterSchema::new(Vec::new(), schema, false).expect("the empty schema is sound")
}

/// Says what a parameter that is called secret does not get.
fn warn_of_secret(reader: &mut Reader, node: &Node, path: &str) {
    let message = "the value of the parameter is stored and shown like any other";
    let warning = reader.warning("secret_parameter", &node.place, path, message);
    warning.hint = Some("use `{{ secret('name') }}` in the input that needs it".to_owned());
}
