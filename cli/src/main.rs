//! The `flotilla` command line: reads arguments, calls the libraries, shows what they say.
//!
//! ```text
//! arguments ──► command/<name> ──► coordinator, worker, engine, storage, broker
//!                    └──► output (stdout), failure (stderr, exit code)
//! ```
//!
//! No logic of its own: what a workflow means is the engine's business, what is stored the coordinator's.

mod advice;
mod arguments;
mod broker;
mod command;
mod database;
mod failure;
mod logging;
mod output;
mod picture;
mod servers;
mod shutdown;
mod source;

use std::process::ExitCode;

use clap::Parser;

use arguments::Arguments;
use failure::{Exit, Failure};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    logging::start(arguments.command.is_service());
    let output = arguments.global.output;
    let ended = run(arguments).unwrap_or_else(|failure| output.failure(&failure));
    ExitCode::from(ended.code())
}

fn run(arguments: Arguments) -> Result<Exit, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::refused("could not start the runtime").because(error))?;
    runtime.block_on(Box::pin(command::run(arguments)))
}
