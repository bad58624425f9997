//! The command line.

use std::path::PathBuf;

use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};
use serde::Serialize;

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
    /// How wide a fan-out is, or how many items a task has
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub width: u32,
    /// How many executions are under way at a time: the next starts when one ends
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub in_flight: u32,
    /// Start so many executions a second whatever becomes of them, in place of --in-flight; latency
    /// counts from the time at which an execution had to start
    #[arg(long, value_name = "R", conflicts_with = "in_flight", value_parser = rate)]
    pub rate: Option<f64>,
    /// How the harness learns that executions have ended: from their rows, so that starts ask for no
    /// answers, or from the two answers to each start, as a client that waits for them does
    #[arg(long, value_enum, default_value_t = EndsBy::Rows)]
    pub ends: EndsBy,
    /// How many seconds of load come before the measurement
    #[arg(long, value_name = "S", default_value_t = 3, value_parser = clap::value_parser!(u64).range(0..=3600))]
    pub warm_up: u64,
    /// How many coordinators to start; 0 uses those that run
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub coordinators: u16,
    /// How many workers to start; 0 uses those that run
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub workers: u16,
    /// The program whose coordinators and workers are started [default: `flotilla` beside this one]
    #[arg(long, env = "FLOTILLA_BIN", value_name = "FILE")]
    pub flotilla: Option<PathBuf>,
    /// Also write the result to a file, as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Also write the result to a file, as a page with plots
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
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

/// How the harness learns that executions have ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum EndsBy {
    /// From the rows, which it looks at every few milliseconds.
    Rows,
    /// From the answers to each start.
    Answers,
}

/// What stdout shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Table,
    /// One document.
    Json,
}

/// The highest rate that is not refused as a mistake.
const HIGHEST_RATE: f64 = 1e6;

fn rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if rate > 0.0 && rate <= HIGHEST_RATE {
        return Ok(rate);
    }
    Err(format!(
        "a rate is above 0 and at most {HIGHEST_RATE} executions a second"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &[&str]) -> Result<RunArguments, clap::Error> {
        let fixed = [
            "flotilla-loadtest",
            "run",
            "--database-url",
            "d",
            "--amqp-url",
            "a",
            "--shape",
            "single",
        ];
        let words = fixed.iter().chain(words);
        let Command::Run(arguments) = Arguments::try_parse_from(words)?.command;
        Ok(arguments)
    }

    #[test]
    fn an_amount_is_demanded_and_a_rate_has_bounds() {
        assert!(parsed(&[]).is_err());
        assert!(parsed(&["--count", "1", "--seconds", "1"]).is_err());
        assert_eq!(
            parsed(&["--count", "1", "--rate", "2.5"]).unwrap().rate,
            Some(2.5)
        );
        for rate in ["0", "-1", "NaN", "1e7", "x"] {
            assert!(parsed(&["--count", "1", "--rate", rate]).is_err(), "{rate}");
        }
    }

    #[test]
    fn a_load_is_open_or_closed() {
        assert!(parsed(&["--count", "1", "--rate", "1", "--in-flight", "2"]).is_err());
        assert_eq!(parsed(&["--count", "1"]).unwrap().in_flight, 200);
    }
}
