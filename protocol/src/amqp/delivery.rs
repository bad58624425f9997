//! A message as it was delivered, with its properties as Flotilla and as people read them.

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, ShortString};
use serde_json::{Map, Value};

use crate::bundle::decode_bundle;
use crate::envelope::{Envelope, is_passed_on};
use crate::names;
use crate::refusal::Refused;

/// One delivery. It is acknowledged through the [`Acker`](super::Acker) of its consumer.
#[derive(Debug)]
pub struct Delivery {
    /// The number of the delivery on its channel, from 1.
    pub tag: u64,
    /// The exchange that it was published to.
    pub exchange: String,
    /// The routing key that it was published with.
    pub routing_key: String,
    /// Properties and headers.
    pub envelope: Envelope,
    /// The body as it came.
    pub body: Vec<u8>,
    properties: BasicProperties,
}

impl Delivery {
    pub(super) fn new(delivery: lapin::message::Delivery) -> Self {
        Self {
            tag: delivery.delivery_tag,
            exchange: delivery.exchange.as_str().to_owned(),
            routing_key: delivery.routing_key.as_str().to_owned(),
            envelope: envelope(&delivery.properties, delivery.redelivered),
            body: delivery.data,
            properties: delivery.properties,
        }
    }

    /// Whether it is a bundle of jobs.
    #[must_use]
    pub fn is_bundle(&self) -> bool {
        self.envelope.message_type.as_deref() == Some(names::TASK_BUNDLE)
    }

    /// The jobs of a bundle, each as if it had been delivered alone, but with the number of this delivery.
    ///
    /// # Errors
    /// It is no bundle that can be read.
    pub fn unbundle(&self) -> Result<Vec<Self>, Refused> {
        let jobs = decode_bundle(&self.envelope, &self.body)?.into_iter();
        Ok(jobs
            .map(|job| Self {
                tag: self.tag,
                exchange: self.exchange.clone(),
                routing_key: self.routing_key.clone(),
                envelope: job.envelope,
                body: job.body,
                properties: BasicProperties::default(),
            })
            .collect())
    }

    /// All properties and headers as JSON, for the table of dead letters.
    #[must_use]
    pub fn properties_json(&self) -> Value {
        let properties = &self.properties;
        let mut json = Map::new();
        for (name, text) in [
            ("type", properties.kind()),
            ("message_id", properties.message_id()),
            ("correlation_id", properties.correlation_id()),
            ("reply_to", properties.reply_to()),
            ("content_type", properties.content_type()),
            ("content_encoding", properties.content_encoding()),
            ("expiration", properties.expiration()),
            ("user_id", properties.user_id()),
            ("app_id", properties.app_id()),
        ] {
            if let Some(text) = text {
                json.insert(name.to_owned(), storable(text.as_str()));
            }
        }
        if let Some(timestamp) = properties.timestamp() {
            json.insert("timestamp".to_owned(), Value::from(*timestamp));
        }
        if let Some(priority) = properties.priority() {
            json.insert("priority".to_owned(), Value::from(*priority));
        }
        if let Some(headers) = properties.headers() {
            json.insert("headers".to_owned(), table_json(headers));
        }
        json.insert("exchange".to_owned(), storable(&self.exchange));
        json.insert("routing_key".to_owned(), storable(&self.routing_key));
        json.insert("redelivered".to_owned(), self.envelope.redelivered.into());
        Value::Object(json)
    }
}

fn envelope(properties: &BasicProperties, redelivered: bool) -> Envelope {
    let mut envelope = Envelope {
        message_type: text(properties.kind()),
        message_id: text(properties.message_id()),
        correlation_id: text(properties.correlation_id()),
        reply_to: text(properties.reply_to()),
        redelivered,
        ..Envelope::default()
    };
    if let Some(headers) = properties.headers() {
        read_headers(&mut envelope, headers);
    }
    envelope
}

fn text(property: &Option<ShortString>) -> Option<String> {
    property.as_ref().map(|text| text.as_str().to_owned())
}

fn read_headers(envelope: &mut Envelope, headers: &FieldTable) {
    let header = |name: &str| headers.inner().get(name);
    envelope.version = header(names::VERSION_HEADER).map(version);
    envelope.delivery_count = header(names::DELIVERY_COUNT_HEADER)
        .and_then(whole)
        .and_then(|count| u32::try_from(count).ok())
        .unwrap_or(0);
    envelope.traceparent = header(names::TRACEPARENT_HEADER)
        .and_then(header_text)
        .filter(|trace| is_passed_on(trace));
    envelope.reason = header(names::REASON_HEADER).and_then(header_text);
    envelope.original_queue = header(names::QUEUE_HEADER).and_then(header_text);
    // What the broker did last comes first; it speaks where nobody of ours has said more.
    if let Some(AMQPValue::FieldArray(deaths)) = header(names::DEATH_HEADER)
        && let Some(AMQPValue::FieldTable(death)) = deaths.as_slice().first()
    {
        let of_death = |name: &str| death.inner().get(name).and_then(header_text);
        envelope.reason = envelope.reason.take().or_else(|| of_death("reason"));
        envelope.original_queue = envelope.original_queue.take().or_else(|| of_death("queue"));
    }
}

/// The version of the contract; what is no number can only be of a later one.
fn version(value: &AMQPValue) -> i64 {
    whole(value)
        .or_else(|| header_text(value)?.parse().ok())
        .unwrap_or(i64::MAX)
}

fn whole(value: &AMQPValue) -> Option<i64> {
    match *value {
        AMQPValue::ShortShortInt(n) => Some(n.into()),
        AMQPValue::ShortShortUInt(n) => Some(n.into()),
        AMQPValue::ShortInt(n) => Some(n.into()),
        AMQPValue::ShortUInt(n) => Some(n.into()),
        AMQPValue::LongInt(n) => Some(n.into()),
        AMQPValue::LongUInt(n) => Some(n.into()),
        AMQPValue::LongLongInt(n) => Some(n),
        AMQPValue::Boolean(_)
        | AMQPValue::Float(_)
        | AMQPValue::Double(_)
        | AMQPValue::DecimalValue(_)
        | AMQPValue::ShortString(_)
        | AMQPValue::LongString(_)
        | AMQPValue::FieldArray(_)
        | AMQPValue::Timestamp(_)
        | AMQPValue::FieldTable(_)
        | AMQPValue::ByteArray(_)
        | AMQPValue::Void => None,
    }
}

fn header_text(value: &AMQPValue) -> Option<String> {
    if let AMQPValue::LongString(text) = value {
        return Some(String::from_utf8_lossy(text.as_bytes()).into_owned());
    }
    if let AMQPValue::ShortString(text) = value {
        return Some(text.as_str().to_owned());
    }
    None
}

/// A text that Postgres takes: without U+0000.
fn storable(text: &str) -> Value {
    Value::String(text.replace('\0', "\u{fffd}"))
}

fn table_json(table: &FieldTable) -> Value {
    let fields = table.inner().iter().map(|(name, value)| {
        let name = name.as_str().replace('\0', "\u{fffd}");
        (name, value_json(value))
    });
    Value::Object(fields.collect())
}

fn value_json(value: &AMQPValue) -> Value {
    match value {
        AMQPValue::Boolean(yes) => (*yes).into(),
        AMQPValue::Float(n) => f64::from(*n).into(),
        AMQPValue::Double(n) => (*n).into(),
        AMQPValue::DecimalValue(n) => format!("{}e-{}", n.value, n.scale).into(),
        AMQPValue::ShortString(text) => storable(text.as_str()),
        AMQPValue::LongString(text) => storable(&String::from_utf8_lossy(text.as_bytes())),
        AMQPValue::ByteArray(bytes) => storable(&String::from_utf8_lossy(bytes.as_slice())),
        AMQPValue::Timestamp(seconds) => (*seconds).into(),
        AMQPValue::FieldArray(values) => values.as_slice().iter().map(value_json).collect(),
        AMQPValue::FieldTable(table) => table_json(table),
        AMQPValue::Void => Value::Null,
        AMQPValue::ShortShortInt(_)
        | AMQPValue::ShortShortUInt(_)
        | AMQPValue::ShortInt(_)
        | AMQPValue::ShortUInt(_)
        | AMQPValue::LongInt(_)
        | AMQPValue::LongUInt(_)
        | AMQPValue::LongLongInt(_) => whole(value).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_that_no_message_can_carry_is_left_out() {
        let traceparent = |bytes: usize| {
            let mut headers = FieldTable::default();
            let value = AMQPValue::LongString("0".repeat(bytes).into());
            headers.insert(names::TRACEPARENT_HEADER.into(), value);
            let properties = BasicProperties::default().with_headers(headers);
            envelope(&properties, false).traceparent
        };
        assert_eq!(traceparent(55), Some("0".repeat(55)));
        assert_eq!(traceparent(512), Some("0".repeat(512)));
        assert_eq!(traceparent(513), None);
        assert_eq!(traceparent(5_000), None);
    }
}
