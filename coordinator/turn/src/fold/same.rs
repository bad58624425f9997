//! Comparing, and the list of what differs.

use std::fmt::Debug;

use flotilla_engine::Json;
use serde_json::{Number, Value};

use super::MAX_DIFFERENCES;

/// Characters of a value that a sentence shows.
const SHOWN: usize = 120;

/// What differs, up to [`MAX_DIFFERENCES`].
#[derive(Default)]
pub(super) struct Differences(Vec<String>);

impl Differences {
    /// Adds a sentence, if there is room.
    pub fn add(&mut self, sentence: impl FnOnce() -> String) {
        if self.0.len() < MAX_DIFFERENCES {
            self.0.push(sentence());
        }
    }

    /// Compares a value as it is stored with what the log gives.
    pub fn compare<T: PartialEq<U> + Debug, U: Debug>(
        &mut self,
        what: impl FnOnce() -> String,
        stored: &T,
        folded: &U,
    ) {
        if stored != folded {
            self.add(|| sentence(&what(), &format!("{stored:?}"), &format!("{folded:?}")));
        }
    }

    /// Likewise for JSON, as values: Postgres orders keys and writes numbers in its own way.
    pub fn compare_json(
        &mut self,
        what: impl FnOnce() -> String,
        stored: Option<&Json>,
        folded: Option<&Json>,
    ) {
        if !same_optional_json(stored, folded) {
            let text = |json: Option<&Json>| json.map_or("NULL", Json::text).to_owned();
            self.add(|| sentence(&what(), &text(stored), &text(folded)));
        }
    }

    pub fn into_sentences(self) -> Vec<String> {
        self.0
    }
}

fn sentence(what: &str, stored: &str, folded: &str) -> String {
    format!(
        "{what} is {}; the log gives {}",
        shown(stored),
        shown(folded)
    )
}

pub(super) fn shown(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

pub(super) fn same_optional_json(one: Option<&Json>, other: Option<&Json>) -> bool {
    match (one, other) {
        (None, None) => true,
        (Some(one), Some(other)) => same_json(one, other),
        (Some(_), None) | (None, Some(_)) => false,
    }
}

fn same_json(one: &Json, other: &Json) -> bool {
    if one == other {
        return true;
    }
    let parse = |json: &Json| serde_json::from_str::<Value>(json.text()).ok();
    match (parse(one), parse(other)) {
        (Some(one), Some(other)) => same_value(&one, &other),
        (Some(_) | None, None) | (None, Some(_)) => false,
    }
}

fn same_value(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => same_number(one, other),
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(a, b)| same_value(a, b))
        }
        (Value::Object(one), Value::Object(other)) => {
            let found = |(name, a)| other.get(name).is_some_and(|b| same_value(a, b));
            one.len() == other.len() && one.iter().all(found)
        }
        (one, other) => one == other,
    }
}

/// Whether two numbers are the same however they are written: `1e2`, `100` and `100.0`.
fn same_number(one: &Number, other: &Number) -> bool {
    if one == other {
        return true;
    }
    if !(one.is_f64() || other.is_f64()) {
        return false;
    }
    match (one.as_f64(), other.as_f64()) {
        // Reading a decimal number may be off by the last bit.
        (Some(one), Some(other)) => {
            (one - other).abs() <= f64::EPSILON * one.abs().max(other.abs())
        }
        (Some(_) | None, None) | (None, Some(_)) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn same(one: &str, other: &str) -> bool {
        let json = |text: &str| Json::parse(text.to_owned()).expect("JSON");
        same_json(&json(one), &json(other))
    }

    #[test]
    fn the_order_of_keys_and_the_form_of_numbers_make_no_difference() {
        assert!(same(
            r#"{"b":1e2,"a":[1.50,"x"]}"#,
            r#"{"a": [1.5, "x"], "b": 100}"#
        ));
        assert!(same("1e20", "100000000000000000000"));
        assert!(same("-0.0", "0.0"));
    }

    #[test]
    fn values_make_one() {
        for (one, other) in [
            ("1", "2"),
            ("9007199254740993", "9007199254740992"),
            ("1", "1.0000000000001"),
            (r#"{"a":1}"#, r#"{"a":1,"b":null}"#),
            ("[1,2]", "[2,1]"),
            ("1", r#""1""#),
            ("null", "false"),
        ] {
            assert!(!same(one, other), "{one} {other}");
        }
    }
}
