//! The load harness: executions of a shape, so many at a time or so many a second, through a whole
//! fleet.
//!
//! ```text
//! load ──workflow.start──► fleet ──workflow.finished──► load
//!   timeline, measure: each second, and /proc of every process; costs: rows, log, messages
//!   audit: SQL at the end, and the invariants; stages: where the time goes ──► report ──► page, chart
//!
//! session: what is around a load ──► run (one load), ramp (more and more of it)
//! fill: copies of finished executions; bench: many runs, and the goals ──► compare (two results)
//! ```

mod arguments;
mod audit;
mod bench;
mod chart;
mod compare;
mod costs;
mod failure;
mod fill;
mod load;
mod machine;
mod measure;
mod others;
mod page;
mod processes;
mod profile;
mod progress;
mod ramp;
mod report;
mod run;
mod servers;
mod session;
mod shape;
mod stages;
mod timeline;
mod yardstick;

use std::process::ExitCode;

use clap::Parser;

use arguments::{Arguments, Command};
use failure::Failure;

/// What is allocated on one thread is freed on another: the messages of a connection. Most allocators
/// wait for each other then, and the load is to cost little.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

// One thread is enough for the load, and leaves the other cores to what is measured.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    // What the connection to the broker has to say we say ourselves; it counts each of its ends as an
    // error. A statement that takes long is no news here.
    tracing_subscriber::fmt()
        .with_env_filter("warn,lapin=off,sqlx=error")
        .with_writer(std::io::stderr)
        .init();
    let command = Arguments::parse().command.with_servers();
    let is_well = match command.map_err(Failure::NoServer) {
        Ok(command) => run_command(&command).await,
        Err(failure) => Err(failure),
    };
    match is_well {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(failure) => {
            eprintln!("flotilla-loadtest: {}", failure.chain());
            ExitCode::from(failure.exit_code())
        }
    }
}

/// Whether all was well.
async fn run_command(command: &Command) -> Result<bool, Failure> {
    match command {
        Command::Run(arguments) => Box::pin(run::run(arguments))
            .await
            .map(|report| report.is_clean()),
        Command::Ramp(arguments) => Box::pin(ramp::ramp(arguments)).await,
        Command::Compare(arguments) => compare::compare(arguments),
        Command::Fill(arguments) => Box::pin(fill::fill(arguments)).await,
        Command::Bench(arguments) => Box::pin(bench::bench(arguments)).await,
    }
}
