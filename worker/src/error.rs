//! How an action says that it failed, and why a worker could not do its job.

use flotilla_protocol::RawJson;
use flotilla_protocol::amqp::AmqpError;
use serde::Serialize;
use serde_json::value::to_raw_value;

/// The kind of an error that did not name one.
const UNNAMED_KIND: &str = "error";

/// Why an action failed, and whether a retry may help: the one who knows decides.
///
/// Any [`std::error::Error`] becomes a retryable one of kind `error`, so that `?` works in handlers.
#[derive(Debug, Clone)]
pub struct ActionError {
    pub(crate) kind: String,
    pub(crate) message: String,
    pub(crate) retryable: bool,
    pub(crate) details: Option<RawJson>,
    pub(crate) result: Option<RawJson>,
}

impl ActionError {
    /// A failure that the next attempt may not meet.
    #[must_use]
    pub fn retryable(kind: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(kind.into(), message.into(), true)
    }

    /// A failure that every attempt would meet.
    #[must_use]
    pub fn fatal(kind: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(kind.into(), message.into(), false)
    }

    fn new(kind: String, message: String, retryable: bool) -> Self {
        Self {
            kind,
            message,
            retryable,
            details: None,
            result: None,
        }
    }

    /// Adds what helps to understand the failure. A value that is no JSON is left out.
    #[must_use]
    pub fn with_details(mut self, details: impl Serialize) -> Self {
        self.details = to_raw_value(&details).ok();
        self
    }

    /// Adds a result, which failed attempts may have too. A value that is no JSON is left out.
    #[must_use]
    pub fn with_result(mut self, result: impl Serialize) -> Self {
        self.result = to_raw_value(&result).ok();
        self
    }
}

impl<E: std::error::Error> From<E> for ActionError {
    fn from(error: E) -> Self {
        Self::retryable(UNNAMED_KIND, chain(&error))
    }
}

impl std::fmt::Display for ActionError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.kind, self.message)
    }
}

/// An error with its causes, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// Why a worker could not start, or did not end well.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// A pool's name cannot be used.
    #[error("`{0}` cannot be the name of a pool: 1 to 100 letters, digits, `_`, `-` or `.`")]
    InvalidPool(String),
    /// There is nothing to take jobs from.
    #[error("a worker needs at least one pool")]
    NoPool,
    /// A worker that runs nothing at a time would wait for ever.
    #[error("the concurrency of a worker is at least 1")]
    NoConcurrency,
    /// Such heartbeats would be late all the time.
    #[error("the heartbeat of a worker is at least 1 s")]
    HeartbeatTooShort,
    /// The worker's name is longer than messages may carry.
    #[error("the name of a worker has at most 255 bytes")]
    NameTooLong,
    /// The broker could not be reached, or refused.
    #[error("the worker could not start to consume")]
    Start(#[source] AmqpError),
    /// The drain took too long; what was running has been stopped and goes back to its queue.
    #[error("{jobs} jobs were stopped, since they did not end within the drain timeout")]
    DrainTimedOut {
        /// How many.
        jobs: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_the_library_keeps_its_causes() {
        #[derive(Debug, thiserror::Error)]
        #[error("the price is unknown")]
        struct Unknown(#[source] std::num::ParseIntError);

        let cause = "x".parse::<i32>().unwrap_err();
        let error = ActionError::from(Unknown(cause));
        assert_eq!(error.kind, "error");
        assert!(error.retryable);
        assert_eq!(
            error.message,
            "the price is unknown: invalid digit found in string"
        );
    }
}
