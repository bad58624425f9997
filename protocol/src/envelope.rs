//! What the broker tells about a message apart from its body, without naming any AMQP library.

use crate::names::MAX_TRACEPARENT_BYTES;

/// The properties and headers of one delivery that Flotilla looks at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Envelope {
    /// The property `type`.
    pub message_type: Option<String>,
    /// The property `message_id`; makes a message idempotent.
    pub message_id: Option<String>,
    /// The property `correlation_id`.
    pub correlation_id: Option<String>,
    /// The queue that wants an answer.
    pub reply_to: Option<String>,
    /// The header `flotilla-version`; `i64::MAX` if it is there and is no whole number, since only
    /// a later contract can mean that.
    pub version: Option<i64>,
    /// How often the message was delivered before (`x-delivery-count`); 0 if the queue does not count.
    pub delivery_count: u32,
    /// Whether the broker marks the message as delivered before.
    pub redelivered: bool,
    /// The trace that the message belongs to, as the header of the W3C; none if it is longer than
    /// [`MAX_TRACEPARENT_BYTES`].
    pub traceparent: Option<String>,
    /// Why the message is a dead letter: `flotilla-reason`, else the broker's own reason.
    pub reason: Option<String>,
    /// The queue in which the message was before it became a dead letter.
    pub original_queue: Option<String>,
}

impl Envelope {
    /// An envelope that has nothing but a type.
    #[must_use]
    pub fn of_type(message_type: &str) -> Self {
        Self {
            message_type: Some(message_type.to_owned()),
            ..Self::default()
        }
    }

    /// The texts that may travel on to Postgres.
    pub(crate) fn texts(&self) -> [Option<&str>; 5] {
        [
            self.message_type.as_deref(),
            self.message_id.as_deref(),
            self.correlation_id.as_deref(),
            self.reply_to.as_deref(),
            self.traceparent.as_deref(),
        ]
    }
}

/// Whether a trace may travel on. One that is too long is left out, as the W3C allows: it means nothing,
/// and no message of ours could carry it.
pub(crate) fn is_passed_on(traceparent: &str) -> bool {
    traceparent.len() <= MAX_TRACEPARENT_BYTES
}
