//! Expressions of the neutral form, `{$add: [1, {$var: x}]}`, as templates: `{{ 1 + vars.x }}`.

use serde_json::{Value, json};

use crate::{Translated, entries, list};

/// Operators between operands, then names that need none, and names that paths begin with.
const SIGNS: &str =
    "$eq == $ne != $lt < $le <= $gt > $ge >= $in in $and and $or or $add + $sub - $concat ~";
const FACTS: &str = "$status status() $attempt system.attempt $index index";
const STATUS: &str = "system.status | replace(\"cancelled\", \"canceled\")";
const ROOTS: &str =
    "$var vars $input parameters $result result() $error error() $item item $task task";
/// What an error has with us; all else that a worker says of one is among its details.
const ERROR_FIELDS: [&str; 5] = ["kind", "message", "retryable", "details", "items"];

/// What stands in a table beside an operator.
pub(crate) fn named(table: &'static str, operator: &str) -> Option<&'static str> {
    let words = || table.split(' ');
    let mut pairs = words().step_by(2).zip(words().skip(1).step_by(2));
    pairs.find(|(word, _)| *word == operator).map(|pair| pair.1)
}

/// The operator and the argument of an expression.
fn expression(value: &Value) -> Option<(&str, &Value)> {
    let entries = value.as_object().filter(|entries| entries.len() == 1)?;
    let (key, argument) = entries.iter().next()?;
    key.starts_with('$').then_some((key, argument))
}

/// Where an expression stands: in a task whose items have names for their parts, or anywhere else.
#[derive(Clone, Copy, Default)]
pub(crate) struct Site<'a> {
    pub parts: &'a [Value],
}

impl Site<'_> {
    /// A value in which expressions may stand anywhere.
    pub fn value(self, value: &Value) -> Translated<Value> {
        let mut value = value.clone();
        let is_marked = |text: &str| ["{{", "{%", "{#"].iter().any(|mark| text.contains(mark));
        // Texts are never evaluated in the neutral form, and always are in ours.
        if expression(&value).is_some() || value.as_str().is_some_and(is_marked) {
            return Ok(json!(format!("{{{{ {} }}}}", self.text(&value)?)));
        }
        for one in value.as_array_mut().into_iter().flatten() {
            *one = self.value(one)?;
        }
        for (_, one) in value.as_object_mut().into_iter().flatten() {
            *one = self.value(one)?;
        }
        Ok(value)
    }

    /// What stands between the braces.
    pub fn text(self, value: &Value) -> Translated<String> {
        let Some((operator, argument)) = expression(value) else {
            return self.literal(value);
        };
        let path = self.path(operator, argument);
        let fact = || named(FACTS, operator).map(str::to_owned);
        if let Some(word) = path.and_then(|mut path| path.pop()).or_else(fact) {
            return Ok(word);
        }
        let list = list(argument);
        let operands = list.iter().map(|one| self.operand(one));
        let operands = operands.collect::<Translated<Vec<_>>>()?;
        // Beside a number only a number can be added; texts and lists could be, to their like.
        let needs_number = operator == "$add" && !list.iter().any(Value::is_number);
        Ok(match (operator, operands.as_slice()) {
            ("$workflow_status", _) => STATUS.to_owned(),
            ("$not", [one]) => format!("not {one}"),
            ("$len", [one]) => format!("{one} | length"),
            ("$range", all) => format!("range({})", all.join(", ")),
            ("$zip", [first, rest @ ..]) => format!("{first} | zip({})", rest.join(", ")),
            ("$append", [list, one]) => format!("{list} + [{one}]"),
            ("$mul", all) => format!("(0 + {})", all.join(") * (0 + ")),
            ("$if", [holds, yes, no]) => format!("{yes} if {holds} else {no}"),
            ("$default", [one, other]) => {
                let mut holds = Vec::new();
                self.readable(&list[0], &mut holds);
                format!("{one} if {}{one} is not none else {other}", holds.concat())
            }
            ("$concat", [one]) => format!("\"\" ~ {one}"),
            (_, all) => match named(SIGNS, operator).filter(|_| all.len() > 1) {
                Some(sign) if needs_number => format!("0 + {}", all.join(&format!(" {sign} "))),
                Some(sign) => all.join(&format!(" {sign} ")),
                None => return Err(format!("there is no such expression: {value}")),
            },
        })
    }

    fn operand(self, value: &Value) -> Translated<String> {
        let is_word = |operator: &str| named(FACTS, operator).or(named(ROOTS, operator)).is_some();
        let is_whole = expression(value).is_none_or(|(operator, _)| is_word(operator));
        let text = self.text(value)?;
        Ok(if is_whole { text } else { format!("({text})") })
    }

    fn literal(self, value: &Value) -> Translated<String> {
        let mut parts = Vec::new();
        for one in value.as_array().into_iter().flatten() {
            parts.push(self.text(one)?);
        }
        for (key, one) in entries(value) {
            parts.push(format!("{}: {}", json!(key), self.text(one)?));
        }
        Ok(match value {
            Value::Null => "none".to_owned(),
            Value::Array(_) => format!("[{}]", parts.join(", ")),
            Value::Object(_) => format!("{{{}}}", parts.join(", ")),
            Value::Bool(_) | Value::Number(_) | Value::String(_) => value.to_string(),
        })
    }

    /// What a path reads, from the name that it begins with to all of it; `None` if it is no path.
    fn path(self, operator: &str, argument: &Value) -> Option<Vec<String>> {
        let root = named(ROOTS, operator)?;
        let text = argument.to_string();
        let path = argument.as_str().unwrap_or(&text).split('.');
        let mut steps: Vec<&str> = path.filter(|_| !argument.is_null()).collect();
        match (operator, steps.first().copied()) {
            ("$error", Some("code" | "category")) => steps[0] = "kind",
            ("$error", Some(field)) if !ERROR_FIELDS.contains(&field) => steps.insert(0, "details"),
            _ => {}
        }
        let mut read = vec![root.to_owned()];
        let mut parts = self.parts.iter().filter(|_| operator == "$item");
        if let Some(part) = parts.position(|part| steps.first() == part.as_str().as_ref()) {
            steps.remove(0);
            read.push(format!("{root}[{part}]"));
        }
        for step in steps {
            let before = &read[read.len() - 1];
            let is_name = step.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
            read.push(match step.parse::<u32>() {
                Ok(index) => format!("{before}[{index}]"),
                Err(_) if is_name => format!("{before}.{step}"),
                Err(_) => format!("{before}[{}]", json!(step)),
            });
        }
        Some(read)
    }

    /// The conditions under which all paths of an expression can be read, with `and` after each.
    fn readable(self, value: &Value, holds: &mut Vec<String>) {
        let path = expression(value).and_then(|(operator, argument)| self.path(operator, argument));
        for read in path.iter().flatten().skip(1) {
            holds.push(format!("{read} is defined and "));
        }
        let within = entries(value).map(|(_, one)| one);
        for one in within.chain(value.as_array().into_iter().flatten()) {
            self.readable(one, holds);
        }
    }
}
