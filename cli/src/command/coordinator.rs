//! `coordinator`: runs a coordinator until a signal asks it to drain.

use clap::Args;
use flotilla_coordinator::{CoordinatorConfig, CoordinatorError, RESEND_AFTER_S};

use crate::arguments::Global;
use crate::broker;
use crate::database;
use crate::failure::{Exit, Failure};
use crate::logging;
use crate::output::print;
use crate::shutdown::Shutdown;

/// What `coordinator` takes.
#[derive(Debug, Args)]
#[command(after_help = "Example: flotilla coordinator --name left --lease 3")]
pub struct CoordinatorArguments {
    /// A name for rows and logs [default: host/pid]
    #[arg(long, value_name = "N")]
    name: Option<String>,
    /// Seconds after which another coordinator may take over from this one
    #[arg(long, value_name = "S", default_value_t = DEFAULT_LEASE_S, value_parser = lease)]
    lease: f64,
    /// Seconds after which a job that no worker has started is published again, if its pool's queue
    /// is empty
    #[arg(long, value_name = "S", default_value_t = RESEND_AFTER_S, value_parser = resend_after)]
    resend_after: f64,
}

const DEFAULT_LEASE_S: f64 = 3.0;
/// Below it a busy machine loses its partitions for no reason, above it nobody takes over.
const LEASE_LIMITS_S: std::ops::RangeInclusive<f64> = 0.5..=3600.0;
/// Below it jobs that only wait are taken for lost, above a day nobody remembers them.
const RESEND_LIMITS_S: std::ops::RangeInclusive<f64> = 1.0..=86_400.0;

/// Runs until it is told to stop.
pub async fn run(global: &Global, arguments: CoordinatorArguments) -> Result<Exit, Failure> {
    let config = CoordinatorConfig {
        database_url: global.database_url()?,
        amqp_url: global.amqp_url()?,
        name: arguments.name.unwrap_or_else(default_name),
        lease_s: arguments.lease,
        resend_after_s: arguments.resend_after,
    };
    let shutdown = Shutdown::listen()?;
    let url = config.database_url.clone();
    let running = flotilla_coordinator::run(config, shutdown.asked(), || print("ready"));
    Box::pin(running)
        .await
        .map_err(|error| failed(&url, error))?;
    logging::stopped();
    Ok(Exit::Done)
}

/// The configuration that `dev` runs.
pub fn local_config(database_url: &str, amqp_url: &str) -> CoordinatorConfig {
    CoordinatorConfig {
        database_url: database_url.to_owned(),
        amqp_url: amqp_url.to_owned(),
        name: default_name(),
        lease_s: DEFAULT_LEASE_S,
        resend_after_s: RESEND_AFTER_S,
    }
}

/// A coordinator that could not start, or did not end well.
pub fn failed(database_url: &str, error: CoordinatorError) -> Failure {
    match error {
        CoordinatorError::Lease(_) | CoordinatorError::ResendAfter(_) => Failure::refused(error.to_string()),
        CoordinatorError::Storage(error) => database::failed(database_url, error),
        CoordinatorError::Broker(error) => {
            broker::failed("the coordinator could not use RabbitMQ", error).hint(
                "`make up` or `flotilla dev` starts private servers, `flotilla migrate` declares the queues",
            )
        }
    }
}

/// The host's name and the process id.
fn default_name() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = match host.trim() {
        "" => "coordinator",
        host => host,
    };
    format!("{host}/{}", std::process::id())
}

fn lease(text: &str) -> Result<f64, String> {
    seconds(text, &LEASE_LIMITS_S, "a lease has")
}

fn resend_after(text: &str) -> Result<f64, String> {
    seconds(text, &RESEND_LIMITS_S, "a job is published again after")
}

fn seconds(text: &str, limits: &std::ops::RangeInclusive<f64>, what: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if limits.contains(&seconds) {
        return Ok(seconds);
    }
    let (from, to) = (limits.start(), limits.end());
    Err(format!("{what} {from} to {to} seconds"))
}
