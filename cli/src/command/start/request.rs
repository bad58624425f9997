//! The start message, made from the arguments and published.

use std::collections::BTreeMap;
use std::time::Duration;

use flotilla_protocol::amqp::Outgoing;
use flotilla_protocol::message::WorkflowStart;
use flotilla_protocol::{ExecutionId, RawJson, names};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::StartArguments;
use super::replies::StartReplies;
use crate::failure::Failure;
use crate::replies::{Asked, Replies};

/// A start message that is ready to be sent.
pub struct Request {
    start: WorkflowStart,
}

impl Request {
    /// Puts the message together.
    pub fn new(arguments: &StartArguments) -> Result<Self, Failure> {
        // A key names the start by itself; an id of ours beside it would make each start a new one.
        let made = || {
            let id = ExecutionId(Uuid::now_v7());
            arguments.key.is_none().then_some(id)
        };
        let start = WorkflowStart {
            workflow: arguments.workflow.clone(),
            version: arguments.version.clone(),
            parameters: parameters(arguments)?,
            execution_id: arguments.id.or_else(made),
            idempotency_key: arguments.key.clone(),
            tags: tags(&arguments.tags)?,
            timeout: None,
        };
        Ok(Self { start })
    }

    /// The id of the execution, if the message gives one.
    pub fn id(&self) -> Option<ExecutionId> {
        self.start.execution_id
    }

    /// Publishes the message, confirmed, with a queue of its own for the replies.
    pub async fn publish(&self, amqp_url: &str) -> Result<StartReplies, Failure> {
        let asked = Asked {
            name: "start message",
            queue: names::START_QUEUE,
            again: "start again with the same --id or --key: that makes one execution",
        };
        let replies = Replies::ask(amqp_url, asked, Outgoing::start(&self.start)).await?;
        Ok(StartReplies::new(replies))
    }
}

fn parameters(arguments: &StartArguments) -> Result<Option<RawJson>, Failure> {
    if arguments.params_json.is_none() && arguments.parameters.is_empty() {
        return Ok(None);
    }
    let mut all = arguments.params_json.clone().unwrap_or_default();
    let mut seen = BTreeMap::new();
    for (key, text) in &arguments.parameters {
        once(&mut seen, "-p", key, text)?;
        all.insert(key.clone(), value(text));
    }
    let raw = serde_json::value::to_raw_value(&all)
        .map_err(|error| Failure::refused("the parameters are no JSON").because(error))?;
    Ok(Some(raw))
}

fn tags(given: &[(String, String)]) -> Result<BTreeMap<String, String>, Failure> {
    let mut tags = BTreeMap::new();
    for (key, text) in given {
        once(&mut tags, "--tag", key, text)?;
    }
    Ok(tags)
}

fn once(
    seen: &mut BTreeMap<String, String>,
    flag: &str,
    key: &str,
    text: &str,
) -> Result<(), Failure> {
    match seen.insert(key.to_owned(), text.to_owned()) {
        None => Ok(()),
        Some(_) => Err(Failure::refused(format!("{flag} {key}= is given twice"))),
    }
}

/// JSON if it parses as JSON, else text.
fn value(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()))
}

/// An object of what a flag was given; `None` if it was not.
pub fn object_of(flag: &str, given: &[(String, String)]) -> Result<Option<RawJson>, Failure> {
    if given.is_empty() {
        return Ok(None);
    }
    let (mut all, mut seen) = (Map::new(), BTreeMap::new());
    for (key, text) in given {
        once(&mut seen, flag, key, text)?;
        all.insert(key.clone(), value(text));
    }
    let raw = serde_json::value::to_raw_value(&all);
    raw.map(Some)
        .map_err(|error| Failure::refused(format!("what {flag} gives is no JSON")).because(error))
}

/// Reads `key=value`.
pub fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        Some(_) | None => Err("write key=value".to_owned()),
    }
}

/// Reads a JSON object.
pub fn object(text: &str) -> Result<Map<String, Value>, String> {
    serde_json::from_str(text).map_err(|error| format!("not a JSON object: {error}"))
}

/// Reads a number of seconds.
pub fn seconds(text: &str) -> Result<Duration, String> {
    let number: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    Duration::try_from_secs_f64(number).map_err(|_| "not a number of seconds".to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_value_is_json_where_it_parses_and_text_elsewhere() {
        assert_eq!(value("7"), json!(7));
        assert_eq!(value("true"), json!(true));
        assert_eq!(value("\"7\""), json!("7"));
        assert_eq!(value("[1, 2]"), json!([1, 2]));
        assert_eq!(value("a=b"), json!("a=b"));
        assert_eq!(value(""), json!(""));
    }

    #[test]
    fn a_pair_is_split_at_its_first_equals_sign() {
        assert_eq!(pair("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
        assert!(pair("a").is_err());
        assert!(pair("=b").is_err());
    }

    #[test]
    fn seconds_are_positive_numbers() {
        assert_eq!(seconds("1.5"), Ok(Duration::from_millis(1500)));
        for text in ["-1", "inf", "NaN", "soon"] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }
}
