//! Publishing on one channel: sending, and telling apart what each confirm means.
//!
//! lapin's publish is two waits, for the socket and for the confirm; a set of futures does both for
//! all messages at once. What is ready comes out of the set in the order in which it became ready,
//! so a barrier that is put in last comes out after everything that was ready before: only then is
//! it certain that all returned messages up to there have been seen (see `returns.rs`).

use std::hash::{DefaultHasher, Hash, Hasher};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::Stream;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{BasicProperties, Confirmation};

use super::connection::Connection;
use super::in_flight::{InFlight, Pending};
use super::outgoing::Outgoing;
use super::publisher::PublishOutcome;
use super::reply::Reply;
use super::returns::{Fate, Key, Returns};
use super::traffic::count_published;
use super::{AmqpError, short};
use crate::envelope::is_passed_on;
use crate::names;

/// The headers of a message travel in one frame, together with the other properties.
const MAX_HEADERS_BYTES: usize = 4_096;
/// What lapin and the broker call a message that outlives a restart.
const PERSISTENT: u8 = 2;

pub(super) struct Session {
    channel: Arc<lapin::Channel>,
    works: FuturesUnordered<BoxFuture<'static, Done>>,
    in_flight: InFlight,
    returns: Returns<Reply>,
    /// Confirms that came and are not decided yet.
    confirms: Vec<Confirm>,
    /// How many of `confirms` stood before the barrier that is in the set.
    barrier: Option<usize>,
    /// Time that has passed while the broker took messages.
    clock: Duration,
    /// When the broker last confirmed anything, or had nothing to confirm.
    confirmed_at: Duration,
    has_failed: bool,
}

/// What comes out of the set of futures.
enum Done {
    Publish(Confirm),
    Barrier,
}

struct Confirm {
    number: u64,
    verdict: Verdict,
    /// The confirm carried a returned message: this publish's own or another's.
    had_message: bool,
    message: Option<Key>,
}

#[derive(Clone, Copy)]
enum Verdict {
    Acknowledged,
    Refused,
    Failed,
}

/// A message as lapin takes it.
struct Prepared {
    exchange: ShortString,
    routing_key: ShortString,
    mandatory: bool,
    properties: BasicProperties,
    body: Vec<u8>,
}

impl Session {
    pub(super) async fn open(connection: &Connection) -> Result<Self, AmqpError> {
        let channel = connection.channel().await?;
        channel
            .confirm_select(ConfirmSelectOptions::default())
            .await
            .map_err(AmqpError::Channel)?;
        Ok(Self {
            channel: Arc::new(channel),
            works: FuturesUnordered::new(),
            in_flight: InFlight::default(),
            returns: Returns::new(),
            confirms: Vec::new(),
            barrier: None,
            clock: Duration::ZERO,
            confirmed_at: Duration::ZERO,
            has_failed: false,
        })
    }

    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Puts a message in line; it is written when [`Session::settle`] is polled.
    pub(super) fn send(&mut self, message: Outgoing, reply: Reply) {
        if reply.is_closed() {
            return;
        }
        let key = key(
            &message.exchange,
            &message.routing_key,
            message.message_id.as_deref(),
        );
        let prepared = match prepare(message) {
            Ok(prepared) => prepared,
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "cannot be published"
                );
                reply.send(PublishOutcome::Nacked);
                return;
            }
        };
        if self.in_flight.is_empty() {
            self.confirmed_at = self.clock;
        }
        count_published();
        let number = self.in_flight.add(reply, key, self.clock);
        let channel = Arc::clone(&self.channel);
        self.works.push(Box::pin(async move {
            Done::Publish(publish(&channel, number, prepared).await)
        }));
    }

    /// Writes what is in line, waits for confirms, and answers what can be answered. Cancel-safe:
    /// what was seen stays in the session.
    pub(super) async fn settle(&mut self) {
        let count = std::future::poll_fn(|context| self.poll_barrier(context)).await;
        let confirms: Vec<Confirm> = self.confirms.drain(..count).collect();
        self.confirmed_at = self.clock;
        for confirm in confirms {
            if let Some(pending) = self.in_flight.take(confirm.number) {
                self.decide(&confirm, pending);
            }
        }
        let is_idle = self.in_flight.is_empty() && self.confirms.is_empty();
        for reply in self.returns.end_settling(is_idle) {
            reply.send(PublishOutcome::Confirmed);
        }
    }

    /// Collects confirms until a barrier has come out behind some of them; says how many.
    fn poll_barrier(&mut self, context: &mut Context<'_>) -> Poll<usize> {
        loop {
            match Pin::new(&mut self.works).poll_next(context) {
                Poll::Ready(Some(Done::Publish(confirm))) => self.note(confirm),
                Poll::Ready(Some(Done::Barrier)) => {
                    return Poll::Ready(self.barrier.take().unwrap_or(0));
                }
                Poll::Ready(None) | Poll::Pending => {
                    if self.confirms.is_empty() || self.barrier.is_some() {
                        return Poll::Pending;
                    }
                    self.barrier = Some(self.confirms.len());
                    self.works.push(Box::pin(std::future::ready(Done::Barrier)));
                }
            }
        }
    }

    fn note(&mut self, confirm: Confirm) {
        if let Some(reply) = confirm.message.and_then(|key| self.returns.note(key)) {
            reply.send(PublishOutcome::Returned);
        }
        self.has_failed |= matches!(confirm.verdict, Verdict::Failed);
        self.confirms.push(confirm);
    }

    fn decide(&mut self, confirm: &Confirm, pending: Pending) {
        let Pending { reply, key, .. } = pending;
        let decided = match confirm.verdict {
            Verdict::Failed => Some((PublishOutcome::Unknown, reply)),
            Verdict::Refused => Some((PublishOutcome::Nacked, reply)),
            Verdict::Acknowledged => {
                self.returns
                    .decide(key, confirm.had_message, reply)
                    .map(|(fate, reply)| match fate {
                        Fate::Confirmed => (PublishOutcome::Confirmed, reply),
                        Fate::Returned => (PublishOutcome::Returned, reply),
                    })
            }
        };
        if let Some((outcome, reply)) = decided {
            reply.send(outcome);
        }
    }

    /// Lets time pass in which the broker took messages, and gives up what waits for too long.
    pub(super) fn pass_time(&mut self, passed: Duration, limit: Duration) {
        self.clock += passed;
        if let Some(oldest) = self.clock.checked_sub(limit) {
            let given_up = self.in_flight.give_up_before(oldest);
            if given_up > 0 {
                tracing::warn!(count = given_up, "publishes were not confirmed in time");
                // Some confirms come, some do not: one queue is ill. None at all: the connection.
                self.has_failed |= self.confirmed_at < oldest;
            }
        }
    }

    /// Whether it makes sense to publish on.
    pub(super) fn is_usable(&self) -> bool {
        !self.has_failed && self.channel.status().connected()
    }
}

async fn publish(channel: &lapin::Channel, number: u64, message: Prepared) -> Confirm {
    let options = BasicPublishOptions {
        mandatory: message.mandatory,
        immediate: false,
    };
    let (exchange, routing_key) = (message.exchange, message.routing_key);
    let written = channel
        .basic_publish(
            exchange,
            routing_key,
            options,
            &message.body,
            message.properties,
        )
        .await;
    // The body has been copied to the socket; a confirm may take its time.
    drop(message.body);
    let confirmation = match written {
        Ok(confirm) => confirm.await,
        Err(error) => Err(error),
    };
    let (verdict, returned) = match confirmation {
        Ok(Confirmation::Ack(returned)) => (Verdict::Acknowledged, returned),
        Ok(Confirmation::Nack(returned)) => (Verdict::Refused, returned),
        Ok(Confirmation::NotRequested) => (Verdict::Failed, None),
        Err(error) => {
            tracing::debug!(%error, "publish failed");
            (Verdict::Failed, None)
        }
    };
    let message = returned.map(|returned| {
        let message_id = returned.properties.message_id();
        let message_id = message_id.as_ref().map(ShortString::as_str);
        key(
            returned.exchange.as_str(),
            returned.routing_key.as_str(),
            message_id,
        )
    });
    Confirm {
        number,
        verdict,
        had_message: message.is_some(),
        message,
    }
}

fn prepare(message: Outgoing) -> Result<Prepared, AmqpError> {
    let mut properties = BasicProperties::default()
        .with_delivery_mode(PERSISTENT)
        .with_content_type(short("application/json")?);
    if !message.message_type.is_empty() {
        properties = properties.with_type(short(&message.message_type)?);
    }
    if let Some(id) = &message.message_id {
        properties = properties.with_message_id(short(id)?);
    }
    if let Some(id) = &message.correlation_id {
        properties = properties.with_correlation_id(short(id)?);
    }
    if let Some(queue) = &message.reply_to {
        properties = properties.with_reply_to(short(queue)?);
    }
    Ok(Prepared {
        properties: properties.with_headers(headers(&message)?),
        exchange: short(&message.exchange)?,
        routing_key: short(&message.routing_key)?,
        mandatory: message.mandatory,
        body: message.body,
    })
}

fn headers(message: &Outgoing) -> Result<FieldTable, AmqpError> {
    let mut headers = FieldTable::default();
    let version = AMQPValue::LongLongInt(names::VERSION);
    headers.insert(short(names::VERSION_HEADER)?, version);
    // Executions from before there was a limit may still have one that is too long.
    let trace = message.traceparent.as_deref().filter(|t| is_passed_on(t));
    let trace = trace.map(|trace| (names::TRACEPARENT_HEADER, trace));
    let own = message.headers.iter();
    let own = own.map(|(name, value)| (name.as_str(), value.as_str()));
    let mut bytes = 0;
    for (name, value) in trace.into_iter().chain(own) {
        bytes += name.len() + value.len();
        if bytes > MAX_HEADERS_BYTES {
            return Err(AmqpError::HeadersTooLong);
        }
        headers.insert(short(name)?, header(name, value));
    }
    Ok(headers)
}

/// The version is a number, also where a message brings one of its own.
fn header(name: &str, value: &str) -> AMQPValue {
    let version = (name == names::VERSION_HEADER).then(|| value.parse());
    match version {
        Some(Ok(version)) => AMQPValue::LongLongInt(version),
        Some(Err(_)) | None => AMQPValue::LongString(value.into()),
    }
}

/// What tells a returned message apart. Two publishes with the same address and message id have the
/// same fate, so that it does not matter which of them is which.
fn key(exchange: &str, routing_key: &str, message_id: Option<&str>) -> Key {
    let mut hasher = DefaultHasher::new();
    (exchange, routing_key, message_id).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_trace(traceparent: &str) -> Outgoing {
        Outgoing {
            traceparent: Some(traceparent.to_owned()),
            ..Outgoing::to_queue("q", "t", Vec::new())
        }
    }

    #[test]
    fn a_message_is_published_without_a_trace_that_is_too_long() {
        let sent = headers(&with_trace("00-ab-cd-01")).unwrap();
        assert!(sent.contains_key(names::TRACEPARENT_HEADER));
        let sent = headers(&with_trace(&"0".repeat(5_000))).unwrap();
        assert!(!sent.contains_key(names::TRACEPARENT_HEADER));
        assert!(sent.contains_key(names::VERSION_HEADER));
    }

    #[test]
    fn headers_that_do_not_fit_into_a_frame_are_refused() {
        let message = Outgoing {
            headers: vec![("name".to_owned(), "0".repeat(MAX_HEADERS_BYTES))],
            ..Outgoing::to_queue("q", "t", Vec::new())
        };
        let refused = headers(&message);
        assert!(matches!(refused, Err(AmqpError::HeadersTooLong)));
    }
}
