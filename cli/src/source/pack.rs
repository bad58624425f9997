//! Pack folders: `pack.yaml` beside `workflows/` and `actions/`, and what their files get of each other.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use flotilla_engine::diagnostic::{Diagnostic, Severity};
use flotilla_engine::pack::{ActionDefaults, Pack};
use flotilla_engine::{ActionFile, PackFile, read_action, read_pack};

use super::{Content, Source, entries, is_yaml, name};
use crate::failure::Failure;

/// What the files of a pack get of it.
#[derive(Debug, Default)]
pub struct Context {
    /// `None` if `pack.yaml` is not valid, which is said where it is read.
    pack: Option<PackFile>,
    actions: Vec<ActionFile>,
}

impl Context {
    /// Reads what is valid in the folder of a pack.
    pub fn read(folder: &Path) -> Self {
        let read = |path: &Path| std::fs::read_to_string(path).unwrap_or_default();
        let actions = yaml_below(&folder.join("actions")).unwrap_or_default();
        Self {
            pack: read_pack(&read(&file(folder))).ok(),
            actions: actions
                .iter()
                .filter_map(|path| read_action(&read(path)).ok())
                .collect(),
        }
    }

    /// What a workflow gets: of its pack, if it is in one, and of all actions and workflows that are
    /// known. What the pack says of an action wins.
    pub fn gets(
        context: Option<&Self>,
        known: &BTreeMap<String, ActionDefaults>,
        workflows: &BTreeSet<String>,
    ) -> Pack {
        let mut actions = known.clone();
        for action in context.iter().flat_map(|context| &context.actions) {
            actions.insert(action.reference.clone(), action.defaults.clone());
        }
        let pack = context.map(|context| context.pack.clone());
        Pack {
            config: pack.map(|pack| pack.map(|pack| pack.config).unwrap_or_default()),
            actions,
            workflows: workflows.clone(),
        }
    }
}

/// Whether the file is the head of a pack, by its name.
pub fn is_pack_file(path: &Path) -> bool {
    matches!(name(path), "pack.yaml" | "pack.yml")
}

/// The folder of the head of a pack.
pub fn folder(file: &Path) -> &Path {
    match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        Some(_) | None => Path::new("."),
    }
}

/// The head of the pack in a folder.
pub fn file(folder: &Path) -> PathBuf {
    let other = folder.join("pack.yml");
    if other.is_file() {
        return other;
    }
    folder.join("pack.yaml")
}

/// The folder of the pack that a file of a workflow or an action belongs to.
pub fn around(path: &Path) -> Option<PathBuf> {
    place(path).map(|(folder, _)| folder)
}

/// Whether a file describes an action of a pack, by where it lies.
pub fn is_action(path: &Path) -> bool {
    place(path).is_some_and(|(_, part)| part == "actions")
}

/// The folder of the pack that a file lies in, and the part of it.
fn place(path: &Path) -> Option<(PathBuf, &str)> {
    let mut inner = folder(path);
    loop {
        let part = name(inner);
        if matches!(part, "workflows" | "actions") {
            let outer = folder(inner);
            if file(outer).is_file() {
                return Some((outer.to_owned(), part));
            }
        }
        inner = inner.parent()?;
    }
}

/// All files of a pack: its head, its actions, its workflows.
pub fn files(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let mut files = vec![file(folder)];
    files.extend(yaml_below(&folder.join("actions"))?);
    let workflows = yaml_below(&folder.join("workflows"))?;
    if workflows.is_empty() && files.len() == 1 {
        return Err(
            Failure::refused(format!("the pack {} holds nothing", folder.display())).hint(
                "its workflows lie in `workflows/`, what describes its actions in `actions/`",
            ),
        );
    }
    files.extend(workflows);
    Ok(files)
}

/// All YAML files below a folder; none if there is no such folder.
fn yaml_below(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let mut files = Vec::new();
    if !folder.is_dir() {
        return Ok(files);
    }
    for path in entries(folder)? {
        if path.is_dir() && !path.is_symlink() {
            files.extend(yaml_below(&path)?);
        } else if is_yaml(&path) && path.is_file() {
            files.push(path);
        }
    }
    Ok(files)
}

/// `pack.yaml` with what is wrong with it.
pub fn pack_source(path: &Path, text: String) -> Source {
    match read_pack(&text) {
        Ok(_) => Source {
            file: path.display().to_string(),
            text,
            content: Content::Pack,
            findings: Vec::new(),
        },
        Err(findings) => Source::invalid(path, text, findings),
    }
}

/// The file of an action with what is wrong with it.
pub fn action_source(path: &Path, text: String, context: Option<&Context>) -> Source {
    let action = match read_action(&text) {
        Ok(action) => action,
        Err(findings) => return Source::invalid(path, text, findings),
    };
    if let Some(wrong) = wrong_pack(&action.reference, &text, context) {
        return Source::invalid(path, text, vec![wrong]);
    }
    Source {
        file: path.display().to_string(),
        text,
        content: Content::Action(action),
        findings: Vec::new(),
    }
}

/// A reference within a pack begins with the name of the pack.
pub fn wrong_pack(reference: &str, text: &str, context: Option<&Context>) -> Option<Diagnostic> {
    let pack = &context?.pack.as_ref()?.reference;
    let rest = reference.strip_prefix(pack.as_str());
    if rest.is_some_and(|rest| rest.starts_with('.')) {
        return None;
    }
    let start = text.find(reference).unwrap_or(0);
    let before = &text[..start];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    Some(Diagnostic {
        severity: Severity::Error,
        code: "wrong_pack",
        message: format!("`{reference}` lies in the pack `{pack}`, whose name it does not have"),
        hint: Some(format!(
            "write {pack}.{}",
            reference.rsplit('.').next().unwrap_or(reference)
        )),
        path: "ref".to_owned(),
        line: before.matches('\n').count() + 1,
        column: before[line_start..].chars().count() + 1,
        span: start..start + reference.len(),
    })
}
