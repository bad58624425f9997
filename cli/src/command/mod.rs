//! One module per command: its arguments, what it calls, what it shows.

pub mod check;
pub mod completions;
pub mod conformance;
pub mod control;
pub mod coordinator;
pub mod dead;
pub mod dev;
pub mod graph;
pub mod list;
pub mod logs;
pub mod migrate;
pub mod register;
pub mod rerun;
pub mod schema;
pub mod show;
pub mod start;
pub mod test;
pub mod validate;
pub mod watch;
pub mod worker;
pub mod worker_test;

use crate::arguments::{Arguments, Command};
use crate::failure::{Exit, Failure};
use crate::output::Output;

/// Runs the command.
pub async fn run(arguments: Arguments) -> Result<Exit, Failure> {
    let Arguments { global, command } = arguments;
    if global.output == Output::Github && !matches!(command, Command::Validate(_)) {
        return Err(Failure::refused("`-o github` is for `validate` only"));
    }
    match command {
        Command::Migrate(arguments) => Box::pin(migrate::run(&global, &arguments)).await,
        Command::Validate(arguments) => Ok(validate::run(&global, &arguments)),
        Command::Schema => Ok(schema::run()),
        Command::Graph(arguments) => Ok(graph::run(&global, &arguments)),
        Command::Test(arguments) => Ok(test::run(&global, &arguments)),
        Command::Conformance(arguments) => conformance::run(&global, &arguments),
        Command::Register(arguments) => Box::pin(register::run(&global, &arguments)).await,
        Command::Start(arguments) => Box::pin(start::run(&global, &arguments)).await,
        Command::Show(arguments) => Box::pin(show::run(&global, &arguments)).await,
        Command::Watch(arguments) => Box::pin(watch::run(&global, &arguments)).await,
        Command::List(arguments) => Box::pin(list::run(&global, &arguments)).await,
        Command::Logs(arguments) => Box::pin(logs::run(&global, &arguments)).await,
        Command::Cancel(arguments) => Box::pin(control::cancel(&global, arguments)).await,
        Command::Pause(arguments) => Box::pin(control::pause(&global, &arguments)).await,
        Command::Resume(arguments) => Box::pin(control::resume(&global, &arguments)).await,
        Command::Rerun(arguments) => Box::pin(rerun::run(&global, &arguments)).await,
        Command::Check(arguments) => Box::pin(check::run(&global, &arguments)).await,
        Command::Dead(command) => Box::pin(dead::run(&global, &command)).await,
        Command::Coordinator(arguments) => Box::pin(coordinator::run(&global, arguments)).await,
        Command::Worker(arguments) => Box::pin(worker::run(&global, arguments)).await,
        Command::WorkerTest(arguments) => Box::pin(worker_test::run(&global, arguments)).await,
        Command::Dev => Box::pin(dev::run(&global)).await,
        Command::Completions(arguments) => Ok(completions::run(&arguments)),
    }
}
