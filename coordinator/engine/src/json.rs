//! JSON that is held once and shared: the text as it came or goes, and the template engine's value
//! of it, made when an expression first looks inside.

use std::fmt;
use std::sync::{Arc, OnceLock};

use minijinja::Value;
use serde_json::value::RawValue;

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

    /// The value that expressions see, converted at the first call.
    #[must_use]
    pub fn value(&self) -> &Value {
        self.0
            .value
            .get_or_init(|| serde_json::from_str(self.text()).unwrap_or_default())
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
