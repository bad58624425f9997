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
mod progress;
mod replies;
mod servers;
mod shutdown;
mod source;
mod usage;
mod waits;

use std::process::ExitCode;

use clap::Parser;
use tokio::runtime::{Builder, Runtime};

use arguments::Arguments;
use failure::{Exit, Failure};

/// What is allocated on one thread is freed on another: the messages of a connection. Most allocators
/// wait for each other then, and that was a third of the processor time of a coordinator. And of what was
/// freed this one gives out first what is still in the cache: another tenth.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let words: Vec<_> = std::env::args_os().collect();
    let ended = match Arguments::try_parse_from(&words) {
        Ok(arguments) => carry_out(arguments),
        Err(error) => usage::show(&error, &words),
    };
    ExitCode::from(ended.code())
}

fn carry_out(arguments: Arguments) -> Exit {
    logging::start(arguments.command.is_service());
    let output = arguments.global.output;
    let prints_lines = arguments.command.prints_lines();
    run(arguments).unwrap_or_else(|failure| match prints_lines {
        true => output.failure_line(&failure),
        false => output.failure(&failure),
    })
}

fn run(arguments: Arguments) -> Result<Exit, Failure> {
    let runtime = runtime(arguments.command.runs_handlers())
        .map_err(|error| Failure::refused("could not start the runtime").because(error))?;
    runtime.block_on(Box::pin(command::run(arguments)))
}

/// Several threads where users' handlers run, which may keep one busy. Everything else only waits
/// for servers and passes messages between its tasks: on one thread that costs no switches, which
/// would be a third of a coordinator's processor time.
fn runtime(runs_handlers: bool) -> std::io::Result<Runtime> {
    let mut builder = if runs_handlers {
        Builder::new_multi_thread()
    } else {
        Builder::new_current_thread()
    };
    builder.enable_all().build()
}
