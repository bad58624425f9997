//! From the text of a definition to a checked [`Workflow`], or to all that is wrong with it.
//!
//! ```text
//! YAML ──tree──► nodes with places ──document, task, routes──► draft ──graph──► names resolved
//!                                                                └──flow, check──► expressions checked
//! ```

mod check;
mod document;
mod draft;
mod flow;
mod graph;
mod items;
mod parameters;
mod reader;
mod retry;
mod routes;
mod task;
mod text;
mod tree;

use std::collections::BTreeMap;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::diagnostic::{Diagnostic, Severity};
use crate::workflow::{Branch, DefinitionHash, Publish, Route, Routes, Task, TaskIndex, Workflow};
use check::Read;
use document::Draft;
use draft::{DraftRoutes, DraftTask};
use graph::Graph;
use reader::Reader;
use tree::Place;

/// A definition that was accepted.
#[derive(Debug)]
pub struct Compiled {
    /// The checked definition.
    pub workflow: Arc<Workflow>,
    /// What may not mean what was meant.
    pub warnings: Vec<Diagnostic>,
}

/// Reads and checks a definition.
///
/// # Errors
///
/// All errors of the file, and what else was found, in the order of their places.
pub fn compile(source: &str) -> Result<Compiled, Vec<Diagnostic>> {
    let node = tree::parse(source)?;
    let mut reader = Reader::new(source);
    let draft = document::read(&mut reader, &node);
    let checked = draft.map(|draft| {
        let graph = graph::build(&mut reader, &draft);
        let read = check::check(&mut reader, &draft, &graph);
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
            let workflow = Arc::new(workflow(source, draft, graph, read));
            Ok(Compiled {
                workflow,
                warnings: found,
            })
        }
        _ => Err(found),
    }
}

/// The hash of a definition.
#[must_use]
pub fn hash(source: &str) -> DefinitionHash {
    DefinitionHash(Sha256::digest(source.as_bytes()).into())
}

fn workflow(source: &str, draft: Draft, graph: Graph, read: Read) -> Workflow {
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
        hash: hash(source),
        reference: draft.reference.into(),
        version: draft.version.into(),
        parameters: draft.parameters,
        vars: draft.vars,
        tasks,
        graph: graph.graph,
        starts: graph.starts,
        output: draft.output,
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
        retry: draft.retry,
        timeout: draft.timeout,
        pool: draft.pool.into(),
        max_redeliveries: draft.max_redeliveries,
        join: draft.join.map(|(join, _)| join),
        publish: draft.publish,
        routes: routes(draft.routes, &graph.by_name),
        predecessors: graph.predecessors[index.0].clone(),
        handles_timeout: draft.handles_timeout,
        in_cycle: graph.in_cycle[index.0],
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
