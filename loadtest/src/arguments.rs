//! The command line.

use std::path::PathBuf;

use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};

use crate::shape::Shape;

/// Puts load on a fleet and measures what it does with it.
#[derive(Debug, Parser)]
#[command(name = "flotilla-loadtest", version)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run executions of a shape, keeping so many in flight, and print rates, latencies and CPU
    Run(RunArguments),
}

/// What `run` takes.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("amount").required(true).args(["count", "seconds"])))]
#[command(
    after_help = "Exit codes: 0 done; 1 something was lost, doubled or did not succeed; 2 usage, or the \
fleet cannot be used; 3 a server cannot be reached."
)]
pub struct RunArguments {
    /// What an execution looks like
    #[arg(long, value_enum)]
    pub shape: Shape,
    /// How many executions to measure
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// How many seconds to measure
    #[arg(long, value_name = "S", value_parser = clap::value_parser!(u64).range(1..))]
    pub seconds: Option<u64>,
    /// How many tasks a chain has
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub length: u32,
    /// How many executions are under way at a time
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub in_flight: u32,
    /// How many coordinators to start; 0 uses those that run
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub coordinators: u16,
    /// How many workers to start; 0 uses those that run
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub workers: u16,
    /// Also write the result to a file, as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// What stdout shows
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub output: Output,
    /// Postgres
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, value_name = "URL")]
    pub database_url: String,
    /// RabbitMQ
    #[arg(long, env = "AMQP_URL", hide_env_values = true, value_name = "URL")]
    pub amqp_url: String,
}

/// What stdout shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Table,
    /// One document.
    Json,
}
