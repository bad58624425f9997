//! The command line as it is typed: one enum of commands, flags with the names of their variables.

use clap::{Args, Parser, Subcommand};

use crate::command::check::CheckArguments;
use crate::command::completions::CompletionsArguments;
use crate::command::conformance::ConformanceArguments;
use crate::command::control::{CancelArguments, ControlArguments};
use crate::command::coordinator::CoordinatorArguments;
use crate::command::dead::DeadCommand;
use crate::command::graph::GraphArguments;
use crate::command::list::ListArguments;
use crate::command::logs::LogsArguments;
use crate::command::migrate::MigrateArguments;
use crate::command::register::RegisterArguments;
use crate::command::rerun::RerunArguments;
use crate::command::show::ShowArguments;
use crate::command::start::StartArguments;
use crate::command::test::TestArguments;
use crate::command::validate::ValidateArguments;
use crate::command::watch::WatchArguments;
use crate::command::worker::WorkerArguments;
use crate::command::worker_test::WorkerTestArguments;
use crate::output::Output;

/// A workflow engine on RabbitMQ and Postgres.
#[derive(Debug, Parser)]
#[command(name = "flotilla", bin_name = "flotilla", version, after_help = AFTER_HELP)]
pub struct Arguments {
    /// What every command takes.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const AFTER_HELP: &str = "\
Servers: a flag wins over its variable; where neither is given, .flotilla/env of the current folder \
is read, which `make up` and `flotilla dev` write.

Exit codes: 0 done; 1 the execution ended other than succeeded, or `check` found something; 2 usage, an \
invalid file, a rejected start, a refused command or an unknown id; 3 a server cannot be reached, or no \
coordinator answers; 4 --wait-timeout ran out.";

const DEV_HELP: &str = "\
The servers are private ones under .flotilla/, unless DATABASE_URL and AMQP_URL both name others; what was started is \
stopped again at the end.

Example: flotilla dev";

const SCHEMA_HELP: &str = "\
Editors with a YAML language server take it for files that begin with
  # yaml-language-server: $schema=workflow.schema.json

Example: flotilla schema > workflow.schema.json";

/// What every command takes.
#[derive(Debug, Args)]
pub struct Global {
    /// Postgres [default: DATABASE_URL in .flotilla/env]
    #[arg(
        long,
        global = true,
        env = "DATABASE_URL",
        hide_env_values = true,
        value_name = "URL"
    )]
    pub database_url: Option<String>,
    /// RabbitMQ [default: AMQP_URL in .flotilla/env]
    #[arg(
        long,
        global = true,
        env = "AMQP_URL",
        hide_env_values = true,
        value_name = "URL"
    )]
    pub amqp_url: Option<String>,
    /// What stdout shows; logs go to stderr
    #[arg(
        short,
        long,
        global = true,
        value_enum,
        default_value = "table",
        value_name = "FORM"
    )]
    pub output: Output,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Bring database and broker to what this version needs
    Migrate(MigrateArguments),
    /// Check workflow files, and show all that is wrong with them
    Validate(ValidateArguments),
    /// Print the JSON Schema of workflow files, for editors
    #[command(after_help = SCHEMA_HELP)]
    Schema,
    /// Draw a workflow: its tasks, and what leads where
    Graph(GraphArguments),
    /// Run a workflow with scripted results in virtual time, without servers
    Test(TestArguments),
    /// Play cases of a form that belongs to no engine, and compare
    Conformance(ConformanceArguments),
    /// Store workflow files, so that they can be started
    Register(RegisterArguments),
    /// Start an execution of a workflow
    Start(StartArguments),
    /// Show an execution with its tasks
    Show(ShowArguments),
    /// Watch an execution until it ends
    Watch(WatchArguments),
    /// List executions, the newest first
    List(ListArguments),
    /// Print the lines that the tasks of an execution have logged
    Logs(LogsArguments),
    /// Cancel an execution: what waits ends, and workers are told to stop
    Cancel(CancelArguments),
    /// Pause an execution: what runs ends, and nothing new starts
    #[command(after_help = "Example: flotilla pause 0190b6a4-0000-7000-8000-000000000001")]
    Pause(ControlArguments),
    /// Resume an execution that is paused
    #[command(after_help = "Example: flotilla resume 0190b6a4-0000-7000-8000-000000000001")]
    Resume(ControlArguments),
    /// Run tasks of an execution that has ended again
    Rerun(RerunArguments),
    /// Look for rows that contradict each other; may run beside a fleet that works
    Check(CheckArguments),
    /// Look at messages that could not be used, and retry or discard them
    #[command(subcommand, after_help = "Example: flotilla dead list")]
    Dead(DeadCommand),
    /// Run a coordinator; prints `ready` once it consumes
    Coordinator(CoordinatorArguments),
    /// Run a worker with the built-in actions; prints `ready` once it consumes
    Worker(WorkerArguments),
    /// Check a worker in any language against the contract
    WorkerTest(WorkerTestArguments),
    /// Run servers, a coordinator and a worker in the foreground; prints `ready`
    #[command(after_help = DEV_HELP)]
    Dev,
    /// Print what a shell needs to complete commands and flags
    Completions(CompletionsArguments),
}

impl Command {
    /// Whether handlers of jobs run in this process.
    pub fn runs_handlers(&self) -> bool {
        matches!(self, Self::Worker(_) | Self::Dev)
    }

    /// Whether scripts get a document on each line from it, and not one in all.
    pub fn prints_lines(&self) -> bool {
        matches!(self, Self::Watch(_) | Self::Logs(_))
    }

    /// Whether the command runs until it is told to stop.
    pub fn is_service(&self) -> bool {
        match self {
            Self::Coordinator(_) | Self::Worker(_) | Self::Dev => true,
            Self::Migrate(_)
            | Self::Validate(_)
            | Self::Schema
            | Self::Graph(_)
            | Self::Test(_)
            | Self::Conformance(_)
            | Self::Register(_)
            | Self::Start(_)
            | Self::Show(_)
            | Self::Watch(_)
            | Self::List(_)
            | Self::Logs(_)
            | Self::Cancel(_)
            | Self::Pause(_)
            | Self::Resume(_)
            | Self::Rerun(_)
            | Self::Check(_)
            | Self::Dead(_)
            | Self::WorkerTest(_)
            | Self::Completions(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    /// Demands that a command and all below it are explained.
    fn is_explained(command: &clap::Command, path: &str) {
        assert!(command.get_about().is_some(), "{path} says what it does");
        let after = command.get_after_help().map(ToString::to_string);
        let after = after.unwrap_or_default();
        assert!(after.contains("flotilla"), "{path} has no example: {after}");
        for argument in command.get_arguments() {
            assert!(
                argument.get_help().is_some(),
                "{path} {}",
                argument.get_id()
            );
        }
        for below in command.get_subcommands() {
            is_explained(below, &format!("{path} {}", below.get_name()));
        }
    }

    #[test]
    fn every_command_is_explained_with_an_example() {
        let command = Arguments::command();
        command.clone().debug_assert();
        for below in command.get_subcommands() {
            is_explained(below, below.get_name());
        }
    }
}
