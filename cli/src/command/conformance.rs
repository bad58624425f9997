//! `conformance`: plays cases of the neutral form, which belongs to no engine.

use std::path::PathBuf;

use clap::Args;

use crate::arguments::Global;
use crate::failure::{Exit, Failure};
use crate::output::print;

/// What `conformance` takes.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct ConformanceArguments {
    /// Folder of cases, or one case
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// Show the workflows in our language as well
    #[arg(long)]
    print: bool,
    /// Print the report as JSON, as with `--output json`
    #[arg(long)]
    json: bool,
}

const AFTER_HELP: &str = "\
A case is a workflow in a form that belongs to no engine, what workers answer, and what must be seen. \
It is translated into our language, checked, and played in virtual time, twice: as it is, and with the \
execution made of its rows after each event.

Exit codes: 0 no case fails; 1 one does; 2 nothing could be played.

Example: flotilla conformance tests/conformance/cases";

/// Plays all cases of a folder.
pub fn run(global: &Global, arguments: &ConformanceArguments) -> Result<Exit, Failure> {
    let report = conformance::run(&arguments.folder)
        .map_err(|error| Failure::refused(format!("{}: {error}", arguments.folder.display())))?;
    if arguments.json || global.output.is_json() {
        print(&report.json(arguments.print));
    } else {
        print(&report.text(arguments.print));
    }
    Ok(if report.fail > 0 {
        Exit::NotSucceeded
    } else {
        Exit::Done
    })
}
