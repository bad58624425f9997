//! Queues that belong to one connection alone and go with it: for replies, cancels, and copies of
//! what others publish.

use lapin::options::QueueDeclareOptions;
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, ExchangeKind};

use super::connection::Connection;
use super::topology::{bind, close, declare_error, exchange};
use super::{AmqpError, short};
use crate::names;

/// Creates a worker's own queue of cancel requests and returns its name. The queue lives as long as
/// the connection, or until its consumer ends.
///
/// # Errors
/// The broker refuses.
pub async fn worker_cancel_queue(connection: &Connection) -> Result<String, AmqpError> {
    copies_of(connection, names::CANCEL_EXCHANGE).await
}

/// Creates a queue of its own that gets all that is published to a fanout exchange from now on, and
/// returns its name. The queue lives as long as the connection, or until its consumer ends.
///
/// # Errors
/// The broker refuses.
pub async fn copies_of(connection: &Connection, fanout: &str) -> Result<String, AmqpError> {
    let channel = connection.channel().await?;
    // Declared first: where it was missing, each try would leave a queue without a binding behind.
    exchange(&channel, fanout, ExchangeKind::Fanout).await?;
    let name = temporary(&channel, "", FieldTable::default()).await?;
    bind(&channel, &name, fanout, "").await?;
    close(&channel).await;
    Ok(name)
}

/// Creates a client's own queue of replies and returns its name, for `reply_to`. The queue lives as
/// long as the connection, or until its consumer ends.
///
/// # Errors
/// The broker refuses.
pub async fn reply_queue(connection: &Connection) -> Result<String, AmqpError> {
    let channel = connection.channel().await?;
    let name = temporary(&channel, "", FieldTable::default()).await?;
    close(&channel).await;
    Ok(name)
}

/// As [`reply_queue`], under a name that was told to others before.
///
/// # Errors
/// The broker refuses: the name may be taken.
pub async fn named_queue(connection: &Connection, name: &str) -> Result<(), AmqpError> {
    let channel = connection.channel().await?;
    temporary(&channel, name, FieldTable::default()).await?;
    close(&channel).await;
    Ok(())
}

/// As [`named_queue`], and the broker refuses (nacks) what comes while `most` messages wait in it.
///
/// # Errors
/// The broker refuses: the name may be taken.
pub async fn limited_queue(
    connection: &Connection,
    name: &str,
    most: u32,
) -> Result<(), AmqpError> {
    let channel = connection.channel().await?;
    let mut arguments = FieldTable::default();
    arguments.insert("x-max-length".into(), AMQPValue::LongLongInt(most.into()));
    let overflow = AMQPValue::LongString("reject-publish".into());
    arguments.insert("x-overflow".into(), overflow);
    temporary(&channel, name, arguments).await?;
    close(&channel).await;
    Ok(())
}

/// A classic queue that belongs to this connection alone; without a name the broker chooses one.
async fn temporary(
    channel: &Channel,
    name: &str,
    arguments: FieldTable,
) -> Result<String, AmqpError> {
    let options = QueueDeclareOptions {
        exclusive: true,
        auto_delete: true,
        ..QueueDeclareOptions::default()
    };
    let shown = if name.is_empty() {
        "an exclusive queue"
    } else {
        name
    };
    let queue = channel
        .queue_declare(short(name)?, options, arguments)
        .await
        .map_err(|source| declare_error(shown, source))?;
    Ok(queue.name().as_str().to_owned())
}
