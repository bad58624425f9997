//! Files of workflows and packs: which ones a list of paths names, and what the engine says about each.

mod pack;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flotilla_engine::definition::Compiled;
use flotilla_engine::diagnostic::{Diagnostic, Severity};
use flotilla_engine::pack::ActionDefaults;
use flotilla_engine::{ActionFile, Workflow, compile_in, reference_of};

use crate::advice::advice;
use crate::failure::Failure;

use pack::Context;

/// What is known beside the files.
#[derive(Debug, Default)]
pub struct Known {
    /// What actions say of themselves, by their references.
    pub actions: BTreeMap<String, ActionDefaults>,
    /// References of the workflows that are registered; `None` if nobody has asked.
    pub workflows: Option<BTreeSet<String>>,
}

/// A file with what the engine makes of it.
#[derive(Debug)]
pub struct Source {
    /// The path as it was given.
    pub file: String,
    /// The text; empty if the file cannot be read.
    pub text: String,
    /// What it holds, if it has no errors.
    pub content: Content,
    /// Errors and warnings, in the order of their places.
    pub findings: Vec<Diagnostic>,
}

/// What a file holds.
#[derive(Debug)]
pub enum Content {
    /// A workflow, and what it gets of its pack as it is stored.
    Workflow(Arc<Workflow>, Option<String>),
    /// What an action says of itself.
    Action(ActionFile),
    /// `pack.yaml`
    Pack,
    /// Something that is not valid.
    Nothing,
}

impl Source {
    /// A file with errors.
    pub fn invalid(path: &Path, text: String, findings: Vec<Diagnostic>) -> Self {
        Self {
            file: path.display().to_string(),
            text,
            content: Content::Nothing,
            findings: advised(findings),
        }
    }

    /// Those of `severity`.
    pub fn of(&self, severity: Severity) -> impl Iterator<Item = &Diagnostic> {
        self.findings
            .iter()
            .filter(move |finding| finding.severity == severity)
    }

    /// Whether it has no errors.
    pub fn is_valid(&self) -> bool {
        !matches!(self.content, Content::Nothing)
    }

    /// The workflow, if it holds one.
    pub fn workflow(&self) -> Option<&Arc<Workflow>> {
        match &self.content {
            Content::Workflow(workflow, _) => Some(workflow),
            Content::Action(_) | Content::Pack | Content::Nothing => None,
        }
    }
}

/// Reads and checks the files that `paths` name: a folder means the pack that it is, or all `*.yaml`
/// and `*.yml` below it that are no cases for `flotilla test`.
pub fn check(paths: &[PathBuf], known: &Known) -> Result<Vec<Source>, Failure> {
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
        } else if pack::is_pack_file(path) {
            files.extend(pack::files(pack::folder(path))?);
        } else {
            files.push(path.clone());
        }
    }
    // A file that is named twice is one file.
    let mut seen = std::collections::BTreeSet::new();
    files.retain(|file| seen.insert(file.clone()));
    let names = files.iter().filter_map(|file| reference(file));
    let mut workflows: BTreeSet<String> = names.collect();
    workflows.extend(known.workflows.iter().flatten().cloned());
    let mut reading = Reading {
        known,
        workflows,
        packs: BTreeMap::new(),
    };
    Ok(files.iter().map(|file| reading.read(file)).collect())
}

/// The reference of the workflow that a file holds, if it holds one.
fn reference(path: &Path) -> Option<String> {
    if pack::is_pack_file(path) || pack::is_action(path) {
        return None;
    }
    reference_of(&std::fs::read_to_string(path).ok()?)
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), Failure> {
    let paths = entries(folder)?;
    if paths.iter().any(|path| pack::is_pack_file(path)) {
        files.extend(pack::files(folder)?);
        return Ok(());
    }
    for path in paths {
        if path.is_dir() && !path.is_symlink() {
            collect(&path, files)?;
        } else if is_yaml(&path) && path.is_file() {
            files.push(path);
        }
    }
    Ok(())
}

/// What a folder holds, in order, without what is hidden.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let cannot =
        |error| Failure::refused(format!("could not read {}", folder.display())).because(error);
    let entries = std::fs::read_dir(folder).map_err(cannot)?;
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()
        .map_err(cannot)?;
    paths.retain(|path| !name(path).starts_with('.'));
    paths.sort();
    Ok(paths)
}

fn name(path: &Path) -> &str {
    let name = path.file_name().and_then(|name| name.to_str());
    name.unwrap_or_default()
}

/// Whether the file may hold a workflow, by its name.
fn is_yaml(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    let is_test = name(path).ends_with(".test.yaml") || name(path).ends_with(".test.yml");
    matches!(extension, Some("yaml" | "yml")) && !is_test
}

/// Reads and checks one file of a workflow, within its pack if it lies in one. Where `pack.yaml` is
/// not valid, it is that.
pub fn read(path: &Path) -> Source {
    let known = Known::default();
    let mut reading = Reading {
        known: &known,
        workflows: BTreeSet::new(),
        packs: BTreeMap::new(),
    };
    if let Some(folder) = pack::around(path) {
        let source = reading.read(&pack::file(&folder));
        if !source.is_valid() {
            return source;
        }
    }
    reading.read(path)
}

/// Files that are read, and what they get of each other.
struct Reading<'a> {
    known: &'a Known,
    /// References of workflows, of the files and of what is registered.
    workflows: BTreeSet<String>,
    /// What is known of packs, by their folders.
    packs: BTreeMap<PathBuf, Arc<Context>>,
}

impl Reading<'_> {
    fn read(&mut self, path: &Path) -> Source {
        let text = match text(path) {
            Ok(text) => text,
            Err(source) => return *source,
        };
        if pack::is_pack_file(path) {
            return pack::pack_source(path, text);
        }
        let context = pack::around(path).map(|folder| {
            let context = self.packs.entry(folder.clone());
            Arc::clone(context.or_insert_with(|| Arc::new(Context::read(&folder))))
        });
        if pack::is_action(path) {
            return pack::action_source(path, text, context.as_deref());
        }
        let gets = Context::gets(context.as_deref(), &self.known.actions, &self.workflows);
        match compile_in(&text, &gets) {
            Ok(compiled) => self.workflow(path, text, compiled, context.as_deref()),
            Err(findings) => Source::invalid(path, text, findings),
        }
    }

    fn workflow(
        &self,
        path: &Path,
        text: String,
        compiled: Compiled,
        context: Option<&Context>,
    ) -> Source {
        if let Some(wrong) = pack::wrong_pack(&compiled.workflow.reference, &text, context) {
            return Source::invalid(path, text, vec![wrong]);
        }
        let mut findings = self.unknown_children(&compiled);
        if findings.iter().any(|one| one.severity == Severity::Error) {
            return Source::invalid(path, text, findings);
        }
        findings.extend(compiled.warnings);
        Source {
            file: path.display().to_string(),
            text,
            content: Content::Workflow(compiled.workflow, compiled.pack),
            findings: advised(findings),
        }
    }

    /// Children that no file holds: an error where it is known what is registered.
    fn unknown_children(&self, compiled: &Compiled) -> Vec<Diagnostic> {
        let names = self.workflows.iter().map(String::as_str).collect();
        let mut unknown = compiled.unknown_children(&names);
        if self.known.workflows.is_none() {
            for one in &mut unknown {
                one.severity = Severity::Warning;
                one.message = format!("{} among these files", one.message);
            }
        }
        unknown
    }
}

/// The text of a file, or what is to be shown of one that cannot be read.
pub fn text(path: &Path) -> Result<String, Box<Source>> {
    std::fs::read_to_string(path).map_err(|error| {
        Box::new(Source::invalid(
            path,
            String::new(),
            vec![unreadable(&error)],
        ))
    })
}

/// Findings with what would be right, where the engine has not said it.
fn advised(mut findings: Vec<Diagnostic>) -> Vec<Diagnostic> {
    for finding in &mut findings {
        if finding.hint.is_none() {
            finding.hint = advice(finding.code).map(str::to_owned);
        }
    }
    findings
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
