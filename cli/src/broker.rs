//! The connection to the broker, as commands need it, with errors that say what to do.

use flotilla_protocol::amqp::{AmqpError, Connection};

use crate::failure::Failure;
use crate::servers::without_password;

/// The name that the broker shows for the connection.
pub const CONNECTION_NAME: &str = "flotilla";

/// Connects, in one attempt.
pub async fn connect(url: &str) -> Result<Connection, Failure> {
    Box::pin(Connection::open(url, CONNECTION_NAME))
        .await
        .map_err(|error| unreachable(url, error))
}

/// The broker cannot be reached.
pub fn unreachable(url: &str, error: AmqpError) -> Failure {
    Failure::unreachable(format!(
        "could not reach RabbitMQ at {}",
        without_password(url)
    ))
    .because(error)
    .hint(
        "`make up` or `flotilla dev` starts private servers; --amqp-url (AMQP_URL) names another one",
    )
}

/// The broker was reached, and something failed there.
pub fn failed(what: &str, error: AmqpError) -> Failure {
    let failure = match &error {
        AmqpError::Declare { .. } | AmqpError::NameTooLong(_) | AmqpError::HeadersTooLong => {
            Failure::refused(what)
        }
        AmqpError::Connect(_)
        | AmqpError::TimedOut(_)
        | AmqpError::Channel(_)
        | AmqpError::Consume { .. }
        | AmqpError::Acknowledge(_) => Failure::unreachable(what),
    };
    failure.because(error)
}
