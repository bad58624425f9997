//! Reads what brings together how a task is entered: `join`, `needs` and `rule`.

use super::draft::DraftNeeds;
use super::reader::{Fields, Reader};
use super::routes;
use super::task::field;
use super::tree::{Node, Place, Value};
use crate::rule::{RULES, Rule};
use crate::workflow::Join;

pub(super) fn join_of(reader: &mut Reader, fields: Fields, path: &str) -> Option<(Join, Place)> {
    let (node, path) = field(fields, path, "join")?;
    let join = match &node.value {
        Value::Text(text) if text == "all" => Some(Join::All),
        Value::Text(text) if text == "active" => Some(Join::Active),
        Value::Number(text) => {
            let count = text.parse().ok().filter(|count| *count >= 1);
            count.map(Join::Count)
        }
        Value::Null | Value::Bool(_) | Value::Text(_) | Value::List(_) | Value::Map(_) => None,
    };
    if join.is_none() {
        let expected = "`all`, `active` or a whole number of 1 or more";
        let hint = match &node.value {
            Value::Text(text) => super::text::did_you_mean(text, ["all", "active"]),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::List(_) | Value::Map(_) => {
                None
            }
        };
        if let Some(hint) = hint {
            let message = format!("expected {expected}");
            reader.error("wrong_type", &node.place, &path, message).hint = Some(hint);
        } else {
            reader.wrong_type(node, &path, expected);
        }
    }
    Some((join?, node.place.clone()))
}

pub(super) fn needs(reader: &mut Reader, fields: Fields, path: &str) -> Option<DraftNeeds> {
    let rule = field(fields, path, "rule");
    let Some((node, needs_path)) = field(fields, path, "needs") else {
        if let Some((node, path)) = rule {
            let message = "`rule` says what must hold of the tasks of `needs`";
            reader.error("missing_key", &node.place, &path, message);
        }
        return None;
    };
    let targets = routes::names(reader, node, &needs_path);
    if targets.is_empty() && matches!(&node.value, Value::List(items) if items.is_empty()) {
        let message = "`needs` names at least one task";
        reader.error("invalid_value", &node.place, &needs_path, message);
    }
    Some(DraftNeeds {
        targets,
        rule: rule.map_or(Rule::AllSuccess, |(node, path)| {
            rule_of(reader, node, &path)
        }),
        place: node.place.clone(),
    })
}

fn rule_of(reader: &mut Reader, node: &Node, path: &str) -> Rule {
    let Some(text) = reader.text(node, path) else {
        return Rule::AllSuccess;
    };
    if let Some((_, rule)) = RULES.iter().find(|(word, _)| *word == text) {
        return *rule;
    }
    let message = format!("unknown rule `{text}`");
    let hint = super::text::did_you_mean(text, RULES.iter().map(|(word, _)| *word));
    reader
        .error("invalid_value", &node.place, path, message)
        .hint = hint;
    Rule::AllSuccess
}
