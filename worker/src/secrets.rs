//! Secrets: the places of an input that only the worker can fill in, and their values, which must not
//! leave it again.
//!
//! A job names the places; the values are in the worker's environment, `FLOTILLA_SECRET_<NAME>`, with the
//! name in capitals and `-` as `_`. Nothing else in the input is looked up. What a handler answers or logs
//! has `***` in their place.

use std::sync::Arc;

use flotilla_protocol::RawJson;
use flotilla_protocol::message::TaskJob;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

use crate::error::ActionError;

/// What stands in the place of a secret in answers and logs.
const MASK: &str = "***";
/// Shorter values are not masked: they would be found everywhere.
const LEAST_MASKED_BYTES: usize = 4;

/// A place of the input, and what it is put together from.
#[derive(Debug, Deserialize)]
struct Place {
    /// A JSON pointer.
    at: String,
    parts: Vec<Part>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Part {
    Text(String),
    Secret(String),
}

/// The values that must not be seen, each as it is and as JSON spells it. Most jobs have none.
#[derive(Debug, Clone, Default)]
pub(crate) struct Mask(Option<Arc<[Masked]>>);

#[derive(Debug)]
struct Masked {
    plain: String,
    escaped: String,
}

impl Mask {
    fn of(values: impl IntoIterator<Item = String>) -> Self {
        let mut masked: Vec<Masked> = Vec::new();
        // The lines of a value of several lines are logged one by one.
        let values = values.into_iter().flat_map(|value| {
            let lines: Vec<String> = value.lines().map(str::to_owned).collect();
            std::iter::once(value).chain(lines)
        });
        for plain in values.filter(|value| value.len() >= LEAST_MASKED_BYTES) {
            if !masked.iter().any(|known| known.plain == plain) {
                let quoted = Value::from(plain.as_str()).to_string();
                let escaped = quoted[1..quoted.len() - 1].to_owned();
                masked.push(Masked { plain, escaped });
            }
        }
        // A value that holds another is looked for first.
        masked.sort_by_key(|value| std::cmp::Reverse(value.plain.len()));
        Self((!masked.is_empty()).then(|| masked.into()))
    }

    /// A text without the values.
    pub(crate) fn text(&self, text: String) -> String {
        let values = self.0.iter().flat_map(|values| values.iter());
        values.fold(text, |text, value| {
            if text.contains(&value.plain) {
                text.replace(&value.plain, MASK)
            } else {
                text
            }
        })
    }

    /// JSON without the values.
    pub(crate) fn json(&self, json: RawJson) -> RawJson {
        let values = self.0.iter().flat_map(|values| values.iter());
        values.fold(json, |json, value| {
            if !json.get().contains(&value.escaped) {
                return json;
            }
            let masked = json.get().replace(&value.escaped, MASK);
            // A value of digits alone may have been a number.
            RawValue::from_string(masked)
                .unwrap_or_else(|_| to_raw_value(MASK).expect("a text can be written as JSON"))
        })
    }
}

/// Fills in the secrets of a job; gives what is not to be seen of its answer.
///
/// # Errors
/// A secret that this worker does not have, and a place that does not exist.
pub(crate) fn fill_in(
    job: &mut TaskJob,
    find: impl Fn(&str) -> Option<String>,
) -> Result<Mask, ActionError> {
    if job.secrets.is_empty() {
        return Ok(Mask::default());
    }
    let invalid = |message: String| ActionError::fatal("invalid_input", message);
    let mut input: Value = serde_json::from_str(job.input.get())
        .map_err(|error| invalid(format!("the input cannot be read: {error}")))?;
    let mut values = Vec::new();
    for place in &job.secrets {
        let place: Place = serde_json::from_str(place.get())
            .map_err(|error| invalid(format!("a place of a secret cannot be read: {error}")))?;
        let mut text = String::new();
        for part in place.parts {
            match part {
                Part::Text(part) => text.push_str(&part),
                Part::Secret(name) => {
                    let variable = variable(&name);
                    let value = find(&variable).ok_or_else(|| missing(&name, &variable))?;
                    text.push_str(&value);
                    values.push(value);
                }
            }
        }
        let Some(target) = input.pointer_mut(&place.at) else {
            return Err(invalid(format!("the input has no place {}", place.at)));
        };
        *target = Value::from(text);
    }
    job.input =
        to_raw_value(&input).map_err(|error| invalid(format!("the input is no JSON: {error}")))?;
    Ok(Mask::of(values))
}

/// The name of the variable that holds a secret.
fn variable(name: &str) -> String {
    format!(
        "FLOTILLA_SECRET_{}",
        name.to_ascii_uppercase().replace('-', "_")
    )
}

fn missing(name: &str, variable: &str) -> ActionError {
    let message =
        format!("this worker has no secret `{name}`: start it with {variable} in its environment");
    ActionError::fatal("unknown_secret", message)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn raw(value: &Value) -> RawJson {
        to_raw_value(value).unwrap()
    }

    fn with(input: &Value, secrets: &[Value]) -> TaskJob {
        let id = "0190b6a4-0000-7000-8000-000000000001";
        let job = json!({
            "execution_id": id, "task_id": id, "attempt": 1, "workflow": "a.b", "task": "t",
            "visit": 1, "action": "core.echo", "input": input, "timeout": null, "heartbeat": null,
            "idempotency_key": id, "item": null, "secrets": secrets
        });
        serde_json::from_str(&job.to_string()).unwrap()
    }

    fn find(variable: &str) -> Option<String> {
        match variable {
            "FLOTILLA_SECRET_API_TOKEN" => Some("s3cr\"et".to_owned()),
            "FLOTILLA_SECRET_PIN" => Some("123".to_owned()),
            "FLOTILLA_SECRET_KEY" => Some("line one\nline two".to_owned()),
            _ => None,
        }
    }

    #[test]
    fn a_secret_is_put_in_its_place_and_nowhere_else() {
        let input =
            json!({"headers": {"a/b": null, "other": "{{ secret('pin') }}"}, "list": [1, null]});
        let places = [
            json!({"at": "/headers/a~1b", "parts": [{"text": "Bearer "}, {"secret": "api-token"}]}),
            json!({"at": "/list/1", "parts": [{"secret": "pin"}, {"text": "!"}]}),
        ];
        let mut job = with(&input, &places);
        fill_in(&mut job, find).unwrap();
        let filled: Value = serde_json::from_str(job.input.get()).unwrap();
        assert_eq!(
            filled,
            json!({"headers": {"a/b": "Bearer s3cr\"et", "other": "{{ secret('pin') }}"}, "list": [1, "123!"]})
        );
    }

    #[test]
    fn what_was_filled_in_is_not_seen_again() {
        let places = [
            json!({"at": "/a", "parts": [{"secret": "api-token"}]}),
            json!({"at": "/b", "parts": [{"secret": "key"}]}),
            json!({"at": "/c", "parts": [{"secret": "pin"}]}),
        ];
        let mut job = with(&json!({"a": null, "b": null, "c": null}), &places);
        let mask = fill_in(&mut job, find).unwrap();
        let answer = json!({"said": "it is s3cr\"et and 123", "key": "line one\nline two"});
        assert_eq!(
            serde_json::from_str::<Value>(mask.json(raw(&answer)).get()).unwrap(),
            json!({"said": "it is *** and 123", "key": "***"}),
            "what is short is everywhere"
        );
        assert_eq!(mask.text("s3cr\"et, line two".to_owned()), "***, ***");
        let none = fill_in(&mut with(&json!({}), &[]), find).unwrap();
        assert_eq!(none.text("s3cr\"et".to_owned()), "s3cr\"et");
    }

    #[test]
    fn a_number_that_is_a_secret_is_not_seen_either() {
        let mask = Mask::of(["12345".to_owned()]);
        assert_eq!(mask.json(raw(&json!({"n": 12345}))).get(), "\"***\"");
    }

    #[test]
    fn what_cannot_be_filled_in_is_an_error_that_says_what_to_do() {
        let place = |at: &str, name: &str| json!({"at": at, "parts": [{"secret": name}]});
        let refused = |places: &[Value]| {
            fill_in(&mut with(&json!({"a": null}), places), find).expect_err("it is refused")
        };
        let unknown = refused(&[place("/a", "absent")]);
        assert_eq!(unknown.kind, "unknown_secret");
        assert!(unknown.message.contains("FLOTILLA_SECRET_ABSENT"));
        assert!(!unknown.retryable);
        assert_eq!(refused(&[place("/b", "pin")]).kind, "invalid_input");
        assert_eq!(refused(&[json!({"at": 1})]).kind, "invalid_input");
    }
}
