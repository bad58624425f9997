//! Reads `output`, the schema of what `output_map` gives, in the forms of `parameters`.

use super::parameters::{flag, is_json_schema, property};
use super::reader::{Fields, Reader, join, literal};
use super::task::variable_name;
use super::tree::{Key, Node};
use crate::output::OutputSchema;

/// The keys of an output in the flat form.
pub(super) const FLAT: [&str; 4] = ["type", "required", "enum", "description"];

/// Reads the schema beside `output_map`.
pub(super) fn read(reader: &mut Reader, fields: Fields) -> Option<OutputSchema> {
    let (key, node) = fields.entry("output")?;
    if fields.get("output_map").is_none() {
        let message = "`output` says what `output_map` gives, and there is no `output_map`";
        reader.error("misplaced_key", &key.place, "output", message);
    }
    schema(reader, node)
}

fn schema(reader: &mut Reader, node: &Node) -> Option<OutputSchema> {
    let errors_before = reader.diagnostics.len();
    let entries = reader.map(node, "output");
    let schema = if is_json_schema(entries) {
        literal(&node.value).text().to_owned()
    } else {
        flat(reader, entries)
    };
    if reader.diagnostics.len() > errors_before {
        return None;
    }
    match OutputSchema::new(&schema) {
        Ok(schema) => Some(schema),
        Err(message) => {
            let message = format!("the schema is not valid: {message}");
            reader.error("invalid_schema", &node.place, "output", message);
            None
        }
    }
}

/// The JSON Schema that a flat form stands for.
fn flat(reader: &mut Reader, entries: &[(Key, Node)]) -> String {
    let mut properties = Vec::new();
    let mut required = Vec::new();
    for (key, node) in entries {
        let path = join("output", &key.text);
        variable_name(reader, &key.text, &key.place, &path);
        let Some(fields) = reader.fields(node, &path, &FLAT, &[]) else {
            continue;
        };
        properties.push(property(reader, fields, key, &path));
        if flag(reader, fields, &path, "required") {
            required.push(key.text.as_str());
        }
    }
    let required = serde_json::to_string(&required).expect("texts are JSON");
    let properties = properties.join(",");
    format!("{{\"properties\":{{{properties}}},\"required\":{required}}}")
}
