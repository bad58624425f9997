//! The cases of a folder, and what is shown of them: text for people, JSON for scripts.

use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::json;

/// What became of one case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// All that is expected was seen.
    Pass,
    /// Something was not.
    Fail,
    /// It needs something that this version does not have.
    Unsupported,
}

/// One case, played.
#[derive(Debug, Clone, Serialize)]
pub struct Case {
    /// Name of its file.
    pub file: String,
    /// What became of it.
    pub status: Status,
    /// Why, unless it passed.
    pub detail: String,
    /// Its workflows in our language, the one under test first.
    #[serde(skip)]
    pub workflows: Vec<String>,
}

/// All cases of a folder.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// In the order of their names.
    pub cases: Vec<Case>,
    /// How many passed.
    pub pass: usize,
    /// How many did not.
    pub fail: usize,
    /// How many could not be played.
    pub unsupported: usize,
}

/// Plays every `*.yaml` of a folder, or one file.
///
/// # Errors
///
/// When a file cannot be read, or there is none.
pub fn run(path: &Path) -> std::io::Result<Report> {
    let mut files: Vec<PathBuf> = vec![path.to_owned()];
    if path.is_dir() {
        let entries = std::fs::read_dir(path)?.collect::<Result<Vec<_>, _>>()?;
        let paths = entries.into_iter().map(|entry| entry.path());
        files = paths
            .filter(|path| path.extension().is_some_and(|ext| ext == "yaml"))
            .collect();
        files.sort();
    }
    if files.is_empty() {
        let message = format!("no *.yaml in {}", path.display());
        return Err(std::io::Error::new(std::io::ErrorKind::NotFound, message));
    }
    let mut cases = Vec::new();
    for file in &files {
        let name = file.file_name().unwrap_or(file.as_os_str());
        let source = std::fs::read_to_string(file)?;
        cases.push(crate::case(&name.to_string_lossy(), &source));
    }
    let count = |status| cases.iter().filter(|case| case.status == status).count();
    Ok(Report {
        pass: count(Status::Pass),
        fail: count(Status::Fail),
        unsupported: count(Status::Unsupported),
        cases,
    })
}

impl Case {
    pub(crate) fn new(
        file: &str,
        judged: Result<(), (Status, String)>,
        workflows: Vec<String>,
    ) -> Self {
        let (status, detail) = judged.err().unwrap_or((Status::Pass, String::new()));
        Self {
            file: file.to_owned(),
            status,
            detail,
            workflows,
        }
    }
}

impl Status {
    fn word(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Unsupported => "unsupported",
        }
    }
}

impl Report {
    /// One JSON document, with the workflows in our language if `prints`.
    #[must_use]
    pub fn json(&self, prints: bool) -> String {
        let mut document = json!(self);
        for (shown, case) in document["cases"]
            .as_array_mut()
            .into_iter()
            .flatten()
            .zip(&self.cases)
        {
            if prints {
                shown["workflows"] = json!(case.workflows);
            }
        }
        format!("{document:#}")
    }

    /// A line for each case that did not pass, and the sums. With `prints` the workflows of all cases
    /// come first, a YAML document each.
    #[must_use]
    pub fn text(&self, prints: bool) -> String {
        let mut lines = Vec::new();
        for case in self.cases.iter().filter(|_| prints) {
            for workflow in &case.workflows {
                lines.push(format!("---\n# {}\n{}", case.file, workflow.trim_end()));
            }
        }
        let mark = if prints { "# " } else { "" };
        for case in self.cases.iter().filter(|case| case.status != Status::Pass) {
            let word = case.status.word();
            lines.push(format!("{mark}{word} {}: {}", case.file, case.detail));
        }
        let Self {
            pass,
            fail,
            unsupported,
            ..
        } = self;
        lines.push(format!(
            "{mark}{pass} pass, {fail} fail, {unsupported} unsupported"
        ));
        lines.join("\n")
    }
}
