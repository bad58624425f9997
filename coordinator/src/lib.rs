//! The coordinator: drives the turn logic, stores what it decides, and talks to the broker. It does
//! not decide anything itself.
//!
//! ```text
//! RabbitMQ ──inbound──► ┌────────┐ ──outbound──► RabbitMQ
//!                       │ driver │
//! Postgres ◄─database── └────────┘ ──forward──► dead letters, answers
//! ```

mod bundles;
mod clock;
mod database;
mod driver;
mod failpoints;
mod forward;
mod inbound;
mod orders;
mod outbound;
pub mod private_servers;
mod reception;
pub mod rehearsal;
mod shared_connection;
#[cfg(test)]
mod silent_wire;
pub mod storage;
mod task_logs;
pub mod waits;

use std::future::Future;

use flotilla_protocol::amqp::AmqpError;
use thiserror::Error;

/// How a coordinator runs.
#[derive(Debug, Clone)]
pub struct CoordinatorConfig {
    /// Where Postgres is.
    pub database_url: String,
    /// Where RabbitMQ is.
    pub amqp_url: String,
    /// What people call this process; shown in the table `coordinator`.
    pub name: String,
    /// Seconds for which a partition is leased, 0.5 to 3,600.
    pub lease_s: f64,
    /// Seconds after which a job that nobody has started is published again if its pool's queue is
    /// empty, 1 to 86,400.
    pub resend_after_s: f64,
}

/// Seconds after which a job counts as lost, unless the configuration says otherwise.
pub const RESEND_AFTER_S: f64 = 900.0;

/// Why a coordinator could not start, or had to stop.
#[derive(Debug, Error)]
pub enum CoordinatorError {
    /// The lease cannot be used.
    #[error("a lease of {0} s cannot be used; choose 0.5 to 3600")]
    Lease(f64),
    /// The wait before a job is published again cannot be used.
    #[error("jobs cannot be published again after {0} s; choose 1 to 86400")]
    ResendAfter(f64),
    /// Postgres cannot be used.
    #[error("could not use the database")]
    Storage(#[from] storage::StorageError),
    /// RabbitMQ cannot be used.
    #[error("could not use the broker")]
    Broker(#[from] AmqpError),
}

/// Runs a coordinator until `shutdown` completes; then finishes the turn under way, acknowledges,
/// publishes and releases its partitions. `ready` is called once it consumes.
///
/// # Errors
/// Only at the start: servers that cannot be reached, a database that is not migrated. Later
/// failures of either server are waited out.
pub async fn run(
    config: CoordinatorConfig,
    shutdown: impl Future<Output = ()> + Send,
    ready: impl FnOnce() + Send,
) -> Result<(), CoordinatorError> {
    if !(0.5..=3600.0).contains(&config.lease_s) {
        return Err(CoordinatorError::Lease(config.lease_s));
    }
    if !(1.0..=86_400.0).contains(&config.resend_after_s) {
        return Err(CoordinatorError::ResendAfter(config.resend_after_s));
    }
    failpoints::set_up();
    let driver = driver::Driver::start(config).await?;
    driver.run(shutdown, ready).await;
    Ok(())
}
