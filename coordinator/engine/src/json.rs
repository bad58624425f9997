//! JSON that is held once and shared: the text as it came or goes, and the template engine's value
//! of it, made when an expression first looks inside.

use std::fmt;
use std::sync::{Arc, OnceLock};

use minijinja::value::{Object, ObjectRepr};
use minijinja::{Error, ErrorKind, Value};
use serde_json::value::RawValue;

/// Deepest nesting that expressions can look into.
const DEPTH_LIMIT: usize = 120;

/// A JSON value. Cloning is cheap; the text and the value are shared.
#[derive(Clone)]
pub struct Json(Arc<Inner>);

struct Inner {
    text: Box<RawValue>,
    value: OnceLock<Value>,
}

impl Json {
    /// Takes JSON text that is valid already.
    #[must_use]
    pub fn new(text: Box<RawValue>) -> Self {
        Self(Arc::new(Inner {
            text,
            value: OnceLock::new(),
        }))
    }

    /// The JSON `null`.
    #[must_use]
    pub fn null() -> Self {
        Self::new(RawValue::NULL.to_owned())
    }

    /// Checks and takes JSON text.
    ///
    /// # Errors
    ///
    /// When it is not JSON.
    pub fn parse(text: String) -> Result<Self, serde_json::Error> {
        RawValue::from_string(text).map(Self::new)
    }

    /// The JSON of a plain structure of ours, which always has one.
    #[must_use]
    pub fn of<T: serde::Serialize>(value: &T) -> Self {
        Self::new(serde_json::value::to_raw_value(value).expect("our own structures have JSON"))
    }

    /// The JSON text.
    #[must_use]
    pub fn text(&self) -> &str {
        self.0.text.get()
    }

    /// The JSON text as serde carries it.
    #[must_use]
    pub fn raw(&self) -> &RawValue {
        &self.0.text
    }

    /// Whether this is the JSON `null`.
    #[must_use]
    pub fn is_null(&self) -> bool {
        self.text() == "null"
    }

    /// The value that expressions see, converted at the first call. Where the text is nested too
    /// deeply to be looked into, it is a value that fails when it is used.
    #[must_use]
    pub fn value(&self) -> &Value {
        self.0.value.get_or_init(|| {
            let mut reader = Reader {
                text: self.text(),
                at: 0,
            };
            reader.value(0).unwrap_or_else(Value::from)
        })
    }
}

impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl PartialEq for Json {
    fn eq(&self, other: &Self) -> bool {
        self.text() == other.text()
    }
}

/// A number that no number of the template engine can hold, kept as it was written.
#[derive(Debug)]
pub(crate) struct Digits(Box<str>);

impl Digits {
    /// The number as it was written.
    pub(crate) fn text(&self) -> &str {
        &self.0
    }
}

impl Object for Digits {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Reads JSON text that is known to be valid. `serde_json` would make a float of an integer of
/// more than 64 bits, which is why it does not read here.
struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl Reader<'_> {
    fn value(&mut self, depth: usize) -> Result<Value, Error> {
        if depth > DEPTH_LIMIT {
            return Err(Error::new(
                ErrorKind::InvalidOperation,
                "JSON is nested too deeply",
            ));
        }
        match self.peek() {
            Some(b'{') => self.object(depth),
            Some(b'[') => self.list(depth),
            Some(b'"') => self.string(),
            Some(b't') => Ok(self.word(4, Value::from(true))),
            Some(b'f') => Ok(self.word(5, Value::from(false))),
            Some(b'n') => Ok(self.word(4, Value::from(()))),
            Some(_) => Ok(self.number()),
            None => Err(malformed()),
        }
    }

    /// The next byte that is not white space.
    fn peek(&mut self) -> Option<u8> {
        let bytes = self.text.as_bytes();
        while matches!(bytes.get(self.at), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
        bytes.get(self.at).copied()
    }

    fn word(&mut self, length: usize, value: Value) -> Value {
        self.at += length;
        value
    }

    fn list(&mut self, depth: usize) -> Result<Value, Error> {
        let mut items = Vec::new();
        self.at += 1;
        while self.next_item(b']')? {
            items.push(self.value(depth + 1)?);
        }
        Ok(Value::from(items))
    }

    fn object(&mut self, depth: usize) -> Result<Value, Error> {
        let mut pairs = Vec::new();
        self.at += 1;
        while self.next_item(b'}')? {
            let key = self.string()?;
            // The colon.
            self.peek();
            self.at += 1;
            pairs.push((key, self.value(depth + 1)?));
        }
        Ok(Value::from_pairs(pairs))
    }

    /// Steps over a comma to the next item, or over the closing bracket.
    fn next_item(&mut self, close: u8) -> Result<bool, Error> {
        if self.peek() == Some(b',') {
            self.at += 1;
        }
        match self.peek() {
            Some(byte) if byte == close => {
                self.at += 1;
                Ok(false)
            }
            Some(_) => Ok(true),
            None => Err(malformed()),
        }
    }

    fn string(&mut self) -> Result<Value, Error> {
        let start = self.at;
        let bytes = self.text.as_bytes();
        let mut end = start + 1;
        let mut escaped = false;
        while let Some(byte) = bytes.get(end)
            && *byte != b'"'
        {
            escaped |= *byte == b'\\';
            end += if *byte == b'\\' { 2 } else { 1 };
        }
        self.at = end + 1;
        let quoted = self.text.get(start..self.at).ok_or_else(malformed)?;
        if !escaped {
            return Ok(Value::from(&quoted[1..quoted.len() - 1]));
        }
        serde_json::from_str::<String>(quoted)
            .map(Value::from)
            .map_err(|_| malformed())
    }

    fn number(&mut self) -> Value {
        let rest = &self.text[self.at..];
        let length = rest
            .find([',', ']', '}', ' ', '\n', '\r', '\t'])
            .unwrap_or(rest.len());
        self.at += length.max(1);
        number(&rest[..length])
    }
}

/// The value of a JSON number.
fn number(text: &str) -> Value {
    if let Ok(number) = text.parse::<i64>() {
        return Value::from(number);
    }
    if text.contains(['.', 'e', 'E']) {
        if let Ok(number) = text.parse::<f64>()
            && number.is_finite()
        {
            return Value::from(number);
        }
    } else if let Ok(number) = text.parse::<u64>() {
        return Value::from(number);
    } else if let Ok(number) = text.parse::<i128>() {
        return Value::from(number);
    }
    Value::from_object(Digits(text.into()))
}

fn malformed() -> Error {
    Error::new(ErrorKind::InvalidOperation, "the text is not JSON")
}

/// The text of an object, entry by entry: values keep all their digits.
#[derive(Default)]
pub(crate) struct JsonObject(String);

impl JsonObject {
    /// Adds an entry; `value` is JSON.
    pub(crate) fn push(&mut self, name: &str, value: &str) {
        self.0.push(if self.0.is_empty() { '{' } else { ',' });
        self.0
            .push_str(&serde_json::to_string(name).expect("a text is JSON"));
        self.0.push(':');
        self.0.push_str(value);
    }

    /// The object.
    pub(crate) fn json(&self) -> Json {
        let text = if self.0.is_empty() {
            "{}".to_owned()
        } else {
            format!("{}}}", self.0)
        };
        Json::parse(text).expect("names and values are JSON")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> Value {
        Json::parse(text.to_owned()).expect("JSON").value().clone()
    }

    #[test]
    fn reads_what_serde_json_reads() {
        let text = r#" { "a" : [ 1 , -2, 1.0, 1e2, true, false, null, "x\"\u00e4\n", {} , [] ],
            "b": {"c": "ü{[,]}"} } "#;
        let expected = serde_json::from_str::<Value>(text).expect("JSON");
        assert_eq!(value(text), expected);
        assert!(!value("1.0").is_integer());
        assert!(value("18446744073709551615").is_integer());
    }

    #[test]
    fn keeps_integers_of_any_size() {
        for digits in [
            "18446744073709551616",
            "-170141183460469231731687303715884105728",
        ] {
            assert_eq!(value(digits).to_string(), digits);
        }
        let digits = "9".repeat(60);
        assert_eq!(value(&digits).to_string(), digits);
    }

    #[test]
    fn fails_at_use_where_it_is_too_deep() {
        let deep = value(&format!("{}{}", "[".repeat(5000), "]".repeat(5000)));
        assert_eq!(deep.kind(), minijinja::value::ValueKind::Invalid);
    }
}
