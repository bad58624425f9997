//! `validate`: all errors of all files, as pictures, JSON or annotations.

use std::path::PathBuf;

use clap::Args;
use flotilla_engine::diagnostic::Severity;
use serde::Serialize;

use crate::arguments::Global;
use crate::failure::Exit;
use crate::output::{Output, is_colourful, print, print_json};
use crate::picture;
use crate::source::{self, Known, Source};

/// What `validate` takes.
#[derive(Debug, Args)]
#[command(after_help = "Example: flotilla validate examples/workflows")]
pub struct ValidateArguments {
    /// Workflow files, or pack folders; any other folder means all *.yaml and *.yml below it
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
}

/// One finding, as scripts see it.
#[derive(Debug, Serialize)]
pub struct Finding<'a> {
    file: &'a str,
    line: usize,
    column: usize,
    path: &'a str,
    code: &'a str,
    message: &'a str,
    hint: Option<&'a str>,
}

#[derive(Debug, Serialize)]
struct Report<'a> {
    valid: bool,
    errors: Vec<Finding<'a>>,
    warnings: Vec<Finding<'a>>,
}

/// Checks the files.
pub fn run(global: &Global, arguments: &ValidateArguments) -> Exit {
    let sources = match source::check(&arguments.paths, &Known::default()) {
        Ok(sources) => sources,
        Err(failure) => return global.output.failure(&failure),
    };
    match global.output {
        Output::Table => show(&sources),
        Output::Json => print_json(&report(&sources)),
        Output::Github => annotate(&sources),
    }
    if !sources.iter().all(Source::is_valid) {
        Exit::Refused
    } else {
        Exit::Done
    }
}

fn report(sources: &[Source]) -> Report<'_> {
    let errors: Vec<Finding<'_>> = findings(sources, Severity::Error).collect();
    Report {
        valid: errors.is_empty(),
        errors,
        warnings: findings(sources, Severity::Warning).collect(),
    }
}

/// The findings of all files, as scripts see them.
pub fn findings(sources: &[Source], severity: Severity) -> impl Iterator<Item = Finding<'_>> {
    sources.iter().flat_map(move |source| {
        source.of(severity).map(|finding| Finding {
            file: &source.file,
            line: finding.line,
            column: finding.column,
            path: &finding.path,
            code: finding.code,
            message: &finding.message,
            hint: finding.hint.as_deref(),
        })
    })
}

/// The pictures, then one line that counts.
fn show(sources: &[Source]) {
    for picture in pictures(sources, is_colourful()) {
        print(&picture);
        print("");
    }
    print(&count(sources));
}

/// The pictures of all findings.
pub fn pictures(sources: &[Source], is_colourful: bool) -> Vec<String> {
    let drawn = sources
        .iter()
        .flat_map(|source| picture::draw(source, is_colourful));
    drawn.collect()
}

/// `5 errors in 1 of 3 files`.
pub fn count(sources: &[Source]) -> String {
    let errors: usize = sources
        .iter()
        .map(|source| source.of(Severity::Error).count())
        .sum();
    let warnings: usize = sources
        .iter()
        .map(|source| source.of(Severity::Warning).count())
        .sum();
    let bad = sources.iter().filter(|source| !source.is_valid()).count();
    let files = number(sources.len(), "file");
    let mut text = match (bad, sources.len()) {
        (0, 1) => "1 file is valid".to_owned(),
        (0, _) => format!("{files} are valid"),
        _ => format!("{} in {bad} of {files}", number(errors, "error")),
    };
    if warnings > 0 {
        text = format!("{text}, {}", number(warnings, "warning"));
    }
    text
}

/// `1 file`, `2 files`.
pub fn number(count: usize, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {what}{plural}")
}

fn annotate(sources: &[Source]) {
    for (level, severity) in [("error", Severity::Error), ("warning", Severity::Warning)] {
        for finding in findings(sources, severity) {
            print(&annotation(level, &finding));
        }
    }
}

fn annotation(level: &str, finding: &Finding<'_>) -> String {
    let mut message = finding.message.to_owned();
    if let Some(hint) = finding.hint {
        message = format!("{message} ({hint})");
    }
    format!(
        "::{level} file={},line={},col={}::{}",
        property(finding.file),
        finding.line,
        finding.column,
        data(&message)
    )
}

/// The text of an annotation, with what would end it written as codes.
fn data(text: &str) -> String {
    text.replace('%', "%25")
        .replace('\r', "%0D")
        .replace('\n', "%0A")
}

/// A property of an annotation, which also ends at a colon or a comma.
fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_annotation_stays_on_one_line() {
        let finding = Finding {
            file: "a,b.yaml",
            line: 3,
            column: 7,
            path: "tasks[0]",
            code: "unknown_key",
            message: "no\nkey",
            hint: Some("100% sure?"),
        };
        assert_eq!(
            annotation("error", &finding),
            "::error file=a%2Cb.yaml,line=3,col=7::no%0Akey (100%25 sure?)"
        );
    }
}
