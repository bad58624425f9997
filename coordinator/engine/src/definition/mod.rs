//! From the text of a definition to a checked [`Workflow`], or to all that is wrong with it.
//!
//! ```text
//! YAML ──tree──► nodes with places ──document, task, routes──► draft ──graph, entries──► names resolved
//!                                                                └──flow, check──► expressions checked
//! ```

mod check;
mod conflicts;
mod document;
mod draft;
mod entries;
mod entry;
mod flow;
mod forks;
mod graph;
mod items;
mod kind;
mod output;
pub(crate) mod pack;
mod parallel;
mod parameters;
mod print;
pub(crate) mod reader;
mod retry;
mod routes;
mod schema;
mod task;
pub(crate) mod text;
pub(crate) mod tree;
mod warnings;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::diagnostic::{Diagnostic, Severity};
use crate::json::Json;
use crate::pack::Pack;
use crate::workflow::{
    Branch, DefinitionHash, Needs, Parallel, Publish, Route, Routes, Task, TaskIndex, Workflow,
};
use check::Read;
use document::Draft;
use draft::{DraftRoutes, DraftTask};
use graph::Graph;
pub use print::print;
use reader::Reader;
pub use schema::schema;
use tree::{Node, Place};

/// A definition that was accepted.
#[derive(Debug)]
pub struct Compiled {
    /// The checked definition.
    pub workflow: Arc<Workflow>,
    /// What may not mean what was meant.
    pub warnings: Vec<Diagnostic>,
    /// What it gets of its pack, as it is stored beside its text and hashed with it.
    pub pack: Option<String>,
    /// The workflows that it names as its children, in the order of the file.
    pub children: Vec<ChildName>,
}

impl Compiled {
    /// What is wrong with its children, where only the workflows in `known` are there.
    #[must_use]
    pub fn unknown_children(&self, known: &BTreeSet<&str>) -> Vec<Diagnostic> {
        let children = self.children.iter();
        children
            .filter(|child| !known.contains(&*child.reference))
            .map(|child| child.unknown(known))
            .collect()
    }
}

/// A name of a workflow that a task runs as its child.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChildName {
    /// `pack.name`
    pub reference: String,
    /// The task.
    pub task: String,
    place: Place,
    path: String,
}

impl ChildName {
    fn unknown(&self, known: &BTreeSet<&str>) -> Diagnostic {
        Diagnostic {
            severity: Severity::Error,
            code: "unknown_workflow",
            message: format!("there is no workflow `{}`", self.reference),
            hint: text::did_you_mean(&self.reference, known.iter().copied()),
            path: self.path.clone(),
            line: self.place.line,
            column: self.place.column,
            span: self.place.span.clone(),
        }
    }
}

/// Reads and checks a definition.
///
/// # Errors
///
/// All errors of the file, and what else was found, in the order of their places.
pub fn compile(source: &str) -> Result<Compiled, Vec<Diagnostic>> {
    compile_in(source, &Pack::default())
}

/// Reads and checks a definition that gets something of a pack: its configuration, and what the
/// actions that it names say of themselves.
///
/// # Errors
///
/// As [`compile`].
pub fn compile_in(source: &str, pack: &Pack) -> Result<Compiled, Vec<Diagnostic>> {
    let node = tree::parse(source)?;
    compile_node(source, &node, source, pack)
}

/// Reads a definition that is stored, with what it gets of its pack as that is stored.
///
/// # Errors
///
/// As [`compile`]; and when a later version has stored it.
pub fn compile_stored(source: &str, pack: Option<&str>) -> Result<Compiled, Vec<Diagnostic>> {
    let pack = pack.map(Pack::parse).transpose().map_err(|error| {
        let mut reader = Reader::new(source);
        let message = format!("what is stored of its pack cannot be read: {error}");
        reader.error("not_supported", &Place::default(), "", message);
        reader.diagnostics
    })?;
    compile_in(source, &pack.unwrap_or_default())
}

/// Reads and checks a definition that stands within another file, as the value `node` of `source`.
///
/// # Errors
///
/// As [`compile`], with places in that file.
pub fn compile_inline(source: &str, node: &Node) -> Result<Compiled, Vec<Diagnostic>> {
    let literal = reader::literal(&node.value);
    compile_node(source, node, literal.text(), &Pack::default())
}

/// `hashed` is the text that identifies the definition.
fn compile_node(
    source: &str,
    node: &Node,
    hashed: &str,
    pack: &Pack,
) -> Result<Compiled, Vec<Diagnostic>> {
    let mut reader = Reader::new(source);
    reader.pack = pack.clone();
    let draft = document::read(&mut reader, node);
    let checked = draft.map(|draft| {
        let graph = graph::build(&mut reader, &draft);
        let mut read = check::check(&mut reader, &draft, &graph);
        parallel::watch(&draft, &mut read);
        conflicts::warn(&mut reader, &draft, &graph);
        warnings::warn(&mut reader, node, &draft, &read);
        (draft, graph, read)
    });
    if reader.is_full() {
        let end = Place {
            line: source.lines().count(),
            column: 1,
            span: source.len()..source.len(),
        };
        reader.error(
            "too_many_errors",
            &end,
            "",
            "there may be more errors than are listed here",
        );
    }
    let mut found = reader.diagnostics;
    found.sort_by_key(|found| (found.span.start, found.line, found.column));
    match checked {
        Some((draft, graph, read)) if found.iter().all(|f| f.severity == Severity::Warning) => {
            let pack = pack.of_actions(&actions(&draft));
            let stored = pack.text();
            let children = children(&draft);
            let mut workflow = workflow(hash(hashed, stored.as_deref()), draft, graph, read);
            workflow.pack = pack
                .config
                .map(|config| Json::of(&serde_json::json!({ "config": config })));
            Ok(Compiled {
                workflow: Arc::new(workflow),
                warnings: found,
                pack: stored,
                children,
            })
        }
        _ => Err(found),
    }
}

/// The hash of a definition: of its text, and of what it gets of its pack after a zero byte, which no
/// text holds.
#[must_use]
pub fn hash(source: &str, pack: Option<&str>) -> DefinitionHash {
    let mut digest = Sha256::new_with_prefix(source.as_bytes());
    if let Some(pack) = pack {
        digest.update([0]);
        digest.update(pack.as_bytes());
    }
    DefinitionHash(digest.finalize().into())
}

/// The actions that a definition names; what a template gives is not known.
fn actions(draft: &Draft) -> BTreeSet<String> {
    draft.tasks.iter().filter_map(action).collect()
}

/// The action that a task names, unless a template gives it.
fn action(task: &DraftTask) -> Option<String> {
    let literal = task.action.as_ref()?.as_literal()?;
    serde_json::from_str(literal.text()).ok()
}

/// The workflows that a definition names as its children.
fn children(draft: &Draft) -> Vec<ChildName> {
    let tasks = draft.tasks.iter().filter(|task| task.is_workflow);
    let named = tasks.filter_map(|task| {
        Some(ChildName {
            reference: action(task)?,
            task: task.shown().to_owned(),
            place: task.action_place.clone(),
            path: reader::join(&task.path, "action"),
        })
    });
    named.collect()
}

/// The reference of the workflow in a file, where that can be made out.
#[must_use]
pub fn reference_of(source: &str) -> Option<String> {
    let node = tree::parse(source).ok()?;
    let tree::Value::Map(entries) = &node.value else {
        return None;
    };
    match &reader::Fields(entries).get("ref")?.value {
        tree::Value::Text(reference) => Some(reference.clone()),
        tree::Value::Null
        | tree::Value::Bool(_)
        | tree::Value::Number(_)
        | tree::Value::List(_)
        | tree::Value::Map(_) => None,
    }
}

fn workflow(hash: DefinitionHash, draft: Draft, graph: Graph, read: Read) -> Workflow {
    let tasks: Vec<Task> = draft
        .tasks
        .into_iter()
        .enumerate()
        .map(|(index, draft)| task(TaskIndex(index), draft, &graph, &read))
        .collect();
    let by_name: BTreeMap<Arc<str>, TaskIndex> = tasks
        .iter()
        .map(|task| (Arc::clone(&task.name), task.index))
        .collect();
    Workflow {
        hash,
        pack: None,
        reference: draft.reference.into(),
        version: draft.version.into(),
        parameters: draft.parameters,
        vars: draft.vars,
        timeout: draft.timeout,
        graph: graph.graph,
        reach: graph.reach,
        starts: graph.starts,
        needing: tasks
            .iter()
            .filter(|task| task.needs.is_some())
            .map(|task| task.index)
            .collect(),
        tasks,
        finally: graph.finally,
        fail_policy: draft.policies.fail,
        cancellation_policy: draft.policies.cancellation,
        cancel_grace: draft.policies.cancel_grace,
        max_runs_per_task: draft.policies.max_runs_per_task,
        output: draft.output,
        output_schema: draft.output_schema,
        watched: read.watched,
        by_name,
        max_items: draft.max_items,
    }
}

fn task(index: TaskIndex, draft: DraftTask, graph: &Graph, read: &Read) -> Task {
    let publishes_whole = |list: &[Publish]| list.iter().any(|entry| entry.value.is_none());
    let mut ways = draft.routes.ways();
    let reads_result = read.results.contains(&index)
        || read.watched.contains(&index)
        || publishes_whole(&draft.publish)
        || ways.any(|(_, publish, _)| publishes_whole(publish));
    drop(ways);
    Task {
        items: draft.items,
        reads_result,
        index,
        name: draft.name.into(),
        action: draft.action,
        is_workflow: draft.is_workflow,
        has_secrets: draft.input.has_secrets(),
        input: draft.input,
        when: draft.when,
        delay: draft.delay,
        retry: draft.retry,
        timeout: draft.timeout,
        total_timeout: draft.total_timeout,
        heartbeat: draft.heartbeat,
        pool: draft.pool.into(),
        max_redeliveries: draft.max_redeliveries,
        join: draft.join.map(|(join, _)| join),
        publish: draft.publish,
        routes: routes(draft.routes, &graph.by_name),
        predecessors: graph.predecessors[index.0].clone(),
        handles_timeout: draft.handles_timeout,
        in_cycle: graph.in_cycle[index.0],
        needs: draft.needs.map(|needs| Needs {
            tasks: graph.needs[index.0].clone(),
            rule: needs.rule,
        }),
        needed_by: graph.needed_by[index.0].clone(),
        ignore_failure: draft.ignore_failure,
        is_finally: graph.finally.contains(&index),
        is_split: graph.is_split[index.0],
        behind_split: !graph.splits[index.0].is_empty(),
        may_repeat: graph.may_repeat[index.0],
        parallel: draft.parallel.map(|parallel| Parallel {
            fork: parallel.fork,
            children: parallel
                .children
                .into_iter()
                .map(|(name, child)| (name.into(), child))
                .collect(),
        }),
        is_part: draft.is_part,
    }
}

fn routes(draft: DraftRoutes, by_name: &BTreeMap<String, TaskIndex>) -> Routes {
    let routes = draft.routes.into_iter().map(|route| Route {
        on: route.on,
        publish: route.publish,
        targets: graph::resolve(&route.targets, by_name),
    });
    let others = routes.collect();
    let Some(branches) = draft.branches else {
        return Routes::All(others);
    };
    let branches = branches.into_iter().map(|branch| Branch {
        when: branch.when,
        publish: branch.publish,
        targets: graph::resolve(&branch.targets, by_name),
    });
    Routes::First {
        branches: branches.collect(),
        others,
    }
}
