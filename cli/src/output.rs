//! What a command shows: JSON for scripts, tables for people. A reader that has gone is no error.

use std::io::{ErrorKind, IsTerminal, Write};

use clap::ValueEnum;
use comfy_table::{Cell, Color, ContentArrangement, Table};
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

    /// The same where each line on stdout is a document.
    pub fn failure_line(self, failure: &Failure) -> Exit {
        if self == Self::Json {
            print(&failure.json().to_string());
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

/// How a word is shown where colours are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shade {
    /// All is as it should be.
    Good,
    /// Something is not.
    Bad,
    /// Still under way.
    Busy,
    /// Beside the point.
    Faint,
}

/// A text in its colour; as it is where stdout shows none.
pub fn paint(text: &str, shade: Shade) -> String {
    if !is_colourful() {
        return text.to_owned();
    }
    let style = console::Style::new().force_styling(true);
    let style = match shade {
        Shade::Good => style.green(),
        Shade::Bad => style.red(),
        Shade::Busy => style.cyan(),
        Shade::Faint => style.dim(),
    };
    style.apply_to(text).to_string()
}

/// The colour of a status of an execution or a task.
pub fn shade_of(status: &str) -> Shade {
    match status {
        "succeeded" => Shade::Good,
        "failed" | "timed_out" | "failing" => Shade::Bad,
        "skipped" | "omitted" | "cancelled" | "waiting" => Shade::Faint,
        _ => Shade::Busy,
    }
}

fn colour(shade: Shade) -> Color {
    match shade {
        Shade::Good => Color::Green,
        Shade::Bad => Color::Red,
        Shade::Busy => Color::Cyan,
        Shade::Faint => Color::DarkGrey,
    }
}

/// The columns and rows of the terminal that stdout is; `None` where it is none, or does not say.
pub fn terminal_size() -> Option<(u16, u16)> {
    let (rows, columns) = console::Term::stdout().size_checked()?;
    (std::io::stdout().is_terminal() && rows > 0 && columns > 0).then_some((columns, rows))
}

/// A table without lines, that wraps only on a terminal.
pub fn table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = plain_table(header, rows);
    if let Some((columns, _)) = terminal_size() {
        table.set_content_arrangement(ContentArrangement::Dynamic);
        table.set_width(columns);
    }
    lines_of(&table)
}

/// The same, with a line for each row, however long.
pub fn wide_table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    lines_of(&plain_table(header, rows))
}

fn lines_of(table: &Table) -> String {
    let lines = table.lines().map(|line| line.trim_end().to_owned());
    lines.collect::<Vec<_>>().join("\n")
}

fn plain_table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> Table {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header.iter().map(|name| name.to_uppercase()));
    let status = header.iter().position(|name| *name == "status");
    let status = status.filter(|_| is_colourful());
    for row in rows {
        let cells = row.iter().enumerate().map(|(column, text)| {
            let cell = Cell::new(printable(text));
            if status == Some(column) {
                cell.fg(colour(shade_of(text)))
            } else {
                cell
            }
        });
        table.add_row(cells);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table
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
