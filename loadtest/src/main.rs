//! The load harness: starts executions as fast as they end, and says what that costs.
//!
//! ```text
//! drive ──workflow.start──► fleet (its own processes, or those that run) ──workflow.finished──► drive
//! usage: CPU and memory of every process      check: what Postgres says was lost or doubled
//! ```

mod check;
mod drive;
mod fleet;
mod options;
mod report;
mod shape;
mod usage;

use std::process::ExitCode;

use clap::Parser;

use crate::options::{Command, Format, Options, RunOptions};
use crate::report::Report;

/// Why a run could not be made.
type Failure = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> ExitCode {
    let Command::Run(options) = Options::parse().command;
    match run(&options).await {
        Ok(report) if report.is_clean() => ExitCode::SUCCESS,
        Ok(report) => {
            eprintln!("error: {} lost, {} doubled", report.lost, report.doubled);
            ExitCode::FAILURE
        }
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::from(3)
        }
    }
}

async fn run(options: &RunOptions) -> Result<Report, Failure> {
    let binary = fleet::binary(options)?;
    let mut database = check::connect(&options.database_url).await?;
    fleet::prepare(&binary, options).await?;
    let fleet = fleet::Fleet::start(&binary, options).await?;
    let servers = usage::servers(&options.database_url, &options.amqp_url);
    let mut driver = drive::Driver::connect(options).await?;
    driver.warm_up().await?;
    let before = usage::Sample::take(&fleet, &servers);
    let outcome = driver.drive().await?;
    let used = usage::Sample::take(&fleet, &servers).since(&before);
    let findings = check::check(&mut database, &driver.tag).await?;
    fleet.stop().await;
    let report = Report::new(options, &outcome, used, findings);
    match options.output {
        Format::Json => println!("{}", report.json()),
        Format::Table => println!("{}", report.table()),
    }
    if let Some(path) = &options.json {
        std::fs::write(path, format!("{}\n", report.json()))?;
    }
    Ok(report)
}
