//! From rows to an execution: the way back of [`crate::encode`], the same for a cache miss and for a
//! take-over.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use flotilla_engine::execution::{
    Branch, Execution, ExecutionStatus, Flow, Generation, HeldFailure, Item, ItemEnds, Past,
    Progress, Run, RunStatus, SeenTask, Spread, Unsaved,
};
use flotilla_engine::items::ItemList;
use flotilla_engine::rule::Need;
use flotilla_engine::scope::{EndStatus, Ended, TaskView};
use flotilla_engine::variables::Write;
use flotilla_engine::{Json, TaskIndex, Workflow};
use flotilla_protocol::RunNo;
use serde_json::value::RawValue;
use thiserror::Error;

use crate::cache::Held;
use crate::encode::BranchJson;
use crate::item_ends;
use crate::rows::{LoadedExecution, LoadedPast, LoadedRow, LoadedTask, VariableRow};

/// Rows that this version cannot read. Nothing is lost: they stay as they are.
#[derive(Debug, Error)]
pub enum RestoreError {
    /// A word that this version does not know.
    #[error("{column} is `{word}`, which this version does not know")]
    UnknownWord {
        /// Table and column.
        column: &'static str,
        /// The word.
        word: String,
    },
    /// JSON that is not of the form that this version writes.
    #[error("{column} cannot be read")]
    Json {
        /// Table and column.
        column: &'static str,
        /// What serde says.
        #[source]
        source: serde_json::Error,
    },
    /// A row names something that the definition or another table does not have.
    #[error("{column} names {what}, which does not exist")]
    Missing {
        /// Table and column.
        column: &'static str,
        /// What is missing.
        what: String,
    },
}

/// Makes an execution of its rows.
///
/// # Errors
/// The first column that cannot be read.
pub fn restore(loaded: &LoadedExecution, workflow: Arc<Workflow>) -> Result<Held, RestoreError> {
    let row = &loaded.row;
    let known = Known::new(&loaded.variables, &loaded.seen, &workflow);
    let ends_json: BranchJson = parse("workflow_execution.ends", &row.ends)?;
    let mut live = BTreeMap::new();
    for task in &loaded.tasks {
        let mut run = known.run(task)?;
        if let Some(item) = run.item {
            let whole: Option<&Run> = live.get(&item.of);
            let whole = whole.ok_or_else(|| RestoreError::Missing {
                column: "workflow_task.item_of",
                what: format!("the live run {}", item.of),
            })?;
            run.branch = whole.branch.clone();
        }
        live.insert(task.run, run);
    }
    item_ends::add(&mut live, loaded);
    let ends = known.branch("workflow_execution.ends", &ends_json)?;
    let last_ended = known.seen("workflow_execution.ends", &ends_json.last_ended)?;
    let generation = generation(row, &ends_json);
    let execution = Execution {
        id: row.execution_id,
        status: status(row)?,
        created_at: row.created_at,
        finished_at: row.finished_at,
        parameters: effective_parameters(&row.parameters, generation.parameters.as_ref()),
        parent: row.parent,
        timeout: row.timeout_s,
        counts: row.counts,
        visits: row.visits.clone(),
        last_run: row.last_run,
        last_write: row.last_write,
        last_seq: row.last_seq,
        live,
        ends,
        last_ended,
        flow: known.flow(ends_json)?,
        links: loaded.links.iter().copied().collect(),
        errors: parse("workflow_execution.errors", &row.errors)?,
        output: output_of(row).cloned(),
        generation,
        workflow,
    };
    Ok(Held {
        execution,
        partition: row.partition,
        // Its relatives tell.
        root: None,
        idempotency_key: None,
        tags: BTreeMap::new(),
        reply_to: parse("workflow_execution.reply_to", &row.reply_to)?,
        traceparent: row.traceparent.as_deref().map(Arc::from),
    })
}

/// Makes what an execution has behind it of its rows.
///
/// # Errors
/// The first column that cannot be read.
pub fn restore_past(loaded: &LoadedPast, workflow: &Workflow) -> Result<Past, RestoreError> {
    let known = Known::new(&loaded.variables, &loaded.tasks, workflow);
    let mut past = Past::default();
    for row in loaded.tasks.iter().filter(|row| row.finished_at.is_some()) {
        past.runs.insert(row.run, known.run(row)?);
    }
    let writes = loaded.variables.iter();
    past.links = writes
        .map(|row| (row.write_no, row.previous_write_no))
        .collect();
    past.too_large = loaded.too_large.iter().copied().collect();
    Ok(past)
}

/// What holds since the last rerun, or since the start.
fn generation(row: &LoadedRow, ends: &BranchJson) -> Generation {
    let first = Generation::first(row.created_at);
    match &ends.rerun {
        None => first,
        Some(rerun) => Generation {
            no: rerun.no,
            began_at: rerun.began_at,
            finals: rerun.finals,
            parameters: rerun.parameters.as_ref().map(Json::of),
            errors: rerun.errors.clone(),
        },
    }
}

/// Parameters of the start, and over them those that reruns have given.
pub(crate) fn effective_parameters(bound: &Json, given: Option<&Json>) -> Json {
    let Some(given) = given else {
        return bound.clone();
    };
    let read = |json: &Json| -> BTreeMap<String, Box<RawValue>> {
        serde_json::from_str(json.text()).unwrap_or_default()
    };
    let mut all = read(bound);
    all.extend(read(given));
    Json::of(&all)
}

/// What `output_map` gave: a rerun leaves a JSON null in its place.
pub(crate) fn output_of(row: &LoadedRow) -> Option<&Json> {
    row.output.as_ref().filter(|output| !output.is_null())
}

fn status(row: &LoadedRow) -> Result<ExecutionStatus, RestoreError> {
    ExecutionStatus::from_word(&row.status).ok_or_else(|| RestoreError::UnknownWord {
        column: "workflow_execution.status",
        word: row.status.clone(),
    })
}

fn parse<T: serde::de::DeserializeOwned>(
    column: &'static str,
    json: &Json,
) -> Result<T, RestoreError> {
    serde_json::from_str(json.text()).map_err(|source| RestoreError::Json { column, source })
}

/// What the rows of one execution refer to.
struct Known<'a> {
    workflow: &'a Workflow,
    writes: BTreeMap<u64, Arc<Write>>,
    views: BTreeMap<RunNo, Arc<TaskView>>,
}

impl<'a> Known<'a> {
    fn new(variables: &[VariableRow], seen: &[LoadedTask], workflow: &'a Workflow) -> Self {
        let writes = variables.iter().map(|row| {
            let write = Write {
                no: row.write_no,
                name: row.name.as_str().into(),
                value: row.value.clone(),
                previous: row.previous_write_no,
            };
            (row.write_no, Arc::new(write))
        });
        let views = seen.iter().filter_map(|row| {
            let view = TaskView {
                status: EndStatus::from_word(&row.status)?,
                result: row.result.clone().unwrap_or_else(Json::null),
                error: row.error.clone().unwrap_or_else(Json::null),
                visits: row.visit,
            };
            Some((row.run, Arc::new(view)))
        });
        Self {
            workflow,
            writes: writes.collect(),
            views: views.collect(),
        }
    }

    fn run(&self, row: &LoadedTask) -> Result<Run, RestoreError> {
        let column = "workflow_task.branch";
        let branch: BranchJson = parse(column, &row.branch)?;
        let spread = spread(row)?;
        Ok(Run {
            no: row.run,
            task: self.task(&row.task)?,
            visit: row.visit,
            status: run_status(row)?,
            attempt: row.attempt,
            max_attempts: row.max_attempts,
            starts: row.starts,
            action: row.action.as_deref().map(Arc::from),
            input: row.input.clone(),
            secrets: row.secrets.clone(),
            timeout: row.timeout_s,
            until: branch.until,
            again: branch.again,
            item: item(row),
            spread: spread.map(Box::new),
            branch: self.branch(column, &branch)?,
            caused_by: row.caused_by.clone(),
            arrived: row
                .arrived
                .iter()
                .map(|index| TaskIndex(*index as usize))
                .collect(),
            needed: self.needed(column, &branch)?,
            held: row.held,
            worker: row.worker.as_deref().map(Arc::from),
            ended: last_end(row),
            created_at: row.created_at,
            dispatched_at: row.dispatched_at,
            started_at: row.started_at,
            finished_at: row.finished_at,
            unsaved: Unsaved::default(),
        })
    }

    fn task(&self, name: &str) -> Result<TaskIndex, RestoreError> {
        self.workflow
            .by_name
            .get(name)
            .copied()
            .ok_or_else(|| RestoreError::Missing {
                column: "workflow_task.task",
                what: format!("task {name}"),
            })
    }

    fn branch(&self, column: &'static str, json: &BranchJson) -> Result<Branch, RestoreError> {
        let mut branch = Branch {
            tasks: Arc::new(self.seen(column, &json.tasks)?),
            route: json.route,
            cut: json.cut,
            ..Branch::default()
        };
        for (name, no) in &json.vars {
            let write = self.writes.get(no).ok_or_else(|| RestoreError::Missing {
                column,
                what: format!("write {no} of {name}"),
            })?;
            branch.vars.insert(Arc::clone(write));
        }
        let mut passed = BTreeMap::new();
        for (join, count) in &json.passed {
            passed.insert(self.task(join)?, *count);
        }
        branch.passed = Arc::new(passed);
        Ok(branch)
    }

    /// How the tasks have ended that a run needs.
    fn needed(
        &self,
        column: &'static str,
        json: &BranchJson,
    ) -> Result<BTreeMap<TaskIndex, Need>, RestoreError> {
        let needed = json.needed.iter().map(|(task, word)| {
            let need = Need::from_word(word).ok_or_else(|| RestoreError::UnknownWord {
                column,
                word: word.clone(),
            })?;
            Ok((self.task(task)?, need))
        });
        needed.collect()
    }

    /// What joins and tasks with `needs` have come to.
    fn flow(&self, json: BranchJson) -> Result<Flow, RestoreError> {
        let mut fired = BTreeMap::new();
        for (join, route, count) in json.fired {
            fired.insert((self.task(&join)?, route), count);
        }
        let omitted = json.omitted.iter().map(|task| self.task(task));
        let omitted = omitted.collect::<Result<_, _>>()?;
        let mut held_failures = Vec::new();
        for (task, error) in json.held_failures {
            let task = self.task(&task)?;
            held_failures.push(HeldFailure { task, error });
        }
        Ok(Flow::new(fired, omitted, held_failures))
    }

    fn seen(
        &self,
        column: &'static str,
        runs: &BTreeMap<String, RunNo>,
    ) -> Result<BTreeMap<Arc<str>, SeenTask>, RestoreError> {
        let mut seen = BTreeMap::new();
        for (name, run) in runs {
            let view = self.views.get(run).ok_or_else(|| RestoreError::Missing {
                column,
                what: format!("the ended run {run} of {name}"),
            })?;
            seen.insert(
                Arc::from(name.as_str()),
                SeenTask {
                    run: *run,
                    view: Arc::clone(view),
                },
            );
        }
        Ok(seen)
    }
}

fn run_status(row: &LoadedTask) -> Result<RunStatus, RestoreError> {
    let status = RunStatus::from_word(&row.status).ok_or_else(|| RestoreError::UnknownWord {
        column: "workflow_task.status",
        word: row.status.clone(),
    })?;
    if status == RunStatus::Running && row.item_progress.is_some() {
        return Ok(RunStatus::Spread);
    }
    Ok(status)
}

fn item(row: &LoadedTask) -> Option<Item> {
    Some(Item {
        of: row.item_of?,
        index: row.item_index?,
        batch_size: row.batch_size,
    })
}

/// The items of a task, before what those that have ended left.
fn spread(row: &LoadedTask) -> Result<Option<Spread>, RestoreError> {
    let Some(progress) = &row.item_progress else {
        return Ok(None);
    };
    let progress: Progress = parse("workflow_task.item_progress", progress)?;
    let list = row.items.as_ref().ok_or_else(|| RestoreError::Missing {
        column: "workflow_task.items",
        what: "the list of items".to_owned(),
    })?;
    Ok(Some(Spread {
        list: ItemList::from_stored(list),
        progress,
        ends: ItemEnds::new(progress.keeps_results),
        kept: BTreeSet::new(),
    }))
}

/// How a run ended; of a live one how its last attempt did, if one has.
fn last_end(row: &LoadedTask) -> Option<Ended> {
    let has_ended =
        row.result.is_some() || row.error.is_some() || row.status == RunStatus::Retrying.word();
    let or_null = |json: &Option<Json>| json.clone().unwrap_or_else(Json::null);
    if let Some(status) = EndStatus::from_word(&row.status) {
        return Some(Ended {
            status,
            ..Ended::of_last_attempt(or_null(&row.result), or_null(&row.error))
        });
    }
    has_ended.then(|| Ended::of_last_attempt(or_null(&row.result), or_null(&row.error)))
}
