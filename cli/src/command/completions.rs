//! `completions`: what a shell needs to complete commands and flags.

use clap::{Args, CommandFactory, ValueEnum};
use clap_complete::{Shell, generate};

use crate::arguments::Arguments;
use crate::failure::Exit;
use crate::output::print;

/// What `completions` takes.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct CompletionsArguments {
    /// The shell
    #[arg(value_name = "SHELL")]
    shell: CompletedShell,
}

const AFTER_HELP: &str = "\
Examples:
  bash: flotilla completions bash > ~/.local/share/bash-completion/completions/flotilla
  zsh:  flotilla completions zsh > \"${fpath[1]}/_flotilla\"
  fish: flotilla completions fish > ~/.config/fish/completions/flotilla.fish";

/// A shell that is served.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum CompletedShell {
    Bash,
    Zsh,
    Fish,
}

/// Prints the script.
pub fn run(arguments: &CompletionsArguments) -> Exit {
    let shell = match arguments.shell {
        CompletedShell::Bash => Shell::Bash,
        CompletedShell::Zsh => Shell::Zsh,
        CompletedShell::Fish => Shell::Fish,
    };
    let mut script = Vec::new();
    generate(shell, &mut Arguments::command(), "flotilla", &mut script);
    print(String::from_utf8_lossy(&script).trim_end());
    Exit::Done
}
