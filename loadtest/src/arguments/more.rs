//! What the commands beside `run` take.

use std::path::PathBuf;

use clap::Args;

use super::numbers::{positive, rate};
use super::{DatabaseArguments, FleetArguments, LoadArguments, Output, ResultArguments};
use crate::bench::goal_words;

/// What `ramp` takes.
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "A step is sustained if the p99 latency of what had to start in it stays below the bound, \
and no more is under way at its end than the rate brings in that time. The rate grows until a step is not, \
and not in a second try either; then the place between is halved until it is known to a twentieth.\n\n\
Exit codes: 0 done; 1 something was lost, doubled or did not succeed, a process of the harness did not end \
well, or not even the first rate was sustained; 2 usage, or the fleet cannot be used; 3 a server cannot be reached."
)]
pub struct RampArguments {
    /// What is started.
    #[command(flatten)]
    pub load: LoadArguments,
    /// The first rate, in executions a second
    #[arg(long, value_name = "R", default_value_t = 100.0, value_parser = rate)]
    pub from: f64,
    /// How many seconds a step takes
    #[arg(long, value_name = "S", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub step: u64,
    /// The p99 latency above which a rate is not sustained, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 500.0, value_parser = positive)]
    pub bound: f64,
    /// Whose processes run it.
    #[command(flatten)]
    pub fleet: FleetArguments,
    /// Also write the result to a file, as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// What stdout shows
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub output: Output,
}

/// What `compare` takes.
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Exit codes: 0 nothing is worse; 1 something is worse, or B lost, doubled or failed work; 2 usage, or no \
results, or A lost, doubled or failed work."
)]
pub struct CompareArguments {
    /// The result of a run before
    #[arg(value_name = "A.json")]
    pub before: PathBuf,
    /// The result of a run after
    #[arg(value_name = "B.json")]
    pub after: PathBuf,
    /// By how many percent a figure may be worse
    #[arg(long, value_name = "PERCENT", default_value_t = 10.0, value_parser = positive)]
    pub limit: f64,
    /// What stdout shows
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub output: Output,
}

/// What `fill` takes.
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "The copies are rows that a fleet wrote, with new ids and earlier times; `flotilla check` \
finds nothing in them. Tables are vacuumed and analysed afterwards. No coordinator needs to run."
)]
pub struct FillArguments {
    /// How many finished executions of the load test there are to be
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    pub executions: u64,
    /// Where Postgres is.
    #[command(flatten)]
    pub database: DatabaseArguments,
}

/// What `bench` takes.
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Each run has a database of its own on the given server, NAME_bench_… beside the one in the URL, \
which is dropped afterwards. Nothing else may use the vhost meanwhile.\n\n\
Exit codes: 0 each value reaches its floor; 1 one does not, nothing was measured, or a run was \
not clean; 2 usage, or the fleet cannot be used; 3 a server cannot be reached."
)]
pub struct BenchArguments {
    /// How many seconds a run measures
    #[arg(long, env = "BENCH_SECONDS", value_name = "S", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub seconds: u64,
    /// How many runs of each kind: the median counts
    #[arg(long, env = "BENCH_RUNS", value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=99))]
    pub runs: u32,
    /// How many finished executions full tables hold
    #[arg(long, env = "BENCH_FILL", value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub fill: u64,
    /// Only these goals, by the first word of their names [default: all]
    #[arg(long, env = "BENCH_ONLY", value_name = "WORD", value_delimiter = ',', value_parser = goal_word)]
    pub only: Vec<String>,
    /// Also write the result of each run, as JSON, and the table, as Markdown, into this folder
    #[arg(long, env = "BENCH_FOLDER", value_name = "FOLDER")]
    pub folder: Option<PathBuf>,
    /// The program that measures the engine alone [default: `flotilla-bench` beside this one]
    #[arg(long, value_name = "FILE")]
    pub engine: Option<PathBuf>,
    /// The fleet.
    #[command(flatten)]
    pub fleet: FleetArguments,
}

/// The first word of a goal, or none: a variable that is empty counts as none.
fn goal_word(text: &str) -> Result<String, String> {
    let (word, words) = (text.trim(), goal_words());
    if word.is_empty() || words.contains(word) {
        return Ok(word.to_owned());
    }
    let words: Vec<&str> = words.into_iter().collect();
    Err(format!(
        "no goal begins with it; goals begin with {}",
        words.join(", ")
    ))
}

impl RampArguments {
    /// Where the result goes.
    pub fn results(&self) -> ResultArguments {
        ResultArguments {
            json: self.json.clone(),
            html: None,
            output: self.output,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::arguments::Arguments;

    #[test]
    fn a_word_that_no_goal_begins_with_is_refused_and_those_that_exist_are_listed() {
        assert_eq!(goal_word(" cpu").as_deref(), Ok("cpu"));
        assert_eq!(goal_word("").as_deref(), Ok(""));
        let servers = ["--database-url", "d", "--amqp-url", "a"];
        let words = ["flotilla-loadtest", "bench", "--only", "cpu,latency"];
        let parsed = Arguments::try_parse_from(words.iter().chain(&servers));
        assert_eq!(parsed.expect_err("one is misspelt").exit_code(), 2);
        let refused = goal_word("latency").expect_err("it is misspelt");
        assert!(
            refused.ends_with("engine, fanout, growth, half, idle, items, memory, single, width"),
            "{refused}"
        );
    }
}
