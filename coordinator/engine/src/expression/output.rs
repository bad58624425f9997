//! From values of the template engine to JSON and to text, within a bound.

use minijinja::value::ValueKind;
use minijinja::{Error, ErrorKind, Value};

use super::guard::{self, DEPTH_LIMIT};
use crate::json::Digits;

/// Appends the JSON of `value`; `out` stays below `limit`.
pub(super) fn write_json(out: &mut String, value: &Value, limit: usize) -> Result<(), Error> {
    Writer { out, limit }.value(value, 0)
}

/// Appends `value` as it stands in a text: a text as it is, all else as JSON.
pub(super) fn write_text(out: &mut String, value: &Value, limit: usize) -> Result<(), Error> {
    let mut writer = Writer { out, limit };
    match value.as_str() {
        Some(text) => writer.push(text),
        None => writer.value(value, 0),
    }
}

struct Writer<'a> {
    out: &'a mut String,
    limit: usize,
}

impl Writer<'_> {
    fn push(&mut self, text: &str) -> Result<(), Error> {
        if self.out.len() + text.len() > self.limit {
            return Err(guard::limit("the expression gives too much output"));
        }
        self.out.push_str(text);
        Ok(())
    }

    fn value(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        if depth > DEPTH_LIMIT {
            return Err(guard::limit("the value is nested too deeply"));
        }
        match value.kind() {
            ValueKind::Undefined => Err(Error::new(ErrorKind::UndefinedError, "")),
            ValueKind::None => self.push("null"),
            ValueKind::Bool => self.push(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => self.number(value),
            ValueKind::String => self.text(value.as_str().unwrap_or("")),
            ValueKind::Seq | ValueKind::Iterable => self.list(value, depth),
            ValueKind::Map => self.map(value, depth),
            ValueKind::Plain => match value.downcast_object_ref::<Digits>() {
                Some(digits) => self.push(digits.text()),
                None => Err(guard::invalid("the value cannot be written as JSON")),
            },
            ValueKind::Invalid => Err(guard::invalid(value.to_string())),
            ValueKind::Bytes | _ => Err(guard::invalid("bytes are not JSON")),
        }
    }

    fn number(&mut self, value: &Value) -> Result<(), Error> {
        if value.is_integer() {
            return self.push(&value.to_string());
        }
        let number = f64::try_from(value.clone())?;
        match serde_json::Number::from_f64(number) {
            Some(number) => self.push(&number.to_string()),
            None => Err(guard::invalid(format!("the number {number} is not JSON"))),
        }
    }

    fn text(&mut self, text: &str) -> Result<(), Error> {
        if self.out.len() + text.len() > self.limit {
            return Err(guard::limit("the expression gives too much output"));
        }
        let quoted = serde_json::to_string(text).expect("a text is JSON");
        self.push(&quoted)
    }

    fn list(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        self.push("[")?;
        for (index, item) in value.try_iter()?.enumerate() {
            if index > 0 {
                self.push(",")?;
            }
            self.value(&item, depth + 1)?;
        }
        self.push("]")
    }

    fn map(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        self.push("{")?;
        for (index, key) in value.try_iter()?.enumerate() {
            if index > 0 {
                self.push(",")?;
            }
            match key.as_str() {
                Some(key) => self.text(key)?,
                None if key.is_integer() => self.text(&key.to_string())?,
                None => return Err(guard::invalid("the keys of a JSON object are texts")),
            }
            self.push(":")?;
            self.value(&value.get_item(&key)?, depth + 1)?;
        }
        self.push("}")
    }
}
