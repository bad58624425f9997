//! Workflow files: which ones a list of paths names, and what the engine says about each.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use flotilla_engine::Workflow;
use flotilla_engine::diagnostic::{Diagnostic, Severity};

use crate::advice::advice;
use crate::failure::Failure;

/// A file with what the engine makes of it.
#[derive(Debug)]
pub struct Source {
    /// The path as it was given.
    pub file: String,
    /// The text; empty if the file cannot be read.
    pub text: String,
    /// The workflow, if the file has no errors.
    pub workflow: Option<Arc<Workflow>>,
    /// Errors and warnings, in the order of their places.
    pub findings: Vec<Diagnostic>,
}

impl Source {
    /// Those of `severity`.
    pub fn of(&self, severity: Severity) -> impl Iterator<Item = &Diagnostic> {
        self.findings
            .iter()
            .filter(move |finding| finding.severity == severity)
    }
}

/// Reads and checks the files that `paths` name: a folder means all `*.yaml` and `*.yml` below it.
pub fn check(paths: &[PathBuf]) -> Result<Vec<Source>, Failure> {
    let mut files = Vec::new();
    for path in paths {
        if path.is_dir() {
            let before = files.len();
            collect(path, &mut files)?;
            if files.len() == before {
                return Err(Failure::refused(format!(
                    "no *.yaml or *.yml below {}",
                    path.display()
                )));
            }
        } else {
            files.push(path.clone());
        }
    }
    // A file that is named twice is one file.
    let mut seen = std::collections::BTreeSet::new();
    files.retain(|file| seen.insert(file.clone()));
    Ok(files.iter().map(|file| read(file)).collect())
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), Failure> {
    let cannot =
        |error| Failure::refused(format!("could not read {}", folder.display())).because(error);
    let entries = std::fs::read_dir(folder).map_err(cannot)?;
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()
        .map_err(cannot)?;
    paths.sort();
    for path in paths {
        let name = path.file_name().and_then(|name| name.to_str());
        if name.is_some_and(|name| name.starts_with('.')) {
            continue;
        }
        if matches!(name, Some("pack.yaml" | "pack.yml")) {
            return Err(Failure::refused(format!(
                "{} is a pack: packs are not supported yet",
                folder.display()
            ))
            .hint("name the workflow files, or their folder, instead"));
        }
        if path.is_dir() && !path.is_symlink() {
            collect(&path, files)?;
        } else if is_yaml(&path) && path.is_file() {
            files.push(path);
        }
    }
    Ok(())
}

fn is_yaml(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    matches!(extension, Some("yaml" | "yml"))
}

fn read(path: &Path) -> Source {
    let file = path.display().to_string();
    let (text, outcome) = match std::fs::read_to_string(path) {
        Ok(text) => {
            let outcome = flotilla_engine::compile(&text);
            (text, outcome)
        }
        Err(error) => (String::new(), Err(vec![unreadable(&error)])),
    };
    let (workflow, mut findings) = match outcome {
        Ok(compiled) => (Some(compiled.workflow), compiled.warnings),
        Err(findings) => (None, findings),
    };
    for finding in &mut findings {
        if finding.hint.is_none() {
            finding.hint = advice(finding.code).map(str::to_owned);
        }
    }
    Source {
        file,
        text,
        workflow,
        findings,
    }
}

fn unreadable(error: &std::io::Error) -> Diagnostic {
    Diagnostic {
        severity: Severity::Error,
        code: "unreadable",
        message: format!("the file cannot be read: {error}"),
        hint: None,
        path: String::new(),
        line: 1,
        column: 1,
        span: 0..0,
    }
}
