//! What a command shows: JSON for scripts, tables for people. A reader that has gone is no error.

use std::io::{ErrorKind, IsTerminal, Write};

use clap::ValueEnum;
use comfy_table::{ContentArrangement, Table};
use serde::Serialize;

use crate::failure::{Exit, Failure};

/// The form of what is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Table,
    /// One JSON document on stdout.
    Json,
    /// Annotations of GitHub Actions; `validate` only.
    Github,
}

impl Output {
    /// Shows an error: always on stderr, and for scripts as the one document on stdout, too.
    pub fn failure(self, failure: &Failure) -> Exit {
        if self == Self::Json {
            print_json(&failure.json());
        }
        explain(&failure.text());
        failure.exit()
    }

    /// Whether scripts read it.
    pub fn is_json(self) -> bool {
        self == Self::Json
    }
}

/// Prints a JSON document.
pub fn print_json<T: Serialize + ?Sized>(document: &T) {
    let text = serde_json::to_string_pretty(document)
        .expect("what is shown has text keys and serializes into memory");
    print(&text);
}

/// Prints lines to stdout.
pub fn print(text: &str) {
    write_line(std::io::stdout().lock(), text);
}

/// Prints lines to stderr.
pub fn explain(text: &str) {
    write_line(std::io::stderr().lock(), text);
}

fn write_line(mut to: impl Write, text: &str) {
    let written = writeln!(to, "{text}").and_then(|()| to.flush());
    if let Err(error) = written
        && error.kind() != ErrorKind::BrokenPipe
    {
        tracing::error!(%error, "could not write");
    }
}

/// Whether colours may be used on stdout.
pub fn is_colourful() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}

/// A table without lines, that wraps only on a terminal.
pub fn table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_content_arrangement(if std::io::stdout().is_terminal() {
        ContentArrangement::Dynamic
    } else {
        ContentArrangement::Disabled
    });
    table.set_header(header.iter().map(|name| name.to_uppercase()));
    for row in rows {
        table.add_row(row.iter().map(|cell| printable(cell)));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let lines = table.lines().map(|line| line.trim_end().to_owned());
    lines.collect::<Vec<_>>().join("\n")
}

/// A text in one line, without characters that a terminal would obey.
pub fn printable(text: &str) -> String {
    let shown = text.chars().map(|c| match c {
        '\n' | '\r' | '\t' => ' ',
        c if c.is_control() => '\u{fffd}',
        c => c,
    });
    shown.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_aligned_and_has_no_lines() {
        let rows = [
            vec!["fetch".to_owned(), "succeeded".to_owned()],
            vec!["a\nb".to_owned(), "\u{1b}[31mred".to_owned()],
        ];
        assert_eq!(
            table(&["task", "status"], rows),
            "TASK   STATUS\nfetch  succeeded\na b    \u{fffd}[31mred"
        );
    }
}
