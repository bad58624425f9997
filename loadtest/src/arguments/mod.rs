//! The command line: what to do, and the parts that several commands share.

mod more;
mod numbers;

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};
use flotilla_coordinator::private_servers::{Server, UnknownServer};
use serde::Serialize;

pub use more::{BenchArguments, CompareArguments, FillArguments, RampArguments};
use numbers::{rate, share};

use crate::shape::{Shape, Sizes};

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
    /// Start more and more executions a second, and print the highest rate that was sustained
    Ramp(RampArguments),
    /// Compare the results of two runs
    Compare(CompareArguments),
    /// Copy finished executions until there are so many, to see what full tables cost
    Fill(FillArguments),
    /// Measure all that this project has goals for, and print goals and values side by side
    Bench(BenchArguments),
}

impl DatabaseArguments {
    fn fill_in(&mut self) -> Result<(), UnknownServer> {
        self.url = Server::Postgres.url(Some(&self.url))?;
        Ok(())
    }
}

impl Command {
    /// The same, with servers that are not given taken from the file of the private ones.
    pub fn with_servers(mut self) -> Result<Self, UnknownServer> {
        match &mut self {
            Self::Run(RunArguments { fleet, .. })
            | Self::Ramp(RampArguments { fleet, .. })
            | Self::Bench(BenchArguments { fleet, .. }) => {
                fleet.database.fill_in()?;
                fleet.amqp_url = Server::RabbitMq.url(Some(&fleet.amqp_url))?;
            }
            Self::Fill(arguments) => arguments.database.fill_in()?,
            Self::Compare(_) => {}
        }
        Ok(self)
    }
}

/// What `run` takes.
#[derive(Debug, Clone, Args)]
#[command(group(ArgGroup::new("amount").required(true).args(["count", "seconds"])))]
#[command(
    after_help = "Exit codes: 0 done; 1 something was lost, doubled or did not succeed, or a process of the harness did \
not end well; 2 usage, or the fleet cannot be used; 3 a server cannot be reached."
)]
pub struct RunArguments {
    /// What is started.
    #[command(flatten)]
    pub load: LoadArguments,
    /// How many executions to measure
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// How many seconds to measure
    #[arg(long, value_name = "S", value_parser = clap::value_parser!(u64).range(1..))]
    pub seconds: Option<u64>,
    /// How many executions are under way at a time: the next starts when one ends
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub in_flight: u32,
    /// Start so many executions a second whatever becomes of them, in place of --in-flight; latency
    /// counts from the time at which an execution had to start
    #[arg(long, value_name = "R", conflicts_with = "in_flight", value_parser = rate)]
    pub rate: Option<f64>,
    /// How many seconds of load come before the measurement
    #[arg(long, value_name = "S", default_value_t = 3, value_parser = clap::value_parser!(u64).range(0..=3600))]
    pub warm_up: u64,
    /// Whose processes run it.
    #[command(flatten)]
    pub fleet: FleetArguments,
    /// Also look where the processes spend their time: with perf, or where that does not work with
    /// callgrind, which makes everything fifty times slower. Writes FILE.PROCESS.txt, the hottest
    /// functions, and FILE.PROCESS.folded, their stacks, beside the JSON
    #[arg(long, requires = "json")]
    pub profile: bool,
    /// Where the result goes.
    #[command(flatten)]
    pub results: ResultArguments,
}

/// What is started.
#[derive(Debug, Clone, Args)]
pub struct LoadArguments {
    /// What an execution looks like
    #[arg(long, value_enum)]
    pub shape: Shape,
    /// How many tasks a chain or a random graph has
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub length: u32,
    /// How wide a fan-out is (at most 998), or how many items a task has
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub width: u32,
    /// How many items may be in flight at a time, per execution [default: as many as the server allows]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub concurrency: Option<u32>,
    /// How many bytes of text each task gets, gives back and publishes beside its number
    #[arg(long, value_name = "BYTES", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=200_000))]
    pub payload: u32,
    /// Which share of all attempts fails, from 0 to 0.5; each of these is tried again and succeeds then
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, value_parser = share)]
    pub failures: f64,
    /// Which random graphs; they are the same for the same seed [default: others each time]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// How the harness learns that executions have ended: from their rows, so that starts ask for no
    /// answers, or from the two answers to each start, as a client that waits for them does
    #[arg(long, value_enum, default_value_t = EndsBy::Rows)]
    pub ends: EndsBy,
}

/// Where Postgres is.
#[derive(Debug, Clone, Args)]
pub struct DatabaseArguments {
    /// Postgres [default: DATABASE_URL in .flotilla/env]
    // Until `with_servers` it may be empty.
    #[arg(
        long = "database-url",
        id = "database_url",
        env = "DATABASE_URL",
        hide_env_values = true,
        value_name = "URL",
        default_value = "",
        hide_default_value = true
    )]
    pub url: String,
}

/// Whose processes run it.
#[derive(Debug, Clone, Args)]
pub struct FleetArguments {
    /// How many coordinators to start; 0 uses those that run
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub coordinators: u16,
    /// How many workers to start; 0 uses those that run
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub workers: u16,
    /// The program whose coordinators and workers are started [default: `flotilla` beside this one]
    #[arg(long, env = "FLOTILLA_BIN", value_name = "FILE")]
    pub flotilla: Option<PathBuf>,
    /// Where Postgres is.
    #[command(flatten)]
    pub database: DatabaseArguments,
    /// RabbitMQ [default: AMQP_URL in .flotilla/env]
    // Until `with_servers` it may be empty.
    #[arg(
        long,
        env = "AMQP_URL",
        hide_env_values = true,
        value_name = "URL",
        default_value = "",
        hide_default_value = true
    )]
    pub amqp_url: String,
}

/// Where the result goes.
#[derive(Debug, Clone, Args)]
pub struct ResultArguments {
    /// Also write the result to a file, as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Also write the result to a file, as a page with plots
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// What stdout shows
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub output: Output,
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
    /// Nothing: the result is somebody else's to show.
    #[value(skip)]
    Nothing,
}

impl LoadArguments {
    /// The sizes of what is started. Where random graphs are wanted and no seed is given, the time is
    /// one, and people are told.
    pub fn sizes(&self) -> Sizes {
        let seed = (self.shape == Shape::Random).then(|| self.seed.unwrap_or_else(new_seed));
        Sizes {
            length: self.length,
            width: self.width,
            concurrency: self.concurrency,
            payload: self.payload,
            failures: self.failures,
            seed: seed.unwrap_or(0),
        }
    }
}

fn new_seed() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let seed = now.unwrap_or_default().as_secs();
    eprintln!("flotilla-loadtest: --seed {seed}");
    seed
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
        match Arguments::try_parse_from(words)?.command {
            Command::Run(arguments) => Ok(arguments),
            other @ (Command::Ramp(_)
            | Command::Compare(_)
            | Command::Fill(_)
            | Command::Bench(_)) => panic!("not a run: {other:?}"),
        }
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
    fn a_share_of_failures_has_bounds() {
        let share = |text| parsed(&["--count", "1", "--failures", text]);
        assert!((share("0.25").unwrap().load.failures - 0.25).abs() < 1e-9);
        for text in ["-0.1", "0.6", "NaN", "x"] {
            assert!(share(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_load_is_open_or_closed() {
        assert!(parsed(&["--count", "1", "--rate", "1", "--in-flight", "2"]).is_err());
        assert_eq!(parsed(&["--count", "1"]).unwrap().in_flight, 200);
    }

    #[test]
    fn a_profile_is_written_beside_a_file() {
        assert!(parsed(&["--count", "1", "--profile"]).is_err());
        assert!(
            parsed(&["--count", "1", "--profile", "--json", "f"])
                .unwrap()
                .profile
        );
    }
}
