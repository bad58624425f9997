//! The rules of layout that no compiler and no lint checks, as a test over all files of the repository.
//!
//! Each rule is a function from a file to findings; all findings of all files are reported at once,
//! as `file:line: what is wrong`. The rules themselves are tested in `planted`, and
//! what they read comes from `source`.
//! What rustfmt and clippy check is left to them.

mod planted;
mod reader;
mod source;

use std::collections::BTreeMap;

use reader::{function_end, function_name};
use source::{File, has_word, repository_files, root};

const FILE_LINES: usize = 400;
const TEST_FILE_LINES: usize = 600;
const FUNCTION_LINES: usize = 70;

/// Crates without I/O, clocks and randomness, and what their manifests must not name.
const PURE_MANIFESTS: [&str; 4] = [
    "coordinator/engine/Cargo.toml",
    "coordinator/scripted/Cargo.toml",
    "coordinator/turn/Cargo.toml",
    "tests/simulation/Cargo.toml",
];
const IMPURE_CRATES: [&str; 7] = [
    "amqp",
    "futures",
    "getrandom",
    "lapin",
    "rand",
    "sqlx",
    "tokio",
];

/// Where SQL may be written; folders of tests may as well.
const SQL_FOLDERS: [&str; 3] = ["coordinator/src/storage", "tests/", "loadtest/"];

#[test]
fn the_tree_is_tidy() {
    let files = repository_files();
    assert!(
        !files.is_empty(),
        "no files found under {}",
        root().display()
    );
    let findings = check_all(&files);
    assert!(
        findings.is_empty(),
        "{} findings:\n{}",
        findings.len(),
        findings.join("\n")
    );
}

fn check_all(files: &[File]) -> Vec<String> {
    let rules: [fn(&File) -> Vec<Finding>; 9] = [
        file_length,
        opening_comment,
        function_length,
        unfinished_code,
        unwraps,
        sql_outside_storage,
        lapin_outside_protocol,
        pure_manifests,
        plain_text,
    ];
    let mut findings: Vec<String> = Vec::new();
    for file in files {
        let found = rules.iter().flat_map(|rule| rule(file));
        findings.extend(found.map(|(line, what)| format!("{}:{line}: {what}", file.path)));
    }
    findings.extend(backoff_in_one_module(files));
    findings
}

/// A line number, from 1, and what is wrong there.
type Finding = (usize, String);

fn file_length(file: &File) -> Vec<Finding> {
    let limit = if file.is_test_file() {
        TEST_FILE_LINES
    } else {
        FILE_LINES
    };
    let lines = file.text.lines().count();
    if !file.is_rust() || lines <= limit {
        return Vec::new();
    }
    vec![(
        limit + 1,
        format!("the file has {lines} lines; files stop at {limit}"),
    )]
}

fn opening_comment(file: &File) -> Vec<Finding> {
    if !file.is_rust() || file.text.starts_with("//!") {
        return Vec::new();
    }
    vec![(
        1,
        "the file does not open with `//!`: what it owns, what it leaves to others".into(),
    )]
}

fn function_length(file: &File) -> Vec<Finding> {
    let lines: Vec<&str> = file.code.lines().collect();
    let starts = (0..lines.len()).filter_map(|index| Some((index, function_name(lines[index])?)));
    starts
        .filter_map(|(start, name)| {
            let length = function_end(&lines, start, name)? - start + 1;
            let what =
                format!("function `{name}` has {length} lines; functions stop at {FUNCTION_LINES}");
            (length > FUNCTION_LINES).then_some((start + 1, what))
        })
        .collect()
}

fn unfinished_code(file: &File) -> Vec<Finding> {
    let macros = ["todo!", "unimplemented!", "dbg!"];
    let found = macros.iter().flat_map(|name| {
        let lines = file.lines_where(|line| has_word(line, name));
        lines.map(move |line| (line, format!("`{name}` does not belong into the tree")))
    });
    found.collect()
}

fn unwraps(file: &File) -> Vec<Finding> {
    if file.is_test_file() {
        return Vec::new();
    }
    let lines = file.lines_where(|line| line.contains(".unwrap()"));
    let outside = lines.filter(|line| !file.is_test_line(*line));
    outside
        .map(|line| {
            (
                line,
                "`.unwrap()` outside of tests; `expect` states the invariant".into(),
            )
        })
        .collect()
}

fn sql_outside_storage(file: &File) -> Vec<Finding> {
    if file.is_test_file()
        || SQL_FOLDERS
            .iter()
            .any(|folder| file.path.starts_with(folder))
    {
        return Vec::new();
    }
    let calls = ["sqlx::query", "sqlx::raw_sql", "sqlx::QueryBuilder"];
    let lines = file.lines_where(|line| calls.iter().any(|call| line.contains(call)));
    lines
        .map(|line| {
            (
                line,
                "SQL is written only in coordinator/src/storage".into(),
            )
        })
        .collect()
}

fn lapin_outside_protocol(file: &File) -> Vec<Finding> {
    let is_root_manifest = file.path == "Cargo.toml";
    if file.path.starts_with("protocol/")
        || is_root_manifest
        || !(file.is_rust() || file.is_manifest())
    {
        return Vec::new();
    }
    let lines = file.lines_where(|line| has_word(line, "lapin"));
    lines
        .map(|line| (line, "lapin is named only under protocol/".into()))
        .collect()
}

fn pure_manifests(file: &File) -> Vec<Finding> {
    if !PURE_MANIFESTS.contains(&file.path.as_str()) {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for (index, line) in file
        .code
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.starts_with("description"))
    {
        let words = line.split(|c: char| !(c.is_alphanumeric() || c == '-' || c == '_'));
        for word in words.filter(|word| is_impure(word)) {
            findings.push((
                index + 1,
                format!("a pure crate does not depend on `{word}`"),
            ));
        }
    }
    findings
}

fn is_impure(word: &str) -> bool {
    let family = word.split(['-', '_']).next().unwrap_or(word);
    family == "async" && word != "async" || IMPURE_CRATES.contains(&family)
}

fn plain_text(file: &File) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (index, line) in file.text.lines().enumerate() {
        let mut found = |what: &str| findings.push((index + 1, what.to_owned()));
        if line.ends_with([' ', '\t', '\r']) && !file.path.ends_with(".snap") {
            found("trailing whitespace");
        }
        if file.is_rust() && line.contains('\t') {
            found("a tab");
        }
        if names_machine_path(line) {
            found("a path of one machine");
        }
    }
    if !file.text.is_empty() && !file.text.ends_with('\n') {
        findings.push((
            file.text.lines().count(),
            "no newline at the end of the file".into(),
        ));
    }
    findings
}

/// An absolute path into a folder that exists on its author's machine only.
fn names_machine_path(line: &str) -> bool {
    // Put together here, so that this file does not name one.
    ["work", "root", "home"].iter().any(|folder| {
        line.match_indices(&format!("/{folder}/")).any(|(at, _)| {
            let before = line[..at].chars().next_back();
            !before.is_some_and(|c| c.is_alphanumeric() || "_-.*~})]>$".contains(c))
        })
    })
}

/// The crate `backoff`, as opposed to modules of ours with that name, is used in one file.
fn backoff_in_one_module(files: &[File]) -> Vec<String> {
    let mut findings = Vec::new();
    let manifests = files
        .iter()
        .filter(|file| file.is_manifest() && file.path != "Cargo.toml");
    let users: Vec<&File> = manifests
        .filter(|file| {
            file.code
                .lines()
                .any(|line| line.trim_start().starts_with("backoff"))
        })
        .collect();
    let uses: BTreeMap<&str, usize> = files
        .iter()
        .filter(|file| {
            file.is_rust()
                && users
                    .iter()
                    .any(|manifest| file.path.starts_with(manifest.folder()))
        })
        .filter_map(|file| Some((file.path.as_str(), file.lines_where(uses_backoff).next()?)))
        .collect();
    for manifest in users.iter().skip(1) {
        findings.push(format!(
            "{}:1: a second crate depends on backoff ({})",
            manifest.path, users[0].path
        ));
    }
    let first = uses.keys().next().copied().unwrap_or_default();
    for (path, line) in uses.iter().skip(1) {
        findings.push(format!(
            "{path}:{line}: backoff is used in one module only ({first})"
        ));
    }
    findings
}

fn uses_backoff(line: &str) -> bool {
    line.match_indices("backoff::").any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':')
    })
}
