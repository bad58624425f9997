//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// The load harness of Flotilla.
#[derive(Debug, Parser)]
#[command(name = "flotilla-loadtest", version)]
pub struct Options {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What the harness can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start executions as fast as they end, and print rates, latencies and costs; ends with 1 if
    /// anything was lost or doubled
    Run(RunOptions),
}

/// How a run is made.
#[derive(Debug, Clone, Args)]
pub struct RunOptions {
    /// What each execution looks like
    #[arg(long, value_enum)]
    pub shape: Shape,
    /// Executions to start
    #[arg(
        long,
        value_name = "N",
        required_unless_present = "seconds",
        conflicts_with = "seconds"
    )]
    pub count: Option<usize>,
    /// Seconds to start executions for
    #[arg(long, value_name = "S")]
    pub seconds: Option<f64>,
    /// Tasks of a chain
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub length: u32,
    /// Executions that are under way at a time
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub in_flight: u32,
    /// Coordinators to start; 0: those that run are used
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub coordinators: u32,
    /// Workers to start; 0: those that run are used
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub workers: u32,
    /// Jobs that each of these workers runs at a time [default: the worker's own]
    #[arg(long, value_name = "N")]
    pub concurrency: Option<u16>,
    /// Also write the result to this file, as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// How to print the result
    #[arg(short = 'o', long, value_enum, default_value = "table")]
    pub output: Format,
    /// Where Postgres is
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    pub database_url: String,
    /// Where RabbitMQ is
    #[arg(long, env = "AMQP_URL", hide_env_values = true)]
    pub amqp_url: String,
    /// The `flotilla` binary [default: the one beside this program]
    #[arg(long, value_name = "FILE")]
    pub flotilla: Option<PathBuf>,
}

/// What an execution looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Shape {
    /// One task.
    Single,
    /// Tasks one after the other.
    Chain,
}

/// How a result is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Table,
    /// One JSON document.
    Json,
}
