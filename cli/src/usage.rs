//! Words that are no command: what is wrong with them, for people on stderr, and for scripts that asked for
//! JSON as a document on stdout, too.

use std::ffi::OsString;

use clap::error::ErrorKind;

use crate::failure::{Exit, Failure};
use crate::output::print;

/// Shows what is wrong, or the help or version that was asked for.
pub fn show(error: &clap::Error, words: &[OsString]) -> Exit {
    let is_wrong = error.use_stderr();
    if is_wrong && wants_json(words) {
        // On one line, as `watch` and `logs` need it.
        print(&failure(error).json().to_string());
    }
    // A reader that has gone is no error.
    let _ = error.print();
    if is_wrong { Exit::Refused } else { Exit::Done }
}

fn failure(error: &clap::Error) -> Failure {
    // Which of the two it is depends on whether the environment names a server. All others explain
    // themselves.
    let is_missing = matches!(
        error.kind(),
        ErrorKind::MissingSubcommand | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
    );
    let message = if is_missing {
        "a command is missing".to_owned()
    } else {
        first_paragraph(&error.render().to_string())
    };
    Failure::refused(message)
        .hint("`flotilla --help` lists the commands, and `flotilla COMMAND --help` what each takes")
        .of_kind("usage")
}

/// What is wrong, in one line; usage and advice stand below it.
fn first_paragraph(text: &str) -> String {
    let text = text.strip_prefix("error: ").unwrap_or(text);
    let lines = text.lines().take_while(|line| !line.trim().is_empty());
    lines.map(str::trim).collect::<Vec<_>>().join(" ")
}

/// Whether JSON is asked for, as far as words tell that make no command.
fn wants_json(words: &[OsString]) -> bool {
    let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
    let flags = words.iter().position(|word| word == "--");
    let words = &words[..flags.unwrap_or(words.len())];
    let in_one = ["-ojson", "-o=json", "--output=json"];
    words.iter().any(|word| in_one.contains(&&**word))
        || words
            .windows(2)
            .any(|pair| ["-o", "--output"].contains(&&*pair[0]) && pair[1] == "json")
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::arguments::Arguments;

    fn error(words: &[&str]) -> clap::Error {
        let words = ["flotilla"].iter().chain(words);
        Arguments::try_parse_from(words).expect_err("they are no command")
    }

    #[test]
    fn what_is_wrong_is_one_line_for_scripts() {
        for (words, message) in [
            (
                &["show"][..],
                "the following required arguments were not provided: <ID>",
            ),
            (&["dance"], "unrecognized subcommand 'dance'"),
            (&[], "a command is missing"),
        ] {
            let json = failure(&error(words)).json();
            assert_eq!(json["error"]["kind"], "usage");
            assert_eq!(json["error"]["message"], message);
            assert!(json["error"]["hint"].is_string(), "{json}");
        }
    }

    #[test]
    fn what_is_wrong_ends_with_2_and_help_and_version_with_0() {
        assert_eq!(show(&error(&["show"]), &[]), Exit::Refused);
        for words in [["--help"], ["--version"]] {
            assert_eq!(show(&error(&words), &[]), Exit::Done);
        }
    }

    #[test]
    fn json_is_asked_for_in_every_form_that_clap_takes() {
        let wants = |words: &[&str]| {
            let words: Vec<OsString> = words.iter().map(OsString::from).collect();
            wants_json(&words)
        };
        for words in [
            &["show", "-o", "json"][..],
            &["--output", "json", "show"],
            &["-ojson"],
            &["-o=json"],
            &["--output=json"],
        ] {
            assert!(wants(words), "{words:?}");
        }
        for words in [
            &["show", "json"][..],
            &["-o", "table", "json"],
            &["-o"],
            &["start", "--", "-o", "json"],
        ] {
            assert!(!wants(words), "{words:?}");
        }
    }
}
