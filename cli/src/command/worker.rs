//! `worker`: runs a worker with the built-in actions until a signal asks it to drain.

use std::time::Duration;

use clap::Args;
use flotilla_worker::{Worker, WorkerConfig, WorkerError};

use super::start::seconds;
use crate::arguments::Global;
use crate::failure::{Exit, Failure};
use crate::logging;
use crate::output::print;
use crate::servers::without_password;
use crate::shutdown::Shutdown;

/// What `worker` takes.
#[derive(Debug, Args)]
#[command(after_help = "Example: flotilla worker --pool default --pool gpu --concurrency 4")]
pub struct WorkerArguments {
    /// A name for rows and logs [default: host/pid]
    #[arg(long, value_name = "N")]
    name: Option<String>,
    /// A pool whose jobs it takes; may be repeated
    #[arg(long = "pool", value_name = "P", default_value = "default")]
    pools: Vec<String>,
    /// How many jobs run at a time
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..))]
    concurrency: u16,
    /// How many jobs it fetches from each pool, running ones included [default: 16 times --concurrency].
    /// Fewer, down to --concurrency, keep jobs from waiting here behind long ones while another worker is
    /// idle; from 9 times --concurrency on, about as many again can be here in bundles
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    prefetch: Option<u16>,
    /// Let core.shell run programs
    #[arg(long)]
    allow_shell: bool,
    /// Seconds that a job runs before it is acknowledged early and kept alive by heartbeats; keep it well
    /// below the broker's consumer_timeout
    #[arg(long, value_name = "S", default_value = "600", value_parser = seconds)]
    acknowledge_after: Duration,
    /// Seconds without a heartbeat after which such a job is sent again, 1 or more
    #[arg(long, value_name = "S", default_value = "60", value_parser = seconds)]
    heartbeat: Duration,
    /// Seconds that running jobs may take to end after the first signal
    #[arg(long, value_name = "S", default_value = "30", value_parser = seconds)]
    drain_timeout: Duration,
}

/// Runs until it is told to stop.
pub async fn run(global: &Global, arguments: WorkerArguments) -> Result<Exit, Failure> {
    let url = global.amqp_url()?;
    let mut config = WorkerConfig::new(url.as_str());
    config.pools = arguments.pools;
    config.concurrency = arguments.concurrency;
    config.prefetch = arguments.prefetch;
    config.allow_shell = arguments.allow_shell;
    config.drain_timeout = arguments.drain_timeout;
    config.acknowledge_after = arguments.acknowledge_after;
    config.heartbeat = arguments.heartbeat;
    if let Some(name) = arguments.name {
        config.name = name;
    }
    let shutdown = Shutdown::listen()?;
    let worker = Worker::new(config).built_in();
    let running = worker.run_with_ready(shutdown.asked(), || print("ready"));
    Box::pin(running)
        .await
        .map_err(|error| failed(&url, error))?;
    logging::stopped();
    Ok(Exit::Done)
}

/// A worker that could not start, or did not end well.
pub fn failed(url: &str, error: WorkerError) -> Failure {
    match error {
        WorkerError::Start(_) => Failure::unreachable(format!(
            "could not take jobs from RabbitMQ at {}",
            without_password(url)
        ))
        .because(error)
        .hint("`make up` starts private servers, `flotilla migrate` declares the queues"),
        WorkerError::InvalidPool(_)
        | WorkerError::NoPool
        | WorkerError::NoConcurrency
        | WorkerError::HeartbeatTooShort
        | WorkerError::NameTooLong => Failure::refused(error.to_string()),
        WorkerError::DrainTimedOut { .. } => Failure::refused(error.to_string())
            .of_kind("drain_timed_out")
            .hint("the jobs go back to their queue; --drain-timeout gives them longer"),
    }
}
