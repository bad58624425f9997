//! The load harness: executions of a shape, so many at a time or so many a second, through a whole
//! fleet.
//!
//! ```text
//! load ──workflow.start──► fleet ──workflow.finished──► load
//!   timeline, measure: each second, and /proc of every process; costs: rows, log, messages
//!   audit: SQL at the end, and the invariants ──► report ──► page, chart
//! ```

mod arguments;
mod audit;
mod chart;
mod costs;
mod failure;
mod load;
mod machine;
mod measure;
mod page;
mod processes;
mod progress;
mod report;
mod run;
mod servers;
mod shape;
mod timeline;

use std::process::ExitCode;

use clap::Parser;

use arguments::{Arguments, Command};

/// What is allocated on one thread is freed on another: the messages of a connection. Most allocators
/// wait for each other then, and the load is to cost little.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

// One thread is enough for the load, and leaves the other cores to what is measured.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let Command::Run(arguments) = Arguments::parse().command;
    tracing_subscriber::fmt()
        .with_env_filter("warn,lapin=error")
        .with_writer(std::io::stderr)
        .init();
    match Box::pin(run::run(&arguments)).await {
        Ok(report) if report.is_clean() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(1),
        Err(failure) => {
            eprintln!("flotilla-loadtest: {}", failure.chain());
            ExitCode::from(failure.exit_code())
        }
    }
}
