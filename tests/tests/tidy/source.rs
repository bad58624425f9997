//! The files of the repository, as the rules see them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::reader::{blank_rust, function_end};

pub struct File {
    /// Relative to the root, with `/`.
    pub path: String,
    pub text: String,
    /// The text with comments, and in Rust strings too, replaced by blanks; lines stay where they are.
    pub code: String,
}

impl File {
    pub fn new(path: &str, text: &str) -> Self {
        let code = if is_rust(path) {
            blank_rust(text)
        } else {
            let lines = text
                .lines()
                .map(|line| line.split('#').next().unwrap_or(line));
            lines.collect::<Vec<_>>().join("\n")
        };
        Self {
            path: path.to_owned(),
            text: text.to_owned(),
            code,
        }
    }

    pub fn is_rust(&self) -> bool {
        is_rust(&self.path)
    }

    pub fn is_manifest(&self) -> bool {
        self.path == "Cargo.toml" || self.path.ends_with("/Cargo.toml")
    }

    pub fn folder(&self) -> &str {
        self.path.rsplit_once('/').map_or("", |(folder, _)| folder)
    }

    pub fn is_test_file(&self) -> bool {
        let folders = self
            .path
            .split('/')
            .any(|part| part == "tests" || part == "benches");
        folders || self.path.ends_with("/tests.rs") || self.path.ends_with("_tests.rs")
    }

    /// Numbers of the lines of code that satisfy the condition.
    pub fn lines_where(&self, condition: impl Fn(&str) -> bool) -> impl Iterator<Item = usize> {
        let lines = self
            .code
            .lines()
            .enumerate()
            .filter(move |(_, line)| condition(line));
        lines.map(|(index, _)| index + 1)
    }

    /// Whether the line is in an item under `#[cfg(test)]`.
    pub fn is_test_line(&self, line: usize) -> bool {
        let lines: Vec<&str> = self.code.lines().collect();
        let starts =
            (0..line).filter(|index| lines[*index].trim_start().starts_with("#[cfg(test)]"));
        starts
            .into_iter()
            .any(|start| function_end(&lines, start, "").is_some_and(|end| line <= end + 1))
    }
}

fn is_rust(path: &str) -> bool {
    Path::new(path)
        .extension()
        .is_some_and(|extension| extension == "rs")
}

pub fn has_word(line: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        !before.is_some_and(is_part) && !after.is_some_and(is_part)
    })
}

pub fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest
        .parent()
        .expect("the tests are a folder of the repository")
        .to_owned()
}

/// What git tracks, and the sources that it would track: a log or a result that somebody writes into
/// the tree is not judged. Without git, the sources.
pub fn repository_files() -> Vec<File> {
    let root = root();
    let tracked = git_listing(&root, &["--cached"]);
    let untracked = git_listing(&root, &["--others", "--exclude-standard"]);
    let others = untracked.unwrap_or_else(|| walk(&root, ""));
    let mut paths = tracked.unwrap_or_default();
    paths.extend(others.into_iter().filter(|path| is_source(path)));
    // What is tracked may have been deleted, and what is no text is not ours to judge.
    let texts = paths.into_iter().filter_map(|path| {
        let is_file =
            fs::symlink_metadata(root.join(&path)).is_ok_and(|metadata| metadata.is_file());
        let text = is_file.then(|| fs::read_to_string(root.join(&path)).ok())??;
        Some(File::new(&path, &text))
    });
    texts.collect()
}

fn git_listing(root: &Path, options: &[&str]) -> Option<Vec<String>> {
    let mut git = Command::new("git");
    git.arg("-C").arg(root).args(["ls-files", "-z"]);
    let output = git.args(options).output().ok()?;
    let names = String::from_utf8_lossy(&output.stdout).into_owned();
    let paths = names.split('\0').filter(|name| !name.is_empty());
    output
        .status
        .success()
        .then(|| paths.map(str::to_owned).collect())
}

fn is_source(path: &str) -> bool {
    let extension = Path::new(path).extension().unwrap_or_default();
    ["rs", "toml", "md", "sql", "sh"]
        .iter()
        .any(|source| extension == *source)
}

fn walk(root: &Path, folder: &str) -> Vec<String> {
    let Ok(entries) = fs::read_dir(root.join(folder)) else {
        return Vec::new();
    };
    let mut paths = Vec::new();
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = if folder.is_empty() {
            name.clone()
        } else {
            format!("{folder}/{name}")
        };
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if is_folder && ![".git", ".flotilla", "target", "__pycache__"].contains(&name.as_str()) {
            paths.extend(walk(root, &path));
        } else if !is_folder {
            paths.push(path);
        }
    }
    paths
}
