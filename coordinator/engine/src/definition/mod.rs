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
            let mut workflow = workflow(hash(hashed, stored.as_deref()), draft, graph, read);
            workflow.pack = pack
                .config
                .map(|config| Json::of(&serde_json::json!({ "config": config })));
            Ok(Compiled {
                workflow: Arc::new(workflow),
                warnings: found,
                pack: stored,
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
    let named = draft.tasks.iter().filter_map(|task| task.action.as_ref());
    named
        .filter_map(|action| serde_json::from_str(action.as_literal()?.text()).ok())
        .collect()
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
