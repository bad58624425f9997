//! Exchanges, queues and bindings, with exactly the arguments of the wire contract: a declaration
//! with others is refused by the broker.

use lapin::options::{
    ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, ExchangeKind};

use super::connection::Connection;
use super::{AmqpError, is_not_found, short};
use crate::names;

/// The backstop against jobs that kill their workers.
const JOBS_DELIVERY_LIMIT: i32 = 20;
/// A bundle that comes back is not delivered again: some of its jobs may be done, and the owners of the
/// others publish them alone.
const BUNDLES_DELIVERY_LIMIT: i32 = 0;
/// Never reached: dying coordinators must not turn good messages into dead letters, and -1 does not
/// mean unlimited to every broker.
const OTHER_DELIVERY_LIMIT: i32 = 1_000_000;

/// Creates everything that a fleet with `partitions` partitions needs; what is there stays.
///
/// # Errors
/// The broker refuses, for instance because a queue exists with other arguments.
pub async fn declare(connection: &Connection, partitions: i32) -> Result<(), AmqpError> {
    let channel = connection.channel().await?;
    exchange(&channel, names::EXCHANGE, ExchangeKind::Topic).await?;
    exchange(&channel, names::EVENTS_EXCHANGE, ExchangeKind::Topic).await?;
    exchange(&channel, names::CANCEL_EXCHANGE, ExchangeKind::Fanout).await?;
    exchange(&channel, names::DEAD, ExchangeKind::Fanout).await?;
    let long_lived = quorum_queue(OTHER_DELIVERY_LIMIT);
    queue(&channel, names::DEAD, &long_lived).await?;
    bind(&channel, names::DEAD, names::DEAD, "").await?;
    queue(&channel, names::START_QUEUE, &long_lived).await?;
    bind(
        &channel,
        names::START_QUEUE,
        names::EXCHANGE,
        names::WORKFLOW_START,
    )
    .await?;
    queue(&channel, names::CONTROL_QUEUE, &long_lived).await?;
    bind(
        &channel,
        names::CONTROL_QUEUE,
        names::EXCHANGE,
        names::WORKFLOW_CONTROL,
    )
    .await?;
    for partition in 0..partitions {
        queue(&channel, &names::inbox_queue(partition), &long_lived).await?;
    }
    pool(&channel, names::DEFAULT_POOL).await?;
    close(&channel).await;
    Ok(())
}

/// Creates the queue of a pool.
///
/// # Errors
/// The broker refuses.
pub async fn declare_pool(connection: &Connection, name: &str) -> Result<(), AmqpError> {
    let channel = connection.channel().await?;
    pool(&channel, name).await?;
    close(&channel).await;
    Ok(())
}

/// Creates the inbox of a partition.
///
/// # Errors
/// The broker refuses.
pub async fn declare_inbox(connection: &Connection, partition: i32) -> Result<(), AmqpError> {
    let channel = connection.channel().await?;
    let arguments = quorum_queue(OTHER_DELIVERY_LIMIT);
    queue(&channel, &names::inbox_queue(partition), &arguments).await?;
    close(&channel).await;
    Ok(())
}

/// What the broker tells about a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueState {
    /// Messages that wait; those in the hands of a consumer are not counted.
    pub messages: u32,
    /// Consumers, on whatever connection.
    pub consumers: u32,
}

/// The number of messages that wait in a queue (those in the hands of a consumer not counted), or
/// `None` if there is no such queue.
///
/// # Errors
/// The broker cannot be asked.
pub async fn queue_depth(connection: &Connection, name: &str) -> Result<Option<u32>, AmqpError> {
    let state = queue_state(connection, name).await?;
    Ok(state.map(|state| state.messages))
}

/// What the broker tells about a queue, or `None` if there is no such queue.
///
/// # Errors
/// The broker cannot be asked.
pub async fn queue_state(
    connection: &Connection,
    name: &str,
) -> Result<Option<QueueState>, AmqpError> {
    let channel = connection.channel().await?;
    let options = QueueDeclareOptions {
        passive: true,
        ..QueueDeclareOptions::default()
    };
    let declared = channel
        .queue_declare(short(name)?, options, FieldTable::default())
        .await;
    match declared {
        Ok(queue) => {
            close(&channel).await;
            Ok(Some(QueueState {
                messages: queue.message_count(),
                consumers: queue.consumer_count(),
            }))
        }
        // The broker has closed the channel with its answer.
        Err(error) if is_not_found(&error) => Ok(None),
        Err(source) => Err(declare_error(name, source)),
    }
}

/// Deletes a queue with all that is in it; what is not there is deleted already.
///
/// # Errors
/// The broker refuses.
pub async fn delete_queue(connection: &Connection, name: &str) -> Result<(), AmqpError> {
    let channel = connection.channel().await?;
    channel
        .queue_delete(short(name)?, QueueDeleteOptions::default())
        .await
        .map_err(|source| declare_error(name, source))?;
    close(&channel).await;
    Ok(())
}

/// Creates the queue of a pool's bundles.
///
/// # Errors
/// The broker refuses.
pub async fn declare_bundles(connection: &Connection, pool: &str) -> Result<(), AmqpError> {
    let channel = connection.channel().await?;
    let (queue, key) = (names::bundles_queue(pool), names::bundle_routing_key(pool));
    work_queue(&channel, &queue, BUNDLES_DELIVERY_LIMIT, &key).await?;
    close(&channel).await;
    Ok(())
}

async fn pool(channel: &Channel, name: &str) -> Result<(), AmqpError> {
    let (queue, key) = (names::jobs_queue(name), names::job_routing_key(name));
    work_queue(channel, &queue, JOBS_DELIVERY_LIMIT, &key).await
}

/// A queue whose messages become dead letters where they are delivered more than `limit` times again.
async fn work_queue(
    channel: &Channel,
    name: &str,
    limit: i32,
    routing_key: &str,
) -> Result<(), AmqpError> {
    let mut arguments = quorum_queue(limit);
    for (key, value) in [
        ("x-dead-letter-exchange", names::DEAD),
        ("x-dead-letter-strategy", "at-least-once"),
        ("x-overflow", "reject-publish"),
    ] {
        arguments.insert(key.into(), AMQPValue::LongString(value.into()));
    }
    queue(channel, name, &arguments).await?;
    bind(channel, name, names::EXCHANGE, routing_key).await
}

fn quorum_queue(delivery_limit: i32) -> FieldTable {
    let mut arguments = FieldTable::default();
    arguments.insert(
        "x-queue-type".into(),
        AMQPValue::LongString("quorum".into()),
    );
    arguments.insert(
        "x-delivery-limit".into(),
        AMQPValue::LongInt(delivery_limit),
    );
    arguments
}

pub(super) async fn exchange(
    channel: &Channel,
    name: &str,
    kind: ExchangeKind,
) -> Result<(), AmqpError> {
    let options = ExchangeDeclareOptions {
        durable: true,
        ..ExchangeDeclareOptions::default()
    };
    channel
        .exchange_declare(short(name)?, kind, options, FieldTable::default())
        .await
        .map_err(|source| declare_error(name, source))
}

async fn queue(channel: &Channel, name: &str, arguments: &FieldTable) -> Result<(), AmqpError> {
    let options = QueueDeclareOptions {
        durable: true,
        ..QueueDeclareOptions::default()
    };
    channel
        .queue_declare(short(name)?, options, arguments.clone())
        .await
        .map_err(|source| declare_error(name, source))?;
    Ok(())
}

pub(super) async fn bind(
    channel: &Channel,
    queue: &str,
    exchange: &str,
    routing_key: &str,
) -> Result<(), AmqpError> {
    channel
        .queue_bind(
            short(queue)?,
            short(exchange)?,
            short(routing_key)?,
            QueueBindOptions::default(),
            FieldTable::default(),
        )
        .await
        .map_err(|source| declare_error(queue, source))
}

pub(super) fn declare_error(name: &str, source: lapin::Error) -> AmqpError {
    AmqpError::Declare {
        name: name.to_owned(),
        source,
    }
}

/// Gives a channel back; that it may have ended already is no matter.
pub(super) async fn close(channel: &Channel) {
    if let Err(error) = channel.close(200, "OK".into()).await {
        tracing::debug!(%error, "channel was closed already");
    }
}
