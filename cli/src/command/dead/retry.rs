//! Publishing a dead letter again.

use std::borrow::Cow;

use flotilla_coordinator::storage::{DeadLetter, Resolution};
use flotilla_protocol::amqp::{
    ConnectOptions, Outgoing, PublishOutcome, Publisher, PublisherOptions,
};
use flotilla_protocol::names;
use serde_json::Value;

use super::open;
use crate::broker;
use crate::database::Database;
use crate::failure::Failure;

/// Headers that tell of the death, by their beginnings: the message had none of them before.
const OF_THE_DEATH: [&str; 6] = [
    names::REASON_HEADER,
    names::QUEUE_HEADER,
    names::DEATH_HEADER,
    names::DELIVERY_COUNT_HEADER,
    "x-first-death-",
    "x-last-death-",
];

/// Publishes dead letters to the queues that they came from.
pub struct Retrying {
    publisher: Publisher,
}

impl Retrying {
    /// Connects.
    pub async fn begin(amqp_url: &str) -> Result<Self, Failure> {
        // The publisher would try for long; a broker that is not there is to be told at once.
        broker::connect(amqp_url).await?.close().await;
        let name = format!("{} dead retry", broker::CONNECTION_NAME);
        let options = ConnectOptions::new(amqp_url, name);
        Ok(Self {
            publisher: Publisher::start(PublisherOptions::new(options)),
        })
    }

    /// Publishes a dead letter, then marks it as retried; gives its row.
    ///
    /// At least once: what ends between the confirm and the mark leaves the letter open, and the
    /// next retry publishes it a second time. It is never marked without having been published.
    /// One that dies again before it is marked stays open, since it has come again.
    pub async fn retry(&self, database: &Database, id: i64) -> Result<Value, Failure> {
        let mut letter = open(database, id).await?;
        if letter.queue == names::DEAD {
            return Err(Failure::refused(format!(
                "dead letter {id} was published to {} itself: there is no queue to send it back to",
                names::DEAD
            ))
            .hint("`flotilla dead discard ID` takes it off the list"));
        }
        let outcome = self.publisher.publish(message(&letter)).await;
        judge(&letter, outcome)?;
        if database.resolve(&letter, Resolution::Retried).await? {
            letter.row["resolution"] = Resolution::Retried.word().into();
        } else {
            tracing::warn!(
                id,
                "it was published, and is left open: it has come again or was changed by somebody else"
            );
        }
        Ok(letter.row)
    }

    /// Disconnects.
    pub async fn end(self) {
        self.publisher.close().await;
    }
}

fn judge(letter: &DeadLetter, outcome: PublishOutcome) -> Result<(), Failure> {
    let DeadLetter { id, queue, .. } = letter;
    match outcome {
        PublishOutcome::Confirmed => Ok(()),
        PublishOutcome::Returned => Err(Failure::refused(format!(
            "dead letter {id} was not retried: the queue {queue} does not exist"
        ))
        .hint("`flotilla migrate` and workers of the pool declare queues")
        .of_kind("no_queue")),
        PublishOutcome::Nacked => Err(Failure::refused(format!(
            "dead letter {id} was not retried: the broker refused it, for {queue} is full or a property is too long"
        ))),
        PublishOutcome::Unknown => Err(Failure::unreachable(format!(
            "dead letter {id} may have been published or not: the broker did not confirm it; it stays open"
        ))
        .hint("retry it again once the broker answers")),
    }
}

/// The message as it was when it came to its queue. Headers that are neither texts nor numbers are
/// left out: no message of Flotilla has any.
fn message(letter: &DeadLetter) -> Outgoing {
    let property = |name: &str| letter.properties[name].as_str().map(str::to_owned);
    let headers = letter.properties["headers"].as_object();
    let of_its_own = headers.into_iter().flatten().filter_map(|(name, value)| {
        let is_of_the_death = OF_THE_DEATH.iter().any(|start| name.starts_with(start));
        let text = header_text(value).filter(|_| !is_of_the_death)?;
        Some((name.clone(), text))
    });
    Outgoing {
        message_id: property("message_id"),
        correlation_id: property("correlation_id"),
        reply_to: property("reply_to"),
        headers: of_its_own.collect(),
        ..Outgoing::to_queue(
            letter.queue.as_str(),
            Cow::Owned(property("type").unwrap_or_default()),
            letter.body.clone(),
        )
    }
}

fn header_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_message_is_what_it_was_before_its_death() {
        let letter = DeadLetter {
            id: 1,
            queue: "flotilla.start".to_owned(),
            properties: json!({
                "type": "workflow.start", "message_id": "m-1", "correlation_id": "c-1",
                "reply_to": "answers", "content_type": "application/json", "exchange": "flotilla",
                "routing_key": "workflow.start", "redelivered": false,
                "headers": {
                    "flotilla-version": 2, "traceparent": "00-1", "flotilla-reason": "newer_version",
                    "flotilla-queue": "flotilla.start", "x-death": [{"count": 1}],
                    "x-first-death-reason": "delivery_limit", "x-delivery-count": 21, "mine": "x"
                }
            }),
            body: b"\xff{}".to_vec(),
            received_at: DateTime::UNIX_EPOCH,
            resolution: None,
            row: Value::Null,
        };
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let expected = Outgoing {
            message_id: Some("m-1".to_owned()),
            correlation_id: Some("c-1".to_owned()),
            reply_to: Some("answers".to_owned()),
            headers: vec![
                pair("flotilla-version", "2"),
                pair("mine", "x"),
                pair("traceparent", "00-1"),
            ],
            ..Outgoing::new("", "flotilla.start", "workflow.start", b"\xff{}".to_vec())
        };
        let mut message = message(&letter);
        message.headers.sort();
        assert_eq!(message, expected);
        assert!(expected.mandatory);
    }
}
